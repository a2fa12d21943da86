//! The one place that a camera has for a connection: a newcomer asks the one who sits there to leave.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// What others hold of a seat that is taken.
#[derive(Clone)]
pub struct SeatControl {
    number: u64,
    leave: Arc<watch::Sender<bool>>,
    taken: watch::Receiver<()>,
}

/// Held by the connection that sits there.
pub struct Seat {
    control: SeatControl,
    _taken: watch::Sender<()>,
}

impl Seat {
    /// A seat that is taken as long as it lives.
    pub fn take() -> Self {
        let (sender, taken) = watch::channel(());
        let control = SeatControl {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            leave: Arc::new(watch::Sender::new(false)),
            taken,
        };
        Self { control, _taken: sender }
    }

    /// The handle for others.
    pub fn control(&self) -> SeatControl {
        self.control.clone()
    }

    /// Returns when somebody else wants the seat.
    pub async fn wanted(&self) {
        let mut receiver = self.control.leave.subscribe();
        let _ = receiver.wait_for(|&leave| leave).await;
    }
}

impl SeatControl {
    /// Asks the one who sits there to leave after the frame in hand, and returns when that has happened.
    pub async fn vacate(mut self) {
        self.leave.send_replace(true);
        // An error means that the sender, and with it the seat, is gone: exactly what is waited for.
        while self.taken.changed().await.is_ok() {}
    }

    /// Whether somebody still sits there. A session that was lost leaves its seat without saying so.
    pub fn is_taken(&self) -> bool {
        self.taken.has_changed().is_ok()
    }

    /// Whether it is the same seat.
    pub fn is(&self, seat: &Seat) -> bool {
        self.number == seat.control.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn leaving_is_asked_for_and_waited_for() {
        let seat = Seat::take();
        let vacating = tokio::spawn(seat.control().vacate());
        seat.wanted().await;
        assert!(!vacating.is_finished());
        drop(seat);
        vacating.await.unwrap();
    }
}
