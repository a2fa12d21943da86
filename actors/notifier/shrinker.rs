//! Makes clips smaller for channels that take no file of their size: one at a time, on a thread of the lowest priority,
//! for a limited time. The results are kept for a while, because several channels may have the same limit.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use meerkat_base::{Clock, MonoTime};
use meerkat_media::MediaError;
use tokio::sync::{Mutex, oneshot};
use tracing::{info, warn};

use crate::storage::is_of_the_disk;

/// The folder of the results, below the data folder.
const FOLDER: &str = "outgoing";
/// Results are kept this long.
const KEEP: Duration = Duration::from_secs(3_600);
/// Results kept at most, the oldest go first.
const KEEP_FILES: usize = 16;
/// Failures remembered at most.
const KEEP_FAILURES: usize = 256;
/// Tries at a clip that the disk does not take, and the wait after the first of them; it doubles.
const DISK_TRIES: u32 = 5;
const DISK_WAIT: Duration = Duration::from_secs(30);
/// Share of a limit that is aimed at: containers and rate control are not exact.
const AIM: f64 = 0.94;
/// Niceness of the thread.
const NICENESS: i32 = 19;

/// Makes clips smaller. Clones share the work.
#[derive(Clone)]
pub struct Shrinker {
    shared: Arc<Shared>,
}

struct Shared {
    folder: PathBuf,
    limit: Duration,
    clock: Arc<dyn Clock>,
    /// Held by the thread that works, not by who waits for it: a notifier that is renewed gives up waiting, and the thread
    /// goes on.
    one_at_a_time: Arc<Mutex<()>>,
    /// Results that could not be made: a message that is tried again does not try that again.
    failed: std::sync::Mutex<HashMap<PathBuf, Failed>>,
}

/// Why there is no smaller clip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotSmaller {
    /// The disk did not take it, and may after this wait.
    Later {
        /// Until it is tried again.
        wait: Duration,
        /// What went wrong.
        reason: String,
    },
    /// It cannot be made smaller, or was tried often enough.
    Never {
        /// What went wrong.
        reason: String,
    },
}

impl NotSmaller {
    fn never(reason: impl Into<String>) -> Self {
        Self::Never { reason: reason.into() }
    }
}

/// A result that could not be made.
struct Failed {
    reason: String,
    tries: u32,
    at: MonoTime,
    /// Until then nobody tries again; for good where there is no such time.
    until: Option<MonoTime>,
}

impl Failed {
    /// One more try than `before` failed now. `passes`: the disk was at fault, and may be well later.
    fn again(before: Option<&Self>, reason: String, passes: bool, now: MonoTime) -> Self {
        let tries = before.map_or(0, |failed| failed.tries) % DISK_TRIES + 1;
        let wait = if tries < DISK_TRIES {
            DISK_WAIT.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1)))
        } else {
            // Whoever waits goes without it; one who comes as late as this may try anew.
            KEEP
        };
        Self { reason, tries, at: now, until: passes.then(|| now.after(wait)) }
    }

    /// The answer while it is not tried again.
    fn holds(&self, now: MonoTime) -> Option<NotSmaller> {
        let reason = self.reason.clone();
        match self.until.map(|until| until.since(now)) {
            Some(wait) if wait.is_zero() => None,
            Some(wait) if self.tries < DISK_TRIES => Some(NotSmaller::Later { wait, reason }),
            Some(_) | None => Some(NotSmaller::Never { reason }),
        }
    }
}

impl Shrinker {
    /// Works in a folder of its own below the data folder; what an earlier run left there goes.
    pub fn new(data_dir: &Path, limit: Duration, clock: Arc<dyn Clock>) -> Self {
        let folder = data_dir.join(FOLDER);
        let one_at_a_time = Arc::new(Mutex::new(()));
        // A thread's work: a disk that hangs must not keep the node from starting. What is new is not taken for old.
        let (old, turn) = (folder.clone(), Arc::clone(&one_at_a_time).try_lock_owned());
        let cleaning = std::thread::Builder::new().name("clean".to_owned()).spawn(move || {
            tidy(&old, 0);
            drop(turn);
        });
        if let Err(error) = cleaning {
            warn!(%error, "clips made smaller by an earlier run stay");
        }
        Self { shared: Arc::new(Shared { folder, limit, clock, one_at_a_time, failed: Default::default() }) }
    }

    /// The clip in at most `limit` bytes, and how many it has. What the disk does not take is tried again a few times,
    /// when somebody asks after the wait that the error says. `waited`: for how long whoever asks has waited for the clip;
    /// what failed before that, and was put back by hand since, is tried anew.
    pub async fn shrink(
        &self,
        clip: &Path,
        duration: Duration,
        limit: u64,
        waited: Duration,
    ) -> Result<(PathBuf, u64), NotSmaller> {
        let waited = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
        let since = MonoTime(self.shared.clock.mono().0.saturating_sub(waited));
        let turn = Arc::clone(&self.shared.one_at_a_time).lock_owned().await;
        let (sender, receiver) = oneshot::channel();
        let (shared, clip) = (Arc::clone(&self.shared), clip.to_owned());
        let work = move || {
            if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
                warn!(%error, "a clip is made smaller at normal priority");
            }
            let outcome = shared.make(&clip, duration, limit, since);
            drop(turn);
            let _ = sender.send(outcome);
        };
        std::thread::Builder::new()
            .name("shrink".to_owned())
            .spawn(work)
            .map_err(|error| NotSmaller::never(format!("no thread to make the clip smaller: {error}")))?;
        receiver.await.unwrap_or_else(|_| Err(NotSmaller::never("making the clip smaller failed")))
    }
}

impl Shared {
    fn make(
        &self,
        clip: &Path,
        duration: Duration,
        limit: u64,
        since: MonoTime,
    ) -> Result<(PathBuf, u64), NotSmaller> {
        let stem = clip
            .file_stem()
            .and_then(|stem| stem.to_str())
            .ok_or_else(|| NotSmaller::never("the clip has no name"))?;
        let made = self.folder.join(format!("{stem}-{limit}.mp4"));
        if let Ok(metadata) = std::fs::symlink_metadata(&made)
            && metadata.is_file()
        {
            return Ok((made, metadata.len()));
        }
        if let Some(refusal) = self.known_refusal(&made, since) {
            return Err(refusal);
        }
        if let Err(error) = private_folder(&self.folder) {
            let reason = format!("{}: {error}", self.folder.display());
            return Err(self.remember(made, reason, true));
        }
        tidy(&self.folder, KEEP_FILES);
        let part = self.folder.join(format!(".part-{stem}-{limit}.mp4"));
        let _ = std::fs::remove_file(&part);
        let aim = (limit as f64 * AIM) as u64;
        let began = std::time::Instant::now();
        let shrunk = meerkat_media::shrink(clip, &part, duration, aim, self.limit);
        let outcome = match shrunk {
            Ok(bytes) if bytes <= limit => std::fs::rename(&part, &made)
                .map(|()| bytes)
                .map_err(|error| (format!("{}: {error}", made.display()), true)),
            Ok(bytes) => {
                let reason = format!("the clip cannot be made smaller than {bytes} bytes, {limit} are taken");
                Err((reason, false))
            }
            Err(error) => {
                let words = error.to_string();
                let passes = matches!(error, MediaError::File { .. }) || is_of_the_disk(&words);
                Err((format!("the clip cannot be made smaller: {words}"), passes))
            }
        };
        match outcome {
            Ok(bytes) => {
                info!(clip = %clip.display(), bytes, took_ms = began.elapsed().as_millis() as u64, "a clip was made smaller");
                self.failed().remove(&made);
                Ok((made, bytes))
            }
            Err((reason, passes)) => {
                let _ = std::fs::remove_file(&part);
                Err(self.remember(made, reason, passes))
            }
        }
    }

    /// What is remembered for whoever has waited since a moment. Somebody who began to wait after the failure knows of it
    /// and wants another try.
    fn known_refusal(&self, made: &Path, since: MonoTime) -> Option<NotSmaller> {
        let mut failed = self.failed();
        if failed.get(made)?.at < since {
            failed.remove(made);
            return None;
        }
        failed.get(made)?.holds(self.clock.mono())
    }

    /// Keeps in mind that this could not be made, and says what that means for whoever asks.
    fn remember(&self, made: PathBuf, reason: String, passes: bool) -> NotSmaller {
        let now = self.clock.mono();
        let mut failed = self.failed();
        if failed.len() >= KEEP_FAILURES && !failed.contains_key(&made) {
            failed.clear();
        }
        let failure = Failed::again(failed.get(&made), reason.clone(), passes, now);
        let meaning = failure.holds(now).unwrap_or(NotSmaller::Never { reason });
        failed.insert(made, failure);
        meaning
    }

    fn failed(&self) -> MutexGuard<'_, HashMap<PathBuf, Failed>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn private_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Removes what is old, and the oldest of what is more than `keep` files.
fn tidy(folder: &Path, keep: usize) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut files: Vec<(SystemTime, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let metadata = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
            Some((metadata.modified().ok()?, entry.path()))
        })
        .collect();
    files.sort();
    let over = files.len().saturating_sub(keep);
    for (at, (modified, path)) in files.iter().enumerate() {
        let is_old = modified.elapsed().is_ok_and(|age| age > KEEP);
        if at < over || is_old {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::task::{Context, Waker};

    use meerkat_base::{Image, ImageFormat, ManualClock, PixelFormat};
    use meerkat_media::{ClipSettings, ClipSize, ClipWriter};

    use super::*;
    use crate::testing::NOON;

    /// A clip of half a second.
    pub(in crate::notifier) fn film(path: &Path) {
        let settings = ClipSettings {
            size: ClipSize::AsReceived,
            preset: "ultrafast".parse().unwrap(),
            crf: 23,
            threads: 1,
        };
        let image = Image::new(64, 48, PixelFormat::Gray8, vec![90; 64 * 48]).unwrap();
        let jpeg = meerkat_media::encode_jpeg(&image, 80).unwrap();
        let mut writer = ClipWriter::create(path, settings).unwrap();
        for n in 0..5 {
            let _ = writer.push(&jpeg, ImageFormat::Jpeg, Duration::from_millis(n * 100)).unwrap();
        }
        writer.finish().unwrap();
    }

    fn workshop(data_dir: &Path, clock: &ManualClock) -> Shared {
        Shared {
            folder: data_dir.join(FOLDER),
            limit: Duration::from_secs(60),
            clock: Arc::new(clock.clone()),
            one_at_a_time: Arc::default(),
            failed: Default::default(),
        }
    }

    #[test]
    fn whoever_began_to_wait_after_a_failure_is_not_told_of_it_but_has_a_try() {
        let (folder, clock) = (tempfile::tempdir().unwrap(), ManualClock::new(NOON));
        let shared = workshop(folder.path(), &clock);
        let clip = folder.path().join("a.mp4");
        let make = |since| shared.make(&clip, Duration::from_millis(500), 1_000_000, since);
        let began = clock.mono();
        let second = Duration::from_secs(1);
        std::fs::write(&clip, b"no film").unwrap();
        clock.advance(second);
        assert!(make(began).is_err());
        std::fs::remove_file(&clip).unwrap();
        film(&clip);
        clock.advance(second);
        for since in [began, began.after(second)] {
            assert!(make(since).is_err(), "other channels wait for it as long as the first");
        }
        assert!(make(clock.mono()).is_ok(), "put back by hand");
    }

    #[test]
    fn a_thread_that_works_is_waited_for_also_by_those_who_come_after_the_one_it_works_for() {
        crate::in_system(async {
            let (folder, clock) = (tempfile::tempdir().unwrap(), ManualClock::new(NOON));
            let shrinker = Shrinker { shared: Arc::new(workshop(folder.path(), &clock)) };
            let clip = folder.path().join("a.mp4");
            film(&clip);
            let half = Duration::from_millis(500);
            {
                // The thread stops where it looks up what failed.
                let _held = shrinker.shared.failed();
                let mut first = Box::pin(shrinker.shrink(&clip, half, 1_000_000, Duration::ZERO));
                let mut context = Context::from_waker(Waker::noop());
                assert!(first.as_mut().poll(&mut context).is_pending());
                // A reload: nobody waits for it any more, and it goes on.
                drop(first);
                assert!(shrinker.shared.one_at_a_time.try_lock().is_err(), "it is at work still");
            }
            let second = shrinker.shrink(&clip, half, 1_000_000, Duration::ZERO).await;
            assert_eq!(second.unwrap().0, folder.path().join(FOLDER).join("a-1000000.mp4"));
            assert!(shrinker.shared.failed().is_empty());
        });
    }

    #[test]
    fn what_the_disk_does_not_take_is_tried_again_and_what_cannot_be_is_not() {
        let (folder, clock) = (tempfile::tempdir().unwrap(), ManualClock::new(NOON));
        let away = folder.path().join("away");
        let shared = workshop(&away, &clock);
        let (clip, broken) = (folder.path().join("a.mp4"), folder.path().join("b.mp4"));
        film(&clip);
        std::fs::write(&broken, b"no film").unwrap();
        let began = clock.mono();
        let make = |path: &Path| shared.make(path, Duration::from_millis(500), 1_000_000, began);
        let wait = |made: Result<(PathBuf, u64), NotSmaller>| match made {
            Err(NotSmaller::Later { wait, .. }) => Some(wait),
            Err(NotSmaller::Never { .. }) | Ok(_) => None,
        };

        // The disk is away; each try doubles the wait, and they are bounded.
        for tries in 0..DISK_TRIES - 1 {
            let expected = DISK_WAIT * 2_u32.pow(tries);
            assert_eq!(wait(make(&clip)), Some(expected));
            clock.advance(Duration::from_secs(1));
            assert_eq!(wait(make(&clip)), Some(expected - Duration::from_secs(1)), "not tried meanwhile");
            clock.advance(expected - Duration::from_secs(1));
        }
        for _ in 0..2 {
            assert!(matches!(make(&clip), Err(NotSmaller::Never { .. })));
        }

        // Whoever asks much later finds that it is back.
        std::fs::create_dir(&away).unwrap();
        clock.advance(KEEP);
        assert_eq!(make(&clip).unwrap().0, shared.folder.join("a-1000000.mp4"));
        assert!(matches!(make(&broken), Err(NotSmaller::Never { .. })));
        clock.advance(KEEP * 24);
        std::fs::remove_file(&broken).unwrap();
        film(&broken);
        assert!(matches!(make(&broken), Err(NotSmaller::Never { .. })), "the clip is at fault, not the disk");
    }

    #[test]
    fn old_and_many_files_go() {
        let folder = tempfile::tempdir().unwrap();
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(7_200);
        for n in 0..6 {
            let path = folder.path().join(format!("{n}.mp4"));
            let file = std::fs::File::create(&path).unwrap();
            if n < 2 {
                file.set_modified(old).unwrap();
            }
        }
        tidy(folder.path(), 5);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4);
        tidy(folder.path(), 0);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        tidy(&folder.path().join("none"), 0);
    }
}
