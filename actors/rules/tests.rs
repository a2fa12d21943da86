//! Tests of the rules as a whole: which event is told to whom, when, and what is kept back.

use std::time::Duration;

use jiff::Timestamp;
use meerkat_base::{CameraId, Clock, Event, EventId, EventKind, EventPhase, ManualClock, Severity, WallTime};
use meerkat_settings::Settings;
use meerkat_store::Snooze;
use uuid::Uuid;

use super::*;

/// Friday noon, UTC.
const NOON: &str = "2026-11-27T12:00:00Z";

const CHANNELS: &str = "[cameras.yard]\n[cameras.gate]\n\
    [notify.channels.a]\ntype = \"webhook\"\nurl = \"https://example.org/a\"\nsecret = \"0123456789abcdef\"\n\
    [notify.channels.b]\ntype = \"webhook\"\nurl = \"https://example.org/b\"\nsecret = \"0123456789abcdef\"\n";

fn at(text: &str) -> WallTime {
    WallTime(text.parse::<Timestamp>().unwrap().as_microsecond())
}

fn settings(more: &str) -> Settings {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.toml");
    std::fs::write(&path, format!("{CHANNELS}{more}")).unwrap();
    Settings::load(&[path], std::iter::empty()).unwrap()
}

/// Rules with a clock that stands at a moment.
struct Scene {
    clock: ManualClock,
    rules: Rules,
    number: u8,
}

impl Scene {
    fn new(more: &str) -> Self {
        let clock = ManualClock::new(at(NOON));
        let rules = Rules::new(&settings(more), std::sync::Arc::new(clock.clone()));
        Self { clock, rules, number: 0 }
    }

    fn set(&self, time: &str) {
        self.clock.jump_wall(at(time).0 - self.clock.wall().0);
    }

    fn event(&mut self, kind: EventKind, camera: &str) -> Event {
        self.number = self.number.wrapping_add(1);
        Event {
            id: EventId::new(self.clock.wall(), [self.number; 10]),
            camera: CameraId::from_shown(camera).unwrap(),
            kind,
            phase: EventPhase::Started,
            started: self.clock.wall(),
            started_seq: 1,
            ended: None,
            score: 0.8,
            identities: Vec::new(),
            sightings: Vec::new(),
        }
    }

    fn judge(&mut self, kind: EventKind, camera: &str) -> Verdict {
        let event = self.event(kind, camera);
        self.rules.judge(&event, "", &BTreeSet::new())
    }

    /// Channels that are told at once and by themselves.
    fn told(&mut self, kind: EventKind, camera: &str) -> Vec<String> {
        let now = self.clock.wall();
        let verdict = self.judge(kind, camera);
        let at_once = |telling: &&Telling| telling.due == now && telling.merge_key.is_none();
        verdict.tellings.iter().filter(at_once).map(|telling| telling.channel.clone()).collect()
    }
}

fn rule(name: &str, keys: &str) -> String {
    format!("[notify.rules.{name}]\n{keys}\n")
}

#[test]
fn without_rules_channels_decide_for_themselves() {
    let mut scene = Scene::new("cameras = [\"yard\"]\nkinds = [\"person\", \"disk_low\"]\n");
    assert_eq!(scene.told(EventKind::Person, "yard"), ["a", "b"]);
    assert_eq!(scene.told(EventKind::Person, "gate"), ["a"]);
    assert_eq!(scene.told(EventKind::Face, "yard"), ["a"]);
    assert_eq!(
        scene.told(EventKind::Motion, "yard"),
        Vec::<String>::new(),
        "mere motion is not worth telling"
    );
    assert_eq!(scene.told(EventKind::CameraSilent, "yard"), ["a"], "a dead camera is");
    assert_eq!(scene.told(EventKind::DiskLow, "node~"), ["a", "b"], "what concerns no camera");
}

#[test]
fn a_rule_decides_for_the_channels_that_it_names() {
    let mut scene = Scene::new(&rule("r", "channels = [\"a\"]\nkinds = [\"motion\"]\ncameras = [\"yard\"]"));
    assert_eq!(scene.told(EventKind::Motion, "yard"), ["a"]);
    assert_eq!(scene.told(EventKind::Motion, "gate"), Vec::<String>::new());
    assert_eq!(scene.told(EventKind::Person, "yard"), ["b"], "b, that no rule names, as before");
}

#[test]
fn a_channels_own_section_is_the_most_it_is_told() {
    let channels = "kinds = [\"person\"]\n";
    let rules = rule("r", "channels = [\"a\", \"b\"]\nkinds = [\"person\", \"face\"]");
    let mut scene = Scene::new(&format!("{channels}{rules}"));
    assert_eq!(scene.told(EventKind::Person, "yard"), ["a", "b"]);
    assert_eq!(scene.told(EventKind::Face, "yard"), ["a"]);
}

#[test]
fn rules_are_asked_in_order_and_a_channel_is_told_once() {
    let first = rule("z", "order = 1\nchannels = [\"a\"]\nseverity = \"critical\"\nkinds = [\"person\"]");
    let second = rule("y", "order = 2\nchannels = [\"a\", \"b\"]\nseverity = \"info\"");
    let mut scene = Scene::new(&format!("{first}{second}"));
    let verdict = scene.judge(EventKind::Person, "yard");
    let told: Vec<_> = verdict.tellings.iter().map(|t| (t.channel.as_str(), t.severity)).collect();
    assert_eq!(told, [("a", Severity::Critical), ("b", Severity::Info)]);
    // The last rule: nobody after it, not even channels without rules.
    let ignore = rule("i", "order = 0\nlast = true\ncameras = [\"yard\"]\nkinds = [\"person\"]");
    let mut scene = Scene::new(&format!("{ignore}{}", rule("r", "channels = [\"a\"]")));
    assert_eq!(scene.told(EventKind::Person, "yard"), Vec::<String>::new());
    assert_eq!(scene.told(EventKind::Person, "gate"), ["a", "b"]);
}

#[test]
fn severities_are_those_of_the_kind_unless_a_rule_says_so() {
    for (kind, expected) in [
        (EventKind::Motion, Severity::Info),
        (EventKind::Person, Severity::Warning),
        (EventKind::ObjectRemoved, Severity::Critical),
        (EventKind::CameraSilent, Severity::Warning),
        (EventKind::RecordingRefused, Severity::Critical),
    ] {
        let all = "channels = [\"a\"]\nkinds = [\"motion\", \"person\", \"object_removed\", \"camera_silent\", \"recording_refused\"]";
        let mut scene = Scene::new(&rule("r", all));
        assert_eq!(scene.judge(kind, "yard").tellings[0].severity, expected, "{kind}");
    }
    let mut scene =
        Scene::new(&rule("r", "channels = [\"a\"]\nmin_severity = \"critical\"\nseverity = \"info\""));
    assert_eq!(scene.told(EventKind::Person, "yard"), ["b"]);
    assert_eq!(scene.told(EventKind::ObjectRemoved, "yard"), ["a", "b"]);
}

#[test]
fn faces_are_told_by_whose_they_are() {
    let mut scene = Scene::new(&rule("r", "channels = [\"a\"]\nidentities = [\"unknown\", \"Li Lei\"]"));
    let mut told = |names: &[&str]| {
        let mut event = scene.event(EventKind::Face, "yard");
        event.identities = names.iter().map(|name| (*name).to_owned()).collect();
        let verdict = scene.rules.judge(&event, "", &BTreeSet::new());
        verdict.tellings.iter().any(|telling| telling.channel == "a")
    };
    assert!(told(&["unknown"]) && told(&["Li Lei"]));
    assert!(!told(&["Han Meimei"]) && !told(&[]));
}

#[test]
fn an_event_that_becomes_certain_enough_is_told_then_and_once() {
    let mut scene =
        Scene::new(&rule("r", "channels = [\"a\"]\nmin_score = 0.9\nkinds = [\"person\", \"disk_low\"]"));
    let mut event = scene.event(EventKind::Person, "yard");
    let first = scene.rules.judge(&event, "", &BTreeSet::new());
    assert!(first.may_rise && first.tellings.iter().all(|telling| telling.channel == "b"));
    event.score = 0.95;
    let second = scene.rules.judge(&event, "", &first.settled);
    assert_eq!(
        second.tellings.iter().map(|t| t.channel.as_str()).collect::<Vec<_>>(),
        ["a"],
        "b had its say"
    );
    assert!(!second.may_rise);
    assert_eq!(scene.rules.judge(&event, "", &second.settled).tellings, []);
    event.score = f32::NAN;
    assert!(scene.rules.judge(&event, "", &BTreeSet::new()).may_rise);
    assert_eq!(scene.told(EventKind::DiskLow, "node~"), ["a", "b"], "notices have no score");
}

#[test]
fn a_rule_holds_when_its_schedule_does() {
    let night =
        "channels = [\"a\"]\ndays = [\"fri\"]\nhours = [\"22:00-06:00\"]\ntime_zone = \"Asia/Shanghai\"";
    let mut scene = Scene::new(&rule("r", night));
    for (time, expected) in [
        ("2026-11-27T13:59:59Z", false),
        ("2026-11-27T14:00:00Z", true),
        ("2026-11-27T21:59:59Z", true),
        ("2026-11-27T22:00:00Z", false),
        ("2026-11-28T14:00:00Z", false),
    ] {
        scene.set(time);
        let told = scene.told(EventKind::Person, "yard");
        assert_eq!(told.contains(&"a".to_owned()), expected, "{time}");
    }
}

#[test]
fn the_same_is_not_told_again_while_it_cools_down() {
    let mut scene = Scene::new(&rule("r", "channels = [\"a\"]\ncooldown_secs = 60"));
    let told = |scene: &mut Scene, kind, camera| scene.told(kind, camera).contains(&"a".to_owned());
    assert!(told(&mut scene, EventKind::Person, "yard"));
    let again = scene.judge(EventKind::Person, "yard");
    assert_eq!(again.kept_back, [KeptBack::CoolingDown]);
    assert!(told(&mut scene, EventKind::Person, "gate"), "another camera");
    assert!(told(&mut scene, EventKind::Face, "yard"), "another kind");
    scene.clock.advance(Duration::from_secs(59));
    assert!(!told(&mut scene, EventKind::Person, "yard"));
    // The wall clock plays no part.
    scene.clock.jump_wall(86_400_000_000);
    assert!(!told(&mut scene, EventKind::Person, "yard"));
    scene.clock.advance(Duration::from_secs(1));
    assert!(told(&mut scene, EventKind::Person, "yard"));
    // What one rule keeps back, the next does not tell.
    let two =
        format!("{}{}", rule("q", "channels = [\"a\"]\ncooldown_secs = 60"), rule("r", "channels = [\"a\"]"));
    let mut scene = Scene::new(&two);
    assert!(told(&mut scene, EventKind::Person, "yard") && !told(&mut scene, EventKind::Person, "yard"));
}

#[test]
fn what_was_told_to_nobody_does_not_cool_down() {
    for (then, told_after) in [("drop", true), ("hold", false)] {
        let quiet = format!(
            "channels = [\"a\"]\ncooldown_secs = 3600\nquiet_hours = [\"11:00-12:30\"]\nquiet = \"{then}\""
        );
        let mut scene = Scene::new(&rule("r", &quiet));
        let first = scene.judge(EventKind::Person, "yard");
        assert_eq!(first.tellings.iter().any(|telling| telling.channel == "a"), then == "hold");
        scene.clock.advance(Duration::from_secs(35 * 60));
        let told = scene.told(EventKind::Person, "yard").contains(&"a".to_owned());
        assert_eq!(told, told_after, "{then}");
        assert!(!scene.told(EventKind::Person, "yard").contains(&"a".to_owned()), "{then}");
    }
}

#[test]
fn a_burst_is_its_first_event_and_one_message() {
    let mut scene = Scene::new(&rule("r", "channels = [\"a\"]\ngroup_secs = 60"));
    let start = scene.clock.wall();
    let mut step = |secs: u64| {
        scene.clock.advance(Duration::from_secs(secs));
        let camera = if secs.is_multiple_of(2) { "yard" } else { "gate" };
        let verdict = scene.judge(EventKind::Person, camera);
        let telling = verdict.tellings.into_iter().find(|telling| telling.channel == "a").unwrap();
        let in_secs = (telling.due.0 - start.0) / 1_000_000;
        (in_secs, telling.merge_key.is_some())
    };
    assert_eq!([step(0), step(5), step(20)], [(0, false), (60, true), (60, true)]);
    assert_eq!(step(50), (120, true), "it goes on");
    assert_eq!(step(200), (275, false), "and begins anew");
}

#[test]
fn in_quiet_hours_messages_wait_or_are_dropped_and_the_critical_go() {
    let quiet = "quiet_hours = [\"22:00-07:00\"]\n";
    let mut scene = Scene::new(&format!("{quiet}[notify]\ntime_zone = \"Europe/Berlin\"\n"));
    scene.set("2026-11-27T22:00:00Z");
    let by = |verdict: &Verdict, channel: &str| {
        verdict.tellings.iter().find(|telling| telling.channel == channel).cloned()
    };
    let verdict = scene.judge(EventKind::Person, "yard");
    assert_eq!(by(&verdict, "a").unwrap().merge_key, None, "a has no quiet hours");
    let held = by(&verdict, "b").unwrap();
    assert_eq!((held.due, held.merge_key.is_some()), (at("2026-11-28T06:00:00Z"), true));
    assert_eq!(verdict.kept_back, [KeptBack::Grouped]);
    let other = by(&scene.judge(EventKind::CameraSilent, "gate"), "b").unwrap();
    assert_eq!(other.merge_key, held.merge_key, "one message in the morning");
    assert_eq!(by(&scene.judge(EventKind::ObjectRemoved, "yard"), "b").unwrap().merge_key, None);
    // A rule of its own: dropped, whatever it is.
    let drop = rule(
        "r",
        "channels = [\"a\"]\nquiet_hours = [\"11:00-13:00\"]\nquiet = \"drop\"\nquiet_unless = \"never\"",
    );
    let mut scene = Scene::new(&drop);
    let verdict = scene.judge(EventKind::ObjectRemoved, "yard");
    assert_eq!((by(&verdict, "a"), verdict.kept_back), (None, vec![KeptBack::Quiet]));
    // Rule and channel: until both are over.
    let both = format!("{quiet}{}", rule("r", "channels = [\"b\"]\nquiet_hours = [\"23:00-09:00\"]"));
    let mut scene = Scene::new(&both);
    scene.set("2026-11-27T23:30:00Z");
    assert_eq!(by(&scene.judge(EventKind::Person, "yard"), "b").unwrap().due, at("2026-11-28T09:00:00Z"));
}

#[test]
fn the_end_is_told_to_whom_it_was_promised() {
    let rules = format!(
        "{}{}",
        rule("r", "channels = [\"a\"]\nphases = [\"started\", \"ended\"]\nkinds = [\"person\"]"),
        rule("s", "channels = [\"b\"]\nphases = [\"ended\"]\ncooldown_secs = 100")
    );
    let mut scene = Scene::new(&rules);
    let verdict = scene.judge(EventKind::Person, "yard");
    assert_eq!(verdict.tellings.iter().map(|t| t.channel.as_str()).collect::<Vec<_>>(), ["a"]);
    let ends = scene.rules.end(&verdict.promises);
    assert_eq!(ends.iter().map(|t| t.channel.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let again = scene.judge(EventKind::Person, "yard");
    assert_eq!(again.promises.iter().map(|p| p.channel.as_str()).collect::<Vec<_>>(), ["a"], "s cools down");
    // Who does not hear of the start does not hear of the end.
    let drop = "channels = [\"a\"]\nphases = [\"started\", \"ended\"]\nquiet_hours = [\"11:00-13:00\"]\nquiet = \"drop\"";
    let dropped = Scene::new(&rule("r", drop)).judge(EventKind::Person, "yard");
    assert!(dropped.promises.iter().all(|promise| promise.channel != "a"), "{dropped:?}");
    // With other rules in force, the promise holds as long as there is the channel.
    scene.rules.reload(&settings(""));
    assert_eq!(scene.rules.end(&verdict.promises).len(), 2);
}

#[test]
fn a_channel_that_fails_is_not_told_so_by_itself() {
    let mut scene = Scene::new("");
    let event = scene.event(EventKind::ChannelFailing, "node~");
    let told = scene.rules.judge(&event, "a", &BTreeSet::new()).tellings;
    assert_eq!(told.iter().map(|t| t.channel.as_str()).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn snoozes_keep_back_what_they_are_about_as_long_as_they_hold() {
    let snooze = |camera: Option<&str>, rule: Option<&str>, minutes: Option<i64>| Snooze {
        id: Uuid::new_v4(),
        camera: camera.map(|id| CameraId::parse(id).unwrap()),
        rule: rule.map(str::to_owned),
        until: minutes.map(|minutes| at(NOON).offset_micros(minutes * 60_000_000)),
        reason: String::new(),
        created: at(NOON),
    };
    let check = |snoozes: Vec<Snooze>, kind, camera: &str, told: &[&str], kept_back: &[KeptBack], snoozed| {
        let mut scene = Scene::new(&rule("r", "channels = [\"a\"]"));
        scene.rules.set_snoozes(snoozes);
        scene.clock.advance(Duration::from_secs(60));
        let verdict = scene.judge(kind, camera);
        let channels: Vec<&str> = verdict.tellings.iter().map(|t| t.channel.as_str()).collect();
        assert_eq!(
            (channels.as_slice(), verdict.kept_back.as_slice(), verdict.snoozed),
            (told, kept_back, snoozed)
        );
    };
    let (person, disk) = (EventKind::Person, EventKind::DiskLow);
    use KeptBack::{Disarmed, Snoozed};
    check(vec![snooze(Some("yard"), None, Some(5))], person, "yard", &[], &[Snoozed, Snoozed], true);
    check(vec![snooze(Some("yard"), None, Some(5))], person, "gate", &["a", "b"], &[], false);
    check(vec![snooze(Some("yard"), None, Some(1))], person, "yard", &["a", "b"], &[], false);
    check(vec![snooze(None, Some("r"), Some(5))], person, "yard", &["b"], &[Snoozed], true);
    check(vec![snooze(Some("gate"), Some("r"), Some(5))], person, "yard", &["a", "b"], &[], false);
    check(vec![snooze(None, None, None)], person, "yard", &[], &[Disarmed, Disarmed], true);
    // Whoever disarms the cameras still hears of the disk; whoever snoozes the rule does not, by it.
    check(vec![snooze(None, None, None)], disk, "node~", &["a", "b"], &[], false);
    check(vec![snooze(None, Some("r"), None)], disk, "node~", &["b"], &[Disarmed], true);
    // No message, but quiet all the same.
    check(vec![snooze(None, None, None)], EventKind::Motion, "yard", &[], &[], true);
}
