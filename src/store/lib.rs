//! What outlives the node: SQLite, spools, picture files.
