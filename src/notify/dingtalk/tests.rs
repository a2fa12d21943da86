//! The robot against a server that enforces its rules.

use meerkat_base::{EventKind, ManualClock};

use super::*;
use crate::alert::tests::alert;
use crate::channel::Channel;
use crate::testing::{Fault, MockServer, Received};
use crate::testkit::{
    JPEG, LINK, assert_silent, client, clip, clock, digest, hostile, person, refusal, retry, test_message,
};

const TOKEN: &str = "ding-token-of-the-robot";
const SECRET: &str = "SEC0123456789abcdef";
const SECRETS: &[&str] = &[TOKEN, SECRET];

struct Scene {
    server: MockServer,
    clock: ManualClock,
    robot: DingTalk,
}

fn scene_with(change: impl FnOnce(&mut DingTalkSettings)) -> Scene {
    let clock = clock();
    let server = MockServer::dingtalk(TOKEN, SECRET, Arc::new(clock.clone())).unwrap();
    let endpoint = SecretUrl::parse(&format!("{}/robot/send?access_token={TOKEN}", server.base())).unwrap();
    let mut settings = DingTalkSettings::new("ding", endpoint, Some(Secret::new(SECRET)));
    change(&mut settings);
    let robot = DingTalk::new(settings, client(), Arc::new(clock.clone()), &RateBook::default());
    clock.advance(Duration::from_secs(61));
    Scene { server, clock, robot }
}

fn scene() -> Scene {
    scene_with(|_| ())
}

#[tokio::test]
async fn texts_are_signed_and_arrive() {
    let s = scene();
    assert_eq!(s.robot.deliver(&person(Some(JPEG))).await, Outcome::Delivered);
    assert_eq!(s.robot.deliver_test(&test_message()).await, Outcome::Delivered);
    assert_eq!(s.robot.deliver_digest(&digest()).await, Outcome::Delivered);
    assert_eq!(
        s.robot.deliver_clip(&person(None), &clip(Some(b"an mp4"), Some(LINK))).await,
        Outcome::Delivered
    );
    assert_eq!(s.server.refused(), Vec::<String>::new());
    let received = s.server.received();
    assert!(
        matches!(&received[0], Received::Text(text) if text.starts_with("【Meerkat】前门")),
        "{received:?}"
    );
    assert!(matches!(&received[3], Received::Text(text) if text.ends_with(LINK)), "{received:?}");
    assert_eq!((s.robot.clip_limit(), s.robot.takes_clips()), (None, true));
    // The signature is made anew: one of an hour ago would be refused.
    s.clock.advance(Duration::from_secs(2 * 60 * 60));
    assert_eq!(s.robot.deliver(&person(None)).await, Outcome::Delivered);
    assert_silent(&s.robot, SECRETS);
}

#[test]
fn the_signature_is_the_one_of_the_documentation() {
    // printf '1577808000000\nthis is secret' | openssl dgst -sha256 -hmac 'this is secret' -binary | base64
    let (timestamp, sign) = signature(&Secret::new("this is secret"), 1_577_808_000_000);
    assert_eq!((timestamp.as_str(), sign.as_str()), ("1577808000000", DING_SIGN));
}

const DING_SIGN: &str = "ijHEivi6YiCNPZOq4hZstmvZ3sPfbioAiMhP30ae7W0=";

#[tokio::test]
async fn a_picture_with_an_address_goes_as_markdown_and_faces_stay_at_home() {
    let s = scene();
    let mut a = hostile();
    a.snapshot_link = Some(LINK.into());
    assert_eq!(s.robot.deliver(&a).await, Outcome::Delivered);
    a.kind = EventKind::Face;
    assert_eq!(s.robot.deliver(&a).await, Outcome::Delivered);
    let received = s.server.received();
    let Received::Markdown(text) = &received[0] else { panic!("{received:?}") };
    assert!(text.ends_with(&format!("\n\n![]({LINK})")), "{text}");
    let words = text.replace(&format!("![]({LINK})"), "");
    assert!(!words.contains(['<', '@', '[', '(', '*', '#', '!']), "{words}");
    assert!(matches!(&received[1], Received::Text(text) if !text.contains(LINK)), "{received:?}");
    let s = scene_with(|settings| settings.words = WordStyle::Markdown);
    assert_eq!(s.robot.deliver(&alert(EventKind::Person, None)).await, Outcome::Delivered);
    assert!(matches!(&s.server.received()[0], Received::Markdown(_)));
}

#[tokio::test]
async fn the_service_never_sees_the_one_that_is_too_many() {
    let s = scene();
    for _ in 0..200 {
        for _ in 0..3 {
            let _ = s.robot.deliver(&person(None)).await;
        }
        s.clock.advance(Duration::from_millis(1_700));
    }
    assert_eq!(s.server.refused(), Vec::<String>::new());
    assert!(s.server.received().len() > 100, "{}", s.server.received().len());
}

#[tokio::test]
async fn a_node_that_just_started_has_half_a_minute() {
    let s = scene();
    let endpoint = SecretUrl::parse(&format!("{}/robot/send?access_token={TOKEN}", s.server.base())).unwrap();
    let settings = DingTalkSettings::new("ding", endpoint, Some(Secret::new(SECRET)));
    let robot = DingTalk::new(settings, client(), Arc::new(s.clock.clone()), &RateBook::default());
    for _ in 0..10 {
        assert_eq!(robot.deliver(&person(None)).await, Outcome::Delivered);
    }
    retry(robot.deliver(&person(None)).await, SECRETS);
}

#[tokio::test]
async fn too_fast_shuts_it_for_ten_minutes() {
    for code in [130_101, 410_100] {
        let s = scene();
        s.server.script([Fault::Errcode(code, "send too fast")]);
        let (after, reason, _) = retry(s.robot.deliver(&person(None)).await, SECRETS);
        assert_eq!(after, Some(Duration::from_secs(600)));
        assert!(s.robot.explain(&reason).unwrap().contains("ten minutes"));
        assert_eq!(s.robot.ready_in(), Duration::from_secs(600));
        s.clock.advance(Duration::from_secs(600));
        assert_eq!(s.robot.deliver(&person(None)).await, Outcome::Delivered);
    }
}

#[tokio::test]
async fn refusals_are_for_ever_and_explained() {
    let s = scene_with(|settings| settings.secret = Some(Secret::new("SECwrong")));
    let (reason, sent) = refusal(&s.robot, s.robot.deliver(&person(None)).await, SECRETS);
    assert_eq!((reason.as_str(), sent), ("errcode 310000: the signature is not accepted", 0));
    assert!(s.robot.explain(&reason).unwrap().contains("SEC"));
    let s = scene();
    for (fault, advice) in [
        (Fault::Errcode(310_000, "keywords not in content"), "Set the keyword Meerkat"),
        (Fault::Errcode(310_000, "ip 203.0.113.7 not in whitelist"), "allowed addresses"),
        (Fault::Errcode(300_001, "token is not exist"), "Copy the robot's whole address"),
        (Fault::Errcode(400_102, "机器人已停用"), "switched off"),
    ] {
        s.server.script([fault.clone()]);
        let (reason, _) = refusal(&s.robot, s.robot.deliver(&person(None)).await, SECRETS);
        assert!(s.robot.explain(&reason).unwrap().contains(advice), "{fault:?}: {reason}");
    }
    let wrong = scene_with(|settings| {
        let base = settings.endpoint.origin().child("robot/send");
        settings.endpoint = base.and("access_token", "another-token");
    });
    let (reason, _) =
        refusal(&wrong.robot, wrong.robot.deliver(&person(None)).await, &["another-token", SECRET]);
    assert!(reason.starts_with("errcode 300001"), "{reason}");
    for fault in [Fault::Errcode(-1, "系统繁忙"), Fault::Status(502, "", ""), Fault::Status(200, "", "{}")]
    {
        s.server.script([fault]);
        retry(s.robot.deliver(&person(None)).await, SECRETS);
    }
}

#[tokio::test]
async fn what_is_explained_as_somebodys_mistake_is_given_up_at_once() {
    let s = scene();
    crate::testkit::what_is_explained_is_permanent(&s.robot, "errcode", PERMANENT, &[130_101, 410_100]);
    assert!(is_permanent(PERMANENT, 43_004));
}
