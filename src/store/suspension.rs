//! Why nothing may be deleted, and until when: a note in the database that outlives the node. Whoever deletes asks
//! here first; who deletes what is decided elsewhere.

use meerkat_base::WallTime;
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;

use crate::database::{Store, StoreReader};
use crate::error::Result;

const NOTE: &str = "deletion_suspended";

/// Deletion is suspended until a person confirms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Suspension {
    /// Why, in words for a person.
    pub reason: String,
    /// Since when.
    pub since: WallTime,
}

impl StoreReader {
    /// Why nothing may be deleted, by age or for room: the database was rebuilt and may not know everything that is to
    /// be kept. None in the ordinary case. Cheap enough to be asked before every deletion.
    pub fn deletion_suspended(&self) -> Result<Option<Suspension>> {
        suspended(&self.connection)
    }
}

impl Store {
    /// Suspends deletion until [`Store::confirm`]. A suspension that is there already stays as it is.
    pub fn suspend_deletion(&mut self, reason: &str, now: WallTime) -> Result<()> {
        suspend(&self.connection, reason, now)
    }

    /// A person has looked at the rebuilt database: deletion goes on. Returns what was suspended, if anything.
    pub fn confirm(&mut self) -> Result<Option<Suspension>> {
        let suspended = self.deletion_suspended()?;
        self.connection.execute("DELETE FROM notes WHERE name = ?1", [NOTE])?;
        Ok(suspended)
    }
}

/// As [`StoreReader::deletion_suspended`], of any database.
pub(crate) fn suspended(connection: &Connection) -> Result<Option<Suspension>> {
    let mut statement = connection.prepare_cached("SELECT text, at FROM notes WHERE name = ?1")?;
    let found = statement
        .query_row([NOTE], |row| Ok(Suspension { reason: row.get(0)?, since: WallTime(row.get(1)?) }));
    Ok(found.optional()?)
}

pub(crate) fn suspend(connection: &Connection, reason: &str, now: WallTime) -> Result<()> {
    connection.execute(
        "INSERT INTO notes (name, text, at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        params![NOTE, reason, now.0],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::StoreOptions;
    use crate::testing::store;

    #[test]
    fn a_suspension_outlives_the_node_until_somebody_confirms() {
        let (folder, mut store) = store();
        assert_eq!(store.deletion_suspended().unwrap(), None);
        assert_eq!(store.confirm().unwrap(), None);
        store.suspend_deletion("first", WallTime(5)).unwrap();
        store.suspend_deletion("second", WallTime(6)).unwrap();
        drop(store);
        let mut store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        let expected = Some(Suspension { reason: "first".into(), since: WallTime(5) });
        assert_eq!(StoreReader::open(folder.path()).unwrap().deletion_suspended().unwrap(), expected);
        assert_eq!(store.confirm().unwrap(), expected);
        assert_eq!(store.deletion_suspended().unwrap(), None);
    }
}
