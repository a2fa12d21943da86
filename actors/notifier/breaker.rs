//! The breaker of one channel: after so many failures in a row nothing is tried for a while, then one attempt shows
//! whether the channel works again. It never sleeps; it says how long to wait.

use std::time::Duration;

use meerkat_base::MonoTime;

/// No wait between two tries of a channel that fails is longer.
const CEILING: Duration = Duration::from_secs(600);
/// How long whoever finds the one attempt under way waits before asking again.
const UNDER_WAY: Duration = Duration::from_millis(500);

/// When a breaker opens and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures in a row.
    pub failures: u32,
    /// The first wait; it doubles up to ten minutes.
    pub open: Duration,
}

/// What a breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything.
    Closed,
    /// One attempt that shows whether the channel works again.
    HalfOpen,
    /// Nothing.
    Open,
}

impl BreakerState {
    /// The word used in status and lists.
    pub fn as_str(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::HalfOpen => "half_open",
            BreakerState::Open => "open",
        }
    }

    /// The value of the gauge.
    pub fn as_number(self) -> f64 {
        match self {
            BreakerState::Closed => 0.0,
            BreakerState::HalfOpen => 1.0,
            BreakerState::Open => 2.0,
        }
    }
}

/// Whether an attempt may be made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// Any number of them.
    Go,
    /// One, to see whether the channel works again.
    Probe,
    /// None for so long.
    Wait(Duration),
}

/// What an attempt says of its channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// Something has arrived.
    Works,
    /// The service answers, and refuses for good: it is reached, but nobody is told.
    Refuses,
    /// The service answers; whether people are told is not known from this.
    Answers,
    /// Nothing has arrived.
    Fails,
}

/// A change of what people should know of the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It delivers nothing from now on.
    Failing,
    /// It delivers again.
    Well,
}

enum State {
    Closed,
    Open { until: MonoTime, wait: Duration },
    Probing { wait: Duration },
}

/// One breaker.
pub(super) struct Breaker {
    settings: BreakerSettings,
    state: State,
    /// Failures since something arrived.
    failures: u32,
    /// Refusals since something arrived.
    refusals: u32,
    /// Whether people were told that it fails.
    failing: bool,
}

impl Breaker {
    pub fn new(settings: BreakerSettings) -> Self {
        Self { settings, state: State::Closed, failures: 0, refusals: 0, failing: false }
    }

    /// Whether an attempt may be made.
    pub fn leave(&self, now: MonoTime) -> Leave {
        match &self.state {
            State::Closed => Leave::Go,
            State::Open { until, .. } if *until <= now => Leave::Probe,
            State::Open { until, .. } => Leave::Wait(until.since(now)),
            State::Probing { .. } => Leave::Wait(UNDER_WAY),
        }
    }

    /// An attempt begins now; false when it may not.
    pub fn begin(&mut self, now: MonoTime) -> bool {
        match self.leave(now) {
            Leave::Go => true,
            Leave::Probe => {
                let wait = self.wait();
                self.state = State::Probing { wait };
                true
            }
            Leave::Wait(_) => false,
        }
    }

    /// The attempt was not made after all.
    pub fn cancel(&mut self, now: MonoTime) {
        if let State::Probing { wait } = self.state {
            self.state = State::Open { until: now, wait };
        }
    }

    /// What came of an attempt; `random` in 0..1 spreads the waits of many channels behind one broken line.
    pub fn note(&mut self, sign: Sign, now: MonoTime, random: f64) -> Option<Turn> {
        let limit = self.settings.failures.max(1);
        match sign {
            Sign::Works => {
                (self.failures, self.refusals) = (0, 0);
                self.state = State::Closed;
                std::mem::take(&mut self.failing).then_some(Turn::Well)
            }
            Sign::Answers => {
                if matches!(self.state, State::Probing { .. }) {
                    // Whoever comes next shows more; another failure opens it again.
                    self.state = State::Closed;
                    self.failures = limit.saturating_sub(1);
                }
                None
            }
            Sign::Refuses => {
                self.failures = 0;
                self.refusals = self.refusals.saturating_add(1);
                self.state = State::Closed;
                self.turn_failing(self.refusals >= limit)
            }
            Sign::Fails => {
                self.failures = self.failures.saturating_add(1);
                let was = self.wait();
                match self.state {
                    State::Closed if self.failures < limit => return None,
                    // A straggler that began before the breaker opened changes nothing.
                    State::Open { .. } => return None,
                    State::Closed => self.open(self.settings.open, now, random),
                    State::Probing { .. } => self.open(was.saturating_mul(2).min(CEILING), now, random),
                }
                self.turn_failing(true)
            }
        }
    }

    fn open(&mut self, wait: Duration, now: MonoTime, random: f64) {
        let random = if random.is_nan() { 0.5 } else { random.clamp(0.0, 1.0) };
        self.state = State::Open { until: now.after(wait.mul_f64(0.75 + random / 4.0)), wait };
    }

    fn turn_failing(&mut self, failing: bool) -> Option<Turn> {
        let turns = failing && !self.failing;
        self.failing |= failing;
        turns.then_some(Turn::Failing)
    }

    fn wait(&self) -> Duration {
        match &self.state {
            State::Closed => self.settings.open,
            State::Open { wait, .. } | State::Probing { wait } => *wait,
        }
    }

    /// What it lets through now.
    pub fn state(&self, now: MonoTime) -> BreakerState {
        match self.leave(now) {
            Leave::Go => BreakerState::Closed,
            Leave::Probe => BreakerState::HalfOpen,
            Leave::Wait(_) if matches!(self.state, State::Probing { .. }) => BreakerState::HalfOpen,
            Leave::Wait(_) => BreakerState::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: BreakerSettings = BreakerSettings { failures: 3, open: Duration::from_secs(30) };

    fn at(secs: u64) -> MonoTime {
        MonoTime(secs * 1_000_000_000)
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_tries_ever_more_rarely() {
        let mut breaker = Breaker::new(SETTINGS);
        for _ in 0..2 {
            assert!(breaker.begin(at(0)));
            assert_eq!(breaker.note(Sign::Fails, at(0), 1.0), None);
        }
        assert_eq!(breaker.note(Sign::Works, at(0), 1.0), None, "in a row");
        for expected in [None, None, Some(Turn::Failing)] {
            assert!(breaker.begin(at(0)));
            assert_eq!(breaker.note(Sign::Fails, at(0), 1.0), expected);
        }
        assert_eq!(breaker.leave(at(1)), Leave::Wait(Duration::from_secs(29)));
        assert_eq!(breaker.state(at(1)), BreakerState::Open);
        assert!(!breaker.begin(at(29)));
        let (mut now, mut waits) = (30, Vec::new());
        for _ in 0..6 {
            assert_eq!(breaker.leave(at(now)), Leave::Probe);
            assert!(breaker.begin(at(now)));
            assert!(!breaker.begin(at(now)), "one at a time");
            assert_eq!(breaker.state(at(now)), BreakerState::HalfOpen);
            assert_eq!(breaker.note(Sign::Fails, at(now), 1.0), None, "that is known already");
            let Leave::Wait(wait) = breaker.leave(at(now)) else { panic!("closed") };
            waits.push(wait.as_secs());
            now += wait.as_secs();
        }
        assert_eq!(waits, [60, 120, 240, 480, 600, 600]);
        assert!(breaker.begin(at(now)));
        assert_eq!(breaker.note(Sign::Works, at(now), 1.0), Some(Turn::Well));
        assert_eq!(breaker.leave(at(now)), Leave::Go);
        // The next outage begins with the first wait.
        for _ in 0..3 {
            breaker.note(Sign::Fails, at(now), 0.0);
        }
        assert_eq!(breaker.leave(at(now)), Leave::Wait(Duration::from_millis(22_500)));
    }

    #[test]
    fn a_service_that_refuses_everything_is_reached_but_tells_nobody() {
        let mut breaker = Breaker::new(SETTINGS);
        let turns: Vec<_> = (0..4).map(|_| breaker.note(Sign::Refuses, at(0), 0.5)).collect();
        assert_eq!(turns, [None, None, Some(Turn::Failing), None]);
        assert_eq!(breaker.leave(at(0)), Leave::Go, "what is refused goes to the dead letters at once");
        assert_eq!(breaker.note(Sign::Works, at(0), 0.5), Some(Turn::Well));
    }
}
