//! Serves the page with invented cameras, for work on the page itself:
//! `cargo run -p meerkat-web --example page -- [PORT [FOLDER]]`. A file `clip.mp4` in FOLDER becomes a clip;
//! PORT 0 and a first argument `empty` instead of a port show a node without cameras.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use meerkat_base::{CameraId, Clock, EventId, EventKind, ImageFormat, Mode, Sighting, SystemClock, WallTime};
use meerkat_web::*;

struct Invented {
    clock: SystemClock,
    started: WallTime,
    cameras: Vec<(CameraId, Mode)>,
}

impl Invented {
    fn now(&self) -> WallTime {
        self.clock.wall()
    }

    fn frames(&self) -> u64 {
        u64::try_from(self.now().0 - self.started.0).unwrap_or(0) / 50_000
    }
}

impl NodeView for Invented {
    fn status(&self) -> Status {
        let cameras = self.cameras.iter().enumerate().map(|(i, (id, mode))| CameraStatus {
            id: id.clone(),
            connected: i != 3,
            up: !matches!(i, 2 | 3),
            mode: Some(*mode),
            dialect: Some("frame".to_owned()),
            last_frame: Some(if matches!(i, 2 | 3) { self.started } else { self.now() }),
            frames: self.frames(),
            frames_per_second: Some(20.0),
            refused: if i == 1 { 3 } else { 0 },
            ring_bytes: 12 << 20,
            slots: vec![SlotStatus {
                detector: "motion".to_owned(),
                full: false,
                replaced: 2 * (i as u64 % 2),
            }],
            recording: i == 1,
        });
        let actor = |kind: &str, camera: Option<&CameraId>| ActorStatus {
            kind: kind.to_owned(),
            camera: camera.cloned(),
            generation: 1,
            state: ActorState::Running,
            restarts: 0,
            last_error: None,
            last_restart: None,
        };
        let mut actors: Vec<_> =
            ["person", "face", "archivist", "notifier"].iter().map(|kind| actor(kind, None)).collect();
        for (id, _) in &self.cameras {
            actors.extend(["decoder", "motion", "recorder"].iter().map(|kind| actor(kind, Some(id))));
        }
        if let Some(face) = actors.get_mut(1).filter(|_| !self.cameras.is_empty()) {
            face.state = ActorState::BackingOff;
            face.generation = 4;
            face.restarts = 3;
            face.last_error = Some("panic: index out of bounds <b>not bold</b>".to_owned());
            face.last_restart = Some(self.now());
        }
        let busy = !self.cameras.is_empty();
        Status {
            node: NodeStatus {
                version: "0.1.0".to_owned(),
                commit: "58b7ac5d01".to_owned(),
                started: self.started,
                uptime_seconds: (self.now().0 - self.started.0) as f64 / 1e6,
                degraded: busy,
                notices: if busy {
                    vec!["The GPU is gone; persons are found on the CPU.".to_owned()]
                } else {
                    vec![]
                },
            },
            listeners: vec![ListenerStatus {
                dialect: "frame".to_owned(),
                address: "127.0.0.1:9000".to_owned(),
            }],
            cameras: cameras.collect(),
            actors,
            queues: QueueStatus {
                in_flight_bytes: 180_000,
                ring_bytes: 48 << 20,
                outbox_waiting: 2,
                mailboxes: vec![MailboxStatus { actor: "archivist".to_owned(), waiting: 1 }],
            },
            channels: Vec::new(),
            snoozes: Vec::new(),
            detectors: vec![DetectorStatus {
                role: "person".to_owned(),
                name: "hog-default-people".to_owned(),
                backend: "classic".to_owned(),
                device: "cpu".to_owned(),
            }],
            abandoned_threads: 0,
        }
    }

    fn latest_picture(&self, camera: &CameraId) -> Option<(Bytes, ImageFormat, WallTime)> {
        let place = self.cameras.iter().position(|(id, _)| id == camera)?;
        Some((draw(place as u64, self.frames()), ImageFormat::Bmp, self.now()))
    }

    fn render_metrics(&self) -> String {
        String::new()
    }

    fn ready(&self) -> Readiness {
        Readiness { ok: true, reasons: Vec::new() }
    }

    fn confirm_store(&self) -> Result<bool, String> {
        Ok(true)
    }

    fn request_new_reference(&self, _: &CameraId) -> bool {
        true
    }
}

/// A floor, a wall and a box that wanders, as a Windows bitmap of 160x120 pixels.
fn draw(place: u64, step: u64) -> Bytes {
    const WIDTH: u32 = 160;
    const HEIGHT: u32 = 120;
    let size = WIDTH * HEIGHT * 3;
    let mut bytes = b"BM".to_vec();
    for field in [54 + size, 0, 54, 40, WIDTH, HEIGHT, 24 << 16 | 1, 0, size, 2835, 2835, 0, 0] {
        bytes.extend(field.to_le_bytes());
    }
    let left = u32::try_from((step + place * 40) % 130).unwrap_or(0);
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            let is_box = (left..left + 26).contains(&x) && (18..60).contains(&y);
            let shade = if y < 34 { 70 } else { 150 - (y / 2) as u8 };
            bytes.extend(if is_box { [60, 110, 190] } else { [shade, shade + 8, shade.saturating_add(12)] });
        }
    }
    Bytes::from(bytes)
}

struct InventedEvents(Vec<EventSummary>);

impl EventSource for InventedEvents {
    fn rows(&self, _: &EventQuery) -> Result<RowPage<EventPlace>, EventSourceError> {
        Err(EventSourceError("there is no database".to_owned()))
    }

    fn row(&self, _: EventId) -> Result<Option<serde_json::Value>, EventSourceError> {
        Ok(None)
    }

    fn sighting_rows(&self, _: EventId, _: u64) -> Result<RowPage<u64>, EventSourceError> {
        Ok(RowPage { rows: Vec::new(), next: None })
    }

    fn visits(&self, _: &VisitQuery) -> Result<RowPage<VisitPlace>, EventSourceError> {
        Ok(RowPage { rows: Vec::new(), next: None })
    }

    fn clips(&self, _: &ClipQuery) -> Result<RowPage<u64>, EventSourceError> {
        Ok(RowPage { rows: Vec::new(), next: None })
    }

    fn snapshots(&self, _: &SnapshotQuery) -> Result<RowPage<u64>, EventSourceError> {
        Ok(RowPage { rows: Vec::new(), next: None })
    }

    fn recent(&self, query: &EventQuery) -> Result<Vec<EventSummary>, EventSourceError> {
        let fits = |event: &&EventSummary| {
            query.camera.as_ref().is_none_or(|camera| event.camera == *camera)
                && query.kind.is_none_or(|kind| event.kind == kind)
                && query.person.as_ref().is_none_or(|person| event.identities.contains(person))
                && query.since.is_none_or(|since| event.started >= since)
                && query.until.is_none_or(|until| event.started < until)
                && query.before.is_none_or(|place| (event.started, event.id) < (place.started, place.id))
        };
        Ok(self.0.iter().filter(fits).take(query.limit).cloned().collect())
    }

    fn event(&self, id: EventId) -> Result<Option<EventSummary>, EventSourceError> {
        Ok(self.0.iter().find(|event| event.id == id).cloned())
    }

    fn sightings(&self, _: EventId, _: u64) -> Result<Vec<Sighting>, EventSourceError> {
        Ok(Vec::new())
    }
}

/// The page does not show people.
struct Nobody;

impl AlertDesk for Nobody {
    fn alerts(&self, _: &AlertQuery) -> Result<Vec<AlertSummary>, AlertError> {
        Ok(Vec::new())
    }

    fn retry(&self, _: uuid::Uuid) -> Result<Retried, AlertError> {
        Ok(Retried::Unknown)
    }

    fn retry_dead(&self, _: Option<&str>) -> Result<u64, AlertError> {
        Ok(0)
    }

    fn drop_alert(&self, _: uuid::Uuid) -> Result<u64, AlertError> {
        Ok(0)
    }

    fn test(&self, _: &str) -> Result<Option<TestResult>, AlertError> {
        Ok(None)
    }
}

impl PeopleDesk for Nobody {
    fn people(&self) -> Result<Vec<PersonSummary>, PeopleError> {
        Ok(Vec::new())
    }

    fn enrol(&self, _enrolment: Enrolment) -> Result<PersonSummary, PeopleError> {
        Err(PeopleError::Refused("this is only an example".to_owned()))
    }

    fn remove(&self, _name_or_id: &str) -> Result<Option<Removal>, PeopleError> {
        Ok(None)
    }

    fn correct(&self, _name_or_id: &str, _mistake: Mistake) -> Result<Option<Corrected>, PeopleError> {
        Ok(None)
    }

    fn forget_corrections(&self, _name_or_id: &str) -> Result<Option<u64>, PeopleError> {
        Ok(None)
    }

    fn unknown(&self) -> Result<Vec<UnknownSummary>, PeopleError> {
        Ok(Vec::new())
    }

    fn unknown_picture(&self, _group: u64, _number: u64) -> Result<Option<Vec<u8>>, PeopleError> {
        Ok(None)
    }

    fn assign(&self, _assignment: Assignment) -> Result<Option<PersonSummary>, PeopleError> {
        Ok(None)
    }

    fn delete_unknown(&self, _group: u64) -> Result<bool, PeopleError> {
        Ok(false)
    }
}

impl SnoozeDesk for Nobody {
    fn snoozes(&self) -> Result<Vec<SnoozeStatus>, SnoozeError> {
        Ok(Vec::new())
    }

    fn add(&self, _order: NewSnooze) -> Result<SnoozeStatus, SnoozeError> {
        Err(SnoozeError::Refused("this is only an example".to_owned()))
    }

    fn cancel(&self, _id: &str) -> Result<bool, SnoozeError> {
        Ok(false)
    }
}

impl StorageDesk for Nobody {
    fn begin(&self, _: LongWork) -> Result<Begun, StorageError> {
        Ok(Begun::Busy)
    }

    fn state(&self, _: LongWork) -> serde_json::Value {
        serde_json::json!({ "state": "idle", "number": 0 })
    }

    fn discard_backup(&self) -> Result<bool, StorageError> {
        Ok(false)
    }

    fn report(&self) -> Result<serde_json::Value, StorageError> {
        Ok(serde_json::Value::Null)
    }

    fn plan(&self, _limit: usize) -> Result<serde_json::Value, StorageError> {
        Ok(serde_json::Value::Null)
    }

    fn keep(&self, _what: &str, _keep: bool) -> Result<Option<Vec<String>>, StorageError> {
        Ok(None)
    }

    fn confirm_clock(&self) -> bool {
        false
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let first = args.next().unwrap_or_default();
    let empty = first == "empty";
    let port = if empty { 0 } else { first.parse().unwrap_or(0) };
    let data_dir = PathBuf::from(args.next().unwrap_or_else(|| ".".to_owned()));

    let clock = SystemClock::new();
    let started = clock.wall().offset_micros(-3_600_000_000);
    let mut cameras = Vec::new();
    let mut events = Vec::new();
    if !empty {
        let ids = ["front_door", "workshop", "10.0.0.7~2", "yard", "2001:db8:85a3::8a2e:370:7334", "desk"];
        for (i, id) in ids.into_iter().enumerate() {
            cameras.push((
                CameraId::from_shown(id)?,
                Mode::from_number(5 - (i as u8 % 5)).unwrap_or(Mode::Guard),
            ));
        }
        let has_clip = data_dir.join("clip.mp4").is_file();
        for i in 0..40_u8 {
            let began = clock.wall().offset_micros(-i64::from(i) * 97_000_000 - 9_000_000);
            let kind = EventKind::SEEN[usize::from(i) % 5];
            events.push(EventSummary {
                id: EventId::new(began, [i; 10]),
                camera: cameras[usize::from(i) % cameras.len()].0.clone(),
                kind,
                started: began,
                ended: (i > 0).then(|| began.offset_micros(12_000_000)),
                score: 0.5 + f32::from(i) / 100.0,
                identities: match kind {
                    EventKind::Face => vec!["Ada <script>alert(1)</script>".to_owned(), "unknown".to_owned()],
                    _ => Vec::new(),
                },
                recording_refused: false,
                kept: false,
                clip: (i > 1 && has_clip).then(|| PathBuf::from("clip.mp4")),
                snapshot: (i > 0).then(|| PathBuf::from("clip.jpg")),
                detail: None,
                snoozed: false,
            });
        }
    }
    let settings = WebSettings {
        listen: ([127, 0, 0, 1], port).into(),
        hosts: vec![],
        token: None,
        data_dir,
        public_url: None,
        link_key: None,
    };
    let view = Arc::new(Invented { clock, started, cameras });
    let handle = WebServer::start(
        settings,
        view,
        Arc::new(InventedEvents(events)),
        Arc::new(Nobody),
        Arc::new(Nobody),
        Arc::new(Nobody),
        Arc::new(Nobody),
    )?;
    println!("http://{}/", handle.addr());
    loop {
        std::thread::park();
    }
}
