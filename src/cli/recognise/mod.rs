//! `meerkat recognise`: the client of the dialects `recognise`. Sends pictures, takes them back with the faces marked.

mod link;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use meerkat_base::{Clock, Shutdown, SystemClock};
use meerkat_wire::recognise::Form;
use meerkat_wire::recognise::sized::LengthBytes;
use tokio::sync::mpsc::{Receiver, channel};

use self::link::{Framing, Link, LinkError};
use super::push::source::{self, Given, Source};
use super::push::tally::Tally;
use super::settings_args::host_and_port;
use super::{CliError, logging};

/// Send pictures to a node and get them back with the faces marked
///
/// Each frame is sent when the answer to the one before is there. Prints at the end how many came back and how long that
/// took.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  meerkat recognise --to 127.0.0.1:4444 walk.mp4 --save marked/
  meerkat recognise --to 127.0.0.1:3333 --chunked photos/ --save marked/
  meerkat recognise --to 127.0.0.1:4444 --stdout /dev/video0 | ffplay -f mjpeg -

The node needs dialects.recognise_sized.listen, or for --chunked dialects.recognise_chunked.listen.
Exit codes: 0 done, 1 the connection or a source failed or nothing came back, 2 wrong arguments.")]
pub struct RecogniseArgs {
    /// Where the node listens for this dialect
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    to: String,

    /// One picture per connection, ended by `0`
    #[arg(long)]
    chunked: bool,

    /// Send pictures as pickled numpy arrays, as the first clients do, instead of as they are
    #[arg(long, conflicts_with = "chunked")]
    pickle: bool,

    /// Bytes of the length in front of each message, as dialects.recognise_sized.length_bytes
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = parse_length_bytes, conflicts_with = "chunked")]
    length_bytes: u8,

    /// Put what comes back into this folder: 000001.jpg, 000002.jpg, …
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,

    /// Write what comes back to the standard output, one JPEG after the other
    #[arg(long)]
    stdout: bool,

    /// Stop after this many frames
    #[arg(long, value_name = "N")]
    frames: Option<u64>,

    /// Begin again at the end
    #[arg(long = "loop")]
    forever: bool,

    /// JPEG quality of frames that are not JPEG already
    #[arg(long, value_name = "N", default_value_t = 85, value_parser = clap::value_parser!(u8).range(1..=100))]
    quality: u8,

    /// Picture files, folders of pictures, video files, rtsp:// or http:// addresses, /dev/videoN, or: synthetic
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<String>,
}

fn parse_length_bytes(text: &str) -> Result<u8, String> {
    match text {
        "8" => Ok(8),
        "4" => Ok(4),
        _ => Err("8 or 4".into()),
    }
}

/// Time that the reading thread has to end.
const LAST_FRAME: Duration = Duration::from_secs(2);

/// Sends everything and prints the result.
pub fn run(args: &RecogniseArgs) -> Result<(), CliError> {
    logging::start_quiet()?;
    if let Some(folder) = &args.save {
        fs::create_dir_all(folder).with_context(|| format!("folder {}", folder.display()))?;
    }
    let sources = Source::parse_all(&args.sources)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| anyhow!(error).context("the runtime cannot be started"))?;
    let stop = Shutdown::new();
    let clock = SystemClock::new();
    let mut talk = Talk::new(args, bar(args, &sources), &clock);
    let (to, given) = channel(4);
    let (forever, quality, own_stop) = (args.forever, args.quality, stop.clone());
    let reading = std::thread::spawn(move || source::give_all(&sources, forever, quality, &own_stop, &to));
    let ended = runtime.block_on(async {
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => None,
            result = talk.all(given) => Some(result),
        }
    });
    stop.trigger();
    let patience = std::time::Instant::now() + LAST_FRAME;
    while !reading.is_finished() && std::time::Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(1));
    }
    talk.bar.finish_and_clear();
    if talk.tally.answered() > 0 {
        // The pictures may be on the standard output.
        eprintln!("{}", talk.tally);
    }
    match ended {
        Some(Err(error)) => Err(CliError::Failed(error)),
        _ if talk.failed_sources > 0 => Err(CliError::Reported),
        Some(Ok(())) if talk.tally.answered() == 0 => Err(anyhow!("there was no frame to send").into()),
        _ => Ok(()),
    }
}

/// A bar on a terminal; nothing where the standard error output goes elsewhere.
fn bar(args: &RecogniseArgs, sources: &[Source]) -> ProgressBar {
    let known = || sources.iter().map(Source::frames_hint).sum::<Option<u64>>();
    let total = args.frames.or_else(|| if args.forever { None } else { known() });
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{wide_bar} {pos}/{len} frames, {per_sec}, {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {pos} frames, {per_sec}, {elapsed}"),
    };
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// Sends frames and keeps what comes back.
struct Talk<'c> {
    to: String,
    framing: Framing,
    save: Option<PathBuf>,
    stdout: bool,
    limit: Option<u64>,
    clock: &'c dyn Clock,
    link: Option<Link>,
    tally: Tally,
    failed_sources: u64,
    bar: ProgressBar,
}

impl<'c> Talk<'c> {
    fn new(args: &RecogniseArgs, bar: ProgressBar, clock: &'c dyn Clock) -> Self {
        let form = if args.pickle { Form::Pickle } else { Form::Jpeg };
        let length_bytes = if args.length_bytes == 4 { LengthBytes::Four } else { LengthBytes::Eight };
        let framing = if args.chunked { Framing::Chunked } else { Framing::Sized { length_bytes, form } };
        Self {
            to: args.to.clone(),
            framing,
            save: args.save.clone(),
            stdout: args.stdout,
            limit: args.frames,
            clock,
            link: None,
            tally: Tally::new(),
            failed_sources: 0,
            bar,
        }
    }

    async fn all(&mut self, mut given: Receiver<Given>) -> anyhow::Result<()> {
        // Connected before the first frame is there, so that an absent node is noticed at once.
        self.link = Some(Link::open(&self.to, self.framing).await?);
        while self.limit.is_none_or(|limit| self.tally.answered() < limit) {
            match given.recv().await {
                None => break,
                Some(Given::Failed(error)) => {
                    self.failed_sources += 1;
                    self.bar.suspend(|| eprintln!("meerkat: {error:#}"));
                }
                Some(Given::Frame { picture, .. }) => {
                    let sent = self.clock.mono();
                    let marked = self.exchange(&picture).await?;
                    self.tally.enter(true, picture.len(), sent, self.clock.mono());
                    self.bar.inc(1);
                    self.keep(&marked)?;
                }
            }
        }
        Ok(())
    }

    async fn exchange(&mut self, picture: &[u8]) -> Result<Vec<u8>, LinkError> {
        let mut link = match self.link.take() {
            Some(link) => link,
            None => Link::open(&self.to, self.framing).await?,
        };
        let marked = link.exchange(picture).await?;
        // Chunked connections carry one picture.
        self.link = (self.framing != Framing::Chunked).then_some(link);
        Ok(marked)
    }

    fn keep(&mut self, marked: &[u8]) -> anyhow::Result<()> {
        if let Some(folder) = &self.save {
            let path = folder.join(format!("{:06}.jpg", self.tally.answered()));
            write_new(&path, marked).with_context(|| path.display().to_string())?;
        }
        if self.stdout {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(marked).and_then(|()| stdout.flush()).context("the standard output")?;
        }
        Ok(())
    }
}

/// Writes a file that was not there: what an earlier run saved stays.
fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    fs::File::create_new(path)?.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        recognise: RecogniseArgs,
    }

    #[test]
    fn arguments_are_checked() {
        let parse = |line: &str| Line::try_parse_from(format!("recognise {line}").split_whitespace());
        for good in [
            "--to h:1 a.jpg",
            "--to h:1 --chunked --save x a.jpg",
            "--to h:1 --pickle --length-bytes 4 a.mp4",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in [
            "a.jpg",
            "--to h:1",
            "--to h:1 --chunked --pickle a.jpg",
            "--to h:1 --length-bytes 2 a.jpg",
            "--to h:1 --quality 0 a.jpg",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_that_is_there_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("000001.jpg");
        write_new(&path, b"first").unwrap();
        assert!(write_new(&path, b"second").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"first");
    }
}
