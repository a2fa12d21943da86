//! Enrolled people as embeddings, several per person, and the answer to whose face another embedding is. Knows
//! nothing of pictures or networks.

use crate::networks::embedding::{cosine, normalised};

/// When a face counts as known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MatchSettings {
    /// Least cosine with the nearest picture of the person, -1..=1. Two pictures of one person have 0.5 to 0.9 with
    /// face-reidentification-retail-0095, of strangers -0.2 to 0.35.
    pub threshold: f32,
    /// The next person must be farther away by at least this much cosine, else it is nobody: 0..=2.
    pub margin: f32,
}

impl Default for MatchSettings {
    fn default() -> Self {
        Self { threshold: 0.38, margin: 0.03 }
    }
}

/// The person a face is nearest to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Match<'a> {
    /// Name as enrolled.
    pub name: &'a str,
    /// Cosine with the nearest picture of that person, -1..=1.
    pub cosine: f32,
}

/// Embeddings of enrolled people.
#[derive(Debug, Clone, Default)]
pub struct Gallery {
    /// Values of an embedding; 0 while there is none.
    values: usize,
    people: Vec<Person>,
    /// All embeddings of length 1, one after the other.
    embeddings: Vec<f32>,
    /// Whose each of them is: an index into `people`.
    owners: Vec<usize>,
    /// Embeddings of others who were taken for one of them, and for whom.
    negatives: Vec<f32>,
    mistaken: Vec<usize>,
}

#[derive(Debug, Clone)]
struct Person {
    name: String,
    pictures: usize,
    negatives: usize,
}

impl Gallery {
    /// More pictures than this of one person are not kept: further ones add time and hardly anything else.
    pub const MOST_PICTURES: usize = 64;
    /// More embeddings than this are not kept: 256 MiB of them, and 0.1 s for each face.
    pub const MOST_EMBEDDINGS: usize = 262_144;

    /// A gallery with nobody in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of people.
    pub fn people(&self) -> usize {
        self.people.len()
    }

    /// Number of embeddings of all people.
    pub fn embeddings(&self) -> usize {
        self.owners.len()
    }

    /// Adds an embedding of a person. Returns whether it was kept: it must be finite, not all zero, of the same size
    /// as the others, and within the limits.
    pub fn add(&mut self, name: &str, embedding: &[f32]) -> bool {
        let Some(unit) = normalised(embedding) else { return false };
        if (self.values != 0 && self.values != unit.len()) || self.owners.len() >= Self::MOST_EMBEDDINGS {
            return false;
        }
        // Pictures of one person come one after the other: look at the end first.
        let known = self.people.iter().rposition(|person| person.name == name);
        let owner = match known {
            Some(person) => person,
            None => {
                self.people.push(Person { name: name.to_owned(), pictures: 0, negatives: 0 });
                self.people.len() - 1
            }
        };
        let Some(person) = self.people.get_mut(owner).filter(|person| person.pictures < Self::MOST_PICTURES)
        else {
            return false;
        };
        person.pictures += 1;
        self.values = unit.len();
        self.embeddings.extend_from_slice(&unit);
        self.owners.push(owner);
        true
    }

    /// Adds an embedding of somebody who is not this person. Returns whether it was kept: the person must have an
    /// embedding, and else as for [`Gallery::add`].
    pub fn add_negative(&mut self, name: &str, embedding: &[f32]) -> bool {
        let Some(unit) = normalised(embedding).filter(|unit| unit.len() == self.values) else { return false };
        let Some(mistaken) = self.people.iter().rposition(|person| person.name == name) else { return false };
        let Some(person) =
            self.people.get_mut(mistaken).filter(|person| person.negatives < Self::MOST_PICTURES)
        else {
            return false;
        };
        if self.mistaken.len() >= Self::MOST_EMBEDDINGS {
            return false;
        }
        person.negatives += 1;
        self.negatives.extend_from_slice(&unit);
        self.mistaken.push(mistaken);
        true
    }

    /// The nearest person, if near enough and clearly nearer than the next one. Whoever has a negative that is nearer
    /// than all their own pictures is not the one, and does not compete either.
    pub fn find(&self, embedding: &[f32], settings: &MatchSettings) -> Option<Match<'_>> {
        let (nearest, next) = if self.mistaken.is_empty() {
            self.two_nearest(embedding)?
        } else {
            self.two_nearest_of_the_possible(embedding)?
        };
        // NaN thresholds let nobody in.
        let known = nearest.cosine >= settings.threshold && nearest.cosine - next >= settings.margin;
        known.then_some(nearest)
    }

    /// The nearest person, whoever it is; `None` when there is nobody or the embedding is none.
    pub fn nearest(&self, embedding: &[f32]) -> Option<Match<'_>> {
        self.two_nearest(embedding).map(|(nearest, _)| nearest)
    }

    /// As [`Gallery::two_nearest`], without those whom a negative rules out.
    fn two_nearest_of_the_possible(&self, embedding: &[f32]) -> Option<(Match<'_>, f32)> {
        let unit = normalised(embedding).filter(|unit| unit.len() == self.values)?;
        let nearest = |rows: &[f32], owners: &[usize]| {
            let mut best = vec![f32::NEG_INFINITY; self.people.len()];
            for (row, &owner) in rows.chunks_exact(self.values).zip(owners) {
                if let Some(best) = best.get_mut(owner) {
                    *best = best.max(cosine(row, &unit).clamp(-1.0, 1.0));
                }
            }
            best
        };
        let own = nearest(&self.embeddings, &self.owners);
        let others = nearest(&self.negatives, &self.mistaken);
        let (mut best, mut next): (Option<Match<'_>>, f32) = (None, -1.0);
        for ((person, &own), &other) in self.people.iter().zip(&own).zip(&others) {
            if other > own {
                continue;
            }
            match best {
                Some(found) if own <= found.cosine => next = next.max(own),
                found => {
                    next = found.map_or(next, |found| found.cosine);
                    best = Some(Match { name: &person.name, cosine: own });
                }
            }
        }
        best.map(|best| (best, next))
    }

    /// The nearest person and the cosine of the next one; that of the farthest possible when there is only one.
    fn two_nearest(&self, embedding: &[f32]) -> Option<(Match<'_>, f32)> {
        let unit = normalised(embedding).filter(|unit| unit.len() == self.values)?;
        let mut best: Option<(usize, f32)> = None;
        let mut next = -1.0f32;
        for (row, &owner) in self.embeddings.chunks_exact(self.values).zip(&self.owners) {
            let cosine = cosine(row, &unit).clamp(-1.0, 1.0);
            match best {
                Some((person, found)) if cosine > found => {
                    if person != owner {
                        next = found;
                    }
                    best = Some((owner, cosine));
                }
                Some((person, _)) if person != owner => next = next.max(cosine),
                Some(_) => {}
                None => best = Some((owner, cosine)),
            }
        }
        let (person, cosine) = best?;
        Some((Match { name: &self.people.get(person)?.name, cosine }, next))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTINGS: MatchSettings = MatchSettings { threshold: 0.4, margin: 0.1 };

    fn at(degrees: f32) -> [f32; 2] {
        [degrees.to_radians().cos() * 3.0, degrees.to_radians().sin() * 3.0]
    }

    fn gallery() -> Gallery {
        let mut gallery = Gallery::new();
        assert!(gallery.add("ann", &at(0.0)));
        assert!(gallery.add("bob", &at(90.0)));
        assert!(gallery.add("ann", &at(20.0)));
        gallery
    }

    fn name(gallery: &Gallery, degrees: f32) -> Option<&str> {
        gallery.find(&at(degrees), &SETTINGS).map(|found| found.name)
    }

    #[test]
    fn the_nearest_picture_names_the_face() {
        let gallery = gallery();
        assert_eq!((gallery.people(), gallery.embeddings()), (2, 3));
        assert_eq!(name(&gallery, -10.0), Some("ann"));
        assert_eq!(name(&gallery, 25.0), Some("ann"));
        assert_eq!(name(&gallery, 100.0), Some("bob"));
        let found = gallery.find(&at(21.0), &SETTINGS).unwrap();
        assert!((found.cosine - 1f32.to_radians().cos()).abs() < 1e-6);
    }

    #[test]
    fn a_stranger_is_nobody() {
        assert_eq!(name(&gallery(), 220.0), None);
        assert_eq!(gallery().nearest(&at(220.0)).unwrap().name, "bob");
        assert_eq!(name(&Gallery::new(), 0.0), None);
    }

    #[test]
    fn two_who_are_equally_near_are_nobody() {
        // Between the two: 35 degrees to each.
        assert_eq!(name(&gallery(), 55.0), None);
        assert_eq!(name(&gallery(), 49.0), Some("ann"));
        // Two pictures of one person do not compete.
        assert_eq!(name(&gallery(), 10.0), Some("ann"));
    }

    #[test]
    fn the_runner_up_does_not_depend_on_the_order() {
        for order in [[0.0, 20.0, 90.0], [90.0, 0.0, 20.0], [20.0, 90.0, 0.0]] {
            let mut gallery = Gallery::new();
            for degrees in order {
                gallery.add(if degrees == 90.0 { "bob" } else { "ann" }, &at(degrees));
            }
            assert_eq!((name(&gallery, 55.0), name(&gallery, 49.0)), (None, Some("ann")), "{order:?}");
        }
    }

    #[test]
    fn what_is_no_embedding_is_not_kept() {
        let mut gallery = gallery();
        assert!(!gallery.add("eve", &[0.0, 0.0]));
        assert!(!gallery.add("eve", &[f32::NAN, 1.0]));
        assert!(!gallery.add("eve", &[1.0, 1.0, 1.0]));
        assert!(!gallery.add("eve", &[]));
        assert_eq!(gallery.people(), 2);
        assert_eq!(gallery.find(&[f32::NAN, 0.0], &SETTINGS), None);
        assert_eq!(gallery.find(&[1.0, 0.0, 0.0], &SETTINGS), None);
        assert_eq!(gallery.find(&at(0.0), &MatchSettings { threshold: f32::NAN, margin: 0.0 }), None);
    }

    #[test]
    fn a_face_nearer_to_a_negative_is_not_that_person() {
        let mut gallery = Gallery::new();
        assert!(gallery.add("ann", &at(0.0)) && gallery.add("ann", &at(20.0)));
        assert_eq!(name(&gallery, 35.0), Some("ann"));
        assert!(gallery.add_negative("ann", &at(38.0)));
        assert_eq!(name(&gallery, 35.0), None, "nearer to 38 than to 20");
        assert_eq!(name(&gallery, 25.0), Some("ann"), "nearer to 20 than to 38");
        // Whoever is ruled out does not stand in the way of somebody else.
        let mut gallery = Gallery::new();
        gallery.add("ann", &at(0.0));
        gallery.add("bob", &at(20.0));
        assert_eq!(name(&gallery, 9.0), None, "too near to both");
        assert!(gallery.add_negative("ann", &at(10.0)));
        assert_eq!(name(&gallery, 9.0), Some("bob"));
        assert_eq!(gallery.nearest(&at(9.0)).unwrap().name, "ann", "who is nearest is another question");
        assert!(!gallery.add_negative("eve", &at(1.0)), "nobody of that name");
        assert!(!gallery.add_negative("ann", &[1.0]) && !gallery.add_negative("ann", &[0.0, 0.0]));
        for _ in 1..Gallery::MOST_PICTURES {
            assert!(gallery.add_negative("ann", &at(10.0)));
        }
        assert!(!gallery.add_negative("ann", &at(10.0)));
    }

    #[test]
    fn pictures_per_person_are_bounded() {
        let mut gallery = gallery();
        for _ in 1..Gallery::MOST_PICTURES {
            assert!(gallery.add("bob", &at(80.0)));
        }
        assert!(!gallery.add("bob", &at(80.0)));
        assert!(gallery.add("ann", &at(1.0)));
    }

    proptest! {
        #[test]
        fn the_answer_is_that_of_a_plain_search(rows in proptest::collection::vec((0usize..4, any::<[i8; 3]>()), 1..30), face: [i8; 3]) {
            let mut gallery = Gallery::new();
            let mut best = [f32::NEG_INFINITY; 4];
            let face = face.map(f32::from);
            for (person, row) in rows {
                let row = row.map(f32::from);
                let kept = gallery.add(&person.to_string(), &row);
                if let (true, Some(a), Some(b)) = (kept, normalised(&row), normalised(&face)) {
                    best[person] = best[person].max(cosine(&a, &b).clamp(-1.0, 1.0));
                }
            }
            let found = gallery.find(&face, &SETTINGS);
            let mut order = [0, 1, 2, 3];
            order.sort_by(|&a: &usize, &b| best[b].total_cmp(&best[a]));
            let clear = best[order[0]] >= 0.4 && best[order[0]] - best[order[1]].max(-1.0) >= 0.1;
            prop_assert_eq!(found.map(|found| found.name.to_owned()), clear.then(|| order[0].to_string()));
        }

        #[test]
        fn negatives_that_are_farther_than_everything_change_nothing(rows in proptest::collection::vec((0usize..4, any::<[i8; 3]>()), 1..30), face: [i8; 3]) {
            let face = face.map(f32::from);
            let mut plain = Gallery::new();
            for (person, row) in rows {
                plain.add(&person.to_string(), &row.map(f32::from));
            }
            let mut with = plain.clone();
            for person in 0..4 {
                with.add_negative(&person.to_string(), &face.map(|value| -value));
            }
            let who = |gallery: &Gallery| gallery.find(&face, &SETTINGS).map(|found| (found.name.to_owned(), found.cosine));
            prop_assert_eq!(who(&with), who(&plain));
        }
    }
}
