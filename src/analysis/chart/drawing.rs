//! A drawing as a list of marks on a sheet of fixed size: charts make it, backends paint it.

use super::colour::{BLACK, GREY, Rgb};
use super::font::{chosen, fitted};

/// Where a text is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Middle of the left edge.
    Left,
    /// Middle of the right edge.
    Right,
    /// The middle.
    Middle,
    /// Middle of the left edge, and the text runs upwards.
    Upwards,
    /// Middle of the right edge, and the text runs upwards to it.
    UpwardsTo,
    /// The corner at the top left.
    Corner,
}

/// One thing on the sheet; all numbers are px of the sheet.
#[derive(Debug, Clone, PartialEq)]
pub enum Mark {
    /// A filled box: left, top, right, bottom.
    Fill([i32; 4], Rgb),
    /// The outline of a box.
    Outline([i32; 4], Rgb),
    /// A line.
    Line([i32; 4], Rgb),
    /// A filled circle: centre, radius.
    Dot([i32; 2], i32, Rgb),
    /// A filled polygon.
    Polygon(Vec<(i32, i32)>, Rgb),
    /// A line of text.
    Text {
        /// Where it is held.
        at: [i32; 2],
        /// By what.
        hold: Hold,
        /// Its height, px.
        size: f64,
        /// Its colour.
        colour: Rgb,
        /// The text.
        text: String,
    },
}

/// A chart that can be rendered.
#[derive(Debug, Clone)]
pub struct Drawing {
    name: String,
    size_px: (u32, u32),
    marks: Vec<Mark>,
}

/// Height of ordinary labels, px.
pub const LABEL: f64 = 15.0;

const TITLE: f64 = 21.0;
const NOTE: f64 = 14.0;

impl Drawing {
    pub(super) fn new(name: impl Into<String>, size_px: (u32, u32)) -> Self {
        Self { name: name.into(), size_px, marks: Vec::new() }
    }

    /// A sheet that only says something.
    pub(super) fn saying(name: &str, title: &str, words: &str) -> Self {
        let mut drawing = Self::new(name, (640, 360));
        drawing.title(title, "");
        drawing.text([320, 190], Hold::Middle, 18.0, GREY, words);
        drawing
    }

    /// What it shows, as a file may be called: letters, digits, `_` and `-`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Width and height, px.
    pub fn size_px(&self) -> (u32, u32) {
        self.size_px
    }

    pub(super) fn marks(&self) -> &[Mark] {
        &self.marks
    }

    pub(super) fn put(&mut self, mark: Mark) {
        self.marks.push(mark);
    }

    pub(super) fn text(&mut self, at: [i32; 2], hold: Hold, size: f64, colour: Rgb, text: impl Into<String>) {
        self.marks.push(Mark::Text { at, hold, size, colour, text: text.into() });
    }

    /// A title, and a smaller line below it that says how it came about.
    pub(super) fn title(&mut self, title: &str, note: &str) {
        let room = f64::from(self.size_px.0) - 30.0;
        self.text([15, 22], Hold::Left, TITLE, BLACK, fitted(title, TITLE, room));
        self.text([15, 44], Hold::Left, NOTE, GREY, fitted(note, NOTE, room));
    }

    /// The first character that pictures cannot show, because the font has none; nothing where there is no font at all.
    pub fn lacking(&self) -> Option<char> {
        let font = chosen()?;
        let texts = self.marks.iter().filter_map(|mark| match mark {
            Mark::Text { text, .. } => Some(text),
            _ => None,
        });
        texts.flat_map(|text| text.chars()).find(|c| !font.shows(*c))
    }

    /// Says what to install when pictures of this drawing would lack characters or cannot be drawn at all.
    pub fn advice(&self) -> Option<String> {
        let Some(font) = chosen() else { return Some(crate::DrawError::NoFont.to_string()) };
        let lacking = self.lacking()?;
        Some(format!(
            "{} has no sign for {lacking:?}, which is left empty on pictures; install fonts-noto-cjk or fonts-wqy-zenhei",
            font.path().display()
        ))
    }
}

/// Cuts a length into equal parts; the edges between them.
pub fn edges(from: i32, to: i32, parts: usize) -> Vec<i32> {
    let parts_i64 = i64::try_from(parts).unwrap_or(1).max(1);
    let length = i64::from(to) - i64::from(from);
    (0..=parts_i64).map(|n| from + i32::try_from(length * n / parts_i64).unwrap_or_default()).collect()
}

/// A share of a length, rounded to a whole px.
pub fn along(from: i32, to: i32, share: f64) -> i32 {
    let share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
    let offset = (f64::from(to - from) * share).round() as i32;
    from + offset
}
