//! Spools that are kept beside their MP4 (`spool.keep`): removes those whose time has passed, and the oldest of too many.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use meerkat_base::{Clock, MonoTime, WallTime, metric};
use meerkat_store::spool::{KeptSpool, prune};
use metrics::counter;
use tracing::{info, warn};

use crate::settings::SpoolSettings;

/// How often they are looked at.
const LOOK: Duration = Duration::from_secs(60);
/// A wall clock that gained or lost more than this since the node started says nothing about ages any more.
const JUMP_MICROS: i64 = 3_600 * 1_000_000;
/// A sidecar is not longer.
const MAX_SIDECAR: u64 = 1 << 20;

/// Looks after them.
pub(super) struct KeptSpools {
    data_dir: PathBuf,
    settings: SpoolSettings,
    started: (WallTime, MonoTime),
    looked: Option<Instant>,
}

impl KeptSpools {
    pub fn new(data_dir: &Path, settings: &SpoolSettings, clock: &dyn Clock) -> Self {
        counter!(metric::LIMIT_HITS, "limit" => "spool_keep_bytes").increment(0);
        let started = (clock.wall(), clock.mono());
        Self { data_dir: data_dir.to_owned(), settings: settings.clone(), started, looked: None }
    }

    /// To be called often; works once in a while.
    pub fn look(&mut self, clock: &dyn Clock) {
        if self.looked.is_some_and(|at| at.elapsed() < LOOK) {
            return;
        }
        self.looked = Some(Instant::now());
        self.remove_what_may_go(clock);
    }

    fn remove_what_may_go(&self, clock: &dyn Clock) {
        let root = self.data_dir.join("spool");
        if !root.exists() {
            return;
        }
        // Those that are there though nothing is to be kept stay until the limit of bytes: somebody wanted them once.
        let before = self.settings.keep.filter(|_| !self.clock_jumped(clock)).map(|keep| {
            let micros = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
            clock.wall().offset_micros(micros.saturating_neg()).compact()
        });
        let is_held = |spool: &KeptSpool| self.is_held(spool);
        match prune(&root, before.as_deref(), self.settings.keep_bytes, is_held) {
            Ok(done) => {
                if done.removed > 0 {
                    info!(spools = done.removed, "removed spools whose time has passed");
                }
                if done.bytes_left > self.settings.keep_bytes {
                    counter!(metric::LIMIT_HITS, "limit" => "spool_keep_bytes").increment(1);
                    warn!(
                        bytes = done.bytes_left,
                        "kept spools hold more than spool.keep_bytes, and none may go"
                    );
                }
            }
            Err(error) => warn!(%error, "kept spools cannot be looked at"),
        }
    }

    fn clock_jumped(&self, clock: &dyn Clock) -> bool {
        let (wall, mono) = self.started;
        let passed = i64::try_from(clock.mono().since(mono).as_micros()).unwrap_or(i64::MAX);
        clock.wall().0.saturating_sub(wall.0).abs_diff(passed) > JUMP_MICROS.unsigned_abs()
    }

    /// Whether the clip that was made of it has a keep flag in its sidecar. A sidecar that cannot be read holds it too.
    fn is_held(&self, spool: &KeptSpool) -> bool {
        let Some(made) = &spool.made else { return false };
        let sidecar = self.data_dir.join(format!("{made}.json"));
        let file = match std::fs::File::open(&sidecar) {
            Ok(file) => file,
            Err(error) => return error.kind() != std::io::ErrorKind::NotFound,
        };
        let mut text = Vec::new();
        if file.take(MAX_SIDECAR).read_to_end(&mut text).is_err() {
            return true;
        }
        serde_json::from_slice::<serde_json::Value>(&text).map_or(true, |sidecar| sidecar["keep"] != false)
    }
}

#[cfg(test)]
mod tests {
    use meerkat_base::{CameraId, Frame, ImageFormat, ManualClock, Mode};
    use meerkat_store::{Durability, SpoolKind, SpoolMeta, SpoolWriter, spool};

    use super::*;

    const NOON: WallTime = WallTime(1_795_176_000_000_000);
    const HOUR: i64 = 3_600_000_000;

    struct Rig {
        folder: tempfile::TempDir,
        clock: ManualClock,
        kept: KeptSpools,
    }

    impl Rig {
        fn new(keep_hours: u64, keep_bytes: u64) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let clock = ManualClock::new(NOON);
            let settings = SpoolSettings {
                keep: Some(Duration::from_secs(keep_hours * 3600)),
                keep_bytes,
                max_bytes: 1,
                total_bytes: 1,
            };
            let kept = KeptSpools::new(folder.path(), &settings, &clock);
            Self { folder, clock, kept }
        }

        /// A spool so many hours old, with the sidecar of its clip.
        fn spool(&self, hours: i64, sidecar: Option<&str>) -> PathBuf {
            let meta = SpoolMeta {
                camera: CameraId::parse("door").unwrap(),
                kind: SpoolKind::Segment,
                started: NOON.offset_micros(-hours * HOUR),
                mode: Mode::People,
                settings: serde_json::Value::Null,
            };
            let root = self.folder.path().join("spool");
            let mut writer = SpoolWriter::create(&root, &meta, Durability::Process).unwrap();
            let frame = Frame {
                camera: meta.camera.clone(),
                seq: 1,
                wall: meta.started,
                mono: MonoTime(1),
                format: ImageFormat::Jpeg,
                width: 1,
                height: 1,
                bytes: "x".into(),
            };
            writer.append(&frame).unwrap();
            let made = format!("{hours}.mp4");
            if let Some(text) = sidecar {
                std::fs::write(self.folder.path().join(format!("{made}.json")), text).unwrap();
            }
            spool::keep(&writer.finish().unwrap().path, &made).unwrap()
        }
    }

    #[test]
    fn old_ones_go_but_those_of_clips_that_are_to_be_kept() {
        let rig = Rig::new(12, u64::MAX);
        let young = rig.spool(11, None);
        let gone = [rig.spool(13, None), rig.spool(14, Some("{\"keep\": false}"))];
        let held = [rig.spool(15, Some("{\"keep\": true}")), rig.spool(16, Some("damaged"))];
        rig.kept.remove_what_may_go(&rig.clock);
        assert!(young.exists() && held.iter().all(|path| path.exists()));
        assert!(gone.iter().all(|path| !path.exists()));
    }

    #[test]
    fn a_clock_that_jumped_removes_nothing_by_age() {
        let rig = Rig::new(12, u64::MAX);
        let spool = rig.spool(1, None);
        rig.clock.jump_wall(365 * 24 * HOUR);
        rig.kept.remove_what_may_go(&rig.clock);
        assert!(spool.exists());
        rig.clock.jump_wall(-365 * 24 * HOUR);
        rig.clock.advance(Duration::from_secs(12 * 3600));
        rig.kept.remove_what_may_go(&rig.clock);
        assert!(!spool.exists());
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_bytes() {
        let rig = Rig::new(1000, 1000);
        let paths: Vec<PathBuf> = (1..=5).map(|hours| rig.spool(hours, None)).collect();
        rig.kept.remove_what_may_go(&rig.clock);
        let left: Vec<bool> = paths.iter().map(|path| path.exists()).collect();
        assert!(left[0] && !left[4], "{left:?}");
        assert!(left.is_sorted_by(|a, b| a >= b), "{left:?}");
    }
}
