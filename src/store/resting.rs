//! Spools that nobody works on any more, oldest first. Many cameras that are recorded without a break make tens of
//! thousands a day: their folders are read a few names at a time, and only so many of the oldest names are held.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;

use meerkat_base::WallTime;
use rustix::fs::{Dir, FileType};

use crate::error::{Result, StoreError};
use crate::evict::{RESTING, is_gone, open};
use crate::files::{Folder, PART_PREFIX};
use crate::images::Looked;
use crate::spool::KEPT;

/// Names that are held at most.
const HELD: usize = 4_096;

/// One spool that nobody works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestingSpool {
    /// Path relative to the data folder.
    pub path: String,
    /// When its recording began, as its name says; long ago where it says nothing.
    pub at: WallTime,
    /// It is kept beside what was made of it; otherwise it was set aside.
    pub is_kept: bool,
}

/// Finds the oldest ones.
pub struct SpoolQueue {
    root: Folder,
    wanted: Box<dyn Fn(WallTime) -> bool + Send>,
    found: VecDeque<RestingSpool>,
    reading: Option<Reading>,
    /// Names up to this one were found already: whoever only looks removes nothing.
    after: Option<Key>,
    /// All of them were found.
    over: bool,
    trouble: Option<StoreError>,
}

/// The name, and the folder in which it lies. Names begin with the time.
type Key = (String, usize);

#[derive(Default)]
struct Reading {
    folder: usize,
    listing: Option<Dir>,
    oldest: BTreeSet<Key>,
}

impl SpoolQueue {
    /// Of those whose time is wanted.
    pub fn new(data_dir: &Path, wanted: impl Fn(WallTime) -> bool + Send + 'static) -> Result<Self> {
        Ok(Self {
            root: Folder::existing(data_dir)?,
            wanted: Box::new(wanted),
            found: VecDeque::new(),
            reading: None,
            after: None,
            over: false,
            trouble: None,
        })
    }

    /// Looks at so many more names, if need be. A folder that cannot be read is left out, see
    /// [`SpoolQueue::trouble`].
    pub fn look(&mut self, names: usize) -> Looked {
        if !self.found.is_empty() {
            return Looked::Found;
        }
        if self.over {
            return Looked::Nothing;
        }
        for _ in 0..names {
            let reading = self.reading.get_or_insert_default();
            let Some(resting) = RESTING.get(reading.folder) else { return self.all_read() };
            let below = format!("spool/{resting}");
            if reading.listing.is_none() {
                match open(&self.root, &below).and_then(|folder| folder.listing()) {
                    Ok(listing) => reading.listing = Some(listing),
                    Err(error) => {
                        reading.folder += 1;
                        self.trouble = self.trouble.take().or((!is_gone(&error)).then_some(error));
                        continue;
                    }
                }
            }
            match reading.listing.as_mut().and_then(Dir::next) {
                None => {
                    reading.listing = None;
                    reading.folder += 1;
                }
                Some(Err(error)) => {
                    reading.listing = None;
                    reading.folder += 1;
                    self.trouble =
                        self.trouble.take().or(Some(StoreError::io(self.root.path().join(below), error)));
                }
                Some(Ok(entry)) => {
                    let is_folder = matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
                    let Ok(name) = entry.file_name().to_str() else { continue };
                    if !is_folder || name.starts_with('.') || name.starts_with(PART_PREFIX) {
                        continue;
                    }
                    let key = (name.to_owned(), reading.folder);
                    let known = self.after.as_ref().is_some_and(|after| key <= *after);
                    if !known && (self.wanted)(time_of(name)) {
                        reading.oldest.insert(key);
                        if reading.oldest.len() > HELD {
                            reading.oldest.pop_last();
                        }
                    }
                }
            }
        }
        Looked::NotYet
    }

    fn all_read(&mut self) -> Looked {
        let read = self.reading.take().unwrap_or_default();
        self.over = read.oldest.len() < HELD;
        self.after = read.oldest.last().cloned().or(self.after.take());
        self.found = read
            .oldest
            .into_iter()
            .map(|(name, folder)| RestingSpool {
                at: time_of(&name),
                is_kept: RESTING[folder] == KEPT,
                path: format!("spool/{}/{name}", RESTING[folder]),
            })
            .collect();
        if self.found.is_empty() { Looked::Nothing } else { Looked::Found }
    }

    /// The oldest, once it is known.
    pub fn oldest(&self) -> Option<&RestingSpool> {
        self.found.front()
    }

    /// Takes the oldest out.
    pub fn take(&mut self) -> Option<RestingSpool> {
        self.found.pop_front()
    }

    /// Why a folder was left out, once.
    pub fn trouble(&mut self) -> Option<StoreError> {
        self.trouble.take()
    }
}

fn time_of(name: &str) -> WallTime {
    WallTime::from_name(name).unwrap_or(WallTime(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Path, resting: &str, micros: i64, n: usize) -> String {
        let at = WallTime(1_795_210_274_000_000 + micros);
        let path = format!("spool/{resting}/{}_door_segment_{n}", at.compact());
        std::fs::create_dir_all(folder.join(&path)).unwrap();
        path
    }

    fn drain(queue: &mut SpoolQueue, names: usize) -> Vec<String> {
        let mut taken = Vec::new();
        loop {
            match queue.look(names) {
                Looked::NotYet => {}
                Looked::Nothing => return taken,
                Looked::Found => taken.push(queue.take().unwrap().path),
            }
        }
    }

    #[test]
    fn spools_come_oldest_first_from_both_folders_a_few_names_at_a_time() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(drain(&mut SpoolQueue::new(temp.path(), |_| true).unwrap(), 9), [""; 0]);
        let mut all: Vec<_> = (0..30_usize)
            .map(|n| {
                let micros = i64::try_from(n * 7 % 30).unwrap();
                (micros, put(temp.path(), if n % 3 == 0 { "set-aside" } else { "kept" }, micros, n))
            })
            .collect();
        all.sort();
        std::fs::write(temp.path().join("spool/kept/20261120T213114.000000Z_file"), b"x").unwrap();
        put(temp.path(), "kept/..", 0, 99);
        let mut queue = SpoolQueue::new(temp.path(), |_| true).unwrap();
        assert_eq!(queue.look(5), Looked::NotYet, "it looks at no more names than it was told");
        let paths: Vec<String> = all.iter().map(|(_, path)| path.clone()).collect();
        assert_eq!(drain(&mut queue, 5), paths);
        let middle = WallTime(1_795_210_274_000_000 + 15);
        let mut some = SpoolQueue::new(temp.path(), move |at| at >= middle).unwrap();
        assert_eq!(drain(&mut some, 1_000), paths[15..]);
        let mut some = SpoolQueue::new(temp.path(), |_| true).unwrap();
        while some.look(5) == Looked::NotYet {}
        assert_eq!(some.oldest().map(|spool| spool.is_kept), Some(paths[0].contains("/kept/")));
    }

    #[test]
    fn more_than_can_be_held_are_found_in_several_rounds() {
        let temp = tempfile::tempdir().unwrap();
        let count = HELD + 50;
        for n in 0..count {
            put(temp.path(), "kept", i64::try_from(n * 7_919 % count).unwrap(), n);
        }
        let seen = drain(&mut SpoolQueue::new(temp.path(), |_| true).unwrap(), 1_000);
        assert!(seen.len() == count && seen.is_sorted(), "{}", seen.len());
    }

    #[test]
    fn a_folder_that_cannot_be_read_is_told_and_hides_no_other() {
        let temp = tempfile::tempdir().unwrap();
        let path = put(temp.path(), "kept", 1, 1);
        std::fs::write(temp.path().join("spool/set-aside"), b"no folder").unwrap();
        let mut queue = SpoolQueue::new(temp.path(), |_| true).unwrap();
        assert_eq!(drain(&mut queue, 99), [path]);
        assert!(queue.trouble().is_some() && queue.trouble().is_none());
    }
}
