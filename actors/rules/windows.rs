//! What the rules remember: who was told of what lately, and which windows of groups are open. In memory only: after a
//! restart at most one message more per rule and camera is sent.

use std::collections::HashMap;
use std::time::Duration;

use meerkat_base::{CameraId, EventKind, EventPhase, MonoTime, WallTime};

use super::Now;

/// Cool-downs that are remembered; with more, the one that is over first is forgotten.
const MAX_COOLING: usize = 10_000;

/// Of what a rule tells only once in a while.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Sameness {
    pub rule: String,
    pub camera: CameraId,
    pub kind: EventKind,
    pub identities: Vec<String>,
}

/// A stretch of time in which the events of one rule are one message.
#[derive(Debug, Clone, Copy)]
struct Window {
    end: MonoTime,
    due: WallTime,
    grouped: bool,
}

/// Everything that is remembered.
#[derive(Debug, Default)]
pub(super) struct Memory {
    cooling: HashMap<Sameness, MonoTime>,
    windows: HashMap<(String, EventPhase), Window>,
}

impl Memory {
    /// Whether the same was told a short while ago.
    pub fn is_cooling(&self, same: &Sameness, now: MonoTime) -> bool {
        self.cooling.get(same).is_some_and(|until| now < *until)
    }

    /// Notes that it is told now, and for how long not again.
    pub fn told(&mut self, same: Sameness, cooldown: Duration, now: MonoTime) {
        if cooldown.is_zero() {
            return;
        }
        if self.cooling.len() >= MAX_COOLING {
            self.cooling.retain(|_, until| now < *until);
        }
        if self.cooling.len() >= MAX_COOLING {
            let first = self.cooling.iter().min_by_key(|(_, until)| **until).map(|(same, _)| same.clone());
            self.cooling.retain(|same, _| Some(same) != first.as_ref());
        }
        self.cooling.insert(same, now.after(cooldown));
    }

    /// When the message is due that an event of this rule becomes part of; none: it goes at once, by itself, and opens
    /// a window. A window with something in it is followed by another one, so that a burst that goes on is one message
    /// per window.
    pub fn window(&mut self, rule: &str, phase: EventPhase, length: Duration, now: Now) -> Option<WallTime> {
        let key = (rule.to_owned(), phase);
        let micros = i64::try_from(length.as_micros()).unwrap_or(i64::MAX);
        let open = self.windows.get(&key).copied();
        let (window, due) = match open {
            Some(window) if now.mono < window.end => (Window { grouped: true, ..window }, Some(window.due)),
            Some(window) if window.grouped && now.mono < window.end.after(length) => {
                let end = window.end.after(length);
                let left = i64::try_from(end.since(now.mono).as_micros()).unwrap_or(i64::MAX);
                let due = now.wall.offset_micros(left);
                (Window { end, due, grouped: true }, Some(due))
            }
            _ => {
                let due = now.wall.offset_micros(micros);
                (Window { end: now.mono.after(length), due, grouped: false }, None)
            }
        };
        self.windows.insert(key, window);
        due
    }

    /// Forgets what is over. Called with new rules, whose names bound what there can be.
    pub fn forget(&mut self, keep: impl Fn(&str) -> bool) {
        self.cooling.retain(|same, _| keep(&same.rule));
        self.windows.retain(|(rule, _), _| keep(rule));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(secs: u64) -> Now {
        Now { wall: WallTime(1_000_000_000 + secs as i64 * 1_000_000), mono: MonoTime(secs * 1_000_000_000) }
    }

    #[test]
    fn a_window_opens_with_the_first_and_goes_on_while_there_is_something_in_it() {
        let mut memory = Memory::default();
        let mut see = |secs: u64| {
            let due = memory.window("r", EventPhase::Started, Duration::from_secs(60), now(secs));
            due.map(|due| (due.0 - now(0).wall.0) / 1_000_000)
        };
        assert_eq!(see(0), None, "at once");
        assert_eq!([see(10), see(59)], [Some(60), Some(60)]);
        assert_eq!([see(61), see(119)], [Some(120), Some(120)], "it goes on");
        assert_eq!(see(185), None, "nothing came between 120 and 180");
        assert_eq!(see(250), None, "nothing came in the window that 185 opened");
        assert_eq!(see(251), Some(310));
    }

    #[test]
    fn cool_downs_are_bounded() {
        let mut memory = Memory::default();
        let same = |n: usize| Sameness {
            rule: "r".to_owned(),
            camera: CameraId::node(),
            kind: EventKind::Face,
            identities: vec![n.to_string()],
        };
        for n in 0..MAX_COOLING + 5 {
            memory.told(same(n), Duration::from_secs(60 + n as u64), MonoTime(0));
        }
        assert_eq!(memory.cooling.len(), MAX_COOLING);
        assert!(!memory.is_cooling(&same(0), MonoTime(0)), "the one that would be over first");
        assert!(memory.is_cooling(&same(MAX_COOLING), MonoTime(0)));
    }
}
