//! Tests of copies: consistent, private, few, and refused where there is no room.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::database::{Store, StoreOptions};
use crate::testing::{alert, event, store};

fn names(folder: &Path) -> Vec<String> {
    let listing = std::fs::read_dir(folder.join(FOLDER)).unwrap();
    let mut names: Vec<_> = listing.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_nightly_copy_is_whole_while_others_write() {
    let (folder, mut store) = store();
    for n in 0..200 {
        store.start_event(&event(n), &[alert("wecom")]).unwrap();
    }
    let reader = StoreReader::open(folder.path()).unwrap();
    let mut steps = 0;
    let file = reader
        .nightly_backup(WallTime(1_795_210_274_000_000), 7, &mut |_, _, _| {
            // The writer goes on, and none of it is in the copy.
            store.start_event(&event(u8::try_from(200 + steps).unwrap()), &[]).unwrap();
            steps += 1;
        })
        .unwrap();
    assert!(steps > 0);
    let copy = open_copy(&file.path).unwrap();
    let count: i64 = copy.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 200);
    assert_eq!(names(folder.path()), [file.name.as_str()], "no log beside it, nothing unfinished");
    assert_eq!(std::fs::metadata(&file.path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(std::fs::metadata(&file.path).unwrap().len(), file.bytes);
}

#[test]
fn only_so_many_copies_are_kept_and_the_newest_good_one_is_found() {
    let (folder, mut store) = store();
    for n in 1..=5 {
        store.start_event(&event(n), &[]).unwrap();
        store.nightly_backup(WallTime(i64::from(n) * 86_400_000_000), 3, &mut |_, _, _| {}).unwrap();
    }
    let found = list(folder.path()).unwrap();
    assert_eq!(found.len(), 3);
    assert!(found[0].at > found[1].at && found[1].at > found[2].at);
    // The newest is cut, the one before is of another program.
    std::fs::OpenOptions::new().write(true).open(&found[0].path).unwrap().set_len(9_000).unwrap();
    std::fs::write(&found[1].path, b"dear diary").unwrap();
    let (good, copy) = newest_good(folder.path()).unwrap().unwrap();
    assert_eq!(good.name, found[2].name);
    let count: i64 = copy.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 3);
}

#[test]
fn no_copy_goes_while_deletion_is_suspended() {
    let (folder, mut store) = store();
    let copy = |store: &Store, day: i64| {
        store.nightly_backup(WallTime(day * 86_400_000_000), 2, &mut |_, _, _| {}).unwrap();
        list(folder.path()).unwrap().len()
    };
    assert_eq!((1..=3).map(|day| copy(&store, day)).collect::<Vec<_>>(), [1, 2, 2]);
    store.suspend_deletion("it was rebuilt", WallTime(0)).unwrap();
    assert_eq!((4..=9).map(|day| copy(&store, day)).collect::<Vec<_>>(), [3, 4, 5, 6, 7, 8]);
    store.confirm().unwrap();
    assert_eq!(copy(&store, 10), 2);
}

#[test]
fn a_damaged_database_gives_no_copy_and_takes_none_away() {
    use std::os::unix::fs::FileExt;
    let (folder, mut store) = store();
    for n in 0..200 {
        store.start_event(&event(n), &[alert("wecom")]).unwrap();
    }
    store.nightly_backup(WallTime(1), 1, &mut |_, _, _| {}).unwrap();
    let question = "SELECT rootpage FROM sqlite_schema WHERE name = 'outbox'";
    let page: i64 = store.raw().query_row(question, [], |row| row.get(0)).unwrap();
    drop(store);
    let file = std::fs::OpenOptions::new().write(true).open(folder.path().join("meerkat.db")).unwrap();
    file.write_all_at(&[0x5a; 64], (u64::try_from(page).unwrap() - 1) * 4096).unwrap();
    drop(file);
    let reader = StoreReader::open(folder.path()).unwrap();
    let error = reader.nightly_backup(WallTime(2), 1, &mut |_, _, _| {}).unwrap_err();
    assert!(error.is_damage(), "{error}");
    let left = list(folder.path()).unwrap();
    assert_eq!((left.len(), left[0].at.as_str()), (1, WallTime(1).compact().as_str()));
    assert_eq!(names(folder.path()).len(), 1, "nothing unfinished");
}

/// A database as it was before the last step, with one event in it.
fn older(folder: &Path) {
    let path = folder.join("meerkat.db");
    let mut connection = Connection::open(&path).unwrap();
    migrate::forward(&mut connection, &path, &STEPS[..1]).unwrap();
    connection
        .execute_batch(
            "INSERT INTO events VALUES (1, '01930000-0000-7000-8000-000000000001', 'door', 'face', 'ended', 5, 1, 6, 0.5,
                 '[\"Ada\",\"unknown\"]', 0);",
        )
        .unwrap();
}

#[test]
fn the_schema_changes_only_after_a_copy() {
    let temp = tempfile::tempdir().unwrap();
    older(temp.path());
    for now in [1, 2] {
        let options = StoreOptions { now: WallTime(now), ..StoreOptions::default() };
        let store = Store::open(temp.path(), options).unwrap();
        assert_eq!(store.event_count().unwrap(), 1);
    }
    let copies = list(temp.path()).unwrap();
    assert_eq!(copies.len(), 1, "the second time nothing was to be done");
    assert!(copies[0].name.starts_with("before-schema-1-1970"), "{}", copies[0].name);
    let copy = Connection::open(&copies[0].path).unwrap();
    assert_eq!(migrate::look(&copy, &copies[0].path).unwrap(), Found::Version(1));
    drop(copy);
    let temp = tempfile::tempdir().unwrap();
    older(temp.path());
    let options = StoreOptions { backup_before_migration: false, ..StoreOptions::default() };
    Store::open(temp.path(), options).unwrap();
    assert!(!temp.path().join(FOLDER).exists());
}

#[test]
fn without_a_copy_the_old_database_stays_as_it_is() {
    let temp = tempfile::tempdir().unwrap();
    older(temp.path());
    let before = std::fs::read(temp.path().join("meerkat.db")).unwrap();
    // A file where the folder of copies should be.
    std::fs::write(temp.path().join(FOLDER), b"x").unwrap();
    let error = Store::open(temp.path(), StoreOptions::default()).unwrap_err();
    assert!(matches!(error, StoreError::NotAFolder { .. }), "{error}");
    let path = temp.path().join("meerkat.db");
    let connection = Connection::open(&path).unwrap();
    assert_eq!(migrate::look(&connection, &path).unwrap(), Found::Version(1));
    drop(connection);
    // But for the mark of the log in the header nothing has changed.
    let after = std::fs::read(&path).unwrap();
    assert_eq!(before[100..], after[100..]);
}
