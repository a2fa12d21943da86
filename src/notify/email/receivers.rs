//! Who has got a letter, of those whom it is for. It lives over reloads, which make channels anew; over a restart lives the
//! number that is kept beside the message, see [`Had::kept`].

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use lettre::Address;
use lettre::message::Mailbox;

/// Letters of one channel whose recipients have not all got them yet that are remembered.
const REMEMBERED: usize = 256;
/// The first places each have a bit of what is kept beside the message; the last bit stands for all others together.
const REST: usize = 7;

/// Recipients of one letter of whom nothing more is to be asked; by address, for a reload may change who stands where.
#[derive(Debug, Clone, Default)]
pub(super) struct Had {
    pub accepted: BTreeSet<Address>,
    pub refused: BTreeSet<Address>,
}

impl Had {
    /// What was kept beside the message. Of those who share the last bit only a running node knows who it was.
    pub fn from_kept(bits: u8, to: &[Mailbox]) -> Self {
        let kept = to.iter().take(REST).enumerate().filter(|(place, _)| bits & (1 << *place) != 0);
        Self { accepted: kept.map(|(_, mailbox)| mailbox.email.clone()).collect(), refused: BTreeSet::new() }
    }

    /// What is kept beside the message: 0 while nobody has it.
    pub fn kept(&self, to: &[Mailbox]) -> u8 {
        let had = to.iter().enumerate().filter(|(_, mailbox)| self.accepted.contains(&mailbox.email));
        had.fold(0, |bits, (place, _)| bits | (1 << place.min(REST)))
    }

    /// Whether nothing more is to be asked of this recipient. While nobody has the letter, those who refused it are asked
    /// each time: people may have mended what was wrong, or taken the others away, and what nobody has is not done with.
    pub fn has(&self, address: &Address) -> bool {
        self.accepted.contains(address) || (!self.accepted.is_empty() && self.refused.contains(address))
    }
}

/// What mail channels know of their letters, kept while settings are reloaded and channels built anew.
#[derive(Clone, Default)]
pub struct MailMemory {
    channels: Arc<Mutex<HashMap<String, Arc<Partly>>>>,
}

impl MailMemory {
    pub(super) fn of(&self, channel: &str) -> Arc<Partly> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(channels.entry(channel.to_owned()).or_default())
    }
}

/// Letters of one channel that some of the recipients have got, oldest first.
#[derive(Default)]
pub(super) struct Partly {
    letters: Mutex<VecDeque<(String, Had)>>,
}

impl Partly {
    /// Who has got a letter; nothing where it is not known here.
    pub fn of(&self, id: &str) -> Option<Had> {
        let letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        letters.iter().find(|(letter, _)| letter == id).map(|(_, had)| had.clone())
    }

    /// Notes who has got a letter by now.
    pub fn note(&self, id: String, had: Had) {
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        letters.retain(|(letter, _)| *letter != id);
        if had.accepted.is_empty() && had.refused.is_empty() {
            return;
        }
        if letters.len() >= REMEMBERED {
            letters.pop_front();
        }
        letters.push_back((id, had));
    }

    /// The letter is done with.
    pub fn forget(&self, id: &str) {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner).retain(|(letter, _)| letter != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_letter_fits_beside_it() {
        let to: Vec<Mailbox> = (0..41).map(|n| format!("m{n}@example.org").parse().unwrap()).collect();
        let had = |places: &[usize]| {
            let accepted = places.iter().map(|place| to[*place].email.clone()).collect();
            Had { accepted, ..Had::default() }
        };
        for (places, kept) in [(&[][..], 0), (&[0, 2], 5), (&[6], 64), (&[7], 128), (&[1, 9, 40], 130)] {
            assert_eq!(had(places).kept(&to), kept, "{places:?}");
        }
        let known = Had::from_kept(0b1000_0101, &to);
        let has = |place: usize| known.has(&to[place].email);
        assert!(has(0) && has(2) && !has(1));
        assert!(!has(7) && !has(8), "who of the rest it was is not known");
    }

    #[test]
    fn letters_are_remembered_by_channel_and_not_for_ever() {
        let memory = MailMemory::default();
        let had = Had { accepted: [Address::new("ann", "example.org").unwrap()].into(), ..Had::default() };
        memory.of("a").note("first".to_owned(), had.clone());
        for n in 0..REMEMBERED {
            memory.of("b").note(n.to_string(), had.clone());
        }
        assert!(memory.of("a").of("first").is_some() && memory.of("b").of("first").is_none());
        memory.of("b").note("another".to_owned(), had);
        assert!(memory.of("b").of("0").is_none() && memory.of("b").of("1").is_some());
        memory.of("b").note("1".to_owned(), Had::default());
        memory.of("a").forget("first");
        assert!(memory.of("b").of("1").is_none() && memory.of("a").of("first").is_none());
    }
}
