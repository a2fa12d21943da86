//! Settings of privacy masks: which parts of a camera's picture nobody may see.

use meerkat_base::MaskArea;

use super::reader::Reader;
use super::rule::{self, Rule};

/// Areas that one camera has at most.
const MAX_AREAS: usize = 32;

/// What is covered in the pictures of a camera before anything else is done with them.
#[derive(Debug, Clone, PartialEq)]
pub struct MaskSettings {
    /// The areas; empty where pictures stay as they are.
    pub areas: Vec<MaskArea>,
    /// Quality of the JPEG that a covered picture becomes, 1..=100.
    pub quality: u8,
}

impl MaskSettings {
    /// What all cameras share: they cover nothing.
    pub(super) fn read(reader: &mut Reader) -> Self {
        let quality = reader.read("mask.quality", rule::whole(1..=100));
        Self { areas: Vec::new(), quality: u8::try_from(quality).unwrap_or(100) }
    }

    /// What one camera's section says over it.
    pub(super) fn read_camera(&self, reader: &mut Reader, section: &str) -> Self {
        let areas = reader.read_if(&format!("{section}.masks"), rule::list(MAX_AREAS, area()));
        Self { areas: areas.unwrap_or_else(|| self.areas.clone()), quality: self.quality }
    }
}

fn area() -> Rule<MaskArea> {
    let text = rule::text(1..=1024);
    Rule::new(
        "\"x,y,width,height\" or the corners \"x,y x,y x,y\" of a polygon, in shares of the picture, within 0 and 1",
        move |value| MaskArea::parse(&text.parse(value)?),
    )
}
