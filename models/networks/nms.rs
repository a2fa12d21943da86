//! Non-maximum suppression: of boxes that cover the same thing the best one stays. Total over all inputs: NaN has a
//! place in the order and never wins.

use meerkat_base::Rect;

/// More candidates than this do not enter; the best ones do. Far above what a picture holds, and it bounds the time
/// that a network gone wild can cost (the work grows with the square).
pub const MOST_CANDIDATES: usize = 2000;

/// Something with a place and a certainty.
pub trait Candidate {
    /// Where it is.
    fn bbox(&self) -> &Rect;
    /// Certainty; larger is better.
    fn score(&self) -> f32;
    /// Only candidates of one class push each other out.
    fn class(&self) -> usize;
}

/// A box with its class, as detectors of several classes give them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// Number of the class in the network's list.
    pub class: usize,
    /// Certainty, 0..=1.
    pub score: f32,
    /// Where it is, in pixels of the picture, within it.
    pub bbox: Rect,
}

impl Candidate for Found {
    fn bbox(&self) -> &Rect {
        &self.bbox
    }

    fn score(&self) -> f32 {
        self.score
    }

    fn class(&self) -> usize {
        self.class
    }
}

/// The candidates that are left, best first: each overlaps no better one of its class by more than `overlap`
/// (intersection over union, 0..=1). At most `most` are kept. Equal scores keep their order.
pub fn suppress<C: Candidate>(mut candidates: Vec<C>, overlap: f32, most: usize) -> Vec<C> {
    // A stable sort; NaN (either sign) goes to the end with the smallest.
    let key = |candidate: &C| if candidate.score().is_nan() { f32::NEG_INFINITY } else { candidate.score() };
    candidates.sort_by(|a, b| key(b).total_cmp(&key(a)));
    candidates.truncate(MOST_CANDIDATES);
    let mut kept: Vec<C> = Vec::new();
    for candidate in candidates {
        if kept.len() >= most {
            break;
        }
        let rival =
            |better: &C| better.class() == candidate.class() && better.bbox().iou(candidate.bbox()) > overlap;
        if !kept.iter().any(rival) {
            kept.push(candidate);
        }
    }
    kept
}

/// The part of a box (corners in pixels) that lies within a picture; `None` when nothing does or a corner is not
/// a finite number.
pub fn within(corners: [f32; 4], picture: (u32, u32)) -> Option<Rect> {
    if !corners.iter().all(|corner| corner.is_finite()) {
        return None;
    }
    let [left, top, right, bottom] = corners;
    let (width, height) = (picture.0 as f32, picture.1 as f32);
    let (left, right) = (left.clamp(0.0, width), right.clamp(0.0, width));
    let (top, bottom) = (top.clamp(0.0, height), bottom.clamp(0.0, height));
    (right > left && bottom > top).then(|| Rect::new(left, top, right - left, bottom - top))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(class: usize, score: f32, x: f32) -> Found {
        Found { class, score, bbox: Rect::new(x, 0.0, 10.0, 10.0) }
    }

    #[test]
    fn the_best_of_a_heap_stays() {
        let kept = suppress(vec![found(0, 0.5, 1.0), found(0, 0.9, 0.0), found(0, 0.7, 30.0)], 0.45, 10);
        assert_eq!(kept, [found(0, 0.9, 0.0), found(0, 0.7, 30.0)]);
    }

    #[test]
    fn classes_do_not_push_each_other_out() {
        assert_eq!(suppress(vec![found(0, 0.5, 0.0), found(1, 0.9, 0.0)], 0.45, 10).len(), 2);
    }

    #[test]
    fn an_overlap_at_the_limit_stays() {
        // 5 of 15 columns are shared: one third.
        let pair = || vec![found(0, 0.9, 0.0), found(0, 0.8, 5.0)];
        assert_eq!(suppress(pair(), 0.34, 10).len(), 2);
        assert_eq!(suppress(pair(), 0.33, 10).len(), 1);
    }

    #[test]
    fn a_chain_is_broken_by_what_stays_only() {
        // The middle one goes because of the first; the last overlaps only the middle one.
        let kept = suppress(vec![found(0, 0.9, 0.0), found(0, 0.8, 4.0), found(0, 0.7, 8.0)], 0.4, 10);
        assert_eq!(kept.iter().map(|f| f.bbox.x).collect::<Vec<_>>(), [0.0, 8.0]);
    }

    #[test]
    fn nan_scores_come_last() {
        let kept =
            suppress(vec![found(0, f32::NAN, 0.0), found(0, -f32::NAN, 50.0), found(0, 0.1, 0.0)], 0.4, 10);
        assert_eq!(kept[0].score, 0.1);
        assert_eq!(kept.len(), 2);
    }

    #[test]
    fn the_number_kept_is_bounded() {
        let many = (0..5000).map(|n| found(0, 0.5, n as f32 * 20.0)).collect();
        assert_eq!(suppress(many, 0.45, usize::MAX).len(), MOST_CANDIDATES);
        let many = (0..50).map(|n| found(0, 0.5, n as f32 * 20.0)).collect();
        let kept = suppress(many, 0.45, 3);
        assert_eq!(kept.iter().map(|f| f.bbox.x).collect::<Vec<_>>(), [0.0, 20.0, 40.0]);
    }

    #[test]
    fn boxes_are_cut_at_the_edges() {
        assert_eq!(within([-3.0, 2.0, 5.0, 99.0], (20, 10)), Some(Rect::new(0.0, 2.0, 5.0, 8.0)));
        assert_eq!(within([30.0, 2.0, 35.0, 9.0], (20, 10)), None);
        assert_eq!(within([5.0, 2.0, 4.0, 9.0], (20, 10)), None);
        assert_eq!(within([5.0, f32::NAN, 4.0, 9.0], (20, 10)), None);
        assert_eq!(within([f32::NEG_INFINITY, 0.0, 4.0, 9.0], (20, 10)), None);
    }

    proptest! {
        #[test]
        fn whatever_comes_out_lies_within(corners: [f32; 4], width in 1u32.., height in 1u32..) {
            if let Some(bbox) = within(corners, (width, height)) {
                prop_assert!(bbox.x >= 0.0 && bbox.y >= 0.0 && bbox.width > 0.0 && bbox.height > 0.0);
                prop_assert!(bbox.x + bbox.width <= width as f32 * 1.000_001);
                prop_assert!(bbox.y + bbox.height <= height as f32 * 1.000_001);
            }
        }

        #[test]
        fn any_scores_and_boxes_are_ordered(rows: Vec<(u8, f32, f32)>) {
            let count = rows.len();
            let candidates = rows.iter().map(|&(class, score, x)| {
                Found { class: class.into(), score, bbox: Rect { x, y: 0.0, width: score, height: x } }
            }).collect();
            let kept = suppress(candidates, 0.5, usize::MAX);
            prop_assert!(kept.len() <= count);
            prop_assert!(kept.windows(2).all(|pair| pair[0].score >= pair[1].score || pair[1].score.is_nan()));
        }
    }
}
