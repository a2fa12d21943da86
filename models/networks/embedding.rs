//! What embedding networks give: a direction. Only the angle between two of them means anything.

/// Scales to length 1. `None` when that cannot be: a value is not finite, or all are 0.
pub fn normalised(values: &[f32]) -> Option<Vec<f32>> {
    let square: f64 = values.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    let length = square.sqrt();
    // f32 squared cannot overflow f64: not finite here means not finite there.
    if !(length.is_finite() && length > 0.0) {
        return None;
    }
    Some(values.iter().map(|&value| (f64::from(value) / length) as f32).collect())
}

/// Cosine of the angle between two embeddings of length 1: 1 for the same direction, about 0 for strangers.
/// Embeddings of different sizes have nothing in common: 0.
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() {
        return 0.0;
    }
    // Sixteen sums side by side, so that the compiler can use vectors.
    let (a, b) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    let mut sums = [0.0f32; 16];
    for (a, b) in a.0.iter().zip(b.0) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f32 = a.1.iter().zip(b.1).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_becomes_one() {
        assert_eq!(normalised(&[3.0, -4.0]), Some(vec![0.6, -0.8]));
        let tiny = normalised(&[1e-38, 0.0]).unwrap();
        assert_eq!(tiny, [1.0, 0.0]);
        assert_eq!(normalised(&[f32::MAX, f32::MAX]).unwrap()[0], std::f32::consts::FRAC_1_SQRT_2);
    }

    #[test]
    fn nothing_and_no_number_have_no_direction() {
        for values in [&[][..], &[0.0, 0.0], &[1.0, f32::NAN], &[f32::INFINITY, 1.0]] {
            assert_eq!(normalised(values), None);
        }
    }

    #[test]
    fn the_cosine_is_that_of_the_angle() {
        let a: Vec<f32> = (0..37).map(|n| (n as f32 * 0.7).sin()).collect();
        let b: Vec<f32> = (0..37).map(|n| (n as f32 * 0.3).cos()).collect();
        let (a, b) = (normalised(&a).unwrap(), normalised(&b).unwrap());
        let plain: f64 = a.iter().zip(&b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        assert!((f64::from(cosine(&a, &b)) - plain).abs() < 1e-6);
        assert!((cosine(&a, &a) - 1.0).abs() < 1e-6);
        assert_eq!(cosine(&a, &b[1..]), 0.0);
    }
}
