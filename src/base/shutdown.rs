//! One signal that tells everybody to finish and go.

use std::sync::Arc;

use tokio::sync::watch;

/// Can be triggered once and awaited by many. Clones share the signal.
#[derive(Debug, Clone)]
pub struct Shutdown {
    sender: Arc<watch::Sender<bool>>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { sender: Arc::new(watch::Sender::new(false)) }
    }
}

impl Shutdown {
    /// A signal that has not been given.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the signal; giving it again changes nothing.
    pub fn trigger(&self) {
        self.sender.send_replace(true);
    }

    /// Whether the signal has been given.
    pub fn is_triggered(&self) -> bool {
        *self.sender.borrow()
    }

    /// Returns when the signal is given, at once if it already was.
    pub async fn wait(&self) {
        let mut receiver = self.sender.subscribe();
        // The sender lives in `self`, so the channel cannot close while we wait.
        let _ = receiver.wait_for(|&given| given).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_hears_it() {
        let signal = Shutdown::new();
        let waiter = tokio::spawn({
            let signal = signal.clone();
            async move { signal.wait().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        signal.trigger();
        waiter.await.unwrap();
        signal.wait().await;
        assert!(signal.is_triggered());
    }
}
