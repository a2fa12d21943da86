//! Every route of a real server, asked over loopback.

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::Ordering;

use meerkat_base::EventKind;
use support::{Node, event};

#[test]
fn health_metrics_and_readiness() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    let alive = node.get("/healthz");
    assert_eq!((alive.status, alive.text()), (200, "alive\n"));
    let metrics = node.get("/metrics");
    assert_eq!(metrics.status, 200);
    assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4"));
    assert!(metrics.text().contains("meerkat_sessions{dialect=\"frame\"} 1"));
    let ready = node.get("/readyz");
    assert_eq!((ready.status, ready.json()["ok"].as_bool()), (200, Some(true)));
    node.view.not_ready.store(true, Ordering::SeqCst);
    let not_ready = node.get("/readyz");
    assert_eq!(not_ready.status, 503);
    assert_eq!(not_ready.json()["reasons"][0], "the disk cannot be written");
    assert_eq!(node.get("/healthz").status, 200, "alive all the same");
}

#[test]
fn status_has_its_stable_names() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    let reply = node.get("/api/v1/status");
    assert_eq!((reply.status, reply.header("content-type")), (200, "application/json"));
    let status = reply.json();
    assert_eq!(status["age_seconds"], 0.0);
    assert_eq!(status["node"]["version"], "0.1.0");
    assert_eq!(status["cameras"][0]["id"], "door");
    assert_eq!(status["cameras"][0]["mode"], "guard");
    assert_eq!(status["cameras"][0]["last_frame"], "2026-11-20T21:31:14.123Z");
    assert_eq!(status["actors"][0]["state"], "backing_off");
    assert_eq!(status["actors"][0]["generation"], 2);
    for key in ["in_flight_bytes", "ring_bytes", "outbox_waiting", "mailboxes"] {
        assert!(!status["queues"][key].is_null(), "{key}");
    }
}

#[test]
fn pictures_are_found_by_any_shown_id() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    for (id, shown) in [
        ("door", "door"),
        ("10.0.0.7~2", "10.0.0.7~2"),
        ("10.0.0.7%7E2", "10.0.0.7~2"),
        ("fe80::1", "fe80::1"),
        ("fe80%3A%3A1", "fe80::1"),
    ] {
        let reply = node.get(&format!("/api/v1/cameras/{id}/picture?at=1"));
        assert_eq!((reply.status, reply.text()), (200, format!("picture of {shown}").as_str()));
        assert_eq!(reply.header("content-type"), "image/jpeg");
        assert_eq!(reply.header("x-picture-time"), "2026-11-20T21:31:14.123Z");
        assert_eq!(reply.header("cache-control"), "no-store");
    }
    assert_eq!(node.get("/api/v1/cameras/bitmap/picture").header("content-type"), "image/bmp");
    assert_eq!(
        node.get("/api/v1/cameras/odd/picture").status,
        415,
        "nobody knows what a browser makes of it"
    );
    for missing in ["nobody", "10.0.0.7~1", "Door", "..", "%2e%2e", "a%2Fb", "%00", "%ff"] {
        let reply = node.get(&format!("/api/v1/cameras/{missing}/picture"));
        assert!(matches!(reply.status, 400 | 404), "{missing}: {}", reply.status);
    }
}

#[test]
fn a_new_reference_is_ordered_by_post_only() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    let target = "/api/v1/cameras/10.0.0.7~2/reference";
    assert_eq!(node.get(target).status, 405);
    assert!(node.view.references.lock().unwrap().is_empty());
    assert_eq!(node.ask("POST", target, &[]).status, 202);
    assert_eq!(*node.view.references.lock().unwrap(), [support::camera("10.0.0.7~2")]);
    assert_eq!(node.ask("POST", "/api/v1/cameras/idle/reference", &["Content-Length: 0"]).status, 409);
    assert_eq!(node.ask("POST", "/api/v1/cameras/..x/reference", &[]).status, 404);
}

#[test]
fn events_are_listed_newest_first_with_addresses_instead_of_paths() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    node.events.events.lock().unwrap().extend([
        event(1, "door", EventKind::Motion, Some("clips/1.mp4"), Some("clips/1.jpg")),
        event(2, "fe80::1", EventKind::Person, None, None),
        event(3, "door", EventKind::Person, None, None),
    ]);
    let reply = node.get("/api/v1/events");
    assert_eq!(reply.status, 200);
    assert!(!reply.text().contains("clips/"), "{}", reply.text());
    let all = reply.json()["events"].as_array().unwrap().clone();
    assert_eq!(all.len(), 3);
    assert_eq!(all[0]["kind"], "person");
    assert!(all[0]["clip"].is_null());
    let id = all[2]["id"].as_str().unwrap();
    assert_eq!(all[2]["clip"], format!("/api/v1/events/{id}/clip"));
    assert_eq!(node.get(&format!("/api/v1/events/{id}")).json(), all[2]);

    let count =
        |query: &str| node.get(&format!("/api/v1/events?{query}")).json()["events"].as_array().unwrap().len();
    assert_eq!(count("camera=door"), 2);
    assert_eq!(count("camera=fe80%3A%3A1&kind=person"), 1);
    assert_eq!(count("limit=1"), 1);
    // Page by page, each once.
    let mut seen = Vec::new();
    let mut query = "limit=2".to_owned();
    loop {
        let page = node.get(&format!("/api/v1/events?{query}")).json();
        seen.extend(page["events"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next"].as_str() else { break };
        query = format!("limit=2&before={next}");
    }
    assert_eq!(seen, all);
    for bad in ["limit=0", "limit=9999", "kind=cat", "camera=../..", "before=x", "other=1"] {
        let reply = node.get(&format!("/api/v1/events?{bad}"));
        assert_eq!(reply.status, 400, "{bad}");
        assert!(reply.json()["error"].is_string());
    }
    node.events.broken.store(true, Ordering::SeqCst);
    let broken = node.get("/api/v1/events");
    assert_eq!(broken.status, 503);
    assert!(!broken.text().contains("secret detail"));
}

#[test]
fn clips_are_sent_whole_and_in_parts() {
    let data = tempfile::tempdir().unwrap();
    fs::create_dir_all(data.path().join("clips")).unwrap();
    // Longer than one piece, every byte told apart from its neighbours.
    let clip: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
    fs::write(data.path().join("clips/1.mp4"), &clip).unwrap();
    fs::write(data.path().join("clips/1.jpg"), b"snapshot").unwrap();
    fs::write(data.path().join("clips/1.mp4.strip.jpg"), b"strip").unwrap();
    fs::write(data.path().join("clips/empty.mp4"), b"").unwrap();
    let node = Node::plain(data.path());
    let with_clip = event(1, "10.0.0.7~2", EventKind::Motion, Some("clips/1.mp4"), Some("clips/1.jpg"));
    let empty = event(2, "door", EventKind::Motion, Some("clips/empty.mp4"), None);
    let target = format!("/api/v1/events/{}/clip", with_clip.id);
    let snapshot = format!("/api/v1/events/{}/snapshot", with_clip.id);
    let empty_target = format!("/api/v1/events/{}/clip", empty.id);
    node.events.events.lock().unwrap().extend([with_clip, empty]);

    let whole = node.get(&target);
    assert_eq!((whole.status, whole.header("content-type")), (200, "video/mp4"));
    assert_eq!((whole.header("accept-ranges"), whole.header("content-length")), ("bytes", "200000"));
    assert_eq!(
        whole.header("content-disposition"),
        r#"inline; filename="10.0.0.7_2-20261120T213115.123000Z.mp4""#
    );
    assert!(whole.body == clip);

    for (range, first, last) in [
        ("bytes=0-", 0, 199_999),
        ("bytes=0-1", 0, 1),
        ("bytes=65530-131080", 65_530, 131_080),
        ("bytes=-5", 199_995, 199_999),
        ("bytes=199999-999999999", 199_999, 199_999),
    ] {
        let part = node.ask("GET", &target, &[&format!("Range: {range}")]);
        assert_eq!(part.status, 206, "{range}");
        assert_eq!(part.header("content-range"), format!("bytes {first}-{last}/200000"));
        assert!(part.body == clip[first..=last], "{range}");
    }
    let beyond = node.ask("GET", &target, &["Range: bytes=200000-"]);
    assert_eq!((beyond.status, beyond.header("content-range")), (416, "bytes */200000"));
    assert_eq!(node.ask("GET", &target, &["Range: bytes=0-1,5-6"]).status, 200);
    assert_eq!(node.ask("GET", &target, &["Range: bytes=0-1", "If-Range: \"x\""]).status, 200);

    let head = node.ask("HEAD", &target, &[]);
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "200000", 0));
    let picture = node.get(&snapshot);
    assert_eq!((picture.status, picture.header("content-type")), (200, "image/jpeg"));
    assert_eq!(picture.text(), "snapshot");
    let strip = node.get(&target.replace("/clip", "/strip"));
    assert_eq!((strip.status, strip.header("content-type")), (200, "image/jpeg"));
    assert_eq!(strip.text(), "strip");
    assert_eq!(node.get(&empty_target.replace("/clip", "/strip")).status, 404);
    let nothing = node.get(&empty_target);
    assert_eq!((nothing.status, nothing.body.len()), (200, 0));
    assert_eq!(node.get(&empty_target.replace("/clip", "/snapshot")).status, 404);
}

#[test]
fn a_clip_that_shrinks_ends_the_answer_instead_of_padding_it() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("1.mp4");
    // More than the sockets hold, so that the server is still reading when the file shrinks.
    fs::write(&path, vec![7_u8; 64 << 20]).unwrap();
    let node = Node::plain(data.path());
    let shrinking = event(1, "door", EventKind::Motion, Some("1.mp4"), None);
    let target = format!("/api/v1/events/{}/clip", shrinking.id);
    node.events.events.lock().unwrap().push(shrinking);
    let mut stream = std::net::TcpStream::connect(node.addr).unwrap();
    use std::io::{Read, Write};
    write!(stream, "GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut first = [0; 1024];
    stream.read_exact(&mut first).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(10).unwrap();
    let mut rest = Vec::new();
    // The connection ends, in whatever way.
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.len() < 64 << 20);
    assert_eq!(node.get("/healthz").status, 200);
}

#[test]
fn nothing_outside_the_data_folder_is_sent() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    fs::create_dir_all(data.join("clips/folder.mp4")).unwrap();
    fs::write(root.path().join("secret.mp4"), b"secret").unwrap();
    fs::write(data.join("meerkat.db"), b"secret").unwrap();
    symlink(root.path().join("secret.mp4"), data.join("clips/link.mp4")).unwrap();
    symlink(root.path(), data.join("way")).unwrap();
    let absolute = root.path().join("secret.mp4");
    let node = Node::plain(&data);
    for (n, path) in [
        "../secret.mp4",
        "clips/../../secret.mp4",
        absolute.to_str().unwrap(),
        "clips/link.mp4",
        "way/secret.mp4",
        "clips/folder.mp4",
        "clips/gone.mp4",
        "meerkat.db",
        "",
    ]
    .into_iter()
    .enumerate()
    {
        let bad = event(n as u8, "door", EventKind::Motion, Some(path), Some(path));
        let id = bad.id;
        node.events.events.lock().unwrap().push(bad);
        for what in ["clip", "strip", "snapshot"] {
            let reply = node.get(&format!("/api/v1/events/{id}/{what}"));
            assert_eq!(reply.status, 404, "{path}");
            assert!(!reply.text().contains("secret"), "{path}");
        }
    }
    for target in [
        "/../secret.mp4",
        "/api/v1/events/../../../secret.mp4/clip",
        "/api/v1/events/%2e%2e%2fsecret.mp4/clip",
        "/page.js/../../Cargo.toml",
        "//etc/passwd",
        "/.%00/",
    ] {
        let reply = node.get(target);
        assert!(matches!(reply.status, 400 | 404), "{target}: {}", reply.status);
    }
}

#[test]
fn the_page_brings_everything_it_needs() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    let page = node.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    for (file, content_type) in
        [("page.css", "text/css"), ("page.js", "text/javascript"), ("favicon.svg", "image/svg+xml")]
    {
        assert!(page.text().contains(&format!("\"{file}\"")), "{file}");
        let reply = node.get(&format!("/{file}"));
        assert_eq!(reply.status, 200);
        assert!(reply.header("content-type").starts_with(content_type));
        // Nothing from elsewhere, nothing that would turn text into markup.
        for bad in ["https://", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!reply.text().contains(bad), "{file}: {bad}");
        }
    }
    assert!(!page.text().contains("http://") && !page.text().contains("https://"));
    let inline = page.text().contains("style=") || page.text().contains("onclick");
    assert!(!inline, "the content security policy forbids it");
    assert_eq!(node.get("/nothing").status, 404);
    assert_eq!(node.ask("DELETE", "/", &[]).status, 405);
}
