//! The mock servers themselves, spoken to by hand: they must catch what a channel could do wrong.

use std::io::{Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use meerkat_base::{ManualClock, WallTime};
use serde_json::json;

use super::*;

/// Posts by hand on a new connection and returns the whole answer.
fn post(server: &MockServer, target: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(server.address).unwrap();
    let length = body.len();
    write!(stream, "POST {target} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

const SEND: &str = "/cgi-bin/webhook/send?key=k";

fn text(content: &str) -> String {
    json!({"msgtype": "text", "text": {"content": content}}).to_string()
}

fn picture(raw: &[u8], md5: &str) -> String {
    json!({"msgtype": "image", "image": {"base64": STANDARD.encode(raw), "md5": md5}}).to_string()
}

#[test]
fn the_robot_catches_every_breach() {
    let server = MockServer::wecom("k").unwrap();
    let md5 = "0e7dd33e2e8bfc2bd3ee8f2f1dd4cd46";
    let mentions =
        json!({"msgtype": "text", "text": {"content": "x", "mentioned_list": ["@all"]}}).to_string();
    let too_large = [b"\xff\xd8\xff".to_vec(), vec![0; 2 * 1024 * 1024]].concat();
    for (target, body, code) in [
        ("/cgi-bin/webhook/send?key=z", text("x"), 93000),
        ("/", text("x"), 93000),
        (SEND, "not json".into(), 47001),
        (SEND, "{}".into(), 40058),
        (SEND, mentions, 40058),
        (SEND, text(""), 44004),
        (SEND, text(&"x".repeat(2049)), 45002),
        (SEND, text(&"门".repeat(683)), 45002),
        (SEND, picture(b"GIF89a", md5), 40005),
        (SEND, picture(b"\xff\xd8\xff", md5), 301_019),
        (SEND, picture(&too_large, md5), 40009),
        (SEND, text(&"x".repeat(2048)), 0),
    ] {
        let answer = post(&server, target, &body);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains(&format!("\"errcode\":{code},")), "{code}: {answer}");
    }
    assert_eq!(server.received().len(), 1);
    assert_eq!((server.refused().len(), server.requests()), (11, 12));
}

#[test]
fn the_robot_counts_to_twenty_a_minute() {
    let clock = ManualClock::new(WallTime(0));
    let server = MockServer::wecom_with_clock("k", Arc::new(clock.clone())).unwrap();
    clock.advance(Duration::from_secs(1));
    for _ in 0..20 {
        assert!(post(&server, SEND, &text("x")).contains("\"errcode\":0,"));
    }
    clock.advance(Duration::from_millis(59_999));
    assert!(post(&server, SEND, &text("x")).contains("\"errcode\":45009,"));
    clock.advance(Duration::from_millis(1));
    assert!(post(&server, SEND, &text("x")).contains("\"errcode\":0,"));
}

#[test]
fn scripts_and_outages_come_and_go() {
    let server = MockServer::wecom("k").unwrap();
    server.script([Fault::Status(500, "x-a: b\r\n", "no"), Fault::CutBeforeAnswer, Fault::CutInAnswer]);
    assert!(
        post(&server, SEND, &text("1"))
            .starts_with("HTTP/1.1 500 Mock\r\ncontent-type: application/json\r\nx-a: b\r\n")
    );
    assert_eq!(server.received().len(), 0);
    assert_eq!(post(&server, SEND, &text("2")), "");
    assert!(post(&server, SEND, &text("3")).ends_with("{\"errcode\":0"));
    assert!(post(&server, SEND, &text("4")).contains("\"errcode\":0,"));
    assert_eq!(server.received().len(), 3);
}

#[test]
fn waiting_ends_with_the_message_or_with_the_time() {
    let server = MockServer::wecom("k").unwrap();
    assert_eq!(server.wait_for(1, Duration::from_millis(1)), Err(Missed { wanted: 1, got: 0 }));
    std::thread::scope(|scope| {
        scope.spawn(|| post(&server, SEND, &text("x")));
        assert_eq!(server.wait_for(1, Duration::from_secs(30)), Ok(vec![Received::Text("x".into())]));
    });
}

#[tokio::test]
async fn waiting_works_in_a_task_too() {
    let server = MockServer::wecom("k").unwrap();
    assert_eq!(server.wait_for_async(1, Duration::from_millis(1)).await, Err(Missed { wanted: 1, got: 0 }));
    let server = Arc::new(server);
    let poster = tokio::task::spawn_blocking({
        let server = Arc::clone(&server);
        move || post(&server, SEND, &text("x"))
    });
    assert_eq!(server.wait_for_async(1, Duration::from_secs(30)).await, Ok(vec![Received::Text("x".into())]));
    poster.await.unwrap();
}

#[test]
fn dropping_ends_a_silent_connection() {
    let server = MockServer::webhook("secret").unwrap();
    server.script([Fault::Silent]);
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n").unwrap();
    while server.requests() == 0 {
        std::thread::yield_now();
    }
    drop(server);
    assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
}
