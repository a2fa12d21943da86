//! `meerkat detect`: the detectors on pictures and videos, without a node. One line per frame for programs, one line
//! per find for people.

mod frames;
mod look;

use std::io::{self, BufWriter, Write};
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use meerkat_base::Detection;
use serde::Serialize;

use self::frames::Frames;
use self::look::{Finds, Looker};
use super::settings_args::SettingsArgs;
use super::{CliError, logging};

/// Run a detector on pictures, videos or addresses, without a node
///
/// The detectors and their thresholds are those of the configuration. For motion, pictures that follow each other are
/// taken as frames of one still camera, five per second; each video begins anew. A broken input is reported, the others
/// go on.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  meerkat detect person street.jpg
  meerkat detect person walk.mp4 --json > persons.jsonl
  meerkat detect face --config node.toml group.jpg
  meerkat detect motion yard.mp4

With --json, one line per frame, frames counted from 0, boxes in pixels of the upright frame:
  {\"source\":\"street.jpg\",\"frame\":0,\"width\":640,\"height\":480,
   \"detections\":[{\"label\":\"person\",\"score\":0.9,\"x\":10.0,\"y\":20.0,\"width\":60.0,\"height\":120.0}]}
Faces have an \"identity\" besides when somebody is enrolled in the data folder of the configuration.

Exit codes: 0 done, 1 an input or a frame could not be read, 2 wrong arguments or wrong configuration.")]
pub struct DetectArgs {
    /// What to look for
    #[arg(value_enum)]
    what: What,

    /// Picture files, video files, rtsp:// or http:// addresses, /dev/videoN
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<String>,

    /// Print one JSON object per frame
    #[arg(long)]
    json: bool,

    /// Leave out what is less certain than this, 0 to 1, instead of what the configuration says
    #[arg(long, value_name = "SCORE", value_parser = parse_score)]
    min_score: Option<f32>,

    /// Look at so many frames of each input at most
    #[arg(long, value_name = "N")]
    frames: Option<u64>,

    #[command(flatten)]
    settings: SettingsArgs,
}

/// What can be looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// People
    Person,
    /// Faces, and whose they are
    Face,
    /// Motion
    Motion,
}

fn parse_score(text: &str) -> Result<f32, String> {
    text.parse().ok().filter(|score| (0.0..=1.0).contains(score)).ok_or_else(|| "a number from 0 to 1".into())
}

/// Time between two pictures that are given as files.
const PICTURE_INTERVAL: Duration = Duration::from_millis(200);

/// Looks at everything.
pub fn run(args: &DetectArgs) -> Result<(), CliError> {
    let settings = args.settings.load()?;
    logging::start_quiet()?;
    let looker = match args.what {
        What::Person => Looker::person(&settings, args.min_score),
        What::Face => Looker::face(&settings, args.min_score),
        What::Motion => Looker::motion(&settings, args.min_score),
    };
    let out = BufWriter::new(io::stdout().lock());
    let mut run =
        Run { looker: looker?, out, json: args.json, limit: args.frames.unwrap_or(u64::MAX), failed: false };
    for (number, input) in args.inputs.iter().enumerate() {
        let since = PICTURE_INTERVAL * u32::try_from(number).unwrap_or(u32::MAX);
        match run.input(input, since) {
            Ok(()) => {}
            Err(Ended::Reader) => return Ok(()),
            Err(Ended::Failed(error)) => return Err(error.into()),
        }
    }
    if run.failed { Err(CliError::Reported) } else { Ok(()) }
}

/// Why nothing more can be printed.
enum Ended {
    /// Whoever reads our output has seen enough (`| head`).
    Reader,
    /// The output failed.
    Failed(anyhow::Error),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Reader,
            _ => Self::Failed(anyhow!(error).context("the result cannot be written")),
        }
    }
}

struct Run<W: Write> {
    looker: Looker,
    out: W,
    json: bool,
    limit: u64,
    failed: bool,
}

impl<W: Write> Run<W> {
    /// Looks at all frames of one input. What goes wrong in it is reported and remembered.
    fn input(&mut self, name: &str, since: Duration) -> Result<(), Ended> {
        let mut frames = match Frames::open(name) {
            Ok(frames) => frames,
            Err(error) => {
                self.complain(&error.context(name.to_owned()));
                return Ok(());
            }
        };
        let since = if frames.is_picture() {
            since
        } else {
            self.looker.begin_anew();
            Duration::ZERO
        };
        let bar = progress_bar(frames.hint().map(|hint| hint.min(self.limit)), name);
        for number in 0..self.limit {
            let raw = match frames.next() {
                Ok(Some(raw)) => raw,
                Ok(None) => break,
                Err(error) => {
                    bar.suspend(|| self.complain(&error.context(format!("{name}, frame {number}"))));
                    break;
                }
            };
            let found = self.looker.look(&raw.pixels, since + raw.at);
            match found.with_context(|| format!("{name}, frame {number}")) {
                Ok(finds) => self.print(name, number, &finds)?,
                Err(error) => bar.suspend(|| self.complain(&error)),
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        self.out.flush()?;
        Ok(())
    }

    fn complain(&mut self, error: &anyhow::Error) {
        self.failed = true;
        eprintln!("meerkat: {error:#}");
    }

    fn print(&mut self, source: &str, frame: u64, finds: &Finds) -> Result<(), Ended> {
        if self.json {
            let line = Line {
                source,
                frame,
                width: finds.size.0,
                height: finds.size.1,
                detections: &finds.detections,
            };
            serde_json::to_writer(&mut self.out, &line).map_err(io::Error::from)?;
            writeln!(self.out)?;
            return Ok(());
        }
        for found in &finds.detections {
            let identity = found.identity.as_ref().map(|who| format!(" ({who})")).unwrap_or_default();
            let b = &found.bbox;
            writeln!(
                self.out,
                "{source} frame {frame}: {}{identity} {:.2}, {:.0}x{:.0} at {:.0},{:.0}",
                found.label, found.score, b.width, b.height, b.x, b.y
            )?;
        }
        Ok(())
    }
}

/// One line of `--json`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    source: &'a str,
    frame: u64,
    width: u32,
    height: u32,
    detections: &'a [Detection],
}

/// A bar on a terminal for inputs of known length; nothing for pictures, and nothing elsewhere.
fn progress_bar(total: Option<u64>, name: &str) -> ProgressBar {
    let Some(total) = total.filter(|&total| total > 1) else { return ProgressBar::hidden() };
    let bar = ProgressBar::new(total).with_message(name.to_owned());
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} frames, {per_sec}, {eta} left");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
