//! Settings of the check-in ledger: what a visit is, when a day begins, who works when.

use std::time::Duration;

use super::keep::{TimeOfDay, time_of_day};
use super::reader::Reader;
use super::rule::{self, Rule, secs};
use super::schedule::time_zone;

/// Days of the week, Monday first.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Days of the week; at least one, none twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weekdays(Vec<u8>);

impl Weekdays {
    /// The days as offsets from Monday, 0..=6.
    pub fn from_monday(&self) -> &[u8] {
        &self.0
    }
}

/// The check-in ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct AttendanceSettings {
    /// Time after a person's last sight at a camera in which another one is the same visit.
    pub repeat: Duration,
    /// Time zone of its days; `None` for that of messages.
    pub time_zone: Option<String>,
    /// When a day begins for those who work no shift over midnight.
    pub day_starts: TimeOfDay,
    /// Work days of those who work no shift.
    pub work_days: Weekdays,
    /// A last sight sooner after the check-in than this is no check-out.
    pub check_out_after: Duration,
    /// Shifts, by name.
    pub shifts: Vec<ShiftSettings>,
}

/// When some people work.
#[derive(Debug, Clone, PartialEq)]
pub struct ShiftSettings {
    /// Its name.
    pub name: String,
    /// Names of those who work it; empty for everybody who is in no other.
    pub people: Vec<String>,
    /// Begin.
    pub start: TimeOfDay,
    /// End; at or before `start`: on the next day.
    pub end: TimeOfDay,
    /// Days on which it begins.
    pub work_days: Weekdays,
    /// How late and how early is still on time.
    pub grace: Duration,
}

/// Which way people pass a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttendanceDirection {
    /// Either way.
    Both,
    /// Only in.
    In,
    /// Only out.
    Out,
}

impl AttendanceSettings {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let repeat = reader.read("attendance.repeat_secs", secs(0.0..=86_400.0));
        let zone = reader.read("attendance.time_zone", rule::optional(time_zone()));
        let day_starts = reader.read("attendance.day_starts", time_of_day());
        let work_days = reader.read("attendance.work_days", weekdays());
        let check_out_after = reader.read("attendance.check_out_after_secs", secs(0.0..=86_400.0));
        let mut shifts: Vec<ShiftSettings> = Vec::new();
        for name in reader.subsections("attendance.shifts") {
            let section = format!("attendance.shifts.{name}");
            let key = |key| format!("{section}.{key}");
            let start = reader.read_if(&key("start"), time_of_day());
            let end = reader.read_if(&key("end"), time_of_day());
            let shift = ShiftSettings {
                people: reader
                    .read_if(&key("people"), rule::list(1_000, rule::text(1..=100)))
                    .unwrap_or_default(),
                start: start.unwrap_or(MIDNIGHT),
                end: end.unwrap_or(MIDNIGHT),
                work_days: reader.read_if(&key("work_days"), weekdays()).unwrap_or_else(|| work_days.clone()),
                grace: reader.read_if(&key("grace_secs"), secs(0.0..=43_200.0)).unwrap_or(GRACE),
                name,
            };
            for needed in ["start", "end"] {
                if !reader.is_set(&key(needed)) {
                    reader.complain(&key(needed), "a shift needs it, such as \"09:00\"");
                }
            }
            let twice = shifts.iter().find_map(|other| {
                let shared = other.people.iter().find(|person| shift.people.contains(person));
                match shared {
                    Some(person) => Some(format!("{person} works attendance.shifts.{} already", other.name)),
                    None if other.people.is_empty() && shift.people.is_empty() => Some(format!(
                        "attendance.shifts.{} is for everybody already: name people",
                        other.name
                    )),
                    None => None,
                }
            });
            if let Some(complaint) = twice {
                reader.complain(&key("people"), complaint);
            }
            shifts.push(shift);
        }
        Self { repeat, time_zone: zone, day_starts, work_days, check_out_after, shifts }
    }
}

/// Stands for a time that is missing; the settings are refused then.
const MIDNIGHT: TimeOfDay = TimeOfDay { hour: 0, minute: 0 };

/// How late and how early is on time unless a shift says otherwise.
const GRACE: Duration = Duration::from_secs(300);

/// Which way people pass a camera.
pub(super) fn direction() -> Rule<AttendanceDirection> {
    rule::choice(&[
        ("both", AttendanceDirection::Both),
        ("in", AttendanceDirection::In),
        ("out", AttendanceDirection::Out),
    ])
}

fn weekdays() -> Rule<Weekdays> {
    let list = rule::list(7, rule::text(3..=3));
    Rule::new(format!("a list of one or more of {}", DAYS.join(", ")), move |value| {
        let days: Option<Vec<u8>> = list
            .parse(value)?
            .iter()
            .map(|word| DAYS.iter().position(|day| day == word).and_then(|place| u8::try_from(place).ok()))
            .collect();
        days.filter(|days| !days.is_empty()).map(Weekdays)
    })
}
