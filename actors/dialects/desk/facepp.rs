//! Face++ (Megvii), where the owner has an account: its detect API, version 3, judges beauty and estimates sex and age.
//! One request at a time; whatever goes wrong, the desk goes on without.

use bytes::Bytes;
use meerkat_base::{Rect, Secret};
use meerkat_outbound::{Form, HttpClient, OutboundError, SecretUrl};
use meerkat_vision::probe::probe;
use meerkat_vision::thumbnail_jpeg;
use serde::Deserialize;
use tokio::sync::Mutex;

/// Largest file the service takes, and largest side of a picture.
const MAX_BYTES: usize = 2 * 1000 * 1000;
const MAX_SIDE_PX: u32 = 4096;
/// Larger pictures are made this wide.
const SMALLER_PX: u32 = 1280;
const QUALITY: u8 = 90;
/// What is asked for.
const ATTRIBUTES: &str = "gender,age,beauty";

/// A face as the service sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct JudgedFace {
    /// `Male` or `Female`.
    pub gender: &'static str,
    /// Years.
    pub age: u32,
    /// 0..=100, as people of the same sex judge it.
    pub beauty: f64,
    /// In pixels of the picture.
    pub bbox: Rect,
}

/// The service gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum FaceppError {
    /// The request failed.
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    /// The service refuses.
    #[error("face++ answers {status}: {reason}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its word for why.
        reason: String,
    },
    /// The answer is not as documented.
    #[error("the answer of face++ cannot be read")]
    Unreadable,
    /// The picture cannot be made small enough.
    #[error("the picture cannot be sent: {0}")]
    Picture(String),
}

#[derive(Deserialize)]
struct RawAnswer {
    #[serde(default)]
    faces: Vec<RawFace>,
    error_message: Option<String>,
}

#[derive(Deserialize)]
struct RawFace {
    face_rectangle: RawRectangle,
    attributes: Option<RawAttributes>,
}

#[derive(Deserialize)]
struct RawRectangle {
    top: f32,
    left: f32,
    width: f32,
    height: f32,
}

#[derive(Deserialize)]
struct RawAttributes {
    gender: Option<RawWord>,
    age: Option<RawNumber>,
    beauty: Option<RawBeauty>,
}

#[derive(Deserialize)]
struct RawWord {
    value: String,
}

#[derive(Deserialize)]
struct RawNumber {
    value: f64,
}

#[derive(Deserialize)]
struct RawBeauty {
    male_score: f64,
    female_score: f64,
}

/// An account.
pub struct Facepp {
    client: HttpClient,
    url: SecretUrl,
    api_key: Secret,
    api_secret: Secret,
    turn: Mutex<()>,
}

impl Facepp {
    /// An account whose detection is called at this address.
    pub fn new(client: HttpClient, url: SecretUrl, api_key: Secret, api_secret: Secret) -> Self {
        Self { client, url, api_key, api_secret, turn: Mutex::new(()) }
    }

    /// The faces of a picture that the service judged, the largest first. `picture` must be small enough
    /// ([`small_enough`]).
    ///
    /// # Errors
    /// When the service gives no answer that can be read.
    pub async fn faces(&self, picture: &[u8]) -> Result<Vec<JudgedFace>, FaceppError> {
        let _turn = self.turn.lock().await;
        let form = Form::new()
            .text("api_key", self.api_key.reveal())
            .text("api_secret", self.api_secret.reveal())
            .text("return_attributes", ATTRIBUTES)
            .file("image_file", "picture.jpg", "image/jpeg", picture);
        let reply = self.client.post_form(&self.url, &[], form).await?;
        let (is_success, status) = (reply.is_success(), reply.status);
        let body = reply.body?;
        let answer: Result<RawAnswer, _> = serde_json::from_slice(&body);
        match answer {
            Ok(RawAnswer { error_message: Some(reason), .. }) => {
                Err(FaceppError::Refused { status, reason: meerkat_base::text::shown(reason.as_bytes()) })
            }
            Ok(answer) if is_success => Ok(read(answer.faces)),
            Ok(_) => Err(FaceppError::Refused { status, reason: String::new() }),
            Err(_) if is_success => Err(FaceppError::Unreadable),
            Err(_) => Err(FaceppError::Refused { status, reason: String::new() }),
        }
    }
}

fn read(faces: Vec<RawFace>) -> Vec<JudgedFace> {
    let mut judged: Vec<JudgedFace> = faces.into_iter().filter_map(one).collect();
    judged.sort_by(|a, b| b.bbox.area().total_cmp(&a.bbox.area()));
    judged
}

/// Only the largest faces have attributes.
fn one(face: RawFace) -> Option<JudgedFace> {
    let RawRectangle { top, left, width, height } = face.face_rectangle;
    let RawAttributes { gender, age, beauty } = face.attributes?;
    let (gender, beauty) = (gender?.value, beauty?);
    let (gender, beauty) = if gender.eq_ignore_ascii_case("female") {
        ("Female", beauty.female_score)
    } else {
        ("Male", beauty.male_score)
    };
    let age = age.map_or(0.0, |age| age.value).clamp(0.0, 150.0) as u32;
    Some(JudgedFace { gender, age, beauty, bbox: Rect::new(left, top, width, height) })
}

/// A picture as the service takes it, and how many pixels of the original one of its pixels stands for. Blocks.
///
/// # Errors
/// When it cannot be decoded.
pub fn small_enough(picture: &Bytes) -> Result<(Bytes, f32), FaceppError> {
    let bad = |error: meerkat_vision::VisionError| FaceppError::Picture(error.to_string());
    let header = probe(picture).map_err(bad)?;
    if picture.len() <= MAX_BYTES && header.width.max(header.height) <= MAX_SIDE_PX {
        return Ok((picture.clone(), 1.0));
    }
    let small = thumbnail_jpeg(picture, SMALLER_PX, QUALITY).map_err(bad)?;
    let width = probe(&small).map_err(bad)?.width.max(1);
    let upright = if header.may_turn && header.height > header.width { header.height } else { header.width };
    Ok((small.into(), upright as f32 / width as f32))
}

/// The score of the judged face that is this one: the one that covers it most, by at least a third of both together.
pub fn beauty_of(bbox: &Rect, judged: &[JudgedFace]) -> Option<f64> {
    let overlap = |face: &JudgedFace| face.bbox.iou(bbox);
    let best = judged.iter().max_by(|a, b| overlap(a).total_cmp(&overlap(b)))?;
    (overlap(best) >= 1.0 / 3.0).then_some(best.beauty)
}

#[cfg(test)]
mod tests;
