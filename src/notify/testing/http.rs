//! Just enough HTTP/1.1 for the mock servers: requests with a Content-Length, connections kept open.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};

const MAX_HEAD_BYTES: u64 = 64 * 1024;
const MAX_BODY_BYTES: u64 = 8 * 1024 * 1024;

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
