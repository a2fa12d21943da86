//! What a day makes of a person's visits: first and last seen, check-in and check-out, late and early. Reckons only;
//! the lines come from `attendance.rs`, the rules from the settings.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use meerkat_base::{CameraId, WallTime};
use serde::{Deserialize, Serialize};

use crate::attendance::CheckInRow;

/// Days that one ledger spans at most.
pub const MAX_DAYS: i32 = 366;

/// Which way people pass a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// Either way: the first visit of a day is the check-in, the last the check-out.
    #[default]
    Both,
    /// Only in.
    In,
    /// Only out.
    Out,
}

/// When somebody works.
#[derive(Debug, Clone, PartialEq)]
pub struct Shift {
    /// Its name.
    pub name: String,
    /// Names of those who work it; empty for everybody who is in no other.
    pub people: Vec<String>,
    /// Begin.
    pub start: Time,
    /// End; at or before `start`: on the next day.
    pub end: Time,
    /// Days on which it begins.
    pub work_days: Vec<Weekday>,
    /// How late and how early is still on time.
    pub grace: Duration,
}

/// The rules of the ledger.
#[derive(Debug, Clone)]
pub struct LedgerRules {
    /// Where the clock on the wall hangs.
    pub zone: TimeZone,
    /// When a day begins for those who work no shift over midnight.
    pub day_starts: Time,
    /// Work days of those who work no shift.
    pub work_days: Vec<Weekday>,
    /// Shifts, those with names first.
    pub shifts: Vec<Shift>,
    /// A last sight sooner after the check-in than this is no check-out.
    pub check_out_after: Duration,
    /// Cameras that people pass only one way.
    pub directions: BTreeMap<CameraId, Direction>,
}

/// How a day of a person came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DayState {
    /// Came and went.
    Present,
    /// Came, and was not seen going (or not yet).
    NoCheckOut,
    /// Went, and was not seen coming.
    NoCheckIn,
    /// A work day without a visit.
    Absent,
}

/// A person's day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerDay {
    /// Who.
    pub person: String,
    /// The day on which it began, `YYYY-MM-DD`.
    pub day: String,
    /// Whether the person was to work then.
    pub work_day: bool,
    /// The person's shift.
    pub shift: Option<String>,
    /// First seen.
    pub first: Option<String>,
    /// Last seen.
    pub last: Option<String>,
    /// When the person came, RFC 3339 with the offset of the zone; as all times here.
    pub check_in: Option<String>,
    /// When the person went.
    pub check_out: Option<String>,
    /// Visits at cameras that count.
    pub visits: u64,
    /// Minutes from check-in to check-out.
    pub minutes: Option<i64>,
    /// Minutes after the shift's begin, 0 within its grace.
    pub late_minutes: i64,
    /// Minutes before the shift's end, 0 within its grace.
    pub early_minutes: i64,
    /// How it came out.
    pub state: DayState,
}

/// The ledger cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSpan {
    /// The last day comes before the first.
    #[error("the last day is before the first")]
    Backward,
    /// More than [`MAX_DAYS`].
    #[error("a ledger spans at most {MAX_DAYS} days")]
    Long,
    /// The calendar has no such day.
    #[error("the days are beyond the calendar")]
    Beyond,
}

#[derive(Default)]
struct Gathered {
    first: Option<WallTime>,
    last: Option<WallTime>,
    came: Option<WallTime>,
    went: Option<WallTime>,
    visits: u64,
}

/// Gathers visits, then reckons.
pub struct Ledger<'a> {
    rules: &'a LedgerRules,
    from: Date,
    to: Date,
    days: BTreeMap<(String, Date), Gathered>,
}

impl<'a> Ledger<'a> {
    /// A ledger of the days `from` to `to`, both included.
    ///
    /// # Errors
    /// [`BadSpan`].
    pub fn new(rules: &'a LedgerRules, from: Date, to: Date) -> Result<Self, BadSpan> {
        if to < from {
            return Err(BadSpan::Backward);
        }
        let days = from.until(to).map_err(|_| BadSpan::Beyond)?.get_days();
        if days >= MAX_DAYS {
            return Err(BadSpan::Long);
        }
        Ok(Self { rules, from, to, days: BTreeMap::new() })
    }

    /// The span of time in which visits may belong to it: a little more than its days.
    ///
    /// # Errors
    /// [`BadSpan::Beyond`].
    pub fn span(&self) -> Result<(WallTime, WallTime), BadSpan> {
        let from = self.from.checked_sub(1.day()).map_err(|_| BadSpan::Beyond)?;
        let to = self.to.checked_add(2.days()).map_err(|_| BadSpan::Beyond)?;
        Ok((self.moment(from, Time::midnight())?, self.moment(to, Time::midnight())?))
    }

    /// Takes one visit; those of other days are left out.
    pub fn take(&mut self, visit: &CheckInRow) {
        let day = self.day_of(&visit.name, visit.at);
        if day.is_none_or(|day| day < self.from || day > self.to) {
            return;
        }
        let Some(day) = day else { return };
        let gathered = self.days.entry((visit.name.clone(), day)).or_default();
        gathered.visits += 1;
        gathered.first = Some(gathered.first.map_or(visit.at, |first| first.min(visit.at)));
        gathered.last = Some(gathered.last.map_or(visit.last, |last| last.max(visit.last)));
        let direction = self.rules.directions.get(&visit.camera).copied().unwrap_or_default();
        if direction != Direction::Out {
            gathered.came = Some(gathered.came.map_or(visit.at, |came| came.min(visit.at)));
        }
        if direction != Direction::In {
            gathered.went = Some(gathered.went.map_or(visit.last, |went| went.max(visit.last)));
        }
    }

    /// The days on which somebody came, by day and person; and for the people named, from the day on which they were
    /// enrolled to `now`, the work days on which they did not.
    pub fn finish(mut self, everybody: &[(String, WallTime)], now: WallTime) -> Vec<LedgerDay> {
        let gathered = std::mem::take(&mut self.days);
        let mut days: Vec<(Date, LedgerDay)> = Vec::with_capacity(gathered.len());
        let mut seen: BTreeSet<(Date, String)> = BTreeSet::new();
        for ((person, date), found) in gathered {
            seen.insert((date, person.clone()));
            days.push((date, self.reckon(person, date, &found)));
        }
        for (person, enrolled) in everybody {
            let (Some(first), Some(today)) = (self.day_of(person, *enrolled), self.day_of(person, now))
            else {
                continue;
            };
            let mut date = self.from.max(first);
            // The day that runs now may still bring them.
            while date <= self.to && date < today {
                if self.works(person, date) && !seen.contains(&(date, person.clone())) {
                    days.push((date, self.reckon(person.clone(), date, &Gathered::default())));
                }
                let Ok(next) = date.tomorrow() else { break };
                date = next;
            }
        }
        days.sort_by(|(a, one), (b, other)| (a, &one.person).cmp(&(b, &other.person)));
        days.into_iter().map(|(_, day)| day).collect()
    }

    fn reckon(&self, person: String, date: Date, found: &Gathered) -> LedgerDay {
        let shift = self.shift(&person);
        let work_day = self.works(&person, date);
        let long_enough = |went: &WallTime| {
            found.came.is_none_or(|came| micros_between(came, *went) >= as_micros(self.rules.check_out_after))
        };
        let went = found.went.filter(long_enough);
        let state = match (found.came, went) {
            (Some(_), Some(_)) => DayState::Present,
            (Some(_), None) => DayState::NoCheckOut,
            (None, Some(_)) => DayState::NoCheckIn,
            (None, None) => DayState::Absent,
        };
        let due = shift.filter(|_| work_day).and_then(|shift| {
            let end_day = if shift.end <= shift.start { date.tomorrow().ok()? } else { date };
            let start = self.moment(date, shift.start).ok()?;
            Some((start, self.moment(end_day, shift.end).ok()?, as_micros(shift.grace)))
        });
        let minutes_over = |micros: i64, grace: i64| if micros > grace { micros / 60_000_000 } else { 0 };
        let late = due
            .zip(found.came)
            .map_or(0, |((start, _, grace), came)| minutes_over(micros_between(start, came), grace));
        let early =
            due.zip(went).map_or(0, |((_, end, grace), went)| minutes_over(micros_between(went, end), grace));
        let shown = |time: Option<WallTime>| time.map(|time| self.shown(time));
        LedgerDay {
            person,
            day: date.to_string(),
            work_day,
            shift: shift.map(|shift| shift.name.clone()),
            first: shown(found.first),
            last: shown(found.last),
            check_in: shown(found.came),
            check_out: shown(went),
            visits: found.visits,
            minutes: found.came.zip(went).map(|(came, went)| micros_between(came, went) / 60_000_000),
            late_minutes: late,
            early_minutes: early,
            state,
        }
    }

    fn shift(&self, person: &str) -> Option<&'a Shift> {
        let own = self.rules.shifts.iter().find(|shift| shift.people.iter().any(|name| name == person));
        own.or_else(|| self.rules.shifts.iter().find(|shift| shift.people.is_empty()))
    }

    fn works(&self, person: &str, date: Date) -> bool {
        let days = self.shift(person).map_or(&self.rules.work_days, |shift| &shift.work_days);
        days.contains(&date.weekday())
    }

    /// The day to which a moment belongs. A shift over midnight belongs to the day on which it begins: for those who
    /// work one, a day begins in the middle of their free time.
    fn day_of(&self, person: &str, at: WallTime) -> Option<Date> {
        let local = Timestamp::from_microsecond(at.0).ok()?.to_zoned(self.rules.zone.clone()).datetime();
        let boundary = match self.shift(person).filter(|shift| shift.end <= shift.start) {
            None => self.rules.day_starts,
            Some(shift) => {
                let free = (seconds(shift.start) - seconds(shift.end)) / 2;
                let middle = seconds(shift.end) + free;
                Time::midnight().wrapping_add(i64::from(middle).seconds())
            }
        };
        if local.time() < boundary { local.date().yesterday().ok() } else { Some(local.date()) }
    }

    fn moment(&self, date: Date, time: Time) -> Result<WallTime, BadSpan> {
        let zoned = date.to_datetime(time).to_zoned(self.rules.zone.clone()).map_err(|_| BadSpan::Beyond)?;
        Ok(WallTime(zoned.timestamp().as_microsecond()))
    }

    fn shown(&self, time: WallTime) -> String {
        let time = Timestamp::from_microsecond(time.0).unwrap_or(Timestamp::UNIX_EPOCH);
        time.to_zoned(self.rules.zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }
}

fn seconds(time: Time) -> i32 {
    i32::from(time.hour()) * 3_600 + i32::from(time.minute()) * 60 + i32::from(time.second())
}

fn as_micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn micros_between(earlier: WallTime, later: WallTime) -> i64 {
    later.0.saturating_sub(earlier.0)
}

#[cfg(test)]
mod tests {
    use meerkat_base::EventId;
    use uuid::Uuid;

    use super::*;

    const WEEK: [Weekday; 5] =
        [Weekday::Monday, Weekday::Tuesday, Weekday::Wednesday, Weekday::Thursday, Weekday::Friday];

    fn time(text: &str) -> Time {
        text.parse().unwrap()
    }

    fn shift(name: &str, people: &[&str], start: &str, end: &str) -> Shift {
        Shift {
            name: name.to_owned(),
            people: people.iter().map(|name| (*name).to_owned()).collect(),
            start: time(start),
            end: time(end),
            work_days: WEEK.to_vec(),
            grace: Duration::from_secs(300),
        }
    }

    fn rules(shifts: Vec<Shift>) -> LedgerRules {
        LedgerRules {
            zone: TimeZone::fixed(jiff::tz::offset(8)),
            day_starts: time("04:00"),
            work_days: WEEK.to_vec(),
            shifts,
            check_out_after: Duration::from_secs(300),
            directions: BTreeMap::new(),
        }
    }

    /// Local time at +08:00 as `2026-11-23T08:55`.
    fn at(text: &str) -> WallTime {
        let text = format!("{text}:00+08:00");
        WallTime(text.parse::<Timestamp>().unwrap().as_microsecond())
    }

    fn visit(name: &str, camera: &str, from: &str, to: &str) -> CheckInRow {
        CheckInRow {
            name: name.to_owned(),
            camera: CameraId::parse(camera).unwrap(),
            at: at(from),
            last: at(to),
            event: EventId(Uuid::nil()),
        }
    }

    fn ledger(
        rules: &LedgerRules,
        span: (&str, &str),
        visits: &[CheckInRow],
        everybody: &[(&str, &str)],
        now: &str,
    ) -> Vec<LedgerDay> {
        let mut ledger = Ledger::new(rules, span.0.parse().unwrap(), span.1.parse().unwrap()).unwrap();
        let (from, to) = ledger.span().unwrap();
        for visit in visits.iter().filter(|visit| visit.at >= from && visit.at < to) {
            ledger.take(visit);
        }
        let everybody: Vec<(String, WallTime)> =
            everybody.iter().map(|(name, since)| ((*name).to_owned(), at(since))).collect();
        ledger.finish(&everybody, at(now))
    }

    #[test]
    fn the_first_visit_is_the_check_in_and_the_last_sight_the_check_out() {
        let rules = rules(vec![shift("day", &[], "09:00", "18:00")]);
        let visits = [
            visit("Ada", "door", "2026-11-23T12:00", "2026-11-23T12:10"),
            visit("Ada", "door", "2026-11-23T08:58", "2026-11-23T08:59"),
            visit("Ada", "door", "2026-11-23T18:01", "2026-11-23T18:03"),
            visit("Bob", "door", "2026-11-23T09:31", "2026-11-23T09:32"),
            visit("Bob", "door", "2026-11-23T17:00", "2026-11-23T17:00"),
            visit("Eve", "door", "2026-11-23T09:04", "2026-11-23T09:08"),
        ];
        let days = ledger(&rules, ("2026-11-23", "2026-11-23"), &visits, &[], "2026-11-24T12:00");
        let short: Vec<_> =
            days.iter().map(|d| (d.person.as_str(), d.late_minutes, d.early_minutes, d.state)).collect();
        assert_eq!(
            short,
            [
                ("Ada", 0, 0, DayState::Present),
                ("Bob", 31, 60, DayState::Present),
                ("Eve", 0, 0, DayState::NoCheckOut),
            ],
            "four minutes late are within the grace, and four minutes are no day"
        );
        let ada = &days[0];
        assert_eq!(
            (ada.check_in.as_deref(), ada.check_out.as_deref(), ada.visits, ada.minutes),
            (Some("2026-11-23T08:58:00+08:00"), Some("2026-11-23T18:03:00+08:00"), 3, Some(545))
        );
        assert_eq!((ada.day.as_str(), ada.shift.as_deref(), ada.work_day), ("2026-11-23", Some("day"), true));
        assert_eq!(days[2].last.as_deref(), Some("2026-11-23T09:08:00+08:00"));
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_began() {
        let rules =
            rules(vec![shift("day", &[], "09:00", "18:00"), shift("night", &["Ada"], "22:00", "06:00")]);
        let visits = [
            visit("Ada", "door", "2026-11-23T21:50", "2026-11-23T21:51"),
            visit("Ada", "door", "2026-11-24T05:30", "2026-11-24T05:31"),
            visit("Ada", "door", "2026-11-24T22:20", "2026-11-24T22:21"),
            visit("Ada", "door", "2026-11-25T06:10", "2026-11-25T06:11"),
            // Somebody of the day shift who worked late: before four o'clock it is still yesterday.
            visit("Bob", "door", "2026-11-23T09:00", "2026-11-23T09:01"),
            visit("Bob", "door", "2026-11-24T01:00", "2026-11-24T01:05"),
        ];
        let days = ledger(&rules, ("2026-11-23", "2026-11-24"), &visits, &[], "2026-11-26T12:00");
        let short: Vec<_> = days
            .iter()
            .map(|d| (d.day.as_str(), d.person.as_str(), d.late_minutes, d.early_minutes, d.visits))
            .collect();
        assert_eq!(
            short,
            [
                ("2026-11-23", "Ada", 0, 29, 2),
                ("2026-11-23", "Bob", 0, 0, 2),
                ("2026-11-24", "Ada", 20, 0, 2)
            ]
        );
    }

    #[test]
    fn who_stays_away_on_a_work_day_is_absent_from_the_day_of_enrolment_on() {
        let rules = rules(Vec::new());
        let visits = [
            visit("Ada", "door", "2026-11-26T09:00", "2026-11-26T17:00"),
            visit("Ada", "door", "2026-11-28T09:00", "2026-11-28T17:00"),
        ];
        let everybody = [("Ada", "2026-11-25T12:00")];
        let days = ledger(&rules, ("2026-11-20", "2026-12-05"), &visits, &everybody, "2026-12-01T10:00");
        let short: Vec<_> = days.iter().map(|d| (d.day.as_str(), d.work_day, d.state)).collect();
        assert_eq!(
            short,
            [
                ("2026-11-25", true, DayState::Absent),
                ("2026-11-26", true, DayState::Present),
                ("2026-11-27", true, DayState::Absent),
                ("2026-11-28", false, DayState::Present),
                ("2026-11-30", true, DayState::Absent),
            ],
            "a Saturday's work counts, a Sunday off is no absence, and today is not over"
        );
    }

    #[test]
    fn cameras_that_are_passed_one_way_count_one_way() {
        let mut rules = rules(Vec::new());
        rules.directions.insert(CameraId::parse("entry").unwrap(), Direction::In);
        rules.directions.insert(CameraId::parse("exit").unwrap(), Direction::Out);
        let visits = [
            visit("Ada", "exit", "2026-11-23T08:00", "2026-11-23T08:00"),
            visit("Ada", "entry", "2026-11-23T08:30", "2026-11-23T08:30"),
            visit("Ada", "exit", "2026-11-23T17:00", "2026-11-23T17:01"),
            visit("Ada", "entry", "2026-11-23T19:00", "2026-11-23T19:00"),
            visit("Bob", "exit", "2026-11-23T17:00", "2026-11-23T17:00"),
        ];
        let days = ledger(&rules, ("2026-11-23", "2026-11-23"), &visits, &[], "2026-11-24T12:00");
        assert_eq!(days[0].check_in.as_deref(), Some("2026-11-23T08:30:00+08:00"));
        assert_eq!(days[0].check_out.as_deref(), Some("2026-11-23T17:01:00+08:00"));
        assert_eq!(days[0].last.as_deref(), Some("2026-11-23T19:00:00+08:00"));
        assert_eq!(days[1].state, DayState::NoCheckIn);
    }

    #[test]
    fn spans_are_checked() {
        let rules = rules(Vec::new());
        let span = |from: &str, to: &str| {
            Ledger::new(&rules, from.parse().unwrap(), to.parse().unwrap()).map(|ledger| ledger.span()).err()
        };
        assert_eq!(span("2026-01-01", "2026-12-31"), None);
        assert_eq!(span("2026-01-02", "2026-01-01"), Some(BadSpan::Backward));
        assert_eq!(span("2025-01-01", "2026-12-31"), Some(BadSpan::Long));
        let ends = Ledger::new(&rules, Date::MAX, Date::MAX).unwrap();
        assert_eq!(ends.span(), Err(BadSpan::Beyond));
        assert_eq!(Ledger::new(&rules, Date::MIN, Date::MIN).unwrap().span(), Err(BadSpan::Beyond));
    }
}
