//! A bounded queue in front of a station. Offering never waits; taking never waits.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use meerkat_base::metric;
use metrics::{Counter, Gauge, counter, gauge};

use super::ActorKind;

/// What became of a message that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a message that was not taken must be dealt with"]
pub enum Offer {
    /// It was taken.
    Taken,
    /// The queue is full.
    Full,
    /// Nobody is there to take it.
    Down,
}

/// Messages for one actor, oldest first, at most `capacity`.
pub struct Inbox<T> {
    queue: Mutex<VecDeque<T>>,
    capacity: usize,
    depth: Gauge,
    refused: Counter,
}

impl<T> Inbox<T> {
    /// An empty inbox of an actor of this kind.
    pub fn new(kind: ActorKind, capacity: usize) -> Self {
        Self {
            queue: Mutex::default(),
            capacity,
            depth: gauge!(metric::MAILBOX_DEPTH, "actor" => kind.as_str()),
            refused: counter!(metric::MAILBOX_REFUSED, "actor" => kind.as_str()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message if there is room.
    pub fn offer(&self, message: T) -> Offer {
        let mut queue = self.lock();
        if queue.len() >= self.capacity {
            self.refused.increment(1);
            return Offer::Full;
        }
        queue.push_back(message);
        self.depth.increment(1.0);
        Offer::Taken
    }

    /// Takes the oldest message.
    pub fn take(&self) -> Option<T> {
        let taken = self.lock().pop_front();
        if taken.is_some() {
            self.depth.decrement(1.0);
        }
        taken
    }

    /// Messages waiting.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}

impl<T> Drop for Inbox<T> {
    fn drop(&mut self) {
        self.depth.decrement(self.lock().len() as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_refuses_what_does_not_fit() {
        let inbox = Inbox::new(ActorKind::Recorder, 2);
        assert_eq!(
            (inbox.offer(1), inbox.offer(2), inbox.offer(3)),
            (Offer::Taken, Offer::Taken, Offer::Full)
        );
        assert_eq!((inbox.take(), inbox.len()), (Some(1), 1));
        assert_eq!(inbox.offer(4), Offer::Taken);
        assert_eq!((inbox.take(), inbox.take(), inbox.take()), (Some(2), Some(4), None));
    }
}
