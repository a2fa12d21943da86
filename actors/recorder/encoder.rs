//! Encoders: each makes one spool into one file that a browser plays, following the spool while it grows. They are
//! stations of a crew of low priority; a spool that cannot be finished in three attempts is set aside.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use meerkat_base::{Budget, EventId, EventKind, Permit, WallTime, metric};
use meerkat_media::{ClipSettings, ClipSize, ClipWriter, MediaError, Pushed};
use meerkat_store::spool::{self, SpoolItem, SpoolReader};
use meerkat_store::{
    BootId, CaptureFiles, CaptureKind, ClipRow, ClipState, Durability, EventCursor, EventQuery, PendingFile,
    SpoolKind, SpoolMeta, StoreError,
};
use metrics::{counter, histogram};
use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use crate::archivist::{ArchiveError, Archivist};
use crate::supervision::{ActorKind, Component, Crew, Failure, Station, Step, fault};

/// Frames encoded in one turn.
const TURN: usize = 4;
/// How long an encoder that has nothing to read sleeps at most.
const NAP: Duration = Duration::from_millis(500);
/// How long a row is tried to be written while the archivist is being restarted; well below the deadline.
const ARCHIVE_LIMIT: Duration = Duration::from_secs(10);
/// Wait between two such tries.
const ARCHIVE_RETRY: Duration = Duration::from_millis(100);
/// Events that a clip can belong to; more at one camera in one clip's time do not happen.
const MAX_EVENTS: usize = 256;

/// Where things are stored.
#[derive(Debug, Clone)]
pub struct Places {
    /// The data folder.
    pub data_dir: PathBuf,
    /// This run of the node.
    pub boot: BootId,
    /// What must survive.
    pub durability: Durability,
}

impl Places {
    /// The folder of all spools.
    pub fn spools(&self) -> PathBuf {
        self.data_dir.join("spool")
    }
}

/// How files are made.
#[derive(Debug, Clone)]
pub struct EncoderSettings {
    /// Preset, quality and size of clips; videos have their own size.
    pub clip: ClipSettings,
    /// Kinds of events that have clips; may change while the node runs.
    pub recorded: Arc<RwLock<Vec<EventKind>>>,
    /// Files made at the same time; others wait as spools.
    pub max_open: usize,
    /// A piece of work that takes longer is a hang.
    pub deadline: Duration,
}

/// Size of a video, as kept in its spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SizeNote {
    AsReceived,
    Pixels { width: u32, height: u32 },
}

/// All encoders. Clones share them.
#[derive(Clone)]
pub struct Encoders {
    shared: Arc<Shared>,
}

struct Shared {
    crew: Crew,
    places: Places,
    settings: EncoderSettings,
    archivist: Archivist,
    open: Budget,
    jobs: Mutex<HashMap<PathBuf, Entry>>,
}

struct Entry {
    station: Station,
    writer_gone: Arc<AtomicBool>,
}

/// Held by whoever writes a spool: tells its encoder that there is more, and at last that there is no more.
pub(super) struct Following {
    station: Station,
    writer_gone: Arc<AtomicBool>,
}

impl Following {
    pub fn more(&self) {
        self.station.wake();
    }

    pub fn end(self) {
        drop(self);
    }
}

impl Drop for Following {
    /// However the writer went, its encoder must not wait for it.
    fn drop(&mut self) {
        self.writer_gone.store(true, Ordering::Release);
        self.station.wake();
    }
}

impl Encoders {
    /// Nothing to encode yet.
    pub fn new(crew: Crew, places: Places, settings: EncoderSettings, archivist: Archivist) -> Self {
        for result in ["ok", "repaired", "set_aside", "error"] {
            counter!(metric::CLIPS, "result" => result).increment(0);
        }
        // Made without a value: exported with zeros from the start.
        let _ = histogram!(metric::CLIP_WRITE_DURATION);
        let open = Budget::new(settings.max_open.max(1));
        let shared = Shared { crew, places, settings, archivist, open, jobs: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    fn jobs(&self) -> MutexGuard<'_, HashMap<PathBuf, Entry>> {
        self.shared.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finishes the spools that an earlier run left. Before the first recording. Returns how many there are.
    pub fn recover(&self) -> Result<usize, StoreError> {
        let found = spool::recover(&self.shared.places.spools())?;
        let count = found.len();
        for left in found {
            match left.meta {
                Some(meta) if left.frames > 0 => {
                    info!(spool = %left.path.display(), frames = left.frames, torn = left.torn_bytes, "finishing a spool of an earlier run");
                    self.follow(&left.path, &meta).end();
                }
                Some(_) => spool::remove(&left.path)?,
                None => self.set_aside(&left.path, "its beginning is damaged"),
            }
        }
        Ok(count)
    }

    /// Puts an encoder behind a spool.
    pub(super) fn follow(&self, path: &Path, meta: &SpoolMeta) -> Following {
        let writer_gone = Arc::new(AtomicBool::new(false));
        let (pool, own_path, own_meta, gone) =
            (self.clone(), path.to_owned(), meta.clone(), Arc::clone(&writer_gone));
        let camera = Some(meta.camera.clone());
        let station =
            self.shared.crew.station(ActorKind::Encoder, camera, self.shared.settings.deadline, move || {
                let job = Job::begin(pool.clone(), own_path.clone(), own_meta.clone(), Arc::clone(&gone))?;
                Ok(Box::new(job))
            });
        let entry = Entry { station: station.clone(), writer_gone: Arc::clone(&writer_gone) };
        self.jobs().insert(path.to_owned(), entry);
        station.wake();
        Following { station, writer_gone }
    }

    /// Says that nobody writes this spool any more.
    pub(super) fn writer_is_gone(&self, path: &Path) {
        if let Some(entry) = self.jobs().get(path) {
            entry.writer_gone.store(true, Ordering::Release);
            entry.station.wake();
        }
    }

    /// Puts in force which kinds of events have clips.
    pub fn set_recorded(&self, kinds: Vec<EventKind>) {
        *self.shared.settings.recorded.write().unwrap_or_else(PoisonError::into_inner) = kinds;
    }

    /// Spools that are not finished.
    pub fn waiting(&self) -> usize {
        self.jobs().len()
    }

    fn done(&self, path: &Path) {
        self.jobs().remove(path);
    }

    fn set_aside(&self, path: &Path, why: &str) {
        counter!(metric::CLIPS, "result" => "set_aside").increment(1);
        match spool::set_aside(path) {
            Ok(aside) => {
                error!(spool = %aside.display(), why, "a spool was set aside; its pictures are kept")
            }
            Err(problem) => error!(spool = %path.display(), why, %problem, "a spool cannot be set aside"),
        }
    }
}

enum Stage {
    /// Waits until it is its turn to be among the open ones.
    Waiting,
    Writing {
        writer: Box<ClipWriter>,
        pending: PendingFile,
        _permit: Permit,
    },
    Over,
}

/// Makes one file.
struct Job {
    pool: Encoders,
    path: PathBuf,
    meta: SpoolMeta,
    writer_gone: Arc<AtomicBool>,
    reader: SpoolReader,
    stage: Stage,
    first_wall: Option<WallTime>,
    last_wall: WallTime,
    damaged: bool,
    skipped: u64,
    ended: Option<Instant>,
}

impl Job {
    fn begin(
        pool: Encoders,
        path: PathBuf,
        meta: SpoolMeta,
        writer_gone: Arc<AtomicBool>,
    ) -> Result<Self, Failure> {
        // While following, the writer keeps a torn tail from being taken for the end.
        let reader = SpoolReader::follow(&path).map_err(Failure::error)?;
        Ok(Self {
            pool,
            path,
            last_wall: meta.started,
            meta,
            writer_gone,
            reader,
            stage: Stage::Waiting,
            first_wall: None,
            damaged: false,
            skipped: 0,
            ended: None,
        })
    }

    /// Opens the file, if it is its turn. False: not yet.
    fn open(&mut self) -> Result<bool, Failure> {
        let shared = &self.pool.shared;
        let Some(permit) = shared.open.try_take(1) else { return Ok(false) };
        let attempt = spool::begin_attempt(&self.path).map_err(Failure::error)?;
        if attempt > spool::MAX_ATTEMPTS {
            self.pool.set_aside(&self.path, "three attempts at finishing it failed");
            self.stage = Stage::Over;
            return Ok(true);
        }
        let (kind, settings, stem) = match self.meta.kind {
            SpoolKind::Clip { event } => {
                let stem = format!("{}_{event}", self.meta.started.compact());
                (CaptureKind::Clip, shared.settings.clip, stem)
            }
            SpoolKind::Video => {
                let size = match serde_json::from_value(self.meta.settings.clone()) {
                    Ok(SizeNote::Pixels { width, height }) => ClipSize::Fixed { width, height },
                    Ok(SizeNote::AsReceived) | Err(_) => ClipSize::AsReceived,
                };
                let settings = ClipSettings { size, ..shared.settings.clip };
                (
                    CaptureKind::Video,
                    settings,
                    format!("{}_{}", self.meta.started.compact(), self.meta.camera.folder()),
                )
            }
        };
        let places = &shared.places;
        let mut files = CaptureFiles::new(&places.data_dir, kind, places.boot.clone(), places.durability)
            .map_err(Failure::error)?;
        let pending = match files.begin(&self.meta.camera, self.meta.started, &stem, "mp4") {
            Ok(pending) => pending,
            Err(StoreError::Exists { path }) => {
                // An earlier attempt got as far as publishing it.
                info!(file = %path.display(), "the file is complete already");
                self.book_published(&path)?;
                spool::remove(&self.path).map_err(Failure::error)?;
                self.stage = Stage::Over;
                return Ok(true);
            }
            Err(error) => return Err(Failure::error(error)),
        };
        // The writer insists on making its file itself.
        std::fs::remove_file(pending.path()).map_err(Failure::error)?;
        let writer = ClipWriter::create(pending.path(), settings).map_err(Failure::error)?;
        self.stage = Stage::Writing { writer: Box::new(writer), pending, _permit: permit };
        Ok(true)
    }

    /// Encodes a few frames. True at the end of the spool, `None` when the writer has not written more yet.
    fn encode(&mut self) -> Result<Option<bool>, Failure> {
        for _ in 0..TURN {
            if self.writer_gone.load(Ordering::Acquire) {
                self.reader.writer_is_gone();
            }
            let item = self.reader.next_item().map_err(Failure::error)?;
            let Stage::Writing { writer, .. } = &mut self.stage else { return Ok(Some(true)) };
            match item {
                SpoolItem::Frame(frame) => {
                    fault::point(ActorKind::Encoder, Some(&self.meta.camera))?;
                    self.first_wall.get_or_insert(frame.wall);
                    self.last_wall = frame.wall;
                    match writer
                        .push(&frame.bytes, frame.format, frame.since_first)
                        .map_err(Failure::error)?
                    {
                        Pushed::Encoded => {}
                        Pushed::Skipped(why) => {
                            self.skipped += 1;
                            warn!(camera = %self.meta.camera, frame = frame.seq, %why, "a frame is not in the clip");
                        }
                    }
                }
                SpoolItem::Corrupt { bytes } => {
                    self.damaged = true;
                    warn!(spool = %self.path.display(), bytes, "a damaged place in a spool was skipped");
                }
                SpoolItem::NotYet => return Ok(None),
                SpoolItem::End(end) => {
                    self.damaged |= !end.finished || end.torn_bytes > 0;
                    return Ok(Some(true));
                }
            }
        }
        Ok(Some(false))
    }

    fn finish(&mut self) -> Result<(), Failure> {
        let Stage::Writing { writer, pending, .. } = std::mem::replace(&mut self.stage, Stage::Over) else {
            return Ok(());
        };
        let info = match writer.finish() {
            Ok(info) => info,
            Err(MediaError::EmptyClip { skipped }) => {
                self.pool.set_aside(&self.path, &format!("none of its {skipped} pictures can be decoded"));
                return Ok(());
            }
            Err(error) => return Err(Failure::error(error)),
        };
        let file = pending.publish().map_err(Failure::error)?;
        let state = if self.damaged { ClipState::Repaired } else { ClipState::Ok };
        let row = ClipRow {
            event: None,
            camera: self.meta.camera.clone(),
            path: file.relative.clone(),
            started: self.first_wall.unwrap_or(self.meta.started),
            duration: info.duration,
            frames: info.frames,
            bytes: file.bytes,
            sha256: None,
            state,
        };
        self.book(row)?;
        spool::remove(&self.path).map_err(Failure::error)?;
        counter!(metric::CLIPS, "result" => state.as_str()).increment(1);
        if let Some(ended) = self.ended {
            histogram!(metric::CLIP_WRITE_DURATION).record(ended.elapsed());
        }
        info!(camera = %self.meta.camera, file = file.relative, frames = info.frames, skipped = self.skipped, "clip finished");
        Ok(())
    }

    /// Makes up for the row of a file that was published by an attempt that came no further.
    fn book_published(&mut self, path: &Path) -> Result<(), Failure> {
        let data_dir = &self.pool.shared.places.data_dir;
        let relative = path.strip_prefix(data_dir).map_err(Failure::error)?.to_string_lossy().into_owned();
        let wanted = relative.clone();
        if self.ask(move |store| store.clip_at(&wanted))?.is_some() {
            return Ok(());
        }
        let info = meerkat_media::probe(path).map_err(Failure::error)?;
        let bytes = std::fs::metadata(path).map_err(Failure::error)?.len();
        let micros = i64::try_from(info.duration.as_micros()).unwrap_or(i64::MAX);
        self.last_wall = self.meta.started.offset_micros(micros);
        self.book(ClipRow {
            event: None,
            camera: self.meta.camera.clone(),
            path: relative,
            started: self.meta.started,
            duration: info.duration,
            frames: info.frames,
            bytes,
            sha256: None,
            state: ClipState::Repaired,
        })
    }

    /// Writes a row for each event that the clip shows; it may be several that overlapped.
    fn book(&self, row: ClipRow) -> Result<(), Failure> {
        let SpoolKind::Clip { event } = self.meta.kind else {
            return self.ask(move |store| store.add_clip(&row));
        };
        let recorded =
            self.pool.shared.settings.recorded.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (camera, from, to) = (self.meta.camera.clone(), row.started, self.last_wall);
        self.ask(move |store| {
            let query = EventQuery {
                limit: MAX_EVENTS,
                before: Some(EventCursor { started: to.offset_micros(1), id: EventId(uuid::Uuid::max()) }),
                camera: Some(camera.clone()),
                kind: None,
            };
            let mut events: Vec<EventId> = store
                .recent_events(&query)?
                .into_iter()
                .filter(|e| recorded.contains(&e.kind) && e.ended.is_none_or(|ended| ended >= from))
                .map(|e| e.id)
                .collect();
            if !events.contains(&event) {
                events.push(event);
            }
            for event in events {
                store.add_clip(&ClipRow { event: Some(event), ..row.clone() })?;
            }
            Ok(())
        })
    }

    fn ask<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut meerkat_store::Store) -> Result<R, StoreError> + Clone + Send + 'static,
    ) -> Result<R, Failure> {
        let give_up = Instant::now() + ARCHIVE_LIMIT;
        loop {
            match self.pool.shared.archivist.ask_blocking(work.clone()) {
                Ok(result) => return Ok(result),
                // The archivist is being restarted: no fault of this spool, and no attempt of its three.
                Err(ArchiveError::Busy | ArchiveError::Lost) if Instant::now() < give_up => {
                    std::thread::sleep(ARCHIVE_RETRY);
                }
                Err(error) => return Err(Failure::error(error)),
            }
        }
    }
}

impl Component for Job {
    fn step(&mut self) -> Result<Step, Failure> {
        if matches!(self.stage, Stage::Waiting) && !self.open()? {
            return Ok(Step::Sleep(NAP));
        }
        if matches!(self.stage, Stage::Over) {
            self.pool.done(&self.path);
            return Ok(Step::Done);
        }
        if self.ended.is_none() && self.writer_gone.load(Ordering::Acquire) {
            self.ended = Some(Instant::now());
        }
        match self.encode()? {
            None => Ok(Step::Sleep(NAP)),
            Some(false) => Ok(Step::Again),
            Some(true) => {
                // The end of the spool may be read before its writer lets go.
                self.ended.get_or_insert_with(Instant::now);
                self.finish()?;
                self.pool.done(&self.path);
                Ok(Step::Done)
            }
        }
    }
}
