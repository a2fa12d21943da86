//! Our own webhook: one signed POST of JSON per message, to whatever the owner runs.
//!
//! # The request
//!
//! `Content-Type: application/json`, and three headers:
//!
//! | header | value |
//! |---|---|
//! | `X-Meerkat-Time` | Unix time of this attempt, whole seconds |
//! | `X-Meerkat-Id` | the message's id, a UUID, the same on every attempt: the idempotency key |
//! | `X-Meerkat-Signature` | `v1=` and in lower-case hex HMAC-SHA256(secret, time + `\n` + id + `\n` + body) |
//!
//! The body of an alert:
//!
//! ```json
//! {"version":1,"type":"alert","id":"0192…","time":"2026-11-20T21:31:15.000Z","event":"0192…","camera":"front",
//!  "camera_name":"前门","kind":"person","phase":"started","started":"2026-11-20T21:31:14.123Z","score":0.87,
//!  "identities":[],"text":"…","snapshot":"<base64 of a JPEG>","snapshot_bytes":61234}
//! ```
//!
//! `time` is that of the attempt, `started` that of the event, both RFC 3339 in UTC. `kind` is one of `motion
//! object_moved object_removed person face`, `phase` one of `started updated ended`, `score` is in 0..=1;
//! `camera_name` may be null. `snapshot` is missing when there is none, when it may not leave the node (face
//! pictures by default), and when it is larger than the limit; only in the last case `snapshot_bytes` is there
//! without it. A digest has `"type":"digest"` with `oldest`, `newest`, `total`, `text` and
//! `counts: [{"camera","camera_name","kind","count"}]`. Receivers shall ignore fields they do not know.
//!
//! # The answer
//!
//! 2xx is success, whatever the body says. 408, 429, 5xx and every broken connection are tried again, `Retry-After`
//! honoured up to an hour. Every other status is a refusal for ever; redirects are not followed.
//!
//! # Verifying it
//!
//! Compare in constant time, refuse old times, remember ids for as long:
//!
//! ```python
//! import hashlib, hmac, time
//!
//! def verify(secret: bytes, headers, body: bytes, now=None) -> bool:
//!     sent, ident = headers["X-Meerkat-Time"], headers["X-Meerkat-Id"]
//!     signed = sent.encode() + b"\n" + ident.encode() + b"\n" + body
//!     want = "v1=" + hmac.new(secret, signed, hashlib.sha256).hexdigest()
//!     fresh = abs((time.time() if now is None else now) - int(sent)) <= 300
//!     return fresh and hmac.compare_digest(want, headers["X-Meerkat-Signature"])
//! ```

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use meerkat_base::{CameraId, Clock, EventId, EventKind, EventPhase, Secret, WallTime};
use meerkat_outbound::{HttpClient, SecretUrl};
use serde::Serialize;
use sha2::Sha256;
use uuid::Uuid;

use crate::alert::{Alert, Digest, PicturePolicy};
use crate::channel::{Channel, Delivery, Failure, LONGEST_ASKED, Outcome};
use crate::render::{self, Style};

/// Shorter secrets are refused: they can be guessed from one message.
pub const MIN_SECRET_BYTES: usize = 16;

/// The settings of one webhook.
#[derive(Debug, Clone)]
pub struct WebhookSettings {
    /// Name of the channel.
    pub name: String,
    /// Where to post.
    pub url: SecretUrl,
    /// Key of the signature, at least [`MIN_SECRET_BYTES`] long.
    pub secret: Secret,
    /// Which pictures it may send.
    pub pictures: PicturePolicy,
    /// Larger pictures stay behind, bytes before base64.
    pub max_picture_bytes: usize,
    /// How `text` is written.
    pub style: Style,
}

impl WebhookSettings {
    /// Settings with the defaults: snapshots up to 2 MiB, none of faces.
    pub fn new(name: impl Into<String>, url: SecretUrl, secret: Secret) -> Self {
        Self {
            name: name.into(),
            url,
            secret,
            pictures: PicturePolicy::default(),
            max_picture_bytes: 2 * 1024 * 1024,
            style: Style::default(),
        }
    }
}

/// The secret is too short to sign with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the webhook's secret has fewer than {MIN_SECRET_BYTES} bytes")]
pub struct ShortSecret;

/// One webhook.
pub struct Webhook {
    settings: WebhookSettings,
    client: HttpClient,
    clock: Arc<dyn Clock>,
}

impl Webhook {
    /// Sends through `client`; `clock` gives the time that is signed.
    pub fn new(
        settings: WebhookSettings,
        client: HttpClient,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ShortSecret> {
        if settings.secret.reveal().len() < MIN_SECRET_BYTES {
            return Err(ShortSecret);
        }
        Ok(Self { settings, client, clock })
    }

    async fn deliver_alert(&self, alert: &Alert) -> Outcome {
        let picture = self.settings.pictures.picture(alert);
        let kept = picture.filter(|p| p.len() <= self.settings.max_picture_bytes);
        let mut text = render::alert_text(alert, &self.settings.style);
        if picture.is_some() && kept.is_none() {
            text.push_str(render::picture_omitted(self.settings.style.language));
        }
        let now = self.clock.wall();
        let body = AlertBody {
            version: 1,
            r#type: "alert",
            id: alert.id,
            time: now,
            event: alert.event,
            camera: &alert.camera,
            camera_name: alert.camera_name.as_deref(),
            kind: alert.kind,
            phase: alert.phase,
            started: alert.started,
            score: if alert.score.is_finite() { alert.score } else { 0.0 },
            identities: &alert.identities,
            text,
            snapshot: kept.map(|p| STANDARD.encode(p)),
            snapshot_bytes: picture.map(Bytes::len),
        };
        self.post(alert.id, now, &body).await
    }

    async fn deliver_counts(&self, digest: &Digest) -> Outcome {
        let now = self.clock.wall();
        let body = DigestBody {
            version: 1,
            r#type: "digest",
            id: digest.id,
            time: now,
            oldest: digest.oldest,
            newest: digest.newest,
            total: digest.total(),
            text: render::digest_text(digest, &self.settings.style),
            counts: digest
                .counts
                .iter()
                .map(|line| CountBody {
                    camera: &line.camera,
                    camera_name: line.camera_name.as_deref(),
                    kind: line.kind,
                    count: line.count,
                })
                .collect(),
        };
        self.post(digest.id, now, &body).await
    }

    async fn post<T: Serialize>(&self, id: Uuid, now: WallTime, body: &T) -> Outcome {
        let body: Bytes = match serde_json::to_vec(body) {
            Ok(body) => body.into(),
            Err(e) => return Failure::refused(format!("cannot be written as JSON: {e}")).into_outcome(0),
        };
        match self.send(id, now, body).await {
            Ok(()) => Outcome::Delivered,
            Err(failure) => failure.into_outcome(0),
        }
    }

    async fn send(&self, id: Uuid, now: WallTime, body: Bytes) -> Result<(), Failure> {
        let (time, id) = (now.0.div_euclid(1_000_000).to_string(), id.to_string());
        let signature = signature(&self.settings.secret, &time, &id, &body);
        let headers = [
            ("x-meerkat-time", time.as_str()),
            ("x-meerkat-id", id.as_str()),
            ("x-meerkat-signature", signature.as_str()),
        ];
        let reply = self.client.post_bytes(&self.settings.url, "application/json", &headers, body).await?;
        let reason = format!("status {}", reply.status);
        match reply.status {
            // The head says that it has arrived; what the body would have been does not matter.
            200..=299 => Ok(()),
            408 | 429 | 500.. => {
                let after = reply.retry_after.map(|r| r.wait(self.clock.wall()).min(LONGEST_ASKED));
                Err(Failure::Retry { after, reason })
            }
            _ => Err(Failure::refused(reason)),
        }
    }
}

impl Channel for Webhook {
    fn name(&self) -> &str {
        &self.settings.name
    }

    fn kind(&self) -> &'static str {
        "webhook"
    }

    fn deliver<'a>(&'a self, alert: &'a Alert) -> Delivery<'a> {
        Box::pin(self.deliver_alert(alert))
    }

    fn deliver_digest<'a>(&'a self, digest: &'a Digest) -> Delivery<'a> {
        Box::pin(self.deliver_counts(digest))
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The value of `X-Meerkat-Signature`. Neither time nor id can contain the line feed that sets them apart.
fn signature(secret: &Secret, time: &str, id: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.reveal().as_bytes())
        .expect("HMAC takes keys of every length (RFC 2104 section 2)");
    for part in [time.as_bytes(), b"\n", id.as_bytes(), b"\n", body] {
        mac.update(part);
    }
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("v1={hex}")
}

#[derive(Serialize)]
struct AlertBody<'a> {
    version: u8,
    r#type: &'static str,
    id: Uuid,
    time: WallTime,
    event: EventId,
    camera: &'a CameraId,
    camera_name: Option<&'a str>,
    kind: EventKind,
    phase: EventPhase,
    started: WallTime,
    score: f32,
    identities: &'a [String],
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot_bytes: Option<usize>,
}

#[derive(Serialize)]
struct DigestBody<'a> {
    version: u8,
    r#type: &'static str,
    id: Uuid,
    time: WallTime,
    oldest: WallTime,
    newest: WallTime,
    total: u64,
    text: String,
    counts: Vec<CountBody<'a>>,
}

#[derive(Serialize)]
struct CountBody<'a> {
    camera: &'a CameraId,
    camera_name: Option<&'a str>,
    kind: EventKind,
    count: u64,
}

#[cfg(test)]
mod tests;
