//! Keeps senders below a service's rate limits: at most so many in any window of time. Nothing here sleeps; it says
//! how long to wait.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meerkat_base::{MonoTime, Secret};
use sha2::{Digest as _, Sha256};

/// Messages of an earlier run that a service may have had and of which nothing was written down: the process was killed
/// between the one and the other, on its way with a message and with a clip.
const NEVER_BOOKED: usize = 2;

/// A sliding window. Memory: one time per permitted message.
#[derive(Debug)]
pub struct Limiter {
    most: usize,
    window: Duration,
    /// When the places of the last window's messages are free again, the first first; never more than `most`.
    free_at: VecDeque<MonoTime>,
    /// So many of the last places stand for messages of an earlier run that nobody has told of.
    assumed: usize,
    /// The service itself said so: nothing before this time.
    closed_until: MonoTime,
}

impl Limiter {
    /// At most `most` (at least 1) in any `window`.
    pub fn new(most: usize, window: Duration) -> Self {
        Self { most: most.max(1), window, free_at: VecDeque::new(), assumed: 0, closed_until: MonoTime(0) }
    }

    /// The same as if half of the window had just been used up: by an earlier run of the node, say, which this one
    /// knows nothing of.
    #[must_use]
    pub fn half_full(mut self, now: MonoTime) -> Self {
        self.assumed = self.most / 2;
        self.free_at.extend(std::iter::repeat_n(now.after(self.window), self.assumed));
        self
    }

    /// An earlier run sent messages, each so long ago. They take the places of those that were only assumed, but for
    /// [`NEVER_BOOKED`].
    pub fn remember(&mut self, now: MonoTime, ages: &[Duration]) {
        for age in ages {
            let Some(left) = self.window.checked_sub(*age).filter(|left| !left.is_zero()) else { continue };
            if self.assumed > NEVER_BOOKED {
                self.assumed -= 1;
                self.free_at.pop_back();
            }
            let free = now.after(left);
            let place = self.free_at.partition_point(|other| *other <= free);
            self.free_at.insert(place, free);
            if self.free_at.len() > self.most {
                // More than there may be, by whatever way: the last ones count.
                self.free_at.pop_front();
            }
        }
    }

    /// Other settings, the same history: at most `most` (at least 1) from now on.
    pub fn allow(&mut self, most: usize) {
        self.most = most.max(1);
        while self.free_at.len() > self.most {
            // The last ones decide when there is a place again.
            self.free_at.pop_front();
        }
        self.assumed = self.assumed.min(self.free_at.len());
    }

    /// How long until one more may leave; zero: now.
    pub fn wait(&self, now: MonoTime) -> Duration {
        let full = match self.free_at.front() {
            Some(free) if self.free_at.len() >= self.most => free.since(now),
            _ => Duration::ZERO,
        };
        full.max(self.closed_until.since(now))
    }

    /// Takes a place for a message that leaves now, or says how long to wait. The place stays taken whatever
    /// comes of the message: the service may have counted it.
    pub fn take(&mut self, now: MonoTime) -> Result<(), Duration> {
        let wait = self.wait(now);
        if wait > Duration::ZERO {
            return Err(wait);
        }
        if self.free_at.len() >= self.most {
            self.free_at.pop_front();
        }
        self.free_at.push_back(now.after(self.window));
        // From here on the assumed ones are not the last any more.
        self.assumed = 0;
        Ok(())
    }

    /// The service says that it was too fast in spite of all: nothing leaves for a while.
    pub fn close_for(&mut self, now: MonoTime, duration: Duration) {
        self.closed_until = self.closed_until.max(now.after(duration));
    }
}

/// One limit of a service: at most `most` messages in any `window`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Messages.
    pub most: usize,
    /// Any time as long as this.
    pub window: Duration,
}

impl Rate {
    /// So many in any minute. A second longer than the service's minute, which begins when a message reaches it, while
    /// ours begins when one leaves: the difference is the network's.
    pub const fn per_minute(most: usize) -> Self {
        Self { most, window: Duration::from_secs(61) }
    }

    /// So many in any hour.
    pub const fn per_hour(most: usize) -> Self {
        Self { most, window: Duration::from_secs(3_605) }
    }

    /// So many in any second.
    pub const fn per_second(most: usize) -> Self {
        Self { most, window: Duration::from_millis(1_100) }
    }
}

/// Several limits that hold at once.
#[derive(Debug)]
struct Limiters(Vec<Limiter>);

impl Limiters {
    fn new(rates: &[Rate]) -> Self {
        Self(rates.iter().map(|rate| Limiter::new(rate.most, rate.window)).collect())
    }

    /// Takes other rates; what was counted for a window goes on counting.
    fn adapt(&mut self, rates: &[Rate]) {
        let mut before = std::mem::take(&mut self.0);
        self.0.extend(rates.iter().map(|rate| {
            match before.iter().position(|limiter| limiter.window == rate.window) {
                Some(place) => {
                    let mut limiter = before.swap_remove(place);
                    limiter.allow(rate.most);
                    limiter
                }
                None => Limiter::new(rate.most, rate.window),
            }
        }));
    }

    fn half_full(self, now: MonoTime) -> Self {
        Self(self.0.into_iter().map(|limiter| limiter.half_full(now)).collect())
    }

    fn remember(&mut self, now: MonoTime, ages: &[Duration]) {
        for limiter in &mut self.0 {
            limiter.remember(now, ages);
        }
    }

    fn wait(&self, now: MonoTime) -> Duration {
        self.0.iter().map(|limiter| limiter.wait(now)).max().unwrap_or_default()
    }

    fn take(&mut self, now: MonoTime) {
        for limiter in &mut self.0 {
            // Asked before: nobody has to wait.
            let _ = limiter.take(now);
        }
    }

    fn close_for(&mut self, now: MonoTime, duration: Duration) {
        for limiter in &mut self.0 {
            limiter.close_for(now, duration);
        }
    }
}

/// The way out to one service: its limits, which all channels with the same credentials share, and the channel's own.
#[derive(Debug)]
pub struct Gate {
    service: Arc<Mutex<Limiters>>,
    own: Arc<Mutex<Limiters>>,
}

impl Gate {
    /// How long until one more may leave; zero: now.
    pub fn wait(&self, now: MonoTime) -> Duration {
        lock(&self.service).wait(now).max(lock(&self.own).wait(now))
    }

    /// Takes a place for a message that leaves now, or says how long to wait, as [`Limiter::take`].
    pub fn take(&self, now: MonoTime) -> Result<(), Duration> {
        let (mut service, mut own) = (lock(&self.service), lock(&self.own));
        let wait = service.wait(now).max(own.wait(now));
        if wait > Duration::ZERO {
            return Err(wait);
        }
        service.take(now);
        own.take(now);
        Ok(())
    }

    /// An earlier run sent messages by this channel, each so long ago.
    pub fn remember(&self, now: MonoTime, ages: &[Duration]) {
        lock(&self.service).remember(now, ages);
        lock(&self.own).remember(now, ages);
    }

    /// The service says that it was too fast in spite of all: nothing leaves for a while.
    pub fn close_for(&self, now: MonoTime, duration: Duration) {
        lock(&self.service).close_for(now, duration);
    }
}

// Poison means nothing: no code of a caller runs under these locks, and they are never held over an await.
fn lock(limiters: &Mutex<Limiters>) -> MutexGuard<'_, Limiters> {
    limiters.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What has left for which service, over the life of the process: a reload makes new channels, but the services still
/// count what the old ones sent. Two channels with the same credentials count together.
#[derive(Debug, Default)]
pub struct RateBook {
    /// By a hash of the credentials, which are not kept.
    services: Mutex<HashMap<[u8; 32], Arc<Mutex<Limiters>>>>,
    /// The same with the channel's name: what each of them allows itself.
    channels: Mutex<HashMap<[u8; 32], Arc<Mutex<Limiters>>>>,
}

/// Whether a service forgives a run of the node that follows another too fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// It says so, and takes the message later.
    Fresh,
    /// It drops messages silently or shuts the door for long: the first window of a run gets half.
    Cautious,
}

impl RateBook {
    /// The gate of a channel: `rates` are the service's for these credentials, and never change; `own` are those that the
    /// channel's settings allow it, as they are now.
    pub(crate) fn gate(
        &self,
        channel: &str,
        credentials: &[&Secret],
        rates: &[Rate],
        own: &[Rate],
        start: Start,
        now: MonoTime,
    ) -> Gate {
        let mut hash = Sha256::new();
        for secret in credentials {
            hash.update(secret.reveal().len().to_le_bytes());
            hash.update(secret.reveal());
        }
        let mut named = hash.clone();
        named.update(channel);
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let service = services.entry(hash.finalize().into()).or_insert_with(|| {
            let limiters = Limiters::new(rates);
            Arc::new(Mutex::new(match start {
                Start::Fresh => limiters,
                Start::Cautious => limiters.half_full(now),
            }))
        });
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = channels
            .entry(named.finalize().into())
            .or_insert_with(|| Arc::new(Mutex::new(Limiters::new(own))));
        lock(mine).adapt(own);
        Gate { service: Arc::clone(service), own: Arc::clone(mine) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64) -> MonoTime {
        MonoTime(ms * 1_000_000)
    }

    #[test]
    fn the_window_slides() {
        let mut limiter = Limiter::new(2, Duration::from_secs(60));
        assert_eq!(limiter.take(at(0)), Ok(()));
        assert_eq!(limiter.take(at(10_000)), Ok(()));
        assert_eq!(limiter.take(at(20_000)), Err(Duration::from_secs(40)));
        assert_eq!(limiter.take(at(59_999)), Err(Duration::from_millis(1)));
        assert_eq!(limiter.take(at(60_000)), Ok(()));
        assert_eq!(limiter.take(at(60_001)), Err(Duration::from_millis(9_999)));
    }

    #[test]
    fn the_service_can_close_it() {
        let mut limiter = Limiter::new(2, Duration::from_secs(60));
        limiter.close_for(at(1_000), Duration::from_secs(60));
        limiter.close_for(at(2_000), Duration::from_secs(5));
        assert_eq!(limiter.take(at(3_000)), Err(Duration::from_secs(58)));
        assert_eq!(limiter.take(at(61_000)), Ok(()));
    }

    #[test]
    fn channels_with_the_same_credentials_count_together_and_reloads_forget_nothing() {
        let book = RateBook::default();
        let (key, other) = (Secret::new("key"), Secret::new("yek"));
        let rates = [Rate { most: 3, window: Duration::from_secs(60) }];
        let gate = |key: &Secret, own: &[Rate], now| {
            let name = if own.is_empty() { "a" } else { "b" };
            book.gate(name, &[key], &rates, own, Start::Fresh, at(now))
        };
        let first = gate(&key, &[], 0);
        let second = gate(&key, &[Rate { most: 1, window: Duration::from_secs(10) }], 0);
        assert_eq!((first.take(at(0)), second.take(at(0))), (Ok(()), Ok(())));
        assert_eq!(second.take(at(1)), Err(Duration::from_millis(9_999)), "its own limit");
        assert_eq!(first.take(at(1)), Ok(()));
        assert_eq!(second.wait(at(10_001)), Duration::from_millis(49_999), "the service's limit");
        drop((first, second));
        assert_eq!(gate(&key, &[], 2_000).take(at(2_000)), Err(Duration::from_secs(58)));
        assert_eq!(gate(&other, &[], 2_000).take(at(2_000)), Ok(()));
        gate(&key, &[], 2_000).close_for(at(2_000), Duration::from_secs(600));
        assert_eq!(gate(&key, &[], 2_000).wait(at(2_000)), Duration::from_secs(600));
    }

    #[test]
    fn a_channels_own_limit_is_what_its_settings_say_now_and_counts_what_left_before() {
        let book = RateBook::default();
        let gate = |name: &str, most: usize| {
            let own = [Rate { most, window: Duration::from_secs(60) }];
            book.gate(name, &[&Secret::new("key")], &[], &own, Start::Fresh, at(0))
        };
        let taken = |gate: &Gate, now| (0..100).take_while(|_| gate.take(at(now)).is_ok()).count();
        assert_eq!(taken(&gate("a", 3), 0), 3);
        assert_eq!(taken(&gate("b", 5), 0), 5, "another channel with the same credentials");
        assert_eq!(taken(&gate("a", 3), 1_000), 0, "a reload forgets nothing");
        assert_eq!(taken(&gate("a", 5), 2_000), 2, "and changes what is allowed");
        let tighter = gate("a", 1);
        assert_eq!(tighter.wait(at(3_000)), Duration::from_secs(59), "the last one counts");
        assert_eq!(taken(&tighter, 62_000), 1);
    }

    #[test]
    fn several_windows_hold_at_once_and_a_cautious_start_gets_half() {
        let book = RateBook::default();
        let rates = [Rate::per_minute(4), Rate::per_hour(6)];
        let gate = book.gate("a", &[&Secret::new("k")], &rates, &[], Start::Cautious, at(0));
        assert_eq!((gate.take(at(0)), gate.take(at(0))), (Ok(()), Ok(())));
        assert_eq!(gate.take(at(0)), Err(Duration::from_secs(61)));
        assert_eq!(gate.take(at(61_000)), Ok(()));
        assert_eq!(gate.take(at(61_000)), Err(Duration::from_millis(3_544_000)), "the hour's six");
    }

    #[test]
    fn what_an_earlier_run_sent_counts_for_as_long_as_the_service_counts_it() {
        let ages = |secs: &[u64]| secs.iter().map(|s| Duration::from_secs(*s)).collect::<Vec<_>>();
        let mut limiter = Limiter::new(4, Duration::from_secs(60));
        limiter.remember(at(0), &ages(&[50, 90, 10, 60, 20]));
        assert_eq!(limiter.take(at(0)), Ok(()), "two of them are too old to count");
        assert_eq!(limiter.take(at(0)), Err(Duration::from_secs(10)), "the oldest goes first");
        assert_eq!(limiter.take(at(10_000)), Ok(()));
        assert_eq!(limiter.take(at(10_000)), Err(Duration::from_secs(30)));

        // What is known takes the place of what was assumed, and two more may have left.
        let cautious = |ago: &[u64]| {
            let mut limiter = Limiter::new(10, Duration::from_secs(60)).half_full(at(0));
            limiter.remember(at(0), &ages(ago));
            (0..10).take_while(|_| limiter.take(at(0)).is_ok()).count()
        };
        assert_eq!(cautious(&[]), 5);
        assert_eq!(cautious(&[1]), 5);
        assert_eq!(cautious(&[1, 2, 3]), 5);
        assert_eq!(cautious(&[1, 2, 3, 4]), 4);
        assert_eq!(cautious(&[1; 9]), 0);
        assert_eq!(cautious(&[1; 500]), 0);
        assert_eq!(cautious(&[61; 500]), 5);
    }

    #[test]
    fn channels_with_the_same_credentials_remember_for_each_other() {
        let book = RateBook::default();
        let rates = [Rate { most: 4, window: Duration::from_secs(60) }];
        let gate = || book.gate("a", &[&Secret::new("key")], &rates, &[], Start::Fresh, at(0));
        let (first, second) = (gate(), gate());
        first.remember(at(0), &[Duration::from_secs(5); 2]);
        second.remember(at(0), &[Duration::from_secs(7); 2]);
        assert_eq!(first.wait(at(0)), Duration::from_secs(53));
    }

    proptest! {
        #[test]
        fn no_window_over_a_restart_holds_more(
            most in 1_usize..6,
            before in prop::collection::vec(0_u64..5_000, 0..12),
            steps in prop::collection::vec(0_u64..3_000, 1..60),
        ) {
            let window = Duration::from_secs(5);
            let mut limiter = Limiter::new(most, window);
            // As far as the earlier run kept to the limit itself.
            let before: Vec<u64> = before.into_iter().take(most).collect();
            let ages: Vec<Duration> = before.iter().map(|ago| Duration::from_millis(*ago)).collect();
            limiter.remember(at(0), &ages);
            let mut sent: Vec<i64> = before.iter().map(|ago| -(*ago as i64)).collect();
            let mut now = 0;
            for step in steps {
                now += step;
                if limiter.take(at(now)).is_ok() {
                    sent.push(now as i64);
                }
                let inside = sent.iter().filter(|&&s| s + 5_000 > now as i64).count();
                prop_assert!(inside <= most);
            }
        }

        #[test]
        fn no_window_ever_holds_more(most in 1_usize..6, steps in prop::collection::vec(0_u64..3_000, 1..200)) {
            let window = Duration::from_secs(5);
            let mut limiter = Limiter::new(most, window);
            let (mut now, mut sent) = (0, Vec::new());
            for step in steps {
                now += step;
                match limiter.take(at(now)) {
                    Ok(()) => sent.push(now),
                    Err(wait) => prop_assert!(wait > Duration::ZERO && wait <= window),
                }
                let inside = sent.iter().filter(|&&s| s + 5_000 > now).count();
                prop_assert!(inside <= most);
            }
        }
    }
}
