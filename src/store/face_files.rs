//! Goes on with what a crash left half done of faces: pictures that have not got their names yet, and removals. Whatever
//! is removed was marked in its row before, then its files go, then it is noted beside the copies that still have it, and
//! its row goes last.

use rusqlite::params;

use crate::database::Store;
use crate::error::Result;
use crate::faces::FACES;
use crate::files::{Folder, PART_PREFIX};
use crate::removed;
use crate::unknown::UNKNOWN;

impl Store {
    /// What a start does before anything else: names for pictures whose rows were written, an end for those whose rows
    /// never were, and for every removal that was begun.
    pub(crate) fn finish_faces(&mut self) -> Result<()> {
        if self.root().has(FACES) {
            let faces = self.root().sub(FACES)?;
            for person in faces.entries()?.into_iter().filter(|entry| entry.is_folder) {
                self.finish_parts(
                    &faces.sub(&person.name)?,
                    "SELECT EXISTS (SELECT 1 FROM face_pictures WHERE file = ?1)
                         OR EXISTS (SELECT 1 FROM face_negatives WHERE file = ?1)",
                )?;
            }
        }
        if self.root().has(UNKNOWN) {
            let known = "SELECT EXISTS (SELECT 1 FROM unknown_faces WHERE file = ?1)";
            self.finish_parts(&self.root().sub(UNKNOWN)?, known)?;
        }
        self.finish_face_removals()
    }

    /// Touches nothing but unfinished files.
    fn finish_parts(&self, folder: &Folder, known: &str) -> Result<()> {
        for entry in folder.entries()? {
            let Some(file) = entry.name.strip_prefix(PART_PREFIX) else { continue };
            if self.connection.query_row(known, [file], |row| row.get::<_, bool>(0))? {
                folder.rename_new(&entry.name, folder, file)?;
            } else {
                folder.remove(&entry.name)?;
            }
        }
        Ok(())
    }

    /// Removes the files of everything that is marked, then the rows. Can be repeated when it failed half-way.
    pub(crate) fn finish_face_removals(&mut self) -> Result<()> {
        // What is deleted is written over, also in the pages of the database.
        self.write_over_what_goes(true)?;
        let finished = self
            .remove_marked_people()
            .and_then(|()| self.remove_marked_negatives())
            .and_then(|()| self.remove_marked_unknown());
        self.write_over_what_goes(false)?;
        finished
    }

    fn write_over_what_goes(&self, on: bool) -> Result<()> {
        self.connection.pragma_update_and_check(None, "secure_delete", on, |_| Ok(()))?;
        Ok(())
    }

    fn remove_marked_people(&self) -> Result<()> {
        for (number, id) in self.marked("SELECT number, id FROM people WHERE deleting = 1")? {
            // First: should the files not go, or the database be lost meanwhile, nobody comes back with an older copy.
            removed::note(self.root(), [id.as_str()])?;
            if self.root().has(FACES) {
                let faces = self.root().sub(FACES)?;
                faces.remove_sub(&id)?;
                self.settle(&faces)?;
            }
            self.connection.execute("DELETE FROM people WHERE number = ?1", [number])?;
        }
        Ok(())
    }

    fn remove_marked_negatives(&self) -> Result<()> {
        let marked = self.marked(
            "SELECT face_negatives.number, people.id || '/' || face_negatives.file
             FROM face_negatives JOIN people ON people.number = face_negatives.person
             WHERE face_negatives.deleting = 1",
        )?;
        if marked.is_empty() {
            return Ok(());
        }
        removed::note(self.root(), marked.iter().filter_map(|(_, path)| Some(path.split_once('/')?.1)))?;
        for (_, path) in &marked {
            let Some((person, file)) = path.split_once('/') else { continue };
            if self.root().has(FACES) {
                let faces = self.root().sub(FACES)?;
                if faces.has(person) {
                    remove_with_part(&faces.sub(person)?, file, |folder| self.settle(folder))?;
                }
            }
        }
        for (number, _) in marked {
            self.connection.execute("DELETE FROM face_negatives WHERE number = ?1", [number])?;
        }
        Ok(())
    }

    fn remove_marked_unknown(&self) -> Result<()> {
        let marked = self.marked("SELECT number, file FROM unknown_faces WHERE deleting = 1")?;
        if marked.is_empty() {
            return Ok(());
        }
        if self.root().has(UNKNOWN) {
            let folder = self.root().sub(UNKNOWN)?;
            for (_, file) in &marked {
                remove_with_part(&folder, file, |_| Ok(()))?;
            }
            self.settle(&folder)?;
        }
        let transaction = self.connection.unchecked_transaction()?;
        for (number, _) in &marked {
            transaction.execute("DELETE FROM unknown_faces WHERE number = ?1", params![number])?;
        }
        transaction.execute(
            "DELETE FROM unknown_groups WHERE number NOT IN (SELECT \"group\" FROM unknown_faces)",
            [],
        )?;
        Ok(transaction.commit()?)
    }

    fn marked(&self, question: &str) -> Result<Vec<(i64, String)>> {
        let mut statement = self.connection.prepare_cached(question)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    pub(crate) fn settle(&self, folder: &Folder) -> Result<()> {
        if self.durability().syncs() { folder.sync() } else { Ok(()) }
    }
}

/// A file whose row is marked may not have got its name yet.
fn remove_with_part(folder: &Folder, file: &str, settle: impl FnOnce(&Folder) -> Result<()>) -> Result<()> {
    folder.remove(file)?;
    folder.remove(&part(file))?;
    settle(folder)
}

/// The name of a picture before its row is written.
pub(crate) fn part(file: &str) -> String {
    format!("{PART_PREFIX}{file}")
}
