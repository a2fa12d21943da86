//! Faces on demand: pictures that clients send wait here for stations that find and name the faces in them, first come,
//! first served. The cameras' own faces go another way, through `gate` and `faces`.
//!
//! What is in hand of a station that is lost is told to whoever waits for it when the station is built again.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use meerkat_base::{
    FaceIdentity, FaceRecogniser, FoundFace, Image, ImageWish, PixelFormat, Rect, Unfit, metric,
};
use meerkat_vision::{Colour, Font, Marking, decode_image, draw_with, encode_jpeg};
use metrics::{counter, histogram};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::camera::Cameras;
use crate::detectors::Place;
use crate::faces::{Following, Gallery, UNKNOWN};
use crate::supervision::{ActorKind, Component, Failure, Inbox, Offer, Station, Step, fault};

/// How often a station that has nothing to do looks whether somebody was enrolled.
const LOOK_AT_GALLERY: Duration = Duration::from_secs(2);

const KNOWN: Colour = Colour(60, 200, 60);
const STRANGER: Colour = Colour(40, 160, 255);

/// What is wanted of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// The faces.
    Faces,
    /// The faces, and the picture with them marked, as a JPEG of this quality.
    Marked {
        /// 1..=100.
        quality: u8,
    },
}

/// A face in a picture that was examined.
#[derive(Debug, Clone, PartialEq)]
pub struct ExaminedFace {
    /// Where, in pixels of the upright picture.
    pub bbox: Rect,
    /// Certainty that it is a face, 0..=1.
    pub score: f32,
    /// Whose it is, and how well it matched, 0..=1; `None` for somebody who is not enrolled.
    pub who: Option<(String, f32)>,
}

/// What was found in a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Examined {
    /// The faces, the largest first.
    pub faces: Vec<ExaminedFace>,
    /// The picture with the faces marked, where that was wished for.
    pub marked: Option<Vec<u8>>,
}

/// Why a picture was not examined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExamineError {
    /// It cannot be decoded.
    #[error("not a picture: {0}")]
    NotAPicture(String),
    /// The station failed with it.
    #[error("the picture was lost with the station that had it")]
    Lost,
    /// The node is going down, or nobody examines.
    #[error("nobody is there to examine pictures")]
    Nobody,
}

type Answer = Result<Examined, ExamineError>;

/// A picture that waits.
struct Order {
    picture: Bytes,
    wish: Wish,
    since: Instant,
    answer: oneshot::Sender<Answer>,
    _place: OwnedSemaphorePermit,
}

/// What is in hand of one station; outlives the component.
type Hand = Arc<Mutex<Option<oneshot::Sender<Answer>>>>;

/// Makes the series of examinations there from the start, as 0.
pub(super) fn announce() {
    for result in ["ok", "not_a_picture", "lost"] {
        counter!(metric::EXAMINED, "result" => result).increment(0);
    }
    let _ = histogram!(metric::EXAMINE_DURATION);
}

/// Has pictures examined. Clones share the stations.
#[derive(Clone)]
pub struct Examiner {
    shared: Arc<Shared>,
}

struct Shared {
    places: Arc<Semaphore>,
    inbox: Inbox<Order>,
    stations: OnceLock<Vec<Station>>,
    font: Option<Font>,
}

impl Examiner {
    /// Room for so many pictures that wait.
    pub fn new(waiting: usize, font: Option<Font>) -> Self {
        let shared = Shared {
            places: Arc::new(Semaphore::new(waiting)),
            inbox: Inbox::new(ActorKind::Examiner, waiting),
            stations: OnceLock::new(),
            font,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Puts stations to work; they are made by [`Examiner::component`]. Once.
    pub fn set_stations(&self, stations: Vec<Station>) {
        // Built at once: who is enrolled is known before the first picture comes.
        stations.iter().for_each(Station::wake);
        let _ = self.shared.stations.set(stations);
    }

    /// Has a picture examined. Waits its turn; how many may wait is up to the limits of connections.
    pub async fn examine(&self, picture: Bytes, wish: Wish) -> Answer {
        let since = Instant::now();
        let place =
            Arc::clone(&self.shared.places).acquire_owned().await.map_err(|_| ExamineError::Nobody)?;
        let (answer, answered) = oneshot::channel();
        let order = Order { picture, wish, since, answer, _place: place };
        let stations = self.shared.stations.get().map(Vec::as_slice).unwrap_or_default();
        match self.shared.inbox.offer(order) {
            Offer::Taken if !stations.is_empty() => stations.iter().for_each(Station::wake),
            _ => return Err(ExamineError::Nobody),
        }
        let examined = answered.await.unwrap_or(Err(ExamineError::Lost));
        let result = match &examined {
            Ok(_) => "ok",
            Err(ExamineError::NotAPicture(_)) => "not_a_picture",
            Err(ExamineError::Lost | ExamineError::Nobody) => "lost",
        };
        counter!(metric::EXAMINED, "result" => result).increment(1);
        examined
    }

    /// As [`Examiner::examine`]; a picture that was lost with a station is given to the next one, once.
    pub async fn examine_again(&self, picture: Bytes, wish: Wish) -> Answer {
        match self.examine(picture.clone(), wish).await {
            Err(ExamineError::Lost) => self.examine(picture, wish).await,
            answer => answer,
        }
    }

    /// Where a station keeps what it has in hand; given to each component that it makes.
    pub fn hand() -> Hand {
        Hand::default()
    }

    /// Tells whoever waits for what a station had in hand that it is lost. Called before the station is built again.
    pub fn let_go(&self, hand: &Hand) {
        drop(lock(hand).take());
    }

    /// Nobody is examined any more.
    pub fn close(&self) {
        self.shared.places.close();
        self.shared.stations.get().into_iter().flatten().for_each(Station::close);
        while self.shared.inbox.take().is_some() {}
    }

    /// Makes the component of a station.
    pub fn component(
        &self,
        hand: &Hand,
        cameras: Cameras,
        gallery: Arc<dyn Gallery>,
        place: Place<dyn FaceRecogniser>,
    ) -> Box<dyn Component> {
        Box::new(Examining {
            shared: Arc::clone(&self.shared),
            hand: Arc::clone(hand),
            cameras,
            gallery: Following::new(gallery),
            place,
        })
    }

    /// Pictures that wait.
    pub fn waiting(&self) -> usize {
        self.shared.inbox.len()
    }
}

/// One station's component.
struct Examining {
    shared: Arc<Shared>,
    hand: Hand,
    cameras: Cameras,
    gallery: Following,
    place: Place<dyn FaceRecogniser>,
}

fn lock(hand: &Hand) -> MutexGuard<'_, Option<oneshot::Sender<Answer>>> {
    hand.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Component for Examining {
    fn step(&mut self) -> Result<Step, Failure> {
        let Some(recogniser) = self.place.detector()? else {
            self.gallery.forget();
            return Ok(Step::Idle);
        };
        let more = self.gallery.advance(recogniser);
        if more && !self.gallery.is_in_force() {
            // Nobody is known yet: pictures wait for that.
            return Ok(Step::Again);
        }
        let Some(order) = self.shared.inbox.take() else {
            return Ok(if more { Step::Again } else { Step::Sleep(LOOK_AT_GALLERY) });
        };
        if order.answer.is_closed() {
            return Ok(Step::Again);
        }
        let Order { picture, wish, since, answer, _place } = order;
        *lock(&self.hand) = Some(answer);
        fault::point(ActorKind::Examiner, None)?;
        let floor = self.cameras.settings().detectors.face.min_score;
        let began = Instant::now();
        let answer = look(recogniser, &picture, wish, floor, self.shared.font.as_ref())?;
        if answer.is_ok() {
            self.place.looked(began, 1);
        }
        histogram!(metric::EXAMINE_DURATION).record(since.elapsed());
        if let Some(waiting) = lock(&self.hand).take() {
            // Whoever asked may be gone.
            let _ = waiting.send(answer);
        }
        Ok(Step::Again)
    }
}

/// Finds the faces of one picture and marks them.
fn look(
    recogniser: &mut dyn FaceRecogniser,
    picture: &[u8],
    wish: Wish,
    floor: f32,
    font: Option<&Font>,
) -> Result<Answer, Failure> {
    let (image, scale) = match decode_image(picture, recogniser.wish()) {
        Ok(decoded) => decoded,
        Err(error) => return Ok(Err(ExamineError::NotAPicture(error.to_string()))),
    };
    let found = recogniser.recognise(&image).map_err(Failure::error)?;
    let faces: Vec<ExaminedFace> =
        found.into_iter().filter(|face| face.score >= floor).map(|face| examined(face, scale)).collect();
    let marked = match wish {
        Wish::Faces => None,
        Wish::Marked { quality } => match marked(picture, image, scale, &faces, quality, font) {
            Ok(marked) => Some(marked),
            Err(error) => return Ok(Err(ExamineError::NotAPicture(error.to_string()))),
        },
    };
    Ok(Ok(Examined { faces, marked }))
}

fn examined(face: FoundFace, scale: f32) -> ExaminedFace {
    let (result, who) = match face.identity {
        FaceIdentity::Known { name, score } => ("known", Some((name, score))),
        FaceIdentity::Unknown => (face.unfit.map_or("unknown", Unfit::as_str), None),
    };
    counter!(metric::FACES, "result" => result).increment(1);
    ExaminedFace { bbox: face.bbox.scaled(scale), score: face.score, who }
}

/// The picture in its own size and in colour, with the faces marked. What was decoded for the recogniser serves when it is
/// that already.
fn marked(
    picture: &[u8],
    decoded: Image,
    scale: f32,
    faces: &[ExaminedFace],
    quality: u8,
    font: Option<&Font>,
) -> Result<Vec<u8>, meerkat_vision::VisionError> {
    let mut image = if decoded.format() == PixelFormat::Bgr8 && scale == 1.0 {
        decoded
    } else {
        decode_image(picture, ImageWish { format: PixelFormat::Bgr8, enough_width: u32::MAX })?.0
    };
    let markings: Vec<Marking> = faces.iter().map(marking).collect();
    draw_with(font, &mut image, &markings)?;
    encode_jpeg(&image, quality)
}

fn marking(face: &ExaminedFace) -> Marking {
    let (label, colour) = match &face.who {
        Some((name, score)) => (format!("{name} {:.0}%", score * 100.0), KNOWN),
        None => (UNKNOWN.to_owned(), STRANGER),
    };
    Marking { bbox: face.bbox, label, colour }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use meerkat_base::{DetectorError, DetectorInfo, ManualClock};
    use meerkat_vision::probe::probe;

    use super::*;
    use crate::detectors::{Known, Pool};
    use crate::supervision::{BackoffSettings, Board, Crew, CrewSettings};
    use crate::testing::{NOON, cameras};

    /// Finds two faces in every picture, the second of them hardly one; the first is of whoever is enrolled.
    #[derive(Default)]
    struct Stub {
        coming: Vec<String>,
        known: Vec<String>,
    }

    impl FaceRecogniser for Stub {
        fn info(&self) -> DetectorInfo {
            DetectorInfo { name: "stub".into(), backend: "classic", device: "cpu".into() }
        }

        fn wish(&self) -> ImageWish {
            ImageWish { format: PixelFormat::Gray8, enough_width: 80 }
        }

        fn begin_gallery(&mut self) {
            self.coming.clear();
        }

        fn add_to_gallery(&mut self, name: &str, _: &Image) -> Result<bool, DetectorError> {
            self.coming.push(name.to_owned());
            Ok(true)
        }

        fn use_gallery(&mut self) {
            self.known = std::mem::take(&mut self.coming);
        }

        fn recognise(&mut self, image: &Image) -> Result<Vec<FoundFace>, DetectorError> {
            assert_eq!(image.width(), 80);
            let identity = self.known.first().map_or(FaceIdentity::Unknown, |name| FaceIdentity::Known {
                name: name.clone(),
                score: 0.875,
            });
            let face = |score, identity| FoundFace {
                bbox: Rect::new(10.0, 20.0, 30.0, 20.0),
                score,
                identity,
                unfit: None,
                embedding: None,
            };
            Ok(vec![face(0.9, identity), face(0.2, FaceIdentity::Unknown)])
        }
    }

    struct Enrolled(PathBuf);

    impl Gallery for Enrolled {
        fn generation(&self) -> Result<u64, String> {
            Ok(1)
        }

        fn people(&self) -> Result<Vec<(String, Vec<PathBuf>)>, String> {
            Ok(vec![("张伟".to_owned(), vec![self.0.clone()])])
        }
    }

    fn jpeg() -> Bytes {
        let image = Image::new(320, 240, PixelFormat::Bgr8, vec![90; 320 * 240 * 3]).unwrap();
        encode_jpeg(&image, 90).unwrap().into()
    }

    #[test]
    fn pictures_are_examined_in_their_own_size_once_everybody_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("face.jpg");
        std::fs::write(&file, jpeg()).unwrap();
        let clock = ManualClock::new(NOON);
        let board = Board::new(Arc::new(clock.clone()));
        let backoff = BackoffSettings { min: Duration::from_millis(1), max: Duration::from_secs(1) };
        let crew = Crew::start(CrewSettings { name: "detect", threads: 2, niceness: 0, backoff }, board);
        let examiner = Examiner::new(1, None);
        let faces = Pool::<dyn FaceRecogniser> {
            make: Arc::new(|| Ok(Box::new(Stub::default()))),
            most: Arc::new(|| 2),
        };
        let cameras = cameras(&clock, &[]);
        let stations = (0..2).map(|n| {
            let (examiner, hand, cameras, faces, file) =
                (examiner.clone(), Examiner::hand(), cameras.clone(), faces.clone(), file.clone());
            crew.station(ActorKind::Examiner, None, Duration::from_secs(60), move || {
                examiner.let_go(&hand);
                let place = Place::new(faces.clone(), "face", Known::default(), n)?;
                Ok(examiner.component(&hand, cameras.clone(), Arc::new(Enrolled(file.clone())), place))
            })
        });
        examiner.set_stations(stations.collect());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let found = examiner.examine(jpeg(), Wish::Faces).await.unwrap();
            let who = Some(("张伟".to_owned(), 0.875));
            let face = ExaminedFace { bbox: Rect::new(40.0, 80.0, 120.0, 80.0), score: 0.9, who };
            assert_eq!(found, Examined { faces: vec![face], marked: None });
            // More than may wait: they wait with whoever brought them.
            let mut many = tokio::task::JoinSet::new();
            for _ in 0..20 {
                let examiner = examiner.clone();
                many.spawn(async move { examiner.examine(jpeg(), Wish::Marked { quality: 90 }).await });
            }
            for one in many.join_all().await {
                let marked = one.unwrap().marked.unwrap();
                let header = probe(&marked).unwrap();
                assert_eq!((header.width, header.height), (320, 240));
                assert_ne!(marked, jpeg());
            }
            let nothing = examiner.examine(Bytes::from_static(b"\xff\xd8\xff"), Wish::Faces).await;
            assert!(matches!(nothing, Err(ExamineError::NotAPicture(_))), "{nothing:?}");
            examiner.close();
            assert_eq!(examiner.examine(jpeg(), Wish::Faces).await, Err(ExamineError::Nobody));
        });
        crew.stop(Duration::from_secs(10));
    }
}
