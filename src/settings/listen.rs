//! Settings of everything that listens: the camera port, its limits, and HTTP. Opens no socket.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use meerkat_base::{RingLimits, Secret};

use super::reader::Reader;
use super::rule::{self, Rule, count, flag, listen, millis, network, secs, whole};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The camera port (dialect `frame`).
#[derive(Debug, Clone, PartialEq)]
pub struct FrameSettings {
    /// Where cameras connect.
    pub listen: SocketAddr,
    /// Networks that may connect; empty for the default rule, see [`FrameSettings::admission`].
    pub allow: Vec<IpNet>,
    /// Networks from which tokens are accepted without TLS.
    pub plaintext_trusted: Vec<IpNet>,
    /// The second listener, with TLS.
    pub tls: Option<TlsSettings>,
    /// Longest encoded picture.
    pub max_frame_bytes: usize,
    /// Largest width times height by the picture's own header.
    pub max_pixels: u64,
    /// Most scans of a progressive JPEG.
    pub max_scans: u32,
    /// Most pixels a JPEG may have, counted once for each of its scans.
    pub max_scanned_pixels: u64,
    /// Whether pictures of unknown containers are stored in mode 1.
    pub accept_unknown: bool,
    /// Silence after `end` that shows a cut-off picture.
    pub cut_silence: Duration,
    /// Time until the first mode is accepted.
    pub handshake_timeout: Duration,
    /// Longest silence in the middle of a picture.
    pub stall_timeout: Duration,
    /// Longest silence between pictures.
    pub idle_timeout: Duration,
    /// Refused pictures in a row after which the connection is closed.
    pub max_refused_in_row: u32,
    /// Wait before a refusal is answered or a refused peer is let go.
    pub refused_delay: Duration,
    /// Open connections in all.
    pub max_connections: usize,
    /// Open connections per address (IPv6: per /64).
    pub max_connections_per_address: usize,
    /// Bytes of pictures that are being received, over all connections.
    pub in_flight_bytes: usize,
    /// Longest time an answer waits for somebody to look at the previous picture (modes 3 to 5).
    pub answer_wait: Duration,
    /// Whether cameras that are not configured may send.
    pub accept_unconfigured: bool,
    /// Threads that read from cameras.
    pub io_threads: usize,
}

/// A listener with TLS.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsSettings {
    /// Where cameras connect with TLS.
    pub listen: SocketAddr,
    /// PEM file with the certificate chain.
    pub cert_file: PathBuf,
    /// PEM file with the private key.
    pub key_file: PathBuf,
}

/// Whether a peer may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may send frames.
    Open,
    /// It must first prove a camera's token.
    TokenOnly,
    /// It is turned away at once.
    Refused,
}

impl FrameSettings {
    /// Decides by address. With an allow-list, that list decides alone. Without one, loopback is open, and from
    /// elsewhere a token must be proven, if any camera has one (`any_token`).
    pub fn admission(&self, peer: IpAddr, any_token: bool) -> Admission {
        let peer = peer.to_canonical();
        if !self.allow.is_empty() {
            return if contains(&self.allow, peer) { Admission::Open } else { Admission::Refused };
        }
        match (peer.is_loopback(), any_token) {
            (true, _) => Admission::Open,
            (false, true) => Admission::TokenOnly,
            (false, false) => Admission::Refused,
        }
    }

    /// Whether a token may travel from this peer without TLS.
    pub fn trusts_plaintext(&self, peer: IpAddr) -> bool {
        contains(&self.plaintext_trusted, peer.to_canonical())
    }

    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            listen: reader.read("frame.listen", listen()),
            allow: reader.read("frame.allow", rule::list(256, network())),
            plaintext_trusted: reader.read("frame.plaintext_trusted", rule::list(256, network())),
            tls: TlsSettings::read(reader),
            max_frame_bytes: reader.read("frame.max_frame_bytes", count(KIB..=256 * MIB)),
            max_pixels: reader.read("frame.max_pixels", whole(1..=64_000_000)),
            max_scans: reader.read("frame.max_scans", rule::small(1..=100)),
            max_scanned_pixels: reader.read("frame.max_scanned_pixels", whole(1..=768_000_000)),
            accept_unknown: reader.read("frame.accept_unknown", flag()),
            cut_silence: reader.read("frame.cut_silence_ms", millis(10..=10_000)),
            handshake_timeout: reader.read("frame.handshake_timeout_secs", secs(0.1..=600.0)),
            stall_timeout: reader.read("frame.stall_timeout_secs", secs(0.1..=600.0)),
            idle_timeout: reader.read("frame.idle_timeout_secs", secs(0.1..=86_400.0)),
            max_refused_in_row: reader.read("frame.max_refused_in_row", rule::small(1..=1_000)),
            refused_delay: reader.read("frame.refused_delay_ms", millis(0..=10_000)),
            max_connections: reader.read("frame.max_connections", count(1..=65_536)),
            max_connections_per_address: reader.read("frame.max_connections_per_address", count(1..=65_536)),
            in_flight_bytes: reader.read("frame.in_flight_bytes", count(MIB..=64 * GIB)),
            answer_wait: reader.read("frame.answer_wait_ms", millis(0..=1_000)),
            accept_unconfigured: reader.read("frame.accept_unconfigured", flag()),
            io_threads: reader.read("frame.io_threads", count(1..=64)),
        }
    }
}

impl TlsSettings {
    fn read(reader: &mut Reader) -> Option<Self> {
        let listen = reader.read("frame.tls.listen", rule::optional(listen()));
        let cert_file = reader.read("frame.tls.cert_file", rule::optional(rule::path()));
        let key_file = reader.read("frame.tls.key_file", rule::optional(rule::path()));
        match (listen, cert_file, key_file) {
            (None, None, None) => None,
            (Some(listen), Some(cert_file), Some(key_file)) => Some(Self { listen, cert_file, key_file }),
            (listen, cert_file, key_file) => {
                let given = [
                    ("frame.tls.listen", listen.is_some()),
                    ("frame.tls.cert_file", cert_file.is_some()),
                    ("frame.tls.key_file", key_file.is_some()),
                ];
                for (key, _) in given.into_iter().filter(|(_, given)| !given) {
                    reader.complain(key, "must be set: TLS needs listen, cert_file and key_file together");
                }
                None
            }
        }
    }
}

/// The last seconds of every camera, kept in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct RingSettings {
    /// Bounds of one camera's ring.
    pub limits: RingLimits,
    /// Bytes of all rings together.
    pub total_bytes: usize,
}

impl RingSettings {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            limits: RingLimits {
                span: reader.read("ring.seconds", secs(0.0..=600.0)),
                bytes: reader.read("ring.bytes", count(64 * KIB..=16 * GIB)),
            },
            total_bytes: reader.read("ring.total_bytes", count(MIB..=1_024 * GIB)),
        }
    }
}

/// The HTTP side: pages, API, metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpSettings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Host names, besides addresses and `localhost`, under which it may be called; lower case.
    pub hosts: Vec<String>,
    /// Token that a caller has to show; without one only loopback may read.
    pub token: Option<Secret>,
    /// Address under which the node is reached from outside, without a slash at its end.
    pub public_url: Option<String>,
    /// How long a signed link to a clip is good.
    pub link_life: Duration,
}

impl HttpSettings {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            listen: reader.read("http.listen", listen()),
            hosts: reader.read("http.hosts", rule::list(64, rule::host_name())),
            token: reader.secret("http.token", 8),
            public_url: reader.read("http.public_url", rule::optional(public_url())),
            link_life: Duration::from_secs(
                3_600 * u64::from(reader.read("http.link_hours", rule::small(1..=720))),
            ),
        }
    }
}

/// An address to which more can be appended: scheme, host, perhaps a port and a path.
fn public_url() -> Rule<String> {
    let text = rule::text(1..=256);
    Rule::new(
        "an address such as \"https://meerkat.example.org\", without user, query or fragment",
        move |value| {
            let text = text.parse(value)?;
            let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
            let (host, _) = rest.split_once('/').unwrap_or((rest, ""));
            let plain =
                |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '@' | '"' | '<' | '>' | '\\');
            let fits = !host.is_empty() && !host.starts_with(':') && rest.chars().all(plain);
            fits.then(|| text.trim_end_matches('/').to_owned())
        },
    )
}

fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::super::tests::loaded;
    use super::*;

    #[test]
    fn the_allow_list_decides_alone_and_loopback_is_the_default() {
        let default = loaded("").frame;
        let listed = loaded("[frame]\nallow = [\"10.1.0.0/16\", \"fd00::/8\"]").frame;
        let check = |frame: &FrameSettings, peer: &str, any_token, expected| {
            assert_eq!(frame.admission(peer.parse().unwrap(), any_token), expected, "{peer}");
        };
        check(&default, "127.0.0.1", false, Admission::Open);
        check(&default, "::1", false, Admission::Open);
        check(&default, "10.1.2.3", false, Admission::Refused);
        check(&default, "10.1.2.3", true, Admission::TokenOnly);
        check(&listed, "10.1.2.3", false, Admission::Open);
        check(&listed, "::ffff:10.1.2.3", false, Admission::Open);
        check(&listed, "fd00::7", true, Admission::Open);
        check(&listed, "10.2.2.3", true, Admission::Refused);
        check(&listed, "127.0.0.1", true, Admission::Refused);
    }

    #[test]
    fn tokens_travel_in_plain_text_from_loopback_only() {
        let frame = loaded("").frame;
        assert!(frame.trusts_plaintext("127.0.0.9".parse().unwrap()));
        assert!(frame.trusts_plaintext("::1".parse().unwrap()));
        assert!(!frame.trusts_plaintext("192.168.0.2".parse().unwrap()));
    }
}
