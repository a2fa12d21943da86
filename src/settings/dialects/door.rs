//! What the doors of all these dialects have in common. Knows no dialect.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use super::super::reader::Reader;
use super::super::rule::{self, count, network, secs};

/// The door of one dialect.
#[derive(Debug, Clone, PartialEq)]
pub struct DoorSettings {
    /// Where it listens; never empty.
    pub listen: Vec<SocketAddr>,
    /// Networks that may connect; empty for loopback alone.
    pub allow: Vec<IpNet>,
    /// Open connections in all.
    pub max_connections: usize,
    /// Open connections per address (IPv6: per /64).
    pub max_connections_per_address: usize,
    /// Longest time without progress in the middle of a message, and for a client to take an answer.
    pub stall_timeout: Duration,
    /// Longest silence between messages.
    pub idle_timeout: Duration,
}

impl DoorSettings {
    /// Whether a peer may connect: with a list that list decides alone, without one only loopback may.
    pub fn admits(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        if self.allow.is_empty() {
            return peer.is_loopback();
        }
        self.allow.iter().any(|network| network.contains(&peer))
    }

    /// Reads what all doors have, for the dialect of `section` (such as `dialects.watch`) that listens there.
    /// `None` where it listens nowhere: it is off. Every key is looked at all the same.
    pub(super) fn read(reader: &mut Reader, section: &str, listen: Vec<SocketAddr>) -> Option<Self> {
        let key = |name: &str| format!("{section}.{name}");
        let door = Self {
            listen,
            allow: reader.read(&key("allow"), rule::list(256, network())),
            max_connections: reader.read(&key("max_connections"), count(1..=65_536)),
            max_connections_per_address: reader.read(&key("max_connections_per_address"), count(1..=65_536)),
            stall_timeout: reader.read(&key("stall_timeout_secs"), secs(0.1..=600.0)),
            idle_timeout: reader.read(&key("idle_timeout_secs"), secs(0.1..=86_400.0)),
        };
        (!door.listen.is_empty()).then_some(door)
    }

    /// As [`DoorSettings::read`], of a dialect that listens on one address.
    pub(super) fn read_one(reader: &mut Reader, section: &str) -> Option<Self> {
        let listen = reader.read(&format!("{section}.listen"), rule::optional(rule::listen()));
        Self::read(reader, section, listen.into_iter().collect())
    }
}
