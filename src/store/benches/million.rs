//! A million events: how long a start takes, how long any page of any question, how long an insert. A plain program
//! that prints figures: `cargo bench -p meerkat-store --bench million [-- EVENTS [FOLDER]]`. A folder is filled once
//! and used again.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on may as well panic")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use meerkat_base::{CameraId, Detection, Event, EventId, EventKind, EventPhase, Rect, Sighting, WallTime};
use meerkat_store::{
    ClipRow, ClipState, EventCursor, EventQuery, Fate, NewAlert, SnapshotRow, Store, StoreOptions,
    StoreReader,
};

const BEGIN: i64 = 1_795_210_274_000_000;
/// An event every 30 s.
const STEP: i64 = 30_000_000;
const CAMERAS: u64 = 16;
const PEOPLE: u64 = 50;

/// A sequence that looks random and is the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

fn event(n: u64, dice: &mut Dice) -> Event {
    let started = WallTime(BEGIN + i64::try_from(n).unwrap() * STEP);
    let kind = match dice.roll(10) {
        0..=4 => EventKind::Motion,
        5..=7 => EventKind::Person,
        8 => EventKind::Face,
        _ => EventKind::ObjectMoved,
    };
    let identities = match (kind, dice.roll(3)) {
        (EventKind::Face, 0) => vec!["unknown".to_owned()],
        (EventKind::Face, _) => vec![format!("person {}", dice.roll(PEOPLE))],
        // Somebody who is in a fifth of all events, and so in very many.
        (EventKind::Person, 0) => vec!["the guard".to_owned()],
        _ => Vec::new(),
    };
    let mut entropy = [0; 10];
    entropy[..8].copy_from_slice(&n.to_be_bytes());
    let seen = |seq| Sighting {
        wall: started.offset_micros(i64::try_from(seq).unwrap() * 200_000),
        seq,
        detections: vec![Detection::new("person", 0.8, Rect::new(10.0, 20.0, 64.0, 128.0))],
    };
    Event {
        id: EventId::new(started, entropy),
        // The last camera sees very little.
        camera: CameraId::parse(&format!("camera_{}", dice.roll(CAMERAS * 100) / 100)).unwrap(),
        kind,
        phase: EventPhase::Started,
        started,
        started_seq: n,
        ended: None,
        score: 0.8,
        identities,
        sightings: (0..3).map(seen).collect(),
    }
}

/// Writes an event as a node does: start with alert, end, clip, snapshot. Returns how long the start took.
fn write(store: &mut Store, event: &Event) -> Duration {
    let alert = NewAlert {
        channel: "webhook".into(),
        payload: serde_json::json!({ "text": "somebody is at the door" }),
        snapshot: None,
        created: event.started,
    };
    let alerts = if event.kind == EventKind::Motion { Vec::new() } else { vec![alert] };
    let began = Instant::now();
    store.start_event(event, &alerts).unwrap();
    let took = began.elapsed();
    for alert in store.alerts_of(event.id).unwrap() {
        store.delivered(alert.id, event.started).unwrap();
    }
    let mut end = event.clone();
    end.ended = Some(event.started.offset_micros(4_000_000));
    store.end_event(&end, &[]).unwrap();
    if event.kind != EventKind::Motion {
        let path = format!("capture/clip/{}/{}/{}.mp4", event.camera, event.started.date(), event.id);
        let picture = path.replace(".mp4", ".jpg");
        store
            .add_clip(&ClipRow {
                event: Some(event.id),
                camera: event.camera.clone(),
                path,
                started: event.started,
                duration: Duration::from_secs(14),
                frames: 70,
                bytes: 900_000,
                sha256: None,
                state: ClipState::Ok,
                skipped: 0,
                missing: None,
            })
            .unwrap();
        store
            .add_snapshot(&SnapshotRow {
                event: event.id,
                path: picture,
                taken: event.started,
                bytes: 60_000,
            })
            .unwrap();
    }
    took
}

fn say(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{what:<44} p50 {:>8.3} ms  p99 {:>8.3} ms  max {:>8.3} ms  ({} times)",
        at(0.5),
        at(0.99),
        at(1.0),
        times.len()
    );
}

/// Fills a folder with the rows that `write` would make, in one commit: it is not what is measured.
fn fill(folder: &Path, events: u64) {
    let store = Store::open(folder, StoreOptions::default()).unwrap();
    let have = store.event_count().unwrap();
    drop(store);
    if have >= events {
        return;
    }
    let began = Instant::now();
    let mut db = rusqlite::Connection::open(folder.join("meerkat.db")).unwrap();
    db.execute_batch("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF; PRAGMA cache_size = -500000")
        .unwrap();
    let transaction = db.transaction().unwrap();
    {
        let prepare = |sql: &str| transaction.prepare(sql).unwrap();
        let mut event_row = prepare(
            "INSERT INTO events (number, id, camera, kind, phase, started, started_seq, ended, score, identities)
             VALUES (?1, ?2, ?3, ?4, 'ended', ?5, ?1, ?5 + 4000000, 0.8, ?6)",
        );
        let mut sighting = prepare(
            "INSERT INTO sightings (event, seq, wall, detections)
             VALUES (?1, ?2, ?3 + ?2 * 200000, '[[\"person\",0.8,10.0,20.0,64.0,128.0]]')",
        );
        let mut alert = prepare(
            "INSERT INTO outbox (id, key, event, phase, channel, camera, kind, payload, created, queued, next_attempt,
                 state, settled)
             VALUES (?5, ?5, ?1, 'started', 'webhook', ?2, ?3,
                 '{\"text\":\"somebody is at the door\"}', ?4, ?4, ?4, 'delivered', ?4)",
        );
        let mut clip = prepare(
            "INSERT INTO clips (event, camera, path, started, duration, frames, bytes, state)
             VALUES (?1, ?2, ?3, ?4, 14000000, 70, 900000, 'ok')",
        );
        let mut snapshot =
            prepare("INSERT INTO snapshots (event, path, taken, bytes) VALUES (?1, ?2, ?3, 60000)");
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ have);
        for n in have..events {
            let event = event(n, &mut dice);
            let number = i64::try_from(n + 1).unwrap();
            let (id, camera, kind) = (event.id.to_string(), event.camera.to_string(), event.kind.as_str());
            let identities = serde_json::to_string(&event.identities).unwrap();
            let started = event.started.0;
            event_row.execute((number, &id, &camera, kind, started, identities)).unwrap();
            for seq in 0..3 {
                sighting.execute((number, seq, started)).unwrap();
            }
            if event.kind != EventKind::Motion {
                let path = format!("capture/clip/{camera}/{}/{id}", event.started.date());
                let key = format!("00000000-0000-4000-8000-{number:012x}");
                alert.execute((&id, &camera, kind, started, key)).unwrap();
                clip.execute((&id, &camera, format!("{path}.mp4"), started)).unwrap();
                snapshot.execute((&id, format!("{path}.jpg"), started)).unwrap();
            }
        }
    }
    transaction.commit().unwrap();
    drop(db);
    println!("{} events written in {:.0} s", events - have, began.elapsed().as_secs_f64());
}

fn questions(
    reader: &StoreReader,
    events: u64,
    camera: Option<&str>,
    kind: Option<EventKind>,
    person: Option<&str>,
) {
    let mut dice = Dice(7);
    let mut times = Vec::new();
    let mut found = 0;
    for n in 0..60 {
        let moment = |dice: &mut Dice| WallTime(BEGIN + i64::try_from(dice.roll(events)).unwrap() * STEP);
        let since = (n % 3 == 1).then(|| moment(&mut dice));
        let before = (n % 2 == 1)
            .then(|| EventCursor { started: moment(&mut dice), id: EventId::new(WallTime(BEGIN), [n; 10]) });
        let query = EventQuery {
            limit: 200,
            camera: camera.map(|camera| CameraId::parse(camera).unwrap()),
            kind,
            person: person.map(str::to_owned),
            since,
            until: None,
            before,
        };
        let began = Instant::now();
        found += reader.recent_events(&query).unwrap().len();
        times.push(began.elapsed());
    }
    let name = |text: Option<&str>| text.unwrap_or("any").to_owned();
    let what = format!("{}, {}, {}", name(camera), name(kind.map(EventKind::as_str)), name(person));
    say(&format!("page of 200: {what} ({found})"), times);
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with('-'));
    let events: u64 = args.next().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let temporary = tempfile::tempdir().unwrap();
    let folder = args.next().map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    fill(&folder, events);
    let bytes = std::fs::metadata(folder.join("meerkat.db")).unwrap().len();
    println!("{events} events, {} MiB", bytes >> 20);

    let mut times = Vec::new();
    for _ in 0..10 {
        let began = Instant::now();
        let mut store = Store::open(&folder, StoreOptions::default()).unwrap();
        store.close_orphans(WallTime(BEGIN), |_| Fate::Ends(Vec::new())).unwrap();
        times.push(began.elapsed());
    }
    say("start after an orderly end", times);

    let mut times = Vec::new();
    for n in 0..10 {
        // A log that nobody took in, as a kill leaves it: copied while the store is open, put back after its end.
        let log = folder.join("meerkat.db-wal");
        let mut store = Store::open(&folder, StoreOptions::default()).unwrap();
        store.start_event(&event(events + 1_000_000 + n, &mut Dice(n + 1)), &[]).unwrap();
        let kept = std::fs::read(&log).unwrap();
        drop(store);
        std::fs::write(&log, kept).unwrap();
        let began = Instant::now();
        let mut store = Store::open(&folder, StoreOptions::default()).unwrap();
        store.close_orphans(WallTime(BEGIN), |_| Fate::Ends(Vec::new())).unwrap();
        times.push(began.elapsed());
    }
    say("start after a kill", times);

    let reader = StoreReader::open(&folder).unwrap();
    for camera in [None, Some("camera_3")] {
        for kind in [None, Some(EventKind::Face), Some(EventKind::ObjectRemoved)] {
            for person in [None, Some("the guard"), Some("person 7"), Some("nobody")] {
                questions(&reader, events, camera, kind, person);
            }
        }
    }

    // As the sweep asks, a page at a time; half of them have nothing.
    let (mut place, mut times) = (None, Vec::new());
    loop {
        let began = Instant::now();
        let (_, next) = reader.bare_events(place, WallTime(i64::MAX), 400).unwrap();
        times.push(began.elapsed());
        place = next;
        if place.is_none() {
            break;
        }
    }
    say("400 events asked whether anything of them is left", times);

    let mut store = Store::open(&folder, StoreOptions::default()).unwrap();
    let base = 10_000_000 + store.event_count().unwrap();
    let mut dice = Dice(base | 1);
    let times = (0..3_000).map(|n| write(&mut store, &event(base + n, &mut dice))).collect();
    say("insert of an event with three boxes and alert", times);

    let began = Instant::now();
    reader.nightly_backup(WallTime(BEGIN), 1, &mut |_, _, _| {}).unwrap();
    println!("nightly copy, looked through: {:.1} s", began.elapsed().as_secs_f64());
}
