//! Replays `fixtures/transcripts.txt`: as written, byte by byte, and glued together.

use std::collections::HashMap;
use std::fmt;

use bytes::{BufMut, BytesMut};
use meerkat_base::{ImageFormat, text};

use super::pictures::{Jpeg, WebpKind, bmp, noise, png, webp};
use crate::frame::{Fatal, Item, Limits, Options, Parser, Refusal};

const TRANSCRIPTS: &str = include_str!("../../fixtures/transcripts.txt");

/// Every picture that a transcript can name.
fn pictures() -> HashMap<&'static str, Vec<u8>> {
    const BUSY: &[u8] = b"..end..start..model1..\r\nend\r\nstart\r\n..camera:x\n..end";
    let jpeg = Jpeg::new(640, 480, noise(3000, 1));
    let small = Jpeg::new(64, 48, noise(300, 2));
    let session = [b"model1start", &small.build()[..], b"endstart", &small.build(), b"end"].concat();
    let busy = Jpeg {
        segments: vec![(0xE1, BUSY.to_vec()), (0xFE, b"end".to_vec())],
        scans: vec![[&noise(100, 3), BUSY, &noise(100, 4), b"\xff\xd8\xff\xd9end"].concat()],
        ..small.clone()
    };
    let with_scans = |n: usize| Jpeg { scans: vec![noise(3, 5); n], ..small.clone() }.build();
    let stray = {
        let mut bytes = small.build();
        bytes.splice(20..20, *b"end\0\xff\0\xff\x02");
        let eoi = bytes.len() - 2;
        bytes.splice(eoi..eoi, *b"\0\0stray");
        bytes
    };
    let thousand = {
        let spare = 1000 - Jpeg::new(64, 48, vec![]).build().len();
        Jpeg::new(64, 48, vec![b'x'; spare]).build()
    };
    let patched = |bytes: &[u8], at: usize, with: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes[at..at + with.len()].copy_from_slice(with);
        bytes
    };
    let bitmap = bmp(33, 20, None);
    let (png_plain, webp_plain) = (png(320, 200, &[(b"IDAT", noise(900, 6))]), noise(200, 8));
    let end_at = busy.build().windows(3).rposition(|w| w == b"end").unwrap();
    HashMap::from([
        ("jpeg", jpeg.build()),
        ("jpeg_busy", busy.build()),
        ("jpeg_nested", Jpeg { segments: vec![(0xFE, session.clone())], ..small.clone() }.build()),
        (
            "jpeg_thumb",
            Jpeg {
                segments: vec![(0xE1, [b"Exif\0\0start", &small.build()[..], b"end"].concat())],
                ..small.clone()
            }
            .build(),
        ),
        ("jpeg_long", Jpeg { segments: vec![(0xE1, noise(60_000, 9))], ..small.clone() }.build()),
        ("jpeg_progressive", with_scans(10)),
        ("jpeg_100_scans", with_scans(100)),
        ("jpeg_101_scans", with_scans(101)),
        ("jpeg_restart", Jpeg { restart: Some(7), ..busy.clone() }.build()),
        ("jpeg_fill", Jpeg { fill: 5, ..busy.clone() }.build()),
        ("jpeg_dnl", Jpeg { height_later: true, ..small.clone() }.build()),
        ("jpeg_stray", stray),
        ("jpeg_pause", busy.build()[..end_at].to_vec()),
        ("jpeg_pause_rest", busy.build()[end_at + 3..].to_vec()),
        ("jpeg_1000", thousand),
        ("jpeg_64mp", Jpeg { width: 8000, height: 8000, ..small.clone() }.build()),
        ("jpeg_huge", Jpeg { width: 8000, height: 8001, ..small.clone() }.build()),
        ("jpeg_dnl_huge", Jpeg { width: 65500, height: 65500, height_later: true, ..small.clone() }.build()),
        (
            "jpeg_two_headers",
            Jpeg { segments: vec![(0xC0, vec![8, 0, 1, 0, 1, 1, 1, 17, 0])], ..small }.build(),
        ),
        ("jpeg_bad_length", patched(&jpeg.build(), 22, &[0, 1])),
        ("png", png_plain.clone()),
        ("png_busy", png(320, 200, &[(b"tEXt", BUSY.to_vec()), (b"IDAT", BUSY.to_vec())])),
        ("png_nested", png(320, 200, &[(b"tEXt", session), (b"IDAT", noise(50, 10))])),
        ("png_huge", png(8001, 8000, &[])),
        ("png_1000", png(64, 48, &[(b"IDAT", noise(930, 11))])),
        ("png_bad_chunk", patched(&png_plain, 37, b"I!AT")),
        ("png_claims", patched(&png_plain, 33, &[0x7F, 0xFF, 0xFF, 0xFF])),
        ("webp_lossy", webp(WebpKind::Lossy, 176, 144, &webp_plain, true)),
        ("webp_lossless", webp(WebpKind::Lossless, 175, 143, &webp_plain, true)),
        ("webp_unpadded", webp(WebpKind::Lossless, 175, 143, &webp_plain, false)),
        ("webp_extended", webp(WebpKind::Extended, 5000, 4000, &webp_plain, true)),
        ("webp_busy", webp(WebpKind::Lossless, 175, 143, BUSY, true)),
        ("webp_huge", webp(WebpKind::Extended, 1 << 24, 1 << 24, &[], true)),
        ("webp_claims", patched(&webp(WebpKind::Lossy, 176, 144, &webp_plain, true), 4, &[0xFF; 4])),
        ("bmp", bitmap.clone()),
        ("bmp_busy", patched(&bitmap, 60, BUSY)),
        ("bmp_zero", bmp(33, 20, Some(0))),
        ("bmp_lies_small", bmp(33, 20, Some(100))),
        ("bmp_lies_large", bmp(33, 20, Some(u32::MAX))),
        ("bmp_top_down", bmp(33, -20, None)),
        ("bmp_no_width", patched(&bitmap, 18, &[0; 4])),
        ("bmp_huge", patched(&bitmap, 18, &[0, 0, 1, 0, 0, 0, 1, 0])),
    ])
}

#[derive(Clone, PartialEq)]
enum Line {
    Send(Vec<u8>),
    Expect(String, Vec<u8>),
    Over(String),
    Silence,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Send(bytes) => write!(f, "> {}", text::shown(bytes)),
            Line::Expect(head, bytes) if bytes.is_empty() => write!(f, "< {head}"),
            Line::Expect(head, bytes) => {
                let tail = &bytes[bytes.len().saturating_sub(8)..];
                write!(f, "< {head} ({} bytes … {})", bytes.len(), tail.escape_ascii())
            }
            Line::Over(reason) => write!(f, "! {reason}"),
            Line::Silence => write!(f, "~"),
        }
    }
}

struct Transcript {
    name: String,
    limits: Limits,
    options: Options,
    lines: Vec<Line>,
}

/// Turns the notation of the fixture into bytes.
fn bytes_of(text: &str, pictures: &HashMap<&str, Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some((inside, after)) = rest.strip_prefix('{').and_then(|r| r.split_once('}')) {
            if let Some((count, what)) = inside.split_once('*') {
                out.extend(bytes_of(what, pictures).repeat(count.parse().unwrap()));
            } else {
                let (name, part) = inside.split_once(':').unwrap_or((inside, ""));
                let picture = pictures.get(name).unwrap_or_else(|| panic!("no picture {name}"));
                let length = match part.parse::<isize>() {
                    Ok(cut) if cut < 0 => picture.len() - cut.unsigned_abs(),
                    Ok(length) => length.unsigned_abs(),
                    Err(_) => picture.len(),
                };
                out.extend(&picture[..length]);
            }
            rest = after;
            continue;
        }
        let escaped = rest.strip_prefix('\\');
        let (byte, used) = match escaped.and_then(|e| e.bytes().next()) {
            Some(b'r') => (b'\r', 2),
            Some(b'n') => (b'\n', 2),
            Some(b'0') => (0, 2),
            Some(b'x') => (u8::from_str_radix(&rest[2..4], 16).unwrap(), 4),
            _ => (u8::try_from(c).unwrap(), 1),
        };
        out.push(byte);
        rest = &rest[used..];
    }
    out
}

fn transcripts() -> Vec<Transcript> {
    let pictures = pictures();
    let mut all: Vec<Transcript> = Vec::new();
    for line in TRANSCRIPTS.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let (mark, rest) = line.split_at(line.find(' ').map_or(line.len(), |at| at + 1));
        if mark == "== " {
            let (mut limits, mut options, mut name) = (Limits::default(), Options::default(), Vec::new());
            for word in rest.split(' ') {
                match word.split_once('=') {
                    Some(("max_frame", n)) => limits.max_frame_bytes = n.parse().unwrap(),
                    Some(("max_junk", n)) => limits.max_junk_bytes = n.parse().unwrap(),
                    _ if word == "accept_unknown" => options.accept_unknown = true,
                    _ => name.push(word),
                }
            }
            all.push(Transcript { name: name.join(" "), limits, options, lines: Vec::new() });
            continue;
        }
        let line = match mark {
            "> " => Line::Send(bytes_of(rest, &pictures)),
            "< " => {
                // `frame <format> <size> <bytes>`: the bytes may hold spaces
                let mut words = rest.splitn(4, ' ');
                let head: Vec<_> = words.by_ref().take(3).collect();
                Line::Expect(head.join(" "), bytes_of(words.next().unwrap_or(""), &pictures))
            }
            "! " => Line::Over(rest.to_string()),
            "~" => Line::Silence,
            other => panic!("{other:?} in {line:?}"),
        };
        all.last_mut().unwrap().lines.push(line);
    }
    all
}

fn shown(item: &Item) -> Line {
    match item {
        Item::Hello { camera, token } => {
            let token = token.as_ref().map_or(String::new(), |t| format!(" {}", t.reveal()));
            Line::Expect(format!("hello {camera}{token}"), Vec::new())
        }
        Item::Mode(mode) => Line::Expect(format!("mode {}", mode.number()), Vec::new()),
        Item::Refused(refusal) => Line::Expect(format!("refused {}", refusal.as_str()), Vec::new()),
        Item::Frame(p) => {
            let format = match p.format {
                ImageFormat::Jpeg => "jpeg",
                ImageFormat::Png => "png",
                ImageFormat::Webp => "webp",
                ImageFormat::Bmp => "bmp",
                ImageFormat::Unknown => "unknown",
            };
            Line::Expect(format!("frame {format} {}x{}", p.width, p.height), p.bytes.to_vec())
        }
    }
}

fn drain(parser: &mut Parser, buf: &mut BytesMut, seen: &mut Vec<Line>) {
    loop {
        match parser.next(buf) {
            Ok(Some(item)) => seen.push(shown(&item)),
            Ok(None) => return,
            Err(fatal) => {
                let over = Line::Over(fatal.as_str().to_string());
                if seen.last() != Some(&over) {
                    seen.push(over);
                }
                return;
            }
        }
    }
}

/// Feeds what is sent in pieces of at most `piece` bytes and compares after each line, or, when `glued`, sends
/// everything up to a silence at once and compares there.
fn replay(transcript: &Transcript, piece: usize, glued: bool) {
    let name = &transcript.name;
    let mut parser = Parser::new(transcript.limits.clone(), transcript.options.clone());
    let (mut buf, mut seen, mut wanted) = (BytesMut::new(), Vec::new(), Vec::new());
    for line in &transcript.lines {
        match line {
            Line::Send(bytes) => {
                if !glued {
                    assert_eq!(seen, wanted, "{name}: before {line:?}");
                }
                for part in bytes.chunks(piece) {
                    buf.put_slice(part);
                    if !glued {
                        drain(&mut parser, &mut buf, &mut seen);
                    }
                }
            }
            Line::Silence => {
                drain(&mut parser, &mut buf, &mut seen);
                assert_eq!(seen, wanted, "{name}: before silence");
                assert!(parser.awaits_silence(), "{name}: waits for silence");
                seen.extend(parser.on_silence(&mut buf).unwrap().iter().map(shown));
                drain(&mut parser, &mut buf, &mut seen);
            }
            expected => wanted.push(expected.clone()),
        }
    }
    drain(&mut parser, &mut buf, &mut seen);
    assert_eq!(seen, wanted, "{name}");
    assert!(!parser.awaits_silence(), "{name}: nothing is left to decide");
    let over = matches!(wanted.last(), Some(Line::Over(_)));
    assert!(over || buf.is_empty(), "{name}: {} bytes left", buf.len());
}

#[test]
fn as_written() {
    let all = transcripts();
    assert!(all.len() > 40);
    for transcript in &all {
        replay(transcript, usize::MAX, false);
    }
}

#[test]
fn byte_by_byte() {
    for transcript in &transcripts() {
        replay(transcript, 1, false);
    }
}

#[test]
fn in_small_pieces() {
    for transcript in &transcripts() {
        for piece in [2, 3, 7, 64] {
            replay(transcript, piece, false);
        }
    }
}

#[test]
fn glued_together() {
    for transcript in &transcripts() {
        replay(transcript, usize::MAX, true);
    }
}

#[test]
fn every_refusal_and_every_end_is_in_a_transcript() {
    let lines: Vec<Line> = transcripts().into_iter().flat_map(|t| t.lines).collect();
    for refusal in Refusal::ALL {
        let line = Line::Expect(format!("refused {}", refusal.as_str()), Vec::new());
        assert!(lines.contains(&line), "{refusal:?}");
    }
    for fatal in Fatal::ALL {
        assert!(lines.contains(&Line::Over(fatal.as_str().to_string())), "{fatal:?}");
    }
}

/// Writes the transcripts as seeds for the fuzz target. To be run by hand when they change:
/// `cargo test -p meerkat-wire -- --ignored write_seeds`.
#[test]
#[ignore = "writes files"]
fn write_seeds() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/frame");
    for transcript in transcripts() {
        let sent = transcript
            .lines
            .iter()
            .filter_map(|l| if let Line::Send(bytes) = l { Some(&bytes[..]) } else { None });
        let bytes = sent.collect::<Vec<_>>().concat();
        if bytes.len() <= 8 << 10 {
            let name: String =
                transcript.name.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
            let choice = [u8::from(transcript.options.accept_unknown), 7];
            std::fs::write(folder.join(format!("seed-{name}")), [&choice, &bytes[..]].concat()).unwrap();
        }
    }
}
