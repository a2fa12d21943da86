//! The enrolled people over HTTP: what is taken, what is refused, and who may ask.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use meerkat_base::ImageFormat;
use meerkat_web::Mistake;
use support::{Node, settings};

const PEOPLE: &str = "/api/v1/people";
const LI_LEI: &str = r#"{"name":"Li Lei","consent_by":"himself","pictures":[{"format":"jpeg","data":"/9j/"},{"format":"png","data":"iVBO"}]}"#;

#[test]
fn people_are_enrolled_listed_and_removed() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    assert_eq!(node.get(PEOPLE).json()["people"], serde_json::json!([]));
    let reply = node.post(PEOPLE, LI_LEI);
    assert_eq!((reply.status, reply.json()["name"].as_str()), (201, Some("Li Lei")));
    let taken = node.people.enrolled.lock().unwrap().remove(0);
    assert_eq!((taken.name.as_str(), taken.consent_by.as_str()), ("Li Lei", "himself"));
    assert_eq!(
        taken.pictures,
        [(ImageFormat::Jpeg, vec![0xFF, 0xD8, 0xFF]), (ImageFormat::Png, vec![0x89, 0x50, 0x4E])]
    );
    node.people.enrolled.lock().unwrap().push(taken);

    let list = node.get(PEOPLE).json();
    assert_eq!(list["process"], std::process::id());
    let person = &list["people"][0];
    assert_eq!((person["name"].as_str(), person["pictures"].as_u64()), (Some("Li Lei"), Some(2)));
    assert_eq!(
        (person["consent_by"].as_str(), person["consent_at"].as_str()),
        (Some("himself"), Some("2026-11-20T21:31:14.123Z"))
    );

    let removed = node.ask("DELETE", "/api/v1/people/Li%20Lei", &[]);
    let expected = serde_json::json!({ "removed": true, "unknown_groups": 1, "negatives": 2 });
    assert_eq!((removed.status, removed.json()), (200, expected));
    assert_eq!(node.ask("DELETE", "/api/v1/people/Li%20Lei", &[]).status, 404);
    assert_eq!(node.ask("DELETE", "/api/v1/people/a%2Fb%C3%A9", &[]).status, 404);
    assert_eq!(*node.people.removed.lock().unwrap(), ["Li Lei", "Li Lei", "a/bé"]);
    assert_eq!(node.get("/api/v1/people/Li%20Lei").status, 405);
    assert_eq!(node.ask("PUT", PEOPLE, &[]).status, 405);
}

#[test]
fn refusals_say_what_and_which_picture() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    let refused = node.post(PEOPLE, &LI_LEI.replace("Li Lei", "nobody"));
    assert_eq!((refused.status, refused.json()["error"].as_str()), (422, Some("nobody is no name")));
    let unusable = node.post(PEOPLE, &LI_LEI.replace("iVBO", ""));
    assert_eq!(unusable.status, 422);
    assert_eq!(
        unusable.json()["pictures"],
        serde_json::json!([{ "number": 2, "reason": "unreadable", "problem": "it is empty" }])
    );
    assert_eq!(unusable.json()["error"], "picture 2: it is empty");
    for (body, status) in [("", 400), ("{}", 400), ("[1]", 400), (&LI_LEI.replace("/9j/", "/9j"), 400)] {
        let reply = node.post(PEOPLE, body);
        assert_eq!(reply.status, status, "{body}");
        assert!(reply.json()["error"].is_string());
    }
    assert_eq!(node.post_with(PEOPLE, &["Content-Type: text/plain"], LI_LEI).status, 415);
    assert_eq!(node.post_with(PEOPLE, &["X: y"], LI_LEI).status, 415);
    assert!(node.people.enrolled.lock().unwrap().is_empty());
    node.people.broken.store(true, Ordering::SeqCst);
    let broken = node.get(PEOPLE);
    assert_eq!(broken.status, 503);
    assert!(!broken.text().contains("secret detail"));
}

#[test]
fn only_this_route_takes_much_and_not_more_than_it_can_hold() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    // 12 MB of picture, 16 MB of base64.
    let body = LI_LEI.replace("/9j/", &"AAAA".repeat(4 << 20));
    assert_eq!(node.post(PEOPLE, &body).status, 201);
    assert_eq!(node.people.enrolled.lock().unwrap()[0].pictures[0].1.len(), 12 << 20);
    let head = |target: &str, line: &str| node.ask("POST", target, &[line]).status;
    assert_eq!(head(PEOPLE, &format!("Content-Length: {}", (32 << 20) + 1)), 413);
    assert_eq!(head("/api/v1/cameras/door/reference", "Content-Length: 2000"), 413);
    assert_eq!(head("/api/v1/faces/unknown/7/assign", "Content-Length: 2000"), 413);
    assert_eq!(head("/api/v1/people/x/not", &format!("Content-Length: {}", (32 << 20) + 1)), 413);
}

#[test]
fn whoever_looks_like_somebody_else_is_enrolled_only_on_purpose() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    let twin = LI_LEI.replace("Li Lei", "twin");
    let reply = node.post(PEOPLE, &twin);
    assert_eq!(reply.status, 409);
    assert_eq!(
        reply.json()["known"],
        serde_json::json!([{ "name": "Li Lei", "pictures": 2, "likeness": 0.75 }])
    );
    assert!(reply.json()["error"].as_str().unwrap().contains("Li Lei (2 of the pictures, likeness 0.75)"));
    assert!(node.people.enrolled.lock().unwrap().is_empty());
    let on_purpose = twin.replacen('{', r#"{"even_if_known":true,"#, 1);
    assert_eq!(node.post(PEOPLE, &on_purpose).status, 201);
}

#[test]
fn a_face_is_said_not_to_be_somebodys_and_that_is_taken_back() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    assert_eq!(node.post(PEOPLE, LI_LEI).status, 201);
    let not = "/api/v1/people/Li%20Lei/not";
    let event = r#"{"event":"018f0000-0000-7000-8000-000000000000"}"#;
    let reply = node.post(not, event);
    assert_eq!((reply.status, reply.json()["person"]["negatives"].as_u64()), (201, Some(1)));
    assert_eq!(reply.json()["likeness"], 0.5);
    // 3 MB of picture.
    let picture = format!(r#"{{"picture":{{"format":"jpeg","data":"{}"}}}}"#, "AAAA".repeat(1 << 20));
    assert_eq!(node.post(not, &picture).status, 201);
    {
        let corrected = node.people.corrected.lock().unwrap();
        assert!(
            matches!(&corrected[..], [(a, Mistake::Event(_)), (b, Mistake::Picture(ImageFormat::Jpeg, bytes))]
            if a == "Li Lei" && b == "Li Lei" && bytes.len() == 3 << 20)
        );
    }
    assert_eq!(node.post("/api/v1/people/nobody/not", event).status, 404);
    assert_eq!(node.post(not, "{}").status, 400);
    assert_eq!(node.post_with(not, &["Content-Type: text/plain"], event).status, 415);
    assert_eq!(node.get(not).status, 405);
    assert_eq!(node.ask("DELETE", not, &[]).json(), serde_json::json!({ "forgotten": 2 }));
    assert_eq!(node.ask("DELETE", "/api/v1/people/nobody/not", &[]).status, 404);
}

#[test]
fn unknown_faces_are_listed_shown_assigned_and_deleted() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    const UNKNOWN: &str = "/api/v1/faces/unknown";
    let list = node.get(UNKNOWN).json();
    assert_eq!((list["groups"][0]["group"].as_u64(), list["groups"][0]["seen"].as_u64()), (Some(7), Some(3)));
    let picture = &list["groups"][0]["pictures"][0];
    assert_eq!((picture["number"].as_u64(), picture["file"].as_str()), (Some(9), Some("unknown/x.jpg")));
    let picture = node.get(&format!("{UNKNOWN}/7/pictures/9"));
    assert_eq!((picture.status, picture.body.as_slice()), (200, &b"jpeg"[..]));
    assert_eq!(picture.header("content-type"), "image/jpeg");
    for nothing in ["8/pictures/9", "7/pictures/8", "7/pictures/x", "x/pictures/9"] {
        assert_eq!(node.get(&format!("{UNKNOWN}/{nothing}")).status, 404, "{nothing}");
    }
    let order = r#"{"name":"Han Mei","consent_by":"herself"}"#;
    let assigned = node.post(&format!("{UNKNOWN}/7/assign"), order);
    assert_eq!((assigned.status, assigned.json()["name"].as_str()), (201, Some("Han Mei")));
    assert_eq!(node.people.assigned.lock().unwrap()[0].group, 7);
    assert_eq!(node.post(&format!("{UNKNOWN}/8/assign"), order).status, 404);
    assert_eq!(node.post(&format!("{UNKNOWN}/7/assign"), r#"{"name":"Han Mei"}"#).status, 400, "no consent");
    assert_eq!(node.ask("DELETE", &format!("{UNKNOWN}/7"), &[]).status, 200);
    assert_eq!(node.ask("DELETE", &format!("{UNKNOWN}/8"), &[]).status, 404);
    assert_eq!(node.ask("DELETE", &format!("{UNKNOWN}/x"), &[]).status, 404);
}

#[test]
fn foreign_pages_and_strangers_change_nobody() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::start(settings("0.0.0.0:0", Some("correct horse"), data.path()));
    let (json, token) = ("Content-Type: application/json", "Authorization: Bearer correct horse");
    assert_eq!(node.post(PEOPLE, LI_LEI).status, 401);
    assert_eq!(node.get(PEOPLE).status, 401);
    for (method, target) in [
        ("DELETE", "/api/v1/people/x"),
        ("DELETE", "/api/v1/people/x/not"),
        ("DELETE", "/api/v1/faces/unknown/7"),
        ("GET", "/api/v1/faces/unknown"),
        ("GET", "/api/v1/faces/unknown/7/pictures/9"),
    ] {
        assert_eq!(node.ask(method, target, &[]).status, 401, "{target}");
    }
    assert_eq!(node.post("/api/v1/people/x/not", "{}").status, 401);
    assert_eq!(node.post("/api/v1/faces/unknown/7/assign", "{}").status, 401);
    for foreign in ["Origin: http://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site"] {
        assert_eq!(node.post_with(PEOPLE, &[json, token, foreign], LI_LEI).status, 403, "{foreign}");
        assert_eq!(node.ask("DELETE", "/api/v1/people/x", &[token, foreign]).status, 403, "{foreign}");
    }
    let rebound = format!("POST {PEOPLE} HTTP/1.1\r\nHost: evil.example\r\n{token}\r\n{json}\r\n\r\n");
    assert_eq!(node.send(rebound.as_bytes()).status, 421);
    assert!(node.people.enrolled.lock().unwrap().is_empty());
    assert!(node.people.removed.lock().unwrap().is_empty());
    assert_eq!(node.post_with(PEOPLE, &[json, token], LI_LEI).status, 201);
}

#[test]
fn an_enrolment_that_takes_long_holds_up_nothing_else() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    node.people.enrol_gate.close();
    std::thread::scope(|scope| {
        let enrolling = scope.spawn(|| node.post(PEOPLE, LI_LEI).status);
        for target in [PEOPLE, "/healthz", "/api/v1/status"] {
            let begun = Instant::now();
            assert_eq!(node.get(target).status, 200, "{target}");
            assert!(begun.elapsed() < Duration::from_secs(2), "{target} waited for the enrolment");
        }
        node.people.enrol_gate.open();
        assert_eq!(enrolling.join().unwrap(), 201);
    });
}

#[test]
fn an_enrolment_that_is_cut_off_enrols_nobody() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    let mut stream = TcpStream::connect(node.addr).unwrap();
    let head = format!(
        "POST {PEOPLE} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        LI_LEI.len() + 1
    );
    stream.write_all(&[head.as_bytes(), LI_LEI.as_bytes()].concat()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", answer.escape_ascii());
    // The place for the next one is free again.
    assert_eq!(node.post(PEOPLE, LI_LEI).status, 201);
    assert_eq!(node.people.enrolled.lock().unwrap().len(), 1);
}
