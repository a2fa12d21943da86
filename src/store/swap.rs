//! Puts a database (and, from a backup, the folder of faces and that of keys) in the place of another, all or nothing:
//! what comes in is complete in `staged/` before anything moves, what was there goes to `set-aside/<time>/`. Nothing
//! is overwritten, nothing deleted; a crash in between is made up for by the next start.

use std::io::{Read, Write};
use std::path::PathBuf;

use crate::database::DATABASE;
use crate::error::{Result, StoreError};
use crate::files::{Durability, Folder, PART_PREFIX};

/// Complete, and about to take its place.
const STAGED: &str = "staged";
/// Where that goes which was replaced.
pub const ASIDE: &str = "set-aside";
/// In the staged folder: the name of the folder for what is replaced.
const ASIDE_NOTE: &str = "aside";
/// What can be replaced, in this order.
pub(crate) const THINGS: [&str; 3] = ["faces", "keys", DATABASE];

/// A folder in which what is to come in is gathered.
pub(crate) struct Staging {
    pub folder: Folder,
    part: String,
}

/// Begins to gather; removes what an attempt before left.
pub(crate) fn begin(root: &Folder) -> Result<Staging> {
    let part = format!("{PART_PREFIX}{STAGED}");
    remove_all(root, &part, 4)?;
    Ok(Staging { folder: root.make_new_sub(&part)?, part })
}

impl Staging {
    /// Everything is there and on the disk: from here on it comes in, whatever happens. `aside` names the folder for
    /// what is replaced; returns its path.
    pub fn commit(self, root: &Folder, aside: &str) -> Result<PathBuf> {
        self.folder.write_new(ASIDE_NOTE, aside.as_bytes(), Durability::Power)?;
        self.folder.sync()?;
        drop(self.folder);
        root.rename_folder_new(&self.part, root, STAGED)?;
        root.sync()?;
        finish(root)?;
        Ok(root.path().join(ASIDE).join(aside))
    }

    /// Gives up; what was gathered is removed.
    pub fn abandon(self, root: &Folder) {
        drop(self.folder);
        if let Err(error) = remove_all(root, &self.part, 4) {
            tracing::warn!(%error, "what was gathered for a rebuilt database stays behind");
        }
    }
}

/// Ends a replacement that a crash interrupted. Returns whether there was one.
pub(crate) fn finish(root: &Folder) -> Result<bool> {
    if !root.has(STAGED) {
        return Ok(false);
    }
    let staged = root.sub(STAGED)?;
    let mut note = String::new();
    let read = staged.read(ASIDE_NOTE).and_then(|file| {
        file.take(64).read_to_string(&mut note).map_err(|e| StoreError::io(staged.path().join(ASIDE_NOTE), e))
    });
    let plain = read.is_ok() && crate::capture::check_stem(&note).is_ok();
    let aside = root.make_sub(ASIDE)?.make_sub(if plain { &note } else { "unknown" })?;
    for thing in THINGS {
        if !staged.has(thing) {
            continue;
        }
        // Log and index of a database first: beside another database they would be taken for its own.
        for beside in ["-wal", "-shm", "-journal", ""] {
            let old = format!("{thing}{beside}");
            if root.has(&old) {
                put_aside(root, &old, &aside)?;
            }
        }
        root.sync()?;
        aside.sync()?;
        staged.rename_folder_new(thing, root, thing)?;
    }
    root.sync()?;
    drop(staged);
    root.remove_sub(STAGED)?;
    Ok(true)
}

fn put_aside(root: &Folder, name: &str, aside: &Folder) -> Result<()> {
    for number in 1..1_000 {
        let free = if number == 1 { name.to_owned() } else { format!("{name}~{number}") };
        if !aside.has(&free) {
            return root.rename_folder_new(name, aside, &free);
        }
    }
    Err(StoreError::Exists { path: aside.path().join(name) })
}

/// Removes a folder of ours with all that is in it, `depth` folders deep.
pub(crate) fn remove_all(root: &Folder, name: &str, depth: u8) -> Result<()> {
    if !root.has(name) {
        return Ok(());
    }
    let folder = root.sub(name)?;
    if depth > 0 {
        for entry in folder.entries()?.into_iter().filter(|entry| entry.is_folder) {
            remove_all(&folder, &entry.name, depth - 1)?;
        }
    }
    root.remove_sub(name)
}

/// Writes a file and flushes it.
pub(crate) fn write_flushed(folder: &Folder, name: &str, mut from: impl Read) -> Result<u64> {
    let mut file = folder.create_new(name)?;
    let path = folder.path().join(name);
    let bytes = std::io::copy(&mut from, &mut file).map_err(|e| StoreError::io(&path, e))?;
    file.flush().and_then(|()| file.sync_all()).map_err(|e| StoreError::io(&path, e))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &std::path::Path) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_there_is_kept_and_a_crash_at_any_step_is_made_up_for() {
        // How far the first attempt comes: so many of the renames.
        for done in 0..=5 {
            let temp = tempfile::tempdir().unwrap();
            let root = Folder::root(temp.path()).unwrap();
            for file in ["meerkat.db", "meerkat.db-wal", "other"] {
                std::fs::write(temp.path().join(file), format!("old {file}")).unwrap();
            }
            std::fs::create_dir(temp.path().join("faces")).unwrap();
            let staging = begin(&root).unwrap();
            staging.folder.write_new("meerkat.db", b"new", Durability::Process).unwrap();
            staging.folder.make_sub("faces").unwrap().make_sub("ada").unwrap();
            // As far as `commit` comes before it calls `finish`, and then by hand a part of that.
            staging.folder.write_new(ASIDE_NOTE, b"then", Durability::Process).unwrap();
            let part = staging.part.clone();
            drop(staging);
            root.rename_folder_new(&part, &root, STAGED).unwrap();
            let aside = root.make_sub(ASIDE).unwrap().make_sub("then").unwrap();
            let staged = root.sub(STAGED).unwrap();
            let steps: [(&Folder, &str, &Folder); 5] = [
                (&root, "faces", &aside),
                (&staged, "faces", &root),
                (&root, "meerkat.db-wal", &aside),
                (&root, "meerkat.db", &aside),
                (&staged, "meerkat.db", &root),
            ];
            for (from, name, to) in steps.into_iter().take(done) {
                from.rename_folder_new(name, to, name).unwrap();
            }
            assert!(finish(&root).unwrap());
            assert!(!finish(&root).unwrap());
            assert_eq!(
                names(temp.path()),
                ["faces", "meerkat.db", "other", "set-aside"],
                "after {done} steps"
            );
            assert_eq!(names(&temp.path().join("faces")), ["ada"]);
            assert_eq!(std::fs::read(temp.path().join("meerkat.db")).unwrap(), b"new");
            let aside = temp.path().join("set-aside/then");
            assert_eq!(names(&aside), ["faces", "meerkat.db", "meerkat.db-wal"]);
            assert_eq!(std::fs::read(aside.join("meerkat.db")).unwrap(), b"old meerkat.db");
        }
    }

    #[test]
    fn nothing_that_was_set_aside_is_overwritten() {
        let temp = tempfile::tempdir().unwrap();
        let root = Folder::root(temp.path()).unwrap();
        for n in 1..=3 {
            std::fs::write(temp.path().join(DATABASE), format!("{n}")).unwrap();
            let staging = begin(&root).unwrap();
            staging.folder.write_new(DATABASE, b"new", Durability::Process).unwrap();
            staging.commit(&root, "then").unwrap();
        }
        let aside = temp.path().join("set-aside/then");
        assert_eq!(names(&aside), ["meerkat.db", "meerkat.db~2", "meerkat.db~3"]);
        let left = begin(&root).unwrap();
        left.folder.make_sub("faces").unwrap().make_sub("ada").unwrap();
        begin(&root).unwrap().abandon(&root);
        assert_eq!(names(temp.path()), ["meerkat.db", "set-aside"]);
    }
}
