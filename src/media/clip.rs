//! Makes a clip from encoded pictures as they come in: decode, bring to one size, encode, write. Whether and when
//! a clip is made, where its file gets its final name, and fsync are the caller's business.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use ffmpeg_next::frame;
use meerkat_base::{ImageFormat, Pts90k};

use crate::canvas::{Canvas, fit};
use crate::encoder::{Mp4Encoder, Rate, check_encoder, not_text};
use crate::error::{MediaError, PictureFault};
use crate::library::init;
use crate::picture::{JpegEncoder, PictureDecoder};
use crate::strip::Strip;

/// Longest side of a clip in pixels; what hardware decoders of phones take.
pub const MAX_CLIP_SIDE_PX: u32 = 4096;

/// A frame that comes at or before the last one's time is put this much after it, in ticks (1 ms).
const NUDGE: i64 = 90;

/// The longest a single frame stands, in ticks (one hour). MP4 counts the distance of frames in 32 bits.
const MAX_GAP: i64 = 90_000 * 3600;

/// How long the last frame stands when there is no other to take the pace from, in ticks (40 ms).
const ONLY_FRAME: i64 = 3600;

/// The longest the last frame stands, in ticks (one second): a stall before it says nothing about what follows.
const MAX_LAST: i64 = 90_000;

/// Quality of the preview strip, as that of a JPEG.
const STRIP_QUALITY: u8 = 80;

/// What size the clip has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClipSize {
    /// Every frame is scaled into this size, aspect kept, black around it. Odd sides are made even by taking one
    /// pixel off; both are in 2..=[`MAX_CLIP_SIDE_PX`].
    Fixed {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// The first frame's size, made even by taking one pixel off, at least 2x2, and made smaller when a side is
    /// longer than [`MAX_CLIP_SIDE_PX`]. Later frames of another size are scaled into it.
    AsReceived,
}

/// How much work x264 puts into a frame. Slower ones make smaller files and need more memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preset {
    /// Least work, largest files.
    Ultrafast,
    /// Between its neighbours.
    Superfast,
    /// The default.
    #[default]
    Veryfast,
    /// Between its neighbours.
    Faster,
    /// Between its neighbours.
    Fast,
    /// Most work offered here.
    Medium,
}

impl Preset {
    const ALL: [Preset; 6] = [
        Preset::Ultrafast,
        Preset::Superfast,
        Preset::Veryfast,
        Preset::Faster,
        Preset::Fast,
        Preset::Medium,
    ];

    /// x264's name of the preset.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Ultrafast => "ultrafast",
            Preset::Superfast => "superfast",
            Preset::Veryfast => "veryfast",
            Preset::Faster => "faster",
            Preset::Fast => "fast",
            Preset::Medium => "medium",
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Preset {
    type Err = MediaError;

    fn from_str(text: &str) -> Result<Self, MediaError> {
        Self::ALL.into_iter().find(|preset| preset.name() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|preset| preset.name()).collect();
            MediaError::Setting { setting: "preset", reason: format!("one of {}", names.join(", ")) }
        })
    }
}

/// How a clip is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClipSettings {
    /// Size of the clip.
    pub size: ClipSize,
    /// Work per frame.
    pub preset: Preset,
    /// x264's constant rate factor, 0..=51; lower is better and larger.
    pub crf: u8,
    /// Threads of the encoder, 1..=16. More than one holds back as many frames.
    pub threads: u8,
}

impl Default for ClipSettings {
    /// 640x480, `veryfast`, 23, one thread.
    fn default() -> Self {
        Self {
            size: ClipSize::Fixed { width: 640, height: 480 },
            preset: Preset::default(),
            crf: 23,
            threads: 1,
        }
    }
}

/// What became of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Pushed {
    /// It is part of the clip.
    Encoded,
    /// It could not be decoded. The clip goes on without it; the frame before stands longer.
    Skipped(PictureFault),
}

/// What a finished clip is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClipInfo {
    /// Width in pixels, even.
    pub width: u32,
    /// Height in pixels, even.
    pub height: u32,
    /// Frames in the clip, at least 1.
    pub frames: u64,
    /// Pictures that could not be decoded.
    pub skipped: u64,
    /// From the first frame's beginning to the last one's end.
    pub duration: Duration,
    /// Size of the file.
    pub bytes: u64,
}

/// Writes one clip: H.264 in MP4 with the index in front, 4:2:0, limited range, frames at their real times.
///
/// Works on the calling thread, frame by frame; nothing but the encoder's few reference frames is held. The file is
/// playable only after [`ClipWriter::finish`]; a writer that is dropped leaves an unfinished file for the caller to
/// delete, and so does one that returned an error.
pub struct ClipWriter {
    path: PathBuf,
    settings: ClipSettings,
    pictures: PictureDecoder,
    stage: Stage,
    skipped: u64,
    strip: Option<Strip>,
}

/// A decoded picture, upright. Cheap to clone by way of an `Arc`; of no use but to be put into clips.
pub struct Picture(pub(crate) frame::Video);

impl Picture {
    /// About how much memory it takes.
    pub fn bytes(&self) -> usize {
        (0..self.0.planes()).map(|plane| self.0.data(plane).len()).sum()
    }
}

/// Where frames stand in a clip: the rule by which times of arrival become times in the file.
#[derive(Debug, Clone, Default)]
pub struct ClipTimes {
    last: Option<Pts90k>,
}

impl ClipTimes {
    /// The place of the next frame, which arrived `at` after the beginning of the recording: the first one stands at
    /// 0 whatever its time says, one whose time does not advance 1 ms after the last, none more than an hour after it.
    pub fn next(&mut self, at: Duration) -> Pts90k {
        let place = match self.last {
            None => Pts90k(0),
            Some(last) => {
                let gap = Pts90k::from_duration(at).0.saturating_sub(last.0);
                Pts90k(last.0 + if gap <= 0 { NUDGE } else { gap.min(MAX_GAP) })
            }
        };
        self.last = Some(place);
        place
    }
}

enum Stage {
    /// No frame yet: the encoder is made when the size is known.
    Waiting(File),
    Running(Box<Running>),
    /// The encoder could not be made, or failed.
    Broken,
}

struct Running {
    canvas: Canvas,
    encoder: Mp4Encoder,
    frames: u64,
    times: ClipTimes,
    last_pts: i64,
    /// How long the last frame stands if no other follows.
    tail: i64,
}

impl ClipWriter {
    /// Makes the file, which must not exist (a link in its place counts as existing), and checks the settings.
    pub fn create(path: &Path, settings: ClipSettings) -> Result<Self, MediaError> {
        init();
        check_encoder()?;
        check(&settings)?;
        path.to_str().ok_or_else(not_text)?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(|source| MediaError::File { path: path.to_owned(), source })?;
        Ok(Self {
            path: path.to_owned(),
            settings,
            pictures: PictureDecoder::new(),
            stage: Stage::Waiting(file),
            skipped: 0,
            strip: None,
        })
    }

    /// Also makes a preview strip of at most so many small pictures; 0: none.
    #[must_use]
    pub fn with_strip(mut self, pictures: u8) -> Self {
        self.strip = (pictures > 0).then(|| Strip::new(usize::from(pictures)));
        self
    }

    /// Decodes a picture, for this clip or another.
    pub fn decode(&mut self, bytes: &[u8], format: ImageFormat) -> Result<Picture, PictureFault> {
        self.pictures.decode_upright(bytes, format).map(Picture)
    }

    /// Notes that a picture cannot be part of the clip.
    pub fn skip(&mut self, fault: PictureFault) -> Pushed {
        self.skipped += 1;
        Pushed::Skipped(fault)
    }

    /// Adds a picture that was taken `at` after the clip's beginning. The first one that can be decoded stands from
    /// the clip's beginning whatever its time says; a time that does not advance is moved to 1 ms after the last.
    ///
    /// An error means that the clip cannot go on (disk full, encoder failed).
    pub fn push(&mut self, bytes: &[u8], format: ImageFormat, at: Duration) -> Result<Pushed, MediaError> {
        match self.decode(bytes, format) {
            Ok(picture) => self.push_picture(&picture, at),
            Err(fault) => Ok(self.skip(fault)),
        }
    }

    /// As [`ClipWriter::push`], of a picture that is decoded already.
    pub fn push_picture(&mut self, picture: &Picture, at: Duration) -> Result<Pushed, MediaError> {
        let frame = &picture.0;
        let mut running = match std::mem::replace(&mut self.stage, Stage::Broken) {
            Stage::Running(running) => running,
            Stage::Waiting(file) => {
                let size = clip_size(self.settings.size, (frame.width(), frame.height()));
                let encoder = Mp4Encoder::new(file, &self.path, size, &self.settings, Rate::Quality)?;
                let canvas = Canvas::new(size.0, size.1);
                let times = ClipTimes::default();
                Box::new(Running { canvas, encoder, frames: 0, times, last_pts: -1, tail: ONLY_FRAME })
            }
            Stage::Broken => return Err(broken()),
        };
        let mut placed = match running.canvas.place(frame) {
            Ok(placed) => placed,
            Err(error) => {
                // A picture of a form that swscale does not take; nothing has reached the encoder.
                self.stage = Stage::Running(running);
                return Ok(self.skip(PictureFault::Undecodable { reason: error.to_string() }));
            }
        };
        let pts = running.times.next(at).0;
        if running.frames > 0 {
            running.tail = (pts - running.last_pts).min(MAX_LAST);
        }
        if let Some(strip) = &mut self.strip {
            strip.see(&placed);
        }
        running.encoder.encode(&mut placed, pts, running.tail)?;
        running.last_pts = pts;
        running.frames += 1;
        self.stage = Stage::Running(running);
        Ok(Pushed::Encoded)
    }

    /// Writes the rest and the index, and closes the file.
    pub fn finish(self) -> Result<ClipInfo, MediaError> {
        self.finish_with_strip().map(|(info, _)| info)
    }

    /// As [`ClipWriter::finish`], with the preview strip as a JPEG if one was asked for.
    pub fn finish_with_strip(self) -> Result<(ClipInfo, Option<Bytes>), MediaError> {
        let strip = self.strip.and_then(Strip::finish);
        let running = match self.stage {
            Stage::Running(running) => running,
            Stage::Waiting(_) => return Err(MediaError::EmptyClip { skipped: self.skipped }),
            Stage::Broken => return Err(broken()),
        };
        let (width, height) = running.canvas.size();
        running.encoder.finish(running.tail)?;
        let bytes = fs::metadata(&self.path)
            .map_err(|source| MediaError::File { path: self.path.clone(), source })?
            .len();
        let ticks = u64::try_from(running.last_pts + running.tail).unwrap_or(0);
        let duration = Duration::from_nanos(ticks.saturating_mul(100_000) / 9);
        let info = ClipInfo { width, height, frames: running.frames, skipped: self.skipped, duration, bytes };
        // A clip without a strip is still a clip.
        Ok((info, strip.and_then(|strip| JpegEncoder::new(STRIP_QUALITY).encode(&strip).ok())))
    }

    /// Frames in the clip up to now.
    pub fn frames(&self) -> u64 {
        match &self.stage {
            Stage::Running(running) => running.frames,
            Stage::Waiting(_) | Stage::Broken => 0,
        }
    }
}

fn broken() -> MediaError {
    MediaError::Library { step: "writing a clip", reason: "it failed before and cannot go on".into() }
}

fn check(settings: &ClipSettings) -> Result<(), MediaError> {
    let fault = |setting, reason: String| Err(MediaError::Setting { setting, reason });
    if let ClipSize::Fixed { width, height } = settings.size {
        let allowed = 2..=MAX_CLIP_SIDE_PX;
        if !allowed.contains(&width) || !allowed.contains(&height) {
            return fault(
                "size",
                format!("both sides in 2..={MAX_CLIP_SIDE_PX} pixels, got {width}x{height}"),
            );
        }
    }
    if settings.crf > 51 {
        return fault("crf", format!("in 0..=51, got {}", settings.crf));
    }
    if !(1..=16).contains(&settings.threads) {
        return fault("threads", format!("in 1..=16, got {}", settings.threads));
    }
    Ok(())
}

fn clip_size(wish: ClipSize, first: (u32, u32)) -> (u32, u32) {
    let (width, height) = match wish {
        ClipSize::Fixed { width, height } => (width, height),
        ClipSize::AsReceived if first.0.max(first.1) > MAX_CLIP_SIDE_PX => {
            fit(first, (MAX_CLIP_SIDE_PX, MAX_CLIP_SIDE_PX))
        }
        ClipSize::AsReceived => first,
    };
    ((width & !1).max(2), (height & !1).max(2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Seek, SeekFrom, Write};
    use std::process::Command;

    use meerkat_base::{Image, PixelFormat};

    use crate::picture::encode_jpeg;
    use crate::probe::probe;
    use crate::reader::{ReadOptions, Reader};
    use crate::testing::{bmp, picture, png_gray};

    fn jpeg(width: u32, height: u32, step: u32) -> Vec<u8> {
        encode_jpeg(&picture(width, height, step), 85).unwrap().to_vec()
    }

    fn as_received() -> ClipSettings {
        ClipSettings { size: ClipSize::AsReceived, ..ClipSettings::default() }
    }

    fn millis(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn encoded(pushed: Pushed) {
        assert_eq!(pushed, Pushed::Encoded);
    }

    fn read_all(path: &Path) -> Vec<(Image, Duration)> {
        let mut reader = Reader::open(path.to_str().unwrap(), ReadOptions::default()).unwrap();
        std::iter::from_fn(|| reader.next_image().unwrap()).collect()
    }

    fn near(a: Duration, b: Duration) -> bool {
        a.abs_diff(b) < Duration::from_micros(30)
    }

    /// The average blue, green and red of the middle of a picture.
    fn middle(image: &Image) -> [u8; 3] {
        let at = ((image.height() / 2 * image.width() + image.width() / 2) * 3) as usize;
        image.data()[at..at + 3].try_into().unwrap()
    }

    #[test]
    fn a_clip_holds_every_frame_at_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.mp4");
        let times: Vec<Duration> = [0, 40, 95, 100, 350, 1350, 1383].into_iter().map(millis).collect();
        let mut writer = ClipWriter::create(&path, ClipSettings::default()).unwrap();
        for (step, &at) in (0..).zip(&times) {
            encoded(writer.push(&jpeg(320, 240, step), ImageFormat::Jpeg, at).unwrap());
        }
        assert_eq!(writer.frames(), 7);
        let info = writer.finish().unwrap();
        assert_eq!((info.width, info.height, info.frames, info.skipped), (640, 480, 7, 0));
        assert!(near(info.duration, millis(1383 + 33)), "{:?}", info.duration);
        assert_eq!(info.bytes, fs::metadata(&path).unwrap().len());

        let found = probe(&path).unwrap();
        assert_eq!((found.codec.as_str(), found.pixel_format.as_str()), ("h264", "yuv420p"));
        assert_eq!((found.width, found.height, found.frames), (640, 480, 7));
        assert!(near(found.duration, info.duration), "{found:?}");

        let frames = read_all(&path);
        assert_eq!(frames.len(), 7);
        for ((_, at), wanted) in frames.iter().zip(&times) {
            assert!(near(*at, *wanted), "{at:?} is not {wanted:?}");
        }
    }

    #[test]
    fn a_picture_lies_in_the_clip_as_its_exif_says() {
        let upright = jpeg(64, 32, 1);
        // APP1 with one entry, big-endian: orientation 6, a quarter turn clockwise.
        let exif = b"\xFF\xE1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let turned = [&upright[..2], &exif[..], &upright[2..]].concat();
        for (bytes, size) in [(&upright, (64, 32)), (&turned, (32, 64))] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("clip.mp4");
            let mut writer = ClipWriter::create(&path, as_received()).unwrap();
            encoded(writer.push(bytes, ImageFormat::Jpeg, millis(0)).unwrap());
            let info = writer.finish().unwrap();
            assert_eq!((info.width, info.height), size);
        }
    }

    #[test]
    fn a_strip_comes_with_the_clip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.mp4");
        let mut writer = ClipWriter::create(&path, ClipSettings::default()).unwrap().with_strip(4);
        for step in 0..30 {
            encoded(
                writer.push(&jpeg(64, 48, step), ImageFormat::Jpeg, millis(u64::from(step) * 40)).unwrap(),
            );
        }
        let (info, strip) = writer.finish_with_strip().unwrap();
        assert_eq!(info.frames, 30);
        let strip = crate::decode_picture(&strip.unwrap(), ImageFormat::Jpeg, PixelFormat::Bgr8).unwrap();
        assert_eq!((strip.width(), strip.height()), (4 * 120, 90));
    }

    #[test]
    fn the_index_is_in_front() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.mp4");
        let mut writer = ClipWriter::create(&path, ClipSettings::default()).unwrap();
        for step in 0..30 {
            encoded(
                writer.push(&jpeg(64, 48, step), ImageFormat::Jpeg, millis(u64::from(step) * 40)).unwrap(),
            );
        }
        writer.finish().unwrap();
        let bytes = fs::read(&path).unwrap();
        let mut rest = &bytes[..];
        let mut boxes = Vec::new();
        while !rest.is_empty() {
            let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
            boxes.push(String::from_utf8_lossy(&rest[4..8]).into_owned());
            rest = &rest[length..];
        }
        let position = |name: &str| boxes.iter().position(|b| b == name).unwrap();
        assert!(position("moov") < position("mdat"), "{boxes:?}");
    }

    #[test]
    fn ffprobe_agrees() {
        if Command::new("ffprobe").arg("-version").output().is_err() {
            eprintln!("skipped: there is no ffprobe");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.mp4");
        let mut writer = ClipWriter::create(&path, as_received()).unwrap();
        for (step, at) in [(0, 0), (1, 100), (2, 150), (3, 400)] {
            encoded(writer.push(&jpeg(322, 242, step), ImageFormat::Jpeg, millis(at)).unwrap());
        }
        writer.finish().unwrap();
        let entries = "stream=codec_name,profile,width,height,pix_fmt,level,color_range,color_space,duration,\
                       nb_read_frames:frame=pts_time";
        let output = Command::new("ffprobe")
            .args(["-v", "error", "-count_frames", "-show_entries", entries, "-of", "default=nw=1"])
            .arg(&path)
            .output()
            .unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        for line in [
            "codec_name=h264",
            "profile=High",
            "width=322",
            "height=242",
            "pix_fmt=yuv420p",
            "color_range=tv",
            "color_space=smpte170m",
            "nb_read_frames=4",
            "duration=0.650000",
            "pts_time=0.000000",
            "pts_time=0.100000",
            "pts_time=0.150000",
            "pts_time=0.400000",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        let level: u32 = text.lines().find_map(|l| l.strip_prefix("level=")).unwrap().parse().unwrap();
        assert!(level <= 31, "level {level} is too high for a small picture");
    }

    #[test]
    fn a_bad_picture_does_not_ruin_the_clip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.mp4");
        let mut writer = ClipWriter::create(&path, as_received()).unwrap();
        let good = jpeg(64, 48, 1);
        let push = |writer: &mut ClipWriter, bytes: &[u8], format, at| {
            matches!(writer.push(bytes, format, millis(at)).unwrap(), Pushed::Encoded)
        };
        assert!(!push(&mut writer, b"rubbish before everything", ImageFormat::Jpeg, 0));
        assert!(push(&mut writer, &good, ImageFormat::Jpeg, 50));
        assert!(!push(&mut writer, &good[..100], ImageFormat::Jpeg, 100));
        assert!(!push(&mut writer, &[], ImageFormat::Jpeg, 150));
        assert!(!push(&mut writer, &good, ImageFormat::Unknown, 200));
        assert!(!push(&mut writer, &good, ImageFormat::Png, 250));
        assert!(push(&mut writer, &good, ImageFormat::Jpeg, 300));
        let info = writer.finish().unwrap();
        assert_eq!((info.frames, info.skipped), (2, 5));
        let frames = read_all(&path);
        assert_eq!(frames.len(), 2);
        assert!(near(frames[1].1, millis(300)), "{:?}", frames[1].1);
    }

    #[test]
    fn sizes_and_formats_may_change_in_mid_stream() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.mp4");
        let mut writer = ClipWriter::create(&path, as_received()).unwrap();
        let white = |width: u32, height: u32| {
            Image::new(width, height, PixelFormat::Bgr8, vec![255; (width * height * 3) as usize])
        };
        let gray = Image::new(32, 64, PixelFormat::Gray8, vec![255; 2048]).unwrap();
        let pictures = [
            (encode_jpeg(&white(101, 51).unwrap(), 90).unwrap().to_vec(), ImageFormat::Jpeg),
            (encode_jpeg(&white(50, 100).unwrap(), 90).unwrap().to_vec(), ImageFormat::Jpeg),
            (bmp(&white(400, 100).unwrap()), ImageFormat::Bmp),
            (png_gray(&gray), ImageFormat::Png),
            (encode_jpeg(&white(1, 1).unwrap(), 90).unwrap().to_vec(), ImageFormat::Jpeg),
        ];
        for ((bytes, format), at) in pictures.iter().zip([0, 40, 80, 120, 160]) {
            encoded(writer.push(bytes, *format, millis(at)).unwrap());
        }
        let info = writer.finish().unwrap();
        assert_eq!((info.width, info.height, info.frames), (100, 50, 5));
        let frames = read_all(&path);
        assert_eq!(frames.len(), 5);
        for (image, _) in &frames {
            assert_eq!((image.width(), image.height()), (100, 50));
            assert!(middle(image).iter().all(|&level| level > 245), "{:?}", middle(image));
        }
        let corner = |index: usize| frames[index].0.data()[0];
        assert!(corner(0) > 245, "the first fills the clip");
        assert!(corner(1) < 10 && corner(3) < 10, "an upright one has black at its sides");
        assert!(corner(2) < 10, "a wide one has black above");
    }

    #[test]
    fn colours_and_brightness_stay() {
        let folder = tempfile::tempdir().unwrap();
        let colours =
            [[0, 0, 0], [255, 255, 255], [128, 128, 128], [200, 60, 40], [30, 180, 70], [20, 40, 220]];
        for (index, colour) in colours.into_iter().enumerate() {
            let path = folder.path().join(format!("{index}.mp4"));
            let image = Image::new(64, 64, PixelFormat::Bgr8, colour.repeat(64 * 64)).unwrap();
            let mut writer = ClipWriter::create(&path, as_received()).unwrap();
            let bytes = encode_jpeg(&image, 95).unwrap();
            encoded(writer.push(&bytes, ImageFormat::Jpeg, Duration::ZERO).unwrap());
            writer.finish().unwrap();
            let seen = middle(&read_all(&path)[0].0);
            let off = colour.iter().zip(&seen).map(|(a, b): (&u8, &u8)| a.abs_diff(*b)).max().unwrap();
            assert!(off <= 8, "{colour:?} became {seen:?}");
        }
    }

    #[test]
    fn tiny_odd_and_huge_pictures_make_clips() {
        let folder = tempfile::tempdir().unwrap();
        for (size, expected) in [
            ((1, 1), (2, 2)),
            ((2, 3), (2, 2)),
            ((17, 33), (16, 32)),
            ((641, 479), (640, 478)),
            ((8192, 16), (4096, 8)),
            ((16, 5000), (12, 4096)),
        ] {
            let path = folder.path().join(format!("{}x{}.mp4", size.0, size.1));
            let mut writer = ClipWriter::create(&path, as_received()).unwrap();
            for step in 0..3 {
                let bytes = jpeg(size.0, size.1, step);
                encoded(writer.push(&bytes, ImageFormat::Jpeg, millis(u64::from(step) * 40)).unwrap());
            }
            let info = writer.finish().unwrap();
            assert_eq!((info.width, info.height), expected, "{size:?}");
            assert_eq!(read_all(&path).len(), 3, "{size:?}");
        }
    }

    #[test]
    fn times_that_do_not_advance_are_moved_forward() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.mp4");
        let mut writer = ClipWriter::create(&path, as_received()).unwrap();
        for (step, at) in (0..).zip([500, 500, 500, 100, 0, 600]) {
            encoded(writer.push(&jpeg(32, 32, step), ImageFormat::Jpeg, millis(at)).unwrap());
        }
        let info = writer.finish().unwrap();
        assert_eq!(info.frames, 6);
        let times: Vec<Duration> = read_all(&path).into_iter().map(|(_, at)| at).collect();
        assert_eq!(times.len(), 6);
        assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
        assert!(near(times[5], millis(600)), "a later time that is right is kept: {times:?}");
    }

    #[test]
    fn absurd_times_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.mp4");
        let mut writer = ClipWriter::create(&path, as_received()).unwrap();
        for (step, at) in (0..).zip([Duration::ZERO, Duration::MAX, Duration::MAX]) {
            encoded(writer.push(&jpeg(32, 32, step), ImageFormat::Jpeg, at).unwrap());
        }
        let info = writer.finish().unwrap();
        assert_eq!(info.duration, Duration::from_secs(7201));
        assert_eq!(probe(&path).unwrap().frames, 3);
    }

    #[test]
    fn a_single_frame_is_a_clip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.mp4");
        let mut writer = ClipWriter::create(&path, as_received()).unwrap();
        encoded(writer.push(&jpeg(32, 32, 0), ImageFormat::Jpeg, millis(900)).unwrap());
        assert!(near(writer.finish().unwrap().duration, millis(40)));
        assert!(near(probe(&path).unwrap().duration, millis(40)));
    }

    #[test]
    fn an_existing_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.mp4");
        fs::write(&path, "mine").unwrap();
        let refused = |path: &Path| {
            let error = ClipWriter::create(path, ClipSettings::default()).err().unwrap();
            assert!(matches!(error, MediaError::File { .. }), "{error}");
        };
        refused(&path);
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        refused(&folder.path().join("no such folder/clip.mp4"));
        #[cfg(unix)]
        {
            let link = folder.path().join("link.mp4");
            std::os::unix::fs::symlink(folder.path().join("target"), &link).unwrap();
            refused(&link);
            assert!(!folder.path().join("target").exists());
        }
    }

    #[test]
    fn a_clip_without_a_picture_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.mp4");
        let mut writer = ClipWriter::create(&path, ClipSettings::default()).unwrap();
        assert!(matches!(writer.push(b"x", ImageFormat::Bmp, Duration::ZERO).unwrap(), Pushed::Skipped(_)));
        assert!(matches!(writer.finish(), Err(MediaError::EmptyClip { skipped: 1 })));
    }

    #[test]
    fn a_clip_may_be_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.mp4");
        let mut writer = ClipWriter::create(&path, ClipSettings::default()).unwrap();
        for step in 0..10 {
            encoded(
                writer.push(&jpeg(64, 48, step), ImageFormat::Jpeg, millis(u64::from(step) * 40)).unwrap(),
            );
        }
        drop(writer);
        assert!(probe(&path).is_err(), "an unfinished clip is not taken for a whole one");
    }

    #[test]
    fn settings_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let check = |settings: ClipSettings, name: &str| {
            let path = folder.path().join("clip.mp4");
            match ClipWriter::create(&path, settings) {
                Err(MediaError::Setting { setting, .. }) => assert_eq!(setting, name),
                Err(other) => panic!("{other}"),
                Ok(_) => panic!("{settings:?} was taken"),
            }
            assert!(!path.exists());
        };
        let base = ClipSettings::default();
        check(ClipSettings { size: ClipSize::Fixed { width: 1, height: 100 }, ..base }, "size");
        check(ClipSettings { size: ClipSize::Fixed { width: 100, height: 4097 }, ..base }, "size");
        check(ClipSettings { crf: 52, ..base }, "crf");
        check(ClipSettings { threads: 0, ..base }, "threads");
        assert_eq!("veryfast".parse::<Preset>().unwrap(), Preset::Veryfast);
        assert!("placebo".parse::<Preset>().is_err());
    }

    #[test]
    fn strange_names_of_files_are_only_names() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["pipe:1", "a:b%03d.mp4", "http:x.mp4", "ä ö.mp4", "clip.avi", "no ending"] {
            let path = folder.path().join(name);
            let mut writer = ClipWriter::create(&path, as_received()).unwrap();
            encoded(writer.push(&jpeg(32, 32, 0), ImageFormat::Jpeg, Duration::ZERO).unwrap());
            writer.finish().unwrap();
            assert_eq!(probe(&path).unwrap().codec, "h264", "{name}");
        }
    }

    /// A file on a disk that has room for `room` more bytes.
    struct FullDisk {
        file: File,
        room: usize,
    }

    impl Write for FullDisk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if bytes.len() > self.room {
                return Err(io::Error::from_raw_os_error(ffmpeg_next::error::ENOSPC));
            }
            self.room -= bytes.len();
            self.file.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.file.flush()
        }
    }

    impl Seek for FullDisk {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.file.seek(to)
        }
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let mut pictures = PictureDecoder::new();
        let mut canvas = Canvas::new(64, 64);
        let mut make = |room: usize| {
            let path = folder.path().join(format!("{room}.mp4"));
            let disk = FullDisk { file: File::create_new(&path).unwrap(), room };
            let mut encoder =
                Mp4Encoder::new(disk, &path, (64, 64), &ClipSettings::default(), Rate::Quality)?;
            for step in 0..100u32 {
                let frame = pictures.decode_frame(&jpeg(64, 64, step), ImageFormat::Jpeg)?;
                let mut placed = canvas.place(&frame).unwrap();
                encoder.encode(&mut placed, i64::from(step) * 3600, 3600)?;
            }
            encoder.finish(3600)?;
            Ok::<u64, MediaError>(path.metadata().unwrap().len())
        };
        let whole = usize::try_from(make(usize::MAX).unwrap()).unwrap();
        for room in [0, 10, whole / 4, whole / 2, whole - 100, whole] {
            // Moving the index to the front writes the pictures twice.
            let error = make(room).unwrap_err();
            assert!(error.to_string().contains("No space left"), "{room} of {whole}: {error}");
        }
    }

    #[test]
    fn clips_can_be_made_on_other_threads() {
        fn is_send<T: Send>() {}
        is_send::<ClipWriter>();
        is_send::<Reader>();
        is_send::<PictureDecoder>();
    }
}
