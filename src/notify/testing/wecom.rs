//! The rules of the WeCom group robot, written down a second time and apart from the channel that keeps them.

use std::collections::VecDeque;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use meerkat_base::{Clock, MonoTime};
use serde::Deserialize;

use super::http::{Answer, Request};
use super::{Received, Service};

const PER_MINUTE: usize = 20;

pub(super) struct Robot {
    target: String,
    accepted: VecDeque<MonoTime>,
}

impl Robot {
    pub(super) fn new(key: &str) -> Self {
        Self { target: format!("/cgi-bin/webhook/send?key={key}"), accepted: VecDeque::new() }
    }

    fn judge(&self, request: &Request, now: MonoTime) -> Result<Received, (i64, String)> {
        if request.method != "POST" || request.target != self.target {
            // The real one also repeats addresses and hints in this place.
            return Err((93000, format!("invalid webhook url, hint: [1795], target {}", request.target)));
        }
        let message: Message = serde_json::from_slice(&request.body)
            .map_err(|e| (if e.is_data() { 40058 } else { 47001 }, format!("data format error: {e}")))?;
        let minute_ago = |at: &&MonoTime| now.since(**at) < Duration::from_secs(60);
        if self.accepted.iter().filter(minute_ago).count() >= PER_MINUTE {
            return Err((45009, "api freq out of limit".into()));
        }
        match message {
            Message::Text { text } if text.content.is_empty() => Err((44004, "empty content".into())),
            Message::Text { text } if text.content.len() > 2048 => {
                Err((45002, format!("content size out of limit: {} bytes", text.content.len())))
            }
            Message::Text { text } => Ok(Received::Text(text.content)),
            Message::Image { image } => {
                let raw = STANDARD.decode(&image.base64).map_err(|e| (40058, format!("base64: {e}")))?;
                if raw.len() > 2 * 1024 * 1024 {
                    return Err((40009, format!("invalid image size: {}", raw.len())));
                }
                if !raw.starts_with(b"\xff\xd8\xff") && !raw.starts_with(b"\x89PNG") {
                    return Err((40005, "invalid file type".into()));
                }
                let md5: String = Md5::digest(&raw).iter().map(|b| format!("{b:02x}")).collect();
                if md5 != image.md5 {
                    return Err((301_019, "media md5 not match".into()));
                }
                Ok(Received::Picture(raw))
            }
        }
    }
}

impl Service for Robot {
    fn answer(&mut self, request: &Request, clock: &dyn Clock) -> (Answer, Result<Received, String>) {
        let now = clock.mono();
        match self.judge(request, now) {
            Ok(message) => {
                self.accepted.push_back(now);
                if self.accepted.len() > PER_MINUTE {
                    self.accepted.pop_front();
                }
                (Answer::errcode(0, "ok"), Ok(message))
            }
            Err((code, message)) => (Answer::errcode(code, &message), Err(format!("{code}: {message}"))),
        }
    }
}

#[derive(Deserialize)]
#[serde(tag = "msgtype", rename_all = "snake_case", deny_unknown_fields)]
enum Message {
    Text { text: Text },
    Image { image: Image },
}

/// The service also knows lists of people to call; the node never calls anybody, so they are a mistake here.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    content: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    base64: String,
    md5: String,
}
