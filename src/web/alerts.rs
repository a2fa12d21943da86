//! The routes about alerts and channels: the list, putting dead letters back, dropping, trying a channel out. Knows no
//! database and no service.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use meerkat_base::CameraId;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::lane::LaneError;
use crate::outbox::{AlertError, AlertQuery, AlertState, MAX_ALERTS, Retried};
use crate::routes::{no_answer, problem};
use crate::server::AppState;

/// Alerts in an answer when the request does not say.
const DEFAULT_ALERTS: usize = 50;
/// Longest name of a channel that is looked for, bytes.
const MAX_NAME_BYTES: usize = 64;

/// The query of the list as it was sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawQuery {
    state: Option<String>,
    channel: Option<String>,
    camera: Option<String>,
    limit: Option<String>,
    before: Option<String>,
}

/// Reads the query; the error names the key and what is allowed.
fn read_query(query: &str) -> Result<AlertQuery, String> {
    let raw = web::Query::<RawQuery>::from_query(query)
        .map_err(|_| {
            "the query takes state, channel, camera, limit and before, each at most once".to_owned()
        })?
        .into_inner();
    // A form field that was left empty is as good as none.
    let given = |field: Option<String>| field.filter(|text| !text.is_empty());
    let state = given(raw.state)
        .map(|text| {
            let allowed = AlertState::ALL.map(AlertState::as_str).join(", ");
            let found = AlertState::ALL.into_iter().find(|state| state.as_str() == text);
            found.ok_or_else(|| format!("state: one of {allowed}"))
        })
        .transpose()?;
    let camera = given(raw.camera)
        .map(|text| CameraId::from_shown(&text).map_err(|error| format!("camera: {error}")))
        .transpose()?;
    let before = given(raw.before)
        .map(|text| text.parse().map_err(|_| "before: what `next` of an answer said".to_owned()))
        .transpose()?;
    let limit = match given(raw.limit) {
        None => DEFAULT_ALERTS,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=MAX_ALERTS).contains(limit))
            .ok_or_else(|| format!("limit: a number from 1 to {MAX_ALERTS}"))?,
    };
    let channel = given(raw.channel).filter(|name| name.len() <= MAX_NAME_BYTES);
    Ok(AlertQuery { state, channel, camera, before, limit })
}

pub(crate) async fn list(state: web::Data<AppState>, request: HttpRequest) -> HttpResponse {
    let query = match read_query(request.query_string()) {
        Ok(query) => query,
        Err(words) => return problem(StatusCode::BAD_REQUEST, &words),
    };
    let (desk, limit) = (Arc::clone(&state.alerts), query.limit);
    match state.lanes.alerts.ask(move || desk.alerts(&query)).await {
        Ok(Ok(alerts)) => {
            // A full page may be the last one; then the next is empty.
            let next = alerts.last().filter(|_| alerts.len() >= limit).map(|last| last.number);
            // The process is in the lock of the data folder too: whoever asks can tell whose alerts these are.
            HttpResponse::Ok().json(json!({ "alerts": alerts, "next": next, "process": std::process::id() }))
        }
        Ok(Err(error)) => not_done(&error),
        Err(error) => no_answer(error),
    }
}

pub(crate) async fn retry(state: web::Data<AppState>, id: web::Path<String>) -> HttpResponse {
    let Ok(id) = Uuid::parse_str(&id) else { return missing() };
    let desk = Arc::clone(&state.alerts);
    match state.lanes.change_alerts.ask(move || desk.retry(id)).await {
        Ok(Ok(Retried::Yes)) => HttpResponse::Ok().json(json!({ "retried": 1 })),
        Ok(Ok(Retried::Is(state))) => {
            let words = format!("this alert is {}, only dead ones can be retried", state.as_str());
            problem(StatusCode::CONFLICT, &words)
        }
        Ok(Ok(Retried::Unknown)) => missing(),
        Ok(Err(error)) => not_done(&error),
        Err(error) => perhaps(error),
    }
}

/// Which dead letters are put back.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    channel: Option<String>,
}

pub(crate) async fn retry_dead(state: web::Data<AppState>, which: web::Query<Which>) -> HttpResponse {
    let desk = Arc::clone(&state.alerts);
    let channel = which.into_inner().channel.filter(|name| !name.is_empty());
    match state.lanes.change_alerts.ask(move || desk.retry_dead(channel.as_deref())).await {
        Ok(Ok(count)) => HttpResponse::Ok().json(json!({ "retried": count })),
        Ok(Err(error)) => not_done(&error),
        Err(error) => perhaps(error),
    }
}

pub(crate) async fn remove(state: web::Data<AppState>, id: web::Path<String>) -> HttpResponse {
    let Ok(id) = Uuid::parse_str(&id) else { return missing() };
    let desk = Arc::clone(&state.alerts);
    match state.lanes.change_alerts.ask(move || desk.drop_alert(id)).await {
        Ok(Ok(0)) => problem(
            StatusCode::NOT_FOUND,
            "there is no alert with this id that waits by itself or was given up: what was delivered, or stands in \
             a digest on its way, stays",
        ),
        Ok(Ok(count)) => HttpResponse::Ok().json(json!({ "dropped": count })),
        Ok(Err(error)) => not_done(&error),
        Err(error) => perhaps(error),
    }
}

pub(crate) async fn test(state: web::Data<AppState>, channel: web::Path<String>) -> HttpResponse {
    let desk = Arc::clone(&state.alerts);
    let channel = channel.into_inner();
    match state.lanes.test_channel.ask(move || desk.test(&channel)).await {
        Ok(Ok(Some(result))) => HttpResponse::Ok().json(result),
        Ok(Ok(None)) => problem(StatusCode::NOT_FOUND, "there is no channel of this name"),
        Ok(Err(error)) => not_done(&error),
        Err(error) => no_answer(error),
    }
}

fn missing() -> HttpResponse {
    problem(StatusCode::NOT_FOUND, "there is no alert with this id")
}

fn not_done(error: &AlertError) -> HttpResponse {
    tracing::warn!(%error, "no answer about alerts");
    problem(StatusCode::SERVICE_UNAVAILABLE, "the outbox cannot be read or changed now")
}

/// What is late may still be done.
fn perhaps(error: LaneError) -> HttpResponse {
    let words = format!("{error}; look at the list of alerts whether it was done");
    problem(StatusCode::SERVICE_UNAVAILABLE, &words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_strictly() {
        let query = read_query("state=dead&channel=office&camera=door&limit=7&before=99").unwrap();
        assert_eq!((query.state, query.limit, query.before), (Some(AlertState::Dead), 7, Some(99)));
        assert_eq!((query.channel.as_deref(), query.camera.unwrap().as_str()), (Some("office"), "door"));
        let open =
            AlertQuery { state: None, channel: None, camera: None, before: None, limit: DEFAULT_ALERTS };
        for empty in ["", "state=&channel=&camera=&limit=&before="] {
            assert_eq!(read_query(empty).unwrap(), open);
        }
        for (bad, key) in [
            ("state=lost", "waiting, delivered, dead"),
            ("camera=../x", "camera"),
            ("limit=0", "limit"),
            ("limit=501", "500"),
            ("before=x", "before"),
            ("color=red", "query"),
            ("limit=1&limit=2", "query"),
        ] {
            let words = read_query(bad).unwrap_err();
            assert!(words.contains(key), "{bad}: {words}");
        }
    }
}
