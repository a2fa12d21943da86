//! The robot, and the application that uploads for it, against a server that enforces their rules.

use meerkat_base::{EventKind, ManualClock};

use super::*;
use crate::alert::tests::alert;
use crate::channel::Channel;
use crate::testing::{Fault, MockServer, Received};
use crate::testkit::{
    JPEG, LINK, assert_silent, client, clip, clock, digest, hostile, person, refusal, retry, test_message,
};

const HOOK: &str = "hook-0123-4567-89ab";
const SECRET: &str = "feishu-secret-of-tests";
const APP_SECRET: &str = "application-secret-of-tests";
const SECRETS: &[&str] = &[HOOK, SECRET, APP_SECRET, "t-tenant-number"];

struct Scene {
    server: MockServer,
    clock: ManualClock,
    robot: Feishu,
}

fn scene_with(change: impl FnOnce(&mut FeishuSettings)) -> Scene {
    let clock = clock();
    let server = MockServer::feishu(HOOK, SECRET, "cli_a", APP_SECRET, Arc::new(clock.clone())).unwrap();
    let endpoint = SecretUrl::parse(&format!("{}/open-apis/bot/v2/hook/{HOOK}", server.base())).unwrap();
    let mut settings = FeishuSettings::new("fly", endpoint, Some(Secret::new(SECRET)));
    change(&mut settings);
    let robot = Feishu::new(settings, client(), Arc::new(clock.clone()), &RateBook::default());
    Scene { server, clock, robot }
}

fn with_application() -> Scene {
    scene_with(|settings| {
        let application = FeishuApplication { id: "cli_a".into(), secret: Secret::new(APP_SECRET) };
        settings.application = Some(application);
    })
}

fn count(s: &Scene, end: &str) -> usize {
    s.server.paths().iter().filter(|path| path.ends_with(end)).count()
}

#[tokio::test]
async fn without_an_application_alerts_are_words() {
    let s = scene_with(|_| ());
    assert_eq!(s.robot.deliver(&person(Some(JPEG))).await, Outcome::Delivered);
    assert_eq!(s.robot.deliver_digest(&digest()).await, Outcome::Delivered);
    assert_eq!(
        s.robot.deliver_clip(&person(None), &clip(Some(b"an mp4"), Some(LINK))).await,
        Outcome::Delivered
    );
    assert_eq!(s.robot.deliver(&hostile()).await, Outcome::Delivered);
    assert_eq!(s.server.refused(), Vec::<String>::new());
    let received = s.server.received();
    assert_eq!(received.len(), 4);
    assert!(matches!(&received[2], Received::Text(text) if text.ends_with(LINK)), "{received:?}");
    assert!(matches!(&received[3], Received::Text(text) if !text.contains(['<', '@'])), "{received:?}");
    s.clock.advance(Duration::from_secs(2 * 60 * 60));
    assert_eq!(s.robot.deliver(&person(None)).await, Outcome::Delivered, "the signature is made anew");
    assert_silent(&s.robot, SECRETS);
}

#[test]
fn the_signature_is_the_one_of_the_documentation() {
    // printf '' | openssl dgst -sha256 -hmac $'1599360473\nthis is secret' -binary | base64
    let (timestamp, sign) = signature(&Secret::new("this is secret"), 1_599_360_473);
    assert_eq!((timestamp.as_str(), sign.as_str()), ("1599360473", FEISHU_SIGN));
}

const FEISHU_SIGN: &str = "/eYKrXQBzTjUZJ3s6NX16VxGbTwmK7AEs8/FnvC1CSw=";

#[tokio::test]
async fn with_an_application_the_picture_follows_and_the_token_is_kept() {
    let s = with_application();
    for _ in 0..2 {
        assert_eq!(s.robot.deliver(&person(Some(JPEG))).await, Outcome::Delivered);
        s.clock.advance(Duration::from_secs(2));
    }
    assert_eq!(s.server.received()[1], Received::Picture(JPEG.to_vec()));
    assert_eq!((count(&s, "internal"), count(&s, "images")), (1, 1), "the same alert's picture is known");
    assert_eq!(s.robot.deliver(&alert(EventKind::Face, Some(JPEG))).await, Outcome::Delivered);
    assert_eq!(s.server.received().len(), 5, "faces stay at home");
    // A test tries the application out too.
    assert_eq!(s.robot.deliver_test(&test_message()).await, Outcome::Delivered);
    assert!(matches!(s.server.received().last(), Some(Received::Picture(_))));
    assert_eq!(s.server.refused(), Vec::<String>::new());
}

#[tokio::test]
async fn a_token_is_renewed_before_its_end_and_when_the_service_does_not_take_it() {
    let s = with_application();
    let another = |n: u128| crate::Alert { id: uuid::Uuid::from_u128(n), ..person(Some(JPEG)) };
    assert_eq!(s.robot.deliver(&another(1)).await, Outcome::Delivered);
    s.clock.advance(Duration::from_secs(7_000));
    assert_eq!(s.robot.deliver(&another(2)).await, Outcome::Delivered);
    assert_eq!((count(&s, "internal"), s.server.refused().len()), (2, 0));
    s.clock.advance(Duration::from_secs(60));
    let invalid = r#"{"code":99991663,"msg":"Invalid access token t-tenant-number-1"}"#;
    s.server.script([Fault::None, Fault::Status(400, "", invalid)]);
    assert_eq!(s.robot.deliver(&another(3)).await, Outcome::Delivered);
    assert_eq!(count(&s, "internal"), 3);
    s.clock.advance(Duration::from_secs(60));
    s.server.script([
        Fault::None,
        Fault::Status(400, "", invalid),
        Fault::None,
        Fault::Status(400, "", r#"{"code":99991663,"msg":"Invalid access token t-tenant-number-3"}"#),
    ]);
    assert_eq!(retry(s.robot.deliver(&another(4)).await, SECRETS).2, 1, "no more than twice");
}

#[tokio::test]
async fn the_service_never_sees_the_one_that_is_too_many() {
    let s = scene_with(|_| ());
    let mut waited = 0;
    for _ in 0..400 {
        if !s.robot.ready_in().is_zero() {
            waited += 1;
        }
        let _ = s.robot.deliver(&person(None)).await;
        s.clock.advance(Duration::from_millis(150));
    }
    assert_eq!(s.server.refused(), Vec::<String>::new());
    assert!(waited > 100 && s.server.received().len() >= 100, "{waited} {}", s.server.received().len());
}

#[tokio::test]
async fn too_fast_waits_and_refusals_are_explained() {
    let s = scene_with(|_| ());
    for said in [
        r#"{"code":11232,"data":{},"msg":"frequency limited psm[lark.oapi.app_platform_runtime]appID[1500]"}"#,
        r#"{"code":9499,"msg":"too many request"}"#,
    ] {
        s.server.script([Fault::Status(200, "", said)]);
        assert_eq!(retry(s.robot.deliver(&person(None)).await, SECRETS).0, Some(Duration::from_secs(60)));
        s.clock.advance(Duration::from_secs(60));
    }
    for (said, advice) in [
        (r#"{"code":19024,"msg":"Key Words Not Found"}"#, "keyword Meerkat"),
        (r#"{"code":19022,"msg":"Ip Not Allowed"}"#, "allowed ones"),
        (r#"{"code":19001,"msg":"param invalid: hook-0123-4567-89ab"}"#, "whole address"),
    ] {
        s.server.script([Fault::Status(200, "", said)]);
        let (reason, _) = refusal(&s.robot, s.robot.deliver(&person(None)).await, SECRETS);
        assert!(s.robot.explain(&reason).unwrap().contains(advice), "{reason}");
    }
    let wrong = scene_with(|settings| settings.secret = Some(Secret::new("another")));
    let (reason, _) = refusal(&wrong.robot, wrong.robot.deliver(&person(None)).await, SECRETS);
    assert!(
        reason.starts_with("code 19021") && wrong.robot.explain(&reason).unwrap().contains("clock"),
        "{reason}"
    );
    let wrong = scene_with(|settings| {
        settings.application =
            Some(FeishuApplication { id: "cli_a".into(), secret: Secret::new("wrong-app-secret") });
    });
    let outcome = wrong.robot.deliver(&person(Some(JPEG))).await;
    let (reason, sent) = refusal(&wrong.robot, outcome, &["wrong-app-secret"]);
    assert!(reason.starts_with("code 10014") && sent == 1, "the words went before: {reason}");
    for fault in [Fault::Status(502, "", ""), Fault::Status(200, "", "{}"), Fault::Status(200, "", "[0]")] {
        s.server.script([fault]);
        retry(s.robot.deliver(&person(None)).await, SECRETS);
    }
}

#[tokio::test]
async fn what_is_explained_as_somebodys_mistake_is_given_up_at_once() {
    let s = with_application();
    crate::testkit::what_is_explained_is_permanent(
        &s.robot,
        "code",
        PERMANENT,
        &[11_232, 11_233, 99_991_400],
    );
}
