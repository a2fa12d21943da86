//! A node that is not there, and a client that sends exactly the bytes it is told to.
#![allow(dead_code, reason = "every test file uses another part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use meerkat_base::{CameraId, EventId, EventKind, ImageFormat, Mode, Secret, Sighting, WallTime};
use meerkat_web::*;
use uuid::Uuid;

/// 2026-11-20T21:31:14.123Z
pub const NOW: WallTime = WallTime(1_795_210_274_123_000);

/// A door that is open until a test closes it.
#[derive(Default)]
pub struct Gate {
    closed: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    pub fn close(&self) {
        *self.closed.lock().unwrap() = true;
    }

    pub fn open(&self) {
        *self.closed.lock().unwrap() = false;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let closed = self.closed.lock().unwrap();
        drop(self.changed.wait_while(closed, |closed| *closed).unwrap());
    }
}

/// The fake node.
#[derive(Default)]
pub struct FakeView {
    pub status_gate: Gate,
    pub picture_gate: Gate,
    pub status_panics: AtomicBool,
    pub not_ready: AtomicBool,
    pub status_calls: AtomicUsize,
    pub references: Mutex<Vec<CameraId>>,
}

pub fn camera(text: &str) -> CameraId {
    CameraId::from_shown(text).unwrap()
}

impl NodeView for FakeView {
    fn status(&self) -> Status {
        self.status_calls.fetch_add(1, Ordering::SeqCst);
        self.status_gate.pass();
        assert!(!self.status_panics.load(Ordering::SeqCst), "as the test wants it");
        Status {
            node: NodeStatus {
                version: "0.1.0".to_owned(),
                commit: String::new(),
                started: NOW,
                uptime_seconds: 5.0,
                degraded: false,
                notices: Vec::new(),
            },
            listeners: vec![ListenerStatus {
                dialect: "frame".to_owned(),
                address: "127.0.0.1:9000".to_owned(),
            }],
            cameras: vec![CameraStatus {
                id: camera("door"),
                connected: true,
                up: true,
                mode: Some(Mode::Guard),
                dialect: Some("frame".to_owned()),
                last_frame: Some(NOW),
                frames: 7,
                frames_per_second: None,
                refused: 0,
                ring_bytes: 0,
                slots: Vec::new(),
                recording: false,
            }],
            actors: vec![ActorStatus {
                kind: "motion".to_owned(),
                camera: Some(camera("door")),
                generation: 2,
                state: ActorState::BackingOff,
                restarts: 1,
                last_error: Some("panic".to_owned()),
                last_restart: Some(NOW),
            }],
            queues: QueueStatus::default(),
            channels: Vec::new(),
            snoozes: Vec::new(),
            detectors: Vec::new(),
            abandoned_threads: 0,
        }
    }

    fn latest_picture(&self, camera: &CameraId) -> Option<(Bytes, ImageFormat, WallTime)> {
        self.picture_gate.pass();
        let format = match camera.as_str() {
            "door" | "10.0.0.7~2" | "fe80::1" => ImageFormat::Jpeg,
            "bitmap" => ImageFormat::Bmp,
            "odd" => ImageFormat::Unknown,
            _ => return None,
        };
        Some((Bytes::from(format!("picture of {camera}")), format, NOW))
    }

    fn render_metrics(&self) -> String {
        "# TYPE meerkat_sessions gauge\nmeerkat_sessions{dialect=\"frame\"} 1\n".to_owned()
    }

    fn ready(&self) -> Readiness {
        if self.not_ready.load(Ordering::SeqCst) {
            Readiness { ok: false, reasons: vec!["the disk cannot be written".to_owned()] }
        } else {
            Readiness { ok: true, reasons: Vec::new() }
        }
    }

    fn confirm_store(&self) -> Result<bool, String> {
        Ok(true)
    }

    fn request_new_reference(&self, camera: &CameraId) -> bool {
        self.references.lock().unwrap().push(camera.clone());
        camera.as_str() != "idle"
    }
}

/// The fake events, in memory.
#[derive(Default)]
pub struct FakeEvents {
    pub events: Mutex<Vec<EventSummary>>,
    pub asked: Mutex<Vec<EventQuery>>,
    pub visits_asked: Mutex<Vec<VisitQuery>>,
    pub clips_asked: Mutex<Vec<ClipQuery>>,
    pub broken: AtomicBool,
}

impl EventSource for FakeEvents {
    fn recent(&self, query: &EventQuery) -> Result<Vec<EventSummary>, EventSourceError> {
        self.asked.lock().unwrap().push(query.clone());
        if self.broken.load(Ordering::SeqCst) {
            return Err(EventSourceError("secret detail".to_owned()));
        }
        let mut events = self.events.lock().unwrap().clone();
        events.sort_by_key(|event| std::cmp::Reverse((event.started, event.id)));
        events.retain(|event| {
            query.camera.as_ref().is_none_or(|camera| event.camera == *camera)
                && query.kind.is_none_or(|kind| event.kind == kind)
                && query.person.as_ref().is_none_or(|person| event.identities.contains(person))
                && query.since.is_none_or(|since| event.started >= since)
                && query.until.is_none_or(|until| event.started < until)
                && query.before.is_none_or(|place| (event.started, event.id) < (place.started, place.id))
        });
        events.truncate(query.limit);
        Ok(events)
    }

    fn event(&self, id: EventId) -> Result<Option<EventSummary>, EventSourceError> {
        Ok(self.events.lock().unwrap().iter().find(|event| event.id == id).cloned())
    }

    /// Three frames, two at a time.
    fn sightings(&self, _: EventId, from_seq: u64) -> Result<Vec<Sighting>, EventSourceError> {
        let seen = |seq| Sighting { wall: NOW, seq, detections: Vec::new() };
        Ok((from_seq.max(7)..10).take(2).map(seen).collect())
    }

    fn rows(&self, query: &EventQuery) -> Result<RowPage<EventPlace>, EventSourceError> {
        let events = self.recent(query)?;
        let next = events.last().map(|last| EventPlace { started: last.started, id: last.id });
        let rows = events.iter().map(|event| serde_json::json!({ "id": event.id, "camera": event.camera }));
        Ok(RowPage { rows: rows.collect(), next: next.filter(|_| events.len() == query.limit) })
    }

    fn row(&self, id: EventId) -> Result<Option<serde_json::Value>, EventSourceError> {
        Ok(self.event(id)?.map(|event| serde_json::json!({ "id": event.id })))
    }

    fn sighting_rows(&self, id: EventId, from_seq: u64) -> Result<RowPage<u64>, EventSourceError> {
        let rows: Vec<_> =
            self.sightings(id, from_seq)?.iter().map(|seen| serde_json::json!(seen.seq)).collect();
        let next = rows.last().and_then(|last| last.as_u64()).map(|seq| seq + 1);
        Ok(RowPage { rows, next })
    }

    /// One visit, numbered 3.
    fn visits(&self, query: &VisitQuery) -> Result<RowPage<VisitPlace>, EventSourceError> {
        self.visits_asked.lock().unwrap().push(query.clone());
        if self.broken.load(Ordering::SeqCst) {
            return Err(EventSourceError("secret detail".to_owned()));
        }
        let next = VisitPlace { at: NOW, number: 3 };
        Ok(RowPage { rows: vec![serde_json::json!({ "person": "Ada" })], next: Some(next) })
    }

    /// One clip, numbered 4.
    fn clips(&self, query: &ClipQuery) -> Result<RowPage<u64>, EventSourceError> {
        self.clips_asked.lock().unwrap().push(query.clone());
        if self.broken.load(Ordering::SeqCst) {
            return Err(EventSourceError("secret detail".to_owned()));
        }
        let next = matches!(query, ClipQuery::After(_)).then_some(4);
        Ok(RowPage { rows: vec![serde_json::json!({ "camera": "door" })], next })
    }

    /// One snapshot, numbered 5.
    fn snapshots(&self, query: &SnapshotQuery) -> Result<RowPage<u64>, EventSourceError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(EventSourceError("secret detail".to_owned()));
        }
        let one = || vec![serde_json::json!("a.jpg")];
        Ok(match query {
            SnapshotQuery::After(0..=4) => RowPage { rows: one(), next: Some(5) },
            SnapshotQuery::At(path) if path == "a.jpg" => RowPage { rows: one(), next: None },
            SnapshotQuery::After(_) | SnapshotQuery::At(_) => RowPage { rows: Vec::new(), next: None },
        })
    }
}

/// The fake desk: takes whoever is not called `nobody`, and finds fault with empty pictures.
#[derive(Default)]
pub struct FakePeople {
    pub enrolled: Mutex<Vec<Enrolment>>,
    pub removed: Mutex<Vec<String>>,
    pub corrected: Mutex<Vec<(String, Mistake)>>,
    pub assigned: Mutex<Vec<Assignment>>,
    pub broken: AtomicBool,
    pub enrol_gate: Gate,
}

fn person(enrolment: &Enrolment) -> PersonSummary {
    PersonSummary {
        id: format!("id of {}", enrolment.name),
        name: enrolment.name.clone(),
        consent_by: enrolment.consent_by.clone(),
        consent_at: NOW,
        created: NOW,
        pictures: enrolment.pictures.len() as u64,
        negatives: 0,
    }
}

impl PeopleDesk for FakePeople {
    fn people(&self) -> Result<Vec<PersonSummary>, PeopleError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(PeopleError::Failed("secret detail".to_owned()));
        }
        Ok(self.enrolled.lock().unwrap().iter().map(person).collect())
    }

    fn enrol(&self, enrolment: Enrolment) -> Result<PersonSummary, PeopleError> {
        self.enrol_gate.pass();
        if enrolment.name == "nobody" {
            return Err(PeopleError::Refused("nobody is no name".to_owned()));
        }
        let empty = enrolment.pictures.iter().enumerate().filter(|(_, (_, bytes))| bytes.is_empty());
        let problems: Vec<PictureProblem> = empty
            .map(|(index, _)| PictureProblem {
                number: index + 1,
                reason: "unreadable",
                problem: "it is empty".to_owned(),
            })
            .collect();
        if !problems.is_empty() {
            return Err(PeopleError::Pictures(problems));
        }
        if enrolment.name == "twin" && !enrolment.even.if_known {
            let known = KnownAs { name: "Li Lei".to_owned(), pictures: 2, likeness: 0.75 };
            return Err(PeopleError::Known(vec![known]));
        }
        let summary = person(&enrolment);
        self.enrolled.lock().unwrap().push(enrolment);
        Ok(summary)
    }

    fn remove(&self, name_or_id: &str) -> Result<Option<Removal>, PeopleError> {
        self.removed.lock().unwrap().push(name_or_id.to_owned());
        let mut enrolled = self.enrolled.lock().unwrap();
        let before = enrolled.len();
        enrolled.retain(|one| one.name != name_or_id);
        Ok((enrolled.len() < before).then_some(Removal { unknown_groups: 1, negatives: 2 }))
    }

    fn correct(&self, name_or_id: &str, mistake: Mistake) -> Result<Option<Corrected>, PeopleError> {
        let enrolled = self.enrolled.lock().unwrap();
        let Some(of) = enrolled.iter().find(|one| one.name == name_or_id) else { return Ok(None) };
        self.corrected.lock().unwrap().push((name_or_id.to_owned(), mistake));
        Ok(Some(Corrected { person: PersonSummary { negatives: 1, ..person(of) }, likeness: Some(0.5) }))
    }

    fn forget_corrections(&self, name_or_id: &str) -> Result<Option<u64>, PeopleError> {
        let mut corrected = self.corrected.lock().unwrap();
        let before = corrected.len();
        corrected.retain(|(who, _)| who != name_or_id);
        let is_known = self.enrolled.lock().unwrap().iter().any(|one| one.name == name_or_id);
        Ok(is_known.then_some((before - corrected.len()) as u64))
    }

    /// There is group 7 with picture 9.
    fn unknown(&self) -> Result<Vec<UnknownSummary>, PeopleError> {
        let picture = UnknownPicture {
            number: 9,
            camera: "door".to_owned(),
            at: NOW,
            width_px: 61.5,
            file: "unknown/x.jpg".to_owned(),
        };
        Ok(vec![UnknownSummary { group: 7, first: NOW, last: NOW, seen: 3, pictures: vec![picture] }])
    }

    fn unknown_picture(&self, group: u64, number: u64) -> Result<Option<Vec<u8>>, PeopleError> {
        Ok((group == 7 && number == 9).then(|| b"jpeg".to_vec()))
    }

    fn assign(&self, assignment: Assignment) -> Result<Option<PersonSummary>, PeopleError> {
        if assignment.group != 7 {
            return Ok(None);
        }
        let enrolment = Enrolment {
            name: assignment.name.clone(),
            consent_by: assignment.consent_by.clone(),
            pictures: Vec::new(),
            even: assignment.even,
        };
        self.assigned.lock().unwrap().push(assignment);
        Ok(Some(person(&enrolment)))
    }

    fn delete_unknown(&self, group: u64) -> Result<bool, PeopleError> {
        Ok(group == 7)
    }
}

/// The fake outbox: the alert [`ALERT`] is dead, [`WAITING`] waits, and there is one channel.
#[derive(Default)]
pub struct FakeAlerts {
    pub asked: Mutex<Vec<AlertQuery>>,
    pub orders: Mutex<Vec<String>>,
    pub broken: AtomicBool,
}

pub const ALERT: Uuid = Uuid::from_u128(1);
pub const WAITING: Uuid = Uuid::from_u128(2);

impl FakeAlerts {
    fn order(&self, order: String) -> Result<(), AlertError> {
        self.orders.lock().unwrap().push(order);
        if self.broken.load(Ordering::SeqCst) { Err(AlertError("secret detail".to_owned())) } else { Ok(()) }
    }
}

impl AlertDesk for FakeAlerts {
    fn alerts(&self, query: &AlertQuery) -> Result<Vec<AlertSummary>, AlertError> {
        self.order("list".to_owned())?;
        self.asked.lock().unwrap().push(query.clone());
        Ok(vec![AlertSummary {
            number: 7,
            id: ALERT,
            key: ALERT,
            event: event(1, "door", EventKind::Person, None, None).id,
            channel: "office".to_owned(),
            part: 0,
            camera: camera("door"),
            kind: EventKind::Person,
            state: AlertState::Dead,
            created: NOW,
            attempts: 3,
            next_attempt: None,
            settled: Some(NOW),
            digest: None,
            last_error: Some("status 410".to_owned()),
        }])
    }

    fn retry(&self, id: Uuid) -> Result<Retried, AlertError> {
        self.order(format!("retry {id}"))?;
        Ok(match id {
            ALERT => Retried::Yes,
            WAITING => Retried::Is(AlertState::Waiting),
            _ => Retried::Unknown,
        })
    }

    fn retry_dead(&self, channel: Option<&str>) -> Result<u64, AlertError> {
        self.order(format!("retry dead {channel:?}"))?;
        Ok(3)
    }

    fn drop_alert(&self, id: Uuid) -> Result<u64, AlertError> {
        self.order(format!("drop {id}"))?;
        Ok(u64::from(id == ALERT))
    }

    fn test(&self, channel: &str) -> Result<Option<TestResult>, AlertError> {
        self.order(format!("test {channel}"))?;
        Ok((channel == "office").then(|| TestResult {
            delivered: false,
            refused: true,
            reason: Some("errcode 93000".to_owned()),
            advice: Some("copy the address again".to_owned()),
        }))
    }
}

/// The fake snoozes: none, and every order is taken.
#[derive(Default)]
pub struct FakeSnoozes {
    pub added: Mutex<Vec<NewSnooze>>,
}

impl SnoozeDesk for FakeSnoozes {
    fn snoozes(&self) -> Result<Vec<SnoozeStatus>, SnoozeError> {
        Ok(Vec::new())
    }

    fn add(&self, order: NewSnooze) -> Result<SnoozeStatus, SnoozeError> {
        if order.rule.as_deref() == Some("none") {
            return Err(SnoozeError::Refused("there is no rule none".to_owned()));
        }
        self.added.lock().unwrap().push(order.clone());
        let (camera, rule, reason) = (order.camera, order.rule, order.reason);
        Ok(SnoozeStatus { id: "1".to_owned(), camera, rule, until: None, reason, created: NOW })
    }

    fn cancel(&self, id: &str) -> Result<bool, SnoozeError> {
        Ok(id == "1")
    }
}

/// The one event that the fake disk has.
pub const EVENT_ON_DISK: &str = "018f0000-0000-7000-8000-000000000001";

/// A disk with one event, and a clock in doubt.
#[derive(Default)]
pub struct FakeStorage {
    pub asked: Mutex<Vec<(String, bool)>>,
    /// A backup is there; there is none before it is ordered.
    pub backup: AtomicBool,
    pub orders: Mutex<Vec<LongWork>>,
}

impl StorageDesk for FakeStorage {
    fn report(&self) -> Result<serde_json::Value, StorageError> {
        Ok(serde_json::json!({ "free_bytes": 5 }))
    }

    fn plan(&self, limit: usize) -> Result<serde_json::Value, StorageError> {
        Ok(serde_json::json!({ "next": [limit] }))
    }

    fn keep(&self, what: &str, keep: bool) -> Result<Option<Vec<String>>, StorageError> {
        self.asked.lock().unwrap().push((what.to_owned(), keep));
        Ok((what == EVENT_ON_DISK).then(|| vec!["a.mp4".to_owned()]))
    }

    fn confirm_clock(&self) -> bool {
        true
    }

    fn begin(&self, work: LongWork) -> Result<Begun, StorageError> {
        self.orders.lock().unwrap().push(work);
        let is_there = work == LongWork::Backup && self.backup.swap(true, Ordering::SeqCst);
        Ok(if is_there { Begun::Busy } else { Begun::Number(1) })
    }

    fn state(&self, work: LongWork) -> serde_json::Value {
        serde_json::json!({ "state": "running", "doing": format!("{work:?}") })
    }

    fn discard_backup(&self) -> Result<bool, StorageError> {
        Ok(self.backup.swap(false, Ordering::SeqCst))
    }
}

/// An event `n` seconds after [`NOW`].
pub fn event(n: u8, name: &str, kind: EventKind, clip: Option<&str>, snapshot: Option<&str>) -> EventSummary {
    let started = NOW.offset_micros(i64::from(n) * 1_000_000);
    EventSummary {
        id: EventId::new(started, [n; 10]),
        camera: camera(name),
        kind,
        started,
        ended: Some(started.offset_micros(5_000_000)),
        score: 0.5,
        identities: Vec::new(),
        recording_refused: false,
        kept: false,
        clip: clip.map(Into::into),
        snapshot: snapshot.map(Into::into),
        detail: None,
        snoozed: false,
    }
}

/// A running server with its fakes; stops when dropped.
pub struct Node {
    pub view: Arc<FakeView>,
    pub events: Arc<FakeEvents>,
    pub people: Arc<FakePeople>,
    pub alerts: Arc<FakeAlerts>,
    pub snoozes: Arc<FakeSnoozes>,
    pub storage: Arc<FakeStorage>,
    pub addr: SocketAddr,
    handle: Option<WebHandle>,
}

impl Node {
    pub fn start(settings: WebSettings) -> Self {
        let view = Arc::new(FakeView::default());
        let events = Arc::new(FakeEvents::default());
        let people = Arc::new(FakePeople::default());
        let alerts = Arc::new(FakeAlerts::default());
        let snoozes = Arc::new(FakeSnoozes::default());
        let storage = Arc::new(FakeStorage::default());
        let handle = WebServer::start(
            settings,
            view.clone(),
            events.clone(),
            people.clone(),
            alerts.clone(),
            snoozes.clone(),
            storage.clone(),
        );
        let handle = handle.unwrap();
        let addr = SocketAddr::from(([127, 0, 0, 1], handle.addr().port()));
        Self { view, events, people, alerts, snoozes, storage, addr, handle: Some(handle) }
    }

    pub fn plain(data_dir: &Path) -> Self {
        Self::start(settings("127.0.0.1:0", None, data_dir))
    }

    pub fn stop(mut self) -> bool {
        self.handle.take().unwrap().stop(Duration::from_secs(10))
    }

    pub fn get(&self, target: &str) -> Reply {
        self.ask("GET", target, &[])
    }

    /// Sends a request with the right Host header and, in between, further header lines.
    pub fn ask(&self, method: &str, target: &str, headers: &[&str]) -> Reply {
        let mut request =
            format!("{method} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.addr);
        for line in headers {
            request.push_str(line);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        self.send(request.as_bytes())
    }

    /// Posts a body as JSON.
    pub fn post(&self, target: &str, body: &str) -> Reply {
        self.post_with(target, &["Content-Type: application/json"], body)
    }

    /// Posts a body with these header lines.
    pub fn post_with(&self, target: &str, headers: &[&str], body: &str) -> Reply {
        let length = format!("Content-Length: {}", body.len());
        let lines: Vec<&str> = headers.iter().copied().chain([length.as_str()]).collect();
        let head = format!("POST {target} HTTP/1.1\r\nHost: {}\r\n{}\r\n\r\n", self.addr, lines.join("\r\n"));
        self.send(&[head.as_bytes(), body.as_bytes()].concat())
    }

    /// Sends bytes as they are and reads until the server closes.
    pub fn send(&self, request: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        Reply::parse(&answer)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.view.status_gate.open();
        self.view.picture_gate.open();
        self.people.enrol_gate.open();
    }
}

pub fn settings(listen: &str, token: Option<&str>, data_dir: &Path) -> WebSettings {
    WebSettings {
        listen: listen.parse().unwrap(),
        hosts: vec!["cams.example.org".to_owned()],
        token: token.map(Secret::new),
        data_dir: data_dir.to_owned(),
        public_url: None,
        link_key: None,
    }
}

/// One answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("a whole head");
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Self { status, headers, body: bytes[end + 4..].to_vec() }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}
