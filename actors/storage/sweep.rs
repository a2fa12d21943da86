//! One sweep over what is kept: counts where there are limits by bytes, then deletes what is older, or more, than the
//! settings allow; a little per step. What is kept is left out, and so is what an alert that waits still shows.

use std::collections::HashMap;
use std::time::Duration;

use meerkat_base::{EventKind, Evidence, WallTime};
use meerkat_settings::RetentionSettings;
use meerkat_store::StoreError;
use meerkat_store::disk::HeldByCamera;
use meerkat_store::evict::name_of;
use meerkat_store::images::{DayEraser, ImageQueue, Looked, image_days};
use meerkat_store::retention::{BareEvent, EvictPlace, Evictable, camera_of};

use super::hands::{Doomed, Hands, Why};

/// Rows looked at in one step.
const PAGE: usize = 256;
/// Names of pictures looked at, and pictures removed, in one step.
const NAMES: usize = 5_000;
const IMAGES: usize = 256;

/// The camera's account, the sort, and what happened where that has a limit of its own.
type Bucket = (String, Evidence, Option<EventKind>);

enum Stage {
    Count(EvictPlace),
    Rows(EvictPlace),
    Spools,
    Days(Vec<(String, String)>),
    Erase(Box<DayEraser>, Vec<(String, String)>),
    Over(Vec<(String, u64)>),
    Images(Box<ImageQueue>, u64, Vec<(String, u64)>),
    Events(Option<BareEvent>),
    Done,
}

/// One sweep.
pub(super) struct Sweep {
    rules: RetentionSettings,
    now: WallTime,
    /// False while the clock is in doubt.
    by_age: bool,
    images: HashMap<String, u64>,
    /// Bytes in each bucket that has a limit, and the limit.
    held: HashMap<Bucket, (u64, u64)>,
    stage: Stage,
}

fn before(now: WallTime, age: Duration) -> WallTime {
    now.offset_micros(i64::try_from(age.as_micros()).map_or(i64::MIN, |micros| -micros))
}

impl Sweep {
    /// `held`: what there is of pictures without rows, as counted last.
    pub fn new(rules: RetentionSettings, now: WallTime, by_age: bool, held: &HeldByCamera) -> Self {
        let mut images: HashMap<String, u64> = HashMap::new();
        for ((camera, evidence), held) in held {
            if *evidence == Evidence::Image {
                *images.entry(rules.account(camera).to_owned()).or_default() += held.bytes;
            }
        }
        let stage = if rules.counts_bytes() {
            Stage::Count(EvictPlace::default())
        } else {
            Stage::Rows(EvictPlace::default())
        };
        Self { rules, now, by_age, images, held: HashMap::new(), stage }
    }

    /// Does a little more. Returns whether that was all.
    pub fn step(&mut self, hands: &mut Hands) -> Result<bool, StoreError> {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Count(place) => self.count(hands, place)?,
            Stage::Rows(place) => self.rows(hands, place)?,
            Stage::Spools => self.spools(hands)?,
            Stage::Days(days) => Self::days(hands, days)?,
            Stage::Erase(eraser, days) => self.erase(hands, eraser, days)?,
            Stage::Over(over) => self.over(hands, over)?,
            Stage::Images(queue, left, over) => self.images(hands, queue, left, over)?,
            Stage::Events(after) => self.events(hands, after)?,
            Stage::Done => Stage::Done,
        };
        Ok(matches!(self.stage, Stage::Done))
    }

    /// The bucket that a thing counts in and its limit, where there is one.
    fn bucket(&self, camera: &str, evidence: Evidence, events: &[EventKind]) -> Option<(Bucket, u64)> {
        let patient = self.most_patient(camera, evidence, events);
        let limit = self.rules.limit(camera, evidence, patient).bytes?;
        let own = patient.filter(|kind| self.rules.has_own_bytes(camera, evidence, *kind));
        Some(((self.rules.account(camera).to_owned(), evidence, own), limit))
    }

    /// Of several events in a clip, the one that is to stay longest.
    fn most_patient(&self, camera: &str, evidence: Evidence, events: &[EventKind]) -> Option<EventKind> {
        let age =
            |kind: &EventKind| self.rules.limit(camera, evidence, Some(*kind)).age.unwrap_or(Duration::MAX);
        events.iter().copied().max_by_key(age)
    }

    fn count(&mut self, hands: &Hands, place: EvictPlace) -> Result<Stage, StoreError> {
        let (page, next) = hands.reader.evictable(place, PAGE)?;
        for one in &page {
            if let Some((bucket, limit)) = self.bucket(one.camera(), one.evidence, &one.events) {
                self.held.entry(bucket).or_insert((0, limit)).0 += one.bytes;
            }
        }
        Ok(if next == place { Stage::Rows(EvictPlace::default()) } else { Stage::Count(next) })
    }

    fn why(&mut self, one: &Evictable) -> Option<Why> {
        let patient = self.most_patient(one.camera(), one.evidence, &one.events);
        let age = self.rules.limit(one.camera(), one.evidence, patient).age;
        if self.by_age && age.is_some_and(|age| one.at < before(self.now, age)) {
            self.uncount(one);
            return Some(Why::Age);
        }
        let (bucket, _) = self.bucket(one.camera(), one.evidence, &one.events)?;
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

    fn rows(&mut self, hands: &mut Hands, place: EvictPlace) -> Result<Stage, StoreError> {
        let (page, next) = hands.reader.evictable(place, PAGE)?;
        let over = self.held.values().any(|(held, limit)| held > limit);
        let youngest = self.rules.shortest_age().filter(|_| self.by_age).map(|age| before(self.now, age));
        // Oldest first: beyond this nothing is old enough, and nothing is counted.
        let beyond = page.first().is_some_and(|one| youngest.is_none_or(|youngest| one.at >= youngest));
        if next == place || (beyond && !over) {
            return Ok(Stage::Spools);
        }
        let mut doomed = Vec::new();
        for one in page.into_iter().filter(|one| !one.awaited) {
            if let Some(why) = self.why(&one) {
                doomed.push(Doomed { path: one.path, evidence: one.evidence, why });
            }
        }
        hands.delete_rows(doomed, self.now)?;
        Ok(Stage::Rows(next))
    }

    fn spools(&mut self, hands: &mut Hands) -> Result<Stage, StoreError> {
        if self.by_age {
            for path in hands.remover.resting_spools()? {
                if hands.reader.clip_at(&path)?.is_some() {
                    continue;
                }
                let made = hands.remover.made_of(&path);
                if made.is_some_and(|made| hands.reader.is_kept(&made).unwrap_or(true)) {
                    continue;
                }
                let age = self.rules.limit(camera_of(&path), Evidence::Spool, None).age;
                let begun = WallTime::from_name(name_of(&path));
                if let (Some(age), Some(begun)) = (age, begun)
                    && begun < before(self.now, age)
                {
                    hands.remove(&Doomed { path, evidence: Evidence::Spool, why: Why::Age }, self.now)?;
                }
            }
        }
        let mut days = Vec::new();
        for (camera, its_days) in if self.by_age { image_days(&hands.data_dir)? } else { Vec::new() } {
            let Some(age) = self.rules.limit(&camera, Evidence::Image, None).age else { continue };
            // The whole day is older.
            let limit = before(self.now, age).date();
            days.extend(its_days.into_iter().filter(|day| *day < limit).map(|day| (camera.clone(), day)));
        }
        Ok(Stage::Days(days))
    }

    fn days(hands: &Hands, mut days: Vec<(String, String)>) -> Result<Stage, StoreError> {
        let Some((camera, day)) = days.last() else { return Ok(Stage::Over(Vec::new())) };
        match DayEraser::new(&hands.data_dir, camera, day)? {
            Some(eraser) => Ok(Stage::Erase(Box::new(eraser), days)),
            None => {
                days.pop();
                Ok(Stage::Days(days))
            }
        }
    }

    fn erase(
        &mut self,
        hands: &mut Hands,
        mut eraser: Box<DayEraser>,
        mut days: Vec<(String, String)>,
    ) -> Result<Stage, StoreError> {
        let (files, bytes, over) = eraser.step(IMAGES)?;
        hands.count(Evidence::Image, Why::Age, (files, bytes), self.now);
        let Some((camera, day)) = days.last() else { return Ok(Stage::Days(days)) };
        if let Some(held) = self.images.get_mut(self.rules.account(camera)) {
            *held = held.saturating_sub(bytes);
        }
        if !over {
            return Ok(Stage::Erase(eraser, days));
        }
        hands.remover.forget_day(camera, day);
        days.pop();
        Ok(Stage::Days(days))
    }

    fn over(&mut self, hands: &Hands, mut over: Vec<(String, u64)>) -> Result<Stage, StoreError> {
        if over.is_empty() {
            for (account, held) in std::mem::take(&mut self.images) {
                let limit = self.rules.limit(&account, Evidence::Image, None).bytes;
                over.extend(limit.filter(|limit| held > *limit).map(|limit| (account, held - limit)));
            }
        }
        let Some((account, bytes)) = over.pop() else { return Ok(Stage::Events(None)) };
        let rules = self.rules.clone();
        let queue = ImageQueue::new(&hands.data_dir, move |camera| rules.account(camera) == account)?;
        Ok(Stage::Images(Box::new(queue), bytes, over))
    }

    fn images(
        &mut self,
        hands: &mut Hands,
        mut queue: Box<ImageQueue>,
        mut left: u64,
        over: Vec<(String, u64)>,
    ) -> Result<Stage, StoreError> {
        for _ in 0..IMAGES {
            match queue.look(NAMES)? {
                Looked::NotYet => break,
                Looked::Nothing => left = 0,
                Looked::Found => {}
            }
            let Some(image) = queue.take().filter(|_| left > 0) else { return Ok(Stage::Over(over)) };
            let doomed = Doomed { path: image.path, evidence: Evidence::Image, why: Why::Bytes };
            left = left.saturating_sub(hands.remove(&doomed, self.now)?.max(1));
        }
        hands.remover.settle(&self.now.date())?;
        Ok(Stage::Images(queue, left, over))
    }

    fn events(&mut self, hands: &Hands, after: Option<BareEvent>) -> Result<Stage, StoreError> {
        let shortest = self.rules.shortest_age().filter(|_| self.by_age);
        let Some(shortest) = shortest else { return Ok(Stage::Done) };
        let page = hands.reader.bare_events(after.as_ref(), before(self.now, shortest), PAGE)?;
        let Some(last) = page.last().cloned() else { return Ok(Stage::Done) };
        let old: Vec<BareEvent> = page
            .into_iter()
            .filter(|event| {
                let age = self.rules.limit(&event.camera, Evidence::Event, None).age;
                age.is_some_and(|age| event.started < before(self.now, age))
            })
            .collect();
        let now = self.now;
        let gone = hands.ask(move |store| store.forget_events(&old))?;
        hands.count(Evidence::Event, Why::Age, (gone as u64, 0), now);
        Ok(Stage::Events(Some(last)))
    }
}
