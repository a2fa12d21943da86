//! Covers what nobody may see in the pictures of one camera, before anything else is done with them. It fails closed:
//! a picture that could not be covered is not accepted.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use meerkat_base::ImageFormat;
use meerkat_settings::MaskSettings;
use meerkat_vision::mask;
use meerkat_wire::frame::Picture;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::camera::Camera;
use crate::supervision::{ActorKind, Component, Failure, Inbox, Offer, Station, Step, fault};

/// Pictures that may wait. A camera has one connection, and that one waits for each.
const CAPACITY: usize = 4;

/// Why a picture was not covered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotCovered {
    /// It is no picture that can be decoded.
    #[error("{0}")]
    Undecodable(String),
    /// The masker failed, is being restarted or did not answer in time.
    #[error("the masker did not answer")]
    Lost,
    /// The masker failed again and again and rests for longer than anybody waits.
    #[error("the masker rests after failures")]
    Rests,
}

struct Job {
    picture: Picture,
    mask: MaskSettings,
    reply: oneshot::Sender<Result<Picture, NotCovered>>,
}

/// The way to a camera's masker, which outlives its generations. Clones lead to the same one.
#[derive(Clone)]
pub struct MaskLink {
    shared: Arc<Shared>,
}

struct Shared {
    inbox: Inbox<Job>,
    station: OnceLock<Station>,
}

impl Default for MaskLink {
    fn default() -> Self {
        let shared = Shared { inbox: Inbox::new(ActorKind::Masker, CAPACITY), station: OnceLock::new() };
        Self { shared: Arc::new(shared) }
    }
}

impl MaskLink {
    pub(crate) fn set_station(&self, station: Station) {
        let _ = self.shared.station.set(station);
    }

    pub(crate) fn close(&self) {
        if let Some(station) = self.shared.station.get() {
            station.close();
        }
        while self.shared.inbox.take().is_some() {}
    }

    /// Has a picture covered. Waits over a short restart of the masker, and not for one that rests.
    pub(crate) async fn cover(
        &self,
        picture: Picture,
        mask: &MaskSettings,
        limit: Duration,
    ) -> Result<Picture, NotCovered> {
        let station = self.shared.station.get();
        if station.is_some_and(|station| !station.is_back_within(limit)) {
            return Err(NotCovered::Rests);
        }
        let (reply, answer) = oneshot::channel();
        match self.shared.inbox.offer(Job { picture, mask: mask.clone(), reply }) {
            Offer::Taken => {}
            Offer::Full | Offer::Down => return Err(NotCovered::Lost),
        }
        if let Some(station) = station {
            station.wake();
        }
        // A masker that is lost drops the reply with the job.
        match timeout(limit, answer).await {
            Ok(Ok(covered)) => covered,
            Ok(Err(_)) | Err(_) => Err(NotCovered::Lost),
        }
    }
}

/// The masker of one camera.
pub struct Masker {
    camera: Weak<Camera>,
    link: MaskLink,
}

impl Masker {
    /// One with nothing in hand.
    pub fn new(camera: Weak<Camera>, link: MaskLink) -> Self {
        Self { camera, link }
    }
}

impl Component for Masker {
    fn step(&mut self) -> Result<Step, Failure> {
        let Some(camera) = self.camera.upgrade() else { return Ok(Step::Done) };
        let Some(Job { picture, mask, reply }) = self.link.shared.inbox.take() else {
            return Ok(Step::Idle);
        };
        if reply.is_closed() {
            return Ok(Step::Again);
        }
        fault::point(ActorKind::Masker, Some(camera.id()))?;
        let covered = mask::cover(&picture.bytes, &mask.areas, mask.quality)
            .map(|covered| Picture {
                bytes: covered.bytes,
                format: ImageFormat::Jpeg,
                width: covered.width,
                height: covered.height,
            })
            .map_err(|error| NotCovered::Undecodable(error.to_string()));
        let _ = reply.send(covered);
        Ok(if self.link.shared.inbox.is_empty() { Step::Idle } else { Step::Again })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use meerkat_base::{Image, ManualClock, PixelFormat};

    use super::*;
    use crate::supervision::{BackoffSettings, Board, Crew, CrewSettings};
    use crate::testing::{NOON, camera, cameras};

    const LIMIT: Duration = Duration::from_secs(10);

    fn picture() -> Picture {
        let image = Image::new(64, 48, PixelFormat::Bgr8, vec![255; 64 * 48 * 3]).unwrap();
        let bytes = Bytes::from(meerkat_vision::encode_jpeg(&image, 90).unwrap());
        Picture { bytes, format: ImageFormat::Jpeg, width: 64, height: 48 }
    }

    fn mask() -> MaskSettings {
        MaskSettings { areas: vec![meerkat_base::MaskArea::parse("0,0,1,1").unwrap()], quality: 80 }
    }

    /// Runs what waits at the link with a masker of its own, as its station would.
    async fn covered(link: &MaskLink, camera: &Arc<Camera>, picture: Picture) -> Result<Picture, NotCovered> {
        let mut masker = Masker::new(Arc::downgrade(camera), link.clone());
        let mask = mask();
        let (covered, step) = tokio::join!(link.cover(picture, &mask, LIMIT), async { masker.step() });
        step.unwrap();
        covered
    }

    #[actix::test]
    async fn pictures_come_back_covered_and_others_not_at_all() {
        let cameras = cameras(&ManualClock::new(NOON), &[]);
        let camera = camera(&cameras, "door");
        let link = MaskLink::default();
        let out = covered(&link, &camera, picture()).await.unwrap();
        let plane = meerkat_vision::decode_gray(&out.bytes, 1).unwrap();
        assert!(plane.pixels().iter().all(|&pixel| pixel < 8));
        assert_eq!((out.width, out.height, out.format), (64, 48, ImageFormat::Jpeg));

        let broken = Picture { bytes: Bytes::from_static(b"\xff\xd8\xff no picture"), ..picture() };
        assert!(matches!(covered(&link, &camera, broken).await, Err(NotCovered::Undecodable(_))));
    }

    #[actix::test]
    async fn a_masker_that_is_lost_lets_nothing_through() {
        let link = MaskLink::default();
        let mask = mask();
        let (lost, ()) = tokio::join!(link.cover(picture(), &mask, LIMIT), async {
            drop(link.shared.inbox.take().unwrap());
        });
        assert_eq!(lost, Err(NotCovered::Lost));
        // Nobody there at all: the queue is bounded, and whoever waits has a limit.
        for _ in 0..CAPACITY + 2 {
            assert_eq!(link.cover(picture(), &mask, Duration::from_millis(1)).await, Err(NotCovered::Lost));
        }
        assert_eq!(link.shared.inbox.len(), CAPACITY);
    }

    #[actix::test]
    async fn nobody_waits_for_a_masker_that_rests() {
        let long = Duration::from_secs(60);
        let backoff = BackoffSettings { min: long, max: long };
        let settings = CrewSettings { name: "vision", threads: 1, niceness: 0, backoff };
        let crew = Crew::start(settings, Board::new(Arc::new(ManualClock::new(NOON))));
        let station =
            crew.station(ActorKind::Masker, None, LIMIT, || Err(Failure::error("broken on purpose")));
        let link = MaskLink::default();
        link.set_station(station.clone());
        station.wake();
        while station.is_back_within(LIMIT) {
            std::thread::yield_now();
        }
        assert!(station.is_back_within(long), "it is built again then");
        assert_eq!(link.cover(picture(), &mask(), LIMIT).await, Err(NotCovered::Rests));
        assert!(link.shared.inbox.is_empty(), "nor does the picture");
    }
}
