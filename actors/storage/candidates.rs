//! What may go when the disk needs room, oldest first over all cameras and sorts: clips, videos, segments and
//! snapshots by their rows, pictures of mode 1 by their names, spools that nobody works on.

use std::collections::VecDeque;

use meerkat_base::{EventKind, Evidence, WallTime};
use meerkat_store::evict::{Remover, name_of};
use meerkat_store::images::{ImageQueue, Looked};
use meerkat_store::retention::{EvictPlace, Evictable};
use meerkat_store::{StoreError, StoreReader};

/// Rows read at a time.
const PAGE: usize = 256;
/// Names of pictures looked at in one go.
const NAMES: usize = 20_000;
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
    rows: VecDeque<Candidate>,
    place: EvictPlace,
    rows_done: bool,
    awaited: VecDeque<Candidate>,
    images: ImageQueue,
    images_done: bool,
    spools: VecDeque<Candidate>,
}

impl Candidates {
    pub fn begin(reader: &StoreReader, remover: &Remover) -> Result<Self, StoreError> {
        let mut spools = VecDeque::new();
        for path in remover.resting_spools()? {
            // The pictures of a clip that is kept are kept with it.
            // One that was set aside may have a row, and is found by that.
            if reader.clip_at(&path)?.is_some() {
                continue;
            }
            let made = remover.made_of(&path);
            if made.is_some_and(|made| reader.is_kept(&made).unwrap_or(true)) {
                continue;
            }
            let at = WallTime::from_name(name_of(&path)).unwrap_or(WallTime(0));
            spools.push_back(Candidate::without_row(path, Evidence::Spool, at));
        }
        Ok(Self {
            rows: VecDeque::new(),
            place: EvictPlace::default(),
            rows_done: false,
            awaited: VecDeque::new(),
            images: ImageQueue::new(reader.folder(), |_| true)?,
            images_done: false,
            spools,
        })
    }

    /// The database cannot be written: only what has no row can go in this pass.
    pub fn without_rows(&mut self) {
        self.rows.clear();
        self.awaited.clear();
        self.rows_done = true;
    }

    pub fn next(&mut self, reader: &StoreReader) -> Result<Next, StoreError> {
        if self.rows.is_empty() && !self.rows_done {
            let (page, place) = reader.evictable(self.place, PAGE)?;
            self.rows_done = place == self.place;
            self.place = place;
            for row in page {
                let awaited = row.awaited;
                let candidate = Candidate::from(row);
                if !awaited {
                    self.rows.push_back(candidate);
                } else if self.awaited.len() < AWAITED {
                    self.awaited.push_back(candidate);
                }
            }
            if self.rows.is_empty() && !self.rows_done {
                return Ok(Next::NotYet);
            }
        }
        if !self.images_done {
            match self.images.look(NAMES)? {
                Looked::NotYet => return Ok(Next::NotYet),
                Looked::Found => {}
                Looked::Nothing => self.images_done = true,
            }
        }
        let row = self.rows.front().map(|row| row.at);
        let spool = self.spools.front().map(|spool| spool.at);
        let image = self.images.oldest().map(|image| image.at);
        let oldest = row.into_iter().chain(spool).chain(image).min();
        let Some(oldest) = oldest else {
            return Ok(self.awaited.pop_front().map_or(Next::Nothing, Next::Goes));
        };
        if row == Some(oldest) {
            return Ok(self.rows.pop_front().map_or(Next::NotYet, Next::Goes));
        }
        if spool == Some(oldest) {
            return Ok(self.spools.pop_front().map_or(Next::NotYet, Next::Goes));
        }
        Ok(self.images.take().map_or(Next::NotYet, |image| {
            Next::Goes(Candidate::without_row(image.path, Evidence::Image, image.at))
        }))
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
