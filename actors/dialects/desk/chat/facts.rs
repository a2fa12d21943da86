//! Answers about the node, in Chinese and English, made of what is true at the moment. At most about a screen: an old client
//! reads 1,024 bytes.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use meerkat_base::{EventKind, WallTime};

use super::rules::{BuiltIn, Language};

/// Cameras and kinds that are named one by one.
const MOST_LINES: usize = 12;
/// Events of a day that are counted; a day with more is told as this number and a plus.
pub const MOST_EVENTS: usize = 500;

/// A camera as the chat tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CameraFact {
    /// Its name for people, else its id.
    pub name: String,
    /// Whether frames come as they should.
    pub is_up: bool,
    /// Whether it is being recorded.
    pub is_recording: bool,
}

/// An event as the chat tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFact {
    /// What happened.
    pub kind: EventKind,
    /// When.
    pub started: WallTime,
}

/// What the chat may ask of the node. May block.
pub trait Facts {
    /// The wall clock.
    fn now(&self) -> WallTime;
    /// The time zone of the place.
    fn zone(&self) -> TimeZone;
    /// Every camera.
    fn cameras(&self) -> Vec<CameraFact>;
    /// What is wrong with the node.
    fn problems(&self) -> Vec<String>;
    /// Events that started at this moment or later, newest first; at most [`MOST_EVENTS`].
    ///
    /// # Errors
    /// When the database cannot be read.
    fn events_since(&self, since: WallTime) -> Result<Vec<EventFact>, String>;
}

/// Makes a built-in answer.
///
/// # Errors
/// As [`Facts::events_since`].
pub fn answer(builtin: BuiltIn, language: Language, facts: &dyn Facts) -> Result<String, String> {
    match builtin {
        BuiltIn::Time => Ok(format!("[{}]", ctime(facts.now(), &facts.zone()))),
        BuiltIn::Status => status(language, facts),
        BuiltIn::Cameras => Ok(cameras(language, &facts.cameras())),
        BuiltIn::EventsToday => {
            let zone = facts.zone();
            let events = facts.events_since(midnight(facts.now(), &zone))?;
            Ok(events_today(language, &events, &zone))
        }
    }
}

/// A moment as C's `ctime` writes it, without its line end: `Sat Nov 28 16:56:39 2026`, `Tue Nov  3 …`.
pub fn ctime(time: WallTime, zone: &TimeZone) -> String {
    local(time, zone).strftime("%a %b %e %H:%M:%S %Y").to_string()
}

fn local(time: WallTime, zone: &TimeZone) -> jiff::Zoned {
    Timestamp::from_microsecond(time.0).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(zone.clone())
}

fn midnight(now: WallTime, zone: &TimeZone) -> WallTime {
    let day = local(now, zone);
    day.start_of_day().map_or(now, |start| WallTime(start.timestamp().as_microsecond()))
}

fn status(language: Language, facts: &dyn Facts) -> Result<String, String> {
    let cameras = facts.cameras();
    let up = cameras.iter().filter(|camera| camera.is_up).count();
    let events = counted(facts.events_since(midnight(facts.now(), &facts.zone()))?.len());
    let problems = facts.problems();
    let mut text = match (language, problems.is_empty()) {
        (Language::Chinese, true) => "节点正常".to_owned(),
        (Language::Chinese, false) => "节点有问题".to_owned(),
        (Language::English, true) => "the node is well".to_owned(),
        (Language::English, false) => "the node has problems".to_owned(),
    };
    let all = cameras.len();
    let _ = match language {
        Language::Chinese => write!(text, "：摄像头 {up}/{all} 在线，今天 {events} 个事件"),
        Language::English => write!(text, ": {up} of {all} cameras up, {events} events today"),
    };
    for problem in problems.iter().take(MOST_LINES) {
        let _ = write!(text, "\n{problem}");
    }
    Ok(text)
}

fn cameras(language: Language, cameras: &[CameraFact]) -> String {
    if cameras.is_empty() {
        return match language {
            Language::Chinese => "没有摄像头".to_owned(),
            Language::English => "no cameras".to_owned(),
        };
    }
    let mut lines: Vec<String> = cameras
        .iter()
        .take(MOST_LINES)
        .map(|camera| {
            let state = match (language, camera.is_up, camera.is_recording) {
                (Language::Chinese, true, true) => "在线，正在录像",
                (Language::Chinese, true, false) => "在线",
                (Language::Chinese, false, _) => "离线",
                (Language::English, true, true) => "up, recording",
                (Language::English, true, false) => "up",
                (Language::English, false, _) => "down",
            };
            format!("{}: {state}", camera.name)
        })
        .collect();
    let more = cameras.len().saturating_sub(MOST_LINES);
    if more > 0 {
        lines.push(match language {
            Language::Chinese => format!("还有 {more} 个"),
            Language::English => format!("and {more} more"),
        });
    }
    lines.join("\n")
}

fn events_today(language: Language, events: &[EventFact], zone: &TimeZone) -> String {
    let Some(newest) = events.first() else {
        return match language {
            Language::Chinese => "今天没有事件".to_owned(),
            Language::English => "no events today".to_owned(),
        };
    };
    let mut by_kind: BTreeMap<&str, usize> = BTreeMap::new();
    for event in events {
        let kind = match language {
            Language::Chinese => in_chinese(event.kind),
            Language::English => event.kind.as_str(),
        };
        *by_kind.entry(kind).or_default() += 1;
    }
    let at = local(newest.started, zone).strftime("%H:%M:%S").to_string();
    let count = counted(events.len());
    let mut text = match language {
        Language::Chinese => format!("今天 {count} 个事件，最近一个在 {at}"),
        Language::English => format!("{count} events today, the last at {at}"),
    };
    for (kind, number) in by_kind.iter().take(MOST_LINES) {
        let _ = write!(text, "\n{kind}: {number}");
    }
    text
}

fn counted(events: usize) -> String {
    if events < MOST_EVENTS { events.to_string() } else { format!("{MOST_EVENTS}+") }
}

fn in_chinese(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Motion => "移动",
        EventKind::ObjectMoved => "物品移动",
        EventKind::ObjectRemoved => "物品被拿走",
        EventKind::Person => "有人",
        EventKind::Face => "人脸",
        // What the node notices about itself keeps its word of the configuration.
        other => other.as_str(),
    }
}
