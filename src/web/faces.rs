//! The routes about faces that match nobody, and about those that were taken for somebody else. Judges no picture.

use std::sync::Arc;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use meerkat_base::EventId;
use meerkat_base::text::shown;
use serde::Deserialize;
use serde_json::json;

use crate::door::hold;
use crate::enrolled::{Assignment, Even, Mistake};
use crate::people::{RawPicture, is_json, not_done, perhaps, receive};
use crate::routes::{no_answer, problem};
use crate::server::AppState;

/// Where unknown faces are listed.
pub(crate) const ADDRESS: &str = "/api/v1/faces/unknown";

pub(crate) async fn list(state: web::Data<AppState>) -> HttpResponse {
    let desk = Arc::clone(&state.people);
    match state.lanes.people.ask(move || desk.unknown()).await {
        Ok(Ok(groups)) => HttpResponse::Ok().json(json!({ "groups": groups, "process": std::process::id() })),
        Ok(Err(error)) => not_done(&error),
        Err(error) => no_answer(error),
    }
}

pub(crate) async fn picture(state: web::Data<AppState>, place: web::Path<(u64, u64)>) -> HttpResponse {
    let desk = Arc::clone(&state.people);
    let (group, number) = place.into_inner();
    match state.lanes.people.ask(move || desk.unknown_picture(group, number)).await {
        Ok(Ok(Some(jpeg))) => HttpResponse::Ok()
            .content_type("image/jpeg")
            .insert_header((header::CONTENT_DISPOSITION, "inline"))
            .body(jpeg),
        Ok(Ok(None)) => problem(StatusCode::NOT_FOUND, "there is no such picture of an unknown face"),
        Ok(Err(error)) => not_done(&error),
        Err(error) => no_answer(error),
    }
}

pub(crate) async fn assign(
    state: web::Data<AppState>,
    group: web::Path<u64>,
    request: HttpRequest,
    body: web::Bytes,
) -> HttpResponse {
    if !is_json(&request) {
        return problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "an enrolment is application/json");
    }
    let assignment = match understand_assignment(group.into_inner(), &body) {
        Ok(assignment) => assignment,
        Err(words) => return problem(StatusCode::BAD_REQUEST, &words),
    };
    let desk = Arc::clone(&state.people);
    match state.lanes.enrol.ask(move || desk.assign(assignment)).await {
        Ok(Ok(Some(person))) => HttpResponse::Created().json(person),
        Ok(Ok(None)) => no_group(),
        Ok(Err(error)) => not_done(&error),
        Err(error) => perhaps(error),
    }
}

pub(crate) async fn delete(state: web::Data<AppState>, group: web::Path<u64>) -> HttpResponse {
    let desk = Arc::clone(&state.people);
    let group = group.into_inner();
    match state.lanes.remove.ask(move || desk.delete_unknown(group)).await {
        Ok(Ok(true)) => HttpResponse::Ok().json(json!({ "deleted": true })),
        Ok(Ok(false)) => no_group(),
        Ok(Err(error)) => not_done(&error),
        Err(error) => perhaps(error),
    }
}

fn no_group() -> HttpResponse {
    problem(StatusCode::NOT_FOUND, "there is no group of unknown faces of this number")
}

fn nobody() -> HttpResponse {
    problem(StatusCode::NOT_FOUND, "nobody of this name or id is enrolled")
}

/// "This is not X."
pub(crate) async fn correct(
    state: web::Data<AppState>,
    who: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    let (_only_one, body, stream) = match receive(&state, payload).await {
        Ok(received) => received,
        Err(refused) => return refused,
    };
    if !is_json(&request) {
        return hold(problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "a correction is application/json"), stream);
    }
    let (desk, who) = (Arc::clone(&state.people), who.into_inner());
    let answer = state.lanes.enrol.ask(move || match understand_mistake(&body) {
        Ok(mistake) => {
            drop(body);
            Ok(desk.correct(&who, mistake))
        }
        Err(words) => Err(words),
    });
    match answer.await {
        Ok(Ok(Ok(Some(corrected)))) => HttpResponse::Created().json(corrected),
        Ok(Ok(Ok(None))) => nobody(),
        Ok(Ok(Err(error))) => not_done(&error),
        Ok(Err(words)) => problem(StatusCode::BAD_REQUEST, &words),
        Err(error) => perhaps(error),
    }
}

pub(crate) async fn forget(state: web::Data<AppState>, who: web::Path<String>) -> HttpResponse {
    let (desk, who) = (Arc::clone(&state.people), who.into_inner());
    match state.lanes.remove.ask(move || desk.forget_corrections(&who)).await {
        Ok(Ok(Some(forgotten))) => HttpResponse::Ok().json(json!({ "forgotten": forgotten })),
        Ok(Ok(None)) => nobody(),
        Ok(Err(error)) => not_done(&error),
        Err(error) => perhaps(error),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAssignment {
    name: String,
    consent_by: String,
    #[serde(default)]
    even_if_known: bool,
    #[serde(default)]
    even_if_unlike: bool,
}

fn understand_assignment(group: u64, body: &[u8]) -> Result<Assignment, String> {
    let raw: RawAssignment = serde_json::from_slice(body)
        // The library quotes what it read: escaped and cut.
        .map_err(|error| format!("not an enrolment: {}", shown(error.to_string().as_bytes())))?;
    let RawAssignment { name, consent_by, even_if_known, even_if_unlike } = raw;
    let even = Even { if_known: even_if_known, if_unlike: even_if_unlike };
    Ok(Assignment { group, name, consent_by, even })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMistake<'a> {
    event: Option<String>,
    #[serde(borrow)]
    picture: Option<RawPicture<'a>>,
}

fn understand_mistake(body: &[u8]) -> Result<Mistake, String> {
    let raw: RawMistake<'_> = serde_json::from_slice(body)
        .map_err(|error| format!("not a correction: {}", shown(error.to_string().as_bytes())))?;
    match raw {
        RawMistake { event: Some(event), picture: None } => {
            let event: Result<EventId, _> = event.parse();
            event.map(Mistake::Event).map_err(|_| "that is not the id of an event".to_owned())
        }
        RawMistake { event: None, picture: Some(picture) } => {
            let bytes = STANDARD
                .decode(picture.data.as_bytes())
                .map_err(|_| "the picture's data is not base64".to_owned())?;
            Ok(Mistake::Picture(picture.format.into(), bytes))
        }
        _ => Err("a correction has either an event or a picture".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use meerkat_base::ImageFormat;

    use super::*;

    #[test]
    fn corrections_are_read_strictly() {
        let read = |text: &str| understand_mistake(text.as_bytes());
        let event = "018f0000-0000-7000-8000-000000000000";
        assert_eq!(read(&format!(r#"{{"event":"{event}"}}"#)), Ok(Mistake::Event(event.parse().unwrap())));
        assert_eq!(
            read(r#"{"picture":{"format":"png","data":"AAH/"}}"#),
            Ok(Mistake::Picture(ImageFormat::Png, vec![0, 1, 255]))
        );
        for (bad, says) in [
            ("{}", "either an event or a picture"),
            (r#"{"event":"x"}"#, "not the id"),
            (r#"{"event":5}"#, "not a correction"),
            (r#"{"picture":{"format":"gif","data":""}}"#, "gif"),
            (r#"{"picture":{"format":"png","data":"*"}}"#, "base64"),
            (r#"{"picture":{"format":"png","data":""},"event":"x"}"#, "either"),
            (r#"{"who":1}"#, "not a correction"),
            ("", "EOF"),
        ] {
            let words = read(bad).unwrap_err();
            assert!(words.contains(says) && words.len() < 200, "{words}");
        }
    }

    #[test]
    fn assignments_are_read_strictly() {
        let read = |text: &str| understand_assignment(3, text.as_bytes());
        let good = read(r#"{"name":"Li","consent_by":"herself","even_if_known":true}"#).unwrap();
        assert_eq!((good.group, good.name.as_str(), good.consent_by.as_str()), (3, "Li", "herself"));
        assert_eq!(good.even, Even { if_known: true, if_unlike: false });
        for bad in ["{}", r#"{"name":"Li"}"#, r#"{"name":"Li","consent_by":"x","group":4}"#, "[", ""] {
            assert!(read(bad).unwrap_err().starts_with("not an enrolment"), "{bad}");
        }
    }
}
