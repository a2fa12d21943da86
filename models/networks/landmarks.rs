//! landmarks-regression-retail-0009 (Open Model Zoo): the five points of a face that a finder without points found.

use meerkat_base::{Image, Point};

use super::resample::{Canvas, Crop, Resampler};

/// Width and height of the input.
pub const SIDE: usize = 48;
/// Values of the output.
pub const VALUES: usize = 10;

/// Writes the tight crop of a face, stretched, as (3, 48, 48): blue, green, red, 0..=255.
///
/// # Panics
/// When `out` does not have that size.
pub fn prepare(resampler: &mut Resampler, image: &Image, crop: Crop, out: &mut [f32]) {
    resampler.planes(image, crop, &Canvas::filled(SIDE, SIDE), out);
}

/// The points in pixels of the picture the crop belongs to: left eye, right eye, nose, left and right corner of the
/// mouth, as seen in the picture. `None` when there are not ten finite numbers.
pub fn decode(output: &[f32], crop: Crop) -> Option<[Point; 5]> {
    let shares: &[f32; VALUES] = output.first_chunk()?;
    if !shares.iter().all(|share| share.is_finite()) {
        return None;
    }
    // The network's own range is 0..1; what lies far beyond it is no face.
    let share = |n: usize| shares[n].clamp(-1.0, 2.0);
    let (left, top) = crop.corner();
    Some(std::array::from_fn(|n| Point {
        x: left as f32 + share(2 * n) * crop.width() as f32,
        y: top as f32 + share(2 * n + 1) * crop.height() as f32,
    }))
}

#[cfg(test)]
mod tests {
    use meerkat_base::{PixelFormat, Rect};

    use super::*;
    use crate::networks::testing::noise;

    #[test]
    fn shares_of_the_crop_become_pixels_of_the_picture() {
        let image = noise(100, 80, PixelFormat::Gray8, 1);
        let crop = Crop::of(&Rect::new(20.0, 10.0, 40.0, 60.0), &image);
        let points = decode(&[0.25, 0.5, 0.75, 0.5, 0.5, 0.6, 0.3, 0.8, 0.7, 1.0], crop).unwrap();
        assert_eq!(points[0], Point { x: 30.0, y: 40.0 });
        assert_eq!(points[4], Point { x: 48.0, y: 70.0 });
    }

    #[test]
    fn what_is_no_number_is_no_face() {
        let crop = Crop::whole(&noise(10, 10, PixelFormat::Gray8, 1));
        assert_eq!(decode(&[0.5; 9], crop), None);
        for odd in [f32::NAN, f32::INFINITY] {
            let mut values = [0.5; 10];
            values[7] = odd;
            assert_eq!(decode(&values, crop), None);
        }
        assert!(decode(&[f32::MAX; 10], crop).unwrap().iter().all(|p| p.x == 20.0));
    }
}
