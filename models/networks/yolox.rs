//! YOLOX (Ge et al., arXiv:2107.08430), any size of it: letterbox in front; anchor-free decoding and suppression
//! behind. The exported graph gives raw rows; objectness and classes are behind their sigmoid already.

use meerkat_base::Image;

use super::nms::{Found, MOST_CANDIDATES, suppress, within};
use super::resample::{Canvas, Crop, Resampler};

/// Pixels of the input per cell of the three grids.
pub const STRIDES: [usize; 3] = [8, 16, 32];
/// Values of a row before those of the classes: x, y, width, height, objectness.
pub const FIRST_CLASS: usize = 5;
/// The grey around pictures of another aspect ratio, as in training.
const PADDING: f32 = 114.0;

/// Which boxes count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Least product of objectness and class, 0..=1.
    pub min_score: f32,
    /// Boxes of one class that overlap more than this (intersection over union) are the same thing.
    pub overlap: f32,
    /// Only this class; all classes without it.
    pub only: Option<usize>,
}

/// Rows that a network of this input (width, height) gives.
pub fn rows(input: (usize, usize)) -> usize {
    STRIDES.iter().map(|stride| (input.0 / stride) * (input.1 / stride)).sum()
}

/// Writes the picture into (3, height, width), blue, green, red, 0..=255, at the top left, enlarged or reduced to
/// touch an edge. Returns pixels of the input per pixel of the picture.
///
/// # Panics
/// When `out` does not have the size of `input`, which the network's loader has checked.
pub fn prepare(resampler: &mut Resampler, image: &Image, input: (usize, usize), out: &mut [f32]) -> f32 {
    let picture = (image.width() as usize, image.height() as usize);
    let (canvas, scale) = Canvas::letterbox(input, picture, f32::INFINITY, PADDING);
    resampler.planes(image, Crop::whole(image), &canvas, out);
    scale
}

/// Reads the rows (anchors, 5 + `classes`) of one picture of `picture` (width, height) pixels that was scaled by
/// `scale`. Best first; boxes are cut at the picture's edges; what is no number is left out.
pub fn decode(
    output: &[f32],
    classes: usize,
    input: (usize, usize),
    scale: f32,
    picture: (u32, u32),
    settings: &Settings,
) -> Vec<Found> {
    let mut found = Vec::new();
    let mut rows = output.chunks_exact(FIRST_CLASS + classes);
    for stride in STRIDES {
        let (columns, lines) = (input.0 / stride, input.1 / stride);
        for (cell, row) in rows.by_ref().take(columns * lines).enumerate() {
            // NaN does not pass.
            let passes = |score: f32| score >= settings.min_score;
            // No class reaches more than 1, so that most rows end here.
            if !passes(row[4]) {
                continue;
            }
            let Some((class, certainty)) = best_class(&row[FIRST_CLASS..], settings.only) else { continue };
            let score = row[4] * certainty;
            if !passes(score) {
                continue;
            }
            let unit = stride as f32 / scale;
            let x = (row[0] + (cell % columns) as f32) * unit;
            let y = (row[1] + (cell / columns) as f32) * unit;
            let (half_width, half_height) = (row[2].exp() * unit / 2.0, row[3].exp() * unit / 2.0);
            let corners = [x - half_width, y - half_height, x + half_width, y + half_height];
            if let Some(bbox) = within(corners, picture) {
                found.push(Found { class, score: score.clamp(0.0, 1.0), bbox });
            }
        }
    }
    suppress(found, settings.overlap, MOST_CANDIDATES)
}

/// The class that counts and its certainty; `None` where it is no number.
fn best_class(classes: &[f32], only: Option<usize>) -> Option<(usize, f32)> {
    if let Some(class) = only {
        return classes.get(class).map(|&certainty| (class, certainty));
    }
    let certain = classes.iter().copied().enumerate().filter(|(_, certainty)| !certainty.is_nan());
    // The first of equals, as NumPy's argmax.
    certain.reduce(|best, next| if next.1 > best.1 { next } else { best })
}

#[cfg(test)]
mod tests {
    use meerkat_base::{PixelFormat, Rect};
    use proptest::prelude::*;

    use super::*;
    use crate::networks::testing::{noise, odd_number, sound};

    const INPUT: (usize, usize) = (64, 32);
    const SETTINGS: Settings = Settings { min_score: 0.3, overlap: 0.45, only: None };

    /// Rows of two classes, all silent but those given as (row, values).
    fn output(loud: &[(usize, [f32; 7])]) -> Vec<f32> {
        let mut rows = vec![[0.0; 7]; rows(INPUT)];
        for &(row, values) in loud {
            rows[row] = values;
        }
        rows.as_flattened().to_vec()
    }

    #[test]
    fn the_number_of_rows_follows_from_the_input() {
        assert_eq!(rows((416, 416)), 3549);
        assert_eq!(rows((640, 640)), 8400);
        assert_eq!(rows(INPUT), 32 + 8 + 2);
    }

    #[test]
    fn a_row_becomes_a_box() {
        // Row 32 + 5 is column 1, line 1 of the grid of 16 pixels (4 x 2 cells).
        let raw = output(&[(37, [0.5, 0.25, 0.0, (2.0f32).ln(), 0.8, 0.1, 0.5])]);
        let found = decode(&raw, 2, INPUT, 0.5, (128, 64), &SETTINGS);
        // Centre (1.5, 1.25) * 16 / 0.5 = (48, 40), 32 wide, 64 high: the lower edge is cut at 64.
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].class, 1);
        assert!((found[0].score - 0.4).abs() < 1e-6);
        let Rect { x, y, width, height } = found[0].bbox;
        for (got, wanted) in [(x, 32.0), (y, 8.0), (width, 32.0), (height, 56.0)] {
            assert!((got - wanted).abs() < 1e-4, "{:?}", found[0]);
        }
    }

    #[test]
    fn one_class_alone_is_looked_for() {
        let raw = output(&[(3, [0.5, 0.5, 1.0, 1.0, 0.9, 0.5, 0.9])]);
        let only = |class| decode(&raw, 2, INPUT, 1.0, (64, 32), &Settings { only: Some(class), ..SETTINGS });
        assert!((only(0)[0].score - 0.45).abs() < 1e-6);
        assert_eq!(only(0)[0].class, 0);
        assert!((only(1)[0].score - 0.81).abs() < 1e-6);
        assert_eq!(only(2), []);
    }

    #[test]
    fn neighbours_of_one_class_are_one_thing() {
        let raw = output(&[
            (3, [0.5, 0.5, 1.0, 1.0, 0.9, 0.9, 0.0]),
            (4, [-0.4, 0.5, 1.0, 1.0, 0.8, 0.9, 0.0]),
            (5, [-1.4, 0.5, 1.0, 1.0, 0.8, 0.0, 0.9]),
        ]);
        let found = decode(&raw, 2, INPUT, 1.0, (64, 32), &SETTINGS);
        assert_eq!(found.iter().map(|f| f.class).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn the_picture_touches_an_edge_of_the_input() {
        let mut out = vec![f32::NAN; 3 * 64 * 32];
        let scale = prepare(&mut Resampler::default(), &noise(32, 32, PixelFormat::Bgr8, 1), INPUT, &mut out);
        assert_eq!(scale, 1.0);
        assert!(out[32..64].iter().all(|&value| value == PADDING));
        let scale = prepare(&mut Resampler::default(), &noise(16, 2, PixelFormat::Bgr8, 1), INPUT, &mut out);
        assert_eq!(scale, 4.0);
        assert!(out[8 * 64..32 * 64].iter().all(|&value| value == PADDING));
    }

    proptest! {
        #[test]
        fn anything_gives_sound_boxes(
            output in proptest::collection::vec(odd_number(), 0..400),
            width in 1u32..3000, height in 1u32..3000, only in proptest::option::of(0usize..3),
        ) {
            let settings = Settings { min_score: 0.1, overlap: 0.45, only };
            let (_, scale) =
                Canvas::letterbox(INPUT, (width as usize, height as usize), f32::INFINITY, PADDING);
            for found in decode(&output, 2, INPUT, scale, (width, height), &settings) {
                prop_assert!(sound(&found.bbox, found.score, (width, height)), "{found:?}");
            }
        }
    }
}
