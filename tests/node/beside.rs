//! Commands that look at what is stored say the same, byte for byte, beside a running node and without one; beside a node
//! they leave the database to it.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use meerkat_base::{
    CameraId, Detection, Event, EventId, EventKind, EventPhase, ImageFormat, Rect, Sighting, WallTime,
};
use meerkat_store::{ClipRow, ClipState, Consent, DataLock, SnapshotRow, Store, StoreOptions, saved};
use serde_json::Value;

use crate::harness::{Node, Plan, jpeg};

/// Half a page more than a node answers at once.
const EVENTS: u32 = 300;
/// Of two people each, at the same moment twice: half as many lines, more than a node answers at once.
const VISITS: u32 = 1_240;
/// Videos, and as many snapshots: more than a node answers at once. Of every hundredth the file is gone.
const FILES: u32 = 620;
const GONE: usize = 7;
const VIDEOS: &str = "capture/video/door/2026-11-23";
const SNAPSHOTS: &str = "capture/clip/door/2026-11-23";
/// What stands in each of these files.
const CONTENTS: &[u8] = b"not young";
/// 2026-11-23T01:20:00.123456Z
const MONDAY: i64 = 1_795_396_800_123_456;

fn event(n: u32) -> Event {
    let started = WallTime(MONDAY + i64::from(n / 3) * 7_777_777);
    let entropy = [n.to_le_bytes().as_slice(), &[0; 6]].concat();
    let mut found = Detection::new("person", 0.1 + (n % 9) as f32 / 10.0, Rect::new(0.1, 3.3, n as f32, 7.0));
    found.identity = n.is_multiple_of(5).then(|| "李雷".to_owned());
    let seen = |at: i64| Sighting {
        wall: WallTime(started.0 + at * 333_333),
        seq: u64::from(n) + at as u64,
        detections: vec![found.clone(); 2],
    };
    Event {
        id: EventId::new(started, entropy.try_into().unwrap()),
        camera: CameraId::from_shown(["door", "10.0.0.7~2"][n as usize % 2]).unwrap(),
        kind: [EventKind::Person, EventKind::Face, EventKind::ObjectMoved][n as usize % 3],
        phase: EventPhase::Ended,
        started,
        started_seq: u64::from(n),
        ended: Some(WallTime(started.0 + 1_449_999)),
        score: found.score,
        identities: found.identity.iter().cloned().collect(),
        sightings: (0..4).map(seen).collect(),
    }
}

fn fill(data: &Path) {
    let mut store = Store::open(data, StoreOptions::default()).unwrap();
    let consent = Consent { by: "the test".to_owned(), at: WallTime(MONDAY - 86_400_000_000) };
    for (seed, name) in ["李雷", "=Han Meimei", "Lin Tao"].into_iter().enumerate() {
        let picture = jpeg(160, 120, seed as u32);
        store.enrol(name, &[(picture.as_slice(), ImageFormat::Jpeg)], &consent, consent.at).unwrap();
    }
    for n in 0..EVENTS {
        let event = event(n);
        store.end_event(&event, &[]).unwrap();
        if n % 4 == 0 {
            let clip = ClipRow {
                event: Some(event.id),
                camera: event.camera.clone(),
                path: format!("capture/clip/{}/{n}.mp4", event.camera.folder()),
                started: event.started,
                duration: Duration::from_micros(1_333_333),
                frames: 4,
                bytes: 1_000,
                sha256: None,
                state: ClipState::Repaired,
                skipped: 1,
                missing: None,
            };
            store.add_clip(&clip).unwrap();
        }
    }
    let door = CameraId::from_shown("door").unwrap();
    for n in 0..VISITS {
        let (name, at) =
            (["李雷", "=Han Meimei"][n as usize % 2], WallTime(MONDAY + i64::from(n / 4) * 1_800_000_000));
        let id = EventId::new(at, [n.to_le_bytes().as_slice(), &[1; 6]].concat().try_into().unwrap());
        store.check_in(name, &door, at, id, Duration::ZERO).unwrap();
        store.check_out(name, &door, (at, WallTime(at.0 + 61_000_000)), Duration::ZERO).unwrap();
    }
}

/// A file that is old enough to count beside a node at work.
fn put(data: &Path, path: &str) {
    let path = data.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, CONTENTS).unwrap();
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
}

/// Files with rows, rows without files, and a file of each sort without a row.
fn fill_capture(data: &Path) {
    let mut store = Store::open(data, StoreOptions::default()).unwrap();
    let door = CameraId::from_shown("door").unwrap();
    for n in 0..FILES {
        let (video, snapshot) = (format!("{VIDEOS}/{n}.mp4"), format!("{SNAPSHOTS}/{n}.jpg"));
        if n % 100 != 0 {
            put(data, &video);
            put(data, &snapshot);
        }
        let shown = event(n % EVENTS);
        let bytes = CONTENTS.len() as u64;
        let taken = shown.started;
        store.add_snapshot(&SnapshotRow { event: shown.id, path: snapshot, taken, bytes }).unwrap();
        let row = ClipRow {
            event: None,
            camera: door.clone(),
            path: video,
            started: taken,
            duration: Duration::from_micros(1_333_333),
            frames: 4,
            bytes,
            sha256: None,
            state: ClipState::Ok,
            skipped: 0,
            missing: None,
        };
        store.add_clip(&row).unwrap();
    }
    put(data, &format!("{VIDEOS}/unknown.mp4"));
    put(data, &format!("{SNAPSHOTS}/unknown.jpg"));
}

/// What is said of files and rows that do not agree.
#[track_caller]
fn compared(node: &Node, arguments: &[&str]) -> String {
    let plan = Plan::new().set("http.listen", node.http_address());
    let mut command = plan.command(node.data().parent().unwrap());
    let output = command.args(["clips", "verify"]).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn say(node: &Node, arguments: &[&str]) -> String {
    let plan = Plan::new().set("http.listen", node.http_address());
    let output = plan.command(node.data().parent().unwrap()).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn commands_that_look_say_the_same_beside_a_node_and_without_one() {
    let home = tempfile::tempdir().unwrap();
    fill(&home.path().join("data"));
    fill_capture(&home.path().join("data"));
    let mut node = Plan::new().start_in(home);
    let (with_clip, place) = (event(4).id.to_string(), event(70));
    let place = format!("{}_{}", place.started.0, place.id);
    let video = format!("{VIDEOS}/7.mp4");
    let questions: &[&[&str]] = &[
        &["events", "list", "--json", "--until", "2026-12-31", "--limit", "1000"],
        &["events", "list", "--json", "--until", "2026-12-31", "--limit", "250"],
        &["events", "list", "--json", "--limit", "0"],
        &["events", "list", "--camera", "10.0.0.7~2", "--limit", "7"],
        &["events", "list", "--kind", "face", "--person", "李雷", "--limit", "500"],
        &["events", "list", "--before", &place, "--since", "2026-11-23T01:21:14.444443Z"],
        &["events", "show", &with_clip],
        &["events", "show", &with_clip, "--json"],
        &["attendance", "--from", "2026-11-23", "--to", "2026-11-30", "--absent"],
        &["attendance", "--from", "2026-11-23", "--to", "2026-11-30", "--format", "csv"],
        &["attendance", "--from", "2026-11-23", "--to", "2026-11-30", "--person", "李雷", "--format", "json"],
        &["store", "check"],
        &["clips", "list"],
        &["clips", "list", "--json", "--limit", "500"],
        &["clips", "list", "--camera", "door", "--kind", "clip", "--limit", "9"],
        &["clips", "list", "--camera", "nobody"],
        &["clips", "show", &with_clip],
        &["clips", "show", &video, "--json"],
    ];
    let beside: Vec<String> = questions.iter().map(|question| say(&node, question)).collect();
    let compared_beside = [compared(&node, &["--json"]), compared(&node, &["--quick"])];
    let shelf = node.data().parent().unwrap().to_owned();
    let (monday, tuesday) = (shelf.join("monday"), shelf.join("tuesday"));
    let made = say(&node, &["backup", monday.to_str().unwrap()]);
    // Nothing of the backup stays with the node.
    assert!(!node.data().join("backup/to-fetch").exists());
    assert_eq!(node.get("/api/v1/store/backup").json()["state"], "idle");

    node.stop();
    for (question, beside) in questions.iter().zip(&beside) {
        assert_eq!(say(&node, question), *beside, "{question:?}");
    }
    assert_eq!([compared(&node, &["--json"]), compared(&node, &["--quick"])], compared_beside);
    assert_eq!(beside[13].lines().count(), 500);
    assert_eq!(beside[14].lines().count(), 9);
    assert!(beside[15].starts_with("nothing was recorded"), "{}", beside[15]);
    assert!(beside[16].contains("capture/clip/door/4.mp4") && beside[17].contains("7.mp4"), "{}", beside[17]);
    let report: Value = serde_json::from_str(&compared_beside[0]).unwrap();
    let there = FILES as usize - GONE;
    assert_eq!((&report["files"], &report["snapshots"]), (&there.into(), &there.into()));
    let count = |wrong: &str| {
        let findings = report["findings"].as_array().unwrap().iter();
        findings.filter(|finding| finding["finding"]["wrong"] == wrong).count()
    };
    // Every fourth event has a clip, of which there is no file.
    let expected = [
        ("missing", GONE + EVENTS as usize / 4),
        ("missing_snapshot", GONE),
        ("orphan", 1),
        ("orphan_snapshot", 1),
        ("sidecar", there),
    ];
    assert_eq!(expected.map(|(wrong, _)| (wrong, count(wrong))), expected);
    assert_eq!(
        beside[0].lines().filter(|line| line.contains("door") || line.contains("10.0.0.7")).count(),
        EVENTS as usize
    );
    assert!(beside[6].contains("capture/clip") && beside[6].contains("frame"), "{}", beside[6]);
    assert!(beside[8].contains("absent") && beside[8].lines().count() > 10, "{}", beside[8]);
    let alone = say(&node, &["backup", tuesday.to_str().unwrap()]);
    let files = |said: &str| said.split(": ").nth(1).unwrap().split(',').next().unwrap().to_owned();
    assert_eq!(files(&made), files(&alone));
    let paths = |at: &Path| -> Vec<String> {
        saved::manifest(at).unwrap().files.into_iter().map(|file| file.path).collect()
    };
    assert_eq!(paths(&monday), paths(&tuesday));

    // Who has the folder and is no node that answers is not read past.
    let lock = DataLock::take(&node.data()).unwrap();
    let plan = Plan::new().set("http.listen", node.http_address());
    let others: [&[&str]; 2] = [&["clips", "verify"], &["backup", "wednesday"]];
    for question in [0, 8, 11, 12, 16].map(|n| questions[n]).into_iter().chain(others) {
        let output = plan.command(&shelf).args(question).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{question:?}");
        assert!(output.stdout.is_empty(), "{question:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("http.listen"), "{question:?}");
    }
    drop(lock);
}
