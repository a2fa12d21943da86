//! The header of one record: to bytes and back. No files.

use meerkat_base::ImageFormat;

use crate::evidence::{HASH_BYTES, Hash, SIGNATURE_BYTES, SIGNED_HEADER_BYTES};

/// The longest frame a spool takes or believes in.
pub const MAX_FRAME_BYTES: usize = 64 * 1024 * 1024;
pub(crate) const MAX_META_BYTES: usize = 64 * 1024;
pub(crate) const HEADER_BYTES: usize = 64;
pub(crate) const MAGIC: [u8; 4] = [0xf1, b'M', b'K', b'1'];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordKind {
    Meta = 1,
    Frame = 2,
    End = 3,
    /// A signature over everything before it.
    Head = 4,
}

/// The header is followed by the link of the record before.
const CHAINED: u8 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub kind: RecordKind,
    /// Whether the record is a link of a chain.
    pub chained: bool,
    pub format: ImageFormat,
    pub nonce: u64,
    /// Number of the frame; in the end record how many frames there are, in a head record how many records of the
    /// chain came before it.
    pub seq: u64,
    pub wall_micros: i64,
    pub since_first_micros: u64,
    pub width: u32,
    pub height: u32,
    pub len: u32,
    pub payload_crc: u32,
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..4].copy_from_slice(&MAGIC);
        out[4] = self.kind as u8;
        out[5] = match self.format {
            ImageFormat::Unknown => 0,
            ImageFormat::Jpeg => 1,
            ImageFormat::Png => 2,
            ImageFormat::Webp => 3,
            ImageFormat::Bmp => 4,
        };
        out[6] = if self.chained { CHAINED } else { 0 };
        out[8..16].copy_from_slice(&self.nonce.to_le_bytes());
        out[16..24].copy_from_slice(&self.seq.to_le_bytes());
        out[24..32].copy_from_slice(&self.wall_micros.to_le_bytes());
        out[32..40].copy_from_slice(&self.since_first_micros.to_le_bytes());
        out[40..44].copy_from_slice(&self.width.to_le_bytes());
        out[44..48].copy_from_slice(&self.height.to_le_bytes());
        out[48..52].copy_from_slice(&self.len.to_le_bytes());
        out[52..56].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = crc32fast::hash(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The header in these bytes; none when magic, checksum, kind or length are not those of a record.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        fn at<const N: usize>(bytes: &[u8; HEADER_BYTES], from: usize) -> [u8; N] {
            std::array::from_fn(|i| bytes[from + i])
        }
        if bytes[..4] != MAGIC || crc32fast::hash(&bytes[..60]) != u32::from_le_bytes(at(bytes, 60)) {
            return None;
        }
        let (kind, limit) = match bytes[4] {
            1 => (RecordKind::Meta, MAX_META_BYTES),
            2 => (RecordKind::Frame, MAX_FRAME_BYTES),
            3 => (RecordKind::End, SIGNATURE_BYTES),
            4 => (RecordKind::Head, SIGNATURE_BYTES),
            _ => return None,
        };
        let chained = match bytes[6] {
            0 => false,
            CHAINED => true,
            _ => return None,
        };
        let format = match bytes[5] {
            1 => ImageFormat::Jpeg,
            2 => ImageFormat::Png,
            3 => ImageFormat::Webp,
            4 => ImageFormat::Bmp,
            _ => ImageFormat::Unknown,
        };
        let len = u32::from_le_bytes(at(bytes, 48));
        if len as usize > limit {
            return None;
        }
        Some(Self {
            kind,
            chained,
            format,
            nonce: u64::from_le_bytes(at(bytes, 8)),
            seq: u64::from_le_bytes(at(bytes, 16)),
            wall_micros: i64::from_le_bytes(at(bytes, 24)),
            since_first_micros: u64::from_le_bytes(at(bytes, 32)),
            width: u32::from_le_bytes(at(bytes, 40)),
            height: u32::from_le_bytes(at(bytes, 44)),
            len,
            payload_crc: u32::from_le_bytes(at(bytes, 52)),
        })
    }

    /// Length of everything between the header and the next record.
    pub fn body_len(&self) -> u64 {
        let link = if self.chained { HASH_BYTES as u64 } else { 0 };
        link + u64::from(self.len)
    }

    /// Length of the whole record.
    pub fn record_len(&self) -> u64 {
        HEADER_BYTES as u64 + self.body_len()
    }

    /// The part of the header that its link covers.
    pub fn signed_part(&self) -> [u8; SIGNED_HEADER_BYTES] {
        let bytes = self.encode();
        std::array::from_fn(|i| bytes[i])
    }
}

/// The checksum of a record's body: the link before it, where it is chained, and the payload.
pub(crate) fn body_crc(previous: Option<&Hash>, payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(previous.map_or(&[][..], |hash| &hash[..]));
    crc.update(payload);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_round_trips_and_every_flipped_bit_is_noticed() {
        let header = Header {
            kind: RecordKind::Frame,
            chained: true,
            format: ImageFormat::Webp,
            nonce: 0x0123_4567_89ab_cdef,
            seq: 7,
            wall_micros: -5,
            since_first_micros: u64::MAX,
            width: 640,
            height: 480,
            len: 60_000,
            payload_crc: 0xdead_beef,
        };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Some(header));
        for bit in 0..HEADER_BYTES * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&damaged), None, "bit {bit}");
        }
        let long = Header { len: u32::try_from(MAX_FRAME_BYTES).unwrap() + 1, ..header };
        assert_eq!(Header::decode(&long.encode()), None, "a length that nobody writes");
    }
}
