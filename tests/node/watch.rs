//! Live pictures: viewers join by TCP and get them by UDP, as the protocol says, whatever else they do.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use meerkat_base::{EventKind, ImageWish, PixelFormat};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Node, PATIENCE, Plan, eventually, files_below, jpeg};

/// A node whose camera `yard` can be watched.
fn plan() -> Plan {
    Plan::new()
        .set("dialects.watch.listen", "127.0.0.1:0")
        .set("dialects.watch.camera", "yard")
        .set("notify.notices.settle_secs", 0)
        .set("notify.notices.calm_secs", 0)
}

fn door(node: &Node) -> SocketAddr {
    let entry = node.wait_for_log("a dialect can be spoken");
    assert_eq!(entry["dialect"], "watch");
    entry["address"].as_str().unwrap().parse().unwrap()
}

/// The camera `yard`, sending 20 pictures a second until it is dropped.
struct Yard {
    stop: Arc<AtomicBool>,
    sending: Option<JoinHandle<u32>>,
}

impl Yard {
    fn begin(node: &Node) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (own, mut camera) = (Arc::clone(&stop), node.camera("yard", 1));
        let sending = std::thread::spawn(move || {
            let mut sent = 0;
            while !own.load(Ordering::Relaxed) {
                assert_eq!(camera.frame(&jpeg(640, 480, sent)), b'1', "picture {sent}");
                sent += 1;
                std::thread::sleep(Duration::from_millis(50));
            }
            sent
        });
        Self { stop, sending: Some(sending) }
    }

    /// Ends it; every picture was accepted.
    fn end(mut self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        self.sending.take().unwrap().join().unwrap()
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Viewer {
    tcp: TcpStream,
    udp: UdpSocket,
    node: Option<SocketAddr>,
}

impl Viewer {
    fn join(door: SocketAddr) -> Self {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.set_read_timeout(Some(PATIENCE)).unwrap();
        let port = udp.local_addr().unwrap().port();
        let tcp = say(door, port.to_string().as_bytes());
        Self { tcp, udp, node: None }
    }

    fn picture(&mut self) -> Vec<u8> {
        let mut datagram = vec![0; 65_536];
        let (length, from) = self.udp.recv_from(&mut datagram).unwrap();
        self.node = Some(from);
        datagram.truncate(length);
        assert!(datagram.starts_with(&[0xFF, 0xD8, 0xFF]) && datagram.ends_with(&[0xFF, 0xD9]));
        datagram
    }

    fn answer(&self, word: &str) {
        self.udp.send_to(word.as_bytes(), self.node.expect("a picture came before")).unwrap();
    }

    /// Pictures that come in this time without any answer.
    fn count(&self, time: Duration) -> usize {
        let end = Instant::now() + time;
        let mut datagram = vec![0; 65_536];
        let mut count = 0;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return count;
            }
            self.udp.set_read_timeout(Some(left)).unwrap();
            count += usize::from(self.udp.recv_from(&mut datagram).is_ok());
        }
    }

    fn wait_until_closed(&mut self) {
        wait_until_closed(&mut self.tcp);
    }
}

/// A connection on which this was said.
fn say(door: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(door).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

fn wait_until_closed(stream: &mut TcpStream) {
    let mut byte = [0];
    match stream.read(&mut byte) {
        Ok(0) => {}
        Ok(_) => panic!("a node says nothing over TCP"),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
    }
}

fn size(jpeg: &[u8]) -> (u32, u32) {
    let wish = ImageWish { format: PixelFormat::Bgr8, enough_width: u32::MAX };
    let (image, _) = meerkat_vision::decode_image(jpeg, wish).unwrap();
    (image.width(), image.height())
}

fn left(node: &Node, reason: &str, count: f64) {
    eventually(&format!("{count} left: {reason}"), PATIENCE, || {
        (node.metric("meerkat_viewers_left_total", &[("reason", reason)]) == count).then_some(())
    });
}

/// So many viewers are gone, whatever was heard first: `end` or the closed connection.
fn gone(node: &Node, count: f64) {
    eventually(&format!("{count} are gone"), PATIENCE, || {
        (node.metric("meerkat_viewers_left_total", &[]) == count).then_some(())
    });
}

#[test]
fn the_reference_viewer_gets_pictures_although_it_binds_late() {
    let node = plan().start();
    let (door, yard) = (door(&node), Yard::begin(&node));
    let folder = tempfile::tempdir().unwrap();
    let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/watch.py");
    let output = Command::new("python3")
        .arg(client)
        .args([door.ip().to_string(), door.port().to_string(), free.to_string(), "20".to_owned()])
        .arg(folder.path())
        .output()
        .expect("python3 is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let files = files_below(folder.path());
    assert_eq!(files.len(), 20);
    for file in files {
        assert_eq!(size(&std::fs::read(&file).unwrap()), (160, 120), "{}", file.display());
    }
    gone(&node, 1.0);
    yard.end();
}

#[test]
fn a_reload_changes_what_viewers_see_and_names_what_waits_for_a_restart() {
    let file = |more: &str| format!("[dialects.watch]\n{more}\n[cameras.yard]\n");
    let mut node = plan().file(&file("size = \"160x120\"")).start();
    let (door, yard) = (door(&node), Yard::begin(&node));
    let mut viewer = Viewer::join(door);
    assert_eq!(size(&viewer.picture()), (160, 120));
    node.write_file(&file(
        "size = \"320x240\"\nlog_files = 7\nmax_viewers_per_address = 1\nmax_connections = 9",
    ));
    node.signal(Signal::HUP);
    let waiting = node.wait_for_log("these settings differ and wait for a restart");
    assert_eq!(waiting["keys"], "dialects.watch.max_connections, dialects.watch.log_files");
    eventually("pictures have the new size", PATIENCE, || {
        viewer.answer("continue");
        (size(&viewer.picture()) == (320, 240)).then_some(())
    });
    wait_until_closed(&mut say(door, b"50000"));
    viewer.answer("continue");
    assert_eq!(size(&viewer.picture()), (320, 240), "whoever was here stays");
    yard.end();
    assert!(node.stop().success(), "{}", node.log());
}

#[test]
fn a_lost_first_datagram_is_followed_by_a_newer_picture() {
    let node = plan().start();
    let (door, yard) = (door(&node), Yard::begin(&node));
    // The port is known to the node before anybody listens there.
    let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let tcp = say(door, free.port().to_string().as_bytes());
    eventually("a picture is sent", PATIENCE, || {
        (node.metric("meerkat_live_datagrams_total", &[("result", "sent")]) >= 1.0).then_some(())
    });
    let udp = UdpSocket::bind(free).unwrap();
    udp.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut viewer = Viewer { tcp, udp, node: None };
    viewer.picture();
    assert!(node.metric("meerkat_live_datagrams_total", &[("result", "lost")]) >= 1.0);
    viewer.answer("continue");
    viewer.picture();
    yard.end();
}

#[test]
fn answers_are_of_those_who_sent_them() {
    let node = plan().start();
    let (door, yard) = (door(&node), Yard::begin(&node));
    let (mut one, mut two) = (Viewer::join(door), Viewer::join(door));
    let (first, _) = (one.picture(), two.picture());
    assert_eq!(size(&first), (160, 120));
    // A stranger answers in the name of the second, who is silent itself.
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..30 {
        one.answer("continue");
        stranger.send_to(b"continue", two.node.unwrap()).unwrap();
        one.picture();
    }
    // Thirty pictures take a second and a half at least.
    let seen = two.count(Duration::from_millis(100));
    assert!((1..=6).contains(&seen), "one a second, without an answer: {seen}");
    let before = node.metric("meerkat_protocol_errors_total", &[("reason", "stray_answer")]);
    assert!(before >= 30.0, "{before}");
    // Strays of its own buy nothing either.
    one.answer("continue");
    one.picture();
    for _ in 0..50 {
        two.answer("continue");
    }
    let bought = two.count(Duration::from_millis(700));
    assert!(bought <= 2, "one answer, one picture: {bought}");
    yard.end();
}

#[test]
fn a_viewer_that_vanishes_is_dropped_and_costs_nothing() {
    let node = plan().set("dialects.watch.idle_timeout_secs", 2.5).start();
    let (door, yard) = (door(&node), Yard::begin(&node));
    let mut gone = Viewer::join(door);
    gone.picture();
    let joined = Instant::now();
    gone.wait_until_closed();
    assert!(joined.elapsed() < Duration::from_secs(20), "{:?}", joined.elapsed());
    left(&node, "silent", 1.0);
    let refusal = node.wait_for_log("a client was refused");
    assert_eq!((&refusal["dialect"], &refusal["reason"]), (&"watch".into(), &"idle_timeout".into()));
    assert_eq!(node.metric("meerkat_viewers", &[]), 0.0);
    let got = gone.count(Duration::from_millis(1));
    assert!(got <= 3, "one a second until then: {got}");
    assert_eq!(gone.count(Duration::from_millis(1_500)), 0, "and none after it");
    let made = node.metric("meerkat_live_pictures_total", &[]);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(node.metric("meerkat_live_pictures_total", &[]), made, "nothing is made for nobody");
    yard.end();
}

#[test]
fn end_and_a_closed_connection_end_it_and_both_are_in_the_log_and_events() {
    let node = plan().start();
    let (door, yard) = (door(&node), Yard::begin(&node));
    let mut polite = Viewer::join(door);
    let polite_at = polite.tcp.local_addr().unwrap();
    polite.picture();
    polite.answer("continue");
    polite.answer("end");
    polite.wait_until_closed();
    left(&node, "end", 1.0);
    let mut abrupt = Viewer::join(door);
    let abrupt_at = abrupt.tcp.local_addr().unwrap();
    abrupt.picture();
    let udp = abrupt.udp.try_clone().unwrap();
    drop(abrupt);
    left(&node, "closed", 1.0);
    let silent = Viewer { tcp: TcpStream::connect(door).unwrap(), udp, node: None };
    silent.count(Duration::from_millis(50));
    assert_eq!(silent.count(Duration::from_millis(1_200)), 0, "nobody listens there any more");

    let log = node.data().join("watch/viewers.log");
    let lines = eventually("four lines", PATIENCE, || {
        let text = std::fs::read_to_string(&log).ok()?;
        (text.lines().count() == 4).then_some(text)
    });
    let mut lines: Vec<String> = lines.lines().map(|line| line[20..].to_owned()).collect();
    lines.sort();
    let mut expected: Vec<String> = [polite_at, abrupt_at]
        .iter()
        .flat_map(|peer| [format!("客户端{peer} 接入"), format!("客户端{peer} 退出")])
        .collect();
    expected.sort();
    assert_eq!(lines, expected);
    eventually("two events that are over", PATIENCE, || {
        let rows = node.notices("yard");
        let over = rows.iter().filter(|row| row.kind == EventKind::Viewer && row.ended.is_some());
        (over.count() == 2).then_some(())
    });
    yard.end();
}

#[test]
fn garbage_and_slow_joiners_harm_nobody() {
    let node = plan().set("dialects.watch.stall_timeout_secs", 1).start();
    let (door, yard) = (door(&node), Yard::begin(&node));
    let mut viewer = Viewer::join(door);
    viewer.picture();
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"80", b"65536", b"-1", &[0xFF; 5_000], b"\n"] {
        wait_until_closed(&mut say(door, garbage));
    }
    // Says nothing; and says one digit and no more, which is a number, but no port to send to.
    wait_until_closed(&mut TcpStream::connect(door).unwrap());
    wait_until_closed(&mut say(door, b"5"));
    // Cut into pieces, a port is one all the same.
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = udp.local_addr().unwrap().port().to_string();
    let mut tcp = say(door, &port.as_bytes()[..1]);
    tcp.set_nodelay(true).unwrap();
    for digit in &port.as_bytes()[1..] {
        std::thread::sleep(Duration::from_millis(20));
        tcp.write_all(&[*digit]).unwrap();
    }
    let mut slow = Viewer { tcp, udp, node: None };
    slow.picture();
    // Goes on talking where there is nothing to say.
    let mut talker = Viewer::join(door);
    talker.picture();
    let _ = talker.tcp.write_all(&[b'x'; 4_096]);
    talker.wait_until_closed();
    left(&node, "talkative", 1.0);
    // Datagrams that are no answers.
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    for bytes in [&b""[..], b"continue please", &[0; 60_000]] {
        stranger.send_to(bytes, door).unwrap();
    }
    for _ in 0..10 {
        viewer.answer("continue");
        viewer.picture();
    }
    for reason in ["bad_port", "port_out_of_range", "stall_timeout", "talkative", "no_answer"] {
        assert!(node.metric("meerkat_protocol_errors_total", &[("reason", reason)]) >= 1.0, "{reason}");
    }
    assert!(yard.end() > 10, "and the camera was answered all the time");
}

#[test]
fn an_address_has_four_viewers_and_the_fifth_is_refused_with_a_line() {
    let node = plan().start();
    let (door, yard) = (door(&node), Yard::begin(&node));
    let mut viewers: Vec<Viewer> = (0..4).map(|_| Viewer::join(door)).collect();
    for viewer in &mut viewers {
        viewer.picture();
    }
    let mut fifth = Viewer::join(door);
    fifth.wait_until_closed();
    let refusal = node.wait_for_log("a client was refused");
    assert_eq!(refusal["reason"], "viewers_per_address");
    assert!(node.metric("meerkat_limit_hits_total", &[("limit", "viewers_per_address")]) >= 1.0);
    assert_eq!(node.metric("meerkat_viewers", &[]), 4.0);
    assert_eq!(fifth.count(Duration::from_millis(300)), 0);
    // One goes, one may come.
    drop(viewers.pop());
    left(&node, "closed", 1.0);
    Viewer::join(door).picture();
    yard.end();
}

#[test]
fn projector_and_usher_that_fail_are_built_again_and_viewers_stay() {
    let mut node = plan().with_faults().start();
    let (door, yard) = (door(&node), Yard::begin(&node));
    let mut viewer = Viewer::join(door);
    viewer.picture();
    for order in ["projector yard panic 1", "usher - panic 1", "projector yard error 1", "usher - error 1"] {
        node.order(order);
        let actor = order.split(' ').next().unwrap();
        let before = node.metric("meerkat_actor_restarts_total", &[("actor", actor)]);
        let end = Instant::now() + PATIENCE;
        while node.metric("meerkat_actor_restarts_total", &[("actor", actor)]) == before {
            assert!(Instant::now() < end, "{order}");
            viewer.answer("continue");
            viewer.count(Duration::from_millis(100));
        }
        viewer.udp.set_read_timeout(Some(PATIENCE)).unwrap();
        viewer.answer("continue");
        viewer.picture();
    }
    assert_eq!(node.metric("meerkat_viewers", &[]), 1.0);
    yard.end();
}

#[test]
fn our_own_viewer_records_segments_and_leaves_cleanly() {
    let node = plan().start();
    let (door, yard) = (door(&node), Yard::begin(&node));
    for (format, codec) in [("avi", "mpeg4"), ("mp4", "h264")] {
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_meerkat"))
            .args(["watch", &door.ip().to_string(), &door.port().to_string(), "--headless"])
            .args(["--segment", "1s", "--format", format, "--save"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        eventually("two segments", PATIENCE, || {
            let files = files_below(folder.path());
            let whole = files.iter().filter(|file| file.extension().is_some_and(|e| e == format));
            (whole.count() >= 2).then_some(())
        });
        let gone_before = node.metric("meerkat_viewers_left_total", &[]);
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("pictures in") && said.contains("segments with"), "{said}");
        gone(&node, gone_before + 1.0);
        let files = files_below(folder.path());
        assert!(files.len() >= 3, "the one at hand was finished: {files:?}");
        for file in files {
            let probe = meerkat_media::probe(&file).unwrap();
            assert_eq!((probe.codec.as_str(), probe.width, probe.height), (codec, 160, 120));
            assert!(probe.frames >= 1, "{}", file.display());
        }
    }
    yard.end();
}
