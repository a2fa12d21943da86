//! Snoozes over HTTP: what is taken, what is refused, and who may ask.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

mod support;

use std::time::Duration;

use meerkat_web::SnoozeEnd;
use support::{Node, settings};

const SNOOZES: &str = "/api/v1/snoozes";
const YARD: &str = r#"{"camera":"yard","for_secs":7200,"reason":"the gardener"}"#;

#[test]
fn snoozes_are_listed_added_and_cancelled() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    let list = node.get(SNOOZES).json();
    assert_eq!((&list["snoozes"], &list["process"]), (&serde_json::json!([]), &std::process::id().into()));
    let reply = node.post(SNOOZES, YARD);
    assert_eq!((reply.status, reply.json()["camera"].as_str()), (201, Some("yard")));
    let added = node.snoozes.added.lock().unwrap().remove(0);
    assert_eq!(
        (added.end, added.reason.as_str()),
        (SnoozeEnd::After(Duration::from_secs(7_200)), "the gardener")
    );
    assert_eq!(node.ask("DELETE", "/api/v1/snoozes/1", &[]).status, 200);
    assert_eq!(node.ask("DELETE", "/api/v1/snoozes/2", &[]).status, 404);
    assert_eq!(node.get("/api/v1/snoozes/1").status, 405);
    assert_eq!(node.ask("PUT", SNOOZES, &[]).status, 405);
}

#[test]
fn wrong_orders_are_refused_in_words() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    for (body, status, says) in [
        ("", 400, "not a snooze"),
        ("{}", 400, "one of for_secs"),
        (r#"{"for_secs":60,"rule":"none"}"#, 422, "there is no rule none"),
    ] {
        let reply = node.post(SNOOZES, body);
        assert_eq!(reply.status, status, "{body}");
        assert!(reply.json()["error"].as_str().unwrap().contains(says), "{body}");
    }
    // A form of a foreign page, and a body beyond what any order needs.
    assert_eq!(node.post_with(SNOOZES, &["Content-Type: text/plain"], YARD).status, 415);
    let long = format!(r#"{{"for_secs":60,"reason":"{}"}}"#, "x".repeat(2_000));
    assert_eq!(node.post(SNOOZES, &long).status, 413);
    assert!(node.snoozes.added.lock().unwrap().is_empty());
}

#[test]
fn with_a_token_nobody_snoozes_without_it() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::start(settings("127.0.0.1:0", Some("correct-horse"), data.path()));
    assert_eq!(node.get(SNOOZES).status, 401);
    assert_eq!(node.post(SNOOZES, YARD).status, 401);
    assert_eq!(node.ask("DELETE", "/api/v1/snoozes/1", &[]).status, 401);
    assert!(node.snoozes.added.lock().unwrap().is_empty());
}
