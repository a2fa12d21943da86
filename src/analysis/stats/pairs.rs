//! Pearson's correlation of every pair of columns, over the rows in which both have a finite number, as pandas' `corr`.
//! Blocks are summed about their own means and merged.

use super::block::Block;

/// What is kept of one pair.
#[derive(Debug, Clone, Copy, Default)]
struct Pair {
    count: f64,
    mean_x: f64,
    mean_y: f64,
    xx: f64,
    yy: f64,
    xy: f64,
}

impl Pair {
    fn merge(&mut self, other: &Self) {
        if other.count == 0.0 {
            return;
        }
        let n = self.count + other.count;
        let (apart_x, apart_y) = (other.mean_x - self.mean_x, other.mean_y - self.mean_y);
        let weight = self.count * other.count / n;
        self.xx += other.xx + apart_x * apart_x * weight;
        self.yy += other.yy + apart_y * apart_y * weight;
        self.xy += other.xy + apart_x * apart_y * weight;
        self.mean_x += apart_x * other.count / n;
        self.mean_y += apart_y * other.count / n;
        self.count = n;
    }

    /// Of two columns of which some numbers are missing.
    fn of_both(x: &[f64], y: &[f64]) -> Self {
        let both = || x.iter().zip(y).filter(|(x, y)| x.is_finite() && y.is_finite());
        let Some((first_x, first_y)) = both().next() else { return Self::default() };
        let (mut count, mut sum_x, mut sum_y) = (0.0, 0.0, 0.0);
        for (x, y) in both() {
            count += 1.0;
            sum_x += x - first_x;
            sum_y += y - first_y;
        }
        let mut pair = Self {
            count,
            mean_x: first_x + sum_x / count,
            mean_y: first_y + sum_y / count,
            ..Self::default()
        };
        for (x, y) in both() {
            let (x, y) = (x - pair.mean_x, y - pair.mean_y);
            pair.xx += x * x;
            pair.yy += y * y;
            pair.xy += x * y;
        }
        pair
    }

    fn correlation(&self) -> f64 {
        let scale = (self.xx * self.yy).sqrt();
        if self.count < 1.0 || scale == 0.0 { f64::NAN } else { (self.xy / scale).clamp(-1.0, 1.0) }
    }
}

/// The correlations of all pairs of columns, as far as they are known.
#[derive(Debug)]
pub struct Pairs {
    columns: usize,
    /// Row after row of the triangle on and above the diagonal.
    pairs: Vec<Pair>,
    /// Distances from the mean of the block, of columns in which nothing is missing.
    centred: Vec<Vec<f64>>,
}

/// A column of a block in which every number is finite.
#[derive(Clone, Copy)]
struct Complete {
    mean: f64,
    squares: f64,
}

impl Pairs {
    /// Of so many columns.
    pub fn new(columns: usize) -> Self {
        let pairs = vec![Pair::default(); columns * (columns + 1) / 2];
        Self { columns, pairs, centred: vec![Vec::new(); columns] }
    }

    /// Takes the rows of a block.
    pub fn add(&mut self, block: &Block) {
        let rows = block.rows() as f64;
        if rows == 0.0 {
            return;
        }
        let complete: Vec<Option<Complete>> = (0..self.columns)
            .map(|column| {
                let values = block.column(column);
                if !values.iter().all(|value| value.is_finite()) {
                    return None;
                }
                let first = values[0];
                let mean = first + values.iter().map(|value| value - first).sum::<f64>() / rows;
                let centred = &mut self.centred[column];
                centred.clear();
                centred.extend(values.iter().map(|value| value - mean));
                Some(Complete { mean, squares: product(centred, centred) })
            })
            .collect();
        let mut at = 0;
        for x in 0..self.columns {
            for y in x..self.columns {
                let pair = match (complete[x], complete[y]) {
                    (Some(own), Some(other)) => Pair {
                        count: rows,
                        mean_x: own.mean,
                        mean_y: other.mean,
                        xx: own.squares,
                        yy: other.squares,
                        xy: if x == y { own.squares } else { product(&self.centred[x], &self.centred[y]) },
                    },
                    _ => Pair::of_both(block.column(x), block.column(y)),
                };
                self.pairs[at].merge(&pair);
                at += 1;
            }
        }
    }

    /// The whole matrix, row after row; not-a-number where a column does not vary or has no numbers.
    pub fn matrix(&self) -> Vec<Vec<f64>> {
        let mut matrix = vec![vec![f64::NAN; self.columns]; self.columns];
        let places = (0..self.columns).flat_map(|x| (x..self.columns).map(move |y| (x, y)));
        for ((x, y), pair) in places.zip(&self.pairs) {
            let correlation = pair.correlation();
            (matrix[x][y], matrix[y][x]) = (correlation, correlation);
        }
        matrix
    }
}

/// The sum of products, in lanes that the processor can take side by side.
fn product(x: &[f64], y: &[f64]) -> f64 {
    const LANES: usize = 8;
    let mut lanes = [0.0; LANES];
    let (mut xs, mut ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    for (x, y) in xs.by_ref().zip(ys.by_ref()) {
        for lane in 0..LANES {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    let rest: f64 = xs.remainder().iter().zip(ys.remainder()).map(|(x, y)| x * y).sum();
    lanes.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(rows: &[[f64; 3]], a: usize, b: usize) -> f64 {
        let both: Vec<_> = rows.iter().filter(|row| row[a].is_finite() && row[b].is_finite()).collect();
        let n = both.len() as f64;
        let mean = |column: usize| both.iter().map(|row| row[column]).sum::<f64>() / n;
        let (ma, mb) = (mean(a), mean(b));
        let sum = |x: usize, mx: f64, y: usize, my: f64| -> f64 {
            both.iter().map(|row| (row[x] - mx) * (row[y] - my)).sum()
        };
        sum(a, ma, b, mb) / (sum(a, ma, a, ma) * sum(b, mb, b, mb)).sqrt()
    }

    proptest! {
        #[test]
        fn blocks_give_what_two_passes_give(
            rows in prop::collection::vec(prop::array::uniform3(
                prop_oneof![8 => -100.0..100.0_f64, 1 => Just(f64::NAN), 1 => Just(f64::INFINITY)]), 4..200),
            size in 1_usize..40,
        ) {
            let mut pairs = Pairs::new(3);
            for part in rows.chunks(size) {
                let mut block = Block::new(3, size);
                part.iter().for_each(|row| block.push(row));
                pairs.add(&block);
            }
            let matrix = pairs.matrix();
            for (a, row) in matrix.iter().enumerate() {
                for (b, &own) in row.iter().enumerate() {
                    let expected = naive(&rows, a, b);
                    prop_assert!((own - expected).abs() < 1e-9 || (!expected.is_finite() && own.is_nan()),
                        "{} {}", own, expected);
                }
            }
        }
    }

    #[test]
    fn columns_without_spread_have_no_correlation() {
        let mut block = Block::new(2, 8);
        (0..5).for_each(|n| block.push(&[0.1, f64::from(n)]));
        let mut pairs = Pairs::new(2);
        pairs.add(&block);
        pairs.add(&block);
        let matrix = pairs.matrix();
        assert!(matrix[0][1].is_nan() && matrix[0][0].is_nan());
        assert_eq!(matrix[1][1], 1.0);
    }
}
