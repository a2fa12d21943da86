//! What must hold for every sequence of bytes that a client of `recognise` can send: used by the fuzz target and by an
//! ordinary test.

use bytes::{Bytes, BytesMut};
use meerkat_wire::recognise::sized::{self, LengthBytes};
use meerkat_wire::recognise::{Form, chunked, close, open};

/// Longest message in these runs: small, so that the limit is met.
const MAX_BYTES: usize = 4096;

/// What a sized connection led to: messages, and how it broke off.
fn sized_run<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Bytes>, Option<sized::BadLength>) {
    let (mut reader, mut buf, mut found) =
        (sized::Reader::new(LengthBytes::Four, MAX_BYTES), BytesMut::new(), Vec::new());
    for piece in pieces {
        buf.extend_from_slice(piece);
        loop {
            match reader.next(&mut buf) {
                Ok(Some(message)) => {
                    assert!((1..=MAX_BYTES).contains(&message.len()));
                    found.push(message);
                }
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
        assert!(buf.len() < MAX_BYTES, "a message that is there is handed on");
        assert!(reader.missing(buf.len()) <= MAX_BYTES);
    }
    (found, None)
}

/// What a chunked connection led to.
fn chunked_run<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Option<Bytes>, chunked::BadChunks> {
    let (mut reader, mut buf) = (chunked::Reader::new(MAX_BYTES), BytesMut::new());
    for piece in pieces {
        buf.extend_from_slice(piece);
        if let Some(picture) = reader.next(&mut buf)? {
            return Ok(Some(picture));
        }
        assert!(buf.len() <= MAX_BYTES);
    }
    Ok(None)
}

/// Checks one input, as a message, as a sized and as a chunked connection.
pub fn check(input: &[u8]) {
    let whole = Bytes::copy_from_slice(input);
    if let Ok((form, jpeg)) = open(&whole) {
        assert!(jpeg.len() <= input.len() && jpeg.starts_with(&[0xFF, 0xD8, 0xFF]));
        let again = open(&close(form, jpeg.to_vec()).into()).expect("what is written is read");
        assert_eq!(again, (form, jpeg));
        assert!(form == Form::Pickle || whole == again.1);
    }
    let at_once = sized_run([input].into_iter());
    assert_eq!(at_once, sized_run(input.chunks(1)), "byte by byte");
    assert_eq!(at_once, sized_run(input.chunks(7)), "in sevens");
    let at_once = chunked_run([input].into_iter().filter(|piece| piece.len() <= MAX_BYTES));
    if input.len() <= MAX_BYTES {
        assert_eq!(at_once, chunked_run(input.chunks(1)), "byte by byte");
        assert_eq!(at_once, chunked_run(input.chunks(7)), "in sevens");
    }
    if let Ok(Some(picture)) = at_once {
        assert!(picture.len() < input.len() && picture.starts_with(&[0xFF, 0xD8]));
    }
}
