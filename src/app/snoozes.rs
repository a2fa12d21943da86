//! The snoozes for the HTTP side: written by the archivist, and in force at once.

use std::sync::Arc;

use meerkat_actors::archivist::ArchiveError;
use meerkat_actors::node::NodeHandle;
use meerkat_base::Clock;
use meerkat_store::{Snooze, Store, StoreError};
use meerkat_web as web;
use tracing::info;
use uuid::Uuid;

/// Adds and cancels in the database of a running node.
pub(super) struct SnoozeDesk {
    node: NodeHandle,
    clock: Arc<dyn Clock>,
}

impl SnoozeDesk {
    pub fn new(node: NodeHandle, clock: Arc<dyn Clock>) -> Self {
        Self { node, clock }
    }

    /// Has something changed, and puts what there is then in force. Both in one piece of work, so that of two changes
    /// at the same time the later one stands.
    fn change<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, web::SnoozeError> {
        let (rules, now) = (self.node.rules().clone(), self.clock.wall());
        let change = move |store: &mut Store| {
            let result = work(store)?;
            rules.set_snoozes(store.snoozes(now)?);
            Ok(result)
        };
        self.node.archivist().ask_blocking(change).map_err(failed)
    }
}

impl web::SnoozeDesk for SnoozeDesk {
    fn snoozes(&self) -> Result<Vec<web::SnoozeStatus>, web::SnoozeError> {
        Ok(self.node.rules().snoozes().iter().map(status).collect())
    }

    fn add(&self, order: web::NewSnooze) -> Result<web::SnoozeStatus, web::SnoozeError> {
        if let Some(rule) = order.rule.as_deref().filter(|rule| !self.node.rules().has(rule)) {
            return Err(web::SnoozeError::Refused(format!(
                "there is no rule {}",
                meerkat_base::text::shown(rule.as_bytes())
            )));
        }
        let now = self.clock.wall();
        let snooze = snooze(order, now);
        let own = snooze.clone();
        self.change(move |store| store.add_snooze(&own, now))?;
        info!(
            snooze = %snooze.id, camera = snooze.camera.as_ref().map(|camera| camera.as_str()), rule = snooze.rule,
            until = snooze.until.map(|until| until.to_string()), reason = snooze.reason, "messages are kept back"
        );
        Ok(status(&snooze))
    }

    fn cancel(&self, id: &str) -> Result<bool, web::SnoozeError> {
        let Ok(id) = Uuid::parse_str(id) else { return Ok(false) };
        let cancelled = self.change(move |store| store.cancel_snooze(id))?;
        if cancelled {
            info!(snooze = %id, "messages are no longer kept back");
        }
        Ok(cancelled)
    }
}

/// What is kept of an order.
pub(crate) fn snooze(order: web::NewSnooze, now: meerkat_base::WallTime) -> Snooze {
    let until = match order.end {
        web::SnoozeEnd::After(length) => {
            Some(now.offset_micros(i64::try_from(length.as_micros()).unwrap_or(i64::MAX)))
        }
        web::SnoozeEnd::At(until) => Some(until),
        web::SnoozeEnd::Never => None,
    };
    let (camera, rule, reason) = (order.camera, order.rule, order.reason);
    Snooze { id: Uuid::new_v4(), camera, rule, until, reason, created: now }
}

/// What is shown of a snooze.
pub(crate) fn status(snooze: &Snooze) -> web::SnoozeStatus {
    web::SnoozeStatus {
        id: snooze.id.to_string(),
        camera: snooze.camera.clone(),
        rule: snooze.rule.clone(),
        until: snooze.until,
        reason: snooze.reason.clone(),
        created: snooze.created,
    }
}

fn failed(error: ArchiveError) -> web::SnoozeError {
    match error {
        ArchiveError::Store(StoreError::Refused(words)) => web::SnoozeError::Refused(words),
        error => web::SnoozeError::Failed(error.to_string()),
    }
}
