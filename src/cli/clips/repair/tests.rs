//! Tests of repairs: what a person wants kept stays kept, and what a file shows is found again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use meerkat_base::{Frame, Image, ImageFormat, Mode, MonoTime, PixelFormat};
use meerkat_media::{ClipSettings, ClipSize, ClipWriter};
use meerkat_store::evidence::{ClipProof, SigningKeyFile, SpoolSigning, read_proof, sign_proof};
use meerkat_store::{Durability, PROOF_ENDING, SpoolKind, SpoolMeta, SpoolWriter, StoreOptions, spool};

use super::*;

const AT: WallTime = WallTime(1_795_210_274_123_456);
const DAY: &str = "capture/clip/door/2026-11-20";

fn settings(folder: &Path) -> Settings {
    let env = [("MEERKAT__DATA_DIR".to_owned(), folder.display().to_string())];
    Settings::load(&[], env.into_iter()).unwrap()
}

fn store() -> (tempfile::TempDir, Settings, Store) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join(DAY)).unwrap();
    let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
    let settings = settings(folder.path());
    (folder, settings, store)
}

fn jpeg(shade: u8) -> Vec<u8> {
    let image = Image::new(64, 48, PixelFormat::Bgr8, vec![shade; 64 * 48 * 3]).unwrap();
    meerkat_media::encode_jpeg(&image, 80).unwrap().to_vec()
}

/// A file that can be played.
fn film(path: &Path) {
    let settings = ClipSettings { size: ClipSize::AsReceived, ..ClipSettings::default() };
    let mut writer = ClipWriter::create(path, settings).unwrap();
    for n in 0..3_u8 {
        let at = Duration::from_millis(40 * u64::from(n));
        drop(writer.push(&jpeg(n * 50), ImageFormat::Jpeg, at).unwrap());
    }
    writer.finish().unwrap();
}

fn event() -> EventId {
    EventId::new(AT, [7; 10])
}

/// Path of a clip as an encoder names it.
fn path() -> String {
    format!("{DAY}/{}_{}_{:016x}.mp4", AT.compact(), event(), 7)
}

fn row(settings: &Settings, path: &str) -> ClipRow {
    let file = settings.data_dir.join(path);
    ClipRow {
        event: Some(event()),
        camera: CameraId::parse("door").unwrap(),
        path: path.to_owned(),
        started: AT,
        duration: Duration::from_millis(80),
        frames: 3,
        bytes: std::fs::metadata(&file).unwrap().len(),
        sha256: Some(sha256_of(&file).unwrap()),
        state: ClipState::Ok,
        skipped: 0,
        missing: None,
    }
}

fn mend(settings: &Settings, store: &mut Store, wrong: Wrong, path: &str) -> Option<String> {
    let finding = Finding { wrong, path: path.to_owned(), detail: String::new() };
    repair(settings, store, &finding, AT).unwrap()
}

#[test]
fn a_clip_that_has_its_row_again_is_kept_when_its_sidecar_says_so() {
    for keep in [false, true] {
        let (_folder, settings, mut store) = store();
        let path = path();
        film(&settings.data_dir.join(&path));
        store.add_clip(&row(&settings, &path)).unwrap();
        store.write_sidecar(&path, Some(keep)).unwrap();
        let lost = store.begin_deletion(std::slice::from_ref(&path)).unwrap();
        store.finish_deletion(&lost).unwrap();
        assert_eq!(store.clip_at(&path).unwrap(), None);
        let words = mend(&settings, &mut store, Wrong::Orphan, &path).unwrap();
        assert!(words.contains("by its sidecar"), "{words}");
        assert_eq!(store.clip_at(&path).unwrap().unwrap().event, Some(event()));
        assert_eq!(store.is_kept(&path).unwrap(), keep);
    }
}

#[test]
fn a_clip_without_a_good_sidecar_is_of_its_event_again_and_one_with_a_bad_one_is_kept() {
    for bad in [false, true] {
        let (_folder, settings, mut store) = store();
        let path = path();
        film(&settings.data_dir.join(&path));
        if bad {
            std::fs::write(settings.data_dir.join(sidecar::path_of(&path)), b"{").unwrap();
        }
        mend(&settings, &mut store, Wrong::Orphan, &path).unwrap();
        let found = store.clip_at(&path).unwrap().unwrap();
        assert_eq!((found.event, found.started, found.frames), (Some(event()), AT, 3));
        let said = sidecar::read(&settings.data_dir, &path).unwrap().unwrap();
        assert_eq!((said.unknown_events, said.keep), (vec![event()], bad));
        assert_eq!(store.is_kept(&path).unwrap(), bad);
    }
    // As earlier versions named them, and as videos are named.
    let (_folder, settings, mut store) = store();
    for (path, of) in [
        (format!("{DAY}/{}_{}.mp4", AT.compact(), event()), Some(event())),
        (format!("capture/video/door/2026-11-20/{}_door_{:016x}.mp4", AT.compact(), 7), None),
    ] {
        let file = settings.data_dir.join(&path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        film(&file);
        mend(&settings, &mut store, Wrong::Orphan, &path).unwrap();
        assert_eq!(store.clip_at(&path).unwrap().unwrap().event, of);
    }
}

#[test]
fn a_sidecar_that_is_gone_is_written_with_the_flag_of_the_row() {
    let (_folder, settings, mut store) = store();
    let path = path();
    film(&settings.data_dir.join(&path));
    store.add_clip(&row(&settings, &path)).unwrap();
    store.keep(&KeepTarget::Path(path.clone()), true).unwrap();
    mend(&settings, &mut store, Wrong::Sidecar, &path).unwrap();
    assert!(sidecar::read(&settings.data_dir, &path).unwrap().unwrap().keep);
}

#[test]
fn a_snapshot_has_a_row_again_and_one_that_is_not_ours_is_left_alone() {
    let (_folder, settings, mut store) = store();
    let (ours, foreign) = (format!("{DAY}/{}_{}.jpg", AT.compact(), event()), format!("{DAY}/holiday.jpg"));
    for path in [&ours, &foreign] {
        std::fs::write(settings.data_dir.join(path), jpeg(9)).unwrap();
    }
    assert!(mend(&settings, &mut store, Wrong::OrphanSnapshot, &ours).is_some());
    assert_eq!(mend(&settings, &mut store, Wrong::OrphanSnapshot, &foreign), None);
    assert!(store.has_snapshot(&ours).unwrap() && !store.has_snapshot(&foreign).unwrap());
}

/// A video whose file is gone and whose spool, of three frames, is kept; it was to be 32x32 pixels. Returns its path.
fn lost_video(
    settings: &Settings,
    store: &mut Store,
    signing: Option<&SpoolSigning>,
    finish: bool,
) -> String {
    let path = format!("capture/video/door/2026-11-20/{}_door_{:016x}.mp4", AT.compact(), 7);
    let file = settings.data_dir.join(&path);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    film(&file);
    store.add_clip(&ClipRow { event: None, ..row(settings, &path) }).unwrap();
    std::fs::remove_file(file).unwrap();
    let meta = SpoolMeta {
        camera: CameraId::parse("door").unwrap(),
        kind: SpoolKind::Video,
        started: AT,
        mode: Mode::Video,
        settings: serde_json::json!({ "pixels": { "width": 32, "height": 32 } }),
    };
    let (root, line) = (settings.data_dir.join("spool"), signing.map(SpoolSigning::new_line));
    let mut writer = SpoolWriter::create_in_chain(&root, &meta, Durability::Process, line.as_ref()).unwrap();
    for n in 0..3_u8 {
        let micros = 40_000 * i64::from(n);
        let frame = Frame {
            proven: false,
            camera: meta.camera.clone(),
            seq: u64::from(n) + 1,
            wall: AT.offset_micros(micros),
            mono: MonoTime(1_000_000_000 + 40_000_000 * u64::from(n)),
            format: ImageFormat::Jpeg,
            width: 64,
            height: 48,
            bytes: jpeg(n * 50).into(),
        };
        writer.append(&frame).unwrap();
    }
    let made = if finish { writer.finish().unwrap().path } else { writer.path().to_owned() };
    spool::keep(&made, &path).unwrap();
    path
}

fn signing(settings: &Settings) -> SpoolSigning {
    let key = SigningKeyFile::create(&settings.signing.key_path(&settings.data_dir)).unwrap();
    // Only the first frame and the end are signed as they come.
    SpoolSigning::new(Arc::new(key), "b1", Duration::from_secs(60))
}

/// A proof of a file that is no more.
fn old_proof(settings: &Settings, path: &str, signing: &SpoolSigning, change: impl FnOnce(&mut ClipProof)) {
    let kept = spool::kept_of(&settings.data_dir.join("spool"), path).unwrap().unwrap();
    let found = meerkat_store::evidence::check_spool(&kept.path, &signing.key().public()).unwrap();
    let mut proof = ClipProof {
        format: 1,
        boot: "b1".to_owned(),
        made: 1,
        camera: "door".to_owned(),
        event: None,
        path: path.to_owned(),
        sha256: "ab".repeat(32),
        bytes: 1,
        started: AT.0,
        frames: 3,
        skipped: Vec::new(),
        spool: meerkat_store::evidence::SpoolNote {
            name: kept.path.file_name().unwrap().to_str().unwrap().to_owned(),
            frames: 3,
            first_number: 1,
            last_number: 3,
            first_link: Some(found.first_link),
            last_link: Some(found.last_link),
            whole: true,
            finished: found.finished,
        },
    };
    change(&mut proof);
    let beside = settings.data_dir.join(format!("{path}{PROOF_ENDING}"));
    std::fs::write(beside, sign_proof(signing.key(), &proof)).unwrap();
}

fn proof(settings: &Settings, path: &str, signing: &SpoolSigning) -> ClipProof {
    let text = std::fs::read_to_string(settings.data_dir.join(format!("{path}{PROOF_ENDING}"))).unwrap();
    read_proof(&text, &signing.key().public()).unwrap()
}

#[test]
fn a_video_that_is_made_anew_has_the_size_that_its_spool_notes() {
    let (_folder, settings, mut store) = store();
    let path = lost_video(&settings, &mut store, None, true);
    let words = mend(&settings, &mut store, Wrong::Missing, &path).unwrap();
    assert_eq!(words, "made anew from its spool: 3 frames", "nobody signs here");
    let found = probe(&settings.data_dir.join(&path)).unwrap();
    assert_eq!((found.width, found.height, found.frames), (32, 32, 3));
    assert!(!settings.data_dir.join(format!("{path}{PROOF_ENDING}")).exists());
}

#[test]
fn a_signed_file_that_is_made_anew_is_signed_again() {
    // One whose node died is covered by the proof of the file before, which names its last link.
    for finish in [true, false] {
        let (_folder, settings, mut store) = store();
        let signing = signing(&settings);
        let path = lost_video(&settings, &mut store, Some(&signing), finish);
        old_proof(&settings, &path, &signing, |_| {});
        let words = mend(&settings, &mut store, Wrong::Missing, &path).unwrap();
        assert!(words.ends_with("and signed again"), "{words}");
        let proof = proof(&settings, &path, &signing);
        assert_eq!(proof.sha256, sha256_of(&settings.data_dir.join(&path)).unwrap());
        assert_eq!((proof.frames, proof.spool.frames, proof.spool.whole), (3, 3, true));
        assert_eq!((proof.spool.first_number, proof.spool.last_number, proof.spool.finished), (1, 3, finish));
    }
}

#[test]
fn what_no_signature_covers_and_what_was_altered_is_not_signed_again_and_the_old_proof_stays() {
    fn check(finish: bool, spoil: &dyn Fn(&Settings, &str, &SpoolSigning), why: &str) {
        let (_folder, settings, mut store) = store();
        let signing = signing(&settings);
        let path = lost_video(&settings, &mut store, Some(&signing), finish);
        old_proof(&settings, &path, &signing, |_| {});
        spoil(&settings, &path, &signing);
        let words = mend(&settings, &mut store, Wrong::Missing, &path).unwrap();
        assert!(words.contains("not signed again") && words.contains(why), "{words}");
        assert_eq!(proof(&settings, &path, &signing).sha256, "ab".repeat(32));
    }
    check(
        true,
        &|settings, _, _| {
            std::fs::remove_file(settings.signing.key_path(&settings.data_dir)).unwrap();
        },
        "the key cannot be read",
    );
    check(
        false,
        &|settings, path, signing| {
            old_proof(settings, path, signing, |proof| proof.spool.last_link = None);
        },
        "no signature covers",
    );
    check(
        true,
        &|settings, path, _| {
            let kept = spool::kept_of(&settings.data_dir.join("spool"), path).unwrap().unwrap();
            let frames = kept.path.join("frames");
            let mut bytes = std::fs::read(&frames).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(frames, bytes).unwrap();
        },
        "its spool: record",
    );
}
