//! The detectors behind one door: a frame in, finds in pixels of the upright frame out. Reads no input.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use meerkat_base::{
    Detection, FaceIdentity, FaceRecogniser, Guess, ImageWish, MonoTime, ObjectClassifier, PersonDetector,
    PixelFormat, Rect,
};
use meerkat_models::device::Compute;
use meerkat_models::networks::detector::ObjectNet;
use meerkat_models::weights::Folder;
use meerkat_vision::{MotionDetector, MotionSettings};

use super::frames::{Pixels, Shown};
use crate::app::detectors::{self, networks};
use crate::app::models_folder;
use crate::cli::{CliError, gallery};
use crate::settings::{Settings, SettingsErrors};

/// What one frame showed.
pub(super) struct Finds {
    /// Width and height of the upright frame.
    pub size: (u32, u32),
    /// What was found, in its pixels.
    pub detections: Vec<Detection>,
    /// What the frame shows as a whole, where that was asked.
    pub guesses: Option<Vec<Guess>>,
}

/// A detector and the certainty below which it does not count.
pub(super) struct Looker {
    min_score: f32,
    /// A network gets all pixels there are: nobody waits for it here.
    whole: bool,
    detector: Detector,
}

enum Detector {
    Person(Box<dyn PersonDetector>),
    Face {
        recogniser: Box<dyn FaceRecogniser>,
        /// Whether anybody is enrolled; else saying "unknown" of everybody would say nothing.
        knows_anybody: bool,
    },
    Objects(Box<ObjectNet>),
    Classes(Box<dyn ObjectClassifier>),
    Motion {
        detector: Box<MotionDetector>,
        reduction: u32,
    },
}

/// Makes detectors, one for each thread.
pub(super) type MakeLooker = Box<dyn Fn() -> anyhow::Result<Looker> + Send + Sync>;

/// What looks for people, and what to tell about it.
pub(super) fn person(settings: &Settings) -> Result<(MakeLooker, Option<String>), CliError> {
    let choice = detectors::person(settings).map_err(wrong)?;
    let min_score = settings.detectors.person.min_score;
    let make = Arc::clone(&choice.make);
    let make = move || {
        let detector = make().context("the people detector cannot be made")?;
        let whole = detector.info().backend != "classic";
        Ok(Looker { min_score, whole, detector: Detector::Person(detector) })
    };
    Ok((Box::new(make), choice.notice))
}

/// What looks for faces, and compares them with those enrolled in the data folder; and what to tell about it.
pub(super) fn face(settings: &Settings) -> Result<(MakeLooker, Option<String>), CliError> {
    let choice = detectors::face(settings).map_err(wrong)?;
    let (min_score, data_dir) = (settings.detectors.face.min_score, settings.data_dir.clone());
    let make = Arc::clone(&choice.make);
    let make = move || {
        let mut recogniser = make().context("the face recogniser cannot be made")?;
        let knows_anybody = gallery::teach(recogniser.as_mut(), &data_dir)?;
        let whole = recogniser.info().backend != "classic";
        Ok(Looker { min_score, whole, detector: Detector::Face { recogniser, knows_anybody } })
    };
    Ok((Box::new(make), choice.notice))
}

/// What looks for things of many classes. `names` are those of a model of the user's own; else they are COCO's.
pub(super) fn objects(
    model: String,
    folder: Folder,
    compute: Compute,
    min_score: f32,
    names: Option<Vec<String>>,
) -> MakeLooker {
    Box::new(move || {
        let names: Option<Vec<&str>> = names.as_ref().map(|names| names.iter().map(String::as_str).collect());
        let net = networks::objects(&model, &folder, compute, names.as_deref(), min_score)?;
        Ok(Looker { min_score, whole: true, detector: Detector::Objects(Box::new(net)) })
    })
}

/// What says what a picture shows, and what to tell about it. With a `model` that one and no other.
pub(super) fn classes(
    settings: &Settings,
    model: Option<String>,
    min_score: Option<f32>,
    names: Option<Vec<String>>,
) -> Result<(MakeLooker, Option<String>), CliError> {
    let looker = move |detector| {
        let detector = Detector::Classes(detector);
        Looker { min_score: min_score.unwrap_or(0.0), whole: true, detector }
    };
    let Some(model) = model else {
        let choice = detectors::objects(settings).map_err(wrong)?;
        let make = Arc::clone(&choice.make);
        return Ok((Box::new(move || Ok(looker(make()?))), choice.notice));
    };
    let (folder, compute) = (models_folder(settings), compute(settings)?);
    let found_score = min_score.unwrap_or(detectors::FOUND_SCORE);
    let make = move || {
        let names: Option<Vec<&str>> = names.as_ref().map(|names| names.iter().map(String::as_str).collect());
        let net = networks::classes(&model, &folder, compute, names.as_deref(), found_score)?;
        Ok(looker(net.into_classifier()))
    };
    Ok((Box::new(make), None))
}

/// What looks for motion.
pub(super) fn motion(settings: &Settings, min_score: f32) -> MakeLooker {
    let own = settings.motion.clone();
    Box::new(move || {
        let motion = MotionSettings {
            min_difference: f32::from(own.threshold),
            min_area: own.min_area_share,
            absorb_after: own.learning,
            ..MotionSettings::default()
        };
        let detector = MotionDetector::new(motion).context("the motion detector cannot be made")?;
        let reduction = own.reduction.divisor();
        let detector = Detector::Motion { detector: Box::new(detector), reduction };
        Ok(Looker { min_score, whole: false, detector })
    })
}

/// Where and in what networks compute; says what the operator should know of it.
pub(in crate::cli) fn compute(settings: &Settings) -> Result<Compute, CliError> {
    let (compute, notice) = detectors::compute(settings).map_err(wrong)?;
    if let Some(notice) = notice {
        eprintln!("meerkat: {notice}");
    }
    Ok(compute)
}

/// A network that was named and cannot be used is a wrong argument or configuration; one that is missing is not.
fn wrong(problem: crate::settings::Problem) -> CliError {
    match SettingsErrors::from_problems(vec![problem]) {
        Some(errors) => CliError::Settings(errors),
        None => CliError::Reported,
    }
}

impl Looker {
    /// Forgets what earlier frames showed: another camera follows.
    pub fn begin_anew(&mut self) {
        if let Detector::Motion { detector, .. } = &mut self.detector {
            detector.reset();
        }
    }

    /// Looks at one frame; `at` is its time, which only motion needs.
    pub fn look(&mut self, pixels: &Pixels, at: Duration) -> anyhow::Result<Finds> {
        let enough = |wish: ImageWish| {
            let enough_width = if self.whole { u32::MAX } else { wish.enough_width };
            ImageWish { enough_width, ..wish }
        };
        let mut finds = match &mut self.detector {
            Detector::Person(detector) => {
                let shown = pixels.image(enough(detector.wish()))?;
                let found = detector.detect(&shown.image).map_err(|error| anyhow!(error))?;
                shown.finds(found)
            }
            Detector::Face { recogniser, knows_anybody } => {
                let shown = pixels.image(enough(recogniser.wish()))?;
                let faces = recogniser.recognise(&shown.image).map_err(|error| anyhow!(error))?;
                let found = faces.into_iter().map(|face| {
                    let mut detection = Detection::new("face", face.score, face.bbox);
                    detection.identity = knows_anybody.then(|| match face.identity {
                        FaceIdentity::Known { name, .. } => name,
                        FaceIdentity::Unknown => "unknown".to_owned(),
                    });
                    detection
                });
                shown.finds(found.collect())
            }
            Detector::Objects(net) => {
                let wish = ImageWish { format: PixelFormat::Bgr8, enough_width: u32::MAX };
                let shown = pixels.image(wish)?;
                let mut found = net.detect_all(&[&shown.image])?;
                shown.finds(found.pop().unwrap_or_default())
            }
            Detector::Classes(classifier) => {
                let shown = pixels.image(enough(classifier.wish()))?;
                let mut guesses = classifier.classify(&shown.image).map_err(|error| anyhow!(error))?;
                guesses.retain(|guess| guess.score >= self.min_score);
                Finds { guesses: Some(guesses), ..shown.finds(Vec::new()) }
            }
            Detector::Motion { detector, reduction } => {
                let plane = pixels.plane(*reduction)?;
                let report = detector.observe(&plane, MonoTime::default().after(at))?;
                // A tenth of the picture in motion is as certain as it gets.
                let score = report.share * 10.0;
                let moving = report.moving.into_iter();
                Finds {
                    size: plane.original_size(),
                    detections: moving.map(|bbox| Detection::new("motion", score, bbox)).collect(),
                    guesses: None,
                }
            }
        };
        finds.detections.retain(|detection| detection.score >= self.min_score);
        Ok(finds)
    }
}

impl Shown {
    /// Takes boxes of the decoded picture back to the upright frame, and cuts off what rounding put outside.
    fn finds(&self, mut detections: Vec<Detection>) -> Finds {
        for detection in &mut detections {
            detection.bbox = within(detection.bbox.scaled(self.scale), self.size);
        }
        Finds { size: self.size, detections, guesses: None }
    }
}

fn within(bbox: Rect, size: (u32, u32)) -> Rect {
    let (width, height) = (size.0 as f32, size.1 as f32);
    let (left, top) = (bbox.x.clamp(0.0, width), bbox.y.clamp(0.0, height));
    let (right, bottom) = ((bbox.x + bbox.width).min(width), (bbox.y + bbox.height).min(height));
    Rect::new(left, top, right - left, bottom - top)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_stay_within_the_frame() {
        let check = |bbox: Rect, expected: Rect| assert_eq!(within(bbox, (100, 50)), expected);
        check(Rect::new(10.0, 10.0, 20.0, 20.0), Rect::new(10.0, 10.0, 20.0, 20.0));
        check(Rect::new(-5.0, 40.0, 20.0, 20.0), Rect::new(0.0, 40.0, 15.0, 10.0));
        check(Rect::new(200.0, 0.0, 20.0, 20.0), Rect::new(100.0, 0.0, 0.0, 20.0));
    }
}
