//! The enrolled people: judges pictures, compares them with whoever is enrolled, and has what is good written down, in
//! the database of a running node or in a folder of one's own. Faces that match nobody are in `unknown.rs`.

mod books;
mod judge;
mod unknown;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use meerkat_actors::detectors::Make;
use meerkat_base::{Clock, EventId, FaceRecogniser, ImageFormat, Rect};
use meerkat_store::confine::{MAX_PICTURE_BYTES, read_below, read_picture};
use meerkat_store::embedding::likeness;
use meerkat_store::faces::check_name;
use meerkat_store::{Consent, Embedding, Enrolling, FacePicture, Person};
use meerkat_vision::probe::probe;
use meerkat_web::{
    Assignment, Corrected, Enrolment, Even, Mistake, PeopleDesk, PeopleError, PersonSummary, PictureProblem,
    Removal, UnknownSummary,
};
use tracing::{info, warn};

pub(crate) use books::{Books, OwnFolder};
use judge::{Judged, Unusable, judge, known_as, odd_ones, recognised_as, the_one};
pub(crate) use unknown::list as unknown_faces;

use crate::settings::Settings;

/// Time for computing what was not computed of enrolled pictures yet, as after a change of the network; the rest is
/// done the next time.
const CATCH_UP: Duration = Duration::from_secs(30);
/// Pictures whose embeddings are written down at once.
const AT_ONCE: usize = 32;
/// Quality of a face that is cut out, percent.
const QUALITY: u8 = 95;

/// Enrols, corrects and removes. A running node's face actor hears of it by the gallery's generation.
pub(crate) struct People<B> {
    books: B,
    clock: Arc<dyn Clock>,
    make: Make<dyn FaceRecogniser>,
    /// From which likeness on two faces are taken for one.
    threshold: f32,
    data_dir: PathBuf,
}

type Recogniser = Box<dyn FaceRecogniser>;

impl<B: Books> People<B> {
    /// `make` makes recognisers that leave the GPU to others.
    pub fn new(books: B, clock: Arc<dyn Clock>, make: Make<dyn FaceRecogniser>, settings: &Settings) -> Self {
        let threshold = settings.detectors.recognition.threshold;
        Self { books, clock, make, threshold, data_dir: settings.data_dir.clone() }
    }

    /// What is wrong with pictures, each by itself.
    pub fn problems(&self, pictures: &[(ImageFormat, Vec<u8>)]) -> Result<Vec<PictureProblem>, PeopleError> {
        match judge_all(self.recogniser()?.as_mut(), pictures) {
            Ok(_) => Ok(Vec::new()),
            Err(PeopleError::Pictures(problems)) => Ok(problems),
            Err(error) => Err(error),
        }
    }

    fn recogniser(&self) -> Result<Recogniser, PeopleError> {
        let mut recogniser = (self.make)().map_err(|error| PeopleError::Failed(error.to_string()))?;
        recogniser.want_embeddings(true);
        Ok(recogniser)
    }

    /// Refuses pictures that do not look like each other (and like the person's, if there are some already), and
    /// people who look like somebody else who is enrolled.
    fn compare(
        &self,
        recogniser: &mut dyn FaceRecogniser,
        name: &str,
        pictures: &[Judged],
        even: Even,
    ) -> Result<(), PeopleError> {
        let name = name.trim().to_owned();
        let Some(space) = recogniser.embedding_space() else {
            return if even.if_known { Ok(()) } else { self.compare_by_eye(recogniser, name, pictures) };
        };
        self.catch_up(recogniser, &space, None)?;
        let enrolled = self.books.ask(move |store| store.face_embeddings(&space))?;
        let new: Vec<Vec<f32>> = pictures.iter().filter_map(|picture| picture.embedding.clone()).collect();
        if !even.if_unlike {
            let own: Vec<Vec<f32>> = enrolled
                .iter()
                .filter(|(owner, _)| *owner == name)
                .map(|(_, values)| values.clone())
                .collect();
            let problems: Vec<PictureProblem> = odd_ones(&new, &own, self.threshold)
                .into_iter()
                .map(|(place, likeness)| PictureProblem {
                    number: place + 1,
                    reason: "unlike",
                    problem: format!(
                        "the face in it does not look like those of the others: a likeness of {likeness:.2} at most, \
                         {} makes one person",
                        self.threshold
                    ),
                })
                .collect();
            if !problems.is_empty() {
                return Err(PeopleError::Pictures(problems));
            }
        }
        let others = enrolled.iter().filter(|(owner, _)| *owner != name);
        let known = if even.if_known { Vec::new() } else { known_as(&new, others, self.threshold) };
        if known.is_empty() { Ok(()) } else { Err(PeopleError::Known(known)) }
    }

    /// Teaches a recogniser without embeddings everybody else, and looks whom it knows.
    fn compare_by_eye(
        &self,
        recogniser: &mut dyn FaceRecogniser,
        name: String,
        pictures: &[Judged],
    ) -> Result<(), PeopleError> {
        let failed = |error: meerkat_base::DetectorError| PeopleError::Failed(error.to_string());
        let (until, mut left) = (Instant::now() + CATCH_UP, 0_usize);
        let gallery = self.books.ask(|store| store.gallery())?;
        recogniser.begin_gallery();
        for (owner, files) in gallery.into_iter().filter(|(owner, _)| *owner != name) {
            for file in files {
                if Instant::now() >= until {
                    left += 1;
                    continue;
                }
                match decoded(&file, recogniser) {
                    Ok(image) => {
                        recogniser.add_to_gallery(&owner, &image).map_err(failed)?;
                    }
                    Err(problem) => warn!(problem, "an enrolled picture cannot be compared"),
                }
            }
        }
        recogniser.use_gallery();
        if left > 0 {
            warn!(pictures = left, "not everybody who is enrolled was compared: there was no time");
        }
        let known = recognised_as(recogniser, pictures).map_err(failed)?;
        if known.is_empty() { Ok(()) } else { Err(PeopleError::Known(known)) }
    }

    /// Computes what was not computed of enrolled pictures yet (of one person by id, or of all), for some time.
    fn catch_up(
        &self,
        recogniser: &mut dyn FaceRecogniser,
        space: &str,
        person: Option<String>,
    ) -> Result<(), PeopleError> {
        let own_space = space.to_owned();
        let todo = self.books.ask(move |store| store.faces_to_embed(&own_space, person.as_deref()))?;
        let (until, all, mut done) = (Instant::now() + CATCH_UP, todo.len(), 0);
        for some in todo.chunks(AT_ONCE) {
            if Instant::now() >= until {
                warn!(
                    pictures = all - done,
                    "not everybody who is enrolled was compared: there was no time; the next enrolment goes on"
                );
                break;
            }
            let mut found = Vec::new();
            for (file, path) in some {
                let embedding = match decoded(path, recogniser) {
                    Ok(image) => {
                        let faces = recogniser
                            .recognise(&image)
                            .map_err(|error| PeopleError::Failed(error.to_string()))?;
                        // The largest one, as the gallery takes it.
                        faces.into_iter().next().and_then(|face| face.embedding)
                    }
                    Err(problem) => {
                        warn!(problem, "an enrolled picture cannot be compared");
                        None
                    }
                };
                found.push((file.clone(), embedding));
            }
            done += found.len();
            let space = space.to_owned();
            self.books.ask(move |store| store.set_face_embeddings(&space, &found))?;
        }
        Ok(())
    }

    /// Writes an enrolment down.
    fn write(
        &self,
        (name, consent_by): (String, String),
        pictures: Vec<(ImageFormat, Vec<u8>, Option<Embedding>)>,
        group: Option<u64>,
    ) -> Result<PersonSummary, PeopleError> {
        let now = self.clock.wall();
        let person = self.books.ask(move |store| {
            let consent = Consent { by: consent_by, at: now };
            let pictures: Vec<FacePicture<'_>> = pictures
                .iter()
                .map(|(format, bytes, embedding)| FacePicture {
                    bytes,
                    format: *format,
                    embedding: embedding.as_ref(),
                })
                .collect();
            let enrolling = Enrolling { name: &name, pictures: &pictures, consent: &consent, group };
            store.enrol_faces(&enrolling, now)
        })?;
        info!(person = %person.id, pictures = person.pictures, "somebody was enrolled");
        Ok(summary(person))
    }

    /// The picture in which a person was taken for somebody in an event, and where in it.
    fn snapshot(&self, event: EventId, name: String) -> Result<(Vec<u8>, Option<Rect>), PeopleError> {
        let refused = |words: String| Err(PeopleError::Refused(words));
        let own_name = name.clone();
        let found = self.books.ask(move |store| {
            let Some(row) = store.event(event)? else { return Ok(None) };
            let started = row.started_seq;
            let sightings = store.sightings(event, started)?;
            let first = sightings.into_iter().find(|sighting| sighting.seq == started);
            let place = first.and_then(|sighting| {
                let is_theirs =
                    |one: &&meerkat_base::Detection| one.identity.as_deref() == Some(own_name.as_str());
                sighting.detections.iter().find(is_theirs).map(|one| one.bbox)
            });
            Ok(Some((row, place)))
        })?;
        let Some((row, place)) = found else { return refused("there is no event of this id".to_owned()) };
        if !row.identities.contains(&name) {
            return refused(format!("{name} was not recognised in this event"));
        }
        let Some(snapshot) = row.snapshot else {
            return refused("this event has no snapshot; a picture of the face is needed".to_owned());
        };
        match read_below(&self.data_dir, Path::new(&snapshot), MAX_PICTURE_BYTES) {
            Ok(bytes) => Ok((bytes, place)),
            Err(error) => refused(format!("the snapshot of this event cannot be read: {error}")),
        }
    }

    /// How like a face is to the nearest picture of a person.
    fn likeness_with(
        &self,
        recogniser: &mut dyn FaceRecogniser,
        person: &Person,
        embedding: Option<&Embedding>,
    ) -> Result<Option<f32>, PeopleError> {
        let Some(Embedding { space, values }) = embedding else { return Ok(None) };
        self.catch_up(recogniser, space, Some(person.id.to_string()))?;
        let space = space.clone();
        let enrolled = self.books.ask(move |store| store.face_embeddings(&space))?;
        let own = enrolled.iter().filter(|(name, _)| *name == person.name);
        Ok(own.map(|(_, own)| likeness(own, values)).reduce(f32::max))
    }
}

impl<B: Books> PeopleDesk for People<B> {
    fn people(&self) -> Result<Vec<PersonSummary>, PeopleError> {
        let people = self.books.ask(|store| store.people())?;
        Ok(people.into_iter().map(summary).collect())
    }

    fn enrol(&self, enrolment: Enrolment) -> Result<PersonSummary, PeopleError> {
        let Enrolment { name, consent_by, pictures, even } = enrolment;
        check_name(&name).map_err(|error| PeopleError::Refused(error.to_string()))?;
        let mut recogniser = self.recogniser()?;
        let judged = judge_all(recogniser.as_mut(), &pictures)?;
        self.compare(recogniser.as_mut(), &name, &judged, even)?;
        let space = recogniser.embedding_space();
        let pictures = pictures.into_iter().zip(judged).map(|((format, bytes), judged)| {
            (format, bytes, embedding_of(space.as_deref(), judged.embedding))
        });
        self.write((name, consent_by), pictures.collect(), None)
    }

    fn remove(&self, name_or_id: &str) -> Result<Option<Removal>, PeopleError> {
        let who = name_or_id.to_owned();
        let (person, others) = self.books.ask(move |store| {
            Ok((store.person(&who)?, store.unknown_totals()?.pictures + store.negative_count()?))
        })?;
        let Some(person) = person else { return Ok(None) };
        let id = person.id.to_string();
        if others > 0 {
            // What looks like them can only be found by what is computed of their pictures.
            let caught_up = self.recogniser().and_then(|mut recogniser| {
                let space = recogniser.embedding_space();
                space.map_or(Ok(()), |space| self.catch_up(recogniser.as_mut(), &space, Some(id.clone())))
            });
            if let Err(problem) = caught_up {
                warn!(%problem, "unknown faces that look like somebody who is removed may stay until their time is over");
            }
        }
        let threshold = self.threshold;
        let removed = self.books.ask(move |store| store.remove_person(&id, threshold))?;
        if let Some(forgotten) = removed {
            info!(
                unknown_groups = forgotten.unknown_groups,
                negatives = forgotten.negatives,
                "somebody was removed from the enrolled people"
            );
        }
        Ok(removed.map(|forgotten| Removal {
            unknown_groups: forgotten.unknown_groups,
            negatives: forgotten.negatives,
        }))
    }

    fn correct(&self, name_or_id: &str, mistake: Mistake) -> Result<Option<Corrected>, PeopleError> {
        let who = name_or_id.to_owned();
        let Some(person) = self.books.ask(move |store| store.person(&who))? else { return Ok(None) };
        let refused = |unusable: Unusable| PeopleError::Refused(unusable.words);
        let (bytes, place, event) = match mistake {
            Mistake::Event(event) => {
                let (bytes, place) = self.snapshot(event, person.name.clone())?;
                (bytes, place, Some(event))
            }
            Mistake::Picture(claimed, bytes) => {
                check_format(&bytes, claimed).map_err(refused)?;
                (bytes, None, None)
            }
        };
        let mut recogniser = self.recogniser()?;
        let jpeg = cut_out(recogniser.as_mut(), &bytes, place).map_err(refused)?;
        let judged = judge(recogniser.as_mut(), &jpeg).map_err(refused)?;
        let embedding = embedding_of(recogniser.embedding_space().as_deref(), judged.embedding);
        let likeness = self.likeness_with(recogniser.as_mut(), &person, embedding.as_ref())?;
        let (now, id) = (self.clock.wall(), person.id.to_string());
        let person = self.books.ask(move |store| {
            let picture =
                FacePicture { bytes: &jpeg, format: ImageFormat::Jpeg, embedding: embedding.as_ref() };
            store.add_negative(&id, &picture, event, now)
        })?;
        Ok(person.map(|person| {
            info!(person = %person.id, negatives = person.negatives, "somebody was taken for another person");
            Corrected { person: summary(person), likeness }
        }))
    }

    fn forget_corrections(&self, name_or_id: &str) -> Result<Option<u64>, PeopleError> {
        let who = name_or_id.to_owned();
        self.books.ask(move |store| store.forget_negatives(&who))
    }

    fn unknown(&self) -> Result<Vec<UnknownSummary>, PeopleError> {
        self.books.ask(|store| unknown::list(store))
    }

    fn unknown_picture(&self, group: u64, number: u64) -> Result<Option<Vec<u8>>, PeopleError> {
        let pictures = self.books.ask(move |store| store.unknown_pictures(group))?;
        let Some(picture) = pictures.into_iter().find(|picture| picture.number == number) else {
            return Ok(None);
        };
        unknown::read(&picture.path)
    }

    fn assign(&self, assignment: Assignment) -> Result<Option<PersonSummary>, PeopleError> {
        let Assignment { group, name, consent_by, even } = assignment;
        check_name(&name).map_err(|error| PeopleError::Refused(error.to_string()))?;
        let pictures = self.books.ask(move |store| store.unknown_pictures(group))?;
        if pictures.is_empty() {
            return Ok(None);
        }
        let mut recogniser = self.recogniser()?;
        let (usable, judged) = unknown::usable(recogniser.as_mut(), &pictures)?;
        self.compare(recogniser.as_mut(), &name, &judged, even)?;
        let space = recogniser.embedding_space();
        let pictures = usable
            .into_iter()
            .zip(judged)
            .map(|(bytes, judged)| (judged.format, bytes, embedding_of(space.as_deref(), judged.embedding)));
        self.write((name, consent_by), pictures.collect(), Some(group)).map(Some)
    }

    fn delete_unknown(&self, group: u64) -> Result<bool, PeopleError> {
        self.books.ask(move |store| store.delete_unknown(group))
    }
}

fn summary(person: Person) -> PersonSummary {
    PersonSummary {
        id: person.id.to_string(),
        name: person.name,
        consent_by: person.consent_by,
        consent_at: person.consent_at,
        created: person.created,
        pictures: person.pictures,
        negatives: person.negatives,
    }
}

fn embedding_of(space: Option<&str>, values: Option<Vec<f32>>) -> Option<Embedding> {
    Some(Embedding { space: space?.to_owned(), values: values? })
}

/// Names every picture that cannot be used.
fn judge_all(
    recogniser: &mut dyn FaceRecogniser,
    pictures: &[(ImageFormat, Vec<u8>)],
) -> Result<Vec<Judged>, PeopleError> {
    let (mut good, mut problems) = (Vec::new(), Vec::new());
    for (index, (claimed, bytes)) in pictures.iter().enumerate() {
        match check_format(bytes, *claimed).and_then(|()| judge(recogniser, bytes)) {
            Ok(judged) => good.push(judged),
            Err(Unusable { reason, words }) => {
                problems.push(PictureProblem { number: index + 1, reason, problem: words });
            }
        }
    }
    if problems.is_empty() { Ok(good) } else { Err(PeopleError::Pictures(problems)) }
}

fn check_format(bytes: &[u8], claimed: ImageFormat) -> Result<(), Unusable> {
    let found = probe(bytes).map_err(|error| Unusable::new("unreadable", error.to_string()))?.format;
    if found == claimed {
        return Ok(());
    }
    Err(Unusable::new("format", format!("it is said to be {} but is {}", word(claimed), word(found))))
}

/// A face of a picture with a little around it, as a JPEG.
fn cut_out(
    recogniser: &mut dyn FaceRecogniser,
    bytes: &[u8],
    place: Option<Rect>,
) -> Result<Vec<u8>, Unusable> {
    let unreadable = |words: String| Unusable::new("unreadable", words);
    let (image, scale) = meerkat_vision::decode_image(bytes, recogniser.wish())
        .map_err(|error| unreadable(error.to_string()))?;
    let faces =
        recogniser.recognise(&image).map_err(|error| Unusable::new("incomparable", error.to_string()))?;
    let place = place.map(|place| place.scaled(1.0 / scale.max(f32::MIN_POSITIVE)));
    let face = the_one(&faces, place)?;
    let cut =
        image.cut(&face.surroundings()).ok_or_else(|| unreadable("its face cannot be cut out".to_owned()))?;
    meerkat_vision::encode_jpeg(&cut, QUALITY).map_err(|error| unreadable(error.to_string()))
}

fn decoded(path: &Path, recogniser: &mut dyn FaceRecogniser) -> Result<meerkat_base::Image, String> {
    let bytes = read_picture(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let (image, _) = meerkat_vision::decode_image(&bytes, recogniser.wish())
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(image)
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

#[cfg(test)]
mod tests;
