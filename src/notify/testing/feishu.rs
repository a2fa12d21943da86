//! The rules of the Feishu robot and of the application that uploads for it, written down apart from the channel that
//! keeps them.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use meerkat_base::{Clock, MonoTime};
use serde_json::{Value, json};

use super::hmac::hmac_by_hand;
use super::http::{Answer, Part, Request};
use super::window::Window;
use super::{Received, Service, Verdict};

const TOKEN_SECS: u64 = 7_200;

pub(super) struct FeishuRobot {
    hook: String,
    secret: String,
    app_id: String,
    app_secret: String,
    minute: Window,
    second: Window,
    tokens: Vec<(String, MonoTime)>,
    images: Vec<Vec<u8>>,
}

type Refusal = (u16, i64, String);

impl FeishuRobot {
    pub(super) fn new(hook: &str, secret: &str, app_id: &str, app_secret: &str) -> Self {
        Self {
            hook: hook.to_owned(),
            secret: secret.to_owned(),
            app_id: app_id.to_owned(),
            app_secret: app_secret.to_owned(),
            minute: Window::of(100, 60),
            second: Window::of(5, 1),
            tokens: Vec::new(),
            images: Vec::new(),
        }
    }

    fn send(&mut self, request: &Request, clock: &dyn Clock) -> Result<Received, Refusal> {
        let refuse = |code, message: &str| (200, code, message.to_owned());
        if request.body.len() > 20 * 1024 {
            return Err(refuse(9499, "body too large"));
        }
        let message = request.json().ok_or(refuse(9499, "Bad Request"))?;
        let timestamp = message["timestamp"].as_str().unwrap_or_default();
        let sent: f64 = timestamp.parse().map_err(|_| refuse(19_021, "sign match fail"))?;
        let key = format!("{timestamp}\n{}", self.secret);
        let expected = STANDARD.encode(hmac_by_hand(key.as_bytes(), b""));
        if message["sign"] != expected.as_str() || (clock.wall().as_secs_f64() - sent).abs() > 3_600.0 {
            let words = "sign match fail or timestamp is not within one hour from current time";
            return Err(refuse(19_021, words));
        }
        let now = clock.mono();
        if self.minute.is_full(now) || self.second.is_full(now) {
            return Err(refuse(11_232, "frequency limited psm[lark.oapi.app_platform_runtime]appID[1500]"));
        }
        let received = match message["msg_type"].as_str() {
            Some("text") => match message["content"]["text"].as_str().unwrap_or_default() {
                "" => return Err(refuse(19_002, "params error, text is empty")),
                text if text.contains('<') => return Err(refuse(19_002, "this could call somebody")),
                text => Received::Text(text.to_owned()),
            },
            Some("image") => {
                let key = message["content"]["image_key"].as_str().unwrap_or_default();
                let number = key.strip_prefix("img_").and_then(|number| number.parse::<usize>().ok());
                let image = number.and_then(|number| self.images.get(number));
                Received::Picture(image.ok_or(refuse(9499, "invalid image_key"))?.clone())
            }
            _ => return Err(refuse(19_002, "params error, msg_type")),
        };
        self.minute.count(now);
        self.second.count(now);
        Ok(received)
    }

    fn grant(&mut self, request: &Request, now: MonoTime) -> Result<Value, Refusal> {
        let asked = request.json().unwrap_or_default();
        if asked["app_id"] != self.app_id.as_str() {
            return Err((200, 10_003, "invalid app_id".into()));
        }
        if asked["app_secret"] != self.app_secret.as_str() {
            return Err((200, 10_014, format!("app secret invalid: {asked}")));
        }
        let token = format!("t-tenant-number-{}", self.tokens.len());
        self.tokens.push((token.clone(), now));
        Ok(json!({"code": 0, "msg": "ok", "tenant_access_token": token, "expire": TOKEN_SECS}))
    }

    fn upload(&mut self, request: &Request, now: MonoTime) -> Result<Value, Refusal> {
        let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let good = |(token, at): &(String, MonoTime)| {
            Some(token.as_str()) == bearer && now.since(*at) < Duration::from_secs(TOKEN_SECS)
        };
        if !self.tokens.iter().any(good) {
            return Err((400, 99_991_663, format!("Invalid access token: {bearer:?}")));
        }
        let parts = request.form().ok_or((400, 234_001, "Invalid request param".to_owned()))?;
        let image = Part::file(&parts, "image").ok_or((400, 234_001, "Invalid request param".to_owned()))?;
        if Part::text(&parts, "image_type") != "message" {
            return Err((400, 234_001, "Invalid request param".into()));
        }
        if image.bytes.len() > 10 * 1024 * 1024 {
            return Err((400, 234_006, "The file size exceed the max value".into()));
        }
        if !image.bytes.starts_with(b"\xff\xd8\xff") && !image.bytes.starts_with(b"\x89PNG") {
            return Err((400, 234_011, "Can't recognize image format".into()));
        }
        self.images.push(image.bytes.clone());
        let key = format!("img_{}", self.images.len() - 1);
        Ok(json!({"code": 0, "msg": "success", "data": {"image_key": key}}))
    }
}

impl Service for FeishuRobot {
    fn answer(&mut self, request: &Request, clock: &dyn Clock) -> (Answer, Verdict) {
        let now = clock.mono();
        let hook = format!("/open-apis/bot/v2/hook/{}", self.hook);
        let helped = |answer| (answer, Verdict::Helped);
        let answer = match request.path() {
            path if path == hook => self.send(request, clock).map(|message| {
                (json!({"code": 0, "msg": "success", "data": {}}), Verdict::Accepted(message))
            }),
            "/open-apis/auth/v3/tenant_access_token/internal" => self.grant(request, now).map(helped),
            "/open-apis/im/v1/images" => self.upload(request, now).map(helped),
            other => {
                Err((200, 19_001, format!("param invalid: incoming webhook access token invalid {other}")))
            }
        };
        match answer {
            Ok((answer, verdict)) => (Answer::json(200, &answer), verdict),
            Err((status, code, message)) => {
                let answer = Answer::json(status, &json!({"code": code, "msg": message, "data": {}}));
                (answer, Verdict::Refused(format!("{code}: {message}")))
            }
        }
    }
}
