//! Tests of sidecars: round trip, hostile and cut bytes, files in odd states.

use std::time::Duration;

use meerkat_base::CameraId;
use proptest::prelude::*;

use super::*;
use crate::clips::ClipState;
use crate::testing::{event, store};

const CLIP: &str = "capture/clip/door/2026-11-20/a.mp4";

fn sidecar() -> Sidecar {
    Sidecar {
        clip: ClipRow {
            event: None,
            camera: CameraId::parse("door").unwrap(),
            path: CLIP.into(),
            started: WallTime(1_795_210_274_123_456),
            duration: Duration::from_micros(1_500_001),
            frames: 30,
            bytes: 12_345,
            sha256: Some("ab".repeat(32)),
            state: ClipState::Repaired,
            skipped: 0,
            missing: None,
        },
        events: vec![EventFacts {
            id: event(1).id,
            kind: EventKind::Face,
            started: WallTime(1_795_210_275_000_000),
            started_seq: 7,
            ended: Some(WallTime(1_795_210_276_000_000)),
            score: 0.91,
            identities: vec!["Ada \"L\"\n".into(), "李雷".into()],
            interrupted: true,
            snapshot: Some(SnapshotRow {
                event: event(1).id,
                path: "capture/clip/door/2026-11-20/a.jpg".into(),
                taken: WallTime(-5),
                bytes: 9,
            }),
            keep: false,
        }],
        unknown_events: vec![event(2).id],
        keep: true,
    }
}

fn day(folder: &Path) {
    std::fs::create_dir_all(folder.join("capture/clip/door/2026-11-20")).unwrap();
}

#[test]
fn a_sidecar_reads_back_and_stands_for_its_rows() {
    let one = sidecar();
    assert_eq!(Sidecar::from_json(&one.to_json()).unwrap(), one);
    let events: Vec<_> = one.rows().into_iter().map(|row| row.event).collect();
    assert_eq!(events, [Some(event(1).id), Some(event(2).id)]);
    let video = Sidecar { events: Vec::new(), unknown_events: Vec::new(), ..one };
    assert_eq!(video.rows(), std::slice::from_ref(&video.clip));
}

#[test]
fn what_this_program_would_not_write_is_refused() {
    let text = String::from_utf8(sidecar().to_json()).unwrap();
    for (from, to) in [
        ("\"version\": 2", "\"version\": 3"),
        ("\"version\": 2", "\"version\": 1"),
        ("\"version\": 2,", ""),
        ("\"keep\": false", "\"keep\": 0"),
        ("\"keep\": true", "\"keep\": 1"),
        ("\"keep\": true", "\"keep\": true, \"more\": 1"),
        ("\"door\"", "\"../door\""),
        ("\"door\"", "\"yard\""),
        (CLIP, "../../etc/passwd"),
        (CLIP, "/etc/passwd"),
        ("a.jpg", "../../../../../x"),
        ("\"repaired\"", "\"fine\""),
        ("\"face\"", "\"cat\""),
        ("0.91", "1.5"),
        ("0.91", "1e999"),
        ("abab", "zzzz"),
        ("1795210276000000", "1795210274999999"),
        ("1500001", "18446744073709551615"),
        ("\"frames\": 30", "\"frames\": -1"),
    ] {
        let bad = text.replacen(from, to, 1);
        assert_ne!(bad, text, "{from}");
        assert!(Sidecar::from_json(bad.as_bytes()).is_err(), "{from} -> {to}");
    }
    let mut long = sidecar().to_json();
    long.resize(MAX_BYTES + 1, b' ');
    assert!(Sidecar::from_json(&long).is_err());
    let deep = format!("{{\"version\":2,\"clip\":{}", "[".repeat(100_000));
    assert!(Sidecar::from_json(deep.as_bytes()).is_err());
}

#[test]
fn a_sidecar_of_the_version_before_keeps_the_events_of_a_clip_that_is_kept() {
    for keep in [false, true] {
        let mut one = Sidecar { keep, ..sidecar() };
        let mut json: serde_json::Value = serde_json::from_slice(&one.to_json()).unwrap();
        json["version"] = 1.into();
        let event = json["events"][0].as_object_mut().unwrap();
        assert_eq!(event.remove("keep"), Some(false.into()));
        one.events[0].keep = keep;
        assert_eq!(Sidecar::from_json(json.to_string().as_bytes()), Ok(one));
        json["version"] = 2.into();
        assert!(Sidecar::from_json(json.to_string().as_bytes()).is_err(), "now it has to be said");
    }
}

#[test]
fn an_error_shows_little_of_what_stands_there() {
    let text = String::from_utf8(sidecar().to_json()).unwrap();
    for wild in [format!("\"{}\"", "x".repeat(100_000)), r#""\u001b[31m\n""#.to_owned()] {
        for from in ["\"keep\"", "\"repaired\"", "30"] {
            let bad = text.replacen(from, &wild, 1);
            let error = Sidecar::from_json(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.len() <= 200 && !error.contains(char::is_control), "{error:?}");
        }
    }
}

#[test]
fn a_sidecar_is_replaced_as_a_whole() {
    use std::os::unix::fs::PermissionsExt;
    for durability in [Durability::Process, Durability::Power] {
        let temp = tempfile::tempdir().unwrap();
        assert!(read(temp.path(), CLIP).unwrap().is_none());
        assert!(!set_keep(temp.path(), CLIP, true, durability).unwrap());
        assert!(write(temp.path(), &sidecar(), durability).is_err(), "no folder is made for it");
        day(temp.path());
        write(temp.path(), &sidecar(), durability).unwrap();
        assert!(set_keep(temp.path(), CLIP, false, durability).unwrap());
        let expected = Sidecar { keep: false, ..sidecar() };
        assert_eq!(read(temp.path(), CLIP).unwrap(), Some(expected));
        let path = temp.path().join(path_of(CLIP));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left");
        remove(temp.path(), CLIP).unwrap();
        remove(temp.path(), CLIP).unwrap();
        remove(temp.path(), "capture/clip/none/a.mp4").unwrap();
        assert!(read(temp.path(), CLIP).unwrap().is_none());
    }
}

#[test]
fn a_sidecar_of_another_file_and_a_link_are_not_believed() {
    let temp = tempfile::tempdir().unwrap();
    day(temp.path());
    write(temp.path(), &sidecar(), Durability::Process).unwrap();
    let own = temp.path().join(path_of(CLIP));
    let other = "capture/clip/door/2026-11-20/b.mp4";
    std::fs::copy(&own, temp.path().join(path_of(other))).unwrap();
    assert!(matches!(read(temp.path(), other), Err(StoreError::BadSidecar { .. })));
    let link = "capture/clip/door/2026-11-20/c.mp4";
    std::os::unix::fs::symlink(&own, temp.path().join(path_of(link))).unwrap();
    assert!(read(temp.path(), link).is_err());
    std::fs::write(&own, vec![b' '; MAX_BYTES + 9]).unwrap();
    assert!(matches!(read(temp.path(), CLIP), Err(StoreError::BadSidecar { .. })));
    assert!(read(temp.path(), "../a.mp4").is_err());
}

#[test]
fn the_store_writes_it_from_its_rows() {
    let (folder, mut store) = store();
    day(folder.path());
    assert!(!store.write_sidecar(CLIP, None).unwrap(), "there is no such clip");
    let (mut first, second) = (event(1), event(2));
    first.identities = vec!["Ada".into()];
    store.start_event(&first, &[]).unwrap();
    for id in [second.id, first.id] {
        store.add_clip(&ClipRow { event: Some(id), ..sidecar().clip }).unwrap();
    }
    let snapshot = sidecar().events[0].snapshot.clone().unwrap();
    store.add_snapshot(&snapshot).unwrap();
    assert!(store.write_sidecar(CLIP, Some(true)).unwrap());
    let found = read(folder.path(), CLIP).unwrap().unwrap();
    assert_eq!((found.clip, found.unknown_events, found.keep), (sidecar().clip, vec![second.id], true));
    assert_eq!((found.events[0].id, found.events[0].ended), (first.id, None));
    assert_eq!(
        (&found.events[0].identities, &found.events[0].snapshot),
        (&first.identities, &Some(snapshot))
    );

    assert!(!found.events[0].keep);
    store.keep(&crate::KeepTarget::Event(first.id), true).unwrap();

    first.ended = Some(WallTime(9_000_000));
    store.end_event(&first, &[]).unwrap();
    assert!(store.write_sidecar(CLIP, None).unwrap());
    let found = read(folder.path(), CLIP).unwrap().unwrap();
    assert_eq!((found.events[0].ended, found.keep), (first.ended, true), "the flag stays");
    assert!(found.events[0].keep, "the event has one of its own");

    std::fs::write(folder.path().join(path_of(CLIP)), b"{").unwrap();
    store.keep(&crate::KeepTarget::Event(first.id), false).unwrap();
    assert!(!store.is_kept(CLIP).unwrap());
    store.write_sidecar(CLIP, None).unwrap();
    assert!(read(folder.path(), CLIP).unwrap().unwrap().keep, "what nobody can read any more is kept");
    assert!(store.is_kept(CLIP).unwrap(), "and its rows, which alone are asked, say so");

    remove(folder.path(), CLIP).unwrap();
    store.write_sidecar(CLIP, None).unwrap();
    assert!(read(folder.path(), CLIP).unwrap().unwrap().keep, "a row says it where no sidecar does");
    store.keep(&crate::KeepTarget::parse(CLIP), false).unwrap();
    store.write_sidecar(CLIP, Some(false)).unwrap();
    store.write_sidecar(CLIP, None).unwrap();
    assert!(!read(folder.path(), CLIP).unwrap().unwrap().keep && !store.is_kept(CLIP).unwrap());
}

#[test]
fn the_sidecar_of_a_spool_that_was_set_aside_lies_in_it_and_goes_with_it() {
    let (folder, mut store) = store();
    let spool = "spool/set-aside/20261120T213114.123456Z_door_clip_0";
    std::fs::create_dir_all(folder.path().join(spool)).unwrap();
    let row = ClipRow::of_set_aside(spool.to_owned(), None, 9).unwrap();
    assert_eq!(
        (row.camera.as_str(), row.started, row.event),
        ("door", WallTime(1_795_210_274_123_456), None),
        "its name says whose it is"
    );
    assert_eq!(ClipRow::of_set_aside("spool/set-aside/junk".to_owned(), None, 9), None);
    store.add_clip(&row).unwrap();
    assert!(store.write_sidecar(spool, Some(true)).unwrap());
    assert!(read(folder.path(), spool).unwrap().unwrap().keep);
    let beside = std::fs::read_dir(folder.path().join("spool/set-aside")).unwrap().count();
    assert_eq!(beside, 1, "nothing stands beside it");
    crate::evict::Remover::new(folder.path(), Durability::Process).unwrap().remove(spool).unwrap();
    assert!(!folder.path().join(spool).exists());
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Sidecar::from_json(&bytes);
    }

    #[test]
    fn a_cut_file_is_noticed_and_a_changed_byte_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let json = sidecar().to_json();
        // The last byte is the line break.
        let cut = at.index(json.len() - 1);
        prop_assert!(Sidecar::from_json(&json[..cut]).is_err());
        let mut changed = json.clone();
        changed[cut] = byte;
        if let Ok(read) = Sidecar::from_json(&changed) {
            prop_assert_eq!(Sidecar::from_json(&read.to_json()).unwrap(), read);
        }
    }

    #[test]
    fn facts_survive(
        started in any::<i64>(), seq in any::<u64>(), score in 0.0_f32..=1.0, names in proptest::collection::vec(".*", 0..4),
        frames in any::<u64>(), keep in any::<bool>(), kept in any::<bool>(), over in any::<bool>(),
    ) {
        let mut one = sidecar();
        one.keep = keep;
        one.clip.frames = frames;
        let event = &mut one.events[0];
        (event.started, event.started_seq, event.score) = (WallTime(started), seq, score);
        event.keep = kept;
        event.ended = over.then_some(WallTime(started.saturating_add(5)));
        event.identities = names.into_iter().map(|name| name.chars().take(99).collect()).collect();
        prop_assert_eq!(Sidecar::from_json(&one.to_json()).unwrap(), one);
    }
}
