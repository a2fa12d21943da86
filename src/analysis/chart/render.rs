//! Drawings become SVG, PNG or JPEG through plotters' backends. Pictures are painted at twice their size and halved, so
//! that edges are smooth.

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::imageops::{FilterType, resize, thumbnail};
use image::{ImageEncoder, RgbImage};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::colour::Rgb;
use super::drawing::{Drawing, Hold, Mark};
use super::font::{FAMILY, chosen};
use crate::error::DrawError;

/// The most that clients of the desk read at once, bytes.
pub const CLIENT_JPEG_BYTES: usize = 60_000;

/// How much larger pictures are painted than they become.
const PAINTED: i32 = 2;

/// Qualities that are tried before a picture gets smaller.
const QUALITIES: [u8; 5] = [90, 80, 70, 60, 50];
/// Smaller pictures are of no use, px.
const LEAST_WIDTH: u32 = 120;

impl Drawing {
    /// As SVG. Texts stay texts, in the viewer's font.
    pub fn svg(&self) -> Result<String, DrawError> {
        let mut svg = String::new();
        paint(self, &SVGBackend::with_string(&mut svg, self.size_px()).into_drawing_area(), 1)?;
        Ok(svg)
    }

    /// As PNG.
    pub fn png(&self) -> Result<Vec<u8>, DrawError> {
        let picture = self.picture()?;
        let mut png = Vec::new();
        PngEncoder::new(&mut png)
            .write_image(picture.as_raw(), picture.width(), picture.height(), image::ExtendedColorType::Rgb8)
            .map_err(backend)?;
        Ok(png)
    }

    /// As JPEG of at most [`CLIENT_JPEG_BYTES`].
    pub fn jpeg(&self) -> Result<Vec<u8>, DrawError> {
        self.jpeg_within(CLIENT_JPEG_BYTES)
    }

    /// As JPEG of at most so many bytes: quality goes down first, then the size.
    pub fn jpeg_within(&self, most_bytes: usize) -> Result<Vec<u8>, DrawError> {
        let mut picture = self.picture()?;
        loop {
            for quality in QUALITIES {
                let mut jpeg = Vec::new();
                JpegEncoder::new_with_quality(&mut jpeg, quality).encode_image(&picture).map_err(backend)?;
                if jpeg.len() <= most_bytes {
                    return Ok(jpeg);
                }
            }
            let (width, height) = (picture.width() * 4 / 5, picture.height() * 4 / 5);
            if width < LEAST_WIDTH || height == 0 {
                return Err(DrawError::TooLarge { limit: most_bytes });
            }
            picture = resize(&picture, width, height, FilterType::Triangle);
        }
    }

    fn picture(&self) -> Result<RgbImage, DrawError> {
        if chosen().is_none() {
            return Err(DrawError::NoFont);
        }
        let (width, height) = self.size_px();
        let scale = PAINTED.unsigned_abs();
        let mut painted = RgbImage::new(width * scale, height * scale);
        let size = painted.dimensions();
        paint(self, &BitMapBackend::with_buffer(&mut painted, size).into_drawing_area(), PAINTED)?;
        Ok(thumbnail(&painted, width, height))
    }
}

fn backend(error: impl std::fmt::Display) -> DrawError {
    DrawError::Backend(error.to_string())
}

fn rgb((red, green, blue): Rgb) -> RGBColor {
    RGBColor(red, green, blue)
}

/// Paints every mark, enlarged.
fn paint<B: DrawingBackend>(
    drawing: &Drawing,
    area: &DrawingArea<B, Shift>,
    scale: i32,
) -> Result<(), DrawError> {
    area.fill(&WHITE).map_err(backend)?;
    let box_of =
        |[left, top, right, bottom]: [i32; 4]| [(left * scale, top * scale), (right * scale, bottom * scale)];
    let width = scale.unsigned_abs();
    for mark in drawing.marks() {
        match mark {
            Mark::Fill(corners, colour) => {
                area.draw(&Rectangle::new(box_of(*corners), rgb(*colour).filled()))
            }
            Mark::Outline(corners, colour) => {
                area.draw(&Rectangle::new(box_of(*corners), rgb(*colour).stroke_width(width)))
            }
            Mark::Line(ends, colour) => {
                area.draw(&PathElement::new(box_of(*ends), rgb(*colour).stroke_width(width)))
            }
            Mark::Dot([x, y], radius, colour) => {
                area.draw(&Circle::new((x * scale, y * scale), radius * scale, rgb(*colour).filled()))
            }
            Mark::Polygon(points, colour) => {
                let points: Vec<_> = points.iter().map(|(x, y)| (x * scale, y * scale)).collect();
                area.draw(&Polygon::new(points, rgb(*colour).filled()))
            }
            Mark::Text { at, hold, size, colour, text } => {
                let (style, at) = text_style(*at, *hold, size * f64::from(scale), *colour, scale);
                area.draw(&Text::new(text.as_str(), at, style))
            }
        }
        .map_err(backend)?;
    }
    area.present().map_err(backend)
}

fn text_style(
    [x, y]: [i32; 2],
    hold: Hold,
    size: f64,
    colour: Rgb,
    scale: i32,
) -> (TextStyle<'static>, (i32, i32)) {
    let (horizontal, vertical) = match hold {
        Hold::Left | Hold::Upwards => (HPos::Left, VPos::Center),
        Hold::Right | Hold::UpwardsTo => (HPos::Right, VPos::Center),
        Hold::Middle => (HPos::Center, VPos::Center),
        Hold::Corner => (HPos::Left, VPos::Top),
    };
    let upwards = matches!(hold, Hold::Upwards | Hold::UpwardsTo);
    let font = (FAMILY, size).into_font();
    let font = if upwards { font.transform(FontTransform::Rotate270) } else { font };
    let style = font.color(&rgb(colour)).pos(Pos::new(horizontal, vertical));
    // The bitmap backend puts the base line a tenth of the height too high.
    let lift = if scale == 1 { 0 } else { (size * 0.1).round() as i32 };
    let (x, y) = (x * scale, y * scale);
    (style, if upwards { (x + lift, y) } else { (x, y + lift) })
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
