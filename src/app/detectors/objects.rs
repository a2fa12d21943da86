//! Which network says what a picture shows: GoogLeNet where its weights are, else what YOLOX finds.

use std::sync::Arc;

use meerkat_actors::detectors::Make;
use meerkat_base::{DetectorError, ObjectClassifier, metric};
use meerkat_models::device::{Compute, DeviceChoice};
use meerkat_models::networks::error::ModelError;

use metrics::counter;

use super::device::Load;
use super::{Choice, compute, networks, placement};
use crate::app::models_folder;
use crate::settings::{Problem, Settings};

/// As it stands in metrics.
const ROLE: &str = "objects";
/// Knows 1000 kinds of things.
const CLASSIFIER: &str = "googlenet";
/// Knows 80 kinds of things, and where they are.
const FINDER: &str = "yolox-nano";
/// What YOLOX finds less certain than this does not name a picture, where nobody says otherwise.
pub(crate) const FOUND_SCORE: f32 = 0.1;

/// What says what a picture shows by these settings. Where no weights are, what is made is an error that says which
/// are missing, and so does the notice.
///
/// # Errors
/// When the device or the precision that the settings want cannot be had.
pub(crate) fn objects(settings: &Settings) -> Result<Choice<dyn ObjectClassifier>, Problem> {
    counter!(metric::DEVICE_FALLBACKS, "detector" => ROLE).increment(0);
    let (compute, notice) = compute(settings)?;
    let first_error = match network(settings, CLASSIFIER, compute) {
        Ok(choice) => return Ok(Choice { notice, ..choice }),
        Err(error) => error,
    };
    match network(settings, FINDER, compute) {
        Ok(choice) => {
            let notice = format!(
                "Pictures are named by what {FINDER} finds in them, 80 kinds of things instead of 1000: {first_error}."
            );
            Ok(Choice { notice: Some(notice), ..choice })
        }
        Err(error) => {
            let reason =
                format!("no weights are there that could name what a picture shows: {first_error}; {error}");
            Ok(missing(reason))
        }
    }
}

fn network(
    settings: &Settings,
    model: &'static str,
    compute: Compute,
) -> Result<Choice<dyn ObjectClassifier>, ModelError> {
    let folder = models_folder(settings);
    let placement = placement(settings, ROLE, model, compute.device);
    let load: Load<_> = Arc::new(move |device| {
        networks::classes(model, &folder, Compute { device, ..compute }, None, FOUND_SCORE)
    });
    let first = networks::Classes::new(&placement, &load)?;
    let own_placement = Arc::clone(&placement);
    let aside = Arc::clone(&load);
    Ok(Choice::network(
        placement,
        Box::new(first),
        move || Ok(Box::new(networks::Classes::new(&own_placement, &load)?)),
        move || Ok(aside(DeviceChoice::Cpu)?.into_classifier()),
    ))
}

/// Nothing that could look.
fn missing(reason: String) -> Choice<dyn ObjectClassifier> {
    let notice = Some(format!("Pictures are not named: {reason}."));
    let make = move || Err(DetectorError { detector: "objects".to_owned(), reason: reason.clone() });
    let make: Make<dyn ObjectClassifier> = Arc::new(make);
    Choice { make: Arc::clone(&make), aside: make, notice, placement: None }
}
