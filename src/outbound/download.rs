//! Downloads of files whose length is known: in several attempts, going on where the last one ended. What the bytes
//! mean and where they are kept is the caller's; so is the last word on whether they are the right ones.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::Resolve;
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, IF_RANGE, RANGE, RETRY_AFTER,
};
use reqwest::{Response, StatusCode, Url};
use rustls::RootCertStore;

use crate::address::{SystemResolver, is_refused_literal};
use crate::client::{OutboundSettings, RetryAfter, builder, built, check_address, system_roots};
use crate::error::{OutboundError, find};
use crate::url::SecretUrl;

/// An attempt that brings less than this counts as one that brought nothing, bytes: a server must not keep us for ever
/// with a byte at a time.
const WORTHWHILE_BYTES: u64 = 64 * 1024;

/// How long a download may take and how often it is tried. Every limit has a default.
#[derive(Debug, Clone)]
pub struct DownloadLimits {
    /// Longest silence of the server.
    pub silence: Duration,
    /// Time for one attempt.
    pub attempt: Duration,
    /// Attempts in a row that bring nothing worthwhile, after which it is given up; at least 1.
    pub fruitless_attempts: u32,
    /// Wait after the first attempt that brought nothing; doubles with each further one.
    pub backoff_min: Duration,
    /// Longest wait, also when the server asks for a longer one.
    pub backoff_max: Duration,
    /// Redirects that are followed in one attempt.
    pub redirects: usize,
}

impl Default for DownloadLimits {
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(30),
            attempt: Duration::from_secs(15 * 60),
            fruitless_attempts: 4,
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(10),
            redirects: 5,
        }
    }
}

/// What went wrong in the place that keeps the bytes.
pub type PlaceError = Box<dyn Error + Send + Sync>;

/// The place that keeps what has arrived of a file.
pub trait Partial {
    /// Bytes that are there.
    fn arrived_bytes(&self) -> u64;
    /// The strong entity tag (RFC 9110 section 8.8.3) of the version they are of, if the server gave one.
    fn tag(&self) -> Option<&str>;
    /// Forgets all bytes; the next ones are the first of a version with this tag.
    fn restart(&mut self, tag: Option<&str>) -> Result<(), PlaceError>;
    /// Takes the next bytes.
    fn append(&mut self, bytes: &[u8]) -> Result<(), PlaceError>;
}

/// Says why a file did not arrive whole. What arrived is kept by the [`Partial`].
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// No connection, too slow, broken, or refused by the address rules.
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    /// The server does not have it, or does not give it.
    #[error("{host} answers with status {status}")]
    Status {
        /// Host as configured.
        host: String,
        /// What it answered.
        status: u16,
        /// How long it asks us to wait.
        wait: Option<Duration>,
    },
    /// The server has a file of another length; none of it was taken.
    #[error("{host} has a file of {offered_bytes} bytes there, {expected_bytes} are expected")]
    OtherLength {
        /// Host as configured.
        host: String,
        /// By its headers.
        offered_bytes: u64,
        /// As the caller knows it.
        expected_bytes: u64,
    },
    /// The server sent more than the whole file; it was cut off.
    #[error("{host} sends more than the {expected_bytes} bytes that are expected")]
    TooLong {
        /// Host as configured.
        host: String,
        /// As the caller knows it.
        expected_bytes: u64,
    },
    /// The server answered a request for the rest with something that does not continue what is there.
    #[error("{host} does not continue where it should")]
    NoContinuation {
        /// Host as configured.
        host: String,
    },
    /// It leads elsewhere in a way that is not followed.
    #[error("{host} redirects in a way that is not followed: {reason}")]
    Redirect {
        /// Host as configured.
        host: String,
        /// Which rule forbids it.
        reason: &'static str,
    },
    /// The place that keeps the bytes failed.
    #[error("{0}")]
    Place(PlaceError),
}

impl DownloadError {
    /// Whether another attempt may do better.
    fn may_pass(&self) -> bool {
        match self {
            Self::Outbound(error) => matches!(
                error,
                OutboundError::Connect { .. } | OutboundError::Timeout { .. } | OutboundError::Broken { .. }
            ),
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500..=599),
            Self::NoContinuation { .. } => true,
            Self::OtherLength { .. } | Self::TooLong { .. } | Self::Redirect { .. } | Self::Place(_) => false,
        }
    }

    /// How long the server asks us to wait.
    fn wait(&self) -> Option<Duration> {
        match self {
            Self::Status { wait, .. } => *wait,
            _ => None,
        }
    }
}

/// Fetches files. Redirects are followed by these rules, each hop under the address rules: never from `https` to
/// `http`; from `http` only to `https` or to the same host.
pub struct Downloader {
    client: reqwest::Client,
    limits: DownloadLimits,
    allow_link_local: bool,
}

impl Downloader {
    /// Builds the client. Of the settings, `total_timeout` and `max_reply_bytes` do not apply: the limits and the
    /// expected length stand in their place.
    pub fn new(settings: &OutboundSettings, limits: DownloadLimits) -> Result<Self, OutboundError> {
        Self::build(settings, limits, system_roots(), Arc::new(SystemResolver))
    }

    fn build(
        settings: &OutboundSettings,
        limits: DownloadLimits,
        roots: RootCertStore,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Self, OutboundError> {
        let allow_link_local = settings.allow_link_local;
        let client = builder(settings, roots, resolver)?
            .redirect(follow(limits.redirects, allow_link_local))
            .timeout(limits.attempt)
            .read_timeout(limits.silence);
        Ok(Self { client: built(client)?, limits, allow_link_local })
    }

    /// Fetches what is still missing of a file of `expected_bytes`. Done means that so many bytes were taken, not that
    /// they are the right ones. Ends in any case: every round needs an attempt that brought something worthwhile, and
    /// more than the whole file is not taken.
    pub async fn fetch(
        &self,
        url: &SecretUrl,
        expected_bytes: u64,
        place: &mut dyn Partial,
    ) -> Result<(), DownloadError> {
        let (mut fruitless, mut backoff) = (0, self.limits.backoff_min);
        let mut furthest_bytes = place.arrived_bytes();
        loop {
            let Err(error) = self.attempt(url, expected_bytes, place).await else { return Ok(()) };
            if !error.may_pass() {
                return Err(error);
            }
            if place.arrived_bytes() >= furthest_bytes.saturating_add(WORTHWHILE_BYTES) {
                furthest_bytes = place.arrived_bytes();
                (fruitless, backoff) = (0, self.limits.backoff_min);
            } else {
                fruitless += 1;
                if fruitless >= self.limits.fruitless_attempts {
                    return Err(error);
                }
            }
            tracing::debug!(host = url.host(), %error, arrived_bytes = place.arrived_bytes(), "another attempt");
            let wait = backoff.max(error.wait().unwrap_or_default()).min(self.limits.backoff_max);
            tokio::time::sleep(wait).await;
            backoff = backoff.saturating_mul(2);
        }
    }

    async fn attempt(
        &self,
        url: &SecretUrl,
        expected_bytes: u64,
        place: &mut dyn Partial,
    ) -> Result<(), DownloadError> {
        check_address(url, self.allow_link_local)?;
        let arrived_bytes = place.arrived_bytes();
        if arrived_bytes == expected_bytes {
            return Ok(());
        }
        let mut request = self.client.get(url.reveal().clone()).header(ACCEPT_ENCODING, "identity");
        if arrived_bytes > 0 {
            request = request.header(RANGE, format!("bytes={arrived_bytes}-"));
            if let Some(tag) = place.tag() {
                request = request.header(IF_RANGE, tag);
            }
        }
        let response = request.send().await.map_err(|error| not_sent(error, url))?;
        let host = || url.host().to_owned();
        let (offered, continues) = match response.status() {
            // The whole file, whether we asked for it or for the rest.
            StatusCode::OK => (number(response.headers(), &CONTENT_LENGTH), false),
            StatusCode::PARTIAL_CONTENT if arrived_bytes > 0 => {
                let range = ContentRange::of(response.headers());
                let tags = strong_tag(response.headers()).zip(place.tag());
                if range.is_none_or(|range| range.first != arrived_bytes)
                    || tags.is_some_and(|(new, old)| new != old)
                {
                    place.restart(None).map_err(DownloadError::Place)?;
                    return Err(DownloadError::NoContinuation { host: host() });
                }
                (range.and_then(|range| range.total), true)
            }
            StatusCode::RANGE_NOT_SATISFIABLE if arrived_bytes > 0 => {
                place.restart(None).map_err(DownloadError::Place)?;
                return Err(DownloadError::NoContinuation { host: host() });
            }
            status => {
                let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                let wait = match asked.and_then(RetryAfter::parse) {
                    Some(RetryAfter::In(wait)) => Some(wait),
                    // By a clock that may differ from ours; our own waits will do.
                    Some(RetryAfter::At(_)) | None => None,
                };
                return Err(DownloadError::Status { host: host(), status: status.as_u16(), wait });
            }
        };
        if let Some(offered_bytes) = offered.filter(|offered| *offered != expected_bytes) {
            return Err(DownloadError::OtherLength { host: host(), offered_bytes, expected_bytes });
        }
        if !continues {
            place.restart(strong_tag(response.headers())).map_err(DownloadError::Place)?;
        }
        receive(response, url, expected_bytes, place).await
    }
}

/// Takes the body until the file is whole, and not a byte more.
async fn receive(
    mut response: Response,
    url: &SecretUrl,
    expected_bytes: u64,
    place: &mut dyn Partial,
) -> Result<(), DownloadError> {
    while let Some(chunk) = response.chunk().await.map_err(|error| OutboundError::from_library(error, url))? {
        if place.arrived_bytes().saturating_add(chunk.len() as u64) > expected_bytes {
            return Err(DownloadError::TooLong { host: url.host().to_owned(), expected_bytes });
        }
        place.append(&chunk).map_err(DownloadError::Place)?;
    }
    if place.arrived_bytes() < expected_bytes {
        let reason = format!("it ended after {} of {expected_bytes} bytes", place.arrived_bytes());
        return Err(OutboundError::Broken { host: url.host().to_owned(), reason }.into());
    }
    Ok(())
}

/// What a request without an answer was stopped by.
fn not_sent(error: reqwest::Error, url: &SecretUrl) -> DownloadError {
    match find::<NotFollowed>(&error) {
        Some(NotFollowed(reason)) => DownloadError::Redirect { host: url.host().to_owned(), reason },
        None => OutboundError::from_library(error, url).into(),
    }
}

/// A redirect that the rules forbid. Travels through the HTTP library as an error's source.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotFollowed(&'static str);

fn follow(limit: usize, allow_link_local: bool) -> reqwest::redirect::Policy {
    reqwest::redirect::Policy::custom(move |attempt| {
        match may_follow(attempt.previous(), attempt.url(), limit, allow_link_local) {
            Ok(()) => attempt.follow(),
            Err(reason) => attempt.error(NotFollowed(reason)),
        }
    })
}

/// The rules for one hop; `previous` holds the addresses so far, the first one included.
fn may_follow(
    previous: &[Url],
    next: &Url,
    limit: usize,
    allow_link_local: bool,
) -> Result<(), &'static str> {
    if previous.len() > limit {
        return Err("too often");
    }
    if !allow_link_local && next.host_str().is_some_and(is_refused_literal) {
        return Err("to a link-local address");
    }
    let from = previous.last();
    match next.scheme() {
        "https" => Ok(()),
        "http" if from.is_some_and(|from| from.scheme() == "https") => Err("from https to http"),
        "http" if from.is_some_and(|from| from.host_str() == next.host_str()) => Ok(()),
        "http" => Err("from http to http on another host"),
        _ => Err("to something that is neither http nor https"),
    }
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// The entity tag, unless it is a weak one: that says nothing about single bytes.
fn strong_tag(headers: &HeaderMap) -> Option<&str> {
    headers.get(ETAG)?.to_str().ok().filter(|tag| tag.starts_with('"'))
}

/// `Content-Range: bytes first-last/total` (RFC 9110 section 14.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ContentRange {
    first: u64,
    total: Option<u64>,
}

impl ContentRange {
    fn of(headers: &HeaderMap) -> Option<Self> {
        Self::parse(headers.get(CONTENT_RANGE)?.to_str().ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (first, _) = range.split_once('-')?;
        let total = if total == "*" { None } else { Some(total.parse().ok()?) };
        Some(Self { first: first.parse().ok()?, total })
    }
}

impl fmt::Debug for Downloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the library's client: that one may show its proxy.
        f.debug_struct("Downloader").field("limits", &self.limits).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
