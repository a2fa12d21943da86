//! One sweep over what is kept: counts where there are limits by bytes, then deletes what is older, or more, than the
//! settings allow; a little per step. What is kept is left out, and so is what an alert that waits still shows.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use meerkat_base::{EventKind, Evidence, WallTime, metric};
use meerkat_settings::{RetentionSettings, SpoolSettings};
use meerkat_store::StoreError;
use meerkat_store::images::{DayEraser, ImageQueue, Looked, image_days};
use meerkat_store::resting::{RestingSpool, SpoolQueue};
use meerkat_store::retention::{BareEvent, EventPlace, EvictPlace, Evictable, camera_of};
use metrics::counter;
use tracing::warn;

use super::candidates::spool_may_go;
use super::hands::{Doomed, Hands, PATIENCE, Why};
use super::state::StorageReport;
use super::stretches::Stretches;

/// Rows looked at in one step.
const PAGE: usize = 256;
/// Events looked at in one step, and in one sweep; the next sweep goes on from there. A million events have had their
/// turn after four hours.
const EVENTS: usize = 400;
const EVENTS_PER_SWEEP: usize = 50 * EVENTS;
/// Spools looked at in one step.
const SPOOLS: usize = 64;
/// Names of pictures looked at, and pictures removed, in one step.
const NAMES: usize = 5_000;
const IMAGES: usize = 256;

/// The camera's account, the sort, and what happened where that has a limit of its own.
type Bucket = (String, Evidence, Option<EventKind>);

enum Stage {
    Count(EvictPlace),
    Rows(EvictPlace, Dated),
    Spools(Box<SpoolQueue>),
    SpoolBytes(Box<SpoolQueue>, Dated),
    Days(Option<Vec<(String, String)>>),
    Erase(Box<DayEraser>, Vec<(String, String)>),
    Over(Vec<(String, u64)>),
    Images(Box<ImageQueue>, Over, Dated),
    Events(usize),
    Done,
}

/// Which of what is there goes when there is too much: first what is dated rightly, then also what was dated by a clock
/// that was behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dated {
    Rightly,
    Anyhow,
}

/// Pictures of an account beyond its limit of bytes, and the accounts that come next.
struct Over {
    account: String,
    bytes: u64,
    others: Vec<(String, u64)>,
}

/// What a sweep goes by.
pub(super) struct SweepPlan {
    /// How long and how much of what is kept.
    pub rules: RetentionSettings,
    /// The same of spools beside what was made of them.
    pub spool: SpoolSettings,
    pub now: WallTime,
    /// False while the clock is in doubt.
    pub by_age: bool,
    /// When the clock was behind.
    pub times: Stretches,
}

/// One sweep.
pub(super) struct Sweep {
    plan: SweepPlan,
    images: HashMap<String, u64>,
    /// Bytes of kept spools, where they have been counted.
    kept_spools: Option<u64>,
    /// Something went by bytes: what was counted before is no longer so.
    recount: bool,
    /// Bytes in each bucket that has a limit, and the limit.
    held: HashMap<Bucket, (u64, u64)>,
    stage: Stage,
}

fn before(now: WallTime, age: Duration) -> WallTime {
    now.offset_micros(i64::try_from(age.as_micros()).map_or(i64::MIN, |micros| -micros))
}

impl Sweep {
    /// `counted`: what there is of things without rows, as counted last.
    pub fn new(plan: SweepPlan, counted: &StorageReport) -> Self {
        let mut images: HashMap<String, u64> = HashMap::new();
        for ((camera, evidence), held) in &counted.cameras {
            if *evidence == Evidence::Image {
                *images.entry(plan.rules.account(camera).to_owned()).or_default() += held.bytes;
            }
        }
        let stage = if plan.rules.counts_bytes() {
            Stage::Count(EvictPlace::default())
        } else {
            Stage::Rows(EvictPlace::default(), Dated::Rightly)
        };
        let kept_spools = counted.kept_spools;
        Self { plan, images, kept_spools, recount: false, held: HashMap::new(), stage }
    }

    /// Does a little more. Returns whether that was all. `events` is the place at which events are looked at; it
    /// outlives the sweep.
    pub fn step(&mut self, hands: &mut Hands, events: &mut Option<EventPlace>) -> Result<bool, StoreError> {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Count(place) => self.count(hands, place)?,
            Stage::Rows(place, dated) => self.rows(hands, place, dated)?,
            Stage::Spools(queue) => self.spools(hands, queue)?,
            Stage::SpoolBytes(queue, dated) => self.spool_bytes(hands, queue, dated)?,
            Stage::Days(days) => self.days(hands, days)?,
            Stage::Erase(eraser, days) => self.erase(hands, eraser, days),
            Stage::Over(over) => self.over(hands, over)?,
            Stage::Images(queue, over, dated) => self.images(hands, queue, over, dated)?,
            Stage::Events(looked) => self.events(hands, looked, events)?,
            Stage::Done => Stage::Done,
        };
        Ok(matches!(self.stage, Stage::Done))
    }

    /// Whether what was counted before the sweep is no longer so.
    pub fn wants_a_recount(&self) -> bool {
        self.recount
    }

    /// Whether something with this date is older than an age, also if the clock was behind.
    fn is_older(&self, at: WallTime, age: Duration) -> bool {
        self.plan.times.earliest(at) < before(self.plan.now, age)
    }

    /// Whether it is to be passed over until all that is dated rightly has gone.
    fn is_spared(&self, at: WallTime, dated: Dated) -> bool {
        dated == Dated::Rightly && self.plan.times.hold(at)
    }

    /// The bucket that a thing counts in and its limit, where there is one.
    fn bucket(&self, camera: &str, evidence: Evidence, events: &[EventKind]) -> Option<(Bucket, u64)> {
        let patient = self.most_patient(camera, evidence, events);
        let limit = self.plan.rules.limit(camera, evidence, patient).bytes?;
        let own = patient.filter(|kind| self.plan.rules.has_own_bytes(camera, evidence, *kind));
        Some(((self.plan.rules.account(camera).to_owned(), evidence, own), limit))
    }

    /// Of several events in a clip, the one that is to stay longest.
    fn most_patient(&self, camera: &str, evidence: Evidence, events: &[EventKind]) -> Option<EventKind> {
        let age = |kind: &EventKind| {
            self.plan.rules.limit(camera, evidence, Some(*kind)).age.unwrap_or(Duration::MAX)
        };
        events.iter().copied().max_by_key(age)
    }

    fn count(&mut self, hands: &Hands, place: EvictPlace) -> Result<Stage, StoreError> {
        let (page, next) = hands.reader.evictable(place, PAGE)?;
        for one in &page {
            if let Some((bucket, limit)) = self.bucket(one.camera(), one.evidence, &one.events) {
                self.held.entry(bucket).or_insert((0, limit)).0 += one.bytes;
            }
        }
        let rows = Stage::Rows(EvictPlace::default(), Dated::Rightly);
        Ok(if next == place { rows } else { Stage::Count(next) })
    }

    fn why(&mut self, one: &Evictable, dated: Dated) -> Option<Why> {
        let patient = self.most_patient(one.camera(), one.evidence, &one.events);
        let age = self.plan.rules.limit(one.camera(), one.evidence, patient).age;
        if self.plan.by_age && age.is_some_and(|age| self.is_older(one.at, age)) {
            self.uncount(one);
            return Some(Why::Age);
        }
        let (bucket, _) = self.bucket(one.camera(), one.evidence, &one.events)?;
        if self.is_spared(one.at, dated) {
            return None;
        }
        if self.held.get(&bucket).is_some_and(|(held, limit)| held > limit) {
            self.uncount(one);
            return Some(Why::Bytes);
        }
        None
    }

    fn uncount(&mut self, one: &Evictable) {
        if let Some((bucket, _)) = self.bucket(one.camera(), one.evidence, &one.events)
            && let Some((held, _)) = self.held.get_mut(&bucket)
        {
            *held = held.saturating_sub(one.bytes);
        }
    }

    fn rows(&mut self, hands: &mut Hands, place: EvictPlace, dated: Dated) -> Result<Stage, StoreError> {
        let (page, next) = hands.reader.evictable(place, PAGE)?;
        let over = self.held.values().any(|(held, limit)| held > limit);
        let youngest =
            self.plan.rules.shortest_age().filter(|_| self.plan.by_age).map(|age| before(self.plan.now, age));
        // Oldest first: beyond this nothing is old enough, and nothing is counted.
        let beyond = page.first().is_some_and(|one| youngest.is_none_or(|youngest| one.at >= youngest));
        if next == place || (beyond && !over) {
            return if over && dated == Dated::Rightly && !self.plan.times.is_empty() {
                Ok(Stage::Rows(EvictPlace::default(), Dated::Anyhow))
            } else {
                Ok(Stage::Spools(Box::new(SpoolQueue::new(&hands.data_dir, |_| true)?)))
            };
        }
        let mut doomed = Vec::new();
        for one in page.into_iter().filter(|one| !one.awaited) {
            if let Some(why) = self.why(&one, dated) {
                doomed.push(Doomed { path: one.path, evidence: one.evidence, why });
            }
        }
        hands.delete_rows(doomed, self.plan.now)?;
        Ok(Stage::Rows(next, dated))
    }

    /// How long a spool that nobody works on is kept.
    fn spool_age(&self, spool: &RestingSpool) -> Option<Duration> {
        let of_all = self.plan.rules.limit(camera_of(&spool.path), Evidence::Spool, None).age;
        of_all.into_iter().chain(self.plan.spool.keep.filter(|_| spool.is_kept)).min()
    }

    /// Spools by age, oldest first, until nothing can be old enough.
    fn spools(&mut self, hands: &mut Hands, mut queue: Box<SpoolQueue>) -> Result<Stage, StoreError> {
        let shortest = self.plan.rules.shortest_age().into_iter().chain(self.plan.spool.keep).min();
        let youngest = shortest.filter(|_| self.plan.by_age).map(|age| before(self.plan.now, age));
        let began = Instant::now();
        for _ in 0..SPOOLS {
            let looked = queue.look(NAMES);
            if let Some(error) = queue.trouble() {
                hands.cannot_remove("spool", &error);
            }
            if looked == Looked::NotYet || began.elapsed() > PATIENCE {
                return Ok(Stage::Spools(queue));
            }
            let old = queue.take().filter(|spool| youngest.is_some_and(|youngest| spool.at < youngest));
            let Some(spool) = old else { return self.begin_spool_bytes(hands) };
            // One without a time in its name is no older than another.
            let is_due = self.spool_age(&spool).is_some_and(|age| self.is_older(spool.at, age));
            if is_due && spool.at.0 != 0 {
                self.remove_spool(hands, spool, Why::Age)?;
            }
        }
        Ok(Stage::Spools(queue))
    }

    fn remove_spool(&mut self, hands: &mut Hands, spool: RestingSpool, why: Why) -> Result<(), StoreError> {
        if !hands.is_stuck(&spool.path) && spool_may_go(&hands.reader, &hands.remover, &spool)? {
            let doomed = Doomed { path: spool.path, evidence: Evidence::Spool, why };
            let bytes = hands.remove(&doomed, self.plan.now).unwrap_or(0);
            if let Some(kept) = self.kept_spools.as_mut().filter(|_| spool.is_kept) {
                *kept = kept.saturating_sub(bytes);
                self.recount |= bytes > 0;
            }
        }
        Ok(())
    }

    fn too_many_spools(&self) -> Option<u64> {
        self.kept_spools.filter(|bytes| *bytes > self.plan.spool.keep_bytes)
    }

    fn begin_spool_bytes(&self, hands: &Hands) -> Result<Stage, StoreError> {
        if self.too_many_spools().is_none() {
            return Ok(Stage::Days(None));
        }
        let times = self.plan.times.clone();
        let queue = SpoolQueue::new(&hands.data_dir, move |at| !times.hold(at))?;
        Ok(Stage::SpoolBytes(Box::new(queue), Dated::Rightly))
    }

    /// Kept spools beyond their limit of bytes, oldest first.
    fn spool_bytes(
        &mut self,
        hands: &mut Hands,
        mut queue: Box<SpoolQueue>,
        dated: Dated,
    ) -> Result<Stage, StoreError> {
        let began = Instant::now();
        for _ in 0..SPOOLS {
            let Some(bytes) = self.too_many_spools() else { return Ok(Stage::Days(None)) };
            if queue.look(NAMES) == Looked::NotYet || began.elapsed() > PATIENCE {
                break;
            }
            match queue.take() {
                Some(spool) if spool.is_kept => self.remove_spool(hands, spool, Why::Bytes)?,
                Some(_) => {}
                None if dated == Dated::Rightly && !self.plan.times.is_empty() => {
                    let queue = SpoolQueue::new(&hands.data_dir, |_| true)?;
                    return Ok(Stage::SpoolBytes(Box::new(queue), Dated::Anyhow));
                }
                None => {
                    counter!(metric::LIMIT_HITS, "limit" => "spool_keep_bytes").increment(1);
                    warn!(bytes, "kept spools hold more than spool.keep_bytes, and none may go");
                    return Ok(Stage::Days(None));
                }
            }
        }
        Ok(Stage::SpoolBytes(queue, dated))
    }

    /// Days of pictures that are older as a whole; none: they are not known yet.
    fn days(&mut self, hands: &Hands, days: Option<Vec<(String, String)>>) -> Result<Stage, StoreError> {
        let Some(mut days) = days else { return Ok(Stage::Days(Some(self.old_days(hands)?))) };
        let Some((camera, day)) = days.pop() else { return Ok(Stage::Over(Vec::new())) };
        let path = format!("capture/image/{camera}/{day}");
        if hands.is_stuck(&path) {
            return Ok(Stage::Days(Some(days)));
        }
        match DayEraser::new(&hands.data_dir, &camera, &day) {
            Ok(Some(eraser)) => {
                days.push((camera, day));
                return Ok(Stage::Erase(Box::new(eraser), days));
            }
            Ok(None) => {}
            Err(error) => hands.cannot_remove(&path, &error),
        }
        Ok(Stage::Days(Some(days)))
    }

    fn old_days(&self, hands: &Hands) -> Result<Vec<(String, String)>, StoreError> {
        let mut days = Vec::new();
        for (camera, its_days) in if self.plan.by_age { image_days(&hands.data_dir)? } else { Vec::new() } {
            let Some(age) = self.plan.rules.limit(&camera, Evidence::Image, None).age else { continue };
            let limit = before(self.plan.now, age).date();
            let is_old = |day: &String| self.plan.times.latest_day(day) < limit;
            days.extend(its_days.into_iter().filter(is_old).map(|day| (camera.clone(), day)));
        }
        Ok(days)
    }

    fn erase(
        &mut self,
        hands: &mut Hands,
        mut eraser: Box<DayEraser>,
        mut days: Vec<(String, String)>,
    ) -> Stage {
        let Some((camera, day)) = days.last() else { return Stage::Days(Some(days)) };
        let path = format!("capture/image/{camera}/{day}");
        let over = match eraser.step(IMAGES) {
            Ok(done) => {
                hands.count(Evidence::Image, Why::Age, (done.files, done.bytes), self.plan.now);
                if let Some(held) = self.images.get_mut(self.plan.rules.account(camera)) {
                    *held = held.saturating_sub(done.bytes);
                }
                if let Some(error) = &done.why {
                    hands.cannot_remove(&path, error);
                }
                done.over
            }
            Err(error) => {
                hands.cannot_remove(&path, &error);
                true
            }
        };
        if !over {
            return Stage::Erase(eraser, days);
        }
        hands.remover.forget_day(camera, day);
        days.pop();
        Stage::Days(Some(days))
    }

    fn over(&mut self, hands: &Hands, mut others: Vec<(String, u64)>) -> Result<Stage, StoreError> {
        if others.is_empty() {
            for (account, held) in std::mem::take(&mut self.images) {
                let limit = self.plan.rules.limit(&account, Evidence::Image, None).bytes;
                others.extend(limit.filter(|limit| held > *limit).map(|limit| (account, held - limit)));
            }
        }
        let Some((account, bytes)) = others.pop() else { return Ok(Stage::Events(0)) };
        self.begin_images(hands, Over { account, bytes, others }, Dated::Rightly)
    }

    fn begin_images(&self, hands: &Hands, over: Over, dated: Dated) -> Result<Stage, StoreError> {
        let (rules, account) = (self.plan.rules.clone(), over.account.clone());
        let mut queue = ImageQueue::new(&hands.data_dir, move |camera| rules.account(camera) == account)?;
        if !self.plan.times.is_empty() && dated == Dated::Rightly {
            let times = self.plan.times.clone();
            queue = queue.at_times(move |at| !times.hold(at));
        }
        Ok(Stage::Images(Box::new(queue), over, dated))
    }

    fn images(
        &mut self,
        hands: &mut Hands,
        mut queue: Box<ImageQueue>,
        mut over: Over,
        dated: Dated,
    ) -> Result<Stage, StoreError> {
        let began = Instant::now();
        for _ in 0..IMAGES {
            let looked = queue.look(NAMES)?;
            if let Some(error) = queue.trouble() {
                hands.cannot_remove("capture/image", &error);
            }
            if looked == Looked::NotYet || began.elapsed() > PATIENCE {
                break;
            }
            if over.bytes == 0 {
                return Ok(Stage::Over(over.others));
            }
            let Some(image) = queue.take() else {
                let more = dated == Dated::Rightly && !self.plan.times.is_empty();
                return if more {
                    self.begin_images(hands, over, Dated::Anyhow)
                } else {
                    Ok(Stage::Over(over.others))
                };
            };
            let doomed = Doomed { path: image.path, evidence: Evidence::Image, why: Why::Bytes };
            if let Some(bytes) = hands.remove(&doomed, self.plan.now) {
                over.bytes = over.bytes.saturating_sub(bytes.max(1));
                self.recount = true;
            }
        }
        hands.settle(self.plan.now);
        Ok(Stage::Images(queue, over, dated))
    }

    /// Events of which nothing is left, so many in one sweep.
    fn events(
        &mut self,
        hands: &Hands,
        looked: usize,
        place: &mut Option<EventPlace>,
    ) -> Result<Stage, StoreError> {
        let shortest = self.plan.rules.shortest_age().filter(|_| self.plan.by_age);
        let Some(shortest) = shortest.filter(|_| looked < EVENTS_PER_SWEEP) else { return Ok(Stage::Done) };
        let oldest = before(self.plan.now, shortest);
        let (bare, next) = hands.reader.bare_events(*place, oldest, EVENTS)?;
        // After the last one the next sweep begins anew.
        *place = next;
        if next.is_none() {
            return Ok(Stage::Done);
        }
        let old: Vec<BareEvent> = bare
            .into_iter()
            .filter(|event| {
                let age = self.plan.rules.limit(&event.camera, Evidence::Event, None).age;
                age.is_some_and(|age| self.is_older(event.started, age))
            })
            .collect();
        if !old.is_empty() {
            let gone = hands.ask(move |store| store.forget_events(&old))?;
            hands.count(Evidence::Event, Why::Age, (gone as u64, 0), self.plan.now);
        }
        Ok(Stage::Events(looked + EVENTS))
    }
}
