//! Covers parts of an encoded picture for ever. What was below is in no byte of the result: the picture is decoded,
//! painted and encoded anew, and its metadata (which may hold a preview of the whole picture) stay behind.

use bytes::Bytes;
use meerkat_base::{ImageWish, MaskArea, PixelFormat};
use opencv::core::{Mat, Point, Scalar, Vec3b, Vector};
use opencv::imgproc;

use crate::decode::{decode_image, encode_jpeg};
use crate::{VisionError, mat};

/// Painted this far around each area, pixels: what an edge only touches is covered too.
const MARGIN_PX: i32 = 2;

/// A picture in which the areas are black.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskedPicture {
    /// A JPEG, upright.
    pub bytes: Bytes,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// Decodes a picture, paints the areas black and encodes it as JPEG with a quality of 1 to 100.
///
/// # Errors
/// Those of decoding and encoding. Whoever gets one has nothing to show: the picture must not be used.
pub fn cover(bytes: &[u8], areas: &[MaskArea], quality: u8) -> Result<MaskedPicture, VisionError> {
    let wish = ImageWish { format: PixelFormat::Bgr8, enough_width: u32::MAX };
    let (mut image, _) = decode_image(bytes, wish)?;
    let size = mat::size(image.width(), image.height())?;
    {
        let mut canvas =
            Mat::new_rows_cols_with_bytes_mut::<Vec3b>(size.height, size.width, image.data_mut())?;
        for area in areas {
            let corners: Vector<Point> = area
                .corners()
                .iter()
                .map(|corner| Point::new(pixel(corner.x, size.width), pixel(corner.y, size.height)))
                .collect();
            let shape = Vector::<Vector<Point>>::from_iter([corners]);
            let black = Scalar::all(0.0);
            imgproc::fill_poly(&mut canvas, &shape, black, imgproc::LINE_8, 0, Point::new(0, 0))?;
            imgproc::polylines(&mut canvas, &shape, true, black, 2 * MARGIN_PX + 1, imgproc::LINE_8, 0)?;
        }
    }
    let bytes = Bytes::from(encode_jpeg(&image, quality)?);
    Ok(MaskedPicture { bytes, width: image.width(), height: image.height() })
}

/// The pixel at a share of a side, which has at least one pixel.
fn pixel(share: f32, side: i32) -> i32 {
    ((share * side as f32).round() as i32).clamp(0, side)
}

#[cfg(test)]
mod tests {
    use meerkat_base::Image;

    use super::*;

    fn areas(texts: &[&str]) -> Vec<MaskArea> {
        texts.iter().map(|text| MaskArea::parse(text).unwrap()).collect()
    }

    fn white(width: u32, height: u32) -> Vec<u8> {
        let pixels = vec![255; (width * height * 3) as usize];
        encode_jpeg(&Image::new(width, height, PixelFormat::Bgr8, pixels).unwrap(), 95).unwrap()
    }

    /// Mean brightness of a square around a point.
    fn brightness(picture: &MaskedPicture, x: u32, y: u32) -> u32 {
        let wish = ImageWish { format: PixelFormat::Gray8, enough_width: u32::MAX };
        let (image, _) = decode_image(&picture.bytes, wish).unwrap();
        assert_eq!((image.width(), image.height()), (picture.width, picture.height));
        let mut sum = 0;
        for dy in 0..4 {
            for dx in 0..4 {
                sum += u32::from(image.data()[((y + dy) * image.width() + x + dx) as usize]);
            }
        }
        sum / 16
    }

    #[test]
    fn areas_are_black_and_the_rest_stays() {
        let picture = cover(&white(320, 240), &areas(&["0,0,0.5,0.5", "1,1 0.75,1 1,0.5"]), 90).unwrap();
        for (x, y) in [(0, 0), (80, 60), (156, 116), (314, 232)] {
            assert!(brightness(&picture, x, y) < 8, "{x},{y} is covered");
        }
        for (x, y) in [(200, 60), (80, 160), (180, 140), (250, 130)] {
            assert!(brightness(&picture, x, y) > 247, "{x},{y} is free");
        }
    }

    #[test]
    fn metadata_stay_behind_and_the_picture_stands_upright() {
        // Exif orientation 6: shown after a quarter turn clockwise; with words that must not survive.
        let tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0secret preview";
        let stored = white(64, 32);
        let mut jpeg = stored[..2].to_vec();
        jpeg.extend([0xff, 0xe1]);
        jpeg.extend(u16::try_from(tiff.len() + 8).unwrap().to_be_bytes());
        jpeg.extend(b"Exif\0\0");
        jpeg.extend(tiff);
        jpeg.extend(&stored[2..]);
        let picture = cover(&jpeg, &areas(&["0,0,1,0.25"]), 90).unwrap();
        assert_eq!((picture.width, picture.height), (32, 64), "the area is that of the upright picture");
        assert!(brightness(&picture, 14, 4) < 8 && brightness(&picture, 14, 40) > 247);
        assert!(!picture.bytes.windows(6).any(|part| part == b"secret"));
    }

    #[test]
    fn a_whole_picture_can_be_covered_and_a_tiny_one_too() {
        for (width, height) in [(320, 240), (8, 8), (1, 1)] {
            let picture = cover(&white(width, height), &areas(&["0,0,1,1"]), 80).unwrap();
            let (image, _) =
                decode_image(&picture.bytes, ImageWish { format: PixelFormat::Gray8, enough_width: 1 })
                    .unwrap();
            assert!(image.data().iter().all(|&pixel| pixel < 8), "{width}x{height}");
        }
    }

    #[test]
    fn what_cannot_be_decoded_cannot_be_covered() {
        for bad in [&b""[..], b"no picture", &white(32, 32)[..40]] {
            assert!(cover(bad, &areas(&["0,0,1,1"]), 90).is_err());
        }
    }
}
