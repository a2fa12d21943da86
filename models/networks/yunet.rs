//! YuNet (Wu, Peng, Yu: Machine Intelligence Research 20, 2023), sizes n and s: faces with five points. Zero padding
//! in front; anchor-free decoding and suppression behind. The input may have any multiple of 32 as width and height.

use meerkat_base::{Image, Point};

use super::face::Face;
use super::nms::{suppress, within};
use super::resample::{Canvas, Crop, Resampler};

/// Pixels of the input per cell of the three grids.
pub const STRIDES: [usize; 3] = [8, 16, 32];
/// Names of the outputs at each stride: class, objectness, box, points; such as `cls_8`.
pub const HEADS: [&str; 4] = ["cls", "obj", "bbox", "kps"];
/// No more faces than this are given for one picture.
const MOST_FACES: usize = 500;

/// Which faces count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Least root of class times objectness, 0..=1.
    pub min_score: f32,
    /// Boxes that overlap more than this (intersection over union) are the same face.
    pub overlap: f32,
}

/// What the network says at one stride, one row per cell: class (1), objectness (1), box (4), points (10).
#[derive(Debug, Clone, Copy)]
pub struct Level<'a> {
    /// Class, one value per cell.
    pub class: &'a [f32],
    /// Objectness, one value per cell.
    pub object: &'a [f32],
    /// Offset of the centre in cells, logarithm of width and height in cells.
    pub bbox: &'a [f32],
    /// Five offsets in cells: eyes, nose, corners of the mouth.
    pub points: &'a [f32],
}

/// Writes the picture into (3, height, width), blue, green, red, 0..=255, at the top left; a picture that is too
/// large is reduced, none is enlarged. Returns pixels of the input per pixel of the picture, at most 1.
///
/// # Panics
/// When `out` does not have the size of `input`, which the network's loader has checked.
pub fn prepare(resampler: &mut Resampler, image: &Image, input: (usize, usize), out: &mut [f32]) -> f32 {
    let picture = (image.width() as usize, image.height() as usize);
    let (canvas, scale) = Canvas::letterbox(input, picture, 1.0, 0.0);
    resampler.planes(image, Crop::whole(image), &canvas, out);
    scale
}

/// Reads the three levels (in the order of [`STRIDES`]) of one picture of `picture` (width, height) pixels that was
/// scaled by `scale`. Best first; boxes are cut at the picture's edges; what is no number is left out.
pub fn decode(
    levels: &[Level<'_>; 3],
    input: (usize, usize),
    scale: f32,
    picture: (u32, u32),
    settings: &Settings,
) -> Vec<Face> {
    let mut faces = Vec::new();
    for (level, stride) in levels.iter().zip(STRIDES) {
        let columns = (input.0 / stride).max(1);
        let boxes = level.bbox.as_chunks::<4>().0;
        let points = level.points.as_chunks::<10>().0;
        let rows = level
            .class
            .iter()
            .zip(level.object)
            .zip(boxes.iter().zip(points))
            .take(columns * (input.1 / stride));
        for (cell, ((&class, &object), (bbox, points))) in rows.enumerate() {
            let score = (class.clamp(0.0, 1.0) * object.clamp(0.0, 1.0)).sqrt();
            // NaN does not pass.
            let passes = score >= settings.min_score;
            if !passes {
                continue;
            }
            let unit = stride as f32 / scale;
            let (column, line) = ((cell % columns) as f32, (cell / columns) as f32);
            let (x, y) = ((bbox[0] + column) * unit, (bbox[1] + line) * unit);
            let (half_width, half_height) = (bbox[2].exp() * unit / 2.0, bbox[3].exp() * unit / 2.0);
            let corners = [x - half_width, y - half_height, x + half_width, y + half_height];
            let Some(bbox) = within(corners, picture) else { continue };
            let points: [Point; 5] = std::array::from_fn(|n| Point {
                x: (points[2 * n] + column) * unit,
                y: (points[2 * n + 1] + line) * unit,
            });
            if points.iter().all(|p| p.x.is_finite() && p.y.is_finite()) {
                faces.push(Face { bbox, score, points });
            }
        }
    }
    suppress(faces, settings.overlap, MOST_FACES)
}

#[cfg(test)]
mod tests {
    use meerkat_base::{PixelFormat, Rect};
    use proptest::prelude::*;

    use super::*;
    use crate::networks::testing::{noise, odd_number, sound};

    const INPUT: (usize, usize) = (64, 32);
    const SETTINGS: Settings = Settings { min_score: 0.5, overlap: 0.3 };

    /// Values of all levels, so that tests can change them.
    struct Outputs([[Vec<f32>; 4]; 3]);

    impl Outputs {
        fn silent() -> Self {
            Self(STRIDES.map(|stride| {
                let cells = (INPUT.0 / stride) * (INPUT.1 / stride);
                [1, 1, 4, 10].map(|values| vec![0.0; cells * values])
            }))
        }

        fn loud(mut self, level: usize, cell: usize, score: f32, bbox: [f32; 4], points: [f32; 10]) -> Self {
            let [class, object, boxes, all] = &mut self.0[level];
            (class[cell], object[cell]) = (score, score);
            boxes[4 * cell..4 * cell + 4].copy_from_slice(&bbox);
            all[10 * cell..10 * cell + 10].copy_from_slice(&points);
            self
        }

        fn decode(&self, scale: f32, picture: (u32, u32)) -> Vec<Face> {
            let levels =
                self.0.each_ref().map(|[class, object, bbox, points]| Level { class, object, bbox, points });
            decode(&levels, INPUT, scale, picture, &SETTINGS)
        }
    }

    #[test]
    fn a_cell_becomes_a_face() {
        let points = [0.0, 0.5, 1.0, 0.5, 0.5, 1.0, 0.0, 1.5, 1.0, 1.5];
        // Level of 16 pixels: 4 x 2 cells; cell 6 is column 2, line 1.
        let faces = Outputs::silent().loud(1, 6, 0.9, [0.5, 0.0, 0.0, 0.0], points).decode(0.5, (128, 64));
        assert_eq!(faces.len(), 1);
        assert!((faces[0].score - 0.9).abs() < 1e-6);
        // Centre (2.5, 1) * 32, sides 32.
        assert_eq!(faces[0].bbox, Rect::new(64.0, 16.0, 32.0, 32.0));
        assert_eq!(faces[0].points[0], Point { x: 64.0, y: 48.0 });
        assert_eq!(faces[0].points[4], Point { x: 96.0, y: 80.0 });
    }

    #[test]
    fn one_face_seen_by_two_levels_is_one() {
        let outputs = Outputs::silent().loud(0, 9, 0.7, [0.5, 0.5, 1.0, 1.0], [0.0; 10]).loud(
            1,
            0,
            0.9,
            [0.75, 0.75, 0.3, 0.3],
            [0.0; 10],
        );
        let faces = outputs.decode(1.0, (64, 32));
        assert_eq!(faces.len(), 1);
        assert!((faces[0].score - 0.9).abs() < 1e-6);
    }

    #[test]
    fn no_picture_is_enlarged() {
        let mut out = vec![f32::NAN; 3 * 64 * 32];
        assert_eq!(
            prepare(&mut Resampler::default(), &noise(16, 8, PixelFormat::Bgr8, 1), INPUT, &mut out),
            1.0
        );
        assert!(out[16..64].iter().chain(&out[8 * 64..32 * 64]).all(|&value| value == 0.0));
        assert_eq!(
            prepare(&mut Resampler::default(), &noise(16, 64, PixelFormat::Bgr8, 1), INPUT, &mut out),
            0.5
        );
    }

    proptest! {
        #[test]
        fn anything_gives_sound_faces(
            class in proptest::collection::vec(odd_number(), 0..50),
            bbox in proptest::collection::vec(odd_number(), 0..200),
            points in proptest::collection::vec(odd_number(), 0..500),
            width in 1u32..3000, height in 1u32..3000,
        ) {
            let level = Level { class: &class, object: &class, bbox: &bbox, points: &points };
            let settings = Settings { min_score: 0.1, overlap: 0.3 };
            for face in decode(&[level; 3], INPUT, 0.3, (width, height), &settings) {
                prop_assert!(sound(&face.bbox, face.score, (width, height)), "{face:?}");
                prop_assert!(face.points.iter().all(|p| p.x.is_finite() && p.y.is_finite()));
            }
        }
    }
}
