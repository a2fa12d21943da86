//! The client: one request, one bounded reply. Retrying, signing and reading meaning into replies is the caller's.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jiff::fmt::rfc2822::DateTimeParser;
use meerkat_base::WallTime;
use reqwest::dns::Resolve;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;

use crate::address::{GuardedResolver, SystemResolver, is_refused_literal};
use crate::error::OutboundError;
use crate::multipart::Form;
use crate::url::SecretUrl;

/// How the client behaves. Every limit has a default and none can be switched off.
#[derive(Debug, Clone)]
pub struct OutboundSettings {
    /// Time for name, connection and TLS together.
    pub connect_timeout: Duration,
    /// Time for the whole exchange, from the name to the last byte of the reply, beside that for a large body.
    pub total_timeout: Duration,
    /// What a body may take longer for each of its bytes: a slower line gets no large files through.
    pub slowest_upload_bytes_per_sec: u32,
    /// Longest reply that is read, bytes.
    pub max_reply_bytes: usize,
    /// Proxy for all destinations but the loopback; may carry `user:password@`. Names are then resolved by
    /// the proxy, so the address rules hold for literal addresses only. The environment's proxies are ignored.
    pub proxy: Option<SecretUrl>,
    /// Whether link-local addresses and metadata services may be reached.
    pub allow_link_local: bool,
    /// What the client calls itself.
    pub user_agent: String,
}

impl Default for OutboundSettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            total_timeout: Duration::from_secs(20),
            slowest_upload_bytes_per_sec: 256 * 1024,
            max_reply_bytes: 64 * 1024,
            proxy: None,
            allow_link_local: false,
            user_agent: concat!("meerkat/", env!("CARGO_PKG_VERSION")).into(),
        }
    }
}

/// When a service asks to be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAfter {
    /// So long after its reply.
    In(Duration),
    /// At this time by its own clock.
    At(WallTime),
}

impl RetryAfter {
    /// How long that is from `now`; zero when it is past.
    pub fn wait(self, now: WallTime) -> Duration {
        match self {
            Self::In(duration) => duration,
            Self::At(time) => Duration::from_micros(u64::try_from(time.0.saturating_sub(now.0)).unwrap_or(0)),
        }
    }

    /// Reads the value of a `Retry-After` header (RFC 9110 section 10.2.3): seconds or a date.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            // Digits only, so it fails by overflow alone: that is for ever.
            return Some(Self::In(Duration::from_secs(text.parse().unwrap_or(u64::from(u32::MAX)))));
        }
        let date = DateTimeParser::new().parse_timestamp(text).ok()?;
        Some(Self::At(WallTime(date.as_microsecond())))
    }
}

/// What a service answered. Redirects never get this far.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status, never 3xx.
    pub status: u16,
    /// The `Retry-After` header, when there is one that can be read.
    pub retry_after: Option<RetryAfter>,
    /// The body, or why it could not be read to its end. The status counts even so.
    pub body: Result<Bytes, OutboundError>,
}

impl Reply {
    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Sends requests. Clones share connections and settings.
#[derive(Clone)]
pub struct HttpClient {
    client: reqwest::Client,
    settings: Arc<OutboundSettings>,
}

impl HttpClient {
    /// Builds the client. Reads the system's certificates, so it belongs to the start of the node.
    pub fn new(settings: OutboundSettings) -> Result<Self, OutboundError> {
        Self::build(settings, system_roots(), Arc::new(SystemResolver))
    }

    fn build(
        settings: OutboundSettings,
        roots: RootCertStore,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Self, OutboundError> {
        let client = builder(&settings, roots, resolver)?
            .redirect(reqwest::redirect::Policy::none())
            .timeout(settings.total_timeout)
            .pool_max_idle_per_host(2)
            // Long enough for a text and its picture; a connection kept longer may be closed by the other side just
            // as the next request leaves, and then nobody knows whether it arrived. Also shorter than it takes to tell
            // that the thread hangs which drives the connection: whoever replaces it must not use it.
            .pool_idle_timeout(Duration::from_secs(2));
        Ok(Self { client: built(client)?, settings: Arc::new(settings) })
    }

    /// Posts a value as JSON.
    pub async fn post_json<T: Serialize + Sync>(
        &self,
        url: &SecretUrl,
        value: &T,
    ) -> Result<Reply, OutboundError> {
        let body = serde_json::to_vec(value).map_err(|e| OutboundError::Setup(e.to_string()))?;
        self.post_bytes(url, "application/json", &[], body.into()).await
    }

    /// Posts bytes with further headers.
    ///
    /// An error says whether the service may have acted ([`OutboundError::outcome_is_unknown`]). A reply whose
    /// head arrived is a reply, even if its body could not be read.
    pub async fn post_bytes(
        &self,
        url: &SecretUrl,
        content_type: &str,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<Reply, OutboundError> {
        self.send_body(self.client.post(url.reveal().clone()), url, content_type, headers, body).await
    }

    /// Puts bytes at an address. Otherwise as [`HttpClient::post_bytes`].
    pub async fn put_bytes(
        &self,
        url: &SecretUrl,
        content_type: &str,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<Reply, OutboundError> {
        self.send_body(self.client.put(url.reveal().clone()), url, content_type, headers, body).await
    }

    /// Posts a form with files. Otherwise as [`HttpClient::post_bytes`].
    pub async fn post_form(
        &self,
        url: &SecretUrl,
        headers: &[(&'static str, &str)],
        form: Form,
    ) -> Result<Reply, OutboundError> {
        let (content_type, body) = form.finish();
        self.post_bytes(url, &content_type, headers, body).await
    }

    /// Asks for what is at an address. Otherwise as [`HttpClient::post_bytes`].
    pub async fn get(
        &self,
        url: &SecretUrl,
        headers: &[(&'static str, &str)],
    ) -> Result<Reply, OutboundError> {
        self.send(self.client.get(url.reveal().clone()), url, headers).await
    }

    /// Has something deleted. Otherwise as [`HttpClient::post_bytes`].
    pub async fn delete(
        &self,
        url: &SecretUrl,
        headers: &[(&'static str, &str)],
    ) -> Result<Reply, OutboundError> {
        self.send(self.client.delete(url.reveal().clone()), url, headers).await
    }

    async fn send_body(
        &self,
        request: reqwest::RequestBuilder,
        url: &SecretUrl,
        content_type: &str,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<Reply, OutboundError> {
        let content_type = HeaderValue::from_str(content_type)
            .map_err(|_| OutboundError::Setup("the content type is not printable".into()))?;
        let secs = body.len() as f64 / f64::from(self.settings.slowest_upload_bytes_per_sec.max(1));
        let limit = self.settings.total_timeout.saturating_add(Duration::from_secs_f64(secs));
        self.send(request.header(CONTENT_TYPE, content_type).timeout(limit).body(body), url, headers).await
    }

    async fn send(
        &self,
        mut request: reqwest::RequestBuilder,
        url: &SecretUrl,
        headers: &[(&'static str, &str)],
    ) -> Result<Reply, OutboundError> {
        check_address(url, self.settings.allow_link_local)?;
        for (name, value) in headers {
            let mut value = HeaderValue::from_str(value)
                .map_err(|_| OutboundError::Setup(format!("value of header {name} is not printable")))?;
            value.set_sensitive(*name == "authorization");
            request = request.header(HeaderName::from_static(name), value);
        }
        let response = request.send().await.map_err(|e| OutboundError::from_library(e, url))?;

        let status = response.status().as_u16();
        if response.status().is_redirection() {
            return Err(OutboundError::Redirect { host: url.host().to_owned(), status });
        }
        let retry_after =
            response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()).and_then(RetryAfter::parse);
        let body = self.read_body(response, url).await;
        Ok(Reply { status, retry_after, body })
    }

    /// Counts what arrives and stops at the limit, whatever Content-Length says.
    async fn read_body(
        &self,
        mut response: reqwest::Response,
        url: &SecretUrl,
    ) -> Result<Bytes, OutboundError> {
        let limit_bytes = self.settings.max_reply_bytes;
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| OutboundError::from_library(e, url))? {
            if body.len().saturating_add(chunk.len()) > limit_bytes {
                return Err(OutboundError::ReplyTooLarge { host: url.host().to_owned(), limit_bytes });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the library's client: that one may show its proxy.
        f.debug_struct("HttpClient").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// What every client of the node has in common: the machine's certificates, our address rules, our proxy and nobody
/// else's.
pub(crate) fn builder(
    settings: &OutboundSettings,
    roots: RootCertStore,
    resolver: Arc<dyn Resolve>,
) -> Result<reqwest::ClientBuilder, OutboundError> {
    // An explicit provider: nothing depends on which one some other crate made the process default.
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| OutboundError::Setup(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .dns_resolver(GuardedResolver::new(resolver, settings.allow_link_local))
        .retry(reqwest::retry::never())
        .referer(false)
        .http1_only()
        .connect_timeout(settings.connect_timeout)
        .user_agent(settings.user_agent.clone())
        .no_proxy();
    let Some(proxy) = &settings.proxy else { return Ok(builder) };
    check_address(proxy, settings.allow_link_local)?;
    let direct = reqwest::NoProxy::from_string("localhost,127.0.0.0/8,::1");
    let proxied = reqwest::Proxy::all(proxy.reveal().clone())
        .map_err(|e| OutboundError::from_library(e, proxy))?
        .no_proxy(direct);
    Ok(builder.proxy(proxied))
}

/// The client that a builder makes.
pub(crate) fn built(builder: reqwest::ClientBuilder) -> Result<reqwest::Client, OutboundError> {
    // Not about any one address; the library's sentence names the setting.
    builder.build().map_err(|e| OutboundError::Setup(e.without_url().to_string()))
}

/// Checks a host that is written as an address; names are checked when they are resolved.
pub(crate) fn check_address(url: &SecretUrl, allow_link_local: bool) -> Result<(), OutboundError> {
    if !allow_link_local && is_refused_literal(url.host()) {
        return Err(OutboundError::AddressRefused { host: url.host().to_owned() });
    }
    Ok(())
}

/// The certificates that the system trusts. A machine without any can still use `http`; `https` then fails with
/// the reason, attempt by attempt, and the log says it once here.
pub(crate) fn system_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        tracing::warn!(
            ignored,
            ?errors,
            "no trusted certificates on this machine, https will fail; install ca-certificates"
        );
    }
    roots
}

#[cfg(test)]
mod tests;
