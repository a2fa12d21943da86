//! What the desk is made with: who estimates sex and age, who knows objects, who analyses tables, and the way to Face++.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meerkat_actors::detectors::Make;
use meerkat_actors::dialects::desk::{Analyst, Charts, Chat, DeskParts, RulesError};
use meerkat_analysis::{Analysis, Drawing, Limits};
use meerkat_base::{DetectorError, DetectorInfo, FaceTraits, FaceTraitsEstimator, Image, Rect};
use meerkat_models::device::DeviceChoice;
use meerkat_models::networks::catalog;
use meerkat_models::networks::embedder::AgeGender;
use meerkat_models::networks::error::ModelError;
use meerkat_outbound::{HttpClient, OutboundSettings};

use super::detectors;
use super::models_folder;
use crate::settings::{Problem, Settings, SettingsErrors};

/// The network that estimates sex and age.
const AGE_GENDER: &str = "age-gender-recognition-retail-0013";

/// Word clouds that are drawn.
const MOST_CLOUDS: u8 = 16;

/// The parts of the desk by these settings.
pub(super) fn parts(settings: &Settings) -> anyhow::Result<DeskParts> {
    let account = settings.dialects.desk.as_ref().and_then(|desk| desk.facepp.as_ref());
    let http = account.map(|_| HttpClient::new(OutboundSettings::default())).transpose()?;
    // Looked for only where somebody can ask.
    let is_on = settings.dialects.desk.is_some();
    let objects = if is_on { Some(detectors::objects(settings).map_err(wrong)?.make) } else { None };
    Ok(DeskParts { analyst: Arc::new(Tables), traits: traits(settings), objects, http })
}

/// Reads the rules of the chat as the desk would, and throws them away: the settings alone do not say what is in them.
pub(crate) fn check(settings: &Settings) -> Result<(), SettingsErrors> {
    let Some(rules) = settings.dialects.desk.as_ref().and_then(|desk| desk.chat.rules.as_deref()) else {
        return Ok(());
    };
    let complaints: Vec<String> = match Chat::new(Some(rules)) {
        Ok(_) => return Ok(()),
        Err(RulesError::Rules(faults)) => faults.iter().map(ToString::to_string).collect(),
        Err(error) => vec![error.to_string()],
    };
    let problem = |complaint| Problem {
        key: "dialects.desk.chat.rules".to_owned(),
        value: Some(rules.display().to_string()),
        origin: None,
        complaint,
    };
    let problems: Vec<Problem> = complaints.into_iter().map(problem).collect();
    SettingsErrors::from_problems(problems).map_or(Ok(()), Err)
}

fn wrong(problem: Problem) -> SettingsErrors {
    SettingsErrors::from_problems(vec![problem]).expect("there is one problem")
}

/// Who estimates sex and age; nobody where the weights are not there.
fn traits(settings: &Settings) -> Option<Make<dyn FaceTraitsEstimator>> {
    let folder = models_folder(settings);
    folder.locate(AGE_GENDER).ok()?;
    let make = move || -> Result<Box<dyn FaceTraitsEstimator>, DetectorError> {
        // One small picture now and then: the GPU is for cameras.
        let loaded = catalog::load(AGE_GENDER, &folder, DeviceChoice::Cpu, None).and_then(AgeGender::new);
        match loaded {
            Ok(network) => Ok(Box::new(Traits(network))),
            Err(error) => Err(unmade(&error)),
        }
    };
    Some(Arc::new(make))
}

fn unmade(error: &ModelError) -> DetectorError {
    DetectorError { detector: AGE_GENDER.to_owned(), reason: error.to_string() }
}

struct Traits(AgeGender);

impl FaceTraitsEstimator for Traits {
    fn info(&self) -> DetectorInfo {
        DetectorInfo { name: AGE_GENDER.to_owned(), backend: "candle", device: "cpu".to_owned() }
    }

    fn estimate(&mut self, image: &Image, faces: &[Rect]) -> Result<Vec<Option<FaceTraits>>, DetectorError> {
        let estimates = self.0.estimate(image, faces);
        let estimates = estimates
            .map_err(|error| DetectorError { detector: AGE_GENDER.to_owned(), reason: error.to_string() })?;
        let traits = |estimate: meerkat_models::networks::age_gender::Estimate| FaceTraits {
            age_years: estimate.age_years,
            female: estimate.female,
        };
        Ok(estimates.into_iter().map(|estimate| estimate.map(traits)).collect())
    }
}

/// Analyses tables.
struct Tables;

impl Analyst for Tables {
    fn analyse(&self, csv: File, limit: Duration) -> Result<Charts, String> {
        let clouds = usize::from(MOST_CLOUDS);
        let limits = Limits { time: limit, clouds, ..Limits::default() };
        let words = |error: &dyn std::error::Error| chain(error);
        let analysis = Analysis::of_csv(csv, &limits).map_err(|error| words(&error))?;
        let jpeg = |drawing: Drawing| drawing.jpeg().map(Bytes::from).map_err(|error| words(&error));
        Ok(Charts {
            heat_map: jpeg(analysis.heat_map())?,
            bars: jpeg(analysis.skewness())?,
            pie: jpeg(analysis.missing())?,
            scatter: jpeg(analysis.pair_grid())?,
            clouds: analysis.word_clouds().into_iter().map(jpeg).collect::<Result<_, _>>()?,
        })
    }
}

/// What went wrong, with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        words.push_str(": ");
        words.push_str(&inner.to_string());
        cause = inner.source();
    }
    words
}
