//! Folders held open by descriptor, so that no link put in between is ever followed: the few file
//! operations that the rest of the room is made of. Knows nothing of pictures, spools or layouts.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::error::{Result, StoreError};
use crate::fault::{self, DiskOp};

/// What an answered write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The death of the node: what was written is in the hands of the operating system.
    #[default]
    Process,
    /// Also the death of the machine: what was written is on the disk.
    Power,
}

impl Durability {
    /// Whether files and folders have to be synced.
    pub fn syncs(self) -> bool {
        self == Durability::Power
    }
}

/// Every file that is not complete yet begins with this; the id of the node's run follows.
pub(crate) const PART_PREFIX: &str = ".part-";

/// Names the run of a node: 1 to 32 of `a-z` and `0-9`. Part of file names, and tells the temporary
/// files of this run from those that a crash left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootId(String);

impl BootId {
    /// Checks the characters and the length.
    pub fn parse(text: &str) -> Result<Self> {
        let fits = (1..=32).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(StoreError::Refused("a boot id is 1 to 32 of the characters a-z and 0-9".into()))
        }
    }

    /// The id as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name under which a file is written before it is complete. It is another one each time: whoever was given
    /// up in the middle of a file and comes back after all must not publish or remove the file of the next attempt.
    pub(crate) fn part_name(&self, name: &str) -> String {
        static ATTEMPTS: AtomicU64 = AtomicU64::new(0);
        format!("{PART_PREFIX}{}-{}-{name}", self.0, ATTEMPTS.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether a name is that of an unfinished file of another run.
    pub(crate) fn is_foreign_part(&self, name: &str) -> bool {
        match name.strip_prefix(PART_PREFIX) {
            Some(rest) => rest.split_once('-').is_none_or(|(boot, _)| boot != self.0),
            None => false,
        }
    }
}

const FOLDER_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// An open folder. New folders get mode 0700 and new files 0600: bits that no sensible umask takes away.
#[derive(Debug)]
pub(crate) struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

/// One name found in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub name: String,
    pub is_folder: bool,
}

impl Folder {
    /// Opens the folder that everything else lies in; making it, with its parents, if it is missing.
    /// Only here links are followed: where the data lies is the administrator's choice.
    pub fn root(path: &Path) -> Result<Self> {
        if !path.exists() {
            make_root(path).map_err(|e| StoreError::io(path, e))?;
        }
        Self::existing(path)
    }

    /// As [`Folder::root`], but a folder that is missing stays so: it may be on a disk that was taken away.
    pub fn existing(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path).map_err(|e| StoreError::io(path, e))?;
        let path = path.canonicalize().map_err(|e| StoreError::io(&path, e))?;
        let fd =
            rustix::fs::open(&path, FOLDER_FLAGS, Mode::empty()).map_err(|e| StoreError::io(&path, e))?;
        Ok(Self { fd, path })
    }

    /// Absolute path, for messages and for libraries that open files themselves.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a folder in this one, making it if it is missing. A link or a file in its place is refused.
    pub fn make_sub(&self, name: &str) -> Result<Self> {
        match rustix::fs::mkdirat(&self.fd, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => self.sub(name),
            Err(e) => Err(self.error(name, e)),
        }
    }

    /// Makes a folder that must not exist yet.
    pub fn make_new_sub(&self, name: &str) -> Result<Self> {
        match rustix::fs::mkdirat(&self.fd, name, Mode::RWXU) {
            Ok(()) => self.sub(name),
            Err(e) => Err(self.error(name, e)),
        }
    }

    /// Opens a folder in this one; a link or a file in its place is refused.
    pub fn sub(&self, name: &str) -> Result<Self> {
        let path = self.path.join(name);
        match rustix::fs::openat(&self.fd, name, FOLDER_FLAGS | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path }),
            Err(Errno::NOTDIR | Errno::LOOP) => Err(StoreError::NotAFolder { path }),
            Err(e) => Err(StoreError::io(path, e)),
        }
    }

    /// Makes a file for appending that must not exist yet.
    pub fn create_new(&self, name: &str) -> Result<File> {
        self.planned(DiskOp::Open, name)?;
        let flags = OFlags::WRONLY
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::NOFOLLOW
            | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => Ok(fd.into()),
            Err(e) => Err(self.error(name, e)),
        }
    }

    /// Makes a file that has no name yet. Not every file system can.
    pub fn create_unnamed(&self) -> Result<File> {
        self.planned(DiskOp::Open, ".")?;
        let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.fd, ".", flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => Ok(fd.into()),
            Err(e) => Err(self.error(".", e)),
        }
    }

    /// Gives a file of [`Folder::create_unnamed`] its name unless that is taken.
    pub fn name_new(&self, file: &File, name: &str) -> Result<()> {
        self.planned(DiskOp::Rename, name)?;
        // By /proc: naming the handle itself needs a capability before Linux 6.10.
        let handle = format!("/proc/self/fd/{}", file.as_raw_fd());
        rustix::fs::linkat(rustix::fs::CWD, handle, &self.fd, name, AtFlags::SYMLINK_FOLLOW)
            .map_err(|e| self.error(name, e))
    }

    /// Opens a file for appending, making it if it is missing.
    pub fn append(&self, name: &str) -> Result<File> {
        self.planned(DiskOp::Open, name)?;
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => Ok(fd.into()),
            Err(e) => Err(self.error(name, e)),
        }
    }

    /// Opens a file for reading.
    pub fn read(&self, name: &str) -> Result<File> {
        // NONBLOCK: a pipe that somebody put there must not hold us up.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(fd.into()),
            Err(e) => Err(self.error(name, e)),
        }
    }

    /// Writes a whole new file; a failed write leaves nothing behind. A sync that failed is not
    /// tried again: the kernel may have dropped the pages and would report success (PostgreSQL's
    /// "fsyncgate" of 2018).
    pub fn write_new(&self, name: &str, bytes: &[u8], durability: Durability) -> Result<()> {
        let mut file = self.create_new(name)?;
        let written = write_through(&mut file, bytes, durability);
        written.map_err(|e| {
            self.remove_quietly(name);
            StoreError::io(self.path.join(name), e)
        })
    }

    /// Gives a file or folder its new name in `to` unless that name is taken.
    pub fn rename_new(&self, from: &str, to_folder: &Folder, to: &str) -> Result<()> {
        to_folder.planned(DiskOp::Rename, to)?;
        let renamed = rustix::fs::renameat_with(&self.fd, from, &to_folder.fd, to, RenameFlags::NOREPLACE);
        let renamed = match renamed {
            // File systems without RENAME_NOREPLACE: a hard link is as exclusive, for files.
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::linkat(&self.fd, from, &to_folder.fd, to, AtFlags::empty())
                    .and_then(|()| rustix::fs::unlinkat(&self.fd, from, AtFlags::empty()))
            }
            other => other,
        };
        renamed.map_err(|e| to_folder.error(to, e))
    }

    /// Gives a file its new name in this folder; what has that name is replaced, at once and as a whole.
    pub fn rename_over(&self, from: &str, to: &str) -> Result<()> {
        rustix::fs::renameat(&self.fd, from, &self.fd, to).map_err(|e| self.error(to, e))
    }

    /// As [`Folder::rename_new`] for a folder. Where RENAME_NOREPLACE is unknown an empty folder of the new name would be
    /// replaced; one that holds anything never.
    pub fn rename_folder_new(&self, from: &str, to_folder: &Folder, to: &str) -> Result<()> {
        let renamed = rustix::fs::renameat_with(&self.fd, from, &to_folder.fd, to, RenameFlags::NOREPLACE);
        let renamed = match renamed {
            Err(Errno::INVAL | Errno::NOSYS) => rustix::fs::renameat(&self.fd, from, &to_folder.fd, to),
            other => other,
        };
        renamed.map_err(|e| to_folder.error(to, e))
    }

    /// What the system knows of the folder itself, wherever it may lie by now.
    pub fn stat(&self) -> Result<rustix::fs::Stat> {
        rustix::fs::fstat(&self.fd).map_err(|e| StoreError::io(&self.path, e))
    }

    /// Whether the name is taken, by whatever.
    pub fn has(&self, name: &str) -> bool {
        rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Length in bytes of a file in this folder, links not followed; none when there is none.
    pub fn len_of(&self, name: &str) -> Option<u64> {
        let stat = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        u64::try_from(stat.st_size).ok()
    }

    /// Reads the names in this folder one by one, in no order.
    pub fn listing(&self) -> Result<rustix::fs::Dir> {
        rustix::fs::Dir::read_from(&self.fd).map_err(|e| StoreError::io(&self.path, e))
    }

    /// Removes a folder in this one if it is empty.
    pub fn remove_empty(&self, name: &str) {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => {}
            Err(error) => tracing::debug!(%error, name, "an empty folder stays"),
        }
    }

    /// Removes a file; one that is not there is fine.
    pub fn remove(&self, name: &str) -> Result<()> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(self.error(name, e)),
        }
    }

    /// Removes a file while another error is already on its way to the caller.
    pub fn remove_quietly(&self, name: &str) {
        if let Err(error) = self.remove(name) {
            tracing::warn!(%error, "an unfinished file stays behind");
        }
    }

    /// Removes a folder together with the files directly in it; one that is not there is fine.
    pub fn remove_sub(&self, name: &str) -> Result<()> {
        let folder = match self.sub(name) {
            Ok(folder) => folder,
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        folder.each(|entry| if entry.is_folder { Ok(()) } else { folder.remove(&entry.name) })?;
        rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR).map_err(|e| self.error(name, e))
    }

    /// Calls `visit` for each name in this folder that is valid UTF-8 (all of ours are), in no order.
    pub fn each(&self, mut visit: impl FnMut(Entry) -> Result<()>) -> Result<()> {
        let listing = rustix::fs::Dir::read_from(&self.fd).map_err(|e| StoreError::io(&self.path, e))?;
        for entry in listing {
            let entry = entry.map_err(|e| StoreError::io(&self.path, e))?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name == "." || name == ".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)),
                known => known,
            };
            visit(Entry { name: name.to_owned(), is_folder: kind == FileType::Directory })?;
        }
        Ok(())
    }

    /// Every name in this folder, sorted.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let mut found = Vec::new();
        self.each(|entry| {
            found.push(entry);
            Ok(())
        })?;
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Makes the names in this folder survive the death of the machine.
    pub fn sync(&self) -> Result<()> {
        self.planned(DiskOp::Sync, ".")?;
        rustix::fs::fsync(&self.fd).map_err(|e| StoreError::io(&self.path, e))
    }

    /// What a test planned for this operation.
    fn planned(&self, op: DiskOp, name: &str) -> Result<()> {
        fault::point(op).map_err(|e| StoreError::io(self.path.join(name), e))
    }

    fn error(&self, name: &str, errno: Errno) -> StoreError {
        let path = self.path.join(name);
        match errno {
            Errno::EXIST => StoreError::Exists { path },
            e => StoreError::io(path, e),
        }
    }
}

/// Writes everything, and has it on the disk where that is promised.
pub(crate) fn write_through(file: &mut File, bytes: &[u8], durability: Durability) -> io::Result<()> {
    fault::point(DiskOp::Write)?;
    file.write_all(bytes)?;
    if durability.syncs() {
        fault::point(DiskOp::Sync)?;
        file.sync_all()?;
    }
    Ok(())
}

/// Makes the data folder and its missing parents, each with mode 0700.
fn make_root(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty() && !p.exists()) {
        make_root(parent)?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {
            let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(parent)?.sync_all()
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn folders_and_files_are_private() {
        let temp = tempfile::tempdir().unwrap();
        let root = Folder::root(&temp.path().join("a/b")).unwrap();
        let sub = root.make_sub("c").unwrap();
        sub.write_new("f", b"x", Durability::Power).unwrap();
        for folder in ["a", "a/b", "a/b/c"] {
            assert_eq!(mode(&temp.path().join(folder)), 0o700, "{folder}");
        }
        assert_eq!(mode(&temp.path().join("a/b/c/f")), 0o600);
    }

    #[test]
    fn links_are_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let root = Folder::root(temp.path()).unwrap();
        std::os::unix::fs::symlink(outside.path(), temp.path().join("link")).unwrap();
        std::fs::write(outside.path().join("target"), b"keep").unwrap();
        std::os::unix::fs::symlink(outside.path().join("target"), temp.path().join("file")).unwrap();
        assert!(matches!(root.sub("link"), Err(StoreError::NotAFolder { .. })));
        assert!(matches!(root.make_sub("link"), Err(StoreError::NotAFolder { .. })));
        assert!(matches!(root.make_sub("file"), Err(StoreError::NotAFolder { .. })));
        assert!(matches!(root.create_new("file"), Err(StoreError::Exists { .. })));
        assert!(root.append("file").is_err());
        assert!(root.read("file").is_err());
        assert!(root.remove_sub("link").is_err());
        assert_eq!(std::fs::read(outside.path().join("target")).unwrap(), b"keep");
    }

    #[test]
    fn nothing_is_overwritten() {
        let temp = tempfile::tempdir().unwrap();
        let root = Folder::root(temp.path()).unwrap();
        root.write_new("a", b"1", Durability::Process).unwrap();
        root.write_new("b", b"2", Durability::Process).unwrap();
        assert!(matches!(root.rename_new("a", &root, "b"), Err(StoreError::Exists { .. })));
        assert_eq!(std::fs::read(temp.path().join("b")).unwrap(), b"2");
        root.rename_new("a", &root, "c").unwrap();
        assert!(!root.has("a") && root.has("c"));
    }

    #[test]
    fn temporaries_of_this_run_are_told_from_others() {
        let boot = BootId::parse("b1").unwrap();
        assert!(!boot.is_foreign_part(&boot.part_name("x-y.jpg")));
        assert!(boot.is_foreign_part(".part-b2-x.jpg"));
        assert!(boot.is_foreign_part(".part-b10-x.jpg"));
        assert!(boot.is_foreign_part(".part-junk"));
        assert!(!boot.is_foreign_part("x.jpg"));
        for bad in ["", "B", "a/b", "a-b", "..", &"x".repeat(33)] {
            assert!(BootId::parse(bad).is_err(), "{bad:?}");
        }
    }
}
