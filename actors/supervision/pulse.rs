//! Tells a thread that gets no processor from one that hangs: by the processor time it has used and by what the kernel
//! says it does. Knows nothing of actors.

use std::fs;
use std::time::Duration;

use rustix::thread::gettid;
use rustix::time::{ClockId, clock_gettime};

/// Past so many deadlines nobody asks any more why it takes so long.
const PATIENCE: u32 = 10;

/// A thread, and the processor time it had used at some moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pulse {
    thread: i32,
    used: Duration,
}

impl Pulse {
    /// That of the calling thread, now.
    pub fn take() -> Self {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        let used = Duration::try_from(now).unwrap_or_default();
        Self { thread: gettid().as_raw_nonzero().get(), used }
    }

    /// Whether the thread, `since` the pulse was taken, only waited for a processor: it could run, and has had less of
    /// one than `deadline`. On a machine with too much to do a thread of low priority is slow, not stuck.
    pub fn starves(&self, since: Duration, deadline: Duration) -> bool {
        since < deadline.saturating_mul(PATIENCE)
            && self.can_run()
            && self.used_by_now().is_some_and(|used| used.saturating_sub(self.used) < deadline)
    }

    fn can_run(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/self/task/{}/stat", self.thread)).unwrap_or_default();
        // The name stands in brackets and may hold anything; the state follows.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('R'))
    }

    fn used_by_now(&self) -> Option<Duration> {
        let path = format!("/proc/self/task/{}/schedstat", self.thread);
        fs::read_to_string(path).ok()?.split(' ').next()?.parse().ok().map(Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::channel;
    use std::time::Instant;

    use super::*;

    /// Past its time by the clock, but not so far that it does not matter why.
    const LATE: Duration = Duration::from_secs(1);

    #[test]
    fn a_thread_that_waits_for_something_is_not_starving() {
        let (pulse, pulses) = channel();
        let (release, hanging) = channel::<()>();
        let thread = std::thread::spawn(move || {
            pulse.send(Pulse::take()).unwrap();
            let _ = hanging.recv();
        });
        let pulse = pulses.recv().unwrap();
        let give_up = Instant::now() + Duration::from_secs(10);
        while pulse.can_run() {
            assert!(Instant::now() < give_up, "it never comes to rest");
            std::thread::yield_now();
        }
        assert!(!pulse.starves(LATE, Duration::from_secs(60)));
        drop(release);
        thread.join().unwrap();
        assert!(!pulse.starves(LATE, Duration::from_secs(60)), "nor is one that is gone");
    }

    #[test]
    fn a_thread_that_runs_starves_until_it_has_had_its_time() {
        static OVER: AtomicBool = AtomicBool::new(false);
        let (pulse, pulses) = channel();
        let thread = std::thread::spawn(move || {
            pulse.send(Pulse::take()).unwrap();
            while !OVER.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let pulse = pulses.recv().unwrap();
        // It has not had a minute of any processor yet.
        assert!(pulse.starves(LATE, Duration::from_secs(60)));
        assert!(!pulse.starves(Duration::from_secs(600), Duration::from_secs(60)), "but not for ever");
        let give_up = Instant::now() + Duration::from_secs(30);
        while pulse.starves(LATE, Duration::from_millis(200)) {
            assert!(Instant::now() < give_up, "an endless loop is a hang");
            std::thread::sleep(Duration::from_millis(5));
        }
        OVER.store(true, Ordering::Relaxed);
        thread.join().unwrap();
    }
}
