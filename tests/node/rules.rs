//! Which events people are told of: rules, quiet hours and snoozes in the real program, and what the node says about
//! itself.

use std::process::Output;

use meerkat_base::{Clock, EventKind, EventPhase, SystemClock};
use meerkat_notify::testing::{MockServer, Received};
use meerkat_store::{EventRow, OutboxRow, OutboxState};
use serde_json::Value;

use crate::harness::{Node, PATIENCE, Plan, eventually, jpeg};

const SECRET: &str = "a-secret-of-the-tests";

/// A node in which motion is quickly over, with a webhook that says nothing about what it is told.
fn plan(hook: &MockServer) -> Plan {
    channel(Plan::new().with_quick_motion(), "hook", hook)
        .set("notify.language", "en")
        .set("notify.notices.settle_secs", 0.3)
        .set("notify.notices.calm_secs", 0.3)
        .set("cameras.yard.name", "The yard")
}

fn channel(plan: Plan, name: &str, hook: &MockServer) -> Plan {
    plan.set(&format!("notify.channels.{name}.type"), "webhook")
        .set(&format!("notify.channels.{name}.url"), hook.base())
        .set(&format!("notify.channels.{name}.secret"), SECRET)
}

/// The messages that were accepted.
fn bodies(hook: &MockServer) -> Vec<Value> {
    let body = |received: Received| match received {
        Received::Hook { body, .. } => body,
        other => panic!("not for a webhook: {other:?}"),
    };
    hook.received().into_iter().map(body).collect()
}

/// The first message of a kind and phase; waits for it.
#[track_caller]
fn told(hook: &MockServer, kind: &str, phase: &str) -> Value {
    eventually(&format!("{kind} {phase} is told"), PATIENCE, || {
        bodies(hook).into_iter().find(|body| body["kind"] == kind && body["phase"] == phase)
    })
}

fn text(body: &Value) -> &str {
    body["text"].as_str().unwrap()
}

#[track_caller]
fn alerts(node: &Node, event: &EventRow) -> Vec<OutboxRow> {
    node.store().alerts_of(event.id).unwrap()
}

#[test]
fn a_camera_that_falls_silent_is_told_and_so_is_that_it_is_back() {
    let hook = MockServer::webhook(SECRET).unwrap();
    let node = plan(&hook).set("cameras.yard.silent_after_secs", 1).start();
    let picture = jpeg(64, 48, 1);
    let mut yard = node.camera("yard", 3);
    let mut nobody = node.connect();
    assert_eq!(nobody.mode(3), b'1');
    assert_eq!((yard.frame(&picture), nobody.frame(&picture)), (b'1', b'1'));
    let silent = told(&hook, "camera_silent", "started");
    assert_eq!((&silent["camera"], &silent["camera_name"]), (&"yard".into(), &"The yard".into()));
    assert!(text(&silent).contains("no picture for 1 s"), "{silent}");
    let row = node.notices("yard").remove(0);
    assert_eq!((row.kind, row.ended), (EventKind::CameraSilent, None));
    assert_eq!(row.detail.as_deref(), Some("no picture for 1 s"));
    assert_eq!(silent["event"], row.id.to_string());

    let back = eventually("it is back", PATIENCE, || {
        assert_eq!(yard.frame(&picture), b'1');
        bodies(&hook).into_iter().find(|body| body["phase"] == "ended")
    });
    assert_eq!((&back["event"], &back["kind"]), (&silent["event"], &"camera_silent".into()));
    assert!(node.store().event(row.id).unwrap().unwrap().ended.is_some());
    // The connection without a name was silent all the time.
    assert!(bodies(&hook).iter().all(|body| body["camera"] == "yard"), "{:?}", bodies(&hook));
    let started = [("camera", "yard"), ("kind", "camera_silent")];
    assert!(node.metric("meerkat_events_total", &started) >= 1.0);
}

#[test]
fn cameras_that_fall_silent_together_are_one_message() {
    let hook = MockServer::webhook(SECRET).unwrap();
    let mut plan =
        plan(&hook).set("notify.notices.settle_secs", 2).set("notify.notices.start_grace_secs", 0.5);
    let ids = ["gate", "hall", "shed", "yard"];
    for id in ids {
        plan = plan.set(&format!("cameras.{id}.silent_after_secs"), 0.5);
    }
    let node = plan.start();
    let message = told(&hook, "camera_silent", "started");
    let events = eventually("each is an event", PATIENCE, || {
        let rows: Vec<EventRow> = ids.iter().flat_map(|id| node.notices(id)).collect();
        (rows.len() == ids.len()).then_some(rows)
    });
    assert!(text(&message).contains("4 events in all:"), "{message}");
    for name in
        ["gate: camera silent", "hall: camera silent", "shed: camera silent", "The yard: camera silent"]
    {
        assert!(text(&message).contains(name), "{name}: {message}");
    }
    let rows: usize = events.iter().map(|event| alerts(&node, event).len()).sum();
    assert_eq!((rows, bodies(&hook).len()), (1, 1));
}

#[test]
fn an_actor_that_fails_again_and_again_is_told() {
    let hook = MockServer::webhook(SECRET).unwrap();
    let mut node = plan(&hook)
        .set("supervision.backoff_min_ms", 50)
        .set("supervision.backoff_max_secs", 0.1)
        .with_faults()
        .start();
    node.order("motion yard panic 5");
    let mut yard = node.camera("yard", 3);
    let picture = jpeg(320, 240, 1);
    let failing = eventually("it is told", PATIENCE, || {
        assert_eq!(yard.frame(&picture), b'1');
        bodies(&hook).into_iter().find(|body| body["kind"] == "actor_failing")
    });
    assert_eq!((&failing["camera"], &failing["phase"]), (&"yard".into(), &"started".into()));
    assert!(text(&failing).contains("motion: "), "{failing}");
}

/// An offset of time zone in which it is about noon.
fn noon_somewhere() -> String {
    let hour = SystemClock::new().wall().0.div_euclid(3_600_000_000).rem_euclid(24);
    let offset = 12 - hour;
    format!("{}{:02}:00", if offset < 0 { '-' } else { '+' }, offset.abs())
}

#[test]
fn rules_hold_at_their_hours_and_quiet_hours_make_one_message() {
    let hook = MockServer::webhook(SECRET).unwrap();
    let mut plan = plan(&hook).set("notify.time_zone", noon_somewhere());
    for name in ["asleep", "quiet"] {
        plan = channel(plan, name, &hook);
    }
    let node = plan
        .set("notify.rules.day.kinds", "motion")
        .set("notify.rules.day.channels", "hook,quiet")
        .set("notify.rules.day.hours", "06:00-18:00")
        .set("notify.rules.day.severity", "warning")
        .set("notify.rules.night.kinds", "motion")
        .set("notify.rules.night.channels", "asleep")
        .set("notify.rules.night.hours", "20:00-05:00")
        .set("notify.channels.quiet.quiet_hours", "06:00-18:00")
        .start();
    let mut yard = node.camera("yard", 3);
    let first = node.stir(&mut yard, "yard");
    let second = node.stir(&mut yard, "yard");
    let channels = |rows: &[OutboxRow]| rows.iter().map(|row| row.channel.clone()).collect::<Vec<_>>();
    let (of_first, of_second) = (alerts(&node, &first), alerts(&node, &second));
    assert_eq!(channels(&of_first), ["hook", "quiet"]);
    assert_eq!(channels(&of_second), ["hook"], "the quiet channel has it in its one message");
    let held = &of_first[1];
    assert_eq!((held.state, held.attempts), (OutboxState::Waiting, 0));
    assert!(held.next_attempt_at > SystemClock::new().wall().offset_micros(3_600_000_000), "{held:?}");
    assert_eq!(held.payload["lines"][0]["count"], 2, "{held:?}");
    hook.wait_for(2, PATIENCE).unwrap();
    assert_eq!(node.metric("meerkat_alerts_suppressed_total", &[("reason", "grouped")]), 2.0);
}

#[test]
fn a_burst_is_one_message_even_when_the_node_dies_in_it() {
    let hook = MockServer::webhook(SECRET).unwrap();
    let mut node = plan(&hook)
        .set("notify.rules.all.kinds", "motion")
        .set("notify.rules.all.channels", "hook")
        .set("notify.rules.all.group_secs", 30)
        .start();
    let mut yard = node.camera("yard", 3);
    let events: Vec<EventRow> = (0..3).map(|_| node.stir(&mut yard, "yard")).collect();
    hook.wait_for(1, PATIENCE).unwrap();
    let rows: Vec<usize> = events.iter().map(|event| alerts(&node, event).len()).collect();
    assert_eq!(rows, [1, 1, 0], "the third is part of the second's message");
    node.kill();
    node.restart();
    hook.wait_for(2, PATIENCE).unwrap();
    let bodies = bodies(&hook);
    assert_eq!(bodies[0]["event"], events[0].id.to_string());
    assert!(text(&bodies[1]).contains("2 events in all:\nThe yard: motion, 2 times"), "{}", bodies[1]);
    eventually("nothing is left to be told", PATIENCE, || {
        (node.store().outbox_counts().unwrap().waiting == 0).then_some(())
    });
    assert_eq!(hook.received().len(), 2);
}

/// `meerkat …` with the data folder and the address of a node.
fn meerkat(node: &Node, args: &[&str]) -> Output {
    let plan = Plan::new().set("http.listen", node.http_address());
    let mut command = plan.command(node.data().parent().unwrap());
    command.args(args).output().unwrap()
}

#[track_caller]
fn done(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn what_is_snoozed_is_recorded_and_not_told_until_it_is_armed_again() {
    let hook = MockServer::webhook(SECRET).unwrap();
    let mut node = plan(&hook).set("notify.channels.hook.kinds", "motion").start();
    let mut yard = node.camera("yard", 3);
    let words = done(&meerkat(&node, &["disarm", "--camera", "yard", "--reason", "the gardener"]));
    assert!(words.starts_with("disarmed: camera yard ("), "{words}");
    let quiet = node.stir(&mut yard, "yard");
    assert!(quiet.snoozed);
    assert_eq!(alerts(&node, &quiet), []);
    assert_eq!(node.metric("meerkat_alerts_suppressed_total", &[("reason", "disarmed")]), 1.0);
    assert_eq!(node.status()["snoozes"][0]["reason"], "the gardener");
    let page = node.get(&format!("/api/v1/events/{}", quiet.id));
    assert_eq!(page.json()["snoozed"], true);
    // Another camera is not meant.
    let other = node.stir(&mut node.camera("gate", 3), "gate");
    assert_eq!((other.snoozed, alerts(&node, &other).len()), (false, 1));

    node.kill();
    node.restart();
    let mut yard = node.camera("yard", 3);
    let listed = done(&meerkat(&node, &["snooze", "list", "--json"]));
    let listed: Value = serde_json::from_str(listed.trim()).unwrap();
    assert_eq!((&listed["camera"], &listed["until"]), (&"yard".into(), &Value::Null));
    assert!(node.stir(&mut yard, "yard").snoozed, "it outlives the node");
    assert_eq!(done(&meerkat(&node, &["arm", "--camera", "yard"])), "armed again: camera yard\n");
    let loud = node.stir(&mut yard, "yard");
    assert_eq!((loud.snoozed, alerts(&node, &loud).len()), (false, 1));

    let added = done(&meerkat(&node, &["snooze", "--for", "2h", "--json"]));
    let added: Value = serde_json::from_str(added.trim()).unwrap();
    assert!(node.stir(&mut yard, "yard").snoozed);
    let refused = meerkat(&node, &["snooze", "--rule", "nosuch", "--for", "2h"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("there is no rule nosuch"));
    let usage = meerkat(&node, &["snooze", "--camera", "yard"]);
    assert_eq!(usage.status.code(), Some(2));
    done(&meerkat(&node, &["snooze", "cancel", added["id"].as_str().unwrap()]));
    assert!(!node.stir(&mut yard, "yard").snoozed);

    // Without a node the folder is worked in.
    assert!(node.stop().success(), "{}", node.log());
    done(&meerkat(&node, &["snooze", "--camera", "yard", "--for", "90m"]));
    let list = done(&meerkat(&node, &["snooze", "list"]));
    assert!(list.contains("camera yard"), "{list}");
    node.restart();
    assert!(node.stir(&mut node.camera("yard", 3), "yard").snoozed);
    let told: Vec<EventPhase> = alerts(&node, &loud).iter().map(|row| row.phase).collect();
    assert_eq!(told, [EventPhase::Started]);
}

#[test]
fn a_camera_that_is_silent_over_a_restart_is_neither_back_nor_silent_anew() {
    let hook = MockServer::webhook(SECRET).unwrap();
    let mut node = plan(&hook)
        .set("notify.notices.start_grace_secs", 0.5)
        .set("cameras.yard.silent_after_secs", 1)
        .set("cameras.gate.silent_after_secs", 4)
        .start();
    let picture = jpeg(64, 48, 1);
    let (mut yard, mut gate) = (node.camera("yard", 3), node.camera("gate", 3));
    assert_eq!(yard.frame(&picture), b'1');
    let silent = eventually("the yard is missed", PATIENCE, || {
        assert_eq!(gate.frame(&picture), b'1');
        bodies(&hook).into_iter().find(|body| body["kind"] == "camera_silent")
    });
    let row = node.notices("yard").remove(0);
    assert_eq!((&silent["camera"], &silent["event"]), (&"yard".into(), &row.id.to_string().into()));
    node.kill();
    node.restart();
    // The gate does not come back. When that is said, the grace of the yard is over for long.
    eventually("the gate is missed", PATIENCE, || {
        bodies(&hook).into_iter().find(|body| body["camera"] == "gate")
    });
    assert_eq!(bodies(&hook).len(), 2, "nothing was said of the yard: {:?}", bodies(&hook));
    let again = node.notices("yard").remove(0);
    assert_eq!((again.id, again.ended, again.interrupted), (row.id, None, false));

    let mut yard = node.camera("yard", 3);
    let back = eventually("the yard is back", PATIENCE, || {
        assert_eq!(yard.frame(&picture), b'1');
        bodies(&hook).into_iter().find(|body| body["phase"] == "ended")
    });
    assert_eq!((&back["camera"], &back["event"]), (&"yard".into(), &silent["event"]));
    assert_eq!(node.notices("yard").len(), 1);
}
