//! What a recording lacks and the ring still has: frames that came while the disk took none, or while there was no
//! recorder. Decides nothing about when a recording begins or ends.

use std::sync::Arc;

use meerkat_base::Frame;
use meerkat_store::StoreError;
use meerkat_store::spool::MAX_FRAME_BYTES;
use tracing::info;

use super::link::OpenEnd;
use super::open::OpenSpool;
use crate::camera::Camera;

/// Frames in the ring with higher numbers than this that belong to a recording, without those that no spool takes: one
/// of them must not keep the others out.
pub(super) fn frames_since(camera: &Arc<Camera>, last_seq: u64, end: OpenEnd) -> Vec<Frame> {
    let state = camera.ring();
    let belongs =
        |frame: &&Frame| frame.seq > last_seq && end.takes(frame.mono) && frame.len() <= MAX_FRAME_BYTES;
    state.ring.iter().filter(belongs).cloned().collect()
}

/// Appends a frame, and before it those that are missing since the last one, as far as the ring reaches. In a spool
/// numbers only rise: what lies between two of them was lost.
pub(super) fn append(camera: &Arc<Camera>, spool: &mut OpenSpool, frame: &Frame) -> Result<(), StoreError> {
    if frame.seq <= spool.last_seq().saturating_add(1) {
        return spool.append(frame);
    }
    let mut frames = frames_since(camera, spool.last_seq(), OpenEnd(Some(frame.mono)));
    // What came after it has orders of its own; and the frame itself may have left the ring.
    frames.retain(|earlier| earlier.seq < frame.seq);
    let missing = frames.len();
    frames.push(frame.clone());
    spool.append_all(&frames)?;
    if missing > 0 {
        info!(camera = %camera.id(), frames = missing, "frames that were missing came from the ring");
    }
    Ok(())
}
