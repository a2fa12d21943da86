//! The FFmpeg library as a whole: made ready once, kept quiet, and limited. No codec or container here.

use std::sync::Once;

use ffmpeg_next as ffmpeg;
use ffmpeg_next::{ffi, format, frame};

/// The largest single block of memory FFmpeg may ask for, in bytes. A decoded picture of the pixel limit with
/// 16 bits in four channels just fits; a packet whose length field lies does not.
const MAX_BLOCK_BYTES: usize = 576 << 20;

/// Makes FFmpeg ready. Every way into this room calls it; only the first call does something.
pub(crate) fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Err(error) = ffmpeg::init() {
            tracing::error!(%error, "FFmpeg could not be made ready");
        }
        format::network::init();
        // What goes wrong comes back as error codes. The library's own words would go to standard error, one line
        // or more per damaged picture (some as "fatal"), and may hold addresses with credentials.
        ffmpeg::log::set_level(ffmpeg::log::Level::Panic);
        // SAFETY: sets one process-wide number inside FFmpeg; there is no safe call for it.
        unsafe { ffi::av_max_alloc(MAX_BLOCK_BYTES) };
    });
}

/// A frame with pixel memory of its own; the binding's constructor does not say when there was none.
pub(crate) fn new_frame(
    format: format::Pixel,
    width: u32,
    height: u32,
) -> Result<frame::Video, ffmpeg::Error> {
    let frame = frame::Video::new(format, width, height);
    if frame.planes() == 0 {
        return Err(ffmpeg::Error::Other { errno: ffmpeg::error::ENOMEM });
    }
    Ok(frame)
}

/// Whether a call only said that it has nothing to give or cannot take more at this moment.
pub(crate) fn is_again(error: ffmpeg::Error) -> bool {
    error == ffmpeg::Error::Other { errno: ffmpeg::error::EAGAIN }
}
