//! What was recorded, as the rows and the folders have it.

use std::path::Path;

use anyhow::{Context, bail};
use clap::Args;
use meerkat_base::CameraId;
use meerkat_store::inventory::{ClipQuery, PAGE_ROWS};
use meerkat_store::{CaptureKind, ClipRow, PROOF_ENDING, STRIP_ENDING, spool};
use serde_json::json;

use super::super::stored::Stored;
use crate::settings::Settings;

/// Which clips to show.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Those of one camera
    #[arg(long, value_name = "ID")]
    camera: Option<String>,

    /// Those of one kind: clip, video or segment
    #[arg(long, value_name = "KIND", value_parser = kind)]
    kind: Option<CaptureKind>,

    /// How many, the newest first; 1 to 500
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,

    /// Print one JSON object per clip
    #[arg(long)]
    json: bool,
}

fn kind(text: &str) -> Result<CaptureKind, String> {
    let kinds = [CaptureKind::Clip, CaptureKind::Video, CaptureKind::Segment];
    kinds.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| "clip, video or segment".to_owned())
}

/// Says what failed: the rows.
pub(super) fn unreadable(settings: &Settings) -> String {
    format!("what was recorded in {} cannot be read", settings.data_dir.display())
}

/// Shows the newest.
pub fn list(settings: &Settings, args: ListArgs) -> anyhow::Result<()> {
    let camera = args.camera.map(|id| CameraId::from_shown(&id)).transpose().context("--camera")?;
    let query = ClipQuery { camera, kind: args.kind, limit: usize::from(args.limit).min(PAGE_ROWS) };
    let rows = Stored::new(settings).newest_clips(&query).with_context(|| unreadable(settings))?;
    for row in &rows {
        if args.json {
            println!("{}", serde_json::to_string(row)?);
        } else {
            println!("{}", line(row));
        }
    }
    if rows.is_empty() && !args.json {
        println!("nothing was recorded in {}", settings.data_dir.display());
    }
    Ok(())
}

fn line(row: &ClipRow) -> String {
    let mut notes = vec![row.state.as_str().to_owned()];
    if row.skipped > 0 {
        notes.push(format!("{} pictures skipped", row.skipped));
    }
    if let Some(at) = row.missing {
        notes.push(format!("missing since {at}"));
    }
    format!(
        "{}  {:<12} {:>7.1} s {:>6} frames {:>8.1} MB  {}  {}",
        row.started,
        row.camera,
        row.duration.as_secs_f64(),
        row.frames,
        row.bytes as f64 / 1e6,
        row.path,
        notes.join(", ")
    )
}

/// Shows everything about one.
pub fn show(settings: &Settings, what: &str, as_json: bool) -> anyhow::Result<()> {
    let mut stored = Stored::new(settings);
    let found = match what.parse() {
        Ok(event) => stored.event(event).map(|found| found.map(|event| event.clips).unwrap_or_default()),
        Err(_) => stored.clips_at(relative(settings, what)),
    };
    let rows = found.with_context(|| unreadable(settings))?;
    if rows.is_empty() {
        bail!("there is no clip of {what}");
    }
    for row in &rows {
        let beside = |ending: &str| {
            let path = format!("{}{ending}", row.path);
            settings.data_dir.join(&path).is_file().then_some(path)
        };
        let kept = spool::kept_of(&settings.data_dir.join("spool"), &row.path)?;
        let spool = kept.as_ref().map(|spool| spool.path.display().to_string());
        let shown = json!({
            "clip": row,
            "there": settings.data_dir.join(&row.path).exists(),
            "strip": beside(STRIP_ENDING),
            "sidecar": beside(".json"),
            "proof": beside(PROOF_ENDING),
            "spool": spool,
        });
        if as_json {
            println!("{shown}");
        } else {
            println!("{}", serde_json::to_string_pretty(&shown)?);
        }
    }
    Ok(())
}

/// A path as rows hold it: below the data folder.
pub fn relative<'a>(settings: &Settings, path: &'a str) -> &'a str {
    Path::new(path).strip_prefix(&settings.data_dir).ok().and_then(Path::to_str).unwrap_or(path)
}
