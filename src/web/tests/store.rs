//! Rows and long work over HTTP, as the command line uses them: pages with an end, and nothing that says where to write.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

mod support;

use std::sync::atomic::Ordering;

use meerkat_base::EventKind;
use meerkat_store::CaptureKind;
use meerkat_web::{ClipQuery, LongWork, MAX_CLIPS};
use serde_json::json;
use support::{NOW, Node, camera, event, settings};

#[test]
fn rows_of_events_come_in_pages() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    let all: Vec<_> = (1..=3).map(|n| event(n, "door", EventKind::Person, None, None)).collect();
    *node.events.events.lock().unwrap() = all.clone();
    let page = node.get("/api/v1/store/events?limit=2").json();
    let ids: Vec<_> = page["events"].as_array().unwrap().iter().map(|row| row["id"].clone()).collect();
    assert_eq!(ids, [json!(all[2].id), json!(all[1].id)]);
    assert_eq!(page["process"], json!(std::process::id()));
    let next = page["next"].as_str().unwrap();
    let last = node.get(&format!("/api/v1/store/events?limit=2&before={next}")).json();
    assert_eq!((last["events"].as_array().unwrap().len(), &last["next"]), (1, &json!(null)));
    for bad in ["limit=0", "limit=201", "kind=cat", "color=red"] {
        assert_eq!(node.get(&format!("/api/v1/store/events?{bad}")).status, 400, "{bad}");
    }

    let one = format!("/api/v1/store/events/{}", all[0].id);
    assert_eq!(node.get(&one).json()["id"], json!(all[0].id));
    let seen = node.get(&format!("{one}/sightings?from=9")).json();
    assert_eq!((&seen["sightings"], &seen["next"]), (&json!([9]), &json!("10")));
    assert_eq!(node.get(&format!("{one}/sightings?to=9")).status, 400);
    for missing in ["x", "01930000-0000-7000-8000-000000000001"] {
        assert_eq!(node.get(&format!("/api/v1/store/events/{missing}")).status, 404, "{missing}");
    }
    assert_eq!(node.ask("POST", &one, &[]).status, 405);
    node.events.broken.store(true, Ordering::SeqCst);
    let broken = node.get("/api/v1/store/events");
    assert_eq!(broken.status, 503);
    assert!(!broken.text().contains("secret"));
}

#[test]
fn visits_come_in_pages_of_a_span_of_time() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    let span = "/api/v1/store/visits?since=2026-11-20T00:00:00Z&until=2026-11-21T00:00:00.000001Z";
    let page = node.get(span).json();
    assert_eq!(page["visits"], json!([{ "person": "Ada" }]));
    let next = page["next"].as_str().unwrap();
    assert_eq!(next, format!("{}_3", NOW.0));
    assert_eq!(node.get(&format!("{span}&limit=500&after={next}")).status, 200);
    let asked = node.events.visits_asked.lock().unwrap().clone();
    assert_eq!(asked[0].until.0 - asked[0].since.0, 86_400_000_001);
    assert_eq!((asked[1].limit, asked[1].after.unwrap().number), (500, 3));
    for bad in ["&limit=501", "&limit=x", "&after=x", "&since=2026-11-20T00:00:00Z"] {
        assert_eq!(node.get(&format!("{span}{bad}")).status, 400, "{bad}");
    }
    assert_eq!(node.get("/api/v1/store/visits").status, 400, "all of them is no span");
    node.events.broken.store(true, Ordering::SeqCst);
    assert!(!node.get(span).text().contains("secret"));
}

#[test]
fn clips_and_snapshots_are_asked_for_by_number_path_or_what_they_are() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    let (clips, snapshots) = ("/api/v1/store/clips", "/api/v1/store/snapshots");
    let page = node.get(&format!("{clips}?after=3")).json();
    assert_eq!((&page["clips"], &page["next"]), (&json!([{ "camera": "door" }]), &json!("4")));
    assert_eq!(page["process"], json!(std::process::id()));
    assert_eq!(node.get(&format!("{clips}?path=capture/clip/a.mp4")).json()["next"], json!(null));
    assert_eq!(node.get(&format!("{clips}?camera=door&kind=clip&limit=500")).status, 200);
    let newest =
        ClipQuery::Newest { camera: Some(camera("door")), kind: Some(CaptureKind::Clip), limit: MAX_CLIPS };
    assert_eq!(
        *node.events.clips_asked.lock().unwrap(),
        [ClipQuery::After(3), ClipQuery::At("capture/clip/a.mp4".to_owned()), newest]
    );
    let page = node.get(snapshots).json();
    assert_eq!((&page["snapshots"], &page["next"]), (&json!(["a.jpg"]), &json!("5")));
    let last = node.get(&format!("{snapshots}?after=5")).json();
    assert_eq!((&last["snapshots"], &last["next"]), (&json!([]), &json!(null)));
    assert_eq!(node.get(&format!("{snapshots}?path=a.jpg")).json()["snapshots"], json!(["a.jpg"]));
    assert_eq!(node.get(&format!("{snapshots}?path=b.jpg")).json()["snapshots"], json!([]));
    for bad in ["clips?limit=501", "clips?after=1&path=x", "snapshots?after=1&path=x", "snapshots?limit=9"] {
        assert_eq!(node.get(&format!("/api/v1/store/{bad}")).status, 400, "{bad}");
    }
    // Rows of clips change by what the node does, not by a request.
    for path in [clips, snapshots] {
        assert_eq!(node.ask("POST", path, &[]).status, 405, "{path}");
        assert_eq!(node.ask("DELETE", path, &[]).status, 405, "{path}");
    }
    node.events.broken.store(true, Ordering::SeqCst);
    for path in [clips, snapshots] {
        let broken = node.get(path);
        assert_eq!(broken.status, 503, "{path}");
        assert!(!broken.text().contains("secret"), "{path}");
    }
}

#[test]
fn long_work_is_ordered_asked_about_and_fetched() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    let order = |path: &str| node.ask("POST", path, &[]);
    let check = order("/api/v1/store/check");
    assert_eq!((check.status, check.json()), (202, json!({ "number": 1 })));
    assert_eq!(node.get("/api/v1/store/check").json()["doing"], "Check");
    assert_eq!(order("/api/v1/store/backup").status, 202);
    assert_eq!(node.get("/api/v1/store/backup").json()["doing"], "Backup");
    assert_eq!(order("/api/v1/store/backup").status, 409);
    assert_eq!(node.ask("DELETE", "/api/v1/store/backup", &[]).json()["discarded"], true);
    assert_eq!(node.ask("DELETE", "/api/v1/store/backup", &[]).status, 404);
    assert_eq!(node.ask("DELETE", "/api/v1/store/check", &[]).status, 405);
    // Where a backup goes is not a matter of the request.
    let with_path = node.post("/api/v1/store/backup?to=/tmp/x", r#"{"to":"/tmp/x"}"#);
    assert_eq!(with_path.status, 202);
    assert_eq!(
        *node.storage.orders.lock().unwrap(),
        [LongWork::Check, LongWork::Backup, LongWork::Backup, LongWork::Backup]
    );
}

#[test]
fn with_a_token_nobody_else_reads_rows_or_orders_work() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::start(settings("127.0.0.1:0", Some("a-token-of-sixteen"), data.path()));
    for (method, path) in [
        ("GET", "/api/v1/store/events"),
        ("GET", "/api/v1/store/visits?since=2026-11-20T00:00:00Z&until=2026-11-21T00:00:00Z"),
        ("GET", "/api/v1/store/clips"),
        ("GET", "/api/v1/store/clips?path=capture/clip/a.mp4"),
        ("GET", "/api/v1/store/snapshots"),
        ("GET", "/api/v1/store/backup"),
        ("POST", "/api/v1/store/check"),
        ("POST", "/api/v1/store/backup"),
        ("DELETE", "/api/v1/store/backup"),
    ] {
        assert_eq!(node.ask(method, path, &[]).status, 401, "{method} {path}");
    }
    let foreign = node.ask("POST", "/api/v1/store/backup", &["Origin: http://evil.example.org"]);
    assert_ne!(foreign.status, 202);
    assert!(node.storage.orders.lock().unwrap().is_empty());
    assert!(node.events.clips_asked.lock().unwrap().is_empty());
}
