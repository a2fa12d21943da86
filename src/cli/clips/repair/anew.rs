//! Makes a file anew from its kept spool, and its proof with it. An altered file is put aside.

use std::path::Path;
use std::time::Duration;

use meerkat_actors::recorder::clip_size;
use meerkat_base::WallTime;
use meerkat_media::{ClipSettings, ClipSize, ClipWriter, Pushed};
use meerkat_store::evidence::{
    CheckedSpool, ClipProof, SigningKeyFile, SpoolNote, check_spool, read_proof, sha256_of, sign_proof,
};
use meerkat_store::spool::{self, SpoolItem, SpoolReader};
use meerkat_store::verify::damaged_name;
use meerkat_store::{ClipRow, ClipState, PROOF_ENDING, SpoolKind, Store, replace_file};

use crate::settings::{Settings, VideoSize};

/// Numbers of skipped frames that a proof lists.
const MAX_SKIPPED: usize = 100_000;
/// What stands in a proof for the run of the node that made the file.
const NO_RUN: &str = "repair";

/// A file that was made of a spool.
struct Made {
    frames: u64,
    duration: Duration,
    /// Numbers of frames that cannot be decoded.
    skipped: Vec<u64>,
    /// The spool was undamaged and its chain unbroken.
    whole: bool,
}

/// Makes a file anew from its kept spool. None when there is no such spool.
pub(super) fn make_anew(
    settings: &Settings,
    store: &mut Store,
    path: &str,
    now: WallTime,
) -> anyhow::Result<Option<String>> {
    let Some(kept) = spool::kept_of(&settings.data_dir.join("spool"), path)? else { return Ok(None) };
    let rows = store.clips_at(path)?;
    let Some(row) = rows.first() else { return Ok(None) };
    let file = settings.data_dir.join(path);
    let part = file.with_file_name(format!(
        ".part-repair-{}",
        file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default()
    ));
    let _ = std::fs::remove_file(&part);
    let made = encode(settings, &kept.path, &part, path);
    if made.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    let made = made?;
    let row = ClipRow {
        duration: made.duration,
        frames: made.frames,
        skipped: made.skipped.len() as u64,
        bytes: std::fs::metadata(&part)?.len(),
        sha256: Some(sha256_of(&part)?),
        state: ClipState::Repaired,
        missing: None,
        ..row.clone()
    };
    let signed = sign(settings, &kept.path, &row, &made, now);
    if file.exists() {
        put_aside(&file)?;
    }
    if let Ok(Some(proof)) = &signed {
        // The one before speaks of a file that is no more. Before the file itself, which has its proof from the start.
        replace_file(&settings.data_dir.join(format!("{path}{PROOF_ENDING}")), proof.as_bytes())?;
    }
    std::fs::rename(&part, &file)?;
    for old in &rows {
        store.add_clip(&ClipRow { event: old.event, ..row.clone() })?;
    }
    store.write_sidecar(path, None)?;
    let events = rows.iter().filter(|row| row.event.is_some()).count();
    tracing::info!(path, events, started = %row.started, "a clip was made anew");
    let words = format!("made anew from its spool: {} frames", made.frames);
    Ok(Some(match signed {
        Ok(None) => words,
        Ok(Some(_)) => format!("{words}, and signed again"),
        Err(why) => format!("{words}; not signed again: {why}"),
    }))
}

/// The proof of a new file; none where neither the node signs nor the file was signed before. An error says why there is
/// none all the same.
fn sign(
    settings: &Settings,
    spool: &Path,
    row: &ClipRow,
    made: &Made,
    now: WallTime,
) -> Result<Option<String>, String> {
    let before = std::fs::read_to_string(settings.data_dir.join(format!("{}{PROOF_ENDING}", row.path))).ok();
    if before.is_none() && !settings.signing.enabled {
        return Ok(None);
    }
    let key = SigningKeyFile::load(&settings.signing.key_path(&settings.data_dir))
        .map_err(|error| format!("the key cannot be read: {error}"))?;
    // Whoever could change the spool must not have what came of it signed.
    let found = check_spool(spool, &key.public()).map_err(|fault| format!("its spool: {fault}"))?;
    let named = before.and_then(|text| read_proof(&text, &key.public()).ok());
    if !is_covered(&found, named.as_ref()) {
        return Err("no signature covers the end of its spool".to_owned());
    }
    if made.skipped.len() > MAX_SKIPPED {
        return Err("too many of its frames cannot be decoded".to_owned());
    }
    let (first_number, last_number) = found.numbers.unwrap_or_default();
    let proof = ClipProof {
        format: 1,
        boot: NO_RUN.to_owned(),
        made: now.0,
        camera: found.meta.camera.to_string(),
        event: match found.meta.kind {
            SpoolKind::Clip { event } => Some(event.to_string()),
            SpoolKind::Video | SpoolKind::Segment => None,
        },
        path: row.path.clone(),
        sha256: row.sha256.clone().unwrap_or_default(),
        bytes: row.bytes,
        started: row.started.0,
        frames: made.frames,
        skipped: made.skipped.clone(),
        spool: SpoolNote {
            name: spool.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            frames: found.frames,
            first_number,
            last_number,
            first_link: Some(found.first_link),
            last_link: Some(found.last_link),
            whole: made.whole,
            finished: found.finished,
        },
    };
    Ok(Some(sign_proof(&key, &proof)))
}

/// Whether signatures cover all of a spool: its own, or the proof of the file before, which names the last link.
fn is_covered(found: &CheckedSpool, named: Option<&ClipProof>) -> bool {
    let links = (Some(found.first_link.as_str()), Some(found.last_link.as_str()));
    (found.finished && found.signed_frames >= found.frames)
        || named.is_some_and(|proof| {
            (proof.spool.first_link.as_deref(), proof.spool.last_link.as_deref()) == links
        })
}

/// A file that is not what was recorded is kept too: somebody may want to know what became of it.
fn put_aside(file: &Path) -> anyhow::Result<()> {
    for number in 0..1000_u32 {
        let name = file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let aside = file.with_file_name(damaged_name(&name, number));
        if !aside.exists() {
            return Ok(std::fs::rename(file, aside)?);
        }
    }
    anyhow::bail!("there are a thousand damaged ones of it already")
}

fn encode(settings: &Settings, spool: &Path, to: &Path, path: &str) -> anyhow::Result<Made> {
    let mut reader = SpoolReader::open(spool)?;
    let of_clips = in_pixels(settings.clip.size);
    let size = match reader.meta() {
        Some(meta) => clip_size(meta, of_clips),
        None if path.starts_with("capture/video/") => in_pixels(settings.video_size),
        None => of_clips,
    };
    let clip =
        ClipSettings { size, preset: settings.clip.preset.parse()?, crf: settings.clip.crf, threads: 1 };
    let mut writer = ClipWriter::create(to, clip)?;
    let (mut skipped, mut corrupt) = (Vec::new(), false);
    loop {
        match reader.next_item()? {
            SpoolItem::Frame(frame) => {
                let pushed = writer.push(&frame.bytes, frame.format, frame.since_first)?;
                if matches!(pushed, Pushed::Skipped(_)) {
                    skipped.push(frame.seq);
                }
            }
            SpoolItem::Corrupt { .. } => corrupt = true,
            SpoolItem::End(_) | SpoolItem::NotYet => break,
        }
    }
    let info = writer.finish()?;
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o600))?;
    let whole = reader.chain().is_some_and(|chain| chain.whole) && !corrupt;
    Ok(Made { frames: info.frames, duration: info.duration, skipped, whole })
}

fn in_pixels(size: VideoSize) -> ClipSize {
    match size {
        VideoSize::AsReceived => ClipSize::AsReceived,
        VideoSize::Pixels { width, height } => ClipSize::Fixed { width, height },
    }
}
