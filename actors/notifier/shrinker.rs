//! Makes clips smaller for channels that take no file of their size: one at a time, on a thread of the lowest priority,
//! for a limited time. The results are kept for a while, because several channels may have the same limit.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Mutex, oneshot};
use tracing::{info, warn};

/// The folder of the results, below the data folder.
const FOLDER: &str = "outgoing";
/// Results are kept this long.
const KEEP: Duration = Duration::from_secs(3_600);
/// Results kept at most, the oldest go first.
const KEEP_FILES: usize = 16;
/// Failures remembered at most.
const KEEP_FAILURES: usize = 256;
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
    one_at_a_time: Mutex<()>,
    /// Results that could not be made, and why: a message that is tried again does not try that again.
    failed: std::sync::Mutex<HashMap<PathBuf, String>>,
}

impl Shrinker {
    /// Works in a folder of its own below the data folder; what an earlier run left there goes.
    pub fn new(data_dir: &Path, limit: Duration) -> Self {
        let folder = data_dir.join(FOLDER);
        // A thread's work: a disk that hangs must not keep the node from starting.
        let old = folder.clone();
        let cleaning = std::thread::Builder::new().name("clean".to_owned()).spawn(move || tidy(&old, 0));
        if let Err(error) = cleaning {
            warn!(%error, "clips made smaller by an earlier run stay");
        }
        Self {
            shared: Arc::new(Shared {
                folder,
                limit,
                one_at_a_time: Mutex::new(()),
                failed: Default::default(),
            }),
        }
    }

    /// The clip in at most `limit` bytes, and how many it has. The error says why there is none.
    pub async fn shrink(
        &self,
        clip: &Path,
        duration: Duration,
        limit: u64,
    ) -> Result<(PathBuf, u64), String> {
        let _turn = self.shared.one_at_a_time.lock().await;
        let (sender, receiver) = oneshot::channel();
        let (shared, clip) = (Arc::clone(&self.shared), clip.to_owned());
        let work = move || {
            if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
                warn!(%error, "a clip is made smaller at normal priority");
            }
            let _ = sender.send(shared.make(&clip, duration, limit));
        };
        std::thread::Builder::new()
            .name("shrink".to_owned())
            .spawn(work)
            .map_err(|error| format!("no thread to make the clip smaller: {error}"))?;
        receiver.await.unwrap_or_else(|_| Err("making the clip smaller failed".to_owned()))
    }
}

impl Shared {
    fn make(&self, clip: &Path, duration: Duration, limit: u64) -> Result<(PathBuf, u64), String> {
        let stem = clip.file_stem().and_then(|stem| stem.to_str()).ok_or("the clip has no name")?;
        let made = self.folder.join(format!("{stem}-{limit}.mp4"));
        if let Ok(metadata) = std::fs::symlink_metadata(&made)
            && metadata.is_file()
        {
            return Ok((made, metadata.len()));
        }
        if let Some(reason) = self.failed().get(&made) {
            return Err(reason.clone());
        }
        private_folder(&self.folder).map_err(|error| format!("{}: {error}", self.folder.display()))?;
        tidy(&self.folder, KEEP_FILES);
        let part = self.folder.join(format!(".part-{stem}-{limit}.mp4"));
        let _ = std::fs::remove_file(&part);
        let aim = (limit as f64 * AIM) as u64;
        let began = std::time::Instant::now();
        let shrunk = meerkat_media::shrink(clip, &part, duration, aim, self.limit);
        let outcome = match shrunk {
            Ok(bytes) if bytes <= limit => std::fs::rename(&part, &made)
                .map(|()| (made.clone(), bytes))
                .map_err(|error| format!("{}: {error}", made.display())),
            Ok(bytes) => {
                Err(format!("the clip cannot be made smaller than {bytes} bytes, {limit} are taken"))
            }
            Err(error) => Err(format!("the clip cannot be made smaller: {error}")),
        };
        match &outcome {
            Ok((_, bytes)) => {
                info!(clip = %clip.display(), bytes, took_ms = began.elapsed().as_millis() as u64, "a clip was made smaller");
            }
            Err(reason) => {
                let _ = std::fs::remove_file(&part);
                let mut failed = self.failed();
                if failed.len() >= KEEP_FAILURES {
                    failed.clear();
                }
                failed.insert(made, reason.clone());
            }
        }
        outcome
    }

    fn failed(&self) -> MutexGuard<'_, HashMap<PathBuf, String>> {
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
mod tests {
    use super::*;

    #[test]
    fn old_and_many_files_go() {
        let folder = tempfile::tempdir().unwrap();
        let old = SystemTime::now() - Duration::from_secs(7_200);
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
