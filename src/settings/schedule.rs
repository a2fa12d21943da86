//! Times of day, days of the week and time zones, as settings give them. What time it is, nobody here knows.

use jiff::tz::{Offset, TimeZone};

use super::rule::{self, Rule};

/// Minutes of a day.
const DAY_MINUTES: u16 = 24 * 60;

/// A part of the day, by the clock on the wall. One that ends before it begins goes on after midnight; it then belongs
/// to the day on which it began. Never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayRange {
    /// Minute of the day at which it begins, 0..1440.
    pub from_minute: u16,
    /// Minute of the day before which it ends, 1..=1440.
    pub to_minute: u16,
}

impl DayRange {
    /// Whether it goes on after midnight.
    pub fn passes_midnight(self) -> bool {
        self.to_minute < self.from_minute
    }

    /// Reads `22:00-07:00`.
    fn parse(text: &str) -> Option<Self> {
        let (from, to) = text.split_once('-')?;
        let (from, to) = (minute(from.trim())?, minute(to.trim())?);
        let to = if to == 0 { DAY_MINUTES } else { to };
        (from < DAY_MINUTES && from != to).then_some(Self { from_minute: from, to_minute: to })
    }
}

/// `7:30`, `07:30`, `24:00`.
fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !(1..=2).contains(&hours.len()) || minutes.len() != 2 || !digits(hours) || !digits(minutes) {
        return None;
    }
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    let at = hours * 60 + minutes;
    (minutes < 60 && at <= DAY_MINUTES).then_some(at)
}

/// Days of the week, Monday first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days(pub [bool; 7]);

/// The words for them.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// When something holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Days on which the ranges begin.
    pub days: Days,
    /// Parts of those days; empty: all of them.
    pub hours: Vec<DayRange>,
    /// Whose clock.
    pub zone: TimeZone,
}

impl Schedule {
    /// Always.
    pub fn always() -> Self {
        Self { days: Days([true; 7]), hours: Vec::new(), zone: TimeZone::UTC }
    }
}

/// A list of parts of the day.
pub(super) fn hours() -> Rule<Vec<DayRange>> {
    let text = rule::text(1..=16);
    let item = Rule::new(
        "a part of the day such as \"08:00-18:30\" or, over midnight, \"22:00-07:00\"",
        move |value| DayRange::parse(&text.parse(value)?),
    );
    rule::list(16, item)
}

/// A list of days of the week.
pub(super) fn days() -> Rule<Days> {
    let text = rule::text(1..=16);
    let item = Rule::new(format!("one of {}", DAYS.join(", ")), move |value| {
        let word = text.parse(value)?;
        DAYS.iter().position(|day| *day == word)
    });
    let allowed = format!("a list of one or more of {}", DAYS.join(", "));
    let list = rule::list(7, item);
    Rule::new(allowed, move |value| {
        let given = list.parse(value).filter(|given| !given.is_empty())?;
        let mut days = Days([false; 7]);
        for day in given {
            days.0[day] = true;
        }
        Some(days)
    })
}

/// The name of a time zone.
pub(super) fn time_zone() -> Rule<String> {
    let text = rule::text(1..=64);
    let allowed = "\"UTC\", \"system\", an offset such as \"+08:00\", or a name that this machine knows, such as \
                   \"Asia/Shanghai\"";
    Rule::new(allowed, move |value| text.parse(value).filter(|name| name == "system" || zone(name).is_some()))
}

/// The time zone that a setting names. That of the machine is UTC where it has none.
pub fn zone(name: &str) -> Option<TimeZone> {
    if name == "system" {
        return Some(TimeZone::try_system().unwrap_or(TimeZone::UTC));
    }
    offset(name).map(TimeZone::fixed).or_else(|| TimeZone::get(name).ok())
}

/// `+08:00` or `-0330`.
fn offset(text: &str) -> Option<Offset> {
    let rest = text.strip_prefix(['+', '-'])?;
    let digits: String = rest.chars().filter(|c| *c != ':').collect();
    let shaped = rest.len() == digits.len() || rest.find(':') == Some(2);
    let below = |part: Option<&str>, limit: i32| {
        part.filter(|part| part.len() == 2)?.parse::<i32>().ok().filter(|number| (0..limit).contains(number))
    };
    let (hours, minutes) = (below(digits.get(..2), 24)?, below(digits.get(2..), 60)?);
    let sign = if text.starts_with('-') { -1 } else { 1 };
    if shaped { Offset::from_seconds(sign * (hours * 3_600 + minutes * 60)).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_the_day() {
        let check = |text: &str, expected: Option<(u16, u16)>| {
            let found = DayRange::parse(text).map(|range| (range.from_minute, range.to_minute));
            assert_eq!(found, expected, "{text}");
        };
        check("08:00-18:30", Some((480, 1_110)));
        check("8:00 - 18:30", Some((480, 1_110)));
        check("22:00-07:00", Some((1_320, 420)));
        check("00:00-24:00", Some((0, 1_440)));
        check("18:00-00:00", Some((1_080, 1_440)));
        for bad in [
            "",
            "8-9",
            "08:00",
            "08:00-08:00",
            "24:00-08:00",
            "08:60-09:00",
            "25:00-26:00",
            "-1:00-02:00",
            "8:0-9:00",
        ] {
            check(bad, None);
        }
        assert!(DayRange::parse("22:00-07:00").unwrap().passes_midnight());
        assert!(!DayRange::parse("18:00-00:00").unwrap().passes_midnight());
    }

    #[test]
    fn zones_have_names() {
        for good in ["UTC", "Asia/Shanghai", "+08:00", "-0330", "system"] {
            assert!(zone(good).is_some(), "{good}");
        }
        for bad in ["", "Mars/Olympus", "+8", "+25:00", "+08:61", "08:00", "+a8:00"] {
            assert!(zone(bad).is_none(), "{bad}");
        }
    }
}
