//! Whatever happens to the file of the database, a node starts, evidence is not touched, and nothing panics: bits that
//! flip, files that are cut, kills at any moment of a rebuild, a migration or a copy.

#![expect(clippy::unwrap_used, reason = "all of this file is tests, helpers included")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use meerkat_base::{CameraId, Event, EventId, EventKind, EventPhase, Sighting, WallTime};
use meerkat_store::{
    ClipRow, ClipState, DataLock, EventQuery, Fate, NewAlert, Opener, Store, StoreError, StoreOptions,
    StoreReader,
};
use proptest::prelude::*;

const TASK: &str = "MEERKAT_STORE_DAMAGE_TASK";
const FOLDER: &str = "MEERKAT_STORE_DAMAGE_FOLDER";
const DAY: &str = "capture/clip/door/2026-11-20";
const NOW: WallTime = WallTime(1_795_210_274_123_456);

fn event(n: u8) -> Event {
    let started = WallTime(NOW.0 + i64::from(n) * 60_000_000);
    Event {
        id: EventId::new(started, [n; 10]),
        camera: CameraId::parse("door").unwrap(),
        kind: EventKind::Person,
        phase: EventPhase::Started,
        started,
        started_seq: u64::from(n),
        ended: None,
        score: 0.5,
        identities: vec!["Ada".into()],
        sightings: (0..5).map(|seq| Sighting { wall: started, seq, detections: Vec::new() }).collect(),
    }
}

/// A data folder with `events` events, each with an alert, a clip and a sidecar, and a nightly copy half-way.
fn fill(folder: &Path, events: u8) {
    std::fs::create_dir_all(folder.join(DAY)).unwrap();
    let mut store = Store::open(folder, StoreOptions::default()).unwrap();
    for n in 0..events {
        let mut event = event(n);
        let alert = NewAlert {
            channel: "wecom".into(),
            payload: serde_json::json!({ "text": "somebody is at the door" }),
            snapshot: None,
            created: event.started,
        };
        store.start_event(&event, &[alert]).unwrap();
        event.ended = Some(event.started.offset_micros(5_000_000));
        store.end_event(&event, &[]).unwrap();
        let path = format!("{DAY}/{n}.mp4");
        std::fs::write(folder.join(&path), vec![n; 1_000]).unwrap();
        let row = ClipRow {
            event: Some(event.id),
            camera: event.camera.clone(),
            path: path.clone(),
            started: event.started,
            duration: Duration::from_secs(5),
            frames: 5,
            bytes: 1_000,
            sha256: None,
            state: ClipState::Ok,
            skipped: 0,
            missing: None,
        };
        store.add_clip(&row).unwrap();
        store.write_sidecar(&path, Some(n % 2 == 0)).unwrap();
        if n == events / 2 {
            store.nightly_backup(NOW, 7, &mut |_, _, _| {}).unwrap();
        }
    }
}

/// The lock of a folder that was let go of a moment ago: a child that another test starts at that moment holds a copy of
/// it until it becomes another program.
fn take(folder: &Path) -> DataLock {
    let give_up = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        match DataLock::take(folder) {
            Err(StoreError::Locked { .. }) if std::time::Instant::now() < give_up => std::thread::yield_now(),
            taken => return taken.unwrap(),
        }
    }
}

fn opener(folder: &Path) -> Arc<Opener> {
    let options = || StoreOptions { now: NOW, ..StoreOptions::default() };
    Opener::new(take(folder), options, |_| {})
}

fn evidence(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = std::fs::read_dir(folder.join(DAY)).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// Everything that a node asks and writes; errors are fine, panics are not.
fn use_everything(store: &mut Store) {
    let _ = store.close_orphans(NOW, |_| Fate::Ends(Vec::new()));
    for person in [None, Some("Ada".to_owned())] {
        let _ = store.recent_events(&EventQuery { limit: 500, person, ..EventQuery::default() });
    }
    for n in 0..40 {
        let _ = store.event(event(n).id);
        let _ = store.sightings(event(n).id, 0);
        let _ = store.alerts_of(event(n).id);
        let _ = store.end_event(&event(n), &[]);
    }
    let _ = store.due(NOW, None, 500);
    let _ = store.outbox_counts();
    let _ = store.people();
    let _ = store.gallery();
    let _ = store.deletion_suspended();
    let _ = store.start_event(&event(200), &[]);
    let _ = store.prune(NOW);
}

/// Starts on a damaged folder, uses it, starts once more. Returns whether the database was made anew at some time.
fn survive(folder: &Path, events: u8) -> bool {
    let before = evidence(folder);
    let mut made_anew = false;
    for _ in 0..3 {
        let opener = opener(folder);
        let mut store = opener.at_start(&mut |_, _, _| {}).unwrap();
        use_everything(&mut store);
        made_anew |= store.deletion_suspended().is_ok_and(|suspended| suspended.is_some());
        if made_anew {
            for n in 0..events {
                assert!(store.event(event(n).id).unwrap().is_some(), "event {n} is lost");
            }
        }
    }
    assert_eq!(evidence(folder), before, "evidence was touched");
    made_anew
}

fn template() -> &'static Path {
    static TEMPLATE: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    TEMPLATE
        .get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            fill(folder.path(), 40);
            folder
        })
        .path()
}

fn copy_of_template() -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                std::fs::create_dir(&target).unwrap();
                copy(&entry.path(), &target);
            } else {
                std::fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    copy(template(), folder.path());
    folder
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    #[test]
    fn bits_that_flip_anywhere(flips in proptest::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 1..12)) {
        let folder = copy_of_template();
        let path = folder.path().join("meerkat.db");
        let mut bytes = std::fs::read(&path).unwrap();
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        std::fs::write(&path, bytes).unwrap();
        survive(folder.path(), 40);
    }

    #[test]
    fn bits_that_flip_in_the_first_page(at in 0_usize..4_096, bit in 0_u8..8) {
        let folder = copy_of_template();
        let path = folder.path().join("meerkat.db");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[at] ^= 1 << bit;
        std::fs::write(&path, bytes).unwrap();
        survive(folder.path(), 40);
    }

    #[test]
    fn a_file_that_was_cut(at in any::<prop::sample::Index>()) {
        let folder = copy_of_template();
        let path = folder.path().join("meerkat.db");
        let len = std::fs::metadata(&path).unwrap().len();
        let cut = u64::try_from(at.index(usize::try_from(len).unwrap())).unwrap();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(cut).unwrap();
        survive(folder.path(), 40);
    }

    #[test]
    fn pages_of_something_else(page in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let folder = copy_of_template();
        let path = folder.path().join("meerkat.db");
        let pages = usize::try_from(std::fs::metadata(&path).unwrap().len() / 4_096).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[byte; 4_096], u64::try_from(page.index(pages)).unwrap() * 4_096).unwrap();
        drop(file);
        survive(folder.path(), 40);
    }
}

#[test]
fn a_log_of_another_database_is_no_end() {
    let folder = copy_of_template();
    let other = copy_of_template();
    {
        // A log that was not taken in, of a database that went its own way.
        let mut store = Store::open(other.path(), StoreOptions::default()).unwrap();
        for n in 100..130 {
            store.start_event(&event(n), &[]).unwrap();
        }
        std::fs::copy(other.path().join("meerkat.db-wal"), folder.path().join("meerkat.db-wal")).unwrap();
    }
    survive(folder.path(), 40);
}

/// The child: what it does is killed at some moment.
#[test]
fn child() {
    let (Some(task), Some(folder)) = (std::env::var_os(TASK), std::env::var_os(FOLDER)) else { return };
    let folder = PathBuf::from(folder);
    println!("begin");
    match task.to_str().unwrap() {
        "rebuild" | "migrate" => drop(opener(&folder).at_start(&mut |_, _, _| {}).unwrap()),
        "copy" => {
            let reader = StoreReader::open(&folder).unwrap();
            for n in 1.. {
                reader.nightly_backup(WallTime(NOW.0 + n * 1_000_000), 3, &mut |_, _, _| {}).unwrap();
            }
        }
        "restore" => {
            let lock = take(&folder);
            let options = StoreOptions { now: NOW, ..StoreOptions::default() };
            meerkat_store::saved::restore(&lock, options, &folder.join("shelf"), &mut |_, _, _| {}).unwrap();
        }
        other => panic!("{other}"),
    }
    println!("end");
}

/// Runs a task in a child and kills it so much later. Returns whether it had come to its end.
fn killed(task: &str, folder: &Path, after: Duration) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(TASK, task)
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = |wanted: &str| lines.by_ref().map_while(Result::ok).any(|line| line.ends_with(wanted));
    assert!(next("begin"));
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
    next("end")
}

/// Kills ever later until the task comes to its end; what is left is looked at each time.
fn kill_at_many_moments(task: &str, prepare: impl Fn(&Path), look: impl Fn(&Path)) {
    let mut after = Duration::ZERO;
    let mut ended = 0;
    for _ in 0..30 {
        let folder = copy_of_template();
        prepare(folder.path());
        let was_done = killed(task, folder.path(), after);
        look(folder.path());
        ended += u32::from(was_done);
        if ended >= 2 {
            return;
        }
        // No measure of time: only how finely the moments lie.
        after += Duration::from_millis(2).max(after / 4);
    }
}

fn spoil(folder: &Path) {
    let file = std::fs::OpenOptions::new().write(true).open(folder.join("meerkat.db")).unwrap();
    file.write_all_at(&[0x5a; 4_096], 0).unwrap();
}

#[test]
fn a_rebuild_that_is_killed_is_begun_again_or_complete() {
    kill_at_many_moments("rebuild", spoil, |folder| assert!(survive(folder, 40)));
}

#[test]
fn a_restore_that_is_killed_leaves_the_old_or_the_new() {
    let prepare = |folder: &Path| {
        meerkat_store::saved::save(folder, &folder.join("shelf"), "1", NOW, &mut |_, _, _| {}).unwrap();
    };
    kill_at_many_moments("restore", prepare, |folder| {
        let store = opener(folder).at_start(&mut |_, _, _| {}).unwrap();
        assert_eq!(store.event_count().unwrap(), 40);
    });
}

#[test]
fn a_copy_that_is_killed_is_no_copy() {
    let folder = copy_of_template();
    for round in 0..8 {
        killed("copy", folder.path(), Duration::from_millis(5 + 9 * round));
        for copy in meerkat_store::backup::list(folder.path()).unwrap() {
            let shelf = tempfile::tempdir().unwrap();
            std::fs::copy(&copy.path, shelf.path().join("meerkat.db")).unwrap();
            let store = Store::open(shelf.path(), StoreOptions::default()).unwrap();
            assert!(store.event_count().unwrap() > 0, "{}", copy.name);
        }
    }
    opener(folder.path()).at_start(&mut |_, _, _| {}).unwrap();
}

#[test]
fn a_database_from_the_future_is_left_alone() {
    let folder = copy_of_template();
    let path = folder.path().join("meerkat.db");
    let contents = std::fs::read(&path).unwrap();
    let mut newer = contents.clone();
    // `user_version` alone: that is damage, as the notes say otherwise.
    newer[60..64].copy_from_slice(&999_u32.to_be_bytes());
    std::fs::write(&path, &newer).unwrap();
    assert!(matches!(Store::open(folder.path(), StoreOptions::default()), Err(StoreError::Damaged { .. })));
    assert!(survive(folder.path(), 40));
}
