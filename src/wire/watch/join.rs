//! The first and only thing that a viewer says over TCP: the number of its UDP port, in ASCII decimal digits.

/// The lowest port that pictures are sent to. Below it live services of the system, which nobody may have pictures
/// sent to.
pub const MIN_PORT: u16 = 1024;

/// Digits of the largest port.
const MAX_DIGITS: usize = 5;

/// Why what a viewer said is no port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BadPort {
    /// Something other than digits, no digit at all, a leading zero, or more digits than a port has.
    #[error("not a port number")]
    NotANumber,
    /// A number below [`MIN_PORT`] or above 65,535.
    #[error("not a port from 1024 to 65535")]
    OutOfRange,
}

impl BadPort {
    /// Every reason.
    pub const ALL: [BadPort; 2] = [BadPort::NotANumber, BadPort::OutOfRange];

    /// The word used as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            BadPort::NotANumber => "bad_port",
            BadPort::OutOfRange => "port_out_of_range",
        }
    }
}

/// Reads a port that arrives in pieces. Holds five digits at most, whatever the peer sends.
#[derive(Debug, Clone, Default)]
pub struct Join {
    digits: [u8; MAX_DIGITS],
    len: usize,
    outcome: Option<Result<u16, BadPort>>,
}

impl Join {
    /// Nothing has been heard.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes. `None`: more may come. Once it has said something it says the same for ever, and looks at
    /// no further bytes.
    pub fn push(&mut self, bytes: &[u8]) -> Option<Result<u16, BadPort>> {
        for &byte in bytes {
            if self.outcome.is_some() {
                break;
            }
            match byte {
                b'0'..=b'9' => match self.digits.get_mut(self.len) {
                    Some(place) if self.len > 0 || byte != b'0' => {
                        *place = byte;
                        self.len += 1;
                    }
                    _ => self.outcome = Some(Err(BadPort::NotANumber)),
                },
                b'\r' | b'\n' | 0 => self.outcome = Some(self.number()),
                _ => self.outcome = Some(Err(BadPort::NotANumber)),
            }
        }
        self.outcome
    }

    /// Whether digits have come that would be a whole number if nothing followed them.
    pub fn awaits_silence(&self) -> bool {
        self.outcome.is_none() && self.len > 0
    }

    /// Says that nothing followed. `None` where nothing has come at all.
    pub fn on_silence(&mut self) -> Option<Result<u16, BadPort>> {
        if self.awaits_silence() {
            self.outcome = Some(self.number());
        }
        self.outcome
    }

    fn number(&self) -> Result<u16, BadPort> {
        let digits = self.digits.get(..self.len).unwrap_or_default();
        if digits.is_empty() {
            return Err(BadPort::NotANumber);
        }
        // Five digits at most: no overflow.
        let value = digits.iter().fold(0u32, |value, digit| value * 10 + u32::from(digit - b'0'));
        u16::try_from(value).ok().filter(|port| *port >= MIN_PORT).ok_or(BadPort::OutOfRange)
    }
}

/// What a viewer sends: the digits and nothing else.
///
/// # Errors
/// A port that no node sends to.
pub fn port(port: u16) -> Result<Vec<u8>, BadPort> {
    if port < MIN_PORT { Err(BadPort::OutOfRange) } else { Ok(port.to_string().into_bytes()) }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Everything in these pieces, then silence.
    fn heard<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<Result<u16, BadPort>> {
        let mut join = Join::new();
        for piece in pieces {
            join.push(piece);
        }
        join.on_silence()
    }

    fn whole(bytes: &[u8]) -> Option<Result<u16, BadPort>> {
        heard([bytes])
    }

    #[test]
    fn a_port_is_whole_after_silence() {
        let mut join = Join::new();
        assert_eq!(join.push(b""), None);
        assert_eq!((join.awaits_silence(), join.on_silence()), (false, None), "silence alone says nothing");
        assert_eq!(join.push(b"50"), None);
        assert!(join.awaits_silence());
        assert_eq!(join.push(b"123"), None);
        assert_eq!(join.on_silence(), Some(Ok(50_123)));
        assert_eq!(join.push(b"9"), Some(Ok(50_123)), "what was said holds");
        assert!(!join.awaits_silence());
    }

    #[test]
    fn a_line_end_is_not_needed_but_ends_it() {
        for line in [&b"9999\n"[..], b"9999\r\n", b"9999\0", b"9999\r", b"9999\nwhatever"] {
            let mut join = Join::new();
            assert_eq!(join.push(line), Some(Ok(9_999)), "{line:?}");
        }
    }

    #[test]
    fn only_ports_that_may_be_sent_to_are_taken() {
        for (text, expected) in [
            ("1024", Ok(1_024)),
            ("65535", Ok(65_535)),
            ("1023", Err(BadPort::OutOfRange)),
            ("65536", Err(BadPort::OutOfRange)),
            ("99999", Err(BadPort::OutOfRange)),
            ("53", Err(BadPort::OutOfRange)),
            ("123456", Err(BadPort::NotANumber)),
            ("0", Err(BadPort::NotANumber)),
            ("05000", Err(BadPort::NotANumber)),
            ("-5000", Err(BadPort::NotANumber)),
            ("+5000", Err(BadPort::NotANumber)),
            (" 5000", Err(BadPort::NotANumber)),
            ("5000 ", Err(BadPort::NotANumber)),
            ("0x1388", Err(BadPort::NotANumber)),
            ("5e3", Err(BadPort::NotANumber)),
            ("٥٠٠٠", Err(BadPort::NotANumber)),
            ("\n5000", Err(BadPort::NotANumber)),
            ("GET / HTTP/1.1\r\n\r\n", Err(BadPort::NotANumber)),
        ] {
            assert_eq!(whole(text.as_bytes()), Some(expected), "{text:?}");
        }
    }

    #[test]
    fn a_cut_at_every_byte_changes_nothing() {
        for text in [&b"1024"[..], b"65535", b"65536", b"80", b"123456", b"5000\r\n", b"50x0", b"\xff\x00"] {
            for cut in 0..=text.len() {
                assert_eq!(heard([&text[..cut], &text[cut..]]), whole(text), "{text:?} cut at {cut}");
            }
            assert_eq!(heard(text.chunks(1)), whole(text), "{text:?} byte by byte");
        }
    }

    #[test]
    fn a_writer_writes_only_what_is_read_back() {
        assert_eq!(port(1_023), Err(BadPort::OutOfRange));
        assert_eq!(port(0), Err(BadPort::OutOfRange));
        assert_eq!(port(1_024).unwrap(), b"1024");
    }

    proptest! {
        #[test]
        fn every_port_comes_back_however_it_is_cut(number in MIN_PORT..=u16::MAX, cut in 0usize..6) {
            let bytes = port(number).unwrap();
            let cut = cut.min(bytes.len());
            prop_assert_eq!(heard([&bytes[..cut], &bytes[cut..]]), Some(Ok(number)));
        }

        #[test]
        fn wild_bytes_are_refused_or_are_a_port_however_they_are_cut(
            bytes in vec(prop_oneof![3 => b'0'..=b'9', 1 => any::<u8>()], 0..12),
            cut in 0usize..12,
        ) {
            let cut = cut.min(bytes.len());
            let outcome = whole(&bytes);
            prop_assert_eq!(heard([&bytes[..cut], &bytes[cut..]]), outcome);
            prop_assert_eq!(outcome.is_none(), bytes.is_empty());
            if let Some(Ok(number)) = outcome {
                prop_assert!(number >= MIN_PORT);
                prop_assert!(bytes.starts_with(number.to_string().as_bytes()));
            }
        }
    }
}
