//! Pictures as no camera sends them.

use meerkat_base::{Image, PersonDetector, PixelFormat, Rect};
use meerkat_models::networks::detector::{ObjectNet, PersonNet};
use meerkat_models::networks::embedder::{AgeGender, FaceEmbedder, PersonEmbedder};
use meerkat_models::networks::finder::FaceFinder;

use crate::data::{folder, network};

/// Tiny, thin, grey and even pictures.
fn pictures() -> Vec<Image> {
    let mut pictures = Vec::new();
    for (width, height) in [(1, 1), (2, 1), (1, 3000), (3000, 1), (7, 5), (31, 900)] {
        for format in [PixelFormat::Gray8, PixelFormat::Bgr8] {
            let len = width as usize * height as usize * format.channels();
            for data in [vec![0; len], vec![255; len], (0..len).map(|n| (n * 97 / 4) as u8).collect()] {
                pictures.push(Image::new(width, height, format, data).unwrap());
            }
        }
    }
    pictures
}

fn sound(bbox: &Rect, score: f32, image: &Image) {
    let inside = bbox.x >= 0.0
        && bbox.y >= 0.0
        && bbox.width > 0.0
        && bbox.height > 0.0
        && bbox.x + bbox.width <= image.width() as f32 + 0.01
        && bbox.y + bbox.height <= image.height() as f32 + 0.01;
    assert!(
        inside && (0.0..=1.0).contains(&score),
        "{bbox:?} {score} in {}x{}",
        image.width(),
        image.height()
    );
}

#[test]
fn every_picture_has_an_answer() {
    let Some(data) = folder() else { return };
    let mut person = PersonNet::new(network(&data, "person-detection-retail-0013", None), 0.01).unwrap();
    let mut objects = ObjectNet::coco(network(&data, "yolox-nano", None), 0.01).unwrap();
    let mut yunet = FaceFinder::yunet(network(&data, "yunet-s", Some((96, 64))), 0.01).unwrap();
    let mut ssd = FaceFinder::ssd(
        network(&data, "face-detection-retail-0004", None),
        network(&data, "landmarks-regression-retail-0009", None),
        0.01,
    )
    .unwrap();
    let mut embedder = FaceEmbedder::new(network(&data, "face-reidentification-retail-0095", None)).unwrap();
    let mut looks = PersonEmbedder::new(network(&data, "person-reidentification-retail-0277", None)).unwrap();
    let mut ages = AgeGender::new(network(&data, "age-gender-recognition-retail-0013", None)).unwrap();
    for image in pictures() {
        for found in person.detect(&image).unwrap() {
            sound(&found.bbox, found.score, &image);
        }
        for found in objects.detect_all(&[&image, &image]).unwrap().concat() {
            sound(&found.bbox, found.score, &image);
        }
        for finder in [&mut yunet, &mut ssd] {
            let faces = finder.find(&image).unwrap();
            for face in &faces {
                sound(&face.bbox, face.score, &image);
            }
            let faces = &faces[..faces.len().min(2)];
            assert_eq!(embedder.embed(&image, faces).unwrap().len(), faces.len());
        }
        let nowhere = [Rect::new(-50.0, 1e9, 3.0, 0.0)];
        let look = looks.embed(&image, &nowhere).unwrap().remove(0).unwrap();
        assert!(look.len() == 256 && look.iter().all(|value| value.is_finite()));
        assert!(ages.estimate(&image, &nowhere).unwrap()[0].is_some());
    }
}

#[test]
fn networks_that_do_not_fit_are_refused() {
    let Some(data) = folder() else { return };
    let load = |name| network(&data, name, None);
    let say = |error: meerkat_models::networks::error::ModelError| error.to_string();
    let wrong = [
        say(PersonNet::new(load("face-reidentification-retail-0095"), 0.5).unwrap_err()),
        say(ObjectNet::new(load("yolox-nano"), &["thing"], 0.5).unwrap_err()),
        say(FaceFinder::yunet(load("yolox-nano"), 0.5).unwrap_err()),
        say(FaceEmbedder::new(load("landmarks-regression-retail-0009")).unwrap_err()),
        say(AgeGender::new(load("yolox-nano")).unwrap_err()),
    ];
    for message in &wrong {
        assert!(message.contains("retail") || message.contains("yolox"), "{message}");
    }
    assert!(wrong[1].contains("80 classes"), "{}", wrong[1]);
}
