//! Columns against each other: histograms on the diagonal, scatter above it, density below.

use super::colour::{BLACK, BLUE, GREY, PALE, rising};
use super::drawing::{Drawing, Hold, Mark, along, edges};
use super::font::fitted;

const SIDE: u32 = 900;
const BINS: usize = 20;
/// Dots over all panes, so that the file does not grow with the square of the columns.
const DOTS: usize = 20_000;
const LABEL: f64 = 13.0;

/// One column with its values; row n of each column belongs together. What is not finite is not drawn.
pub struct Axis {
    /// Its name.
    pub name: String,
    /// Its values.
    pub values: Vec<f64>,
}

impl Axis {
    /// The range of the finite values, never empty.
    fn range(&self) -> (f64, f64) {
        let finite = self.values.iter().copied().filter(|value| value.is_finite());
        let low = finite.clone().fold(f64::INFINITY, f64::min);
        let high = finite.fold(f64::NEG_INFINITY, f64::max);
        if low > high {
            return (0.0, 1.0);
        }
        if high > low && (high - low).is_finite() { (low, high) } else { (low - 0.5, low + 0.5) }
    }

    /// Each value as a share of the range; none for what is not finite.
    fn shares(&self) -> Vec<Option<f64>> {
        let (low, high) = self.range();
        let share = |value: &f64| value.is_finite().then(|| ((value - low) / (high - low)).clamp(0.0, 1.0));
        self.values.iter().map(share).collect()
    }
}

/// Draws the grid.
pub fn pair_grid(title: &str, note: &str, axes: &[Axis]) -> Drawing {
    let mut drawing = Drawing::new("pair_grid", (SIDE, SIDE));
    drawing.title(title, note);
    let shares: Vec<Vec<Option<f64>>> = axes.iter().map(Axis::shares).collect();
    let (xs, ys) = (edges(34, 888, axes.len()), edges(62, 866, axes.len()));
    let panes = (axes.len() * axes.len().saturating_sub(1) / 2).max(1);
    let dots = (DOTS / panes).clamp(100, 1000);
    for row in 0..axes.len() {
        for column in 0..axes.len() {
            let pane = [xs[column] + 2, ys[row] + 2, xs[column + 1] - 2, ys[row + 1] - 2];
            let (x, y) = (&shares[column], &shares[row]);
            match row.cmp(&column) {
                std::cmp::Ordering::Equal => histogram(&mut drawing, pane, x),
                std::cmp::Ordering::Less => scatter(&mut drawing, pane, x, y, dots),
                std::cmp::Ordering::Greater => density(&mut drawing, pane, x, y, axes.len()),
            }
            drawing.put(Mark::Outline(pane, PALE));
        }
    }
    for (n, axis) in axes.iter().enumerate() {
        let room = f64::from(xs[n + 1] - xs[n] - 6);
        let at = [i32::midpoint(xs[n], xs[n + 1]), 880];
        drawing.text(at, Hold::Middle, LABEL, BLACK, fitted(&axis.name, LABEL, room));
        let room = f64::from(ys[n + 1] - ys[n] - 6);
        let name = fitted(&axis.name, LABEL, room);
        drawing.text([18, ys[n + 1] - 4], Hold::Upwards, LABEL, BLACK, name);
    }
    drawing
}

fn histogram(drawing: &mut Drawing, pane: [i32; 4], shares: &[Option<f64>]) {
    let mut counts = [0_u32; BINS];
    for share in shares.iter().flatten() {
        counts[bin(*share, BINS)] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or_default();
    if most == 0 {
        return nothing(drawing, pane);
    }
    let xs = edges(pane[0], pane[2], BINS);
    for (n, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let top = along(pane[3], pane[1] + 4, f64::from(*count) / f64::from(most));
        drawing.put(Mark::Fill([xs[n], top.min(pane[3] - 1), xs[n + 1], pane[3]], BLUE));
    }
}

fn both<'a>(x: &'a [Option<f64>], y: &'a [Option<f64>]) -> impl Iterator<Item = (f64, f64)> + Clone + 'a {
    x.iter().zip(y).filter_map(|(x, y)| Some(((*x)?, (*y)?)))
}

fn scatter(drawing: &mut Drawing, pane: [i32; 4], x: &[Option<f64>], y: &[Option<f64>], dots: usize) {
    let radius = if pane[2] - pane[0] > 150 { 2 } else { 1 };
    if both(x, y).next().is_none() {
        return nothing(drawing, pane);
    }
    for (x, y) in both(x, y).take(dots) {
        let at = [along(pane[0] + 4, pane[2] - 4, x), along(pane[3] - 4, pane[1] + 4, y)];
        drawing.put(Mark::Dot(at, radius, BLUE));
    }
}

/// Counts on a coarse grid, smoothed, as colours.
fn density(drawing: &mut Drawing, pane: [i32; 4], x: &[Option<f64>], y: &[Option<f64>], columns: usize) {
    let cells = if columns > 6 { 14 } else { 24 };
    let mut counts = vec![0.0; cells * cells];
    for (x, y) in both(x, y) {
        counts[bin(1.0 - y, cells) * cells + bin(x, cells)] += 1.0;
    }
    let smooth = smoothed(&smoothed(&counts, cells, 1, cells), cells, cells, 1);
    let most = smooth.iter().copied().fold(0.0, f64::max);
    if most == 0.0 {
        return nothing(drawing, pane);
    }
    let (xs, ys) = (edges(pane[0], pane[2], cells), edges(pane[1], pane[3], cells));
    for row in 0..cells {
        for column in 0..cells {
            let share = smooth[row * cells + column] / most;
            // Paler than anybody sees.
            if share > 0.02 {
                let corners = [xs[column], ys[row], xs[column + 1], ys[row + 1]];
                drawing.put(Mark::Fill(corners, rising(share)));
            }
        }
    }
}

/// Smooths lines of a square with a bell of five cells.
fn smoothed(values: &[f64], cells: usize, along: usize, across: usize) -> Vec<f64> {
    const BELL: [f64; 5] = [0.06, 0.24, 0.4, 0.24, 0.06];
    let mut out = vec![0.0; values.len()];
    for line in 0..cells {
        for place in 0..cells {
            let mut sum = 0.0;
            for (n, weight) in BELL.iter().enumerate() {
                if let Some(from) = (place + n).checked_sub(2).filter(|from| *from < cells) {
                    sum += weight * values[line * across + from * along];
                }
            }
            out[line * across + place * along] = sum;
        }
    }
    out
}

fn nothing(drawing: &mut Drawing, pane: [i32; 4]) {
    let at = [i32::midpoint(pane[0], pane[2]), i32::midpoint(pane[1], pane[3])];
    drawing.text(at, Hold::Middle, LABEL, GREY, "–");
}

fn bin(share: f64, bins: usize) -> usize {
    let bin = (share.clamp(0.0, 1.0) * bins as f64) as usize;
    bin.min(bins - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(values: &[f64]) -> Axis {
        Axis { name: "x".to_owned(), values: values.to_vec() }
    }

    #[test]
    fn strange_values_are_left_out() {
        let shares = axis(&[f64::NAN, 1.0, f64::INFINITY, 3.0, 2.0]).shares();
        assert_eq!(shares, [None, Some(0.0), None, Some(1.0), Some(0.5)]);
        assert_eq!(axis(&[7.0, 7.0]).shares(), [Some(0.5), Some(0.5)]);
        assert_eq!(axis(&[-1e308, 1e308]).range(), (-1e308 - 0.5, -1e308 + 0.5));
        for values in [&[][..], &[f64::NAN], &[f64::INFINITY, 1.0], &[1e308, -1e308, 0.0]] {
            let drawing = pair_grid("t", "n", &[axis(values), axis(values)]);
            assert!(!drawing.marks().is_empty());
        }
    }

    #[test]
    fn smoothing_keeps_the_middle_the_highest() {
        let mut values = vec![0.0; 49];
        values[3 * 7 + 3] = 1.0;
        let smooth = smoothed(&smoothed(&values, 7, 1, 7), 7, 7, 1);
        assert!((smooth[24] - 0.16).abs() < 1e-12 && (smooth.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert_eq!([bin(0.0, 4), bin(0.5, 4), bin(1.0, 4), bin(f64::NAN, 4)], [0, 2, 3, 0]);
    }

    #[test]
    fn many_columns_and_rows_stay_a_small_drawing() {
        let values: Vec<f64> = (0..1000).map(|n| f64::from(n * 7919 % 1000)).collect();
        let axes: Vec<Axis> = (0..12).map(|_| axis(&values)).collect();
        let drawing = pair_grid("t", "n", &axes);
        assert!(drawing.marks().len() < 45_000, "{}", drawing.marks().len());
    }
}
