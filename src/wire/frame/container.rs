//! What the walkers of all containers share, and the choice between them. A claimed length is only ever compared,
//! never allocated.

use meerkat_base::ImageFormat;

use super::jpeg::Jpeg;
use super::png::Png;
use super::sized::Sized;

/// Where a walk has got to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Walk {
    /// Needs bytes that have not arrived.
    More,
    /// The container is complete and ends before this offset.
    Ends(usize),
    /// The picture was cut off: another frame starts at this offset.
    Restart(usize),
    /// At this offset the container contradicts itself, and no other frame started before.
    Lost(usize),
}

/// What the headers say about the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Shape {
    /// Pixels; 0 while unknown.
    pub(super) width: u32,
    /// Pixels; 0 while unknown.
    pub(super) height: u32,
    /// Scans of a JPEG so far.
    pub(super) scans: u32,
}

/// A picture in one of the known containers, being walked.
#[derive(Debug)]
pub(super) enum Container {
    Jpeg(Jpeg),
    Png(Png),
    Sized(Sized),
}

impl Container {
    /// A picture of this format at the front of the buffer; `None` for the unknown format.
    pub(super) fn new(format: ImageFormat) -> Option<Self> {
        match format {
            ImageFormat::Jpeg => Some(Self::Jpeg(Jpeg::new(0))),
            ImageFormat::Png => Some(Self::Png(Png::new())),
            ImageFormat::Webp => Some(Self::Sized(Sized::webp())),
            ImageFormat::Bmp => Some(Self::Sized(Sized::bmp())),
            ImageFormat::Unknown => None,
        }
    }

    /// Walks on. `limit` is the longest frame: a part that claims to reach beyond it cannot be waited for.
    pub(super) fn walk(&mut self, view: &[u8], limit: usize) -> Walk {
        match self {
            Self::Jpeg(jpeg) => jpeg.walk(view),
            Self::Png(png) => png.walk(view, limit),
            Self::Sized(sized) => sized.walk(view, limit),
        }
    }

    pub(super) fn shape(&self) -> Shape {
        match self {
            Self::Jpeg(jpeg) => jpeg.shape(),
            Self::Png(png) => png.shape(),
            Self::Sized(sized) => sized.shape(),
        }
    }

    /// How far it has been walked, at least.
    pub(super) fn at(&self) -> usize {
        match self {
            Self::Jpeg(jpeg) => jpeg.at(),
            Self::Png(png) => png.at(),
            Self::Sized(sized) => sized.at(),
        }
    }

    /// Before this offset no other frame can have started.
    pub(super) fn floor(&self) -> usize {
        match self {
            Self::Jpeg(jpeg) => jpeg.floor(),
            Self::Png(png) => png.floor(),
            Self::Sized(sized) => sized.floor(),
        }
    }
}
