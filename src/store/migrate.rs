//! Brings the schema of the database forward, step by step, each in one commit. Never backward.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use crate::error::{Result, StoreError};

/// The steps; the schema version (`user_version`) is how many of them were taken. A step that was
/// released is never edited: a change is a new step.
#[rustfmt::skip]
pub(crate) const STEPS: &[&str] = &[
    include_str!("schema/001.sql"),
    include_str!("schema/002_rules.sql"),
    include_str!("schema/003_clip_checks.sql"),
    include_str!("schema/004_notes.sql"),
    include_str!("schema/005_event_people.sql"),
    include_str!("schema/006_outbox_parts.sql"),
    include_str!("schema/007_visits.sql"),
    include_str!("schema/008_retention.sql"),
    include_str!("schema/009_unknown_faces.sql"),
    include_str!("schema/010_outbox_shares.sql"),
    include_str!("schema/011_open_events.sql"),
];

/// "Mkat" in ASCII: tells our databases from those of other programs (`PRAGMA application_id`).
pub(crate) const APPLICATION_ID: i32 = 0x4d6b_6174;

/// The note that repeats the version.
const SCHEMA_NOTE: &str = "schema";

/// What a database file turns out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing in it yet.
    Empty,
    /// One of ours with this schema version.
    Version(u32),
}

/// Looks at a database without changing it.
///
/// # Errors
/// [`StoreError::NotADatabase`] for that of another program, [`StoreError::Damaged`] for one of ours whose marks
/// contradict each other or whose header is none.
pub(crate) fn look(connection: &Connection, path: &Path) -> Result<Found> {
    let foreign = || StoreError::NotADatabase { path: path.to_path_buf() };
    let damaged = |reason: String| StoreError::Damaged { path: path.to_path_buf(), reason };
    let number = |pragma: &str| -> Result<i32> {
        Ok(connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0))?)
    };
    let has = |table: &str| -> Result<bool> {
        Ok(connection.query_row(
            "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1)",
            [table],
            |row| row.get(0),
        )?)
    };
    let version = number("user_version")?;
    let application = number("application_id")?;
    let things: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application != APPLICATION_ID {
        if application == 0 && version == 0 && things == 0 {
            return Ok(Found::Empty);
        }
        let ours = has("events")? && has("sightings")? && has("outbox")? && has("clips")?;
        return Err(if ours { damaged("its mark of this program is gone".to_owned()) } else { foreign() });
    }
    let version = u32::try_from(version).map_err(|_| damaged(format!("schema version {version}")))?;
    if has("notes")? {
        // Written with the version, so that neither alone can lead us astray.
        let noted: Option<i64> = connection
            .query_row("SELECT CAST(text AS INTEGER) FROM notes WHERE name = ?1", [SCHEMA_NOTE], |row| {
                row.get(0)
            })
            .optional()?;
        if noted.is_some_and(|noted| noted != i64::from(version)) {
            return Err(damaged(format!("its header says schema version {version}, its notes another")));
        }
    }
    Ok(Found::Version(version))
}

/// How many steps are missing. An error when there are more than this program knows.
pub(crate) fn missing(connection: &Connection, path: &Path, steps: &[&str]) -> Result<(Found, usize)> {
    let known = u32::try_from(steps.len()).expect("there are fewer than 2^32 steps");
    let found = look(connection, path)?;
    match found {
        Found::Empty => Ok((found, steps.len())),
        Found::Version(version) if version > known => {
            Err(StoreError::WrongSchema { path: path.to_path_buf(), found: version, known })
        }
        Found::Version(version) => Ok((found, steps.len() - version as usize)),
    }
}

/// Takes every step that is missing. Returns how many were taken.
pub(crate) fn forward(connection: &mut Connection, path: &Path, steps: &[&str]) -> Result<usize> {
    let (_, missing) = missing(connection, path, steps)?;
    for (done, step) in steps.iter().enumerate().skip(steps.len() - missing) {
        let version = i64::try_from(done + 1).expect("few steps");
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", version)?;
        let notes: bool = transaction.query_row(
            "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'notes')",
            [],
            |row| row.get(0),
        )?;
        if notes {
            transaction.execute(
                "INSERT INTO notes (name, text, at) VALUES (?1, ?2, 0)
                 ON CONFLICT (name) DO UPDATE SET text = excluded.text",
                params![SCHEMA_NOTE, version.to_string()],
            )?;
        }
        transaction.commit()?;
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[&str] = &["CREATE TABLE a (x INTEGER);", "ALTER TABLE a ADD COLUMN y INTEGER DEFAULT 7;"];

    fn path() -> &'static Path {
        Path::new("test.db")
    }

    #[test]
    fn steps_are_taken_once_and_keep_what_was_there() {
        let mut db = Connection::open_in_memory().unwrap();
        assert_eq!(forward(&mut db, path(), &TWO[..1]).unwrap(), 1);
        db.execute("INSERT INTO a VALUES (1)", []).unwrap();
        assert_eq!(forward(&mut db, path(), TWO).unwrap(), 1);
        assert_eq!(forward(&mut db, path(), TWO).unwrap(), 0);
        let row: (i64, i64) = db.query_row("SELECT x, y FROM a", [], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
        assert_eq!(row, (1, 7));
        assert_eq!(look(&db, path()).unwrap(), Found::Version(2));
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let mut db = Connection::open_in_memory().unwrap();
        forward(&mut db, path(), TWO).unwrap();
        let refused = forward(&mut db, path(), &TWO[..1]).unwrap_err();
        assert!(matches!(refused, StoreError::WrongSchema { found: 2, known: 1, .. }));
        assert!(refused.to_string().contains("use the newer program"), "{refused}");
    }

    #[test]
    fn a_step_that_fails_leaves_the_version_before_it() {
        let mut db = Connection::open_in_memory().unwrap();
        let broken = [TWO[0], "CREATE TABLE b (x INTEGER); CREATE TABLE a (x INTEGER);"];
        assert!(forward(&mut db, path(), &broken).is_err());
        assert_eq!(look(&db, path()).unwrap(), Found::Version(1));
        let b: i64 =
            db.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'b'", [], |r| r.get(0)).unwrap();
        assert_eq!(b, 0);
    }

    #[test]
    fn another_programs_database_is_not_touched() {
        let mut db = Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE theirs (x INTEGER);").unwrap();
        assert!(matches!(forward(&mut db, path(), TWO), Err(StoreError::NotADatabase { .. })));
    }
}
