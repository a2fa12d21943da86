//! Why a model file is refused.

use super::limits::MAX_NAME_BYTES;

/// Why a model file is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file cannot be read as what it is said to be, or contradicts itself.
    #[error("malformed model file: {0}")]
    Malformed(String),
    /// It claims more than a model may have.
    #[error("model file exceeds a limit: {what} is {claimed}, at most {limit} allowed")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much the file claims; saturated where it does not fit.
        claimed: u64,
        /// How much may be.
        limit: u64,
    },
    /// A node contradicts its inputs or its operator's definition.
    #[error("node {node:?} ({operator}): {reason}")]
    Invalid {
        /// The node's name.
        node: String,
        /// What it computes, as the file calls it.
        operator: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is well-formed as far as seen but needs what is not there.
    #[error("node {node:?} ({operator}) is not supported: {reason}")]
    Unsupported {
        /// The node's name.
        node: String,
        /// What it computes, as the file calls it.
        operator: String,
        /// What of it is not supported.
        reason: String,
    },
    /// The size of an input is not known and was not given.
    #[error("input {input:?} has no fixed shape: give {dimensions}")]
    OpenShape {
        /// The input's name.
        input: String,
        /// The dimensions that are not known: their names or positions.
        dimensions: String,
    },
    /// A shape was given for an input that there is not, or one that contradicts the file.
    #[error("shape given for input {input:?}: {reason}")]
    Shape {
        /// The name as it was given.
        input: String,
        /// What is wrong.
        reason: String,
    },
}

impl ImportError {
    pub(super) fn malformed(reason: impl Into<String>) -> Self {
        Self::Malformed(reason.into())
    }

    pub(super) fn too_large(what: &'static str, claimed: usize, limit: usize) -> Self {
        Self::TooLarge { what, claimed: claimed as u64, limit: limit as u64 }
    }
}

/// Refuses more than the limit.
pub(super) fn at_most(what: &'static str, claimed: usize, limit: usize) -> Result<(), ImportError> {
    if claimed > limit {
        return Err(ImportError::too_large(what, claimed, limit));
    }
    Ok(())
}

/// A name out of a file, as short as the limit allows.
pub(super) fn name(text: &str) -> Result<&str, ImportError> {
    at_most("length of a name", text.len(), MAX_NAME_BYTES)?;
    Ok(text)
}

/// The node that is being imported, for messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    pub node: &'a str,
    pub operator: &'a str,
}

impl At<'_> {
    pub fn invalid(&self, reason: impl Into<String>) -> ImportError {
        ImportError::Invalid {
            node: self.node.to_owned(),
            operator: self.operator.escape_debug().to_string(),
            reason: reason.into(),
        }
    }

    pub fn unsupported(&self, reason: impl Into<String>) -> ImportError {
        ImportError::Unsupported {
            node: self.node.to_owned(),
            operator: self.operator.escape_debug().to_string(),
            reason: reason.into(),
        }
    }
}
