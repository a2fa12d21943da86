//! A place for exactly one waiting item: the newest wins. Where frames wait for whoever looks at them.

use std::sync::Mutex;
use std::sync::PoisonError;

use tokio::sync::Notify;

/// Holds at most one item. Putting replaces; taking empties; waiting for emptiness is possible.
#[derive(Debug)]
pub struct Slot<T> {
    item: Mutex<Option<T>>,
    emptied: Notify,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { item: Mutex::new(None), emptied: Notify::new() }
    }
}

impl<T> Slot<T> {
    /// An empty slot.
    pub fn new() -> Self {
        Self::default()
    }

    // A panic cannot happen while the lock is held (no caller code runs under it), so poison means nothing.
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<T>> {
        self.item.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the newest item in and returns the one that it replaced, which nobody has looked at.
    pub fn put(&self, item: T) -> Option<T> {
        self.lock().replace(item)
    }

    /// Takes what waits.
    pub fn take(&self) -> Option<T> {
        let taken = self.lock().take();
        if taken.is_some() {
            self.emptied.notify_waiters();
        }
        taken
    }

    /// Whether something waits.
    pub fn is_full(&self) -> bool {
        self.lock().is_some()
    }

    /// Returns as soon as nothing waits here.
    pub async fn emptied(&self) {
        loop {
            let notified = self.emptied.notified();
            tokio::pin!(notified);
            // Register before looking, or a take between the two would be missed.
            notified.as_mut().enable();
            if !self.is_full() {
                return;
            }
            notified.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn newest_wins() {
        let slot = Slot::new();
        assert_eq!(slot.put(1), None);
        assert_eq!(slot.put(2), Some(1));
        assert_eq!(slot.take(), Some(2));
        assert_eq!(slot.take(), None);
    }

    #[tokio::test]
    async fn waiting_ends_when_somebody_takes() {
        let slot = Arc::new(Slot::new());
        slot.emptied().await;
        slot.put(1);
        let waiter = tokio::spawn({
            let slot = Arc::clone(&slot);
            async move { slot.emptied().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        slot.take();
        waiter.await.unwrap();
    }
}
