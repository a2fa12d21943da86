//! By what time the desk tells how old a file is: the wall clock, while it is believed. A clock that jumped deletes nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use meerkat_base::{Clock, MonoTime, WallTime};

use crate::storage::StorageState;

/// A clock that is set by more than this is not believed at once.
const JUMP_MICROS: i64 = 3_600_000_000;
/// How long the node has, at the start and after a jump, to look into it.
const WAIT: Duration = Duration::from_secs(60);

/// The time by which files grow old.
pub(super) struct AgeClock {
    clock: Arc<dyn Clock>,
    storage: StorageState,
    state: Mutex<State>,
}

struct State {
    /// How far the wall clock is ahead of the monotonic one, microseconds.
    ahead: i64,
    believed_from: MonoTime,
}

impl AgeClock {
    pub fn new(clock: Arc<dyn Clock>, storage: StorageState) -> Self {
        let state = State { ahead: ahead(&*clock), believed_from: clock.mono().after(WAIT) };
        Self { clock, storage, state: Mutex::new(state) }
    }

    /// The time, if things may be deleted by it now.
    pub fn now(&self) -> Option<WallTime> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let ahead = ahead(&*self.clock);
        if ahead.saturating_sub(state.ahead).saturating_abs() > JUMP_MICROS {
            state.believed_from = self.clock.mono().after(WAIT);
        }
        // Slow corrections are followed.
        state.ahead = ahead;
        let is_believed = self.clock.mono() >= state.believed_from && !self.storage.doubts_clock();
        is_believed.then(|| self.clock.wall())
    }
}

fn ahead(clock: &dyn Clock) -> i64 {
    let mono = i64::try_from(clock.mono().0 / 1_000).unwrap_or(i64::MAX);
    clock.wall().0.saturating_sub(mono)
}

#[cfg(test)]
mod tests {
    use meerkat_base::ManualClock;

    use super::*;
    use crate::testing::NOON;

    #[test]
    fn nothing_is_old_by_a_clock_that_jumped() {
        let clock = ManualClock::new(NOON);
        let age = AgeClock::new(Arc::new(clock.clone()), StorageState::default());
        assert_eq!(age.now(), None, "a node that has just started does not know yet");
        clock.advance(WAIT);
        assert_eq!(age.now(), Some(clock.wall()));
        for jump in [10 * 24 * JUMP_MICROS, -5 * JUMP_MICROS] {
            clock.jump_wall(jump);
            assert_eq!(age.now(), None, "{jump}");
            clock.advance(WAIT / 2);
            assert_eq!(age.now(), None, "{jump}");
            clock.advance(WAIT / 2);
            assert_eq!(age.now(), Some(clock.wall()), "nobody doubts it");
        }
        clock.jump_wall(JUMP_MICROS / 2);
        assert!(age.now().is_some(), "a correction");
    }
}
