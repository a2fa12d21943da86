//! Makes one spool into one file that a browser plays, following the spool while it grows; beside it a preview strip and,
//! where the node signs, a proof of what it was made of.

mod booking;
mod snapshots;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use meerkat_base::{WallTime, metric};
use meerkat_media::{ClipSettings, ClipWriter, MediaError, Pushed};
use meerkat_store::evidence::{ClipProof, SpoolNote, sign_proof};
use meerkat_store::spool::{self, SpoolFrame, SpoolItem, SpoolReader};
use meerkat_store::{
    CaptureFiles, CaptureKind, ClipRow, ClipState, PROOF_ENDING, PendingFile, STRIP_ENDING, SpoolKind,
    SpoolMeta, StoreError,
};
use metrics::{counter, histogram};
use tracing::{error, info, warn};

use super::attempts::Attempt;
use super::encoder::{Encoders, clip_size};
use super::pictures::User;
use super::turns::Turn;
use crate::storage::is_of_the_disk;
use crate::supervision::{ActorKind, Component, Failure, Step, fault};

/// Frames encoded in one turn.
const TURN: usize = 4;
/// How long an encoder that has nothing to read sleeps at most.
const NAP: Duration = Duration::from_millis(500);
/// How long one sleeps that stands in line, unless it is woken because it is its turn.
const IN_LINE: Duration = Duration::from_secs(5);
/// Wait before a file is begun again that the disk did not take.
const DISK_RETRY: Duration = Duration::from_secs(2);
/// Numbers of skipped frames that a proof lists; a clip with more cannot be proven.
const MAX_SKIPPED: usize = 100_000;

enum Stage {
    /// Waits until it is its turn to be among the open ones.
    Waiting,
    Writing {
        writer: Box<ClipWriter>,
        files: Box<CaptureFiles>,
        pending: PendingFile,
        pictures: User,
    },
    Over,
}

/// The spool that a file is to be made of.
#[derive(Clone)]
pub(super) struct Begun {
    /// Its folder.
    pub path: PathBuf,
    /// What its writer said about it.
    pub meta: SpoolMeta,
    /// Set when nobody writes it any more.
    pub writer_gone: Arc<AtomicBool>,
    /// Left by an earlier run.
    pub left: bool,
}

/// Makes one file.
pub(super) struct Job {
    pool: Encoders,
    path: PathBuf,
    meta: SpoolMeta,
    writer_gone: Arc<AtomicBool>,
    left: bool,
    turn: Turn,
    reader: SpoolReader,
    stage: Stage,
    first_wall: Option<WallTime>,
    last_wall: WallTime,
    damaged: bool,
    /// A damaged place was skipped.
    corrupt: bool,
    frames: u64,
    numbers: Option<(u64, u64)>,
    finished: bool,
    skipped: Vec<u64>,
    ended: Option<Instant>,
    /// The attempt that is under way; it may have to be taken back.
    attempt: Option<Attempt>,
    /// The disk refused: everything begins again.
    refused: bool,
}

impl Job {
    /// None: the spool is gone.
    pub fn begin(pool: Encoders, begun: Begun) -> Result<Option<Self>, Failure> {
        let Begun { path, meta, writer_gone, left } = begun;
        // While following, the writer keeps a torn tail from being taken for the end.
        let reader = match SpoolReader::follow(&path) {
            Ok(reader) => reader,
            // Not when the whole disk was taken away: it may come back.
            Err(error) if error.is_not_found() && spool::is_gone(&path) && pool.is_home() => return Ok(None),
            Err(error) => return Err(Failure::error(error)),
        };
        let (waker, own_path) = (pool.clone(), path.clone());
        let turns = &pool.shared.turns;
        let turn = turns.join(&path, Arc::clone(&writer_gone), left, move || waker.wake(&own_path));
        Ok(Some(Self {
            pool,
            path,
            last_wall: meta.started,
            meta,
            writer_gone,
            left,
            turn,
            reader,
            stage: Stage::Waiting,
            first_wall: None,
            damaged: false,
            corrupt: false,
            frames: 0,
            numbers: None,
            finished: false,
            skipped: Vec::new(),
            ended: None,
            attempt: None,
            refused: false,
        }))
    }

    /// Opens the file, if it is its turn. False: not yet.
    fn open(&mut self) -> Result<bool, Failure> {
        let shared = &self.pool.shared;
        if !self.turn.take() {
            return Ok(false);
        }
        // Else the node stops.
        let Some(attempt) = shared.attempts.begin(&self.path).map_err(Failure::error)? else {
            return Ok(false);
        };
        let which = attempt.which();
        self.attempt = Some(attempt);
        if which > spool::MAX_ATTEMPTS {
            self.pool.set_aside(&self.path, Some(&self.meta), "three attempts at finishing it failed");
            self.stage = Stage::Over;
            return Ok(true);
        }
        let clip = shared.settings.clip;
        let settings = ClipSettings { size: clip_size(&self.meta, clip.size), ..clip };
        let kind = match self.meta.kind {
            SpoolKind::Clip { .. } => CaptureKind::Clip,
            SpoolKind::Segment => CaptureKind::Segment,
            SpoolKind::Video => CaptureKind::Video,
        };
        let stem = self.stem();
        let places = &shared.tools.places;
        let mut files = CaptureFiles::new(&places.data_dir, kind, places.boot.clone(), places.durability)
            .map_err(Failure::error)?;
        let pending = match files.begin(&self.meta.camera, self.meta.started, &stem, "mp4") {
            Ok(pending) => pending,
            Err(StoreError::Exists { path }) => {
                // An earlier attempt got as far as publishing it: no other spool has a file of this name.
                info!(file = %path.display(), "the file is complete already");
                let relative = self.book_published(&path)?;
                self.let_go(&relative)?;
                self.stage = Stage::Over;
                return Ok(true);
            }
            Err(error) => return Err(Failure::error(error)),
        };
        // The writer insists on making its file itself.
        std::fs::remove_file(pending.path()).map_err(Failure::error)?;
        let writer = ClipWriter::create(pending.path(), settings).map_err(Failure::error)?;
        let writer = writer.with_strip(shared.settings.strip);
        let pictures = shared.pictures.user(&self.meta.camera);
        self.stage = Stage::Writing { writer: Box::new(writer), files: Box::new(files), pending, pictures };
        Ok(true)
    }

    /// Name of the file: when the recording began, what it shows, and the number of the spool. Two recordings of the same
    /// event may begin with the same picture, when the disk did not take the first one: each is a file of its own.
    fn stem(&self) -> String {
        let of = match self.meta.kind {
            SpoolKind::Clip { event } => event.to_string(),
            SpoolKind::Segment | SpoolKind::Video => self.meta.camera.folder(),
        };
        format!("{}_{of}_{:016x}", self.meta.started.compact(), self.reader.nonce().unwrap_or_default())
    }

    /// Encodes a few frames. True at the end of the spool, `None` when the writer has not written more yet.
    fn encode(&mut self) -> Result<Option<bool>, Failure> {
        for _ in 0..TURN {
            if self.writer_gone.load(Ordering::Acquire) {
                self.reader.writer_is_gone();
            }
            let item = self.reader.next_item().map_err(Failure::error)?;
            match item {
                SpoolItem::Frame(frame) => {
                    fault::point(ActorKind::Encoder, Some(&self.meta.camera))?;
                    self.encode_frame(&frame)?;
                }
                SpoolItem::Corrupt { bytes } => {
                    self.damaged = true;
                    self.corrupt = true;
                    warn!(spool = %self.path.display(), bytes, "a damaged place in a spool was skipped");
                }
                SpoolItem::NotYet => return Ok(None),
                SpoolItem::End(end) => {
                    self.finished = end.finished;
                    self.damaged |= !end.finished || end.torn_bytes > 0;
                    return Ok(Some(true));
                }
            }
        }
        Ok(Some(false))
    }

    fn encode_frame(&mut self, frame: &SpoolFrame) -> Result<(), Failure> {
        let Stage::Writing { writer, pictures, .. } = &mut self.stage else { return Ok(()) };
        self.first_wall.get_or_insert(frame.wall);
        self.last_wall = frame.wall;
        self.frames += 1;
        self.numbers = Some((self.numbers.map_or(frame.seq, |(first, _)| first), frame.seq));
        let pushed = match pictures.get(frame.seq, &frame.bytes, || writer.decode(&frame.bytes, frame.format))
        {
            Ok(picture) => writer.push_picture(&picture, frame.since_first).map_err(Failure::error)?,
            Err(fault) => writer.skip(fault),
        };
        if let Pushed::Skipped(why) = pushed {
            if self.skipped.len() <= MAX_SKIPPED {
                self.skipped.push(frame.seq);
            }
            warn!(camera = %self.meta.camera, frame = frame.seq, %why, "a frame is not in the clip");
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Failure> {
        let Stage::Writing { writer, mut files, pending, .. } =
            std::mem::replace(&mut self.stage, Stage::Over)
        else {
            return Ok(());
        };
        let (info, strip) = match writer.finish_with_strip() {
            Ok(finished) => finished,
            // The disk refused the very first picture: nothing in it was answered for.
            Err(MediaError::EmptyClip { skipped: 0 }) if !self.corrupt => {
                info!(spool = %self.path.display(), "a recording that never got a picture is removed");
                return spool::remove(&self.path).map_err(Failure::error);
            }
            Err(MediaError::EmptyClip { skipped }) => {
                let why = format!("none of its {skipped} pictures can be decoded");
                self.pool.set_aside(&self.path, Some(&self.meta), &why);
                return Ok(());
            }
            Err(error) => return Err(Failure::error(error)),
        };
        let sha256 = pending.sha256().map_err(Failure::error)?;
        // Before the file itself: what lies under a final name is complete.
        if let Some(strip) = strip {
            files.store_beside(&pending, STRIP_ENDING, &strip).map_err(Failure::error)?;
        }
        self.note_damage();
        if let Some(proof) = self.proof(&pending, &sha256, info.frames) {
            files.store_beside(&pending, PROOF_ENDING, proof.as_bytes()).map_err(Failure::error)?;
        }
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
            sha256: Some(sha256),
            state,
            skipped: info.skipped,
            missing: None,
        };
        let lacking = self.book(row)?;
        self.make_up_snapshots(lacking);
        // Before the spool goes: should that fail, another attempt finds the file and has nothing to count.
        counter!(metric::CLIPS, "result" => state.as_str()).increment(1);
        if let Some(ended) = self.ended {
            histogram!(metric::CLIP_WRITE_DURATION).record(ended.elapsed());
        }
        self.let_go(&file.relative)?;
        info!(camera = %self.meta.camera, file = file.relative, frames = info.frames, skipped = info.skipped, "clip finished");
        Ok(())
    }

    /// The file is there, and its row: the spool is kept or removed.
    fn let_go(&self, file: &str) -> Result<(), Failure> {
        let gone = if self.pool.shared.settings.keep_spools {
            spool::keep(&self.path, file).map(drop)
        } else {
            spool::remove(&self.path)
        };
        match gone {
            // Half of it is removed, and it no longer has its name: the next start removes the rest.
            Err(error) if spool::is_gone(&self.path) => {
                warn!(spool = %self.path.display(), %error, "a spool whose file is complete is not quite removed");
                Ok(())
            }
            gone => gone.map_err(Failure::error),
        }
    }

    /// Says that the spool is not as it was written, if that is so.
    fn note_damage(&mut self) {
        let broken = self.reader.chain().is_some_and(|chain| !chain.whole);
        if broken || self.corrupt {
            self.damaged = true;
            let words = "a part of a recording was damaged on the disk; the rest was made into its file";
            self.pool.damaged(&self.path, Some(&self.meta.camera), words.to_owned());
        }
    }

    /// What is signed about the file, where the node signs.
    fn proof(&self, pending: &PendingFile, sha256: &str, frames: u64) -> Option<String> {
        let tools = &self.pool.shared.tools;
        let signing = tools.signing.as_ref()?;
        if self.skipped.len() > MAX_SKIPPED {
            warn!(spool = %self.path.display(), "too many frames were skipped for a proof");
            return None;
        }
        let chain = self.reader.chain();
        let (first_number, last_number) = self.numbers.unwrap_or_default();
        let proof = ClipProof {
            format: 1,
            boot: tools.places.boot.as_str().to_owned(),
            made: tools.clock.wall().0,
            camera: self.meta.camera.to_string(),
            event: match self.meta.kind {
                SpoolKind::Clip { event } => Some(event.to_string()),
                SpoolKind::Video | SpoolKind::Segment => None,
            },
            path: pending.relative(),
            sha256: sha256.to_owned(),
            bytes: std::fs::metadata(pending.path()).ok()?.len(),
            started: self.first_wall.unwrap_or(self.meta.started).0,
            frames,
            skipped: self.skipped.clone(),
            spool: SpoolNote {
                name: self.path.file_name()?.to_string_lossy().into_owned(),
                frames: self.frames,
                first_number,
                last_number,
                first_link: chain.map(|chain| chain.first()),
                last_link: chain.map(|chain| chain.last()),
                whole: chain.is_some_and(|chain| chain.whole) && !self.corrupt,
                finished: self.finished,
            },
        };
        Some(sign_proof(signing.key(), &proof))
    }
}

/// Stands for a spool that is gone before a file was made of it: says so, and is done. Nobody waits for it any more, and
/// its bytes count for nothing.
pub(super) struct Gone {
    pool: Encoders,
    begun: Begun,
}

impl Gone {
    pub fn new(pool: Encoders, begun: Begun) -> Self {
        Self { pool, begun }
    }
}

impl Component for Gone {
    fn step(&mut self) -> Result<Step, Failure> {
        let Begun { path, meta, .. } = &self.begun;
        if spool::is_kept(path) {
            // The generation before came as far as that.
            self.pool.done(path);
            return Ok(Step::Done);
        }
        error!(spool = %path.display(), camera = %meta.camera, "a spool is gone before its file was made");
        counter!(metric::CLIPS, "result" => "error").increment(1);
        let words = "a recording is gone from the disk before its file was made";
        self.pool.damaged(path, Some(&meta.camera), words.to_owned());
        self.pool.done(path);
        Ok(Step::Done)
    }
}

impl Component for Job {
    fn step(&mut self) -> Result<Step, Failure> {
        self.note_work(true);
        let advanced = self.advance();
        self.note_work(false);
        match advanced {
            Err(Failure::Error(words)) if is_of_the_disk(&words) => self.wait_for_disk(&words),
            other => other,
        }
    }
}

impl Job {
    /// A disk that does not take the file is no fault of the spool: the attempt does not count, and it begins again
    /// later.
    fn wait_for_disk(&mut self, words: &str) -> Result<Step, Failure> {
        if !self.refused {
            warn!(spool = %self.path.display(), words, "the disk does not take a clip; it is tried again");
        }
        // Removes what there is of the file; others have their turn.
        self.stage = Stage::Waiting;
        self.turn.leave();
        self.refused = true;
        Ok(Step::Sleep(DISK_RETRY))
    }

    fn note_work(&self, is_at_work: bool) {
        if let Some(attempt) = &self.attempt {
            attempt.works(is_at_work);
        }
    }

    /// After the disk refused; it may refuse this too, and then nothing is counted that was not taken back.
    fn begin_again(&mut self) -> Result<(), Failure> {
        if let Some(attempt) = &self.attempt {
            attempt.forgive().map_err(Failure::error)?;
        }
        self.attempt = None;
        let begun = Begun {
            path: self.path.clone(),
            meta: self.meta.clone(),
            writer_gone: Arc::clone(&self.writer_gone),
            left: self.left,
        };
        match Self::begin(self.pool.clone(), begun)? {
            Some(again) => *self = Self { ended: self.ended, ..again },
            // The next generation finds out as well, and says so.
            None => return Err(Failure::error("the spool is gone")),
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<Step, Failure> {
        if self.refused {
            self.begin_again()?;
        }
        let waits = matches!(self.stage, Stage::Waiting);
        // What an earlier run left has been over for long: there only the work itself is measured.
        let counts = !waits || !self.left;
        if self.ended.is_none() && counts && self.writer_gone.load(Ordering::Acquire) {
            self.ended = Some(Instant::now());
            // One recording fewer is followed while it runs.
            self.pool.shared.turns.wake();
        }
        if waits && !self.open()? {
            return Ok(Step::Sleep(IN_LINE));
        }
        if matches!(self.stage, Stage::Over) {
            self.pool.done(&self.path);
            return Ok(Step::Done);
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
