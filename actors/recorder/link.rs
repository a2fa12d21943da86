//! The way to a camera's recorder, which outlives its generations: the inbox, and what a new generation must
//! know of the one before.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use meerkat_base::{Event, EventId, Frame, MonoTime, WallTime};
use meerkat_store::evidence::{ChainLine, SpoolSigning};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::supervision::{ActorKind, Inbox, Offer, Station};

/// An order's answer is waited for so long without sleeping.
const SHORT_WAIT: Duration = Duration::from_micros(100);
/// Orders that may wait. A camera has one connection and that one waits for each answer.
const CAPACITY: usize = 64;

/// Events that are remembered because the disk did not take everything of them.
const MISSED: usize = 256;

/// What a recorder is asked to do.
#[derive(Debug)]
pub enum Order {
    /// Store a picture of mode 1.
    Picture {
        /// The picture.
        frame: Frame,
    },
    /// Append to the video of mode 2; begins one if none runs.
    VideoFrame {
        /// The picture.
        frame: Frame,
    },
    /// The video is over.
    EndVideo,
    /// A picture of modes 3 to 5: append to the clip and to the segment, as far as these are being recorded.
    ClipFrame {
        /// The picture.
        frame: Frame,
    },
    /// Record this event: pre-roll first, then what comes.
    BeginClip {
        /// The event.
        event: Box<Event>,
    },
    /// End everything that is open, now.
    Finish,
    /// The event is over; the recording goes on for the post-roll.
    EndClip {
        /// The event.
        event: EventId,
        /// When it was last seen.
        at: MonoTime,
    },
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// It is done; what was to be stored survives the death of the node.
    Done,
    /// It cannot be done.
    Refused(String),
    /// The recorder failed while it was at it. The order may be given again.
    Lost,
}

/// Why an event is not being recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotBegun {
    /// The recorder cannot.
    #[error("{0}")]
    Refused(String),
    /// The recorder did not answer in time; it may be on its way back.
    #[error("the recorder did not answer in time")]
    Late,
}

/// A snapshot that was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Path relative to the data folder.
    pub path: String,
    /// When its frame arrived.
    pub taken: WallTime,
    /// Size in bytes.
    pub bytes: u64,
}

/// The answer to an order, with the snapshot that beginning a clip makes.
#[derive(Debug)]
pub(super) struct Reply {
    pub stored: Stored,
    pub snapshot: Option<SnapshotFile>,
}

struct Envelope {
    order: Order,
    reply: oneshot::Sender<Reply>,
}

/// An event that is being recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Active {
    pub event: EventId,
    /// Set when it is over: recording goes on until then.
    pub until: Option<MonoTime>,
}

/// What is recorded of a camera, each in spools of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Clip,
    Video,
    Segment,
}

/// When a recording is over; none while that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OpenEnd(pub Option<MonoTime>);

impl OpenEnd {
    /// Whether a frame of this moment belongs to the recording.
    pub fn takes(self, at: MonoTime) -> bool {
        self.0.is_none_or(|until| at <= until)
    }
}

/// What a new generation of the recorder must know.
#[derive(Default)]
pub(super) struct Legacy {
    /// Events being recorded.
    pub active: Vec<Active>,
    /// Spools that are open.
    pub open: Vec<PathBuf>,
    /// Number of the last frame in the clip's spool.
    pub last_seq: u64,
    /// The same for the video and the segment.
    last_video: u64,
    last_segment: u64,
    /// The chains of signed spools, made when they are needed.
    lines: [Option<ChainLine>; 3],
    /// Events of which the disk did not take everything.
    missed: BTreeSet<EventId>,
    /// Number of the generation at work. One that was given up finds another number here when it comes back.
    pub generation: u64,
}

impl Legacy {
    /// Number of the last frame in the spools of a stream.
    pub fn last(&mut self, stream: Stream) -> &mut u64 {
        match stream {
            Stream::Clip => &mut self.last_seq,
            Stream::Video => &mut self.last_video,
            Stream::Segment => &mut self.last_segment,
        }
    }

    /// The chain of a stream, if spools are signed.
    pub fn line(&mut self, stream: Stream, signing: Option<&SpoolSigning>) -> Option<ChainLine> {
        let signing = signing?;
        Some(self.lines[stream as usize].get_or_insert_with(|| signing.new_line()).clone())
    }

    /// Until when the clip goes on: none while nothing is recorded; an open end while an event goes on.
    pub fn until(&self) -> Option<OpenEnd> {
        let last = self.active.iter().map(|active| active.until).reduce(|a, b| Some(a?.max(b?)))?;
        Some(OpenEnd(last))
    }

    /// The disk did not take something of the events that are being recorded.
    pub fn miss(&mut self) {
        while self.missed.len() > MISSED {
            self.missed.pop_first();
        }
        self.missed.extend(self.active.iter().map(|active| active.event));
    }

    /// This event is being recorded from now on.
    pub fn activate(&mut self, event: EventId) {
        if !self.active.iter().any(|active| active.event == event) {
            self.active.push(Active { event, until: None });
        }
    }
}

pub(super) struct Shared {
    inbox: Inbox<Envelope>,
    /// Who waits for the order in hand, by its number: the thread at it may hang and never say anything again.
    in_hand: Mutex<Option<(u64, oneshot::Sender<Reply>)>>,
    numbers: AtomicU64,
    pub legacy: Mutex<Legacy>,
    closing: AtomicBool,
    /// The station is closed for good: nobody takes orders any more.
    pub closed: AtomicBool,
    pub refused: AtomicU64,
    station: OnceLock<Station>,
    short_wait: Duration,
}

impl Shared {
    pub fn legacy(&self) -> MutexGuard<'_, Legacy> {
        self.legacy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    fn in_hand(&self) -> MutexGuard<'_, Option<(u64, oneshot::Sender<Reply>)>> {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next order and its number.
    pub fn take(&self) -> Option<(u64, Order)> {
        let Envelope { order, reply } = self.inbox.take()?;
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        *self.in_hand() = Some((number, reply));
        Some((number, order))
    }

    /// Answers the order with this number, unless it counts as lost by now.
    pub fn answer(&self, number: u64, answer: Reply) {
        let waiting = self.in_hand().take_if(|(own, _)| *own == number);
        if let Some((_, reply)) = waiting {
            // A frame answered is a frame stored; whether anybody still waits for it does not matter.
            let _ = reply.send(answer);
        }
    }

    /// Whoever waits for the order in hand learns that it was lost.
    pub fn lose_what_was_in_hand(&self) {
        self.in_hand().take();
    }

    pub fn has_orders(&self) -> bool {
        !self.inbox.is_empty()
    }
}

/// The way to one camera's recorder. Clones lead to the same one.
#[derive(Clone)]
pub struct RecorderLink {
    pub(super) shared: Arc<Shared>,
}

impl Default for RecorderLink {
    fn default() -> Self {
        let shared = Shared {
            inbox: Inbox::new(ActorKind::Recorder, CAPACITY),
            in_hand: Mutex::default(),
            numbers: AtomicU64::new(0),
            legacy: Mutex::default(),
            closing: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            station: OnceLock::new(),
            // On a single core the waiting would keep the recorder from its work.
            short_wait: std::thread::available_parallelism()
                .map_or(Duration::ZERO, |cores| if cores.get() > 1 { SHORT_WAIT } else { Duration::ZERO }),
        };
        Self { shared: Arc::new(shared) }
    }
}

impl RecorderLink {
    /// Says who takes the orders. Once.
    pub fn set_station(&self, station: Station) {
        let _ = self.shared.station.set(station);
    }

    fn send(&self, order: Order) -> Option<oneshot::Receiver<Reply>> {
        if self.shared.closed.load(Ordering::Acquire) {
            return None;
        }
        let (reply, receiver) = oneshot::channel();
        match self.shared.inbox.offer(Envelope { order, reply }) {
            Offer::Taken => {}
            Offer::Full | Offer::Down => return None,
        }
        self.wake();
        Some(receiver)
    }

    pub(super) fn wake(&self) {
        if let Some(station) = self.shared.station.get() {
            station.wake();
        }
    }

    /// Gives an order and waits until it is carried out.
    pub async fn order(&self, order: Order, limit: Duration) -> Stored {
        let Some(mut receiver) = self.send(order) else {
            return Stored::Refused("the recorder takes no orders now".to_owned());
        };
        // As a rule it is done within this time, which is less than going to sleep and being woken takes.
        let began = Instant::now();
        while began.elapsed() < self.shared.short_wait {
            match receiver.try_recv() {
                Ok(reply) => return reply.stored,
                // Must be the end of it: a receiver that has said so must not be awaited any more.
                Err(oneshot::error::TryRecvError::Closed) => return Stored::Lost,
                Err(oneshot::error::TryRecvError::Empty) => {}
            }
            // The recorder may be waiting for this very processor.
            std::thread::yield_now();
        }
        match timeout(limit, receiver).await {
            Ok(Ok(reply)) => reply.stored,
            Ok(Err(_)) => Stored::Lost,
            Err(_) => Stored::Refused("the recorder did not answer in time".to_owned()),
        }
    }

    /// Begins to record an event; returns when the pre-roll is on disk, with the snapshot.
    pub async fn begin_clip(&self, event: &Event, limit: Duration) -> Result<Option<SnapshotFile>, NotBegun> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let Some(receiver) = self.send(Order::BeginClip { event: Box::new(event.clone()) }) else {
                return Err(NotBegun::Refused("the recorder takes no orders now".to_owned()));
            };
            match timeout(left, receiver).await {
                Ok(Ok(Reply { stored: Stored::Done, snapshot })) => return Ok(snapshot),
                Ok(Ok(Reply { stored: Stored::Refused(reason), .. })) => {
                    return Err(NotBegun::Refused(reason));
                }
                // The recorder was lost over it: the next generation can be asked again.
                Ok(Ok(Reply { stored: Stored::Lost, .. }) | Err(_)) if !left.is_zero() => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Ok(_) | Err(_) => return Err(NotBegun::Late),
            }
        }
    }

    /// Says that an event is over, again until the recorder has heard it: else it would record for ever.
    pub async fn end_clip(&self, event: EventId, at: MonoTime, limit: Duration) -> bool {
        let deadline = tokio::time::Instant::now() + limit;
        while !self.shared.closed.load(Ordering::Acquire) {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if self.order(Order::EndClip { event, at }, left).await == Stored::Done {
                return true;
            }
            if left.is_zero() {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Nobody records any more.
        true
    }

    /// Ends everything that is open, from a thread that may block: the node goes down.
    pub fn finish_at_shutdown(&self, limit: Duration) {
        let finish = self.send(Order::Finish);
        let give_up = Instant::now() + limit;
        if let Some(mut answered) = finish {
            while matches!(answered.try_recv(), Err(oneshot::error::TryRecvError::Empty))
                && Instant::now() < give_up
            {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }

    /// The camera's connection is over, and with it its video.
    pub fn connection_ended(&self) {
        if let Some(receiver) = self.send(Order::EndVideo) {
            drop(receiver);
        }
    }

    /// Closes the station.
    pub fn close(&self) {
        if let Some(station) = self.shared.station.get() {
            station.close();
        }
    }

    /// The camera is gone from the register: the station closes as soon as nothing is open any more.
    pub fn close_when_done(&self) {
        self.shared.closing.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether an event is being recorded.
    pub fn records_an_event(&self) -> bool {
        !self.shared.legacy().active.is_empty()
    }

    /// Whether something is being recorded.
    pub fn is_busy(&self) -> bool {
        !self.shared.inbox.is_empty() || !self.shared.legacy().open.is_empty()
    }

    /// Whether the disk did not take everything of an event's recording; forgets it.
    pub fn missed(&self, event: EventId) -> bool {
        self.shared.legacy().missed.remove(&event)
    }

    /// Times something was refused, for status.
    pub fn refusals(&self) -> u64 {
        self.shared.refused.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_whose_recorder_is_lost_within_the_short_wait_is_lost() {
        let mut link = RecorderLink::default();
        let patience = Duration::from_secs(60);
        // So long that the order cannot get beyond it before it is lost.
        Arc::get_mut(&mut link.shared).expect("one link").short_wait = patience;
        let recorder = link.clone();
        let losing = std::thread::spawn(move || {
            while recorder.shared.take().is_none() {
                std::thread::yield_now();
            }
            recorder.shared.lose_what_was_in_hand();
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let began = Instant::now();
        assert_eq!(runtime.block_on(link.order(Order::EndVideo, patience)), Stored::Lost);
        assert!(began.elapsed() < patience, "found out by the loss, not by waiting");
        losing.join().unwrap();
    }
}
