//! The enrolled people, and faces of which somebody can be enrolled, as the HTTP side sees them: a trait that the
//! composition root implements. No HTTP here.

use meerkat_base::{EventId, ImageFormat, WallTime};
use serde::Serialize;

/// Most pictures in one [`Enrolment`].
pub const MAX_ENROLMENT_PICTURES: usize = 16;

/// Somebody who is enrolled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PersonSummary {
    /// Their id, a UUID.
    pub id: String,
    /// Their name.
    pub name: String,
    /// Who agreed to the enrolment.
    pub consent_by: String,
    /// When that was.
    pub consent_at: WallTime,
    /// When they were enrolled first.
    pub created: WallTime,
    /// How many pictures there are of them.
    pub pictures: u64,
    /// How many pictures there are of others who were taken for them.
    pub negatives: u64,
}

/// What is done although it looks like a mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Even {
    /// Enrol somebody who looks like a person enrolled under another name.
    pub if_known: bool,
    /// Take pictures that do not look like each other.
    pub if_unlike: bool,
}

/// An order to enrol a person, or to add pictures to one who is enrolled. Nothing of it has been checked but its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// Under which name.
    pub name: String,
    /// Who agreed.
    pub consent_by: String,
    /// Encoded pictures with the container each is said to have; 1 to [`MAX_ENROLMENT_PICTURES`].
    pub pictures: Vec<(ImageFormat, Vec<u8>)>,
    /// What does not matter.
    pub even: Even,
}

/// An order to enrol a person of a group of unknown faces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The group.
    pub group: u64,
    /// Under which name.
    pub name: String,
    /// Who agreed.
    pub consent_by: String,
    /// What does not matter.
    pub even: Even,
}

/// What shows that a face is not somebody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mistake {
    /// The event in which it was taken for theirs.
    Event(EventId),
    /// An encoded picture of it, with the container it is said to have.
    Picture(ImageFormat, Vec<u8>),
}

/// What became of a mistake that was pointed out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Corrected {
    /// Whose.
    pub person: PersonSummary,
    /// How like the face is to the nearest of their pictures, a cosine; where networks compare faces.
    pub likeness: Option<f32>,
}

/// What is wrong with one picture of an [`Enrolment`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PictureProblem {
    /// Which one, counted from 1.
    pub number: usize,
    /// What is wrong, in a word: `unreadable`, `format`, `none`, `several`, `small`, `blurred`, `turned`,
    /// `incomparable`, `unlike`.
    pub reason: &'static str,
    /// What is wrong, in words for the client.
    pub problem: String,
}

/// Somebody whom an [`Enrolment`] looks like.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KnownAs {
    /// Under which name they are enrolled.
    pub name: String,
    /// How many of the new pictures look like them.
    pub pictures: usize,
    /// How like the likest one is: a cosine with networks, 0..=1 with the classic method.
    pub likeness: f32,
}

/// A group of unknown faces that are alike.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UnknownSummary {
    /// Its number.
    pub group: u64,
    /// When it was seen first.
    pub first: WallTime,
    /// When it was seen last.
    pub last: WallTime,
    /// How often it was seen.
    pub seen: u64,
    /// Its pictures, oldest first.
    pub pictures: Vec<UnknownPicture>,
}

/// One picture of a group of unknown faces.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UnknownPicture {
    /// Its number in all groups.
    pub number: u64,
    /// At which camera it was taken.
    pub camera: String,
    /// When.
    pub at: WallTime,
    /// How wide the face is, in pixels.
    pub width_px: f32,
    /// Its file, relative to the data folder.
    pub file: String,
}

/// What went with a person who was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Removal {
    /// Groups of unknown faces that looked like them.
    pub unknown_groups: u64,
    /// Pictures of them that were kept as not showing somebody else.
    pub negatives: u64,
}

/// The enrolled people. Calls come from threads of their own, one at a time for each method; enrolling may take a
/// minute, the others seconds, before the client is told that there was no answer.
pub trait PeopleDesk: Send + Sync + 'static {
    /// Everybody, by name.
    fn people(&self) -> Result<Vec<PersonSummary>, PeopleError>;
    /// Enrols somebody. All pictures are taken or none.
    fn enrol(&self, enrolment: Enrolment) -> Result<PersonSummary, PeopleError>;
    /// Removes somebody, by name or id, with everything that is kept about them; nothing when there was no such person.
    fn remove(&self, name_or_id: &str) -> Result<Option<Removal>, PeopleError>;
    /// Learns that a face is not that of a person (name or id); nothing when there is no such person.
    fn correct(&self, name_or_id: &str, mistake: Mistake) -> Result<Option<Corrected>, PeopleError>;
    /// Forgets all such corrections about a person; how many there were, nothing when there is no such person.
    fn forget_corrections(&self, name_or_id: &str) -> Result<Option<u64>, PeopleError>;
    /// Unknown faces, in groups, the one that was seen last first.
    fn unknown(&self) -> Result<Vec<UnknownSummary>, PeopleError>;
    /// One picture of a group, a JPEG; nothing when there is none.
    fn unknown_picture(&self, group: u64, number: u64) -> Result<Option<Vec<u8>>, PeopleError>;
    /// Enrols somebody of a group, which goes with that. Pictures of it that cannot be used are left out. Nothing when
    /// there is no such group.
    fn assign(&self, assignment: Assignment) -> Result<Option<PersonSummary>, PeopleError>;
    /// Deletes a group; whether there was such a one.
    fn delete_unknown(&self, group: u64) -> Result<bool, PeopleError>;
}

/// What was asked about people was not done.
#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    /// The order breaks a rule; the words are for the client.
    #[error("{0}")]
    Refused(String),
    /// Some pictures cannot be used; all of those are named.
    #[error("{} pictures cannot be used", .0.len())]
    Pictures(Vec<PictureProblem>),
    /// They look like somebody who is enrolled under another name.
    #[error("{}", known_words(.0))]
    Known(Vec<KnownAs>),
    /// The node could not do it. The reason is logged, never shown to a client.
    #[error("the people cannot be read or changed: {0}")]
    Failed(String),
}

fn known_words(known: &[KnownAs]) -> String {
    let whom: Vec<String> = known
        .iter()
        .map(|one| format!("{} ({} of the pictures, likeness {:.2})", one.name, one.pictures, one.likeness))
        .collect();
    format!("this looks like somebody who is enrolled already: {}", whom.join(", "))
}
