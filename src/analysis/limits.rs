//! How much of a table is taken: every bound of the analysis with its default.

use std::time::Duration;

/// The bounds of an analysis. Beyond the first group a file is refused with an error that says where; beyond the second
/// the analysis goes on with less, and says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest file, bytes.
    pub file_bytes: u64,
    /// Most columns.
    pub columns: usize,
    /// Most rows below the header.
    pub rows: u64,
    /// Longest cell, bytes after decoding to UTF-8.
    pub cell_bytes: usize,
    /// Longest row, bytes after decoding to UTF-8.
    pub row_bytes: usize,
    /// How long it may take.
    pub time: Duration,

    /// Distinct numbers that are counted for the modes of all columns with missing numbers together.
    pub mode_values: usize,
    /// Rows of the sample that the pair grid shows.
    pub sample_rows: usize,
    /// Columns in the pair grid.
    pub pair_columns: usize,
    /// Text that is cut into words for all columns together, bytes; repeated cells count once.
    pub words_bytes: usize,
    /// Word clouds; further columns of text have none.
    pub clouds: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: 200 << 20,
            columns: 512,
            rows: 20_000_000,
            cell_bytes: 64 << 10,
            row_bytes: 1 << 20,
            time: Duration::from_secs(120),
            mode_values: 1 << 20,
            sample_rows: 1000,
            pair_columns: 12,
            words_bytes: 32 << 20,
            clouds: 16,
        }
    }
}
