//! Settings of one camera: who it is, what it may do, and where it differs from the rest.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use meerkat_base::{CameraId, Mode, Secret};

use super::attendance::{AttendanceDirection, direction};
use super::keep::{VideoSize, video_size};
use super::mask::MaskSettings;
use super::reader::Reader;
use super::rule::{self, flag, network, number, secs};
use super::watch::{DetectorsSettings, GuardSettings, MotionSettings};

/// One camera with everything resolved; cameras that are not configured share one of these.
#[derive(Debug, Clone, PartialEq)]
pub struct CameraSettings {
    /// The name people see; `None` for a camera without one, which shows its id.
    pub name: Option<String>,
    /// Networks whose connections are this camera. Empty where there is a token.
    pub addresses: Vec<IpNet>,
    /// What the camera proves itself with.
    pub token: Option<Secret>,
    /// Modes it may use, at least one.
    pub allowed_modes: Vec<Mode>,
    /// Whether faces here are check-ins; only ever true where there is a token.
    pub attendance: bool,
    /// Which way people pass it, for the ledger.
    pub attendance_direction: AttendanceDirection,
    /// Silence after which it counts as down.
    pub silent_after: Duration,
    /// Whether it is recorded without a break in modes 3 to 5, beside the clips of events.
    pub continuous: bool,
    /// Size of its videos in mode 2.
    pub video_size: VideoSize,
    /// What nobody may see in its pictures.
    pub mask: MaskSettings,
    /// Motion.
    pub motion: MotionSettings,
    /// The guard of mode 3.
    pub guard: GuardSettings,
    /// Certainty below which a person is dropped.
    pub person_min_score: f32,
    /// Certainty below which a face is dropped.
    pub face_min_score: f32,
}

impl CameraSettings {
    /// Whether the camera may use a mode.
    pub fn allows(&self, mode: Mode) -> bool {
        self.allowed_modes.contains(&mode)
    }

    /// A camera that says nothing of its own.
    pub(super) fn unconfigured(
        motion: &MotionSettings,
        guard: &GuardSettings,
        detectors: &DetectorsSettings,
        video_size: VideoSize,
        mask: MaskSettings,
    ) -> Self {
        Self {
            name: None,
            addresses: Vec::new(),
            token: None,
            allowed_modes: Mode::ALL.to_vec(),
            attendance: false,
            attendance_direction: AttendanceDirection::Both,
            silent_after: Duration::from_secs(5),
            continuous: false,
            video_size,
            mask,
            motion: motion.clone(),
            guard: guard.clone(),
            person_min_score: detectors.person.min_score,
            face_min_score: detectors.face.min_score,
        }
    }

    /// What one camera's section says, over what all cameras share.
    fn read(reader: &mut Reader, section: &str, shared: &Self) -> Self {
        let key = |name| format!("{section}.{name}");
        let before = reader.problem_count();
        let camera = Self {
            name: reader.read_if(&key("name"), rule::text(1..=64)),
            addresses: reader.read_if(&key("address"), rule::list(64, network())).unwrap_or_default(),
            token: reader.secret(&key("token"), 1),
            allowed_modes: reader
                .read_if(&key("allowed_modes"), modes())
                .unwrap_or_else(|| shared.allowed_modes.clone()),
            attendance: reader.read_if(&key("attendance"), flag()).unwrap_or(shared.attendance),
            attendance_direction: reader
                .read_if(&key("attendance_direction"), direction())
                .unwrap_or(shared.attendance_direction),
            silent_after: reader
                .read_if(&key("silent_after_secs"), secs(0.1..=86_400.0))
                .unwrap_or(shared.silent_after),
            continuous: reader.read_if(&key("continuous"), flag()).unwrap_or(shared.continuous),
            video_size: reader.read_if(&key("video_size"), video_size()).unwrap_or(shared.video_size),
            mask: shared.mask.read_camera(reader, section),
            motion: shared.motion.read_overrides(reader, section),
            guard: shared.guard.read_overrides(reader, section),
            person_min_score: reader
                .read_if(&key("person.min_score"), number(0.0..=1.0))
                .unwrap_or(shared.person_min_score),
            face_min_score: reader
                .read_if(&key("face.min_score"), number(0.0..=1.0))
                .unwrap_or(shared.face_min_score),
        };
        if camera.token.is_some() && !camera.addresses.is_empty() {
            reader.complain(
                &key("address"),
                "a camera that has a token is not recognised by its address: remove one of the two",
            );
        }
        let token_keys = [key("token"), key("token_file")];
        let blank = token_keys.iter().find(|key| reader.is_set(key));
        if let Some(blank) = blank.filter(|_| camera.token.is_none() && reader.problem_count() == before) {
            // An unset variable in a start script must not open a camera to everybody.
            reader.complain(blank, "is empty: a camera without a token has no such key");
        }
        // A file that holds no token, or is left alone, is no missing key.
        if camera.attendance && camera.token.is_none() && !reader.is_set(&key("token_file")) {
            reader.complain(
                &key("attendance"),
                format!(
                    "check-ins need a camera that proves itself: set {} or {}",
                    key("token"),
                    key("token_file")
                ),
            );
        }
        camera
    }
}

/// Reads every section `cameras.<id>`.
pub(super) fn read_all(reader: &mut Reader, shared: &CameraSettings) -> BTreeMap<CameraId, CameraSettings> {
    let mut cameras: BTreeMap<CameraId, CameraSettings> = BTreeMap::new();
    for name in reader.subsections("cameras") {
        let section = format!("cameras.{name}");
        let Ok(id) = CameraId::parse(&name) else {
            reader.complain(&section, "a camera id is 1 to 32 of the characters a-z, 0-9 and _");
            reader.skip(&section);
            continue;
        };
        let camera = CameraSettings::read(reader, &section, shared);
        for (other_id, other) in &cameras {
            if overlap(&camera.addresses, &other.addresses) {
                let complaint = format!("shares an address with cameras.{other_id}.address");
                reader.complain(&format!("{section}.address"), complaint);
            }
        }
        cameras.insert(id, camera);
    }
    cameras
}

fn overlap(some: &[IpNet], others: &[IpNet]) -> bool {
    some.iter().any(|a| others.iter().any(|b| a.contains(b) || b.contains(a)))
}

fn modes() -> rule::Rule<Vec<Mode>> {
    let numbers = rule::list(5, rule::small(1..=5));
    rule::Rule::new("a list of one to five different modes from 1 to 5, such as [1, 4]", move |value| {
        let modes: Vec<Mode> = numbers
            .parse(value)?
            .into_iter()
            .map(|number| u8::try_from(number).ok().and_then(Mode::from_number))
            .collect::<Option<_>>()?;
        if modes.is_empty() { None } else { Some(modes) }
    })
}
