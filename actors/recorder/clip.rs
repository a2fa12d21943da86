//! The spools that a recorder keeps open: what makes a clip of an event, a video of mode 2, a segment of what is
//! recorded without a break.

use std::sync::Arc;

use meerkat_base::{EventId, Frame, Mode};
use meerkat_settings::VideoSize;
use meerkat_store::{SpoolKind, SpoolMeta, StoreError};

use super::component::RecorderTools;
use super::encoder::SizeNote;
use super::link::{RecorderLink, Stream};
use super::open::OpenSpool;
use crate::camera::Camera;

/// Begins the clip of an event with the frames so far. `note` says what is known of the event, for a database that has to
/// be made anew before there is a clip.
pub(super) fn begin_clip(
    tools: &RecorderTools,
    link: &RecorderLink,
    camera: &Arc<Camera>,
    event: EventId,
    note: serde_json::Value,
    frames: &[Frame],
) -> Result<OpenSpool, StoreError> {
    let meta = SpoolMeta {
        camera: camera.id().clone(),
        kind: SpoolKind::Clip { event },
        started: frames.first().map_or_else(|| tools.clock.wall(), |frame| frame.wall),
        mode: camera.mode().unwrap_or(Mode::People),
        settings: note,
    };
    OpenSpool::begin(tools, link, Stream::Clip, &meta, frames)
}

/// Begins a video with its first frame.
pub(super) fn begin_video(
    tools: &RecorderTools,
    link: &RecorderLink,
    camera: &Arc<Camera>,
    first: &Frame,
) -> Result<OpenSpool, StoreError> {
    let size = match camera.settings().video_size {
        VideoSize::AsReceived => SizeNote::AsReceived,
        VideoSize::Pixels { width, height } => SizeNote::Pixels { width, height },
    };
    let meta = SpoolMeta {
        camera: camera.id().clone(),
        kind: SpoolKind::Video,
        started: first.wall,
        mode: Mode::Video,
        settings: serde_json::to_value(size).unwrap_or_default(),
    };
    OpenSpool::begin(tools, link, Stream::Video, &meta, std::slice::from_ref(first))
}

/// Begins a segment with these frames, at least one.
pub(super) fn begin_segment(
    tools: &RecorderTools,
    link: &RecorderLink,
    camera: &Arc<Camera>,
    frames: &[Frame],
) -> Result<OpenSpool, StoreError> {
    let meta = SpoolMeta {
        camera: camera.id().clone(),
        kind: SpoolKind::Segment,
        started: frames.first().map_or_else(|| tools.clock.wall(), |frame| frame.wall),
        mode: camera.mode().unwrap_or(Mode::People),
        settings: serde_json::Value::Null,
    };
    OpenSpool::begin(tools, link, Stream::Segment, &meta, frames)
}
