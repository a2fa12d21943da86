//! Draws boxes and labels into a picture, for people to look at.
//!
//! OpenCV's fonts know ASCII only: every other character of a label is drawn as `?`, unless there is a [`Font`].

use meerkat_base::{Image, PixelFormat, Rect};
use opencv::core::{Mat, Point, Scalar, Size, Vec3b};
use opencv::imgproc;

use crate::font::{Font, Line};
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

/// Height of a line of a font for a scale of 1, pixels: about that of OpenCV's letters.
const LINE_HEIGHT: f64 = 32.0;
/// Chinese characters are not legible when they are lower, pixels.
const LEAST_HEIGHT: f64 = 16.0;

/// A line that is written when all frames are drawn.
struct Writing {
    line: Line,
    left: i32,
    top: i32,
    ink: u8,
}

/// Draws all markings into a picture, in order.
pub fn draw(image: &mut Image, markings: &[Marking]) -> Result<(), VisionError> {
    draw_with(None, image, markings)
}

/// As [`draw`]; labels with other characters than ASCII are written in the font, if there is one.
pub fn draw_with(font: Option<&Font>, image: &mut Image, markings: &[Marking]) -> Result<(), VisionError> {
    crate::init();
    let size = mat::size(image.width(), image.height())?;
    // Legible on a snapshot of any size.
    let scale = (f64::from(size.width) / 1000.0).clamp(0.4, 2.0);
    let thickness = ((scale * 2.0).round() as i32).max(1);
    let gray = image.format() == PixelFormat::Gray8;
    let mut writings = Vec::new();
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
        if let Some(font) = font.filter(|_| !label.is_ascii()) {
            let line = font.line(&writable(label), (LINE_HEIGHT * scale).max(LEAST_HEIGHT) as f32);
            let (left, top) = place(area, size, line.width, line.height);
            let plate = opencv::core::Rect::new(left, top, line.width + 2, line.height);
            imgproc::rectangle(&mut canvas, plate, frame, imgproc::FILLED, imgproc::LINE_8, 0)?;
            writings.push(Writing { line, left: left + 1, top, ink: if dark { 255 } else { 0 } });
            continue;
        }
        let mut below = 0;
        let font = imgproc::FONT_HERSHEY_SIMPLEX;
        let extent = imgproc::get_text_size(&text, font, scale, thickness.max(2) - 1, &mut below)?;
        let height = extent.height + below + 2;
        let (left, top) = place(area, size, extent.width, height);
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
    drop(canvas);
    for Writing { line, left, top, ink } in writings {
        if let Some(font) = font {
            font.write(image, line, left, top, ink);
        }
    }
    Ok(())
}

/// Where a label of this extent goes: above the box, or inside it where there is no room above.
fn place(area: opencv::core::Rect, size: Size, width: i32, height: i32) -> (i32, i32) {
    let top = if area.y >= height { area.y - height } else { area.y.max(0) };
    (area.x.min(size.width - width - 2).max(0), top)
}

/// A box in whole pixels, at most a little outside of the picture, since OpenCV counts in 32 bits.
fn pixels(bbox: &Rect, size: Size) -> opencv::core::Rect {
    let clamp = |v: f32, limit: i32| v.clamp(-8.0, limit as f32 + 8.0).round() as i32;
    let (left, top) = (clamp(bbox.x, size.width), clamp(bbox.y, size.height));
    let (right, bottom) = (clamp(bbox.x + bbox.width, size.width), clamp(bbox.y + bbox.height, size.height));
    opencv::core::Rect::new(left, top, (right - left).max(1), (bottom - top).max(1))
}

/// What a font writes of a label.
fn writable(label: &str) -> String {
    label.chars().take(LONGEST_LABEL).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// What OpenCV writes of a label.
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
    fn a_font_writes_what_opencv_cannot_and_leaves_it_the_rest() {
        let font = Font::find().expect("one of the usual fonts is there");
        for format in [PixelFormat::Gray8, PixelFormat::Bgr8] {
            let with = |font: Option<&Font>, label: &str, x: f32| {
                let mut image = Image::new(200, 100, format, vec![0; 20_000 * format.channels()]).unwrap();
                let bbox = Rect::new(x, 40.0, 60.0, 30.0);
                let marking = Marking { bbox, label: label.into(), colour: Colour(0, 200, 255) };
                draw_with(font, &mut image, &[marking]).unwrap();
                image
            };
            let names = ["张伟", "王芳", "José", "张伟 87%"].map(|name| with(Some(&font), name, 20.0));
            for (n, name) in names.iter().enumerate() {
                assert!(names[..n].iter().all(|other| other != name), "{n}");
            }
            assert_ne!(names[0], with(None, "张伟", 20.0));
            assert_eq!(with(Some(&font), "Li Lei", 20.0), with(None, "Li Lei", 20.0));
            for x in [-1e30, -90.0, 190.0, 1e30] {
                with(Some(&font), &"张".repeat(500), x);
            }
        }
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
