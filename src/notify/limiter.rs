//! Keeps a sender below a service's rate limit: at most so many in any window of time. It never sleeps; it says
//! how long to wait.

use std::collections::VecDeque;
use std::time::Duration;

use meerkat_base::MonoTime;

/// A sliding window. Memory: one time per permitted message.
#[derive(Debug)]
pub struct Limiter {
    most: usize,
    window: Duration,
    /// When the messages of the last window left, oldest first; never more than `most`.
    left: VecDeque<MonoTime>,
    /// The service itself said so: nothing before this time.
    closed_until: MonoTime,
}

impl Limiter {
    /// At most `most` (at least 1) in any `window`.
    pub fn new(most: usize, window: Duration) -> Self {
        Self { most: most.max(1), window, left: VecDeque::new(), closed_until: MonoTime(0) }
    }

    /// How long until one more may leave; zero: now.
    pub fn wait(&self, now: MonoTime) -> Duration {
        let full = match self.left.front() {
            Some(&oldest) if self.left.len() >= self.most => oldest.after(self.window).since(now),
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
        if self.left.len() >= self.most {
            self.left.pop_front();
        }
        self.left.push_back(now);
        Ok(())
    }

    /// The service says that it was too fast in spite of all: nothing leaves for a while.
    pub fn close_for(&mut self, now: MonoTime, duration: Duration) {
        self.closed_until = self.closed_until.max(now.after(duration));
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

    proptest! {
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
