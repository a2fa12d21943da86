//! One channel as the lanes to it share it: its breaker, the pause that its service asked for, what is known of it,
//! and one attempt with what follows from its outcome.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meerkat_base::{EventKind, MonoTime, Notice, WallTime, metric};
use meerkat_notify::channel::clip_patience;
use meerkat_notify::{Channel, ClipPart, Delivery, NextTry, Outcome, says_too_large};
use meerkat_store::{Store, StoreError};
use metrics::{counter, gauge, histogram};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::NotifierTools;
use super::breaker::{Breaker, BreakerSettings, BreakerState, Leave, Sign, Turn};

/// Wait between two tries to write an outcome down, while the archivist is being restarted or its disk refuses.
pub(super) const BOOKING_WAIT: Duration = Duration::from_millis(100);

/// What is known of a channel besides its rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChannelNews {
    /// Why the last attempt failed, or what of it was left out; none once something arrived whole.
    pub last_error: Option<String>,
    /// When something arrived last, since the node started.
    pub last_delivery: Option<WallTime>,
    /// Failures in a row.
    pub failures: u32,
}

struct State {
    breaker: Breaker,
    /// Something has arrived through this generation of the notifier.
    works: bool,
    news: ChannelNews,
    pause_until: MonoTime,
    held_back: bool,
}

/// One channel.
pub(super) struct Post {
    pub tools: NotifierTools,
    pub channel: Arc<dyn Channel>,
    /// No message that nobody has read waits for its turn: clips may go.
    pub idle: AtomicBool,
    state: Mutex<State>,
}

/// How an outcome is to be booked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Booking {
    /// It arrived; perhaps without a part of it that was refused or given up, and why.
    Delivered(Option<String>),
    /// It is given up.
    Dead(String),
    /// It is tried again at this time; so many of its steps have arrived.
    Retry(WallTime, String, u8),
}

/// Age at a moment of what was queued then.
pub(super) fn age(queued: WallTime, now: WallTime) -> Duration {
    Duration::from_micros(u64::try_from(now.0.saturating_sub(queued.0)).unwrap_or(0))
}

/// What is not tried any more is a dead letter, unless the words of it have arrived: then people know, and what they lack
/// is no reason to tell them again.
pub(super) fn given_up(reason: String, sent: u8) -> Booking {
    if sent > 0 { Booking::Delivered(Some(reason)) } else { Booking::Dead(reason) }
}

/// What has come of an attempt.
pub(super) struct Attempted {
    pub booking: Booking,
    pub turn: Option<Turn>,
    /// The service takes no file of this size, and what it says.
    pub too_large: Option<String>,
    /// The channel is taken to work still.
    pub closed: bool,
}

impl Post {
    pub fn new(tools: NotifierTools, channel: Arc<dyn Channel>) -> Self {
        let settings =
            BreakerSettings { failures: tools.delivery.breaker_failures, open: tools.delivery.breaker_open };
        let state = State {
            breaker: Breaker::new(settings),
            works: false,
            news: ChannelNews::default(),
            pause_until: MonoTime(0),
            held_back: false,
        };
        let post = Self { tools, channel, idle: AtomicBool::new(false), state: Mutex::new(state) };
        post.declare();
        post
    }

    /// Makes every series of the channel known as 0.
    fn declare(&self) {
        for result in ["ok", "retry", "refused"] {
            counter!(metric::NOTIFICATIONS, "channel" => self.name(), "result" => result).increment(0);
            counter!(metric::DIGESTS, "channel" => self.name(), "result" => result).increment(0);
        }
        for form in ["file", "smaller", "link", "none"] {
            counter!(metric::CLIP_PARTS, "channel" => self.name(), "form" => form).increment(0);
        }
        counter!(metric::CHANNEL_HELD_BACK, "channel" => self.name()).increment(0);
        // Made without a value: exported with zeros from the start.
        let _ = histogram!(metric::NOTIFICATION_DURATION, "channel" => self.name());
        let _ = histogram!(metric::ALERT_DELAY, "channel" => self.name());
        for name in super::GAUGES {
            gauge!(name, "channel" => self.name()).set(0.0);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.channel.name().to_owned()
    }

    pub fn leave(&self) -> Leave {
        self.lock().breaker.leave(self.tools.clock.mono())
    }

    pub fn breaker(&self) -> BreakerState {
        self.lock().breaker.state(self.tools.clock.mono())
    }

    pub fn news(&self) -> ChannelNews {
        self.lock().news.clone()
    }

    /// How long the channel's own limit, or a wait that its service asked for, holds back what waits; zero: not at
    /// all. A channel that failed is asked all the same: a probe keeps to limits, too.
    pub fn held_back(&self) -> Duration {
        let now = self.tools.clock.mono();
        let mut state = self.lock();
        let wait = self.channel.ready_in().max(state.pause_until.since(now));
        let begins = !wait.is_zero() && !state.held_back;
        state.held_back = !wait.is_zero();
        if begins {
            counter!(metric::CHANNEL_HELD_BACK, "channel" => self.name()).increment(1);
        }
        wait
    }

    /// Makes one attempt, if the breaker and the channel's own limit let it. `age` and `attempts` are those of what is
    /// delivered.
    pub async fn attempt(
        &self,
        delivery: Delivery<'_>,
        limit: Duration,
        facts: (u8, u64, Duration),
    ) -> Option<Attempted> {
        self.attempt_with(delivery, limit, facts, None).await
    }

    /// The same for a clip. A file that the service finds too large says nothing of the channel: it goes in another form.
    pub async fn attempt_clip(
        &self,
        delivery: Delivery<'_>,
        clip: &ClipPart,
        facts: (u8, u64, Duration),
    ) -> Option<Attempted> {
        self.attempt_with(delivery, clip_patience(clip), facts, clip.file.as_deref()).await
    }

    async fn attempt_with(
        &self,
        delivery: Delivery<'_>,
        limit: Duration,
        (already_sent, attempts, age): (u8, u64, Duration),
        file: Option<&[u8]>,
    ) -> Option<Attempted> {
        if !self.lock().breaker.begin(self.tools.clock.mono()) {
            return None;
        }
        let began = Instant::now();
        let outcome = match timeout(limit, delivery).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Retry { after: None, reason: "took too long".to_owned(), sent: already_sent },
        };
        let outcome = match outcome {
            Outcome::Held { wait, sent } => self.held(wait, sent, already_sent)?,
            outcome => outcome,
        };
        counter!(metric::NOTIFICATIONS, "channel" => self.name(), "result" => outcome.as_label())
            .increment(1);
        histogram!(metric::NOTIFICATION_DURATION, "channel" => self.name()).record(began.elapsed());
        let too_large = file.and_then(|_| self.too_large(&outcome));
        let turn = self.note(&outcome, already_sent, too_large.is_some());
        let booking = self.booking(outcome, attempts, age);
        Some(Attempted { booking, turn, too_large, closed: self.breaker() == BreakerState::Closed })
    }

    /// Nothing was tried, because somebody else was faster at a limit that several share: that is no attempt, unless a
    /// part had left by then.
    fn held(&self, wait: Duration, sent: u8, already_sent: u8) -> Option<Outcome> {
        if sent > already_sent {
            return Some(Outcome::Retry {
                after: Some(wait),
                reason: "the channel's rate limit".to_owned(),
                sent,
            });
        }
        let now = self.tools.clock.mono();
        let mut state = self.lock();
        state.pause_until = state.pause_until.max(now.after(wait));
        state.breaker.cancel(now);
        None
    }

    /// What the service says where it is the size of the file that it does not take.
    fn too_large(&self, outcome: &Outcome) -> Option<String> {
        match outcome {
            // A channel that cannot tell who says 413 tries again, but no file becomes smaller by that.
            Outcome::Refused { reason, .. } | Outcome::Retry { reason, .. } => {
                says_too_large(self.channel.kind(), reason).then(|| reason.clone())
            }
            Outcome::Delivered | Outcome::PutOff { .. } | Outcome::Held { .. } => None,
        }
    }

    fn note(&self, outcome: &Outcome, already_sent: u8, too_large: bool) -> Option<Turn> {
        let (now, wall) = (self.tools.clock.mono(), self.tools.clock.wall());
        let mut state = self.lock();
        let sign = match outcome {
            Outcome::Delivered => Sign::Works,
            Outcome::Refused { .. } | Outcome::Retry { .. } if too_large => Sign::Answers,
            // People have read it; what was refused is its picture.
            Outcome::Refused { sent: 1.., .. } => Sign::Works,
            Outcome::Refused { .. } => Sign::Refuses,
            Outcome::Retry { sent, .. } if *sent > already_sent => Sign::Works,
            Outcome::Retry { .. } => Sign::Fails,
            Outcome::PutOff { .. } | Outcome::Held { .. } => Sign::Answers,
        };
        match outcome {
            Outcome::Delivered => {
                state.news = ChannelNews { last_delivery: Some(wall), ..ChannelNews::default() };
            }
            Outcome::Refused { reason, sent: 1.. } => {
                let last_error = Some(reason.clone());
                state.news = ChannelNews { last_delivery: Some(wall), last_error, failures: 0 };
            }
            Outcome::Refused { reason, .. } | Outcome::PutOff { reason, .. } => {
                state.news.last_error = Some(reason.clone());
            }
            Outcome::Held { .. } => {}
            Outcome::Retry { reason, after, .. } => {
                state.news.last_error = Some(reason.clone());
                if sign == Sign::Works {
                    (state.news.last_delivery, state.news.failures) = (Some(wall), 0);
                } else if sign == Sign::Fails {
                    state.news.failures = state.news.failures.saturating_add(1);
                }
                if let Some(after) = after {
                    // What a service asks for concerns all that waits for it.
                    state.pause_until = state.pause_until.max(now.after(*after));
                }
            }
        }
        let turn = state.breaker.note(sign, now, super::random());
        // The generation before, or the run before, may have said that it fails.
        let first = sign == Sign::Works && !state.works;
        state.works |= first;
        let last_error = state.news.last_error.clone().unwrap_or_default();
        gauge!(metric::CHANNEL_BREAKER, "channel" => self.name()).set(state.breaker.state(now).as_number());
        drop(state);
        match turn {
            Some(Turn::Failing) => {
                warn!(channel = self.channel.name(), reason = last_error, "a channel delivers nothing");
                self.raise(true, format!("{}: {last_error}", self.channel.kind()));
            }
            Some(Turn::Well) => {
                info!(channel = self.channel.name(), "a channel delivers again");
                self.raise(false, String::new());
            }
            None if first => self.raise(false, String::new()),
            None => {}
        }
        turn
    }

    fn raise(&self, holds: bool, detail: String) {
        self.tools.notices.raise(Notice {
            kind: EventKind::ChannelFailing,
            camera: None,
            subject: self.name(),
            holds,
            detail: detail.chars().take(300).collect(),
        });
    }

    fn booking(&self, outcome: Outcome, attempts: u64, age: Duration) -> Booking {
        let (after, reason, sent) = match outcome {
            Outcome::Delivered => return Booking::Delivered(None),
            Outcome::Refused { reason, sent } => return given_up(reason, sent),
            Outcome::Retry { after, reason, sent } => (after, reason, sent),
            Outcome::PutOff { reason, sent } => (None, reason, sent),
            Outcome::Held { wait, sent } => (Some(wait), String::new(), sent),
        };
        let attempt = u32::try_from(attempts).unwrap_or(u32::MAX).saturating_add(1);
        match self.tools.policy.next(attempt, age, after, super::random()) {
            NextTry::In(wait) => Booking::Retry(super::later(self.tools.clock.wall(), wait), reason, sent),
            NextTry::Dead => given_up(reason, sent),
        }
    }

    /// Has an outcome written. Until it is, it is kept, and nothing else is tried: see [`Post::is_settled`].
    pub async fn book<R>(&self, work: impl Fn(&mut Store) -> Result<R, StoreError> + Send + Sync + 'static) {
        self.tools.link.books.enter(self.channel.name(), Arc::new(move |store| work(store).map(|_| ())));
        self.is_settled().await;
    }

    /// Whether what came of everything before is written by now. What is not must not be chosen again.
    pub async fn is_settled(&self) -> bool {
        self.tools.link.books.settle(self.channel.name(), &self.tools.archivist).await
    }

    /// The present, by which what waits may be judged; none while the clock was set and that is not taken account of.
    pub async fn now(&self) -> Option<WallTime> {
        self.tools.link.wall.now(self.tools.clock.as_ref(), &self.tools.archivist).await
    }

    /// Age of what was queued then, by the wall clock.
    pub fn age(&self, queued: WallTime) -> Duration {
        age(queued, self.tools.clock.wall())
    }

    /// Whether messages that nobody has read wait for their turn.
    pub fn is_busy(&self) -> bool {
        !self.idle.load(Ordering::Acquire)
    }
}
