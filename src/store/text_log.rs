//! A file of lines for people that never grows beyond a size: when it is full it becomes `<name>.1`, what was that
//! becomes `<name>.2`, and the oldest goes. Not the log of the node, and nothing reads it back.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use crate::data_folder::DataFolder;
use crate::error::{Result, StoreError};
use crate::fault::{self, DiskOp};
use crate::files::Folder;

/// One such file, in a folder of the data folder. Opened anew for each append, so that it may be moved away at any
/// time.
#[derive(Debug, Clone)]
pub struct TextLog {
    data: Arc<DataFolder>,
    folder: &'static str,
    name: &'static str,
    max_bytes: u64,
    old_files: u32,
}

impl TextLog {
    /// `<data folder>/<folder>/<name>`, of at most `max_bytes` bytes (a single append may be larger), with so many old
    /// ones beside it. Folder and file are made with the first line.
    pub fn new(
        data: Arc<DataFolder>,
        folder: &'static str,
        name: &'static str,
        max_bytes: u64,
        old_files: u32,
    ) -> Self {
        Self { data, folder, name, max_bytes, old_files }
    }

    /// Where it lies.
    pub fn path(&self) -> PathBuf {
        self.data.path().join(self.folder).join(self.name)
    }

    /// Appends whole lines, in one piece.
    ///
    /// # Errors
    /// Those of the disk; and that the data folder is not there, in whose place nothing is made.
    pub fn append(&self, lines: &str) -> Result<()> {
        self.data.here()?;
        let folder = Folder::existing(self.data.path())?.make_sub(self.folder)?;
        let held = folder.len_of(self.name).unwrap_or(0);
        if held > 0 && held.saturating_add(lines.len() as u64) > self.max_bytes {
            self.turn_over(&folder)?;
        }
        let mut file = folder.append(self.name)?;
        fault::point(DiskOp::Write)
            .and_then(|()| file.write_all(lines.as_bytes()))
            .map_err(|e| StoreError::io(self.path(), e))
    }

    fn turn_over(&self, folder: &Folder) -> Result<()> {
        let old = |number: u32| format!("{}.{number}", self.name);
        if self.old_files == 0 {
            return folder.remove(self.name);
        }
        for number in (1..self.old_files).rev() {
            if folder.has(&old(number)) {
                folder.rename_over(&old(number), &old(number + 1))?;
            }
        }
        folder.rename_over(self.name, &old(1))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    fn log(data: &Path, max_bytes: u64, old_files: u32) -> TextLog {
        let data = Arc::new(DataFolder::open(data).unwrap());
        TextLog::new(data, "watch", "viewers.log", max_bytes, old_files)
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn lines_are_appended_and_only_the_owner_reads_them() {
        let temp = tempfile::tempdir().unwrap();
        let log = log(temp.path(), 1_000, 2);
        assert!(!log.path().exists(), "made with the first line");
        log.append("一\n").unwrap();
        log.append("two\nthree\n").unwrap();
        assert_eq!(fs::read_to_string(log.path()).unwrap(), "一\ntwo\nthree\n");
        assert_eq!(fs::metadata(log.path()).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn it_never_grows_beyond_its_size_and_the_newest_stay() {
        let temp = tempfile::tempdir().unwrap();
        for (old_files, expected) in [(0, 1), (1, 2), (3, 4)] {
            let log = log(temp.path(), 100, old_files);
            let folder = log.path().parent().unwrap().to_owned();
            for n in 0..200 {
                log.append(&format!("line {n:04}\n")).unwrap();
                for name in names(&folder) {
                    assert!(fs::metadata(folder.join(&name)).unwrap().len() <= 100, "{name}");
                }
            }
            assert_eq!(names(&folder).len(), expected);
            let newest = fs::read_to_string(log.path()).unwrap();
            assert!(newest.ends_with("line 0199\n"), "{newest}");
            if old_files > 0 {
                let before = fs::read_to_string(folder.join("viewers.log.1")).unwrap();
                let first = newest.lines().next().unwrap();
                let last: u32 = before.lines().last().unwrap()[5..].parse().unwrap();
                assert_eq!(first, format!("line {:04}", last + 1), "nothing is lost between the two");
            }
            fs::remove_dir_all(&folder).unwrap();
        }
    }

    #[test]
    fn a_link_in_its_place_and_a_data_folder_that_is_gone_are_refused() {
        let temp = tempfile::tempdir().unwrap();
        let (data, elsewhere) = (temp.path().join("data"), temp.path().join("elsewhere"));
        let log = log(&data, 100, 1);
        log.append("first\n").unwrap();
        fs::remove_file(log.path()).unwrap();
        std::os::unix::fs::symlink(&elsewhere, log.path()).unwrap();
        assert!(log.append("second\n").is_err());
        assert!(!elsewhere.exists());
        fs::remove_dir_all(&data).unwrap();
        assert!(log.append("third\n").is_err());
        assert!(!data.exists(), "nothing is made in its place");
    }
}
