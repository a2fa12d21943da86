//! How often the same may be said in the log: peers that knock again and again must not fill the disk with it. What is
//! not said is still counted in the metrics.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many lines ...
const LINES: u32 = 10;
/// ... in so much time.
const PERIOD: Duration = Duration::from_secs(10);

/// The lines left for one kind of message.
#[derive(Debug, Default)]
pub struct LogRation {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the period began, with its first line.
    began: Option<Instant>,
    said: u32,
    unsaid: u64,
}

impl LogRation {
    /// Whether to write a line now, and how many were left out since the last one.
    pub(crate) fn line(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.began.is_none_or(|began| now.saturating_duration_since(began) >= PERIOD) {
            state.began = Some(now);
            state.said = 0;
        }
        if state.said >= LINES {
            state.unsaid += 1;
            return None;
        }
        state.said += 1;
        Some(std::mem::take(&mut state.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_leaves_few_lines_and_says_how_many_it_left_out() {
        let ration = LogRation::default();
        let began = Instant::now();
        let after = |millis| began + Duration::from_millis(millis);
        // A thousand knocks a second for 25 seconds.
        let said: Vec<(u64, u64)> =
            (0..25_000).filter_map(|at| Some((at, ration.line(after(at))?))).collect();
        assert_eq!(said.len(), 30);
        assert!(said[..10].iter().all(|(_, unsaid)| *unsaid == 0), "{said:?}");
        assert_eq!((said[10], said[11]), ((10_000, 9_990), (10_001, 0)));
        assert_eq!(said[20], (20_000, 9_990));
        assert_eq!(ration.line(after(60_000)), Some(4_990));
    }

    #[test]
    fn what_happens_now_and_then_is_always_said() {
        let ration = LogRation::default();
        let began = Instant::now();
        assert!((0..1_000).all(|n| ration.line(began + Duration::from_millis(1_100 * n)) == Some(0)));
    }
}
