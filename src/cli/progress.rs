//! Shows how far long work has come, on a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// One line that changes; nothing where nobody looks.
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        bar.set_style(ProgressStyle::default_spinner());
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    /// What is done, how much of it, of how much (0: unknown).
    pub fn show(&mut self, what: &str, done: u64, of: u64) {
        self.0.set_message(match (done, of) {
            (0, 0) => what.to_owned(),
            (done, 0) => format!("{what}: {done}"),
            (done, of) => format!("{what}: {}%", done.saturating_mul(100) / of),
        });
    }

    pub fn end(self) {
        self.0.finish_and_clear();
    }
}
