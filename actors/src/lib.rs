//! Everything that moves.
