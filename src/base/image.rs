//! Decoded pixels in plain memory: what detectors take, whatever library they are made with.

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
}
