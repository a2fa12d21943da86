//! Pixel format, size and colour range of decoded frames, changed by swscale. Shape of the result only:
//! no letterbox (see `canvas`), no rotation (see `orientation`).

use ffmpeg_next::format::Pixel;
use ffmpeg_next::software::scaling;
use ffmpeg_next::{Error, ffi, frame};
use meerkat_base::{Image, PixelFormat};

use crate::library::new_frame;

/// Converts frames one after another; remembers the last conversion, so equal frames cost no set-up.
#[derive(Default)]
pub(crate) struct Scaler {
    ready: Option<Ready>,
}

struct Ready {
    job: Job,
    context: SendContext,
}

#[derive(PartialEq, Eq, Clone, Copy)]
struct Job {
    from: (Pixel, u32, u32),
    to: (Pixel, u32, u32),
    colours: Colours,
}

/// What the stream says about its luma and chroma, as far as it matters for the conversion.
#[derive(PartialEq, Eq, Clone, Copy)]
pub(crate) struct Colours {
    /// FFmpeg's number of the matrix; 2 is "not said".
    matrix: u32,
    /// Full range 0..=255 by flag (not by pixel format).
    full: bool,
}

struct SendContext(scaling::Context);

// SAFETY: a SwsContext is plain memory without ties to the thread that made it (swscale's own worker threads are not
// switched on). It is only reached through `&mut Scaler`, so by one thread at a time.
unsafe impl Send for SendContext {}

impl Scaler {
    /// The frame in another pixel format and size; an own copy even if nothing changes.
    pub(crate) fn run(
        &mut self,
        source: &frame::Video,
        format: Pixel,
        width: u32,
        height: u32,
    ) -> Result<frame::Video, Error> {
        let mut target = new_frame(format, width, height)?;
        self.run_into(source, &mut target)?;
        Ok(target)
    }

    /// As [`Scaler::run`], into a frame that exists and that nobody else refers to.
    pub(crate) fn run_into(&mut self, source: &frame::Video, target: &mut frame::Video) -> Result<(), Error> {
        let job = Job {
            from: (source.format(), source.width(), source.height()),
            to: (target.format(), target.width(), target.height()),
            colours: Colours::of(source),
        };
        let ready = match self.ready.take().filter(|ready| ready.job == job) {
            Some(ready) => self.ready.insert(ready),
            None => self.ready.insert(Ready { job, context: SendContext(make(job)?) }),
        };
        ready.context.0.run(source, target)
    }

    /// The frame as an image in plain memory.
    pub(crate) fn image(&mut self, source: &frame::Video, format: PixelFormat) -> Result<Image, Error> {
        self.image_of_size(source, format, source.width(), source.height())
    }

    /// The frame as an image of another size.
    pub(crate) fn image_of_size(
        &mut self,
        source: &frame::Video,
        format: PixelFormat,
        width: u32,
        height: u32,
    ) -> Result<Image, Error> {
        let pixel = match format {
            PixelFormat::Gray8 => Pixel::GRAY8,
            PixelFormat::Bgr8 => Pixel::BGR24,
        };
        let converted = self.run(source, pixel, width, height)?;
        let row = converted.width() as usize * format.channels();
        let mut data = Vec::with_capacity(row * converted.height() as usize);
        for line in converted.data(0).chunks(converted.stride(0)) {
            data.extend_from_slice(line.get(..row).unwrap_or(line));
        }
        Image::new(converted.width(), converted.height(), format, data).map_err(|_| Error::Bug)
    }
}

fn make(job: Job) -> Result<scaling::Context, Error> {
    let (from, from_width, from_height) = job.from;
    let (to, to_width, to_height) = job.to;
    // When the size stays only the chroma planes are resampled, if at all.
    let mut flags = scaling::Flags::BILINEAR;
    if from_width % 2 == 1 {
        // Otherwise the last column's colour is mixed with what happens to lie behind the row.
        flags |= scaling::Flags::FULL_CHR_H_INP;
    }
    let mut context = scaling::Context::get(from, from_width, from_height, to, to_width, to_height, flags)?;
    let full = job.colours.full || is_full_range(from);
    if job.colours.matrix() != ffi::SWS_CS_DEFAULT || (job.colours.full && !is_full_range(from)) {
        // SAFETY: the context was just made; both tables are constants inside swscale, and only read. There is no
        // safe call. A refusal (a conversion without matrix) leaves the context as it was, which is the best guess.
        unsafe {
            ffi::sws_setColorspaceDetails(
                context.as_mut_ptr(),
                ffi::sws_getCoefficients(job.colours.matrix()),
                full.into(),
                ffi::sws_getCoefficients(ffi::SWS_CS_DEFAULT),
                is_full_range(to).into(),
                0,
                1 << 16,
                1 << 16,
            );
        }
    }
    Ok(context)
}

impl Colours {
    pub(crate) fn of(frame: &frame::Video) -> Self {
        // SAFETY: both fields are C enums of 32 bits inside a live AVFrame. They are read as numbers because a
        // damaged file can put values there that the binding's Rust enums do not have.
        unsafe {
            let frame = frame.as_ptr();
            let matrix = (&raw const (*frame).colorspace).cast::<u32>().read();
            let range = (&raw const (*frame).color_range).cast::<u32>().read();
            Self { matrix, full: range == ffi::AVColorRange::AVCOL_RANGE_JPEG as u32 }
        }
    }

    /// Whether the matrix is that of BT.601.
    pub(crate) fn is_bt601(self) -> bool {
        self.matrix() == ffi::SWS_CS_DEFAULT
    }

    /// swscale's number of the matrix. What is not said or not known counts as BT.601, as JPEG and most cameras have.
    fn matrix(self) -> i32 {
        match self.matrix {
            1 => ffi::SWS_CS_ITU709,
            4 => ffi::SWS_CS_FCC,
            7 => ffi::SWS_CS_SMPTE240M,
            9 | 10 => ffi::SWS_CS_BT2020,
            _ => ffi::SWS_CS_DEFAULT,
        }
    }
}

/// Pixel formats whose luma runs over 0..=255 by definition.
fn is_full_range(format: Pixel) -> bool {
    matches!(
        format,
        Pixel::YUVJ420P
            | Pixel::YUVJ422P
            | Pixel::YUVJ444P
            | Pixel::YUVJ440P
            | Pixel::YUVJ411P
            | Pixel::GRAY8
    )
}
