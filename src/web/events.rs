//! The routes about events: the list, one event, its clip and its snapshot. Files are opened in `confine`.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use actix_web::body::MessageBody;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use meerkat_base::{CameraId, EventId, EventKind, WallTime};
use meerkat_store::confine::open_below;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::file_body::FileBody;
use crate::range::{Wanted, wanted};
use crate::routes::{no_answer, problem};
use crate::server::AppState;
use crate::view::{EventPlace, EventQuery, EventSourceError, EventSummary, MAX_EVENTS};

/// Ends the name of a clip's preview strip.
const STRIP_ENDING: &str = ".strip.jpg";
/// Events in an answer when the request does not say.
const DEFAULT_EVENTS: usize = 50;

/// Longest name of a person that is looked for.
const MAX_NAME_BYTES: usize = 1_024;

/// The query of the list as it was sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawQuery {
    camera: Option<String>,
    kind: Option<String>,
    person: Option<String>,
    since: Option<String>,
    until: Option<String>,
    limit: Option<String>,
    before: Option<String>,
}

/// One event as it is sent.
#[derive(Serialize)]
struct EventReply {
    id: EventId,
    camera: CameraId,
    kind: EventKind,
    started: WallTime,
    ended: Option<WallTime>,
    score: f32,
    identities: Vec<String>,
    /// The disk did not take everything of its recording.
    recording_refused: bool,
    /// Whether retention leaves it alone.
    kept: bool,
    /// Address of the clip; null while there is none.
    clip: Option<String>,
    /// Address of the preview strip of the clip; there may be none at it.
    strip: Option<String>,
    /// Address of the snapshot; null when there is none.
    snapshot: Option<String>,
    /// What a notice says; null for what was seen.
    detail: Option<String>,
    /// Messages about it were kept back by a snooze.
    snoozed: bool,
}

impl From<EventSummary> for EventReply {
    fn from(event: EventSummary) -> Self {
        let id = event.id;
        Self {
            id,
            camera: event.camera,
            kind: event.kind,
            started: event.started,
            ended: event.ended,
            score: event.score,
            identities: event.identities,
            strip: event.clip.as_ref().map(|_| format!("/api/v1/events/{id}/strip")),
            recording_refused: event.recording_refused,
            kept: event.kept,
            clip: event.clip.map(|_| format!("/api/v1/events/{id}/clip")),
            snapshot: event.snapshot.map(|_| format!("/api/v1/events/{id}/snapshot")),
            detail: event.detail,
            snoozed: event.snoozed,
        }
    }
}

/// Reads the query; the error names the key and what is allowed.
pub(crate) fn read_query(query: &str) -> Result<EventQuery, String> {
    let raw = web::Query::<RawQuery>::from_query(query)
        .map_err(|_| {
            "the query takes camera, kind, person, since, until, limit and before, each at most once"
                .to_owned()
        })?
        .into_inner();
    // A form field that was left empty is as good as none.
    let given = |field: Option<String>| field.filter(|text| !text.is_empty());
    let camera = given(raw.camera)
        .map(|text| CameraId::from_shown(&text).map_err(|error| format!("camera: {error}")))
        .transpose()?;
    let kind = given(raw.kind)
        .map(|text| {
            let allowed = EventKind::ALL.map(EventKind::as_str).join(", ");
            EventKind::from_str(&text).map_err(|_| format!("kind: one of {allowed}"))
        })
        .transpose()?;
    let before = given(raw.before)
        .map(|text| {
            EventPlace::from_str(&text).map_err(|_| "before: what `next` of an answer said".to_owned())
        })
        .transpose()?;
    let moment = |key: &str, field: Option<String>| given(field).map(|text| moment(key, &text)).transpose();
    let (since, until) = (moment("since", raw.since)?, moment("until", raw.until)?);
    let person = given(raw.person);
    if person.as_ref().is_some_and(|name| name.len() > MAX_NAME_BYTES) {
        return Err(format!("person: at most {MAX_NAME_BYTES} bytes"));
    }
    let limit = match given(raw.limit) {
        None => DEFAULT_EVENTS,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=MAX_EVENTS).contains(limit))
            .ok_or_else(|| format!("limit: a number from 1 to {MAX_EVENTS}"))?,
    };
    Ok(EventQuery { camera, kind, person, since, until, before, limit })
}

/// Reads a moment; the error names the key.
pub(crate) fn moment(key: &str, text: &str) -> Result<WallTime, String> {
    let moment = text.parse::<jiff::Timestamp>();
    moment
        .map(|at| WallTime(at.as_microsecond()))
        .map_err(|_| format!("{key}: a moment such as 2026-11-20T21:31:14Z or 2026-11-21T05:31:14%2B08:00"))
}

pub(crate) async fn list(state: web::Data<AppState>, request: HttpRequest) -> HttpResponse {
    let query = match read_query(request.query_string()) {
        Ok(query) => query,
        Err(words) => return problem(StatusCode::BAD_REQUEST, &words),
    };
    let limit = query.limit;
    let source = Arc::clone(&state.events);
    match state.lanes.events.ask(move || source.recent(&query)).await {
        Ok(Ok(mut events)) => {
            events.truncate(limit);
            // A full page may be the last one; then the next is empty.
            let next = events
                .last()
                .filter(|_| events.len() == limit)
                .map(|last| EventPlace { started: last.started, id: last.id }.to_string());
            let events: Vec<EventReply> = events.into_iter().map(EventReply::from).collect();
            HttpResponse::Ok().json(json!({ "events": events, "next": next }))
        }
        Ok(Err(error)) => unreadable(&error),
        Err(error) => no_answer(error),
    }
}

pub(crate) async fn one(state: web::Data<AppState>, id: web::Path<String>) -> HttpResponse {
    match find(&state, &id).await {
        Ok(event) => HttpResponse::Ok().json(EventReply::from(event)),
        Err(answer) => answer,
    }
}

/// The query of the sightings as it was sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSightingsQuery {
    pub(crate) from: Option<u64>,
}

/// Boxes over time, some thousand frames at once; `next` is the number of the frame to go on from.
pub(crate) async fn sightings(
    state: web::Data<AppState>,
    id: web::Path<String>,
    request: HttpRequest,
) -> HttpResponse {
    let Ok(query) = web::Query::<RawSightingsQuery>::from_query(request.query_string()) else {
        return problem(StatusCode::BAD_REQUEST, "the query takes from, the number of a frame");
    };
    let event = match find(&state, &id).await {
        Ok(event) => event.id,
        Err(answer) => return answer,
    };
    let (source, from) = (Arc::clone(&state.events), query.from.unwrap_or(0));
    match state.lanes.events.ask(move || source.sightings(event, from)).await {
        Ok(Ok(sightings)) => {
            let next = sightings.last().map(|last| last.seq.saturating_add(1));
            HttpResponse::Ok().json(json!({ "sightings": sightings, "next": next }))
        }
        Ok(Err(error)) => unreadable(&error),
        Err(error) => no_answer(error),
    }
}

pub(crate) async fn clip(
    state: web::Data<AppState>,
    id: web::Path<String>,
    request: HttpRequest,
) -> HttpResponse {
    let event = match find(&state, &id).await {
        Ok(event) => event,
        Err(answer) => return answer,
    };
    let Some(path) = event.clip.filter(|path| has_ending(path, "mp4")) else {
        return problem(StatusCode::NOT_FOUND, "this event has no finished clip");
    };
    let name = format!("{}-{}.mp4", event.camera.folder(), event.started.compact());
    send_file(&state, path, "video/mp4", &name, &request).await
}

/// The preview strip beside a clip.
pub(crate) async fn strip(
    state: web::Data<AppState>,
    id: web::Path<String>,
    request: HttpRequest,
) -> HttpResponse {
    let event = match find(&state, &id).await {
        Ok(event) => event,
        Err(answer) => return answer,
    };
    let Some(clip) = event.clip.filter(|path| has_ending(path, "mp4")) else {
        return problem(StatusCode::NOT_FOUND, "this event has no finished clip");
    };
    let mut path = clip.into_os_string();
    path.push(STRIP_ENDING);
    let name = format!("{}-{}-strip.jpg", event.camera.folder(), event.started.compact());
    send_file(&state, path.into(), "image/jpeg", &name, &request).await
}

pub(crate) async fn snapshot(
    state: web::Data<AppState>,
    id: web::Path<String>,
    request: HttpRequest,
) -> HttpResponse {
    let event = match find(&state, &id).await {
        Ok(event) => event,
        Err(answer) => return answer,
    };
    let Some(path) = event.snapshot.filter(|path| has_ending(path, "jpg")) else {
        return problem(StatusCode::NOT_FOUND, "this event has no snapshot");
    };
    let name = format!("{}-{}.jpg", event.camera.folder(), event.started.compact());
    send_file(&state, path, "image/jpeg", &name, &request).await
}

async fn find(state: &AppState, id: &str) -> Result<EventSummary, HttpResponse> {
    let missing = || problem(StatusCode::NOT_FOUND, "there is no event with this id");
    let id = EventId::from_str(id).map_err(|_| missing())?;
    let source = Arc::clone(&state.events);
    match state.lanes.events.ask(move || source.event(id)).await {
        Ok(Ok(Some(event))) => Ok(event),
        Ok(Ok(None)) => Err(missing()),
        Ok(Err(error)) => Err(unreadable(&error)),
        Err(error) => Err(no_answer(error)),
    }
}

pub(crate) fn unreadable(error: &EventSourceError) -> HttpResponse {
    tracing::warn!(%error, "no events for the HTTP side");
    problem(StatusCode::SERVICE_UNAVAILABLE, "the events cannot be read at this moment")
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|own| own == ending)
}

/// Sends a file of the data folder, or the part of it that the request asks for.
pub(crate) async fn send_file(
    state: &AppState,
    path: PathBuf,
    content_type: &'static str,
    name: &str,
    request: &HttpRequest,
) -> HttpResponse {
    let folder = state.settings.data_dir.clone();
    let shown_path = path.clone();
    let (file, total) = match state.lanes.files.ask(move || open_below(&folder, &path)).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            return problem(StatusCode::NOT_FOUND, "this file is no longer there");
        }
        Ok(Err(error)) => {
            tracing::warn!(path = ?shown_path, %error, "file not sent");
            return problem(StatusCode::NOT_FOUND, "this file cannot be read");
        }
        Err(error) => return no_answer(error),
    };
    let range = request.headers().get(header::RANGE).and_then(|value| value.to_str().ok());
    // The answers carry no validator, so a range on condition of one (If-Range) can never hold.
    let range = range.filter(|_| !request.headers().contains_key(header::IF_RANGE));
    match wanted(range, total) {
        Wanted::Nothing => HttpResponse::RangeNotSatisfiable()
            .insert_header((header::CONTENT_RANGE, format!("bytes */{total}")))
            .json(json!({ "error": "the file ends before this range" })),
        Wanted::Whole => stretch(StatusCode::OK, file, 0, total, content_type, name).finish(),
        Wanted::Part { first, len } => {
            stretch(StatusCode::PARTIAL_CONTENT, file, first, len, content_type, name)
                .range(first, len, total)
                .finish()
        }
    }
}

/// An answer that carries a stretch of a file.
struct Stretch {
    builder: actix_web::HttpResponseBuilder,
    body: FileBody,
}

fn stretch(
    status: StatusCode,
    file: File,
    first: u64,
    len: u64,
    content_type: &'static str,
    name: &str,
) -> Stretch {
    let mut builder = HttpResponse::build(status);
    builder
        .content_type(content_type)
        .insert_header((header::ACCEPT_RANGES, "bytes"))
        .insert_header((header::CONTENT_DISPOSITION, format!(r#"inline; filename="{name}""#)));
    Stretch { builder, body: FileBody::new(file, first, len) }
}

impl Stretch {
    fn range(mut self, first: u64, len: u64, total: u64) -> Self {
        let last = first + len - 1;
        self.builder.insert_header((header::CONTENT_RANGE, format!("bytes {first}-{last}/{total}")));
        self
    }

    fn finish(mut self) -> HttpResponse {
        self.builder.body(self.body.boxed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_strictly() {
        let place = "1795210274123456_01930000-0000-7000-8000-000000000001";
        let query = read_query(&format!("camera=10.0.0.7~2&kind=person&limit=7&before={place}")).unwrap();
        assert_eq!(query.camera.unwrap().as_str(), "10.0.0.7~2");
        assert_eq!((query.kind, query.limit), (Some(EventKind::Person), 7));
        assert_eq!(query.before.unwrap().to_string(), place);
        let query =
            read_query("person=Li+Lei&since=2026-11-20T21:31:14Z&until=2026-11-21T05:31:15%2B08:00").unwrap();
        assert_eq!(query.person.as_deref(), Some("Li Lei"));
        assert_eq!(query.until.unwrap().0 - query.since.unwrap().0, 1_000_000);
        let open = EventQuery {
            camera: None,
            kind: None,
            person: None,
            since: None,
            until: None,
            before: None,
            limit: DEFAULT_EVENTS,
        };
        for empty in ["", "camera=&kind=&person=&since=&until=&limit=&before="] {
            assert_eq!(read_query(empty).unwrap(), open);
        }
        assert_eq!(read_query("camera=fe80%3A%3A1").unwrap().camera.unwrap().as_str(), "fe80::1");
        for (bad, key) in [
            ("camera=../x", "camera"),
            ("kind=cat", "object_moved"),
            ("limit=0", "limit"),
            ("limit=201", "200"),
            ("limit=-1", "limit"),
            ("before=yesterday", "before"),
            ("before=1_2", "before"),
            ("before=99999999999999999999_01930000-0000-7000-8000-000000000001", "before"),
            ("since=yesterday", "since"),
            ("until=5", "until"),
            (&format!("person={}", "x".repeat(1_025)), "person"),
            ("color=red", "query"),
            ("limit=1&limit=2", "query"),
        ] {
            let words = read_query(bad).unwrap_err();
            assert!(words.contains(key), "{bad}: {words}");
        }
    }
}
