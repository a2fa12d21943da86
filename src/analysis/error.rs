//! Why a table could not be analysed, and why a chart could not be drawn. No recovery here: callers decide.

use std::io;
use std::time::Duration;

/// Why a table was not analysed. Names and cells of the file appear escaped and cut.
#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    /// The system could not read the file.
    #[error("the file cannot be read")]
    Read(#[from] io::Error),
    /// The file is over [`crate::Limits::file_bytes`].
    #[error("the file has {bytes} bytes, at most {limit} are analysed")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The most that is read.
        limit: u64,
    },
    /// A zero byte: a picture, a spreadsheet or an archive under a wrong name.
    #[error("the file is no text: byte {at} is zero; save the table as CSV")]
    NotText {
        /// Position in the file, from 0.
        at: u64,
    },
    /// Neither of the encodings fits.
    #[error("line {line}: byte {at} of the file is neither UTF-8 nor GBK")]
    Encoding {
        /// Line of the file, from 1.
        line: u64,
        /// Position in the file, from 0.
        at: u64,
    },
    /// Nothing but empty lines, or nothing at all.
    #[error("the file is empty: its first line must name the columns")]
    NoHeader,
    /// A header and nothing below it.
    #[error("there are no rows below the header")]
    NoRows,
    /// A line that does not fit the table.
    #[error("line {line}: {what}")]
    Line {
        /// Line of the file at which the row begins, from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A cell that cannot be taken.
    #[error("line {line}, column {column} ({name}): {what}")]
    Cell {
        /// Line of the file at which the row begins, from 1.
        line: u64,
        /// Number of the column, from 1.
        column: usize,
        /// Name of the column, escaped and cut.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// It took longer than [`crate::Limits::time`].
    #[error("the analysis was given up after {} s", .after.as_secs())]
    TooSlow {
        /// The limit.
        after: Duration,
    },
    /// Whoever watched the analysis did not want it any more.
    #[error("the analysis was stopped")]
    Stopped,
    /// The file changed between two readings.
    #[error("the file changed while it was read")]
    Changed,
}

/// Why a drawing did not become a picture.
#[derive(Debug, thiserror::Error)]
pub enum DrawError {
    /// Pictures need a font; SVG does not.
    #[error(
        "no font was found to write on pictures with; install one of Debian's packages fonts-noto-cjk, \
         fonts-wqy-zenhei (both with Chinese) or fonts-dejavu-core"
    )]
    NoFont,
    /// The font that was asked for cannot be used.
    #[error("the font {path} cannot be used: {reason}")]
    BadFont {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The backend failed.
    #[error("the chart cannot be drawn: {0}")]
    Backend(String),
    /// The picture does not get as small as it must be.
    #[error("the chart does not fit into {limit} bytes")]
    TooLarge {
        /// The most it may have, bytes.
        limit: usize,
    },
}
