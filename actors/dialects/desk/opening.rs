//! Puts the desk together for a node: its shelf in the data folder, its eyes on the crew, and whoever looks after it.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use meerkat_base::Budget;
use meerkat_settings::{DeskSettings, time_zone};
use meerkat_store::{BootId, Durability, RelayShelf};

use super::{Desk, DeskError, DeskParts, DeskTools, Eyes, NodeFacts, Sight, relay_limits};
use crate::dialects::DialectTools;
use crate::storage::{Room, StorageState};

/// What the desk needs of the node beside what every dialect gets.
pub struct DeskHouse {
    /// What the composition root brings.
    pub parts: DeskParts,
    /// Whether the disk has room, with the data folder.
    pub room: Arc<Room>,
    /// What is known of the disk and of the wall clock.
    pub storage: StorageState,
    /// This run of the node.
    pub boot: BootId,
    /// What a file that was stored survives.
    pub durability: Durability,
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
    in_flight: &Budget,
) -> Result<Arc<Desk>, DeskError> {
    let addresses: Result<Vec<SocketAddr>, _> = listeners.iter().map(TcpListener::local_addr).collect();
    let addresses = addresses.map_err(|source| DeskError::Folder { path: "listener".into(), source })?;
    let shelf =
        RelayShelf::open(house.room.data_dir(), &house.boot, house.durability, relay_limits(settings))
            .map_err(DeskError::Shelf)?;
    let facts = NodeFacts {
        cameras: tools.cameras.clone(),
        board: tools.board.clone(),
        data_dir: house.room.data_dir().to_owned(),
        clock: Arc::clone(&tools.clock),
        zone: time_zone(&settings.chat.time_zone).unwrap_or(jiff::tz::TimeZone::UTC),
    };
    let node = tools.cameras.settings();
    let dialects = &node.dialects;
    let eyes = Eyes::new(dialects.examine_waiting, dialects.examine_timeout);
    let sight = Sight {
        cameras: tools.cameras.clone(),
        faces: Arc::clone(&tools.faces.make),
        traits: house.parts.traits.clone(),
        objects: house.parts.objects.clone(),
    };
    eyes.open(&tools.detect, node.supervision.detector_deadline, sight);
    let desk = Arc::new(Desk::new(DeskTools {
        settings: settings.clone(),
        addresses,
        clock: Arc::clone(&tools.clock),
        room: Arc::clone(&house.room),
        storage: house.storage.clone(),
        in_flight: in_flight.clone(),
        examine_timeout: dialects.examine_timeout,
        min_bytes_per_second: dialects.min_bytes_per_second,
        shelf,
        facts: Arc::new(facts),
        eyes,
        analyst: Arc::clone(&house.parts.analyst),
        http: house.parts.http.clone(),
    })?);
    actix::spawn(Arc::clone(&desk).look_after(tools.cameras.clone(), tools.shutdown.clone()));
    Ok(desk)
}
