//! The topic against a server that enforces its rules.

use meerkat_base::ManualClock;

use super::*;
use crate::channel::Channel;
use crate::testing::{Fault, MockServer, Received};
use crate::testkit::{
    JPEG, LINK, assert_silent, client, clip, clock, digest, hostile, person, refusal, retry, test_message,
};

const TOPIC: &str = "yard-7f3a9c1e";
const TOKEN: &str = "tk_0123456789abcdef";
const SECRETS: &[&str] = &[TOPIC, TOKEN, "hunter2"];

struct Scene {
    server: MockServer,
    clock: ManualClock,
    topic: Ntfy,
}

fn scene_with(authorization: &str, limit: usize, change: impl FnOnce(&mut NtfySettings)) -> Scene {
    let clock = clock();
    let server = MockServer::ntfy(TOPIC, authorization, limit, Arc::new(clock.clone())).unwrap();
    let base = SecretUrl::parse(&server.base()).unwrap();
    let mut settings = NtfySettings::new("phone", base, Secret::new(TOPIC), NtfyLogin::Anonymous);
    change(&mut settings);
    let topic = Ntfy::new(settings, client(), Arc::new(clock.clone()), &RateBook::default());
    Scene { server, clock, topic }
}

fn scene() -> Scene {
    scene_with("", 1_000_000, |_| ())
}

#[tokio::test]
async fn the_picture_carries_title_and_words() {
    let s = scene();
    assert_eq!(s.topic.deliver(&person(Some(JPEG))).await, Outcome::Delivered);
    let received = s.server.received();
    let Received::File { name, bytes, caption } = &received[0] else { panic!("{received:?}") };
    assert_eq!((name.as_str(), bytes.as_slice()), ("snapshot.jpg", JPEG));
    let expected = crate::render::alert_text(&person(None), &s.topic.outlet.common.style);
    assert_eq!(*caption, expected, "the first line is the title, line feeds survive");
    for outcome in [
        s.topic.deliver(&person(None)).await,
        s.topic.deliver(&hostile()).await,
        s.topic.deliver_digest(&digest()).await,
        s.topic.deliver_test(&test_message()).await,
        s.topic.deliver_clip(&person(None), &clip(Some(b"an mp4"), Some(LINK))).await,
        s.topic.deliver_clip(&person(None), &clip(None, Some(LINK))).await,
    ] {
        assert_eq!(outcome, Outcome::Delivered);
    }
    let received = s.server.received();
    assert!(matches!(&received[1], Received::Text(text) if *text == expected), "{received:?}");
    assert!(matches!(&received[5], Received::File { name, .. } if name.ends_with(".mp4")), "{received:?}");
    assert!(matches!(&received[6], Received::Text(text) if text.ends_with(LINK)), "{received:?}");
    assert_eq!(s.server.refused(), Vec::<String>::new());
    assert_silent(&s.topic, SECRETS);
}

#[tokio::test]
async fn logins_are_sent_and_wrong_ones_explained() {
    let token = || NtfyLogin::Token(Secret::new(TOKEN));
    let user = || NtfyLogin::User { user: "node".into(), password: Secret::new("hunter2") };
    // printf 'node:hunter2' | base64
    for (authorization, login) in
        [("Bearer tk_0123456789abcdef", token()), ("Basic bm9kZTpodW50ZXIy", user())]
    {
        let s = scene_with(authorization, 1_000, |settings| settings.login = login);
        assert_eq!(s.topic.deliver(&person(Some(JPEG))).await, Outcome::Delivered);
        assert_silent(&s.topic, SECRETS);
    }
    let s = scene_with("Bearer tk_other", 1_000, |settings| settings.login = token());
    let (reason, _) = refusal(&s.topic, s.topic.deliver(&person(Some(JPEG))).await, SECRETS);
    assert!(reason.starts_with("status 401"), "{reason}");
    let s = scene_with("Bearer tk_other", 1_000, |_| ());
    let (reason, _) = refusal(&s.topic, s.topic.deliver(&person(None)).await, SECRETS);
    assert!(reason.starts_with("status 403") && s.topic.explain(&reason).unwrap().contains("write access"));
}

#[tokio::test]
async fn a_server_that_takes_no_attachment_gets_the_words() {
    for limit in [0, 10] {
        let s = scene_with("", limit, |_| ());
        assert_eq!(s.topic.deliver(&person(Some(JPEG))).await, Outcome::Delivered);
        let received = s.server.received();
        assert!(matches!(&received[0], Received::Text(text) if text.ends_with("未发送）")), "{received:?}");
    }
    let s = scene_with("", 1_000_000, |settings| settings.max_snapshot_bytes = 10);
    assert_eq!(s.topic.deliver(&person(Some(JPEG))).await, Outcome::Delivered);
    assert!(matches!(&s.server.received()[0], Received::Text(text) if text.ends_with("未发送）")));
    assert_eq!(s.server.refused(), Vec::<String>::new(), "not even tried");
    let s = scene_with("", 1_000_000, |settings| settings.max_clip_bytes = 5);
    assert_eq!(
        s.topic.deliver_clip(&person(None), &clip(Some(b"an mp4"), Some(LINK))).await,
        Outcome::Delivered
    );
    assert!(matches!(&s.server.received()[0], Received::Text(_)));
}

#[tokio::test]
async fn long_words_go_before_the_picture_and_are_cut_where_the_server_would_make_them_a_file() {
    let s = scene();
    let a = person(Some(JPEG));
    let message = Message { text: format!("title\n{}", "门".repeat(2_000)), ..Message::for_tests(&a) };
    assert_eq!(s.topic.send(message).await, Outcome::Delivered);
    let received = s.server.received();
    assert!(
        matches!(&received[0], Received::Text(text) if text.ends_with('…') && text.len() > 4_000),
        "{received:?}"
    );
    assert!(matches!(&received[1], Received::File { caption, .. } if caption == "title\n"), "{received:?}");
    assert_eq!(s.server.refused(), Vec::<String>::new());
}

#[tokio::test]
async fn the_service_never_sees_the_one_that_is_too_many() {
    let s = scene();
    for _ in 0..1_200 {
        let _ = s.topic.deliver(&person(None)).await;
        s.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(s.server.refused(), Vec::<String>::new());
    assert!(s.server.received().len() >= 180, "{}", s.server.received().len());
}

#[tokio::test]
async fn too_fast_is_waited_for_and_other_refusals_are_for_ever() {
    for (said, wait) in [
        (r#"{"code":42901,"http":429,"error":"limit reached: too many requests"}"#, 60),
        (r#"{"code":42908,"http":429,"error":"limit reached: daily message quota reached"}"#, 3_600),
    ] {
        let s = scene();
        s.server.script([Fault::Status(429, "", said)]);
        let (after, reason, _) = retry(s.topic.deliver(&person(None)).await, SECRETS);
        assert_eq!(after, Some(Duration::from_secs(wait)));
        assert!(s.topic.explain(&reason).is_some(), "{reason}");
    }
    let s = scene();
    s.server.script([Fault::Status(500, "retry-after: 7\r\n", "oops"), Fault::Status(502, "", "")]);
    assert_eq!(retry(s.topic.deliver(&person(None)).await, SECRETS).0, Some(Duration::from_secs(7)));
    retry(s.topic.deliver(&person(None)).await, SECRETS);
    let wrong = scene_with("", 1, |settings| settings.topic = Secret::new("another-topic"));
    let (reason, _) = refusal(&wrong.topic, wrong.topic.deliver(&person(None)).await, &["another-topic"]);
    assert!(reason.starts_with("status 404"), "{reason}");
}

#[test]
fn any_text_fits_a_header() {
    assert_eq!(encoded_word("plain text"), "plain text");
    assert_eq!(encoded_word("门"), "=?utf-8?b?6Zeo?=");
    for text in ["a".repeat(300) + "门", "😀门é".repeat(100), "=?utf-8?b?6Zeo?=".into()] {
        let header = encoded_word(&text);
        let words: Vec<&str> = header.split(' ').collect();
        assert!(words.iter().all(|word| word.len() <= 75), "{header}");
        let decoded: String = words
            .iter()
            .map(|word| {
                let inner = word.strip_prefix("=?utf-8?b?").unwrap().strip_suffix("?=").unwrap();
                String::from_utf8(STANDARD.decode(inner).unwrap()).unwrap()
            })
            .collect();
        assert_eq!(decoded, text);
    }
}

#[tokio::test]
async fn each_topic_has_the_limit_that_its_settings_say_now() {
    let clock = clock();
    let server = MockServer::ntfy(TOPIC, "", 1_000_000, Arc::new(clock.clone())).unwrap();
    let book = RateBook::default();
    let topic = |name: &str, base: &str, per_minute| {
        let base = SecretUrl::parse(base).unwrap();
        let mut settings = NtfySettings::new(name, base, Secret::new(TOPIC), NtfyLogin::Anonymous);
        settings.per_minute = per_minute;
        Ntfy::new(settings, client(), Arc::new(clock.clone()), &book)
    };
    let own = |name: &str, per_minute| topic(name, &server.base(), per_minute);
    for _ in 0..5 {
        assert_eq!(own("phone", 1).deliver(&person(None)).await, Outcome::Delivered);
    }
    assert!(matches!(own("phone", 1).deliver(&person(None)).await, Outcome::Held { sent: 0, .. }));
    assert_eq!(own("desk", 1).ready_in(), Duration::ZERO, "another topic of the same server and login");
    assert_eq!(own("phone", 2).deliver(&person(None)).await, Outcome::Delivered, "a reload takes it over");

    // Without an account the public server counts both together.
    let (first, second) = (topic("a", PUBLIC_SERVER, 600), topic("b", PUBLIC_SERVER, 600));
    for _ in 0..MESSAGES_PER_MINUTE * 5 {
        first.outlet.take_place().unwrap();
    }
    assert!(second.ready_in() > Duration::ZERO);
}
