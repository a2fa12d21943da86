//! Encoded pictures to pixels and back, decoding as little as the next step needs. No looking at the pixels.
//!
//! A JPEG is reduced by its decoder inside the inverse DCT, which is cheaper than decoding all of it and
//! shrinking it afterwards; the other formats are decoded whole and then shrunk by OpenCV. All pictures come
//! out upright (Exif orientation is applied).
//!
//! A JPEG that was cut off may still decode: what is missing is filled by the decoder and looks flat. Whoever
//! must tell a whole picture from a cut one looks for the end marker before it comes here.

use meerkat_base::{Image, ImageFormat, ImageWish, PixelFormat};
use opencv::core::{Mat, MatTraitConst, MatTraitConstManual, Size, Vector, VectorToVec};
use opencv::{imgcodecs, imgproc};

use crate::probe::{Probe, probe};
use crate::{VisionError, mat};

/// A grey picture, usually reduced, with what is needed to get back to pixels of the original frame.
#[derive(Debug, Default)]
pub struct GrayPlane {
    mat: Mat,
    width: u32,
    height: u32,
    reduction: u32,
    original_width: u32,
    original_height: u32,
}

impl GrayPlane {
    /// A plane without pixels, to decode into.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a plane from decoded pixels, reducing them by 1, 2, 4 or 8 (or less, see [`decode_gray`]).
    pub fn from_image(image: &Image, reduction: u32) -> Result<Self, VisionError> {
        let reduction = fitting_reduction(reduction, image.width(), image.height());
        let source = mat::borrow(image)?;
        let mut gray = Mat::default();
        match image.format() {
            PixelFormat::Gray8 => source.copy_to(&mut gray)?,
            PixelFormat::Bgr8 => imgproc::cvt_color_def(&source, &mut gray, imgproc::COLOR_BGR2GRAY)?,
        }
        if reduction > 1 {
            let size = mat::size(image.width().div_ceil(reduction), image.height().div_ceil(reduction))?;
            let mut small = Mat::default();
            imgproc::resize(&gray, &mut small, size, 0.0, 0.0, imgproc::INTER_AREA)?;
            gray = small;
        }
        let mut plane = Self { mat: gray, ..Self::default() };
        plane.measure(reduction, (image.width(), image.height()))?;
        Ok(plane)
    }

    /// Width of the plane in its own pixels; 0 while nothing was decoded into it.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height of the plane in its own pixels; 0 while nothing was decoded into it.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// How many times smaller than the original frame it is: 1, 2, 4 or 8.
    pub fn reduction(&self) -> u32 {
        self.reduction
    }

    /// Width and height of the upright original frame in pixels.
    pub fn original_size(&self) -> (u32, u32) {
        (self.original_width, self.original_height)
    }

    /// All pixels, row by row without padding; `width * height` bytes.
    pub fn pixels(&self) -> &[u8] {
        // `measure` has made sure that the rows follow each other; an empty plane has no bytes.
        self.mat.data_bytes().unwrap_or_default()
    }

    /// Takes over the extent of what was just decoded.
    fn measure(&mut self, reduction: u32, stored: (u32, u32)) -> Result<(), VisionError> {
        if self.mat.empty() || self.mat.channels() != 1 {
            return Err(VisionError::Undecodable);
        }
        if !self.mat.is_continuous() {
            self.mat = self.mat.try_clone()?;
        }
        (self.width, self.height) = mat::extent(&self.mat);
        self.reduction = reduction;
        (self.original_width, self.original_height) = upright(stored, (self.width, self.height));
        Ok(())
    }
}

/// Decodes a picture to grey at 1/1, 1/2, 1/4 or 1/8 of its size (other numbers are rounded down to one of
/// these). A picture with a side shorter than the reduction is reduced less. See [`decode_gray_into`].
pub fn decode_gray(bytes: &[u8], reduction: u32) -> Result<GrayPlane, VisionError> {
    let mut plane = GrayPlane::new();
    decode_gray_into(bytes, reduction, &mut plane)?;
    Ok(plane)
}

/// As [`decode_gray`], into a plane whose memory is used again when the size is the same as before.
/// After an error the plane is empty.
pub fn decode_gray_into(bytes: &[u8], reduction: u32, plane: &mut GrayPlane) -> Result<(), VisionError> {
    let result = probe(bytes).and_then(|header| {
        let reduction = fitting_reduction(reduction, header.width, header.height);
        let flags = reading_flags(PixelFormat::Gray8, reduction);
        decode_into(bytes, flags, &mut plane.mat)?;
        plane.measure(reduction, (header.width, header.height))
    });
    if result.is_err() {
        *plane = GrayPlane::new();
    }
    result
}

/// Decodes as small as a detector's wish allows. Also returns how many pixels of the original frame one
/// decoded pixel stands for, at least 1: boxes found in the picture are multiplied by it.
pub fn decode_image(bytes: &[u8], wish: ImageWish) -> Result<(Image, f32), VisionError> {
    let header = probe(bytes)?;
    let reduction = reduction_for(&header, wish.enough_width);
    let flags = reading_flags(wish.format, reduction);
    let mut decoded = Mat::default();
    decode_into(bytes, flags, &mut decoded)?;
    let image = mat::to_image(&decoded)?;
    let (original_width, _) = upright((header.width, header.height), (image.width(), image.height()));
    let scale = original_width as f32 / image.width() as f32;
    Ok((image, scale))
}

/// What [`decode_image`] would give for a wish, without decoding again, from the picture that was decoded in its own size
/// and in colour; none where the wish is for fewer pixels.
pub fn as_wished(image: &Image, wish: ImageWish) -> Result<Option<Image>, VisionError> {
    if image.width().div_ceil(2) >= wish.enough_width.max(1) {
        return Ok(None);
    }
    match (image.format(), wish.format) {
        (PixelFormat::Bgr8, PixelFormat::Gray8) => {
            let mut gray = Mat::default();
            imgproc::cvt_color_def(&mat::borrow(image)?, &mut gray, imgproc::COLOR_BGR2GRAY)?;
            mat::to_image(&gray).map(Some)
        }
        (is, wished) => Ok((is == wished).then(|| image.clone())),
    }
}

/// Encodes as JPEG with a quality of 1 to 100 (values outside are clamped).
pub fn encode_jpeg(image: &Image, quality: u8) -> Result<Vec<u8>, VisionError> {
    crate::init();
    let pixels = mat::borrow(image)?;
    let mut out = Vector::<u8>::new();
    let options =
        Vector::<i32>::from_slice(&[imgcodecs::IMWRITE_JPEG_QUALITY, i32::from(quality.clamp(1, 100))]);
    // JPEG holds at most 65535 pixels in a side; OpenCV says so with `false` or an exception.
    if imgcodecs::imencode(".jpg", &pixels, &mut out, &options)? {
        Ok(out.to_vec())
    } else {
        Err(VisionError::Unencodable)
    }
}

/// Scales to exactly `width` x `height` pixels (each at least 1); shrinking averages, enlarging interpolates.
pub fn resize(image: &Image, width: u32, height: u32) -> Result<Image, VisionError> {
    crate::init();
    if u64::from(width) * u64::from(height) > crate::probe::MAX_PIXELS {
        return Err(VisionError::TooLarge { width, height });
    }
    let size: Size = mat::size(width, height)?;
    let shrinks = width <= image.width() && height <= image.height();
    let how = if shrinks { imgproc::INTER_AREA } else { imgproc::INTER_LINEAR };
    let mut out = Mat::default();
    imgproc::resize(&mat::borrow(image)?, &mut out, size, 0.0, 0.0, how)?;
    mat::to_image(&out)
}

/// Makes a small JPEG of an encoded picture, at most `max_width` wide; a smaller picture is not enlarged.
pub fn thumbnail_jpeg(bytes: &[u8], max_width: u32, quality: u8) -> Result<Vec<u8>, VisionError> {
    let max_width = max_width.max(1);
    let (image, _) = decode_image(bytes, ImageWish { format: PixelFormat::Bgr8, enough_width: max_width })?;
    if image.width() <= max_width {
        return encode_jpeg(&image, quality);
    }
    let height = (u64::from(image.height()) * u64::from(max_width) / u64::from(image.width())).max(1);
    let height = u32::try_from(height).unwrap_or(u32::MAX);
    encode_jpeg(&resize(&image, max_width, height)?, quality)
}

fn reading_flags(format: PixelFormat, reduction: u32) -> i32 {
    match (format, reduction) {
        (PixelFormat::Gray8, 8) => imgcodecs::IMREAD_REDUCED_GRAYSCALE_8,
        (PixelFormat::Gray8, 4) => imgcodecs::IMREAD_REDUCED_GRAYSCALE_4,
        (PixelFormat::Gray8, 2) => imgcodecs::IMREAD_REDUCED_GRAYSCALE_2,
        (PixelFormat::Gray8, _) => imgcodecs::IMREAD_GRAYSCALE,
        (PixelFormat::Bgr8, 8) => imgcodecs::IMREAD_REDUCED_COLOR_8,
        (PixelFormat::Bgr8, 4) => imgcodecs::IMREAD_REDUCED_COLOR_4,
        (PixelFormat::Bgr8, 2) => imgcodecs::IMREAD_REDUCED_COLOR_2,
        (PixelFormat::Bgr8, _) => imgcodecs::IMREAD_COLOR,
    }
}

fn decode_into(bytes: &[u8], flags: i32, target: &mut Mat) -> Result<(), VisionError> {
    crate::init();
    let source = Mat::from_bytes::<u8>(bytes)?;
    imgcodecs::imdecode_to(&source, flags, target)?;
    if target.empty() { Err(VisionError::Undecodable) } else { Ok(()) }
}

/// The largest of 1, 2, 4, 8 that is at most `wanted` and leaves at least one whole pixel.
fn fitting_reduction(wanted: u32, width: u32, height: u32) -> u32 {
    let limit = wanted.min(width).min(height);
    [8, 4, 2].into_iter().find(|&r| r <= limit).unwrap_or(1)
}

/// The largest reduction that leaves at least `enough_width` pixels, whichever way up the picture is.
fn reduction_for(header: &Probe, enough_width: u32) -> u32 {
    let width = if header.may_turn { header.width.min(header.height) } else { header.width };
    // The JPEG decoder rounds up, OpenCV's shrinking of the other formats rounds down.
    let left = |r: u32| match header.format {
        ImageFormat::Jpeg => width.div_ceil(r),
        _ => width / r,
    };
    let wanted = [8, 4, 2].into_iter().find(|&r| left(r) >= enough_width.max(1)).unwrap_or(1);
    fitting_reduction(wanted, header.width, header.height)
}

/// The size of the upright original, given the stored size and the size that came out of the decoder.
fn upright(stored: (u32, u32), decoded: (u32, u32)) -> (u32, u32) {
    let lying = |(w, h): (u32, u32)| w > h;
    if stored.0 != stored.1 && decoded.0 != decoded.1 && lying(stored) != lying(decoded) {
        (stored.1, stored.0)
    } else {
        stored
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Noise, gray, picture};

    const GRAY: PixelFormat = PixelFormat::Gray8;
    const BGR: PixelFormat = PixelFormat::Bgr8;

    fn wish(format: PixelFormat, enough_width: u32) -> ImageWish {
        ImageWish { format, enough_width }
    }

    #[test]
    fn a_plane_is_as_small_as_asked() {
        let jpeg = encode_jpeg(&picture(642, 481), 85).unwrap();
        for (reduction, size) in [(1, (642, 481)), (2, (321, 241)), (4, (161, 121)), (8, (81, 61))] {
            let plane = decode_gray(&jpeg, reduction).unwrap();
            assert_eq!((plane.width(), plane.height()), size);
            assert_eq!(plane.pixels().len(), (size.0 * size.1) as usize);
            assert_eq!((plane.reduction(), plane.original_size()), (reduction, (642, 481)));
        }
        assert_eq!(decode_gray(&jpeg, 7).unwrap().reduction(), 4);
        assert_eq!(decode_gray(&jpeg, 0).unwrap().reduction(), 1);
    }

    #[test]
    fn memory_is_used_again_and_an_error_leaves_nothing() {
        let (first, second) =
            (encode_jpeg(&gray(64, 64, 40), 90).unwrap(), encode_jpeg(&gray(64, 64, 200), 90).unwrap());
        let mut plane = decode_gray(&first, 4).unwrap();
        let before = plane.pixels().as_ptr();
        decode_gray_into(&second, 4, &mut plane).unwrap();
        assert_eq!(plane.pixels().as_ptr(), before);
        assert!(plane.pixels().iter().all(|&p| p.abs_diff(200) < 3));
        assert!(decode_gray_into(b"no picture", 4, &mut plane).is_err());
        assert_eq!((plane.width(), plane.pixels().len()), (0, 0));
    }

    #[test]
    fn as_little_as_satisfies_the_wish() {
        let jpeg = encode_jpeg(&picture(1920, 1080), 80).unwrap();
        for (enough, width) in [(480, 480), (481, 960), (960, 960), (961, 1920), (5000, 1920), (0, 240)] {
            let (image, scale) = decode_image(&jpeg, wish(BGR, enough)).unwrap();
            assert_eq!((image.width(), image.format()), (width, BGR), "{enough}");
            assert_eq!(scale, 1920.0 / width as f32);
        }
        assert_eq!(decode_image(&jpeg, wish(GRAY, 640)).unwrap().0.format(), GRAY);
    }

    #[test]
    fn what_is_decoded_already_serves_where_it_is_as_wished() {
        let jpeg = encode_jpeg(&picture(640, 480), 90).unwrap();
        let (colour, _) = decode_image(&jpeg, wish(BGR, u32::MAX)).unwrap();
        assert_eq!(as_wished(&colour, wish(BGR, 640)).unwrap().as_ref(), Some(&colour));
        let (decoded, _) = decode_image(&jpeg, wish(GRAY, 321)).unwrap();
        let gray = as_wished(&colour, wish(GRAY, 321)).unwrap().unwrap();
        assert_eq!((gray.width(), gray.height(), gray.format()), (640, 480, GRAY));
        let near = |(a, b): (&u8, &u8)| a.abs_diff(*b) <= 12;
        assert!(gray.data().iter().zip(decoded.data()).all(near), "only colours beyond white differ");
        assert_eq!(as_wished(&colour, wish(GRAY, 320)).unwrap(), None);
        assert_eq!(as_wished(&colour, wish(GRAY, 0)).unwrap(), None);
    }

    #[test]
    fn other_formats_and_odd_sizes_work() {
        let image = picture(50, 40);
        let pixels = mat::borrow(&image).unwrap();
        for ending in [".png", ".bmp", ".webp"] {
            let mut out = Vector::<u8>::new();
            assert!(imgcodecs::imencode_def(ending, &pixels, &mut out).unwrap());
            let (back, scale) = decode_image(out.as_slice(), wish(BGR, 20)).unwrap();
            assert_eq!((back.width(), back.height(), scale), (25, 20, 2.0), "{ending}");
            assert_eq!(decode_gray(out.as_slice(), 4).unwrap().width(), 12, "{ending}");
        }
        let dot = encode_jpeg(&gray(1, 1, 90), 90).unwrap();
        let plane = decode_gray(&dot, 4).unwrap();
        assert_eq!((plane.width(), plane.height(), plane.reduction()), (1, 1, 1));
        let mut png = Vector::<u8>::new();
        imgcodecs::imencode_def(".png", &mat::borrow(&gray(1, 1, 7)).unwrap(), &mut png).unwrap();
        assert_eq!(decode_gray(png.as_slice(), 8).unwrap().pixels(), [7]);
    }

    #[test]
    fn pictures_come_out_upright() {
        // Exif orientation 6: the stored picture has to be turned by a quarter to the right.
        let stored = encode_jpeg(&picture(320, 200), 90).unwrap();
        let exif = b"\xFF\xE1\0\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        let mut turned = stored[..2].to_vec();
        turned.extend(exif);
        turned.extend(&stored[2..]);
        let plane = decode_gray(&turned, 4).unwrap();
        assert_eq!((plane.width(), plane.height()), (50, 80));
        assert_eq!(plane.original_size(), (200, 320));
        let (image, scale) = decode_image(&turned, wish(BGR, 100)).unwrap();
        assert_eq!((image.width(), image.height(), scale), (100, 160, 2.0));
    }

    #[test]
    fn garbage_is_an_error_and_never_a_panic() {
        let jpeg = encode_jpeg(&picture(160, 120), 85).unwrap();
        let mut noise = Noise::new(5);
        for bytes in [&b""[..], b"\xFF", b"\xFF\xD8\xFF", b"BM", b"RIFF1234WEBPVP8 ", &[0; 100]] {
            assert!(decode_gray(bytes, 4).is_err(), "{bytes:?}");
        }
        for cut in (0..jpeg.len()).step_by(61) {
            // A cut picture may decode; its size must be right then.
            if let Ok(plane) = decode_gray(&jpeg[..cut], 4) {
                assert_eq!((plane.width(), plane.height()), (40, 30));
            }
        }
        for _ in 0..200 {
            let mut broken = jpeg.clone();
            for _ in 0..8 {
                let at = noise.below(broken.len() as u32) as usize;
                broken[at] = noise.below(256) as u8;
            }
            let _ = decode_gray(&broken, 4);
            let _ = decode_image(&broken, wish(BGR, 80));
        }
    }

    #[test]
    fn pictures_are_scaled_and_written() {
        let image = picture(100, 50);
        assert_eq!(resize(&image, 30, 70).unwrap().height(), 70);
        assert!(resize(&image, 0, 5).is_err());
        assert!(resize(&image, u32::MAX, u32::MAX).is_err());
        let thumbnail = thumbnail_jpeg(&encode_jpeg(&picture(640, 480), 90).unwrap(), 100, 70).unwrap();
        let (small, _) = decode_image(&thumbnail, wish(BGR, 1000)).unwrap();
        assert_eq!((small.width(), small.height()), (100, 75));
        let tiny = thumbnail_jpeg(&encode_jpeg(&gray(8, 8, 9), 90).unwrap(), 0, 0).unwrap();
        assert!(decode_gray(&tiny, 1).is_ok());
    }
}
