//! The outbox and the channels for the HTTP side: asks the archivist and the notifier of the running node.

use std::sync::Arc;

use meerkat_actors::archivist::ArchiveError;
use meerkat_actors::node::NodeHandle;
use meerkat_base::Clock;
use meerkat_store::{OutboxQuery, OutboxRow, OutboxState, Requeued};
use meerkat_web as web;
use tracing::info;
use uuid::Uuid;

/// Dead letters put back in one commit.
const BATCH: usize = 1_000;

/// Reads and changes the outbox of a running node.
pub(super) struct Desk {
    node: NodeHandle,
    clock: Arc<dyn Clock>,
}

impl Desk {
    pub fn new(node: NodeHandle, clock: Arc<dyn Clock>) -> Self {
        Self { node, clock }
    }
}

impl web::AlertDesk for Desk {
    fn alerts(&self, query: &web::AlertQuery) -> Result<Vec<web::AlertSummary>, web::AlertError> {
        let query = OutboxQuery {
            state: query.state.map(stored),
            channel: query.channel.clone(),
            camera: query.camera.clone(),
            before: query.before,
            limit: query.limit,
        };
        let rows =
            self.node.archivist().ask_blocking(move |store| store.outbox_list(&query)).map_err(failed)?;
        Ok(rows.into_iter().map(summary).collect())
    }

    fn retry(&self, id: Uuid) -> Result<web::Retried, web::AlertError> {
        let now = self.clock.wall();
        let outcome =
            self.node.archivist().ask_blocking(move |store| store.requeue(id, now)).map_err(failed)?;
        Ok(match outcome {
            Requeued::Yes => {
                info!(alert = %id, "a dead letter was put back");
                self.node.notifier().kick();
                web::Retried::Yes
            }
            Requeued::Is(state) => web::Retried::Is(shown(state)),
            Requeued::Unknown => web::Retried::Unknown,
        })
    }

    fn retry_dead(&self, channel: Option<&str>) -> Result<u64, web::AlertError> {
        let now = self.clock.wall();
        let mut count = 0;
        loop {
            let own = channel.map(str::to_owned);
            let put_back = self
                .node
                .archivist()
                .ask_blocking(move |store| store.requeue_dead(own.as_deref(), now))
                .map_err(failed)?;
            count += put_back as u64;
            if put_back < BATCH {
                break;
            }
        }
        info!(count, "dead letters were put back");
        self.node.notifier().kick();
        Ok(count)
    }

    fn drop_alert(&self, id: Uuid) -> Result<u64, web::AlertError> {
        let gone = self.node.archivist().ask_blocking(move |store| store.drop_alert(id)).map_err(failed)?;
        if gone > 0 {
            info!(alert = %id, "an alert was dropped by hand");
        }
        Ok(gone as u64)
    }

    fn test(&self, channel: &str) -> Result<Option<web::TestResult>, web::AlertError> {
        let tried = self.node.notifier().try_out(channel).map_err(web::AlertError)?;
        Ok(tried.map(|tried| web::TestResult {
            delivered: tried.delivered,
            refused: tried.refused,
            reason: tried.reason,
            advice: tried.advice,
        }))
    }
}

fn failed(error: ArchiveError) -> web::AlertError {
    web::AlertError(error.to_string())
}

fn stored(state: web::AlertState) -> OutboxState {
    match state {
        web::AlertState::Waiting => OutboxState::Waiting,
        web::AlertState::Delivered => OutboxState::Delivered,
        web::AlertState::Dead => OutboxState::Dead,
    }
}

fn shown(state: OutboxState) -> web::AlertState {
    match state {
        OutboxState::Waiting => web::AlertState::Waiting,
        OutboxState::Delivered => web::AlertState::Delivered,
        OutboxState::Dead => web::AlertState::Dead,
    }
}

/// A row as people are shown it: also by the command line, where no node runs.
pub(crate) fn summary(row: OutboxRow) -> web::AlertSummary {
    web::AlertSummary {
        number: row.number,
        id: row.id,
        key: row.key,
        event: row.event,
        channel: row.channel,
        part: row.part,
        camera: row.camera,
        kind: row.kind,
        state: shown(row.state),
        created: row.created,
        attempts: row.attempts,
        next_attempt: (row.state == OutboxState::Waiting).then_some(row.next_attempt_at),
        settled: row.settled,
        digest: row.digest,
        last_error: row.last_error,
    }
}
