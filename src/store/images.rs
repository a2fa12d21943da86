//! The pictures of mode 1, oldest first. They have no rows, and a day may hold millions of them: a folder is read a
//! few names at a time, and only so many of the oldest names are held.

use std::collections::{BinaryHeap, VecDeque};
use std::path::Path;

use meerkat_base::WallTime;
use rustix::fs::Dir;

use crate::error::{Result, StoreError};
use crate::evict::{is_gone, open};
use crate::files::{Durability, Folder};
use crate::sql::check_relative;

const IMAGES: &str = "capture/image";
/// The folder, in that of a day, of pictures that a person wants to keep: nothing in it goes by itself, and no limit
/// counts it.
pub(crate) const KEPT: &str = "kept";
/// Names that are held at most.
const HELD: usize = 8_192;

/// One picture of mode 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldImage {
    /// Path relative to the data folder.
    pub path: String,
    /// When it arrived, as its name says.
    pub at: WallTime,
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// There is more to read before the oldest is known.
    NotYet,
    /// The oldest is known.
    Found,
    /// There are none.
    Nothing,
}

/// Finds the oldest pictures over all cameras, or over some.
pub struct ImageQueue {
    root: Folder,
    wanted: Box<dyn Fn(&str) -> bool + Send>,
    at_times: Option<Box<dyn Fn(WallTime) -> bool + Send>>,
    trouble: Option<StoreError>,
    found: VecDeque<OldImage>,
    reading: Option<Reading>,
    /// Days up to this one were looked through.
    done: String,
    /// Names up to this one, of the day after those, were found already: whoever only looks removes nothing.
    after: String,
}

/// The folders of one day, being read.
struct Reading {
    day: String,
    cameras: Vec<String>,
    listing: Option<Dir>,
    at: usize,
    after: String,
    /// The oldest names so far, the newest of them on top.
    oldest: BinaryHeap<(String, usize)>,
}

impl ImageQueue {
    /// Of the cameras whose folder's name is wanted.
    pub fn new(data_dir: &Path, wanted: impl Fn(&str) -> bool + Send + 'static) -> Result<Self> {
        Ok(Self {
            root: Folder::existing(data_dir)?,
            wanted: Box::new(wanted),
            at_times: None,
            trouble: None,
            found: VecDeque::new(),
            reading: None,
            done: String::new(),
            after: String::new(),
        })
    }

    /// Only pictures of such times.
    pub fn at_times(mut self, wanted: impl Fn(WallTime) -> bool + Send + 'static) -> Self {
        self.at_times = Some(Box::new(wanted));
        self
    }

    /// Why a folder was left out, once.
    pub fn trouble(&mut self) -> Option<StoreError> {
        self.trouble.take()
    }

    /// Looks at so many more names, if need be. A folder that cannot be read is left out, see
    /// [`ImageQueue::trouble`].
    pub fn look(&mut self, names: usize) -> Result<Looked> {
        if !self.found.is_empty() {
            return Ok(Looked::Found);
        }
        if self.reading.is_none() {
            match self.next_day()? {
                Some(reading) => self.reading = Some(reading),
                None => {
                    // Next time from the beginning: a clock may have been set back.
                    self.done.clear();
                    self.after.clear();
                    return Ok(Looked::Nothing);
                }
            }
        }
        let Some(reading) = &mut self.reading else { return Ok(Looked::NotYet) };
        if !reading.step(&self.root, names, self.at_times.as_deref(), &mut self.trouble) {
            return Ok(Looked::NotYet);
        }
        let Some(read) = self.reading.take() else { return Ok(Looked::NotYet) };
        let oldest = read.oldest.into_sorted_vec();
        match oldest.last() {
            Some((newest, _)) if oldest.len() == HELD => self.after.clone_from(newest),
            _ => {
                self.after.clear();
                self.done.clone_from(&read.day);
            }
        }
        for (name, camera) in oldest {
            if let Some(at) = WallTime::from_name(&name) {
                let camera = &read.cameras[camera];
                self.found.push_back(OldImage { path: format!("{IMAGES}/{camera}/{}/{name}", read.day), at });
            }
        }
        if self.found.is_empty() { Ok(Looked::NotYet) } else { Ok(Looked::Found) }
    }

    /// The oldest, once it is known.
    pub fn oldest(&self) -> Option<&OldImage> {
        self.found.front()
    }

    /// Takes the oldest out.
    pub fn take(&mut self) -> Option<OldImage> {
        self.found.pop_front()
    }

    /// The folders of the oldest day that is not done.
    fn next_day(&mut self) -> Result<Option<Reading>> {
        let mut oldest: Option<(String, Vec<String>)> = None;
        for (camera, days) in days(&self.root, &self.wanted, &mut self.trouble)? {
            let Some(day) = days.into_iter().filter(|day| *day > self.done).min() else { continue };
            match &mut oldest {
                Some((known, cameras)) if *known == day => cameras.push(camera),
                Some((known, _)) if *known < day => {}
                other => *other = Some((day, vec![camera])),
            }
        }
        Ok(oldest.map(|(day, cameras)| Reading {
            day,
            cameras,
            listing: None,
            at: 0,
            after: self.after.clone(),
            oldest: BinaryHeap::new(),
        }))
    }
}

impl Reading {
    /// Reads so many more names; whether that was all.
    fn step(
        &mut self,
        root: &Folder,
        names: usize,
        at_times: Option<&(dyn Fn(WallTime) -> bool + Send)>,
        trouble: &mut Option<StoreError>,
    ) -> bool {
        for _ in 0..names {
            let Some(camera) = self.cameras.get(self.at) else { return true };
            let below = format!("{IMAGES}/{camera}/{}", self.day);
            if self.listing.is_none() {
                match open(root, &below).and_then(|folder| folder.listing()) {
                    Ok(listing) => self.listing = Some(listing),
                    Err(error) if is_gone(&error) => {}
                    Err(error) => *trouble = trouble.take().or(Some(error)),
                }
            }
            match self.listing.as_mut().and_then(|listing| listing.next()) {
                None => {
                    self.listing = None;
                    self.at += 1;
                }
                Some(Err(error)) => {
                    *trouble = trouble.take().or(Some(StoreError::io(root.path().join(below), error)));
                    self.listing = None;
                    self.at += 1;
                }
                Some(Ok(entry)) => {
                    let Ok(name) = entry.file_name().to_str() else { continue };
                    if !is_ours(name) || name <= self.after.as_str() {
                        continue;
                    }
                    let at = at_times.and_then(|wanted| Some((wanted, WallTime::from_name(name)?)));
                    if at.is_some_and(|(wanted, at)| !wanted(at)) {
                        continue;
                    }
                    let newer = self.oldest.peek().is_some_and(|(newest, _)| name >= newest.as_str());
                    if self.oldest.len() == HELD {
                        if newer {
                            continue;
                        }
                        self.oldest.pop();
                    }
                    self.oldest.push((name.to_owned(), self.at));
                }
            }
        }
        false
    }
}

/// Whether it looks like `20261120T213114.123456Z_...`; what else lies there is not ours to delete.
fn is_ours(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() > 24
        && bytes[..8].iter().all(u8::is_ascii_digit)
        && (bytes[8], bytes[15], bytes[22], bytes[23]) == (b'T', b'.', b'Z', b'_')
}

fn is_day(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() == 10
        && bytes.iter().enumerate().all(
            |(n, byte)| {
                if n == 4 || n == 7 { *byte == b'-' } else { byte.is_ascii_digit() }
            },
        )
}

/// The days of each wanted camera, unsorted. A camera whose folder cannot be read is left out.
fn days(
    root: &Folder,
    wanted: &dyn Fn(&str) -> bool,
    trouble: &mut Option<StoreError>,
) -> Result<Vec<(String, Vec<String>)>> {
    let images = match open(root, IMAGES) {
        Ok(folder) => folder,
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for camera in images.entries()?.into_iter().filter(|entry| entry.is_folder && wanted(&entry.name)) {
        let mut days = Vec::new();
        let read = images.sub(&camera.name).and_then(|folder| {
            folder.each(|entry| {
                if entry.is_folder && is_day(&entry.name) {
                    days.push(entry.name);
                }
                Ok(())
            })
        });
        if let Err(error) = read
            && !is_gone(&error)
        {
            *trouble = trouble.take().or(Some(error));
        }
        found.push((camera.name, days));
    }
    Ok(found)
}

/// Cameras that have pictures of mode 1, with their days in order, as far as their folders can be read.
pub fn image_days(data_dir: &Path) -> Result<Vec<(String, Vec<String>)>> {
    let mut found = days(&Folder::existing(data_dir)?, &|_| true, &mut None)?;
    for (_, days) in &mut found {
        days.sort();
    }
    Ok(found)
}

/// Moves a picture of mode 1 to those of its day that are kept, or back. Returns where it is then; none when the path is
/// not that of a picture that is there. Either place may be named.
pub(crate) fn keep(root: &Folder, path: &str, keep: bool, durability: Durability) -> Result<Option<String>> {
    let parts: Vec<&str> = path.split('/').collect();
    let (camera, day, name) = match parts[..] {
        ["capture", "image", camera, day, name] | ["capture", "image", camera, day, KEPT, name] => {
            (camera, day, name)
        }
        _ => return Ok(None),
    };
    check_relative(path)?;
    if !is_ours(name) || !is_day(day) {
        return Ok(None);
    }
    let below = format!("{IMAGES}/{camera}/{day}");
    let folder = match open(root, &below) {
        Ok(folder) => folder,
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let (of_day, of_kept) = (format!("{below}/{name}"), format!("{below}/{KEPT}/{name}"));
    if keep && folder.has(name) {
        let kept = folder.make_sub(KEPT)?;
        folder.rename_new(name, &kept, name)?;
        if durability.syncs() {
            kept.sync()?;
            folder.sync()?;
        }
        return Ok(Some(of_kept));
    }
    let kept = match folder.sub(KEPT) {
        Ok(kept) => kept,
        Err(error) if is_gone(&error) => return Ok((!keep && folder.has(name)).then_some(of_day)),
        Err(error) => return Err(error),
    };
    if keep {
        return Ok(kept.has(name).then_some(of_kept));
    }
    if !kept.has(name) {
        return Ok(folder.has(name).then_some(of_day));
    }
    kept.rename_new(name, &folder, name)?;
    if durability.syncs() {
        folder.sync()?;
        kept.sync()?;
    }
    folder.remove_empty(KEPT);
    Ok(Some(of_day))
}

/// Removes all pictures of one camera's day, a few at a time.
pub struct DayEraser {
    folder: Folder,
    listing: Dir,
    /// Removed since the listing began: while that goes on, names may be passed over.
    removed: u64,
}

/// What a step of a [`DayEraser`] came to.
#[derive(Debug, Default)]
pub struct Erased {
    /// Files removed.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Pictures that could not be removed and were passed over, and why the first could not.
    pub stuck: u64,
    /// See `stuck`.
    pub why: Option<StoreError>,
    /// Whether that was all.
    pub over: bool,
}

impl DayEraser {
    /// Begins; none when there is no such day.
    pub fn new(data_dir: &Path, camera: &str, day: &str) -> Result<Option<Self>> {
        let folder = match open(&Folder::existing(data_dir)?, &format!("{IMAGES}/{camera}/{day}")) {
            Ok(folder) => folder,
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let listing = folder.listing()?;
        Ok(Some(Self { folder, listing, removed: 0 }))
    }

    /// Removes so many more; passes over what cannot be removed.
    ///
    /// # Errors
    /// The day cannot be read.
    pub fn step(&mut self, names: usize) -> Result<Erased> {
        let mut done = Erased::default();
        for _ in 0..names {
            match self.listing.next() {
                None if self.removed == 0 => return Ok(Erased { over: true, ..done }),
                None => {
                    self.removed = 0;
                    self.listing = self.folder.listing()?;
                }
                Some(entry) => {
                    let entry = entry.map_err(|e| StoreError::io(self.folder.path(), e))?;
                    let Ok(name) = entry.file_name().to_str() else { continue };
                    if !is_ours(name) {
                        continue;
                    }
                    let len = self.folder.len_of(name).unwrap_or(0);
                    if let Err(error) = self.folder.remove(name) {
                        done.stuck += 1;
                        done.why.get_or_insert(error);
                        continue;
                    }
                    done.bytes = done.bytes.saturating_add(len);
                    done.files += 1;
                    self.removed += 1;
                }
            }
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Path, camera: &str, micros: i64, seq: u32) -> String {
        let at = WallTime(1_795_210_274_000_000 + micros);
        let path = format!("{IMAGES}/{camera}/{}/{}_b7_{seq}.jpg", at.date(), at.compact());
        std::fs::create_dir_all(folder.join(&path).parent().unwrap()).unwrap();
        std::fs::write(folder.join(&path), b"xyz").unwrap();
        path
    }

    /// Takes everything, removing it, a few names at a time.
    fn drain(folder: &Path, queue: &mut ImageQueue, names: usize) -> Vec<String> {
        let mut taken = Vec::new();
        loop {
            match queue.look(names).unwrap() {
                Looked::NotYet => {}
                Looked::Nothing => return taken,
                Looked::Found => {
                    let image = queue.take().unwrap();
                    std::fs::remove_file(folder.join(&image.path)).unwrap();
                    taken.push(image.path);
                }
            }
        }
    }

    #[test]
    fn pictures_come_oldest_first_over_cameras_and_days() {
        const DAY: i64 = 86_400_000_000;
        let temp = tempfile::tempdir().unwrap();
        let mut expected: Vec<(i64, String)> = Vec::new();
        for (n, camera) in ["door", "yard", "10.0.0.1_2"].iter().cycle().take(60).enumerate() {
            let n = i64::try_from(n).unwrap();
            let at = (n * 7 % 60) * 1_000 + (n % 4) * DAY;
            expected.push((at, put(temp.path(), camera, at, 1)));
        }
        expected.sort();
        // Not ours, or not complete.
        for name in ["notes.txt", ".part-b7-0-20261120T213114.123456Z_b7_3.jpg", "20261120T213114.123456Z"] {
            std::fs::write(temp.path().join(IMAGES).join("door/2026-11-20").join(name), b"x").unwrap();
        }
        std::fs::create_dir_all(temp.path().join(IMAGES).join("door/later")).unwrap();
        let mut some = ImageQueue::new(temp.path(), |camera| camera == "yard").unwrap();
        while some.look(3).unwrap() == Looked::NotYet {}
        assert!(some.oldest().unwrap().path.contains("/yard/"));
        let from = WallTime(1_795_210_274_000_000 + 2 * DAY + 3_000);
        let mut some = ImageQueue::new(temp.path(), |_| true).unwrap().at_times(move |at| at >= from);
        while some.look(3).unwrap() == Looked::NotYet {}
        let oldest = expected.iter().find(|(at, _)| *at >= 2 * DAY + 3_000).unwrap();
        assert_eq!(some.oldest().unwrap().path, oldest.1);
        let mut queue = ImageQueue::new(temp.path(), |_| true).unwrap();
        let taken = drain(temp.path(), &mut queue, 3);
        assert_eq!(taken, expected.into_iter().map(|(_, path)| path).collect::<Vec<_>>());
        // It is asked again later, when there are new ones.
        let late = put(temp.path(), "door", -5 * DAY, 2);
        assert_eq!(drain(temp.path(), &mut queue, 100), [late]);
    }

    #[test]
    fn more_than_can_be_held_are_found_in_several_rounds() {
        let temp = tempfile::tempdir().unwrap();
        let count = u32::try_from(HELD).unwrap() + 100;
        for n in 0..count {
            put(temp.path(), "door", i64::from(n * 7_919 % count), n);
        }
        let mut queue = ImageQueue::new(temp.path(), |_| true).unwrap();
        // Once only looked at, and once taken away: each is found once.
        let mut seen = Vec::new();
        loop {
            match queue.look(1_000).unwrap() {
                Looked::NotYet => {}
                Looked::Nothing => break,
                Looked::Found => seen.push(queue.take().unwrap().path),
            }
        }
        assert_eq!(seen.len(), usize::try_from(count).unwrap());
        assert!(seen.is_sorted());
        assert_eq!(drain(temp.path(), &mut queue, 1_000), seen);
    }

    #[test]
    fn a_day_is_erased_in_steps_and_what_is_not_ours_stays() {
        let temp = tempfile::tempdir().unwrap();
        for n in 0..25 {
            put(temp.path(), "door", i64::from(n), n);
        }
        let other = temp.path().join(IMAGES).join("door/2026-11-20/notes.txt");
        std::fs::write(&other, b"x").unwrap();
        assert_eq!(image_days(temp.path()).unwrap(), [("door".to_owned(), vec!["2026-11-20".to_owned()])]);
        assert!(DayEraser::new(temp.path(), "yard", "2026-11-20").unwrap().is_none());
        let mut eraser = DayEraser::new(temp.path(), "door", "2026-11-20").unwrap().unwrap();
        // One that cannot be removed, whoever tries.
        let stuck = temp.path().join(put(temp.path(), "door", 3, 99));
        std::fs::remove_file(&stuck).unwrap();
        std::fs::create_dir(&stuck).unwrap();
        let (mut files, mut bytes, mut why) = (0, 0, None);
        loop {
            let done = eraser.step(4).unwrap();
            files += done.files;
            bytes += done.bytes;
            why = done.why.or(why);
            if done.over {
                break;
            }
        }
        assert_eq!((files, bytes), (25, 75));
        assert!(why.is_some_and(|error| error.to_string().contains("_b7_99.jpg")));
        assert!(other.exists() && stuck.exists());
    }
}
