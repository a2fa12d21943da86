//! What a node is made of, and why it may not start.

use std::sync::Arc;

use meerkat_base::{Clock, FaceRecogniser, PersonDetector, Shutdown};
use meerkat_notify::Channel;
use meerkat_settings::Settings;
use meerkat_store::evidence::SpoolSigning;
use meerkat_store::{BootId, DataFolder, LinkKey, Store, StoreError};

use crate::detectors::Pool;
use crate::dialects::DialectError;
use crate::dialects::desk::DeskParts;
use crate::faces::Gallery;
use crate::notices::Notices;
use crate::session::DoorError;
use crate::storage::DeletionSuspended;

/// Opens the database again after a failure of the archivist.
pub type ReopenStore = Arc<dyn Fn() -> Result<Store, StoreError> + Send + Sync>;

/// What a node is made of.
pub struct NodeParts {
    /// The checked settings.
    pub settings: Arc<Settings>,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// The signal to finish.
    pub shutdown: Shutdown,
    /// This run of the node.
    pub boot: BootId,
    /// The data folder.
    pub folder: Arc<DataFolder>,
    /// The open database.
    pub store: Store,
    /// Opens it again.
    pub reopen: ReopenStore,
    /// Why nothing at all may be deleted at present, if that is so.
    pub suspended: DeletionSuspended,
    /// Person detectors.
    pub person: Pool<dyn PersonDetector>,
    /// Face recognisers.
    pub face: Pool<dyn FaceRecogniser>,
    /// Who is enrolled.
    pub gallery: Arc<dyn Gallery>,
    /// What the desk is made with.
    pub desk: DeskParts,
    /// Channels by which people are told.
    pub channels: Vec<Arc<dyn Channel>>,
    /// What parts of the node have noticed about it; those from before its start are in it already.
    pub notices: Notices,
    /// How recordings are signed, if they are.
    pub signing: Option<SpoolSigning>,
    /// Signs links to clips.
    pub link_key: LinkKey,
    /// Called once when too many threads hang for the node to go on.
    pub on_lost: Box<dyn FnOnce() + Send>,
}

/// The node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A listener cannot be opened.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// The data folder cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A dialect cannot be opened.
    #[error(transparent)]
    Dialect(#[from] DialectError),
    /// A setting is refused by what it is for.
    #[error("{0}")]
    Setting(String),
    /// The system gives no thread or socket.
    #[error("the system refused: {0}")]
    System(#[from] std::io::Error),
}
