//! The disk over HTTP: what is told, what is kept, and who may say so.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

mod support;

use support::{EVENT_ON_DISK, Node, settings};

#[test]
fn the_disk_is_shown_and_the_clock_confirmed() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    assert_eq!(node.get("/api/v1/storage").json()["free_bytes"], 5);
    assert_eq!(node.get("/api/v1/storage/plan").json()["next"], serde_json::json!([50]));
    assert_eq!(node.get("/api/v1/storage/plan?limit=3").json()["next"], serde_json::json!([3]));
    for bad in ["?limit=0", "?limit=1001", "?limit=x", "?other=1"] {
        assert_eq!(node.get(&format!("/api/v1/storage/plan{bad}")).status, 400, "{bad}");
    }
    let confirmed = node.ask("POST", "/api/v1/storage/confirm-clock", &[]);
    assert_eq!((confirmed.status, confirmed.json()["was_in_doubt"].as_bool()), (200, Some(true)));
    assert_eq!(node.get("/api/v1/storage/confirm-clock").status, 405);
}

#[test]
fn events_and_clips_are_kept_and_let_go() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    let event = format!("/api/v1/events/{EVENT_ON_DISK}/keep");
    let kept = node.ask("POST", &event, &[]);
    assert_eq!((kept.status, kept.json()), (200, serde_json::json!({ "kept": true, "clips": ["a.mp4"] })));
    assert_eq!(node.ask("DELETE", &event, &[]).json()["kept"], false);
    let clip = "/api/v1/clips/keep?path=capture%2Fclip%2Fa.mp4";
    assert_eq!(node.ask("POST", clip, &[]).status, 404);
    assert_eq!(node.ask("POST", "/api/v1/clips/keep", &[]).status, 400);
    assert_eq!(node.ask("PUT", &event, &[]).status, 405);
    let asked = node.storage.asked.lock().unwrap().clone();
    let expected = [(EVENT_ON_DISK, true), (EVENT_ON_DISK, false), ("capture/clip/a.mp4", true)];
    assert_eq!(asked, expected.map(|(what, keep)| (what.to_owned(), keep)));
}

#[test]
fn with_a_token_nobody_else_keeps_or_confirms() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::start(settings("127.0.0.1:0", Some("a-token-of-sixteen"), data.path()));
    for (method, path) in [
        ("GET", "/api/v1/storage"),
        ("POST", "/api/v1/storage/confirm-clock"),
        ("DELETE", "/api/v1/clips/keep?path=a"),
    ] {
        assert_eq!(node.ask(method, path, &[]).status, 401, "{method} {path}");
    }
    assert!(node.storage.asked.lock().unwrap().is_empty());
}
