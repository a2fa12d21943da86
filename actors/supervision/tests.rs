//! What the supervision promises, and what actix really does on a panic.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix::prelude::*;
use meerkat_base::{CameraId, SystemClock};

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

fn board() -> Board {
    Board::new(Arc::new(SystemClock::new()))
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < give_up, "never came true: {what}");
        std::thread::yield_now();
    }
}

mod actix_facts {
    //! Facts the supervision is built on. If one of these fails after an update, read `solo.rs` again.
    use super::*;

    struct Glass {
        stopped: Arc<AtomicU32>,
    }
    #[derive(Message)]
    #[rtype(result = "()")]
    struct Break;
    #[derive(Message)]
    #[rtype(result = "u32")]
    struct Ask;

    impl Actor for Glass {
        type Context = Context<Self>;
        fn stopped(&mut self, _: &mut Self::Context) {
            self.stopped.fetch_add(1, Ordering::SeqCst);
        }
    }
    impl Handler<Break> for Glass {
        type Result = ();
        fn handle(&mut self, _: Break, _: &mut Self::Context) {
            panic!("broken on purpose");
        }
    }
    impl Handler<Ask> for Glass {
        type Result = u32;
        fn handle(&mut self, _: Ask, _: &mut Self::Context) -> u32 {
            7
        }
    }
    impl Supervised for Glass {}

    #[test]
    fn a_panic_ends_that_actor_alone_and_calls_stopped_on_the_broken_value() {
        System::new().block_on(async {
            let stopped = Arc::new(AtomicU32::new(0));
            let glass = Glass { stopped: Arc::clone(&stopped) }.start();
            let neighbour = Glass { stopped: Arc::clone(&stopped) }.start();
            assert!(glass.send(Break).await.is_err(), "the sender learns that the mailbox closed");
            assert!(!glass.connected());
            assert!(matches!(glass.try_send(Ask), Err(SendError::Closed(_))));
            assert_eq!(neighbour.send(Ask).await.unwrap(), 7, "the arbiter lives on");
            // actix calls it on the broken value while the panic unwinds: it must do nothing that can panic.
            assert_eq!(stopped.load(Ordering::SeqCst), 1);
        });
    }

    #[test]
    fn actix_supervisor_does_not_restart_after_a_panic() {
        System::new().block_on(async {
            let stopped = Arc::new(AtomicU32::new(0));
            let addr = Supervisor::start(move |_| Glass { stopped });
            assert!(addr.send(Break).await.is_err());
            assert!(addr.send(Ask).await.is_err(), "nobody is there any more");
        });
    }

    #[test]
    fn a_full_mailbox_refuses_try_send_but_not_do_send() {
        System::new().block_on(async {
            let addr = Glass { stopped: Arc::default() }.start();
            // Nothing is handled while this future does not yield; the default capacity is 16.
            let refused = (0..64).filter(|_| addr.try_send(Ask).is_err()).count();
            assert_eq!(refused, 64 - 16);
            addr.do_send(Ask);
            assert_eq!(addr.send(Ask).await.unwrap(), 7);
        });
    }
}

struct Scripted {
    script: Arc<Mutex<Vec<&'static str>>>,
    done: Sender<&'static str>,
    release: Arc<Mutex<Receiver<()>>>,
}

impl Component for Scripted {
    fn step(&mut self) -> Result<Step, Failure> {
        let next = self.script.lock().unwrap().pop();
        match next {
            Some("panic") => panic!("scripted"),
            Some("error") => Err(Failure::error("scripted")),
            Some("hang") => {
                let _ = self.release.lock().unwrap().recv();
                Ok(Step::Idle)
            }
            Some(word) => {
                self.done.send(word).unwrap();
                Ok(Step::Again)
            }
            None => Ok(Step::Idle),
        }
    }
}

struct Rig {
    board: Board,
    crew: Crew,
    _watch: Watch,
    lost: Arc<AtomicU32>,
    _system: SystemRunner,
}

fn rig(threads: usize) -> Rig {
    let system = System::new();
    let board = board();
    let backoff = BackoffSettings { min: Duration::from_millis(20), max: Duration::from_millis(100) };
    let crew = Crew::start(CrewSettings { name: "test", threads, niceness: 0, backoff }, board.clone());
    let lost = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&lost);
    let watch = Watch::start(board.clone(), 4, move || {
        counted.fetch_add(1, Ordering::SeqCst);
    })
    .unwrap();
    watch.crew(crew.clone());
    Rig { board, crew, _watch: watch, lost, _system: system }
}

struct Scene {
    station: Station,
    script: Arc<Mutex<Vec<&'static str>>>,
    done: Receiver<&'static str>,
    release: Sender<()>,
}

fn scene(rig: &Rig) -> Scene {
    scene_of(rig, None)
}

fn scene_of(rig: &Rig, camera: Option<CameraId>) -> Scene {
    let script: Arc<Mutex<Vec<&'static str>>> = Arc::default();
    let (done_tx, done) = channel();
    let (release, gate) = channel();
    let (own_script, gate) = (Arc::clone(&script), Arc::new(Mutex::new(gate)));
    let station = rig.crew.station(ActorKind::Decoder, camera, Duration::from_millis(100), move || {
        Ok(Box::new(Scripted {
            script: Arc::clone(&own_script),
            done: done_tx.clone(),
            release: Arc::clone(&gate),
        }))
    });
    Scene { station, script, done, release }
}

impl Scene {
    fn play(&self, words: &[&'static str]) {
        self.script.lock().unwrap().extend(words.iter().rev());
        self.station.wake();
    }
}

#[test]
fn a_station_works_panics_fails_and_comes_back() {
    let rig = rig(1);
    let scene = scene(&rig);
    scene.play(&["one", "panic", "two", "error", "three"]);
    for word in ["one", "two", "three"] {
        assert_eq!(scene.done.recv_timeout(PATIENCE).unwrap(), word);
    }
    assert_eq!(scene.station.generation(), 3);
    let report = rig.board.reports().remove(0);
    assert_eq!((report.restarts, report.last_error.as_deref()), (2, Some("scripted")));
    eventually("up again", || scene.station.is_up());
}

#[test]
fn a_hanging_thread_is_given_up_and_the_others_go_on() {
    let rig = rig(1);
    let (stuck, fine) = (scene(&rig), scene(&rig));
    stuck.play(&["hang"]);
    eventually("given up", || rig.board.abandoned_threads() == 1);
    fine.play(&["fine"]);
    assert_eq!(fine.done.recv_timeout(PATIENCE).unwrap(), "fine", "a new thread took its place");
    stuck.play(&["back"]);
    assert_eq!(stuck.done.recv_timeout(PATIENCE).unwrap(), "back", "a new component took its place");
    assert_eq!(rig.lost.load(Ordering::SeqCst), 0);
    stuck.release.send(()).unwrap();
    eventually("the lost thread ends when it returns", || rig.board.abandoned_threads() == 0);
}

#[test]
fn the_pictures_of_one_camera_cannot_hang_all_threads() {
    let rig = rig(1);
    let (stuck, fine) = (scene_of(&rig, Some(CameraId::parse("door").unwrap())), scene(&rig));
    stuck.play(&["hang", "hang", "back"]);
    eventually("two are given up", || rig.board.abandoned_threads() == 2);
    let much_later = || Instant::now() + station::REST * 2;
    rig.crew.tick(much_later());
    // The only thread would have taken up the other one first.
    fine.play(&["fine"]);
    assert_eq!(fine.done.recv_timeout(PATIENCE).unwrap(), "fine");
    assert!(stuck.done.try_recv().is_err() && !stuck.station.is_up(), "it rests");
    stuck.release.send(()).unwrap();
    eventually("one comes back", || rig.board.abandoned_threads() == 1);
    rig.crew.tick(much_later());
    assert_eq!(stuck.done.recv_timeout(PATIENCE).unwrap(), "back");
    stuck.release.send(()).unwrap();
    assert_eq!(rig.lost.load(Ordering::SeqCst), 0);
}

#[test]
fn a_thread_that_could_not_be_started_is_started_later() {
    let rig = rig(1);
    let (stuck, fine) = (scene(&rig), scene(&rig));
    rig.crew.set_stack(1 << 60);
    stuck.play(&["hang"]);
    eventually("given up", || rig.board.abandoned_threads() == 1);
    fine.play(&["fine"]);
    rig.crew.tick(Instant::now());
    assert!(fine.done.try_recv().is_err(), "there is no thread for it");
    rig.crew.set_stack(2 << 20);
    assert_eq!(fine.done.recv_timeout(PATIENCE).unwrap(), "fine");
    stuck.release.send(()).unwrap();
}

#[test]
fn four_hanging_threads_are_reported_as_lost() {
    let rig = rig(1);
    let scenes: Vec<Scene> = (0..4).map(|_| scene(&rig)).collect();
    for scene in &scenes {
        scene.play(&["hang"]);
    }
    eventually("the node is told", || rig.lost.load(Ordering::SeqCst) == 1);
    for scene in &scenes {
        let _ = scene.release.send(());
    }
}

#[test]
fn a_closed_station_is_never_built_again() {
    let rig = rig(1);
    let scene = scene(&rig);
    scene.play(&["one"]);
    assert_eq!(scene.done.recv_timeout(PATIENCE).unwrap(), "one");
    scene.station.close();
    scene.play(&["two"]);
    assert_eq!(rig.crew.stop(PATIENCE), 0, "nobody is late");
    assert!(scene.done.try_recv().is_err());
}

#[test]
fn a_closed_station_is_forgotten_although_its_factory_holds_it() {
    let rig = rig(1);
    let own: Arc<std::sync::OnceLock<Station>> = Arc::default();
    let held = Arc::clone(&own);
    struct Once(#[allow(dead_code)] Arc<std::sync::OnceLock<Station>>);
    impl Component for Once {
        fn step(&mut self) -> Result<Step, Failure> {
            Ok(Step::Done)
        }
    }
    let station =
        rig.crew.station(ActorKind::Recorder, None, PATIENCE, move || Ok(Box::new(Once(Arc::clone(&held)))));
    own.set(station.clone()).ok();
    drop(own);
    station.wake();
    drop(station);
    eventually("its card leaves the board", || rig.board.reports().is_empty());
}

#[test]
fn turns_are_fair() {
    let rig = rig(1);
    let (a, b) = (scene(&rig), scene(&rig));
    a.play(&["a"; 50]);
    b.play(&["b"; 1]);
    assert_eq!(b.done.recv_timeout(PATIENCE).unwrap(), "b");
    assert_eq!((0..50).filter(|_| a.done.recv_timeout(PATIENCE).is_ok()).count(), 50);
}

struct Teller {
    sentinel: Sentinel,
    heard: Sender<u32>,
}
#[derive(Message)]
#[rtype(result = "()")]
enum Tell {
    Number(u32),
    Panic,
    Fail,
    Block(Receiver<()>),
}
impl Actor for Teller {
    type Context = Context<Self>;
}
impl Handler<Tell> for Teller {
    type Result = ();
    fn handle(&mut self, message: Tell, ctx: &mut Self::Context) {
        match message {
            Tell::Number(n) => self.heard.send(n).unwrap(),
            Tell::Panic => panic!("told to"),
            Tell::Fail => {
                self.sentinel.fail(Failure::error("gave up"));
                ctx.stop();
            }
            Tell::Block(gate) => {
                let _ = gate.recv();
            }
        }
    }
}

#[test]
fn a_solo_comes_back_from_every_kind_of_failure() {
    let rig = rig(1);
    let (tx, heard) = channel();
    let backoff = BackoffSettings { min: Duration::from_millis(20), max: Duration::from_millis(100) };
    let solo = Solo::start(
        ActorKind::Events,
        rig.board.clone(),
        backoff,
        Duration::from_millis(1000),
        move |sentinel| Teller { sentinel, heard: tx.clone() },
    );
    rig._watch.solo(solo.clone());
    let mailbox = solo.mailbox();
    let mut told = 0;
    let mut check = |restarts: u32, why: &str| {
        eventually(why, || rig.board.reports()[0].restarts == restarts);
        eventually("it hears again", || {
            told += 1;
            let _ = mailbox.offer(Tell::Number(told));
            heard.recv_timeout(Duration::from_millis(20)).is_ok()
        });
        let report = rig.board.reports().remove(0);
        assert_eq!(report.generation, restarts + 1);
        report.last_error.unwrap_or_default()
    };
    check(0, "it starts");
    eventually("taken", || mailbox.offer(Tell::Panic) == Offer::Taken);
    assert_eq!(check(1, "after a panic"), "panic: told to");
    eventually("taken", || mailbox.offer(Tell::Fail) == Offer::Taken);
    assert_eq!(check(2, "after giving up"), "gave up");
    let (release, gate) = channel();
    let mut gate = Some(gate);
    eventually("taken", || gate.take().is_none_or(|g| mailbox.offer(Tell::Block(g)) == Offer::Taken));
    assert_eq!(check(3, "after blocking its thread"), Failure::Hang.to_string());
    assert_eq!(rig.board.abandoned_threads(), 1);
    release.send(()).unwrap();
    eventually("the lost thread ends when it returns", || rig.board.abandoned_threads() == 0);
    assert!(solo.stop(PATIENCE));
}
