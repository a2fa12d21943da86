//! Decoded pixels in plain memory: what detectors take, whatever library they are made with.

use crate::detection::Rect;

/// How the bytes of an [`Image`] are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PixelFormat {
    /// One byte per pixel, luma.
    Gray8,
    /// Three bytes per pixel: blue, green, red.
    Bgr8,
}

impl PixelFormat {
    /// Bytes of one pixel.
    pub fn channels(self) -> usize {
        match self {
            PixelFormat::Gray8 => 1,
            PixelFormat::Bgr8 => 3,
        }
    }
}

/// A decoded picture: rows from the top, no padding, `data.len() == width * height * channels`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    width: u32,
    height: u32,
    format: PixelFormat,
    data: Vec<u8>,
}

/// The length of the pixel buffer does not match the size that was claimed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{width}x{height} pixels of {channels} bytes do not fit a buffer of {len} bytes")]
pub struct BadImage {
    width: u32,
    height: u32,
    channels: usize,
    len: usize,
}

impl Image {
    /// Takes over a buffer. Width and height are at least 1 and the length must match exactly.
    pub fn new(width: u32, height: u32, format: PixelFormat, data: Vec<u8>) -> Result<Self, BadImage> {
        let channels = format.channels();
        let wanted = (width as usize).checked_mul(height as usize).and_then(|n| n.checked_mul(channels));
        if width == 0 || height == 0 || wanted != Some(data.len()) {
            return Err(BadImage { width, height, channels, len: data.len() });
        }
        Ok(Self { width, height, format, data })
    }

    /// Width in pixels, at least 1.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels, at least 1.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Layout of the bytes.
    pub fn format(&self) -> PixelFormat {
        self.format
    }

    /// All pixels, row by row.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The part of it that lies in a box, in whole pixels; `None` when nothing does.
    pub fn cut(&self, area: &Rect) -> Option<Self> {
        // Casts of floats saturate, and NaN becomes 0.
        let edge = |value: f32, most: u32| (value.max(0.0) as u32).min(most);
        let (left, top) = (edge(area.x.floor(), self.width), edge(area.y.floor(), self.height));
        let right = edge((area.x + area.width).ceil(), self.width);
        let bottom = edge((area.y + area.height).ceil(), self.height);
        let (width, height) = (right.saturating_sub(left), bottom.saturating_sub(top));
        let channels = self.format.channels();
        let row_bytes = self.width as usize * channels;
        let (from, to) = (left as usize * channels, right as usize * channels);
        let rows = self.data.chunks_exact(row_bytes).skip(top as usize).take(height as usize);
        let data: Vec<u8> = rows.flat_map(|row| row.get(from..to).unwrap_or_default()).copied().collect();
        Self::new(width, height, self.format, data).ok()
    }

    /// All pixels, for drawing.
    pub fn data_mut(&mut self) -> &mut [u8] {
        &mut self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_must_match_the_size() {
        assert!(Image::new(2, 3, PixelFormat::Bgr8, vec![0; 18]).is_ok());
        assert!(Image::new(2, 3, PixelFormat::Bgr8, vec![0; 17]).is_err());
        assert!(Image::new(0, 3, PixelFormat::Gray8, vec![]).is_err());
        assert!(Image::new(u32::MAX, u32::MAX, PixelFormat::Bgr8, vec![]).is_err());
    }

    #[test]
    fn what_lies_in_a_box_is_cut_out_and_nothing_beyond_the_edges() {
        let image = Image::new(4, 3, PixelFormat::Gray8, (0..12).collect()).unwrap();
        let check = |area: (f32, f32, f32, f32), expected: Option<(u32, u32, &[u8])>| {
            let cut = image.cut(&Rect { x: area.0, y: area.1, width: area.2, height: area.3 });
            let found = cut.as_ref().map(|cut| (cut.width(), cut.height(), cut.data()));
            assert_eq!(found, expected, "{area:?}");
        };
        check((1.0, 1.0, 2.0, 2.0), Some((2, 2, &[5, 6, 9, 10])));
        check((1.6, 1.2, 0.2, 0.2), Some((1, 1, &[5])));
        check((-5.0, 2.0, 100.0, 100.0), Some((4, 1, &[8, 9, 10, 11])));
        check((4.0, 0.0, 3.0, 3.0), None);
        check((0.0, 0.0, 0.0, 3.0), None);
        check((f32::NAN, 0.0, 3.0, 3.0), None);
        check((0.0, 0.0, f32::INFINITY, 1.0), Some((4, 1, &[0, 1, 2, 3])));
        let colour = Image::new(2, 1, PixelFormat::Bgr8, vec![1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(colour.cut(&Rect::new(1.0, 0.0, 1.0, 1.0)).unwrap().data(), [4, 5, 6]);
    }
}
