//! The rules of the WeCom group robot, written down a second time and apart from the channel that keeps them.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use meerkat_base::{Clock, MonoTime};
use serde::Deserialize;
use serde_json::json;

use super::http::{Answer, Part, Request};
use super::window::Window;
use super::{Received, Service, Verdict};

const PER_MINUTE: usize = 20;
/// Files are kept for three days.
const KEPT_FOR: Duration = Duration::from_secs(3 * 24 * 60 * 60);

pub(super) struct Robot {
    key: String,
    accepted: Window,
    files: Vec<(String, Vec<u8>, MonoTime)>,
}

impl Robot {
    pub(super) fn new(key: &str) -> Self {
        Self { key: key.to_owned(), accepted: Window::of(PER_MINUTE, 60), files: Vec::new() }
    }

    fn judge(&self, request: &Request, now: MonoTime) -> Result<Received, (i64, String)> {
        let message: Message = serde_json::from_slice(&request.body)
            .map_err(|e| (if e.is_data() { 40058 } else { 47001 }, format!("data format error: {e}")))?;
        if self.accepted.is_full(now) {
            return Err((45009, "api freq out of limit".into()));
        }
        let words = |content: String, most: usize| match content.len() {
            0 => Err((44004, "empty content".into())),
            bytes if bytes > most => Err((45002, format!("content size out of limit: {bytes} bytes"))),
            _ if content.contains('<') => Err((40058, "this would call somebody".into())),
            _ => Ok(content),
        };
        match message {
            Message::Text { text } => words(text.content, 2048).map(Received::Text),
            Message::Markdown { markdown } => words(markdown.content, 4096).map(Received::Markdown),
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
            Message::File { file } => {
                let number = file.media_id.strip_prefix("media").and_then(|n| n.parse::<usize>().ok());
                let found = number.and_then(|number| self.files.get(number));
                match found.filter(|(_, _, at)| now.since(*at) < KEPT_FOR) {
                    Some((name, bytes, _)) => Ok(Received::File {
                        name: name.clone(),
                        bytes: bytes.clone(),
                        caption: String::new(),
                    }),
                    None => Err((40007, "invalid media_id".into())),
                }
            }
        }
    }

    fn upload(&mut self, request: &Request, now: MonoTime) -> Result<String, (i64, String)> {
        if request.query("type").as_deref() != Some("file") {
            return Err((40004, "invalid media type".into()));
        }
        let parts = request.form().ok_or((41005, "missing media".to_owned()))?;
        let file = Part::file(&parts, "media").ok_or((41005, "missing media".to_owned()))?;
        match file.bytes.len() {
            0..=4 => return Err((40006, "invalid file size".into())),
            bytes if bytes > 20 * 1024 * 1024 => return Err((45001, "media size out of limit".into())),
            _ => {}
        }
        self.files.push((file.file_name.clone().unwrap_or_default(), file.bytes.clone(), now));
        Ok(format!("media{}", self.files.len() - 1))
    }
}

impl Service for Robot {
    fn answer(&mut self, request: &Request, clock: &dyn Clock) -> (Answer, Verdict) {
        let now = clock.mono();
        let refuse = |(code, message): (i64, String)| {
            (Answer::errcode(code, &message), Verdict::Refused(format!("{code}: {message}")))
        };
        if request.method != "POST" || request.query("key").as_deref() != Some(self.key.as_str()) {
            // The real one also repeats addresses and hints in this place.
            let message = format!("invalid webhook url, hint: [1795], target {}", request.target);
            return refuse((93000, message));
        }
        match request.path() {
            "/cgi-bin/webhook/send" => match self.judge(request, now) {
                Ok(message) => {
                    self.accepted.count(now);
                    (Answer::errcode(0, "ok"), Verdict::Accepted(message))
                }
                Err(why) => refuse(why),
            },
            "/cgi-bin/webhook/upload_media" => match self.upload(request, now) {
                Ok(media) => {
                    let body = json!({"errcode": 0, "errmsg": "ok", "type": "file", "media_id": media});
                    (Answer::json(200, &body), Verdict::Helped)
                }
                Err(why) => refuse(why),
            },
            _ => refuse((93000, format!("invalid webhook url, target {}", request.target))),
        }
    }
}

#[derive(Deserialize)]
#[serde(tag = "msgtype", rename_all = "snake_case", deny_unknown_fields)]
enum Message {
    Text { text: Text },
    Markdown { markdown: Text },
    Image { image: Image },
    File { file: File },
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    media_id: String,
}
