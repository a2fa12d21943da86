//! person-reidentification-retail-0277 (Open Model Zoo): 256 numbers that tell whole persons apart by their look, to
//! find someone again on another camera the same day.

use meerkat_base::Image;

use super::resample::{Canvas, Crop, Resampler};

/// Width of the input.
pub const WIDTH: usize = 128;
/// Height of the input.
pub const HEIGHT: usize = 256;
/// Values of the output.
pub const VALUES: usize = 256;

/// Writes the crop of a person, stretched, as (3, 256, 128): blue, green, red, 0..=255.
///
/// # Panics
/// When `out` does not have that size.
pub fn prepare(resampler: &mut Resampler, image: &Image, crop: Crop, out: &mut [f32]) {
    resampler.planes(image, crop, &Canvas::filled(WIDTH, HEIGHT), out);
}

#[cfg(test)]
mod tests {
    use meerkat_base::PixelFormat;

    use super::*;
    use crate::networks::testing::noise;

    #[test]
    fn a_person_is_stretched_to_the_input() {
        let image = Image::new(1, 2, PixelFormat::Gray8, vec![40, 90]).unwrap();
        let mut out = vec![f32::NAN; 3 * WIDTH * HEIGHT];
        prepare(&mut Resampler::default(), &image, Crop::whole(&image), &mut out);
        assert_eq!((out[0], out[WIDTH * HEIGHT - 1]), (40.0, 90.0));
        let image = noise(300, 2, PixelFormat::Bgr8, 1);
        prepare(&mut Resampler::default(), &image, Crop::whole(&image), &mut out);
        assert!(out.iter().all(|value| (0.0..=255.0).contains(value)));
    }
}
