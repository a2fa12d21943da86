//! The steps in which one message is sent, over several attempts.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::channel::{Failure, Outcome};

/// Time for all steps of an alert. Less than the notifier allows: if it cut the attempt off, nobody would know which steps
/// have been taken, and people would read the words again.
const ALERT_LIMIT: Duration = Duration::from_secs(50);
/// The same for a clip, which is large.
const CLIP_LIMIT: Duration = Duration::from_secs(280);

/// Walks the steps of a message: those that earlier attempts have completed are passed over.
pub(crate) struct Steps {
    done: u8,
    at: u8,
    until: Instant,
}

impl Steps {
    /// The steps of an alert, digest or test, of which so many are done.
    pub(crate) fn of_message(done: u8) -> Self {
        Self { done, at: 0, until: Instant::now() + ALERT_LIMIT }
    }

    /// The steps of a clip, of which so many are done.
    pub(crate) fn of_clip(done: u8) -> Self {
        Self { done, at: 0, until: Instant::now() + CLIP_LIMIT }
    }

    /// Takes the next step, unless it has been taken.
    pub(crate) async fn take(
        &mut self,
        step: impl Future<Output = Result<(), Failure>>,
    ) -> Result<(), Failure> {
        self.at = self.at.saturating_add(1);
        if self.at > self.done {
            let taken = timeout_at(self.until, step).await;
            taken.map_err(|_| Failure::retry("took too long; it may have arrived"))??;
            self.done = self.at;
        }
        Ok(())
    }

    /// What came of the message.
    pub(crate) fn outcome(self, result: Result<(), Failure>) -> Outcome {
        match result {
            Ok(()) => Outcome::Delivered,
            Err(failure) => failure.into_outcome(self.done),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn steps_that_were_taken_are_not_taken_again() {
        for (done, expected) in [(0, vec![1, 2]), (1, vec![2]), (2, vec![]), (200, vec![])] {
            let taken = Mutex::new(Vec::new());
            let mut steps = Steps::of_message(done);
            for number in [1, 2] {
                let step = async {
                    taken.lock().unwrap().push(number);
                    Ok(())
                };
                steps.take(step).await.unwrap();
            }
            assert_eq!(*taken.lock().unwrap(), expected, "{done}");
        }
        let mut steps = Steps::of_message(0);
        steps.take(async { Ok(()) }).await.unwrap();
        let failed = steps.take(async { Err(Failure::retry("no")) }).await;
        assert_eq!(steps.outcome(failed), Outcome::Retry { after: None, reason: "no".into(), sent: 1 });
    }

    #[tokio::test]
    async fn a_step_that_hangs_leaves_the_ones_before_it_done() {
        let mut steps = Steps { done: 0, at: 0, until: Instant::now() + Duration::from_millis(50) };
        steps.take(async { Ok(()) }).await.unwrap();
        let hung = steps.take(std::future::pending()).await;
        let reason = "took too long; it may have arrived".to_owned();
        assert_eq!(steps.outcome(hung), Outcome::Retry { after: None, reason, sent: 1 });
    }
}
