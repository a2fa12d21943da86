//! Outcomes that are known and not written yet. They outlive the generations of the notifier: what a service has taken is
//! not sent again because the database cannot be written for a while.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use meerkat_store::{Store, StoreError};
use tracing::{debug, info, warn};

use crate::archivist::Archivist;

/// Writes one outcome. May be done twice when nobody knows whether it was done: it must change nothing then.
pub(super) type Write = Arc<dyn Fn(&mut Store) -> Result<(), StoreError> + Send + Sync>;

/// What is to be written for each channel, in its order. Bounded by its use: a lane tries nothing new while an outcome of
/// its channel is open, so that there are two for its messages and two for its clips at most.
#[derive(Default)]
pub(super) struct Books {
    open: Mutex<BTreeMap<String, Open>>,
}

#[derive(Default)]
struct Open {
    last: u64,
    writes: VecDeque<(u64, Write)>,
    /// Whether the log says so.
    said: bool,
}

impl Books {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an outcome, at once and for as long as the process lives.
    pub fn enter(&self, channel: &str, write: Write) {
        let mut books = self.lock();
        let open = books.entry(channel.to_owned()).or_default();
        open.last += 1;
        open.writes.push_back((open.last, write));
    }

    /// Channels with outcomes that are not written.
    pub fn channels(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// Writes what is open for a channel. False when some of it could not be written yet.
    pub async fn settle(&self, channel: &str, archivist: &Archivist) -> bool {
        loop {
            let Some((number, write)) =
                self.lock().get(channel).and_then(|open| open.writes.front().cloned())
            else {
                return true;
            };
            match archivist.ask(move |store| write(store)).await {
                Ok(()) => self.written(channel, number),
                Err(problem) => {
                    debug!(channel, %problem, "an outcome could not be written yet");
                    self.say(channel, &problem.to_string());
                    return false;
                }
            }
        }
    }

    /// Another lane of the channel may have written the same one.
    fn written(&self, channel: &str, number: u64) {
        let mut books = self.lock();
        let Some(open) = books.get_mut(channel) else { return };
        open.writes.retain(|(own, _)| *own != number);
        if open.writes.is_empty() {
            if open.said {
                info!(channel, "what became of a message is written down; deliveries go on");
            }
            books.remove(channel);
        }
    }

    fn say(&self, channel: &str, problem: &str) {
        let mut books = self.lock();
        let Some(open) = books.get_mut(channel).filter(|open| !open.said) else { return };
        open.said = true;
        warn!(
            channel,
            problem, "what became of a message cannot be written down; nothing else is sent until then"
        );
    }
}
