//! The running node as the chat may ask it: cameras from the register, events from the database, what is down from the
//! board.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::tz::TimeZone;
use meerkat_base::{Clock, WallTime};
use meerkat_store::{EventQuery, StoreReader};

use super::chat::{CameraFact, EventFact, Facts, MOST_EVENTS};
use crate::camera::Cameras;
use crate::supervision::Board;

/// The node.
pub struct NodeFacts {
    /// The register of cameras.
    pub cameras: Cameras,
    /// Every actor.
    pub board: Board,
    /// Where the database is.
    pub data_dir: PathBuf,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// The time zone of the place.
    pub zone: TimeZone,
}

impl Facts for NodeFacts {
    fn now(&self) -> WallTime {
        self.clock.wall()
    }

    fn zone(&self) -> TimeZone {
        self.zone.clone()
    }

    fn cameras(&self) -> Vec<CameraFact> {
        let fact = |report: crate::camera::CameraReport| CameraFact {
            name: report.name.unwrap_or_else(|| report.id.to_string()),
            is_up: report.up,
            is_recording: report.recording,
        };
        self.cameras.reports().into_iter().map(fact).collect()
    }

    fn problems(&self) -> Vec<String> {
        let down = self.board.down().into_iter().map(|kind| format!("actor {kind} waits for its restart"));
        let abandoned = self.board.abandoned_threads();
        let hanging = (abandoned > 0).then(|| format!("{abandoned} threads hang and were given up"));
        down.chain(hanging).collect()
    }

    fn events_since(&self, since: WallTime) -> Result<Vec<EventFact>, String> {
        let query = EventQuery { limit: MOST_EVENTS, since: Some(since), ..EventQuery::default() };
        let rows = StoreReader::open(&self.data_dir).and_then(|reader| reader.recent_events(&query));
        let rows = rows.map_err(|error| {
            tracing::warn!(%error, "the chat cannot tell of events");
            "the database cannot be read".to_owned()
        })?;
        Ok(rows.into_iter().map(|row| EventFact { kind: row.kind, started: row.started }).collect())
    }
}
