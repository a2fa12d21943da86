//! Where notices wait until somebody makes events of them. Bounded; says nothing to anybody by itself.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use meerkat_base::{Notice, NoticeSink};
use tracing::warn;

use crate::events::losses::{Lost, Reason, lose};

/// Notices that may wait. Each is one fact that began or ended, so many at once mean that something says the same again
/// and again.
const CAPACITY: usize = 1024;
/// Longest text of a notice, characters.
const TEXT_CHARS: usize = 400;

/// The queue of notices. There before everything else, so that what is noticed while the node starts is kept. Clones
/// share it.
#[derive(Debug, Clone, Default)]
pub struct Notices {
    waiting: Arc<Mutex<VecDeque<Notice>>>,
}

impl Notices {
    /// Nothing has been noticed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The way in, for whoever notices something.
    pub fn sink(&self) -> Arc<dyn NoticeSink> {
        Arc::new(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Notice>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing waits.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Takes everything that waits, oldest first.
    pub fn take(&self) -> Vec<Notice> {
        self.lock().drain(..).collect()
    }
}

impl NoticeSink for Notices {
    fn raise(&self, mut notice: Notice) {
        debug_assert!(notice.kind.is_notice(), "{} is seen in pictures", notice.kind);
        for text in [&mut notice.subject, &mut notice.detail] {
            // One line: lines are made where several notices become one message.
            *text = text.chars().take(TEXT_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
        }
        let mut waiting = self.lock();
        if waiting.len() < CAPACITY {
            return waiting.push_back(notice);
        }
        drop(waiting);
        lose(Lost::Notice, Reason::LinkFull);
        warn!(kind = %notice.kind, "too many notices wait: one is lost");
    }
}

#[cfg(test)]
mod tests {
    use meerkat_base::{EventKind, metric};

    use super::*;
    use crate::testing::Counters;

    fn notice(subject: &str) -> Notice {
        let detail = "é".repeat(1_000);
        Notice { kind: EventKind::DiskLow, camera: None, subject: subject.to_owned(), holds: true, detail }
    }

    #[test]
    fn notices_wait_in_their_order_and_no_more_than_fit() {
        let notices = Notices::new();
        let sink = notices.sink();
        let counters = Counters::default();
        counters.during(|| {
            for n in 0..CAPACITY + 10 {
                sink.raise(notice(&n.to_string()));
            }
        });
        assert_eq!(counters.get(metric::EVENTS_LOST, &["notice", "link_full"]), 10);
        let taken = notices.take();
        assert_eq!(taken.len(), CAPACITY);
        assert_eq!((taken[0].subject.as_str(), taken[9].subject.as_str()), ("0", "9"));
        assert_eq!(taken[0].detail.chars().count(), TEXT_CHARS);
        assert_eq!(notices.take(), []);
    }
}
