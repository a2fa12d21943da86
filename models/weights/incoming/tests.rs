//! Files on their way in: nothing wrong ever stands under its final name.

use proptest::prelude::*;

use super::*;
use crate::weights::testing;

struct Place {
    _temp: tempfile::TempDir,
    folder: Folder,
    lock: PullLock,
    entry: &'static FileEntry,
    right: Vec<u8>,
}

fn place() -> Place {
    let temp = tempfile::tempdir().unwrap();
    let manifest = testing::manifest();
    let folder = Folder::with_manifest(temp.path(), manifest);
    let lock = folder.lock().unwrap();
    let entry = &manifest.get("single").unwrap().files[0];
    Place { _temp: temp, folder, lock, entry, right: testing::content(entry) }
}

impl Place {
    fn open(&self) -> Incoming<'static> {
        Incoming::open(&self.folder, &self.lock, self.entry).unwrap()
    }

    fn final_content(&self) -> Option<Vec<u8>> {
        fs::read(self.folder.file_path(self.entry)).ok()
    }
}

#[test]
fn a_file_arrives_in_pieces_and_over_several_attempts() {
    let place = place();
    let (first, second) = place.right.split_at(1000);
    let mut incoming = place.open();
    incoming.restart(Some("\"v1\"")).unwrap();
    incoming.append(first).unwrap();
    drop(incoming);
    let mut incoming = place.open();
    assert_eq!((incoming.len(), incoming.mark()), (1000, Some("\"v1\"")));
    incoming.append(second).unwrap();
    assert_eq!(place.final_content(), None, "not before it is finished");
    incoming.finish().unwrap();
    assert_eq!(place.final_content().as_ref(), Some(&place.right));
    let left: Vec<_> =
        fs::read_dir(place.folder.path().join("single")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["single.onnx"], "no temporary file stays");
}

#[test]
fn too_short_stays_and_wrong_is_thrown_away() {
    let place = place();
    let mut incoming = place.open();
    incoming.append(&place.right[..10]).unwrap();
    let short = incoming.finish().unwrap_err();
    assert!(
        matches!(short, WeightsError::Refused { damage: Damage::Size { found_bytes: 10, .. }, .. }),
        "{short}"
    );
    let mut incoming = place.open();
    assert_eq!(incoming.len(), 10);
    incoming.append(&vec![0; place.right.len() - 10]).unwrap();
    assert!(matches!(incoming.append(&[0]), Err(WeightsError::Refused { .. })), "one byte too many");
    let wrong = incoming.finish().unwrap_err();
    assert!(matches!(wrong, WeightsError::Refused { damage: Damage::Digest { .. }, .. }), "{wrong}");
    assert_eq!(place.open().len(), 0);
    assert_eq!(place.final_content(), None);
}

#[test]
fn leftovers_that_cannot_be_gone_on_with_are_dropped() {
    let place = place();
    let part = beside(&place.folder.file_path(place.entry), ".part");
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, vec![1; place.right.len() + 5]).unwrap();
    assert_eq!(place.open().len(), 0, "longer than the whole");

    let elsewhere = place.folder.path().join("elsewhere");
    fs::write(&elsewhere, b"precious").unwrap();
    fs::remove_file(&part).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &part).unwrap();
    let mut incoming = place.open();
    incoming.append(&place.right).unwrap();
    incoming.finish().unwrap();
    assert_eq!(fs::read(&elsewhere).unwrap(), b"precious", "a link is not written through");
    assert_eq!(place.final_content().as_ref(), Some(&place.right));
}

#[test]
fn marks_are_one_plain_line() {
    let place = place();
    let mut incoming = place.open();
    for bad in ["a\nb", "\u{e9}", &"x".repeat(MAX_MARK_BYTES + 1)] {
        incoming.restart(Some(bad)).unwrap();
        assert_eq!(incoming.mark(), None);
    }
    incoming.append(&place.right[..10]).unwrap();
    let left = beside(&place.folder.file_path(place.entry), ".part.tag");
    for bad in [b"a\nb".to_vec(), vec![0xff; 9], vec![b'x'; 1 << 20], Vec::new()] {
        fs::write(&left, bad).unwrap();
        assert_eq!((place.open().len(), place.open().mark()), (10, None));
    }
}

#[test]
fn room_is_asked_for_with_a_reserve() {
    let folder = Path::new("models");
    assert!(check_room(folder, RESERVE_BYTES + 10, 10).is_ok());
    let refused = check_room(folder, RESERVE_BYTES + 9, 10).unwrap_err();
    assert!(matches!(refused, WeightsError::NoRoom { free_bytes, .. } if free_bytes == RESERVE_BYTES + 9));
    assert!(check_room(folder, u64::MAX, u64::MAX).is_ok());
}

#[derive(Debug, Clone)]
enum Step {
    /// Bytes of the right file from where we are.
    Right(usize),
    /// Other bytes.
    Wrong(usize, u8),
    Restart,
    Reopen,
    Finish,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1usize..4000).prop_map(Step::Right),
        (1usize..4000, any::<u8>()).prop_map(|(count, byte)| Step::Wrong(count, byte)),
        Just(Step::Restart),
        Just(Step::Reopen),
        Just(Step::Finish),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_happens_nothing_wrong_stands_under_the_final_name(steps in prop::collection::vec(step(), 1..30)) {
        let place = place();
        let mut incoming = place.open();
        for step in steps {
            match step {
                Step::Right(count) => {
                    let at = usize::try_from(incoming.len()).unwrap();
                    let end = place.right.len().min(at + count);
                    incoming.append(&place.right[at..end]).unwrap();
                }
                // May be refused for its length.
                Step::Wrong(count, byte) => drop(incoming.append(&vec![byte; count])),
                Step::Restart => incoming.restart(None).unwrap(),
                Step::Reopen => incoming = place.open(),
                Step::Finish => {
                    drop(incoming.finish());
                    incoming = place.open();
                }
            }
            if let Some(content) = place.final_content() {
                prop_assert_eq!(&content, &place.right);
            }
        }
    }
}
