//! Brings the schema of the database forward, step by step, each in one commit. Never backward.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use crate::error::{Result, StoreError};

/// The steps; the schema version (`user_version`) is how many of them were taken. A step that was
/// released is never edited: a change is a new step.
#[rustfmt::skip]
pub(crate) const STEPS: &[&str] = &[
    include_str!("schema/001.sql"),
    include_str!("schema/002_rules.sql"),
    include_str!("schema/003_clip_checks.sql"),
];

/// "Mkat" in ASCII: tells our databases from those of other programs (`PRAGMA application_id`).
pub(crate) const APPLICATION_ID: i32 = 0x4d6b_6174;

/// What a database file turns out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing in it yet.
    Empty,
    /// One of ours with this schema version.
    Version(u32),
}

/// Looks at a database without changing it.
pub(crate) fn look(connection: &Connection, path: &Path) -> Result<Found> {
    let foreign = || StoreError::NotADatabase { path: path.to_path_buf() };
    let number = |pragma: &str| -> Result<i32> {
        connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0)).map_err(|e| {
            if e.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) {
                foreign()
            } else {
                e.into()
            }
        })
    };
    let version = number("user_version")?;
    let application = number("application_id")?;
    if application == APPLICATION_ID {
        return u32::try_from(version).map(Found::Version).map_err(|_| foreign());
    }
    let things: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application == 0 && version == 0 && things == 0 { Ok(Found::Empty) } else { Err(foreign()) }
}

/// Takes every step that is missing. Returns how many were taken.
pub(crate) fn forward(connection: &mut Connection, path: &Path, steps: &[&str]) -> Result<usize> {
    let known = u32::try_from(steps.len()).expect("there are fewer than 2^32 steps");
    let have = match look(connection, path)? {
        Found::Empty => 0,
        Found::Version(found) if found > known => {
            return Err(StoreError::WrongSchema { path: path.to_path_buf(), found, known });
        }
        Found::Version(found) => found as usize,
    };
    for (done, step) in steps.iter().enumerate().skip(have) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", i64::try_from(done + 1).expect("few steps"))?;
        transaction.commit()?;
    }
    Ok(steps.len() - have)
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
