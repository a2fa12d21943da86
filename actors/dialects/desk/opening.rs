//! Puts the desk together for a node: its shelf in the data folder, its eyes on the crew, and whoever looks after it.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use meerkat_base::FaceRecogniser;
use meerkat_settings::{DeskSettings, time_zone};
use meerkat_store::{BootId, Durability, RelayShelf};

use super::{Desk, DeskError, DeskParts, DeskTools, Eyes, NodeFacts, Sight, Viewer, relay_limits};
use crate::detectors::Make;
use crate::dialects::DialectTools;
use crate::supervision::{ActorKind, Component, Crew};

/// What the desk needs of the node beside what every dialect gets.
pub struct DeskHouse {
    /// What the composition root brings.
    pub parts: DeskParts,
    /// The data folder.
    pub data_dir: PathBuf,
    /// This run of the node.
    pub boot: BootId,
    /// What a file that was stored survives.
    pub durability: Durability,
    /// The crew of detectors.
    pub detect: Crew,
    /// Longest look at a picture.
    pub deadline: Duration,
    /// Finds faces.
    pub faces: Make<dyn FaceRecogniser>,
    /// Least certainty of a face, 0..=1.
    pub min_score: f32,
}

/// Opens the desk behind these listeners, and has it looked after. Must be called where an actix `System` is current.
///
/// # Errors
/// When its folder, its rules or its account cannot be used.
pub fn open(
    tools: &DialectTools,
    house: &DeskHouse,
    settings: &DeskSettings,
    listeners: &[TcpListener],
) -> Result<Arc<Desk>, DeskError> {
    let addresses: Result<Vec<SocketAddr>, _> = listeners.iter().map(TcpListener::local_addr).collect();
    let addresses = addresses.map_err(|source| DeskError::Folder { path: "listener".into(), source })?;
    let shelf = RelayShelf::open(&house.data_dir, &house.boot, house.durability, relay_limits(settings))
        .map_err(DeskError::Shelf)?;
    let facts = NodeFacts {
        cameras: tools.cameras.clone(),
        board: tools.board.clone(),
        data_dir: house.data_dir.clone(),
        clock: Arc::clone(&tools.clock),
        zone: time_zone(&settings.chat.time_zone).unwrap_or(jiff::tz::TimeZone::UTC),
    };
    let eyes = Eyes::new();
    let sight = Sight {
        faces: Arc::clone(&house.faces),
        min_score: house.min_score,
        traits: house.parts.traits.clone(),
        objects: house.parts.objects.clone(),
    };
    let own = eyes.clone();
    let station = house.detect.station(ActorKind::Examiner, None, house.deadline, move || {
        Ok(Box::new(Viewer::new(own.clone(), sight.clone())) as Box<dyn Component>)
    });
    eyes.opened(station);
    let desk = Arc::new(Desk::new(DeskTools {
        settings: settings.clone(),
        addresses,
        clock: Arc::clone(&tools.clock),
        data_dir: house.data_dir.clone(),
        shelf,
        facts: Arc::new(facts),
        eyes,
        analyst: Arc::clone(&house.parts.analyst),
        http: house.parts.http.clone(),
    })?);
    actix::spawn(Arc::clone(&desk).look_after(tools.cameras.clone(), tools.shutdown.clone()));
    Ok(desk)
}
