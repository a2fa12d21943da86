//! H.264 into MP4: the encoder and the muxer of one clip. Takes frames of the clip's size and times that advance;
//! where these come from is decided in `clip`.

use std::io::{Seek, Write};
use std::path::Path;

use ffmpeg_next::codec::{self, Flags, threading};
use ffmpeg_next::format::context::{Output, StreamIo};
use ffmpeg_next::format::{self, Pixel};
use ffmpeg_next::{Dictionary, Error, Packet, Rational, color, encoder, frame};

use crate::clip::ClipSettings;
use crate::error::{MediaError, at};
use crate::library::is_again;

/// FFmpeg's name of the encoder. Debian's FFmpeg has it; a build without GPL parts has not.
const X264: &str = "libx264";

/// Ticks per second of the times in a clip.
pub(crate) const TICKS: i32 = 90_000;

/// The frame rate x264 derives the H.264 level from. Times in a clip are free; without this it would take the
/// time base for the rate and claim a level that no phone plays.
const NOMINAL_FPS: i32 = 30;

/// A key frame at least every so many frames, so that a player can jump: at most so many are decoded before the one that
/// is shown, a fraction of a second. Of a camera that stands still a key frame is most of what the file holds: with one
/// every 60 frames files are half as large again, and cost more to make.
const KEY_FRAME_EVERY: u32 = 250;

/// What decides how many bits a frame gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rate {
    /// The quality of the settings, whatever it takes.
    Quality,
    /// The quality of the settings, but on average no more than this.
    AtMost {
        /// Bits per second.
        bits_per_second: u32,
    },
}

/// An MP4 file that is being written.
pub(crate) struct Mp4Encoder {
    encoder: encoder::video::Encoder,
    output: Output,
    stream_time_base: Rational,
    packet: Packet,
}

/// Fails when this FFmpeg cannot encode H.264.
pub(crate) fn check_encoder() -> Result<(), MediaError> {
    encoder::find_by_name(X264).map(|_| ()).ok_or(MediaError::NoEncoder { name: X264 })
}

impl Mp4Encoder {
    /// Writes into `file`, which is empty and can be read at `path`. Sides are even.
    pub(crate) fn new(
        file: impl Write + Seek + Send + 'static,
        path: &Path,
        (width, height): (u32, u32),
        settings: &ClipSettings,
        rate: Rate,
    ) -> Result<Self, MediaError> {
        let codec = encoder::find_by_name(X264).ok_or(MediaError::NoEncoder { name: X264 })?;
        let mut context = codec::Context::new_with_codec(codec);
        context.set_flags(Flags::GLOBAL_HEADER);
        context.set_threading(threading::Config::count(usize::from(settings.threads)));
        let step = "opening the H.264 encoder";
        let mut video = context.encoder().video().map_err(at(step))?;
        video.set_width(width);
        video.set_height(height);
        video.set_format(Pixel::YUV420P);
        video.set_time_base(Rational(1, TICKS));
        video.set_frame_rate(Some(Rational(NOMINAL_FPS, 1)));
        video.set_aspect_ratio(Rational(1, 1));
        video.set_gop(KEY_FRAME_EVERY);
        // What the scaler makes: JPEG's matrix (BT.601), limited range. Said aloud, because players guess BT.709
        // for large pictures.
        video.set_color_range(color::Range::MPEG);
        video.set_colorspace(color::Space::SMPTE170M);
        video.set_color_primaries(color::Primaries::BT709);
        video.set_color_transfer_characteristic(color::TransferCharacteristic::BT709);
        let mut options = Dictionary::new();
        options.set("preset", settings.preset.name());
        match rate {
            Rate::Quality => options.set("crf", &settings.crf.to_string()),
            Rate::AtMost { bits_per_second } => {
                // By average: what is over in one second is saved in the next four.
                let bits = bits_per_second.min(i32::MAX as u32 / 4).to_string();
                options.set("b", &bits);
                options.set("maxrate", &bits);
                options.set("bufsize", &(bits_per_second.min(i32::MAX as u32 / 4) * 4).to_string());
            }
        }
        options.set("profile", "high");
        // Frames that the encoder holds back are memory and delay. Three of them let it see what moves, which saves
        // 40 % of the file; ten and B-frames (the preset's own choice) save no more and need twice the memory. Without
        // B-frames every frame is also stored in the order of its time.
        options.set("x264-params", "bframes=0:rc-lookahead=3");
        let opened = video.open_as_with(codec, options).map_err(at(step))?;

        let step = "starting the MP4 file";
        // The muxer opens the file a second time, by name, when it moves the index to the front. The scheme makes
        // sure that no other protocol is seen in the name.
        let name = path.to_str().map(|text| format!("file:{text}")).ok_or_else(not_text)?;
        let io = StreamIo::from_write_seek(file).map_err(at(step))?;
        let mut output = format::output_to_stream(io, Some(&name), Some("mp4")).map_err(at(step))?;
        output.add_stream_with(&opened).map_err(at(step))?.set_time_base(Rational(1, TICKS));
        let mut options = Dictionary::new();
        options.set("movflags", "+faststart");
        options.set("video_track_timescale", &TICKS.to_string());
        options.set("protocol_whitelist", "file");
        output.write_header_with(options).map_err(at(step))?;
        let stream_time_base = output.stream(0).map_or(Rational(1, TICKS), |stream| stream.time_base());
        Ok(Self { encoder: opened, output, stream_time_base, packet: Packet::empty() })
    }

    /// Encodes one frame at `pts` ticks, which must be more than the last one's. If it stays the last, it is shown
    /// for `duration` ticks.
    pub(crate) fn encode(
        &mut self,
        frame: &mut frame::Video,
        pts: i64,
        duration: i64,
    ) -> Result<(), MediaError> {
        frame.set_pts(Some(pts));
        self.encoder.send_frame(frame).map_err(at("encoding a frame"))?;
        self.write_ready(duration)
    }

    /// Writes what the encoder holds, and the index. The file is closed afterwards.
    pub(crate) fn finish(mut self, last_duration: i64) -> Result<(), MediaError> {
        self.encoder.send_eof().map_err(at("finishing the encoder"))?;
        self.write_ready(last_duration)?;
        self.output.write_trailer().map_err(at("writing the index of the MP4 file"))
    }

    fn write_ready(&mut self, duration: i64) -> Result<(), MediaError> {
        loop {
            match self.encoder.receive_packet(&mut self.packet) {
                Ok(()) => {}
                Err(Error::Eof) => return Ok(()),
                Err(error) if is_again(error) => return Ok(()),
                Err(error) => return Err(at("encoding a frame")(error)),
            }
            self.packet.set_stream(0);
            // MP4 keeps the distance to the next frame; only the last frame's own duration is used.
            self.packet.set_duration(duration);
            self.packet.rescale_ts(Rational(1, TICKS), self.stream_time_base);
            self.packet.write(&mut self.output).map_err(at("writing the MP4 file"))?;
        }
    }
}

/// The name of a clip has to be UTF-8: FFmpeg's binding takes nothing else.
pub(crate) fn not_text() -> MediaError {
    MediaError::Setting { setting: "path", reason: "the name of a clip must be UTF-8".into() }
}
