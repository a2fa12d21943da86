//! How well faces are found and told apart, on pictures with names and on pictures without people.

use std::collections::BTreeMap;

use meerkat_base::{FaceIdentity, FaceRecogniser, Image};
use meerkat_models::networks::embedder::FaceEmbedder;
use meerkat_models::networks::embedding::cosine;
use meerkat_models::networks::face::largest_first;
use meerkat_models::networks::finder::FaceFinder;
use meerkat_models::networks::recogniser::{CandleFaceRecogniser, RecogniserSettings};

use crate::data::{files, folder, network, picture};

/// The pictures of lfw10x10 with their persons, in order.
fn portraits(data: &std::path::Path) -> Vec<(String, Image)> {
    files(&data.join("faces/lfw10x10"), "jpg")
        .iter()
        .map(|path| {
            (path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned(), picture(path))
        })
        .collect()
}

#[test]
fn people_are_told_apart() {
    let Some(data) = folder() else { return };
    let mut finder = FaceFinder::yunet(network(&data, "yunet-n", None), 0.7).unwrap();
    let mut embedder = FaceEmbedder::new(network(&data, "face-reidentification-retail-0095", None)).unwrap();
    let mut known = Vec::new();
    for (name, image) in portraits(&data) {
        let mut faces = finder.find(&image).unwrap();
        largest_first(&mut faces);
        let found = faces.first().and_then(|face| embedder.embed(&image, &[*face]).unwrap().remove(0));
        known.extend(found.map(|embedding| (name, embedding)));
    }
    assert!(known.len() >= 99, "faces found: {}", known.len());
    let (mut same, mut other) = (Vec::new(), Vec::new());
    for (n, (name, a)) in known.iter().enumerate() {
        for (their, b) in &known[..n] {
            (if name == their { &mut same } else { &mut other }).push(cosine(a, b));
        }
    }
    other.sort_by(|a, b| b.total_cmp(a));
    let cut = other[other.len() / 1000 - 1];
    let accepted = same.iter().filter(|&&likeness| likeness > cut).count() as f32 / same.len() as f32;
    assert!(accepted >= 0.99, "{accepted} of the pairs at a false one in 1000");
}

#[test]
fn who_is_enrolled_is_named_and_others_are_not() {
    let Some(data) = folder() else { return };
    let mut recogniser = CandleFaceRecogniser::new(
        FaceFinder::yunet(network(&data, "yunet-n", None), 0.7).unwrap(),
        FaceEmbedder::new(network(&data, "face-reidentification-retail-0095", None)).unwrap(),
        RecogniserSettings::default(),
    );
    let mut people: BTreeMap<String, Vec<Image>> = BTreeMap::new();
    for (name, image) in portraits(&data) {
        people.entry(name).or_default().push(image);
    }
    // Half of the people are enrolled with three pictures each; the others are strangers.
    let enrolled: Vec<(String, Vec<Image>)> =
        people.iter().step_by(2).map(|(name, images)| (name.clone(), images[..3].to_vec())).collect();
    assert_eq!(recogniser.enrol(&enrolled).unwrap(), 15);
    let (mut right, mut asked, mut wrong) = (0, 0, Vec::new());
    for (name, images) in &people {
        let is_enrolled = enrolled.iter().any(|(own, _)| own == name);
        for image in images.iter().skip(if is_enrolled { 3 } else { 0 }) {
            let found = recogniser.recognise(image).unwrap();
            asked += usize::from(is_enrolled);
            match found.first().map(|face| &face.identity) {
                Some(FaceIdentity::Known { name: given, .. }) if given == name => right += 1,
                Some(FaceIdentity::Known { name: given, score }) => wrong.push((name, given.clone(), *score)),
                Some(FaceIdentity::Unknown) | None => {}
            }
        }
    }
    assert!(right >= asked - 1, "{right} of {asked}");
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn where_nobody_is_no_face_is_seen() {
    let Some(data) = folder() else { return };
    let folder = data.join("stills/coco_lightly");
    let mut yunet = FaceFinder::yunet(network(&data, "yunet-n", None), 0.7).unwrap();
    let (mut empty, mut wrong) = (0, 0);
    for path in files(&folder.join("images"), "jpg") {
        let labels = folder
            .join("object_detection/labels/train2017")
            .join(path.with_extension("txt").file_name().unwrap());
        let labels = std::fs::read_to_string(labels).unwrap_or_default();
        if labels.lines().any(|line| line.starts_with("0 ")) {
            continue;
        }
        empty += 1;
        wrong += usize::from(!yunet.find(&picture(&path)).unwrap().is_empty());
    }
    assert_eq!(empty, 15);
    assert!(wrong <= 1, "{wrong} of 15");
}
