//! Writes what became of events, with alerts that may share a message, several of them in one commit. Which alerts there
//! are, and what a shared message says, is decided by the caller.

use std::time::Duration;

use meerkat_base::{Event, EventPhase, WallTime};
use rusqlite::{OptionalExtension, Transaction, params};

use crate::attendance;
use crate::clips::newest_snapshot;
use crate::database::Store;
use crate::error::Result;
use crate::events;
use crate::outbox::{self, MAX_PAYLOAD_BYTES, NewAlert};
use crate::sql::{check_relative, phase_name};

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
    /// What exactly a notice is about: kept with the row, so that the next run knows which fact it tells of.
    pub subject: Option<String>,
    /// Who is to be told of its end, in the caller's own form: kept with the row as long as it is open, for the next run.
    pub promises: Option<serde_json::Value>,
    /// Those recognised in it are entered in the ledger, where a visit goes on that was last seen less than this long
    /// before. Nothing: the event counts for nobody.
    pub attendance: Option<Duration>,
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
    /// Writes events, their sightings, their lines in the ledger and their alerts in one commit. Repeating the call changes nothing. What is told of
    /// an event while it goes on is told as what began. `now` is the present, read when this is called and not before.
    pub fn report(&mut self, reports: &[Report], now: WallTime) -> Result<()> {
        let transaction = self.begin()?;
        let mut checked_in = Vec::new();
        for report in reports {
            let event = &report.event;
            let number = events::write(&transaction, event, event.phase)?;
            let Report { detail, snoozed, subject, promises, .. } = report;
            if detail.is_some() || *snoozed || subject.is_some() || promises.is_some() {
                let promises = promises.as_ref().map(|promises| promises.to_string());
                let sql = "UPDATE events SET detail = coalesce(?2, detail), snoozed = max(snoozed, ?3),
                               subject = coalesce(?4, subject),
                               promises = iif(ended IS NULL, coalesce(?5, promises), NULL)
                           WHERE number = ?1";
                transaction
                    .prepare_cached(sql)?
                    .execute(params![number, detail, snoozed, subject, promises])?;
            }
            if let Some(repeat) = report.attendance
                && attendance::enter(&transaction, event, repeat)?
            {
                checked_in.push(event);
            }
            for told in &report.alerts {
                tell(&transaction, event, told, now)?;
            }
        }
        transaction.commit()?;
        for event in checked_in {
            tracing::info!(camera = %event.camera, event = %event.id, "check-in");
        }
        Ok(())
    }
}

/// Writes an alert, or makes it part of one that waits. Once: one that was written or taken up before stays as it is.
pub(crate) fn tell(
    transaction: &Transaction<'_>,
    event: &Event,
    told: &ToldAlert,
    now: WallTime,
) -> Result<()> {
    let phase = match event.phase {
        EventPhase::Started | EventPhase::Updated => EventPhase::Started,
        EventPhase::Ended => EventPhase::Ended,
    };
    let mut alert = told.alert.clone();
    // Whoever hears of the end only sees the picture with it.
    if phase == EventPhase::Ended
        && alert.snapshot.is_none()
        && !is_told(transaction, event, EventPhase::Started, &alert.channel)?
    {
        alert.snapshot = newest_snapshot(transaction, event.id)?;
    }
    let Some(merge) = &told.merge else {
        return outbox::insert(transaction, event, phase, &alert, None);
    };
    if is_told(transaction, event, phase, &alert.channel)? {
        return Ok(());
    }
    let Some(message) = join(transaction, event, &alert, merge, now)? else {
        return outbox::insert(transaction, event, phase, &alert, Some(&merge.key));
    };
    transaction
        .prepare_cached("INSERT INTO outbox_shares (event, phase, channel, message) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![event.id.to_string(), phase_name(phase), alert.channel, message])?;
    Ok(())
}

/// Whether a channel has a message about this phase of an event, one of its own or a share in another.
fn is_told(transaction: &Transaction<'_>, event: &Event, phase: EventPhase, channel: &str) -> Result<bool> {
    let mut statement = transaction.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM outbox WHERE event = ?1 AND phase = ?2 AND channel = ?3 AND part = 0)
             OR EXISTS (SELECT 1 FROM outbox_shares WHERE event = ?1 AND phase = ?2 AND channel = ?3)",
    )?;
    Ok(statement.query_row(params![event.id.to_string(), phase_name(phase), channel], |row| row.get(0))?)
}

/// Makes an alert part of one that waits under the same key. Returns the number of that one, if there is such a one. A
/// message shows at most what its own event is about: it takes over no picture of another camera, and none of another
/// kind, because whether a picture may leave the node is asked by the kind of the message.
fn join(
    transaction: &Transaction<'_>,
    event: &Event,
    alert: &NewAlert,
    merge: &Merge,
    now: WallTime,
) -> Result<Option<i64>> {
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
    let Some((number, payload)) = open else { return Ok(None) };
    let Ok(mut payload) = serde_json::from_str(&payload) else { return Ok(None) };
    (merge.combine)(&mut payload, &alert.payload);
    let payload = payload.to_string();
    if payload.len() > MAX_PAYLOAD_BYTES {
        return Ok(None);
    }
    if let Some(path) = &alert.snapshot {
        check_relative(path)?;
    }
    transaction
        .prepare_cached(
            "UPDATE outbox SET payload = ?2,
                 snapshot = iif(camera = ?4 AND kind = ?5, coalesce(snapshot, ?3), snapshot)
             WHERE number = ?1",
        )?
        .execute(params![number, payload, alert.snapshot, event.camera.as_str(), event.kind.as_str()])?;
    Ok(Some(number))
}

#[cfg(test)]
mod tests {
    use meerkat_base::{CameraId, EventId, EventKind, ImageFormat, Sighting};
    use serde_json::json;

    use super::*;
    use crate::clips::SnapshotRow;
    use crate::faces::Consent;
    use crate::orphans::Fate;
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
        Report {
            event: event(n),
            detail: None,
            snoozed: false,
            subject: None,
            promises: None,
            attendance: None,
            alerts: vec![ToldAlert { alert, merge }],
        }
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
    fn who_hears_of_the_end_only_gets_the_picture_with_it() {
        let (_folder, mut store) = store();
        let now = WallTime(2_000_000);
        let told = |event: Event, channels: &[&str]| Report {
            alerts: channels.iter().map(|channel| alert(channel).into()).collect(),
            event,
            ..report(1, "a")
        };
        let began = event(1);
        let mut start = told(began.clone(), &["both"]);
        // One more has heard of the start in a message with others.
        start.alerts.extend([report(1, "a").alerts.remove(0)]);
        store.report(&[report(2, "a"), start], now).unwrap();
        let picture =
            SnapshotRow { event: began.id, path: "capture/a.jpg".to_owned(), taken: began.started, bytes: 9 };
        store.add_snapshot(&picture).unwrap();
        let over = Event { phase: EventPhase::Ended, ended: Some(now), ..began.clone() };
        store.report(&[told(over, &["both", "hook", "ends"])], now).unwrap();
        let rows = store.alerts_of(began.id).unwrap();
        let ends: Vec<_> = rows
            .iter()
            .filter(|row| row.phase == EventPhase::Ended)
            .map(|row| (row.channel.as_str(), row.snapshot.as_deref()))
            .collect();
        assert_eq!(ends, [("both", None), ("hook", None), ("ends", Some("capture/a.jpg"))]);
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
    fn what_is_told_late_shares_a_message_too_and_once() {
        let (_folder, mut store) = store();
        let early = WallTime(10_000_000);
        let late = |n| {
            let mut late = report(n, "a");
            late.event.phase = EventPhase::Updated;
            late
        };
        for n in 1..=3 {
            store.report(&[Report { alerts: Vec::new(), ..report(n, "a") }], early).unwrap();
        }
        // Written again, not knowing whether it was: also after others were added, and as a whole.
        for n in [1, 2, 1, 2, 3, 3, 1] {
            store.report(&[late(n)], early).unwrap();
        }
        assert_eq!(counts(&store), [3]);
        let row = store.due(FAR, None, 9).unwrap().remove(0);
        assert_eq!((row.event, row.phase), (event(1).id, EventPhase::Started));
        assert_eq!(store.due(WallTime(DUE.0 - 1), None, 9).unwrap(), []);
        // One that has a message of its own when it is written again while another one waits under its key.
        store.retry(row.id, DUE, "busy", 0).unwrap();
        store.report(&[late(4)], early).unwrap();
        store.report(&[late(1), late(2), late(4)], early).unwrap();
        assert_eq!(counts(&store), [3, 1]);
    }

    #[test]
    fn what_shared_a_message_is_forgotten_with_it() {
        let (_folder, mut store) = store();
        store.report(&[report(1, "a"), report(2, "a")], WallTime(0)).unwrap();
        let shares = |store: &Store| -> i64 {
            store.raw().query_row("SELECT count(*) FROM outbox_shares", [], |row| row.get(0)).unwrap()
        };
        assert_eq!(shares(&store), 1);
        let id = store.alerts_of(event(1).id).unwrap()[0].id;
        store.delivered(id, DUE).unwrap();
        assert_eq!(store.prune(FAR).unwrap(), 1);
        assert_eq!(shares(&store), 0);
    }

    #[test]
    fn a_message_takes_over_no_picture_of_another_kind_or_camera() {
        use EventKind::{CameraSilent, Face, Motion, Person};
        let cases = [
            // What may leave is asked by the kind of the first.
            (CameraSilent, Face, "door", None),
            (Motion, Face, "door", None),
            (Face, Person, "door", None),
            (Person, Person, "yard", None),
            (Person, Person, "door", Some("b.jpg")),
        ];
        for (first, second, camera, expected) in cases {
            let (_folder, mut store) = store();
            let of = |n: u8, kind: EventKind, camera: &str, snapshot: Option<&str>| {
                let mut report = report(n, "a");
                (report.event.kind, report.event.camera) = (kind, CameraId::parse(camera).unwrap());
                report.alerts[0].alert.snapshot = snapshot.map(str::to_owned);
                report
            };
            store.report(&[of(1, first, "door", None)], WallTime(0)).unwrap();
            store.report(&[of(2, second, camera, Some("b.jpg"))], WallTime(0)).unwrap();
            store.report(&[of(3, first, "door", None)], WallTime(0)).unwrap();
            let rows = store.due(FAR, None, 9).unwrap();
            let case = format!("{first}, then {second} at {camera}");
            assert_eq!(rows.len(), 1, "{case}");
            assert_eq!(
                (rows[0].snapshot.as_deref(), &rows[0].payload["count"]),
                (expected, &json!(3)),
                "{case}"
            );
        }
    }

    /// A store that knows Ada, and an event in which she was recognised where that counts.
    fn ada() -> (tempfile::TempDir, Store, Report) {
        let (folder, mut store) = store();
        let consent = Consent { by: "Ada".to_owned(), at: WallTime(1) };
        store.enrol("Ada", &[(b"jpeg", ImageFormat::Jpeg)], &consent, WallTime(1)).unwrap();
        let mut seen = Report { attendance: Some(Duration::from_secs(60)), ..report(1, "a") };
        seen.event.kind = EventKind::Face;
        seen.event.identities = vec!["Ada".to_owned(), "unknown".to_owned()];
        (folder, store, seen)
    }

    /// Begin and last sight of every visit, the newest first.
    fn visits(store: &Store) -> Vec<(i64, i64)> {
        store.check_ins(None, 9).unwrap().into_iter().map(|line| (line.at.0, line.last.0)).collect()
    }

    #[test]
    fn a_check_in_is_written_with_its_event_or_not_at_all() {
        let (_folder, mut store, seen) = ada();
        let fails = "CREATE TEMP TRIGGER fails BEFORE INSERT ON attendance BEGIN SELECT RAISE(ABORT, 'injected'); END";
        store.raw().execute_batch(fails).unwrap();
        assert!(store.report(std::slice::from_ref(&seen), WallTime(0)).is_err());
        assert_eq!(
            store.event(seen.event.id).unwrap(),
            None,
            "no event that says she came, without her check-in"
        );
        store.raw().execute_batch("DROP TRIGGER fails").unwrap();
        let mut bad = seen.clone();
        bad.alerts[0].alert.payload = "x".repeat(MAX_PAYLOAD_BYTES).into();
        assert!(store.report(&[bad], WallTime(0)).is_err());
        assert_eq!(visits(&store), [], "and no check-in without its event");
        for _ in 0..2 {
            store.report(std::slice::from_ref(&seen), WallTime(0)).unwrap();
            assert_eq!(visits(&store), [(1_000_000, 1_000_000)]);
        }
        store.report(&[Report { attendance: None, ..report(2, "a") }], WallTime(0)).unwrap();
        assert_eq!(visits(&store).len(), 1);
    }

    #[test]
    fn a_visit_lasts_as_long_as_its_event_is_known_to_also_when_the_node_dies_meanwhile() {
        let (_folder, mut store, seen) = ada();
        store.report(std::slice::from_ref(&seen), WallTime(0)).unwrap();
        let mut update = Report { alerts: Vec::new(), ..seen.clone() };
        update.event.phase = EventPhase::Updated;
        for wall in [2_000_000, 3_600_000_000] {
            update.event.sightings =
                vec![Sighting { wall: WallTime(wall), seq: wall as u64, detections: vec![] }];
            store.report(&[update.clone()], WallTime(0)).unwrap();
            assert_eq!(visits(&store), [(1_000_000, wall)]);
        }
        // It dies here; the next run ends the event with the last that is known of it.
        store.close_orphans(WallTime(3_700_000_000), |_| Fate::Ends(Vec::new())).unwrap();
        let row = store.event(seen.event.id).unwrap().unwrap();
        assert_eq!((row.ended, row.interrupted), (Some(WallTime(3_600_000_000)), true));
        assert_eq!(visits(&store), [(1_000_000, 3_600_000_000)]);

        // Ada stands there still: to the next run she is another event of the same visit.
        let mut next = Report { attendance: seen.attendance, ..report(2, "a") };
        next.event = Event { started: WallTime(3_630_000_000), ..Event { id: next.event.id, ..seen.event } };
        store.report(&[next.clone()], WallTime(0)).unwrap();
        next.event.phase = EventPhase::Ended;
        next.event.ended = Some(WallTime(3_640_000_000));
        store.report(&[next], WallTime(0)).unwrap();
        assert_eq!(visits(&store), [(1_000_000, 3_640_000_000)]);
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
