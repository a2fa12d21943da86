//! The dialect `watch`: live pictures by UDP to viewers that join by TCP.

use meerkat_base::CameraId;

use super::super::reader::Reader;
use super::super::rule::{self, Rule, count, small, text, whole};
use super::DoorSettings;

/// What a viewer's side of a picture may have, pixels.
const SIDES: std::ops::RangeInclusive<u32> = 16..=1_280;

/// Live pictures by UDP.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchDialectSettings {
    /// Its door. A viewer that answers nothing for `idle_timeout` is dropped; one that does not say its port within
    /// `stall_timeout` is not let in.
    pub door: DoorSettings,
    /// The camera that viewers see.
    pub camera: CameraId,
    /// Width of the pictures in pixels, 16..=1280.
    pub width: u32,
    /// Height of the pictures in pixels, 16..=1280.
    pub height: u32,
    /// Best JPEG quality of the pictures, 1..=100.
    pub quality: u8,
    /// Most bytes of a picture, at most what one datagram holds.
    pub max_datagram_bytes: usize,
    /// Pictures per second at most, at least 1.
    pub max_frames_per_second: u32,
    /// Viewers per address (IPv6: per /64).
    pub max_viewers_per_address: usize,
    /// Most bytes of the log of viewers before it is turned over.
    pub log_max_bytes: u64,
    /// Old logs of viewers that are kept.
    pub log_files: u32,
}

impl WatchDialectSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let door = DoorSettings::read_one(reader, "dialects.watch");
        let problems = reader.problem_count();
        let camera = reader.read("dialects.watch.camera", rule::optional(camera()));
        let is_camera_wrong = reader.problem_count() > problems;
        let (width, height) = reader.read("dialects.watch.size", size());
        let quality = reader.read("dialects.watch.quality", quality());
        let max_datagram_bytes = reader.read("dialects.watch.max_datagram_bytes", count(4_096..=65_507));
        let max_frames_per_second = reader.read("dialects.watch.max_frames_per_second", small(1..=100));
        let max_viewers_per_address =
            reader.read("dialects.watch.max_viewers_per_address", count(1..=65_536));
        let log_max_bytes = reader.read("dialects.watch.log_max_bytes", whole(4_096..=1 << 30));
        let log_files = reader.read("dialects.watch.log_files", small(0..=100));
        // Every key has been looked at, also while it is off.
        let door = door?;
        let Some(camera) = camera else {
            if !is_camera_wrong {
                reader
                    .complain("dialects.watch.camera", "must be set: the id of the camera that viewers see");
            }
            return None;
        };
        Some(Self {
            door,
            camera,
            width,
            height,
            quality,
            max_datagram_bytes,
            max_frames_per_second,
            max_viewers_per_address,
            log_max_bytes,
            log_files,
        })
    }
}

/// The id of a camera, named or shown by its address.
fn camera() -> Rule<CameraId> {
    let text = text(1..=64);
    Rule::new("the id of a camera", move |value| {
        CameraId::from_shown(&text.parse(value)?).ok().filter(|id| *id != CameraId::node())
    })
}

fn size() -> Rule<(u32, u32)> {
    let text = text(1..=16);
    Rule::new("\"WIDTHxHEIGHT\" with numbers of pixels from 16 to 1280", move |value| {
        let text = text.parse(value)?;
        let (width, height) = text.split_once('x')?;
        let side = |side: &str| side.parse().ok().filter(|side| SIDES.contains(side));
        Some((side(width)?, side(height)?))
    })
}

fn quality() -> Rule<u8> {
    let whole = whole(1..=100);
    Rule::new(whole.allowed.clone(), move |value| u8::try_from(whole.parse(value)?).ok())
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::{loaded, wrong_keys};

    #[test]
    fn viewers_see_one_camera_that_is_named() {
        let watch = loaded("[dialects.watch]\nlisten = \"127.0.0.1:9999\"\ncamera = \"yard\"").dialects.watch;
        let watch = watch.unwrap();
        assert_eq!((watch.camera.as_str(), watch.width, watch.height), ("yard", 160, 120));
        assert_eq!((watch.max_viewers_per_address, watch.max_datagram_bytes), (4, 65_507));
        assert_eq!(watch.door.idle_timeout.as_secs(), 10);
        let by_address = "[dialects.watch]\nlisten = \"127.0.0.1:9999\"\ncamera = \"10.0.0.7~2\"";
        assert_eq!(loaded(by_address).dialects.watch.unwrap().camera.as_str(), "10.0.0.7~2");
        assert_eq!(
            wrong_keys("dialects.watch.listen = \"127.0.0.1:9999\""),
            ["dialects.watch.camera"],
            "no camera is shown to anybody by chance"
        );
        assert_eq!(loaded("dialects.watch.camera = \"yard\"").dialects.watch, None, "off");
    }
}
