//! Whether the wall clock can be believed: it is compared with the monotonic clock while the node runs, and at a start
//! with what the run before noted. A clock in doubt deletes nothing by age, and what it dated while it was behind is not
//! taken for old. Reads no clock itself.

use std::time::Duration;

use meerkat_base::{MonoTime, WallTime};
use serde::{Deserialize, Serialize};

use super::stretches::Stretches;

/// While the clock is behind, what is dated so far ahead of it counts as made by it, too.
const AHEAD: i64 = 3_600_000_000;

/// The clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clocks {
    /// The wall clock.
    pub wall: WallTime,
    /// The monotonic clock of this run.
    pub mono: MonoTime,
}

impl Clocks {
    /// Microseconds by which the wall clock is ahead of the monotonic one: the same as long as nobody sets it.
    pub(crate) fn ahead(self) -> i64 {
        self.wall.0.saturating_sub(i64::try_from(self.mono.0 / 1_000).unwrap_or(i64::MAX))
    }
}

/// The machine's own uptime, which also counts while no node runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uptime {
    /// Which boot of the machine.
    pub boot: String,
    /// Time since then.
    pub micros: i64,
}

/// What is noted on disk while the clock is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeNote {
    /// The wall clock, microseconds since 1970.
    pub wall: i64,
    /// The uptime at that moment, where it is known.
    pub uptime: Option<Uptime>,
    /// When the clock was behind, until then and since.
    #[serde(default, skip_serializing_if = "Stretches::is_empty")]
    pub behind: Stretches,
}

/// Why the wall clock is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// It was set while something was watching; it is right again when it is so far ahead as before.
    Jumped {
        /// See [`Clocks::ahead`].
        ahead: i64,
    },
    /// It is earlier than what was stored by an earlier run.
    Behind {
        /// It is right again from this time on.
        from: WallTime,
    },
    /// It is much later than the end of the run before.
    FarAhead {
        /// It would be right before this time.
        until: WallTime,
    },
}

/// Watches the wall clock.
#[derive(Debug, Clone)]
pub struct ClockWatch {
    jump: i64,
    ahead: i64,
    doubt: Option<Doubt>,
    /// The last look.
    last: Clocks,
    behind: Stretches,
    /// The clock is behind now: the last stretch goes on.
    is_behind: bool,
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

impl ClockWatch {
    /// Begins with what an earlier run noted, and with the time of the newest thing it stored. `jump` is how far a clock
    /// may be set, `gap` how long a node may have been down.
    pub fn new(
        (jump, gap): (Duration, Duration),
        now: Clocks,
        uptime: Option<&Uptime>,
        note: Option<&TimeNote>,
        newest: Option<WallTime>,
    ) -> Self {
        let (jump, gap) = (micros(jump), micros(gap));
        let mut doubt = None;
        let last = note.map(|note| note.wall).into_iter().chain(newest.map(|at| at.0)).max();
        if let Some(last) = last {
            if now.wall.0 < last.saturating_sub(jump) {
                doubt = Some(Doubt::Behind { from: WallTime(last.saturating_sub(jump)) });
            } else if now.wall.0 > last.saturating_add(gap) {
                doubt = Some(Doubt::FarAhead { until: WallTime(last.saturating_add(gap)) });
            }
        }
        let mut is_behind = matches!(doubt, Some(Doubt::Behind { .. }));
        // The machine ran on: then it is known exactly.
        if let (Some(note), Some(uptime)) = (note, uptime)
            && let Some(before) = note.uptime.as_ref().filter(|before| before.boot == uptime.boot)
        {
            let expected = note.wall.saturating_add(uptime.micros.saturating_sub(before.micros));
            let off = now.wall.0.saturating_sub(expected);
            doubt = (off.saturating_abs() > jump)
                .then(|| Doubt::Jumped { ahead: now.ahead().saturating_sub(off) });
            is_behind = doubt.is_some() && off < 0;
        }
        let behind = note.map(|note| note.behind.clone()).unwrap_or_default();
        let mut watch = Self { jump, ahead: now.ahead(), doubt, last: now, behind, is_behind: false };
        if let Some(last) = last.filter(|_| is_behind) {
            // Everything that this run has made.
            watch.falls_behind(WallTime(now.ahead()), now, WallTime(last));
        }
        watch
    }

    fn falls_behind(&mut self, from: WallTime, now: Clocks, not_before: WallTime) {
        self.is_behind = true;
        self.behind.begin(from, now.wall.offset_micros(AHEAD), not_before);
    }

    /// Looks at the clocks. Returns whether that changed anything.
    pub fn look(&mut self, now: Clocks) -> bool {
        let (before, last) = (self.doubt, std::mem::replace(&mut self.last, now));
        let ahead = now.ahead();
        let passed = i64::try_from(now.mono.since(last.mono).as_micros()).unwrap_or(i64::MAX);
        match self.doubt {
            None if (ahead.saturating_sub(self.ahead)).saturating_abs() > self.jump => {
                self.doubt = Some(Doubt::Jumped { ahead: self.ahead });
                if ahead < self.ahead {
                    // At the latest right after the last look.
                    self.falls_behind(now.wall.offset_micros(-passed), now, last.wall);
                }
            }
            // Slow corrections are followed.
            None => self.ahead = ahead,
            Some(Doubt::Jumped { ahead: right })
                if ahead.saturating_sub(right).saturating_abs() <= self.jump =>
            {
                self.doubt = None;
            }
            Some(Doubt::Behind { from }) if now.wall >= from => self.doubt = None,
            Some(Doubt::FarAhead { until }) if now.wall <= until => self.doubt = None,
            Some(_) => {}
        }
        if self.doubt.is_none() && before.is_some() {
            self.ahead = ahead;
            self.is_behind = false;
        }
        self.doubt != before
    }

    /// The clock is still behind: its stretch goes on, well ahead of it. Returns whether that has to be noted.
    pub fn stays_behind(&mut self, now: Clocks) -> bool {
        let (soon, to) = (now.wall.offset_micros(AHEAD / 2), now.wall.offset_micros(AHEAD));
        self.is_behind && self.behind.extend(soon, to)
    }

    /// When the clock was behind.
    pub fn behind(&self) -> &Stretches {
        &self.behind
    }

    /// A person says that the wall clock is right as it is now.
    pub fn confirm(&mut self, now: Clocks) {
        self.doubt = None;
        self.ahead = now.ahead();
        if std::mem::take(&mut self.is_behind) {
            // Then it was ahead before.
            self.behind.take_back();
        }
    }

    /// Why the clock is not believed; none while it is.
    pub fn doubt(&self) -> Option<Doubt> {
        self.doubt
    }
}

impl Doubt {
    /// In words.
    pub fn words(self) -> String {
        match self {
            Doubt::Jumped { .. } => "the wall clock was set by more than storage.clock_jump_secs".to_owned(),
            Doubt::Behind { from } => {
                format!("the wall clock is earlier than what is stored; right from {from} on")
            }
            Doubt::FarAhead { until } => {
                format!("the wall clock is much later than the last run; expected before {until}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    const LIMITS: (Duration, Duration) = (HOUR, Duration::from_secs(7 * 86_400));
    const NOON: i64 = 1_795_176_000_000_000;

    fn at(wall_hours: i64, mono_hours: u64) -> Clocks {
        Clocks {
            wall: WallTime(NOON + wall_hours * 3_600_000_000),
            mono: MonoTime(mono_hours * 3_600_000_000_000),
        }
    }

    fn note(uptime: Option<Uptime>) -> TimeNote {
        TimeNote { wall: NOON, uptime, behind: Stretches::default() }
    }

    #[test]
    fn what_a_clock_that_is_behind_dates_is_known_for_it() {
        let far = |hours: i64| at(hours - 20 * 8_766, 0).wall;
        let hours = |hours: i64| WallTime(NOON + hours * 3_600_000_000);
        // A start in the past, twice; then it is set right, and is behind by a day.
        let mut first = ClockWatch::new(LIMITS, at(-20 * 8_766, 0), None, Some(&note(None)), None);
        assert_eq!((first.behind().earliest(far(0)), first.behind().hold(far(2))), (hours(0), false));
        assert!(!first.stays_behind(at(-20 * 8_766, 0)) && first.stays_behind(at(3 - 20 * 8_766, 3)));
        assert!(first.behind().hold(far(3)));
        let kept = TimeNote { behind: first.behind().clone(), ..note(None) };
        let mut watch = ClockWatch::new(LIMITS, at(1 - 20 * 8_766, 0), None, Some(&kept), None);
        assert!(watch.look(at(10, 1)) && watch.doubt().is_none());
        assert!(watch.behind().hold(far(2)) && !watch.stays_behind(at(10, 1)));
        assert_eq!(watch.behind().earliest(hours(10)), hours(10), "now it is right");
        assert!(watch.look(at(-13, 2)));
        assert_eq!(watch.behind().earliest(hours(-13)), hours(10), "made after that time");
        assert!(!watch.behind().hold(hours(-20)), "what is older than its wrong time is as old as it says");
        watch.confirm(at(-12, 3));
        assert!(!watch.behind().hold(hours(-13)) && watch.behind().hold(far(2)), "a person knows better");
        // A clock that is ahead makes nothing older.
        let mut ahead = fresh();
        assert!(ahead.look(at(30, 1)) && ahead.behind().is_empty());
        assert!(ahead.look(at(2, 2)) && ahead.behind().is_empty(), "it is right again");
    }

    fn fresh() -> ClockWatch {
        ClockWatch::new(LIMITS, at(0, 0), None, None, None)
    }

    #[test]
    fn a_jump_is_noticed_and_over_when_the_clock_is_back_or_confirmed() {
        for far in [-30, 3, 10_000] {
            let mut watch = fresh();
            assert!(!watch.look(at(1, 1)) && watch.doubt().is_none());
            assert!(watch.look(at(2 + far, 2)), "{far}");
            assert!(matches!(watch.doubt(), Some(Doubt::Jumped { .. })));
            assert!(!watch.look(at(9 + far, 9)), "it does not become right by waiting");
            let mut confirmed = watch.clone();
            assert!(watch.look(at(10, 10)), "back");
            assert_eq!(watch.doubt(), None);
            confirmed.confirm(at(10 + far, 10));
            assert!(!confirmed.look(at(11 + far, 11)) && confirmed.doubt().is_none());
        }
    }

    #[test]
    fn slow_corrections_are_no_jump() {
        let mut watch = fresh();
        for hour in 1..100_u64 {
            // Half an hour too much in every hour.
            let hours = i64::try_from(hour).unwrap();
            let mut now = at(hours, hour);
            now.wall = now.wall.offset_micros(hours * 1_800_000_000);
            assert!(!watch.look(now) && watch.doubt().is_none());
        }
    }

    #[test]
    fn a_start_compares_with_the_run_before() {
        let note = note(None);
        let start = |hours, newest: Option<i64>| {
            ClockWatch::new(LIMITS, at(hours, 0), None, Some(&note), newest.map(WallTime)).doubt()
        };
        assert_eq!(start(24, None), None, "it was off for a day");
        assert!(matches!(start(-2, None), Some(Doubt::Behind { .. })));
        assert!(matches!(start(24 * 8, None), Some(Doubt::FarAhead { .. })));
        assert!(matches!(start(1, Some(NOON + 3 * 3_600_000_000)), Some(Doubt::Behind { .. })));
        let mut behind = ClockWatch::new(LIMITS, at(-20 * 8_766, 0), None, Some(&note), None);
        assert!(behind.doubt().is_some() && behind.look(at(1, 1)) && behind.doubt().is_none());
        let mut ahead = ClockWatch::new(LIMITS, at(20 * 8_766, 0), None, Some(&note), None);
        assert!(!ahead.look(at(20 * 8_766 + 1, 1)) && ahead.look(at(2, 2)) && ahead.doubt().is_none());
        assert_eq!(ClockWatch::new(LIMITS, at(0, 0), None, None, None).doubt(), None);
    }

    #[test]
    fn a_machine_that_ran_on_knows_exactly() {
        let up = |hours: i64| Uptime { boot: "a".into(), micros: hours * 3_600_000_000 };
        let note = note(Some(up(5)));
        let start =
            |wall, uptime: &Uptime| ClockWatch::new(LIMITS, at(wall, 0), Some(uptime), Some(&note), None);
        assert_eq!(start(1, &up(6)).doubt(), None);
        assert_eq!(
            start(24 * 30, &up(5 + 24 * 30)).doubt(),
            None,
            "no node for a month, but the machine ran"
        );
        let mut jumped = start(3, &up(6));
        assert!(jumped.doubt().is_some(), "two hours too far");
        assert!(jumped.look(at(3, 2)) && jumped.doubt().is_none(), "an hour later it is right");
        let other = Uptime { boot: "b".into(), micros: 0 };
        assert_eq!(start(3, &other).doubt(), None);
    }
}
