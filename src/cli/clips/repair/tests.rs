//! Tests of repairs: what a person wants kept stays kept, and what a file shows is found again.

use std::time::Duration;

use meerkat_base::{Image, ImageFormat, PixelFormat};
use meerkat_store::StoreOptions;

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
