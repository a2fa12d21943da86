//! A pie with a list beside it.

use std::f64::consts::TAU;

use super::colour::{BLACK, GREY, nth};
use super::drawing::{Drawing, Hold, LABEL, Mark};
use super::font::fitted;

/// One piece.
pub struct Piece {
    /// What it stands for.
    pub name: String,
    /// How large it is, beside the others.
    pub share: u64,
}

/// Pieces that are shown one by one; the smaller ones are put together.
const PIECES: usize = 11;
const MIDDLE: (f64, f64) = (230.0, 265.0);
const RADIUS: f64 = 175.0;

/// Draws a pie of pieces, the largest first, from the top and to the right.
pub fn pie(name: &str, title: &str, note: &str, mut pieces: Vec<Piece>) -> Drawing {
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.share));
    pieces.retain(|piece| piece.share > 0);
    if pieces.len() > PIECES + 1 {
        let rest = pieces.split_off(PIECES);
        let share = rest.iter().map(|piece| piece.share).sum();
        pieces.push(Piece { name: format!("{} other columns", rest.len()), share });
    }
    let mut drawing = Drawing::new(name, (820, 480));
    drawing.title(title, note);
    let whole: u64 = pieces.iter().map(|piece| piece.share).sum();
    let turn = |share: u64| share as f64 / whole as f64;
    let mut before = 0;
    for (n, piece) in pieces.iter().enumerate() {
        let (from, to) = (turn(before), turn(before + piece.share));
        drawing.put(Mark::Polygon(sector(from, to), nth(n)));
        before += piece.share;
        let y = 90 + i32::try_from(n).unwrap_or_default() * 29;
        drawing.put(Mark::Fill([450, y - 8, 466, y + 8], nth(n)));
        drawing.text([474, y], Hold::Left, LABEL, BLACK, fitted(&piece.name, LABEL, 190.0));
        let share = format!("{} ({:.1} %)", piece.share, turn(piece.share) * 100.0);
        drawing.text([805, y], Hold::Right, LABEL, GREY, share);
    }
    drawing
}

/// The outline of a piece between two shares of the whole turn.
fn sector(from: f64, to: f64) -> Vec<(i32, i32)> {
    let at = |turn: f64| {
        let angle = turn * TAU;
        ((MIDDLE.0 + RADIUS * angle.sin()).round() as i32, (MIDDLE.1 - RADIUS * angle.cos()).round() as i32)
    };
    let steps = ((to - from) * 360.0).ceil().clamp(1.0, 360.0) as u32;
    let mut points = vec![(MIDDLE.0 as i32, MIDDLE.1 as i32)];
    points.extend((0..=steps).map(|step| at(from + (to - from) * f64::from(step) / f64::from(steps))));
    points.dedup();
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_are_put_together_and_nothing_is_lost() {
        let pieces = (0..40).map(|n| Piece { name: format!("c{n}"), share: n }).collect();
        let drawing = pie("missing", "t", "n", pieces);
        let sectors = drawing.marks().iter().filter(|mark| matches!(mark, Mark::Polygon(..))).count();
        assert_eq!(sectors, PIECES + 1);
        let says = |words: &str| {
            drawing.marks().iter().any(|mark| matches!(mark, Mark::Text { text, .. } if text.contains(words)))
        };
        assert!(says("28 other columns") && says("39 (5.0 %)") && !says("c0"));
    }

    #[test]
    fn a_sector_goes_from_the_middle_along_the_rim() {
        let quarter = sector(0.0, 0.25);
        assert_eq!((quarter[0], quarter[1]), ((230, 265), (230, 90)));
        assert_eq!(*quarter.last().unwrap(), (405, 265));
        assert!(sector(0.3, 0.3).len() >= 2);
    }
}
