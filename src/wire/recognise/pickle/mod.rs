//! Python pickles of one thing: a one-dimensional numpy array of bytes (`uint8`). Reads what numpy 1 and 2 write with
//! pickle protocols 0 to 5, and what Python 2 writes; writes protocol 0 with the names of numpy 1, which both versions read.
//!
//! A pickle is a program for a machine with a stack. This one does not run it: each opcode that such an array needs is
//! followed, with the few values that it may have, and everything else is refused at the byte where it stands.
//!
//! ```text
//! protocols 0 to 4   _reconstruct(ndarray, (0,), b'b') | state: (1, (n,), dtype('u1'), False, n bytes) | BUILD
//! protocol 5         _frombuffer(n bytes, dtype('u1'), (n,), 'C')
//! before protocol 3  bytes are written as _codecs.encode(text, 'latin1')
//! ```

mod machine;
mod opcodes;
mod write;

pub use machine::read;
pub use write::write;

/// Why a pickle is refused, and at which byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{wrong} at byte {at}")]
pub struct BadPickle {
    /// Offset of the opcode concerned.
    pub at: usize,
    /// What is wrong with it.
    pub wrong: Wrong,
}

/// What can be wrong with a pickle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// It ends in the middle.
    #[error("the pickle is cut off")]
    CutOff,
    /// An opcode that no such array needs.
    #[error("an opcode that no array of bytes needs")]
    Opcode,
    /// An argument that cannot be read, or is not among the few that such an array has.
    #[error("an argument that no array of bytes has")]
    Argument,
    /// A name other than the six.
    #[error("a name that no array of bytes needs")]
    Name,
    /// Values in another order than such an array has.
    #[error("not the structure of an array of bytes")]
    Structure,
    /// More opcodes than such an array has.
    #[error("more opcodes than an array of bytes has")]
    TooLong,
}
