//! The outbox for people: lists, counts per channel, and what they may do to an alert by hand.

use meerkat_base::{CameraId, WallTime};
use rusqlite::{ToSql, params};
use serde::Serialize;
use uuid::Uuid;

use super::{OUTBOX_COLUMNS, OutboxRow, OutboxState, outbox_row};
use crate::database::{Store, StoreReader};
use crate::error::Result;
use crate::events::MAX_ROWS;
use crate::sql::{count, from_count};

/// Dead letters that are put back in one commit.
const REQUEUE_BATCH: usize = 1_000;

/// Which rows to list; newest first.
#[derive(Debug, Clone, Default)]
pub struct OutboxQuery {
    /// Only of this state.
    pub state: Option<OutboxState>,
    /// Only of this channel.
    pub channel: Option<String>,
    /// Only of this camera.
    pub camera: Option<CameraId>,
    /// Only rows written before the one with this number.
    pub before: Option<i64>,
    /// How many, at most [`MAX_ROWS`].
    pub limit: usize,
}

/// What waits for one channel, and what was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ChannelBacklog {
    /// Rows that wait.
    pub waiting: u64,
    /// Dead letters.
    pub dead: u64,
    /// Since when the one that has waited longest waits.
    pub oldest: Option<WallTime>,
}

/// What came of putting a dead letter back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requeued {
    /// It waits again.
    Yes,
    /// It is no dead letter but in this state.
    Is(OutboxState),
    /// There is no such row.
    Unknown,
}

impl StoreReader {
    /// Lists the outbox, newest first.
    pub fn outbox_list(&self, query: &OutboxQuery) -> Result<Vec<OutboxRow>> {
        // One index has the rows of one state in their order; of all states, the three lists are put together.
        let states: &[OutboxState] = match &query.state {
            Some(state) => std::slice::from_ref(state),
            None => &OutboxState::ALL,
        };
        let mut rows = Vec::new();
        for state in states {
            rows.extend(self.list_state(*state, query)?);
        }
        rows.sort_by_key(|row| std::cmp::Reverse(row.number));
        rows.truncate(query.limit.min(MAX_ROWS));
        Ok(rows)
    }

    fn list_state(&self, state: OutboxState, query: &OutboxQuery) -> Result<Vec<OutboxRow>> {
        let limit = count(query.limit.min(MAX_ROWS) as u64);
        let (state, before) = (state.as_str(), query.before.unwrap_or(i64::MAX));
        let camera = query.camera.as_ref().map(CameraId::as_str);
        let mut values: Vec<&dyn ToSql> = vec![&state, &before, &limit];
        let mut only = String::new();
        let channel = query.channel.as_deref();
        for (column, value) in [("camera", &camera), ("channel", &channel)] {
            if value.is_some() {
                values.push(value);
                only.push_str(&format!(" AND {column} = ?{}", values.len()));
            }
        }
        let index = match (&query.channel, &query.camera) {
            (_, Some(_)) => "outbox_by_camera",
            (Some(_), None) => "outbox_by_channel",
            (None, None) => "outbox_by_state",
        };
        let mut statement = self.connection.prepare_cached(&list_sql(index, &only))?;
        statement.query_and_then(values.as_slice(), outbox_row)?.collect()
    }

    /// What waits for a channel and what was given up. Counts indexes: cheap enough for a gauge.
    pub fn channel_backlog(&self, channel: &str) -> Result<ChannelBacklog> {
        let mut waiting = self.connection.prepare_cached(
            "SELECT count(*), min(queued) FROM outbox INDEXED BY outbox_waiting_by_channel
             WHERE channel = ?1 AND state = 'waiting'",
        )?;
        let (waiting, oldest): (i64, Option<i64>) =
            waiting.query_row([channel], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut dead = self
            .connection
            .prepare_cached("SELECT count(*) FROM outbox WHERE channel = ?1 AND state = 'dead'")?;
        let dead: i64 = dead.query_row([channel], |row| row.get(0))?;
        Ok(ChannelBacklog {
            waiting: from_count(waiting),
            dead: from_count(dead),
            oldest: oldest.map(WallTime),
        })
    }

    /// What left by a channel since a moment, newest first, at most [`MAX_ROWS`]: when, and whether it had a picture or
    /// was a clip. An attempt that failed is not among it, nor what was on its way when the node was killed.
    pub fn sent_since(&self, channel: &str, since: WallTime) -> Result<Vec<(WallTime, bool)>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT max(settled), max(digest IS NULL AND (part > 0 OR snapshot IS NOT NULL))
             FROM outbox INDEXED BY outbox_settled
             WHERE state <> 'waiting' AND settled >= ?2 AND channel = ?1
                 AND (state = 'delivered' OR attempts > 0)
             GROUP BY ifnull(digest, id) ORDER BY max(settled) DESC LIMIT ?3",
        )?;
        statement
            .query_and_then(params![channel, since.0, count(MAX_ROWS as u64)], |row| {
                Ok((WallTime(row.get(0)?), row.get(1)?))
            })?
            .collect()
    }
}

fn list_sql(index: &str, only: &str) -> String {
    format!(
        "SELECT {OUTBOX_COLUMNS} FROM outbox INDEXED BY {index}
         WHERE state = ?1 AND number < ?2{only} ORDER BY number DESC LIMIT ?3"
    )
}

impl Store {
    /// Puts a dead letter back into the queue, as if it had been written now; a clip with its message, if that was
    /// given up too.
    pub fn requeue(&mut self, id: Uuid, now: WallTime) -> Result<Requeued> {
        let transaction = self.begin()?;
        let changed = transaction
            .prepare_cached(&format!("{REQUEUE} WHERE id = ?1 AND state = 'dead'"))?
            .execute(params![id.to_string(), now.0])?;
        if changed == 1 {
            transaction
                .prepare_cached(&format!(
                    "{REQUEUE} WHERE (event, phase, channel) =
                         (SELECT event, phase, channel FROM outbox WHERE id = ?1) AND part = 0 AND state = 'dead'"
                ))?
                .execute(params![id.to_string(), now.0])?;
        }
        transaction.commit()?;
        if changed == 1 {
            return Ok(Requeued::Yes);
        }
        Ok(self.outbox_row(id)?.map_or(Requeued::Unknown, |row| Requeued::Is(row.state)))
    }

    /// Puts dead letters back, of one channel or of all: at most 1,000 a call, so that the writer is not held up.
    /// Returns how many; call again while it is 1,000.
    pub fn requeue_dead(&mut self, channel: Option<&str>, now: WallTime) -> Result<usize> {
        let only = if channel.is_some() { "AND channel = ?1" } else { "AND ?1 IS NULL" };
        Ok(self
            .connection
            .prepare_cached(&format!(
                "{REQUEUE} WHERE number IN (
                     SELECT number FROM outbox WHERE state = 'dead' {only} ORDER BY number LIMIT ?3)"
            ))?
            .execute(params![channel, now.0, count(REQUEUE_BATCH as u64)])?)
    }

    /// Removes an alert that waits or was given up, a message with the clips that would follow it. One that was
    /// delivered stays, and so does one in a digest that is on its way: what it is counted in must stay true.
    /// Returns how many rows are gone.
    pub fn drop_alert(&mut self, id: Uuid) -> Result<usize> {
        let Some(row) = self.outbox_row(id)? else { return Ok(0) };
        let transaction = self.begin()?;
        let only_this = if row.part == 0 { "" } else { "AND part = ?4" };
        let phase = crate::sql::phase_name(row.phase);
        let mut statement = transaction.prepare_cached(&format!(
            "DELETE FROM outbox WHERE event = ?1 AND phase = ?2 AND channel = ?3 AND ?4 >= 0 {only_this}
                 AND (state = 'dead' OR (state = 'waiting' AND digest IS NULL))"
        ))?;
        let is_free = match row.state {
            OutboxState::Waiting => row.digest.is_none(),
            OutboxState::Dead => true,
            OutboxState::Delivered => false,
        };
        let gone = if is_free {
            statement.execute(params![row.event.to_string(), phase, row.channel, row.part])?
        } else {
            0
        };
        drop(statement);
        transaction.commit()?;
        Ok(gone)
    }
}

/// Attempts stay counted; steps that have arrived are not taken again.
const REQUEUE: &str = "UPDATE outbox SET state = 'waiting', settled = NULL, digest = NULL, queued = ?2,
    next_attempt = ?2";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::NewAlert;
    use crate::testing::{FAR, alert, event, store};

    fn filled() -> (tempfile::TempDir, Store) {
        let (folder, mut store) = store();
        for n in 1..=6 {
            let mut event = event(n);
            event.camera = CameraId::parse(if n % 2 == 0 { "door" } else { "yard" }).unwrap();
            let late = NewAlert { created: WallTime(i64::from(n) * 1_000_000), ..alert("wecom") };
            store.start_event(&event, &[late, alert("hook")]).unwrap();
        }
        (folder, store)
    }

    #[test]
    fn what_left_by_a_channel_is_counted_as_its_service_counts_it() {
        let (_folder, mut store) = store();
        for n in 1..=7 {
            let picture = NewAlert { snapshot: (n == 2).then(|| "a.jpg".to_owned()), ..alert("wecom") };
            store.start_event(&event(n), &[picture, alert("hook")]).unwrap();
        }
        let id = |store: &Store, number| store.outbox_at(number).unwrap().unwrap().id;
        let at = |secs: i64| WallTime(secs * 1_000_000);
        // Of every event the first row is that of the channel looked at.
        for (number, when) in [(1, 10), (3, 20), (2, 25)] {
            let id = id(&store, number);
            store.delivered(id, at(when)).unwrap();
        }
        // One was refused by the service, one was given up without an attempt, two went as a digest.
        let refused = id(&store, 5);
        store.dead(refused, at(30), "410").unwrap();
        let digest = store.begin_digest("wecom", 9, 2, FAR).unwrap().unwrap();
        store.digest_delivered(digest.id, at(40)).unwrap();
        store.give_up("wecom", WallTime(i64::MAX), at(50), "too old").unwrap();
        let sent = |since| store.sent_since("wecom", at(since)).unwrap();
        assert_eq!(sent(10), [(at(40), false), (at(30), false), (at(20), true), (at(10), false)]);
        assert_eq!(sent(11).len(), 3);
        assert_eq!(sent(41), []);
        assert_eq!(store.sent_since("hook", at(0)).unwrap(), [(at(25), false)]);
    }

    #[test]
    fn lists_are_narrowed_and_paged() {
        let (_folder, mut store) = filled();
        let id = |store: &Store, number| store.outbox_at(number).unwrap().unwrap().id;
        let (delivered, dead) = (id(&store, 1), id(&store, 3));
        store.delivered(delivered, FAR).unwrap();
        store.dead(dead, FAR, "410").unwrap();
        let numbers = |query: OutboxQuery| -> Vec<i64> {
            store.outbox_list(&query).unwrap().iter().map(|row| row.number).collect()
        };
        let all = || OutboxQuery { limit: 100, ..OutboxQuery::default() };
        assert_eq!(numbers(all()), (1..=12).rev().collect::<Vec<_>>());
        assert_eq!(numbers(OutboxQuery { limit: 2, before: Some(9), ..all() }), [8, 7]);
        assert_eq!(numbers(OutboxQuery { state: Some(OutboxState::Dead), ..all() }), [3]);
        let wecom = || OutboxQuery { channel: Some("wecom".into()), ..all() };
        assert_eq!(numbers(wecom()), [11, 9, 7, 5, 3, 1]);
        let door = CameraId::parse("door").unwrap();
        assert_eq!(numbers(OutboxQuery { camera: Some(door.clone()), ..wecom() }), [11, 7, 3]);
        let waiting = OutboxQuery { camera: Some(door), state: Some(OutboxState::Waiting), ..wecom() };
        assert_eq!(numbers(waiting), [11, 7]);
        let backlog = store.channel_backlog("wecom").unwrap();
        assert_eq!((backlog.waiting, backlog.dead, backlog.oldest), (4, 1, Some(WallTime(3_000_000))));
        assert_eq!(store.channel_backlog("none").unwrap(), ChannelBacklog::default());
    }

    #[test]
    fn dead_letters_can_be_put_back_and_dropped() {
        let (_folder, mut store) = filled();
        let row = store.outbox_at(1).unwrap().unwrap();
        store.retry(row.id, WallTime(5), "limit", 1).unwrap();
        assert_eq!(store.requeue(row.id, FAR).unwrap(), Requeued::Is(OutboxState::Waiting));
        store.dead(row.id, FAR, "410").unwrap();
        assert_eq!(store.requeue(row.id, WallTime(77)).unwrap(), Requeued::Yes);
        let again = store.outbox_at(1).unwrap().unwrap();
        assert_eq!(
            (again.state, again.queued, again.created),
            (OutboxState::Waiting, WallTime(77), row.created)
        );
        assert_eq!((again.sent, again.attempts), (1, 2), "what has arrived is not sent again");
        assert_eq!(store.requeue(Uuid::new_v4(), FAR).unwrap(), Requeued::Unknown);

        for number in 2..=5 {
            let id = store.outbox_at(number).unwrap().unwrap().id;
            store.dead(id, FAR, "410").unwrap();
        }
        assert_eq!(store.requeue_dead(Some("hook"), FAR).unwrap(), 2);
        assert_eq!(store.requeue_dead(None, FAR).unwrap(), 2);
        assert_eq!(store.outbox_counts().unwrap().waiting, 12);

        store.delivered(row.id, FAR).unwrap();
        assert_eq!(store.drop_alert(row.id).unwrap(), 0, "what was delivered is history");
        let waiting = store.outbox_at(3).unwrap().unwrap().id;
        assert_eq!(store.drop_alert(waiting).unwrap(), 1);
        assert_eq!(store.drop_alert(waiting).unwrap(), 0);
        store.begin_digest("wecom", i64::MAX, 100, FAR).unwrap().unwrap();
        let counted = store.outbox_at(5).unwrap().unwrap();
        assert!(counted.digest.is_some());
        assert_eq!(store.drop_alert(counted.id).unwrap(), 0);
    }

    #[test]
    fn every_question_is_answered_from_an_index() {
        let (_folder, store) = filled();
        let first =
            "part > 0 AND (next_attempt <= 7 OR next_attempt > 9) AND EXISTS (SELECT 1 FROM outbox AS first
                         WHERE first.event = outbox.event AND first.phase = outbox.phase
                             AND first.channel = outbox.channel AND first.part = 0
                             AND (first.state = 'delivered'
                                 OR first.state = 'waiting' AND first.digest IS NULL AND first.sent > 0))";
        let unread = "part = 0 AND sent = 0";
        let heads = |index: &str, queue: &str, order: &str| {
            format!(
                "SELECT number FROM outbox INDEXED BY {index}
                 WHERE channel = 'a' AND state = 'waiting' AND digest IS NULL AND {queue} ORDER BY {order} LIMIT 5"
            )
        };
        let by = |index: &str, rest: &str| format!("SELECT * FROM outbox INDEXED BY {index} WHERE {rest}");
        for question in [
            heads("outbox_alerts", unread, "queued, number"),
            heads("outbox_alerts", unread, "queued DESC, number DESC"),
            heads("outbox_alerts", "part = 0 AND sent > 0", "queued, number"),
            heads("outbox_clips", first, "queued, number"),
            by("outbox_by_digest", "digest = 'a' AND state = 'waiting'"),
            by("outbox_waiting_by_channel", "channel = 'a' AND state = 'waiting'"),
            by("outbox_waiting_by_channel", "channel > 'a' AND state = 'waiting' ORDER BY channel LIMIT 1"),
            by("outbox_by_channel", "channel = 'a' AND state = 'dead'"),
            list_sql("outbox_by_state", ""),
            list_sql("outbox_by_channel", " AND channel = 'a'"),
            list_sql("outbox_by_camera", " AND camera = 'a' AND channel = 'b'"),
            "SELECT max(number) FROM outbox".to_owned(),
            "UPDATE outbox SET attempts = 0
             WHERE channel = 'a' AND state = 'waiting' AND next_attempt > 7"
                .to_owned(),
            "UPDATE outbox SET attempts = 0 WHERE channel = 'a' AND state = 'waiting' AND queued < 7"
                .to_owned(),
            "SELECT 1 FROM outbox WHERE (event, phase, channel) =
                 (SELECT event, phase, channel FROM outbox WHERE id = 'a' AND part = 0) AND part > 0"
                .to_owned(),
        ] {
            let mut statement = store.raw().prepare(&format!("EXPLAIN QUERY PLAN {question}")).unwrap();
            let unset: Vec<&dyn ToSql> = vec![&0; statement.parameter_count()];
            let plan: Vec<String> = statement
                .query_map(unset.as_slice(), |row| row.get(3))
                .unwrap()
                .map(Result::unwrap)
                .collect();
            let plan = plan.join("; ");
            assert!(plan.contains("SEARCH"), "{question}: {plan}");
            assert!(!plan.contains("SCAN") && !plan.contains("TEMP B-TREE"), "{question}: {plan}");
        }
    }
}
