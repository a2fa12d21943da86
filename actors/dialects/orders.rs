//! Pictures of clients on their way to a station and back: a bounded queue, first come, first served; what each station has in
//! hand; and a time by which everybody has an answer. Looks at no picture.
//!
//! What is in hand of a station that is lost is told to whoever waits for it when the station is built again; the picture is
//! then given to the next one, once.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use meerkat_base::metric;
use metrics::{counter, histogram};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use crate::supervision::{ActorKind, Inbox, Offer, Station};

/// Why a picture was not examined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExamineError {
    /// It cannot be decoded.
    #[error("not a picture: {0}")]
    NotAPicture(String),
    /// The station failed with it, and so did the next one.
    #[error("the picture could not be looked at")]
    Lost,
    /// It was not its turn in time, or the look took too long.
    #[error("nobody had time for the picture")]
    Late,
    /// Nobody here knows how.
    #[error("no network for that is here")]
    NoNetwork,
    /// The node is going down.
    #[error("nobody is there to examine pictures")]
    Nobody,
}

impl ExamineError {
    fn as_str(&self) -> &'static str {
        match self {
            ExamineError::NotAPicture(_) => "not_a_picture",
            ExamineError::Lost | ExamineError::Nobody => "lost",
            ExamineError::Late => "late",
            ExamineError::NoNetwork => "no_network",
        }
    }
}

type Answer<A> = Result<A, ExamineError>;

/// Makes the series of examinations there from the start, as 0.
pub(super) fn announce() {
    for result in ["ok", "not_a_picture", "lost", "late", "no_network"] {
        counter!(metric::EXAMINED, "result" => result).increment(0);
    }
    let _ = histogram!(metric::EXAMINE_DURATION);
}

/// A picture that waits, with what is wished of it.
struct Order<W, A> {
    work: Work<W>,
    answer: oneshot::Sender<Answer<A>>,
    /// Its place among those that wait; given back when a station takes it, so that one that hangs keeps none.
    _place: OwnedSemaphorePermit,
}

/// A picture that a station has in hand.
pub(super) struct Work<W> {
    pub picture: Bytes,
    pub wish: W,
    since: Instant,
}

/// Where a station keeps who waits for what it has in hand; outlives its component.
pub(super) struct Hand<A>(Arc<Mutex<Option<oneshot::Sender<Answer<A>>>>>);

impl<A> Clone for Hand<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A> Default for Hand<A> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<A> Hand<A> {
    fn lock(&self) -> MutexGuard<'_, Option<oneshot::Sender<Answer<A>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whoever waits for what the station had in hand that it is lost. Called before the station is built again.
    pub fn let_go(&self) {
        drop(self.lock().take());
    }

    /// Answers the piece of work in hand.
    pub fn answer<W>(&self, work: Work<W>, answer: Answer<A>) {
        histogram!(metric::EXAMINE_DURATION).record(work.since.elapsed());
        if let Some(waiting) = self.lock().take() {
            // Whoever asked may be gone.
            let _ = waiting.send(answer);
        }
    }
}

/// The way to the stations. Clones share it.
pub(super) struct Orders<W, A> {
    shared: Arc<Shared<W, A>>,
}

struct Shared<W, A> {
    places: Arc<Semaphore>,
    inbox: Inbox<Order<W, A>>,
    stations: OnceLock<Vec<Station>>,
    patience: Duration,
}

impl<W, A> Clone for Orders<W, A> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<W: Copy, A> Orders<W, A> {
    /// Room for so many pictures that wait, each answered within `patience`.
    pub fn new(waiting: usize, patience: Duration) -> Self {
        let shared = Shared {
            places: Arc::new(Semaphore::new(waiting)),
            inbox: Inbox::new(ActorKind::Examiner, waiting),
            stations: OnceLock::new(),
            patience,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Puts stations to work. Once.
    pub fn set_stations(&self, stations: Vec<Station>) {
        stations.iter().for_each(Station::wake);
        let _ = self.shared.stations.set(stations);
    }

    /// Has a picture looked at. Waits its turn; how many may wait is up to the limits of connections.
    pub async fn ask(&self, picture: Bytes, wish: W) -> Answer<A> {
        let twice = async {
            match self.once(picture.clone(), wish).await {
                Err(ExamineError::Lost) => {
                    count("lost");
                    self.once(picture, wish).await
                }
                answer => answer,
            }
        };
        let answer = timeout(self.shared.patience, twice).await.unwrap_or(Err(ExamineError::Late));
        count(answer.as_ref().err().map_or("ok", ExamineError::as_str));
        answer
    }

    async fn once(&self, picture: Bytes, wish: W) -> Answer<A> {
        let since = Instant::now();
        let place = Arc::clone(&self.shared.places).acquire_owned().await;
        let place = place.map_err(|_| ExamineError::Nobody)?;
        let (answer, answered) = oneshot::channel();
        let order = Order { work: Work { picture, wish, since }, answer, _place: place };
        let stations = self.shared.stations.get().map(Vec::as_slice).unwrap_or_default();
        match self.shared.inbox.offer(order) {
            Offer::Taken if !stations.is_empty() => stations.iter().for_each(Station::wake),
            _ => return Err(ExamineError::Nobody),
        }
        // Dropped without a word: the station that had it is lost.
        answered.await.unwrap_or(Err(ExamineError::Lost))
    }

    /// The next picture for a station, which has it in hand from now on. One for which nobody waits any more is passed
    /// over.
    pub fn take(&self, hand: &Hand<A>) -> Option<Work<W>> {
        loop {
            let Order { work, answer, _place } = self.shared.inbox.take()?;
            if !answer.is_closed() {
                *hand.lock() = Some(answer);
                return Some(work);
            }
        }
    }

    /// Nobody's picture is looked at any more.
    pub fn close(&self) {
        self.shared.places.close();
        self.shared.stations.get().into_iter().flatten().for_each(Station::close);
        while self.shared.inbox.take().is_some() {}
    }
}

fn count(result: &'static str) {
    counter!(metric::EXAMINED, "result" => result).increment(1);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use meerkat_base::SystemClock;

    use super::*;
    use crate::supervision::{BackoffSettings, Board, Component, Crew, CrewSettings, Failure, Step, Watch};

    const LONG: Duration = Duration::from_secs(60);

    /// Gives back its wish. Fails with the first pictures, and hangs with 13 once.
    struct Clerk {
        orders: Orders<u32, u32>,
        hand: Hand<u32>,
        failures: Arc<AtomicUsize>,
        hangs: Arc<Mutex<Option<mpsc::Receiver<()>>>>,
    }

    impl Component for Clerk {
        fn step(&mut self) -> Result<Step, Failure> {
            let Some(work) = self.orders.take(&self.hand) else { return Ok(Step::Idle) };
            let one_less = |left: usize| left.checked_sub(1);
            if self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
                return Err(Failure::error("a clerk that fails"));
            }
            let hangs = if work.wish == 13 { self.hangs.lock().unwrap().take() } else { None };
            if let Some(hangs) = hangs {
                let _ = hangs.recv();
            }
            let wish = work.wish;
            self.hand.answer(work, if wish == 7 { Err(ExamineError::NoNetwork) } else { Ok(wish) });
            Ok(Step::Again)
        }
    }

    struct Office {
        orders: Orders<u32, u32>,
        crew: Crew,
        _watch: Watch,
        /// Dropped, it lets a clerk go that hangs.
        _hangs: mpsc::Sender<()>,
    }

    fn office(patience: Duration, failures: usize) -> Office {
        let backoff = BackoffSettings { min: Duration::from_millis(1), max: Duration::from_millis(2) };
        // Time passes for whoever hangs.
        let board = Board::new(Arc::new(SystemClock::new()));
        let settings = CrewSettings { name: "detect", threads: 1, niceness: 0, backoff };
        let crew = Crew::start(settings, board.clone());
        let watch = Watch::start(board, 9, || {}).unwrap();
        watch.crew(crew.clone());
        let orders = Orders::new(1, patience);
        let (own, hand, failures) = (orders.clone(), Hand::default(), Arc::new(AtomicUsize::new(failures)));
        let (hangs, waits) = mpsc::channel();
        let waits = Arc::new(Mutex::new(Some(waits)));
        let station = crew.station(ActorKind::Examiner, None, Duration::from_millis(200), move || {
            hand.let_go();
            let (orders, hand) = (own.clone(), hand.clone());
            let (failures, hangs) = (Arc::clone(&failures), Arc::clone(&waits));
            Ok(Box::new(Clerk { orders, hand, failures, hangs }))
        });
        orders.set_stations(vec![station]);
        Office { orders, crew, _watch: watch, _hangs: hangs }
    }

    #[test]
    fn a_picture_is_given_to_the_next_station_once() {
        crate::in_system(async {
            let one = office(LONG, 1);
            assert_eq!(one.orders.ask(Bytes::new(), 3).await, Ok(3));
            let two = office(LONG, 2);
            assert_eq!(two.orders.ask(Bytes::new(), 3).await, Err(ExamineError::Lost));
            assert_eq!(two.orders.ask(Bytes::new(), 4).await, Ok(4), "the next one is looked at");
            assert_eq!(two.orders.ask(Bytes::new(), 7).await, Err(ExamineError::NoNetwork));
            two.orders.close();
            assert_eq!(two.orders.ask(Bytes::new(), 4).await, Err(ExamineError::Nobody));
            let hanging = office(LONG, 0);
            assert_eq!(hanging.orders.ask(Bytes::new(), 13).await, Ok(13), "its thread is given up");
            for office in [one, two, hanging] {
                office.crew.stop(Duration::from_secs(5));
            }
        });
    }

    #[test]
    fn everybody_has_an_answer_in_time_also_where_nobody_ever_looks() {
        crate::in_system(async {
            let elsewhere = office(LONG, 0);
            let hopeless = Orders::<u32, u32>::new(1, Duration::from_millis(50));
            // Stations that find nothing here, as when no recogniser can be made.
            let _ = hopeless.shared.stations.set(elsewhere.orders.shared.stations.get().unwrap().clone());
            let (one, two) = tokio::join!(hopeless.ask(Bytes::new(), 1), hopeless.ask(Bytes::new(), 2));
            assert_eq!(
                (one, two),
                (Err(ExamineError::Late), Err(ExamineError::Late)),
                "in line, and before it"
            );
            assert_eq!(hopeless.shared.inbox.len(), 1);
            assert!(hopeless.take(&Hand::default()).is_none(), "nobody waits for it any more");
            assert_eq!(hopeless.shared.places.available_permits(), 1, "and its place is free");
            elsewhere.crew.stop(Duration::from_secs(5));
        });
    }
}
