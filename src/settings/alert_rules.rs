//! Settings of the rules: which events people are told of, how urgently, how often and when. Decides about no event.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::tz::TimeZone;
use meerkat_base::{CameraId, EventKind, EventPhase, Severity};

use super::camera::CameraSettings;
use super::notify::{ChannelSettings, camera_id, event_kinds};
use super::reader::Reader;
use super::rule::{self, Rule, choice, flag, number, secs, small};
use super::schedule::{self, DayRange, Days, Schedule};

/// Rules that there may be.
const MAX_RULES: usize = 256;
/// Where a rule stands that does not say so.
const MIDDLE: u32 = 100;

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleSettings {
    /// Its name, `[a-z0-9_]{1,32}`.
    pub name: String,
    /// Rules are asked in this order, those with the same number by name.
    pub order: u32,
    /// Kinds of events it is about; never empty.
    pub kinds: Vec<EventKind>,
    /// Cameras it is about; `None` for all, and for the node itself.
    pub cameras: Option<Vec<CameraId>>,
    /// Whose faces it is about; `None` for everybody's and for events without faces.
    pub identities: Option<Vec<String>>,
    /// Events that are less certain do not count, 0..=1. Notices have no score and always do.
    pub min_score: f32,
    /// Events that matter less, by their kind, do not count.
    pub min_severity: Severity,
    /// When it holds.
    pub schedule: Schedule,
    /// What of an event is told; `None`: what each channel wants.
    pub phases: Option<Vec<EventPhase>>,
    /// Who is told; empty only where it is the last rule to be asked.
    pub channels: Vec<String>,
    /// How much it matters; `None`: as its kind does.
    pub severity: Option<Severity>,
    /// Time in which the same camera, kind and identity is not told again.
    pub cooldown: Duration,
    /// Time over which events become one message; zero: none.
    pub group: Duration,
    /// When its messages are kept back.
    pub quiet: Option<QuietSettings>,
    /// Whether no rule after it is asked about an event that it is about.
    pub last: bool,
}

/// When messages are kept back, and what becomes of them.
#[derive(Debug, Clone, PartialEq)]
pub struct QuietSettings {
    /// When.
    pub schedule: Schedule,
    /// What becomes of a message meanwhile.
    pub then: QuietThen,
    /// From which severity on messages go through all the same; `None`: none does.
    pub unless: Option<Severity>,
}

/// What becomes of a message in quiet hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuietThen {
    /// It is summed up with the others at their end.
    Hold,
    /// It is not sent; the event is there all the same.
    Drop,
}

/// How facts about the node become messages.
#[derive(Debug, Clone, PartialEq)]
pub struct NoticesSettings {
    /// What is over sooner is not told; what begins within this time is told in one message.
    pub settle: Duration,
    /// What begins again within this time was never over.
    pub calm: Duration,
    /// Time for cameras to connect after the start of the node.
    pub start_grace: Duration,
    /// Restarts of an actor in a row that are told.
    pub failing_restarts: u32,
}

impl NoticesSettings {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            settle: reader.read("notify.notices.settle_secs", secs(0.0..=600.0)),
            calm: reader.read("notify.notices.calm_secs", secs(0.0..=3_600.0)),
            start_grace: reader.read("notify.notices.start_grace_secs", secs(0.0..=3_600.0)),
            failing_restarts: reader.read("notify.notices.failing_restarts", small(1..=1_000)),
        }
    }
}

/// Reads every section `notify.rules.<name>`, in the order in which the rules are asked.
pub(super) fn read_all(
    reader: &mut Reader,
    cameras: &BTreeMap<CameraId, CameraSettings>,
    channels: &BTreeMap<String, ChannelSettings>,
    zone: &TimeZone,
) -> Vec<RuleSettings> {
    let mut rules: Vec<RuleSettings> = Vec::new();
    let names = reader.subsections("notify.rules");
    if names.len() > MAX_RULES {
        reader.complain("notify.rules", format!("there are more than {MAX_RULES} rules"));
    }
    let known: Vec<String> = reader.subsections("notify.channels");
    for name in names {
        let section = format!("notify.rules.{name}");
        if CameraId::parse(&name).is_err() {
            reader.complain(&section, "a rule's name is 1 to 32 of the characters a-z, 0-9 and _");
            reader.skip(&section);
            continue;
        }
        let rule = RuleSettings::read(reader, name, &section, cameras, zone);
        // A channel with a mistake of its own is known all the same.
        for channel in rule.channels.iter().filter(|channel| !known.contains(channel)) {
            reader.complain(
                &format!("{section}.channels"),
                format!("there is no section notify.channels.{channel}"),
            );
        }
        rules.push(rule);
    }
    for rule in &mut rules {
        rule.channels.retain(|channel| channels.contains_key(channel));
    }
    rules.sort_by(|a, b| (a.order, &a.name).cmp(&(b.order, &b.name)));
    rules
}

impl RuleSettings {
    fn read(
        reader: &mut Reader,
        name: String,
        section: &str,
        known: &BTreeMap<CameraId, CameraSettings>,
        zone: &TimeZone,
    ) -> Self {
        let key = |name| format!("{section}.{name}");
        let zone = reader
            .read_if(&key("time_zone"), schedule::time_zone())
            .and_then(|name| schedule::zone(&name))
            .unwrap_or_else(|| zone.clone());
        let cameras = reader.read_if(&key("cameras"), rule::list(1_024, camera_or_node()));
        for camera in
            cameras.iter().flatten().filter(|camera| !camera.is_node() && !known.contains_key(*camera))
        {
            reader.complain(&key("cameras"), format!("there is no section cameras.{camera}"));
        }
        let identities = reader.read_if(&key("identities"), rule::list(1_024, rule::text(1..=64)));
        let last = reader.read_if(&key("last"), flag()).unwrap_or(false);
        let before = reader.problem_count();
        let channels =
            reader.read_if(&key("channels"), rule::list(64, rule::text(1..=32))).unwrap_or_default();
        if channels.is_empty() && !last && reader.problem_count() == before {
            reader.complain(
                &key("channels"),
                "must be set: names of channels (none only with last = true: such events are told to nobody)",
            );
        }
        Self {
            order: reader.read_if(&key("order"), small(0..=1_000_000)).unwrap_or(MIDDLE),
            kinds: reader.read_if(&key("kinds"), event_kinds(&EventKind::ALL)).unwrap_or_else(worth_telling),
            cameras: cameras.filter(|cameras| !cameras.is_empty()),
            identities: identities.filter(|identities| !identities.is_empty()),
            min_score: reader.read_if(&key("min_score"), number(0.0..=1.0)).unwrap_or(0.0),
            min_severity: reader.read_if(&key("min_severity"), severity()).unwrap_or(Severity::Info),
            schedule: Schedule {
                days: reader.read_if(&key("days"), schedule::days()).unwrap_or(Days([true; 7])),
                hours: reader.read_if(&key("hours"), schedule::hours()).unwrap_or_default(),
                zone: zone.clone(),
            },
            phases: reader.read_if(&key("phases"), phases()),
            severity: reader.read_if(&key("severity"), severity()),
            cooldown: reader.read_if(&key("cooldown_secs"), secs(0.0..=604_800.0)).unwrap_or_default(),
            group: reader.read_if(&key("group_secs"), secs(0.0..=3_600.0)).unwrap_or_default(),
            quiet: read_quiet(reader, section, &zone),
            name,
            channels,
            last,
        }
    }
}

/// Kinds that people are told of unless they say otherwise: everything but mere motion and people who watch.
pub fn worth_telling() -> Vec<EventKind> {
    let is_worth = |kind: &EventKind| !matches!(kind, EventKind::Motion | EventKind::Viewer);
    EventKind::ALL.into_iter().filter(is_worth).collect()
}

/// The quiet hours of a rule or a channel.
pub(super) fn read_quiet(reader: &mut Reader, section: &str, zone: &TimeZone) -> Option<QuietSettings> {
    let key = |name| format!("{section}.{name}");
    let hours: Vec<DayRange> = reader.read_if(&key("quiet_hours"), schedule::hours()).unwrap_or_default();
    let thens = &[("hold", QuietThen::Hold), ("drop", QuietThen::Drop)];
    let then = reader.read_if(&key("quiet"), choice(thens)).unwrap_or(QuietThen::Hold);
    let unlesses =
        &[("critical", Some(Severity::Critical)), ("warning", Some(Severity::Warning)), ("never", None)];
    let unless = reader.read_if(&key("quiet_unless"), choice(unlesses)).unwrap_or(Some(Severity::Critical));
    if hours.is_empty() {
        return None;
    }
    if hours.iter().any(|range| range.from_minute == 0 && range.to_minute == 24 * 60) {
        reader.complain(&key("quiet_hours"), "must leave some of the day: messages could be held for ever");
        return None;
    }
    Some(QuietSettings {
        schedule: Schedule { days: Days([true; 7]), hours, zone: zone.clone() },
        then,
        unless,
    })
}

/// What of an event is told.
pub(super) fn phases() -> Rule<Vec<EventPhase>> {
    let words = &[("started", EventPhase::Started), ("ended", EventPhase::Ended)];
    let list = rule::list(2, choice(words));
    Rule::new("a list of \"started\" and \"ended\", or of one of them", move |value| {
        list.parse(value).filter(|phases| !phases.is_empty())
    })
}

fn severity() -> Rule<Severity> {
    choice(&[("info", Severity::Info), ("warning", Severity::Warning), ("critical", Severity::Critical)])
}

/// A camera, or `node~` for the node itself.
fn camera_or_node() -> Rule<CameraId> {
    let (id, text) = (camera_id(), rule::text(1..=32));
    Rule::new("a camera id, or \"node~\" for the node itself", move |value| {
        let node = CameraId::node();
        if text.parse(value)? == node.as_str() { Some(node) } else { id.parse(value) }
    })
}

#[cfg(test)]
mod tests;
