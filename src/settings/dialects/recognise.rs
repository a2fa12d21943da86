//! The two dialects `recognise`: a picture comes in, and goes back with its faces marked.

use std::time::Duration;

use super::super::reader::Reader;
use super::super::rule::{Rule, choice, count, millis, whole};
use super::DoorSettings;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// What both framings share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecogniseSettings {
    /// Longest message, bytes.
    pub max_bytes: usize,
    /// Quality of the JPEG that goes back, 1..=100.
    pub quality: u8,
}

/// Messages with their length in front.
#[derive(Debug, Clone, PartialEq)]
pub struct RecogniseSizedSettings {
    /// Its door.
    pub door: DoorSettings,
    /// What both framings share.
    pub common: RecogniseSettings,
    /// Bytes of the length in front of each message: 8, or 4 for clients that send that.
    pub length_bytes: usize,
}

/// One picture per connection, ended by `0`.
#[derive(Debug, Clone, PartialEq)]
pub struct RecogniseChunkedSettings {
    /// Its door.
    pub door: DoorSettings,
    /// What both framings share.
    pub common: RecogniseSettings,
    /// Pause between the end of the picture and the `0` behind it, so that the client reads the two apart.
    pub end_pause: Duration,
}

impl RecogniseSettings {
    fn read(reader: &mut Reader, section: &str) -> Self {
        Self {
            max_bytes: reader.read(&format!("{section}.max_bytes"), count(KIB..=256 * MIB)),
            quality: reader.read(&format!("{section}.quality"), quality()),
        }
    }
}

impl RecogniseSizedSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let section = "dialects.recognise_sized";
        let door = DoorSettings::read_one(reader, section);
        let common = RecogniseSettings::read(reader, section);
        let length_bytes =
            reader.read("dialects.recognise_sized.length_bytes", choice(&[("8", 8), ("4", 4)]));
        Some(Self { door: door?, common, length_bytes })
    }
}

impl RecogniseChunkedSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let section = "dialects.recognise_chunked";
        let door = DoorSettings::read_one(reader, section);
        let common = RecogniseSettings::read(reader, section);
        let end_pause = reader.read("dialects.recognise_chunked.end_pause_ms", millis(0..=1_000));
        Some(Self { door: door?, common, end_pause })
    }
}

fn quality() -> Rule<u8> {
    let whole = whole(1..=100);
    Rule::new(whole.allowed.clone(), move |value| u8::try_from(whole.parse(value)?).ok())
}
