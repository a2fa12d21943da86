//! Privacy masks: what is covered is in nothing that the node keeps, shows or looks at.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use meerkat_base::{EventKind, ImageWish, PixelFormat};
use meerkat_media::{ReadOptions, Reader};
use meerkat_notify::testing::{MockServer, Received};
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Backend, Node, PATIENCE, Plan, data, eventually, files_below, jpeg, made, stir};

const SECRET: &str = "a-secret-of-the-tests";
const KEY: &str = "693a91f6-7xxx-4bc4-97a0-0ec2sifa5aaa";
/// The detectors are slow and the machine may be busy.
const LONG: Duration = Duration::from_secs(180);

/// The left half of the yard is nobody's business.
const MASKED: &str = r#"
[cameras.yard]
masks = ["0,0,0.5,1"]
"#;

/// Mean brightness of the left and of the right half, less the seam.
#[track_caller]
fn halves(picture: &[u8]) -> (f64, f64) {
    let wish = ImageWish { format: PixelFormat::Gray8, enough_width: u32::MAX };
    let (image, _) = meerkat_vision::decode_image(picture, wish).unwrap();
    let (width, seam) = (image.width() as usize, 4);
    let mean = |from: usize, to: usize| {
        let rows = image.data().chunks_exact(width);
        let sum: f64 = rows.flat_map(|row| &row[from..to]).map(|&pixel| f64::from(pixel)).sum();
        sum / (f64::from(image.height()) * (to - from) as f64)
    };
    (mean(0, width / 2 - seam), mean(width / 2 + seam, width))
}

#[track_caller]
fn assert_covered(picture: &[u8], what: &str) {
    let (left, right) = halves(picture);
    assert!(left < 4.0, "{what}: the mask is not black but {left}");
    assert!(right > 30.0, "{what}: the rest is gone: {right}");
}

#[track_caller]
fn assert_video_covered(path: &Path) -> usize {
    let mut reader = Reader::open(path.to_str().unwrap(), ReadOptions::default()).unwrap();
    let mut frames = 0;
    while let Some((frame, _)) = reader.next_jpeg(95).unwrap() {
        let (left, right) = halves(&frame);
        // Video keeps black at 16 and blurs edges.
        assert!(left < 12.0 && right > 30.0, "{}: frame {frames}: {left} {right}", path.display());
        frames += 1;
    }
    frames
}

fn masked_frames(node: &Node, result: &str) -> f64 {
    node.metric("meerkat_frames_total", &[("camera", "yard"), ("stage", "masked"), ("result", result)])
}

#[test]
fn pictures_and_videos_are_kept_covered_and_what_cannot_be_covered_is_refused() {
    let mut node = Plan::new().file(MASKED).start();
    let mut yard = node.camera("yard", 1);
    let open = jpeg(320, 240, 3);
    assert!(halves(&open).0 > 30.0);
    assert_eq!(yard.frame(&open), b'1');
    // Right in structure, so that the parser takes it, but without a picture.
    let hollow = made::Jpeg::new(320, 240, made::noise(500, 1)).build();
    assert_eq!(yard.frame(&hollow), b'0', "what cannot be covered is not kept");
    let files = files_below(&node.data().join("capture/image/yard"));
    assert_eq!(files.len(), 1);
    assert_covered(&std::fs::read(&files[0]).unwrap(), "the stored picture");
    assert_covered(&node.get("/api/v1/cameras/yard/picture").body, "the picture on the page");
    assert_eq!((masked_frames(&node, "ok"), masked_frames(&node, "refused")), (1.0, 1.0));

    assert_eq!(yard.mode(2), b'1');
    for seed in 0..5 {
        assert_eq!(yard.frame(&jpeg(320, 240, seed)), b'1');
    }
    assert_eq!(yard.mode(1), b'1');
    let videos = eventually("the video is made", PATIENCE, || {
        let files = files_below(&node.data().join("capture/video/yard"));
        // Unfinished files begin with a dot.
        let done = |file: &PathBuf| {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.ends_with(".mp4") && !name.starts_with('.')
        };
        let videos: Vec<PathBuf> = files.into_iter().filter(done).collect();
        (videos.len() == 1).then_some(videos)
    });
    assert_eq!(assert_video_covered(&videos[0]), 5);

    // Another camera's pictures stay as they are, byte by byte.
    let mut door = node.camera("door", 1);
    assert_eq!(door.frame(&open), b'1');
    let stored = files_below(&node.data().join("capture/image/door"));
    assert!(std::fs::read(&stored[0]).unwrap() == open);
    assert!(node.stop().success(), "{}", node.log());
}

/// What stands in a message as base64.
#[track_caller]
fn attached(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().expect("it goes along")).unwrap()
}

#[test]
fn snapshots_and_clips_are_covered_where_they_lie_and_where_they_are_sent() {
    let (hook, robot) = (MockServer::webhook(SECRET).unwrap(), MockServer::wecom(KEY).unwrap());
    let plan = Plan::new().file(MASKED).with_quick_motion();
    let plan = plan.set("clip.kinds", "motion").set("clip.pre_roll_secs", 1).set("clip.post_roll_secs", 0.2);
    let plan = plan
        .set("notify.channels.hook.type", "webhook")
        .set("notify.channels.hook.url", hook.base())
        .set("notify.channels.hook.secret", SECRET)
        .set("notify.channels.hook.kinds", "motion")
        .set("notify.channels.hook.max_clip_bytes", 10_000_000)
        .set("notify.channels.robot.type", "wecom")
        .set("notify.channels.robot.url", format!("{}/cgi-bin/webhook/send?key={KEY}", robot.base()))
        .set("notify.channels.robot.kinds", "motion")
        .set("notify.channels.robot.include_clip", false);
    let mut node = plan.start();
    let mut yard = node.camera("yard", 3);
    let event = node.stir(&mut yard, "yard");
    let clip = eventually("the clip is made", PATIENCE, || {
        let row = node.events("yard").into_iter().find(|row| row.id == event.id)?;
        Some((row.clips.first()?.path.clone(), row.snapshot?))
    });
    assert!(assert_video_covered(&node.data().join(&clip.0)) > 5);
    assert_covered(&std::fs::read(node.data().join(&clip.1)).unwrap(), "the snapshot");

    // What somebody sees who is told of it.
    let part = |name: &str| {
        eventually(&format!("{name} is sent"), PATIENCE, || {
            hook.received().into_iter().find_map(|message| match message {
                Received::Hook { body, .. } if body["part"] == name => Some(body),
                _ => None,
            })
        })
    };
    assert_covered(&attached(&part("alert")["snapshot"]), "the picture beside the message");
    let sent = node.data().with_file_name("sent.mp4");
    std::fs::write(&sent, attached(&part("clip")["clip"]["data"])).unwrap();
    assert!(assert_video_covered(&sent) > 5);
    let picture = eventually("the picture is sent", PATIENCE, || {
        robot.received().into_iter().find_map(|message| match message {
            Received::Picture(bytes) => Some(bytes),
            _ => None,
        })
    });
    assert_covered(&picture, "the picture that is a message of its own");
    assert!(node.stop().success(), "{}", node.log());
}

#[test]
fn what_moves_under_a_mask_is_no_movement() {
    // What stirs does so in the middle of the picture: there the yard is covered, the gate below it.
    let masks = "[cameras.yard]\nmasks = [\"0,0.25,1,0.5\"]\n[cameras.gate]\nmasks = [\"0,0.75,1,0.25\"]\n";
    let mut node = Plan::new().file(masks).with_quick_motion().start();
    let (mut yard, mut gate) = (node.camera("yard", 3), node.camera("gate", 3));
    eventually("the yard is looked at often enough", PATIENCE, || {
        stir(&mut yard);
        let looked = [("camera", "yard"), ("stage", "motion"), ("result", "ok")];
        (node.metric("meerkat_frames_total", &looked) >= 20.0).then_some(())
    });
    // The same is an event where it can be seen, and by the time it is over the yard would have had its own.
    node.stir(&mut gate, "gate");
    let seen = node.events("yard");
    assert!(seen.is_empty(), "{seen:?}");
    assert_eq!(node.metric("meerkat_events_total", &[("camera", "yard"), ("kind", "motion")]), 0.0);
    assert!(node.stop().success(), "{}", node.log());
}

#[test]
fn a_face_under_a_mask_is_nobodys() {
    let (Some(folder), Some(backend)) = (data("faces/lfw10x10"), Backend::candle()) else { return };
    let portrait = std::fs::read(folder.join("Tony_Blair/Tony_Blair_0002.jpg")).unwrap();
    // The face is in the middle of the picture: at the yard it is covered, at the gate only an edge is.
    let masks = "[cameras.yard]\nmasks = [\"0.1,0.1,0.8,0.8\"]\n[cameras.gate]\nmasks = [\"0,0,0.04,1\"]\n";
    let plan = Plan::new()
        .file(masks)
        .set("motion.enabled", false)
        .set("detectors.face.gate", "none")
        .set("events.face.end_secs", 0.5)
        .set("events.face.cooldown_secs", 0)
        .set("clip.post_roll_secs", 0)
        .set("clip.preset", "ultrafast");
    let mut node = backend.of(plan).start();
    backend.check(&node, "face");
    let (mut yard, mut gate) = (node.camera("yard", 5), node.camera("gate", 5));
    eventually("the yard is looked at often enough", LONG, || {
        assert_eq!(yard.frame(&portrait), b'1');
        let looked = [("camera", "yard"), ("stage", "face"), ("result", "ok")];
        (node.metric("meerkat_frames_total", &looked) >= 8.0).then_some(())
    });
    assert_eq!(node.metric("meerkat_unknown_faces_total", &[("result", "kept")]), 0.0);
    // The same picture is an event where the face can be seen.
    eventually("the face is found at the gate", LONG, || {
        assert_eq!(gate.frame(&portrait), b'1');
        node.events("gate").iter().any(|row| row.kind == EventKind::Face).then_some(())
    });
    let seen = node.events("yard");
    assert!(seen.is_empty(), "{seen:?}");
    assert!(node.stop().success(), "{}", node.log());
}

#[test]
fn a_mask_that_is_new_makes_the_node_forget_what_it_saw() {
    let mut node = Plan::new().file("[cameras.yard]\nname = \"Yard\"\n").start();
    let mut yard = node.camera("yard", 3);
    let open = jpeg(320, 240, 3);
    assert_eq!(yard.frame(&open), b'1');
    assert!(node.get("/api/v1/cameras/yard/picture").body == open);
    node.write_file(MASKED);
    node.signal(Signal::HUP);
    node.wait_for_log("settings reloaded; listeners, data folder and threads keep what they started with");
    assert_eq!(
        node.get("/api/v1/cameras/yard/picture").status,
        404,
        "the picture from before shows too much"
    );
    assert_eq!(node.camera_status("yard")["ring_bytes"], 0);
    assert_eq!(yard.frame(&open), b'1');
    assert_covered(&node.get("/api/v1/cameras/yard/picture").body, "the next picture");
    assert!(node.stop().success(), "{}", node.log());
}

#[test]
fn a_masker_that_fails_lets_nothing_through_and_comes_back() {
    let mut node = Plan::new().file(MASKED).with_faults().start();
    let mut yard = node.camera("yard", 3);
    let open = jpeg(320, 240, 3);
    assert_eq!(yard.frame(&open), b'1');
    for kind in ["panic", "error"] {
        node.order(&format!("masker yard {kind} 1"));
        // The order is read by another thread.
        eventually(&format!("it fails: {kind}"), PATIENCE, || (yard.frame(&open) == b'0').then_some(()));
        eventually("the masker is back", PATIENCE, || (yard.frame(&open) == b'1').then_some(()));
    }
    assert_covered(&node.get("/api/v1/cameras/yard/picture").body, "the picture after the failures");
    stir(&mut yard);
    assert!(node.stop().success(), "{}", node.log());
}
