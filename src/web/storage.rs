//! The routes about the disk: what is used by whom, what would go next, what is to stay, and that the clock is right.
//! Knows no database and no file.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::json;

use crate::lane::LaneError;
use crate::routes::{no_answer, problem};
use crate::server::AppState;
use crate::view::StorageError;

/// Things that one plan lists at most.
const MAX_PLAN: usize = 1_000;
const DEFAULT_PLAN: usize = 50;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanQuery {
    limit: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PathQuery {
    path: String,
}

pub(crate) async fn report(state: web::Data<AppState>) -> HttpResponse {
    let desk = Arc::clone(&state.storage);
    answer(state.lanes.storage.ask(move || desk.report()).await)
}

pub(crate) async fn plan(state: web::Data<AppState>, request: HttpRequest) -> HttpResponse {
    let limit = match web::Query::<PlanQuery>::from_query(request.query_string()) {
        Ok(query) => query.limit.unwrap_or(DEFAULT_PLAN),
        Err(_) => 0,
    };
    if !(1..=MAX_PLAN).contains(&limit) {
        return problem(StatusCode::BAD_REQUEST, &format!("limit: a number from 1 to {MAX_PLAN}"));
    }
    let desk = Arc::clone(&state.storage);
    answer(state.lanes.storage.ask(move || desk.plan(limit)).await)
}

pub(crate) async fn confirm_clock(state: web::Data<AppState>) -> HttpResponse {
    let desk = Arc::clone(&state.storage);
    match state.lanes.keep.ask(move || desk.confirm_clock()).await {
        Ok(doubted) => HttpResponse::Ok().json(json!({ "was_in_doubt": doubted })),
        Err(error) => no_answer(error),
    }
}

pub(crate) async fn keep_event(state: web::Data<AppState>, id: web::Path<String>) -> HttpResponse {
    set(&state, id.into_inner(), true).await
}

pub(crate) async fn unkeep_event(state: web::Data<AppState>, id: web::Path<String>) -> HttpResponse {
    set(&state, id.into_inner(), false).await
}

pub(crate) async fn keep_clip(state: web::Data<AppState>, request: HttpRequest) -> HttpResponse {
    set_path(&state, &request, true).await
}

pub(crate) async fn unkeep_clip(state: web::Data<AppState>, request: HttpRequest) -> HttpResponse {
    set_path(&state, &request, false).await
}

async fn set_path(state: &AppState, request: &HttpRequest, keep: bool) -> HttpResponse {
    match web::Query::<PathQuery>::from_query(request.query_string()) {
        Ok(query) => set(state, query.into_inner().path, keep).await,
        Err(_) => problem(StatusCode::BAD_REQUEST, "path: that of a clip, relative to the data folder"),
    }
}

async fn set(state: &AppState, what: String, keep: bool) -> HttpResponse {
    let desk = Arc::clone(&state.storage);
    match state.lanes.keep.ask(move || desk.keep(&what, keep)).await {
        Ok(Ok(Some(clips))) => HttpResponse::Ok().json(json!({ "kept": keep, "clips": clips })),
        Ok(Ok(None)) => problem(StatusCode::NOT_FOUND, "there is no such event or clip"),
        Ok(Err(error)) => failed(&error),
        Err(error) => no_answer(error),
    }
}

fn answer(given: Result<Result<serde_json::Value, StorageError>, LaneError>) -> HttpResponse {
    match given {
        Ok(Ok(value)) => HttpResponse::Ok().json(value),
        Ok(Err(error)) => failed(&error),
        Err(error) => no_answer(error),
    }
}

fn failed(error: &StorageError) -> HttpResponse {
    tracing::warn!(%error, "no answer about the disk");
    problem(StatusCode::SERVICE_UNAVAILABLE, "what is stored cannot be read or changed now")
}
