//! Cameras that cut and glue as the network likes, with pictures made to mislead a parser: everything that is answered
//! with `1` must lie on the disk exactly as it was sent, in its order, and nothing else.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use crate::harness::{Camera, Plan, files_below, jpeg};

/// Numbers that look random and are the same in each run (Steele and others, "Fast splittable pseudorandom number
/// generators", 2014).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, range: Range<usize>) -> usize {
        range.start + (self.next() % (range.end - range.start) as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(0..n) == 0
    }

    fn one_of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(0..choices.len())]
    }

    /// Bytes of any value.
    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// Words of the protocol and bytes of the containers, where a parser must not believe them.
const LURES: [&[u8]; 8] = [
    b"end",
    b"start",
    b"model1",
    b"end\r\n",
    b"enend",
    b"startend",
    b"camera:door\n",
    b"\xff\xd8\xff\xe0\x00\x04\xff\xd9",
];

/// A segment of a JPEG: marker, length, content.
fn segment(marker: u8, content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(content.len() + 2).unwrap().to_be_bytes();
    [&[0xFF, marker], &len[..], content].concat()
}

/// Random content with lures in it.
fn lured(dice: &mut Dice, len: usize) -> Vec<u8> {
    let mut content = dice.bytes(len);
    for _ in 0..dice.below(1..4) {
        let lure = dice.one_of(&LURES);
        let at = dice.below(0..content.len() + 1);
        content.splice(at..at, lure.iter().copied());
    }
    content
}

/// Entropy-coded data: anything but a marker, with `end` and `start` in the open and some restart markers.
fn entropy(dice: &mut Dice, len: usize) -> Vec<u8> {
    let mut data = Vec::with_capacity(len * 2);
    for n in 0..len {
        match dice.next() as u8 {
            0xFF => data.extend([0xFF, 0x00]),
            byte => data.push(byte),
        }
        if n % 701 == 700 {
            data.extend([0xFF, 0xD0 + (n / 701 % 8) as u8]);
        }
        if dice.one_in(400) {
            data.extend(dice.one_of::<[u8]>(&[b"end", b"start", b"model3", b"end\n", b"eend", b"en"]));
        }
    }
    // What is cut off here must not look like a stuffed byte.
    data.push(0x55);
    data
}

/// A JPEG that is right in its structure; nobody decodes it in mode 1. With `scans` it is a progressive one.
fn structural_jpeg(dice: &mut Dice, scans: usize) -> Vec<u8> {
    let mut jpeg = vec![0xFF, 0xD8];
    let len = dice.below(0..300);
    jpeg.extend(segment(0xE0, &lured(dice, len)));
    jpeg.extend(segment(0xDB, &[0; 65]));
    let sof = if scans > 1 { 0xC2 } else { 0xC0 };
    jpeg.extend(segment(sof, &[8, 0, 64, 0, 64, 1, 1, 0x11, 0]));
    for _ in 0..scans {
        jpeg.extend(segment(0xC4, &[0; 17]));
        if dice.one_in(2) {
            jpeg.extend([0xFF; 3]); // fill bytes before a marker
        }
        jpeg.extend(segment(0xDA, &[1, 1, 0, 0, 63, 0]));
        let len = dice.below(10..3000);
        jpeg.extend(entropy(dice, len));
    }
    jpeg.extend([0xFF, 0xD9]);
    jpeg
}

/// A real JPEG with more put in: segments that mislead, a thumbnail, bytes behind its end.
fn dressed_jpeg(dice: &mut Dice, seed: u32) -> Vec<u8> {
    let (width, height) = (dice.below(32..200) as u32, dice.below(32..150) as u32);
    let mut picture = jpeg(width, height, seed);
    if dice.one_in(3) {
        let thumbnail = [b"Exif\0\0", &jpeg(32, 24, seed + 1)[..], b"end"].concat();
        picture.splice(2..2, segment(0xE1, &thumbnail));
    }
    for _ in 0..dice.below(0..4) {
        let len = dice.below(0..600);
        let content = lured(dice, len);
        let marker = dice.one_of::<u8>(&[&0xFE, &0xE2, &0xED]);
        picture.splice(2..2, segment(*marker, &content));
    }
    match dice.below(0..6) {
        0 => picture.extend(vec![0; dice.below(1..2000)]),
        1 => picture.extend(vec![b'\n'; dice.below(1..5)]),
        2 => picture.extend(b"en de nd trailing words"),
        3 => picture.extend(jpeg(40, 30, seed + 2)),
        _ => {}
    }
    picture
}

fn png(dice: &mut Dice) -> Vec<u8> {
    let chunk = |kind: &[u8], content: &[u8], crc: u32| {
        [&(content.len() as u32).to_be_bytes()[..], kind, content, &crc.to_be_bytes()].concat()
    };
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    png.extend(chunk(b"IHDR", &[0, 0, 0, 9, 0, 0, 0, 7, 8, 2, 0, 0, 0], 0x1234_5678));
    for _ in 0..dice.below(1..4) {
        let len = dice.below(1..4000);
        let crc = dice.next() as u32;
        png.extend(chunk(dice.one_of::<[u8]>(&[b"IDAT", b"tEXt"]), &lured(dice, len), crc));
    }
    png.extend(chunk(b"IEND", &[], 0xAE42_6082));
    png
}

fn bmp(dice: &mut Dice) -> Vec<u8> {
    let (row, height) = (24, dice.below(1..100));
    let mut content = lured(dice, row * height);
    content.truncate(row * height);
    let total = 54 + content.len();
    let mut bmp = b"BM".to_vec();
    bmp.extend((total as u32).to_le_bytes());
    bmp.extend([0; 4]);
    bmp.extend(54u32.to_le_bytes());
    bmp.extend(40u32.to_le_bytes());
    bmp.extend(8i32.to_le_bytes());
    bmp.extend((height as i32).to_le_bytes());
    bmp.extend([1, 0, 24, 0]);
    bmp.resize(54, 0);
    bmp.extend(content);
    bmp
}

fn picture(dice: &mut Dice, seed: u32) -> Vec<u8> {
    match dice.below(0..10) {
        0 => png(dice),
        1 => bmp(dice),
        2 | 3 => structural_jpeg(dice, 1),
        4 => {
            let scans = dice.below(2..12);
            structural_jpeg(dice, scans)
        }
        _ => dressed_jpeg(dice, seed),
    }
}

/// Sends bytes cut at random places: in a few pieces, byte by byte at the beginning or the end, or in one.
fn send_torn(dice: &mut Dice, camera: &mut Camera, bytes: &[u8]) {
    let len = bytes.len();
    let mut cuts: Vec<usize> = match dice.below(0..4) {
        0 => Vec::new(),
        1 => (1..len.min(40)).collect(),
        2 => (len.saturating_sub(30)..len).collect(),
        _ => (0..dice.below(1..12)).map(|_| dice.below(0..len)).collect(),
    };
    cuts.sort_unstable();
    camera.send_cut(bytes, &cuts);
}

/// One camera's life: it sends `count` pictures and says what it sent.
fn live(to: std::net::SocketAddr, id: &str, seed: u64, count: usize) -> Vec<Vec<u8>> {
    let mut dice = Dice::new(seed);
    let mut camera = Camera::connect(to);
    let blank = |dice: &mut Dice| dice.one_of::<[u8]>(&[b"", b"", b"\r", b"\n", b"\r\n", b"\0"]);
    let hello = format!("camera:{id}\n");
    send_torn(&mut dice, &mut camera, hello.as_bytes());
    assert_eq!(camera.answer(), b'1', "{id}: hello");
    let mode = [b"model1", blank(&mut dice)].concat();
    send_torn(&mut dice, &mut camera, &mode);
    assert_eq!(camera.answer(), b'1', "{id}: mode");

    let mut sent = Vec::new();
    while sent.len() < count {
        // Mostly one picture and its answer; sometimes a client that does not wait.
        let together = if dice.one_in(4) { dice.below(2..4) } else { 1 };
        let mut bytes = Vec::new();
        for _ in 0..together {
            let picture = picture(&mut dice, sent.len() as u32);
            bytes.extend([b"start", blank(&mut dice), &picture, b"end", blank(&mut dice)].concat());
            sent.push(picture);
        }
        send_torn(&mut dice, &mut camera, &bytes);
        for n in 0..together {
            let number = sent.len() - together + n;
            assert_eq!(camera.answer(), b'1', "{id} (seed {seed}): picture {number}");
        }
    }
    sent
}

fn stored(data: &Path, id: &str) -> Vec<Vec<u8>> {
    let files = files_below(&data.join("capture/image").join(id));
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

#[test]
fn whatever_is_cut_and_glued_arrives_as_it_was_sent() {
    const CAMERAS: u64 = 12;
    const PICTURES: usize = 100;
    let seed = match std::env::var("MEERKAT_TORTURE_SEED") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => 20_261_120,
    };
    let mut node = Plan::new().start();
    let to = node.frame_address();
    let sent: BTreeMap<String, Vec<Vec<u8>>> = std::thread::scope(|scope| {
        let cameras: Vec<_> = (0..CAMERAS)
            .map(|n| (format!("cam{n}"), n))
            .map(|(id, n)| (id.clone(), scope.spawn(move || live(to, &id, seed + n, PICTURES))))
            .collect();
        cameras.into_iter().map(|(id, camera)| (id, camera.join().unwrap())).collect()
    });

    let mut bytes = 0;
    for (id, sent) in &sent {
        let stored = stored(&node.data(), id);
        assert_eq!(stored.len(), sent.len(), "{id}: as many files as answers");
        for (number, (stored, sent)) in stored.iter().zip(sent).enumerate() {
            assert!(stored == sent, "{id} (seed {seed}): picture {number} differs");
        }
        bytes += sent.iter().map(Vec::len).sum::<usize>();
    }
    let all = sent.values().map(Vec::len).sum::<usize>();
    assert_eq!(files_below(&node.data().join("capture")).len(), all, "and nothing else");
    let metrics = node.metrics();
    let frames = |result| metrics.sum("meerkat_frames_total", &[("stage", "received"), ("result", result)]);
    assert_eq!((frames("ok"), frames("refused")), (all as f64, 0.0));
    assert_eq!(metrics.sum("meerkat_frame_bytes_total", &[]), bytes as f64);
    assert_eq!(metrics.sum("meerkat_protocol_errors_total", &[]), 0.0);
    println!("{all} pictures, {bytes} bytes, seed {seed}: all there");
    assert!(node.stop().success());
}
