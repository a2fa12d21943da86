//! Tests of whole backups: there and back, and everything that is refused.

use meerkat_base::ImageFormat;

use super::*;
use crate::database::Store;
use crate::faces::Consent;
use crate::testing::{alert, event, store};

fn filled() -> (tempfile::TempDir, Store) {
    let (folder, mut store) = store();
    store.start_event(&event(1), &[alert("wecom")]).unwrap();
    enrol(&mut store, "Ada");
    std::fs::create_dir(folder.path().join("keys")).unwrap();
    std::fs::write(folder.path().join("keys/signing.key"), b"secret").unwrap();
    (folder, store)
}

fn enrol(store: &mut Store, name: &str) {
    let consent = Consent { by: name.to_owned(), at: WallTime(1) };
    store.enrol(name, &[(b"jpeg", ImageFormat::Jpeg)], &consent, WallTime(1)).unwrap();
}

fn quiet() -> impl FnMut(&str, u64, u64) {
    |_: &str, _, _| {}
}

#[test]
fn a_backup_goes_there_and_back_while_a_node_runs() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, mut store) = filled();
    let shelf = tempfile::tempdir().unwrap();
    let to = shelf.path().join("monday");
    let manifest = save(folder.path(), &to, "1.2.3", WallTime(5), &mut quiet()).unwrap();
    assert_eq!(manifest.files.len(), 3);
    assert_eq!(super::manifest(&to).unwrap(), manifest);
    assert_eq!(std::fs::read_dir(shelf.path()).unwrap().count(), 1);
    for (path, mode) in [("", 0o700), ("meerkat.db", 0o600), ("keys/signing.key", 0o600)] {
        let found = std::fs::metadata(to.join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(found, mode, "{path}");
    }
    assert!(matches!(
        save(folder.path(), &to, "1", WallTime(5), &mut quiet()),
        Err(StoreError::Exists { .. })
    ));

    // What comes after the backup, and what is lost with it.
    store.start_event(&event(2), &[]).unwrap();
    enrol(&mut store, "Eve");
    assert!(matches!(DataLock::take(folder.path()), Err(StoreError::Locked { .. })), "not beside a node");
    drop(store);
    let lock = DataLock::take(folder.path()).unwrap();
    let options = StoreOptions { now: WallTime(9_000_000), ..StoreOptions::default() };
    let restored = restore(&lock, options, &to, &mut quiet()).unwrap();
    assert_eq!(restored.dead_alerts, 1);
    let store = Store::open_under(&lock, options).unwrap();
    assert_eq!(store.event_count().unwrap(), 1);
    let gallery = store.gallery().unwrap();
    assert_eq!(gallery.len(), 1);
    assert_eq!(
        (gallery[0].0.as_str(), std::fs::read(&gallery[0].1[0]).unwrap().as_slice()),
        ("Ada", &b"jpeg"[..])
    );
    assert_eq!(std::fs::read(folder.path().join("keys/signing.key")).unwrap(), b"secret");
    assert!(store.deletion_suspended().unwrap().unwrap().reason.contains("restored"));
    for kept in ["meerkat.db", "faces", "keys/signing.key"] {
        assert!(restored.aside.join(kept).exists(), "{kept}");
    }
    let old = rusqlite::Connection::open(restored.aside.join("meerkat.db")).unwrap();
    let events: i64 = old.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap();
    assert_eq!(events, 2);
}

#[test]
fn who_was_removed_since_the_backup_does_not_come_back_with_it() {
    let (folder, mut store) = filled();
    enrol(&mut store, "Bob");
    let shelf = tempfile::tempdir().unwrap();
    let to = shelf.path().join("monday");
    save(folder.path(), &to, "1.2.3", WallTime(5), &mut quiet()).unwrap();
    store.remove_person("Ada", 0.4).unwrap();
    drop(store);
    let lock = DataLock::take(folder.path()).unwrap();
    let restored = || {
        let rebuilt = restore(&lock, StoreOptions::default(), &to, &mut quiet()).unwrap();
        let store = Store::open_under(&lock, StoreOptions::default()).unwrap();
        let names: Vec<String> = store.people().unwrap().into_iter().map(|person| person.name).collect();
        let folders = std::fs::read_dir(folder.path().join("faces")).unwrap().count();
        (rebuilt.removed_people, names, folders)
    };
    assert_eq!(restored(), (1, vec!["Bob".to_owned()], 1), "neither her row nor her pictures");
    // Whoever takes the note away wants the person back.
    std::fs::remove_dir_all(folder.path().join("backup/removed")).unwrap();
    assert_eq!(restored(), (0, vec!["Ada".to_owned(), "Bob".to_owned()], 2));
}

#[test]
fn a_backup_that_is_not_whole_changes_nothing() {
    let (folder, store) = filled();
    let shelf = tempfile::tempdir().unwrap();
    let to = shelf.path().join("monday");
    let manifest = save(folder.path(), &to, "1.2.3", WallTime(5), &mut quiet()).unwrap();
    drop(store);
    let picture = &manifest.files.iter().find(|file| file.path.starts_with("faces/")).unwrap().path;
    let text = std::fs::read_to_string(to.join(MANIFEST)).unwrap();
    let lock = DataLock::take(folder.path()).unwrap();
    let names = || {
        let mut names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = (names(), std::fs::read(folder.path().join("meerkat.db")).unwrap());
    let database = std::fs::read(to.join("meerkat.db")).unwrap();
    type Spoil<'a> = Box<dyn Fn() + 'a>;
    let spoils: Vec<(&str, Spoil<'_>)> = vec![
        ("a picture", Box::new(|| std::fs::write(to.join(picture), b"jpfg").unwrap())),
        ("a cut database", Box::new(|| std::fs::write(to.join("meerkat.db"), &database[..8_192]).unwrap())),
        ("no database", Box::new(|| std::fs::remove_file(to.join("meerkat.db")).unwrap())),
        (
            "a way out",
            Box::new(|| {
                std::fs::write(to.join(MANIFEST), text.replacen(picture.as_str(), "faces/../../x", 1))
                    .unwrap();
            }),
        ),
        (
            "the future",
            Box::new(|| {
                let own = format!("\"schema\": {}", manifest.schema);
                assert!(text.contains(&own));
                std::fs::write(to.join(MANIFEST), text.replacen(&own, "\"schema\": 999", 1)).unwrap();
            }),
        ),
        ("no manifest", Box::new(|| std::fs::remove_file(to.join(MANIFEST)).unwrap())),
    ];
    for (what, spoil) in spoils {
        spoil();
        let error = restore(&lock, StoreOptions::default(), &to, &mut quiet()).unwrap_err();
        assert!(!error.to_string().is_empty(), "{what}");
        assert_eq!((names(), std::fs::read(folder.path().join("meerkat.db")).unwrap()), before, "{what}");
        std::fs::write(to.join(MANIFEST), &text).unwrap();
        std::fs::write(to.join("meerkat.db"), &database).unwrap();
        std::fs::write(to.join(picture), b"jpeg").unwrap();
    }
    restore(&lock, StoreOptions::default(), &to, &mut quiet()).unwrap();
}

#[test]
fn a_backup_is_fetched_from_a_running_node_and_nothing_of_it_stays_there() {
    let (folder, mut store) = filled();
    let shelf = tempfile::tempdir().unwrap();
    let waiting = folder.path().join("backup/to-fetch");
    assert!(!discard(folder.path()).unwrap());
    let made = save_to_fetch(folder.path(), "1.2.3", WallTime(5), &mut quiet()).unwrap();
    assert_eq!(super::manifest(&waiting).unwrap(), made);
    assert!(backup::list(folder.path()).unwrap().is_empty(), "it is no nightly copy");
    let to = shelf.path().join("monday");
    assert_eq!(fetch(folder.path(), &to, &mut quiet()).unwrap(), made);
    let direct = shelf.path().join("direct");
    save(folder.path(), &direct, "1.2.3", WallTime(5), &mut quiet()).unwrap();
    for file in &made.files {
        assert_eq!(
            std::fs::read(to.join(&file.path)).unwrap(),
            std::fs::read(direct.join(&file.path)).unwrap()
        );
    }
    assert!(matches!(fetch(folder.path(), &to, &mut quiet()), Err(StoreError::Exists { .. })));
    assert!(matches!(check_target(&to), Err(StoreError::Exists { .. })));

    // Another order takes the place of the first, and of one that a crash interrupted.
    std::fs::create_dir(folder.path().join("backup/.part-backup-to-fetch")).unwrap();
    store.start_event(&event(2), &[]).unwrap();
    let second = save_to_fetch(folder.path(), "1.2.3", WallTime(6), &mut quiet()).unwrap();
    assert_eq!(second.made_micros, 6);

    // What was changed on its way is noticed, and leaves nothing half.
    std::fs::write(waiting.join("keys/signing.key"), b"secreT").unwrap();
    let tuesday = shelf.path().join("tuesday");
    let error = fetch(folder.path(), &tuesday, &mut quiet()).unwrap_err();
    assert!(error.to_string().contains("keys/signing.key"), "{error}");
    assert_eq!(std::fs::read_dir(shelf.path()).unwrap().count(), 2);

    assert!(discard(folder.path()).unwrap());
    assert_eq!(std::fs::read_dir(folder.path().join("backup")).unwrap().count(), 0);
}

#[test]
fn a_medium_that_cannot_be_written_can_be_looked_at() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, store) = filled();
    assert!(matches!(DataLock::take_to_look(folder.path()), Err(StoreError::Locked { .. })));
    drop(store);
    let lock = folder.path().join("meerkat.lock");
    std::fs::set_permissions(&lock, std::fs::Permissions::from_mode(0o400)).unwrap();
    let first = DataLock::take_to_look(folder.path()).unwrap();
    assert!(matches!(DataLock::take_to_look(folder.path()), Err(StoreError::Locked { .. })));
    drop(first);
    let gone = folder.path().join("gone");
    assert!(DataLock::take_to_look(&gone).is_err());
    assert!(!gone.exists(), "looking makes nothing");
}
