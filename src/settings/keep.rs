//! Settings of what is kept and of how the node looks after itself: clips, disk, supervision, attendance, log.

use std::time::Duration;

use meerkat_base::EventKind;

use super::notify::event_kinds;
use super::reader::Reader;
use super::rule::{Rule, choice, count, days, flag, millis, optional, secs, small, text, whole};

/// What an answered `1` survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The death of the node.
    Process,
    /// The death of the machine: everything is flushed to disk first.
    Power,
}

/// Size of the videos of mode 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VideoSize {
    /// Every frame is resized to this; both even, as H.264 wants them.
    Pixels {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// The size of the first frame.
    AsReceived,
}

impl VideoSize {
    fn parse(text: &str) -> Option<Self> {
        if text == "as-received" {
            return Some(Self::AsReceived);
        }
        let (width, height) = text.split_once('x')?;
        let side = |text: &str| {
            text.parse().ok().filter(|&side: &u32| (16..=4_096).contains(&side) && side.is_multiple_of(2))
        };
        Some(Self::Pixels { width: side(width)?, height: side(height)? })
    }
}

/// The rule of every key that holds a [`VideoSize`].
pub(super) fn video_size() -> Rule<VideoSize> {
    let text = text(1..=20);
    Rule::new(
        "\"as-received\" or \"WIDTHxHEIGHT\" with even numbers of pixels from 16 to 4096",
        move |value| VideoSize::parse(&text.parse(value)?),
    )
}

/// Clips of events.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipSettings {
    /// What is shown from before the event; at most the span of the ring.
    pub pre_roll: Duration,
    /// What is shown from after its end.
    pub post_roll: Duration,
    /// Longest clip; more than pre-roll and post-roll together.
    pub max: Duration,
    /// Preset of the H.264 encoder.
    pub preset: &'static str,
    /// Constant rate factor of the H.264 encoder, 0 (best) to 51.
    pub crf: u8,
    /// Size of the clips.
    pub size: VideoSize,
    /// Kinds of events that have a clip and a snapshot.
    pub kinds: Vec<EventKind>,
    /// Clips and videos that are encoded at the same time; others wait as spools.
    pub max_open: usize,
    /// Small pictures in the preview strip beside a clip; 0: no strip.
    pub strip: u8,
}

/// The presets of x264 that the room media offers, fastest first.
const PRESETS: &[(&str, &str)] = &[
    ("ultrafast", "ultrafast"),
    ("superfast", "superfast"),
    ("veryfast", "veryfast"),
    ("faster", "faster"),
    ("fast", "fast"),
    ("medium", "medium"),
];

impl ClipSettings {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            pre_roll: reader.read("clip.pre_roll_secs", secs(0.0..=600.0)),
            post_roll: reader.read("clip.post_roll_secs", secs(0.0..=600.0)),
            max: reader.read("clip.max_secs", secs(1.0..=86_400.0)),
            preset: reader.read("clip.preset", choice(PRESETS)),
            // The range of `small` makes the conversion lossless.
            crf: reader.read("clip.crf", small(0..=51).map(|crf| u8::try_from(crf).unwrap_or(51))),
            size: reader.read("clip.size", video_size()),
            kinds: reader.read("clip.kinds", event_kinds(&EventKind::SEEN)),
            max_open: reader.read("clip.max_open", count(1..=64)),
            strip: reader.read("clip.strip", small(0..=32).map(|n| u8::try_from(n).unwrap_or(32))),
        }
    }
}

/// The disk.
#[derive(Debug, Clone, PartialEq)]
pub struct StorageSettings {
    /// Free bytes below which the oldest evidence goes; when nothing may go, recordings are refused.
    pub free_floor_bytes: u64,
    /// Bytes that are freed beyond the floor, so that deleting does not begin anew with each picture.
    pub free_extra_bytes: u64,
    /// Size of the ballast, which is given up so that deletions can be recorded on a full disk; 0 for none.
    pub ballast_bytes: u64,
    /// A wall clock that jumps further suspends deletion by age.
    pub clock_jump: Duration,
    /// A node that was down for longer does not delete by age before a person confirms the clock.
    pub clock_gap: Duration,
}

impl StorageSettings {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            free_floor_bytes: reader.read("storage.free_floor_bytes", whole(0..=1 << 50)),
            free_extra_bytes: reader.read("storage.free_extra_bytes", whole(0..=1 << 50)),
            ballast_bytes: reader.read("storage.ballast_bytes", whole(0..=1 << 34)),
            clock_jump: reader.read("storage.clock_jump_secs", secs(60.0..=86_400.0)),
            clock_gap: reader.read("storage.clock_gap_days", days(0.1..=3_650.0)),
        }
    }
}

/// The database.
#[derive(Debug, Clone, PartialEq)]
pub struct StoreSettings {
    /// When it is copied every day; none for never.
    pub backup_at: Option<TimeOfDay>,
    /// Nightly copies that are kept.
    pub backups_keep: usize,
    /// Whether it is copied before its schema changes.
    pub backup_before_migration: bool,
}

/// A time of the day; in which time zone says whoever has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeOfDay {
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
}

impl TimeOfDay {
    fn parse(text: &str) -> Option<Self> {
        let two = |text: &str, below: u8| {
            let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
            text.parse().ok().filter(|&number: &u8| digits && number < below)
        };
        let (hour, minute) = text.split_once(':')?;
        Some(Self { hour: two(hour, 24)?, minute: two(minute, 60)? })
    }
}

/// A time of the day.
pub(super) fn time_of_day() -> Rule<TimeOfDay> {
    let text = text(5..=5);
    Rule::new("a time of the day such as \"03:30\"", move |value| TimeOfDay::parse(&text.parse(value)?))
}

impl StoreSettings {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            backup_at: reader.read("store.backup_at", optional(time_of_day())),
            backups_keep: reader.read("store.backups_keep", count(1..=365)),
            backup_before_migration: reader.read("store.backup_before_migration", flag()),
        }
    }
}

/// Deadlines and restarts.
#[derive(Debug, Clone, PartialEq)]
pub struct SupervisionSettings {
    /// Longest time for one decode.
    pub decode_deadline: Duration,
    /// Longest time for one look at motion.
    pub motion_deadline: Duration,
    /// Longest time for one look of a detector.
    pub detector_deadline: Duration,
    /// Longest time for one access to the disk.
    pub disk_deadline: Duration,
    /// Wait before the first restart; at most `backoff_max`.
    pub backoff_min: Duration,
    /// Longest wait before a restart.
    pub backoff_max: Duration,
    /// Hanging threads given up, at which the node exits.
    pub max_abandoned_threads: u32,
}

impl SupervisionSettings {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let deadline = || millis(10..=600_000);
        let backoff_min = reader.read("supervision.backoff_min_ms", millis(1..=60_000));
        let backoff_max = reader.read("supervision.backoff_max_secs", secs(0.001..=3_600.0));
        if backoff_min > backoff_max {
            reader.complain("supervision.backoff_min_ms", "must be at most supervision.backoff_max_secs");
        }
        Self {
            decode_deadline: reader.read("supervision.decode_deadline_ms", deadline()),
            motion_deadline: reader.read("supervision.motion_deadline_ms", deadline()),
            detector_deadline: reader.read("supervision.detector_deadline_ms", deadline()),
            disk_deadline: reader.read("supervision.disk_deadline_ms", deadline()),
            backoff_min,
            backoff_max,
            max_abandoned_threads: reader.read("supervision.max_abandoned_threads", small(1..=64)),
        }
    }
}

/// The log on the standard error output.
#[derive(Debug, Clone, PartialEq)]
pub struct LogSettings {
    /// How lines look.
    pub format: LogFormat,
    /// What is logged: `error`, `warn`, `info`, `debug` or `trace`. `MEERKAT_LOG` goes before it.
    pub level: &'static str,
}

/// How lines of the log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl LogSettings {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let formats = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
        let levels =
            &[("error", "error"), ("warn", "warn"), ("info", "info"), ("debug", "debug"), ("trace", "trace")];
        Self {
            format: reader.read("log.format", choice(formats)),
            level: reader.read("log.level", choice(levels)),
        }
    }
}

/// Reads the keys that stand in no section.
pub(super) fn durability(reader: &mut Reader) -> Durability {
    let words = &[("process", Durability::Process), ("power", Durability::Power)];
    reader.read("durability", choice(words))
}
