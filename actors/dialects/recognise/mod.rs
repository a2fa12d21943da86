//! The dialects `recognise`: a picture comes in, and goes back with its faces marked. What both framings share; their talks
//! are in the files below.

mod chunked;
mod sized;

use bytes::Bytes;
use meerkat_base::{Budget, Shutdown};
use meerkat_settings::DoorSettings;
use meerkat_wire::recognise::{BadMessage, Form, close, open};
use tokio::net::TcpStream;

pub(super) use chunked::Chunked;
pub(super) use sized::Sized;

use super::examine::{Examiner, Wish};
use super::orders::ExamineError;
use super::stream::{Allowed, Client, Pace};
use super::{DialectTools, End};
use crate::camera::Cameras;
use crate::supervision::Failure;

/// Messages of more bytes than this are taken apart and put together on a thread of their own: an io thread must not
/// stand still for it.
const LONG_MESSAGE: usize = 256 << 10;

/// Reasons for which either framing ends a connection.
const REASONS: &[&str] = &[
    "bad_pickle",
    "examine_failed",
    "examine_timeout",
    "left_in_message",
    "message_empty",
    "message_too_large",
    "not_a_jpeg",
    "not_a_picture",
];

/// What both framings need of the node.
#[derive(Clone)]
pub(super) struct RecogniseTools {
    pub cameras: Cameras,
    pub shutdown: Shutdown,
    pub in_flight: Budget,
    pub examiner: Examiner,
}

impl RecogniseTools {
    pub fn new(tools: &DialectTools, in_flight: &Budget, examiner: &Examiner) -> Self {
        let (cameras, shutdown) = (tools.cameras.clone(), tools.shutdown.clone());
        Self { cameras, shutdown, in_flight: in_flight.clone(), examiner: examiner.clone() }
    }

    /// A connection with what the settings in force allow it.
    fn client(&self, stream: TcpStream, door: &DoorSettings) -> Client {
        let pace = Pace::new(door.stall_timeout, self.cameras.settings().dialects.min_bytes_per_second);
        let allowed = Allowed { stall: door.stall_timeout, idle: door.idle_timeout, pace };
        Client::new(stream, self.shutdown.clone(), self.in_flight.clone(), allowed)
    }

    /// Marks the faces of a picture.
    async fn mark(&self, jpeg: Bytes, quality: u8) -> Result<Vec<u8>, End> {
        match self.examiner.examine(jpeg, Wish::Marked { quality }).await {
            Ok(examined) => {
                examined.marked.ok_or_else(|| End::Failed(Failure::error("a marked picture was not made")))
            }
            Err(ExamineError::NotAPicture(_)) => Err(End::Refused("not_a_picture")),
            Err(ExamineError::Late) => Err(End::Refused("examine_timeout")),
            // The station's own failure is counted where it happened.
            Err(ExamineError::Lost | ExamineError::NoNetwork | ExamineError::Nobody) => {
                Err(End::Refused("examine_failed"))
            }
        }
    }
}

/// Takes the picture out of a message.
async fn opened(message: Bytes) -> Result<(Form, Bytes), End> {
    let refused = |bad: BadMessage| End::Refused(bad.as_str());
    if message.len() <= LONG_MESSAGE {
        return open(&message).map_err(refused);
    }
    apart(move || open(&message)).await?.map_err(refused)
}

/// Makes a message of a picture.
async fn closed(form: Form, jpeg: Vec<u8>) -> Result<Vec<u8>, End> {
    if jpeg.len() <= LONG_MESSAGE { Ok(close(form, jpeg)) } else { apart(move || close(form, jpeg)).await }
}

/// Computes on another thread than this one.
async fn apart<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Result<R, End> {
    actix_rt::task::spawn_blocking(work).await.map_err(|error| End::Failed(Failure::error(error)))
}
