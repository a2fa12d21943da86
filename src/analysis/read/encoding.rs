//! Which encoding a file has: UTF-8 with or without a mark, UTF-16 with one, or GBK. Looks at all of it, so that what
//! comes later cannot be wrong about it; decodes nothing.

use std::io::{Read, Seek, SeekFrom};

use encoding_rs::{Decoder, DecoderResult, Encoding, GB18030, UTF_8};

use crate::error::AnalysisError;
use crate::watch::Watcher;

const CHUNK_BYTES: usize = 256 << 10;

/// What is known of a file after a look at all of its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Looked {
    /// UTF-8, UTF-16LE, UTF-16BE or GB18030, which every GBK text is.
    pub encoding: &'static Encoding,
    /// Bytes of the mark at the beginning.
    pub mark_bytes: u64,
    /// Size of the file, bytes.
    pub bytes: u64,
}

impl Looked {
    /// Name of the encoding as people say it.
    pub fn name(&self) -> &'static str {
        if self.encoding == GB18030 { "GBK" } else { self.encoding.name() }
    }
}

/// Looks at all bytes of a file, from its beginning.
pub fn look<R: Read + Seek>(reader: &mut R, watch: &mut Watcher<'_>) -> Result<Looked, AnalysisError> {
    let limit = watch.limits().file_bytes;
    let bytes = reader.seek(SeekFrom::End(0))?;
    if bytes > limit {
        return Err(AnalysisError::TooLarge { bytes, limit });
    }
    watch.begins(bytes);
    reader.seek(SeekFrom::Start(0))?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut utf8 = Utf8::default();
    let mut gbk = Some(GB18030.new_decoder_without_bom_handling());
    let mut scratch = vec![0; CHUNK_BYTES * 3 + 16];
    let (mut at, mut lines) = (0_u64, 0_u64);
    let mut first_wrong: Option<(u64, u64)> = None;
    loop {
        let got = fill(reader, &mut chunk)?;
        let read = &chunk[..got];
        if at == 0
            && let Some((encoding, mark)) = Encoding::for_bom(read)
            && encoding != UTF_8
        {
            return Ok(Looked { encoding, mark_bytes: mark as u64, bytes });
        }
        if let Some(zero) = read.iter().position(|byte| *byte == 0) {
            return Err(AnalysisError::NotText { at: at + zero as u64 });
        }
        if first_wrong.is_none()
            && let Some(wrong) = utf8.goes_wrong_at(read)
        {
            // A character that began in the chunk before is wrong where the chunk begins.
            let before = read.iter().take(wrong).filter(|byte| **byte == b'\n').count() as u64;
            first_wrong = Some((at + wrong as u64, lines + before + 1));
        }
        if let Some(decoder) = &mut gbk
            && !decodes(decoder, read, &mut scratch, got == 0)
        {
            gbk = None;
        }
        if first_wrong.is_some() && gbk.is_none() {
            break;
        }
        lines += read.iter().filter(|byte| **byte == b'\n').count() as u64;
        at += got as u64;
        watch.step(at)?;
        if at > bytes {
            return Err(AnalysisError::Changed);
        }
        if got == 0 {
            break;
        }
    }
    let encoding = match (first_wrong, gbk) {
        (None, _) => UTF_8,
        (Some(_), Some(_)) => GB18030,
        (Some((at, line)), None) => return Err(AnalysisError::Encoding { line, at }),
    };
    reader.seek(SeekFrom::Start(0))?;
    let mut beginning = [0; 3];
    let got = fill(reader, &mut beginning)?;
    let has_mark = encoding == UTF_8 && beginning[..got] == *b"\xef\xbb\xbf";
    Ok(Looked { encoding, mark_bytes: if has_mark { 3 } else { 0 }, bytes })
}

/// Fills the buffer as far as the file reaches.
fn fill<R: Read>(reader: &mut R, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match reader.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

fn decodes(decoder: &mut Decoder, mut bytes: &[u8], scratch: &mut [u8], last: bool) -> bool {
    loop {
        match decoder.decode_to_utf8_without_replacement(bytes, scratch, last) {
            (DecoderResult::InputEmpty, _, _) => return true,
            (DecoderResult::Malformed(..), _, _) => return false,
            (DecoderResult::OutputFull, read, _) => bytes = &bytes[read..],
        }
    }
}

/// Follows UTF-8 over the seams of chunks. A text that ends within a character is not wrong here: the row that is cut
/// says so.
#[derive(Default)]
struct Utf8 {
    /// The beginning of a character that the chunk before cut, up to three bytes.
    begun: Vec<u8>,
}

impl Utf8 {
    fn goes_wrong_at(&mut self, chunk: &[u8]) -> Option<usize> {
        let mut from = 0;
        while !self.begun.is_empty() && from < chunk.len() {
            self.begun.push(chunk[from]);
            from += 1;
            match std::str::from_utf8(&self.begun) {
                Ok(_) => self.begun.clear(),
                Err(error) if error.error_len().is_some() => return Some(from - 1),
                Err(_) => {}
            }
        }
        if let Err(error) = std::str::from_utf8(&chunk[from..]) {
            let valid = from + error.valid_up_to();
            if error.error_len().is_some() {
                return Some(valid);
            }
            self.begun = chunk[valid..].to_vec();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::limits::Limits;

    fn looked(bytes: &[u8]) -> Result<(&'static str, u64), AnalysisError> {
        let limits = Limits::default();
        let looked = look(&mut Cursor::new(bytes), &mut Watcher::untimed(&limits))?;
        Ok((looked.name(), looked.mark_bytes))
    }

    #[test]
    fn the_encodings_are_told_apart() {
        let (gbk, _, _) = GB18030.encode("城市,人口\n北京,2189\n");
        assert_eq!(looked("城市\n北京\n".as_bytes()).unwrap(), ("UTF-8", 0));
        assert_eq!(looked(b"\xef\xbb\xbfcity\n").unwrap(), ("UTF-8", 3));
        assert_eq!(looked(&gbk).unwrap(), ("GBK", 0));
        assert_eq!(looked(b"\xff\xfea\0").unwrap(), ("UTF-16LE", 2));
        assert_eq!(looked(b"\xfe\xff\0a").unwrap(), ("UTF-16BE", 2));
        assert_eq!(looked(b"").unwrap(), ("UTF-8", 0));
    }

    #[test]
    fn what_is_no_text_is_refused_with_its_place() {
        assert!(matches!(looked(b"\x89PNG\0"), Err(AnalysisError::NotText { at: 4 })));
        assert!(matches!(looked(b"a\nb\n\xff\xff\n"), Err(AnalysisError::Encoding { line: 3, at: 4 })));
        let limits = Limits { file_bytes: 3, ..Limits::default() };
        let refused = look(&mut Cursor::new(b"a,b\n"), &mut Watcher::untimed(&limits));
        assert!(matches!(refused, Err(AnalysisError::TooLarge { bytes: 4, limit: 3 })));
    }

    #[test]
    fn characters_on_the_seam_of_chunks_are_no_error() {
        for shift in 0..4 {
            let text = format!("{}{}", "x".repeat(shift), "城".repeat(CHUNK_BYTES / 2));
            assert_eq!(looked(text.as_bytes()).unwrap(), ("UTF-8", 0));
            let (gbk, _, _) = GB18030.encode(&text);
            assert_eq!(looked(&gbk).unwrap(), ("GBK", 0));
        }
    }
}
