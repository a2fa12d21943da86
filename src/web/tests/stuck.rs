//! The HTTP side answers when the node does not, and it stops when it is told to.

mod support;

use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Instant;

use support::Node;

#[test]
fn a_stuck_status_stops_nobody_else() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    node.view.status_gate.close();
    assert_eq!(node.get("/api/v1/status").status, 503, "no status was ever given");

    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..20).map(|_| scope.spawn(|| node.get("/api/v1/status").status)).collect();
        for target in
            ["/healthz", "/metrics", "/readyz", "/api/v1/events", "/", "/api/v1/cameras/door/picture"]
        {
            let begun = Instant::now();
            assert_eq!(node.get(target).status, 200, "{target}");
            assert!(begun.elapsed().as_millis() < 1500, "{target} waited for the status");
        }
        for answer in asking {
            assert_eq!(answer.join().unwrap(), 503);
        }
    });
    assert_eq!(node.view.status_calls.load(Ordering::SeqCst), 1, "one call hangs, not one per request");

    node.view.status_gate.open();
    assert_eq!(node.get("/api/v1/status").json()["age_seconds"], 0.0);
}

#[test]
fn the_last_status_is_shown_with_its_age() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    assert_eq!(node.get("/api/v1/status").status, 200);
    node.view.status_panics.store(true, Ordering::SeqCst);
    let reply = node.get("/api/v1/status");
    assert_eq!(reply.status, 200);
    assert!(reply.json()["age_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(reply.json()["cameras"][0]["id"], "door");
    node.view.status_panics.store(false, Ordering::SeqCst);
    assert_eq!(node.get("/api/v1/status").json()["age_seconds"], 0.0);
}

#[test]
fn stuck_pictures_are_given_up() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    node.view.picture_gate.close();
    std::thread::scope(|scope| {
        let asking: Vec<_> =
            (0..10).map(|_| scope.spawn(|| node.get("/api/v1/cameras/door/picture").status)).collect();
        assert_eq!(node.get("/api/v1/status").status, 200);
        for answer in asking {
            assert_eq!(answer.join().unwrap(), 503);
        }
    });
    node.view.picture_gate.open();
    assert_eq!(node.get("/api/v1/cameras/door/picture").status, 200);
}

#[test]
fn it_stops_and_frees_its_port() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    let addr = node.addr;
    let _idle = TcpStream::connect(addr).unwrap();
    assert_eq!(node.get("/healthz").status, 200);
    assert!(node.stop());
    assert!(TcpStream::connect(addr).is_err());
}
