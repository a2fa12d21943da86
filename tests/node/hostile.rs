//! Peers that do not mean well, or are broken: each is refused by its rule and counted under its name, the good cameras
//! notice nothing, and the memory of the process stays bounded.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::fleet::{Runner, number_of, numbered};
use crate::harness::{Camera, Ended, Node, PATIENCE, Plan, eventually, files_below, jpeg};
use crate::torture::Dice;

const INTERVAL: Duration = Duration::from_millis(80);
/// Longest silence of a good camera.
const UNTOUCHED: Duration = Duration::from_secs(3);
const HANDSHAKE: Duration = Duration::from_millis(1_500);
const STALL: Duration = Duration::from_millis(1_500);
const IDLE: Duration = Duration::from_secs(2);
const SLACK: Duration = Duration::from_secs(6);
/// More memory than the attacks may cost, of which most are frames of the allowed size in flight.
const MEMORY: u64 = 160 << 20;
const TOKEN: &str = "correct-horse-battery";

const EVIL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));
const MAPPED: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 3));
const CROWD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 4));
const OTHER_CROWD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 5));
const OUTSIDE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 77));

fn plan() -> Plan {
    Plan::new()
        .set("frame.allow", "127.0.0.0/29")
        .set("frame.plaintext_trusted", "127.0.0.1/32")
        .set("frame.max_frame_bytes", 1 << 20)
        .set("frame.handshake_timeout_secs", HANDSHAKE.as_secs_f64())
        .set("frame.stall_timeout_secs", STALL.as_secs_f64())
        .set("frame.idle_timeout_secs", IDLE.as_secs_f64())
        .set("frame.refused_delay_ms", 20)
        .set("frame.max_connections", 60)
        .set("frame.max_connections_per_address", 30)
        .set("cameras.door.token", TOKEN)
        .set("cameras.yard.address", MAPPED)
        .set("cameras.shed.allowed_modes", "3")
}

/// Resident memory of a process, now and at its highest, bytes.
fn memory(pid: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    };
    (field("VmRSS:"), field("VmHWM:"))
}

/// A JPEG of these dimensions with this many scans, right in its structure; its scans hold almost nothing.
fn bomb(width: u16, height: u16, scans: usize) -> Vec<u8> {
    let mut jpeg = vec![0xFF, 0xD8, 0xFF, 0xC2, 0, 11, 8];
    jpeg.extend(height.to_be_bytes());
    jpeg.extend(width.to_be_bytes());
    jpeg.extend([1, 1, 0x11, 0]);
    for _ in 0..scans {
        jpeg.extend([0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0, 0x12]);
    }
    jpeg.extend([0xFF, 0xD9]);
    jpeg
}

/// What a series of refusals has grown by; the label's value and by how much.
type Counts = BTreeMap<&'static str, f64>;

const REASONS: [&str; 30] = [
    "unknown_mode",
    "end_without_start",
    "no_mode",
    "empty_frame",
    "cut_off",
    "damaged",
    "unknown_container",
    "too_many_pixels",
    "too_many_scans",
    "bad_hello",
    "late_hello",
    "frame_too_large",
    "line_too_long",
    "junk",
    "bad_token",
    "token_in_clear",
    "unconfigured",
    "wrong_address",
    "address_not_allowed",
    "answer_timeout",
    "handshake_timeout",
    "hello_twice",
    "idle_timeout",
    "in_flight_bytes",
    "left_in_frame",
    "mode_not_allowed",
    "no_camera",
    "refused_in_row",
    "stall_timeout",
    "tls",
];

const LIMITS: [&str; 9] = [
    "accept",
    "connections",
    "connections_per_address",
    "free_floor_bytes",
    "handshake_timeout",
    "idle_timeout",
    "in_flight_bytes",
    "refused_in_row",
    "stall_timeout",
];

fn counts(node: &Node, metric: &str, label: &str, names: &[&'static str]) -> Counts {
    let metrics = node.metrics();
    let all = metrics.sum(metric, &[]);
    let counts: Counts = names.iter().map(|name| (*name, metrics.sum(metric, &[(label, name)]))).collect();
    let known: f64 = counts.values().sum();
    if metric == "meerkat_protocol_errors_total" {
        assert_eq!(all, known, "{metric} has a reason that this test does not know");
    }
    counts
}

fn reasons(node: &Node) -> Counts {
    counts(node, "meerkat_protocol_errors_total", "reason", &REASONS)
}

fn limits(node: &Node) -> Counts {
    counts(node, "meerkat_limit_hits_total", "limit", &LIMITS)
}

/// Waits for what is counted a moment after the connection closed, and that nothing else is.
#[track_caller]
fn grew_by(now: impl Fn() -> Counts, before: &Counts, expected: &[(&'static str, f64)]) {
    let expected: Counts = expected.iter().copied().collect();
    let end = Instant::now() + SLACK;
    loop {
        let grown: Counts = now()
            .iter()
            .map(|(name, value)| (*name, value - before[name]))
            .filter(|(_, growth)| *growth != 0.0)
            .collect();
        if grown == expected || Instant::now() > end {
            assert_eq!(grown, expected);
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The good cameras, which must notice nothing.
struct Good(Vec<(Runner, u8)>);

impl Good {
    fn start(node: &Node) -> Self {
        let modes = [("one", 1), ("two", 1), ("three", 3), ("four", 3)];
        Self(
            modes
                .map(|(id, mode)| (Runner::start(node.frame_address(), id, mode, INTERVAL), mode))
                .into_iter()
                .collect(),
        )
    }

    #[track_caller]
    fn finish(self, node: &Node) {
        let now: Vec<usize> = self.0.iter().map(|(runner, _)| runner.answers()).collect();
        eventually("the good cameras go on", PATIENCE, || {
            self.0.iter().zip(&now).all(|((runner, _), now)| runner.answers() > now + 3).then_some(())
        });
        for (runner, mode) in self.0 {
            let id = runner.id.clone();
            let life = runner.stop();
            println!("{id}: {} answers, the slowest after {:?}", life.answered.len(), life.longest);
            assert_eq!((life.refused, life.reconnects), (0, 0), "{id}");
            assert!(life.longest < UNTOUCHED, "{id} waited {:?}", life.longest);
            if mode == 1 {
                let stored: Vec<u16> = files_below(&node.data().join("capture/image").join(&id))
                    .iter()
                    .map(|file| number_of(&std::fs::read(file).unwrap()))
                    .collect();
                let answered: Vec<u16> = life.answered.iter().map(|answered| answered.number).collect();
                assert_eq!(stored, answered, "{id}: each answered frame once, in its order");
            }
        }
    }
}

#[track_caller]
fn evil(node: &Node) -> Camera {
    Camera::connect_from(EVIL, node.frame_address()).unwrap()
}

/// A peer that has come as far as sending pictures.
#[track_caller]
fn evil_in_mode(node: &Node, mode: u8) -> Camera {
    let mut camera = evil(node);
    assert_eq!(camera.mode(mode), b'1');
    camera
}

/// Sends single bytes until the node has enough of it; returns how long that took.
#[track_caller]
fn drip(camera: &mut Camera, byte: impl Fn(usize) -> u8) -> Duration {
    camera.set_patience(Duration::from_millis(100));
    let began = Instant::now();
    for n in 0.. {
        assert!(began.elapsed() < PATIENCE, "the node lets a drip go on for ever");
        let gone = camera.try_send(&[byte(n)]).is_err();
        if gone || camera.try_answer() == Err(Ended::Closed) {
            break;
        }
    }
    began.elapsed()
}

#[track_caller]
fn within(what: &str, took: Duration, limit: Duration) {
    println!("{what}: closed after {took:?}");
    assert!(took >= limit - Duration::from_millis(200) && took < limit + SLACK, "{what}: {took:?}");
}

#[test]
fn slow_peers_are_given_up_in_every_phase() {
    let node = plan().start();
    let good = Good::start(&node);
    let (why, hit) = (reasons(&node), limits(&node));
    std::thread::scope(|scope| {
        let node = &node;
        scope.spawn(|| {
            let (began, mut silent) = (Instant::now(), evil(node));
            assert_eq!(silent.wait_until_closed(), b"");
            within("silent from the start", began.elapsed(), HANDSHAKE);
        });
        scope.spawn(|| within("a hello that drips", drip(&mut evil(node), |_| b'c'), HANDSHAKE));
        scope.spawn(|| {
            let mut camera = evil_in_mode(node, 1);
            camera.send(b"start\xff\xd8\xff\xfe\xff\xff");
            within("a frame that drips", drip(&mut camera, |n| n as u8), STALL);
        });
        scope.spawn(|| {
            // In the middle of a frame, and the connection stays open.
            let mut camera = evil_in_mode(node, 3);
            let picture = jpeg(320, 240, 1);
            camera.send(b"start");
            camera.send(&picture[..picture.len() / 2]);
            let began = Instant::now();
            assert_eq!(camera.wait_until_closed(), b"");
            within("half a frame", began.elapsed(), STALL);
        });
        scope.spawn(|| {
            let mut camera = evil_in_mode(node, 4);
            let began = Instant::now();
            assert_eq!(camera.wait_until_closed(), b"");
            within("idle", began.elapsed(), IDLE);
        });
        scope.spawn(|| {
            // Half-open: it will send nothing more, and said so in the middle of a frame.
            let mut camera = evil_in_mode(node, 1);
            camera.send(b"start\xff\xd8\xff\xfe\x00\x09half");
            camera.close_sending();
            assert_eq!(camera.wait_until_closed(), b"");
        });
    });
    let expected =
        [("handshake_timeout", 2.0), ("stall_timeout", 2.0), ("idle_timeout", 1.0), ("left_in_frame", 1.0)];
    grew_by(|| reasons(&node), &why, &expected);
    grew_by(|| limits(&node), &hit, &expected[..3]);
    good.finish(&node);
}

#[test]
fn bombs_and_nonsense_are_refused_and_counted() {
    let node = plan().start();
    let metrics = node.metrics();
    for (metric, label, names) in [
        ("meerkat_protocol_errors_total", "reason", &REASONS[..]),
        ("meerkat_limit_hits_total", "limit", &LIMITS[..]),
    ] {
        for name in names {
            assert!(
                metrics.has(metric, &[(label, name)]),
                "{metric}{{{label}={name}}} is there from the start"
            );
            assert_eq!(metrics.sum(metric, &[(label, name)]), 0.0);
        }
    }
    let good = Good::start(&node);
    eventually("the good cameras work", PATIENCE, || {
        good.0.iter().all(|(runner, _)| runner.answers() > 10).then_some(())
    });
    let (before, _) = memory(node.pid());
    let (why, hit) = (reasons(&node), limits(&node));

    // Pictures that would cost a decoder gigabytes or minutes: refused by their headers, and the session goes on.
    let mut camera = evil_in_mode(&node, 1);
    assert_eq!(camera.frame(&bomb(8_126, 8_000, 1)), b'0', "65 megapixels");
    assert_eq!(camera.frame(&bomb(65_535, 65_535, 1)), b'0', "four gigapixels");
    assert_eq!(camera.frame(&bomb(64, 64, 101)), b'0', "101 scans");
    assert_eq!(camera.frame(&bomb(64, 64, 100)), b'1', "100 scans are allowed");
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    png.extend([0xFF; 8]);
    png.extend(b"\x08\x02\0\0\0\0\0\0\0\0\0\0\0IEND\xae\x42\x60\x82");
    assert_eq!(camera.frame(&png), b'0', "a PNG of 2^64 pixels");
    assert_eq!(camera.frame(b"no picture at all"), b'0');
    assert_eq!(camera.frame(&jpeg(64, 48, 1)), b'1', "a good picture is welcome still");
    drop(camera);

    // One frame without end.
    let mut camera = evil_in_mode(&node, 1);
    camera.send(b"start");
    let picture = bomb(64, 64, 1);
    camera.send(&picture[..picture.len() - 2]);
    let block = vec![0x11; 64 << 10];
    let mut sent = 0;
    while sent < 64 << 20 && camera.try_send(&block).is_ok() {
        sent += block.len();
    }
    assert!(sent < 16 << 20, "it took {sent} bytes of a frame that may have 1 MiB");

    // Ten things in a row that are refused: unknown modes, ends without start, frames of nothing.
    let mut camera = evil(&node);
    for (n, bad) in [&b"model0"[..], b"model6", b"modelx", b"end", b"startend", b"model9"]
        .iter()
        .cycle()
        .take(10)
        .enumerate()
    {
        camera.send(bad);
        assert_eq!(camera.answer(), b'0', "refusal {n}: {}", bad.escape_ascii());
    }
    assert_eq!(camera.wait_until_closed(), b"");

    // Not this protocol at all.
    let mut camera = evil(&node);
    let _ = camera.try_send(&[b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", &[0x16; 600][..]].concat());
    assert!(camera.wait_until_closed().ends_with(b"0"));
    let mut camera = evil_in_mode(&node, 3);
    let _ = camera.try_send(&[0xAA; 80 << 10]);
    assert!(camera.wait_until_closed().ends_with(b"0"));
    let mut camera = evil(&node);
    let _ = camera.try_send(&[&b"camera:"[..], &[b'a'; 400]].concat());
    assert!(camera.wait_until_closed().ends_with(b"0"));

    grew_by(
        || reasons(&node),
        &why,
        &[
            ("too_many_pixels", 3.0),
            ("too_many_scans", 1.0),
            ("unknown_container", 1.0),
            ("frame_too_large", 1.0),
            ("unknown_mode", 7.0),
            ("end_without_start", 2.0),
            ("no_mode", 1.0),
            ("refused_in_row", 1.0),
            ("junk", 2.0),
            ("line_too_long", 1.0),
        ],
    );
    grew_by(|| limits(&node), &hit, &[("refused_in_row", 1.0)]);

    // Noise of every kind, many at once: whatever comes of it, it ends.
    std::thread::scope(|scope| {
        for seed in 0..8 {
            let node = &node;
            scope.spawn(move || {
                let mut dice = Dice::new(seed);
                for _ in 0..20 {
                    let mut camera = evil(node);
                    camera.set_patience(Duration::from_millis(20));
                    for _ in 0..dice.below(1..6) {
                        let len = dice.below(1..30_000);
                        let words: [&[u8]; 6] =
                            [b"model1", b"model3", b"start", b"end", b"\xff\xd8\xff\xe0", b"camera:x\n"];
                        let mut bytes = words[dice.below(0..words.len())].to_vec();
                        bytes.extend(dice.bytes(len));
                        if camera.try_send(&bytes).is_err() || camera.try_answer() == Err(Ended::Closed) {
                            break;
                        }
                    }
                }
            });
        }
    });
    let (after, highest) = memory(node.pid());
    println!("memory: {} MiB before, {} after, {} at most", before >> 20, after >> 20, highest >> 20);
    assert!(highest < before + MEMORY, "{highest} bytes at most, {before} before");
    good.finish(&node);
}

#[test]
fn doors_open_only_for_whom_they_should() {
    let node = plan().start();
    let good = Good::start(&node);
    let (why, hit) = (reasons(&node), limits(&node));
    let from = |address| Camera::connect_from(address, node.frame_address()).unwrap();

    // Tokens: wrong, missing, in clear over a network that is not trusted.
    let mut camera = node.connect();
    assert_eq!(camera.hello("door", Some("correct-horse-batterz")), b'0');
    assert_eq!(camera.wait_until_closed(), b"", "a wrong token ends the connection");
    let mut camera = node.connect();
    assert_eq!(camera.hello("door", None), b'0');
    assert_eq!(camera.wait_until_closed(), b"");
    let mut camera = evil(&node);
    assert_eq!(camera.hello("door", Some(TOKEN)), b'0', "even when it is the right one");
    assert_eq!(camera.wait_until_closed(), b"");
    let mut camera = node.connect();
    assert_eq!(camera.hello("door", Some(TOKEN)), b'1');
    assert_eq!(camera.hello("two_names", None), b'0', "one hello is enough");
    assert_eq!(camera.wait_until_closed(), b"");
    let mut camera = node.connect();
    assert_eq!(camera.hello("Not an id!", None), b'0');
    assert_eq!(camera.hello("door", Some(TOKEN)), b'1', "a mistake can be made good");
    assert_eq!(camera.mode(1), b'1');
    assert_eq!(camera.frame(&numbered(7, None)), b'1');
    camera.send(b"camera:yard\n");
    assert_eq!(camera.answer(), b'0', "too late");

    // A camera that is known by its address is nobody else, and needs no name.
    let mut camera = evil(&node);
    assert_eq!(camera.hello("yard", None), b'0');
    assert_eq!(camera.wait_until_closed(), b"");
    let mut camera = from(MAPPED);
    assert_eq!(camera.mode(3), b'1');
    assert_eq!(node.camera_status("yard")["connected"], true);
    assert_eq!(node.camera_status("door")["frames"], 1);

    // Modes that a camera may not use.
    let mut camera = node.connect();
    assert_eq!(camera.hello("shed", None), b'1');
    for mode in [1, 2, 4, 5] {
        assert_eq!(camera.mode(mode), b'0', "mode {mode}");
    }
    assert_eq!(camera.mode(3), b'1');
    assert_eq!(camera.frame(&numbered(1, None)), b'1');

    // A network that may not connect hears nothing at all.
    let mut camera = from(OUTSIDE);
    let _ = camera.try_send(b"model1");
    assert_eq!(camera.wait_until_closed(), b"");

    grew_by(
        || reasons(&node),
        &why,
        &[
            ("bad_token", 2.0),
            ("token_in_clear", 1.0),
            ("hello_twice", 1.0),
            ("bad_hello", 1.0),
            ("late_hello", 1.0),
            ("wrong_address", 1.0),
            ("mode_not_allowed", 4.0),
            ("address_not_allowed", 1.0),
        ],
    );
    grew_by(|| limits(&node), &hit, &[]);
    good.finish(&node);
}

#[test]
fn a_crowd_is_turned_away_and_makes_room_again() {
    let node = plan().set("frame.handshake_timeout_secs", 20).start();
    let good = Good::start(&node);
    eventually("the good cameras are in", PATIENCE, || {
        good.0.iter().all(|(runner, _)| runner.answers() > 0).then_some(())
    });
    let hit = limits(&node);
    // 30 per address, 60 in all, of which the good ones hold four.
    let crowd = |address, size: usize| -> Vec<Camera> {
        (0..size).map(|_| Camera::connect_from(address, node.frame_address()).unwrap()).collect()
    };
    let is_in = |camera: &mut Camera| camera.try_send(b"model1").is_ok() && camera.try_answer() == Ok(b'1');
    let mut first = crowd(CROWD, 40);
    assert_eq!(first.iter_mut().filter_map(|camera| is_in(camera).then_some(())).count(), 30);
    let mut second = crowd(OTHER_CROWD, 40);
    assert_eq!(second.iter_mut().filter_map(|camera| is_in(camera).then_some(())).count(), 26);
    grew_by(|| limits(&node), &hit, &[("connections_per_address", 10.0), ("connections", 14.0)]);
    // A crowd does not fill the log.
    let lines = node.wait_for_logs("a connection was turned away", 10);
    assert_eq!(lines[0]["not_logged"], 0);
    assert!(node.log().matches("a connection was turned away").count() < 24);
    assert_eq!(node.metric("meerkat_sessions", &[("dialect", "frame")]), 60.0);
    let status = node.status();
    assert_eq!(status["cameras"].as_array().unwrap().len(), 3 + 4 + 56, "each is a camera of its own");

    drop((first, second));
    eventually("the crowd has left", PATIENCE, || {
        (node.metric("meerkat_sessions", &[("dialect", "frame")]) == 4.0).then_some(())
    });
    // Nothing of it stays: no cameras, no actors.
    eventually("their cameras and actors are gone", PATIENCE, || {
        let status = node.status();
        let (cameras, actors) = (status["cameras"].as_array().unwrap(), status["actors"].as_array().unwrap());
        let of_cameras = actors.iter().filter(|actor| !actor["camera"].is_null()).count();
        (cameras.len() == 3 + 4 && of_cameras == 4 * (3 + 4)).then_some(())
    });
    let mut late = Camera::connect_from(CROWD, node.frame_address()).unwrap();
    assert_eq!(late.mode(1), b'1', "there is room again");
    good.finish(&node);
}

/// A client of the TLS door.
fn tls_client(to: SocketAddr, from: IpAddr, ca: &Path) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("robot.test").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let socket = Camera::connect_from(from, to).unwrap().stream().try_clone().unwrap();
    StreamOwned::new(connection, socket)
}

fn ask(stream: &mut (impl Read + Write), bytes: &[u8]) -> Option<u8> {
    stream.write_all(bytes).ok()?;
    stream.flush().ok()?;
    let mut answer = [0];
    stream.read_exact(&mut answer).ok()?;
    Some(answer[0])
}

#[test]
fn a_token_travels_over_tls_from_anywhere() {
    // Certificates for `robot.test` until 2120; the keys protect nothing.
    let tls = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/outbound/client/tls");
    let node = plan()
        .set("frame.tls.listen", "127.0.0.1:0")
        .set("frame.tls.cert_file", tls.join("robot.test.pem").display())
        .set("frame.tls.key_file", tls.join("robot.test.key.pem").display())
        .start();
    let secure: SocketAddr = node
        .wait_for_logs("cameras can connect", 2)
        .iter()
        .find(|entry| entry["tls"] == true)
        .and_then(|entry| entry["address"].as_str()?.parse().ok())
        .unwrap();
    let good = Good::start(&node);
    let why = reasons(&node);
    let hello = format!("camera:door:{TOKEN}\n");

    let mut camera = tls_client(secure, EVIL, &tls.join("test-ca.pem"));
    assert_eq!(ask(&mut camera, hello.as_bytes()), Some(b'1'));
    assert_eq!(ask(&mut camera, b"model1"), Some(b'1'));
    let picture = numbered(42, None);
    assert_eq!(ask(&mut camera, &[b"start", &picture[..], b"end"].concat()), Some(b'1'));
    let files = files_below(&node.data().join("capture/image/door"));
    assert_eq!(files.len(), 1);
    assert!(std::fs::read(&files[0]).unwrap() == picture);

    // Over TLS too the token must be right.
    let mut camera = tls_client(secure, EVIL, &tls.join("test-ca.pem"));
    assert_eq!(ask(&mut camera, b"camera:door:wrong\n"), Some(b'0'));
    // The plain door does not take it from here.
    let mut camera = evil(&node);
    assert_eq!(camera.hello("door", Some(TOKEN)), b'0');
    // No TLS at the door of TLS, and silence there.
    let mut camera = Camera::connect_from(EVIL, secure).unwrap();
    camera.send(b"model1model1model1");
    camera.wait_until_closed();
    let (began, mut camera) = (Instant::now(), Camera::connect_from(EVIL, secure).unwrap());
    assert_eq!(camera.wait_until_closed(), b"");
    within("silence at the door of TLS", began.elapsed(), HANDSHAKE);
    grew_by(
        || reasons(&node),
        &why,
        &[("bad_token", 1.0), ("token_in_clear", 1.0), ("tls", 1.0), ("handshake_timeout", 1.0)],
    );
    good.finish(&node);
}

#[test]
fn a_dead_connection_is_replaced_by_its_camera_that_comes_back() {
    let node = plan().set("frame.stall_timeout_secs", 60).start();
    // The board lost power in the middle of a frame; nothing closes its connection.
    let mut dead = node.camera("board", 3);
    for number in 0..5 {
        assert_eq!(dead.frame(&numbered(number, None)), b'1');
    }
    let ring = node.camera_status("board")["ring_bytes"].as_u64().unwrap();
    assert!(ring > 0);
    dead.send(b"start\xff\xd8");
    let began = Instant::now();
    let mut back = node.camera("board", 3);
    println!("the seat changed hands within {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(2) + SLACK);
    assert_eq!(dead.wait_until_closed(), b"");
    assert_eq!(back.frame(&numbered(5, None)), b'1');
    let status = node.camera_status("board");
    assert_eq!((status["frames"].as_u64(), status["connected"].as_bool()), (Some(6), Some(true)));
    assert!(status["ring_bytes"].as_u64().unwrap() > ring, "the ring is the same one");
    // A socket that answers nothing any more is closed for good.
    let mut byte = [0];
    let read = dead.stream().read(&mut byte);
    assert!(matches!(read, Ok(0)) || read.is_err_and(|e| e.kind() != ErrorKind::WouldBlock));
}
