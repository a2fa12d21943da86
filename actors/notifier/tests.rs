//! The lanes of the notifier, turn by turn, with a clock that a test moves and channels that it scripts.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use meerkat_base::{Event, EventKind, ManualClock, Notice};
use meerkat_notify::limiter::Limiter;
use meerkat_notify::{Alert, ClipPart, Delivery, Digest, Outcome};
use meerkat_store::{
    ClipRow, ClipState, ClipWish, LinkKey, NewAlert, OutboxCounts, OutboxRow, OutboxState, StoreOptions,
};
use tokio::time::Instant;

use super::lane::Step;
use super::*;
use crate::rules::AlertDraft;
use crate::supervision::{BackoffSettings, Board, Crew, CrewSettings, Watch};
use crate::testing::{NOON, camera, cameras, event, frame, settings};

mod clips;
mod scale;

/// What a channel was asked to deliver.
#[derive(Debug, Clone)]
enum Asked {
    Alert(Alert),
    Digest(Digest),
    Clip(Alert, ClipPart),
}

/// Notes what it is asked to deliver, and answers as the script says; when that is over: delivered.
#[derive(Default)]
struct Fake {
    script: Mutex<VecDeque<Outcome>>,
    asked: Mutex<Vec<Asked>>,
    /// Everything fails.
    down: Mutex<bool>,
    limiter: Option<(Mutex<Limiter>, ManualClock)>,
    clip_limit: Option<u64>,
    silent: bool,
}

impl Fake {
    fn answer(&self, asked: Asked) -> Delivery<'_> {
        if let Some((limiter, clock)) = &self.limiter {
            assert_eq!(limiter.lock().unwrap().take(clock.mono()), Ok(()), "faster than the service allows");
        }
        self.asked.lock().unwrap().push(asked);
        let down = *self.down.lock().unwrap();
        let usual = if down { retry(None, 0) } else { Outcome::Delivered };
        let outcome = self.script.lock().unwrap().pop_front().unwrap_or(usual);
        let silent = self.silent;
        Box::pin(async move {
            if silent {
                std::future::pending::<()>().await;
            }
            outcome
        })
    }
}

impl Channel for Fake {
    fn name(&self) -> &str {
        "fake"
    }

    fn kind(&self) -> &'static str {
        "webhook"
    }

    fn ready_in(&self) -> Duration {
        self.limiter
            .as_ref()
            .map_or(Duration::ZERO, |(limiter, clock)| limiter.lock().unwrap().wait(clock.mono()))
    }

    fn deliver<'a>(&'a self, alert: &'a Alert) -> Delivery<'a> {
        self.answer(Asked::Alert(alert.clone()))
    }

    fn clip_limit(&self) -> Option<u64> {
        self.clip_limit
    }

    fn deliver_clip<'a>(&'a self, alert: &'a Alert, clip: &'a ClipPart) -> Delivery<'a> {
        self.answer(Asked::Clip(alert.clone(), clip.clone()))
    }

    fn deliver_digest<'a>(&'a self, digest: &'a Digest) -> Delivery<'a> {
        self.answer(Asked::Digest(digest.clone()))
    }
}

#[derive(Default)]
struct Heard(Mutex<Vec<Notice>>);

impl NoticeSink for Heard {
    fn raise(&self, notice: Notice) {
        self.0.lock().unwrap().push(notice);
    }
}

struct Rig {
    clock: ManualClock,
    tools: NotifierTools,
    channel: Arc<Fake>,
    heard: Arc<Heard>,
    folder: tempfile::TempDir,
    _watch: Watch,
}

impl Rig {
    fn new(channel: Fake) -> Self {
        Self::with_clock(channel, ManualClock::new(NOON))
    }

    fn with_clock(channel: Fake, clock: ManualClock) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let board = Board::new(Arc::new(clock.clone()));
        let backoff = BackoffSettings { min: Duration::from_millis(20), max: Duration::from_millis(50) };
        let crew_settings = CrewSettings { name: "archive", threads: 1, niceness: 0, backoff };
        let crew = Crew::start(crew_settings, board.clone());
        let watch = Watch::start(board, 64, || {}).unwrap();
        watch.crew(crew.clone());
        let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        let path = folder.path().to_owned();
        let room = crate::testing::room(folder.path());
        let archivist = Archivist::start(&crew, Duration::from_secs(10), store, room, move || {
            Store::open(&path, StoreOptions::default())
        });
        let (channel, heard) = (Arc::new(channel), Arc::new(Heard::default()));
        let links = Links {
            public_url: "https://cams.example.org".to_owned(),
            life: Duration::from_secs(3_600),
            key: LinkKey::open(folder.path()).unwrap(),
        };
        let delivery = settings(&[]).notify.delivery;
        let shrinker = Shrinker::new(folder.path(), delivery.shrink_limit, Arc::new(clock.clone()));
        let tools = NotifierTools {
            archivist,
            channels: vec![channel.clone()],
            policy: RetryPolicy { give_up_after: Duration::from_secs(86_400), ..RetryPolicy::default() },
            clips: ClipTools::new(shrinker, Some(links), delivery.max_clip_bytes),
            delivery,
            data_dir: folder.path().to_owned(),
            clock: Arc::new(clock.clone()),
            link: NotifierLink::default(),
            notices: heard.clone(),
        };
        Self { clock, tools, channel, heard, folder, _watch: watch }
    }

    fn post(&self) -> Arc<Post> {
        Arc::new(Post::new(self.tools.clone(), self.channel.clone()))
    }

    fn lane(&self) -> Lane {
        Lane::new(self.post())
    }

    /// An event with an alert for the channel, a second after the one before.
    async fn alert(&self, number: u8, snapshot: Option<&str>) -> Event {
        self.alert_at("door", number, snapshot).await
    }

    async fn alert_at(&self, at: &str, number: u8, snapshot: Option<&str>) -> Event {
        self.clock.advance(Duration::from_secs(1));
        let door = camera(&cameras(&self.clock, &[]), at);
        let event = event(&frame(&door, &self.clock).0, number);
        let draft = AlertDraft {
            camera_name: Some("Front door".to_owned()),
            identities: vec!["ann".to_owned()],
            score: 0.75,
            started_micros: event.started.0,
            ..AlertDraft::default()
        };
        let alert = NewAlert {
            channel: "fake".to_owned(),
            payload: serde_json::to_value(&draft).unwrap(),
            snapshot: snapshot.map(str::to_owned),
            created: event.started,
        };
        let row = event.clone();
        self.tools.archivist.ask(move |store| store.start_event(&row, &[alert])).await.unwrap();
        event
    }

    async fn counts(&self) -> OutboxCounts {
        self.tools.archivist.ask(|store| store.outbox_counts()).await.unwrap()
    }

    async fn waiting(&self) -> u64 {
        self.counts().await.waiting
    }

    async fn row(&self, event: &Event) -> OutboxRow {
        let id = event.id;
        self.tools.archivist.ask(move |store| store.alerts_of(id)).await.unwrap().remove(0)
    }

    fn asked(&self) -> Vec<Asked> {
        self.channel.asked.lock().unwrap().clone()
    }

    /// The alerts among what the channel was asked to deliver.
    fn alerts(&self) -> Vec<Alert> {
        self.asked()
            .into_iter()
            .filter_map(|asked| match asked {
                Asked::Alert(alert) => Some(alert),
                _ => None,
            })
            .collect()
    }

    fn digests(&self) -> Vec<Digest> {
        self.asked()
            .into_iter()
            .filter_map(|asked| match asked {
                Asked::Digest(digest) => Some(digest),
                _ => None,
            })
            .collect()
    }

    /// Whether anything was said to hold.
    fn says_it_fails(&self) -> bool {
        self.heard.0.lock().unwrap().iter().any(|notice| notice.holds)
    }

    fn script(&self, outcomes: impl IntoIterator<Item = Outcome>) {
        self.channel.script.lock().unwrap().extend(outcomes);
    }

    /// Turns until nothing can be done now; says for how long.
    async fn settle(&self, lane: &mut Lane) -> Duration {
        loop {
            if let Step::Wait(wait) = lane.turn().await.unwrap() {
                return wait;
            }
        }
    }

    /// The same, and on for so long by the test's clock, never past a moment at which something could be done.
    async fn pass(&self, lane: &mut Lane, time: Duration) {
        let end = self.clock.mono().after(time);
        loop {
            let wait = self.settle(lane).await;
            let left = end.since(self.clock.mono());
            if left.is_zero() {
                return;
            }
            self.clock.advance(wait.max(Duration::from_millis(1)).min(left));
        }
    }

    /// Lets the lane work by itself until this is so.
    async fn work_until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let done = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::select! {
            failure = self.lane().run() => panic!("the lane ended: {failure}"),
            () = done => {}
            () = tokio::time::sleep(Duration::from_secs(20)) => panic!("never: {what}"),
        }
    }
}

fn retry(after: Option<Duration>, sent: u8) -> Outcome {
    Outcome::Retry { after, reason: "busy".to_owned(), sent }
}

fn refused(reason: &str) -> Outcome {
    Outcome::Refused { reason: reason.to_owned(), sent: 0 }
}

#[test]
fn what_waits_is_delivered_oldest_first_with_all_that_is_known() {
    crate::in_system(async {
        let rig = Rig::new(Fake::default());
        std::fs::write(rig.folder.path().join("a.jpg"), b"picture").unwrap();
        let first = rig.alert(1, Some("a.jpg")).await;
        let second = rig.alert(2, Some("missing.jpg")).await;
        rig.settle(&mut rig.lane()).await;
        assert_eq!(rig.waiting().await, 0);
        let told = rig.alerts();
        let events: Vec<_> = told.iter().map(|alert| alert.event).collect();
        assert_eq!(events, [first.id, second.id]);
        assert_eq!(told[0].snapshot.as_deref(), Some(&b"picture"[..]));
        assert!(
            told[0]
                .snapshot_link
                .as_ref()
                .unwrap()
                .starts_with("https://cams.example.org/shared/a.jpg?until=")
        );
        assert_eq!(told[1].snapshot, None, "a picture that is gone does not keep the message back");
        let alert = &told[0];
        assert_eq!((alert.camera_name.as_deref(), alert.score), (Some("Front door"), 0.75));
        assert_eq!((&alert.identities[..], alert.started), (&["ann".to_owned()][..], first.started));
        assert_eq!((alert.kind, alert.already_sent), (first.kind, 0));
    });
}

#[test]
fn a_bell_is_answered_at_once() {
    crate::in_system(async {
        let rig = Rig::new(Fake::default());
        // A machine with much else to do may be late; not five times in a row.
        let mut waits = Vec::new();
        for number in 1..=5 {
            let began = Instant::now();
            let late = async {
                // By then the lane has found nothing and waits.
                tokio::time::sleep(Duration::from_millis(100)).await;
                rig.alert(number, None).await;
                rig.tools.link.kick();
            };
            let delivered = async || rig.asked().len() == usize::from(number);
            tokio::join!(rig.work_until("it is delivered", delivered), late);
            waits.push(began.elapsed());
        }
        assert!(waits.iter().any(|wait| *wait < INTERVAL), "{waits:?}");
    });
}

#[test]
fn a_delivery_that_fails_is_tried_again_from_where_it_stood() {
    crate::in_system(async {
        let rig = Rig::new(Fake::default());
        rig.script([retry(Some(Duration::from_secs(30)), 1), Outcome::Delivered]);
        let event = rig.alert(1, None).await;
        let mut lane = rig.lane();
        rig.settle(&mut lane).await;
        assert_eq!((rig.row(&event).await.attempts, rig.waiting().await), (1, 1));
        rig.pass(&mut lane, Duration::from_secs(29)).await;
        assert_eq!(rig.asked().len(), 1, "the service said how long to wait");
        rig.pass(&mut lane, Duration::from_secs(40)).await;
        assert_eq!(rig.waiting().await, 0);
        let told = rig.alerts();
        assert_eq!(
            told.iter().map(|alert| alert.already_sent).collect::<Vec<_>>(),
            [0, 1],
            "not the text again"
        );
        assert_eq!(told[0].id, told[1].id);
    });
}

#[test]
fn one_that_fails_holds_up_its_camera_and_no_other() {
    crate::in_system(async {
        let rig = Rig::new(Fake::default());
        let events = [
            rig.alert_at("door", 1, None).await,
            rig.alert_at("door", 2, None).await,
            rig.alert_at("yard", 3, None).await,
        ];
        rig.script([retry(None, 0)]);
        let mut lane = rig.lane();
        rig.pass(&mut lane, Duration::from_secs(30)).await;
        let order: Vec<_> = rig.alerts().iter().map(|alert| alert.event).collect();
        assert_eq!(order, [events[0].id, events[2].id, events[0].id, events[1].id]);
        assert_eq!(rig.waiting().await, 0);
    });
}

#[test]
fn what_is_refused_or_too_old_is_given_up_and_blocks_nothing() {
    crate::in_system(async {
        let rig = Rig::new(Fake::default());
        rig.script([refused("no such robot")]);
        let first = rig.alert(1, None).await;
        rig.alert(2, None).await;
        let mut lane = rig.lane();
        rig.settle(&mut lane).await;
        assert_eq!(rig.counts().await, OutboxCounts { waiting: 0, delivered: 1, dead: 1 });
        assert_eq!(rig.row(&first).await.last_error.as_deref(), Some("no such robot"));

        rig.script([retry(None, 0)]);
        rig.alert(3, None).await;
        rig.clock.advance(Duration::from_secs(86_401));
        rig.settle(&mut lane).await;
        assert_eq!(rig.counts().await.dead, 2, "one last try, and no more");
        assert_eq!(rig.asked().len(), 3);
    });
}

#[test]
fn a_channel_that_fails_is_left_alone_and_said_to_fail_until_it_works_again() {
    crate::in_system(async {
        let rig = Rig::new(Fake::default());
        *rig.channel.down.lock().unwrap() = true;
        let mut events = Vec::new();
        for number in 1..=8 {
            events.push(rig.alert_at(&format!("c{number}"), number, None).await);
        }
        let post = rig.post();
        let mut lane = Lane::new(Arc::clone(&post));
        rig.settle(&mut lane).await;
        assert_eq!(rig.asked().len(), 5, "as many as the breaker allows");
        assert_eq!(post.breaker(), BreakerState::Open);
        rig.pass(&mut lane, Duration::from_secs(300)).await;
        // 30, 60, 120 and 240 seconds, each a little less.
        let probes = rig.asked().len() - 5;
        assert!((3..=4).contains(&probes), "{probes} attempts in five minutes");
        let mut attempts: u64 = 0;
        for event in &events {
            attempts += rig.row(event).await.attempts;
        }
        assert_eq!(attempts, 5 + probes as u64, "no attempt is burnt while it is open");
        *rig.channel.down.lock().unwrap() = false;
        rig.pass(&mut lane, Duration::from_secs(250)).await;
        assert_eq!((rig.waiting().await, post.breaker()), (0, BreakerState::Closed));
        let heard = rig.heard.0.lock().unwrap().clone();
        let said: Vec<_> = heard.iter().map(|n| (n.kind, n.subject.as_str(), n.holds)).collect();
        let kind = EventKind::ChannelFailing;
        assert_eq!(said, [(kind, "fake", true), (kind, "fake", false)]);
        assert!(heard[0].detail.contains("busy"), "{heard:?}");
    });
}

#[test]
fn the_first_message_that_arrives_ends_what_was_said_before_the_notifier_was_renewed() {
    crate::in_system(async {
        let rig = Rig::new(Fake::default());
        *rig.channel.down.lock().unwrap() = true;
        for number in 1..=5 {
            rig.alert_at(&format!("c{number}"), number, None).await;
        }
        rig.settle(&mut rig.lane()).await;
        *rig.channel.down.lock().unwrap() = false;
        let mut renewed = rig.lane();
        rig.pass(&mut renewed, Duration::from_secs(600)).await;
        assert_eq!(rig.waiting().await, 0);
        let said = |rig: &Rig| rig.heard.0.lock().unwrap().iter().map(|n| n.holds).collect::<Vec<_>>();
        assert_eq!(said(&rig), [true, false], "once, however many arrive");
        // And from then on an outage is news again.
        *rig.channel.down.lock().unwrap() = true;
        for number in 6..=10 {
            rig.alert_at(&format!("c{number}"), number, None).await;
        }
        rig.pass(&mut renewed, Duration::from_secs(60)).await;
        assert_eq!(said(&rig), [true, false, true]);
    });
}

#[test]
fn alerts_die_of_age_also_while_nothing_is_tried() {
    crate::in_system(async {
        let rig = Rig::new(Fake::default());
        *rig.channel.down.lock().unwrap() = true;
        for number in 1..=6 {
            rig.alert_at(&format!("c{number}"), number, None).await;
        }
        let mut lane = rig.lane();
        rig.pass(&mut lane, Duration::from_secs(86_400 + 700)).await;
        assert_eq!(rig.counts().await, OutboxCounts { waiting: 0, delivered: 0, dead: 6 });
        let tries = rig.asked().len();
        assert!(tries < 230, "{tries} attempts in a day: one in ten minutes, and a few at the beginning");
    });
}

#[test]
fn after_an_outage_the_newest_come_first_and_a_digest_stands_for_the_rest() {
    crate::in_system(async {
        let rig = Rig::new(Fake::default());
        *rig.channel.down.lock().unwrap() = true;
        let mut lane = rig.lane();
        let mut events = Vec::new();
        for number in 1..=60_u8 {
            events.push(rig.alert_at(if number % 2 == 0 { "door" } else { "yard" }, number, None).await);
            rig.pass(&mut lane, Duration::from_secs(60)).await;
        }
        let before = rig.asked().len();
        *rig.channel.down.lock().unwrap() = false;
        rig.pass(&mut lane, Duration::from_secs(700)).await;
        let after = rig.asked().split_off(before);
        let newest: Vec<_> = after
            .iter()
            .map_while(|asked| match asked {
                Asked::Alert(alert) => Some(alert.event),
                _ => None,
            })
            .collect();
        let expected: Vec<_> = events.iter().rev().take(newest.len()).map(|event| event.id).collect();
        assert!((10..=11).contains(&newest.len()), "{}", newest.len());
        assert_eq!(newest, expected);
        let Some(Asked::Digest(digest)) = after.get(newest.len()) else { panic!("no digest: {after:?}") };
        assert_eq!(digest.total(), 60 - newest.len() as u64);
        assert_eq!(digest.oldest, events[0].started);
        assert_eq!(digest.counts[0].camera_name.as_deref(), Some("Front door"));
        assert_eq!(after.len(), newest.len() + 1, "nothing is told twice");
        assert_eq!(rig.counts().await, OutboxCounts { waiting: 0, delivered: 60, dead: 0 });
        // Whoever comes now is told as always.
        let late = rig.alert(99, None).await;
        rig.settle(&mut lane).await;
        assert_eq!(rig.alerts().last().unwrap().event, late.id);
    });
}

#[test]
fn a_digest_with_unknown_outcome_comes_again_as_the_same_and_a_refused_one_dies() {
    crate::in_system(async {
        let rig = Rig::new(Fake::default());
        for number in 1..=5 {
            rig.alert(number, None).await;
        }
        let mut tools = rig.tools.clone();
        tools.delivery.digest_newest = 0;
        rig.clock.advance(Duration::from_secs(601));
        rig.script([retry(None, 0)]);
        let lane = || Lane::new(Arc::new(Post::new(tools.clone(), rig.channel.clone())));
        rig.settle(&mut lane()).await;
        // Another alert meanwhile, and the node dies: the digest says what it said.
        rig.alert(6, None).await;
        let mut next = lane();
        rig.pass(&mut next, Duration::from_secs(60)).await;
        let digests = rig.digests();
        assert_eq!(digests.len(), 2);
        assert_eq!(digests[0], digests[1]);
        assert_eq!(rig.counts().await, OutboxCounts { waiting: 0, delivered: 6, dead: 0 });

        for number in 11..=13 {
            rig.alert(number, None).await;
        }
        rig.clock.advance(Duration::from_secs(601));
        rig.script([refused("no such robot")]);
        rig.settle(&mut next).await;
        assert_eq!(rig.counts().await.dead, 3);
    });
}

#[test]
fn a_digest_is_told_again_only_what_of_it_has_not_arrived_over_restarts_too() {
    crate::in_system(async {
        let rig = Rig::new(Fake::default());
        for number in 1..=5 {
            rig.alert(number, None).await;
        }
        let mut tools = rig.tools.clone();
        tools.delivery.digest_newest = 0;
        rig.clock.advance(Duration::from_secs(601));
        rig.script([retry(None, 1), Outcome::PutOff { reason: "mailbox full".to_owned(), sent: 1 }]);
        let lane = || Lane::new(Arc::new(Post::new(tools.clone(), rig.channel.clone())));
        for _ in 0..3 {
            rig.settle(&mut lane()).await;
            rig.clock.advance(Duration::from_secs(60));
        }
        let sent: Vec<u8> = rig.digests().iter().map(|digest| digest.already_sent).collect();
        assert_eq!(sent, [0, 1, 1]);
        assert_eq!(rig.counts().await, OutboxCounts { waiting: 0, delivered: 5, dead: 0 });
    });
}

#[test]
fn a_channel_that_is_held_back_is_asked_when_it_is_ready() {
    crate::in_system(async {
        let clock = ManualClock::new(NOON);
        let limiter = Mutex::new(Limiter::new(1, Duration::from_secs(5)));
        let rig = Rig::with_clock(Fake { limiter: Some((limiter, clock.clone())), ..Fake::default() }, clock);
        for number in 1..=3 {
            rig.alert(number, None).await;
        }
        let mut lane = rig.lane();
        assert_eq!(rig.settle(&mut lane).await, Duration::from_secs(5));
        assert_eq!(rig.asked().len(), 1);
        rig.pass(&mut lane, Duration::from_secs(11)).await;
        assert_eq!((rig.asked().len(), rig.waiting().await), (3, 0));
    });
}

#[test]
fn an_outcome_that_cannot_be_written_is_written_when_the_archivist_is_back() {
    crate::in_system(async {
        let rig = Rig::new(Fake::default());
        rig.alert(1, None).await;
        let broken = rig.tools.archivist.clone();
        let breaking = async move {
            for _ in 0..3 {
                let _ = broken.ask::<()>(|_| panic!("broken on purpose")).await;
            }
        };
        let mut lane = rig.lane();
        let working = async {
            while rig.asked().is_empty() || rig.waiting().await > 0 {
                lane.turn().await.unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::join!(working, breaking);
        assert_eq!(rig.asked().len(), 1, "delivered once, however long the writing took");
    });
}

#[test]
fn what_cannot_be_written_holds_up_its_channel_over_generations_and_is_not_forgotten() {
    crate::in_system(async {
        let rig = Rig::new(Fake::default());
        rig.alert(1, None).await;
        let broken = Arc::new(AtomicBool::new(true));
        let written = Arc::new(AtomicU64::new(0));
        let (own_broken, own_written) = (Arc::clone(&broken), Arc::clone(&written));
        let outcome = move |_: &mut Store| {
            if own_broken.load(Ordering::Acquire) {
                return Err(StoreError::Refused("the disk cannot be written".to_owned()));
            }
            own_written.fetch_add(1, Ordering::AcqRel);
            Ok(())
        };
        rig.post().book(outcome).await;
        for _ in 0..3 {
            assert_eq!(rig.lane().turn().await.unwrap(), Step::Wait(post::BOOKING_WAIT));
        }
        assert!(rig.asked().is_empty(), "nothing leaves of which nobody could say what became of it");
        broken.store(false, Ordering::Release);
        let mut lane = rig.lane();
        rig.settle(&mut lane).await;
        assert_eq!((rig.asked().len(), rig.waiting().await), (1, 0));
        assert_eq!(written.load(Ordering::Acquire), 1);
        assert_eq!(rig.tools.link.books.channels(), Vec::<String>::new());
    });
}

#[test]
fn a_message_without_its_picture_is_delivered_and_its_channel_works() {
    crate::in_system(async {
        let rig = Rig::new(Fake::default());
        let without_picture = || Outcome::Refused { reason: "no picture".to_owned(), sent: 1 };
        rig.script((0..6).map(|_| without_picture()));
        let first = rig.alert(1, None).await;
        for number in 2..=6 {
            rig.alert(number, None).await;
        }
        let post = rig.post();
        let mut lane = Lane::new(Arc::clone(&post));
        rig.settle(&mut lane).await;
        assert_eq!(rig.counts().await, OutboxCounts { waiting: 0, delivered: 6, dead: 0 });
        assert_eq!(rig.row(&first).await.last_error.as_deref(), Some("no picture"));
        assert!(!rig.says_it_fails(), "people are told");
        let news = post.news();
        assert!(news.last_delivery.is_some() && news.failures == 0, "{news:?}");
        assert_eq!(news.last_error.as_deref(), Some("no picture"));

        // The picture is not refused but never gets through.
        rig.script([retry(None, 1), retry(None, 1)]);
        let late = rig.alert(7, None).await;
        rig.settle(&mut lane).await;
        rig.clock.advance(Duration::from_secs(86_401));
        rig.settle(&mut lane).await;
        assert_eq!(rig.counts().await, OutboxCounts { waiting: 0, delivered: 7, dead: 0 });
        assert_eq!(rig.row(&late).await.last_error.as_deref(), Some("busy"));
    });
}

#[test]
fn a_place_in_a_limit_that_somebody_else_took_is_no_failure() {
    crate::in_system(async {
        let rig = Rig::new(Fake::default());
        let held = || Outcome::Held { wait: Duration::from_secs(5), sent: 0 };
        rig.script((0..8).map(|_| held()));
        let event = rig.alert(1, None).await;
        let post = rig.post();
        let mut lane = Lane::new(Arc::clone(&post));
        assert_eq!(rig.settle(&mut lane).await, Duration::from_secs(5));
        let row = rig.row(&event).await;
        assert_eq!((row.attempts, row.last_error), (0, None));
        assert_eq!(post.news(), ChannelNews::default());
        rig.pass(&mut lane, Duration::from_secs(41)).await;
        assert_eq!((rig.asked().len(), rig.waiting().await), (9, 0));
        assert_eq!(rig.row(&event).await.attempts, 1);
        assert!(!rig.says_it_fails());

        // Nor is it the one attempt that shows whether the channel works again.
        *rig.channel.down.lock().unwrap() = true;
        for number in 2..=7 {
            rig.alert_at(&format!("c{number}"), number, None).await;
        }
        rig.settle(&mut lane).await;
        assert_eq!(post.breaker(), BreakerState::Open);
        *rig.channel.down.lock().unwrap() = false;
        rig.script([held()]);
        rig.pass(&mut lane, Duration::from_secs(60)).await;
        assert_eq!((rig.waiting().await, post.breaker()), (0, BreakerState::Closed));

        // What has left before is kept.
        rig.script([Outcome::Held { wait: Duration::from_secs(5), sent: 1 }]);
        let halved = rig.alert(8, None).await;
        rig.settle(&mut lane).await;
        assert_eq!(rig.row(&halved).await.sent, 1);
    });
}

#[test]
fn a_receiver_who_puts_letters_off_holds_up_neither_channel_nor_camera() {
    crate::in_system(async {
        let rig = Rig::new(Fake::default());
        let full = |sent| Outcome::Retry { after: None, reason: "mailbox full".to_owned(), sent };
        let still_full = || Outcome::PutOff { reason: "mailbox full".to_owned(), sent: 1 };
        let mut events = Vec::new();
        for number in 1..=6 {
            events.push(rig.alert_at("door", number, None).await.id);
        }
        let post = rig.post();
        let mut lane = Lane::new(Arc::clone(&post));
        rig.script((0..6).map(|_| full(1)).chain((0..12).map(|_| still_full())));
        rig.settle(&mut lane).await;
        let told: Vec<_> = rig.alerts().iter().map(|alert| alert.event).collect();
        assert_eq!(told, events, "each is told at once, in its order");
        // The third attempts come after seven seconds.
        rig.pass(&mut lane, Duration::from_secs(6)).await;
        assert!(rig.asked().len() >= 12, "{}", rig.asked().len());
        assert_eq!(post.breaker(), BreakerState::Closed);
        assert!(!rig.says_it_fails());
        let news = post.news();
        assert_eq!((news.failures, news.last_error.as_deref()), (0, Some("mailbox full")));
        rig.pass(&mut lane, Duration::from_secs(120)).await;
        assert_eq!(rig.counts().await, OutboxCounts { waiting: 0, delivered: 6, dead: 0 });

        // As the one attempt of a channel that failed it shows that the way is open.
        *rig.channel.down.lock().unwrap() = true;
        for number in 11..=16 {
            rig.alert_at(&format!("c{number}"), number, None).await;
        }
        rig.settle(&mut lane).await;
        assert_eq!(post.breaker(), BreakerState::Open);
        *rig.channel.down.lock().unwrap() = false;
        rig.script([Outcome::PutOff { reason: "mailbox full".to_owned(), sent: 0 }]);
        rig.pass(&mut lane, Duration::from_secs(31)).await;
        assert_eq!(post.breaker(), BreakerState::Closed);
    });
}

#[test]
fn a_message_that_one_receiver_lacks_makes_no_channel_behind() {
    crate::in_system(async {
        let rig = Rig::new(Fake::default());
        let put_off = |_| Outcome::PutOff { reason: "mailbox full".to_owned(), sent: 1 };
        rig.script([retry(None, 1)].into_iter().chain((0..30).map(put_off)));
        let halved = rig.alert(1, None).await;
        let mut lane = rig.lane();
        rig.pass(&mut lane, rig.tools.delivery.digest_after + Duration::from_secs(100)).await;
        assert_eq!(rig.waiting().await, 1);
        rig.channel.script.lock().unwrap().clear();
        let mut events = Vec::new();
        for number in 2..=31 {
            events.push(rig.alert(number, None).await.id);
        }
        let before = rig.asked().len();
        rig.settle(&mut lane).await;
        let mut told: Vec<_> = rig.alerts().iter().skip(before).map(|alert| alert.event).collect();
        told.retain(|event| *event != halved.id);
        assert_eq!(told, events, "each by itself, in its order");
        assert!(rig.digests().is_empty());
    });
}

#[test]
fn what_nobody_has_read_goes_before_what_one_receiver_lacks() {
    crate::in_system(async {
        let rig = Rig::new(Fake::default());
        rig.script((0..3).map(|_| retry(None, 1)));
        let mut halved = Vec::new();
        for number in 1..=3 {
            halved.push(rig.alert(number, None).await.id);
        }
        let mut lane = rig.lane();
        rig.settle(&mut lane).await;
        assert_eq!(rig.asked().len(), 3);
        // All of them are due again when something new comes.
        rig.clock.advance(Duration::from_secs(10));
        let mut expected = Vec::new();
        for number in 4..=5 {
            expected.push(rig.alert(number, None).await.id);
        }
        expected.extend(halved);
        rig.settle(&mut lane).await;
        let told: Vec<_> = rig.alerts().iter().skip(3).map(|alert| alert.event).collect();
        assert_eq!(told, expected);
        assert_eq!(rig.waiting().await, 0);
    });
}

#[test]
fn a_clock_that_is_set_kills_no_backlog_and_hides_none() {
    const DAY: i64 = 86_400_000_000;
    crate::in_system(async {
        for step in [30 * DAY, -3 * 3_600_000_000, -30 * DAY] {
            let rig = Rig::new(Fake::default());
            *rig.channel.down.lock().unwrap() = true;
            let mut lane = rig.lane();
            // The time is looked at before anything waits.
            rig.settle(&mut lane).await;
            for number in 1..=6 {
                rig.alert_at(&format!("c{number}"), number, None).await;
            }
            rig.settle(&mut lane).await;
            rig.clock.jump_wall(step);
            rig.pass(&mut lane, Duration::from_secs(20)).await;
            assert_eq!(rig.counts().await, OutboxCounts { waiting: 6, delivered: 0, dead: 0 }, "{step}");
            // An attempt that fails now gives nothing up either.
            rig.pass(&mut lane, Duration::from_secs(60)).await;
            assert_eq!(rig.counts().await.dead, 0, "{step}");
            *rig.channel.down.lock().unwrap() = false;
            rig.pass(&mut lane, Duration::from_secs(130)).await;
            assert_eq!(rig.counts().await, OutboxCounts { waiting: 0, delivered: 6, dead: 0 }, "{step}");
            assert!(rig.digests().is_empty(), "nothing has waited for so long");
        }
    });
}

#[test]
fn a_clock_that_was_set_back_between_two_runs_hides_no_backlog() {
    crate::in_system(async {
        let rig = Rig::new(Fake::default());
        rig.alert(1, None).await;
        // Nobody has looked at the time in this run.
        rig.clock.jump_wall(-3 * 3_600_000_000);
        rig.settle(&mut rig.lane()).await;
        assert_eq!(rig.counts().await, OutboxCounts { waiting: 0, delivered: 1, dead: 0 });
    });
}

#[test]
fn an_event_that_is_dated_ahead_makes_nothing_due_that_is_held_at_any_start() {
    crate::in_system(async {
        const HOUR: i64 = 3_600_000_000;
        let rig = Rig::new(Fake::default());
        rig.clock.jump_wall(8 * HOUR);
        let ahead = rig.alert(1, None).await;
        rig.clock.jump_wall(-8 * HOUR);
        // What is to be told in the morning, all in one message.
        let morning = rig.clock.wall().offset_micros(7 * HOUR);
        let door = camera(&cameras(&rig.clock, &[]), "door");
        let event = event(&frame(&door, &rig.clock).0, 2);
        let draft = AlertDraft { started_micros: event.started.0, ..AlertDraft::default() };
        let alert = NewAlert {
            channel: "fake".to_owned(),
            payload: serde_json::to_value(&draft).unwrap(),
            snapshot: None,
            created: morning,
        };
        let merge = Some(meerkat_store::Merge { key: "quiet".to_owned(), combine: |_, _| {} });
        let report = meerkat_store::Report {
            event: event.clone(),
            detail: None,
            snoozed: false,
            subject: None,
            promises: None,
            attendance: None,
            alerts: vec![meerkat_store::ToldAlert { alert, merge }],
        };
        let now = rig.clock.wall();
        rig.tools.archivist.ask(move |store| store.report(&[report], now)).await.unwrap();
        let told = |rig: &Rig| -> Vec<_> { rig.alerts().iter().map(|alert| alert.event).collect() };
        rig.settle(&mut rig.lane()).await;
        assert_eq!(told(&rig), [ahead.id]);
        // Another start: nothing is known of the clock.
        let mut tools = rig.tools.clone();
        tools.link = NotifierLink::default();
        let mut lane = Lane::new(Arc::new(Post::new(tools, rig.channel.clone())));
        rig.settle(&mut lane).await;
        assert_eq!(told(&rig), [ahead.id], "it is held still");
        rig.clock.advance(Duration::from_secs(7 * 3_600));
        rig.settle(&mut lane).await;
        assert_eq!(told(&rig), [ahead.id, event.id]);
        assert!(rig.digests().is_empty());
    });
}

/// Gauges by the name of their channel, as one thread sets them.
#[derive(Clone, Default)]
struct Gauges(Arc<Mutex<Values>>);

/// By name and channel.
type Values = BTreeMap<(String, String), Arc<AtomicU64>>;

impl metrics::Recorder for Gauges {
    fn describe_counter(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_gauge(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_histogram(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}

    fn register_counter(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        metrics::Counter::noop()
    }

    fn register_gauge(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        let channel = key.labels().find(|label| label.key() == "channel").map_or("", metrics::Label::value);
        let name = (key.name().to_owned(), channel.to_owned());
        metrics::Gauge::from_arc(Arc::clone(self.0.lock().unwrap().entry(name).or_default()))
    }

    fn register_histogram(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}

#[test]
fn a_channel_that_is_gone_is_no_news_any_more() {
    crate::in_system(async {
        let rig = Rig::new(Fake::default());
        let gauges = Gauges::default();
        let breaker = |gauges: &Gauges| {
            let key = (metric::CHANNEL_BREAKER.to_owned(), "fake".to_owned());
            f64::from_bits(gauges.0.lock().unwrap()[&key].load(Ordering::Acquire))
        };
        metrics::with_local_recorder(&gauges, || {
            let post = rig.post();
            let backlog = ChannelBacklog { waiting: 3, dead: 1, oldest: None };
            report(&rig.tools, &[post], &[backlog]);
            gauge!(metric::CHANNEL_BREAKER, "channel" => "fake").set(2.0);
            assert_eq!((rig.tools.link.reports().len(), breaker(&gauges)), (1, 2.0), "it is here");
            report(&rig.tools, &[], &[]);
        });
        assert!(rig.tools.link.reports().is_empty());
        let values: Vec<u64> =
            gauges.0.lock().unwrap().values().map(|value| value.load(Ordering::Acquire)).collect();
        assert_eq!(values, [0; 4], "as bits");
    });
}

#[test]
fn other_channels_take_their_place_and_links_stay_those_of_the_door() {
    crate::in_system(async {
        let rig = Rig::new(Fake::default());
        let mut tools = rig.tools.clone();
        let other = settings(&[
            ("http.public_url", "https://elsewhere.example.org"),
            ("notify.give_up_hours", "7"),
            ("notify.max_clip_bytes", "1234567"),
        ]);
        let before = tools.replace(&other.notify, Vec::new());
        assert_eq!((before.len(), tools.channels.len()), (1, 0));
        assert_eq!(tools.policy.give_up_after, Duration::from_secs(7 * 3_600));
        assert_eq!(tools.clips.max_bytes, 1_234_567);
        assert_eq!(tools.clips.links.unwrap().public_url, "https://cams.example.org");
    });
}

#[test]
fn a_channel_that_never_answers_is_given_up_after_its_time() {
    crate::in_system(async {
        let rig = Rig::new(Fake { silent: true, ..Fake::default() });
        let event = rig.alert(1, None).await;
        let post = rig.post();
        let alert = compose::message(&post, &rig.row(&event).await).await;
        // Time leaps while nothing else is waited for.
        tokio::time::pause();
        let began = Instant::now();
        let attempted =
            post.attempt(rig.channel.deliver(&alert), ATTEMPT_LIMIT, (0, 0, Duration::ZERO)).await.unwrap();
        assert!(began.elapsed() >= ATTEMPT_LIMIT, "{:?}", began.elapsed());
        tokio::time::resume();
        assert!(matches!(attempted.booking, post::Booking::Retry(..)), "it is tried again later");
    });
}

#[test]
fn what_waits_is_counted_and_what_waits_for_nobody_is_given_up() {
    crate::in_system(async {
        let rig = Rig::new(Fake::default());
        rig.alert(1, None).await;
        let event = rig.alert(2, None).await;
        let stranger = NewAlert {
            channel: "gone".to_owned(),
            payload: serde_json::json!({}),
            snapshot: None,
            created: event.started,
        };
        let row = event.clone();
        rig.tools.archivist.ask(move |store| store.start_event(&row, &[stranger])).await.unwrap();
        rig.clock.advance(Duration::from_secs(86_401));
        let posts = vec![rig.post()];
        let counting = keep_count(rig.tools.clone(), posts);
        let seen = async {
            while rig.counts().await.dead == 0 || rig.tools.link.reports().is_empty() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::select! {
            () = counting => {}
            () = seen => {}
        }
        let reports = rig.tools.link.reports();
        let report = &reports["fake"];
        assert_eq!((report.breaker, report.backlog.waiting), (BreakerState::Closed, 2));
        assert_eq!(rig.counts().await, OutboxCounts { waiting: 2, delivered: 0, dead: 1 });
    });
}
