//! What person-detection-retail-0013 and face-detection-retail-0004 share: a plain resize in front and rows of a
//! finished SSD list behind. Both stem from OpenVINO's Open Model Zoo and have suppression within the graph.

use meerkat_base::Image;

use super::nms::{Found, within};
use super::resample::{Canvas, Crop, Resampler};

/// Values per row: image, label, score, left, top, right, bottom, the corners as shares of the picture.
pub const ROW: usize = 7;
/// The only label of both networks: a person, a face.
pub const LABEL: usize = 1;

/// Writes the picture, stretched to `input` (width, height), as (3, height, width): blue, green, red, 0..=255.
///
/// # Panics
/// When `out` does not have that size, which the network's loader has checked.
pub fn prepare(resampler: &mut Resampler, image: &Image, input: (usize, usize), out: &mut [f32]) {
    resampler.planes(image, Crop::whole(image), &Canvas::filled(input.0, input.1), out);
}

/// Reads the rows of one picture of `picture` (width, height) pixels: (1, 1, rows, 7). A row with a negative image
/// number ends the list. Boxes are cut at the picture's edges; rows with anything that is no number, with another
/// label than [`LABEL`] or below `min_score` are left out. Best first.
pub fn decode(rows: &[f32], picture: (u32, u32), min_score: f32) -> Vec<Found> {
    let (width, height) = (picture.0 as f32, picture.1 as f32);
    let mut found: Vec<Found> = rows
        .as_chunks::<ROW>()
        .0
        .iter()
        .take_while(|row| row[0] >= 0.0)
        .filter(|row| row[1] == LABEL as f32 && row[2] >= min_score && row[2].is_finite())
        .filter_map(|&[_, _, score, left, top, right, bottom]| {
            let bbox = within([left * width, top * height, right * width, bottom * height], picture)?;
            Some(Found { class: LABEL, score: score.clamp(0.0, 1.0), bbox })
        })
        .collect();
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    found
}

#[cfg(test)]
mod tests {
    use meerkat_base::Rect;
    use proptest::prelude::*;

    use super::*;
    use crate::networks::testing::{odd_number, sound};

    #[test]
    fn rows_become_boxes() {
        let rows = [
            [0.0, 1.0, 0.9, 0.25, 0.5, 0.5, 1.0],
            [0.0, 2.0, 0.9, 0.1, 0.1, 0.2, 0.2],   // another label
            [0.0, 1.0, 0.3, 0.1, 0.1, 0.2, 0.2],   // too weak
            [0.0, 1.0, 0.5, -0.5, -0.1, 0.5, 2.0], // beyond the edges
            [-1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],  // the end
            [0.0, 1.0, 0.9, 0.1, 0.1, 0.2, 0.2],
        ];
        let found = decode(rows.as_flattened(), (200, 100), 0.4);
        assert_eq!(
            found,
            [
                Found { class: 1, score: 0.9, bbox: Rect::new(50.0, 50.0, 50.0, 50.0) },
                Found { class: 1, score: 0.5, bbox: Rect::new(0.0, 0.0, 100.0, 100.0) },
            ]
        );
        assert_eq!(decode(&[], (200, 100), 0.4), []);
        assert_eq!(decode(&rows[0][..6], (200, 100), 0.4), []);
    }

    proptest! {
        #[test]
        fn anything_gives_sound_boxes(
            rows in proptest::collection::vec(odd_number(), 0..70), width in 1u32..5000, height in 1u32..5000,
        ) {
            for found in decode(&rows, (width, height), 0.1) {
                prop_assert!(sound(&found.bbox, found.score, (width, height)), "{found:?}");
            }
        }
    }
}
