//! Snapshots whose row never came: their node died, or was stopped, when the picture had its name and the event was still
//! owed to the database. Nothing that goes by rows would ever delete them. Only looks; who writes the rows is decided
//! elsewhere.

use std::fs::Metadata;
use std::path::Path;

use crate::clips::SnapshotRow;
use crate::database::StoreReader;
use crate::error::Result;
use crate::evict::{is_gone, open};
use crate::files::Folder;

const CLIPS: &str = "capture/clip";

/// Walks through the folders of clips, a day of one camera at a time.
pub struct SnapshotWalk {
    root: Folder,
    days: Vec<String>,
}

impl SnapshotWalk {
    /// Begins; reads the names of days only.
    pub fn new(data_dir: &Path) -> Result<Self> {
        let root = Folder::existing(data_dir)?;
        let mut days = Vec::new();
        for camera in folders(&root, CLIPS)? {
            days.extend(folders(&root, &camera)?);
        }
        Ok(Self { root, days })
    }

    /// The snapshots of one more day that have no row, as rows; none when all days were looked at.
    ///
    /// # Errors
    /// Of the disk and the database; the day is passed over.
    pub fn next_day(&mut self, reader: &StoreReader) -> Result<Option<Vec<SnapshotRow>>> {
        let Some(day) = self.days.pop() else { return Ok(None) };
        let folder = match open(&self.root, &day) {
            Ok(folder) => folder,
            // Retention removes empty days.
            Err(error) if is_gone(&error) => return Ok(Some(Vec::new())),
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        folder.each(|entry| {
            let Some(row) = SnapshotRow::of_file(format!("{day}/{}", entry.name), 0) else { return Ok(()) };
            // In this order: what is deleted loses its file before its row.
            if reader.has_snapshot(&row.path)? {
                return Ok(());
            }
            let there = std::fs::symlink_metadata(folder.path().join(&entry.name));
            if let Some(metadata) = there.ok().filter(Metadata::is_file) {
                found.push(SnapshotRow { bytes: metadata.len(), ..row });
            }
            Ok(())
        })?;
        Ok(Some(found))
    }
}

/// Paths of the folders in a folder; none when it is not there.
fn folders(root: &Folder, path: &str) -> Result<Vec<String>> {
    let entries = match open(root, path).and_then(|folder| folder.entries()) {
        Ok(entries) => entries,
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let folders = entries.into_iter().filter(|entry| entry.is_folder);
    Ok(folders.map(|entry| format!("{path}/{}", entry.name)).collect())
}

#[cfg(test)]
mod tests {
    use meerkat_base::WallTime;

    use super::*;
    use crate::testing::{event, store};

    #[test]
    fn pictures_without_a_row_are_found_and_nothing_else_is() {
        let (folder, mut store) = store();
        assert!(SnapshotWalk::new(folder.path()).unwrap().next_day(&store).unwrap().is_none());
        let at = WallTime(1_795_210_274_123_456);
        let path = |camera: &str, n: u8, ending: &str| {
            format!("{CLIPS}/{camera}/2026-11-20/{}_{}{ending}", at.compact(), event(n).id)
        };
        let (known, lost, other) =
            (path("door", 1, ".jpg"), path("door", 2, ".jpg"), path("fe80--1_2", 3, ".png"));
        let no_snapshots = [
            path("door", 2, "_00ff.mp4"),
            path("door", 2, "_00ff.mp4.strip.jpg"),
            path("door", 2, "_00ff.mp4.json"),
            path("door", 2, ".txt"),
            format!("{CLIPS}/door/2026-11-20/holiday.jpg"),
            format!("{CLIPS}/door/2026-11-20/.part-b1-0-{}_{}.jpg", at.compact(), event(4).id),
        ];
        for path in [&known, &lost, &other].into_iter().chain(&no_snapshots) {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"jpeg").unwrap();
        }
        std::os::unix::fs::symlink(folder.path().join(&known), folder.path().join(path("door", 5, ".jpg")))
            .unwrap();
        store.add_snapshot(&SnapshotRow::of_file(known, 4).unwrap()).unwrap();
        let look = |store: &StoreReader| {
            let mut walk = SnapshotWalk::new(folder.path()).unwrap();
            let mut found = Vec::new();
            while let Some(day) = walk.next_day(store).unwrap() {
                found.extend(day);
            }
            found.sort_by_key(|row| row.event);
            found
        };
        let found = look(&store);
        let expected = [(lost, event(2).id), (other, event(3).id)].map(|(path, event)| SnapshotRow {
            event,
            path,
            taken: at,
            bytes: 4,
        });
        assert_eq!(found, expected);
        for row in &found {
            store.add_snapshot(row).unwrap();
        }
        assert_eq!(look(&store), []);
        let mut left = store.evictable(crate::retention::EvictPlace::default(), 9).unwrap().0;
        left.retain(|one| one.at == at);
        assert_eq!(left.len(), 3, "they go like all others");
    }
}
