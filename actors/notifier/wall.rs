//! The wall clock as the outbox sees it. Rows wait by it, over restarts too; when it is set while the node runs, what
//! waits is moved along before anything is decided by its age. At a start nobody knows by how much it was set: what waits
//! since later than now waits since now. One that is ahead at a start looks like a node that was off for as long.

use std::time::Duration;

use meerkat_base::{Clock, WallTime};
use tokio::sync::Mutex;
use tracing::{debug, info};

use crate::archivist::Archivist;
use crate::storage::Clocks;

/// Smaller steps are followed: nobody's age depends on them.
const STEP: Duration = Duration::from_secs(10);

/// Compares the wall clock with the monotonic one whenever somebody asks for the time.
#[derive(Default)]
pub(super) struct Wall {
    /// How far the one was ahead of the other, microseconds. Held while rows are moved: nobody decides meanwhile.
    ahead: Mutex<Option<i64>>,
}

impl Wall {
    /// The present, by which rows may be judged. None while it was set and the rows could not be moved along yet.
    pub async fn now(&self, clock: &dyn Clock, archivist: &Archivist) -> Option<WallTime> {
        let mut ahead = self.ahead.lock().await;
        let clocks = Clocks { wall: clock.wall(), mono: clock.mono() };
        let (now, here) = (clocks.wall, clocks.ahead());
        let step = (*ahead).map(|before| here.saturating_sub(before));
        if step.is_none_or(|step| u128::from(step.unsigned_abs()) >= STEP.as_micros()) {
            let moved = archivist.ask(move |store| match step {
                Some(step) => store.clock_was_set(now, step),
                None => store.clock_is_new(now),
            });
            match moved.await {
                Ok(0) if step.is_none() => {}
                Ok(rows) => {
                    let step_secs = step.map(|step| step / 1_000_000);
                    info!(step_secs, rows, "the clock was set; what waits is moved along")
                }
                Err(problem) => {
                    debug!(%problem, "the clock may have been set, and what waits cannot be moved along yet");
                    return None;
                }
            }
        }
        *ahead = Some(here);
        Some(now)
    }
}
