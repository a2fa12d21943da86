//! Cameras that live on threads of their own, send numbered pictures and remember what was answered. The number is in
//! the picture, so faint that it is no motion, and survives a video encoder.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use meerkat_base::{Clock, Image, ImageWish, PixelFormat, SystemClock, WallTime};
use meerkat_vision::{decode_image, encode_jpeg};

use crate::harness::video_jpegs;

const WIDTH: usize = 320;
const HEIGHT: usize = 240;
/// Bits of a picture's number, each a block of the encoder's size along the upper edge.
const BITS: usize = 16;
const BLOCK: usize = 16;
/// Grey levels of a bit: less apart than what counts as motion.
const BIT_LEVELS: [u8; 2] = [118, 138];
/// Grey levels that count as motion, for the settings.
pub const MOTION_THRESHOLD: u32 = 60;
/// Longer than any answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// A picture with this number; with `step` something moves in it.
pub fn numbered(number: u16, step: Option<usize>) -> Vec<u8> {
    let mut pixels = vec![128u8; WIDTH * HEIGHT];
    for bit in 0..BITS {
        let level = BIT_LEVELS[usize::from(number >> bit & 1)];
        for y in 0..BLOCK {
            let from = y * WIDTH + (bit + 2) * BLOCK;
            pixels[from..from + BLOCK].fill(level);
        }
    }
    if let Some(step) = step {
        let left = step * 14 % (WIDTH - 60);
        for y in 100..160 {
            pixels[y * WIDTH + left..y * WIDTH + left + 60].fill(250);
        }
    }
    let colour: Vec<u8> = pixels.iter().flat_map(|&level| [level; 3]).collect();
    let image = Image::new(WIDTH as u32, HEIGHT as u32, PixelFormat::Bgr8, colour).unwrap();
    encode_jpeg(&image, 90).unwrap()
}

/// The number in a picture.
pub fn number_of(jpeg: &[u8]) -> u16 {
    let wish = ImageWish { format: PixelFormat::Gray8, enough_width: u32::MAX };
    let (image, _) = decode_image(jpeg, wish).unwrap();
    assert_eq!((image.width() as usize, image.height() as usize), (WIDTH, HEIGHT));
    (0..BITS)
        .map(|bit| {
            let sum: u32 = (4..12)
                .flat_map(|y| {
                    let from = y * WIDTH + (bit + 2) * BLOCK;
                    image.data()[from + 4..from + 12].iter().map(|&level| u32::from(level))
                })
                .sum();
            u16::from(sum > 64 * 128) << bit
        })
        .sum()
}

/// The numbers of all pictures in a video.
pub fn numbers_in(video: &Path) -> Vec<u16> {
    video_jpegs(video, 1, usize::MAX).iter().map(|jpeg| number_of(jpeg)).collect()
}

#[test]
fn a_number_is_read_back() {
    for number in [0, 1, 0x5555, 0xAAAA, u16::MAX] {
        assert_eq!(number_of(&numbered(number, Some(7))), number);
    }
}

/// A picture that was answered with `1`.
#[derive(Debug, Clone, Copy)]
pub struct Answered {
    pub number: u16,
    /// Before its first byte was sent.
    pub sent: WallTime,
    /// After the answer was there.
    pub answered: WallTime,
}

/// What one camera has been through.
#[derive(Debug, Clone, Default)]
pub struct Life {
    /// Numbers of the pictures that were sent, whether or not they were answered.
    pub sent: Vec<u16>,
    pub answered: Vec<Answered>,
    /// Pictures answered with `0`.
    pub refused: usize,
    /// Times the connection was lost and made anew.
    pub reconnects: usize,
    /// Longest wait for an answer.
    pub longest: Duration,
}

#[derive(Default)]
struct Shared {
    life: Mutex<Life>,
    answers: AtomicUsize,
    moving: AtomicBool,
    stopping: AtomicBool,
}

impl Shared {
    fn life(&self) -> std::sync::MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A camera on its thread. It connects again when it loses its connection.
pub struct Runner {
    pub id: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Runner {
    /// A camera with this id (none: it does not say) that sends a picture each `interval`.
    pub fn start(to: SocketAddr, id: &str, mode: u8, interval: Duration) -> Self {
        let shared = Arc::new(Shared::default());
        let (own, own_id) = (Arc::clone(&shared), id.to_owned());
        let thread = std::thread::spawn(move || live(to, &own_id, mode, interval, &own));
        Self { id: id.to_owned(), shared, thread: Some(thread) }
    }

    /// Pictures answered with `1` so far.
    pub fn answers(&self) -> usize {
        self.shared.answers.load(Ordering::Acquire)
    }

    /// What it has been through so far.
    pub fn so_far(&self) -> Life {
        self.shared.life().clone()
    }

    /// Whether something moves in its pictures.
    pub fn set_moving(&self, moving: bool) {
        self.shared.moving.store(moving, Ordering::Release);
    }

    /// Leaves and says what it has been through.
    #[track_caller]
    pub fn stop(mut self) -> Life {
        self.shared.stopping.store(true, Ordering::Release);
        self.thread.take().unwrap().join().unwrap();
        self.so_far()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
    }
}

fn join(to: SocketAddr, id: &str, mode: u8) -> Option<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&to, ANSWER_LIMIT).ok()?;
    stream.set_nodelay(true).ok()?;
    stream.set_read_timeout(Some(ANSWER_LIMIT)).ok()?;
    if !id.is_empty() {
        ask(&mut stream, format!("camera:{id}\n").as_bytes()).filter(|&answer| answer)?;
    }
    ask(&mut stream, format!("model{mode}").as_bytes()).filter(|&answer| answer)?;
    Some(stream)
}

fn ask(stream: &mut TcpStream, bytes: &[u8]) -> Option<bool> {
    stream.write_all(bytes).ok()?;
    let mut answer = [0];
    stream.read_exact(&mut answer).ok()?;
    Some(answer[0] == b'1')
}

fn live(to: SocketAddr, id: &str, mode: u8, interval: Duration, shared: &Shared) {
    let clock = SystemClock::new();
    let mut stream = join(to, id, mode);
    let mut due = Instant::now();
    for number in 0..=u16::MAX {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        due = Instant::now().max(due + interval);
        if shared.stopping.load(Ordering::Acquire) {
            return;
        }
        let Some(open) = &mut stream else {
            shared.life().reconnects += 1;
            stream = join(to, id, mode);
            continue;
        };
        let step = shared.moving.load(Ordering::Acquire).then_some(usize::from(number));
        let bytes = [b"start", &numbered(number, step)[..], b"end"].concat();
        shared.life().sent.push(number);
        let (sent, began) = (clock.wall(), Instant::now());
        let answer = ask(open, &bytes);
        let mut life = shared.life();
        life.longest = life.longest.max(began.elapsed());
        match answer {
            Some(true) => {
                life.answered.push(Answered { number, sent, answered: clock.wall() });
                shared.answers.fetch_add(1, Ordering::AcqRel);
            }
            Some(false) => life.refused += 1,
            None => stream = None,
        }
    }
}
