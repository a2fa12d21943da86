//! Which addresses may be reached, checked for literal addresses and again for what a name resolves to.
//! Who may be told something is the owner's business; this only keeps the node from talking to its own host's
//! neighbourhood services (RFC 3927, RFC 4291 section 2.5.6) and to cloud metadata.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::error::OutboundError;

/// Longest wait for the name service.
const RESOLVE_LIMIT: Duration = Duration::from_secs(5);

/// Metadata services that live outside the link-local ranges: Alibaba Cloud, Oracle Cloud, Azure's wire server.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192), Ipv4Addr::new(168, 63, 129, 16)];

/// Metadata services with an IPv6 address of their own: Amazon, Google.
const METADATA_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254),
    Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254),
];

/// Whether an address is link-local or a cloud's metadata service, in whatever way it is wrapped
/// (IPv4-mapped, IPv4-compatible, 6to4, NAT64).
pub fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_link_local_v4(v4),
        IpAddr::V6(v6) => {
            v6.is_unicast_link_local()
                || METADATA_V6.contains(&v6)
                || embedded_v4(v6).is_some_and(is_link_local_v4)
        }
    }
}

/// The addresses that a host may be reached at, for protocols other than HTTP.
pub async fn resolve(
    host: &str,
    port: u16,
    allow_link_local: bool,
) -> Result<Vec<SocketAddr>, OutboundError> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let failed = |reason: String| OutboundError::Connect { host: host.to_owned(), reason };
    let found = tokio::time::timeout(RESOLVE_LIMIT, tokio::net::lookup_host((bare, port))).await;
    let found: Vec<SocketAddr> = found
        .map_err(|_| failed("the name service does not answer".to_owned()))?
        .map_err(|error| failed(error.to_string()))?
        .collect();
    if found.is_empty() {
        return Err(failed("the name has no address".to_owned()));
    }
    let allowed: Vec<SocketAddr> =
        found.into_iter().filter(|address| allow_link_local || !is_link_local(address.ip())).collect();
    if allowed.is_empty() {
        Err(OutboundError::AddressRefused { host: host.to_owned() })
    } else {
        Ok(allowed)
    }
}

/// Whether a host is written as such an address. Names are judged by what they resolve to.
pub(crate) fn is_refused_literal(host: &str) -> bool {
    let literal = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    literal.parse().is_ok_and(is_link_local)
}

fn is_link_local_v4(address: Ipv4Addr) -> bool {
    address.is_link_local() || METADATA_V4.contains(&address)
}

/// The IPv4 address that an IPv6 address stands for, if it stands for one.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let join = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match (a, b, c, d, e, f) {
        // IPv4-mapped and the older IPv4-compatible form (RFC 4291 section 2.5.5)
        (0, 0, 0, 0, 0, 0 | 0xffff) => Some(join(g, h)),
        // NAT64 (RFC 6052)
        (0x0064, 0xff9b, 0, 0, 0, 0) => Some(join(g, h)),
        // 6to4 (RFC 3056)
        (0x2002, high, low, ..) => Some(join(high, low)),
        _ => None,
    }
}

/// A name has only addresses that may not be reached. Travels through the HTTP library as an error's source.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the name resolves to a link-local address")]
pub(crate) struct RefusedByRule;

/// Resolves names and takes out the addresses that may not be reached. A name of the local network often has a
/// usable address beside its `fe80::` one, so a name is refused only when nothing is left.
pub(crate) struct GuardedResolver {
    inner: Arc<dyn Resolve>,
    allow_link_local: bool,
}

impl GuardedResolver {
    pub(crate) fn new(inner: Arc<dyn Resolve>, allow_link_local: bool) -> Self {
        Self { inner, allow_link_local }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let found = self.inner.resolve(name);
        let allow = self.allow_link_local;
        Box::pin(async move {
            let found: Vec<SocketAddr> = found.await?.collect();
            let had_some = !found.is_empty();
            let kept: Vec<SocketAddr> =
                found.into_iter().filter(|a| allow || !is_link_local(a.ip())).collect();
            if had_some && kept.is_empty() {
                return Err(RefusedByRule.into());
            }
            Ok(Box::new(kept.into_iter()) as Addrs)
        })
    }
}

/// Asks the system (getaddrinfo on tokio's blocking threads).
pub(crate) struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let found: Vec<SocketAddr> = found.collect();
            if found.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address").into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_link_local_is_known() {
        for text in [
            "169.254.0.1",
            "169.254.169.254",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "::ffff:169.254.169.254",
            "::169.254.1.1",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
        ] {
            assert!(is_link_local(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn others_are_left_alone() {
        for text in [
            "127.0.0.1",
            "192.168.1.2",
            "169.253.255.255",
            "169.255.0.0",
            "10.0.0.1",
            "8.8.8.8",
            "::1",
            "fec0::1",
        ] {
            assert!(!is_link_local(text.parse().unwrap()), "{text}");
        }
        assert!(!is_link_local("::ffff:10.0.0.1".parse().unwrap()));
        assert!(!is_link_local("2002:0a00:0001::1".parse().unwrap()));
    }

    #[tokio::test]
    async fn hosts_of_other_protocols_obey_the_same_rule() {
        let loopback = resolve("127.0.0.1", 25, false).await.unwrap();
        assert_eq!(loopback, ["127.0.0.1:25".parse().unwrap()]);
        assert_eq!(resolve("[::1]", 25, false).await.unwrap(), ["[::1]:25".parse().unwrap()]);
        let refused = resolve("169.254.169.254", 25, false).await;
        assert!(matches!(refused, Err(OutboundError::AddressRefused { .. })), "{refused:?}");
        assert!(resolve("169.254.169.254", 25, true).await.is_ok());
    }
}
