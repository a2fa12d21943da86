//! What outlives the node: the database (events, alerts, people), picture files, the spools of running
//! recordings, and where clips go. Everything here blocks and belongs on a thread of its own; times come
//! in as arguments, nothing reads a clock.
#![forbid(unsafe_code)]

// The invariants are shared with the fuzz targets, which see this crate from outside.
#[cfg(test)]
extern crate self as meerkat_store;

pub mod error;
pub mod fault;
pub mod confine;
pub mod files;
mod sql;

pub mod database;
mod migrate;

pub mod backup;
pub mod check;
pub mod opening;
pub mod rebuild;
mod removed;
pub mod saved;
mod swap;

pub mod attendance;
pub mod clips;
pub mod embedding;
pub mod events;
mod face_files;
pub mod faces;
pub mod inventory;
pub mod ledger;
pub mod negatives;
pub mod orphans;
pub mod outbox;
pub mod reports;
pub mod snoozes;
pub mod suspension;
pub mod unknown;

pub mod keep;
pub mod retention;

pub mod capture;
pub mod picture;
pub mod publish;
pub mod sidecar;

pub mod evidence;
pub mod spool;

pub mod links;
pub mod relay;

pub mod ballast;
pub mod data_folder;
pub mod disk;
pub mod evict;
pub mod images;
pub mod resting;
pub mod text_log;
pub mod unclaimed;

pub mod verify;

#[cfg(test)]
mod testing;

pub use attendance::{CheckIn, CheckInRow};
pub use capture::{CaptureKind, clean_temporaries};

pub use clips::{ClipRow, ClipState, SnapshotRow};
pub use data_folder::{DataFolder, replace_file};
pub use database::{DataLock, Store, StoreOptions, StoreReader};
pub use embedding::Embedding;
pub use error::{Result, StoreError};
pub use events::{EventCursor, EventQuery, EventRow};
pub use faces::{Consent, Enrolling, FacePicture, Forgotten, Person};
pub use files::{BootId, Durability};
pub use keep::KeepTarget;
pub use links::{LinkKey, LinkRefused};
pub use opening::Opener;
pub use orphans::{Fate, Orphan};
pub use outbox::{
    Backlog, ChannelBacklog, ClipWish, DigestCount, Head, NewAlert, OpenDigest, Order, OutboxCounts,
    OutboxQuery, OutboxRow, OutboxState, PRUNE_BATCH, Queue, Requeued,
};
pub use picture::PictureStore;
pub use publish::{CaptureFiles, PROOF_ENDING, PendingFile, PublishedFile, STRIP_ENDING};
pub use rebuild::Rebuilt;
pub use relay::{Incoming, Outgoing, RELAY_CLIENTS, RelayLimits, RelayQueue, RelayRefused, RelayShelf};
pub use reports::{Merge, Report, ToldAlert};
pub use sidecar::{EventFacts, Sidecar};
pub use snoozes::Snooze;
pub use spool::{
    FoundSpool, SpoolDone, SpoolEnd, SpoolFrame, SpoolItem, SpoolKind, SpoolMeta, SpoolReader, SpoolWriter,
};
pub use suspension::Suspension;
pub use text_log::TextLog;
pub use unknown::{
    KeptUnknown, NewUnknown, Tidied, UnknownGroup, UnknownLimits, UnknownPicture, UnknownTotals,
};
