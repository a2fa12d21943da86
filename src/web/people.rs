//! The routes about the enrolled people: the list, enrolling, removing. Judges no picture and knows no database.

use std::borrow::Cow;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::{BodyStream, MessageBody};
use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, dev, web};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use meerkat_base::ImageFormat;
use meerkat_base::text::shown;
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::json;
use tokio::time::timeout;

use crate::door::hold;
use crate::lane::LaneError;
use crate::routes::{no_answer, problem};
use crate::server::AppState;
use crate::view::{Enrolment, MAX_ENROLMENT_PICTURES, PeopleError};

/// Where people are listed and enrolled.
pub(crate) const ADDRESS: &str = "/api/v1/people";

/// Longest body of an enrolment, in bytes: its pictures in base64 and a little around them.
pub const MAX_ENROLMENT_BYTES: u64 = 32 << 20;

/// Time for a client to send an enrolment, and to wait for one that somebody else sends.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) async fn list(state: web::Data<AppState>) -> HttpResponse {
    let desk = Arc::clone(&state.people);
    match state.lanes.people.ask(move || desk.people()).await {
        // The process is in the lock of the data folder too: so whoever asks can tell whose people these are.
        Ok(Ok(people)) => HttpResponse::Ok().json(json!({ "people": people, "process": std::process::id() })),
        Ok(Err(error)) => not_done(&error),
        Err(error) => no_answer(error),
    }
}

pub(crate) async fn enrol(
    state: web::Data<AppState>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    let mut stream = Box::pin(BodyStream::new(payload.into_inner()));
    let Ok(Ok(_only_one)) = timeout(UPLOAD_TIMEOUT, state.upload.acquire()).await else {
        return hold(problem(StatusCode::SERVICE_UNAVAILABLE, "somebody else is being enrolled"), stream);
    };
    let body = match timeout(UPLOAD_TIMEOUT, read(&mut stream)).await {
        Ok(Ok(body)) => body,
        Ok(Err((status, words))) => return hold(problem(status, words), stream),
        Err(_) => {
            return hold(
                problem(StatusCode::REQUEST_TIMEOUT, "the enrolment did not arrive in time"),
                stream,
            );
        }
    };
    // A form of a foreign page cannot have this type.
    let given = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    if !given.eq_ignore_ascii_case("application/json") {
        return problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "an enrolment is application/json");
    }
    let desk = Arc::clone(&state.people);
    let answer = state.lanes.enrol.ask(move || match understand(&body) {
        Ok(enrolment) => {
            drop(body);
            Ok(desk.enrol(enrolment))
        }
        Err(words) => Err(words),
    });
    match answer.await {
        Ok(Ok(Ok(person))) => HttpResponse::Created().json(person),
        Ok(Ok(Err(error))) => not_done(&error),
        Ok(Err(words)) => problem(StatusCode::BAD_REQUEST, &words),
        Err(error) => perhaps(error),
    }
}

pub(crate) async fn remove(state: web::Data<AppState>, who: web::Path<String>) -> HttpResponse {
    let desk = Arc::clone(&state.people);
    let who = who.into_inner();
    match state.lanes.remove.ask(move || desk.remove(&who)).await {
        Ok(Ok(true)) => HttpResponse::Ok().json(json!({ "removed": true })),
        Ok(Ok(false)) => problem(StatusCode::NOT_FOUND, "nobody of this name or id is enrolled"),
        Ok(Err(error)) => not_done(&error),
        Err(error) => perhaps(error),
    }
}

fn not_done(error: &PeopleError) -> HttpResponse {
    match error {
        PeopleError::Refused(words) => problem(StatusCode::UNPROCESSABLE_ENTITY, words),
        PeopleError::Pictures(problems) => {
            let words: Vec<String> =
                problems.iter().map(|one| format!("picture {}: {}", one.number, one.problem)).collect();
            HttpResponse::UnprocessableEntity()
                .json(json!({ "error": words.join("; "), "pictures": problems }))
        }
        PeopleError::Failed(_) => {
            tracing::warn!(%error, "no answer about people");
            problem(StatusCode::SERVICE_UNAVAILABLE, "the enrolled people cannot be read or changed now")
        }
    }
}

/// What is late may still be done.
fn perhaps(error: LaneError) -> HttpResponse {
    let words = format!("{error}; look at the list of people whether it was done");
    problem(StatusCode::SERVICE_UNAVAILABLE, &words)
}

/// Reads the body. The door has refused a longer one by its head; this holds if that was wrong.
async fn read(stream: &mut Pin<Box<BodyStream<dev::Payload>>>) -> Result<Bytes, (StatusCode, &'static str)> {
    let mut body = BytesMut::new();
    while let Some(piece) = poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
        let piece = piece.map_err(|_| (StatusCode::BAD_REQUEST, "the enrolment was cut off"))?;
        if (body.len() + piece.len()) as u64 > MAX_ENROLMENT_BYTES {
            return Err((StatusCode::PAYLOAD_TOO_LARGE, "the enrolment is too large"));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

// === What an enrolment looks like ===

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEnrolment<'a> {
    name: String,
    consent_by: String,
    #[serde(borrow)]
    pictures: RawPictures<'a>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPicture<'a> {
    format: RawFormat,
    /// Borrowed as long as nothing in it is escaped, which base64 never needs.
    #[serde(borrow)]
    data: Cow<'a, str>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawFormat {
    Jpeg,
    Png,
    Webp,
    Bmp,
}

impl From<RawFormat> for ImageFormat {
    fn from(raw: RawFormat) -> Self {
        match raw {
            RawFormat::Jpeg => ImageFormat::Jpeg,
            RawFormat::Png => ImageFormat::Png,
            RawFormat::Webp => ImageFormat::Webp,
            RawFormat::Bmp => ImageFormat::Bmp,
        }
    }
}

/// A list that is given up at the first picture too many: millions of empty ones fit into a body.
struct RawPictures<'a>(Vec<RawPicture<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for RawPictures<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Few;
        impl<'de> Visitor<'de> for Few {
            type Value = RawPictures<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "1 to {MAX_ENROLMENT_PICTURES} pictures")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut pictures = Vec::new();
                while let Some(picture) = list.next_element()? {
                    if pictures.len() == MAX_ENROLMENT_PICTURES {
                        return Err(serde::de::Error::invalid_length(MAX_ENROLMENT_PICTURES + 1, &self));
                    }
                    pictures.push(picture);
                }
                if pictures.is_empty() {
                    return Err(serde::de::Error::invalid_length(0, &self));
                }
                Ok(RawPictures(pictures))
            }
        }
        deserializer.deserialize_seq(Few)
    }
}

/// Reads the body; the error is for the client.
fn understand(body: &[u8]) -> Result<Enrolment, String> {
    let raw: RawEnrolment<'_> = serde_json::from_slice(body)
        // The library quotes what it read: escaped and cut.
        .map_err(|error| format!("not an enrolment: {}", shown(error.to_string().as_bytes())))?;
    let mut pictures = Vec::new();
    for (index, picture) in raw.pictures.0.into_iter().enumerate() {
        let bytes = STANDARD
            .decode(picture.data.as_bytes())
            .map_err(|_| format!("picture {}: its data is not base64", index + 1))?;
        pictures.push((picture.format.into(), bytes));
    }
    Ok(Enrolment { name: raw.name, consent_by: raw.consent_by, pictures })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enrolments_are_read_strictly() {
        let read = |text: &str| understand(text.as_bytes());
        let good = r#"{"name":"Li \u4e3d","consent_by":"Li","pictures":[{"format":"png","data":"AAH\/"},{"format":"jpeg","data":""}]}"#;
        let enrolment = read(good).unwrap();
        assert_eq!((enrolment.name.as_str(), enrolment.consent_by.as_str()), ("Li 丽", "Li"));
        assert_eq!(
            enrolment.pictures,
            [(ImageFormat::Png, vec![0, 1, 255]), (ImageFormat::Jpeg, Vec::new())]
        );
        let with = |count: usize| {
            let pictures = vec![r#"{"format":"bmp","data":"AAAA"}"#; count].join(",");
            format!(r#"{{"name":"a","consent_by":"b","pictures":[{pictures}]}}"#)
        };
        assert_eq!(read(&with(MAX_ENROLMENT_PICTURES)).unwrap().pictures.len(), MAX_ENROLMENT_PICTURES);
        for (bad, says) in [
            (with(0), "1 to 16 pictures"),
            (with(MAX_ENROLMENT_PICTURES + 1), "1 to 16 pictures"),
            (with(1).replace("bmp", "gif"), "gif"),
            (with(2).replacen("AAAA", "AA=A", 1), "picture 1: its data is not base64"),
            (with(1).replace("AAAA", "*"), "base64"),
            (with(1).replace("consent_by", "consent"), "consent"),
            (with(1).replace(r#""name":"a","#, ""), "missing field `name`"),
            (with(1).replace(r#""a""#, "5"), "invalid type"),
            (with(1) + "}", "trailing"),
            ("[".repeat(100_000), "not an enrolment"),
            (String::new(), "EOF"),
        ] {
            let words = read(&bad).unwrap_err();
            assert!(words.contains(says) && words.len() < 200, "{words}");
        }
        let huge = with(1).replace(r#""name":"a""#, &format!(r#""name":{{"x":"{}"}}"#, "y".repeat(1 << 20)));
        assert!(read(&huge).unwrap_err().len() < 200, "nothing large is sent back");
    }
}
