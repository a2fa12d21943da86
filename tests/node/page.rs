//! The page in a real browser: what it shows of a node with a camera, and that a clip plays.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::drawn::{DrawnCamera, is_installed};
use crate::harness::{PATIENCE, Plan, eventually};

/// A browser that shows one page, steered by the DevTools protocol: JSON in WebSocket frames (RFC 6455).
struct Browser {
    child: Child,
    socket: TcpStream,
    asked: u64,
    _profile: TempDir,
}

impl Browser {
    fn open(url: &str) -> Self {
        let profile = tempfile::Builder::new().prefix("meerkat-browser-").tempdir().unwrap();
        let mut child = Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--disable-dev-shm-usage", "--mute-audio", "--window-size=1200,2000"])
            .args(["--remote-debugging-port=0", "--lang=en"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(url)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let address: SocketAddr = lines
            .find_map(|line| {
                let (_, rest) = line.split_once("DevTools listening on ws://")?;
                rest.split('/').next()?.parse().ok()
            })
            .expect("the browser says where it listens");
        std::thread::spawn(move || lines.for_each(drop));
        let page = eventually("the browser has opened the page", PATIENCE, || {
            let targets = targets(address)?;
            let page = targets.as_array()?.iter().find(|target| target["type"] == "page")?.clone();
            (page["url"].as_str()?.starts_with("http")).then_some(page)
        });
        let path = page["webSocketDebuggerUrl"].as_str().unwrap();
        let (_, path) = path.split_once(&address.to_string()).unwrap();
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            socket,
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bWVlcmthdCBsb29rcyBvdQ==\r\n\r\n"
        )
        .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", head.escape_ascii());
        Self { child, socket, asked: 0, _profile: profile }
    }

    /// What an expression gives in the page; a promise is waited for.
    #[track_caller]
    fn evaluate(&mut self, expression: &str) -> Value {
        self.asked += 1;
        let order = json!({
            "id": self.asked,
            "method": "Runtime.evaluate",
            "params": { "expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true },
        });
        self.send(order.to_string().as_bytes());
        loop {
            let answer = self.receive();
            if answer["id"] == self.asked {
                assert!(answer["result"]["exceptionDetails"].is_null(), "{expression}: {answer}");
                return answer["result"]["result"]["value"].clone();
            }
        }
    }

    /// Asks until the expression is true.
    #[track_caller]
    fn until(&mut self, expression: &str) {
        eventually(expression, PATIENCE, || (self.evaluate(expression) == true).then_some(()));
    }

    /// One text frame. The mask of zeros is a mask too.
    fn send(&mut self, text: &[u8]) {
        let length = u16::try_from(text.len()).expect("orders are short");
        let mut frame = vec![0x81, 0x80 | 126];
        frame.extend(length.to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(text);
        self.socket.write_all(&frame).unwrap();
    }

    /// One message; the browser sends each in one frame.
    fn receive(&mut self) -> Value {
        loop {
            let mut head = [0; 2];
            self.socket.read_exact(&mut head).unwrap();
            let length = match head[1] & 0x7F {
                126 => {
                    let mut long = [0; 2];
                    self.socket.read_exact(&mut long).unwrap();
                    usize::from(u16::from_be_bytes(long))
                }
                127 => {
                    let mut long = [0; 8];
                    self.socket.read_exact(&mut long).unwrap();
                    usize::try_from(u64::from_be_bytes(long)).unwrap()
                }
                short => usize::from(short),
            };
            assert!(length < 16 << 20, "nothing that is asked has such an answer");
            let mut payload = vec![0; length];
            self.socket.read_exact(&mut payload).unwrap();
            if head[0] == 0x81 {
                return serde_json::from_slice(&payload).unwrap();
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn targets(address: SocketAddr) -> Option<Value> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET /json/list HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    // Its server keeps the connection open whatever it is asked: read as far as the length says.
    loop {
        let read = stream.read(&mut piece).ok()?;
        answer.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((_, body)) = text.split_once("\r\n\r\n")
            && let Ok(targets) = serde_json::from_str(body)
        {
            return Some(targets);
        }
        if read == 0 {
            return None;
        }
    }
}

#[test]
fn the_page_shows_cameras_events_clips_and_actors() {
    if !is_installed("chromium") {
        return;
    }
    let node = Plan::new()
        .set("cameras.gate.name", "Gate")
        .set("clip.pre_roll_secs", 1)
        .set("clip.post_roll_secs", 1)
        .set("clip.max_secs", 3)
        .start();
    let camera = DrawnCamera::start(&node, "gate", 4);
    let mut browser = Browser::open(&format!("http://{}/", node.http_address()));
    // The page puts a picture there only when the browser has decoded it.
    browser.until("document.querySelector('.camera .name')?.textContent === 'gatelive'");
    browser.until("document.querySelector('.camera .view img')?.naturalWidth === 640");
    browser.until("document.querySelector('#cameras-count').textContent === '1 of 1 live'");
    browser.until("/^All \\d+ actors running$/.test(document.querySelector('#actors-summary').textContent)");
    assert_eq!(browser.evaluate("document.querySelector('#state').textContent"), "running");
    assert_eq!(browser.evaluate("document.title"), "Meerkat");
    browser.evaluate("document.querySelector('#actors-all').click()");
    for actor in ["decoder", "motion", "recorder", "person", "face", "archivist", "notifier"] {
        browser.until(&format!(
            "[...document.querySelectorAll('#actors tbody tr')].some(row => row.cells[0].textContent === '{actor}' \
             && row.cells[2].textContent === 'running')"
        ));
    }
    // New pictures come by themselves.
    browser.evaluate("window.first = document.querySelector('.camera .view img').src");
    browser.until("document.querySelector('.camera .view img').src !== window.first");

    // Kept, because a later visit comes to stand above it.
    browser.until(
        "(window.person = [...document.querySelectorAll('.event')]\
         .find(row => row.querySelector('b').textContent === 'Person')) !== undefined",
    );
    browser.until("person.querySelector('.thumb img')?.naturalWidth > 0");
    browser.until("!person.querySelector('button').hidden");
    browser.evaluate("person.querySelector('button').click()");
    browser.until("person.querySelector('video')?.currentTime > 0.2");
    assert_eq!(browser.evaluate("person.querySelector('video').videoWidth"), 640);
    assert_eq!(browser.evaluate("person.querySelector('video').videoHeight"), 480);
    // What the browser makes of the file is what the database says of it.
    let clip = node
        .events("gate")
        .into_iter()
        .find(|event| event.kind == meerkat_base::EventKind::Person && !event.clips.is_empty())
        .map(|event| event.clips[0].clone())
        .unwrap();
    let shown = browser.evaluate("person.querySelector('video').duration").as_f64().unwrap();
    assert!((shown - clip.duration.as_secs_f64()).abs() < 0.1, "{shown} s shown, {clip:?}");
    // The strip of small pictures under it.
    browser.until("person.querySelector('img.strip')?.naturalHeight === 90");
    assert_eq!(browser.evaluate("person.querySelector('video').error"), Value::Null);

    // A camera that goes is said to be gone; the page heeds its own rules about where things come from.
    camera.stop();
    browser.until("document.querySelector('.camera .name').textContent === 'gatenot connected'");
    let foreign = format!(
        "new Promise(done => {{ document.addEventListener('securitypolicyviolation', e => done(e.effectiveDirective)); \
         fetch('http://localhost:{}/').then(() => done('fetched'), () => 0) }})",
        node.http_address().port()
    );
    assert_eq!(browser.evaluate(&foreign), "connect-src");
    drop(node);
    browser.until("document.querySelector('#state').textContent === 'no answer'");
}
