//! Dialects besides `frame`: the doors that all of them share, and what stands behind each. Parsers are in `wire`.
//!
//! To add one: a value that is a [`Dialect`], and an arm in [`Bound::open`]. Faces in pictures of clients are found by
//! [`examine`].

pub mod desk;
mod door;
mod orders;
mod stream;

pub mod examine;
mod recognise;

pub mod watch;

#[cfg(test)]
mod tests;

use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use meerkat_base::{Budget, Clock, FaceRecogniser, Shutdown};
use meerkat_settings::{DialectsSettings, DoorSettings, Settings};
use meerkat_vision::{Font, VisionError};
use tracing::{info, warn};

pub use door::{Dialect, End};

use crate::camera::Cameras;
use crate::detectors::{Known, Place, Pool};
use crate::faces::Gallery;
use crate::session::{DoorError, IoGroup, LogRation, listen};
use crate::supervision::{ActorKind, BackoffSettings, Board, Crew, Solo};
use desk::{AtDesk, Desk, DeskError, DeskHouse};
use door::{Door, House};
use examine::Examiner;
use orders::Hand;
use recognise::{Chunked, RecogniseTools, Sized};
use watch::{Live, Usher, Watch};

/// Dialects that have pictures examined.
const EXAMINING: [&str; 2] = ["recognise_sized", "recognise_chunked"];

/// An io thread that stands still for this long is given up.
const IO_DEADLINE: Duration = Duration::from_secs(3);

/// The sockets of all dialects that are on.
pub struct Bound {
    sockets: Vec<(&'static str, Vec<TcpListener>)>,
    /// What viewers get their pictures by.
    datagrams: Option<UdpSocket>,
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
    /// The crew on which pictures are examined.
    pub detect: Crew,
    /// Recognisers of faces.
    pub faces: Pool<dyn FaceRecogniser>,
    /// Who is enrolled.
    pub gallery: Arc<dyn Gallery>,
    /// Detectors at work, for the status.
    pub detectors: Known,
    /// Back-off of actors that fail.
    pub backoff: BackoffSettings,
    /// Live pictures, where they are on.
    pub live: Option<Live>,
    /// What the desk needs besides.
    pub desk: DeskHouse,
}

/// Dialects at work. Clones share them.
#[derive(Clone, Default)]
pub struct Dialects {
    io: Option<IoGroup>,
    examiner: Option<Examiner>,
    live: Option<Live>,
    desk: Option<Arc<Desk>>,
    usher: Option<Solo<Usher>>,
}

/// Binds every address of every dialect that is on, before anything else of the node is started: a port that is taken is
/// an early and clear error.
pub fn bind(settings: &DialectsSettings) -> Result<Bound, DoorError> {
    let all = |(name, door): (&'static str, &DoorSettings)| {
        let bound: Result<Vec<_>, _> = {
            let key = format!("dialects.{name}.listen");
            door.listen.iter().map(|&address| listen(address, &key)).collect()
        };
        Ok((name, bound?))
    };
    let sockets: Vec<(&'static str, Vec<TcpListener>)> =
        settings.doors().into_iter().map(all).collect::<Result<_, DoorError>>()?;
    let watch =
        sockets.iter().find(|(name, _)| *name == "watch").and_then(|(_, listeners)| listeners.first());
    let datagrams = watch.map(door::bind_datagrams).transpose()?;
    Ok(Bound { sockets, datagrams })
}

impl Bound {
    /// Opens the doors. Must be called where an actix `System` is current.
    ///
    /// # Errors
    /// When the system gives no thread, or a dialect that is on is not there.
    pub fn open(self, tools: DialectTools) -> Result<Dialects, DialectError> {
        orders::announce();
        watch::announce();
        desk::announce();
        if self.sockets.is_empty() {
            return Ok(Dialects::default());
        }
        let settings = tools.cameras.settings();
        let dialects = &settings.dialects;
        let io = IoGroup::start(dialects.io_threads, IO_DEADLINE, tools.board.clone())?;
        let house =
            House { io: io.clone(), cameras: tools.cameras.clone(), shutdown: tools.shutdown.clone() };
        let in_flight = Budget::new(dialects.in_flight_bytes);
        let examines = self.sockets.iter().any(|(name, _)| EXAMINING.contains(name));
        let examiner = if examines { Some(examiner(&tools, &settings)?) } else { None };
        let mut opened = Dialects::default();
        for (name, listeners) in self.sockets {
            if let ("desk", Some(own)) = (name, &dialects.desk) {
                let desk = desk::open(&tools, &tools.desk, own, &listeners, &in_flight)?;
                Door::new(AtDesk(Arc::clone(&desk)), &own.door, house.clone()).open_all(listeners)?;
                opened.desk = Some(desk);
                continue;
            }
            match (name, &dialects.recognise_sized, &dialects.recognise_chunked, &examiner) {
                ("recognise_sized", Some(own), _, Some(examiner)) => {
                    let tools = RecogniseTools::new(&tools, &in_flight, examiner);
                    Door::new(Sized::new(own.clone(), tools), &own.door, house.clone())
                        .open_all(listeners)?;
                }
                ("recognise_chunked", _, Some(own), Some(examiner)) => {
                    let tools = RecogniseTools::new(&tools, &in_flight, examiner);
                    Door::new(Chunked::new(own.clone(), tools), &own.door, house.clone())
                        .open_all(listeners)?;
                }
                ("watch", ..) => opened.open_watch(listeners, self.datagrams.as_ref(), &tools, &house)?,
                _ => return Err(DialectError::NotThere(name)),
            }
        }
        Ok(Dialects { io: Some(io), examiner, ..opened })
    }
}

/// Stations that examine pictures, one per thread of the crew, with recognisers of their own.
fn examiner(tools: &DialectTools, settings: &Settings) -> Result<Examiner, DialectError> {
    let font = match &settings.dialects.font {
        Some(path) => Some(Font::load(path).map_err(DialectError::Font)?),
        None => Font::find(),
    };
    match &font {
        Some(font) => info!(font = %font.path().display(), "names beyond ASCII are drawn with this font"),
        None => {
            let packages: Vec<_> = Font::packages().collect();
            warn!(
                packages = packages.join(", "),
                "names beyond ASCII, such as Chinese ones, are drawn as question marks: install one of these Debian \
                 packages, or set dialects.font to a font file"
            );
        }
    }
    let dialects = &settings.dialects;
    let examiner = Examiner::new(dialects.examine_waiting, dialects.examine_timeout, font);
    let stations = (0..tools.detect.threads()).map(|n| {
        let (examiner, hand) = (examiner.clone(), Hand::default());
        let (cameras, gallery) = (tools.cameras.clone(), Arc::clone(&tools.gallery));
        let (faces, known) = (tools.faces.clone(), tools.detectors.clone());
        let deadline = settings.supervision.detector_deadline;
        tools.detect.station(ActorKind::Examiner, None, deadline, move || {
            hand.let_go();
            let place = Place::new(faces.clone(), "face", known.clone(), n)?;
            Ok(examiner.component(&hand, cameras.clone(), Arc::clone(&gallery), place))
        })
    });
    examiner.set_stations(stations.collect());
    Ok(examiner)
}

impl Dialects {
    /// Opens the door of viewers, and builds who sends them their pictures.
    fn open_watch(
        &mut self,
        listeners: Vec<TcpListener>,
        datagrams: Option<&UdpSocket>,
        tools: &DialectTools,
        house: &House,
    ) -> Result<(), DialectError> {
        let (Some(live), Some(socket)) = (&tools.live, datagrams) else {
            return Err(DialectError::NotThere("watch"));
        };
        let (own, socket) = (live.clone(), Arc::new(socket.try_clone()?));
        let ration = Arc::new(LogRation::default());
        let build =
            move |sentinel| Usher::new(own.clone(), Arc::clone(&socket), Arc::clone(&ration), sentinel);
        self.usher =
            Some(Solo::start(ActorKind::Usher, tools.board.clone(), tools.backoff, IO_DEADLINE, build));
        self.live = Some(live.clone());
        let door = Door::new(Watch::new(live.clone()), &live.settings().door, house.clone());
        door.open_all(listeners)?;
        Ok(())
    }

    /// Takes new settings over, where that needs no restart. Doors and `recognise` look for themselves.
    pub fn reload(&self, settings: &DialectsSettings) {
        if let (Some(live), Some(settings)) = (&self.live, &settings.watch) {
            live.reload(settings);
        }
        if let Some(desk) = &self.desk {
            desk.reload(settings);
        }
    }

    /// Gives up io threads that stand still. Called by the watch.
    pub fn tick(&self, now: Instant) {
        if let Some(io) = &self.io {
            io.tick(now);
        }
    }

    /// The usher, for the watch to look after.
    pub fn usher(&self) -> Option<&Solo<Usher>> {
        self.usher.as_ref()
    }

    /// Ends the threads, after talks have had `patience` to finish. They must have been told by the shutdown signal.
    pub fn stop(&self, patience: Duration) {
        if let Some(live) = &self.live
            && !live.finish(patience)
        {
            warn!("the last lines of the log of viewers were not written in time");
        }
        if let Some(usher) = &self.usher
            && !usher.stop(patience)
        {
            warn!(actor = "usher", "late at shutdown");
        }
        if let Some(io) = &self.io {
            io.stop(patience);
        }
        if let Some(examiner) = &self.examiner {
            examiner.close();
        }
        if let Some(desk) = &self.desk {
            desk.close();
        }
    }
}

/// A dialect cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum DialectError {
    /// It is switched on, but this program does not speak it.
    #[error("dialects.{0}.listen is set, but this program does not speak that dialect yet")]
    NotThere(&'static str),
    /// The font that the settings name cannot be used.
    #[error("dialects.font: {0}")]
    Font(VisionError),
    /// The desk cannot be opened.
    #[error(transparent)]
    Desk(#[from] DeskError),
    /// The system gives no thread or socket.
    #[error("the system refused: {0}")]
    System(#[from] std::io::Error),
}
