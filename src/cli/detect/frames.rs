//! Frames of one input for the detectors, decoded as little as each of them wants. Detects nothing.

use std::path::Path;
use std::time::Duration;

use meerkat_base::{Image, ImageWish, PixelFormat};
use meerkat_media::{ReadOptions, Reader};
use meerkat_vision::GrayPlane;
use meerkat_vision::probe::probe;

use crate::cli::picture_file;

/// An open input.
pub(super) enum Frames {
    /// One picture, still encoded; `None` once it was given out.
    Picture(Option<Vec<u8>>),
    /// A video or a stream.
    Video(Box<Reader>),
}

/// One frame, and when it is, counted from the first of its input.
pub(super) struct Raw {
    /// Its pixels, decoded or not.
    pub pixels: Pixels,
    /// Time since the first frame of the input.
    pub at: Duration,
}

/// A frame before a detector's wish is known.
pub(super) enum Pixels {
    /// A picture as it is in its file.
    Encoded(Vec<u8>),
    /// An upright frame of a video.
    Decoded(Image),
}

impl Frames {
    /// Opens a picture, a video file or an address.
    pub fn open(input: &str) -> anyhow::Result<Self> {
        let path = Path::new(input);
        let is_file = !input.contains("://") && !input.starts_with("/dev/video");
        if is_file && picture_file::is_picture(path)? {
            return Ok(Self::Picture(Some(picture_file::read(path)?)));
        }
        match Reader::open(input, ReadOptions::default()) {
            Ok(reader) => Ok(Self::Video(Box::new(reader))),
            Err(error) if is_file => Err(picture_file::not_opened(error)),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it is one picture.
    pub fn is_picture(&self) -> bool {
        matches!(self, Self::Picture(_))
    }

    /// How many frames there are, as far as the input tells.
    pub fn hint(&self) -> Option<u64> {
        match self {
            Self::Picture(_) => Some(1),
            Self::Video(reader) => reader.frames_hint(),
        }
    }

    /// The next frame, or nothing at the end.
    pub fn next(&mut self) -> anyhow::Result<Option<Raw>> {
        match self {
            Self::Picture(picture) => {
                Ok(picture.take().map(|bytes| Raw { pixels: Pixels::Encoded(bytes), at: Duration::ZERO }))
            }
            Self::Video(reader) => {
                Ok(reader.next_image()?.map(|(image, at)| Raw { pixels: Pixels::Decoded(image), at }))
            }
        }
    }
}

/// A picture as a detector wants it.
pub(super) struct Shown {
    /// The pixels.
    pub image: Image,
    /// Pixels of the upright frame that one pixel of `image` stands for.
    pub scale: f32,
    /// Width and height of the upright frame.
    pub size: (u32, u32),
}

impl Pixels {
    /// As small and grey as the wish allows.
    pub fn image(&self, wish: ImageWish) -> anyhow::Result<Shown> {
        match self {
            Self::Encoded(bytes) => {
                let (image, scale) = meerkat_vision::decode_image(bytes, wish)?;
                let size = upright_size(bytes, &image)?;
                Ok(Shown { image, scale, size })
            }
            Self::Decoded(frame) => {
                let size = (frame.width(), frame.height());
                let reduction =
                    [8, 4, 2].into_iter().find(|r| size.0 / r >= wish.enough_width.max(1)).unwrap_or(1);
                let image = match (wish.format, reduction) {
                    (PixelFormat::Gray8, _) => {
                        let plane = GrayPlane::from_image(frame, reduction)?;
                        let pixels = plane.pixels().to_vec();
                        Image::new(plane.width(), plane.height(), PixelFormat::Gray8, pixels)?
                    }
                    (PixelFormat::Bgr8, 1) => frame.clone(),
                    (PixelFormat::Bgr8, _) => {
                        let side = |whole: u32| whole.div_ceil(reduction);
                        meerkat_vision::resize(frame, side(size.0), side(size.1))?
                    }
                };
                let scale = size.0 as f32 / image.width() as f32;
                Ok(Shown { image, scale, size })
            }
        }
    }

    /// A reduced grey plane, for motion.
    pub fn plane(&self, reduction: u32) -> anyhow::Result<GrayPlane> {
        Ok(match self {
            Self::Encoded(bytes) => meerkat_vision::decode_gray(bytes, reduction)?,
            Self::Decoded(frame) => GrayPlane::from_image(frame, reduction)?,
        })
    }
}

/// The size of a picture after it was turned upright, as its decoded form is.
fn upright_size(bytes: &[u8], decoded: &Image) -> anyhow::Result<(u32, u32)> {
    let header = probe(bytes)?;
    let lies = |width: u32, height: u32| width > height;
    let turned = header.may_turn
        && header.width != header.height
        && decoded.width() != decoded.height()
        && lies(header.width, header.height) != lies(decoded.width(), decoded.height());
    Ok(if turned { (header.height, header.width) } else { (header.width, header.height) })
}
