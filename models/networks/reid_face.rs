//! face-reidentification-retail-0095 (Open Model Zoo): 256 numbers that tell faces apart, from a face that was turned
//! and scaled so that its five points lie on a template.

use meerkat_base::{Image, Point};

use super::warp::{self, Similarity};

/// Width and height of the input.
pub const SIDE: usize = 128;
/// Values of the output.
pub const VALUES: usize = 256;

/// Where the five points belong, as shares of the crop: left eye, right eye, nose, left and right corner of the mouth.
const TEMPLATE: [(f32, f32); 5] =
    [(0.3156, 0.4616), (0.6827, 0.4616), (0.5003, 0.6405), (0.3495, 0.8247), (0.6534, 0.8247)];

/// The transform that brings the points of a face nearest to the template. `None` when they coincide or are not
/// finite.
pub fn alignment(points: &[Point; 5]) -> Option<Similarity> {
    let side = SIDE as f32;
    Similarity::between(points, &TEMPLATE.map(|(x, y)| Point { x: x * side, y: y * side }))
}

/// Writes the aligned face as (3, 128, 128): blue, green, red, 0..=255, black beyond the picture.
pub fn prepare(image: &Image, alignment: &Similarity, out: &mut [f32]) {
    warp::planes(image, alignment, SIDE, SIDE, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_come_to_lie_on_the_template() {
        // A face twice as large as the template, turned by a quarter.
        let turned = TEMPLATE.map(|(x, y)| Point { x: 500.0 - 256.0 * y, y: 20.0 + 256.0 * x });
        let found = alignment(&turned).unwrap();
        assert!((found.scale() - 0.5).abs() < 1e-5);
        for (point, (x, y)) in turned.into_iter().zip(TEMPLATE) {
            let there = found.apply(point);
            assert!((there.x - 128.0 * x).abs() < 1e-3 && (there.y - 128.0 * y).abs() < 1e-3, "{there:?}");
        }
        assert_eq!(alignment(&[Point { x: 1.0, y: 1.0 }; 5]), None);
    }
}
