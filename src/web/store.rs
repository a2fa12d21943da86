//! The routes that the command line of this node uses beside it: rows as they stand in the database, and what takes long
//! at the database. No request says where anything is written.

use std::str::FromStr;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use meerkat_base::{CameraId, EventId};
use meerkat_store::CaptureKind;
use serde::Deserialize;
use serde_json::json;

use crate::events::{RawSightingsQuery, moment, read_query, unreadable};
use crate::lane::LaneError;
use crate::routes::{no_answer, problem};
use crate::server::AppState;
use crate::view::{
    Begun, ClipQuery, EventSourceError, LongWork, MAX_CLIPS, MAX_VISITS, RowPage, SnapshotQuery,
    StorageError, VisitPlace, VisitQuery,
};

/// Visits in an answer when the request does not say.
const DEFAULT_VISITS: usize = 100;
/// The newest clips in an answer when the request does not say.
const DEFAULT_CLIPS: usize = 50;

pub(crate) async fn events(state: web::Data<AppState>, request: HttpRequest) -> HttpResponse {
    let query = match read_query(request.query_string()) {
        Ok(query) => query,
        Err(words) => return problem(StatusCode::BAD_REQUEST, &words),
    };
    let source = Arc::clone(&state.events);
    page("events", state.lanes.events.ask(move || source.rows(&query)).await)
}

pub(crate) async fn event(state: web::Data<AppState>, id: web::Path<String>) -> HttpResponse {
    let Ok(id) = EventId::from_str(&id) else { return missing() };
    let source = Arc::clone(&state.events);
    match state.lanes.events.ask(move || source.row(id)).await {
        Ok(Ok(Some(row))) => HttpResponse::Ok().json(row),
        Ok(Ok(None)) => missing(),
        Ok(Err(error)) => unreadable(&error),
        Err(error) => no_answer(error),
    }
}

pub(crate) async fn sightings(
    state: web::Data<AppState>,
    id: web::Path<String>,
    request: HttpRequest,
) -> HttpResponse {
    let Ok(query) = web::Query::<RawSightingsQuery>::from_query(request.query_string()) else {
        return problem(StatusCode::BAD_REQUEST, "the query takes from, the number of a frame");
    };
    let Ok(id) = EventId::from_str(&id) else { return missing() };
    let (source, from) = (Arc::clone(&state.events), query.from.unwrap_or(0));
    page("sightings", state.lanes.events.ask(move || source.sighting_rows(id, from)).await)
}

/// The query of the visits as it was sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawVisitQuery {
    since: String,
    until: String,
    after: Option<String>,
    limit: Option<usize>,
}

fn read_visit_query(query: &str) -> Result<VisitQuery, String> {
    let raw = web::Query::<RawVisitQuery>::from_query(query)
        .map_err(|_| {
            "the query takes since and until, which must be there, after and limit, each at most once"
                .to_owned()
        })?
        .into_inner();
    let after = raw.after.map(|text| VisitPlace::from_str(&text)).transpose();
    let limit = raw.limit.unwrap_or(DEFAULT_VISITS);
    if !(1..=MAX_VISITS).contains(&limit) {
        return Err(format!("limit: a number from 1 to {MAX_VISITS}"));
    }
    Ok(VisitQuery {
        since: moment("since", &raw.since)?,
        until: moment("until", &raw.until)?,
        after: after.map_err(|_| "after: what `next` of an answer said".to_owned())?,
        limit,
    })
}

pub(crate) async fn visits(state: web::Data<AppState>, request: HttpRequest) -> HttpResponse {
    let query = match read_visit_query(request.query_string()) {
        Ok(query) => query,
        Err(words) => return problem(StatusCode::BAD_REQUEST, &words),
    };
    let source = Arc::clone(&state.events);
    page("visits", state.lanes.visits.ask(move || source.visits(&query)).await)
}

/// The query of the clips as it was sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawClipQuery {
    camera: Option<String>,
    kind: Option<String>,
    limit: Option<usize>,
    after: Option<u64>,
    path: Option<String>,
}

fn read_clip_query(query: &str) -> Result<ClipQuery, String> {
    let words = "the query takes path, or after, or camera, kind and limit, each at most once";
    let raw = web::Query::<RawClipQuery>::from_query(query).map_err(|_| words.to_owned())?.into_inner();
    let is_of_newest = raw.camera.is_some() || raw.kind.is_some() || raw.limit.is_some();
    match (raw.path, raw.after) {
        (Some(path), None) if !is_of_newest => return Ok(ClipQuery::At(path)),
        (None, Some(number)) if !is_of_newest => return Ok(ClipQuery::After(number)),
        (None, None) => {}
        _ => return Err(words.to_owned()),
    }
    let camera = raw.camera.map(|text| CameraId::from_shown(&text)).transpose();
    let limit = raw.limit.unwrap_or(DEFAULT_CLIPS);
    if !(1..=MAX_CLIPS).contains(&limit) {
        return Err(format!("limit: a number from 1 to {MAX_CLIPS}"));
    }
    Ok(ClipQuery::Newest {
        camera: camera.map_err(|error| format!("camera: {error}"))?,
        kind: raw.kind.map(|text| capture_kind(&text)).transpose()?,
        limit,
    })
}

/// A kind of file that has rows.
fn capture_kind(text: &str) -> Result<CaptureKind, String> {
    let kinds = [CaptureKind::Clip, CaptureKind::Video, CaptureKind::Segment];
    let found = kinds.into_iter().find(|kind| kind.as_str() == text);
    found.ok_or_else(|| "kind: clip, video or segment".to_owned())
}

pub(crate) async fn clips(state: web::Data<AppState>, request: HttpRequest) -> HttpResponse {
    let query = match read_clip_query(request.query_string()) {
        Ok(query) => query,
        Err(words) => return problem(StatusCode::BAD_REQUEST, &words),
    };
    let source = Arc::clone(&state.events);
    page("clips", state.lanes.clips.ask(move || source.clips(&query)).await)
}

/// The query of the snapshots as it was sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSnapshotQuery {
    after: Option<u64>,
    path: Option<String>,
}

pub(crate) async fn snapshots(state: web::Data<AppState>, request: HttpRequest) -> HttpResponse {
    let raw = web::Query::<RawSnapshotQuery>::from_query(request.query_string()).ok();
    let query = match raw.map(web::Query::into_inner) {
        Some(RawSnapshotQuery { after, path: None }) => SnapshotQuery::After(after.unwrap_or(0)),
        Some(RawSnapshotQuery { after: None, path: Some(path) }) => SnapshotQuery::At(path),
        _ => return problem(StatusCode::BAD_REQUEST, "the query takes after, a number, or path"),
    };
    let source = Arc::clone(&state.events);
    page("snapshots", state.lanes.clips.ask(move || source.snapshots(&query)).await)
}

fn page<P: ToString>(
    name: &str,
    given: Result<Result<RowPage<P>, EventSourceError>, LaneError>,
) -> HttpResponse {
    match given {
        Ok(Ok(page)) => {
            let next = page.next.map(|place| place.to_string());
            HttpResponse::Ok().json(json!({ name: page.rows, "next": next, "process": std::process::id() }))
        }
        Ok(Err(error)) => unreadable(&error),
        Err(error) => no_answer(error),
    }
}

fn missing() -> HttpResponse {
    problem(StatusCode::NOT_FOUND, "there is no event with this id")
}

pub(crate) async fn begin_check(state: web::Data<AppState>) -> HttpResponse {
    begin(&state, LongWork::Check, "the database is being looked through already").await
}

pub(crate) async fn begin_backup(state: web::Data<AppState>) -> HttpResponse {
    let words = "a backup is being made, or was made and was not fetched yet";
    begin(&state, LongWork::Backup, words).await
}

async fn begin(state: &AppState, work: LongWork, busy: &str) -> HttpResponse {
    let desk = Arc::clone(&state.storage);
    match state.lanes.long_work.ask(move || desk.begin(work)).await {
        Ok(Ok(Begun::Number(number))) => HttpResponse::Accepted().json(json!({ "number": number })),
        Ok(Ok(Begun::Busy)) => problem(StatusCode::CONFLICT, busy),
        Ok(Err(error)) => failed(&error),
        Err(error) => no_answer(error),
    }
}

pub(crate) async fn check(state: web::Data<AppState>) -> HttpResponse {
    progress(&state, LongWork::Check).await
}

pub(crate) async fn backup(state: web::Data<AppState>) -> HttpResponse {
    progress(&state, LongWork::Backup).await
}

async fn progress(state: &AppState, work: LongWork) -> HttpResponse {
    let desk = Arc::clone(&state.storage);
    match state.lanes.long_work.ask(move || desk.state(work)).await {
        Ok(value) => HttpResponse::Ok().json(value),
        Err(error) => no_answer(error),
    }
}

pub(crate) async fn discard_backup(state: web::Data<AppState>) -> HttpResponse {
    let desk = Arc::clone(&state.storage);
    match state.lanes.long_work.ask(move || desk.discard_backup()).await {
        Ok(Ok(true)) => HttpResponse::Ok().json(json!({ "discarded": true })),
        Ok(Ok(false)) => problem(StatusCode::NOT_FOUND, "there is no backup that waits to be fetched"),
        Ok(Err(error)) => failed(&error),
        Err(error) => no_answer(error),
    }
}

fn failed(error: &StorageError) -> HttpResponse {
    tracing::warn!(%error, "no long work at the database");
    problem(StatusCode::SERVICE_UNAVAILABLE, "this cannot be done now")
}

#[cfg(test)]
mod tests {
    use meerkat_base::WallTime;

    use super::*;

    #[test]
    fn queries_of_clips_are_read_strictly() {
        let check = |query: &str, expected: ClipQuery| assert_eq!(read_clip_query(query), Ok(expected));
        check("path=capture/clip/a%20b.mp4", ClipQuery::At("capture/clip/a b.mp4".to_owned()));
        check("after=0", ClipQuery::After(0));
        check("", ClipQuery::Newest { camera: None, kind: None, limit: DEFAULT_CLIPS });
        let camera = CameraId::from_shown("fe80::1~2").unwrap();
        let kind = Some(CaptureKind::Segment);
        check(
            "camera=fe80%3A%3A1~2&kind=segment&limit=500",
            ClipQuery::Newest { camera: Some(camera), kind, limit: 500 },
        );
        for (bad, key) in [
            ("limit=0", "limit"),
            ("limit=501", "500"),
            ("kind=image", "kind"),
            ("camera=../x", "camera"),
            ("after=-1", "query"),
            ("after=1&path=x", "query"),
            ("after=1&limit=5", "query"),
            ("path=x&kind=clip", "query"),
            ("before=1", "query"),
            ("path=x&path=y", "query"),
        ] {
            let words = read_clip_query(bad).unwrap_err();
            assert!(words.contains(key), "{bad}: {words}");
        }
    }

    #[test]
    fn queries_of_visits_are_read_strictly() {
        let span = "since=2026-11-20T21:31:14.000001Z&until=2026-11-21T05:31:15%2B08:00";
        let query = read_visit_query(&format!("{span}&limit=7&after=-5_9")).unwrap();
        assert_eq!(query.until.0 - query.since.0, 999_999);
        assert_eq!((query.limit, query.after), (7, Some(VisitPlace { at: WallTime(-5), number: 9 })));
        assert_eq!(read_visit_query(span).unwrap().limit, DEFAULT_VISITS);
        for (bad, key) in [
            ("", "since"),
            ("since=2026-11-20T21:31:14Z", "until"),
            ("since=x&until=2026-11-20T21:31:14Z", "since"),
            (&format!("{span}&limit=0"), "limit"),
            (&format!("{span}&limit=501"), "500"),
            (&format!("{span}&after=5"), "after"),
            (&format!("{span}&person=x"), "query"),
            (&format!("{span}&limit=1&limit=2"), "query"),
        ] {
            let words = read_visit_query(bad).unwrap_err();
            assert!(words.contains(key), "{bad}: {words}");
        }
    }
}
