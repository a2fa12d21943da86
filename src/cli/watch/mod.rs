//! `meerkat watch`: a viewer of a node's live pictures, and a recorder of them.

mod keys;
mod segments;
mod tally;
mod viewer;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use meerkat_base::{Clock, Shutdown, SystemClock};
use tokio::signal::unix::{SignalKind, signal};

use self::keys::Keys;
use self::segments::{Recording, SegmentPlan};
use self::tally::Tally;
use self::viewer::{Ended, Viewer};
use super::{CliError, logging};

/// Watch a camera of a node live, and record what comes
///
/// Joins by TCP and takes the pictures by UDP, answers each, and leaves when it is told to: Ctrl-C, or Esc on a terminal.
/// No window is opened: a line says how many pictures come per second and what was late or damaged. Pictures are seen in
/// the recorded segments.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  meerkat watch 127.0.0.1 9999
  meerkat watch node 9999 --save recordings
  meerkat watch node 9999 --save recordings --segment 5m --format mp4 --headless
  meerkat watch node 9999 --save recordings --pictures 100

A picture is late when it came more than 0.9 s after the answer to the one before: it or the answer
was lost, or the camera sends slowly.
Exit codes: 0 it left, 1 it could not join, the node ended it, or nothing could be recorded,
2 wrong arguments.")]
pub struct WatchArgs {
    /// The node
    host: String,

    /// Its port for viewers (dialects.watch.listen), usually 9999
    port: u16,

    /// Record segments in this folder, which is made if it is missing
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,

    /// Length of a segment, such as 15s or 5m
    #[arg(long, value_name = "LENGTH", default_value = "15s", value_parser = segment_length)]
    segment: Duration,

    /// What segments are: avi has MPEG-4 with the code XVID, as old viewers wrote it; mp4 has H.264
    #[arg(long, value_enum, default_value_t = SegmentFormat::Avi)]
    format: SegmentFormat,

    /// Show no line while it runs; only the result at the end
    #[arg(long)]
    headless: bool,

    /// Leave after this many pictures
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pictures: Option<u64>,

    /// UDP port to take pictures at, 1024 to 65535, where a firewall wants to know it; else the system chooses
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1024..))]
    udp_port: Option<u16>,
}

/// What a segment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SegmentFormat {
    Avi,
    Mp4,
}

const SHORTEST_SEGMENT: Duration = Duration::from_secs(1);
const LONGEST_SEGMENT: Duration = Duration::from_secs(3_600);

fn segment_length(text: &str) -> Result<Duration, String> {
    let allowed = || "a length of time such as 15s or 5m, from 1s to 1h".to_owned();
    let span: jiff::Span = text.parse().map_err(|_| allowed())?;
    let length = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| allowed())?;
    let length = Duration::try_from(length).map_err(|_| allowed())?;
    if (SHORTEST_SEGMENT..=LONGEST_SEGMENT).contains(&length) { Ok(length) } else { Err(allowed()) }
}

/// How often the line is written anew.
const LINE_INTERVAL: Duration = Duration::from_millis(250);

/// Joins, watches and leaves.
pub fn run(args: &WatchArgs) -> Result<(), CliError> {
    logging::start_quiet()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| anyhow!(error).context("the runtime cannot be started"))?;
    let clock = SystemClock::new();
    let recording = match &args.save {
        Some(folder) => {
            let plan = SegmentPlan { folder: folder.clone(), length: args.segment, format: args.format };
            Some(Recording::start(plan, clock.wall())?)
        }
        None => None,
    };
    let bar = if args.headless { ProgressBar::hidden() } else { line() };
    let (ended, tally, recording) = runtime.block_on(watch(args, recording, &bar, &clock));
    bar.finish_and_clear();
    let recorded = recording.map(Recording::finish).transpose();
    if tally.pictures() > 0 {
        println!("{}", tally.summary(clock.mono()));
    }
    if let Some(recorded) = recorded? {
        println!("{recorded}");
    }
    match ended? {
        Ended::Told | Ended::Enough => Ok(()),
        Ended::ByNode => {
            Err(anyhow!("the node closed the connection: is this the port of dialects.watch.listen?").into())
        }
        Ended::Recording => Err(anyhow!("nothing more can be recorded").into()),
    }
}

fn line() -> ProgressBar {
    let style =
        ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new_spinner().with_style(style)
}

async fn watch(
    args: &WatchArgs,
    mut recording: Option<Recording>,
    bar: &ProgressBar,
    clock: &SystemClock,
) -> (anyhow::Result<Ended>, Tally, Option<Recording>) {
    let mut tally = Tally::new(clock.mono());
    let stop = Shutdown::new();
    // Puts the terminal back as it was when it is dropped.
    let _keys = Keys::listen(&stop);
    let ended = tokio::select! {
        biased;
        told = told_to_leave(&stop) => told.map(|()| Ended::Told),
        viewer = Viewer::join(&args.host, args.port, args.udp_port.unwrap_or(0)) => match viewer {
            Err(error) => Err(error),
            Ok(mut viewer) => {
                bar.println(format!("joined, pictures come to UDP port {}", viewer.udp_port()));
                let ended = tokio::select! {
                    biased;
                    told = told_to_leave(&stop) => told.map(|()| Ended::Told),
                    ended = take(args, &mut viewer, &mut tally, &mut recording, bar, clock) => ended,
                };
                if !matches!(ended, Ok(Ended::ByNode)) {
                    viewer.leave().await;
                }
                ended
            }
        },
    };
    (ended, tally, recording)
}

/// Takes pictures until there is a reason not to.
async fn take(
    args: &WatchArgs,
    viewer: &mut Viewer,
    tally: &mut Tally,
    recording: &mut Option<Recording>,
    bar: &ProgressBar,
    clock: &SystemClock,
) -> anyhow::Result<Ended> {
    let mut ticks = tokio::time::interval(LINE_INTERVAL);
    loop {
        tokio::select! {
            biased;
            picture = viewer.next() => {
                let Some(picture) = picture? else { return Ok(Ended::ByNode) };
                let now = clock.mono();
                let is_whole = tally.enter(&picture, now);
                viewer.answer().await;
                if is_whole && let Some(recording) = recording && !recording.take(picture, now) {
                    return Ok(Ended::Recording);
                }
                if args.pictures.is_some_and(|enough| tally.pictures() >= enough) {
                    return Ok(Ended::Enough);
                }
            }
            _ = ticks.tick() => {
                bar.set_message(tally.line(clock.mono()));
                bar.tick();
            }
        }
    }
}

/// Returns on Ctrl-C, SIGTERM and Esc.
async fn told_to_leave(stop: &Shutdown) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
        () = stop.wait() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        watch: WatchArgs,
    }

    fn args(line: &str) -> Result<WatchArgs, clap::Error> {
        Line::try_parse_from(format!("watch {line}").split_whitespace()).map(|line| line.watch)
    }

    #[test]
    fn arguments_are_checked() {
        let plain = args("node 9999").unwrap();
        assert_eq!((plain.segment, plain.format), (Duration::from_secs(15), SegmentFormat::Avi));
        assert_eq!(args("node 9999 --save d --segment 2m").unwrap().segment, Duration::from_secs(120));
        for bad in [
            "node",
            "node port",
            "node 70000",
            "node 9999 --segment 0s",
            "node 9999 --segment 2h",
            "node 9999 --segment soon",
            "node 9999 --format mkv",
            "node 9999 --pictures 0",
            "node 9999 --udp-port 80",
        ] {
            assert!(args(bad).is_err(), "{bad}");
        }
    }
}
