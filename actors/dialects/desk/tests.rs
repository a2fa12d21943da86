//! The desk over real sockets, without a node: what each command answers, byte for byte, and what happens when clients do
//! not keep to it.

use std::io::Read as _;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::tz::TimeZone;
use meerkat_base::{ManualClock, WallTime};
use meerkat_settings::Settings;
use meerkat_store::{BootId, Durability};
use meerkat_wire::desk::{ClientNumber, Command, Sealing, receive_line, send_line};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::chat::{CameraFact, EventFact, Facts};
use super::*;
use crate::testing::{NOON, room_with, settings};

/// What the analyst makes of a file: its bytes as the heat map, its length in the others. `bad` is a file it refuses.
struct Counting(AtomicU64);

impl Analyst for Counting {
    fn analyse(&self, mut csv: File, _limit: Duration) -> Result<Charts, String> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let mut bytes = Vec::new();
        csv.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        match bytes.as_slice() {
            b"bad" => Err("not a table".to_owned()),
            b"panic" => panic!("an analyst that panics"),
            _ => Ok(Charts {
                bars: format!("bars of {}", bytes.len()).into(),
                pie: "pie".into(),
                scatter: vec![7; 60 << 10].into(),
                clouds: vec!["one".into(), "two".into()],
                heat_map: bytes.into(),
            }),
        }
    }
}

struct NoNode;

impl Facts for NoNode {
    fn now(&self) -> WallTime {
        WallTime(1_793_665_805_000_000)
    }

    fn zone(&self) -> TimeZone {
        TimeZone::UTC
    }

    fn cameras(&self) -> Vec<CameraFact> {
        Vec::new()
    }

    fn problems(&self) -> Vec<String> {
        Vec::new()
    }

    fn events_since(&self, _since: WallTime) -> Result<Vec<EventFact>, String> {
        Ok(Vec::new())
    }
}

struct Office {
    desk: Arc<Desk>,
    ports: Vec<SocketAddr>,
    clock: ManualClock,
    folder: TempDir,
}

/// Bytes that may be received at once.
const IN_FLIGHT: usize = 256 << 10;
/// Bytes per second, at least.
const RATE: u32 = 100_000;

const LISTEN: &str = "127.0.0.1:0,127.0.0.1:0,127.0.0.1:0,127.0.0.1:0";

fn desk_settings(keys: &[(&str, &str)]) -> DeskSettings {
    let mut all = vec![
        ("dialects.desk.listen", LISTEN),
        ("dialects.desk.file_silence_ms", "60"),
        ("dialects.desk.size_silence_ms", "20"),
    ];
    all.extend(keys);
    let settings: Settings = settings(&all);
    settings.dialects.desk.unwrap()
}

async fn room(keys: &[(&str, &str)]) -> Office {
    room_in(tempfile::tempdir().unwrap(), keys, 1).await
}

/// One in a folder on a disk of which so many bytes are to stay free.
async fn room_in(folder: TempDir, keys: &[(&str, &str)], free_floor: u64) -> Office {
    let settings = desk_settings(keys);
    let clock = ManualClock::new(NOON);
    let mut listeners = Vec::new();
    for _ in 0..4 {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let ports: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
    let boot = BootId::parse("test").unwrap();
    let limits = relay_limits(&settings);
    let tools = DeskTools {
        settings,
        addresses: ports.clone(),
        clock: Arc::new(clock.clone()),
        room: room_with(folder.path(), free_floor),
        storage: StorageState::default(),
        in_flight: Budget::new(IN_FLIGHT),
        examine_timeout: Duration::from_secs(20),
        min_bytes_per_second: RATE,
        shelf: RelayShelf::open(folder.path(), &boot, Durability::Process, limits).unwrap(),
        facts: Arc::new(NoNode),
        eyes: Eyes::new(4, Duration::from_millis(100)),
        analyst: Arc::new(Counting(AtomicU64::new(0))),
        http: None,
    };
    let desk = Arc::new(Desk::new(tools).unwrap());
    for listener in listeners {
        let own = Arc::clone(&desk);
        actix_rt::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let own = Arc::clone(&own);
                actix_rt::spawn(async move { own.talk(stream, peer).await });
            }
        });
    }
    Office { desk, ports, clock, folder }
}

/// A client as the old ones are.
struct Client(TcpStream);

impl Office {
    async fn client(&self, number: usize) -> Client {
        Client(TcpStream::connect(self.ports[number - 1]).await.unwrap())
    }

    /// Says things one after the other, each after an answer; gives the answers.
    async fn talk(&self, number: usize, says: &[&[u8]]) -> Vec<String> {
        let mut client = self.client(number).await;
        let mut answers = Vec::new();
        for say in says {
            client.say(say).await;
            answers.push(String::from_utf8(client.hear().await).unwrap());
        }
        answers
    }

    /// One command of the first client, and its answer.
    async fn one(&self, mode: &str) -> Vec<String> {
        self.talk(1, &[mode.as_bytes()]).await
    }

    async fn upload(&self, number: usize, mode: &str, bytes: &[u8]) -> Vec<String> {
        self.talk(number, &[mode.as_bytes(), bytes.len().to_string().as_bytes(), bytes]).await
    }

    async fn relay(&self, from: usize, to: usize, bytes: &[u8]) -> String {
        let mode = Command::RelayTo(ClientNumber::ALL[to - 1]).text();
        let mut answers = self.talk(from, &[mode.as_bytes(), bytes]).await;
        assert_eq!(answers.remove(0), mode);
        answers.remove(0)
    }

    async fn fetch(&self, number: usize) -> Vec<u8> {
        let mut client = self.client(number).await;
        client.say("接收文件mode".as_bytes()).await;
        let file = client.hear().await;
        if !file.is_empty() {
            client.say(b"success").await;
            assert_eq!(client.hear().await, b"", "it closes behind the file");
        }
        file
    }
}

impl Client {
    async fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// One `recv(1024)`; empty when the server closed.
    async fn hear(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; 1024];
        let n = timeout(self.0.read(&mut bytes)).await.unwrap_or(0);
        bytes.truncate(n);
        bytes
    }

    async fn all(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = timeout(self.0.read_to_end(&mut bytes)).await;
        bytes
    }
}

async fn timeout<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("an answer, or the end")
}

fn run(test: impl Future<Output = ()>) {
    crate::in_system(test);
}

#[test]
fn chat_answers_once_and_nothing_is_an_answer_too() {
    run(async {
        let room = room(&[]).await;
        let mode = "复读机mode";
        for (text, answer) in [
            ("你好", "您好！"),
            ("现在几点", "[Tue Nov  3 00:30:05 2026]"),
            ("没有规则", "没有规则"),
            ("status", "the node is well: 0 of 0 cameras up, 0 events today"),
        ] {
            let answers = room.talk(1, &[mode.as_bytes(), text.as_bytes()]).await;
            assert_eq!(answers, [mode, answer]);
        }
        let mut silent = room.client(2).await;
        silent.say(mode.as_bytes()).await;
        assert_eq!(silent.hear().await, mode.as_bytes());
        silent.0.shutdown().await.unwrap();
        assert_eq!(silent.all().await, b"");
        // All at once, from a client that does not wait.
        let mut hasty = room.client(3).await;
        hasty.say("复读机mode再见".as_bytes()).await;
        hasty.0.shutdown().await.unwrap();
        assert_eq!(String::from_utf8(hasty.all().await).unwrap(), "复读机mode再见！");
    });
}

#[test]
fn files_go_from_client_to_client_in_their_order() {
    run(async {
        let room = room(&[]).await;
        let file: Vec<u8> = (0..=255).collect();
        assert_eq!(room.relay(1, 3, &file).await, "接收加密文件完成");
        assert_eq!(room.relay(2, 3, b"second").await, "接收加密文件完成");
        assert_eq!(room.fetch(1).await, b"", "nothing waits for others");
        assert_eq!(room.fetch(3).await, file);
        // Taken, and not confirmed: it stays where it was.
        let mut broken = room.client(3).await;
        broken.say("接收文件mode".as_bytes()).await;
        assert_eq!(broken.hear().await, b"second");
        drop(broken);
        for _ in 0..200 {
            match room.fetch(3).await {
                second if second == b"second" => return assert_eq!(room.fetch(3).await, b""),
                nothing => assert_eq!(nothing, b"", "it is in the hand of the connection that is gone"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the file is lost");
    });
}

#[test]
fn a_large_file_goes_out_whole_and_an_old_client_gets_its_beginning() {
    run(async {
        let room = room(&[]).await;
        let file: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 253) as u8).collect();
        for _ in 0..2 {
            assert_eq!(room.relay(1, 2, &file).await, "接收加密文件完成");
        }
        let mut patient = room.client(2).await;
        patient.say("接收文件mode".as_bytes()).await;
        let mut whole = vec![0; file.len()];
        timeout(patient.0.read_exact(&mut whole)).await.unwrap();
        assert!(whole == file);
        patient.say(b"success").await;
        assert_eq!(patient.all().await, b"");
        // The old one reads once, says that it has everything, and leaves.
        let beginning = room.client(2).await;
        let mut old = beginning;
        old.say("接收文件mode".as_bytes()).await;
        assert_eq!(old.hear().await, file[..1024]);
        old.say(b"success").await;
        let _ = old.all().await;
        assert_eq!(room.fetch(2).await, b"", "as it asked for");
    });
}

#[test]
fn the_relay_has_quotas_and_says_so() {
    run(async {
        let keys = [
            ("dialects.desk.relay.max_file_bytes", "2048"),
            ("dialects.desk.relay.sender_bytes", "4096"),
            ("dialects.desk.relay.total_bytes", "8192"),
            ("dialects.desk.relay.files", "3"),
        ];
        let room = room(&keys).await;
        assert_eq!(room.relay(1, 1, &[1; 4000]).await, "error: the file is too long");
        assert_eq!(room.relay(1, 1, &[1; 2000]).await, "接收加密文件完成");
        assert_eq!(room.relay(1, 1, &[1; 2000]).await, "接收加密文件完成");
        assert_eq!(room.relay(1, 1, &[1; 2000]).await, "error: too much of this sender is waiting");
        assert_eq!(room.relay(1, 1, &[1; 20]).await, "接收加密文件完成");
        let answers = room.talk(1, &["加密文件转发mode1".as_bytes()]).await;
        assert_eq!(answers, ["error: too many files are waiting for this client"]);
        assert_eq!(room.desk.shelf.usage(), (3, 4020), "nothing of what was refused is left");
    });
}

#[test]
fn our_own_clients_send_any_size_in_a_queue_of_its_own() {
    run(async {
        let room = room(&[]).await;
        let file: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        let to = ClientNumber::ALL[3];
        let mut sender = room.client(1).await;
        sender.say(send_line(to, file.len() as u64).as_bytes()).await;
        assert_eq!(sender.hear().await, b"go\n");
        sender.say(&file).await;
        assert_eq!(sender.hear().await, b"stored\n");
        assert_eq!(room.fetch(4).await, b"", "not for old clients");
        let mut receiver = room.client(4).await;
        receiver.say(receive_line(Sealing::Sealed).as_bytes()).await;
        let mut head = vec![0; "file 1000000\n".len()];
        timeout(receiver.0.read_exact(&mut head)).await.unwrap();
        assert_eq!(head, b"file 1000000\n");
        let mut whole = vec![0; file.len()];
        timeout(receiver.0.read_exact(&mut whole)).await.unwrap();
        assert!(whole == file);
        receiver.say(b"success").await;
        assert_eq!(receiver.hear().await, b"removed\n");
        let none = room.talk(4, &[receive_line(Sealing::Sealed).as_bytes()]).await;
        assert_eq!(none, ["none\n"]);
        let too_long = room.talk(1, &[send_line(to, 1 << 50).as_bytes()]).await;
        assert_eq!(too_long, ["error: the file is too long"]);
    });
}

#[test]
fn a_sender_that_vanishes_leaves_nothing() {
    run(async {
        let room = room(&[("dialects.desk.stall_timeout_secs", "0.2")]).await;
        let mut sender = room.client(1).await;
        sender.say(send_line(ClientNumber::ALL[0], 1000).as_bytes()).await;
        assert_eq!(sender.hear().await, b"go\n");
        sender.say(&[0; 500]).await;
        assert_eq!(sender.all().await, b"", "half a file is none, and nobody waits for the rest for ever");
        assert_eq!(room.desk.shelf.usage(), (0, 0));
    });
}

#[test]
fn pictures_belong_to_a_port() {
    run(async {
        let room = room(&[("dialects.desk.max_picture_bytes", "4096")]).await;
        assert_eq!(room.talk(1, &["人脸检测mode".as_bytes()]).await, ["No face"], "of no picture");
        assert_eq!(room.talk(1, &["目标识别mode".as_bytes()]).await, ["error: no picture was sent"]);
        assert_eq!(room.upload(1, "发送图片mode", b"\xff\xd8 whatever").await, ["OK", "OK", "OK"]);
        let own = clients::Client::new(ClientNumber::ALL[0], "127.0.0.1".parse().unwrap());
        let kept = room.desk.clients.picture(own, room.clock.mono()).unwrap();
        assert_eq!(kept.bytes.as_ref(), b"\xff\xd8 whatever");
        assert_eq!(room.talk(2, &["目标识别mode".as_bytes()]).await, ["error: no picture was sent"]);
        let answers = room.talk(1, &["发送图片mode".as_bytes(), b"5000"]).await;
        assert_eq!(answers, ["OK", "error: a picture has at most 4096 bytes"]);
        // Said, and not sent: nothing is kept, and the one before is gone.
        let mut half = room.client(1).await;
        half.say("发送图片mode".as_bytes()).await;
        assert_eq!(half.hear().await, b"OK");
        half.say(b"100").await;
        assert_eq!(half.hear().await, b"OK");
        half.say(&[0; 50]).await;
        half.0.shutdown().await.unwrap();
        assert_eq!(half.all().await, b"");
        assert!(room.desk.clients.picture(own, room.clock.mono()).is_none());
    });
}

#[test]
fn a_table_is_sent_analysed_and_shown() {
    run(async {
        let room = room(&[]).await;
        assert_eq!(room.one("数据分析mode").await, ["error: no CSV file was sent"]);
        assert_eq!(room.one("热力图mode").await, ["error: no CSV file was analysed"]);
        assert_eq!(room.upload(1, "发送csv文件mode", b"1,2\n3,4\n").await, ["OK", "OK", "OK"]);
        assert_eq!(room.one("热力图mode").await, ["error: no CSV file was analysed"]);
        assert_eq!(room.one("数据分析mode").await, ["OK"]);
        assert_eq!(room.one("数据分析mode").await, ["OK"], "as often as one likes");
        for (name, picture) in
            [("热力图mode", "1,2\n3,4\n"), ("柱状图mode", "bars of 8"), ("饼状图mode", "pie")]
        {
            let answers = room.talk(1, &[name.as_bytes(), b"OK", b"OK"]).await;
            assert_eq!(answers, [picture.len().to_string().as_str(), picture, ""], "{name}");
        }
        let answers = room.talk(1, &["词云mode".as_bytes(), b"OK", b"OK", b"OK", b"OK", b"OK"]).await;
        assert_eq!(answers, ["2", "3", "one", "3", "two", ""]);
        // The largest picture there is comes with one read, as the old clients read it.
        let mut client = room.client(1).await;
        client.say("散点图mode".as_bytes()).await;
        assert_eq!(client.hear().await, b"61440");
        client.say(b"OK").await;
        let mut bytes = vec![0; 61440];
        assert_eq!(timeout(client.0.read(&mut bytes)).await.unwrap(), 61440);
        // Another client has seen nothing of it.
        assert_eq!(room.talk(2, &["热力图mode".as_bytes()]).await, ["error: no CSV file was analysed"]);
    });
}

#[test]
fn a_table_that_is_none_gets_an_error_and_the_next_one_is_analysed() {
    run(async {
        let room =
            room(&[("dialects.desk.csv.max_bytes", "1024"), ("dialects.desk.csv.total_bytes", "1500")]).await;
        for (bytes, words) in [(&b"bad"[..], "error: not a table"), (b"panic", "error: the analysis failed")]
        {
            assert_eq!(room.upload(1, "发送csv文件mode", bytes).await, ["OK", "OK", "OK"]);
            assert_eq!(room.talk(1, &["数据分析mode".as_bytes()]).await, [words]);
        }
        let answers = room.talk(1, &["发送csv文件mode".as_bytes(), b"2000"]).await;
        assert_eq!(answers, ["OK", "error: a CSV file has at most 1024 bytes"]);
        assert_eq!(room.upload(1, "发送csv文件mode", &[b'1'; 1000]).await, ["OK", "OK", "OK"]);
        assert_eq!(room.talk(1, &["数据分析mode".as_bytes()]).await, ["OK"]);
        // Room for the second client's comes from the first one's.
        assert_eq!(room.upload(2, "发送csv文件mode", &[b'1'; 1000]).await, ["OK", "OK", "OK"]);
        assert_eq!(room.desk.clients.used_bytes(), (0, 1000));
        let named = std::fs::read_dir(room.folder.path().join("desk")).unwrap().count();
        assert_eq!(named, 0, "the files have no name");
    });
}

#[test]
fn garbage_is_refused_and_slow_ones_are_let_go() {
    run(async {
        let keys = [("dialects.desk.idle_timeout_secs", "0.2"), ("dialects.desk.stall_timeout_secs", "0.2")];
        let room = room(&keys).await;
        assert_eq!(room.talk(1, &[b"GET / HTTP/1.1\r\n\r\n"]).await, ["error: no such command"]);
        assert_eq!(room.talk(1, &["发送图片mode".as_bytes(), b"many"]).await, ["OK", "error: not a size"]);
        let answers = room.talk(1, &["复读机mode".as_bytes(), b"\xff\xfe"]).await;
        assert_eq!(answers, ["复读机mode", "error: the text is not UTF-8"]);
        // Who says nothing, half a command, or half a body.
        for (says, hears) in
            [(&[][..], ""), (&["复读".as_bytes()], ""), (&["发送图片mode".as_bytes(), b"9", b"x"], "OKOK")]
        {
            let mut client = room.client(1).await;
            for say in says {
                client.say(say).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            assert_eq!(String::from_utf8(client.all().await).unwrap(), hears, "{says:?}");
        }
    });
}

#[test]
fn what_is_no_evidence_leaves_the_last_free_space_to_evidence() {
    run(async {
        let room = room_in(tempfile::tempdir().unwrap(), &[], 1 << 49).await;
        let full = "error: too little free space on the disk";
        assert_eq!(room.talk(1, &["加密文件转发mode1".as_bytes()]).await, [full]);
        assert_eq!(room.talk(1, &[send_line(ClientNumber::ALL[0], 9).as_bytes()]).await, [full]);
        assert_eq!(room.talk(1, &["发送csv文件mode".as_bytes(), b"9"]).await, ["OK", full]);
        assert_eq!(room.desk.shelf.usage(), (0, 0));
        // What takes no disk goes on.
        assert_eq!(room.upload(1, "发送图片mode", b"\xff\xd8").await, ["OK", "OK", "OK"]);
        assert_eq!(room.talk(1, &["复读机mode".as_bytes(), b"hi"]).await, ["复读机mode", "您好！"]);
        let own = clients::Client::new(ClientNumber::ALL[0], "127.0.0.1".parse().unwrap());
        let held = || clients::HeldCsv {
            file: tempfile::tempfile().unwrap(),
            _permit: room.desk.clients.room_for_csv(own, 10).unwrap(),
        };
        room.desk.clients.keep_csv(own, held(), room.clock.mono());
        room.desk.make_way();
        assert_eq!(room.desk.clients.used_bytes(), (2, 0), "a file that was sent before it became full");
    });
}

#[test]
fn uploads_are_in_flight_until_they_are_stored() {
    run(async {
        let room = room(&[("dialects.desk.stall_timeout_secs", "0.3")]).await;
        let upload = |mode: &'static str| async {
            let mut client = room.client(1).await;
            for say in [mode.as_bytes(), b"200000"] {
                client.say(say).await;
                assert_eq!(client.hear().await, b"OK");
            }
            client
        };
        let mut picture = upload("发送图片mode").await;
        picture.say(&[0; 150_000]).await;
        let until = tokio::time::Instant::now() + Duration::from_secs(20);
        while room.desk.in_flight.used() < 150_000 {
            assert!(tokio::time::Instant::now() < until, "what arrived is counted");
            tokio::task::yield_now().await;
        }
        drop(picture);
        while room.desk.in_flight.used() > 0 {
            assert!(tokio::time::Instant::now() < until, "what is gone is not in flight");
            tokio::task::yield_now().await;
        }
        // Somebody else has nearly everything: whoever comes is told so.
        let others = room.desk.in_flight.try_take(IN_FLIGHT - 1_000).unwrap();
        let mut crowded = room.client(2).await;
        crowded.say("加密文件转发mode1".as_bytes()).await;
        assert_eq!(crowded.hear().await, "加密文件转发mode1".as_bytes());
        let words = String::from_utf8(crowded.hear().await).unwrap();
        assert_eq!(words, "error: too much is being sent at once");
        drop(others);
        let mut picture = upload("发送图片mode").await;
        picture.say(&[0; 200_000]).await;
        assert_eq!((picture.hear().await, room.desk.in_flight.used()), (b"OK".to_vec(), 0));
        assert_eq!(room.relay(1, 1, &[1; 500_000]).await, "接收加密文件完成");
        assert_eq!(room.desk.in_flight.used(), 0);
    });
}

#[test]
fn a_drip_is_let_go_wherever_it_drips() {
    run(async {
        let keys = [("dialects.desk.stall_timeout_secs", "0.3"), ("dialects.desk.idle_timeout_secs", "0.3")];
        let room = room(&keys).await;
        let cases: [(&[&[u8]], &[u8]); 5] = [
            (&[], "加密文件转发mode1".as_bytes()),
            (&["发送图片mode".as_bytes(), b"1000"], b"x"),
            (&["发送图片mode".as_bytes()], b" "),
            (&["加密文件转发mode1".as_bytes()], b"x"),
            (&["meerkat-relay/1 send 1 1000\n".as_bytes()], b"x"),
        ];
        for (steps, drop) in cases {
            let mut client = room.client(1).await;
            for step in steps {
                client.say(step).await;
                client.hear().await;
            }
            let began = tokio::time::Instant::now();
            for n in 0.. {
                assert!(began.elapsed() < Duration::from_secs(10), "it drips for ever: {steps:?}");
                let byte = drop[n % drop.len()];
                if client.0.write_all(&[byte]).await.is_err() {
                    break;
                }
                // A drop every now and then, always before anybody could say that it stands still.
                let pause = Duration::from_millis(40);
                match tokio::time::timeout(pause, client.0.read(&mut [0; 64])).await {
                    Ok(Ok(0) | Err(_)) => break,
                    Ok(Ok(_)) => panic!("it dripped to the end: {steps:?}"),
                    Err(_) => {}
                }
            }
        }
        assert_eq!(room.desk.shelf.usage(), (0, 0));
    });
}

#[test]
fn rules_that_cannot_be_used_are_an_early_error() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules.toml");
        std::fs::write(&path, "[[rule]]\npattern = \"(\"\nanswer = \"x\"\n").unwrap();
        let settings = desk_settings(&[("dialects.desk.chat.rules", path.to_str().unwrap())]);
        let error = Chat::new(settings.chat.rules.as_deref()).unwrap_err();
        let message = DeskError::from(error).to_string();
        assert!(message.starts_with("dialects.desk.chat.rules: line 2: rule 1:"), "{message}");
        let own = tempfile::tempdir().unwrap();
        std::fs::write(&path, "[[rule]]\npattern = \"^ping$\"\nanswer = \"pong\"\n").unwrap();
        let room = room_in(own, &[("dialects.desk.chat.rules", path.to_str().unwrap())], 1).await;
        let mode = "复读机mode";
        assert_eq!(room.talk(1, &[mode.as_bytes(), b"ping"]).await, [mode, "pong"]);
        assert_eq!(room.talk(1, &[mode.as_bytes(), "你好".as_bytes()]).await, [mode, "你好"]);
    });
}
