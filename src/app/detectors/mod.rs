//! Which detectors a program uses: by the settings, and by which weights are there. The detectors are in the rooms
//! `models` (networks) and `vision` (the classic ones).

mod device;
pub(crate) mod networks;
mod objects;

pub(crate) use objects::{FOUND_SCORE, objects};

use std::sync::{Arc, Mutex, PoisonError};

use meerkat_actors::detectors::{Make, Pool};
use meerkat_base::{DetectorError, FaceRecogniser, PersonDetector, metric};
use meerkat_models::device::{Compute, DeviceChoice, Precision as GpuPrecision};
use meerkat_models::networks::error::ModelError;
use meerkat_models::weights::{Folder, WeightsError};
use meerkat_vision::{HogPersonDetector, HogSettings, LbphFaceRecogniser, LbphSettings};

use metrics::counter;

use self::device::{Load, Placement};
use super::models_folder;
use crate::settings::{Backend, Device, Precision, Problem, Settings, SettingsErrors};

/// Detectors on a GPU: one prepares pictures while the other waits for results.
const ON_GPU: usize = 2;

/// Networks find nothing less certain than this, whatever the settings say: below it everything is found everywhere.
const LOWEST_SCORE: f32 = 0.01;

/// The detectors for people and for faces, as the settings want them.
pub(crate) struct Detectors {
    threads: usize,
    person: Choice<dyn PersonDetector>,
    face: Choice<dyn FaceRecogniser>,
}

/// One kind of detectors.
pub(crate) struct Choice<D: ?Sized> {
    /// Makes one.
    pub make: Make<D>,
    /// Makes one that leaves the GPU to others.
    pub aside: Make<D>,
    /// What the operator should know of the choice.
    pub notice: Option<String>,
    /// Where, if it is a network.
    placement: Option<Arc<Placement>>,
}

impl<D: ?Sized> Choice<D> {
    fn classic(make: fn() -> Result<Box<D>, DetectorError>, notice: Option<String>) -> Self
    where
        D: 'static,
    {
        Self { make: Arc::new(make), aside: Arc::new(make), notice, placement: None }
    }

    /// Keeps the network that was loaded to see whether it can be, for who asks first.
    fn network(
        placement: Arc<Placement>,
        first: Box<D>,
        make: impl Fn() -> Result<Box<D>, ModelError> + Send + Sync + 'static,
        aside: impl Fn() -> Result<Box<D>, ModelError> + Send + Sync + 'static,
    ) -> Self
    where
        Box<D>: Send + 'static,
    {
        let (first, model) = (Mutex::new(Some(first)), placement.model().to_owned());
        let own_model = model.clone();
        let make = move || {
            let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
            first.map_or_else(|| make().map_err(|error| unmade(&model, error)), Ok)
        };
        let aside = move || aside().map_err(|error| unmade(&own_model, error));
        Self { make: Arc::new(make), aside: Arc::new(aside), notice: None, placement: Some(placement) }
    }

    fn used(&self) -> String {
        match &self.placement {
            Some(placement) => format!("{} on {}", placement.model(), placement.device()),
            None => "the classic method that is built in".to_owned(),
        }
    }

    /// At most so many at once, fewer where a device is better kept busy by few.
    pub fn pool(&self, threads: usize) -> Pool<D> {
        let placement = self.placement.clone();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let most = move || match &placement {
            None => threads,
            Some(placement) if placement.is_gpu() => threads.min(ON_GPU),
            // More networks than cores at once would only take memory.
            Some(_) => threads.min(cores),
        };
        Pool { make: Arc::clone(&self.make), most: Arc::new(most) }
    }
}

/// What finds people by these settings; a network is loaded once to see that it can be used.
///
/// # Errors
/// When the network that the settings name cannot be used, or is wanted (`candle`) and not there.
pub(crate) fn person(settings: &Settings) -> Result<Choice<dyn PersonDetector>, Problem> {
    let own = &settings.detectors.person;
    let kind = Kind { key: "detectors.person", what: "People", backend: own.backend, model: &own.model };
    kind.decide(settings, person_network, classic_person)
}

/// What finds and names faces by these settings; as [`person`].
///
/// # Errors
/// As [`person`].
pub(crate) fn face(settings: &Settings) -> Result<Choice<dyn FaceRecogniser>, Problem> {
    let own = &settings.detectors.face;
    let kind = Kind { key: "detectors.face", what: "Faces", backend: own.backend, model: &own.model };
    kind.decide(settings, face_network, classic_face)
}

/// What makes a kind of detectors, one of two ways.
struct Kind<'s> {
    key: &'static str,
    what: &'static str,
    backend: Backend,
    model: &'s str,
}

impl Kind<'_> {
    fn decide<D: ?Sized + 'static>(
        &self,
        settings: &Settings,
        network: fn(&Settings, &Folder, Compute) -> Result<Choice<D>, ModelError>,
        classic: fn() -> Result<Box<D>, DetectorError>,
    ) -> Result<Choice<D>, Problem> {
        if self.backend == Backend::Classic {
            return Ok(Choice::classic(classic, None));
        }
        let (compute, notice) = compute(settings)?;
        let error = match network(settings, &models_folder(settings), compute) {
            Ok(choice) => return Ok(Choice { notice, ..choice }),
            Err(error) => error,
        };
        let absent = match &error {
            ModelError::Weights(WeightsError::Missing { .. } | WeightsError::Damaged { .. }) => true,
            // The settings name something else than what they mean: that does not get better by pulling.
            ModelError::Misfit { .. } => false,
            // A file of the manifest that cannot be used is damaged.
            _ => self.model == networks::BEST || meerkat_models::weights::describe(self.model).is_some(),
        };
        if self.backend == Backend::Auto && absent {
            let notice = format!(
                "{} are found by the classic method that is built in, which is less accurate than a network: {error}.",
                self.what
            );
            return Ok(Choice::classic(classic, Some(notice)));
        }
        Err(Problem {
            key: format!("{}.model", self.key),
            value: Some(format!("{:?}", self.model)),
            origin: None,
            complaint: error.to_string(),
        })
    }
}

impl Detectors {
    /// Chooses both kinds.
    ///
    /// # Errors
    /// Everything that is wrong with either.
    pub fn choose(settings: &Settings) -> Result<Self, SettingsErrors> {
        for role in ["person", "face"] {
            counter!(metric::DEVICE_FALLBACKS, "detector" => role).increment(0);
        }
        let threads = settings.detectors.threads;
        match (person(settings), face(settings)) {
            (Ok(person), Ok(face)) => Ok(Self { threads, person, face }),
            (person, face) => {
                let mut problems: Vec<Problem> = person.err().into_iter().chain(face.err()).collect();
                problems.dedup();
                Err(SettingsErrors::from_problems(problems).expect("one of the two is a problem"))
            }
        }
    }

    /// What the operator should know at this moment.
    pub fn notices(&self) -> Vec<String> {
        let choice = [&self.person.notice, &self.face.notice].into_iter().flatten().cloned();
        let placements = [&self.person.placement, &self.face.placement].into_iter().flatten();
        let mut notices: Vec<_> =
            choice.chain(placements.filter_map(|placement| placement.notice())).collect();
        // What concerns the machine is said for both kinds.
        notices.dedup();
        notices
    }

    /// What finds what, in words.
    pub fn used(&self) -> [(&'static str, String); 2] {
        [("people", self.person.used()), ("faces", self.face.used())]
    }

    /// Detectors of people for a node.
    pub fn person(&self) -> Pool<dyn PersonDetector> {
        self.person.pool(self.threads)
    }

    /// Recognisers of faces for a node.
    pub fn face(&self) -> Pool<dyn FaceRecogniser> {
        self.face.pool(self.threads)
    }

    /// Makes recognisers that judge pictures of whoever is to be enrolled.
    pub fn judge(&self) -> Make<dyn FaceRecogniser> {
        Arc::clone(&self.face.aside)
    }
}

/// Where and in what networks compute by these settings, and what the operator should know of it.
///
/// # Errors
/// When the device or the precision cannot be had.
pub(crate) fn compute(settings: &Settings) -> Result<(Compute, Option<String>), Problem> {
    let wanted = &settings.detectors;
    let device = device(wanted.device)?;
    let precision = match wanted.precision {
        Precision::Auto | Precision::F32 => GpuPrecision::F32,
        Precision::F16 => GpuPrecision::F16,
    };
    if precision == GpuPrecision::F32 || matches!(device, DeviceChoice::Cuda(_)) {
        return Ok((Compute { device, precision }, None));
    }
    match wanted.device {
        // Whoever wants the CPU and f16 wants two things that there are not together.
        Device::Cpu => Err(Problem {
            key: "detectors.precision".to_owned(),
            value: Some("\"f16\"".to_owned()),
            origin: None,
            complaint: "needs a GPU, and detectors.device is \"cpu\": the CPU computes in f32 always"
                .to_owned(),
        }),
        // A node goes on with the CPU when its GPU is not there.
        _ => Ok((
            device.into(),
            Some(
                "Networks compute in f32: there is no GPU to compute in f16 (detectors.precision)."
                    .to_owned(),
            ),
        )),
    }
}

/// The device of this machine that the settings mean.
fn device(device: Device) -> Result<DeviceChoice, Problem> {
    match device {
        Device::Auto => Ok(DeviceChoice::Auto.resolve()),
        Device::Cpu => Ok(DeviceChoice::Cpu),
        Device::Cuda(number) if cfg!(feature = "cuda") => Ok(DeviceChoice::Cuda(number)),
        Device::Cuda(number) => Err(Problem {
            key: "detectors.device".to_owned(),
            value: Some(format!("\"cuda:{number}\"")),
            origin: None,
            complaint: "this program was built without support for GPUs (feature `cuda`)".to_owned(),
        }),
    }
}

fn person_network(
    settings: &Settings,
    folder: &Folder,
    compute: Compute,
) -> Result<Choice<dyn PersonDetector>, ModelError> {
    let own = &settings.detectors.person;
    let floors = settings.cameras.values().map(|camera| camera.person_min_score);
    let min_score = lowest(own.min_score, floors);
    let (model, folder) = (own.model.clone(), folder.clone());
    let placement = placement(settings, "person", &model, compute.device);
    let load: Load<_> =
        Arc::new(move |device| networks::person(&model, &folder, Compute { device, ..compute }, min_score));
    let first = networks::People::new(&placement, &load)?;
    let own_placement = Arc::clone(&placement);
    let aside = Arc::clone(&load);
    Ok(Choice::network(
        placement,
        Box::new(first),
        move || Ok(Box::new(networks::People::new(&own_placement, &load)?)),
        move || Ok(Box::new(aside(DeviceChoice::Cpu)?)),
    ))
}

fn face_network(
    settings: &Settings,
    folder: &Folder,
    compute: Compute,
) -> Result<Choice<dyn FaceRecogniser>, ModelError> {
    let own = &settings.detectors.face;
    let min_score = lowest(own.min_score, settings.cameras.values().map(|camera| camera.face_min_score));
    let (folder, recognition) = (folder.clone(), settings.detectors.recognition);
    let model = networks::finder_name(&own.model, &folder);
    let placement = placement(settings, "face", &model, compute.device);
    let load: Load<_> = Arc::new(move |device| {
        networks::recogniser(&model, &folder, Compute { device, ..compute }, min_score, &recognition)
    });
    let first = networks::Faces::new(&placement, &load)?;
    let own_placement = Arc::clone(&placement);
    let aside = Arc::clone(&load);
    Ok(Choice::network(
        placement,
        Box::new(first),
        move || Ok(Box::new(networks::Faces::new(&own_placement, &load)?)),
        move || Ok(Box::new(aside(DeviceChoice::Cpu)?)),
    ))
}

fn placement(settings: &Settings, role: &'static str, model: &str, device: DeviceChoice) -> Arc<Placement> {
    // By then the supervisor has given the thread up.
    let limit = settings.supervision.detector_deadline;
    Arc::new(Placement::new(role, model.to_owned(), device, limit))
}

/// Each camera's own floor is applied behind the detector; nothing below all of them is worth finding.
fn lowest(own: f32, floors: impl Iterator<Item = f32>) -> f32 {
    floors.fold(own, f32::min).max(LOWEST_SCORE)
}

fn classic_person() -> Result<Box<dyn PersonDetector>, DetectorError> {
    // Each camera's own floor is applied behind the detector, and may change while the node runs.
    let settings = HogSettings { min_score: 0.0, ..HogSettings::default() };
    let detector = HogPersonDetector::new(settings).map_err(|e| unmade("hog-default-people", e))?;
    Ok(Box::new(detector))
}

fn classic_face() -> Result<Box<dyn FaceRecogniser>, DetectorError> {
    let recogniser = LbphFaceRecogniser::new(LbphSettings::default()).map_err(|e| unmade("lbph", e))?;
    Ok(Box::new(recogniser))
}

fn unmade(detector: &str, reason: impl ToString) -> DetectorError {
    DetectorError { detector: detector.to_owned(), reason: reason.to_string() }
}
