//! The detectors behind one door: a frame in, finds in pixels of the upright frame out. Reads no input.

use std::time::Duration;

use anyhow::{Context, anyhow};
use meerkat_base::{Detection, FaceIdentity, FaceRecogniser, MonoTime, PersonDetector, Rect};
use meerkat_vision::{HogPersonDetector, HogSettings, MotionDetector, MotionSettings};

use super::frames::{Pixels, Shown};
use crate::cli::gallery;
use crate::settings::Settings;

/// What one frame showed.
pub(super) struct Finds {
    /// Width and height of the upright frame.
    pub size: (u32, u32),
    /// What was found, in its pixels.
    pub detections: Vec<Detection>,
}

/// A detector and the certainty below which it does not count.
pub(super) struct Looker {
    min_score: f32,
    detector: Detector,
}

enum Detector {
    Person(Box<dyn PersonDetector>),
    Face {
        recogniser: Box<dyn FaceRecogniser>,
        /// Whether anybody is enrolled; else saying "unknown" of everybody would say nothing.
        knows_anybody: bool,
    },
    Motion {
        detector: Box<MotionDetector>,
        reduction: u32,
    },
}

impl Looker {
    /// Looks for people.
    pub fn person(settings: &Settings, min_score: Option<f32>) -> anyhow::Result<Self> {
        let min_score = min_score.unwrap_or(settings.detectors.person.min_score);
        let hog = HogSettings { min_score, ..HogSettings::default() };
        let detector = HogPersonDetector::new(hog).context("the people detector cannot be made")?;
        Ok(Self { min_score, detector: Detector::Person(Box::new(detector)) })
    }

    /// Looks for faces, and compares them with those enrolled in the data folder.
    pub fn face(settings: &Settings, min_score: Option<f32>) -> anyhow::Result<Self> {
        let min_score = min_score.unwrap_or(settings.detectors.face.min_score);
        let mut recogniser = gallery::recogniser()?;
        let knows_anybody = gallery::teach(recogniser.as_mut(), &settings.data_dir)?;
        Ok(Self { min_score, detector: Detector::Face { recogniser, knows_anybody } })
    }

    /// Looks for motion.
    pub fn motion(settings: &Settings, min_score: Option<f32>) -> anyhow::Result<Self> {
        let own = &settings.motion;
        let motion = MotionSettings {
            min_difference: f32::from(own.threshold),
            min_area: own.min_area_share,
            absorb_after: own.learning,
            ..MotionSettings::default()
        };
        let detector = MotionDetector::new(motion).context("the motion detector cannot be made")?;
        let reduction = own.reduction.divisor();
        let detector = Detector::Motion { detector: Box::new(detector), reduction };
        Ok(Self { min_score: min_score.unwrap_or(0.0), detector })
    }

    /// Forgets what earlier frames showed: another camera follows.
    pub fn begin_anew(&mut self) {
        if let Detector::Motion { detector, .. } = &mut self.detector {
            detector.reset();
        }
    }

    /// Looks at one frame; `at` is its time, which only motion needs.
    pub fn look(&mut self, pixels: &Pixels, at: Duration) -> anyhow::Result<Finds> {
        let mut finds = match &mut self.detector {
            Detector::Person(detector) => {
                let shown = pixels.image(detector.wish())?;
                let found = detector.detect(&shown.image).map_err(|error| anyhow!(error))?;
                shown.finds(found)
            }
            Detector::Face { recogniser, knows_anybody } => {
                let shown = pixels.image(recogniser.wish())?;
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
            Detector::Motion { detector, reduction } => {
                let plane = pixels.plane(*reduction)?;
                let report = detector.observe(&plane, MonoTime::default().after(at))?;
                // A tenth of the picture in motion is as certain as it gets.
                let score = report.share * 10.0;
                let moving = report.moving.into_iter();
                Finds {
                    size: plane.original_size(),
                    detections: moving.map(|bbox| Detection::new("motion", score, bbox)).collect(),
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
        Finds { size: self.size, detections }
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
