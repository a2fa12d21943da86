//! Looks whether a database can be relied on: at its start what is cheap, after an unclean end as much as a time limit
//! allows, on demand all of it. What is done about damage is decided elsewhere.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use rusqlite::Connection;

use crate::database::{DATABASE, StoreReader};
use crate::error::{Result, StoreError};
use crate::migrate::{self, STEPS};

/// Problems that one check names at most.
const MAX_PROBLEMS: usize = 5;

/// How far a check came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// All of it was looked at and is in order.
    Whole,
    /// The time was over; what was looked at is in order.
    Partly,
}

/// How much of a database is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Every page, as long as the time limit allows.
    Pages(Option<Duration>),
    /// Every page, and every index against its table.
    Everything,
}

/// The schema and both ends of every table and index: what takes milliseconds, however large the database is.
pub(crate) fn at_start(connection: &Connection, path: &Path) -> Result<()> {
    schema(connection, path)?;
    let mut tables = connection
        .prepare("SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type = 'table'")?;
    let tables: Vec<(String, bool)> =
        tables.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    for (table, without_rowid) in tables {
        if without_rowid {
            touch(connection, &format!("SELECT * FROM \"{table}\" LIMIT 1"))?;
        } else {
            touch(connection, &format!("SELECT * FROM \"{table}\" ORDER BY rowid LIMIT 1"))?;
            touch(connection, &format!("SELECT * FROM \"{table}\" ORDER BY rowid DESC LIMIT 1"))?;
        }
        let mut indexes = connection.prepare(&format!(
            "SELECT i.name, (SELECT c.name FROM pragma_index_info(i.name) AS c WHERE c.seqno = 0)
             FROM pragma_index_list('{table}') AS i WHERE NOT i.partial"
        ))?;
        let indexes: Vec<(String, Option<String>)> =
            indexes.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
        for (index, column) in indexes {
            // An index of an expression has no column to ask for; the check of all pages looks at it.
            let Some(column) = column else { continue };
            // The index of the primary key of a table without row numbers is the table.
            if without_rowid && index.starts_with("sqlite_autoindex") {
                continue;
            }
            for order in ["", "DESC"] {
                touch(
                    connection,
                    &format!(
                        "SELECT \"{column}\" FROM \"{table}\" INDEXED BY \"{index}\" ORDER BY \"{column}\" {order} LIMIT 1"
                    ),
                )?;
            }
        }
    }
    Ok(())
}

fn touch(connection: &Connection, question: &str) -> Result<()> {
    let mut statement = connection.prepare(question)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        for column in 0..row.as_ref().column_count() {
            row.get_ref(column)?;
        }
    }
    Ok(())
}

/// The tables, indexes and triggers with their columns, as the steps make them.
fn schema(connection: &Connection, path: &Path) -> Result<()> {
    let shape = |connection: &Connection| -> Result<Vec<(String, String, String)>> {
        let mut statement = connection.prepare(
            "SELECT type, name, ifnull((SELECT group_concat(c.name || ' ' || c.type) FROM pragma_table_info(s.name) AS c), '')
             FROM sqlite_schema AS s WHERE name NOT LIKE 'sqlite_%' ORDER BY type, name",
        )?;
        Ok(statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<Result<_, _>>()?)
    };
    let mut expected = Connection::open_in_memory()?;
    migrate::forward(&mut expected, path, STEPS)?;
    let (expected, found) = (shape(&expected)?, shape(connection)?);
    match expected.iter().find(|thing| !found.contains(thing)) {
        None => Ok(()),
        Some((kind, name, _)) => Err(StoreError::Damaged {
            path: path.to_path_buf(),
            reason: format!("the {kind} {name} is not as it should be"),
        }),
    }
}

impl StoreReader {
    /// Looks through all of the database; takes seconds for every gigabyte.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] with the first problems found.
    pub fn check(&self) -> Result<Checked> {
        pages(&self.connection, &self.folder.join(DATABASE), Depth::Everything)
    }
}

/// Looks at every page. On a connection that nothing else is asked of meanwhile.
///
/// # Errors
/// [`StoreError::Damaged`] with the first problems found.
pub(crate) fn pages(connection: &Connection, path: &Path, depth: Depth) -> Result<Checked> {
    let (pragma, limit) = match depth {
        Depth::Pages(limit) => ("quick_check", limit),
        Depth::Everything => ("integrity_check", None),
    };
    let ask = || -> Result<Vec<String>, rusqlite::Error> {
        let mut statement = connection.prepare(&format!("PRAGMA {pragma}({MAX_PROBLEMS})"))?;
        statement.query_map([], |row| row.get(0))?.collect()
    };
    let answer = match limit {
        None => ask(),
        Some(limit) => {
            let interrupt = connection.get_interrupt_handle();
            std::thread::scope(|scope| {
                let (done, waiting) = mpsc::channel::<()>();
                scope.spawn(move || {
                    if waiting.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
                        interrupt.interrupt();
                    }
                });
                let answer = ask();
                drop(done);
                answer
            })
        }
    };
    match answer {
        Ok(problems) if problems == ["ok"] => Ok(Checked::Whole),
        Ok(problems) => Err(StoreError::Damaged { path: path.to_path_buf(), reason: brief(&problems) }),
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted) => {
            Ok(Checked::Partly)
        }
        Err(error) => Err(error.into()),
    }
}

fn brief(problems: &[String]) -> String {
    let text = problems.join("; ").replace(['\n', '\r'], " ");
    text.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::testing::{alert, event, store};

    #[test]
    fn a_sound_database_is_sound() {
        let (_folder, mut store) = store();
        store.start_event(&event(1), &[alert("wecom")]).unwrap();
        let path = Path::new("x.db");
        at_start(store.raw(), path).unwrap();
        for depth in [Depth::Pages(None), Depth::Pages(Some(Duration::from_secs(60))), Depth::Everything] {
            assert_eq!(pages(store.raw(), path, depth).unwrap(), Checked::Whole);
        }
    }

    #[test]
    fn a_schema_that_is_not_ours_is_noticed() {
        let (_folder, store) = store();
        store.raw().execute_batch("DROP INDEX events_by_time").unwrap();
        let error = at_start(store.raw(), Path::new("x.db")).unwrap_err();
        assert!(error.to_string().contains("events_by_time"), "{error}");
        assert!(error.is_damage());
    }

    #[test]
    fn pages_that_were_overwritten_are_noticed_and_a_check_ends_in_time() {
        let (folder, mut store) = store();
        for n in 0..200 {
            store.start_event(&event(n), &[alert("wecom")]).unwrap();
        }
        drop(store);
        let path = folder.path().join("meerkat.db");
        let connection = Connection::open(&path).unwrap();
        let hurried = pages(&connection, &path, Depth::Pages(Some(Duration::ZERO))).unwrap();
        assert!(matches!(hurried, Checked::Whole | Checked::Partly));
        drop(connection);
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        for page in 4..20 {
            file.write_all_at(&[0x5a; 64], page * 4096).unwrap();
        }
        drop(file);
        let connection = Connection::open(&path).unwrap();
        let error = pages(&connection, &path, Depth::Pages(None)).unwrap_err();
        assert!(error.is_damage(), "{error}");
    }
}
