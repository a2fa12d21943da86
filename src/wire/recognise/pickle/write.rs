//! Writes a one-dimensional numpy array of bytes as a pickle in protocol 0, byte for byte as numpy 1 with Python 3 does.

/// Everything before the number of bytes.
const BEFORE_LENGTH: &[u8] =
    b"cnumpy.core.multiarray\n_reconstruct\np0\n(cnumpy\nndarray\np1\n(I0\ntp2\nc_codecs\nencode\np3\n\
(Vb\np4\nVlatin1\np5\ntp6\nRp7\ntp8\nRp9\n(I1\n(I";

/// Between the number of bytes and the bytes.
const BEFORE_DATA: &[u8] = b"\ntp10\ncnumpy\ndtype\np11\n(Vu1\np12\nI00\nI01\ntp13\nRp14\n(I3\nV|\np15\nNNNI-1\nI-1\nI0\ntp16\nbI00\n\
g3\n(V";

/// Behind the bytes.
const BEHIND: &[u8] = b"\np17\ng5\ntp18\nRp19\ntp20\nb.";

/// The pickle of an array with these bytes. At most six times as long as they are, usually hardly longer.
pub fn write(bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len().to_string();
    let escapes = bytes.iter().filter(|&&byte| is_escaped(byte)).count();
    let fixed = BEFORE_LENGTH.len() + length.len() + BEFORE_DATA.len() + BEHIND.len();
    let mut out = Vec::with_capacity(fixed + bytes.len() + 5 * escapes);
    out.extend_from_slice(BEFORE_LENGTH);
    out.extend_from_slice(length.as_bytes());
    out.extend_from_slice(BEFORE_DATA);
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|&byte| is_escaped(byte)) {
        let (before, escaped) = rest.split_at(at);
        out.extend_from_slice(before);
        if let Some((&byte, behind)) = escaped.split_first() {
            let digit = |value: u8| b"0123456789abcdef"[usize::from(value & 0x0F)];
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte)]);
            rest = behind;
        }
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(BEHIND);
    out
}

/// What cannot stand in a line of text as it is.
fn is_escaped(byte: u8) -> bool {
    matches!(byte, b'\\' | 0 | b'\n' | b'\r' | 0x1A)
}
