//! The wall clock as the outbox sees it. Rows wait by it, over restarts too; when it is set while the node runs, or is
//! behind the newest event at a start, what waits is moved along before anything is decided by its age. One that is ahead
//! at a start looks like a node that was off for as long.

use std::time::Duration;

use meerkat_base::{Clock, WallTime};
use meerkat_store::{EventQuery, Store, StoreError};
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
        let step = match *ahead {
            Some(before) => here.saturating_sub(before),
            None => match archivist.ask(move |store| behind(store, now)).await {
                Ok(step) => step,
                Err(problem) => {
                    debug!(%problem, "it is not known yet whether the clock was set since the last run");
                    return None;
                }
            },
        };
        if u128::from(step.unsigned_abs()) >= STEP.as_micros() {
            match archivist.ask(move |store| store.clock_was_set(now, step)).await {
                Ok(rows) => {
                    info!(step_secs = step / 1_000_000, rows, "the clock was set; what waits is moved along")
                }
                Err(problem) => {
                    debug!(%problem, "the clock was set, and what waits cannot be moved along yet");
                    return None;
                }
            }
        }
        *ahead = Some(here);
        Some(now)
    }
}

/// How far the clock is behind the newest event, as a step back; microseconds. What waits cannot be asked: some of it is
/// held until later, and dated so.
fn behind(store: &Store, now: WallTime) -> Result<i64, StoreError> {
    let query = EventQuery { limit: 1, ..EventQuery::default() };
    let newest = store.recent_events(&query)?.first().map(|event| event.ended.unwrap_or(event.started).0);
    Ok(newest.map_or(0, |newest| now.0.saturating_sub(newest).min(0)))
}
