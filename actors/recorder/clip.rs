//! The spool of a clip that is being recorded, with its encoder following.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use meerkat_base::{EventId, Frame, Mode, MonoTime};
use meerkat_store::{SpoolKind, SpoolMeta, SpoolWriter, StoreError};

use super::component::RecorderTools;
use super::encoder::Following;
use super::link::RecorderLink;
use crate::camera::Camera;

/// An open clip.
pub(super) struct OpenClip {
    writer: SpoolWriter,
    following: Following,
    link: RecorderLink,
    event: EventId,
    first: Option<MonoTime>,
    last_seq: u64,
}

impl OpenClip {
    /// Makes the spool and puts the frames so far into it.
    pub fn begin(
        tools: &RecorderTools,
        link: &RecorderLink,
        camera: &Arc<Camera>,
        event: EventId,
        frames: &[Frame],
    ) -> Result<Self, StoreError> {
        let now = tools.clock.wall();
        let meta = SpoolMeta {
            camera: camera.id().clone(),
            kind: SpoolKind::Clip { event },
            started: frames.first().map_or(now, |frame| frame.wall),
            mode: camera.mode().unwrap_or(Mode::People),
            settings: serde_json::Value::Null,
        };
        let mut writer = SpoolWriter::create(&tools.places.spools(), &meta, tools.places.durability)?;
        let path = writer.path().to_owned();
        link.shared.legacy().open.push(path.clone());
        if let Err(error) = writer.append_all(frames) {
            // What is in it already is kept: the encoder finishes it as it is.
            close(link, &path);
            tools.encoders.follow(&path, &meta).end();
            return Err(error);
        }
        let last_seq = {
            let mut legacy = link.shared.legacy();
            legacy.last_seq = frames.last().map_or(legacy.last_seq, |frame| frame.seq.max(legacy.last_seq));
            legacy.last_seq
        };
        let following = tools.encoders.follow(&path, &meta);
        Ok(Self {
            writer,
            following,
            link: link.clone(),
            event,
            first: frames.first().map(|frame| frame.mono),
            last_seq,
        })
    }

    /// The event that it was begun for.
    pub fn event(&self) -> EventId {
        self.event
    }

    /// Appends a frame; one that is in it already (an order given twice) is left out.
    pub fn append(&mut self, frame: &Frame) -> Result<(), StoreError> {
        if frame.seq <= self.last_seq {
            return Ok(());
        }
        self.writer.append(frame)?;
        self.first.get_or_insert(frame.mono);
        self.last_seq = frame.seq;
        let mut legacy = self.link.shared.legacy();
        legacy.last_seq = legacy.last_seq.max(frame.seq);
        drop(legacy);
        self.following.more();
        Ok(())
    }

    /// Time from its first frame to this one.
    pub fn span(&self, frame: &Frame) -> Duration {
        self.first.map(|first| frame.mono.since(first)).unwrap_or_default()
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

/// The spool is no longer open.
pub(super) fn close(link: &RecorderLink, path: &PathBuf) {
    link.shared.legacy().open.retain(|open| open != path);
}
