//! What the desk needs of whoever analyses CSV files: blocking work, done by one thread at a time beside everything else.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meerkat_wire::desk::Chart;
use tokio::sync::Semaphore;

/// Analyses that wait for the one that runs.
const MOST_WAITING: usize = 8;
/// The analysis yields to everything else.
const NICENESS: i32 = 19;
/// What a thread gets beyond the limit of the analysis itself, before nobody waits for it any more.
const GRACE: Duration = Duration::from_secs(5);

/// Every picture of an analysis, as JPEG.
#[derive(Debug, Clone, Default)]
pub struct Charts {
    /// Correlations between the numeric columns.
    pub heat_map: Bytes,
    /// Skewness of the numeric columns.
    pub bars: Bytes,
    /// Missing values per column.
    pub pie: Bytes,
    /// Columns against each other.
    pub scatter: Bytes,
    /// One per column of text.
    pub clouds: Vec<Bytes>,
}

impl Charts {
    /// One of the four.
    pub fn chart(&self, chart: Chart) -> &Bytes {
        match chart {
            Chart::HeatMap => &self.heat_map,
            Chart::Bars => &self.bars,
            Chart::Pie => &self.pie,
            Chart::Scatter => &self.scatter,
        }
    }
}

/// Whoever looks through a CSV file and draws what is in it. Blocks; keeps to the limit of time by itself.
pub trait Analyst: Send + Sync {
    /// All charts of a file, read from its beginning.
    ///
    /// # Errors
    /// In words for the client: what is wrong with the file, or that it took too long.
    fn analyse(&self, csv: File, limit: Duration) -> Result<Charts, String>;
}

/// Runs one analysis at a time, on a thread of its own.
pub struct Analyses {
    analyst: Arc<dyn Analyst>,
    limit: Duration,
    one: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Analyses {
    /// One at a time, each at most so long.
    pub fn new(analyst: Arc<dyn Analyst>, limit: Duration) -> Self {
        let (one, waiting) = (Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(1 + MOST_WAITING)));
        Self { analyst, limit, one, waiting }
    }

    /// Analyses a file when it is its turn.
    ///
    /// # Errors
    /// In words for the client.
    pub async fn run(&self, csv: File) -> Result<Charts, String> {
        let busy = || "too many analyses are waiting".to_owned();
        let _place = Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| busy())?;
        let turn = tokio::time::timeout(self.limit, Arc::clone(&self.one).acquire_owned()).await;
        let turn = turn.map_err(|_| busy())?.map_err(|_| busy())?;
        let (analyst, limit) = (Arc::clone(&self.analyst), self.limit);
        let (tell, told) = tokio::sync::oneshot::channel();
        let thread = std::thread::Builder::new().name("analysis".to_owned()).spawn(move || {
            // The turn is over when the thread is, whoever still waits for it.
            let _turn = turn;
            let _ = rustix::process::setpriority_process(None, NICENESS);
            let _ = tell.send(analyst.analyse(csv, limit));
        });
        thread.map_err(|error| format!("the system gives no thread: {error}"))?;
        match tokio::time::timeout(self.limit.saturating_add(GRACE), told).await {
            Ok(Ok(charts)) => charts,
            // The channel closed without a word: the thread panicked.
            Ok(Err(_)) => Err("the analysis failed".to_owned()),
            Err(_) => Err("the analysis took too long".to_owned()),
        }
    }
}
