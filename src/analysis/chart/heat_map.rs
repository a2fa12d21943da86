//! A matrix as colours, with names along two sides.

use super::colour::{BLACK, GREY, diverging, readable_on, rising};
use super::drawing::{Drawing, Hold, LABEL, Mark, along, edges};
use super::font::{fitted, width_px};

/// What the colours mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// From -1 to 1.
    Correlation,
    /// From 0 to the largest.
    Count,
}

/// What is to be drawn.
pub struct HeatMap<'a> {
    /// Name of the drawing.
    pub name: &'a str,
    /// Its title.
    pub title: &'a str,
    /// The line below.
    pub note: &'a str,
    /// Names of the rows, from the top.
    pub rows: &'a [String],
    /// Names of the columns, from the left.
    pub columns: &'a [String],
    /// Row after row.
    pub values: &'a [Vec<f64>],
    /// What the colours mean.
    pub scale: Scale,
    /// Width and height, px.
    pub size_px: (u32, u32),
}

const TOP: i32 = 62;
/// Room for the longest name, px.
const MOST_LABEL: f64 = 130.0;
const LEGEND: i32 = 80;
const LEGEND_STEPS: i32 = 64;

/// Draws a matrix.
pub fn heat_map(map: &HeatMap<'_>) -> Drawing {
    let mut drawing = Drawing::new(map.name, map.size_px);
    drawing.title(map.title, map.note);
    let (width, height) = (px(map.size_px.0), px(map.size_px.1));
    let (rows, columns) = (map.rows.len(), map.columns.len());
    let label = |names: &[String]| {
        let longest = names.iter().map(|name| width_px(&fitted(name, LABEL, MOST_LABEL), LABEL));
        along(0, 200, longest.fold(0.0, f64::max) / 200.0) + 14
    };
    let turned = columns > 0 && {
        let room =
            f64::from(width - LEGEND - label(map.rows)) / f64::from(u32::try_from(columns).unwrap_or(1));
        map.columns.iter().any(|name| width_px(name, LABEL) + 4.0 > room)
    };
    let left = label(map.rows);
    let bottom = height - if turned { label(map.columns) } else { 28 };
    let (xs, ys) = (edges(left, width - LEGEND, columns), edges(TOP, bottom, rows));
    let top_value = match map.scale {
        Scale::Correlation => 1.0,
        Scale::Count => map.values.iter().flatten().copied().fold(0.0, f64::max),
    };
    let colour = |value: f64| match map.scale {
        Scale::Correlation => diverging(value),
        Scale::Count if top_value > 0.0 => rising(value / top_value),
        Scale::Count => rising(0.0),
    };
    let cell_px = (xs.get(1).map_or(0, |x| x - left), ys.get(1).map_or(0, |y| y - TOP));
    for (row, values) in map.values.iter().enumerate() {
        for (column, value) in values.iter().enumerate() {
            let own = colour(*value);
            drawing.put(Mark::Fill([xs[column], ys[row], xs[column + 1], ys[row + 1]], own));
            let text = match map.scale {
                Scale::Correlation if value.is_nan() => "–".to_owned(),
                // Adding nothing turns a rounded -0.00 into 0.00.
                Scale::Correlation => format!("{:.2}", (value * 100.0).round() / 100.0 + 0.0),
                Scale::Count if *value == 0.0 => String::new(),
                Scale::Count => format!("{value}"),
            };
            let size = 13.0;
            if width_px(&text, size) + 4.0 <= f64::from(cell_px.0) && cell_px.1 >= 15 {
                let at = [i32::midpoint(xs[column], xs[column + 1]), i32::midpoint(ys[row], ys[row + 1])];
                drawing.text(at, Hold::Middle, size, readable_on(own), text);
            }
        }
    }
    // Where names are closer than lines of text, only every so many is written.
    let every = |cell_px: i32| usize::try_from(13 / cell_px.max(1) + 1).unwrap_or(1);
    for (row, name) in map.rows.iter().enumerate().step_by(every(cell_px.1)) {
        let at = [left - 6, i32::midpoint(ys[row], ys[row + 1])];
        drawing.text(at, Hold::Right, LABEL, BLACK, fitted(name, LABEL, MOST_LABEL));
    }
    let step = if turned { every(cell_px.0) } else { 1 };
    for (column, name) in map.columns.iter().enumerate().step_by(step) {
        let x = i32::midpoint(xs[column], xs[column + 1]);
        if turned {
            drawing.text([x, bottom + 6], Hold::UpwardsTo, LABEL, BLACK, fitted(name, LABEL, MOST_LABEL));
        } else {
            drawing.text([x, bottom + 14], Hold::Middle, LABEL, BLACK, name.clone());
        }
    }
    legend(&mut drawing, map.scale, top_value, [width - LEGEND + 20, TOP, width - LEGEND + 36, bottom]);
    drawing
}

fn legend(drawing: &mut Drawing, scale: Scale, top_value: f64, [left, top, right, bottom]: [i32; 4]) {
    let steps = edges(top, bottom, usize::try_from(LEGEND_STEPS).unwrap_or(1));
    for (step, pair) in steps.windows(2).enumerate() {
        let share = 1.0 - f64::from(u32::try_from(step).unwrap_or_default()) / f64::from(LEGEND_STEPS - 1);
        let colour = match scale {
            Scale::Correlation => diverging(share * 2.0 - 1.0),
            Scale::Count => rising(share),
        };
        drawing.put(Mark::Fill([left, pair[0], right, pair[1]], colour));
    }
    drawing.put(Mark::Outline([left, top, right, bottom], GREY));
    let ends = match scale {
        Scale::Correlation => {
            [("1".to_owned(), top), ("0".to_owned(), i32::midpoint(top, bottom)), ("-1".to_owned(), bottom)]
                .to_vec()
        }
        Scale::Count => [(format!("{top_value}"), top), ("0".to_owned(), bottom)].to_vec(),
    };
    for (text, y) in ends {
        drawing.text([right + 5, y], Hold::Left, 13.0, GREY, text);
    }
}

/// A size of a sheet as a place on it.
pub fn px(size: u32) -> i32 {
    i32::try_from(size).unwrap_or(i32::MAX)
}
