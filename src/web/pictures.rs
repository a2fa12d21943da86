//! The routes about one camera: its latest picture, and the order to take a new reference.

use std::sync::Arc;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, web};
use meerkat_base::{CameraId, ImageFormat};
use serde_json::json;

use crate::routes::{no_answer, problem};
use crate::server::AppState;

/// When the picture arrived, RFC 3339.
const PICTURE_TIME: &str = "x-picture-time";

pub(crate) async fn latest(state: web::Data<AppState>, id: web::Path<String>) -> HttpResponse {
    let Ok(camera) = CameraId::from_shown(&id) else { return unknown_camera() };
    let view = Arc::clone(&state.view);
    let picture = match state.lanes.picture.ask(move || view.latest_picture(&camera)).await {
        Ok(picture) => picture,
        Err(error) => return no_answer(error),
    };
    let Some((bytes, format, arrived)) = picture else {
        return problem(StatusCode::NOT_FOUND, "this camera is not known or has sent no picture yet");
    };
    let content_type = match format {
        ImageFormat::Jpeg => "image/jpeg",
        ImageFormat::Png => "image/png",
        ImageFormat::Webp => "image/webp",
        ImageFormat::Bmp => "image/bmp",
        ImageFormat::Unknown => {
            return problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the latest picture has an unknown format");
        }
    };
    HttpResponse::Ok()
        .content_type(content_type)
        .insert_header((PICTURE_TIME, arrived.to_string()))
        .insert_header((header::CONTENT_DISPOSITION, "inline"))
        .body(bytes)
}

pub(crate) async fn new_reference(state: web::Data<AppState>, id: web::Path<String>) -> HttpResponse {
    let Ok(camera) = CameraId::from_shown(&id) else { return unknown_camera() };
    let view = Arc::clone(&state.view);
    match state.lanes.reference.ask(move || view.request_new_reference(&camera)).await {
        Ok(true) => HttpResponse::Accepted().json(json!({ "requested": true })),
        Ok(false) => problem(StatusCode::CONFLICT, "this camera does not guard an object now"),
        Err(error) => no_answer(error),
    }
}

fn unknown_camera() -> HttpResponse {
    problem(StatusCode::NOT_FOUND, "there is no camera with this id")
}
