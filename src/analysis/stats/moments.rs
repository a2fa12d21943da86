//! Count, mean and the second and third central moments of numbers that arrive in blocks: each block is summed in two
//! passes, and blocks are merged by the formulas of Chan, Golub and LeVeque (1979) and Pébay (SAND2008-6212).

/// Moments of the numbers seen so far. Not-a-number must be left out by the caller; an infinite number makes mean and
/// moments not-a-number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moments {
    /// How many numbers.
    pub count: u64,
    /// A number near them. The mean is kept as a distance from it, so that it is as fine as the spread of the numbers and
    /// not as coarse as their size.
    origin: f64,
    offset: f64,
    /// Sum of the squares of the distances from the mean.
    pub m2: f64,
    /// Sum of the cubes of the distances from the mean.
    pub m3: f64,
    /// The smallest; infinite for none.
    pub min: f64,
    /// The largest; negative infinite for none.
    pub max: f64,
}

impl Default for Moments {
    fn default() -> Self {
        Self {
            count: 0,
            origin: 0.0,
            offset: 0.0,
            m2: 0.0,
            m3: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
        }
    }
}

fn float(count: u64) -> f64 {
    count as f64
}

impl Moments {
    /// Of one block, with their mean kept as a distance from `origin`: any of the numbers, the same for all blocks.
    pub fn of(origin: f64, values: impl Iterator<Item = f64> + Clone) -> Self {
        let Some(first) = values.clone().next() else { return Self::default() };
        let mut moments = Self { origin, ..Self::default() };
        let mut distances = 0.0;
        for value in values.clone() {
            moments.count += 1;
            // From the first one, so that equal numbers have exactly themselves as their mean.
            distances += value - first;
            moments.min = moments.min.min(value);
            moments.max = moments.max.max(value);
        }
        moments.offset = (first - origin) + distances / float(moments.count);
        for value in values {
            let distance = (value - origin) - moments.offset;
            let square = distance * distance;
            moments.m2 += square;
            moments.m3 += square * distance;
        }
        moments
    }

    /// Of the same number several times.
    pub fn constant(value: f64, count: u64) -> Self {
        if count == 0 {
            return Self::default();
        }
        Self { count, origin: value, min: value, max: value, ..Self::default() }
    }

    /// Adds what another one saw.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *other;
            return;
        }
        let (a, b) = (float(self.count), float(other.count));
        let n = a + b;
        let apart = (other.origin - self.origin) + (other.offset - self.offset);
        self.m3 += other.m3
            + apart * apart * apart * a * b * (a - b) / (n * n)
            + 3.0 * apart * (a * other.m2 - b * self.m2) / n;
        self.m2 += other.m2 + apart * apart * a * b / n;
        self.offset += apart * b / n;
        self.count += other.count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// The mean; 0 for none.
    pub fn mean(&self) -> f64 {
        self.origin + self.offset
    }

    /// Standard deviation of the sample (divided by n - 1), as pandas' `std`; not-a-number below two numbers.
    pub fn deviation(&self) -> f64 {
        if self.count < 2 { f64::NAN } else { (self.m2 / float(self.count - 1)).sqrt() }
    }

    /// The adjusted Fisher-Pearson coefficient G1, as pandas' `skew`; not-a-number below three numbers, and where all are
    /// equal.
    pub fn skewness(&self) -> f64 {
        let n = float(self.count);
        if self.count < 3 || self.m2 == 0.0 {
            return f64::NAN;
        }
        n * (n - 1.0).sqrt() / (n - 2.0) * (self.m3 / self.m2.powf(1.5))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definitions, in two passes over everything.
    fn naive(values: &[f64]) -> (f64, f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let moment = |power| values.iter().map(|value| (value - mean).powi(power)).sum::<f64>();
        (mean, moment(2), moment(3))
    }

    fn close(a: f64, b: f64, scale: f64) -> bool {
        (a - b).abs() <= 1e-9 * scale.max(1.0)
    }

    proptest! {
        #[test]
        fn blocks_add_up_to_the_whole(
            values in prop::collection::vec(-1e3..1e3_f64, 3..300),
            shift in prop::sample::select(vec![0.0, 1e6]),
            size in 1_usize..50,
        ) {
            let values: Vec<f64> = values.iter().map(|value| value + shift).collect();
            let mut moments = Moments::default();
            for block in values.chunks(size) {
                moments.merge(&Moments::of(values[0], block.iter().copied()));
            }
            let (mean, m2, m3) = naive(&values);
            prop_assert!(close(moments.mean(), mean, mean.abs()));
            prop_assert!(close(moments.m2, m2, m2));
            prop_assert!(close(moments.m3, m3, m2.powf(1.5)));
        }
    }

    #[test]
    fn equal_numbers_have_no_spread_and_no_skewness() {
        let mut moments = Moments::of(0.1, [0.1; 7].into_iter());
        moments.merge(&Moments::of(0.1, [0.1; 5].into_iter()));
        moments.merge(&Moments::constant(0.1, 9));
        assert_eq!((moments.count, moments.mean(), moments.m2), (21, 0.1, 0.0));
        assert!(moments.skewness().is_nan());
    }

    #[test]
    fn large_numbers_close_together_keep_their_skewness() {
        let values: Vec<f64> = (0..3000).map(|n| 1e9 + f64::from(n % 50 * (n % 7)) / 64.0).collect();
        let mut moments = Moments::default();
        for block in values.chunks(100) {
            moments.merge(&Moments::of(values[0], block.iter().copied()));
        }
        // The same without the large part, exactly.
        let small: Vec<f64> = values.iter().map(|value| value - 1e9).collect();
        let (_, m2, m3) = naive(&small);
        let n = 3000.0_f64;
        let skewness = n * (n - 1.0).sqrt() / (n - 2.0) * m3 / m2.powf(1.5);
        assert!((moments.skewness() - skewness).abs() < 1e-12, "{} {skewness}", moments.skewness());
    }

    #[test]
    fn known_figures() {
        // pandas.Series([1, 1, 2]).skew(), .std()
        let moments = Moments::of(1.0, [1.0, 1.0, 2.0].into_iter());
        assert!(close(moments.skewness(), 1.732_050_807_568_877_2, 1.0));
        assert!(close(moments.deviation(), 0.577_350_269_189_625_7, 1.0));
        assert!(Moments::of(1.0, [1.0, 2.0].into_iter()).skewness().is_nan());
        assert!(Moments::of(1.0, [1.0, f64::INFINITY, 2.0].into_iter()).skewness().is_nan());
    }
}
