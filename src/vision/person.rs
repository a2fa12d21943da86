//! The people detector that needs no download: histograms of oriented gradients with the linear SVM whose
//! coefficients come with OpenCV (Dalal and Triggs, CVPR 2005). Finds upright people seen from about eye
//! level to a few metres up, and not much else.

use meerkat_base::{
    Detection, DetectorError, DetectorInfo, Image, ImageWish, PersonDetector, PixelFormat, Rect,
};
use opencv::core::{Mat, MatTraitConst, Size, Vector};
use opencv::imgproc;
use opencv::objdetect::{HOGDescriptor, HOGDescriptorTrait, HOGDescriptorTraitConst};

use crate::{VisionError, mat};

const NAME: &str = "hog-default-people";
/// Weights are distances from the SVM's plane; below this nothing is worth looking at.
const HIT_WEIGHT: f64 = 0.0;
/// The weight that becomes a score of a half, and how steeply scores rise around it. Chosen on videos with people
/// and without: from here on, traffic hardly ever passes for a person.
const EVEN_WEIGHT: f32 = 0.45;
const STEEPNESS: f32 = 3.5;
/// Boxes that overlap more than this (intersection over union) show the same person.
const SAME_IOU: f32 = 0.45;
/// … and so does a box of which more than this lies in a better one.
const SAME_INSIDE: f32 = 0.7;
/// The window was trained with a margin: this share of its width and height is the person.
const PERSON_WIDTH: f32 = 0.55;
const PERSON_HEIGHT: f32 = 0.75;

/// What counts as a person, and how large the picture is that people are looked for in.
#[derive(Debug, Clone, PartialEq)]
pub struct HogSettings {
    /// Detections with a lower score, 0..=1, are left out.
    pub min_score: f32,
    /// Pictures are brought to this width before the search; smaller ones are enlarged, since nobody less
    /// than about 96 pixels tall is found. The time taken grows with its square.
    pub width: u32,
    /// Each size that is searched is this many times smaller than the one before; more than 1.
    pub scale_step: f64,
}

impl Default for HogSettings {
    fn default() -> Self {
        Self { min_score: 0.5, width: 960, scale_step: 1.1 }
    }
}

/// Finds people with OpenCV's HOG detector.
pub struct HogPersonDetector {
    settings: HogSettings,
    hog: HOGDescriptor,
}

impl HogPersonDetector {
    /// Loads the coefficients that come with OpenCV.
    pub fn new(settings: HogSettings) -> Result<Self, VisionError> {
        crate::init();
        let mut hog = HOGDescriptor::default()?;
        hog.set_svm_detector_input_array(&HOGDescriptor::get_default_people_detector()?)?;
        Ok(Self { settings, hog })
    }

    /// The weights (distances from the SVM's plane) and boxes before anything is left out, in pixels of `image`.
    fn search(&self, image: &Image) -> Result<Vec<(f64, Rect)>, VisionError> {
        let source = mat::borrow(image)?;
        let width = self.settings.width.clamp(64, 4096);
        let scale = f64::from(image.width()) / f64::from(width);
        let height = (f64::from(image.height()) / scale).round().clamp(1.0, 8192.0) as u32;
        let mut sized = Mat::default();
        let how = if scale >= 1.0 { imgproc::INTER_AREA } else { imgproc::INTER_LINEAR };
        imgproc::resize(&source, &mut sized, mat::size(width, height)?, 0.0, 0.0, how)?;
        if sized.cols() < 64 || sized.rows() < 128 {
            return Ok(Vec::new());
        }
        let (mut boxes, mut weights) = (Vector::new(), Vector::new());
        self.hog.detect_multi_scale_weights(
            &sized,
            &mut boxes,
            &mut weights,
            HIT_WEIGHT,
            Size::new(8, 8),
            Size::new(8, 8),
            self.settings.scale_step.clamp(1.01, 2.0),
            0.0,
            false,
        )?;
        let boxed = |r: opencv::core::Rect| {
            Rect::new(r.x as f32, r.y as f32, r.width as f32, r.height as f32).scaled(scale as f32)
        };
        Ok(weights.iter().zip(boxes.iter().map(boxed)).collect())
    }
}

impl PersonDetector for HogPersonDetector {
    fn info(&self) -> DetectorInfo {
        DetectorInfo { name: NAME.into(), backend: "classic", device: "cpu".into() }
    }

    fn wish(&self) -> ImageWish {
        // Colour finds nobody more and costs more to decode.
        ImageWish { format: PixelFormat::Gray8, enough_width: self.settings.width }
    }

    fn detect(&mut self, image: &Image) -> Result<Vec<Detection>, DetectorError> {
        let hits = self
            .search(image)
            .map_err(|error| DetectorError { detector: NAME.into(), reason: error.to_string() })?;
        let whole = Rect::new(0.0, 0.0, image.width() as f32, image.height() as f32);
        let people = merged(hits).into_iter().map(|(weight, window)| {
            Detection::new("person", score_of(weight), clipped(person_in(&window), &whole))
        });
        Ok(people.filter(|p| p.score >= self.settings.min_score && p.bbox.area() > 0.0).collect())
    }
}

fn score_of(weight: f32) -> f32 {
    1.0 / (1.0 + (-STEEPNESS * (weight - EVEN_WEIGHT)).exp())
}

/// The person in the middle of a window.
fn person_in(window: &Rect) -> Rect {
    Rect::new(
        window.x + window.width * (1.0 - PERSON_WIDTH) / 2.0,
        window.y + window.height * (1.0 - PERSON_HEIGHT) / 2.0,
        window.width * PERSON_WIDTH,
        window.height * PERSON_HEIGHT,
    )
}

fn clipped(rect: Rect, whole: &Rect) -> Rect {
    let (left, top) = (rect.x.max(0.0), rect.y.max(0.0));
    let right = (rect.x + rect.width).min(whole.width);
    let bottom = (rect.y + rect.height).min(whole.height);
    Rect::new(left, top, right - left, bottom - top)
}

/// One window for each person, best first: the mean of the windows that show the same one, weighted, with the
/// weight of the best. A weight that is no number counts for nothing.
fn merged(hits: Vec<(f64, Rect)>) -> Vec<(f32, Rect)> {
    let mut hits: Vec<(f32, Rect)> =
        hits.into_iter().map(|(w, r)| (w as f32, r)).filter(|h| h.0 > HIT_WEIGHT as f32).collect();
    hits.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut people: Vec<(f32, Rect)> = Vec::new();
    while let Some(&(weight, best)) = hits.first() {
        let (mut x, mut y, mut width, mut height, mut sum) = (0.0, 0.0, 0.0, 0.0, 0.0);
        hits.retain(|(w, r)| {
            // The best itself always goes, even where an empty box makes its own overlap 0.
            let same = r == &best || best.iou(r) > SAME_IOU;
            if same {
                x += w * r.x;
                y += w * r.y;
                width += w * r.width;
                height += w * r.height;
                sum += w;
            }
            !same
        });
        let mean = Rect::new(x / sum, y / sum, width / sum, height / sum);
        let inside = |other: &Rect| {
            let smaller = mean.area().min(other.area()).max(1.0);
            person_in(&mean).intersection(&person_in(other))
                > SAME_INSIDE * smaller * PERSON_WIDTH * PERSON_HEIGHT
        };
        if !people.iter().any(|(_, other)| inside(other)) {
            people.push((weight, mean));
        }
    }
    people
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{gray, picture};

    fn window(x: f32, y: f32, height: f32) -> Rect {
        Rect::new(x, y, height / 2.0, height)
    }

    #[test]
    fn windows_on_one_person_become_one() {
        let hits = vec![
            (0.9, window(100.0, 50.0, 200.0)),
            (1.4, window(104.0, 52.0, 210.0)),
            (0.5, window(110.0, 60.0, 100.0)),
            (f64::NAN, window(0.0, 0.0, 128.0)),
            (0.7, window(400.0, 50.0, 128.0)),
            (-0.2, window(300.0, 50.0, 128.0)),
            (0.1, Rect::new(9.0, 9.0, 0.0, 0.0)),
        ];
        let people = merged(hits);
        assert_eq!(people[0].0, 1.4);
        assert!(people[0].1.x > 100.0 && people[0].1.x < 104.0);
        assert_eq!(people[1].0, 0.7);
    }

    #[test]
    fn scores_rise_with_the_weight() {
        assert!((score_of(EVEN_WEIGHT) - 0.5).abs() < 1e-6);
        assert!(score_of(2.0) > 0.98 && score_of(0.0) < 0.2);
        let person = person_in(&window(0.0, 0.0, 128.0));
        assert_eq!(person.center(), window(0.0, 0.0, 128.0).center());
        let cut = clipped(Rect::new(-5.0, 90.0, 20.0, 20.0), &Rect::new(0.0, 0.0, 100.0, 100.0));
        assert_eq!(cut, Rect::new(0.0, 90.0, 15.0, 10.0));
    }

    #[test]
    fn pictures_without_people_have_none() {
        let mut detector = HogPersonDetector::new(HogSettings::default()).unwrap();
        assert_eq!(detector.info().backend, "classic");
        assert_eq!(detector.wish().format, PixelFormat::Gray8);
        for image in
            [gray(320, 240, 128), picture(320, 240), gray(1, 1, 0), gray(2000, 3, 9), gray(3, 2000, 9)]
        {
            assert_eq!(detector.detect(&image).unwrap(), []);
        }
    }
}
