//! A text that must not be seen: tokens, keys, addresses that carry credentials.

use std::fmt;

/// Shows itself as `[redacted]` everywhere; [`Secret::reveal`] is the one way to read it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself: only for the place that sends or compares it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Compares in a time that depends on the lengths only.
    pub fn matches(&self, given: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let mut difference = own.len() ^ given.len();
        for (i, &byte) in given.iter().enumerate() {
            let other = own.get(i).copied().unwrap_or(0);
            difference |= usize::from(std::hint::black_box(byte ^ other));
        }
        std::hint::black_box(difference) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_shows_itself() {
        let s = Secret::new("hunter2");
        assert_eq!(format!("{s} {s:?}"), "[redacted] [redacted]");
    }

    #[test]
    fn only_the_same_text_matches() {
        let s = Secret::new("hunter2");
        assert!(s.matches(b"hunter2"));
        for wrong in [&b"hunter"[..], b"hunter22", b"hunter3", b"", b"\0"] {
            assert!(!s.matches(wrong));
        }
        assert!(Secret::new("").matches(b""));
    }
}
