//! A sample of rows of fixed size, each row with the same chance (Vitter's algorithm R), the same for the same file.

/// Where the random numbers begin.
pub const SEED: u64 = 0x6d65_6572_6b61_7431;

/// Rows that were drawn.
#[derive(Debug)]
pub struct Sample {
    rows: Vec<Vec<f64>>,
    capacity: usize,
    seen: u64,
    random: SplitMix,
}

impl Sample {
    /// Keeps at most so many rows.
    pub fn new(capacity: usize) -> Self {
        Self { rows: Vec::new(), capacity, seen: 0, random: SplitMix(SEED) }
    }

    /// Offers a row.
    pub fn offer(&mut self, row: &[f64]) {
        self.seen += 1;
        if self.rows.len() < self.capacity {
            self.rows.push(row.to_vec());
            return;
        }
        // The remainder favours small numbers by less than one in 10^11 at 10^8 rows.
        let place = self.random.next() % self.seen;
        if let Some(kept) = usize::try_from(place).ok().and_then(|place| self.rows.get_mut(place)) {
            kept.copy_from_slice(row);
        }
    }

    /// The rows that were drawn, in no order.
    pub fn rows(&self) -> &[Vec<f64>] {
        &self.rows
    }

    /// How many rows were offered.
    pub fn seen(&self) -> u64 {
        self.seen
    }
}

/// The generator of Steele, Lea and Flood (2014).
#[derive(Debug)]
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_even_and_always_the_same() {
        let draw = || {
            let mut sample = Sample::new(1000);
            (0..100_000).for_each(|n| sample.offer(&[f64::from(n)]));
            sample
        };
        let (one, two) = (draw(), draw());
        assert_eq!(one.rows(), two.rows());
        assert_eq!((one.rows().len(), one.seen()), (1000, 100_000));
        let mean = one.rows().iter().map(|row| row[0]).sum::<f64>() / 1000.0;
        // The mean of 1,000 even draws strays by 913.
        assert!((mean - 50_000.0).abs() < 4000.0, "{mean}");
        let early = one.rows().iter().filter(|row| row[0] < 10_000.0).count();
        assert!((60..=140).contains(&early), "{early}");
    }

    #[test]
    fn few_rows_are_all_kept() {
        let mut sample = Sample::new(3);
        sample.offer(&[1.0]);
        sample.offer(&[2.0]);
        assert_eq!(sample.rows(), [[1.0], [2.0]]);
    }
}
