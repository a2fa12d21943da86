//! The people who are enrolled and their pictures. Pictures lie under
//! `faces/<id of the person>/`; names stand in the database only. Recognition is done elsewhere.

use std::path::PathBuf;

use meerkat_base::{ImageFormat, WallTime};
use rusqlite::{Row, params};
use serde::Serialize;
use uuid::Uuid;

use crate::database::{Store, StoreReader};
use crate::embedding::{self, Embedding};
use crate::error::{Result, StoreError};
use crate::face_files::part;
use crate::files::Folder;
use crate::sql::{count, from_count, parsed};

pub(crate) const FACES: &str = "faces";
/// What changes with every change of whom recognition is to know.
pub(crate) const NEXT_GENERATION: &str =
    "UPDATE counters SET value = value + 1 WHERE name = 'gallery_generation'";
/// Characters of a name at most.
pub const MAX_NAME_CHARS: usize = 100;
/// Pictures of one person at most.
pub const MAX_FACE_PICTURES: usize = 50;
/// Bytes of one enrolled picture at most.
pub const MAX_FACE_BYTES: usize = 16 * 1024 * 1024;

/// Who agreed that a person is enrolled, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consent {
    /// The person or whoever speaks for them; not empty, at most 100 characters.
    pub by: String,
    /// When.
    pub at: WallTime,
}

/// Somebody who is enrolled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Person {
    /// Their id, also the name of their folder.
    pub id: Uuid,
    /// Their name.
    pub name: String,
    /// Who agreed to it.
    pub consent_by: String,
    /// When that was.
    pub consent_at: WallTime,
    /// When they were enrolled first.
    pub created: WallTime,
    /// How many pictures there are of them.
    pub pictures: u64,
    /// How many pictures there are of others who were taken for them.
    pub negatives: u64,
}

/// A picture of a face that is to be kept.
#[derive(Debug, Clone, Copy)]
pub struct FacePicture<'a> {
    /// The encoded picture; stored unchanged.
    pub bytes: &'a [u8],
    /// Its container.
    pub format: ImageFormat,
    /// What its likeness is computed from, where that is known.
    pub embedding: Option<&'a Embedding>,
}

/// An enrolment.
#[derive(Debug, Clone, Copy)]
pub struct Enrolling<'a> {
    /// Under which name.
    pub name: &'a str,
    /// At least one.
    pub pictures: &'a [FacePicture<'a>],
    /// Who agreed.
    pub consent: &'a Consent,
    /// The group of unknown faces that it is made of, which goes with it.
    pub group: Option<u64>,
}

/// What went with a person who was removed, beside what was theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forgotten {
    /// Groups of unknown faces like theirs.
    pub unknown_groups: u64,
    /// Negatives of others that showed them.
    pub negatives: u64,
}

impl Store {
    /// Enrols a person with pictures of which nothing more is known; see [`Store::enrol_faces`].
    ///
    /// # Errors
    /// As [`Store::enrol_faces`].
    pub fn enrol(
        &mut self,
        name: &str,
        pictures: &[(&[u8], ImageFormat)],
        consent: &Consent,
        now: WallTime,
    ) -> Result<Person> {
        let pictures: Vec<FacePicture<'_>> =
            pictures.iter().map(|&(bytes, format)| FacePicture { bytes, format, embedding: None }).collect();
        self.enrol_faces(&Enrolling { name, pictures: &pictures, consent, group: None }, now)
    }

    /// Enrols a person, or adds pictures to one who is enrolled (the consent is then renewed). At least
    /// one picture; each is stored unchanged. After a crash either all or none of them are there.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for a name, consent or picture that does not fit the limits of this file.
    pub fn enrol_faces(&mut self, enrolling: &Enrolling<'_>, now: WallTime) -> Result<Person> {
        let Enrolling { name, pictures, consent, group } = *enrolling;
        let name = checked_name(name)?;
        check_consent(consent)?;
        check_pictures(pictures)?;
        // Somebody of this name may be half removed; nobody else matters here.
        if let Err(error) = self.finish_face_removals() {
            let is_theirs = "SELECT EXISTS (SELECT 1 FROM people WHERE name = ?1 AND deleting = 1)";
            if self.connection.query_row(is_theirs, [name], |row| row.get::<_, bool>(0))? {
                return Err(error);
            }
            tracing::warn!(%error, "what is to be removed of faces is removed later");
        }
        let known = self.person(name)?;
        let is_new = known.is_none();
        let have = known.as_ref().map_or(0, |person| person.pictures);
        if have.saturating_add(pictures.len() as u64) > MAX_FACE_PICTURES as u64 {
            return Err(StoreError::Refused(format!("at most {MAX_FACE_PICTURES} pictures of one person")));
        }
        let id = known.map_or_else(Uuid::new_v4, |person| person.id);
        let faces = self.root().make_sub(FACES)?;
        let folder = faces.make_sub(&id.to_string())?;
        let files: Vec<String> = pictures
            .iter()
            .map(|picture| format!("{}.{}", Uuid::new_v4(), picture.format.extension()))
            .collect();

        // Pictures first under names of unfinished files, then the rows, then the final names: a crash in
        // between is sorted out by `finish_faces`.
        let written = self.write_parts(&faces, &folder, pictures, &files);
        let committed = written.and_then(|()| self.write_rows(id, enrolling, &files, now));
        if let Err(error) = committed {
            files.iter().for_each(|file| folder.remove_quietly(&part(file)));
            if is_new && let Err(left) = faces.remove_sub(&id.to_string()) {
                tracing::warn!(error = %left, "the empty folder of a failed enrolment stays behind");
            }
            return Err(error);
        }
        for file in &files {
            folder.rename_new(&part(file), &folder, file)?;
        }
        self.settle(&folder)?;
        self.next_generation()?;
        if group.is_some()
            && let Err(left) = self.finish_face_removals()
        {
            // They are marked, and nobody sees them any more.
            tracing::warn!(error = %left, "the unknown faces of an enrolment are removed later");
        }
        self.person(name)?.ok_or_else(|| StoreError::Refused(format!("{name} was not written")))
    }

    fn write_parts(
        &self,
        faces: &Folder,
        folder: &Folder,
        pictures: &[FacePicture<'_>],
        files: &[String],
    ) -> Result<()> {
        for (picture, file) in pictures.iter().zip(files) {
            folder.write_new(&part(file), picture.bytes, self.durability())?;
        }
        if self.durability().syncs() {
            folder.sync()?;
            faces.sync()?;
            self.root().sync()?;
        }
        Ok(())
    }

    fn write_rows(
        &mut self,
        id: Uuid,
        enrolling: &Enrolling<'_>,
        files: &[String],
        now: WallTime,
    ) -> Result<()> {
        let Enrolling { name, pictures, consent, group } = *enrolling;
        let transaction = self.begin()?;
        let number: i64 = transaction.query_row(
            "INSERT INTO people (id, name, consent_by, consent_at, created) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (id) DO UPDATE SET consent_by = excluded.consent_by, consent_at = excluded.consent_at
             RETURNING number",
            params![id.to_string(), name.trim(), consent.by.trim(), consent.at.0, now.0],
            |row| row.get(0),
        )?;
        for (file, picture) in files.iter().zip(pictures) {
            let (blob, space) = picture
                .embedding
                .map(|embedding| (embedding::blob(&embedding.values), embedding.space.as_str()))
                .unzip();
            transaction.execute(
                "INSERT INTO face_pictures (person, file, created, embedding, space)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                params![number, file, now.0, blob, space],
            )?;
        }
        if let Some(group) = group {
            transaction
                .execute("UPDATE unknown_faces SET deleting = 1 WHERE \"group\" = ?1", [count(group)])?;
        }
        Ok(transaction.commit()?)
    }

    /// Removes a person, given by name or id, with their pictures, the numbers of these, their negatives and their lines
    /// in the ledger. Unknown faces, and negatives of others, that are like them (by at least this cosine) go too.
    /// `None`: there was no such person. From the moment that it is ordered nobody sees the person any more; what a
    /// crash leaves is removed by the next start.
    pub fn remove_person(&mut self, name_or_id: &str, likeness: f32) -> Result<Option<Forgotten>> {
        let Some(person) = self.person(name_or_id)? else { return Ok(None) };
        let own = self.embeddings_of(&person.id.to_string())?;
        let unknown = self.unknown_like(&own, likeness)?;
        let negatives = self.negatives_like(person.id, &own, likeness)?;
        let transaction = self.begin()?;
        transaction.execute("UPDATE people SET deleting = 1 WHERE id = ?1", [person.id.to_string()])?;
        let mut forgotten = Forgotten::default();
        for group in unknown {
            forgotten.unknown_groups += 1;
            transaction.execute("UPDATE unknown_faces SET deleting = 1 WHERE \"group\" = ?1", [group])?;
        }
        for number in negatives {
            forgotten.negatives += 1;
            transaction.execute("UPDATE face_negatives SET deleting = 1 WHERE number = ?1", [number])?;
        }
        transaction.execute(NEXT_GENERATION, [])?;
        transaction.commit()?;
        self.finish_face_removals()?;
        Ok(Some(forgotten))
    }

    /// Notes what was computed of enrolled pictures, each by the name of its file; `None`: there is nothing to compare
    /// in it.
    pub fn set_face_embeddings(&mut self, space: &str, found: &[(String, Option<Vec<f32>>)]) -> Result<()> {
        let transaction = self.begin()?;
        for (file, values) in found {
            transaction.execute(
                "UPDATE face_pictures SET embedding = ?2, space = ?3 WHERE file = ?1",
                params![file, embedding::blob(values.as_deref().unwrap_or_default()), space],
            )?;
        }
        Ok(transaction.commit()?)
    }

    fn next_generation(&self) -> Result<()> {
        self.connection.execute(NEXT_GENERATION, [])?;
        Ok(())
    }
}

impl StoreReader {
    /// Everybody who is enrolled, by name.
    pub fn people(&self) -> Result<Vec<Person>> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {PERSON_COLUMNS} FROM people WHERE deleting = 0 ORDER BY name"
        ))?;
        statement.query_and_then([], person_row)?.collect()
    }

    /// Somebody who is enrolled, by name or id.
    pub fn person(&self, name_or_id: &str) -> Result<Option<Person>> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {PERSON_COLUMNS} FROM people
             WHERE (name = ?1 OR id = ?1) AND deleting = 0 ORDER BY name = ?1 DESC LIMIT 1"
        ))?;
        statement.query_and_then([name_or_id.trim()], person_row)?.next().transpose()
    }

    /// What recognition is taught with: each person's name and the absolute paths of their pictures.
    pub fn gallery(&self) -> Result<Vec<(String, Vec<PathBuf>)>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT people.name, people.id, face_pictures.file
             FROM people JOIN face_pictures ON face_pictures.person = people.number
             WHERE people.deleting = 0
             ORDER BY people.name, face_pictures.number",
        )?;
        grouped(&self.folder, statement.query([])?)
    }

    /// What was computed of the enrolled pictures in one space, with the names they are of; those in which there was
    /// nothing to compare are left out.
    pub fn face_embeddings(&self, space: &str) -> Result<Vec<(String, Vec<f32>)>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT people.name, face_pictures.embedding
             FROM people JOIN face_pictures ON face_pictures.person = people.number
             WHERE people.deleting = 0 AND face_pictures.space = ?1 AND face_pictures.embedding IS NOT NULL",
        )?;
        let rows = statement.query_map([space], |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?)))?;
        let mut found = Vec::new();
        for row in rows {
            let (name, blob): (String, Vec<u8>) = row?;
            let values = embedding::values(&blob);
            if !values.is_empty() {
                found.push((name, values));
            }
        }
        Ok(found)
    }

    /// Enrolled pictures, of one person (by id) or of all, of which nothing was computed in a space yet: the names of
    /// their files and where they are.
    pub fn faces_to_embed(&self, space: &str, person: Option<&str>) -> Result<Vec<(String, PathBuf)>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT face_pictures.file, people.id
             FROM people JOIN face_pictures ON face_pictures.person = people.number
             WHERE people.deleting = 0 AND face_pictures.space IS NOT ?1 AND (?2 IS NULL OR people.id = ?2)
             ORDER BY face_pictures.number",
        )?;
        let rows = statement.query_map(params![space, person], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })?;
        let mut found = Vec::new();
        for row in rows {
            let (file, id) = row?;
            let path = self.folder.join(FACES).join(id).join(&file);
            found.push((file, path));
        }
        Ok(found)
    }

    /// Everything that was computed of somebody's pictures, in whatever space.
    fn embeddings_of(&self, id: &str) -> Result<Vec<Embedding>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT face_pictures.space, face_pictures.embedding
             FROM people JOIN face_pictures ON face_pictures.person = people.number
             WHERE people.id = ?1 AND face_pictures.space IS NOT NULL AND face_pictures.embedding IS NOT NULL",
        )?;
        let rows = statement.query_map([id], |row| {
            Ok(Embedding { space: row.get(0)?, values: embedding::values(&row.get::<_, Vec<u8>>(1)?) })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Grows with every change of the gallery.
    pub fn gallery_generation(&self) -> Result<u64> {
        let mut statement =
            self.connection.prepare_cached("SELECT value FROM counters WHERE name = 'gallery_generation'")?;
        Ok(from_count(statement.query_row([], |row| row.get(0))?))
    }
}

const PERSON_COLUMNS: &str = "id, name, consent_by, consent_at, created,
     (SELECT count(*) FROM face_pictures WHERE person = people.number),
     (SELECT count(*) FROM face_negatives WHERE person = people.number AND deleting = 0)";

fn person_row(row: &Row<'_>) -> Result<Person> {
    Ok(Person {
        id: parsed(row, 0, |text| Uuid::parse_str(text).ok())?,
        name: row.get(1)?,
        consent_by: row.get(2)?,
        consent_at: WallTime(row.get(3)?),
        created: WallTime(row.get(4)?),
        pictures: from_count(row.get(5)?),
        negatives: from_count(row.get(6)?),
    })
}

/// Rows of (name, id, file) that come sorted by name, as names with paths.
pub(crate) fn grouped(
    folder: &std::path::Path,
    mut rows: rusqlite::Rows<'_>,
) -> Result<Vec<(String, Vec<PathBuf>)>> {
    let mut found: Vec<(String, Vec<PathBuf>)> = Vec::new();
    while let Some(row) = rows.next()? {
        let (name, id, file): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let path = folder.join(FACES).join(id).join(file);
        match found.last_mut() {
            Some((last, paths)) if *last == name => paths.push(path),
            _ => found.push((name, vec![path])),
        }
    }
    Ok(found)
}

/// Whether somebody can have this name.
///
/// # Errors
/// [`StoreError::Refused`] says why not.
pub fn check_name(name: &str) -> Result<()> {
    checked_name(name).map(|_| ())
}

fn checked_name(name: &str) -> Result<&str> {
    let name = name.trim();
    let refuse = |why: &str| Err(StoreError::Refused(why.to_owned()));
    if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || name.chars().any(char::is_control) {
        return refuse("a name is 1 to 100 characters, none of them a control character");
    }
    if name.eq_ignore_ascii_case("unknown") {
        return refuse("\"unknown\" stands for people who are not enrolled");
    }
    if Uuid::parse_str(name).is_ok() {
        return refuse("a name must not look like the id of a person");
    }
    Ok(name)
}

fn check_consent(consent: &Consent) -> Result<()> {
    let by = consent.by.trim();
    if by.is_empty() || by.chars().count() > MAX_NAME_CHARS || by.chars().any(char::is_control) {
        return Err(StoreError::Refused("say in 1 to 100 characters who agreed to the enrolment".into()));
    }
    Ok(())
}

fn check_pictures(pictures: &[FacePicture<'_>]) -> Result<()> {
    if pictures.is_empty() {
        return Err(StoreError::Refused("an enrolment needs at least one picture".into()));
    }
    for FacePicture { bytes, format, embedding } in pictures {
        if let Some(embedding) = embedding {
            embedding.check()?;
        }
        if *format == ImageFormat::Unknown || bytes.is_empty() || bytes.len() > MAX_FACE_BYTES {
            return Err(StoreError::Refused(
                "a face picture is a JPEG, PNG, WebP or BMP of at most 16 MiB".into(),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::attendance::CheckIn;
    use crate::database::StoreOptions;
    use crate::files::Durability;
    use crate::testing::{event, store};

    const JPEG: (&[u8], ImageFormat) = (b"jpeg", ImageFormat::Jpeg);
    const PNG: (&[u8], ImageFormat) = (b"png", ImageFormat::Png);

    fn consent() -> Consent {
        Consent { by: "Ada herself".into(), at: WallTime(1) }
    }

    fn files_below(folder: &Path) -> usize {
        let Ok(listing) = std::fs::read_dir(folder) else { return 0 };
        listing
            .map(|entry| {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() { files_below(&entry.path()) } else { 1 }
            })
            .sum()
    }

    #[test]
    fn people_come_and_go() {
        let (folder, mut store) = store();
        let before = store.gallery_generation().unwrap();
        let ada = store.enrol(" Ada/../é ", &[JPEG, PNG], &consent(), WallTime(2)).unwrap();
        assert_eq!((ada.name.as_str(), ada.pictures, ada.consent_at), ("Ada/../é", 2, WallTime(1)));
        store.enrol("Bob", &[JPEG], &consent(), WallTime(3)).unwrap();
        let more = store.enrol("Ada/../é", &[PNG], &consent(), WallTime(4)).unwrap();
        assert_eq!((more.id, more.pictures, more.created), (ada.id, 3, WallTime(2)));
        assert_eq!(store.gallery_generation().unwrap(), before + 3);

        let gallery = store.gallery().unwrap();
        assert_eq!(
            gallery.iter().map(|(n, p)| (n.as_str(), p.len())).collect::<Vec<_>>(),
            [("Ada/../é", 3), ("Bob", 1)]
        );
        assert_eq!(std::fs::read(&gallery[0].1[1]).unwrap(), b"png");
        assert!(
            gallery[0].1[0].parent().unwrap().ends_with(format!("faces/{}", ada.id)),
            "no name in a path"
        );
        assert_eq!(store.people().unwrap().len(), 2);
        assert_eq!(files_below(&folder.path().join("faces")), 4);

        let seen = event(1);
        let check = |store: &mut Store, name: &str| {
            store.check_in(name, &seen.camera, WallTime(9), seen.id, Duration::ZERO).unwrap()
        };
        assert_eq!(check(&mut store, "Ada/../é"), CheckIn::Recorded);
        assert_eq!(check(&mut store, "Ada/../é"), CheckIn::Repeated);
        assert_eq!(check(&mut store, "Bob"), CheckIn::Recorded);
        assert_eq!(check(&mut store, "Eve"), CheckIn::NoSuchPerson);
        let mut later = |at, repeat| {
            let id = event(at).id;
            store
                .check_in("Bob", &seen.camera, WallTime(at as i64), id, Duration::from_micros(repeat))
                .unwrap()
        };
        assert_eq!(later(15, 10), CheckIn::Repeated, "six microseconds are less than ten");
        assert_eq!(later(30, 10), CheckIn::Recorded);
        assert_eq!(store.check_ins(None, 9).unwrap().len(), 3);
        assert_eq!(store.check_ins(Some(WallTime(9)), 9).unwrap(), []);

        assert!(store.remove_person("Ada/../é", 0.4).unwrap().is_some());
        assert!(store.remove_person("Ada/../é", 0.4).unwrap().is_none());
        assert_eq!(files_below(&folder.path().join("faces")), 1);
        assert_eq!(store.check_ins(None, 9).unwrap()[0].name, "Bob");
        let bob = store.person("Bob").unwrap().unwrap();
        assert!(store.remove_person(&bob.id.to_string(), 0.4).unwrap().is_some());
        assert_eq!(files_below(&folder.path().join("faces")), 0);
        assert_eq!(store.gallery().unwrap(), []);
        assert_eq!(store.gallery_generation().unwrap(), before + 5);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_leaves_nothing() {
        let (folder, mut store) = store();
        for name in ["", "  ", "a\nb", "Unknown", &"x".repeat(101), "018f0000-0000-7000-8000-000000000000"] {
            assert!(store.enrol(name, &[JPEG], &consent(), WallTime(0)).is_err(), "{name:?}");
        }
        let nobody = Consent { by: " ".into(), ..consent() };
        assert!(store.enrol("Ada", &[JPEG], &nobody, WallTime(0)).is_err());
        for pictures in [&[][..], &[(&b""[..], ImageFormat::Jpeg)], &[(b"x", ImageFormat::Unknown)]] {
            assert!(store.enrol("Ada", pictures, &consent(), WallTime(0)).is_err());
        }
        assert!(store.enrol("Ada", &[JPEG; MAX_FACE_PICTURES + 1], &consent(), WallTime(0)).is_err());
        assert_eq!(files_below(&folder.path().join("faces")), 0);
        assert_eq!(store.gallery_generation().unwrap(), 0);
    }

    #[test]
    fn a_failed_commit_leaves_no_picture() {
        let (folder, mut store) = store();
        store
            .raw()
            .execute_batch(
                "CREATE TEMP TRIGGER fail BEFORE INSERT ON face_pictures BEGIN SELECT RAISE(ABORT, 'injected'); END",
            )
            .unwrap();
        assert!(store.enrol("Ada", &[JPEG, PNG], &consent(), WallTime(0)).is_err());
        assert_eq!(std::fs::read_dir(folder.path().join("faces")).unwrap().count(), 0);
        assert_eq!(store.people().unwrap(), []);
    }

    #[test]
    fn an_interrupted_enrolment_is_sorted_out_at_the_next_start() {
        let (folder, mut store) = store();
        let ada = store.enrol("Ada", &[JPEG], &consent(), WallTime(0)).unwrap();
        let path = store.gallery().unwrap()[0].1[0].clone();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        drop(store);
        let own = folder.path().join("faces").join(ada.id.to_string());
        std::fs::rename(&path, own.join(part(&name))).unwrap();
        std::fs::write(own.join(part("never-committed.jpg")), b"x").unwrap();
        std::fs::write(own.join("unknown-but-complete.jpg"), b"x").unwrap();

        let store =
            Store::open(folder.path(), StoreOptions { durability: Durability::Power, ..Default::default() })
                .unwrap();
        assert_eq!(std::fs::read(&store.gallery().unwrap()[0].1[0]).unwrap(), b"jpeg");
        assert_eq!(files_below(&own), 2, "the uncommitted one is gone, a complete one is never deleted");
    }

    #[test]
    fn a_removal_is_noted_before_its_files_go() {
        let (folder, mut store) = store();
        let ada = store.enrol("Ada", &[JPEG], &consent(), WallTime(0)).unwrap();
        // Something of somebody else's is in the way.
        std::fs::create_dir(folder.path().join("faces").join(ada.id.to_string()).join("theirs")).unwrap();
        assert!(store.remove_person("Ada", 0.4).is_err());
        assert!(store.people().unwrap().is_empty(), "from the order on nobody sees her");
        assert!(
            folder.path().join("backup/removed").join(ada.id.to_string()).exists(),
            "nor with an older copy"
        );
        // It keeps neither the next start nor anybody else waiting.
        drop(store);
        let mut store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        assert!(store.enrol("Ada", &[JPEG], &consent(), WallTime(0)).is_err(), "that one is still there");
        let bob = store.enrol("Bob", &[JPEG], &consent(), WallTime(0)).unwrap();
        assert!(store.remove_person("Bob", 0.4).is_err(), "it says what could not be removed");
        assert!(!folder.path().join("faces").join(bob.id.to_string()).exists());
        std::fs::remove_dir(folder.path().join("faces").join(ada.id.to_string()).join("theirs")).unwrap();
        drop(store);
        let mut store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        assert!(!folder.path().join("faces").join(ada.id.to_string()).exists());
        store.enrol("Ada", &[JPEG], &consent(), WallTime(0)).unwrap();
    }

    #[test]
    fn a_link_in_place_of_a_folder_is_not_followed() {
        let (folder, mut store) = store();
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.path().join("faces")).unwrap();
        let refused = store.enrol("Ada", &[JPEG], &consent(), WallTime(0)).unwrap_err();
        assert!(matches!(refused, StoreError::NotAFolder { .. }), "{refused}");
        assert_eq!(files_below(outside.path()), 0);
    }
}
