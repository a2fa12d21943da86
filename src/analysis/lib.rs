//! Analysis of tables: a CSV file is read as a stream, in memory that does not grow with it, and becomes figures as
//! pandas gives them, charts and word clouds. The node's own events are counted here too. Blocks: it belongs on a thread
//! of its own. Opens no socket; the only files it opens by itself are fonts and the table it is pointed at.
//!
//! ```no_run
//! use meerkat_analysis::{Analysis, Limits};
//!
//! let analysis = Analysis::of_file("table.csv".as_ref(), &Limits::default())?;
//! std::fs::write("heat_map.jpg", analysis.heat_map().jpeg()?)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod error;
pub mod limits;
pub mod watch;

mod read;
mod stats;
mod words;

pub mod table;
pub mod summary;

pub mod chart;

pub mod events;

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use meerkat_base::SystemClock;

pub use chart::{CLIENT_JPEG_BYTES, Drawing, use_font};
pub use error::{AnalysisError, DrawError};
pub use events::EventCounts;
pub use limits::Limits;
pub use summary::Summary;
pub use watch::{OnProgress, Progress};

use table::Table;
use watch::Watcher;

/// A table that was analysed.
#[derive(Debug)]
pub struct Analysis {
    table: Table,
}

impl Analysis {
    /// Analyses the CSV file at a path.
    pub fn of_file(path: &Path, limits: &Limits) -> Result<Self, AnalysisError> {
        Self::of_csv(File::open(path)?, limits)
    }

    /// Analyses a CSV file that can be read several times, such as an open file or a `Cursor` over bytes.
    pub fn of_csv<R: Read + Seek>(reader: R, limits: &Limits) -> Result<Self, AnalysisError> {
        Self::watched(reader, limits, &mut |_| true)
    }

    /// The same, and tells how far it is; the analysis stops when `on_progress` answers `false`.
    pub fn watched<R: Read + Seek>(
        reader: R,
        limits: &Limits,
        on_progress: OnProgress<'_>,
    ) -> Result<Self, AnalysisError> {
        let clock = SystemClock::new();
        let table = table::read(reader, &mut Watcher::new(limits, &clock, on_progress))?;
        Ok(Self { table })
    }

    /// All figures.
    pub fn summary(&self) -> Summary {
        Summary::of(&self.table)
    }

    /// The correlations of the numeric columns, of the values as read.
    pub fn heat_map(&self) -> Drawing {
        chart::correlations(&self.table)
    }

    /// The columns whose skewness, of the values as read, is beyond 0.5 either way.
    pub fn skewness(&self) -> Drawing {
        chart::skewness(&self.table)
    }

    /// The missing values of each column.
    pub fn missing(&self) -> Drawing {
        chart::missing(&self.table)
    }

    /// The first numeric columns against each other, prepared (missing numbers filled, skewed columns transformed), from a
    /// sample of the rows.
    pub fn pair_grid(&self) -> Drawing {
        chart::pair_grid(&self.table)
    }

    /// A word cloud for each column of text, as far as the limit goes.
    pub fn word_clouds(&self) -> Vec<Drawing> {
        chart::word_clouds(&self.table)
    }
}
