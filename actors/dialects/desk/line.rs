//! One connection of the desk as the commands see it: items in, words and bytes out, with every wait bounded.

use std::time::Duration;

use bytes::BytesMut;
use meerkat_wire::desk::{Item, Parser, Refusal, Silence};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, timeout};

use super::super::End;
use super::super::stream::{InFlight, Pace, Spent};

/// Bytes that are read at once.
const READ_BYTES: usize = 64 << 10;
/// What a client may still send while it reads the last answer: it is read and thrown away, so that no reset overtakes the
/// answer.
const FAREWELL_BYTES: usize = 4 << 20;
const FAREWELL: Duration = Duration::from_secs(2);

/// How long a client may be silent.
#[derive(Debug, Clone)]
pub(super) struct Patience {
    /// Silence that ends a chat text.
    pub text: Duration,
    /// Silence that ends a size.
    pub size: Duration,
    /// Silence that ends a file.
    pub file: Duration,
    /// In the middle of something, and to take an answer.
    pub stall: Duration,
    /// Between steps, whatever is sent that means nothing.
    pub idle: Duration,
    /// How fast what belongs to a step has to come.
    pub pace: Pace,
}

/// Why the talk does not go on.
#[derive(Debug)]
pub(super) enum Stop {
    /// The connection ended in this way.
    Ended(End),
    /// The client said what does not belong here.
    Refused(Refusal),
    /// A limit was reached: its name in metrics, and words for the client.
    Limit(&'static str, String),
    /// Too much is being received at once.
    Crowded,
    /// It cannot be done now; words for the client.
    Sorry(String),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Stop::Refused(refusal)
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Stop::Ended(End::Broken(error.to_string()))
    }
}

/// A connection, taken apart.
pub(super) struct Line {
    hears: Ear,
    speaks: OwnedWriteHalf,
}

struct Ear {
    stream: OwnedReadHalf,
    parser: Parser,
    buf: BytesMut,
    patience: Patience,
    /// Time that was spent waiting for this step to begin.
    idled: Duration,
    in_flight: InFlight,
    /// Bytes of an upload that somebody holds besides the buffer.
    held: usize,
}

impl Line {
    /// A new connection.
    pub fn new(stream: TcpStream, patience: Patience, in_flight: InFlight) -> Self {
        let (stream, speaks) = stream.into_split();
        let (parser, buf) = (Parser::new(), BytesMut::new());
        let hears = Ear { stream, parser, buf, patience, idled: Duration::ZERO, in_flight, held: 0 };
        Self { hears, speaks }
    }

    /// Says how many bytes of the upload are held in memory by now, so that they are counted with what is in flight.
    pub fn holds(&mut self, bytes: usize) {
        self.hears.held = bytes;
    }

    /// The upload is over: nothing is in flight any more.
    pub fn upload_over(&mut self) {
        self.hears.held = 0;
        self.hears.in_flight.give_back();
    }

    /// The next item; `None`: the client has nothing more to say.
    pub async fn item(&mut self) -> Result<Option<Item>, Stop> {
        self.hears.item().await
    }

    /// Sends words, in one write.
    pub async fn say(&mut self, words: &str) -> Result<(), Stop> {
        self.send(words.as_bytes()).await
    }

    /// Sends bytes, in one write where the system takes them.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        // An answer ends a step.
        self.hears.patience.pace.begin();
        self.hears.idled = Duration::ZERO;
        match timeout(self.hears.patience.stall, self.speaks.write_all(bytes)).await {
            Ok(sent) => Ok(sent?),
            Err(_) => Err(Stop::Ended(End::Refused("stall_timeout"))),
        }
    }

    /// Sends bytes while it listens. Some item comes back when the client said something before all was sent: the rest
    /// is not sent then.
    pub async fn send_or_hear(&mut self, bytes: &[u8]) -> Result<Option<Item>, Stop> {
        let stall = self.hears.patience.stall;
        let error = tokio::select! {
            biased;
            sent = timeout(stall, self.speaks.write_all(bytes)) => match sent {
                Ok(Ok(())) => return Ok(None),
                Ok(Err(error)) => error,
                Err(_) => return Err(Stop::Ended(End::Refused("stall_timeout"))),
            },
            item = self.hears.item() => return match item? {
                // It sends nothing more; what it can still read it gets.
                None => Err(Stop::Ended(End::Left)),
                heard => Ok(heard),
            },
        };
        // A client that closes with something unread resets the connection; what it said before is here all the same.
        match timeout(stall, self.hears.item()).await {
            Ok(Ok(Some(item))) => Ok(Some(item)),
            _ => Err(error.into()),
        }
    }

    /// Ends the connection such that the last answer arrives.
    pub async fn farewell(mut self) {
        if self.speaks.shutdown().await.is_err() {
            return;
        }
        let rest = async {
            let mut left = FAREWELL_BYTES;
            loop {
                self.hears.buf.clear();
                match self.hears.stream.read_buf(&mut self.hears.buf).await {
                    Ok(0) | Err(_) => return,
                    Ok(n) if n >= left => return,
                    Ok(n) => left -= n,
                }
            }
        };
        let _ = timeout(FAREWELL, rest).await;
    }
}

impl Ear {
    async fn item(&mut self) -> Result<Option<Item>, Stop> {
        loop {
            if let Some(item) = self.parser.next(&mut self.buf)? {
                return Ok(Some(item));
            }
            if self.parser.is_done() {
                return Ok(None);
            }
            if self.parser.is_in_upload() {
                let bytes = self.held.saturating_add(self.buf.len()).saturating_add(READ_BYTES);
                let covered = self.in_flight.cover(bytes, self.patience.stall).await;
                covered.map_err(|Spent| Stop::Crowded)?;
            }
            let silence = self.parser.silence(&self.buf);
            let patience = &mut self.patience;
            let is_idle = silence.is_none() && self.buf.is_empty() && !self.parser.is_in_body();
            let (limit, reason) = match silence {
                Some(Silence::Text) => (patience.text, ""),
                Some(Silence::Size) => (patience.size, ""),
                Some(Silence::File) => (patience.file, ""),
                None if is_idle => (patience.idle.saturating_sub(self.idled), "idle_timeout"),
                None => (patience.stall, "stall_timeout"),
            };
            self.buf.reserve(READ_BYTES);
            let began = Instant::now();
            let read = if limit.is_zero() {
                // Whoever wants no silence takes what came in one piece.
                None
            } else {
                timeout(limit, self.stream.read_buf(&mut self.buf)).await.ok()
            };
            match read {
                Some(Ok(0)) => return Ok(self.parser.on_end(&mut self.buf)?),
                Some(Ok(_)) if is_idle => self.idled += began.elapsed(),
                Some(Ok(count)) => {
                    if !patience.pace.came(count, began.elapsed()) {
                        return Err(Stop::Ended(End::Refused("too_slow")));
                    }
                }
                Some(Err(error)) => return Err(error.into()),
                None if silence.is_some() => {
                    if let Some(item) = self.parser.on_silence(&mut self.buf)? {
                        return Ok(Some(item));
                    }
                }
                None => return Err(Stop::Ended(End::Refused(reason))),
            }
        }
    }
}
