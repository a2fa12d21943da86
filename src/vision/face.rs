//! Faces with what comes with OpenCV: a Haar cascade finds frontal faces, local binary patterns (LBPH, Ahonen
//! et al., ECCV 2004) compare them with the enrolled ones. Meant for a door at which people look into the
//! camera; whoever resembles nobody closely enough is said to be unknown.

use std::path::{Path, PathBuf};

use meerkat_base::{
    DetectorError, DetectorInfo, FaceIdentity, FaceRecogniser, FoundFace, Image, ImageWish, PixelFormat, Rect,
};
use opencv::core::{Mat, MatTraitConst, Ptr, Size, Vector};
use opencv::face::{FaceRecognizerTrait, FaceRecognizerTraitConst, LBPHFaceRecognizer};
use opencv::imgproc::{self, CLAHETrait};
use opencv::objdetect::{self, CascadeClassifier, CascadeClassifierTrait, CascadeClassifierTraitConst};

use crate::{VisionError, mat};

const NAME: &str = "haar-lbph";
/// Faces are compared at this size …
const FACE_SIDE: i32 = 120;
/// … from this share of the cascade's box, whose corners show background.
const INNER: f32 = 0.85;
/// A face is what more overlapping hits of the cascade than this agree on.
const MIN_HITS: i32 = 4;
/// From one size of face that is looked for to the next.
const STEP: f64 = 1.1;
/// The same for small faces, up to [`SMALL`] times the smallest: most of the time goes into these. Two steps of
/// [`STEP`] in one, so each hit counts for two.
const SMALL_STEP: f64 = 1.2;
const SMALL: i32 = 2;
/// How unlike, in parts of their size, hits may be that are taken for the same face; OpenCV's own value.
const UNLIKE: f64 = 0.2;
/// The nearest person is known although it is not very near, when it is this much nearer than the next one.
const CLEAR_LEAD: f64 = 0.9;
/// … and at most this much farther than the largest distance.
const LEAD_REACH: f64 = 1.25;
/// Nobody is enrolled with more pictures than this; the others are left out.
const MOST_PICTURES: usize = 64;
/// No more faces than this are looked at in one picture.
const MOST_FACES: usize = 32;

/// Where Debian, Fedora, Homebrew and a plain `make install` put the cascades.
const CASCADE_FOLDERS: [&str; 5] = [
    "/usr/share/opencv4/haarcascades",
    "/usr/share/opencv/haarcascades",
    "/usr/share/OpenCV/haarcascades",
    "/usr/local/share/opencv4/haarcascades",
    "/opt/homebrew/share/opencv4/haarcascades",
];
const CASCADE_FILE: &str = "haarcascade_frontalface_alt2.xml";

/// Where the cascade is and when a face counts as known.
#[derive(Debug, Clone, PartialEq)]
pub struct LbphSettings {
    /// The cascade's file; without it the usual folders are searched for `haarcascade_frontalface_alt2.xml`.
    pub cascade: Option<PathBuf>,
    /// A face is known when its LBPH distance to the nearest enrolled picture is at most this. Smaller is
    /// stricter. The default was chosen so that about one stranger in forty is given a name.
    pub max_distance: f64,
    /// The decoded picture need not be wider than this many pixels.
    pub enough_width: u32,
    /// Faces narrower than this share of the picture's smaller side are not looked for.
    pub min_face: f32,
}

impl Default for LbphSettings {
    fn default() -> Self {
        Self { cascade: None, max_distance: 67.0, enough_width: 640, min_face: 0.08 }
    }
}

/// Finds frontal faces and compares them with the enrolled ones.
pub struct LbphFaceRecogniser {
    settings: LbphSettings,
    cascade: CascadeClassifier,
    gallery: Vec<Enrolled>,
    /// The gallery that is being made.
    coming: Vec<Enrolled>,
}

/// One person with a model of all pictures of that person.
struct Enrolled {
    name: String,
    model: Ptr<LBPHFaceRecognizer>,
    pictures: usize,
    /// A model of all pictures of others who were taken for this one.
    others: Option<Ptr<LBPHFaceRecognizer>>,
    negatives: usize,
}

/// A face in pixels of the picture, and how many hits of the cascade it had.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    area: opencv::core::Rect,
    hits: i32,
}

impl LbphFaceRecogniser {
    /// Loads the cascade. The error names the places where it was looked for.
    pub fn new(settings: LbphSettings) -> Result<Self, VisionError> {
        crate::init();
        let path = find_cascade(settings.cascade.as_deref())?;
        let unusable = || VisionError::MissingCascade { searched: path.display().to_string() };
        let text = path.to_str().ok_or_else(unusable)?;
        let cascade = CascadeClassifier::new(text).map_err(|_| unusable())?;
        if cascade.empty()? {
            return Err(unusable());
        }
        Ok(Self { settings, cascade, gallery: Vec::new(), coming: Vec::new() })
    }

    /// All faces of a grey picture, largest first.
    fn faces(&mut self, gray: &Mat) -> Result<Vec<Candidate>, VisionError> {
        let side = (gray.cols().min(gray.rows()) as f32 * self.settings.min_face.clamp(0.01, 1.0)) as i32;
        let side = side.max(24);
        if gray.cols() < side || gray.rows() < side {
            return Ok(Vec::new());
        }
        let small = self.hits(gray, SMALL_STEP, side, SMALL * side - 1)?;
        let large = self.hits(gray, STEP, SMALL * side, i32::MAX)?;
        let mut areas: Vector<_> = small.iter().chain(small.iter()).chain(large.iter()).collect();
        let mut hits = Vector::new();
        objdetect::group_rectangles_weights(&mut areas, &mut hits, MIN_HITS, UNLIKE)?;
        let mut faces: Vec<Candidate> =
            areas.iter().zip(hits.iter()).map(|(area, hits)| Candidate { area, hits }).collect();
        faces.sort_by_key(|face| std::cmp::Reverse(face.area.width * face.area.height));
        faces.truncate(MOST_FACES);
        Ok(faces)
    }

    /// Every single hit of the cascade of a side from one length to another.
    fn hits(
        &mut self,
        gray: &Mat,
        step: f64,
        from: i32,
        to: i32,
    ) -> Result<Vector<opencv::core::Rect>, VisionError> {
        let mut hits = Vector::new();
        if gray.cols() >= from && gray.rows() >= from {
            let (from, to) = (Size::new(from, from), Size::new(to, to));
            self.cascade.detect_multi_scale(gray, &mut hits, step, 0, 0, from, to)?;
        }
        Ok(hits)
    }

    fn add(&mut self, name: &str, picture: &Image) -> Result<bool, VisionError> {
        let is_full = |person: &Enrolled| person.name == name && person.pictures >= MOST_PICTURES;
        if self.coming.iter().any(is_full) {
            return Ok(false);
        }
        let Some(face) = self.largest(picture)? else { return Ok(false) };
        match self.coming.iter_mut().find(|person| person.name == name) {
            Some(person) => {
                learn(&mut person.model, face)?;
                person.pictures += 1;
            }
            None => {
                let (name, model) = (name.to_owned(), learned(face)?);
                self.coming.push(Enrolled { name, model, pictures: 1, others: None, negatives: 0 });
            }
        }
        Ok(true)
    }

    fn add_other(&mut self, name: &str, picture: &Image) -> Result<bool, VisionError> {
        let can_learn = |person: &Enrolled| person.name == name && person.negatives < MOST_PICTURES;
        if !self.coming.iter().any(can_learn) {
            return Ok(false);
        }
        let Some(face) = self.largest(picture)? else { return Ok(false) };
        let Some(person) = self.coming.iter_mut().find(|person| can_learn(person)) else { return Ok(false) };
        match &mut person.others {
            Some(others) => learn(others, face)?,
            none => *none = Some(learned(face)?),
        }
        person.negatives += 1;
        Ok(true)
    }

    /// The largest face of a picture, as it is compared.
    fn largest(&mut self, picture: &Image) -> Result<Option<Mat>, VisionError> {
        let gray = gray_of(picture)?;
        let Some(face) = self.faces(&gray)?.first().copied() else { return Ok(None) };
        Ok(Some(normalised(&gray, face.area)?))
    }

    fn identify(&self, face: &Mat) -> Result<FaceIdentity, VisionError> {
        let mut distances = Vec::new();
        for person in &self.gallery {
            let own = distance(&person.model, face)?;
            // Nearer to somebody who was taken for this person.
            if let Some(others) = &person.others
                && distance(others, face)? < own
            {
                continue;
            }
            distances.push((own, person.name.as_str()));
        }
        Ok(verdict(distances, self.settings.max_distance))
    }

    fn look(&mut self, image: &Image) -> Result<Vec<FoundFace>, VisionError> {
        let gray = gray_of(image)?;
        let mut found = Vec::new();
        for face in self.faces(&gray)? {
            let identity = if self.gallery.is_empty() {
                FaceIdentity::Unknown
            } else {
                self.identify(&normalised(&gray, face.area)?)?
            };
            let Candidate { area, hits } = face;
            let bbox = Rect::new(area.x as f32, area.y as f32, area.width as f32, area.height as f32);
            // A cascade gives no probability; the number of hits that agree is the best it has. Three are worth 0.7,
            // the usual floor, which is that of networks.
            let score = hits as f32 / (hits as f32 + 1.25);
            found.push(FoundFace { bbox, score, identity, unfit: None, embedding: None });
        }
        Ok(found)
    }
}

impl FaceRecogniser for LbphFaceRecogniser {
    fn info(&self) -> DetectorInfo {
        DetectorInfo { name: NAME.into(), backend: "classic", device: "cpu".into() }
    }

    fn wish(&self) -> ImageWish {
        ImageWish { format: PixelFormat::Gray8, enough_width: self.settings.enough_width }
    }

    fn begin_gallery(&mut self) {
        self.coming.clear();
    }

    fn add_to_gallery(&mut self, name: &str, picture: &Image) -> Result<bool, DetectorError> {
        self.add(name, picture).map_err(failed)
    }

    fn add_negative(&mut self, name: &str, picture: &Image) -> Result<bool, DetectorError> {
        self.add_other(name, picture).map_err(failed)
    }

    fn use_gallery(&mut self) {
        self.gallery = std::mem::take(&mut self.coming);
    }

    fn recognise(&mut self, image: &Image) -> Result<Vec<FoundFace>, DetectorError> {
        self.look(image).map_err(failed)
    }
}

fn failed(error: VisionError) -> DetectorError {
    DetectorError { detector: NAME.into(), reason: error.to_string() }
}

fn find_cascade(set: Option<&Path>) -> Result<PathBuf, VisionError> {
    let candidates: Vec<PathBuf> = match set {
        Some(path) => vec![path.to_path_buf()],
        None => CASCADE_FOLDERS.iter().map(|folder| Path::new(folder).join(CASCADE_FILE)).collect(),
    };
    let searched = || candidates.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
    match candidates.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => Err(VisionError::MissingCascade { searched: searched() }),
    }
}

fn gray_of(image: &Image) -> Result<Mat, VisionError> {
    let source = mat::borrow(image)?;
    let mut gray = Mat::default();
    match image.format() {
        PixelFormat::Gray8 => source.copy_to(&mut gray)?,
        PixelFormat::Bgr8 => imgproc::cvt_color_def(&source, &mut gray, imgproc::COLOR_BGR2GRAY)?,
    }
    Ok(gray)
}

/// The inner part of a face at one size, with its contrast evened out.
fn normalised(gray: &Mat, area: opencv::core::Rect) -> Result<Mat, VisionError> {
    let side = ((area.width as f32 * INNER) as i32).max(1);
    let whole = opencv::core::Rect::new(0, 0, gray.cols(), gray.rows());
    let middle = opencv::core::Rect::new(
        area.x + (area.width - side) / 2,
        area.y + (area.height - side) / 2,
        side,
        side,
    ) & whole;
    let part = gray.roi(middle)?;
    let (mut sized, mut even) = (Mat::default(), Mat::default());
    imgproc::resize(&part, &mut sized, Size::new(FACE_SIDE, FACE_SIDE), 0.0, 0.0, imgproc::INTER_AREA)?;
    imgproc::create_clahe(2.0, Size::new(4, 4))?.apply(&sized, &mut even)?;
    Ok(even)
}

/// A model of one face.
fn learned(face: Mat) -> Result<Ptr<LBPHFaceRecognizer>, VisionError> {
    // Radius 1, 8 neighbours, 8 x 8 cells: the method's usual values.
    let mut model = LBPHFaceRecognizer::create(1, 8, 8, 8, f64::MAX)?;
    let (faces, labels) = lesson(face);
    model.train(&faces, &labels)?;
    Ok(model)
}

/// Adds a face to a model.
fn learn(model: &mut Ptr<LBPHFaceRecognizer>, face: Mat) -> Result<(), VisionError> {
    let (faces, labels) = lesson(face);
    model.update(&faces, &labels)?;
    Ok(())
}

fn lesson(face: Mat) -> (Vector<Mat>, Vector<i32>) {
    let (mut faces, mut labels) = (Vector::new(), Vector::new());
    faces.push(face);
    labels.push(0);
    (faces, labels)
}

/// How far a face is from the nearest one of a model.
fn distance(model: &Ptr<LBPHFaceRecognizer>, face: &Mat) -> Result<f64, VisionError> {
    let (mut label, mut distance) = (0, f64::MAX);
    model.predict(face, &mut label, &mut distance)?;
    Ok(distance)
}

/// Decides whose face it is from the distance to each enrolled person.
fn verdict(mut distances: Vec<(f64, &str)>, max_distance: f64) -> FaceIdentity {
    distances.sort_by(|a, b| a.0.total_cmp(&b.0));
    let Some(&(nearest, name)) = distances.first() else { return FaceIdentity::Unknown };
    let leads = distances.get(1).is_some_and(|second| nearest <= CLEAR_LEAD * second.0);
    let known = nearest <= max_distance || leads && nearest <= LEAD_REACH * max_distance;
    if !known || !nearest.is_finite() || max_distance <= 0.0 {
        return FaceIdentity::Unknown;
    }
    let score = (1.0 - nearest / (2.0 * LEAD_REACH * max_distance)).clamp(0.0, 1.0) as f32;
    FaceIdentity::Known { name: name.into(), score }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{data, gray, pictures_in};

    fn recogniser() -> LbphFaceRecogniser {
        LbphFaceRecogniser::new(LbphSettings::default()).unwrap()
    }

    #[test]
    fn a_missing_cascade_is_named() {
        let settings = LbphSettings { cascade: Some("/nowhere/face.xml".into()), ..LbphSettings::default() };
        let error = LbphFaceRecogniser::new(settings).err().unwrap().to_string();
        assert!(error.contains("/nowhere/face.xml"), "{error}");
        let no_cascade = std::env::temp_dir().join(format!("meerkat-no-cascade-{}.xml", std::process::id()));
        std::fs::write(&no_cascade, "<opencv_storage/>").unwrap();
        let settings = LbphSettings { cascade: Some(no_cascade.clone()), ..LbphSettings::default() };
        assert!(LbphFaceRecogniser::new(settings).is_err());
        std::fs::remove_file(no_cascade).unwrap();
    }

    #[test]
    fn the_nearest_is_known_only_when_near_or_clearly_ahead() {
        let named = |distances: &[(f64, &'static str)]| match verdict(distances.to_vec(), 60.0) {
            FaceIdentity::Known { name, score } => {
                assert!((0.0..=1.0).contains(&score));
                Some(name)
            }
            FaceIdentity::Unknown => None,
        };
        assert_eq!(named(&[]), None);
        assert_eq!(named(&[(61.0, "a")]), None);
        assert_eq!(named(&[(80.0, "b"), (59.0, "a")]), Some("a".into()));
        assert_eq!(named(&[(70.0, "a"), (72.0, "b")]), None);
        assert_eq!(named(&[(70.0, "a"), (90.0, "b")]), Some("a".into()));
        assert_eq!(named(&[(90.0, "a"), (120.0, "b")]), None);
        assert_eq!(named(&[(f64::NAN, "a")]), None);
    }

    #[test]
    fn pictures_without_faces_have_none_and_enrol_nobody() {
        let mut faces = recogniser();
        let pictures = vec![gray(1, 1, 0), gray(200, 200, 120), gray(3000, 2, 9)];
        for picture in &pictures {
            assert_eq!(faces.recognise(picture).unwrap(), []);
        }
        assert_eq!(faces.enrol(&[("nobody".into(), pictures), ("empty".into(), vec![])]).unwrap(), 0);
        assert_eq!(faces.enrol(&[]).unwrap(), 0);
    }

    /// Faces from 38 pixels on: pictures of one face each, side by side on 640x480 in five sizes.
    #[test]
    fn small_faces_are_found_as_well_as_large_ones() {
        let Some(folder) = data("faces/lfw10x10") else { return };
        let mut people: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
        people.retain(|path| path.is_dir());
        people.sort();
        let pictures: Vec<Image> =
            people.iter().flat_map(|folder| pictures_in(folder, PixelFormat::Gray8)).collect();
        let mut faces = recogniser();
        for side in [96, 124, 160, 213, 240] {
            let (columns, rows) = (640 / side, 480 / side);
            let (mut found, mut others) = (0, 0);
            for shown in pictures.chunks(columns * rows) {
                let mut pixels = vec![90; 640 * 480];
                for (n, picture) in shown.iter().enumerate() {
                    let edge = u32::try_from(side).unwrap();
                    let small = crate::resize(picture, edge, edge).unwrap();
                    for (y, row) in small.data().chunks(side).enumerate() {
                        let at = (n / columns * side + y) * 640 + n % columns * side;
                        pixels[at..at + side].copy_from_slice(row);
                    }
                }
                let all = Image::new(640, 480, PixelFormat::Gray8, pixels).unwrap();
                let mut seen = faces.recognise(&all).unwrap();
                for n in 0..shown.len() {
                    let middle = |n: usize| (n * side + side / 2) as f32;
                    let (x, y, near) = (middle(n % columns), middle(n / columns), side as f32 * 0.2);
                    let here = seen.iter().position(|FoundFace { bbox, score, .. }| {
                        *score >= 0.7
                            && (bbox.x + bbox.width / 2.0 - x).abs() < near
                            && (bbox.y + bbox.height / 2.0 - y).abs() < near
                    });
                    if let Some(here) = here {
                        found += 1;
                        seen.swap_remove(here);
                    }
                }
                others += seen.len();
            }
            println!("{side}: {found} of {}, {others} others", pictures.len());
            assert!(found * 100 >= pictures.len() * 97, "{side}: {found} of {}", pictures.len());
            assert!(others * 100 <= pictures.len() * 12, "{side}: {others} others");
        }
    }

    #[test]
    fn the_old_gallery_stays_in_force_while_a_new_one_is_made() {
        let Some(folder) = data("faces/lfw10x10/George_W_Bush") else { return };
        let picture = &pictures_in(&folder, PixelFormat::Gray8)[0];
        let mut faces = recogniser();
        let named =
            |faces: &mut LbphFaceRecogniser| match faces.recognise(picture).unwrap().remove(0).identity {
                FaceIdentity::Known { name, .. } => name,
                FaceIdentity::Unknown => "nobody".to_owned(),
            };
        assert_eq!(faces.enrol(&[("old".into(), vec![picture.clone()])]).unwrap(), 1);
        faces.begin_gallery();
        assert!(faces.add_to_gallery("given up", picture).unwrap());
        faces.begin_gallery();
        assert!(faces.add_to_gallery("new", picture).unwrap());
        assert!(!faces.add_to_gallery("new", &gray(200, 200, 120)).unwrap());
        assert_eq!(named(&mut faces), "old");
        faces.use_gallery();
        assert_eq!(named(&mut faces), "new");
        faces.begin_gallery();
        faces.use_gallery();
        assert_eq!(named(&mut faces), "nobody");
    }

    #[test]
    fn a_face_nearer_to_a_negative_loses_the_name() {
        let Some(folder) = data("faces/lfw10x10") else { return };
        let (bush, powell) = (folder.join("George_W_Bush"), folder.join("Colin_Powell"));
        let (own, other) =
            (&pictures_in(&bush, PixelFormat::Gray8)[0], &pictures_in(&powell, PixelFormat::Gray8)[0]);
        // So lenient that everybody is George.
        let mut faces =
            LbphFaceRecogniser::new(LbphSettings { max_distance: 1e6, ..LbphSettings::default() }).unwrap();
        let named = |faces: &mut LbphFaceRecogniser, picture: &Image| {
            faces.recognise(picture).unwrap().remove(0).identity != FaceIdentity::Unknown
        };
        faces.begin_gallery();
        assert!(!faces.add_negative("George", other).unwrap(), "nobody of that name yet");
        assert!(faces.add_to_gallery("George", own).unwrap());
        faces.use_gallery();
        assert_eq!((named(&mut faces, own), named(&mut faces, other)), (true, true));
        faces.begin_gallery();
        assert!(faces.add_to_gallery("George", own).unwrap());
        assert!(!faces.add_negative("George", &gray(200, 200, 120)).unwrap(), "no face");
        assert!(faces.add_negative("George", other).unwrap());
        faces.use_gallery();
        assert_eq!((named(&mut faces, own), named(&mut faces, other)), (true, false));
    }

    /// Five pictures of each person are enrolled, the others are shown: hardly a wrong name, and strangers
    /// stay unknown.
    #[test]
    fn names_are_right_and_strangers_unknown() {
        let Some(folder) = data("faces") else { return };
        let mut people = Vec::new();
        for set in ["lfw10x10", "dlib/johns"] {
            let mut folders: Vec<_> =
                std::fs::read_dir(folder.join(set)).unwrap().map(|e| e.unwrap().path()).collect();
            folders.sort();
            for person in folders.into_iter().filter(|p| p.is_dir()) {
                let name = person.file_name().unwrap().to_string_lossy().into_owned();
                people.push((name, pictures_in(&person, PixelFormat::Gray8)));
            }
        }
        let mut faces = recogniser();
        let unknown = faces.recognise(&people[0].1[0]).unwrap();
        assert_eq!(unknown[0].identity, FaceIdentity::Unknown, "nobody is enrolled");

        let gallery: Vec<_> = people.iter().map(|(n, p)| (n.clone(), p[..5].to_vec())).collect();
        assert!(faces.enrol(&gallery).unwrap() >= 70, "faces are found");
        let (mut shown, mut right, mut wrong) = (0, 0, 0);
        for (name, pictures) in &people {
            for picture in &pictures[5..] {
                let Some(face) = faces.recognise(picture).unwrap().into_iter().next() else { continue };
                shown += 1;
                if let FaceIdentity::Known { name: said, .. } = face.identity {
                    if said == *name { right += 1 } else { wrong += 1 }
                }
            }
        }
        let (mut strangers, mut named) = (0, 0);
        for left_out in (0..people.len()).step_by(5) {
            let others: Vec<_> =
                gallery.iter().enumerate().filter(|g| g.0 != left_out).map(|g| g.1.clone()).collect();
            faces.enrol(&others).unwrap();
            for picture in &people[left_out].1[5..] {
                let Some(face) = faces.recognise(picture).unwrap().into_iter().next() else { continue };
                strangers += 1;
                named += usize::from(face.identity != FaceIdentity::Unknown);
            }
        }
        println!("{shown} shown: {right} right, {wrong} wrong; {strangers} strangers: {named} named");
        assert!(shown >= 70 && right * 4 >= shown, "{right} of {shown}");
        assert!(wrong * 25 <= shown, "{wrong} of {shown}");
        assert!(named * 12 <= strangers, "{named} of {strangers}");
    }
}
