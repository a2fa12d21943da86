//! `meerkat clips prove`: what a signed recording shows, and whether a clip was made of it. What is checked and why that
//! suffices stands in docs/evidence.md.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use meerkat_media::ClipComparison;
use meerkat_store::evidence::{CheckedSpool, ClipProof, PublicKey, check_spool, read_proof, sha256_of};
use meerkat_store::spool::{KEPT, SpoolItem, SpoolReader};
use meerkat_store::{ClipState, PROOF_ENDING, Sidecar, sidecar};
use serde_json::{Value, json};

use super::{CliError, keys};
use crate::settings::Settings;

/// What to prove.
#[derive(Debug, Args)]
#[command(
    after_help = "A spool (its folder) is proven when every record is there as the node wrote it, no frame is
missing between the first and the last, and signatures cover all of them. An MP4 is proven when it
is the file that its signed proof (<file>.proof) names, the spool that it was made of is proven,
and each picture of it shows what that frame of the spool shows, at its time. Several files are
also checked for following each other without a gap.

Exit codes: 0 proven, 1 failed, 2 wrong arguments, 3 not proven."
)]
pub struct ProveArgs {
    /// MP4 files, or folders of spools
    #[arg(required = true, value_name = "FILE")]
    recordings: Vec<PathBuf>,

    /// The public key: a PEM file or 64 hexadecimal digits. Default: that of the key (signing.key_file) of the
    /// configuration, so give this or the node's --config
    #[arg(long, value_name = "KEY")]
    key: Option<String>,

    /// The spool that the MP4 was made of. Default: where spools are kept in the data folder
    #[arg(long, value_name = "FOLDER")]
    spool: Option<PathBuf>,

    /// Prove of an MP4 only that it is the file the node made, where its spool is no longer kept
    #[arg(long)]
    file_only: bool,

    /// Least likeness of a picture with its frame, dB (PSNR)
    #[arg(long, value_name = "DB", default_value_t = 25.0)]
    min_psnr: f64,

    /// Least likeness of any block of 32x32 pixels, dB
    #[arg(long, value_name = "DB", default_value_t = 14.0)]
    min_block_psnr: f64,

    /// Print one JSON object per file
    #[arg(long)]
    json: bool,
}

/// What was shown about one file.
struct Shown {
    /// In words, one by one.
    facts: Vec<String>,
    /// Why it is not proven.
    faults: Vec<String>,
    spool: Option<CheckedSpool>,
}

/// Checks every file; all must be proven.
pub fn run(settings: &Settings, args: ProveArgs) -> Result<(), CliError> {
    if args.spool.is_some() && args.recordings.len() > 1 {
        return Err(CliError::Usage("--spool goes with one file".to_owned()));
    }
    let key = keys::to_check_with(settings, args.key.as_deref())?;
    let mut all_proven = true;
    let mut before: Option<CheckedSpool> = None;
    for file in &args.recordings {
        let mut shown = if file.is_dir() { spool(file, &key)? } else { clip(settings, file, &key, &args)? };
        let follows = follows(before.as_ref(), shown.spool.as_ref());
        if let Some(follows) = follows {
            let words = if follows { "follows" } else { "does not follow" };
            shown.facts.push(format!("it {words} directly on the recording before it"));
        }
        before = shown.spool.clone();
        all_proven &= shown.faults.is_empty();
        say(file, &shown, follows, args.json);
    }
    if all_proven { Ok(()) } else { Err(CliError::NotInOrder) }
}

/// Whether a recording goes on where the one before it ended; none when that cannot be said.
fn follows(before: Option<&CheckedSpool>, this: Option<&CheckedSpool>) -> Option<bool> {
    let (before, this) = (before?, this?);
    let numbers = before.numbers.zip(this.numbers).is_none_or(|((_, last), (first, _))| first == last + 1);
    Some(before.last_link == this.first_link && numbers)
}

fn say(file: &Path, shown: &Shown, follows: Option<bool>, as_json: bool) {
    let proven = shown.faults.is_empty();
    if as_json {
        let spool = shown.spool.as_ref().map_or(Value::Null, |spool| {
            json!({
                "camera": spool.meta.camera, "chain": spool.chain, "boot": spool.boot,
                "first_link": spool.first_link, "last_link": spool.last_link,
                "frames": spool.frames, "signed_frames": spool.signed_frames, "finished": spool.finished,
                "first_number": spool.numbers.map(|(first, _)| first),
                "last_number": spool.numbers.map(|(_, last)| last),
                "first_time": spool.times.map(|(first, _)| first),
                "last_time": spool.times.map(|(_, last)| last),
                "gaps": spool.gaps,
            })
        });
        let path = file.display().to_string();
        println!(
            "{}",
            json!({
                "file": path, "proven": proven, "facts": shown.facts, "faults": shown.faults,
                "follows": follows, "spool": spool,
            })
        );
        return;
    }
    println!("{}: {}", file.display(), if proven { "proven" } else { "NOT proven" });
    for fact in &shown.facts {
        println!("  {fact}");
    }
    for fault in &shown.faults {
        println!("  not proven: {fault}");
    }
}

/// Proves a spool by itself.
fn spool(folder: &Path, key: &PublicKey) -> anyhow::Result<Shown> {
    let mut shown = Shown { facts: Vec::new(), faults: Vec::new(), spool: None };
    match check_spool(folder, key) {
        Ok(found) => {
            describe(&found, &mut shown);
            if !found.finished || found.signed_frames < found.frames {
                shown.faults.push(format!(
                    "the recording was cut off: {} of its {} frames are covered by signatures of the time",
                    found.signed_frames, found.frames
                ));
            }
            shown.spool = Some(found);
        }
        Err(meerkat_store::evidence::SpoolFault::Io(error)) => {
            return Err(error).with_context(|| folder.display().to_string());
        }
        Err(fault) => shown.faults.push(fault.to_string()),
    }
    Ok(shown)
}

/// What a spool shows whether or not it was finished.
fn describe(found: &CheckedSpool, shown: &mut Shown) {
    if let (Some((first, last)), Some((from, to))) = (found.numbers, found.times) {
        shown.facts.push(format!(
            "{} frames of camera {}, numbers {first} to {last}, received {from} to {to}",
            found.frames, found.meta.camera
        ));
    }
    for (first, last) in &found.gaps {
        shown.faults.push(format!("frames {first} to {last} were received and not kept"));
    }
    shown.facts.push(format!("every record is as the node wrote it in its run {}", found.boot));
}

/// Proves an MP4, and that it was made of its spool.
fn clip(settings: &Settings, file: &Path, key: &PublicKey, args: &ProveArgs) -> anyhow::Result<Shown> {
    let mut shown = Shown { facts: Vec::new(), faults: Vec::new(), spool: None };
    let beside = PathBuf::from(format!("{}{PROOF_ENDING}", file.display()));
    let text = match std::fs::read_to_string(&beside) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && file.is_file() => {
            shown.faults.push(format!("{} is not there: the file was not signed", beside.display()));
            return Ok(shown);
        }
        Err(_) if !file.exists() => bail!("{} is not there", file.display()),
        Err(error) => return Err(error).with_context(|| beside.display().to_string()),
    };
    let proof = match read_proof(&text, key) {
        Ok(proof) => proof,
        Err(error) => {
            shown.faults.push(error.to_string());
            return Ok(shown);
        }
    };
    let found = sha256_of(file)?;
    if found != proof.sha256 {
        let mut words =
            format!("the file is not the one that was signed: SHA-256 {found}, not {}", proof.sha256);
        if is_made_anew(file, &found) {
            words.push_str(
                "; its sidecar says that it was made anew from its spool since then, and it was not signed again \
                 (meerkat clips verify --repair said why). The spool may still be proven by itself",
            );
        }
        shown.faults.push(words);
        return Ok(shown);
    }
    shown.facts.push(format!("the file is as the node made it: {} pictures, SHA-256 {found}", proof.frames));
    if !proof.spool.whole {
        shown.faults.push("its spool was damaged when the file was made".to_owned());
        return Ok(shown);
    }
    if args.file_only {
        return Ok(shown);
    }
    let folder = args
        .spool
        .clone()
        .unwrap_or_else(|| settings.data_dir.join("spool").join(KEPT).join(&proof.spool.name));
    if !folder.is_dir() {
        shown.faults.push(format!(
            "its spool, {}, is not there: the original pictures were not kept (spool.keep; --file-only proves the rest)",
            folder.display()
        ));
        return Ok(shown);
    }
    match check_spool(&folder, key) {
        Ok(found) => {
            describe(&found, &mut shown);
            same_recording(&proof, &found, &mut shown);
            shown.spool = Some(found);
        }
        Err(fault) => shown.faults.push(format!("its spool: {fault}")),
    }
    if shown.faults.is_empty() {
        compare(file, &folder, &proof, args, &mut shown)?;
    }
    Ok(shown)
}

/// Whether the sidecar knows this very file as a repaired one, so that it came after the proof of another. Words only:
/// nobody has signed a sidecar.
fn is_made_anew(file: &Path, sha256: &str) -> bool {
    let json = std::fs::read(format!("{}{}", file.display(), sidecar::ENDING)).unwrap_or_default();
    Sidecar::from_json(&json).is_ok_and(|sidecar| {
        sidecar.clip.state == ClipState::Repaired && sidecar.clip.sha256.as_deref() == Some(sha256)
    })
}

/// Whether the spool is the one that the proof names, to its last record.
fn same_recording(proof: &ClipProof, found: &CheckedSpool, shown: &mut Shown) {
    let named = &proof.spool;
    let links = (named.first_link.as_deref(), named.last_link.as_deref());
    let same = links == (Some(found.first_link.as_str()), Some(found.last_link.as_str()))
        && named.frames == found.frames
        && found.numbers.is_none_or(|numbers| numbers == (named.first_number, named.last_number));
    if !same {
        shown.faults.push("the spool is not the one that the file was made of".to_owned());
    } else if !found.finished || found.signed_frames < found.frames {
        // Said by the signature of the proof, which names the last link.
        shown.facts.push(format!(
            "the node died over this recording: {} of its {} frames were signed as they came, the others when it \
             had been started again",
            found.signed_frames, found.frames
        ));
    }
}

/// Whether each picture of the file shows what the frame of the spool shows.
fn compare(
    file: &Path,
    folder: &Path,
    proof: &ClipProof,
    args: &ProveArgs,
    shown: &mut Shown,
) -> anyhow::Result<()> {
    let mut reader = SpoolReader::open(folder)?;
    let mut comparison = ClipComparison::open(file)?;
    let (mut pictures, mut least, mut least_block) = (0_u64, f64::INFINITY, f64::INFINITY);
    let mut skipped = proof.skipped.iter().copied().peekable();
    loop {
        let frame = match reader.next_item()? {
            SpoolItem::Frame(frame) => frame,
            SpoolItem::Corrupt { .. } => continue,
            SpoolItem::End(_) | SpoolItem::NotYet => break,
        };
        if skipped.next_if_eq(&frame.seq).is_some() {
            continue;
        }
        let likeness = match comparison.next(&frame.bytes, frame.format, frame.since_first)? {
            Ok(Some(likeness)) => likeness,
            Ok(None) => {
                shown.faults.push(format!("frame {} is not in the file", frame.seq));
                return Ok(());
            }
            Err(fault) => {
                shown.faults.push(format!("frame {} cannot be decoded: {fault}", frame.seq));
                return Ok(());
            }
        };
        if !likeness.is_in_time() {
            let (is, due) = likeness.times;
            shown.faults.push(format!("frame {} stands at {is:?} instead of {due:?}", frame.seq));
        }
        if likeness.psnr_db < args.min_psnr || likeness.worst_block_db < args.min_block_psnr {
            shown.faults.push(format!(
                "frame {} shows something else than the file: {:.1} dB, worst block {:.1} dB",
                frame.seq, likeness.psnr_db, likeness.worst_block_db
            ));
        }
        if shown.faults.len() > 20 {
            return Ok(());
        }
        pictures += 1;
        least = least.min(likeness.psnr_db);
        least_block = least_block.min(likeness.worst_block_db);
    }
    if comparison.has_more()? || pictures != proof.frames {
        shown.faults.push(format!("the file has other pictures than the {pictures} frames of the spool"));
    }
    if !proof.skipped.is_empty() {
        shown.facts.push(format!("{} frames cannot be decoded and are not in the file", proof.skipped.len()));
    }
    if shown.faults.is_empty() {
        shown.facts.push(format!(
            "the file shows the {pictures} frames at their times (least likeness {least:.1} dB, of a block \
             {least_block:.1} dB)"
        ));
    }
    Ok(())
}
