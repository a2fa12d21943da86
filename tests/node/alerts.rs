//! People are told of every event: late when they cannot be reached, once even when the node dies, and never faster
//! than the service allows.

use std::collections::BTreeSet;
use std::time::Duration;

use meerkat_notify::testing::{Fault, MockServer, Received};
use meerkat_store::{EventRow, OutboxRow, OutboxState};

use crate::harness::{Node, PATIENCE, Plan, eventually, stir};

const SECRET: &str = "a-secret-of-the-tests";
const KEY: &str = "693a91f6-7xxx-4bc4-97a0-0ec2sifa5aaa";

/// A node that tells a webhook of every motion.
fn with_hook(hook: &MockServer) -> Plan {
    Plan::new()
        .with_quick_motion()
        .set("notify.channels.hook.type", "webhook")
        .set("notify.channels.hook.url", hook.base())
        .set("notify.channels.hook.secret", SECRET)
        .set("notify.channels.hook.kinds", "motion")
        .set("cameras.yard.name", "The yard")
}

/// Id, event, and whether it came before, of everything the webhook accepted.
fn hooks(received: &[Received]) -> Vec<(String, String, bool)> {
    received
        .iter()
        .map(|message| match message {
            Received::Hook { id, repeated, body } => {
                assert_eq!(body["type"], "alert", "{body}");
                assert_eq!(
                    (&body["camera"], &body["camera_name"]),
                    (&"yard".into(), &"The yard".into()),
                    "{body}"
                );
                assert_eq!((&body["kind"], &body["phase"]), (&"motion".into(), &"started".into()), "{body}");
                (id.clone(), body["event"].as_str().unwrap().to_owned(), *repeated)
            }
            other => panic!("not for a webhook: {other:?}"),
        })
        .collect()
}

#[test]
fn what_was_sent_before_a_restart_counts_against_the_limit_after_it() {
    let hook = MockServer::webhook(SECRET).unwrap();
    let mut node = with_hook(&hook).set("notify.channels.hook.per_minute", 2).start();
    let mut camera = node.camera("yard", 3);
    let told = [node.stir(&mut camera, "yard"), node.stir(&mut camera, "yard")];
    for event in &told {
        wait_for_state(&node, event, OutboxState::Delivered);
    }
    node.kill();
    node.restart();
    let late = node.stir(&mut node.camera("yard", 3), "yard");
    eventually("the limit holds it back", PATIENCE, || {
        let held = node.metric("meerkat_channel_held_back_total", &[("channel", "hook")]);
        (held >= 1.0).then_some(())
    });
    assert_eq!(alert_of(&node, &late).state, OutboxState::Waiting);
    assert_eq!(hook.received().len(), 2);
}

/// The one alert of an event.
#[track_caller]
fn alert_of(node: &Node, event: &EventRow) -> OutboxRow {
    let mut rows = node.store().alerts_of(event.id).unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.remove(0)
}

#[track_caller]
fn wait_for_state(node: &Node, event: &EventRow, state: OutboxState) -> OutboxRow {
    eventually(&format!("the alert is {state:?}"), PATIENCE, || {
        Some(alert_of(node, event)).filter(|row| row.state == state)
    })
}

fn deliveries(node: &Node, channel: &str, result: &str) -> f64 {
    node.metric("meerkat_notifications_total", &[("channel", channel), ("result", result)])
}

#[track_caller]
fn wait_for_failed_attempt(node: &Node) {
    eventually("an attempt has failed", PATIENCE, || {
        (deliveries(node, "hook", "retry") >= 1.0).then_some(())
    });
}

#[test]
fn an_outage_and_a_death_delay_alerts_but_lose_and_double_none() {
    let hook = MockServer::webhook(SECRET).unwrap();
    let mut node = with_hook(&hook).start();
    hook.set_outage(true);
    let mut camera = node.camera("yard", 3);
    let first = node.stir(&mut camera, "yard");
    wait_for_failed_attempt(&node);
    eventually("the alert is seen to wait", PATIENCE, || {
        let metric = node.metric("meerkat_outbox_waiting", &[]);
        (metric == 1.0 && node.status()["queues"]["outbox_waiting"] == 1).then_some(())
    });
    let waiting = alert_of(&node, &first);
    assert_eq!(waiting.state, OutboxState::Waiting);
    assert!(waiting.last_error.is_some(), "it is not said why it waits");
    assert_eq!(hook.received(), []);
    hook.set_outage(false);
    hook.wait_for(1, PATIENCE).unwrap();
    wait_for_state(&node, &first, OutboxState::Delivered);

    hook.set_outage(true);
    let second = node.stir(&mut camera, "yard");
    let third = node.stir(&mut camera, "yard");
    eventually("both wait", PATIENCE, || (node.store().outbox_counts().unwrap().waiting == 2).then_some(()));
    node.kill();
    node.restart();
    wait_for_failed_attempt(&node);
    hook.set_outage(false);
    hook.wait_for(3, PATIENCE).unwrap();

    // One more, so that whatever would come twice has had its chance.
    let fourth = node.stir(&mut node.camera("yard", 3), "yard");
    hook.wait_for(4, PATIENCE).unwrap();
    for event in [&second, &third, &fourth] {
        wait_for_state(&node, event, OutboxState::Delivered);
    }
    let received = hooks(&hook.received());
    let told: BTreeSet<(String, String)> =
        received.iter().map(|(id, event, _)| (id.clone(), event.clone())).collect();
    let stored: BTreeSet<(String, String)> = [&first, &second, &third, &fourth]
        .iter()
        .map(|event| (alert_of(&node, event).id.to_string(), event.id.to_string()))
        .collect();
    assert_eq!(told, stored, "each event is told under the key that its row has");
    assert_eq!(received.len(), 4, "{received:?}");
    assert_eq!(hook.refused(), Vec::<String>::new());
    let counts = node.store().outbox_counts().unwrap();
    assert_eq!((counts.waiting, counts.delivered, counts.dead), (0, 4, 0));
    assert_eq!(deliveries(&node, "hook", "ok"), 3.0, "since the restart");
    eventually("nothing is said to wait", PATIENCE, || {
        (node.metric("meerkat_outbox_waiting", &[]) == 0.0).then_some(())
    });
    assert!(node.stop().success(), "{}", node.log());
}

#[test]
fn an_answer_that_is_lost_leads_to_the_same_alert_again_under_the_same_key() {
    let hook = MockServer::webhook(SECRET).unwrap();
    hook.script([Fault::CutBeforeAnswer, Fault::Status(503, "Retry-After: 1\r\n", "later")]);
    let node = with_hook(&hook).start();
    let event = node.stir(&mut node.camera("yard", 3), "yard");
    hook.wait_for(2, PATIENCE).unwrap();
    let row = wait_for_state(&node, &event, OutboxState::Delivered);
    let id = row.id.to_string();
    let event = event.id.to_string();
    assert_eq!(hooks(&hook.received()), [(id.clone(), event.clone(), false), (id, event, true)]);
    assert_eq!(hook.requests(), 3);
    let metrics = node.metrics();
    let results = ["ok", "retry", "refused"]
        .map(|result| metrics.sum("meerkat_notifications_total", &[("channel", "hook"), ("result", result)]));
    assert_eq!(results, [1.0, 2.0, 0.0]);
}

#[test]
fn an_alert_that_is_refused_for_good_is_kept_as_a_dead_letter_and_not_sent_again() {
    let hook = MockServer::webhook(SECRET).unwrap();
    hook.script([Fault::Status(410, "", "nobody lives here")]);
    let mut node = with_hook(&hook).start();
    let mut camera = node.camera("yard", 3);
    let refused = node.stir(&mut camera, "yard");
    let letter = wait_for_state(&node, &refused, OutboxState::Dead);
    assert!(letter.last_error.as_ref().unwrap().contains("410"), "{letter:?}");
    assert_eq!(deliveries(&node, "hook", "refused"), 1.0);
    let delivered = node.stir(&mut camera, "yard");
    wait_for_state(&node, &delivered, OutboxState::Delivered);
    node.kill();
    node.restart();
    // A dead letter stays dead, even in a new life.
    let last = node.stir(&mut node.camera("yard", 3), "yard");
    wait_for_state(&node, &last, OutboxState::Delivered);
    assert_eq!(hook.requests(), 3);
    let counts = node.store().outbox_counts().unwrap();
    assert_eq!((counts.waiting, counts.delivered, counts.dead), (0, 2, 1));
    assert_eq!(alert_of(&node, &refused).state, OutboxState::Dead);
}

#[test]
fn a_robot_is_never_told_faster_than_it_allows() {
    let robot = MockServer::wecom(KEY).unwrap();
    let node = Plan::new()
        .with_quick_motion()
        .set("notify.language", "en")
        .set("notify.channels.robot.type", "wecom")
        .set("notify.channels.robot.url", format!("{}/cgi-bin/webhook/send?key={KEY}", robot.base()))
        .set("notify.channels.robot.kinds", "motion")
        // Clips would be messages of their own, under the same limit.
        .set("notify.channels.robot.include_clip", "false")
        .set("clip.kinds", "motion")
        .set("clip.pre_roll_secs", 0)
        .set("clip.post_roll_secs", 0)
        .set("clip.preset", "ultrafast")
        .start();
    // Ten events, a text and a picture each, are all that it takes in a minute.
    let mut camera = node.camera("yard", 3);
    let events: Vec<EventRow> = (0..11).map(|_| node.stir(&mut camera, "yard")).collect();
    robot.wait_for(20, PATIENCE).unwrap();
    let held_back = eventually("one alert is held back", PATIENCE, || {
        let waits = |event: &&EventRow| alert_of(&node, event).state == OutboxState::Waiting;
        let waiting: Vec<&EventRow> = events.iter().filter(waits).collect();
        (waiting.len() == 1).then(|| waiting[0])
    });
    assert_eq!(robot.requests(), 20, "holding back is the node's business, not the robot's");
    robot.wait_for(22, Duration::from_secs(61) + PATIENCE).unwrap();
    wait_for_state(&node, held_back, OutboxState::Delivered);
    assert_eq!(robot.refused(), Vec::<String>::new());
    let received = robot.received();
    let texts: Vec<&String> = received
        .iter()
        .filter_map(|m| if let Received::Text(text) = m { Some(text) } else { None })
        .collect();
    assert_eq!((received.len(), texts.len()), (22, 11));
    assert!(texts.iter().all(|text| text.contains("yard")), "{texts:?}");
    // The pictures are the snapshots, unchanged.
    let sent: BTreeSet<Vec<u8>> = received
        .iter()
        .filter_map(|m| if let Received::Picture(picture) = m { Some(picture.clone()) } else { None })
        .collect();
    let snapshots: BTreeSet<Vec<u8>> = node
        .events("yard")
        .iter()
        .map(|row| std::fs::read(node.data().join(row.snapshot.as_ref().unwrap())).unwrap())
        .collect();
    assert!(sent == snapshots, "{} pictures, {} snapshots", sent.len(), snapshots.len());
}

#[test]
fn a_message_whose_booking_was_lost_comes_once_more_under_its_key() {
    let hook = MockServer::webhook(SECRET).unwrap();
    let mut node = with_hook(&hook).start();
    let mut camera = node.camera("yard", 3);
    let first = node.stir(&mut camera, "yard");
    wait_for_state(&node, &first, OutboxState::Delivered);
    // The service has the message, and the node never learns it.
    hook.script([Fault::CutBeforeAnswer]);
    let second = node.stir(&mut camera, "yard");
    hook.wait_for(2, PATIENCE).unwrap();
    node.kill();
    node.restart();
    hook.wait_for(3, PATIENCE).unwrap();
    wait_for_state(&node, &second, OutboxState::Delivered);
    // One more, so that whatever would come twice has had its chance.
    let third = node.stir(&mut node.camera("yard", 3), "yard");
    wait_for_state(&node, &third, OutboxState::Delivered);
    let received = hooks(&hook.received());
    let key = alert_of(&node, &second).id.to_string();
    let copies: Vec<_> = received.iter().filter(|(id, ..)| *id == key).map(|(.., again)| *again).collect();
    assert_eq!(copies, [false, true], "{received:?}");
    assert_eq!(received.len(), 4, "{received:?}");
}

#[test]
fn while_nothing_can_be_written_down_nothing_is_sent_twice() {
    let hook = MockServer::webhook(SECRET).unwrap();
    let mut node = with_hook(&hook).with_faults().start();
    let mut camera = node.camera("yard", 3);
    hook.script([Fault::Status(503, "Retry-After: 6\r\n", "later")]);
    let event = node.stir(&mut camera, "yard");
    eventually("an attempt has failed", PATIENCE, || (alert_of(&node, &event).attempts == 1).then_some(()));
    // From here on the database can be read, and what becomes of a message cannot be written.
    node.order("disk commit eio 1000000");
    hook.wait_for(1, PATIENCE).unwrap();
    node.wait_for_log("what became of a message cannot be written down; nothing else is sent until then");
    assert!(hook.wait_for(2, Duration::from_secs(8)).is_err(), "it came again: {:?}", hook.received());
    assert_eq!(alert_of(&node, &event).state, OutboxState::Waiting);
    node.order("release");
    wait_for_state(&node, &event, OutboxState::Delivered);
    let last = node.stir(&mut camera, "yard");
    wait_for_state(&node, &last, OutboxState::Delivered);
    let received = hooks(&hook.received());
    assert_eq!(received.len(), 2, "{received:?}");
    assert!(received.iter().all(|(.., repeated)| !repeated), "{received:?}");
}

/// `meerkat alerts …` with the data folder, and the address, of a node that may run there.
fn alerts(plan: Plan, node: &Node, arguments: &[&str]) -> (Option<i32>, String) {
    let plan = plan.set("http.listen", node.http_address());
    let mut command = plan.command(node.data().parent().unwrap());
    let output = command.arg("alerts").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), said + &String::from_utf8_lossy(&output.stderr))
}

#[test]
fn alerts_are_listed_retried_and_dropped_beside_a_node_and_without_one() {
    let hook = MockServer::webhook(SECRET).unwrap();
    hook.script([Fault::Status(410, "", ""), Fault::Status(410, "", ""), Fault::Status(410, "", "")]);
    let plan = || with_hook(&hook);
    let mut node = plan().start();
    let mut camera = node.camera("yard", 3);
    let events: Vec<EventRow> = (0..3).map(|_| node.stir(&mut camera, "yard")).collect();
    for event in &events {
        wait_for_state(&node, event, OutboxState::Dead);
    }
    let id = |event: &EventRow| alert_of(&node, event).id.to_string();
    let ids: Vec<String> = events.iter().map(id).collect();
    let json = |said: &str| -> Vec<serde_json::Value> {
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let (code, said) = alerts(plan(), &node, &["list", "--state", "dead", "--camera", "yard", "--json"]);
    assert_eq!(code, Some(0), "{said}");
    let listed = json(&said);
    let shown: Vec<&str> = listed.iter().map(|alert| alert["id"].as_str().unwrap()).collect();
    assert_eq!(shown, [&ids[2], &ids[1], &ids[0]], "the newest first");
    assert!(listed[0]["last_error"].as_str().unwrap().contains("410"), "{said}");
    let (_, said) = alerts(plan(), &node, &["list", "--channel", "other", "--json"]);
    assert_eq!(said, "");

    let (code, said) = alerts(plan(), &node, &["retry", &ids[0]]);
    assert_eq!(code, Some(0), "{said}");
    wait_for_state(&node, &events[0], OutboxState::Delivered);
    let (code, said) = alerts(plan(), &node, &["retry", &ids[0]]);
    assert!(code == Some(1) && said.contains("this alert is delivered"), "{said}");
    let (code, said) = alerts(plan(), &node, &["drop", &ids[1]]);
    assert_eq!(code, Some(0), "{said}");
    assert!(node.store().alerts_of(events[1].id).unwrap().is_empty());
    let channels = node.status()["channels"].clone();
    assert_eq!((&channels[0]["name"], &channels[0]["breaker"]), (&"hook".into(), &"closed".into()));

    assert!(node.stop().success());
    let (code, said) = alerts(plan(), &node, &["list", "--json"]);
    let states: Vec<String> = json(&said).iter().map(|alert| alert["state"].to_string()).collect();
    assert_eq!((code, states), (Some(0), vec!["\"dead\"".to_owned(), "\"delivered\"".to_owned()]));
    let (code, said) = alerts(plan(), &node, &["retry", "--all-dead"]);
    assert_eq!((code, said.as_str()), (Some(0), "1 dead letters wait again\n"));
    node.restart();
    wait_for_state(&node, &events[2], OutboxState::Delivered);
    let (code, said) = alerts(plan(), &node, &["test", "nobody"]);
    assert!(code == Some(2) && said.contains("channels: hook"), "{said}");
}

#[test]
fn a_channel_is_tried_out_beside_a_node_and_without_one_and_a_refusal_is_explained() {
    let hook = MockServer::webhook(SECRET).unwrap();
    let plan = || with_hook(&hook);
    let mut node = plan().start();
    let (code, said) = alerts(plan(), &node, &["test", "hook"]);
    assert!(code == Some(0) && said.contains("delivered"), "{said}");
    hook.script([Fault::Status(404, "", "")]);
    let (code, said) = alerts(plan(), &node, &["test", "hook"]);
    assert!(code == Some(1) && said.contains("refused for good") && said.contains("404"), "{said}");
    assert!(node.stop().success());
    let (code, said) = alerts(plan(), &node, &["test", "hook"]);
    assert!(code == Some(0) && said.contains("delivered"), "{said}");
    let tests: Vec<_> = hook
        .received()
        .into_iter()
        .map(|message| match message {
            Received::Hook { body, .. } => body["type"].as_str().unwrap().to_owned(),
            other => panic!("not for a webhook: {other:?}"),
        })
        .collect();
    assert_eq!(tests, ["test", "test"]);
}

#[test]
fn a_clip_follows_its_alert_as_a_link_that_opens_it_without_login() {
    let hook = MockServer::webhook(SECRET).unwrap();
    // The public address must be known before the node has its port.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let node = with_hook(&hook)
        .set("http.listen", free)
        .set("http.token", "correct-horse")
        .set("http.public_url", format!("http://{free}"))
        .set("clip.kinds", "motion")
        .set("clip.pre_roll_secs", 0)
        .set("clip.post_roll_secs", 0)
        .set("clip.preset", "ultrafast")
        .start();
    stir(&mut node.camera("yard", 3));
    let received = hook.wait_for(2, PATIENCE).unwrap();
    let bodies: Vec<_> = received
        .iter()
        .map(|message| match message {
            Received::Hook { id, body, .. } => (id, body),
            other => panic!("not for a webhook: {other:?}"),
        })
        .collect();
    assert_eq!((&bodies[0].1["part"], &bodies[1].1["part"]), (&"alert".into(), &"clip".into()));
    assert_eq!(bodies[0].0, bodies[1].0, "under the same key");
    let link = bodies[1].1["clip"]["link"].as_str().unwrap();
    let path = link.strip_prefix(&format!("http://{free}")).unwrap();
    let clip = node.get(path);
    assert_eq!(clip.status, 200, "{}", clip.text());
    assert_eq!(&clip.body[4..8], b"ftyp", "an MP4");
    assert_eq!(node.get(&path.replace("until=1", "until=2")).status, 403);
    assert_eq!(node.get("/api/v1/alerts").status, 401, "everything else wants the token");
    let rows = eventually("both parts are booked", PATIENCE, || {
        let event: meerkat_base::EventId = bodies[0].1["event"].as_str().unwrap().parse().unwrap();
        let rows = node.store().alerts_of(event).unwrap();
        rows.iter().all(|row| row.state == OutboxState::Delivered).then_some(rows)
    });
    assert_eq!(rows.iter().map(|row| row.part).collect::<Vec<_>>(), [0, 1]);
}
