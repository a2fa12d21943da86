//! The one writer of the database. Others hand it pieces of work and wait for the answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use meerkat_store::{Store, StoreError};
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::storage::Room;
use crate::supervision::{ActorKind, Component, Crew, Failure, Inbox, Offer, Station, Step, fault};

/// Pieces of work that may wait.
const CAPACITY: usize = 1024;
/// Wait between two tries to open a database whose disk failed.
const REOPEN: Duration = Duration::from_millis(300);

/// A piece of work; `lose` tells whoever waits for it that it was lost, and keeps it from being done later.
struct Work {
    run: Run,
    lose: Lose,
}

type Run = Box<dyn FnOnce(&mut Store) -> Option<Trouble> + Send>;
type Lose = Box<dyn FnOnce() + Send>;

/// What the disk did to a piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// There is no room.
    Full,
    /// It failed, is gone or cannot be written; perhaps the database is on another mount by now.
    Failed,
}

impl Trouble {
    fn of(error: &StoreError) -> Option<Self> {
        if error.is_disk_full() { Some(Self::Full) } else { error.is_disk_failure().then_some(Self::Failed) }
    }
}

/// The work could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Too much work waits already.
    #[error("the archivist has too much to do")]
    Busy,
    /// The archivist failed while it was at it; whether it was done is unknown.
    #[error("the archivist failed")]
    Lost,
}

/// The way to the archivist. Clones lead to the same one.
#[derive(Clone)]
pub struct Archivist {
    queue: Arc<Queue>,
    station: Station,
}

struct Queue {
    inbox: Inbox<Work>,
    /// How to lose the piece of work in hand, by its number: its thread may hang and never say anything again.
    in_hand: Mutex<Option<(u64, Lose)>>,
    numbers: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    fn take(&self) -> Option<(u64, Run)> {
        let Work { run, lose } = self.inbox.take()?;
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        *lock(&self.in_hand) = Some((number, lose));
        Some((number, run))
    }

    fn done(&self, number: u64) {
        // Another number: this thread was given up meanwhile, and its successor has work in hand.
        lock(&self.in_hand).take_if(|(own, _)| *own == number);
    }

    fn lose_what_was_in_hand(&self) {
        if let Some((_, lose)) = lock(&self.in_hand).take() {
            lose();
        }
    }
}

impl Archivist {
    /// Opens the station. `open` opens the database, again after each failure; the first time is the
    /// caller's, so that a database that cannot be opened stops the node with a clear error.
    pub fn start(
        crew: &Crew,
        deadline: Duration,
        first: Store,
        room: Arc<Room>,
        open: impl Fn() -> Result<Store, StoreError> + Send + Sync + 'static,
    ) -> Self {
        let open: Arc<Open> = Arc::new(open);
        let queue = Arc::new(Queue {
            inbox: Inbox::new(ActorKind::Archivist, CAPACITY),
            in_hand: Mutex::new(None),
            numbers: AtomicU64::new(0),
        });
        let first = Mutex::new(Some(first));
        let own = Arc::clone(&queue);
        let station = crew.station(ActorKind::Archivist, None, deadline, move || {
            own.lose_what_was_in_hand();
            let ready = lock(&first).take();
            let store = match ready {
                Some(store) => store,
                None => open().map_err(Failure::error)?,
            };
            let (queue, room, open) = (Arc::clone(&own), Arc::clone(&room), Arc::clone(&open));
            let mount = room.answer().ok();
            Ok(Box::new(Desk { store, queue, room, open, mount, broken: None }))
        });
        station.wake();
        Self { queue, station }
    }

    /// Has a piece of work done and waits for its result.
    pub async fn ask<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, ArchiveError> {
        self.hand_in(work)?.await.map_err(|_| ArchiveError::Lost)?.map_err(ArchiveError::from)
    }

    /// As [`Archivist::ask`], from a thread that may block.
    pub fn ask_blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, ArchiveError> {
        self.hand_in(work)?.blocking_recv().map_err(|_| ArchiveError::Lost)?.map_err(ArchiveError::from)
    }

    /// Hands in a piece of work whose result nobody waits for. False: it was not taken.
    pub fn offer(&self, work: impl FnOnce(&mut Store) + Send + 'static) -> bool {
        let done = self.hand_in(move |store| {
            work(store);
            Ok(())
        });
        done.is_ok()
    }

    fn hand_in<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<R, StoreError>>, ArchiveError> {
        let (work, receiver) = package(work);
        match self.queue.inbox.offer(work) {
            Offer::Taken => {
                self.station.wake();
                Ok(receiver)
            }
            Offer::Full | Offer::Down => Err(ArchiveError::Busy),
        }
    }

    /// Pieces of work that wait.
    pub fn waiting(&self) -> usize {
        self.queue.inbox.len()
    }
}

fn package<R: Send + 'static>(
    work: impl FnOnce(&mut Store) -> Result<R, StoreError> + Send + 'static,
) -> (Work, oneshot::Receiver<Result<R, StoreError>>) {
    let (sender, receiver) = oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let own = Arc::clone(&sender);
    let run = Box::new(move |store: &mut Store| {
        if lock(&own).is_none() {
            // It was given up, and has been asked for again by now.
            return None;
        }
        let result = fault::database().and_then(|()| work(store));
        if result.as_ref().is_err_and(StoreError::is_damage) {
            store.suspect();
        }
        let trouble = result.as_ref().err().and_then(Trouble::of);
        if let Some(sender) = lock(&own).take() {
            // Nobody waiting any more is no reason not to have done it.
            let _ = sender.send(result);
        }
        trouble
    });
    let lose = Box::new(move || drop(lock(&sender).take()));
    (Work { run, lose }, receiver)
}

type Open = dyn Fn() -> Result<Store, StoreError> + Send + Sync;

struct Desk {
    store: Store,
    queue: Arc<Queue>,
    room: Arc<Room>,
    open: Arc<Open>,
    /// The mount of the data folder that the database was opened on.
    mount: Option<u64>,
    /// When the disk failed under it, or it was tried in vain to open it again.
    broken: Option<Instant>,
}

impl Desk {
    /// Opens the database again after its disk failed or came back on another mount. A disk that is not there yet is
    /// no failure of the archivist: whoever has work for it is told, and asks again. False: what is open lies on a
    /// disk that another has taken the place of, and nothing may be written there any more.
    fn mend(&mut self) -> bool {
        let here = self.room.answer().ok();
        let moved = here.is_some() && self.mount.is_some() && here != self.mount;
        let waits = self.broken.is_some_and(|at| at.elapsed() < REOPEN);
        if waits || !(moved || self.broken.is_some()) {
            if !moved {
                self.mount = self.mount.or(here);
            }
            return !moved;
        }
        match (self.open)() {
            Ok(store) => {
                info!("the database was opened again");
                (self.store, self.mount, self.broken) = (store, here, None);
                true
            }
            Err(problem) => {
                if self.broken.is_none() {
                    warn!(%problem, "the database cannot be opened again yet");
                }
                self.broken = Some(Instant::now());
                !moved
            }
        }
    }
}

impl Component for Desk {
    fn step(&mut self) -> Result<Step, Failure> {
        let Some((number, run)) = self.queue.take() else { return Ok(Step::Idle) };
        fault::point(ActorKind::Archivist, None)?;
        if !self.mend() {
            self.queue.lose_what_was_in_hand();
            return Ok(Step::Again);
        }
        let trouble = run(&mut self.store);
        self.queue.done(number);
        if self.store.is_suspect() {
            // Built again, with a database that was looked through or made anew.
            return Err(Failure::error("the database seems to be damaged"));
        }
        match trouble {
            None => {}
            Some(Trouble::Full) => self.room.database_full(),
            Some(Trouble::Failed) if self.broken.is_none() => {
                // At once, the first time.
                let now = Instant::now();
                self.broken = Some(now.checked_sub(REOPEN).unwrap_or(now));
            }
            Some(Trouble::Failed) => {}
        }
        Ok(Step::Again)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;

    use meerkat_base::SystemClock;
    use meerkat_store::{DataLock, StoreOptions};

    use super::*;
    use crate::supervision::{BackoffSettings, Board, CrewSettings, Watch};

    const DEADLINE: Duration = Duration::from_millis(300);

    struct Rig {
        archivist: Archivist,
        opened: Arc<AtomicUsize>,
        room: Arc<Room>,
        folder: tempfile::TempDir,
        _watch: Watch,
        _system: actix::SystemRunner,
    }

    /// `bad` says that the database cannot be opened the next so many times.
    fn rig(bad: usize) -> Rig {
        let system = actix::System::new();
        let board = Board::new(Arc::new(SystemClock::new()));
        let backoff = BackoffSettings { min: Duration::from_millis(20), max: Duration::from_millis(50) };
        let settings = CrewSettings { name: "archive", threads: 1, niceness: 0, backoff };
        let crew = Crew::start(settings, board.clone());
        let watch = Watch::start(board, 64, || {}).unwrap();
        watch.crew(crew.clone());
        let folder = tempfile::tempdir().unwrap();
        // Held by the node, not by a generation: one that hangs keeps its store.
        let data = DataLock::take(folder.path()).unwrap();
        let first = Store::open_under(&data, StoreOptions::default()).unwrap();
        let opened = Arc::new(AtomicUsize::new(0));
        let own = Arc::clone(&opened);
        let room = crate::testing::room(folder.path());
        let archivist = Archivist::start(&crew, DEADLINE, first, Arc::clone(&room), move || {
            if own.fetch_add(1, Ordering::SeqCst) < bad {
                return Err(StoreError::Refused("not now".to_owned()));
            }
            Store::open_under(&data, StoreOptions::default())
        });
        Rig { archivist, opened, room, folder, _watch: watch, _system: system }
    }

    fn count(archivist: &Archivist) -> Result<u64, ArchiveError> {
        archivist.ask_blocking(|store| store.event_count())
    }

    #[test]
    fn work_is_done_in_its_order_and_errors_are_told() {
        let rig = rig(0);
        let done = Arc::new(Mutex::new(Vec::new()));
        let waiting: Vec<_> = (0..50)
            .map(|n| {
                let done = Arc::clone(&done);
                let work = move |_: &mut Store| {
                    lock(&done).push(n);
                    if n % 2 == 0 { Ok(n) } else { Err(StoreError::Refused(n.to_string())) }
                };
                rig.archivist.hand_in(work).unwrap()
            })
            .collect();
        for (n, answer) in waiting.into_iter().enumerate() {
            let answer = answer.blocking_recv().unwrap();
            assert_eq!(answer.is_ok(), n % 2 == 0);
        }
        assert_eq!(*lock(&done), (0..50).collect::<Vec<_>>());
        assert_eq!(rig.archivist.waiting(), 0);
    }

    #[test]
    fn nothing_is_written_to_a_disk_that_another_has_taken_the_place_of() {
        let rig = rig(1);
        let (data, aside) = (rig.folder.path().to_owned(), rig.folder.path().with_extension("aside"));
        assert_eq!(count(&rig.archivist).unwrap(), 0);
        // Another disk with the same name tag, as far as the node can see.
        std::fs::rename(&data, &aside).unwrap();
        std::fs::create_dir(&data).unwrap();
        std::fs::copy(aside.join("meerkat.id"), data.join("meerkat.id")).unwrap();
        rig.room.look().unwrap();
        let event = |n| crate::testing::event(&crate::testing::plain_frame(n), n);
        let write = |n| {
            let event = event(n);
            rig.archivist.ask_blocking(move |store| store.start_event(&event, &[]))
        };
        assert!(matches!(write(1), Err(ArchiveError::Lost)), "it cannot be opened there yet");
        while write(2).is_err() {
            std::thread::yield_now();
        }
        assert_eq!(rig.opened.load(Ordering::SeqCst), 2);
        assert_eq!(count(&rig.archivist).unwrap(), 1);
        let old = meerkat_store::StoreReader::open(&aside).unwrap();
        assert_eq!(old.event_count().unwrap(), 0);
        std::fs::remove_dir_all(&aside).unwrap();
    }

    #[test]
    fn work_that_panics_is_lost_and_what_waited_behind_it_is_done() {
        let rig = rig(0);
        let lost = rig.archivist.hand_in::<()>(|_| panic!("broken on purpose")).unwrap();
        let behind = rig.archivist.hand_in(|store| store.event_count()).unwrap();
        assert!(lost.blocking_recv().is_err(), "whoever waits learns that it was lost");
        assert_eq!(behind.blocking_recv().unwrap().unwrap(), 0);
        assert_eq!(rig.opened.load(Ordering::SeqCst), 1, "a new generation opens the database again");
    }

    #[test]
    fn work_that_hangs_is_lost_at_the_deadline_and_is_not_done_when_the_thread_comes_back() {
        let rig = rig(0);
        let (release, hanging) = mpsc::channel::<()>();
        let lost = rig.archivist.hand_in(move |_| Ok(hanging.recv().is_ok())).unwrap();
        let began = std::time::Instant::now();
        assert!(lost.blocking_recv().is_err());
        assert!(began.elapsed() >= DEADLINE);
        // The hanging thread is there still; everybody else is served.
        assert_eq!(count(&rig.archivist).unwrap(), 0);
        assert_eq!(count(&rig.archivist).unwrap(), 0);
        // When it comes back it takes nothing from its successor.
        release.send(()).unwrap();
        for _ in 0..50 {
            assert_eq!(count(&rig.archivist).unwrap(), 0);
        }
    }

    #[test]
    fn a_piece_of_work_that_was_given_up_before_it_began_is_never_done() {
        let (folder, done) = (tempfile::tempdir().unwrap(), Arc::new(AtomicUsize::new(0)));
        let mut store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        let queue = Queue {
            inbox: Inbox::new(ActorKind::Archivist, CAPACITY),
            in_hand: Mutex::new(None),
            numbers: AtomicU64::new(0),
        };
        let counted = Arc::clone(&done);
        let (work, receiver) = package(move |_: &mut Store| Ok(counted.fetch_add(1, Ordering::SeqCst)));
        assert_eq!(queue.inbox.offer(work), Offer::Taken);
        let (_, run) = queue.take().unwrap();
        // Its thread hangs right here, before the work; the next generation begins.
        queue.lose_what_was_in_hand();
        assert!(receiver.blocking_recv().is_err());
        run(&mut store);
        assert_eq!(done.load(Ordering::SeqCst), 0, "it has been asked for again by now");
    }

    #[test]
    fn a_database_that_cannot_be_opened_is_tried_again_and_nothing_that_waits_is_forgotten() {
        let rig = rig(3);
        let lost = rig.archivist.hand_in::<()>(|_| panic!("broken on purpose")).unwrap();
        let behind = rig.archivist.hand_in(|store| store.event_count()).unwrap();
        assert!(lost.blocking_recv().is_err());
        assert_eq!(behind.blocking_recv().unwrap().unwrap(), 0);
        assert_eq!(rig.opened.load(Ordering::SeqCst), 4);
    }

    #[test]
    fn a_database_that_seems_damaged_is_opened_again_before_more_is_written() {
        let rig = rig(1);
        let damage = || -> Result<(), StoreError> {
            let (path, reason) = ("meerkat.db".into(), "for the test".to_owned());
            Err(StoreError::Damaged { path, reason })
        };
        let refused = rig.archivist.ask_blocking(move |_| damage()).unwrap_err();
        assert!(matches!(refused, ArchiveError::Store(StoreError::Damaged { .. })), "{refused}");
        assert!(rig.archivist.ask_blocking(|store| Ok(store.is_suspect())).unwrap());
        assert!(rig.opened.load(Ordering::SeqCst) >= 2, "whoever opens it decides when it is in order");
    }

    #[test]
    fn a_disk_that_failed_is_no_failure_of_the_archivist_and_the_database_is_opened_again() {
        let rig = rig(1);
        let broken = || Err::<(), _>(StoreError::Refused(String::new()));
        assert!(rig.archivist.ask_blocking(move |_| broken()).is_err());
        assert_eq!(rig.opened.load(Ordering::SeqCst), 0, "a refusal is no failure of the disk");
        let error = || {
            Err::<(), _>(StoreError::Io {
                path: "meerkat.db".into(),
                source: std::io::ErrorKind::ReadOnlyFilesystem.into(),
            })
        };
        assert!(rig.archivist.ask_blocking(move |_| error()).is_err());
        // The first try to open it again fails; what is asked meanwhile goes to the old one.
        let give_up = Instant::now() + Duration::from_secs(30);
        while rig.opened.load(Ordering::SeqCst) < 2 {
            assert_eq!(count(&rig.archivist).unwrap(), 0);
            assert!(Instant::now() < give_up, "it is opened again");
            std::thread::yield_now();
        }
        assert_eq!(count(&rig.archivist).unwrap(), 0);
        assert_eq!(rig.opened.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn more_than_can_wait_is_refused() {
        let rig = rig(0);
        let (release, hanging) = mpsc::channel::<()>();
        let first = rig.archivist.hand_in(move |_| Ok(hanging.recv().is_ok())).unwrap();
        let mut waiting = Vec::new();
        let refused = loop {
            match rig.archivist.hand_in(|_| Ok(())) {
                Ok(answer) => waiting.push(answer),
                Err(refused) => break refused,
            }
            assert!(waiting.len() <= CAPACITY + 1);
        };
        assert!(matches!(refused, ArchiveError::Busy), "{refused}");
        release.send(()).unwrap();
        // In time or, on a slow machine, lost at the deadline; but told in any case.
        let _ = first.blocking_recv();
        assert!(waiting.into_iter().all(|answer| answer.blocking_recv().is_ok()));
    }
}
