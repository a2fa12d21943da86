//! `meerkat analyse`: a table, or the node's own events, as charts and figures in a folder. Reads the database itself,
//! which a running node does not notice; changes nothing there.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use meerkat_actors::faces::UNKNOWN;
use meerkat_analysis::events::CountedEvent;
use meerkat_analysis::{Analysis, AnalysisError, Drawing, EventCounts, Limits, use_font};
use meerkat_base::EventKind;
use meerkat_notify::Zone;
use meerkat_store::{EventQuery, EventRow};
use serde::Serialize;

use super::progress::Progress;
use super::settings_args::SettingsArgs;
use super::stored::{PAGE, Stored};
use super::{CliError, logging};
use crate::settings::Settings;

/// What stands for the node's own events instead of a file.
const EVENTS: &str = "events";

/// Charts and figures of a CSV table, or of the node's own events
///
/// Of a table: correlations, skewness, missing values, pairs of columns and a word cloud for each column of text, each as
/// SVG and PNG, and every figure in summary.json. Of events: when they happen, at which cameras, and people per day.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  meerkat analyse houses.csv --out charts
  meerkat analyse events --config node.toml --since 2026-11-01 --out november
  meerkat analyse ./events --out charts               a file that has this name

Tables are UTF-8, UTF-16 with a mark or GBK, at most 200 MiB; the first line names the columns.
Times are RFC 3339, or a date with or without a time of the day in notify.time_zone.
Exit codes: 0 done, 1 failed, 2 wrong arguments.")]
pub struct AnalyseArgs {
    /// A CSV file, or the word `events`
    #[arg(value_name = "FILE|events")]
    what: PathBuf,
    /// Folder for the charts and summary.json; made if it is missing, files of the same name are replaced
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Only events that started at this moment or later
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only events that started before this moment
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Font to write with on pictures, instead of the first that is found
    #[arg(long, value_name = "FILE")]
    font: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Does what the arguments say.
pub fn run(args: &AnalyseArgs) -> Result<(), CliError> {
    if let Some(font) = &args.font {
        use_font(font).map_err(anyhow::Error::from)?;
    }
    if args.what.as_os_str() == EVENTS {
        return events(args);
    }
    if args.since.is_some() || args.until.is_some() {
        return Err(CliError::Usage("--since and --until are for events, a table has no times".to_owned()));
    }
    logging::start_quiet()?;
    let mut progress = Progress::new();
    let analysed = table(&args.what, &mut progress);
    progress.end();
    let analysis = analysed.with_context(|| args.what.display().to_string())?;
    let mut drawings =
        vec![analysis.heat_map(), analysis.skewness(), analysis.missing(), analysis.pair_grid()];
    drawings.extend(analysis.word_clouds());
    Ok(write(&args.out, &drawings, &analysis.summary())?)
}

fn table(path: &Path, progress: &mut Progress) -> Result<Analysis, AnalysisError> {
    let file = fs::File::open(path)?;
    Analysis::watched(file, &Limits::default(), &mut |so_far| {
        progress.show("reading the table", so_far.done_bytes, so_far.of_bytes);
        true
    })
}

fn events(args: &AnalyseArgs) -> Result<(), CliError> {
    let settings = args.settings.load()?;
    logging::start_quiet()?;
    let zone = Zone::parse(&settings.notify.time_zone).map_err(anyhow::Error::from)?;
    let moment = |key: &str, text: &Option<String>| {
        let read = |text: &String| {
            zone.moment(text).ok_or_else(|| {
                CliError::Usage(format!(
                    "--{key}: {text} is no time; write 2026-11-20T21:31:14Z or 2026-11-20"
                ))
            })
        };
        text.as_ref().map(read).transpose()
    };
    let query = EventQuery {
        limit: PAGE,
        since: moment("since", &args.since)?,
        until: moment("until", &args.until)?,
        ..EventQuery::default()
    };
    let mut progress = Progress::new();
    let counted = count(&settings, query, &zone, &mut progress);
    progress.end();
    let counts = counted?;
    Ok(write(&args.out, &counts.drawings(), &counts)?)
}

fn count(
    settings: &Settings,
    mut query: EventQuery,
    zone: &Zone,
    progress: &mut Progress,
) -> anyhow::Result<EventCounts> {
    let mut stored = Stored::new(settings);
    let mut counts = EventCounts::default();
    loop {
        let (page, next) = stored
            .events(&query)
            .with_context(|| format!("the events in {} cannot be read", settings.data_dir.display()))?;
        page.iter().for_each(|event| count_one(&mut counts, event, zone));
        progress.show("reading events", counts.events, 0);
        if next.is_none() {
            return Ok(counts);
        }
        query.before = next;
    }
}

fn count_one(counts: &mut EventCounts, event: &EventRow, zone: &Zone) {
    let moment = jiff::Timestamp::from_microsecond(event.started.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let local = moment.to_zoned(zone.time_zone().clone());
    let names: Vec<String> =
        event.identities.iter().filter(|name| name.as_str() != UNKNOWN).cloned().collect();
    counts.add(&CountedEvent {
        day: &local.date().to_string(),
        weekday: usize::try_from(local.weekday().to_monday_zero_offset()).unwrap_or_default(),
        hour: usize::try_from(local.hour()).unwrap_or_default(),
        camera: event.camera.as_str(),
        kind: event.kind.as_str(),
        shows_person: matches!(event.kind, EventKind::Person | EventKind::Face),
        names: &names,
    });
}

/// Writes drawings and figures; says on standard output what was written, on standard error what is to be known.
fn write(folder: &Path, drawings: &[Drawing], summary: &impl Serialize) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mut advice = None;
    let mut progress = Progress::new();
    let mut written = Vec::new();
    for (done, drawing) in (0_u64..).zip(drawings) {
        progress.show("drawing", done, drawings.len() as u64);
        written.push(put(folder, &format!("{}.svg", drawing.name()), drawing.svg()?.as_bytes())?);
        match drawing.png() {
            Ok(png) => written.push(put(folder, &format!("{}.png", drawing.name()), &png)?),
            Err(meerkat_analysis::DrawError::NoFont) => {}
            Err(error) => return Err(error.into()),
        }
        advice = advice.or_else(|| drawing.advice());
    }
    let mut json = serde_json::to_vec_pretty(summary)?;
    json.push(b'\n');
    written.push(put(folder, "summary.json", &json)?);
    progress.end();
    let mut out = std::io::stdout().lock();
    for path in written {
        writeln!(out, "{}", path.display())?;
    }
    if let Some(advice) = advice {
        eprintln!("meerkat: {advice}");
    }
    Ok(())
}

/// Puts a file in place whole, whatever stood there.
fn put(folder: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<PathBuf> {
    let path = folder.join(name);
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(|| path.display().to_string())?;
    file.write_all(bytes).with_context(|| path.display().to_string())?;
    file.persist(&path).with_context(|| path.display().to_string())?;
    Ok(path)
}
