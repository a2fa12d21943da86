//! age-gender-recognition-retail-0013 (Open Model Zoo): an estimate of age and sex from a face. Trained on adults and
//! youths of 18 to 75; wrong by seven years on average.

use meerkat_base::Image;
use serde::Serialize;

use super::resample::{Canvas, Crop, Resampler};

/// Width and height of the input.
pub const SIDE: usize = 62;

/// What the network takes a person for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Years, 0..=100.
    pub age_years: f32,
    /// Certainty that it is a woman rather than a man, 0..=1.
    pub female: f32,
}

/// Writes the crop of a face, stretched, as (3, 62, 62): blue, green, red, 0..=255.
///
/// # Panics
/// When `out` does not have that size.
pub fn prepare(resampler: &mut Resampler, image: &Image, crop: Crop, out: &mut [f32]) {
    resampler.planes(image, crop, &Canvas::filled(SIDE, SIDE), out);
}

/// Reads `sex` (female, male) and `age` (a hundredth of the years). `None` when they are not finite numbers.
pub fn decode(sex: &[f32], age: &[f32]) -> Option<Estimate> {
    let (&[female, male], &age) = (sex.first_chunk::<2>()?, age.first()?);
    if !(female.is_finite() && male.is_finite() && age.is_finite()) {
        return None;
    }
    Some(Estimate { age_years: (age * 100.0).clamp(0.0, 100.0), female: female.clamp(0.0, 1.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_years_and_certainty() {
        let estimate = decode(&[0.25, 0.75], &[0.4745]).unwrap();
        assert!((estimate.age_years - 47.45).abs() < 1e-3 && estimate.female == 0.25);
        assert_eq!(decode(&[7.0, 0.0], &[-3.0]), Some(Estimate { age_years: 0.0, female: 1.0 }));
    }

    #[test]
    fn what_is_no_number_is_no_estimate() {
        assert_eq!(decode(&[0.5], &[0.3]), None);
        assert_eq!(decode(&[0.5, 0.5], &[]), None);
        assert_eq!(decode(&[f32::NAN, 0.5], &[0.3]), None);
        assert_eq!(decode(&[0.5, 0.5], &[f32::INFINITY]), None);
    }
}
