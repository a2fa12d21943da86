//! Modes 4 and 5 on recordings of real people: what is told, stored, shown and counted of them agrees.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use meerkat_base::{EventKind, SystemClock, WallTime};
use meerkat_notify::testing::{MockServer, Received};
use meerkat_store::{EventRow, OutboxState};

use crate::harness::{
    Backend, Camera, Node, Plan, data, eventually, ffprobe, files_below, paced, video_jpegs,
};

const SECRET: &str = "a-secret-of-the-tests";
const KEY: &str = "693a91f6-7xxx-4bc4-97a0-0ec2sifa5aaa";
/// The detectors are slow and the machine may be busy.
const LONG: Duration = Duration::from_secs(180);

fn now() -> WallTime {
    meerkat_base::Clock::wall(&SystemClock::new())
}

fn with_channels(hook: &MockServer, robot: &MockServer) -> Plan {
    Plan::new()
        .set("notify.language", "en")
        .set("notify.channels.hook.type", "webhook")
        .set("notify.channels.hook.url", hook.base())
        .set("notify.channels.hook.secret", SECRET)
        // Clips are messages of their own; here only what is said of an event is counted.
        .set("notify.channels.hook.include_clip", "false")
        .set("notify.channels.robot.include_clip", "false")
        // Not that the cameras are silent when their film is over.
        .set("notify.channels.hook.kinds", "person,face")
        .set("notify.channels.robot.kinds", "person,face")
        .set("notify.channels.robot.type", "wecom")
        // Where other work keeps the detectors from their turn, the cameras wait instead of going on unseen.
        .set("frame.answer_wait_ms", 1_000)
        .set("detectors.person.every_ms", 200)
        .set("notify.channels.robot.url", format!("{}/cgi-bin/webhook/send?key={KEY}", robot.base()))
}

/// One camera of the test: its file, its pace, and how many events of people it may have.
struct Street {
    id: &'static str,
    frames: Vec<Vec<u8>>,
    interval: Duration,
    events: std::ops::RangeInclusive<usize>,
}

fn streets() -> Option<Vec<Street>> {
    let street = |id, file: &str, interval, events| {
        let path = data(file)?;
        let frames = video_jpegs(&path, 1, 300);
        assert_eq!(frames.len(), 300, "{file}");
        Some(Street { id, frames, interval: Duration::from_millis(interval), events })
    };
    Some(vec![
        // A square with people on it all the time.
        street("square", "video/vtest/vtest.mp4", 100, 1..=6)?,
        // A corridor through which three walk, one after the other.
        street("corridor", "video/intel/one-by-one-person-detection.mp4", 100, 1..=6)?,
        // A road with cars and nobody on foot.
        street("road", "video/intel/car-detection.mp4", 80, 0..=1)?,
    ])
}

/// Plays the recording as a camera would; returns the times before the first and after the last answer.
fn play(mut camera: Camera, street: &Street) -> (WallTime, WallTime) {
    let began = now();
    paced(&street.frames, street.interval, |frame| assert_eq!(camera.frame(frame), b'1', "{}", street.id));
    (began, now())
}

/// The rows of people, once all of them are over and have what they were promised.
fn settled(node: &Node, cameras: &[Street]) -> BTreeMap<&'static str, Vec<EventRow>> {
    eventually("all events are over, recorded and told", LONG, || {
        let mut rows = BTreeMap::new();
        for street in cameras {
            let mut own = node.events(street.id);
            if own.iter().any(|row| row.ended.is_none()) {
                return None;
            }
            own.retain(|row| row.kind == EventKind::Person);
            if own.iter().any(|row| row.clips.is_empty()) {
                return None;
            }
            rows.insert(street.id, own);
        }
        let open = files_below(&node.data().join("spool")).len();
        let waiting = node.store().outbox_counts().unwrap().waiting;
        (open == 0 && waiting == 0).then_some(rows)
    })
}

fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}

/// The clip, the snapshot and what the pages say of one event.
fn check_recording(node: &Node, street: &Street, row: &EventRow, began: WallTime, gap: f64) {
    let what = format!("{} {}", street.id, row.id);
    assert!(!row.interrupted && row.ended.unwrap() >= row.started, "{what}: {row:?}");
    assert!(row.score >= 0.5 && row.score <= 1.0, "{what}: {}", row.score);
    let mut frames = 0;
    for clip in &row.clips {
        let path = node.data().join(&clip.path);
        let probe = ffprobe(&path);
        assert_eq!((probe.codec.as_str(), probe.pixels.as_str()), ("h264", "yuv420p"), "{what}");
        assert_eq!(
            (probe.frames, std::fs::metadata(&path).unwrap().len()),
            (clip.frames, clip.bytes),
            "{what}"
        );
        assert!(
            (probe.duration - clip.duration.as_secs_f64()).abs() < 0.2,
            "{what}: {} s, {clip:?}",
            probe.duration
        );
        frames += probe.frames;
    }
    // It begins pre_roll before the event, or with the first frame, or goes on where another event had begun it.
    let clip = &row.clips[0];
    let lead = seconds(row.started.0 - clip.started.0);
    let since_first = seconds(row.started.0 - began.0);
    assert!(
        lead >= (5.0_f64 - gap).min(since_first - gap),
        "{what}: {lead} s of {since_first} before the event"
    );
    if row.clips.len() == 1 && lead > 5.01 {
        let shared = node.events(street.id).iter().filter(|other| other.clips.contains(clip)).count();
        assert!(shared > 1, "{what}: {lead} s before the event");
    }
    let end = seconds(clip.started.0 - row.ended.unwrap().0) + clip.duration.as_secs_f64();
    assert!(end > -gap, "{what}: the clip ends {end} s before the event");
    assert!(frames > 0);

    let snapshot = std::fs::read(node.data().join(row.snapshot.as_ref().unwrap())).unwrap();
    let place = usize::try_from(row.started_seq).unwrap() - 1;
    assert!(snapshot == street.frames[place], "{what}: the snapshot is not the frame that started it");
    let page = node.get(&format!("/api/v1/events/{}/snapshot", row.id));
    assert!(page.status == 200 && page.body == snapshot, "{what}: snapshot of the page");
    let page = node.get(&format!("/api/v1/events/{}/clip", row.id));
    assert_eq!((page.status, page.header("content-type")), (200, Some("video/mp4")), "{what}");
    let sightings = node.store().sightings(row.id, 0).unwrap();
    assert!(!sightings.is_empty(), "{what}");
    for detection in sightings.iter().flat_map(|sighting| &sighting.detections) {
        assert_eq!(detection.label, "person");
        let at = detection.bbox.center();
        assert!(at.x > 0.0 && at.x < 768.0 && at.y > 0.0 && at.y < 432.0, "{what}: {detection:?}");
    }
}

#[test]
fn events_clips_rows_alerts_and_metrics_of_people_agree() {
    everything_of_people_agrees(Some(Backend::classic()));
}

#[test]
fn events_clips_rows_alerts_and_metrics_of_people_agree_with_a_network() {
    everything_of_people_agrees(Backend::candle());
}

fn everything_of_people_agrees(backend: Option<Backend>) {
    let (Some(streets), Some(backend)) = (streets(), backend) else { return };
    let (hook, robot) = (MockServer::webhook(SECRET).unwrap(), MockServer::wecom(KEY).unwrap());
    let mut plan = backend.of(with_channels(&hook, &robot)).set("clip.preset", "superfast");
    for street in &streets {
        plan = plan.set(&format!("cameras.{}.name", street.id), street.id.to_uppercase());
    }
    let mut node = plan.start();
    backend.check(&node, "person");
    let cameras: Vec<Camera> = streets.iter().map(|street| node.camera(street.id, 4)).collect();
    let times: Vec<(WallTime, WallTime)> = std::thread::scope(|scope| {
        let playing: Vec<_> = cameras
            .into_iter()
            .zip(&streets)
            .map(|(camera, street)| scope.spawn(move || play(camera, street)))
            .collect();
        playing.into_iter().map(|camera| camera.join().unwrap()).collect()
    });
    let rows = settled(&node, &streets);
    let metrics = node.metrics();
    let mut all = BTreeMap::new();
    for (street, (began, ended)) in streets.iter().zip(&times) {
        let own = &rows[street.id];
        assert!(street.events.contains(&own.len()), "{} events at {}", own.len(), street.id);
        assert!(!backend.network || street.id != "road" || own.is_empty(), "a car is nobody on foot");
        let count =
            |name, labels: &[(&str, &str)]| metrics.sum(name, &[labels, &[("camera", street.id)]].concat());
        assert_eq!(count("meerkat_frames_total", &[("stage", "received"), ("result", "ok")]), 300.0);
        assert_eq!(count("meerkat_frames_total", &[("result", "error")]), 0.0);
        assert!(
            count("meerkat_frames_total", &[("stage", "person"), ("result", "ok")]) > 0.0,
            "{}",
            street.id
        );
        assert_eq!(count("meerkat_events_total", &[("kind", "person")]), own.len() as f64, "{}", street.id);
        // The longest time between two frames of a machine that is busy; most are much nearer.
        let gap = 2.0;
        for row in own {
            assert!(row.started >= *began && row.started <= *ended, "{}: {row:?}", street.id);
            check_recording(&node, street, row, *began, gap);
            all.insert(row.id.to_string(), (street, row));
        }
        for (before, after) in own.iter().zip(own.iter().skip(1)) {
            let pause = seconds(after.started.0 - before.ended.unwrap().0);
            assert!(pause >= 9.0, "{}: {pause} s between two events", street.id);
        }
    }
    assert!(all.len() >= 2, "nobody was seen");

    // Every event is told once through each channel, and nothing else is.
    let told: Vec<(String, String)> = hook
        .received()
        .into_iter()
        .map(|message| {
            let Received::Hook { body, repeated: false, .. } = message else { panic!("{message:?}") };
            let event = body["event"].as_str().unwrap().to_owned();
            let (street, row) = all[&event];
            assert_eq!((body["kind"].as_str(), body["camera"].as_str()), (Some("person"), Some(street.id)));
            assert_eq!(body["camera_name"], street.id.to_uppercase());
            assert_eq!(body["started"].as_str(), Some(row.started.to_string().as_str()));
            let picture = std::fs::metadata(node.data().join(row.snapshot.as_ref().unwrap())).unwrap();
            assert_eq!(body["snapshot_bytes"], picture.len());
            (event, street.id.to_owned())
        })
        .collect();
    let wanted: BTreeSet<&String> = all.keys().collect();
    assert_eq!(told.iter().map(|(event, _)| event).collect::<BTreeSet<_>>(), wanted);
    assert_eq!(told.len(), all.len());
    let (texts, pictures): (Vec<Received>, Vec<Received>) =
        robot.received().into_iter().partition(|message| matches!(message, Received::Text(_)));
    assert_eq!((texts.len(), pictures.len()), (all.len(), all.len()));
    for street in &streets {
        let name = street.id.to_uppercase();
        let own =
            texts.iter().filter(|text| matches!(text, Received::Text(text) if text.contains(&name))).count();
        assert_eq!(own, rows[street.id].len(), "{}", street.id);
    }
    assert_eq!((hook.refused(), robot.refused()), (vec![], vec![]));
    for channel in ["hook", "robot"] {
        let count =
            |result| metrics.sum("meerkat_notifications_total", &[("channel", channel), ("result", result)]);
        assert_eq!((count("ok"), count("refused")), (all.len() as f64, 0.0), "{channel}");
    }
    for (_, row) in all.values() {
        let alerts = node.store().alerts_of(row.id).unwrap();
        assert_eq!(alerts.len(), 2);
        assert!(alerts.iter().all(|alert| alert.state == OutboxState::Delivered), "{alerts:?}");
    }

    // What is on disk is what the rows name, and what was counted.
    let named: BTreeSet<String> = all
        .values()
        .flat_map(|(_, row)| row.clips.iter().map(|clip| clip.path.clone()).chain(row.snapshot.clone()))
        .collect();
    let stored: BTreeSet<String> = files_below(&node.data().join("capture"))
        .iter()
        .map(|file| file.strip_prefix(node.data()).unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(stored, named);
    let clips = named.iter().filter(|path| path.ends_with(".mp4")).count();
    assert_eq!(metrics.sum("meerkat_clips_total", &[("result", "ok")]), clips as f64);
    assert_eq!(metrics.sum("meerkat_clips_total", &[]), clips as f64);
    let listed = node.get("/api/v1/events?kind=person&limit=100").json();
    let listed: BTreeSet<String> =
        listed["events"].as_array().unwrap().iter().map(|e| e["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(listed, all.keys().cloned().collect());
    assert_eq!(metrics.sum("meerkat_actor_restarts_total", &[]), 0.0);
    assert!(node.stop().success(), "{}", node.log());
}

/// So often is each picture shown, so that it counts as a visit.
const TIMES: usize = 3;
const FACE_INTERVAL: Duration = Duration::from_millis(100);

fn portraits(folder: &Path, person: &str, numbers: std::ops::RangeInclusive<u32>) -> Vec<std::path::PathBuf> {
    numbers.map(|number| folder.join(person).join(format!("{person}_{number:04}.jpg"))).collect()
}

/// Runs the program with the settings of a node and its addresses.
#[track_caller]
fn faces(plan: &Plan, folder: &Path, arguments: &[&str], pictures: &[std::path::PathBuf]) {
    let output = plan.command(folder).arg("faces").args(arguments).args(pictures).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "faces {arguments:?}: {complaint}");
}

/// Shows pictures to cameras, waits until what came of it is over, and returns who was seen at each.
fn show(
    node: &Node,
    cameras: &mut [(&'static str, Camera)],
    pictures: &[std::path::PathBuf],
) -> Vec<BTreeSet<String>> {
    let before: Vec<usize> = cameras.iter().map(|(id, _)| node.events(id).len()).collect();
    let frames: Vec<Vec<u8>> = pictures.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let frames = frames.iter().flat_map(|frame| std::iter::repeat_n(frame, TIMES));
    paced(frames, FACE_INTERVAL, |frame| {
        for (id, camera) in cameras.iter_mut() {
            assert_eq!(camera.frame(frame), b'1', "{id}");
        }
    });
    let seen = cameras.iter().zip(&before).map(|((id, _), before)| {
        let rows = eventually("somebody was seen, and is gone", LONG, || {
            let rows = node.events(id);
            (rows.len() > *before && rows.iter().all(|row| row.ended.is_some())).then_some(rows)
        });
        let new = rows.iter().skip(*before);
        new.inspect(|row| assert_eq!(row.kind, EventKind::Face))
            .flat_map(|row| row.identities.clone())
            .collect()
    });
    seen.collect()
}

/// How many actors look for faces.
fn face_actors(node: &Node) -> usize {
    let status = node.status();
    status["actors"].as_array().unwrap().iter().filter(|actor| actor["kind"] == "face").count()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn known_faces_are_named_and_checked_in_and_others_are_unknown() {
    faces_are_named_and_checked_in(Some(Backend::classic()));
}

#[test]
fn known_faces_are_named_and_checked_in_and_others_are_unknown_with_networks() {
    faces_are_named_and_checked_in(Backend::candle());
}

fn faces_are_named_and_checked_in(backend: Option<Backend>) {
    let (Some(folder), Some(backend)) = (data("faces/lfw10x10"), backend) else { return };
    let (hook, robot) = (MockServer::webhook(SECRET).unwrap(), MockServer::wecom(KEY).unwrap());
    let plan = backend
        .of(with_channels(&hook, &robot))
        // A robot takes twenty messages a minute.
        .set("notify.channels.robot.cameras", "reception")
        .set("motion.enabled", false)
        .set("detectors.face.gate", "none")
        .set("events.face.end_secs", 1)
        .set("events.face.cooldown_secs", 0)
        .set("clip.kinds", "face")
        .set("clip.post_roll_secs", 0)
        .set("clip.preset", "ultrafast")
        .set("cameras.reception.token", "desk-token")
        .set("cameras.reception.attendance", true)
        .set("cameras.hall.token", "hall-token");
    let home = tempfile::Builder::new().prefix("meerkat-faces-").tempdir().unwrap();
    for person in ["George_W_Bush", "Colin_Powell", "Hugo_Chavez"] {
        let arguments = ["enrol", person, "--consent-by", "the test"];
        faces(&plan, home.path(), &arguments, &portraits(&folder, person, 1..=6));
    }
    let mut node = plan.clone().start_in(home);
    backend.check(&node, "face");
    let mut cameras = ["reception", "hall"].map(|id| (id, node.connect()));
    for ((id, camera), token) in cameras.iter_mut().zip(["desk-token", "hall-token"]) {
        assert_eq!((camera.hello(id, Some(token)), camera.mode(5)), (b'1', b'1'));
    }
    // Every face actor has it, so that whoever looks at a frame knows everybody.
    node.wait_for_logs("gallery taken over", face_actors(&node));

    let check_ins = |node: &Node| -> Vec<(String, String)> {
        let rows = node.store().check_ins(None, 100).unwrap();
        rows.into_iter().map(|row| (row.name, row.camera.to_string())).collect()
    };
    let bush = ("George_W_Bush".to_owned(), "reception".to_owned());
    let powell = ("Colin_Powell".to_owned(), "reception".to_owned());
    // The very pictures that were enrolled.
    for seen in show(&node, &mut cameras, &portraits(&folder, "George_W_Bush", 1..=4)) {
        assert_eq!(seen, names(&["George_W_Bush"]));
    }
    eventually("he is checked in", LONG, || (check_ins(&node) == std::slice::from_ref(&bush)).then_some(()));
    // Somebody who is not enrolled.
    for seen in show(&node, &mut cameras, &portraits(&folder, "Tony_Blair", 1..=4)) {
        assert_eq!(seen, names(&["unknown"]));
    }
    // Other pictures of somebody who is: not each is like the enrolled ones, but some are.
    for seen in show(&node, &mut cameras, &portraits(&folder, "Colin_Powell", 7..=9)) {
        // Networks know him on each.
        assert!(!backend.network || seen == names(&["Colin_Powell"]), "{seen:?}");
        assert!(
            seen.contains("Colin_Powell") && seen.is_subset(&names(&["Colin_Powell", "unknown"])),
            "{seen:?}"
        );
    }
    eventually("he is checked in too", LONG, || {
        (check_ins(&node) == [powell.clone(), bush.clone()]).then_some(())
    });
    // Somebody who comes again is seen again, but checked in once.
    for seen in show(&node, &mut cameras, &portraits(&folder, "George_W_Bush", 2..=3)) {
        assert_eq!(seen, names(&["George_W_Bush"]));
    }

    // Somebody is enrolled while the node runs, and the node sees it within seconds.
    let beside = plan.set("http.listen", node.http_address());
    let home = node.data().parent().unwrap().to_owned();
    // The first picture has somebody else at its edge.
    let blair = portraits(&folder, "Tony_Blair", 2..=6);
    faces(&beside, &home, &["enrol", "Tony_Blair", "--consent-by", "the test"], &blair);
    // The actors look for new people when there are frames; until they know him he is nobody.
    let end = Instant::now() + LONG;
    loop {
        let seen = show(&node, &mut cameras, &blair[..4]);
        if seen.iter().all(|seen| *seen == names(&["Tony_Blair"])) {
            break;
        }
        assert!(seen.iter().all(|seen| seen.is_subset(&names(&["Tony_Blair", "unknown"]))), "{seen:?}");
        assert!(Instant::now() < end, "whoever was enrolled is not known");
    }
    assert_eq!(node.metric("meerkat_actor_restarts_total", &[]), 0.0, "{}", node.log());

    let kinds = ["known", "unknown"].map(|result| node.metric("meerkat_faces_total", &[("result", result)]));
    assert!(kinds.iter().all(|count| *count >= 1.0), "{kinds:?}");
    let people = |camera: &str| node.metric("meerkat_events_total", &[("camera", camera), ("kind", "face")]);
    for id in ["reception", "hall"] {
        assert_eq!(people(id), node.events(id).len() as f64, "{id}");
    }
    let mut entered = check_ins(&node);
    entered.sort();
    entered.dedup();
    assert_eq!(entered.len(), check_ins(&node).len(), "one line per person, and none of the hall");
    assert!(entered.iter().all(|(name, camera)| name != "unknown" && camera == "reception"), "{entered:?}");

    // Pictures of faces stay at home: no channel is told to send them.
    eventually("everything is told", LONG, || {
        (node.store().outbox_counts().unwrap().waiting == 0).then_some(())
    });
    let told = hook.received();
    assert_eq!(told.len(), node.events("reception").len() + node.events("hall").len());
    for message in &told {
        let Received::Hook { body, .. } = message else { panic!("{message:?}") };
        assert!(body["snapshot"].is_null() && body["identities"].as_array().unwrap().len() == 1, "{body}");
    }
    assert!(
        robot.received().iter().all(|message| matches!(message, Received::Text(_))),
        "a face has left the house"
    );
    assert!(node.stop().success(), "{}", node.log());
}
