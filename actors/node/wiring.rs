//! Gives each camera its stations, and turns settings into what the actors take.

use std::sync::{Arc, RwLock, Weak};
use std::time::Duration;

use jiff::tz::TimeZone;
use meerkat_base::{CameraId, Clock};
use meerkat_media as media;
use meerkat_settings::{Settings, VideoSize};
use meerkat_store::{DataFolder, TextLog, disk};

use super::NodeError;
use crate::camera::{Camera, CameraStations, Outfitter};
use crate::decoder::Decoder;
use crate::dialects::watch::{Live, LiveTools, Projector};
use crate::events::{CourierRules, EventsLink};
use crate::gate::Gates;
use crate::masker::Masker;
use crate::motion::Motion;
use crate::notices::Notices;
use crate::recorder::{EncoderSettings, Recorder, RecorderLink, RecorderTools};
use crate::supervision::{ActorKind, Crew, Failure};

/// A piece of an encoder's work that takes longer is a hang.
const ENCODER_DEADLINE: Duration = Duration::from_secs(30);

/// What stations of cameras are made with.
pub(super) struct Wiring {
    pub vision: Crew,
    pub disk: Crew,
    pub clock: Arc<dyn Clock>,
    pub gates: Arc<Gates>,
    pub events: EventsLink,
    pub recorder_tools: Arc<RecorderTools>,
    pub settings: Arc<Settings>,
    /// Live pictures of one camera, where they are on.
    pub live: Option<Live>,
}

impl Outfitter for Wiring {
    fn recorder(&self, _id: &CameraId) -> RecorderLink {
        RecorderLink::default()
    }

    fn outfit(&self, camera: &Arc<Camera>) {
        let supervision = &self.settings.supervision;
        let id = || Some(camera.id().clone());
        let (weak, clock, gates) = (Arc::downgrade(camera), Arc::clone(&self.clock), Arc::clone(&self.gates));
        let decoder = self.vision.station(ActorKind::Decoder, id(), supervision.decode_deadline, move || {
            Ok(Box::new(Decoder::new(weak.clone(), Arc::clone(&clock), Arc::clone(&gates))))
        });
        let (weak, clock, gates, events) =
            (Arc::downgrade(camera), Arc::clone(&self.clock), Arc::clone(&self.gates), self.events.clone());
        let motion = self.vision.station(ActorKind::Motion, id(), supervision.motion_deadline, move || {
            let camera = alive(&weak)?;
            Ok(Box::new(Motion::new(&camera, Arc::clone(&clock), Arc::clone(&gates), events.clone())?))
        });
        camera.set_stations(CameraStations { decoder, motion });
        let (weak, link) = (Arc::downgrade(camera), camera.masker.clone());
        let masker = self.vision.station(ActorKind::Masker, id(), supervision.decode_deadline, move || {
            Ok(Box::new(Masker::new(weak.clone(), link.clone())))
        });
        camera.masker.set_station(masker);
        if let Some(live) = self.live.as_ref().filter(|live| live.shows(camera.id())) {
            let (weak, own) = (Arc::downgrade(camera), live.clone());
            let projector =
                self.vision.station(ActorKind::Projector, id(), supervision.decode_deadline, move || {
                    Ok(Box::new(Projector::new(weak.clone(), own.clone())))
                });
            live.set_projector(projector);
            camera.set_live(live.clone());
        }
        let (weak, link, tools) =
            (Arc::downgrade(camera), camera.recorder.clone(), Arc::clone(&self.recorder_tools));
        let recorder = self.disk.station(ActorKind::Recorder, id(), supervision.disk_deadline, move || {
            Ok(Box::new(Recorder::new(weak.clone(), link.clone(), Arc::clone(&tools))?))
        });
        camera.recorder.set_station(recorder);
    }
}

fn alive(camera: &Weak<Camera>) -> Result<Arc<Camera>, Failure> {
    camera.upgrade().ok_or_else(|| Failure::error("the camera is gone"))
}

pub(super) fn courier_rules(settings: &Settings) -> CourierRules {
    CourierRules { recorded: settings.clip.kinds.clone(), check_in_repeat: settings.attendance.repeat }
}

pub(super) fn encoder_settings(settings: &Settings) -> Result<EncoderSettings, NodeError> {
    let preset =
        settings.clip.preset.parse().map_err(|e: media::MediaError| NodeError::Setting(e.to_string()))?;
    let size = match settings.clip.size {
        VideoSize::AsReceived => media::ClipSize::AsReceived,
        VideoSize::Pixels { width, height } => media::ClipSize::Fixed { width, height },
    };
    Ok(EncoderSettings {
        clip: media::ClipSettings { size, preset, crf: settings.clip.crf, threads: 1 },
        recorded: Arc::new(RwLock::new(settings.clip.kinds.clone())),
        max_open: settings.clip.max_open,
        deadline: ENCODER_DEADLINE,
        strip: settings.clip.strip,
        keep_spools: settings.spool.keep.is_some(),
    })
}

/// Live pictures for viewers, with their log in the data folder, where they are on.
pub(super) fn live(
    settings: &Settings,
    clock: &Arc<dyn Clock>,
    folder: &Arc<DataFolder>,
    notices: &Notices,
) -> Option<Live> {
    let watch = settings.dialects.watch.clone()?;
    let log = TextLog::new(
        Arc::clone(folder),
        disk::WATCH_LOG,
        "viewers.log",
        watch.log_max_bytes,
        watch.log_files,
    );
    let zone = meerkat_settings::time_zone(&settings.notify.time_zone).unwrap_or(TimeZone::UTC);
    Some(Live::new(watch, LiveTools { clock: Arc::clone(clock), notices: notices.sink(), log, zone }))
}
