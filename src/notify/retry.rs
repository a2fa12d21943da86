//! When to try a message again, as a pure function: the caller keeps the attempts, the time and the dice.

use std::time::Duration;

/// Doubling back-off with jitter, a ceiling, and an age at which a message is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Longest wait after the first failure.
    pub first: Duration,
    /// No wait of our own is longer.
    pub ceiling: Duration,
    /// A message older than this is dead when it fails again.
    pub give_up_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(2),
            ceiling: Duration::from_secs(10 * 60),
            give_up_after: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// What happens to a message that was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextTry {
    /// Tried again after this long.
    In(Duration),
    /// Too old: it goes to the dead letters.
    Dead,
}

impl RetryPolicy {
    /// The wait after the `attempt`-th failure (from 1), for a random number in 0..1: between half and all of
    /// `first` doubled `attempt - 1` times, at most the ceiling. Numbers outside 0..1, NaN included, are tamed.
    pub fn backoff(&self, attempt: u32, random: f64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        let whole = self.first.saturating_mul(1 << doublings).min(self.ceiling);
        let random = if random.is_nan() { 0.5 } else { random.clamp(0.0, 1.0) };
        whole.mul_f64(0.5 + random / 2.0)
    }

    /// Decides after the `attempt`-th failure (from 1) of a message of a given age. `asked` is the wait that
    /// the service or the limiter asked for: it is kept to, plus up to a tenth so that a backlog does not come
    /// back in one moment, and it takes the place of the back-off; but no message outlives its age by it.
    pub fn next(&self, attempt: u32, age: Duration, asked: Option<Duration>, random: f64) -> NextTry {
        if age >= self.give_up_after {
            return NextTry::Dead;
        }
        let left = self.give_up_after.saturating_sub(age);
        let wait = match asked {
            Some(asked) => {
                let random = if random.is_nan() { 0.5 } else { random.clamp(0.0, 1.0) };
                asked.saturating_add(asked.min(self.give_up_after).mul_f64(random / 10.0))
            }
            None => self.backoff(attempt, random),
        };
        // One last attempt at the very end rather than none.
        NextTry::In(wait.min(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POLICY: RetryPolicy = RetryPolicy {
        first: Duration::from_secs(2),
        ceiling: Duration::from_secs(600),
        give_up_after: Duration::from_secs(86_400),
    };

    #[test]
    fn it_doubles_up_to_the_ceiling() {
        let longest: Vec<u64> = (1..=11).map(|n| POLICY.backoff(n, 1.0).as_secs()).collect();
        assert_eq!(longest, [2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
        assert_eq!(POLICY.backoff(1, 0.0), Duration::from_secs(1));
        assert_eq!(POLICY.backoff(u32::MAX, 0.0), Duration::from_secs(300));
        assert_eq!(POLICY.backoff(0, 1.0), Duration::from_secs(2));
    }

    #[test]
    fn age_decides_when_it_is_over() {
        let day = Duration::from_secs(86_400);
        assert_eq!(POLICY.next(3, day, None, 0.5), NextTry::Dead);
        assert_eq!(POLICY.next(3, day, Some(Duration::ZERO), 0.5), NextTry::Dead);
        let almost = day - Duration::from_secs(1);
        assert_eq!(POLICY.next(30, almost, None, 0.5), NextTry::In(Duration::from_secs(1)));
    }

    #[test]
    fn what_the_service_asks_for_is_kept_to() {
        let minute = Some(Duration::from_secs(60));
        assert_eq!(POLICY.next(1, Duration::ZERO, minute, 0.0), NextTry::In(Duration::from_secs(60)));
        assert_eq!(POLICY.next(9, Duration::ZERO, minute, 1.0), NextTry::In(Duration::from_secs(66)));
    }

    proptest! {
        #[test]
        fn waits_are_bounded(attempt: u32, age_s: u64, asked: Option<u64>, random: f64) {
            let wait = POLICY.backoff(attempt, random);
            prop_assert!(wait >= Duration::from_secs(1) && wait <= POLICY.ceiling);
            let age = Duration::from_secs(age_s);
            match POLICY.next(attempt, age, asked.map(Duration::from_secs), random) {
                NextTry::In(wait) => prop_assert!(age.saturating_add(wait) <= POLICY.give_up_after),
                NextTry::Dead => prop_assert!(age >= POLICY.give_up_after),
            }
        }
    }
}
