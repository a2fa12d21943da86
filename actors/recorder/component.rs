//! The recorder of one camera: carries out orders one after the other. It never waits for a detector, an encoder or
//! the database, so that recording goes on whatever else fails.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use meerkat_base::{Clock, Event, Frame, MonoTime, WallTime};
use meerkat_settings::ClipSettings;
use meerkat_store::{CaptureFiles, CaptureKind, PictureStore, StoreError};
use tracing::{info, warn};

use super::clip::OpenClip;
use super::encoder::Encoders;
use super::link::{Order, RecorderLink, Reply, SnapshotFile, Stored};
use super::room::Room;
use super::video::OpenVideo;
use crate::camera::Camera;
use crate::supervision::{ActorKind, Component, Failure, Step, fault};

/// How often an open clip is looked at when no frame comes.
const IDLE_LOOK: Duration = Duration::from_millis(200);
/// Pictures that follow each other faster than this come as fast as they are answered.
const IN_QUICK_SUCCESSION: Duration = Duration::from_millis(5);

/// What every recorder is built from.
pub struct RecorderTools {
    /// Places and names of what is stored.
    pub places: super::encoder::Places,
    /// Clip settings in force.
    pub clip: ClipSettings,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Makes files of spools.
    pub encoders: Encoders,
    /// Free space.
    pub room: Arc<Room>,
}

/// The recorder.
pub struct Recorder {
    camera: Weak<Camera>,
    link: RecorderLink,
    tools: Arc<RecorderTools>,
    pictures: PictureStore,
    snapshots: CaptureFiles,
    clip: Option<OpenClip>,
    video: Option<OpenVideo>,
    generation: u64,
    last_picture: Option<MonoTime>,
}

impl Recorder {
    /// Takes over from the generation before: its spools go to the encoder as they are, and events that are
    /// still being recorded go on in a new spool, without a frame lost between as long as the ring reaches back.
    pub fn new(camera: Weak<Camera>, link: RecorderLink, tools: Arc<RecorderTools>) -> Result<Self, Failure> {
        link.shared.lose_what_was_in_hand();
        let (left, generation) = {
            let mut legacy = link.shared.legacy();
            legacy.generation += 1;
            (std::mem::take(&mut legacy.open), legacy.generation)
        };
        for path in left {
            warn!(spool = %path.display(), "a recorder was lost; its spool is finished as it is");
            tools.encoders.writer_is_gone(&path);
        }
        let places = &tools.places;
        let pictures = PictureStore::new(&places.data_dir, places.boot.clone(), places.durability)
            .map_err(Failure::error)?;
        let snapshots =
            CaptureFiles::new(&places.data_dir, CaptureKind::Clip, places.boot.clone(), places.durability)
                .map_err(Failure::error)?;
        let mut recorder = Self {
            camera,
            link,
            tools,
            pictures,
            snapshots,
            clip: None,
            video: None,
            generation,
            last_picture: None,
        };
        recorder.resume().map_err(Failure::error)?;
        Ok(recorder)
    }

    fn resume(&mut self) -> Result<(), StoreError> {
        let (event, last_seq) = {
            let legacy = self.link.shared.legacy();
            let Some(active) = legacy.active.first() else { return Ok(()) };
            (active.event, legacy.last_seq)
        };
        let Some(camera) = self.camera.upgrade() else { return Ok(()) };
        let frames: Vec<Frame> = {
            let mut state = camera.ring();
            state.recording = true;
            state.ring.iter().filter(|f| f.seq > last_seq).cloned().collect()
        };
        self.clip = Some(OpenClip::begin(&self.tools, &self.link, &camera, event, &frames)?);
        Ok(())
    }

    fn carry_out(&mut self, camera: &Arc<Camera>, order: Order) -> Result<Reply, Failure> {
        let outcome = match order {
            Order::Picture { frame } => self.picture(&frame),
            Order::VideoFrame { frame } => self.video_frame(camera, &frame),
            Order::EndVideo => self.end_video(),
            Order::ClipFrame { frame } => self.clip_frame(camera, &frame),
            Order::Finish => self.finish_all(camera),
            Order::BeginClip { event } => return self.begin_clip(camera, &event),
            Order::EndClip { event, at } => {
                let until = at.after(self.tools.clip.post_roll);
                for active in self.link.shared.legacy().active.iter_mut().filter(|a| a.event == event) {
                    active.until = Some(until);
                }
                Ok(())
            }
        };
        self.answer(outcome, None)
    }

    /// An error of the disk is an answer; only what leaves the recorder itself broken is a failure.
    fn answer(
        &self,
        outcome: Result<(), StoreError>,
        snapshot: Option<SnapshotFile>,
    ) -> Result<Reply, Failure> {
        match outcome {
            Ok(()) => Ok(Reply { stored: Stored::Done, snapshot }),
            Err(error @ StoreError::Poisoned { .. }) => Err(Failure::error(error)),
            Err(error) => {
                self.link.shared.refused.fetch_add(1, Ordering::AcqRel);
                Ok(Reply { stored: Stored::Refused(error.to_string()), snapshot })
            }
        }
    }

    fn check_room(&self) -> Result<(), StoreError> {
        self.tools.room.check().map_err(StoreError::Refused)
    }

    fn picture(&mut self, frame: &Frame) -> Result<(), StoreError> {
        self.check_room()?;
        match self.pictures.store(frame) {
            // The order was given twice: the recorder was lost between doing it and saying so.
            Err(StoreError::Exists { path }) if std::fs::read(&path).is_ok_and(|b| b == frame.bytes) => {
                Ok(())
            }
            stored => stored.map(drop),
        }
    }

    /// The moment of a picture that another is expected to follow at once; else makes sure that no file waits.
    fn expects_another(&mut self, order: &Order) -> Option<WallTime> {
        let Order::Picture { frame } = order else {
            self.pictures.rest();
            return None;
        };
        let last = self.last_picture.replace(frame.mono)?;
        (frame.mono.since(last) < IN_QUICK_SUCCESSION).then_some(frame.wall)
    }

    fn video_frame(&mut self, camera: &Arc<Camera>, frame: &Frame) -> Result<(), StoreError> {
        self.check_room()?;
        match &mut self.video {
            Some(video) => video.append(frame),
            None => {
                let mut video = OpenVideo::begin(&self.tools, &self.link, camera, frame)?;
                video.append(frame)?;
                self.video = Some(video);
                Ok(())
            }
        }
    }

    fn end_video(&mut self) -> Result<(), StoreError> {
        match self.video.take() {
            Some(video) => video.finish(),
            None => Ok(()),
        }
    }

    fn finish_all(&mut self, camera: &Arc<Camera>) -> Result<(), StoreError> {
        camera.ring().recording = false;
        self.link.shared.legacy().active.clear();
        self.end_video()?;
        self.clip.take().map_or(Ok(()), OpenClip::finish)
    }

    fn clip_frame(&mut self, camera: &Arc<Camera>, frame: &Frame) -> Result<(), StoreError> {
        let Some(clip) = &mut self.clip else { return Ok(()) };
        clip.append(frame)?;
        if clip.span(frame) >= self.tools.clip.max {
            self.next_part(camera)?;
        }
        Ok(())
    }

    /// A clip that reaches its longest goes on in the next part with the very next frame.
    fn next_part(&mut self, camera: &Arc<Camera>) -> Result<(), StoreError> {
        let Some(full) = self.clip.take() else { return Ok(()) };
        let event = full.event();
        full.finish()?;
        self.clip = Some(OpenClip::begin(&self.tools, &self.link, camera, event, &[])?);
        Ok(())
    }

    fn begin_clip(&mut self, camera: &Arc<Camera>, event: &Event) -> Result<Reply, Failure> {
        if let Err(error) = self.check_room() {
            return self.answer(Err(error), None);
        }
        let snapshot = self.snapshot(camera, event);
        if self.clip.is_some() {
            self.link.shared.legacy().activate(event.id);
            return self.answer(Ok(()), snapshot);
        }
        let pre_roll = self.pre_roll(camera, event);
        {
            let mut legacy = self.link.shared.legacy();
            if let Some(first) = pre_roll.first() {
                // Should this generation be lost now, the next one begins with the same frame.
                legacy.last_seq = first.seq.saturating_sub(1);
            }
            legacy.activate(event.id);
        }
        match OpenClip::begin(&self.tools, &self.link, camera, event.id, &pre_roll) {
            Ok(clip) => {
                info!(camera = %camera.id(), event = %event.id, frames = pre_roll.len(), "recording began");
                self.clip = Some(clip);
                self.answer(Ok(()), snapshot)
            }
            Err(error) => {
                camera.ring().recording = false;
                self.link.shared.legacy().active.retain(|active| active.event != event.id);
                self.answer(Err(error), snapshot)
            }
        }
    }

    /// The frames before the event and those since, and from this moment on sessions hand frames over: both
    /// under the ring's lock, so that none is missing and none comes twice.
    fn pre_roll(&self, camera: &Arc<Camera>, event: &Event) -> Vec<Frame> {
        let mut state = camera.ring();
        state.recording = true;
        let began =
            state.ring.iter().find(|f| f.seq == event.started_seq).or(state.ring.newest()).map(|f| f.mono);
        let Some(began) = began else { return Vec::new() };
        let span = self.tools.clip.pre_roll;
        state.ring.iter().filter(|f| began.since(f.mono) <= span).cloned().collect()
    }

    /// The picture that started the event, unchanged. An event without one is still an event.
    fn snapshot(&mut self, camera: &Arc<Camera>, event: &Event) -> Option<SnapshotFile> {
        let frame = {
            let state = camera.ring();
            state.ring.iter().find(|f| f.seq == event.started_seq).or(state.ring.newest()).cloned()
        }?;
        let stem = format!("{}_{}", event.started.compact(), event.id);
        let ending = frame.format.extension();
        match self.snapshots.store(camera.id(), event.started, &stem, ending, &frame.bytes) {
            Ok(file) => Some(SnapshotFile { path: file.relative, taken: frame.wall, bytes: file.bytes }),
            Err(StoreError::Exists { path }) => {
                // The order was given twice: the recorder was lost between doing it and saying so.
                let relative = path.strip_prefix(&self.tools.places.data_dir).ok()?;
                let path = relative.to_string_lossy().into_owned();
                Some(SnapshotFile { path, taken: frame.wall, bytes: frame.len() as u64 })
            }
            Err(error) => {
                warn!(camera = %camera.id(), event = %event.id, %error, "no snapshot");
                None
            }
        }
    }

    /// Ends the clip when the last post-roll has passed.
    fn end_clip_when_due(&mut self, camera: &Arc<Camera>) -> Result<(), Failure> {
        if self.clip.is_none() {
            return Ok(());
        }
        let now = self.tools.clock.mono();
        {
            let mut legacy = self.link.shared.legacy();
            legacy.active.retain(|active| active.until.is_none_or(|until| until > now));
            if !legacy.active.is_empty() {
                return Ok(());
            }
        }
        camera.ring().recording = false;
        if let Some(clip) = self.clip.take() {
            clip.finish().map_err(Failure::error)?;
            info!(camera = %camera.id(), "recording ended");
        }
        Ok(())
    }
}

impl Component for Recorder {
    fn step(&mut self) -> Result<Step, Failure> {
        let Some(camera) = self.camera.upgrade() else {
            // The camera left the register and nobody holds it any more: whatever is open is complete.
            self.end_video().map_err(Failure::error)?;
            if let Some(clip) = self.clip.take() {
                clip.finish().map_err(Failure::error)?;
            }
            self.link.shared.closed.store(true, Ordering::Release);
            return Ok(Step::Done);
        };
        if let Some((number, order)) = self.link.shared.take() {
            fault::point(ActorKind::Recorder, Some(camera.id()))?;
            let next = self.expects_another(&order);
            let answer = self.carry_out(&camera, order)?;
            self.link.shared.answer(number, answer);
            if let Some(at) = next {
                // After the answer: while the camera sends, nobody waits for the disk.
                self.pictures.prepare(camera.id(), at);
            }
        }
        if self.link.shared.legacy().generation != self.generation {
            // It hung, was given up and came back: everything is its successor's by now.
            return Ok(Step::Done);
        }
        if self.link.shared.has_orders() {
            // Also frames of the clip: it is not ended before they are in it.
            return Ok(Step::Again);
        }
        self.end_clip_when_due(&camera)?;
        if self.clip.is_some() {
            return Ok(Step::Sleep(IDLE_LOOK));
        }
        if self.link.shared.is_closing() && self.video.is_none() {
            self.link.shared.closed.store(true, Ordering::Release);
            return Ok(Step::Done);
        }
        Ok(Step::Idle)
    }
}
