//! Enrolling, comparing, correcting and removing with recognisers of the tests' own, and with the classic one.

use meerkat_base::{
    DetectorError, DetectorInfo, FaceIdentity, FoundFace, Image, ImageWish, ManualClock, PixelFormat,
    WallTime,
};
use meerkat_store::{Store, StoreOptions};

use super::*;

/// Sees one face in every picture, as large as the picture is wide but for what is around it; its direction is the
/// brightness of the picture. A picture darker than 20 shows nobody.
#[derive(Default)]
struct ByBrightness {
    wanted: bool,
}

impl FaceRecogniser for ByBrightness {
    fn info(&self) -> DetectorInfo {
        DetectorInfo { name: "brightness".into(), backend: "classic", device: "cpu".into() }
    }

    fn wish(&self) -> ImageWish {
        ImageWish { format: PixelFormat::Gray8, enough_width: 64 }
    }

    fn begin_gallery(&mut self) {}

    fn add_to_gallery(&mut self, _: &str, _: &Image) -> Result<bool, DetectorError> {
        Ok(true)
    }

    fn use_gallery(&mut self) {}

    fn recognise(&mut self, image: &Image) -> Result<Vec<FoundFace>, DetectorError> {
        let middle = (image.height() / 2 * image.width() + image.width() / 2) as usize;
        let brightness = f32::from(image.data()[middle]);
        if brightness < 20.0 {
            return Ok(Vec::new());
        }
        let (width, height) = (image.width() as f32, image.height() as f32);
        let angle = (brightness - 20.0).to_radians();
        Ok(vec![FoundFace {
            bbox: Rect::new(width * 0.3, height * 0.3, width * 0.4, height * 0.4),
            score: 0.9,
            identity: FaceIdentity::Unknown,
            unfit: None,
            embedding: self.wanted.then(|| vec![angle.cos(), angle.sin()]),
        }])
    }

    fn want_embeddings(&mut self, wanted: bool) {
        self.wanted = wanted;
    }

    fn embedding_space(&self) -> Option<String> {
        Some("brightness".to_owned())
    }
}

/// A picture of this brightness.
fn picture(brightness: u8) -> (ImageFormat, Vec<u8>) {
    let image = Image::new(64, 64, PixelFormat::Gray8, vec![brightness; 64 * 64]).unwrap();
    (ImageFormat::Jpeg, meerkat_vision::encode_jpeg(&image, 95).unwrap())
}

fn enrolment(name: &str, brightness: &[u8]) -> Enrolment {
    Enrolment {
        name: name.to_owned(),
        consent_by: "the test".to_owned(),
        pictures: brightness.iter().map(|brightness| picture(*brightness)).collect(),
        even: Even::default(),
    }
}

fn desk(folder: &std::path::Path) -> People<OwnFolder> {
    let store = Store::open(folder, StoreOptions::default()).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(WallTime(1_795_176_000_000_000)));
    let make: Make<dyn FaceRecogniser> = Arc::new(|| Ok(Box::new(ByBrightness::default())));
    // cos 60 degrees.
    let env = [("MEERKAT__DETECTORS__FACE__THRESHOLD", "0.5")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let settings = Settings::load(&[], env.into_iter()).unwrap();
    let settings = Settings { data_dir: folder.to_owned(), ..settings };
    People::new(OwnFolder::new(store), clock, make, &settings)
}

fn reasons(error: PeopleError) -> Vec<(usize, &'static str)> {
    let PeopleError::Pictures(problems) = error else { panic!("{error}") };
    problems.iter().map(|one| (one.number, one.reason)).collect()
}

#[test]
fn every_picture_that_cannot_be_used_is_named_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let desk = desk(folder.path());
    let mut bad = enrolment("Ada", &[40, 10, 50, 60]);
    bad.pictures[2].0 = ImageFormat::Png;
    bad.pictures[3].1.truncate(20);
    let problems = reasons(desk.enrol(bad).unwrap_err());
    assert_eq!(problems, [(2, "none"), (3, "format"), (4, "unreadable")]);
    assert!(desk.people().unwrap().is_empty());
}

#[test]
fn a_picture_that_is_not_like_the_others_is_named_and_taken_on_purpose_only() {
    let folder = tempfile::tempdir().unwrap();
    let desk = desk(folder.path());
    let mixed = enrolment("Ada", &[40, 50, 200, 45]);
    assert_eq!(reasons(desk.enrol(mixed.clone()).unwrap_err()), [(3, "unlike")]);
    assert_eq!(desk.enrol(enrolment("Ada", &[40, 50])).unwrap().pictures, 2);
    // More pictures of her are compared with those that she has.
    assert_eq!(reasons(desk.enrol(enrolment("Ada", &[200])).unwrap_err()), [(1, "unlike")]);
    let on_purpose = Enrolment { even: Even { if_unlike: true, ..Even::default() }, ..mixed };
    assert_eq!(desk.enrol(on_purpose).unwrap().pictures, 6);
}

#[test]
fn somebody_who_looks_like_another_person_is_enrolled_on_purpose_only() {
    let folder = tempfile::tempdir().unwrap();
    let desk = desk(folder.path());
    desk.enrol(enrolment("Ada", &[40, 50])).unwrap();
    let again = enrolment("Eva", &[45, 55]);
    let error = desk.enrol(again.clone()).unwrap_err();
    assert!(error.to_string().contains("Ada (2 of the pictures"), "{error}");
    assert!(matches!(error, PeopleError::Known(known) if known[0].name == "Ada" && known[0].likeness > 0.9));
    desk.enrol(enrolment("Bob", &[150])).unwrap();
    let on_purpose = Enrolment { even: Even { if_known: true, ..Even::default() }, ..again };
    assert_eq!(desk.enrol(on_purpose).unwrap().name, "Eva");
    // More of the same person is nothing to warn of, even if that name stands at the end of a space.
    assert!(matches!(desk.enrol(enrolment(" Bob ", &[155])), Ok(bob) if bob.pictures == 2));
}

#[test]
fn pictures_of_another_network_are_compared_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let desk = desk(folder.path());
    let (format, bytes) = picture(40);
    let consent = Consent { by: "the test".into(), at: WallTime(1) };
    desk.books.ask(move |store| store.enrol("Ada", &[(&bytes, format)], &consent, WallTime(1))).unwrap();
    assert!(matches!(desk.enrol(enrolment("Eva", &[45])), Err(PeopleError::Known(_))));
    let left = desk.books.ask(|store| store.faces_to_embed("brightness", None)).unwrap();
    assert!(left.is_empty(), "it was computed once for all");
}

#[test]
fn a_correction_is_a_face_that_is_cut_out_and_goes_with_the_person() {
    let folder = tempfile::tempdir().unwrap();
    let desk = desk(folder.path());
    let (format, bytes) = picture(60);
    let mistake = Mistake::Picture(format, bytes.clone());
    assert_eq!(desk.correct("Ada", mistake.clone()).unwrap(), None);
    desk.enrol(enrolment("Ada", &[40, 50])).unwrap();
    let corrected = desk.correct("Ada", mistake.clone()).unwrap().unwrap();
    assert_eq!((corrected.person.pictures, corrected.person.negatives), (2, 1));
    assert!(corrected.likeness.is_some_and(|likeness| (0.9..1.0).contains(&likeness)), "{corrected:?}");
    let negatives = desk.books.ask(|store| store.negatives()).unwrap();
    let kept = probe(&std::fs::read(&negatives[0].1[0]).unwrap()).unwrap();
    // 26 of 64 pixels, and 0.6 of that on each side.
    assert!((56..=60).contains(&kept.width), "{kept:?}");

    let refused = |mistake| desk.correct("Ada", mistake).unwrap_err().to_string();
    assert!(refused(Mistake::Picture(ImageFormat::Png, bytes)).contains("is said to be png"));
    assert!(refused(Mistake::Picture(format, picture(5).1)).contains("no face"));
    let event = EventId::new(WallTime(5), [1; 10]);
    assert!(refused(Mistake::Event(event)).contains("no event of this id"));
    assert_eq!(desk.forget_corrections("Ada").unwrap(), Some(1));
    assert_eq!(desk.forget_corrections("Eva").unwrap(), None);

    desk.correct("Ada", mistake).unwrap().unwrap();
    let removal = desk.remove("Ada").unwrap().unwrap();
    assert_eq!(removal, Removal { unknown_groups: 0, negatives: 0 }, "her own are not told of");
    assert_eq!(desk.remove("Ada").unwrap(), None);
    assert_eq!(std::fs::read_dir(folder.path().join("faces")).unwrap().count(), 0);
}

fn stranger(desk: &People<OwnFolder>, brightness: u8, second: i64) {
    let (_, jpeg) = picture(brightness);
    let angle = (f32::from(brightness) - 20.0).to_radians();
    let face = meerkat_store::NewUnknown {
        camera: meerkat_base::CameraId::parse("door").unwrap(),
        at: WallTime(second * 1_000_000),
        width_px: 60.0,
        jpeg,
        embedding: Embedding { space: "brightness".into(), values: vec![angle.cos(), angle.sin()] },
    };
    let limits = meerkat_store::UnknownLimits { likeness: 0.5, groups: 9, pictures: 9, bytes: 1 << 20 };
    desk.books.ask(move |store| store.keep_unknown(&face, &limits)).unwrap();
}

#[test]
fn unknown_faces_are_listed_and_become_a_person() {
    let folder = tempfile::tempdir().unwrap();
    let desk = desk(folder.path());
    stranger(&desk, 40, 1);
    stranger(&desk, 80, 2);
    stranger(&desk, 160, 3);
    let groups = desk.unknown().unwrap();
    let sizes: Vec<_> = groups.iter().map(|group| (group.group, group.pictures.len())).collect();
    assert_eq!(sizes, [(2, 1), (1, 2)]);
    let shown = &groups[1].pictures[0];
    assert!(shown.file.starts_with("unknown/") && folder.path().join(&shown.file).is_file());
    assert!(desk.unknown_picture(1, shown.number).unwrap().is_some());
    assert_eq!(desk.unknown_picture(2, shown.number).unwrap(), None, "of another group");

    let assignment = |group, name: &str, even| Assignment {
        group,
        name: name.to_owned(),
        consent_by: "herself".to_owned(),
        even,
    };
    assert_eq!(desk.assign(assignment(9, "Ada", Even::default())).unwrap(), None);
    let ada = desk.assign(assignment(1, "Ada", Even::default())).unwrap().unwrap();
    assert_eq!((ada.pictures, ada.consent_by.as_str()), (2, "herself"));
    assert_eq!(desk.unknown().unwrap().len(), 1);
    // Who looks like her is not enrolled under another name by accident.
    stranger(&desk, 50, 4);
    let error = desk.assign(assignment(3, "Eva", Even::default())).unwrap_err();
    assert!(matches!(error, PeopleError::Known(_)), "{error}");
    assert_eq!(desk.remove("Ada").unwrap(), Some(Removal { unknown_groups: 1, negatives: 0 }));
    assert!(desk.delete_unknown(2).unwrap() && !desk.delete_unknown(2).unwrap());
    assert!(desk.unknown().unwrap().is_empty());
}

#[test]
fn pictures_without_a_face_are_all_named_by_the_classic_method_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut desk = desk(folder.path());
    desk.make = Arc::new(|| {
        Ok(Box::new(
            meerkat_vision::LbphFaceRecogniser::new(Default::default()).expect("it needs no download"),
        ))
    });
    let mut bad = enrolment("Ada", &[128, 128]);
    bad.pictures.push((ImageFormat::Png, b"GIF89a".to_vec()));
    let error = desk.enrol(bad).unwrap_err();
    assert_eq!(reasons(error), [(1, "none"), (2, "none"), (3, "unreadable")]);
}

#[test]
fn a_link_in_the_place_of_a_picture_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().canonicalize().unwrap();
    let (file, link) = (data.join("a.jpg"), data.join("link.jpg"));
    std::fs::write(&file, picture(120).1).unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let mut recogniser = ByBrightness::default();
    assert!(decoded(&file, &mut recogniser).is_ok());
    assert!(decoded(&link, &mut recogniser).is_err());
    assert!(unknown::read(&file).unwrap().is_some());
    assert!(unknown::read(&link).is_err());
    assert!(unknown::read(&data.join("gone.jpg")).unwrap().is_none());
}
