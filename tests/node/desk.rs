//! The desk as its clients find it: the old ones, in Python, read by read as they are, our own, and those that mean no good.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Node, PATIENCE, Plan, data, eventually, jpeg};

const FOUR: &str = "127.0.0.1:0,127.0.0.1:0,127.0.0.1:0,127.0.0.1:0";

fn plan() -> Plan {
    Plan::new().set("dialects.desk.listen", FOUR).set("dialects.desk.file_silence_ms", 200)
}

/// The four ports, in their order.
#[track_caller]
fn ports(node: &Node) -> Vec<SocketAddr> {
    let spoken = node.wait_for_logs("a dialect can be spoken", 4);
    spoken.iter().map(|entry| entry["address"].as_str().unwrap().parse().unwrap()).collect()
}

/// The client of the notes.
fn python(port: SocketAddr, args: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/desk.py");
    let (host, port) = (port.ip().to_string(), port.port().to_string());
    Command::new("python3")
        .arg(script)
        .args([&host, &port])
        .args(args)
        .output()
        .expect("python3 is installed")
}

/// What it printed, once it is content.
#[track_caller]
fn old(port: SocketAddr, args: &[&str]) -> String {
    let output = python(port, args);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {words}");
    let mut text = String::from_utf8(output.stdout).unwrap();
    assert!(text.pop().is_none_or(|end| end == '\n'));
    text
}

/// Our own client.
fn relay(node: &Node, args: &[&str]) -> Output {
    let mut command = Plan::new().command(&node.data());
    command.arg("relay").args(args).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

fn file(node: &Node, name: &str, bytes: &[u8]) -> String {
    let path = node.data().join(name);
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

fn path(node: &Node, name: &str) -> String {
    node.data().join(name).to_str().unwrap().to_owned()
}

fn raw(port: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(port).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn hear(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    let n = stream.read(&mut bytes).unwrap_or(0);
    bytes.truncate(n);
    bytes
}

#[test]
fn the_chat_answers_old_clients_and_tells_of_the_node() {
    let mut node = plan().set("cameras.yard.name", "后院").start();
    let ports = ports(&node);
    let said = |text: &str| old(ports[0], &["chat", text]);
    for text in ["你好", "您好吗", "hello", "hi"] {
        assert_eq!(said(text), "您好！", "{text}");
    }
    for text in ["现在几点", "时间", "time"] {
        let answer = said(text);
        let shaped = answer.len() == 26 && answer.starts_with('[') && answer.ends_with(']');
        assert!(shaped, "{answer}");
    }
    assert!(said("weather").contains("天气"));
    for text in ["再见", "see you", "goodbye"] {
        assert_eq!(said(text), "再见！");
    }
    assert!(said("你叫什么").contains("Meerkat") && said("name").contains("Meerkat"));
    assert_eq!(said("没有这样的规则"), "没有这样的规则");
    assert_eq!(said("摄像头"), "后院: 离线");
    assert_eq!(said("events today"), "no events today");
    let camera = node.camera("yard", 3);
    eventually("the chat sees the camera", PATIENCE, || {
        let mut camera_now = camera.stream().try_clone().unwrap();
        camera_now.write_all(&[b"start", &jpeg(64, 48, 1)[..], b"end"].concat()).unwrap();
        (said("cameras").starts_with("后院: up")).then_some(())
    });
    assert!(said("status").contains("1 of 1 cameras up"), "{}", said("status"));
    assert!(python(ports[1], &["chat-nothing"]).status.success());
    assert!(node.metric("meerkat_desk_commands_total", &[("command", "chat")]) >= 18.0);
    // Every byte in a segment of its own.
    let mut slow = raw(ports[3]);
    for byte in "复读机mode".as_bytes() {
        slow.write_all(&[*byte]).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(hear(&mut slow), "复读机mode".as_bytes());
    slow.write_all("再见".as_bytes()).unwrap();
    assert_eq!(hear(&mut slow), "再见！".as_bytes());
    assert!(node.stop().success(), "{}", node.log());
}

#[test]
fn the_rules_of_the_chat_change_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.toml");
    let rule = |answer: &str| format!("[[rule]]\npattern = \"^ping$\"\nanswer = \"{answer}\"\n");
    std::fs::write(&rules, rule("pong")).unwrap();
    let node = plan().set("dialects.desk.chat.rules", rules.display()).start();
    let port = ports(&node)[0];
    assert_eq!(old(port, &["chat", "ping"]), "pong");
    assert_eq!(old(port, &["chat", "你好"]), "你好", "a file of one's own replaces all rules");
    std::fs::write(&rules, rule("another answer")).unwrap();
    node.signal(Signal::HUP);
    node.wait_for_log("rules of the chat reloaded");
    assert_eq!(old(port, &["chat", "ping"]), "another answer");
    std::fs::write(&rules, "[[rule]]\npattern = \"(\"\nanswer = \"x\"\n").unwrap();
    let entry = node.wait_for_log("rules of the chat not reloaded; the old ones stay in force");
    assert!(entry["error"].as_str().unwrap().contains("rule 1"), "{entry}");
    assert_eq!(old(port, &["chat", "ping"]), "another answer");
    drop(node);
    // Asked before, it is an error that names file and line.
    let wrong = "[[rule]]\npattern = \"a\"\nanswer = \"b\"\n[[rule]]\npattern = \"(\"\nanswer = \"x\"\n";
    let unknown = "[[rule]]\npattern = \"a\"\nanser = \"b\"\n";
    for (text, parts) in [(wrong, ["line 5: rule 2", "pattern"]), (unknown, ["line 3: ", "anser"])] {
        std::fs::write(&rules, text).unwrap();
        let output = plan()
            .set("dialects.desk.chat.rules", rules.display())
            .command(folder.path())
            .arg("check-config")
            .output()
            .unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{complaint}");
        for part in parts.into_iter().chain(["dialects.desk.chat.rules", rules.to_str().unwrap()]) {
            assert!(complaint.contains(part), "{part}: {complaint}");
        }
    }
    // At the start it is an error that names the key.
    let output = plan()
        .set("dialects.desk.chat.rules", rules.display())
        .command(folder.path())
        .arg("run")
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(text(&output).contains("dialects.desk.chat.rules"), "{}", text(&output));
}

#[test]
fn files_wait_for_old_clients_over_a_restart_in_their_order() {
    let mut node = plan().start();
    let four = ports(&node);
    let (short, long) = (file(&node, "short", b"for three"), file(&node, "long", &vec![9; 300_000]));
    old(four[0], &["relay-to", "3", &short]);
    old(four[1], &["relay-to", "3", &long]);
    old(four[1], &["relay-to", "3", &short]);
    let out = path(&node, "out");
    let fetched = |port: SocketAddr| {
        old(port, &["fetch", &out]);
        std::fs::read(&out).unwrap()
    };
    assert_eq!(fetched(four[0]), b"", "nothing waits for the first");
    assert_eq!(fetched(four[2]), b"for three");
    node.kill();
    node.restart();
    let four = ports(&node);
    assert_eq!(fetched(four[2]), [9; 1024], "an old client reads so much of a longer file");
    assert_eq!(fetched(four[2]), b"for three");
    assert_eq!(fetched(four[2]), b"");
    assert_eq!(node.metric("meerkat_relay_waiting_files", &[]), 0.0);
    assert_eq!(node.metric("meerkat_relay_files_total", &[("result", "fetched")]), 2.0);
    // One that leaves in the middle by its end of sending has sent a file; one that is cut off has not.
    let mut closing = raw(four[0]);
    closing.write_all("加密文件转发mode1".as_bytes()).unwrap();
    assert_eq!(hear(&mut closing), "加密文件转发mode1".as_bytes());
    closing.write_all(b"all of it").unwrap();
    closing.shutdown(Shutdown::Write).unwrap();
    assert_eq!(hear(&mut closing), "接收加密文件完成".as_bytes());
    assert_eq!(fetched(four[0]), b"all of it");
}

#[test]
fn sealed_files_of_any_size_are_opened_by_their_receiver_alone() {
    let mut node = plan().start();
    let four: Vec<String> = ports(&node).iter().map(ToString::to_string).collect();
    let (key, other) = (path(&node, "me.key"), path(&node, "other.key"));
    let keygen = |to: &str| {
        let output = relay(&node, &["keygen", "--out", to]);
        assert!(output.status.success(), "{}", text(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let (public, _) = (keygen(&key), keygen(&other));
    assert!(public.starts_with("age1"));
    assert!(!relay(&node, &["keygen", "--out", &key]).status.success(), "a key is never overwritten");
    let secret: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
    let plain = file(&node, "secret", &secret);
    let sent = relay(&node, &["send", "--to", &four[0], "--client", "4", "--recipient", &public, &plain]);
    assert!(sent.status.success(), "{}", text(&sent));
    let waiting: Vec<PathBuf> =
        std::fs::read_dir(node.data().join("relay/4")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let stored = std::fs::read(&waiting[0]).unwrap();
    assert!(waiting.len() == 1 && stored.starts_with(b"age-encryption.org/v1"));
    assert!(!stored.windows(64).any(|window| window == &secret[..64]), "the node cannot read it");
    node.stop();
    node.restart();
    let four: Vec<String> = ports(&node).iter().map(ToString::to_string).collect();
    let out = path(&node, "opened");
    let receive =
        |identity: &str| relay(&node, &["receive", "--to", &four[3], "--identity", identity, "--out", &out]);
    let wrong = receive(&other);
    assert!(wrong.status.code() == Some(1) && text(&wrong).contains("another key"), "{}", text(&wrong));
    assert!(!Path::new(&out).exists());
    let right = eventually("the file is free again", PATIENCE, || {
        let output = receive(&key);
        (output.status.code() != Some(3)).then_some(output)
    });
    assert!(right.status.success(), "{}", text(&right));
    assert!(std::fs::read(&out).unwrap() == secret);
    std::fs::remove_file(&out).unwrap();
    assert_eq!(receive(&key).status.code(), Some(3), "it is gone");
    // What an old client sent is fetched whole.
    let long = file(&node, "long", &vec![5; 100_000]);
    let four = ports(&node);
    old(four[0], &["relay-to", "2", &long]);
    let port = four[1].to_string();
    let output = relay(&node, &["receive", "--to", &port, "--plain", "--out", &out]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(std::fs::read(&out).unwrap(), vec![5; 100_000]);
}

#[test]
fn quotas_are_told_counted_and_logged() {
    let node = plan()
        .set("dialects.desk.relay.max_file_bytes", 2048)
        .set("dialects.desk.max_picture_bytes", 4096)
        .set("dialects.desk.csv.max_bytes", 4096)
        .start();
    let four = ports(&node);
    let large = file(&node, "large", &[1; 5000]);
    for (args, words) in [
        (vec!["relay-to", "1", &large], "error: the file is too long"),
        (vec!["picture", &large], "error: a picture has at most 4096 bytes"),
        (vec!["csv", &large], "error: a CSV file has at most 4096 bytes"),
    ] {
        let output = python(four[0], &args);
        assert!(!output.status.success() && text(&output).contains(words), "{args:?}: {}", text(&output));
    }
    for limit in ["relay_file_bytes", "desk_picture_bytes", "desk_csv_bytes"] {
        assert_eq!(node.metric("meerkat_limit_hits_total", &[("limit", limit)]), 1.0, "{limit}");
        assert_eq!(node.metric("meerkat_protocol_errors_total", &[("reason", limit)]), 1.0, "{limit}");
    }
    let refused = node.wait_for_logs("a client was refused", 3);
    assert!(refused.iter().all(|entry| entry["dialect"] == "desk"), "{refused:?}");
    let too_long = relay(
        &node,
        &[
            "send",
            "--to",
            &four[0].to_string(),
            "--client",
            "1",
            "--recipient",
            "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p",
            &large,
        ],
    );
    assert!(text(&too_long).contains("the file is too long"), "{}", text(&too_long));
}

#[test]
fn pictures_are_looked_at() {
    let node = plan().start();
    let four = ports(&node);
    assert_eq!(old(four[0], &["face"]), "No face");
    let empty = file(&node, "empty.jpg", &jpeg(320, 240, 3));
    old(four[0], &["picture", &empty]);
    assert_eq!(old(four[0], &["face"]), "No face");
    let broken = file(&node, "broken.jpg", b"\xff\xd8 no picture \xff\xd9");
    old(four[1], &["picture", &broken]);
    assert!(old(four[1], &["face"]).starts_with("error: not a picture"));
    assert!(old(four[2], &["objects"]).starts_with("error: no picture"));
    let Some(folder) = data("faces/lfw10x10") else { return };
    let Some(face) = crate::harness::files_below(&folder)
        .into_iter()
        .find(|file| file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("jpg")))
    else {
        return;
    };
    old(four[3], &["picture", face.to_str().unwrap()]);
    let answer = old(four[3], &["face"]);
    let parts: Vec<&str> = answer.split(',').collect();
    assert_eq!(parts.len(), 7, "{answer}");
    // Without weights nobody estimates sex and age.
    assert_eq!(parts[..3], ["Unknown", "0", "0.00"], "{answer}");
    let numbers: Vec<u32> = parts[3..].iter().map(|part| part.parse().unwrap()).collect();
    assert!(numbers[0] > 20 && numbers[2] > 20, "width and height: {answer}");
}

#[test]
fn networks_estimate_sex_and_age_and_know_objects() {
    let (Some(weights), Some(folder)) = (data("weights"), data("faces/lfw10x10")) else { return };
    let models = tempfile::tempdir().unwrap();
    let pulled = Plan::new()
        .command(models.path())
        .env("MEERKAT__MODELS__DIR", models.path())
        .args(["models", "pull", "--from"])
        .arg(&weights)
        .args([
            "yunet-n",
            "face-reidentification-retail-0095",
            "age-gender-recognition-retail-0013",
            "yolox-nano",
        ])
        .output()
        .unwrap();
    assert!(pulled.status.success(), "{}", text(&pulled));
    let node = plan().set("models.dir", models.path().display()).start();
    let port = ports(&node)[0];
    let face = crate::harness::files_below(&folder)
        .into_iter()
        .find(|file| file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("jpg")))
        .unwrap();
    old(port, &["picture", face.to_str().unwrap()]);
    let answer = old(port, &["face"]);
    let parts: Vec<&str> = answer.split(',').collect();
    assert!(parts.len() == 7 && matches!(parts[0], "Male" | "Female"), "{answer}");
    assert!(parts[1].parse::<u32>().is_ok_and(|age| (10..=90).contains(&age)), "{answer}");
    assert_eq!(parts[2], "0.00", "nobody judges beauty without an account");
    let objects = old(port, &["objects"]);
    let parts: Vec<&str> = objects.split('!').collect();
    assert!(parts.len().is_multiple_of(2) && (2..=10).contains(&parts.len()), "{objects}");
    for score in parts.iter().skip(1).step_by(2) {
        let (_, decimals) = score.split_once('.').expect("a number");
        assert!(
            decimals.len() == 5 && score.parse::<f64>().is_ok_and(|s| (0.0..=1.0).contains(&s)),
            "{objects}"
        );
    }
}

#[test]
fn tables_are_analysed_and_shown() {
    let node = plan().start();
    let port = ports(&node)[0];
    let mut table = String::from("height,weight,city,note\n");
    for n in 0..400_u32 {
        let (height, weight) =
            (150 + n % 47, if n % 9 == 0 { String::new() } else { (40 + n * n % 61).to_string() });
        table.push_str(&format!("{height},{weight},城市{} 很大,a word and another {}\n", n % 5, n % 7));
    }
    let csv = file(&node, "table.csv", table.as_bytes());
    assert!(old(port, &["analyse"]).starts_with("error: "));
    old(port, &["csv", &csv]);
    assert_eq!(old(port, &["analyse"]), "OK");
    let out = path(&node, "chart.jpg");
    for kind in ["heat", "bars", "pie", "scatter"] {
        old(port, &["chart", kind, &out]);
        let bytes = std::fs::read(&out).unwrap();
        let probe = meerkat_vision::probe::probe(&bytes).unwrap();
        assert!(bytes.len() <= 60 << 10 && probe.width >= 200, "{kind}: {} bytes, {probe:?}", bytes.len());
    }
    let folder = node.data().join("clouds");
    std::fs::create_dir(&folder).unwrap();
    assert_eq!(old(port, &["clouds", folder.to_str().unwrap()]), "2", "one per column of text");
    let none = file(&node, "none.csv", b"\xff\xfe\x00\x00\x01 no table");
    old(port, &["csv", &none]);
    let answer = old(port, &["analyse"]);
    assert!(answer != "OK" && answer.starts_with("error: "), "{answer}");
    assert!(old(port, &["analyse"]).starts_with("error: "), "the charts of another file are not shown");
}

#[test]
fn garbage_and_slow_clients_do_no_harm_to_cameras() {
    let mut node = plan()
        .set("dialects.desk.stall_timeout_secs", 0.5)
        .set("dialects.desk.idle_timeout_secs", 0.5)
        .set("dialects.desk.max_connections_per_address", 16)
        .start();
    let four = ports(&node);
    let mut camera = node.camera("yard", 1);
    let mut held = Vec::new();
    for n in 0..40_u8 {
        let mut stream = raw(four[usize::from(n % 4)]);
        // The door may have turned it away; each port sees clients of every sort.
        let _ = match n / 4 % 4 {
            0 => stream.write_all(&vec![n; 5000]),
            1 => stream.write_all("加密文件转".as_bytes()),
            2 => stream.write_all("发送图片mode1000".as_bytes()),
            _ => Ok(()),
        };
        held.push(stream);
    }
    let picture = jpeg(320, 240, 1);
    for _ in 0..20 {
        let began = Instant::now();
        assert_eq!(camera.frame(&picture), b'1');
        assert!(began.elapsed() < Duration::from_secs(5), "the camera waits for nobody at the desk");
    }
    eventually("all are let go", PATIENCE, || {
        (node.metric("meerkat_sessions", &[("dialect", "desk")]) == 0.0).then_some(())
    });
    for reason in ["desk_unknown_command", "stall_timeout", "idle_timeout"] {
        assert!(node.metric("meerkat_protocol_errors_total", &[("reason", reason)]) >= 1.0, "{reason}");
    }
    assert_eq!(old(four[0], &["chat", "hi"]), "您好！", "the next one is served");
    drop(held);
    assert!(node.stop().success(), "{}", node.log());
}
