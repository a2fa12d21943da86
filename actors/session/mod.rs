//! One connection of the frame protocol: the door lets it in, the actor runs it, the component talks.

mod buffer;
mod component;
mod deliver;
mod door;
mod identity;
mod limits;
mod ration;
mod shell;

pub use component::{Session, SessionEnd, SessionTools};
pub use door::{Door, DoorError, Sockets};
pub(crate) use door::{listen, prepare};
pub(crate) use limits::counted_address;
pub use limits::{Admitted, Connections};
pub use ration::LogRation;
pub use shell::{IoGroup, SessionActor};

#[cfg(test)]
mod tests;
