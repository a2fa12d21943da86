//! The built-in wording, the owner's templates, and what becomes of broken ones.

use std::sync::Arc;
use std::time::Duration;

use meerkat_base::{CameraId, WallTime};
use uuid::Uuid;

use super::*;
use crate::alert::tests::alert;
use crate::alert::{ClipPart, Digest, DigestLine};
use crate::render::{Style, alert_text, clip_text, digest_text};

fn source(name: &str, text: &str) -> TemplateSource {
    TemplateSource {
        name: name.to_owned(),
        origin: format!("notify.templates.en.{name}"),
        text: text.to_owned(),
    }
}

fn style(sources: &[(&str, &str)]) -> Style {
    let sources = sources.iter().map(|(name, text)| source(name, text)).collect();
    let templates = Arc::new(Templates::compile(sources).unwrap());
    Style { language: Language::English, templates, ..Style::default() }
}

#[track_caller]
fn refused(name: &str, text: &str) -> TemplateError {
    let mut errors = Templates::compile(vec![source(name, text)]).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors.remove(0)
}

#[test]
fn the_built_in_wording_writes_every_sample() {
    for (name, _) in BUILT_IN {
        let (wanted, _) = name.split_once('.').unwrap();
        for sample in crate::samples::samples(wanted).unwrap() {
            let text = write(&WORDING, name, sample).unwrap();
            assert!(text.contains("Meerkat") && !text.contains("{{") && !text.contains("\n\n"), "{text}");
        }
    }
}

#[test]
fn the_most_particular_template_wins() {
    let sources =
        [("alert", "general"), ("notice", "node"), ("person", "of persons"), ("person_ended", "person gone")];
    let text = |sources: &[(&str, &str)], kind, phase| {
        let mut a = alert(kind, None);
        a.phase = phase;
        alert_text(&a, &style(sources))
    };
    assert_eq!(text(&sources, EventKind::Person, EventPhase::Ended), "person gone");
    assert_eq!(text(&sources, EventKind::Person, EventPhase::Started), "of persons");
    assert_eq!(text(&sources, EventKind::Motion, EventPhase::Started), "general");
    assert_eq!(text(&sources, EventKind::DiskLow, EventPhase::Started), "node");
    let mut with_own = sources.to_vec();
    with_own.push(("channel", "short: {{ kind }}"));
    assert_eq!(text(&with_own, EventKind::Person, EventPhase::Ended), "short: person");
    assert!(
        text(&[("motion", "m")], EventKind::Person, EventPhase::Ended).starts_with("[Meerkat] 前门: person")
    );
}

#[test]
fn templates_are_told_what_the_documentation_lists() {
    let all = "{{ id }}|{{ event }}|{{ camera }}|{{ camera_name }}|{{ kind }}|{{ what }}|{{ phase }}|{{ time }}|\
               {{ date }}|{{ clock }}|{{ zone }}|{{ identities|join('+') }}|{{ people }}|{{ percent }}|\
               {{ severity }}|{{ detail }}|{{ score > 0.8 }}";
    let mut a = alert(EventKind::Face, None);
    a.identities = vec!["unknown".to_owned(), "Ann".to_owned()];
    a.detail = "a\tb\n\nc".to_owned();
    assert_eq!(
        alert_text(&a, &style(&[("face", all)])),
        "01920000-0000-7000-8000-000000000001|01920000-0000-7000-8000-000000000002|front|前门|face|face seen|started|\
         2026-11-20 21:31:14Z|2026-11-20|21:31:14|UTC|somebody not enrolled+Ann|2|87|warning|a b\nc|True"
    );
    let clip = ClipPart {
        part: 1,
        name: "front.mp4".to_owned(),
        file: None,
        link: Some("https://example.org/c?t=1".to_owned()),
        duration: Duration::from_millis(12_400),
    };
    assert_eq!(
        clip_text(&a, &clip, &style(&[("clip", "{{ seconds }} s at {{ link }}")])),
        "12 s at https://example.org/c?t=1"
    );
    assert_eq!(
        clip_text(&a, &clip, &style(&[])),
        "[Meerkat] 前门: face seen, 2026-11-20 21:31:14Z, clip of 12 s\n\
         Event: 01920000-0000-7000-8000-000000000002"
    );
    let digest = Digest {
        id: Uuid::nil(),
        oldest: WallTime(0),
        newest: WallTime(60_000_000),
        counts: vec![DigestLine {
            camera: CameraId::parse("yard").unwrap(),
            camera_name: None,
            kind: EventKind::Motion,
            count: 4,
        }],
        already_sent: 0,
    };
    let text = "{{ total }} from {{ oldest }}{% for line in counts %}; {{ line.camera }} {{ line.count }}{% endfor %}";
    assert_eq!(digest_text(&digest, &style(&[("digest", text)])), "4 from 1970-01-01 00:00:00Z; yard 4");
}

#[test]
fn a_broken_template_is_named_with_its_line() {
    let error = refused("motion", "one\ntwo {{ camera\nthree");
    assert_eq!(
        (error.origin.as_str(), error.line.is_some()),
        ("notify.templates.en.motion", true),
        "{error}"
    );
    let error = refused("alert", "fine\n\n{{ camra_name }}");
    assert_eq!(error.line, Some(3), "{error}");
    assert!(error.to_string().starts_with("notify.templates.en.alert, line 3: undefined value"), "{error}");
    assert!(error.to_string().contains("camra_name"), "{error}");
    // Wrong only for some of what it can be asked: the trial finds it all the same.
    let error = refused("alert", "{% if kind == 'face' and identities %}{{ nobody }}{% endif %}x");
    assert!(error.reason.contains("nobody"), "{error}");
    assert!(refused("clip", "{{ total }}").reason.contains("undefined"));
    assert!(refused("digest", "{{ camera }}").reason.contains("undefined"));
    assert!(refused("burglary", "x").reason.contains("burglary"));
    assert!(refused("alert", "{% include 'alert.zh' %}").line.is_some(), "templates cannot reach others");
    let two = vec![source("motion", "{{"), source("face", "{{ x }}"), source("person", "right")];
    assert_eq!(Templates::compile(two).unwrap_err().len(), 2, "all errors at once");
}

#[test]
fn work_and_size_are_limited() {
    let endless = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}x";
    for text in [
        endless,
        "{{ 'x' * 90000000 }}",
        "{% for a in range(20000) %}x{% endfor %}",
        "{{ 'x' * 20000 }}",
        "{{ range(100000)|list|join(',')|length }}",
    ] {
        let error = refused("alert", text);
        let stopped = error.reason.contains("fuel") || error.reason.contains("more than");
        assert!(stopped, "{text}: {error}");
    }
    assert!(refused("alert", &"x".repeat(MAX_TEMPLATE_BYTES + 1)).reason.contains("larger"));
    assert!(refused("alert", "{% if false %}x{% endif %}\n").reason.contains("nothing"));
}

#[test]
fn what_fails_after_all_gives_way_to_the_built_in_wording() {
    // Right for every sample, wrong for this name: a template can be that clever.
    let style = style(&[("person", "{% if camera == 'front' %}x{% else %}{{ missing }}{% endif %}")]);
    let mut a = alert(EventKind::Person, None);
    assert_eq!(alert_text(&a, &style), "x");
    a.camera = CameraId::parse("yard").unwrap();
    assert!(alert_text(&a, &style).starts_with("[Meerkat] 前门: person seen, "));
}

#[test]
fn templates_escape_nothing_and_let_nothing_invisible_through() {
    let mut a = alert(EventKind::Person, None);
    a.camera_name = Some("<b>&\"{{ kind }}\u{202e}\u{1b}".to_owned());
    let text = alert_text(&a, &style(&[("alert", "{{ camera_name }}\u{7}\n<i>\u{200b}")]));
    assert_eq!(text, "<b>&\"{{ kind }}\n<i>", "names are data, not templates; escaping is the channel's");
}
