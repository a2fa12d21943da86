//! Remembers what was removed on purpose, by names that say nothing of anybody, so that an older copy of the database or a
//! backup does not bring it back: an empty file each in `backup/removed/`. How people are removed is in `face_files.rs`.

use rusqlite::{Connection, OptionalExtension};

use crate::backup;
use crate::capture::check_stem;
use crate::error::{Result, StoreError};
use crate::faces::{FACES, NEXT_GENERATION};
use crate::files::Folder;

/// In `backup/`, whose copies it is about.
const REMOVED: &str = "removed";

/// Notes that people (by their ids) or pictures (by the names of their files) were removed; to be called before their rows
/// go. It is on the disk afterwards, as copies are. What is noted already stays so.
pub(crate) fn note<'a>(root: &Folder, names: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let shelf = root.make_sub(backup::FOLDER)?;
    let removed = shelf.make_sub(REMOVED)?;
    // Nothing of ours has a name that cannot be one of a file.
    for name in names.into_iter().filter(|name| check_stem(name).is_ok()) {
        match removed.create_new(name) {
            Ok(_) | Err(StoreError::Exists { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    removed.sync()?;
    shelf.sync()?;
    root.sync()
}

/// Removes from a database that is being made anew whatever was removed after the copy that it is made of, and the
/// pictures that came with a backup from `into`. To be called with foreign keys and with writing over what goes. Returns how
/// many people that were.
pub(crate) fn remove_again(root: &Folder, into: &Folder, rows: &Connection) -> Result<u64> {
    if !root.has(backup::FOLDER) || !root.sub(backup::FOLDER)?.has(REMOVED) {
        return Ok(0);
    }
    let staged = if into.has(FACES) { Some(into.sub(FACES)?) } else { None };
    let (mut people, mut pictures) = (0, 0);
    for entry in root.sub(backup::FOLDER)?.sub(REMOVED)?.entries()? {
        let name = entry.name.as_str();
        if rows.prepare_cached("DELETE FROM people WHERE id = ?1")?.execute([name])? > 0 {
            people += 1;
            if let Some(faces) = &staged {
                faces.remove_sub(name)?;
            }
        }
        let person: Option<String> = rows
            .prepare_cached(
                "SELECT people.id FROM face_negatives JOIN people ON people.number = face_negatives.person
                 WHERE face_negatives.file = ?1",
            )?
            .query_row([name], |row| row.get(0))
            .optional()?;
        let Some(person) = person else { continue };
        pictures += rows.prepare_cached("DELETE FROM face_negatives WHERE file = ?1")?.execute([name])?;
        if let Some(faces) = &staged
            && check_stem(&person).is_ok()
            && faces.has(&person)
        {
            let own = faces.sub(&person)?;
            own.remove(name)?;
            own.sync()?;
        }
    }
    if people > 0 || pictures > 0 {
        // Recognition may know them still, under the number that the copy has.
        rows.execute(NEXT_GENERATION, [])?;
        if let Some(faces) = &staged {
            faces.sync()?;
        }
    }
    Ok(people)
}

/// Removes pictures of people, and of corrections, that were noted as removed and that no row knows: the node died before
/// their files went, and the database was made anew since. What cannot be removed is left to the next start.
pub(crate) fn clear(root: &Folder, rows: &Connection) -> Result<()> {
    if !root.has(FACES) || !root.has(backup::FOLDER) || !root.sub(backup::FOLDER)?.has(REMOVED) {
        return Ok(());
    }
    let faces = root.sub(FACES)?;
    let folders: Vec<String> =
        faces.entries()?.into_iter().filter(|entry| entry.is_folder).map(|entry| entry.name).collect();
    for entry in root.sub(backup::FOLDER)?.sub(REMOVED)?.entries()? {
        let name = entry.name.as_str();
        let known = "SELECT EXISTS (SELECT 1 FROM people WHERE id = ?1)
                         OR EXISTS (SELECT 1 FROM face_negatives WHERE file = ?1)";
        if check_stem(name).is_err() || rows.query_row(known, [name], |row| row.get::<_, bool>(0))? {
            continue;
        }
        let gone = match folders.iter().any(|folder| folder == name) {
            true => faces.remove_sub(name),
            false => remove_file(&faces, &folders, name),
        };
        if let Err(error) = gone {
            tracing::warn!(%error, "what is left of somebody who was removed is removed later");
        }
    }
    faces.sync()
}

fn remove_file(faces: &Folder, folders: &[String], name: &str) -> Result<()> {
    // A person has no folder that is called like a picture: most notes are of people, and cost nothing here.
    if !name.contains('.') {
        return Ok(());
    }
    for folder in folders {
        let own = faces.sub(folder)?;
        if own.has(name) {
            own.remove(name)?;
            own.sync()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_twice_stays_noted_and_odd_names_are_no_paths() {
        let temp = tempfile::tempdir().unwrap();
        let root = Folder::root(temp.path()).unwrap();
        for _ in 0..2 {
            note(&root, ["one", "two.jpg", "../../out", ""]).unwrap();
        }
        let noted = root.sub(backup::FOLDER).unwrap().sub(REMOVED).unwrap().entries().unwrap();
        assert_eq!(noted.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["one", "two.jpg"]);
        assert!(backup::list(temp.path()).unwrap().is_empty(), "it is no copy");
    }
}
