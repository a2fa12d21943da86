//! Faces on demand: pictures that clients send wait here for stations that find and name the faces in them, first come,
//! first served. The cameras' own faces go another way, through `gate` and `faces`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use meerkat_base::{
    FaceIdentity, FaceRecogniser, FoundFace, Image, ImageWish, PixelFormat, Rect, Unfit, metric,
};
use meerkat_vision::{Colour, Font, Marking, as_wished, decode_image, draw_with, encode_jpeg};
use metrics::counter;

use super::orders::{ExamineError, Hand, Orders};
use crate::camera::Cameras;
use crate::detectors::Place;
use crate::faces::{Following, Gallery, UNKNOWN};
use crate::supervision::{ActorKind, Component, Failure, Station, Step, fault};

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

/// Has pictures examined. Clones share the stations.
#[derive(Clone)]
pub struct Examiner {
    orders: Orders<Wish, Examined>,
    font: Option<Arc<Font>>,
}

impl Examiner {
    /// Room for so many pictures that wait, each answered within `patience`.
    pub fn new(waiting: usize, patience: Duration, font: Option<Font>) -> Self {
        Self { orders: Orders::new(waiting, patience), font: font.map(Arc::new) }
    }

    /// Puts stations to work; they are made by [`Examiner::component`]. Once.
    pub fn set_stations(&self, stations: Vec<Station>) {
        // Built at once: who is enrolled is known before the first picture comes.
        self.orders.set_stations(stations);
    }

    /// Has a picture examined, when it is its turn.
    pub async fn examine(&self, picture: Bytes, wish: Wish) -> Result<Examined, ExamineError> {
        self.orders.ask(picture, wish).await
    }

    /// Nobody is examined any more.
    pub fn close(&self) {
        self.orders.close();
    }

    /// Makes the component of a station, which keeps what it has in this hand.
    pub(super) fn component(
        &self,
        hand: &Hand<Examined>,
        cameras: Cameras,
        gallery: Arc<dyn Gallery>,
        place: Place<dyn FaceRecogniser>,
    ) -> Box<dyn Component> {
        let (orders, font, hand) = (self.orders.clone(), self.font.clone(), hand.clone());
        Box::new(Examining { orders, font, hand, cameras, gallery: Following::new(gallery), place })
    }
}

/// One station's component.
struct Examining {
    orders: Orders<Wish, Examined>,
    font: Option<Arc<Font>>,
    hand: Hand<Examined>,
    cameras: Cameras,
    gallery: Following,
    place: Place<dyn FaceRecogniser>,
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
        let Some(work) = self.orders.take(&self.hand) else {
            return Ok(if more { Step::Again } else { Step::Sleep(LOOK_AT_GALLERY) });
        };
        fault::point(ActorKind::Examiner, None)?;
        let floor = self.cameras.settings().detectors.face.min_score;
        let began = Instant::now();
        let answer = look(recogniser, &work.picture, work.wish, floor, self.font.as_deref())?;
        if answer.is_ok() {
            self.place.looked(began, 1);
        }
        self.hand.answer(work, answer);
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
) -> Result<Result<Examined, ExamineError>, Failure> {
    let decoded = match wish {
        Wish::Faces => decode_image(picture, recogniser.wish()).map(|(image, scale)| (image, scale, None)),
        Wish::Marked { .. } => both(picture, recogniser.wish()),
    };
    let (image, scale, whole) = match decoded {
        Ok(decoded) => decoded,
        Err(error) => return Ok(Err(ExamineError::NotAPicture(error.to_string()))),
    };
    let found = recogniser.recognise(&image).map_err(Failure::error)?;
    let faces: Vec<ExaminedFace> =
        found.into_iter().filter(|face| face.score >= floor).map(|face| examined(face, scale)).collect();
    let marked = match (wish, whole) {
        (Wish::Marked { quality }, Some(whole)) => match marked(whole, &faces, quality, font) {
            Ok(marked) => Some(marked),
            Err(error) => return Ok(Err(ExamineError::NotAPicture(error.to_string()))),
        },
        _ => None,
    };
    Ok(Ok(Examined { faces, marked }))
}

/// The picture as the recogniser wishes for it, how many pixels of the whole one stands for, and the whole in colour.
fn both(picture: &[u8], wish: ImageWish) -> Result<(Image, f32, Option<Image>), meerkat_vision::VisionError> {
    let (whole, _) = decode_image(picture, ImageWish { format: PixelFormat::Bgr8, enough_width: u32::MAX })?;
    let (image, scale) = match as_wished(&whole, wish)? {
        Some(image) => (image, 1.0),
        None => decode_image(picture, wish)?,
    };
    Ok((image, scale, Some(whole)))
}

fn examined(face: FoundFace, scale: f32) -> ExaminedFace {
    let (result, who) = match face.identity {
        FaceIdentity::Known { name, score } => ("known", Some((name, score))),
        FaceIdentity::Unknown => (face.unfit.map_or("unknown", Unfit::as_str), None),
    };
    counter!(metric::FACES, "result" => result).increment(1);
    ExaminedFace { bbox: face.bbox.scaled(scale), score: face.score, who }
}

/// The picture with the faces marked.
fn marked(
    mut image: Image,
    faces: &[ExaminedFace],
    quality: u8,
    font: Option<&Font>,
) -> Result<Vec<u8>, meerkat_vision::VisionError> {
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
        let examiner = Examiner::new(1, Duration::from_secs(60), None);
        let faces = Pool::<dyn FaceRecogniser> {
            make: Arc::new(|| Ok(Box::new(Stub::default()))),
            most: Arc::new(|| 2),
        };
        let cameras = cameras(&clock, &[]);
        let stations = (0..2).map(|n| {
            let (examiner, hand, cameras, faces, file) =
                (examiner.clone(), Hand::default(), cameras.clone(), faces.clone(), file.clone());
            crew.station(ActorKind::Examiner, None, Duration::from_secs(60), move || {
                hand.let_go();
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
