//! What the actors for people and for faces share: detectors made when and where they are wanted, and the pictures of
//! one look, of one camera or of several. Detects nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use meerkat_base::{
    DetectorError, DetectorInfo, FaceRecogniser, Frame, Image, ImageWish, PersonDetector, Weights, metric,
};
use meerkat_vision::decode_image;
use metrics::{gauge, histogram};
use tracing::{debug, info};

use crate::camera::{Camera, Outcome};
use crate::gate::Lineup;
use crate::supervision::{ActorKind, Failure, fault};

/// A detector that likes several pictures at once waits so long for those of other cameras.
const GATHER: Duration = Duration::from_millis(3);

/// Makes detectors of one kind. Called on the thread that will use the detector, again after each failure.
pub type Make<D> = Arc<dyn Fn() -> Result<Box<D>, DetectorError> + Send + Sync>;

/// The detectors of one kind: how they are made, and how many of the threads may have one.
pub struct Pool<D: ?Sized> {
    /// Makes one.
    pub make: Make<D>,
    /// How many may be at work at this moment; asked again and again. A GPU is kept busy by two, one of which prepares
    /// pictures while the other waits for results; on the CPU each thread has its own.
    pub most: Arc<dyn Fn() -> usize + Send + Sync>,
}

impl<D: ?Sized> Clone for Pool<D> {
    fn clone(&self) -> Self {
        Self { make: Arc::clone(&self.make), most: Arc::clone(&self.most) }
    }
}

/// Detectors at work, with what they are for.
#[derive(Clone, Default)]
pub struct Known(Arc<Mutex<Vec<(&'static str, DetectorInfo)>>>);

impl Known {
    /// All of them.
    pub fn list(&self) -> Vec<(&'static str, DetectorInfo)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, role: &'static str, info: &DetectorInfo, weights: &[Weights]) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.iter().any(|(other, noted)| *other == role && noted == info) {
            return;
        }
        known.retain(|(other, _)| *other != role);
        known.push((role, info.clone()));
        drop(known);
        let DetectorInfo { name, backend, device } = info;
        info!(role, detector = name, backend, device, "detector ready");
        // Made without a value: exported with zeros from the start.
        let _ = histogram!(metric::INFERENCE_DURATION, "model" => name.clone(), "device" => device.clone());
        if weights.is_empty() {
            gauge!(metric::MODEL_INFO, "model" => name.clone(), "sha256" => "").set(1.0);
        }
        for Weights { model, sha256 } in weights {
            gauge!(metric::MODEL_INFO, "model" => model.clone(), "sha256" => sha256.clone()).set(1.0);
        }
    }
}

/// What both kinds of detectors can be asked.
pub trait Asked {
    /// Which detector this is.
    fn info(&self) -> DetectorInfo;
    /// What it computes with.
    fn weights(&self) -> Vec<Weights>;
}

impl Asked for dyn PersonDetector {
    fn info(&self) -> DetectorInfo {
        PersonDetector::info(self)
    }

    fn weights(&self) -> Vec<Weights> {
        PersonDetector::weights(self)
    }
}

impl Asked for dyn FaceRecogniser {
    fn info(&self) -> DetectorInfo {
        FaceRecogniser::info(self)
    }

    fn weights(&self) -> Vec<Weights> {
        FaceRecogniser::weights(self)
    }
}

/// The place of one thread in a pool: a detector of its own, as long as it may have one.
pub struct Place<D: ?Sized> {
    pool: Pool<D>,
    role: &'static str,
    known: Known,
    number: usize,
    detector: Option<Box<D>>,
}

impl<D: Asked + ?Sized> Place<D> {
    /// Place `number`, from 0. The detector is made here, if this place has one.
    ///
    /// # Errors
    /// When the detector cannot be made.
    pub fn new(pool: Pool<D>, role: &'static str, known: Known, number: usize) -> Result<Self, Failure> {
        let mut place = Self { pool, role, known, number, detector: None };
        place.detector()?;
        Ok(place)
    }

    /// The detector; `None` while this place has none.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn detector(&mut self) -> Result<Option<&mut D>, Failure> {
        if self.number >= (self.pool.most)() {
            self.detector = None;
            return Ok(None);
        }
        if self.detector.is_none() {
            let made = (self.pool.make)().map_err(Failure::error)?;
            self.known.note(self.role, &made.info(), &made.weights());
            self.detector = Some(made);
        }
        Ok(self.detector.as_deref_mut())
    }

    /// Books a look at so many pictures that began then.
    pub fn looked(&self, began: Instant, pictures: usize) {
        let Some(detector) = &self.detector else { return };
        let info = detector.info();
        let each = began.elapsed() / u32::try_from(pictures).unwrap_or(u32::MAX).max(1);
        let took = histogram!(metric::INFERENCE_DURATION, "model" => info.name.clone(), "device" => info.device.clone());
        for _ in 0..pictures {
            took.record(each);
        }
        // It may have changed its device in the middle of its work.
        self.known.note(self.role, &info, &detector.weights());
    }
}

/// A frame and its pixels.
pub(crate) struct Look {
    pub camera: Arc<Camera>,
    pub frame: Frame,
    pub image: Image,
    /// Pixels of the frame for one of the image.
    pub scale: f32,
}

/// Takes the next frame of the line, and for a detector that likes several pictures more of them, within a few
/// milliseconds: cameras in their order, of each the newest frame. `None`: nobody was in line. Frames that cannot be
/// decoded are counted and left out.
pub(crate) fn gather(
    line: &Lineup,
    kind: ActorKind,
    wish: ImageWish,
    most: usize,
) -> Result<Option<Vec<Look>>, Failure> {
    let Some(first) = line.take() else { return Ok(None) };
    let until = Instant::now() + GATHER;
    let mut looks = Vec::new();
    let mut next = Some(first);
    while let Some((camera, frame)) = next {
        fault::point(kind, Some(camera.id()))?;
        match decode_image(&frame.bytes, wish) {
            Ok((image, scale)) => looks.push(Look { camera, frame, image, scale }),
            Err(error) => {
                debug!(camera = %camera.id(), frame = frame.seq, %error, "a frame cannot be decoded");
                camera.counters.frame(line.stage(), Outcome::Error);
            }
        }
        next = if most <= 1 || looks.len() >= most { None } else { line.take_by(until) };
    }
    Ok(Some(looks))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use meerkat_base::{Detection, ManualClock, Mode, PixelFormat};

    use super::*;
    use crate::gate::Gates;
    use crate::testing::{NOON, camera, cameras, frame, settings};

    struct Nobody;

    impl PersonDetector for Nobody {
        fn info(&self) -> DetectorInfo {
            DetectorInfo { name: "nobody".into(), backend: "classic", device: "cpu".into() }
        }

        fn wish(&self) -> ImageWish {
            ImageWish { format: PixelFormat::Gray8, enough_width: 64 }
        }

        fn detect(&mut self, _image: &Image) -> Result<Vec<Detection>, DetectorError> {
            Ok(Vec::new())
        }
    }

    #[test]
    fn a_place_has_a_detector_only_while_it_may() {
        let (most, made) = (Arc::new(AtomicUsize::new(1)), Arc::new(AtomicUsize::new(0)));
        let (own_most, own_made) = (Arc::clone(&most), Arc::clone(&made));
        let pool = Pool::<dyn PersonDetector> {
            make: Arc::new(move || {
                own_made.fetch_add(1, Ordering::SeqCst);
                Ok(Box::new(Nobody))
            }),
            most: Arc::new(move || own_most.load(Ordering::SeqCst)),
        };
        let known = Known::default();
        let mut places = [0, 1].map(|n| Place::new(pool.clone(), "person", known.clone(), n).unwrap());
        let mut have = || places.each_mut().map(|place| place.detector().unwrap().is_some());
        assert_eq!((have(), made.load(Ordering::SeqCst)), ([true, false], 1));
        most.store(2, Ordering::SeqCst);
        assert_eq!((have(), made.load(Ordering::SeqCst)), ([true, true], 2));
        most.store(1, Ordering::SeqCst);
        assert_eq!((have(), made.load(Ordering::SeqCst)), ([true, false], 2));
        assert_eq!(known.list().len(), 1);
    }

    #[test]
    fn pictures_of_several_cameras_are_looked_at_together() {
        let clock = ManualClock::new(NOON);
        let all = cameras(&clock, &[]);
        let gates =
            Gates::new(settings(&[("detectors.person.gate", "none")]).detectors, Arc::new(clock.clone()));
        let image = Image::new(16, 8, PixelFormat::Gray8, vec![90; 128]).unwrap();
        let good = Bytes::from(meerkat_vision::encode_jpeg(&image, 90).unwrap());
        let own: Vec<_> = ["a", "b", "c", "d"].map(|id| camera(&all, id)).into();
        let offer = || {
            clock.advance(Duration::from_millis(1));
            for (n, camera) in own.iter().enumerate() {
                let (mut frame, _) = frame(camera, &clock);
                // The second camera sends what is no picture.
                if n != 1 {
                    frame.bytes = good.clone();
                }
                gates.offer(camera, Mode::People, &frame);
            }
        };
        let wish = ImageWish { format: PixelFormat::Gray8, enough_width: 16 };
        let gather = |most| gather(&gates.people, ActorKind::Person, wish, most).unwrap();
        let ids = |looks: Option<Vec<Look>>| -> Vec<String> {
            looks.unwrap().iter().map(|look| look.camera.id().to_string()).collect()
        };
        assert!(gather(8).is_none());
        offer();
        assert_eq!(ids(gather(8)), ["a", "c", "d"]);
        offer();
        assert_eq!(
            (ids(gather(1)), ids(gather(1)), ids(gather(1))),
            (vec!["a".into()], vec![], vec!["c".into()])
        );
        assert_eq!(ids(gather(8)), ["d"]);
        offer();
        assert_eq!((ids(gather(2)), ids(gather(2))), (vec!["a".into(), "c".into()], vec!["d".into()]));
        assert!(gather(8).is_none());
    }
}
