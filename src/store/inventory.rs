//! The rows of all clips and snapshots, page by page, and what is noted about files that are gone: for those who compare
//! rows with files.

use meerkat_base::{CameraId, WallTime};
use rusqlite::params;

use crate::capture::CaptureKind;
use crate::clips::{CLIP_COLUMNS, ClipRow, SnapshotRow, clip_row};
use crate::database::{Store, StoreReader};
use crate::error::Result;
use crate::sql::{count, from_count, parsed};

/// Rows in a page at most.
pub const PAGE_ROWS: usize = 500;

/// Which clips are wanted.
#[derive(Debug, Clone, Default)]
pub struct ClipQuery {
    /// Those of one camera.
    pub camera: Option<CameraId>,
    /// Those of one kind.
    pub kind: Option<CaptureKind>,
    /// How many at most; no more than [`PAGE_ROWS`].
    pub limit: usize,
}

impl StoreReader {
    /// Rows of clips, videos and segments with numbers above `after`, each with its number; at most [`PAGE_ROWS`].
    pub fn clips_after(&self, after: u64) -> Result<Vec<(u64, ClipRow)>> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {CLIP_COLUMNS}, number FROM clips WHERE number > ?1 ORDER BY number LIMIT {PAGE_ROWS}"
        ))?;
        let rows = statement
            .query_and_then([count(after)], |row| Ok((from_count(row.get("number")?), clip_row(row)?)))?;
        rows.collect()
    }

    /// The newest clips, videos and segments, newest first; events that share a clip have a row each.
    pub fn newest_clips(&self, query: &ClipQuery) -> Result<Vec<ClipRow>> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {CLIP_COLUMNS} FROM clips
             WHERE (?1 IS NULL OR camera = ?1) AND (?2 IS NULL OR substr(path, 1, length(?2)) = ?2)
             ORDER BY number DESC LIMIT ?3"
        ))?;
        let camera = query.camera.as_ref().map(CameraId::as_str);
        let folder = query.kind.map(|kind| format!("capture/{}/", kind.as_str()));
        let limit = count(query.limit.min(PAGE_ROWS) as u64);
        statement.query_and_then(params![camera, folder, limit], clip_row)?.collect()
    }

    /// Every row of the file at a path: one for each event that it shows.
    pub fn clips_at(&self, path: &str) -> Result<Vec<ClipRow>> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {CLIP_COLUMNS} FROM clips WHERE path = ?1 ORDER BY number LIMIT {PAGE_ROWS}"
        ))?;
        statement.query_and_then([path], clip_row)?.collect()
    }

    /// Rows of snapshots with numbers above `after`, each with its number; at most [`PAGE_ROWS`].
    pub fn snapshots_after(&self, after: u64) -> Result<Vec<(u64, SnapshotRow)>> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT number, event, path, taken, bytes FROM snapshots WHERE number > ?1
             ORDER BY number LIMIT {PAGE_ROWS}"
        ))?;
        let rows = statement.query_and_then([count(after)], |row| {
            let snapshot = SnapshotRow {
                event: parsed(row, 1, |text| text.parse().ok())?,
                path: row.get(2)?,
                taken: WallTime(row.get(3)?),
                bytes: from_count(row.get(4)?),
            };
            Ok((from_count(row.get(0)?), snapshot))
        })?;
        rows.collect()
    }

    /// Whether there is a row for the snapshot at a path.
    pub fn has_snapshot(&self, path: &str) -> Result<bool> {
        let mut statement =
            self.connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM snapshots WHERE path = ?1)")?;
        Ok(statement.query_row([path], |row| row.get(0))?)
    }
}

impl Store {
    /// Notes when the file of a clip was found to be gone, or that it is there again.
    pub fn set_clip_missing(&mut self, path: &str, missing: Option<WallTime>) -> Result<()> {
        self.connection
            .prepare_cached("UPDATE clips SET missing = ?2 WHERE path = ?1")?
            .execute(params![path, missing.map(|at| at.0)])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clips::ClipState;
    use crate::testing::{event, store};

    #[test]
    fn rows_are_found_page_by_page_and_by_what_they_are() {
        let (_folder, mut store) = store();
        let clip = |n: u8, kind: &str| ClipRow {
            event: (kind == "clip").then(|| event(n).id),
            camera: event(n).camera,
            path: format!("capture/{kind}/door/2026-11-20/{n}.mp4"),
            started: WallTime(i64::from(n)),
            duration: Duration::from_secs(1),
            frames: 1,
            bytes: 1,
            sha256: None,
            state: ClipState::Ok,
            skipped: 2,
            missing: None,
        };
        for (n, kind) in [(1, "clip"), (2, "video"), (3, "segment"), (4, "clip")] {
            store.add_clip(&clip(n, kind)).unwrap();
        }
        let all = store.clips_after(0).unwrap();
        assert_eq!(all.iter().map(|(_, row)| row.started.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(store.clips_after(all[2].0).unwrap().len(), 1);
        let newest = |kind, limit| {
            let query = ClipQuery { camera: Some(event(1).camera), kind, limit };
            store.newest_clips(&query).unwrap().iter().map(|row| row.started.0).collect::<Vec<_>>()
        };
        assert_eq!(newest(None, 3), [4, 3, 2]);
        assert_eq!(newest(Some(CaptureKind::Clip), 9), [4, 1]);
        assert_eq!(newest(Some(CaptureKind::Segment), 9), [3]);
        let other = CameraId::parse("other").unwrap();
        let none = ClipQuery { camera: Some(other), kind: None, limit: 9 };
        assert_eq!(store.newest_clips(&none).unwrap(), []);

        let path = clip(2, "video").path;
        store.set_clip_missing(&path, Some(WallTime(9))).unwrap();
        assert_eq!(store.clips_at(&path).unwrap()[0].missing, Some(WallTime(9)));
        store.set_clip_missing(&path, None).unwrap();
        assert_eq!(store.clips_at(&path).unwrap(), [clip(2, "video")]);

        let snapshot = SnapshotRow {
            event: event(1).id,
            path: "capture/clip/a.jpg".into(),
            taken: WallTime(1),
            bytes: 3,
        };
        store.add_snapshot(&snapshot).unwrap();
        assert_eq!(store.snapshots_after(0).unwrap(), [(1, snapshot.clone())]);
        assert_eq!(store.snapshots_after(1).unwrap(), []);
        assert!(store.has_snapshot(&snapshot.path).unwrap() && !store.has_snapshot("capture/x").unwrap());
    }
}
