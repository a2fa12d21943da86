//! Breaks every kind of actor in every way, under load, and looks from outside: the broken one is back in the promised
//! time, the others never stopped, and nothing that was answered is lost.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use meerkat_notify::testing::{MockServer, Received};
use meerkat_store::EventRow;
use serde_json::Value;

use crate::fleet::{Life, MOTION_THRESHOLD, Runner, numbers_in};
use crate::harness::{Node, PATIENCE, Plan, eventually, files_below};

/// Pace of each camera.
const INTERVAL: Duration = Duration::from_millis(80);
/// What a machine with much else to do may add to a promised time.
const SLACK: Duration = Duration::from_secs(4);
/// Back-off before a restart, at most (`supervision.backoff_max_secs`).
const BACKOFF: Duration = Duration::from_secs(1);
/// Deadline of events, notifier and of the threads that read from cameras.
const SOLO_DEADLINE: Duration = Duration::from_secs(3);
/// Deadline of everything else in these tests.
const DEADLINE: Duration = Duration::from_millis(1_200);
/// Longest silence of a camera that has nothing to do with what is broken.
const UNTOUCHED: Duration = Duration::from_secs(3);
const PRE_ROLL_MICROS: i64 = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Panic,
    Error,
    Hang,
}

impl Fault {
    const ALL: [Fault; 3] = [Fault::Panic, Fault::Error, Fault::Hang];

    fn word(self) -> &'static str {
        match self {
            Fault::Panic => "panic",
            Fault::Error => "error",
            Fault::Hang => "hang",
        }
    }

    /// What is promised from the fault to the restart.
    fn promise(self, deadline: Duration) -> Duration {
        BACKOFF
            + match self {
                Fault::Panic | Fault::Error => Duration::from_secs(1),
                Fault::Hang => deadline + Duration::from_secs(2),
            }
    }

    fn shown(self, kind: &str) -> String {
        match self {
            Fault::Panic => format!("panic: injected panic in {kind}"),
            Fault::Error => format!("injected error in {kind}"),
            Fault::Hang => "stood still past its deadline".to_owned(),
        }
    }
}

fn plan(hook: &MockServer) -> Plan {
    Plan::new()
        .set("frame.io_threads", 2)
        .set("ring.seconds", 6)
        .set("video.size", "as-received")
        .set("clip.kinds", "motion")
        .set("clip.pre_roll_secs", 1)
        .set("clip.post_roll_secs", 0.5)
        .set("clip.preset", "ultrafast")
        .set("motion.threshold", MOTION_THRESHOLD)
        .set("events.motion.start_hits", 2)
        .set("events.motion.window", 4)
        .set("events.motion.end_secs", 0.6)
        .set("events.motion.cooldown_secs", 0)
        .set("detectors.threads", 2)
        .set("detectors.person.gate", "none")
        .set("detectors.person.every_ms", 200)
        .set("detectors.face.gate", "none")
        .set("detectors.face.every_ms", 200)
        .set("supervision.decode_deadline_ms", DEADLINE.as_millis())
        .set("supervision.motion_deadline_ms", DEADLINE.as_millis())
        .set("supervision.detector_deadline_ms", DEADLINE.as_millis())
        .set("supervision.disk_deadline_ms", DEADLINE.as_millis())
        .set("supervision.backoff_min_ms", 200)
        .set("supervision.backoff_max_secs", BACKOFF.as_secs())
        .set("supervision.max_abandoned_threads", 64)
        .set("notify.channels.hook.type", "webhook")
        .set("notify.channels.hook.url", hook.base())
        .set("notify.channels.hook.secret", SECRET)
        .set("notify.channels.hook.kinds", "motion")
        .with_faults()
}

const SECRET: &str = "sixteen-characters-at-least";

/// A node with a camera in each mode.
struct Stage {
    node: Node,
    hook: MockServer,
    cameras: Vec<Runner>,
    hangs: usize,
}

const MODES: [(&str, u8); 5] = [("pictures", 1), ("video", 2), ("guard", 3), ("walk", 4), ("faces", 5)];

impl Stage {
    #[track_caller]
    fn set() -> Self {
        let hook = MockServer::webhook(SECRET).unwrap();
        let node = plan(&hook).start();
        let cameras = MODES.map(|(id, mode)| Runner::start(node.frame_address(), id, mode, INTERVAL)).into();
        let stage = Self { node, hook, cameras, hangs: 0 };
        stage.all_are_looked_at("at the start");
        stage
    }

    fn camera(&self, id: &str) -> &Runner {
        self.cameras.iter().find(|camera| camera.id == id).unwrap()
    }

    /// Waits until every camera's frames are answered and every detector has looked at more of them.
    #[track_caller]
    fn all_are_looked_at(&self, when: &str) {
        let looks = || {
            let metrics = self.node.metrics();
            let stage = |s| metrics.sum("meerkat_frames_total", &[("stage", s), ("result", "ok")]);
            ["received", "decoded", "motion", "person", "face"].map(stage)
        };
        let (before, answers) = (looks(), self.answers());
        eventually(&format!("every actor works {when}"), PATIENCE, || {
            let worked = looks().iter().zip(&before).all(|(now, before)| *now >= before + 2.0);
            let answered = self.answers().iter().zip(&answers).all(|(now, before)| *now >= before + 2);
            (worked && answered).then_some(())
        });
    }

    fn answers(&self) -> Vec<usize> {
        self.cameras.iter().map(Runner::answers).collect()
    }

    fn restarts(&self, kind: &str, fault: Fault) -> f64 {
        self.node.metric("meerkat_actor_restarts_total", &[("actor", kind), ("reason", fault.word())])
    }

    /// The status entries of the actors of a kind (of one camera).
    fn actors(&self, kind: &str, camera: Option<&str>) -> Vec<Value> {
        let status = self.node.status();
        let actors = status["actors"].as_array().unwrap();
        actors
            .iter()
            .filter(|a| a["kind"] == kind && camera.is_none_or(|camera| a["camera"] == camera))
            .cloned()
            .collect()
    }

    /// Breaks an actor; returns when it is back, having looked at everything that is promised.
    #[track_caller]
    fn break_actor(&mut self, kind: &str, camera: Option<&str>, fault: Fault, deadline: Duration) {
        let sum = |actors: &[Value], key: &str| actors.iter().map(|a| a[key].as_u64().unwrap()).sum::<u64>();
        let before = self.actors(kind, camera);
        let counted = self.restarts(kind, fault);
        let answers = self.answers();
        self.node.order(&format!("{kind} {} {} 1", camera.unwrap_or("-"), fault.word()));
        let began = Instant::now();
        let limit = fault.promise(deadline) + SLACK;
        eventually(&format!("{kind} has had its {}", fault.word()), limit, || {
            (self.restarts(kind, fault) == counted + 1.0).then_some(())
        });
        let noticed = began.elapsed();
        let left = limit.saturating_sub(noticed);
        // Encoders leave when their spool is finished, and sessions have no entry.
        if kind != "encoder" {
            let after = eventually(&format!("{kind} is back after {}", fault.word()), left, || {
                let actors = self.actors(kind, camera);
                let is_back = actors.iter().all(|a| a["state"] == "running")
                    && sum(&actors, "generation") > sum(&before, "generation");
                is_back.then_some(actors)
            });
            assert_eq!(sum(&after, "restarts"), sum(&before, "restarts") + 1, "{after:?}");
            let why = fault.shown(kind);
            assert!(after.iter().any(|a| a["last_error"] == why.as_str()), "{why}: {after:?}");
        }
        eventually(&format!("meerkat_actor_up says that {kind} is back"), left + SLACK, || {
            (self.node.metric("meerkat_actor_up", &[("actor", kind)]) == 1.0).then_some(())
        });
        self.hangs += usize::from(fault == Fault::Hang);
        assert_eq!(self.node.metric("meerkat_abandoned_threads", &[]), self.hangs as f64);
        println!("{kind} {}: noticed in {noticed:?}, back in {:?}", fault.word(), began.elapsed());
        // Whoever has nothing to do with it has gone on meanwhile.
        let least = (began.elapsed().as_millis() / INTERVAL.as_millis() / 4) as usize;
        for ((runner, before), now) in self.cameras.iter().zip(&answers).zip(self.answers()) {
            if camera != Some(runner.id.as_str()) {
                assert!(now >= before + least, "{} got {} answers, not {least}", runner.id, now - before);
            }
        }
        self.all_are_looked_at("again");
    }

    /// The rows of the walk's events from `first` on; waits until `count` of them are there.
    #[track_caller]
    fn events(&self, first: usize, count: usize) -> Vec<EventRow> {
        eventually("the event's row", PATIENCE, || {
            let rows = self.node.events("walk").split_off(first);
            (rows.len() >= count).then_some(rows)
        })
    }

    /// Somebody walks by; meanwhile `trouble` happens. What was seen has its row, its clip and its alert.
    #[track_caller]
    fn walk(&mut self, trouble: impl FnOnce(&mut Self)) {
        let first = self.node.events("walk").len();
        self.camera("walk").set_moving(true);
        self.events(first, 1);
        trouble(self);
        std::thread::sleep(5 * INTERVAL);
        self.camera("walk").set_moving(false);
        let rows = eventually("every event has ended, with clip and alert", PATIENCE, || {
            let rows = self.node.events("walk").split_off(first);
            let told: Vec<String> = self
                .hook
                .received()
                .iter()
                .map(|message| match message {
                    Received::Hook { body, .. } => body["event"].as_str().unwrap_or_default().to_owned(),
                    other => panic!("not for a webhook: {other:?}"),
                })
                .collect();
            let settled = |row: &EventRow| {
                row.ended.is_some() && !row.clips.is_empty() && told.contains(&row.id.to_string())
            };
            let idle = self.node.camera_status("walk")["recording"] == false;
            (idle && self.encoders_are_idle("walk") && rows.iter().all(settled)).then_some(rows)
        });
        assert!(!rows.is_empty());
        for row in &rows {
            self.shows_everything(row, &self.camera("walk").so_far());
        }
    }

    fn encoders_are_idle(&self, camera: &str) -> bool {
        self.actors("encoder", Some(camera)).is_empty()
    }

    /// The clips of an event hold each answered frame from the pre-roll to the end.
    #[track_caller]
    fn shows_everything(&self, row: &EventRow, life: &Life) {
        let shown = self.numbers_of(row);
        let (from, to) = (row.started.offset_micros(-PRE_ROLL_MICROS * 6 / 10), row.ended.unwrap());
        let due: BTreeSet<u16> =
            life.answered.iter().filter(|a| a.sent >= from && a.answered <= to).map(|a| a.number).collect();
        let missing: Vec<&u16> = due.difference(&shown).collect();
        assert!(missing.is_empty(), "{missing:?} of {due:?} are not in the clips of {row:?}: {shown:?}");
    }

    fn numbers_of(&self, row: &EventRow) -> BTreeSet<u16> {
        row.clips.iter().flat_map(|clip| numbers_in(&self.node.data().join(&clip.path))).collect()
    }

    /// Everything stops; what was answered with `1` in modes 1 and 2 is on the disk, once.
    #[track_caller]
    fn finish(mut self, may_reconnect: &[&str]) -> Vec<(String, Life)> {
        let lives: Vec<(String, Life)> =
            std::mem::take(&mut self.cameras).into_iter().map(|r| (r.id.clone(), r.stop())).collect();
        for (id, life) in &lives {
            println!("{id}: {} answers, the slowest after {:?}", life.answered.len(), life.longest);
            assert_eq!(life.refused, 0, "{id}");
            if !may_reconnect.contains(&id.as_str()) {
                assert_eq!(life.reconnects, 0, "{id} lost its connection");
            }
        }
        let life = |wanted: &str| lives.iter().find(|(id, _)| id == wanted).map(|(_, life)| life).unwrap();
        eventually("all videos are finished", PATIENCE, || {
            files_below(&self.node.data().join("spool")).is_empty().then_some(())
        });
        let data = self.node.data();
        let pictures = files_below(&data.join("capture/image/pictures"));
        let stored: Vec<u16> =
            pictures.iter().map(|f| crate::fleet::number_of(&std::fs::read(f).unwrap())).collect();
        is_kept("mode 1", &stored, life("pictures"));
        let videos = files_below(&data.join("capture/video/video"));
        let stored: Vec<u16> = videos.iter().flat_map(|file| numbers_in(file)).collect();
        is_kept("mode 2", &stored, life("video"));
        // The worst case must not be a node that waits for what hangs.
        self.node.order("release");
        assert!(self.node.stop().success());
        lives
    }
}

/// Each answered picture is stored, and nothing that was not sent; an order that was given twice may be stored twice.
#[track_caller]
fn is_kept(what: &str, stored: &[u16], life: &Life) {
    let stored: BTreeSet<u16> = stored.iter().copied().collect();
    let answered: BTreeSet<u16> = life.answered.iter().map(|a| a.number).collect();
    let sent: BTreeSet<u16> = life.sent.iter().copied().collect();
    let lost: Vec<&u16> = answered.difference(&stored).collect();
    assert!(lost.is_empty(), "{what}: answered but not stored: {lost:?}");
    assert!(stored.is_subset(&sent), "{what}: stored but never sent");
}

#[track_caller]
fn untouched(lives: &[(String, Life)], touched: &[&str]) {
    for (id, life) in lives.iter().filter(|(id, _)| !touched.contains(&id.as_str())) {
        assert!(life.longest < UNTOUCHED, "{id} waited {:?} for an answer", life.longest);
    }
}

#[test]
fn decoder_and_motion_come_back() {
    let mut stage = Stage::set();
    for kind in ["decoder", "motion"] {
        for fault in Fault::ALL {
            stage.walk(|stage| stage.break_actor(kind, Some("walk"), fault, DEADLINE));
        }
    }
    let lives = stage.finish(&[]);
    untouched(&lives, &[]);
}

#[test]
fn detectors_come_back() {
    let mut stage = Stage::set();
    for kind in ["person", "face"] {
        for fault in Fault::ALL {
            stage.break_actor(kind, None, fault, DEADLINE);
        }
    }
    stage.walk(|stage| stage.break_actor("person", None, Fault::Hang, DEADLINE));
    let lives = stage.finish(&[]);
    untouched(&lives, &[]);
}

#[test]
fn a_recorder_comes_back_and_loses_nothing() {
    let mut stage = Stage::set();
    for fault in Fault::ALL {
        stage.break_actor("recorder", Some("pictures"), fault, DEADLINE);
        stage.break_actor("recorder", Some("video"), fault, DEADLINE);
        // In the middle of an event, and at the very moment when it begins.
        stage.walk(|stage| stage.break_actor("recorder", Some("walk"), fault, DEADLINE));
        stage.node.order(&format!("recorder walk {} 1", fault.word()));
        stage.hangs += usize::from(fault == Fault::Hang);
        stage.walk(|_| {});
    }
    let lives = stage.finish(&[]);
    untouched(&lives, &["pictures", "video", "walk"]);
    for (id, life) in &lives {
        let limit = Fault::Hang.promise(DEADLINE) + SLACK;
        assert!(life.longest < limit, "{id} waited {:?}", life.longest);
    }
}

#[test]
fn an_encoder_comes_back() {
    let mut stage = Stage::set();
    for fault in [Fault::Panic, Fault::Error] {
        stage.walk(|stage| stage.break_actor("encoder", Some("walk"), fault, DEADLINE));
        stage.break_actor("encoder", Some("video"), fault, DEADLINE);
    }
    let lives = stage.finish(&[]);
    untouched(&lives, &[]);
}

#[test]
fn an_encoder_that_hangs_holds_up_nobody() {
    let mut stage = Stage::set();
    // Its deadline is no setting: encoding may take its time.
    stage.walk(|stage| stage.break_actor("encoder", Some("walk"), Fault::Hang, Duration::from_secs(30)));
    let lives = stage.finish(&[]);
    untouched(&lives, &[]);
}

#[test]
fn the_archivist_comes_back_and_loses_nothing() {
    let mut stage = Stage::set();
    for fault in Fault::ALL {
        stage.walk(|stage| stage.break_actor("archivist", None, fault, DEADLINE));
        stage.node.order(&format!("archivist - {} 3", fault.word()));
        stage.hangs += if fault == Fault::Hang { 3 } else { 0 };
        stage.walk(|_| {});
    }
    let lives = stage.finish(&[]);
    untouched(&lives, &[]);
}

#[test]
fn the_notifier_comes_back_and_loses_nothing() {
    let mut stage = Stage::set();
    for fault in Fault::ALL {
        // It has work only when there is an alert.
        let before = stage.restarts("notifier", fault);
        stage.node.order(&format!("notifier - {} 1", fault.word()));
        let began = Instant::now();
        stage.walk(|_| {});
        println!("notifier {}: event, restart and alert in {:?}", fault.word(), began.elapsed());
        assert_eq!(stage.restarts("notifier", fault), before + 1.0);
        stage.hangs += usize::from(fault == Fault::Hang);
        let report = stage.actors("notifier", None).remove(0);
        assert_eq!(report["state"], "running");
        assert_eq!(report["last_error"], fault.shown("notifier").as_str());
        let limit = fault.promise(SOLO_DEADLINE) + Duration::from_secs(5) + SLACK;
        assert!(began.elapsed() < limit, "{:?}", began.elapsed());
    }
    assert_eq!(stage.actors("notifier", None)[0]["generation"], 4);
    let lives = stage.finish(&[]);
    untouched(&lives, &[]);
}

#[test]
fn events_come_back_and_what_ran_is_ended_recorded_and_told() {
    let mut stage = Stage::set();
    for fault in Fault::ALL {
        stage.walk(|stage| stage.break_actor("events", None, fault, SOLO_DEADLINE));
    }
    let lives = stage.finish(&[]);
    untouched(&lives, &[]);
}

#[test]
fn a_session_closes_its_connection_and_its_camera_comes_back() {
    let mut stage = Stage::set();
    for fault in [Fault::Panic, Fault::Error] {
        let (before, answers) = (stage.restarts("session", fault), stage.answers());
        for id in ["pictures", "video", "guard"] {
            stage.node.order(&format!("session {id} {} 1", fault.word()));
        }
        eventually("three sessions were lost", Duration::from_secs(2) + SLACK, || {
            (stage.restarts("session", fault) == before + 3.0).then_some(())
        });
        eventually("their cameras are back", PATIENCE, || {
            let back = stage.answers().iter().zip(&answers).all(|(now, before)| *now >= before + 5);
            back.then_some(())
        });
        let status = stage.node.status();
        let cameras = status["cameras"].as_array().unwrap();
        assert_eq!(cameras.len(), MODES.len(), "a lost session leaves no camera behind: {cameras:?}");
        assert!(cameras.iter().all(|camera| camera["connected"] == true), "{cameras:?}");
    }
    // A camera without a name finds its place free again, not one behind a connection that is gone.
    let nameless = Runner::start(stage.node.frame_address(), "", 3, INTERVAL);
    eventually("the nameless camera is there", PATIENCE, || (nameless.answers() > 3).then_some(()));
    stage.node.order("session 127.0.0.1 panic 1");
    let before = nameless.answers();
    eventually("the nameless camera is back", PATIENCE, || (nameless.answers() > before + 5).then_some(()));
    let status = stage.node.status();
    let ids: BTreeSet<&str> =
        status["cameras"].as_array().unwrap().iter().map(|camera| camera["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), MODES.len() + 1, "{ids:?}");
    assert!(ids.contains("127.0.0.1"), "{ids:?}");
    assert_eq!(nameless.stop().reconnects, 1);
    stage.walk(|_| {});
    let lives = stage.finish(&["pictures", "video", "guard"]);
    untouched(&lives, &[]);
    for (id, life) in &lives {
        assert!(
            life.reconnects == 0 || life.reconnects == 2,
            "{id} connected {} times anew",
            life.reconnects
        );
    }
}

#[test]
fn a_thread_of_sessions_that_hangs_is_replaced_and_the_other_goes_on() {
    let mut stage = Stage::set();
    let answers = stage.answers();
    stage.node.order("session video hang 1");
    let began = Instant::now();
    let limit = Fault::Hang.promise(SOLO_DEADLINE) + SLACK;
    eventually("the thread is given up", limit, || {
        (stage.restarts("session", Fault::Hang) == 1.0).then_some(())
    });
    println!("session hang: noticed in {:?}", began.elapsed());
    stage.hangs += 1;
    assert_eq!(stage.node.metric("meerkat_abandoned_threads", &[]), 1.0);
    eventually("all cameras are back", PATIENCE, || {
        let back = stage.answers().iter().zip(&answers).all(|(now, before)| *now >= before + 5);
        back.then_some(())
    });
    stage.all_are_looked_at("again");
    stage.walk(|_| {});
    let all: Vec<&str> = MODES.iter().map(|(id, _)| *id).collect();
    let lives = stage.finish(&all);
    let (lost, kept): (Vec<_>, Vec<_>) = lives.iter().partition(|(_, life)| life.reconnects > 0);
    assert!(lost.iter().any(|(id, _)| id == "video"));
    assert!(!lost.is_empty() && !kept.is_empty(), "half of the cameras are on the other thread");
    for (id, life) in kept {
        assert!(life.longest < Duration::from_secs(2), "{id} waited {:?}", life.longest);
    }
}

#[test]
fn failures_in_a_row_wait_longer_and_longer() {
    const TIMES: usize = 5;
    let mut node = Plan::new()
        .set("supervision.backoff_min_ms", 100)
        .set("supervision.backoff_max_secs", 30)
        .with_faults()
        .start();
    let camera = Runner::start(node.frame_address(), "door", 3, INTERVAL);
    let other = Runner::start(node.frame_address(), "yard", 3, INTERVAL);
    eventually("both work", PATIENCE, || (camera.answers() > 5 && other.answers() > 5).then_some(()));
    node.order(&format!("motion door panic {TIMES}"));
    let report = |node: &Node, camera: &str| {
        let status = node.status();
        let actors = status["actors"].as_array().unwrap();
        actors.iter().find(|a| a["kind"] == "motion" && a["camera"] == camera).cloned().unwrap()
    };
    eventually("a failure too many is a degraded node", PATIENCE, || {
        (node.status()["node"]["degraded"] == true).then_some(())
    });
    let after = eventually("it is back after all", PATIENCE, || {
        let report = report(&node, "door");
        (report["restarts"] == TIMES && report["state"] == "running").then_some(report)
    });
    assert_eq!(after["generation"], TIMES + 1);
    assert_eq!(after["last_error"], "panic: injected panic in motion");
    assert_eq!(report(&node, "yard")["generation"], 1, "the other camera's never failed");
    let waits: Vec<u64> = node
        .wait_for_logs("actor failed", TIMES)
        .iter()
        .map(|entry| entry["restart_in_ms"].as_u64().unwrap())
        .collect();
    for (n, wait) in waits.iter().enumerate() {
        let nominal = 100 << n;
        assert!((nominal * 3 / 4 - 1..=nominal).contains(wait), "wait {n} of {waits:?}");
    }
    // The detectors were never shut out, and the answers never waited for motion.
    let life = camera.stop();
    assert_eq!((life.refused, life.reconnects), (0, 0));
    assert!(life.longest < UNTOUCHED, "{:?}", life.longest);
    drop(other);
    eventually("the node is whole again", PATIENCE, || {
        (node.status()["node"]["degraded"] == false).then_some(())
    });
}

#[test]
fn a_node_with_four_hanging_threads_ends_so_that_its_service_manager_starts_it_anew() {
    let mut node = Plan::new()
        .set("supervision.decode_deadline_ms", 300)
        .set("supervision.backoff_min_ms", 50)
        .set("supervision.backoff_max_secs", 0.1)
        .with_faults()
        .start();
    let cameras = ["door", "gate"].map(|id| Runner::start(node.frame_address(), id, 3, INTERVAL));
    let pictures = Runner::start(node.frame_address(), "shed", 1, INTERVAL);
    let all_work = || cameras.iter().chain([&pictures]).all(|runner| runner.answers() > 5);
    eventually("all work", PATIENCE, || all_work().then_some(()));
    let began = Instant::now();
    // One camera alone hangs two threads at most; then it gets no more of them.
    node.order("decoder door hang 4");
    eventually("two are given up", PATIENCE, || {
        (node.metric("meerkat_abandoned_threads", &[]) == 2.0).then_some(())
    });
    let at = pictures.answers();
    eventually("pictures go on", PATIENCE, || (pictures.answers() > at + 20).then_some(()));
    assert_eq!(node.metric("meerkat_abandoned_threads", &[]), 2.0);
    node.order("decoder gate hang 2");
    let status = node.wait_for_end(Duration::from_secs(25));
    println!("given up after {:?}", began.elapsed());
    assert_eq!(status.code(), Some(3), "{}", node.log());
    let life = pictures.stop();
    cameras.into_iter().for_each(|camera| drop(camera.stop()));
    let stored: Vec<u16> = files_below(&node.data().join("capture/image/shed"))
        .iter()
        .map(|f| crate::fleet::number_of(&std::fs::read(f).unwrap()))
        .collect();
    is_kept("mode 1", &stored, &life);
    // What was started anew works.
    node.restart();
    let camera = Runner::start(node.frame_address(), "door", 3, INTERVAL);
    eventually("it works again", PATIENCE, || (camera.answers() > 5).then_some(()));
    assert!(node.stop().success());
}

#[test]
fn killed_in_the_middle_of_an_event_it_keeps_pre_roll_and_every_answered_frame() {
    let mut stage = Stage::set();
    std::thread::sleep(Duration::from_millis(1_500));
    stage.camera("walk").set_moving(true);
    let row = stage.events(0, 1).remove(0);
    let at = stage.camera("walk").answers();
    eventually("the event goes on", PATIENCE, || (stage.camera("walk").answers() > at + 20).then_some(()));
    stage.node.kill();
    let lives: Vec<(String, Life)> =
        std::mem::take(&mut stage.cameras).into_iter().map(|r| (r.id.clone(), r.stop())).collect();
    let life = |wanted: &str| lives.iter().find(|(id, _)| id == wanted).map(|(_, life)| life).unwrap();

    stage.node.restart();
    let row = eventually("the clip is finished", PATIENCE, || {
        let again = stage.node.store().event(row.id).unwrap().unwrap();
        (!again.clips.is_empty()).then_some(again)
    });
    assert!(row.interrupted && row.ended.is_some(), "{row:?}");
    let shown = stage.numbers_of(&row);
    let from = row.started.offset_micros(-PRE_ROLL_MICROS * 9 / 10);
    let due: BTreeSet<u16> =
        life("walk").answered.iter().filter(|a| a.sent >= from).map(|a| a.number).collect();
    let missing: Vec<&u16> = due.difference(&shown).collect();
    println!("{} frames due, {} shown", due.len(), shown.len());
    assert!(due.len() > 20 + 8, "pre-roll and event: {due:?}");
    assert!(missing.is_empty(), "{missing:?} of {due:?} are not in {shown:?}");
    // The alert that was committed with the row arrives, now or before.
    eventually("the alert is delivered", PATIENCE, || {
        let told = stage.hook.received().iter().any(
            |message| matches!(message, Received::Hook { body, .. } if body["event"] == row.id.to_string().as_str()),
        );
        told.then_some(())
    });
    eventually("all spools are finished", PATIENCE, || {
        files_below(&stage.node.data().join("spool")).is_empty().then_some(())
    });
    let data = stage.node.data();
    let stored: Vec<u16> = files_below(&data.join("capture/image/pictures"))
        .iter()
        .map(|f| crate::fleet::number_of(&std::fs::read(f).unwrap()))
        .collect();
    is_kept("mode 1", &stored, life("pictures"));
    let videos = files_below(&data.join("capture/video/video"));
    let stored: Vec<u16> = videos.iter().flat_map(|file| numbers_in(file)).collect();
    is_kept("mode 2", &stored, life("video"));
    assert!(stage.node.stop().success());
}
