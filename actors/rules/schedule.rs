//! Whether a schedule holds at a moment, and until when. By the clock on the wall of its time zone: an hour that a day
//! skips is in no schedule, one that comes twice is in it twice.

use jiff::civil::{DateTime, Time};
use jiff::{Timestamp, ToSpan, Zoned};
use meerkat_base::WallTime;
use meerkat_settings::{DayRange, Schedule};

/// Nothing is held back for longer at a stretch.
const LONGEST_MICROS: i64 = 47 * 3_600 * 1_000_000;

fn local(schedule: &Schedule, at: WallTime) -> Zoned {
    Timestamp::from_microsecond(at.0).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(schedule.zone.clone())
}

/// Whether it holds.
pub(super) fn holds(schedule: &Schedule, at: WallTime) -> bool {
    let local = local(schedule, at);
    if schedule.hours.is_empty() {
        return is_day(schedule, &local, 0);
    }
    schedule.hours.iter().any(|range| days_since_begin(schedule, *range, &local).is_some())
}

/// Until when it holds without a break; none when it does not hold. Needs hours that leave some of the day.
pub(super) fn holds_until(schedule: &Schedule, at: WallTime) -> Option<WallTime> {
    let mut end = at;
    // Ranges that touch each other are one; there are no more of them than this.
    for _ in 0..=2 * schedule.hours.len() {
        let local = local(schedule, end);
        let found = schedule.hours.iter().find_map(|range| {
            days_since_begin(schedule, *range, &local).map(|days| end_of(*range, &local, days, end))
        });
        let Some(next) = found else { break };
        end = next;
    }
    (end > at).then_some(end).map(|end| end.min(at.offset_micros(LONGEST_MICROS)))
}

/// Whether `days` ago was one of its days.
fn is_day(schedule: &Schedule, local: &Zoned, days: i64) -> bool {
    let today = i64::from(local.weekday().to_monday_zero_offset());
    usize::try_from((today - days).rem_euclid(7)).is_ok_and(|day| schedule.days.0[day])
}

/// How many days ago the range began that holds now, 0 or 1; none when it does not hold.
fn days_since_begin(schedule: &Schedule, range: DayRange, local: &Zoned) -> Option<i64> {
    let minute = u16::try_from(i32::from(local.hour()) * 60 + i32::from(local.minute())).ok()?;
    if !range.passes_midnight() {
        let within = (range.from_minute..range.to_minute).contains(&minute);
        return (within && is_day(schedule, local, 0)).then_some(0);
    }
    if minute >= range.from_minute && is_day(schedule, local, 0) {
        return Some(0);
    }
    (minute < range.to_minute && is_day(schedule, local, 1)).then_some(1)
}

/// The moment at which the range ends that began so many days before `local`.
fn end_of(range: DayRange, local: &Zoned, days_ago: i64, after: WallTime) -> WallTime {
    let days = i64::from(range.passes_midnight() || range.to_minute == 24 * 60) - days_ago;
    let (hour, minute) = (range.to_minute / 60 % 24, range.to_minute % 60);
    let time = Time::new(hour.try_into().unwrap_or(0), minute.try_into().unwrap_or(0), 0, 0);
    let date = local.date().checked_add(days.days()).unwrap_or(local.date());
    let end = DateTime::from_parts(date, time.unwrap_or(Time::midnight()));
    let end = local.time_zone().to_ambiguous_timestamp(end);
    // The clock may pass the end twice, or jump over it; the first time that lies ahead counts.
    let first = end.earlier().map(|t| WallTime(t.as_microsecond())).ok().filter(|t| *t > after);
    let second = || end.later().map(|t| WallTime(t.as_microsecond())).ok().filter(|t| *t > after);
    first.or_else(second).unwrap_or(after.offset_micros(60_000_000))
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use meerkat_settings::Days;

    use super::*;

    const ALL: [bool; 7] = [true; 7];
    const WEEK: [bool; 7] = [true, true, true, true, true, false, false];

    fn at(text: &str) -> WallTime {
        WallTime(text.parse::<Timestamp>().unwrap().as_microsecond())
    }

    fn schedule(days: [bool; 7], hours: &[(u16, u16)], zone: &str) -> Schedule {
        let hours =
            hours.iter().map(|&(from, to)| DayRange { from_minute: from * 60, to_minute: to * 60 }).collect();
        Schedule { days: Days(days), hours, zone: TimeZone::get(zone).unwrap() }
    }

    #[test]
    fn days_and_hours_are_those_of_the_zone() {
        let check = |schedule: &Schedule, time: &str, expected: bool| {
            assert_eq!(holds(schedule, at(time)), expected, "{time}");
        };
        // 2026-11-27 is a Friday; in Shanghai it is eight hours later.
        let office = schedule(WEEK, &[(8, 18)], "Asia/Shanghai");
        check(&office, "2026-11-27T00:00:00Z", true);
        check(&office, "2026-11-26T23:59:59Z", false);
        check(&office, "2026-11-27T09:59:59Z", true);
        check(&office, "2026-11-27T10:00:00Z", false);
        check(&office, "2026-11-28T02:00:00Z", false);
        // Over midnight: the night from Friday to Saturday belongs to Friday, that from Sunday to Monday to Sunday.
        let nights = schedule(WEEK, &[(22, 6)], "UTC");
        check(&nights, "2026-11-27T22:00:00Z", true);
        check(&nights, "2026-11-28T05:59:59Z", true);
        check(&nights, "2026-11-28T06:00:00Z", false);
        check(&nights, "2026-11-28T23:00:00Z", false);
        check(&nights, "2026-11-30T01:00:00Z", false);
        check(&nights, "2026-11-30T23:00:00Z", true);
        let weekend = schedule([false, false, false, false, false, true, true], &[], "UTC");
        check(&weekend, "2026-11-28T00:00:00Z", true);
        check(&weekend, "2026-11-30T00:00:00Z", false);
        check(&Schedule::always(), "2026-11-30T00:00:00Z", true);
    }

    #[test]
    fn an_hour_that_is_skipped_is_in_no_schedule_and_one_that_comes_twice_is_in_it_twice() {
        // Berlin, 2026: on March 29 the clock goes from 2:00 to 3:00, on October 25 from 3:00 back to 2:00.
        let early = schedule(ALL, &[(2, 3)], "Europe/Berlin");
        assert!(!holds(&early, at("2026-03-29T00:59:59Z")), "1:59:59");
        assert!(!holds(&early, at("2026-03-29T01:00:00Z")), "3:00:00");
        for time in
            ["2026-10-25T00:00:00Z", "2026-10-25T00:59:59Z", "2026-10-25T01:00:00Z", "2026-10-25T01:59:59Z"]
        {
            assert!(holds(&early, at(time)), "{time}");
        }
        assert!(!holds(&early, at("2026-10-24T23:59:59Z")), "1:59:59");
        assert!(!holds(&early, at("2026-10-25T02:00:00Z")), "3:00:00");
    }

    #[test]
    fn quiet_hours_end_when_the_clock_says_so() {
        let check = |schedule: &Schedule, now: &str, expected: Option<&str>| {
            assert_eq!(holds_until(schedule, at(now)), expected.map(at), "{now}");
        };
        let night = schedule(ALL, &[(22, 7)], "Europe/Berlin");
        check(&night, "2026-11-27T20:59:59Z", None);
        check(&night, "2026-11-27T21:00:00Z", Some("2026-11-28T06:00:00Z"));
        check(&night, "2026-11-28T05:59:59Z", Some("2026-11-28T06:00:00Z"));
        // The nights in which the clock is changed are an hour shorter and longer.
        check(&night, "2026-03-28T21:00:00Z", Some("2026-03-29T05:00:00Z"));
        check(&night, "2026-10-24T20:00:00Z", Some("2026-10-25T06:00:00Z"));
        // An end that comes twice, and one that does not come.
        let odd = Schedule {
            hours: vec![DayRange { from_minute: 60, to_minute: 150 }],
            ..schedule(ALL, &[], "Europe/Berlin")
        };
        check(&odd, "2026-10-25T00:10:00Z", Some("2026-10-25T00:30:00Z"));
        check(&odd, "2026-10-25T01:10:00Z", Some("2026-10-25T01:30:00Z"));
        let end = holds_until(&odd, at("2026-03-29T00:30:00Z")).unwrap();
        assert!(end >= at("2026-03-29T01:00:00Z") && end <= at("2026-03-29T02:00:00Z"), "{end}");
        // Ranges that touch are one.
        let two = schedule(ALL, &[(6, 8), (22, 24), (0, 6)], "UTC");
        check(&two, "2026-11-27T23:00:00Z", Some("2026-11-28T08:00:00Z"));
        check(&two, "2026-11-28T09:00:00Z", None);
    }
}
