//! The webhook against a receiver that verifies it.
