//! Counts answers and measures how long they took, in memory that does not grow. Prints nothing by itself.

use std::fmt;
use std::time::Duration;

use meerkat_base::MonoTime;

/// Neighbouring buckets differ by this factor, so a quantile is at most 2 % too high.
const STEP: f64 = 1.02;

/// Enough for answers of up to five minutes.
const BUCKETS: usize = 1_000;

/// What came of the frames sent.
#[derive(Debug)]
pub(in crate::cli) struct Tally {
    accepted: u64,
    refused: u64,
    bytes: u64,
    first: Option<MonoTime>,
    last: MonoTime,
    buckets: Vec<u64>,
    longest: Duration,
}

impl Tally {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            accepted: 0,
            refused: 0,
            bytes: 0,
            first: None,
            last: MonoTime::default(),
            buckets: vec![0; BUCKETS],
            longest: Duration::ZERO,
        }
    }

    /// Enters one frame: its size, when its first byte was sent and when its answer came.
    pub fn enter(&mut self, accepted: bool, bytes: usize, sent: MonoTime, answered: MonoTime) {
        if accepted {
            self.accepted += 1;
        } else {
            self.refused += 1;
        }
        self.bytes += bytes as u64;
        self.first.get_or_insert(sent);
        self.last = answered;
        let took = answered - sent;
        self.longest = self.longest.max(took);
        self.buckets[bucket(took)] += 1;
    }

    /// Frames answered with 1.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Frames answered at all.
    pub fn answered(&self) -> u64 {
        self.accepted + self.refused
    }

    /// The time within which this share (0..=1) of the answers came.
    fn quantile(&self, share: f64) -> Duration {
        let wanted = ((self.answered() as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, &count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper_end(index).min(self.longest);
            }
        }
        self.longest
    }
}

/// Buckets are in microseconds: the n-th ends at 1.02^n.
fn bucket(took: Duration) -> usize {
    let micros = (took.as_nanos() as f64 / 1_000.0).max(1.0);
    ((micros.ln() / STEP.ln()).ceil() as usize).min(BUCKETS - 1)
}

fn upper_end(index: usize) -> Duration {
    Duration::from_secs_f64(STEP.powi(i32::try_from(index).unwrap_or(i32::MAX)) / 1e6)
}

fn millis(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1_000.0)
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.first.map_or(0.0, |first| (self.last - first).as_secs_f64());
        write!(f, "answered   {} frames, {:.1} MB in {secs:.1} s", self.answered(), self.bytes as f64 / 1e6)?;
        if secs > 0.0 {
            let (frames, bits) = (self.answered() as f64 / secs, self.bytes as f64 * 8.0 / secs / 1e6);
            write!(f, " ({frames:.1} frames/s, {bits:.1} Mbit/s)")?;
        }
        write!(f, "\naccepted   {}\nrefused    {}", self.accepted, self.refused)?;
        if self.answered() > 0 {
            let (half, most) = (self.quantile(0.5), self.quantile(0.99));
            write!(
                f,
                "\nlatency    p50 {}, p99 {}, max {}",
                millis(half),
                millis(most),
                millis(self.longest)
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> MonoTime {
        MonoTime(millis * 1_000_000)
    }

    #[test]
    fn quantiles_are_within_two_percent() {
        let mut tally = Tally::new();
        for millis in 1..=1_000 {
            tally.enter(true, 10, at(0), at(millis));
        }
        let near = |share, expected: f64| {
            let found = tally.quantile(share).as_secs_f64() * 1_000.0;
            assert!((expected..=expected * 1.021).contains(&found), "{share}: {found}");
        };
        near(0.5, 500.0);
        near(0.99, 990.0);
        assert_eq!(tally.quantile(1.0), Duration::from_secs(1));
    }

    #[test]
    fn extremes_fit() {
        let mut tally = Tally::new();
        tally.enter(true, 0, at(5), at(5));
        tally.enter(false, 0, at(0), at(100_000_000));
        assert_eq!(tally.quantile(1.0), Duration::from_secs(100_000).min(upper_end(BUCKETS - 1)));
        assert_eq!((tally.accepted(), tally.answered()), (1, 2));
    }

    #[test]
    fn the_summary_says_what_happened() {
        let mut tally = Tally::new();
        assert!(!tally.to_string().contains("latency"));
        tally.enter(true, 500_000, at(0), at(10));
        tally.enter(false, 500_000, at(990), at(1_000));
        let shown = tally.to_string();
        assert!(shown.contains("answered   2 frames, 1.0 MB in 1.0 s (2.0 frames/s, 8.0 Mbit/s)"), "{shown}");
        assert!(shown.contains("accepted   1\nrefused    1\nlatency    p50 10.00 ms"), "{shown}");
    }
}
