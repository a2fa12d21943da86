//! Letters against a mail server that enforces the rules, read by somebody else's MIME parser.

use std::process::Command;

use meerkat_base::{EventKind, ManualClock, WallTime};
use meerkat_outbound::ExtraRoots;

use super::*;
use crate::alert::tests::alert;
use crate::render::Language;
use crate::testing::tls::CA_PEM;
use crate::testing::{MailFault, MailRules, MailServer, MailTls};
use crate::testkit::{digest, later_clip};

const USER: &str = "alerts@example.org";
const PASSWORD: &str = "correct-horse";

struct Scene {
    server: MailServer,
    clock: ManualClock,
    book: RateBook,
    memory: MailMemory,
    email: Email,
}

impl Scene {
    /// The channel that a reload makes, perhaps with other settings.
    fn reloaded(&self, change: impl FnOnce(&mut EmailSettings)) -> Email {
        let mut settings = self.email.settings.clone();
        change(&mut settings);
        Email::new(settings, Arc::new(self.clock.clone()), &self.book, &self.memory).unwrap()
    }

    /// The channel of the next run: it knows only what was kept beside the messages.
    fn restarted(&self) -> Email {
        let (book, memory) = (RateBook::default(), MailMemory::default());
        Email::new(self.email.settings.clone(), Arc::new(self.clock.clone()), &book, &memory).unwrap()
    }

    /// Who got which letter, in their order.
    fn got(&self) -> Vec<Vec<String>> {
        self.server.received().into_iter().map(|letter| letter.to).collect()
    }
}

fn scene_with(rules: MailRules, change: impl FnOnce(&mut EmailSettings)) -> Scene {
    let clock = ManualClock::new(WallTime(1_795_210_275_900_000));
    let encryption = match rules.tls {
        MailTls::None => Encryption::None,
        MailTls::StartTls => Encryption::StartTls,
        MailTls::AtOnce => Encryption::Tls,
    };
    let server = MailServer::start(rules).unwrap();
    let to = vec!["Ann <ann@example.org>".to_owned(), "bob@example.org".to_owned()];
    let mut settings = EmailSettings::new("mail", "127.0.0.1", format!("Meerkat 门 <{USER}>"), to);
    settings.port = server.port();
    settings.encryption = encryption;
    settings.roots = Some(ExtraRoots::parse(CA_PEM).unwrap());
    settings.style.language = Language::English;
    change(&mut settings);
    let (book, memory) = (RateBook::default(), MailMemory::default());
    let email = Email::new(settings, Arc::new(clock.clone()), &book, &memory).unwrap();
    Scene { server, clock, book, memory, email }
}

fn scene() -> Scene {
    scene_with(MailRules::default(), |_| {})
}

#[track_caller]
fn delayed(outcome: &Outcome) -> (&str, Option<Duration>) {
    match outcome {
        Outcome::Retry { reason, after, sent: 0 } => (reason, *after),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Refused { reason, sent: 0 } => reason,
        other => panic!("{other:?}"),
    }
}

/// What Python's own parser finds in a letter: headers, and of each part type, disposition, id, name and content.
fn parsed(letter: &[u8]) -> Option<serde_json::Value> {
    const SCRIPT: &str = "
import sys, json, base64, email, email.policy
m = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)
parts = [{'type': p.get_content_type(), 'disposition': p.get_content_disposition(), 'id': p['Content-ID'],
          'name': p.get_filename(), 'bytes': base64.b64encode(p.get_payload(decode=True) or b'').decode(),
          'text': p.get_content() if p.get_content_maintype() == 'text' else None} for p in m.walk()]
print(json.dumps({'headers': [[k, str(v)] for k, v in m.items()], 'parts': parts, 'defects': len(m.defects)}))
";
    use std::io::Write;
    use std::process::Stdio;
    let python =
        Command::new("python3").arg("-c").arg(SCRIPT).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut python) = python else {
        println!("skipped: no python3 on this machine");
        return None;
    };
    python.stdin.take().unwrap().write_all(letter).unwrap();
    let out = python.wait_with_output().unwrap();
    Some(serde_json::from_slice(&out.stdout).unwrap())
}

fn header(parsed: &serde_json::Value, name: &str) -> Vec<String> {
    let all = parsed["headers"].as_array().unwrap();
    all.iter().filter(|pair| pair[0] == name).map(|pair| pair[1].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_letter_has_the_text_twice_and_the_picture_inside() {
    let s = scene();
    let mut a = alert(EventKind::Person, Some(b"\xff\xd8\xff picture"));
    a.camera_name = Some("<b>Yard</b> & \"门\"".to_owned());
    assert_eq!(s.email.deliver(&a).await, Outcome::Delivered);
    assert_eq!(s.server.complaints(), Vec::<String>::new());
    let received = s.server.received().remove(0);
    assert_eq!(received.from, USER);
    assert_eq!(received.to, ["ann@example.org", "bob@example.org"]);
    let Some(letter) = parsed(&received.letter) else { return };
    assert_eq!(letter["defects"], 0);
    assert_eq!(header(&letter, "Message-ID"), ["<01920000-0000-7000-8000-000000000001@example.org>"]);
    assert_eq!(header(&letter, "References"), ["<event.01920000-0000-7000-8000-000000000002@example.org>"]);
    assert_eq!(header(&letter, "Auto-Submitted"), ["auto-generated"]);
    assert_eq!(header(&letter, "Date"), ["Fri, 20 Nov 2026 21:31:15 +0000"]);
    assert_eq!(header(&letter, "From"), [format!("Meerkat 门 <{USER}>")]);
    assert_eq!(header(&letter, "To"), ["Ann <ann@example.org>, bob@example.org"]);
    assert_eq!(
        header(&letter, "Subject"),
        ["[Meerkat] <b>Yard</b> & \"门\": person seen, 2026-11-20 21:31:14Z"]
    );
    let types: Vec<&str> =
        letter["parts"].as_array().unwrap().iter().map(|p| p["type"].as_str().unwrap()).collect();
    assert_eq!(
        types,
        ["multipart/alternative", "text/plain", "multipart/related", "text/html", "image/jpeg"]
    );
    let plain = letter["parts"][1]["text"].as_str().unwrap().replace("\r\n", "\n");
    assert_eq!(plain.trim_end(), render::alert_text(&a, &s.email.settings.style));
    let html = letter["parts"][3]["text"].as_str().unwrap();
    assert!(html.contains("&lt;b&gt;Yard&lt;/b&gt; &amp; &quot;门&quot;: person seen"), "{html}");
    let picture = &letter["parts"][4];
    assert_eq!(picture["disposition"], "inline");
    assert_eq!(picture["bytes"], "/9j/IHBpY3R1cmU=");
    let id = picture["id"].as_str().unwrap().trim_matches(['<', '>']);
    assert!(html.contains(&format!("src=\"cid:{id}\"")), "{html}");
}

#[tokio::test]
async fn no_text_adds_a_header_or_a_recipient() {
    let s = scene();
    let mut a = alert(EventKind::Person, None);
    a.camera_name = Some("x\r\nBcc: eve@example.org\r\n\r\n.\r\nRCPT TO:<eve@example.org>".to_owned());
    a.identities = vec!["y\r\n.\r\nMAIL FROM:<eve@example.org>".to_owned()];
    a.detail = ".\n..\n.hidden".to_owned();
    assert_eq!(s.email.deliver(&a).await, Outcome::Delivered);
    let received = s.server.received();
    assert_eq!((received.len(), received[0].to.len()), (1, 2));
    assert_eq!(received[0].header("Bcc"), None);
    assert_eq!(s.server.complaints(), Vec::<String>::new());
    let Some(letter) = parsed(&received[0].letter) else { return };
    assert!(letter["parts"][1]["text"].as_str().unwrap().replace('\r', "").contains("\n.\n..\n.hidden\n"));
}

#[tokio::test]
async fn pictures_follow_policy_and_limit() {
    let s = scene_with(MailRules::default(), |settings| settings.max_picture_bytes = 1_000);
    for mut a in [alert(EventKind::Face, Some(b"picture")), alert(EventKind::Person, Some(&[0xff; 1_001]))] {
        // Without letters that would have to be encoded.
        a.camera_name = None;
        assert_eq!(s.email.deliver(&a).await, Outcome::Delivered);
    }
    let letters = s.server.received().into_iter().map(|r| String::from_utf8(r.letter).unwrap());
    let [face, large]: [String; 2] = letters.collect::<Vec<_>>().try_into().unwrap();
    assert!(!face.contains("image/jpeg") && !face.contains("picture not sent"), "{face}");
    assert!(!large.contains("image/jpeg") && large.contains("picture not sent"), "{large}");
}

#[tokio::test]
async fn a_clip_follows_as_a_file_or_as_a_link() {
    let s = scene_with(MailRules::default(), |settings| settings.max_clip_bytes = 100);
    let clip = |bytes: usize, link: Option<&str>| ClipPart {
        part: 1,
        name: "front_2026-11-20_213114.mp4".to_owned(),
        file: Some(Bytes::from(vec![7; bytes])),
        link: link.map(str::to_owned),
        duration: Duration::from_secs(12),
    };
    let link = "https://example.org/clips/1?signature=abc";
    let a = alert(EventKind::Person, None);
    assert_eq!(s.email.deliver_clip(&a, &clip(100, Some(link))).await, Outcome::Delivered);
    assert_eq!(s.email.deliver_clip(&a, &clip(101, Some(link))).await, Outcome::Delivered);
    assert!(refused(&s.email.deliver_clip(&a, &clip(101, None)).await).contains("too large"));
    let face = alert(EventKind::Face, None);
    assert!(refused(&s.email.deliver_clip(&face, &clip(1, None)).await).contains("at home"));
    assert!(!s.email.takes_clip_of(EventKind::Face) && s.email.takes_clip_of(EventKind::Person));
    let received = s.server.received();
    assert_eq!(received.len(), 2);
    let Some(file) = parsed(&received[0].letter) else { return };
    let parts = file["parts"].as_array().unwrap();
    let part = parts.iter().find(|part| part["disposition"] == "attachment").unwrap();
    assert_eq!((&part["type"], &part["name"]), (&"video/mp4".into(), &"front_2026-11-20_213114.mp4".into()));
    assert_eq!(header(&file, "Message-ID"), ["<01920000-0000-7000-8000-000000000001.clip@example.org>"]);
    assert_eq!(header(&file, "In-Reply-To"), ["<01920000-0000-7000-8000-000000000001@example.org>"]);
    assert!(!String::from_utf8_lossy(&received[0].letter).contains("signature=3Dabc"));
    let linked = parsed(&received[1].letter).unwrap();
    assert!(linked["parts"][1]["text"].as_str().unwrap().contains(link));
    assert!(linked["parts"][2]["text"].as_str().unwrap().contains(&format!("<a href=\"{link}\">")));
    assert!(!linked["parts"].as_array().unwrap().iter().any(|part| part["type"] == "video/mp4"));
}

#[tokio::test]
async fn every_clip_of_a_long_event_is_a_letter_of_its_own() {
    let rules = MailRules { greylisted: vec!["bob@example.org".to_owned()], ..MailRules::default() };
    let s = scene_with(rules, |_| {});
    let a = alert(EventKind::Person, None);
    // Of the first Bob is put off, and the second goes meanwhile.
    let first = s.email.deliver_clip(&a, &later_clip(1, Some(b"film 1"), None)).await;
    assert!(matches!(first, Outcome::Retry { sent: 1, .. }), "{first:?}");
    for n in [2, 1] {
        let outcome = s.email.deliver_clip(&a, &later_clip(n, Some(b"film n"), None)).await;
        assert_eq!(outcome, Outcome::Delivered);
    }
    let got: Vec<(String, usize)> = s
        .server
        .received()
        .iter()
        .map(|letter| (letter.header("Message-ID").unwrap(), letter.to.len()))
        .collect();
    let id = |part: &str| format!("<01920000-0000-7000-8000-000000000001.{part}@example.org>");
    let expected = [(id("clip"), 1), (id("clip-2"), 2), (id("clip"), 1)];
    assert_eq!(got, expected, "Ann gets both");
}

#[tokio::test]
async fn passwords_and_letters_travel_only_through_tls() {
    for tls in [MailTls::StartTls, MailTls::AtOnce] {
        let login = Some((USER.to_owned(), PASSWORD.to_owned()));
        let rules = MailRules { tls, login, ..MailRules::default() };
        let credentials = Some((USER.to_owned(), Secret::new(PASSWORD)));
        let s = scene_with(rules.clone(), |settings| settings.credentials = credentials.clone());
        assert_eq!(s.email.deliver(&alert(EventKind::Person, None)).await, Outcome::Delivered, "{tls:?}");
        assert!(s.server.received()[0].encrypted);
        assert_eq!(s.server.complaints(), Vec::<String>::new());

        let s = scene_with(rules.clone(), |settings| {
            settings.credentials = Some((USER.to_owned(), Secret::new("hunter2")));
        });
        let outcome = s.email.deliver(&alert(EventKind::Person, None)).await;
        let (reason, after) = delayed(&outcome);
        assert!(reason.contains("user and password") && reason.contains("535"), "{reason}");
        assert!(!reason.contains("hunter2") && after >= Some(Duration::from_secs(60)), "{reason} {after:?}");
        assert!(s.email.explain(reason).unwrap().contains("application password"));

        // A certificate of somebody who is not trusted.
        let other = include_bytes!("../../outbound/client/tls/test-ca.pem");
        let s =
            scene_with(rules.clone(), |settings| settings.roots = Some(ExtraRoots::parse(other).unwrap()));
        let outcome = s.email.deliver(&alert(EventKind::Person, None)).await;
        assert!(delayed(&outcome).0.contains("certificate"), "{outcome:?}");
        assert_eq!(s.server.received(), []);

        // The right authority, but another host than the certificate is for.
        let elsewhere = MailRules { address: Some([127, 0, 0, 2].into()), ..rules };
        let s = scene_with(elsewhere, |settings| settings.host = "127.0.0.2".to_owned());
        let outcome = s.email.deliver(&alert(EventKind::Person, None)).await;
        assert!(delayed(&outcome).0.contains("certificate"), "{outcome:?}");
        assert_eq!(s.server.received(), []);
    }
}

#[tokio::test]
async fn a_server_that_repeats_the_password_does_not_bring_it_into_the_log() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let plain = STANDARD.encode(format!("\0{USER}\0{PASSWORD}"));
    let alone = STANDARD.encode(PASSWORD);
    let cut_off = plain[..plain.len() - 3].to_owned();
    let login = Some((USER.to_owned(), PASSWORD.to_owned()));
    for (at, said) in [
        ("AUTH", format!("535 5.7.8 what is AUTH PLAIN {plain}, says the server")),
        ("AUTH", format!("535 5.7.8 what is AUTH PLAIN {cut_off}... says the server")),
        ("AUTH", format!("454 4.7.0 \"{alone}\" says the server")),
        ("MAIL", format!("550 5.7.1 {PASSWORD} is no good password, says the server")),
    ] {
        let rules = MailRules { tls: MailTls::StartTls, login: login.clone(), ..MailRules::default() };
        let s = scene_with(rules, |settings| {
            settings.credentials = Some((USER.to_owned(), Secret::new(PASSWORD)));
        });
        s.server.script([MailFault::Answer(at, said.clone().leak())]);
        let reason = match s.email.deliver(&alert(EventKind::Person, None)).await {
            Outcome::Retry { reason, .. } | Outcome::Refused { reason, .. } => reason,
            other => panic!("{other:?}"),
        };
        assert!(reason.contains("[redacted]"), "{said}: {reason}");
        for secret in [&plain[..16], &alone[..8], &PASSWORD[..6]] {
            assert!(!reason.contains(secret), "{said}: {reason}");
        }
    }
}

#[tokio::test]
async fn a_server_without_starttls_gets_nothing() {
    let s = scene_with(MailRules::default(), |settings| {
        settings.encryption = Encryption::StartTls;
        settings.credentials = Some((USER.to_owned(), Secret::new(PASSWORD)));
    });
    let outcome = s.email.deliver(&alert(EventKind::Person, None)).await;
    let (reason, _) = delayed(&outcome);
    assert!(reason.contains("offers no STARTTLS"), "{reason}");
    assert!(s.email.explain(reason).unwrap().contains("465"));
    assert_eq!((s.server.received(), s.server.complaints()), (vec![], vec![]));
}

#[tokio::test]
async fn what_is_about_the_letter_is_refused_and_what_passes_is_tried_again() {
    for (at, answer, is_refused) in [
        ("MAIL", "550 5.7.1 not you", true),
        ("MAIL", "451 4.3.0 later", false),
        ("DATA", "554 5.7.1 no", true),
        ("DATA", "421 4.3.2 going down", false),
        ("END", "552 5.3.4 too large", true),
        ("END", "452 4.3.1 no room", false),
        // About the server, not about the letter: it may get well.
        ("EHLO", "554 5.7.1 you are on a list", false),
    ] {
        let s = scene();
        s.server.script([MailFault::Answer(at, answer)]);
        let outcome = s.email.deliver(&alert(EventKind::Person, None)).await;
        let reason = if is_refused { refused(&outcome) } else { delayed(&outcome).0 };
        assert!(reason.contains(answer.split(' ').next().unwrap()), "{at} {answer}: {reason}");
        assert!(s.server.received().is_empty(), "{at} {answer}");
    }
    let s = scene_with(MailRules { max_bytes: 1_000, ..MailRules::default() }, |_| {});
    let large = alert(EventKind::Person, Some(&[0xff; 5_000]));
    assert!(refused(&s.email.deliver(&large).await).contains("too large"));
}

#[tokio::test]
async fn an_answer_that_is_lost_leads_to_the_same_letter_again() {
    let s = scene();
    s.server.script([MailFault::CutAfterLetter]);
    let a = alert(EventKind::Person, None);
    let outcome = s.email.deliver(&a).await;
    assert!(delayed(&outcome).0.contains("may have arrived"), "{outcome:?}");
    assert_eq!(s.email.deliver(&a).await, Outcome::Delivered);
    let ids: Vec<_> = s.server.received().iter().map(|letter| letter.header("Message-ID")).collect();
    assert!(ids.len() == 2 && ids[0] == ids[1] && ids[0].is_some(), "{ids:?}");
}

#[tokio::test]
async fn a_recipient_who_is_put_off_costs_the_others_no_copies() {
    let rules = MailRules {
        greylisted: vec!["bob@example.org".to_owned()],
        unknown: vec!["carol@example.org".to_owned()],
        ..MailRules::default()
    };
    let s = scene_with(rules.clone(), |settings| settings.to.push("carol@example.org".to_owned()));
    let a = alert(EventKind::Person, None);
    let outcome = s.email.deliver(&a).await;
    assert!(
        matches!(&outcome, Outcome::Retry { reason, after: None, sent: 1 } if reason.contains("greylisted")),
        "Ann has it: {outcome:?}"
    );
    assert_eq!(s.email.deliver(&a).await, Outcome::Delivered);
    assert_eq!(s.got(), [["ann@example.org"], ["bob@example.org"]]);
    assert!(s.email.partly.of(&a.id.to_string()).is_none(), "nothing more to remember");

    let s = scene_with(rules, |settings| settings.to = vec!["carol@example.org".to_owned()]);
    let outcome = s.email.deliver(&a).await;
    assert!(refused(&outcome).contains("no such user"), "{outcome:?}");
}

#[tokio::test]
async fn a_letter_that_nobody_has_is_not_delivered_and_is_offered_again_to_who_refused_it() {
    let greylisted = vec!["bob@example.org".to_owned()];
    let rules = MailRules {
        greylisted: greylisted.clone(),
        unknown: vec!["carol@example.org".to_owned()],
        ..MailRules::default()
    };
    let s = scene_with(rules, |settings| {
        settings.to = vec!["carol@example.org".to_owned(), "bob@example.org".to_owned()];
    });
    let a = alert(EventKind::Person, None);
    assert!(delayed(&s.email.deliver(&a).await).0.contains("greylisted"));
    let alone = s.reloaded(|settings| settings.to.truncate(1));
    assert!(refused(&alone.deliver(&a).await).contains("no such user"));
    assert!(s.server.received().is_empty());

    let s = scene_with(MailRules { greylisted, ..MailRules::default() }, |_| {});
    s.server.script([MailFault::Answer("RCPT", "550 5.1.1 no such user")]);
    assert!(delayed(&s.email.deliver(&a).await).0.contains("greylisted"));
    // Ann's mailbox was made meanwhile.
    assert_eq!(s.email.deliver(&a).await, Outcome::Delivered);
    assert_eq!(s.got(), [["ann@example.org", "bob@example.org"]]);
}

#[tokio::test]
async fn a_full_mailbox_says_nothing_about_the_channel_and_a_restart_sends_no_copies() {
    let rules = MailRules { greylisted: vec!["bob@example.org".to_owned()], ..MailRules::default() };
    let s = scene_with(rules.clone(), |_| {});
    let mut a = alert(EventKind::Person, None);
    assert!(matches!(s.email.deliver(&a).await, Outcome::Retry { sent: 1, .. }));
    a.already_sent = 1;
    let again = s.restarted();
    for _ in 0..2 {
        s.server.script([MailFault::Answer("RCPT", "452 4.2.2 mailbox full")]);
        match again.deliver(&a).await {
            Outcome::PutOff { reason, sent: 1 } => assert!(reason.contains("mailbox full"), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    s.server.script([MailFault::Answer("EHLO", "421 4.3.2 going down")]);
    assert!(matches!(again.deliver(&a).await, Outcome::Retry { sent: 1, .. }), "that is the channel's");
    assert_eq!(again.deliver(&a).await, Outcome::Delivered);
    assert_eq!(s.got(), [["ann@example.org"], ["bob@example.org"]]);
    a.already_sent = 3;
    assert_eq!(again.deliver(&a).await, Outcome::Delivered, "everybody has it");
    assert_eq!(s.server.received().len(), 2);
}

#[tokio::test]
async fn a_reload_forgets_neither_who_has_a_letter_nor_how_many_have_left() {
    let rules = MailRules { greylisted: vec!["bob@example.org".to_owned()], ..MailRules::default() };
    let s = scene_with(rules, |settings| settings.per_minute = 3);
    let a = alert(EventKind::Person, None);
    assert!(matches!(s.email.deliver(&a).await, Outcome::Retry { sent: 1, .. }));
    // Who stands where has changed, and a third has come.
    let reloaded = s.reloaded(|settings| {
        settings.to.insert(0, "carol@example.org".to_owned());
        settings.to.swap(1, 2);
    });
    let again = Alert { already_sent: 1, ..a };
    assert_eq!(reloaded.deliver(&again).await, Outcome::Delivered);
    assert_eq!(s.got(), [&["ann@example.org"][..], &["carol@example.org", "bob@example.org"]]);
    let third = Alert { id: Uuid::from_u128(9), already_sent: 0, ..again.clone() };
    assert_eq!(reloaded.deliver(&third).await, Outcome::Delivered);
    let last = s.reloaded(|settings| settings.per_minute = 3);
    assert_eq!(last.ready_in(), Duration::from_secs(60));
    assert_eq!(last.deliver(&again).await, Outcome::Held { wait: Duration::from_secs(60), sent: 1 });
}

#[tokio::test]
async fn a_digest_costs_no_copies_over_reloads_and_restarts() {
    let rules = MailRules { greylisted: vec!["bob@example.org".to_owned()], ..MailRules::default() };
    let s = scene_with(rules, |_| {});
    let mut digest = digest();
    assert!(matches!(s.email.deliver_digest(&digest).await, Outcome::Retry { sent: 1, .. }));
    let full = MailFault::Answer("RCPT", "452 4.2.2 mailbox full");
    s.server.script([full]);
    // Nothing was booked yet, and the settings are reloaded.
    assert!(matches!(s.reloaded(|_| {}).deliver_digest(&digest).await, Outcome::PutOff { sent: 1, .. }));
    digest.already_sent = 1;
    s.server.script([full]);
    let restarted = s.restarted();
    assert!(matches!(restarted.deliver_digest(&digest).await, Outcome::PutOff { sent: 1, .. }));
    assert_eq!(restarted.deliver_digest(&digest).await, Outcome::Delivered);
    assert_eq!(s.got(), [["ann@example.org"], ["bob@example.org"]]);
}

#[tokio::test]
async fn a_server_that_is_gone_or_silent_is_tried_again() {
    let s = scene();
    s.server.script([MailFault::Refuse]);
    delayed(&s.email.deliver(&alert(EventKind::Person, None)).await);
    let Scene { server, email, .. } = s;
    drop(server);
    let outcome = email.deliver(&alert(EventKind::Person, None)).await;
    assert!(delayed(&outcome).0.contains("127.0.0.1"), "{outcome:?}");
}

#[tokio::test]
async fn it_keeps_its_own_limit() {
    let s = scene_with(MailRules::default(), |settings| settings.per_minute = 2);
    let a = alert(EventKind::Person, None);
    for _ in 0..2 {
        assert_eq!(s.email.ready_in(), Duration::ZERO);
        assert_eq!(s.email.deliver(&a).await, Outcome::Delivered);
    }
    let outcome = s.email.deliver(&a).await;
    assert_eq!(outcome, Outcome::Held { wait: Duration::from_secs(60), sent: 0 });
    assert_eq!(s.email.ready_in(), Duration::from_secs(60));
    s.clock.advance(Duration::from_secs(60));
    assert_eq!(s.email.deliver(&a).await, Outcome::Delivered);
    assert_eq!(s.server.connections(), 3);
}

#[tokio::test]
async fn nothing_in_the_clear_leaves_this_machine() {
    let s = scene_with(MailRules::default(), |settings| settings.host = "192.0.2.1".to_owned());
    let outcome = s.email.deliver(&alert(EventKind::Person, None)).await;
    let (reason, _) = delayed(&outcome);
    assert!(reason.contains("in the clear"), "{reason}");
    assert!(s.email.explain(reason).is_some());
    let s = scene_with(MailRules::default(), |settings| settings.host = "169.254.169.254".to_owned());
    assert!(refused(&s.email.deliver(&alert(EventKind::Person, None)).await).contains("link-local"));
}

#[tokio::test]
async fn digests_and_tests_are_letters_too() {
    let s = scene();
    let digest = digest();
    assert_eq!(s.email.deliver_digest(&digest).await, Outcome::Delivered);
    let test = TestMessage { id: Uuid::from_u128(8), time: WallTime(0) };
    assert_eq!(s.email.deliver_test(&test).await, Outcome::Delivered);
    let ids: Vec<_> = s.server.received().iter().map(|r| r.header("Message-ID").unwrap()).collect();
    assert!(ids[0].starts_with("<00000000-0000-0000-0000-000000000007@"), "{ids:?}");
    assert!(s.server.received()[1].header("Subject").unwrap().contains("test: channel mail delivers"));
}

#[test]
fn wrong_addresses_are_named() {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(WallTime(0)));
    let new = |from: &str, to: &[&str]| {
        let to = to.iter().map(|&address| address.to_owned()).collect();
        let settings = EmailSettings::new("mail", "127.0.0.1", from, to);
        Email::new(settings, Arc::clone(&clock), &RateBook::default(), &MailMemory::default())
    };
    assert!(matches!(new("a b@example.org", &["x@example.org"]), Err(BadEmail::Address { key: "from", .. })));
    for wrong in
        ["nobody", "a@b@c", "x@example.org\r\nBcc: y@example.org", "<x@example.org", "門@example.org"]
    {
        let made = new("a@example.org", &["x@example.org", wrong]);
        assert!(matches!(&made, Err(BadEmail::Address { key: "to", .. })), "{wrong}: {made:?}");
    }
    assert_eq!(new("a@example.org", &[]).unwrap_err(), BadEmail::Nobody);
    let shown = format!("{:?}", scene().email);
    assert!(!shown.contains("password"), "{shown}");
}
