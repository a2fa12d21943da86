//! Decoded pictures that two files of one camera have in common, a clip and a segment: the first encoder that needs one
//! decodes it, the other takes it from here. Only when the two are too far apart is a picture decoded twice.
//!
//! Numbers alone do not tell frames apart: a camera that was away, or a node that was, counts from the beginning, and
//! spools of both lives may be at work at once. So a picture is taken only for the same bytes.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use meerkat_base::CameraId;
use meerkat_media::{Picture, PictureFault};

/// Most bytes of decoded pictures that wait, over all cameras.
const MAX_BYTES: usize = 64 << 20;

#[derive(Default)]
struct Shelf {
    users: usize,
    waiting: VecDeque<Waiting>,
}

/// A picture that another file may come for.
struct Waiting {
    seq: u64,
    encoded: Bytes,
    picture: Arc<Picture>,
}

impl Waiting {
    fn bytes(&self) -> usize {
        self.picture.bytes() + self.encoded.len()
    }
}

#[derive(Default)]
struct Shelves {
    bytes: usize,
    by_camera: HashMap<CameraId, Shelf>,
}

/// The pictures of all cameras. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Pictures(Arc<Mutex<Shelves>>);

/// One file of a camera.
pub(super) struct User {
    pictures: Pictures,
    camera: CameraId,
}

impl Pictures {
    fn lock(&self) -> MutexGuard<'_, Shelves> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file of this camera is being made, until the result is dropped.
    pub fn user(&self, camera: &CameraId) -> User {
        self.lock().by_camera.entry(camera.clone()).or_default().users += 1;
        User { pictures: self.clone(), camera: camera.clone() }
    }
}

impl User {
    /// The picture of a frame: the one that another file left, else what `decode` makes.
    pub fn get(
        &self,
        seq: u64,
        encoded: &Bytes,
        decode: impl FnOnce() -> Result<Picture, PictureFault>,
    ) -> Result<Arc<Picture>, PictureFault> {
        if let Some(picture) = self.pictures.lock().take(&self.camera, seq, encoded) {
            return Ok(picture);
        }
        let picture = Arc::new(decode()?);
        let waiting = Waiting { seq, encoded: encoded.clone(), picture: Arc::clone(&picture) };
        self.pictures.lock().put(&self.camera, waiting);
        Ok(picture)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let mut shelves = self.pictures.lock();
        let Some(shelf) = shelves.by_camera.get_mut(&self.camera) else { return };
        shelf.users -= 1;
        if shelf.users <= 1 {
            let left: usize = shelf.waiting.drain(..).map(|waiting| waiting.bytes()).sum();
            if shelf.users == 0 {
                shelves.by_camera.remove(&self.camera);
            }
            shelves.bytes -= left;
        }
    }
}

impl Shelves {
    fn take(&mut self, camera: &CameraId, seq: u64, encoded: &Bytes) -> Option<Arc<Picture>> {
        let shelf = self.by_camera.get_mut(camera)?;
        let at =
            shelf.waiting.iter().position(|waiting| waiting.seq == seq && waiting.encoded == *encoded)?;
        let waiting = shelf.waiting.remove(at)?;
        self.bytes -= waiting.bytes();
        Some(waiting.picture)
    }

    /// Keeps a picture for the other file, if there is one.
    fn put(&mut self, camera: &CameraId, waiting: Waiting) {
        let Some(shelf) = self.by_camera.get_mut(camera).filter(|shelf| shelf.users > 1) else { return };
        let bytes = waiting.bytes();
        while self.bytes + bytes > MAX_BYTES {
            // What nobody has come for is the oldest.
            let Some(oldest) = shelf.waiting.pop_front() else { return };
            self.bytes -= oldest.bytes();
        }
        shelf.waiting.push_back(waiting);
        self.bytes += bytes;
    }
}

#[cfg(test)]
mod tests {
    use meerkat_base::{Image, ImageFormat, PixelFormat};
    use meerkat_media::{ClipSettings, ClipWriter, encode_jpeg};

    use super::*;

    #[test]
    fn a_picture_is_decoded_once_for_two_files_and_held_for_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = ClipWriter::create(&folder.path().join("a"), ClipSettings::default()).unwrap();
        let image = Image::new(64, 48, PixelFormat::Gray8, vec![9; 64 * 48]).unwrap();
        let jpeg = encode_jpeg(&image, 80).unwrap();
        let mut decoded = 0;
        let mut get = |user: &User, seq| {
            user.get(seq, &jpeg, || {
                decoded += 1;
                writer.decode(&jpeg, ImageFormat::Jpeg)
            })
            .unwrap()
        };
        let pictures = Pictures::default();
        let camera = CameraId::parse("door").unwrap();
        let one = pictures.user(&camera);
        get(&one, 1);
        assert_eq!(pictures.lock().bytes, 0, "nobody else wants it");
        let other = pictures.user(&camera);
        for seq in 2..10 {
            let first = get(&one, seq);
            assert!(Arc::ptr_eq(&first, &get(&other, seq)));
        }
        assert_eq!(pictures.lock().bytes, 0, "both had them");
        get(&other, 10);
        assert!(pictures.lock().bytes > 0);
        drop(one);
        assert_eq!(pictures.lock().bytes, 0);
        drop(other);
        assert!(pictures.lock().by_camera.is_empty());
        assert_eq!(decoded, 10);
    }

    #[test]
    fn frames_of_two_lives_with_the_same_number_are_not_taken_for_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = ClipWriter::create(&folder.path().join("a"), ClipSettings::default()).unwrap();
        let jpeg = |level| {
            let image = Image::new(64, 48, PixelFormat::Gray8, vec![level; 64 * 48]).unwrap();
            encode_jpeg(&image, 80).unwrap()
        };
        let (early, late) = (jpeg(30), jpeg(200));
        let pictures = Pictures::default();
        let camera = CameraId::parse("door").unwrap();
        let (one, other) = (pictures.user(&camera), pictures.user(&camera));
        let first = one.get(1, &early, || writer.decode(&early, ImageFormat::Jpeg)).unwrap();
        let second = other.get(1, &late, || writer.decode(&late, ImageFormat::Jpeg)).unwrap();
        assert!(!Arc::ptr_eq(&first, &second), "another picture, though its number is the same");
        // Both still wait for whoever has the same bytes.
        let again = |user: &User, encoded: &Bytes| user.get(1, encoded, || unreachable!("it waits")).unwrap();
        assert!(Arc::ptr_eq(&again(&one, &late), &second) && Arc::ptr_eq(&again(&other, &early), &first));
    }
}
