//! An opened container and its video stream, read packet by packet under a time limit. Decoding is elsewhere.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ffmpeg_next::format::context::StreamIo;
use ffmpeg_next::util::interrupt;
use ffmpeg_next::{Error, Packet, Rational, codec, decoder, ffi, format, media, packet};
use meerkat_base::{Clock, MonoTime, Shutdown, SystemClock};

use crate::error::MediaError;
use crate::library::{init, is_again};
use crate::orientation::Orientation;
use crate::picture::open_video_decoder;
use crate::source::Source;

/// Damaged packets in a row after which a source counts as ended.
const MAX_BAD_IN_A_ROW: u32 = 1000;

/// How long to wait before a device that had nothing is asked again.
const DEVICE_PAUSE: Duration = Duration::from_millis(2);

/// Ends waiting: FFmpeg asks it again and again while it blocks.
pub(crate) struct Watch {
    /// The source, for errors; holds no credentials.
    name: String,
    limit: Duration,
    stop: Option<Shutdown>,
    clock: SystemClock,
    deadline_nanos: AtomicU64,
}

impl Watch {
    /// `name` must not hold credentials.
    pub(crate) fn new(name: String, limit: Duration, stop: Option<Shutdown>) -> Arc<Self> {
        let watch = Self { name, limit, stop, clock: SystemClock::new(), deadline_nanos: AtomicU64::new(0) };
        watch.begin();
        Arc::new(watch)
    }

    /// Gives the next step the whole limit.
    pub(crate) fn begin(&self) {
        self.deadline_nanos.store(self.now().after(self.limit).0, Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> MonoTime {
        self.clock.mono()
    }

    fn is_stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(Shutdown::is_triggered)
    }

    fn is_late(&self) -> bool {
        self.now().0 > self.deadline_nanos.load(Ordering::Relaxed)
    }

    /// An error when it is time to give up.
    pub(crate) fn check(&self) -> Result<(), MediaError> {
        if self.is_stopped() {
            return Err(MediaError::Stopped { name: self.name.clone() });
        }
        if self.is_late() {
            return Err(MediaError::TimedOut { name: self.name.clone(), limit: self.limit });
        }
        Ok(())
    }

    fn closure(self: &Arc<Self>) -> impl FnMut() -> bool + Send + 'static {
        let watch = Arc::clone(self);
        move || watch.is_stopped() || watch.is_late()
    }

    fn open_error(&self, error: Error) -> MediaError {
        let reason = match error {
            // What FFmpeg says when the container is not on the list.
            Error::Other { errno: ffmpeg_next::error::EINVAL } => "not a kind of video that is read".into(),
            other => other.to_string(),
        };
        self.check().err().unwrap_or(MediaError::Open { name: self.name.clone(), reason })
    }

    pub(crate) fn read_error(&self, error: Error) -> MediaError {
        self.check()
            .err()
            .unwrap_or_else(|| MediaError::Read { name: self.name.clone(), reason: error.to_string() })
    }
}

/// An opened source.
pub(crate) struct Input {
    context: format::context::Input,
    stream: usize,
    watch: Arc<Watch>,
}

impl Input {
    /// Opens any source.
    pub(crate) fn open(source: &Source, watch: Arc<Watch>) -> Result<Self, MediaError> {
        init();
        let options = source.options(watch.limit);
        let context = match source {
            Source::File(path) => return Self::open_file(path, watch),
            Source::Device(path) => open_device(path, &watch, options),
            Source::Http(url) | Source::Https(url) | Source::Rtsp(url) => {
                format::input_with_interrupt_and_dictionary(url, watch.closure(), options)
            }
        };
        Self::with_video(context.map_err(|error| watch.open_error(error))?, watch)
    }

    /// Opens a regular file. FFmpeg gets the open file, not its name, so no name can mean something else to it.
    pub(crate) fn open_file(path: &Path, watch: Arc<Watch>) -> Result<Self, MediaError> {
        init();
        let refuse = |reason: String| MediaError::Open { name: watch.name.clone(), reason };
        // Opening a named pipe would wait for its writer, so look before.
        let is_file = path.metadata().map_err(|error| refuse(error.to_string()))?.is_file();
        if !is_file {
            return Err(refuse("not a regular file".into()));
        }
        let file = File::open(path).map_err(|error| refuse(error.to_string()))?;
        let options = Source::File(path.to_owned()).options(watch.limit);
        let context = StreamIo::from_read_seek(file).and_then(|io| {
            format::input_from_stream_with_interrupt(io, None, Some(options), watch.closure())
        });
        let context = context.map_err(|error| watch.open_error(error))?;
        Self::with_video(context, watch)
    }

    fn with_video(context: format::context::Input, watch: Arc<Watch>) -> Result<Self, MediaError> {
        let stream = context.streams().best(media::Type::Video).map(|stream| stream.index());
        match stream {
            Some(stream) => Ok(Self { context, stream, watch }),
            None => Err(watch.open_error(Error::StreamNotFound)),
        }
    }

    /// The next packet of the video; false at the end. Damaged packets are passed over.
    pub(crate) fn read(&mut self, packet: &mut Packet) -> Result<bool, MediaError> {
        let mut bad_in_a_row = 0;
        loop {
            self.watch.check()?;
            // Reading overwrites without letting go of what was there.
            *packet = Packet::empty();
            match packet.read(&mut self.context) {
                Ok(()) if packet.stream() == self.stream => return Ok(true),
                Ok(()) => bad_in_a_row = 0,
                Err(Error::Eof) => return Ok(false),
                Err(error) if is_again(error) => std::thread::sleep(DEVICE_PAUSE),
                Err(Error::InvalidData) if bad_in_a_row < MAX_BAD_IN_A_ROW => bad_in_a_row += 1,
                Err(Error::InvalidData) => return Ok(false),
                Err(error) => return Err(self.watch.read_error(error)),
            }
        }
    }

    /// A new decoder for the video.
    pub(crate) fn decoder(&self) -> Result<decoder::Video, MediaError> {
        let stream = self.context.stream(self.stream);
        let parameters = stream.map(|stream| stream.parameters());
        let parameters = parameters.ok_or_else(|| self.watch.open_error(Error::StreamNotFound))?;
        let codec = decoder::find(parameters.id());
        let codec = codec.ok_or_else(|| self.watch.open_error(Error::DecoderNotFound))?;
        codec::Context::from_parameters(parameters)
            .and_then(|context| open_video_decoder(context, codec))
            .map_err(|error| self.watch.open_error(error))
    }

    /// Seconds of one tick of the packets' times.
    pub(crate) fn seconds_per_tick(&self) -> f64 {
        let base = self.context.stream(self.stream).map(|stream| stream.time_base());
        base.and_then(ratio).unwrap_or(0.0)
    }

    /// Frames per second by the container, when it says something sensible.
    pub(crate) fn fps(&self) -> Option<f64> {
        let stream = self.context.stream(self.stream)?;
        [stream.avg_frame_rate(), stream.rate()]
            .into_iter()
            .filter_map(ratio)
            .find(|fps| (0.001..=1000.0).contains(fps))
    }

    /// How many frames the container says there are.
    pub(crate) fn frames_hint(&self) -> Option<u64> {
        let stream = self.context.stream(self.stream)?;
        u64::try_from(stream.frames()).ok().filter(|&frames| frames > 0)
    }

    /// How the container says the pictures lie.
    pub(crate) fn orientation(&self) -> Orientation {
        let Some(stream) = self.context.stream(self.stream) else { return Orientation::default() };
        let matrix = stream.side_data().find(|side| side.kind() == packet::side_data::Type::DisplayMatrix);
        matrix.map_or_else(Orientation::default, |side| Orientation::from_display_matrix(side.data()))
    }

    /// Whether the packets' times are real: pictures strung together have none, and FFmpeg counts 25 per second.
    pub(crate) fn has_times(&self) -> bool {
        let format = self.context.format();
        let name = format.name();
        !(name == "mpjpeg" || name == "mjpeg" || name.ends_with("_pipe"))
    }
}

fn ratio(value: Rational) -> Option<f64> {
    (value.numerator() > 0 && value.denominator() > 0)
        .then(|| f64::from(value.numerator()) / f64::from(value.denominator()))
}

/// Opens a V4L2 device so that reading never blocks in the kernel, where no time limit could reach it.
fn open_device(
    path: &str,
    watch: &Arc<Watch>,
    options: ffmpeg_next::Dictionary<'static>,
) -> Result<format::context::Input, Error> {
    let path = std::ffi::CString::new(path).map_err(|_| Error::InvalidData)?;
    let callback = interrupt::new(Box::new(watch.closure()));
    // SAFETY: the binding's own way to open offers no flags, so this repeats it with one more line. The context is
    // made here and given to exactly one owner: on failure `avformat_open_input` frees it, after that
    // `avformat_close_input` or the returned `Input`. The callback's state lives in `callback.guard`, which the
    // `Input` keeps, or which outlives the context in this function. The options are taken over and freed here.
    unsafe {
        let mut context = ffi::avformat_alloc_context();
        if context.is_null() {
            return Err(Error::Other { errno: ffmpeg_next::error::ENOMEM });
        }
        (*context).interrupt_callback = callback.interrupt;
        (*context).flags |= ffi::AVFMT_FLAG_NONBLOCK;
        let driver = ffi::av_find_input_format(c"video4linux2".as_ptr());
        let mut options = options.disown();
        let opened = if driver.is_null() {
            ffi::avformat_free_context(context);
            ffi::AVERROR_DEMUXER_NOT_FOUND
        } else {
            ffi::avformat_open_input(&raw mut context, path.as_ptr(), driver, &raw mut options)
        };
        drop(ffmpeg_next::Dictionary::own(options));
        if opened < 0 {
            return Err(Error::from(opened));
        }
        let found = ffi::avformat_find_stream_info(context, std::ptr::null_mut());
        if found < 0 {
            ffi::avformat_close_input(&raw mut context);
            return Err(Error::from(found));
        }
        Ok(format::context::Input::wrap_with_interrupt(context, callback.guard))
    }
}
