//! A receiver of our webhook, from its documentation only: the signature is computed by hand (RFC 2104), not by
//! the code that made it.

use std::collections::HashSet;

use meerkat_base::Clock;
use serde_json::Value;

use super::hmac::{hex, hmac_by_hand};
use super::http::{Answer, Request};
use super::{Received, Service, Verdict};

/// Older messages are taken for replays, seconds.
const FRESH_SECS: f64 = 300.0;

pub(super) struct Receiver {
    secret: Vec<u8>,
    ids: HashSet<(String, String)>,
}

impl Receiver {
    pub(super) fn new(secret: &str) -> Self {
        Self { secret: secret.as_bytes().to_vec(), ids: HashSet::new() }
    }

    fn judge(&mut self, request: &Request, now_secs: f64) -> Result<Received, (u16, String)> {
        let header = |name: &str| request.header(name).ok_or((400, format!("header {name} is missing")));
        let (time, id) = (header("x-meerkat-time")?, header("x-meerkat-id")?);
        if request.method != "POST" || header("content-type")? != "application/json" {
            return Err((400, "not a POST of JSON".into()));
        }
        let signed = [time.as_bytes(), b"\n", id.as_bytes(), b"\n", &request.body].concat();
        if header("x-meerkat-signature")? != format!("v1={}", hex(&hmac_by_hand(&self.secret, &signed))) {
            return Err((401, "the signature is wrong".into()));
        }
        let sent: f64 = time.parse().map_err(|_| (400, format!("time {time:?}")))?;
        if (now_secs - sent).abs() > FRESH_SECS {
            return Err((401, format!("sent at {sent}, it is {now_secs}")));
        }
        let body: Value = serde_json::from_slice(&request.body).map_err(|e| (400, e.to_string()))?;
        let required: &[&str] = match body["type"].as_str() {
            Some("alert") => &["part", "event", "camera", "kind", "severity", "phase", "started", "text"],
            Some("test") => &["text"],
            Some("digest") => &["oldest", "newest", "text"],
            other => return Err((400, format!("type {other:?}"))),
        };
        if let Some(missing) = required.iter().find(|field| !body[**field].is_string()) {
            return Err((400, format!("{missing} is missing")));
        }
        if body["id"].as_str() != Some(id) || body["version"] != 1 {
            return Err((400, "id or version do not agree".into()));
        }
        // A clip has the id of its alert, and the clips of a long event have parts of their own.
        let repeated =
            !self.ids.insert((id.to_owned(), body["part"].as_str().unwrap_or_default().to_owned()));
        Ok(Received::Hook { id: id.to_owned(), repeated, body })
    }
}

impl Service for Receiver {
    fn answer(&mut self, request: &Request, clock: &dyn Clock) -> (Answer, Verdict) {
        match self.judge(request, clock.wall().as_secs_f64()) {
            Ok(message) => (Answer::status(204, "", ""), Verdict::Accepted(message)),
            Err((status, why)) => {
                (Answer::status(status, "", &why), Verdict::Refused(format!("{status}: {why}")))
            }
        }
    }
}
