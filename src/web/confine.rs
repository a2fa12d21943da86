//! Opens files below the data folder and nowhere else: no `..`, no absolute paths, no links on the way.

use std::fs::File;
use std::io;
use std::path::{Component, Path};

use rustix::fs::{CWD, Mode, OFlags, openat};

/// Opens a regular file for reading by its path relative to `folder`, and tells its length in bytes.
///
/// The way is walked one name at a time, each opened relative to the one before and refused when it is a link,
/// so that nothing that happens meanwhile on disk leads outside. `folder` itself may be a link.
pub(crate) fn open_below(folder: &Path, relative: &Path) -> io::Result<(File, u64)> {
    let way = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = openat(CWD, folder, way, Mode::empty())?;
    let mut names = relative.components().peekable();
    while let Some(component) = names.next() {
        let Component::Normal(name) = component else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "path leads outside the data folder"));
        };
        if names.peek().is_some() {
            at = openat(&at, name, way | OFlags::NOFOLLOW, Mode::empty())?;
            continue;
        }
        // NONBLOCK: opening a named pipe must not wait for a writer.
        let leaf = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(&at, name, leaf, Mode::empty())?);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        return Ok((file, metadata.len()));
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "empty path"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_plain_files_below_the_folder_open() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("data");
        fs::create_dir_all(data.join("clips")).unwrap();
        fs::write(data.join("clips/a.mp4"), b"clip").unwrap();
        fs::write(root.path().join("secret"), b"secret").unwrap();
        symlink(root.path().join("secret"), data.join("clips/leaf_link")).unwrap();
        symlink(root.path(), data.join("folder_link")).unwrap();
        symlink(&data, root.path().join("data_link")).unwrap();

        for folder in ["data", "data_link"] {
            let (mut file, len) = open_below(&root.path().join(folder), Path::new("clips/a.mp4")).unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!((text.as_str(), len), ("clip", 4));
        }
        let absolute = root.path().join("secret");
        for bad in [
            "../secret",
            "clips/../../secret",
            "clips/leaf_link",
            "folder_link/secret",
            "clips",
            "clips/none",
            "",
            ".",
            absolute.to_str().unwrap(),
        ] {
            assert!(open_below(&data, Path::new(bad)).is_err(), "{bad}");
        }
    }
}
