//! The TCP side of one viewer: it says its port, and then only has to stay.

use std::net::SocketAddr;
use std::sync::Arc;

use meerkat_settings::{DialectsSettings, DoorSettings};
use meerkat_wire::watch::Join;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::viewers::Left;
use super::{JOIN_SILENCE, Live};
use crate::dialects::{Dialect, End};

/// Bytes that a viewer may send after its port, where there is nothing to say.
const MAX_CHATTER: usize = 1024;

/// The dialect.
pub(in crate::dialects) struct Watch {
    live: Live,
}

impl Watch {
    /// The dialect with who watches.
    pub fn new(live: Live) -> Self {
        Self { live }
    }

    /// The port that a viewer says; `None` when it leaves before.
    async fn port(&self, stream: &mut TcpStream) -> Result<Option<u16>, End> {
        let deadline = Instant::now() + self.live.settings().door.stall_timeout;
        let (mut join, mut heard) = (Join::new(), [0; 64]);
        loop {
            let silent_at = Instant::now() + JOIN_SILENCE;
            let until = if join.awaits_silence() { silent_at.min(deadline) } else { deadline };
            let outcome = match timeout_at(until, stream.read(&mut heard)).await {
                Ok(Ok(0)) => return Ok(None),
                Ok(Ok(length)) => join.push(heard.get(..length).unwrap_or_default()),
                Ok(Err(error)) => return Err(End::Broken(error.to_string())),
                Err(_) => match join.on_silence() {
                    None => return Err(End::Refused("stall_timeout")),
                    outcome => outcome,
                },
            };
            match outcome {
                None => {}
                Some(Ok(port)) => return Ok(Some(port)),
                Some(Err(reason)) => return Err(End::Refused(reason.as_str())),
            }
        }
    }
}

impl Dialect for Watch {
    const REASONS: &'static [&'static str] =
        &["bad_port", "port_out_of_range", "viewers_per_address", "talkative"];

    fn name(&self) -> &'static str {
        "watch"
    }

    fn door<'s>(&self, settings: &'s DialectsSettings) -> Option<&'s DoorSettings> {
        settings.watch.as_ref().map(|watch| &watch.door)
    }

    async fn talk(self: Arc<Self>, mut stream: TcpStream, peer: SocketAddr) -> End {
        let port = match self.port(&mut stream).await {
            Ok(Some(port)) => port,
            Ok(None) => return End::Left,
            Err(end) => return end,
        };
        let Ok(mut ticket) = self.live.join(peer, port) else { return End::Refused("viewers_per_address") };
        let (mut chatter, mut heard) = (0, [0; 64]);
        loop {
            let read = tokio::select! {
                biased;
                left = ticket.left() => return match left {
                    Left::Silent => End::Refused("idle_timeout"),
                    Left::Talkative => End::Refused("talkative"),
                    Left::Ended | Left::Closed | Left::Replaced | Left::Shutdown => End::Left,
                },
                read = stream.read(&mut heard) => read,
            };
            match read {
                Ok(0) => return End::Left,
                Ok(length) => chatter += length,
                Err(error) => return End::Broken(error.to_string()),
            }
            if chatter > MAX_CHATTER {
                ticket.leave(Left::Talkative);
                return End::Refused("talkative");
            }
        }
    }
}
