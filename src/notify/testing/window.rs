//! Counts what a service has accepted in the last while, for the limits of the mock servers.

use std::collections::VecDeque;
use std::time::Duration;

use meerkat_base::MonoTime;

/// At most so many in any window of so many seconds.
pub(super) struct Window {
    most: usize,
    length: Duration,
    accepted: VecDeque<MonoTime>,
}

impl Window {
    pub(super) fn of(most: usize, secs: u64) -> Self {
        Self { most, length: Duration::from_secs(secs), accepted: VecDeque::new() }
    }

    pub(super) fn is_full(&self, now: MonoTime) -> bool {
        self.accepted.iter().filter(|at| now.since(**at) < self.length).count() >= self.most
    }

    pub(super) fn count(&mut self, now: MonoTime) {
        if self.accepted.len() >= self.most {
            self.accepted.pop_front();
        }
        self.accepted.push_back(now);
    }
}
