//! Whether there is room on the disk for more. Asked before anything new is begun.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use meerkat_base::metric;
use meerkat_store::disk;
use metrics::{counter, gauge};
use tracing::{error, info};

/// An answer is good for this long.
const FRESH: Duration = Duration::from_secs(1);

/// Watches the free space of the data folder's file system.
pub struct Room {
    data_dir: PathBuf,
    floor_bytes: u64,
    last: Mutex<Option<(Instant, Result<(), String>)>>,
}

impl Room {
    /// Refuses when fewer than `floor_bytes` are free.
    pub fn new(data_dir: PathBuf, floor_bytes: u64) -> Self {
        counter!(metric::LIMIT_HITS, "limit" => "free_floor_bytes").increment(0);
        Self { data_dir, floor_bytes, last: Mutex::new(None) }
    }

    /// Whether something new may be written.
    pub fn check(&self) -> Result<(), String> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, answer)) = &*last
            && at.elapsed() < FRESH
        {
            return answer.clone();
        }
        let answer = match disk::free_bytes(&self.data_dir) {
            Ok(free) => {
                gauge!(metric::STORAGE_FREE).set(free as f64);
                if free < self.floor_bytes {
                    Err("too little free space on the disk".to_owned())
                } else {
                    Ok(())
                }
            }
            Err(problem) => Err(problem.to_string()),
        };
        let was_fine = last.as_ref().is_none_or(|(_, answer)| answer.is_ok());
        match (&answer, was_fine) {
            (Err(reason), true) => {
                counter!(metric::LIMIT_HITS, "limit" => "free_floor_bytes").increment(1);
                error!(reason, "recording is refused from now on");
            }
            (Ok(()), false) => info!("recording is possible again"),
            _ => {}
        }
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}
