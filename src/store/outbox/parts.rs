//! Second parts: the clips that follow a message. They are written in the commit that writes the clip's own row, and where
//! a channel hears of the end only, for the clips before it right after the end was written.

use meerkat_base::{EventId, EventKind, EventPhase, WallTime};
use rusqlite::{Transaction, params};
use uuid::Uuid;

use crate::clips::{ClipRow, ClipState, clips_of, insert_clip};
use crate::database::Store;
use crate::error::Result;
use crate::sql::phase_name;

/// How many face events before the end of a clip are looked at; more do not go on at one camera at the same time.
const FACES_LOOKED_AT: i64 = 256;

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
    /// delivered by itself or waits to be, at the channels that want clips. A clip in which a face event goes on is for
    /// those only that want clips of faces, whatever else goes on in it. Repeating the call changes nothing.
    /// Returns how many parts were new.
    pub fn book_clip(&mut self, clips: &[ClipRow], wishes: &[ClipWish], now: WallTime) -> Result<usize> {
        let transaction = self.begin()?;
        for clip in clips {
            insert_clip(&transaction, clip)?;
        }
        let mut parts = 0;
        for clip in clips.iter().filter(|clip| clip.state != ClipState::SetAside) {
            parts += insert_parts(&transaction, clip, wishes, now)?;
        }
        transaction.commit()?;
        Ok(parts)
    }

    /// These events are over, and their ends are written: the clips that were ready before follow the messages about the
    /// end, where that is all that a channel hears. No clip need come after it that would bring them along. Repeating the
    /// call changes nothing. Returns how many parts were new.
    pub fn follow_ends(&mut self, events: &[EventId], wishes: &[ClipWish], now: WallTime) -> Result<usize> {
        let transaction = self.begin()?;
        let mut parts = 0;
        for event in events {
            for first in firsts(&transaction, *event)?.iter().filter(|first| first.is_end()) {
                let clips = clips_of(&transaction, *event)?;
                parts += insert_films(&transaction, *event, first, &clips, wishes, now)?;
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

impl First {
    fn is_end(&self) -> bool {
        self.phase == phase_name(EventPhase::Ended)
    }
}

/// The messages about an event that clips follow: about its start, or about its end where that is all that a channel
/// hears of it.
fn firsts(transaction: &Transaction<'_>, event: EventId) -> Result<Vec<First>> {
    let mut statement = transaction.prepare_cached(
        "SELECT number, phase, channel, kind FROM outbox
         WHERE event = ?1 AND part = 0 AND state <> 'dead' AND digest IS NULL
             AND (phase = 'started' OR phase = 'ended'
                 AND NOT EXISTS (SELECT 1 FROM outbox AS began
                     WHERE began.event = ?1 AND began.phase = 'started' AND began.channel = outbox.channel
                         AND began.part = 0)
                 AND NOT EXISTS (SELECT 1 FROM outbox_shares AS share
                     WHERE share.event = ?1 AND share.phase = 'started' AND share.channel = outbox.channel))
         ORDER BY number",
    )?;
    let found = statement.query_map([event.to_string()], |row| {
        Ok(First { number: row.get(0)?, phase: row.get(1)?, channel: row.get(2)?, kind: row.get(3)? })
    })?;
    Ok(found.collect::<std::result::Result<_, _>>()?)
}

fn insert_parts(
    transaction: &Transaction<'_>,
    clip: &ClipRow,
    wishes: &[ClipWish],
    now: WallTime,
) -> Result<usize> {
    let Some(event) = clip.event else { return Ok(0) };
    let mut new = 0;
    for first in firsts(transaction, event)? {
        let clips = if first.is_end() {
            // The event may have been too long for one clip: those before had no message yet that they could follow.
            clips_of(transaction, event)?
        } else {
            vec![clip.clone()]
        };
        new += insert_films(transaction, event, &first, &clips, wishes, now)?;
    }
    Ok(new)
}

/// Has clips of an event follow a message about it, as far as its channel wants them.
fn insert_films(
    transaction: &Transaction<'_>,
    event: EventId,
    first: &First,
    clips: &[ClipRow],
    wishes: &[ClipWish],
    now: WallTime,
) -> Result<usize> {
    let wants = |wish: &&ClipWish| {
        wish.channel == first.channel && wish.kinds.iter().any(|kind| kind.as_str() == first.kind)
    };
    let Some(wish) = wishes.iter().find(wants) else { return Ok(0) };
    let mut new = 0;
    for film in clips {
        let is_there = film.state != ClipState::SetAside && film.missing.is_none();
        if !is_there || (!wish.kinds.contains(&EventKind::Face) && shows_a_face_event(transaction, film)?) {
            continue;
        }
        new += insert_part(transaction, event, first, &film.path, now)?;
    }
    Ok(new)
}

/// Whether a face event goes on in a clip: one that shares its file, or any other at that time.
fn shows_a_face_event(transaction: &Transaction<'_>, clip: &ClipRow) -> Result<bool> {
    let micros = i64::try_from(clip.duration.as_micros()).unwrap_or(i64::MAX);
    let mut statement = transaction.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM clips JOIN events ON events.id = clips.event
                 WHERE clips.path = ?1 AND events.kind = ?2)
             OR EXISTS (SELECT 1 FROM (
                     SELECT ended FROM events INDEXED BY events_by_camera_and_kind
                     WHERE camera = ?3 AND kind = ?2 AND started <= ?5 ORDER BY started DESC, id DESC LIMIT ?6)
                 WHERE ended IS NULL OR ended >= ?4)",
    )?;
    let (from, to) = (clip.started.0, clip.started.offset_micros(micros).0);
    Ok(statement.query_row(
        params![clip.path, EventKind::Face.as_str(), clip.camera.as_str(), from, to, FACES_LOOKED_AT],
        |row| row.get(0),
    )?)
}

fn insert_part(
    transaction: &Transaction<'_>,
    event: EventId,
    first: &First,
    path: &str,
    now: WallTime,
) -> Result<usize> {
    let mut statement = transaction.prepare_cached(
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
    )?;
    Ok(statement.execute(params![
        first.number,
        Uuid::new_v4().to_string(),
        path,
        now.0,
        event.to_string(),
        first.phase,
        first.channel
    ])?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use meerkat_base::{CameraId, Event};

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

    #[test]
    fn a_clip_in_which_a_face_event_goes_on_is_for_those_who_may_see_faces() {
        let wishes = [wish("shy", false), wish("open", true)];
        let channels = |store: &Store, event: &Event| -> Vec<String> {
            parts(store, event).into_iter().map(|row| row.channel).collect()
        };
        let (_folder, mut store) = store();
        let (person, face) = (event(2), Event { kind: EventKind::Face, ..event(3) });
        store.start_event(&person, &[alert("shy"), alert("open")]).unwrap();
        store.start_event(&face, &[]).unwrap();
        // The face event shares the file.
        store.book_clip(&[clip(&person, "a.mp4"), clip(&face, "a.mp4")], &wishes, WallTime(9)).unwrap();
        assert_eq!(channels(&store, &person), ["open"]);
        // It has no clips of its own, and goes on all the same: it began within this one, 5 s long.
        store.book_clip(&[clip(&person, "b.mp4")], &wishes, WallTime(9)).unwrap();
        assert_eq!(channels(&store, &person), ["open", "open"]);

        let over = Event { ended: Some(WallTime(4_000_000)), ..face };
        store.end_event(&over, &[]).unwrap();
        let elsewhere =
            Event { kind: EventKind::Face, camera: CameraId::parse("yard").unwrap(), ..event(20) };
        store.start_event(&elsewhere, &[]).unwrap();
        let later = event(21);
        store.start_event(&later, &[alert("shy")]).unwrap();
        store.book_clip(&[clip(&later, "c.mp4")], &wishes, WallTime(9)).unwrap();
        assert_eq!(channels(&store, &later), ["shy"], "over, or at another camera");
    }

    #[test]
    fn who_hears_of_ends_only_gets_every_clip_after_the_end() {
        let (_folder, mut store) = store();
        let wishes = [wish("both", false), wish("ends", false)];
        let began = event(1);
        store.start_event(&began, &[alert("both")]).unwrap();
        // Longer than one clip may be: the first is ready before the end.
        store.book_clip(&[clip(&began, "a.mp4")], &wishes, WallTime(7)).unwrap();
        let over = Event { ended: Some(WallTime(2_000_000)), ..began.clone() };
        store.end_event(&over, &[alert("both"), alert("ends")]).unwrap();
        for _ in 0..2 {
            store.book_clip(&[clip(&began, "b.mp4")], &wishes, WallTime(8)).unwrap();
        }
        let rows = parts(&store, &began);
        let found: Vec<_> = rows
            .iter()
            .map(|row| (row.channel.as_str(), row.phase, row.part, row.clip.as_deref().unwrap()))
            .collect();
        let (started, ended) = (EventPhase::Started, EventPhase::Ended);
        let expected = [
            ("both", started, 1, "a.mp4"),
            ("both", started, 2, "b.mp4"),
            ("ends", ended, 1, "a.mp4"),
            ("ends", ended, 2, "b.mp4"),
        ];
        assert_eq!(found, expected, "each once");
    }

    #[test]
    fn who_hears_of_ends_only_gets_the_clips_before_also_when_the_last_is_set_aside() {
        let (_folder, mut store) = store();
        let wishes = [wish("both", false), wish("ends", false)];
        let began = event(1);
        store.start_event(&began, &[alert("both")]).unwrap();
        store.book_clip(&[clip(&began, "a.mp4")], &wishes, WallTime(7)).unwrap();
        assert_eq!(store.follow_ends(&[began.id], &wishes, WallTime(8)).unwrap(), 0, "it goes on");
        let over = Event { ended: Some(WallTime(2_000_000)), ..began.clone() };
        store.end_event(&over, &[alert("both"), alert("ends")]).unwrap();
        assert_eq!(store.follow_ends(&[began.id, event(9).id], &wishes, WallTime(8)).unwrap(), 1);
        assert_eq!(store.follow_ends(&[began.id], &wishes, WallTime(9)).unwrap(), 0, "once");
        let aside = ClipRow { state: ClipState::SetAside, ..clip(&began, "spool/set-aside/b") };
        assert_eq!(store.book_clip(&[aside], &wishes, WallTime(9)).unwrap(), 0);
        let rows = parts(&store, &began);
        let found: Vec<_> = rows.iter().map(|row| (row.channel.as_str(), row.phase, row.part)).collect();
        assert_eq!(found, [("both", EventPhase::Started, 1), ("ends", EventPhase::Ended, 1)]);
    }
}
