//! The lines of the check-in ledger: one per visit of an enrolled person at a camera that counts. What a day makes of
//! them is in `ledger.rs`.

use std::time::Duration;

use meerkat_base::{CameraId, Event, EventId, WallTime};
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;

use crate::database::{Store, StoreReader};
use crate::error::Result;
use crate::events::MAX_ROWS;
use crate::sql::{count, from_count, parsed};

/// What became of a check-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckIn {
    /// It stands in the ledger now.
    Recorded,
    /// It stands in the ledger already, for the same event or a moment ago; that visit goes on.
    Repeated,
    /// Nobody of that name is enrolled.
    NoSuchPerson,
}

/// A line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckInRow {
    /// Who.
    pub name: String,
    /// At which camera.
    pub camera: CameraId,
    /// When the visit began.
    pub at: WallTime,
    /// When the person was last seen in it, not before `at`.
    pub last: WallTime,
    /// The event.
    pub event: EventId,
}

impl Store {
    /// Writes a line into the ledger: once per person and event, and not again within `repeat` of the end of the
    /// person's last visit at the same camera, which goes on instead.
    pub fn check_in(
        &mut self,
        name: &str,
        camera: &CameraId,
        at: WallTime,
        event: EventId,
        repeat: Duration,
    ) -> Result<CheckIn> {
        see(&self.connection, name, camera, (at, at), event, repeat)
    }

    /// Notes that a person was in sight at a camera from `stay.0` to `stay.1`: the visit that was under way then (begun
    /// at most `repeat` after its last sight) lasts until then. Returns whether there was one.
    pub fn check_out(
        &mut self,
        name: &str,
        camera: &CameraId,
        stay: (WallTime, WallTime),
        repeat: Duration,
    ) -> Result<bool> {
        let Some(person) = person_number(&self.connection, name)? else { return Ok(false) };
        prolong(&self.connection, person, camera, stay, repeat)
    }
}

/// Enters those who were recognised in an event: in sight from its start to the last sighting that is known. To be called
/// whenever something new is known of it, in the commit that writes that, so that the ledger knows of a visit exactly what
/// the rows of its event know. Returns whether a visit began by it.
pub(crate) fn enter(rows: &Connection, event: &Event, repeat: Duration) -> Result<bool> {
    let seen = event.ended.or_else(|| event.sightings.last().map(|sighting| sighting.wall));
    let stay = (event.started, seen.map_or(event.started, |last| last.max(event.started)));
    let mut began = false;
    for name in &event.identities {
        began |= see(rows, name, &event.camera, stay, event.id, repeat)? == CheckIn::Recorded;
    }
    Ok(began)
}

/// A person was in sight from `stay.0` to `stay.1`: the visit that was under way goes on, or one begins.
fn see(
    rows: &Connection,
    name: &str,
    camera: &CameraId,
    stay: (WallTime, WallTime),
    event: EventId,
    repeat: Duration,
) -> Result<CheckIn> {
    let Some(person) = person_number(rows, name)? else { return Ok(CheckIn::NoSuchPerson) };
    if prolong(rows, person, camera, stay, repeat)? {
        return Ok(CheckIn::Repeated);
    }
    let (since, until) = stay;
    let written = rows
        .prepare_cached(
            "INSERT INTO attendance (person, camera, at, event, last) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (person, event) DO NOTHING",
        )?
        .execute(params![
            person,
            camera.as_str(),
            since.0,
            event.to_string(),
            (until > since).then_some(until.0)
        ])?;
    Ok(if written == 1 { CheckIn::Recorded } else { CheckIn::Repeated })
}

fn person_number(rows: &Connection, name: &str) -> Result<Option<i64>> {
    Ok(rows
        .prepare_cached("SELECT number FROM people WHERE name = ?1")?
        .query_row([name.trim()], |row| row.get(0))
        .optional()?)
}

/// Lets the visit of a person last until `until` that was under way at `since`. Returns whether there was one.
fn prolong(
    rows: &Connection,
    person: i64,
    camera: &CameraId,
    (since, until): (WallTime, WallTime),
    repeat: Duration,
) -> Result<bool> {
    let repeat = i64::try_from(repeat.as_micros()).unwrap_or(i64::MAX);
    let changed = rows
        .prepare_cached(
            "UPDATE attendance SET last = max(ifnull(last, at), ?4)
             WHERE number = (SELECT number FROM attendance
                             WHERE person = ?1 AND camera = ?2 AND at <= ?3
                             ORDER BY at DESC, number DESC LIMIT 1)
               AND (ifnull(last, at) > ?5 OR at = ?3)",
        )?
        .execute(params![person, camera.as_str(), since.0, until.0, since.0.saturating_sub(repeat)])?;
    Ok(changed == 1)
}

impl StoreReader {
    /// The ledger, newest first, before a moment; at most [`MAX_ROWS`] lines.
    pub fn check_ins(&self, before: Option<WallTime>, limit: usize) -> Result<Vec<CheckInRow>> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM attendance JOIN people ON people.number = attendance.person
             WHERE attendance.at < ?1 ORDER BY attendance.at DESC, attendance.number DESC LIMIT ?2"
        ))?;
        let before = before.map_or(i64::MAX, |at| at.0);
        let limit = count(limit.min(MAX_ROWS) as u64);
        statement.query_and_then(params![before, limit], line)?.collect()
    }

    /// A page of the lines whose visit began in a span of time, oldest first, each with its number; at most
    /// [`MAX_ROWS`]. `after` is the moment and the number of the line that was read last.
    ///
    /// # Errors
    /// Those of the database.
    pub fn check_ins_between(
        &self,
        from: WallTime,
        before: WallTime,
        after: Option<(WallTime, u64)>,
        limit: usize,
    ) -> Result<Vec<(u64, CheckInRow)>> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {COLUMNS}, attendance.number FROM attendance INDEXED BY attendance_by_time
             CROSS JOIN people ON people.number = attendance.person
             WHERE (attendance.at, attendance.number) > (?1, ?2) AND attendance.at < ?3
             ORDER BY attendance.at, attendance.number LIMIT ?4"
        ))?;
        // No line has the number -1: whatever began at `from` comes after it.
        let start = (from.0, -1);
        let (at, number) = after.map_or(start, |(at, number)| start.max((at.0, count(number))));
        let limit = count(limit.min(MAX_ROWS) as u64);
        statement
            .query_and_then(params![at, number, before.0, limit], |row| {
                Ok((from_count(row.get(5)?), line(row)?))
            })?
            .collect()
    }

    /// Calls `take` with each line whose visit began in a span of time, oldest first. None is kept: a year of them
    /// may be many.
    ///
    /// # Errors
    /// Those of the database.
    pub fn each_check_in(
        &self,
        from: WallTime,
        before: WallTime,
        mut take: impl FnMut(CheckInRow),
    ) -> Result<()> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM attendance JOIN people ON people.number = attendance.person
             WHERE attendance.at >= ?1 AND attendance.at < ?2 ORDER BY attendance.at, attendance.number"
        ))?;
        for row in statement.query_and_then(params![from.0, before.0], line)? {
            take(row?);
        }
        Ok(())
    }
}

const COLUMNS: &str = "people.name, attendance.camera, attendance.at,
     max(attendance.at, ifnull(attendance.last, attendance.at)), attendance.event";

fn line(row: &rusqlite::Row<'_>) -> Result<CheckInRow> {
    Ok(CheckInRow {
        name: row.get(0)?,
        camera: parsed(row, 1, |text| CameraId::from_shown(text).ok())?,
        at: WallTime(row.get(2)?),
        last: WallTime(row.get(3)?),
        event: parsed(row, 4, |text| text.parse().ok())?,
    })
}

#[cfg(test)]
mod tests {
    use meerkat_base::ImageFormat;

    use super::*;
    use crate::faces::Consent;
    use crate::testing::{event, store};

    const TEN: Duration = Duration::from_micros(10);

    fn enrolled() -> (tempfile::TempDir, Store) {
        let (folder, mut store) = store();
        let consent = Consent { by: "Ada".to_owned(), at: WallTime(1) };
        for name in ["Ada", "Bob"] {
            store.enrol(name, &[(b"jpeg", ImageFormat::Jpeg)], &consent, WallTime(1)).unwrap();
        }
        (folder, store)
    }

    fn lines(store: &Store) -> Vec<(String, i64, i64)> {
        let mut lines = Vec::new();
        let take = |row: CheckInRow| lines.push((row.name, row.at.0, row.last.0));
        store.each_check_in(WallTime(0), WallTime(1_000), take).unwrap();
        lines
    }

    #[test]
    fn one_visit_is_one_line_however_often_it_is_seen() {
        let (_folder, mut store) = enrolled();
        let door = event(1).camera;
        let mut come = |n: u8, at: i64| store.check_in("Ada", &door, WallTime(at), event(n).id, TEN).unwrap();
        assert_eq!(come(1, 100), CheckIn::Recorded);
        assert_eq!(come(1, 100), CheckIn::Repeated, "asked again");
        assert_eq!(come(2, 109), CheckIn::Repeated);
        assert_eq!(come(3, 118), CheckIn::Repeated, "nine after it was last seen");
        assert_eq!(come(4, 128), CheckIn::Recorded, "ten are enough");
        let ada = |at, last| ("Ada".to_owned(), at, last);
        assert_eq!(lines(&store), [ada(100, 118), ada(128, 128)]);

        let stay = |from, to| (WallTime(from), WallTime(to));
        assert!(store.check_out("Ada", &door, stay(128, 300), TEN).unwrap());
        assert!(store.check_out("Ada", &door, stay(128, 200), TEN).unwrap(), "told late");
        assert_eq!(lines(&store), [ada(100, 118), ada(128, 300)], "an end never moves back");
        assert!(!store.check_out("Ada", &door, stay(400, 500), TEN).unwrap(), "no visit was under way");
        assert!(!store.check_out("Bob", &door, stay(128, 300), TEN).unwrap());
        assert!(!store.check_out("Eve", &door, stay(128, 300), TEN).unwrap());
        let elsewhere = CameraId::parse("elsewhere").unwrap();
        assert_eq!(
            store.check_in("Ada", &elsewhere, WallTime(301), event(5).id, TEN).unwrap(),
            CheckIn::Recorded
        );
    }

    #[test]
    fn without_a_repeat_time_every_event_is_a_line() {
        let (_folder, mut store) = enrolled();
        let door = event(1).camera;
        for (n, at) in [(1, 100), (2, 101), (3, 102)] {
            let outcome = store.check_in("Bob", &door, WallTime(at), event(n).id, Duration::ZERO).unwrap();
            assert_eq!(outcome, CheckIn::Recorded);
        }
        assert_eq!(
            store.check_ins(None, 2).unwrap().iter().map(|row| row.at.0).collect::<Vec<_>>(),
            [102, 101]
        );
    }

    #[test]
    fn pages_hold_every_line_once_also_where_many_began_at_one_moment() {
        let (_folder, mut store) = enrolled();
        for (n, at) in [(1, 99), (2, 100), (3, 100), (4, 100), (5, 150), (6, 199), (7, 200)] {
            let camera = CameraId::parse(&format!("c{n}")).unwrap();
            store.check_in("Bob", &camera, WallTime(at), event(n).id, Duration::ZERO).unwrap();
        }
        for limit in 1..=6 {
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let page = store.check_ins_between(WallTime(100), WallTime(200), after, limit).unwrap();
                assert!(page.len() <= limit);
                let Some((number, last)) = page.last() else { break };
                after = Some((last.at, *number));
                seen.extend(page.into_iter().map(|(_, row)| row.at.0));
            }
            assert_eq!(seen, [100, 100, 100, 150, 199], "{limit} at a time");
        }
        // A place before the span leads nowhere else.
        let early = store.check_ins_between(WallTime(100), WallTime(200), Some((WallTime(1), 9)), 9).unwrap();
        assert_eq!(early.len(), 5);
    }

    #[test]
    fn the_visit_of_a_person_is_found_by_an_index() {
        let (_folder, store) = enrolled();
        let plan: String = store
            .raw()
            .query_row(
                "EXPLAIN QUERY PLAN SELECT number FROM attendance
                 WHERE person = 1 AND camera = 'a' AND at <= 9 ORDER BY at DESC, number DESC LIMIT 1",
                [],
                |row| row.get(3),
            )
            .unwrap();
        assert!(plan.contains("attendance_by_person"), "{plan}");
    }
}
