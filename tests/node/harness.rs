//! Starts the real program and talks to it as cameras, browsers, service managers and people do. Decides nothing about
//! what is right: that is in the tests.
#![allow(dead_code, reason = "every test file uses another part of it")]

mod backend;
mod camera;
mod http;
mod material;
mod stir;

/// Pictures in every container, right in structure only.
#[path = "../../src/wire/fixtures/pictures.rs"]
pub mod made;

pub use backend::Backend;
#[allow(unused_imports, reason = "not every set of tests asks how a connection ended")]
pub use camera::{Camera, Ended};
pub use http::{Metrics, Page};
pub use material::*;
pub use stir::stir;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use meerkat_store::{EventQuery, EventRow, StoreReader};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything takes that works, even on a machine with other work to do.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often [`eventually`] looks.
const LOOK: Duration = Duration::from_millis(20);
/// What a node is given to end by itself when a test is over.
const LAST_WORDS: Duration = Duration::from_secs(15);

/// Asks again and again until there is an answer. Panics, saying what was waited for, when there is none in time.
#[track_caller]
pub fn eventually<R>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<R>) -> R {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        std::thread::sleep(LOOK);
    }
}

/// What a node is started with.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    settings: BTreeMap<String, String>,
    file: Option<String>,
    faults: bool,
}

impl Plan {
    /// A node with free ports and a folder of its own.
    pub fn new() -> Self {
        let plan = Self::default();
        plan.set("frame.listen", "127.0.0.1:0")
            .set("http.listen", "127.0.0.1:0")
            .set("log.format", "json")
            // A test must not depend on how full the disk of the tester is.
            .set("storage.free_floor_bytes", 1_000_000)
            .set("storage.ballast_bytes", 0)
    }

    /// Sets a key, such as `clip.pre_roll_secs`, by way of the environment (which goes before the file).
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.settings.insert(key.to_owned(), value.to_string());
        self
    }

    /// Gives the node a configuration file.
    pub fn file(mut self, toml: &str) -> Self {
        self.file = Some(toml.to_owned());
        self
    }

    /// Every stirring in front of a camera is an event of its own, over soon.
    pub fn with_quick_motion(self) -> Self {
        self.set("events.motion.end_secs", 0.4).set("events.motion.cooldown_secs", 0)
    }

    /// Lets the node take orders for faults, see [`Node::order`].
    pub fn with_faults(mut self) -> Self {
        self.faults = true;
        self
    }

    /// Starts the node and waits until it can be reached.
    #[track_caller]
    pub fn start(self) -> Node {
        let folder = tempfile::Builder::new().prefix("meerkat-node-").tempdir().unwrap();
        Node::start(self, folder)
    }

    /// Starts the node where other things have been put into its data folder, `<folder>/data`, before.
    #[track_caller]
    pub fn start_in(self, folder: TempDir) -> Node {
        Node::start(self, folder)
    }

    /// The program with these settings and nothing of the tester's own environment that could matter.
    pub fn command(&self, folder: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meerkat"));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("MEERKAT") || name == "NOTIFY_SOCKET" || name == "WATCHDOG_USEC" {
                command.env_remove(name);
            }
        }
        command.current_dir(folder).env("MEERKAT__DATA_DIR", folder.join("data"));
        for (key, value) in &self.settings {
            command.env(format!("MEERKAT__{}", key.replace('.', "__").to_uppercase()), value);
        }
        command
    }
}

/// What the node wrote to its standard error output.
#[derive(Debug, Default)]
struct Log {
    lines: Mutex<(Vec<String>, bool)>,
    grown: Condvar,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, (Vec<String>, bool)> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running node. Ends with the test, also when that fails; its log is then shown.
pub struct Node {
    plan: Plan,
    folder: TempDir,
    child: Child,
    orders: Option<ChildStdin>,
    /// How many orders this process was given.
    ordered: usize,
    log: Arc<Log>,
    reading: Option<JoinHandle<()>>,
    frame: SocketAddr,
    http: SocketAddr,
    ended: Option<ExitStatus>,
}

impl Node {
    #[track_caller]
    fn start(plan: Plan, folder: TempDir) -> Self {
        let (child, orders, log, reading) = spawn(&plan, folder.path());
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut node = Self {
            plan,
            folder,
            child,
            orders,
            ordered: 0,
            log,
            reading: Some(reading),
            frame: nowhere,
            http: nowhere,
            ended: None,
        };
        node.find_addresses();
        node
    }

    #[track_caller]
    fn find_addresses(&mut self) {
        self.frame = self.logged_address("cameras can connect");
        self.http = self.logged_address("page, status and metrics");
    }

    #[track_caller]
    fn logged_address(&self, message: &str) -> SocketAddr {
        let entry = self.wait_for_log(message);
        entry["address"].as_str().and_then(|text| text.parse().ok()).expect("the log names an address")
    }

    /// The first log entry with exactly this message; waits for it. Panics when the node ends before.
    #[track_caller]
    pub fn wait_for_log(&self, message: &str) -> Value {
        self.wait_for_logs(message, 1).remove(0)
    }

    /// The first `count` log entries with exactly this message; waits for them.
    #[track_caller]
    pub fn wait_for_logs(&self, message: &str, count: usize) -> Vec<Value> {
        let end = Instant::now() + PATIENCE;
        let mut log = self.log.lock();
        loop {
            let found: Vec<Value> = log
                .0
                .iter()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .filter(|entry| entry["message"] == message)
                .take(count)
                .collect();
            if found.len() == count {
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(
                !log.1 && !left.is_zero(),
                "the node never says {message:?} {count} times; log:\n{}",
                log.0.join("\n")
            );
            log = self.log.grown.wait_timeout(log, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Everything the node has written so far.
    pub fn log(&self) -> String {
        self.log.lock().0.join("\n")
    }

    /// Where cameras connect.
    pub fn frame_address(&self) -> SocketAddr {
        self.frame
    }

    /// Where browsers connect.
    pub fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A connection that has said nothing yet.
    #[track_caller]
    pub fn connect(&self) -> Camera {
        Camera::connect(self.frame)
    }

    /// A camera with this id (no token) in this mode.
    #[track_caller]
    pub fn camera(&self, id: &str, mode: u8) -> Camera {
        let mut camera = self.connect();
        assert_eq!(camera.hello(id, None), b'1', "hello of {id}");
        assert_eq!(camera.mode(mode), b'1', "mode {mode} of {id}");
        camera
    }

    /// Reads a page.
    #[track_caller]
    pub fn get(&self, path: &str) -> Page {
        http::request(self.http, "GET", path).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// Posts without a body.
    #[track_caller]
    pub fn post(&self, path: &str) -> Page {
        http::request(self.http, "POST", path).unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// All metrics as they are now.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        let page = self.get("/metrics");
        assert_eq!(page.status, 200, "/metrics");
        Metrics::parse(&page.text())
    }

    /// The sum of all series of this name that have these labels; 0 where there is none.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.metrics().sum(name, labels)
    }

    /// `/api/v1/status`.
    #[track_caller]
    pub fn status(&self) -> Value {
        let page = self.get("/api/v1/status");
        assert_eq!(page.status, 200, "/api/v1/status: {}", page.text());
        serde_json::from_slice(&page.body).unwrap()
    }

    /// What the status says of one camera; null where it is not known.
    #[track_caller]
    pub fn camera_status(&self, id: &str) -> Value {
        let status = self.status();
        let cameras = status["cameras"].as_array().expect("cameras are a list");
        cameras.iter().find(|camera| camera["id"] == id).cloned().unwrap_or(Value::Null)
    }

    /// The node's database, for reading.
    #[track_caller]
    pub fn store(&self) -> StoreReader {
        StoreReader::open(&self.data()).unwrap()
    }

    /// The rows of all events that a camera showed, oldest first.
    #[track_caller]
    pub fn events(&self, camera: &str) -> Vec<EventRow> {
        let mut rows = self.all_events(camera);
        rows.retain(|row| !row.kind.is_notice());
        rows
    }

    /// The rows of what was noticed about a camera, such as its silence, oldest first.
    #[track_caller]
    pub fn notices(&self, camera: &str) -> Vec<EventRow> {
        let mut rows = self.all_events(camera);
        rows.retain(|row| row.kind.is_notice());
        rows
    }

    #[track_caller]
    fn all_events(&self, camera: &str) -> Vec<EventRow> {
        let camera = Some(meerkat_base::CameraId::from_shown(camera).unwrap());
        let query = EventQuery { limit: 500, camera, ..EventQuery::default() };
        let mut rows = self.store().recent_events(&query).unwrap();
        rows.reverse();
        rows
    }

    /// Orders a fault, `<kind> <camera or -> <panic|error|hang> <times>`, or `release`, and waits until the node has
    /// taken it: what is sent afterwards meets the fault. Needs [`Plan::with_faults`].
    #[track_caller]
    pub fn order(&mut self, order: &str) {
        let orders = self.orders.as_mut().expect("the plan is with faults");
        writeln!(orders, "{order}").unwrap();
        orders.flush().unwrap();
        self.ordered += 1;
        self.wait_for_logs("order taken", self.ordered);
    }

    /// Replaces the configuration file of the next start or reload.
    pub fn write_file(&mut self, toml: &str) {
        std::fs::write(self.folder.path().join("node.toml"), toml).unwrap();
        self.plan.file = Some(toml.to_owned());
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    /// Whether it is running still.
    pub fn is_running(&mut self) -> bool {
        self.look_for_end().is_none()
    }

    fn look_for_end(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap();
        }
        self.ended
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn wait_for_end(&mut self, limit: Duration) -> ExitStatus {
        let status = eventually("the node ends", limit, || self.look_for_end());
        if let Some(reading) = self.reading.take() {
            let _ = reading.join();
        }
        status
    }

    /// SIGTERM, and waits for the end.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_for_end(PATIENCE)
    }

    /// SIGKILL: nothing is finished, nothing is flushed.
    #[track_caller]
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait_for_end(PATIENCE);
    }

    /// Starts the program again, after [`Node::stop`] or [`Node::kill`], with the same settings and data folder, on
    /// other ports.
    #[track_caller]
    pub fn restart(&mut self) {
        assert!(self.ended.is_some(), "a node that runs cannot be started");
        let (child, orders, log, reading) = spawn(&self.plan, self.folder.path());
        (self.child, self.orders, self.log, self.reading, self.ended) =
            (child, orders, log, Some(reading), None);
        self.ordered = 0;
        self.find_addresses();
    }
}

#[track_caller]
fn spawn(plan: &Plan, folder: &Path) -> (Child, Option<ChildStdin>, Arc<Log>, JoinHandle<()>) {
    let mut command = plan.command(folder);
    command.arg("run").stdout(Stdio::null()).stderr(Stdio::piped());
    if let Some(toml) = &plan.file {
        let path = folder.join("node.toml");
        std::fs::write(&path, toml).unwrap();
        command.arg("--config").arg(path);
    }
    if plan.faults {
        command.env("MEERKAT_FAULTS", "stdin").stdin(Stdio::piped());
    } else {
        command.stdin(Stdio::null());
    }
    let mut child = command.spawn().unwrap();
    let (orders, stderr) = (child.stdin.take(), child.stderr.take().unwrap());
    let log = Arc::new(Log::default());
    let own = Arc::clone(&log);
    let reading = std::thread::spawn(move || {
        for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
            own.lock().0.push(String::from_utf8_lossy(&line).into_owned());
            own.grown.notify_all();
        }
        own.lock().1 = true;
        own.grown.notify_all();
    });
    (child, orders, log, reading)
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // `release` frees threads that hang by order; a closed input cannot.
            if let Some(orders) = self.orders.as_mut() {
                let _ = writeln!(orders, "release").and_then(|()| orders.flush());
            }
            let pid = Pid::from_child(&self.child);
            let _ = kill_process(pid, Signal::TERM);
            let end = Instant::now() + LAST_WORDS;
            while Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
                std::thread::sleep(LOOK);
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            let mut shown = String::new();
            let log = self.log.lock();
            for line in log.0.iter().rev().take(60).rev() {
                let _ = writeln!(shown, "  {line}");
            }
            eprintln!("the last words of the node:\n{shown}");
        }
    }
}
