//! Our own webhook: one signed POST of JSON per message, to whatever the owner runs.
//!
//! # The request
//!
//! `Content-Type: application/json`, and three headers:
//!
//! | header | value |
//! |---|---|
//! | `X-Meerkat-Time` | Unix time of this attempt, whole seconds |
//! | `X-Meerkat-Id` | the message's id, a UUID, the same on every attempt and of its clips: with `part`, the idempotency key |
//! | `X-Meerkat-Signature` | `v1=` and in lower-case hex HMAC-SHA256(secret, time + `\n` + id + `\n` + body) |
//!
//! The body of an alert:
//!
//! ```json
//! {"version":1,"type":"alert","part":"alert","id":"0192…","time":"2026-11-20T21:31:15.000Z","event":"0192…",
//!  "camera":"front","camera_name":"前门","kind":"person","severity":"warning","phase":"started",
//!  "started":"2026-11-20T21:31:14.123Z","score":0.87,"identities":[],"detail":"","text":"…",
//!  "snapshot":"<base64 of a JPEG>","snapshot_bytes":61234}
//! ```
//!
//! `time` is that of the attempt, `started` that of the event, both RFC 3339 in UTC. `kind` is one of `motion
//! object_moved object_removed person face` or, about the node itself, `camera_silent actor_failing disk_low
//! recording_refused channel_failing clock_jump store_damaged viewer`, for which `detail` has words for people. `phase` is one of
//! `started updated ended`, `severity` one of `info warning critical`, `score` is in 0..=1; `camera_name` may be null.
//! `snapshot` is missing when there is none, when it may not leave the node (face pictures by default), and when it is
//! larger than the limit; only in the last case `snapshot_bytes` is there without it.
//!
//! The clip follows when it is ready, with the same id and `"part":"clip"`; a long event has several, and the later ones are
//! `"clip-2"`, `"clip-3"` and so on. Id and part together are the idempotency key.
//! Beside what names the event it has `"clip":{"name":"….mp4","duration_secs":12.4,"bytes":…,"sha256":"…","link":"…",
//! "data":"<base64>"}`; `bytes` and `sha256` are there when the node had the file at hand, `data` when it is not larger than
//! `max_clip_bytes`, `link` when the node has a public address.
//!
//! A digest has `"type":"digest"` with `oldest`, `newest`, `total`, `text` and
//! `counts: [{"camera","camera_name","kind","count"}]`, a test `"type":"test"` with `text`. Receivers shall ignore fields
//! they do not know.
//!
//! # The answer
//!
//! 2xx is success, whatever the body says. 408, 425, 429, 5xx and every broken connection are tried again, `Retry-After`
//! honoured up to an hour; so is what comes from something before the receiver: a redirect, which is not followed, and 407.
//! Every other status is a refusal for ever.
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

mod body;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use meerkat_base::{Clock, EventKind, Secret, Severity, WallTime};
use meerkat_outbound::{HttpClient, SecretUrl};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::alert::{Alert, ClipPart, Digest, TestMessage};
use crate::channel::{Channel, Delivery, Earlier, Failure, Outcome};
use crate::limiter::{Rate, RateBook, Start};
use crate::outlet::{Common, Outlet, explain_transport, number_in};
use crate::render;
use crate::sign::{hex, hmac_sha256};

use body::{AlertBody, ClipBody, ClipFileBody, CountBody, DigestBody, HeadBody, TestBody};

/// Shorter secrets are refused: they can be guessed from one message.
pub const MIN_SECRET_BYTES: usize = 16;

/// The settings of one webhook.
#[derive(Debug, Clone)]
pub struct WebhookSettings {
    /// What all channels have.
    pub common: Common,
    /// Where to post.
    pub url: SecretUrl,
    /// Key of the signature, at least [`MIN_SECRET_BYTES`] long.
    pub secret: Secret,
    /// Larger pictures stay behind, bytes before base64.
    pub max_picture_bytes: usize,
    /// Clips up to this size go along, bytes before base64; 0: none, but links do.
    pub max_clip_bytes: u64,
    /// Messages a minute.
    pub per_minute: usize,
}

impl WebhookSettings {
    /// Settings with the defaults: snapshots up to 2 MiB, none of faces, clips as links, 100 messages a second.
    pub fn new(name: impl Into<String>, url: SecretUrl, secret: Secret) -> Self {
        Self {
            common: Common::new(name),
            url,
            secret,
            max_picture_bytes: 2 * 1024 * 1024,
            max_clip_bytes: 0,
            per_minute: 6_000,
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
    outlet: Outlet,
}

impl Webhook {
    /// Sends through `client`; `clock` gives the time that is signed.
    pub fn new(
        settings: WebhookSettings,
        client: HttpClient,
        clock: Arc<dyn Clock>,
        book: &RateBook,
    ) -> Result<Self, ShortSecret> {
        if settings.secret.reveal().len() < MIN_SECRET_BYTES {
            return Err(ShortSecret);
        }
        // The receiver is the owner's: all that limits it are the settings.
        let credentials = [&Secret::new("webhook"), &settings.secret];
        let own = [Rate { most: settings.per_minute, window: Duration::from_secs(60) }];
        let gate = book.gate(&settings.common.name, &credentials, &[], &own, Start::Fresh, clock.mono());
        let outlet = Outlet { common: settings.common.clone(), client, clock, gate };
        Ok(Self { settings, outlet })
    }

    async fn deliver_alert(&self, alert: &Alert) -> Outcome {
        let common = &self.settings.common;
        let picture = common.pictures.picture(alert);
        let kept = picture.filter(|p| p.len() <= self.settings.max_picture_bytes);
        let mut text = render::alert_text(alert, &common.style);
        if picture.is_some() && kept.is_none() {
            text.push_str(render::picture_omitted(common.style.language));
        }
        let now = self.outlet.clock.wall();
        let body = AlertBody {
            head: self.head(alert, "alert", now, text),
            snapshot: kept.map(|p| STANDARD.encode(p)),
            snapshot_bytes: picture.map(Bytes::len),
        };
        self.post(alert.id, now, &body).await
    }

    async fn deliver_file(&self, alert: &Alert, clip: &ClipPart) -> Outcome {
        let common = &self.settings.common;
        if !common.pictures.allows_clip(alert.kind) || (clip.file.is_none() && clip.link.is_none()) {
            return Outcome::Delivered;
        }
        let now = self.outlet.clock.wall();
        let file = clip.file.as_ref();
        let sent = file.filter(|file| file.len() as u64 <= self.settings.max_clip_bytes);
        let part = clip.word();
        let body = ClipBody {
            head: self.head(alert, &part, now, render::clip_text(alert, clip, &common.style)),
            clip: ClipFileBody {
                name: &clip.name,
                duration_secs: clip.duration.as_secs_f64(),
                bytes: file.map(Bytes::len),
                sha256: file.map(|file| hex(&Sha256::digest(file))),
                link: clip.link.as_deref(),
                data: sent.map(|file| STANDARD.encode(file)),
            },
        };
        self.post(alert.id, now, &body).await
    }

    fn head<'a>(&self, alert: &'a Alert, part: &'a str, now: WallTime, text: String) -> HeadBody<'a> {
        HeadBody {
            version: 1,
            r#type: "alert",
            part,
            id: alert.id,
            time: now,
            event: alert.event,
            camera: &alert.camera,
            camera_name: alert.camera_name.as_deref(),
            kind: alert.kind,
            severity: severity_word(alert.severity),
            phase: alert.phase,
            started: alert.started,
            score: if alert.score.is_finite() { alert.score } else { 0.0 },
            identities: &alert.identities,
            detail: &alert.detail,
            text,
        }
    }

    async fn deliver_counts(&self, digest: &Digest) -> Outcome {
        let now = self.outlet.clock.wall();
        let body = DigestBody {
            version: 1,
            r#type: "digest",
            id: digest.id,
            time: now,
            oldest: digest.oldest,
            newest: digest.newest,
            total: digest.total(),
            text: render::digest_text(digest, &self.settings.common.style),
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

    async fn post_test(&self, test: &TestMessage) -> Outcome {
        let now = self.outlet.clock.wall();
        let text = render::test_text(&self.settings.common.name, test.time, &self.settings.common.style);
        self.post(test.id, now, &TestBody { version: 1, r#type: "test", id: test.id, time: now, text }).await
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
        self.outlet.take_place()?;
        let (time, id) = (now.0.div_euclid(1_000_000).to_string(), id.to_string());
        let signature = signature(&self.settings.secret, &time, &id, &body);
        let headers = [
            ("x-meerkat-time", time.as_str()),
            ("x-meerkat-id", id.as_str()),
            ("x-meerkat-signature", signature.as_str()),
        ];
        let client = &self.outlet.client;
        let reply = client.post_bytes(&self.settings.url, "application/json", &headers, body).await?;
        // The head says that it has arrived; what the body would have been does not matter.
        if reply.is_success() { Ok(()) } else { Err(self.outlet.by_status(&reply)) }
    }
}

impl Channel for Webhook {
    fn name(&self) -> &str {
        &self.settings.common.name
    }

    fn kind(&self) -> &'static str {
        "webhook"
    }

    fn ready_in(&self) -> Duration {
        self.outlet.ready_in()
    }

    fn remember(&self, earlier: &[Earlier]) {
        self.outlet.remember(earlier, false);
    }

    fn deliver<'a>(&'a self, alert: &'a Alert) -> Delivery<'a> {
        Box::pin(self.deliver_alert(alert))
    }

    fn picture_limit(&self) -> Option<u64> {
        Some(self.settings.max_picture_bytes as u64)
    }

    fn clip_limit(&self) -> Option<u64> {
        let wanted = self.settings.common.pictures.include_clip && self.settings.max_clip_bytes > 0;
        wanted.then_some(self.settings.max_clip_bytes)
    }

    fn takes_clips(&self) -> bool {
        self.settings.common.pictures.include_clip
    }

    fn takes_clip_of(&self, kind: EventKind) -> bool {
        self.settings.common.pictures.allows_clip(kind)
    }

    fn deliver_clip<'a>(&'a self, alert: &'a Alert, clip: &'a ClipPart) -> Delivery<'a> {
        Box::pin(self.deliver_file(alert, clip))
    }

    fn deliver_digest<'a>(&'a self, digest: &'a Digest) -> Delivery<'a> {
        Box::pin(self.deliver_counts(digest))
    }

    fn deliver_test<'a>(&'a self, test: &'a TestMessage) -> Delivery<'a> {
        Box::pin(self.post_test(test))
    }

    fn explain(&self, reason: &str) -> Option<&'static str> {
        match number_in(reason, "status ") {
            Some(401 | 403) => Some(
                "The receiver does not accept the signature, or something before it wants a login. Compare secret on \
                 both sides and both clocks: the signature covers the time.",
            ),
            _ => explain_transport(reason),
        }
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The value of `X-Meerkat-Signature`. Neither time nor id can contain the line feed that sets them apart.
fn signature(secret: &Secret, time: &str, id: &str, body: &[u8]) -> String {
    let parts = [time.as_bytes(), b"\n", id.as_bytes(), b"\n", body];
    format!("v1={}", hex(&hmac_sha256(secret.reveal().as_bytes(), &parts)))
}

fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

#[cfg(test)]
mod tests;
