//! Opens files below a folder and nowhere else: no `..`, no absolute paths, no links on the way, nothing but regular
//! files.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path};

use rustix::fs::{CWD, Mode, OFlags, openat};

/// Larger pictures are not read: nobody stores them.
pub const MAX_PICTURE_BYTES: u64 = 64 << 20;

/// Opens a regular file for reading by its path relative to `folder`, and tells its length in bytes.
///
/// The way is walked one name at a time, each opened relative to the one before and refused when it is a link,
/// so that nothing that happens meanwhile on disk leads outside. `folder` itself may be a link.
///
/// # Errors
/// Those of the disk; [`io::ErrorKind::InvalidInput`] for what leads outside or is no regular file.
pub fn open_below(folder: &Path, relative: &Path) -> io::Result<(File, u64)> {
    let way = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
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

/// Reads a regular file below a folder, as [`open_below`] opens it.
///
/// # Errors
/// As [`open_below`]; [`io::ErrorKind::FileTooLarge`] for one of more than so many bytes.
pub fn read_below(folder: &Path, relative: &Path, most_bytes: u64) -> io::Result<Vec<u8>> {
    let (file, length) = open_below(folder, relative)?;
    if length > most_bytes {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    // It may grow while it is read.
    file.take(most_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most_bytes { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

/// Reads a picture by a path that the store gave: absolute, and free of links from the root on.
///
/// # Errors
/// As [`read_below`] with [`MAX_PICTURE_BYTES`].
pub fn read_picture(path: &Path) -> io::Result<Vec<u8>> {
    let root = Path::new("/");
    let bad = |_| io::Error::new(io::ErrorKind::InvalidInput, "not an absolute path");
    read_below(root, path.strip_prefix(root).map_err(bad)?, MAX_PICTURE_BYTES)
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

    #[test]
    fn pictures_are_read_by_the_paths_of_the_store_and_by_no_link() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().canonicalize().unwrap();
        fs::create_dir_all(data.join("faces/ada")).unwrap();
        fs::write(data.join("faces/ada/1.jpg"), b"jpeg").unwrap();
        symlink("1.jpg", data.join("faces/ada/2.jpg")).unwrap();
        symlink("ada", data.join("faces/bob")).unwrap();
        assert_eq!(read_picture(&data.join("faces/ada/1.jpg")).unwrap(), b"jpeg");
        for bad in
            ["faces/ada/2.jpg", "faces/bob/1.jpg", "faces/ada/../ada/1.jpg", "faces/ada", "faces/eve/1.jpg"]
        {
            assert!(read_picture(&data.join(bad)).is_err(), "{bad}");
        }
        assert!(read_picture(Path::new("faces/ada/1.jpg")).is_err());
        rustix::fs::mknodat(CWD, data.join("pipe"), rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(read_picture(&data.join("pipe")).is_err());
        let relative = Path::new("faces/ada/1.jpg");
        assert_eq!(read_below(&data, relative, 4).unwrap(), b"jpeg");
        assert_eq!(read_below(&data, relative, 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
