//! Pulling from mirrors that cut, lie and send the wrong thing, and from folders.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use meerkat_models::weights::Manifest;
use sha2::{Digest, Sha256, Sha384};
use tempfile::TempDir;

use super::*;

/// What a mirror does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// What HTTP says, ranges included.
    Serve,
    /// The same, and half way through the body the connection ends.
    Cut,
    /// The whole file, whatever was asked.
    IgnoreRange,
    /// Other bytes of the same length, under the same tag.
    WrongBytes,
    /// Other bytes of the same length, under another tag.
    OtherVersion,
    /// A length one more than the file has, and one byte more.
    Longer,
    /// A length one less than the file has.
    Shorter,
    /// No length, and no end.
    Endless,
    /// 503.
    Busy,
    /// 404.
    Gone,
}

const ACTS: [Act; 10] = [
    Act::Serve,
    Act::Cut,
    Act::IgnoreRange,
    Act::WrongBytes,
    Act::OtherVersion,
    Act::Longer,
    Act::Shorter,
    Act::Endless,
    Act::Busy,
    Act::Gone,
];

/// Path and length of the files; the first two are one network.
const FILES: [(&str, usize); 3] =
    [("pair/pair.xml", 500), ("pair/pair.bin", 200_000), ("single/single.onnx", 30_000)];

fn content(path: &str) -> Vec<u8> {
    let size = FILES.iter().find(|(name, _)| *name == path).expect("a file of the manifest").1;
    path.bytes().cycle().enumerate().map(|(at, byte)| byte ^ (at / 5) as u8).take(size).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Networks `pair` and `single`, without official addresses.
fn manifest() -> &'static Manifest {
    let file = |path: &str| {
        let bytes = content(path);
        format!(
            r#"{{"path":"{path}","size_bytes":{},"sha256":"{}","sha384":"{}","address":null}}"#,
            bytes.len(),
            hex(&Sha256::digest(&bytes)),
            hex(&Sha384::digest(&bytes))
        )
    };
    let network = |name: &str, format: &str, files: &str| {
        format!(
            r#"{{"name":"{name}","purpose":"tests","license":"MIT","origin":"https://example.org","format":"{format}",
            "default":true,"files":[{files}]}}"#
        )
    };
    let pair = network("pair", "openvino", &format!("{},{}", file(FILES[0].0), file(FILES[1].0)));
    let single = network("single", "onnx", &file(FILES[2].0));
    // A folder wants a manifest that lives as long as the program, as the built-in one does.
    Box::leak(Box::new(Manifest::parse(&format!(r#"{{"networks":[{pair},{single}]}}"#)).unwrap()))
}

/// A mirror of all files. The n-th request is answered by the n-th act, further ones by the last.
struct Mirror {
    address: SocketAddr,
    /// Head of each request.
    requests: Arc<Mutex<Vec<String>>>,
}

impl Mirror {
    fn start(acts: &[Act]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (acts, seen) = (acts.to_vec(), requests.clone());
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = head(&mut stream) else { continue };
                let mut seen = seen.lock().unwrap();
                let act = acts[seen.len().min(acts.len() - 1)];
                seen.push(request.clone());
                drop(seen);
                // The other side may have had enough before the end.
                drop(answer(&mut stream, &request, act));
            }
        });
        Self { address, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn head(stream: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        request.push(byte[0]);
    }
    String::from_utf8(request).ok()
}

fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    request.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn answer(stream: &mut TcpStream, request: &str, act: Act) -> io::Result<()> {
    let path = request.split(' ').nth(1).unwrap().trim_start_matches("/models/");
    let mut bytes = content(path);
    let mut tag = "\"v1\"";
    match act {
        Act::WrongBytes => bytes.iter_mut().for_each(|byte| *byte = !*byte),
        Act::OtherVersion => {
            bytes.iter_mut().for_each(|byte| *byte = !*byte);
            tag = "\"v2\"";
        }
        Act::Longer => bytes.push(0),
        Act::Shorter => _ = bytes.pop(),
        Act::Busy => {
            return write!(stream, "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
        Act::Gone => {
            return write!(stream, "HTTP/1.1 404 Gone\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
        Act::Endless => {
            write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")?;
            loop {
                stream.write_all(&[7; 4096])?;
            }
        }
        Act::Serve | Act::Cut | Act::IgnoreRange => {}
    }
    let asked =
        header(request, "range").filter(|_| header(request, "if-range").is_none_or(|mark| mark == tag));
    let from = asked
        .filter(|_| act != Act::IgnoreRange)
        .map(|range| range.trim_start_matches("bytes=").trim_end_matches('-').parse::<usize>().unwrap());
    let (status, range) = match from {
        Some(from) => (206, format!("content-range: bytes {from}-{}/{}\r\n", bytes.len() - 1, bytes.len())),
        None => (200, String::new()),
    };
    let body = &bytes[from.unwrap_or(0).min(bytes.len())..];
    write!(
        stream,
        "HTTP/1.1 {status} OK\r\n{range}etag: {tag}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(if act == Act::Cut { &body[..body.len() / 2] } else { body })
}

/// A models folder of the test's own.
struct Place {
    temp: TempDir,
    folder: Folder,
}

impl Place {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::with_manifest(temp.path().join("models"), manifest());
        Self { temp, folder }
    }

    fn pull_with(
        &self,
        from: Option<&str>,
        names: &[&str],
        free_bytes: fn(&Path) -> anyhow::Result<u64>,
    ) -> (anyhow::Result<Report>, String) {
        let limits = DownloadLimits {
            silence: Duration::from_secs(5),
            fruitless_attempts: 2,
            backoff_min: Duration::from_millis(1),
            backoff_max: Duration::from_millis(1),
            ..DownloadLimits::default()
        };
        let source = Source::new(from, None, limits).unwrap();
        let chosen: Vec<_> = names.iter().map(|name| self.folder.manifest().get(name).unwrap()).collect();
        let folder = &self.folder;
        let mut pull = Pull { folder, source, free_bytes, bar: ProgressBar::hidden(), lines: String::new() };
        let outcome = pull.all(&chosen);
        (outcome, pull.lines)
    }

    fn pull(&self, from: &str, names: &[&str]) -> (anyhow::Result<Report>, String) {
        self.pull_with(Some(from), names, |_| Ok(1 << 30))
    }

    fn pull_from(&self, mirror: &Mirror, names: &[&str]) -> (anyhow::Result<Report>, String) {
        self.pull(&format!("http://{}/models/", mirror.address), names)
    }

    /// What stands under the final names; each file must be the right one.
    fn files(&self) -> Vec<&'static str> {
        let mut found = Vec::new();
        for (path, _) in FILES {
            if let Ok(bytes) = fs::read(self.folder.path().join(path)) {
                assert!(bytes == content(path), "{path} is wrong and stands under its final name");
                found.push(path);
            }
        }
        found
    }
}

/// The only problem of a report.
fn problem(outcome: anyhow::Result<Report>) -> String {
    let report = outcome.unwrap();
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    report.problems[0].clone()
}

/// Puts the files into a folder, as a mirror has them or side by side.
fn lay_out(folder: &Path, nested: bool) {
    for (path, _) in FILES {
        let path = if nested { folder.join(path) } else { folder.join(path.rsplit('/').next().unwrap()) };
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let original =
            FILES.iter().find(|(name, _)| path.ends_with(name.rsplit('/').next().unwrap())).unwrap();
        fs::write(&path, content(original.0)).unwrap();
    }
}

#[test]
fn a_mirror_is_pulled_once() {
    let (place, mirror) = (Place::new(), Mirror::start(&[Act::Serve]));
    let (outcome, lines) = place.pull_from(&mirror, &["pair", "single"]);
    assert!(outcome.unwrap().problems.is_empty());
    assert_eq!(lines, "pair: fetched\nsingle: fetched\n");
    assert_eq!(place.files().len(), 3);
    let (outcome, lines) = place.pull_from(&mirror, &["pair", "single"]);
    assert!(outcome.unwrap().problems.is_empty());
    assert_eq!(lines, "pair: already here\nsingle: already here\n");
    assert_eq!(mirror.requests().len(), 3, "nothing is fetched twice");
    assert!(place.folder.verify("pair").is_ok());
}

#[test]
fn after_a_cut_the_rest_is_asked_for() {
    let (place, mirror) = (Place::new(), Mirror::start(&[Act::Cut, Act::Serve]));
    let (outcome, _) = place.pull_from(&mirror, &["single"]);
    assert!(outcome.unwrap().problems.is_empty());
    assert_eq!(place.files(), ["single/single.onnx"]);
    let requests = mirror.requests();
    assert_eq!(header(&requests[0], "range"), None);
    assert_eq!(header(&requests[1], "range"), Some("bytes=15000-"));
    assert_eq!(header(&requests[1], "if-range"), Some("\"v1\""));
}

#[test]
fn the_next_run_goes_on_where_the_last_one_ended() {
    let place = Place::new();
    let (outcome, _) = place.pull_from(&Mirror::start(&[Act::Cut, Act::Gone]), &["single"]);
    assert!(problem(outcome).contains("404"));
    assert!(place.files().is_empty());
    let mirror = Mirror::start(&[Act::Serve]);
    let (outcome, _) = place.pull_from(&mirror, &["single"]);
    assert!(outcome.unwrap().problems.is_empty());
    assert_eq!(place.files(), ["single/single.onnx"]);
    let requests = mirror.requests();
    assert_eq!((requests.len(), header(&requests[0], "range")), (1, Some("bytes=15000-")));
    assert_eq!(header(&requests[0], "if-range"), Some("\"v1\""));
}

#[test]
fn a_leftover_of_something_else_does_not_stay_in_the_way() {
    let (place, mirror) = (Place::new(), Mirror::start(&[Act::Serve]));
    let part = place.folder.path().join("single/single.onnx.part");
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, [1; 9_000]).unwrap();
    let (outcome, _) = place.pull_from(&mirror, &["single"]);
    assert!(outcome.unwrap().problems.is_empty());
    assert_eq!(place.files(), ["single/single.onnx"]);
    let requests = mirror.requests();
    assert_eq!(header(&requests[0], "range"), Some("bytes=9000-"));
    assert_eq!((requests.len(), header(&requests[1], "range")), (2, None), "the whole file, once more");
}

#[test]
fn wrong_bytes_of_the_right_length_are_thrown_away() {
    let (place, mirror) = (Place::new(), Mirror::start(&[Act::WrongBytes]));
    let (outcome, lines) = place.pull_from(&mirror, &["single"]);
    let said = problem(outcome);
    assert!(said.starts_with("single: ") && said.contains("SHA-256"), "{said}");
    assert_eq!((lines.as_str(), mirror.requests().len()), ("", 1));
    let left: Vec<_> = fs::read_dir(place.folder.path().join("single")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn whatever_a_mirror_does_nothing_wrong_stands_under_a_final_name() {
    for first in ACTS {
        for second in ACTS {
            let (place, mirror) = (Place::new(), Mirror::start(&[first, second, Act::Serve]));
            let (outcome, _) = place.pull_from(&mirror, &["single"]);
            let failed = !outcome.unwrap().problems.is_empty();
            assert_eq!(place.files().is_empty(), failed, "{first:?} {second:?}");
            // Whatever was left behind, an honest mirror puts it right.
            let (outcome, _) = place.pull_from(&Mirror::start(&[Act::Serve]), &["single"]);
            assert!(outcome.unwrap().problems.is_empty(), "{first:?} {second:?}");
            assert_eq!(place.files(), ["single/single.onnx"]);
        }
    }
}

#[test]
fn a_problem_with_one_network_leaves_the_others() {
    let (place, mirror) = (Place::new(), Mirror::start(&[Act::Gone, Act::Serve]));
    let (outcome, lines) = place.pull_from(&mirror, &["pair", "single"]);
    assert!(problem(outcome).contains("404"));
    assert_eq!((lines.as_str(), place.files()), ("single: fetched\n", vec!["single/single.onnx"]));
}

#[test]
fn a_damaged_file_is_replaced() {
    let (place, mirror) = (Place::new(), Mirror::start(&[Act::Serve]));
    let (outcome, _) = place.pull_from(&mirror, &["pair"]);
    assert!(outcome.unwrap().problems.is_empty());
    let path = place.folder.path().join("pair/pair.xml");
    fs::write(&path, vec![0; 500]).unwrap();
    let (outcome, lines) = place.pull_from(&mirror, &["pair"]);
    assert!(outcome.unwrap().problems.is_empty());
    assert_eq!((lines.as_str(), place.files().len()), ("pair: fetched\n", 2));
    assert_eq!(mirror.requests().len(), 3, "only the damaged file");
}

#[test]
fn a_folder_is_a_source_however_its_files_lie() {
    use std::os::unix::fs::PermissionsExt;
    for nested in [true, false] {
        let place = Place::new();
        let from = place.temp.path().join("from");
        lay_out(&from, nested);
        fs::set_permissions(&from, fs::Permissions::from_mode(0o555)).unwrap();
        let (outcome, _) = place.pull(from.to_str().unwrap(), &["pair", "single"]);
        assert!(outcome.unwrap().problems.is_empty());
        assert_eq!(place.files().len(), 3);
        assert!(fs::read_dir(&from).unwrap().count() >= 2, "the source is left as it was");
        fs::set_permissions(&from, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn a_folder_with_the_wrong_files_gives_nothing() {
    let place = Place::new();
    let from = place.temp.path().join("from");
    fs::create_dir_all(&from).unwrap();
    let pull = || problem(place.pull(from.to_str().unwrap(), &["single"]).0);
    assert!(pull().contains("single.onnx"), "not there");
    let right = content("single/single.onnx");
    let mut wrong = right.clone();
    wrong[0] ^= 1;
    for (bytes, why) in [
        (wrong, "SHA-256"),
        ([right.clone(), vec![0; 1 << 20]].concat(), "bytes instead of 30000"),
        (right[1..].to_vec(), "29999 bytes instead of 30000"),
        (Vec::new(), "0 bytes instead of 30000"),
    ] {
        fs::write(from.join("single.onnx"), bytes).unwrap();
        let said = pull();
        assert!(said.contains(why), "{said}");
        assert!(place.files().is_empty());
    }
    fs::remove_file(from.join("single.onnx")).unwrap();
    fs::create_dir(from.join("single.onnx")).unwrap();
    assert!(pull().contains("no ordinary file"));
}

#[test]
fn without_an_address_a_file_must_be_brought() {
    let place = Place::new();
    let (outcome, lines) = place.pull_with(None, &["single"], |_| Ok(1 << 30));
    let report = outcome.unwrap();
    assert!(report.problems.is_empty() && lines.is_empty() && place.files().is_empty());
    assert_eq!(report.without_address[0].name, "single");
}

#[test]
fn without_room_nothing_is_begun() {
    let (place, mirror) = (Place::new(), Mirror::start(&[Act::Serve]));
    let from = format!("http://{}/models", mirror.address);
    let (outcome, _) = place.pull_with(Some(&from), &["pair"], |_| Ok(1_000));
    let said = outcome.map(drop).unwrap_err().to_string();
    assert!(said.contains("1000 are free"), "{said}");
    assert!(mirror.requests().is_empty());
}

#[test]
fn two_pulls_do_not_get_into_each_others_way() {
    let (place, mirror) = (Place::new(), Mirror::start(&[Act::Serve]));
    let lock = place.folder.lock().unwrap();
    let said = place.pull_from(&mirror, &["single"]).0.map(drop).unwrap_err().to_string();
    assert!(said.contains("another `meerkat models pull`"), "{said}");
    drop(lock);
    assert!(place.pull_from(&mirror, &["single"]).0.unwrap().problems.is_empty());
}

#[test]
fn without_a_connection_it_says_what_else_can_be_done() {
    let place = Place::new();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let said =
        place.pull(&format!("http://{nobody}/"), &["pair", "single"]).0.map(drop).unwrap_err().to_string();
    assert!(said.contains("could not connect to 127.0.0.1") && said.contains("mirror"), "{said}");
}

#[test]
fn what_is_no_source_is_a_wrong_argument() {
    for bad in ["/does/not/exist", "ftp://example.org/", "http://", ""] {
        let source = Source::new(Some(bad), None, DownloadLimits::default());
        assert!(matches!(source, Err(CliError::Usage(_))), "{bad}");
    }
}
