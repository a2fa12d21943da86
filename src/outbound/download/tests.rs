//! Downloads from servers of the test's own, which cut, lie, send too much, or say nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::*;

/// What a server does with one connection after it has read the request.
type Play = Box<dyn FnOnce(&mut TcpStream) + Send>;

/// A server that plays one part per connection, in order, and returns the requests.
fn serve(parts: Vec<Play>) -> (SocketAddr, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let mut requests = Vec::new();
        for play in parts {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") {
                assert_eq!(stream.read(&mut byte).unwrap(), 1, "the request was cut off");
                request.push(byte[0]);
            }
            requests.push(String::from_utf8(request).unwrap());
            play(&mut stream);
        }
        requests
    });
    (address, thread)
}

/// Sends a head and a body; the other side may have had enough before the end.
fn say(head: &str, body: &[u8]) -> Play {
    let bytes = [head.replace('\n', "\r\n").as_bytes(), b"connection: close\r\n\r\n", body].concat();
    Box::new(move |stream| drop(stream.write_all(&bytes)))
}

fn whole(tag: &str, body: &[u8]) -> Play {
    say(&format!("HTTP/1.1 200 OK\ncontent-length: {}\netag: {tag}\n", body.len()), body)
}

/// Says that all of `body` comes, sends the first part of it and closes.
fn cut(tag: &str, body: &[u8], sent: usize) -> Play {
    say(&format!("HTTP/1.1 200 OK\ncontent-length: {}\netag: {tag}\n", body.len()), &body[..sent])
}

fn rest(tag: &str, body: &[u8], from: usize) -> Play {
    let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
    let length = body.len() - from;
    say(
        &format!("HTTP/1.1 206 Partial\ncontent-length: {length}\ncontent-range: {range}\netag: {tag}\n"),
        &body[from..],
    )
}

/// A place in memory.
#[derive(Default)]
struct Memory {
    bytes: Vec<u8>,
    tag: Option<String>,
    full: bool,
}

impl Partial for Memory {
    fn arrived_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }
    fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }
    fn restart(&mut self, tag: Option<&str>) -> Result<(), PlaceError> {
        self.bytes.clear();
        self.tag = tag.map(str::to_owned);
        Ok(())
    }
    fn append(&mut self, bytes: &[u8]) -> Result<(), PlaceError> {
        if self.full {
            return Err("no space left".into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

fn limits() -> DownloadLimits {
    DownloadLimits {
        fruitless_attempts: 3,
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(2),
        ..DownloadLimits::default()
    }
}

fn downloader(limits: DownloadLimits) -> Downloader {
    let settings = OutboundSettings::default();
    Downloader::build(&settings, limits, RootCertStore::empty(), Arc::new(SystemResolver)).unwrap()
}

fn url(address: SocketAddr) -> SecretUrl {
    SecretUrl::parse(&format!("http://{address}/models/secret-name.bin")).unwrap()
}

fn body() -> Vec<u8> {
    (0..10_000u32).map(|at| (at % 251) as u8).collect()
}

/// Fetches what a server of these parts has; the place as it was before is given.
async fn fetch(
    parts: Vec<Play>,
    limits: DownloadLimits,
    mut place: Memory,
) -> (Result<(), DownloadError>, Memory, Vec<String>) {
    let (address, server) = serve(parts);
    let outcome = downloader(limits).fetch(&url(address), body().len() as u64, &mut place).await;
    let requests = tokio::task::spawn_blocking(move || server.join().unwrap()).await.unwrap();
    (outcome, place, requests)
}

#[tokio::test]
async fn a_whole_file_arrives_with_its_tag() {
    let (outcome, place, requests) = fetch(vec![whole("\"v1\"", &body())], limits(), Memory::default()).await;
    outcome.unwrap();
    assert_eq!((place.bytes, place.tag.as_deref()), (body(), Some("\"v1\"")));
    assert!(requests[0].starts_with("GET /models/secret-name.bin HTTP/1.1\r\n"), "{}", requests[0]);
    assert!(requests[0].contains("accept-encoding: identity\r\n"), "{}", requests[0]);
    assert!(!requests[0].contains("range"), "{}", requests[0]);
}

#[tokio::test]
async fn after_a_cut_it_goes_on_where_it_ended() {
    let parts = vec![
        cut("\"v1\"", &body(), 4_000),
        say("HTTP/1.1 503 Busy\nretry-after: 3600\n", b""),
        rest("\"v1\"", &body(), 4_000),
    ];
    let (outcome, place, requests) = fetch(parts, limits(), Memory::default()).await;
    outcome.unwrap();
    assert_eq!(place.bytes, body());
    for request in &requests[1..] {
        assert!(request.contains("range: bytes=4000-\r\n"), "{request}");
        assert!(request.contains("if-range: \"v1\"\r\n"), "{request}");
    }
}

#[tokio::test]
async fn what_an_earlier_run_left_is_gone_on_with_even_without_a_tag() {
    let left = Memory { bytes: body()[..7_777].to_vec(), ..Memory::default() };
    let (outcome, place, requests) = fetch(vec![rest("W/\"weak\"", &body(), 7_777)], limits(), left).await;
    outcome.unwrap();
    assert_eq!(place.bytes, body());
    assert!(
        requests[0].contains("range: bytes=7777-\r\n") && !requests[0].contains("if-range"),
        "{}",
        requests[0]
    );
}

#[tokio::test]
async fn a_server_that_knows_no_ranges_begins_anew() {
    let parts = vec![cut("\"v1\"", &body(), 4_000), whole("\"v1\"", &body())];
    let (outcome, place, requests) = fetch(parts, limits(), Memory::default()).await;
    outcome.unwrap();
    assert_eq!(place.bytes, body());
    assert!(requests[1].contains("range: bytes=4000-\r\n"), "{}", requests[1]);
}

#[tokio::test]
async fn another_version_is_never_mixed_in() {
    let other: Vec<u8> = body().iter().map(|byte| !byte).collect();
    // It obeys If-Range: the new version comes whole.
    let parts = vec![cut("\"v1\"", &body(), 4_000), whole("\"v2\"", &other)];
    let (outcome, place, _) = fetch(parts, limits(), Memory::default()).await;
    outcome.unwrap();
    assert_eq!((&place.bytes, place.tag.as_deref()), (&other, Some("\"v2\"")));
    // It does not obey, but its tag shows it.
    let parts = vec![cut("\"v1\"", &body(), 4_000), rest("\"v2\"", &other, 4_000), whole("\"v2\"", &other)];
    let (outcome, place, requests) = fetch(parts, limits(), Memory::default()).await;
    outcome.unwrap();
    assert_eq!(place.bytes, other);
    assert!(!requests[2].contains("range:"), "{}", requests[2]);
}

#[tokio::test]
async fn an_answer_that_continues_elsewhere_is_not_appended() {
    for wrong in [
        rest("\"v1\"", &body(), 3_999),
        say("HTTP/1.1 206 Partial\ncontent-length: 3\n", b"abc"),
        say("HTTP/1.1 206 Partial\ncontent-range: lines 1-2/3\n", b"abc"),
        say("HTTP/1.1 416 No\ncontent-range: bytes */10000\n", b""),
    ] {
        let parts = vec![cut("\"v1\"", &body(), 4_000), wrong, whole("\"v1\"", &body())];
        let (outcome, place, requests) = fetch(parts, limits(), Memory::default()).await;
        outcome.unwrap();
        assert_eq!(place.bytes, body());
        assert!(!requests[2].contains("range:"), "{}", requests[2]);
    }
}

#[tokio::test]
async fn another_length_is_refused_before_a_byte_is_taken() {
    for length in [9_999, 10_001, u64::MAX >> 1] {
        let head = format!("HTTP/1.1 200 OK\ncontent-length: {length}\n");
        let (outcome, place, _) = fetch(vec![say(&head, &body())], limits(), Memory::default()).await;
        let Err(DownloadError::OtherLength { offered_bytes, expected_bytes: 10_000, .. }) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!((offered_bytes, place.bytes.len()), (length, 0));
    }
    // Also in an answer that continues, and what was there stays.
    let left = Memory { bytes: body()[..10].to_vec(), ..Memory::default() };
    let part = say("HTTP/1.1 206 P\ncontent-range: bytes 10-19999/20000\n", &body());
    let (outcome, place, _) = fetch(vec![part], limits(), left).await;
    assert!(matches!(outcome, Err(DownloadError::OtherLength { offered_bytes: 20_000, .. })), "{outcome:?}");
    assert_eq!(place.bytes.len(), 10);
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let endless: Play = Box::new(|stream| {
        let head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
        let _ = stream.write_all(head);
        // Until the other side has had enough.
        while stream.write_all(&[7; 1_000]).is_ok() {}
    });
    let (outcome, place, _) = fetch(vec![endless], limits(), Memory::default()).await;
    assert!(matches!(outcome, Err(DownloadError::TooLong { expected_bytes: 10_000, .. })), "{outcome:?}");
    assert!(place.bytes.len() <= 10_000);
}

#[tokio::test]
async fn a_chunked_answer_needs_no_length() {
    let mut text = Vec::new();
    for piece in body().chunks(3_000) {
        text.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        text.extend_from_slice(piece);
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"0\r\n\r\n");
    let part = say("HTTP/1.1 200 OK\ntransfer-encoding: chunked\n", &text);
    let (outcome, place, _) = fetch(vec![part], limits(), Memory::default()).await;
    outcome.unwrap();
    assert_eq!(place.bytes, body());
}

#[tokio::test]
async fn a_silent_server_costs_the_time_limit_and_no_more() {
    let (release, held) = mpsc::channel::<()>();
    let silent: Play = Box::new(move |stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\nabc");
        // Until the test has seen what happens.
        let _ = held.recv();
    });
    let (address, server) = serve(vec![silent]);
    let short = DownloadLimits { silence: Duration::from_millis(50), fruitless_attempts: 1, ..limits() };
    let mut place = Memory::default();
    let outcome = downloader(short).fetch(&url(address), 10_000, &mut place).await;
    assert!(matches!(outcome, Err(DownloadError::Outbound(OutboundError::Timeout { .. }))), "{outcome:?}");
    assert_eq!(place.bytes, b"abc", "what came is kept");
    drop(release);
    tokio::task::spawn_blocking(move || server.join().unwrap()).await.unwrap();
}

#[tokio::test]
async fn it_gives_up_after_attempts_that_bring_nothing_worthwhile() {
    // Each attempt brings a little: that alone would go on ten thousand times.
    let parts = vec![cut("\"v1\"", &body(), 1), rest_cut(1, 2), rest_cut(2, 3)];
    let (outcome, place, requests) = fetch(parts, limits(), Memory::default()).await;
    assert!(matches!(outcome, Err(DownloadError::Outbound(OutboundError::Broken { .. }))), "{outcome:?}");
    assert_eq!((place.bytes.len(), requests.len()), (3, 3));
}

/// The bytes from..to of an answer that promises all the rest.
fn rest_cut(from: usize, to: usize) -> Play {
    let length = 10_000 - from;
    let head = format!("HTTP/1.1 206 P\ncontent-length: {length}\ncontent-range: bytes {from}-9999/10000\n");
    say(&head, &body()[from..to])
}

#[tokio::test]
async fn what_is_not_there_is_asked_for_once() {
    for status in [301, 304, 401, 403, 404, 410] {
        let part = say(&format!("HTTP/1.1 {status} No\ncontent-length: 0\n"), b"");
        let (outcome, _, requests) = fetch(vec![part], limits(), Memory::default()).await;
        assert!(
            matches!(outcome, Err(DownloadError::Status { status: s, .. }) if s == status),
            "{outcome:?}"
        );
        assert_eq!(requests.len(), 1);
    }
}

#[tokio::test]
async fn a_place_that_is_full_ends_it() {
    let full = Memory { full: true, ..Memory::default() };
    let (outcome, _, _) = fetch(vec![whole("\"v1\"", &body())], limits(), full).await;
    assert!(outcome.unwrap_err().to_string().contains("no space left"));
}

#[tokio::test]
async fn nothing_that_is_shown_names_the_path() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let outcome = downloader(limits()).fetch(&url(nobody), 1, &mut Memory::default()).await;
    let Err(DownloadError::Outbound(error @ OutboundError::Connect { .. })) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(!format!("{error} {error:?}").contains("secret-name"), "{error:?}");
    let refused = SecretUrl::parse("http://169.254.169.254/x").unwrap();
    let outcome = downloader(limits()).fetch(&refused, 1, &mut Memory::default()).await;
    assert!(
        matches!(outcome, Err(DownloadError::Outbound(OutboundError::AddressRefused { .. }))),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_redirect_on_the_same_host_is_followed_with_the_range() {
    let (address, server) = serve(vec![rest("\"v1\"", &body(), 5_000)]);
    let left = Memory { bytes: body()[..5_000].to_vec(), tag: Some("\"v1\"".into()), full: false };
    let to = format!("HTTP/1.1 302 Found\nlocation: http://{address}/elsewhere\ncontent-length: 0\n");
    let (outcome, place, _) = fetch(vec![say(&to, b"")], limits(), left).await;
    outcome.unwrap();
    assert_eq!(place.bytes, body());
    let requests = tokio::task::spawn_blocking(move || server.join().unwrap()).await.unwrap();
    assert!(requests[0].starts_with("GET /elsewhere "), "{}", requests[0]);
    assert!(
        requests[0].contains("range: bytes=5000-\r\n") && requests[0].contains("if-range: \"v1\""),
        "{requests:?}"
    );
}

#[tokio::test]
async fn redirects_that_the_rules_forbid_are_not_followed() {
    for to in [
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:169.254.169.254]/",
        "http://localhost:1/",
        "ftp://127.0.0.1/x",
    ] {
        let part = say(&format!("HTTP/1.1 302 Found\nlocation: {to}\ncontent-length: 0\n"), b"");
        let (outcome, _, requests) = fetch(vec![part], limits(), Memory::default()).await;
        // The library itself stops at what it does not speak, and hands the answer on.
        assert!(
            matches!(
                outcome,
                Err(DownloadError::Redirect { .. } | DownloadError::Status { status: 302, .. })
            ),
            "{to}: {outcome:?}"
        );
        assert_eq!(requests.len(), 1);
    }
    let round = || say("HTTP/1.1 302 Found\nlocation: /again\ncontent-length: 0\n", b"");
    let (outcome, _, requests) = fetch(
        vec![round(), round(), round()],
        DownloadLimits { redirects: 2, ..limits() },
        Memory::default(),
    )
    .await;
    assert!(matches!(outcome, Err(DownloadError::Redirect { reason: "too often", .. })), "{outcome:?}");
    assert_eq!(requests.len(), 3);
}

#[test]
fn hops_follow_the_rules() {
    let check = |from: &[&str], to: &str| {
        let previous: Vec<Url> = from.iter().map(|url| url.parse().unwrap()).collect();
        may_follow(&previous, &to.parse().unwrap(), 5, false)
    };
    assert_eq!(check(&["https://a/"], "https://b/"), Ok(()));
    assert_eq!(check(&["http://a/"], "https://b/"), Ok(()));
    assert_eq!(check(&["http://a:1/"], "http://a:2/"), Ok(()));
    assert_eq!(check(&["http://a/", "https://a/"], "http://a/"), Err("from https to http"));
    assert!(check(&["https://a/"], "http://a/").is_err());
    assert!(check(&["http://a/"], "http://b/").is_err());
    assert!(check(&["https://a/"], "https://169.254.1.1/").is_err());
    assert!(check(&["https://a/"], "https://[fe80::1]/").is_err());
    assert!(check(&["https://a/"], "file:///etc/passwd").is_err());
    assert_eq!(check(&["https://a/"; 6], "https://a/"), Err("too often"));
}

#[test]
fn ranges_are_read() {
    let range = |text| ContentRange::parse(text).map(|range| (range.first, range.total));
    assert_eq!(range("bytes 4000-9999/10000"), Some((4_000, Some(10_000))));
    assert_eq!(range(" bytes 0-1/* "), Some((0, None)));
    for bad in ["", "bytes */10", "bytes 1/2", "bytes a-b/c", "bytes 1-2/x", "lines 1-2/3", "bytes -1-2/3"] {
        assert_eq!(range(bad), None, "{bad}");
    }
}
