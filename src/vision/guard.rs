//! Mode 3: guards an object that stands still in a zone. Says whether it is in its place, was moved, or is
//! gone. Knows one camera's reduced planes; sends no alerts itself.
//!
//! The object is found in the *reference*, the mean of the first frames in which the zone is still. Each frame
//! is first compared with the reference at the object's place, in the light of the frame; as long as little
//! differs there, nothing else is done. Else the object is looked for nearby by its pattern. Found elsewhere,
//! at rest, for several frames in a row, it was *moved*. Not found, the guard waits until its surroundings look
//! as before and nothing stirs; if its outline is gone even then, it was *removed*. Until then somebody merely
//! stands in front of it.

mod reference;
mod segment;

use std::time::Duration;

use meerkat_base::{MonoTime, Point, Rect};

use self::reference::{Found, Reference};
use self::segment::Area;
use crate::light::{self, Light};
use crate::{GrayPlane, VisionError};

/// What is guarded and how patiently.
#[derive(Debug, Clone, PartialEq)]
pub struct GuardSettings {
    /// Where the object stands, in shares (0..=1) of width and height, with some surroundings on all sides.
    /// Without a zone: the picture without a margin of a tenth.
    pub zone: Option<Rect>,
    /// The object has moved when it is this share of the frame's width away from its place.
    pub displacement: f32,
    /// … in this many frames in a row.
    pub confirm_frames: u32,
    /// Still frames that a reference is made of.
    pub learn_frames: u32,
    /// Differences below this many grey levels do not count.
    pub min_difference: f32,
    /// The view must have been free and still this long before a missing object counts as removed.
    pub clear_after: Duration,
    /// What has changed around the object and rests this long belongs to the scene.
    pub refresh_after: Duration,
}

impl Default for GuardSettings {
    fn default() -> Self {
        Self {
            zone: None,
            displacement: 0.02,
            confirm_frames: 5,
            learn_frames: 10,
            min_difference: 16.0,
            clear_after: Duration::from_millis(1500),
            refresh_after: Duration::from_secs(5),
        }
    }
}

impl GuardSettings {
    /// The difference that counts in a light: less in the dark, where everything differs less.
    fn levels_in(&self, light: Light) -> u8 {
        (self.min_difference * light.gain.min(1.0)).clamp(8.0, 128.0) as u8
    }
}

/// What the guard is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardState {
    /// It waits for still frames to make a reference of.
    Learning,
    /// Nothing stands out in the zone; it waits until something is put there.
    NoObject,
    /// The object is in its place.
    Watching,
    /// The object is in sight, but not in its place; not yet long enough for an alarm.
    Displaced,
    /// The object cannot be seen: somebody is in front of it, or the picture is useless.
    Covered,
    /// The object was removed; it waits until something is put there.
    Gone,
}

/// Something happened to the object. Said once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardAlarm {
    /// It stands elsewhere.
    ObjectMoved,
    /// It is no longer there.
    ObjectRemoved,
}

/// What one frame showed. Positions are pixels of the original frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GuardReport {
    /// What the guard is doing now.
    pub state: GuardState,
    /// Middle of the object, while it is seen.
    pub centroid: Option<Point>,
    /// How far it is from its place, 0 when it is not seen.
    pub displacement_px: f32,
    /// Its box, while it is seen.
    pub object: Option<Rect>,
    /// What happened in this frame.
    pub alarm: Option<GuardAlarm>,
}

/// As long as no more of the object's pixels differ, it is in its place.
const SAME_OBJECT: f32 = 0.12;
/// The surroundings are free while no more of their pixels differ.
const FREE_AROUND: f32 = 0.2;
/// More than this is worth taking into the reference when it rests.
const CHANGED_AROUND: f32 = 0.06;
/// The outline is gone when no more of it is left.
const OUTLINE_GONE: f32 = 0.5;
/// Something stirs when more of the nearby pixels than this differ from when it last stirred.
const STIRRED: f32 = 0.03;
/// The picture is useless when the light explains less of it.
const USABLE: f32 = 0.35;
/// The picture is useless when its contrast fell to this share.
const LEAST_GAIN: f32 = 0.2;
/// Something was put into an empty zone when this share of it differs.
const PUT_THERE: f32 = 0.012;
/// How often the reference follows slow changes by one level.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

/// Guards the object of one camera. Feed it every plane that is decoded.
#[derive(Debug)]
pub struct Guard {
    settings: GuardSettings,
    phase: Phase,
    still: Option<Still>,
    followed: MonoTime,
    pairs: Vec<(u8, u8)>,
}

#[derive(Debug)]
enum Phase {
    Learning(Learning),
    /// With an object in the reference, or none.
    Guarding(Box<Guarding>),
}

#[derive(Debug, Default)]
struct Learning {
    width: usize,
    first: Vec<u8>,
    sums: Vec<u32>,
    frames: u32,
    /// Where something new was seen; the object is looked for only there.
    hint: Option<Vec<u8>>,
    /// What is said meanwhile.
    emptied: bool,
}

#[derive(Debug)]
struct Guarding {
    reference: Reference,
    displaced: Option<(Found, u32)>,
    /// The object was removed (rather than never found).
    emptied: bool,
}

/// Since when nothing stirs, and what it looked like then.
#[derive(Debug)]
struct Still {
    since: MonoTime,
    look: Vec<u8>,
}

impl Guard {
    /// A guard that has seen nothing.
    pub fn new(settings: GuardSettings) -> Self {
        crate::init();
        let phase = Phase::Learning(Learning::default());
        Self { settings, phase, still: None, followed: MonoTime::default(), pairs: Vec::new() }
    }

    /// Forgets the object and takes a new reference from the next still frames.
    pub fn new_reference(&mut self) {
        self.phase = Phase::Learning(Learning::default());
        self.still = None;
    }

    /// Looks at the next frame. A plane of another size than the last starts with a new reference.
    pub fn observe(&mut self, plane: &GrayPlane, mono: MonoTime) -> Result<GuardReport, VisionError> {
        let pixels = plane.pixels();
        let (width, height) = (plane.width() as usize, plane.height() as usize);
        if pixels.is_empty() || pixels.len() != width * height {
            return Ok(said(GuardState::Learning));
        }
        let same_size = match &self.phase {
            Phase::Learning(learning) => {
                learning.frames == 0 || (learning.width, learning.sums.len()) == (width, pixels.len())
            }
            Phase::Guarding(g) => (g.reference.width, g.reference.height) == (width, height),
        };
        if !same_size {
            self.new_reference();
        }
        match &self.phase {
            Phase::Learning(_) => self.learn(pixels, width),
            Phase::Guarding(g) if g.reference.object.is_some() => self.guard(plane, mono),
            Phase::Guarding(_) => self.wait_for_object(pixels, mono),
        }
    }

    // === Learning ===

    fn learn(&mut self, pixels: &[u8], width: usize) -> Result<GuardReport, VisionError> {
        let zone = zone_of(&self.settings, width, pixels.len() / width);
        let levels = self.settings.levels_in(Light::SAME);
        let Phase::Learning(learning) = &mut self.phase else { return Ok(said(GuardState::Learning)) };
        let state = if learning.emptied { GuardState::Gone } else { GuardState::Learning };
        if learning.frames > 0 && !learning.goes_on(pixels, zone, levels, &mut self.pairs) {
            learning.frames = 0;
        }
        learning.add(pixels, width);
        if learning.frames < self.settings.learn_frames.max(1) {
            return Ok(said(state));
        }
        let frames = learning.frames;
        let mean = learning.sums.iter().map(|sum| ((sum + frames / 2) / frames) as u8).collect();
        let reference = Reference::new(mean, width, zone, learning.hint.as_deref())?;
        let emptied = learning.emptied && reference.object.is_none();
        self.still = None;
        self.phase = Phase::Guarding(Box::new(Guarding { reference, displaced: None, emptied }));
        Ok(said(self.resting_state()))
    }

    /// What to say while nothing happens.
    fn resting_state(&self) -> GuardState {
        match &self.phase {
            Phase::Learning(_) => GuardState::Learning,
            Phase::Guarding(g) if g.reference.object.is_some() => GuardState::Watching,
            Phase::Guarding(g) if g.emptied => GuardState::Gone,
            Phase::Guarding(_) => GuardState::NoObject,
        }
    }

    // === No object ===

    fn wait_for_object(&mut self, pixels: &[u8], mono: MonoTime) -> Result<GuardReport, VisionError> {
        let state = self.resting_state();
        let Phase::Guarding(guarding) = &mut self.phase else { return Ok(said(state)) };
        let (light, explained) = guarding.reference.light(pixels, &mut self.pairs);
        if explained < USABLE || light.gain < LEAST_GAIN {
            self.still = None;
            return Ok(said(state));
        }
        let levels = self.settings.levels_in(light);
        let (changes, share) = guarding.reference.zone_changes(pixels, light, levels);
        if share < PUT_THERE {
            self.still = None;
            if mono.since(self.followed) >= FOLLOW_EVERY {
                self.followed = mono;
                guarding.reference.follow(pixels, light, levels);
            }
            return Ok(said(state));
        }
        let look = guarding.reference.nearby(None, pixels, light);
        let emptied = guarding.emptied;
        if self.still_for(look, mono) >= self.settings.refresh_after {
            let learning = Learning { hint: Some(changes), emptied, ..Learning::default() };
            self.phase = Phase::Learning(learning);
            self.still = None;
        }
        Ok(said(state))
    }

    // === Guarding ===

    fn guard(&mut self, plane: &GrayPlane, mono: MonoTime) -> Result<GuardReport, VisionError> {
        let pixels = plane.pixels();
        let covered = Ok(said(GuardState::Covered));
        let Phase::Guarding(guarding) = &mut self.phase else { return covered };
        let Guarding { reference, displaced, .. } = guarding.as_mut();
        let Some(object) = &reference.object else { return covered };
        let (light, explained) = reference.light(pixels, &mut self.pairs);
        if explained < USABLE || light.gain < LEAST_GAIN {
            *displaced = None;
            self.still = None;
            return covered;
        }
        let levels = self.settings.levels_in(light);
        let changed = reference.changed(object, pixels, light, levels);
        let in_place = seen(plane, object, Found { dx: 0, dy: 0 }, GuardState::Watching);

        if changed.object <= SAME_OBJECT && changed.around <= CHANGED_AROUND {
            *displaced = None;
            self.still = None;
            if mono.since(self.followed) >= FOLLOW_EVERY {
                self.followed = mono;
                reference.follow(pixels, light, levels / 2);
            }
            return Ok(in_place);
        }

        let found = if changed.object <= SAME_OBJECT {
            Some(Found { dx: 0, dy: 0 })
        } else {
            reference.find(object, pixels, light, levels)?
        };
        let look = reference.nearby(Some(object), pixels, light);
        let far = |f: Found| {
            f32::hypot(f.dx as f32, f.dy as f32)
                >= (self.settings.displacement * reference.width as f32).max(1.5)
        };
        let Some(found) = found else {
            *displaced = None;
            let outline_left = reference.outline_left(object, pixels, light) > OUTLINE_GONE;
            let still_for = self.still_for(look, mono);
            if outline_left {
                // It only looks different: a coloured light, a reflection.
                if still_for >= self.settings.refresh_after {
                    self.refresh(pixels, light)?;
                }
                return Ok(in_place);
            }
            if changed.around > FREE_AROUND || still_for < self.settings.clear_after {
                return covered;
            }
            return Ok(self.removed(pixels.len()));
        };
        if !far(found) {
            *displaced = None;
            let report = seen(plane, object, found, GuardState::Watching);
            if self.still_for(look, mono) >= self.settings.refresh_after {
                self.refresh(pixels, light)?;
            }
            return Ok(report);
        }
        let mut report = seen(plane, object, found, GuardState::Displaced);
        let frames = match *displaced {
            Some((before, frames)) if near(before, found) => frames + 1,
            _ => 1,
        };
        *displaced = Some((found, frames));
        if frames >= self.settings.confirm_frames.max(1) {
            reference.rebase(pixels, light, found)?;
            *displaced = None;
            self.still = None;
            report.state = GuardState::Watching;
            report.alarm = Some(GuardAlarm::ObjectMoved);
        }
        Ok(report)
    }

    /// Takes a new reference of the empty zone, in which nothing is taken for an object.
    fn removed(&mut self, pixels: usize) -> GuardReport {
        let hint = Some(vec![0; pixels]);
        self.phase = Phase::Learning(Learning { emptied: true, hint, ..Learning::default() });
        self.still = None;
        GuardReport { alarm: Some(GuardAlarm::ObjectRemoved), ..said(GuardState::Gone) }
    }

    fn refresh(&mut self, pixels: &[u8], light: Light) -> Result<(), VisionError> {
        self.still = None;
        if let Phase::Guarding(guarding) = &mut self.phase {
            guarding.reference.refresh(pixels, light)?;
        }
        Ok(())
    }

    /// How long nothing has stirred nearby. A slow change is compared with when it began, so it stirs too.
    fn still_for(&mut self, look: Vec<u8>, mono: MonoTime) -> Duration {
        let levels = self.settings.levels_in(Light::SAME);
        if let Some(still) = &self.still
            && still.look.len() == look.len()
        {
            let differ = still.look.iter().zip(&look).filter(|(a, b)| a.abs_diff(**b) > levels).count();
            if differ as f32 <= STIRRED * look.len() as f32 {
                return mono.since(still.since);
            }
        }
        self.still = Some(Still { since: mono, look });
        Duration::ZERO
    }
}

impl Learning {
    /// Whether the zone looks as in the first frame of this run, in whatever light the run began in.
    fn goes_on(&self, pixels: &[u8], zone: Area, levels: u8, pairs: &mut Vec<(u8, u8)>) -> bool {
        pairs.clear();
        pairs.extend(self.first.iter().copied().zip(pixels.iter().copied()).step_by(13));
        if light::fit(pairs).0.shift() > 4.0 {
            return false;
        }
        let mut differ = 0usize;
        for y in zone.top..zone.bottom {
            let row = y * self.width + zone.left..y * self.width + zone.right;
            let both =
                self.first.get(row.clone()).into_iter().flatten().zip(pixels.get(row).into_iter().flatten());
            differ += both.filter(|(a, b)| a.abs_diff(**b) > levels).count();
        }
        differ * 200 <= zone.width() * zone.height()
    }

    fn add(&mut self, pixels: &[u8], width: usize) {
        if self.frames == 0 {
            self.width = width;
            self.first = pixels.to_vec();
            self.sums = vec![0; pixels.len()];
        }
        for (sum, &p) in self.sums.iter_mut().zip(pixels) {
            *sum = sum.saturating_add(u32::from(p));
        }
        self.frames += 1;
    }
}

fn near(a: Found, b: Found) -> bool {
    (a.dx - b.dx).abs() <= 1 && (a.dy - b.dy).abs() <= 1
}

fn said(state: GuardState) -> GuardReport {
    GuardReport { state, centroid: None, displacement_px: 0.0, object: None, alarm: None }
}

/// A report of an object that is seen at an offset from its place.
fn seen(plane: &GrayPlane, object: &reference::Object, at: Found, state: GuardState) -> GuardReport {
    let factor = plane.reduction() as f32;
    let (dx, dy) = (at.dx as f32, at.dy as f32);
    let bounds = object.bounds;
    let rect = Rect::new(
        bounds.left as f32 + dx,
        bounds.top as f32 + dy,
        bounds.width() as f32,
        bounds.height() as f32,
    );
    let centroid = Point { x: (object.centroid.0 + dx) * factor, y: (object.centroid.1 + dy) * factor };
    GuardReport {
        state,
        centroid: Some(centroid),
        displacement_px: dx.hypot(dy) * factor,
        object: Some(rect.scaled(factor)),
        alarm: None,
    }
}

/// The zone in pixels of the plane.
fn zone_of(settings: &GuardSettings, width: usize, height: usize) -> Area {
    let zone = settings.zone.unwrap_or(Rect::new(0.1, 0.1, 0.8, 0.8));
    let pixel =
        |share: f32, extent: usize| ((share.clamp(0.0, 1.0) * extent as f32).round() as usize).min(extent);
    let (left, top) = (pixel(zone.x, width), pixel(zone.y, height));
    Area {
        left,
        top,
        right: pixel(zone.x + zone.width, width).max(left),
        bottom: pixel(zone.y + zone.height, height).max(top),
    }
}

#[cfg(test)]
mod tests;
