//! Settings of faces that match nobody: how long they are kept so that somebody can be enrolled of them, and how many.

use std::time::Duration;

use super::reader::Reader;
use super::rule::{count, days, number, whole};

/// What is kept of faces that match nobody.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FacesSettings {
    /// How long; `None`: none are kept.
    pub unknown_keep: Option<Duration>,
    /// Least likeness (cosine) with a face of a group, of those that belong to it, 0..=1.
    pub unknown_likeness: f32,
    /// Least width of a face that is kept, in pixels of the picture that was searched.
    pub unknown_min_width_px: f32,
    /// Groups at most.
    pub unknown_groups: usize,
    /// Pictures of a group at most.
    pub unknown_pictures: usize,
    /// Bytes of all pictures at most.
    pub unknown_bytes: u64,
}

impl FacesSettings {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let keep = reader.read("faces.unknown_keep_days", days(0.0..=365.0));
        Self {
            unknown_keep: Some(keep).filter(|keep| !keep.is_zero()),
            unknown_likeness: reader.read("faces.unknown_likeness", number(0.0..=1.0)),
            unknown_min_width_px: reader.read("faces.unknown_min_width_px", number(0.0..=10_000.0)),
            unknown_groups: reader.read("faces.unknown_groups", count(1..=1_000)),
            unknown_pictures: reader.read("faces.unknown_pictures", count(1..=20)),
            unknown_bytes: reader.read("faces.unknown_bytes", whole(65_536..=1 << 30)),
        }
    }
}
