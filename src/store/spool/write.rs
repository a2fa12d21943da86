//! Appends frames to a spool. Once `append` has returned the frame outlives the node, in `power` mode
//! also the machine.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use meerkat_base::{Frame, ImageFormat, MonoTime};
use uuid::Uuid;

use super::record::{HEADER_BYTES, Header, MAX_FRAME_BYTES, MAX_META_BYTES, RecordKind, body_crc};
use super::{SIGNING_FORMAT, SPOOLS, SigningNote, SpoolKind, SpoolMeta};
use crate::data_folder::DataFolder;
use crate::error::{Result, StoreError};
use crate::evidence::{ChainLine, ChainWriter, Hash, SIGNATURE_BYTES, link, to_hex};
use crate::fault::{self, DiskOp};
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
    chain: Option<ChainWriter>,
    /// The last frame behind which a signature stands, and whether frames came since.
    signed: Option<MonoTime>,
    unsigned_frames: bool,
    last_wall: i64,
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
        Self::create_in_chain(spool_root, meta, durability, None)
    }

    /// As [`SpoolWriter::create`]; with a chain every record becomes a link of it, and it is signed.
    pub fn create_in_chain(
        spool_root: &Path,
        meta: &SpoolMeta,
        durability: Durability,
        line: Option<&ChainLine>,
    ) -> Result<Self> {
        Self::create_in(&Folder::root(spool_root)?, meta, durability, line)
    }

    /// Makes a spool in the data folder that is held open, if its path still leads there: never in whatever took its
    /// place when its disk was taken out.
    pub fn create_at_home(
        home: &DataFolder,
        meta: &SpoolMeta,
        durability: Durability,
        line: Option<&ChainLine>,
    ) -> Result<Self> {
        Self::create_in(&home.make_sub(SPOOLS)?, meta, durability, line)
    }

    fn create_in(
        root: &Folder,
        meta: &SpoolMeta,
        durability: Durability,
        line: Option<&ChainLine>,
    ) -> Result<Self> {
        let chain = line.map(ChainLine::writer);
        let note = chain.as_ref().map(|chain| SigningNote {
            format: SIGNING_FORMAT,
            chain: to_hex(&chain.step().id),
            link: chain.step().links,
            boot: chain.line().boot().to_owned(),
            key: chain.line().public_key().to_string(),
        });
        let json = meta.to_json(note);
        if json.len() > MAX_META_BYTES {
            return Err(StoreError::Refused("the settings of a recording are longer than 48 KiB".into()));
        }
        let id = Uuid::new_v4();
        let (nonce, _) = id.as_u64_pair();
        let kind = match meta.kind {
            SpoolKind::Clip { .. } => "clip",
            SpoolKind::Video => "video",
            SpoolKind::Segment => "segment",
        };
        let name = format!("{}_{}_{kind}_{}", meta.started.compact(), meta.camera.folder(), id.simple());
        // Under its own name a spool always has its meta record.
        let part = format!("{PART_PREFIX}{name}");
        let folder = root.make_new_sub(&part)?;
        let made = folder.create_new(FRAMES).and_then(|file| {
            let mut writer = Self {
                file,
                path: root.path().join(&name),
                nonce,
                durability,
                len: 0,
                frames: 0,
                first: None,
                last_micros: 0,
                poisoned: false,
                chain,
                signed: None,
                unsigned_frames: false,
                last_wall: meta.started.0,
            };
            writer.begin(root, &folder, (&part, &name), &json)?;
            Ok(writer)
        });
        if made.is_err()
            && let Err(error) = root.remove_sub(&part)
        {
            tracing::warn!(%error, "an unfinished spool stays behind");
        }
        made
    }

    fn begin(
        &mut self,
        root: &Folder,
        folder: &Folder,
        (part, name): (&str, &str),
        meta: &[u8],
    ) -> Result<()> {
        let header = self.header(RecordKind::Meta, meta)?;
        self.write(header, meta)?;
        self.sync()?;
        if self.durability.syncs() {
            folder.sync()?;
        }
        root.rename_folder_new(part, root, name)?;
        if self.durability.syncs() {
            root.sync()?;
        }
        Ok(())
    }

    /// Appends one frame, unchanged. When that fails the spool is as it was before, so that the caller may
    /// go on; only when a sync failed, or a half-written frame could not be taken back, every later call
    /// answers [`StoreError::Poisoned`].
    pub fn append(&mut self, frame: &Frame) -> Result<()> {
        self.put(frame)?;
        self.sign_when_due(frame.mono)?;
        self.sync()
    }

    /// Appends several frames (the pre-roll), in `power` mode with one sync for all. When it fails the
    /// frames before the one that failed are in the spool, but not promised.
    pub fn append_all(&mut self, frames: &[Frame]) -> Result<()> {
        for frame in frames {
            if let Err(error) = self.put(frame) {
                // Those before it are in it, and nobody brings them again.
                if !self.poisoned {
                    self.sync()?;
                }
                return Err(error);
            }
        }
        if let Some(last) = frames.last() {
            self.sign_when_due(last.mono)?;
        }
        self.sync()
    }

    /// Writes the end record.
    pub fn finish(mut self) -> Result<SpoolDone> {
        self.put_signature(RecordKind::End)?;
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

    /// Whether it takes nothing any more; of what came last nothing is promised.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
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
        self.write(header, &frame.bytes)?;
        self.first = Some(first);
        self.last_wall = frame.wall.0;
        self.unsigned_frames = true;
        self.last_micros = self.last_micros.max(micros);
        self.frames += 1;
        Ok(())
    }

    /// Puts a signature behind the frames so far, when the last one is long enough ago.
    fn sign_when_due(&mut self, now: MonoTime) -> Result<()> {
        let Some(chain) = &self.chain else { return Ok(()) };
        if self.signed.is_some_and(|signed| now.since(signed) < chain.line().every()) || !self.unsigned_frames
        {
            return Ok(());
        }
        match self.put_signature(RecordKind::Head) {
            // The frame is in the spool all the same, and the next one brings another try.
            Err(error) if !self.poisoned => {
                tracing::warn!(%error, "a recording is not signed at this place");
                return Ok(());
            }
            put => put?,
        }
        self.signed = Some(now);
        self.unsigned_frames = false;
        Ok(())
    }

    /// Writes a head or end record; in a spool without a chain an end record is empty.
    fn put_signature(&mut self, kind: RecordKind) -> Result<()> {
        let space = [0; SIGNATURE_BYTES];
        let payload = if self.chain.is_some() { &space[..] } else { &[] };
        let mut header = Header { wall_micros: self.last_wall, ..self.header(kind, payload)? };
        if kind == RecordKind::End {
            header.seq = self.frames;
            header.since_first_micros = self.last_micros;
        } else {
            header.seq = self.chain.as_ref().map_or(0, |chain| chain.step().links);
        }
        match &self.chain {
            Some(chain) => {
                let signature = chain.sign(&header.signed_part());
                self.write(header, &signature)
            }
            None => self.write(Header { wall_micros: 0, ..header }, &[]),
        }
    }

    fn header(&self, kind: RecordKind, payload: &[u8]) -> Result<Header> {
        let len = u32::try_from(payload.len())
            .map_err(|_| StoreError::Refused("a record of 4 GiB is too long for a spool".into()))?;
        Ok(Header {
            kind,
            chained: self.chain.is_some(),
            format: ImageFormat::Unknown,
            nonce: self.nonce,
            seq: 0,
            wall_micros: 0,
            since_first_micros: 0,
            width: 0,
            height: 0,
            len,
            payload_crc: 0,
        })
    }

    fn write(&mut self, mut header: Header, payload: &[u8]) -> Result<()> {
        if self.poisoned {
            return Err(StoreError::Poisoned { path: self.path.clone() });
        }
        let previous = self.chain.as_ref().map(|chain| chain.step().head);
        header.payload_crc = body_crc(previous.as_ref(), payload);
        let body = (previous.as_ref().map_or(&[][..], |hash: &Hash| &hash[..]), payload);
        let written =
            fault::point(DiskOp::Write).and_then(|()| write_all(&mut self.file, &header.encode(), body));
        if let Err(error) = written {
            // Take a half-written record back: what follows it would be read with difficulty only.
            self.poisoned = self.file.set_len(self.len).is_err();
            return Err(StoreError::io(&self.path, error));
        }
        self.len += header.record_len();
        if let Some(chain) = &mut self.chain {
            let newest = link(&chain.step().head, &header.signed_part(), payload);
            chain.advance(newest);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        if !self.durability.syncs() {
            return Ok(());
        }
        fault::point(DiskOp::Sync).and_then(|()| self.file.sync_data()).map_err(|error| {
            // Never again on this file: the kernel may have dropped the pages that it could not write.
            self.poisoned = true;
            StoreError::io(&self.path, error)
        })
    }
}

/// Writes header, link and payload with one system call as a rule, and without copying the payload.
fn write_all(
    file: &mut File,
    header: &[u8; HEADER_BYTES],
    (previous, payload): (&[u8], &[u8]),
) -> io::Result<()> {
    let mut parts = [&header[..], previous, payload];
    while parts.iter().any(|part| !part.is_empty()) {
        match file.write_vectored(&parts.map(IoSlice::new)) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(mut written) => {
                for part in &mut parts {
                    let of_part = written.min(part.len());
                    *part = part.get(of_part..).unwrap_or_default();
                    written -= of_part;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
