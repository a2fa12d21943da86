//! What `/healthz` and `/readyz` say when the disk goes, and that the HTTP side answers when the frame path is stuck.

use std::time::{Duration, Instant};

use crate::harness::{Node, PATIENCE, Page, Plan, eventually, jpeg};

#[track_caller]
fn until_ready(node: &Node, ok: bool) -> Page {
    eventually(&format!("ready is {ok}"), PATIENCE, || {
        assert_eq!(node.get("/healthz").status, 200, "alive all the same");
        let page = node.get("/readyz");
        assert_eq!(page.json()["ok"].as_bool(), Some(page.status == 200), "{}", page.text());
        (page.json()["ok"] == ok).then_some(page)
    })
}

#[test]
fn a_node_whose_folder_is_gone_is_alive_but_not_ready() {
    let node = Plan::new().start();
    assert_eq!(until_ready(&node, true).json()["reasons"], serde_json::json!([]));
    let (data, aside) = (node.data(), node.data().with_file_name("aside"));

    // The folder vanishes, as when a disk is taken away.
    std::fs::rename(&data, &aside).unwrap();
    let page = until_ready(&node, false);
    assert_eq!(page.status, 503);
    assert!(page.json()["reasons"][0].as_str().unwrap().contains("data folder"), "{}", page.text());
    assert_eq!(node.status()["node"]["degraded"], true);
    assert!(!data.exists(), "asking makes no folder");

    // A file stands in its place; permissions alone would not stop a test that runs as root.
    std::fs::write(&data, "no folder").unwrap();
    assert_eq!(until_ready(&node, false).status, 503);
    std::fs::remove_file(&data).unwrap();

    // An empty folder does, as under a disk that was unmounted: it can be written, but is not the node's.
    std::fs::create_dir(&data).unwrap();
    let page = eventually("it is noticed", PATIENCE, || {
        let page = node.get("/readyz");
        page.text().contains("replaced").then_some(page)
    });
    assert_eq!(page.status, 503);
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0, "nothing was written to it");
    std::fs::remove_dir(&data).unwrap();

    std::fs::rename(&aside, &data).unwrap();
    assert_eq!(until_ready(&node, true).status, 200);
    assert_eq!(node.status()["node"]["degraded"], false);
}

#[test]
fn an_actor_that_waits_for_its_restart_makes_the_node_not_ready() {
    let mut node = Plan::new().set("supervision.backoff_min_ms", 3_000).with_faults().start();
    until_ready(&node, true);
    let mut camera = node.camera("door", 3);
    assert_eq!(camera.frame(&jpeg(320, 240, 1)), b'1');
    node.order("motion door panic 1");
    let page = eventually("motion is down", PATIENCE, || {
        camera.frame(&jpeg(320, 240, 2));
        let page = node.get("/readyz");
        (page.status == 503).then_some(page)
    });
    assert!(page.json()["reasons"][0].as_str().unwrap().contains("motion"), "{}", page.text());
    until_ready(&node, true);
}

fn looked(node: &Node) -> f64 {
    node.metric("meerkat_frames_total", &[("stage", "motion"), ("result", "ok")])
}

#[test]
fn the_http_side_answers_while_the_frame_path_is_stuck() {
    // Nothing is rebuilt for as long as this test lasts: every thread that looks at frames stays stuck.
    let mut node = Plan::new()
        .set("supervision.decode_deadline_ms", 600_000)
        .set("supervision.motion_deadline_ms", 600_000)
        .set("supervision.disk_deadline_ms", 600_000)
        .with_faults()
        .start();
    let mut guard = node.camera("yard", 3);
    let mut video = node.camera("gate", 2);
    for seed in 0..5 {
        assert_eq!(guard.frame(&jpeg(320, 240, seed)), b'1');
        assert_eq!(video.frame(&jpeg(320, 240, seed)), b'1');
    }
    eventually("motion has looked", PATIENCE, || (looked(&node) > 0.0).then_some(()));
    // More than there are threads for it.
    node.order("decoder - hang 64");
    node.order("motion - hang 64");
    node.order("recorder - hang 64");
    // The video's answer waits for its recorder: it is sent and left alone.
    for seed in 0..20 {
        guard.frame(&jpeg(320, 240, 100 + seed));
    }
    video.send_frame(&jpeg(320, 240, 100));
    let before = looked(&node);
    for seed in 0..10 {
        assert_eq!(guard.frame(&jpeg(320, 240, 200 + seed)), b'1', "sessions go on");
    }
    assert_eq!(looked(&node), before, "the frame path is stuck");
    video.set_patience(Duration::from_millis(500));
    assert!(video.try_answer().is_err(), "a video's answer waits for its disk");
    for path in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/api/v1/status",
        "/api/v1/events",
        "/api/v1/people",
        "/api/v1/cameras/yard/picture",
        "/",
    ] {
        let begun = Instant::now();
        let page = node.get(path);
        assert!(begun.elapsed() < Duration::from_secs(2), "{path} took {:?}", begun.elapsed());
        assert_eq!(page.status, 200, "{path}: {}", page.text());
    }
    assert_eq!(node.status()["age_seconds"], 0.0);
    assert!(node.camera_status("yard")["frames"].as_u64().unwrap() >= 35);
    node.order("release");
    video.set_patience(PATIENCE);
    assert_eq!(video.answer(), b'1', "what waited is answered");
    eventually("frames are looked at again", PATIENCE, || {
        assert_eq!(guard.frame(&jpeg(320, 240, 7)), b'1');
        (looked(&node) > before).then_some(())
    });
}
