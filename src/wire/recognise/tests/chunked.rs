//! The framing that has no length: where a picture ends.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::framing::{BadChunks, END, Reader};
use crate::frame::tests::pictures::{Jpeg, noise};

fn read<'p>(
    pieces: impl IntoIterator<Item = &'p [u8]>,
    max_bytes: usize,
) -> Result<Option<Bytes>, BadChunks> {
    let (mut reader, mut buf) = (Reader::new(max_bytes), BytesMut::new());
    for piece in pieces {
        buf.extend_from_slice(piece);
        if let Some(picture) = reader.next(&mut buf)? {
            return Ok(Some(picture));
        }
    }
    Ok(None)
}

/// A picture with `0`, markers and a thumbnail inside.
fn picture() -> Vec<u8> {
    let thumbnail = Jpeg::new(4, 4, b"0\xff0".to_vec()).build();
    let mut jpeg = Jpeg::new(640, 480, [&b"0\xff\xd9"[..], &noise(500, 3), b"\xff0"].concat());
    jpeg.segments.push((0xE1, [&b"Exif\0\0"[..], &thumbnail, b"0"].concat()));
    jpeg.scans.push(noise(200, 9));
    jpeg.restart = Some(50);
    jpeg.fill = 2;
    jpeg.build()
}

#[test]
fn a_zero_inside_means_nothing_wherever_the_stream_is_cut() {
    let picture = picture();
    let sent = [&picture[..], END].concat();
    for cut in 0..sent.len() {
        assert_eq!(read([&sent[..cut], &sent[cut..]], 10_000).unwrap().unwrap(), picture, "cut at {cut}");
        assert_eq!(read([&sent[..cut]], 10_000), Ok(None), "nothing is found too early: {cut}");
    }
    assert_eq!(read(sent.chunks(1), 10_000).unwrap().unwrap(), picture);
}

#[test]
fn padding_and_a_second_picture_stay_with_the_first() {
    let picture = picture();
    for behind in [&b"\0\0\0\0"[..], b"\r\n", b"\xff", b"\xff\xd8", &Jpeg::new(8, 8, b"0".to_vec()).build()] {
        let whole = [&picture[..], behind].concat();
        let sent = [&whole[..], END].concat();
        assert_eq!(read([&sent[..]], 10_000).unwrap().unwrap(), whole, "{behind:?}");
        assert_eq!(read(sent.chunks(1), 10_000).unwrap().unwrap(), whole, "{behind:?} byte by byte");
    }
    let endless = [&picture[..], &[7; 70_000]].concat();
    assert_eq!(read([&endless[..]], 100_000), Err(BadChunks::NotAJpeg));
    assert_eq!(read(endless.chunks(1_000), 100_000), Err(BadChunks::NotAJpeg));
}

#[test]
fn what_is_no_picture_is_refused_at_once_and_what_is_too_long_in_time() {
    assert_eq!(read([&b"GET / HTTP/1.1"[..]], 10_000), Err(BadChunks::NotAJpeg));
    assert_eq!(read([&b"\x89PNG\r\n"[..]], 10_000), Err(BadChunks::NotAJpeg));
    assert_eq!(read([&b"\xff\xd8\xff\xe0\x00\x01"[..]], 10_000), Err(BadChunks::NotAJpeg));
    let picture = picture();
    let sent = [&picture[..], END].concat();
    assert_eq!(read([&sent[..]], picture.len()).unwrap().unwrap(), picture, "exactly the limit");
    assert_eq!(read([&sent[..]], picture.len() - 1), Err(BadChunks::TooLong));
    // A segment that claims to reach beyond the limit is not waited for.
    assert_eq!(read([&b"\xff\xd8\xff\xe0\xff\xff"[..]], 10_000), Err(BadChunks::TooLong));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Every picture comes out as it went in, however it is cut.
    #[test]
    fn round_trip(
        segments in proptest::collection::vec((prop_oneof![0xE0..=0xEFu8, Just(0xFE)], proptest::collection::vec(any::<u8>(), 0..200)), 0..4),
        scans in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..4),
        restart in proptest::option::of(1..40usize),
        fill in 0..3usize,
        step in 1..700usize,
    ) {
        let picture = Jpeg { width: 9, height: 7, segments, scans, restart, fill, height_later: false }.build();
        let sent = [&picture[..], END].concat();
        prop_assert_eq!(read(sent.chunks(step), 100_000).unwrap().unwrap(), picture);
    }
}
