//! Delivers what waits in the outbox, channel by channel, newest first, until it is delivered, refused or too old.
//! What a service allows is the channel's knowledge; what is kept is the archivist's.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;
use meerkat_base::{Clock, WallTime, metric};
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
            snapshot: self.snapshot(row).await,
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
