//! The routes about the node itself: metrics, health, readiness, status. And what all routes share.

use std::sync::{Arc, Mutex, PoisonError};

use actix_web::guard::{Any, Get, Head};
use actix_web::http::StatusCode;
use actix_web::{FromRequest, Handler, HttpResponse, Resource, Responder, Route, web};
use meerkat_base::MonoTime;
use serde::Serialize;
use serde_json::json;

use crate::lane::LaneError;
use crate::server::AppState;
use crate::status::Status;
use crate::view::Readiness;
use crate::{alerts, events, faces, page, people, pictures, shared, snoozes, storage, store};

/// Content type of the Prometheus text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) fn configure(config: &mut web::ServiceConfig) {
    config
        .service(reading("/healthz", healthz))
        .service(reading("/readyz", readyz))
        .service(reading("/metrics", metrics))
        .service(reading("/api/v1/status", status))
        .service(reading("/api/v1/events", events::list))
        .service(reading("/api/v1/events/{id}", events::one))
        .service(reading("/api/v1/events/{id}/sightings", events::sightings))
        .service(reading("/api/v1/events/{id}/clip", events::clip))
        .service(reading("/api/v1/events/{id}/strip", events::strip))
        .service(reading("/api/v1/events/{id}/snapshot", events::snapshot))
        .service(
            web::resource("/api/v1/events/{id}/keep")
                .route(web::post().to(storage::keep_event))
                .route(web::delete().to(storage::unkeep_event))
                .default_service(web::to(wrong_method)),
        )
        .service(
            web::resource("/api/v1/clips/keep")
                .route(web::post().to(storage::keep_clip))
                .route(web::delete().to(storage::unkeep_clip))
                .default_service(web::to(wrong_method)),
        )
        .service(reading("/api/v1/storage", storage::report))
        .service(reading("/api/v1/storage/plan", storage::plan))
        .service(only("/api/v1/storage/confirm-clock", web::post().to(storage::confirm_clock)))
        .service(reading("/api/v1/cameras/{id}/picture", pictures::latest))
        .service(only("/api/v1/cameras/{id}/reference", web::post().to(pictures::new_reference)))
        .service(only("/api/v1/store/confirm", web::post().to(confirm_store)))
        .service(reading("/api/v1/store/events", store::events))
        .service(reading("/api/v1/store/events/{id}", store::event))
        .service(reading("/api/v1/store/events/{id}/sightings", store::sightings))
        .service(reading("/api/v1/store/visits", store::visits))
        .service(reading("/api/v1/store/clips", store::clips))
        .service(reading("/api/v1/store/snapshots", store::snapshots))
        .service(
            web::resource("/api/v1/store/check")
                .route(web::route().guard(Any(Get()).or(Head())).to(store::check))
                .route(web::post().to(store::begin_check))
                .default_service(web::to(wrong_method)),
        )
        .service(
            web::resource("/api/v1/store/backup")
                .route(web::route().guard(Any(Get()).or(Head())).to(store::backup))
                .route(web::post().to(store::begin_backup))
                .route(web::delete().to(store::discard_backup))
                .default_service(web::to(wrong_method)),
        )
        .service(
            web::resource(people::ADDRESS)
                .route(web::route().guard(Any(Get()).or(Head())).to(people::list))
                .route(web::post().to(people::enrol))
                .default_service(web::to(wrong_method)),
        )
        .service(only("/api/v1/people/{who}", web::delete().to(people::remove)))
        .service(
            web::resource("/api/v1/people/{who}/not")
                .route(web::post().to(faces::correct))
                .route(web::delete().to(faces::forget))
                .default_service(web::to(wrong_method)),
        )
        .service(reading(faces::ADDRESS, faces::list))
        .service(only("/api/v1/faces/unknown/{group}", web::delete().to(faces::delete)))
        .service(only("/api/v1/faces/unknown/{group}/assign", web::post().to(faces::assign)))
        .service(reading("/api/v1/faces/unknown/{group}/pictures/{number}", faces::picture))
        .service(reading("/api/v1/alerts", alerts::list))
        .service(only("/api/v1/alerts/retry-dead", web::post().to(alerts::retry_dead)))
        .service(only("/api/v1/alerts/{id}/retry", web::post().to(alerts::retry)))
        .service(only("/api/v1/alerts/{id}", web::delete().to(alerts::remove)))
        .service(only("/api/v1/channels/{name}/test", web::post().to(alerts::test)))
        .service(reading("/shared/{path:.*}", shared::file))
        .service(
            web::resource(snoozes::ADDRESS)
                .route(web::route().guard(Any(Get()).or(Head())).to(snoozes::list))
                .route(web::post().to(snoozes::add))
                .default_service(web::to(wrong_method)),
        )
        .service(only("/api/v1/snoozes/{id}", web::delete().to(snoozes::cancel)))
        .default_service(web::to(|| async {
            problem(StatusCode::NOT_FOUND, "there is nothing at this address")
        }));
    page::configure(config);
}

/// An address that can be read, by GET and HEAD.
pub(crate) fn reading<H, Args>(address: &str, handler: H) -> Resource
where
    H: Handler<Args>,
    Args: FromRequest + 'static,
    H::Output: Responder + 'static,
{
    only(address, web::route().guard(Any(Get()).or(Head())).to(handler))
}

/// An address with one route; other methods are told so.
fn only(address: &str, route: Route) -> Resource {
    web::resource(address).route(route).default_service(web::to(wrong_method))
}

async fn wrong_method() -> HttpResponse {
    problem(StatusCode::METHOD_NOT_ALLOWED, "this address takes other methods")
}

/// An error in plain words.
pub(crate) fn problem(status: StatusCode, words: &str) -> HttpResponse {
    HttpResponse::build(status).json(json!({ "error": words }))
}

/// The answer to a request for which the node had none.
pub(crate) fn no_answer(error: LaneError) -> HttpResponse {
    problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())
}

/// Alive means that this answer arrives; nothing of the node is asked.
async fn healthz() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("alive\n")
}

/// A person has looked at a database that was made anew.
async fn confirm_store(state: web::Data<AppState>) -> HttpResponse {
    let view = Arc::clone(&state.view);
    match state.lanes.confirm.ask(move || view.confirm_store()).await {
        Ok(Ok(confirmed)) => HttpResponse::Ok().json(json!({ "confirmed": confirmed })),
        Ok(Err(words)) => problem(StatusCode::SERVICE_UNAVAILABLE, &words),
        Err(error) => no_answer(error),
    }
}

async fn readyz(state: web::Data<AppState>) -> HttpResponse {
    let view = Arc::clone(&state.view);
    let readiness = match state.lanes.ready.ask(move || view.ready()).await {
        Ok(readiness) => readiness,
        Err(error) => Readiness { ok: false, reasons: vec![error.to_string()] },
    };
    let status = if readiness.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    HttpResponse::build(status).json(readiness)
}

/// Never answered from memory: old numbers would look like new ones to the scraper.
async fn metrics(state: web::Data<AppState>) -> HttpResponse {
    let view = Arc::clone(&state.view);
    match state.lanes.metrics.ask(move || view.render_metrics()).await {
        Ok(text) => HttpResponse::Ok().content_type(METRICS_TYPE).body(text),
        Err(error) => no_answer(error),
    }
}

/// The last status that the node gave, for when it gives none.
#[derive(Debug, Default)]
pub(crate) struct LastStatus(Mutex<Option<(Arc<Status>, MonoTime)>>);

impl LastStatus {
    fn put(&self, status: &Arc<Status>, at: MonoTime) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Arc::clone(status), at));
    }

    fn get(&self) -> Option<(Arc<Status>, MonoTime)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A status with its age: 0 when the node gave it just now, more when it did not answer in time and this is
/// the last one it gave.
#[derive(Serialize)]
struct AgedStatus<'a> {
    #[serde(flatten)]
    status: &'a Status,
    age_seconds: f64,
}

async fn status(state: web::Data<AppState>) -> HttpResponse {
    let view = Arc::clone(&state.view);
    match state.lanes.status.ask(move || view.status()).await {
        Ok(status) => {
            let status = Arc::new(status);
            state.last_status.put(&status, state.clock.mono());
            HttpResponse::Ok().json(AgedStatus { status: &status, age_seconds: 0.0 })
        }
        Err(error) => match state.last_status.get() {
            Some((status, at)) => {
                let age_seconds = state.clock.mono().since(at).as_secs_f64();
                HttpResponse::Ok().json(AgedStatus { status: &status, age_seconds })
            }
            None => no_answer(error),
        },
    }
}
