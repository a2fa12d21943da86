//! Reads a spool, also while it is being written. Believes nothing that is on the disk: every length is
//! checked before memory is asked for, every record carries checksums, damaged places are skipped.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use meerkat_base::{ImageFormat, WallTime};

use super::SpoolMeta;
use super::record::{HEADER_BYTES, Header, MAGIC, RecordKind};
use super::recover::locate;
use super::write::FRAMES;
use crate::error::{Result, StoreError};
use crate::evidence::{HASH_BYTES, Hash, link, to_hex};

/// One frame of a spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolFrame {
    /// Number of the frame at its camera.
    pub seq: u64,
    /// When it arrived.
    pub wall: WallTime,
    /// Monotonic time since the first frame of the spool.
    pub since_first: Duration,
    /// Container of `bytes`.
    pub format: ImageFormat,
    /// Width in pixels by its header, 0 when unknown.
    pub width: u32,
    /// Height in pixels by its header, 0 when unknown.
    pub height: u32,
    /// The picture, unchanged.
    pub bytes: Bytes,
}

/// How a spool ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolEnd {
    /// Its end record is there: nothing is missing at the end.
    pub finished: bool,
    /// Bytes after the last whole record: a frame that was cut off.
    pub torn_bytes: u64,
}

/// What comes next in a spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpoolItem {
    /// A frame.
    Frame(SpoolFrame),
    /// A damaged place was skipped.
    Corrupt {
        /// How long it was.
        bytes: u64,
    },
    /// The writer has not written more yet; only while following.
    NotYet,
    /// That was all; comes again when asked again.
    End(SpoolEnd),
}

/// Reads the frames of one spool in order.
#[derive(Debug)]
pub struct SpoolReader {
    walker: Walker<File>,
    path: PathBuf,
}

impl SpoolReader {
    /// Opens a spool whose writer is gone: a torn tail is the end.
    pub fn open(path: &Path) -> Result<Self> {
        Self::start(path, false)
    }

    /// Opens a spool that is still being written: at its end comes [`SpoolItem::NotYet`] until the writer
    /// has finished it.
    pub fn follow(path: &Path) -> Result<Self> {
        Self::start(path, true)
    }

    fn start(path: &Path, following: bool) -> Result<Self> {
        let (root, name) = locate(path)?;
        let file = root.sub(&name)?.read(FRAMES)?;
        let mut reader = Self { walker: Walker::new(file, following), path: path.to_path_buf() };
        reader.walker.read_meta().map_err(|e| StoreError::io(path, e))?;
        Ok(reader)
    }

    /// What the writer said about the spool; none when that record is damaged.
    pub fn meta(&self) -> Option<&SpoolMeta> {
        self.walker.meta.as_ref()
    }

    /// The next frame, or why there is none.
    pub fn next_item(&mut self) -> Result<SpoolItem> {
        self.walker.next(true).map_err(|e| StoreError::io(&self.path, e))
    }

    /// Like [`SpoolReader::next_item`], but leaves the pictures on the disk: `bytes` is empty and a
    /// damaged picture is not noticed.
    pub(crate) fn skim_item(&mut self) -> Result<SpoolItem> {
        self.walker.next(false).map_err(|e| StoreError::io(&self.path, e))
    }

    /// Bytes in it at this moment.
    pub(super) fn len(&self) -> Result<u64> {
        self.walker.source.len().map_err(|e| StoreError::io(&self.path, e))
    }

    /// What was seen of the chain through the records read so far; none for a spool without one.
    pub fn chain(&self) -> Option<&ChainSeen> {
        self.walker.chain.as_ref()
    }

    /// The random number that every record of this spool carries; none when its beginning is damaged.
    pub fn nonce(&self) -> Option<u64> {
        self.walker.nonce
    }

    /// Ends the following: the writer died, and what is not there now will never come.
    pub fn writer_is_gone(&mut self) {
        self.walker.following = false;
    }
}

/// The chain of a spool as a reader saw it. Signatures are not checked here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainSeen {
    first: Hash,
    last: Hash,
    /// Every record named the one before it, and none was damaged.
    pub whole: bool,
}

impl ChainSeen {
    /// The link before the spool's first record, in hexadecimal.
    pub fn first(&self) -> String {
        to_hex(&self.first)
    }

    /// The link of the last record that was read, in hexadecimal.
    pub fn last(&self) -> String {
        to_hex(&self.last)
    }
}

/// What [`spool_from_bytes`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpoolSummary {
    /// Frames whose checksums are right.
    pub frames: Vec<SpoolFrame>,
    /// Bytes of damaged places that were skipped.
    pub corrupt_bytes: u64,
    /// Bytes after the last whole record.
    pub torn_bytes: u64,
    /// Whether there was an end record.
    pub finished: bool,
}

/// Reads what a `frames` file would hold, from memory. Total: any bytes give a summary.
pub fn spool_from_bytes(bytes: &[u8]) -> SpoolSummary {
    let mut summary = SpoolSummary::default();
    let mut walker = Walker::new(bytes, false);
    loop {
        match walker.next(true) {
            Ok(SpoolItem::Frame(frame)) => summary.frames.push(frame),
            Ok(SpoolItem::Corrupt { bytes }) => summary.corrupt_bytes += bytes,
            Ok(SpoolItem::End(end)) => {
                summary.torn_bytes = end.torn_bytes;
                summary.finished = end.finished;
                return summary;
            }
            // Neither happens in memory that nobody writes to.
            Ok(SpoolItem::NotYet) | Err(_) => return summary,
        }
    }
}

/// Where bytes come from. A spool only grows, except that a failed append is taken back, so nothing
/// that was not a whole record is remembered from one call to the next.
trait Source {
    fn len(&self) -> io::Result<u64>;
    /// Fills the buffer from a place; fails when there are not so many bytes.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()>;
}

impl Source for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.read_exact_at(buffer, at)
    }
}

impl Source for &[u8] {
    fn len(&self) -> io::Result<u64> {
        Ok((**self).len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let at = usize::try_from(at).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let part = self.get(at..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

#[derive(Debug)]
struct Walker<S> {
    source: S,
    at: u64,
    nonce: Option<u64>,
    meta: Option<SpoolMeta>,
    following: bool,
    end: Option<SpoolEnd>,
    chain: Option<ChainSeen>,
}

/// What stands at one place.
enum Place {
    Record(Header, Body),
    /// A good header, but its payload is not what was written.
    Damaged(Header),
    /// A good header whose payload goes on behind the end.
    Cut,
    /// No header.
    Nothing,
}

/// What stands between two headers.
#[derive(Default)]
struct Body {
    /// Link of the record before.
    previous: Option<Hash>,
    payload: Vec<u8>,
}

impl Body {
    fn new(header: &Header, mut bytes: Vec<u8>) -> Self {
        if !header.chained {
            return Self { previous: None, payload: bytes };
        }
        let payload = bytes.split_off(HASH_BYTES.min(bytes.len()));
        Self { previous: bytes.try_into().ok(), payload }
    }
}

impl<S: Source> Walker<S> {
    fn new(source: S, following: bool) -> Self {
        Self { source, at: 0, nonce: None, meta: None, following, end: None, chain: None }
    }

    /// Reads the first record if it is a good meta record, so that `meta` is known before any frame.
    fn read_meta(&mut self) -> io::Result<()> {
        let len = self.source.len()?;
        if let Place::Record(header, body) = self.place(0, len, true)?
            && header.kind == RecordKind::Meta
        {
            self.take_meta(&header, &body);
        }
        Ok(())
    }

    fn take_meta(&mut self, header: &Header, body: &Body) {
        self.meta = SpoolMeta::from_json(&body.payload);
        self.see(header, body);
        self.nonce = Some(header.nonce);
        self.at = header.record_len();
    }

    /// Follows the chain over a record that was read whole.
    fn see(&mut self, header: &Header, body: &Body) {
        let Some(previous) = body.previous else {
            self.broken();
            return;
        };
        let last = link(&previous, &header.signed_part(), &body.payload);
        let seen =
            self.chain.get_or_insert(ChainSeen { first: previous, last: previous, whole: self.at == 0 });
        seen.whole &= seen.last == previous;
        seen.last = last;
    }

    /// A record of the chain is not as it was written.
    fn broken(&mut self) {
        if let Some(seen) = &mut self.chain {
            seen.whole = false;
        }
    }

    fn next(&mut self, with_payload: bool) -> io::Result<SpoolItem> {
        loop {
            if let Some(end) = self.end {
                return Ok(SpoolItem::End(end));
            }
            let len = self.source.len()?;
            let rest = len.saturating_sub(self.at);
            match self.place(self.at, len, with_payload)? {
                Place::Record(header, body) => {
                    if header.kind == RecordKind::Meta && self.at == 0 {
                        self.take_meta(&header, &body);
                        continue;
                    }
                    if with_payload {
                        self.see(&header, &body);
                    }
                    self.nonce = Some(header.nonce);
                    self.at += header.record_len();
                    match header.kind {
                        RecordKind::Meta | RecordKind::Head => {}
                        RecordKind::Frame => return Ok(SpoolItem::Frame(frame(&header, body.payload))),
                        RecordKind::End => {
                            let torn_bytes = len.saturating_sub(self.at);
                            self.end = Some(SpoolEnd { finished: true, torn_bytes });
                        }
                    }
                }
                // Damage in the last record is what a power failure leaves: a torn tail.
                Place::Damaged(header) if header.record_len() < rest => {
                    self.nonce = Some(header.nonce);
                    self.at += header.record_len();
                    self.broken();
                    return Ok(SpoolItem::Corrupt { bytes: header.record_len() });
                }
                Place::Nothing if rest > 0 => match self.next_header(self.at + 1, len)? {
                    Some(found) => {
                        let bytes = found - self.at;
                        self.at = found;
                        self.broken();
                        return Ok(SpoolItem::Corrupt { bytes });
                    }
                    None => return Ok(self.tail(rest)),
                },
                Place::Damaged(_) | Place::Cut | Place::Nothing => return Ok(self.tail(rest)),
            }
        }
    }

    fn tail(&mut self, torn_bytes: u64) -> SpoolItem {
        if self.following {
            return SpoolItem::NotYet;
        }
        let end = SpoolEnd { finished: false, torn_bytes };
        self.end = Some(end);
        SpoolItem::End(end)
    }

    fn place(&self, at: u64, len: u64, with_payload: bool) -> io::Result<Place> {
        let rest = len.saturating_sub(at);
        let mut bytes = [0; HEADER_BYTES];
        if rest < HEADER_BYTES as u64 {
            return Ok(Place::Nothing);
        }
        if let Err(gone) = self.source.read_at(&mut bytes, at) {
            return shrunk(gone);
        }
        let Some(header) = self.own_header(&bytes) else { return Ok(Place::Nothing) };
        if header.record_len() > rest {
            return Ok(Place::Cut);
        }
        if header.kind == RecordKind::Frame && !with_payload {
            return Ok(Place::Record(header, Body::default()));
        }
        // So many bytes are in the file, and no more than the limit of the kind of record.
        let mut bytes = vec![0; usize::try_from(header.body_len()).expect("at most 64 MiB and a hash")];
        if let Err(gone) = self.source.read_at(&mut bytes, at + HEADER_BYTES as u64) {
            return shrunk(gone);
        }
        if crc32fast::hash(&bytes) != header.payload_crc {
            return Ok(Place::Damaged(header));
        }
        Ok(Place::Record(header, Body::new(&header, bytes)))
    }

    fn own_header(&self, bytes: &[u8; HEADER_BYTES]) -> Option<Header> {
        Header::decode(bytes).filter(|header| self.nonce.is_none_or(|nonce| nonce == header.nonce))
    }

    /// Where the next header of this spool begins, from a place on.
    fn next_header(&self, from: u64, len: u64) -> io::Result<Option<u64>> {
        const CHUNK: u64 = 64 * 1024;
        let mut at = from;
        while len.saturating_sub(at) >= HEADER_BYTES as u64 {
            let size = CHUNK.min(len - at);
            let mut chunk = vec![0; usize::try_from(size).expect("at most 64 KiB")];
            if let Err(gone) = self.source.read_at(&mut chunk, at) {
                return shrunk(gone).map(|_| None);
            }
            let found = chunk.windows(HEADER_BYTES).position(|window| {
                window.starts_with(&MAGIC)
                    && window.try_into().is_ok_and(|bytes| self.own_header(bytes).is_some())
            });
            if let Some(offset) = found {
                return Ok(Some(at + offset as u64));
            }
            // A header may lie across the border of two chunks.
            at += size - (HEADER_BYTES as u64 - 1);
        }
        Ok(None)
    }
}

/// A failed append was taken back between asking for the length and reading: not there (yet).
fn shrunk(error: io::Error) -> io::Result<Place> {
    if error.kind() == io::ErrorKind::UnexpectedEof { Ok(Place::Cut) } else { Err(error) }
}

fn frame(header: &Header, payload: Vec<u8>) -> SpoolFrame {
    SpoolFrame {
        seq: header.seq,
        wall: WallTime(header.wall_micros),
        since_first: Duration::from_micros(header.since_first_micros),
        format: header.format,
        width: header.width,
        height: header.height,
        bytes: payload.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::record::MAX_FRAME_BYTES;

    /// Fails the test when memory is asked for that no file stands behind.
    struct Suspicious<'a>(&'a [u8]);

    impl Source for Suspicious<'_> {
        fn len(&self) -> io::Result<u64> {
            Ok(self.0.len() as u64)
        }

        fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
            assert!(buffer.len() <= self.0.len(), "{} bytes asked of {}", buffer.len(), self.0.len());
            self.0.read_at(buffer, at)
        }
    }

    #[test]
    fn a_length_that_lies_asks_for_no_memory() {
        let header = Header {
            kind: RecordKind::Frame,
            chained: false,
            format: ImageFormat::Jpeg,
            nonce: 1,
            seq: 1,
            wall_micros: 0,
            since_first_micros: 0,
            width: 0,
            height: 0,
            len: u32::try_from(MAX_FRAME_BYTES).unwrap(),
            payload_crc: 0,
        };
        let bytes = header.encode();
        for following in [false, true] {
            let mut walker = Walker::new(Suspicious(&bytes), following);
            let expected = if following {
                SpoolItem::NotYet
            } else {
                SpoolItem::End(SpoolEnd { finished: false, torn_bytes: HEADER_BYTES as u64 })
            };
            assert_eq!(walker.next(true).unwrap(), expected);
        }
    }
}
