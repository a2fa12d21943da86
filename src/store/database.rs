//! Opens the database of a data folder: one writer under a lock, any number of readers. The questions
//! themselves stand in the files of what they are about.

use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::ops::Deref;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use meerkat_base::WallTime;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::capture;
use crate::check::{Checked, Depth};
use crate::error::{Result, StoreError};
use crate::fault::{self, DiskOp};
use crate::files::{Durability, Folder};
use crate::migrate::{self, Found, STEPS};
use crate::{backup, check, swap};

/// Name of the database in its folder.
pub const DATABASE: &str = "meerkat.db";
const WAL: &str = "meerkat.db-wal";
const LOCK: &str = "meerkat.lock";
/// How long a connection waits for another one that is writing.
const BUSY: Duration = Duration::from_secs(5);
const CACHED_STATEMENTS: usize = 64;
/// Memory for pages per connection, in KiB.
const CACHE_KIB: i64 = 16 * 1024;
/// Pages in the log after which a commit takes them into the database: 16 MiB. With the 1,000 of SQLite one commit in
/// about seventy has to wait for that.
const CHECKPOINT_PAGES: i64 = 4_000;
/// How long the end waits for readers, so that the log can be emptied.
const LAST_WAIT: Duration = Duration::from_millis(100);
/// Time that a start spends at most on looking at pages after an unclean end; the nightly copy looks at all of them.
const START_CHECK: Duration = Duration::from_millis(400);

/// How a [`Store`] is opened.
#[derive(Debug, Clone, Copy)]
pub struct StoreOptions {
    /// What a commit survives.
    pub durability: Durability,
    /// Whether the database is copied before its schema changes.
    pub backup_before_migration: bool,
    /// The present, for the names of copies and of what is set aside.
    pub now: WallTime,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { durability: Durability::default(), backup_before_migration: true, now: WallTime(0) }
    }
}

/// A read-only connection, for the HTTP side and the command line. Sees every commit of the writer.
#[derive(Debug)]
pub struct StoreReader {
    pub(crate) connection: Connection,
    pub(crate) folder: PathBuf,
    /// Device and number of the file, to notice that another one took its place.
    file: Option<(u64, u64)>,
}

/// Keeps other processes from writing to a data folder. Clones hold the same lock; it is free when the last is gone.
#[derive(Debug, Clone)]
pub struct DataLock {
    folder: PathBuf,
    _file: Arc<File>,
    suspect: Arc<AtomicBool>,
    checked_partly: Arc<AtomicBool>,
}

impl DataLock {
    /// Takes the lock; makes the folder (0700) if it is missing.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while somebody else holds it.
    pub fn take(data_dir: &Path) -> Result<Self> {
        let root = Folder::root(data_dir)?;
        let file = Arc::new(take_lock(&root)?);
        Ok(Self {
            folder: root.path().to_path_buf(),
            _file: file,
            suspect: Arc::default(),
            checked_partly: Arc::default(),
        })
    }

    /// As [`DataLock::take`], for those who only look: makes nothing, and a medium that cannot be written can be
    /// looked at too.
    ///
    /// # Errors
    /// As [`DataLock::take`]; those of the disk when there is no data folder.
    pub fn take_to_look(data_dir: &Path) -> Result<Self> {
        let root = Folder::existing(data_dir)?;
        let file = match take_lock(&root) {
            Err(StoreError::Io { path, source }) if cannot_be_written(&source) => {
                let file = root.read(LOCK).map_err(|_| StoreError::Io { path, source })?;
                lock_file(&root, &file)?;
                file
            }
            taken => taken?,
        };
        Ok(Self {
            folder: root.path().to_path_buf(),
            _file: Arc::new(file),
            suspect: Arc::default(),
            checked_partly: Arc::default(),
        })
    }

    /// The data folder, absolute.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Says that the database seems to be damaged.
    pub fn suspect(&self) {
        self.suspect.store(true, Ordering::Release);
    }

    /// Whether the database seems to be damaged.
    pub fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Acquire)
    }

    /// Whether the database was opened after an unclean end without a look at all of its pages.
    pub fn is_checked_partly(&self) -> bool {
        self.checked_partly.load(Ordering::Acquire)
    }

    /// All of the database was looked at, or it was made anew.
    pub(crate) fn cleared(&self) {
        self.suspect.store(false, Ordering::Release);
    }
}

/// The one writer of a data folder. Whatever a [`StoreReader`] can be asked, this can be asked too.
/// Every call blocks; keep it on a thread of its own.
#[derive(Debug)]
pub struct Store {
    reader: StoreReader,
    root: Folder,
    durability: Durability,
    lock: DataLock,
}

impl Drop for Store {
    /// Empties the log: by a log that holds something the next start knows that the end was not orderly, and looks at
    /// pages. SQLite does it by itself only for the last connection, and readers may be open for longer than the writer.
    fn drop(&mut self) {
        let connection = &self.reader.connection;
        // What may be damaged stays as it is, log and all, and so does what no longer lies where it was opened.
        if self.is_suspect() || !self.is_current() {
            let _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
            return;
        }
        let emptied = connection
            .busy_timeout(LAST_WAIT)
            .and_then(|()| connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(())));
        if let Err(error) = emptied {
            tracing::debug!(%error, "the log of the database is not emptied");
        }
    }
}

impl Deref for Store {
    type Target = StoreReader;
    fn deref(&self) -> &StoreReader {
        &self.reader
    }
}

impl Store {
    /// Opens the data folder for writing; makes folder (0700) and database (0600) if they are missing
    /// and brings the schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another process (or another `Store`) has the folder open,
    /// [`StoreError::NotADatabase`] and [`StoreError::WrongSchema`] for a file that is left alone.
    pub fn open(data_dir: &Path, options: StoreOptions) -> Result<Self> {
        let lock = DataLock::take(data_dir)?;
        Self::open_under(&lock, options)
    }

    /// As [`Store::open`], under a lock that is held already: how a node opens its database again when the thread
    /// that had it open was lost.
    ///
    /// # Errors
    /// As [`Store::open`], but for [`StoreError::Locked`].
    pub fn open_under(lock: &DataLock, options: StoreOptions) -> Result<Self> {
        Self::open_checked(lock, options, Some(START_CHECK))
    }

    /// Opens the database and looks at its pages: after an unclean end for at most `limit`, without a limit always and
    /// at all of them.
    pub(crate) fn open_checked(
        lock: &DataLock,
        options: StoreOptions,
        limit: Option<Duration>,
    ) -> Result<Self> {
        let root = Folder::root(&lock.folder)?;
        swap::finish(&root)?;
        let path = root.path().join(DATABASE);
        // An orderly end empties the log.
        let unclean = std::fs::symlink_metadata(root.path().join(WAL)).is_ok_and(|log| log.len() > 0);
        if !root.has(DATABASE) && has_evidence(&root)? {
            return Err(StoreError::Damaged { path, reason: "it is gone".to_owned() });
        }
        match root.create_new(DATABASE) {
            Ok(_) | Err(StoreError::Exists { .. }) => {}
            Err(e) => return Err(e),
        }
        // From here on nobody but SQLite may open the file: closing any descriptor of it drops the
        // POSIX locks that SQLite holds in this process.
        let mut connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let prepared =
            prepare(&mut connection, &root, options, (unclean || limit.is_none()).then_some(limit));
        if let Err(error) = prepared {
            if !error.is_damage() {
                return Err(error);
            }
            // What is damaged stays as it is, log and all.
            let _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
            return Err(error.into_damage(&path));
        }
        if options.durability.syncs() {
            root.sync()?;
        }
        let folder = root.path().to_path_buf();
        let mut store = Self {
            reader: StoreReader { connection, folder, file: identity(&path) },
            root,
            durability: options.durability,
            lock: lock.clone(),
        };
        let suspended = store.deletion_suspended().map_err(|error| {
            store.suspect();
            error.into_damage(&path)
        })?;
        if suspended.is_none()
            && let Err(error) = store.finish_faces()
        {
            if error.is_damage() {
                store.suspect();
                return Err(error.into_damage(&path));
            }
            // What is to go is marked, and nobody sees it any more.
            tracing::warn!(%error, "what is to be removed of faces is removed later");
        }
        Ok(store)
    }

    /// Says that the database seems to be damaged: whoever opens it next looks at all of it.
    pub fn suspect(&self) {
        self.lock.suspect();
    }

    /// Whether somebody said so.
    pub fn is_suspect(&self) -> bool {
        self.lock.is_suspect()
    }

    /// What a commit survives.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    pub(crate) fn root(&self) -> &Folder {
        &self.root
    }

    /// Begins a commit that takes the write lock at once, so that it cannot fail half-way for being busy.
    pub(crate) fn begin(&mut self) -> Result<Transaction<'_>> {
        fault::point(DiskOp::Commit)
            .map_err(|error| StoreError::io(self.root.path().join(DATABASE), error))?;
        Ok(self.reader.connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
    }

    #[cfg(test)]
    pub(crate) fn raw(&self) -> &Connection {
        &self.reader.connection
    }
}

impl StoreReader {
    /// Opens the database of a data folder for reading, whether or not a node is running.
    ///
    /// # Errors
    /// [`StoreError::Io`] (not found) when no node has made it yet, [`StoreError::WrongSchema`] when it
    /// is of another version.
    pub fn open(data_dir: &Path) -> Result<Self> {
        let folder = data_dir.canonicalize().map_err(|e| StoreError::io(data_dir, e))?;
        let path = folder.join(DATABASE);
        std::fs::symlink_metadata(&path).map_err(|e| StoreError::io(&path, e))?;
        let connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let known = u32::try_from(STEPS.len()).expect("there are fewer than 2^32 steps");
        let file = identity(&path);
        match migrate::look(&connection, &path).map_err(|error| error.into_damage(&path))? {
            Found::Version(found) if found == known => {
                connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
                Ok(Self { connection, folder, file })
            }
            Found::Version(found) => Err(StoreError::WrongSchema { path, found, known }),
            Found::Empty => Err(StoreError::WrongSchema { path, found: 0, known }),
        }
    }

    /// Whether the database that it reads is still the one of the data folder: a rebuilt or restored one takes its
    /// place under the same name.
    pub fn is_current(&self) -> bool {
        self.file.is_some() && self.file == identity(&self.folder.join(DATABASE))
    }

    /// The data folder, absolute. Paths in rows are relative to it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Everything between opening the file and using it.
fn prepare(
    connection: &mut Connection,
    root: &Folder,
    options: StoreOptions,
    look_at_pages: Option<Option<Duration>>,
) -> Result<Checked> {
    let path = root.path().join(DATABASE);
    let (found, missing) = migrate::missing(connection, &path, STEPS)?;
    if found == Found::Empty && has_evidence(root)? {
        return Err(StoreError::Damaged { path, reason: "it is empty".to_owned() });
    }
    make_private(root)?;
    let synchronous = match options.durability {
        Durability::Process => "NORMAL",
        Durability::Power => "FULL",
    };
    let journal: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if journal != "wal" {
        return Err(StoreError::Refused(format!(
            "{}: this file system cannot hold a database with a write-ahead log",
            path.display()
        )));
    }
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    let checked = match look_at_pages {
        Some(limit) => check::pages(connection, &path, Depth::Pages(limit))?,
        None => Checked::Whole,
    };
    if checked == Checked::Partly {
        tracing::info!(
            "the database was looked at in part after an unclean end; the next copy looks at all of it"
        );
    }
    if let Found::Version(version) = found
        && missing > 0
        && options.backup_before_migration
    {
        backup::before_migration(connection, root, version, options.now).map_err(|error| match error {
            StoreError::NoRoom { .. } => {
                StoreError::NoMigrationBackup { path: path.clone(), source: Box::new(error) }
            }
            error if error.is_disk_full() => {
                StoreError::NoMigrationBackup { path: path.clone(), source: Box::new(error) }
            }
            error => error,
        })?;
    }
    migrate::forward(connection, &path, STEPS)?;
    check::at_start(connection, &path)?;
    Ok(checked)
}

/// Whether a data folder holds what a lost database could be made anew from. Looks no further than the first find.
fn has_evidence(root: &Folder) -> Result<bool> {
    let copies = root.has(backup::FOLDER)
        && root.sub(backup::FOLDER)?.entries()?.iter().any(|entry| entry.name.ends_with(".db"));
    Ok(copies || capture::has_sidecar(root)?)
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

pub(crate) fn connect(path: &Path, mode: OpenFlags) -> Result<Connection> {
    let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(connection)
}

/// A database restored from a copy may be open to all, and its log takes the mode from it.
fn make_private(root: &Folder) -> Result<()> {
    for file in [DATABASE, "meerkat.db-wal", "meerkat.db-shm"] {
        let path = root.path().join(file);
        if std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
                .map_err(|e| StoreError::io(&path, e))?;
        }
    }
    Ok(())
}

/// The lock belongs to the open file and goes with the process, however that ends. The file itself
/// stays: removing it would let two processes lock two different files of the same name.
fn take_lock(root: &Folder) -> Result<File> {
    let path = root.path().join(LOCK);
    let mut file = root.append(LOCK)?;
    lock_file(root, &file)?;
    let program = std::env::args_os().next().map(PathBuf::from);
    let program = program.as_deref().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let note = format!("process {} ({program})\n", std::process::id());
    // Only a courtesy to people: a full disk must not keep the node from starting and making room.
    let noted = file.set_len(0).and_then(|()| file.write_all(note.as_bytes()));
    if let Err(error) = noted {
        tracing::warn!(%error, path = %path.display(), "cannot note who holds the lock");
    }
    Ok(file)
}

fn lock_file(root: &Folder, file: &File) -> Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            Err(StoreError::Locked { folder: root.path().to_path_buf(), holder: holder(root) })
        }
        Err(TryLockError::Error(e)) => Err(StoreError::io(root.path().join(LOCK), e)),
    }
}

fn cannot_be_written(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem)
}

/// Who wrote his name into the lock file; only for people.
fn holder(root: &Folder) -> String {
    let mut note = Vec::new();
    let read = root.read(LOCK).and_then(|file| {
        file.take(64).read_to_end(&mut note).map_err(|e| StoreError::io(root.path().join(LOCK), e))
    });
    match (read, note.trim_ascii()) {
        (Ok(_), text) if !text.is_empty() => meerkat_base::text::shown(text),
        _ => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{alert, event, store};

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn everything_is_private() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("data");
        for durability in [Durability::Process, Durability::Power] {
            let mut store = Store::open(&folder, StoreOptions { durability, ..Default::default() }).unwrap();
            store.start_event(&event(1), &[]).unwrap();
            assert_eq!(mode(&folder), 0o700);
            for file in ["meerkat.db", "meerkat.db-wal", "meerkat.db-shm", "meerkat.lock"] {
                assert_eq!(mode(&folder.join(file)), 0o600, "{file}");
            }
        }
    }

    #[test]
    fn a_database_that_others_could_read_is_closed_to_them() {
        let (folder, store) = store();
        drop(store);
        let path = folder.path().join(DATABASE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let mut store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        store.start_event(&event(1), &[]).unwrap();
        assert_eq!((mode(&path), mode(&folder.path().join("meerkat.db-wal"))), (0o600, 0o600));
    }

    #[test]
    fn durability_reaches_sqlite() {
        let temp = tempfile::tempdir().unwrap();
        for (durability, expected) in [(Durability::Process, 1), (Durability::Power, 2)] {
            let store = Store::open(temp.path(), StoreOptions { durability, ..Default::default() }).unwrap();
            let pragma = |name: &str| -> String {
                store
                    .raw()
                    .query_row(&format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}"), [], |r| r.get(0))
                    .unwrap()
            };
            assert_eq!(pragma("synchronous"), expected.to_string());
            assert_eq!((pragma("journal_mode").as_str(), pragma("foreign_keys").as_str()), ("wal", "1"));
        }
    }

    #[test]
    fn two_writers_are_one_too_many() {
        let (folder, store) = store();
        let refused = Store::open(folder.path(), StoreOptions::default()).unwrap_err();
        let StoreError::Locked { holder, .. } = &refused else { panic!("{refused}") };
        assert!(holder.contains(&std::process::id().to_string()), "{refused}");
        drop(store);
        Store::open(folder.path(), StoreOptions::default()).unwrap();
    }

    #[test]
    fn readers_see_commits_and_cannot_write() {
        let (folder, mut store) = store();
        let reader = StoreReader::open(folder.path()).unwrap();
        store.start_event(&event(1), &[alert("wecom")]).unwrap();
        assert_eq!(reader.event_count().unwrap(), 1);
        assert_eq!(reader.outbox_waiting().unwrap(), 1);
        assert!(reader.connection.execute("DELETE FROM events", []).is_err());
        drop(store);
        assert_eq!(reader.event_count().unwrap(), 1);
        assert_eq!(StoreReader::open(folder.path()).unwrap().event_count().unwrap(), 1, "without a writer");
    }

    #[test]
    fn an_orderly_end_empties_the_log_also_while_somebody_reads() {
        let (folder, mut store) = store();
        let reader = StoreReader::open(folder.path()).unwrap();
        store.start_event(&event(1), &[]).unwrap();
        assert_eq!(reader.event_count().unwrap(), 1);
        let log = || std::fs::metadata(folder.path().join(WAL)).map_or(0, |log| log.len());
        assert!(log() > 0, "so far only the log has it");
        drop(store);
        assert_eq!((log(), reader.event_count().unwrap()), (0, 1));

        let mut suspected = Store::open(folder.path(), StoreOptions::default()).unwrap();
        suspected.start_event(&event(2), &[]).unwrap();
        suspected.suspect();
        drop(reader);
        drop(suspected);
        assert!(log() > 0, "it is looked at as it was left");

        // Another one took its place: nothing is written into what it was.
        let mut replaced = Store::open(folder.path(), StoreOptions::default()).unwrap();
        replaced.start_event(&event(3), &[]).unwrap();
        let (database, away) = (folder.path().join(DATABASE), folder.path().join("away"));
        std::fs::rename(&database, &away).unwrap();
        let before = std::fs::read(&away).unwrap();
        drop(replaced);
        assert!(std::fs::read(&away).unwrap() == before);
    }

    #[test]
    fn a_reader_makes_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let missing = StoreReader::open(temp.path()).unwrap_err();
        assert!(matches!(missing, StoreError::Io { .. }), "{missing}");
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        for contents in [&b"dear diary"[..], &[b'x'; 100_000], b"SQLite format 3\0but not really"] {
            let temp = tempfile::tempdir().unwrap();
            let path = temp.path().join(DATABASE);
            std::fs::write(&path, contents).unwrap();
            let refused = Store::open(temp.path(), StoreOptions::default()).unwrap_err();
            assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
            assert!(matches!(StoreReader::open(temp.path()), Err(StoreError::Damaged { .. })));
            assert_eq!(std::fs::read(&path).unwrap(), contents);
        }
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join(DATABASE);
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (x INTEGER)").unwrap();
        let contents = std::fs::read(&path).unwrap();
        let refused = Store::open(temp.path(), StoreOptions::default()).unwrap_err();
        assert!(matches!(refused, StoreError::NotADatabase { .. }), "{refused}");
        assert!(matches!(StoreReader::open(temp.path()), Err(StoreError::NotADatabase { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), contents);
    }

    #[test]
    fn another_version_is_refused_by_reader_and_writer() {
        let (folder, store) = store();
        store.raw().pragma_update(None, "user_version", 99).unwrap();
        store.raw().execute("UPDATE notes SET text = '99' WHERE name = 'schema'", []).unwrap();
        drop(store);
        let refused = Store::open(folder.path(), StoreOptions::default()).unwrap_err();
        assert!(matches!(refused, StoreError::WrongSchema { found: 99, .. }), "{refused}");
        assert!(matches!(StoreReader::open(folder.path()), Err(StoreError::WrongSchema { found: 99, .. })));
    }

    #[test]
    fn a_link_in_place_of_the_database_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let target = outside.path().join("other.db");
        std::os::unix::fs::symlink(&target, temp.path().join(DATABASE)).unwrap();
        assert!(Store::open(temp.path(), StoreOptions::default()).is_err());
        assert!(!target.exists());
        // The folder itself may be a link: where the data lies is the administrator's choice.
        let alias = outside.path().join("alias");
        let real = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(real.path(), &alias).unwrap();
        Store::open(&alias, StoreOptions::default()).unwrap();
        assert!(real.path().join(DATABASE).exists());
    }
}
