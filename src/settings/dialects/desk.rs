//! The dialect `desk`: chat, files, faces, objects and data analysis on four ports, one per client number.

use std::net::SocketAddr;

use super::super::reader::Reader;
use super::super::rule::{self, Rule};
use super::DoorSettings;

/// Client numbers there are, and so ports.
const CLIENTS: usize = 4;

/// Chat, files, faces, objects and analysis.
#[derive(Debug, Clone, PartialEq)]
pub struct DeskSettings {
    /// Its door; `listen` has one address per client number, in their order.
    pub door: DoorSettings,
}

impl DeskSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let listen = reader.read("dialects.desk.listen", four_or_none());
        let door = DoorSettings::read(reader, "dialects.desk", listen);
        Some(Self { door: door? })
    }
}

fn four_or_none() -> Rule<Vec<SocketAddr>> {
    let several = rule::several(CLIENTS, rule::listen());
    Rule::new("a list of four addresses and ports, one per client number, or an empty list", move |value| {
        several.parse(value).filter(|addresses| matches!(addresses.len(), 0 | CLIENTS))
    })
}
