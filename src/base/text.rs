//! Makes what a peer sent fit to be shown: escaped and cut.

/// Shows at most 64 bytes of what a peer sent, with everything but printable ASCII escaped.
/// An ellipsis says that more was there.
pub fn shown(bytes: &[u8]) -> String {
    const CUT: usize = 64;
    let part = bytes.get(..CUT).unwrap_or(bytes);
    let mut out = part.escape_ascii().to_string();
    if bytes.len() > CUT {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn control_bytes_do_not_get_through() {
        assert_eq!(shown(b"a\r\n\x1b[31m\xff"), r"a\r\n\x1b[31m\xff");
        assert_eq!(shown(&[b'x'; 70]), format!("{}…", "x".repeat(64)));
    }
}
