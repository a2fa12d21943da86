//! Privacy masks: what is covered is in nothing that the node keeps, shows or looks at.

use std::path::{Path, PathBuf};

use meerkat_base::{ImageWish, PixelFormat};
use meerkat_media::{ReadOptions, Reader};
use rustix::process::Signal;

use crate::harness::{Node, PATIENCE, Plan, eventually, files_below, jpeg, made, stir};

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

#[test]
fn snapshots_and_clips_are_covered() {
    let plan = Plan::new().file(MASKED).with_quick_motion();
    let plan = plan.set("clip.kinds", "motion").set("clip.pre_roll_secs", 1).set("clip.post_roll_secs", 0.2);
    let mut node = plan.start();
    let mut yard = node.camera("yard", 3);
    let event = node.stir(&mut yard, "yard");
    let clip = eventually("the clip is made", PATIENCE, || {
        let row = node.events("yard").into_iter().find(|row| row.id == event.id)?;
        Some((row.clips.first()?.path.clone(), row.snapshot?))
    });
    assert!(assert_video_covered(&node.data().join(&clip.0)) > 5);
    assert_covered(&std::fs::read(node.data().join(&clip.1)).unwrap(), "the snapshot");
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
