//! Small conversions between the words of `base` and the columns of SQLite.

use meerkat_base::EventPhase;
use rusqlite::Row;

use crate::error::{Result, StoreError};

/// A count as SQLite can hold it; saturates.
pub(crate) fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Back from [`count`]; what can only be damage becomes 0.
pub(crate) fn from_count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// The word for a phase in rows.
pub(crate) fn phase_name(phase: EventPhase) -> &'static str {
    match phase {
        EventPhase::Started => "started",
        EventPhase::Updated => "updated",
        EventPhase::Ended => "ended",
    }
}

/// Reads a text column as something else.
pub(crate) fn parsed<T>(row: &Row<'_>, column: usize, parse: impl FnOnce(&str) -> Option<T>) -> Result<T> {
    let text: String = row.get(column)?;
    parse(&text).ok_or_else(|| {
        let name = row.as_ref().column_name(column).unwrap_or("?");
        let shown = meerkat_base::text::shown(text.as_bytes());
        StoreError::Refused(format!("column {name} of the database holds {shown}"))
    })
}

/// Refuses a path that is not plainly below the data folder.
pub(crate) fn check_relative(path: &str) -> Result<()> {
    let plain = !path.is_empty()
        && path.len() <= 1024
        && path.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'));
    if plain {
        Ok(())
    } else {
        Err(StoreError::Refused("a stored path must lie below the data folder".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::check_relative;

    #[test]
    fn only_plain_relative_paths_are_stored() {
        assert!(check_relative("capture/clip/door/2026-11-20/a.mp4").is_ok());
        for bad in ["", "/etc/passwd", "a/../b", "..", "a//b", "./a", "a\0b"] {
            assert!(check_relative(bad).is_err(), "{bad:?}");
        }
    }
}
