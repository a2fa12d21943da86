//! Delivers what waits in the outbox, channel by channel, newest first, until it is delivered, refused or too old.
//! What a service allows is the channel's knowledge; what is kept is the archivist's.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;
use meerkat_base::{Clock, NoticeSink, WallTime, metric};
use meerkat_notify::{Alert, Channel, NextTry, Outcome, RetryPolicy};
use meerkat_store::OutboxRow;
use metrics::{counter, gauge, histogram};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use crate::archivist::Archivist;
use crate::events::AlertDraft;
use crate::supervision::{ActorKind, Sentinel, fault};

/// Rows looked at in one go.
const BATCH: usize = 16;
/// How often the outbox is looked through even if nobody says that there is something new.
const INTERVAL: Duration = Duration::from_secs(1);
/// No attempt takes longer, whatever the channel thinks.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(60);
/// Larger snapshots are not read; no service takes them.
const MAX_SNAPSHOT_BYTES: u64 = 10 << 20;

/// What every generation of the notifier is built from.
#[derive(Clone)]
pub struct NotifierTools {
    /// Keeps the outbox.
    pub archivist: Archivist,
    /// The channels, each delivered to by itself.
    pub channels: Vec<Arc<dyn Channel>>,
    /// When to try again, and when to give up.
    pub policy: RetryPolicy,
    /// Folder that snapshot paths are relative to.
    pub data_dir: PathBuf,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Rung when there is something new.
    pub link: NotifierLink,
    /// Where a channel that fails is reported.
    pub notices: Arc<dyn NoticeSink>,
}

/// The bell of the notifier. Clones ring the same one.
#[derive(Clone, Default)]
pub struct NotifierLink {
    bell: Arc<Notify>,
    waiting: Arc<AtomicU64>,
}

impl NotifierLink {
    /// Says that something new waits in the outbox.
    pub fn kick(&self) {
        self.bell.notify_waiters();
    }

    /// Alerts that waited when the outbox was last counted.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// The notifier.
pub struct Notifier {
    tools: NotifierTools,
    sentinel: Arc<Sentinel>,
}

impl Notifier {
    /// A notifier that has delivered nothing.
    pub fn new(tools: NotifierTools, sentinel: Sentinel) -> Self {
        for channel in &tools.channels {
            for result in ["ok", "retry", "refused"] {
                counter!(metric::NOTIFICATIONS, "channel" => channel.name().to_owned(), "result" => result)
                    .increment(0);
            }
            // Made without a value: exported with zeros from the start.
            let _ = histogram!(metric::NOTIFICATION_DURATION, "channel" => channel.name().to_owned());
        }
        Self { tools, sentinel: Arc::new(sentinel) }
    }
}

impl Actor for Notifier {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        for channel in &self.tools.channels {
            let lane = Lane { tools: self.tools.clone(), channel: Arc::clone(channel) };
            let sentinel = Arc::clone(&self.sentinel);
            // A lane only ends by failing, and then the whole actor is built anew.
            ctx.spawn(lane.run().into_actor(self).map(move |failure, _, ctx| {
                sentinel.fail(failure);
                ctx.stop();
            }));
        }
        let (archivist, link) = (self.tools.archivist.clone(), self.tools.link.clone());
        ctx.spawn(
            async move {
                loop {
                    if let Ok(waiting) = archivist.ask(|store| store.outbox_waiting()).await {
                        link.waiting.store(waiting, Ordering::Relaxed);
                        gauge!(metric::OUTBOX_WAITING).set(waiting as f64);
                    }
                    let _ = timeout(INTERVAL, link.bell.notified()).await;
                }
            }
            .into_actor(self),
        );
    }
}

/// Delivers to one channel.
struct Lane {
    tools: NotifierTools,
    channel: Arc<dyn Channel>,
}

impl Lane {
    async fn run(self) -> crate::supervision::Failure {
        loop {
            let rung = self.tools.link.bell.notified();
            let (now, name) = (self.tools.clock.wall(), self.channel.name().to_owned());
            let due = self.tools.archivist.ask(move |store| store.due(now, Some(&name), BATCH)).await;
            let mut held_back = None;
            match due {
                Ok(rows) => {
                    for row in rows {
                        let ready_in = self.channel.ready_in();
                        if !ready_in.is_zero() {
                            // Whatever is newest by then goes first.
                            held_back = Some(ready_in);
                            break;
                        }
                        if let Err(failure) = fault::point(ActorKind::Notifier, Some(&row.camera)) {
                            return failure;
                        }
                        self.attempt(row).await;
                    }
                }
                Err(problem) => debug!(channel = self.channel.name(), %problem, "the outbox cannot be read"),
            }
            let _ = timeout(held_back.unwrap_or(INTERVAL).min(INTERVAL), rung).await;
        }
    }

    async fn attempt(&self, row: OutboxRow) {
        let began = Instant::now();
        let alert = self.alert(&row).await;
        let outcome = match timeout(ATTEMPT_LIMIT, self.channel.deliver(&alert)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Retry { after: None, reason: "took too long".to_owned(), sent: row.sent },
        };
        let channel = self.channel.name().to_owned();
        counter!(metric::NOTIFICATIONS, "channel" => channel.clone(), "result" => outcome.as_label())
            .increment(1);
        histogram!(metric::NOTIFICATION_DURATION, "channel" => channel.clone()).record(began.elapsed());
        let (id, now) = (row.id, self.tools.clock.wall());
        let written = match outcome {
            Outcome::Delivered => {
                info!(channel, alert = %id, "alert delivered");
                self.book(move |store| store.delivered(id, now)).await
            }
            Outcome::Refused { reason, .. } => {
                warn!(channel, alert = %id, reason, "alert refused");
                self.book(move |store| store.dead(id, now, &reason)).await
            }
            Outcome::Retry { after, reason, sent } => {
                let age =
                    Duration::from_micros(u64::try_from(now.0.saturating_sub(row.created.0)).unwrap_or(0));
                let attempt = u32::try_from(row.attempts).unwrap_or(u32::MAX).saturating_add(1);
                match self.tools.policy.next(attempt, age, after, random()) {
                    NextTry::In(wait) => {
                        debug!(channel, alert = %id, reason, wait_ms = wait.as_millis() as u64, "alert delayed");
                        let next = later(now, wait);
                        self.book(move |store| store.retry(id, next, &reason, sent)).await
                    }
                    NextTry::Dead => {
                        warn!(channel, alert = %id, reason, "alert given up");
                        self.book(move |store| store.dead(id, now, &reason)).await
                    }
                }
            }
        };
        if !written {
            // Not booked means delivered again later: at least once. Not at once, though.
            tokio::time::sleep(INTERVAL).await;
        }
    }

    async fn book(
        &self,
        work: impl FnOnce(&mut meerkat_store::Store) -> Result<bool, meerkat_store::StoreError>
        + Clone
        + Send
        + 'static,
    ) -> bool {
        // The archivist is back within a second; an outcome that is known should not be lost for that.
        for _ in 0..20 {
            match self.tools.archivist.ask(work.clone()).await {
                Ok(_) => return true,
                Err(problem) => debug!(%problem, "an outcome could not be booked yet"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        false
    }

    async fn alert(&self, row: &OutboxRow) -> Alert {
        let draft: Option<AlertDraft> = serde_json::from_value(row.payload.clone()).ok();
        let started = draft.as_ref().map_or(row.created, |d| WallTime(d.started_micros));
        Alert {
            id: row.id,
            event: row.event,
            camera: row.camera.clone(),
            camera_name: draft.as_ref().and_then(|d| d.camera_name.clone()),
            kind: row.kind,
            phase: row.phase,
            started,
            identities: draft.as_ref().map(|d| d.identities.clone()).unwrap_or_default(),
            score: draft.as_ref().map_or(0.0, |d| d.score),
            severity: draft.as_ref().and_then(|d| d.severity).unwrap_or_else(|| row.kind.severity()),
            detail: draft.as_ref().map(|d| d.detail.clone()).unwrap_or_default(),
            snapshot: self.snapshot(row).await,
            snapshot_link: None,
            already_sent: row.sent,
        }
    }

    async fn snapshot(&self, row: &OutboxRow) -> Option<Bytes> {
        let path = self.tools.data_dir.join(row.snapshot.as_ref()?);
        // A disk that hangs must not hold the other channels up.
        actix_rt::task::spawn_blocking(move || read_snapshot(&path)).await.ok().flatten()
    }
}

fn read_snapshot(path: &Path) -> Option<Bytes> {
    let length = std::fs::symlink_metadata(path).ok().filter(|m| m.is_file())?.len();
    if length > MAX_SNAPSHOT_BYTES {
        return None;
    }
    std::fs::read(path).ok().map(Bytes::from)
}

fn later(now: WallTime, wait: Duration) -> WallTime {
    now.offset_micros(i64::try_from(wait.as_micros()).unwrap_or(i64::MAX))
}

/// A number in 0..1 that spreads the attempts.
fn random() -> f64 {
    f64::from(u32::from_le_bytes(uuid::Uuid::new_v4().as_bytes()[..4].try_into().unwrap_or_default()))
        / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use meerkat_base::{Event, ManualClock};
    use meerkat_notify::{Delivery, Digest};
    use meerkat_store::{NewAlert, Store, StoreOptions};

    use super::*;
    use crate::supervision::{BackoffSettings, Board, Crew, CrewSettings, Watch};
    use crate::testing::{NOON, camera, cameras, event, frame};

    /// Notes what it is asked to deliver, and answers as the script says; when that is over: delivered.
    #[derive(Default)]
    struct Fake {
        script: Mutex<VecDeque<Outcome>>,
        asked: Mutex<Vec<Alert>>,
        held_back: Mutex<Duration>,
        silent: bool,
    }

    impl Channel for Fake {
        fn name(&self) -> &str {
            "fake"
        }

        fn kind(&self) -> &'static str {
            "webhook"
        }

        fn ready_in(&self) -> Duration {
            *self.held_back.lock().unwrap()
        }

        fn deliver<'a>(&'a self, alert: &'a Alert) -> Delivery<'a> {
            self.asked.lock().unwrap().push(alert.clone());
            let outcome = self.script.lock().unwrap().pop_front().unwrap_or(Outcome::Delivered);
            let silent = self.silent;
            Box::pin(async move {
                if silent {
                    std::future::pending::<()>().await;
                }
                outcome
            })
        }

        fn deliver_digest<'a>(&'a self, _: &'a Digest) -> Delivery<'a> {
            unreachable!("the lane sends no digests")
        }
    }

    struct Rig {
        clock: ManualClock,
        tools: NotifierTools,
        channel: Arc<Fake>,
        folder: tempfile::TempDir,
        _watch: Watch,
    }

    impl Rig {
        fn new(channel: Fake) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let clock = ManualClock::new(NOON);
            let board = Board::new(Arc::new(clock.clone()));
            let backoff = BackoffSettings { min: Duration::from_millis(20), max: Duration::from_millis(50) };
            let settings = CrewSettings { name: "archive", threads: 1, niceness: 0, backoff };
            let crew = Crew::start(settings, board.clone());
            let watch = Watch::start(board, 64, || {}).unwrap();
            watch.crew(crew.clone());
            let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
            let path = folder.path().to_owned();
            let archivist = Archivist::start(&crew, Duration::from_secs(10), store, move || {
                Store::open(&path, StoreOptions::default())
            });
            let channel = Arc::new(channel);
            let tools = NotifierTools {
                archivist,
                channels: vec![channel.clone()],
                policy: RetryPolicy { give_up_after: Duration::from_secs(3_600), ..RetryPolicy::default() },
                data_dir: folder.path().to_owned(),
                clock: Arc::new(clock.clone()),
                link: NotifierLink::default(),
                notices: Arc::new(meerkat_base::NoNotices),
            };
            Self { clock, tools, channel, folder, _watch: watch }
        }

        /// An event with an alert for the channel, a second after the one before.
        async fn alert(&self, number: u8, snapshot: Option<&str>) -> Event {
            self.clock.advance(Duration::from_secs(1));
            let door = camera(&cameras(&self.clock, &[]), "door");
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

        async fn waiting(&self) -> u64 {
            self.tools.archivist.ask(|store| store.outbox_waiting()).await.unwrap()
        }

        async fn row(&self, event: &Event) -> OutboxRow {
            let id = event.id;
            self.tools.archivist.ask(move |store| store.alerts_of(id)).await.unwrap().remove(0)
        }

        fn asked(&self) -> Vec<Alert> {
            self.channel.asked.lock().unwrap().clone()
        }

        /// Lets the lane work until this is so.
        async fn work_until(&self, what: &str, holds: impl AsyncFn() -> bool) {
            let lane = Lane { tools: self.tools.clone(), channel: self.channel.clone() };
            let done = async {
                while !holds().await {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            tokio::select! {
                failure = lane.run() => panic!("the lane ended: {failure}"),
                () = done => {}
                () = tokio::time::sleep(Duration::from_secs(20)) => panic!("never: {what}"),
            }
        }
    }

    fn retry(after: Option<Duration>, sent: u8) -> Outcome {
        Outcome::Retry { after, reason: "busy".to_owned(), sent }
    }

    #[test]
    fn what_waits_is_delivered_newest_first_with_all_that_is_known() {
        crate::in_system(async {
            let rig = Rig::new(Fake::default());
            std::fs::write(rig.folder.path().join("a.jpg"), b"picture").unwrap();
            let first = rig.alert(1, Some("a.jpg")).await;
            let second = rig.alert(2, Some("missing.jpg")).await;
            rig.work_until("both are delivered", async || rig.waiting().await == 0).await;
            let asked = rig.asked();
            let events: Vec<_> = asked.iter().map(|alert| alert.event).collect();
            assert_eq!(events, [second.id, first.id]);
            assert_eq!(asked[1].snapshot.as_deref(), Some(&b"picture"[..]));
            assert_eq!(asked[0].snapshot, None, "a picture that is gone does not keep the message back");
            let alert = &asked[1];
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
            rig.channel
                .script
                .lock()
                .unwrap()
                .extend([retry(Some(Duration::from_secs(30)), 1), Outcome::Delivered]);
            let event = rig.alert(1, None).await;
            rig.work_until("the first try", async || rig.row(&event).await.attempts == 1).await;
            assert_eq!(rig.waiting().await, 1);
            rig.clock.advance(Duration::from_secs(29));
            tokio::select! {
                () = rig.work_until("nothing", async || false) => {}
                () = tokio::time::sleep(Duration::from_millis(300)) => {}
            }
            assert_eq!(rig.asked().len(), 1, "the service said how long to wait");
            rig.clock.advance(Duration::from_secs(40));
            rig.work_until("the second try", async || rig.waiting().await == 0).await;
            let sent: Vec<u8> = rig.asked().iter().map(|alert| alert.already_sent).collect();
            assert_eq!(sent, [0, 1], "the text is not sent twice");
            assert_eq!(rig.asked()[0].id, rig.asked()[1].id);
        });
    }

    #[test]
    fn what_is_refused_or_too_old_is_given_up() {
        crate::in_system(async {
            let rig = Rig::new(Fake::default());
            let refused = Outcome::Refused { reason: "no such robot".to_owned(), sent: 0 };
            rig.channel.script.lock().unwrap().push_back(refused);
            rig.alert(1, None).await;
            rig.work_until("it is settled", async || rig.waiting().await == 0).await;
            assert_eq!(rig.asked().len(), 1);

            rig.channel.script.lock().unwrap().push_back(retry(None, 0));
            rig.alert(2, None).await;
            rig.clock.advance(Duration::from_secs(3_601));
            rig.work_until("it is settled", async || rig.waiting().await == 0).await;
            assert_eq!(rig.asked().len(), 2, "one last try, and no more");
        });
    }

    #[test]
    fn a_channel_that_is_held_back_gets_the_newest_when_it_is_ready() {
        crate::in_system(async {
            let rig = Rig::new(Fake::default());
            *rig.channel.held_back.lock().unwrap() = Duration::from_millis(50);
            rig.alert(1, None).await;
            tokio::select! {
                () = rig.work_until("nothing", async || false) => {}
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
            }
            assert!(rig.asked().is_empty());
            let newest = rig.alert(2, None).await;
            *rig.channel.held_back.lock().unwrap() = Duration::ZERO;
            rig.work_until("both are delivered", async || rig.waiting().await == 0).await;
            assert_eq!(rig.asked()[0].event, newest.id);
        });
    }

    #[test]
    fn an_outcome_that_cannot_be_written_is_written_when_the_archivist_is_back() {
        crate::in_system(async {
            let rig = Rig::new(Fake::default());
            let event = rig.alert(1, None).await;
            let lane = Lane { tools: rig.tools.clone(), channel: rig.channel.clone() };
            let row = rig.row(&event).await;
            let broken = rig.tools.archivist.clone();
            let breaking = async move {
                for _ in 0..3 {
                    let _ = broken.ask::<()>(|_| panic!("broken on purpose")).await;
                }
            };
            tokio::join!(lane.attempt(row), breaking);
            assert_eq!(rig.waiting().await, 0);
            assert_eq!(rig.asked().len(), 1, "delivered once, however long the writing took");
        });
    }

    #[test]
    fn a_channel_that_never_answers_is_given_up_after_its_time() {
        crate::in_system(async {
            let rig = Rig::new(Fake { silent: true, ..Fake::default() });
            let event = rig.alert(1, None).await;
            let row = rig.row(&event).await;
            let lane = Lane { tools: rig.tools.clone(), channel: rig.channel.clone() };
            // Time leaps while nothing else is waited for.
            tokio::time::pause();
            let began = Instant::now();
            lane.attempt(row).await;
            assert!(began.elapsed() >= ATTEMPT_LIMIT, "{:?}", began.elapsed());
            tokio::time::resume();
            let row = rig.row(&event).await;
            assert_eq!(row.attempts, 1);
            assert_eq!(rig.waiting().await, 1, "it is tried again later");
        });
    }
}
