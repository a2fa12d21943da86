//! Tests of the readers and writers together; the pickles beside it were written by numpy itself.

mod chunked;
mod numpy;
mod wild;

use bytes::{Bytes, BytesMut};

use super::sized::{self, BadLength, LengthBytes};
use super::{Form, chunked as framing, close, open};

#[path = "../../../tests/fuzz/recognise_invariants.rs"]
mod invariants;

fn read_sized(reader: &mut sized::Reader, pieces: &[&[u8]]) -> Result<Vec<Bytes>, BadLength> {
    let (mut buf, mut found) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        buf.extend_from_slice(piece);
        while let Some(message) = reader.next(&mut buf)? {
            found.push(message);
        }
    }
    Ok(found)
}

#[test]
fn messages_come_out_wherever_the_stream_is_cut() {
    for length_bytes in [LengthBytes::Eight, LengthBytes::Four] {
        let mut stream = Vec::new();
        for message in [&b"one"[..], b"second", b"3"] {
            stream.extend(sized::header(length_bytes, message.len()).unwrap());
            stream.extend(message);
        }
        for cut in 0..=stream.len() {
            let mut reader = sized::Reader::new(length_bytes, 6);
            let (left, right) = stream.split_at(cut);
            assert_eq!(
                read_sized(&mut reader, &[left, right]).unwrap(),
                ["one", "second", "3"],
                "cut at {cut}"
            );
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(read_sized(&mut sized::Reader::new(length_bytes, 6), &bytes).unwrap().len(), 3);
    }
}

#[test]
fn a_length_is_judged_before_anything_is_waited_for() {
    let check = |length: u64, expected: BadLength| {
        let mut reader = sized::Reader::new(LengthBytes::Eight, 1_000);
        assert_eq!(read_sized(&mut reader, &[&length.to_le_bytes()]), Err(expected));
    };
    check(0, BadLength::Empty);
    check(1_001, BadLength::TooLong(1_001));
    check(u64::MAX, BadLength::TooLong(u64::MAX));
    let mut reader = sized::Reader::new(LengthBytes::Eight, 1_000);
    let mut buf = BytesMut::from(&1_000u64.to_le_bytes()[..]);
    assert!(!reader.in_message(0) && reader.in_message(buf.len()));
    assert_eq!(reader.next(&mut buf), Ok(None));
    assert!(reader.in_message(0));
    assert_eq!((reader.missing(0), reader.missing(400)), (1_000, 600));
    assert_eq!(sized::header(LengthBytes::Four, usize::try_from(u64::from(u32::MAX) + 1).unwrap()), None);
}

#[test]
fn what_came_as_a_picture_goes_back_as_one() {
    let jpeg = b"\xff\xd8\xff\xe0 a picture \\ \n \0".to_vec();
    let plain = open(&Bytes::from(jpeg.clone())).unwrap();
    assert_eq!(plain, (Form::Jpeg, Bytes::from(jpeg.clone())));
    let message = close(Form::Pickle, jpeg.clone());
    assert_eq!(open(&message.into()).unwrap(), (Form::Pickle, Bytes::from(jpeg.clone())));
    assert_eq!(close(Form::Jpeg, jpeg.clone()), jpeg);
    assert_eq!(open(&Bytes::from(super::pickle::write(b"GIF89a"))), Err(super::BadMessage::NotAJpeg));
}
