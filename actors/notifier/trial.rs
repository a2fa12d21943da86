//! Test messages: asked for by people, sent by the notifier, so that what comes of one holds for alerts.

use std::sync::Arc;
use std::time::Duration;

use meerkat_base::Clock;
use meerkat_notify::alert::TestMessage;
use meerkat_notify::{Channel, Outcome};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use uuid::Uuid;

/// Test messages that may wait.
const CAPACITY: usize = 4;
/// No test takes longer.
const LIMIT: Duration = Duration::from_secs(60);
/// A test that would have to wait longer for the channel's rate limit is not sent.
const LONGEST_HOLD: Duration = Duration::from_secs(20);

/// What came of a test message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrialResult {
    /// Whether the service has taken it.
    pub delivered: bool,
    /// Whether trying again cannot help.
    pub refused: bool,
    /// What the service, or the way to it, said.
    pub reason: Option<String>,
    /// What to do about it.
    pub advice: Option<String>,
}

/// An order for a test message. Dropping the receiver takes it back.
pub(super) struct Order {
    pub channel: String,
    pub answer: oneshot::Sender<Option<TrialResult>>,
}

/// Where orders wait; one receiver at a time takes them, whichever generation of the notifier it belongs to.
pub(super) struct Orders {
    sender: mpsc::Sender<Order>,
    receiver: Arc<tokio::sync::Mutex<mpsc::Receiver<Order>>>,
}

impl Orders {
    pub fn new() -> Self {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        Self { sender, receiver: Arc::new(tokio::sync::Mutex::new(receiver)) }
    }

    /// Leaves an order. None when too many wait.
    pub fn leave(&self, channel: &str) -> Option<oneshot::Receiver<Option<TrialResult>>> {
        let (answer, receiver) = oneshot::channel();
        self.sender.try_send(Order { channel: channel.to_owned(), answer }).ok()?;
        Some(receiver)
    }

    /// Carries orders out for as long as it is polled.
    pub async fn serve(&self, channels: &[Arc<dyn Channel>], clock: &dyn Clock) {
        let mut receiver = self.receiver.lock().await;
        while let Some(order) = receiver.recv().await {
            if order.answer.is_closed() {
                continue;
            }
            let result = match channels.iter().find(|channel| channel.name() == order.channel) {
                Some(channel) => Some(try_out(channel.as_ref(), clock).await),
                None => None,
            };
            let _ = order.answer.send(result);
        }
    }
}

fn held(wait: Duration) -> String {
    format!("the rate limit of the channel allows the next message in {} s", wait.as_secs_f32().ceil())
}

/// Sends a test message and says what came of it. Keeps to the channel's rate limit.
pub async fn try_out(channel: &dyn Channel, clock: &dyn Clock) -> TrialResult {
    let hold = channel.ready_in();
    if hold > LONGEST_HOLD {
        return TrialResult { delivered: false, refused: false, reason: Some(held(hold)), advice: None };
    }
    tokio::time::sleep(hold).await;
    let test = TestMessage { id: Uuid::new_v4(), time: clock.wall() };
    let outcome = match timeout(LIMIT, channel.deliver_test(&test)).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::Retry { after: None, reason: "took too long".to_owned(), sent: 0 },
    };
    let (delivered, refused, reason) = match outcome {
        Outcome::Delivered => (true, false, None),
        Outcome::Refused { reason, .. } => (false, true, Some(reason)),
        Outcome::Retry { reason, .. } | Outcome::PutOff { reason, .. } => (false, false, Some(reason)),
        Outcome::Held { wait, .. } => (false, false, Some(held(wait))),
    };
    let advice = reason.as_deref().and_then(|reason| channel.explain(reason)).map(str::to_owned);
    TrialResult { delivered, refused, reason, advice }
}
