//! A file as UTF-8 text, in pieces of bounded size, whatever its encoding. Splits nothing.

use std::io::{self, Read};

use encoding_rs::{Decoder, DecoderResult, UTF_8};

use super::encoding::Looked;

const TEXT_BYTES: usize = 256 << 10;
/// No character of the encodings grows by more than this when it becomes UTF-8.
const GROWTH: usize = 3;

/// The text of a file. UTF-8 is handed through unchecked: the whole file was looked at before.
pub struct Decoded<R> {
    reader: R,
    /// None for UTF-8.
    decoder: Option<Decoder>,
    raw: Vec<u8>,
    text: Vec<u8>,
    /// What of the text was not taken yet.
    from: usize,
    to: usize,
    /// Bytes of the file that were read.
    taken_bytes: u64,
    ended: bool,
}

impl<R: Read> Decoded<R> {
    /// Reads from here on; the mark at the beginning is behind the reader already.
    pub fn new(reader: R, looked: &Looked) -> Self {
        let decoder = (looked.encoding != UTF_8).then(|| looked.encoding.new_decoder_without_bom_handling());
        let raw = if decoder.is_some() { vec![0; TEXT_BYTES / GROWTH - 16] } else { Vec::new() };
        Self {
            reader,
            decoder,
            raw,
            text: vec![0; TEXT_BYTES],
            from: 0,
            to: 0,
            taken_bytes: looked.mark_bytes,
            ended: false,
        }
    }

    /// Text that was not taken yet; empty only at the end. A `None` is a byte that does not decode.
    pub fn text(&mut self) -> io::Result<Option<&[u8]>> {
        while self.from == self.to && !self.ended {
            if !self.refill()? {
                return Ok(None);
            }
        }
        Ok(Some(&self.text[self.from..self.to]))
    }

    /// Takes the beginning of the text.
    pub fn take(&mut self, bytes: usize) {
        self.from = (self.from + bytes).min(self.to);
    }

    /// Bytes of the file that were read so far.
    pub fn taken_bytes(&self) -> u64 {
        self.taken_bytes
    }

    fn refill(&mut self) -> io::Result<bool> {
        let target = if self.decoder.is_some() { &mut self.raw } else { &mut self.text };
        let got = loop {
            match self.reader.read(target) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.taken_bytes += got as u64;
        self.ended = got == 0;
        (self.from, self.to) = (0, got);
        let Some(decoder) = &mut self.decoder else { return Ok(true) };
        let (result, _, written) =
            decoder.decode_to_utf8_without_replacement(&self.raw[..got], &mut self.text, self.ended);
        self.to = written;
        // The text buffer is large enough for whatever the raw one holds.
        Ok(result == DecoderResult::InputEmpty)
    }
}
