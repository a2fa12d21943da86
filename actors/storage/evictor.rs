//! The evictor: makes room on the disk when it is needed, and deletes by age and amount now and then. It works in small
//! steps on a thread of its own; whatever the disk or the database refuses is tried again, and is no reason to fail.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use meerkat_base::{CameraId, Clock, EventKind, Evidence, Notice, NoticeSink, WallTime, metric};
use meerkat_settings::{FacesSettings, RetentionSettings, SpoolSettings, StorageSettings};
use meerkat_store::disk::{Usage, UsageWalk};
use meerkat_store::retention::EventPlace;
use meerkat_store::{Durability, EventQuery, StoreError, StoreReader};
use metrics::{counter, gauge};
use tracing::{info, warn};

use super::candidates::{Candidate, Candidates, Next};
use super::clock::Clocks;
use super::hands::{Doomed, Hands, PATIENCE, Why};
use super::room::{Refusal, Room};
use super::state::StorageState;
use super::sweep::{Sweep, SweepPlan};
use super::timekeeper::Timekeeper;
use super::unknown;
use crate::archivist::Archivist;
use crate::supervision::{ActorKind, Component, Failure, Step, fault};

/// How often disk and clock are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Wait after something failed, and before another pass when nothing may go.
const RETRY: Duration = Duration::from_secs(1);
/// Things with rows that go in one commit.
const BATCH: usize = 64;
/// Files without rows that go in one step.
const FILES: usize = 256;
/// Time from one sweep to the next.
const SWEEP: Duration = Duration::from_secs(300);
/// The first sweep of a run is so long after its start.
const FIRST_SWEEP: Duration = Duration::from_secs(5);
/// Names counted in one step of adding up what is used, and the pause after it.
const NAMES: usize = 4_000;
const PAUSE: Duration = Duration::from_millis(50);
/// Pause between two counts.
const COUNT: Duration = Duration::from_secs(30);
/// How often what could not be removed before is looked at.
const UNFINISHED: Duration = Duration::from_secs(60);

/// Says why nothing at all may be deleted at present, if that is so. Asked before each step.
pub type DeletionSuspended = Arc<dyn Fn(&StoreReader) -> Option<Suspended> + Send + Sync>;

/// Why nothing at all may be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Suspended {
    /// It is over by itself soon; recording goes on with the room there is.
    ForNow(String),
    /// Until a person has looked.
    UntilConfirmed(String),
}

/// What an evictor is built from.
pub struct EvictorTools {
    /// The disk.
    pub room: Arc<Room>,
    /// What survives.
    pub durability: Durability,
    /// Who writes rows.
    pub archivist: Archivist,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Who is told.
    pub notices: Arc<dyn NoticeSink>,
    /// How long what is kept; may change while the node runs.
    pub retention: Arc<RwLock<RetentionSettings>>,
    /// How long unknown faces are kept; may change while the node runs.
    pub faces: Arc<RwLock<FacesSettings>>,
    /// The disk's settings.
    pub storage: StorageSettings,
    /// How long spools are kept beside what was made of them.
    pub spool: SpoolSettings,
    /// Configured cameras, for labels.
    pub cameras: Vec<CameraId>,
    /// What others may know.
    pub state: StorageState,
    /// Why nothing at all may be deleted at present, if that is so.
    pub suspended: DeletionSuspended,
}

/// The evictor.
pub struct Evictor {
    tools: Arc<EvictorTools>,
    hands: Option<(u64, Hands)>,
    clock: Timekeeper,
    looked: Option<Instant>,
    /// When deletions that were begun and not ended are looked for, and up to which path that was done.
    unfinished: (Instant, String),
    candidates: Option<Candidates>,
    /// What is owed in this episode, and what was freed of it.
    episode: Option<(u64, u64, u64)>,
    sweep: Option<Sweep>,
    /// The place of the sweeps among the events.
    events: Option<EventPlace>,
    next_sweep: Instant,
    walk: Option<UsageWalk>,
    next_walk: Instant,
    low: bool,
    complained: Option<String>,
}

impl Evictor {
    /// Begins; reads nothing yet.
    pub fn new(tools: Arc<EvictorTools>) -> Self {
        for why in Why::ALL {
            for evidence in Evidence::ALL {
                let labels = [("kind", evidence.as_str()), ("reason", why.as_str())];
                counter!(metric::EVICTED_FILES, &labels).increment(0);
                counter!(metric::EVICTED_BYTES, &labels).increment(0);
            }
        }
        for (kind, _) in Usage::default().by_kind() {
            gauge!(metric::STORAGE_USED, "kind" => kind).set(0.0);
        }
        gauge!(metric::CLOCK_TRUSTED).set(1.0);
        counter!(metric::LIMIT_HITS, "limit" => "spool_keep_bytes").increment(0);
        let now = Instant::now();
        Self {
            tools,
            hands: None,
            clock: Timekeeper::default(),
            looked: None,
            unfinished: (now, String::new()),
            candidates: None,
            episode: None,
            sweep: None,
            events: None,
            next_sweep: now + FIRST_SWEEP,
            walk: None,
            next_walk: now,
            low: false,
            complained: None,
        }
    }

    /// Does not wait for the first sweep.
    #[cfg(test)]
    pub(super) fn sweeping_now(mut self) -> Self {
        self.next_sweep = Instant::now();
        self
    }

    fn clocks(&self) -> Clocks {
        Clocks { wall: self.tools.clock.wall(), mono: self.tools.clock.mono() }
    }

    /// Looks at disk and clock; opens what has to be opened anew.
    fn look(&mut self) -> Result<(), StoreError> {
        self.looked = Some(Instant::now());
        let gone = self.tools.room.look().err();
        let mount = match (gone, self.tools.room.answer()) {
            (Some(refusal), _) | (None, Err(refusal @ Refusal::Gone(_))) => {
                self.let_go();
                self.tools.state.stuck().clear();
                return Err(StoreError::Refused(refusal.words().to_owned()));
            }
            (None, Ok(mount)) => Some(mount),
            (None, Err(Refusal::Full(_))) => None,
        };
        if let (Some(mount), Some((held, _))) = (mount, &self.hands)
            && mount != *held
        {
            self.let_go();
            self.tools.state.stuck().clear();
        }
        if self.hands.is_none() {
            let tools = &self.tools;
            let hands = Hands::open(&tools.room, tools.durability, &tools.archivist, &tools.state)?;
            self.hands = Some((mount.unwrap_or(1), hands));
        }
        self.tools.room.look_after_ballast();
        self.look_at_clock();
        self.tell();
        Ok(())
    }

    fn let_go(&mut self) {
        (self.hands, self.candidates, self.sweep, self.walk) = (None, None, None, None);
        self.episode = None;
    }

    /// Looks at the clock. Returns what it said, and whether something may go by that.
    fn look_at_clock(&mut self) -> (WallTime, bool) {
        let began = Instant::now();
        let now = self.clocks();
        let reader = self.hands.as_ref().map(|(_, hands)| &hands.reader);
        let limits = (self.tools.storage.clock_jump, self.tools.storage.clock_gap);
        let confirmed = self.tools.state.take_clock_confirmation();
        let data_dir = self.tools.room.data_dir();
        let look = self.clock.look(data_dir, now, limits, || newest(reader?), confirmed);
        if look.confirmed {
            info!("a person confirmed the wall clock; deletion by age goes on");
        }
        if look.changed {
            match &look.doubt {
                Some(words) => warn!(words, "nothing is deleted by age"),
                None => info!("the wall clock is trusted"),
            }
            let words = look.doubt.as_deref().unwrap_or("the wall clock is trusted");
            self.notice(EventKind::ClockJump, "", look.doubt.is_some(), words);
            // What is being swept goes by the old clock, and what is the oldest may be another thing.
            (self.sweep, self.candidates) = (None, None);
        }
        let by_age = look.doubt.is_none();
        gauge!(metric::CLOCK_TRUSTED).set(if by_age { 1.0 } else { 0.0 });
        self.tools.state.clock_looked_at(began, look.doubt);
        (now.wall, by_age)
    }

    fn notice(&self, kind: EventKind, subject: &str, holds: bool, detail: &str) {
        self.tools.notices.raise(Notice {
            kind,
            camera: None,
            subject: subject.to_owned(),
            holds,
            detail: detail.to_owned(),
        });
    }

    /// Says that the disk is low when making room does not help, and that something cannot be deleted.
    fn tell(&mut self) {
        let (free, floor) = (self.tools.room.free(), self.tools.storage.free_floor_bytes);
        let low = free < floor && (self.low || free < floor / 2 || self.tools.state.lock().nothing_may_go);
        if low != self.low {
            self.low = low;
            let words = if low {
                format!("{free} bytes are free, fewer than storage.free_floor_bytes = {floor}")
            } else {
                "there is room on the disk again".to_owned()
            };
            self.notice(EventKind::DiskLow, "", low, &words);
        }
        let news = self.tools.state.stuck().news(Instant::now());
        if let Some((is_stuck, words)) = news {
            self.notice(EventKind::StoreDamaged, "deletion", is_stuck, &words);
        }
    }

    /// Makes room, a little per call.
    fn make_room(&mut self, needed: u64) -> Result<Step, StoreError> {
        let now = self.tools.clock.wall();
        let Some((_, hands)) = &mut self.hands else { return Ok(Step::Sleep(RETRY)) };
        if self.candidates.is_none() {
            self.candidates = Some(Candidates::begin(&hands.reader, self.clock.behind())?);
        }
        let Some(candidates) = &mut self.candidates else { return Ok(Step::Again) };
        let (owed, mut freed, free_before) =
            self.episode.unwrap_or_else(|| (needed, 0, self.tools.room.free()));
        let (mut rows, mut expected, mut files): (Vec<Candidate>, u64, usize) = (Vec::new(), 0, 0);
        let (mut nothing, before, began) = (false, freed, Instant::now());
        while freed.saturating_add(expected) < owed
            && rows.len() < BATCH
            && files < FILES
            && began.elapsed() < PATIENCE
        {
            match candidates.next(&hands.reader, &hands.remover)? {
                Next::Goes(one) if one.has_row => {
                    // A row that says nothing of its size still counts as progress.
                    expected = expected.saturating_add(one.bytes.max(1));
                    rows.push(one);
                }
                Next::Goes(one) => {
                    files += 1;
                    let doomed = Doomed { path: one.path, evidence: one.evidence, why: Why::Space };
                    if let Some(bytes) = hands.remove(&doomed, now) {
                        freed = freed.saturating_add(bytes.max(1));
                    }
                }
                Next::NotYet => break,
                Next::Nothing => {
                    nothing = true;
                    break;
                }
            }
        }
        for error in candidates.troubles() {
            hands.cannot_remove("capture and spool", &error);
        }
        let doomed = rows
            .into_iter()
            .map(|one| Doomed { path: one.path, evidence: one.evidence, why: Why::Space })
            .collect();
        let mut failed = None;
        match hands.delete_rows(doomed, now) {
            Ok(bytes) => freed = freed.saturating_add(bytes),
            Err(error) => {
                // What has no row may still go.
                candidates.without_rows();
                self.unfinished.0 = Instant::now() + RETRY;
                failed = Some(error);
            }
        }
        hands.settle(now);
        self.tools.room.look().map_err(|refusal| StoreError::Refused(refusal.words().to_owned()))?;
        let free = self.tools.room.free();
        let useful = freed > before;
        if nothing {
            self.end_of_pass(useful);
            return Ok(if useful { Step::Again } else { Step::Sleep(RETRY) });
        }
        if useful {
            self.nothing_may_go(false);
        }
        if freed < owed {
            self.episode = Some((owed, freed, free_before));
            let Some(error) = failed else { return Ok(Step::Again) };
            self.complain(&error);
            return Ok(Step::Sleep(RETRY));
        }
        self.episode = None;
        // Some file systems give room back later: wait for it instead of deleting more than is needed.
        let slow = free < free_before.saturating_add(freed / 2) && self.tools.room.needed() > 0;
        Ok(if slow { Step::Sleep(RETRY) } else { Step::Again })
    }

    fn end_of_pass(&mut self, useful: bool) {
        (self.candidates, self.episode) = (None, None);
        // After a useful pass another one looks whether that was all.
        self.nothing_may_go(!useful);
    }

    fn nothing_may_go(&mut self, nothing: bool) {
        let was = std::mem::replace(&mut self.tools.state.lock().nothing_may_go, nothing);
        if nothing && !was {
            warn!("the disk needs room, and nothing more may be deleted");
        }
        self.tools.room.set_nothing_may_go(nothing);
    }

    fn complain(&mut self, error: &StoreError) {
        let words = error.to_string();
        if self.complained.as_ref() != Some(&words) {
            warn!(%error, "deleting does not go on; it is tried again");
            self.complained = Some(words);
        }
    }

    /// Adds up a little more of what is used.
    fn count(&mut self) -> Step {
        let data_dir = self.tools.room.data_dir();
        let walk = self.walk.get_or_insert_with(|| UsageWalk::new(data_dir));
        let Some(usage) = walk.step(NAMES) else { return Step::Sleep(PAUSE) };
        for (kind, bytes) in usage.by_kind() {
            gauge!(metric::STORAGE_USED, "kind" => kind).set(bytes as f64);
        }
        let cameras = walk.cameras().clone();
        let mut oldest: BTreeMap<&str, Option<WallTime>> =
            self.tools.cameras.iter().map(|id| (id.as_str(), None)).collect();
        oldest.insert(meerkat_base::ids::UNCONFIGURED, None);
        for ((camera, _), held) in &cameras {
            let label =
                if oldest.contains_key(camera.as_str()) { camera } else { meerkat_base::ids::UNCONFIGURED };
            if let Some(known) = oldest.get_mut(label) {
                *known = (*known).into_iter().chain(held.oldest).min();
            }
        }
        for (camera, at) in oldest {
            let at = at.map_or(0.0, WallTime::as_secs_f64);
            gauge!(metric::OLDEST_EVIDENCE, "camera" => camera.to_owned()).set(at);
        }
        let mut report = self.tools.state.lock();
        (report.usage, report.cameras) = (Some(usage), cameras);
        report.kept_spools = Some(walk.kept_spools());
        drop(report);
        self.walk = None;
        self.next_walk = Instant::now() + COUNT;
        Step::Again
    }

    /// Begins a sweep, with what goes at its beginning. `now` is a look at the clock of this very step.
    fn begin_sweep(&mut self, now: WallTime, by_age: bool) {
        self.next_sweep = Instant::now() + SWEEP;
        let keep = self.tools.faces.read().unwrap_or_else(PoisonError::into_inner).unknown_keep;
        let tidied = self.hands.as_ref().map_or(Ok(()), |(_, hands)| unknown::tidy(hands, keep, by_age, now));
        if let Err(error) = tidied {
            self.complain(&error);
        }
        let rules = self.tools.retention.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (spool, times) = (self.tools.spool.clone(), self.clock.behind());
        let plan = SweepPlan { rules, spool, now, by_age, times };
        self.sweep = Some(Sweep::new(plan, &self.tools.state.report()));
    }

    fn work(&mut self) -> Result<Step, StoreError> {
        // A database that was made anew does not let go what the one before did.
        let outdated = self.hands.as_ref().is_some_and(|(_, hands)| !hands.reader.is_current());
        if outdated {
            info!("another database has taken the place of the one before");
            self.let_go();
        }
        if outdated || self.looked.is_none_or(|at| at.elapsed() >= LOOK) {
            self.look()?;
        }
        let now = self.tools.clock.wall();
        let Some((_, hands)) = &mut self.hands else { return Ok(Step::Sleep(RETRY)) };
        let suspended = (self.tools.suspended)(&hands.reader);
        let needed = self.tools.room.needed();
        self.tools.state.lock().suspended = suspended.as_ref().map(|suspended| match suspended {
            Suspended::ForNow(words) | Suspended::UntilConfirmed(words) => words.clone(),
        });
        if let Some(suspended) = suspended {
            (self.candidates, self.episode, self.sweep) = (None, None, None);
            self.nothing_may_go(needed > 0 && matches!(suspended, Suspended::UntilConfirmed(_)));
        } else {
            if Instant::now() >= self.unfinished.0 {
                self.unfinished.0 = Instant::now() + UNFINISHED;
                if let Some(path) = hands.finish_begun(&self.unfinished.1, BATCH, now)? {
                    self.unfinished = (Instant::now(), path);
                    return Ok(Step::Again);
                }
                self.unfinished.1.clear();
            }
            if needed > 0 {
                self.walk = None;
                return self.make_room(needed);
            }
            (self.candidates, self.episode) = (None, None);
            self.nothing_may_go(false);
            let is_due = self.sweep.is_none() && Instant::now() >= self.next_sweep;
            if is_due || self.sweep.is_some() {
                // Whoever sets it does so between two looks: nothing goes by what it was then.
                let (wall, by_age) = self.look_at_clock();
                if is_due {
                    self.begin_sweep(wall, by_age);
                }
            }
            let Some((_, hands)) = &mut self.hands else { return Ok(Step::Sleep(RETRY)) };
            if let Some(sweep) = &mut self.sweep {
                let over = sweep.step(hands, &mut self.events)?;
                if over && sweep.wants_a_recount() {
                    // A count that had begun before knows of what is gone by now.
                    (self.walk, self.next_walk) = (None, Instant::now());
                    self.tools.state.lock().kept_spools = None;
                }
                self.sweep.take_if(|_| over);
                return Ok(Step::Again);
            }
        }
        if Instant::now() >= self.next_walk {
            return Ok(self.count());
        }
        Ok(Step::Sleep(LOOK))
    }
}

impl Component for Evictor {
    fn step(&mut self) -> Result<Step, Failure> {
        fault::point(ActorKind::Evictor, None)?;
        match self.work() {
            Ok(step) => Ok(step),
            Err(error) => {
                self.complain(&error);
                self.let_go();
                // Also an answer to a disk that is gone: it is looked for again soon.
                Ok(Step::Sleep(RETRY))
            }
        }
    }
}

/// When the newest event began, as the database has it.
fn newest(reader: &StoreReader) -> Option<WallTime> {
    let query = EventQuery { limit: 1, ..EventQuery::default() };
    Some(reader.recent_events(&query).ok()?.first()?.started)
}
