//! Word clouds: each word, the most frequent first, takes the first free place on a spiral from the middle. The same
//! words always give the same cloud.

use super::colour::nth;
use super::drawing::{Drawing, Hold};
use super::font::{fitted, width_px};

const WIDTH: i32 = 800;
const HEIGHT: i32 = 520;
const TOP: i32 = 60;
const MARGIN: i32 = 10;
/// Words that are tried.
const WORDS: usize = 120;
const LARGEST: f64 = 84.0;
const SMALLEST: f64 = 13.0;
/// Places that are tried for a word.
const STEPS: u32 = 3000;

/// The room that a word takes: left, top, right, bottom.
type Room = [i32; 4];

/// Draws a cloud of words, which come with their counts, most frequent first.
pub fn cloud(name: &str, title: &str, note: &str, words: &[(String, u64)]) -> Drawing {
    let mut drawing = Drawing::new(name, (WIDTH.unsigned_abs(), HEIGHT.unsigned_abs()));
    drawing.title(title, note);
    let most = words.first().map_or(1, |(_, count)| *count).max(1);
    let mut taken: Vec<Room> = Vec::new();
    for (n, (word, count)) in words.iter().take(WORDS).enumerate() {
        let share = *count as f64 / most as f64;
        let mut size = (LARGEST * share.sqrt()).max(SMALLEST).round();
        // A long word gets smaller until it fits the sheet.
        while size > SMALLEST && width_px(word, size) > f64::from(WIDTH - 4 * MARGIN) {
            size = (size * 0.9).round().max(SMALLEST);
        }
        let text = fitted(word, size, f64::from(WIDTH - 4 * MARGIN));
        if let Some(room) = place(&text, size, &taken) {
            drawing.text([room[0], room[1] + part(size, 0.1)], Hold::Corner, size, nth(n), text);
            taken.push(room);
        }
    }
    drawing
}

fn place(text: &str, size: f64, taken: &[Room]) -> Option<Room> {
    // Above and below the box that the backends count with there are accents and the tails of letters.
    let (width, height) = (part(width_px(text, size), 1.0) + 4, part(size, 0.95));
    let middle = (WIDTH / 2, i32::midpoint(TOP, HEIGHT));
    (0..STEPS).find_map(|step| {
        // An Archimedean spiral, wider than high, as the sheet is.
        let angle = f64::from(step) * 0.15;
        let away = 1.1 * angle;
        let (x, y) = (middle.0 + part(away, 1.5 * angle.cos()), middle.1 + part(away, angle.sin()));
        let room = [x - width / 2, y - height / 2, x - width / 2 + width, y - height / 2 + height];
        let inside =
            room[0] >= MARGIN && room[1] >= TOP && room[2] <= WIDTH - MARGIN && room[3] <= HEIGHT - MARGIN;
        (inside && !taken.iter().any(|other| overlap(&room, other))).then_some(room)
    })
}

fn overlap(a: &Room, b: &Room) -> bool {
    a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}

/// A part of a size, as whole px.
fn part(size: f64, share: f64) -> i32 {
    (size * share).round() as i32
}

#[cfg(test)]
mod tests {
    use super::super::drawing::Mark;
    use super::*;

    fn words(number: u64) -> Vec<(String, u64)> {
        (0..number).map(|n| (format!("word{n}"), (number - n) * 3)).collect()
    }

    /// The words of a cloud, without title and note.
    fn texts(drawing: &Drawing) -> Vec<(String, f64, [i32; 2])> {
        let texts = drawing.marks().iter().filter_map(|mark| match mark {
            Mark::Text { at, hold: Hold::Corner, size, text, .. } => Some((text.clone(), *size, *at)),
            _ => None,
        });
        texts.collect()
    }

    #[test]
    fn words_do_not_cover_each_other_and_stay_on_the_sheet() {
        let drawing = cloud("words-1", "t", "n", &words(100));
        let placed = texts(&drawing);
        assert!(placed.len() > 30, "{}", placed.len());
        let rooms: Vec<Room> = placed
            .iter()
            .map(|(text, size, [x, y])| [*x, *y, x + part(width_px(text, *size), 1.0), y + part(*size, 0.8)])
            .collect();
        for (n, a) in rooms.iter().enumerate() {
            assert!(a[0] >= 0 && a[1] >= TOP && a[2] <= WIDTH && a[3] <= HEIGHT, "{a:?}");
            assert!(!rooms[..n].iter().any(|b| overlap(a, b)), "{a:?}");
        }
    }

    #[test]
    fn the_same_words_give_the_same_cloud_and_frequent_ones_are_larger() {
        let (one, two) = (cloud("w", "t", "n", &words(40)), cloud("w", "t", "n", &words(40)));
        assert_eq!(one.marks(), two.marks());
        let placed = texts(&one);
        assert_eq!(placed[0].0, "word0");
        assert!(placed.windows(2).all(|pair| pair[0].1 >= pair[1].1));
    }

    #[test]
    fn strange_words_are_no_trouble() {
        for word in ["", " ", &"x".repeat(500), "a\u{202e}b", "\u{0}"] {
            let drawing = cloud("w", "t", "n", &[(word.to_owned(), 0), (word.to_owned(), u64::MAX)]);
            assert!(drawing.marks().len() >= 2);
        }
        assert_eq!(texts(&cloud("w", "t", "n", &[])).len(), 0);
    }
}
