//! AVI with MPEG-4 part 2 under the code XVID, made of encoded pictures as they come in: what old players and the tools of
//! old viewers expect. A new recording had better be a clip (H.264 in MP4, see `clip`).
//!
//! AVI knows no times, only a rate: pictures stand in a raster of [`RATE`] per second, and a place without a picture
//! repeats the one before it, at the cost of a few bytes.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ffmpeg_next::codec::{self, Flags, threading};
use ffmpeg_next::format::context::{Output, StreamIo};
use ffmpeg_next::format::{self, Pixel};
use ffmpeg_next::{Error, Packet, Rational, encoder, frame};
use meerkat_base::ImageFormat;

use crate::canvas::Canvas;
use crate::clip::{ClipInfo, MAX_CLIP_SIDE_PX, Pushed};
use crate::encoder::not_text;
use crate::error::{MediaError, PictureFault, at};
use crate::library::{init, is_again};
use crate::picture::PictureDecoder;

/// FFmpeg's name of the encoder.
const MPEG4: &str = "mpeg4";
/// By this code players know what is in the file.
const XVID: [u8; 4] = *b"XVID";
/// Places per second.
pub const RATE: i32 = 30;
/// Longest stretch without a picture, in places (one minute). A longer one is cut short.
const MAX_GAP: i64 = RATE as i64 * 60;
/// A key frame at least every so many frames, so that a player can jump.
const KEY_FRAME_EVERY: u32 = 60;
/// Quantiser of the encoder, 1 (best) to 31.
const QUANTISER: i32 = 3;
/// FFmpeg counts quality in this many parts of a quantiser (`FF_QP2LAMBDA`).
const LAMBDA_PER_QUANTISER: i32 = 118;

/// Writes one AVI file on the calling thread, frame by frame. The file is whole only after [`AviWriter::finish`]; a
/// writer that is dropped leaves an unfinished one.
pub struct AviWriter {
    path: PathBuf,
    pictures: PictureDecoder,
    stage: Stage,
    skipped: u64,
}

enum Stage {
    /// No picture yet: its size is that of the file.
    Waiting(File),
    Running(Box<Running>),
    Broken,
}

struct Running {
    canvas: Canvas,
    encoder: Encoder,
    frames: u64,
    /// Place of the last picture.
    last: i64,
}

impl AviWriter {
    /// Makes the file, which must not exist.
    pub fn create(path: &Path) -> Result<Self, MediaError> {
        init();
        encoder::find_by_name(MPEG4).ok_or(MediaError::NoEncoder { name: MPEG4 })?;
        path.to_str().ok_or_else(not_text)?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(|source| MediaError::File { path: path.to_owned(), source })?;
        let pictures = PictureDecoder::new();
        Ok(Self { path: path.to_owned(), pictures, stage: Stage::Waiting(file), skipped: 0 })
    }

    /// Adds a picture that was taken `at` after the beginning of the file. The first one stands at the beginning and
    /// gives the file its size, into which later ones are scaled; one whose place is taken stands in the next.
    ///
    /// An error means that the file cannot go on.
    pub fn push(&mut self, bytes: &[u8], format: ImageFormat, at: Duration) -> Result<Pushed, MediaError> {
        match self.pictures.decode_upright(bytes, format) {
            Ok(picture) => self.push_picture(&picture, at),
            Err(fault) => {
                self.skipped += 1;
                Ok(Pushed::Skipped(fault))
            }
        }
    }

    fn push_picture(&mut self, picture: &frame::Video, at: Duration) -> Result<Pushed, MediaError> {
        let mut running = match std::mem::replace(&mut self.stage, Stage::Broken) {
            Stage::Running(running) => running,
            Stage::Waiting(file) => {
                let side = |length: u32| (length.min(MAX_CLIP_SIDE_PX) & !1).max(2);
                let size = (side(picture.width()), side(picture.height()));
                let encoder = Encoder::new(file, &self.path, size)?;
                Box::new(Running { canvas: Canvas::new(size.0, size.1), encoder, frames: 0, last: -1 })
            }
            Stage::Broken => return Err(broken()),
        };
        let mut placed = match running.canvas.place(picture) {
            Ok(placed) => placed,
            Err(error) => {
                self.stage = Stage::Running(running);
                self.skipped += 1;
                return Ok(Pushed::Skipped(PictureFault::Undecodable { reason: error.to_string() }));
            }
        };
        let place = if running.frames == 0 {
            0
        } else {
            let wanted = i64::try_from(at.as_micros() * RATE as u128 / 1_000_000).unwrap_or(i64::MAX);
            wanted.clamp(running.last + 1, running.last + MAX_GAP)
        };
        running.encoder.encode(&mut placed, place)?;
        running.last = place;
        running.frames += 1;
        self.stage = Stage::Running(running);
        Ok(Pushed::Encoded)
    }

    /// Pictures in the file up to now.
    pub fn frames(&self) -> u64 {
        match &self.stage {
            Stage::Running(running) => running.frames,
            Stage::Waiting(_) | Stage::Broken => 0,
        }
    }

    /// Writes the rest and the index, and closes the file.
    pub fn finish(self) -> Result<ClipInfo, MediaError> {
        let running = match self.stage {
            Stage::Running(running) => running,
            Stage::Waiting(_) => return Err(MediaError::EmptyClip { skipped: self.skipped }),
            Stage::Broken => return Err(broken()),
        };
        let (width, height) = running.canvas.size();
        running.encoder.finish()?;
        let bytes = fs::metadata(&self.path)
            .map_err(|source| MediaError::File { path: self.path.clone(), source })?
            .len();
        let places = u32::try_from(running.last + 1).unwrap_or(u32::MAX);
        let duration = Duration::from_secs(1) * places / RATE as u32;
        Ok(ClipInfo { width, height, frames: running.frames, skipped: self.skipped, duration, bytes })
    }
}

fn broken() -> MediaError {
    MediaError::Library { step: "writing the AVI file", reason: "it failed before".to_owned() }
}

struct Encoder {
    encoder: encoder::video::Encoder,
    output: Output,
    stream_time_base: Rational,
    packet: Packet,
}

impl Encoder {
    /// Sides are even.
    fn new(file: File, path: &Path, (width, height): (u32, u32)) -> Result<Self, MediaError> {
        let codec = encoder::find_by_name(MPEG4).ok_or(MediaError::NoEncoder { name: MPEG4 })?;
        let mut context = codec::Context::new_with_codec(codec);
        context.set_flags(Flags::QSCALE);
        context.set_threading(threading::Config::count(1));
        // SAFETY: sets a number in a context that nobody else holds; the binding has no call for it.
        unsafe { (*context.as_mut_ptr()).codec_tag = u32::from_le_bytes(XVID) };
        let step = "opening the MPEG-4 encoder";
        let mut video = context.encoder().video().map_err(at(step))?;
        video.set_width(width);
        video.set_height(height);
        video.set_format(Pixel::YUV420P);
        video.set_time_base(Rational(1, RATE));
        video.set_frame_rate(Some(Rational(RATE, 1)));
        video.set_aspect_ratio(Rational(1, 1));
        video.set_gop(KEY_FRAME_EVERY);
        video.set_max_b_frames(0);
        video.set_global_quality(QUANTISER * LAMBDA_PER_QUANTISER);
        let opened = video.open_as(codec).map_err(at(step))?;

        let step = "starting the AVI file";
        let name = path.to_str().map(|text| format!("file:{text}")).ok_or_else(not_text)?;
        let io = StreamIo::from_write_seek(file).map_err(at(step))?;
        let mut output = format::output_to_stream(io, Some(&name), Some("avi")).map_err(at(step))?;
        output.add_stream_with(&opened).map_err(at(step))?.set_time_base(Rational(1, RATE));
        output.write_header().map_err(at(step))?;
        let stream_time_base = output.stream(0).map_or(Rational(1, RATE), |stream| stream.time_base());
        Ok(Self { encoder: opened, output, stream_time_base, packet: Packet::empty() })
    }

    fn encode(&mut self, frame: &mut frame::Video, place: i64) -> Result<(), MediaError> {
        frame.set_pts(Some(place));
        self.encoder.send_frame(frame).map_err(at("encoding a frame"))?;
        self.write_ready()
    }

    fn finish(mut self) -> Result<(), MediaError> {
        self.encoder.send_eof().map_err(at("finishing the encoder"))?;
        self.write_ready()?;
        self.output.write_trailer().map_err(at("writing the index of the AVI file"))
    }

    fn write_ready(&mut self) -> Result<(), MediaError> {
        loop {
            match self.encoder.receive_packet(&mut self.packet) {
                Ok(()) => {}
                Err(Error::Eof) => return Ok(()),
                Err(error) if is_again(error) => return Ok(()),
                Err(error) => return Err(at("encoding a frame")(error)),
            }
            self.packet.set_stream(0);
            self.packet.set_duration(1);
            self.packet.rescale_ts(Rational(1, RATE), self.stream_time_base);
            self.packet.write(&mut self.output).map_err(at("writing the AVI file"))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::picture::encode_jpeg;
    use crate::reader::{ReadOptions, Reader};
    use crate::testing::picture;

    fn jpeg(width: u32, height: u32, step: u32) -> Vec<u8> {
        encode_jpeg(&picture(width, height, step), 85).unwrap().to_vec()
    }

    fn write(path: &Path, times: &[u64]) -> ClipInfo {
        let mut writer = AviWriter::create(path).unwrap();
        for (step, &at) in (0..).zip(times) {
            let pushed =
                writer.push(&jpeg(160, 120, step), ImageFormat::Jpeg, Duration::from_millis(at)).unwrap();
            assert_eq!(pushed, Pushed::Encoded);
        }
        writer.finish().unwrap()
    }

    #[test]
    fn it_says_that_it_is_xvid_and_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.avi");
        let info = write(&path, &[0, 100, 200, 300, 1_400]);
        assert_eq!((info.width, info.height, info.frames, info.skipped), (160, 120, 5, 0));
        assert_eq!(info.duration, Duration::from_secs(1) * 43 / 30);
        let bytes = fs::read(&path).unwrap();
        assert_eq!((&bytes[..4], &bytes[8..12]), (&b"RIFF"[..], &b"AVI "[..]));
        let codes = bytes.windows(4).filter(|window| *window == XVID).count();
        assert!(codes >= 2, "in the stream's header and in its format");
        let mut reader = Reader::open(path.to_str().unwrap(), ReadOptions::default()).unwrap();
        let frames: Vec<_> = std::iter::from_fn(|| reader.next_image().unwrap()).collect();
        assert!(frames.len() >= 5, "{}", frames.len());
        assert!(frames.iter().all(|(image, _)| (image.width(), image.height()) == (160, 120)));
        let last = frames.last().unwrap().1;
        assert!(last >= Duration::from_millis(1_350) && last <= Duration::from_millis(1_450), "{last:?}");
    }

    #[test]
    fn ffprobe_agrees() {
        if Command::new("ffprobe").arg("-version").output().is_err() {
            eprintln!("skipped: there is no ffprobe");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.avi");
        write(&path, &[0, 33, 66, 100, 133, 166]);
        let entries = "stream=codec_name,codec_tag_string,width,height,r_frame_rate";
        let output = Command::new("ffprobe")
            .args(["-v", "error", "-show_entries", entries, "-of", "default=nw=1"])
            .arg(&path)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        for line in
            ["codec_name=mpeg4", "codec_tag_string=XVID", "width=160", "height=120", "r_frame_rate=30/1"]
        {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn odd_times_sizes_and_bad_pictures_do_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.avi");
        let mut writer = AviWriter::create(&path).unwrap();
        let mut push = |bytes: &[u8], at: Duration| {
            matches!(writer.push(bytes, ImageFormat::Jpeg, at).unwrap(), Pushed::Encoded)
        };
        assert!(!push(b"rubbish", Duration::ZERO));
        assert!(push(&jpeg(161, 121, 0), Duration::from_secs(5)));
        assert!(push(&jpeg(64, 64, 1), Duration::ZERO));
        assert!(!push(&jpeg(64, 64, 1)[..50], Duration::ZERO));
        assert!(push(&jpeg(1, 1, 2), Duration::MAX));
        let info = writer.finish().unwrap();
        assert_eq!((info.width, info.height, info.frames, info.skipped), (160, 120, 3, 2));
        assert!(info.duration <= Duration::from_secs(61), "{:?}", info.duration);
    }

    #[test]
    fn an_existing_file_is_left_alone_and_an_empty_one_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.avi");
        fs::write(&path, "mine").unwrap();
        assert!(matches!(AviWriter::create(&path).err(), Some(MediaError::File { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        let empty = AviWriter::create(&folder.path().join("b.avi")).unwrap();
        assert!(matches!(empty.finish(), Err(MediaError::EmptyClip { skipped: 0 })));
    }
}
