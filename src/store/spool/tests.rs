//! Tests of writer, reader and recovery together.

use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use meerkat_base::Frame;
use proptest::prelude::*;

use super::record::HEADER_BYTES;
use super::*;
use crate::error::StoreError;
use crate::files::Durability;
use crate::testing::{event, frame};

fn meta() -> SpoolMeta {
    SpoolMeta {
        camera: CameraId::parse("door").unwrap(),
        kind: SpoolKind::Clip { event: event(1).id },
        started: WallTime(1_795_210_274_123_456),
        mode: Mode::People,
        settings: serde_json::json!({"width": 640, "height": 480}),
    }
}

fn create(root: &Path) -> SpoolWriter {
    SpoolWriter::create(root, &meta(), Durability::Process).unwrap()
}

/// Frames of different lengths, one of them empty.
fn frames(count: u64) -> Vec<Frame> {
    (1..=count)
        .map(|seq| frame(seq, vec![u8::try_from(seq % 251).unwrap(); usize::try_from(seq * 7 % 50).unwrap()]))
        .collect()
}

/// The bytes of a finished spool, and where each record ends (meta, frames, end).
fn written(frames: &[Frame]) -> (Vec<u8>, Vec<usize>) {
    let temp = tempfile::tempdir().unwrap();
    let mut writer = create(temp.path());
    let mut ends = vec![usize::try_from(writer.bytes()).unwrap()];
    for frame in frames {
        writer.append(frame).unwrap();
        ends.push(usize::try_from(writer.bytes()).unwrap());
    }
    let done = writer.finish().unwrap();
    ends.push(usize::try_from(done.bytes).unwrap());
    (std::fs::read(done.path.join("frames")).unwrap(), ends)
}

fn same(read: &SpoolFrame, sent: &Frame, first: &Frame) -> bool {
    read.bytes == sent.bytes
        && (read.seq, read.wall, read.format) == (sent.seq, sent.wall, sent.format)
        && (read.width, read.height) == (sent.width, sent.height)
        && read.since_first == sent.mono.since(first.mono)
}

fn assert_same(read: &[SpoolFrame], sent: &[Frame], first: &Frame) {
    assert_eq!(read.len(), sent.len());
    assert!(read.iter().zip(sent).all(|(r, s)| same(r, s, first)));
}

fn all_items(reader: &mut SpoolReader) -> Vec<SpoolItem> {
    let mut items = Vec::new();
    loop {
        let item = reader.next_item().unwrap();
        let last = matches!(item, SpoolItem::End(_) | SpoolItem::NotYet);
        items.push(item);
        if last {
            return items;
        }
    }
}

#[test]
fn what_was_appended_is_read_back() {
    for durability in [Durability::Process, Durability::Power] {
        let temp = tempfile::tempdir().unwrap();
        let sent = frames(9);
        let mut writer = SpoolWriter::create(temp.path(), &meta(), durability).unwrap();
        writer.append_all(&sent[..4]).unwrap();
        for frame in &sent[4..] {
            writer.append(frame).unwrap();
        }
        let path = writer.path().to_path_buf();
        let done = writer.finish().unwrap();
        assert_eq!((done.frames, done.duration.as_millis(), &done.path), (9, 400, &path));
        let mut reader = SpoolReader::open(&path).unwrap();
        assert_eq!(reader.meta(), Some(&meta()));
        let items = all_items(&mut reader);
        assert_eq!(items.last(), Some(&SpoolItem::End(SpoolEnd { finished: true, torn_bytes: 0 })));
        let read: Vec<SpoolFrame> = items
            .into_iter()
            .filter_map(|i| if let SpoolItem::Frame(f) = i { Some(f) } else { None })
            .collect();
        assert_same(&read, &sent, &sent[0]);
        assert!(matches!(reader.next_item().unwrap(), SpoolItem::End(_)), "the end comes again");
        for (name, mode) in [("", 0o700), ("frames", 0o600)] {
            let found = std::fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o7777;
            assert_eq!(found, mode, "{name:?}");
        }
    }
}

#[test]
fn a_cut_at_any_byte_keeps_every_whole_record_before_it() {
    let sent = frames(6);
    let (bytes, ends) = written(&sent);
    for cut in 0..=bytes.len() {
        let read = spool_from_bytes(&bytes[..cut]);
        let records = ends.iter().filter(|&&end| end <= cut).count();
        let whole = records.saturating_sub(1).min(sent.len());
        assert_same(&read.frames, &sent[..whole], &sent[0]);
        let last_end = if records == 0 { 0 } else { ends[records - 1] };
        assert_eq!((read.torn_bytes, read.corrupt_bytes), ((cut - last_end) as u64, 0), "cut at {cut}");
        assert_eq!(read.finished, cut == bytes.len());
    }
}

#[test]
fn a_flipped_byte_costs_its_own_record_and_no_other() {
    let sent = frames(6);
    let (bytes, ends) = written(&sent);
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x20;
        let read = spool_from_bytes(&damaged);
        let record = ends.iter().position(|&end| at < end).unwrap();
        let begin = if record == 0 { 0 } else { ends[record - 1] };
        let len = (ends[record] - begin) as u64;
        let mut expected = sent.clone();
        if (1..=sent.len()).contains(&record) {
            expected.remove(record - 1);
        }
        assert_same(&read.frames, &expected, &sent[0]);
        let end_is_hit = record == ends.len() - 1;
        assert_eq!(read.finished, !end_is_hit, "byte {at}");
        assert_eq!(read.corrupt_bytes + read.torn_bytes, len, "byte {at}: the damage is reported");
        assert_eq!(read.torn_bytes > 0, end_is_hit);
    }
}

#[test]
fn nobody_can_forge_a_record_inside_a_picture() {
    let (other_spool, ends) = written(&frames(3));
    let forged = other_spool[ends[0]..].to_vec();
    let sent = [frame(1, b"one".to_vec()), frame(2, forged), frame(3, b"three".to_vec())];
    let (mut bytes, ends) = written(&sent);
    // Damage the header of the frame that carries the forgery, so that the reader has to search in it.
    bytes[ends[1] + 9] ^= 1;
    let read = spool_from_bytes(&bytes);
    assert_eq!(read.frames.iter().map(|f| f.seq).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(read.corrupt_bytes, (ends[2] - ends[1]) as u64);
}

#[test]
fn a_long_damaged_place_is_crossed() {
    // Longer than the chunks in which the next record is searched, with headers across their borders.
    for len in [65_472_usize, 65_535, 65_536, 65_537, 200_000] {
        let sent = [frame(1, b"one".to_vec()), frame(2, vec![0xf1; len]), frame(3, b"three".to_vec())];
        let (mut bytes, ends) = written(&sent);
        bytes[ends[1]] = 0;
        let read = spool_from_bytes(&bytes);
        assert_eq!(read.frames.iter().map(|f| f.seq).collect::<Vec<_>>(), [1, 3], "{len}");
        assert!(read.finished);
    }
}

proptest! {
    #[test]
    fn any_bytes_give_a_summary(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let read = spool_from_bytes(&bytes);
        prop_assert!(read.frames.is_empty());
        prop_assert_eq!(read.corrupt_bytes + read.torn_bytes, bytes.len() as u64);
    }

    #[test]
    fn damage_never_makes_a_frame_up(
        lengths in prop::collection::vec(0_usize..3_000, 1..12),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let sent: Vec<Frame> = (1..).zip(&lengths).map(|(seq, &len)| frame(seq, vec![0xf1; len])).collect();
        let (mut bytes, _) = written(&sent);
        for (at, value) in &damage {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let read = spool_from_bytes(&bytes);
        prop_assert!(read.frames.is_sorted_by(|a, b| a.seq < b.seq));
        for frame in &read.frames {
            let original = sent.iter().find(|s| s.seq == frame.seq);
            prop_assert!(original.is_some_and(|s| same(frame, s, &sent[0])));
        }
        if damage.is_empty() && cut.is_none() {
            prop_assert_eq!(read.frames.len(), sent.len());
            prop_assert!(read.finished);
        }
    }
}

#[test]
fn a_reader_follows_the_writer() {
    let temp = tempfile::tempdir().unwrap();
    let mut writer = create(temp.path());
    let mut reader = SpoolReader::follow(writer.path()).unwrap();
    assert_eq!(reader.next_item().unwrap(), SpoolItem::NotYet);
    for frame in frames(5) {
        writer.append(&frame).unwrap();
        assert!(matches!(reader.next_item().unwrap(), SpoolItem::Frame(f) if f.seq == frame.seq));
        assert_eq!(reader.next_item().unwrap(), SpoolItem::NotYet);
    }
    writer.finish().unwrap();
    let end = SpoolItem::End(SpoolEnd { finished: true, torn_bytes: 0 });
    assert_eq!(reader.next_item().unwrap(), end);
}

#[test]
fn a_record_that_is_half_there_or_taken_back_is_waited_for() {
    let temp = tempfile::tempdir().unwrap();
    let mut writer = create(temp.path());
    let mut reader = SpoolReader::follow(writer.path()).unwrap();
    let (other, ends) = written(&[frame(1, vec![7; 100])]);
    let mut file = std::fs::File::options().append(true).open(writer.path().join("frames")).unwrap();
    let before = file.metadata().unwrap().len();
    // Another spool's record stands for any half-written one.
    for part in [10, HEADER_BYTES, HEADER_BYTES + 99] {
        file.write_all(&other[ends[0]..ends[0] + part]).unwrap();
        assert_eq!(reader.next_item().unwrap(), SpoolItem::NotYet, "{part} bytes");
        file.set_len(before).unwrap();
    }
    writer.append(&frame(9, b"real".to_vec())).unwrap();
    assert!(matches!(reader.next_item().unwrap(), SpoolItem::Frame(f) if f.seq == 9));

    file.write_all(&[1; 33]).unwrap();
    assert_eq!(reader.next_item().unwrap(), SpoolItem::NotYet);
    reader.writer_is_gone();
    let end = SpoolItem::End(SpoolEnd { finished: false, torn_bytes: 33 });
    assert_eq!(reader.next_item().unwrap(), end);
}

#[test]
fn spools_of_a_dead_node_are_found() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("spool");
    assert_eq!(recover(&root).unwrap(), []);
    let mut cut_off = create(&root);
    cut_off.append_all(&frames(3)).unwrap();
    let cut_path = cut_off.path().to_path_buf();
    drop(cut_off);
    std::fs::File::options().append(true).open(cut_path.join("frames")).unwrap().write_all(&[9; 17]).unwrap();

    let mut later = meta();
    later.started = later.started.offset_micros(1_000_000);
    later.kind = SpoolKind::Video;
    let mut finished = SpoolWriter::create(&root, &later, Durability::Process).unwrap();
    finished.append_all(&frames(5)).unwrap();
    let done = finished.finish().unwrap();
    let frames_file = std::fs::File::options().write(true).open(done.path.join("frames")).unwrap();
    frames_file.write_all_at(b"x", 3).unwrap();

    // What a crash leaves while a spool is made or removed, and what does not belong here at all.
    std::fs::create_dir(root.join(".part-new")).unwrap();
    std::fs::write(root.join(".part-new/frames"), b"x").unwrap();
    std::fs::create_dir(root.join("zz-no-spool")).unwrap();
    std::fs::write(root.join("notes.txt"), b"x").unwrap();

    let found = recover(&root).unwrap();
    assert_eq!(found.len(), 3);
    assert_eq!((found[0].path.as_path(), found[0].meta.as_ref()), (cut_path.as_path(), Some(&meta())));
    assert_eq!((found[0].frames, found[0].torn_bytes, found[0].finished), (3, 17, false));
    assert_eq!(
        (found[1].path.as_path(), found[1].meta.as_ref()),
        (done.path.as_path(), None),
        "damaged meta"
    );
    assert_eq!((found[1].frames, found[1].torn_bytes, found[1].finished), (5, 0, true));
    assert!(found[1].corrupt_bytes > 0);
    assert_eq!((found[2].frames, found[2].meta.as_ref()), (0, None));
    assert!(!root.join(".part-new").exists());
    assert!(root.join("notes.txt").exists() && root.join("zz-no-spool").exists());
}

#[test]
fn what_cannot_be_removed_hides_no_spool() {
    let temp = tempfile::tempdir().unwrap();
    let mut writer = create(temp.path());
    writer.append_all(&frames(2)).unwrap();
    // Something that is not ours keeps its folder from going.
    let stuck = temp.path().join(".part-left");
    std::fs::create_dir_all(stuck.join("theirs")).unwrap();
    let mut told = Vec::new();
    let found = recover_telling(temp.path(), &mut |path, _| told.push(path.to_owned())).unwrap();
    assert_eq!(found.iter().map(|spool| spool.frames).collect::<Vec<_>>(), [2]);
    assert_eq!(told, [stuck.canonicalize().unwrap()]);
}

#[test]
fn attempts_are_counted_and_the_hopeless_set_aside() {
    let temp = tempfile::tempdir().unwrap();
    let mut writer = create(temp.path());
    writer.append_all(&frames(2)).unwrap();
    let path = writer.path().to_path_buf();
    drop(writer);
    for expected in 1..=MAX_ATTEMPTS {
        assert_eq!(begin_attempt(&path).unwrap(), expected);
        assert_eq!(recover(temp.path()).unwrap()[0].attempts, expected);
    }
    let aside = set_aside(&path).unwrap();
    assert!(aside.starts_with(temp.path().join(SET_ASIDE)));
    assert_eq!(recover(temp.path()).unwrap(), []);
    assert_eq!(all_items(&mut SpoolReader::open(&aside).unwrap()).len(), 3, "nothing of it is lost");
}

#[test]
fn a_spool_is_removed_with_all_it_has() {
    let temp = tempfile::tempdir().unwrap();
    let writer = create(temp.path());
    let path = writer.path().to_path_buf();
    writer.finish().unwrap();
    begin_attempt(&path).unwrap();
    remove(&path).unwrap();
    remove(&path).unwrap();
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
    assert!(SpoolReader::open(&path).is_err());
    assert!(begin_attempt(&path).is_err());
}

#[test]
fn what_does_not_fit_is_refused_and_links_are_not_followed() {
    let temp = tempfile::tempdir().unwrap();
    let mut writer = create(temp.path());
    assert!(matches!(writer.append(&frame(1, vec![0; MAX_FRAME_BYTES + 1])), Err(StoreError::Refused(_))));
    writer.append(&frame(2, b"x".to_vec())).unwrap();
    assert_eq!(writer.frames(), 1, "a refusal is no damage");
    let long = SpoolMeta { settings: "x".repeat(70_000).into(), ..meta() };
    assert!(SpoolWriter::create(temp.path(), &long, Durability::Process).is_err());
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);

    let elsewhere = tempfile::tempdir().unwrap();
    let link = elsewhere.path().join("link");
    std::os::unix::fs::symlink(writer.path(), &link).unwrap();
    assert!(matches!(SpoolReader::open(&link), Err(StoreError::NotAFolder { .. })));
    assert_eq!(recover(elsewhere.path()).unwrap(), []);
}

#[test]
fn every_kind_of_meta_round_trips() {
    for mode in Mode::ALL {
        for kind in [SpoolKind::Video, SpoolKind::Clip { event: event(3).id }] {
            let camera = CameraId::unnamed("fe80::1".parse().unwrap(), 3);
            let meta = SpoolMeta { camera, kind, mode, ..meta() };
            assert_eq!(SpoolMeta::from_json(&meta.to_json(None)), Some(meta));
        }
    }
    assert_eq!(SpoolMeta::from_json(b"{}"), None);
    assert_eq!(
        SpoolMeta::from_json(br#"{"camera":"../x","event":null,"started":0,"mode":1,"settings":null}"#),
        None
    );
}

#[test]
fn a_kept_spool_is_found_by_what_was_made_of_it() {
    let temp = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for day in 0..3_i64 {
        let meta = SpoolMeta { started: WallTime(1_795_210_274_123_456 + day * 86_400_000_000), ..meta() };
        let mut writer = SpoolWriter::create(temp.path(), &meta, Durability::Process).unwrap();
        writer.append(&frame(1, "x")).unwrap();
        let done = writer.finish().unwrap();
        let file = format!("capture/clip/door/{day}.mp4");
        let kept = keep(&done.path, &file).unwrap();
        assert_eq!(keep(&done.path, &file).unwrap(), kept, "again, after a crash");
        assert_eq!(kept_of(temp.path(), &file).unwrap().unwrap().path, kept);
        paths.push(kept);
    }
    assert_eq!(recover(temp.path()).unwrap(), [], "nobody finishes them again");
    let all = kept(temp.path()).unwrap();
    assert_eq!(all.iter().map(|spool| &spool.path).collect::<Vec<_>>(), paths.iter().collect::<Vec<_>>());
}

#[test]
fn the_meta_record_of_a_segment_comes_back_and_other_kinds_stay_what_they_were() {
    for kind in [SpoolKind::Clip { event: event(1).id }, SpoolKind::Video, SpoolKind::Segment] {
        let meta = SpoolMeta { kind, ..meta() };
        let json = meta.to_json(None);
        assert_eq!(SpoolMeta::from_json(&json), Some(meta));
        assert_eq!(String::from_utf8(json).unwrap().contains("\"kind\""), kind == SpoolKind::Segment);
    }
}
