//! Small pictures of exactly one size and never more than so many bytes, for those who take a whole picture in one
//! datagram. What the picture shows keeps its shape; what it leaves free is black.

use meerkat_base::{Image, ImageWish, PixelFormat};

use crate::VisionError;
use crate::decode::{decode_image, encode_jpeg, resize};

/// The worst JPEG quality that is tried before a picture is given up.
const WORST_QUALITY: u8 = 10;
/// How much worse the next try is.
const STEP_DOWN: u8 = 15;
/// How much better the next picture may be after one that left more than half of its bytes unused.
const STEP_UP: u8 = 5;

/// Why there is no miniature.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NoMiniature {
    /// There are no pixels to be had.
    #[error(transparent)]
    Picture(#[from] VisionError),
    /// Even at the worst quality it is larger than what it has to fit.
    #[error("the picture takes {bytes} bytes at the worst quality")]
    TooLarge {
        /// Its size then.
        bytes: usize,
    },
}

/// Makes miniatures one after another, and remembers with which quality the last one fitted.
#[derive(Debug, Clone)]
pub struct Miniatures {
    width: u32,
    height: u32,
    max_bytes: usize,
    best_quality: u8,
    quality: u8,
}

impl Miniatures {
    /// Of `width` x `height` pixels (each at least 1), at most `max_bytes` bytes, with a quality of 1 to
    /// `best_quality` (clamped to 1..=100), as good as fits.
    pub fn new(width: u32, height: u32, max_bytes: usize, best_quality: u8) -> Self {
        let best_quality = best_quality.clamp(1, 100);
        Self { width: width.max(1), height: height.max(1), max_bytes, best_quality, quality: best_quality }
    }

    /// Makes a JPEG of an encoded picture.
    pub fn make(&mut self, picture: &[u8]) -> Result<Vec<u8>, NoMiniature> {
        let wish = ImageWish { format: PixelFormat::Bgr8, enough_width: self.width };
        let (image, _) = decode_image(picture, wish)?;
        let (width, height) = fit((image.width(), image.height()), (self.width, self.height));
        let small = if (image.width(), image.height()) == (width, height) {
            image
        } else {
            resize(&image, width, height)?
        };
        let whole = if (width, height) == (self.width, self.height) { small } else { self.on_black(&small)? };
        self.encode(&whole)
    }

    fn encode(&mut self, image: &Image) -> Result<Vec<u8>, NoMiniature> {
        loop {
            let bytes = encode_jpeg(image, self.quality)?;
            if bytes.len() <= self.max_bytes {
                if bytes.len() < self.max_bytes / 2 {
                    self.quality = self.quality.saturating_add(STEP_UP).min(self.best_quality);
                }
                return Ok(bytes);
            }
            let worst = WORST_QUALITY.min(self.best_quality);
            if self.quality <= worst {
                return Err(NoMiniature::TooLarge { bytes: bytes.len() });
            }
            self.quality = self.quality.saturating_sub(STEP_DOWN).max(worst);
        }
    }

    fn on_black(&self, part: &Image) -> Result<Image, VisionError> {
        let channels = part.format().channels();
        let row = self.width as usize * channels;
        let part_row = part.width() as usize * channels;
        let left = (self.width.saturating_sub(part.width()) / 2) as usize * channels;
        let top = (self.height.saturating_sub(part.height()) / 2) as usize;
        let mut pixels = vec![0; row * self.height as usize];
        for (to, from) in pixels.chunks_exact_mut(row).skip(top).zip(part.data().chunks_exact(part_row)) {
            if let Some(to) = to.get_mut(left..left + part_row) {
                to.copy_from_slice(from);
            }
        }
        Image::new(self.width, self.height, part.format(), pixels).map_err(|_| VisionError::Unencodable)
    }
}

/// The largest size of the source's shape that fits into a frame. A side that is off by one pixel is taken as full.
fn fit(source: (u32, u32), frame: (u32, u32)) -> (u32, u32) {
    let (sw, sh) = (u64::from(source.0.max(1)), u64::from(source.1.max(1)));
    let (fw, fh) = (u64::from(frame.0), u64::from(frame.1));
    let side = |length: u64, full: u32| {
        let length = u32::try_from(length.max(1)).unwrap_or(full).min(full);
        if length + 1 >= full { full } else { length }
    };
    if sw * fh >= sh * fw {
        (frame.0, side((sh * fw + sw / 2) / sw, frame.1))
    } else {
        (side((sw * fh + sh / 2) / sh, frame.0), frame.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture that hardly shrinks: every pixel is another.
    fn noise(width: u32, height: u32) -> Vec<u8> {
        let mut state = 1u32;
        let pixels = (0..width * height * 3)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        encode_jpeg(&Image::new(width, height, PixelFormat::Bgr8, pixels).unwrap(), 95).unwrap()
    }

    fn white(width: u32, height: u32) -> Vec<u8> {
        let pixels = vec![255; (width * height * 3) as usize];
        encode_jpeg(&Image::new(width, height, PixelFormat::Bgr8, pixels).unwrap(), 95).unwrap()
    }

    fn decoded(jpeg: &[u8]) -> Image {
        decode_image(jpeg, ImageWish { format: PixelFormat::Bgr8, enough_width: u32::MAX }).unwrap().0
    }

    #[test]
    fn every_picture_becomes_exactly_that_size() {
        let mut miniatures = Miniatures::new(160, 120, 65_507, 80);
        for (width, height) in
            [(640, 480), (1920, 1080), (480, 640), (160, 120), (64, 48), (1, 1), (3000, 200)]
        {
            let image = decoded(&miniatures.make(&white(width, height)).unwrap());
            assert_eq!((image.width(), image.height()), (160, 120), "{width}x{height}");
            let centre = ((60 * 160 + 80) * 3) as usize;
            assert!(image.data()[centre] > 200, "{width}x{height}");
            let is_full = fit((width, height), (160, 120)) == (160, 120);
            assert_eq!(image.data()[0] > 200, is_full, "{width}x{height}: black where nothing is");
        }
    }

    #[test]
    fn the_shape_is_kept() {
        for (source, frame, expected) in [
            ((640, 480), (160, 120), (160, 120)),
            ((1920, 1080), (160, 120), (160, 90)),
            ((1080, 1920), (160, 120), (68, 120)),
            ((641, 480), (160, 120), (160, 120)),
            ((u32::MAX, 1), (160, 120), (160, 1)),
            ((1, u32::MAX), (160, 120), (1, 120)),
            ((0, 0), (160, 120), (120, 120)),
        ] {
            assert_eq!(fit(source, frame), expected, "{source:?}");
        }
    }

    #[test]
    fn quality_gives_way_so_that_it_fits_and_comes_back() {
        let noise = noise(640, 480);
        let mut roomy = Miniatures::new(640, 480, usize::MAX, 80);
        let free = roomy.make(&noise).unwrap().len();
        let mut tight = Miniatures::new(640, 480, free / 2, 80);
        for _ in 0..3 {
            assert!(tight.make(&noise).unwrap().len() <= free / 2);
        }
        let worse = tight.quality;
        assert!(worse < 80);
        for _ in 0..20 {
            tight.make(&white(640, 480)).unwrap();
        }
        assert_eq!(tight.quality, 80, "from {worse}");
    }

    #[test]
    fn the_default_size_always_fits_one_datagram() {
        let bytes = Miniatures::new(160, 120, 65_507, 100).make(&noise(160, 120)).unwrap();
        assert!(bytes.len() <= 65_507);
    }

    #[test]
    fn what_cannot_be_made_is_said() {
        let mut miniatures = Miniatures::new(160, 120, 100, 80);
        assert!(matches!(miniatures.make(&noise(160, 120)), Err(NoMiniature::TooLarge { .. })));
        assert!(matches!(miniatures.make(b"no picture"), Err(NoMiniature::Picture(_))));
        assert!(matches!(miniatures.make(&white(64, 48)[..40]), Err(NoMiniature::Picture(_))));
    }
}
