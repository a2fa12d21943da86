//! Writes what became of events, with alerts that may share a message, several of them in one commit. Which alerts there
//! are, and what a shared message says, is decided by the caller.

use meerkat_base::{Event, EventPhase, WallTime};
use rusqlite::{OptionalExtension, Transaction, params};

use crate::database::Store;
use crate::error::Result;
use crate::events;
use crate::outbox::{self, MAX_PAYLOAD_BYTES, NewAlert};

/// An alert is taken up into another one only while that one is not due for so long: it may be on its way otherwise.
const MERGE_MARGIN_MICROS: i64 = 500_000;

/// What became of one event.
#[derive(Debug, Clone)]
pub struct Report {
    /// The event; its phase says what happened.
    pub event: Event,
    /// What a notice says, for people.
    pub detail: Option<String>,
    /// Messages about it are kept back.
    pub snoozed: bool,
    /// Who is told.
    pub alerts: Vec<ToldAlert>,
}

/// An alert, and with which others it shares a message.
#[derive(Debug, Clone)]
pub struct ToldAlert {
    /// The alert as it is when it has a message to itself. It is due at `created`.
    pub alert: NewAlert,
    /// How it becomes part of another one.
    pub merge: Option<Merge>,
}

/// Makes one message of the alerts of a channel that wait under the same key.
#[derive(Debug, Clone)]
pub struct Merge {
    /// The key.
    pub key: String,
    /// Adds the payload on the right to the one on the left. What comes out longer than [`MAX_PAYLOAD_BYTES`] is not
    /// taken.
    pub combine: fn(&mut serde_json::Value, &serde_json::Value),
}

impl From<NewAlert> for ToldAlert {
    fn from(alert: NewAlert) -> Self {
        Self { alert, merge: None }
    }
}

impl Store {
    /// Writes events, their sightings and their alerts in one commit. Repeating the call changes nothing. `now` is the
    /// present, read when this is called and not before.
    pub fn report(&mut self, reports: &[Report], now: WallTime) -> Result<()> {
        let transaction = self.begin()?;
        for report in reports {
            let event = &report.event;
            let repeated = is_written(&transaction, event)?;
            let number = events::write(&transaction, event, event.phase)?;
            if report.detail.is_some() || report.snoozed {
                let sql = "UPDATE events SET detail = coalesce(?2, detail), snoozed = max(snoozed, ?3)
                           WHERE number = ?1";
                transaction.prepare_cached(sql)?.execute(params![number, report.detail, report.snoozed])?;
            }
            for told in &report.alerts {
                // An alert of its own is kept from being written twice by its row.
                match &told.merge {
                    Some(_) if repeated => {}
                    Some(merge) if join(&transaction, &told.alert, merge, now)? => {}
                    merge => {
                        let key = merge.as_ref().map(|merge| merge.key.as_str());
                        outbox::insert(&transaction, event, event.phase, &told.alert, key)?;
                    }
                }
            }
        }
        Ok(transaction.commit()?)
    }

    /// Adds alerts about an event that is written already, in one commit. Repeating the call changes nothing.
    pub fn tell(&mut self, event: &Event, alerts: &[ToldAlert]) -> Result<()> {
        let transaction = self.begin()?;
        for told in alerts {
            let key = told.merge.as_ref().map(|merge| merge.key.as_str());
            outbox::insert(&transaction, event, event.phase, &told.alert, key)?;
        }
        Ok(transaction.commit()?)
    }
}

/// Whether this phase of the event has been written before, with its alerts.
fn is_written(transaction: &Transaction<'_>, event: &Event) -> Result<bool> {
    let mut statement = transaction
        .prepare_cached("SELECT ended IS NOT NULL AND NOT interrupted FROM events WHERE id = ?1")?;
    let is_over: Option<bool> = statement.query_row([event.id.to_string()], |row| row.get(0)).optional()?;
    Ok(match event.phase {
        EventPhase::Started => is_over.is_some(),
        EventPhase::Updated => false,
        EventPhase::Ended => is_over == Some(true),
    })
}

/// Makes an alert part of one that waits under the same key. Says whether there is such a one.
fn join(transaction: &Transaction<'_>, alert: &NewAlert, merge: &Merge, now: WallTime) -> Result<bool> {
    let open: Option<(i64, String)> = transaction
        .prepare_cached(
            "SELECT number, payload FROM outbox
             WHERE state = 'waiting' AND channel = ?1 AND merge_key = ?2 AND attempts = 0 AND next_attempt > ?3",
        )?
        .query_row(
            params![alert.channel, merge.key, now.0.saturating_add(MERGE_MARGIN_MICROS)],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let Some((number, payload)) = open else { return Ok(false) };
    let Ok(mut payload) = serde_json::from_str(&payload) else { return Ok(false) };
    (merge.combine)(&mut payload, &alert.payload);
    let payload = payload.to_string();
    if payload.len() > MAX_PAYLOAD_BYTES {
        return Ok(false);
    }
    transaction
        .prepare_cached(
            "UPDATE outbox SET payload = ?2, snapshot = coalesce(snapshot, ?3) WHERE number = ?1",
        )?
        .execute(params![number, payload, alert.snapshot])?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use meerkat_base::{EventId, EventKind};
    use serde_json::json;

    use super::*;
    use crate::outbox::OutboxState;
    use crate::testing::{FAR, alert, event, store};

    const DUE: WallTime = WallTime(60_000_000);

    fn add(all: &mut serde_json::Value, one: &serde_json::Value) {
        all["count"] = (all["count"].as_u64().unwrap() + one["count"].as_u64().unwrap()).into();
    }

    /// An event's start with an alert that is due at a minute past.
    fn report(n: u8, key: &str) -> Report {
        let alert = NewAlert { payload: json!({"count": 1}), created: DUE, ..alert("hook") };
        let merge = Some(Merge { key: key.to_owned(), combine: add });
        Report { event: event(n), detail: None, snoozed: false, alerts: vec![ToldAlert { alert, merge }] }
    }

    fn counts(store: &Store) -> Vec<u64> {
        let mut rows = store.due(FAR, Some("hook"), 99).unwrap();
        rows.sort_by_key(|row| row.event);
        rows.iter().map(|row| row.payload["count"].as_u64().unwrap()).collect()
    }

    #[test]
    fn alerts_under_one_key_are_one_message_until_it_is_due() {
        let (_folder, mut store) = store();
        let early = WallTime(10_000_000);
        for n in 1..=5 {
            store.report(&[report(n, "a")], early).unwrap();
        }
        store.report(&[report(6, "b")], early).unwrap();
        assert_eq!(counts(&store), [5, 1]);
        assert_eq!(store.due(WallTime(DUE.0 - 1), None, 9).unwrap(), [], "not before the window is over");
        // It may be on its way by now: another message.
        store.report(&[report(7, "a")], WallTime(DUE.0 - MERGE_MARGIN_MICROS)).unwrap();
        assert_eq!(counts(&store), [5, 1, 1]);
        assert_eq!(store.event_count().unwrap(), 7);
    }

    #[test]
    fn one_that_was_tried_or_delivered_takes_up_nothing() {
        let (_folder, mut store) = store();
        let early = WallTime(10_000_000);
        store.report(&[report(1, "a")], early).unwrap();
        let first = store.due(FAR, None, 9).unwrap().remove(0);
        store.retry(first.id, DUE, "busy", 0).unwrap();
        store.report(&[report(2, "a")], early).unwrap();
        store.report(&[report(3, "a")], early).unwrap();
        assert_eq!(counts(&store), [1, 2]);
        store.delivered(first.id, DUE).unwrap();
        assert_eq!(store.alerts_of(event(1).id).unwrap()[0].state, OutboxState::Delivered);
    }

    #[test]
    fn what_is_written_again_counts_once() {
        let (_folder, mut store) = store();
        let early = WallTime(10_000_000);
        for _ in 0..3 {
            store.report(&[report(1, "a"), report(2, "a")], early).unwrap();
        }
        assert_eq!(counts(&store), [2]);
        let mut over = report(1, "ended");
        over.event.phase = EventPhase::Ended;
        over.event.ended = Some(WallTime(2_000_000));
        for _ in 0..3 {
            store.report(&[over.clone()], early).unwrap();
        }
        assert_eq!(counts(&store).iter().sum::<u64>(), 3);
    }

    #[test]
    fn what_is_told_late_is_told_once_and_when_its_key_is_due() {
        let (_folder, mut store) = store();
        let early = WallTime(10_000_000);
        let late = report(2, "a");
        store.report(&[report(1, "a"), Report { alerts: Vec::new(), ..late.clone() }], early).unwrap();
        for _ in 0..3 {
            store.tell(&late.event, &late.alerts).unwrap();
        }
        assert_eq!(counts(&store), [1, 1]);
        assert_eq!(store.due(WallTime(DUE.0 - 1), None, 9).unwrap(), []);
        store.report(&[report(3, "a")], early).unwrap();
        assert_eq!(counts(&store).iter().sum::<u64>(), 3);
    }

    #[test]
    fn several_events_are_written_together_with_what_is_said_of_them() {
        let (_folder, mut store) = store();
        let mut silent = report(1, "a");
        silent.event.kind = EventKind::CameraSilent;
        silent.detail = Some("no picture for 5 s".to_owned());
        let quiet = Report { snoozed: true, alerts: Vec::new(), ..report(2, "a") };
        store.report(&[silent, quiet.clone()], WallTime(0)).unwrap();
        let row = store.event(event(1).id).unwrap().unwrap();
        assert_eq!((row.detail.as_deref(), row.snoozed), (Some("no picture for 5 s"), false));
        let row = store.event(event(2).id).unwrap().unwrap();
        assert_eq!((row.detail, row.snoozed), (None, true));
        // The end does not take back what was said at the start.
        let mut over = Report { snoozed: false, ..quiet };
        over.event.phase = EventPhase::Ended;
        store.report(&[over], WallTime(0)).unwrap();
        assert!(store.event(event(2).id).unwrap().unwrap().snoozed);
        // One that is refused takes the others with it; it has a key of its own, so that nothing takes it up.
        let mut bad = report(4, "b");
        bad.alerts[0].alert.payload = "x".repeat(MAX_PAYLOAD_BYTES).into();
        assert!(store.report(&[report(3, "a"), bad], WallTime(0)).is_err());
        assert_eq!(store.event(EventId(event(3).id.0)).unwrap(), None);
    }
}
