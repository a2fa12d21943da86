//! The rows of clips, videos and snapshots. The files themselves are written elsewhere.

use std::collections::HashMap;
use std::time::Duration;

use meerkat_base::{CameraId, EventId, WallTime};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Serialize, Serializer};

use crate::database::{Store, StoreReader};
use crate::error::Result;
use crate::events::MAX_ROWS;
use crate::evict::name_of;
use crate::retention::camera_of;
use crate::spool::{SpoolKind, SpoolMeta};
use crate::sql::{check_relative, count, from_count, parsed};

/// How a clip came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClipState {
    /// Finished by the node that recorded it.
    Ok,
    /// Finished from the spool by a later start of the node, or with parts missing.
    Repaired,
    /// Could not be made; `path` is the spool that was set aside.
    SetAside,
}

impl ClipState {
    /// The word used in rows and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            ClipState::Ok => "ok",
            ClipState::Repaired => "repaired",
            ClipState::SetAside => "set_aside",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        [ClipState::Ok, ClipState::Repaired, ClipState::SetAside].into_iter().find(|s| s.as_str() == word)
    }
}

/// One clip of an event, or one video of mode 2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClipRow {
    /// The event it shows; none for a video.
    pub event: Option<EventId>,
    /// The camera.
    pub camera: CameraId,
    /// Where it is, relative to the data folder.
    pub path: String,
    /// Time of its first frame.
    pub started: WallTime,
    /// From its first frame to its last.
    #[serde(rename = "duration_seconds", serialize_with = "seconds")]
    pub duration: Duration,
    /// Frames in it.
    pub frames: u64,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// SHA-256 of the file in hexadecimal, where it was computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// How it came out.
    pub state: ClipState,
    /// Pictures of the recording that are not in it, because they could not be decoded.
    pub skipped: u64,
    /// When its file was found to be gone; none while it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<WallTime>,
}

/// One snapshot of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SnapshotRow {
    /// The event it shows.
    pub event: EventId,
    /// Where it is, relative to the data folder.
    pub path: String,
    /// Time of its frame.
    pub taken: WallTime,
    /// Size of the file in bytes.
    pub bytes: u64,
}

/// What the names of snapshots end in, by the format of the frame.
const SNAPSHOT_ENDINGS: [&str; 4] = ["jpg", "png", "webp", "bmp"];

impl SnapshotRow {
    /// The row of a snapshot by the name of its file, `<start>_<event>.<format>`; none for any other name. `path` is
    /// relative to the data folder.
    pub fn of_file(path: String, bytes: u64) -> Option<Self> {
        let (stem, ending) = name_of(&path).rsplit_once('.')?;
        let (taken, event) = stem.split_once('_').filter(|_| SNAPSHOT_ENDINGS.contains(&ending))?;
        Some(Self { event: event.parse().ok()?, taken: WallTime::from_compact(taken)?, path, bytes })
    }
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

impl ClipRow {
    /// The row of a spool that was set aside, by what its writer said about it, or else by its name; none where that
    /// says no more. `path` is relative to the data folder.
    pub fn of_set_aside(path: String, meta: Option<&SpoolMeta>, bytes: u64) -> Option<Self> {
        let (camera, started) = match meta {
            Some(meta) => (meta.camera.clone(), meta.started),
            None => (CameraId::from_folder(camera_of(&path)).ok()?, WallTime::from_name(name_of(&path))?),
        };
        Some(Self {
            event: meta.and_then(|meta| match meta.kind {
                SpoolKind::Clip { event } => Some(event),
                SpoolKind::Video | SpoolKind::Segment => None,
            }),
            camera,
            path,
            started,
            duration: Duration::ZERO,
            frames: 0,
            bytes,
            sha256: None,
            state: ClipState::SetAside,
            skipped: 0,
            missing: None,
        })
    }
}

impl Store {
    /// Writes the row of a clip or video. Another row for the same path and event replaces the first; events that
    /// share a clip have a row each.
    pub fn add_clip(&mut self, clip: &ClipRow) -> Result<()> {
        insert_clip(&self.connection, clip)
    }

    /// Writes the row of a snapshot. Another row for the same path replaces the first.
    pub fn add_snapshot(&mut self, snapshot: &SnapshotRow) -> Result<()> {
        check_relative(&snapshot.path)?;
        self.connection
            .prepare_cached(
                "INSERT INTO snapshots (event, path, taken, bytes, kept)
                 VALUES (?1, ?2, ?3, ?4, ifnull((SELECT kept FROM events WHERE id = ?1), 0))
                 ON CONFLICT (path) DO UPDATE SET
                     event = excluded.event, taken = excluded.taken, bytes = excluded.bytes",
            )?
            .execute(params![
                snapshot.event.to_string(),
                snapshot.path,
                snapshot.taken.0,
                count(snapshot.bytes)
            ])?;
        Ok(())
    }
}

impl StoreReader {
    /// The row of the clip or video at a path; the first, where several events share it.
    pub fn clip_at(&self, path: &str) -> Result<Option<ClipRow>> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {CLIP_COLUMNS} FROM clips WHERE path = ?1 ORDER BY number LIMIT 1"
        ))?;
        statement.query_and_then([path], clip_row)?.next().transpose()
    }
}

/// As [`Store::add_clip`], also in the middle of a commit.
pub(crate) fn insert_clip(connection: &Connection, clip: &ClipRow) -> Result<()> {
    check_relative(&clip.path)?;
    connection
        .prepare_cached(
            "INSERT INTO clips
                 (event, camera, path, started, duration, frames, bytes, sha256, state, skipped, missing, kept)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11,
                 ifnull((SELECT kept FROM events WHERE id = ?1), 0))
             ON CONFLICT (path, ifnull(event, '')) DO UPDATE SET
                 camera = excluded.camera, started = excluded.started,
                 duration = excluded.duration, frames = excluded.frames, bytes = excluded.bytes,
                 sha256 = excluded.sha256, state = excluded.state,
                 skipped = excluded.skipped, missing = excluded.missing",
        )?
        .execute(params![
            clip.event.map(|id| id.to_string()),
            clip.camera.as_str(),
            clip.path,
            clip.started.0,
            i64::try_from(clip.duration.as_micros()).unwrap_or(i64::MAX),
            count(clip.frames),
            count(clip.bytes),
            clip.sha256,
            clip.state.as_str(),
            count(clip.skipped),
            clip.missing.map(|at| at.0)
        ])?;
    Ok(())
}

pub(crate) const CLIP_COLUMNS: &str =
    "event, camera, path, started, duration, frames, bytes, sha256, state, skipped, missing";

/// Clips of an event, oldest first, at most [`MAX_ROWS`].
pub(crate) fn clips_of(connection: &Connection, event: EventId) -> Result<Vec<ClipRow>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {CLIP_COLUMNS} FROM clips WHERE event = ?1 AND deleting = 0
         ORDER BY started, number LIMIT {MAX_ROWS}"
    ))?;
    statement.query_and_then([event.to_string()], clip_row)?.collect()
}

/// What was recorded of events: their clips, oldest first, and the newest snapshot.
pub(crate) type Recorded = HashMap<EventId, (Vec<ClipRow>, Option<String>)>;

/// Clips, oldest first, and path of the newest snapshot of each of these events; those without are left out.
pub(crate) fn of_all(connection: &Connection, events: &[EventId]) -> Result<Recorded> {
    // A list as JSON, so that the statement is the same for any number of them.
    let ids = serde_json::to_string(events).expect("ids are always JSON");
    let mut found = Recorded::new();
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {CLIP_COLUMNS} FROM clips INDEXED BY clips_by_event
         WHERE event IN (SELECT value FROM json_each(?1)) AND deleting = 0 ORDER BY started, number"
    ))?;
    for clip in statement.query_and_then([&ids], clip_row)? {
        match clip {
            Ok(clip) => {
                if let Some(id) = clip.event {
                    let clips = &mut found.entry(id).or_default().0;
                    if clips.len() < MAX_ROWS {
                        clips.push(clip);
                    }
                }
            }
            Err(error) if error.is_damage() => return Err(error),
            Err(error) => tracing::warn!(%error, "the row of a clip cannot be read"),
        }
    }
    let mut statement = connection.prepare_cached(
        "SELECT event, path FROM snapshots INDEXED BY snapshots_by_event
         WHERE event IN (SELECT value FROM json_each(?1)) AND deleting = 0 ORDER BY taken, number",
    )?;
    let mut rows = statement.query([&ids])?;
    while let Some(row) = rows.next()? {
        let event: EventId = parsed(row, 0, |text| text.parse().ok())?;
        found.entry(event).or_default().1 = Some(row.get(1)?);
    }
    Ok(found)
}

/// Path of the newest snapshot of an event.
pub(crate) fn newest_snapshot(connection: &Connection, event: EventId) -> Result<Option<String>> {
    let mut statement = connection.prepare_cached(
        "SELECT path FROM snapshots WHERE event = ?1 AND deleting = 0 ORDER BY taken DESC, number DESC LIMIT 1",
    )?;
    Ok(statement.query_row([event.to_string()], |row| row.get(0)).optional()?)
}

pub(crate) fn clip_row(row: &rusqlite::Row<'_>) -> Result<ClipRow> {
    let event = match row.get::<_, Option<String>>(0)? {
        Some(_) => Some(parsed(row, 0, |text| text.parse().ok())?),
        None => None,
    };
    Ok(ClipRow {
        event,
        camera: parsed(row, 1, |text| CameraId::from_shown(text).ok())?,
        path: row.get(2)?,
        started: WallTime(row.get(3)?),
        duration: Duration::from_micros(from_count(row.get(4)?)),
        frames: from_count(row.get(5)?),
        bytes: from_count(row.get(6)?),
        sha256: row.get(7)?,
        state: parsed(row, 8, ClipState::from_word)?,
        skipped: from_count(row.get(9)?),
        missing: row.get::<_, Option<i64>>(10)?.map(WallTime),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{event, store};

    #[test]
    fn clips_and_snapshots_are_found_by_their_event() {
        let (_folder, mut store) = store();
        let event = event(1);
        store.start_event(&event, &[]).unwrap();
        let mut clip = ClipRow {
            event: Some(event.id),
            camera: event.camera.clone(),
            path: "capture/clip/door/2026-11-20/a.mp4".into(),
            started: event.started,
            duration: Duration::from_micros(1_500_001),
            frames: 30,
            bytes: 12_345,
            sha256: None,
            state: ClipState::Ok,
            skipped: 0,
            missing: None,
        };
        store.add_clip(&clip).unwrap();
        clip.state = ClipState::Repaired;
        clip.sha256 = Some("ab".into());
        store.add_clip(&clip).unwrap();
        let mut snapshot = SnapshotRow {
            event: event.id,
            path: "capture/clip/a.jpg".into(),
            taken: event.started,
            bytes: 9,
        };
        store.add_snapshot(&snapshot).unwrap();
        snapshot.path = "capture/clip/b.jpg".into();
        snapshot.taken = event.started.offset_micros(1);
        store.add_snapshot(&snapshot).unwrap();

        let row = store.event(event.id).unwrap().unwrap();
        assert_eq!(row.clips, [clip.clone()], "the second row of the same path replaced the first");
        assert_eq!(row.snapshot.as_deref(), Some("capture/clip/b.jpg"));
        assert_eq!(store.clip_at(&clip.path).unwrap(), Some(clip));
        assert_eq!(store.clip_at("capture/clip/none.mp4").unwrap(), None);
    }

    #[test]
    fn what_is_being_deleted_is_shown_nowhere() {
        let (_folder, mut store) = store();
        let event = event(1);
        store.start_event(&event, &[]).unwrap();
        let paths =
            ["a.mp4", "b.mp4", "a.jpg", "b.jpg"].map(|name| format!("capture/clip/door/2026-11-20/{name}"));
        for clip in &paths[..2] {
            store.add_clip(&crate::testing::clip(&event, clip)).unwrap();
        }
        for (path, taken) in paths[2..].iter().zip([event.started, event.started.offset_micros(1)]) {
            let snapshot = SnapshotRow { event: event.id, path: path.clone(), taken, bytes: 9 };
            store.add_snapshot(&snapshot).unwrap();
        }
        let shown = |store: &Store| {
            let listed =
                store.recent_events(&crate::EventQuery { limit: 9, ..Default::default() }).unwrap().remove(0);
            let alone = store.event(event.id).unwrap().unwrap();
            assert_eq!((&listed.clips, &listed.snapshot), (&alone.clips, &alone.snapshot));
            let sidecar = store.sidecar(&paths[0], false).unwrap();
            let beside = sidecar.and_then(|sidecar| sidecar.events.into_iter().next()?.snapshot);
            assert_eq!(beside.map(|snapshot| snapshot.path), listed.snapshot);
            (listed.clips.into_iter().map(|clip| clip.path).collect::<Vec<_>>(), listed.snapshot)
        };
        assert_eq!(shown(&store), (paths[..2].to_vec(), Some(paths[3].clone())));
        store.begin_deletion(&[paths[1].clone(), paths[3].clone()]).unwrap();
        assert_eq!(shown(&store), (paths[..1].to_vec(), Some(paths[2].clone())));
    }

    #[test]
    fn events_that_overlap_share_a_clip() {
        let (_folder, mut store) = store();
        let (first, second) = (event(1), event(2));
        let clip = |event: Option<EventId>| ClipRow {
            event,
            camera: first.camera.clone(),
            path: "capture/clip/door/2026-11-20/a.mp4".into(),
            started: first.started,
            duration: Duration::from_secs(1),
            frames: 30,
            bytes: 12_345,
            sha256: None,
            state: ClipState::Ok,
            skipped: 0,
            missing: None,
        };
        for event in [&first, &second, &first] {
            store.start_event(event, &[]).unwrap();
            store.add_clip(&clip(Some(event.id))).unwrap();
        }
        for event in [&first, &second] {
            assert_eq!(store.event(event.id).unwrap().unwrap().clips, [clip(Some(event.id))]);
        }
        store.add_clip(&clip(None)).unwrap();
        store.add_clip(&clip(None)).unwrap();
        assert_eq!(store.clip_at(&clip(None).path).unwrap(), Some(clip(Some(first.id))));
    }

    #[test]
    fn a_clip_needs_no_event_row_but_a_decent_path() {
        let (_folder, mut store) = store();
        let mut clip = ClipRow {
            event: None,
            camera: CameraId::unnamed("fe80::1".parse().unwrap(), 2),
            path: "capture/video/fe80--1_2/2026-11-20/a.mp4".into(),
            started: WallTime(5),
            duration: Duration::ZERO,
            frames: 0,
            bytes: 0,
            sha256: None,
            state: ClipState::SetAside,
            skipped: 0,
            missing: None,
        };
        store.add_clip(&clip).unwrap();
        assert_eq!(store.clip_at(&clip.path).unwrap(), Some(clip.clone()));
        let json = serde_json::to_value(&clip).unwrap();
        assert_eq!(
            (json["duration_seconds"].as_f64(), json["state"].as_str()),
            (Some(0.0), Some("set_aside"))
        );
        clip.path = "../outside.mp4".into();
        assert!(store.add_clip(&clip).is_err());
    }
}
