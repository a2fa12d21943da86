//! Is a picture good enough to know somebody by, and do several show one and the same, whom nobody knows yet? Looks, and
//! keeps nothing.

use meerkat_base::{FaceIdentity, FaceRecogniser, FoundFace, Image, ImageFormat, Rect, Unfit};
use meerkat_store::embedding::likeness;
use meerkat_vision::probe::probe;
use meerkat_web::KnownAs;

/// Faces with less than this share of the largest one's area are people in the background.
const BESIDE: f32 = 0.25;
/// A face that was found where another one is to be overlaps with it at least so much.
const SAME_PLACE: f32 = 0.3;

/// A picture that can be used.
#[derive(Debug)]
pub(crate) struct Judged {
    /// Its container.
    pub format: ImageFormat,
    /// What the likeness of its face is computed from, where networks do that.
    pub embedding: Option<Vec<f32>>,
    /// It, decoded as the recogniser wants it.
    pub image: Image,
}

/// Why a picture cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unusable {
    /// In a word, for programs.
    pub reason: &'static str,
    /// In words.
    pub words: String,
}

impl Unusable {
    /// A reason and its words.
    pub fn new(reason: &'static str, words: impl Into<String>) -> Self {
        Self { reason, words: words.into() }
    }

    fn unfit(unfit: Unfit, face: &FoundFace) -> Self {
        let words = match unfit {
            Unfit::Small => format!(
                "the face in it is too small: {:.0} pixels wide where it is searched (detectors.face.min_width_px)",
                face.bbox.width
            ),
            Unfit::Blurred => "the face in it is blurred (detectors.face.min_sharpness)".to_owned(),
            Unfit::Turned => "the face in it is turned away or tilted".to_owned(),
        };
        Self::new(unfit.as_str(), words)
    }
}

/// Looks at an encoded picture that is to show exactly one face of which recognition can learn. The recogniser gives
/// embeddings if it can ([`FaceRecogniser::want_embeddings`]); one that cannot forgets whom it knew.
pub(crate) fn judge(recogniser: &mut dyn FaceRecogniser, bytes: &[u8]) -> Result<Judged, Unusable> {
    let format = probe(bytes).map_err(|error| Unusable::new("unreadable", error.to_string()))?.format;
    let (image, _) = meerkat_vision::decode_image(bytes, recogniser.wish())
        .map_err(|error| Unusable::new("unreadable", error.to_string()))?;
    let faces =
        recogniser.recognise(&image).map_err(|error| Unusable::new("incomparable", error.to_string()))?;
    let embedding = the_one(&faces, None)?.embedding.clone();
    if embedding.is_none() {
        let people = [("somebody".to_owned(), vec![image])];
        let usable = recogniser.enrol(&people);
        let [(_, images)] = people;
        let usable = usable.map_err(|error| Unusable::new("incomparable", error.to_string()))?;
        let (Some(image), 1) = (images.into_iter().next(), usable) else {
            return Err(Unusable::new("incomparable", "the face in it cannot be compared with others"));
        };
        return Ok(Judged { format, embedding, image });
    }
    Ok(Judged { format, embedding, image })
}

/// The face that is meant: the one at a place, or else the only one that is not in the background. It is fit.
pub(crate) fn the_one(faces: &[FoundFace], place: Option<Rect>) -> Result<&FoundFace, Unusable> {
    let at_place = place.and_then(|place| {
        let best = faces.iter().max_by(|a, b| a.bbox.iou(&place).total_cmp(&b.bbox.iou(&place)));
        best.filter(|face| face.bbox.iou(&place) >= SAME_PLACE)
    });
    let largest = faces.iter().map(|face| face.bbox.area()).fold(0.0, f32::max);
    let in_front: Vec<&FoundFace> =
        faces.iter().filter(|face| face.bbox.area() >= largest * BESIDE).collect();
    let face = match (at_place, &in_front[..]) {
        (Some(face), _) => face,
        (None, [face]) => *face,
        (None, []) => {
            return Err(Unusable::new(
                "none",
                "no face was found in it; one, seen from the front, is needed",
            ));
        }
        (None, several) => {
            let words = format!("{} faces were found in it; exactly one is needed", several.len());
            return Err(Unusable::new("several", words));
        }
    };
    match face.unfit {
        Some(unfit) => Err(Unusable::unfit(unfit, face)),
        None => Ok(face),
    }
}

/// The new faces that are not like the others, by their places, with the likeness to whichever they are likest:
/// those outside the largest set of faces each of which is like another one of it. `known` are of the same person.
pub(crate) fn odd_ones(new: &[Vec<f32>], known: &[Vec<f32>], threshold: f32) -> Vec<(usize, f32)> {
    let all: Vec<&[f32]> = new.iter().chain(known).map(Vec::as_slice).collect();
    if all.len() < 2 {
        return Vec::new();
    }
    // Each begins as a set of its own; sets with a pair that is alike become one.
    let mut sets: Vec<usize> = (0..all.len()).collect();
    for (a, one) in all.iter().enumerate() {
        for (b, other) in all.iter().enumerate().take(a) {
            if likeness(one, other) >= threshold {
                let (from, to) = (sets[a], sets[b]);
                sets.iter_mut().filter(|set| **set == from).for_each(|set| *set = to);
            }
        }
    }
    let size = |set: usize| sets.iter().filter(|other| **other == set).count();
    let largest = sets.iter().map(|set| size(*set)).max().unwrap_or(0);
    let mut main: Vec<usize> = sets.iter().copied().filter(|set| size(*set) == largest).collect();
    main.dedup();
    main.sort_unstable();
    main.dedup();
    // Two sets of one size: who could say which is the right one?
    let main = if let [only] = main[..] { Some(only) } else { None };
    let likest = |place: usize| {
        let others = all.iter().enumerate().filter(|(other, _)| *other != place);
        others.map(|(_, other)| likeness(all[place], other)).fold(-1.0, f32::max)
    };
    (0..new.len()).filter(|place| Some(sets[*place]) != main).map(|place| (place, likest(place))).collect()
}

/// Whom the new faces look like: everybody else whom at least half of them are like, the likest first.
pub(crate) fn known_as<'a>(
    new: &[Vec<f32>],
    enrolled: impl Iterator<Item = &'a (String, Vec<f32>)>,
    threshold: f32,
) -> Vec<KnownAs> {
    let mut likest: std::collections::BTreeMap<&str, Vec<f32>> = std::collections::BTreeMap::new();
    for (name, values) in enrolled {
        let best = likest.entry(name).or_insert_with(|| vec![-1.0; new.len()]);
        for (best, new) in best.iter_mut().zip(new) {
            *best = best.max(likeness(new, values));
        }
    }
    let mut known: Vec<KnownAs> = likest
        .into_iter()
        .map(|(name, best)| KnownAs {
            name: name.to_owned(),
            pictures: best.iter().filter(|likeness| **likeness >= threshold).count(),
            likeness: best.into_iter().fold(-1.0, f32::max),
        })
        .filter(|one| one.pictures > 0 && one.pictures * 2 >= new.len())
        .collect();
    known.sort_by(|a, b| b.likeness.total_cmp(&a.likeness));
    known
}

/// As [`known_as`], for a recogniser without embeddings that has been taught everybody else.
pub(crate) fn recognised_as(
    recogniser: &mut dyn FaceRecogniser,
    pictures: &[Judged],
) -> Result<Vec<KnownAs>, meerkat_base::DetectorError> {
    let mut known: Vec<KnownAs> = Vec::new();
    for picture in pictures {
        let faces = recogniser.recognise(&picture.image)?;
        let Ok(FoundFace { identity: FaceIdentity::Known { name, score }, .. }) = the_one(&faces, None)
        else {
            continue;
        };
        match known.iter_mut().find(|one| one.name == *name) {
            Some(one) => {
                one.pictures += 1;
                one.likeness = one.likeness.max(*score);
            }
            None => known.push(KnownAs { name: name.clone(), pictures: 1, likeness: *score }),
        }
    }
    known.retain(|one| one.pictures * 2 >= pictures.len());
    known.sort_by(|a, b| b.likeness.total_cmp(&a.likeness));
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(degrees: f32) -> Vec<f32> {
        vec![degrees.to_radians().cos(), degrees.to_radians().sin()]
    }

    fn all(degrees: &[f32]) -> Vec<Vec<f32>> {
        degrees.iter().map(|degrees| at(*degrees)).collect()
    }

    #[test]
    fn pictures_that_are_not_like_the_others_are_found() {
        // Alike is within 60 degrees.
        let check = |new: &[f32], known: &[f32], expected: &[usize]| {
            let odd = odd_ones(&all(new), &all(known), 0.5);
            assert_eq!(
                odd.iter().map(|(place, _)| *place).collect::<Vec<_>>(),
                expected,
                "{new:?} {known:?}"
            );
        };
        check(&[], &[], &[]);
        check(&[0.0], &[], &[]);
        check(&[0.0, 50.0], &[], &[]);
        check(&[0.0, 90.0], &[], &[0, 1]);
        check(&[0.0, 10.0, 120.0, 20.0], &[], &[2]);
        // Not like each, but like one of them.
        check(&[0.0, 50.0, 100.0], &[], &[]);
        check(&[180.0], &[0.0, 10.0], &[0]);
        check(&[180.0, 0.0], &[0.0], &[0]);
        // Two people: the fewer ones are named.
        check(&[0.0, 5.0, 180.0, 185.0, 10.0], &[], &[2, 3]);
        check(&[0.0, 5.0, 180.0, 185.0], &[], &[0, 1, 2, 3]);
        let (_, likeness) = odd_ones(&all(&[0.0, 10.0, 90.0]), &[], 0.5)[0];
        assert!((likeness - 80f32.to_radians().cos()).abs() < 1e-5);
    }

    #[test]
    fn who_is_known_under_another_name_is_found_when_half_of_the_pictures_say_so() {
        let enrolled = [("ann", 0.0), ("ann", 20.0), ("bob", 180.0)].map(|(n, d)| (n.to_owned(), at(d)));
        let check = |new: &[f32], expected: &[(&str, usize)]| {
            let known = known_as(&all(new), enrolled.iter(), 0.8);
            let known: Vec<_> = known.iter().map(|one| (one.name.as_str(), one.pictures)).collect();
            assert_eq!(known, expected, "{new:?}");
        };
        check(&[90.0], &[]);
        check(&[10.0], &[("ann", 1)]);
        check(&[10.0, 90.0], &[("ann", 1)]);
        check(&[10.0, 90.0, 100.0], &[]);
        check(&[170.0, 5.0], &[("ann", 1), ("bob", 1)]);
        assert!(known_as(&all(&[0.0]), [].iter(), 0.8).is_empty());
    }

    fn face(x: f32, width: f32, unfit: Option<Unfit>) -> FoundFace {
        let bbox = Rect::new(x, 10.0, width, width);
        FoundFace { bbox, score: 0.9, identity: FaceIdentity::Unknown, unfit, embedding: None }
    }

    #[test]
    fn the_reason_says_what_is_wrong() {
        let check = |faces: &[FoundFace], place: Option<Rect>, expected: Result<f32, &str>| {
            let found = the_one(faces, place).map(|face| face.bbox.x).map_err(|unusable| unusable.reason);
            assert_eq!(found, expected);
        };
        check(&[], None, Err("none"));
        check(&[face(0.0, 50.0, None)], None, Ok(0.0));
        check(&[face(0.0, 50.0, None), face(90.0, 20.0, None)], None, Ok(0.0));
        check(&[face(0.0, 50.0, None), face(90.0, 30.0, None)], None, Err("several"));
        for (unfit, reason) in
            [(Unfit::Small, "small"), (Unfit::Blurred, "blurred"), (Unfit::Turned, "turned")]
        {
            check(&[face(0.0, 50.0, Some(unfit))], None, Err(reason));
        }
        let place = Rect::new(92.0, 10.0, 30.0, 30.0);
        check(&[face(0.0, 50.0, None), face(90.0, 30.0, None)], Some(place), Ok(90.0));
        check(&[face(0.0, 50.0, None), face(200.0, 30.0, None)], Some(place), Err("several"));
        check(&[face(0.0, 50.0, None)], Some(place), Ok(0.0));
    }
}
