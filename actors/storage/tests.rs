//! The evictor on a real folder and a real database: what goes, in which order, and what never does.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use meerkat_base::{CameraId, Clock, Event, EventKind, ManualClock, Notice, NoticeSink, WallTime};
use meerkat_store::{
    ClipRow, ClipState, DataFolder, DataLock, Durability, Embedding, KeepTarget, NewAlert, NewUnknown,
    SnapshotRow, Store, StoreOptions, UnknownLimits,
};
use tempfile::TempDir;

use super::*;
use crate::archivist::Archivist;
use crate::supervision::{BackoffSettings, Board, Component, Crew, CrewSettings};
use crate::testing::{NOON, settings};

const DAY: i64 = 86_400_000_000;

#[derive(Default)]
struct Heard(Mutex<Vec<(EventKind, bool)>>);

impl NoticeSink for Heard {
    fn raise(&self, notice: Notice) {
        self.0.lock().unwrap().push((notice.kind, notice.holds));
    }
}

struct Rig {
    folder: TempDir,
    clock: ManualClock,
    archivist: Archivist,
    room: Arc<Room>,
    state: StorageState,
    heard: Arc<Heard>,
    tools: Arc<EvictorTools>,
    _crew: Crew,
}

impl Rig {
    fn new(changes: &[(&str, &str)]) -> Self {
        Self::in_folder(tempfile::tempdir().unwrap(), changes)
    }

    fn in_folder(folder: TempDir, changes: &[(&str, &str)]) -> Self {
        let clock = ManualClock::new(NOON);
        let board = Board::new(Arc::new(clock.clone()));
        let backoff = BackoffSettings { min: Duration::from_millis(20), max: Duration::from_millis(50) };
        let crew = Crew::start(CrewSettings { name: "archive", threads: 1, niceness: 0, backoff }, board);
        let mut wanted = vec![("storage.ballast_bytes", "0"), ("storage.free_floor_bytes", "1")];
        wanted.extend_from_slice(changes);
        let settings = settings(&wanted);
        let heard = Arc::new(Heard::default());
        let data = Arc::new(DataFolder::open(folder.path()).unwrap());
        let room = Arc::new(Room::new(data, &settings.storage, heard.clone()));
        let lock = DataLock::take(folder.path()).unwrap();
        let first = Store::open_under(&lock, StoreOptions::default()).unwrap();
        let archivist =
            Archivist::start(&crew, Duration::from_secs(10), first, Arc::clone(&room), move || {
                Store::open_under(&lock, StoreOptions::default())
            });
        let state = StorageState::default();
        let tools = Arc::new(EvictorTools {
            room: Arc::clone(&room),
            durability: Durability::Process,
            archivist: archivist.clone(),
            clock: Arc::new(clock.clone()),
            notices: heard.clone(),
            retention: Arc::new(RwLock::new(settings.retention.clone())),
            faces: Arc::new(RwLock::new(settings.faces)),
            storage: settings.storage.clone(),
            cameras: settings.cameras.keys().cloned().collect(),
            state: state.clone(),
            suspended: Arc::new(|_| None),
        });
        Self { folder, clock, archivist, room, state, heard, tools, _crew: crew }
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    fn put(&self, relative: &str) {
        put(self.folder.path(), relative);
    }

    /// A clip with its event, sidecar and snapshot; `at` in days before now. Returns the event.
    fn clip(&self, n: u8, at: i64, kind: EventKind) -> Event {
        let started = WallTime(NOON.0 - at * DAY + i64::from(n));
        let event = Event { kind, camera: CameraId::parse("door").unwrap(), ..event(started, n) };
        let folder = format!("capture/clip/door/{}", started.date());
        let clip = ClipRow {
            event: Some(event.id),
            camera: event.camera.clone(),
            path: format!("{folder}/{n}.mp4"),
            started,
            duration: Duration::from_secs(1),
            frames: 1,
            bytes: 1_000,
            sha256: None,
            state: ClipState::Ok,
            skipped: 0,
            missing: None,
        };
        let shot = SnapshotRow {
            event: event.id,
            path: format!("{folder}/{n}.jpg"),
            taken: started.offset_micros(1),
            bytes: 10,
        };
        for path in [&clip.path, &shot.path, &format!("{}.json", clip.path)] {
            self.put(path);
        }
        let row = event.clone();
        self.ask(move |store| {
            store.end_event(&row, &[])?;
            store.add_clip(&clip)?;
            store.add_snapshot(&shot)
        });
        event
    }

    fn ask<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> meerkat_store::Result<R> + Send + 'static,
    ) -> R {
        self.archivist.ask_blocking(work).unwrap()
    }

    /// Names of the clips that are left.
    fn left(&self) -> Vec<String> {
        let mut names = Vec::new();
        for day in std::fs::read_dir(self.path("capture/clip/door")).into_iter().flatten() {
            for file in std::fs::read_dir(day.unwrap().path()).unwrap() {
                names.push(file.unwrap().file_name().into_string().unwrap());
            }
        }
        names.sort();
        names
    }

    fn hands(&self) -> hands::Hands {
        hands::Hands::open(&self.room, Durability::Process, &self.archivist, &self.state).unwrap()
    }

    fn sweep(&self, by_age: bool) {
        let rules = self.tools.retention.read().unwrap().clone();
        let mut sweep = sweep::Sweep::new(rules, self.clock.wall(), by_age, &self.state.report().cameras);
        let mut hands = self.hands();
        while !sweep.step(&mut hands).unwrap() {}
    }
}

fn put(folder: &Path, relative: &str) {
    let path = folder.join(relative);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, vec![0; 1_000]).unwrap();
}

fn event(started: WallTime, n: u8) -> Event {
    let camera = crate::testing::camera(&crate::testing::cameras(&ManualClock::new(NOON), &[]), "door");
    let (frame, _) = crate::testing::frame(&camera, &ManualClock::new(started));
    crate::testing::event(&frame, n)
}

#[test]
fn what_is_too_old_goes_by_kind_and_what_is_kept_stays() {
    let rig = Rig::new(&[("retention.kinds.motion.days", "7"), ("retention.days", "30")]);
    let _ = rig.clip(1, 40, EventKind::Motion);
    let kept = rig.clip(2, 40, EventKind::Person);
    let _ = rig.clip(3, 10, EventKind::Motion);
    let _ = rig.clip(4, 10, EventKind::Person);
    let shared = rig.clip(5, 10, EventKind::Motion);
    // A clip of two events stays as long as the more patient one says.
    let person = rig.clip(6, 1, EventKind::Person);
    let path = format!("capture/clip/door/{}/5.mp4", shared.started.date());
    let row = rig.ask(move |store| store.clip_at(&path)).unwrap();
    rig.ask(move |store| store.add_clip(&ClipRow { event: Some(person.id), ..row }));
    rig.ask(move |store| store.keep(&KeepTarget::Event(kept.id), true));
    rig.sweep(false);
    assert_eq!(rig.left().len(), 18, "not while the clock is in doubt");
    rig.sweep(true);
    let names = rig.left();
    let clips: Vec<&str> = names.iter().filter(|n| n.ends_with(".mp4")).map(String::as_str).collect();
    assert_eq!(clips, ["2.mp4", "4.mp4", "5.mp4", "6.mp4"], "{names:?}");
    assert!(!names.contains(&"3.jpg".to_owned()) && !names.contains(&"1.mp4.json".to_owned()));
    let rows = rig.ask(|store| store.deletions_begun(9));
    assert!(rows.is_empty());
    assert_eq!(
        rig.ask(|store| store.event_count()),
        5,
        "the row of an old event of which nothing is left went too"
    );
}

#[test]
fn more_than_may_be_goes_oldest_first_per_camera_and_kind() {
    let rig = Rig::new(&[("retention.kinds.clip.bytes", "2500"), ("retention.kinds.snapshot.bytes", "0")]);
    for n in 1..=5 {
        let _ =
            rig.clip(n, 10 - i64::from(n), if n % 2 == 0 { EventKind::Motion } else { EventKind::Person });
    }
    for n in 0..4 {
        let at = NOON.offset_micros(n);
        rig.put(&format!("capture/image/yard/{}/{}_b_{n}.jpg", at.date(), at.compact()));
    }
    rig.sweep(true);
    let names = rig.left();
    let clips: Vec<&str> = names.iter().filter(|n| n.ends_with(".mp4")).map(String::as_str).collect();
    assert_eq!(clips, ["4.mp4", "5.mp4"]);
    assert_eq!(names.iter().filter(|n| n.ends_with(".jpg")).count(), 5, "snapshots have no limit here");
}

#[test]
fn pictures_of_mode_1_go_by_whole_days_and_by_bytes() {
    let rig = Rig::new(&[("retention.kinds.image.days", "2"), ("retention.kinds.image.bytes", "2500")]);
    let image = |camera: &str, days: i64, n: i64| {
        let at = NOON.offset_micros(-days * DAY + n);
        let path = format!("capture/image/{camera}/{}/{}_b_{n}.jpg", at.date(), at.compact());
        rig.put(&path);
        path
    };
    let gone = [image("yard", 3, 1), image("yard", 4, 2), image("10.0.0.1", 9, 1)];
    let (over, kept) =
        ([image("yard", 1, 1), image("gate", 1, 2)], [image("yard", 0, 1), image("gate", 0, 2)]);
    // As the evictor has counted before.
    let mut walk = meerkat_store::disk::UsageWalk::new(rig.folder.path());
    while walk.step(100).is_none() {}
    rig.state.lock().cameras = walk.cameras().clone();
    rig.sweep(true);
    let is_there = |path: &String| rig.path(path).exists();
    assert!(!gone.iter().any(is_there), "they are older than two days");
    assert!(
        !over.iter().any(is_there) && kept.iter().all(is_there),
        "cameras without a section count as one"
    );
    assert!(!rig.path("capture/image/10.0.0.1").join("2026-11-11").exists(), "empty days go");
}

#[test]
fn room_is_made_oldest_first_over_everything_and_never_of_what_is_kept() {
    // More than any disk has free: everything that may go has to.
    let rig = Rig::new(&[("storage.free_floor_bytes", "1125899906842624")]);
    let kept = rig.clip(1, 9, EventKind::Person);
    let awaited = rig.clip(2, 8, EventKind::Person);
    let _ = rig.clip(3, 2, EventKind::Motion);
    let old = NOON.offset_micros(-5 * DAY);
    let picture = format!("capture/image/yard/{}/{}_b_1.jpg", old.date(), old.compact());
    rig.put(&picture);
    rig.put("spool/set-aside/20260101T000000.000000Z_door_clip_00/frames");
    rig.put("spool/20260101T000000.000000Z_door_clip_01/frames");
    rig.ask(move |store| store.keep(&KeepTarget::Event(kept.id), true));
    let alert = NewAlert {
        channel: "wecom".into(),
        payload: serde_json::json!({}),
        snapshot: None,
        created: awaited.started,
    };
    rig.ask(move |store| {
        store.end_event(&Event { id: awaited.id, ..awaited.clone() }, &[]).and_then(|()| {
            let event = Event { started: awaited.started, ended: None, ..awaited.clone() };
            store.start_event(&event, &[alert])
        })
    });
    let reader = meerkat_store::StoreReader::open(rig.folder.path()).unwrap();
    let planned = plan(&reader, &rig.tools.retention.read().unwrap(), 99).unwrap();
    let order: Vec<&str> = planned.iter().map(|one| one.path.rsplit('/').next().unwrap()).collect();
    assert_eq!(order[0], "20260101T000000.000000Z_door_clip_00");
    assert!(order[1].ends_with("_b_1.jpg"), "{order:?}");
    assert_eq!(order[2..4], ["3.mp4", "3.jpg"]);
    assert_eq!(order[4..], ["2.mp4", "2.jpg"], "an alert that waits still shows it");
    assert!(planned[4].awaited && planned[4].by_age.is_none());

    let mut evictor = Evictor::new(Arc::clone(&rig.tools));
    let give_up = std::time::Instant::now() + Duration::from_secs(30);
    while !rig.state.report().nothing_may_go {
        evictor.step().unwrap();
        assert!(std::time::Instant::now() < give_up, "it ends when nothing may go");
    }
    assert_eq!(rig.left(), ["1.jpg", "1.mp4", "1.mp4.json"]);
    assert!(!rig.path(&picture).exists());
    assert!(rig.path("spool/20260101T000000.000000Z_door_clip_01/frames").exists(), "somebody works on it");
    assert!(matches!(rig.room.answer(), Err(Refusal::Full(_))));
    evictor.step().unwrap();
    std::thread::yield_now();
    let heard = rig.heard.0.lock().unwrap().clone();
    assert!(heard.contains(&(EventKind::RecordingRefused, true)), "{heard:?}");
    let report = rig.state.report();
    assert_eq!((report.deleted_files, rig.ask(|store| store.deletions_begun(9)).len()), (6, 0));
}

#[test]
fn a_refusal_of_long_ago_takes_nothing_from_what_comes_later() {
    let rig = Rig::new(&[]);
    let full = || meerkat_store::StoreError::Io {
        path: "x".into(),
        source: std::io::Error::from(std::io::ErrorKind::StorageFull),
    };
    let mut evictor = Evictor::new(Arc::clone(&rig.tools));
    let _ = evictor.step().unwrap();
    // The disk says that it has room, and refuses: there is nothing that could go.
    rig.room.failed(&full());
    assert!(rig.room.needed() > 0);
    for _ in 0..5 {
        evictor.step().unwrap();
    }
    assert_eq!(rig.room.needed(), 0, "nothing is to be had");
    let _ = rig.clip(1, 1, EventKind::Person);
    for _ in 0..5 {
        evictor.step().unwrap();
    }
    assert_eq!(rig.left(), ["1.jpg", "1.mp4", "1.mp4.json"]);
    // The next refusal makes some room, once.
    let _ = rig.clip(2, 0, EventKind::Person);
    rig.room.failed(&full());
    for _ in 0..9 {
        evictor.step().unwrap();
    }
    assert!(rig.left().len() < 6 && rig.room.needed() == 0, "{:?}", rig.left());
}

#[test]
fn a_start_goes_on_with_what_a_crash_interrupted() {
    let rig = Rig::new(&[]);
    let event = rig.clip(1, 1, EventKind::Person);
    let _ = rig.clip(2, 1, EventKind::Person);
    let path = format!("capture/clip/door/{}/1.mp4", event.started.date());
    let marked = vec![path.clone()];
    assert_eq!(rig.ask(move |store| store.begin_deletion(&marked)), std::slice::from_ref(&path));
    // The crash came before the file was removed.
    let mut evictor = Evictor::new(Arc::clone(&rig.tools));
    evictor.step().unwrap();
    assert!(!rig.path(&path).exists() && !rig.path(&format!("{path}.json")).exists());
    assert_eq!(rig.ask(move |store| store.clip_at(&path)), None);
    assert_eq!(rig.left(), ["1.jpg", "2.jpg", "2.mp4", "2.mp4.json"]);
}

#[test]
fn a_clock_that_jumps_stops_deletion_by_age_until_a_person_confirms_it_also_over_a_restart() {
    let rig = Rig::new(&[("retention.days", "30")]);
    let _ = rig.clip(1, 1, EventKind::Person);
    let mut evictor = Evictor::new(Arc::clone(&rig.tools));
    evictor.step().unwrap();
    assert_eq!(rig.state.report().clock_doubt, None);
    rig.clock.jump_wall(400 * DAY);
    let look = |evictor: &mut Evictor| {
        // It looks twice a second.
        let give_up = std::time::Instant::now() + Duration::from_secs(30);
        let before = rig.heard.0.lock().unwrap().len();
        while rig.heard.0.lock().unwrap().len() == before {
            evictor.step().unwrap();
            assert!(std::time::Instant::now() < give_up, "it looks at the clock");
        }
    };
    look(&mut evictor);
    assert!(rig.state.report().clock_doubt.is_some());
    // Another evictor, as after a restart, knows it too.
    rig.state.lock().clock_doubt = None;
    let mut again = Evictor::new(Arc::clone(&rig.tools));
    look(&mut again);
    assert!(rig.state.report().clock_doubt.is_some());
    assert!(rig.state.confirm_clock());
    look(&mut again);
    assert_eq!(rig.state.report().clock_doubt, None);
    let heard = rig.heard.0.lock().unwrap().clone();
    assert_eq!(heard, [true, true, false].map(|holds| (EventKind::ClockJump, holds)));
    assert_eq!(rig.left().len(), 3, "nothing went meanwhile");
}

#[test]
fn unknown_faces_go_when_their_time_is_over_but_not_by_a_clock_in_doubt() {
    let rig = Rig::new(&[]);
    let limits = UnknownLimits { likeness: 0.5, groups: 9, pictures: 9, bytes: 1 << 20 };
    for (n, days) in [(0, 8), (1, 6)] {
        let mut values = vec![0.0; 2];
        values[n] = 1.0;
        let face = NewUnknown {
            camera: CameraId::parse("door").unwrap(),
            at: WallTime(NOON.0 - days * DAY),
            width_px: 50.0,
            jpeg: b"jpeg".to_vec(),
            embedding: Embedding { space: "net".into(), values },
        };
        rig.ask(move |store| store.keep_unknown(&face, &limits));
    }
    let left = |keep: Option<Duration>, by_age| {
        unknown::tidy(&rig.hands(), keep, by_age, rig.clock.wall()).unwrap();
        let files = std::fs::read_dir(rig.path("unknown")).unwrap().count();
        (rig.ask(|store| store.unknown_totals()).groups, files)
    };
    let week = rig.tools.faces.read().unwrap().unknown_keep;
    assert_eq!(week, Some(Duration::from_secs(7 * 86_400)));
    assert_eq!(left(week, false), (2, 2));
    assert_eq!(left(week, true), (1, 1));
    assert_eq!(left(None, false), (0, 0), "whoever wants none needs no clock");
}
