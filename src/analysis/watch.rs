//! Watches an analysis from the side: how far it is, whether it is still wanted, and whether it takes too long.

use meerkat_base::{Clock, MonoTime};

use crate::error::AnalysisError;
use crate::limits::Limits;

/// How often a file is read: for its encoding, for the types of its columns, for the figures.
const READINGS: u64 = 3;

/// How far an analysis is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that were read, over all readings of the file.
    pub done_bytes: u64,
    /// Bytes that will have been read at the end.
    pub of_bytes: u64,
}

/// Asked again and again while an analysis runs; `false` stops it.
pub type OnProgress<'a> = &'a mut dyn FnMut(Progress) -> bool;

/// What the parts of an analysis report to.
pub(crate) struct Watcher<'a> {
    limits: &'a Limits,
    time: Option<(&'a dyn Clock, MonoTime)>,
    on_progress: Option<OnProgress<'a>>,
    file_bytes: u64,
    /// Bytes of the readings that are over.
    before_bytes: u64,
}

impl<'a> Watcher<'a> {
    pub fn new(limits: &'a Limits, clock: &'a dyn Clock, on_progress: OnProgress<'a>) -> Self {
        let time = Some((clock, clock.mono()));
        Self { limits, time, on_progress: Some(on_progress), file_bytes: 0, before_bytes: 0 }
    }

    /// Nobody looks and no time passes.
    #[cfg(test)]
    pub fn untimed(limits: &'a Limits) -> Self {
        Self { limits, time: None, on_progress: None, file_bytes: 0, before_bytes: 0 }
    }

    pub fn limits(&self) -> &'a Limits {
        self.limits
    }

    /// The size of the file is known.
    pub fn begins(&mut self, file_bytes: u64) {
        self.file_bytes = file_bytes;
    }

    /// One reading of the file is over.
    pub fn reading_ends(&mut self) {
        self.before_bytes += self.file_bytes;
    }

    /// So many bytes of this reading are done.
    pub fn step(&mut self, done_bytes: u64) -> Result<(), AnalysisError> {
        if let Some((clock, began)) = self.time
            && clock.mono().since(began) > self.limits.time
        {
            return Err(AnalysisError::TooSlow { after: self.limits.time });
        }
        let done_bytes = self.before_bytes + done_bytes;
        let progress = Progress { done_bytes, of_bytes: self.file_bytes * READINGS };
        let wanted = self.on_progress.as_mut().is_none_or(|on_progress| on_progress(progress));
        if wanted { Ok(()) } else { Err(AnalysisError::Stopped) }
    }
}
