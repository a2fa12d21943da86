//! The recorder of one camera: carries out orders one after the other. It never waits for a detector, an encoder or
//! the database, so that recording goes on whatever else fails.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use meerkat_base::{Clock, Event, Frame, MonoTime, WallTime};
use meerkat_settings::{ClipSettings, SpoolSettings};
use meerkat_store::StoreError;
use meerkat_store::evidence::SpoolSigning;
use meerkat_store::spool::MAX_FRAME_BYTES;
use tracing::{info, warn};

use super::clip::{begin_clip, begin_segment, begin_video};
use super::encoder::Encoders;
use super::link::{OpenEnd, Order, RecorderLink, Reply, SnapshotFile, Stored, Stream};
use super::missing::{append, frames_since};
use super::open::OpenSpool;
use super::stills::Stills;
use crate::camera::Camera;
use crate::storage::Room;
use crate::supervision::{ActorKind, Component, Failure, Step, fault};

/// How often an open clip is looked at when no frame comes.
const IDLE_LOOK: Duration = Duration::from_millis(200);
/// A frame that was received before the end may come so much later from its session.
const GRACE: Duration = Duration::from_millis(50);
/// Pictures that follow each other faster than this come as fast as they are answered.
const IN_QUICK_SUCCESSION: Duration = Duration::from_millis(5);

/// What every recorder is built from.
pub struct RecorderTools {
    /// Places and names of what is stored.
    pub places: super::encoder::Places,
    /// Clip settings in force.
    pub clip: ClipSettings,
    /// Limits of spools.
    pub spool: SpoolSettings,
    /// Length of a segment.
    pub segment: Duration,
    /// How spools are signed, if they are.
    pub signing: Option<SpoolSigning>,
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
    stills: Stills,
    pub(super) clip: Option<OpenSpool>,
    video: Option<OpenSpool>,
    pub(super) segment: Option<OpenSpool>,
    generation: u64,
    last_picture: Option<MonoTime>,
    /// What is known of the event that began the running clip.
    note: serde_json::Value,
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
        let mut recorder = Self {
            camera,
            link,
            tools,
            stills: Stills::default(),
            clip: None,
            video: None,
            segment: None,
            generation,
            last_picture: None,
            note: serde_json::Value::Null,
        };
        if let Some(camera) = recorder.camera.upgrade() {
            let resumed = recorder.resume(&camera);
            // Else with the next frame.
            recorder.settle(resumed)?;
        }
        Ok(recorder)
    }

    /// Begins the spool of a clip that is to be recorded and has none: after a loss of the recorder, or of the disk.
    /// Nothing is missing as far as the ring reaches back.
    fn resume(&mut self, camera: &Arc<Camera>) -> Result<(), StoreError> {
        let (event, last_seq, end) = {
            let legacy = self.link.shared.legacy();
            let (Some(active), Some(end)) = (legacy.active.first(), legacy.until()) else { return Ok(()) };
            (active.event, legacy.last_seq, end)
        };
        camera.ring().recording = true;
        let frames = frames_since(camera, last_seq, end);
        self.clip = Some(begin_clip(&self.tools, &self.link, camera, event, self.note.clone(), &frames)?);
        Ok(())
    }

    fn carry_out(&mut self, camera: &Arc<Camera>, order: Order) -> Result<Reply, Failure> {
        let outcome = match order {
            Order::Picture { frame } => self.picture(&frame),
            Order::VideoFrame { frame } => self.video_frame(camera, &frame),
            Order::EndVideo => self.end_video(),
            Order::ClipFrame { frame } => {
                let clip = self.clip_frame(camera, &frame);
                if clip.is_err() {
                    self.link.shared.legacy().miss();
                }
                let segment = self.segment_frame(camera, &frame);
                clip.and(segment)
            }
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
                if error.is_of_the_disk() {
                    self.tools.room.failed(&error);
                }
                Ok(Reply { stored: Stored::Refused(error.to_string()), snapshot })
            }
        }
    }

    /// Whether so many bytes may be written. What was opened on a disk that is back on another mount is let go.
    fn check_room(&mut self, bytes: usize) -> Result<(), StoreError> {
        let mount = self.tools.room.check(bytes as u64).map_err(|refusal| {
            self.tools.room.count(&refusal);
            StoreError::Refused(refusal.words().to_owned())
        })?;
        if self.stills.on_mount(mount) {
            self.leave_mount();
        }
        Ok(())
    }

    /// The disk was away and is back: what was open on it is ended as it is, and what is recorded goes on in new spools
    /// with the next frame. Clips lose nothing as far as the ring reaches back.
    fn leave_mount(&mut self) {
        let open = [self.clip.take(), self.video.take(), self.segment.take()];
        for spool in open.into_iter().flatten() {
            let path = spool.path().to_owned();
            match spool.finish() {
                Ok(()) => {
                    info!(spool = %path.display(), "the disk is back: a recording goes on in another spool")
                }
                Err(error) => {
                    warn!(spool = %path.display(), %error, "a recording was not ended as it should be")
                }
            }
        }
    }

    /// What ended badly for the disk's sake is counted and said; the recorder goes on.
    fn settle(&self, outcome: Result<(), StoreError>) -> Result<(), Failure> {
        match outcome {
            Ok(()) => Ok(()),
            Err(error @ (StoreError::Refused(_) | StoreError::Poisoned { .. })) => {
                warn!(%error, "a recording was not begun or ended as it should be");
                Ok(())
            }
            Err(error) if error.is_of_the_disk() => {
                warn!(%error, "a recording was not begun or ended as it should be");
                self.tools.room.failed(&error);
                Ok(())
            }
            Err(error) => Err(Failure::error(error)),
        }
    }

    fn picture(&mut self, frame: &Frame) -> Result<(), StoreError> {
        self.check_room(frame.len())?;
        self.stills.picture(&self.tools.places, frame)
    }

    /// The moment of a picture that another is expected to follow at once; else makes sure that no file waits.
    fn expects_another(&mut self, order: &Order) -> Option<WallTime> {
        let Order::Picture { frame } = order else {
            self.stills.rest();
            return None;
        };
        let last = self.last_picture.replace(frame.mono)?;
        (frame.mono.since(last) < IN_QUICK_SUCCESSION).then_some(frame.wall)
    }

    fn video_frame(&mut self, camera: &Arc<Camera>, frame: &Frame) -> Result<(), StoreError> {
        self.check_room(frame.len())?;
        if self.video.as_ref().is_some_and(|video| video.is_large(self.tools.spool.max_bytes)) {
            self.end_video()?;
        }
        match &mut self.video {
            Some(video) => match video.append(frame) {
                // A disk that failed under it: what is in it is finished, and a new one begins.
                Err(StoreError::Poisoned { .. }) => {
                    let ended = self.end_video();
                    if let Err(error) = ended {
                        warn!(camera = %camera.id(), %error, "a video was not ended as it should be");
                    }
                    self.video = Some(begin_video(&self.tools, &self.link, camera, frame)?);
                    Ok(())
                }
                appended => appended,
            },
            // An order given twice: the generation before had carried it out.
            None if frame.seq <= *self.link.shared.legacy().last(Stream::Video) => Ok(()),
            None => {
                self.video = Some(begin_video(&self.tools, &self.link, camera, frame)?);
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
        self.end_segment()?;
        self.clip.take().map_or(Ok(()), OpenSpool::finish)
    }

    fn clip_frame(&mut self, camera: &Arc<Camera>, frame: &Frame) -> Result<(), StoreError> {
        let Some(end) = self.link.shared.legacy().until() else { return Ok(()) };
        if !end.takes(frame.mono) {
            return self.end_clip(camera, end);
        }
        self.check_room(frame.len())?;
        if self.clip.is_none() {
            self.resume(camera)?;
            info!(camera = %camera.id(), "recording goes on");
        }
        let Some(clip) = &mut self.clip else { return Ok(()) };
        if let Err(error) = append(camera, clip, frame) {
            if !matches!(error, StoreError::Poisoned { .. }) {
                return Err(error);
            }
            // A disk that failed under it: what is in it is finished, and the next part begins with what the ring has.
            if let Some(Err(error)) = self.clip.take().map(OpenSpool::finish) {
                warn!(camera = %camera.id(), %error, "a clip was not ended as it should be");
            }
            return self.resume(camera);
        }
        if clip.span(frame.mono) >= self.tools.clip.max || clip.is_large(self.tools.spool.max_bytes) {
            self.next_part(camera)?;
        }
        Ok(())
    }

    /// A clip that reaches its longest goes on in the next part with the very next frame.
    fn next_part(&mut self, camera: &Arc<Camera>) -> Result<(), StoreError> {
        let Some(full) = self.clip.take() else { return Ok(()) };
        full.finish()?;
        // The next frame begins it, and is the first in it.
        let Some(event) = self.link.shared.legacy().active.first().map(|active| active.event) else {
            return Ok(());
        };
        self.clip = Some(begin_clip(&self.tools, &self.link, camera, event, self.note.clone(), &[])?);
        Ok(())
    }

    /// Frames of a camera that is recorded without a break.
    fn segment_frame(&mut self, camera: &Arc<Camera>, frame: &Frame) -> Result<(), StoreError> {
        if !camera.settings().continuous {
            return self.end_segment();
        }
        let is_full = |segment: &OpenSpool| {
            segment.span(frame.mono) >= self.tools.segment || segment.is_large(self.tools.spool.max_bytes)
        };
        if self.segment.as_ref().is_some_and(is_full)
            && let Err(error) = self.end_segment()
        {
            // What is in it is kept, and the next one does not depend on it.
            warn!(camera = %camera.id(), %error, "a segment was not ended as it should be");
        }
        self.check_room(frame.len())?;
        if let Some(segment) = &mut self.segment {
            match append(camera, segment, frame) {
                Err(StoreError::Poisoned { .. }) => {
                    let ended = self.end_segment();
                    if let Err(error) = ended {
                        warn!(camera = %camera.id(), %error, "a segment was not ended as it should be");
                    }
                }
                appended => return appended,
            }
        }
        let last_seq = *self.link.shared.legacy().last(Stream::Segment);
        if frame.seq <= last_seq {
            // An order given twice: the generation before had carried it out.
            return Ok(());
        }
        let mut frames = frames_since(camera, last_seq, OpenEnd(Some(frame.mono)));
        frames.retain(|earlier| earlier.seq < frame.seq);
        frames.push(frame.clone());
        self.segment = Some(begin_segment(&self.tools, &self.link, camera, &frames)?);
        Ok(())
    }

    fn end_segment(&mut self) -> Result<(), StoreError> {
        self.segment.take().map_or(Ok(()), OpenSpool::finish)
    }

    /// A segment whose time has passed is ended, also when no further frame comes.
    fn end_segment_when_due(&mut self) -> Result<(), Failure> {
        let now = self.tools.clock.mono();
        if self.segment.as_ref().is_some_and(|segment| segment.span(now) >= self.tools.segment + GRACE) {
            let ended = self.end_segment();
            self.settle(ended)?;
        }
        Ok(())
    }

    fn begin_clip(&mut self, camera: &Arc<Camera>, event: &Event) -> Result<Reply, Failure> {
        let mut refused = self.check_room(0);
        let goes_on = !self.link.shared.legacy().active.is_empty();
        if refused.is_ok() && self.clip.is_none() && goes_on {
            // Another event is being recorded and has lost its spool: first what is missing of that one.
            refused = self.resume(camera);
        }
        let snapshot =
            if refused.is_ok() { self.stills.of_event(&self.tools.places, camera, event) } else { None };
        if self.clip.is_some() {
            let mut legacy = self.link.shared.legacy();
            legacy.activate(event.id);
            if refused.is_err() {
                legacy.miss();
            }
            drop(legacy);
            return self.answer(refused, snapshot);
        }
        let pre_roll = self.pre_roll(camera, event);
        {
            let mut legacy = self.link.shared.legacy();
            if let Some(first) = pre_roll.first().filter(|_| !goes_on) {
                // Should this generation be lost now, the next one begins with the same frame.
                legacy.last_seq = first.seq.saturating_sub(1);
            }
            legacy.activate(event.id);
        }
        self.note = meerkat_store::sidecar::note(event);
        // It stays to be recorded: the first frame for which there is room begins it, with what the ring has by then.
        if refused.is_err() {
            self.link.shared.legacy().miss();
            return self.answer(refused, snapshot);
        }
        match begin_clip(&self.tools, &self.link, camera, event.id, self.note.clone(), &pre_roll) {
            Ok(clip) => {
                info!(camera = %camera.id(), event = %event.id, frames = pre_roll.len(), "recording began");
                self.clip = Some(clip);
                self.answer(Ok(()), snapshot)
            }
            Err(error) => {
                self.link.shared.legacy().miss();
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
        let belongs = |f: &&Frame| began.since(f.mono) <= span && f.len() <= MAX_FRAME_BYTES;
        state.ring.iter().filter(belongs).cloned().collect()
    }

    /// Ends the clip when the last post-roll has passed.
    fn end_clip_when_due(&mut self, camera: &Arc<Camera>) -> Result<(), Failure> {
        let Some(end) = self.link.shared.legacy().until() else { return Ok(()) };
        let now = self.tools.clock.mono();
        // A frame that belongs to it may be in the session's hands still: it is being covered.
        if end.0.is_none_or(|until| now < until.after(GRACE) || camera.expects_frame_of(until)) {
            return Ok(());
        }
        let ended = self.end_clip(camera, end);
        self.settle(ended)
    }

    /// Ends the clip with the last frame that belongs to it.
    fn end_clip(&mut self, camera: &Arc<Camera>, end: OpenEnd) -> Result<(), StoreError> {
        let last_seq = self.clip.as_ref().map_or(0, OpenSpool::last_seq);
        camera.ring().recording = false;
        // Frames whose orders are still on their way: they find no clip any more.
        let rest = frames_since(camera, last_seq, end);
        self.link.shared.legacy().active.clear();
        let Some(mut clip) = self.clip.take() else { return Ok(()) };
        let appended = clip.append_all(&rest);
        if appended.is_err() {
            self.link.shared.legacy().miss();
        }
        clip.finish()?;
        info!(camera = %camera.id(), "recording ended");
        appended
    }
}

impl Component for Recorder {
    fn step(&mut self) -> Result<Step, Failure> {
        let Some(camera) = self.camera.upgrade() else {
            // The camera left the register and nobody holds it any more: whatever is open is complete.
            let video = self.end_video();
            self.settle(video)?;
            let segment = self.end_segment();
            self.settle(segment)?;
            if let Some(clip) = self.clip.take() {
                self.settle(clip.finish())?;
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
                self.stills.prepare(camera.id(), at);
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
        self.end_segment_when_due()?;
        if self.clip.is_some() || self.segment.is_some() {
            return Ok(Step::Sleep(IDLE_LOOK));
        }
        if self.link.shared.is_closing() && self.video.is_none() {
            self.link.shared.closed.store(true, Ordering::Release);
            return Ok(Step::Done);
        }
        Ok(Step::Idle)
    }
}
