//! A mail server that enforces what mail servers enforce (RFC 5321, 3207, 4954, 5322): the order of commands, TLS before
//! the password, the form and size of letters. It delivers to nobody; what it accepted can be read from it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::Missed;

/// Longest line with its end (RFC 5321 section 4.5.3.1.6).
const MAX_LINE_BYTES: usize = 1_000;

/// What the server is like.
#[derive(Debug, Clone, Default)]
pub struct MailRules {
    /// Where it listens; none: 127.0.0.1, for which its certificate is.
    pub address: Option<Ipv4Addr>,
    /// When TLS begins.
    pub tls: MailTls,
    /// User and password without which nothing is accepted; letters must come from the user's address.
    pub login: Option<(String, String)>,
    /// Larger letters are refused, bytes; 0: 10 MB.
    pub max_bytes: usize,
    /// Recipients that do not exist.
    pub unknown: Vec<String>,
    /// Recipients that are put off at their first letter.
    pub greylisted: Vec<String>,
}

/// When TLS begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MailTls {
    /// Never: it is not offered.
    #[default]
    None,
    /// After STARTTLS, which is wanted before anything else.
    StartTls,
    /// With the first byte.
    AtOnce,
}

/// What goes wrong with one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailFault {
    /// This command (`EHLO`, `MAIL`, `RCPT`, `DATA`; `END` for the end of the letter) is answered so.
    Answer(&'static str, &'static str),
    /// The letter is accepted and the connection closed without a word.
    CutAfterLetter,
    /// The connection is closed instead of a greeting.
    Refuse,
}

/// A letter that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailReceived {
    /// The sender of the envelope.
    pub from: String,
    /// The recipients of the envelope that were accepted.
    pub to: Vec<String>,
    /// The letter itself, without the dots that the transfer adds.
    pub letter: Vec<u8>,
    /// Whether it came through TLS.
    pub encrypted: bool,
}

impl MailReceived {
    /// The value of a header that stands in one line, such as `Message-ID`.
    pub fn header(&self, name: &str) -> Option<String> {
        let text = String::from_utf8_lossy(&self.letter).into_owned();
        let head = text.split("\r\n\r\n").next()?.replace("\r\n ", " ");
        let wanted = format!("{}: ", name.to_ascii_lowercase());
        let found = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&wanted))?;
        Some(found[wanted.len()..].trim().to_owned())
    }
}

struct State {
    received: Vec<MailReceived>,
    complaints: Vec<String>,
    script: VecDeque<MailFault>,
    put_off: HashSet<String>,
    connections: usize,
    open: HashMap<usize, TcpStream>,
    stopping: bool,
}

struct Shared {
    rules: MailRules,
    config: Arc<ServerConfig>,
    state: Mutex<State>,
    arrived: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running mail server on a free port of the loopback. Ends when it is dropped.
pub struct MailServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    accepting: Option<JoinHandle<()>>,
}

impl MailServer {
    /// Starts one.
    pub fn start(rules: MailRules) -> io::Result<Self> {
        let listener = TcpListener::bind((rules.address.unwrap_or(Ipv4Addr::LOCALHOST), 0))?;
        let address = listener.local_addr()?;
        let state = State {
            received: Vec::new(),
            complaints: Vec::new(),
            script: VecDeque::new(),
            put_off: HashSet::new(),
            connections: 0,
            open: HashMap::new(),
            stopping: false,
        };
        let config = super::tls::server_config();
        let shared = Arc::new(Shared { rules, config, state: Mutex::new(state), arrived: Condvar::new() });
        let accepting = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Ok(Self { shared, address, accepting: Some(accepting) })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Appends faults; each connection takes one, and fares well when none is left.
    pub fn script(&self, faults: impl IntoIterator<Item = MailFault>) {
        self.shared.lock().script.extend(faults);
    }

    /// What was accepted so far.
    pub fn received(&self) -> Vec<MailReceived> {
        self.shared.lock().received.clone()
    }

    /// What was refused by the server's own rules, in order.
    pub fn complaints(&self) -> Vec<String> {
        self.shared.lock().complaints.clone()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.shared.lock().connections
    }

    /// Waits, blocking this thread, until `wanted` letters have been accepted in all.
    pub fn wait_for(&self, wanted: usize, timeout: Duration) -> Result<Vec<MailReceived>, Missed> {
        let end = Instant::now() + timeout;
        let mut state = self.shared.lock();
        while state.received.len() < wanted {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Missed { wanted, got: state.received.len() });
            }
            state = self.shared.arrived.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(state.received.clone())
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.stopping = true;
            for (_, stream) in state.open.drain() {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.accepting.take() {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut sessions: Vec<JoinHandle<()>> = Vec::new();
    for (number, stream) in listener.incoming().enumerate() {
        let Ok(stream) = stream else { break };
        let Ok(second) = stream.try_clone() else { break };
        let fault = {
            let mut state = shared.lock();
            if state.stopping {
                break;
            }
            state.connections += 1;
            state.open.insert(number, second);
            state.script.pop_front()
        };
        sessions.retain(|session| !session.is_finished());
        sessions.push(std::thread::spawn({
            let shared = Arc::clone(shared);
            move || {
                if fault != Some(MailFault::Refuse) {
                    let _ = Session::new(stream, &shared, fault).and_then(|session| session.run());
                }
                if let Some(stream) = shared.lock().open.remove(&number) {
                    let _ = stream.shutdown(Shutdown::Both);
                }
            }
        }));
    }
    for session in sessions {
        let _ = session.join();
    }
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
    Gone,
}

impl Wire {
    fn encrypt(self, config: &Arc<ServerConfig>) -> io::Result<Self> {
        match self {
            Wire::Plain(stream) => {
                let connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
                Ok(Wire::Tls(Box::new(StreamOwned::new(connection, stream))))
            }
            other => Ok(other),
        }
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(stream) => stream.read(into),
            Wire::Tls(stream) => stream.read(into),
            Wire::Gone => Ok(0),
        }
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        match self {
            Wire::Plain(stream) => stream.write_all(text.as_bytes()),
            Wire::Tls(stream) => stream.write_all(text.as_bytes()).and_then(|()| stream.flush()),
            Wire::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

struct Session<'s> {
    shared: &'s Shared,
    wire: Wire,
    buffer: Vec<u8>,
    fault: Option<MailFault>,
    greeted: bool,
    encrypted: bool,
    logged_in: bool,
    from: Option<String>,
    to: Vec<String>,
}

impl<'s> Session<'s> {
    fn new(stream: TcpStream, shared: &'s Shared, fault: Option<MailFault>) -> io::Result<Self> {
        let at_once = shared.rules.tls == MailTls::AtOnce;
        let wire = Wire::Plain(stream);
        let wire = if at_once { wire.encrypt(&shared.config)? } else { wire };
        Ok(Self {
            shared,
            wire,
            buffer: Vec::new(),
            fault,
            greeted: false,
            encrypted: at_once,
            logged_in: false,
            from: None,
            to: Vec::new(),
        })
    }

    fn run(mut self) -> io::Result<()> {
        self.wire.write("220 mock.test ESMTP\r\n")?;
        while let Some(line) = self.line()? {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            if let Some(MailFault::Answer(at, answer)) = self.fault
                && at == verb
            {
                self.fault = None;
                self.wire.write(&format!("{answer}\r\n"))?;
                continue;
            }
            let answer = match verb.as_str() {
                "EHLO" => self.ehlo(&line),
                "STARTTLS" if self.shared.rules.tls == MailTls::StartTls && !self.encrypted => {
                    self.wire.write("220 2.0.0 go ahead\r\n")?;
                    self.start_tls()?;
                    continue;
                }
                "AUTH" => self.auth(&line),
                "MAIL" => self.mail(&line),
                "RCPT" => self.rcpt(&line),
                "DATA" => {
                    if self.to.is_empty() {
                        self.complain("503 5.5.1 no recipients")
                    } else {
                        self.wire.write("354 end with a dot\r\n")?;
                        let Some(answer) = self.letter()? else { return Ok(()) };
                        answer
                    }
                }
                "QUIT" => {
                    self.wire.write("221 2.0.0 bye\r\n")?;
                    return Ok(());
                }
                _ => self.complain(&format!("500 5.5.2 what is {}", line.escape_debug())),
            };
            self.wire.write(&format!("{answer}\r\n"))?;
        }
        Ok(())
    }

    /// A whole line with its CRLF; none at the end of the connection.
    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                return Ok(Some(self.buffer.drain(..end + 2).collect()));
            }
            let mut part = [0; 16 * 1024];
            let read = self.wire.read(&mut part)?;
            if read == 0 {
                return Ok(None);
            }
            self.buffer.extend_from_slice(&part[..read]);
        }
    }

    fn complain(&self, answer: &str) -> String {
        self.shared.lock().complaints.push(answer.to_owned());
        answer.to_owned()
    }

    fn ehlo(&mut self, line: &str) -> String {
        let name = line.get(5..).unwrap_or_default();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return self.complain("501 5.5.4 who are you");
        }
        self.greeted = true;
        let mut extensions = vec!["mock.test".to_owned(), "SIZE 10000000".to_owned()];
        if self.shared.rules.tls == MailTls::StartTls && !self.encrypted {
            extensions.push("STARTTLS".to_owned());
        } else if self.shared.rules.login.is_some() {
            extensions.push("AUTH PLAIN".to_owned());
        }
        let last = extensions.pop().unwrap_or_default();
        let first: String = extensions.iter().map(|extension| format!("250-{extension}\r\n")).collect();
        format!("{first}250 {last}")
    }

    fn start_tls(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.complain("commands were sent in the clear behind STARTTLS");
            self.buffer.clear();
        }
        self.wire = std::mem::replace(&mut self.wire, Wire::Gone).encrypt(&self.shared.config)?;
        (self.encrypted, self.greeted) = (true, false);
        Ok(())
    }

    fn auth(&mut self, line: &str) -> String {
        let Some((user, word)) = &self.shared.rules.login else {
            return self.complain("503 5.5.1 no accounts here");
        };
        if self.shared.rules.tls == MailTls::StartTls && !self.encrypted {
            return self.complain("538 5.7.11 encryption required");
        }
        let given = line.strip_prefix("AUTH PLAIN ").and_then(|text| STANDARD.decode(text).ok());
        if given != Some(format!("\0{user}\0{word}").into_bytes()) {
            return self.complain("535 5.7.8 authentication credentials invalid");
        }
        self.logged_in = true;
        "235 2.7.0 welcome".to_owned()
    }

    fn mail(&mut self, line: &str) -> String {
        if !self.greeted {
            return self.complain("503 5.5.1 say EHLO first");
        }
        if self.shared.rules.tls == MailTls::StartTls && !self.encrypted {
            return self.complain("530 5.7.0 say STARTTLS first");
        }
        if self.shared.rules.login.is_some() && !self.logged_in {
            return self.complain("530 5.7.0 authentication required");
        }
        let Some(address) = address(line, "MAIL FROM:<") else {
            return self.complain("501 5.5.4 no sender");
        };
        if self.shared.rules.login.as_ref().is_some_and(|(user, _)| *user != address) {
            return self.complain("553 5.7.1 not your address");
        }
        self.from = Some(address);
        self.to.clear();
        "250 2.1.0 ok".to_owned()
    }

    fn rcpt(&mut self, line: &str) -> String {
        let address = address(line, "RCPT TO:<").filter(|_| self.from.is_some());
        let Some(address) = address else {
            return self.complain("503 5.5.1 nobody to send to");
        };
        if self.shared.rules.unknown.contains(&address) {
            return "550 5.1.1 no such user".to_owned();
        }
        if self.shared.rules.greylisted.contains(&address)
            && self.shared.lock().put_off.insert(address.clone())
        {
            return "450 4.7.1 greylisted, come back later".to_owned();
        }
        self.to.push(address);
        "250 2.1.5 ok".to_owned()
    }

    /// Reads the letter to its dot; no answer where the connection is to be closed without one.
    fn letter(&mut self) -> io::Result<Option<String>> {
        let (mut letter, mut wrong) = (Vec::new(), None);
        loop {
            let Some(line) = self.line()? else { return Ok(None) };
            if line == b".\r\n" {
                break;
            }
            let inside = &line[..line.len() - 2];
            if line.len() > MAX_LINE_BYTES {
                wrong = Some("554 5.6.0 a line is too long");
            } else if inside.contains(&b'\n') || inside.contains(&b'\r') {
                wrong = Some("554 5.6.0 bare line ends");
            } else if !line.is_ascii() {
                wrong = Some("554 5.6.1 eight bits were not offered");
            }
            letter.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        }
        let limit = if self.shared.rules.max_bytes == 0 { 10_000_000 } else { self.shared.rules.max_bytes };
        if letter.len() > limit {
            wrong = Some("552 5.3.4 too large");
        }
        let received = MailReceived {
            from: self.from.take().unwrap_or_default(),
            to: std::mem::take(&mut self.to),
            letter,
            encrypted: self.encrypted,
        };
        for header in ["From", "To", "Date", "Message-ID", "Subject", "MIME-Version"] {
            if received.header(header).is_none() {
                wrong = Some("554 5.6.0 a header is missing");
            }
        }
        if let Some(wrong) = wrong {
            return Ok(Some(self.complain(wrong)));
        }
        if let Some(MailFault::Answer("END", answer)) = self.fault {
            self.fault = None;
            return Ok(Some(answer.to_owned()));
        }
        self.shared.lock().received.push(received);
        self.shared.arrived.notify_all();
        Ok((self.fault != Some(MailFault::CutAfterLetter)).then(|| "250 2.0.0 queued".to_owned()))
    }
}

fn address(line: &str, start: &str) -> Option<String> {
    let (head, rest) = line.split_at_checked(start.len())?;
    let (address, _) = rest.split_once('>')?;
    (head.eq_ignore_ascii_case(start) && address.contains('@')).then(|| address.to_owned())
}
