//! The rules of the check-in ledger, from the settings.

use std::time::Duration;

use anyhow::Context;
use jiff::civil::{Time, Weekday};
use meerkat_notify::Zone;
use meerkat_store::ledger::{Direction, LedgerRules, Shift};

use crate::settings::{AttendanceDirection, Settings, ShiftSettings, TimeOfDay, Weekdays};

/// What the ledger goes by.
pub(crate) fn rules(settings: &Settings) -> anyhow::Result<LedgerRules> {
    let own = &settings.attendance;
    let zone = own.time_zone.as_ref().unwrap_or(&settings.notify.time_zone);
    let zone = Zone::parse(zone).with_context(|| format!("the time zone {zone}"))?;
    let mut shifts: Vec<Shift> = own.shifts.iter().map(shift).collect();
    // Those who are named are looked up first.
    shifts.sort_by_key(|shift| shift.people.is_empty());
    let directions = settings.cameras.iter().map(|(id, camera)| {
        let direction = match camera.attendance_direction {
            AttendanceDirection::Both => Direction::Both,
            AttendanceDirection::In => Direction::In,
            AttendanceDirection::Out => Direction::Out,
        };
        (id.clone(), direction)
    });
    Ok(LedgerRules {
        zone: zone.time_zone().clone(),
        day_starts: time(own.day_starts),
        work_days: days(&own.work_days),
        shifts,
        check_out_after: own.check_out_after,
        directions: directions.collect(),
    })
}

fn shift(own: &ShiftSettings) -> Shift {
    Shift {
        name: own.name.clone(),
        people: own.people.clone(),
        start: time(own.start),
        end: time(own.end),
        work_days: days(&own.work_days),
        grace: Duration::from_secs(own.grace.as_secs()),
    }
}

fn time(time: TimeOfDay) -> Time {
    let part = |part: u8| i8::try_from(part).unwrap_or_default();
    Time::new(part(time.hour), part(time.minute), 0, 0).unwrap_or_else(|_| Time::midnight())
}

fn days(days: &Weekdays) -> Vec<Weekday> {
    let day = |offset: &u8| Weekday::from_monday_zero_offset(i8::try_from(*offset).ok()?).ok();
    days.from_monday().iter().filter_map(day).collect()
}
