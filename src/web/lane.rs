//! Calls that may take long, kept apart: each lane has a few places, a call that hangs holds its place and
//! nobody else's, and whoever asks gets an answer within the deadline.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web::block;
use meerkat_base::metric;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// The call was not answered in time, or it panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LaneError {
    #[error("the node did not answer in time")]
    Late,
    #[error("the node failed to answer")]
    Panicked,
}

/// One kind of call.
#[derive(Debug, Clone)]
pub(crate) struct Lane {
    name: &'static str,
    places: Arc<Semaphore>,
    deadline: Duration,
}

impl Lane {
    pub(crate) fn new(name: &'static str, places: usize, deadline: Duration) -> Self {
        // Exported as 0 from the start.
        metrics::counter!(metric::LIMIT_HITS, "limit" => "http_late").increment(0);
        Self { name, places: Arc::new(Semaphore::new(places)), deadline }
    }

    /// Runs a call on a thread for blocking work. Past the deadline the caller is told so, while the call keeps
    /// its place until it ends: hanging calls never use more threads than the lane has places.
    pub(crate) async fn ask<T, F>(&self, call: F) -> Result<T, LaneError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let places = Arc::clone(&self.places);
        let answer = timeout(self.deadline, async move {
            let place = places.acquire_owned().await.map_err(|_| LaneError::Late)?;
            block(move || {
                let _place = place;
                call()
            })
            .await
            .map_err(|_| LaneError::Panicked)
        })
        .await
        .unwrap_or(Err(LaneError::Late));
        if let Err(error) = &answer {
            metrics::counter!(metric::LIMIT_HITS, "limit" => "http_late").increment(1);
            tracing::warn!(lane = self.name, %error, "the HTTP side waits for the node");
        }
        answer
    }
}
