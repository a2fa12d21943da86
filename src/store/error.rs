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

    /// Whether the disk (or the quota, or the file size limit) is used up.
    pub fn is_disk_full(&self) -> bool {
        match self {
            StoreError::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
            ),
            StoreError::Database(e) => e.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull),
            _ => false,
        }
    }
}
