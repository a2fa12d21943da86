//! A real Prometheus scrapes a real node under load: every query of the dashboard and every rule is answered, and the
//! alert about a silent camera fires.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use meerkat_base::metric::{ALL, Kind};
use meerkat_notify::testing::MockServer;
use serde_json::Value;
use tempfile::TempDir;

use crate::drawn::{DrawnCamera, is_installed};
use crate::harness::{Node, PATIENCE, Plan, eventually};

const SECRET: &str = "a-secret-of-the-test";

fn repository(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The text with every occurrence replaced; there must be one.
#[track_caller]
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from} is not in the file any more");
    text.replace(from, to)
}

/// A running Prometheus.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Prometheus {
    /// With the configuration and the rules of the repository, only faster.
    fn start(node: &Node) -> Self {
        let folder = tempfile::Builder::new().prefix("meerkat-prometheus-").tempdir().unwrap();
        let config = repository("config/prometheus/prometheus.yml");
        let config = replaced(&config, "127.0.0.1:8080", &node.http_address().to_string());
        let config = replaced(&config, "scrape_interval: 10s", "scrape_interval: 500ms");
        let config = replaced(&config, "evaluation_interval: 10s", "evaluation_interval: 500ms");
        std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        let rules = repository("config/prometheus/alerts.yml");
        let faster = |line: &str| match line.split_once("for: ") {
            Some((before, _)) => format!("{before}for: 2s\n"),
            None => format!("{line}\n"),
        };
        std::fs::write(folder.path().join("alerts.yml"), rules.lines().map(faster).collect::<String>())
            .unwrap();
        let mut child = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("series").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut said = Vec::new();
        let address = loop {
            let Some(line) = lines.next() else {
                let _ = child.wait();
                panic!("Prometheus did not start:\n{}", said.join("\n"));
            };
            if let Some((_, address)) = line.split_once("msg=\"Listening on\" address=") {
                break address.trim().parse().unwrap();
            }
            said.push(line);
        };
        // Nobody must make it wait for room in the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let prometheus = Self { child, address, _folder: folder };
        eventually("Prometheus is ready", PATIENCE, || prometheus.ask("/api/v1/rules").ok());
        // It looks for targets five seconds after its start; an increase before the first scrape is none to it.
        eventually("Prometheus has scraped", PATIENCE, || {
            (!prometheus.query("meerkat_build_info").is_empty()).then_some(())
        });
        prometheus
    }

    /// Asks its HTTP interface; the `data` of the answer, or what is wrong with the question.
    fn ask(&self, path: &str) -> Result<Value, String> {
        let mut stream = TcpStream::connect(self.address).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        let mut answer: Value =
            serde_json::from_str(body).map_err(|error| format!("{path}: {error}: {body}"))?;
        if answer["status"] == "success" { Ok(answer["data"].take()) } else { Err(answer.to_string()) }
    }

    /// What an expression gives now.
    #[track_caller]
    fn query(&self, expression: &str) -> Vec<Value> {
        let path = format!("/api/v1/query?query={}", encoded(expression));
        let data = self.ask(&path).unwrap_or_else(|error| panic!("{expression}: {error}"));
        data["result"].as_array().cloned().unwrap_or_default()
    }

    /// The state of an alert about a camera: nothing, `pending` or `firing`.
    fn alert(&self, name: &str, camera: &str) -> Option<String> {
        let alerts = self.ask("/api/v1/alerts").unwrap();
        let found = alerts["alerts"]
            .as_array()?
            .iter()
            .find(|alert| alert["labels"]["alertname"] == name && alert["labels"]["camera"] == camera)?;
        found["state"].as_str().map(str::to_owned)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

fn number(sample: &Value) -> f64 {
    sample["value"][1].as_str().and_then(|text| text.parse().ok()).expect("a sample has a number")
}

/// The queries of the dashboard, with its variables as Grafana would fill them in.
fn dashboard() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&repository("config/grafana/meerkat.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    targets
        .map(|target| {
            let query = target["expr"].as_str().unwrap().replace("$__rate_interval", "10s");
            let query = query.replace("$camera", ".*");
            assert!(!query.contains('$'), "a variable that this test does not know: {query}");
            query
        })
        .collect()
}

/// An alert's expression without its thresholds: what they are compared with must be there at any time.
fn without_thresholds(expression: &str) -> String {
    let words: Vec<&str> = expression.split_whitespace().collect();
    let mut kept = Vec::new();
    let mut rest = words.as_slice();
    while let Some((word, after)) = rest.split_first() {
        let is_threshold = [">", "<", "==", ">=", "<=", "!="].contains(word)
            && after.first().is_some_and(|next| next.trim_matches(')').parse::<f64>().is_ok());
        if is_threshold {
            // A bracket behind the number belongs to what stands before it.
            kept.extend(after.first().map(|next| &next[next.trim_end_matches(')').len()..]));
            rest = after.get(1..).unwrap_or_default();
        } else {
            kept.push(word);
            rest = after;
        }
    }
    kept.retain(|word| !word.is_empty());
    kept.join(" ")
}

#[test]
fn thresholds_are_taken_out() {
    for (expression, expected) in [
        ("up{job=\"meerkat\"} == 0", "up{job=\"meerkat\"}"),
        ("sum(a) / sum(b) > 0.05", "sum(a) / sum(b)"),
        ("a > 20 and deriv(a[15m]) > 0", "a and deriv(a[15m])"),
        ("b{c!=\"d\"} < 2e9", "b{c!=\"d\"}"),
        ("(a > 1) or b", "(a ) or b"),
    ] {
        assert_eq!(without_thresholds(expression), expected);
    }
}

/// What must be more than nothing under the load of the test.
const POSITIVE: &[&str] = &[
    "sum(meerkat_camera_up{camera=~\".*\"})",
    "sum(rate(meerkat_frames_total{camera=~\".*\",stage=\"received\",result=\"ok\"}[10s]))",
    "sum by (camera) (rate(meerkat_frame_bytes_total{camera=~\".*\"}[10s]))",
    "histogram_quantile(0.99, sum by (le) (rate(meerkat_stage_duration_seconds_bucket{stage=\"received\"}[10s])))",
    "sum by (model, device) (rate(meerkat_inference_duration_seconds_count[10s]))",
    "sum by (camera, kind) (increase(meerkat_events_total{camera=~\".*\"}[10m]))",
    "sum by (result) (increase(meerkat_clips_total[10m]))",
    "sum by (channel, result) (increase(meerkat_notifications_total[10m]))",
    "min by (actor) (meerkat_actor_up)",
    "sum by (dialect) (meerkat_sessions)",
    "sum(meerkat_ring_bytes)",
    "sum by (kind) (meerkat_storage_used_bytes)",
    "time() - (meerkat_storage_oldest_timestamp_seconds{camera=~\".*\"} > 0)",
    "meerkat_build_info",
    "meerkat_model_info == 1",
];

fn plan(hook: &MockServer) -> Plan {
    Plan::new()
        .set("cameras.door.silent_after_secs", 1)
        .set("cameras.yard.name", "Yard")
        .set("cameras.gate.name", "Gate")
        .set("clip.pre_roll_secs", 1)
        .set("clip.post_roll_secs", 1)
        .set("clip.max_secs", 3)
        .set("notify.channels.hook.type", "webhook")
        .set("notify.channels.hook.url", hook.base())
        .set("notify.channels.hook.secret", SECRET)
}

#[test]
fn every_metric_is_there_from_the_start_and_well_formed() {
    let hook = MockServer::webhook(SECRET).unwrap();
    let node = plan(&hook).start();
    // Three of the gauges are set by those who look now and then, within a second or two.
    let text = eventually("every metric is exported", Duration::from_secs(10), || {
        let text = node.get("/metrics").text();
        let names: BTreeSet<&str> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split(['{', ' ']).next())
            .collect();
        let missing: Vec<String> = ALL
            .iter()
            .map(|metric| match metric.kind {
                Kind::Histogram => format!("{}_count", metric.name),
                Kind::Counter | Kind::Gauge => metric.name.to_owned(),
            })
            .filter(|name| !names.contains(name.as_str()))
            .collect();
        if !missing.is_empty() {
            eprintln!("not exported yet: {missing:?}");
        }
        missing.is_empty().then_some(text)
    });
    for metric in ALL {
        assert!(text.contains(&format!("# HELP {} {}", metric.name, metric.help)), "{}", metric.name);
    }
    if !is_installed("promtool") {
        return;
    }
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn prometheus_answers_every_query_and_tells_of_a_silent_camera() {
    if !is_installed("prometheus") {
        return;
    }
    let hook = MockServer::webhook(SECRET).unwrap();
    let node = plan(&hook).start();
    let prometheus = Prometheus::start(&node);
    let door = DrawnCamera::start(&node, "door", 1);
    let _others = [DrawnCamera::start(&node, "yard", 3), DrawnCamera::start(&node, "gate", 4)];

    for query in POSITIVE {
        eventually(query, PATIENCE, || {
            prometheus.query(query).iter().any(|sample| number(sample) > 0.0).then_some(())
        });
    }
    let queries = dashboard();
    for query in POSITIVE {
        assert!(queries.iter().any(|own| own == query), "the dashboard does not ask {query}");
    }
    for query in &queries {
        assert!(!prometheus.query(query).is_empty(), "nothing for {query}");
    }

    let groups = prometheus.ask("/api/v1/rules").unwrap()["groups"].as_array().cloned().unwrap();
    let rules: Vec<Value> =
        groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap()).collect();
    assert_eq!(rules.len(), repository("config/prometheus/alerts.yml").matches("- alert:").count());
    for rule in &rules {
        let (name, expression) = (rule["name"].as_str().unwrap(), rule["query"].as_str().unwrap());
        prometheus.query(expression);
        let compared = without_thresholds(expression);
        assert_ne!(compared, expression, "{name} compares with nothing");
        assert!(!prometheus.query(&compared).is_empty(), "{name}: nothing for {compared}");
        eventually(&format!("{name} is evaluated"), PATIENCE, || {
            let groups = prometheus.ask("/api/v1/rules").unwrap();
            let groups = groups["groups"].as_array()?;
            let rules = groups.iter().flat_map(|group| group["rules"].as_array().into_iter().flatten());
            let rule = rules.into_iter().find(|rule| rule["name"] == name)?;
            assert_ne!(rule["health"], "err", "{name}: {}", rule["lastError"]);
            (rule["health"] == "ok").then_some(())
        });
    }

    for camera in ["door", "yard", "gate"] {
        assert_eq!(prometheus.alert("MeerkatCameraSilent", camera), None, "{camera} sends");
    }
    door.stop();
    let mut seen = Vec::new();
    eventually("the silent camera is told of", PATIENCE, || {
        let state = prometheus.alert("MeerkatCameraSilent", "door")?;
        let is_firing = state == "firing";
        seen.push(state);
        is_firing.then_some(())
    });
    assert_eq!(seen.first().map(String::as_str), Some("pending"), "first it waits a while");
    assert_eq!(prometheus.alert("MeerkatCameraSilent", "yard"), None, "the others still send");
}
