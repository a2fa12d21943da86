//! Whose turn it is to make a file. Recordings that are over go first, in their order; files that follow a recording
//! while it runs never take the last place, so that a clip of seconds does not wait for a segment of minutes; what an
//! earlier run left has what nobody else wants.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Wakes whoever waits.
type Wake = Arc<dyn Fn() + Send + Sync>;

/// Names of spools begin with the time: sorted, the oldest come first.
type InLine = BTreeMap<(PathBuf, u64), Wake>;

/// The places and the lines for them. Clones share them.
#[derive(Clone)]
pub(super) struct Turns {
    most: usize,
    lines: Arc<Mutex<Lines>>,
}

#[derive(Default)]
struct Lines {
    numbers: u64,
    /// Who has a place, and whether the recording is over.
    open: BTreeMap<u64, Arc<AtomicBool>>,
    over: InLine,
    running: InLine,
    left: InLine,
}

/// A spool of which a file is to be made. Dropped, it stands in no line and has no place.
pub(super) struct Turn {
    turns: Turns,
    number: u64,
    spool: PathBuf,
    over: Arc<AtomicBool>,
    /// Left by an earlier run.
    left: bool,
    wake: Wake,
}

impl Turns {
    /// So many places, at least one. With a single one no recording is followed while it runs.
    pub fn new(most: usize) -> Self {
        Self { most: most.max(1), lines: Arc::default() }
    }

    /// Stands in no line yet. `over` says whether the recording is over; `left`: it is one of an earlier run.
    pub fn join(
        &self,
        spool: &Path,
        over: Arc<AtomicBool>,
        left: bool,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Turn {
        let number = {
            let mut lines = self.lines();
            lines.numbers += 1;
            lines.numbers
        };
        Turn { turns: self.clone(), number, spool: spool.to_owned(), over, left, wake: Arc::new(wake) }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes those whose turn it is now.
    pub fn wake(&self) {
        let due: Vec<Wake> = {
            let lines = self.lines();
            lines.due(self.most).map(|(_, wake)| Arc::clone(wake)).collect()
        };
        due.iter().for_each(|wake| wake());
    }
}

impl Lines {
    /// Whose turn it is.
    fn due(&self, most: usize) -> impl Iterator<Item = (u64, &Wake)> {
        let free = most.saturating_sub(self.open.len());
        let over = free.min(self.over.len());
        let followed = self.open.values().filter(|over| !over.load(Ordering::Acquire)).count();
        let running =
            (free - over).min(self.running.len()).min(most.saturating_sub(1).saturating_sub(followed));
        let left = free - over - running;
        let lines = [(&self.over, over), (&self.running, running), (&self.left, left)];
        lines
            .into_iter()
            .flat_map(|(line, count)| line.iter().take(count))
            .map(|((_, number), wake)| (*number, wake))
    }

    fn leave(&mut self, key: &(PathBuf, u64)) {
        self.over.remove(key);
        self.running.remove(key);
        self.left.remove(key);
    }
}

impl Turn {
    fn key(&self) -> (PathBuf, u64) {
        (self.spool.clone(), self.number)
    }

    /// Takes a place, if it is its turn; else stands in line and is woken when it is.
    pub fn take(&self) -> bool {
        let mut lines = self.turns.lines();
        if lines.open.contains_key(&self.number) {
            return true;
        }
        let key = self.key();
        // What ran when it asked last may be over by now.
        lines.leave(&key);
        let line = match (self.left, self.over.load(Ordering::Acquire)) {
            (true, _) => &mut lines.left,
            (false, true) => &mut lines.over,
            (false, false) => &mut lines.running,
        };
        line.insert(key.clone(), Arc::clone(&self.wake));
        let is_due = lines.due(self.turns.most).any(|(number, _)| number == self.number);
        if is_due {
            lines.leave(&key);
            lines.open.insert(self.number, Arc::clone(&self.over));
        }
        is_due
    }

    /// Gives up place and line.
    pub fn leave(&self) {
        let mut lines = self.turns.lines();
        lines.leave(&self.key());
        lines.open.remove(&self.number);
        drop(lines);
        self.turns.wake();
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Spool {
        turn: Turn,
        over: Arc<AtomicBool>,
        woken: Arc<AtomicBool>,
    }

    impl Spool {
        fn new(turns: &Turns, name: &str, over: bool, left: bool) -> Self {
            let (over, woken) = (Arc::new(AtomicBool::new(over)), Arc::new(AtomicBool::new(false)));
            let own = Arc::clone(&woken);
            let wake = move || own.store(true, Ordering::Release);
            let turn = turns.join(Path::new(name), Arc::clone(&over), left, wake);
            Self { turn, over, woken }
        }

        fn was_woken(&self) -> bool {
            self.woken.swap(false, Ordering::AcqRel)
        }
    }

    #[test]
    fn what_is_over_goes_before_what_still_runs_and_the_oldest_of_it_first() {
        let turns = Turns::new(3);
        let running: Vec<Spool> =
            (0..4).map(|n| Spool::new(&turns, &format!("a{n}"), false, false)).collect();
        let taken: Vec<bool> = running.iter().map(|spool| spool.turn.take()).collect();
        assert_eq!(taken, [true, true, false, false], "one place is never theirs");
        let (late, early) = (Spool::new(&turns, "c", true, false), Spool::new(&turns, "b", true, false));
        assert!(late.turn.take(), "nobody else is there");
        assert!(!early.turn.take());
        let third = Spool::new(&turns, "d", true, false);
        assert!(!third.turn.take());
        late.turn.leave();
        assert!(early.was_woken() && !third.was_woken() && !running[2].was_woken());
        assert!(!third.turn.take(), "not before the one that is older");
        assert!(early.turn.take());
        // A place of one that runs is for what is over as well.
        drop(early);
        running[0].turn.leave();
        assert!(third.was_woken() && running[2].was_woken(), "there are two");
        assert!(third.turn.take() && running[2].turn.take() && !running[3].turn.take());
        // One that is followed to its end leaves its share to the next.
        running[1].over.store(true, Ordering::Release);
        third.turn.leave();
        assert!(running[3].was_woken());
        assert!(running[3].turn.take());
    }

    #[test]
    fn what_waits_while_it_runs_goes_first_once_it_is_over() {
        let turns = Turns::new(2);
        let [one, other, ended] = ["a", "b", "c"].map(|name| Spool::new(&turns, name, name == "c", false));
        assert!(one.turn.take() && !other.turn.take() && ended.turn.take());
        other.over.store(true, Ordering::Release);
        let last = Spool::new(&turns, "d", true, false);
        assert!(!last.turn.take() && !other.turn.take());
        drop(ended);
        assert!(!last.turn.take() && other.turn.take());
    }

    #[test]
    fn with_a_single_place_nothing_is_followed() {
        let turns = Turns::new(1);
        let (running, over) = (Spool::new(&turns, "a", false, false), Spool::new(&turns, "b", true, false));
        assert!(!running.turn.take() && over.turn.take());
        running.over.store(true, Ordering::Release);
        assert!(!running.turn.take());
        drop(over);
        assert!(running.was_woken() && running.turn.take() && running.turn.take(), "asked twice, held once");
    }

    #[test]
    fn what_an_earlier_run_left_keeps_nobody_waiting() {
        let turns = Turns::new(2);
        let left: Vec<Spool> = (0..3).map(|n| Spool::new(&turns, &format!("a{n}"), true, true)).collect();
        assert!(left[0].turn.take() && left[1].turn.take() && !left[2].turn.take());
        let (running, over) = (Spool::new(&turns, "b", false, false), Spool::new(&turns, "c", true, false));
        assert!(!running.turn.take() && !over.turn.take());
        drop(over);
        left[0].turn.leave();
        assert!(!left[2].turn.take() && running.turn.take());
        left[1].turn.leave();
        assert!(left[2].was_woken() && left[2].turn.take());
    }

    #[test]
    fn whoever_is_lost_is_waited_for_by_nobody() {
        let turns = Turns::new(2);
        let (one, other) = (Spool::new(&turns, "a", true, false), Spool::new(&turns, "b", true, false));
        let (lost, next) = (Spool::new(&turns, "c", true, false), Spool::new(&turns, "d", true, false));
        assert!(one.turn.take() && other.turn.take() && !lost.turn.take() && !next.turn.take());
        drop(lost);
        drop(one);
        assert!(next.was_woken() && next.turn.take());
        let lines = turns.lines();
        assert!(lines.over.is_empty() && lines.running.is_empty() && lines.open.len() == 2);
    }
}
