//! Encoders: each makes one spool into one file that a browser plays, following the spool while it grows. They are
//! stations of a crew of low priority; a spool that cannot be finished in three attempts is set aside.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use meerkat_base::{CameraId, Clock, EventKind, Notice, NoticeSink, metric};
use meerkat_media::{ClipSettings, ClipSize};
use meerkat_store::evidence::SpoolSigning;
use meerkat_store::spool;
use meerkat_store::{BootId, ClipRow, ClipWish, Durability, SpoolKind, SpoolMeta, Store, StoreError};
use metrics::{counter, histogram};
use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use super::attempts::Attempts;
use super::job::{Begun, Gone, Job};
use super::pictures::Pictures;
use super::turns::Turns;
use crate::archivist::Archivist;
use crate::notifier::NotifierLink;
use crate::storage::Room;
use crate::supervision::{ActorKind, Component, Crew, Station};

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
    /// Files made at the same time; others wait as spools. One place is never for a recording that still runs.
    pub max_open: usize,
    /// A piece of work that takes longer is a hang.
    pub deadline: Duration,
    /// Pictures in the preview strip of a clip; 0: no strip.
    pub strip: u8,
    /// Whether spools are kept once their MP4 exists.
    pub keep_spools: bool,
}

/// What encoders work with.
pub struct EncoderTools {
    /// Where things are stored.
    pub places: Places,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Writes the rows.
    pub archivist: Archivist,
    /// The disk that it lies on.
    pub room: Arc<Room>,
    /// How spools are signed, if they are.
    pub signing: Option<SpoolSigning>,
    /// Hears of spools that are damaged.
    pub notices: Arc<dyn NoticeSink>,
}

/// Who is to be told when a clip is ready.
#[derive(Clone)]
pub struct ClipTelling {
    /// The channels that want clips; may change while the node runs.
    pub wishes: Arc<RwLock<Vec<ClipWish>>>,
    /// Rung when there is something new to deliver.
    pub notifier: NotifierLink,
}

/// Size of a video, as kept in its spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SizeNote {
    AsReceived,
    Pixels { width: u32, height: u32 },
}

/// Size of the file that is made of a spool: that of a video as its spool notes it, otherwise that of clips.
pub fn clip_size(meta: &SpoolMeta, clips: ClipSize) -> ClipSize {
    if meta.kind != SpoolKind::Video {
        return clips;
    }
    match serde_json::from_value(meta.settings.clone()) {
        Ok(SizeNote::Pixels { width, height }) => ClipSize::Fixed { width, height },
        Ok(SizeNote::AsReceived) | Err(_) => ClipSize::AsReceived,
    }
}

/// All encoders. Clones share them.
#[derive(Clone)]
pub struct Encoders {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    crew: Crew,
    pub tools: EncoderTools,
    pub settings: EncoderSettings,
    /// Whose turn it is to make a file.
    pub turns: Turns,
    /// Attempts at making one that are under way.
    pub attempts: Attempts,
    /// Decoded pictures that two files of one camera have in common.
    pub pictures: Pictures,
    jobs: Mutex<HashMap<PathBuf, Entry>>,
    telling: OnceLock<ClipTelling>,
}

struct Entry {
    station: Station,
    writer_gone: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
}

/// Held by whoever writes a spool: tells its encoder that there is more, and at last that there is no more.
pub(super) struct Following {
    station: Station,
    writer_gone: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
}

impl Following {
    /// Says how many bytes the spool has by now.
    pub fn has(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Release);
    }

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
    pub fn new(crew: Crew, tools: EncoderTools, settings: EncoderSettings) -> Self {
        for result in ["ok", "repaired", "set_aside", "error"] {
            counter!(metric::CLIPS, "result" => result).increment(0);
        }
        for result in ["ok", "missed", "made_up", "lost"] {
            counter!(metric::SNAPSHOTS, "result" => result).increment(0);
        }
        // Made without a value: exported with zeros from the start.
        let _ = histogram!(metric::CLIP_WRITE_DURATION);
        let turns = Turns::new(settings.max_open);
        for limit in ["spool_max_bytes", "spool_total_bytes"] {
            counter!(metric::LIMIT_HITS, "limit" => limit).increment(0);
        }
        let pictures = Pictures::default();
        let (attempts, jobs, telling) = (Attempts::default(), Mutex::default(), OnceLock::new());
        let shared = Shared { crew, tools, settings, turns, attempts, pictures, jobs, telling };
        Self { shared: Arc::new(shared) }
    }

    fn jobs(&self) -> MutexGuard<'_, HashMap<PathBuf, Entry>> {
        self.shared.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has people told of clips from now on; to be called once. Until then, and in tests, nobody is.
    pub fn tell(&self, telling: ClipTelling) {
        let _ = self.shared.telling.set(telling);
    }

    /// Writes the rows of a clip, in one commit with what the channels that want clips are sent of it.
    pub(super) fn book(&self, store: &mut Store, rows: &[ClipRow]) -> Result<(), StoreError> {
        let telling = self.shared.telling.get();
        let wishes = telling.map_or_else(Vec::new, |telling| {
            telling.wishes.read().unwrap_or_else(PoisonError::into_inner).clone()
        });
        let parts = store.book_clip(rows, &wishes, self.shared.tools.clock.wall())?;
        if let Some(telling) = telling.filter(|_| parts > 0) {
            telling.notifier.kick();
        }
        Ok(())
    }

    /// Finishes the spools that an earlier run left. Before the first recording. Returns how many there are. One that can
    /// be neither removed nor set aside is told of, and holds up no other.
    pub fn recover(&self) -> Result<usize, StoreError> {
        let mut stuck = |path: &Path, problem: &StoreError| self.stays(path, None, problem);
        let found = spool::recover_telling(&self.shared.tools.places.spools(), &mut stuck)?;
        let count = found.len();
        for left in found {
            match left.meta {
                Some(meta) if left.frames > 0 => {
                    info!(spool = %left.path.display(), frames = left.frames, torn = left.torn_bytes, "finishing a spool of an earlier run");
                    let following = self.attend(&left.path, &meta, true);
                    following.has(left.bytes);
                    following.end();
                }
                // A recording that had not got its first picture: nothing in it was answered for.
                Some(meta) if left.corrupt_bytes == 0 => {
                    if let Err(problem) = spool::remove(&left.path) {
                        self.stays(&left.path, Some(&meta.camera), &problem);
                    }
                }
                Some(meta) => self.set_aside(&left.path, Some(&meta), "no picture in it is whole"),
                None => self.set_aside(&left.path, None, "its beginning is damaged"),
            }
        }
        Ok(count)
    }

    /// Puts an encoder behind a spool.
    pub(super) fn follow(&self, path: &Path, meta: &SpoolMeta) -> Following {
        self.attend(path, meta, false)
    }

    /// As [`Encoders::follow`]; `left`: by an earlier run.
    fn attend(&self, path: &Path, meta: &SpoolMeta, left: bool) -> Following {
        let writer_gone = Arc::new(AtomicBool::new(false));
        let (pool, begun) = (
            self.clone(),
            Begun { path: path.to_owned(), meta: meta.clone(), writer_gone: Arc::clone(&writer_gone), left },
        );
        let camera = Some(meta.camera.clone());
        let station =
            self.shared.crew.station(ActorKind::Encoder, camera, self.shared.settings.deadline, move || {
                let job: Box<dyn Component> = match Job::begin(pool.clone(), begun.clone())? {
                    Some(job) => Box::new(job),
                    None => Box::new(Gone::new(pool.clone(), begun.clone())),
                };
                Ok(job)
            });
        let bytes = Arc::new(AtomicU64::new(0));
        let entry = Entry {
            station: station.clone(),
            writer_gone: Arc::clone(&writer_gone),
            bytes: Arc::clone(&bytes),
        };
        self.jobs().insert(path.to_owned(), entry);
        station.wake();
        Following { station, writer_gone, bytes }
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

    /// The node stops in order: what is being made is made anew at the next start, and that is none of the three attempts
    /// of its spool. Waits so long at most, as the disk may hang.
    pub fn stop(&self, patience: Duration) {
        let (attempts, deadline) = (self.shared.attempts.clone(), self.shared.settings.deadline);
        let (done, waiting) = mpsc::channel::<()>();
        let taking_back = std::thread::Builder::new().name("attempts".to_owned()).spawn(move || {
            attempts.stop(deadline);
            drop(done);
        });
        if taking_back.is_err() || waiting.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            warn!("attempts at making clips that the end of the node interrupts may count");
        }
    }

    /// Refuses when the spools that have no file yet hold more than so many bytes.
    pub(super) fn check_waiting(&self, limit: u64) -> Result<(), StoreError> {
        let waiting: u64 = self.jobs().values().map(|entry| entry.bytes.load(Ordering::Acquire)).sum();
        if waiting < limit {
            return Ok(());
        }
        counter!(metric::LIMIT_HITS, "limit" => "spool_total_bytes").increment(1);
        Err(StoreError::Refused(format!(
            "spools that are not encoded yet hold {waiting} bytes (spool.total_bytes)"
        )))
    }

    /// Whether the data folder is where it was.
    pub(super) fn is_home(&self) -> bool {
        self.shared.tools.room.folder().here().is_ok()
    }

    /// Wakes whoever works on a spool.
    pub(super) fn wake(&self, path: &Path) {
        let station = self.jobs().get(path).map(|entry| entry.station.clone());
        if let Some(station) = station {
            station.wake();
        }
    }

    pub(super) fn done(&self, path: &Path) {
        self.jobs().remove(path);
    }

    /// Gives a spool up and says so: in the log, the metrics, a row, and to whoever hears notices.
    pub(super) fn set_aside(&self, path: &Path, meta: Option<&SpoolMeta>, why: &str) {
        counter!(metric::CLIPS, "result" => "set_aside").increment(1);
        let aside = match spool::set_aside(path) {
            Ok(aside) => aside,
            Err(problem) => {
                error!(spool = %path.display(), why, %problem, "a spool cannot be set aside");
                let words = format!("the spool is to be set aside ({why}), and cannot be: {problem}");
                self.damaged(path, meta.map(|meta| &meta.camera), words);
                return;
            }
        };
        error!(spool = %aside.display(), why, "a spool was set aside; its pictures are kept");
        let bytes = std::fs::metadata(aside.join("frames")).map_or(0, |metadata| metadata.len());
        let relative = aside.strip_prefix(&self.shared.tools.places.data_dir).ok();
        // Where its beginning is damaged its name still says whose it is.
        let row =
            relative.and_then(|path| ClipRow::of_set_aside(path.to_string_lossy().into_owned(), meta, bytes));
        self.damaged(
            &aside,
            row.as_ref().map(|row| &row.camera),
            format!("the spool was set aside: {why}; its pictures are kept"),
        );
        let Some(row) = row else {
            warn!(spool = %aside.display(), "a spool that was set aside has no row: nothing says whose it is");
            return;
        };
        // Not waited for: at a start nobody may be there yet, and the spool is on the disk in any case.
        let offered = self.shared.tools.archivist.offer(move |store| {
            if let Err(problem) = store.add_clip(&row) {
                warn!(%problem, "a spool that was set aside has no row");
                return;
            }
            // Its event may be kept: a database that is made anew learns it from there.
            let noted = store.is_kept(&row.path).and_then(|kept| match kept {
                true => store.write_sidecar(&row.path, Some(true)).map(drop),
                false => Ok(()),
            });
            if let Err(problem) = noted {
                warn!(%problem, "nothing beside a spool that was set aside says that it is kept");
            }
        });
        if !offered {
            warn!(spool = %aside.display(), "a spool that was set aside has no row");
        }
    }

    /// Says that a spool with nothing in it cannot be removed; the next start tries again.
    fn stays(&self, path: &Path, camera: Option<&CameraId>, problem: &StoreError) {
        error!(spool = %path.display(), %problem, "a spool that is of no use cannot be removed");
        self.damaged(path, camera, format!("a spool that is of no use cannot be removed: {problem}"));
    }

    /// Raises a notice about a spool.
    pub(super) fn damaged(&self, path: &Path, camera: Option<&CameraId>, detail: String) {
        let subject = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        self.shared.tools.notices.raise(Notice {
            kind: EventKind::StoreDamaged,
            camera: camera.cloned(),
            subject,
            holds: true,
            detail,
        });
    }
}
