//! Memory and work: what a peer can make the parser hold and do.

use bytes::{BufMut, BytesMut};

use super::pictures::{Jpeg, noise};
use crate::frame::{Fatal, Item, Limits, Options, Parser, Phase, Refusal};

/// Reads like a session: reserves what the parser hints at, then takes what fits, or `most` bytes.
fn feed(parser: &mut Parser, bytes: &[u8], most: usize) -> (Vec<Item>, Option<Fatal>, usize) {
    let (mut buf, mut rest, mut items, mut peak) = (BytesMut::new(), bytes, Vec::new(), 0);
    while !rest.is_empty() {
        buf.reserve(parser.read_hint());
        peak = peak.max(buf.capacity());
        let room = (buf.capacity() - buf.len()).min(most).min(rest.len());
        let (now, later) = rest.split_at(room);
        buf.put_slice(now);
        rest = later;
        loop {
            match parser.next(&mut buf) {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(fatal) => return (items, Some(fatal), peak),
            }
        }
    }
    (items, None, peak)
}

fn parser() -> Parser {
    Parser::new(Limits::default(), Options::default())
}

/// The longest frames there are, byte by byte: with rescans each of these would take hours.
#[test]
fn sixteen_megabytes_byte_by_byte() {
    let room = (16 << 20) - 300;
    let entropy = Jpeg::new(64, 48, vec![b'e'; room]).build();
    let long_jpeg = [b"model1start", &entropy[..], b"end"].concat();
    let unknown = [b"model1startGIF89a", &b"star".repeat(room / 4)[..], b"end"].concat();
    let tail =
        [b"model1start", &Jpeg::new(64, 48, vec![]).build()[..], &b"sten".repeat(room / 4), b"end"].concat();
    let fill = [b"model1start\xff\xd8", &vec![0xFF; room][..], b"\xd9end"].concat();
    for (bytes, frames) in [(&long_jpeg, 1), (&unknown, 0), (&tail, 1), (&fill, 1)] {
        let mut parser = parser();
        let (items, fatal, _) = feed(&mut parser, bytes, 1);
        assert_eq!(fatal, None);
        assert_eq!(items.len(), 1 + frames);
        assert_eq!(parser.awaits_silence(), frames == 0);
    }
}

/// Each beginning of a picture in these makes the walk begin anew over the same bytes. Without a budget that is
/// quadratic: thousands of times over millions of segments, minutes instead of a second.
#[test]
fn frames_in_frames_in_frames() {
    // Every segment reaches over thousands of further beginnings into one chain of tiny segments without end.
    let chain = b"\xff\xe0\x00\x02".repeat(4_000_000);
    let beginning = b"start\xff\xd8\xff\xe1\xff\xff";
    let aligned = 65_535 - 65_535 % beginning.len();
    let restarts =
        [&beginning.repeat(aligned / beginning.len())[..], &b"\xff\xe0\x00\x02".repeat(20)].concat();
    // The same with second pictures behind a first, complete one.
    let seconds = [&b"start\xff\xd8\xff\xd9"[..], &b"\xff\xd8\xff\xe1\xff\xf8".repeat(10_000)].concat();
    for head in [restarts, seconds] {
        let mut bytes = [b"model1", &head[..], &chain].concat();
        bytes.truncate((16 << 20) - 100);
        // A second header at the end of the chain: there the walk is lost, and the next beginning is tried.
        bytes.extend(b"\xff\xd8\xff\xd8end");
        let (items, fatal, _) = feed(&mut parser(), &bytes, usize::MAX);
        assert_eq!(fatal, None, "{items:?}");
        assert!((2..100).contains(&items.len()), "{} items", items.len());
    }
}

/// A peer that claims and floods makes the buffer grow to the frame limit and no further.
#[test]
fn the_buffer_stays_within_the_limit() {
    let limits = Limits { max_frame_bytes: 1 << 20, ..Limits::default() };
    let endless = [b"model1start\xff\xd8\xff\xda\x00\x02", &vec![b'x'; 3 << 20][..]].concat();
    let (_, fatal, peak) = feed(&mut Parser::new(limits, Options::default()), &endless, usize::MAX);
    assert_eq!(fatal, Some(Fatal::FrameTooLarge));
    assert!(peak <= 5 << 19, "{peak} bytes: the buffer doubles at most once beyond the limit");

    let mut claims = parser();
    let head =
        b"model1start\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x10\0\0\0\x10\0\x08\x02\0\0\0....\0\xff\xff\xffIDAT";
    let (_, fatal, peak) = feed(&mut claims, head, usize::MAX);
    assert_eq!(fatal, None);
    assert!(peak <= 8 << 10 && claims.read_hint() <= 8 << 10, "16 MB were claimed, {peak} bytes reserved");
}

#[test]
fn phase_and_held_bytes_follow_the_frame() {
    let mut parser = parser();
    let mut buf = BytesMut::new();
    let mut feed = |parser: &mut Parser, bytes: &[u8]| {
        buf.put_slice(bytes);
        parser.next(&mut buf).unwrap()
    };
    assert_eq!(parser.phase(), Phase::BeforeMode);
    assert_eq!(feed(&mut parser, b"start\xff\xd8"), None);
    assert_eq!((parser.phase(), parser.frame_bytes()), (Phase::BeforeMode, 2));
    assert_eq!(feed(&mut parser, b"\xff\xd9end"), Some(Item::Refused(Refusal::NoMode)));
    assert_eq!(parser.frame_bytes(), 0);
    assert!(feed(&mut parser, b"model2").is_some());
    assert_eq!(parser.phase(), Phase::Idle);
    assert_eq!(feed(&mut parser, b"start"), None);
    assert_eq!(parser.phase(), Phase::InFrame);
    parser.set_mode(None);
    assert_eq!((parser.phase(), parser.mode()), (Phase::BeforeMode, None));
}

#[test]
fn what_was_passed_over_is_counted() {
    let mut parser = parser();
    let (items, _, _) = feed(&mut parser, b"model1??model2 !end", usize::MAX);
    assert_eq!((items.len(), parser.skipped_bytes()), (3, 4));
}

#[test]
fn the_hint_follows_the_frames_that_came() {
    let mut parser = parser();
    let jpeg = Jpeg::new(64, 48, noise(40_000, 1)).build();
    let bytes = [b"model1start", &jpeg[..], b"end"].concat();
    feed(&mut parser, &bytes, usize::MAX);
    assert!((jpeg.len()..64 << 10).contains(&parser.read_hint()), "{}", parser.read_hint());
}
