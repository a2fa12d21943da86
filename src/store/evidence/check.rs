//! Checks a signed spool byte by byte: nothing in it may be other than its writer made it. Unlike the reader, which
//! saves what can be saved, this stops at the first thing that is wrong.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use meerkat_base::WallTime;

use super::key::PublicKey;
use super::{GENESIS, HASH_BYTES, Hash, from_hex, head_message, link, to_hex};
use crate::spool::record::{HEADER_BYTES, Header, RecordKind, body_crc};
use crate::spool::{SIGNING_FORMAT, SigningNote, SpoolMeta, read_meta};

/// Stretches of missing numbers that are listed.
const MAX_GAPS: usize = 100;

/// What a spool proves.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedSpool {
    /// What its writer said about it.
    pub meta: SpoolMeta,
    /// The chain that it is a part of, in hexadecimal.
    pub chain: String,
    /// The run of the node that received it.
    pub boot: String,
    /// The link before its first record, in hexadecimal: the last link of the spool before it.
    pub first_link: String,
    /// The link of its last record, in hexadecimal.
    pub last_link: String,
    /// Frames in it.
    pub frames: u64,
    /// Frames that stand before a signature.
    pub signed_frames: u64,
    /// Numbers of the first and the last frame.
    pub numbers: Option<(u64, u64)>,
    /// Times of the first and the last frame.
    pub times: Option<(WallTime, WallTime)>,
    /// Numbers that are missing between its frames, first to last, at most 100 stretches: frames that the node
    /// received and could not keep.
    pub gaps: Vec<(u64, u64)>,
    /// It ends with its signed end record.
    pub finished: bool,
    /// Bytes of a record that was cut off at the end.
    pub torn_bytes: u64,
}

/// Why a spool proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum SpoolFault {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It was made without signing.
    #[error("is not signed")]
    NotSigned,
    /// It was signed with another key.
    #[error("is signed with another key, {key}")]
    OtherKey {
        /// The key that it names.
        key: String,
    },
    /// Something is not as it was written.
    #[error("record {record} at byte {at}: {what}")]
    Altered {
        /// Number of the record, from 0.
        record: u64,
        /// Where it begins.
        at: u64,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// Checks the spool in a folder against a key.
pub fn check_spool(folder: &Path, key: &PublicKey) -> Result<CheckedSpool, SpoolFault> {
    check_frames(BufReader::with_capacity(128 * 1024, File::open(folder.join("frames"))?), key)
}

/// Checks what a `frames` file holds against a key.
pub fn check_frames(source: impl Read, key: &PublicKey) -> Result<CheckedSpool, SpoolFault> {
    let mut check = Check { source, key, at: 0, record: 0, begun: None };
    while check.next()? {}
    check.begun.map(|begun| begun.found).ok_or(SpoolFault::Altered {
        record: 0,
        at: 0,
        what: "the spool has no first record",
    })
}

struct Check<'k, R> {
    source: R,
    key: &'k PublicKey,
    /// Where the record in hand begins, and its number.
    at: u64,
    record: u64,
    begun: Option<Begun>,
}

struct Begun {
    found: CheckedSpool,
    note: SigningNote,
    chain: [u8; 16],
    nonce: u64,
    head: Hash,
    last_micros: u64,
}

enum Filled {
    Whole,
    Torn(u64),
    Nothing,
}

impl<R: Read> Check<'_, R> {
    fn altered(&self, what: &'static str) -> SpoolFault {
        SpoolFault::Altered { record: self.record, at: self.at, what }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<Filled> {
        let mut have = 0;
        while have < buffer.len() {
            match self.source.read(&mut buffer[have..]) {
                Ok(0) if have == 0 => return Ok(Filled::Nothing),
                Ok(0) => return Ok(Filled::Torn(have as u64)),
                Ok(read) => have += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Filled::Whole)
    }

    /// Checks one record. False at the end.
    fn next(&mut self) -> Result<bool, SpoolFault> {
        let mut bytes = [0; HEADER_BYTES];
        match self.fill(&mut bytes)? {
            Filled::Nothing => return Ok(false),
            Filled::Torn(torn) => return self.torn(torn),
            Filled::Whole => {}
        }
        if self.begun.as_ref().is_some_and(|begun| begun.found.finished) {
            return Err(self.altered("something follows the end record"));
        }
        let header = Header::decode(&bytes).ok_or_else(|| self.altered("the header is damaged"))?;
        if !header.chained {
            return Err(if self.record == 0 {
                SpoolFault::NotSigned
            } else {
                self.altered("it has no link")
            });
        }
        if header.encode() != bytes {
            return Err(self.altered("the header has bytes that nobody writes"));
        }
        let mut previous = [0; HASH_BYTES];
        let mut payload = vec![0; header.len as usize];
        let before = HEADER_BYTES as u64;
        match self.fill(&mut previous)? {
            Filled::Whole => {}
            Filled::Torn(torn) => return self.torn(before + torn),
            Filled::Nothing => return self.torn(before),
        }
        match self.fill(&mut payload)? {
            Filled::Nothing if !payload.is_empty() => return self.torn(before + HASH_BYTES as u64),
            Filled::Torn(torn) => return self.torn(before + HASH_BYTES as u64 + torn),
            Filled::Whole | Filled::Nothing => {}
        }
        if body_crc(Some(&previous), &payload) != header.payload_crc {
            return Err(self.altered("the checksum is wrong"));
        }
        self.judge(&header, previous, &payload)?;
        if let Some(begun) = &mut self.begun {
            begun.head = link(&previous, &header.signed_part(), &payload);
            begun.found.last_link = to_hex(&begun.head);
        }
        self.at += header.record_len();
        self.record += 1;
        Ok(true)
    }

    fn torn(&mut self, bytes: u64) -> Result<bool, SpoolFault> {
        match &mut self.begun {
            Some(begun) if !begun.found.finished => {
                begun.found.torn_bytes = bytes;
                Ok(false)
            }
            Some(_) => Err(self.altered("something follows the end record")),
            None => Err(self.altered("the first record is cut off")),
        }
    }

    fn judge(&mut self, header: &Header, previous: Hash, payload: &[u8]) -> Result<(), SpoolFault> {
        let Some(begun) = &mut self.begun else {
            self.begun = Some(self.begin(header, previous, payload)?);
            return Ok(());
        };
        let fault = |what| SpoolFault::Altered { record: self.record, at: self.at, what };
        if header.nonce != begun.nonce {
            return Err(fault("it is from another spool"));
        }
        if previous != begun.head {
            return Err(fault("it does not follow the record before it"));
        }
        let signed = |begun: &Begun| {
            let message = head_message(&begun.chain, &header.signed_part(), &previous);
            self.key.verifies(&message, payload)
        };
        let found = &mut begun.found;
        match header.kind {
            RecordKind::Meta => return Err(fault("a second first record")),
            RecordKind::Frame => {
                let wall = WallTime(header.wall_micros);
                if header.since_first_micros < begun.last_micros
                    || (found.frames == 0 && header.since_first_micros != 0)
                {
                    return Err(fault("its time lies before that of the frame before it"));
                }
                match &mut found.numbers {
                    None => found.numbers = Some((header.seq, header.seq)),
                    Some((_, last)) if header.seq <= *last => {
                        return Err(fault("its number is not higher than that of the frame before it"));
                    }
                    Some((_, last)) => {
                        if header.seq - *last > 1 && found.gaps.len() < MAX_GAPS {
                            found.gaps.push((*last + 1, header.seq - 1));
                        }
                        *last = header.seq;
                    }
                }
                found.times = Some((found.times.map_or(wall, |(first, _)| first), wall));
                found.frames += 1;
                begun.last_micros = header.since_first_micros;
            }
            RecordKind::Head => {
                if header.seq != begun.note.link + self.record {
                    return Err(fault("it counts the records before it wrongly"));
                }
                if !signed(begun) {
                    return Err(fault("the signature is wrong"));
                }
                begun.found.signed_frames = begun.found.frames;
            }
            RecordKind::End => {
                if (header.seq, header.since_first_micros) != (found.frames, begun.last_micros) {
                    return Err(fault("it counts the frames wrongly"));
                }
                if !signed(begun) {
                    return Err(fault("the signature is wrong"));
                }
                begun.found.signed_frames = begun.found.frames;
                begun.found.finished = true;
            }
        }
        Ok(())
    }

    fn begin(&self, header: &Header, previous: Hash, payload: &[u8]) -> Result<Begun, SpoolFault> {
        if header.kind != RecordKind::Meta {
            return Err(self.altered("the first record is missing"));
        }
        let (meta, note) = read_meta(payload).ok_or_else(|| self.altered("what it says cannot be read"))?;
        let note = note.ok_or(SpoolFault::NotSigned)?;
        let chain = from_hex(&note.chain).filter(|_| note.format == SIGNING_FORMAT);
        let chain = chain.ok_or_else(|| self.altered("its format is of another version"))?;
        if note.key != self.key.to_string() {
            return Err(SpoolFault::OtherKey { key: meerkat_base::text::shown(note.key.as_bytes()) });
        }
        if (note.link == 0) != (previous == GENESIS) {
            return Err(self.altered("it says that its chain begins elsewhere"));
        }
        let found = CheckedSpool {
            meta,
            chain: note.chain.clone(),
            boot: note.boot.clone(),
            first_link: to_hex(&previous),
            last_link: String::new(),
            frames: 0,
            signed_frames: 0,
            numbers: None,
            times: None,
            gaps: Vec::new(),
            finished: false,
            torn_bytes: 0,
        };
        Ok(Begun { found, note, chain, nonce: header.nonce, head: GENESIS, last_micros: 0 })
    }
}
