//! Who is let in: Host, Origin, token, listening address, limits.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use meerkat_web::{WebError, WebServer};
use support::{FakeAlerts, FakeEvents, FakePeople, FakeSnoozes, FakeStorage, FakeView, Node, settings};

const TOKEN: &str = "correct horse";

#[test]
fn only_own_host_names_are_served() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    let ask = |head: &str| node.send(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes()).status;
    for host in ["localhost", "LocalHost:1", "127.0.0.1", "[::1]:8080", "cams.example.org"] {
        assert_eq!(ask(&format!("GET /healthz HTTP/1.1\r\nHost: {host}")), 200, "{host}");
    }
    for host in ["evil.example", "10.0.0.1", "localhost.evil.example"] {
        assert_eq!(ask(&format!("GET /metrics HTTP/1.1\r\nHost: {host}")), 421, "{host}");
    }
    assert_eq!(ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example"), 400);
    assert_eq!(ask("GET /metrics HTTP/1.1\r\nHost:"), 400);
    assert_eq!(ask("GET /metrics HTTP/1.0\r\nX: y"), 400);
    assert_eq!(ask("GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost"), 421);
    assert_eq!(ask("GET http://localhost/healthz HTTP/1.1\r\nHost: localhost"), 200);
}

#[test]
fn foreign_pages_get_nothing() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    let target = "/api/v1/cameras/door/reference";
    let own = format!("Origin: http://{}", node.addr);
    assert_eq!(node.ask("POST", target, &[&own]).status, 202);
    assert_eq!(node.ask("POST", target, &["Origin: https://cams.example.org"]).status, 202);
    for foreign in [
        "Origin: http://evil.example",
        "Origin: null",
        "Origin: http://127.0.0.1:1",
        "Sec-Fetch-Site: cross-site",
    ] {
        assert_eq!(node.ask("POST", target, &[foreign]).status, 403, "{foreign}");
    }
    assert_eq!(node.view.references.lock().unwrap().len(), 2);
    let read = node.ask("GET", "/api/v1/status", &["Origin: http://evil.example"]);
    assert_eq!(read.status, 403);
    for method in ["GET", "OPTIONS"] {
        let reply = node.ask(method, "/api/v1/status", &[&own, "Access-Control-Request-Method: POST"]);
        assert!(!reply.headers.iter().any(|(name, _)| name.starts_with("access-control")), "{method}");
    }
}

#[test]
fn every_answer_carries_the_security_headers() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::start(settings("127.0.0.1:0", Some(TOKEN), data.path()));
    let token = format!("Authorization: Bearer {TOKEN}");
    for (reply, status) in [
        (node.ask("GET", "/", &[&token]), 200),
        (node.ask("GET", "/metrics", &[&token]), 200),
        (node.ask("GET", "/none", &[&token]), 404),
        (node.ask("GET", "/api/v1/events?limit=x", &[&token]), 400),
        (node.ask("POST", "/", &[&token]), 405),
        (node.get("/"), 401),
    ] {
        assert_eq!(reply.status, status);
        let policy = reply.header("content-security-policy");
        assert!(
            policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{status}"
        );
        assert!(!policy.contains("unsafe"));
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
        assert_eq!(reply.header("x-frame-options"), "DENY");
        assert_eq!(reply.header("referrer-policy"), "no-referrer");
        assert_eq!(reply.header("cross-origin-resource-policy"), "same-origin");
        assert!(["no-store", "no-cache"].contains(&reply.header("cache-control")), "{status}");
    }
}

#[test]
fn other_machines_need_the_token() {
    let data = tempfile::tempdir().unwrap();
    let start = |listen, token| {
        let (view, events) = (Arc::new(FakeView::default()), Arc::new(FakeEvents::default()));
        let (people, alerts) = (Arc::new(FakePeople::default()), Arc::new(FakeAlerts::default()));
        let (snoozes, storage) = (Arc::new(FakeSnoozes::default()), Arc::new(FakeStorage::default()));
        WebServer::start(settings(listen, token, data.path()), view, events, people, alerts, snoozes, storage)
    };
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let error = start(listen, None).unwrap_err();
        assert!(matches!(error, WebError::NeedsToken { .. }), "{error}");
        assert!(error.to_string().contains("http.token"));
    }
    assert!(matches!(start("0.0.0.0:0", Some("")).unwrap_err(), WebError::ShortToken));
    assert!(matches!(start("192.0.2.1:0", Some(TOKEN)).unwrap_err(), WebError::Listen { .. }));

    let node = Node::start(settings("0.0.0.0:0", Some(TOKEN), data.path()));
    for target in [
        "/",
        "/page.js",
        "/metrics",
        "/healthz",
        "/readyz",
        "/api/v1/status",
        "/api/v1/events",
        "/api/v1/alerts",
        "/api/v1/people",
        "/none",
    ] {
        let reply = node.get(target);
        assert_eq!(reply.status, 401, "{target}");
        assert!(reply.header("www-authenticate").starts_with("Basic "));
        assert!(!reply.text().contains(TOKEN));
    }
    // "x:correct horse" and ":correct horse"
    for good in ["Bearer correct horse", "Basic eDpjb3JyZWN0IGhvcnNl", "Basic OmNvcnJlY3QgaG9yc2U="] {
        assert_eq!(
            node.ask("GET", "/api/v1/status", &[&format!("Authorization: {good}")]).status,
            200,
            "{good}"
        );
    }
    for bad in ["Bearer correct hors", "Bearer", "Basic eDp5", "Basic ***", "Digest x"] {
        assert_eq!(
            node.ask("GET", "/api/v1/status", &[&format!("Authorization: {bad}")]).status,
            401,
            "{bad}"
        );
    }
    let no_login = node.ask("POST", "/api/v1/cameras/door/reference", &[]);
    assert_eq!(no_login.status, 401);
    assert!(node.view.references.lock().unwrap().is_empty());
}

#[test]
fn oversized_and_broken_requests_are_refused() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    assert_eq!(node.get(&format!("/api/v1/events?camera={}", "a".repeat(3000))).status, 414);
    let target = "/api/v1/cameras/door/reference";
    assert_eq!(node.ask("POST", target, &["Content-Length: 5000000000"]).status, 413);
    assert_eq!(node.ask("POST", target, &["Transfer-Encoding: chunked"]).status, 413);
    let heavy = format!("X: {}", "y".repeat(200_000));
    // The server may close before everything was sent, so only what it answers counts.
    let mut stream = TcpStream::connect(node.addr).unwrap();
    let _ = stream.write_all(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{heavy}\r\n\r\n").as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", answer.escape_ascii());
    assert_eq!(node.send(b"GARBAGE\r\n\r\n").status, 400);
    assert!(node.view.references.lock().unwrap().is_empty());
    assert_eq!(node.get("/healthz").status, 200);
}

#[test]
fn a_client_that_never_finishes_its_request_is_put_out() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    let mut slow = TcpStream::connect(node.addr).unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: local").unwrap();
    let mut answer = Vec::new();
    slow.read_to_end(&mut answer).expect("closed by the server within the time limit");
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"), "{}", answer.escape_ascii());
}

#[test]
fn a_connection_serves_one_request() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    // No `Connection: close` from us: `send` returns because the server closes.
    let reply =
        node.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nHost: local");
    assert_eq!((reply.status, reply.text()), (200, "alive\n"));
}
