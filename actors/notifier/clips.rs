//! Delivers the clips that follow the messages of one channel: as they are, made smaller, or as a link. A lane of its
//! own, so that no message waits for a clip; clips wait for messages instead.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meerkat_base::{MonoTime, metric};
use meerkat_notify::{ClipPart, NextTry};
use meerkat_store::confine::open_below;
use meerkat_store::database::DATABASE;
use meerkat_store::{ClipRow, Order, OutboxRow, Queue};
use metrics::counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::INTERVAL;
use super::breaker::{Leave, Turn};
use super::compose::message;
use super::lane::Step;
use super::links::Links;
use super::post::{BOOKING_WAIT, Booking, Post, age, given_up};
use super::shrinker::{NotSmaller, Shrinker};
use crate::supervision::{ActorKind, Failure, fault};

/// Clips are counted in memory by this many bytes.
const UNIT_BYTES: u64 = 1 << 10;
/// How long a clip that cannot be read is put off at least.
const UNREADABLE_WAIT: Duration = Duration::from_secs(60);
/// How long what a service said of the size of a file is gone by: its owner may allow more, or a new day begin.
const TOO_LARGE_FOR: Duration = Duration::from_secs(3_600);
/// A service that takes no file of twice as many bytes is taken to mean any: for less than that no clip is made smaller.
const LEAST_BYTES: u64 = 1 << 20;

/// What the lanes of all channels share for their clips.
#[derive(Clone)]
pub struct ClipTools {
    /// Makes clips smaller.
    pub shrinker: Shrinker,
    /// Makes links, where the node has a public address.
    pub links: Option<Links>,
    /// Largest clip that is read into memory, and bytes of all that are there at the same time.
    pub max_bytes: u64,
    memory: Arc<Semaphore>,
}

impl ClipTools {
    /// Nothing is in memory yet.
    pub fn new(shrinker: Shrinker, links: Option<Links>, max_bytes: u64) -> Self {
        let units = usize::try_from(max_bytes.div_ceil(UNIT_BYTES)).unwrap_or(Semaphore::MAX_PERMITS);
        Self { shrinker, links, max_bytes, memory: Arc::new(Semaphore::new(units)) }
    }

    async fn room(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).ok()?;
        Arc::clone(&self.memory).acquire_many_owned(units).await.ok()
    }
}

/// A clip as a channel is given it, and the room it takes in memory.
struct Prepared {
    clip: ClipPart,
    form: &'static str,
    _room: Option<OwnedSemaphorePermit>,
}

/// What a service said of the size of a file that is within the channel's own limit.
#[derive(Clone)]
struct TooLarge {
    bytes: u64,
    reason: String,
    at: MonoTime,
}

/// Delivers the clips of one channel.
pub(super) struct ClipLane {
    post: Arc<Post>,
    /// The last file that the service took to be too large.
    too_large: RefCell<Option<TooLarge>>,
}

impl ClipLane {
    pub fn new(post: Arc<Post>) -> Self {
        Self { post, too_large: RefCell::new(None) }
    }

    /// Works until something breaks.
    pub async fn run(self) -> Failure {
        loop {
            let rung = self.post.tools.link.rung();
            match self.turn().await {
                Ok(Step::Again) => {}
                Ok(Step::Wait(wait)) => {
                    let _ = timeout(wait.min(INTERVAL), rung).await;
                }
                Err(failure) => return failure,
            }
        }
    }

    /// One clip, or the reason why none is sent now.
    pub async fn turn(&self) -> Result<Step, Failure> {
        let post = &self.post;
        let (true, Some(now)) = (post.is_settled().await, post.now().await) else {
            return Ok(Step::Wait(BOOKING_WAIT));
        };
        // A channel that failed is tried with messages: a clip is dear.
        if post.is_busy() || !matches!(post.leave(), Leave::Go | Leave::Probe) {
            return Ok(Step::Wait(INTERVAL));
        }
        let Some((row, clip)) = self.next().await else { return Ok(Step::Wait(INTERVAL)) };
        fault::point(ActorKind::Notifier, Some(&row.camera))?;
        let Some(clip) = clip else {
            self.settle(&row, Booking::Dead("its clip is not in the database any more".to_owned())).await;
            return Ok(Step::Again);
        };
        let held_back = post.held_back();
        if !held_back.is_zero() {
            return Ok(Step::Wait(held_back));
        }
        let waited = age(row.queued, now);
        let prepared = match self.prepare(&row, &clip, waited).await {
            Ok(prepared) => prepared,
            Err(booking) => {
                self.settle(&row, booking).await;
                return Ok(Step::Again);
            }
        };
        // Meanwhile much may have changed.
        let held_back = post.held_back();
        if post.is_busy() || !held_back.is_zero() {
            return Ok(Step::Wait(held_back.max(Duration::from_millis(100))));
        }
        let alert = message(post, &row).await;
        let facts = (row.sent, row.attempts, waited);
        let delivery = post.channel.deliver_clip(&alert, &prepared.clip);
        let Some(attempted) = post.attempt_clip(delivery, &prepared.clip, facts).await else {
            return Ok(Step::Wait(INTERVAL));
        };
        let booking = match (attempted.too_large, &prepared.clip.file) {
            (Some(reason), Some(file)) => self.in_another_form(&row, waited, file.len() as u64, reason),
            _ => attempted.booking,
        };
        if matches!(booking, Booking::Delivered(_)) {
            counter!(metric::CLIP_PARTS, "channel" => post.name(), "form" => prepared.form).increment(1);
        }
        self.settle(&row, booking).await;
        if attempted.turn == Some(Turn::Well) {
            let (name, now) = (post.name(), post.tools.clock.wall());
            post.book(move |store| store.release(&name, now)).await;
        }
        Ok(Step::Again)
    }

    /// The clip that has waited longest and may be tried, with its own row.
    async fn next(&self) -> Option<(OutboxRow, Option<ClipRow>)> {
        let (name, now) = (self.post.name(), self.post.tools.clock.wall());
        let found = self
            .post
            .tools
            .archivist
            .ask(move |store| {
                let heads = store.heads(&name, Queue::Clips, Order::OldestFirst, now, 1)?;
                let Some(head) = heads.first() else { return Ok(None) };
                let Some(row) = store.outbox_at(head.number)? else { return Ok(None) };
                let clip = store.clip_at(row.clip.as_deref().unwrap_or_default())?;
                Ok(Some((row, clip)))
            })
            .await;
        found.unwrap_or_else(|problem| {
            debug!(channel = self.post.channel.name(), %problem, "the outbox cannot be read");
            None
        })
    }

    /// The clip in the form that the channel takes; else how its row is to be booked.
    async fn prepare(&self, row: &OutboxRow, clip: &ClipRow, waited: Duration) -> Result<Prepared, Booking> {
        let tools = &self.post.tools.clips;
        let path = self.post.tools.data_dir.join(&clip.path);
        let limit = self.post.channel.clip_limit().map(|limit| limit.min(tools.max_bytes));
        let part = ClipPart {
            part: row.part,
            name: name(row, clip),
            file: None,
            link: None,
            duration: clip.duration,
        };
        let bytes = match size(path.clone()).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // Where the database is not either, it is the disk that is gone, and it may come back.
                let disk_is_there = is_there(self.post.tools.data_dir.join(DATABASE)).await;
                let dead = Booking::Dead("the clip is not there any more".to_owned());
                return Err(if disk_is_there { dead } else { self.unreadable(row, waited, &error) });
            }
            Err(error) => return Err(self.unreadable(row, waited, &error)),
        };
        let mut too_large = None;
        if let Some(limit) = limit {
            let refused = self.refused(row, waited);
            let most = refused.as_ref().map_or(limit, |refused| limit.min(refused.bytes / 2));
            let (path, form, bytes) = if bytes <= most {
                (Some(path), "file", bytes)
            } else if let Some(refused) = refused.filter(|_| most < LEAST_BYTES) {
                too_large =
                    Some(format!("the service took no file of {} bytes: {}", refused.bytes, refused.reason));
                (None, "none", 0)
            } else {
                match tools.shrinker.shrink(&path, clip.duration, most, waited).await {
                    Ok((smaller, bytes)) => (Some(smaller), "smaller", bytes),
                    Err(NotSmaller::Later { wait, reason }) => {
                        return Err(self.put_off(row, waited, wait, reason));
                    }
                    Err(NotSmaller::Never { reason }) => {
                        info!(
                            channel = self.post.channel.name(),
                            clip = clip.path,
                            reason,
                            "a clip stays large"
                        );
                        too_large = Some(reason);
                        (None, "none", 0)
                    }
                }
            };
            if let Some(path) = path {
                let room = tools.room(bytes).await;
                let file = read(path, most).await.map_err(|error| self.unreadable(row, waited, &error))?;
                return Ok(Prepared { clip: ClipPart { file: Some(file), ..part }, form, _room: room });
            }
        }
        let now = self.post.tools.clock.wall();
        match tools.links.as_ref().and_then(|links| links.address(&clip.path, now)) {
            Some(link) => {
                Ok(Prepared { clip: ClipPart { link: Some(link), ..part }, form: "link", _room: None })
            }
            None => {
                counter!(metric::CLIP_PARTS, "channel" => self.post.name(), "form" => "none").increment(1);
                let why = too_large.unwrap_or_else(|| "the channel takes no files".to_owned());
                Err(Booking::Dead(format!("{why}, and without http.public_url there are no links")))
            }
        }
    }

    /// What the service said of the size of a file, while that is gone by. Who was put back by hand since then has a try.
    fn refused(&self, row: &OutboxRow, waited: Duration) -> Option<TooLarge> {
        let refused = self.too_large.borrow().clone()?;
        let ago = self.post.tools.clock.mono().since(refused.at);
        let is_known = row.queued > row.created && ago > waited;
        (ago < TOO_LARGE_FOR && !is_known).then_some(refused)
    }

    /// The service takes no file of so many bytes: this clip, and those that follow for a while, go in half as many, and in
    /// the end as links.
    fn in_another_form(&self, row: &OutboxRow, waited: Duration, bytes: u64, reason: String) -> Booking {
        let channel = self.post.channel.name();
        info!(channel, alert = %row.key, bytes, reason, "a clip is too large for its service");
        let at = self.post.tools.clock.mono();
        *self.too_large.borrow_mut() = Some(TooLarge { bytes, reason: reason.clone(), at });
        self.put_off(row, waited, Duration::ZERO, reason)
    }

    /// A disk that does not answer may do so later. It is asked less and less often, for it may be slow at that.
    fn unreadable(&self, row: &OutboxRow, waited: Duration, error: &std::io::Error) -> Booking {
        let attempt = u32::try_from(row.attempts).unwrap_or(u32::MAX).saturating_add(1);
        let wait = self.post.tools.policy.backoff(attempt, super::random()).max(UNREADABLE_WAIT);
        self.put_off(row, waited, wait, format!("the clip cannot be read: {error}"))
    }

    /// Later, but a clip waits no longer than anything else may.
    fn put_off(&self, row: &OutboxRow, waited: Duration, wait: Duration, reason: String) -> Booking {
        // The wait is given: attempts and dice have no say in it.
        match self.post.tools.policy.next(1, waited, Some(wait), 0.0) {
            NextTry::In(wait) => {
                Booking::Retry(super::later(self.post.tools.clock.wall(), wait), reason, row.sent)
            }
            NextTry::Dead => given_up(reason, row.sent),
        }
    }

    async fn settle(&self, row: &OutboxRow, booking: Booking) {
        let (id, part, now) = (row.id, row.part, self.post.tools.clock.wall());
        let channel = self.post.channel.name();
        match booking {
            Booking::Delivered(missing) => {
                info!(channel, alert = %row.key, part, missing, "clip delivered");
                self.post.book(move |store| store.delivered_without(id, now, missing.as_deref())).await;
            }
            Booking::Dead(reason) => {
                warn!(channel, alert = %row.key, part, reason, "clip given up");
                self.post.book(move |store| store.dead(id, now, &reason)).await;
            }
            Booking::Retry(next, reason, sent) => {
                debug!(channel, alert = %row.key, part, reason, "clip delayed");
                self.post.book(move |store| store.retry(id, next, &reason, sent)).await;
            }
        }
    }
}

/// `front_2026-11-21_053114.mp4`, from the second part on with its number.
fn name(row: &OutboxRow, clip: &ClipRow) -> String {
    let compact = clip.started.compact();
    let time = compact.get(9..15).unwrap_or_default();
    let part = if row.part > 1 { format!("_part{}", row.part) } else { String::new() };
    format!("{}_{}_{time}{part}.mp4", clip.camera.folder(), clip.started.date())
}

/// Opens a file that lies in its folder itself: no link.
fn open(path: &Path) -> std::io::Result<(std::fs::File, u64)> {
    let bad = std::io::ErrorKind::InvalidInput;
    let (folder, name) = (path.parent().ok_or(bad)?, path.file_name().ok_or(bad)?);
    open_below(folder, Path::new(name))
}

/// Whether there is something at a path. Opens nothing: that would take the database's locks from it.
async fn is_there(path: PathBuf) -> bool {
    actix_rt::task::spawn_blocking(move || std::fs::symlink_metadata(path).is_ok()).await.unwrap_or(false)
}

async fn size(path: PathBuf) -> std::io::Result<u64> {
    let look = move || open(&path).map(|(_, bytes)| bytes);
    actix_rt::task::spawn_blocking(look).await.unwrap_or_else(|lost| Err(std::io::Error::other(lost)))
}

/// Reads a file of at most so many bytes; it may have grown since somebody looked.
async fn read(path: impl AsRef<Path> + Send + 'static, limit: u64) -> std::io::Result<Bytes> {
    let read = move || {
        use std::io::Read as _;
        let mut bytes = Vec::new();
        open(path.as_ref())?.0.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(std::io::Error::other("it became larger"));
        }
        Ok(Bytes::from(bytes))
    };
    actix_rt::task::spawn_blocking(read).await.unwrap_or_else(|lost| Err(std::io::Error::other(lost)))
}
