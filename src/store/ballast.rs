//! The ballast: a file that only takes up room, so that there is some to be had when the disk is full to the last
//! byte, for recording what is deleted.

use std::io::Write;
use std::path::Path;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::error::{Result, StoreError};
use crate::files::Folder;

/// Name of the ballast in the data folder.
pub const BALLAST: &str = "meerkat.ballast";
const UNFINISHED: &str = "meerkat.ballast.new";
const PIECE: usize = 1 << 20;

/// Bytes of the ballast in a data folder; 0 where there is none.
pub fn ballast_bytes(data_dir: &Path) -> u64 {
    std::fs::symlink_metadata(data_dir.join(BALLAST)).map_or(0, |metadata| metadata.len())
}

/// Makes the ballast of so many bytes; it then has its blocks. One that is there already stays, unless it is smaller.
pub fn make(data_dir: &Path, bytes: u64) -> Result<()> {
    let root = Folder::existing(data_dir)?;
    if root.len_of(BALLAST).is_some_and(|len| len >= bytes) {
        return Ok(());
    }
    for name in [UNFINISHED, BALLAST] {
        root.remove(name)?;
    }
    let made = fill(&root, bytes).and_then(|()| root.rename_new(UNFINISHED, &root, BALLAST));
    if made.is_err() {
        root.remove_quietly(UNFINISHED);
    }
    made
}

/// Gives the ballast up, and one that a crash kept from being finished. Returns the bytes that it had.
pub fn give_up(data_dir: &Path) -> Result<u64> {
    let root = Folder::existing(data_dir)?;
    let mut bytes = 0;
    for name in [BALLAST, UNFINISHED] {
        bytes += root.len_of(name).unwrap_or(0);
        root.remove(name)?;
    }
    Ok(bytes)
}

fn fill(root: &Folder, bytes: u64) -> Result<()> {
    let mut file = root.create_new(UNFINISHED)?;
    let path = root.path().join(UNFINISHED);
    match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => return Ok(()),
        // File systems without it: zeros take up room too, where nothing is compressed.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
        Err(error) => return Err(StoreError::io(path, error)),
    }
    let zeros = vec![0; PIECE];
    let mut left = bytes;
    while left > 0 {
        let piece = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        file.write_all(&zeros[..piece]).map_err(|e| StoreError::io(&path, e))?;
        left -= piece as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn it_takes_up_room_and_gives_it_back() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(ballast_bytes(temp.path()), 0);
        make(temp.path(), 3_000_000).unwrap();
        make(temp.path(), 3_000_000).unwrap();
        let meta = std::fs::metadata(temp.path().join(BALLAST)).unwrap();
        assert_eq!(ballast_bytes(temp.path()), 3_000_000);
        assert!(meta.blocks() * 512 >= 3_000_000, "it has its blocks");
        assert_eq!(give_up(temp.path()).unwrap(), 3_000_000);
        assert_eq!(give_up(temp.path()).unwrap(), 0);
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
        // One that is smaller, such as after a change of the setting.
        make(temp.path(), 4_096).unwrap();
        make(temp.path(), 8_192).unwrap();
        assert_eq!(ballast_bytes(temp.path()), 8_192);
    }
}
