//! `meerkat push`: a camera made of files, streams or a drawn scene, for trying and measuring a node.

mod link;
pub(super) mod source;
pub(super) mod tally;

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use bytes::Bytes;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use meerkat_base::{CameraId, Clock, Mode, MonoTime, Secret, Shutdown, SystemClock};
use meerkat_wire::frame::Answer;
use tokio::sync::mpsc::{Receiver, channel};

use self::link::{Introduction, Link, LinkError};
use self::source::{Due, Given, Source};
use self::tally::Tally;
use super::settings_args::host_and_port;
use super::{CliError, logging};

/// Send pictures or videos to a node, as a camera would
///
/// Prints at the end how many frames were accepted and how long the answers took. Pictures are sent unchanged, as fast
/// as they are answered; videos at their own pace, made JPEG if they are not; streams and devices as they come.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  meerkat push --to 127.0.0.1:9000 --mode 1 photos/
  meerkat push --to 127.0.0.1:9000 --mode 4 --camera yard walk.mp4
  meerkat push --to 127.0.0.1:9000 --mode 3 --fps 20 --loop still.jpg
  meerkat push --to 127.0.0.1:9000 --mode 3 --frames 600 synthetic
  MEERKAT_PUSH_TOKEN=… meerkat push --to 127.0.0.1:9000 --mode 5 --camera door /dev/video0

Modes: 1 store pictures, 2 make a video, 3 guard a still object, 4 find people, 5 recognise faces.
Exit codes: 0 done, 1 the connection or a source failed or no frame was accepted, 2 wrong arguments.")]
pub struct PushArgs {
    /// Where the node listens for cameras
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    to: String,

    /// What the node does with the frames, 1 to 5
    #[arg(long, value_parser = parse_mode)]
    mode: Mode,

    /// Say hello as this camera
    #[arg(long, value_name = "ID", value_parser = CameraId::parse)]
    camera: Option<CameraId>,

    /// The camera's token; better given as the variable
    #[arg(long, env = "MEERKAT_PUSH_TOKEN", hide_env_values = true, requires = "camera", value_parser = parse_token)]
    token: Option<Secret>,

    /// Frames per second, instead of the sources' own pace
    #[arg(long, value_name = "N", value_parser = parse_fps, allow_negative_numbers = true)]
    fps: Option<f64>,

    /// Begin again at the end, and connect again when the connection is lost
    #[arg(long = "loop")]
    forever: bool,

    /// Stop after this many frames
    #[arg(long, value_name = "N")]
    frames: Option<u64>,

    /// JPEG quality of frames that are not JPEG already
    #[arg(long, value_name = "N", default_value_t = 85, value_parser = clap::value_parser!(u8).range(1..=100))]
    quality: u8,

    /// Picture files, folders of pictures, video files, rtsp:// or http:// addresses, /dev/videoN, or: synthetic
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<String>,
}

fn parse_mode(text: &str) -> Result<Mode, String> {
    text.parse().ok().and_then(Mode::from_number).ok_or_else(|| "a mode is a number from 1 to 5".into())
}

fn parse_token(text: &str) -> Result<Secret, String> {
    if text.is_empty() { Err("it is empty".into()) } else { Ok(Secret::new(text)) }
}

fn parse_fps(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|fps| (0.001..=10_000.0).contains(fps))
        .ok_or_else(|| "a number of frames per second from 0.001 to 10000".into())
}

/// Time that the frame at hand takes at most when nobody wants it any more.
const LAST_FRAME: Duration = Duration::from_secs(2);

/// Sends everything and prints the result.
pub fn run(args: PushArgs) -> Result<(), CliError> {
    logging::start_quiet()?;
    let sources = Source::parse_all(&args.sources)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| anyhow!(error).context("the runtime cannot be started"))?;
    let stop = Shutdown::new();
    let bar = progress_bar(&args, &sources);
    let clock = SystemClock::new();
    let mut pusher = Pusher::new(&args, bar, &clock);
    let (given, reading) = start_reading(sources, &args, stop.clone());
    let ended = runtime.block_on(async {
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => None,
            result = pusher.push_all(given) => Some(result),
        }
    });
    stop.trigger();
    // A thread inside OpenCV must not be there any more when the process takes its libraries down. One that hangs in a
    // stream is not waited for.
    let patience = Instant::now() + LAST_FRAME;
    while !reading.is_finished() && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(1));
    }
    pusher.bar.finish_and_clear();
    if pusher.tally.answered() > 0 {
        println!("{}", pusher.tally);
    }
    match ended {
        Some(Err(error)) => Err(CliError::Failed(error.into())),
        _ if pusher.failed_sources > 0 => Err(CliError::Reported),
        Some(Ok(())) if pusher.tally.answered() == 0 => Err(anyhow!("there was no frame to send").into()),
        Some(Ok(())) if pusher.tally.accepted() == 0 => {
            Err(anyhow!("the node accepted none of the frames").into())
        }
        _ => Ok(()),
    }
}

/// Reads on a thread of its own, a few frames ahead. The thread ends by itself when nobody takes its frames.
fn start_reading(sources: Vec<Source>, args: &PushArgs, stop: Shutdown) -> (Receiver<Given>, JoinHandle<()>) {
    let (to, given) = channel(4);
    let (forever, quality) = (args.forever, args.quality);
    let reading = std::thread::spawn(move || source::give_all(&sources, forever, quality, &stop, &to));
    (given, reading)
}

/// A bar on a terminal; nothing where the standard error output goes elsewhere.
fn progress_bar(args: &PushArgs, sources: &[Source]) -> ProgressBar {
    let known = || sources.iter().map(Source::frames_hint).sum::<Option<u64>>();
    let total = args.frames.or_else(|| if args.forever { None } else { known() });
    let (bar, template) = match total {
        Some(total) => {
            (ProgressBar::new(total), "{wide_bar} {pos}/{len} frames, {per_sec}, refused {msg}, {eta} left")
        }
        None => (ProgressBar::new_spinner(), "{spinner} {pos} frames, {per_sec}, refused {msg}, {elapsed}"),
    };
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message("0");
    bar
}

/// Sends frames when they are due and enters the answers.
struct Pusher<'c> {
    to: String,
    introduction: Introduction,
    forever: bool,
    limit: Option<u64>,
    pace: Pace,
    clock: &'c dyn Clock,
    link: Option<Link>,
    tally: Tally,
    failed_sources: u64,
    bar: ProgressBar,
    /// Wait before the first new attempt to connect; it doubles up to [`LONGEST_WAIT`].
    first_wait: Duration,
}

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

impl<'c> Pusher<'c> {
    fn new(args: &PushArgs, bar: ProgressBar, clock: &'c dyn Clock) -> Self {
        let camera = args.camera.clone().map(|id| (id, args.token.clone()));
        Self {
            to: args.to.clone(),
            introduction: Introduction { camera, mode: args.mode },
            forever: args.forever,
            limit: args.frames,
            pace: Pace::new(args.fps),
            clock,
            link: None,
            tally: Tally::new(),
            failed_sources: 0,
            bar,
            first_wait: FIRST_WAIT,
        }
    }

    async fn push_all(&mut self, mut given: Receiver<Given>) -> Result<(), LinkError> {
        // Connected before the first frame is there, so that an absent node is noticed at once.
        if !self.forever {
            self.link = Some(Link::open(&self.to, &self.introduction).await?);
        }
        while self.limit.is_none_or(|limit| self.tally.answered() < limit) {
            let Some(given) = given.recv().await else { break };
            match given {
                Given::Failed(error) => {
                    self.failed_sources += 1;
                    self.say(&format!("{error:#}"));
                }
                Given::Frame { picture, due } => match self.pace.wait_for(due, self.clock.mono()) {
                    Some(wait) => {
                        if !wait.is_zero() {
                            tokio::time::sleep(wait).await;
                        }
                        self.send(&picture).await?;
                    }
                    None => continue,
                },
            }
        }
        Ok(())
    }

    /// Sends a frame until it is answered. With `--loop`, a lost connection is made again.
    async fn send(&mut self, picture: &Bytes) -> Result<(), LinkError> {
        let mut wait = self.first_wait;
        loop {
            match self.try_send(picture).await {
                Ok(()) => return Ok(()),
                Err(error) if self.forever && error.may_pass() => {
                    self.link = None;
                    let error = anyhow!(error);
                    self.say(&format!("{error:#}; next attempt in {:.1} s", wait.as_secs_f64()));
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn try_send(&mut self, picture: &Bytes) -> Result<(), LinkError> {
        let link = match &mut self.link {
            Some(link) => link,
            None => self.link.insert(Link::open(&self.to, &self.introduction).await?),
        };
        let sent = self.clock.mono();
        let accepted = link.send(picture).await? == Answer::Accepted;
        self.tally.enter(accepted, picture.len(), sent, self.clock.mono());
        self.bar.inc(1);
        if !accepted {
            self.bar.set_message((self.tally.answered() - self.tally.accepted()).to_string());
        }
        Ok(())
    }

    fn say(&self, text: &str) {
        self.bar.suspend(|| eprintln!("meerkat: {text}"));
    }
}

/// Decides when a frame goes out.
#[derive(Debug)]
struct Pace {
    interval: Option<Duration>,
    next: Option<MonoTime>,
    origin: MonoTime,
    last: Option<Duration>,
}

/// Later than this, the plan is moved instead of being caught up with in a burst.
const LATE: Duration = Duration::from_secs(1);

impl Pace {
    /// With so many frames per second, or as the sources say.
    fn new(fps: Option<f64>) -> Self {
        let interval = fps.map(|fps| Duration::from_secs_f64(1.0 / fps));
        Self { interval, next: None, origin: MonoTime::default(), last: None }
    }

    /// How long to wait before sending; `None` for a live frame that came too early to be sent.
    fn wait_for(&mut self, due: Due, now: MonoTime) -> Option<Duration> {
        let Some(interval) = self.interval else { return Some(self.own_pace(due, now)) };
        let next = self.next.unwrap_or(now);
        let is_early = next > now;
        if is_early && due == Due::Live {
            return None;
        }
        let planned = if now - next > LATE { now } else { next };
        self.next = Some(planned.after(interval));
        Some(planned - now)
    }

    fn own_pace(&mut self, due: Due, now: MonoTime) -> Duration {
        let Due::After(at) = due else { return Duration::ZERO };
        let begins_anew = self.last.is_none_or(|last| at < last);
        self.last = Some(at);
        let planned = self.origin.after(at);
        if begins_anew || now - planned > LATE {
            // The frame is due now: the origin lies `at` before.
            self.origin = MonoTime(now.0.saturating_sub(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)));
            return Duration::ZERO;
        }
        planned - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        push: PushArgs,
    }

    fn args(line: &str) -> Result<PushArgs, clap::Error> {
        Line::try_parse_from(format!("push {line}").split_whitespace()).map(|line| line.push)
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn at(millis: u64) -> MonoTime {
        MonoTime::default().after(ms(millis))
    }

    #[test]
    fn arguments_are_checked() {
        assert!(args("--to h:1 --mode 3 a.jpg").is_ok());
        for bad in [
            "--to h:1 --mode 0 a.jpg",
            "--to h:1 --mode 6 a.jpg",
            "--to h:1 --mode 3",
            "--mode 3 a.jpg",
            "--to h:1 --mode 3 --camera Door a.jpg",
            "--to h:1 --mode 3 --token x a.jpg",
            "--to h:1 --mode 3 --fps 0 a.jpg",
            "--to h:1 --mode 3 --fps nan a.jpg",
            "--to h:1 --mode 3 --quality 0 a.jpg",
        ] {
            assert!(args(bad).is_err(), "{bad}");
        }
        let with_token = args("--to h:1 --mode 3 --camera door --token hunter2 a.jpg").unwrap();
        assert!(!format!("{with_token:?}").contains("hunter2"));
    }

    #[test]
    fn a_fixed_pace_is_kept() {
        let mut pace = Pace::new(Some(10.0));
        assert_eq!(pace.wait_for(Due::Now, at(1_000)), Some(ms(0)));
        assert_eq!(pace.wait_for(Due::Now, at(1_030)), Some(ms(70)));
        assert_eq!(pace.wait_for(Due::After(ms(1)), at(1_250)), Some(ms(0)), "a little late: catch up");
        assert_eq!(pace.wait_for(Due::Now, at(1_250)), Some(ms(50)));
        assert_eq!(pace.wait_for(Due::Now, at(9_000)), Some(ms(0)), "very late: go on from here");
        assert_eq!(pace.wait_for(Due::Now, at(9_000)), Some(ms(100)));
        assert_eq!(pace.wait_for(Due::Live, at(9_150)), None, "a live frame does not wait");
    }

    #[test]
    fn the_sources_own_pace_is_kept() {
        let mut pace = Pace::new(None);
        assert_eq!(pace.wait_for(Due::Now, at(500)), Some(ms(0)));
        assert_eq!(pace.wait_for(Due::Live, at(500)), Some(ms(0)));
        assert_eq!(pace.wait_for(Due::After(ms(0)), at(1_000)), Some(ms(0)));
        assert_eq!(pace.wait_for(Due::After(ms(40)), at(1_010)), Some(ms(30)));
        assert_eq!(pace.wait_for(Due::After(ms(80)), at(5_000)), Some(ms(0)), "very late: go on from here");
        assert_eq!(pace.wait_for(Due::After(ms(120)), at(5_000)), Some(ms(40)));
        assert_eq!(pace.wait_for(Due::After(ms(0)), at(6_000)), Some(ms(0)), "the next source");
        assert_eq!(pace.wait_for(Due::After(ms(40)), at(6_000)), Some(ms(40)));
    }

    /// Answers the mode, then the frames of one connection with these bytes, then hangs up.
    async fn serve(peer: &mut TcpStream, answers: &[u8], frame_bytes: usize) {
        let mut mode = [0; 6];
        peer.read_exact(&mut mode).await.unwrap();
        peer.write_all(b"1").await.unwrap();
        for answer in answers {
            let mut frame = vec![0; frame_bytes];
            peer.read_exact(&mut frame).await.unwrap();
            peer.write_all(&[*answer]).await.unwrap();
        }
    }

    async fn push(connections: &'static [&'static [u8]], options: &str) -> (Result<(), LinkError>, u64, u64) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let args =
            args(&format!("--to {} --mode 3 {options} a.jpg", listener.local_addr().unwrap())).unwrap();
        let picture = Bytes::from_static(b"picture");
        let frame_bytes = picture.len() + "startend".len();
        let node = tokio::spawn(async move {
            for answers in connections {
                let (mut peer, _) = listener.accept().await.unwrap();
                serve(&mut peer, answers, frame_bytes).await;
            }
        });
        let (to, given) = channel(8);
        for _ in 0..4 {
            to.send(Given::Frame { picture: picture.clone(), due: Due::Now }).await.unwrap();
        }
        drop(to);
        let clock = SystemClock::new();
        let mut pusher = Pusher::new(&args, ProgressBar::hidden(), &clock);
        pusher.first_wait = Duration::ZERO;
        let result = pusher.push_all(given).await;
        if result.is_ok() {
            node.await.unwrap();
        }
        (result, pusher.tally.accepted(), pusher.tally.answered())
    }

    #[tokio::test]
    async fn answers_are_counted() {
        let (result, accepted, answered) = push(&[b"1011"], "").await;
        assert!(result.is_ok());
        assert_eq!((accepted, answered), (3, 4));
    }

    #[tokio::test]
    async fn the_number_of_frames_can_be_limited() {
        let (result, accepted, answered) = push(&[b"11"], "--frames 2").await;
        assert!(result.is_ok());
        assert_eq!((accepted, answered), (2, 2));
    }

    #[tokio::test]
    async fn a_lost_connection_is_an_error_without_loop() {
        let (result, _, answered) = push(&[b"1"], "").await;
        assert!(result.is_err());
        assert_eq!(answered, 1);
    }

    #[tokio::test]
    async fn with_loop_the_frame_is_sent_again() {
        let (result, accepted, answered) = push(&[b"1", b"111"], "--loop").await;
        assert!(result.is_ok());
        assert_eq!((accepted, answered), (4, 4));
    }
}
