//! What waits for one channel, in the order in which it can be chosen from. Choosing is the caller's.

use std::time::Duration;

use meerkat_base::{CameraId, WallTime};
use rusqlite::{OptionalExtension, params};
use uuid::Uuid;

use super::{FIRST_PART_DEAD, MAX_WAIT, OUTBOX_COLUMNS, OutboxRow, cut, outbox_row};
use crate::database::{Store, StoreReader};
use crate::error::Result;
use crate::events::MAX_ROWS;
use crate::sql::{count, from_count, parsed};

/// No attempt is put off for longer, microseconds: one that is was put off by a clock that was ahead.
const LONGEST_BACKOFF: i64 = 2 * 3_600_000_000;

/// Which parts of alerts wait in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// Messages that nobody has read yet.
    Alerts,
    /// Messages that people have read, and of which something waits still: they may come again and again for a day, and
    /// must not stand before those that nobody knows of.
    Told,
    /// Clips that are due and whose message was delivered: those that wait stand before no other.
    Clips,
}

/// From which end a queue is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// What has waited longest comes first.
    OldestFirst,
    /// What came last comes first.
    NewestFirst,
}

/// One waiting row, as far as choosing needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Number of the row.
    pub number: i64,
    /// Its camera.
    pub camera: CameraId,
    /// When the next attempt may be made; in the past when it is due.
    pub next_attempt_at: WallTime,
    /// Whether people have read its words; what is left of it is a picture, or one of several receivers.
    pub is_told: bool,
}

impl Head {
    /// Whether it may be tried now. A time further ahead than [`MAX_WAIT`] is nobody's plan: the clock was set back.
    pub fn is_due(&self, now: WallTime) -> bool {
        self.next_attempt_at <= now || self.next_attempt_at.0 > far(now)
    }
}

fn far(now: WallTime) -> i64 {
    now.0.saturating_add(i64::try_from(MAX_WAIT.as_micros()).unwrap_or(i64::MAX))
}

/// How far a channel is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Messages that wait, counted no further than asked for.
    pub waiting: u64,
    /// When the one that has waited longest began to.
    pub oldest: Option<WallTime>,
    /// The highest number of a row in the outbox, of whatever state; 0 while there was none.
    pub last_number: i64,
}

impl StoreReader {
    /// What waits for a channel and stands in no digest: at most `limit` rows (no more than [`MAX_ROWS`]). Rows that
    /// are held back until later are left out.
    pub fn heads(
        &self,
        channel: &str,
        queue: Queue,
        order: Order,
        now: WallTime,
        limit: usize,
    ) -> Result<Vec<Head>> {
        let (index, queue) = match queue {
            Queue::Alerts => ("outbox_alerts", "part = 0 AND sent = 0"),
            Queue::Told => ("outbox_alerts", "part = 0 AND sent > 0"),
            Queue::Clips => (
                "outbox_clips",
                "part > 0 AND (next_attempt <= ?3 OR next_attempt > ?4)
                     AND EXISTS (SELECT 1 FROM outbox AS first
                     WHERE first.event = outbox.event AND first.phase = outbox.phase
                         AND first.channel = outbox.channel AND first.part = 0
                         AND (first.state = 'delivered'
                             OR first.state = 'waiting' AND first.digest IS NULL AND first.sent > 0))",
            ),
        };
        let order = match order {
            Order::OldestFirst => "queued, number",
            Order::NewestFirst => "queued DESC, number DESC",
        };
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT number, camera, next_attempt, sent > 0 FROM outbox INDEXED BY {index}
             WHERE channel = ?1 AND state = 'waiting' AND digest IS NULL AND {queue}
                 AND (queued <= ?3 OR queued > ?4)
             ORDER BY {order} LIMIT ?2"
        ))?;
        let limit = count(limit.min(MAX_ROWS) as u64);
        statement
            .query_and_then(params![channel, limit, now.0, far(now)], |row| {
                Ok(Head {
                    number: row.get(0)?,
                    camera: parsed(row, 1, |text| CameraId::from_shown(text).ok())?,
                    next_attempt_at: WallTime(row.get(2)?),
                    is_told: row.get(3)?,
                })
            })?
            .collect()
    }

    /// How far a channel is behind with its messages, counted to `most`. Those in digests, those held back until later and
    /// those that people have read are left out: what is missing of these says nothing of the channel.
    pub fn backlog(&self, channel: &str, now: WallTime, most: u64) -> Result<Backlog> {
        let mut counting = self.connection.prepare_cached(
            "SELECT count(*), min(queued) FROM (
                 SELECT queued FROM outbox INDEXED BY outbox_alerts
                 WHERE channel = ?1 AND state = 'waiting' AND part = 0 AND digest IS NULL AND sent = 0
                     AND (queued <= ?3 OR queued > ?4)
                 ORDER BY queued, number LIMIT ?2)",
        )?;
        let (waiting, oldest): (i64, Option<i64>) = counting
            .query_row(params![channel, count(most), now.0, far(now)], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        let mut last = self.connection.prepare_cached("SELECT ifnull(max(number), 0) FROM outbox")?;
        Ok(Backlog {
            waiting: from_count(waiting),
            oldest: oldest.map(WallTime),
            last_number: last.query_row([], |row| row.get(0))?,
        })
    }

    /// One row by its number.
    pub fn outbox_at(&self, number: i64) -> Result<Option<OutboxRow>> {
        let mut statement = self
            .connection
            .prepare_cached(&format!("SELECT {OUTBOX_COLUMNS} FROM outbox WHERE number = ?1"))?;
        statement.query_and_then([number], outbox_row)?.next().transpose()
    }

    /// One row by its id.
    pub fn outbox_row(&self, id: Uuid) -> Result<Option<OutboxRow>> {
        let mut statement =
            self.connection.prepare_cached(&format!("SELECT {OUTBOX_COLUMNS} FROM outbox WHERE id = ?1"))?;
        statement.query_and_then([id.to_string()], outbox_row)?.next().transpose()
    }
}

impl Store {
    /// Makes everything that waits for a channel due at once: it answers again, and what its failure put off need
    /// wait no longer. What is held back until later stays so. Returns how many rows there were.
    pub fn release(&mut self, channel: &str, now: WallTime) -> Result<usize> {
        let transaction = self.begin()?;
        let mut changed = transaction
            .prepare_cached(
                "UPDATE outbox SET next_attempt = ?2
                 WHERE channel = ?1 AND state = 'waiting' AND next_attempt > ?2
                     AND (queued <= ?2 OR queued > ?3)",
            )?
            .execute(params![channel, now.0, far(now)])?;
        changed += transaction
            .prepare_cached("UPDATE digests SET next_attempt = ?2 WHERE channel = ?1 AND next_attempt > ?2")?
            .execute(params![channel, now.0])?;
        transaction.commit()?;
        Ok(changed)
    }

    /// The wall clock was set by so many microseconds to `now`. What waits has waited as long as before, and is due, for
    /// nobody knows when it would be; what is held back until later keeps the time that people set. Doing it twice keeps
    /// rows younger than they are, and hides none. Returns how many there were.
    pub fn clock_was_set(&mut self, now: WallTime, step: i64) -> Result<usize> {
        // Set forward, everything up to the present moves; what was held until a time that is over by now begins to wait.
        // Set back, only what would lie in the future does, up to the present as it was.
        let (from, until) = if step > 0 { (i64::MIN, now.0) } else { (now.0, now.0.saturating_sub(step)) };
        let transaction = self.begin()?;
        let mut changed = transaction
            .prepare_cached(
                "UPDATE outbox SET queued = min(queued + ?3, ?4)
                 WHERE state = 'waiting' AND queued > ?1 AND queued <= ?2",
            )?
            .execute(params![from, until, step, now.0])?;
        transaction
            .prepare_cached(
                "UPDATE outbox SET next_attempt = ?1
                 WHERE state = 'waiting' AND queued <= ?1 AND next_attempt > ?1",
            )?
            .execute([now.0])?;
        changed += transaction
            .prepare_cached("UPDATE digests SET made = min(made + ?3, ?4) WHERE made > ?1 AND made <= ?2")?
            .execute(params![from, until, step, now.0])?;
        transaction
            .prepare_cached("UPDATE digests SET next_attempt = ?1 WHERE next_attempt > ?1")?
            .execute([now.0])?;
        transaction.commit()?;
        Ok(changed)
    }

    /// A run begins, and the wall clock may have been ahead in the run before. What waits since later than `now` waits since
    /// now and is due, and so is what was put off for longer than anything is. What is held back until later keeps the time
    /// that people set: it shares its message with others, was never tried, and its event is not dated ahead itself. The
    /// newest event shows nothing of the others: it may be dated wrong for as long as it is kept. Repeating the call changes nothing. Returns how many there were.
    pub fn clock_is_new(&mut self, now: WallTime) -> Result<usize> {
        let late = now.0.saturating_add(LONGEST_BACKOFF);
        let transaction = self.begin()?;
        let mut changed = transaction
            .prepare_cached(
                "UPDATE outbox SET queued = ?1, next_attempt = ?1
                 WHERE state = 'waiting' AND queued > ?1 AND (merge_key IS NULL OR attempts > 0
                     OR EXISTS (SELECT 1 FROM events WHERE events.id = outbox.event AND events.started > ?2))",
            )?
            .execute([now.0, late])?;
        changed += transaction
            .prepare_cached(
                "UPDATE outbox SET next_attempt = ?1
                 WHERE state = 'waiting' AND queued <= ?1 AND next_attempt > ?2",
            )?
            .execute([now.0, late])?;
        changed += transaction
            .prepare_cached(
                "UPDATE digests SET made = min(made, ?1), next_attempt = ?1 WHERE made > ?1 OR next_attempt > ?2",
            )?
            .execute([now.0, late])?;
        transaction.commit()?;
        Ok(changed)
    }

    /// Gives up what has waited for a channel since before a moment, digests with what stands in them. A message whose
    /// words have arrived is delivered, for people know; what it lacks is said with it. Returns how many rows there
    /// were. The error is kept where no attempt has left one.
    pub fn give_up(
        &mut self,
        channel: &str,
        queued_before: WallTime,
        now: WallTime,
        error: &str,
    ) -> Result<usize> {
        let transaction = self.begin()?;
        let changed = transaction
            .prepare_cached(
                "UPDATE outbox SET state = CASE WHEN sent > 0 AND part = 0 THEN 'delivered' ELSE 'dead' END,
                     settled = ?3, last_error = ifnull(last_error, ?4)
                 WHERE channel = ?1 AND state = 'waiting' AND queued < ?2",
            )?
            .execute(params![channel, queued_before.0, now.0, cut(error)])?;
        if changed > 0 {
            transaction
                .prepare_cached(
                    "UPDATE outbox SET state = 'dead', settled = ?2, last_error = ?3
                     WHERE channel = ?1 AND state = 'waiting' AND part > 0 AND digest IS NULL
                         AND EXISTS (SELECT 1 FROM outbox AS first
                             WHERE first.event = outbox.event AND first.phase = outbox.phase
                                 AND first.channel = outbox.channel AND first.part = 0
                                 AND first.state = 'dead')",
                )?
                .execute(params![channel, now.0, FIRST_PART_DEAD])?;
            transaction
                .prepare_cached(
                    "DELETE FROM digests WHERE channel = ?1
                         AND NOT EXISTS (SELECT 1 FROM outbox
                             WHERE outbox.digest = digests.id AND outbox.state = 'waiting')",
                )?
                .execute([channel])?;
        }
        transaction.commit()?;
        Ok(changed)
    }

    /// Gives up what waits for channels that are not among `known` and has waited for longer than `patience`.
    pub fn give_up_strangers(
        &mut self,
        known: &[String],
        now: WallTime,
        patience: Duration,
    ) -> Result<usize> {
        let before = now.offset_micros(-i64::try_from(patience.as_micros()).unwrap_or(i64::MAX));
        let mut strangers: Vec<String> = Vec::new();
        {
            // A skip from channel to channel, however many rows each of them has.
            let mut next = self.connection.prepare_cached(
                "SELECT channel FROM outbox INDEXED BY outbox_waiting_by_channel
                 WHERE state = 'waiting' AND channel > ?1 ORDER BY channel LIMIT 1",
            )?;
            let mut last = String::new();
            while let Some(channel) = next.query_row([&last], |row| row.get::<_, String>(0)).optional()? {
                if !known.contains(&channel) {
                    strangers.push(channel.clone());
                }
                last = channel;
            }
        }
        let mut changed = 0;
        for stranger in strangers {
            changed += self.give_up(&stranger, before, now, "there is no channel of this name any more")?;
        }
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::{NewAlert, OutboxState};
    use crate::reports::{Merge, Report, ToldAlert};
    use crate::testing::{FAR, alert, event, store};

    fn fill(store: &mut Store, numbers: std::ops::RangeInclusive<u8>) {
        for n in numbers {
            let late = NewAlert { created: WallTime(i64::from(n) * 1_000_000), ..alert("wecom") };
            store.start_event(&event(n), &[late]).unwrap();
        }
    }

    /// An event whose alert is held back until then, in one message with others.
    fn held(n: u8, until: WallTime) -> Report {
        let merge =
            Some(Merge { key: "quiet".to_owned(), combine: |all, _| *all = serde_json::json!("both") });
        let alert = ToldAlert { alert: NewAlert { created: until, ..alert("wecom") }, merge };
        Report {
            event: event(n),
            detail: None,
            snoozed: false,
            subject: None,
            promises: None,
            attendance: None,
            alerts: vec![alert],
        }
    }

    #[test]
    fn a_queue_can_be_read_from_both_ends_and_waits_are_told() {
        let (_folder, mut store) = store();
        assert_eq!(store.backlog("wecom", FAR, 9).unwrap(), Backlog::default());
        fill(&mut store, 1..=5);
        let numbers = |store: &Store, order| -> Vec<i64> {
            store
                .heads("wecom", Queue::Alerts, order, FAR, 3)
                .unwrap()
                .iter()
                .map(|head| head.number)
                .collect()
        };
        assert_eq!(numbers(&store, Order::OldestFirst), [1, 2, 3]);
        assert_eq!(numbers(&store, Order::NewestFirst), [5, 4, 3]);
        assert_eq!(store.heads("other", Queue::Alerts, Order::OldestFirst, FAR, 9).unwrap(), []);
        let backlog = store.backlog("wecom", FAR, 3).unwrap();
        assert_eq!((backlog.waiting, backlog.oldest, backlog.last_number), (3, Some(WallTime(1_000_000)), 5));

        assert_eq!(store.backlog("wecom", WallTime(2_500_000), 9).unwrap().waiting, 2, "three are held back");
        let early = store.heads("wecom", Queue::Alerts, Order::NewestFirst, WallTime(2_500_000), 9).unwrap();
        assert_eq!(early.iter().map(|head| head.number).collect::<Vec<_>>(), [2, 1]);

        let first = store.outbox_at(1).unwrap().unwrap();
        assert_eq!(store.outbox_row(first.id).unwrap().unwrap(), first);
        store.retry(first.id, WallTime(60_000_000), "no", 0).unwrap();
        let head = &store.heads("wecom", Queue::Alerts, Order::OldestFirst, FAR, 1).unwrap()[0];
        assert!(!head.is_due(WallTime(59_999_999)) && head.is_due(WallTime(60_000_000)));
        assert!(head.is_due(WallTime(-300_000_000_000)), "the clock was set back by days");
        assert_eq!(store.release("wecom", WallTime(5_000_000)).unwrap(), 1);
        assert!(
            store.heads("wecom", Queue::Alerts, Order::OldestFirst, FAR, 1).unwrap()[0]
                .is_due(WallTime(5_000_000))
        );
    }

    #[test]
    fn what_people_have_read_neither_counts_as_a_backlog_nor_stands_before_the_rest() {
        let (_folder, mut store) = store();
        fill(&mut store, 1..=5);
        for number in 1..=2 {
            let id = store.outbox_at(number).unwrap().unwrap().id;
            store.retry(id, WallTime(60_000_000), "mailbox full", 1).unwrap();
        }
        let numbers = |queue, secs: i64, limit| -> Vec<i64> {
            let now = WallTime(secs * 1_000_000);
            let heads = store.heads("wecom", queue, Order::OldestFirst, now, limit).unwrap();
            heads.iter().map(|head| head.number).collect()
        };
        assert_eq!(numbers(Queue::Alerts, 59, 2), [3, 4]);
        assert_eq!(numbers(Queue::Alerts, 60, 3), [3, 4, 5], "nor when it is due");
        assert_eq!(numbers(Queue::Told, 59, 9), [1, 2]);
        let backlog = store.backlog("wecom", WallTime(59_000_000), 9).unwrap();
        assert_eq!((backlog.waiting, backlog.oldest), (3, Some(WallTime(3_000_000))));
    }

    #[test]
    fn a_channel_that_answers_again_does_not_get_what_is_held_back() {
        let (_folder, mut store) = store();
        let night = WallTime(2_000_000);
        let morning = WallTime(9_000_000);
        fill(&mut store, 1..=1);
        let failed = store.outbox_at(1).unwrap().unwrap().id;
        store.retry(failed, WallTime(8_000_000), "status 503", 0).unwrap();
        store.report(&[held(2, morning)], night).unwrap();
        assert_eq!(store.release("wecom", night).unwrap(), 1, "what its failure put off");
        // It is one message in the morning still.
        store.report(&[held(3, morning)], night).unwrap();
        let row = store.outbox_at(2).unwrap().unwrap();
        assert_eq!((row.next_attempt_at, row.payload), (morning, serde_json::json!("both")));
        assert_eq!(store.outbox_at(3).unwrap(), None);
    }

    #[test]
    fn a_clock_that_is_set_makes_nothing_older_and_hides_nothing() {
        const DAY: i64 = 86_400_000_000;
        for step in [40 * DAY, 3_600_000_000, -3_600_000_000, -40 * DAY] {
            let (_folder, mut store) = store();
            // By the clock as it was: 100 days. Two wait, one of them for its next attempt; one is held until later.
            let old = WallTime(100 * DAY);
            for (n, queued) in [(1, -600_000_000), (2, -5_000_000), (3, 7_200_000_000)] {
                let alert = NewAlert { created: old.offset_micros(queued), ..alert("wecom") };
                store.start_event(&event(n), &[alert]).unwrap();
            }
            let id = |store: &Store, number| store.outbox_at(number).unwrap().unwrap().id;
            let tried = id(&store, 1);
            store.retry(tried, old.offset_micros(300_000_000), "busy", 0).unwrap();
            let now = old.offset_micros(step);
            store.clock_was_set(now, step).unwrap();
            let due = |store: &Store| -> Vec<i64> {
                let heads = store.heads("wecom", Queue::Alerts, Order::OldestFirst, now, 9).unwrap();
                heads.iter().filter(|head| head.is_due(now)).map(|head| head.number).collect()
            };
            let held_is_due = !(-40 * DAY + 1..=7_200_000_000).contains(&step);
            assert_eq!(due(&store), if held_is_due { vec![1, 2, 3] } else { vec![1, 2] }, "{step}");
            let age = |store: &Store, number| now.0 - store.outbox_at(number).unwrap().unwrap().queued.0;
            let day = now.offset_micros(-DAY);
            assert_eq!(store.give_up("wecom", day, now, "too old").unwrap(), 0, "{step}");
            assert!(age(&store, 1) <= 600_000_000 && age(&store, 1) >= 0, "{step}: {}", age(&store, 1));
            // Nobody knew whether it was done.
            store.clock_was_set(now, step).unwrap();
            assert_eq!(due(&store).len(), if held_is_due { 3 } else { 2 }, "{step}");
            assert_eq!(store.give_up("wecom", day, now, "too old").unwrap(), 0, "{step}");
        }
    }

    #[test]
    fn at_a_start_a_clock_that_was_ahead_hides_nothing_and_what_is_held_keeps_its_time() {
        const MINUTE: i64 = 60_000_000;
        let (_folder, mut store) = store();
        let now = WallTime(100 * 60 * MINUTE);
        let at = |minutes: i64| now.offset_micros(minutes * MINUTE);
        // The newest event is dated eight hours ahead, and so is its alert; two others have failed.
        let mut newest = event(1);
        newest.started = at(480);
        for (event, created) in [(newest, at(480)), (event(2), at(-60)), (event(3), at(-60))] {
            store.start_event(&event, &[NewAlert { created, ..alert("wecom") }]).unwrap();
        }
        store.report(&[held(4, at(450))], now).unwrap();
        // Gathered for a minute by the clock that was ahead, behind a channel that did not answer.
        let mut gathered = held(5, at(481));
        gathered.event.started = at(480);
        gathered.alerts[0].merge.as_mut().unwrap().key = "minute".to_owned();
        store.report(&[gathered], at(480)).unwrap();
        for (number, next) in [(2, at(10)), (3, at(470))] {
            let id = store.outbox_at(number).unwrap().unwrap().id;
            store.retry(id, next, "busy", 0).unwrap();
        }
        let times = |store: &Store| -> Vec<(WallTime, WallTime)> {
            let rows = (1..=5).map(|number| store.outbox_at(number).unwrap().unwrap());
            rows.map(|row| (row.queued, row.next_attempt_at)).collect()
        };
        assert_eq!(store.clock_is_new(now).unwrap(), 3);
        let expected = [(now, now), (at(-60), at(10)), (at(-60), now), (at(450), at(450)), (now, now)];
        assert_eq!(times(&store), expected);
        assert_eq!(store.clock_is_new(now).unwrap(), 0, "at the next start, too");
        assert_eq!(times(&store), expected);
    }

    #[test]
    fn what_has_waited_too_long_is_given_up() {
        let (_folder, mut store) = store();
        fill(&mut store, 1..=4);
        let tried = store.outbox_at(2).unwrap().unwrap().id;
        store.retry(tried, WallTime(60_000_000), "status 503", 0).unwrap();
        let halved = store.outbox_at(3).unwrap().unwrap().id;
        store.retry(halved, WallTime(60_000_000), "no picture", 1).unwrap();
        assert_eq!(store.give_up("wecom", WallTime(3_000_001), FAR, "too old").unwrap(), 3);
        let row = store.outbox_at(3).unwrap().unwrap();
        assert_eq!((row.state, row.last_error.as_deref()), (OutboxState::Delivered, Some("no picture")));
        let error = |number| store.outbox_at(number).unwrap().unwrap().last_error;
        assert_eq!((error(1).as_deref(), error(2).as_deref()), (Some("too old"), Some("status 503")));
        assert_eq!(store.outbox_at(1).unwrap().unwrap().state, OutboxState::Dead);
        assert_eq!(store.backlog("wecom", FAR, 9).unwrap().waiting, 1);

        let known = ["wecom".to_owned()];
        let hour = Duration::from_secs(3_600);
        assert_eq!(store.give_up_strangers(&known, FAR, hour).unwrap(), 0);
        assert_eq!(store.give_up_strangers(&[], WallTime(10_000_000), hour).unwrap(), 0, "not yet");
        assert_eq!(store.give_up_strangers(&[], FAR, hour).unwrap(), 1);
    }
}
