//! A budget of bytes that many share: frames in flight, all rings together. Never blocks, never goes negative.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A fixed number of bytes that can be taken and given back. Clones share the same budget.
#[derive(Debug, Clone)]
pub struct Budget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { shared: Arc::new(Shared { limit, used: AtomicUsize::new(0) }) }
    }

    /// Takes bytes, or nothing when they do not all fit.
    pub fn try_take(&self, bytes: usize) -> Option<Permit> {
        let taken = self.shared.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
            used.checked_add(bytes).filter(|&sum| sum <= self.shared.limit)
        });
        taken.ok().map(|_| Permit { shared: Arc::clone(&self.shared), bytes })
    }

    /// Takes bytes even when that goes over the limit; the holder is about to free others. Saturates.
    pub fn take_over(&self, bytes: usize) -> Permit {
        let _ = self
            .shared
            .used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| Some(used.saturating_add(bytes)));
        Permit { shared: Arc::clone(&self.shared), bytes }
    }

    /// Bytes taken at this moment.
    pub fn used(&self) -> usize {
        self.shared.used.load(Ordering::Acquire)
    }

    /// Bytes there are in all.
    pub fn limit(&self) -> usize {
        self.shared.limit
    }

    /// Whether more is taken than there is (after [`Budget::take_over`]).
    pub fn is_over(&self) -> bool {
        self.used() > self.shared.limit
    }
}

/// Bytes taken from a [`Budget`]; dropping it gives them back.
#[derive(Debug)]
pub struct Permit {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Permit {
    /// How many bytes it stands for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes more bytes into this permit; false, and no change, when they do not fit.
    pub fn try_grow(&mut self, more: usize) -> bool {
        let grown = self.shared.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
            used.checked_add(more).filter(|&sum| sum <= self.shared.limit)
        });
        if grown.is_ok() {
            self.bytes += more;
        }
        grown.is_ok()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.used.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_give_back_when_dropped() {
        let budget = Budget::new(100);
        let mut first = budget.try_take(60).unwrap();
        assert!(budget.try_take(41).is_none());
        assert!(first.try_grow(40));
        assert!(!first.try_grow(1));
        assert_eq!(budget.used(), 100);
        drop(first);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn going_over_is_visible() {
        let budget = Budget::new(10);
        let over = budget.take_over(11);
        assert!(budget.is_over());
        drop(over);
        assert!(!budget.is_over());
        assert!(budget.try_take(usize::MAX).is_none());
    }
}
