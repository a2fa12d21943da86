//! What each mode promises a camera, seen from the camera, from the disk and from the pages.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use meerkat_base::{EventKind, Image};
use meerkat_store::EventRow;
use meerkat_vision::encode_jpeg;
use meerkat_vision::synthetic::{Phase, Scene};

use crate::harness::made::{self, WebpKind};
use crate::harness::{Camera, Node, PATIENCE, Plan, eventually, ffprobe, files_below, jpeg, paced};

/// What is in the files, in the order of their names.
fn contents(files: &[PathBuf]) -> Vec<Vec<u8>> {
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

fn assert_private(folder: &Path) {
    for file in files_below(folder) {
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", file.display());
    }
}

/// The year, month and day of now in UTC, as folders are named.
fn today() -> String {
    meerkat_base::Clock::wall(&meerkat_base::SystemClock::new()).date()
}

#[test]
fn mode_1_keeps_every_picture_as_it_was_sent() {
    let mut node = Plan::new().start();
    let pictures = [
        (jpeg(320, 240, 1), "jpg"),
        (made::png(40, 30, &[(b"IDAT", made::noise(5_000, 2))]), "png"),
        (made::webp(WebpKind::Lossless, 64, 48, &made::noise(4_000, 3), true), "webp"),
        (made::bmp(31, 17, None), "bmp"),
        // Markers in the middle of a picture are a part of it.
        (made::png(9, 9, &[(b"IDAT", b"end\r\nstart end model1 camera:x\n".repeat(9))]), "png"),
        (jpeg(320, 240, 6), "jpg"),
        (jpeg(320, 240, 6), "jpg"),
    ];
    let before = today();
    let mut camera = node.camera("door", 1);
    for (picture, _) in &pictures {
        assert_eq!(camera.frame(picture), b'1');
    }
    let after = today();
    // `1` means that the file is there: nothing is waited for.
    let folder = node.data().join("capture/image/door");
    let files = files_below(&folder);
    let sent: Vec<Vec<u8>> = pictures.iter().map(|(picture, _)| picture.clone()).collect();
    assert!(contents(&files) == sent, "other pictures or another order: {files:?}");
    for (file, (_, ending)) in files.iter().zip(&pictures) {
        assert_eq!(file.extension().unwrap(), *ending);
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o7777, 0o600, "{file:?}");
        let day = file.parent().unwrap().strip_prefix(&folder).unwrap().to_string_lossy().into_owned();
        assert!(day == before || day == after, "{day} is not today");
    }
    // Nothing else may be left, not even in other folders.
    assert_eq!(files_below(&node.data().join("capture")).len(), files.len());
    assert_private(&node.data());

    let metrics = node.metrics();
    let received = |result| {
        let labels = [("camera", "unconfigured"), ("stage", "received"), ("result", result)];
        metrics.sum("meerkat_frames_total", &labels)
    };
    assert_eq!((received("ok"), received("refused")), (pictures.len() as f64, 0.0));
    let bytes: usize = sent.iter().map(Vec::len).sum();
    assert_eq!(metrics.sum("meerkat_frame_bytes_total", &[("camera", "unconfigured")]), bytes as f64);
    let page = node.get("/api/v1/cameras/door/picture");
    assert_eq!((page.status, page.header("content-type")), (200, Some("image/jpeg")));
    assert!(page.body == pictures[6].0, "the page shows another picture than the last one");
    assert!(node.stop().success(), "{}", node.log());
    assert!(contents(&files_below(&folder)) == sent, "stopping changed what was stored");
}

#[test]
fn mode_1_survives_a_killed_node_and_keeps_unnamed_cameras_apart() {
    let mut node = Plan::new().start();
    let [one, two, three] = [jpeg(64, 48, 1), jpeg(64, 48, 2), jpeg(64, 48, 3)];
    let (mut first, mut second) = (node.connect(), node.connect());
    assert_eq!((first.mode(1), second.mode(1)), (b'1', b'1'));
    assert_eq!((first.frame(&one), second.frame(&two)), (b'1', b'1'));
    let folder = node.data().join("capture/image");
    let is_there = |picture: &Vec<u8>| contents(&files_below(&folder)).contains(picture);
    let owners = || -> Vec<PathBuf> {
        let mut owners: Vec<PathBuf> =
            std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
        owners.sort();
        owners
    };
    assert_eq!(owners().len(), 2, "{:?}", owners());
    for owner in owners() {
        let name = owner.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(name.contains("127.0.0.1"), "{name} does not say whose pictures these are");
        assert_eq!(files_below(&owner).len(), 1);
    }
    node.kill();
    assert!(is_there(&one) && is_there(&two), "an answered picture is lost");
    node.restart();
    let mut again = node.connect();
    assert_eq!((again.mode(1), again.frame(&three)), (b'1', b'1'));
    assert!(is_there(&one) && is_there(&two) && is_there(&three));
    assert_eq!(owners().len(), 2, "the lowest free name is taken again");
    assert!(node.stop().success(), "{}", node.log());
}

#[test]
fn a_full_disk_refuses_pictures_and_videos_but_not_detection() {
    // More than any disk has free.
    let node = Plan::new().set("storage.free_floor_bytes", 1_u64 << 50).start();
    for mode in [1, 2] {
        let mut camera = node.camera("door", mode);
        let began = Instant::now();
        assert_eq!(camera.frame(&jpeg(64, 48, 1)), b'0', "mode {mode}");
        // The delay keeps a camera that tries again from spinning.
        assert!(
            began.elapsed() >= Duration::from_secs(1),
            "mode {mode} answered after {:?}",
            began.elapsed()
        );
        for watching in [3, 4, 5] {
            assert_eq!(
                (camera.mode(watching), camera.frame(&jpeg(320, 240, 1))),
                (b'1', b'1'),
                "mode {watching}"
            );
        }
    }
    assert_eq!(files_below(&node.data().join("capture")), Vec::<PathBuf>::new());
    assert_eq!(files_below(&node.data().join("spool")), Vec::<PathBuf>::new());
    let metrics = node.metrics();
    assert!(metrics.sum("meerkat_limit_hits_total", &[("limit", "free_floor_bytes")]) >= 1.0);
    let refused = [("camera", "unconfigured"), ("stage", "received"), ("result", "refused")];
    assert_eq!(metrics.sum("meerkat_frames_total", &refused), 2.0);
}

/// The finished videos of a camera, oldest first.
fn videos(node: &Node, camera: &str) -> Vec<PathBuf> {
    let mut files = files_below(&node.data().join("capture/video").join(camera));
    // What is being made has a name that begins with a dot; what belongs to a video has another ending.
    files.retain(|file| !file.file_name().unwrap().to_string_lossy().starts_with('.'));
    files.retain(|file| file.extension().is_some_and(|ending| ending == "mp4"));
    files
}

fn wait_for_videos(node: &Node, camera: &str, count: usize) -> Vec<PathBuf> {
    eventually(&format!("{count} videos of {camera}"), PATIENCE, || {
        // The spool goes last: nothing is left to be done then.
        let spools = files_below(&node.data().join("spool"));
        Some(videos(node, camera)).filter(|videos| videos.len() == count && spools.is_empty())
    })
}

/// Sends a frame; returns when it was sent and when it was answered. It arrived in between.
fn timed(camera: &mut Camera, picture: &[u8]) -> (Instant, Instant) {
    let sent = Instant::now();
    assert_eq!(camera.frame(picture), b'1');
    (sent, Instant::now())
}

/// Each frame stands in the video at the time at which it arrived.
fn assert_real_times(times: &[f64], arrivals: &[(Instant, Instant)]) {
    assert_eq!(times.len(), arrivals.len());
    let (first_sent, first_answered) = arrivals[0];
    let slack = 0.02;
    for (place, (time, (sent, answered))) in times.iter().zip(arrivals).enumerate() {
        let since_first = time - times[0];
        let least = sent.saturating_duration_since(first_answered).as_secs_f64() - slack;
        let most = answered.duration_since(first_sent).as_secs_f64() + slack;
        assert!(
            least <= since_first && since_first <= most,
            "frame {place}: {least} <= {since_first} <= {most}"
        );
    }
}

#[test]
fn mode_2_makes_one_video_of_a_connection() {
    let mut node =
        Plan::new().set("cameras.tower.video_size", "as-received").set("cameras.drone.name", "Drone").start();
    let sizes = [(320, 240), (640, 480), (200, 300), (161, 121)];
    let pictures: Vec<Vec<u8>> =
        (0..14).map(|n| sizes[n % 4]).enumerate().map(|(n, (w, h))| jpeg(w, h, n as u32)).collect();
    let mut arrivals = [Vec::new(), Vec::new()];
    let mut cameras = [node.camera("drone", 2), node.camera("tower", 2)];
    paced(pictures.iter().enumerate(), Duration::from_millis(80), |(number, picture)| {
        if number == 7 {
            // A pause of the camera is a pause in the video.
            std::thread::sleep(Duration::from_millis(700));
        }
        for (camera, arrivals) in cameras.iter_mut().zip(&mut arrivals) {
            arrivals.push(timed(camera, picture));
        }
    });
    assert_eq!(cameras[0].mode(2), b'1', "the same mode again changes nothing");
    arrivals[0].push(timed(&mut cameras[0], &pictures[0]));
    assert!(
        videos(&node, "drone").is_empty() && videos(&node, "tower").is_empty(),
        "nothing is there before its end"
    );
    drop(cameras);
    let [drone, tower] = ["drone", "tower"].map(|camera| ffprobe(&wait_for_videos(&node, camera, 1)[0]));
    for (probe, size, arrivals) in [(&drone, (640, 480), &arrivals[0]), (&tower, (320, 240), &arrivals[1])] {
        assert_eq!((probe.codec.as_str(), probe.pixels.as_str()), ("h264", "yuv420p"));
        assert_eq!((probe.width, probe.height), size);
        assert_eq!(probe.frames, arrivals.len() as u64);
        assert_real_times(&probe.times, arrivals);
        let last = probe.times.last().unwrap() - probe.times[0];
        assert!(
            probe.duration >= last && probe.duration < last + 2.0,
            "{} s of video for {last} s",
            probe.duration
        );
    }
    assert_eq!(node.metric("meerkat_clips_total", &[("result", "ok")]), 2.0);
    assert_private(&node.data());
    assert!(node.stop().success(), "{}", node.log());
}

#[test]
fn mode_2_ends_its_video_when_the_mode_changes() {
    let node = Plan::new().start();
    let mut camera = node.camera("drone", 2);
    for seed in 0..3 {
        assert_eq!(camera.frame(&jpeg(320, 240, seed)), b'1');
    }
    assert_eq!(camera.mode(1), b'1');
    let first = wait_for_videos(&node, "drone", 1);
    assert_eq!(ffprobe(&first[0]).frames, 3);
    assert_eq!(camera.frame(&jpeg(320, 240, 9)), b'1');
    assert_eq!(camera.mode(2), b'1');
    for seed in 0..5 {
        assert_eq!(camera.frame(&jpeg(320, 240, seed)), b'1');
    }
    drop(camera);
    let both = wait_for_videos(&node, "drone", 2);
    assert_eq!(both[0], first[0], "the names are in the order of time");
    assert_eq!(ffprobe(&both[1]).frames, 5);
    assert_eq!(files_below(&node.data().join("capture/image")).len(), 1);
}

#[test]
fn mode_2_loses_no_answered_frame_when_the_node_is_killed() {
    let mut node = Plan::new().start();
    let mut camera = node.camera("drone", 2);
    let mut arrivals = Vec::new();
    paced(0..25, Duration::from_millis(40), |seed| arrivals.push(timed(&mut camera, &jpeg(640, 480, seed))));
    node.kill();
    assert!(videos(&node, "drone").is_empty(), "a half-made file has its final name");
    node.restart();
    let video = wait_for_videos(&node, "drone", 1).remove(0);
    let probe = ffprobe(&video);
    assert_eq!((probe.codec.as_str(), probe.width, probe.height, probe.frames), ("h264", 640, 480, 25));
    assert_real_times(&probe.times, &arrivals);
    let clips = eventually("the clip is counted", PATIENCE, || {
        let clips = node.metrics();
        (clips.sum("meerkat_clips_total", &[]) > 0.0).then_some(clips)
    });
    assert_eq!(clips.sum("meerkat_clips_total", &[("result", "repaired")]), 1.0);
    assert_eq!(clips.sum("meerkat_clips_total", &[]), 1.0);
    eventually("the first try at it left nothing behind", PATIENCE, || {
        (files_below(&node.data().join("capture")) == [video.clone()]).then_some(())
    });
    assert!(node.stop().success(), "{}", node.log());
}

/// The scene as a camera sends it, twice as fast as it was drawn for.
const SCENE_INTERVAL: Duration = Duration::from_millis(50);
/// Frames of the scene until shortly before somebody walks through the empty yard.
const UNTIL_EMPTY: u64 = 470;

fn scene_jpeg(scene: &Scene, number: u64) -> Vec<u8> {
    encode_jpeg(&scene.frame(number).unwrap(), 85).unwrap()
}

fn zone_of(scene: &Scene) -> String {
    let zone = scene.zone();
    format!("{},{},{},{}", zone.x, zone.y, zone.width, zone.height)
}

fn of_kind(rows: &[EventRow], kind: EventKind) -> Vec<&EventRow> {
    rows.iter().filter(|row| row.kind == kind).collect()
}

#[test]
fn mode_3_tells_a_theft_from_a_walk_by() {
    let scene = Scene::new(640, 480);
    let mut node = Plan::new()
        .set("cameras.yard.zone", zone_of(&scene))
        // Where other work keeps the guard from its turn, the camera waits instead of going on unseen.
        .set("frame.answer_wait_ms", 1_000)
        .set("clip.pre_roll_secs", 3)
        .set("clip.post_roll_secs", 1)
        .start();
    let mut camera = node.camera("yard", 3);
    let (mut sent, mut at_theft) = (Vec::new(), None);
    paced(0..UNTIL_EMPTY, SCENE_INTERVAL, |number| {
        let picture = scene_jpeg(&scene, number);
        assert_eq!(camera.frame(&picture), b'1');
        sent.push(picture);
        if Scene::phase(number) == Phase::Approach && at_theft.is_none() {
            at_theft = Some((number, of_kind(&node.events("yard"), EventKind::ObjectRemoved).len()));
        }
    });
    let (first_frame_of_theft, before) = at_theft.unwrap();
    assert_eq!(before, 0, "somebody who walks by has stolen nothing");
    let event = eventually("the theft is an event with a clip, and over", PATIENCE, || {
        let rows = node.events("yard");
        let removed = of_kind(&rows, EventKind::ObjectRemoved);
        removed.first().filter(|row| row.ended.is_some() && !row.clips.is_empty()).map(|row| (*row).clone())
    });
    let rows = node.events("yard");
    assert_eq!(of_kind(&rows, EventKind::ObjectRemoved).len(), 1);
    assert_eq!(of_kind(&rows, EventKind::ObjectMoved).len(), 0);
    assert!(!of_kind(&rows, EventKind::Motion).is_empty(), "walking is motion");
    assert!(event.started_seq > first_frame_of_theft, "frame {} is before the theft", event.started_seq);
    assert!(!event.interrupted && event.clips.len() == 1, "{event:?}");

    // The snapshot is the very frame that started the event.
    let snapshot = std::fs::read(node.data().join(event.snapshot.as_ref().unwrap())).unwrap();
    assert!(
        snapshot == sent[usize::try_from(event.started_seq).unwrap() - 1],
        "the snapshot is another picture"
    );
    let page = node.get(&format!("/api/v1/events/{}/snapshot", event.id));
    assert!(page.status == 200 && page.body == snapshot);

    // The clip shows what led to it and what followed.
    let clip = &event.clips[0];
    let path = node.data().join(&clip.path);
    let probe = ffprobe(&path);
    assert_eq!((probe.codec.as_str(), probe.pixels.as_str()), ("h264", "yuv420p"));
    assert_eq!((probe.width, probe.height, probe.frames), (640, 480, clip.frames));
    let lead = (event.started.0 - clip.started.0) as f64 / 1e6;
    assert!((2.0..=3.01).contains(&lead), "the clip begins {lead} s before the event");
    let page = node.get(&format!("/api/v1/events/{}/clip", event.id));
    assert!(page.status == 200 && page.body == std::fs::read(&path).unwrap());

    let metrics = node.metrics();
    let events = |kind| metrics.sum("meerkat_events_total", &[("camera", "yard"), ("kind", kind)]);
    assert_eq!((events("object_removed"), events("object_moved")), (1.0, 0.0));
    assert_eq!(events("motion"), of_kind(&rows, EventKind::Motion).len() as f64);
    assert_eq!(metrics.sum("meerkat_clips_total", &[]), 1.0);
    assert_eq!(metrics.sum("meerkat_clips_total", &[("result", "ok")]), 1.0);
    let labels = [("camera", "yard"), ("stage", "received"), ("result", "ok")];
    assert_eq!(metrics.sum("meerkat_frames_total", &labels), UNTIL_EMPTY as f64);
    assert!(node.stop().success(), "{}", node.log());
}

/// Waits until every frame so far was looked at, so that what is asked for next is about later frames.
fn wait_until_looked_at(node: &Node, camera: &str) {
    eventually("every frame is looked at", PATIENCE, || {
        let metrics = node.metrics();
        let frames = |stage, result| {
            metrics.sum("meerkat_frames_total", &[("camera", camera), ("stage", stage), ("result", result)])
        };
        let replaced =
            metrics.sum("meerkat_slot_replaced_total", &[("camera", camera), ("detector", "motion")]);
        (frames("motion", "ok") + replaced >= frames("received", "ok")).then_some(())
    });
}

fn brighter(image: &Image, levels: u8) -> Vec<u8> {
    let mut image = image.clone();
    for value in image.data_mut() {
        *value = value.saturating_add(levels);
    }
    encode_jpeg(&image, 85).unwrap()
}

#[test]
fn mode_3_takes_a_new_reference_on_request_and_ignores_a_lamp() {
    let scene = Scene::new(320, 240);
    let zone = zone_of(&scene);
    let node = Plan::new()
        .set("cameras.told.zone", &zone)
        .set("cameras.untold.zone", &zone)
        .set("cameras.lamp.zone", &zone)
        .set("frame.answer_wait_ms", 1_000)
        .start();
    let mut cameras = ["told", "untold", "lamp"].map(|id| node.camera(id, 3));
    paced(0..60, SCENE_INTERVAL, |number| {
        let picture = scene_jpeg(&scene, number);
        for camera in &mut cameras {
            assert_eq!(camera.frame(&picture), b'1');
        }
    });
    wait_until_looked_at(&node, "told");
    assert_eq!(node.get("/api/v1/cameras/told/reference").status, 405, "reading must not change anything");
    assert_eq!(node.post("/api/v1/cameras/told/reference").status, 202);
    assert_eq!(node.post("/api/v1/cameras/nobody/reference").status, 409);
    // From one frame to the next the vase is gone, and nobody is to be seen; or somebody switches a lamp on.
    paced(400..470, SCENE_INTERVAL, |number| {
        let image = scene.frame(number).unwrap();
        let picture = encode_jpeg(&image, 85).unwrap();
        let [told, untold, lamp] = &mut cameras;
        assert_eq!((told.frame(&picture), untold.frame(&picture)), (b'1', b'1'));
        assert_eq!(lamp.frame(&brighter(&scene.frame(number - 400).unwrap(), 30)), b'1');
    });
    eventually("the theft nobody was told of is an alarm", PATIENCE, || {
        (of_kind(&node.events("untold"), EventKind::ObjectRemoved).len() == 1).then_some(())
    });
    for camera in ["told", "untold", "lamp"] {
        wait_until_looked_at(&node, camera);
    }
    let alarms = |camera: &str| -> Vec<EventKind> {
        node.events(camera).iter().map(|row| row.kind).filter(|kind| *kind != EventKind::Motion).collect()
    };
    assert_eq!(alarms("told"), [], "the new reference has no vase");
    assert_eq!(alarms("untold"), [EventKind::ObjectRemoved]);
    assert_eq!(node.events("lamp"), [], "a lamp is neither motion nor a theft");
}
