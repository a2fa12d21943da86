//! The rules of the Telegram Bot API, written down apart from the channel that keeps them.

use meerkat_base::Clock;
use serde_json::{Value, json};

use super::http::{Answer, Part, Request};
use super::window::Window;
use super::{Received, Service, Verdict};

pub(super) struct Bot {
    token: String,
    chat_id: String,
    second: Window,
    minute: Option<Window>,
}

type Refusal = (u16, String, Value);

fn refusal(status: u16, description: &str) -> Refusal {
    (status, description.to_owned(), json!({}))
}

fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

impl Bot {
    pub(super) fn new(token: &str, chat_id: &str) -> Self {
        let is_group = !chat_id.parse::<i64>().is_ok_and(|number| number > 0);
        Self {
            token: token.to_owned(),
            chat_id: chat_id.to_owned(),
            second: Window::of(1, 1),
            minute: is_group.then(|| Window::of(20, 60)),
        }
    }

    fn judge(&mut self, request: &Request, clock: &dyn Clock) -> Result<Received, Refusal> {
        let path = request.path();
        let method = path
            .strip_prefix("/bot")
            .and_then(|path| path.strip_prefix(self.token.as_str()))
            .and_then(|path| path.strip_prefix('/'))
            .ok_or_else(|| refusal(401, &format!("Unauthorized: {path}")))?;
        let received = match method {
            "sendMessage" => self.message(request)?,
            "sendPhoto" => self.file(request, "photo", 10 * 1024 * 1024)?,
            "sendVideo" => self.file(request, "video", 50 * 1024 * 1024)?,
            "sendDocument" => self.file(request, "document", 50 * 1024 * 1024)?,
            _ => return Err(refusal(404, "Not Found: method not found")),
        };
        let now = clock.mono();
        let wait = if self.minute.as_ref().is_some_and(|minute| minute.is_full(now)) {
            Some(40)
        } else {
            self.second.is_full(now).then_some(1)
        };
        if let Some(wait) = wait {
            let description = format!("Too Many Requests: retry after {wait}");
            return Err((429, description, json!({"retry_after": wait})));
        }
        self.second.count(now);
        if let Some(minute) = &mut self.minute {
            minute.count(now);
        }
        Ok(received)
    }

    fn message(&self, request: &Request) -> Result<Received, Refusal> {
        let message = request.json().ok_or_else(|| refusal(400, "Bad Request: not json"))?;
        if message["chat_id"] != self.chat_id.as_str() {
            return Err(refusal(400, "Bad Request: chat not found"));
        }
        if message.get("parse_mode").is_some() {
            return Err(refusal(400, "Bad Request: can't parse entities"));
        }
        let text = message["text"].as_str().unwrap_or_default();
        match units(text) {
            0 => Err(refusal(400, "Bad Request: message text is empty")),
            4097.. => Err(refusal(400, "Bad Request: message is too long")),
            _ if text.contains('@') => Err(refusal(400, "Bad Request: this could call somebody")),
            _ => Ok(Received::Text(text.to_owned())),
        }
    }

    fn file(&self, request: &Request, field: &str, most_bytes: usize) -> Result<Received, Refusal> {
        let parts = request.form().ok_or_else(|| refusal(400, "Bad Request: there is no form"))?;
        if Part::text(&parts, "chat_id") != self.chat_id {
            return Err(refusal(400, "Bad Request: chat not found"));
        }
        let missing = || refusal(400, &format!("Bad Request: there is no {field} in the request"));
        let file = Part::file(&parts, field).ok_or_else(missing)?;
        if file.bytes.len() > most_bytes {
            return Err(refusal(413, "Request Entity Too Large"));
        }
        if field == "photo" && !file.bytes.ends_with(b"\xff\xd9") {
            return Err(refusal(400, "Bad Request: IMAGE_PROCESS_FAILED"));
        }
        let caption = Part::text(&parts, "caption");
        if units(caption) > 1024 {
            return Err(refusal(400, "Bad Request: message caption is too long"));
        }
        Ok(Received::File {
            name: file.file_name.clone().unwrap_or_default(),
            bytes: file.bytes.clone(),
            caption: caption.to_owned(),
        })
    }
}

impl Service for Bot {
    fn answer(&mut self, request: &Request, clock: &dyn Clock) -> (Answer, Verdict) {
        match self.judge(request, clock) {
            Ok(message) => {
                (Answer::json(200, &json!({"ok": true, "result": {}})), Verdict::Accepted(message))
            }
            Err((status, description, parameters)) => {
                let body = json!({"ok": false, "error_code": status, "description": description,
                    "parameters": parameters});
                (Answer::json(status, &body), Verdict::Refused(format!("{status}: {description}")))
            }
        }
    }
}
