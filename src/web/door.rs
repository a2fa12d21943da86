//! Looks at every request before any route does (Host, Origin, token, size) and puts the security headers on
//! every answer. Knows nothing of the routes but the one that takes a large body.

use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpResponse, web};
use bytes::Bytes;
use meerkat_base::metric;
use meerkat_base::text::shown;
use serde_json::json;

use crate::people;
use crate::server::AppState;
use crate::settings::{CheckedSettings, normal_host};
use crate::token;

/// Longest request target, in bytes.
const MAX_TARGET_BYTES: usize = 2048;
/// Largest request body where no route takes one, in bytes: browsers may send an empty form.
const MAX_BODY_BYTES: u64 = 1024;
/// How long a wrong token waits for its refusal.
const WRONG_TOKEN_DELAY: Duration = Duration::from_millis(500);

/// Headers of every answer. Nothing is loaded from elsewhere, nobody may frame the page or embed its pictures.
const SECURITY_HEADERS: [(HeaderName, HeaderValue); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; \
             connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    ),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("same-origin")),
    (header::CROSS_ORIGIN_OPENER_POLICY, HeaderValue::from_static("same-origin")),
];

/// The own address that a connection arrived at; matters when listening on all addresses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ArrivedAt(pub(crate) IpAddr);

/// Why a request is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    TargetTooLong,
    BodyTooLarge,
    BadHost,
    ForeignHost,
    ForeignOrigin,
    NoToken,
    WrongToken,
}

impl Refusal {
    fn status(self) -> StatusCode {
        match self {
            Refusal::TargetTooLong => StatusCode::URI_TOO_LONG,
            Refusal::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::BadHost => StatusCode::BAD_REQUEST,
            Refusal::ForeignHost => StatusCode::MISDIRECTED_REQUEST,
            Refusal::ForeignOrigin => StatusCode::FORBIDDEN,
            Refusal::NoToken | Refusal::WrongToken => StatusCode::UNAUTHORIZED,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Refusal::TargetTooLong => "the address of this request is too long",
            Refusal::BodyTooLarge => "this request has a body that is too large",
            Refusal::BadHost => "the request needs exactly one valid Host header",
            Refusal::ForeignHost => {
                "this node does not go by that host name; add the name to http.hosts if it should"
            }
            Refusal::ForeignOrigin => "requests from pages of other origins are refused",
            Refusal::NoToken => "log in with any user name and the token of http.token as password",
            Refusal::WrongToken => "this is not the token of http.token",
        }
    }

    /// The value of the label `limit`, for refusals that somebody may be trying to get round.
    fn limit(self) -> Option<&'static str> {
        match self {
            Refusal::WrongToken => Some("http_token"),
            Refusal::ForeignHost => Some("http_host"),
            Refusal::ForeignOrigin => Some("http_origin"),
            _ => None,
        }
    }
}

/// Makes the series of the refusals known as 0.
pub(crate) fn declare_limits() {
    for refusal in [Refusal::WrongToken, Refusal::ForeignHost, Refusal::ForeignOrigin] {
        if let Some(limit) = refusal.limit() {
            metrics::counter!(metric::LIMIT_HITS, "limit" => limit).increment(0);
        }
    }
}

/// The middleware around all routes.
pub(crate) async fn guard<B: MessageBody + 'static>(
    state: web::Data<AppState>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let mut response = match look_at(&request, &state.settings) {
        Ok(()) => next.call(request).await?.map_into_boxed_body(),
        Err(refusal) => {
            let mut request = request;
            if let Some(limit) = refusal.limit() {
                metrics::counter!(metric::LIMIT_HITS, "limit" => limit).increment(1);
            }
            tracing::debug!(
                ?refusal,
                target = %shown(request.uri().path().as_bytes()),
                peer = ?request.peer_addr(),
                "request refused"
            );
            if refusal == Refusal::WrongToken {
                tokio::time::sleep(WRONG_TOKEN_DELAY).await;
            }
            let payload = request.take_payload();
            request.into_response(hold(refuse(refusal), payload))
        }
    };
    let headers = response.headers_mut();
    for (name, value) in SECURITY_HEADERS {
        headers.insert(name, value);
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    Ok(response)
}

/// An answer that holds on to what the client still wants to send: only then does actix-http close the connection.
/// It would wait without limit for the end of a body that nobody holds.
pub(crate) fn hold<U: Unpin + 'static>(response: HttpResponse, unread: U) -> HttpResponse {
    response.map_body(|_, body| Held { body, _unread: unread }.boxed())
}

struct Held<U> {
    body: BoxBody,
    _unread: U,
}

impl<U: Unpin> MessageBody for Held<U> {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_next(cx)
    }
}

fn refuse(refusal: Refusal) -> HttpResponse {
    let mut builder = HttpResponse::build(refusal.status());
    if refusal.status() == StatusCode::UNAUTHORIZED {
        builder.insert_header((header::WWW_AUTHENTICATE, r#"Basic realm="Meerkat", charset="UTF-8""#));
    }
    builder.json(json!({ "error": refusal.words() }))
}

fn look_at(request: &ServiceRequest, settings: &CheckedSettings) -> Result<(), Refusal> {
    let headers = request.headers();
    if request.uri().path_and_query().map_or(0, |target| target.as_str().len()) > MAX_TARGET_BYTES {
        return Err(Refusal::TargetTooLong);
    }
    let takes_pictures = *request.method() == Method::POST && people::takes_pictures(request.path());
    check_body(headers, if takes_pictures { people::MAX_ENROLMENT_BYTES } else { MAX_BODY_BYTES })?;
    let authority = single(headers, header::HOST).ok_or(Refusal::BadHost)?;
    let own_address = request.conn_data::<ArrivedAt>().map(|arrived| arrived.0);
    check_host(authority, own_address, settings)?;
    if let Some(target) = request.uri().authority() {
        check_host(target.as_str(), own_address, settings)?;
    }
    check_origin(request.method(), headers, authority, settings)?;
    // A signed link is its own proof; its route checks it.
    if request.path().starts_with(meerkat_store::links::ROUTE) {
        return Ok(());
    }
    check_token(headers, settings)
}

/// A page of somebody else whose name was made to point here must not read anything (DNS rebinding).
fn check_host(
    authority: &str,
    own_address: Option<IpAddr>,
    settings: &CheckedSettings,
) -> Result<(), Refusal> {
    let (host, _) = split_authority(authority).ok_or(Refusal::BadHost)?;
    let is_own_address = own_address.is_some_and(|own| own.to_canonical().to_string() == host);
    if is_own_address || settings.allowed_hosts.contains(&host) { Ok(()) } else { Err(Refusal::ForeignHost) }
}

/// Browsers say on whose behalf they ask; programs do not. A foreign page gets nothing, and changes nothing.
fn check_origin(
    method: &Method,
    headers: &HeaderMap,
    authority: &str,
    settings: &CheckedSettings,
) -> Result<(), Refusal> {
    if headers.contains_key(header::ORIGIN) {
        let origin = single(headers, header::ORIGIN).ok_or(Refusal::ForeignOrigin)?;
        let (default_port, rest) = match origin.split_once("://") {
            Some(("http", rest)) => (80, rest),
            Some(("https", rest)) => (443, rest),
            _ => return Err(Refusal::ForeignOrigin),
        };
        let (host, port) = split_authority(rest).ok_or(Refusal::ForeignOrigin)?;
        let (own_host, own_port) = split_authority(authority).ok_or(Refusal::BadHost)?;
        let is_same = host == own_host && port.unwrap_or(default_port) == own_port.unwrap_or(default_port);
        // A proxy in front may change the Host header; its name is then in http.hosts.
        if !is_same && !settings.own_hosts.contains(&host) {
            return Err(Refusal::ForeignOrigin);
        }
    }
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    let changes = !matches!(*method, Method::GET | Method::HEAD);
    match site {
        Some(site) if changes && site != b"same-origin" && site != b"none" => Err(Refusal::ForeignOrigin),
        _ => Ok(()),
    }
}

fn check_token(headers: &HeaderMap, settings: &CheckedSettings) -> Result<(), Refusal> {
    let Some(token) = &settings.token else { return Ok(()) };
    match headers.get(header::AUTHORIZATION) {
        None => Err(Refusal::NoToken),
        Some(given) if token::proves(token, given.as_bytes()) => Ok(()),
        Some(_) => Err(Refusal::WrongToken),
    }
}

fn check_body(headers: &HeaderMap, max_bytes: u64) -> Result<(), Refusal> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|len| len > max_bytes) {
        return Err(Refusal::BodyTooLarge);
    }
    Ok(())
}

/// The value of a header that must be there exactly once.
fn single(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name);
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() { None } else { Some(value) }
}

/// Splits `host[:port]` into the comparable form of the host and the port.
fn split_authority(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match authority.rsplit_once(':') {
        // The colon inside the brackets of an IPv6 address is none before a port.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let port = match port {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse().ok()?),
        Some(_) => return None,
        None => None,
    };
    if host.contains(':') && !host.starts_with('[') {
        return None;
    }
    Some((normal_host(host)?, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::WebSettings;

    fn settings() -> CheckedSettings {
        let hosts = vec!["cams.example.org".to_owned()];
        let listen = "192.168.1.5:8080".parse().unwrap();
        let token = Some(meerkat_base::Secret::new("long enough"));
        WebSettings { listen, hosts, token, data_dir: "data".into(), public_url: None, link_key: None }
            .check()
            .unwrap()
    }

    #[test]
    fn only_own_names_are_hosts() {
        let own = Some("10.0.0.9".parse().unwrap());
        for (host, expected) in [
            ("localhost", Ok(())),
            ("LOCALHOST:1234", Ok(())),
            ("127.0.0.1:8080", Ok(())),
            ("[::1]:8080", Ok(())),
            ("[::1]", Ok(())),
            ("192.168.1.5:8080", Ok(())),
            ("10.0.0.9", Ok(())),
            ("cams.example.org", Ok(())),
            ("evil.example.org", Err(Refusal::ForeignHost)),
            ("localhost.evil.org", Err(Refusal::ForeignHost)),
            ("10.0.0.8", Err(Refusal::ForeignHost)),
            ("", Err(Refusal::BadHost)),
            ("::1", Err(Refusal::BadHost)),
            ("user@localhost", Err(Refusal::BadHost)),
            ("localhost:http", Err(Refusal::BadHost)),
            ("localhost:99999", Err(Refusal::BadHost)),
            ("[::1", Err(Refusal::BadHost)),
        ] {
            assert_eq!(check_host(host, own, &settings()), expected, "{host}");
        }
    }

    #[test]
    fn only_own_pages_may_ask() {
        let check = |method: Method, headers: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            check_origin(&method, &map, "localhost:8080", &settings()).is_ok()
        };
        for (origin, fits) in [
            ("http://localhost:8080", true),
            ("https://cams.example.org", true),
            ("http://localhost:3000", false),
            ("http://localhost", false),
            ("http://evil.example.org", false),
            ("http://evil.example.org:8080", false),
            ("null", false),
            ("file://", false),
            ("", false),
        ] {
            assert_eq!(check(Method::POST, &[("origin", origin)]), fits, "{origin}");
            assert_eq!(check(Method::GET, &[("origin", origin)]), fits, "{origin}");
        }
        assert!(check(Method::POST, &[]), "programs say nothing");
        assert!(!check(Method::POST, &[("origin", "http://localhost:8080"), ("origin", "null")]));
        assert!(check(Method::POST, &[("sec-fetch-site", "same-origin")]));
        assert!(!check(Method::POST, &[("sec-fetch-site", "cross-site")]));
        assert!(!check(Method::POST, &[("sec-fetch-site", "same-site")]));
        assert!(
            check(Method::GET, &[("sec-fetch-site", "cross-site")]),
            "a link from elsewhere may be followed"
        );
    }
}
