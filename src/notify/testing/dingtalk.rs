//! The rules of the DingTalk robot, written down apart from the channel that keeps them.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use meerkat_base::{Clock, MonoTime};
use serde_json::Value;

use super::hmac::hmac_by_hand;
use super::http::{Answer, Request};
use super::window::Window;
use super::{Received, Service, Verdict};

const HOUR_MS: f64 = 3_600_000.0;

pub(super) struct DingRobot {
    token: String,
    secret: String,
    accepted: Window,
    blocked_until: MonoTime,
}

impl DingRobot {
    pub(super) fn new(token: &str, secret: &str) -> Self {
        Self {
            token: token.to_owned(),
            secret: secret.to_owned(),
            accepted: Window::of(20, 60),
            blocked_until: MonoTime(0),
        }
    }

    fn judge(&mut self, request: &Request, clock: &dyn Clock) -> Result<Received, (i64, String)> {
        if request.query("access_token").as_deref() != Some(self.token.as_str()) {
            return Err((300_001, format!("token is not exist: {}", request.target)));
        }
        let timestamp = request.query("timestamp").ok_or((310_000, "timestamp is missing".to_owned()))?;
        let sent: f64 = timestamp.parse().map_err(|_| (310_000, "invalid timestamp".to_owned()))?;
        if (clock.wall().as_secs_f64() * 1_000.0 - sent).abs() > HOUR_MS {
            return Err((310_000, "invalid timestamp".into()));
        }
        let signed = format!("{timestamp}\n{}", self.secret);
        let expected = STANDARD.encode(hmac_by_hand(self.secret.as_bytes(), signed.as_bytes()));
        if request.query("sign") != Some(expected) {
            return Err((310_000, "sign not match, more: [https://ding-doc.dingtalk.com]".into()));
        }
        let now = clock.mono();
        if self.blocked_until > now || self.accepted.is_full(now) {
            if self.blocked_until <= now {
                self.blocked_until = now.after(Duration::from_secs(600));
            }
            return Err((130_101, "send too fast, exceed 20 times per minute".into()));
        }
        if request.body.len() > 20_000 {
            return Err((40_035, "body too large".into()));
        }
        let message = request.json().ok_or((40_035, "not json".to_owned()))?;
        if message["at"]["isAtAll"] == true || message["at"].get("atMobiles").is_some() {
            return Err((40_035, "this calls somebody".into()));
        }
        let words = |value: &Value| match value.as_str().unwrap_or_default() {
            "" => Err((40_035, "no words".to_owned())),
            text if text.contains(['@', '<']) => Err((40_035, "this could call somebody".to_owned())),
            text => Ok(text.to_owned()),
        };
        let received = match message["msgtype"].as_str() {
            Some("text") => Received::Text(words(&message["text"]["content"])?),
            Some("markdown") => {
                words(&message["markdown"]["title"])?;
                Received::Markdown(words(&message["markdown"]["text"])?)
            }
            _ => return Err((400_105, "unsupported message type".into())),
        };
        self.accepted.count(now);
        Ok(received)
    }
}

impl Service for DingRobot {
    fn answer(&mut self, request: &Request, clock: &dyn Clock) -> (Answer, Verdict) {
        if request.method != "POST" || request.path() != "/robot/send" {
            return (Answer::status(404, "", ""), Verdict::Refused(format!("404: {}", request.path())));
        }
        match self.judge(request, clock) {
            Ok(message) => (Answer::errcode(0, "ok"), Verdict::Accepted(message)),
            Err((code, message)) => {
                (Answer::errcode(code, &message), Verdict::Refused(format!("{code}: {message}")))
            }
        }
    }
}
