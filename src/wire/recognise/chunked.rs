//! One JPEG per connection, ended by the character `0`, which is often glued to it. A `0` inside of the picture means
//! nothing: the picture is walked from marker to marker, and `0` looked for only behind its end.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

/// What ends a picture, in both directions.
pub const END: &[u8] = b"0";

/// Most bytes of padding between the end of the picture and the `0`.
const MAX_PADDING: usize = 64 << 10;

/// What a second picture begins with.
const SECOND: &[u8] = &[0xFF, SOI, 0xFF];

const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;

/// Why the picture is not waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadChunks {
    /// It does not begin like a JPEG, or contradicts itself.
    #[error("not a JPEG")]
    NotAJpeg,
    /// It is longer than allowed.
    #[error("the picture is too long")]
    TooLong,
}

impl BadChunks {
    /// Every reason.
    pub const REASONS: [&'static str; 2] = ["not_a_jpeg", "message_too_large"];

    /// The word used as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            BadChunks::NotAJpeg => "not_a_jpeg",
            BadChunks::TooLong => "message_too_large",
        }
    }
}

/// Finds the end of the one picture of a connection.
#[derive(Debug)]
pub struct Reader {
    max_bytes: usize,
    walk: Walk,
    /// The next byte to look at; may lie beyond what has arrived.
    at: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Walk {
    /// At a marker.
    Marker,
    /// Inside of entropy-coded data.
    Data,
    /// Behind the end of the picture, which is here; looked through up to the second offset.
    Behind(usize, usize),
}

impl Reader {
    /// For a picture of at most `max_bytes`.
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes, walk: Walk::Marker, at: 0 }
    }

    /// Takes the picture from the front of the buffer, and what ends it; `None` while it is not there yet. After an
    /// error nothing that follows has a meaning. Padding behind the picture stays with it.
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Option<Bytes>, BadChunks> {
        let view = buf.get(..self.max_bytes.saturating_add(END.len()).min(buf.len())).unwrap_or_default();
        loop {
            match self.walk {
                Walk::Data => {
                    self.at = find_marker(view, self.at);
                    if view.len() < self.at.saturating_add(2) {
                        break;
                    }
                    self.walk = Walk::Marker;
                }
                Walk::Marker => {
                    let (Some(&first), Some(&code)) =
                        (view.get(self.at), view.get(self.at.saturating_add(1)))
                    else {
                        break;
                    };
                    match (first, code) {
                        _ if self.at == 0 && (first, code) != (0xFF, SOI) => return Err(BadChunks::NotAJpeg),
                        (0xFF, 0xFF) => self.at += 1, // fill byte
                        (0xFF, EOI) => {
                            self.at += 2;
                            self.walk = Walk::Behind(self.at, self.at);
                        }
                        (0xFF, SOI | 0x01 | 0xD0..=0xD7) => self.at += 2,
                        (0xFF, 0x02..=0xFE) => {
                            let length = view
                                .get(self.at + 2..self.at + 4)
                                .map(|two| usize::from(two[0]) << 8 | usize::from(two[1]));
                            let Some(length) = length else { break };
                            if length < 2 {
                                return Err(BadChunks::NotAJpeg);
                            }
                            self.at += 2 + length;
                            // Data follow the header of a scan; stray bytes are passed over as if they were data.
                            if code == 0xDA {
                                self.walk = Walk::Data;
                            }
                        }
                        _ => self.walk = Walk::Data,
                    }
                }
                Walk::Behind(end, searched) => {
                    let behind = view.get(end..).unwrap_or_default();
                    if searched == end {
                        if behind.starts_with(SECOND) {
                            // A second picture right behind the first, as some cameras append one.
                            self.walk = Walk::Marker;
                            self.at = end + 2;
                            continue;
                        }
                        if SECOND.starts_with(behind) {
                            break;
                        }
                    }
                    let Some(padding) = view.get(searched..).and_then(|rest| memchr(END[0], rest)) else {
                        if behind.len() > MAX_PADDING {
                            return Err(BadChunks::NotAJpeg);
                        }
                        self.walk = Walk::Behind(end, view.len().max(searched));
                        break;
                    };
                    if searched + padding - end > MAX_PADDING {
                        return Err(BadChunks::NotAJpeg);
                    }
                    let picture = buf.split_to(searched + padding).freeze();
                    buf.advance(END.len());
                    return Ok(Some(picture));
                }
            }
        }
        if buf.len() > self.max_bytes || self.at > self.max_bytes {
            Err(BadChunks::TooLong)
        } else {
            Ok(None)
        }
    }
}

/// The next marker at or behind `from`, or where one could begin that has not arrived whole. Stuffed zeros and restart
/// markers belong to the data.
fn find_marker(view: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(distance) = view.get(at..).and_then(|rest| memchr(0xFF, rest)) {
        at += distance;
        match view.get(at + 1) {
            None => return at,
            Some(0x00 | 0xD0..=0xD7) => at += 2,
            // A fill byte: the next one may begin the marker.
            Some(0xFF) => at += 1,
            Some(_) => return at,
        }
    }
    view.len().max(from)
}
