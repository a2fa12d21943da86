//! The settings of the node: read from defaults, files and environment, checked once, and valid from then on.
//! Every key with its unit and range stands in `config/default.toml`. Opens no socket and starts nothing.
#![forbid(unsafe_code)]

mod layers;
mod problem;
mod reader;
mod rule;

mod alert_rules;
mod attendance;
mod camera;
mod delivery;
mod dialects;
mod faces;
mod keep;
mod listen;
mod mask;
mod models;
mod notify;
mod record;
mod retention;
mod schedule;
mod watch;

mod check;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use meerkat_base::CameraId;

pub use alert_rules::{NoticesSettings, QuietSettings, QuietThen, RuleSettings, worth_telling};
pub use attendance::{AttendanceDirection, AttendanceSettings, ShiftSettings, Weekdays};
pub use camera::CameraSettings;
pub use delivery::DeliverySettings;
pub use dialects::{
    DeskChatSettings, DeskCsvSettings, DeskFaceppSettings, DeskRelaySettings, DeskSettings, DialectsSettings,
    DoorSettings, FaceppTakes, RecogniseChunkedSettings, RecogniseSettings, RecogniseSizedSettings,
    WatchDialectSettings,
};
pub use faces::FacesSettings;
pub use keep::{
    ClipSettings, Durability, LogFormat, LogSettings, StorageSettings, StoreSettings, SupervisionSettings,
    TimeOfDay, VideoSize,
};
pub use layers::DEFAULT_TOML;
pub use listen::{Admission, FrameSettings, HttpSettings, RingSettings, TlsSettings};
pub use mask::MaskSettings;
pub use models::ModelsSettings;
pub use notify::{
    CaFile, ChannelSettings, ChannelTarget, DingTalkTarget, EmailTarget, FeishuTarget, Language,
    MailEncryption, MqttTarget, NotifySettings, NtfyTarget, TelegramTarget, TemplateText, TemplatesSettings,
    WebhookTarget, WecomAppTarget, WecomTarget, WordStyle,
};
pub use problem::{Problem, SettingsErrors};
pub use record::{ContinuousSettings, SigningSettings, SpoolSettings};
pub use retention::{RetentionSettings, UNCONFIGURED_CAMERAS};
pub use schedule::{DayRange, Days, Schedule, zone as time_zone};
pub use watch::{
    Backend, DetectorSettings, DetectorsSettings, Device, EventSettings, EventsSettings, Gate, GuardSettings,
    MotionSettings, Precision, RecognitionSettings, Reduction, UnknownDevice, UnknownPrecision, Zone,
};

use reader::{NamedFiles, Reader};

/// Everything that can be set; nothing in it can be invalid.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Folder that holds everything the node keeps.
    pub data_dir: PathBuf,
    /// What an answered `1` survives.
    pub durability: Durability,
    /// The camera port.
    pub frame: FrameSettings,
    /// The dialects besides `frame`.
    pub dialects: DialectsSettings,
    /// The last seconds of every camera.
    pub ring: RingSettings,
    /// The HTTP side.
    pub http: HttpSettings,
    /// Size of the videos of mode 2, for cameras that say nothing else.
    pub video_size: VideoSize,
    /// Clips of events.
    pub clip: ClipSettings,
    /// Spools.
    pub spool: SpoolSettings,
    /// What is recorded without a break.
    pub continuous: ContinuousSettings,
    /// Signatures on recordings.
    pub signing: SigningSettings,
    /// Motion, for cameras that say nothing else.
    pub motion: MotionSettings,
    /// The guard of mode 3, for cameras that say nothing else.
    pub guard: GuardSettings,
    /// Detectors.
    pub detectors: DetectorsSettings,
    /// Faces that match nobody.
    pub faces: FacesSettings,
    /// Weights of networks.
    pub models: ModelsSettings,
    /// How sightings become events.
    pub events: EventsSettings,
    /// The disk.
    pub storage: StorageSettings,
    /// The database.
    pub store: StoreSettings,
    /// How long and how much of what is kept.
    pub retention: RetentionSettings,
    /// Deadlines and restarts.
    pub supervision: SupervisionSettings,
    /// The check-in ledger.
    pub attendance: AttendanceSettings,
    /// Channels and what they are told.
    pub notify: NotifySettings,
    /// Cameras by id, everything resolved.
    pub cameras: BTreeMap<CameraId, CameraSettings>,
    /// What holds for every camera that is not in `cameras`.
    pub unconfigured: CameraSettings,
    /// The log.
    pub log: LogSettings,
}

impl Settings {
    /// Reads defaults < `files` in their order < `env`, and reports everything that is wrong at once.
    ///
    /// Of `env` only names that begin with `MEERKAT__` are looked at. Secrets that are given as files are read here.
    pub fn load(
        files: &[PathBuf],
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, SettingsErrors> {
        let mut problems = Vec::new();
        let layers = layers::merge(files, env, &mut problems);
        let mut reader = Reader::new(&layers, problems, NamedFiles::Read);
        let settings = Self::read(&mut reader);
        check::across(&settings, &mut reader);
        match SettingsErrors::from_problems(reader.finish()) {
            Some(errors) => Err(errors),
            None => Ok(settings),
        }
    }

    /// The data folder alone, for whoever works in it where the rest of the machine need not be there yet: files that
    /// keys name, such as those of secrets, are not read. Wrong keys and values are reported as [`Settings::load`] does:
    /// a misspelt `data_dir` must not lead to another folder.
    pub fn load_data_dir(
        files: &[PathBuf],
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<PathBuf, SettingsErrors> {
        let mut problems = Vec::new();
        let layers = layers::merge(files, env, &mut problems);
        let mut reader = Reader::new(&layers, problems, NamedFiles::LeftAlone);
        // Doors and limits, which are seen together elsewhere, are not needed here, and a door may hang on a secret.
        let settings = Self::read(&mut reader);
        match SettingsErrors::from_problems(reader.finish()) {
            Some(errors) => Err(errors),
            None => Ok(settings.data_dir),
        }
    }

    /// What holds for a camera, configured or not.
    pub fn camera(&self, id: &CameraId) -> &CameraSettings {
        self.cameras.get(id).unwrap_or(&self.unconfigured)
    }

    /// The camera that a peer's address is mapped to.
    pub fn camera_at(&self, peer: IpAddr) -> Option<&CameraId> {
        let peer = peer.to_canonical();
        let at_peer =
            |camera: &CameraSettings| camera.addresses.iter().any(|network| network.contains(&peer));
        self.cameras.iter().find(|(_, camera)| at_peer(camera)).map(|(id, _)| id)
    }

    /// Whether any camera can prove itself by token.
    pub fn any_token(&self) -> bool {
        self.cameras.values().any(|camera| camera.token.is_some())
    }

    fn read(reader: &mut Reader) -> Self {
        let data_dir = reader.read("data_dir", rule::path());
        let durability = keep::durability(reader);
        let frame = FrameSettings::read(reader);
        let dialects = DialectsSettings::read(reader);
        let ring = RingSettings::read(reader);
        let http = HttpSettings::read(reader);
        let video_size = reader.read("video.size", keep::video_size());
        let clip = ClipSettings::read(reader);
        let spool = SpoolSettings::read(reader);
        let continuous = ContinuousSettings::read(reader);
        let signing = SigningSettings::read(reader);
        let motion = MotionSettings::read(reader);
        let guard = GuardSettings::read(reader);
        let detectors = DetectorsSettings::read(reader);
        let faces = FacesSettings::read(reader);
        let models = ModelsSettings::read(reader);
        let events = EventsSettings::read(reader);
        let storage = StorageSettings::read(reader);
        let store = StoreSettings::read(reader);
        let supervision = SupervisionSettings::read(reader);
        let attendance = AttendanceSettings::read(reader);
        let unconfigured =
            CameraSettings::unconfigured(&motion, &guard, &detectors, video_size, MaskSettings::read(reader));
        let cameras = camera::read_all(reader, &unconfigured);
        let retention = RetentionSettings::read(reader, &cameras);
        let notify = NotifySettings::read(reader, &cameras);
        let log = LogSettings::read(reader);
        Self {
            data_dir,
            durability,
            frame,
            dialects,
            ring,
            http,
            video_size,
            clip,
            spool,
            continuous,
            signing,
            motion,
            guard,
            detectors,
            faces,
            models,
            events,
            storage,
            store,
            retention,
            supervision,
            attendance,
            notify,
            cameras,
            unconfigured,
            log,
        }
    }
}
