//! The two operators of SSD detectors in OpenVINO IR: prior boxes and the list of detections.

use super::attributes::Attributes;
use super::needed;
use crate::graph::build::Builder;
use crate::graph::error::{ImportError, at_most};
use crate::graph::limits::MAX_CANDIDATES;
use crate::graph::lower::size;
use crate::graph::{DetectionOutput, Op, PriorBoxClustered, TensorId};

pub(super) fn prior_boxes(
    build: &mut Builder,
    attributes: &Attributes<'_>,
    inputs: &[TensorId],
) -> Result<TensorId, ImportError> {
    let at = attributes.at;
    let layer = build.cast_i64(at, needed(at, inputs, 0)?)?;
    let image = build.cast_i64(at, needed(at, inputs, 1)?)?;
    let step: f32 = attributes.or("step", 0.0)?;
    let steps = [attributes.or("step_h", 0.0)?, attributes.or("step_w", 0.0)?];
    let prior = PriorBoxClustered {
        widths: attributes.list("width")?.unwrap_or_else(|| vec![1.0]),
        heights: attributes.list("height")?.unwrap_or_else(|| vec![1.0]),
        step: if steps == [0.0, 0.0] { [step, step] } else { steps },
        offset: attributes.needed("offset")?,
        variances: attributes.list("variance")?.unwrap_or_default(),
        clip: attributes.boolean("clip", true)?,
    };
    let mut total = 8 * prior.widths.len().max(1);
    let cells = build.integers(at, layer, "the layer's size")?;
    for side in &cells {
        let side = size(at, *side, "a layer")?;
        if side == 0 {
            return Err(at.invalid("a layer without places"));
        }
        total = total.saturating_mul(side);
    }
    build.shaped(at, Op::PriorBoxClustered(prior), &[layer, image], Some(&[2, total / 2]))
}

pub(super) fn detections(
    build: &mut Builder,
    attributes: &Attributes<'_>,
    inputs: &[TensorId],
) -> Result<TensorId, ImportError> {
    let at = attributes.at;
    let &[boxes, confidences, priors] = inputs else {
        return Err(at.unsupported(format!("{} inputs; 3 are", inputs.len())));
    };
    let count = build.shape(boxes).last().map_or(0, |size| size / 4);
    let all = build.shape(confidences).last().copied().unwrap_or(0);
    let told = attributes.value::<usize>("num_classes")?;
    let classes = all.checked_div(count).unwrap_or(0);
    if told.is_some_and(|told| told != classes) || classes == 0 {
        return Err(at.invalid(format!("{all} confidences for {count} boxes")));
    }
    attributes.choice("code_type", &["caffe.PriorBoxParameter.CENTER_SIZE"])?;
    if attributes.text("code_type").is_none() {
        return Err(at.unsupported("boxes as corners"));
    }
    for (key, default, supported) in
        [("share_location", true, true), ("normalized", false, true), ("decrease_label_id", false, false)]
    {
        if attributes.boolean(key, default)? != supported {
            return Err(at.unsupported(format!("{key} other than {supported}")));
        }
    }
    // The size is for priors that are not normalised, objectness for two more inputs.
    attributes.ignore(&["input_height", "input_width", "objectness_score"]);
    let nms: f32 = attributes.needed("nms_threshold")?;
    let confidence: f32 = attributes.or("confidence_threshold", 0.0)?;
    if nms.is_nan() || confidence.is_nan() {
        return Err(at.invalid("a threshold that is no number"));
    }
    let top_k: i64 = attributes.or("top_k", -1)?;
    let keep: i64 = attributes.list("keep_top_k")?.and_then(|list| list.first().copied()).unwrap_or(-1);
    let top_k = usize::try_from(top_k).ok().filter(|top_k| *top_k > 0).unwrap_or(count).min(count);
    at_most("candidates of a class", top_k, MAX_CANDIDATES)?;
    // As many rows as there can be detections, when nothing else limits them.
    let keep_top_k = match usize::try_from(keep) {
        Ok(keep) if keep > 0 => keep,
        _ => top_k.saturating_mul(classes),
    };
    let background: i64 = attributes.or("background_label_id", 0)?;
    let detection = DetectionOutput {
        classes,
        background: usize::try_from(background).ok(),
        top_k,
        keep_top_k,
        confidence,
        nms,
        variance_encoded: attributes.boolean("variance_encoded_in_target", false)?,
        clip_before: attributes.boolean("clip_before_nms", false)?,
        clip_after: attributes.boolean("clip_after_nms", false)?,
    };
    build.op(at, Op::DetectionOutput(detection), &[boxes, confidences, priors])
}
