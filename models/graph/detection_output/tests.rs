//! Known answers, limits of the list, and numbers that are none.

use proptest::prelude::*;

use super::detection_output;
use crate::graph::DetectionOutput;

/// Two classes, the first of them the background.
fn op() -> DetectionOutput {
    DetectionOutput {
        classes: 2,
        background: Some(0),
        top_k: 10,
        keep_top_k: 4,
        confidence: 0.1,
        nms: 0.5,
        variance_encoded: false,
        clip_before: false,
        clip_after: false,
    }
}

/// Runs with boxes on their priors; `found` has a score and corners per prior.
fn run(op: &DetectionOutput, found: &[(f32, [f32; 4])]) -> Vec<[f32; 7]> {
    let boxes = vec![0.0; found.len() * 4];
    let confidences: Vec<f32> = found.iter().flat_map(|(score, _)| [1.0 - score, *score]).collect();
    let mut priors: Vec<f32> = found.iter().flat_map(|(_, corners)| *corners).collect();
    priors.extend([0.1, 0.1, 0.2, 0.2].repeat(found.len()));
    let mut out = vec![9.0; op.keep_top_k * 7];
    detection_output(op, &boxes, &confidences, &priors, &mut out);
    out.as_chunks().0.to_vec()
}

const A: [f32; 4] = [0.1, 0.1, 0.3, 0.3];
const NEAR_A: [f32; 4] = [0.11, 0.1, 0.31, 0.3];
const B: [f32; 4] = [0.5, 0.5, 0.7, 0.9];

fn scores(rows: &[[f32; 7]]) -> Vec<f32> {
    rows.iter().take_while(|row| row[0] == 0.0).map(|row| row[2]).collect()
}

#[test]
fn the_weaker_of_two_that_overlap_goes() {
    let rows = run(&op(), &[(0.6, NEAR_A), (0.9, A), (0.3, B), (0.05, [0.8, 0.1, 0.9, 0.2])]);
    assert_eq!(scores(&rows), [0.9, 0.3]);
    let near =
        |row: &[f32; 7], corners: [f32; 4]| row[3..].iter().zip(corners).all(|(a, b)| (a - b).abs() < 1e-6);
    assert!(near(&rows[0], A) && near(&rows[1], B), "{rows:?}");
    assert_eq!(rows[0][1], 1.0);
    // The end is marked, and what is behind it is empty.
    assert_eq!(rows[2], [-1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(rows[3], [0.0; 7]);
    let both = DetectionOutput { nms: 0.95, ..op() };
    assert_eq!(scores(&run(&both, &[(0.6, NEAR_A), (0.9, A), (0.3, B)])), [0.9, 0.6, 0.3]);
}

#[test]
fn offsets_are_decoded() {
    let mut out = vec![0.0; 28];
    // Prior with centre (0.2, 0.3), size 0.2 x 0.4.
    let priors = [0.1, 0.1, 0.3, 0.5, 0.1, 0.1, 0.2, 0.2];
    let boxes = [1.0, -1.0, 5.0 * std::f32::consts::LN_2, 0.0];
    detection_output(&op(), &boxes, &[0.0, 1.0], &priors, &mut out);
    let near =
        |expected: [f32; 4], row: &[f32]| expected.iter().zip(&row[3..7]).all(|(a, b)| (a - b).abs() < 1e-6);
    assert!(near([0.02, 0.06, 0.42, 0.46], &out), "{out:?}");
    // Nothing is multiplied when the variances are in the offsets already; none are needed then.
    let encoded = DetectionOutput { variance_encoded: true, ..op() };
    detection_output(&encoded, &[0.1, -0.1, 0.0, 0.0], &[0.0, 1.0], &priors[..4], &mut out);
    assert!(near([0.12, 0.06, 0.32, 0.46], &out), "{out:?}");
    let clipped = DetectionOutput { clip_after: true, ..op() };
    detection_output(&clipped, &[-20.0, 0.0, 0.0, 0.0], &[0.0, 1.0], &priors, &mut out);
    assert!(near([0.0, 0.1, 0.0, 0.5], &out), "{out:?}");
}

#[test]
fn the_list_is_limited() {
    let many: Vec<(f32, [f32; 4])> = (0..20)
        .map(|place| (0.2 + 0.01 * place as f32, [place as f32, 0.0, place as f32 + 0.5, 1.0]))
        .collect();
    let near = |rows: Vec<f32>, expected: &[f32]| {
        assert!(
            rows.len() == expected.len() && rows.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6),
            "{rows:?}"
        );
    };
    near(scores(&run(&op(), &many)), &[0.39, 0.38, 0.37, 0.36]);
    near(scores(&run(&DetectionOutput { top_k: 2, ..op() }, &many)), &[0.39, 0.38]);
    assert_eq!(scores(&run(&DetectionOutput { top_k: 0, ..op() }, &many)), [0.0; 0]);
    // The earlier prior is the better where scores are equal.
    let equal: Vec<(f32, [f32; 4])> = many.iter().map(|(_, corners)| (0.5, *corners)).collect();
    let rows = run(&DetectionOutput { top_k: 3, ..op() }, &equal);
    assert_eq!(rows.iter().map(|row| row[3]).collect::<Vec<_>>()[..3], [0.0, 1.0, 2.0]);
}

#[test]
fn the_best_of_all_classes_stay_in_the_order_of_classes() {
    let op = DetectionOutput { classes: 3, background: None, keep_top_k: 3, ..op() };
    // Two priors far apart, three classes.
    let confidences = [0.5, 0.2, 0.9, 0.6, 0.7, 0.3];
    let priors = [0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 0.1, 0.1, 0.2, 0.2, 0.1, 0.1, 0.2, 0.2];
    let mut out = vec![0.0; 21];
    detection_output(&op, &[0.0; 8], &confidences, &priors, &mut out);
    let rows: Vec<(f32, f32)> = out.chunks(7).map(|row| (row[1], row[2])).collect();
    assert_eq!(rows, [(0.0, 0.6), (1.0, 0.7), (2.0, 0.9)]);
}

#[test]
fn numbers_that_are_none_are_no_detections() {
    let bad = [f32::NAN, 0.0, 1.0, 1.0];
    assert_eq!(scores(&run(&op(), &[(0.9, bad), (f32::NAN, B), (0.8, A), (0.7, [f32::INFINITY; 4])])), [0.8]);
}

proptest! {
    #[test]
    fn any_numbers_of_any_lengths(
        boxes in prop::collection::vec(any::<f32>(), 0..40),
        confidences in prop::collection::vec(any::<f32>(), 0..40),
        priors in prop::collection::vec(any::<f32>(), 0..80),
        sizes in (0usize..4, 0usize..6, 0usize..6, 0usize..40),
        thresholds in (any::<f32>(), any::<f32>()),
    ) {
        let op = DetectionOutput {
            classes: sizes.0, top_k: sizes.1, keep_top_k: sizes.2, confidence: thresholds.0, nms: thresholds.1, ..op()
        };
        let mut out = vec![0.0; sizes.3];
        detection_output(&op, &boxes, &confidences, &priors, &mut out);
        prop_assert!(out.iter().all(|value| !value.is_nan()));
    }
}
