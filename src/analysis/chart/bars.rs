//! Bars: lying ones with a name each, and standing ones for a row of days.

use super::colour::{BLACK, BLUE, GREY, PALE, RED};
use super::drawing::{Drawing, Hold, LABEL, Mark, along};
use super::font::{fitted, width_px};
use super::heat_map::px;

/// One bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// What it stands for.
    pub name: String,
    /// How long it is; negative ones are red and go to the other side.
    pub value: f64,
    /// The value in words, at its end.
    pub shown: String,
}

const WIDTH: u32 = 820;
const TOP: i32 = 66;
const BAR: i32 = 18;
const GAP: i32 = 8;
const MOST_LABEL: f64 = 200.0;

/// Lying bars, from the top.
pub fn bars(name: &str, title: &str, note: &str, bars: &[Bar]) -> Drawing {
    let height = TOP + px(u32::try_from(bars.len()).unwrap_or_default()) * (BAR + GAP) + 34;
    let mut drawing = Drawing::new(name, (WIDTH, height.unsigned_abs().max(240)));
    drawing.title(title, note);
    let longest =
        bars.iter().map(|bar| width_px(&fitted(&bar.name, LABEL, MOST_LABEL), LABEL)).fold(0.0, f64::max);
    let (left, right) = (along(0, 400, longest / 400.0) + 20, px(WIDTH) - 80);
    let finite = bars.iter().map(|bar| bar.value).filter(|value| value.is_finite());
    let low = finite.clone().fold(0.0, f64::min);
    let high = finite.fold(0.0, f64::max);
    let span = if high > low { high - low } else { 1.0 };
    let x_of = |value: f64| along(left + if low < 0.0 { 50 } else { 0 }, right, (value - low) / span);
    let bottom = TOP + px(u32::try_from(bars.len()).unwrap_or_default()) * (BAR + GAP);
    for tick in ticks(low, high) {
        let x = x_of(tick);
        drawing.put(Mark::Line([x, TOP - 4, x, bottom], PALE));
        drawing.text([x, bottom + 14], Hold::Middle, 13.0, GREY, plain(tick));
    }
    let zero = x_of(0.0);
    for (n, bar) in (0_i32..).zip(bars) {
        let top = TOP + n * (BAR + GAP);
        let end = x_of(bar.value);
        let colour = if bar.value < 0.0 { RED } else { BLUE };
        drawing
            .put(Mark::Fill([zero.min(end), top, zero.max(end).max(zero.min(end) + 1), top + BAR], colour));
        let middle = top + BAR / 2;
        drawing.text([left - 8, middle], Hold::Right, LABEL, BLACK, fitted(&bar.name, LABEL, MOST_LABEL));
        let (at, hold) = if bar.value < 0.0 { (end - 5, Hold::Right) } else { (end + 5, Hold::Left) };
        drawing.text([at, middle], hold, 13.0, GREY, bar.shown.clone());
    }
    drawing.put(Mark::Line([zero, TOP - 4, zero, bottom], GREY));
    drawing
}

/// Standing bars, from the left; names where there is room.
pub fn columns(name: &str, title: &str, note: &str, bars: &[Bar]) -> Drawing {
    let mut drawing = Drawing::new(name, (900, 420));
    drawing.title(title, note);
    let (left, right, bottom) = (60, 880, 330);
    // Room for the number above the longest.
    let high = bars.iter().map(|bar| bar.value).fold(0.0, f64::max).max(1.0) * 1.06;
    for tick in ticks(0.0, high) {
        let y = along(bottom, TOP, tick / high);
        drawing.put(Mark::Line([left, y, right, y], PALE));
        drawing.text([left - 6, y], Hold::Right, 13.0, GREY, plain(tick));
    }
    let edges = super::drawing::edges(left, right, bars.len());
    let room = edges.get(1).map_or(1, |edge| edge - left).max(1);
    let every = usize::try_from(17 / room + 1).unwrap_or(1);
    for (n, bar) in bars.iter().enumerate() {
        let (from, to) = (edges[n], edges[n + 1]);
        let gap = room / 6;
        let top = along(bottom, TOP, bar.value / high);
        drawing.put(Mark::Fill([from + gap, top, (to - gap).max(from + gap + 1), bottom], BLUE));
        if n % every == 0 {
            drawing.text(
                [i32::midpoint(from, to), bottom + 6],
                Hold::UpwardsTo,
                13.0,
                BLACK,
                fitted(&bar.name, 13.0, 80.0),
            );
        }
        if room >= 24 && bar.value > 0.0 {
            drawing.text([i32::midpoint(from, to), top - 8], Hold::Middle, 13.0, GREY, bar.shown.clone());
        }
    }
    drawing.put(Mark::Line([left, bottom, right, bottom], GREY));
    drawing
}

/// Round numbers over a range, at most some six.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let span = high - low;
    if span <= 0.0 || !span.is_finite() {
        return vec![0.0];
    }
    let rough = span / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(power * 10.0);
    let mut ticks = Vec::new();
    let mut n = (low / step).ceil();
    while n * step <= high + step * 1e-9 && ticks.len() < 16 {
        ticks.push(n * step);
        n += 1.0;
    }
    ticks
}

/// A tick without digits that rounding left.
fn plain(value: f64) -> String {
    let text = format!("{value:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" || text.is_empty() { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within() {
        assert_eq!(ticks(0.0, 10.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(-1.0, 3.0), [-1.0, 0.0, 1.0, 2.0, 3.0]);
        assert_eq!(ticks(0.0, 0.0), [0.0]);
        assert_eq!(ticks(0.0, f64::INFINITY), [0.0]);
        assert!(ticks(1e-300, 1e300).len() <= 16);
        assert_eq!([plain(0.30000000000000004), plain(-0.0), plain(20.0)], ["0.3", "0", "20"]);
    }
}
