//! Signed links: one stored clip or snapshot for whoever holds the link, without login, until it expires. The way from
//! the path to the file is that of every file, below the data folder and nowhere else.

use std::path::PathBuf;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use meerkat_base::metric;
use meerkat_store::LinkRefused;
use serde::Deserialize;

use crate::events::send_file;
use crate::routes::problem;
use crate::server::AppState;

/// What links lead to begins with this: events' clips and snapshots, and nothing else of the data folder.
const BELOW: &str = "capture/clip/";
/// How long whoever guesses at links waits for the answer.
const WRONG_DELAY: Duration = Duration::from_millis(500);

/// What a link says besides its path.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Proof {
    until: i64,
    sig: String,
}

/// Makes the series known as 0.
pub(crate) fn declare() {
    for result in ["ok", "expired", "refused"] {
        metrics::counter!(metric::LINK_REQUESTS, "result" => result).increment(0);
    }
}

pub(crate) async fn file(
    state: web::Data<AppState>,
    path: web::Path<String>,
    request: HttpRequest,
) -> HttpResponse {
    let path = path.into_inner();
    let count = |result: &'static str| {
        metrics::counter!(metric::LINK_REQUESTS, "result" => result).increment(1);
    };
    let proof = web::Query::<Proof>::from_query(request.query_string());
    let checked = match (&state.settings.link_key, proof) {
        (Some(key), Ok(proof)) => key.check(&path, proof.until, &proof.sig, state.clock.wall()),
        _ => Err(LinkRefused::Wrong),
    };
    let content_type = match path.rsplit_once('.') {
        Some((_, "mp4")) => "video/mp4",
        Some((_, "jpg")) => "image/jpeg",
        _ => "",
    };
    // A signature is for these only; should there ever be one for more, this holds all the same.
    let is_shared = path.starts_with(BELOW) && !content_type.is_empty();
    match checked {
        Ok(()) if is_shared => {
            count("ok");
            let name = path.rsplit('/').next().unwrap_or_default().to_owned();
            send_file(&state, PathBuf::from(path), content_type, &name, &request).await
        }
        Err(LinkRefused::Expired) => {
            count("expired");
            problem(StatusCode::GONE, &LinkRefused::Expired.to_string())
        }
        Ok(()) | Err(LinkRefused::Wrong) => {
            count("refused");
            tokio::time::sleep(WRONG_DELAY).await;
            problem(StatusCode::FORBIDDEN, &LinkRefused::Wrong.to_string())
        }
    }
}
