//! `meerkat detect`: the detectors on pictures and videos, without a node. One line per frame for programs, one line
//! per find for people.

mod frames;
mod look;

use std::cell::RefCell;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use meerkat_base::{Detection, Guess};
use serde::Serialize;

use self::frames::{Frames, Raw};
use self::look::{Finds, Looker, MakeLooker};
use super::in_order::in_order;
use super::network_args::{BackendWord, NetworkArgs};
use super::settings_args::SettingsArgs;
use super::{CliError, logging};
use crate::app::models_folder;
use crate::settings::Settings;

pub(super) use self::look::compute;

/// Run a detector on pictures, videos or addresses, without a node
///
/// The detectors and their thresholds are those of the configuration, where no option says otherwise; things of all
/// classes are found by yolox-nano. With --classify, a picture gets the names of what it shows as a whole, without boxes:
/// by googlenet where its weights are, else by what yolox-nano finds. Networks get the whole picture, not a reduced one
/// as in a node. For motion, pictures that follow each other are taken as frames of one still camera, five per second;
/// each video begins anew. A broken input is reported, the others go on.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  meerkat detect person street.jpg
  meerkat detect person walk.mp4 --json > persons.jsonl
  meerkat detect person --model yolox-nano --min-score 0.3 crowd.jpg
  meerkat detect objects --json desk.jpg
  meerkat detect objects --model own.onnx --classes own.txt desk.jpg
  meerkat detect objects --classify desk.jpg
  meerkat detect face --config node.toml group.jpg
  meerkat detect motion yard.mp4

With --json, one line per frame, frames counted from 0, boxes in pixels of the upright frame:
  {\"source\":\"street.jpg\",\"frame\":0,\"width\":640,\"height\":480,
   \"detections\":[{\"label\":\"person\",\"score\":0.9,\"x\":10.0,\"y\":20.0,\"width\":60.0,\"height\":120.0}]}
With --classify, \"guesses\" instead of \"detections\": five at most, the likeliest first:
  \"guesses\":[{\"label\":\"coffee mug\",\"score\":0.87}]
Faces have an \"identity\" besides when somebody is enrolled in the data folder of the configuration.

Exit codes: 0 done, 1 an input or a frame could not be read, 2 wrong arguments or wrong
configuration.")]
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

    /// Network or classic method, for people and faces
    #[arg(long, value_enum)]
    backend: Option<BackendWord>,

    #[command(flatten)]
    network: NetworkArgs,

    /// Names of the classes of a model of your own, one per line; for objects
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,

    /// Say what each picture shows as a whole, the five best guesses; for objects
    #[arg(long)]
    classify: bool,

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
    /// Things of all classes, people among them
    Objects,
    /// Motion
    Motion,
}

/// The network for objects, where nobody names one.
const OBJECTS: &str = "yolox-nano";
/// What is less certain is no object, where nobody says otherwise.
const OBJECT_SCORE: f32 = 0.3;
/// A longer file holds no names of classes.
const MOST_CLASSES_BYTES: u64 = 1 << 20;

/// Time between two pictures that are given as files.
const PICTURE_INTERVAL: Duration = Duration::from_millis(200);

/// Looks at everything.
pub fn run(args: &DetectArgs) -> Result<(), CliError> {
    let mut settings = args.settings.load()?;
    logging::start_quiet()?;
    let make = looker(args, &mut settings)?;
    // Motion is what changed since the frame before: one thread sees all of them.
    let threads = if args.what == What::Motion { 1 } else { args.network.threads(&settings) };
    // The first is made here, so that what is wrong is said before anything is read.
    let mut tools = vec![Some(make()?)];
    tools.resize_with(threads, || None);
    let out = BufWriter::new(io::stdout().lock());
    let bar = RefCell::new(ProgressBar::hidden());
    let mut source =
        Source { inputs: &args.inputs, at: 0, open: None, limit: args.frames, bar: &bar, failed: false };
    let mut printer = Printer { inputs: &args.inputs, out, json: args.json, bar: &bar, failed: false };
    let look = |tool: &mut Option<Looker>, job: Job| {
        let looker = match tool {
            Some(looker) => Ok(looker),
            None => make().map(|looker| tool.insert(looker)),
        };
        let finds = looker.and_then(|looker| {
            if job.anew {
                looker.begin_anew();
            }
            looker.look(&job.raw.pixels, job.at)
        });
        Done { input: job.input, frame: job.frame, finds }
    };
    let ended = in_order(tools, &look, || Ok(source.next()), |done| printer.print(done));
    bar.borrow().finish_and_clear();
    match ended.and_then(|()| Ok(printer.out.flush()?)) {
        Err(Ended::Failed(error)) => Err(error.into()),
        Ok(()) if source.failed || printer.failed => Err(CliError::Reported),
        Ok(()) | Err(Ended::Reader) => Ok(()),
    }
}

/// What looks, by arguments and configuration.
fn looker(args: &DetectArgs, settings: &mut Settings) -> Result<MakeLooker, CliError> {
    if args.classes.is_some() && args.what != What::Objects {
        return Err(CliError::Usage("--classes is for objects".to_owned()));
    }
    if args.classify && args.what != What::Objects {
        return Err(CliError::Usage("--classify is for objects".to_owned()));
    }
    if args.classify && args.classes.is_some() && args.network.model.is_none() {
        return Err(CliError::Usage("--classes names the classes of a --model of your own".to_owned()));
    }
    let networks = matches!(args.what, What::Person | What::Face);
    if args.backend.is_some() && !networks {
        return Err(CliError::Usage("--backend is for person and face".to_owned()));
    }
    let min_score = args.network.min_score;
    let backend = args.backend.map(BackendWord::backend);
    let (make, notice) = match args.what {
        What::Person => {
            settings.detectors.person.backend = backend.unwrap_or(settings.detectors.person.backend);
            args.network.apply(settings, |settings| &mut settings.detectors.person);
            look::person(settings)?
        }
        What::Face => {
            settings.detectors.face.backend = backend.unwrap_or(settings.detectors.face.backend);
            args.network.apply(settings, |settings| &mut settings.detectors.face);
            look::face(settings)?
        }
        What::Objects if args.classify => {
            args.network.apply_device(settings);
            let names = args.classes.as_deref().map(class_names).transpose()?;
            look::classes(settings, args.network.model.clone(), min_score, names)?
        }
        What::Objects => {
            let model = args.network.model.clone().unwrap_or_else(|| OBJECTS.to_owned());
            args.network.apply_device(settings);
            let compute = compute(settings)?;
            let names = args.classes.as_deref().map(class_names).transpose()?;
            let min_score = min_score.unwrap_or(OBJECT_SCORE);
            (look::objects(model, models_folder(settings), compute, min_score, names), None)
        }
        What::Motion => (look::motion(settings, min_score.unwrap_or(0.0)), None),
    };
    if let Some(notice) = notice {
        eprintln!("meerkat: {notice}");
    }
    Ok(make)
}

fn class_names(path: &Path) -> anyhow::Result<Vec<String>> {
    let read = || {
        let length = std::fs::metadata(path)?.len();
        if length > MOST_CLASSES_BYTES {
            return Err(io::Error::other("it is too long for names of classes"));
        }
        std::fs::read_to_string(path)
    };
    let text = read().with_context(|| path.display().to_string())?;
    Ok(text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect())
}

/// A frame to look at.
struct Job {
    /// Number of its input.
    input: usize,
    /// Its number in the input.
    frame: u64,
    /// Its time, counted on over pictures that follow each other.
    at: Duration,
    /// It is the first of another camera.
    anew: bool,
    raw: Raw,
}

/// What came of it.
struct Done {
    input: usize,
    frame: u64,
    finds: anyhow::Result<Finds>,
}

/// The frames of all inputs, one after the other. What goes wrong in one is reported and remembered.
struct Source<'a> {
    inputs: &'a [String],
    /// Number of the input at hand.
    at: usize,
    open: Option<Open>,
    limit: Option<u64>,
    bar: &'a RefCell<ProgressBar>,
    failed: bool,
}

/// The input at hand.
struct Open {
    frames: Frames,
    next: u64,
}

impl Source<'_> {
    fn next(&mut self) -> Option<Job> {
        let limit = self.limit.unwrap_or(u64::MAX);
        loop {
            let name = self.inputs.get(self.at)?;
            let open = match &mut self.open {
                Some(open) => open,
                None => match Frames::open(name) {
                    Ok(frames) => {
                        let total = frames.hint().map(|hint| hint.min(limit));
                        *self.bar.borrow_mut() = progress_bar(total, name);
                        self.open.insert(Open { frames, next: 0 })
                    }
                    Err(error) => {
                        self.complain(&error.context(name.clone()));
                        self.at += 1;
                        continue;
                    }
                },
            };
            let frame = open.next;
            open.next += 1;
            let raw = if frame < limit { open.frames.next() } else { Ok(None) };
            let (input, picture) = (self.at, open.frames.is_picture());
            match raw {
                Ok(Some(raw)) => {
                    let since = PICTURE_INTERVAL * u32::try_from(input).unwrap_or(u32::MAX);
                    let at = if picture { since } else { raw.at };
                    return Some(Job { input, frame, at, anew: !picture && frame == 0, raw });
                }
                Ok(None) => {}
                Err(error) => self.complain(&error.context(format!("{name}, frame {frame}"))),
            }
            self.open = None;
            self.at += 1;
        }
    }

    fn complain(&mut self, error: &anyhow::Error) {
        self.failed = true;
        self.bar.borrow().suspend(|| eprintln!("meerkat: {error:#}"));
    }
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

/// Prints what was found.
struct Printer<'a, W: Write> {
    inputs: &'a [String],
    out: W,
    json: bool,
    bar: &'a RefCell<ProgressBar>,
    failed: bool,
}

impl<W: Write> Printer<'_, W> {
    fn print(&mut self, done: Done) -> Result<(), Ended> {
        let source = self.inputs.get(done.input).map_or("", String::as_str);
        let frame = done.frame;
        self.bar.borrow().inc(1);
        let finds = match done.finds.with_context(|| format!("{source}, frame {frame}")) {
            Ok(finds) => finds,
            Err(error) => {
                self.failed = true;
                self.bar.borrow().suspend(|| eprintln!("meerkat: {error:#}"));
                return Ok(());
            }
        };
        if self.json {
            let (width, height) = finds.size;
            let detections = finds.guesses.is_none().then_some(finds.detections.as_slice());
            let line = Line { source, frame, width, height, detections, guesses: finds.guesses.as_deref() };
            serde_json::to_writer(&mut self.out, &line).map_err(io::Error::from)?;
            writeln!(self.out)?;
            return Ok(());
        }
        for guess in finds.guesses.iter().flatten() {
            writeln!(self.out, "{source} frame {frame}: {} {:.3}", guess.label, guess.score)?;
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
    #[serde(skip_serializing_if = "Option::is_none")]
    detections: Option<&'a [Detection]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guesses: Option<&'a [Guess]>,
}

/// A bar on a terminal for inputs of known length; nothing for pictures, and nothing elsewhere.
fn progress_bar(total: Option<u64>, name: &str) -> ProgressBar {
    let Some(total) = total.filter(|&total| total > 1) else { return ProgressBar::hidden() };
    let bar = ProgressBar::new(total).with_message(name.to_owned());
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} frames, {per_sec}, {eta} left");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
