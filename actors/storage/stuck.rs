//! What could not be removed: a file that the disk cannot read, or that somebody made immutable. It is passed over, and
//! tried again after a while; nothing else waits for it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use meerkat_store::StoreError;
use tracing::warn;

/// It is not tried again before that.
const REST: Duration = Duration::from_secs(600);
/// Then it is forgotten, unless it was tried again in vain: somebody may have removed it by hand.
const FORGET: Duration = Duration::from_secs(1_800);
/// More are not remembered; they are tried each time.
const MAX: usize = 4_096;

/// What is stuck, by path.
#[derive(Default)]
pub(super) struct Stuck {
    found: BTreeMap<String, (Instant, String)>,
    told: bool,
}

impl Stuck {
    /// Whether it failed a moment ago.
    pub fn rests(&self, path: &str, now: Instant) -> bool {
        self.found.get(path).is_some_and(|(at, _)| now.saturating_duration_since(*at) < REST)
    }

    /// It could not be removed.
    pub fn failed(&mut self, path: &str, error: &StoreError, now: Instant) {
        let words = error.to_string();
        if let Some(known) = self.found.get_mut(path) {
            *known = (now, words);
        } else if self.found.len() < MAX {
            warn!(path, %error, "it cannot be deleted and is passed over");
            self.found.insert(path.to_owned(), (now, words));
        }
    }

    /// It is gone.
    pub fn gone(&mut self, path: &str) {
        self.found.remove(path);
    }

    /// Everything may be tried again: it is another disk.
    pub fn clear(&mut self) {
        self.found.clear();
    }

    /// What people have to be told, when that has changed: whether anything is stuck, and what.
    pub fn news(&mut self, now: Instant) -> Option<(bool, String)> {
        self.found.retain(|_, (at, _)| now.saturating_duration_since(*at) < FORGET);
        let is_stuck = !self.found.is_empty();
        if std::mem::replace(&mut self.told, is_stuck) == is_stuck {
            return None;
        }
        let words = match self.found.values().next() {
            Some((_, words)) => format!("evidence whose time is over cannot be deleted: {words}"),
            None => "nothing keeps evidence from being deleted any more".to_owned(),
        };
        Some((is_stuck, words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stuck_is_told_once_tried_again_later_and_forgotten_at_last() {
        let (mut stuck, now) = (Stuck::default(), Instant::now());
        let error = StoreError::Refused("a.mp4: operation not permitted".to_owned());
        assert_eq!(stuck.news(now), None);
        stuck.failed("a.mp4", &error, now);
        assert!(stuck.rests("a.mp4", now) && !stuck.rests("b.mp4", now) && !stuck.rests("a.mp4", now + REST));
        assert!(stuck.news(now).is_some_and(|(holds, words)| holds && words.contains("a.mp4: operation")));
        stuck.failed("b.mp4", &error, now + REST);
        assert_eq!(stuck.news(now + REST), None, "people know");
        stuck.gone("a.mp4");
        assert_eq!(stuck.news(now + FORGET), None, "the other one still is");
        assert!(stuck.news(now + REST + FORGET).is_some_and(|(holds, _)| !holds));
        for n in 0..=MAX {
            stuck.failed(&n.to_string(), &error, now);
        }
        assert_eq!(stuck.found.len(), MAX);
        stuck.clear();
        assert!(!stuck.rests("0", now));
    }
}
