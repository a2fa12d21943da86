//! What can go wrong on the way out, in words that may be logged: no address beyond its host, no key.

use crate::address::{RefusedByRule, is_refused_literal};
use crate::url::SecretUrl;

/// Says why a request brought no (whole) reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// The client cannot be built from its settings.
    #[error("outbound settings: {0}")]
    Setup(String),
    /// The address rules forbid it; nothing was sent.
    #[error("{host} is or means a link-local address; set allow_link_local to reach it")]
    AddressRefused {
        /// Host as configured.
        host: String,
    },
    /// No connection came about (name, route, proxy or TLS); nothing was sent.
    #[error("could not connect to {host}: {reason}")]
    Connect {
        /// Host as configured.
        host: String,
        /// What the layers below said.
        reason: String,
    },
    /// The time limit passed. Unless it passed while connecting, the service may have acted.
    #[error("{host} took too long")]
    Timeout {
        /// Host as configured.
        host: String,
    },
    /// The connection broke under way; the service may have acted.
    #[error("connection to {host} broke: {reason}")]
    Broken {
        /// Host as configured.
        host: String,
        /// What the layers below said.
        reason: String,
    },
    /// The reply is longer than the limit; the rest was not read.
    #[error("reply of {host} is longer than {limit_bytes} bytes")]
    ReplyTooLarge {
        /// Host as configured.
        host: String,
        /// The limit, bytes.
        limit_bytes: usize,
    },
    /// The service answered with a redirect, which is never followed.
    #[error("{host} redirects elsewhere (status {status}), which is not followed")]
    Redirect {
        /// Host as configured.
        host: String,
        /// 3xx.
        status: u16,
    },
}

impl OutboundError {
    /// Whether only other settings can help. A redirect, or a name that leads to a link-local address, may be the doing of
    /// a portal that wants a login first, and passes with it; a link-local address that was written down does not.
    pub fn is_for_good(&self) -> bool {
        match self {
            Self::Setup(_) => true,
            Self::AddressRefused { host } => is_refused_literal(host),
            _ => false,
        }
    }

    /// Whether the service may have received and acted on the request although no reply says so.
    pub fn outcome_is_unknown(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Broken { .. } | Self::ReplyTooLarge { .. })
    }

    /// Translates the library's error; everything of the address but its host is taken out.
    pub(crate) fn from_library(error: reqwest::Error, url: &SecretUrl) -> Self {
        let error = error.without_url();
        let host = url.host().to_owned();
        if find::<RefusedByRule>(&error).is_some() {
            return Self::AddressRefused { host };
        }
        // Scrubbed before it is cut: half a key at the cut would not be recognised.
        let reason = cut(&url.scrub(&chain(&error)));
        // Asked before the time limit: a connect that timed out has sent nothing.
        if error.is_connect() || error.is_dns() {
            return Self::Connect { host, reason };
        }
        if error.is_timeout() {
            return Self::Timeout { host };
        }
        Self::Broken { host, reason }
    }
}

pub(crate) fn find<'a, E: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a E> {
    let mut at = Some(error);
    while let Some(here) = at {
        if let Some(found) = here.downcast_ref::<E>() {
            return Some(found);
        }
        at = here.source();
    }
    None
}

/// The whole chain, without repetitions.
fn chain(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut at = error.source();
    while let Some(here) = at {
        let text = here.to_string();
        if !out.ends_with(&text) {
            out.push_str(": ");
            out.push_str(&text);
        }
        at = here.source();
    }
    out
}

/// One line, of a length fit for a row.
fn cut(text: &str) -> String {
    const CUT_CHARS: usize = 240;
    let mut shown: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(CUT_CHARS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
