//! Delivers the messages that wait for one channel, one after the other, each turn beginning with the question which
//! is next.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use meerkat_base::{WallTime, metric};
use meerkat_store::{OpenDigest, OutboxRow};
use metrics::{counter, histogram};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::breaker::{Leave, Turn};
use super::choice::{CatchUp, Choice, DigestSettings, choose};
use super::compose::message;
use super::post::{Attempted, BOOKING_WAIT, Booking, Post, age};
use super::summary::Summary;
use super::{ATTEMPT_LIMIT, INTERVAL};
use crate::supervision::{ActorKind, Failure, fault};

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Something was done; there may be more.
    Again,
    /// Nothing can be done for so long, unless something new comes.
    Wait(Duration),
}

/// Delivers the messages of one channel.
pub(super) struct Lane {
    post: Arc<Post>,
    digests: DigestSettings,
    catch_up: Option<CatchUp>,
}

impl Lane {
    pub fn new(post: Arc<Post>) -> Self {
        let delivery = &post.tools.delivery;
        let digests = DigestSettings {
            after: delivery.digest_after,
            over: delivery.digest_over as u64,
            newest: delivery.digest_newest,
        };
        Self { post, digests, catch_up: None }
    }

    /// Works until something breaks.
    pub async fn run(mut self) -> Failure {
        loop {
            let rung = self.post.tools.link.rung();
            match self.turn().await {
                Ok(Step::Again) => {}
                Ok(Step::Wait(wait)) => {
                    let _ = timeout(wait.min(INTERVAL), rung).await;
                }
                Err(failure) => return failure,
            }
        }
    }

    /// One message, or the reason why none is sent now.
    pub async fn turn(&mut self) -> Result<Step, Failure> {
        let post = Arc::clone(&self.post);
        let (true, Some(now)) = (post.is_settled().await, post.now().await) else {
            return Ok(Step::Wait(BOOKING_WAIT));
        };
        let probing = match post.leave() {
            Leave::Go => false,
            Leave::Probe => true,
            Leave::Wait(wait) => {
                self.give_up_old(now).await;
                return Ok(Step::Wait(wait));
            }
        };
        let name = post.name();
        let (digests, catch_up) = (self.digests, self.catch_up);
        let choice = post
            .tools
            .archivist
            .ask(move |store| choose(store, &name, &digests, now, catch_up, probing))
            .await;
        let choice = match choice {
            Ok((choice, catch_up)) => {
                if catch_up.is_some() && self.catch_up.is_none() {
                    info!(channel = post.channel.name(), "a channel is behind: the newest alerts go first");
                }
                self.catch_up = catch_up;
                choice
            }
            Err(problem) => {
                debug!(channel = post.channel.name(), %problem, "the outbox cannot be read");
                return Ok(Step::Wait(INTERVAL));
            }
        };
        if let Choice::Nothing { until } = choice {
            post.idle.store(true, Ordering::Release);
            let wait = until.map_or(INTERVAL, |until| {
                Duration::from_micros(u64::try_from(until.0.saturating_sub(now.0)).unwrap_or(0))
            });
            return Ok(Step::Wait(wait.max(Duration::from_millis(1))));
        }
        // What people have read and one receiver lacks may be due all day: clips do not wait for it.
        let is_told = matches!(&choice, Choice::Alert(row) if row.sent > 0);
        post.idle.store(is_told, Ordering::Release);
        let held_back = post.held_back();
        if !held_back.is_zero() {
            // Whatever is first by then is chosen then.
            return Ok(Step::Wait(held_back));
        }
        match choice {
            Choice::Alert(row) => {
                fault::point(ActorKind::Notifier, Some(&row.camera))?;
                self.deliver(&row, now).await;
            }
            Choice::Digest(digest) => {
                fault::point(ActorKind::Notifier, None)?;
                return Ok(self.deliver_digest(&digest, now).await);
            }
            Choice::Nothing { .. } => {}
        }
        Ok(Step::Again)
    }

    async fn deliver(&mut self, row: &OutboxRow, now: WallTime) {
        let post = Arc::clone(&self.post);
        let alert = message(&post, row).await;
        let facts = (row.sent, row.attempts, age(row.queued, now));
        let Some(attempted) = post.attempt(post.channel.deliver(&alert), ATTEMPT_LIMIT, facts).await else {
            return;
        };
        let (channel, id, now) = (post.name(), row.id, post.tools.clock.wall());
        match attempted.booking.clone() {
            Booking::Delivered(missing) => {
                match &missing {
                    None => info!(channel, alert = %id, "alert delivered"),
                    Some(reason) => warn!(channel, alert = %id, reason, "alert delivered, but not all of it"),
                }
                histogram!(metric::ALERT_DELAY, "channel" => channel).record(post.age(row.created));
                post.book(move |store| store.delivered_without(id, now, missing.as_deref())).await;
            }
            Booking::Dead(reason) => {
                warn!(channel, alert = %id, reason, "alert given up");
                post.book(move |store| store.dead(id, now, &reason)).await;
            }
            Booking::Retry(next, reason, sent) => {
                debug!(channel, alert = %id, reason, "alert delayed");
                post.book(move |store| store.retry(id, next, &reason, sent)).await;
            }
        }
        self.follow_up(&attempted).await;
    }

    /// Returns what is to be done next.
    async fn deliver_digest(&mut self, open: &OpenDigest, now: WallTime) -> Step {
        let post = Arc::clone(&self.post);
        let id = open.id;
        let summary = match post.tools.archivist.ask(move |store| Summary::of(store, id)).await {
            Ok(summary) => summary,
            Err(problem) => {
                debug!(channel = post.channel.name(), %problem, "a digest cannot be read");
                return Step::Wait(INTERVAL);
            }
        };
        if summary.is_empty() {
            // Nothing of it waits any more: there is nothing to say.
            post.book(move |store| store.digest_delivered(id, now)).await;
            return Step::Again;
        }
        let digest = summary.digest(open);
        let facts = (open.sent, open.attempts, age(open.made, now));
        let Some(attempted) = post.attempt(post.channel.deliver_digest(&digest), ATTEMPT_LIMIT, facts).await
        else {
            return Step::Again;
        };
        let (channel, total, now) = (post.name(), digest.total(), post.tools.clock.wall());
        let result = match attempted.booking.clone() {
            Booking::Delivered(_) => {
                info!(channel, digest = %id, alerts = total, "digest delivered");
                post.book(move |store| store.digest_delivered(id, now)).await;
                "ok"
            }
            Booking::Dead(reason) => {
                warn!(channel, digest = %id, alerts = total, reason, "digest given up");
                post.book(move |store| store.digest_dead(id, now, &reason)).await;
                "refused"
            }
            Booking::Retry(next, reason, sent) => {
                debug!(channel, digest = %id, reason, "digest delayed");
                post.book(move |store| store.digest_retry(id, next, &reason, sent)).await;
                "retry"
            }
        };
        counter!(metric::DIGESTS, "channel" => post.name(), "result" => result).increment(1);
        self.follow_up(&attempted).await;
        Step::Again
    }

    /// Counts those that were told one by one, and lets all that waits go when the channel works again.
    async fn follow_up(&mut self, attempted: &Attempted) {
        if attempted.turn == Some(Turn::Well) {
            // How much waits is looked at anew; what a failure put off is due at once.
            self.catch_up = None;
            let (name, now) = (self.post.name(), self.post.tools.clock.wall());
            self.post.book(move |store| store.release(&name, now)).await;
            return;
        }
        let tells_nothing = matches!(attempted.booking, Booking::Retry(..)) && !attempted.closed;
        if let Some(catch_up) = self.catch_up.as_mut().filter(|_| !tells_nothing) {
            catch_up.left = catch_up.left.saturating_sub(1);
        }
    }

    /// While nothing is tried, nobody else sees that an alert becomes too old.
    async fn give_up_old(&self, now: WallTime) {
        let name = self.post.name();
        let micros = i64::try_from(self.post.tools.policy.give_up_after.as_micros()).unwrap_or(i64::MAX);
        let before = now.offset_micros(-micros);
        let given_up = self
            .post
            .tools
            .archivist
            .ask(move |store| store.give_up(&name, before, now, "the channel failed all the time"))
            .await;
        match given_up {
            Ok(0) => {}
            Ok(alerts) => warn!(channel = self.post.channel.name(), alerts, "alerts given up: too old"),
            Err(problem) => debug!(%problem, "old alerts cannot be given up"),
        }
    }
}
