//! The rows of events and their boxes over time. An event and the alerts that tell of it are written in
//! one commit; when to tell is decided elsewhere.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use meerkat_base::{CameraId, Detection, Event, EventId, EventKind, EventPhase, Rect, Sighting, WallTime};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};

use crate::clips::{self, ClipRow};
use crate::database::{Store, StoreReader};
use crate::error::{Result, StoreError};
use crate::outbox::{self, NewAlert};
use crate::sql::{count, from_count, parsed, phase_name};

/// Rows that one question is answered with at most.
pub const MAX_ROWS: usize = 500;
/// Sightings that one question is answered with at most.
pub const MAX_SIGHTINGS: usize = 5_000;

/// One event as it stands in the database, with what was recorded of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EventRow {
    /// Its name.
    pub id: EventId,
    /// Where it happened.
    pub camera: CameraId,
    /// What happened.
    pub kind: EventKind,
    /// How far it has come.
    pub phase: EventPhase,
    /// Time of the frame that started it.
    pub started: WallTime,
    /// Number of the frame that started it.
    pub started_seq: u64,
    /// Time of the last frame that showed it, once it is over.
    pub ended: Option<WallTime>,
    /// Highest score, 0..=1.
    pub score: f32,
    /// Names of the people recognised.
    pub identities: Vec<String>,
    /// The node died before the event ended; `ended` is then the last thing known of it.
    pub interrupted: bool,
    /// What a notice says, for people.
    pub detail: Option<String>,
    /// Messages about it were kept back by a snooze.
    pub snoozed: bool,
    /// The disk did not take everything of its recording, or nothing at all.
    pub recording_refused: bool,
    /// A person wants it to stay.
    pub kept: bool,
    /// Clips of it, oldest first.
    pub clips: Vec<ClipRow>,
    /// The newest snapshot of it, relative to the data folder.
    pub snapshot: Option<String>,
}

impl EventRow {
    /// Where to go on reading after this row.
    pub fn cursor(&self) -> EventCursor {
        EventCursor { started: self.started, id: self.id }
    }
}

/// A place in the list of events, newest first. As text: `<microseconds>_<event id>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventCursor {
    /// Start of the event that was read last.
    pub started: WallTime,
    /// Its id.
    pub id: EventId,
}

impl fmt::Display for EventCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.started.0, self.id)
    }
}

/// The text is not a place in the list of events.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a place in the list of events")]
pub struct BadCursor;

impl FromStr for EventCursor {
    type Err = BadCursor;
    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let (started, id) = text.split_once('_').ok_or(BadCursor)?;
        let started = WallTime(started.parse().map_err(|_| BadCursor)?);
        Ok(Self { started, id: id.parse().map_err(|_| BadCursor)? })
    }
}

/// Which events to list; newest first.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    /// How many, at most [`MAX_ROWS`].
    pub limit: usize,
    /// Only what comes after this place (older events).
    pub before: Option<EventCursor>,
    /// Only this camera.
    pub camera: Option<CameraId>,
    /// Only this kind.
    pub kind: Option<EventKind>,
    /// Only those in which this person was recognised.
    pub person: Option<String>,
    /// Only those that started at this moment or later.
    pub since: Option<WallTime>,
    /// Only those that started before this moment.
    pub until: Option<WallTime>,
}

impl Store {
    /// Writes a new event, its sightings and its alerts in one commit. Repeating the call changes nothing.
    pub fn start_event(&mut self, event: &Event, alerts: &[NewAlert]) -> Result<()> {
        self.write_event(event, EventPhase::Started, alerts)
    }

    /// Adds the sightings since the last report and raises score and identities. An event that is not
    /// there yet is made; one that is over stays over.
    pub fn update_event(&mut self, event: &Event) -> Result<()> {
        self.write_event(event, EventPhase::Updated, &[])
    }

    /// Closes an event and writes its alerts in one commit. Repeating the call changes nothing.
    /// Without `event.ended` the time of the last sighting is taken.
    pub fn end_event(&mut self, event: &Event, alerts: &[NewAlert]) -> Result<()> {
        self.write_event(event, EventPhase::Ended, alerts)
    }

    fn write_event(&mut self, event: &Event, phase: EventPhase, alerts: &[NewAlert]) -> Result<()> {
        let transaction = self.begin()?;
        write(&transaction, event, phase)?;
        for alert in alerts {
            outbox::insert(&transaction, event, phase, alert, None)?;
        }
        Ok(transaction.commit()?)
    }
}

impl StoreReader {
    /// Lists events, newest first, with their clips and newest snapshot. A row that cannot be read is left out and
    /// logged: it must not hide all others.
    pub fn recent_events(&self, query: &EventQuery) -> Result<Vec<EventRow>> {
        let asked = Asked::new(query);
        let mut statement = self.connection.prepare_cached(&asked.sql)?;
        let mut rows = statement.query(rusqlite::params_from_iter(&asked.values))?;
        let mut events = Vec::new();
        while let Some(row) = rows.next()? {
            match event_row(row) {
                Ok(event) => events.push(event),
                Err(error) => {
                    let number: i64 = row.get(0).unwrap_or(0);
                    tracing::warn!(%error, number, "the row of an event cannot be read");
                }
            }
        }
        // All of a page at once: so many single questions would take longer than the page itself.
        let ids: Vec<EventId> = events.iter().map(|event| event.id).collect();
        let mut found = clips::of_all(&self.connection, &ids)?;
        for event in &mut events {
            (event.clips, event.snapshot) = found.remove(&event.id).unwrap_or_default();
        }
        Ok(events)
    }

    /// One event, with its clips and newest snapshot.
    pub fn event(&self, id: EventId) -> Result<Option<EventRow>> {
        let mut statement =
            self.connection.prepare_cached(&format!("SELECT {EVENT_COLUMNS} FROM events WHERE id = ?1"))?;
        let found = statement.query_and_then([id.to_string()], event_row)?.next().transpose()?;
        let Some(mut event) = found else { return Ok(None) };
        self.add_recordings(&mut event)?;
        Ok(Some(event))
    }

    /// What was seen during an event, in the order of the frames, from frame number `from_seq` on; at
    /// most [`MAX_SIGHTINGS`], so go on after the last one's number while there are as many.
    pub fn sightings(&self, event: EventId, from_seq: u64) -> Result<Vec<Sighting>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT seq, wall, detections FROM sightings
             WHERE event = (SELECT number FROM events WHERE id = ?1) AND seq >= ?2 ORDER BY seq LIMIT ?3",
        )?;
        let limit = count(MAX_SIGHTINGS as u64);
        statement
            .query_and_then(params![event.to_string(), count(from_seq), limit], |row| {
                let detections: String = row.get(2)?;
                Ok(Sighting {
                    seq: from_count(row.get(0)?),
                    wall: WallTime(row.get(1)?),
                    detections: from_compact(&detections)?,
                })
            })?
            .collect()
    }

    fn add_recordings(&self, event: &mut EventRow) -> Result<()> {
        event.clips = clips::clips_of(&self.connection, event.id)?;
        event.snapshot = clips::newest_snapshot(&self.connection, event.id)?;
        Ok(())
    }

    /// How many events there are in all. Counts an index: takes long when there are millions.
    pub fn event_count(&self) -> Result<u64> {
        let found: i64 = self.connection.query_row("SELECT count(*) FROM events", [], |row| row.get(0))?;
        Ok(from_count(found))
    }
}

pub(crate) const EVENT_COLUMNS: &str =
    "events.number, events.id, events.camera, events.kind, events.phase, events.started,
     events.started_seq, events.ended, events.score, events.identities, events.interrupted,
     events.detail, events.snoozed, events.recording_refused, events.kept";

/// A question for a page of events, made so that an index holds exactly what it wants, in the order that it wants:
/// no row is read that is not shown.
struct Asked {
    sql: String,
    values: Vec<Value>,
}

impl Asked {
    fn new(query: &EventQuery) -> Self {
        // Nothing sorts after '~' in an id, which is made of hexadecimal digits, and nothing before an empty text.
        let cursor =
            query.before.map_or((i64::MAX, "~".to_owned()), |place| (place.started.0, place.id.to_string()));
        let (started, id) = match query.until {
            Some(until) => cursor.min((until.0, String::new())),
            None => cursor,
        };
        let limit = count(query.limit.min(MAX_ROWS) as u64);
        let mut values: Vec<Value> = vec![started.into(), id.into(), limit.into()];
        // The table of the index: that of the people where one is asked for.
        let t = if query.person.is_some() { "event_people" } else { "events" };
        let mut only = String::new();
        let given = [
            ("name =", query.person.clone().map(Value::from)),
            ("camera =", query.camera.as_ref().map(|camera| camera.as_str().to_owned().into())),
            ("kind =", query.kind.map(|kind| kind.as_str().to_owned().into())),
            ("started >=", query.since.map(|since| since.0.into())),
        ];
        for (condition, value) in given {
            if let Some(value) = value {
                values.push(value);
                only.push_str(&format!(" AND {t}.{condition} ?{}", values.len()));
            }
        }
        // By name: without figures about the tables the planner sometimes takes one that holds more than is wanted.
        let by = match (query.camera.is_some(), query.kind.is_some()) {
            (false, false) => "time",
            (true, false) => "camera",
            (false, true) => "kind",
            (true, true) => "camera_and_kind",
        };
        let indexed = match (query.person.is_some(), by) {
            // The table is the index.
            (true, "time") => String::new(),
            _ => format!("INDEXED BY {t}_by_{by}"),
        };
        let sql = if query.person.is_some() {
            // Sorted by number within a moment; an id of which there is no event any more stands behind all of its
            // moment, the empty one of `until` before.
            format!(
                "SELECT {EVENT_COLUMNS} FROM event_people {indexed} CROSS JOIN events ON events.number = event_people.event
                 WHERE (event_people.started, event_people.event) < (?1, CASE ?2 WHEN '' THEN 0 ELSE
                     ifnull((SELECT number FROM events WHERE id = ?2), 9223372036854775807) END){only}
                 ORDER BY event_people.started DESC, event_people.event DESC LIMIT ?3"
            )
        } else {
            format!(
                "SELECT {EVENT_COLUMNS} FROM events {indexed} WHERE (started, id) < (?1, ?2){only}
                 ORDER BY started DESC, id DESC LIMIT ?3"
            )
        };
        Self { sql, values }
    }
}

/// Reads the columns of [`EVENT_COLUMNS`].
pub(crate) fn event_row(row: &Row<'_>) -> Result<EventRow> {
    let phase = match row.get_ref(4)?.as_str().unwrap_or_default() {
        "started" => EventPhase::Started,
        "updated" => EventPhase::Updated,
        _ => EventPhase::Ended,
    };
    let identities: String = row.get(9)?;
    Ok(EventRow {
        id: parsed(row, 1, |text| text.parse().ok())?,
        camera: parsed(row, 2, |text| CameraId::from_shown(text).ok())?,
        kind: parsed(row, 3, |text| text.parse().ok())?,
        phase,
        started: WallTime(row.get(5)?),
        started_seq: from_count(row.get(6)?),
        ended: row.get::<_, Option<i64>>(7)?.map(WallTime),
        score: row.get::<_, f64>(8)? as f32,
        identities: serde_json::from_str(&identities).unwrap_or_default(),
        interrupted: row.get(10)?,
        detail: row.get(11)?,
        snoozed: row.get(12)?,
        recording_refused: row.get(13)?,
        kept: row.get(14)?,
        clips: Vec::new(),
        snapshot: None,
    })
}

/// Writes an event and its sightings; returns the number of its row.
pub(crate) fn write(transaction: &Transaction<'_>, event: &Event, phase: EventPhase) -> Result<i64> {
    let number = upsert(transaction, event, phase)?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO sightings (event, seq, wall, detections) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO NOTHING",
    )?;
    for sighting in &event.sightings {
        let detections = compact(&sighting.detections);
        insert.execute(params![number, count(sighting.seq), sighting.wall.0, detections])?;
    }
    Ok(number)
}

/// Writes the row of an event and returns its number. A later phase replaces an earlier one, never the
/// other way round; only the true end of an event replaces the one that was assumed for it.
fn upsert(transaction: &Transaction<'_>, event: &Event, phase: EventPhase) -> Result<i64> {
    let last = || event.sightings.last().map_or(event.started, |sighting| sighting.wall);
    let ended = (phase == EventPhase::Ended).then(|| event.ended.unwrap_or_else(last).0);
    let id = event.id.to_string();
    let identities = serde_json::to_string(&event.identities).expect("a list of texts is always JSON");
    let score = if event.score.is_nan() { 0.0 } else { event.score.clamp(0.0, 1.0) };
    transaction
        .prepare_cached(
            "INSERT INTO events (id, camera, kind, phase, started, started_seq, ended, score, identities)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT (id) DO UPDATE SET
                 phase = excluded.phase, ended = excluded.ended, score = max(score, excluded.score),
                 identities = excluded.identities, interrupted = 0,
                 promises = iif(excluded.phase = 'ended', NULL, promises)
             WHERE (phase <> 'ended' AND NOT (phase = 'updated' AND excluded.phase = 'started'))
                OR (interrupted = 1 AND excluded.phase = 'ended')",
        )?
        .execute(params![
            id,
            event.camera.as_str(),
            event.kind.as_str(),
            phase_name(phase),
            event.started.0,
            count(event.started_seq),
            ended,
            f64::from(score),
            identities
        ])?;
    number_of(transaction, &id)?.ok_or_else(|| StoreError::Refused(format!("event {id} was not written")))
}

fn number_of(connection: &Connection, id: &str) -> Result<Option<i64>> {
    let mut statement = connection.prepare_cached("SELECT number FROM events WHERE id = ?1")?;
    Ok(statement.query_row([id], |row| row.get(0)).optional()?)
}

/// One detection in a row of the database: label, score, x, y, width, height, identity.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Compact<'a> {
    Anonymous(Cow<'a, str>, f32, f32, f32, f32, f32),
    Identified(Cow<'a, str>, f32, f32, f32, f32, f32, Cow<'a, str>),
}

fn compact(detections: &[Detection]) -> String {
    let rows: Vec<Compact<'_>> = detections
        .iter()
        .map(|d| {
            // Again through `new`: JSON knows no NaN, and the fields are public.
            let b = Rect::new(d.bbox.x, d.bbox.y, d.bbox.width, d.bbox.height);
            let score = Detection::new("", d.score, b).score;
            let label = Cow::Borrowed(d.label.as_str());
            match &d.identity {
                None => Compact::Anonymous(label, score, b.x, b.y, b.width, b.height),
                Some(who) => {
                    Compact::Identified(label, score, b.x, b.y, b.width, b.height, who.as_str().into())
                }
            }
        })
        .collect();
    serde_json::to_string(&rows).expect("texts and finite numbers are always JSON")
}

fn from_compact(text: &str) -> Result<Vec<Detection>> {
    let rows: Vec<Compact<'_>> = serde_json::from_str(text)
        .map_err(|e| StoreError::Refused(format!("the detections of a sighting cannot be read: {e}")))?;
    Ok(rows
        .into_iter()
        .map(|row| match row {
            Compact::Anonymous(label, score, x, y, width, height) => {
                Detection::new(label, score, Rect::new(x, y, width, height))
            }
            Compact::Identified(label, score, x, y, width, height, who) => Detection {
                identity: Some(who.into_owned()),
                ..Detection::new(label, score, Rect::new(x, y, width, height))
            },
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orphans::Fate;
    use crate::testing::{FAR, alert, event, store};

    fn sighting(seq: u64, detections: Vec<Detection>) -> Sighting {
        Sighting { wall: WallTime(1_000_000 + i64::try_from(seq).unwrap()), seq, detections }
    }

    #[test]
    fn an_event_is_written_from_start_to_end() {
        let (_folder, mut store) = store();
        let mut event = event(1);
        let person = Detection::new("person", 0.91, Rect::new(1.5, 2.25, 30.0, 60.1));
        let ada = Detection { identity: Some("Ada \"L\"".into()), ..person.clone() };
        event.sightings = vec![sighting(10, vec![person.clone()]), sighting(11, vec![])];
        store.start_event(&event, &[alert("wecom"), alert("webhook")]).unwrap();
        event.score = 0.95;
        event.identities = vec!["Ada \"L\"".into()];
        event.sightings = vec![sighting(12, vec![person.clone(), ada.clone()])];
        store.update_event(&event).unwrap();
        event.sightings = vec![sighting(13, vec![ada.clone()])];
        event.ended = Some(WallTime(9_000_000));
        store.end_event(&event, &[alert("wecom")]).unwrap();

        let row = store.event(event.id).unwrap().unwrap();
        assert_eq!((row.phase, row.ended), (EventPhase::Ended, Some(WallTime(9_000_000))));
        assert_eq!((row.score, row.identities), (0.95, vec!["Ada \"L\"".to_owned()]));
        assert!(!row.interrupted);
        let seen = store.sightings(event.id, 0).unwrap();
        assert_eq!(
            seen,
            [
                sighting(10, vec![person.clone()]),
                sighting(11, vec![]),
                sighting(12, vec![person, ada.clone()]),
                sighting(13, vec![ada])
            ]
        );
        assert_eq!(store.sightings(event.id, 12).unwrap().len(), 2);
        assert_eq!(store.outbox_counts().unwrap().waiting, 3);
    }

    #[test]
    fn boxes_are_stored_briefly() {
        let person = Detection::new("person", 0.91, Rect::new(1.5, 0.1, 30.0, 60.0));
        assert_eq!(compact(&[person]), r#"[["person",0.91,1.5,0.1,30.0,60.0]]"#);
        let mut odd = Detection::new("x", 0.5, Rect::new(0.0, 0.0, 1.0, 1.0));
        odd.score = f32::NAN;
        odd.bbox.x = f32::INFINITY;
        assert_eq!(from_compact(&compact(&[odd])).unwrap()[0].score, 0.0);
        assert!(from_compact("[[1]]").is_err());
    }

    #[test]
    fn repetition_changes_nothing() {
        let (_folder, mut store) = store();
        let mut event = event(1);
        event.sightings = vec![sighting(1, vec![])];
        for _ in 0..3 {
            store.start_event(&event, &[alert("wecom")]).unwrap();
        }
        let first = store.due(FAR, None, 9).unwrap();
        assert_eq!(first.len(), 1);
        store.update_event(&event).unwrap();
        store.start_event(&event, &[alert("wecom")]).unwrap();
        assert_eq!(store.event(event.id).unwrap().unwrap().phase, EventPhase::Updated);
        event.ended = Some(WallTime(8_000_000));
        for _ in 0..3 {
            store.end_event(&event, &[alert("wecom")]).unwrap();
        }
        store.start_event(&event, &[alert("wecom")]).unwrap();
        store.update_event(&event).unwrap();
        let row = store.event(event.id).unwrap().unwrap();
        assert_eq!((row.phase, row.ended), (EventPhase::Ended, Some(WallTime(8_000_000))));
        assert_eq!(store.due(FAR, None, 9).unwrap().len(), 2, "one for the start, one for the end");
        assert_eq!(store.sightings(event.id, 0).unwrap().len(), 1);
        assert_eq!(store.event_count().unwrap(), 1);
    }

    #[test]
    fn the_event_and_its_alerts_are_one_commit() {
        let (_folder, mut store) = store();
        store
            .raw()
            .execute_batch(
                "CREATE TEMP TRIGGER fail BEFORE INSERT ON outbox WHEN NEW.channel = 'broken'
                 BEGIN SELECT RAISE(ABORT, 'injected'); END",
            )
            .unwrap();
        let mut event = event(1);
        event.sightings = vec![sighting(1, vec![])];
        let failed = store.start_event(&event, &[alert("wecom"), alert("broken")]);
        assert!(failed.unwrap_err().to_string().contains("injected"));
        assert_eq!(store.event(event.id).unwrap(), None);
        assert_eq!(store.outbox_counts().unwrap().waiting, 0);
        let left: i64 =
            store.raw().query_row("SELECT count(*) FROM sightings", [], |row| row.get(0)).unwrap();
        assert_eq!(left, 0);

        store.start_event(&event, &[alert("wecom")]).unwrap();
        assert!(store.end_event(&event, &[alert("broken")]).is_err());
        assert_eq!(store.event(event.id).unwrap().unwrap().phase, EventPhase::Started);
    }

    #[test]
    fn pages_do_not_overlap_and_leave_nothing_out() {
        let (_folder, mut store) = store();
        for n in 0..40_u8 {
            let mut event = event(n);
            // Several of the same moment: the id decides.
            event.started = WallTime(1_000_000 * i64::from(n / 8));
            event.camera = CameraId::parse(if n % 2 == 0 { "door" } else { "yard" }).unwrap();
            event.kind = if n % 4 < 2 { EventKind::Person } else { EventKind::Motion };
            event.identities = if n % 5 == 0 { vec!["Ada".into(), "unknown".into()] } else { Vec::new() };
            store.start_event(&event, &[]).unwrap();
        }
        let all = |query: EventQuery| {
            let mut query = query;
            let mut found = Vec::new();
            loop {
                let page = store.recent_events(&query).unwrap();
                assert!(page.len() <= query.limit);
                let Some(last) = page.last() else { return found };
                query.before = Some(last.cursor().to_string().parse().unwrap());
                found.extend(page);
            }
        };
        let every = all(EventQuery { limit: 7, ..EventQuery::default() });
        assert_eq!(every.len(), 40);
        assert!(every.is_sorted_by(|a, b| (a.started, a.id) > (b.started, b.id)));
        let at = |secs: i64| Some(WallTime(secs * 1_000_000));
        // Every combination is what a plain look through all events finds.
        for camera in [None, Some("door"), Some("yard"), Some("none")] {
            for kind in [None, Some(EventKind::Person), Some(EventKind::Face)] {
                for person in [None, Some("Ada"), Some("unknown"), Some("Bob")] {
                    for (since, until) in
                        [(None, None), (at(1), None), (None, at(3)), (at(1), at(3)), (at(3), at(3))]
                    {
                        let query = EventQuery {
                            limit: 3,
                            camera: camera.map(|c| CameraId::parse(c).unwrap()),
                            kind,
                            person: person.map(str::to_owned),
                            since,
                            until,
                            ..EventQuery::default()
                        };
                        let mut found: Vec<_> = all(query.clone()).into_iter().map(|e| e.id).collect();
                        let mut expected: Vec<_> = every
                            .iter()
                            .filter(|e| camera.is_none_or(|c| e.camera.as_str() == c))
                            .filter(|e| kind.is_none_or(|k| e.kind == k))
                            .filter(|e| person.is_none_or(|p| e.identities.iter().any(|name| name == p)))
                            .filter(|e| {
                                since.is_none_or(|s| e.started >= s) && until.is_none_or(|u| e.started < u)
                            })
                            .map(|e| e.id)
                            .collect();
                        found.sort();
                        expected.sort();
                        assert_eq!(found, expected, "{query:?}");
                    }
                }
            }
        }
        assert!(store.recent_events(&EventQuery::default()).unwrap().is_empty(), "a limit of 0 is 0");
        for bad in ["", "5", "x_y", "5_", "_018f"] {
            assert!(bad.parse::<EventCursor>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn who_was_recognised_is_kept_with_the_event() {
        let (_folder, mut store) = store();
        let mut event = event(1);
        event.identities = vec!["unknown".into(), "unknown".into()];
        let named = |store: &Store, name: &str| {
            let query = EventQuery { limit: 9, person: Some(name.to_owned()), ..EventQuery::default() };
            store.recent_events(&query).unwrap().len()
        };
        store.start_event(&event, &[]).unwrap();
        assert_eq!((named(&store, "unknown"), named(&store, "Ada")), (1, 0));
        event.identities = vec!["Ada".into()];
        store.update_event(&event).unwrap();
        store.end_event(&event, &[]).unwrap();
        assert_eq!((named(&store, "unknown"), named(&store, "Ada")), (0, 1));
        store.raw().execute("DELETE FROM events", []).unwrap();
        let left: i64 =
            store.raw().query_row("SELECT count(*) FROM event_people", [], |row| row.get(0)).unwrap();
        assert_eq!(left, 0);
    }

    #[test]
    fn a_row_that_cannot_be_read_hides_no_other() {
        let (_folder, mut store) = store();
        for n in 1..=3 {
            store.start_event(&event(n), &[]).unwrap();
        }
        store.raw().execute("UPDATE events SET kind = 'p\u{1}rson' WHERE number = 2", []).unwrap();
        let query = EventQuery { limit: 9, ..EventQuery::default() };
        assert_eq!(store.recent_events(&query).unwrap().len(), 2);
        let mut asked = 0;
        let mut close = || {
            store.close_orphans(WallTime(9), |_| {
                asked += 1;
                Fate::Lasts
            })
        };
        assert_eq!(
            (close().unwrap(), close().unwrap()),
            (1, 0),
            "it is closed, whatever becomes of the others"
        );
        assert_eq!(asked, 4);
    }

    #[test]
    fn lists_are_capped_and_read_from_indexes() {
        let (_folder, mut store) = store();
        let transaction = store.begin().unwrap();
        for n in 0..=MAX_ROWS {
            let id = EventId::new(WallTime(1), (n as u128).to_be_bytes()[6..].try_into().unwrap());
            upsert(&transaction, &Event { id, ..event(0) }, EventPhase::Started).unwrap();
        }
        transaction.commit().unwrap();
        let query = EventQuery { limit: usize::MAX, ..EventQuery::default() };
        assert_eq!(store.recent_events(&query).unwrap().len(), MAX_ROWS);
        for (camera, kind, suffix) in [
            (false, false, ""),
            (true, false, "by_camera"),
            (false, true, "by_kind"),
            (true, true, "by_camera_and_kind"),
        ] {
            for person in [false, true] {
                let query = EventQuery {
                    limit: 3,
                    camera: camera.then(|| CameraId::parse("a").unwrap()),
                    kind: kind.then_some(EventKind::Person),
                    person: person.then(|| "Ada".to_owned()),
                    since: Some(WallTime(1)),
                    until: Some(WallTime(9)),
                    before: Some(EventCursor { started: WallTime(8), id: event(1).id }),
                };
                let asked = Asked::new(&query);
                let mut statement =
                    store.raw().prepare(&format!("EXPLAIN QUERY PLAN {}", asked.sql)).unwrap();
                let plan: Vec<String> = statement
                    .query_map(rusqlite::params_from_iter(&asked.values), |row| row.get(3))
                    .unwrap()
                    .map(Result::unwrap)
                    .collect();
                let plan = plan.join(" | ");
                let index = match (person, suffix) {
                    (false, "") => "USING INDEX events_by_time ".to_owned(),
                    (false, suffix) => format!("USING INDEX events_{suffix} "),
                    (true, "") => "event_people USING PRIMARY KEY (name=?".to_owned(),
                    (true, suffix) => format!("USING INDEX event_people_{suffix} "),
                };
                let index = if person { index.replace("USING INDEX", "USING COVERING INDEX") } else { index };
                assert!(plan.contains(&index), "{index}: {plan}");
                assert!(
                    plan.contains("started>") && !plan.contains("TEMP B-TREE") && !plan.contains("SCAN"),
                    "{plan}"
                );
            }
        }
    }
}
