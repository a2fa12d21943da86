//! The channel against a real Mosquitto.

use std::collections::BTreeMap;
use std::net::TcpListener;

use meerkat_base::{EventId, ManualClock, WallTime};
use uuid::Uuid;

use super::*;
use crate::alert::DigestLine;
use crate::alert::tests::alert;
use crate::render::Language;
use crate::testing::tls::CA_PEM;
use crate::testing::{Mosquitto, MosquittoRules, Observed, Observer};

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(60);
/// Before all events of `alert`.
const START: WallTime = WallTime(1_795_210_000_000_000);

struct Scene {
    broker: Mosquitto,
    observer: Observer,
    mqtt: Mqtt,
    memory: MqttMemory,
    clock: ManualClock,
}

fn settings(broker: &Mosquitto) -> MqttSettings {
    let mut settings = MqttSettings::new("home", "127.0.0.1", "node1");
    settings.port = broker.port();
    settings.style.language = Language::English;
    settings.cameras = vec![(CameraId::parse("front").unwrap(), Some("前门".to_owned()))];
    settings
}

fn scene_with(rules: &MosquittoRules, change: impl FnOnce(&mut MqttSettings)) -> Scene {
    let broker = Mosquitto::start(rules).unwrap();
    let observer = broker.observe();
    let mut settings = settings(&broker);
    change(&mut settings);
    let (memory, clock) = (MqttMemory::default(), ManualClock::new(START));
    let mqtt = Mqtt::new(settings, &memory, Arc::new(clock.clone())).unwrap();
    mqtt.open();
    clock.advance(Duration::from_secs(3_600));
    Scene { broker, observer, mqtt, memory, clock }
}

fn scene() -> Scene {
    let s = scene_with(&MosquittoRules::default(), |_| {});
    s.says("node1/availability", "online");
    s
}

impl Scene {
    #[track_caller]
    fn says(&self, topic: &str, payload: &str) {
        says(&self.observer, topic, payload);
    }

    /// Everything under a topic. What was acknowledged before is among it: a broker keeps the order.
    fn of(&self, topic: &str) -> Vec<Observed> {
        let mark = format!("end/{}", Uuid::new_v4());
        self.observer.publish(&mark, false, "x");
        assert!(self.observer.wait_for(PATIENCE, |message| message.topic == mark).is_some());
        self.observer.messages().into_iter().filter(|message| message.topic == topic).collect()
    }

    /// What somebody gets who comes only now.
    fn retained(&self) -> BTreeMap<String, Bytes> {
        let newcomer = self.broker.observe();
        // Retained messages come in one piece; the last thing that is said is this.
        self.observer.publish("end/of/retained", false, "x");
        let end = newcomer.wait_for(PATIENCE, |message| message.topic == "end/of/retained");
        assert!(end.is_some(), "the broker says nothing");
        let messages = newcomer.messages().into_iter().filter(|message| message.retained);
        messages.map(|message| (message.topic, message.payload)).collect()
    }
}

#[track_caller]
fn says(observer: &Observer, topic: &str, payload: &str) {
    let said = observer
        .wait_until(PATIENCE, |newest| newest.get(topic).is_some_and(|bytes| bytes == payload.as_bytes()));
    assert!(said, "{topic} never says {payload}");
}

/// The `number`-th event of a kind, `number` minutes after the others.
fn event_of(kind: EventKind, number: u8, phase: EventPhase) -> Alert {
    let mut a = alert(kind, None);
    a.event = EventId(Uuid::from_u128(u128::from(number)));
    a.id = Uuid::from_u128(1_000 + 10 * u128::from(number) + phase as u128);
    a.started = a.started.offset_micros(i64::from(number) * 60_000_000);
    a.phase = phase;
    a
}

#[tokio::test]
async fn home_assistant_finds_everything_and_events_are_not_kept() {
    let s = scene();
    s.says("node1/front/motion", "OFF");
    s.says("node1/front/online", "None");
    s.says("node1/disk_low", "OFF");
    let mut started = event_of(EventKind::Motion, 1, EventPhase::Started);
    started.snapshot = Some(Bytes::from_static(b"\xff\xd8\xff jpeg"));
    assert_eq!(s.mqtt.deliver(&started).await, Outcome::Delivered);
    s.says("node1/front/motion", "ON");
    s.says("node1/front/online", "ON");
    assert_eq!(s.mqtt.deliver(&event_of(EventKind::Motion, 1, EventPhase::Ended)).await, Outcome::Delivered);
    s.says("node1/front/motion", "OFF");

    let events: Vec<serde_json::Value> = s.of("node1/front/event").iter().map(Observed::json).collect();
    assert_eq!(events.len(), 2);
    assert_eq!(
        (&events[0]["event_type"], &events[1]["event_type"]),
        (&"motion".into(), &"motion_ended".into())
    );
    assert_eq!(events[0]["id"], started.id.to_string());
    assert_eq!(events[0]["started"], "2026-11-20T21:32:14.123Z");
    assert!(events[0]["text"].as_str().unwrap().contains("motion"), "{}", events[0]);
    assert_eq!(s.of("node1/front/picture")[0].payload, started.snapshot.unwrap());

    let retained = s.retained();
    let kept: Vec<&str> = retained.keys().map(String::as_str).collect();
    assert!(!kept.iter().any(|topic| topic.ends_with("/event") || topic.ends_with("/picture")), "{kept:?}");
    assert_eq!(retained["node1/availability"], "online");
    assert_eq!(retained["node1/front/motion"], "OFF");
    let config = |topic: &str| -> serde_json::Value {
        let payload = retained.get(topic).unwrap_or_else(|| panic!("{topic} is missing: {kept:?}"));
        serde_json::from_slice(payload).unwrap()
    };
    let motion = config("homeassistant/binary_sensor/node1/front_motion/config");
    assert_eq!(motion["state_topic"], "node1/front/motion");
    assert_eq!(motion["availability_topic"], "node1/availability");
    assert_eq!(motion["device_class"], "motion");
    assert_eq!(motion["device"]["name"], "前门");
    assert_eq!(motion["device"]["via_device"], "node1");
    let event = config("homeassistant/event/node1/front_event/config");
    let types = event["event_types"].as_array().unwrap();
    for said in &events {
        assert!(types.contains(&said["event_type"]), "home assistant drops what is not announced: {types:?}");
    }
    config("homeassistant/image/node1/front_picture/config");
    config("homeassistant/binary_sensor/node1/front_online/config");
    config("homeassistant/binary_sensor/node1/node-disk_low/config");
    let ids: Vec<serde_json::Value> = kept
        .iter()
        .filter(|topic| topic.ends_with("/config"))
        .map(|topic| config(topic)["unique_id"].clone())
        .collect();
    let different: std::collections::BTreeSet<String> = ids.iter().map(ToString::to_string).collect();
    assert_eq!(ids.len(), different.len(), "{ids:?}");
    assert!(!kept.iter().any(|topic| topic.contains("face") || topic.contains("identity")), "{kept:?}");
}

#[tokio::test]
async fn states_do_not_depend_on_the_order_of_the_outbox() {
    let s = scene();
    let (started, ended) = (EventPhase::Started, EventPhase::Ended);
    for (number, phase) in [(2, ended), (2, started), (1, ended), (1, started)] {
        assert_eq!(s.mqtt.deliver(&event_of(EventKind::Person, number, phase)).await, Outcome::Delivered);
    }
    assert_eq!(s.mqtt.deliver(&event_of(EventKind::Motion, 3, started)).await, Outcome::Delivered);
    s.says("node1/front/motion", "ON");
    let states: Vec<Bytes> = s.of("node1/front/person").into_iter().map(|message| message.payload).collect();
    assert!(states.iter().all(|state| state == "OFF"), "{states:?}");
    assert_eq!(s.of("node1/front/event").len(), 5, "each event is told all the same");
    // An event of before this life of the node cannot go on.
    let mut old = event_of(EventKind::Person, 0, started);
    old.started = START.offset_micros(-1);
    assert_eq!(s.mqtt.deliver(&old).await, Outcome::Delivered);
    assert!(s.of("node1/front/person").iter().all(|state| state.payload == "OFF"));
}

#[tokio::test]
async fn an_end_that_was_summed_up_in_a_digest_is_an_end() {
    let s = scene();
    for kind in [EventKind::Motion, EventKind::Person] {
        assert_eq!(s.mqtt.deliver(&event_of(kind, 1, EventPhase::Started)).await, Outcome::Delivered);
    }
    s.says("node1/front/motion", "ON");
    let started = event_of(EventKind::Motion, 1, EventPhase::Ended).started;
    let line = DigestLine {
        camera: CameraId::parse("front").unwrap(),
        camera_name: None,
        kind: EventKind::Motion,
        count: 5,
    };
    let digest = Digest {
        id: Uuid::from_u128(7),
        oldest: started,
        newest: started,
        counts: vec![line],
        already_sent: 0,
    };
    assert_eq!(s.mqtt.deliver_digest(&digest).await, Outcome::Delivered);
    s.says("node1/front/motion", "OFF");
    s.says("node1/front/person", "ON");
}

#[tokio::test]
async fn a_broker_that_dies_loses_nothing_that_was_delivered_and_is_told_the_newest() {
    let mut s = scene();
    assert_eq!(
        s.mqtt.deliver(&event_of(EventKind::Motion, 1, EventPhase::Started)).await,
        Outcome::Delivered
    );
    s.says("node1/front/motion", "ON");
    s.broker.kill();
    let ended = event_of(EventKind::Motion, 1, EventPhase::Ended);
    match s.mqtt.deliver(&ended).await {
        Outcome::Retry { reason, sent: 0, .. } => assert!(reason.contains("broker"), "{reason}"),
        other => panic!("{other:?}"),
    }
    s.broker.restart().unwrap();
    let observer = s.broker.observe();
    // What the outbox does: again, under the same id.
    while s.mqtt.deliver(&ended).await != Outcome::Delivered {}
    says(&observer, "node1/front/motion", "OFF");
    says(&observer, "node1/availability", "online");
    let told = observer.wait_for(PATIENCE, |message| message.topic == "node1/front/event").unwrap();
    assert_eq!(told.json()["id"], ended.id.to_string());
    // What the new connection said first was the state as it was then, not what the broker had kept.
    let fresh: Vec<Observed> =
        observer.messages().into_iter().filter(|m| m.topic == "node1/front/motion" && !m.retained).collect();
    assert!(fresh.iter().all(|message| message.payload == "OFF"), "{fresh:?}");
}

#[tokio::test]
async fn tls_and_password_are_wanted_and_wrong_ones_explained() {
    let login = Some(("meerkat".to_owned(), "correct-horse".to_owned()));
    let rules = MosquittoRules { tls: true, login };
    let roots = ExtraRoots::parse(CA_PEM).unwrap();
    let right = |settings: &mut MqttSettings| {
        settings.tls = true;
        settings.roots = Some(roots.clone());
        settings.credentials = Some(("meerkat".to_owned(), Secret::new("correct-horse")));
    };
    let s = scene_with(&rules, right);
    assert_eq!(
        s.mqtt.deliver(&event_of(EventKind::Motion, 1, EventPhase::Started)).await,
        Outcome::Delivered
    );
    s.says("node1/front/motion", "ON");

    let reason_of = async |change: &dyn Fn(&mut MqttSettings)| {
        let mut wrong = settings(&s.broker);
        right(&mut wrong);
        wrong.client_id = "node2".to_owned();
        change(&mut wrong);
        let mqtt = Mqtt::new(wrong, &MqttMemory::default(), Arc::new(s.clock.clone())).unwrap();
        mqtt.open();
        let a = event_of(EventKind::Motion, 1, EventPhase::Started);
        loop {
            match mqtt.deliver(&a).await {
                // It has not been tried yet.
                Outcome::Retry { reason, .. } if reason.ends_with("not connected yet") => {}
                Outcome::Retry { reason, sent: 0, after } => {
                    assert!(after.is_some() && !reason.contains("horse"), "{reason}");
                    break (reason.clone(), mqtt.explain(&reason).is_some());
                }
                other => panic!("{other:?}"),
            }
        }
    };
    let (reason, explained) = reason_of(&|wrong| {
        wrong.credentials = Some(("meerkat".to_owned(), Secret::new("battery-horse")));
    })
    .await;
    assert!(reason.contains("refuses user and password") && explained, "{reason}");
    let other = ExtraRoots::parse(include_bytes!("../../outbound/client/tls/test-ca.pem")).unwrap();
    let (reason, explained) = reason_of(&|wrong| wrong.roots = Some(other.clone())).await;
    assert!(reason.contains("certificate") && explained, "{reason}");
    let (reason, explained) = reason_of(&|wrong| {
        wrong.tls = false;
        wrong.host = "192.0.2.1".to_owned();
    })
    .await;
    assert!(reason.contains("in the clear") && explained, "{reason}");
    let (reason, _) = reason_of(&|wrong| wrong.host = "169.254.169.254".to_owned()).await;
    assert!(reason.contains("link-local"), "{reason}");
}

#[tokio::test]
async fn everything_is_announced_again_when_home_assistant_comes() {
    let s = scene();
    let topic = "homeassistant/binary_sensor/node1/front_motion/config";
    let counted = |s: &Scene| s.of(topic).len();
    let before = counted(&s);
    s.observer.publish("homeassistant/status", true, "online");
    assert!(s.observer.wait_until(PATIENCE, |_| true));
    let mut last = before;
    let end = std::time::Instant::now() + PATIENCE;
    while last <= before {
        assert!(std::time::Instant::now() < end, "nothing is announced again");
        s.observer.wait_for(Duration::from_millis(50), |_| false);
        last = counted(&s);
    }
    s.observer.publish("homeassistant/status", false, "offline");
    // What follows is answered in order: nothing was announced for that.
    assert_eq!(
        s.mqtt.deliver(&event_of(EventKind::Motion, 1, EventPhase::Started)).await,
        Outcome::Delivered
    );
    s.says("node1/front/motion", "ON");
    assert_eq!(counted(&s), last);
}

#[tokio::test]
async fn entities_of_cameras_that_are_gone_are_taken_back() {
    let s = scene();
    let old = "homeassistant/binary_sensor/node1/garage_motion/config";
    let others = "homeassistant/binary_sensor/node2/garage_motion/config";
    s.observer.publish(old, true, "{}");
    s.observer.publish(others, true, "{}");
    says(&s.observer, others, "{}");
    let Scene { broker, observer, mqtt, memory, clock } = s;
    drop(mqtt);
    says(&observer, "node1/availability", "offline");
    let mqtt = Mqtt::new(settings(&broker), &memory, Arc::new(clock.clone())).unwrap();
    mqtt.open();
    says(&observer, old, "");
    let s = Scene { broker, observer, mqtt, memory, clock };
    let kept = s.retained();
    assert!(!kept.contains_key(old) && kept.contains_key(others), "{:?}", kept.keys());
    assert!(kept.contains_key("homeassistant/binary_sensor/node1/front_motion/config"));
}

#[tokio::test]
async fn what_goes_on_is_remembered_when_the_channel_is_built_anew() {
    let s = scene();
    assert_eq!(
        s.mqtt.deliver(&event_of(EventKind::Motion, 1, EventPhase::Started)).await,
        Outcome::Delivered
    );
    s.says("node1/front/motion", "ON");
    // The new one is there before the old one goes, as when settings are reloaded.
    let next = Mqtt::new(settings(&s.broker), &s.memory, Arc::new(s.clock.clone())).unwrap();
    next.open();
    drop(s.mqtt);
    assert_eq!(next.deliver(&event_of(EventKind::Person, 1, EventPhase::Started)).await, Outcome::Delivered);
    says(&s.observer, "node1/front/person", "ON");
    says(&s.observer, "node1/availability", "online");
    let states: Vec<Observed> =
        s.observer.messages().into_iter().filter(|m| m.topic == "node1/front/motion").collect();
    assert_eq!(states.last().unwrap().payload, "ON", "{states:?}");
}

#[tokio::test]
async fn only_who_is_opened_connects_and_who_is_closed_never_again() {
    let s = scene();
    // Under the same client id: if it connected, the broker would throw the first one out.
    let next = Mqtt::new(settings(&s.broker), &s.memory, Arc::new(s.clock.clone())).unwrap();
    let motion = |number| event_of(EventKind::Motion, number, EventPhase::Started);
    assert_eq!(s.mqtt.deliver(&motion(1)).await, Outcome::Delivered);
    assert!(matches!(*next.connection.lock().unwrap(), Connection::None));
    assert!(!s.of("node1/availability").iter().any(|message| message.payload == "offline"));

    s.mqtt.close();
    next.open();
    assert_eq!(next.deliver(&motion(2)).await, Outcome::Delivered);
    match s.mqtt.deliver(&motion(3)).await {
        Outcome::Retry { reason, sent: 0, .. } => assert!(reason.contains("closed"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(next.deliver(&motion(3)).await, Outcome::Delivered);
    let said = s.of("node1/availability");
    let gone = said.iter().filter(|message| message.payload == "offline").count();
    assert_eq!((gone, &said.last().unwrap().payload[..]), (1, &b"online"[..]), "{said:?}");
}

#[tokio::test]
async fn faces_stay_at_home_unless_allowed_and_are_never_kept() {
    let face = |number| {
        let mut a = event_of(EventKind::Face, number, EventPhase::Started);
        a.snapshot = Some(Bytes::from_static(b"\xff\xd8\xff face"));
        a.identities = vec!["Ann".to_owned()];
        a
    };
    let s = scene();
    assert_eq!(s.mqtt.deliver(&face(1)).await, Outcome::Delivered);
    let said = s.observer.wait_for(PATIENCE, |message| message.topic == "node1/front/event").unwrap();
    assert!(!String::from_utf8_lossy(&said.payload).contains("Ann"), "{said:?}");
    assert!(s.of("node1/front/picture").is_empty() && s.of("node1/front/identity").is_empty());
    assert!(s.of("node1/front/face").is_empty());

    let s = scene_with(&MosquittoRules::default(), |settings| settings.pictures.include_faces = true);
    assert_eq!(s.mqtt.deliver(&face(1)).await, Outcome::Delivered);
    s.says("node1/front/identity", "Ann");
    s.says("node1/front/face", "ON");
    assert_eq!(s.of("node1/front/picture")[0].payload, &b"\xff\xd8\xff face"[..]);
    let kept = s.retained();
    let secret = |payload: &Bytes| payload.windows(3).any(|part| part == b"Ann" || part == b"\xff\xd8\xff");
    assert!(!kept.values().any(secret), "{:?}", kept.keys());
    assert!(kept.contains_key("homeassistant/sensor/node1/front_identity/config"));
}

#[tokio::test]
async fn notices_unknown_cameras_clips_digests_and_tests_are_told() {
    let s = scene();
    let mut silent = event_of(EventKind::CameraSilent, 1, EventPhase::Started);
    assert_eq!(s.mqtt.deliver(&silent).await, Outcome::Delivered);
    s.says("node1/front/online", "OFF");
    silent.phase = EventPhase::Ended;
    assert_eq!(s.mqtt.deliver(&silent).await, Outcome::Delivered);
    s.says("node1/front/online", "ON");

    let mut disk = event_of(EventKind::DiskLow, 2, EventPhase::Started);
    disk.camera = CameraId::node();
    disk.camera_name = None;
    assert_eq!(s.mqtt.deliver(&disk).await, Outcome::Delivered);
    s.says("node1/disk_low", "ON");
    assert_eq!(s.of("node1/event")[0].json()["event_type"], "disk_low");

    let mut unnamed = event_of(EventKind::Motion, 3, EventPhase::Started);
    unnamed.camera = CameraId::unnamed("10.0.0.5".parse().unwrap(), 2);
    unnamed.camera_name = None;
    assert_eq!(s.mqtt.deliver(&unnamed).await, Outcome::Delivered);
    s.says("node1/10-0-0-5--2/motion", "ON");
    assert!(s.retained().contains_key("homeassistant/binary_sensor/node1/10-0-0-5--2_motion/config"));

    let clip = ClipPart {
        part: 1,
        name: "front.mp4".to_owned(),
        file: None,
        link: Some("https://example.org/c".to_owned()),
        duration: Duration::from_secs(12),
    };
    let person = event_of(EventKind::Person, 4, EventPhase::Started);
    assert!(s.mqtt.takes_clips() && s.mqtt.clip_limit().is_none());
    assert_eq!(s.mqtt.deliver_clip(&person, &clip).await, Outcome::Delivered);
    let told = s.observer.wait_for(PATIENCE, |m| m.json()["event_type"] == "clip").unwrap().json();
    assert_eq!(
        (&told["link"], &told["id"], &told["part"]),
        (&"https://example.org/c".into(), &person.id.to_string().into(), &"clip".into())
    );
    let face = event_of(EventKind::Face, 5, EventPhase::Started);
    assert!(matches!(s.mqtt.deliver_clip(&face, &clip).await, Outcome::Refused { .. }));

    let digest = Digest {
        id: Uuid::from_u128(7),
        oldest: WallTime(0),
        newest: WallTime(1),
        counts: vec![],
        already_sent: 0,
    };
    assert_eq!(s.mqtt.deliver_digest(&digest).await, Outcome::Delivered);
    let test = TestMessage { id: Uuid::from_u128(8), time: WallTime(0) };
    assert_eq!(s.mqtt.deliver_test(&test).await, Outcome::Delivered);
    let types: Vec<serde_json::Value> =
        s.of("node1/event").iter().map(|message| message.json()["event_type"].clone()).collect();
    assert_eq!(types, ["disk_low", "digest", "test"]);
}

#[tokio::test]
async fn a_step_that_arrived_is_not_taken_again() {
    let s = scene();
    let mut a = event_of(EventKind::Person, 1, EventPhase::Started);
    a.snapshot = Some(Bytes::from_static(b"jpeg"));
    a.already_sent = 1;
    assert_eq!(s.mqtt.deliver(&a).await, Outcome::Delivered);
    s.says("node1/front/picture", "jpeg");
    s.says("node1/front/person", "ON");
    assert_eq!(s.of("node1/front/event"), []);
}

#[tokio::test]
async fn what_is_no_broker_is_survived() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answering = std::thread::spawn(move || {
        use std::io::{Read, Write};
        // Nonsense, an acknowledgement of nothing, and at last a refusal that can be understood.
        let answers: [&[u8]; 3] = [
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"\x20\x02\x00\x00\x40\x02\x00\x63\x62\x02\x00\x01",
            b"\x20\x02\x00\x05",
        ];
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(answer);
        }
    });
    let clock = Arc::new(ManualClock::new(START));
    let mut settings = MqttSettings::new("home", "127.0.0.1", "node1");
    settings.port = port;
    let mqtt = Mqtt::new(settings, &MqttMemory::default(), clock).unwrap();
    mqtt.open();
    let a = event_of(EventKind::Motion, 1, EventPhase::Started);
    loop {
        match mqtt.deliver(&a).await {
            Outcome::Retry { reason, .. } if reason.contains("refuses user and password") => break,
            Outcome::Retry { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    answering.join().unwrap();
}

#[test]
fn settings_that_cannot_be_topics_are_named() {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(START));
    let refused = |change: &dyn Fn(&mut MqttSettings)| {
        let mut settings = MqttSettings::new("home", "127.0.0.1", "node1");
        change(&mut settings);
        match Mqtt::new(settings, &MqttMemory::default(), Arc::clone(&clock)) {
            Err(BadMqtt::Topic { key, .. }) => key,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(&|settings| settings.client_id = "a/b".to_owned()), "client_id");
    assert_eq!(refused(&|settings| settings.client_id = "x".repeat(65)), "client_id");
    assert_eq!(refused(&|settings| settings.topic_prefix = "a/#".to_owned()), "topic_prefix");
    assert_eq!(refused(&|settings| settings.discovery_prefix = Some("+".to_owned())), "discovery_prefix");
}
