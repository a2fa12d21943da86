//! What can go wrong when something is to outlive the node. No recovery here: callers decide.

use std::io;
use std::path::{Path, PathBuf};

/// The result of everything in this room.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Why something could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// SQLite said no.
    #[error("database: {0}")]
    Database(#[from] rusqlite::Error),
    /// Another program works in the data folder.
    #[error("the data folder {folder} is in use by {holder}")]
    Locked {
        /// The data folder.
        folder: PathBuf,
        /// Who holds it, as far as it is known.
        holder: String,
    },
    /// The file under the database's name is something else; it was left as it is.
    #[error("{path} is not a database of this program; it was left as it is")]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// The database was written by another version of this program.
    #[error(
        "{path} has schema version {found}, this program needs {known}: {}",
        if found > known { "use the newer program" } else { "start the node once, it brings the schema up to date" }
    )]
    WrongSchema {
        /// The database.
        path: PathBuf,
        /// Version found in it.
        found: u32,
        /// Version this program works with.
        known: u32,
    },
    /// The database is damaged or gone while evidence is there. Nothing of it was touched.
    #[error("{path} is damaged: {reason}; `meerkat run` sets it aside and rebuilds it")]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The database is just being looked through or made anew.
    #[error("the database is being checked and, if need be, rebuilt")]
    Rebuilding,
    /// There is not enough room for a copy.
    #[error("{path}: a copy of the database takes {needed} bytes, {free} are free")]
    NoRoom {
        /// Where it was to go.
        path: PathBuf,
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The schema cannot be brought forward because there is no room for the copy that is made before.
    #[error(
        "{path} has to be brought to a newer schema, and a copy of it is made before: {source}. Make room, or set \
         store.backup_before_migration = false"
    )]
    NoMigrationBackup {
        /// The database.
        path: PathBuf,
        /// Why there is no copy.
        source: Box<StoreError>,
    },
    /// The database cannot be opened because there is no room at all, and none that the node may make.
    #[error(
        "{path} cannot be opened because its disk is full: {source}. There is no ballast (any more) that could be given \
         up. Free some megabytes on the disk of the data folder by deleting or moving what is not this program's, or \
         files under capture/ that are not needed, never meerkat.db and what is called like it; then start the node \
         again: it makes more room by itself"
    )]
    NoRoomToOpen {
        /// The database.
        path: PathBuf,
        /// What the disk did not take.
        source: Box<StoreError>,
    },
    /// Something is there already, and nothing is ever overwritten.
    #[error("{path} exists already")]
    Exists {
        /// What exists.
        path: PathBuf,
    },
    /// Where a folder of ours should be stands a link or a file.
    #[error("{path} is not a folder of its own (links are not followed)")]
    NotAFolder {
        /// What was found.
        path: PathBuf,
    },
    /// Another folder lies where the data folder was.
    #[error("{path} is another folder than the one this program was started with")]
    Replaced {
        /// The path of the data folder.
        path: PathBuf,
    },
    /// The sidecar of a clip is not what this program would have written.
    #[error("{path}: {source}")]
    BadSidecar {
        /// The sidecar.
        path: PathBuf,
        /// What is wrong with it.
        source: crate::sidecar::BadSidecar,
    },
    /// What was given does not fit what this room stores; says which rule it breaks.
    #[error("{0}")]
    Refused(String),
    /// An earlier write or sync of this spool failed for good; nothing more can be promised for it.
    #[error("{path}: an earlier write failed, nothing more is appended")]
    Poisoned {
        /// The spool.
        path: PathBuf,
    },
}

impl StoreError {
    /// Adds the path to what the system said.
    pub(crate) fn io(path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self::Io { path: path.as_ref().to_path_buf(), source: source.into() }
    }

    /// Whether a file or folder is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, StoreError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether this can only be damage of the database, or of the disk under it.
    pub fn is_damage(&self) -> bool {
        // SQLITE_IOERR_READ, SQLITE_IOERR_SHORT_READ, SQLITE_IOERR_CORRUPTFS
        const UNREADABLE: [i32; 3] = [266, 522, 8458];
        match self {
            StoreError::Damaged { .. } => true,
            StoreError::Database(rusqlite::Error::SqliteFailure(failure, _)) => match failure.code {
                rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase => true,
                rusqlite::ErrorCode::SystemIoFailure => UNREADABLE.contains(&failure.extended_code),
                _ => false,
            },
            _ => false,
        }
    }

    /// The same as [`StoreError::Damaged`] of this database if it is damage; else unchanged.
    pub(crate) fn into_damage(self, path: &Path) -> Self {
        match self {
            damaged @ StoreError::Damaged { .. } => damaged,
            error if error.is_damage() => {
                StoreError::Damaged { path: path.to_path_buf(), reason: error.to_string() }
            }
            error => error,
        }
    }

    /// Whether the disk itself failed, is gone or cannot be written: what was opened on it may be of no use any more.
    pub fn is_disk_failure(&self) -> bool {
        use rusqlite::ErrorCode::{CannotOpen, ReadOnly, SystemIoFailure};
        // EIO, ENXIO, ENODEV, EROFS, ENOTCONN, ESHUTDOWN, ESTALE, EREMOTEIO
        const FAILED: [i32; 8] = [5, 6, 19, 30, 107, 108, 116, 121];
        match self {
            StoreError::Io { source, .. } => {
                source.raw_os_error().is_some_and(|code| FAILED.contains(&code))
                    || matches!(
                        source.kind(),
                        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::StaleNetworkFileHandle
                    )
            }
            StoreError::Replaced { .. } | StoreError::NotAFolder { .. } => true,
            StoreError::Database(e) => {
                matches!(e.sqlite_error_code(), Some(SystemIoFailure | CannotOpen | ReadOnly))
            }
            _ => false,
        }
    }

    /// Whether it is the disk's fault, for want of room or otherwise, and not that of what was to be stored.
    pub fn is_of_the_disk(&self) -> bool {
        self.is_disk_full() || self.is_disk_failure()
    }

    /// Whether the disk (or the quota, or the file size limit) is used up.
    pub fn is_disk_full(&self) -> bool {
        // SQLITE_IOERR_SHMSIZE: the index of the log cannot grow, which is the first thing that is written when a
        // database is opened.
        const NO_INDEX: i32 = 4874;
        match self {
            StoreError::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
            ),
            StoreError::Database(rusqlite::Error::SqliteFailure(failure, _)) => {
                failure.code == rusqlite::ErrorCode::DiskFull || failure.extended_code == NO_INDEX
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_whose_index_finds_no_room_is_a_full_disk() {
        let of = |code| {
            StoreError::Database(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None))
        };
        let (full, shm_size, read, busy) = (13, 4874, 266, 5);
        assert!(of(full).is_disk_full() && of(shm_size).is_disk_full());
        assert!(!of(read).is_disk_full() && !of(busy).is_disk_full());
        assert!(!of(shm_size).is_damage());
    }
}
