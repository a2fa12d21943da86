//! The dialect `watch`: live pictures by UDP to viewers that join by TCP.

use super::super::reader::Reader;
use super::DoorSettings;

/// Live pictures by UDP.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchDialectSettings {
    /// Its door.
    pub door: DoorSettings,
}

impl WatchDialectSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let door = DoorSettings::read_one(reader, "dialects.watch");
        Some(Self { door: door? })
    }
}
