//! Snapshots that the disk did not take when their events began: made up for from the recording, whose pictures are the
//! same bytes.

use meerkat_base::{EventId, WallTime, metric};
use meerkat_store::spool::{SpoolItem, SpoolReader};
use meerkat_store::{CaptureFiles, CaptureKind, EventRow, SnapshotRow, StoreError};
use metrics::counter;
use tracing::{info, warn};

use super::{Job, SpoolFrame};
use crate::supervision::Failure;

/// An event without a snapshot.
#[derive(Debug, Clone)]
pub(super) struct Lacking {
    event: EventId,
    started: WallTime,
    /// Number of the frame that started it.
    seq: u64,
}

impl Lacking {
    /// The event, if it has none.
    pub fn of(row: &EventRow) -> Option<Self> {
        row.snapshot.is_none().then_some(Self { event: row.id, started: row.started, seq: row.started_seq })
    }
}

impl Job {
    /// Stores the picture that started each event, or the first one after it that was recorded. What cannot be made up
    /// for stays as it is: the clip is complete.
    pub(super) fn make_up_snapshots(&self, lacking: Vec<Lacking>) {
        if lacking.is_empty() {
            return;
        }
        let (missed, mut made) = (lacking.len(), 0);
        if let Err(problem) = self.try_to_make_up(lacking, &mut made) {
            warn!(spool = %self.path.display(), ?problem, "events stay without a snapshot");
        }
        counter!(metric::SNAPSHOTS, "result" => "made_up").increment(made as u64);
        counter!(metric::SNAPSHOTS, "result" => "lost").increment(missed.saturating_sub(made) as u64);
    }

    /// Counts in `made` those that it stored, also when it fails later.
    fn try_to_make_up(&self, mut lacking: Vec<Lacking>, made: &mut usize) -> Result<(), Failure> {
        let mut reader = SpoolReader::open(&self.path).map_err(Failure::error)?;
        loop {
            match reader.next_item().map_err(Failure::error)? {
                SpoolItem::Frame(frame) => {
                    let (begun, left): (Vec<_>, Vec<_>) =
                        lacking.into_iter().partition(|event| event.seq <= frame.seq);
                    lacking = left;
                    for event in begun {
                        self.store_snapshot(&event, &frame)?;
                        *made += 1;
                    }
                    if lacking.is_empty() {
                        return Ok(());
                    }
                }
                SpoolItem::Corrupt { .. } => {}
                SpoolItem::NotYet | SpoolItem::End(_) => return Ok(()),
            }
        }
    }

    fn store_snapshot(&self, event: &Lacking, frame: &SpoolFrame) -> Result<(), Failure> {
        let places = &self.pool.shared.tools.places;
        let mut files =
            CaptureFiles::new(&places.data_dir, CaptureKind::Clip, places.boot.clone(), places.durability)
                .map_err(Failure::error)?;
        // The name that it would have got at the start of the event.
        let stem = format!("{}_{}", event.started.compact(), event.event);
        let ending = frame.format.extension();
        let path = match files.store(&self.meta.camera, event.started, &stem, ending, &frame.bytes) {
            Ok(file) => file.relative,
            // By an attempt that came no further.
            Err(StoreError::Exists { path }) => {
                let relative = path.strip_prefix(&places.data_dir).map_err(Failure::error)?;
                relative.to_string_lossy().into_owned()
            }
            Err(error) => return Err(Failure::error(error)),
        };
        let row =
            SnapshotRow { event: event.event, path, taken: frame.wall, bytes: frame.bytes.len() as u64 };
        self.ask(move |store| {
            store.add_snapshot(&row)?;
            // An alert that still waits goes with its picture.
            store.attach_snapshot(row.event, &row.path).map(|_| ())
        })?;
        info!(camera = %self.meta.camera, event = %event.event, "a snapshot was made up for from the recording");
        Ok(())
    }
}
