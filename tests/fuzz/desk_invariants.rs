//! What must hold for every sequence of bytes that a client of the desk could send: used by the fuzz target and by the
//! ordinary test that replays the corpus.

use bytes::{BufMut, BytesMut};
use meerkat_wire::desk::{Item, MAX_LINE_BYTES, MAX_TEXT_BYTES, Parser, Refusal};

/// What a whole connection led to; pieces of bodies and files are joined.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Everything but bodies and files.
    pub items: Vec<Item>,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the body was complete.
    pub body_is_whole: bool,
    /// The file without a length.
    pub file: Vec<u8>,
    /// How it broke off, if it did.
    pub refusal: Option<Refusal>,
}

/// Runs the bytes through a parser in the given pieces, then lets the client say that nothing more comes.
pub fn run<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut parser = Parser::new();
    let mut buf = BytesMut::new();
    let mut outcome = Outcome::default();
    for piece in pieces {
        buf.put_slice(piece);
        drain(&mut parser, &mut buf, &mut outcome);
        if outcome.refusal.is_some() {
            return outcome;
        }
        assert!(buf.len() <= MAX_TEXT_BYTES.max(MAX_LINE_BYTES), "{} bytes held", buf.len());
    }
    // An end may reveal a size, behind which there is nothing; never more than that.
    while parser.silence(&buf).is_some() {
        let item = parser.on_end(&mut buf);
        let decided = !matches!(item, Ok(None));
        take(item, &mut outcome);
        assert!(decided, "silence decides something");
        drain(&mut parser, &mut buf, &mut outcome);
    }
    outcome
}

fn drain(parser: &mut Parser, buf: &mut BytesMut, outcome: &mut Outcome) {
    loop {
        let item = parser.next(buf);
        if matches!(item, Ok(None)) {
            return;
        }
        if let Err(refusal) = item {
            assert_eq!(parser.next(buf), Err(refusal), "an end is an end");
            assert!(parser.is_done() && parser.silence(buf).is_none());
        }
        take(item, outcome);
        if outcome.refusal.is_some() {
            return;
        }
    }
}

fn take(item: Result<Option<Item>, Refusal>, outcome: &mut Outcome) {
    match item {
        Ok(Some(Item::Body { bytes, is_last })) => {
            assert!(!bytes.is_empty() && !outcome.body_is_whole);
            outcome.body.extend_from_slice(&bytes);
            outcome.body_is_whole = is_last;
        }
        Ok(Some(Item::Piece(bytes))) => {
            assert!(!bytes.is_empty());
            outcome.file.extend_from_slice(&bytes);
        }
        Ok(Some(item)) => outcome.items.push(item),
        Ok(None) => {}
        Err(refusal) => outcome.refusal = Some(refusal),
    }
}

/// Checks one input. Its first byte chooses cuts, the rest is what a client sends.
pub fn check(input: &[u8]) {
    let Some((&seed, data)) = input.split_first() else { return };
    let whole = run([data]);
    assert!(whole.body.len() + whole.file.len() <= data.len(), "no byte is in both");
    if let Some(Item::Text(text)) = whole.items.last() {
        assert!(text.len() <= MAX_TEXT_BYTES && whole.items.len() == 2);
    }
    let size =
        whole.items.iter().find_map(|item| if let Item::Size(size) = item { Some(*size) } else { None });
    if let Some(size) = size {
        assert!(whole.body.len() as u64 <= size);
        assert_eq!(whole.body_is_whole, whole.body.len() as u64 == size);
    }
    assert_eq!(whole, run(data.chunks(1)), "byte by byte");
    let cut = usize::from(seed) % data.len().max(1);
    let (one, other) = data.split_at(cut);
    assert_eq!(whole, run([one, other]), "cut at {cut}");
}
