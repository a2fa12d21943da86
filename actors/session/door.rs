//! The door: accepts connections, lets in whom it may, and hands them to the io threads.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use meerkat_base::{Shutdown, metric};
use meerkat_settings::{Admission, FrameSettings, TlsSettings};
use metrics::counter;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tracing::{debug, info, warn};

use super::component::SessionTools;
use super::limits::{Connections, announce};
use super::ration::LogRation;
use super::shell::{Caller, IoGroup};

/// A dead peer is found within about this time.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

/// The node cannot open its door.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The address cannot be listened on.
    #[error("{key} = {address}: cannot listen there: {reason}")]
    Listen {
        /// The key of the configuration that says so.
        key: String,
        /// The address.
        address: SocketAddr,
        /// Why not.
        reason: io::Error,
    },
    /// The port for datagrams cannot be had.
    #[error("cannot take UDP port {port} of {address}: {reason}", port = address.port(), address = address.ip())]
    Datagrams {
        /// The address.
        address: SocketAddr,
        /// Why not.
        reason: io::Error,
    },
    /// Certificate or key cannot be used.
    #[error("{path}: {reason}", path = path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Listeners at which nobody is let in yet: what cannot be had is known before anything else of the node is started.
pub struct Sockets {
    plain: StdListener,
    tls: Option<(StdListener, TlsAcceptor)>,
}

impl Sockets {
    /// Binds the plain listener and, where it is set, the one for TLS.
    pub fn bind(settings: &FrameSettings) -> Result<Self, DoorError> {
        let tls = match &settings.tls {
            Some(tls) => Some((acceptor(tls)?, tls.listen)),
            None => None,
        };
        let plain = listen(settings.listen, "frame.listen")?;
        let tls = match tls {
            Some((acceptor, address)) => Some((listen(address, "frame.tls.listen")?, acceptor)),
            None => None,
        };
        Ok(Self { plain, tls })
    }
}

/// One listener with what it needs to decide.
pub struct Door {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    connections: Connections,
    io: IoGroup,
    tools: Arc<SessionTools>,
    turned_away: LogRation,
}

impl Door {
    /// Doors at these sockets. Must be called where a runtime is entered.
    pub fn open_all(
        sockets: Sockets,
        settings: &FrameSettings,
        io: &IoGroup,
        tools: &Arc<SessionTools>,
    ) -> io::Result<Vec<Door>> {
        announce();
        let connections =
            Connections::new("frame", settings.max_connections, settings.max_connections_per_address);
        let door = |listener, tls| {
            Ok(Door {
                listener: TcpListener::from_std(listener)?,
                tls,
                connections: connections.clone(),
                io: io.clone(),
                tools: Arc::clone(tools),
                turned_away: LogRation::default(),
            })
        };
        let tls = sockets.tls.map(|(listener, acceptor)| (listener, Some(acceptor)));
        [(sockets.plain, None)].into_iter().chain(tls).map(|(listener, tls)| door(listener, tls)).collect()
    }

    /// The address it really listens on (port 0 in the settings means any).
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Whether it speaks TLS.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Accepts until shutdown.
    pub async fn serve(self, shutdown: Shutdown) {
        loop {
            tokio::select! {
                biased;
                () = shutdown.wait() => return,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => self.let_in(stream, peer),
                    Err(error) => {
                        // Out of file descriptors, or a peer that was gone at once: neither may spin.
                        warn!(%error, "a connection could not be accepted");
                        counter!(metric::LIMIT_HITS, "limit" => "accept").increment(1);
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
            }
        }
    }

    fn let_in(&self, stream: TcpStream, peer: SocketAddr) {
        let settings = self.tools.cameras.settings();
        let admission = settings.frame.admission(peer.ip(), settings.any_token());
        if admission == Admission::Refused {
            counter!(metric::PROTOCOL_ERRORS, "reason" => "address_not_allowed").increment(1);
            if let Some(not_logged) = self.turned_away.line(Instant::now()) {
                info!(peer = %peer.ip(), not_logged, "an address that is not allowed was turned away");
            }
            return;
        }
        let admitted = match self.connections.admit(peer.ip()) {
            Ok(admitted) => admitted,
            Err(limit) => {
                if let Some(not_logged) = self.turned_away.line(Instant::now()) {
                    info!(peer = %peer.ip(), limit, not_logged, "a connection was turned away");
                }
                return;
            }
        };
        if let Err(error) = prepare(&stream) {
            debug!(peer = %peer.ip(), %error, "a connection was gone at once");
            return;
        }
        match stream.into_std() {
            Ok(stream) => self.io.run(
                Arc::clone(&self.tools),
                Caller { stream, peer, tls: self.tls.clone(), admission, admitted },
            ),
            Err(error) => debug!(peer = %peer.ip(), %error, "a connection was gone at once"),
        }
    }
}

/// Binds what `key` of the configuration names.
pub(crate) fn listen(address: SocketAddr, key: &str) -> Result<StdListener, DoorError> {
    let bound = || {
        // std sets SO_REUSEADDR on Unix: a node that comes back need not wait for the connections of the one before.
        let listener = StdListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bound().map_err(|reason| DoorError::Listen { key: key.to_owned(), address, reason })
}

/// No delay for small answers, and keepalive: a dead peer is found.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

fn acceptor(settings: &TlsSettings) -> Result<TlsAcceptor, DoorError> {
    let bad = |path: &Path, reason: String| DoorError::Tls { path: path.to_owned(), reason };
    let chain = CertificateDer::pem_file_iter(&settings.cert_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| bad(&settings.cert_file, e.to_string()))?;
    if chain.is_empty() {
        return Err(bad(&settings.cert_file, "holds no certificate".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(&settings.key_file)
        .map_err(|e| bad(&settings.key_file, e.to_string()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| bad(&settings.cert_file, e.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|e| bad(&settings.cert_file, e.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
