//! Negatives: pictures of faces that were taken for an enrolled person who they are not. They lie beside that person's
//! pictures and go with the person; who makes use of them is decided elsewhere.

use std::path::PathBuf;

use meerkat_base::{EventId, ImageFormat, WallTime};
use rusqlite::params;
use uuid::Uuid;

use crate::database::{Store, StoreReader};
use crate::embedding::{self, Embedding};
use crate::error::{Result, StoreError};
use crate::face_files::part;
use crate::faces::{FACES, FacePicture, MAX_FACE_BYTES, Person};
use crate::sql::from_count;

/// Negatives of one person at most.
pub const MAX_NEGATIVES: u64 = 50;

impl Store {
    /// Keeps a picture of a face that is not this person's, and the event in which it was taken for theirs, if it comes
    /// from one. After a crash it is there or not. `None`: nobody is enrolled under that name or id.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for a picture beyond the limits, or one too many.
    pub fn add_negative(
        &mut self,
        name_or_id: &str,
        picture: &FacePicture<'_>,
        event: Option<EventId>,
        now: WallTime,
    ) -> Result<Option<Person>> {
        let Some(person) = self.person(name_or_id)? else { return Ok(None) };
        let FacePicture { bytes, format, embedding } = picture;
        if *format == ImageFormat::Unknown || bytes.is_empty() || bytes.len() > MAX_FACE_BYTES {
            return Err(StoreError::Refused(
                "a face picture is a JPEG, PNG, WebP or BMP of at most 16 MiB".into(),
            ));
        }
        if person.negatives >= MAX_NEGATIVES {
            return Err(StoreError::Refused(format!(
                "there are {MAX_NEGATIVES} pictures already of whom {} is not; more pictures of {} help better",
                person.name, person.name
            )));
        }
        if let Some(embedding) = embedding {
            embedding.check()?;
        }
        let file = format!("{}.{}", Uuid::new_v4(), format.extension());
        let folder = self.root().make_sub(FACES)?.make_sub(&person.id.to_string())?;
        folder.write_new(&part(&file), bytes, self.durability())?;
        self.settle(&folder)?;
        let written = self.write_negative(&person, &file, *embedding, event, now);
        if let Err(error) = written {
            folder.remove_quietly(&part(&file));
            return Err(error);
        }
        folder.rename_new(&part(&file), &folder, &file)?;
        self.settle(&folder)?;
        self.person(&person.id.to_string())
    }

    fn write_negative(
        &mut self,
        person: &Person,
        file: &str,
        embedding: Option<&Embedding>,
        event: Option<EventId>,
        now: WallTime,
    ) -> Result<()> {
        let transaction = self.begin()?;
        transaction.execute(
            "INSERT INTO face_negatives (person, file, created, event, embedding, space)
             SELECT number, ?2, ?3, ?4, ?5, ?6 FROM people WHERE id = ?1",
            params![
                person.id.to_string(),
                file,
                now.0,
                event.map(|id| id.to_string()),
                embedding.map(|embedding| embedding::blob(&embedding.values)),
                embedding.map(|embedding| embedding.space.as_str())
            ],
        )?;
        transaction.execute(crate::faces::NEXT_GENERATION, [])?;
        Ok(transaction.commit()?)
    }

    /// Forgets all negatives of a person; how many there were. `None`: nobody is enrolled under that name or id.
    pub fn forget_negatives(&mut self, name_or_id: &str) -> Result<Option<u64>> {
        let Some(person) = self.person(name_or_id)? else { return Ok(None) };
        let transaction = self.begin()?;
        let marked = transaction.execute(
            "UPDATE face_negatives SET deleting = 1
             WHERE deleting = 0 AND person = (SELECT number FROM people WHERE id = ?1)",
            [person.id.to_string()],
        )?;
        transaction.execute(crate::faces::NEXT_GENERATION, [])?;
        transaction.commit()?;
        self.finish_face_removals()?;
        Ok(Some(marked as u64))
    }
}

impl StoreReader {
    /// The names of those who have negatives, and the absolute paths of these.
    pub fn negatives(&self) -> Result<Vec<(String, Vec<PathBuf>)>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT people.name, people.id, face_negatives.file
             FROM people JOIN face_negatives ON face_negatives.person = people.number
             WHERE people.deleting = 0 AND face_negatives.deleting = 0
             ORDER BY people.name, face_negatives.number",
        )?;
        crate::faces::grouped(&self.folder, statement.query([])?)
    }

    /// Numbers of the negatives of everybody else that show somebody like these pictures of a person.
    pub(crate) fn negatives_like(&self, person: Uuid, own: &[Embedding], at_least: f32) -> Result<Vec<i64>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT face_negatives.number, face_negatives.space, face_negatives.embedding
             FROM face_negatives JOIN people ON people.number = face_negatives.person
             WHERE face_negatives.deleting = 0 AND face_negatives.embedding IS NOT NULL AND people.id <> ?1",
        )?;
        let mut rows = statement.query([person.to_string()])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let (number, space, blob): (i64, Option<String>, Vec<u8>) =
                (row.get(0)?, row.get(1)?, row.get(2)?);
            let values = embedding::values(&blob);
            let is_like = |own: &Embedding| {
                Some(&own.space) == space.as_ref() && embedding::likeness(&own.values, &values) >= at_least
            };
            if own.iter().any(is_like) {
                found.push(number);
            }
        }
        Ok(found)
    }

    /// How many negatives there are in all.
    pub fn negative_count(&self) -> Result<u64> {
        let mut statement =
            self.connection.prepare_cached("SELECT count(*) FROM face_negatives WHERE deleting = 0")?;
        Ok(from_count(statement.query_row([], |row| row.get(0))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::StoreOptions;
    use crate::faces::Consent;
    use crate::testing::store;

    fn enrolled(store: &mut Store, name: &str) -> Person {
        let consent = Consent { by: "herself".into(), at: WallTime(1) };
        store.enrol(name, &[(b"jpeg", ImageFormat::Jpeg)], &consent, WallTime(1)).unwrap()
    }

    fn picture<'a>(bytes: &'a [u8]) -> FacePicture<'a> {
        FacePicture { bytes, format: ImageFormat::Jpeg, embedding: None }
    }

    #[test]
    fn negatives_come_and_go_and_recognition_hears_of_it() {
        let (folder, mut store) = store();
        assert_eq!(store.add_negative("Ada", &picture(b"x"), None, WallTime(2)).unwrap(), None);
        let ada = enrolled(&mut store, "Ada");
        let before = store.gallery_generation().unwrap();
        let event = crate::testing::event(1).id;
        let after =
            store.add_negative("Ada", &picture(b"not her"), Some(event), WallTime(2)).unwrap().unwrap();
        assert_eq!((after.pictures, after.negatives), (1, 1));
        assert_eq!(store.gallery_generation().unwrap(), before + 1);
        let files = store.negatives().unwrap();
        assert_eq!((files.len(), files[0].0.as_str(), files[0].1.len()), (1, "Ada", 1));
        assert_eq!(std::fs::read(&files[0].1[0]).unwrap(), b"not her");
        assert_eq!(store.gallery().unwrap()[0].1.len(), 1, "no picture of hers");

        assert_eq!(store.forget_negatives("nobody").unwrap(), None);
        assert_eq!(store.forget_negatives(&ada.id.to_string()).unwrap(), Some(1));
        assert_eq!(store.forget_negatives("Ada").unwrap(), Some(0));
        assert!(!files[0].1[0].exists() && store.gallery().unwrap()[0].1[0].exists());
        assert_eq!(store.gallery_generation().unwrap(), before + 3);
        assert_eq!(
            std::fs::read_dir(folder.path().join("faces").join(ada.id.to_string())).unwrap().count(),
            1
        );
    }

    #[test]
    fn there_are_not_too_many_and_nothing_that_is_no_picture() {
        let (_folder, mut store) = store();
        enrolled(&mut store, "Ada");
        assert!(store.add_negative("Ada", &picture(b""), None, WallTime(2)).is_err());
        let strange = FacePicture { bytes: b"x", format: ImageFormat::Unknown, embedding: None };
        assert!(store.add_negative("Ada", &strange, None, WallTime(2)).is_err());
        for _ in 0..MAX_NEGATIVES {
            store.add_negative("Ada", &picture(b"x"), None, WallTime(2)).unwrap();
        }
        let refused = store.add_negative("Ada", &picture(b"x"), None, WallTime(2)).unwrap_err().to_string();
        assert!(refused.contains("50 pictures already"), "{refused}");
        assert_eq!(store.negative_count().unwrap(), MAX_NEGATIVES);
    }

    #[test]
    fn what_a_crash_left_of_one_is_sorted_out_at_the_next_start() {
        let (folder, mut store) = store();
        let ada = enrolled(&mut store, "Ada");
        store.add_negative("Ada", &picture(b"written"), None, WallTime(2)).unwrap();
        store.add_negative("Ada", &picture(b"going"), None, WallTime(2)).unwrap();
        let files = store.negatives().unwrap().remove(0).1;
        store.raw().execute("UPDATE face_negatives SET deleting = 1 WHERE number = 2", []).unwrap();
        drop(store);
        let own = folder.path().join("faces").join(ada.id.to_string());
        let name = files[0].file_name().unwrap().to_str().unwrap();
        std::fs::rename(&files[0], own.join(part(name))).unwrap();
        std::fs::write(own.join(part("never-committed.jpg")), b"x").unwrap();
        let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        assert_eq!(store.negatives().unwrap(), [("Ada".to_owned(), vec![files[0].clone()])]);
        assert_eq!(std::fs::read(&files[0]).unwrap(), b"written");
        assert_eq!(std::fs::read_dir(own).unwrap().count(), 2, "her picture and one negative");
    }
}
