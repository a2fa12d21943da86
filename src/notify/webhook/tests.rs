//! The webhook against a receiver that verifies it.

use std::process::Command;
use std::time::Duration;

use meerkat_base::{CameraId, EventKind, ManualClock};
use meerkat_outbound::OutboundSettings;

use super::*;
use crate::Style;
use crate::alert::DigestLine;
use crate::alert::tests::alert;
use crate::testing::{Fault, MockServer, Received};
use crate::testkit::{LINK, clip, later_clip, test_message};

const SECRET: &str = "0123456789abcdef-hmac";
const TOKEN: &str = "t0ken-in-the-path";

struct Scene {
    server: MockServer,
    clock: ManualClock,
    hook: Webhook,
}

fn hook(base: &str, secret: &str, clock: &ManualClock) -> Result<Webhook, ShortSecret> {
    hook_with(OutboundSettings::default(), base, secret, clock)
}

fn hook_with(
    client: OutboundSettings,
    base: &str,
    secret: &str,
    clock: &ManualClock,
) -> Result<Webhook, ShortSecret> {
    let url = SecretUrl::parse(&format!("{base}/hooks/{TOKEN}")).unwrap();
    let client = HttpClient::new(client).unwrap();
    let mut settings = WebhookSettings::new("hook", url, Secret::new(secret));
    settings.max_picture_bytes = 1000;
    settings.max_clip_bytes = 10;
    Webhook::new(settings, client, Arc::new(clock.clone()), &RateBook::default())
}

fn scene() -> Scene {
    let clock = ManualClock::new(WallTime(1_795_210_275_900_000));
    let server = MockServer::webhook_with_clock(SECRET, Arc::new(clock.clone())).unwrap();
    let hook = hook(&server.base(), SECRET, &clock).unwrap();
    Scene { server, clock, hook }
}

fn body(received: &Received) -> &serde_json::Value {
    match received {
        Received::Hook { body, .. } => body,
        other => panic!("{other:?}"),
    }
}

fn assert_silent(shown: &dyn fmt::Debug) {
    let shown = format!("{shown:?}");
    assert!(!shown.contains(TOKEN) && !shown.contains(SECRET), "{shown}");
}

#[tokio::test]
async fn the_body_is_what_the_documentation_says() {
    let s = scene();
    let mut a = alert(EventKind::Person, Some(b"picture"));
    a.identities = vec!["张三".into()];
    assert_eq!(s.hook.deliver(&a).await, Outcome::Delivered);
    assert_eq!(s.server.refused(), Vec::<String>::new());
    let expected = serde_json::json!({
        "version": 1, "type": "alert", "part": "alert", "severity": "warning", "detail": "",
        "id": "01920000-0000-7000-8000-000000000001", "time": "2026-11-20T21:31:15.900Z",
        "event": "01920000-0000-7000-8000-000000000002", "camera": "front", "camera_name": "前门",
        "kind": "person", "phase": "started", "started": "2026-11-20T21:31:14.123Z", "score": 0.873,
        "identities": ["张三"], "text": render::alert_text(&a, &Style::default()),
        "snapshot": "cGljdHVyZQ==", "snapshot_bytes": 7,
    });
    let mut got = body(&s.server.received()[0]).clone();
    // 0.873 as the nearest f32
    assert!((got["score"].as_f64().unwrap() - 0.873).abs() < 1e-6);
    got["score"] = 0.873.into();
    assert_eq!(got, expected);
}

#[tokio::test]
async fn pictures_follow_policy_and_limit() {
    let s = scene();
    let large = vec![0; 1001];
    for a in [
        alert(EventKind::Face, Some(b"picture")),
        alert(EventKind::Person, Some(&large)),
        alert(EventKind::Motion, None),
    ] {
        assert_eq!(s.hook.deliver(&a).await, Outcome::Delivered);
    }
    let received = s.server.received();
    let [face, large, none] = [0, 1, 2].map(|n| body(&received[n]));
    assert!(face.get("snapshot").is_none() && face.get("snapshot_bytes").is_none(), "{face}");
    assert!(large.get("snapshot").is_none() && large["snapshot_bytes"] == 1001, "{large}");
    assert!(large["text"].as_str().unwrap().ends_with("未发送）"), "{large}");
    assert!(none.get("snapshot").is_none() && none.get("snapshot_bytes").is_none(), "{none}");
}

#[tokio::test]
async fn a_notice_has_its_severity_and_details() {
    let s = scene();
    let mut a = alert(EventKind::DiskLow, None);
    a.severity = Severity::Critical;
    a.detail = "3 GB are left".into();
    assert_eq!(s.hook.deliver(&a).await, Outcome::Delivered);
    let received = s.server.received();
    let body = body(&received[0]);
    assert_eq!((&body["severity"], &body["detail"]), (&"critical".into(), &"3 GB are left".into()));
}

#[tokio::test]
async fn the_clip_follows_under_the_same_id_as_another_part() {
    let s = scene();
    let a = alert(EventKind::Person, None);
    assert_eq!((s.hook.clip_limit(), s.hook.takes_clips()), (Some(10), true));
    assert_eq!(s.hook.deliver(&a).await, Outcome::Delivered);
    for part in [clip(Some(b"an mp4"), Some(LINK)), clip(Some(b"a larger mp4"), None), clip(None, Some(LINK))]
    {
        assert_eq!(s.hook.deliver_clip(&a, &part).await, Outcome::Delivered);
    }
    let received = s.server.received();
    let repeats: Vec<bool> =
        received.iter().map(|r| matches!(r, Received::Hook { repeated: true, .. })).collect();
    assert_eq!(repeats, [false, false, true, true], "the clip is no repetition of the alert");
    let [first, whole, large, link] = [0, 1, 2, 3].map(|n| body(&received[n]));
    assert_eq!((&first["id"], &whole["part"]), (&whole["id"], &"clip".into()));
    assert_eq!(
        whole["clip"],
        serde_json::json!({
            "name": "front_2026-11-21_053114.mp4", "duration_secs": 12.0, "bytes": 6, "link": LINK, "data": "YW4gbXA0",
            // printf 'an mp4' | sha256sum
            "sha256": hex(&Sha256::digest(b"an mp4")),
        })
    );
    assert_eq!(whole["clip"]["sha256"].as_str().unwrap().len(), 64);
    assert!(large["clip"].get("data").is_none() && large["clip"]["bytes"] == 12, "{large}");
    assert!(link["clip"].get("bytes").is_none() && link["clip"]["link"] == LINK, "{link}");
    assert_eq!(
        s.hook.deliver_clip(&alert(EventKind::Face, None), &clip(Some(b"an mp4"), None)).await,
        Outcome::Delivered
    );
    assert_eq!(s.server.received().len(), 4, "faces stay at home");
}

#[tokio::test]
async fn every_clip_of_a_long_event_is_a_part_of_its_own() {
    let s = scene();
    let a = alert(EventKind::Person, None);
    for n in [1, 2, 3] {
        let film = [b'0' + n as u8; 6];
        let part = later_clip(n, Some(&film), None);
        assert_eq!(s.hook.deliver_clip(&a, &part).await, Outcome::Delivered);
    }
    // The answer to one of them was lost: that one is known again.
    let again = later_clip(2, Some(b"222222"), None);
    assert_eq!(s.hook.deliver_clip(&a, &again).await, Outcome::Delivered);
    let received = s.server.received();
    let repeats: Vec<bool> =
        received.iter().map(|r| matches!(r, Received::Hook { repeated: true, .. })).collect();
    assert_eq!(repeats, [false, false, false, true]);
    let parts: Vec<_> = received.iter().map(|r| body(r)["part"].as_str().unwrap()).collect();
    assert_eq!(parts, ["clip", "clip-2", "clip-3", "clip-2"], "the first as ever");
    assert!(received.iter().all(|r| body(r)["id"] == a.id.to_string()), "of one alert");
}

#[tokio::test]
async fn a_test_is_one_and_advice_is_given() {
    let s = scene();
    assert_eq!(s.hook.deliver_test(&test_message()).await, Outcome::Delivered);
    assert_eq!(body(&s.server.received()[0])["type"], "test");
    assert!(s.hook.explain("status 401").unwrap().contains("secret"));
    assert!(s.hook.explain("status 404").is_some());
    assert_eq!(s.hook.explain("whatever"), None);
}

#[tokio::test]
async fn a_digest_is_counted() {
    let s = scene();
    let line = DigestLine {
        camera: CameraId::parse("front").unwrap(),
        camera_name: None,
        kind: EventKind::Motion,
        count: 41,
    };
    let digest = Digest {
        id: Uuid::from_u128(7),
        oldest: WallTime(0),
        newest: WallTime(1_000_000),
        counts: vec![line],
        already_sent: 0,
    };
    assert_eq!(s.hook.deliver_digest(&digest).await, Outcome::Delivered);
    let received = s.server.received();
    assert_eq!(body(&received[0])["total"], 41);
    assert_eq!(
        body(&received[0])["counts"],
        serde_json::json!([{"camera": "front", "camera_name": null, "kind": "motion", "count": 41}])
    );
}

#[tokio::test]
async fn the_id_stays_the_same_and_the_time_does_not() {
    let s = scene();
    s.server.script([Fault::CutBeforeAnswer]);
    let a = alert(EventKind::Person, None);
    assert!(matches!(s.hook.deliver(&a).await, Outcome::Retry { sent: 0, .. }));
    // Ten minutes later the first signature would be too old.
    s.clock.advance(Duration::from_secs(600));
    assert_eq!(s.hook.deliver(&a).await, Outcome::Delivered);
    let repeats: Vec<bool> =
        s.server.received().iter().map(|r| matches!(r, Received::Hook { repeated: true, .. })).collect();
    assert_eq!(repeats, [false, true], "the receiver can tell the copy");
    assert_eq!(s.server.refused(), Vec::<String>::new());
}

#[tokio::test]
async fn a_wrong_secret_or_an_old_message_is_refused_for_ever() {
    let s = scene();
    let wrong = hook(&s.server.base(), "another secret of 20", &s.clock).unwrap();
    let old = hook(&s.server.base(), SECRET, &ManualClock::new(WallTime(1_795_209_000_000_000))).unwrap();
    for hook in [wrong, old] {
        let outcome = hook.deliver(&alert(EventKind::Person, None)).await;
        assert_eq!(outcome, Outcome::Refused { reason: "status 401".into(), sent: 0 });
    }
    assert_eq!(s.server.received(), []);
    assert_eq!(s.server.refused().len(), 2);
}

#[tokio::test]
async fn statuses_mean_what_the_documentation_says() {
    for status in [407, 408, 429, 500, 502, 503, 504, 599] {
        let s = scene();
        s.server.script([Fault::Status(status, "", "")]);
        let outcome = s.hook.deliver(&alert(EventKind::Person, None)).await;
        assert_eq!(outcome, Outcome::Retry { after: None, reason: format!("status {status}"), sent: 0 });
    }
    for status in [400, 401, 403, 404, 410, 413] {
        let s = scene();
        s.server.script([Fault::Status(status, "retry-after: 1\r\n", "")]);
        let outcome = s.hook.deliver(&alert(EventKind::Person, None)).await;
        assert_eq!(outcome, Outcome::Refused { reason: format!("status {status}"), sent: 0 });
    }
    for status in [301, 307] {
        let s = scene();
        s.server.script([Fault::Status(status, "location: /elsewhere\r\n", "")]);
        let outcome = s.hook.deliver(&alert(EventKind::Person, None)).await;
        assert!(
            matches!(&outcome, Outcome::Retry { sent: 0, .. }),
            "a portal that wants a login: {outcome:?}"
        );
        assert_silent(&outcome);
        assert_eq!(s.server.requests(), 1, "not followed");
    }
}

#[tokio::test]
async fn a_success_is_one_whatever_its_body_does() {
    for fault in
        [Fault::Endless, Fault::CutInAnswer, Fault::Status(200, "", "<html>"), Fault::Status(202, "", "")]
    {
        let s = scene();
        s.server.script([fault.clone()]);
        assert_eq!(s.hook.deliver(&alert(EventKind::Person, None)).await, Outcome::Delivered, "{fault:?}");
    }
}

#[tokio::test]
async fn broken_connections_are_tried_again() {
    for (fault, limit_ms) in [(Fault::CutBeforeAnswer, 20_000), (Fault::Silent, 100)] {
        let s = scene();
        s.server.script([fault]);
        let client =
            OutboundSettings { total_timeout: Duration::from_millis(limit_ms), ..Default::default() };
        let hook = hook_with(client, &s.server.base(), SECRET, &s.clock).unwrap();
        let outcome = hook.deliver(&alert(EventKind::Person, None)).await;
        assert!(
            matches!(&outcome, Outcome::Retry { reason, .. } if reason.contains("may have arrived")),
            "{outcome:?}"
        );
        assert_silent(&outcome);
    }
    let s = scene();
    let gone = s.server.base();
    drop(s.server);
    let outcome = hook(&gone, SECRET, &s.clock).unwrap().deliver(&alert(EventKind::Person, None)).await;
    assert!(
        matches!(&outcome, Outcome::Retry { reason, .. } if reason.contains("could not connect")),
        "{outcome:?}"
    );
    assert_silent(&outcome);
}

#[tokio::test]
async fn retry_after_is_honoured_within_bounds() {
    for (header, wait) in [
        ("retry-after: 30\r\n", Some(30)),
        // The clock of the scene says 21:31:15.9.
        ("retry-after: Fri, 20 Nov 2026 21:32:16 GMT\r\n", Some(60)),
        ("retry-after: Fri, 20 Nov 2020 21:32:16 GMT\r\n", Some(0)),
        ("retry-after: 99999999999\r\n", Some(3600)),
        ("retry-after: later\r\n", None),
    ] {
        let s = scene();
        s.server.script([Fault::Status(503, header, "")]);
        match s.hook.deliver(&alert(EventKind::Person, None)).await {
            Outcome::Retry { after, .. } => assert_eq!(after.map(|d| d.as_secs()), wait, "{header}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn short_secrets_are_refused_and_none_is_shown() {
    let s = scene();
    assert_eq!(hook(&s.server.base(), "0123456789abcde", &s.clock).unwrap_err(), ShortSecret);
    let shown = format!("{:?} {:#?}", s.hook, s.hook.settings);
    assert!(!shown.contains(SECRET) && !shown.contains(TOKEN), "{shown}");
}

#[test]
fn the_signature_is_the_one_openssl_makes() {
    // printf '1795210275\n0192\n{"a":"门"}' | openssl dgst -sha256 -hmac '0123456789abcdef-hmac'
    assert_eq!(
        signature(&Secret::new(SECRET), "1795210275", "0192", r#"{"a":"门"}"#.as_bytes()),
        "v1=d9e7f3cf8852e6ea113e9072e4262bd5c30bdf1a69d8969bf4c94e6fcec6cc41"
    );
}

/// Runs the example of the module's documentation, word for word, where there is a Python.
#[test]
fn the_python_example_verifies() {
    let source = include_str!("../webhook.rs");
    let example: String = source
        .lines()
        .skip_while(|l| !l.starts_with("//! ```python"))
        .skip(1)
        .take_while(|l| !l.starts_with("//! ```"))
        .map(|l| format!("{}\n", l.trim_start_matches("//!").strip_prefix(' ').unwrap_or_default()))
        .collect();
    assert!(example.contains("def verify("), "{example}");
    let body = r#"{"a":"b"}"#;
    let signature = signature(&Secret::new(SECRET), "1795210275", "0192", body.as_bytes());
    let script = format!(
        "{example}\n\
         h = {{'X-Meerkat-Time': '1795210275', 'X-Meerkat-Id': '0192', 'X-Meerkat-Signature': '{signature}'}}\n\
         s, b, n = b'{SECRET}', b'{body}', 1795210300\n\
         print(verify(s, h, b, n), verify(s, h, b + b' ', n), verify(s + b'x', h, b, n), verify(s, h, b, n + 600),\n\
         verify(s, dict(h, **{{'X-Meerkat-Id': '0193'}}), b, n), verify(s, dict(h, **{{'X-Meerkat-Time': '1795210276'}}), b, n))\n"
    );
    match Command::new("python3").arg("-c").arg(script).output() {
        Ok(out) => {
            let said = String::from_utf8_lossy(&out.stdout).into_owned();
            assert_eq!(
                said.trim(),
                "True False False False False False",
                "{}",
                String::from_utf8_lossy(&out.stderr)
            );
        }
        Err(_) => println!("skipped: no python3 on this machine"),
    }
}
