//! The routes about snoozes: the list, adding one, cancelling one. Decides nothing about what they keep back.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use meerkat_base::text::shown;
use meerkat_base::{CameraId, WallTime};
use serde::Deserialize;
use serde_json::json;

use crate::lane::LaneError;
use crate::routes::{no_answer, problem};
use crate::server::AppState;
use crate::view::{NewSnooze, SnoozeEnd, SnoozeError};

/// Where snoozes are listed and added.
pub(crate) const ADDRESS: &str = "/api/v1/snoozes";
/// Nothing is snoozed for longer, seconds; whoever wants that disarms.
const LONGEST_SECS: f64 = 366.0 * 86_400.0;

pub(crate) async fn list(state: web::Data<AppState>) -> HttpResponse {
    let desk = Arc::clone(&state.snoozes);
    match state.lanes.snoozes.ask(move || desk.snoozes()).await {
        // The process is in the lock of the data folder too: whoever asks can tell whose snoozes these are.
        Ok(Ok(snoozes)) => {
            HttpResponse::Ok().json(json!({ "snoozes": snoozes, "process": std::process::id() }))
        }
        Ok(Err(error)) => not_done(&error),
        Err(error) => no_answer(error),
    }
}

pub(crate) async fn add(state: web::Data<AppState>, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    // A form of a foreign page cannot have this type.
    let given = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    if !given.eq_ignore_ascii_case("application/json") {
        return problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "a snooze is application/json");
    }
    let order = match understand(&body) {
        Ok(order) => order,
        Err(words) => return problem(StatusCode::BAD_REQUEST, &words),
    };
    let desk = Arc::clone(&state.snoozes);
    match state.lanes.snooze.ask(move || desk.add(order)).await {
        Ok(Ok(snooze)) => HttpResponse::Created().json(snooze),
        Ok(Err(error)) => not_done(&error),
        Err(error) => perhaps(error),
    }
}

pub(crate) async fn cancel(state: web::Data<AppState>, id: web::Path<String>) -> HttpResponse {
    let desk = Arc::clone(&state.snoozes);
    let id = id.into_inner();
    match state.lanes.snooze.ask(move || desk.cancel(&id)).await {
        Ok(Ok(true)) => HttpResponse::Ok().json(json!({ "cancelled": true })),
        Ok(Ok(false)) => problem(StatusCode::NOT_FOUND, "there is no snooze of this id"),
        Ok(Err(error)) => not_done(&error),
        Err(error) => perhaps(error),
    }
}

fn not_done(error: &SnoozeError) -> HttpResponse {
    match error {
        SnoozeError::Refused(words) => problem(StatusCode::UNPROCESSABLE_ENTITY, words),
        SnoozeError::Failed(_) => {
            tracing::warn!(%error, "no answer about snoozes");
            problem(StatusCode::SERVICE_UNAVAILABLE, "the snoozes cannot be read or changed now")
        }
    }
}

/// What is late may still be done.
fn perhaps(error: LaneError) -> HttpResponse {
    let words = format!("{error}; look at the list of snoozes whether it was done");
    problem(StatusCode::SERVICE_UNAVAILABLE, &words)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSnooze {
    camera: Option<String>,
    rule: Option<String>,
    for_secs: Option<f64>,
    until: Option<i64>,
    disarm: Option<bool>,
    #[serde(default)]
    reason: String,
}

/// Reads the body; the error is for the client.
fn understand(body: &[u8]) -> Result<NewSnooze, String> {
    let raw: RawSnooze = serde_json::from_slice(body)
        // The library quotes what it read: escaped and cut.
        .map_err(|error| format!("not a snooze: {}", shown(error.to_string().as_bytes())))?;
    let camera =
        raw.camera.map(|text| CameraId::from_shown(&text).map_err(|error| format!("camera: {error}")));
    let ends = (raw.for_secs, raw.until, raw.disarm.unwrap_or(false));
    let end = match ends {
        (Some(secs), None, false) if secs > 0.0 && secs <= LONGEST_SECS => {
            SnoozeEnd::After(Duration::from_secs_f64(secs))
        }
        (Some(_), None, false) => {
            return Err(format!("for_secs: more than 0 and at most {LONGEST_SECS} seconds"));
        }
        (None, Some(micros), false) => SnoozeEnd::At(WallTime(micros)),
        (None, None, true) => SnoozeEnd::Never,
        _ => {
            return Err(
                "a snooze has one of for_secs, until (microseconds since 1970) and disarm = true".to_owned()
            );
        }
    };
    Ok(NewSnooze { camera: camera.transpose()?, rule: raw.rule, end, reason: raw.reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_strictly() {
        let read = |text: &str| understand(text.as_bytes());
        let order = read(r#"{"camera":"yard","rule":"night","for_secs":7200,"reason":"builders"}"#).unwrap();
        assert_eq!(order.camera.unwrap().as_str(), "yard");
        assert_eq!(
            (order.rule.as_deref(), order.end),
            (Some("night"), SnoozeEnd::After(Duration::from_secs(7200)))
        );
        assert_eq!(order.reason, "builders");
        assert_eq!(read(r#"{"until":5}"#).unwrap().end, SnoozeEnd::At(WallTime(5)));
        assert_eq!(read(r#"{"disarm":true}"#).unwrap().end, SnoozeEnd::Never);
        for (bad, says) in [
            ("{}", "one of for_secs"),
            (r#"{"for_secs":60,"disarm":true}"#, "one of for_secs"),
            (r#"{"disarm":false}"#, "one of for_secs"),
            (r#"{"for_secs":0}"#, "for_secs: more than 0"),
            (r#"{"for_secs":1e300}"#, "for_secs: more than 0"),
            (r#"{"for_secs":60,"camera":"../x"}"#, "camera:"),
            (r#"{"for_secs":60,"cam":"x"}"#, "cam"),
            ("[", "not a snooze"),
            ("", "not a snooze"),
        ] {
            let words = read(bad).unwrap_err();
            assert!(words.contains(says) && words.len() < 200, "{bad}: {words}");
        }
    }
}
