//! Faces that matched nobody, kept for a few days in groups of faces that are alike, so that somebody can be enrolled
//! of one. Pictures lie in `unknown/`, apart from the enrolled ones: no backup takes them along. Everything is bounded:
//! groups, pictures in a group, bytes in all. Whether a face is worth keeping at all is decided elsewhere.

use std::path::PathBuf;

use meerkat_base::{CameraId, WallTime};
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use uuid::Uuid;

use crate::database::{Store, StoreReader};
use crate::embedding::{self, Embedding, likeness};
use crate::error::{Result, StoreError};
use crate::face_files::part;
use crate::sql::{count, from_count, parsed};

/// The folder of the pictures.
pub(crate) const UNKNOWN: &str = "unknown";
/// A face that is as like as this to one of its group says nothing new.
const SAME: f32 = 0.95;
/// A group that is full gives up its narrowest face for one that is so much wider.
const CLEARLY_WIDER: f32 = 1.25;
/// Bytes of one picture at most.
const MAX_BYTES: usize = 1 << 20;

/// How much of unknown faces is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UnknownLimits {
    /// Least cosine with a face of a group, of those that belong to it.
    pub likeness: f32,
    /// Groups at most; the one that was seen longest ago gives way.
    pub groups: usize,
    /// Pictures of a group at most.
    pub pictures: usize,
    /// Bytes of all pictures at most; the group that was seen longest ago gives way.
    pub bytes: u64,
}

/// A face that matched nobody.
#[derive(Debug, Clone, PartialEq)]
pub struct NewUnknown {
    /// Where it was seen.
    pub camera: CameraId,
    /// When.
    pub at: WallTime,
    /// How wide it is, in pixels.
    pub width_px: f32,
    /// The face and a little around it, a JPEG.
    pub jpeg: Vec<u8>,
    /// What its likeness is computed from.
    pub embedding: Embedding,
}

/// What became of a face.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptUnknown {
    /// It is kept; so many older groups gave way.
    Kept {
        /// Its group.
        group: u64,
        /// Groups that gave way.
        gave_way: u64,
    },
    /// It belongs to this group, which has one like it already.
    Repeated(u64),
    /// It belongs to this group, which is full of faces as good.
    Full(u64),
    /// There is no room for it, and nothing may be deleted at present or ever for it.
    NoRoom,
}

/// A group of faces that are alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnknownGroup {
    /// Its number.
    pub group: u64,
    /// How many pictures there are.
    pub pictures: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When it was seen first.
    pub first: WallTime,
    /// When it was seen last.
    pub last: WallTime,
    /// How often it was seen.
    pub seen: u64,
    /// Where its pictures were taken.
    pub cameras: Vec<String>,
}

/// One picture of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct UnknownPicture {
    /// Its number.
    pub number: u64,
    /// Its file, absolute.
    pub path: PathBuf,
    /// Where it was taken.
    pub camera: CameraId,
    /// When.
    pub at: WallTime,
    /// How wide the face is, in pixels.
    pub width_px: f32,
}

/// How much there is in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnknownTotals {
    /// Groups.
    pub groups: u64,
    /// Pictures.
    pub pictures: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What tidying up removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tidied {
    /// Faces whose time was over.
    pub expired: u64,
    /// Files without a row, and rows without a file.
    pub orphans: u64,
    /// There may be more of them.
    pub more: bool,
}

/// A face among those that are there.
struct Known {
    number: i64,
    group: i64,
    values: Vec<f32>,
    width_px: f64,
}

impl Store {
    /// Keeps a face, in the group that it is like or in a new one, as far as the limits go. After a crash it is there
    /// or not.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for what is no picture or no embedding.
    pub fn keep_unknown(&mut self, face: &NewUnknown, limits: &UnknownLimits) -> Result<KeptUnknown> {
        face.embedding.check()?;
        if face.jpeg.is_empty() || face.jpeg.len() > MAX_BYTES || !face.width_px.is_finite() {
            return Err(StoreError::Refused("that is no picture of a face".to_owned()));
        }
        let known = self.known_faces(&face.embedding.space)?;
        let like = |one: &Known| likeness(&one.values, &face.embedding.values);
        let nearest = known.iter().max_by(|a, b| like(a).total_cmp(&like(b)));
        let own = nearest.filter(|one| like(one) >= limits.likeness);
        let mut doomed = Vec::new();
        if let Some(own) = own {
            self.saw_again(own.group, face.at)?;
            let group = from_count(own.group);
            if like(own) >= SAME {
                return Ok(KeptUnknown::Repeated(group));
            }
            let of_group: Vec<&Known> = known.iter().filter(|one| one.group == own.group).collect();
            if of_group.len() >= limits.pictures {
                let narrowest = of_group.iter().min_by(|a, b| a.width_px.total_cmp(&b.width_px));
                let is_better =
                    |one: &&&Known| f64::from(face.width_px) >= one.width_px * f64::from(CLEARLY_WIDER);
                match narrowest.filter(is_better) {
                    Some(narrowest) => doomed.push(narrowest.number),
                    None => return Ok(KeptUnknown::Full(group)),
                }
            }
        }
        let own = own.map(|one| one.group);
        let giving_way = self.groups_to_give_way(own, face.jpeg.len() as u64, limits)?;
        let Some(giving_way) = giving_way else { return Ok(KeptUnknown::NoRoom) };
        if !(doomed.is_empty() && giving_way.is_empty()) && self.deletion_suspended()?.is_some() {
            return Ok(KeptUnknown::NoRoom);
        }
        let group = self.write_unknown(face, own, &doomed, &giving_way)?;
        Ok(KeptUnknown::Kept { group, gave_way: giving_way.len() as u64 })
    }

    fn saw_again(&self, group: i64, at: WallTime) -> Result<()> {
        self.connection
            .prepare_cached(
                "UPDATE unknown_groups SET last = max(last, ?2), seen = seen + 1 WHERE number = ?1",
            )?
            .execute(params![group, at.0])?;
        Ok(())
    }

    /// Groups that have to go before a picture of so many bytes can be kept; `None` when that would not be enough.
    fn groups_to_give_way(
        &self,
        own: Option<i64>,
        bytes: u64,
        limits: &UnknownLimits,
    ) -> Result<Option<Vec<i64>>> {
        let totals = self.unknown_totals()?;
        let (mut groups, mut held) = (totals.groups, totals.bytes);
        let mut oldest = self.connection.prepare_cached(
            "SELECT unknown_groups.number, sum(unknown_faces.bytes)
             FROM unknown_groups JOIN unknown_faces ON unknown_faces.\"group\" = unknown_groups.number
             WHERE unknown_faces.deleting = 0 GROUP BY unknown_groups.number
             ORDER BY unknown_groups.last, unknown_groups.number",
        )?;
        let mut rows = oldest.query([])?;
        let mut giving_way = Vec::new();
        loop {
            let too_many = own.is_none() && groups >= limits.groups as u64;
            if !too_many && held.saturating_add(bytes) <= limits.bytes {
                return Ok(Some(giving_way));
            }
            let Some(row) = rows.next()? else { return Ok(None) };
            let (number, its): (i64, i64) = (row.get(0)?, row.get(1)?);
            if Some(number) == own {
                continue;
            }
            giving_way.push(number);
            groups -= 1;
            held = held.saturating_sub(from_count(its));
        }
    }

    fn write_unknown(
        &mut self,
        face: &NewUnknown,
        own: Option<i64>,
        doomed: &[i64],
        giving_way: &[i64],
    ) -> Result<u64> {
        let folder = self.root().make_sub(UNKNOWN)?;
        let file = format!("{}.jpg", Uuid::new_v4());
        folder.write_new(&part(&file), &face.jpeg, self.durability())?;
        self.settle(&folder)?;
        let written = self.write_unknown_rows(face, own, &file, doomed, giving_way);
        let group = match written {
            Ok(group) => group,
            Err(error) => {
                folder.remove_quietly(&part(&file));
                return Err(error);
            }
        };
        folder.rename_new(&part(&file), &folder, &file)?;
        self.settle(&folder)?;
        if !(doomed.is_empty() && giving_way.is_empty()) {
            self.go_on_with_face_removals();
        }
        Ok(from_count(group))
    }

    fn write_unknown_rows(
        &mut self,
        face: &NewUnknown,
        own: Option<i64>,
        file: &str,
        doomed: &[i64],
        giving_way: &[i64],
    ) -> Result<i64> {
        let transaction = self.begin()?;
        for number in doomed {
            transaction.execute("UPDATE unknown_faces SET deleting = 1 WHERE number = ?1", [number])?;
        }
        for group in giving_way {
            mark_group(&transaction, *group)?;
        }
        let group = match own {
            Some(group) => group,
            None => transaction.query_row(
                "INSERT INTO unknown_groups (space, first, last, seen) VALUES (?1, ?2, ?2, 1) RETURNING number",
                params![face.embedding.space, face.at.0],
                |row| row.get(0),
            )?,
        };
        transaction.execute(
            "INSERT INTO unknown_faces (\"group\", file, camera, at, width, bytes, embedding)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                group,
                file,
                face.camera.as_str(),
                face.at.0,
                f64::from(face.width_px),
                count(face.jpeg.len() as u64),
                embedding::blob(&face.embedding.values)
            ],
        )?;
        transaction.commit()?;
        Ok(group)
    }

    /// Deletes a group; whether there was such a one.
    pub fn delete_unknown(&mut self, group: u64) -> Result<bool> {
        let marked = mark_group(&self.connection, count(group))?;
        self.finish_face_removals()?;
        Ok(marked > 0)
    }

    /// Removes faces that were seen before a moment, files without a row and rows without a file; about `most` of
    /// each at once.
    pub fn tidy_unknown(&mut self, before: Option<WallTime>, most: usize) -> Result<Tidied> {
        let mut tidied = Tidied::default();
        if let Some(before) = before {
            let marked = self.connection.execute(
                "UPDATE unknown_faces SET deleting = 1 WHERE number IN
                     (SELECT number FROM unknown_faces WHERE at < ?1 AND deleting = 0 ORDER BY at LIMIT ?2)",
                params![before.0, count(most as u64)],
            )?;
            tidied.expired = marked as u64;
        }
        self.go_on_with_face_removals();
        if self.root().has(UNKNOWN) {
            self.remove_orphans(most, &mut tidied)?;
        } else if self.unknown_totals()?.pictures > 0 {
            tidied.orphans += self.connection.execute("DELETE FROM unknown_faces", [])? as u64;
            self.connection.execute("DELETE FROM unknown_groups", [])?;
        }
        tidied.more = tidied.expired >= most as u64 || tidied.orphans >= most as u64;
        Ok(tidied)
    }

    /// A database that was made anew or restored knows other faces than the folder holds.
    fn remove_orphans(&mut self, most: usize, tidied: &mut Tidied) -> Result<()> {
        let folder = self.root().sub(UNKNOWN)?;
        let mut known =
            self.connection.prepare("SELECT EXISTS (SELECT 1 FROM unknown_faces WHERE file = ?1)")?;
        let files: Vec<String> = folder.entries()?.into_iter().map(|entry| entry.name).collect();
        for file in files.iter().filter(|file| !file.starts_with('.')) {
            if tidied.orphans >= most as u64 {
                return Ok(());
            }
            if !known.query_row([file], |row| row.get::<_, bool>(0))? {
                folder.remove(file)?;
                tidied.orphans += 1;
            }
        }
        let mut rows = self.connection.prepare("SELECT number, file FROM unknown_faces")?;
        let rows = rows
            .query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        for (number, file) in rows {
            // One that has not got its name yet gets it at the next start.
            if !folder.has(&file) && !folder.has(&part(&file)) {
                self.connection.execute("DELETE FROM unknown_faces WHERE number = ?1", [number])?;
                tidied.orphans += 1;
            }
        }
        let without_faces =
            "DELETE FROM unknown_groups WHERE number NOT IN (SELECT \"group\" FROM unknown_faces)";
        self.connection.execute(without_faces, [])?;
        Ok(())
    }
}

/// Marks every face of a group; how many there were.
fn mark_group(connection: &Connection, group: i64) -> Result<usize> {
    let mark = "UPDATE unknown_faces SET deleting = 1 WHERE \"group\" = ?1 AND deleting = 0";
    Ok(connection.execute(mark, [group])?)
}

/// Takes unknown faces out of a copy of the database: they are to be gone after a few days, copies are not.
pub(crate) fn leave_out_of_copy(copy: &Connection) -> Result<()> {
    let there: Option<i64> = copy
        .query_row("SELECT 1 FROM sqlite_schema WHERE name = 'unknown_faces'", [], |row| row.get(0))
        .optional()?;
    if there.is_some() {
        copy.pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))?;
        copy.execute_batch("DELETE FROM unknown_faces; DELETE FROM unknown_groups;")?;
    }
    Ok(())
}

impl StoreReader {
    /// Every group, the one that was seen last first.
    pub fn unknown_groups(&self) -> Result<Vec<UnknownGroup>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT unknown_groups.number, count(*), sum(unknown_faces.bytes), unknown_groups.first,
                 unknown_groups.last, unknown_groups.seen, group_concat(DISTINCT unknown_faces.camera)
             FROM unknown_groups JOIN unknown_faces ON unknown_faces.\"group\" = unknown_groups.number
             WHERE unknown_faces.deleting = 0 GROUP BY unknown_groups.number
             ORDER BY unknown_groups.last DESC, unknown_groups.number DESC",
        )?;
        let rows = statement.query_map([], |row| {
            let cameras: String = row.get(6)?;
            let mut cameras: Vec<String> = cameras.split(',').map(str::to_owned).collect();
            cameras.sort();
            Ok(UnknownGroup {
                group: from_count(row.get(0)?),
                pictures: from_count(row.get(1)?),
                bytes: from_count(row.get(2)?),
                first: WallTime(row.get(3)?),
                last: WallTime(row.get(4)?),
                seen: from_count(row.get(5)?),
                cameras,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The pictures of a group, oldest first; none when there is no such group.
    pub fn unknown_pictures(&self, group: u64) -> Result<Vec<UnknownPicture>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT number, file, camera, at, width FROM unknown_faces
             WHERE \"group\" = ?1 AND deleting = 0 ORDER BY number",
        )?;
        let rows = statement.query_and_then([count(group)], |row| {
            let file: String = row.get(1)?;
            Ok(UnknownPicture {
                number: from_count(row.get(0)?),
                path: self.folder.join(UNKNOWN).join(file),
                camera: parsed(row, 2, |text| CameraId::parse(text).ok())?,
                at: WallTime(row.get(3)?),
                width_px: row.get::<_, f64>(4)? as f32,
            })
        })?;
        rows.collect()
    }

    /// How much there is in all.
    pub fn unknown_totals(&self) -> Result<UnknownTotals> {
        let mut statement = self.connection.prepare_cached(
            "SELECT count(DISTINCT \"group\"), count(*), ifnull(sum(bytes), 0) FROM unknown_faces WHERE deleting = 0",
        )?;
        Ok(statement.query_row([], |row| {
            Ok(UnknownTotals {
                groups: from_count(row.get(0)?),
                pictures: from_count(row.get(1)?),
                bytes: from_count(row.get(2)?),
            })
        })?)
    }

    /// Groups with a face like one of these.
    pub(crate) fn unknown_like(&self, own: &[Embedding], at_least: f32) -> Result<Vec<i64>> {
        let mut spaces: Vec<&str> = own.iter().map(|embedding| embedding.space.as_str()).collect();
        spaces.sort_unstable();
        spaces.dedup();
        let mut found = Vec::new();
        for space in spaces {
            let own = || own.iter().filter(|embedding| embedding.space == space);
            let is_like = |one: &Known| own().any(|own| likeness(&own.values, &one.values) >= at_least);
            found.extend(self.known_faces(space)?.iter().filter(|one| is_like(one)).map(|one| one.group));
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    fn known_faces(&self, space: &str) -> Result<Vec<Known>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT unknown_faces.number, unknown_faces.\"group\", unknown_faces.embedding, unknown_faces.width
             FROM unknown_groups JOIN unknown_faces ON unknown_faces.\"group\" = unknown_groups.number
             WHERE unknown_groups.space = ?1 AND unknown_faces.deleting = 0",
        )?;
        let rows = statement.query_map([space], |row| {
            Ok(Known {
                number: row.get(0)?,
                group: row.get(1)?,
                values: embedding::values(&row.get::<_, Vec<u8>>(2)?),
                width_px: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

#[cfg(test)]
mod tests;
