//! Looks after the database: a copy every night, the look through it that comes with the copy, and whether something is
//! wrong with it. Repairs nothing itself.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use meerkat_actors::node::NodeHandle;
use meerkat_base::{Clock, EventKind, Notice, NoticeSink, WallTime, metric};
use meerkat_notify::Zone;
use meerkat_store::suspension::Suspension;
use meerkat_store::{Opener, StoreError, StoreReader, backup};
use metrics::{counter, gauge};
use tracing::{error, info, warn};

use super::reading::Reading;
use crate::settings::{Settings, TimeOfDay};

/// How often it is looked whether something is to be done.
const LOOK: Duration = Duration::from_secs(2);
/// Age of the newest copy at which a start does not wait for the night, in microseconds: a day and an hour.
const OLD_MICROS: i64 = 25 * 3_600 * 1_000_000;
/// How long such a start waits, so that the node comes first.
const SOON_MICROS: i64 = 5 * 60 * 1_000_000;
/// How often long work is logged.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// What is wrong with the database, for status and `/readyz`. Clones share it.
#[derive(Clone)]
pub(super) struct StoreState(Arc<Shared>);

struct Shared {
    opener: Arc<Opener>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    suspended: Option<Suspension>,
    copy_failed: Option<String>,
}

impl StoreState {
    pub fn new(opener: Arc<Opener>) -> Self {
        Self(Arc::new(Shared { opener, known: Mutex::default() }))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that a person should know.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.0.opener.is_repairing() {
            problems.push(StoreError::Rebuilding.to_string());
        }
        let known = self.known();
        if let Some(suspended) = &known.suspended {
            problems.push(format!(
                "the database was made anew ({}): nothing is deleted until somebody has looked at it and says `meerkat \
                 store confirm`",
                suspended.reason
            ));
        }
        if let Some(reason) = &known.copy_failed {
            problems.push(format!("there is no nightly copy of the database: {reason}"));
        }
        problems
    }
}

/// A thread of its own: a copy takes a while.
pub(super) struct Nightly {
    stopping: Arc<AtomicBool>,
    thread: Thread,
}

impl Nightly {
    pub fn start(
        settings: &Settings,
        state: StoreState,
        node: NodeHandle,
        clock: Arc<dyn Clock>,
        notices: Arc<dyn NoticeSink>,
    ) -> anyhow::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let mut keeper = Keeper {
            reading: Reading::watchful(&settings.data_dir, state.0.opener.lock().clone()),
            zone: Zone::parse(&settings.notify.time_zone)?,
            at: settings.store.backup_at,
            keep: settings.store.backups_keep,
            state,
            node,
            clock,
            notices,
            stopping: Arc::clone(&stopping),
            looked: false,
        };
        for result in ["ok", "error"] {
            counter!(metric::STORE_BACKUPS, "result" => result).increment(0);
        }
        gauge!(metric::STORE_SOUND).set(1.0);
        let data_dir = settings.data_dir.clone();
        let thread = std::thread::Builder::new()
            .name("nightly".to_owned())
            .spawn(move || keeper.run(&data_dir))?
            .thread()
            .clone();
        Ok(Self { stopping, thread })
    }

    pub fn stop(self) {
        self.stopping.store(true, Ordering::Release);
        self.thread.unpark();
        // Not joined: a copy that is being made is given up with the process.
    }
}

struct Keeper {
    reading: Reading,
    zone: Zone,
    at: Option<TimeOfDay>,
    keep: usize,
    state: StoreState,
    node: NodeHandle,
    clock: Arc<dyn Clock>,
    notices: Arc<dyn NoticeSink>,
    stopping: Arc<AtomicBool>,
    /// It is known whether deletion is suspended.
    looked: bool,
}

impl Keeper {
    fn run(&mut self, data_dir: &Path) {
        let mut due = self.first_due(data_dir);
        while !self.stopping.load(Ordering::Acquire) {
            self.look();
            if due.is_some_and(|due| self.clock.wall() >= due) {
                self.copy();
                due = self.next_due();
            }
            std::thread::park_timeout(LOOK);
        }
    }

    fn next_due(&self) -> Option<WallTime> {
        self.at.map(|at| self.zone.next_daily(self.clock.wall(), at.hour, at.minute))
    }

    fn first_due(&self, data_dir: &Path) -> Option<WallTime> {
        let next = self.next_due()?;
        let newest = backup::newest_nightly(data_dir).unwrap_or_else(|error| {
            warn!(%error, "the copies of the database cannot be listed");
            None
        });
        gauge!(metric::STORE_LAST_BACKUP).set(newest.map_or(0.0, WallTime::as_secs_f64));
        let now = self.clock.wall();
        let is_old = newest.is_none_or(|at| now.0.saturating_sub(at.0) > OLD_MICROS)
            || self.state.0.opener.lock().is_checked_partly();
        Some(if is_old { next.min(now.offset_micros(SOON_MICROS)) } else { next })
    }

    /// Whether deletion is suspended, which the node's people are told of for as long as it is.
    fn look(&mut self) {
        let found = match self.reading.ask(StoreReader::deletion_suspended) {
            Ok(found) => found,
            Err(error) => {
                if !self.state.0.opener.is_repairing() {
                    warn!(%error, "it is unknown whether deletion is suspended");
                }
                self.give_up_if_suspect();
                return;
            }
        };
        self.give_up_if_suspect();
        let before = std::mem::replace(&mut self.state.known().suspended, found.clone());
        // The first time in any case: an earlier run may have said that it is so.
        let first = !std::mem::replace(&mut self.looked, true);
        if first || before != found {
            let detail = match &found {
                Some(suspended) => suspended.reason.clone(),
                None => "somebody looked at the database: deletion goes on".to_owned(),
            };
            self.raise("database", found.is_some(), detail);
        }
    }

    fn copy(&self) {
        let mut said = Instant::now();
        let mut report = |what: &str, done: u64, of: u64| {
            if said.elapsed() >= SAY_EVERY {
                said = Instant::now();
                info!(done, of, "{what}");
            }
        };
        let now = self.clock.wall();
        let is_suspect = self.state.0.opener.lock().is_suspect();
        let keep = kept(self.keep, self.node.storage().believes_clock(), is_suspect);
        match self.reading.ask(|store| store.nightly_backup(now, keep, &mut report)) {
            Ok(file) => {
                info!(copy = %file.path.display(), bytes = file.bytes, "the database was copied, the copy is in order");
                counter!(metric::STORE_BACKUPS, "result" => "ok").increment(1);
                gauge!(metric::STORE_LAST_BACKUP).set(now.as_secs_f64());
                self.state.known().copy_failed = None;
                // In any case: it may have been an earlier run that said that it failed.
                self.raise("backup", false, "the database was copied".to_owned());
            }
            Err(failed) => {
                error!(error = %failed, "no nightly copy of the database");
                counter!(metric::STORE_BACKUPS, "result" => "error").increment(1);
                if failed.is_damage() {
                    self.state.0.opener.lock().suspect();
                }
                self.give_up_if_suspect();
                self.raise("backup", true, format!("no nightly copy of the database: {failed}"));
                self.state.known().copy_failed = Some(failed.to_string());
            }
        }
    }

    /// Somebody came across damage: the archivist gives the database up, and who opens it next looks at all of it.
    fn give_up_if_suspect(&self) {
        let opener = &self.state.0.opener;
        let is_suspect = opener.lock().is_suspect();
        gauge!(metric::STORE_SOUND).set(if is_suspect { 0.0 } else { 1.0 });
        if !is_suspect || opener.is_repairing() {
            return;
        }
        if let Err(refused) = self.node.archivist().ask_blocking(|_| Ok(())) {
            warn!(error = %refused, "the archivist does not hear that the database seems to be damaged");
        }
    }

    fn raise(&self, subject: &str, holds: bool, detail: String) {
        let kind = EventKind::StoreDamaged;
        self.notices.raise(Notice { kind, camera: None, subject: subject.to_owned(), holds, detail });
    }
}

/// How many copies stay. None goes while the clock is in doubt (the nights it counts are not real ones), nor while the
/// database may be damaged: the earlier ones may be needed.
fn kept(wanted: usize, believes_clock: bool, is_suspect: bool) -> usize {
    if believes_clock && !is_suspect { wanted } else { backup::KEEP_ALL }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_copy_goes_by_a_clock_in_doubt_or_for_one_of_a_database_in_doubt() {
        assert_eq!(kept(7, true, false), 7);
        assert_eq!([kept(7, false, false), kept(7, true, true)], [backup::KEEP_ALL; 2]);
    }
}
