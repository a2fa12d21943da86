//! What must hold for every sequence of bytes, however wild: used by the fuzz target and by the ordinary test that
//! replays the corpus.

use bytes::{BufMut, BytesMut};
use meerkat_wire::frame::{Fatal, Item, Limits, Options, Parser, Phase};

/// Longest frame in these runs: small, so that the limit is met.
const MAX_FRAME: usize = 4096;

/// What a whole connection led to.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Everything the parser found.
    pub items: Vec<Item>,
    /// How it broke off, if it did.
    pub fatal: Option<Fatal>,
}

/// Runs the bytes through a parser in the given pieces, then lets silence fall until nothing more comes.
pub fn run<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &Limits, options: &Options) -> Outcome {
    let mut parser = Parser::new(limits.clone(), options.clone());
    let mut buf = BytesMut::new();
    let mut outcome = Outcome { items: Vec::new(), fatal: None };
    for piece in pieces {
        buf.put_slice(piece);
        if !drain(&mut parser, &mut buf, &mut outcome) {
            return outcome;
        }
        assert!(buf.len() <= limits.max_frame_bytes + 64, "{} bytes held", buf.len());
        assert!(parser.frame_bytes() <= buf.len());
    }
    while parser.awaits_silence() {
        let before = buf.len();
        match parser.on_silence(&mut buf) {
            Ok(item) => outcome.items.extend(item),
            Err(fatal) => {
                outcome.fatal = Some(fatal);
                return outcome;
            }
        }
        assert!(buf.len() < before, "silence decides something");
        if !drain(&mut parser, &mut buf, &mut outcome) {
            return outcome;
        }
    }
    outcome
}

fn drain(parser: &mut Parser, buf: &mut BytesMut, outcome: &mut Outcome) -> bool {
    loop {
        let before = buf.len();
        match parser.next(buf) {
            Ok(Some(item)) => {
                assert!(buf.len() < before, "an item is made of bytes");
                assert!(!parser.awaits_silence());
                outcome.items.push(item);
            }
            Ok(None) => break,
            Err(fatal) => {
                assert_eq!(parser.next(buf), Err(fatal), "an end is an end");
                outcome.fatal = Some(fatal);
                return false;
            }
        }
    }
    if parser.awaits_silence() {
        assert_ne!(parser.phase(), Phase::Idle);
        assert!(parser.frame_bytes() > 0);
    }
    assert!((1 << 10..=256 << 10).contains(&parser.read_hint()));
    true
}

/// Checks one input. Its first two bytes choose options and cuts, the rest is what a client sends.
pub fn check(input: &[u8]) {
    let Some((&[choice, seed], data)) = input.split_first_chunk() else { return };
    let limits = Limits {
        max_frame_bytes: MAX_FRAME,
        max_scans: 3,
        max_pixels: 1 << 20,
        max_junk_bytes: 512,
        ..Limits::default()
    };
    let options = Options { accept_unknown: choice & 1 == 1 };
    let whole = run([data], &limits, &options);
    let bytes: usize =
        whole.items.iter().map(|i| if let Item::Frame(p) = i { p.bytes.len() } else { 0 }).sum();
    assert!(bytes <= data.len(), "no byte is in two frames");
    for item in &whole.items {
        if let Item::Frame(picture) = item {
            assert!(picture.bytes.len() <= MAX_FRAME);
            assert!(u64::from(picture.width) * u64::from(picture.height) <= limits.max_pixels);
        }
    }
    assert_eq!(whole, run(data.chunks(1), &limits, &options), "byte by byte");
    let cuts = cuts(data, seed);
    assert_eq!(whole, run(cuts, &limits, &options), "cut by seed {seed}");
}

/// Cuts data into pieces of 1 to 64 bytes, the same way for the same seed.
fn cuts(mut data: &[u8], seed: u8) -> Vec<&[u8]> {
    let mut state = u32::from(seed) << 8 | 1;
    let mut pieces = Vec::new();
    while !data.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (piece, rest) = data.split_at(((state >> 24) as usize % 64 + 1).min(data.len()));
        pieces.push(piece);
        data = rest;
    }
    pieces
}
