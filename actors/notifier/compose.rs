//! Makes a message of a row of the outbox: its words' facts from the row, its picture from the disk, made smaller where
//! the channel takes none of its size. Sends nothing.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use meerkat_base::WallTime;
use meerkat_notify::Alert;
use meerkat_store::OutboxRow;
use meerkat_store::confine::read_below;
use serde_json::Value;
use tracing::debug;

use super::post::Post;
use crate::rules::AlertDraft;

/// Larger snapshots are not read: no camera makes them.
const MAX_SNAPSHOT_BYTES: u64 = 32 << 20;
/// Widths in pixels that a picture is scaled to, one after the other, until it is small enough.
const WIDTHS: [u32; 5] = [2_560, 1_920, 1_280, 640, 320];
/// Quality of scaled pictures.
const QUALITY: u8 = 80;

/// The message that a row stands for.
pub(super) async fn message(post: &Post, row: &OutboxRow) -> Alert {
    let draft: Option<AlertDraft> = serde_json::from_value(row.payload.clone()).ok();
    let started = draft.as_ref().map_or(row.created, |d| WallTime(d.started_micros));
    Alert {
        id: row.key,
        event: row.event,
        camera: row.camera.clone(),
        camera_name: draft.as_ref().and_then(|d| d.camera_name.clone()),
        kind: row.kind,
        phase: row.phase,
        started,
        identities: draft.as_ref().map(|d| d.identities.clone()).unwrap_or_default(),
        score: draft.as_ref().map_or(0.0, |d| d.score),
        severity: draft.as_ref().and_then(|d| d.severity).unwrap_or_else(|| row.kind.severity()),
        detail: draft.as_ref().map(AlertDraft::said).unwrap_or_default(),
        snapshot: snapshot(post, row).await,
        snapshot_link: link(post, row),
        already_sent: row.sent,
    }
}

/// Where the snapshot can be fetched, for services that take no pictures themselves.
fn link(post: &Post, row: &OutboxRow) -> Option<String> {
    post.tools.clips.links.as_ref()?.address(row.snapshot.as_ref()?, post.tools.clock.wall())
}

/// What people call the camera, by what was to be sent.
pub(super) fn camera_name(payload: &Value) -> Option<String> {
    payload["camera_name"].as_str().map(str::to_owned)
}

async fn snapshot(post: &Post, row: &OutboxRow) -> Option<Bytes> {
    let (data_dir, path) = (post.tools.data_dir.clone(), PathBuf::from(row.snapshot.as_ref()?));
    let limit = post.channel.picture_limit();
    // A disk that hangs, or a picture that takes long, must not hold the other channels up.
    actix_rt::task::spawn_blocking(move || read_snapshot(&data_dir, &path, limit)).await.ok().flatten()
}

fn read_snapshot(data_dir: &Path, path: &Path, limit: Option<u64>) -> Option<Bytes> {
    let whole = read_below(data_dir, path, MAX_SNAPSHOT_BYTES).ok()?;
    match limit {
        Some(limit) if whole.len() as u64 > limit => Some(smaller(&whole, limit).unwrap_or(whole)),
        _ => Some(whole),
    }
    .map(Bytes::from)
}

/// The picture as a JPEG of at most `limit` bytes. One that cannot be decoded, or made small enough, stays as it is:
/// what to do with it is the channel's business.
fn smaller(picture: &[u8], limit: u64) -> Option<Vec<u8>> {
    for width in WIDTHS {
        match meerkat_vision::thumbnail_jpeg(picture, width, QUALITY) {
            Ok(small) if small.len() as u64 <= limit => return Some(small),
            Ok(_) => {}
            Err(error) => {
                debug!(%error, "a snapshot cannot be made smaller");
                return None;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use meerkat_base::{Image, PixelFormat};

    use super::*;

    /// Noise: nothing is harder to compress.
    fn noise(width: u32, height: u32) -> Vec<u8> {
        let mut state = 1_u32;
        let data = (0..width * height * 3)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        let image = Image::new(width, height, PixelFormat::Bgr8, data).unwrap();
        meerkat_vision::encode_jpeg(&image, 95).unwrap()
    }

    #[test]
    fn a_picture_is_made_as_small_as_the_channel_wants_and_no_smaller() {
        let folder = tempfile::tempdir().unwrap();
        let (path, name) = (folder.path().join("a.jpg"), Path::new("a.jpg"));
        let picture = noise(1_600, 1_200);
        std::fs::write(&path, &picture).unwrap();
        let read = |limit| read_snapshot(folder.path(), name, limit).unwrap();
        assert_eq!(read(None), picture, "unchanged where anything goes");
        assert_eq!(read(Some(picture.len() as u64)), picture);
        let limit = picture.len() as u64 / 2;
        let small = read(Some(limit));
        assert!(small.len() as u64 <= limit && small.starts_with(&[0xff, 0xd8]), "{}", small.len());
        assert_eq!(meerkat_vision::probe::probe(&small).unwrap().width, 1_280);
        assert_eq!(read(Some(10)), picture, "what cannot be done is not half done");
        std::fs::write(&path, b"no picture at all").unwrap();
        assert_eq!(read(Some(5)), &b"no picture at all"[..]);
        std::os::unix::fs::symlink(&path, folder.path().join("link.jpg")).unwrap();
        for none in ["none.jpg", "link.jpg", "../a.jpg"] {
            assert_eq!(read_snapshot(folder.path(), Path::new(none), None), None, "{none}");
        }
    }
}
