//! The evictor on a real folder and a real database: what goes, in which order, and what never does.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

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

const DAY: i64 = 24 * HOUR;
const HOUR: i64 = 3_600_000_000;

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
    lock: DataLock,
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
        let own = lock.clone();
        let archivist =
            Archivist::start(&crew, Duration::from_secs(10), first, Arc::clone(&room), move || {
                Store::open_under(&own, StoreOptions::default())
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
            spool: settings.spool.clone(),
            cameras: settings.cameras.keys().cloned().collect(),
            state: state.clone(),
            suspended: Arc::new(|reader| {
                let suspended = reader.deletion_suspended().unwrap();
                suspended.map(|suspended| Suspended::UntilConfirmed(suspended.reason))
            }),
        });
        Self { folder, clock, archivist, room, state, heard, tools, lock, _crew: crew }
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
        let plan = sweep::SweepPlan {
            rules: self.tools.retention.read().unwrap().clone(),
            spool: self.tools.spool.clone(),
            now: self.clock.wall(),
            by_age,
            times: timekeeper::behind_in(self.folder.path()),
        };
        let mut sweep = sweep::Sweep::new(plan, &self.state.report());
        let (mut hands, mut events) = (self.hands(), None);
        while !sweep.step(&mut hands, &mut events).unwrap() {}
    }

    /// Counts what is there, as the evictor does now and then.
    fn count(&self) {
        let mut walk = meerkat_store::disk::UsageWalk::new(self.folder.path());
        while walk.step(100).is_none() {}
        let mut report = self.state.lock();
        report.cameras = walk.cameras().clone();
        report.kept_spools = Some(walk.kept_spools());
    }

    /// A spool of 1,000 bytes and its note, kept beside a file; so many hours old. Returns its path.
    fn kept_spool(&self, hours: i64, made: &str) -> String {
        let begun = WallTime(NOON.0 - hours * HOUR);
        let path = format!("spool/kept/{}_door_segment_{hours}", begun.compact());
        self.put(&format!("{path}/frames"));
        std::fs::write(self.path(&format!("{path}/made")), made).unwrap();
        path
    }

    fn image(&self, camera: &str, at: WallTime) -> String {
        let path = format!("capture/image/{camera}/{}/{}_b_1.jpg", at.date(), at.compact());
        self.put(&path);
        path
    }

    /// Steps of an evictor until it has looked at the clock and found something new.
    fn look_at_clock(&self, evictor: &mut Evictor) {
        let heard =
            || self.heard.0.lock().unwrap().iter().filter(|(kind, _)| *kind == EventKind::ClockJump).count();
        let (give_up, before) = (Instant::now() + Duration::from_secs(30), heard());
        while heard() == before {
            evictor.step().unwrap();
            assert!(Instant::now() < give_up, "it looks at the clock");
        }
    }
}

fn put(folder: &Path, relative: &str) {
    let path = folder.join(relative);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, vec![0; 1_000]).unwrap();
}

fn full() -> meerkat_store::StoreError {
    meerkat_store::StoreError::Io {
        path: "x".into(),
        source: std::io::Error::from(std::io::ErrorKind::StorageFull),
    }
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
    let rows = rig.ask(|store| store.deletions_begun("", 9));
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
    rig.count();
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
    let give_up = Instant::now() + Duration::from_secs(30);
    while !rig.state.report().nothing_may_go {
        evictor.step().unwrap();
        assert!(Instant::now() < give_up, "it ends when nothing may go");
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
    assert_eq!((report.deleted_files, rig.ask(|store| store.deletions_begun("", 9)).len()), (6, 0));
}

#[test]
fn a_refusal_of_long_ago_takes_nothing_from_what_comes_later() {
    let rig = Rig::new(&[]);
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
fn a_database_that_took_the_place_of_another_is_asked_at_once() {
    let rig = Rig::new(&[]);
    let picture = format!("capture/image/yard/{}/{}_b_1.jpg", NOON.date(), NOON.compact());
    rig.put(&picture);
    let mut evictor = Evictor::new(Arc::clone(&rig.tools));
    let _ = evictor.step().unwrap();
    // As one that was made anew does, and nobody has looked at it yet.
    let other = tempfile::tempdir().unwrap();
    let mut anew = Store::open(other.path(), StoreOptions::default()).unwrap();
    anew.suspend_deletion("the database was rebuilt", NOON).unwrap();
    drop(anew);
    // The log of the one before would be taken for its own.
    for beside in ["meerkat.db-wal", "meerkat.db-shm"] {
        std::fs::rename(rig.path(beside), other.path().join(beside)).unwrap();
    }
    std::fs::rename(other.path().join("meerkat.db"), rig.path("meerkat.db")).unwrap();
    rig.room.failed(&full());
    for _ in 0..5 {
        evictor.step().unwrap();
    }
    assert!(rig.path(&picture).exists(), "nothing goes before a person confirms");
    assert_eq!(rig.state.report().suspended.as_deref(), Some("the database was rebuilt"));
    // What a person confirms is that database, too.
    let anew = Store::open_under(&rig.lock, StoreOptions::default());
    anew.unwrap().confirm().unwrap();
    rig.room.failed(&full());
    for _ in 0..5 {
        evictor.step().unwrap();
    }
    assert!(!rig.path(&picture).exists());
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
fn a_folder_that_cannot_be_synced_keeps_its_rows_and_holds_up_no_other() {
    use meerkat_store::fault::{DiskOp, plan_here};

    const EIO: i32 = 5;
    let rig = Rig::new(&[]);
    let (old, new) = (rig.clip(1, 3, EventKind::Person), rig.clip(2, 2, EventKind::Person));
    let path = |event: &Event, n: u8| format!("capture/clip/door/{}/{n}.mp4", event.started.date());
    let paths = [path(&old, 1), path(&new, 2)];
    let mut hands = hands::Hands::open(&rig.room, Durability::Power, &rig.archivist, &rig.state).unwrap();
    let doomed = |path: &String| hands::Doomed {
        path: path.clone(),
        evidence: meerkat_base::Evidence::Clip,
        why: hands::Why::Age,
    };
    plan_here(DiskOp::Sync, EIO, 0, 1);
    hands.delete_rows(paths.iter().map(doomed).collect(), rig.clock.wall()).unwrap();
    assert!(paths.iter().all(|path| !rig.path(path).exists()));
    let begun = || hands.reader.deletions_begun("", 9).unwrap();
    assert_eq!(begun(), paths[..1], "the files may come back, and with them must be their row");
    let news = rig.state.stuck().news(Instant::now());
    assert!(news.is_some_and(|(holds, words)| holds && words.contains("Input/output error")));
    // The disk is well again.
    hands.finish_begun("", 9, rig.clock.wall()).unwrap();
    assert_eq!(hands.reader.deletions_begun("", 9).unwrap(), [""; 0]);
}

#[test]
fn a_clock_that_jumps_stops_deletion_by_age_until_a_person_confirms_it_also_over_a_restart() {
    let rig = Rig::new(&[("retention.days", "30")]);
    let _ = rig.clip(1, 1, EventKind::Person);
    let mut evictor = Evictor::new(Arc::clone(&rig.tools));
    evictor.step().unwrap();
    assert_eq!(rig.state.report().clock_doubt, None);
    rig.clock.jump_wall(400 * DAY);
    rig.look_at_clock(&mut evictor);
    assert!(rig.state.report().clock_doubt.is_some());
    // Another evictor, as after a restart, knows it too.
    rig.state.lock().clock_doubt = None;
    let mut again = Evictor::new(Arc::clone(&rig.tools));
    rig.look_at_clock(&mut again);
    assert!(rig.state.report().clock_doubt.is_some());
    assert!(rig.state.confirm_clock());
    rig.look_at_clock(&mut again);
    assert_eq!(rig.state.report().clock_doubt, None);
    let heard = rig.heard.0.lock().unwrap().clone();
    assert_eq!(heard, [true, true, false].map(|holds| (EventKind::ClockJump, holds)));
    assert_eq!(rig.left().len(), 3, "nothing went meanwhile");
}

#[test]
fn a_start_with_a_clock_behind_the_newest_event_is_told_of() {
    let rig = Rig::new(&[]);
    // An earlier run dated it two days after what the clock says now; it noted no time.
    let _ = rig.clip(1, -2, EventKind::Person);
    let mut evictor = Evictor::new(Arc::clone(&rig.tools));
    rig.look_at_clock(&mut evictor);
    assert!(rig.state.report().clock_doubt.is_some());
    assert_eq!(*rig.heard.0.lock().unwrap(), [(EventKind::ClockJump, true)]);
}

#[test]
fn what_the_clock_says_is_believed_between_two_looks_that_found_it_right() {
    let rig = Rig::new(&[]);
    let mut evictor = Evictor::new(Arc::clone(&rig.tools));
    assert!(!rig.state.believes_clock(), "nobody has looked");
    evictor.step().unwrap();
    assert!(rig.state.believes_clock());
    rig.clock.jump_wall(400 * DAY);
    rig.look_at_clock(&mut evictor);
    assert!(!rig.state.believes_clock());

    let (state, began) = (StorageState::default(), Instant::now());
    let at = |secs| began + Duration::from_secs(secs);
    let looks = |secs, doubt: Option<&str>| state.clock_looked_at(at(secs), doubt.map(str::to_owned));
    let believed_at = |secs| state.believed_clock_at(at(secs));
    assert_eq!(believed_at(1), Some(false));
    looks(2, None);
    assert_eq!((believed_at(1), believed_at(3)), (Some(false), None), "nobody has looked since");
    looks(4, None);
    assert_eq!((believed_at(3), believed_at(5)), (Some(true), None));
    // It had jumped by then; what it said is not believed when it is right again either.
    looks(6, Some("it jumped"));
    assert_eq!(believed_at(5), Some(false));
    looks(7, None);
    looks(9, None);
    assert_eq!((believed_at(5), believed_at(8)), (Some(false), Some(true)));
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

#[test]
fn a_sweep_that_begins_right_after_the_clock_was_set_deletes_nothing_by_it() {
    let rig = Rig::new(&[("retention.days", "30")]);
    let _ = rig.clip(1, 1, EventKind::Person);
    let face = NewUnknown {
        camera: CameraId::parse("door").unwrap(),
        at: WallTime(NOON.0 - DAY),
        width_px: 50.0,
        jpeg: b"jpeg".to_vec(),
        embedding: Embedding { space: "net".into(), values: vec![1.0, 0.0] },
    };
    let limits = UnknownLimits { likeness: 0.5, groups: 9, pictures: 9, bytes: 1 << 20 };
    rig.ask(move |store| store.keep_unknown(&face, &limits));
    let mut evictor = Evictor::new(Arc::clone(&rig.tools));
    evictor.step().unwrap();
    assert_eq!(rig.state.report().clock_doubt, None);
    // Sooner than the next look that comes by itself.
    rig.clock.jump_wall(400 * DAY);
    let mut evictor = evictor.sweeping_now();
    for _ in 0..30 {
        evictor.step().unwrap();
    }
    assert!(rig.state.report().clock_doubt.is_some());
    assert_eq!(rig.left().len(), 3, "the clip and what belongs to it");
    assert_eq!(rig.ask(|store| store.unknown_totals()).groups, 1);
}

#[test]
fn kept_spools_go_by_their_age_and_never_those_of_clips_that_are_kept() {
    let rig = Rig::new(&[("spool.keep", "12h")]);
    let clip = |n, at| {
        let event = rig.clip(n, at, EventKind::Person);
        (event.id, format!("capture/clip/door/{}/{n}.mp4", event.started.date()))
    };
    let ((_, free), (held, made)) = (clip(1, 1), clip(2, 1));
    rig.ask(move |store| store.keep(&KeepTarget::Event(held), true));
    // The database says it, whatever lies beside the clip.
    std::fs::remove_file(rig.path(&format!("{made}.json"))).unwrap();
    let kept = [rig.kept_spool(11, &free), rig.kept_spool(15, &made)];
    let old = [rig.kept_spool(13, &free), rig.kept_spool(14, "capture/clip/door/2026-11-01/gone.mp4")];
    rig.put("spool/set-aside/20260101T000000.000000Z_door_clip_00/frames");
    rig.sweep(false);
    assert!(old.iter().all(|path| rig.path(path).exists()), "not by a clock in doubt");
    rig.sweep(true);
    assert!(kept.iter().all(|path| rig.path(path).exists()));
    assert!(!old.iter().any(|path| rig.path(path).exists()));
    assert!(
        rig.path("spool/set-aside/20260101T000000.000000Z_door_clip_00").exists(),
        "spool.keep is not of those"
    );
}

#[test]
fn a_spool_of_a_clip_that_is_kept_while_it_waits_for_its_turn_stays() {
    let rig = Rig::new(&[]);
    let event = rig.clip(1, 1, EventKind::Person);
    let made = format!("capture/clip/door/{}/1.mp4", event.started.date());
    let (spool, other) = (rig.kept_spool(2, &made), rig.kept_spool(1, "x.mp4"));
    let picture = rig.image("yard", WallTime(NOON.0 - 5 * DAY));
    let hands = rig.hands();
    let times = timekeeper::behind_in(rig.folder.path());
    let mut candidates = candidates::Candidates::begin(&hands.reader, times).unwrap();
    let mut next = || loop {
        match candidates.next(&hands.reader, &hands.remover).unwrap() {
            candidates::Next::Goes(one) => break Some(one.path),
            candidates::Next::NotYet => {}
            candidates::Next::Nothing => break None,
        }
    };
    assert_eq!(next(), Some(picture));
    // By now it is known as the oldest spool; other things go before.
    rig.ask(move |store| store.keep(&KeepTarget::Event(event.id), true));
    let rest: Vec<String> = std::iter::from_fn(next).collect();
    assert!(!rest.contains(&spool) && rest.contains(&other), "{rest:?}");
}

#[test]
fn kept_spools_beyond_their_bytes_go_oldest_first() {
    let rig = Rig::new(&[("spool.keep", "4000h"), ("spool.keep_bytes", "3000")]);
    let event = rig.clip(1, 1, EventKind::Person);
    let held = format!("capture/clip/door/{}/1.mp4", event.started.date());
    rig.ask(move |store| store.keep(&KeepTarget::Event(event.id), true));
    let paths: Vec<String> =
        (1..=5).map(|n| rig.kept_spool(n, if n == 4 { &held } else { "x.mp4" })).collect();
    let left = || paths.iter().map(|path| rig.path(path).exists()).collect::<Vec<_>>();
    rig.sweep(true);
    assert_eq!(left(), [true; 5], "nothing was counted yet");
    rig.count();
    rig.sweep(true);
    assert_eq!(left(), [true, false, false, true, false], "what is kept counts, and stays");
}

#[test]
fn kept_spools_are_the_evictors_with_all_its_rules() {
    let rig = Rig::new(&[("spool.keep", "1h"), ("spool.keep_bytes", "0")]);
    let path = rig.kept_spool(2, "x.mp4");
    rig.count();
    let mut evictor = Evictor::new(Arc::clone(&rig.tools)).sweeping_now();
    rig.ask(|store| store.suspend_deletion("the database was rebuilt", NOON));
    for _ in 0..30 {
        evictor.step().unwrap();
    }
    assert!(rig.path(&path).exists(), "nothing goes before a person confirms");
    rig.ask(|store| store.confirm());
    let give_up = Instant::now() + Duration::from_secs(30);
    while rig.path(&path).exists() {
        evictor.step().unwrap();
        assert!(Instant::now() < give_up, "then it goes");
    }
}

#[test]
fn what_was_recorded_while_the_clock_was_behind_is_not_the_oldest() {
    let rig = Rig::new(&[
        ("retention.days", "30"),
        ("retention.kinds.clip.bytes", "2500"),
        ("storage.free_extra_bytes", "1"),
    ]);
    let old = rig.clip(1, 6, EventKind::Person);
    let spool = rig.kept_spool(5 * 24, "x.mp4");
    let picture = rig.image("yard", WallTime(NOON.0 - 3 * DAY));
    let _ = Evictor::new(Arc::clone(&rig.tools)).step().unwrap();
    // A board without a battery starts again: in 1970.
    rig.clock.jump_wall(-NOON.0 + 12 * HOUR);
    let mut evictor = Evictor::new(Arc::clone(&rig.tools));
    rig.look_at_clock(&mut evictor);
    let days = |at: WallTime| (NOON.0 - at.0) / DAY;
    let now = rig.clock.wall();
    let fresh = rig.clip(2, days(now), EventKind::Person);
    let (fresh_picture, fresh_spool) =
        (rig.image("yard", now), rig.kept_spool((NOON.0 - now.0) / HOUR, "y.mp4"));
    let order = || -> Vec<String> {
        let reader = meerkat_store::StoreReader::open(rig.folder.path()).unwrap();
        let planned = plan(&reader, &rig.tools.retention.read().unwrap(), 99).unwrap();
        planned.into_iter().map(|one| one.path).collect()
    };
    let name = |event: &Event, n: u8, ending: &str| {
        format!("capture/clip/door/{}/{n}.{ending}", event.started.date())
    };
    let expected = [
        name(&old, 1, "mp4"),
        name(&old, 1, "jpg"),
        spool.clone(),
        picture.clone(),
        fresh_spool.clone(),
        fresh_picture.clone(),
        name(&fresh, 2, "mp4"),
        name(&fresh, 2, "jpg"),
    ];
    assert_eq!(order()[..4], expected[..4]);
    let sorted = |paths: &[String]| {
        let mut paths = paths.to_vec();
        paths.sort();
        paths
    };
    assert_eq!(sorted(&order()[4..]), sorted(&expected[4..]));
    rig.room.failed(&full());
    for _ in 0..5 {
        evictor.step().unwrap();
    }
    assert!(!rig.path(&expected[0]).exists() && rig.path(&expected[6]).exists(), "the oldest makes room");
    // The clock is right again. By age what was recorded meanwhile counts from the time that was known before.
    rig.clock.jump_wall(NOON.0 - 12 * HOUR);
    rig.look_at_clock(&mut evictor);
    rig.sweep(true);
    assert!(expected[4..].iter().all(|path| rig.path(path).exists()));
    assert_eq!(rig.ask(move |store| store.event(fresh.id)).map(|event| event.id), Some(fresh.id));
    // By bytes it goes after what is dated rightly, and then all the same.
    let clips: Vec<String> = (3..=4).map(|n| name(&rig.clip(n, 1, EventKind::Person), n, "mp4")).collect();
    rig.sweep(true);
    assert!(!rig.path(&clips[0]).exists() && rig.path(&clips[1]).exists() && rig.path(&expected[6]).exists());
    rig.clock.jump_wall(31 * DAY);
    rig.sweep(true);
    assert!(!expected.iter().any(|path| rig.path(path).exists()), "a month later it is old");
}

#[test]
fn what_cannot_be_removed_holds_up_nothing_else_and_people_are_told() {
    let rig = Rig::new(&[
        ("retention.days", "30"),
        ("retention.kinds.image.bytes", "1"),
        ("storage.free_floor_bytes", "1125899906842624"),
    ]);
    // A folder with something in it, where a file should be, and a spool with a folder: nobody can remove them.
    let block = |path: &str| {
        let _ = std::fs::remove_file(rig.path(path));
        rig.put(&format!("{path}/x"));
    };
    let (first, second) = (rig.clip(1, 50, EventKind::Person), rig.clip(2, 49, EventKind::Person));
    let clip = |event: &Event, n: u8| format!("capture/clip/door/{}/{n}.mp4", event.started.date());
    block(&clip(&first, 1));
    let spools = ["20260101T000000.000000Z_door_clip_00", "20260102T000000.000000Z_door_clip_01"]
        .map(|name| format!("spool/set-aside/{name}"));
    rig.put(&format!("{}/below/x", spools[0]));
    rig.put(&format!("{}/frames", spools[1]));
    let images = [45, 44, 1, 0].map(|days| rig.image("yard", WallTime(NOON.0 - days * DAY)));
    block(&images[0]);
    block(&images[2]);
    rig.count();
    rig.sweep(true);
    let is_there = |path: &String| rig.path(path).exists();
    assert!(is_there(&clip(&first, 1)) && !is_there(&clip(&second, 2)));
    assert!(is_there(&spools[0]) && !is_there(&spools[1]));
    assert_eq!(images.each_ref().map(is_there), [true, false, true, false]);
    // Its row stays marked, and neither that nor a disk that needs room brings anything to a standstill.
    assert_eq!(rig.ask(|store| store.deletions_begun("", 9)), [clip(&first, 1)]);
    let late = rig.clip(3, 1, EventKind::Person);
    let mut evictor = Evictor::new(Arc::clone(&rig.tools));
    let give_up = Instant::now() + Duration::from_secs(30);
    while !rig.state.report().nothing_may_go {
        evictor.step().unwrap();
        assert!(Instant::now() < give_up, "it comes to an end");
    }
    assert!(!is_there(&clip(&late, 3)));
    let told =
        rig.heard.0.lock().unwrap().iter().filter(|heard| **heard == (EventKind::StoreDamaged, true)).count();
    assert_eq!(told, 1);
}

#[test]
fn pictures_of_mode_1_that_are_kept_go_by_no_limit() {
    let rig = Rig::new(&[
        ("retention.kinds.image.days", "2"),
        ("retention.kinds.image.bytes", "1000"),
        ("storage.free_floor_bytes", "1125899906842624"),
    ]);
    let (old, older) = (NOON.offset_micros(-5 * DAY), NOON.offset_micros(-5 * DAY - HOUR));
    let wanted = rig.image("yard", old);
    let gone = rig.image("yard", older);
    let new = rig.image("yard", NOON);
    let kept = rig.ask(move |store| store.keep(&KeepTarget::Path(wanted), true)).unwrap().remove(0);
    rig.count();
    rig.sweep(true);
    assert!(rig.path(&kept).exists() && !rig.path(&gone).exists());
    assert!(rig.path(&new).exists(), "what is kept does not count");
    let mut evictor = Evictor::new(Arc::clone(&rig.tools));
    let give_up = Instant::now() + Duration::from_secs(30);
    while !rig.state.report().nothing_may_go {
        evictor.step().unwrap();
        assert!(Instant::now() < give_up, "it comes to an end");
    }
    assert!(rig.path(&kept).exists() && !rig.path(&new).exists(), "not even when the disk is full");
}
