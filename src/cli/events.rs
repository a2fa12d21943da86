//! `meerkat events`: the events of a node, as a table for people or as lines of JSON. Changes nothing.

use std::io::Write;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use meerkat_base::{CameraId, EventId, EventKind, Sighting};
use meerkat_notify::Zone;
use meerkat_store::{ClipState, EventCursor, EventQuery, EventRow};
use serde::Serialize;

use super::settings_args::SettingsArgs;
use super::stored::{PAGE, Stored};
use super::{CliError, logging};
use crate::settings::Settings;

/// Events in a list when nobody says how many.
const DEFAULT_LIMIT: usize = 50;

/// What happened: list events by camera, kind, person and time, or show one with its boxes over time
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  meerkat events list --config node.toml --camera door --kind person --limit 20
  meerkat events list --person 'Li Lei' --since 2026-11-20 --until '2026-11-21 08:00'
  meerkat events list --json --limit 1000       one event per line
  meerkat events list --before CURSOR           the next page: the cursor stands below the table
  meerkat events show 01930000-0000-7000-8000-000000000001 --json

Times are RFC 3339, or a date with or without a time of the day in notify.time_zone.
Exit codes: 0 done, 1 failed or no such event, 2 wrong arguments.")]
pub struct EventsArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List events, newest first
    List(ListArgs),
    /// Show one event with its clips and what was seen when
    Show {
        /// Its id, as `list` shows it
        id: String,
        /// As JSON, with every box
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only of this camera
    #[arg(long)]
    camera: Option<String>,
    /// Only of this kind, such as person, face, motion or disk_low
    #[arg(long)]
    kind: Option<String>,
    /// Only those in which this person was recognised; `unknown` for nobody who is enrolled
    #[arg(long)]
    person: Option<String>,
    /// Only those that started at this moment or later
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only those that started before this moment
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// How many at most
    #[arg(long, default_value_t = DEFAULT_LIMIT)]
    limit: usize,
    /// Only what comes after this place, which an earlier list named
    #[arg(long, value_name = "CURSOR")]
    before: Option<String>,
    /// One JSON object per line instead of a table; the last line is {"next": CURSOR or null}
    #[arg(long)]
    json: bool,
}

/// Does what the arguments say.
pub fn run(args: &EventsArgs) -> Result<(), CliError> {
    let settings = args.settings.load()?;
    logging::start_quiet()?;
    let zone = Zone::parse(&settings.notify.time_zone).map_err(anyhow::Error::from)?;
    match &args.action {
        Action::List(list) => {
            let query = query(list, &zone).map_err(CliError::Usage)?;
            Ok(print_list(&mut std::io::stdout().lock(), &settings, query, list, &zone)?)
        }
        Action::Show { id, json } => {
            let id = id.parse().map_err(|_| CliError::Usage("the id of an event is a UUID".to_owned()))?;
            Ok(show(&settings, id, *json, &zone)?)
        }
    }
}

fn query(list: &ListArgs, zone: &Zone) -> Result<EventQuery, String> {
    let moment = |key: &str, text: &Option<String>| {
        text.as_ref()
            .map(|text| {
                zone.moment(text)
                    .ok_or(format!("--{key}: {text} is no time; write 2026-11-20T21:31:14Z or 2026-11-20"))
            })
            .transpose()
    };
    let camera = list.camera.as_ref().map(|text| CameraId::from_shown(text)).transpose();
    let kind = list.kind.as_ref().map(|text| text.parse::<EventKind>()).transpose();
    let before = list.before.as_ref().map(|text| text.parse::<EventCursor>()).transpose();
    Ok(EventQuery {
        limit: PAGE,
        camera: camera.map_err(|error| format!("--camera: {error}"))?,
        kind: kind
            .map_err(|_| format!("--kind: one of {}", EventKind::ALL.map(EventKind::as_str).join(", ")))?,
        person: list.person.clone(),
        since: moment("since", &list.since)?,
        until: moment("until", &list.until)?,
        before: before.map_err(|error| format!("--before: {error}"))?,
    })
}

/// Says what failed: the events.
fn unreadable(settings: &Settings) -> String {
    format!("the events in {} cannot be read", settings.data_dir.display())
}

fn print_list(
    out: &mut impl Write,
    settings: &Settings,
    mut query: EventQuery,
    list: &ListArgs,
    zone: &Zone,
) -> anyhow::Result<()> {
    let none = none_found(&query);
    let mut stored = Stored::new(settings);
    let mut left = list.limit;
    let mut next = None;
    let mut is_first = true;
    let mut found = false;
    while left > 0 || is_first {
        is_first = false;
        query.limit = left.clamp(1, PAGE);
        let (page, after) = stored.events(&query).with_context(|| unreadable(settings))?;
        if left == 0 {
            break;
        }
        for event in &page {
            if !std::mem::replace(&mut found, true) && !list.json {
                writeln!(out, "{}", Line::head())?;
            }
            if list.json {
                writeln!(out, "{}", serde_json::to_string(event)?)?;
            } else {
                writeln!(out, "{}", Line::of(event, zone))?;
            }
        }
        left -= page.len();
        next = after;
        query.before = next;
        if next.is_none() {
            break;
        }
    }
    match (list.json, next) {
        (true, next) => {
            let next = next.map(|cursor| cursor.to_string());
            writeln!(out, "{}", serde_json::json!({ "next": next }))?;
        }
        (false, Some(cursor)) => writeln!(out, "older ones: --before {cursor}")?,
        (false, None) if !found && list.limit > 0 => writeln!(out, "{none}")?,
        (false, None) => {}
    }
    Ok(())
}

/// What stands in the place of an empty table.
fn none_found(query: &EventQuery) -> &'static str {
    let asked = query.camera.is_some() || query.kind.is_some() || query.person.is_some();
    match query.before {
        Some(_) => "no older events",
        None if asked || query.since.is_some() || query.until.is_some() => "no such event",
        None => "no events",
    }
}

/// One line of the table.
struct Line;

impl Line {
    fn head() -> String {
        format!(
            "{:<25}  {:>8}  {:<16}  {:<17}  {:>5}  {:<5}  {:<36}  {}",
            "started", "seconds", "camera", "kind", "score", "has", "id", "people, or what a notice says"
        )
    }

    fn of(event: &EventRow, zone: &Zone) -> String {
        let seconds = match event.ended {
            Some(ended) => format!("{:.1}", ended.0.saturating_sub(event.started.0) as f64 / 1e6),
            None => "goes on".to_owned(),
        };
        let clip = event.clips.iter().any(|clip| clip.state != ClipState::SetAside);
        let has = format!(
            "{}{}{}{}{}",
            if clip { "c" } else { "-" },
            if event.snapshot.is_some() { "s" } else { "-" },
            if event.interrupted { "!" } else { "-" },
            // The disk did not take everything of its recording; a person wants it to stay.
            if event.recording_refused { "r" } else { "-" },
            if event.kept { "k" } else { "-" }
        );
        let people = event.identities.iter().map(String::as_str).chain(event.detail.as_deref());
        let people = people.collect::<Vec<_>>().join(", ");
        format!(
            "{:<25}  {:>8}  {:<16}  {:<17}  {:>5.2}  {:<5}  {:<36}  {}",
            zone.format(event.started),
            seconds,
            event.camera.as_str(),
            event.kind.as_str(),
            event.score,
            has,
            event.id.to_string(),
            people.replace(|c: char| c.is_control(), "?")
        )
        .trim_end()
        .to_owned()
    }
}

/// An event with everything that was seen.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    event: &'a EventRow,
    sightings: Vec<Sighting>,
}

fn show(settings: &Settings, id: EventId, json: bool, zone: &Zone) -> anyhow::Result<()> {
    let mut stored = Stored::new(settings);
    let found = stored.event(id).with_context(|| unreadable(settings))?;
    let Some(event) = found else { bail!("there is no event {id}") };
    let sightings = stored.sightings(id)?;
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(&Whole { event: &event, sightings })?)?;
        return Ok(());
    }
    writeln!(out, "{}\n{}", Line::head(), Line::of(&event, zone))?;
    for clip in &event.clips {
        let path = settings.data_dir.join(&clip.path);
        let (frames, secs) = (clip.frames, clip.duration.as_secs_f64());
        writeln!(
            out,
            "clip      {} ({frames} frames, {secs:.1} s, {})",
            path.display(),
            clip.state.as_str()
        )?;
    }
    if let Some(snapshot) = &event.snapshot {
        writeln!(out, "snapshot  {}", settings.data_dir.join(snapshot).display())?;
    }
    let started = |sighting: &Sighting| sighting.wall.0.saturating_sub(event.started.0) as f64 / 1e6;
    for sighting in &sightings {
        let seen: Vec<String> = sighting
            .detections
            .iter()
            .map(|d| {
                let b = d.bbox;
                let who = d.identity.as_deref().map(|who| format!(" {who}")).unwrap_or_default();
                format!(
                    "{}{who} {:.2} at {:.0},{:.0} {:.0}x{:.0}",
                    d.label, d.score, b.x, b.y, b.width, b.height
                )
            })
            .collect();
        let seen = seen.join("; ").replace(|c: char| c.is_control(), "?");
        writeln!(out, "{:>+9.3} s  frame {:<8}  {}", started(sighting), sighting.seq, seen)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use meerkat_base::WallTime;

    use super::*;

    fn parsed(args: &[&str]) -> Result<ListArgs, String> {
        #[derive(clap::Parser)]
        struct Own {
            #[command(flatten)]
            list: ListArgs,
        }
        let own: Own = clap::Parser::try_parse_from(["x"].iter().chain(args)).map_err(|e| e.to_string())?;
        Ok(own.list)
    }

    fn list(args: &[&str]) -> Result<EventQuery, String> {
        query(&parsed(args)?, &Zone::parse("+08:00").unwrap())
    }

    #[test]
    fn a_list_of_nothing_says_so() {
        let folder = tempfile::tempdir().unwrap();
        drop(meerkat_store::Store::open(folder.path(), meerkat_store::StoreOptions::default()).unwrap());
        let env = [("MEERKAT__DATA_DIR".to_owned(), folder.path().display().to_string())];
        let settings = Settings::load(&[], env.into_iter()).unwrap();
        let printed = |args: &[&str]| {
            let (mut out, list, zone) = (Vec::new(), parsed(args).unwrap(), Zone::default());
            let query = query(&list, &zone).unwrap();
            print_list(&mut out, &settings, query, &list, &zone).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(printed(&[]), "no events\n");
        assert_eq!(printed(&["--camera", "door"]), "no such event\n");
        let place = EventCursor { started: WallTime(5), id: EventId::new(WallTime(5), [0; 10]) }.to_string();
        assert_eq!(printed(&["--kind", "face", "--before", &place]), "no older events\n");
        assert_eq!(printed(&["--json"]), "{\"next\":null}\n");
    }

    #[test]
    fn what_is_asked_for_is_checked() {
        let asked =
            list(&["--camera", "door", "--kind", "face", "--person", "Li Lei", "--since", "2026-11-21"])
                .unwrap();
        assert_eq!((asked.camera.unwrap().as_str(), asked.kind), ("door", Some(EventKind::Face)));
        assert_eq!(asked.since.unwrap().to_string(), "2026-11-20T16:00:00.000Z");
        for (bad, key) in [
            (["--camera", "../x"], "camera"),
            (["--kind", "cat"], "object_moved"),
            (["--since", "yesterday"], "--since"),
            (["--until", "5"], "--until"),
            (["--before", "5"], "--before"),
        ] {
            let words = list(&bad).unwrap_err();
            assert!(words.contains(key), "{words}");
        }
    }

    #[test]
    fn a_line_holds_no_control_characters() {
        let event = EventRow {
            id: EventId::new(WallTime(1_795_210_274_123_456), [7; 10]),
            camera: CameraId::parse("door").unwrap(),
            kind: EventKind::Face,
            phase: meerkat_base::EventPhase::Ended,
            started: WallTime(1_795_210_274_123_456),
            started_seq: 1,
            ended: Some(WallTime(1_795_210_275_623_456)),
            score: 0.91,
            identities: vec!["Li\x1b[31m Lei".into()],
            interrupted: true,
            recording_refused: true,
            kept: true,
            detail: None,
            snoozed: false,
            clips: Vec::new(),
            snapshot: Some("a.jpg".into()),
        };
        let line = Line::of(&event, &Zone::default());
        assert!(line.starts_with("2026-11-20 21:31:14Z            1.5  door"), "{line}");
        assert!(line.contains(" -s!rk ") && line.ends_with("Li?[31m Lei"), "{line}");
    }
}
