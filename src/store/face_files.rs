//! Goes on with what a crash left half done of faces: pictures that have not got their names yet, and removals. Whatever
//! is removed was marked in its row before; then it is noted beside the copies that still have it, then its files go, and
//! its row goes last. What cannot be removed stays marked, keeps nothing else waiting, and is tried again.

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
        removed::clear(self.root(), &self.connection)?;
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
    ///
    /// # Errors
    /// The first one, after all that can go is gone.
    pub(crate) fn finish_face_removals(&mut self) -> Result<()> {
        // What is deleted is written over, also in the pages of the database.
        self.write_over_what_goes(true)?;
        let finished =
            [self.remove_marked_people(), self.remove_marked_negatives(), self.remove_marked_unknown()];
        self.write_over_what_goes(false)?;
        finished.into_iter().collect()
    }

    /// As [`Store::finish_face_removals`], for those who want something else: they are not stopped by what stays.
    pub(crate) fn go_on_with_face_removals(&mut self) {
        if let Err(error) = self.finish_face_removals() {
            tracing::warn!(%error, "what is to be removed of faces is removed later");
        }
    }

    fn write_over_what_goes(&self, on: bool) -> Result<()> {
        self.connection.pragma_update_and_check(None, "secure_delete", on, |_| Ok(()))?;
        Ok(())
    }

    fn remove_marked_people(&self) -> Result<()> {
        let marked = self.marked("SELECT number, id FROM people WHERE deleting = 1")?;
        // First: should the files not go, or the database be lost meanwhile, nobody comes back with an older copy.
        self.note_removed(marked.iter().map(|(_, id)| id.as_str()))?;
        let mut outcome = Ok(());
        for (number, id) in marked {
            match self.remove_folder_of(&id) {
                Ok(()) => {
                    self.connection.execute("DELETE FROM people WHERE number = ?1", [number])?;
                }
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome
    }

    fn note_removed<'a>(&self, mut names: impl Iterator<Item = &'a str>) -> Result<()> {
        match names.next() {
            Some(first) => removed::note(self.root(), std::iter::once(first).chain(names)),
            None => Ok(()),
        }
    }

    fn remove_folder_of(&self, person: &str) -> Result<()> {
        if !self.root().has(FACES) {
            return Ok(());
        }
        let faces = self.root().sub(FACES)?;
        faces.remove_sub(person)?;
        self.settle(&faces)
    }

    fn remove_marked_negatives(&self) -> Result<()> {
        let marked = self.marked(
            "SELECT face_negatives.number, people.id || '/' || face_negatives.file
             FROM face_negatives JOIN people ON people.number = face_negatives.person
             WHERE face_negatives.deleting = 1",
        )?;
        self.note_removed(marked.iter().filter_map(|(_, path)| Some(path.split_once('/')?.1)))?;
        let mut outcome = Ok(());
        for (number, path) in &marked {
            let Some((person, file)) = path.split_once('/') else { continue };
            match self.remove_file_of(person, file) {
                Ok(()) => {
                    self.connection.execute("DELETE FROM face_negatives WHERE number = ?1", [number])?;
                }
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome
    }

    fn remove_file_of(&self, person: &str, file: &str) -> Result<()> {
        if !self.root().has(FACES) {
            return Ok(());
        }
        let faces = self.root().sub(FACES)?;
        if !faces.has(person) {
            return Ok(());
        }
        remove_with_part(&faces.sub(person)?, file, |folder| self.settle(folder))
    }

    fn remove_marked_unknown(&self) -> Result<()> {
        let mut marked = self.marked("SELECT number, file FROM unknown_faces WHERE deleting = 1")?;
        if marked.is_empty() {
            return Ok(());
        }
        let mut outcome = Ok(());
        if self.root().has(UNKNOWN) {
            let folder = self.root().sub(UNKNOWN)?;
            marked.retain(|(_, file)| match remove_with_part(&folder, file, |_| Ok(())) {
                Ok(()) => true,
                Err(error) => {
                    if outcome.is_ok() {
                        outcome = Err(error);
                    }
                    false
                }
            });
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
        transaction.commit()?;
        outcome
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
