//! Events that a death of the node left open. What becomes of each is decided by the caller, and all of it is one commit.

use meerkat_base::{Event, EventPhase, WallTime};
use rusqlite::params;
use tracing::warn;

use crate::database::{Store, StoreReader};
use crate::error::{Result, StoreError};
use crate::events::{EVENT_COLUMNS, EventRow, MAX_ROWS, event_row};
use crate::reports::{self, ToldAlert};
use crate::sql::count;

/// An event that an earlier run left open.
#[derive(Debug, Clone, PartialEq)]
pub struct Orphan {
    /// The event as it is over if it does not last: ended with its last sighting, without sightings.
    pub event: Event,
    /// What exactly a notice is about, see [`crate::Report::subject`].
    pub subject: String,
    /// Who is to be told of its end, see [`crate::Report::promises`].
    pub promises: Option<serde_json::Value>,
}

/// What becomes of an event that was left open.
#[derive(Debug, Clone)]
pub enum Fate {
    /// It goes on in this run, and its row stays open.
    Lasts,
    /// It is over, and this is who is told so.
    Ends(Vec<ToldAlert>),
}

impl Store {
    /// Ends every event that is still open and does not last: their node died. To be called once when the node
    /// starts, before any event of this run. An event ends with its last sighting, but not after `now` and not before
    /// it started. `fate` is asked for each, oldest first. Returns how many have ended.
    ///
    /// # Errors
    /// Of the database; then nothing has changed.
    pub fn close_orphans(&mut self, now: WallTime, mut fate: impl FnMut(&Orphan) -> Fate) -> Result<usize> {
        let transaction = self.begin()?;
        // By name: the order alone would lead the planner through all events.
        let mut open = transaction.prepare(&format!(
            "SELECT {EVENT_COLUMNS}, subject, promises, (SELECT max(wall) FROM sightings WHERE event = number)
             FROM events INDEXED BY events_open WHERE ended IS NULL ORDER BY started, id"
        ))?;
        let mut rows = open.query([])?;
        let mut closed = 0;
        while let Some(row) = rows.next()? {
            let number: i64 = row.get(0)?;
            let started: i64 = row.get(5)?;
            let (subject, promises): (Option<String>, Option<String>) = (row.get(15)?, row.get(16)?);
            let last: Option<i64> = row.get(17)?;
            let ended = last.unwrap_or(started).min(now.0).max(started);
            let orphan = event_row(row).map(|event| Orphan {
                event: Event {
                    id: event.id,
                    camera: event.camera,
                    kind: event.kind,
                    phase: EventPhase::Ended,
                    started: event.started,
                    started_seq: event.started_seq,
                    ended: Some(WallTime(ended)),
                    score: event.score,
                    identities: event.identities,
                    sightings: Vec::new(),
                },
                subject: subject.unwrap_or_default(),
                promises: promises.and_then(|text| serde_json::from_str(&text).ok()),
            });
            match &orphan {
                Ok(orphan) => match fate(orphan) {
                    Fate::Lasts => continue,
                    Fate::Ends(alerts) => {
                        for told in &alerts {
                            match reports::tell(&transaction, &orphan.event, told, now) {
                                // One that does not fit must not keep all others open.
                                Err(error @ StoreError::Refused(_)) => {
                                    warn!(event = %orphan.event.id, %error, "the end of an event is not told");
                                }
                                told => told?,
                            }
                        }
                    }
                },
                Err(error) => {
                    warn!(%error, number, "the row of an event that was not ended cannot be read");
                }
            }
            transaction
                .prepare_cached(
                    "UPDATE events SET phase = 'ended', ended = ?2, interrupted = 1, promises = NULL
                     WHERE number = ?1",
                )?
                .execute(params![number, ended])?;
            closed += 1;
        }
        drop(rows);
        drop(open);
        transaction.commit()?;
        Ok(closed)
    }
}

impl StoreReader {
    /// Events that are open, oldest first and at most [`MAX_ROWS`], without clips and snapshots. One that cannot be read
    /// is left out.
    pub fn open_events(&self) -> Result<Vec<EventRow>> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {EVENT_COLUMNS} FROM events INDEXED BY events_open WHERE ended IS NULL ORDER BY number LIMIT ?1"
        ))?;
        let rows = statement.query_and_then([count(MAX_ROWS as u64)], event_row)?;
        Ok(rows.filter_map(Result::ok).collect())
    }
}

#[cfg(test)]
mod tests {
    use meerkat_base::{EventKind, Sighting};
    use serde_json::json;

    use super::*;
    use crate::outbox::NewAlert;
    use crate::reports::Report;
    use crate::testing::{FAR, alert, event, store};

    fn report(event: Event, subject: &str, promises: &str) -> Report {
        Report {
            event,
            detail: None,
            snoozed: false,
            subject: Some(subject.to_owned()),
            promises: Some(json!(promises)),
            attendance: None,
            alerts: Vec::new(),
        }
    }

    /// Closes what is open, with an alert for each.
    fn close(store: &mut Store, now: i64) -> Vec<Event> {
        let mut closed = Vec::new();
        let fate = |orphan: &Orphan| {
            closed.push(orphan.event.clone());
            Fate::Ends(vec![alert("wecom").into()])
        };
        let count = store.close_orphans(WallTime(now), fate).unwrap();
        assert_eq!(count, closed.len());
        closed
    }

    #[test]
    fn events_of_a_dead_node_are_closed() {
        let (_folder, mut store) = store();
        let mut seen = event(1);
        seen.sightings = vec![Sighting { seq: 7, wall: WallTime(1_000_007), detections: vec![] }];
        store.start_event(&seen, &[alert("wecom")]).unwrap();
        let unseen = event(2);
        store.start_event(&unseen, &[]).unwrap();
        let mut over = event(3);
        over.ended = Some(over.started);
        store.end_event(&over, &[]).unwrap();

        let closed = close(&mut store, 50_000_000);
        assert_eq!(closed.iter().map(|e| e.id).collect::<Vec<_>>(), [seen.id, unseen.id]);
        assert_eq!(closed[0].ended, Some(WallTime(1_000_007)), "its last sighting");
        assert_eq!(closed[1].ended, Some(unseen.started));
        assert!(store.event(seen.id).unwrap().unwrap().interrupted);
        assert_eq!(close(&mut store, 60_000_000), []);
        assert_eq!(store.outbox_counts().unwrap().waiting, 3, "one told its start, both their end");

        let truth = Event { ended: Some(WallTime(1_500_000)), ..closed[0].clone() };
        store.end_event(&truth, &[alert("wecom")]).unwrap();
        assert_eq!(store.outbox_counts().unwrap().waiting, 3, "its end is told already");
        let row = store.event(seen.id).unwrap().unwrap();
        assert_eq!(
            (row.ended, row.interrupted),
            (truth.ended, false),
            "the true end replaces the assumed one"
        );
        let other = Event { ended: Some(WallTime(1_600_000)), ..truth.clone() };
        store.end_event(&other, &[]).unwrap();
        assert_eq!(store.event(seen.id).unwrap().unwrap().ended, truth.ended, "and stays");
    }

    #[test]
    fn what_lasts_stays_open_and_is_found_with_what_was_kept_for_it() {
        let (_folder, mut store) = store();
        let silent = Event { kind: EventKind::CameraSilent, ..event(1) };
        store.report(&[report(silent.clone(), "", "first")], WallTime(0)).unwrap();
        let disk = Event { kind: EventKind::StoreDamaged, ..event(2) };
        store.report(&[report(disk.clone(), "backup", "second")], WallTime(0)).unwrap();
        // Said anew, and said again without anything new.
        let update = Event { phase: EventPhase::Updated, ..disk.clone() };
        store.report(&[report(update.clone(), "backup", "third")], WallTime(0)).unwrap();
        store.update_event(&update).unwrap();
        let mut found = Vec::new();
        for _ in 0..2 {
            found.clear();
            let fate = |orphan: &Orphan| {
                found.push((orphan.event.id, orphan.subject.clone(), orphan.promises.clone()));
                Fate::Lasts
            };
            assert_eq!(store.close_orphans(WallTime(9), fate).unwrap(), 0);
        }
        let (of_silent, of_disk) = (Some(json!("first")), Some(json!("third")));
        assert_eq!(found, [(silent.id, String::new(), of_silent), (disk.id, "backup".to_owned(), of_disk)]);
        assert_eq!(store.event(silent.id).unwrap().unwrap().ended, None);
        let open: Vec<_> = store.open_events().unwrap().into_iter().map(|event| event.id).collect();
        assert_eq!(open, [silent.id, disk.id]);
        // Its end takes the promises away.
        let over = Event { phase: EventPhase::Ended, ended: Some(FAR), ..silent };
        store.report(&[report(over, "", "late")], WallTime(0)).unwrap();
        let kept: i64 = store
            .raw()
            .query_row("SELECT count(*) FROM events WHERE promises IS NOT NULL", [], |row| row.get(0))
            .unwrap();
        assert_eq!(kept, 1);
    }

    #[test]
    fn an_end_that_cannot_be_told_keeps_no_other_open() {
        let (_folder, mut store) = store();
        for n in 1..=2 {
            store.start_event(&event(n), &[]).unwrap();
        }
        let fate = |orphan: &Orphan| {
            let mut told = alert("wecom");
            if orphan.event.id == event(1).id {
                told.snapshot = Some("../outside".to_owned());
            }
            Fate::Ends(vec![told.into()])
        };
        assert_eq!(store.close_orphans(WallTime(9), fate).unwrap(), 2);
        assert_eq!(store.alerts_of(event(1).id).unwrap(), []);
        assert_eq!(store.alerts_of(event(2).id).unwrap().len(), 1);
    }

    #[test]
    fn events_that_an_earlier_version_left_open_keep_their_promises() {
        let (_folder, mut store) = store();
        let told = |ends: bool| NewAlert {
            payload: json!({"ends": ends, "severity": "critical"}),
            ..alert(if ends { "a" } else { "b" })
        };
        store.start_event(&event(1), &[told(true), told(false)]).unwrap();
        store.start_event(&event(2), &[told(false)]).unwrap();
        store
            .raw()
            .execute_batch("ALTER TABLE events DROP COLUMN subject; ALTER TABLE events DROP COLUMN promises")
            .unwrap();
        store.raw().execute_batch(include_str!("schema/011_open_events.sql")).unwrap();
        let mut found = Vec::new();
        let fate = |orphan: &Orphan| {
            found.push(orphan.promises.clone().unwrap());
            Fate::Lasts
        };
        store.close_orphans(WallTime(9), fate).unwrap();
        assert_eq!(found, [json!([{"channel": "a", "rule": "", "severity": "critical"}]), json!([])]);
    }
}
