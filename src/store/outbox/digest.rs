//! Digests: one message for many alerts. Which alerts a digest stands for is written down before it is sent, so that
//! it says the same under the same id however often it is tried.

use meerkat_base::{CameraId, EventKind, WallTime};
use rusqlite::{OptionalExtension, params};
use uuid::Uuid;

use super::cut;
use crate::database::{Store, StoreReader};
use crate::error::Result;
use crate::events::MAX_ROWS;
use crate::sql::{count, from_count, parsed};

/// Whether a message may be about several events: others may have joined it, or it lists what it is about under `lines`.
const IS_GROUP: &str = "(merge_key IS NOT NULL
    OR CASE WHEN json_valid(payload) THEN ifnull(json_array_length(payload, '$.lines'), 0) ELSE 0 END > 0)";

/// A digest that is on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenDigest {
    /// Its idempotency key.
    pub id: Uuid,
    /// When it was made.
    pub made: WallTime,
    /// Attempts that were made.
    pub attempts: u64,
    /// When the next one may be made.
    pub next_attempt_at: WallTime,
    /// Steps of it that have arrived, or which of several receivers have it: as with a message.
    pub sent: u8,
}

/// How many alerts of one kind at one camera a digest stands for.
#[derive(Debug, Clone, PartialEq)]
pub struct DigestCount {
    /// The camera.
    pub camera: CameraId,
    /// The kind.
    pub kind: EventKind,
    /// How many.
    pub count: u64,
    /// When the first of them was written.
    pub oldest: WallTime,
    /// When the last of them was written.
    pub newest: WallTime,
    /// What was to be sent of the last of them.
    pub payload: serde_json::Value,
}

impl StoreReader {
    /// The digest that is on its way to a channel; there is one at most.
    pub fn open_digest(&self, channel: &str) -> Result<Option<OpenDigest>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT id, made, attempts, next_attempt FROM digests WHERE channel = ?1")?;
        // No message has arrived in part when it comes into a digest, and then all of them arrive as the digest does: each
        // of them can say how far that is.
        let mut sent = self.connection.prepare_cached(
            "SELECT sent FROM outbox INDEXED BY outbox_by_digest
             WHERE digest = ?1 AND part = 0 AND state = 'waiting' LIMIT 1",
        )?;
        statement
            .query_and_then([channel], |row| {
                let id = parsed(row, 0, |text| Uuid::parse_str(text).ok())?;
                Ok(OpenDigest {
                    id,
                    made: WallTime(row.get(1)?),
                    attempts: from_count(row.get(2)?),
                    next_attempt_at: WallTime(row.get(3)?),
                    sent: sent.query_row([id.to_string()], |row| row.get(0)).optional()?.unwrap_or(0),
                })
            })?
            .next()
            .transpose()
    }

    /// What a digest stands for, the most frequent first; at most [`MAX_ROWS`] lines. Messages that may be about several
    /// events are not among it: see [`StoreReader::digest_groups`].
    pub fn digest_counts(&self, id: Uuid) -> Result<Vec<DigestCount>> {
        // SQLite takes the other columns of a group from the row that has the one maximum.
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT camera, kind, count(*), max(number), payload, created
             FROM outbox INDEXED BY outbox_by_digest
             WHERE digest = ?1 AND part = 0 AND state = 'waiting' AND NOT {IS_GROUP}
             GROUP BY camera, kind ORDER BY count(*) DESC, camera, kind LIMIT ?2"
        ))?;
        let mut oldest = self.connection.prepare_cached(&format!(
            "SELECT min(created) FROM outbox INDEXED BY outbox_by_digest
             WHERE digest = ?1 AND part = 0 AND state = 'waiting' AND NOT {IS_GROUP}
                 AND camera = ?2 AND kind = ?3"
        ))?;
        statement
            .query_and_then(params![id.to_string(), count(MAX_ROWS as u64)], |row| {
                let (camera, kind): (String, String) = (row.get(0)?, row.get(1)?);
                let newest = WallTime(row.get(5)?);
                let first: Option<i64> = oldest
                    .query_row(params![id.to_string(), camera, kind], |row| row.get(0))
                    .optional()?
                    .flatten();
                Ok(DigestCount {
                    camera: parsed(row, 0, |text| CameraId::from_shown(text).ok())?,
                    kind: parsed(row, 1, |text| text.parse().ok())?,
                    count: from_count(row.get(2)?),
                    oldest: first.map_or(newest, WallTime),
                    newest,
                    payload: parsed(row, 4, |text| serde_json::from_str(text).ok())?,
                })
            })?
            .collect()
    }

    /// Calls `each` with every message in a digest that may be about several events, in the order of writing: how many
    /// and of what is said by its payload, in the caller's own form.
    pub fn digest_groups(&self, id: Uuid, mut each: impl FnMut(DigestCount)) -> Result<()> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT camera, kind, created, payload FROM outbox INDEXED BY outbox_by_digest
             WHERE digest = ?1 AND part = 0 AND state = 'waiting' AND {IS_GROUP} ORDER BY number"
        ))?;
        let mut rows = statement.query([id.to_string()])?;
        while let Some(row) = rows.next()? {
            let written = WallTime(row.get(2)?);
            each(DigestCount {
                camera: parsed(row, 0, |text| CameraId::from_shown(text).ok())?,
                kind: parsed(row, 1, |text| text.parse().ok())?,
                count: 1,
                oldest: written,
                newest: written,
                payload: parsed(row, 3, |text| serde_json::from_str(text).ok())?,
            });
        }
        Ok(())
    }
}

impl Store {
    /// Puts the messages that wait for a channel, with numbers up to `last_number`, into a digest, at most `limit` of
    /// them, and with them the clips that wait to follow. One that has arrived in part is left out. No digest where
    /// there would be fewer than two messages in it, or one is on its way already.
    pub fn begin_digest(
        &mut self,
        channel: &str,
        last_number: i64,
        limit: u64,
        now: WallTime,
    ) -> Result<Option<OpenDigest>> {
        if self.open_digest(channel)?.is_some() {
            return Ok(None);
        }
        let id = Uuid::new_v4();
        let transaction = self.begin()?;
        let messages = transaction
            .prepare_cached(
                "UPDATE outbox SET digest = ?2 WHERE number IN (
                     SELECT number FROM outbox INDEXED BY outbox_alerts
                     WHERE channel = ?1 AND state = 'waiting' AND part = 0 AND digest IS NULL
                         AND sent = 0 AND number <= ?3 AND queued <= ?5
                     ORDER BY queued, number LIMIT ?4)",
            )?
            .execute(params![channel, id.to_string(), last_number, count(limit), now.0])?;
        if messages < 2 {
            // Nothing is written: the transaction goes back.
            return Ok(None);
        }
        transaction
            .prepare_cached(
                "UPDATE outbox INDEXED BY outbox_clips SET digest = ?2
                 WHERE channel = ?1 AND state = 'waiting' AND part > 0 AND digest IS NULL
                     AND EXISTS (SELECT 1 FROM outbox AS first
                         WHERE first.event = outbox.event AND first.phase = outbox.phase
                             AND first.channel = outbox.channel AND first.part = 0 AND first.digest = ?2)",
            )?
            .execute(params![channel, id.to_string()])?;
        transaction
            .prepare_cached("INSERT INTO digests (id, channel, made, next_attempt) VALUES (?1, ?2, ?3, ?3)")?
            .execute(params![id.to_string(), channel, now.0])?;
        transaction.commit()?;
        Ok(Some(OpenDigest { id, made: now, attempts: 0, next_attempt_at: now, sent: 0 }))
    }

    /// Notes in one commit that a digest arrived, and with it everything that it stands for. Returns how many rows
    /// were waiting.
    pub fn digest_delivered(&mut self, id: Uuid, at: WallTime) -> Result<usize> {
        self.settle_digest(
            id,
            "UPDATE outbox INDEXED BY outbox_by_digest
             SET state = 'delivered', settled = ?2, attempts = attempts + 1, last_error = NULL
             WHERE digest = ?1 AND state = 'waiting' AND ?3 = ''",
            at,
            "",
        )
    }

    /// Gives a digest up, and with it everything that it stands for. Returns how many rows were waiting. The error
    /// must hold no secret.
    pub fn digest_dead(&mut self, id: Uuid, at: WallTime, error: &str) -> Result<usize> {
        self.settle_digest(
            id,
            "UPDATE outbox INDEXED BY outbox_by_digest
             SET state = 'dead', settled = ?2, attempts = attempts + 1, last_error = ?3
             WHERE digest = ?1 AND state = 'waiting'",
            at,
            error,
        )
    }

    fn settle_digest(&mut self, id: Uuid, update: &str, at: WallTime, error: &str) -> Result<usize> {
        let transaction = self.begin()?;
        let changed =
            transaction.prepare_cached(update)?.execute(params![id.to_string(), at.0, cut(error)])?;
        transaction.prepare_cached("DELETE FROM digests WHERE id = ?1")?.execute([id.to_string()])?;
        transaction.commit()?;
        Ok(changed)
    }

    /// Notes a failed attempt at a digest, what of it has arrived all the same, and when to try again. Returns whether
    /// there is such a digest.
    pub fn digest_retry(&mut self, id: Uuid, next_at: WallTime, error: &str, sent: u8) -> Result<bool> {
        let transaction = self.begin()?;
        let changed = transaction
            .prepare_cached(
                "UPDATE digests SET attempts = attempts + 1, next_attempt = ?2, last_error = ?3 WHERE id = ?1",
            )?
            .execute(params![id.to_string(), next_at.0, cut(error)])?;
        if sent > 0 {
            transaction
                .prepare_cached(
                    "UPDATE outbox INDEXED BY outbox_by_digest SET sent = ?2
                     WHERE digest = ?1 AND part = 0 AND state = 'waiting' AND sent < ?2",
                )?
                .execute(params![id.to_string(), sent])?;
        }
        transaction.commit()?;
        Ok(changed == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::{NewAlert, Order, OutboxCounts, OutboxState, Queue};
    use crate::testing::{FAR, alert, event, store};

    fn fill(store: &mut Store, numbers: std::ops::RangeInclusive<u8>) {
        for n in numbers {
            let mut event = event(n);
            event.camera = CameraId::parse(if n % 3 == 0 { "yard" } else { "door" }).unwrap();
            let late = NewAlert { created: WallTime(i64::from(n) * 1_000_000), ..alert("wecom") };
            store.start_event(&event, &[late, alert("hook")]).unwrap();
        }
    }

    #[test]
    fn a_digest_stands_for_exactly_what_is_counted_in_it() {
        let (_folder, mut store) = store();
        fill(&mut store, 1..=6);
        // The fifth has arrived in part, the sixth comes after the moment up to which is counted.
        let partly = store.alerts_of(event(5).id).unwrap()[0].id;
        store.retry(partly, WallTime(1), "limit", 1).unwrap();
        let last = store.alerts_of(event(5).id).unwrap()[1].number;
        let digest = store.begin_digest("wecom", last, 100, FAR).unwrap().unwrap();
        assert_eq!(store.open_digest("wecom").unwrap(), Some(digest.clone()));
        assert_eq!(store.begin_digest("wecom", i64::MAX, 100, FAR).unwrap(), None, "one at a time");
        assert_eq!(store.open_digest("hook").unwrap(), None);

        let counts = store.digest_counts(digest.id).unwrap();
        let lines: Vec<_> = counts.iter().map(|line| (line.camera.as_str(), line.count)).collect();
        assert_eq!(lines, [("door", 3), ("yard", 1)]);
        assert_eq!((counts[0].oldest, counts[0].newest), (WallTime(1_000_000), WallTime(4_000_000)));
        let left = |queue| store.heads("wecom", queue, Order::OldestFirst, FAR, 9).unwrap().len();
        let found = (left(Queue::Alerts), left(Queue::Told));
        assert_eq!(found, (1, 1), "what stands in a digest is not sent by itself");

        assert_eq!(digest.sent, 0);
        assert!(store.digest_retry(digest.id, WallTime(9), "one mailbox is full", 5).unwrap());
        assert!(store.digest_retry(digest.id, WallTime(9), "busy", 0).unwrap());
        let again = store.open_digest("wecom").unwrap().unwrap();
        assert_eq!((again.id, again.attempts, again.next_attempt_at), (digest.id, 2, WallTime(9)));
        assert_eq!(again.sent, 5, "who has it, over restarts");
        assert_eq!(store.digest_counts(digest.id).unwrap(), counts, "it says the same again");
        assert_eq!(store.digest_delivered(digest.id, FAR).unwrap(), 4);
        assert_eq!(store.digest_delivered(digest.id, FAR).unwrap(), 0, "only once");
        assert_eq!(store.open_digest("wecom").unwrap(), None);
        let row = store.alerts_of(event(1).id).unwrap().remove(0);
        assert_eq!((row.state, row.digest), (OutboxState::Delivered, Some(digest.id)));
        let counts = store.outbox_counts().unwrap();
        assert_eq!(counts, OutboxCounts { waiting: 2 + 6, delivered: 4, dead: 0 });
    }

    #[test]
    fn a_digest_of_one_is_none_and_a_refused_one_is_a_dead_letter() {
        let (_folder, mut store) = store();
        fill(&mut store, 1..=1);
        assert_eq!(store.begin_digest("wecom", i64::MAX, 100, FAR).unwrap(), None);
        assert_eq!(store.heads("wecom", Queue::Alerts, Order::OldestFirst, FAR, 9).unwrap().len(), 1);
        fill(&mut store, 2..=5);
        let digest = store.begin_digest("wecom", i64::MAX, 3, FAR).unwrap().unwrap();
        assert_eq!(store.digest_dead(digest.id, FAR, "no such robot").unwrap(), 3, "no more than allowed");
        let row = store.alerts_of(event(1).id).unwrap().remove(0);
        assert_eq!((row.state, row.last_error.as_deref()), (OutboxState::Dead, Some("no such robot")));
    }

    #[test]
    fn an_old_digest_is_given_up_with_all_that_stands_in_it() {
        let (_folder, mut store) = store();
        fill(&mut store, 1..=3);
        store.begin_digest("wecom", i64::MAX, 100, FAR).unwrap().unwrap();
        store.give_up("wecom", WallTime(3_000_000), FAR, "too old").unwrap();
        assert!(store.open_digest("wecom").unwrap().is_some(), "one of it is not too old");
        store.give_up("wecom", FAR, FAR, "too old").unwrap();
        assert_eq!(store.open_digest("wecom").unwrap(), None);
        assert_eq!(store.outbox_counts().unwrap().dead, 3);
    }

    #[test]
    fn what_is_left_of_a_digest_that_people_have_read_is_given_up_without_a_dead_letter() {
        let (_folder, mut store) = store();
        fill(&mut store, 1..=3);
        let digest = store.begin_digest("wecom", i64::MAX, 100, FAR).unwrap().unwrap();
        store.digest_retry(digest.id, WallTime(9), "one mailbox is full", 1).unwrap();
        store.give_up("wecom", FAR, FAR, "too old").unwrap();
        let counts = store.outbox_counts().unwrap();
        assert_eq!(counts, OutboxCounts { waiting: 3, delivered: 3, dead: 0 });
    }
}
