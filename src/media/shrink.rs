//! Makes a smaller clip of a clip: decodes it, scales it down, and encodes it at the rate that its new size allows.
//! Where and when that is done, and what becomes of the files, is the caller's business.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::time::Duration;

use ffmpeg_next::{Packet, frame};

use crate::canvas::{Canvas, fit};
use crate::clip::{ClipSettings, ClipSize, Preset};
use crate::encoder::{Mp4Encoder, Rate, TICKS, check_encoder, not_text};
use crate::error::MediaError;
use crate::input::{Input, Watch};
use crate::library::is_again;

/// Bits per pixel and second below which a picture falls to pieces; a smaller one is made instead.
const BITS_PER_PIXEL: f64 = 1.2;
/// No clip is made smaller than this, pixels of the longer side.
const SMALLEST_SIDE_PX: u32 = 160;
/// Below this rate nothing can be seen, bits per second.
const LOWEST_RATE: f64 = 12_000.0;
/// Bytes of the container: a head, and some for each frame.
const HEAD_BYTES: f64 = 2_000.0;
const FRAME_BYTES: f64 = 20.0;
/// Attempts, each at a lower rate when the one before came out too large.
const ATTEMPTS: u32 = 3;

/// Writes the clip at `source` anew to `target`, which must not exist, in about `aim` bytes or fewer, within `limit`.
/// `duration` is the clip's. Returns how many bytes the new one has: more than `aim` where nothing smaller could be
/// made. After an error `target` may be there, unfinished.
pub fn shrink(
    source: &Path,
    target: &Path,
    duration: Duration,
    aim: u64,
    limit: Duration,
) -> Result<u64, MediaError> {
    check_encoder()?;
    target.to_str().ok_or_else(not_text)?;
    let watch = Watch::new(source.display().to_string(), limit, None);
    let seconds = duration.as_secs_f64().max(0.1);
    let mut share = 1.0;
    let mut bytes = 0;
    for _ in 0..ATTEMPTS {
        let mut input = Input::open_file(source, std::sync::Arc::clone(&watch))?;
        let frames = input.frames_hint().unwrap_or(0) as f64;
        let payload = (aim as f64 - HEAD_BYTES - frames * FRAME_BYTES).max(0.0) * share;
        let rate = payload * 8.0 / seconds;
        if rate < LOWEST_RATE {
            let reason = format!("{aim} bytes are too few for {seconds:.0} s of video");
            return Err(MediaError::Setting { setting: "size", reason });
        }
        let _ = fs::remove_file(target);
        encode(&mut input, target, rate, &watch)?;
        bytes = fs::metadata(target)
            .map_err(|source| MediaError::File { path: target.to_owned(), source })?
            .len();
        if bytes <= aim {
            return Ok(bytes);
        }
        share *= 0.9 * aim as f64 / bytes as f64;
    }
    Ok(bytes)
}

/// One pass over the clip. The watch was begun once: it limits the whole work.
fn encode(input: &mut Input, target: &Path, rate: f64, watch: &Watch) -> Result<(), MediaError> {
    let mut decoder = input.decoder()?;
    let tick = input.seconds_per_tick();
    let mut writer: Option<Writer> = None;
    let (mut packet, mut decoded) = (Packet::empty(), frame::Video::empty());
    let mut open = true;
    while open {
        watch.check()?;
        open = input.read(&mut packet)?;
        let sent = if open { decoder.send_packet(&packet) } else { decoder.send_eof() };
        // A damaged packet is passed over: the frame before stands longer.
        if sent.is_err() && open {
            continue;
        }
        loop {
            match decoder.receive_frame(&mut decoded) {
                Ok(()) => {}
                Err(error) if is_again(error) => break,
                Err(_) => break,
            }
            let at = decoded.timestamp().map_or(0.0, |ticks| ticks as f64 * tick);
            let pts = (at * f64::from(TICKS)).round() as i64;
            let writer = match &mut writer {
                Some(writer) => writer,
                None => writer.insert(Writer::new(target, (decoded.width(), decoded.height()), rate)?),
            };
            writer.push(&decoded, pts)?;
        }
    }
    match writer {
        Some(writer) => writer.finish(),
        None => Err(MediaError::EmptyClip { skipped: 0 }),
    }
}

struct Writer {
    canvas: Canvas,
    encoder: Mp4Encoder,
    last: Option<i64>,
    gap: i64,
}

impl Writer {
    fn new(target: &Path, from: (u32, u32), rate: f64) -> Result<Self, MediaError> {
        let size = size_for(from, rate);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(target)
            .map_err(|source| MediaError::File { path: target.to_owned(), source })?;
        let settings = ClipSettings {
            size: ClipSize::Fixed { width: size.0, height: size.1 },
            preset: Preset::Veryfast,
            crf: 23,
            threads: 1,
        };
        let bits_per_second = u32::try_from(rate as u64).unwrap_or(u32::MAX);
        let encoder = Mp4Encoder::new(file, target, size, &settings, Rate::AtMost { bits_per_second })?;
        Ok(Self { canvas: Canvas::new(size.0, size.1), encoder, last: None, gap: i64::from(TICKS) / 25 })
    }

    fn push(&mut self, frame: &frame::Video, pts: i64) -> Result<(), MediaError> {
        let pts = match self.last {
            // The first frame stands from the beginning.
            None => 0,
            Some(last) => {
                let pts = pts.max(last + 1);
                self.gap = (pts - last).min(i64::from(TICKS));
                pts
            }
        };
        let mut placed = self.canvas.place(frame).map_err(crate::error::at("scaling a frame"))?;
        self.encoder.encode(&mut placed, pts, self.gap)?;
        self.last = Some(pts);
        Ok(())
    }

    fn finish(self) -> Result<(), MediaError> {
        self.encoder.finish(self.gap)
    }
}

/// The size, of the same shape and even, at which a rate is enough for a picture.
fn size_for(from: (u32, u32), rate: f64) -> (u32, u32) {
    let pixels = f64::from(from.0) * f64::from(from.1);
    let factor = (rate / BITS_PER_PIXEL / pixels.max(1.0)).sqrt().min(1.0);
    let longer = (f64::from(from.0.max(from.1)) * factor) as u32;
    let longer = longer.max(SMALLEST_SIDE_PX).min(from.0.max(from.1)) & !1;
    let longer = longer.max(2);
    let (width, height) = fit(from, (longer, longer));
    ((width & !1).max(2), (height & !1).max(2))
}

#[cfg(test)]
mod tests {
    use meerkat_base::{Image, ImageFormat, PixelFormat};

    use super::*;
    use crate::clip::{ClipWriter, Pushed};
    use crate::probe::probe;
    use crate::testing::{bmp, picture};

    /// A clip that is hard to compress: noise over something that moves.
    fn busy(path: &Path, width: u32, height: u32, frames: u32) -> Duration {
        let settings =
            ClipSettings { size: ClipSize::AsReceived, preset: Preset::Ultrafast, crf: 18, threads: 1 };
        let mut writer = ClipWriter::create(path, settings).unwrap();
        let mut state = 7_u32;
        for n in 0..frames {
            let base = picture(width, height, n);
            let data = base
                .data()
                .iter()
                .map(|&byte| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    byte.saturating_add((state >> 27) as u8)
                })
                .collect();
            let noisy = Image::new(width, height, PixelFormat::Bgr8, data).unwrap();
            let at = Duration::from_millis(u64::from(n) * 100);
            assert_eq!(writer.push(&bmp(&noisy), ImageFormat::Bmp, at).unwrap(), Pushed::Encoded);
        }
        writer.finish().unwrap().duration
    }

    #[test]
    fn a_clip_becomes_as_small_as_it_must_and_plays_as_long() {
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path().join("a.mp4"), folder.path().join("b.mp4"));
        let duration = busy(&source, 320, 240, 40);
        let before = fs::metadata(&source).unwrap().len();
        let aim = before / 4;
        let bytes = shrink(&source, &target, duration, aim, Duration::from_secs(60)).unwrap();
        assert!(bytes <= aim, "{bytes} of {before} bytes, {aim} wanted");
        assert!(bytes > aim / 5, "{bytes} of {aim}: far smaller than needed");
        let (old, new) = (probe(&source).unwrap(), probe(&target).unwrap());
        assert_eq!((new.codec.as_str(), new.frames), ("h264", old.frames));
        assert!(new.duration.abs_diff(old.duration) < Duration::from_millis(50), "{new:?} {old:?}");
        assert!(new.width <= 320 && new.width * 3 == new.height * 4, "{new:?}");
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path().join("a.mp4"), folder.path().join("b.mp4"));
        let duration = busy(&source, 64, 48, 5);
        let minute = Duration::from_secs(60);
        let error = shrink(&source, &target, Duration::from_secs(600), 20_000, minute).unwrap_err();
        assert!(error.to_string().contains("too few"), "{error}");
        let error = shrink(&source, &target, duration, 1_000_000, Duration::ZERO).unwrap_err();
        assert!(matches!(error, MediaError::TimedOut { .. }), "{error}");
        fs::write(&source, b"no clip").unwrap();
        assert!(shrink(&source, &target, duration, 1_000_000, minute).is_err());
    }

    #[test]
    fn the_shape_is_kept_and_nothing_grows() {
        for (from, rate, expected) in [
            ((640, 480), 1e9, (640, 480)),
            ((1920, 1080), 600_000.0, (942, 530)),
            ((640, 480), 20_000.0, (160, 120)),
            ((64, 48), 12_000.0, (64, 48)),
            ((480, 640), 92_160.0, (240, 320)),
        ] {
            let size = size_for(from, rate);
            assert_eq!(size, expected, "{from:?} {rate}");
        }
    }
}
