//! Servers for tests that enforce what the services enforce (and no more of them). Each listens on a free port of
//! the loopback and ends when it is dropped. Threads of its own: a test with or without a runtime can use it.
//!
//! ```
//! use std::time::Duration;
//! use meerkat_notify::testing::{Fault, MockServer};
//!
//! let robot = MockServer::wecom("the-key").unwrap();
//! robot.script([Fault::Errcode(45009, "api freq out of limit")]); // the first request fares badly
//! // … a node that sends to `robot.base()` with that key …
//! assert!(robot.wait_for(1, Duration::ZERO).is_err());
//! ```

mod hmac;
mod http;
mod window;

mod dingtalk;
mod feishu;
mod ntfy;
mod telegram;
mod mosquitto;
mod smtp;
pub mod tls;
mod webhook;
mod wecom;
mod wecom_app;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use meerkat_base::{Clock, SystemClock};
use tokio::sync::watch;

use http::{Answer, Request};

pub use mosquitto::{Mosquitto, MosquittoRules, Observed, Observer};
pub use smtp::{MailFault, MailReceived, MailRules, MailServer, MailTls};

/// A message that the service accepted.
#[derive(Debug, Clone, PartialEq)]
pub enum Received {
    /// A text; of ntfy, title and message on lines of their own.
    Text(String),
    /// A text in the service's Markdown.
    Markdown(String),
    /// The raw bytes of a picture that is a message of its own.
    Picture(Vec<u8>),
    /// A file, or a picture or video with words.
    File {
        /// Its name.
        name: String,
        /// Its bytes.
        bytes: Vec<u8>,
        /// Words that go with it; may be empty.
        caption: String,
    },
    /// Webhook: a body whose signature is right.
    Hook {
        /// The idempotency key.
        id: String,
        /// Whether this part of a message with this id had arrived before.
        repeated: bool,
        /// The whole body.
        body: serde_json::Value,
    },
}

/// What goes wrong with one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: stands for a good request in a script.
    None,
    /// Status 200 with this `errcode` and `errmsg`; the message is not accepted.
    Errcode(i64, &'static str),
    /// This status, with further header lines, each ended by `\r\n`, and a body; not accepted.
    Status(u16, &'static str, &'static str),
    /// Reads the request and stays silent; not accepted.
    Silent,
    /// Accepts the message and closes without a word.
    CutBeforeAnswer,
    /// Accepts the message and closes in the middle of the answer's body.
    CutInAnswer,
    /// Accepts the message and answers with a body that never ends.
    Endless,
}

/// Fewer messages than hoped for arrived in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{got} of {wanted} messages arrived in time")]
pub struct Missed {
    /// Messages waited for.
    pub wanted: usize,
    /// Messages that arrived.
    pub got: usize,
}

/// What a service makes of a request.
enum Verdict {
    /// People see this message.
    Accepted(Received),
    /// A token or an upload: no message yet.
    Helped,
    /// Answered like an accepted one, but nobody sees it.
    Dropped(String),
    /// Refused, and why.
    Refused(String),
}

/// A service: decides about one request after another.
trait Service: Send {
    fn answer(&mut self, request: &Request, clock: &dyn Clock) -> (Answer, Verdict);
}

struct Shared {
    state: Mutex<State>,
    arrived: Condvar,
    count: watch::Sender<usize>,
    clock: Arc<dyn Clock>,
}

struct State {
    service: Box<dyn Service>,
    received: Vec<Received>,
    refused: Vec<String>,
    dropped: Vec<String>,
    paths: Vec<String>,
    script: VecDeque<Fault>,
    requests: usize,
    outage: bool,
    stopping: bool,
    open: HashMap<usize, TcpStream>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decide(&self, request: &Request) -> Answer {
        let mut state = self.lock();
        state.requests += 1;
        state.paths.push(request.path().to_owned());
        let fault = state.script.pop_front().unwrap_or(Fault::None);
        let accepted_answer = match fault {
            Fault::Errcode(code, message) => return Answer::errcode(code, message),
            Fault::Status(status, headers, body) => return Answer::status(status, headers, body),
            Fault::Silent => return Answer::Silence,
            Fault::None => None,
            Fault::CutBeforeAnswer => Some(Answer::Nothing),
            Fault::CutInAnswer => Some(Answer::Half),
            Fault::Endless => Some(Answer::Endless),
        };
        let (answer, judged) = state.service.answer(request, self.clock.as_ref());
        match judged {
            Verdict::Accepted(message) => {
                state.received.push(message);
                self.count.send_replace(state.received.len());
                self.arrived.notify_all();
            }
            Verdict::Helped => {}
            Verdict::Dropped(why) => state.dropped.push(why),
            Verdict::Refused(why) => state.refused.push(why),
        }
        accepted_answer.unwrap_or(answer)
    }
}

/// A running server.
pub struct MockServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    accepting: Option<JoinHandle<()>>,
}

impl MockServer {
    /// A WeCom group robot with this key, by the machine's clock.
    pub fn wecom(key: &str) -> io::Result<Self> {
        Self::wecom_with_clock(key, Arc::new(SystemClock::new()))
    }

    /// A WeCom group robot whose rate limit goes by a clock of the test's.
    pub fn wecom_with_clock(key: &str, clock: Arc<dyn Clock>) -> io::Result<Self> {
        Self::start(Box::new(wecom::Robot::new(key)), clock)
    }

    /// A receiver of our webhook that verifies the signature.
    pub fn webhook(secret: &str) -> io::Result<Self> {
        Self::webhook_with_clock(secret, Arc::new(SystemClock::new()))
    }

    /// A receiver that judges the age of a message by a clock of the test's.
    pub fn webhook_with_clock(secret: &str, clock: Arc<dyn Clock>) -> io::Result<Self> {
        Self::start(Box::new(webhook::Receiver::new(secret)), clock)
    }

    /// A WeCom application whose members are these; departments and tags have one member each.
    pub fn wecom_app(
        corp_id: &str,
        secret: &str,
        agent_id: u32,
        members: &[&str],
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        Self::start(Box::new(wecom_app::Application::new(corp_id, secret, agent_id, members)), clock)
    }

    /// A DingTalk robot at `/robot/send?access_token=<token>` that wants signatures.
    pub fn dingtalk(token: &str, secret: &str, clock: Arc<dyn Clock>) -> io::Result<Self> {
        Self::start(Box::new(dingtalk::DingRobot::new(token, secret)), clock)
    }

    /// A Feishu robot at `/open-apis/bot/v2/hook/<hook>` that wants signatures, and an application that uploads for it.
    pub fn feishu(
        hook: &str,
        secret: &str,
        app_id: &str,
        app_secret: &str,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        Self::start(Box::new(feishu::FeishuRobot::new(hook, secret, app_id, app_secret)), clock)
    }

    /// Telegram's Bot API with one bot in one chat.
    pub fn telegram(token: &str, chat_id: &str, clock: Arc<dyn Clock>) -> io::Result<Self> {
        Self::start(Box::new(telegram::Bot::new(token, chat_id)), clock)
    }

    /// An ntfy server with one topic. `authorization` is the header it wants, none if empty; it takes no attachments where
    /// their limit is 0.
    pub fn ntfy(
        topic: &str,
        authorization: &str,
        most_attachment_bytes: usize,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        Self::start(Box::new(ntfy::Server::new(topic, authorization, most_attachment_bytes)), clock)
    }

    fn start(service: Box<dyn Service>, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let state = State {
            service,
            received: Vec::new(),
            refused: Vec::new(),
            dropped: Vec::new(),
            paths: Vec::new(),
            script: VecDeque::new(),
            requests: 0,
            outage: false,
            stopping: false,
            open: HashMap::new(),
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            arrived: Condvar::new(),
            count: watch::Sender::new(0),
            clock,
        });
        let accepting = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Ok(Self { shared, address, accepting: Some(accepting) })
    }

    /// `http://127.0.0.1:<port>`: the base address for a robot, and where a webhook is posted to.
    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was accepted so far, in order.
    pub fn received(&self) -> Vec<Received> {
        self.shared.lock().received.clone()
    }

    /// Why requests were refused by the service's own rules (not by a script), in order.
    pub fn refused(&self) -> Vec<String> {
        self.shared.lock().refused.clone()
    }

    /// Messages that the service answered like accepted ones and dropped, in order.
    pub fn dropped(&self) -> Vec<String> {
        self.shared.lock().dropped.clone()
    }

    /// Paths of all requests so far, in order, without their queries.
    pub fn paths(&self) -> Vec<String> {
        self.shared.lock().paths.clone()
    }

    /// Requests of every kind so far.
    pub fn requests(&self) -> usize {
        self.shared.lock().requests
    }

    /// Appends faults; each request takes one, and fares well when none is left.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.lock().script.extend(faults);
    }

    /// During an outage every connection is closed at once.
    pub fn set_outage(&self, outage: bool) {
        let mut state = self.shared.lock();
        state.outage = outage;
        if outage {
            close_all(&mut state);
        }
    }

    /// Waits, blocking this thread, until `wanted` messages have been accepted in all.
    pub fn wait_for(&self, wanted: usize, timeout: Duration) -> Result<Vec<Received>, Missed> {
        let end = Instant::now() + timeout;
        let mut state = self.shared.lock();
        while state.received.len() < wanted {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Missed { wanted, got: state.received.len() });
            }
            let waited = self.shared.arrived.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(state.received.clone())
    }

    /// The same for a task: its runtime goes on meanwhile.
    pub async fn wait_for_async(&self, wanted: usize, timeout: Duration) -> Result<Vec<Received>, Missed> {
        let mut count = self.shared.count.subscribe();
        // The sender lives in `self`, so only the time can run out.
        let _ = tokio::time::timeout(timeout, count.wait_for(|&got| got >= wanted)).await;
        let received = self.received();
        if received.len() < wanted { Err(Missed { wanted, got: received.len() }) } else { Ok(received) }
    }
}

impl Drop for MockServer {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.stopping = true;
            close_all(&mut state);
        }
        // Wakes the thread that accepts; where that fails it has ended already.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.accepting.take() {
            let _ = thread.join();
        }
    }
}

fn close_all(state: &mut State) {
    for (_, stream) in state.open.drain() {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut sessions: Vec<JoinHandle<()>> = Vec::new();
    for (number, stream) in listener.incoming().enumerate() {
        let Ok(stream) = stream else { break };
        let Ok(second) = stream.try_clone() else { break };
        {
            let mut state = shared.lock();
            if state.stopping {
                break;
            }
            if state.outage {
                continue;
            }
            state.open.insert(number, second);
        }
        sessions.retain(|session| !session.is_finished());
        sessions.push(std::thread::spawn({
            let shared = Arc::clone(shared);
            move || {
                http::serve(stream, |request| shared.decide(request));
                shared.lock().open.remove(&number);
            }
        }));
    }
    for session in sessions {
        let _ = session.join();
    }
}

#[cfg(test)]
mod tests;
