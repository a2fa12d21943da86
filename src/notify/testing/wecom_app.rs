//! The rules of a WeCom application, written down apart from the channel that keeps them: tokens that end, uploads that
//! end, and messages above a member's limit that vanish without a word.

use std::collections::HashMap;
use std::time::Duration;

use meerkat_base::{Clock, MonoTime};
use serde_json::{Value, json};

use super::http::{Answer, Part, Request};
use super::window::Window;
use super::{Received, Service, Verdict};

const TOKEN_SECS: u64 = 7_200;
const KEPT_FOR: Duration = Duration::from_secs(3 * 24 * 60 * 60);
const MOST_BYTES: usize = 10 * 1024 * 1024;

pub(super) struct Application {
    corp_id: String,
    secret: String,
    agent_id: u32,
    /// Members by their ids; departments and tags have one member each, named after them.
    members: Vec<String>,
    tokens: Vec<(String, MonoTime)>,
    media: Vec<Media>,
    counts: HashMap<String, (Window, Window)>,
}

struct Media {
    kind: String,
    name: String,
    bytes: Vec<u8>,
    at: MonoTime,
}

type Refusal = (i64, String);

impl Application {
    pub(super) fn new(corp_id: &str, secret: &str, agent_id: u32, members: &[&str]) -> Self {
        Self {
            corp_id: corp_id.to_owned(),
            secret: secret.to_owned(),
            agent_id,
            members: members.iter().map(|member| (*member).to_owned()).collect(),
            tokens: Vec::new(),
            media: Vec::new(),
            counts: HashMap::new(),
        }
    }

    fn grant(&mut self, request: &Request, now: MonoTime) -> Result<Value, Refusal> {
        if request.query("corpid").as_deref() != Some(self.corp_id.as_str()) {
            return Err((40013, "invalid corpid".into()));
        }
        if request.query("corpsecret").as_deref() != Some(self.secret.as_str()) {
            return Err((40001, "invalid credential".into()));
        }
        let token = format!("access-token-number-{}", self.tokens.len());
        self.tokens.push((token.clone(), now));
        Ok(json!({"errcode": 0, "errmsg": "ok", "access_token": token, "expires_in": TOKEN_SECS}))
    }

    fn check_token(&self, request: &Request, now: MonoTime) -> Result<(), Refusal> {
        let token = request.query("access_token").ok_or((41001, "access_token missing".to_owned()))?;
        let found = self.tokens.iter().find(|(known, _)| *known == token);
        let (_, granted) = found.ok_or((40014, "invalid access_token".to_owned()))?;
        // The newest one alone is good.
        if self.tokens.last().is_some_and(|(newest, _)| *newest != token) {
            return Err((40014, "invalid access_token".into()));
        }
        if now.since(*granted) >= Duration::from_secs(TOKEN_SECS) {
            return Err((42001, "access_token expired".into()));
        }
        Ok(())
    }

    fn upload(&mut self, request: &Request, now: MonoTime) -> Result<Value, Refusal> {
        self.check_token(request, now)?;
        let kind = request.query("type").unwrap_or_default();
        if !["image", "video", "voice", "file"].contains(&kind.as_str()) {
            return Err((40004, "invalid media type".into()));
        }
        let parts = request.form().ok_or((41005, "missing media".to_owned()))?;
        let file = Part::file(&parts, "media").ok_or((41005, "missing media".to_owned()))?;
        if file.bytes.len() < 5 || file.bytes.len() > MOST_BYTES {
            return Err((40006, "invalid media size".into()));
        }
        if kind == "image" && !file.bytes.starts_with(b"\xff\xd8\xff") && !file.bytes.starts_with(b"\x89PNG")
        {
            return Err((40005, "invalid file type".into()));
        }
        let name = file.file_name.clone().unwrap_or_default();
        self.media.push(Media { kind: kind.clone(), name, bytes: file.bytes.clone(), at: now });
        let id = format!("media{}", self.media.len() - 1);
        Ok(json!({"errcode": 0, "errmsg": "ok", "type": kind, "media_id": id}))
    }

    fn send(&mut self, request: &Request, now: MonoTime) -> Result<(Value, Verdict), Refusal> {
        self.check_token(request, now)?;
        let message = request.json().ok_or((47001, "data format error".to_owned()))?;
        if message["agentid"] != self.agent_id {
            return Err((40056, "invalid agentid".into()));
        }
        let list = |key: &str| -> Vec<String> {
            let text = message[key].as_str().unwrap_or_default();
            text.split('|').filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        let (known, unknown): (Vec<String>, Vec<String>) =
            list("touser").into_iter().partition(|user| self.members.contains(user));
        let mut receivers = known;
        receivers.extend(list("toparty").into_iter().map(|party| format!("party {party}")));
        receivers.extend(list("totag").into_iter().map(|tag| format!("tag {tag}")));
        if receivers.is_empty() {
            return Err((81013, "user & party & tag all invalid".into()));
        }
        let received = self.content(&message, now)?;
        let answer = json!({"errcode": 0, "errmsg": "ok", "invaliduser": unknown.join("|"), "msgid": "m"});
        let mut over = Vec::new();
        for receiver in receivers {
            let (minute, hour) = self
                .counts
                .entry(receiver.clone())
                .or_insert_with(|| (Window::of(30, 60), Window::of(1_000, 3_600)));
            if minute.is_full(now) || hour.is_full(now) {
                over.push(receiver);
            } else {
                minute.count(now);
                hour.count(now);
            }
        }
        let verdict = if over.is_empty() {
            Verdict::Accepted(received)
        } else {
            Verdict::Dropped(format!("too many to {}", over.join(", ")))
        };
        Ok((answer, verdict))
    }

    fn content(&self, message: &Value, now: MonoTime) -> Result<Received, Refusal> {
        let kind = message["msgtype"].as_str().unwrap_or_default();
        match kind {
            "text" => {
                let content = message["text"]["content"].as_str().unwrap_or_default();
                match content.len() {
                    0 => Err((44004, "empty content".into())),
                    2049.. => Err((45002, "content size out of limit".into())),
                    _ if content.contains('<') => Err((40058, "markup in a text".into())),
                    _ => Ok(Received::Text(content.to_owned())),
                }
            }
            "image" | "video" => {
                let id = message[kind]["media_id"].as_str().unwrap_or_default();
                let number = id.strip_prefix("media").and_then(|number| number.parse::<usize>().ok());
                let media = number
                    .and_then(|number| self.media.get(number))
                    .filter(|media| media.kind == kind && now.since(media.at) < KEPT_FOR)
                    .ok_or((40007, "invalid media_id".to_owned()))?;
                if kind == "image" {
                    return Ok(Received::Picture(media.bytes.clone()));
                }
                let words = |key: &str| message[kind][key].as_str().unwrap_or_default();
                if words("title").len() > 128 || words("description").len() > 512 {
                    return Err((45002, "title or description too long".into()));
                }
                Ok(Received::File {
                    name: media.name.clone(),
                    bytes: media.bytes.clone(),
                    caption: words("description").to_owned(),
                })
            }
            _ => Err((40008, "invalid message type".into())),
        }
    }
}

impl Service for Application {
    fn answer(&mut self, request: &Request, clock: &dyn Clock) -> (Answer, Verdict) {
        let now = clock.mono();
        let answer = match (request.method.as_str(), request.path()) {
            ("GET", "/cgi-bin/gettoken") => self.grant(request, now).map(|answer| (answer, Verdict::Helped)),
            ("POST", "/cgi-bin/media/upload") => {
                self.upload(request, now).map(|answer| (answer, Verdict::Helped))
            }
            ("POST", "/cgi-bin/message/send") => self.send(request, now),
            _ => return (Answer::status(404, "", ""), Verdict::Refused(format!("404: {}", request.path()))),
        };
        match answer {
            Ok((answer, verdict)) => (Answer::json(200, &answer), verdict),
            Err((code, message)) => {
                // The real one repeats hints and addresses in this place.
                let message = format!("{message}, hint: [1795], target {}", request.target);
                (Answer::errcode(code, &message), Verdict::Refused(format!("{code}: {message}")))
            }
        }
    }
}
