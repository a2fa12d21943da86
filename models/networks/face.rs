//! A face as the finders give it and as everything behind them takes it: a box and five points.

use meerkat_base::{Point, Rect};

use super::nms::Candidate;

/// A face in a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Face {
    /// Where it is, in pixels of the picture, within it.
    pub bbox: Rect,
    /// Certainty that it is a face, 0..=1.
    pub score: f32,
    /// Left eye, right eye, tip of the nose, left and right corner of the mouth, as seen in the picture; in its
    /// pixels, finite, not always within it.
    pub points: [Point; 5],
}

impl Candidate for Face {
    fn bbox(&self) -> &Rect {
        &self.bbox
    }

    fn score(&self) -> f32 {
        self.score
    }

    fn class(&self) -> usize {
        0
    }
}

/// Puts the largest face first.
pub fn largest_first(faces: &mut [Face]) {
    faces.sort_by(|a, b| b.bbox.area().total_cmp(&a.bbox.area()));
}
