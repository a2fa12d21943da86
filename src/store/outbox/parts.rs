//! Second parts: the clips that follow a message. They are written in the commit that writes the clip's own row.

use meerkat_base::{EventKind, WallTime};
use rusqlite::{Transaction, params};
use uuid::Uuid;

use crate::clips::{ClipRow, ClipState, insert_clip};
use crate::database::Store;
use crate::error::Result;

/// A channel that wants clips.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClipWish {
    /// Name of the channel.
    pub channel: String,
    /// Kinds of events whose clips may leave the node through it.
    pub kinds: Vec<EventKind>,
}

impl Store {
    /// Writes the rows of a clip and, in the same commit, one part for each message about their events that was
    /// delivered by itself or waits to be, at the channels that want clips. Repeating the call changes nothing.
    /// Returns how many parts were new.
    pub fn book_clip(&mut self, clips: &[ClipRow], wishes: &[ClipWish], now: WallTime) -> Result<usize> {
        let transaction = self.begin()?;
        let mut parts = 0;
        for clip in clips {
            insert_clip(&transaction, clip)?;
            if clip.state != ClipState::SetAside {
                parts += insert_parts(&transaction, clip, wishes, now)?;
            }
        }
        transaction.commit()?;
        Ok(parts)
    }
}

/// A message about the event of a clip.
struct First {
    number: i64,
    phase: String,
    channel: String,
    kind: String,
}

fn insert_parts(
    transaction: &Transaction<'_>,
    clip: &ClipRow,
    wishes: &[ClipWish],
    now: WallTime,
) -> Result<usize> {
    let Some(event) = clip.event.map(|event| event.to_string()) else { return Ok(0) };
    let firsts: Vec<First> = transaction
        .prepare_cached(
            "SELECT number, phase, channel, kind FROM outbox
             WHERE event = ?1 AND part = 0 AND state <> 'dead' AND digest IS NULL AND phase = 'started'
             ORDER BY number",
        )?
        .query_map([&event], |row| {
            Ok(First { number: row.get(0)?, phase: row.get(1)?, channel: row.get(2)?, kind: row.get(3)? })
        })?
        .collect::<std::result::Result<_, _>>()?;
    let mut new = 0;
    for first in firsts {
        let wants = |wish: &ClipWish| {
            wish.channel == first.channel && wish.kinds.iter().any(|kind| kind.as_str() == first.kind)
        };
        if !wishes.iter().any(wants) {
            continue;
        }
        new += transaction
            .prepare_cached(
                "INSERT INTO outbox (id, key, event, phase, channel, part, camera, kind, payload, snapshot, clip,
                                     created, queued, next_attempt)
                 SELECT ?2, key, event, phase, channel,
                        (SELECT max(part) + 1 FROM outbox AS other
                         WHERE other.event = outbox.event AND other.phase = outbox.phase
                             AND other.channel = outbox.channel),
                        camera, kind, payload, snapshot, ?3, ?4, ?4, ?4
                 FROM outbox
                 WHERE number = ?1 AND NOT EXISTS (SELECT 1 FROM outbox AS same
                     WHERE same.event = ?5 AND same.phase = ?6 AND same.channel = ?7 AND same.clip = ?3)",
            )?
            .execute(params![
                first.number,
                Uuid::new_v4().to_string(),
                clip.path,
                now.0,
                event,
                first.phase,
                first.channel
            ])?;
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use meerkat_base::Event;

    use super::*;
    use crate::outbox::{Order, OutboxRow, OutboxState, Queue};
    use crate::testing::{FAR, alert, event, store};

    fn clip(event: &Event, path: &str) -> ClipRow {
        ClipRow {
            event: Some(event.id),
            camera: event.camera.clone(),
            path: path.into(),
            started: event.started,
            duration: Duration::from_secs(5),
            frames: 30,
            bytes: 12_345,
            sha256: None,
            state: ClipState::Ok,
            skipped: 0,
            missing: None,
        }
    }

    fn wish(channel: &str, faces: bool) -> ClipWish {
        let mut kinds = vec![EventKind::Person];
        kinds.extend(faces.then_some(EventKind::Face));
        ClipWish { channel: channel.into(), kinds }
    }

    fn parts(store: &Store, event: &Event) -> Vec<OutboxRow> {
        let mut rows = store.alerts_of(event.id).unwrap();
        rows.retain(|row| row.part > 0);
        rows
    }

    #[test]
    fn a_clip_follows_its_message_and_no_other() {
        let (_folder, mut store) = store();
        let event = event(1);
        store.start_event(&event, &[alert("waits"), alert("came"), alert("died"), alert("deaf")]).unwrap();
        let id = |channel: &str| {
            store.alerts_of(event.id).unwrap().into_iter().find(|row| row.channel == channel).unwrap().id
        };
        let (waits, came, died) = (id("waits"), id("came"), id("died"));
        store.delivered(came, FAR).unwrap();
        store.dead(died, FAR, "410").unwrap();
        let wishes = [wish("waits", false), wish("came", false), wish("died", false), wish("other", true)];
        for _ in 0..2 {
            store.book_clip(&[clip(&event, "a.mp4")], &wishes, WallTime(7)).unwrap();
        }
        let rows = parts(&store, &event);
        let found: Vec<_> = rows.iter().map(|row| (row.channel.as_str(), row.part, row.key)).collect();
        assert_eq!(found, [("waits", 1, waits), ("came", 1, came)], "and only once");
        assert_eq!((rows[0].clip.as_deref(), rows[0].queued), (Some("a.mp4"), WallTime(7)));
        assert_eq!(rows[0].payload["text"], "somebody is at the door");
        assert_eq!(store.event(event.id).unwrap().unwrap().clips.len(), 1);

        let queue = |store: &Store, channel| {
            store.heads(channel, Queue::Clips, Order::OldestFirst, FAR, 9).unwrap().len()
        };
        assert_eq!((queue(&store, "waits"), queue(&store, "came")), (0, 1), "only after its message");
        store.delivered(waits, FAR).unwrap();
        assert_eq!(queue(&store, "waits"), 1);
        assert_eq!(store.heads("came", Queue::Alerts, Order::OldestFirst, FAR, 9).unwrap(), []);

        store.book_clip(&[clip(&event, "b.mp4")], &wishes, WallTime(8)).unwrap();
        let numbers: Vec<u32> = parts(&store, &event).iter().map(|row| row.part).collect();
        assert_eq!(numbers, [1, 1, 2, 2], "the next part of a long clip");

        store.retry(rows[1].id, WallTime(60_000_000), "cannot be read", 0).unwrap();
        let now = WallTime(9_000_000);
        let heads = store.heads("came", Queue::Clips, Order::OldestFirst, now, 1).unwrap();
        let next = store.outbox_at(heads[0].number).unwrap().unwrap();
        assert_eq!(next.part, 2, "one that waits stands before no other");
    }

    #[test]
    fn clips_go_the_way_of_a_message_that_dies_or_stands_in_a_digest() {
        let (_folder, mut store) = store();
        let wishes = [wish("wecom", false)];
        let events = [event(1), event(2), event(3), event(4)];
        for event in &events {
            store.start_event(event, &[alert("wecom")]).unwrap();
        }
        for event in &events[..3] {
            store.book_clip(&[clip(event, &format!("{}.mp4", event.id))], &wishes, WallTime(9)).unwrap();
        }
        let first = store.alerts_of(events[0].id).unwrap()[0].id;
        store.dead(first, FAR, "410").unwrap();
        let left = parts(&store, &events[0]).remove(0);
        assert_eq!(left.state, OutboxState::Dead);
        assert!(left.last_error.unwrap().contains("given up"));

        let digest = store.begin_digest("wecom", i64::MAX, 100, FAR).unwrap().unwrap();
        assert_eq!(store.digest_counts(digest.id).unwrap()[0].count, 3, "clips are not counted");
        assert_eq!(store.digest_delivered(digest.id, FAR).unwrap(), 3 + 2);
        // A clip that is ready only now has nothing to follow.
        store.book_clip(&[clip(&events[3], "late.mp4")], &wishes, WallTime(9)).unwrap();
        assert_eq!(parts(&store, &events[3]), []);
    }

    #[test]
    fn faces_and_failures_stay_at_home() {
        let (_folder, mut store) = store();
        let face = Event { kind: EventKind::Face, ..event(1) };
        store.start_event(&face, &[alert("shy"), alert("open")]).unwrap();
        let aside = ClipRow { state: ClipState::SetAside, ..clip(&face, "spool/set-aside/a") };
        let wishes = [wish("shy", false), wish("open", true)];
        assert_eq!(store.book_clip(&[aside, clip(&face, "a.mp4")], &wishes, WallTime(9)).unwrap(), 1);
        assert_eq!(parts(&store, &face)[0].channel, "open");
    }
}
