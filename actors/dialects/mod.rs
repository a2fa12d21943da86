//! Dialects besides `frame`: the doors that all of them share, and what stands behind each. Parsers are in `wire`.
//!
//! To add one: a value that is a [`Dialect`], and an arm in [`Bound::open`].

mod door;

#[cfg(test)]
mod tests;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meerkat_base::{Budget, Clock, Shutdown};
use meerkat_settings::DialectsSettings;

pub use door::{Dialect, End};

use crate::camera::Cameras;
use crate::session::{DoorError, IoGroup, listen};
use crate::supervision::Board;
use door::House;

/// An io thread that stands still for this long is given up.
const IO_DEADLINE: Duration = Duration::from_secs(3);

/// The sockets of all dialects that are on.
pub struct Bound {
    sockets: Vec<(&'static str, Vec<TcpListener>)>,
}

/// What dialects are made with.
pub struct DialectTools {
    /// The register of cameras, with the settings in force.
    pub cameras: Cameras,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// The signal to finish.
    pub shutdown: Shutdown,
    /// Where failures are counted.
    pub board: Board,
    /// Bytes of messages that are being received, over all connections of all dialects.
    pub in_flight: Budget,
}

/// Dialects at work. Clones share them.
#[derive(Clone, Default)]
pub struct Dialects {
    io: Option<IoGroup>,
}

/// Binds every address of every dialect that is on, before anything else of the node is started: a port that is taken is
/// an early and clear error.
pub fn bind(settings: &DialectsSettings) -> Result<Bound, DoorError> {
    let all = |(name, door): (&'static str, &meerkat_settings::DoorSettings)| {
        let bound: Result<Vec<_>, _> = door.listen.iter().map(|&address| listen(address)).collect();
        Ok((name, bound?))
    };
    Ok(Bound { sockets: settings.doors().into_iter().map(all).collect::<Result<_, DoorError>>()? })
}

impl Bound {
    /// Opens the doors. Must be called where an actix `System` is current.
    ///
    /// # Errors
    /// When the system gives no thread, or a dialect that is on is not there.
    pub fn open(self, tools: DialectTools) -> Result<Dialects, DialectError> {
        if self.sockets.is_empty() {
            return Ok(Dialects::default());
        }
        let settings = tools.cameras.settings();
        let io = IoGroup::start(settings.dialects.io_threads, IO_DEADLINE, tools.board.clone())?;
        let _house =
            House { io: io.clone(), cameras: tools.cameras.clone(), shutdown: tools.shutdown.clone() };
        for (name, _listeners) in self.sockets {
            #[expect(clippy::match_single_binding, reason = "one arm per dialect")]
            match name {
                other => return Err(DialectError::NotThere(other)),
            }
        }
        Ok(Dialects { io: Some(io) })
    }
}

impl Dialects {
    /// Gives up io threads that stand still. Called by the watch.
    pub fn tick(&self, now: Instant) {
        if let Some(io) = &self.io {
            io.tick(now);
        }
    }

    /// Ends the threads, after talks have had `patience` to finish. They must have been told by the shutdown signal.
    pub fn stop(&self, patience: Duration) {
        if let Some(io) = &self.io {
            io.stop(patience);
        }
    }
}

/// A dialect cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum DialectError {
    /// It is switched on, but this program does not speak it.
    #[error("dialects.{0}.listen is set, but this program does not speak that dialect yet")]
    NotThere(&'static str),
    /// The system gives no thread or socket.
    #[error("the system refused: {0}")]
    System(#[from] std::io::Error),
}
