//! The enrolled people for the HTTP side: judges the pictures, and has the archivist write what is good.

use std::sync::Arc;

use anyhow::{anyhow, bail, ensure};
use meerkat_actors::archivist::ArchiveError;
use meerkat_actors::detectors::Make;
use meerkat_actors::node::NodeHandle;
use meerkat_base::{Clock, FaceRecogniser, ImageFormat};
use meerkat_store::{Consent, Person, StoreError};
use meerkat_vision::probe::probe;
use meerkat_web as web;
use tracing::info;

/// Enrols and removes in the database of a running node. The face actor hears of it by the gallery's generation.
pub(super) struct Desk {
    node: NodeHandle,
    clock: Arc<dyn Clock>,
    judge: Make<dyn FaceRecogniser>,
}

impl Desk {
    pub fn new(node: NodeHandle, clock: Arc<dyn Clock>, judge: Make<dyn FaceRecogniser>) -> Self {
        Self { node, clock, judge }
    }
}

impl web::PeopleDesk for Desk {
    fn people(&self) -> Result<Vec<web::PersonSummary>, web::PeopleError> {
        let people = self.node.archivist().ask_blocking(|store| store.people()).map_err(failed)?;
        Ok(people.into_iter().map(summary).collect())
    }

    fn enrol(&self, enrolment: web::Enrolment) -> Result<web::PersonSummary, web::PeopleError> {
        let web::Enrolment { name, consent_by, pictures } = enrolment;
        judge(&self.judge, &pictures)?;
        let now = self.clock.wall();
        let consent = Consent { by: consent_by, at: now };
        let enrolled = self.node.archivist().ask_blocking(move |store| {
            let given: Vec<(&[u8], ImageFormat)> =
                pictures.iter().map(|(format, bytes)| (bytes.as_slice(), *format)).collect();
            store.enrol(&name, &given, &consent, now)
        });
        let person = enrolled.map_err(failed)?;
        info!(person = %person.id, pictures = person.pictures, "somebody was enrolled");
        Ok(summary(person))
    }

    fn remove(&self, name_or_id: &str) -> Result<bool, web::PeopleError> {
        let who = name_or_id.to_owned();
        let removed =
            self.node.archivist().ask_blocking(move |store| store.remove_person(&who)).map_err(failed)?;
        if removed {
            info!("somebody was removed from the enrolled people");
        }
        Ok(removed)
    }
}

fn failed(error: ArchiveError) -> web::PeopleError {
    match error {
        ArchiveError::Store(StoreError::Refused(words)) => web::PeopleError::Refused(words),
        error => web::PeopleError::Failed(error.to_string()),
    }
}

fn summary(person: Person) -> web::PersonSummary {
    web::PersonSummary {
        id: person.id.to_string(),
        name: person.name,
        consent_by: person.consent_by,
        consent_at: person.consent_at,
        created: person.created,
        pictures: person.pictures,
    }
}

/// Names every picture that cannot be used.
fn judge(
    recogniser: &Make<dyn FaceRecogniser>,
    pictures: &[(ImageFormat, Vec<u8>)],
) -> Result<(), web::PeopleError> {
    let mut recogniser = recogniser().map_err(|error| web::PeopleError::Failed(error.to_string()))?;
    let mut problems = Vec::new();
    for (index, (claimed, bytes)) in pictures.iter().enumerate() {
        let judged = enrolment_format(recogniser.as_mut(), bytes).and_then(|found| {
            ensure!(found == *claimed, "it is said to be {} but is {}", word(*claimed), word(found));
            Ok(())
        });
        if let Err(error) = judged {
            problems.push(web::PictureProblem { number: index + 1, problem: format!("{error:#}") });
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(web::PeopleError::Pictures(problems)) }
}

fn word(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Jpeg => "jpeg",
        ImageFormat::Png => "png",
        ImageFormat::Webp => "webp",
        ImageFormat::Bmp => "bmp",
        ImageFormat::Unknown => "something unknown",
    }
}

/// Faces with less than this share of the largest one's area are people in the background.
const BESIDE: f32 = 0.25;

/// The container of an encoded picture that shows exactly one face of which recognition can learn; else an error that
/// says what is wrong with it. Forgets whom the recogniser knew.
pub(crate) fn enrolment_format(
    recogniser: &mut dyn FaceRecogniser,
    bytes: &[u8],
) -> anyhow::Result<ImageFormat> {
    let format = probe(bytes)?.format;
    let (decoded, _) = meerkat_vision::decode_image(bytes, recogniser.wish())?;
    let faces = recogniser.recognise(&decoded).map_err(|error| anyhow!(error))?;
    let largest = faces.iter().map(|face| face.bbox.area()).fold(0.0, f32::max);
    let faces = faces.iter().filter(|face| face.bbox.area() >= largest * BESIDE).count();
    if faces != 1 {
        bail!("{faces} faces were found in it; exactly one, seen from the front, is needed");
    }
    let usable =
        recogniser.enrol(&[("somebody".to_owned(), vec![decoded])]).map_err(|error| anyhow!(error))?;
    if usable != 1 {
        bail!("the face in it is too small, too blurred or turned away");
    }
    Ok(format)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_without_a_face_are_all_named() {
        let gray =
            meerkat_base::Image::new(64, 64, meerkat_base::PixelFormat::Gray8, vec![128; 64 * 64]).unwrap();
        let blank = meerkat_vision::encode_jpeg(&gray, 80).unwrap();
        let pictures = [
            (ImageFormat::Jpeg, blank.clone()),
            (ImageFormat::Png, b"GIF89a".to_vec()),
            (ImageFormat::Jpeg, blank[..60].to_vec()),
        ];
        let judging: Make<dyn FaceRecogniser> = Arc::new(|| {
            Ok(Box::new(
                meerkat_vision::LbphFaceRecogniser::new(Default::default()).expect("it needs no download"),
            ))
        });
        let Err(web::PeopleError::Pictures(problems)) = judge(&judging, &pictures) else {
            panic!("they were taken")
        };
        assert_eq!(problems.iter().map(|one| one.number).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(problems[0].problem.starts_with("0 faces were found"), "{}", problems[0].problem);
    }
}
