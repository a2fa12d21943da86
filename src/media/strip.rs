//! The preview strip of a clip: a few small pictures from its beginning to its end, side by side. The clip's length need
//! not be known before its end, and no more than twice the wanted pictures are held.

use ffmpeg_next::frame;
use meerkat_base::{Image, PixelFormat};

use crate::scale::Scaler;

/// Height of the small pictures in pixels.
const HEIGHT: u32 = 90;
/// Widest small picture in pixels.
const MAX_WIDTH: u32 = 240;

/// Collects the pictures.
pub(crate) struct Strip {
    wanted: usize,
    /// Every so many frames one is taken.
    every: u64,
    seen: u64,
    small: Vec<Image>,
    scaler: Scaler,
}

impl Strip {
    /// A strip of at most so many pictures, at least 1.
    pub(crate) fn new(wanted: usize) -> Self {
        Self { wanted: wanted.max(1), every: 1, seen: 0, small: Vec::new(), scaler: Scaler::default() }
    }

    /// Looks at the clip's next frame; all are of one size. One that cannot be made small is left out.
    pub(crate) fn see(&mut self, frame: &frame::Video) {
        let number = self.seen;
        self.seen += 1;
        if !number.is_multiple_of(self.every) {
            return;
        }
        if self.small.len() == 2 * self.wanted {
            // Every second one goes, and from now on half as many come.
            let mut even = false;
            self.small.retain(|_| {
                even = !even;
                even
            });
            self.every *= 2;
            if !number.is_multiple_of(self.every) {
                return;
            }
        }
        let width = (frame.width() * HEIGHT / frame.height().max(1)).clamp(2, MAX_WIDTH);
        if let Ok(small) = self.scaler.image_of_size(frame, PixelFormat::Bgr8, width, HEIGHT) {
            self.small.push(small);
        }
    }

    /// The strip; none when no frame was seen.
    pub(crate) fn finish(self) -> Option<Image> {
        let have = self.small.len();
        let count = have.min(self.wanted);
        let chosen: Vec<&Image> = (0..count)
            .map(|n| if count == 1 { have / 2 } else { n * (have - 1) / (count - 1) })
            .filter_map(|at| self.small.get(at))
            .collect();
        let first = chosen.first()?;
        let (width, height) = (first.width(), first.height());
        let row = width as usize * PixelFormat::Bgr8.channels();
        let mut data = Vec::with_capacity(row * height as usize * count);
        for y in 0..height as usize {
            for image in &chosen {
                data.extend_from_slice(image.data().get(y * row..(y + 1) * row)?);
            }
        }
        let whole = width.checked_mul(u32::try_from(count).ok()?)?;
        Image::new(whole, height, PixelFormat::Bgr8, data).ok()
    }
}

#[cfg(test)]
mod tests {
    use ffmpeg_next::format::Pixel;

    use super::*;
    use crate::library::{init, new_frame};

    /// The greys of a strip of so many frames that grow brighter, one by one.
    fn strip(wanted: usize, frames: usize) -> Option<(u32, Vec<u8>)> {
        init();
        let mut strip = Strip::new(wanted);
        for n in 0..frames {
            let mut frame = new_frame(Pixel::GRAY8, 64, 48).unwrap();
            let grey = u8::try_from(n * 255 / frames.max(2)).unwrap();
            frame.data_mut(0).fill(grey);
            strip.see(&frame);
            assert!(strip.small.len() <= 2 * wanted);
        }
        let image = strip.finish()?;
        let middle = |n: u32| image.data()[((n * 120 + 60) * 3) as usize];
        let count = image.width() / 120;
        Some((count, (0..count).map(middle).collect()))
    }

    #[test]
    fn a_strip_goes_from_the_beginning_to_the_end() {
        assert_eq!(strip(8, 0), None);
        for (wanted, frames, expected) in
            [(8, 1, 1), (8, 5, 5), (8, 8, 8), (8, 9, 8), (1, 50, 1), (4, 1000, 4)]
        {
            let (count, greys) = strip(wanted, frames).unwrap();
            assert_eq!(count, expected, "{wanted} of {frames}");
            assert!(greys.is_sorted(), "{greys:?}");
            if frames == 1000 {
                assert!(greys[0] < 10 && greys[3] > 200, "{greys:?}");
                let steps: Vec<u8> = greys.windows(2).map(|pair| pair[1] - pair[0]).collect();
                assert!(steps.iter().max().unwrap() - steps.iter().min().unwrap() < 40, "{greys:?}");
            }
        }
    }
}
