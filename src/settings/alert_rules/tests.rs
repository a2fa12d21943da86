//! Tests of the settings of rules, of quiet hours and of what channels are told without rules.

use super::*;
use crate::tests::{loaded, wrong_keys};

const NODE: &str = "[cameras.yard]\nname = \"Yard\"\n[notify.channels.office]\ntype = \"webhook\"\n\
                    url = \"https://example.org/x\"\nsecret = \"0123456789abcdef\"\n";

fn with(rule: &str) -> String {
    format!("{NODE}[notify.rules.night]\n{rule}\n")
}

#[test]
fn a_rule_that_says_little_is_about_everything_worth_telling() {
    let settings = loaded(&with("channels = [\"office\"]"));
    let rule = &settings.notify.rules[0];
    assert_eq!((rule.name.as_str(), rule.order, rule.last), ("night", 100, false));
    assert!(rule.kinds.contains(&EventKind::CameraSilent) && !rule.kinds.contains(&EventKind::Motion));
    assert_eq!((rule.cameras.as_ref(), rule.identities.as_ref(), rule.phases.as_ref()), (None, None, None));
    assert_eq!((rule.min_score, rule.min_severity, rule.severity), (0.0, Severity::Info, None));
    assert_eq!((rule.cooldown, rule.group, rule.quiet.as_ref()), (Duration::ZERO, Duration::ZERO, None));
    assert_eq!((rule.schedule.days, rule.schedule.hours.len()), (Days([true; 7]), 0));
}

#[test]
fn a_rule_can_say_everything() {
    let settings = loaded(&with(
        "order = 5\nkinds = [\"person\", \"face\"]\ncameras = [\"yard\", \"node~\"]\nidentities = [\"unknown\"]\n\
         min_score = 0.7\nmin_severity = \"warning\"\nseverity = \"critical\"\ndays = [\"mon\", \"sun\"]\n\
         hours = [\"22:00-07:00\"]\ntime_zone = \"Asia/Shanghai\"\nphases = [\"started\", \"ended\"]\n\
         channels = [\"office\"]\ncooldown_secs = 300\ngroup_secs = 60\nquiet_hours = [\"12:00-13:00\"]\n\
         quiet = \"drop\"\nquiet_unless = \"never\"\nlast = true",
    ));
    let rule = &settings.notify.rules[0];
    assert_eq!(rule.cameras.as_ref().unwrap()[1], CameraId::node());
    assert_eq!(rule.schedule.days, Days([true, false, false, false, false, false, true]));
    assert_eq!(rule.schedule.zone.iana_name(), Some("Asia/Shanghai"));
    assert_eq!(rule.phases.as_ref().unwrap().len(), 2);
    let quiet = rule.quiet.as_ref().unwrap();
    assert_eq!((quiet.then, quiet.unless), (QuietThen::Drop, None));
    assert_eq!(quiet.schedule.zone.iana_name(), Some("Asia/Shanghai"));
    assert!(rule.last);
}

#[test]
fn each_wrong_value_of_a_rule_is_named() {
    let table: &[(&str, &str)] = &[
        ("order", "-1"),
        ("kinds", "[]"),
        ("kinds", "[\"burglary\"]"),
        ("cameras", "[\"nowhere\"]"),
        ("cameras", "[\"No\"]"),
        ("identities", "\"ann\""),
        ("identities", "[\"\"]"),
        ("min_score", "1.5"),
        ("min_severity", "\"high\""),
        ("severity", "2"),
        ("days", "[\"monday\"]"),
        ("days", "[]"),
        ("hours", "[\"22-7\"]"),
        ("hours", "[\"22:00-25:00\"]"),
        ("hours", "[\"08:00-08:00\"]"),
        ("time_zone", "\"Mars/Olympus\""),
        ("phases", "[\"updated\"]"),
        ("phases", "[]"),
        ("channels", "[]"),
        ("channels", "[\"nobody\"]"),
        ("channels", "\"office\""),
        ("cooldown_secs", "-1"),
        ("group_secs", "3601"),
        ("quiet_hours", "[\"00:00-24:00\"]"),
        ("quiet_hours", "[\"night\"]"),
        ("quiet", "\"wait\""),
        ("quiet_unless", "\"info\""),
        ("last", "1"),
        ("chanels", "[\"office\"]"),
    ];
    for (key, value) in table {
        let right = if *key == "channels" { "" } else { "channels = [\"office\"]\n" };
        let wrong = wrong_keys(&with(&format!("{right}{key} = {value}")));
        assert_eq!(wrong, [format!("notify.rules.night.{key}")], "{key} = {value}");
    }
    assert_eq!(wrong_keys(&with("")), ["notify.rules.night.channels"]);
    assert_eq!(wrong_keys(&with("last = true")), Vec::<String>::new(), "told to nobody");
    assert_eq!(wrong_keys(&format!("{NODE}[notify.rules.Night]\nchannels = []")), ["notify.rules.Night"]);
    // All at once.
    let all = wrong_keys(&with(
        "kinds = [\"x\"]\ncameras = [\"nowhere\"]\nchannels = [\"nobody\"]\nhours = [\"8\"]",
    ));
    assert_eq!(all.len(), 4, "{all:?}");
    // A channel that has a mistake of its own is no mistake of the rule.
    let broken = "[notify.channels.a]\ntype = \"pigeon\"\n[notify.rules.r]\nchannels = [\"a\"]";
    assert_eq!(wrong_keys(broken), ["notify.channels.a.type"]);
}

#[test]
fn rules_are_asked_in_their_order() {
    let settings = loaded(&format!(
        "{NODE}[notify.rules.b]\nchannels = [\"office\"]\n[notify.rules.a]\nchannels = [\"office\"]\n\
         [notify.rules.z]\norder = 1\nchannels = [\"office\"]\n"
    ));
    let names: Vec<&str> = settings.notify.rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["z", "a", "b"]);
}

#[test]
fn channels_have_quiet_hours_and_phases_too() {
    let own = "phases = [\"ended\"]\nquiet_hours = [\"22:00-07:00\"]\n";
    let settings = loaded(&format!("[notify]\ntime_zone = \"+08:00\"\n{NODE}{own}"));
    let channel = &settings.notify.channels["office"];
    assert_eq!(
        (channel.phases_of(EventKind::Person), channel.kinds.as_ref()),
        (vec![EventPhase::Ended], None)
    );
    let quiet = channel.quiet.as_ref().unwrap();
    assert_eq!((quiet.then, quiet.unless), (QuietThen::Hold, Some(Severity::Critical)));
    let plain = loaded(NODE);
    let phases = |kind| plain.notify.channels["office"].phases_of(kind);
    assert_eq!(phases(EventKind::Person), [EventPhase::Started]);
    assert_eq!(phases(EventKind::CameraSilent), [EventPhase::Started, EventPhase::Ended]);
    for (key, value) in
        [("phases", "[\"never\"]"), ("quiet_hours", "\"22:00\""), ("quiet", "1"), ("quiet_unless", "1")]
    {
        let wrong = wrong_keys(&format!("{NODE}{key} = {value}"));
        assert_eq!(wrong, [format!("notify.channels.office.{key}")], "{key}");
    }
}
