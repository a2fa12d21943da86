//! What goes on at one camera by what alerts have said, whatever order they came in: after an outage the newest come
//! first, and an old "on" must not undo a newer "off".

use std::collections::{BTreeMap, VecDeque};

use meerkat_base::{EventId, EventKind, EventPhase, WallTime};

/// Events of a kind at a camera that go on at once, at most; more have lost their ends.
const MOST_OPEN: usize = 64;
/// Ended events that are remembered, so that their beginning is not believed when it comes later.
const MOST_CLOSED: usize = 256;

/// Which events of one kind go on at one camera.
#[derive(Debug, Default)]
pub(super) struct Presence {
    /// When the newest event that was heard of began.
    newest: Option<WallTime>,
    open: BTreeMap<EventId, WallTime>,
    closed: VecDeque<EventId>,
}

impl Presence {
    /// Takes what an alert says. `is_over` holds for what began in an earlier life of the node, whose events have all
    /// ended with it.
    pub fn hear(
        &mut self,
        kind: EventKind,
        event: EventId,
        started: WallTime,
        phase: EventPhase,
        is_over: bool,
    ) {
        let newer_known = self.newest.is_some_and(|newest| started < newest);
        // Faces are told apart, so several events go on at once; of every other kind one follows the other.
        let one_by_one = kind != EventKind::Face;
        if phase == EventPhase::Ended {
            self.close(event);
            if one_by_one && !newer_known {
                self.open.clear();
            }
        } else {
            let outdated = one_by_one && newer_known;
            if is_over || outdated || self.closed.contains(&event) {
                return;
            }
            if one_by_one {
                self.open.clear();
            }
            self.open.insert(event, started);
            while self.open.len() > MOST_OPEN {
                self.open.pop_first();
            }
        }
        self.newest = self.newest.max(Some(started));
    }

    /// What began up to a time is taken for over: its end was summed up with others after an outage. Better off too
    /// early than on for ever.
    pub fn settle(&mut self, until: WallTime) {
        self.open.retain(|_, started| *started > until);
    }

    /// Whether anything goes on.
    pub fn is_on(&self) -> bool {
        !self.open.is_empty()
    }

    fn close(&mut self, event: EventId) {
        self.open.remove(&event);
        if self.closed.contains(&event) {
            return;
        }
        if self.closed.len() >= MOST_CLOSED {
            self.closed.pop_front();
        }
        self.closed.push_back(event);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use EventPhase::{Ended, Started, Updated};

    fn check(kind: EventKind, heard: &[(u8, EventPhase)], on: bool) {
        let mut presence = Presence::default();
        for &(number, phase) in heard {
            let event = EventId(Uuid::from_u128(u128::from(number)));
            presence.hear(kind, event, WallTime(i64::from(number)), phase, false);
        }
        assert_eq!(presence.is_on(), on, "{kind} {heard:?}");
    }

    #[test]
    fn in_their_order() {
        check(EventKind::Motion, &[], false);
        check(EventKind::Motion, &[(1, Started)], true);
        check(EventKind::Motion, &[(1, Started), (1, Started)], true);
        check(EventKind::Motion, &[(1, Started), (1, Updated), (1, Ended)], false);
        check(EventKind::Motion, &[(1, Started), (1, Ended), (2, Started)], true);
    }

    #[test]
    fn the_newest_first() {
        check(EventKind::Motion, &[(1, Ended), (1, Started)], false);
        check(EventKind::Motion, &[(2, Ended), (2, Started), (1, Ended), (1, Started)], false);
        check(EventKind::Motion, &[(2, Started), (1, Ended), (1, Started)], true);
        check(EventKind::Motion, &[(2, Started), (1, Started), (2, Ended)], false);
        check(EventKind::Motion, &[(2, Ended), (1, Started)], false);
    }

    #[test]
    fn an_end_that_is_lost_lasts_no_longer_than_the_next_event() {
        check(EventKind::Person, &[(1, Started), (2, Started), (2, Ended)], false);
        check(EventKind::Person, &[(1, Started), (2, Ended)], false);
    }

    #[test]
    fn faces_overlap() {
        check(EventKind::Face, &[(1, Started), (2, Started), (2, Ended)], true);
        check(EventKind::Face, &[(1, Started), (2, Started), (1, Ended)], true);
        check(EventKind::Face, &[(2, Started), (1, Started), (1, Ended), (2, Ended)], false);
        check(EventKind::Face, &[(2, Ended), (1, Started)], true);
    }

    #[test]
    fn what_an_earlier_life_began_is_over() {
        let mut presence = Presence::default();
        let event = EventId(Uuid::from_u128(1));
        presence.hear(EventKind::Motion, event, WallTime(1), Started, true);
        assert!(!presence.is_on());
    }

    #[test]
    fn what_was_summed_up_is_over_and_what_is_newer_goes_on() {
        let mut presence = Presence::default();
        let event = |number| EventId(Uuid::from_u128(number));
        presence.hear(EventKind::Face, event(1), WallTime(1), Started, false);
        presence.hear(EventKind::Face, event(3), WallTime(3), Started, false);
        presence.settle(WallTime(2));
        assert!(presence.is_on());
        presence.settle(WallTime(3));
        assert!(!presence.is_on());
    }

    #[test]
    fn memory_is_bounded() {
        let mut presence = Presence::default();
        for number in 0..2_000_u16 {
            let event = EventId(Uuid::from_u128(u128::from(number)));
            let phase = if number % 2 == 0 { Started } else { Ended };
            presence.hear(EventKind::Face, event, WallTime(i64::from(number)), phase, false);
        }
        assert!(presence.open.len() <= MOST_OPEN && presence.closed.len() <= MOST_CLOSED);
    }
}
