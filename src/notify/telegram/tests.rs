//! The bot against a server that enforces its rules.

use meerkat_base::ManualClock;

use super::*;
use crate::channel::Channel;
use crate::testing::{Fault, MockServer, Received};
use crate::testkit::{
    JPEG, LINK, assert_silent, client, clip, clock, digest, hostile, person, refusal, retry, test_message,
};

const TOKEN: &str = "123456:AAH-token-of-the-tests";
const GROUP: &str = "-1001234567890";

struct Scene {
    server: MockServer,
    clock: ManualClock,
    bot: Telegram,
}

fn scene_with(chat: &str, change: impl FnOnce(&mut TelegramSettings)) -> Scene {
    let clock = clock();
    let server = MockServer::telegram(TOKEN, chat, Arc::new(clock.clone())).unwrap();
    let mut settings = TelegramSettings::new("bot", Secret::new(TOKEN), chat).unwrap();
    settings.base = SecretUrl::parse(&server.base()).unwrap();
    change(&mut settings);
    let bot = Telegram::new(settings, client(), Arc::new(clock.clone()), &RateBook::default());
    Scene { server, clock, bot }
}

fn scene() -> Scene {
    scene_with(GROUP, |_| ())
}

fn long() -> crate::Alert {
    let mut a = person(Some(JPEG));
    a.identities = vec!["😀".repeat(60); 12];
    for n in 0..8 {
        a.identities[n] = format!("{n}{}", "门".repeat(60));
    }
    a.camera_name = Some("@everybody".into());
    a.detail = "d".repeat(600);
    a
}

#[tokio::test]
async fn a_photo_carries_the_text_as_its_caption() {
    let s = scene();
    assert_eq!(s.bot.deliver(&person(Some(JPEG))).await, Outcome::Delivered);
    let received = s.server.received();
    let Received::File { name, bytes, caption } = &received[0] else { panic!("{received:?}") };
    assert_eq!((name.as_str(), bytes.as_slice()), ("snapshot.jpg", JPEG));
    assert!(caption.starts_with("【Meerkat】前门：发现人员"), "{caption}");
    s.clock.advance(Duration::from_secs(2));
    assert_eq!(s.bot.deliver(&hostile()).await, Outcome::Delivered);
    s.clock.advance(Duration::from_secs(2));
    assert_eq!(s.bot.deliver_test(&test_message()).await, Outcome::Delivered);
    s.clock.advance(Duration::from_secs(2));
    assert_eq!(s.bot.deliver_digest(&digest()).await, Outcome::Delivered);
    assert_eq!(s.server.refused(), Vec::<String>::new());
    assert_silent(&s.bot, &[TOKEN]);
}

#[tokio::test]
async fn what_does_not_fit_the_caption_follows_as_a_text_and_only_once() {
    let s = scene();
    let mut a = long();
    // The texts of one alert are short; a template may make longer ones.
    a.identities.truncate(10);
    let text = crate::render::alert_text(&a, &s.bot.outlet.common.style);
    let message = |text: String, sent| Message { text, sent, ..test_like(&a) };
    let words = format!("{text}\n{}", "x".repeat(2_000));
    let (_, _, sent) = retry(s.bot.send(message(words.clone(), 0)).await, &[TOKEN]);
    assert_eq!(sent, 1, "the rest waits for the next second");
    s.clock.advance(Duration::from_secs(2));
    assert_eq!(s.bot.send(message(words.clone(), sent)).await, Outcome::Delivered);
    let received = s.server.received();
    let (Received::File { caption, .. }, Received::Text(rest)) = (&received[0], &received[1]) else {
        panic!("{received:?}")
    };
    assert_eq!(format!("{caption}\n{rest}"), disarm(&words, MARKS));
    assert_eq!(s.server.refused(), Vec::<String>::new());
    let endless = message("😀".repeat(10_000), 0);
    s.clock.advance(Duration::from_secs(2));
    let endless = Message { picture: None, ..endless };
    assert_eq!(s.bot.send(endless).await, Outcome::Delivered);
    assert_eq!(s.server.refused(), Vec::<String>::new());
}

fn test_like(alert: &crate::Alert) -> Message<'_> {
    Message::for_tests(alert)
}

#[tokio::test]
async fn clips_go_as_videos_or_links() {
    let s = scene();
    let part = clip(Some(b"an mp4"), Some(LINK));
    assert_eq!(s.bot.deliver_clip(&person(None), &part).await, Outcome::Delivered);
    let received = s.server.received();
    assert!(
        matches!(&received[0], Received::File { name, caption, .. } if *name == part.name && caption.contains("12 秒")),
        "{received:?}"
    );
    assert!(s.server.paths()[0].ends_with("/sendVideo"));
    s.clock.advance(Duration::from_secs(2));
    assert_eq!(s.bot.deliver_clip(&person(None), &clip(None, Some(LINK))).await, Outcome::Delivered);
    assert!(matches!(&s.server.received()[1], Received::Text(text) if text.ends_with(LINK)));
    let mut other = clip(Some(b"a mkv"), None);
    other.name = "front.mkv".into();
    s.clock.advance(Duration::from_secs(2));
    assert_eq!(s.bot.deliver_clip(&person(None), &other).await, Outcome::Delivered);
    assert!(s.server.paths()[2].ends_with("/sendDocument"));
    assert_eq!(s.bot.clip_limit(), Some(MAX_FILE_BYTES));
}

#[tokio::test]
async fn a_photo_that_is_refused_never_holds_the_words_back() {
    for (fault, picture) in [
        // A JPEG that ends too early.
        (Fault::None, &b"\xff\xd8\xff broken"[..]),
        (
            Fault::Status(
                400,
                "",
                r#"{"ok":false,"error_code":400,"description":"Bad Request: PHOTO_INVALID_DIMENSIONS"}"#,
            ),
            JPEG,
        ),
        (Fault::Status(413, "", "<html>too large</html>"), JPEG),
    ] {
        let s = scene();
        s.server.script([fault]);
        // The words need a place of their own in the rate limit, and do not wait behind the photo again.
        assert_eq!(retry(s.bot.deliver(&person(Some(picture))).await, &[TOKEN]).2, 0);
        s.clock.advance(Duration::from_secs(2));
        assert_eq!(s.bot.deliver(&person(Some(picture))).await, Outcome::Delivered);
        let received = s.server.received();
        assert!(matches!(&received[0], Received::Text(text) if text.ends_with("未发送）")), "{received:?}");
        assert_eq!((received.len(), s.server.requests()), (1, 2));
    }
    let mut large = JPEG.to_vec();
    large.resize(MAX_PHOTO_BYTES, 0);
    large.extend_from_slice(b"\xff\xd9");
    let s = scene();
    assert_eq!(s.bot.deliver(&person(Some(&large))).await, Outcome::Delivered);
    assert!(matches!(&s.server.received()[0], Received::Text(text) if text.ends_with("未发送）")));
}

#[tokio::test]
async fn the_service_never_sees_the_one_that_is_too_many() {
    for (chat, at_least, at_most) in [(GROUP, 38, 44), ("@channel", 38, 44), ("42", 100, 130)] {
        let s = scene_with(chat, |_| ());
        for _ in 0..400 {
            let _ = s.bot.deliver(&person(None)).await;
            s.clock.advance(Duration::from_millis(300));
        }
        assert_eq!(s.server.refused(), Vec::<String>::new(), "{chat}");
        let got = s.server.received().len();
        assert!((at_least..=at_most).contains(&got), "{chat}: {got}");
    }
}

#[tokio::test]
async fn it_waits_as_long_as_the_service_asks() {
    let s = scene();
    let said = r#"{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 17","parameters":{"retry_after":17}}"#;
    s.server.script([Fault::Status(429, "", said)]);
    assert_eq!(retry(s.bot.deliver(&person(None)).await, &[TOKEN]).0, Some(Duration::from_secs(17)));
    assert_eq!(s.bot.ready_in(), Duration::from_secs(17));
    s.server.script([Fault::Status(502, "", "<html>"), Fault::CutBeforeAnswer]);
    for _ in 0..2 {
        s.clock.advance(Duration::from_secs(17));
        retry(s.bot.deliver(&person(None)).await, &[TOKEN]);
    }
}

#[tokio::test]
async fn refusals_are_for_ever_and_explained() {
    let wrong = scene_with(GROUP, |settings| settings.token = Secret::new("99:another-token"));
    let (reason, _) = refusal(&wrong.bot, wrong.bot.deliver(&person(None)).await, &["another-token"]);
    assert!(reason.starts_with("error 401"), "{reason}");
    let wrong = scene_with(GROUP, |settings| settings.chat_id = "-5".into());
    let (reason, _) = refusal(&wrong.bot, wrong.bot.deliver(&person(Some(JPEG))).await, &[TOKEN]);
    assert!(wrong.bot.explain(&reason).unwrap().contains("keep the sign"), "{reason}");
    let s = scene();
    for (said, advice) in [
        (r#"{"ok":false,"error_code":403,"description":"Forbidden: bot was kicked"}"#, "Add it again"),
        (
            r#"{"ok":false,"error_code":400,"description":"group upgraded","parameters":{"migrate_to_chat_id":-1009}}"#,
            "another number",
        ),
    ] {
        s.server.script([Fault::Status(400, "", said)]);
        let (reason, _) = refusal(&s.bot, s.bot.deliver(&person(None)).await, &[TOKEN]);
        assert!(s.bot.explain(&reason).unwrap().contains(advice), "{reason}");
        s.clock.advance(Duration::from_secs(2));
    }
}
