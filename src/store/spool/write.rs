//! Appends frames to a spool. Once `append` has returned the frame outlives the node, in `power` mode
//! also the machine.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use meerkat_base::{Frame, ImageFormat, MonoTime};
use uuid::Uuid;

use super::record::{HEADER_BYTES, Header, MAX_FRAME_BYTES, MAX_META_BYTES, RecordKind};
use super::{SpoolKind, SpoolMeta};
use crate::error::{Result, StoreError};
use crate::files::{Durability, Folder, PART_PREFIX};

pub(super) const FRAMES: &str = "frames";

/// The writer of one spool. Dropped without [`SpoolWriter::finish`] the spool stays as a crash would
/// leave it, and is found again by `recover`.
#[derive(Debug)]
pub struct SpoolWriter {
    file: File,
    path: PathBuf,
    nonce: u64,
    durability: Durability,
    /// Bytes of whole records.
    len: u64,
    frames: u64,
    first: Option<MonoTime>,
    last_micros: u64,
    poisoned: bool,
}

/// A finished spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolDone {
    /// Its folder.
    pub path: PathBuf,
    /// Frames in it.
    pub frames: u64,
    /// From the first frame to the last.
    pub duration: Duration,
    /// Bytes on disk.
    pub bytes: u64,
}

impl SpoolWriter {
    /// Makes a spool in the folder of all spools, which is made if it is missing.
    pub fn create(spool_root: &Path, meta: &SpoolMeta, durability: Durability) -> Result<Self> {
        let json = meta.to_json();
        if json.len() > MAX_META_BYTES {
            return Err(StoreError::Refused("the settings of a recording are longer than 48 KiB".into()));
        }
        let root = Folder::root(spool_root)?;
        let id = Uuid::new_v4();
        let (nonce, _) = id.as_u64_pair();
        let kind = match meta.kind {
            SpoolKind::Clip { .. } => "clip",
            SpoolKind::Video => "video",
        };
        let name = format!("{}_{}_{kind}_{}", meta.started.compact(), meta.camera.folder(), id.simple());
        // Under its own name a spool always has its meta record.
        let part = format!("{PART_PREFIX}{name}");
        let folder = root.make_new_sub(&part)?;
        let made = Self::begin(&root, &folder, &part, &name, (nonce, &json, durability));
        if made.is_err()
            && let Err(error) = root.remove_sub(&part)
        {
            tracing::warn!(%error, "an unfinished spool stays behind");
        }
        made
    }

    fn begin(
        root: &Folder,
        folder: &Folder,
        part: &str,
        name: &str,
        (nonce, meta, durability): (u64, &[u8], Durability),
    ) -> Result<Self> {
        let mut writer = Self {
            file: folder.create_new(FRAMES)?,
            path: root.path().join(name),
            nonce,
            durability,
            len: 0,
            frames: 0,
            first: None,
            last_micros: 0,
            poisoned: false,
        };
        let header = writer.header(RecordKind::Meta, meta)?;
        writer.write(&header, meta)?;
        writer.sync()?;
        if durability.syncs() {
            folder.sync()?;
        }
        root.rename_folder_new(part, root, name)?;
        if durability.syncs() {
            root.sync()?;
        }
        Ok(writer)
    }

    /// Appends one frame, unchanged. When that fails the spool is as it was before, so that the caller may
    /// go on; only when a sync failed, or a half-written frame could not be taken back, every later call
    /// answers [`StoreError::Poisoned`].
    pub fn append(&mut self, frame: &Frame) -> Result<()> {
        self.put(frame)?;
        self.sync()
    }

    /// Appends several frames (the pre-roll), in `power` mode with one sync for all. When it fails the
    /// frames before the one that failed are in the spool, but not promised.
    pub fn append_all(&mut self, frames: &[Frame]) -> Result<()> {
        for frame in frames {
            self.put(frame)?;
        }
        self.sync()
    }

    /// Writes the end record.
    pub fn finish(mut self) -> Result<SpoolDone> {
        let header = Header {
            seq: self.frames,
            since_first_micros: self.last_micros,
            ..self.header(RecordKind::End, &[])?
        };
        self.write(&header, &[])?;
        self.sync()?;
        Ok(SpoolDone {
            path: self.path,
            frames: self.frames,
            duration: Duration::from_micros(self.last_micros),
            bytes: self.len,
        })
    }

    /// Folder of the spool: what reading, finishing and removing it starts from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Frames appended.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.len
    }

    fn put(&mut self, frame: &Frame) -> Result<()> {
        if frame.len() > MAX_FRAME_BYTES {
            return Err(StoreError::Refused(format!(
                "a frame of {} bytes is too long for a spool",
                frame.len()
            )));
        }
        let first = self.first.unwrap_or(frame.mono);
        let micros = u64::try_from(frame.mono.since(first).as_micros()).unwrap_or(u64::MAX);
        let header = Header {
            format: frame.format,
            seq: frame.seq,
            wall_micros: frame.wall.0,
            since_first_micros: micros,
            width: frame.width,
            height: frame.height,
            ..self.header(RecordKind::Frame, &frame.bytes)?
        };
        self.write(&header, &frame.bytes)?;
        self.first = Some(first);
        self.last_micros = self.last_micros.max(micros);
        self.frames += 1;
        Ok(())
    }

    fn header(&self, kind: RecordKind, payload: &[u8]) -> Result<Header> {
        let len = u32::try_from(payload.len())
            .map_err(|_| StoreError::Refused("a record of 4 GiB is too long for a spool".into()))?;
        Ok(Header {
            kind,
            format: ImageFormat::Unknown,
            nonce: self.nonce,
            seq: 0,
            wall_micros: 0,
            since_first_micros: 0,
            width: 0,
            height: 0,
            len,
            payload_crc: crc32fast::hash(payload),
        })
    }

    fn write(&mut self, header: &Header, payload: &[u8]) -> Result<()> {
        if self.poisoned {
            return Err(StoreError::Poisoned { path: self.path.clone() });
        }
        if let Err(error) = write_both(&mut self.file, &header.encode(), payload) {
            // Take a half-written record back: what follows it would be read with difficulty only.
            self.poisoned = self.file.set_len(self.len).is_err();
            return Err(StoreError::io(&self.path, error));
        }
        self.len += header.record_len();
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        if !self.durability.syncs() {
            return Ok(());
        }
        self.file.sync_data().map_err(|error| {
            // Never again on this file: the kernel may have dropped the pages that it could not write.
            self.poisoned = true;
            StoreError::io(&self.path, error)
        })
    }
}

/// Writes header and payload with one system call as a rule, and without copying the payload.
fn write_both(file: &mut File, header: &[u8; HEADER_BYTES], payload: &[u8]) -> io::Result<()> {
    let (mut header, mut payload) = (&header[..], payload);
    while !header.is_empty() || !payload.is_empty() {
        match file.write_vectored(&[IoSlice::new(header), IoSlice::new(payload)]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                let of_header = written.min(header.len());
                header = header.get(of_header..).unwrap_or_default();
                payload = payload.get(written - of_header..).unwrap_or_default();
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
