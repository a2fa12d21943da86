//! Whole answers, and rules that change while the node runs.

use std::fs;
use std::time::Duration;

use jiff::tz::{Offset, TimeZone};
use meerkat_base::{EventKind, WallTime};

use super::*;

/// 2026-11-03 00:30:05 in UTC, 08:30:05 in Shanghai.
const NOW: WallTime = WallTime(1_793_665_805_000_000);

#[derive(Default)]
struct Node {
    cameras: Vec<CameraFact>,
    problems: Vec<String>,
    events: Vec<EventFact>,
    is_broken: bool,
}

impl Facts for Node {
    fn now(&self) -> WallTime {
        NOW
    }

    fn zone(&self) -> TimeZone {
        TimeZone::fixed(Offset::constant(8))
    }

    fn cameras(&self) -> Vec<CameraFact> {
        self.cameras.clone()
    }

    fn problems(&self) -> Vec<String> {
        self.problems.clone()
    }

    fn events_since(&self, since: WallTime) -> Result<Vec<EventFact>, String> {
        if self.is_broken {
            return Err("the database does not answer".into());
        }
        Ok(self.events.iter().filter(|event| event.started >= since).cloned().collect())
    }
}

fn event(kind: EventKind, secs_ago: i64) -> EventFact {
    EventFact { kind, started: NOW.offset_micros(-secs_ago * 1_000_000) }
}

fn node() -> Node {
    let camera = |name: &str, is_up, is_recording| CameraFact { name: name.into(), is_up, is_recording };
    Node {
        cameras: vec![camera("大门", true, true), camera("yard", true, false), camera("shed", false, false)],
        // The last is of yesterday: the day begins at midnight of the place.
        events: vec![
            event(EventKind::Person, 65),
            event(EventKind::Person, 3600),
            event(EventKind::Motion, 30_606),
        ],
        ..Node::default()
    }
}

#[test]
fn answers_are_those_of_the_notes() {
    let chat = Chat::new(None).unwrap();
    let said = |text: &str| respond(&chat, text, &node()).unwrap();
    assert_eq!(said("你好"), "您好！");
    assert_eq!(said("现在几点了"), "[Tue Nov  3 08:30:05 2026]");
    assert_eq!(said("再见"), "再见！");
    for text in ["吃了吗", "  two words \n", "😀"] {
        assert_eq!(said(text), text);
    }
}

#[test]
fn the_node_tells_about_itself() {
    let chat = Chat::new(None).unwrap();
    let said = |text: &str| respond(&chat, text, &node()).unwrap();
    assert_eq!(said("状态"), "节点正常：摄像头 2/3 在线，今天 2 个事件");
    assert_eq!(said("status"), "the node is well: 2 of 3 cameras up, 2 events today");
    assert_eq!(said("摄像头"), "大门: 在线，正在录像\nyard: 在线\nshed: 离线");
    assert_eq!(said("cameras"), "大门: up, recording\nyard: up\nshed: down");
    assert_eq!(said("今天的事件"), "今天 2 个事件，最近一个在 08:29:00\n有人: 2");
    assert_eq!(said("events today"), "2 events today, the last at 08:29:00\nperson: 2");
    let empty = |text: &str| respond(&chat, text, &Node::default()).unwrap();
    assert_eq!((empty("摄像头"), empty("今天的事件")), ("没有摄像头".into(), "今天没有事件".into()));
    let ill = Node { problems: vec!["actor face waits for its restart".into()], ..node() };
    let text = respond(&chat, "status", &ill).unwrap();
    assert!(text.starts_with("the node has problems: ") && text.ends_with("restart"), "{text}");
    let broken = Node { is_broken: true, ..node() };
    assert!(respond(&chat, "status", &broken).is_err());
}

#[test]
fn long_answers_fit_what_a_client_reads() {
    let chat = Chat::new(None).unwrap();
    let camera = CameraFact { name: "很长的名字".repeat(8), is_up: true, is_recording: true };
    let large = Node {
        cameras: vec![camera; 900],
        problems: vec!["问题".repeat(100); 90],
        events: vec![event(EventKind::Face, 1); 900],
        is_broken: false,
    };
    for text in ["状态", "status", "摄像头", "cameras", "今天的事件", "events"] {
        let answer = respond(&chat, text, &large).unwrap();
        assert!(!answer.is_empty() && answer.len() <= 1024, "{text}: {} bytes", answer.len());
    }
}

fn write(path: &Path, answer: &str, secs: u64) {
    fs::write(path, format!("[[rule]]\npattern = \"x\"\nanswer = \"{answer}\"\n")).unwrap();
    // The time on the file, as an editor would change it.
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(secs)).unwrap();
}

#[test]
fn rules_are_taken_over_when_their_file_changes() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("rules.toml");
    write(&path, "one", 1);
    let chat = Chat::new(Some(&path)).unwrap();
    let said = || respond(&chat, "x", &Node::default()).unwrap();
    assert_eq!(said(), "one");
    write(&path, "two", 2);
    assert_eq!(said(), "one", "nobody has looked yet");
    chat.look();
    assert_eq!(said(), "two");
    fs::write(&path, "[[rule]]\npattern = \"(\"").unwrap();
    chat.look();
    assert_eq!(said(), "two", "a wrong file changes nothing");
    fs::remove_file(&path).unwrap();
    chat.look();
    assert_eq!(said(), "two", "nor does one that is gone");
    write(&path, "three", 3);
    chat.look();
    assert_eq!(said(), "three");
    let other = temp.path().join("other.toml");
    write(&other, "four", 3);
    chat.use_file(Some(&other));
    assert_eq!(said(), "four");
    chat.use_file(None);
    assert_eq!((said(), respond(&chat, "你好", &Node::default()).unwrap()), ("x".into(), "您好！".into()));
}

#[test]
fn a_file_that_cannot_be_used_is_an_error_at_the_start() {
    let temp = tempfile::tempdir().unwrap();
    let missing = Chat::new(Some(&temp.path().join("none.toml"))).unwrap_err().to_string();
    assert!(missing.contains("cannot be read"), "{missing}");
    assert!(Chat::new(Some(temp.path())).unwrap_err().to_string().contains("cannot be read"));
    let path = temp.path().join("long.toml");
    fs::write(&path, "#".repeat(300_000)).unwrap();
    assert!(Chat::new(Some(&path)).unwrap_err().to_string().contains("longer than 262144 bytes"));
}
