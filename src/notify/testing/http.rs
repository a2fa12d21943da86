//! Just enough HTTP/1.1 for the mock servers: requests with a Content-Length, connections kept open.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};

const MAX_HEAD_BYTES: u64 = 64 * 1024;
const MAX_BODY_BYTES: u64 = 64 * 1024 * 1024;

/// One request, read to its end.
pub(super) struct Request {
    pub(super) method: String,
    /// Path and query as sent.
    pub(super) target: String,
    /// Names in lower case.
    pub(super) headers: HashMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The path without the query.
    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// A value of the query, decoded.
    pub(super) fn query(&self, name: &str) -> Option<String> {
        let query = self.target.split_once('?')?.1;
        let found = query.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name));
        found.map(|(_, value)| decode(value))
    }

    /// The body as JSON.
    pub(super) fn json(&self) -> Option<serde_json::Value> {
        let is_json = self.header("content-type").is_some_and(|kind| kind.starts_with("application/json"));
        serde_json::from_slice(&self.body).ok().filter(|_| is_json)
    }

    /// The parts of a form (RFC 7578).
    pub(super) fn form(&self) -> Option<Vec<Part>> {
        let boundary = self.header("content-type")?.strip_prefix("multipart/form-data; boundary=")?;
        let mark = format!("--{boundary}").into_bytes();
        let mut rest = self.body.strip_prefix(&mark[..])?;
        let mut parts = Vec::new();
        loop {
            if rest == b"--\r\n" {
                return Some(parts);
            }
            rest = rest.strip_prefix(b"\r\n")?;
            let head_end = rest.windows(4).position(|window| window == b"\r\n\r\n")?;
            let head = std::str::from_utf8(rest.get(..head_end)?).ok()?;
            rest = rest.get(head_end + 4..)?;
            let end_mark = [b"\r\n", &mark[..]].concat();
            let end = find(rest, &end_mark)?;
            let quoted = |key: &str| {
                let begin = format!("{key}=\"");
                Some(head.split_once(begin.as_str())?.1.split('"').next()?.to_owned())
            };
            parts.push(Part {
                name: quoted(" name")?,
                file_name: quoted("filename"),
                bytes: rest.get(..end)?.to_vec(),
            });
            rest = rest.get(end + end_mark.len()..)?;
        }
    }
}

/// One part of a form.
pub(super) struct Part {
    pub(super) name: String,
    pub(super) file_name: Option<String>,
    pub(super) bytes: Vec<u8>,
}

impl Part {
    /// The value of a part of that name, as text; empty where there is none.
    pub(super) fn text<'p>(parts: &'p [Part], name: &str) -> &'p str {
        let found = parts.iter().find(|part| part.name == name);
        found.and_then(|part| std::str::from_utf8(&part.bytes).ok()).unwrap_or_default()
    }

    /// The file of that name.
    pub(super) fn file<'p>(parts: &'p [Part], name: &str) -> Option<&'p Part> {
        parts.iter().find(|part| part.name == name && part.file_name.is_some())
    }
}

/// Where the needle begins; looks at first bytes first, for the hay is large.
fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(at) = hay.get(from..)?.iter().position(|byte| *byte == first) {
        if hay.get(from + at..)?.starts_with(needle) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// Undoes the encoding of `application/x-www-form-urlencoded`.
fn decode(value: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16)).unwrap_or(0);
                (digit() * 16 + digit()) as u8
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What is sent back.
pub(super) enum Answer {
    Whole { status: u16, headers: &'static str, body: String },
    Silence,
    Nothing,
    Half,
    Endless,
}

impl Answer {
    pub(super) fn status(status: u16, headers: &'static str, body: &str) -> Self {
        Self::Whole { status, headers, body: body.to_owned() }
    }

    /// JSON under a status.
    pub(super) fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::Whole { status, headers: "", body: body.to_string() }
    }

    pub(super) fn errcode(code: i64, message: &str) -> Self {
        let body = serde_json::json!({"errcode": code, "errmsg": message}).to_string();
        Self::Whole { status: 200, headers: "", body }
    }
}

/// Serves one connection until either side closes it.
pub(super) fn serve(stream: TcpStream, decide: impl Fn(&Request) -> Answer) {
    let Ok(reading) = stream.try_clone() else { return };
    let mut reader = BufReader::new(reading);
    while let Some(request) = read(&mut reader) {
        if !send(&stream, &mut reader, &decide(&request)) {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut head = reader.by_ref().take(MAX_HEAD_BYTES);
    let mut line = String::new();
    head.read_line(&mut line).ok()?;
    let mut words = line.split_ascii_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        if head.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length: u64 = headers.get("content-length").map_or(Some(0), |l| l.parse().ok())?;
    if length > MAX_BODY_BYTES {
        return None;
    }
    let mut body = Vec::new();
    reader.by_ref().take(length).read_to_end(&mut body).ok()?;
    (body.len() as u64 == length).then_some(Request { method, target, headers, body })
}

/// Whether the connection goes on.
fn send(mut stream: &TcpStream, reader: &mut BufReader<TcpStream>, answer: &Answer) -> bool {
    match answer {
        Answer::Whole { status, headers, body } => {
            let length = body.len();
            let text = format!(
                "HTTP/1.1 {status} Mock\r\ncontent-type: application/json\r\n{headers}content-length: {length}\r\n\r\n{body}"
            );
            stream.write_all(text.as_bytes()).is_ok()
        }
        Answer::Silence => {
            // Until the other side, or the end of the server, closes the connection.
            let _ = reader.read(&mut [0; 1]);
            false
        }
        Answer::Nothing => false,
        Answer::Half => {
            let _ = stream.write_all(b"HTTP/1.1 200 Mock\r\ncontent-length: 40\r\n\r\n{\"errcode\":0");
            false
        }
        Answer::Endless => {
            let part = [b' '; 4096];
            let head = b"HTTP/1.1 200 Mock\r\ncontent-length: 99999999999\r\n\r\n";
            if stream.write_all(head).is_ok() {
                while stream.write_all(&part).is_ok() {}
            }
            false
        }
    }
}
