//! What a viewer says over UDP: `continue` after each picture, and `end` when it leaves.

/// Asks for the next picture.
pub const CONTINUE: &[u8] = b"continue";
/// Says that the viewer leaves.
pub const END: &[u8] = b"end";

/// Longest datagram that can be an answer: both words and a line end. What is longer is none, and need not be read.
pub const MAX_ANSWER_BYTES: usize = CONTINUE.len() + END.len() + 2;

/// One datagram of a viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// `continue`: the picture has come, the next may go out.
    Continue,
    /// `end`: the viewer leaves.
    End,
    /// `continueend`, both words in one datagram: the last picture has come, and the viewer leaves.
    ContinueEnd,
}

impl Answer {
    /// Reads a whole datagram; a line end or NUL behind the words is overlooked. `None` for everything else.
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        if datagram.len() > MAX_ANSWER_BYTES {
            return None;
        }
        let words = match datagram.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n' | 0)) {
            Some(last) => datagram.get(..=last)?,
            None => return None,
        };
        match words {
            CONTINUE => Some(Self::Continue),
            END => Some(Self::End),
            glued => match glued.strip_prefix(CONTINUE) {
                Some(END) => Some(Self::ContinueEnd),
                _ => None,
            },
        }
    }

    /// Whether a picture has come.
    pub fn is_continue(self) -> bool {
        matches!(self, Self::Continue | Self::ContinueEnd)
    }

    /// Whether the viewer leaves.
    pub fn is_end(self) -> bool {
        matches!(self, Self::End | Self::ContinueEnd)
    }

    /// The datagram.
    pub fn bytes(self) -> &'static [u8] {
        match self {
            Self::Continue => CONTINUE,
            Self::End => END,
            Self::ContinueEnd => b"continueend",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const ALL: [Answer; 3] = [Answer::Continue, Answer::End, Answer::ContinueEnd];

    #[test]
    fn answers_read_back() {
        for answer in ALL {
            assert_eq!(Answer::parse(answer.bytes()), Some(answer));
            for end in [&b"\n"[..], b"\r\n", b"\0"] {
                assert_eq!(Answer::parse(&[answer.bytes(), end].concat()), Some(answer), "{end:?}");
            }
        }
        assert!(ALL.map(Answer::is_continue) == [true, false, true]);
        assert!(ALL.map(Answer::is_end) == [false, true, true]);
    }

    #[test]
    fn a_datagram_that_was_cut_is_none_unless_a_word_is_left() {
        for answer in ALL {
            let bytes = answer.bytes();
            for cut in 0..bytes.len() {
                let expected =
                    (answer == Answer::ContinueEnd && cut == CONTINUE.len()).then_some(Answer::Continue);
                assert_eq!(Answer::parse(&bytes[..cut]), expected, "{answer:?} cut at {cut}");
                if cut > 0 && bytes[cut..] != *END {
                    assert_eq!(Answer::parse(&bytes[cut..]), None, "{answer:?} from {cut}");
                }
            }
        }
    }

    #[test]
    fn everything_else_is_none() {
        for bad in [
            &b""[..],
            b"\n",
            b"\0\0",
            b"Continue",
            b"CONTINUE",
            b" continue",
            b"continue end",
            b"endcontinue",
            b"continuecontinue",
            b"continueendend",
            b"\xff\xd8\xff",
        ] {
            assert_eq!(Answer::parse(bad), None, "{bad:?}");
        }
        assert_eq!(
            Answer::parse(&[b"continue".to_vec(), vec![0; 6]].concat()),
            None,
            "longer than any answer"
        );
    }

    proptest! {
        #[test]
        fn wild_datagrams_are_answers_only_when_they_begin_with_a_word(bytes in vec(any::<u8>(), 0..40)) {
            match Answer::parse(&bytes) {
                Some(answer) => prop_assert!(bytes.starts_with(answer.bytes())),
                None => prop_assert!(bytes != CONTINUE && bytes != END),
            }
        }
    }
}
