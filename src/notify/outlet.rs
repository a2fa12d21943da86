//! What every channel stands on: its name and manner, the client, the clock and the service's rate limits; and how a
//! service's reply is read.

use std::sync::Arc;
use std::time::Duration;

use meerkat_base::Clock;
use meerkat_base::text::shown;
use meerkat_outbound::{HttpClient, Reply};
use serde_json::{Map, Value};

use crate::alert::PicturePolicy;
use crate::channel::{Earlier, Failure, LONGEST_ASKED};
use crate::limiter::Gate;
use crate::render::Style;

/// What the settings of all channels have in common.
#[derive(Debug, Clone)]
pub struct Common {
    /// Name of the channel.
    pub name: String,
    /// Which pictures it may send, still and moving.
    pub pictures: PicturePolicy,
    /// How it writes.
    pub style: Style,
}

impl Common {
    /// A channel of that name, with the defaults for the rest.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), pictures: PicturePolicy::default(), style: Style::default() }
    }
}

/// One channel's means.
pub struct Outlet {
    pub(crate) common: Common,
    pub(crate) client: HttpClient,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) gate: Gate,
}

impl Outlet {
    /// How long until the rate limits would take another message.
    pub(crate) fn ready_in(&self) -> Duration {
        self.gate.wait(self.clock.mono())
    }

    /// What an earlier run sent counts.
    pub(crate) fn remember(&self, earlier: &[Earlier], file_apart: bool) {
        let messages =
            |one: &Earlier| std::iter::repeat_n(one.ago, if one.with_file && file_apart { 2 } else { 1 });
        let ages: Vec<Duration> = earlier.iter().flat_map(messages).collect();
        self.gate.remember(self.clock.mono(), &ages);
    }

    /// Whether a message could leave now; takes no place. For what comes before it, such as an upload.
    pub(crate) fn check_rate(&self) -> Result<(), Failure> {
        match self.ready_in() {
            Duration::ZERO => Ok(()),
            wait => Err(Failure::Held { wait }),
        }
    }

    /// Takes a place for a message that leaves now.
    pub(crate) fn take_place(&self) -> Result<(), Failure> {
        self.gate.take(self.clock.mono()).map_err(|wait| Failure::Held { wait })
    }

    /// The service says "too fast": nothing leaves for a while, and this message least of all.
    pub(crate) fn too_fast(&self, wait: Duration, reason: String) -> Failure {
        let wait = wait.min(LONGEST_ASKED);
        self.gate.close_for(self.clock.mono(), wait);
        Failure::Retry { after: Some(wait), reason }
    }

    /// The wait that a reply asks for.
    pub(crate) fn asked(&self, reply: &Reply) -> Option<Duration> {
        reply.retry_after.map(|r| r.wait(self.clock.wall()).min(LONGEST_ASKED))
    }

    /// Reads the object that a service answers with whatever happens, always under status 200. Another status comes from
    /// something before the service, and may pass.
    pub(crate) fn object_under_200(&self, reply: Reply) -> Result<Map<String, Value>, Failure> {
        if reply.status != 200 {
            return Err(Failure::Retry {
                after: self.asked(&reply),
                reason: format!("status {}", reply.status),
            });
        }
        object(&reply.body?)
            .ok_or_else(|| Failure::retry("status 200, but not the service's JSON; it may have arrived"))
    }

    /// Reads the object that a service answers with under whatever status. Where there is none the status decides.
    pub(crate) fn object(&self, reply: Reply) -> Result<(u16, Map<String, Value>), Failure> {
        if let Some(found) = reply.body.as_ref().ok().and_then(|body| object(body)) {
            return Ok((reply.status, found));
        }
        if reply.is_success() {
            reply.body?;
            return Err(Failure::retry("a success, but not the service's JSON; it may have arrived"));
        }
        Err(self.by_status(&reply))
    }

    /// What a status means that is no success: 408, 425, 429 and 5xx may pass, and 407 is the proxy's word, not the
    /// service's; others do not.
    pub(crate) fn by_status(&self, reply: &Reply) -> Failure {
        let reason = format!("status {}", reply.status);
        match reply.status {
            407 | 408 | 425 | 429 | 500.. => Failure::Retry { after: self.asked(reply), reason },
            _ => Failure::refused(reason),
        }
    }
}

// As a map, not as a derived struct, which would also take an array.
fn object(body: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice(body).ok()
}

/// A number in an answer.
pub(crate) fn number(answer: &Map<String, Value>, key: &str) -> Option<i64> {
    answer.get(key).and_then(Value::as_i64)
}

/// A text in an answer; empty where there is none.
pub(crate) fn text<'a>(answer: &'a Map<String, Value>, key: &str) -> &'a str {
    answer.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// What a service said, fit for a log; whoever calls has taken secrets out.
pub(crate) fn said(word: &str, code: i64, message: &str) -> String {
    format!("{word} {code}: {}", shown(message.as_bytes()))
}

/// Codes of a service, by what they mean.
pub(crate) type Codes = &'static [(&'static str, &'static [i64])];

/// Whether a code is among them.
pub(crate) fn is_permanent(codes: Codes, code: i64) -> bool {
    codes.iter().any(|(_, codes)| codes.contains(&code))
}

/// The number behind a word in a reason, as [`said`] and the others here put it there.
pub(crate) fn number_in(reason: &str, word: &str) -> Option<i64> {
    let rest = reason.split_once(word)?.1.trim_start();
    let end = rest.find(|c: char| c != '-' && !c.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

/// Advice that holds for every service: what the connection or the status says.
pub(crate) fn explain_transport(reason: &str) -> Option<&'static str> {
    if reason.contains("could not connect") {
        return Some(
            "The service cannot be reached from here. Check name resolution, firewall and notify.proxy; where the \
             reason speaks of certificates, install ca-certificates or check the clock.",
        );
    }
    if reason.contains("link-local") {
        return Some(
            "The address is link-local. Set notify.allow_link_local = true if that is meant. Where a name is set that \
             should mean another one, something before the service (a portal with a login) answers for it.",
        );
    }
    if reason.contains("redirects elsewhere") {
        return Some(
            "The address answers with a redirect, which is not followed. Set the address it leads to, unless it is that \
             of a portal which wants a login first.",
        );
    }
    if reason.contains("took too long") {
        return Some(
            "The service did not answer in time. Try again; if it stays so, check proxy and firewall.",
        );
    }
    match number_in(reason, "status ")? {
        401 => Some("The service does not accept the credentials. Check token, user, password or secret."),
        403 => {
            Some("The service knows the credentials but does not allow this. Check the rights behind them.")
        }
        404 => Some("There is nothing under the channel's address. Check it for typing errors and old keys."),
        407 => Some("The proxy wants credentials: http://user:password@host:port."),
        413 => Some("The message is too large for what receives it. Raise its limit or send no pictures."),
        429 => Some(
            "The service says: too fast. The node waits as long as it asks; others may use the same key.",
        ),
        500..=599 => Some("The service itself has a problem. The node tries again by itself."),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_reasons() {
        for (reason, word, number) in [
            ("errcode 60020: no", "errcode ", Some(60_020)),
            ("errcode -1: busy", "errcode ", Some(-1)),
            ("status 404", "status ", Some(404)),
            ("status", "status ", None),
            ("status x", "status ", None),
            ("", "status ", None),
        ] {
            assert_eq!(number_in(reason, word), number, "{reason}");
        }
    }

    #[test]
    fn transport_is_explained() {
        for reason in [
            "could not connect to h: dns",
            "status 401",
            "status 503",
            "h took too long; it may have arrived",
        ] {
            assert!(explain_transport(reason).is_some(), "{reason}");
        }
        assert_eq!(explain_transport("status 200, but not the service's JSON"), None);
    }
}
