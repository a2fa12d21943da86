//! The spool of a video of mode 2 that is being recorded, with its encoder following.

use std::sync::Arc;

use meerkat_base::{Frame, Mode};
use meerkat_settings::VideoSize;
use meerkat_store::{SpoolKind, SpoolMeta, SpoolWriter, StoreError};

use super::clip::close;
use super::component::RecorderTools;
use super::encoder::{Following, SizeNote};
use super::link::RecorderLink;
use crate::camera::Camera;

/// An open video.
pub(super) struct OpenVideo {
    writer: SpoolWriter,
    following: Following,
    link: RecorderLink,
    last_seq: u64,
}

impl OpenVideo {
    /// Makes the spool of a video that begins with this frame.
    pub fn begin(
        tools: &RecorderTools,
        link: &RecorderLink,
        camera: &Arc<Camera>,
        first: &Frame,
    ) -> Result<Self, StoreError> {
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
        let writer = SpoolWriter::create(&tools.places.spools(), &meta, tools.places.durability)?;
        let path = writer.path().to_owned();
        link.shared.legacy().open.push(path.clone());
        let following = tools.encoders.follow(&path, &meta);
        Ok(Self { writer, following, link: link.clone(), last_seq: 0 })
    }

    /// Appends a frame; one that is in it already (an order given twice) is left out.
    pub fn append(&mut self, frame: &Frame) -> Result<(), StoreError> {
        if frame.seq <= self.last_seq {
            return Ok(());
        }
        self.writer.append(frame)?;
        self.last_seq = frame.seq;
        self.following.more();
        Ok(())
    }

    /// Closes the spool; the encoder makes the rest.
    pub fn finish(self) -> Result<(), StoreError> {
        let path = self.writer.path().to_owned();
        let finished = self.writer.finish();
        close(&self.link, &path);
        self.following.end();
        finished.map(drop)
    }
}
