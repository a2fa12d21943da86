//! From what an SSD head says about its prior boxes to a list of detections, as OpenVINO's DetectionOutput-8 defines
//! it: decoding, suppression of overlapping boxes per class, the best over all classes. Every executor calls this.

use std::cmp::Ordering;

use super::DetectionOutput;

/// Numbers per row of the output.
pub const ROW: usize = 7;

/// A box that may become a detection.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    score: f32,
    prior: usize,
}

/// Best score first; the earlier prior where they are equal.
fn better(a: &Candidate, b: &Candidate) -> Ordering {
    b.score.total_cmp(&a.score).then(a.prior.cmp(&b.prior))
}

/// Corners x0, y0, x1, y1.
type Corners = [f32; 4];

#[derive(Debug, Clone, Copy)]
struct Detection {
    class: usize,
    score: f32,
    corners: Corners,
}

/// Fills `out` with one row per detection: image (0), label, score, x0, y0, x1, y1; classes in rising order, the best
/// score of a class first. A row with image -1 follows when there is room; all behind it is 0.
///
/// `boxes` has 4 numbers per prior, `confidences` one per class for each prior, `priors` 4 corners per prior and then
/// (unless [`DetectionOutput::variance_encoded`]) 4 variances per prior. Only as many priors are looked at as all three
/// have. A confidence that is NaN is no candidate, and neither is a box that does not decode to finite numbers.
pub fn detection_output(
    op: &DetectionOutput,
    boxes: &[f32],
    confidences: &[f32],
    priors: &[f32],
    out: &mut [f32],
) {
    out.fill(0.0);
    let rows = (out.len() / ROW).min(op.keep_top_k);
    let count = boxes.len() / 4;
    let (corners, variances) = priors.split_at((count * 4).min(priors.len()));
    let decode = |prior: usize| -> Option<Corners> {
        let four = |all: &[f32]| all.get(prior * 4..).and_then(<[f32]>::first_chunk::<4>).copied();
        let variance = if op.variance_encoded { [1.0; 4] } else { four(variances)? };
        let corners = decoded(four(boxes)?, four(corners)?, variance);
        let corners = if op.clip_before { corners.map(|value| value.clamp(0.0, 1.0)) } else { corners };
        corners.iter().all(|value| value.is_finite()).then_some(corners)
    };

    let mut found: Vec<Detection> = Vec::new();
    let mut candidates: Vec<Candidate> = Vec::new();
    for class in (0..op.classes).filter(|class| op.background != Some(*class)) {
        candidates.clear();
        let scores = confidences.chunks_exact(op.classes).take(count).enumerate();
        let above = scores.filter_map(|(prior, scores)| {
            let score = scores[class];
            (score > op.confidence).then_some(Candidate { score, prior })
        });
        candidates.extend(above);
        if op.top_k == 0 {
            continue;
        }
        if candidates.len() > op.top_k {
            candidates.select_nth_unstable_by(op.top_k - 1, better);
            candidates.truncate(op.top_k);
        }
        candidates.sort_unstable_by(better);
        let first = found.len();
        for candidate in &candidates {
            // More of this class than all rows cannot be among the best of all classes.
            if found.len() - first >= rows {
                break;
            }
            let Some(corners) = decode(candidate.prior) else { continue };
            if found[first..].iter().all(|kept| overlap(&kept.corners, &corners) <= op.nms) {
                found.push(Detection { class, score: candidate.score, corners });
            }
        }
    }
    if found.len() > rows {
        // The sort is stable: among equal scores the lower class stays.
        let mut order: Vec<usize> = (0..found.len()).collect();
        order.sort_by(|a, b| found[*b].score.total_cmp(&found[*a].score));
        order.truncate(rows);
        order.sort_unstable();
        found = order.iter().map(|index| found[*index]).collect();
    }
    for (row, detection) in out.chunks_exact_mut(ROW).zip(&found) {
        let clipped = |value: f32| if op.clip_after { value.clamp(0.0, 1.0) } else { value };
        row[1] = detection.class as f32;
        row[2] = detection.score;
        for (place, value) in row[3..].iter_mut().zip(detection.corners) {
            *place = clipped(value);
        }
    }
    if let Some(end) = out.get_mut(found.len() * ROW) {
        *end = -1.0;
    }
}

/// The box that a prior with these offsets of its centre and logarithms of its size becomes.
fn decoded(offsets: [f32; 4], prior: Corners, variance: [f32; 4]) -> Corners {
    let (width, height) = (prior[2] - prior[0], prior[3] - prior[1]);
    let (prior_x, prior_y) = ((prior[0] + prior[2]) / 2.0, (prior[1] + prior[3]) / 2.0);
    let x = variance[0] * offsets[0] * width + prior_x;
    let y = variance[1] * offsets[1] * height + prior_y;
    let half_width = (variance[2] * offsets[2]).exp() * width / 2.0;
    let half_height = (variance[3] * offsets[3]).exp() * height / 2.0;
    [x - half_width, y - half_height, x + half_width, y + half_height]
}

/// Intersection over union; 0 for boxes without area.
fn overlap(a: &Corners, b: &Corners) -> f32 {
    let side = |low: usize, high: usize| (a[high].min(b[high]) - a[low].max(b[low])).max(0.0);
    let area = |corners: &Corners| (corners[2] - corners[0]).max(0.0) * (corners[3] - corners[1]).max(0.0);
    let shared = side(0, 2) * side(1, 3);
    let union = area(a) + area(b) - shared;
    if shared > 0.0 && union > 0.0 { shared / union } else { 0.0 }
}

#[cfg(test)]
mod tests;
