//! A spool that is being recorded, with its encoder following: the same for clips, videos and segments.

use std::path::{Path, PathBuf};
use std::time::Duration;

use meerkat_base::{Frame, MonoTime, metric};
use meerkat_store::{SpoolMeta, SpoolWriter, StoreError};
use metrics::counter;

use super::component::RecorderTools;
use super::encoder::Following;
use super::link::{RecorderLink, Stream};

/// An open spool.
pub(super) struct OpenSpool {
    writer: SpoolWriter,
    following: Following,
    link: RecorderLink,
    stream: Stream,
    first: Option<MonoTime>,
    last_seq: u64,
}

impl OpenSpool {
    /// Makes the spool and puts the frames so far into it.
    pub fn begin(
        tools: &RecorderTools,
        link: &RecorderLink,
        stream: Stream,
        meta: &SpoolMeta,
        frames: &[Frame],
    ) -> Result<Self, StoreError> {
        tools.encoders.check_waiting(tools.spool.total_bytes)?;
        let line = link.shared.legacy().line(stream, tools.signing.as_ref());
        let (home, durability) = (tools.room.folder(), tools.places.durability);
        let mut writer = SpoolWriter::create_at_home(home, meta, durability, line.as_ref())?;
        let path = writer.path().to_owned();
        link.shared.legacy().open.push(path.clone());
        if let Err(error) = writer.append_all(frames) {
            // What is in it already is kept: the encoder finishes it as it is, and the next one begins behind it.
            close(link, &path);
            if let Some(newest) = taken(&writer, 0, frames).last() {
                let mut legacy = link.shared.legacy();
                let last = legacy.last(stream);
                *last = newest.seq.max(*last);
            }
            tools.encoders.follow(&path, meta).end();
            return Err(error);
        }
        let last_seq = {
            let mut legacy = link.shared.legacy();
            let last = legacy.last(stream);
            *last = frames.last().map_or(*last, |frame| frame.seq.max(*last));
            *last
        };
        let following = tools.encoders.follow(&path, meta);
        following.has(writer.bytes());
        let first = frames.first().map(|frame| frame.mono);
        Ok(Self { writer, following, link: link.clone(), stream, first, last_seq })
    }

    /// Appends a frame; one that is in it already (an order given twice) is left out.
    pub fn append(&mut self, frame: &Frame) -> Result<(), StoreError> {
        self.append_all(std::slice::from_ref(frame))
    }

    /// Appends several frames, oldest first, in `power` mode with one sync for all; those that are in it already are
    /// left out. When it fails those before the one that failed are in it and do not come again.
    pub fn append_all(&mut self, frames: &[Frame]) -> Result<(), StoreError> {
        let known = frames.partition_point(|frame| frame.seq <= self.last_seq);
        let new = frames.get(known..).unwrap_or_default();
        if new.is_empty() {
            return Ok(());
        }
        let before = self.writer.frames();
        let appended = self.writer.append_all(new);
        let taken = taken(&self.writer, before, new);
        if let (Some(first), Some(newest)) = (taken.first(), taken.last()) {
            self.first.get_or_insert(first.mono);
            self.last_seq = newest.seq;
            {
                let mut legacy = self.link.shared.legacy();
                let last = legacy.last(self.stream);
                *last = newest.seq.max(*last);
            }
            self.following.has(self.writer.bytes());
            self.following.more();
        }
        appended
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        self.writer.path()
    }

    /// Number of its last frame.
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Bytes in it.
    #[cfg(test)]
    pub fn bytes(&self) -> u64 {
        self.writer.bytes()
    }

    /// Whether it has so many bytes that the recording is to go on in another one.
    pub fn is_large(&self, max_bytes: u64) -> bool {
        let is_large = self.writer.bytes() >= max_bytes;
        if is_large {
            counter!(metric::LIMIT_HITS, "limit" => "spool_max_bytes").increment(1);
        }
        is_large
    }

    /// Time from its first frame to a moment; none while it has no frame.
    pub fn span(&self, now: MonoTime) -> Duration {
        self.first.map(|first| now.since(first)).unwrap_or_default()
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

/// Those of `new` that are in a spool which had so many frames before. Nobody knows what a poisoned one has: the next spool
/// begins with all of them.
fn taken<'a>(writer: &SpoolWriter, before: u64, new: &'a [Frame]) -> &'a [Frame] {
    let count = if writer.is_poisoned() { 0 } else { writer.frames().saturating_sub(before) };
    new.get(..usize::try_from(count).unwrap_or(usize::MAX)).unwrap_or_default()
}

/// The spool is no longer open.
fn close(link: &RecorderLink, path: &PathBuf) {
    link.shared.legacy().open.retain(|open| open != path);
}
