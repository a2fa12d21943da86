//! The encoders with the recorder's spools: which files are made, and what becomes of spools of which none can be.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use meerkat_base::{Clock, EventKind, Frame, Image, Notice, NoticeSink, PixelFormat, metric};
use meerkat_store::{
    ClipRow, ClipState, KeepTarget, NewAlert, SnapshotRow, SpoolMeta, SpoolWriter, StoreReader, spool,
};

use super::Rig;
use crate::recorder::clip::begin_clip;
use crate::recorder::encoder::{EncoderTools, Encoders};
use crate::recorder::job::{Begun, Job};
use crate::recorder::open::OpenSpool;
use crate::supervision::{Board, Component, Step};
use crate::testing::{Counters, event, frame};

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Real pictures of the rig's camera, a tenth of a second apart.
fn pictures(rig: &Rig, count: usize) -> Vec<Frame> {
    let image = Image::new(64, 48, PixelFormat::Gray8, vec![90; 64 * 48]).unwrap();
    let jpeg: Bytes = meerkat_media::encode_jpeg(&image, 80).unwrap();
    (0..count)
        .map(|_| {
            rig.clock.advance(Duration::from_millis(100));
            Frame { bytes: jpeg.clone(), ..frame(&rig.camera, &rig.clock).0 }
        })
        .collect()
}

fn begin(rig: &Rig, frames: &[Frame]) -> OpenSpool {
    let event = event(&frames[0], 1);
    let note = meerkat_store::sidecar::note(&event);
    let written = rig.archivist.ask_blocking(move |store| {
        if store.event(event.id)?.is_none() {
            store.start_event(&event, &[])?;
        }
        Ok(event.id)
    });
    begin_clip(&rig.tools, &rig.camera.recorder, &rig.camera, written.unwrap(), note, frames).unwrap()
}

fn clips(rig: &Rig) -> Vec<String> {
    let day = rig.folder.path().join("capture/clip/door").join(rig.clock.wall().date());
    let Ok(entries) = std::fs::read_dir(&day) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".mp4"));
    names.sort();
    names
}

fn all_made(rig: &Rig) {
    let began = Instant::now();
    while rig.tools.encoders.waiting() > 0 {
        assert!(began.elapsed() < PATIENCE, "{} spools wait for ever", rig.tools.encoders.waiting());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn two_recordings_of_an_event_that_begin_with_the_same_picture_are_two_files() {
    let mut rig = Rig::new(&[]);
    let frames = pictures(&rig, 6);
    // The disk took only a part of the first one; the recording began again with what the ring had.
    begin(&rig, &frames[..2]).finish().unwrap();
    begin(&rig, &frames).finish().unwrap();
    rig.let_encoders_work();
    all_made(&rig);
    let clips = clips(&rig);
    assert_eq!(clips.len(), 2, "{clips:?}");
    let mut shown = Vec::new();
    for name in clips {
        let path = format!("capture/clip/door/{}/{name}", rig.clock.wall().date());
        let row = rig.archivist.ask_blocking(move |store| store.clip_at(&path)).unwrap();
        shown.push(row.expect("each has its row").frames);
    }
    shown.sort_unstable();
    assert_eq!(shown, [2, 6]);
    assert!(rig.spool_paths().is_empty(), "their spools have done their part");
}

#[test]
fn a_spool_that_is_gone_is_given_up_and_counts_for_nothing() {
    let mut rig = Rig::new(&[]);
    let frames = pictures(&rig, 3);
    begin(&rig, &frames).finish().unwrap();
    assert!(rig.tools.encoders.check_waiting(1).is_err());
    let path = rig.spool_paths().remove(0);
    std::fs::remove_dir_all(&path).unwrap();
    rig.let_encoders_work();
    all_made(&rig);
    assert!(rig.tools.encoders.check_waiting(1).is_ok());
    assert_eq!(clips(&rig), [""; 0]);
}

#[test]
fn a_spool_on_a_disk_that_was_taken_away_is_waited_for() {
    let rig = Rig::new(&[]);
    let frames = pictures(&rig, 3);
    begin(&rig, &frames).finish().unwrap();
    let path = rig.spool_paths().remove(0);
    let begun = || Begun {
        path: path.clone(),
        meta: SpoolMeta {
            camera: rig.camera.id().clone(),
            kind: meerkat_store::SpoolKind::Video,
            started: frames[0].wall,
            mode: meerkat_base::Mode::Video,
            settings: serde_json::Value::Null,
        },
        writer_gone: Arc::new(AtomicBool::new(true)),
        left: false,
    };
    let job = || Job::begin(rig.tools.encoders.clone(), begun()).map(|job| job.is_some());
    assert_eq!(job(), Ok(true));
    let (root, elsewhere) = (rig.folder.path(), tempfile::tempdir().unwrap());
    let away = elsewhere.path().join("away");
    std::fs::rename(root, &away).unwrap();
    // What is seen where it was mounted; spools of long ago lie there.
    std::fs::create_dir_all(root.join("spool")).unwrap();
    assert!(job().is_err(), "it may come back");
    std::fs::remove_dir_all(root).unwrap();
    std::fs::rename(&away, root).unwrap();
    assert_eq!(job(), Ok(true));
    std::fs::rename(&path, elsewhere.path().join("gone")).unwrap();
    assert_eq!(job(), Ok(false));
}

#[test]
fn a_snapshot_that_the_disk_did_not_take_is_made_of_the_recording() {
    let mut rig = Rig::new(&[]);
    rig.tools.encoders.set_recorded(vec![EventKind::Person]);
    let mut frames = pictures(&rig, 6);
    for (frame, shade) in frames.iter_mut().zip([10_u8, 50, 90, 130, 170, 210]) {
        let image = Image::new(64, 48, PixelFormat::Gray8, vec![shade; 64 * 48]).unwrap();
        frame.bytes = meerkat_media::encode_jpeg(&image, 80).unwrap();
    }
    // One lacks its snapshot, one has it, and one began before what was recorded of it.
    let (lacking, has, early) = (event(&frames[3], 2), event(&frames[4], 3), event(&frames[1], 4));
    let own = SnapshotRow { event: has.id, path: "own.jpg".to_owned(), taken: has.started, bytes: 1 };
    let alert = NewAlert {
        channel: "hook".to_owned(),
        payload: serde_json::json!({}),
        snapshot: None,
        created: rig.clock.wall(),
    };
    let events = [lacking.clone(), has.clone(), early.clone()];
    let written = rig.archivist.ask_blocking(move |store| {
        for event in &events {
            store.start_event(event, std::slice::from_ref(&alert))?;
        }
        store.add_snapshot(&own)
    });
    written.unwrap();
    begin(&rig, &frames[2..]).finish().unwrap();
    rig.let_encoders_work();
    all_made(&rig);

    let reader = StoreReader::open(rig.folder.path()).unwrap();
    let snapshot = |id| reader.event(id).unwrap().unwrap().snapshot.unwrap();
    let bytes = |id| std::fs::read(rig.folder.path().join(snapshot(id))).unwrap();
    assert_eq!(bytes(lacking.id), frames[3].bytes, "the very picture that started it");
    assert_eq!(bytes(early.id), frames[2].bytes, "the first that there is");
    assert_eq!(snapshot(has.id), "own.jpg");
    let waiting = &reader.alerts_of(lacking.id).unwrap()[0];
    assert_eq!(waiting.snapshot, Some(snapshot(lacking.id)), "who still waits is told with it");
}

/// Subjects of what was noticed.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl NoticeSink for Heard {
    fn raise(&self, notice: Notice) {
        assert!(notice.kind == EventKind::StoreDamaged && notice.holds);
        self.0.lock().unwrap().push(notice.subject);
    }
}

#[test]
fn spools_that_can_be_neither_removed_nor_set_aside_hold_up_no_other() {
    let rig = Rig::new(&[]);
    let (frames, heard) = (pictures(&rig, 3), Arc::new(Heard::default()));
    let board = Board::new(Arc::new(rig.clock.clone()));
    let tools = EncoderTools {
        places: rig.tools.places.clone(),
        clock: Arc::new(rig.clock.clone()),
        archivist: rig.archivist.clone(),
        room: Arc::clone(&rig.tools.room),
        signing: None,
        notices: Arc::clone(&heard) as Arc<dyn NoticeSink>,
    };
    let settings = rig.tools.encoders.shared.settings.clone();
    let encoders = Encoders::new(super::crew("encode", &board), tools, settings);

    let meta = SpoolMeta {
        camera: rig.camera.id().clone(),
        kind: meerkat_store::SpoolKind::Video,
        started: frames[0].wall,
        mode: meerkat_base::Mode::Video,
        settings: serde_json::Value::Null,
    };
    let spools = rig.tools.places.spools();
    let create = || SpoolWriter::create(&spools, &meta, rig.tools.places.durability).unwrap();
    let mut writer = create();
    writer.append_all(&frames).unwrap();
    let sound = writer.finish().unwrap().path;
    // A folder that is not ours keeps each of them from going: of one that a crash left half removed, and of one that
    // never got a picture.
    std::fs::create_dir_all(spools.join(".part-left/theirs")).unwrap();
    let empty = create().path().to_owned();
    std::fs::create_dir(empty.join("theirs")).unwrap();
    // Of one there is nothing to be read, and what stands in the way of setting it aside is not ours either.
    std::fs::create_dir(spools.join("0-bad")).unwrap();
    std::fs::write(spools.join("set-aside"), b"theirs").unwrap();

    assert_eq!(encoders.recover().unwrap(), 3);
    let mut told = heard.0.lock().unwrap().clone();
    told.sort();
    assert_eq!(told, [".part-left", "0-bad", empty.file_name().unwrap().to_str().unwrap()]);
    let began = Instant::now();
    while encoders.waiting() > 0 {
        assert!(began.elapsed() < PATIENCE, "the sound one waits for ever");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!sound.exists());
    let day = rig.folder.path().join("capture/video/door").join(rig.clock.wall().date());
    assert!(std::fs::read_dir(day).unwrap().count() > 0, "its file is made");
    assert!(spools.join("0-bad").exists());
}

#[test]
fn what_becomes_of_missed_snapshots_is_counted() {
    let (rig, counters) = (Rig::new(&[]), Counters::default());
    rig.tools.encoders.set_recorded(vec![EventKind::Person]);
    let frames = pictures(&rig, 6);
    // One began with what is recorded; the picture that started the other is not in it, nor a later one.
    let mut beyond = event(&frames[4], 2);
    beyond.started_seq = frames[5].seq + 1;
    rig.archivist.ask_blocking(move |store| store.start_event(&beyond, &[])).unwrap();
    begin(&rig, &frames).finish().unwrap();
    let begun = Begun {
        path: rig.spool_paths().remove(0),
        meta: SpoolMeta {
            camera: rig.camera.id().clone(),
            kind: meerkat_store::SpoolKind::Clip { event: event(&frames[0], 1).id },
            started: frames[0].wall,
            mode: meerkat_base::Mode::Video,
            settings: serde_json::Value::Null,
        },
        writer_gone: Arc::new(AtomicBool::new(true)),
        left: false,
    };
    // On this thread, where it is counted.
    counters.during(|| {
        let mut job = Job::begin(rig.tools.encoders.clone(), begun).unwrap().unwrap();
        while !matches!(job.step().unwrap(), Step::Done) {}
    });
    let snapshots = |result| counters.get(metric::SNAPSHOTS, &[result]);
    assert_eq!((snapshots("made_up"), snapshots("lost")), (1, 1));
}

#[test]
fn a_stop_while_a_file_is_made_is_no_failed_attempt() {
    let rig = Rig::new(&[]);
    let frames = pictures(&rig, 12);
    begin(&rig, &frames).finish().unwrap();
    let path = rig.spool_paths().remove(0);
    let attempts = || std::fs::metadata(path.join("attempts")).map_or(0, |metadata| metadata.len());
    // On this thread, so that it is known how far it has come.
    let job = || {
        let begun = Begun {
            path: path.clone(),
            meta: SpoolMeta {
                camera: rig.camera.id().clone(),
                kind: meerkat_store::SpoolKind::Clip { event: event(&frames[0], 1).id },
                started: frames[0].wall,
                mode: meerkat_base::Mode::Video,
                settings: serde_json::Value::Null,
            },
            writer_gone: Arc::new(AtomicBool::new(true)),
            left: false,
        };
        Job::begin(rig.tools.encoders.clone(), begun).unwrap().unwrap()
    };
    let mut one = job();
    assert_eq!(one.step(), Ok(Step::Again), "a part of it is encoded");
    assert_eq!(attempts(), 1);
    rig.tools.encoders.stop(PATIENCE);
    assert_eq!(attempts(), 0, "the next start has all three");
    drop(one);
    // None is begun that would be interrupted at once.
    assert!(matches!(job().step(), Ok(Step::Sleep(_))));
    assert_eq!(attempts(), 0);
    assert_eq!(clips(&rig), [""; 0]);
}

#[test]
fn a_recording_that_never_got_a_picture_is_no_damage() {
    let mut rig = Rig::new(&[]);
    let frames = pictures(&rig, 1);
    let meta = SpoolMeta {
        camera: rig.camera.id().clone(),
        kind: meerkat_store::SpoolKind::Video,
        started: frames[0].wall,
        mode: meerkat_base::Mode::Video,
        settings: serde_json::Value::Null,
    };
    // As when the disk refuses the very first picture.
    let spools = rig.tools.places.spools();
    let writer = SpoolWriter::create(&spools, &meta, rig.tools.places.durability).unwrap();
    rig.tools.encoders.follow(writer.path(), &meta).end();
    drop(writer);
    rig.let_encoders_work();
    all_made(&rig);
    assert_eq!(std::fs::read_dir(&spools).unwrap().count(), 0, "nor is it set aside");
}

/// Where a spool lies once it was set aside, and its row, for which it is waited.
fn row_of_set_aside(rig: &Rig, spool: &Path) -> Option<ClipRow> {
    let name = spool.file_name().unwrap().to_str().unwrap();
    let path = format!("spool/set-aside/{name}");
    assert!(rig.folder.path().join(&path).join("frames").exists(), "its pictures are kept");
    rig.archivist.ask_blocking(move |store| store.clip_at(&path)).unwrap()
}

#[test]
fn a_spool_whose_pictures_cannot_be_decoded_is_set_aside_with_its_row_and_people_are_told() {
    let mut rig = Rig::new(&[]);
    let mut frames = pictures(&rig, 2);
    for frame in &mut frames {
        frame.bytes = Bytes::from_static(b"no picture at all");
    }
    // Somebody wants the event to stay before that is known.
    let (kept, id) = (event(&frames[0], 1), KeepTarget::Event(event(&frames[0], 1).id));
    rig.archivist
        .ask_blocking(move |store| store.start_event(&kept, &[]).and_then(|_| store.keep(&id, true)))
        .unwrap();
    begin(&rig, &frames).finish().unwrap();
    let spool = rig.spool_paths().remove(0);
    rig.let_encoders_work();
    all_made(&rig);
    let row = row_of_set_aside(&rig, &spool).unwrap();
    assert_eq!((row.state, row.event), (ClipState::SetAside, Some(event(&frames[0], 1).id)));
    assert!(row.bytes > 0);
    let sidecar = std::fs::read_to_string(rig.folder.path().join(&row.path).join("sidecar.json")).unwrap();
    assert!(sidecar.contains("\"keep\": true"), "a database that is made anew has it from there: {sidecar}");
    let heard = rig.heard.0.lock().unwrap();
    let [notice] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!((notice.kind, notice.holds), (EventKind::StoreDamaged, true));
    assert_eq!(notice.camera.as_ref(), Some(rig.camera.id()));
    assert!(notice.detail.contains("can be decoded") && notice.detail.contains("pictures are kept"));
}

/// Flips a bit in some places of a spool, which are told where its records begin.
fn damage(spool: &Path, places: impl Fn(&[usize]) -> Vec<usize>) {
    let file = spool.join("frames");
    let mut bytes = std::fs::read(&file).unwrap();
    let records: Vec<usize> =
        (0..bytes.len()).filter(|at| bytes[*at..].starts_with(&[0xF1, 0x4D, 0x4B, 0x31])).collect();
    for at in places(&records) {
        bytes[at] ^= 1;
    }
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn a_start_sets_aside_what_cannot_be_finished_each_with_its_row_and_makes_the_rest() {
    let mut rig = Rig::new(&[]);
    let frames = pictures(&rig, 2);
    let meta = SpoolMeta {
        camera: rig.camera.id().clone(),
        kind: meerkat_store::SpoolKind::Video,
        started: frames[0].wall,
        mode: meerkat_base::Mode::Video,
        settings: serde_json::Value::Null,
    };
    let [tried, beginning, pictures, whole]: [PathBuf; 4] = std::array::from_fn(|_| {
        let places = &rig.tools.places;
        let mut writer = SpoolWriter::create(&places.spools(), &meta, places.durability).unwrap();
        for frame in &frames {
            writer.append(frame).unwrap();
        }
        writer.finish().unwrap().path
    });
    for _ in 0..spool::MAX_ATTEMPTS {
        spool::begin_attempt(&tried).unwrap();
    }
    // What the first record says, and every record of a picture.
    damage(&beginning, |records| vec![records[0] + 80]);
    damage(&pictures, |records| records[1..3].to_vec());

    assert_eq!(rig.tools.encoders.recover().unwrap(), 4);
    rig.let_encoders_work();
    all_made(&rig);
    for (spool, why) in [
        (&tried, "three attempts"),
        (&beginning, "its beginning is damaged"),
        (&pictures, "no picture in it is whole"),
    ] {
        let row = row_of_set_aside(&rig, spool).unwrap_or_else(|| panic!("no row: {why}"));
        assert_eq!(
            (row.state, &row.camera, row.started),
            (ClipState::SetAside, rig.camera.id(), meta.started)
        );
        let heard = rig.heard.0.lock().unwrap();
        let name = spool.file_name().unwrap().to_str().unwrap();
        let told = heard.iter().find(|notice| notice.subject == name).unwrap();
        assert!(told.detail.contains(why), "{told:?}");
        assert_eq!(told.camera.as_ref(), Some(rig.camera.id()));
    }
    assert!(!whole.exists() && rig.spool_paths().len() == 1, "only the folder of those set aside is left");
}
