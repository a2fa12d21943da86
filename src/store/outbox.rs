//! Alerts that wait to be delivered, each exactly once per event, phase, channel and part. Who delivers them,
//! when to try again and when to give up is decided by the caller.

mod digest;
mod list;
mod parts;
mod queue;

use std::time::Duration;

use meerkat_base::{CameraId, Event, EventId, EventKind, EventPhase, WallTime};
use rusqlite::{Connection, Row, ToSql, Transaction, params};
use serde::Serialize;
use uuid::Uuid;

use crate::database::{Store, StoreReader};
use crate::error::{Result, StoreError};
use crate::events::MAX_ROWS;
use crate::sql::{check_relative, count, from_count, parsed, phase_name};

pub use digest::{DigestCount, OpenDigest};
pub use list::{ChannelBacklog, OutboxQuery, Requeued};
pub use parts::ClipWish;
pub use queue::{Backlog, Head, Order, Queue};

/// The longest payload in bytes of JSON.
pub const MAX_PAYLOAD_BYTES: usize = 64 * 1024;
/// A row whose next attempt lies further ahead than this is due at once: nobody waits that long, so the
/// wall clock was set back.
pub const MAX_WAIT: Duration = Duration::from_secs(48 * 3600);
const MAX_ERROR_CHARS: usize = 500;
const FIRST_PART_DEAD: &str = "the message that it belongs to was given up";
/// Rows that one call of [`Store::prune`] forgets at most.
pub const PRUNE_BATCH: usize = 1_000;

/// An alert to be written together with its event.
#[derive(Debug, Clone, PartialEq)]
pub struct NewAlert {
    /// Name of the channel in the configuration.
    pub channel: String,
    /// Texts and times to be sent; never a secret. At most [`MAX_PAYLOAD_BYTES`].
    pub payload: serde_json::Value,
    /// A picture to go with it, relative to the data folder; can be attached later.
    pub snapshot: Option<String>,
    /// The present, or the time until which it is held back: from then on the first attempt may be made.
    pub created: WallTime,
}

/// What has become of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutboxState {
    /// Not delivered yet.
    Waiting,
    /// Delivered.
    Delivered,
    /// Given up: a dead letter.
    Dead,
}

impl OutboxState {
    /// Every state.
    pub const ALL: [OutboxState; 3] = [OutboxState::Waiting, OutboxState::Delivered, OutboxState::Dead];

    /// The word used in rows, queries and lists.
    pub fn as_str(self) -> &'static str {
        match self {
            OutboxState::Waiting => "waiting",
            OutboxState::Delivered => "delivered",
            OutboxState::Dead => "dead",
        }
    }

    /// The state of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// One alert.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OutboxRow {
    /// Its place in the order of writing.
    pub number: i64,
    /// Names this row.
    pub id: Uuid,
    /// The idempotency key: the id of the first part, the same in every attempt and every part.
    pub key: Uuid,
    /// The event it tells of.
    pub event: EventId,
    /// Which phase of it.
    pub phase: EventPhase,
    /// Name of the channel in the configuration.
    pub channel: String,
    /// 0 for the message itself, from 1 on for the clips that follow it.
    pub part: u32,
    /// Camera of the event.
    pub camera: CameraId,
    /// Kind of the event.
    pub kind: EventKind,
    /// What is to be sent.
    pub payload: serde_json::Value,
    /// A picture to go with it, relative to the data folder.
    pub snapshot: Option<String>,
    /// The clip that this part brings, relative to the data folder; none for the message itself.
    pub clip: Option<String>,
    /// When it was written.
    pub created: WallTime,
    /// When it began to wait: when it was written, or when it was retried by hand.
    pub queued: WallTime,
    /// Attempts that were made.
    pub attempts: u64,
    /// Steps of the delivery that have arrived (a text, then its picture).
    pub sent: u8,
    /// When the next attempt may be made.
    pub next_attempt_at: WallTime,
    /// What has become of it.
    pub state: OutboxState,
    /// When it was delivered or given up.
    pub settled: Option<WallTime>,
    /// Why the last attempt failed; of one that was delivered: what of it did not arrive, and why.
    pub last_error: Option<String>,
    /// The digest that stands for it, where it was not delivered by itself.
    pub digest: Option<Uuid>,
}

/// How many alerts are in each state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct OutboxCounts {
    /// Not delivered yet.
    pub waiting: u64,
    /// Delivered and not pruned yet.
    pub delivered: u64,
    /// Given up and not pruned yet.
    pub dead: u64,
}

/// Writes an alert inside the commit of its event; one that is there already stays as it is. Others may be added to one
/// that has a key, see `reports.rs`.
pub(crate) fn insert(
    transaction: &Transaction<'_>,
    event: &Event,
    phase: EventPhase,
    alert: &NewAlert,
    merge_key: Option<&str>,
) -> Result<()> {
    let payload = alert.payload.to_string();
    if payload.len() > MAX_PAYLOAD_BYTES {
        return Err(StoreError::Refused(format!(
            "an alert of {} bytes is longer than {MAX_PAYLOAD_BYTES}",
            payload.len()
        )));
    }
    if let Some(path) = &alert.snapshot {
        check_relative(path)?;
    }
    transaction
        .prepare_cached(
            "INSERT INTO outbox
                 (id, key, event, phase, channel, camera, kind, payload, snapshot, created, queued, next_attempt,
                  merge_key)
             VALUES (?1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, ?9, ?10)
             ON CONFLICT (event, phase, channel, part) DO NOTHING",
        )?
        .execute(params![
            Uuid::new_v4().to_string(),
            event.id.to_string(),
            phase_name(phase),
            alert.channel,
            event.camera.as_str(),
            event.kind.as_str(),
            payload,
            alert.snapshot,
            alert.created.0,
            merge_key
        ])?;
    Ok(())
}

/// Gives up every waiting alert of a database that was made anew from an older copy. Returns how many there were.
pub(crate) fn give_up_waiting(connection: &Connection, at: WallTime, error: &str) -> Result<u64> {
    let changed = connection.execute(
        "UPDATE outbox SET state = 'dead', settled = ?1, last_error = ?2 WHERE state = 'waiting'",
        params![at.0, cut(error)],
    )?;
    Ok(changed as u64)
}

impl Store {
    /// Notes that an alert arrived. Returns whether it was waiting.
    pub fn delivered(&mut self, id: Uuid, at: WallTime) -> Result<bool> {
        self.delivered_without(id, at, None)
    }

    /// Notes that an alert arrived, perhaps without a part of it, and why. Returns whether it was waiting. The reason
    /// must hold no secret; it is cut to 500 characters.
    pub fn delivered_without(&mut self, id: Uuid, at: WallTime, missing: Option<&str>) -> Result<bool> {
        let transaction = self.begin()?;
        let changed = transaction
            .prepare_cached(
                "UPDATE outbox SET state = 'delivered', settled = ?2, attempts = attempts + 1, last_error = ?3
                 WHERE id = ?1 AND state = 'waiting'",
            )?
            .execute(params![id.to_string(), at.0, missing.map(cut)])?;
        transaction.commit()?;
        Ok(changed == 1)
    }

    /// Notes in one commit that several alerts arrived (as a digest). Returns how many were waiting.
    pub fn delivered_all(&mut self, ids: &[Uuid], at: WallTime) -> Result<usize> {
        let transaction = self.begin()?;
        let mut changed = 0;
        for id in ids {
            changed += transaction
                .prepare_cached(
                    "UPDATE outbox SET state = 'delivered', settled = ?2, attempts = attempts + 1,
                         last_error = NULL
                     WHERE id = ?1 AND state = 'waiting'",
                )?
                .execute(params![id.to_string(), at.0])?;
        }
        transaction.commit()?;
        Ok(changed)
    }

    /// Notes a failed attempt, the steps that have arrived all the same, and when to try again, less than [`MAX_WAIT`] ahead. Returns whether the
    /// alert was waiting. The error must hold no secret; it is cut to 500 characters.
    pub fn retry(&mut self, id: Uuid, next_at: WallTime, error: &str, sent: u8) -> Result<bool> {
        let transaction = self.begin()?;
        let changed = transaction
            .prepare_cached(
                "UPDATE outbox SET attempts = attempts + 1, next_attempt = ?2, last_error = ?3,
                     sent = max(sent, ?4)
                 WHERE id = ?1 AND state = 'waiting'",
            )?
            .execute(params![id.to_string(), next_at.0, cut(error), sent])?;
        transaction.commit()?;
        Ok(changed == 1)
    }

    /// Gives an alert up, and with a message the clips that wait to follow it. Returns whether it was waiting. The
    /// error must hold no secret.
    pub fn dead(&mut self, id: Uuid, at: WallTime, error: &str) -> Result<bool> {
        let transaction = self.begin()?;
        let changed = transaction
            .prepare_cached(
                "UPDATE outbox SET state = 'dead', settled = ?2, attempts = attempts + 1, last_error = ?3
                 WHERE id = ?1 AND state = 'waiting'",
            )?
            .execute(params![id.to_string(), at.0, cut(error)])?;
        if changed == 1 {
            transaction
                .prepare_cached(
                    "UPDATE outbox SET state = 'dead', settled = ?2, last_error = ?3
                     WHERE (event, phase, channel) =
                               (SELECT event, phase, channel FROM outbox WHERE id = ?1 AND part = 0)
                         AND part > 0 AND state = 'waiting'",
                )?
                .execute(params![id.to_string(), at.0, FIRST_PART_DEAD])?;
        }
        transaction.commit()?;
        Ok(changed == 1)
    }

    /// Adds a picture to the waiting alerts of an event that have none. Returns how many there were.
    pub fn attach_snapshot(&mut self, event: EventId, path: &str) -> Result<usize> {
        check_relative(path)?;
        Ok(self
            .connection
            .prepare_cached(
                "UPDATE outbox SET snapshot = ?2
                 WHERE event = ?1 AND state = 'waiting' AND snapshot IS NULL",
            )?
            .execute(params![event.to_string(), path])?)
    }

    /// Forgets alerts that were delivered or given up before a moment: at most [`PRUNE_BATCH`] a call, so that the
    /// writer is not held up. Returns how many; call again while it is that many. None while deletion is suspended:
    /// alerts that waited in the copy of a rebuilt database are among the dead, for a person to look at.
    pub fn prune(&mut self, settled_before: WallTime) -> Result<usize> {
        if self.deletion_suspended()?.is_some() {
            return Ok(0);
        }
        Ok(self
            .connection
            .prepare_cached(
                "DELETE FROM outbox WHERE number IN (
                     SELECT number FROM outbox WHERE state <> 'waiting' AND settled < ?1
                     ORDER BY settled LIMIT ?2)",
            )?
            .execute(params![settled_before.0, count(PRUNE_BATCH as u64)])?)
    }
}

impl StoreReader {
    /// Alerts that may be tried now, newest first: after an outage people want to hear of the present
    /// before the past. At most [`MAX_ROWS`].
    pub fn due(&self, now: WallTime, channel: Option<&str>, limit: usize) -> Result<Vec<OutboxRow>> {
        let far = now.0.saturating_add(i64::try_from(MAX_WAIT.as_micros()).unwrap_or(i64::MAX));
        let limit = count(limit.min(MAX_ROWS) as u64);
        let mut values: Vec<&dyn ToSql> = vec![&now.0, &far, &limit];
        let (index, only) = match channel {
            Some(_) => ("outbox_waiting_by_channel", "AND channel = ?4"),
            None => ("outbox_waiting", ""),
        };
        if channel.is_some() {
            values.push(&channel);
        }
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {OUTBOX_COLUMNS} FROM outbox INDEXED BY {index}
             WHERE state = 'waiting' {only} AND (next_attempt <= ?1 OR next_attempt > ?2)
             ORDER BY queued DESC LIMIT ?3"
        ))?;
        statement.query_and_then(values.as_slice(), outbox_row)?.collect()
    }

    /// When the next waiting alert may be tried (in the past when one is due); none when none waits.
    pub fn next_attempt(&self, channel: Option<&str>) -> Result<Option<WallTime>> {
        let mut statement = self.connection.prepare_cached(match channel {
            None => "SELECT min(next_attempt) FROM outbox WHERE state = 'waiting' AND ?1 IS NULL",
            Some(_) => "SELECT min(next_attempt) FROM outbox WHERE state = 'waiting' AND channel = ?1",
        })?;
        let found: Option<i64> = statement.query_row([channel], |row| row.get(0))?;
        Ok(found.map(WallTime))
    }

    /// Alerts of one event in the order in which they were written, at most [`MAX_ROWS`].
    pub fn alerts_of(&self, event: EventId) -> Result<Vec<OutboxRow>> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {OUTBOX_COLUMNS} FROM outbox WHERE event = ?1 ORDER BY number LIMIT {MAX_ROWS}"
        ))?;
        statement.query_and_then([event.to_string()], outbox_row)?.collect()
    }

    /// How many alerts wait; cheap enough for a gauge.
    pub fn outbox_waiting(&self) -> Result<u64> {
        let mut statement =
            self.connection.prepare_cached("SELECT count(*) FROM outbox WHERE state = 'waiting'")?;
        Ok(from_count(statement.query_row([], |row| row.get(0))?))
    }

    /// How many alerts are in each state. Counts an index: takes long when there are millions.
    pub fn outbox_counts(&self) -> Result<OutboxCounts> {
        let settled = |state: &str| -> Result<u64> {
            let mut statement = self
                .connection
                .prepare_cached("SELECT count(*) FROM outbox WHERE state <> 'waiting' AND state = ?1")?;
            Ok(from_count(statement.query_row([state], |row| row.get(0))?))
        };
        Ok(OutboxCounts {
            waiting: self.outbox_waiting()?,
            delivered: settled("delivered")?,
            dead: settled("dead")?,
        })
    }
}

const OUTBOX_COLUMNS: &str = "id, event, phase, channel, camera, kind, payload, snapshot, created, attempts,
     next_attempt, state, last_error, sent, number, key, part, clip, queued, settled, digest";

fn outbox_row(row: &Row<'_>) -> Result<OutboxRow> {
    Ok(OutboxRow {
        id: parsed(row, 0, |text| Uuid::parse_str(text).ok())?,
        event: parsed(row, 1, |text| text.parse().ok())?,
        phase: parsed(row, 2, |text| {
            [EventPhase::Started, EventPhase::Updated, EventPhase::Ended]
                .into_iter()
                .find(|&phase| phase_name(phase) == text)
        })?,
        channel: row.get(3)?,
        camera: parsed(row, 4, |text| CameraId::from_shown(text).ok())?,
        kind: parsed(row, 5, |text| text.parse().ok())?,
        payload: parsed(row, 6, |text| serde_json::from_str(text).ok())?,
        snapshot: row.get(7)?,
        created: WallTime(row.get(8)?),
        attempts: from_count(row.get(9)?),
        next_attempt_at: WallTime(row.get(10)?),
        state: parsed(row, 11, OutboxState::from_word)?,
        last_error: row.get(12)?,
        sent: row.get(13)?,
        number: row.get(14)?,
        key: parsed(row, 15, |text| Uuid::parse_str(text).ok())?,
        part: row.get(16)?,
        clip: row.get(17)?,
        queued: WallTime(row.get(18)?),
        settled: row.get::<_, Option<i64>>(19)?.map(WallTime),
        digest: match row.get::<_, Option<String>>(20)? {
            Some(_) => Some(parsed(row, 20, |text| Uuid::parse_str(text).ok())?),
            None => None,
        },
    })
}

fn cut(error: &str) -> String {
    error.chars().take(MAX_ERROR_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FAR, alert, event, store};

    #[test]
    fn an_alert_goes_its_way() {
        let (_folder, mut store) = store();
        let event = event(1);
        let with_picture = NewAlert { snapshot: Some("a/b.jpg".into()), ..alert("webhook") };
        store.start_event(&event, &[alert("wecom"), with_picture]).unwrap();
        let rows = store.alerts_of(event.id).unwrap();
        let (wecom, webhook) = (&rows[0], &rows[1]);
        assert_eq!((wecom.channel.as_str(), &wecom.camera, wecom.kind), ("wecom", &event.camera, event.kind));
        assert_eq!(wecom.payload["text"], "somebody is at the door");
        assert_eq!(
            (wecom.phase, wecom.attempts, wecom.state),
            (EventPhase::Started, 0, OutboxState::Waiting)
        );
        assert_ne!(wecom.id, webhook.id);

        assert_eq!(store.attach_snapshot(event.id, "c.jpg").unwrap(), 1);
        assert_eq!(store.due(WallTime(999_999), None, 9).unwrap(), [], "not before it was made");
        assert_eq!(
            store.due(WallTime(1_000_000), Some("wecom"), 9).unwrap()[0].snapshot.as_deref(),
            Some("c.jpg")
        );
        assert_eq!(store.due(FAR, Some("webhook"), 9).unwrap()[0].snapshot.as_deref(), Some("a/b.jpg"));
        assert_eq!(store.due(FAR, Some("other"), 9).unwrap(), []);

        assert!(store.retry(wecom.id, WallTime(5_000_000), &"é".repeat(600), 1).unwrap());
        assert_eq!(store.next_attempt(Some("wecom")).unwrap(), Some(WallTime(5_000_000)));
        assert_eq!(store.next_attempt(None).unwrap(), Some(WallTime(1_000_000)));
        assert_eq!(store.due(WallTime(4_999_999), Some("wecom"), 9).unwrap(), []);
        let again = store.due(WallTime(5_000_000), Some("wecom"), 9).unwrap().remove(0);
        assert_eq!((again.id, again.attempts, again.sent), (wecom.id, 1, 1));
        assert_eq!(again.last_error.unwrap().chars().count(), 500);

        assert!(store.delivered(wecom.id, WallTime(6_000_000)).unwrap());
        assert!(!store.delivered(wecom.id, WallTime(6_000_000)).unwrap(), "only once");
        assert!(!store.retry(wecom.id, WallTime(1), "late", 0).unwrap(), "what is delivered stays delivered");
        assert!(store.dead(webhook.id, WallTime(7_000_000), "HTTP 410").unwrap());
        assert!(!store.delivered_without(webhook.id, FAR, Some("no picture")).unwrap());
        assert_eq!(store.outbox_counts().unwrap(), OutboxCounts { waiting: 0, delivered: 1, dead: 1 });
        assert_eq!(store.next_attempt(None).unwrap(), None);
        assert_eq!(store.alerts_of(event.id).unwrap()[1].last_error.as_deref(), Some("HTTP 410"));
    }

    #[test]
    fn the_newest_go_first() {
        let (_folder, mut store) = store();
        for n in 1..=5_u8 {
            let late = NewAlert { created: WallTime(i64::from(n) * 1_000_000), ..alert("wecom") };
            store.start_event(&event(n), &[late]).unwrap();
        }
        let due = store.due(FAR, Some("wecom"), 2).unwrap();
        assert_eq!(due.iter().map(|row| row.event).collect::<Vec<_>>(), [event(5).id, event(4).id]);
        let ids: Vec<Uuid> = store.due(FAR, None, 9).unwrap().iter().map(|row| row.id).collect();
        assert_eq!(store.delivered_all(&ids, FAR).unwrap(), 5);
        assert_eq!(store.outbox_waiting().unwrap(), 0);
    }

    #[test]
    fn a_clock_set_back_does_not_silence_alerts() {
        let (_folder, mut store) = store();
        store.start_event(&event(1), &[alert("wecom")]).unwrap();
        let id = store.due(FAR, None, 1).unwrap()[0].id;
        let year = 365 * 86_400_000_000;
        store.retry(id, WallTime(year), "timeout", 0).unwrap();
        assert_eq!(store.due(WallTime(year - 1_000_000), None, 1).unwrap().len(), 0, "an ordinary wait");
        assert_eq!(
            store.due(WallTime(2_000_000), None, 1).unwrap().len(),
            1,
            "a year ahead is nobody's plan"
        );
    }

    #[test]
    fn old_rows_are_pruned_and_waiting_ones_never() {
        let (_folder, mut store) = store();
        for n in 1..=4_u8 {
            store.start_event(&event(n), &[alert("wecom")]).unwrap();
        }
        let id = |n: u8| store.alerts_of(event(n).id).unwrap()[0].id;
        let (one, two, three) = (id(1), id(2), id(3));
        store.delivered(one, WallTime(10)).unwrap();
        store.dead(two, WallTime(11), "no").unwrap();
        store.delivered(three, WallTime(20)).unwrap();
        store.suspend_deletion("it was rebuilt", WallTime(12)).unwrap();
        assert_eq!(store.prune(FAR).unwrap(), 0, "until somebody has looked");
        store.confirm().unwrap();
        assert_eq!(store.prune(WallTime(20)).unwrap(), 2);
        assert_eq!(store.outbox_counts().unwrap(), OutboxCounts { waiting: 1, delivered: 1, dead: 0 });
        assert_eq!(store.prune(FAR).unwrap(), 1);
        assert_eq!(store.outbox_waiting().unwrap(), 1);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (_folder, mut store) = store();
        let long = NewAlert { payload: "x".repeat(MAX_PAYLOAD_BYTES).into(), ..alert("wecom") };
        assert!(store.start_event(&event(1), &[long]).is_err());
        let outside = NewAlert { snapshot: Some("/etc/shadow".into()), ..alert("wecom") };
        assert!(store.start_event(&event(1), &[outside]).is_err());
        assert!(store.attach_snapshot(event(1).id, "../x").is_err());
        assert_eq!(store.event_count().unwrap(), 0);
    }

    #[test]
    fn questions_are_answered_from_indexes() {
        let (_folder, store) = store();
        for (question, index) in [
            (
                "state = 'waiting' AND (next_attempt <= 1 OR next_attempt > 9) ORDER BY queued DESC",
                "outbox_waiting",
            ),
            (
                "state = 'waiting' AND channel = 'a' AND (next_attempt <= 1 OR next_attempt > 9)
                 ORDER BY queued DESC",
                "outbox_waiting_by_channel",
            ),
            ("state <> 'waiting' AND settled < 1 ORDER BY settled", "outbox_settled"),
        ] {
            let mut statement = store
                .raw()
                .prepare(&format!(
                    "EXPLAIN QUERY PLAN SELECT * FROM outbox INDEXED BY {index} WHERE {question}"
                ))
                .unwrap();
            let plan: Vec<String> =
                statement.query_map([], |row| row.get(3)).unwrap().map(Result::unwrap).collect();
            assert_eq!(plan.len(), 1, "no sorting beside the index: {plan:?}");
            assert!(plan[0].contains(&format!("USING INDEX {index}")), "{plan:?}");
        }
    }
}
