//! The most frequent number of a column, the smallest of them if there are several, as pandas' `mode()[0]`. Exact up to
//! a number of distinct values; beyond, counts are kept as by Misra and Gries (1982): a number that makes up more than
//! one part in `distinct` of the column is never missed.

use std::collections::HashMap;

/// Counts numbers.
#[derive(Debug)]
pub struct ModeCounter {
    counts: HashMap<u64, u64>,
    distinct: usize,
    smallest: Option<f64>,
    exact: bool,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mode {
    /// The number.
    pub value: f64,
    /// Whether every distinct number was counted.
    pub exact: bool,
}

impl ModeCounter {
    /// Counts at most so many distinct numbers.
    pub fn new(distinct: usize) -> Self {
        Self { counts: HashMap::new(), distinct: distinct.max(1), smallest: None, exact: true }
    }

    /// Counts a number; not-a-number is none.
    pub fn add(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        // Both zeros are one number.
        let value = if value == 0.0 { 0.0 } else { value };
        self.smallest = Some(self.smallest.map_or(value, |smallest| smallest.min(value)));
        if let Some(count) = self.counts.get_mut(&value.to_bits()) {
            *count += 1;
        } else if self.counts.len() < self.distinct {
            self.counts.insert(value.to_bits(), 1);
        } else {
            self.exact = false;
            self.counts.retain(|_, count| {
                *count -= 1;
                *count > 0
            });
        }
    }

    /// The most frequent number; none when there were none.
    pub fn mode(&self) -> Option<Mode> {
        let mut best: Option<(u64, f64)> = None;
        for (bits, count) in &self.counts {
            let value = f64::from_bits(*bits);
            let better = match best {
                None => true,
                Some((most, smallest)) => *count > most || (*count == most && value < smallest),
            };
            if better {
                best = Some((*count, value));
            }
        }
        let value = match best {
            Some((_, value)) => value,
            // All counts went up against each other: none stands out.
            None => self.smallest?,
        };
        Some(Mode { value, exact: self.exact })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(values: &[f64], distinct: usize) -> Option<(f64, bool)> {
        let mut counter = ModeCounter::new(distinct);
        values.iter().for_each(|value| counter.add(*value));
        counter.mode().map(|mode| (mode.value, mode.exact))
    }

    #[test]
    fn the_smallest_of_the_most_frequent() {
        assert_eq!(mode(&[3.0, 1.0, 3.0, 1.0, 2.0, f64::NAN], 9), Some((1.0, true)));
        assert_eq!(mode(&[5.0, 4.0, 6.0], 9), Some((4.0, true)));
        assert_eq!(mode(&[0.0, -0.0, 1.0], 9), Some((0.0, true)));
        assert_eq!(mode(&[f64::NAN], 9), None);
    }

    #[test]
    fn what_is_frequent_is_not_missed_among_very_many() {
        let mut values: Vec<f64> = (0..10_000).map(f64::from).collect();
        values.extend([-7.0; 1500]);
        values.extend((20_000..21_000).map(f64::from));
        assert_eq!(mode(&values, 16), Some((-7.0, false)));
        assert_eq!(mode(&[4.0, 3.0, 5.0], 2).map(|(_, exact)| exact), Some(false));
    }
}
