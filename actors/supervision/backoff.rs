//! How long a failed actor waits before it is built again: doubling, with jitter and a ceiling.

use std::time::Duration;

/// Bounds of the waiting time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffSettings {
    /// Wait after the first failure.
    pub min: Duration,
    /// No wait is longer than this; an actor that ran this long without failing starts from `min` again.
    pub max: Duration,
}

impl Default for BackoffSettings {
    fn default() -> Self {
        Self { min: Duration::from_millis(200), max: Duration::from_secs(30) }
    }
}

/// Counts failures in a row and turns them into waiting times.
#[derive(Debug, Clone)]
pub struct Backoff {
    settings: BackoffSettings,
    failures: u32,
}

impl Backoff {
    /// Starts without failures.
    pub fn new(settings: BackoffSettings) -> Self {
        Self { settings, failures: 0 }
    }

    /// The wait after one more failure of an actor that had been up for `uptime`. `random` in 0..1 spreads the
    /// wait over 75 % to 100 % of its nominal length, so that many actors do not come back at the same moment.
    pub fn next(&mut self, uptime: Duration, random: f64) -> Duration {
        if uptime >= self.settings.max {
            self.failures = 0;
        }
        let doubled = self.settings.min.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1).min(31);
        doubled.min(self.settings.max).mul_f64(0.75 + 0.25 * random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_ceiling_and_start_again_after_good_times() {
        let mut b = Backoff::new(BackoffSettings::default());
        let waits: Vec<u128> = (0..10).map(|_| b.next(Duration::ZERO, 1.0).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
        for _ in 0..100 {
            b.next(Duration::ZERO, 1.0);
        }
        assert_eq!(b.next(Duration::from_secs(30), 1.0), Duration::from_millis(200));
    }

    #[test]
    fn jitter_only_shortens() {
        let wait = |random| Backoff::new(BackoffSettings::default()).next(Duration::ZERO, random);
        assert_eq!(wait(0.0), Duration::from_millis(150));
        assert_eq!(wait(7.0), Duration::from_millis(200));
    }
}
