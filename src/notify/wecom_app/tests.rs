//! The application against a server that enforces its rules, and drops what is too much without a word.

use meerkat_base::{EventKind, ManualClock};

use super::*;
use crate::alert::Alert;
use crate::alert::tests::alert;
use crate::channel::Channel;
use crate::testing::{Fault, MockServer, Received};
use crate::testkit::{
    JPEG, LINK, assert_silent, client, clip, clock, digest, hostile, later_clip, person, refusal, retry,
    test_message,
};

const SECRET: &str = "application-secret-of-tests";
const SECRETS: &[&str] = &[SECRET, "access-token-number"];

struct Scene {
    server: MockServer,
    clock: ManualClock,
    book: RateBook,
    app: WecomApp,
}

impl Scene {
    fn another(&self, change: impl FnOnce(&mut WecomAppSettings)) -> WecomApp {
        let receivers = Receivers { users: vec!["zhang".into()], parties: vec![2], tags: vec![] };
        let mut settings =
            WecomAppSettings::new("app", "ww0123", 1_000_002, Secret::new(SECRET), receivers).unwrap();
        settings.base = SecretUrl::parse(&self.server.base()).unwrap();
        change(&mut settings);
        WecomApp::new(settings, client(), Arc::new(self.clock.clone()), &self.book)
    }
}

fn scene_with(change: impl FnOnce(&mut WecomAppSettings)) -> Scene {
    let clock = clock();
    let server =
        MockServer::wecom_app("ww0123", SECRET, 1_000_002, &["zhang", "li"], Arc::new(clock.clone()))
            .unwrap();
    let receivers = Receivers { users: vec!["zhang".into()], parties: vec![2], tags: vec![] };
    let mut settings =
        WecomAppSettings::new("app", "ww0123", 1_000_002, Secret::new(SECRET), receivers).unwrap();
    settings.base = SecretUrl::parse(&server.base()).unwrap();
    change(&mut settings);
    let book = RateBook::default();
    let app = WecomApp::new(settings, client(), Arc::new(clock.clone()), &book);
    // What a cautious start counts is over.
    clock.advance(Duration::from_secs(2 * 60 * 60));
    Scene { server, clock, book, app }
}

fn scene() -> Scene {
    scene_with(|_| ())
}

fn count(s: &Scene, end: &str) -> usize {
    s.server.paths().iter().filter(|path| path.ends_with(end)).count()
}

fn another(n: u128, snapshot: Option<&[u8]>) -> Alert {
    Alert { id: uuid::Uuid::from_u128(n), ..person(snapshot) }
}

#[tokio::test]
async fn text_picture_and_video_reach_the_members() {
    let s = scene();
    assert_eq!(s.app.deliver(&person(Some(JPEG))).await, Outcome::Delivered);
    let part = clip(Some(b"an mp4"), Some(LINK));
    assert_eq!(s.app.deliver_clip(&person(None), &part).await, Outcome::Delivered);
    assert_eq!(s.app.deliver_clip(&person(None), &clip(None, Some(LINK))).await, Outcome::Delivered);
    assert_eq!(s.app.deliver(&hostile()).await, Outcome::Delivered);
    assert_eq!(s.app.deliver_digest(&digest()).await, Outcome::Delivered);
    assert_eq!(s.app.deliver_test(&test_message()).await, Outcome::Delivered);
    assert_eq!(s.app.deliver(&alert(EventKind::Face, Some(JPEG))).await, Outcome::Delivered);
    assert_eq!((s.server.refused(), s.server.dropped()), (vec![], vec![]));
    let received = s.server.received();
    assert!(
        matches!(&received[0], Received::Text(text) if text.starts_with("【Meerkat】前门")),
        "{received:?}"
    );
    assert_eq!(received[1], Received::Picture(JPEG.to_vec()));
    let Received::File { name, bytes, caption } = &received[2] else { panic!("{received:?}") };
    assert_eq!((name, bytes.as_slice()), (&part.name, &b"an mp4"[..]));
    assert!(caption.contains("录像 12 秒"), "{caption}");
    assert!(matches!(&received[3], Received::Text(text) if text.ends_with(LINK)), "{received:?}");
    assert!(matches!(&received[4], Received::Text(text) if !text.contains(['<', '@'])), "{received:?}");
    assert_eq!(received.len(), 9, "the test has a picture, the face has none: {received:?}");
    assert_eq!(count(&s, "gettoken"), 1, "one token for all");
    assert_silent(&s.app, SECRETS);
}

#[tokio::test]
async fn the_token_is_renewed_before_its_end_and_when_the_service_does_not_take_it() {
    let s = scene();
    assert_eq!(s.app.deliver(&another(1, Some(JPEG))).await, Outcome::Delivered);
    s.clock.advance(Duration::from_secs(7_000));
    assert_eq!(s.app.deliver(&another(2, Some(JPEG))).await, Outcome::Delivered);
    assert_eq!((count(&s, "gettoken"), s.server.refused().len()), (2, 0), "never with an old one");
    for code in [40014, 42001] {
        s.server.script([Fault::Errcode(code, "invalid access_token access-token-number-1")]);
        assert_eq!(s.app.deliver(&another(3, None)).await, Outcome::Delivered);
    }
    assert_eq!(count(&s, "gettoken"), 4);
    // Somebody else asked for a token: ours is none any more. An upload finds out first.
    let client = client();
    let url = SecretUrl::parse(&s.server.base()).unwrap();
    let url = url.below("cgi-bin/gettoken", "corpid", &Secret::new("ww0123")).and("corpsecret", SECRET);
    client.get(&url, &[]).await.unwrap();
    let part = clip(Some(b"an mp4"), None);
    assert_eq!(s.app.deliver_clip(&another(4, None), &part).await, Outcome::Delivered);
    let no = Fault::Errcode(40014, "invalid access_token");
    s.server.script([no.clone(), Fault::None, no]);
    let (_, reason, _) = retry(s.app.deliver(&another(5, None)).await, SECRETS);
    assert!(reason.starts_with("errcode 40014"), "twice is enough: {reason}");
}

#[tokio::test]
async fn one_token_is_asked_for_however_many_need_it() {
    let s = scene();
    let alerts: Vec<Alert> = (1..5).map(|n| another(n, None)).collect();
    let (a, b, c, d) = tokio::join!(
        s.app.deliver(&alerts[0]),
        s.app.deliver(&alerts[1]),
        s.app.deliver(&alerts[2]),
        s.app.deliver(&alerts[3])
    );
    assert_eq!([a, b, c, d], [const { Outcome::Delivered }; 4]);
    assert_eq!(count(&s, "gettoken"), 1);
}

#[tokio::test]
async fn nothing_is_ever_dropped() {
    let s = scene();
    let second = s.another(|settings| settings.receivers.parties.clear());
    let (mut accepted, mut clips) = (0, 0);
    // Two hours of more than it can take, with a reload in the middle.
    let mut app = s.another(|_| ());
    for step in 0..1_440_u32 {
        if step == 700 {
            app = s.another(|_| ());
        }
        for (n, channel) in [(0, &app), (1, &second)] {
            let id = u128::from(step) * 2 + n;
            if channel.deliver(&another(id, (step % 10 == 0).then_some(JPEG))).await == Outcome::Delivered {
                accepted += 1;
            }
        }
        if step % 100 == 0
            && app.deliver_clip(&another(9_999_999, None), &clip(Some(b"an mp4"), None)).await
                == Outcome::Delivered
        {
            clips += 1;
        }
        s.clock.advance(Duration::from_secs(5));
    }
    assert_eq!(s.server.dropped(), Vec::<String>::new());
    assert!(accepted > 1_500 && clips > 0, "{accepted} {clips}");
}

#[tokio::test]
async fn a_node_that_just_started_has_half_of_it() {
    let s = scene();
    let book = RateBook::default();
    let receivers = Receivers { users: vec!["zhang".into()], ..Default::default() };
    let mut settings =
        WecomAppSettings::new("app", "ww0123", 1_000_002, Secret::new(SECRET), receivers).unwrap();
    settings.base = SecretUrl::parse(&s.server.base()).unwrap();
    let fresh = WecomApp::new(settings, client(), Arc::new(s.clock.clone()), &book);
    // The run before has sent 15 in this minute.
    for n in 0..15 {
        assert_eq!(s.app.deliver(&another(n, None)).await, Outcome::Delivered);
    }
    for n in 0..30 {
        let _ = fresh.deliver(&another(n, None)).await;
    }
    assert_eq!((s.server.dropped(), s.server.received().len()), (vec![], 30));
}

#[tokio::test]
async fn an_untrusted_address_is_named() {
    let s = scene();
    let said = "not allow to access from your ip, hint: [1600000000_1_0123456789abcdef0123456789abcdef], from ip: \
                203.0.113.7, more info at https://open.work.weixin.qq.com/devtool/query?e=60020";
    s.server.script([Fault::None, Fault::Errcode(60020, said)]);
    let (reason, _) = refusal(&s.app, s.app.deliver(&person(None)).await, SECRETS);
    assert_eq!(reason, "errcode 60020: the application does not trust 203.0.113.7");
    assert!(s.app.explain(&reason).unwrap().contains("企业可信IP"));
    assert_eq!(untrusted_address("from ip: 2001:db8::7, more"), Some("2001:db8::7".parse().unwrap()));
    for none in ["from ip: [evil]", "from ip:", "", "from ip: 1.2.3"] {
        assert_eq!(untrusted_address(none), None, "{none}");
    }
}

#[tokio::test]
async fn wrong_credentials_and_receivers_are_refused_and_explained() {
    for (code, change) in [
        (
            "errcode 40001",
            (|settings| settings.secret = Secret::new("wrong-secret")) as fn(&mut WecomAppSettings),
        ),
        ("errcode 40013", |settings| settings.corp_id = "ww9".into()),
        ("errcode 40056", |settings| settings.agent_id = 7),
        ("errcode 81013", |settings| {
            settings.receivers = Receivers { users: vec!["nobody".into()], ..Default::default() };
        }),
    ] {
        let s = scene_with(change);
        let outcome = s.app.deliver(&person(Some(JPEG))).await;
        let (reason, sent) = refusal(&s.app, outcome, &[SECRET, "wrong-secret", "access-token-number"]);
        assert!(reason.starts_with(code) && sent == 0, "{reason}");
    }
    // Some get it: a success, unless somebody tries it out.
    let s = scene_with(|settings| settings.receivers.users.push("nobody".into()));
    assert_eq!(s.app.deliver(&person(None)).await, Outcome::Delivered);
    let (reason, _) = refusal(&s.app, s.app.deliver_test(&test_message()).await, SECRETS);
    assert_eq!(reason, "invaliduser: nobody");
}

#[tokio::test]
async fn every_clip_of_a_long_event_is_uploaded_and_sent() {
    let s = scene();
    for (n, film) in [(1, b"film 1"), (2, b"film 2")] {
        assert_eq!(
            s.app.deliver_clip(&person(None), &later_clip(n, Some(film), None)).await,
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
async fn pictures_and_videos_have_limits() {
    let s = scene();
    let mut large = JPEG.to_vec();
    large.resize(MAX_MEDIA_BYTES, 0);
    assert_eq!(s.app.deliver(&another(1, Some(&large))).await, Outcome::Delivered);
    assert_eq!(s.server.received().len(), 2);
    large.push(0);
    assert_eq!(s.app.deliver(&another(2, Some(&large))).await, Outcome::Delivered);
    assert!(matches!(&s.server.received()[2], Received::Text(text) if text.ends_with("未发送）")));
    assert_eq!(s.app.clip_limit(), Some(MAX_MEDIA_BYTES as u64));
    assert_eq!(s.server.refused(), Vec::<String>::new());
}

#[tokio::test]
async fn what_may_pass_is_tried_again_from_where_it_stopped() {
    let s = scene();
    // Token, text, then the upload fails, then the picture.
    s.server.script([Fault::None, Fault::None, Fault::Errcode(-1, "system busy")]);
    let mut a = another(1, Some(JPEG));
    let (_, _, sent) = retry(s.app.deliver(&a).await, SECRETS);
    assert_eq!(sent, 1);
    a.already_sent = sent;
    s.server.script([Fault::None, Fault::CutBeforeAnswer]);
    let (_, reason, sent) = retry(s.app.deliver(&a).await, SECRETS);
    assert!(reason.contains("may have arrived") && sent == 1, "{reason}");
    assert_eq!(s.app.deliver(&a).await, Outcome::Delivered);
    assert_eq!(count(&s, "media/upload"), 2, "the second upload was good");
    let texts = s.server.received().iter().filter(|r| matches!(r, Received::Text(_))).count();
    assert_eq!(texts, 1);
    s.server.script([Fault::Errcode(45009, "api freq out of limit")]);
    assert_eq!(retry(s.app.deliver(&another(2, None)).await, SECRETS).0, Some(Duration::from_secs(60)));
}

#[tokio::test]
async fn what_is_explained_as_somebodys_mistake_is_given_up_at_once() {
    let s = scene();
    crate::testkit::what_is_explained_is_permanent(&s.app, "errcode", PERMANENT, &[45_009]);
    assert!(is_permanent(PERMANENT, 301_002));
}
