//! The robot against a server that enforces its rules.

use meerkat_base::{EventKind, ManualClock};
use meerkat_outbound::OutboundSettings;

use super::*;
use crate::alert::Alert;
use crate::alert::tests::alert;
use crate::channel::Channel;
use crate::render::Language;
use crate::testing::{Fault, MockServer, Received};
use crate::testkit::{JPEG, LINK, client, clip, clock, digest, hostile, later_clip, person, test_message};

const KEY: &str = "693a1e36-7a0c-4bc4-97a0-0ec2f1fa5aaa";

struct Scene {
    server: MockServer,
    clock: ManualClock,
    book: RateBook,
    robot: Wecom,
}

impl Scene {
    fn another(&self, key: &str, book: &RateBook) -> Wecom {
        let base = SecretUrl::parse(&self.server.base()).unwrap();
        let settings = WecomSettings::new("other", Some(&base), &Secret::new(key)).unwrap();
        Wecom::new(settings, client(), Arc::new(self.clock.clone()), book)
    }
}

fn scene_with(change: impl FnOnce(&mut WecomSettings)) -> Scene {
    let clock = clock();
    let server = MockServer::wecom_with_clock(KEY, Arc::new(clock.clone())).unwrap();
    let base = SecretUrl::parse(&server.base()).unwrap();
    let mut settings = WecomSettings::new("group", Some(&base), &Secret::new(KEY)).unwrap();
    change(&mut settings);
    let book = RateBook::default();
    let robot = Wecom::new(settings, client(), Arc::new(clock.clone()), &book);
    Scene { server, clock, book, robot }
}

fn scene() -> Scene {
    scene_with(|_| ())
}

fn texts(server: &MockServer) -> Vec<String> {
    let texts = server.received().into_iter().filter_map(|r| match r {
        Received::Text(text) | Received::Markdown(text) => Some(text),
        _ => None,
    });
    texts.collect()
}

/// No secret may be in it.
fn retry(outcome: Outcome) -> (Option<Duration>, String, u8) {
    crate::testkit::retry(outcome, &[KEY])
}

fn refusal(outcome: Outcome) -> (String, u8) {
    assert!(!format!("{outcome:?}").contains(KEY), "{outcome:?}");
    match outcome {
        Outcome::Refused { reason, sent } => (reason, sent),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_text_goes_first_and_then_the_picture() {
    let s = scene();
    assert_eq!(s.robot.deliver(&person(Some(JPEG))).await, Outcome::Delivered);
    let received = s.server.received();
    assert_eq!(received.len(), 2);
    assert!(
        matches!(&received[0], Received::Text(t) if t.starts_with("【Meerkat】前门：发现人员")),
        "{received:?}"
    );
    assert_eq!(received[1], Received::Picture(JPEG.to_vec()));
    assert_eq!(s.server.refused(), Vec::<String>::new());
    assert_eq!((s.robot.name(), s.robot.kind()), ("group", "wecom"));
}

#[tokio::test]
async fn faces_go_out_as_words_only_by_default() {
    let s = scene();
    assert_eq!(s.robot.deliver(&alert(EventKind::Face, Some(JPEG))).await, Outcome::Delivered);
    assert_eq!(s.server.received().len(), 1);
    let s = scene_with(|settings| settings.common.pictures.include_faces = true);
    assert_eq!(s.robot.deliver(&alert(EventKind::Face, Some(JPEG))).await, Outcome::Delivered);
    assert_eq!(s.server.received().len(), 2);
}

#[tokio::test]
async fn a_minute_holds_twenty_messages_and_the_limiter_says_when_it_is_over() {
    let s = scene();
    for n in 0..10 {
        assert_eq!(s.robot.deliver(&person(Some(JPEG))).await, Outcome::Delivered, "{n}");
        assert_eq!(s.robot.ready_in() > Duration::ZERO, n == 9);
        s.clock.advance(Duration::from_secs(1));
    }
    let (after, _, sent) = retry(s.robot.deliver(&person(Some(JPEG))).await);
    assert_eq!((after, sent), (Some(Duration::from_secs(51)), 0));
    assert_eq!(s.robot.ready_in(), Duration::from_secs(51));
    assert_eq!(s.server.requests(), 20, "the service never hears of the one that is too many");
    s.clock.advance(Duration::from_secs(51));
    assert_eq!(s.robot.deliver(&person(Some(JPEG))).await, Outcome::Delivered);
    assert_eq!(s.server.refused(), Vec::<String>::new());
}

#[tokio::test]
async fn a_picture_that_finds_no_place_follows_without_its_text() {
    let s = scene();
    for _ in 0..19 {
        assert_eq!(s.robot.deliver(&person(None)).await, Outcome::Delivered);
    }
    let mut a = person(Some(JPEG));
    let (after, _, sent) = retry(s.robot.deliver(&a).await);
    assert_eq!((after, sent), (Some(Duration::from_secs(61)), 1));
    s.clock.advance(Duration::from_secs(61));
    a.already_sent = sent;
    assert_eq!(s.robot.deliver(&a).await, Outcome::Delivered);
    assert_eq!(texts(&s.server).len(), 20);
    assert_eq!(s.server.received().last(), Some(&Received::Picture(JPEG.to_vec())));
}

#[tokio::test]
async fn when_the_service_says_too_fast_the_robot_is_closed_for_a_minute() {
    // Somebody else uses the same robot: their messages count there, not here.
    let s = scene();
    let other = s.another(KEY, &RateBook::default());
    for _ in 0..20 {
        assert_eq!(other.deliver(&person(None)).await, Outcome::Delivered);
    }
    let (after, reason, sent) = retry(s.robot.deliver(&person(None)).await);
    assert_eq!((after, sent), (Some(Duration::from_secs(60)), 0));
    assert_eq!(reason, "errcode 45009: api freq out of limit");
    let requests = s.server.requests();
    retry(s.robot.deliver(&person(None)).await);
    assert_eq!(s.server.requests(), requests, "closed: it does not ask again");
    s.clock.advance(Duration::from_secs(60));
    assert_eq!(s.robot.deliver(&person(None)).await, Outcome::Delivered);
}

#[tokio::test]
async fn a_failed_picture_never_repeats_the_text() {
    for fault in [Fault::Errcode(-1, "system busy"), Fault::Status(502, "", ""), Fault::CutBeforeAnswer] {
        let s = scene();
        s.server.script([Fault::None, fault.clone()]);
        let mut a = person(Some(JPEG));
        let (_, _, sent) = retry(s.robot.deliver(&a).await);
        assert_eq!(sent, 1, "{fault:?}");
        a.already_sent = sent;
        assert_eq!(s.robot.deliver(&a).await, Outcome::Delivered);
        assert_eq!(texts(&s.server).len(), 1, "{fault:?}");
        let pictures = s.server.received().len() - 1;
        assert_eq!(
            pictures,
            if fault == Fault::CutBeforeAnswer { 2 } else { 1 },
            "copies only of unknown outcomes"
        );
    }
}

#[tokio::test]
async fn a_picture_refused_for_ever_is_told_apart_from_a_text_that_was() {
    let s = scene();
    s.server.script([Fault::None, Fault::Errcode(40009, "invalid image size")]);
    assert_eq!(
        refusal(s.robot.deliver(&person(Some(JPEG))).await),
        ("errcode 40009: invalid image size".into(), 1)
    );
}

#[tokio::test]
async fn a_wrong_key_is_refused_for_ever_and_never_shown() {
    let s = scene();
    let wrong = "0badc0de-0bad-c0de-0bad-c0de0badc0de";
    let robot = s.another(wrong, &s.book);
    // The server repeats the address it was asked for; the answer must not.
    let outcome = robot.deliver(&person(Some(JPEG))).await;
    let (reason, sent) = refusal(outcome);
    assert!(robot.explain(&reason).unwrap().contains("no robot under this key"));
    assert!(reason.starts_with("errcode 93000: invalid webhook url, hint:"), "{reason}");
    assert!(reason.contains("[redacted]") && !reason.contains("0badc0de"), "{reason}");
    assert_eq!(sent, 0);
    assert!(s.server.refused()[0].contains(wrong), "the server did repeat it");
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let cases = [
        (Fault::Errcode(-1, "system busy"), "errcode -1: system busy"),
        (Fault::Errcode(45033, "concurrent"), "errcode 45033: concurrent"),
        (Fault::Errcode(123_456, "new\nand \u{1b}[31m"), r"errcode 123456: new\nand \x1b[31m"),
        (Fault::Status(503, "", "down"), "status 503"),
        (Fault::Status(404, "", "{}"), "status 404"),
        (Fault::Status(200, "", "<html>welcome</html>"), "not the service's JSON"),
        (Fault::Status(200, "", "{}"), "not the service's JSON"),
        (Fault::Status(200, "", "[0]"), "not the service's JSON"),
        (Fault::Status(200, "", ""), "not the service's JSON"),
        (Fault::Status(200, "", r#"{"errcode":"0"}"#), "not the service's JSON"),
        (Fault::CutBeforeAnswer, "broke"),
        (Fault::CutInAnswer, "broke"),
        (Fault::Endless, "longer than 65536 bytes; it may have arrived"),
    ];
    for (fault, said) in cases {
        let s = scene();
        s.server.script([fault.clone()]);
        let (after, reason, sent) = retry(s.robot.deliver(&person(Some(JPEG))).await);
        assert!(reason.contains(said), "{fault:?}: {reason}");
        assert_eq!((after, sent), (None, 0), "{fault:?}");
    }
}

#[tokio::test]
async fn silence_ends_with_the_time_limit() {
    let s = scene();
    s.server.script([Fault::Silent]);
    let settings = OutboundSettings { total_timeout: Duration::from_millis(100), ..Default::default() };
    let base = SecretUrl::parse(&s.server.base()).unwrap();
    let own = WecomSettings::new("group", Some(&base), &Secret::new(KEY)).unwrap();
    let client = HttpClient::new(settings).unwrap();
    let robot = Wecom::new(own, client, Arc::new(s.clock), &s.book);
    let (after, reason, sent) = retry(robot.deliver(&person(Some(JPEG))).await);
    assert_eq!((after, reason.as_str(), sent), (None, "127.0.0.1 took too long; it may have arrived", 0));
}

#[tokio::test]
async fn a_relay_can_ask_for_time() {
    let s = scene();
    s.server.script([
        Fault::Status(429, "retry-after: 90\r\n", ""),
        Fault::Status(503, "retry-after: 9999999\r\n", ""),
    ]);
    assert_eq!(retry(s.robot.deliver(&person(None)).await).0, Some(Duration::from_secs(90)));
    assert_eq!(retry(s.robot.deliver(&person(None)).await).0, Some(Duration::from_secs(3600)), "capped");
}

#[tokio::test]
async fn redirects_are_not_followed_and_link_local_addresses_are_refused() {
    let s = scene();
    s.server.script([Fault::Status(302, "location: http://127.0.0.1:1/\r\n", "")]);
    let (_, reason, _) = retry(s.robot.deliver(&person(None)).await);
    assert!(reason.contains("302"), "{reason}");
    assert_eq!(s.server.requests(), 1);
    let base = SecretUrl::parse("http://169.254.169.254").unwrap();
    let settings = WecomSettings::new("group", Some(&base), &Secret::new(KEY)).unwrap();
    let robot = Wecom::new(settings, client(), Arc::new(s.clock.clone()), &s.book);
    let (reason, _) = refusal(robot.deliver(&person(None)).await);
    assert!(reason.contains("link-local"), "{reason}");
}

#[tokio::test]
async fn an_outage_is_a_retry_and_ends() {
    let s = scene();
    s.server.set_outage(true);
    let (_, _, sent) = retry(s.robot.deliver(&person(Some(JPEG))).await);
    assert_eq!(sent, 0);
    s.server.set_outage(false);
    assert_eq!(s.robot.deliver(&person(Some(JPEG))).await, Outcome::Delivered);
    assert_eq!(s.server.received().len(), 2);
}

#[tokio::test]
async fn long_texts_are_cut_where_the_service_would_refuse_them() {
    let s = scene_with(|settings| settings.common.style.language = Language::English);
    let mut a = person(None);
    // 10 names of 40 characters, each of 4 bytes, would fit; the digest below does not.
    a.identities = vec!["😀".repeat(60); 12];
    assert_eq!(s.robot.deliver(&a).await, Outcome::Delivered);
    assert_eq!(s.robot.deliver_digest(&digest()).await, Outcome::Delivered);
    assert_eq!(s.server.refused(), Vec::<String>::new());
    let texts = texts(&s.server);
    assert!(texts[1].ends_with('…') && (2040..=2048).contains(&texts[1].len()), "{}", texts[1].len());
}

#[tokio::test]
async fn nobody_is_called_by_name() {
    let s = scene();
    assert_eq!(s.robot.deliver(&hostile()).await, Outcome::Delivered);
    let text = texts(&s.server).remove(0);
    assert!(!text.contains(['<', '>', '@', '\u{202e}', '\u{7}']), "{text}");
    assert!(text.contains("＜＠all＞ ＠all"), "{text}");
}

#[tokio::test]
async fn markdown_has_no_marks_but_ours() {
    let s = scene_with(|settings| settings.words = WordStyle::Markdown);
    assert_eq!(s.robot.deliver(&hostile()).await, Outcome::Delivered);
    assert_eq!(s.robot.deliver_digest(&digest()).await, Outcome::Delivered);
    assert_eq!(s.server.refused(), Vec::<String>::new());
    let received = s.server.received();
    let Received::Markdown(text) = &received[0] else { panic!("{received:?}") };
    assert!(text.starts_with("**【Meerkat】＜＠all＞"), "{text}");
    assert_eq!(text.matches("**").count(), 2, "{text}");
    assert!(!text.contains(['<', '>', '@', '[', '(', '`', '#']), "{text}");
    let Received::Markdown(long) = &received[1] else { panic!("{received:?}") };
    assert!(long.len() > MAX_TEXT_BYTES && long.len() <= MAX_MARKDOWN_BYTES, "{}", long.len());
}

#[tokio::test]
async fn a_clip_goes_as_a_file_or_as_a_link_or_not_at_all() {
    let s = scene();
    assert_eq!((s.robot.clip_limit(), s.robot.takes_clips()), (Some(MAX_FILE_BYTES), true));
    let part = clip(Some(b"an mp4"), Some(LINK));
    assert_eq!(s.robot.deliver_clip(&person(None), &part).await, Outcome::Delivered);
    let expected = Received::File { name: part.name, bytes: b"an mp4".to_vec(), caption: String::new() };
    assert_eq!(s.server.received(), [expected]);
    for tiny in [clip(None, Some(LINK)), clip(Some(b"1234"), Some(LINK))] {
        assert_eq!(s.robot.deliver_clip(&person(None), &tiny).await, Outcome::Delivered);
        assert!(texts(&s.server).last().unwrap().ends_with(&format!("\n{LINK}")));
    }
    let requests = s.server.requests();
    for nothing in [clip(None, None), clip(None, Some("javascript:alert(1)"))] {
        assert_eq!(s.robot.deliver_clip(&person(None), &nothing).await, Outcome::Delivered);
    }
    let face = alert(EventKind::Face, None);
    assert_eq!(s.robot.deliver_clip(&face, &clip(Some(b"an mp4"), Some(LINK))).await, Outcome::Delivered);
    assert!(!s.robot.takes_clip_of(EventKind::Face) && s.robot.takes_clip_of(EventKind::Person));
    assert_eq!(s.server.requests(), requests, "faces stay at home");
    assert_eq!(s.server.refused(), Vec::<String>::new());
    let s = scene_with(|settings| settings.common.pictures.include_clip = false);
    assert_eq!((s.robot.clip_limit(), s.robot.takes_clips()), (None, false));
}

#[tokio::test]
async fn a_clip_is_uploaded_once_however_often_its_message_is_tried() {
    let s = scene();
    let part = clip(Some(b"an mp4"), None);
    s.server.script([Fault::None, Fault::Errcode(-1, "busy"), Fault::Errcode(-1, "busy")]);
    for _ in 0..2 {
        assert_eq!(retry(s.robot.deliver_clip(&person(None), &part).await).2, 0);
    }
    assert_eq!(s.robot.deliver_clip(&person(None), &part).await, Outcome::Delivered);
    let uploads = |s: &Scene| s.server.paths().iter().filter(|path| path.ends_with("upload_media")).count();
    assert_eq!(uploads(&s), 1);
    // The service keeps it for three days.
    s.clock.advance(Duration::from_secs(3 * 24 * 60 * 60));
    assert_eq!(s.robot.deliver_clip(&person(None), &part).await, Outcome::Delivered);
    assert_eq!(uploads(&s), 2);
    // Nothing is uploaded while the message could not follow.
    for _ in 0..20 {
        let _ = s.robot.deliver(&person(None)).await;
    }
    let other = Alert { id: uuid::Uuid::from_u128(99), ..person(None) };
    retry(s.robot.deliver_clip(&other, &part).await);
    assert_eq!(uploads(&s), 2);
}

#[tokio::test]
async fn every_clip_of_a_long_event_is_uploaded_and_sent() {
    let s = scene();
    for (n, film) in [(1, b"film 1"), (2, b"film 2")] {
        assert_eq!(
            s.robot.deliver_clip(&person(None), &later_clip(n, Some(film), None)).await,
            Outcome::Delivered
        );
    }
    let films: Vec<Vec<u8>> = s
        .server
        .received()
        .into_iter()
        .map(|received| match received {
            Received::File { bytes, .. } => bytes,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(films, [b"film 1", b"film 2"]);
}

#[tokio::test]
async fn the_largest_file_goes_and_a_larger_one_becomes_a_link() {
    let s = scene();
    let mut file = vec![7; MAX_FILE_BYTES as usize];
    assert_eq!(s.robot.deliver_clip(&person(None), &clip(Some(&file), Some(LINK))).await, Outcome::Delivered);
    assert!(matches!(&s.server.received()[0], Received::File { bytes, .. } if bytes.len() == file.len()));
    file.push(7);
    assert_eq!(s.robot.deliver_clip(&person(None), &clip(Some(&file), Some(LINK))).await, Outcome::Delivered);
    assert!(matches!(&s.server.received()[1], Received::Text(text) if text.ends_with(LINK)));
    assert_eq!(s.server.refused(), Vec::<String>::new());
}

#[tokio::test]
async fn a_test_says_so_and_sends_a_picture() {
    let s = scene();
    assert_eq!(s.robot.deliver_test(&test_message()).await, Outcome::Delivered);
    assert!(texts(&s.server)[0].starts_with("【Meerkat】测试消息：通道 group"), "{:?}", texts(&s.server));
    assert!(matches!(&s.server.received()[1], Received::Picture(_)));
}

#[tokio::test]
async fn robots_with_one_key_share_its_minute_over_a_reload_too() {
    let s = scene();
    let second = s.another(KEY, &s.book);
    for _ in 0..10 {
        assert_eq!(s.robot.deliver(&person(None)).await, Outcome::Delivered);
        assert_eq!(second.deliver(&person(None)).await, Outcome::Delivered);
    }
    drop(second);
    let reloaded = s.another(KEY, &s.book);
    assert_eq!(reloaded.ready_in(), Duration::from_secs(61));
    assert_eq!(s.server.refused(), Vec::<String>::new());
    let slow = scene_with(|settings| settings.per_minute = 2);
    for _ in 0..2 {
        assert_eq!(slow.robot.deliver(&person(None)).await, Outcome::Delivered);
    }
    retry(slow.robot.deliver(&person(None)).await);
    let greedy = scene_with(|settings| settings.per_minute = 2_000);
    for _ in 0..20 {
        assert_eq!(greedy.robot.deliver(&person(None)).await, Outcome::Delivered);
    }
    retry(greedy.robot.deliver(&person(None)).await);
}

#[tokio::test]
async fn pictures_it_cannot_take_stay_behind_and_the_text_says_so() {
    let mut large = JPEG.to_vec();
    large.resize(MAX_PICTURE_BYTES, 0);
    let s = scene();
    assert_eq!(s.robot.deliver(&person(Some(&large))).await, Outcome::Delivered);
    assert_eq!(s.server.received().len(), 2, "exactly 2 MB goes out");
    large.push(0);
    for picture in [&large[..], b"GIF89a"] {
        let s = scene();
        assert_eq!(s.robot.deliver(&person(Some(picture))).await, Outcome::Delivered);
        assert_eq!(s.server.received().len(), 1);
        assert!(texts(&s.server)[0].ends_with("（图片不符合通道限制，未发送）"));
    }
}

#[test]
fn a_key_or_the_whole_address_names_the_robot() {
    let named = |text: &str| WecomSettings::new("g", None, &Secret::new(text));
    let address = format!("{DEFAULT_BASE}/cgi-bin/webhook/send?key={KEY}");
    assert_eq!(named(KEY).unwrap().endpoint, named(&address).unwrap().endpoint);
    assert_eq!(named(&format!(" {KEY}\n")).unwrap().endpoint, SecretUrl::parse(&address).unwrap());
    assert_eq!(named("https://qyapi.weixin.qq.com/cgi-bin/webhook/send").unwrap_err(), BadKey::NoKey);
    assert_eq!(named("https://qyapi.weixin.qq.com/?key=").unwrap_err(), BadKey::NoKey);
    for bad in ["", "  ", "a b", "键"] {
        assert_eq!(named(bad).unwrap_err(), BadKey::Unprintable, "{bad:?}");
    }
    assert!(matches!(named("https://"), Err(BadKey::Address(_))));
}

#[test]
fn debug_shows_no_key() {
    let s = scene();
    let shown = format!("{:?} {:#?}", s.robot, s.robot);
    assert!(!shown.contains(KEY) && shown.contains("[redacted]"), "{shown}");
}

#[test]
fn channels_can_be_kept_in_one_list() {
    let s = scene();
    let channels: Vec<Box<dyn Channel>> = vec![Box::new(s.robot)];
    assert_eq!(channels[0].name(), "group");
}

#[tokio::test]
async fn what_is_explained_as_somebodys_mistake_is_given_up_at_once() {
    let s = scene();
    crate::testkit::what_is_explained_is_permanent(&s.robot, "errcode", PERMANENT, &[45_009]);
}
