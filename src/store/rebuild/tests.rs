//! Tests of rebuilding: nothing of the evidence is touched, what the folders know comes back, nothing is sent twice.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use meerkat_base::{Event, ImageFormat};

use super::*;
use crate::database::{Store, StoreReader};
use crate::embedding::Embedding;
use crate::events::EventQuery;
use crate::faces::{Consent, Enrolling, FacePicture};
use crate::opening::Opener;
use crate::orphans::Fate;
use crate::outbox::OutboxState;
use crate::spool::{SpoolKind, SpoolMeta, SpoolWriter};
use crate::testing::{FAR, alert, event, frame, store};
use crate::{Durability, StoreError};

const DAY: &str = "capture/clip/door/2026-11-20";

/// The contents of all files below `capture/` and `spool/`.
fn evidence(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found)
            } else {
                drop(found.insert(path.clone(), std::fs::read(path).unwrap()))
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&folder.join("capture"), &mut found);
    walk(&folder.join("spool"), &mut found);
    found
}

/// An event that is over, with a clip, its sidecar and a snapshot.
fn recorded(folder: &Path, store: &mut Store, n: u8, keep: bool) -> Event {
    std::fs::create_dir_all(folder.join(DAY)).unwrap();
    let mut event = event(n);
    event.identities = vec![format!("person {n}")];
    store.start_event(&event, &[alert("wecom")]).unwrap();
    event.ended = Some(event.started.offset_micros(500_000));
    store.end_event(&event, &[]).unwrap();
    let (clip, picture) =
        (format!("{DAY}/{n}.mp4"), format!("{DAY}/{}_{}.jpg", event.started.compact(), event.id));
    std::fs::write(folder.join(&clip), format!("clip {n}")).unwrap();
    std::fs::write(folder.join(&picture), b"jpeg").unwrap();
    let row = ClipRow {
        event: Some(event.id),
        camera: event.camera.clone(),
        path: clip.clone(),
        started: event.started,
        duration: Duration::from_millis(500),
        frames: 5,
        bytes: 6,
        sha256: None,
        state: ClipState::Ok,
        skipped: 0,
        missing: None,
    };
    store.add_clip(&row).unwrap();
    store
        .add_snapshot(&SnapshotRow { event: event.id, path: picture, taken: event.started, bytes: 4 })
        .unwrap();
    store.write_sidecar(&clip, Some(keep)).unwrap();
    event
}

fn opener(folder: &Path) -> (Arc<Opener>, Arc<Mutex<Vec<Rebuilt>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let own = Arc::clone(&heard);
    let options = || StoreOptions { now: WallTime(1_795_210_274_123_456), ..StoreOptions::default() };
    let opener = Opener::new(DataLock::take(folder).unwrap(), options, move |rebuilt| {
        own.lock().unwrap().push(rebuilt.clone());
    });
    (opener, heard)
}

fn damage(folder: &Path) -> Vec<u8> {
    let path = folder.join(DATABASE);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0x5a; 4096], 0).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn a_damaged_database_is_set_aside_and_made_anew() {
    let (folder, mut store) = store();
    let path = folder.path();
    let first = recorded(path, &mut store, 1, false);
    store.nightly_backup(WallTime(5), 7, &mut |_, _, _| {}).unwrap();
    let second = recorded(path, &mut store, 2, true);
    drop(store);
    let damaged = damage(path);
    let before = evidence(path);

    assert!(matches!(Store::open(path, StoreOptions::default()), Err(StoreError::Damaged { .. })));
    let (opener, heard) = opener(path);
    let mut store = opener.at_start(&mut |_, _, _| {}).unwrap();
    let rebuilt = heard.lock().unwrap().remove(0);
    assert_eq!(
        (rebuilt.events, rebuilt.clips, rebuilt.snapshots, rebuilt.dead_alerts),
        (1, 1, 1, 1),
        "{rebuilt}"
    );
    assert!(rebuilt.base.as_deref().is_some_and(|base| base.starts_with("nightly-")));
    assert_eq!(std::fs::read(rebuilt.aside.join(DATABASE)).unwrap(), damaged, "it is kept as it was");
    assert_eq!(evidence(path), before, "evidence is only read");

    for wanted in [&first, &second] {
        let row = store.event(wanted.id).unwrap().unwrap();
        assert_eq!(
            (row.started, row.ended, row.identities.clone()),
            (wanted.started, wanted.ended, wanted.identities.clone())
        );
        assert_eq!(row.clips.len(), 1);
        assert!(row.snapshot.is_some());
    }
    let by_person = EventQuery { limit: 9, person: Some("person 2".into()), ..EventQuery::default() };
    assert_eq!(store.recent_events(&by_person).unwrap().len(), 1);
    // The alert of the first waited in the copy: nobody gets it a second time, and nobody wonders where it is.
    assert_eq!(store.due(FAR, None, 9).unwrap(), []);
    let dead = &store.alerts_of(first.id).unwrap()[0];
    assert_eq!(dead.state, OutboxState::Dead);
    assert!(dead.last_error.as_deref().unwrap().contains("rebuilt"));
    assert!(store.deletion_suspended().unwrap().is_some());

    // It works, and the next start finds nothing to do.
    store.start_event(&event(3), &[alert("wecom")]).unwrap();
    drop(store);
    let store = opener.at_start(&mut |_, _, _| {}).unwrap();
    assert!(heard.lock().unwrap().is_empty());
    assert_eq!(store.event_count().unwrap(), 3);
}

#[test]
fn what_was_to_be_kept_is_kept_also_in_a_database_that_was_made_anew() {
    for backup in [false, true] {
        let (folder, mut store) = store();
        let path = folder.path();
        let (event, other) = (recorded(path, &mut store, 1, false), recorded(path, &mut store, 2, false));
        // A picture before the one that the sidecar names, and a clip whose sidecar nobody can read.
        let early = format!("{DAY}/{}_{}.jpg", event.started.offset_micros(-9).compact(), event.id);
        let bare = format!("{DAY}/{}_{}.mp4", event.started.offset_micros(-8).compact(), event.id);
        for file in [&early, &bare] {
            std::fs::write(path.join(file), b"file").unwrap();
        }
        if backup {
            store.nightly_backup(WallTime(5), 7, &mut |_, _, _| {}).unwrap();
        }
        // Somebody wants to keep the event, and of the other one its clip alone.
        let single = format!("{DAY}/2.mp4");
        let targets = [crate::KeepTarget::Event(event.id), crate::KeepTarget::Path(single.clone())];
        for target in targets {
            for clip in store.keep(&target, true).unwrap().unwrap() {
                store.write_sidecar(&clip, Some(true)).unwrap();
            }
        }
        drop(store);
        damage(path);
        let (opener, _) = opener(path);
        let mut store = opener.at_start(&mut |_, _, _| {}).unwrap();
        assert!(store.event(event.id).unwrap().unwrap().kept, "from a copy: {backup}");
        assert!(!store.event(other.id).unwrap().unwrap().kept);
        assert!(store.is_kept(&single).unwrap() && store.is_kept(&bare).unwrap());
        store.confirm().unwrap();
        let left = store.evictable(crate::retention::EvictPlace::default(), 99).unwrap().0;
        let left: Vec<String> = left.into_iter().map(|one| one.path).collect();
        assert_eq!(left, [format!("{DAY}/{}_{}.jpg", other.started.compact(), other.id)]);
        // Also what is recorded of it later.
        let late = ClipRow { path: format!("{DAY}/late.mp4"), ..crate::testing::clip(&event, "x") };
        store.add_clip(&late).unwrap();
        assert!(store.is_kept(&late.path).unwrap());
    }
}

#[test]
fn who_was_removed_since_the_copy_does_not_come_back() {
    let (folder, mut store) = store();
    let path = folder.path();
    let consent = Consent { by: "themselves".into(), at: WallTime(1) };
    let embedding = Embedding { space: "net".into(), values: vec![1.0, 0.0] };
    let picture = FacePicture { bytes: b"jpeg", format: ImageFormat::Jpeg, embedding: Some(&embedding) };
    let enrol = |store: &mut Store, name: &str| {
        let enrolling = Enrolling { name, pictures: &[picture], consent: &consent, group: None };
        store.enrol_faces(&enrolling, WallTime(1)).unwrap()
    };
    let removed = enrol(&mut store, "Ada");
    enrol(&mut store, "Bob");
    store.add_negative("Bob", &picture, None, WallTime(2)).unwrap();
    let seen = event(1);
    for name in ["Ada", "Bob"] {
        store.check_in(name, &seen.camera, seen.started, seen.id, Duration::ZERO).unwrap();
    }
    store.nightly_backup(WallTime(5), 7, &mut |_, _, _| {}).unwrap();
    let generation = store.gallery_generation().unwrap();
    // What showed Ada and was said not to be Bob goes with her.
    assert_eq!(store.remove_person("Ada", 0.4).unwrap().unwrap().negatives, 1);
    drop(store);
    damage(path);

    let (opener, heard) = opener(path);
    let mut store = opener.at_start(&mut |_, _, _| {}).unwrap();
    assert_eq!(heard.lock().unwrap().remove(0).removed_people, 1);
    let known = |store: &Store| -> Vec<String> {
        store.people().unwrap().into_iter().map(|person| person.name).collect()
    };
    assert_eq!(known(&store), ["Bob"]);
    let rows = |store: &Store, table: &str| -> i64 {
        store.raw().query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    };
    let left = ["people", "face_pictures", "face_negatives", "attendance"].map(|table| rows(&store, table));
    assert_eq!(left, [1, 1, 0, 1], "not only hidden: the next copy would have it");
    assert!(store.gallery_generation().unwrap() > generation, "recognition looks again");

    // Somebody who is enrolled anew is somebody else.
    assert_ne!(enrol(&mut store, "Ada").id, removed.id);
    store.nightly_backup(WallTime(6), 7, &mut |_, _, _| {}).unwrap();
    drop(store);
    damage(path);
    let store = opener.at_start(&mut |_, _, _| {}).unwrap();
    assert_eq!(heard.lock().unwrap().remove(0).removed_people, 0);
    assert_eq!(known(&store), ["Ada", "Bob"]);
}

#[test]
fn a_database_that_is_gone_or_empty_comes_back_from_the_folders() {
    for empty in [false, true] {
        let (folder, mut store) = store();
        let wanted = recorded(folder.path(), &mut store, 1, true);
        drop(store);
        std::fs::remove_file(folder.path().join(DATABASE)).unwrap();
        if empty {
            std::fs::write(folder.path().join(DATABASE), b"").unwrap();
        }
        let (opener, heard) = opener(folder.path());
        let store = opener.at_start(&mut |_, _, _| {}).unwrap();
        assert_eq!(heard.lock().unwrap()[0].base, None);
        assert_eq!(store.event(wanted.id).unwrap().unwrap().clips.len(), 1);
    }
    let temp = tempfile::tempdir().unwrap();
    let (opener, heard) = opener(temp.path());
    opener.at_start(&mut |_, _, _| {}).unwrap();
    assert!(heard.lock().unwrap().is_empty(), "a new folder is no damage");
}

#[test]
fn files_without_a_good_sidecar_are_known_by_their_names() {
    let (folder, mut store) = store();
    let path = folder.path();
    let wanted = recorded(path, &mut store, 1, true);
    drop(store);
    std::fs::write(path.join(DAY).join("1.mp4.json"), b"{").unwrap();
    let bare = format!("{DAY}/20261120T213114.123456Z_{}.mp4", event(7).id);
    std::fs::write(path.join(&bare), b"clip").unwrap();
    let video = "capture/video/fe80--1_2/2026-11-20/20261120T213114.000000Z_fe80--1_2.mp4";
    std::fs::create_dir_all(path.join(video).parent().unwrap()).unwrap();
    std::fs::write(path.join(video), b"video").unwrap();
    std::fs::write(path.join(DAY).join(".part-x-1.mp4"), b"half").unwrap();
    damage(path);
    let before = evidence(path);

    let (opener, heard) = opener(path);
    let store = opener.at_start(&mut |_, _, _| {}).unwrap();
    let rebuilt = heard.lock().unwrap().remove(0);
    assert_eq!(
        (rebuilt.unreadable, rebuilt.clips, rebuilt.snapshots, rebuilt.events),
        (1, 3, 1, 0),
        "{rebuilt}"
    );
    let row = store.clip_at(&bare).unwrap().unwrap();
    assert_eq!((row.event, row.started, row.bytes), (Some(event(7).id), WallTime(1_795_210_274_123_456), 4));
    let row = store.clip_at(video).unwrap().unwrap();
    assert_eq!((row.event, row.camera.as_str()), (None, "fe80::1~2"));
    assert_eq!(store.event(wanted.id).unwrap(), None, "nothing says what kind of event it was");
    assert!(store.is_kept(&format!("{DAY}/1.mp4")).unwrap(), "nobody can read any more whether it was kept");
    assert!(!store.is_kept(&bare).unwrap() && !store.is_kept(video).unwrap());
    assert_eq!(evidence(path), before);
}

#[test]
fn a_clip_that_an_older_copy_knows_is_kept_when_its_sidecar_cannot_be_read() {
    let (folder, mut store) = store();
    let path = folder.path();
    for n in 1..=2 {
        recorded(path, &mut store, n, false);
    }
    store.nightly_backup(WallTime(5), 7, &mut |_, _, _| {}).unwrap();
    drop(store);
    std::fs::write(path.join(DAY).join("1.mp4.json"), b"{").unwrap();
    damage(path);
    let (opener, _) = opener(path);
    let store = opener.at_start(&mut |_, _, _| {}).unwrap();
    let kept = [1, 2].map(|n| store.is_kept(&format!("{DAY}/{n}.mp4")).unwrap());
    assert_eq!(kept, [true, false]);
}

#[test]
fn an_event_whose_clip_is_not_made_yet_comes_from_its_spool() {
    let (folder, mut store) = store();
    let event = event(1);
    store.start_event(&event, &[]).unwrap();
    let meta = SpoolMeta {
        camera: event.camera.clone(),
        kind: SpoolKind::Clip { event: event.id },
        started: event.started,
        mode: meerkat_base::Mode::People,
        settings: sidecar::note(&event),
    };
    std::fs::create_dir(folder.path().join("spool")).unwrap();
    let mut writer = SpoolWriter::create(&folder.path().join("spool"), &meta, Durability::Process).unwrap();
    writer.append(&frame(1, &b"jpeg"[..])).unwrap();
    drop(store);
    store_copy_with_nothing(folder.path());
    damage(folder.path());
    let (opener, _) = opener(folder.path());
    let mut store = opener.at_start(&mut |_, _, _| {}).unwrap();
    let row = store.event(event.id).unwrap().unwrap();
    assert_eq!((row.kind, row.started, row.ended), (event.kind, event.started, None));
    assert_eq!(store.close_orphans(WallTime(9_000_000), |_| Fate::Ends(Vec::new())).unwrap(), 1);
}

#[test]
fn recordings_that_were_set_aside_come_back_with_their_events_and_are_kept_if_they_were() {
    let (folder, mut store) = store();
    let root = folder.path().join("spool");
    let events = [event(1), event(2)];
    let spools = events.each_ref().map(|event| {
        store.start_event(event, &[]).unwrap();
        let meta = SpoolMeta {
            camera: event.camera.clone(),
            kind: SpoolKind::Clip { event: event.id },
            started: event.started,
            mode: meerkat_base::Mode::People,
            settings: sidecar::note(event),
        };
        let mut writer = SpoolWriter::create(&root, &meta, Durability::Process).unwrap();
        writer.append(&frame(1, &b"no jpeg"[..])).unwrap();
        let aside = crate::spool::set_aside(&writer.finish().unwrap().path).unwrap();
        let path = format!("spool/set-aside/{}", aside.file_name().unwrap().to_str().unwrap());
        store.add_clip(&ClipRow::of_set_aside(path.clone(), Some(&meta), 7).unwrap()).unwrap();
        path
    });
    let kept = store.keep(&crate::KeepTarget::Event(events[0].id), true).unwrap().unwrap();
    assert_eq!(kept, [spools[0].clone()]);
    store.write_sidecar(&spools[0], Some(true)).unwrap();
    drop(store);
    damage(folder.path());
    let (opener, heard) = opener(folder.path());
    let store = opener.at_start(&mut |_, _, _| {}).unwrap();
    assert_eq!(heard.lock().unwrap()[0].clips, 2);
    for (event, spool) in events.iter().zip(&spools) {
        let row = store.event(event.id).unwrap().unwrap();
        let clips: Vec<_> = row.clips.iter().map(|clip| (&clip.path, clip.state)).collect();
        assert_eq!(clips, [(spool, ClipState::SetAside)]);
    }
    assert!(store.is_kept(&spools[0]).unwrap() && !store.is_kept(&spools[1]).unwrap());
}

/// An unusable copy: it is passed over.
fn store_copy_with_nothing(folder: &Path) {
    std::fs::create_dir_all(folder.join("backup")).unwrap();
    std::fs::write(folder.join("backup/nightly-20991231T000000.000000Z.db"), b"dear diary").unwrap();
}

#[test]
fn damage_while_the_node_runs_is_repaired_beside_it() {
    let (folder, mut store) = store();
    let wanted = recorded(folder.path(), &mut store, 1, false);
    drop(store);
    let (opener, heard) = opener(folder.path());
    let store = opener.at_start(&mut |_, _, _| {}).unwrap();
    let reader = StoreReader::open(folder.path()).unwrap();
    assert!(reader.is_current());

    // A false alarm: all of it is looked at, nothing is made anew.
    store.suspect();
    drop(store);
    let again = || {
        assert!(matches!(opener.again(), Err(StoreError::Rebuilding)));
        loop {
            match opener.again() {
                Ok(store) => return store,
                Err(StoreError::Rebuilding) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    };
    let store = again();
    assert!(heard.lock().unwrap().is_empty() && reader.is_current());

    damage(folder.path());
    store.suspect();
    let mut fresh = again();
    assert_eq!(heard.lock().unwrap().len(), 1);
    assert!(!reader.is_current());
    fresh.start_event(&event(9), &[]).unwrap();
    // Those who had the old one open let go of it: that must not touch the log of the new one.
    drop(store);
    drop(reader);
    let log = std::fs::metadata(folder.path().join("meerkat.db-wal")).unwrap().len();
    assert!(log > 0);
    let reader = StoreReader::open(folder.path()).unwrap();
    assert_eq!(reader.event_count().unwrap(), 2);
    assert!(reader.event(wanted.id).unwrap().is_some());
}

#[test]
fn folder_names_become_cameras_again() {
    for camera in ["door", "a_2", "10.0.0.7", "10.0.0.7~2", "fe80::1", "fe80::1~2"] {
        let id = CameraId::from_shown(camera).unwrap();
        let path = format!("capture/clip/{}/2026-11-20/a.mp4", id.folder());
        assert_eq!(camera_of(&path), Some(id), "{path}");
    }
    assert_eq!(camera_of("capture/clip/ODD NAME/x/a.mp4"), None);
    let moment = WallTime(1_795_210_274_123_456);
    assert_eq!(from_compact(&moment.compact()), Some(moment));
    assert_eq!(from_compact("yesterday"), None);
}
