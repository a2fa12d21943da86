//! The JSON of the webhook, as the documentation of `webhook` draws it.

use meerkat_base::{CameraId, EventId, EventKind, EventPhase, WallTime};
use serde::Serialize;
use uuid::Uuid;

#[derive(Serialize)]
pub(super) struct HeadBody<'a> {
    pub(super) version: u8,
    pub(super) r#type: &'static str,
    pub(super) part: &'a str,
    pub(super) id: Uuid,
    pub(super) time: WallTime,
    pub(super) event: EventId,
    pub(super) camera: &'a CameraId,
    pub(super) camera_name: Option<&'a str>,
    pub(super) kind: EventKind,
    pub(super) severity: &'static str,
    pub(super) phase: EventPhase,
    pub(super) started: WallTime,
    pub(super) score: f32,
    pub(super) identities: &'a [String],
    pub(super) detail: &'a str,
    pub(super) text: String,
}

#[derive(Serialize)]
pub(super) struct AlertBody<'a> {
    #[serde(flatten)]
    pub(super) head: HeadBody<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) snapshot: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) snapshot_bytes: Option<usize>,
}

#[derive(Serialize)]
pub(super) struct ClipBody<'a> {
    #[serde(flatten)]
    pub(super) head: HeadBody<'a>,
    pub(super) clip: ClipFileBody<'a>,
}

#[derive(Serialize)]
pub(super) struct ClipFileBody<'a> {
    pub(super) name: &'a str,
    pub(super) duration_secs: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) link: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<String>,
}

#[derive(Serialize)]
pub(super) struct TestBody {
    pub(super) version: u8,
    pub(super) r#type: &'static str,
    pub(super) id: Uuid,
    pub(super) time: WallTime,
    pub(super) text: String,
}

#[derive(Serialize)]
pub(super) struct DigestBody<'a> {
    pub(super) version: u8,
    pub(super) r#type: &'static str,
    pub(super) id: Uuid,
    pub(super) time: WallTime,
    pub(super) oldest: WallTime,
    pub(super) newest: WallTime,
    pub(super) total: u64,
    pub(super) text: String,
    pub(super) counts: Vec<CountBody<'a>>,
}

#[derive(Serialize)]
pub(super) struct CountBody<'a> {
    pub(super) camera: &'a CameraId,
    pub(super) camera_name: Option<&'a str>,
    pub(super) kind: EventKind,
    pub(super) count: u64,
}
