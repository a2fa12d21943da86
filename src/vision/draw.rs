//! Draws boxes and labels into a picture, for people to look at.
//!
//! OpenCV's fonts know ASCII only: every other character of a label is drawn as `?`.

use meerkat_base::{Image, PixelFormat, Rect};
use opencv::core::{Mat, Point, Scalar, Size, Vec3b};
use opencv::imgproc;

use crate::{VisionError, mat};

/// Blue, green and red, 0..=255 each. On a grey picture their mean is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour(pub u8, pub u8, pub u8);

/// A box with what is written on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Marking {
    /// In pixels of the picture; may reach beyond it.
    pub bbox: Rect,
    /// At most [`LONGEST_LABEL`] characters are drawn; an empty label is none.
    pub label: String,
    /// Of frame and label.
    pub colour: Colour,
}

/// Longer labels are cut.
pub const LONGEST_LABEL: usize = 48;

/// Draws all markings into a picture, in order.
pub fn draw(image: &mut Image, markings: &[Marking]) -> Result<(), VisionError> {
    crate::init();
    let size = mat::size(image.width(), image.height())?;
    // Legible on a snapshot of any size.
    let scale = (f64::from(size.width) / 1000.0).clamp(0.4, 2.0);
    let thickness = ((scale * 2.0).round() as i32).max(1);
    let gray = image.format() == PixelFormat::Gray8;
    let mut canvas = if gray {
        Mat::new_rows_cols_with_bytes_mut::<u8>(size.height, size.width, image.data_mut())?
    } else {
        Mat::new_rows_cols_with_bytes_mut::<Vec3b>(size.height, size.width, image.data_mut())?
    };
    for Marking { bbox, label, colour: Colour(blue, green, red) } in markings {
        let [b, g, r] = [blue, green, red].map(|&c| f64::from(c));
        let (frame, dark) = if gray {
            (Scalar::all((b + g + r) / 3.0), b + g + r < 384.0)
        } else {
            // Green looks brighter than red, red brighter than blue.
            (Scalar::new(b, g, r, 0.0), 0.11 * b + 0.59 * g + 0.3 * r < 128.0)
        };
        let ink = Scalar::all(if dark { 255.0 } else { 0.0 });
        let area = pixels(bbox, size);
        imgproc::rectangle(&mut canvas, area, frame, thickness, imgproc::LINE_8, 0)?;
        let text = drawable(label);
        if text.is_empty() {
            continue;
        }
        let mut below = 0;
        let font = imgproc::FONT_HERSHEY_SIMPLEX;
        let extent = imgproc::get_text_size(&text, font, scale, thickness.max(2) - 1, &mut below)?;
        let height = extent.height + below + 2;
        // Above the box, or inside it where there is no room above.
        let top = if area.y >= height { area.y - height } else { area.y.max(0) };
        let left = area.x.min(size.width - extent.width - 2).max(0);
        let plate = opencv::core::Rect::new(left, top, extent.width + 2, height);
        imgproc::rectangle(&mut canvas, plate, frame, imgproc::FILLED, imgproc::LINE_8, 0)?;
        let start = Point::new(left + 1, top + extent.height + 1);
        imgproc::put_text(
            &mut canvas,
            &text,
            start,
            font,
            scale,
            ink,
            thickness.max(2) - 1,
            imgproc::LINE_AA,
            false,
        )?;
    }
    Ok(())
}

/// A box in whole pixels, at most a little outside of the picture, since OpenCV counts in 32 bits.
fn pixels(bbox: &Rect, size: Size) -> opencv::core::Rect {
    let clamp = |v: f32, limit: i32| v.clamp(-8.0, limit as f32 + 8.0).round() as i32;
    let (left, top) = (clamp(bbox.x, size.width), clamp(bbox.y, size.height));
    let (right, bottom) = (clamp(bbox.x + bbox.width, size.width), clamp(bbox.y + bbox.height, size.height));
    opencv::core::Rect::new(left, top, (right - left).max(1), (bottom - top).max(1))
}

fn drawable(label: &str) -> String {
    let shown = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    label.chars().take(LONGEST_LABEL).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::gray;

    fn marked(image: &mut Image, bbox: Rect, label: &str) {
        draw(image, &[Marking { bbox, label: label.into(), colour: Colour(0, 200, 255) }]).unwrap();
    }

    #[test]
    fn a_box_is_drawn_where_it_is() {
        let mut image = Image::new(200, 100, PixelFormat::Bgr8, vec![0; 60_000]).unwrap();
        marked(&mut image, Rect::new(50.0, 40.0, 60.0, 30.0), "");
        let at = |x: usize, y: usize| &image.data()[(y * 200 + x) * 3..][..3];
        assert_eq!(at(50, 55), [0, 200, 255]);
        assert_eq!(at(80, 40), [0, 200, 255]);
        assert_eq!(at(80, 55), [0, 0, 0], "not filled");
        assert_eq!(at(10, 10), [0, 0, 0]);
        let before = image.clone();
        marked(&mut image, Rect::new(50.0, 40.0, 60.0, 30.0), "person 93%");
        assert_ne!(image, before);
    }

    #[test]
    fn only_ascii_is_written() {
        assert_eq!(drawable("张伟 a\n\u{7f}é"), "?? a???");
        assert_eq!(drawable(&"x".repeat(500)).len(), LONGEST_LABEL);
        let (mut chinese, mut marks) = (gray(200, 100, 0), gray(200, 100, 0));
        marked(&mut chinese, Rect::new(20.0, 40.0, 60.0, 30.0), "张伟");
        marked(&mut marks, Rect::new(20.0, 40.0, 60.0, 30.0), "??");
        assert_eq!(chinese, marks);
    }

    #[test]
    fn boxes_beyond_the_picture_do_no_harm() {
        for size in [(1, 1), (64, 48)] {
            for bbox in [
                Rect::new(-1e30, -1e30, 3e38, 3e38),
                Rect::new(1e9, 1e9, 10.0, 10.0),
                Rect::new(-50.0, 20.0, 10.0, 0.0),
                Rect::new(f32::NAN, 0.0, f32::INFINITY, 5.0),
            ] {
                let mut image = gray(size.0, size.1, 7);
                marked(&mut image, bbox, "label");
                assert_eq!(image.width(), size.0);
            }
        }
    }
}
