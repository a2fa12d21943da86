//! What talks with clients share: reading and writing with time limits, how fast a message has to come, and bytes in flight
//! that are counted. Knows no dialect.

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
/// How often it is looked again for room in the budget.
const BUDGET_RETRY: Duration = Duration::from_millis(10);

/// How fast a message has to come. Only time that is spent waiting for the client counts, up to `grace` of it can be
/// behind, and every byte makes up for its share: so a message of n bytes takes no longer than the grace and n by the
/// rate.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    grace: Duration,
    bytes_per_second: f64,
    left: Duration,
}

impl Pace {
    /// One of so many bytes per second.
    pub fn new(grace: Duration, bytes_per_second: u32) -> Self {
        Self { grace, bytes_per_second: f64::from(bytes_per_second.max(1)), left: grace }
    }

    /// A new message begins.
    pub fn begin(&mut self) {
        self.left = self.grace;
    }

    /// Books bytes that were waited for. False: the message comes too slowly.
    pub fn came(&mut self, bytes: usize, waited: Duration) -> bool {
        let Some(left) = self.left.checked_sub(waited) else { return false };
        let earned = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second);
        self.left = left.saturating_add(earned).min(self.grace);
        true
    }
}

/// Bytes of a message in hand, taken out of the budget over all connections of these dialects.
#[derive(Debug)]
pub(super) struct InFlight {
    budget: Budget,
    permit: Option<Permit>,
}

/// The budget was spent for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spent;

impl InFlight {
    /// Nothing is in hand.
    pub fn new(budget: Budget) -> Self {
        Self { budget, permit: None }
    }

    /// The message is no more in hand.
    pub fn give_back(&mut self) {
        self.permit = None;
    }

    /// Makes sure that so many bytes are taken out of the budget; waits while it is spent, up to `patience`.
    pub async fn cover(&mut self, bytes: usize, patience: Duration) -> Result<(), Spent> {
        let held = self.permit.as_ref().map_or(0, Permit::bytes);
        if bytes <= held {
            return Ok(());
        }
        let until = Instant::now() + patience;
        let mut counted = false;
        loop {
            let taken = match &mut self.permit {
                Some(permit) => permit.try_grow(bytes - held),
                None => {
                    self.permit = self.budget.try_take(bytes);
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
                return Err(Spent);
            }
            sleep(BUDGET_RETRY).await;
        }
    }
}

/// What a client is allowed.
#[derive(Debug, Clone)]
pub(super) struct Allowed {
    /// Longest wait for the next bytes in the middle of a message, and for the client to take an answer.
    pub stall: Duration,
    /// Longest silence between messages.
    pub idle: Duration,
    /// How fast a message has to come.
    pub pace: Pace,
}

/// A connection with what it is allowed.
pub(super) struct Client {
    pub stream: TcpStream,
    pub buffer: BytesMut,
    shutdown: Shutdown,
    in_flight: InFlight,
    allowed: Allowed,
    idle_until: Instant,
}

impl Client {
    pub fn new(stream: TcpStream, shutdown: Shutdown, in_flight: Budget, allowed: Allowed) -> Self {
        let idle_until = Instant::now() + allowed.idle;
        let in_flight = InFlight::new(in_flight);
        Self { stream, buffer: BytesMut::new(), shutdown, in_flight, allowed, idle_until }
    }

    /// Says that a message is over and the next one is waited for: its bytes are given back to the budget.
    pub fn between_messages(&mut self) {
        self.in_flight.give_back();
        self.allowed.pace.begin();
        self.idle_until = Instant::now() + self.allowed.idle;
    }

    /// Reads once, at most `wanted` bytes more than are there (at least a little). False: the client has closed.
    pub async fn read(&mut self, in_message: bool, wanted: usize) -> Result<bool, End> {
        let wanted = wanted.clamp(1 << 10, 256 << 10);
        let Self { stream, buffer, shutdown, in_flight, allowed, idle_until } = self;
        if in_message {
            tokio::select! {
                biased;
                () = shutdown.wait() => return Err(End::Left),
                covered = in_flight.cover(buffer.len() + wanted, allowed.stall) => {
                    covered.map_err(|Spent| End::Refused("in_flight_bytes"))?;
                }
            }
        }
        buffer.reserve(wanted);
        let began = Instant::now();
        let until = if in_message { began + allowed.stall } else { *idle_until };
        let read = tokio::select! {
            biased;
            () = shutdown.wait() => return Err(End::Left),
            read = timeout_at(until, stream.read_buf(buffer)) => read,
        };
        match read {
            Ok(Ok(0)) => Ok(false),
            Ok(Ok(count)) => {
                // The first bytes of a message are waited for as long as the client is idle.
                let waited = if in_message { began.elapsed() } else { Duration::ZERO };
                if allowed.pace.came(count, waited) { Ok(true) } else { Err(End::Refused("too_slow")) }
            }
            Ok(Err(error)) => Err(End::Broken(error.to_string())),
            Err(_) => Err(End::Refused(if in_message { "stall_timeout" } else { "idle_timeout" })),
        }
    }

    /// Writes all of it; a client that does not take it in time is let go.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), End> {
        for piece in bytes.chunks(WRITE_STEP) {
            match timeout(self.allowed.stall, self.stream.write_all(piece)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(End::Broken(error.to_string())),
                Err(_) => return Err(End::Refused("stall_timeout")),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(10);

    #[test]
    fn a_drip_is_no_progress_however_often_it_drips() {
        for gap in [Duration::from_millis(1), Duration::from_millis(100), Duration::from_secs(9)] {
            let mut pace = Pace::new(GRACE, 1_000);
            let mut waited = Duration::ZERO;
            while pace.came(if gap.as_millis() > 1 { 1 } else { 0 }, gap) {
                waited += gap;
                assert!(waited <= GRACE + Duration::from_millis(100), "{gap:?}");
            }
            assert!(waited + gap > GRACE, "{gap:?}: {waited:?}");
        }
    }

    #[test]
    fn whoever_keeps_to_the_rate_may_send_for_ever_and_pause_as_long_as_it_may() {
        let mut pace = Pace::new(GRACE, 1_000);
        for _ in 0..10_000 {
            assert!(pace.came(1_000, Duration::from_secs(1)));
        }
        assert!(pace.came(1_000, GRACE), "what was sent before is not held against a pause");
        assert!(!pace.came(1_000, Duration::from_secs(2)), "and is no credit for another");
        pace.begin();
        assert!(pace.came(1, GRACE));
    }

    #[test]
    fn a_budget_that_is_spent_is_waited_for() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let budget = Budget::new(100);
            let (mut one, mut two) = (InFlight::new(budget.clone()), InFlight::new(budget.clone()));
            one.cover(60, GRACE).await.unwrap();
            one.cover(50, GRACE).await.unwrap();
            assert_eq!(budget.used(), 60, "less than is held already");
            assert_eq!(two.cover(41, Duration::ZERO).await, Err(Spent));
            let (waited, ()) = tokio::join!(two.cover(41, GRACE), async { one.give_back() });
            assert_eq!((waited, budget.used()), (Ok(()), 41));
        });
    }
}
