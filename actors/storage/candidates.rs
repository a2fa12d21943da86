//! What may go when the disk needs room, oldest first over all cameras and sorts: clips, videos, segments and
//! snapshots by their rows, pictures of mode 1 and spools that nobody works on by their names. What was dated by a clock
//! that was behind is not taken for as old as it says.

use std::collections::VecDeque;

use meerkat_base::{EventKind, Evidence, WallTime};
use meerkat_store::evict::Remover;
use meerkat_store::images::{ImageQueue, Looked, OldImage};
use meerkat_store::resting::{RestingSpool, SpoolQueue};
use meerkat_store::retention::{EvictPlace, Evictable};
use meerkat_store::{StoreError, StoreReader};

use super::stretches::Stretches;

/// Rows read at a time.
const PAGE: usize = 256;
/// Names of pictures, and of spools, looked at in one go.
const NAMES: usize = 20_000;
/// Spools asked in one go whether they may go.
const SPOOLS: usize = 64;
/// What is shown by alerts that are not delivered yet; further ones are met again in the next pass.
const AWAITED: usize = 4_096;

/// One thing that may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub path: String,
    pub evidence: Evidence,
    pub at: WallTime,
    /// As far as it is known; pictures and spools say it when they are removed.
    pub bytes: u64,
    pub has_row: bool,
    /// What happened in it.
    pub events: Vec<EventKind>,
    /// Whether an alert about it is not delivered yet.
    pub awaited: bool,
}

/// What is next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The oldest that may go.
    Goes(Candidate),
    /// There is more to be read before that is known.
    NotYet,
    /// Nothing may go.
    Nothing,
}

/// One pass over everything.
pub(super) struct Candidates {
    lanes: Vec<Lane>,
    awaited: VecDeque<Candidate>,
    times: Stretches,
}

/// What is dated rightly, or what may have been dated by a clock that was behind; each oldest first.
struct Lane {
    rows: VecDeque<Candidate>,
    place: EvictPlace,
    rows_done: bool,
    images: ImageQueue,
    images_done: bool,
    spools: SpoolQueue,
    spools_done: bool,
    /// The oldest spool that may go.
    spool: Option<RestingSpool>,
    wrong: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Row,
    Spool,
    Image,
}

/// Whether a spool that nobody works on may go: the pictures of a clip that is kept are kept with it, and one that was
/// set aside may have a row, and is found by that.
pub(super) fn spool_may_go(
    reader: &StoreReader,
    remover: &Remover,
    spool: &RestingSpool,
) -> Result<bool, StoreError> {
    if !spool.is_kept {
        return Ok(reader.clip_at(&spool.path)?.is_none());
    }
    match remover.made_of(&spool.path) {
        Ok(Some(made)) => Ok(!reader.is_kept(&made)?),
        Ok(None) => Ok(true),
        Err(error) => {
            tracing::debug!(%error, "what a spool was kept for cannot be read; it stays");
            Ok(false)
        }
    }
}

impl Candidates {
    /// `times`: when the clock was behind.
    pub fn begin(reader: &StoreReader, times: Stretches) -> Result<Self, StoreError> {
        let mut lanes = vec![Lane::new(reader, &times, false)?];
        if !times.is_empty() {
            lanes.push(Lane::new(reader, &times, true)?);
        }
        Ok(Self { lanes, awaited: VecDeque::new(), times })
    }

    /// The database cannot be written: only what has no row can go in this pass.
    pub fn without_rows(&mut self) {
        for lane in &mut self.lanes {
            lane.rows.clear();
            lane.rows_done = true;
        }
        self.awaited.clear();
    }

    pub fn next(&mut self, reader: &StoreReader, remover: &Remover) -> Result<Next, StoreError> {
        for lane in &mut self.lanes {
            if !lane.fill(reader, remover, &self.times, &mut self.awaited)? {
                return Ok(Next::NotYet);
            }
        }
        let fronts = self.lanes.iter().enumerate().filter_map(|(n, lane)| {
            let (at, source) = lane.front()?;
            Some((self.times.earliest(at), n, source))
        });
        let Some((_, lane, source)) = fronts.min() else {
            return Ok(self.awaited.pop_front().map_or(Next::Nothing, Next::Goes));
        };
        Ok(self.lanes[lane].take(source, reader, remover)?.map_or(Next::NotYet, Next::Goes))
    }

    /// Folders that could not be read and were left out.
    pub fn troubles(&mut self) -> impl Iterator<Item = StoreError> {
        self.lanes.iter_mut().flat_map(|lane| lane.images.trouble().into_iter().chain(lane.spools.trouble()))
    }
}

impl Lane {
    fn new(reader: &StoreReader, times: &Stretches, wrong: bool) -> Result<Self, StoreError> {
        let filter = || {
            let times = times.clone();
            move |at: WallTime| times.hold(at) == wrong
        };
        let (mut images, mut place) = (ImageQueue::new(reader.folder(), |_| true)?, EvictPlace::default());
        if let Some((from, _)) = times.bounds() {
            images = images.at_times(filter());
            if wrong {
                place = EvictPlace::from(from);
            }
        }
        Ok(Self {
            rows: VecDeque::new(),
            place,
            rows_done: false,
            images,
            images_done: false,
            spools: SpoolQueue::new(reader.folder(), filter())?,
            spools_done: false,
            spool: None,
            wrong,
        })
    }

    /// Reads on, a little. Returns whether the oldest of each sort is known.
    fn fill(
        &mut self,
        reader: &StoreReader,
        remover: &Remover,
        times: &Stretches,
        awaited: &mut VecDeque<Candidate>,
    ) -> Result<bool, StoreError> {
        if self.rows.is_empty() && !self.rows_done {
            let (page, place) = reader.evictable(self.place, PAGE)?;
            let beyond = times.bounds().filter(|_| self.wrong).zip(page.first());
            self.rows_done = place == self.place || beyond.is_some_and(|((_, to), first)| first.at > to);
            self.place = place;
            for row in page.into_iter().filter(|row| times.hold(row.at) == self.wrong) {
                let row_awaited = row.awaited;
                let candidate = Candidate::from(row);
                if !row_awaited {
                    self.rows.push_back(candidate);
                } else if awaited.len() < AWAITED {
                    awaited.push_back(candidate);
                }
            }
            if self.rows.is_empty() && !self.rows_done {
                return Ok(false);
            }
        }
        if !self.images_done {
            match self.images.look(NAMES)? {
                Looked::NotYet => return Ok(false),
                Looked::Found => {}
                Looked::Nothing => self.images_done = true,
            }
        }
        for _ in 0..SPOOLS {
            if self.spools_done || self.spool.is_some() {
                return Ok(true);
            }
            match self.spools.look(NAMES) {
                Looked::NotYet => return Ok(false),
                Looked::Nothing => self.spools_done = true,
                Looked::Found => {
                    let Some(spool) = self.spools.take() else { continue };
                    if spool_may_go(reader, remover, &spool)? {
                        self.spool = Some(spool);
                    }
                }
            }
        }
        Ok(self.spools_done || self.spool.is_some())
    }

    /// The date of the oldest, and what it is.
    fn front(&self) -> Option<(WallTime, Source)> {
        let row = self.rows.front().map(|row| (row.at, Source::Row));
        let spool = self.spool.as_ref().map(|spool| (spool.at, Source::Spool));
        let image = self.images.oldest().map(|image| (image.at, Source::Image));
        row.into_iter().chain(spool).chain(image).min()
    }

    /// Takes the oldest of a sort out. None: a spool that may go no longer, as what was made of it is kept since it was
    /// found. Of rows that is asked when they are marked.
    fn take(
        &mut self,
        source: Source,
        reader: &StoreReader,
        remover: &Remover,
    ) -> Result<Option<Candidate>, StoreError> {
        Ok(match source {
            Source::Row => self.rows.pop_front(),
            Source::Spool => match self.spool.take() {
                Some(spool) if spool_may_go(reader, remover, &spool)? => {
                    Some(Candidate::without_row(spool.path, Evidence::Spool, spool.at))
                }
                Some(_) | None => None,
            },
            Source::Image => self
                .images
                .take()
                .map(|OldImage { path, at }| Candidate::without_row(path, Evidence::Image, at)),
        })
    }
}

impl From<Evictable> for Candidate {
    fn from(row: Evictable) -> Self {
        Self {
            path: row.path,
            evidence: row.evidence,
            at: row.at,
            bytes: row.bytes,
            has_row: true,
            events: row.events,
            awaited: row.awaited,
        }
    }
}

impl Candidate {
    fn without_row(path: String, evidence: Evidence, at: WallTime) -> Self {
        Self { path, evidence, at, bytes: 0, has_row: false, events: Vec::new(), awaited: false }
    }
}
