//! Compares a finished clip with the pictures that it was made of, one by one: are they there, at their times, and do
//! they show the same? What follows from the answer is the caller's business.

use std::path::Path;
use std::time::Duration;

use ffmpeg_next::Error;
use meerkat_base::{Image, ImageFormat, PixelFormat};

use crate::canvas::Canvas;
use crate::clip::ClipTimes;
use crate::error::{MediaError, PictureFault, at};
use crate::picture::PictureDecoder;
use crate::reader::{ReadOptions, Reader};
use crate::scale::Scaler;

/// Side of the blocks that are compared one by one, in pixels.
const BLOCK: usize = 32;
/// What equal pictures get, instead of an infinite number.
const EQUAL_DB: f64 = 99.0;

/// How alike a picture of a clip and the one that it was made of are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likeness {
    /// Peak signal-to-noise ratio of the whole picture in dB; x264 at its usual settings makes 30 to 45.
    pub psnr_db: f64,
    /// The same of the block of 32x32 pixels that is least alike: low where something was painted over.
    pub worst_block_db: f64,
    /// Where it stands in the clip, and where it should.
    pub times: (Duration, Duration),
}

impl Likeness {
    /// Whether it stands where it should: less than two ticks of the clip's clock apart.
    pub fn is_in_time(&self) -> bool {
        self.times.0.abs_diff(self.times.1) < Duration::from_micros(25)
    }
}

/// Goes through a clip in step with its pictures.
pub struct ClipComparison {
    reader: Reader,
    pictures: PictureDecoder,
    canvas: Option<Canvas>,
    scaler: Scaler,
    times: ClipTimes,
}

impl ClipComparison {
    /// Opens a clip.
    pub fn open(clip: &Path) -> Result<Self, MediaError> {
        let name = clip.to_str().ok_or_else(crate::encoder::not_text)?;
        Ok(Self {
            reader: Reader::open(name, ReadOptions::default())?,
            pictures: PictureDecoder::new(),
            canvas: None,
            scaler: Scaler::default(),
            times: ClipTimes::default(),
        })
    }

    /// Compares the clip's next picture with this one, which arrived `at` after the beginning of the recording. None
    /// when the clip has no further picture.
    pub fn next(
        &mut self,
        bytes: &[u8],
        format: ImageFormat,
        at: Duration,
    ) -> Result<Result<Option<Likeness>, PictureFault>, MediaError> {
        let original = match self.pictures.decode_upright(bytes, format) {
            Ok(original) => original,
            Err(fault) => return Ok(Err(fault)),
        };
        let Some((shown, place)) = self.reader.next_image()? else { return Ok(Ok(None)) };
        let size = (shown.width(), shown.height());
        let canvas = self.canvas.get_or_insert_with(|| Canvas::new(size.0 & !1, size.1 & !1));
        let placed = canvas.place(&original).map_err(compared)?;
        let expected = self.scaler.image(&placed, PixelFormat::Bgr8).map_err(compared)?;
        let due = Duration::from_nanos(u64::try_from(self.times.next(at).0).unwrap_or(0) * 100_000 / 9);
        let (psnr_db, worst_block_db) = likeness(&shown, &expected).unwrap_or((0.0, 0.0));
        Ok(Ok(Some(Likeness { psnr_db, worst_block_db, times: (place, due) })))
    }

    /// Whether the clip has a further picture.
    pub fn has_more(&mut self) -> Result<bool, MediaError> {
        Ok(self.reader.next_image()?.is_some())
    }
}

fn compared(error: Error) -> MediaError {
    at("comparing pictures")(error)
}

/// Of the whole and of the worst block; none for pictures of different sizes.
fn likeness(a: &Image, b: &Image) -> Option<(f64, f64)> {
    if (a.width(), a.height(), a.format()) != (b.width(), b.height(), b.format()) {
        return None;
    }
    let channels = a.format().channels();
    let (width, height) = (a.width() as usize, a.height() as usize);
    let row = width * channels;
    let (mut sum, mut worst) = (0_u64, 0.0_f64);
    for top in (0..height).step_by(BLOCK) {
        for left in (0..width).step_by(BLOCK) {
            let (bottom, right) = ((top + BLOCK).min(height), (left + BLOCK).min(width));
            let mut block = 0_u64;
            for y in top..bottom {
                let part = y * row + left * channels..y * row + right * channels;
                let (one, other) = (a.data().get(part.clone())?, b.data().get(part)?);
                block += one.iter().zip(other).map(|(&x, &y)| u64::from(x.abs_diff(y)).pow(2)).sum::<u64>();
            }
            sum += block;
            worst = worst.max(block as f64 / ((bottom - top) * (right - left) * channels) as f64);
        }
    }
    Some((decibels(sum as f64 / (row * height).max(1) as f64), decibels(worst)))
}

fn decibels(mean_square: f64) -> f64 {
    if mean_square <= 0.0 { EQUAL_DB } else { (10.0 * (255.0 * 255.0 / mean_square).log10()).min(EQUAL_DB) }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::clip::{ClipSettings, ClipWriter, Pushed};
    use crate::picture::encode_jpeg;
    use crate::testing::picture;

    fn jpeg(step: u32) -> Vec<u8> {
        encode_jpeg(&picture(320, 240, step), 85).unwrap().to_vec()
    }

    fn at(step: u32) -> Duration {
        Duration::from_millis(u64::from(step) * 190)
    }

    fn clip(folder: &Path, steps: impl Iterator<Item = u32>) -> PathBuf {
        let path = folder.join("a.mp4");
        let mut writer = ClipWriter::create(&path, ClipSettings::default()).unwrap();
        for (n, step) in (0..).zip(steps) {
            assert_eq!(writer.push(&jpeg(step), ImageFormat::Jpeg, at(n)).unwrap(), Pushed::Encoded);
        }
        writer.finish().unwrap();
        path
    }

    #[test]
    fn a_clip_is_like_the_pictures_it_was_made_of() {
        let folder = tempfile::tempdir().unwrap();
        let path = clip(folder.path(), 0..12);
        let mut comparison = ClipComparison::open(&path).unwrap();
        for step in 0..12 {
            let found = comparison.next(&jpeg(step), ImageFormat::Jpeg, at(step)).unwrap().unwrap().unwrap();
            assert!(found.psnr_db > 28.0 && found.worst_block_db > 20.0, "{step}: {found:?}");
            assert!(found.is_in_time(), "{found:?}");
        }
        assert!(!comparison.has_more().unwrap());
        assert_eq!(comparison.next(&jpeg(0), ImageFormat::Jpeg, at(12)).unwrap(), Ok(None));
        let fault = comparison.next(b"no picture", ImageFormat::Jpeg, at(13)).unwrap();
        assert!(fault.is_err());
    }

    #[test]
    fn what_was_painted_over_shows_in_its_block() {
        let one = picture(320, 240, 1);
        let mut data = one.data().to_vec();
        for y in 100..132 {
            data[(y * 320 + 100) * 3..(y * 320 + 132) * 3].fill(0);
        }
        let other = Image::new(320, 240, PixelFormat::Bgr8, data).unwrap();
        let (whole, worst) = likeness(&one, &other).unwrap();
        assert!(worst < 12.0 && whole > worst + 8.0, "{whole} {worst}");
        assert_eq!(likeness(&one, &one), Some((EQUAL_DB, EQUAL_DB)));
        assert_eq!(likeness(&one, &picture(64, 48, 1)), None);
    }

    #[test]
    fn a_picture_at_another_time_shows() {
        let folder = tempfile::tempdir().unwrap();
        let path = clip(folder.path(), 0..4);
        let mut comparison = ClipComparison::open(&path).unwrap();
        comparison.next(&jpeg(0), ImageFormat::Jpeg, at(0)).unwrap().unwrap();
        let late = comparison.next(&jpeg(1), ImageFormat::Jpeg, at(1) + Duration::from_micros(50)).unwrap();
        assert!(!late.unwrap().unwrap().is_in_time());
    }
}
