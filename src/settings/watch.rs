//! Settings of what looks at frames: motion, guard, detectors, and how sightings become events.

use std::time::Duration;

use super::reader::Reader;
use super::rule::{self, Rule, choice, count, flag, millis, number, secs, small};

/// General motion, seen on a reduced grey picture.
#[derive(Debug, Clone, PartialEq)]
pub struct MotionSettings {
    /// Whether motion is looked for.
    pub enabled: bool,
    /// Difference from the background, in grey levels 1..=255, that counts as changed.
    pub threshold: u8,
    /// Changed regions smaller than this share of the picture do not count, 0..=1.
    pub min_area_share: f32,
    /// By how much the picture is reduced before it is looked at.
    pub reduction: Reduction,
    /// Something new that rests this long becomes background.
    pub learning: Duration,
}

/// A reduction that the JPEG decoder makes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduction {
    /// Full size.
    One,
    /// Half width and height.
    Two,
    /// A quarter.
    Four,
    /// An eighth.
    Eight,
}

impl Reduction {
    /// The divisor of width and height: 1, 2, 4 or 8.
    pub fn divisor(self) -> u32 {
        match self {
            Reduction::One => 1,
            Reduction::Two => 2,
            Reduction::Four => 4,
            Reduction::Eight => 8,
        }
    }
}

/// The guard of a still object (mode 3).
#[derive(Debug, Clone, PartialEq)]
pub struct GuardSettings {
    /// How far the object may move before that is an alarm, as a share of the picture's width, 0..=1.
    pub displacement_share: f32,
    /// Looks in a row that must agree before an alarm.
    pub confirm_frames: u32,
    /// How long the view must be free and still before a missing object counts as removed.
    pub free_view: Duration,
    /// Where the object stands; `None` for the picture without a margin of a tenth.
    pub zone: Option<Zone>,
}

/// A part of the picture in shares of its width and height; lies within it and is not empty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Zone {
    /// Left edge, 0..1.
    pub x: f32,
    /// Top edge, 0..1.
    pub y: f32,
    /// Width, over 0, `x + width <= 1`.
    pub width: f32,
    /// Height, over 0, `y + height <= 1`.
    pub height: f32,
}

impl Zone {
    /// Reads `x,y,width,height`.
    fn parse(text: &str) -> Option<Self> {
        let shares: Vec<f32> =
            text.split(',').map(|part| part.trim().parse().ok()).collect::<Option<Vec<_>>>()?;
        let &[x, y, width, height] = shares.as_slice() else { return None };
        let inside = |from: f32, extent: f32| from >= 0.0 && extent > 0.0 && from + extent <= 1.000_001;
        (inside(x, width) && inside(y, height)).then_some(Self { x, y, width, height })
    }
}

/// All detectors.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectorsSettings {
    /// Threads for detectors, at least 1 (the key's 0, one per core, is already resolved).
    pub threads: usize,
    /// Where networks compute.
    pub device: Device,
    /// What GPUs compute in.
    pub precision: Precision,
    /// People.
    pub person: DetectorSettings,
    /// Faces.
    pub face: DetectorSettings,
    /// Whose faces they are, where a network compares them.
    pub recognition: RecognitionSettings,
}

/// Where networks compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// The first GPU where there is one and the build supports it, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The NVIDIA GPU of this number.
    Cuda(usize),
}

impl Device {
    /// GPUs are numbered up to this.
    const LAST: usize = 63;
}

/// What is no device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownDevice;

impl std::fmt::Display for UnknownDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(DEVICES)
    }
}

impl std::error::Error for UnknownDevice {}

const DEVICES: &str = "\"auto\", \"cpu\" or \"cuda:N\" with the number of a GPU, such as \"cuda:0\"";

impl std::str::FromStr for Device {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        match text {
            "auto" => Ok(Device::Auto),
            "cpu" => Ok(Device::Cpu),
            _ => {
                let number = text.strip_prefix("cuda:").ok_or(UnknownDevice)?;
                let plain = number.bytes().all(|digit| digit.is_ascii_digit());
                let number = number.parse().ok().filter(|&number| plain && number <= Self::LAST);
                number.map(Device::Cuda).ok_or(UnknownDevice)
            }
        }
    }
}

/// What networks compute in on a GPU; the CPU always computes in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// In what the networks are held to the numbers of their originals: f32.
    Auto,
    /// 32 bits.
    F32,
    /// 16 bits for weights and values, 32 for sums.
    F16,
}

/// What is no precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownPrecision;

impl std::fmt::Display for UnknownPrecision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(PRECISIONS)
    }
}

impl std::error::Error for UnknownPrecision {}

const PRECISIONS: &str = "\"auto\", \"f32\" or \"f16\"";

impl std::str::FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(text: &str) -> Result<Self, UnknownPrecision> {
        match text {
            "auto" => Ok(Precision::Auto),
            "f32" => Ok(Precision::F32),
            "f16" => Ok(Precision::F16),
            _ => Err(UnknownPrecision),
        }
    }
}

/// When a face that a network found is compared with the enrolled ones, and when it is one of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RecognitionSettings {
    /// Least likeness (cosine) with a picture of the person, 0..=1.
    pub threshold: f32,
    /// By how much everybody else must be less alike, 0..=1.
    pub margin: f32,
    /// Least width of a face that is compared, in pixels of the picture that was searched.
    pub min_width_px: f32,
    /// Least sharpness of a face that is compared, 0..=1.
    pub min_sharpness: f32,
    /// Furthest turn to the side of a face that is compared; 0 looks straight ahead, 0.5 is about half a profile.
    pub max_turn: f32,
    /// Furthest tilt of a face that is compared, degrees from upright, 0..=180.
    pub max_tilt_degrees: f32,
}

/// One detector.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectorSettings {
    /// Which implementation.
    pub backend: Backend,
    /// The network, where one is used: a name that `meerkat models list` shows, or the path of a file.
    pub model: String,
    /// Certainty below which a find is dropped, 0..=1. A camera may have its own.
    pub min_score: f32,
    /// Shortest time between two looks at one camera.
    pub every: Duration,
    /// What opens the gate before the detector.
    pub gate: Gate,
    /// Time between two looks while the gate is shut; `None`: no looks then.
    pub idle_every: Option<Duration>,
}

/// Which implementation of a detector is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The network where its weights are in the models folder, else the classic one.
    Auto,
    /// The network, on candle; an error where its weights are missing.
    Candle,
    /// The built-in classic one.
    Classic,
}

/// What opens the gate before a detector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Motion at the camera, seconds ago at most. Where motion is not looked for, the gate is open.
    Motion,
    /// It is always open.
    Open,
}

/// How sightings become one event, for each kind that has frames of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct EventsSettings {
    /// Motion.
    pub motion: EventSettings,
    /// People.
    pub person: EventSettings,
    /// Faces.
    pub face: EventSettings,
}

/// How sightings of one kind become one event.
#[derive(Debug, Clone, PartialEq)]
pub struct EventSettings {
    /// Sightings among the last `window` looks that start an event; at most `window`.
    pub start_hits: u32,
    /// Looks that count.
    pub window: u32,
    /// Time without a sighting after which it ends.
    pub end: Duration,
    /// Time after the end in which no new event of this kind starts at this camera.
    pub cooldown: Duration,
}

impl MotionSettings {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            enabled: reader.read("motion.enabled", flag()),
            threshold: reader.read("motion.threshold", grey_levels()),
            min_area_share: reader.read("motion.min_area_share", number(0.0..=1.0)),
            reduction: reader.read("motion.reduction", reduction()),
            learning: reader.read("motion.learning_secs", secs(0.1..=14_400.0)),
        }
    }

    /// The same with what a camera says otherwise.
    pub(super) fn read_overrides(&self, reader: &mut Reader, section: &str) -> Self {
        let key = |name| format!("{section}.motion.{name}");
        Self {
            enabled: reader.read_if(&key("enabled"), flag()).unwrap_or(self.enabled),
            threshold: reader.read_if(&key("threshold"), grey_levels()).unwrap_or(self.threshold),
            min_area_share: reader
                .read_if(&key("min_area_share"), number(0.0..=1.0))
                .unwrap_or(self.min_area_share),
            reduction: self.reduction,
            learning: self.learning,
        }
    }
}

impl GuardSettings {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            displacement_share: reader.read("guard.displacement_share", number(0.001..=1.0)),
            confirm_frames: reader.read("guard.confirm_frames", small(1..=1_000)),
            free_view: reader.read("guard.free_view_secs", secs(0.0..=600.0)),
            zone: reader.read("guard.zone", rule::optional(zone())),
        }
    }

    /// The same with what a camera says otherwise.
    pub(super) fn read_overrides(&self, reader: &mut Reader, section: &str) -> Self {
        let key = |name| format!("{section}.guard.{name}");
        Self {
            displacement_share: reader
                .read_if(&key("displacement_share"), number(0.001..=1.0))
                .unwrap_or(self.displacement_share),
            confirm_frames: reader
                .read_if(&key("confirm_frames"), small(1..=1_000))
                .unwrap_or(self.confirm_frames),
            free_view: reader.read_if(&key("free_view_secs"), secs(0.0..=600.0)).unwrap_or(self.free_view),
            zone: reader.read_if(&format!("{section}.zone"), rule::optional(zone())).unwrap_or(self.zone),
        }
    }
}

impl DetectorsSettings {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let threads = reader.read("detectors.threads", count(0..=256));
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            threads: if threads == 0 { cores() } else { threads },
            device: reader.read("detectors.device", device()),
            precision: reader.read("detectors.precision", precision()),
            person: DetectorSettings::read(reader, "detectors.person"),
            face: DetectorSettings::read(reader, "detectors.face"),
            recognition: RecognitionSettings::read(reader, "detectors.face"),
        }
    }
}

impl RecognitionSettings {
    fn read(reader: &mut Reader, section: &str) -> Self {
        let key = |name| format!("{section}.{name}");
        Self {
            threshold: reader.read(&key("threshold"), number(0.0..=1.0)),
            margin: reader.read(&key("margin"), number(0.0..=1.0)),
            min_width_px: reader.read(&key("min_width_px"), number(0.0..=10_000.0)),
            min_sharpness: reader.read(&key("min_sharpness"), number(0.0..=1.0)),
            max_turn: reader.read(&key("max_turn"), number(0.0..=10.0)),
            max_tilt_degrees: reader.read(&key("max_tilt_degrees"), number(0.0..=180.0)),
        }
    }
}

impl DetectorSettings {
    fn read(reader: &mut Reader, section: &str) -> Self {
        let key = |name| format!("{section}.{name}");
        let backends = &[("auto", Backend::Auto), ("candle", Backend::Candle), ("classic", Backend::Classic)];
        let gates = &[("motion", Gate::Motion), ("none", Gate::Open)];
        let idle = reader.read(&key("idle_every_ms"), millis(0..=3_600_000));
        Self {
            backend: reader.read(&key("backend"), choice(backends)),
            model: reader.read(&key("model"), rule::text(1..=4_096)),
            min_score: reader.read(&key("min_score"), number(0.0..=1.0)),
            every: reader.read(&key("every_ms"), millis(0..=60_000)),
            gate: reader.read(&key("gate"), choice(gates)),
            idle_every: if idle.is_zero() { None } else { Some(idle) },
        }
    }
}

impl EventsSettings {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            motion: EventSettings::read(reader, "events.motion"),
            person: EventSettings::read(reader, "events.person"),
            face: EventSettings::read(reader, "events.face"),
        }
    }
}

impl EventSettings {
    fn read(reader: &mut Reader, section: &str) -> Self {
        let key = |name| format!("{section}.{name}");
        let start_hits = reader.read(&key("start_hits"), small(1..=100));
        let window = reader.read(&key("window"), small(1..=100));
        if start_hits > window {
            reader.complain(&key("start_hits"), format!("must be at most {} (now {window})", key("window")));
        }
        Self {
            start_hits,
            window,
            end: reader.read(&key("end_secs"), secs(0.1..=3_600.0)),
            cooldown: reader.read(&key("cooldown_secs"), secs(0.0..=86_400.0)),
        }
    }
}

fn grey_levels() -> Rule<u8> {
    // The range of `small` makes the conversion lossless.
    small(1..=255).map(|level| u8::try_from(level).unwrap_or(u8::MAX))
}

fn reduction() -> Rule<Reduction> {
    let whole = rule::whole(1..=8);
    Rule::new("1, 2, 4 or 8", move |value| match whole.parse(value)? {
        1 => Some(Reduction::One),
        2 => Some(Reduction::Two),
        4 => Some(Reduction::Four),
        8 => Some(Reduction::Eight),
        _ => None,
    })
}

fn device() -> Rule<Device> {
    let text = rule::text(0..=100);
    Rule::new(DEVICES, move |value| text.parse(value)?.parse().ok())
}

fn precision() -> Rule<Precision> {
    let text = rule::text(0..=100);
    Rule::new(PRECISIONS, move |value| text.parse(value)?.parse().ok())
}

fn zone() -> Rule<Zone> {
    let text = rule::text(0..=100);
    Rule::new("\"x,y,width,height\" in shares of the picture, within 0 and 1", move |value| {
        Zone::parse(&text.parse(value)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        let named = ["auto", "cpu", "cuda:0", "cuda:63"].map(|text| text.parse().ok());
        let expected = [Device::Auto, Device::Cpu, Device::Cuda(0), Device::Cuda(63)];
        assert_eq!(named, expected.map(Some));
        for bad in ["", "gpu", "CPU", "cuda", "cuda:", "cuda:-1", "cuda:+1", "cuda:64", "cuda:0 "] {
            assert_eq!(bad.parse::<Device>(), Err(UnknownDevice), "{bad}");
        }
    }

    #[test]
    fn precisions_have_names() {
        let named = ["auto", "f32", "f16"].map(|text| text.parse().ok());
        assert_eq!(named, [Precision::Auto, Precision::F32, Precision::F16].map(Some));
        for bad in ["", "F16", "half", "16", "bf16"] {
            assert_eq!(bad.parse::<Precision>(), Err(UnknownPrecision), "{bad}");
        }
    }

    #[test]
    fn zones_lie_within_the_picture() {
        let whole = Zone { x: 0.0, y: 0.0, width: 1.0, height: 1.0 };
        assert_eq!(Zone::parse("0,0,1,1"), Some(whole));
        assert_eq!(Zone::parse(" 0.1, 0.2 ,0.9,0.8").map(|z| z.x), Some(0.1));
        for bad in ["", "0,0,1", "0,0,1,1,1", "0,0,0,1", "-0.1,0,1,1", "0.5,0,0.6,1", "nan,0,1,1", "a,b,c,d"]
        {
            assert_eq!(Zone::parse(bad), None, "{bad}");
        }
    }
}
