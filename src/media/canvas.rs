//! Puts frames of any size into the one size of a clip: scaled, aspect kept, black where nothing is.

use ffmpeg_next::format::Pixel;
use ffmpeg_next::{Error, frame};

use crate::library::new_frame;
use crate::range::limited;
use crate::scale::Scaler;

/// A size in pixels and the scaler to get there. Results are limited-range 4:2:0.
pub(crate) struct Canvas {
    width: u32,
    height: u32,
    scaler: Scaler,
}

impl Canvas {
    /// A canvas of even size, both sides at least 2.
    pub(crate) fn new(width: u32, height: u32) -> Self {
        debug_assert!(width >= 2 && height >= 2 && width.is_multiple_of(2) && height.is_multiple_of(2));
        Self { width, height, scaler: Scaler::default() }
    }

    pub(crate) fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// The frame on the canvas, as a frame that nobody else refers to.
    pub(crate) fn place(&mut self, source: &frame::Video) -> Result<frame::Video, Error> {
        let (width, height) = fit((source.width(), source.height()), self.size());
        let same_size = (source.width(), source.height()) == (width, height);
        let part = match same_size.then(|| limited(source)).flatten() {
            Some(part) => part?,
            None => self.scaler.run(source, Pixel::YUV420P, width, height)?,
        };
        if (width, height) == self.size() {
            return Ok(part);
        }
        let mut whole = new_frame(Pixel::YUV420P, self.width, self.height)?;
        let left = ((self.width - width) / 2) & !1;
        let top = ((self.height - height) / 2) & !1;
        for plane in 0..3 {
            let shift = u32::from(plane != 0);
            whole.data_mut(plane).fill(if plane == 0 { 16 } else { 128 });
            let (from_stride, to_stride) = (part.stride(plane), whole.stride(plane));
            let offset = (top >> shift) as usize * to_stride + (left >> shift) as usize;
            let row = (width >> shift) as usize;
            let lines = part.data(plane).chunks(from_stride);
            let Some(target) = whole.data_mut(plane).get_mut(offset..) else { continue };
            for (from, to) in lines.zip(target.chunks_mut(to_stride)) {
                if let (Some(from), Some(to)) = (from.get(..row), to.get_mut(..row)) {
                    to.copy_from_slice(from);
                }
            }
        }
        Ok(whole)
    }
}

/// The largest even size of the source's shape that fits into an even frame. A side that is off by one or two
/// pixels is taken as full: a strip of that width would be a flaw, not a letterbox.
pub(crate) fn fit(source: (u32, u32), frame: (u32, u32)) -> (u32, u32) {
    let (sw, sh) = (u64::from(source.0.max(1)), u64::from(source.1.max(1)));
    let (fw, fh) = (u64::from(frame.0), u64::from(frame.1));
    let side = |length: u64, full: u64| {
        let even = (length & !1).max(2);
        let snapped = if even + 2 >= full { full } else { even };
        u32::try_from(snapped).unwrap_or(u32::MAX)
    };
    if sw * fh >= sh * fw {
        (frame.0, side((sh * fw + sw / 2) / sw, fh))
    } else {
        (side((sw * fh + sh / 2) / sh, fw), frame.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_is_kept() {
        for (source, frame, expected) in [
            ((640, 480), (640, 480), (640, 480)),
            ((641, 481), (640, 480), (640, 480)),
            ((768, 576), (640, 480), (640, 480)),
            ((1920, 1080), (640, 480), (640, 360)),
            ((1080, 1920), (640, 480), (270, 480)),
            ((160, 120), (640, 480), (640, 480)),
            ((1, 1), (640, 480), (480, 480)),
            ((1, 1), (2, 2), (2, 2)),
            ((65_535, 1), (640, 480), (640, 2)),
            ((1, 65_535), (640, 480), (2, 480)),
            ((0, 0), (640, 480), (480, 480)),
            ((u32::MAX, u32::MAX), (640, 480), (480, 480)),
        ] {
            assert_eq!(fit(source, frame), expected, "{source:?} into {frame:?}");
        }
    }

    #[test]
    fn a_wide_picture_lies_between_black_bars() {
        crate::library::init();
        let mut white = new_frame(Pixel::GRAY8, 64, 16).unwrap();
        white.data_mut(0).fill(255);
        let mut canvas = Canvas::new(32, 32);
        let placed = canvas.place(&white).unwrap();
        let luma = |x: usize, y: usize| placed.data(0)[y * placed.stride(0) + x];
        assert_eq!((luma(16, 0), luma(16, 31)), (16, 16));
        assert_eq!((luma(0, 16), luma(31, 15)), (235, 235));
        assert!(placed.data(1)[..16].iter().all(|&chroma| chroma == 128));
    }
}
