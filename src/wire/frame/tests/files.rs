//! Real files: the corpus of the fuzz target, and pictures from the shared test data where that is at hand.

use std::fs;
use std::path::{Path, PathBuf};

use super::invariants::{check, run};
use crate::frame::{self, Item, Limits, Options};
use meerkat_base::{ImageFormat, Mode};

#[test]
fn the_corpus_replays() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/frame");
    let mut seeds = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // Others are what the fuzzer found on this machine.
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seed-")) {
            check(&fs::read(path).unwrap());
            seeds += 1;
        }
    }
    assert!(seeds >= 20, "{seeds} seeds");
}

/// The folder of the shared test data; `None`, with a line that says so, where there is none.
fn data() -> Option<PathBuf> {
    let folder = match std::env::var_os("MEERKAT_TEST_DATA") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
    };
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(std::env::var_os("MEERKAT_REQUIRE_DATA").is_none(), "no test data in {}", folder.display());
    eprintln!("skipped: no test data in {}", folder.display());
    None
}

fn pictures_in(folder: &Path, ending: &str, found: &mut Vec<Vec<u8>>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            pictures_in(&path, ending, found);
        } else if path.extension().is_some_and(|e| e == ending) {
            found.push(fs::read(path).unwrap());
        }
    }
}

/// The same JPEG with a comment that holds a whole session.
fn with_comment(jpeg: &[u8]) -> Vec<u8> {
    let comment = b"end\r\nstart\r\n\xff\xd8\xff\xd9endmodel1startend";
    let length = u16::try_from(comment.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xFF, 0xFE], &length, comment, &jpeg[2..]].concat()
}

#[test]
fn real_pictures_come_out_unchanged() {
    let Some(data) = data() else { return };
    let (mut jpegs, mut pngs) = (Vec::new(), Vec::new());
    pictures_in(&data.join("faces"), "jpg", &mut jpegs);
    pictures_in(&data.join("stills"), "jpg", &mut jpegs);
    pictures_in(&data.join("reference"), "png", &mut pngs);
    assert!(jpegs.len() > 100 && pngs.len() > 5);
    let commented: Vec<_> = jpegs.iter().map(|jpeg| with_comment(jpeg)).collect();
    let sent: Vec<_> = jpegs.iter().chain(&commented).chain(&pngs).collect();
    let mut bytes = frame::mode(Mode::Pictures).to_vec();
    for picture in &sent {
        frame::frame(picture, &mut bytes);
    }
    for piece in [1 << 16, 1460, 977] {
        let outcome = run(bytes.chunks(piece), &Limits::default(), &Options::default());
        assert_eq!((outcome.items.len(), outcome.fatal), (1 + sent.len(), None));
        for (item, &wanted) in outcome.items[1..].iter().zip(&sent) {
            let Item::Frame(picture) = item else { panic!("{item:?}") };
            assert!(picture.bytes == *wanted, "{} bytes became {}", wanted.len(), picture.bytes.len());
            assert!(picture.width >= 48 && picture.height >= 48);
            let format = if wanted.starts_with(b"\x89") { ImageFormat::Png } else { ImageFormat::Jpeg };
            assert_eq!(picture.format, format);
        }
    }
    // Real pictures that are cut off, each in another place.
    let mut bytes = frame::mode(Mode::Pictures).to_vec();
    for (index, picture) in sent.iter().enumerate() {
        let length = 20 + (picture.len() - 22) * index / sent.len();
        frame::frame(&picture[..length], &mut bytes);
        frame::frame(picture, &mut bytes);
    }
    let outcome = run(bytes.chunks(1 << 16), &Limits::default(), &Options::default());
    assert_eq!(outcome.items.len(), 1 + 2 * sent.len());
    for (pair, &wanted) in outcome.items[1..].chunks(2).zip(&sent) {
        let [Item::Refused(_), Item::Frame(picture)] = pair else { panic!("{pair:?}") };
        assert!(picture.bytes == *wanted);
    }
}
