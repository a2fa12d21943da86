//! What a cell means: missing, a number, a truth value or text, by the rules of pandas' `read_csv`.

/// The meaning of one cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell {
    /// One of pandas' words for a missing value.
    Missing,
    /// A number; infinite where the text says so or is beyond the range.
    Number(f64),
    /// `True`, `TRUE`, `true` or their opposites.
    Truth(bool),
    /// Anything else, integers beyond 64 bits among them.
    Text,
}

impl Cell {
    /// What the bytes of a cell mean.
    pub fn of(cell: &[u8]) -> Self {
        if is_missing(cell) {
            Self::Missing
        } else if let Some(number) = number(cell) {
            Self::Number(number)
        } else {
            match cell {
                b"True" | b"TRUE" | b"true" => Self::Truth(true),
                b"False" | b"FALSE" | b"false" => Self::Truth(false),
                _ => Self::Text,
            }
        }
    }
}

/// Whether a cell is one of the words that pandas takes for a missing value.
pub fn is_missing(cell: &[u8]) -> bool {
    match cell.first() {
        None => true,
        // No other byte begins such a word.
        Some(b'#' | b'-' | b'1' | b'<' | b'N' | b'n') => matches!(
            cell,
            b"#N/A"
                | b"#N/A N/A"
                | b"#NA"
                | b"-1.#IND"
                | b"-1.#QNAN"
                | b"-NaN"
                | b"-nan"
                | b"1.#IND"
                | b"1.#QNAN"
                | b"<NA>"
                | b"N/A"
                | b"NA"
                | b"NULL"
                | b"NaN"
                | b"None"
                | b"n/a"
                | b"nan"
                | b"null"
        ),
        Some(_) => false,
    }
}

/// The number that a cell holds, blanks around it allowed; none for text.
pub fn number(cell: &[u8]) -> Option<f64> {
    /// More digits may not be exact as they are added up.
    const EXACT_DIGITS: usize = 15;
    let cell = cell.trim_ascii();
    let (&first, rest) = cell.split_first()?;
    let digits = if matches!(first, b'-' | b'+') { rest } else { cell };
    let lead = *digits.first()?;
    let whole = digits.iter().all(u8::is_ascii_digit);
    if whole && digits.len() <= EXACT_DIGITS {
        let value = digits.iter().fold(0_i64, |value, digit| value * 10 + i64::from(digit - b'0'));
        let value = value as f64;
        return Some(if first == b'-' { -value } else { value });
    }
    if !lead.is_ascii_digit() && lead != b'.' {
        let infinite =
            ["inf", "infinity", "infty"].iter().any(|word| digits.eq_ignore_ascii_case(word.as_bytes()));
        return infinite.then_some(if first == b'-' { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    let text = std::str::from_utf8(cell).ok()?;
    if whole {
        let wide: i128 = text.parse().ok()?;
        if wide < i128::from(i64::MIN) || wide > i128::from(u64::MAX) {
            return None;
        }
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cell: &str, expected: Cell) {
        assert_eq!(Cell::of(cell.as_bytes()), expected, "{cell:?}");
    }

    #[test]
    fn cells_mean_what_they_mean_to_pandas() {
        for missing in
            ["", "NA", "NaN", "nan", "null", "NULL", "None", "N/A", "n/a", "#N/A", "<NA>", "-1.#IND"]
        {
            check(missing, Cell::Missing);
        }
        for (cell, value) in [
            ("0", 0.0),
            ("-7", -7.0),
            ("+3", 3.0),
            (" 1", 1.0),
            ("2 ", 2.0),
            (".5", 0.5),
            ("1.", 1.0),
            ("1e5", 1e5),
            ("1E+3", 1000.0),
            ("123456789012345678", 123_456_789_012_345_678.0),
            ("18446744073709551615", 18_446_744_073_709_551_615.0),
            ("1e400", f64::INFINITY),
            ("-Inf", f64::NEG_INFINITY),
            ("Infinity", f64::INFINITY),
        ] {
            check(cell, Cell::Number(value));
        }
        for text in [
            "NAN",
            "Na",
            "none",
            "NA ",
            " ",
            "1_0",
            "0x10",
            "1e",
            "1 2",
            "-",
            "+",
            ".",
            "5d",
            "12:30",
            "1,000",
            "é",
            "99999999999999999999",
            "+-1",
            "2026-11-20",
            "\u{a0}1",
        ] {
            check(text, Cell::Text);
        }
        check("TRUE", Cell::Truth(true));
        check("false", Cell::Truth(false));
    }
}
