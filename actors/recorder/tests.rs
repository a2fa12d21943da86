//! The recorder by itself: its orders, its spools, and what a new generation makes of the one before. No encoder works
//! here, so that what was written can be read.

mod files;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use meerkat_base::{Clock, Event, Frame, ManualClock, MonoTime, Notice, NoticeSink};
use meerkat_media::{ClipSettings, ClipSize};
use meerkat_store::evidence::{PublicKey, SigningKeyFile, SpoolSigning, check_spool};
use meerkat_store::fault::{DiskOp, plan_here};
use meerkat_store::spool::{SpoolItem, SpoolReader};
use meerkat_store::{BootId, Durability, Store, StoreOptions};
use tempfile::TempDir;

use super::{
    EncoderSettings, EncoderTools, Encoders, NotBegun, Order, Places, Recorder, RecorderLink, RecorderTools,
    Stored,
};
use crate::archivist::Archivist;
use crate::camera::Camera;
use crate::supervision::{ActorKind, BackoffSettings, Board, Component, Crew, CrewSettings, Failure, Step};
use crate::testing::{NOON, camera, cameras, event, frame, frames, settings};

const TENTH: Duration = Duration::from_millis(100);
const LIMIT: Duration = Duration::from_secs(10);
/// What a full disk answers.
const ENOSPC: i32 = 28;
/// After the end of a recording: nothing that belongs to it comes any more.
const GRACE_AND_MORE: Duration = Duration::from_millis(60);

/// Keeps a crew's only thread busy until the test is over.
struct Plug(Receiver<()>);

impl Component for Plug {
    fn step(&mut self) -> Result<Step, Failure> {
        let _ = self.0.recv();
        Ok(Step::Idle)
    }
}

/// Notes what is raised.
#[derive(Default)]
struct Heard(Mutex<Vec<Notice>>);

impl NoticeSink for Heard {
    fn raise(&self, notice: Notice) {
        self.0.lock().unwrap().push(notice);
    }
}

struct Rig {
    folder: TempDir,
    clock: ManualClock,
    heard: Arc<Heard>,
    camera: Arc<Camera>,
    tools: Arc<RecorderTools>,
    archivist: Archivist,
    recorder: Recorder,
    /// Dropped, the encoders work.
    plug: Option<Sender<()>>,
}

fn crew(name: &'static str, board: &Board) -> Crew {
    Crew::start(
        CrewSettings { name, threads: 1, niceness: 0, backoff: BackoffSettings::default() },
        board.clone(),
    )
}

impl Rig {
    fn new(changes: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::new(NOON);
        let board = Board::new(Arc::new(clock.clone()));
        let (encode, archive) = (crew("encode", &board), crew("archive", &board));
        let (plug, plugged) = channel();
        let plugged = Mutex::new(Some(plugged));
        let station = encode.station(ActorKind::Encoder, None, LIMIT, move || {
            let plugged = plugged.lock().unwrap().take().expect("built once");
            Ok(Box::new(Plug(plugged)))
        });
        station.wake();

        let places = Places {
            data_dir: folder.path().to_owned(),
            boot: BootId::parse("test").unwrap(),
            durability: Durability::Process,
        };
        let options = StoreOptions::default();
        let store = Store::open(folder.path(), options).unwrap();
        let data_dir = folder.path().to_owned();
        let room = crate::testing::room(folder.path());
        let archivist = Archivist::start(&archive, LIMIT, store, Arc::clone(&room), move || {
            Store::open(&data_dir, options)
        });
        let encoder_settings = EncoderSettings {
            clip: ClipSettings {
                size: ClipSize::AsReceived,
                preset: "ultrafast".parse().unwrap(),
                crf: 23,
                threads: 1,
            },
            recorded: Arc::new(RwLock::new(Vec::new())),
            max_open: 1,
            deadline: LIMIT,
            strip: 0,
            keep_spools: false,
        };
        let heard = Arc::new(Heard::default());
        let encoder_tools = EncoderTools {
            places: places.clone(),
            clock: Arc::new(clock.clone()),
            archivist: archivist.clone(),
            room: Arc::clone(&room),
            signing: None,
            notices: heard.clone(),
        };
        let encoders = Encoders::new(encode, encoder_tools, encoder_settings);
        let wanted = settings(changes);
        let tools = Arc::new(RecorderTools {
            room,
            places,
            clip: wanted.clip,
            spool: wanted.spool,
            segment: wanted.continuous.segment,
            signing: None,
            clock: Arc::new(clock.clone()),
            encoders,
        });
        let camera = camera(&cameras(&clock, changes), "door");
        let recorder = Self::recorder(&camera, &tools);
        Self { folder, clock, heard, camera, tools, archivist, recorder, plug: Some(plug) }
    }

    fn recorder(camera: &Arc<Camera>, tools: &Arc<RecorderTools>) -> Recorder {
        Recorder::new(Arc::downgrade(camera), camera.recorder.clone(), Arc::clone(tools)).unwrap()
    }

    /// From now on files are made of spools.
    fn let_encoders_work(&mut self) {
        self.plug = None;
    }

    /// From now on spools are signed. Returns the key.
    fn sign(&mut self) -> PublicKey {
        let key = Arc::new(SigningKeyFile::create(&self.folder.path().join("key")).unwrap());
        let public = key.public();
        self.tools = Arc::new(RecorderTools {
            places: self.tools.places.clone(),
            clip: self.tools.clip.clone(),
            spool: self.tools.spool.clone(),
            segment: self.tools.segment,
            signing: Some(SpoolSigning::new(key, "test", Duration::from_secs(1))),
            clock: Arc::clone(&self.tools.clock),
            encoders: self.tools.encoders.clone(),
            room: Arc::clone(&self.tools.room),
        });
        self.lose();
        public
    }

    /// The camera sends so many frames that are to be recorded, and the disk takes none of them.
    fn send_to_no_disk(&mut self, count: usize) {
        for _ in 0..count {
            self.clock.advance(TENTH);
            let (frame, recording) = frame(&self.camera, &self.clock);
            assert!(recording);
            assert!(matches!(self.order(Order::ClipFrame { frame }), Stored::Refused(_)));
        }
    }

    /// The recorder is lost, as by a panic, and built anew.
    fn lose(&mut self) {
        self.recorder = Self::recorder(&self.camera, &self.tools);
    }

    /// Gives an order, has it carried out, and returns what became of it.
    fn order(&mut self, order: Order) -> Stored {
        let link = self.camera.recorder.clone();
        patiently(async {
            let ask = link.order(order, LIMIT);
            tokio::pin!(ask);
            tokio::select! {
                biased;
                early = &mut ask => panic!("nobody can have answered: {early:?}"),
                () = std::future::ready(()) => {}
            }
            self.recorder.step().unwrap();
            ask.await
        })
    }

    fn begin(&mut self, event: &Event) -> Option<String> {
        let link = self.camera.recorder.clone();
        patiently(async {
            let ask = link.begin_clip(event, LIMIT);
            tokio::pin!(ask);
            tokio::select! {
                biased;
                _ = &mut ask => panic!("nobody can have answered"),
                () = std::future::ready(()) => {}
            }
            self.recorder.step().unwrap();
            ask.await.unwrap().map(|file| file.path)
        })
    }

    /// The camera sends so many frames, a tenth of a second apart, and each is recorded if it is to be.
    fn send(&mut self, count: usize) {
        for _ in 0..count {
            self.clock.advance(TENTH);
            let (frame, recording) = frame(&self.camera, &self.clock);
            if recording {
                assert_eq!(self.order(Order::ClipFrame { frame }), Stored::Done);
            } else {
                self.recorder.step().unwrap();
            }
        }
    }

    fn end(&mut self, event: &Event, at: MonoTime) {
        assert_eq!(self.order(Order::EndClip { event: event.id, at }), Stored::Done);
    }

    /// Numbers of the frames in each spool, oldest spool first, and whether it is finished.
    fn spools(&self) -> Vec<(Vec<u64>, bool)> {
        self.spool_paths().iter().map(|path| spool(path)).collect()
    }

    /// Folders of the spools, oldest first.
    fn spool_paths(&self) -> Vec<PathBuf> {
        spools_in(&self.tools.places.spools())
    }

    fn newest(&self) -> u64 {
        self.camera.ring().ring.newest().unwrap().seq
    }
}

fn spools_in(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    paths.sort();
    paths
}

fn patiently<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// Stands in for a camera's recorder: notes each order in words and answers as it is told.
pub(crate) async fn serve(
    link: RecorderLink,
    orders: Arc<Mutex<Vec<String>>>,
    mut answer: impl FnMut(&Order) -> Stored + Send,
) {
    loop {
        let Some((number, order)) = link.shared.take() else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        let words = match &order {
            Order::Picture { frame } => format!("picture {}", frame.seq),
            Order::VideoFrame { frame } => format!("video {}", frame.seq),
            Order::ClipFrame { frame } => format!("clip {}", frame.seq),
            Order::EndVideo => "end video".to_owned(),
            other => format!("{other:?}"),
        };
        orders.lock().unwrap().push(words);
        link.shared.answer(number, super::link::Reply { stored: answer(&order), snapshot: None });
    }
}

fn spool(path: &Path) -> (Vec<u64>, bool) {
    let mut reader = SpoolReader::follow(path).unwrap();
    let mut numbers = Vec::new();
    loop {
        match reader.next_item().unwrap() {
            SpoolItem::Frame(frame) => {
                assert_eq!(frame.bytes, format!("\u{fffd}picture {}", frame.seq));
                numbers.push(frame.seq);
            }
            SpoolItem::NotYet => return (numbers, false),
            SpoolItem::End(end) => return (numbers, end.finished),
            SpoolItem::Corrupt { bytes } => panic!("{bytes} bytes are damaged"),
        }
    }
}

fn numbers(range: std::ops::RangeInclusive<u64>) -> Vec<u64> {
    range.collect()
}

#[test]
fn the_pre_roll_is_exact_and_nothing_is_missing_or_doubled_behind_it() {
    let mut rig = Rig::new(&[("clip.pre_roll_secs", "2"), ("clip.post_roll_secs", "1")]);
    let sent = frames(&rig.camera, &rig.clock, 80, TENTH);
    let event = event(&sent[69], 1);
    assert_eq!(event.started_seq, 70);
    assert!(!rig.camera.ring().recording);
    let snapshot = rig.begin(&event).unwrap();
    assert_eq!(std::fs::read(rig.folder.path().join(snapshot)).unwrap(), sent[69].bytes);
    // Two seconds before the frame that started it, and those that came while it was being told.
    assert_eq!(rig.spools(), [(numbers(50..=80), false)]);
    rig.send(20);
    assert_eq!(rig.spools(), [(numbers(50..=100), false)]);

    let at = rig.clock.mono();
    rig.end(&event, at);
    rig.send(9);
    assert!(rig.camera.ring().recording, "the post-roll");
    rig.send(5);
    assert!(!rig.camera.ring().recording, "and not more than that");
    let spools = rig.spools();
    assert!(spools[0].1, "finished");
    assert_eq!(spools[0].0, numbers(50..=*spools[0].0.last().unwrap()));
    assert_eq!(spools[0].0.last(), Some(&110), "a second after the last sighting, to the frame");
    assert_eq!(spools.len(), 1);
}

#[test]
fn the_order_may_come_when_the_ring_no_longer_has_the_frame() {
    let mut rig = Rig::new(&[("ring.seconds", "3"), ("clip.pre_roll_secs", "1")]);
    let sent = frames(&rig.camera, &rig.clock, 100, TENTH);
    rig.begin(&event(&sent[9], 1));
    let (numbers, _) = rig.spools().remove(0);
    assert_eq!(numbers, (90..=100).collect::<Vec<u64>>(), "a second before the newest there is");
}

#[test]
fn a_clip_of_a_camera_without_frames_is_empty_until_there_are_some() {
    let mut rig = Rig::new(&[]);
    let (elsewhere, _) = frame(&rig.camera, &rig.clock);
    rig.camera.ring().ring.clear();
    assert_eq!(rig.begin(&event(&elsewhere, 1)), None);
    rig.send(3);
    assert_eq!(rig.spools(), [(numbers(2..=4), false)]);
}

#[test]
fn parts_follow_each_other_without_a_loss() {
    let mut rig =
        Rig::new(&[("clip.pre_roll_secs", "1"), ("clip.post_roll_secs", "0"), ("clip.max_secs", "2")]);
    let sent = frames(&rig.camera, &rig.clock, 30, TENTH);
    rig.begin(&event(&sent[29], 1));
    rig.send(70);
    let spools = rig.spools();
    let all: Vec<u64> = spools.iter().flat_map(|(numbers, _)| numbers.clone()).collect();
    assert_eq!(all, numbers(20..=100));
    assert_eq!(spools.len(), 4, "{spools:?}");
    for (part, finished) in &spools[..3] {
        assert!(finished);
        assert_eq!(part.len(), 21, "two seconds from first to last");
    }
}

#[test]
fn events_that_overlap_share_a_clip_that_ends_with_the_last_of_them() {
    let mut rig = Rig::new(&[("clip.pre_roll_secs", "1"), ("clip.post_roll_secs", "1")]);
    let sent = frames(&rig.camera, &rig.clock, 20, TENTH);
    let first = event(&sent[19], 1);
    rig.begin(&first);
    rig.send(10);
    let (latest, _) = frame(&rig.camera, &rig.clock);
    let second = event(&latest, 2);
    assert!(rig.begin(&second).is_some(), "each has its own snapshot");
    let at = rig.clock.mono();
    rig.end(&first, at);
    rig.send(20);
    assert!(rig.camera.ring().recording);
    let at = rig.clock.mono();
    rig.end(&second, at);
    rig.send(15);
    assert!(!rig.camera.ring().recording);
    let spools = rig.spools();
    assert_eq!(spools.len(), 1);
    // Also number 31, which was put into the ring by this test alone and never handed over.
    assert_eq!(spools[0].0, numbers(10..=*spools[0].0.last().unwrap()));
}

#[test]
fn an_order_that_is_given_twice_is_carried_out_once() {
    let mut rig = Rig::new(&[]);
    let sent = frames(&rig.camera, &rig.clock, 3, TENTH);
    for frame in [&sent[0], &sent[0], &sent[1], &sent[1]] {
        assert_eq!(rig.order(Order::VideoFrame { frame: frame.clone() }), Stored::Done);
    }
    assert_eq!(rig.order(Order::EndVideo), Stored::Done);
    assert_eq!(rig.order(Order::EndVideo), Stored::Done);
    assert_eq!(rig.spools(), [(vec![1, 2], true)]);

    for _ in 0..2 {
        assert_eq!(rig.order(Order::Picture { frame: sent[2].clone() }), Stored::Done);
        // Also by the next generation, which knows nothing of it.
        rig.lose();
    }
    let day = rig.folder.path().join("capture/image/door").join(NOON.date());
    let files: Vec<PathBuf> = std::fs::read_dir(day).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1);
    assert_eq!(std::fs::read(&files[0]).unwrap(), sent[2].bytes);

    let event = event(&sent[2], 1);
    let snapshot = rig.begin(&event);
    assert!(snapshot.is_some());
    assert_eq!(rig.begin(&event), snapshot);
    rig.lose();
    assert_eq!(rig.begin(&event), snapshot);
}

#[test]
fn another_picture_of_the_same_name_is_never_taken_for_stored() {
    let mut rig = Rig::new(&[]);
    let (first, _) = frame(&rig.camera, &rig.clock);
    assert_eq!(rig.order(Order::Picture { frame: first.clone() }), Stored::Done);
    let other = Frame { bytes: "another".into(), ..first };
    assert!(matches!(rig.order(Order::Picture { frame: other }), Stored::Refused(_)));
}

#[test]
fn a_new_generation_goes_on_where_the_last_one_stopped() {
    let mut rig = Rig::new(&[("clip.pre_roll_secs", "1"), ("clip.post_roll_secs", "1")]);
    let sent = frames(&rig.camera, &rig.clock, 20, TENTH);
    let event = event(&sent[19], 1);
    rig.begin(&event);
    rig.send(5);
    for _ in 0..3 {
        // Frames that come while nobody is there wait in the ring; nobody has been told that they are stored.
        frames(&rig.camera, &rig.clock, 4, TENTH);
        assert!(rig.camera.ring().recording, "sessions go on handing over");
        rig.lose();
        rig.send(3);
    }
    let at = rig.clock.mono();
    rig.end(&event, at);
    rig.send(15);
    assert!(!rig.camera.ring().recording);
    let spools = rig.spools();
    assert_eq!(spools.len(), 4);
    let all: Vec<u64> = spools.iter().flat_map(|(numbers, _)| numbers.clone()).collect();
    assert_eq!(all, numbers(10..=*all.last().unwrap()), "in four spools, each frame once");
    assert!(spools[3].1);
}

#[test]
fn a_generation_that_is_lost_over_the_beginning_leaves_the_same_pre_roll() {
    let mut rig = Rig::new(&[("clip.pre_roll_secs", "1")]);
    let sent = frames(&rig.camera, &rig.clock, 60, TENTH);
    let event = event(&sent[59], 1);
    // It came as far as this before its thread died: no spool, no answer.
    rig.camera.ring().recording = true;
    {
        let mut legacy = rig.camera.recorder.shared.legacy();
        legacy.last_seq = 49;
        legacy.activate(event.id);
    }
    rig.lose();
    assert_eq!(rig.spools(), [(numbers(50..=60), false)]);
    rig.begin(&event);
    rig.send(2);
    assert_eq!(rig.spools(), [(numbers(50..=62), false)]);
}

#[test]
fn whoever_waits_for_a_recorder_that_hangs_learns_that_the_order_was_lost() {
    let mut rig = Rig::new(&[]);
    let (picture, _) = frame(&rig.camera, &rig.clock);
    let link = rig.camera.recorder.clone();
    let answer = patiently(async {
        let ask = link.order(Order::Picture { frame: picture.clone() }, LIMIT);
        tokio::pin!(ask);
        tokio::select! {
            biased;
            early = &mut ask => panic!("nobody can have answered: {early:?}"),
            () = std::future::ready(()) => {}
        }
        // A thread took the order and never came back.
        let (number, _order) = link.shared.take().unwrap();
        rig.lose();
        // When it does come back it has nothing to say any more.
        link.shared.answer(number, super::link::Reply { stored: Stored::Done, snapshot: None });
        ask.await
    });
    assert_eq!(answer, Stored::Lost);
    assert_eq!(rig.order(Order::Picture { frame: picture }), Stored::Done);
}

#[test]
fn a_generation_that_was_given_up_and_comes_back_leaves_everything_to_its_successor() {
    let mut rig = Rig::new(&[("clip.pre_roll_secs", "1"), ("clip.post_roll_secs", "1")]);
    let sent = frames(&rig.camera, &rig.clock, 20, TENTH);
    let event = event(&sent[19], 1);
    rig.begin(&event);
    let successor = Rig::recorder(&rig.camera, &rig.tools);
    let mut lost = std::mem::replace(&mut rig.recorder, successor);
    rig.send(3);
    rig.clock.advance(Duration::from_secs(60));
    assert_eq!(lost.step().unwrap(), Step::Done);
    drop(lost);
    assert!(rig.camera.ring().recording);
    rig.send(2);
    let all: Vec<u64> = rig.spools().iter().flat_map(|(numbers, _)| numbers.clone()).collect();
    assert_eq!(all, numbers(10..=25));
}

#[test]
fn a_full_disk_refuses_what_is_new_and_says_so() {
    let mut rig = Rig::new(&[]);
    let full = RecorderTools {
        places: rig.tools.places.clone(),
        clip: rig.tools.clip.clone(),
        spool: rig.tools.spool.clone(),
        segment: rig.tools.segment,
        signing: None,
        clock: Arc::clone(&rig.tools.clock),
        encoders: rig.tools.encoders.clone(),
        room: crate::testing::room_with(&rig.tools.places.data_dir, 1 << 50),
    };
    rig.tools = Arc::new(full);
    rig.lose();
    let (picture, _) = frame(&rig.camera, &rig.clock);
    assert!(matches!(rig.order(Order::Picture { frame: picture.clone() }), Stored::Refused(_)));
    assert!(matches!(rig.order(Order::VideoFrame { frame: picture.clone() }), Stored::Refused(_)));
    let link = rig.camera.recorder.clone();
    let refused = patiently(async {
        let event = event(&picture, 1);
        let ask = link.begin_clip(&event, LIMIT);
        tokio::pin!(ask);
        tokio::select! {
            biased;
            _ = &mut ask => panic!("nobody can have answered"),
            () = std::future::ready(()) => {}
        }
        rig.recorder.step().unwrap();
        ask.await
    });
    assert!(matches!(refused, Err(NotBegun::Refused(_))), "{refused:?}");
    assert_eq!(rig.camera.recorder.refusals(), 3);
    assert!(rig.camera.ring().recording, "it is recorded as soon as there is room");
    let event = event(&picture, 1).id;
    assert!(
        rig.camera.recorder.missed(event) && !rig.camera.recorder.missed(event),
        "the event says so, once"
    );
}

#[test]
fn a_recorder_that_is_too_late_is_told_apart_from_one_that_cannot() {
    let rig = Rig::new(&[]);
    let (picture, _) = frame(&rig.camera, &rig.clock);
    let link = rig.camera.recorder.clone();
    let late = patiently(async { link.begin_clip(&event(&picture, 1), Duration::from_millis(20)).await });
    assert_eq!(late, Err(NotBegun::Late));
}

#[test]
fn a_session_and_the_recorder_side_by_side_lose_and_double_nothing() {
    for round in 0..20u64 {
        let mut rig = Rig::new(&[("clip.pre_roll_secs", "2")]);
        let sent = frames(&rig.camera, &rig.clock, 40, TENTH);
        let started = event(&sent[39], 1);
        let over = AtomicBool::new(false);
        let (camera, clock) = (Arc::clone(&rig.camera), rig.clock.clone());
        std::thread::scope(|scope| {
            let over = &over;
            let session = scope.spawn(move || {
                for _ in 0..200 {
                    clock.advance(Duration::from_millis(1));
                    let (frame, recording) = frame(&camera, &clock);
                    if recording {
                        let order = Order::ClipFrame { frame };
                        assert_eq!(patiently(camera.recorder.order(order, LIMIT)), Stored::Done);
                    }
                }
            });
            let link = rig.camera.recorder.clone();
            let courier = scope.spawn(move || {
                std::thread::sleep(Duration::from_micros(round * 50));
                patiently(link.begin_clip(&started, LIMIT)).unwrap();
            });
            let recorder = &mut rig.recorder;
            scope.spawn(move || {
                while !over.load(Ordering::Acquire) {
                    recorder.step().unwrap();
                    std::thread::yield_now();
                }
            });
            session.join().unwrap();
            courier.join().unwrap();
            over.store(true, Ordering::Release);
        });
        assert_eq!(rig.spools(), [(numbers(20..=rig.newest()), false)], "round {round}");
    }
}

#[test]
fn what_is_made_ready_for_pictures_in_quick_succession_is_never_seen() {
    let mut rig = Rig::new(&[]);
    let names = |rig: &Rig| {
        let days = std::fs::read_dir(rig.folder.path().join("capture/image/door")).unwrap();
        days.flat_map(|day| std::fs::read_dir(day.unwrap().path()).unwrap()).count()
    };
    for (sent, gap) in [1, 1, 100, 1, 1, 1].into_iter().enumerate() {
        rig.clock.advance(Duration::from_millis(gap));
        let (frame, _) = frame(&rig.camera, &rig.clock);
        assert_eq!(rig.order(Order::Picture { frame }), Stored::Done);
        assert_eq!(names(&rig), sent + 1);
    }
    assert_eq!(rig.order(Order::EndVideo), Stored::Done);
    rig.lose();
    assert_eq!(names(&rig), 6);
}

#[test]
fn the_post_roll_is_exact_whatever_comes_late() {
    // Frames come, or do not, after the end; orders for frames of the post-roll may still be on their way.
    for frames_after in [0, 1, 40] {
        let mut rig = Rig::new(&[("clip.pre_roll_secs", "1"), ("clip.post_roll_secs", "1")]);
        let sent = frames(&rig.camera, &rig.clock, 20, TENTH);
        let event = event(&sent[19], 1);
        rig.begin(&event);
        rig.send(5);
        rig.end(&event, sent[19].mono);
        rig.send(2);
        // Received, numbered and in the ring, but nobody has ordered them to be stored yet.
        let late = frames(&rig.camera, &rig.clock, 4, TENTH);
        rig.clock.advance(GRACE_AND_MORE);
        if frames_after == 0 {
            rig.recorder.step().unwrap();
        }
        rig.send(frames_after);
        assert!(!rig.camera.ring().recording);
        let spools = rig.spools();
        assert_eq!(spools.len(), 1);
        // A second before the event's frame 20, and a second after it.
        assert_eq!(spools[0], (numbers(10..=30), true), "{frames_after} frames after the end");
        assert_eq!(late.last().unwrap().seq, 31, "one of them belongs to it no more");
    }
}

#[test]
fn a_clip_waits_for_the_picture_that_is_still_being_covered() {
    let mut rig = Rig::new(&[("clip.pre_roll_secs", "1"), ("clip.post_roll_secs", "1")]);
    let sent = frames(&rig.camera, &rig.clock, 20, TENTH);
    let event = event(&sent[19], 1);
    rig.begin(&event);
    let at = rig.clock.mono();
    rig.end(&event, at);
    rig.send(5);
    let camera = Arc::clone(&rig.camera);
    let mut arriving = camera.arrives();
    let arrived = rig.clock.mono();
    rig.clock.advance(Duration::from_secs(3));
    rig.recorder.step().unwrap();
    assert!(camera.ring().recording, "it may have arrived in time");
    arriving.at(arrived);
    rig.recorder.step().unwrap();
    assert!(camera.ring().recording, "and it has");
    // Covered at last.
    let late = Frame { mono: arrived, ..frame(&camera, &ManualClock::new(NOON)).0 };
    {
        let mut state = camera.ring();
        state.ring.clear();
        state.ring.push(late.clone());
    }
    drop(arriving);
    rig.recorder.step().unwrap();
    assert!(!camera.ring().recording);
    assert_eq!(rig.spools(), [(numbers(10..=late.seq), true)]);
}

#[test]
fn a_picture_that_comes_after_the_end_holds_nobody_up() {
    let mut rig = Rig::new(&[("clip.pre_roll_secs", "1"), ("clip.post_roll_secs", "1")]);
    let sent = frames(&rig.camera, &rig.clock, 20, TENTH);
    let event = event(&sent[19], 1);
    rig.begin(&event);
    let at = rig.clock.mono();
    rig.end(&event, at);
    rig.clock.advance(Duration::from_secs(3));
    let camera = Arc::clone(&rig.camera);
    camera.arrives().at(rig.clock.mono());
    let mut arriving = camera.arrives();
    arriving.at(rig.clock.mono());
    rig.recorder.step().unwrap();
    assert!(!camera.ring().recording);
}

#[test]
fn a_camera_that_comes_back_while_its_event_is_recorded_is_the_same_one() {
    let clock = ManualClock::new(NOON);
    let all = cameras(&clock, &[]);
    let id = meerkat_base::CameraId::parse("door").unwrap();
    let first = all.attach(&id);
    let (camera, _) = (Arc::clone(&first.camera), frame(&first.camera, &clock));
    camera.recorder.shared.legacy().activate(event(&frame(&camera, &clock).0, 1).id);
    all.leave(&camera, first.seat);
    assert!(all.get(&id).is_none());
    clock.advance(Duration::from_secs(3_600));
    all.publish();
    let second = all.attach(&id);
    assert!(Arc::ptr_eq(&second.camera, &camera), "its ring, its numbers and its recorder go on");
    assert_eq!(frame(&second.camera, &clock).0.seq, 3);
    assert!(all.all_with_parting().len() == 1 && all.get(&id).is_some());
    // Once the event is over it is seen off as ever.
    camera.recorder.shared.legacy().active.clear();
    all.leave(&camera, second.seat);
    all.publish();
    assert!(!Arc::ptr_eq(&all.attach(&id).camera, &camera));
}

#[test]
fn a_clip_goes_on_when_the_disk_takes_it_again() {
    let mut rig = Rig::new(&[("clip.pre_roll_secs", "1"), ("clip.max_secs", "20")]);
    let sent = frames(&rig.camera, &rig.clock, 20, TENTH);
    let event = event(&sent[19], 1);
    rig.begin(&event);
    rig.send(5);
    // Its spool is taken away from it, as by a part that could not be begun.
    let spools = rig.tools.places.spools();
    rig.recorder.clip.take().unwrap().finish().unwrap();
    let away = rig.folder.path().join("away");
    std::fs::rename(&spools, &away).unwrap();
    std::fs::write(&spools, "a file in its place").unwrap();
    for _ in 0..3 {
        rig.clock.advance(TENTH);
        let (frame, recording) = frame(&rig.camera, &rig.clock);
        assert!(recording);
        assert!(matches!(rig.order(Order::ClipFrame { frame }), Stored::Refused(_)));
    }
    std::fs::remove_file(&spools).unwrap();
    std::fs::rename(&away, &spools).unwrap();
    rig.send(3);
    assert_eq!(rig.spools(), [(numbers(10..=25), true), (numbers(26..=31), false)]);
}

#[test]
fn frames_that_the_disk_refused_come_from_the_ring_once_and_in_their_order() {
    for signed in [false, true] {
        let mut rig = Rig::new(&[("clip.pre_roll_secs", "1"), ("cameras.door.continuous", "true")]);
        let key = signed.then(|| rig.sign());
        let sent = frames(&rig.camera, &rig.clock, 20, TENTH);
        rig.begin(&event(&sent[19], 1));
        rig.send(5);
        // There is no room, then no disk, then room, and then none in the midst of what is missing.
        plan_here(DiskOp::Write, ENOSPC, 0, u32::MAX);
        rig.send_to_no_disk(10);
        plan_here(DiskOp::Write, ENOSPC, 0, 0);
        let (root, elsewhere) = (rig.folder.path().to_owned(), tempfile::tempdir().unwrap());
        let away = elsewhere.path().join("away");
        std::fs::rename(&root, &away).unwrap();
        let _ = rig.tools.room.look();
        rig.send_to_no_disk(20);
        std::fs::rename(&away, &root).unwrap();
        let _ = rig.tools.room.look();
        plan_here(DiskOp::Write, ENOSPC, 4, 1);
        rig.send_to_no_disk(1);
        assert_eq!(
            rig.spools(),
            [(numbers(1..=56), false), (numbers(10..=29), false)],
            "the clip as far as it was taken"
        );
        rig.send(3);
        assert_eq!(rig.order(Order::Finish), Stored::Done);
        assert_eq!(rig.spools(), [(numbers(1..=59), true), (numbers(10..=59), true)]);
        let Some(key) = key else { continue };
        for path in rig.spool_paths() {
            let found = check_spool(&path, &key).unwrap();
            assert!(found.finished && found.signed_frames == found.frames && found.gaps.is_empty());
        }
    }
}

#[test]
fn a_spool_that_fails_while_it_is_begun_is_followed_by_one_that_goes_on_behind_it() {
    let mut rig = Rig::new(&[("clip.pre_roll_secs", "1"), ("cameras.door.continuous", "true")]);
    let sent = frames(&rig.camera, &rig.clock, 20, TENTH);
    rig.begin(&event(&sent[19], 1));
    rig.send(5);
    plan_here(DiskOp::Write, ENOSPC, 0, u32::MAX);
    rig.send_to_no_disk(10);
    // The next recorder begins with what is missing, and does not get far.
    plan_here(DiskOp::Write, ENOSPC, 4, 1);
    rig.lose();
    let _ = rig.tools.room.look();
    // Nor does the next segment.
    plan_here(DiskOp::Write, ENOSPC, 12, 1);
    rig.send_to_no_disk(1);
    let _ = rig.tools.room.look();
    rig.send(3);
    assert_eq!(rig.order(Order::Finish), Stored::Done);
    for stream in ["_clip_", "_segment_"] {
        let mut paths = rig.spool_paths();
        paths.retain(|path| path.to_string_lossy().contains(stream));
        assert_eq!(paths.len(), 3, "{stream}");
        let mut recorded: Vec<u64> = paths.iter().flat_map(|path| spool(path).0).collect();
        recorded.sort_unstable();
        let first = if stream == "_clip_" { 10 } else { 1 };
        assert_eq!(recorded, numbers(first..=39), "each once: {stream}");
    }
}

#[test]
fn what_the_ring_no_longer_has_shows_as_a_gap_in_the_chain() {
    let mut rig = Rig::new(&[("ring.seconds", "3"), ("clip.pre_roll_secs", "1")]);
    let key = rig.sign();
    let sent = frames(&rig.camera, &rig.clock, 20, TENTH);
    rig.begin(&event(&sent[19], 1));
    rig.send(5);
    plan_here(DiskOp::Write, ENOSPC, 0, u32::MAX);
    rig.send_to_no_disk(50);
    plan_here(DiskOp::Write, ENOSPC, 0, 0);
    rig.send(1);
    // Three seconds before number 76.
    let due: Vec<u64> = (10..=25).chain(46..=76).collect();
    assert_eq!(rig.order(Order::Finish), Stored::Done);
    assert_eq!(rig.spools(), [(due, true)]);
    assert_eq!(check_spool(&rig.spool_paths()[0], &key).unwrap().gaps, [(26, 45)]);
}

#[test]
fn nothing_is_begun_in_what_took_the_place_of_a_disk() {
    let mut rig = Rig::new(&[]);
    let sent = frames(&rig.camera, &rig.clock, 3, TENTH);
    // So the room has looked a moment ago.
    assert_eq!(rig.order(Order::VideoFrame { frame: sent[0].clone() }), Stored::Done);
    assert_eq!(rig.order(Order::EndVideo), Stored::Done);
    let (root, elsewhere) = (rig.folder.path().to_owned(), tempfile::tempdir().unwrap());
    let away = elsewhere.path().join("away");
    std::fs::rename(&root, &away).unwrap();
    for _ in 0..2 {
        // The path leads nowhere, then to the empty folder that the disk was mounted on.
        assert!(matches!(rig.order(Order::VideoFrame { frame: sent[1].clone() }), Stored::Refused(_)));
        if !root.exists() {
            std::fs::create_dir(&root).unwrap();
        }
        assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
    }
    std::fs::remove_dir(&root).unwrap();
    std::fs::rename(&away, &root).unwrap();
    // A refusal holds for a moment.
    let _ = rig.tools.room.look();
    assert_eq!(rig.order(Order::VideoFrame { frame: sent[2].clone() }), Stored::Done);
    assert_eq!(rig.spools(), [(vec![1], true), (vec![3], false)]);
}

#[test]
fn what_is_recorded_goes_on_on_the_disk_that_is_back() {
    let changes = [("clip.pre_roll_secs", "1"), ("cameras.door.continuous", "true")];
    let mut rig = Rig::new(&changes);
    let sent = frames(&rig.camera, &rig.clock, 20, TENTH);
    rig.begin(&event(&sent[19], 1));
    rig.send(5);
    let video = frame(&rig.camera, &rig.clock).0;
    assert_eq!(rig.order(Order::VideoFrame { frame: video }), Stored::Done);
    let (root, elsewhere) = (rig.folder.path().to_owned(), tempfile::tempdir().unwrap());
    let away = elsewhere.path().join("away");
    std::fs::rename(&root, &away).unwrap();
    std::fs::create_dir(&root).unwrap();
    std::fs::copy(away.join("meerkat.id"), root.join("meerkat.id")).unwrap();
    rig.tools.room.look().unwrap();
    // Another event comes before the next picture: what is missing of the first is not forgotten over it.
    let late = frames(&rig.camera, &rig.clock, 15, TENTH);
    rig.begin(&event(&late[14], 2));
    rig.send(3);
    let video = frame(&rig.camera, &rig.clock).0;
    assert_eq!(rig.order(Order::VideoFrame { frame: video }), Stored::Done);
    let before: Vec<_> = spools_in(&away.join("spool")).iter().map(|path| spool(path)).collect();
    assert!(before.len() == 3 && before.iter().all(|(_, finished)| *finished), "{before:?}");
    let clip: Vec<Vec<u64>> = rig
        .spool_paths()
        .iter()
        .filter(|path| path.to_string_lossy().contains("_clip_"))
        .map(|path| spool(path).0)
        .collect();
    assert_eq!(clip, [numbers(26..=44)], "each frame since");
    assert_eq!(rig.spools().len(), 3, "and a video and a segment");
}

#[test]
fn a_spool_that_grows_too_large_goes_on_in_the_next_part() {
    let mut rig = Rig::new(&[("clip.pre_roll_secs", "1")]);
    rig.tools = {
        let mut spool = rig.tools.spool.clone();
        spool.max_bytes = 2_000;
        Arc::new(RecorderTools {
            places: rig.tools.places.clone(),
            clip: rig.tools.clip.clone(),
            spool,
            segment: rig.tools.segment,
            signing: None,
            clock: Arc::clone(&rig.tools.clock),
            encoders: rig.tools.encoders.clone(),
            room: Arc::clone(&rig.tools.room),
        })
    };
    rig.lose();
    let sent = frames(&rig.camera, &rig.clock, 20, TENTH);
    rig.begin(&event(&sent[19], 1));
    rig.send(60);
    let spools = rig.spools();
    assert_eq!(spools.len(), 4, "{spools:?}");
    let all: Vec<u64> = spools.iter().flat_map(|(numbers, _)| numbers.clone()).collect();
    assert_eq!(all, numbers(10..=80));
    for frame in frames(&rig.camera, &rig.clock, 60, TENTH) {
        assert_eq!(rig.order(Order::VideoFrame { frame }), Stored::Done);
    }
    assert_eq!(rig.order(Order::EndVideo), Stored::Done);
    let parts = rig.spools().len() - spools.len();
    assert!(parts > 2, "{parts} parts of a video");
}

#[test]
fn too_many_bytes_without_a_file_refuse_what_is_new() {
    let rig = Rig::new(&[]);
    assert!(rig.tools.encoders.check_waiting(1).is_ok());
    let sent = frames(&rig.camera, &rig.clock, 1, TENTH);
    let clip = super::clip::begin_clip(
        &rig.tools,
        &rig.camera.recorder,
        &rig.camera,
        event(&sent[0], 1).id,
        serde_json::Value::Null,
        &sent,
    );
    let clip = clip.unwrap();
    assert!(rig.tools.encoders.check_waiting(clip.bytes() + 1).is_ok());
    let refused = rig.tools.encoders.check_waiting(clip.bytes()).unwrap_err();
    assert!(refused.to_string().contains("spool.total_bytes"), "{refused}");
}

/// The segments of a camera that is recorded without a break: numbers of their frames.
fn segments(rig: &Rig) -> Vec<Vec<u64>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(rig.tools.places.spools()).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().contains("_segment_") {
            found.push(spool(&path).0);
        }
    }
    found.sort();
    found
}

#[test]
fn segments_follow_each_other_without_a_loss_beside_clips() {
    let changes = [
        ("cameras.door.continuous", "true"),
        ("continuous.segment_secs", "2"),
        ("clip.pre_roll_secs", "1"),
        ("clip.post_roll_secs", "0"),
    ];
    let mut rig = Rig::new(&changes);
    // Every frame is handed over, whether or not a clip is recorded.
    let hand_over = |rig: &mut Rig, count: usize| {
        for _ in 0..count {
            rig.clock.advance(TENTH);
            let (frame, _) = frame(&rig.camera, &rig.clock);
            assert_eq!(rig.order(Order::ClipFrame { frame: frame.clone() }), Stored::Done);
            // Given twice, carried out once.
            assert_eq!(rig.order(Order::ClipFrame { frame }), Stored::Done);
        }
    };
    hand_over(&mut rig, 50);
    let (latest, _) = frame(&rig.camera, &rig.clock);
    let event = event(&latest, 1);
    rig.begin(&event);
    hand_over(&mut rig, 10);
    rig.lose();
    hand_over(&mut rig, 10);
    let at = rig.clock.mono();
    rig.end(&event, at);
    hand_over(&mut rig, 10);
    let all: Vec<u64> = segments(&rig).concat();
    // Also number 51, which was put into the ring by this test alone and never handed over.
    assert_eq!(all, numbers(1..=81), "each frame once");
    let whole = &segments(&rig)[..2];
    assert_eq!(whole, [numbers(1..=20), numbers(21..=40)], "two seconds each");
    // Without a frame the running one ends when its time has passed.
    assert_eq!(rig.order(Order::Finish), Stored::Done);
    hand_over(&mut rig, 1);
    rig.clock.advance(Duration::from_secs(3));
    rig.recorder.step().unwrap();
    assert!(rig.recorder.segment.is_none());
}
