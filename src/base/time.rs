//! Three kinds of time that do not mix: wall time (what people read), monotonic time (durations),
//! and media time (90 kHz ticks). Only this file reads the real clocks.

use std::fmt;
use std::ops::Sub;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

/// Wall-clock time, microseconds since the Unix epoch. May jump; never use it for durations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WallTime(pub i64);

/// Monotonic time, nanoseconds since the clock was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct MonoTime(pub u64);

/// Media time in ticks of 1/90,000 s, the time base of the clips.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize)]
pub struct Pts90k(pub i64);

impl WallTime {
    fn timestamp(self) -> jiff::Timestamp {
        jiff::Timestamp::from_microsecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }

    /// UTC date as `2026-11-20`, the name of a day's folder.
    pub fn date(self) -> String {
        self.timestamp().strftime("%Y-%m-%d").to_string()
    }

    /// UTC time as `20261120T213114.123456Z`: sorts by time and fits in a file name.
    pub fn compact(self) -> String {
        self.timestamp().strftime("%Y%m%dT%H%M%S.%6fZ").to_string()
    }

    /// Reads back what [`WallTime::compact`] wrote; none for anything else.
    pub fn from_compact(text: &str) -> Option<Self> {
        let digits = |from: usize, to: usize| -> Option<i32> {
            let part = text.get(from..to)?;
            if part.bytes().all(|b| b.is_ascii_digit()) { part.parse().ok() } else { None }
        };
        let small = |from: usize, to: usize| i8::try_from(digits(from, to)?).ok();
        let year = i16::try_from(digits(0, 4)?).ok()?;
        let micros = digits(16, 22)?;
        let (month, day) = (small(4, 6)?, small(6, 8)?);
        let (hour, minute, second) = (small(9, 11)?, small(11, 13)?, small(13, 15)?);
        let time = jiff::civil::DateTime::new(year, month, day, hour, minute, second, micros * 1000).ok()?;
        let time = Self(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_microsecond());
        // Whatever stands between the digits.
        (time.compact() == text).then_some(time)
    }

    /// Reads what [`WallTime::compact`] wrote at the beginning of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        const LONG: usize = "20261120T213114.123456Z".len();
        Self::from_compact(name.get(..LONG)?)
    }

    /// Seconds since the Unix epoch, for gauges.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// The same time moved by a signed number of microseconds, saturating.
    pub fn offset_micros(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }
}

impl fmt::Display for WallTime {
    /// RFC 3339 in UTC with milliseconds: `2026-11-20T21:31:14.123Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.timestamp().strftime("%Y-%m-%dT%H:%M:%S.%3fZ"))
    }
}

impl Serialize for WallTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl MonoTime {
    /// This time plus a duration, saturating.
    pub fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero when it was not.
    pub fn since(self, earlier: MonoTime) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Sub for MonoTime {
    type Output = Duration;
    fn sub(self, earlier: MonoTime) -> Duration {
        self.since(earlier)
    }
}

impl Pts90k {
    /// Rounds a duration down to whole ticks.
    pub fn from_duration(duration: Duration) -> Self {
        Self(i64::try_from(duration.as_nanos() * 9 / 100_000).unwrap_or(i64::MAX))
    }
}

/// Where components get the time from.
pub trait Clock: Send + Sync {
    /// The wall clock.
    fn wall(&self) -> WallTime;
    /// The monotonic clock.
    fn mono(&self) -> MonoTime;
}

/// The real clocks of the machine.
#[derive(Debug, Clone)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// Starts a monotonic clock at zero.
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn wall(&self) -> WallTime {
        let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
        };
        WallTime(micros)
    }

    fn mono(&self) -> MonoTime {
        MonoTime(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug, Clone)]
pub struct ManualClock {
    wall: Arc<AtomicI64>,
    mono: Arc<AtomicU64>,
}

impl ManualClock {
    /// Starts at a given wall time and monotonic zero.
    pub fn new(wall: WallTime) -> Self {
        Self { wall: Arc::new(AtomicI64::new(wall.0)), mono: Arc::default() }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.mono.fetch_add(nanos, Ordering::SeqCst);
        self.wall.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// Makes the wall clock jump; the monotonic one does not notice.
    pub fn jump_wall(&self, micros: i64) {
        self.wall.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> WallTime {
        WallTime(self.wall.load(Ordering::SeqCst))
    }

    fn mono(&self) -> MonoTime {
        MonoTime(self.mono.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_is_written_in_utc() {
        let t = WallTime(1_795_210_274_123_456);
        assert_eq!(t.to_string(), "2026-11-20T21:31:14.123Z");
        assert_eq!(t.date(), "2026-11-20");
        assert_eq!(t.compact(), "20261120T213114.123456Z");
        assert_eq!(WallTime(i64::MAX).date(), "1970-01-01", "out of range falls back instead of panicking");
        assert_eq!(WallTime::from_name("20261120T213114.123456Z_b7_3.jpg"), Some(t));
        for bad in ["", "20261120T213114.123456", "20261320T213114.123456Z", "x0261120T213114.123456Z", "é"]
        {
            assert_eq!(WallTime::from_name(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_compact_time_is_read_back() {
        for micros in [0, 1, 1_795_210_274_123_456, -1] {
            let time = WallTime(micros);
            assert_eq!(WallTime::from_compact(&time.compact()), Some(time));
        }
        for bad in [
            "",
            "20261120",
            "20261120T213114.12345Z",
            "20261320T213114.123456Z",
            "x0261120T213114.123456Z",
            "20261120T213114.123456Z0",
            "20261120 213114.123456Z",
        ] {
            assert_eq!(WallTime::from_compact(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_do_not_go_negative() {
        assert_eq!(MonoTime(5) - MonoTime(9), Duration::ZERO);
        assert_eq!(MonoTime(9).since(MonoTime(5)), Duration::from_nanos(4));
        assert_eq!(MonoTime(u64::MAX).after(Duration::from_secs(1)), MonoTime(u64::MAX));
    }

    #[test]
    fn one_second_is_90000_ticks() {
        assert_eq!(Pts90k::from_duration(Duration::from_secs(1)), Pts90k(90_000));
        assert_eq!(Pts90k::from_duration(Duration::from_millis(40)), Pts90k(3_600));
    }

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = ManualClock::new(WallTime(1_000_000));
        clock.advance(Duration::from_secs(2));
        assert_eq!((clock.wall(), clock.mono()), (WallTime(3_000_000), MonoTime(2_000_000_000)));
        clock.jump_wall(-3_600_000_000);
        assert_eq!(clock.mono(), MonoTime(2_000_000_000));
    }
}
