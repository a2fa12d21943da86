//! The talk with one camera over a pipe. Time stands still unless everybody waits, so limits are exact.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use meerkat_base::{Budget, CameraId, ManualClock, Mode, Shutdown};
use meerkat_settings::Admission;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::{Session, SessionEnd, SessionTools};
use crate::camera::Camera;
use crate::recorder::Stored;
use crate::recorder::tests::serve;
use crate::testing::{NOON, cameras};

/// Longer than anything takes; costs nothing, because nobody waits for it in truth.
const LONG: Duration = Duration::from_secs(10_000);

struct Rig {
    tools: Arc<SessionTools>,
}

struct Client {
    stream: DuplexStream,
    session: JoinHandle<SessionEnd>,
}

impl Rig {
    fn new(changes: &[(&str, &str)]) -> Self {
        let clock = ManualClock::new(NOON);
        let cameras = cameras(&clock, changes);
        let in_flight = Budget::new(cameras.settings().frame.in_flight_bytes);
        let tools = SessionTools {
            cameras,
            in_flight,
            clock: Arc::new(clock),
            shutdown: Shutdown::new(),
            refusals_logged: Default::default(),
        };
        Self { tools: Arc::new(tools) }
    }

    fn connect_from(&self, address: &str, secure: bool) -> Client {
        let (stream, other) = duplex(64 << 10);
        let peer = SocketAddr::new(address.parse().unwrap(), 40_000);
        let session = Session::new(Arc::clone(&self.tools), peer, secure, Admission::Open);
        Client { stream, session: tokio::spawn(session.run(other)) }
    }

    fn connect(&self) -> Client {
        self.connect_from("127.0.0.1", false)
    }

    async fn camera(&self, id: &str, mode: u8) -> Client {
        let mut client = self.connect();
        assert_eq!(client.ask(format!("camera:{id}\n").as_bytes()).await, "1");
        assert_eq!(client.ask(format!("model{mode}").as_bytes()).await, "1");
        client
    }

    fn get(&self, id: &str) -> Arc<Camera> {
        self.tools.cameras.get(&CameraId::from_shown(id).unwrap()).unwrap()
    }
}

impl Client {
    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// One answer, `None` when the session closes instead.
    async fn answer(&mut self) -> Option<char> {
        let mut byte = [0];
        match timeout(LONG, self.stream.read(&mut byte)).await.expect("no answer, ever") {
            Ok(1) => Some(char::from(byte[0])),
            _ => None,
        }
    }

    async fn answers(&mut self, count: usize) -> String {
        let mut answers = String::new();
        for _ in 0..count {
            match self.answer().await {
                Some(answer) => answers.push(answer),
                None => return answers + "closed",
            }
        }
        answers
    }

    async fn ask(&mut self, bytes: &[u8]) -> String {
        self.send(bytes).await;
        self.answers(1).await
    }

    async fn frame(&mut self, picture: &[u8]) -> String {
        self.ask(&[b"start", picture, b"end"].concat()).await
    }

    /// How the session ends, and after how long.
    async fn end(self) -> (SessionEnd, Duration) {
        let began = Instant::now();
        let end = timeout(LONG, self.session).await.expect("it never ends").unwrap();
        (end, began.elapsed())
    }
}

/// A JPEG of these dimensions with so many scans, right in its structure.
fn jpeg(width: u16, height: u16, scans: usize) -> Vec<u8> {
    let mut jpeg = vec![0xFF, 0xD8, 0xFF, 0xC2, 0, 11, 8];
    jpeg.extend(height.to_be_bytes());
    jpeg.extend(width.to_be_bytes());
    jpeg.extend([1, 1, 0x11, 0]);
    for _ in 0..scans {
        jpeg.extend([0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0, 0x12, 0x34]);
    }
    jpeg.extend([0xFF, 0xD9]);
    jpeg
}

fn close_to(took: Duration, expected: Duration) -> bool {
    took >= expected && took < expected + Duration::from_millis(1_100)
}

#[tokio::test(start_paused = true)]
async fn every_row_of_the_rules_has_its_answer() {
    let rig = Rig::new(&[("frame.max_refused_in_row", "1000")]);
    let mut client = rig.connect();
    let good = jpeg(64, 48, 1);
    let whole = [b"start", &good[..], b"end"].concat();
    let half = &good[..good.len() / 2];

    for before_a_mode in [&b"end"[..], &whole, b"model0", b"model6", b"modelx"] {
        assert_eq!(client.ask(before_a_mode).await, "0", "{}", before_a_mode.escape_ascii());
    }
    assert_eq!(client.ask(b"model3").await, "1");
    assert_eq!(client.ask(b"model3\r\n").await, "1", "the same again changes nothing");
    assert_eq!(rig.get("127.0.0.1").mode(), Some(Mode::Guard));
    assert_eq!(client.ask(&whole).await, "1");
    assert_eq!(client.ask(b"end").await, "0", "`end` without `start`");
    assert_eq!(client.ask(b"startend").await, "0", "nothing between them");
    assert_eq!(client.ask(&[b"start", &whole[..]].concat()).await, "1", "a second `start` begins anew");
    for line_end in ["\r", "\n", "\r\n", "\0"] {
        let [line_end, good] = [line_end.as_bytes(), &good[..]];
        let bytes = [b"start", line_end, good, b"end", line_end].concat();
        assert_eq!(client.ask(&bytes).await, "1", "{}", line_end.escape_ascii());
        assert_eq!(rig.get("127.0.0.1").latest().unwrap().bytes, good);
    }
    let padded = [&good[..], &[0; 99], b"more"].concat();
    assert_eq!(client.frame(&padded).await, "1");
    assert_eq!(rig.get("127.0.0.1").latest().unwrap().bytes, padded, "everything before `end`");

    let began = Instant::now();
    assert_eq!(client.frame(half).await, "0", "cut off, and then silence");
    let silence = began.elapsed();
    assert!(silence >= Duration::from_millis(250) && silence < Duration::from_millis(500), "{silence:?}");
    client.send(&[b"start", half, b"end", &whole].concat()).await;
    assert_eq!(client.answers(2).await, "01", "cut off, and then the next");
    assert_eq!(client.frame(b"no container that is known").await, "0");
    assert_eq!(client.frame(&jpeg(8_126, 8_000, 1)).await, "0", "65 megapixels");
    assert_eq!(client.frame(&jpeg(64, 48, 101)).await, "0", "101 scans");
    assert_eq!(client.ask(b"model9").await, "0");
    assert_eq!(rig.get("127.0.0.1").mode(), Some(Mode::Guard), "an unknown mode leaves the one before");
    assert_eq!(client.ask(b"model4").await, "1");
    assert_eq!(rig.get("127.0.0.1").mode(), Some(Mode::People));
    assert_eq!(client.frame(&good).await, "1");
    client.send(&[&whole[..], &whole, b"model5", &whole].concat()).await;
    assert_eq!(client.answers(4).await, "1111", "a client that does not wait");

    let camera = rig.get("127.0.0.1");
    let counted = camera.frames();
    drop(client.stream);
    assert_eq!(client.session.await.unwrap(), SessionEnd::Left);
    assert_eq!(counted, 12);
    assert!(!camera.is_connected());
}

#[tokio::test(start_paused = true)]
async fn ten_refused_in_a_row_end_it_and_one_good_frame_begins_the_count_anew() {
    let rig = Rig::new(&[]);
    let mut client = rig.camera("door", 3).await;
    for _ in 0..9 {
        assert_eq!(client.ask(b"end").await, "0");
    }
    assert_eq!(client.frame(&jpeg(64, 48, 1)).await, "1");
    let began = Instant::now();
    for _ in 0..10 {
        assert_eq!(client.ask(b"end").await, "0");
    }
    assert!(began.elapsed() >= Duration::from_secs(1), "each was delayed by 100 ms: {:?}", began.elapsed());
    assert_eq!(client.answer().await, None);
    assert_eq!(client.end().await.0, SessionEnd::Refused("refused_in_row"));
}

#[tokio::test(start_paused = true)]
async fn each_phase_has_its_time_limit() {
    let rig = Rig::new(&[
        ("frame.handshake_timeout_secs", "7"),
        ("frame.stall_timeout_secs", "5"),
        ("frame.idle_timeout_secs", "60"),
    ]);
    let (end, took) = rig.connect().end().await;
    assert_eq!(end, SessionEnd::Refused("handshake_timeout"));
    assert!(close_to(took, Duration::from_secs(7)), "{took:?}");

    let mut client = rig.connect();
    client.send(b"camera:do").await;
    let (end, took) = client.end().await;
    assert_eq!(end, SessionEnd::Refused("handshake_timeout"));
    assert!(close_to(took, Duration::from_secs(7)), "half a hello: {took:?}");

    let (end, took) = rig.camera("door", 3).await.end().await;
    assert_eq!(end, SessionEnd::Refused("idle_timeout"));
    assert!(close_to(took, Duration::from_secs(60)), "{took:?}");

    let mut client = rig.camera("door", 3).await;
    client.send(b"start\xff\xd8\xff\xe0").await;
    let (end, took) = client.end().await;
    assert_eq!(end, SessionEnd::Refused("stall_timeout"));
    assert!(close_to(took, Duration::from_secs(5)), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn slow_is_allowed_but_a_drip_is_not() {
    let rig = Rig::new(&[("frame.stall_timeout_secs", "5")]);
    // 64 KiB each four seconds: a slow line.
    let mut client = rig.camera("door", 3).await;
    let mut picture = jpeg(64, 48, 1);
    let scan = vec![0x21; 640 << 10];
    let at = picture.len() - 2;
    picture.splice(at..at, scan);
    client.send(b"start").await;
    for piece in picture.chunks(64 << 10) {
        tokio::time::sleep(Duration::from_secs(4)).await;
        client.send(piece).await;
    }
    assert_eq!(client.ask(b"end").await, "1");

    // A byte each second never stands still and never gets anywhere.
    let mut client = rig.camera("yard", 3).await;
    client.send(b"start\xff\xd8\xff\xfe\xff\xff").await;
    let began = Instant::now();
    while client.stream.write_all(b"x").await.is_ok() && !client.session.is_finished() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(began.elapsed() <= Duration::from_secs(8), "{:?}", began.elapsed());
    assert_eq!(client.end().await.0, SessionEnd::Refused("stall_timeout"));
}

#[tokio::test(start_paused = true)]
async fn a_camera_that_comes_back_takes_its_seat_and_keeps_its_ring() {
    let rig = Rig::new(&[]);
    let mut dead = rig.camera("door", 3).await;
    for _ in 0..3 {
        assert_eq!(dead.frame(&jpeg(64, 48, 1)).await, "1");
    }
    dead.send(b"start\xff\xd8").await;
    let camera = rig.get("door");
    camera.ring().recording = true;
    let answers = Arc::new(Mutex::new(Vec::new()));
    let recorder = tokio::spawn(serve(camera.recorder.clone(), Arc::clone(&answers), |_| Stored::Done));

    let mut back = rig.camera("door", 3).await;
    assert_eq!(dead.end().await.0, SessionEnd::Replaced);
    assert!(Arc::ptr_eq(&camera, &rig.get("door")));
    assert!(camera.is_connected() && camera.mode() == Some(Mode::Guard));
    assert_eq!(camera.ring().ring.len(), 3);
    assert!(camera.ring().recording, "the event goes on");
    assert_eq!(back.frame(&jpeg(64, 48, 1)).await, "1");
    assert_eq!(camera.ring().ring.newest().unwrap().seq, 4, "its frames go on being counted");
    assert!(answers.lock().unwrap().iter().any(|order| order == "clip 4"));
    recorder.abort();

    // Four boards that fight for one name: the last one has it.
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(rig.camera("door", 3).await);
    }
    let mut last = clients.pop().unwrap();
    for client in clients {
        assert_eq!(client.end().await.0, SessionEnd::Replaced);
    }
    camera.ring().recording = false;
    assert_eq!(last.frame(&jpeg(64, 48, 1)).await, "1");
}

#[tokio::test(start_paused = true)]
async fn unnamed_cameras_of_one_address_are_told_apart() {
    let rig = Rig::new(&[]);
    let mut first = rig.connect();
    let mut second = rig.connect();
    assert_eq!((first.ask(b"model3").await, second.ask(b"model3").await), ("1".into(), "1".into()));
    assert!(rig.get("127.0.0.1").is_connected() && rig.get("127.0.0.1~2").is_connected());
    drop(first);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut third = rig.connect();
    assert_eq!(third.ask(b"model3").await, "1");
    assert!(rig.get("127.0.0.1").is_connected(), "the lowest that is free");
    drop((second, third));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(rig.tools.cameras.all().is_empty(), "and nothing stays");
}

#[tokio::test(start_paused = true)]
async fn hello_comes_first_once_and_with_the_right_proof() {
    let rig = Rig::new(&[
        ("cameras.door.token", "open-sesame"),
        ("cameras.yard.address", "10.0.0.7"),
        ("frame.plaintext_trusted", "127.0.0.1"),
    ]);
    let mut client = rig.connect();
    assert_eq!(client.ask(b"camera:door:open-sesame\r\n").await, "1");
    assert_eq!(client.ask(b"model3").await, "1");
    assert_eq!(client.ask(b"camera:door:open-sesame\n").await, "0", "after the first mode");
    assert_eq!(client.frame(&jpeg(64, 48, 1)).await, "1", "but the session goes on");
    assert!(rig.get("door").latest().is_some_and(|frame| frame.proven));

    for (address, secure, line, why) in [
        ("127.0.0.1", false, "camera:door:wrong\n", "bad_token"),
        ("127.0.0.1", false, "camera:door\n", "bad_token"),
        ("127.0.0.2", false, "camera:door:open-sesame\n", "token_in_clear"),
        ("127.0.0.2", true, "camera:door:wrong\n", "bad_token"),
        ("10.0.0.8", false, "camera:yard\n", "wrong_address"),
    ] {
        let mut client = rig.connect_from(address, secure);
        assert_eq!(client.ask(line.as_bytes()).await, "0", "{line:?} from {address}");
        assert_eq!(client.answer().await, None);
        assert_eq!(client.end().await.0, SessionEnd::Refused(why));
    }
    assert!(rig.get("door").is_connected(), "none of them took the seat");
    let mut client = rig.connect_from("127.0.0.2", true);
    assert_eq!(client.ask(b"camera:door:open-sesame\n").await, "1", "over TLS from anywhere");

    let mut client = rig.connect_from("10.0.0.7", false);
    assert_eq!(client.ask(b"model3").await, "1");
    assert_eq!(client.frame(&jpeg(64, 48, 1)).await, "1");
    let yard = rig.get("yard");
    assert!(
        yard.is_connected() && yard.latest().is_some_and(|frame| !frame.proven),
        "an address is no proof"
    );
    let mut client = rig.connect();
    assert_eq!(client.ask(b"camera:one\n").await, "1");
    assert_eq!(client.ask(b"camera:two\n").await, "0");
    assert_eq!(client.end().await.0, SessionEnd::Refused("hello_twice"));
    let mut client = rig.connect();
    assert_eq!(client.ask(b"camera:No Name\n").await, "0");
    assert_eq!(client.ask(b"camera:one\n").await, "1", "a typo is no reason to leave");
}

#[tokio::test(start_paused = true)]
async fn a_picture_of_a_proven_camera_stays_one_when_the_camera_has_left() {
    let rig = Rig::new(&[("cameras.door.token", "open-sesame"), ("frame.plaintext_trusted", "127.0.0.1")]);
    let mut client = rig.connect();
    assert_eq!(client.ask(b"camera:door:open-sesame\n").await, "1");
    assert_eq!(client.ask(b"model5").await, "1");
    assert_eq!(client.frame(&jpeg(64, 48, 1)).await, "1");
    drop(client);
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Nobody has looked at it yet: the last picture always waits while its answer is on the way.
    let door = rig.get("door");
    assert!(!door.is_connected());
    assert!(door.decode_slot.take().is_some_and(|frame| frame.proven));
}

#[tokio::test(start_paused = true)]
async fn modes_are_allowed_per_camera() {
    let rig = Rig::new(&[("cameras.door.allowed_modes", "3,5")]);
    let mut client = rig.connect();
    assert_eq!(client.ask(b"camera:door\n").await, "1");
    for (mode, answer) in [(1, "0"), (2, "0"), (3, "1"), (4, "0"), (5, "1")] {
        assert_eq!(client.ask(format!("model{mode}").as_bytes()).await, answer, "mode {mode}");
    }
    assert_eq!(rig.get("door").mode(), Some(Mode::Faces));
    assert_eq!(client.ask(b"model1").await, "0");
    assert_eq!(client.frame(&jpeg(64, 48, 1)).await, "1");
    assert_eq!(rig.get("door").mode(), Some(Mode::Faces), "what is refused changes nothing");
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_makes_cameras_wait_and_then_refuses_them() {
    let rig = Rig::new(&[("frame.stall_timeout_secs", "5")]);
    let all = rig.tools.in_flight.limit();
    let picture = jpeg(64, 48, 1);
    let (begin, rest) = picture.split_at(20);

    let mut client = rig.camera("door", 3).await;
    let spent = rig.tools.in_flight.try_take(all).unwrap();
    client.send(&[b"start", begin].concat()).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!client.session.is_finished(), "it waits");
    drop(spent);
    client.send(rest).await;
    assert_eq!(client.ask(b"end").await, "1", "and then goes on");
    assert_eq!(rig.tools.in_flight.used(), 0, "everything is given back");

    let _spent = rig.tools.in_flight.try_take(all).unwrap();
    client.send(&[b"start", begin].concat()).await;
    let began = Instant::now();
    assert_eq!(client.answer().await, Some('0'));
    assert!(close_to(began.elapsed(), Duration::from_secs(5)), "{:?}", began.elapsed());
    assert_eq!(client.end().await.0, SessionEnd::Refused("in_flight_bytes"));
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_is_counted_and_given_back() {
    let rig = Rig::new(&[]);
    let mut clients = Vec::new();
    for n in 0..3 {
        let mut client = rig.camera(&format!("cam{n}"), 3).await;
        client.send(&[&b"start\xff\xd8\xff\xfe\xff\xff"[..], &[0x31; 40_000]].concat()).await;
        clients.push(client);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let used = rig.tools.in_flight.used();
    assert!((120_000..3_000_000).contains(&used), "{used}");
    drop(clients);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.tools.in_flight.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_frame_without_end_is_cut_at_the_limit() {
    let rig = Rig::new(&[("frame.max_frame_bytes", "100000")]);
    let mut client = rig.camera("door", 3).await;
    let (mut reader, mut writer) = tokio::io::split(client.stream);
    let sending = tokio::spawn(async move {
        let mut sent = 0;
        writer.write_all(b"start\xff\xd8\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00").await.unwrap();
        while writer.write_all(&[0x33; 8_192]).await.is_ok() {
            sent += 8_192;
        }
        sent
    });
    let mut answer = [0];
    assert_eq!(reader.read(&mut answer).await.unwrap(), 1);
    assert_eq!(answer, *b"0");
    client.stream = duplex(1).0;
    assert_eq!(client.end().await.0, SessionEnd::Refused("frame_too_large"));
    let sent = sending.await.unwrap();
    assert!(sent < 100_000 + (256 << 10), "it read on for {sent} bytes");
    assert_eq!(rig.tools.in_flight.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_large_picture_with_many_scans_is_refused_for_what_it_would_cost() {
    let rig = Rig::new(&[]);
    let mut client = rig.camera("door", 3).await;
    for (side, scans, answer) in [(8_000, 12, "1"), (8_000, 13, "0"), (2_700, 100, "1"), (2_800, 100, "0")] {
        assert_eq!(client.frame(&jpeg(side, side, scans)).await, answer, "{side} pixels, {scans} scans");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_rested_goes_on_as_before() {
    let rig = Rig::new(&[]);
    let mut client = rig.camera("door", 3).await;
    let long = [&jpeg(64, 48, 1)[..], &[0; 60_000], b"\xff\xd9"].concat();
    for pause in [0, 2, 0, 30, 299] {
        tokio::time::sleep(Duration::from_secs(pause)).await;
        assert_eq!(client.frame(&long).await, "1", "after {pause} s");
    }
    let (end, waited) = client.end().await;
    assert_eq!(end, SessionEnd::Refused("idle_timeout"));
    assert!(close_to(waited, Duration::from_secs(300)), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_the_talk_between_frames() {
    let rig = Rig::new(&[]);
    let mut client = rig.camera("door", 3).await;
    assert_eq!(client.frame(&jpeg(64, 48, 1)).await, "1");
    rig.tools.shutdown.trigger();
    assert_eq!(client.end().await.0, SessionEnd::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_1_means_that_the_recorder_said_so() {
    let rig = Rig::new(&[]);
    let mut client = rig.camera("door", 1).await;
    let orders = Arc::new(Mutex::new(Vec::new()));
    let mut script = vec![Stored::Done, Stored::Refused("full".to_owned()), Stored::Lost, Stored::Lost];
    let recorder = tokio::spawn(serve(rig.get("door").recorder.clone(), Arc::clone(&orders), move |_| {
        script.pop().unwrap_or(Stored::Done)
    }));
    let picture = jpeg(64, 48, 1);
    assert_eq!(client.frame(&picture).await, "0", "lost twice and given again, then refused");
    let began = Instant::now();
    assert_eq!(client.frame(&picture).await, "1");
    assert!(began.elapsed() < Duration::from_secs(1), "only a refusal is delayed");
    assert_eq!(*orders.lock().unwrap(), ["picture 1", "picture 1", "picture 1", "picture 2"]);
    recorder.abort();
    let _ = recorder.await;

    // Nobody answers at all: in the end that is a refusal, and the session goes on.
    let began = Instant::now();
    assert_eq!(client.frame(&picture).await, "0");
    assert!(began.elapsed() >= Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(client.ask(b"model3").await, "1");
    assert_eq!(client.frame(&picture).await, "1");
}

#[tokio::test(start_paused = true)]
async fn a_video_ends_with_its_mode_and_with_its_connection() {
    let rig = Rig::new(&[("cameras.door.name", "Door")]);
    let orders = Arc::new(Mutex::new(Vec::new()));
    let camera = rig.get("door");
    let recorder = tokio::spawn(serve(camera.recorder.clone(), Arc::clone(&orders), |_| Stored::Done));
    let picture = jpeg(64, 48, 1);
    let mut client = rig.camera("door", 2).await;
    assert_eq!(client.frame(&picture).await, "1");
    assert_eq!(client.ask(b"model2").await, "1");
    assert_eq!(client.frame(&picture).await, "1");
    assert_eq!(*orders.lock().unwrap(), ["video 1", "video 2"], "the same mode again changes nothing");
    assert_eq!(client.ask(b"model1").await, "1");
    assert_eq!(client.ask(b"model2").await, "1");
    assert_eq!(client.frame(&picture).await, "1");
    drop(client);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let orders = orders.lock().unwrap().clone();
    assert_eq!(orders[..4], ["video 1", "video 2", "end video", "video 3"]);
    assert!(orders[4..].iter().all(|order| order == "end video") && orders.len() > 4, "{orders:?}");
    recorder.abort();
}

#[tokio::test(start_paused = true)]
async fn detection_goes_on_when_the_disk_does_not() {
    let rig = Rig::new(&[]);
    let mut client = rig.camera("door", 4).await;
    let camera = rig.get("door");
    camera.ring().recording = true;
    let orders = Arc::new(Mutex::new(Vec::new()));
    let full = |_: &crate::recorder::Order| Stored::Refused("full".to_owned());
    let recorder = tokio::spawn(serve(camera.recorder.clone(), Arc::clone(&orders), full));
    assert_eq!(client.frame(&jpeg(64, 48, 1)).await, "1");
    assert_eq!(*orders.lock().unwrap(), ["clip 1"]);
    assert_eq!(camera.decode_slot.take().unwrap().seq, 1);
    recorder.abort();
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_a_moment_for_the_frame_before_to_be_looked_at() {
    let rig = Rig::new(&[("frame.answer_wait_ms", "50")]);
    let mut client = rig.camera("door", 3).await;
    let picture = jpeg(64, 48, 1);
    let began = Instant::now();
    assert_eq!(client.frame(&picture).await, "1");
    assert!(began.elapsed() < Duration::from_millis(10), "nobody was in front");
    let began = Instant::now();
    assert_eq!(client.frame(&picture).await, "1");
    let waited = began.elapsed();
    assert!(waited >= Duration::from_millis(50) && waited < Duration::from_millis(100), "{waited:?}");
    let camera = rig.get("door");
    assert_eq!(camera.decode_slot.take().unwrap().seq, 2, "the newest wins");
    let began = Instant::now();
    assert_eq!(client.frame(&picture).await, "1");
    assert!(began.elapsed() < Duration::from_millis(10));
}
