//! Unknown faces: grouped, bounded, expiring, gone with whoever is removed, and sorted out after a crash.

use std::path::Path;

use meerkat_base::ImageFormat;

use super::*;
use crate::database::StoreOptions;
use crate::faces::{Consent, Enrolling, FacePicture, Forgotten};
use crate::testing::store;

const LIMITS: UnknownLimits = UnknownLimits { likeness: 0.5, groups: 3, pictures: 2, bytes: 1_000 };

/// A face in this direction, seen at this second.
fn face(degrees: f32, second: i64) -> NewUnknown {
    let values = vec![degrees.to_radians().cos(), degrees.to_radians().sin()];
    NewUnknown {
        camera: CameraId::parse("door").unwrap(),
        at: WallTime(second * 1_000_000),
        width_px: 50.0,
        jpeg: format!("face {degrees} at {second}").into_bytes(),
        embedding: Embedding { space: "net".into(), values },
    }
}

fn keep(store: &mut Store, degrees: f32, second: i64) -> KeptUnknown {
    store.keep_unknown(&face(degrees, second), &LIMITS).unwrap()
}

fn kept(group: u64) -> KeptUnknown {
    KeptUnknown::Kept { group, gave_way: 0 }
}

fn groups(store: &Store) -> Vec<(u64, u64, u64)> {
    store.unknown_groups().unwrap().iter().map(|group| (group.group, group.pictures, group.seen)).collect()
}

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder.join(UNKNOWN)).map_or(0, Iterator::count)
}

#[test]
fn faces_that_are_alike_are_one_group() {
    let (folder, mut store) = store();
    assert_eq!(store.unknown_totals().unwrap(), UnknownTotals::default());
    assert_eq!(keep(&mut store, 0.0, 1), kept(1));
    assert_eq!(keep(&mut store, 5.0, 2), KeptUnknown::Repeated(1), "cosine 0.996");
    assert_eq!(keep(&mut store, 30.0, 3), kept(1));
    assert_eq!(keep(&mut store, 180.0, 4), kept(2));
    assert_eq!(keep(&mut store, 88.0, 5), KeptUnknown::Full(1), "like the one at 30");
    let mut wider = face(60.0, 6);
    wider.width_px = 62.5;
    assert_eq!(store.keep_unknown(&wider, &LIMITS).unwrap(), kept(1), "a narrower one gives way");
    let mut other_net = face(0.0, 7);
    other_net.embedding.space = "other".into();
    assert_eq!(store.keep_unknown(&other_net, &LIMITS).unwrap(), kept(3), "nothing to compare with");
    assert_eq!(groups(&store), [(3, 1, 1), (1, 2, 5), (2, 1, 1)], "the one that was seen last first");
    let first = &store.unknown_groups().unwrap()[1];
    assert_eq!((first.first, first.last), (WallTime(1_000_000), WallTime(6_000_000)));
    assert_eq!(first.cameras, ["door"]);
    let pictures = store.unknown_pictures(1).unwrap();
    assert_eq!(std::fs::read(&pictures[1].path).unwrap(), wider.jpeg);
    assert_eq!((store.unknown_totals().unwrap().pictures, files(folder.path())), (4, 4));
    assert!(store.unknown_pictures(9).unwrap().is_empty());
}

#[test]
fn there_are_not_too_many_groups_nor_bytes_and_the_oldest_give_way() {
    let (folder, mut store) = store();
    for (n, degrees) in [0.0, 90.0, 180.0].into_iter().enumerate() {
        keep(&mut store, degrees, n as i64);
    }
    // The first one is seen again: the second is the oldest now.
    assert_eq!(keep(&mut store, 1.0, 10), KeptUnknown::Repeated(1));
    assert_eq!(keep(&mut store, 270.0, 11), KeptUnknown::Kept { group: 4, gave_way: 1 });
    assert_eq!(groups(&store).iter().map(|group| group.0).collect::<Vec<_>>(), [4, 1, 3]);
    assert_eq!(files(folder.path()), 3);
    let few_bytes = UnknownLimits { bytes: 30, ..LIMITS };
    let result = store.keep_unknown(&face(40.0, 12), &few_bytes).unwrap();
    assert_eq!(result, KeptUnknown::Kept { group: 1, gave_way: 2 }, "never its own group");
    let too_small = UnknownLimits { bytes: 5, ..LIMITS };
    assert_eq!(store.keep_unknown(&face(200.0, 13), &too_small).unwrap(), KeptUnknown::NoRoom);
    // Nothing is deleted while that is suspended.
    store.suspend_deletion("for the test", WallTime(1)).unwrap();
    let one = UnknownLimits { groups: 1, ..LIMITS };
    assert_eq!(store.keep_unknown(&face(200.0, 14), &one).unwrap(), KeptUnknown::NoRoom);
    assert_eq!(groups(&store).len(), 1);
}

#[test]
fn what_is_no_face_is_refused_and_leaves_nothing() {
    let (folder, mut store) = store();
    let mut bad = [face(0.0, 1), face(0.0, 1), face(0.0, 1), face(0.0, 1)];
    bad[0].jpeg.clear();
    bad[1].jpeg = vec![0; MAX_BYTES + 1];
    bad[2].width_px = f32::NAN;
    bad[3].embedding.values.clear();
    for bad in bad {
        assert!(matches!(store.keep_unknown(&bad, &LIMITS), Err(StoreError::Refused(_))));
    }
    store
        .raw()
        .execute_batch(
            "CREATE TEMP TRIGGER fail BEFORE INSERT ON unknown_faces BEGIN SELECT RAISE(ABORT, 'injected'); END",
        )
        .unwrap();
    assert!(store.keep_unknown(&face(0.0, 1), &LIMITS).is_err());
    assert_eq!((groups(&store).len(), files(folder.path())), (0, 0));
}

#[test]
fn they_go_when_their_time_is_over_and_numbers_are_never_given_again() {
    let (folder, mut store) = store();
    for (degrees, second) in [(0.0, 1), (30.0, 5), (180.0, 2)] {
        keep(&mut store, degrees, second);
    }
    assert_eq!(store.tidy_unknown(None, 10).unwrap(), Tidied::default(), "not by age");
    let tidied = store.tidy_unknown(Some(WallTime(3_000_000)), 10).unwrap();
    assert_eq!(tidied, Tidied { expired: 2, orphans: 0, more: false });
    assert_eq!((groups(&store), files(folder.path())), (vec![(1, 1, 2)], 1));
    let tidied = store.tidy_unknown(Some(WallTime(i64::MAX)), 1).unwrap();
    assert!(tidied.more && groups(&store).is_empty());
    assert_eq!(keep(&mut store, 180.0, 9), kept(3));
    assert!(store.delete_unknown(3).unwrap() && !store.delete_unknown(3).unwrap());
    assert_eq!(files(folder.path()), 0);
}

#[test]
fn a_crash_at_any_step_is_sorted_out_by_the_next_start() {
    let (folder, mut store) = store();
    for degrees in [0.0, 180.0] {
        keep(&mut store, degrees, 1);
    }
    let own = folder.path().join(UNKNOWN);
    let paths: Vec<_> = [1, 2].map(|group| store.unknown_pictures(group).unwrap().remove(0).path).into();
    // Its row is written, its name is not; another is marked and its file still there; a third was never written.
    let name = paths[0].file_name().unwrap().to_str().unwrap();
    std::fs::rename(&paths[0], own.join(part(name))).unwrap();
    std::fs::write(own.join(part("never.jpg")), b"x").unwrap();
    store.raw().execute("UPDATE unknown_faces SET deleting = 1 WHERE number = 2", []).unwrap();
    assert_eq!(groups(&store), [(1, 1, 1)], "what is marked is not shown");
    drop(store);
    let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
    assert_eq!((groups(&store), files(folder.path())), (vec![(1, 1, 1)], 1));
    assert!(paths[0].is_file());
}

#[test]
fn files_and_rows_that_a_restored_database_does_not_match_go() {
    let (folder, mut store) = store();
    for degrees in [0.0, 180.0] {
        keep(&mut store, degrees, 1);
    }
    std::fs::remove_file(&store.unknown_pictures(1).unwrap()[0].path).unwrap();
    std::fs::write(folder.path().join(UNKNOWN).join("of-nobody.jpg"), b"x").unwrap();
    assert_eq!(store.tidy_unknown(None, 10).unwrap().orphans, 2);
    assert_eq!((groups(&store), files(folder.path())), (vec![(2, 1, 1)], 1));
    std::fs::remove_dir_all(folder.path().join(UNKNOWN)).unwrap();
    assert_eq!(store.tidy_unknown(None, 10).unwrap().orphans, 1);
    assert_eq!(groups(&store), []);
}

#[test]
fn copies_of_the_database_hold_no_unknown_faces() {
    let (folder, mut store) = store();
    keep(&mut store, 0.0, 1);
    let copy = store.nightly_backup(WallTime(0), 1, &mut |_, _, _| {}).unwrap();
    let copy = Connection::open(copy.path).unwrap();
    let rows: i64 = copy
        .query_row(
            "SELECT (SELECT count(*) FROM unknown_faces) + (SELECT count(*) FROM unknown_groups)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!((rows, groups(&store).len(), files(folder.path())), (0, 1, 1));
}

fn consent() -> Consent {
    Consent { by: "herself".into(), at: WallTime(1) }
}

#[test]
fn a_group_becomes_a_person_and_is_gone() {
    let (folder, mut store) = store();
    keep(&mut store, 0.0, 1);
    keep(&mut store, 180.0, 1);
    let bytes = std::fs::read(&store.unknown_pictures(1).unwrap()[0].path).unwrap();
    let embedding = face(0.0, 1).embedding;
    let picture = FacePicture { bytes: &bytes, format: ImageFormat::Jpeg, embedding: Some(&embedding) };
    let consent = consent();
    let enrolling = Enrolling { name: "Ada", pictures: &[picture], consent: &consent, group: Some(1) };
    let ada = store.enrol_faces(&enrolling, WallTime(2)).unwrap();
    assert_eq!(ada.pictures, 1);
    assert_eq!((groups(&store), files(folder.path())), (vec![(2, 1, 1)], 1));
    assert_eq!(std::fs::read(&store.gallery().unwrap()[0].1[0]).unwrap(), bytes);
    assert_eq!(store.face_embeddings("net").unwrap(), [("Ada".to_owned(), embedding.values)]);
    assert!(store.faces_to_embed("net", None).unwrap().is_empty());
    let left = store.faces_to_embed("other", Some(&ada.id.to_string())).unwrap();
    assert_eq!(left.len(), 1);
    store.set_face_embeddings("other", &[(left[0].0.clone(), None)]).unwrap();
    assert!(store.faces_to_embed("other", None).unwrap().is_empty(), "nothing to compare in it");
    assert_eq!(store.face_embeddings("other").unwrap(), []);
}

#[test]
fn with_a_person_goes_whatever_is_like_them() {
    let (folder, mut store) = store();
    let consent = consent();
    for (name, degrees) in [("Ada", 0.0), ("Bob", 180.0)] {
        let embedding = face(degrees, 1).embedding;
        let picture = FacePicture { bytes: b"x", format: ImageFormat::Jpeg, embedding: Some(&embedding) };
        let enrolling = Enrolling { name, pictures: &[picture], consent: &consent, group: None };
        store.enrol_faces(&enrolling, WallTime(2)).unwrap();
        // Of each a negative that shows the other one.
        let other = face(180.0 - degrees, 1).embedding;
        let negative = FacePicture { embedding: Some(&other), ..picture };
        store.add_negative(name, &negative, None, WallTime(3)).unwrap().unwrap();
    }
    // One group with a face that is like hers and one that is hardly so; another group.
    for degrees in [50.0, 80.0, 170.0] {
        keep(&mut store, degrees, 5);
    }
    let forgotten = store.remove_person("Ada", 0.6).unwrap().unwrap();
    assert_eq!(forgotten, Forgotten { unknown_groups: 1, negatives: 1 });
    assert_eq!(groups(&store), [(2, 1, 1)]);
    assert_eq!(files(folder.path()), 1);
    assert_eq!(store.people().unwrap()[0].name, "Bob");
    assert_eq!(store.negative_count().unwrap(), 0, "hers went with her, and so did the one that showed her");
    assert_eq!(store.face_embeddings("net").unwrap().len(), 1);
}

#[test]
fn a_removal_that_was_cut_off_is_finished_and_the_name_is_free_at_once() {
    let (folder, mut store) = store();
    let consent = consent();
    let enrol =
        |store: &mut Store| store.enrol("Ada", &[(b"x", ImageFormat::Jpeg)], &consent, WallTime(1)).unwrap();
    let first = enrol(&mut store);
    store.raw().execute("UPDATE people SET deleting = 1", []).unwrap();
    assert_eq!((store.people().unwrap().len(), store.gallery().unwrap().len()), (0, 0), "nobody sees her");
    let second = enrol(&mut store);
    assert_ne!(first.id, second.id);
    assert!(!folder.path().join("faces").join(first.id.to_string()).exists());
    store.raw().execute("UPDATE people SET deleting = 1", []).unwrap();
    drop(store);
    let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
    let left: i64 = store.raw().query_row("SELECT count(*) FROM people", [], |row| row.get(0)).unwrap();
    assert_eq!((left, std::fs::read_dir(folder.path().join("faces")).unwrap().count()), (0, 0));
}
