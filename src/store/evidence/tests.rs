//! That a signed spool which was changed in whatever way is found to be so.

mod wild;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use meerkat_base::Frame;
use proptest::prelude::*;

use super::*;
use crate::files::Durability;
use crate::spool::{SpoolItem, SpoolKind, SpoolMeta, SpoolReader, SpoolWriter, spool_from_bytes};
use crate::testing::{event, frame};

struct Bench {
    folder: tempfile::TempDir,
    line: ChainLine,
    key: PublicKey,
    file: Arc<SigningKeyFile>,
}

impl Bench {
    fn new(every: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = SigningKeyFile::create(&folder.path().join("key")).unwrap();
        Self::with(folder, key, every)
    }

    fn with(folder: tempfile::TempDir, key: SigningKeyFile, every: Duration) -> Self {
        let file = Arc::new(key);
        let line = SpoolSigning::new(Arc::clone(&file), "b1", every).new_line();
        Self { key: file.public(), folder, line, file }
    }

    fn writer(&self) -> SpoolWriter {
        let first = frame(1, "");
        let meta = SpoolMeta {
            camera: first.camera,
            kind: SpoolKind::Clip { event: event(1).id },
            started: first.wall,
            mode: meerkat_base::Mode::People,
            settings: serde_json::Value::Null,
        };
        let root = self.folder.path().join("spool");
        SpoolWriter::create_in_chain(&root, &meta, Durability::Process, Some(&self.line)).unwrap()
    }

    /// The bytes of a finished spool, and where its records begin, their end last.
    fn written(&self, frames: &[Frame]) -> (Vec<u8>, Vec<usize>) {
        let mut writer = self.writer();
        for frame in frames {
            writer.append(frame).unwrap();
        }
        let bytes = std::fs::read(writer.finish().unwrap().path.join("frames")).unwrap();
        let mut places = vec![0];
        while *places.last().unwrap() < bytes.len() {
            let at = *places.last().unwrap();
            let len = u32::from_le_bytes(bytes[at + 48..at + 52].try_into().unwrap());
            places.push(at + 64 + 32 + len as usize);
        }
        (bytes, places)
    }

    fn check(&self, bytes: &[u8]) -> Result<CheckedSpool, SpoolFault> {
        check_frames(bytes, &self.key)
    }

    /// Whether these bytes show a whole recording.
    fn holds(&self, bytes: &[u8]) -> bool {
        self.check(bytes)
            .is_ok_and(|found| found.finished && found.gaps.is_empty() && found.signed_frames == found.frames)
    }
}

const TENTH: Duration = Duration::from_millis(100);

fn some(count: u64) -> Vec<Frame> {
    (1..=count)
        .map(|seq| frame(seq, vec![u8::try_from(seq).unwrap(); 3 + usize::try_from(seq % 5).unwrap()]))
        .collect()
}

#[test]
fn a_spool_as_it_was_written_is_proven() {
    let bench = Bench::new(TENTH);
    let (bytes, places) = bench.written(&some(9));
    let found = bench.check(&bytes).unwrap();
    assert_eq!((found.frames, found.signed_frames, found.finished), (9, 9, true));
    assert_eq!((found.numbers, found.gaps.len(), found.torn_bytes), (Some((1, 9)), 0, 0));
    assert_eq!(found.boot, "b1");
    // Meta, frames, end, and a signature each tenth of a second: after frames 1, 3, 5, 7 and 9.
    assert_eq!(places.len() - 1, 1 + 9 + 1 + 5);
    let read = spool_from_bytes(&bytes);
    assert_eq!((read.frames.len(), read.finished, read.corrupt_bytes), (9, true, 0));
}

#[test]
fn parts_hang_together_and_a_missing_one_shows() {
    let bench = Bench::new(TENTH);
    let parts: Vec<CheckedSpool> = (0..3).map(|_| bench.check(&bench.written(&some(3)).0).unwrap()).collect();
    assert_eq!(parts[0].first_link, to_hex(&GENESIS));
    assert_eq!(parts[1].first_link, parts[0].last_link);
    assert_eq!(parts[2].first_link, parts[1].last_link);
    assert_eq!(parts[0].chain, parts[2].chain);
}

#[test]
fn a_reader_follows_the_chain_too() {
    let bench = Bench::new(TENTH);
    let mut writer = bench.writer();
    for frame in some(5) {
        writer.append(&frame).unwrap();
    }
    let done = writer.finish().unwrap();
    let mut reader = SpoolReader::open(&done.path).unwrap();
    while !matches!(reader.next_item().unwrap(), SpoolItem::End(_)) {}
    let seen = *reader.chain().unwrap();
    let checked = check_spool(&done.path, &bench.key).unwrap();
    assert!(seen.whole);
    assert_eq!((seen.first(), seen.last()), (checked.first_link, checked.last_link));
}

#[test]
fn every_changed_byte_is_found() {
    let bench = Bench::new(TENTH);
    let (bytes, _) = bench.written(&some(4));
    assert!(bench.holds(&bytes));
    for at in 0..bytes.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] ^= change;
            assert!(!bench.holds(&changed), "byte {at}");
        }
    }
}

#[test]
fn a_cut_at_any_byte_is_found() {
    let bench = Bench::new(Duration::ZERO);
    let (bytes, _) = bench.written(&some(4));
    for cut in 0..bytes.len() {
        assert!(!bench.holds(&bytes[..cut]), "cut at {cut}");
    }
    let longer = [&bytes[..], b"x"].concat();
    assert!(!bench.holds(&longer));
}

/// Puts right what somebody without the key can put right: checksums, and the links from record to record.
fn made_to_fit(records: &[Vec<u8>]) -> Vec<u8> {
    let mut all = Vec::new();
    let mut previous: Option<Hash> = None;
    for record in records {
        let mut record = record.clone();
        if let Some(previous) = previous {
            record[64..96].copy_from_slice(&previous);
        }
        let crc = crc32fast::hash(&record[64..]);
        record[52..56].copy_from_slice(&crc.to_le_bytes());
        let crc = crc32fast::hash(&record[..60]);
        record[60..64].copy_from_slice(&crc.to_le_bytes());
        let before: Hash = record[64..96].try_into().unwrap();
        let header = record[..SIGNED_HEADER_BYTES].try_into().unwrap();
        previous = Some(link(&before, &header, &record[96..]));
        all.extend(record);
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_forger_without_the_key_is_found(
        count in 3_u64..12,
        every_ms in prop_oneof![Just(0), Just(100), Just(10_000)],
        what in 0..6,
        a in any::<prop::sample::Index>(),
        b in any::<prop::sample::Index>(),
        change in 1..=255_u8,
    ) {
        let bench = Bench::new(Duration::from_millis(every_ms));
        let (bytes, places) = bench.written(&some(count));
        let mut records: Vec<Vec<u8>> =
            places.windows(2).map(|place| bytes[place[0]..place[1]].to_vec()).collect();
        prop_assert_eq!(&made_to_fit(&records), &bytes);
        let original = records.clone();
        let (a, b) = (a.index(records.len()), b.index(records.len()));
        match what {
            // A byte of a record's header or contents.
            0 => {
                let at = b % records[a].len();
                records[a][at] ^= change;
            }
            // A record less, one more, two exchanged, one replaced by another.
            1 => drop(records.remove(a)),
            2 => records.insert(a, original[b].clone()),
            3 => records.swap(a, b),
            4 => records[a] = original[b].clone(),
            // The end of another recording behind this beginning.
            _ => {
                let (other, places) = bench.written(&some(count));
                let at = places[places.len() - 2];
                *records.last_mut().unwrap() = other[at..].to_vec();
            }
        }
        let forged = made_to_fit(&records);
        prop_assert!(forged == bytes || !bench.holds(&forged));
        let simple: Vec<u8> = records.concat();
        prop_assert!(simple == bytes || !bench.holds(&simple));
    }

    #[test]
    fn any_bytes_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let bench = Bench::new(TENTH);
        prop_assert!(bench.check(&bytes).is_err());
    }
}

#[test]
fn another_key_proves_nothing() {
    let (bench, other) = (Bench::new(TENTH), Bench::new(TENTH));
    let (bytes, _) = bench.written(&some(3));
    assert!(matches!(other.check(&bytes), Err(SpoolFault::OtherKey { .. })));
}

#[test]
fn a_spool_without_signatures_says_so() {
    let bench = Bench::new(TENTH);
    let first = frame(1, "x");
    let meta = SpoolMeta {
        camera: first.camera.clone(),
        kind: SpoolKind::Segment,
        started: first.wall,
        mode: meerkat_base::Mode::People,
        settings: serde_json::Value::Null,
    };
    let mut writer =
        SpoolWriter::create(&bench.folder.path().join("spool"), &meta, Durability::Process).unwrap();
    writer.append(&first).unwrap();
    let done = writer.finish().unwrap();
    assert!(matches!(check_spool(&done.path, &bench.key), Err(SpoolFault::NotSigned)));
    let reader = SpoolReader::open(&done.path).unwrap();
    assert_eq!((reader.meta(), reader.chain().copied()), (Some(&meta), None));
}

#[test]
fn frames_that_were_not_kept_show_as_gaps() {
    let bench = Bench::new(TENTH);
    let frames: Vec<Frame> = some(9).into_iter().filter(|frame| !(4..=6).contains(&frame.seq)).collect();
    let found = bench.check(&bench.written(&frames).0).unwrap();
    assert_eq!((found.gaps.as_slice(), found.frames), (&[(4, 6)][..], 6));
}

#[test]
fn what_follows_the_last_signature_of_a_node_that_died_is_told_apart() {
    let bench = Bench::new(Duration::from_secs(10));
    let mut writer = bench.writer();
    for frame in some(5) {
        writer.append(&frame).unwrap();
    }
    let bytes = std::fs::read(writer.path().join("frames")).unwrap();
    let found = bench.check(&bytes).unwrap();
    assert_eq!((found.frames, found.signed_frames, found.finished), (5, 1, false));
    let torn = bench.check(&bytes[..bytes.len() - 1]).unwrap();
    assert_eq!((torn.frames, torn.signed_frames), (4, 1));
    assert!(torn.torn_bytes > 0);
}

#[test]
fn a_writer_that_was_given_up_does_not_carry_the_chain_on() {
    let bench = Bench::new(TENTH);
    let frames = some(4);
    let mut old = bench.writer();
    old.append(&frames[0]).unwrap();
    let mut new = bench.writer();
    old.append(&frames[1]).unwrap();
    new.append(&frames[2]).unwrap();
    let new = new.finish().unwrap();
    drop(old);
    let next = bench.writer().finish().unwrap();
    let last = |path: &Path| check_spool(path, &bench.key).unwrap();
    assert_eq!(last(&next.path).first_link, last(&new.path).last_link);
}

fn a_proof() -> ClipProof {
    ClipProof {
        format: proof::FORMAT,
        boot: "b1".into(),
        made: 1,
        camera: "door".into(),
        event: None,
        path: "capture/clip/door/2026-11-20/a.mp4".into(),
        sha256: "ab".into(),
        bytes: 7,
        started: 2,
        frames: 3,
        skipped: vec![2],
        spool: SpoolNote {
            name: "s".into(),
            frames: 4,
            first_number: 1,
            last_number: 4,
            first_link: Some("00".into()),
            last_link: Some("11".into()),
            whole: true,
            finished: true,
        },
    }
}

#[test]
fn a_proof_is_read_back_and_only_as_it_was_signed() {
    let bench = Bench::new(TENTH);
    let proof = a_proof();
    let text = sign_proof(&bench.file, &proof);
    assert_eq!(read_proof(&text, &bench.key).unwrap(), proof);
    for (from, to) in [("door", "gate"), ("a.mp4", "b.mp4"), ("ab", "ac")] {
        assert!(read_proof(&text.replacen(from, to, 1), &bench.key).is_err());
    }
    assert!(read_proof(&text, &Bench::new(TENTH).key).is_err());
    assert!(read_proof("{}", &bench.key).is_err());
}
