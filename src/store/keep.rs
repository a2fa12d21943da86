//! The keep flag: evidence that a person wants to stay, whatever retention and free space say.

use meerkat_base::EventId;
use rusqlite::params;

use crate::database::{Store, StoreReader};
use crate::error::Result;
use crate::images;

/// What is to be kept, or no longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeepTarget {
    /// An event: its row, its snapshots and its clips, those that are still being made included.
    Event(EventId),
    /// A clip, video, segment or picture of mode 1 by its path relative to the data folder.
    Path(String),
}

impl KeepTarget {
    /// Reads an event's id, or else a path relative to the data folder.
    pub fn parse(text: &str) -> Self {
        match text.parse() {
            Ok(id) => Self::Event(id),
            Err(_) => Self::Path(text.to_owned()),
        }
    }
}

impl Store {
    /// Sets or takes back the keep flag. Returns the paths of the clips that it concerns, each once (a sidecar beside
    /// each says the same), or nothing when there is no such event or clip. What is being deleted is gone already. A
    /// picture of mode 1 has no row: it is moved, and its new path is returned.
    pub fn keep(&mut self, what: &KeepTarget, keep: bool) -> Result<Option<Vec<String>>> {
        if let KeepTarget::Path(path) = what
            && path.starts_with("capture/image/")
        {
            let found = images::keep(self.root(), path, keep, self.durability())?;
            return Ok(found.map(|path| vec![path]));
        }
        let transaction = self.begin()?;
        let (mut found, mut paths) = (0, Vec::new());
        match what {
            KeepTarget::Event(id) => {
                let id = id.to_string();
                found +=
                    transaction.execute("UPDATE events SET kept = ?2 WHERE id = ?1", params![id, keep])?;
                found += transaction.execute(
                    "UPDATE snapshots SET kept = ?2 WHERE event = ?1 AND deleting = 0",
                    params![id, keep],
                )?;
                found += transaction.execute(
                    "UPDATE clips SET kept = ?2 WHERE event = ?1 AND deleting = 0",
                    params![id, keep],
                )?;
                let mut rows = transaction.prepare(
                    "SELECT DISTINCT path FROM clips WHERE event = ?1 AND deleting = 0 ORDER BY path",
                )?;
                for path in rows.query_map([id], |row| row.get(0))? {
                    paths.push(path?);
                }
            }
            KeepTarget::Path(path) => {
                found += transaction.execute(
                    "UPDATE clips SET kept = ?2 WHERE path = ?1 AND deleting = 0",
                    params![path, keep],
                )?;
                paths.push(path.clone());
            }
        }
        transaction.commit()?;
        Ok((found > 0).then_some(paths))
    }

    /// A spool that had been set aside was put back by somebody, and its file is made: the keep flag goes over to the
    /// file, and the row of what was set aside goes. Nothing happens while it still lies there.
    ///
    /// # Errors
    /// Those of the database.
    pub fn replace_set_aside(&mut self, aside: &str, file: &str) -> Result<()> {
        if self.clip_at(aside)?.is_none() || self.root().path().join(aside).exists() {
            return Ok(());
        }
        let transaction = self.begin()?;
        transaction.execute(
            "UPDATE clips SET kept = 1 WHERE path = ?2
             AND EXISTS (SELECT 1 FROM clips AS aside WHERE aside.path = ?1 AND aside.kept = 1)",
            [aside, file],
        )?;
        transaction.execute("DELETE FROM clips WHERE path = ?1", [aside])?;
        transaction.commit()?;
        Ok(())
    }
}

impl StoreReader {
    /// Whether a clip is kept: one of its rows is.
    pub fn is_kept(&self, path: &str) -> Result<bool> {
        let mut statement =
            self.connection.prepare_cached("SELECT ifnull(max(kept), 0) FROM clips WHERE path = ?1")?;
        Ok(statement.query_row([path], |row| row.get(0))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{clip, event, store};

    #[test]
    fn an_event_is_kept_with_all_its_clips_also_those_that_come_later() {
        let (_folder, mut store) = store();
        let (first, second) = (event(1), event(2));
        for event in [&first, &second] {
            store.start_event(event, &[]).unwrap();
            store.add_clip(&clip(event, "capture/clip/door/2026-11-20/a.mp4")).unwrap();
        }
        let target = KeepTarget::Event(first.id);
        let paths = store.keep(&target, true).unwrap().unwrap();
        assert_eq!(paths, ["capture/clip/door/2026-11-20/a.mp4"]);
        assert!(store.is_kept(&paths[0]).unwrap());
        assert!(
            store.event(first.id).unwrap().unwrap().kept && !store.event(second.id).unwrap().unwrap().kept
        );
        store.add_clip(&clip(&first, "capture/clip/door/2026-11-20/b.mp4")).unwrap();
        store.add_clip(&clip(&second, "capture/clip/door/2026-11-20/c.mp4")).unwrap();
        assert!(store.is_kept("capture/clip/door/2026-11-20/b.mp4").unwrap());
        assert!(!store.is_kept("capture/clip/door/2026-11-20/c.mp4").unwrap());
        assert_eq!(store.keep(&target, false).unwrap().unwrap().len(), 2);
        assert!(!store.is_kept(&paths[0]).unwrap());
    }

    #[test]
    fn what_was_set_aside_and_put_back_hands_its_flag_on() {
        let (folder, mut store) = store();
        let event = event(1);
        store.start_event(&event, &[]).unwrap();
        let (aside, file) = ("spool/set-aside/a", "capture/clip/door/2026-11-20/a.mp4");
        for path in [aside, file] {
            store.add_clip(&clip(&event, path)).unwrap();
        }
        store.keep(&KeepTarget::parse(aside), true).unwrap();
        std::fs::create_dir_all(folder.path().join(aside)).unwrap();
        store.replace_set_aside(aside, file).unwrap();
        assert!(!store.is_kept(file).unwrap() && store.clip_at(aside).unwrap().is_some(), "it lies there");
        std::fs::remove_dir(folder.path().join(aside)).unwrap();
        store.replace_set_aside(aside, file).unwrap();
        assert!(store.is_kept(file).unwrap() && store.clip_at(aside).unwrap().is_none());
    }

    #[test]
    fn a_picture_of_mode_1_is_kept_in_a_folder_of_its_day() {
        let (folder, mut store) = store();
        let day = "capture/image/yard/2026-11-20";
        let (picture, name) = (format!("{day}/20261120T213114.123456Z_b_1.jpg"), "kept");
        let kept = picture.replace("2026-11-20/", &format!("2026-11-20/{name}/"));
        std::fs::create_dir_all(folder.path().join(day)).unwrap();
        std::fs::write(folder.path().join(&picture), b"jpeg").unwrap();
        let mut set = |path: &str, keep: bool| store.keep(&KeepTarget::parse(path), keep).unwrap();
        let is_there = |path: &str| folder.path().join(path).exists();
        assert_eq!(set(&picture, false), Some(vec![picture.clone()]), "as it was");
        for path in [&picture, &kept] {
            // Said again, by either path, it stays so.
            assert_eq!(set(path, true), Some(vec![kept.clone()]));
            assert!(is_there(&kept) && !is_there(&picture));
        }
        for path in [&kept, &picture] {
            assert_eq!(set(path, false), Some(vec![picture.clone()]));
            assert!(is_there(&picture) && !is_there(&format!("{day}/{name}")));
        }
        for other in [
            format!("{day}/20261120T213114.123456Z_b_2.jpg"),
            format!("{day}/holiday.jpg"),
            "capture/image/yard/2026-11-21/20261121T213114.123456Z_b_1.jpg".to_owned(),
            "capture/image/yard".to_owned(),
        ] {
            assert_eq!((set(&other, true), set(&other, false)), (None, None), "{other}");
        }
        assert!(store.keep(&KeepTarget::parse(&format!("capture/image/../yard/{name}/x")), true).is_err());
    }

    #[test]
    fn a_clip_is_kept_by_its_path_and_what_is_not_there_is_said() {
        let (_folder, mut store) = store();
        let event = event(1);
        store.start_event(&event, &[]).unwrap();
        store.add_clip(&clip(&event, "capture/clip/door/2026-11-20/a.mp4")).unwrap();
        let target = KeepTarget::parse("capture/clip/door/2026-11-20/a.mp4");
        assert_eq!(store.keep(&target, true).unwrap().unwrap().len(), 1);
        assert!(store.is_kept("capture/clip/door/2026-11-20/a.mp4").unwrap());
        for missing in ["capture/clip/none.mp4", "018f0000-0000-7000-8000-000000000000"] {
            assert_eq!(store.keep(&KeepTarget::parse(missing), true).unwrap(), None, "{missing}");
        }
        assert_eq!(KeepTarget::parse(&event.id.to_string()), KeepTarget::Event(event.id));
    }
}
