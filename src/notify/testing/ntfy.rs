//! The rules of an ntfy server, written down apart from the channel that keeps them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use meerkat_base::Clock;
use serde_json::json;

use super::http::{Answer, Request};
use super::{Received, Service, Verdict};

/// Requests at once, and how many seconds bring one more.
const BURST: f64 = 60.0;
const REFILL_SECS: f64 = 5.0;

pub(super) struct Server {
    topic: String,
    authorization: String,
    most_attachment_bytes: usize,
    tokens: f64,
    refilled_at_secs: f64,
}

type Refusal = (u16, i64, &'static str);

impl Server {
    /// `authorization` is the whole header; empty: nobody needs any. No bytes: the server takes no attachments.
    pub(super) fn new(topic: &str, authorization: &str, most_attachment_bytes: usize) -> Self {
        Self {
            topic: topic.to_owned(),
            authorization: authorization.to_owned(),
            most_attachment_bytes,
            tokens: BURST,
            refilled_at_secs: 0.0,
        }
    }

    fn judge(&mut self, request: &Request, clock: &dyn Clock) -> Result<Received, Refusal> {
        let now_secs = clock.mono().0 as f64 / 1e9;
        self.tokens = (self.tokens + (now_secs - self.refilled_at_secs) / REFILL_SECS).min(BURST);
        self.refilled_at_secs = now_secs;
        if self.tokens < 1.0 {
            return Err((429, 42_901, "limit reached: too many requests"));
        }
        self.tokens -= 1.0;
        if request.path() != format!("/{}", self.topic) {
            return Err((404, 40_401, "page not found"));
        }
        if !self.authorization.is_empty() {
            match request.header("authorization") {
                None => return Err((403, 40_301, "forbidden")),
                Some(given) if given != self.authorization => return Err((401, 40_101, "unauthorized")),
                Some(_) => {}
            }
        }
        let priority = request.header("x-priority").unwrap_or("3");
        if !["1", "2", "3", "4", "5"].contains(&priority) {
            return Err((400, 40_007, "invalid priority"));
        }
        let title = words(request.header("x-title"));
        let with_title = |message: &str| format!("{title}\n{message}");
        if let Some(name) = request.header("x-filename") {
            if self.most_attachment_bytes == 0 {
                return Err((400, 40_014, "invalid request: attachments not allowed"));
            }
            if request.body.len() > self.most_attachment_bytes {
                return Err((413, 41_301, "attachment too large, or bandwidth limit reached"));
            }
            let message = words(request.header("x-message")).replace("\\n", "\n");
            if message.len() > 4_096 {
                return Err((400, 40_041, "message too long"));
            }
            return Ok(Received::File {
                name: name.to_owned(),
                bytes: request.body.clone(),
                caption: with_title(&message),
            });
        }
        if request.body.len() > 4_096 {
            return Err((400, 40_014, "the message would become an attachment"));
        }
        match std::str::from_utf8(&request.body) {
            Ok("") | Err(_) => Err((400, 40_001, "no message")),
            Ok(message) => Ok(Received::Text(with_title(message))),
        }
    }
}

/// Decodes RFC 2047 words in base64 of UTF-8; other headers are what they are. As the server does it: characters are whole
/// in each word, blanks between two words are none.
fn words(header: Option<&str>) -> String {
    let Some(header) = header else { return String::new() };
    if !header.contains("=?") {
        return header.to_owned();
    }
    let one = |word: &str| {
        assert!(word.len() <= 75, "RFC 2047 section 2: {word}");
        let inner = word.strip_prefix("=?utf-8?b?")?.strip_suffix("?=")?;
        String::from_utf8(STANDARD.decode(inner).ok()?).ok()
    };
    header.split(' ').map(|word| one(word).unwrap_or_else(|| word.to_owned())).collect()
}

impl Service for Server {
    fn answer(&mut self, request: &Request, clock: &dyn Clock) -> (Answer, Verdict) {
        match self.judge(request, clock) {
            Ok(message) => {
                (Answer::json(200, &json!({"id": "x", "event": "message"})), Verdict::Accepted(message))
            }
            Err((status, code, error)) => {
                let answer = Answer::json(status, &json!({"code": code, "http": status, "error": error}));
                (answer, Verdict::Refused(format!("{code}: {error}")))
            }
        }
    }
}
