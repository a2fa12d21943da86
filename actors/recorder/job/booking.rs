//! Rows of the file that a job has made.

use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use meerkat_base::EventId;
use meerkat_store::evidence::sha256_of;
use meerkat_store::{ClipRow, ClipState, EventCursor, EventQuery, SpoolKind, StoreError};
use tracing::warn;

use super::Job;
use super::snapshots::Lacking;
use crate::archivist::ArchiveError;
use crate::supervision::Failure;

/// How long a row is tried to be written while the archivist is being restarted; well below the deadline.
const ARCHIVE_LIMIT: Duration = Duration::from_secs(10);
/// Wait between two such tries.
const ARCHIVE_RETRY: Duration = Duration::from_millis(100);
/// Events that a clip can belong to; more at one camera in one clip's time do not happen.
const MAX_EVENTS: usize = 256;

impl Job {
    /// Makes up for the row of a file that was published by an attempt that came no further.
    pub(super) fn book_published(&mut self, path: &Path) -> Result<String, Failure> {
        let data_dir = &self.pool.shared.tools.places.data_dir;
        let relative = path.strip_prefix(data_dir).map_err(Failure::error)?.to_string_lossy().into_owned();
        let wanted = relative.clone();
        let booked = self.ask(move |store| {
            let booked = store.clip_at(&wanted)?.is_some();
            if booked {
                write_sidecar(store, &wanted);
            }
            Ok(booked)
        })?;
        if booked {
            return Ok(relative);
        }
        let info = meerkat_media::probe(path).map_err(Failure::error)?;
        let bytes = std::fs::metadata(path).map_err(Failure::error)?.len();
        let sha256 = sha256_of(path).map_err(Failure::error)?;
        let micros = i64::try_from(info.duration.as_micros()).unwrap_or(i64::MAX);
        self.last_wall = self.meta.started.offset_micros(micros);
        let lacking = self.book(ClipRow {
            event: None,
            camera: self.meta.camera.clone(),
            path: relative.clone(),
            started: self.meta.started,
            duration: info.duration,
            frames: info.frames,
            bytes,
            sha256: Some(sha256),
            state: ClipState::Repaired,
            skipped: 0,
            missing: None,
        })?;
        self.make_up_snapshots(lacking);
        Ok(relative)
    }

    /// Writes a row for each event that the clip shows; it may be several that overlapped. In the same commit it is
    /// handed to the channels that told of the event and take clips.
    /// Returns those of them that have no snapshot.
    pub(super) fn book(&self, row: ClipRow) -> Result<Vec<Lacking>, Failure> {
        let name = self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let aside = format!("spool/set-aside/{name}");
        let SpoolKind::Clip { event } = self.meta.kind else {
            return self.ask(move |store| {
                store.add_clip(&row)?;
                store.replace_set_aside(&aside, &row.path)?;
                write_sidecar(store, &row.path);
                Ok(Vec::new())
            });
        };
        let recorded =
            self.pool.shared.settings.recorded.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (camera, from, to) = (self.meta.camera.clone(), row.started, self.last_wall);
        let pool = self.pool.clone();
        self.ask(move |store| {
            let query = EventQuery {
                limit: MAX_EVENTS,
                before: Some(EventCursor { started: to.offset_micros(1), id: EventId(uuid::Uuid::max()) }),
                camera: Some(camera.clone()),
                ..EventQuery::default()
            };
            let mut shown = store.recent_events(&query)?;
            shown.retain(|e| recorded.contains(&e.kind) && e.ended.is_none_or(|ended| ended >= from));
            let lacking: Vec<Lacking> = shown.iter().filter_map(Lacking::of).collect();
            let mut events: Vec<EventId> = shown.iter().map(|e| e.id).collect();
            if !events.contains(&event) {
                events.push(event);
            }
            let rows: Vec<ClipRow> =
                events.into_iter().map(|event| ClipRow { event: Some(event), ..row.clone() }).collect();
            pool.book(store, &rows)?;
            store.replace_set_aside(&aside, &row.path)?;
            write_sidecar(store, &row.path);
            Ok(lacking)
        })
    }

    pub(super) fn ask<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut meerkat_store::Store) -> Result<R, StoreError> + Clone + Send + 'static,
    ) -> Result<R, Failure> {
        let give_up = Instant::now() + ARCHIVE_LIMIT;
        loop {
            match self.pool.shared.tools.archivist.ask_blocking(work.clone()) {
                Ok(result) => return Ok(result),
                // The archivist is being restarted: no fault of this spool, and no attempt of its three.
                Err(ArchiveError::Busy | ArchiveError::Lost) if Instant::now() < give_up => {
                    std::thread::sleep(ARCHIVE_RETRY);
                }
                Err(error @ (ArchiveError::Busy | ArchiveError::Lost)) => {
                    // Nor after so long: the database is being made anew, perhaps.
                    if let Some(attempt) = &self.attempt {
                        attempt.forgive().map_err(Failure::error)?;
                    }
                    return Err(Failure::error(error));
                }
                Err(error) => return Err(Failure::error(error)),
            }
        }
    }
}

/// With the rows, and by the one who writes them: so nobody else changes the sidecar meanwhile. The clip is complete
/// without it.
fn write_sidecar(store: &meerkat_store::Store, path: &str) {
    let written = store.is_kept(path).and_then(|kept| store.write_sidecar(path, Some(kept)));
    if let Err(error) = written {
        warn!(file = path, %error, "a clip has no sidecar");
    }
}
