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
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use crate::door::hold;
use crate::enrolled::{Enrolment, Even, MAX_ENROLMENT_PICTURES, PeopleError};
use crate::lane::LaneError;
use crate::routes::{no_answer, problem};
use crate::server::AppState;

/// Where people are listed and enrolled.
pub(crate) const ADDRESS: &str = "/api/v1/people";

/// Longest body of an enrolment, in bytes: its pictures in base64 and a little around them.
pub const MAX_ENROLMENT_BYTES: u64 = 32 << 20;

/// Time for a client to send an enrolment, and to wait for one that somebody else sends.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Whether what is sent to an address may hold pictures: an enrolment, or that a face is not somebody's.
pub(crate) fn takes_pictures(path: &str) -> bool {
    path.strip_prefix(ADDRESS).is_some_and(|below| {
        let who = below.strip_prefix('/').and_then(|below| below.strip_suffix("/not"));
        below.is_empty() || who.is_some_and(|who| !who.is_empty() && !who.contains('/'))
    })
}

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
    let (_only_one, body, _stream) = match receive(&state, payload).await {
        Ok(received) => received,
        Err(refused) => return refused,
    };
    if !is_json(&request) {
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

type Stream = Pin<Box<BodyStream<dev::Payload>>>;

/// Takes in a body that may hold pictures; one at a time, and only as much and as long as may be.
pub(crate) async fn receive(
    state: &web::Data<AppState>,
    payload: web::Payload,
) -> Result<(SemaphorePermit<'_>, Bytes, Stream), HttpResponse> {
    let mut stream = Box::pin(BodyStream::new(payload.into_inner()));
    let Ok(Ok(only_one)) = timeout(UPLOAD_TIMEOUT, state.upload.acquire()).await else {
        return Err(hold(
            problem(StatusCode::SERVICE_UNAVAILABLE, "somebody else is being enrolled"),
            stream,
        ));
    };
    match timeout(UPLOAD_TIMEOUT, read(&mut stream)).await {
        Ok(Ok(body)) => Ok((only_one, body, stream)),
        Ok(Err((status, words))) => Err(hold(problem(status, words), stream)),
        Err(_) => {
            Err(hold(problem(StatusCode::REQUEST_TIMEOUT, "the enrolment did not arrive in time"), stream))
        }
    }
}

/// A form of a foreign page cannot have this type.
pub(crate) fn is_json(request: &HttpRequest) -> bool {
    let given = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    given.eq_ignore_ascii_case("application/json")
}

pub(crate) async fn remove(state: web::Data<AppState>, who: web::Path<String>) -> HttpResponse {
    let desk = Arc::clone(&state.people);
    let who = who.into_inner();
    match state.lanes.remove.ask(move || desk.remove(&who)).await {
        Ok(Ok(Some(removal))) => HttpResponse::Ok().json(json!({
            "removed": true,
            "unknown_groups": removal.unknown_groups,
            "negatives": removal.negatives,
        })),
        Ok(Ok(None)) => problem(StatusCode::NOT_FOUND, "nobody of this name or id is enrolled"),
        Ok(Err(error)) => not_done(&error),
        Err(error) => perhaps(error),
    }
}

pub(crate) fn not_done(error: &PeopleError) -> HttpResponse {
    match error {
        PeopleError::Refused(words) => problem(StatusCode::UNPROCESSABLE_ENTITY, words),
        PeopleError::Pictures(problems) => {
            let words: Vec<String> =
                problems.iter().map(|one| format!("picture {}: {}", one.number, one.problem)).collect();
            HttpResponse::UnprocessableEntity()
                .json(json!({ "error": words.join("; "), "pictures": problems }))
        }
        PeopleError::Known(known) => {
            HttpResponse::Conflict().json(json!({ "error": error.to_string(), "known": known }))
        }
        PeopleError::Failed(_) => {
            tracing::warn!(%error, "no answer about people");
            problem(StatusCode::SERVICE_UNAVAILABLE, "the enrolled people cannot be read or changed now")
        }
    }
}

/// What is late may still be done.
pub(crate) fn perhaps(error: LaneError) -> HttpResponse {
    let words = format!("{error}; look at the list of people whether it was done");
    problem(StatusCode::SERVICE_UNAVAILABLE, &words)
}

/// Reads the body. The door has refused a longer one by its head; this holds if that was wrong.
async fn read(stream: &mut Stream) -> Result<Bytes, (StatusCode, &'static str)> {
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
    #[serde(default)]
    even_if_known: bool,
    #[serde(default)]
    even_if_unlike: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPicture<'a> {
    pub format: RawFormat,
    /// Borrowed as long as nothing in it is escaped, which base64 never needs.
    #[serde(borrow)]
    pub data: Cow<'a, str>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawFormat {
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
    let even = Even { if_known: raw.even_if_known, if_unlike: raw.even_if_unlike };
    Ok(Enrolment { name: raw.name, consent_by: raw.consent_by, pictures, even })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_where_pictures_belong_they_are_taken() {
        for (path, takes) in [
            ("/api/v1/people", true),
            ("/api/v1/people/Li%20Lei/not", true),
            ("/api/v1/people/Li%20Lei", false),
            ("/api/v1/people//not", false),
            ("/api/v1/people/a/b/not", false),
            ("/api/v1/people/not", false),
            ("/api/v1/peoplenot", false),
            ("/api/v1/faces/unknown/1/assign", false),
        ] {
            assert_eq!(takes_pictures(path), takes, "{path}");
        }
    }

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
        assert_eq!(enrolment.even, Even::default());
        let knowing = good.replace(r#""name""#, r#""even_if_known":true,"even_if_unlike":true,"name""#);
        assert_eq!(read(&knowing).unwrap().even, Even { if_known: true, if_unlike: true });
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
