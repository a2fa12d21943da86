//! What can be put right about one finding of `meerkat clips verify`. Deletes nothing.

mod anew;

use anyhow::Context;
use meerkat_base::{CameraId, EventId, WallTime};
use meerkat_media::probe;
use meerkat_store::evidence::sha256_of;
use meerkat_store::sidecar;
use meerkat_store::verify::{Finding, Wrong};
use meerkat_store::{ClipRow, ClipState, KeepTarget, SnapshotRow, Store};

use crate::settings::Settings;

/// Letters of an event's id in the name of a file.
const ID_LENGTH: usize = 36;

/// Puts it right if that can be done, and says how.
pub fn repair(
    settings: &Settings,
    store: &mut Store,
    finding: &Finding,
    now: WallTime,
) -> anyhow::Result<Option<String>> {
    match finding.wrong {
        Wrong::Orphan => adopt(settings, store, &finding.path).map(Some),
        Wrong::Returned => {
            store.set_clip_missing(&finding.path, None)?;
            Ok(Some("no longer noted as gone".to_owned()))
        }
        Wrong::Sidecar => {
            let written = store.write_sidecar(&finding.path, None)?;
            Ok(written.then(|| "written anew".to_owned()))
        }
        Wrong::Missing | Wrong::Altered => {
            if let Some(words) = anew::make_anew(settings, store, &finding.path, now)? {
                return Ok(Some(words));
            }
            if finding.wrong == Wrong::Missing {
                // Noted, but not repaired: it stays a finding.
                store.set_clip_missing(&finding.path, Some(now))?;
            }
            Ok(None)
        }
        Wrong::OrphanSnapshot => adopt_snapshot(settings, store, &finding.path),
        Wrong::MissingSnapshot
        | Wrong::Stray
        | Wrong::Unfinished
        | Wrong::UnfinishedSpool
        | Wrong::SetAside
        | Wrong::DamagedSpool => Ok(None),
    }
}

/// Gives a file its rows back: those of its sidecar, else as far as its name and what is in it say.
fn adopt(settings: &Settings, store: &mut Store, path: &str) -> anyhow::Result<String> {
    let file = settings.data_dir.join(path);
    let sidecar = sidecar::read(&settings.data_dir, path).unwrap_or(None);
    let sum = sha256_of(&file)?;
    // A sidecar that speaks of other contents is of no use.
    if let Some(sidecar) = sidecar.filter(|sidecar| sidecar.clip.sha256.as_ref() == Some(&sum)) {
        let rows = sidecar.rows();
        for row in &rows {
            store.add_clip(row)?;
        }
        if sidecar.keep {
            // Rows alone are asked when something has to go.
            store.keep(&KeepTarget::Path(path.to_owned()), true)?;
        }
        return Ok(format!("has its rows again, {} by its sidecar", rows.len()));
    }
    let row = row_of(settings, path, sum)?;
    store.add_clip(&row)?;
    store.write_sidecar(path, None)?;
    Ok(match row.event {
        Some(event) => format!("has a row again, for event {event}"),
        None => "has a row again".to_owned(),
    })
}

/// Gives a snapshot the row that its name speaks of. None when it has another name: then it is not ours.
fn adopt_snapshot(settings: &Settings, store: &mut Store, path: &str) -> anyhow::Result<Option<String>> {
    let bytes = std::fs::metadata(settings.data_dir.join(path))?.len();
    let Some(row) = SnapshotRow::of_file(path.to_owned(), bytes) else { return Ok(None) };
    store.add_snapshot(&row)?;
    Ok(Some(format!("has a row again, for event {}", row.event)))
}

/// A row from a file alone: `capture/<kind>/<camera>/<date>/<start>_<event or camera>_<nonce>.mp4`.
fn row_of(settings: &Settings, path: &str, sum: String) -> anyhow::Result<ClipRow> {
    let file = settings.data_dir.join(path);
    let found = probe(&file).context("what is in it cannot be read")?;
    let mut parts = path.rsplit('/');
    let name = parts.next().unwrap_or_default();
    let camera = parts.nth(1).unwrap_or_default();
    let stem = name.strip_suffix(".mp4").unwrap_or(name);
    let (start, rest) = stem.split_once('_').unwrap_or((stem, ""));
    // Behind the event stands the number of the spool; earlier versions put none there.
    let id = rest.get(..ID_LENGTH).filter(|_| path.starts_with("capture/clip/"));
    let event: Option<EventId> = id.and_then(|id| id.parse().ok());
    Ok(ClipRow {
        event,
        camera: CameraId::from_folder(camera).context("its folder is that of no camera")?,
        path: path.to_owned(),
        started: WallTime::from_compact(start).context("its name begins with no time")?,
        duration: found.duration,
        frames: found.frames,
        bytes: std::fs::metadata(&file)?.len(),
        sha256: Some(sum),
        state: ClipState::Repaired,
        skipped: 0,
        missing: None,
    })
}

#[cfg(test)]
mod tests;
