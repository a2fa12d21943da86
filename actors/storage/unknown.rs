//! Unknown faces whose time is over, and what does not fit together in their folder, go with every sweep.

use std::time::Duration;

use meerkat_base::WallTime;
use meerkat_store::StoreError;
use tracing::{info, warn};

use super::hands::Hands;
use crate::faces::strangers;

/// Faces that go in one piece of the archivist's work.
const AT_ONCE: usize = 100;
/// Pieces of work in one go; the rest goes with the next sweep.
const ROUNDS: usize = 50;

/// Removes faces older than `keep` (`None`: all of them), unless the clock is in doubt.
pub(super) fn tidy(
    hands: &Hands,
    keep: Option<Duration>,
    by_age: bool,
    now: WallTime,
) -> Result<(), StoreError> {
    let before = match keep {
        // Whoever wants none says so without a clock.
        None => Some(WallTime(i64::MAX)),
        Some(keep) if by_age => {
            let micros = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
            Some(now.offset_micros(micros.saturating_neg()))
        }
        Some(_) => None,
    };
    let (mut expired, mut orphans) = (0_u64, 0_u64);
    for _ in 0..ROUNDS {
        let tidied = hands.ask(move |store| {
            let tidied = store.tidy_unknown(before, AT_ONCE)?;
            strangers::publish(store);
            Ok(tidied)
        })?;
        strangers::expired(tidied.expired);
        expired += tidied.expired;
        orphans += tidied.orphans;
        if !tidied.more {
            break;
        }
    }
    if expired > 0 {
        info!(faces = expired, "unknown faces whose time was over were removed");
    }
    if orphans > 0 {
        warn!(orphans, "pictures and rows of unknown faces that did not fit together were removed");
    }
    Ok(())
}
