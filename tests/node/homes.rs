//! Letters and homes: a real broker and a strict mail server are told what happens, through TLS, and whatever goes away in
//! between comes back.

use std::collections::BTreeSet;

use meerkat_notify::testing::{
    MailRules, MailServer, MailTls, Mosquitto, MosquittoRules, Observed, Observer, tls::ca_file,
};
use meerkat_store::OutboxState;
use rustix::process::Signal;

use crate::harness::{Node, PATIENCE, Plan, eventually};

const USER: &str = "alerts@example.org";
const PASSWORD: &str = "a-secret-of-the-tests";

/// A node that tells a home of every motion, through TLS and with a password.
fn with_home(broker: &Mosquitto) -> Plan {
    Plan::new()
        .with_quick_motion()
        .set("notify.language", "en")
        .set("notify.channels.home.type", "mqtt")
        .set("notify.channels.home.url", format!("mqtts://localhost:{}", broker.port()))
        .set("notify.channels.home.user", "node")
        .set("notify.channels.home.password", PASSWORD)
        .set("notify.channels.home.ca_file", ca_file().display())
        .set("notify.channels.home.client_id", "node1")
        .set("cameras.yard.name", "The yard")
}

#[track_caller]
fn says(observer: &Observer, topic: &str, payload: &str) {
    let said = observer
        .wait_until(PATIENCE, |newest| newest.get(topic).is_some_and(|bytes| bytes == payload.as_bytes()));
    assert!(said, "{topic} never says {payload}");
}

#[track_caller]
fn all_delivered(node: &Node) {
    eventually("everything is delivered", PATIENCE, || {
        (node.store().outbox_counts().unwrap().waiting == 0).then_some(())
    });
}

fn events(observer: &Observer) -> Vec<Observed> {
    observer.messages().into_iter().filter(|message| message.topic == "node1/yard/event").collect()
}

#[test]
fn a_home_is_told_what_goes_on_and_a_broker_that_dies_is_told_again() {
    let rules = MosquittoRules { tls: true, login: Some(("node".to_owned(), PASSWORD.to_owned())) };
    let mut broker = Mosquitto::start(&rules).unwrap();
    let observer = broker.observe();
    let mut node = with_home(&broker).start();
    says(&observer, "node1/availability", "online");
    says(&observer, "node1/yard/motion", "OFF");
    let config = "homeassistant/binary_sensor/node1/yard_motion/config";
    let announced = observer.wait_for(PATIENCE, |message| message.topic == config).unwrap().json();
    assert_eq!(announced["device"]["name"], "The yard");

    let mut camera = node.camera("yard", 3);
    let first = node.stir(&mut camera, "yard");
    let on = |message: &Observed| message.topic == "node1/yard/motion" && message.payload == "ON";
    assert!(observer.wait_for(PATIENCE, on).is_some(), "it was on while something moved");
    assert_eq!(events(&observer)[0].json()["event_type"], "motion");
    assert_eq!(events(&observer)[0].json()["event"], first.id.to_string());
    says(&observer, "node1/yard/motion", "OFF");
    drop(observer);

    broker.kill();
    let second = node.stir(&mut camera, "yard");
    eventually("an attempt has failed", PATIENCE, || {
        let labels = [("channel", "home"), ("result", "retry")];
        (node.metric("meerkat_notifications_total", &labels) >= 1.0).then_some(())
    });
    broker.restart().unwrap();
    let observer = broker.observe();
    all_delivered(&node);
    says(&observer, "node1/availability", "online");
    let ids: BTreeSet<String> = events(&observer).iter().map(|m| m.json()["event"].to_string()).collect();
    assert_eq!(ids, BTreeSet::from([format!("\"{}\"", second.id)]));
    assert!(events(&observer).iter().all(|message| !message.retained));

    // The node dies without a word: the broker says so for it, and the next life begins with what is true then.
    node.kill();
    says(&observer, "node1/availability", "offline");
    node.restart();
    says(&observer, "node1/availability", "online");
    assert!(node.stop().success(), "{}", node.log());
    says(&observer, "node1/availability", "offline");
}

const RELOADED: &str = "settings reloaded; listeners, data folder and threads keep what they started with";

#[test]
fn a_reload_leaves_a_home_in_peace_unless_something_about_it_has_changed() {
    let rules = MosquittoRules { tls: true, login: Some(("node".to_owned(), PASSWORD.to_owned())) };
    let broker = Mosquitto::start(&rules).unwrap();
    let observer = broker.observe();
    let mut node = with_home(&broker).file("[retention]\ndays = 5\n").start();
    says(&observer, "node1/availability", "online");
    let mut camera = node.camera("yard", 3);
    let mut reload = |node: &mut Node, toml: &str, times| {
        node.write_file(toml);
        node.signal(Signal::HUP);
        node.wait_for_logs(RELOADED, times);
        // Whatever connected anew has had its time when this is told.
        node.stir(&mut camera, "yard");
        all_delivered(node);
    };
    let gone = || {
        let is_gone = |message: &&Observed| {
            message.topic == "node1/availability" && message.payload == "offline" && !message.retained
        };
        observer.messages().iter().filter(is_gone).count()
    };
    reload(&mut node, "[retention]\ndays = 4\n", 1);
    assert_eq!(gone(), 0, "nothing about homes has changed");

    // A camera that is new is announced, by a connection that takes the other's place.
    let shed = "homeassistant/binary_sensor/node1/shed_motion/config";
    let after = "[cameras.shed]\nname = \"The shed\"\n";
    reload(&mut node, after, 2);
    let announced = observer.wait_for(PATIENCE, |message| message.topic == shed).unwrap().json();
    assert_eq!(announced["device"]["name"], "The shed");
    says(&observer, "node1/availability", "online");
    assert_eq!(gone(), 1);

    reload(&mut node, after, 3);
    assert_eq!(gone(), 1, "nothing has changed again");
    let last = observer.messages().into_iter().rfind(|message| message.topic == shed).unwrap();
    assert!(!last.payload.is_empty(), "nobody takes back what is there");
    assert!(node.stop().success(), "{}", node.log());
}

#[test]
fn letters_arrive_through_tls_and_the_same_letter_again() {
    let login = Some((USER.to_owned(), PASSWORD.to_owned()));
    let rules = MailRules { tls: MailTls::StartTls, login, ..MailRules::default() };
    let server = MailServer::start(rules).unwrap();
    let node = Plan::new()
        .with_quick_motion()
        .set("notify.language", "en")
        .set("notify.channels.mail.type", "email")
        .set("notify.channels.mail.host", "localhost")
        .set("notify.channels.mail.port", server.port())
        .set("notify.channels.mail.user", USER)
        .set("notify.channels.mail.password", PASSWORD)
        .set("notify.channels.mail.ca_file", ca_file().display())
        .set("notify.channels.mail.from", USER)
        .set("notify.channels.mail.to", "ann@example.org,bob@example.org")
        .set("notify.channels.mail.kinds", "motion")
        .set("notify.templates.en.motion", "{{ camera_name }} stirs")
        .set("clip.kinds", "motion")
        .set("clip.pre_roll_secs", 0)
        .set("clip.post_roll_secs", 0)
        .set("clip.preset", "ultrafast")
        .set("cameras.yard.name", "The <yard>")
        .start();
    let event = node.stir(&mut node.camera("yard", 3), "yard");
    let letter = server.wait_for(1, PATIENCE).unwrap().remove(0);
    assert!(letter.encrypted);
    assert_eq!((letter.from.as_str(), letter.to.len()), (USER, 2));
    assert_eq!(letter.header("Subject").as_deref(), Some("The <yard> stirs"));
    let row = eventually("the alert is delivered", PATIENCE, || {
        let row = node.store().alerts_of(event.id).unwrap().remove(0);
        (row.state == OutboxState::Delivered).then_some(row)
    });
    assert_eq!(letter.header("Message-ID"), Some(format!("<{}@example.org>", row.id)));
    let text = String::from_utf8(letter.letter).unwrap();
    assert!(text.contains("The &lt;yard&gt; stirs") && text.contains("Content-Type: image/jpeg"), "{text}");
    assert_eq!(server.complaints(), Vec::<String>::new());
}
