//! What takes long at the database of a running node: looking through all of it, and making a backup. Each kind has one
//! thread while it is at it, with a connection of its own, so that nobody who writes waits for it. A backup is made in
//! the node's own folder only, where whoever ordered it has to fetch it.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use meerkat_base::Clock;
use meerkat_store::check::Checked;
use meerkat_store::{DataLock, StoreError, saved};
use meerkat_web::{Begun, LongWork, StorageError};
use serde_json::{Value, json};
use tracing::{info, warn};

use super::reading::Reading;

/// A backup that nobody asked about for so long is removed: it holds faces and keys.
const FETCH_WITHIN: Duration = Duration::from_secs(600);

/// Both kinds of long work. Clones share them.
#[derive(Clone)]
pub(super) struct LongWorks {
    data_dir: PathBuf,
    lock: DataLock,
    clock: Arc<dyn Clock>,
    check: Arc<Bench>,
    backup: Arc<Bench>,
    fetch_within: Duration,
}

#[derive(Default)]
struct Bench {
    job: Mutex<Job>,
    /// A backup was fetched, or somebody asked about it.
    changed: Condvar,
}

#[derive(Default)]
struct Job {
    /// Which order it is, counted from 1.
    number: u64,
    state: State,
    asked: Option<Instant>,
}

#[derive(Default)]
enum State {
    /// Nothing was ordered yet, or what was made is gone.
    #[default]
    Idle,
    Running {
        doing: String,
        done: u64,
        of: u64,
    },
    Done(Value),
    Failed(String),
}

impl Bench {
    fn job(&self) -> MutexGuard<'_, Job> {
        self.job.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, doing: &str, done: u64, of: u64) {
        self.job().state = State::Running { doing: doing.to_owned(), done, of };
    }
}

/// Ends the work also when its thread panics.
struct AtWork(Arc<Bench>);

impl AtWork {
    fn end(self, outcome: Result<Value, StoreError>) {
        let mut job = self.0.job();
        job.asked = Some(Instant::now());
        job.state = match outcome {
            Ok(value) => State::Done(value),
            Err(error) => State::Failed(error.to_string()),
        };
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        let mut job = self.0.job();
        if matches!(job.state, State::Running { .. }) {
            job.state = State::Failed("it failed on the way".to_owned());
        }
    }
}

impl LongWorks {
    /// Removes what an earlier run of the node left of a backup.
    pub fn new(lock: DataLock, clock: Arc<dyn Clock>) -> Self {
        let data_dir = lock.folder().to_path_buf();
        if let Err(error) = saved::discard(&data_dir) {
            warn!(%error, "a backup that nobody fetched stays in the data folder");
        }
        let (check, backup) = Default::default();
        Self { data_dir, lock, clock, check, backup, fetch_within: FETCH_WITHIN }
    }

    fn bench(&self, work: LongWork) -> &Arc<Bench> {
        match work {
            LongWork::Check => &self.check,
            LongWork::Backup => &self.backup,
        }
    }

    /// Begins, unless the same kind is under way; or a backup waits to be fetched.
    pub fn begin(&self, work: LongWork) -> Result<Begun, StorageError> {
        let bench = self.bench(work);
        let number = {
            let mut job = bench.job();
            let waits = work == LongWork::Backup && matches!(job.state, State::Done(_));
            if waits || matches!(job.state, State::Running { .. }) {
                return Ok(Begun::Busy);
            }
            job.number += 1;
            job.state = State::Running { doing: "beginning".to_owned(), done: 0, of: 0 };
            job.number
        };
        let (own, at_work) = (self.clone(), AtWork(Arc::clone(bench)));
        let name = match work {
            LongWork::Check => "store-check",
            LongWork::Backup => "store-backup",
        };
        let started = std::thread::Builder::new().name(name.to_owned()).spawn(move || match work {
            LongWork::Check => own.look_through(at_work),
            LongWork::Backup => own.make_backup(at_work),
        });
        // A closure that no thread took is dropped, and its work ends with it.
        started.map_err(|error| StorageError(error.to_string()))?;
        info!(number, "{name} was ordered");
        Ok(Begun::Number(number))
    }

    /// How far it is, as it is sent.
    pub fn state(&self, work: LongWork) -> Value {
        let bench = self.bench(work);
        let mut job = bench.job();
        job.asked = Some(Instant::now());
        let number = job.number;
        match &job.state {
            State::Idle => json!({ "state": "idle", "number": number }),
            State::Running { doing, done, of } => {
                json!({ "state": "running", "number": number, "doing": doing, "done": done, "of": of })
            }
            State::Done(result) => json!({ "state": "done", "number": number, "result": result }),
            State::Failed(error) => json!({ "state": "failed", "number": number, "error": error }),
        }
    }

    /// A backup was fetched, or is not wanted any more. Returns whether there was one; one that is still being made
    /// stays.
    pub fn discard_backup(&self) -> Result<bool, StorageError> {
        let mut job = self.backup.job();
        if !matches!(job.state, State::Done(_)) {
            return Ok(false);
        }
        saved::discard(&self.data_dir).map_err(|error| StorageError(error.to_string()))?;
        job.state = State::Idle;
        self.backup.changed.notify_all();
        Ok(true)
    }

    fn look_through(&self, at_work: AtWork) {
        at_work.0.report("looking through the database", 0, 0);
        // What it comes across makes the database suspect, as everywhere.
        let reading = Reading::watchful(&self.data_dir, self.lock.clone());
        let outcome = reading.ask(|store| {
            let checked = match store.check()? {
                Checked::Whole => "whole",
                Checked::Partly => "partly",
            };
            let suspended = store
                .deletion_suspended()?
                .map(|suspended| json!({ "since": suspended.since.to_string(), "reason": suspended.reason }));
            Ok(json!({ "checked": checked, "deletion_suspended": suspended }))
        });
        if let Err(error) = &outcome {
            warn!(%error, "the database was looked through");
        }
        at_work.end(outcome);
    }

    fn make_backup(&self, at_work: AtWork) {
        let bench = Arc::clone(&at_work.0);
        let mut report = |what: &str, done: u64, of: u64| bench.report(what, done, of);
        let now = self.clock.wall();
        let made = saved::save_to_fetch(&self.data_dir, env!("CARGO_PKG_VERSION"), now, &mut report);
        match &made {
            Ok(manifest) => info!(files = manifest.files.len(), "a backup waits to be fetched"),
            Err(error) => {
                warn!(%error, "no backup was made");
                if error.is_damage() {
                    self.lock.suspect();
                }
            }
        }
        let is_made = made.is_ok();
        at_work.end(made.map(|manifest| {
            let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
            json!({ "files": manifest.files.len(), "bytes": bytes })
        }));
        if is_made {
            self.wait_until_fetched(&bench);
        }
    }

    /// Removes the backup when nobody asks about it any more.
    fn wait_until_fetched(&self, bench: &Bench) {
        let mut job = bench.job();
        let number = job.number;
        loop {
            if job.number != number || !matches!(job.state, State::Done(_)) {
                return;
            }
            let idle = job.asked.map_or(self.fetch_within, |asked| asked.elapsed());
            let Some(left) = self.fetch_within.checked_sub(idle).filter(|left| !left.is_zero()) else {
                break;
            };
            job = bench.changed.wait_timeout(job, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        // With the job in hand: nobody is told of a backup that is being removed.
        match saved::discard(&self.data_dir) {
            Ok(_) => warn!("a backup that nobody fetched was removed"),
            Err(error) => warn!(%error, "a backup that nobody fetched stays in the data folder"),
        }
        job.state = State::Failed("nobody fetched it in time, it was removed".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use meerkat_base::SystemClock;
    use meerkat_store::{Store, StoreOptions};

    use super::*;

    fn works(fetch_within: Duration) -> (tempfile::TempDir, Store, LongWorks) {
        let folder = tempfile::tempdir().unwrap();
        let lock = DataLock::take(folder.path()).unwrap();
        let store = Store::open_under(&lock, StoreOptions::default()).unwrap();
        std::fs::create_dir_all(folder.path().join("backup/to-fetch/faces")).unwrap();
        let works = LongWorks::new(lock, Arc::new(SystemClock::new()));
        (folder, store, LongWorks { fetch_within, ..works })
    }

    /// Looks until the work is no longer under way.
    fn ended(works: &LongWorks, work: LongWork) -> Value {
        let patience = Instant::now() + Duration::from_secs(60);
        loop {
            let state = works.state(work);
            if state["state"] != "running" {
                return state;
            }
            assert!(Instant::now() < patience, "{state}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_backup_waits_to_be_fetched_and_then_goes() {
        let (folder, _store, works) = works(FETCH_WITHIN);
        let waiting = folder.path().join("backup/to-fetch");
        assert!(!waiting.exists(), "one of an earlier run is removed");
        assert_eq!(works.state(LongWork::Backup)["state"], "idle");
        assert!(!works.discard_backup().unwrap());
        assert!(matches!(works.begin(LongWork::Backup), Ok(Begun::Number(1))));
        let state = ended(&works, LongWork::Backup);
        assert_eq!((&state["state"], &state["number"]), (&json!("done"), &json!(1)));
        assert_eq!(state["result"]["files"], 1);
        assert!(waiting.join("meerkat.db").exists());
        // Somebody may be copying it.
        assert!(matches!(works.begin(LongWork::Backup), Ok(Begun::Busy)));
        assert!(works.discard_backup().unwrap());
        assert!(!waiting.exists());
        assert_eq!(works.state(LongWork::Backup)["state"], "idle");
        assert!(matches!(works.begin(LongWork::Backup), Ok(Begun::Number(2))));
        assert_eq!(ended(&works, LongWork::Backup)["state"], "done");
    }

    #[test]
    fn a_backup_that_nobody_fetches_is_removed() {
        let (folder, _store, works) = works(Duration::ZERO);
        works.begin(LongWork::Backup).unwrap();
        let patience = Instant::now() + Duration::from_secs(60);
        while works.state(LongWork::Backup)["state"] != "failed" {
            assert!(Instant::now() < patience);
            std::thread::yield_now();
        }
        assert!(!folder.path().join("backup/to-fetch").exists());
        assert!(matches!(works.begin(LongWork::Backup), Ok(Begun::Number(2))));
    }

    #[test]
    fn a_look_says_what_it_found() {
        let (folder, store, works) = works(FETCH_WITHIN);
        assert!(matches!(works.begin(LongWork::Check), Ok(Begun::Number(1))));
        let state = ended(&works, LongWork::Check);
        assert_eq!(state["result"], json!({ "checked": "whole", "deletion_suspended": null }));
        drop(store);
        std::fs::write(folder.path().join("meerkat.db"), vec![0x5a; 8192]).unwrap();
        assert!(matches!(works.begin(LongWork::Check), Ok(Begun::Number(2))));
        let state = ended(&works, LongWork::Check);
        assert_eq!(state["state"], "failed");
        assert!(state["error"].as_str().unwrap().contains("meerkat.db"), "{state}");
    }
}
