//! Finds the place in the middle of a frame where a client gave that frame up and started another: `start`
//! with the beginning of a picture behind it. Whether to look, and whether to believe it, is the parser's decision.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::container::Walk;
use super::sniff::{Match, Sniff, prefix, sniff};
use super::{END, MAX_BLANKS, START, is_blank};

static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(START));

/// Outcome of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Restart {
    /// A `start` at this offset, and a picture begins behind it.
    At(usize),
    /// At this offset there may be one, once more bytes have arrived.
    Perhaps(usize),
    /// There is none, whatever arrives.
    No,
}

/// Looks for the first restart whose `start` begins in `from..to`. Linear in `to - from`.
pub(super) fn find(view: &[u8], mut from: usize, to: usize) -> Restart {
    while from < to {
        // The word may begin before `to` and reach beyond it.
        let reach = view.len().min(to.saturating_add(START.len() - 1));
        let Some(hit) = view.get(from..reach).and_then(|part| FINDER.find(part)) else { break };
        match at(view, from + hit) {
            Restart::No => from += hit + START.len(),
            found => return found,
        }
    }
    let tail = view.len().saturating_sub(START.len() - 1).max(from);
    for offset in tail..to.min(view.len()) {
        if view.get(offset..).is_some_and(|rest| START.starts_with(rest)) {
            return Restart::Perhaps(offset);
        }
    }
    Restart::No
}

/// Judges what the length of a part led over, from `from` to `to`, where a part of the same container seems to
/// begin; `None` when no frame was lost. In a picture that was cut off, such a length can lead exactly to a part of
/// the next one: `leads_to(view, picture, to)` says whether that one's parts do. Whole frames inside of a comment or
/// beginnings of pictures that are none, on the other hand, have no part at `to`.
pub(super) fn leapt_over(
    view: &[u8],
    from: usize,
    to: usize,
    leads_to: fn(&[u8], usize, usize) -> bool,
) -> Option<Walk> {
    let first = match find(view, from, to) {
        Restart::No => return None,
        Restart::Perhaps(_) => return Some(Walk::More),
        Restart::At(offset) => offset,
    };
    let mut last = first;
    while let Restart::At(offset) = find(view, last + 1, to) {
        last = offset;
    }
    leads_to(view, picture_after(view, last), to).then_some(Walk::Restart(first))
}

/// Judges one place.
pub(super) fn at(view: &[u8], offset: usize) -> Restart {
    let Some(rest) = view.get(offset..) else { return Restart::Perhaps(offset) };
    match prefix(rest, START) {
        Match::No => return Restart::No,
        Match::Part => return Restart::Perhaps(offset),
        Match::Full => {}
    }
    match sniff(view.get(picture_after(view, offset)..).unwrap_or_default()) {
        Sniff::Is(_) => Restart::At(offset),
        Sniff::More => Restart::Perhaps(offset),
        Sniff::Not => Restart::No,
    }
}

/// Where the picture begins that belongs to the `start` at `offset`.
pub(super) fn picture_after(view: &[u8], offset: usize) -> usize {
    let behind = offset + START.len();
    let rest = view.get(behind..).unwrap_or_default();
    behind + rest.iter().take(MAX_BLANKS).take_while(|&&b| is_blank(b)).count()
}

/// Where the `end` is that closes the bytes before `to`, with at most [`MAX_BLANKS`] blanks between.
pub(super) fn end_before(view: &[u8], to: usize) -> Option<usize> {
    let before = view.get(..to)?;
    let blanks = before.iter().rev().take(MAX_BLANKS).take_while(|&&b| is_blank(b)).count();
    let before = before.get(..to - blanks)?;
    before.ends_with(END).then(|| before.len() - END.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const JPEG: &[u8] = b"..start start\r\n\xff\xd8\xff..";

    #[test]
    fn only_a_start_with_a_picture_counts() {
        assert_eq!(find(JPEG, 0, JPEG.len()), Restart::At(8));
        assert_eq!(find(JPEG, 9, JPEG.len()), Restart::No);
        assert_eq!(find(JPEG, 0, 8), Restart::No, "it must begin before `to`");
        assert_eq!(find(JPEG, 0, 9), Restart::At(8), "and may reach beyond it");
    }

    #[test]
    fn what_may_still_come_is_said() {
        for cut in 9..JPEG.len() - 2 {
            assert_eq!(find(&JPEG[..cut], 0, cut), Restart::Perhaps(8), "cut at {cut}");
        }
        assert_eq!(find(b"starstar", 0, 8), Restart::Perhaps(4));
        assert_eq!(find(b"start\0\0\0\0\0", 0, 10), Restart::No, "more blanks than we look through");
    }

    #[test]
    fn the_end_before_is_found_through_its_line_end() {
        assert_eq!(end_before(b"xxend", 5), Some(2));
        assert_eq!(end_before(b"xxend\r\nstart", 7), Some(2));
        assert_eq!(end_before(b"end\r\n\0\0\0", 8), None);
        assert_eq!(end_before(b"nd", 2), None);
    }
}
