//! Reads a Range header (RFC 9110, section 14) against a known length. No files.

/// Which bytes of a file to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The whole file: no range was asked for, or one that may be ignored.
    Whole,
    /// `first..first + len`, with `len >= 1` and all of it inside the file.
    Part { first: u64, len: u64 },
    /// A range of which no byte exists.
    Nothing,
}

/// What a Range header asks of a file of `total` bytes. Several ranges at once are answered with the whole
/// file, as the RFC allows: browsers do not ask for them and they are a way to make a server work.
pub(crate) fn wanted(header: Option<&str>, total: u64) -> Wanted {
    let Some(spec) = header.and_then(|h| h.trim().strip_prefix("bytes=")) else { return Wanted::Whole };
    let Some((from, to)) = spec.split_once('-') else { return Wanted::Whole };
    match (number(from), number(to)) {
        (Some(first), to) if to.is_some() || to_is_open(spec) => {
            if to.is_some_and(|last| last < first) {
                return Wanted::Whole;
            }
            if first >= total {
                return Wanted::Nothing;
            }
            let last = to.unwrap_or(u64::MAX).min(total - 1);
            Wanted::Part { first, len: last - first + 1 }
        }
        (None, Some(suffix)) if from.trim().is_empty() => {
            let len = suffix.min(total);
            if len == 0 { Wanted::Nothing } else { Wanted::Part { first: total - len, len } }
        }
        _ => Wanted::Whole,
    }
}

fn to_is_open(spec: &str) -> bool {
    spec.trim_end().ends_with('-')
}

fn number(text: &str) -> Option<u64> {
    let digits = text.trim();
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if is_number { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        let part = |first, len| Wanted::Part { first, len };
        for (header, total, expected) in [
            ("bytes=0-", 10, part(0, 10)),
            ("bytes=0-0", 10, part(0, 1)),
            ("bytes=3-5", 10, part(3, 3)),
            ("bytes=9-99", 10, part(9, 1)),
            ("bytes=-4", 10, part(6, 4)),
            ("bytes=-99", 10, part(0, 10)),
            (" bytes=1- ", 10, part(1, 9)),
            ("bytes=10-", 10, Wanted::Nothing),
            ("bytes=-0", 10, Wanted::Nothing),
            ("bytes=0-", 0, Wanted::Nothing),
            ("bytes=-1", 0, Wanted::Nothing),
            ("bytes=5-3", 10, Wanted::Whole),
            ("bytes=0-1,3-4", 10, Wanted::Whole),
            ("bytes=-", 10, Wanted::Whole),
            ("bytes=a-b", 10, Wanted::Whole),
            ("bytes=+1-2", 10, Wanted::Whole),
            ("bytes=--1", 10, Wanted::Whole),
            ("items=0-1", 10, Wanted::Whole),
            ("bytes=99999999999999999999-", 10, Wanted::Whole),
            ("", 10, Wanted::Whole),
        ] {
            assert_eq!(wanted(Some(header), total), expected, "{header} of {total}");
        }
        assert_eq!(wanted(None, 10), Wanted::Whole);
    }
}
