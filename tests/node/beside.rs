//! Commands that look at what is stored say the same, byte for byte, beside a running node and without one; beside a node
//! they leave the database to it.

use std::path::Path;
use std::time::Duration;

use meerkat_base::{
    CameraId, Detection, Event, EventId, EventKind, EventPhase, ImageFormat, Rect, Sighting, WallTime,
};
use meerkat_store::{ClipRow, ClipState, Consent, DataLock, Store, StoreOptions, saved};

use crate::harness::{Node, Plan, jpeg};

/// Half a page more than a node answers at once.
const EVENTS: u32 = 300;
/// Of two people each, at the same moment twice: half as many lines, more than a node answers at once.
const VISITS: u32 = 1_240;
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
    let mut node = Plan::new().start_in(home);
    let (with_clip, place) = (event(4).id.to_string(), event(70));
    let place = format!("{}_{}", place.started.0, place.id);
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
    ];
    let beside: Vec<String> = questions.iter().map(|question| say(&node, question)).collect();
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
    for question in [questions[0], questions[8], questions[11], &["backup", "wednesday"]] {
        let output = plan.command(&shelf).args(question).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{question:?}");
        assert!(output.stdout.is_empty(), "{question:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("http.listen"), "{question:?}");
    }
    drop(lock);
}
