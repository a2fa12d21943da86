//! Which weight files there are, where they lie, and whether they are whole. Downloads nothing: that is the command
//! line's work, with the room `outbound`.

mod error;
mod manifest;

mod digest;
mod folder;
mod incoming;

pub mod tensors;
pub mod torch;

#[cfg(test)]
mod testing;

pub use error::{Damage, WeightsError};
pub use folder::{
    Depth, FOLDER_VARIABLE, FileState, Folder, Format, NetworkFiles, NetworkState, PullLock, folder_path,
};
pub use incoming::{Incoming, check_room};
pub use manifest::{FileEntry, Manifest, Network};

/// What the manifest knows of a network: what it is for, its licence and its digests.
pub fn describe(name: &str) -> Option<&'static Network> {
    Manifest::builtin().network(name)
}
