//! Tests of the door that dialects share, with a dialect that repeats what it hears.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use meerkat_base::{ManualClock, Shutdown};
use meerkat_settings::{DialectsSettings, DoorSettings, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::door::{Door, House};
use super::{Dialect, End, IO_DEADLINE};
use crate::session::{IoGroup, listen};
use crate::supervision::Board;
use crate::testing::{NOON, cameras};

/// Repeats what it hears; `!` makes it panic, `?` makes it refuse.
struct Parrot {
    talks: Arc<AtomicUsize>,
}

impl Dialect for Parrot {
    const REASONS: &'static [&'static str] = &["question"];

    fn name(&self) -> &'static str {
        "parrot"
    }

    fn door<'s>(&self, settings: &'s DialectsSettings) -> Option<&'s DoorSettings> {
        settings.watch.as_ref().map(|watch| &watch.door)
    }

    async fn talk(self: Arc<Self>, mut stream: TcpStream, _peer: SocketAddr) -> End {
        self.talks.fetch_add(1, Ordering::SeqCst);
        let mut heard = [0; 64];
        loop {
            match stream.read(&mut heard).await {
                Ok(0) => return End::Left,
                Ok(_) if heard[0] == b'!' => panic!("a parrot that panics"),
                Ok(_) if heard[0] == b'?' => return End::Refused("question"),
                Ok(n) => {
                    if let Err(error) = stream.write_all(&heard[..n]).await {
                        return End::Broken(error.to_string());
                    }
                }
                Err(error) => return End::Broken(error.to_string()),
            }
        }
    }
}

struct Aviary {
    address: SocketAddr,
    talks: Arc<AtomicUsize>,
    shutdown: Shutdown,
    io: IoGroup,
}

/// Opens the door of a parrot with these limits.
fn aviary(keys: &[(&str, &str)]) -> Aviary {
    let clock = ManualClock::new(NOON);
    let mut all = vec![("dialects.watch.listen", "127.0.0.1:0"), ("dialects.watch.camera", "yard")];
    all.extend(keys);
    let cameras = cameras(&clock, &all);
    let board = Board::new(Arc::new(clock));
    let io = IoGroup::start(1, IO_DEADLINE, board).unwrap();
    let (talks, shutdown) = (Arc::new(AtomicUsize::new(0)), Shutdown::new());
    let settings: Arc<Settings> = cameras.settings();
    let opened_with = settings.dialects.watch.clone().unwrap().door;
    let house = House { io: io.clone(), cameras, shutdown: shutdown.clone() };
    let listener = listen(opened_with.listen[0], "dialects.watch.listen").unwrap();
    let address = listener.local_addr().unwrap();
    let parrot = Parrot { talks: Arc::clone(&talks) };
    Door::new(parrot, &opened_with, house).open(listener).unwrap();
    Aviary { address, talks, shutdown, io }
}

async fn says(stream: &mut TcpStream, word: &[u8]) -> Vec<u8> {
    let mut answer = vec![0; 64];
    if stream.write_all(word).await.is_err() {
        return Vec::new();
    }
    let n = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut answer))
        .await
        .expect("an answer or the end")
        .unwrap_or(0);
    answer.truncate(n);
    answer
}

#[test]
fn one_that_panics_is_counted_and_harms_nobody() {
    crate::in_system(async {
        let aviary = aviary(&[]);
        let mut good = TcpStream::connect(aviary.address).await.unwrap();
        assert_eq!(says(&mut good, b"hello").await, b"hello");
        let mut bad = TcpStream::connect(aviary.address).await.unwrap();
        assert_eq!(says(&mut bad, b"!").await, b"");
        assert_eq!(says(&mut good, b"still here").await, b"still here");
        let mut next = TcpStream::connect(aviary.address).await.unwrap();
        assert_eq!(says(&mut next, b"and others").await, b"and others");
        assert_eq!(aviary.talks.load(Ordering::SeqCst), 3);
        aviary.io.stop(Duration::ZERO);
    });
}

#[test]
fn limits_hold_and_a_refused_peer_is_let_in_again() {
    crate::in_system(async {
        let aviary = aviary(&[("dialects.watch.max_connections_per_address", "2")]);
        let mut first = TcpStream::connect(aviary.address).await.unwrap();
        assert_eq!(says(&mut first, b"one").await, b"one");
        let mut second = TcpStream::connect(aviary.address).await.unwrap();
        assert_eq!(says(&mut second, b"two").await, b"two");
        let mut third = TcpStream::connect(aviary.address).await.unwrap();
        assert_eq!(says(&mut third, b"three").await, b"", "one too many");
        assert_eq!(says(&mut second, b"?").await, b"", "refused");
        // Its place is free again after a moment.
        let end = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let mut again = TcpStream::connect(aviary.address).await.unwrap();
            if says(&mut again, b"again").await == b"again" {
                break;
            }
            assert!(tokio::time::Instant::now() < end, "the place is never free again");
        }
        aviary.io.stop(Duration::ZERO);
    });
}

#[test]
fn who_is_not_on_the_list_stays_outside() {
    crate::in_system(async {
        let aviary = aviary(&[("dialects.watch.allow", "10.0.0.0/8")]);
        let mut stream = TcpStream::connect(aviary.address).await.unwrap();
        assert_eq!(says(&mut stream, b"hello").await, b"");
        assert_eq!(aviary.talks.load(Ordering::SeqCst), 0);
        aviary.io.stop(Duration::ZERO);
    });
}

#[test]
fn everybody_is_gone_soon_after_the_signal() {
    crate::in_system(async {
        let aviary = aviary(&[]);
        let mut stream = TcpStream::connect(aviary.address).await.unwrap();
        assert_eq!(says(&mut stream, b"hello").await, b"hello");
        aviary.shutdown.trigger();
        let mut end = [0; 1];
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut end)).await.unwrap();
        assert!(matches!(read, Ok(0) | Err(_)));
        aviary.io.stop(Duration::ZERO);
    });
}

#[test]
fn a_port_that_is_taken_is_an_error_that_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = listen(address, "dialects.watch.listen").unwrap_err().to_string();
    assert!(error.contains(&address.to_string()), "{error}");
}

#[test]
fn threads_that_were_ended_do_not_hang() {
    crate::in_system(async {
        let deadline = Duration::from_millis(1);
        let board = Board::new(Arc::new(ManualClock::new(NOON)));
        let io = IoGroup::start(1, deadline, board.clone()).unwrap();
        io.stop(Duration::ZERO);
        let began = Instant::now();
        while began.elapsed() < deadline * 50 {
            io.tick(began);
            std::thread::yield_now();
        }
        assert_eq!(board.abandoned_threads(), 0);
    });
}
