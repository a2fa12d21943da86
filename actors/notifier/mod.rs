//! Delivers what waits in the outbox, channel by channel, until it is delivered, refused or too old. What a service
//! allows is the channel's knowledge; what is kept is the archivist's.

mod books;
mod choice;
mod clips;
mod compose;
mod lane;
mod post;
mod summary;

mod breaker;
mod links;
mod shrinker;

mod trial;
mod wall;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use meerkat_base::{Clock, NoticeSink, WallTime, metric};
use meerkat_notify::{Channel, RetryPolicy};
use meerkat_settings::{DeliverySettings, NotifySettings};
use meerkat_store::{ChannelBacklog, Store, StoreError};
use metrics::gauge;
use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::{debug, warn};

pub use breaker::BreakerState;
pub use clips::ClipTools;
pub use links::Links;
pub use post::ChannelNews;
pub use shrinker::Shrinker;
pub use trial::{TrialResult, try_out};

use books::Books;
use clips::ClipLane;
use lane::Lane;
use post::Post;
use trial::Orders;
use wall::Wall;

use crate::archivist::Archivist;
use crate::supervision::{Failure, Sentinel};

/// How often the outbox is looked through even if nobody says that there is something new.
const INTERVAL: Duration = Duration::from_secs(1);
/// No attempt at a message takes longer, whatever the channel thinks.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(60);
/// How often alerts of channels that are not configured any more are looked for.
const STRANGERS_EVERY: Duration = Duration::from_secs(60);

/// What is said of each channel all the time.
const GAUGES: [&str; 4] =
    [metric::CHANNEL_BREAKER, metric::ALERTS_WAITING, metric::ALERTS_DEAD, metric::ALERTS_OLDEST];

/// What every generation of the notifier is built from.
#[derive(Clone)]
pub struct NotifierTools {
    /// Keeps the outbox.
    pub archivist: Archivist,
    /// The channels, each delivered to by itself.
    pub channels: Vec<Arc<dyn Channel>>,
    /// When to try again, and when to give up.
    pub policy: RetryPolicy,
    /// Backlogs and channels that fail.
    pub delivery: DeliverySettings,
    /// Clips that follow.
    pub clips: ClipTools,
    /// Folder that snapshot and clip paths are relative to.
    pub data_dir: PathBuf,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Rung when there is something new.
    pub link: NotifierLink,
    /// Where a channel that fails is reported.
    pub notices: Arc<dyn NoticeSink>,
}

impl NotifierTools {
    /// What the next generation is built from: other channels, and settings of theirs. Links stay what they are, for the
    /// door that answers there does, too. Returns the channels before, which somebody has to close.
    pub fn replace(
        &mut self,
        settings: &NotifySettings,
        channels: Vec<Arc<dyn Channel>>,
    ) -> Vec<Arc<dyn Channel>> {
        let clips = &self.clips;
        self.clips =
            ClipTools::new(clips.shrinker.clone(), clips.links.clone(), settings.delivery.max_clip_bytes);
        self.policy.give_up_after = settings.give_up;
        self.delivery = settings.delivery.clone();
        std::mem::replace(&mut self.channels, channels)
    }
}

/// How one channel is doing.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelReport {
    /// Which service it speaks to.
    pub kind: &'static str,
    /// What its breaker lets through.
    pub breaker: BreakerState,
    /// What waits and what was given up.
    pub backlog: ChannelBacklog,
    /// What its last attempts came to.
    pub news: ChannelNews,
}

/// The bell of the notifier, what it shows of itself, and orders for test messages. Clones share them.
#[derive(Clone)]
pub struct NotifierLink {
    bell: Arc<Notify>,
    waiting: Arc<AtomicU64>,
    reports: Arc<Mutex<BTreeMap<String, ChannelReport>>>,
    trials: Arc<Orders>,
    books: Arc<Books>,
    wall: Arc<Wall>,
}

impl Default for NotifierLink {
    fn default() -> Self {
        Self {
            bell: Arc::default(),
            waiting: Arc::default(),
            reports: Arc::default(),
            trials: Arc::new(Orders::new()),
            books: Arc::default(),
            wall: Arc::default(),
        }
    }
}

impl NotifierLink {
    /// Says that something new waits in the outbox.
    pub fn kick(&self) {
        self.bell.notify_waiters();
    }

    /// Ends at the next kick after this call.
    fn rung(&self) -> impl Future<Output = ()> + use<> {
        Arc::clone(&self.bell).notified_owned()
    }

    /// Alerts that waited when the outbox was last counted.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How every channel was doing when it was last looked at, by name.
    pub fn reports(&self) -> BTreeMap<String, ChannelReport> {
        self.lock().clone()
    }

    /// Has a test message sent and waits for what comes of it, from a thread that may block. Nothing for a channel that
    /// there is not.
    ///
    /// # Errors
    /// In words, when the notifier cannot take the order or was lost meanwhile.
    pub fn try_out(&self, channel: &str) -> Result<Option<TrialResult>, String> {
        let answer = self.trials.leave(channel).ok_or("too many test messages wait")?;
        answer.blocking_recv().map_err(|_| "the notifier failed".to_owned())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, ChannelReport>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The notifier.
pub struct Notifier {
    tools: NotifierTools,
    posts: Vec<Arc<Post>>,
    sentinel: Arc<Sentinel>,
}

impl Notifier {
    /// A notifier that has delivered nothing.
    pub fn new(tools: NotifierTools, sentinel: Sentinel) -> Self {
        let posts =
            tools.channels.iter().map(|channel| Arc::new(Post::new(tools.clone(), Arc::clone(channel))));
        Self { posts: posts.collect(), tools, sentinel: Arc::new(sentinel) }
    }

    /// A lane only ends by failing, and then the whole actor is built anew.
    fn run(&self, lane: impl Future<Output = Failure> + 'static, ctx: &mut Context<Self>) {
        let sentinel = Arc::clone(&self.sentinel);
        ctx.spawn(lane.into_actor(self).map(move |failure, _, ctx| {
            sentinel.fail(failure);
            ctx.stop();
        }));
    }
}

impl Actor for Notifier {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        for post in &self.posts {
            post.channel.open();
            self.run(Lane::new(Arc::clone(post)).run(), ctx);
            if post.channel.takes_clips() {
                self.run(ClipLane::new(Arc::clone(post)).run(), ctx);
            }
        }
        let (tools, posts) = (self.tools.clone(), self.posts.clone());
        ctx.spawn(keep_count(tools, posts).into_actor(self));
        let tools = self.tools.clone();
        let trials = async move {
            tools.link.trials.serve(&tools.channels, tools.clock.as_ref()).await;
        };
        ctx.spawn(trials.into_actor(self));
    }
}

/// Counts what waits, for metrics and status; gives up what waits for nobody.
async fn keep_count(tools: NotifierTools, posts: Vec<Arc<Post>>) {
    let names: Vec<String> = posts.iter().map(|post| post.name()).collect();
    let mut strangers_at = None;
    loop {
        let asked = names.clone();
        match tools.archivist.ask(move |store| count(store, &asked)).await {
            Ok((waiting, backlogs)) => {
                tools.link.waiting.store(waiting, Ordering::Relaxed);
                gauge!(metric::OUTBOX_WAITING).set(waiting as f64);
                report(&tools, &posts, &backlogs);
            }
            Err(problem) => debug!(%problem, "the outbox cannot be counted"),
        }
        for stranger in tools.link.books.channels().iter().filter(|name| !names.contains(name)) {
            tools.link.books.settle(stranger, &tools.archivist).await;
        }
        let mono = tools.clock.mono();
        if strangers_at.is_none_or(|at| mono.since(at) >= STRANGERS_EVERY)
            && let Some(now) = tools.link.wall.now(tools.clock.as_ref(), &tools.archivist).await
        {
            strangers_at = Some(mono);
            let (known, patience) = (names.clone(), tools.policy.give_up_after);
            match tools.archivist.ask(move |store| store.give_up_strangers(&known, now, patience)).await {
                Ok(0) | Err(_) => {}
                Ok(alerts) => warn!(alerts, "alerts given up: their channels are not configured any more"),
            }
        }
        sleep(INTERVAL).await;
    }
}

fn count(store: &Store, names: &[String]) -> Result<(u64, Vec<ChannelBacklog>), StoreError> {
    let backlogs = names.iter().map(|name| store.channel_backlog(name)).collect::<Result<_, _>>()?;
    Ok((store.outbox_waiting()?, backlogs))
}

fn report(tools: &NotifierTools, posts: &[Arc<Post>], backlogs: &[ChannelBacklog]) {
    let mut reports = BTreeMap::new();
    for (post, backlog) in posts.iter().zip(backlogs) {
        let oldest = backlog.oldest.map_or(0.0, |oldest| post.age(oldest).as_secs_f64());
        gauge!(metric::ALERTS_WAITING, "channel" => post.name()).set(backlog.waiting as f64);
        gauge!(metric::ALERTS_DEAD, "channel" => post.name()).set(backlog.dead as f64);
        gauge!(metric::ALERTS_OLDEST, "channel" => post.name()).set(oldest);
        gauge!(metric::CHANNEL_BREAKER, "channel" => post.name()).set(post.breaker().as_number());
        let report = ChannelReport {
            kind: post.channel.kind(),
            breaker: post.breaker(),
            backlog: *backlog,
            news: post.news(),
        };
        reports.insert(post.name(), report);
    }
    let mut shown = tools.link.lock();
    // What was last said of a channel that is not configured any more must not stand for ever.
    for gone in shown.keys().filter(|name| !reports.contains_key(*name)) {
        for name in GAUGES {
            gauge!(name, "channel" => gone.clone()).set(0.0);
        }
    }
    *shown = reports;
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
mod tests;
