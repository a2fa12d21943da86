//! The client against small servers of the test's own, on the loopback.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread::JoinHandle;

use reqwest::dns::{Addrs, Name, Resolving};

use super::*;

const KEY: &str = "693a1e36-7a0c-4bc4-97a0-0ec2f1fa5aaa";

/// Reads one request and returns it.
fn read_request(stream: &mut TcpStream) -> String {
    let mut got = Vec::new();
    let mut part = [0; 4096];
    loop {
        let n = stream.read(&mut part).unwrap();
        got.extend_from_slice(&part[..n]);
        let text = String::from_utf8_lossy(&got).into_owned();
        if let Some(head) = text.find("\r\n\r\n") {
            let length: usize = text
                .lines()
                .find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned))
                .map_or(0, |l| l.parse().unwrap());
            if got.len() >= head + 4 + length {
                return text;
            }
        }
        assert!(n > 0, "request cut off: {text}");
    }
}

/// A server for one connection; the handler plays it, the request text comes back.
fn serve<F>(handler: F) -> (SocketAddr, JoinHandle<String>)
where
    F: FnOnce(&mut TcpStream) + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let request = read_request(&mut stream);
        handler(&mut stream);
        request
    });
    (address, thread)
}

/// Waits for a server without stopping the runtime: closing a connection is work for it too.
async fn join<T: Send + 'static>(server: JoinHandle<T>) -> T {
    tokio::task::spawn_blocking(move || server.join().unwrap()).await.unwrap()
}

fn say(text: &'static str) -> impl FnOnce(&mut TcpStream) + Send {
    move |stream| stream.write_all(text.as_bytes()).unwrap()
}

/// Knows every name, under whatever addresses the test says.
struct Fixed(Vec<SocketAddr>);

impl Resolve for Fixed {
    fn resolve(&self, _: Name) -> Resolving {
        let found = self.0.clone();
        Box::pin(async move { Ok(Box::new(found.into_iter()) as Addrs) })
    }
}

fn client_with(settings: OutboundSettings, resolver: impl Resolve + 'static) -> HttpClient {
    HttpClient::build(settings, RootCertStore::empty(), Arc::new(resolver)).unwrap()
}

fn client() -> HttpClient {
    client_with(OutboundSettings::default(), SystemResolver)
}

fn url(host: impl fmt::Display) -> SecretUrl {
    SecretUrl::parse(&format!("http://{host}/hook/send?key={KEY}")).unwrap()
}

async fn post(client: &HttpClient, url: &SecretUrl) -> Result<Reply, OutboundError> {
    client.post_json(url, &serde_json::json!({"a": "你好"})).await
}

/// No key in anything that can be shown.
fn assert_silent(shown: &dyn fmt::Debug) {
    let text = format!("{shown:?}");
    assert!(!text.contains(KEY) && !text.contains("/hook/send"), "{text}");
}

#[tokio::test]
async fn json_goes_out_and_the_reply_comes_back() {
    let (address, server) =
        serve(say("HTTP/1.1 429 Slow\r\nretry-after: 7\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"));
    let reply = post(&client(), &url(address)).await.unwrap();
    assert_eq!((reply.status, reply.is_success()), (429, false));
    assert_eq!(reply.retry_after, Some(RetryAfter::In(Duration::from_secs(7))));
    assert_eq!(reply.body.unwrap(), "{}");
    let request = join(server).await;
    assert!(request.starts_with(&format!("POST /hook/send?key={KEY} HTTP/1.1\r\n")), "{request}");
    assert!(request.contains("user-agent: meerkat/"), "{request}");
    assert!(request.contains("content-type: application/json\r\n"), "{request}");
    assert!(request.ends_with(r#"{"a":"你好"}"#), "{request}");
}

#[tokio::test]
async fn headers_are_sent_and_bad_ones_refused() {
    let (address, server) = serve(say("HTTP/1.1 204 OK\r\nconnection: close\r\n\r\n"));
    let body = Bytes::from_static(b"abc");
    let reply = client().post_bytes(&url(address), "text/plain", &[("x-one", "1")], body.clone()).await;
    assert_eq!(reply.unwrap().status, 204);
    assert!(join(server).await.contains("x-one: 1\r\n"));
    let refused = client().post_bytes(&url(address), "text/plain", &[("x-one", "a\nb")], body).await;
    assert!(matches!(refused, Err(OutboundError::Setup(_))), "{refused:?}");
}

#[tokio::test]
async fn files_go_out_by_form_and_by_put() {
    let (address, server) = serve(say("HTTP/1.1 204 OK\r\nconnection: close\r\n\r\n"));
    let form = Form::new().text("a", "b").file("media", "clip.mp4", "video/mp4", b"bytes");
    assert_eq!(client().post_form(&url(address), &[("x-one", "1")], form).await.unwrap().status, 204);
    let request = join(server).await;
    assert!(request.starts_with("POST ") && request.contains("x-one: 1\r\n"), "{request}");
    let boundary = request.split("content-type: multipart/form-data; boundary=").nth(1).unwrap();
    let boundary = boundary.split("\r\n").next().unwrap();
    assert!(request.ends_with(&format!("video/mp4\r\n\r\nbytes\r\n--{boundary}--\r\n")), "{request}");

    let (address, server) = serve(say("HTTP/1.1 204 OK\r\nconnection: close\r\n\r\n"));
    let body = Bytes::from_static(b"abc");
    assert_eq!(client().put_bytes(&url(address), "image/jpeg", &[], body).await.unwrap().status, 204);
    let request = join(server).await;
    assert!(request.starts_with("PUT ") && request.ends_with("\r\n\r\nabc"), "{request}");
}

#[tokio::test]
async fn a_large_body_has_more_time() {
    let settings = OutboundSettings {
        total_timeout: Duration::from_millis(50),
        slowest_upload_bytes_per_sec: 1,
        ..Default::default()
    };
    let client = client_with(settings, SystemResolver);
    let (slow, gate) = mpsc::channel::<()>();
    let (address, server) = serve(move |stream| {
        // Answers when the client has waited for longer than a request without a body would be given.
        let _ = gate.recv_timeout(Duration::from_millis(200));
        stream.write_all(b"HTTP/1.1 204 OK\r\nconnection: close\r\n\r\n").unwrap();
    });
    let body = Bytes::from_static(&[b'x'; 60]);
    assert_eq!(client.post_bytes(&url(address), "text/plain", &[], body).await.unwrap().status, 204);
    drop(slow);
    join(server).await;
}

#[tokio::test]
async fn things_are_asked_for_and_deleted_under_the_same_rules() {
    for method in ["GET", "DELETE"] {
        let (address, server) =
            serve(say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"));
        let headers = [("authorization", "Bearer hunter22")];
        let (client, url) = (client(), url(address));
        let reply = if method == "GET" {
            client.get(&url, &headers).await
        } else {
            client.delete(&url, &headers).await
        };
        assert_eq!(reply.unwrap().body.unwrap(), "{}");
        let request = join(server).await;
        assert!(request.starts_with(&format!("{method} /hook/send?key={KEY} HTTP/1.1\r\n")), "{request}");
        assert!(request.contains("authorization: Bearer hunter22\r\n"), "{request}");
    }
    let refused = client().get(&url("169.254.169.254"), &[]).await;
    assert!(matches!(refused, Err(OutboundError::AddressRefused { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_redirect_is_an_error_and_nobody_follows_it() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let target = elsewhere.local_addr().unwrap();
    for status in [301, 302, 303, 307, 308] {
        let (address, server) = serve(move |stream| {
            write!(stream, "HTTP/1.1 {status} Go\r\nlocation: http://{target}/{KEY}\r\n\r\n").unwrap();
        });
        let error = post(&client(), &url(address)).await.unwrap_err();
        assert_eq!(error, OutboundError::Redirect { host: "127.0.0.1".into(), status });
        assert!(!error.outcome_is_unknown());
        assert_silent(&error);
        join(server).await;
    }
    assert_eq!(elsewhere.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn an_endless_reply_is_cut_at_the_limit() {
    for head in ["transfer-encoding: chunked", "content-length: 999999999999", "connection: close"] {
        let chunked = head.starts_with("transfer");
        let (address, server) = serve(move |stream| {
            write!(stream, "HTTP/1.1 200 OK\r\n{head}\r\n\r\n").unwrap();
            let part = if chunked { format!("1000\r\n{}\r\n", "x".repeat(4096)) } else { "x".repeat(4096) };
            // Until the client hangs up. A client that read on would keep this thread, and the test, for ever.
            while stream.write_all(part.as_bytes()).is_ok() {}
        });
        let reply = post(&client(), &url(address)).await.unwrap();
        assert_eq!(reply.status, 200);
        let error = reply.body.unwrap_err();
        assert!(matches!(error, OutboundError::ReplyTooLarge { limit_bytes: 65_536, .. }), "{error:?}");
        assert!(error.outcome_is_unknown());
        join(server).await;
    }
}

#[tokio::test]
async fn a_reply_of_exactly_the_limit_is_read() {
    let settings = OutboundSettings { max_reply_bytes: 10, ..Default::default() };
    for (body, fits) in [("0123456789", true), ("0123456789a", false)] {
        let (address, server) = serve(move |stream| {
            write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{body}").unwrap();
        });
        let reply = post(&client_with(settings.clone(), SystemResolver), &url(address)).await.unwrap();
        assert_eq!(reply.body.is_ok(), fits, "{body}");
        join(server).await;
    }
}

#[tokio::test]
async fn a_slow_server_costs_no_more_than_the_time_limit() {
    let settings = OutboundSettings { total_timeout: Duration::from_millis(200), ..Default::default() };
    let client = client_with(settings, SystemResolver);
    // Silence instead of a head, then silence in the middle of a body.
    for said in ["", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n01"] {
        let (done, wait) = mpsc::channel::<()>();
        let (address, server) = serve(move |stream| {
            stream.write_all(said.as_bytes()).unwrap();
            wait.recv().unwrap_err();
        });
        let error = match post(&client, &url(address)).await {
            Ok(reply) => reply.body.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error, OutboundError::Timeout { host: "127.0.0.1".into() });
        assert!(error.outcome_is_unknown());
        drop(done);
        join(server).await;
    }
}

#[tokio::test]
async fn a_cut_connection_leaves_the_outcome_unknown() {
    let said =
        ["", "HTTP/1.1 200 O", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n01", "SSH-2.0-OpenSSH_9.2\r\n"];
    for part in said {
        let (address, server) = serve(say(part));
        let error = match post(&client(), &url(address)).await {
            Ok(reply) => reply.body.unwrap_err(),
            Err(error) => error,
        };
        assert!(matches!(error, OutboundError::Broken { .. }), "{part:?}: {error:?}");
        assert!(error.outcome_is_unknown());
        assert_silent(&error);
        join(server).await;
    }
}

#[tokio::test]
async fn a_closed_port_is_a_connect_error_without_the_key() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let error = post(&client(), &url(address)).await.unwrap_err();
    assert!(matches!(error, OutboundError::Connect { .. }), "{error:?}");
    assert!(!error.outcome_is_unknown());
    assert_silent(&error);
    assert_silent(&error.to_string());
}

#[tokio::test]
async fn link_local_addresses_are_refused_however_they_are_written() {
    for host in [
        "169.254.169.254",
        "0xa9fea9fe",
        "2852039166",
        "169.254.43518",
        "[fe80::1]",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "[fd00:ec2::254]",
        "100.100.100.200",
    ] {
        let error = post(&client(), &url(host)).await.unwrap_err();
        assert!(matches!(error, OutboundError::AddressRefused { .. }), "{host}: {error:?}");
        assert!(!error.outcome_is_unknown());
        assert_silent(&error);
    }
}

#[tokio::test]
async fn a_name_that_resolves_to_link_local_is_refused() {
    let metadata = SocketAddr::from(([169, 254, 169, 254], 0));
    let mapped: SocketAddr = "[::ffff:169.254.169.254]:0".parse().unwrap();
    let guarded = client_with(OutboundSettings::default(), Fixed(vec![metadata, mapped]));
    let error = post(&guarded, &url("metadata.test")).await.unwrap_err();
    assert_eq!(error, OutboundError::AddressRefused { host: "metadata.test".into() });
}

#[tokio::test]
async fn a_name_keeps_its_usable_addresses() {
    let (address, server) = serve(say("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"));
    let found = vec![SocketAddr::from(([169, 254, 1, 1], 0)), SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    let guarded = client_with(OutboundSettings::default(), Fixed(found));
    let reply = post(&guarded, &url(format!("board.test:{}", address.port()))).await.unwrap();
    assert_eq!(reply.status, 200);
    join(server).await;
}

#[tokio::test]
async fn link_local_can_be_allowed() {
    // The rule is off, so the request gets as far as the network, which knows no such address.
    let settings = OutboundSettings {
        allow_link_local: true,
        connect_timeout: Duration::from_millis(50),
        ..Default::default()
    };
    let error = post(
        &client_with(settings, Fixed(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))])),
        &url("[::ffff:127.0.0.1]:1"),
    )
    .await
    .unwrap_err();
    assert!(matches!(error, OutboundError::Connect { .. }), "{error:?}");
    assert!(check_address(&url("169.254.1.1"), true).is_ok());
    assert!(check_address(&url("169.254.1.1"), false).is_err());
}

#[tokio::test]
async fn a_name_without_an_address_is_a_connect_error() {
    let error = post(&client_with(OutboundSettings::default(), Fixed(vec![])), &url("nobody.test"))
        .await
        .unwrap_err();
    assert!(matches!(error, OutboundError::Connect { .. }), "{error:?}");
    assert_silent(&error);
}

#[tokio::test]
async fn a_proxy_carries_names_it_knows_and_its_password_stays_secret() {
    let (address, server) = serve(say("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"));
    let proxy = SecretUrl::parse(&format!("http://user:hunter2@{address}")).unwrap();
    let settings = OutboundSettings { proxy: Some(proxy), ..Default::default() };
    let client = client_with(settings, Fixed(vec![]));
    assert!(!format!("{client:?}").contains("hunter2"));
    assert_eq!(post(&client, &url("robot.test")).await.unwrap().status, 200);
    let request = join(server).await;
    assert!(request.starts_with("POST http://robot.test/hook/send"), "{request}");
    // base64 of user:hunter2
    assert!(
        request.to_ascii_lowercase().contains("proxy-authorization: basic dxnlcjpodw50zxiy"),
        "{request}"
    );
    // A literal link-local destination is refused before the proxy hears of it.
    let error = post(&client, &url("169.254.169.254")).await.unwrap_err();
    assert!(matches!(error, OutboundError::AddressRefused { .. }), "{error:?}");
    // The loopback is reached directly: this server answers, the proxy is gone.
    let (address, server) = serve(say("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"));
    assert_eq!(post(&client, &url(address)).await.unwrap().status, 200);
    assert!(join(server).await.starts_with("POST /hook/send"));
}

#[tokio::test]
async fn a_link_local_proxy_is_refused_at_the_start() {
    let proxy = SecretUrl::parse("http://u:hunter2@169.254.1.1:3128").unwrap();
    let error = HttpClient::new(OutboundSettings { proxy: Some(proxy), ..Default::default() }).unwrap_err();
    assert!(matches!(error, OutboundError::AddressRefused { .. }), "{error:?}");
}

#[tokio::test]
async fn what_is_no_tls_at_all_is_a_connect_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut hello = [0; 5];
        stream.read_exact(&mut hello).unwrap();
        // Record type 22 is a TLS handshake: the key never went out in the clear.
        assert_eq!(hello[0], 22);
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    let url = SecretUrl::parse(&format!("https://{address}/hook/send?key={KEY}")).unwrap();
    let error = post(&client(), &url).await.unwrap_err();
    assert!(matches!(error, OutboundError::Connect { .. }), "{error:?}");
    assert!(!error.outcome_is_unknown());
    assert_silent(&error);
    join(server).await;
}

#[test]
fn the_systems_certificates_can_be_read() {
    // Whatever they are, the client comes up: a node without certificates still sends to plain http.
    assert!(HttpClient::new(OutboundSettings::default()).is_ok());
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    assert_eq!(RetryAfter::parse(" 120 "), Some(RetryAfter::In(Duration::from_secs(120))));
    let date = RetryAfter::parse("Fri, 20 Nov 2026 21:31:14 GMT").unwrap();
    assert_eq!(date, RetryAfter::At(WallTime(1_795_210_274_000_000)));
    assert_eq!(date.wait(WallTime(1_795_210_264_000_000)), Duration::from_secs(10));
    assert_eq!(date.wait(WallTime(1_795_210_999_000_000)), Duration::ZERO);
    assert!(
        RetryAfter::parse("99999999999999999999999").unwrap().wait(WallTime(0))
            > Duration::from_secs(1 << 30)
    );
    for bad in ["", "-1", "soon", "1.5", "Fri, 99 Nov 2026"] {
        assert_eq!(RetryAfter::parse(bad), None, "{bad}");
    }
}

/// A TLS server for one connection, named `robot.test` by a CA that only this test knows. The files were made with
/// openssl for 2020 to 2120; the key protects nothing.
fn serve_tls(said: &'static str) -> (SocketAddr, JoinHandle<std::io::Result<String>>) {
    use rustls::pki_types::pem::PemObject;
    let chain =
        rustls::pki_types::CertificateDer::from_pem_slice(include_bytes!("tls/robot.test.pem")).unwrap();
    let key =
        rustls::pki_types::PrivateKeyDer::from_pem_slice(include_bytes!("tls/robot.test.key.pem")).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept()?;
        let mut stream =
            rustls::StreamOwned::new(rustls::ServerConnection::new(Arc::new(config)).unwrap(), stream);
        let mut got = Vec::new();
        while !got.ends_with(b"}") {
            let mut part = [0; 1024];
            let n = stream.read(&mut part)?;
            if n == 0 {
                break;
            }
            got.extend_from_slice(&part[..n]);
        }
        stream.write_all(said.as_bytes())?;
        Ok(String::from_utf8_lossy(&got).into_owned())
    });
    (address, server)
}

#[tokio::test]
async fn https_works_with_a_trusted_certificate_and_only_with_its_name() {
    use rustls::pki_types::pem::PemObject;
    let ca = rustls::pki_types::CertificateDer::from_pem_slice(include_bytes!("tls/test-ca.pem")).unwrap();
    let mut trusting = RootCertStore::empty();
    trusting.add(ca).unwrap();
    let said = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
    let here = || Arc::new(Fixed(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))]));
    for (roots, name, works) in [
        (trusting.clone(), "robot.test", true),
        (trusting, "other.test", false),
        (RootCertStore::empty(), "robot.test", false),
        (system_roots(), "robot.test", false),
    ] {
        let (address, server) = serve_tls(said);
        let url =
            SecretUrl::parse(&format!("https://{name}:{}/hook/send?key={KEY}", address.port())).unwrap();
        let client = HttpClient::build(OutboundSettings::default(), roots, here()).unwrap();
        let reply = post(&client, &url).await;
        let heard = join(server).await;
        if works {
            assert_eq!(reply.unwrap().body.unwrap(), "ok");
            assert!(heard.unwrap().contains(KEY));
        } else {
            let error = reply.unwrap_err();
            assert!(
                matches!(&error, OutboundError::Connect { reason, .. } if reason.contains("certificate")),
                "{error:?}"
            );
            assert_silent(&error);
            assert!(
                !heard.unwrap_or_default().contains(KEY),
                "nothing goes out before the certificate is trusted"
            );
        }
    }
}
