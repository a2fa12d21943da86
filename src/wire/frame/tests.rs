//! Tests of the whole parser; those of its parts stand beside them.

#[path = "../fixtures/pictures.rs"]
pub(crate) mod pictures;

#[path = "../../../tests/fuzz/invariants.rs"]
mod invariants;

mod bounds;
mod files;
mod properties;
mod transcripts;
