//! The dialects `recognise`, with clients written from their description, beside cameras that must not notice.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use meerkat_base::{ImageWish, PixelFormat};
use meerkat_vision::decode_image;
use meerkat_vision::probe::probe;
use meerkat_wire::recognise::sized::{LengthBytes, header};
use meerkat_wire::recognise::{Form, close, open, pickle};
use serde_json::Value;

use crate::harness::{Backend, Node, PATIENCE, Plan, data, eventually, jpeg};

/// A face may take long where other work is going on.
const LONG: Duration = Duration::from_secs(180);

fn plan() -> Plan {
    Plan::new()
        .set("dialects.recognise_sized.listen", "127.0.0.1:0")
        .set("dialects.recognise_chunked.listen", "127.0.0.1:0")
        .set("detectors.face.backend", "classic")
}

/// Where the node speaks a dialect.
#[track_caller]
fn address(node: &Node, dialect: &str) -> SocketAddr {
    let log = node.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let said = lines
        .into_iter()
        .find(|line| line["message"] == "a dialect can be spoken" && line["dialect"] == dialect);
    said.and_then(|line| line["address"].as_str()?.parse().ok()).expect("the log names the address")
}

/// A Python with numpy: the first in the path, or the system's own; none, with a line that says so, where there is none (a
/// failure when `MEERKAT_REQUIRE_DATA` is set).
fn python_with_numpy() -> Option<&'static str> {
    let imports = |python: &&str| {
        let output = Command::new(python).args(["-c", "import numpy"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let found = ["python3", "/usr/bin/python3"].into_iter().find(imports);
    if found.is_none() {
        assert!(std::env::var_os("MEERKAT_REQUIRE_DATA").is_none(), "numpy is not installed");
        println!("skipped: numpy is not installed (scripts/setup.sh brings it)");
    }
    found
}

/// Runs a Python client; gives back the pictures that it got.
#[track_caller]
fn python(node: &Node, script: &str, options: &[&str], pictures: &[PathBuf]) -> Vec<Vec<u8>> {
    run_client("python3", node, script, options, pictures)
}

#[track_caller]
fn run_client(
    python: &str,
    node: &Node,
    script: &str,
    options: &[&str],
    pictures: &[PathBuf],
) -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let dialect = script.strip_suffix(".py").unwrap();
    let to = address(node, dialect);
    let output = Command::new(python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script))
        .args([to.ip().to_string(), to.port().to_string()])
        .arg(folder.path())
        .args(options)
        .args(pictures)
        .output()
        .expect("python3 is installed");
    assert!(output.status.success(), "{script} {options:?}: {}", String::from_utf8_lossy(&output.stderr));
    let mut files: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// Pictures as files, each with `0`, line ends and backslashes somewhere inside.
fn picture_files(folder: &Path) -> Vec<PathBuf> {
    let write = |(n, (width, height)): (usize, (u32, u32))| {
        let path = folder.join(format!("{n}.jpg"));
        std::fs::write(&path, jpeg(width, height, n as u32)).unwrap();
        path
    };
    [(640, 480), (320, 240), (161, 97)].into_iter().enumerate().map(write).collect()
}

fn sizes(pictures: &[Vec<u8>]) -> Vec<(u32, u32)> {
    pictures
        .iter()
        .map(|picture| probe(picture).map(|header| (header.width, header.height)).unwrap())
        .collect()
}

#[test]
fn clients_get_their_pictures_back_in_the_form_they_came() {
    let mut node = plan().start();
    let folder = tempfile::tempdir().unwrap();
    let files = picture_files(folder.path());
    let expected = [(640, 480), (320, 240), (161, 97)];
    assert_eq!(sizes(&python(&node, "recognise_sized.py", &[], &files)), expected);
    assert_eq!(sizes(&python(&node, "recognise_sized.py", &["--plain"], &files)), expected);
    assert_eq!(sizes(&python(&node, "recognise_chunked.py", &[], &files)), expected);
    let with_numpy = python_with_numpy();
    if let Some(python) = with_numpy {
        assert_eq!(sizes(&run_client(python, &node, "recognise_sized.py", &["--numpy"], &files)), expected);
    }
    let examined = if with_numpy.is_some() { 12.0 } else { 9.0 };
    assert_eq!(node.metric("meerkat_examined_total", &[("result", "ok")]), examined);
    for dialect in ["recognise_sized", "recognise_chunked"] {
        eventually("the clients are gone", PATIENCE, || {
            (node.metric("meerkat_sessions", &[("dialect", dialect)]) == 0.0).then_some(())
        });
    }
    assert_eq!(node.metric("meerkat_protocol_errors_total", &[]), 0.0, "{}", node.log());
    assert!(node.stop().success());

    let node = plan().set("dialects.recognise_sized.length_bytes", "4").start();
    assert_eq!(sizes(&python(&node, "recognise_sized.py", &["--four"], &files)), expected);
}

#[test]
fn our_own_client_saves_what_comes_back() {
    let node = plan().start();
    let folder = tempfile::tempdir().unwrap();
    let files = picture_files(folder.path());
    for (dialect, options) in [
        ("recognise_sized", &[][..]),
        ("recognise_sized", &["--pickle"]),
        ("recognise_chunked", &["--chunked"]),
    ] {
        let saved = tempfile::tempdir().unwrap();
        let mut client = Plan::new().command(folder.path());
        client.args(["recognise", "--to", &address(&node, dialect).to_string()]).args(options);
        let output = client.arg("--save").arg(saved.path().join("marked")).args(&files).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.contains("answered   3 frames"), "{said}");
        let names: Vec<_> = (1..=3).map(|n| saved.path().join(format!("marked/{n:06}.jpg"))).collect();
        let pictures: Vec<_> = names.iter().map(|name| std::fs::read(name).unwrap()).collect();
        assert_eq!(sizes(&pictures), [(640, 480), (320, 240), (161, 97)]);
    }
    let mut nobody = Plan::new().command(folder.path());
    let output = nobody.args(["recognise", "--to", "127.0.0.1:9", "0.jpg"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}

/// A client that speaks with lengths in front.
struct Client(TcpStream);

impl Client {
    fn connect(node: &Node) -> Self {
        let stream = TcpStream::connect(address(node, "recognise_sized")).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        Self(stream)
    }

    fn send(&mut self, message: &[u8]) -> std::io::Result<()> {
        self.0.write_all(&header(LengthBytes::Eight, message.len()).unwrap())?;
        self.0.write_all(message)
    }

    fn receive(&mut self) -> std::io::Result<Vec<u8>> {
        let mut length = [0; 8];
        self.0.read_exact(&mut length)?;
        let mut message = vec![0; usize::try_from(u64::from_le_bytes(length)).unwrap()];
        self.0.read_exact(&mut message)?;
        Ok(message)
    }

    /// Sends a picture as an array and takes the marked one out of the answer.
    fn mark(&mut self, picture: &[u8]) -> std::io::Result<Vec<u8>> {
        self.send(&close(Form::Pickle, picture.to_vec()))?;
        let (form, marked) = open(&self.receive()?.into()).unwrap();
        assert_eq!(form, Form::Pickle);
        Ok(marked.to_vec())
    }

    /// Whether the node hangs up without another word.
    fn is_hung_up(&mut self) -> bool {
        let mut byte = [0];
        match self.0.read(&mut byte) {
            Ok(count) => count == 0,
            Err(error) => error.kind() != ErrorKind::WouldBlock && error.kind() != ErrorKind::TimedOut,
        }
    }
}

/// How many pixels have about this colour (blue, green, red).
fn painted(picture: &[u8], colour: [u8; 3]) -> usize {
    let wish = ImageWish { format: PixelFormat::Bgr8, enough_width: u32::MAX };
    let (image, _) = decode_image(picture, wish).unwrap();
    let near = |pixel: &&[u8]| pixel.iter().zip(colour).all(|(&a, b)| a.abs_diff(b) < 28);
    image.data().chunks_exact(3).filter(near).count()
}

const KNOWN: [u8; 3] = [60, 200, 60];
const STRANGER: [u8; 3] = [40, 160, 255];

#[test]
fn whoever_is_enrolled_is_named_by_the_classic_methods() {
    faces_are_named(Some(Backend::classic()));
}

#[test]
fn whoever_is_enrolled_is_named_by_networks() {
    faces_are_named(Backend::candle());
}

fn faces_are_named(backend: Option<Backend>) {
    let (Some(folder), Some(backend)) = (data("faces/lfw10x10"), backend) else { return };
    let plan = backend.of(plan());
    let home = tempfile::Builder::new().prefix("meerkat-recognise-").tempdir().unwrap();
    let portrait = |person: &str, n: u32| folder.join(person).join(format!("{person}_{n:04}.jpg"));
    let mut enrol = plan.command(home.path());
    enrol.args(["faces", "enrol", "张伟", "--consent-by", "the test"]);
    let output = enrol.args((1..=6).map(|n| portrait("Colin_Powell", n))).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let node = plan.start_in(home);
    backend.check(&node, "face");
    let mut client = Client::connect(&node);
    for n in 1..=3 {
        let picture = std::fs::read(portrait("Colin_Powell", n)).unwrap();
        let marked = client.mark(&picture).unwrap();
        assert!(painted(&marked, KNOWN) > painted(&picture, KNOWN) + 150, "picture {n} of who is enrolled");
    }
    let picture = std::fs::read(portrait("Tony_Blair", 3)).unwrap();
    let marked = client.mark(&picture).unwrap();
    assert!(painted(&marked, STRANGER) > painted(&picture, STRANGER) + 150, "somebody else");
    assert!(painted(&marked, KNOWN) < painted(&picture, KNOWN) + 100, "he is nobody");
    assert!(node.log().contains("names beyond ASCII are drawn with this font"), "{}", node.log());
}

#[test]
fn eight_clients_share_fairly() {
    let node = plan().start();
    let picture = jpeg(320, 240, 5);
    let over = AtomicBool::new(false);
    let counts: Vec<u32> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::connect(&node);
                    let mut count = 0;
                    while !over.load(Ordering::Acquire) {
                        client.mark(&picture).unwrap();
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        let end = Instant::now() + LONG;
        while node.metric("meerkat_examined_total", &[("result", "ok")]) < 160.0 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
        }
        over.store(true, Ordering::Release);
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let (least, most) = (*counts.iter().min().unwrap(), *counts.iter().max().unwrap());
    assert!(counts.iter().sum::<u32>() >= 160 && least * 2 >= most, "{counts:?}");
}

#[test]
fn garbage_and_slow_clients_harm_no_camera() {
    let node = plan()
        .set("dialects.recognise_sized.max_bytes", 1 << 20)
        .set("dialects.recognise_sized.stall_timeout_secs", 0.5)
        .set("dialects.recognise_chunked.stall_timeout_secs", 0.5)
        .set("dialects.recognise_sized.idle_timeout_secs", 5)
        .set("dialects.recognise_sized.max_connections_per_address", 8)
        .start();
    let mut camera = node.camera("door", 4);
    let frame = jpeg(320, 240, 1);
    let longest = std::thread::scope(|scope| {
        let watched = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            for _ in 0..100 {
                let began = Instant::now();
                assert_eq!(camera.frame(&frame), b'1');
                longest = longest.max(began.elapsed());
                std::thread::sleep(Duration::from_millis(30));
            }
            longest
        });
        let refused = |reason: &str, message: &[u8]| {
            let before = node.metric("meerkat_protocol_errors_total", &[("reason", reason)]);
            let mut client = Client::connect(&node);
            // The node may hang up before all of it is sent.
            let _ = client.0.write_all(message);
            assert!(client.is_hung_up(), "{reason}");
            eventually(reason, PATIENCE, || {
                let now = node.metric("meerkat_protocol_errors_total", &[("reason", reason)]);
                (now == before + 1.0).then_some(())
            });
        };
        let message = |bytes: &[u8]| [&header(LengthBytes::Eight, bytes.len()).unwrap(), bytes].concat();
        refused("message_too_large", &u64::MAX.to_le_bytes());
        refused("message_too_large", b"GET / HTTP/1.1\r\n\r\n");
        refused("message_empty", &[0; 8]);
        refused("bad_pickle", &message(b"cos\nsystem\n(S'touch executed'\ntR."));
        refused("bad_pickle", &message(&[b'('; 100_000]));
        refused("not_a_jpeg", &message(&pickle::write(b"GIF89a")));
        refused("not_a_picture", &message(b"\xff\xd8\xff\xe0 nothing more"));
        refused("not_a_picture", &message(&pickle::write(b"\xff\xd8\xff\xe0 nothing more")));
        // A picture whose header asks for gigabytes.
        let mut bomb = crate::harness::made::Jpeg::new(65_000, 65_000, vec![0; 40]).build();
        bomb.extend([0; 64]);
        refused("not_a_picture", &message(&bomb));
        refused("stall_timeout", &message(&[7; 1_000])[..500]);
        let mut chunked = TcpStream::connect(address(&node, "recognise_chunked")).unwrap();
        chunked.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let _ = chunked.read(&mut [0]);
        let mut slow = TcpStream::connect(address(&node, "recognise_chunked")).unwrap();
        slow.write_all(&frame[..100]).unwrap();
        let _ = slow.read(&mut [0]);
        eventually("both are refused", PATIENCE, || {
            let count = |reason| node.metric("meerkat_protocol_errors_total", &[("reason", reason)]);
            (count("not_a_jpeg") == 2.0 && count("stall_timeout") == 2.0).then_some(())
        });
        // As many as may, and one more.
        let crowd: Vec<Client> = (0..8).map(|_| Client::connect(&node)).collect();
        eventually("all are in", PATIENCE, || {
            (node.metric("meerkat_sessions", &[("dialect", "recognise_sized")]) == 8.0).then_some(())
        });
        assert!(Client::connect(&node).is_hung_up());
        drop(crowd);
        watched.join().unwrap()
    });
    assert!(longest < Duration::from_secs(5), "the camera waited {longest:?}");
    assert!(!node.data().parent().unwrap().join("executed").exists());
    eventually("there is room again", PATIENCE, || Client::connect(&node).mark(&frame).ok());
    assert_eq!(node.metric("meerkat_actor_restarts_total", &[]), 0.0, "{}", node.log());
    assert!(
        node.log().contains("a client was refused") && node.log().contains("a connection was turned away")
    );
}

#[test]
fn a_station_that_fails_is_not_felt_and_one_that_fails_twice_is_said() {
    let mut node = plan()
        .set("supervision.detector_deadline_ms", 2_000)
        .set("detectors.threads", 1)
        .with_faults()
        .start();
    let picture = jpeg(320, 240, 5);
    let mut client = Client::connect(&node);
    client.mark(&picture).unwrap();
    for fault in ["panic", "error", "hang"] {
        node.order(&format!("examiner - {fault} 1"));
        client.mark(&picture).unwrap_or_else(|error| panic!("{fault}: {error}"));
        let restarts = [("actor", "examiner"), ("reason", fault)];
        assert_eq!(node.metric("meerkat_actor_restarts_total", &restarts), 1.0);
    }
    node.order("examiner - panic 2");
    assert!(client.mark(&picture).is_err(), "the second one that has it fails too");
    assert_eq!(node.metric("meerkat_protocol_errors_total", &[("reason", "examine_failed")]), 1.0);
    node.order("release");
    Client::connect(&node).mark(&picture).unwrap();
}

#[test]
fn a_port_that_is_taken_or_open_to_all_is_an_error_at_once() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let start = |key: &str, value: &str| {
        let folder = tempfile::tempdir().unwrap();
        let output = Plan::new().set(key, value).command(folder.path()).arg("run").output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = start("dialects.recognise_sized.listen", &address);
    assert!(code == Some(1) && said.contains(&address), "{code:?} {said}");
    let (code, said) = start("dialects.recognise_chunked.listen", "0.0.0.0:0");
    assert!(code == Some(2) && said.contains("dialects.recognise_chunked.allow"), "{code:?} {said}");
    let folder = tempfile::tempdir().unwrap();
    let mut command = plan().set("dialects.font", "/does/not/exist.ttf").command(folder.path());
    let output = command.arg("run").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("dialects.font: /does/not/exist.ttf"), "{said}");
}
