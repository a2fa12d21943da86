//! What talks with clients share: reading and writing with time limits, and bytes in flight that are counted. Knows no
//! dialect.

use std::time::Duration;

use bytes::BytesMut;
use meerkat_base::{Budget, Permit, Shutdown, metric};
use metrics::counter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::End;

/// A client that takes so many bytes of an answer gets its whole time anew.
const WRITE_STEP: usize = 64 << 10;
/// A client that sends so many bytes gets its whole time anew; fewer renew their share, so that a drip is no progress.
const READ_STEP: f64 = 65_536.0;
/// How often it is looked again for room in the budget.
const BUDGET_RETRY: Duration = Duration::from_millis(10);

/// A connection with what it is allowed.
pub(super) struct Client {
    pub stream: TcpStream,
    pub buffer: BytesMut,
    pub shutdown: Shutdown,
    pub in_flight: Budget,
    pub stall: Duration,
    pub idle: Duration,
    permit: Option<Permit>,
    deadline: Instant,
    in_message: bool,
}

impl Client {
    pub fn new(
        stream: TcpStream,
        shutdown: Shutdown,
        in_flight: Budget,
        stall: Duration,
        idle: Duration,
    ) -> Self {
        let buffer = BytesMut::new();
        let deadline = Instant::now() + idle;
        Self { stream, buffer, shutdown, in_flight, stall, idle, permit: None, deadline, in_message: false }
    }

    /// Says that a message is over and the next one is waited for: its bytes are given back to the budget.
    pub fn between_messages(&mut self) {
        self.permit = None;
        self.in_message = false;
        self.deadline = Instant::now() + self.idle;
    }

    /// Reads once, at most `wanted` bytes more than are there (at least a little). False: the client has closed.
    pub async fn read(&mut self, in_message: bool, wanted: usize) -> Result<bool, End> {
        if in_message && !self.in_message {
            self.deadline = Instant::now() + self.stall;
        }
        self.in_message = in_message;
        let wanted = wanted.clamp(1 << 10, 256 << 10);
        if in_message {
            self.cover(self.buffer.len() + wanted).await?;
        }
        self.buffer.reserve(wanted);
        let Self { stream, buffer, shutdown, .. } = self;
        let read = tokio::select! {
            biased;
            () = shutdown.wait() => return Err(End::Left),
            read = timeout_at(self.deadline, stream.read_buf(buffer)) => read,
        };
        match read {
            Ok(Ok(0)) => Ok(false),
            Ok(Ok(count)) => {
                let share = self.stall.mul_f64((count as f64 / READ_STEP).min(1.0));
                if in_message {
                    self.deadline = (self.deadline + share).min(Instant::now() + self.stall);
                }
                Ok(true)
            }
            Ok(Err(error)) => Err(End::Broken(error.to_string())),
            Err(_) => Err(End::Refused(if in_message { "stall_timeout" } else { "idle_timeout" })),
        }
    }

    /// Takes bytes that are held out of the budget over all connections; waits while it is spent.
    async fn cover(&mut self, bytes: usize) -> Result<(), End> {
        let held = self.permit.as_ref().map_or(0, Permit::bytes);
        if bytes <= held {
            return Ok(());
        }
        let until = Instant::now() + self.stall;
        let mut counted = false;
        loop {
            let taken = match &mut self.permit {
                Some(permit) => permit.try_grow(bytes - held),
                None => {
                    self.permit = self.in_flight.try_take(bytes);
                    self.permit.is_some()
                }
            };
            if taken {
                return Ok(());
            }
            if !counted {
                counter!(metric::LIMIT_HITS, "limit" => "dialects_in_flight_bytes").increment(1);
                counted = true;
            }
            if Instant::now() >= until {
                return Err(End::Refused("in_flight_bytes"));
            }
            tokio::select! {
                biased;
                () = self.shutdown.wait() => return Err(End::Left),
                () = sleep(BUDGET_RETRY) => {}
            }
        }
    }

    /// Writes all of it; a client that does not take it in time is let go.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), End> {
        for piece in bytes.chunks(WRITE_STEP) {
            match timeout(self.stall, self.stream.write_all(piece)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(End::Broken(error.to_string())),
                Err(_) => return Err(End::Refused("stall_timeout")),
            }
        }
        Ok(())
    }
}
