//! The door of every dialect but `frame`: accepts, lets in whom it may, and runs the talk on an io thread. Knows no
//! dialect; the cameras' own door is in `session`.

use std::future::Future;
use std::net::{SocketAddr, TcpListener as StdListener, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use meerkat_base::{Shutdown, metric};
use meerkat_settings::{DialectsSettings, DoorSettings};
use metrics::counter;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, info, warn};

use crate::camera::Cameras;
use crate::session::{Admitted, Connections, DoorError, IoGroup, LogRation, prepare};
use crate::supervision::{ActorKind, Failure, fault};

/// What a talk may take to finish once the node is going down.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// A refused peer keeps its place among the connections for so long: it cannot spin.
const REFUSED_DELAY: Duration = Duration::from_millis(100);
/// Nothing is accepted for so long after an error: out of file descriptors must not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Bytes of datagrams that may wait in the system, each way.
const DATAGRAM_ROOM: usize = 4 << 20;

/// Every reason for which any dialect may end a connection.
const REASONS: [&str; 5] =
    ["address_not_allowed", "idle_timeout", "in_flight_bytes", "stall_timeout", "too_slow"];
/// Every limit that any dialect may reach.
const LIMITS: [&str; 7] = [
    "accept",
    "connections",
    "connections_per_address",
    "idle_timeout",
    "stall_timeout",
    "dialects_in_flight_bytes",
    "min_bytes_per_second",
];

/// How a talk ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The client left, or got all it asked for.
    Left,
    /// The connection broke.
    Broken(String),
    /// The node refused to go on; the word is the label of the metric.
    Refused(&'static str),
    /// The node failed.
    Failed(Failure),
}

/// One dialect behind a door. One value serves all its connections.
pub trait Dialect: Send + Sync + 'static {
    /// Reasons of its own for [`End::Refused`], besides those of every door.
    const REASONS: &'static [&'static str] = &[];

    /// Its name in metrics and log.
    fn name(&self) -> &'static str;

    /// Its door in the settings; `None` when it is off there.
    fn door<'s>(&self, settings: &'s DialectsSettings) -> Option<&'s DoorSettings>;

    /// Talks with one client until the connection is over. Runs on an io thread beside others and must not block. It
    /// may be dropped at any await once the node is going down, after half a second.
    fn talk(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) -> impl Future<Output = End>;
}

/// What every door needs of the node.
#[derive(Clone)]
pub(super) struct House {
    /// Threads that talks run on.
    pub io: IoGroup,
    /// The settings in force.
    pub cameras: Cameras,
    /// The signal to finish.
    pub shutdown: Shutdown,
}

/// The door of one dialect, with one or several listeners.
pub(super) struct Door<D> {
    dialect: Arc<D>,
    opened_with: DoorSettings,
    connections: Connections,
    house: House,
    turned_away: LogRation,
    refused: Arc<LogRation>,
}

/// Binds the UDP port with the number of a listener's TCP port, beside it.
pub(super) fn bind_datagrams(beside: &StdListener) -> Result<UdpSocket, DoorError> {
    let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
    let address = beside.local_addr().map_err(|reason| DoorError::Datagrams { address: unknown, reason })?;
    let bound = UdpSocket::bind(address).and_then(|socket| {
        socket.set_nonblocking(true)?;
        // As many pictures as there may be viewers are sent in one go; less room only makes it slower.
        let _ = SockRef::from(&socket).set_send_buffer_size(DATAGRAM_ROOM);
        let _ = SockRef::from(&socket).set_recv_buffer_size(DATAGRAM_ROOM);
        Ok(socket)
    });
    bound.map_err(|reason| DoorError::Datagrams { address, reason })
}

impl<D: Dialect> Door<D> {
    /// A door with these limits of connections; what it lets in follows the settings in force.
    pub fn new(dialect: D, opened_with: &DoorSettings, house: House) -> Arc<Self> {
        for reason in REASONS.iter().chain(D::REASONS) {
            counter!(metric::PROTOCOL_ERRORS, "reason" => *reason).increment(0);
        }
        for limit in LIMITS {
            counter!(metric::LIMIT_HITS, "limit" => limit).increment(0);
        }
        let limits = (opened_with.max_connections, opened_with.max_connections_per_address);
        Arc::new(Self {
            connections: Connections::new(dialect.name(), limits.0, limits.1),
            dialect: Arc::new(dialect),
            opened_with: opened_with.clone(),
            house,
            turned_away: LogRation::default(),
            refused: Arc::default(),
        })
    }

    /// Accepts on a listener until shutdown. Must be called where an actix `System` is current.
    ///
    /// # Errors
    /// When the runtime does not take the listener.
    pub fn open(self: &Arc<Self>, listener: StdListener) -> std::io::Result<()> {
        let address = listener.local_addr()?;
        let listener = TcpListener::from_std(listener)?;
        info!(dialect = self.dialect.name(), %address, "a dialect can be spoken");
        actix::spawn(Arc::clone(self).serve(listener));
        Ok(())
    }

    /// As [`Door::open`], on several listeners.
    pub fn open_all(self: &Arc<Self>, listeners: Vec<StdListener>) -> std::io::Result<()> {
        listeners.into_iter().try_for_each(|listener| self.open(listener))
    }

    async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            tokio::select! {
                biased;
                () = self.house.shutdown.wait() => return,
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => self.let_in(stream, peer),
                    Err(error) => {
                        warn!(dialect = self.dialect.name(), %error, "a connection could not be accepted");
                        counter!(metric::LIMIT_HITS, "limit" => "accept").increment(1);
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    fn let_in(&self, stream: TcpStream, peer: SocketAddr) {
        let dialect = self.dialect.name();
        let settings = self.house.cameras.settings();
        if !self.dialect.door(&settings.dialects).unwrap_or(&self.opened_with).admits(peer.ip()) {
            counter!(metric::PROTOCOL_ERRORS, "reason" => "address_not_allowed").increment(1);
            if let Some(not_logged) = self.turned_away.line(Instant::now()) {
                info!(dialect, peer = %peer.ip(), not_logged, "an address that is not allowed was turned away");
            }
            return;
        }
        let admitted = match self.connections.admit(peer.ip()) {
            Ok(admitted) => admitted,
            Err(limit) => {
                if let Some(not_logged) = self.turned_away.line(Instant::now()) {
                    info!(dialect, peer = %peer.ip(), limit, not_logged, "a connection was turned away");
                }
                return;
            }
        };
        match prepare(&stream).and_then(|()| stream.into_std()) {
            Ok(stream) => {
                let visit = Visit {
                    dialect: Arc::clone(&self.dialect),
                    peer,
                    shutdown: self.house.shutdown.clone(),
                    refused: Arc::clone(&self.refused),
                    _admitted: admitted,
                };
                self.house.io.run_talk(stream, move |stream| visit.run(stream));
            }
            Err(error) => debug!(dialect, peer = %peer.ip(), %error, "a connection was gone at once"),
        }
    }
}

/// One connection that was let in.
struct Visit<D> {
    dialect: Arc<D>,
    peer: SocketAddr,
    shutdown: Shutdown,
    refused: Arc<LogRation>,
    _admitted: Admitted,
}

impl<D: Dialect> Visit<D> {
    /// Runs the talk; gives back how the node failed in it, if it did.
    async fn run(self, stream: std::net::TcpStream) -> Option<Failure> {
        let (dialect, peer) = (self.dialect.name(), self.peer.ip());
        let talk = async {
            fault::point(ActorKind::Session, None).map_err(End::Failed)?;
            let stream = TcpStream::from_std(stream).map_err(|error| End::Broken(error.to_string()))?;
            Err(Arc::clone(&self.dialect).talk(stream, self.peer).await)
        };
        let over = async {
            self.shutdown.wait().await;
            tokio::time::sleep(LAST_WORDS).await;
        };
        let end: Result<std::convert::Infallible, End> = tokio::select! {
            biased;
            end = talk => end,
            () = over => Err(End::Left),
        };
        let end = match end {
            Ok(never) => match never {},
            Err(end) => end,
        };
        debug!(dialect, %peer, ?end, "a talk ended");
        match end {
            End::Left | End::Broken(_) => None,
            End::Failed(failure) => Some(failure),
            End::Refused(reason) => {
                counter!(metric::PROTOCOL_ERRORS, "reason" => reason).increment(1);
                let limit = match reason {
                    "idle_timeout" | "stall_timeout" => Some(reason),
                    "too_slow" => Some("min_bytes_per_second"),
                    _ => None,
                };
                if let Some(limit) = limit {
                    counter!(metric::LIMIT_HITS, "limit" => limit).increment(1);
                }
                if let Some(not_logged) = self.refused.line(Instant::now()) {
                    info!(dialect, %peer, reason, not_logged, "a client was refused");
                }
                tokio::time::sleep(REFUSED_DELAY).await;
                None
            }
        }
    }
}
