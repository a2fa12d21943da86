//! Counts the node's own events: by hour and weekday, by camera, people by day. Knows no database: it is told of one
//! event after the other.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::chart::{Bar, Drawing, HeatMap, Scale, bars, columns, heat_map};

/// Days that are counted one by one, the newest of them: ten years.
const MOST_DAYS: usize = 3660;
/// Cameras that are counted one by one.
const MOST_CAMERAS: usize = 4096;
/// Names that are told apart on one day.
const MOST_NAMES: usize = 10_000;
/// Days and cameras that a chart shows.
const SHOWN_DAYS: usize = 62;
const SHOWN_CAMERAS: usize = 40;

const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// One event, in local time.
#[derive(Debug, Clone, Copy)]
pub struct CountedEvent<'a> {
    /// The day, such as `2026-11-20`; sorts by time.
    pub day: &'a str,
    /// 0 is Monday; others count as Sunday.
    pub weekday: usize,
    /// 0..23; larger ones count as 23.
    pub hour: usize,
    /// The camera.
    pub camera: &'a str,
    /// The kind of event.
    pub kind: &'a str,
    /// Whether it shows a person.
    pub shows_person: bool,
    /// Who was recognised in it.
    pub names: &'a [String],
}

/// Events counted.
#[derive(Debug, Clone, Default, Serialize)]
pub struct EventCounts {
    /// All of them.
    pub events: u64,
    /// Rows are weekdays from Monday, columns hours.
    pub by_weekday_and_hour: [[u64; 24]; 7],
    /// By camera.
    pub by_camera: BTreeMap<String, u64>,
    /// By kind.
    pub by_kind: BTreeMap<String, u64>,
    /// By day.
    pub by_day: BTreeMap<String, DayCount>,
    /// Events of cameras beyond those that are counted one by one.
    pub of_other_cameras: u64,
}

/// One day.
#[derive(Debug, Clone, Default, Serialize)]
pub struct DayCount {
    /// Events.
    pub events: u64,
    /// Events that show a person.
    pub with_people: u64,
    /// How many enrolled people were recognised.
    pub recognised: usize,
    #[serde(skip)]
    names: BTreeSet<String>,
}

impl EventCounts {
    /// Counts an event.
    pub fn add(&mut self, event: &CountedEvent<'_>) {
        self.events += 1;
        self.by_weekday_and_hour[event.weekday.min(6)][event.hour.min(23)] += 1;
        *self.by_kind.entry(event.kind.to_owned()).or_default() += 1;
        if self.by_camera.len() < MOST_CAMERAS || self.by_camera.contains_key(event.camera) {
            *self.by_camera.entry(event.camera.to_owned()).or_default() += 1;
        } else {
            self.of_other_cameras += 1;
        }
        let day = self.by_day.entry(event.day.to_owned()).or_default();
        day.events += 1;
        day.with_people += u64::from(event.shows_person);
        for name in event.names {
            if day.names.len() < MOST_NAMES {
                day.names.insert(name.clone());
            }
        }
        day.recognised = day.names.len();
        if self.by_day.len() > MOST_DAYS {
            self.by_day.pop_first();
        }
    }

    /// Every chart of them.
    pub fn drawings(&self) -> Vec<Drawing> {
        vec![self.hours(), self.cameras(), self.people()]
    }

    fn span(&self) -> String {
        match (self.by_day.first_key_value(), self.by_day.last_key_value()) {
            (Some((first, _)), Some((last, _))) => format!("{} events, {first} to {last}", self.events),
            _ => "no events".to_owned(),
        }
    }

    fn hours(&self) -> Drawing {
        let hours: Vec<String> = (0..24).map(|hour| hour.to_string()).collect();
        let row = |row: &[u64; 24]| row.iter().map(|count| *count as f64).collect();
        heat_map(&HeatMap {
            name: "events_by_hour",
            title: "Events by weekday and hour",
            note: &self.span(),
            rows: &WEEKDAYS.map(str::to_owned),
            columns: &hours,
            values: &self.by_weekday_and_hour.iter().map(row).collect::<Vec<_>>(),
            scale: Scale::Count,
            size_px: (1000, 420),
        })
    }

    fn cameras(&self) -> Drawing {
        let mut all: Vec<(&String, &u64)> = self.by_camera.iter().collect();
        all.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let of = if all.len() > SHOWN_CAMERAS {
            format!("{}; the first {SHOWN_CAMERAS} of {} cameras", self.span(), all.len())
        } else {
            self.span()
        };
        let shown: Vec<Bar> =
            all.iter().take(SHOWN_CAMERAS).map(|(name, count)| bar(name, **count)).collect();
        bars("events_by_camera", "Events by camera", &of, &shown)
    }

    fn people(&self) -> Drawing {
        let newest: Vec<(&String, &DayCount)> = self.by_day.iter().rev().take(SHOWN_DAYS).collect();
        let shown: Vec<Bar> = newest.iter().rev().map(|(day, count)| bar(day, count.with_people)).collect();
        let recognised = newest.iter().map(|(_, count)| count.recognised).max().unwrap_or_default();
        let note = format!(
            "events that show a person, the last {} days with events; at most {recognised} enrolled people on one day",
            shown.len()
        );
        columns("people_by_day", "People by day", &note, &shown)
    }
}

fn bar(name: &str, count: u64) -> Bar {
    let value = count as f64;
    Bar { name: name.to_owned(), value, shown: count.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event<'a>(day: &'a str, camera: &'a str, names: &'a [String]) -> CountedEvent<'a> {
        CountedEvent { day, weekday: 4, hour: 21, camera, kind: "person", shows_person: true, names }
    }

    #[test]
    fn events_are_counted_and_drawn() {
        let mut counts = EventCounts::default();
        let names = ["Li Lei".to_owned(), "Han Meimei".to_owned()];
        counts.add(&event("2026-11-20", "door", &names));
        counts.add(&event("2026-11-20", "yard", &names[..1]));
        counts.add(&CountedEvent {
            shows_person: false,
            hour: 99,
            weekday: 99,
            ..event("2026-11-21", "door", &[])
        });
        assert_eq!((counts.events, counts.by_camera["door"], counts.by_kind["person"]), (3, 2, 3));
        assert_eq!((counts.by_weekday_and_hour[4][21], counts.by_weekday_and_hour[6][23]), (2, 1));
        let day = &counts.by_day["2026-11-20"];
        assert_eq!((day.events, day.with_people, day.recognised), (2, 2, 2));
        for drawing in counts.drawings() {
            assert!(drawing.svg().unwrap().ends_with("</svg>\n"));
        }
        assert_eq!(EventCounts::default().drawings().len(), 3);
    }

    #[test]
    fn counts_do_not_grow_without_bound() {
        let mut counts = EventCounts::default();
        for n in 0..MOST_DAYS + 10 {
            counts.add(&event(&format!("{n:08}"), &format!("camera{n}"), &[]));
        }
        assert_eq!((counts.by_day.len(), counts.by_camera.len()), (MOST_DAYS, MOST_DAYS + 10));
        for n in 0..1000 {
            counts.add(&event("99999999", &format!("other{n}"), &[]));
        }
        assert_eq!(
            counts.by_camera.len() as u64 + counts.of_other_cameras,
            MOST_CAMERAS as u64 + (counts.events - MOST_CAMERAS as u64)
        );
        assert!(counts.of_other_cameras > 0);
    }
}
