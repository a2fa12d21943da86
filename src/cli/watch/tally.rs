//! What came: pictures, their pace, and what was late or damaged. Prints nothing by itself.

use std::collections::VecDeque;
use std::time::Duration;

use meerkat_base::MonoTime;

/// The pace is that of the last so many seconds.
const WINDOW: Duration = Duration::from_secs(3);
/// The node sends again after a second what was not answered: whatever comes nearly so late was lost once.
const LATE: Duration = Duration::from_millis(900);

/// Counts pictures.
#[derive(Debug)]
pub(super) struct Tally {
    began: MonoTime,
    recent: VecDeque<MonoTime>,
    pictures: u64,
    bytes: u64,
    late: u64,
    damaged: u64,
}

impl Tally {
    /// Nothing came yet.
    pub fn new(now: MonoTime) -> Self {
        Self { began: now, recent: VecDeque::new(), pictures: 0, bytes: 0, late: 0, damaged: 0 }
    }

    /// Counts a datagram; false when it is no whole JPEG.
    pub fn enter(&mut self, datagram: &[u8], now: MonoTime) -> bool {
        if !(datagram.starts_with(&[0xFF, 0xD8, 0xFF]) && datagram.ends_with(&[0xFF, 0xD9])) {
            self.damaged += 1;
            return false;
        }
        if self.recent.back().is_some_and(|last| now.since(*last) > LATE) {
            self.late += 1;
        }
        if self.pictures == 0 {
            self.began = now;
        }
        self.pictures += 1;
        self.bytes += datagram.len() as u64;
        self.recent.push_back(now);
        self.forget(now);
        true
    }

    /// Pictures that have come.
    pub fn pictures(&self) -> u64 {
        self.pictures
    }

    /// The line that is shown while it runs.
    pub fn line(&mut self, now: MonoTime) -> String {
        self.forget(now);
        if self.pictures == 0 {
            return format!("no picture yet, {} s", now.since(self.began).as_secs());
        }
        format!(
            "{:.1} pictures/s, {} in all, {} bytes each, {} late, {} damaged",
            self.pace(now),
            self.pictures,
            self.bytes / self.pictures,
            self.late,
            self.damaged
        )
    }

    /// What is said at the end.
    pub fn summary(&self, now: MonoTime) -> String {
        let seconds = now.since(self.began).as_secs_f64().max(0.001);
        format!(
            "{} pictures in {seconds:.1} s ({:.1} per second), {} bytes, {} late, {} damaged",
            self.pictures,
            self.pictures as f64 / seconds,
            self.bytes,
            self.late,
            self.damaged
        )
    }

    fn pace(&self, now: MonoTime) -> f64 {
        let Some(first) = self.recent.front() else { return 0.0 };
        let gaps = self.recent.len().saturating_sub(1) as f64;
        let span = now.since(*first).as_secs_f64();
        if span > 0.0 { gaps / span } else { 0.0 }
    }

    fn forget(&mut self, now: MonoTime) {
        // The last one stays: from it on it is counted whether the next is late.
        while self.recent.len() > 1 && self.recent.front().is_some_and(|at| now.since(*at) > WINDOW) {
            self.recent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PICTURE: &[u8] = b"\xff\xd8\xff\xe0 a picture \xff\xd9";

    fn at(millis: u64) -> MonoTime {
        MonoTime(millis * 1_000_000)
    }

    #[test]
    fn the_pace_is_that_of_the_last_seconds() {
        let mut tally = Tally::new(at(0));
        assert_eq!(tally.line(at(2_500)), "no picture yet, 2 s");
        for n in 0..100 {
            assert!(tally.enter(PICTURE, at(5_000 + n * 100)));
        }
        assert!(
            tally.line(at(14_900)).starts_with("10.0 pictures/s, 100 in all"),
            "{}",
            tally.line(at(14_900))
        );
        assert!(tally.line(at(60_000)).starts_with("0.0 pictures/s"));
        let said = tally.summary(at(15_000));
        assert!(said.starts_with("100 pictures in 10.0 s (10.0 per second)"), "{said}");
    }

    #[test]
    fn what_is_late_or_damaged_is_counted() {
        let mut tally = Tally::new(at(0));
        assert!(tally.enter(PICTURE, at(5_000)), "the first is never late");
        assert!(tally.enter(PICTURE, at(5_100)));
        assert!(tally.enter(PICTURE, at(6_110)));
        assert!(!tally.enter(&PICTURE[..8], at(6_200)), "cut off");
        assert!(!tally.enter(b"", at(6_300)));
        assert_eq!((tally.pictures(), tally.late, tally.damaged), (3, 1, 2));
    }
}
