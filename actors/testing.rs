//! What the tests of this room share: settings, a clock, cameras without actors, frames.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use meerkat_base::{
    CameraId, Clock, Detection, Event, EventId, EventKind, EventPhase, Frame, ImageFormat, ManualClock,
    MaskArea, NoNotices, Rect, WallTime,
};
use meerkat_settings::Settings;
use meerkat_store::DataFolder;

use crate::camera::{Camera, Cameras, Outfitter};
use crate::recorder::RecorderLink;
use crate::storage::Room;

pub const NOON: WallTime = WallTime(1_795_176_000_000_000);

/// The defaults with these keys changed, such as `clip.max_secs`.
pub fn settings(changes: &[(&str, &str)]) -> Settings {
    let env = changes.iter().map(|(key, value)| {
        (format!("MEERKAT__{}", key.replace('.', "__").to_uppercase()), (*value).to_owned())
    });
    Settings::load(&[], env).unwrap()
}

/// Room in a folder, with little demands.
pub fn room(data_dir: &std::path::Path) -> Arc<Room> {
    room_with(data_dir, 1)
}

/// Room that wants so many free bytes.
pub fn room_with(data_dir: &std::path::Path, floor: u64) -> Arc<Room> {
    let folder = Arc::new(DataFolder::open(data_dir).unwrap());
    let floor = floor.to_string();
    let settings = settings(&[("storage.free_floor_bytes", floor.as_str()), ("storage.ballast_bytes", "0")]);
    Arc::new(Room::new(folder, &settings.storage, Arc::new(NoNotices)))
}

/// Cameras to whom nobody belongs: what they are given stays where it was put.
pub struct Alone;

impl Outfitter for Alone {
    fn recorder(&self, _: &CameraId) -> RecorderLink {
        RecorderLink::default()
    }

    fn outfit(&self, _: &Arc<Camera>) {}
}

/// A register of such cameras.
pub fn cameras(clock: &ManualClock, changes: &[(&str, &str)]) -> Cameras {
    Cameras::new(Arc::new(settings(changes)), Arc::new(clock.clone()), Box::new(Alone))
}

/// One of them.
pub fn camera(cameras: &Cameras, id: &str) -> Arc<Camera> {
    cameras.attach(&CameraId::parse(id).unwrap()).camera
}

/// From now on nothing of what this camera sees may be seen.
pub fn cover_all(camera: &Camera) {
    let mut own = (*camera.settings()).clone();
    own.mask.areas = vec![MaskArea::parse("0,0,1,1").unwrap()];
    camera.set_settings(Arc::new(own));
}

/// The camera's next frame, as its session would make it; in the ring. Says whether it is to be recorded.
pub fn frame(camera: &Camera, clock: &ManualClock) -> (Frame, bool) {
    let mut state = camera.ring();
    let seq = camera.number(&mut state);
    let frame = Frame {
        camera: camera.id().clone(),
        seq,
        wall: clock.wall(),
        mono: clock.mono(),
        format: ImageFormat::Jpeg,
        width: 64,
        height: 48,
        proven: false,
        bytes: Bytes::from(format!("\u{fffd}picture {seq}")),
    };
    state.ring.push(frame.clone());
    (frame, state.recording)
}

/// A frame of no camera in particular.
pub fn plain_frame(seq: u8) -> Frame {
    Frame {
        camera: CameraId::parse("door").unwrap(),
        seq: u64::from(seq),
        wall: NOON,
        mono: meerkat_base::MonoTime(u64::from(seq)),
        format: ImageFormat::Jpeg,
        width: 64,
        height: 48,
        proven: false,
        bytes: Bytes::from_static(b"picture"),
    }
}

/// The camera's next frames, `gap` apart.
pub fn frames(camera: &Camera, clock: &ManualClock, count: usize, gap: Duration) -> Vec<Frame> {
    (0..count)
        .map(|_| {
            clock.advance(gap);
            frame(camera, clock).0
        })
        .collect()
}

/// An event that this frame started.
pub fn event(frame: &Frame, number: u8) -> Event {
    Event {
        id: EventId::new(frame.wall, [number; 10]),
        camera: frame.camera.clone(),
        kind: EventKind::Person,
        phase: EventPhase::Started,
        started: frame.wall,
        started_seq: frame.seq,
        ended: None,
        score: 0.9,
        identities: Vec::new(),
        sightings: Vec::new(),
    }
}

/// Something found, always at the same place.
pub fn found(label: &str, score: f32, identity: Option<&str>) -> Detection {
    let mut detection = Detection::new(label, score, Rect::new(10.0, 10.0, 20.0, 40.0));
    detection.identity = identity.map(str::to_owned);
    detection
}

/// Counters by name and the values of their labels, as one thread counts them.
#[derive(Clone, Default)]
pub struct Counters(Arc<Mutex<CounterValues>>);

type CounterValues = BTreeMap<(String, Vec<String>), Arc<AtomicU64>>;

impl Counters {
    /// Counts what this thread counts meanwhile.
    pub fn during<R>(&self, work: impl FnOnce() -> R) -> R {
        metrics::with_local_recorder(self, work)
    }

    /// How often this was counted.
    pub fn get(&self, name: &str, labels: &[&str]) -> u64 {
        let key = (name.to_owned(), labels.iter().map(|&label| label.to_owned()).collect());
        self.0.lock().unwrap().get(&key).map_or(0, |value| value.load(Ordering::Acquire))
    }
}

impl metrics::Recorder for Counters {
    fn describe_counter(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_gauge(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_histogram(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}

    fn register_counter(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        let labels = key.labels().map(|label| label.value().to_owned()).collect();
        let mut counters = self.0.lock().unwrap();
        metrics::Counter::from_arc(Arc::clone(counters.entry((key.name().to_owned(), labels)).or_default()))
    }

    fn register_gauge(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::noop()
    }

    fn register_histogram(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}
