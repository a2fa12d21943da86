//! Says what a clip really holds, by reading every packet. For tests, recovery and `status`; decodes nothing.

use std::path::Path;
use std::time::Duration;

use ffmpeg_next::Packet;

use crate::error::MediaError;
use crate::input::{Input, Watch};

/// How long a file may take to be read through.
const LIMIT: Duration = Duration::from_secs(120);

/// What was found in a file.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipProbe {
    /// FFmpeg's name of the codec: `h264`, `mjpeg`, `gif`.
    pub codec: String,
    /// Width in pixels as stored (rotation not applied).
    pub width: u32,
    /// Height in pixels as stored (rotation not applied).
    pub height: u32,
    /// Video packets counted; one per frame in the formats used here.
    pub frames: u64,
    /// From the first frame's beginning to the last one's end, by the packets' times.
    pub duration: Duration,
    /// FFmpeg's name of the pixel format: `yuv420p`; empty when unknown.
    pub pixel_format: String,
}

/// Reads a file through and says what its video is.
pub fn probe(path: &Path) -> Result<ClipProbe, MediaError> {
    let watch = Watch::new(path.display().to_string(), LIMIT, None);
    watch.begin();
    let mut input = Input::open_file(path, watch)?;
    let decoder = input.decoder()?;
    let tick = input.seconds_per_tick();
    let (mut frames, mut first, mut last) = (0u64, i64::MAX, i64::MIN);
    let mut packet = Packet::empty();
    while input.read(&mut packet)? {
        frames += 1;
        if let Some(pts) = packet.pts().or(packet.dts()) {
            first = first.min(pts);
            last = last.max(pts.saturating_add(packet.duration().max(0)));
        }
    }
    let seconds = last.checked_sub(first).map_or(0.0, |ticks| ticks as f64 * tick);
    Ok(ClipProbe {
        codec: decoder.id().name().to_owned(),
        width: decoder.width(),
        height: decoder.height(),
        frames,
        duration: Duration::try_from_secs_f64(seconds).unwrap_or_default(),
        pixel_format: decoder.format().descriptor().map_or("", |d| d.name()).to_owned(),
    })
}
