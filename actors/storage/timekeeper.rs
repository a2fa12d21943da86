//! Looks at the clock for the evictor, and notes the time in the data folder as long as the clock is trusted: the next
//! start compares with it.

use std::path::Path;
use std::time::{Duration, Instant};

use meerkat_base::WallTime;
use meerkat_store::StoreError;
use tracing::warn;

use super::clock::{ClockWatch, Clocks, TimeNote, Uptime};
use super::stretches::Stretches;

/// How often the time is noted.
const NOTE: Duration = Duration::from_secs(60);
/// The file with the time.
const TIME_FILE: &str = "meerkat.time";

/// The watch, and what is known of the time.
#[derive(Default)]
pub(super) struct Timekeeper {
    watch: Option<ClockWatch>,
    noted: Option<Instant>,
    /// When the clock was trusted last.
    trusted: Option<(i64, Option<Uptime>)>,
}

/// What a look at the clock found.
pub(super) struct Look {
    /// Something is another than before.
    pub changed: bool,
    /// A person's word made the clock trusted.
    pub confirmed: bool,
    /// Why the clock is not believed.
    pub doubt: Option<String>,
}

impl Timekeeper {
    /// Looks. `limits` are how far a clock may be set and how long a node may be down, `newest` is when the newest event
    /// that is stored began, `confirmed` says that a person trusts the clock.
    pub fn look(
        &mut self,
        data_dir: &Path,
        now: Clocks,
        limits: (Duration, Duration),
        newest: impl FnOnce() -> Option<WallTime>,
        confirmed: bool,
    ) -> Look {
        let path = data_dir.join(TIME_FILE);
        let up = uptime();
        let (first, trusted) = (self.watch.is_none(), &mut self.trusted);
        let watch = self.watch.get_or_insert_with(|| {
            let (note, newest) = (read_note(&path), newest());
            let known = note.as_ref().map(|note| (note.wall, note.uptime.clone()));
            *trusted = known.or_else(|| Some((newest?.0, None)));
            ClockWatch::new(limits, now, up.as_ref(), note.as_ref(), newest)
        });
        let mut changed = watch.look(now) || (first && watch.doubt().is_some());
        let confirmed = confirmed && watch.doubt().is_some();
        if confirmed {
            watch.confirm(now);
            changed = true;
        }
        let doubt = watch.doubt().map(|doubt| doubt.words());
        let mut due = changed | watch.stays_behind(now);
        if doubt.is_none() && (changed || self.noted.is_none_or(|at| at.elapsed() >= NOTE)) {
            self.trusted = Some((now.wall.0, up));
            due = true;
        }
        if let Some((wall, uptime)) = self.trusted.clone().filter(|_| due) {
            self.noted = Some(Instant::now());
            if let Err(problem) =
                write_note(&path, &TimeNote { wall, uptime, behind: watch.behind().clone() })
            {
                warn!(%problem, "the time cannot be noted");
            }
        }
        Look { changed, confirmed, doubt }
    }

    /// When the clock was behind, as far as is known.
    pub fn behind(&self) -> Stretches {
        self.watch.as_ref().map(|watch| watch.behind().clone()).unwrap_or_default()
    }
}

/// When the clock of a data folder's node was behind, as it has noted it.
pub(super) fn behind_in(data_dir: &Path) -> Stretches {
    read_note(&data_dir.join(TIME_FILE)).map(|note| note.behind).unwrap_or_default()
}

fn uptime() -> Option<Uptime> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
    let up = std::fs::read_to_string("/proc/uptime").ok()?;
    let seconds: f64 = up.split_whitespace().next()?.parse().ok()?;
    Some(Uptime { boot, micros: (seconds * 1e6) as i64 })
}

fn read_note(path: &Path) -> Option<TimeNote> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn write_note(path: &Path, note: &TimeNote) -> Result<(), StoreError> {
    let json = serde_json::to_vec(note).unwrap_or_default();
    meerkat_store::replace_file(path, &json)
}
