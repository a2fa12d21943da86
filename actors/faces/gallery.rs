//! Keeps a recogniser up to date with who is enrolled, picture by picture: a large gallery takes longer than any
//! piece of work may, and the cameras do not wait for it.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use meerkat_base::{FaceRecogniser, Image, ImageWish, PixelFormat};
use meerkat_store::confine::read_picture;
use meerkat_vision::decode_image;
use tracing::{info, warn};

/// How often it is looked whether somebody was enrolled or removed.
const INTERVAL: Duration = Duration::from_secs(2);
/// Enrolled pictures need not be wider than this.
const ENROLLED_WIDTH: u32 = 640;

/// Who is enrolled. Read from the face actor's thread; may block for a moment.
pub trait Gallery: Send + Sync {
    /// A number that changes whenever somebody is enrolled or removed.
    fn generation(&self) -> Result<u64, String>;
    /// Everybody, with the files of their pictures.
    fn people(&self) -> Result<Vec<(String, Vec<PathBuf>)>, String>;
    /// Who was taken for others, with the files of pictures of these.
    fn negatives(&self) -> Result<Vec<(String, Vec<PathBuf>)>, String> {
        Ok(Vec::new())
    }
}

/// Follows the gallery on behalf of one recogniser.
pub(crate) struct Following {
    gallery: Arc<dyn Gallery>,
    in_force: Option<u64>,
    making: Option<Making>,
    looked: Option<Instant>,
}

/// What is being made.
struct Making {
    generation: u64,
    people: usize,
    left: VecDeque<(Sort, String, PathBuf)>,
    usable: usize,
    negatives: usize,
}

/// What a picture says of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// Who they are.
    Own,
    /// Who they are not.
    Negative,
}

impl Following {
    /// Nobody is known yet.
    pub fn new(gallery: Arc<dyn Gallery>) -> Self {
        Self { gallery, in_force: None, making: None, looked: None }
    }

    /// Whether anybody who is enrolled is known already, as of some moment.
    pub fn is_in_force(&self) -> bool {
        self.in_force.is_some()
    }

    /// The recogniser is gone; the next one knows nobody.
    pub fn forget(&mut self) {
        (self.in_force, self.making, self.looked) = (None, None, None);
    }

    /// Whether the recogniser knows everybody who is to be known, as far as was looked.
    pub fn is_complete(&self) -> bool {
        self.in_force.is_some() && self.making.is_none()
    }

    /// Does one piece of work: at most one picture. True when there is more to do at once.
    pub fn advance(&mut self, recogniser: &mut dyn FaceRecogniser) -> bool {
        if self.looked.is_none_or(|at| at.elapsed() >= INTERVAL) {
            self.looked = Some(Instant::now());
            self.look(recogniser);
        }
        let Some(making) = &mut self.making else { return false };
        let Some((sort, name, file)) = making.left.pop_front() else {
            recogniser.use_gallery();
            let Making { people, usable: pictures, negatives, .. } = *making;
            info!(people, pictures, negatives, "gallery taken over");
            self.in_force = Some(making.generation);
            self.making = None;
            return false;
        };
        let taken = picture(&file).and_then(|image| {
            let taken = match sort {
                Sort::Own => recogniser.add_to_gallery(&name, &image),
                Sort::Negative => recogniser.add_negative(&name, &image),
            };
            taken.map_err(|error| error.to_string())
        });
        match taken {
            Ok(usable) => {
                let count = match sort {
                    Sort::Own => &mut making.usable,
                    Sort::Negative => &mut making.negatives,
                };
                *count += usize::from(usable);
            }
            // The other pictures are as good as before.
            Err(error) => warn!(error, "an enrolled picture cannot be used"),
        }
        true
    }

    /// Begins anew when somebody was enrolled or removed. A gallery that cannot be read is tried again later.
    fn look(&mut self, recogniser: &mut dyn FaceRecogniser) {
        let known = self.making.as_ref().map(|making| making.generation).or(self.in_force);
        let changed = self.gallery.generation().and_then(|generation| {
            if known == Some(generation) {
                return Ok(None);
            }
            Ok(Some((generation, self.gallery.people()?, self.gallery.negatives()?)))
        });
        match changed {
            Ok(None) => {}
            Ok(Some((generation, people, negatives))) => {
                let count = people.len();
                // A negative means nothing before the person's own pictures are there.
                let left = pictures(Sort::Own, people).chain(pictures(Sort::Negative, negatives)).collect();
                recogniser.begin_gallery();
                self.making = Some(Making { generation, people: count, left, usable: 0, negatives: 0 });
            }
            Err(error) => warn!(error, "the gallery cannot be read"),
        }
    }
}

fn pictures(sort: Sort, of: Vec<(String, Vec<PathBuf>)>) -> impl Iterator<Item = (Sort, String, PathBuf)> {
    of.into_iter()
        .flat_map(move |(name, files)| files.into_iter().map(move |file| (sort, name.clone(), file)))
}

fn picture(path: &Path) -> Result<Image, String> {
    let wish = ImageWish { format: PixelFormat::Bgr8, enough_width: ENROLLED_WIDTH };
    let bytes = read_picture(path).map_err(|error| error.to_string())?;
    decode_image(&bytes, wish).map(|(image, _)| image).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use meerkat_base::{DetectorError, DetectorInfo, FoundFace};

    use super::*;

    type People = Vec<(String, Vec<PathBuf>)>;

    /// A gallery of a test's own.
    struct Book(Mutex<Result<(u64, People), String>>, People);

    impl Gallery for Book {
        fn generation(&self) -> Result<u64, String> {
            self.0.lock().unwrap().as_ref().map(|(generation, _)| *generation).map_err(Clone::clone)
        }

        fn people(&self) -> Result<People, String> {
            self.0.lock().unwrap().as_ref().map(|(_, people)| people.clone()).map_err(Clone::clone)
        }

        fn negatives(&self) -> Result<People, String> {
            Ok(self.1.clone())
        }
    }

    /// Remembers what it was told; takes no picture of Mallory.
    #[derive(Default)]
    struct Pupil {
        coming: Vec<String>,
        known: Vec<String>,
    }

    impl FaceRecogniser for Pupil {
        fn info(&self) -> DetectorInfo {
            DetectorInfo { name: "pupil".into(), backend: "classic", device: "cpu".into() }
        }

        fn wish(&self) -> ImageWish {
            ImageWish { format: PixelFormat::Gray8, enough_width: 64 }
        }

        fn begin_gallery(&mut self) {
            self.coming.clear();
        }

        fn add_to_gallery(&mut self, name: &str, _picture: &Image) -> Result<bool, DetectorError> {
            if name == "Mallory" {
                return Err(DetectorError { detector: "pupil".into(), reason: "it breaks".into() });
            }
            self.coming.push(name.to_owned());
            Ok(true)
        }

        fn add_negative(&mut self, name: &str, _picture: &Image) -> Result<bool, DetectorError> {
            self.coming.push(format!("not {name}"));
            Ok(true)
        }

        fn use_gallery(&mut self) {
            self.known = std::mem::take(&mut self.coming);
        }

        fn recognise(&mut self, _image: &Image) -> Result<Vec<FoundFace>, DetectorError> {
            Ok(Vec::new())
        }
    }

    fn picture_file(folder: &Path) -> PathBuf {
        let image = Image::new(16, 16, PixelFormat::Gray8, vec![90; 256]).unwrap();
        let path = folder.join("face.jpg");
        std::fs::write(&path, meerkat_vision::encode_jpeg(&image, 90).unwrap()).unwrap();
        path
    }

    fn following(people: People) -> (Arc<Book>, Following) {
        let book = Arc::new(Book(Mutex::new(Ok((1, people))), Vec::new()));
        (Arc::clone(&book), Following::new(book))
    }

    #[test]
    fn negatives_come_after_everybody_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = picture_file(folder.path());
        let of = |name: &str| (name.to_owned(), vec![file.clone()]);
        let book = Book(Mutex::new(Ok((1, vec![of("Alice"), of("Bob")]))), vec![of("Alice")]);
        let mut following = Following::new(Arc::new(book));
        let mut pupil = Pupil::default();
        assert!(!following.is_complete());
        while following.advance(&mut pupil) {
            assert!(!following.is_complete());
        }
        assert!(following.is_complete());
        assert_eq!(pupil.known, ["Alice", "Bob", "not Alice"]);
    }

    #[test]
    fn one_picture_is_taken_at_a_time_and_all_of_them_in_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = picture_file(folder.path());
        let missing = folder.path().join("missing.jpg");
        let people = vec![
            ("Alice".to_owned(), vec![file.clone(), missing, file.clone()]),
            ("Mallory".to_owned(), vec![file.clone()]),
            ("Bob".to_owned(), vec![file]),
        ];
        let (_book, mut following) = following(people);
        let mut pupil = Pupil::default();
        for taken in [1, 1, 2, 2, 3] {
            assert!(following.advance(&mut pupil));
            assert_eq!(
                (pupil.coming.len(), pupil.known.len()),
                (taken, 0),
                "nobody is known before everybody is"
            );
        }
        assert!(!following.advance(&mut pupil));
        assert_eq!(pupil.known, ["Alice", "Alice", "Bob"]);
        assert!(!following.advance(&mut pupil));
        assert_eq!(following.in_force, Some(1));
    }

    #[test]
    fn a_change_in_the_middle_begins_anew_and_an_unreadable_gallery_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = picture_file(folder.path());
        let (book, mut following) = following(vec![("Alice".to_owned(), vec![file.clone(); 3])]);
        let mut pupil = Pupil::default();
        assert!(following.advance(&mut pupil));
        *book.0.lock().unwrap() = Err("the disk is gone".to_owned());
        following.looked = None;
        assert!(following.advance(&mut pupil), "it goes on with what it knows");
        *book.0.lock().unwrap() = Ok((2, vec![("Bob".to_owned(), vec![file])]));
        following.looked = None;
        while following.advance(&mut pupil) {}
        assert_eq!(pupil.known, ["Bob"]);
        *book.0.lock().unwrap() = Err("the disk is gone".to_owned());
        following.looked = None;
        assert!(!following.advance(&mut pupil));
        assert_eq!(pupil.known, ["Bob"]);
        *book.0.lock().unwrap() = Ok((3, Vec::new()));
        following.looked = None;
        assert!(!following.advance(&mut pupil));
        assert_eq!(pupil.known, Vec::<String>::new(), "whoever was removed is not known any more");
    }
}
