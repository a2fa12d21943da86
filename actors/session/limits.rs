//! How many connections there may be, in all and per address. An IPv6 address counts with its /64.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use meerkat_base::metric;
use meerkat_wire::frame::{Fatal, Refusal};
use metrics::{counter, gauge};

use super::identity::Denied;

/// Every limit that a connection can reach.
const LIMITS: [&str; 8] = [
    "accept",
    "connections",
    "connections_per_address",
    "handshake_timeout",
    "stall_timeout",
    "idle_timeout",
    "in_flight_bytes",
    "refused_in_row",
];

/// Every reason for which a connection is refused or ended, besides those of the parser and of the hello.
const REASONS: [&str; 12] = [
    "address_not_allowed",
    "answer_timeout",
    "handshake_timeout",
    "hello_twice",
    "idle_timeout",
    "in_flight_bytes",
    "left_in_frame",
    "mode_not_allowed",
    "no_camera",
    "refused_in_row",
    "stall_timeout",
    "tls",
];

/// Makes every series of refusals there from the start, as 0.
pub(super) fn announce() {
    for limit in LIMITS {
        counter!(metric::LIMIT_HITS, "limit" => limit).increment(0);
    }
    let parser =
        Refusal::ALL.into_iter().map(Refusal::as_str).chain(Fatal::ALL.into_iter().map(Fatal::as_str));
    for reason in parser.chain(Denied::ALL.into_iter().map(Denied::as_str)).chain(REASONS) {
        counter!(metric::PROTOCOL_ERRORS, "reason" => reason).increment(0);
    }
}

/// Counts connections. Clones share the count.
#[derive(Debug, Clone)]
pub struct Connections {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    max: usize,
    max_per_address: usize,
    dialect: &'static str,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection that was let in; dropping it makes room again.
#[derive(Debug)]
pub struct Admitted {
    shared: Arc<Shared>,
    address: IpAddr,
}

/// The address under which a peer is counted.
pub(crate) fn counted_address(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

impl Connections {
    /// Limits for the connections of one dialect.
    pub fn new(dialect: &'static str, max: usize, max_per_address: usize) -> Self {
        gauge!(metric::SESSIONS, "dialect" => dialect).set(0.0);
        Self { shared: Arc::new(Shared { max, max_per_address, dialect, counts: Mutex::default() }) }
    }

    /// Lets a connection in, or names the limit that it is over.
    pub fn admit(&self, peer: IpAddr) -> Result<Admitted, &'static str> {
        let address = counted_address(peer);
        let mut counts = self.shared.lock();
        let limit = if counts.all >= self.shared.max {
            Some("connections")
        } else if counts.by_address.get(&address).copied().unwrap_or(0) >= self.shared.max_per_address {
            Some("connections_per_address")
        } else {
            None
        };
        if let Some(limit) = limit {
            counter!(metric::LIMIT_HITS, "limit" => limit).increment(1);
            return Err(limit);
        }
        counts.all += 1;
        *counts.by_address.entry(address).or_default() += 1;
        gauge!(metric::SESSIONS, "dialect" => self.shared.dialect).set(counts.all as f64);
        Ok(Admitted { shared: Arc::clone(&self.shared), address })
    }

    /// Connections there are now.
    pub fn count(&self) -> usize {
        self.shared.lock().all
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut counts = self.shared.lock();
        counts.all = counts.all.saturating_sub(1);
        if let Some(count) = counts.by_address.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.by_address.remove(&self.address);
            }
        }
        gauge!(metric::SESSIONS, "dialect" => self.shared.dialect).set(counts.all as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn both_limits_hold_and_leaving_makes_room() {
        let connections = Connections::new("test", 3, 2);
        let a1 = connections.admit(ip("10.0.0.1")).unwrap();
        let _a2 = connections.admit(ip("::ffff:10.0.0.1")).unwrap();
        assert_eq!(connections.admit(ip("10.0.0.1")).unwrap_err(), "connections_per_address");
        let _b = connections.admit(ip("10.0.0.2")).unwrap();
        assert_eq!(connections.admit(ip("10.0.0.3")).unwrap_err(), "connections");
        drop(a1);
        let _a3 = connections.admit(ip("10.0.0.1")).unwrap();
        assert_eq!(connections.count(), 3);
    }

    #[test]
    fn an_ipv6_site_is_one_address() {
        let connections = Connections::new("test", 9, 1);
        let _one = connections.admit(ip("fd00:1:2:3::1")).unwrap();
        assert!(connections.admit(ip("fd00:1:2:3:4::9")).is_err());
        assert!(connections.admit(ip("fd00:1:2:4::1")).is_ok());
    }
}
