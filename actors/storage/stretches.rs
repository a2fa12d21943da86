//! Stretches of wall time in which the clock was behind. What is dated in one was made later than it says: a board
//! without a battery begins in 1970, and what it records then is not the oldest that it has. Reads no clock.

use meerkat_base::WallTime;
use serde::{Deserialize, Serialize};

/// Stretches that are remembered; of more, two become one.
const MAX: usize = 16;

/// What is dated from `from` to `to` was made after `not_before`. Microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    from: i64,
    to: i64,
    not_before: i64,
}

/// All that are remembered, the latest last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stretches(Vec<Stretch>);

impl Stretch {
    fn overlaps(&self, other: &Self) -> bool {
        self.from <= other.to && other.from <= self.to
    }

    fn with(&self, other: &Self) -> Self {
        Self {
            from: self.from.min(other.from),
            to: self.to.max(other.to),
            not_before: self.not_before.max(other.not_before),
        }
    }
}

impl Stretches {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether something with this date may be younger than that.
    pub fn hold(&self, at: WallTime) -> bool {
        self.0.iter().any(|stretch| stretch.from <= at.0 && at.0 <= stretch.to)
    }

    /// The earliest moment at which something with this date can have been made, as far as is known.
    pub fn earliest(&self, at: WallTime) -> WallTime {
        let of = self.0.iter().filter(|stretch| stretch.from <= at.0 && at.0 <= stretch.to);
        WallTime(of.map(|stretch| stretch.not_before).max().unwrap_or(at.0).max(at.0))
    }

    /// The last day (`2026-11-20`) on which something of this day's folder can have been made, as far as is known.
    pub fn latest_day(&self, day: &str) -> String {
        let day_of = |micros: i64| WallTime(micros).date();
        let of = self.0.iter().filter(|stretch| *day_of(stretch.from) <= *day && *day <= *day_of(stretch.to));
        of.map(|stretch| day_of(stretch.not_before)).max().unwrap_or_default().max(day.to_owned())
    }

    /// The moments between which dates may be wrong; none when all are right.
    pub fn bounds(&self) -> Option<(WallTime, WallTime)> {
        let from = self.0.iter().map(|stretch| stretch.from).min()?;
        let to = self.0.iter().map(|stretch| stretch.to).max()?;
        Some((WallTime(from), WallTime(to)))
    }

    /// The clock is behind, from a moment of it on: what is made now is dated up to `to`.
    pub(super) fn begin(&mut self, from: WallTime, to: WallTime, not_before: WallTime) {
        let new = Stretch { from: from.0, to: to.0, not_before: not_before.0 };
        match self.0.last_mut() {
            // Nobody trusted the clock in between: started again and again.
            Some(last) if last.not_before == new.not_before && last.overlaps(&new) => *last = last.with(&new),
            _ => self.0.push(new),
        }
        if self.0.len() > MAX {
            let oldest = (0..MAX).min_by_key(|n| self.0[*n].not_before).unwrap_or(0);
            let gone = self.0.remove(oldest);
            // What it says of others' dates, they say too; they are later.
            if let Some(other) = self.0.iter_mut().find(|other| other.overlaps(&gone)) {
                *other = other.with(&gone);
            }
        }
    }

    /// It is still behind: what is made now is dated up to `to`, unless it reaches to `soon` anyway. Returns whether
    /// that is new.
    pub(super) fn extend(&mut self, soon: WallTime, to: WallTime) -> bool {
        let Some(last) = self.0.last_mut().filter(|last| last.to < soon.0) else { return false };
        last.to = to.0;
        true
    }

    /// It was right after all.
    pub(super) fn take_back(&mut self) {
        self.0.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000_000;
    const NOW: i64 = 20_000 * DAY;

    fn at(micros: i64) -> WallTime {
        WallTime(micros)
    }

    #[test]
    fn what_is_dated_in_a_stretch_is_as_old_as_the_time_that_was_known_before() {
        let mut times = Stretches::default();
        assert!(times.is_empty() && times.bounds().is_none());
        assert_eq!((times.earliest(at(5)), times.latest_day("1970-01-01")), (at(5), "1970-01-01".to_owned()));
        times.begin(at(10), at(20), at(NOW));
        assert!(!times.hold(at(9)) && times.hold(at(10)) && times.hold(at(20)) && !times.hold(at(21)));
        assert_eq!((times.earliest(at(15)), times.earliest(at(21))), (at(NOW), at(21)));
        assert_eq!(times.latest_day("1970-01-01"), at(NOW).date());
        assert_eq!(times.latest_day("1970-01-02"), "1970-01-02");
        assert!(!times.extend(at(20), at(30)) && times.extend(at(21), at(30)) && times.hold(at(30)));
        // A clock that was an hour behind does not make anything older than it says.
        times.begin(at(NOW - DAY), at(NOW + DAY), at(NOW));
        assert_eq!(times.earliest(at(NOW + 5)), at(NOW + 5));
        assert_eq!(times.bounds(), Some((at(10), at(NOW + DAY))));
        times.take_back();
        assert!(!times.hold(at(NOW)));
    }

    #[test]
    fn starts_without_trust_in_between_are_one_and_more_than_can_be_held_are_joined() {
        let mut times = Stretches::default();
        for n in 0..50 {
            times.begin(at(n), at(n + 100), at(NOW));
        }
        assert_eq!(times.0, [Stretch { from: 0, to: 149, not_before: NOW }]);
        for n in 1..=40 {
            times.begin(at(0), at(n), at(NOW + n));
        }
        assert_eq!(times.0.len(), MAX);
        assert_eq!(times.earliest(at(1)), at(NOW + 40));
        assert!(times.hold(at(149)), "nothing is forgotten");
    }
}
