//! The rows behind deletion: which evidence is the oldest that may go, and the two commits around the removal of its
//! files (marked before, gone after). Which limit holds and when the disk needs room is decided elsewhere.

use meerkat_base::{EventId, EventKind, Evidence, WallTime};
use rusqlite::params;

use crate::database::{Store, StoreReader};
use crate::error::Result;
use crate::sql::{count, from_count};

/// One piece of evidence that has a row and is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evictable {
    /// What it is.
    pub evidence: Evidence,
    /// Path relative to the data folder.
    pub path: String,
    /// Time of its first frame.
    pub at: WallTime,
    /// Size in bytes, as it was written.
    pub bytes: u64,
    /// What happened in it: the kinds of its events, each once; none for videos and segments.
    pub events: Vec<EventKind>,
    /// Whether an alert about one of its events is not delivered yet.
    pub awaited: bool,
}

impl Evictable {
    /// The camera's folder.
    pub fn camera(&self) -> &str {
        camera_of(&self.path)
    }
}

/// What lies at a path.
pub fn evidence_at(path: &str) -> Evidence {
    match path.split('/').take(2).collect::<Vec<_>>()[..] {
        ["capture", "image"] => Evidence::Image,
        ["capture", "video"] => Evidence::Video,
        ["capture", "segment"] => Evidence::Segment,
        ["spool", ..] => Evidence::Spool,
        _ => Evidence::Clip,
    }
}

/// The folder of the camera of what lies at `capture/<kind>/<camera>/…`; of a spool, the camera in its name. Empty for
/// anything else.
pub fn camera_of(path: &str) -> &str {
    if let Some(below) = path.strip_prefix("spool/") {
        let name = below.rsplit('/').next().unwrap_or_default();
        // <start>_<camera>_<kind>_<random>
        let camera = name.split_once('_').and_then(|(_, rest)| rest.rsplit_once('_'));
        return camera.and_then(|(rest, _)| rest.rsplit_once('_')).map_or("", |(camera, _)| camera);
    }
    path.split('/').nth(2).filter(|_| path.starts_with("capture/")).unwrap_or_default()
}

/// A place in the list of what may go, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvictPlace {
    clips: (i64, i64),
    snapshots: (i64, i64),
}

impl Default for EvictPlace {
    /// The beginning.
    fn default() -> Self {
        Self { clips: (i64::MIN, i64::MIN), snapshots: (i64::MIN, i64::MIN) }
    }
}

impl From<WallTime> for EvictPlace {
    /// Before everything of that moment.
    fn from(at: WallTime) -> Self {
        Self { clips: (at.0, i64::MIN), snapshots: (at.0, i64::MIN) }
    }
}

/// A place among the events, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventPlace {
    started: i64,
    number: i64,
}

/// An event of which no file is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BareEvent {
    number: i64,
    /// Its camera as it is shown.
    pub camera: String,
    /// When it began.
    pub started: WallTime,
}

const CLIPS: &str = "SELECT number, path, started, bytes, event FROM clips
     WHERE kept = 0 AND deleting = 0 AND (started, number) > (?1, ?2) ORDER BY started, number LIMIT ?3";
const SNAPSHOTS: &str = "SELECT number, path, taken, bytes, event FROM snapshots
     WHERE kept = 0 AND deleting = 0 AND (taken, number) > (?1, ?2) ORDER BY taken, number LIMIT ?3";

struct Found {
    number: i64,
    path: String,
    at: i64,
    bytes: u64,
    event: Option<String>,
}

impl StoreReader {
    /// What may go after a place, oldest first, clips and snapshots together; looks at `limit` rows and returns the
    /// place to go on from. Nothing is left when that is where it began.
    pub fn evictable(&self, after: EvictPlace, limit: usize) -> Result<(Vec<Evictable>, EvictPlace)> {
        let page = |sql: &str, (at, number): (i64, i64)| -> Result<Vec<Found>> {
            let mut statement = self.connection.prepare_cached(sql)?;
            let rows = statement.query_map(params![at, number, count(limit as u64)], |row| {
                Ok(Found {
                    number: row.get(0)?,
                    path: row.get(1)?,
                    at: row.get(2)?,
                    bytes: from_count(row.get(3)?),
                    event: row.get(4)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        let mut clips = page(CLIPS, after.clips)?.into_iter().peekable();
        let mut snapshots = page(SNAPSHOTS, after.snapshots)?.into_iter().peekable();
        let (mut place, mut found) = (after, Vec::new());
        for _ in 0..limit {
            let clip_first = match (clips.peek(), snapshots.peek()) {
                (Some(clip), Some(snapshot)) => clip.at <= snapshot.at,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => break,
            };
            if clip_first {
                let Some(row) = clips.next() else { break };
                place.clips = (row.at, row.number);
                found.extend(self.evictable_clip(row)?);
            } else {
                let Some(row) = snapshots.next() else { break };
                place.snapshots = (row.at, row.number);
                let (events, awaited) = self.about(row.event.as_deref())?;
                found.push(Evictable {
                    evidence: Evidence::Snapshot,
                    path: row.path,
                    at: WallTime(row.at),
                    bytes: row.bytes,
                    events: events.into_iter().collect(),
                    awaited,
                });
            }
        }
        Ok((found, place))
    }

    /// A clip is listed with the first of its rows, and not at all while another of them is kept.
    fn evictable_clip(&self, row: Found) -> Result<Option<Evictable>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT number, event, kept FROM clips WHERE path = ?1 ORDER BY number")?;
        let rows = statement.query_map([&row.path], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Option<String>>(1)?, row.get::<_, bool>(2)?))
        })?;
        let rows: Vec<_> = rows.collect::<Result<_, _>>()?;
        if rows.first().is_some_and(|first| first.0 != row.number) || rows.iter().any(|(_, _, kept)| *kept) {
            return Ok(None);
        }
        let (mut events, mut awaited) = (Vec::new(), false);
        for (_, event, _) in &rows {
            let (kind, waits) = self.about(event.as_deref())?;
            events.extend(kind.filter(|kind| !events.contains(kind)));
            awaited |= waits;
        }
        let evidence = evidence_at(&row.path);
        Ok(Some(Evictable {
            evidence,
            path: row.path,
            at: WallTime(row.at),
            bytes: row.bytes,
            events,
            awaited,
        }))
    }

    /// What happened in an event, and whether an alert about it is not delivered yet.
    fn about(&self, event: Option<&str>) -> Result<(Option<EventKind>, bool)> {
        let Some(id) = event else { return Ok((None, false)) };
        let mut statement = self.connection.prepare_cached(ABOUT)?;
        let (kind, waits) =
            statement.query_row([id], |row| Ok((row.get::<_, Option<String>>(0)?, row.get(1)?)))?;
        Ok((kind.and_then(|kind| kind.parse().ok()), waits))
    }

    /// Paths whose deletion was begun and is not over: a crash came between, or a file could not be removed. In their
    /// order, those after a path (all come after the empty one).
    pub fn deletions_begun(&self, after: &str, limit: usize) -> Result<Vec<String>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT path FROM clips WHERE deleting = 1 AND path > ?1
             UNION SELECT path FROM snapshots WHERE deleting = 1 AND path > ?1 ORDER BY path LIMIT ?2",
        )?;
        let rows = statement.query_map(params![after, count(limit as u64)], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Looks at so many events that began before a moment, oldest first, after a place; finds those that are over, not
    /// kept, and have neither clip nor snapshot nor a waiting alert. Returns them and the place to go on from; none
    /// when there are no more. Takes as long with a million events that have their clips as with none.
    pub fn bare_events(
        &self,
        after: Option<EventPlace>,
        before: WallTime,
        looks: usize,
    ) -> Result<(Vec<BareEvent>, Option<EventPlace>)> {
        let after = after.unwrap_or(EventPlace { started: i64::MIN, number: i64::MIN });
        let mut statement = self.connection.prepare_cached(&events_by_age())?;
        let mut rows =
            statement.query(params![after.started, before.0, after.number, count(looks as u64)])?;
        let (mut bare, mut place) = (Vec::new(), None);
        while let Some(row) = rows.next()? {
            let (number, started) = (row.get(0)?, row.get(2)?);
            place = Some(EventPlace { started, number });
            if row.get(3)? {
                bare.push(BareEvent { number, camera: row.get(1)?, started: WallTime(started) });
            }
        }
        Ok((bare, place))
    }
}

fn events_by_age() -> String {
    format!(
        "SELECT number, camera, started, {BARE} FROM events
         WHERE started >= ?1 AND started < ?2 AND (started > ?1 OR number > ?3)
         ORDER BY started, number LIMIT ?4"
    )
}

/// The plus sign keeps SQLite from looking through everything that waits: an event has few alerts.
const ABOUT: &str = "SELECT (SELECT kind FROM events WHERE id = ?1),
     EXISTS (SELECT 1 FROM outbox WHERE event = ?1 AND +state = 'waiting')";

const BARE: &str = "ended IS NOT NULL AND kept = 0
     AND NOT EXISTS (SELECT 1 FROM clips WHERE clips.event = events.id)
     AND NOT EXISTS (SELECT 1 FROM snapshots WHERE snapshots.event = events.id)
     AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.event = events.id AND +state = 'waiting')";

impl Store {
    /// Marks rows of clips and snapshots before their files are removed. Returns the paths that were: not those that
    /// were kept meanwhile.
    pub fn begin_deletion(&mut self, paths: &[String]) -> Result<Vec<String>> {
        let transaction = self.begin()?;
        let mut marked = Vec::new();
        {
            let mut clips = transaction.prepare_cached(
                "UPDATE clips SET deleting = 1 WHERE path = ?1
                 AND NOT EXISTS (SELECT 1 FROM clips AS other WHERE other.path = ?1 AND other.kept = 1)",
            )?;
            let mut snapshots = transaction
                .prepare_cached("UPDATE snapshots SET deleting = 1 WHERE path = ?1 AND kept = 0")?;
            for path in paths {
                if clips.execute([path])? + snapshots.execute([path])? > 0 {
                    marked.push(path.clone());
                }
            }
        }
        transaction.commit()?;
        Ok(marked)
    }

    /// Removes the rows that were marked, after their files.
    pub fn finish_deletion(&mut self, paths: &[String]) -> Result<()> {
        let transaction = self.begin()?;
        {
            let mut clips =
                transaction.prepare_cached("DELETE FROM clips WHERE path = ?1 AND deleting = 1")?;
            let mut snapshots =
                transaction.prepare_cached("DELETE FROM snapshots WHERE path = ?1 AND deleting = 1")?;
            for path in paths {
                clips.execute([path])?;
                snapshots.execute([path])?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// Removes rows of events, with their sightings, unless something of them has come meanwhile. Returns how many.
    pub fn forget_events(&mut self, events: &[BareEvent]) -> Result<usize> {
        let transaction = self.begin()?;
        let mut forgotten = 0;
        {
            let mut statement =
                transaction.prepare_cached(&format!("DELETE FROM events WHERE number = ?1 AND {BARE}"))?;
            for event in events {
                forgotten += statement.execute([event.number])?;
            }
        }
        transaction.commit()?;
        Ok(forgotten)
    }

    /// Notes that the disk did not take everything of an event's recording.
    pub fn note_recording_refused(&mut self, event: EventId) -> Result<()> {
        self.connection
            .prepare_cached("UPDATE events SET recording_refused = 1 WHERE id = ?1")?
            .execute([event.to_string()])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clips::SnapshotRow;
    use crate::keep::KeepTarget;
    use crate::testing::{FAR, alert, clip, event, store};

    fn paths(found: &[Evictable]) -> Vec<&str> {
        found.iter().map(|one| one.path.rsplit('/').next().unwrap()).collect()
    }

    /// Six events with a clip each, a snapshot for every other one.
    fn filled() -> (tempfile::TempDir, Store) {
        let (folder, mut store) = store();
        for n in 1..=6_u8 {
            let event = event(n);
            store.start_event(&event, &[]).unwrap();
            store.add_clip(&clip(&event, &format!("capture/clip/door/2026-11-20/{n}.mp4"))).unwrap();
            if n % 2 == 0 {
                let path = format!("capture/clip/door/2026-11-20/{n}.jpg");
                let taken = event.started.offset_micros(1);
                store.add_snapshot(&SnapshotRow { event: event.id, path, taken, bytes: 9 }).unwrap();
            }
        }
        (folder, store)
    }

    #[test]
    fn the_oldest_go_first_and_what_is_kept_is_not_listed() {
        let (_folder, mut store) = filled();
        let all = store.evictable(EvictPlace::default(), 99).unwrap().0;
        assert_eq!(
            paths(&all),
            ["1.mp4", "2.mp4", "2.jpg", "3.mp4", "4.mp4", "4.jpg", "5.mp4", "6.mp4", "6.jpg"]
        );
        assert_eq!((all[0].evidence, all[2].evidence), (Evidence::Clip, Evidence::Snapshot));
        assert_eq!((all[0].camera(), all[0].events.as_slice()), ("door", &[EventKind::Person][..]));

        store.keep(&KeepTarget::Event(event(2).id), true).unwrap();
        // Another event of the same clip: it is listed once, and not while one of the two is kept.
        store.add_clip(&clip(&event(1), "capture/clip/door/2026-11-20/3.mp4")).unwrap();
        store.add_clip(&clip(&event(2), "capture/clip/door/2026-11-20/4.mp4")).unwrap();
        let (mut place, mut seen) = (EvictPlace::default(), Vec::new());
        loop {
            let (page, next) = store.evictable(place, 2).unwrap();
            if next == place {
                break;
            }
            seen.extend(page);
            place = next;
        }
        assert_eq!(paths(&seen), ["1.mp4", "3.mp4", "4.jpg", "5.mp4", "6.mp4", "6.jpg"]);
    }

    #[test]
    fn an_alert_that_is_not_delivered_is_told() {
        let (_folder, mut store) = filled();
        let waiting = event(3);
        store.end_event(&waiting, &[alert("wecom")]).unwrap();
        let awaited = |store: &Store| -> Vec<String> {
            let found = store.evictable(EvictPlace::default(), 99).unwrap().0;
            found.into_iter().filter(|one| one.awaited).map(|one| one.path).collect()
        };
        assert_eq!(awaited(&store), ["capture/clip/door/2026-11-20/3.mp4"]);
        let row = store.due(FAR, None, 9).unwrap().remove(0);
        store.delivered(row.id, FAR).unwrap();
        assert_eq!(awaited(&store), [""; 0]);
    }

    #[test]
    fn rows_are_marked_before_and_removed_after_their_files() {
        let (_folder, mut store) = filled();
        let (one, kept, shot) = (
            "capture/clip/door/2026-11-20/1.mp4".to_owned(),
            "capture/clip/door/2026-11-20/2.mp4".to_owned(),
            "capture/clip/door/2026-11-20/4.jpg".to_owned(),
        );
        store.keep(&KeepTarget::Path(kept.clone()), true).unwrap();
        let marked = store.begin_deletion(&[one.clone(), kept.clone(), shot.clone()]).unwrap();
        assert_eq!(marked, [one.clone(), shot.clone()], "what was kept meanwhile stays");
        assert_eq!(store.deletions_begun("", 9).unwrap(), [one.clone(), shot.clone()]);
        assert_eq!(store.deletions_begun("", 1).unwrap(), std::slice::from_ref(&one));
        assert_eq!(store.deletions_begun(&one, 9).unwrap(), std::slice::from_ref(&shot));
        let row = store.event(event(1).id).unwrap().unwrap();
        assert!(row.clips.is_empty(), "what is being deleted is not shown");
        assert_eq!(store.event(event(4).id).unwrap().unwrap().snapshot, None);
        assert!(!paths(&store.evictable(EvictPlace::default(), 99).unwrap().0).contains(&"1.mp4"));
        assert_eq!(store.keep(&KeepTarget::Path(one.clone()), true).unwrap(), None, "too late");
        store.finish_deletion(&marked).unwrap();
        assert_eq!(store.deletions_begun("", 9).unwrap(), [""; 0]);
        assert_eq!(store.clip_at(&one).unwrap(), None);
        assert!(store.clip_at(&kept).unwrap().is_some());
    }

    #[test]
    fn events_go_when_nothing_of_them_is_left() {
        let (_folder, mut store) = filled();
        for n in 1..=6 {
            store.end_event(&event(n), &[]).unwrap();
        }
        let far = WallTime(99_000_000);
        let bare_events = |store: &Store| store.bare_events(None, far, 9).unwrap().0;
        assert!(bare_events(&store).is_empty());
        let gone: Vec<String> = [1, 3, 5].map(|n| format!("capture/clip/door/2026-11-20/{n}.mp4")).into();
        store.begin_deletion(&gone).unwrap();
        assert!(bare_events(&store).is_empty(), "not while it is being deleted");
        store.finish_deletion(&gone).unwrap();
        store.keep(&KeepTarget::Event(event(3).id), true).unwrap();
        let bare = bare_events(&store);
        assert_eq!(bare.iter().map(|one| one.started.0).collect::<Vec<_>>(), [1_000_000, 5_000_000]);
        assert_eq!(store.bare_events(None, WallTime(5_000_000), 9).unwrap().0, bare[..1]);
        // It looks at so many, whatever it finds, and goes on from there.
        let (mut place, mut found, mut looks) = (None, Vec::new(), 0);
        loop {
            let (page, next) = store.bare_events(place, far, 2).unwrap();
            if next.is_none() {
                break;
            }
            found.extend(page);
            (place, looks) = (next, looks + 1);
        }
        assert_eq!((found.as_slice(), looks), (bare.as_slice(), 3));
        store.add_clip(&clip(&event(5), "capture/clip/door/2026-11-20/late.mp4")).unwrap();
        assert_eq!(store.forget_events(&bare).unwrap(), 1, "one of them has a clip by now");
        assert_eq!(store.event(event(1).id).unwrap(), None);
        store.note_recording_refused(event(5).id).unwrap();
        assert!(store.event(event(5).id).unwrap().unwrap().recording_refused);
    }

    #[test]
    fn questions_cost_the_same_however_much_there_is() {
        let (_folder, store) = store();
        let plan = |sql: &str, values: &[i64]| -> Vec<String> {
            let mut statement = store.raw().prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let plan = statement.query_map(rusqlite::params_from_iter(values), |row| row.get(3)).unwrap();
            plan.map(Result::unwrap).collect()
        };
        let events = plan(&events_by_age(), &[0, 1, 0, 1]);
        assert!(events[0].starts_with("SEARCH events USING INDEX events_by_time"), "{events:?}");
        assert!(!events.iter().any(|step| step == "USE TEMP B-TREE FOR ORDER BY"), "all of them: {events:?}");
        for plan in [events, plan(ABOUT, &[1])] {
            let outbox = plan.iter().find(|step| step.contains(" outbox ")).unwrap();
            assert!(outbox.ends_with("(event=?)"), "all that waits: {plan:?}");
        }
    }

    #[test]
    fn paths_say_what_and_whose_it_is() {
        for (path, evidence, camera) in [
            ("capture/image/door/2026-11-20/x.jpg", Evidence::Image, "door"),
            ("capture/segment/10.0.0.1_2/2026-11-20/x.mp4", Evidence::Segment, "10.0.0.1_2"),
            ("capture/video/a/b/x.mp4", Evidence::Video, "a"),
            ("spool/set-aside/20261120T213114.123456Z_back_door_clip_00ff", Evidence::Spool, "back_door"),
            ("spool/junk", Evidence::Spool, ""),
        ] {
            assert_eq!((evidence_at(path), camera_of(path)), (evidence, camera), "{path}");
        }
    }
}
