//! The one HTTP client of the node.
