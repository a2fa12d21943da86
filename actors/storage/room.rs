//! Whether there is room on the disk for more, and whether the disk is there at all. Asked before anything is written;
//! wakes the evictor when room gets scarce. Deletes nothing but the ballast.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use meerkat_base::{EventKind, Notice, NoticeSink, metric};
use meerkat_settings::StorageSettings;
use meerkat_store::{DataFolder, StoreError, ballast, disk};
use metrics::{counter, gauge};
use tracing::{error, info, warn};

use crate::supervision::Station;

/// A good answer holds for this long, unless much is written meanwhile.
const GOOD_FOR: Duration = Duration::from_secs(1);
/// A refusal holds for this long: the disk may be back at any moment.
const BAD_FOR: Duration = Duration::from_millis(200);

/// Why nothing is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The data folder is gone, or another one lies at its path.
    Gone(String),
    /// There is no room, and none can be made now.
    Full(String),
}

impl Refusal {
    /// In words.
    pub fn words(&self) -> &str {
        match self {
            Refusal::Gone(words) | Refusal::Full(words) => words,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Refusal::Gone(_) => "gone",
            Refusal::Full(_) => "full",
        }
    }
}

/// Watches the data folder and the free space of its file system.
pub struct Room {
    folder: Arc<DataFolder>,
    floor: u64,
    extra: u64,
    ballast: u64,
    notices: Arc<dyn NoticeSink>,
    evictor: OnceLock<Station>,
    /// The disk said that it is full although it does not look so (quotas, a floor of 0).
    pressed: AtomicBool,
    state: Mutex<State>,
}

struct State {
    looked: Option<Instant>,
    answer: Result<u64, Refusal>,
    free: u64,
    /// Bytes that may be written before it is time to look again.
    allowance: u64,
    nothing_may_go: bool,
}

impl Room {
    /// Room in a data folder under these settings.
    pub fn new(folder: Arc<DataFolder>, settings: &StorageSettings, notices: Arc<dyn NoticeSink>) -> Self {
        counter!(metric::LIMIT_HITS, "limit" => "free_floor_bytes").increment(0);
        for reason in ["full", "gone", "error"] {
            counter!(metric::RECORDINGS_REFUSED, "reason" => reason).increment(0);
        }
        gauge!(metric::BALLAST).set(0.0);
        Self {
            folder,
            floor: settings.free_floor_bytes,
            extra: settings.free_extra_bytes,
            ballast: settings.ballast_bytes,
            notices,
            evictor: OnceLock::new(),
            pressed: AtomicBool::new(false),
            state: Mutex::new(State {
                looked: None,
                answer: Ok(1),
                free: 0,
                allowance: 0,
                nothing_may_go: false,
            }),
        }
    }

    /// Says who makes room. Once.
    pub fn set_evictor(&self, station: Station) {
        let _ = self.evictor.set(station);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The data folder.
    pub fn data_dir(&self) -> &Path {
        self.folder.path()
    }

    /// The data folder, held open.
    pub fn folder(&self) -> &DataFolder {
        &self.folder
    }

    /// Whether so many bytes may be written; returns the number of the data folder's mount.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, bytes: u64) -> Result<u64, Refusal> {
        let mut state = self.state();
        let good_for = if state.answer.is_ok() { GOOD_FOR } else { BAD_FOR };
        let fresh = state.looked.is_some_and(|at| at.elapsed() < good_for) && bytes <= state.allowance;
        if fresh || (state.answer.is_err() && state.looked.is_some_and(|at| at.elapsed() < BAD_FOR)) {
            state.allowance = state.allowance.saturating_sub(bytes);
        } else {
            self.look_with(&mut state);
            let scarce = state.free < self.floor && !matches!(state.answer, Err(Refusal::Gone(_)));
            if scarce || self.pressed.load(Ordering::Acquire) {
                self.wake();
            }
        }
        state.answer.clone()
    }

    /// Whether so many bytes may be written that are no evidence. Never makes room for them, and leaves alone what is
    /// made for evidence on a full disk: `storage.free_extra_bytes` above the floor.
    ///
    /// # Errors
    /// Why not.
    pub fn spare(&self, bytes: u64) -> Result<(), Refusal> {
        let mut state = self.state();
        let fresh = state.looked.is_some_and(|at| at.elapsed() < GOOD_FOR) && bytes <= state.allowance;
        if !fresh {
            self.look_with(&mut state);
        }
        state.answer.clone()?;
        let least = self.floor.saturating_add(self.extra);
        if self.pressed.load(Ordering::Acquire) || state.free.saturating_sub(bytes) < least {
            return Err(Refusal::Full("too little free space on the disk".to_owned()));
        }
        state.allowance = state.allowance.saturating_sub(bytes);
        Ok(())
    }

    /// Looks now; returns the free bytes, where they are known.
    pub fn look(&self) -> Result<u64, Refusal> {
        let mut state = self.state();
        self.look_with(&mut state);
        match &state.answer {
            Err(gone @ Refusal::Gone(_)) => Err(gone.clone()),
            _ => Ok(state.free),
        }
    }

    /// What is wrong with the disk, for people: looks at it, and tries to write.
    pub fn problem(&self) -> Option<String> {
        if let Err(gone) = self.look() {
            return Some(gone.words().to_owned());
        }
        if let Err(Refusal::Full(words)) = self.answer() {
            return Some(format!("{words}: nothing new is recorded"));
        }
        let tried = self.folder.check();
        tried.err().map(|error| format!("the data folder cannot be written: {error}"))
    }

    /// What held at the last look.
    pub fn answer(&self) -> Result<u64, Refusal> {
        self.state().answer.clone()
    }

    /// Free bytes at the last look.
    pub fn free(&self) -> u64 {
        self.state().free
    }

    /// Bytes that have to be freed now; 0 while there is room.
    pub fn needed(&self) -> u64 {
        let free = self.state().free;
        if free < self.floor {
            self.floor.saturating_add(self.extra).saturating_sub(free)
        } else if self.pressed.load(Ordering::Acquire) {
            self.extra.max(1)
        } else {
            0
        }
    }

    /// Whether nothing more may be deleted: said by the evictor.
    pub fn set_nothing_may_go(&self, nothing: bool) {
        let mut state = self.state();
        // Either way there is no more to be had: what comes later must not go for a refusal of long ago.
        self.pressed.store(false, Ordering::Release);
        if state.nothing_may_go != nothing {
            state.nothing_may_go = nothing;
            self.look_with(&mut state);
        }
    }

    /// Something could not be written: the disk is looked at again before the next thing is.
    pub fn failed(&self, error: &StoreError) {
        let reason = if error.is_disk_full() { "full" } else { "error" };
        counter!(metric::RECORDINGS_REFUSED, "reason" => reason).increment(1);
        let mut state = self.state();
        if error.is_disk_full() {
            self.look_with(&mut state);
            // A disk that refuses although it says that it has room: a quota, or no more names.
            if state.free >= self.floor {
                self.pressed.store(true, Ordering::Release);
            }
            self.wake();
        }
        state.looked = None;
    }

    /// Something was not even tried.
    pub fn count(&self, refusal: &Refusal) {
        counter!(metric::RECORDINGS_REFUSED, "reason" => refusal.reason()).increment(1);
    }

    /// The database found no room: the ballast goes, so that what is deleted can be recorded.
    pub fn database_full(&self) {
        self.state().looked = None;
        self.pressed.store(true, Ordering::Release);
        self.give_up_ballast("the database found no room");
        self.wake();
    }

    /// Makes the ballast when there is room for it, gives it up when hardly anything else is left. Blocks.
    pub fn look_after_ballast(&self) {
        let free = self.free();
        let held = ballast::ballast_bytes(self.data_dir());
        if held > 0 && free < self.ballast / 8 {
            self.give_up_ballast("the disk is nearly full");
        } else if held < self.ballast && free >= self.floor.saturating_add(self.ballast) {
            match ballast::make(self.data_dir(), self.ballast) {
                Ok(()) => info!(bytes = self.ballast, "there is ballast again"),
                Err(problem) => warn!(%problem, "no ballast"),
            }
        }
        gauge!(metric::BALLAST).set(ballast::ballast_bytes(self.data_dir()) as f64);
    }

    fn give_up_ballast(&self, why: &str) {
        match ballast::give_up(self.data_dir()) {
            Ok(0) => {}
            Ok(bytes) => warn!(bytes, why, "the ballast was given up"),
            Err(problem) => warn!(%problem, "the ballast cannot be given up"),
        }
        gauge!(metric::BALLAST).set(ballast::ballast_bytes(self.data_dir()) as f64);
    }

    fn wake(&self) {
        if let Some(evictor) = self.evictor.get() {
            evictor.wake();
        }
    }

    fn look_with(&self, state: &mut State) {
        let was = state.answer.clone();
        let free = self.folder.here().and_then(|mount| Ok((mount, disk::free_bytes(self.folder.path())?)));
        state.looked = Some(Instant::now());
        state.answer = match free {
            Err(problem) => {
                state.allowance = 0;
                Err(Refusal::Gone(match problem {
                    StoreError::Replaced { .. } => format!("the data folder was replaced: {problem}"),
                    problem => format!("the data folder is gone: {problem}"),
                }))
            }
            Ok((mount, free)) => {
                gauge!(metric::STORAGE_FREE).set(free as f64);
                state.free = free;
                // Below this nothing is written until room was made: what runs must find some.
                let least = self.floor / 4;
                state.allowance =
                    free.saturating_sub(if free >= self.floor { self.floor } else { least }) / 4;
                if free >= self.floor {
                    Ok(mount)
                } else if state.nothing_may_go {
                    Err(Refusal::Full(
                        "too little free space on the disk, and nothing may be deleted".to_owned(),
                    ))
                } else if free < least {
                    Err(Refusal::Full("too little free space on the disk".to_owned()))
                } else {
                    Ok(mount)
                }
            }
        };
        gauge!(metric::STORAGE_USABLE).set(if state.answer.is_ok() { 1.0 } else { 0.0 });
        match (&was, &state.answer) {
            (Ok(_), Err(refusal)) => {
                if matches!(refusal, Refusal::Full(_)) {
                    counter!(metric::LIMIT_HITS, "limit" => "free_floor_bytes").increment(1);
                }
                error!(reason = refusal.words(), "recording is refused from now on");
                self.notice(true, refusal.words());
            }
            (Err(_), Ok(_)) => {
                info!("recording is possible again");
                self.notice(false, "recording is possible again");
            }
            _ => {}
        }
    }

    fn notice(&self, holds: bool, detail: &str) {
        self.notices.raise(Notice {
            kind: EventKind::RecordingRefused,
            camera: None,
            subject: String::new(),
            holds,
            detail: detail.to_owned(),
        });
    }
}
