//! `meerkat snooze`, `disarm` and `arm`: whose messages are kept back. Beside a running node that node is asked;
//! otherwise the data folder is worked in, under its lock.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::{ArgGroup, Args, Subcommand};
use jiff::tz::TimeZone;
use jiff::{Span, SpanRelativeTo, Timestamp, civil};
use meerkat_base::{CameraId, Clock, SystemClock, WallTime};
use meerkat_store::{DataLock, Durability, Store, StoreError, StoreOptions, StoreReader};
use meerkat_web::{NewSnooze, SnoozeEnd};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::running_node::RunningNode;
use super::settings_args::{SettingsArgs, require_data_dir};
use super::{CliError, faces, logging};
use crate::app::{snooze, snooze_status};
use crate::settings::{self, Settings};

/// Nothing is snoozed for longer; whoever wants that disarms.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// Keep messages back for a while; events are recorded all the same, and marked
///
/// Without --camera and --rule it is about every camera. What the node says about itself (a full disk, a dead channel)
/// is kept back only by a snooze of the rule that tells it.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  meerkat snooze --camera yard --for 2h --reason 'the gardener'
  meerkat snooze --rule yard_at_night --until 07:00
  meerkat snooze list
  meerkat snooze cancel 0b6f7c1e-6f55-4f4b-9c43-0f3b6d2f8a11
  meerkat snooze cancel --all

Exit codes: 0 done, 1 failed, 2 wrong arguments or wrong configuration."
)]
pub struct SnoozeArgs {
    #[command(subcommand)]
    action: Option<Action>,

    #[command(flatten)]
    scope: Scope,

    /// How long, such as 90m, 2h or '1 day 12 hours'
    #[arg(long = "for", value_name = "LENGTH", value_parser = length, conflicts_with = "until")]
    length: Option<Duration>,

    /// Until when: 07:00 (the next one), 2026-12-24T18:00 (both by notify.time_zone), or with an offset
    #[arg(long, value_name = "TIME")]
    until: Option<String>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show what is snoozed or disarmed
    List {
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// End a snooze before its time
    #[command(group(ArgGroup::new("which").required(true).args(["id", "all"])))]
    Cancel {
        /// Its id, as `list` shows it
        id: Option<String>,

        /// Every one, also what is disarmed
        #[arg(long)]
        all: bool,
    },
}

/// Keep messages back until somebody arms again
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  meerkat disarm                    no messages about any camera
  meerkat disarm --camera yard
  meerkat arm --camera yard

Events are recorded all the same, and marked.
Exit codes: 0 done, 1 failed, 2 wrong arguments or wrong configuration.")]
pub struct DisarmArgs {
    #[command(flatten)]
    scope: Scope,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    settings: SettingsArgs,
}

/// Take back what `disarm` said, for the same camera and rule; snoozes stay
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong arguments or wrong configuration.")]
pub struct ArmArgs {
    /// The camera that was disarmed
    #[arg(long, value_name = "ID", value_parser = camera)]
    camera: Option<CameraId>,

    /// The rule that was disarmed
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Debug, Args)]
struct Scope {
    /// Only messages about this camera
    #[arg(long, value_name = "ID", value_parser = camera)]
    camera: Option<CameraId>,

    /// Only messages of this rule
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,

    /// Why, for whoever reads the list
    #[arg(long, value_name = "WORDS", default_value = "")]
    reason: String,
}

/// A snooze as the list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listed {
    pub id: String,
    pub camera: Option<String>,
    pub rule: Option<String>,
    pub until: Option<String>,
    pub reason: String,
    pub created: String,
}

/// `meerkat snooze`.
pub fn run(args: SnoozeArgs) -> Result<(), CliError> {
    logging::start_quiet()?;
    let settings = args.settings.load()?;
    match args.action {
        Some(Action::List { json }) => Ok(list(&settings, json)?),
        Some(Action::Cancel { id, .. }) => Ok(cancel(&settings, id.as_deref())?),
        None => {
            let end = match (args.length, args.until) {
                (Some(length), _) => SnoozeEnd::After(length),
                (None, Some(text)) => {
                    let zone = settings::time_zone(&settings.notify.time_zone).unwrap_or(TimeZone::UTC);
                    let end = until(&text, &zone, SystemClock::new().wall());
                    SnoozeEnd::At(end.map_err(|error| CliError::Usage(format!("--until {text}: {error:#}")))?)
                }
                (None, None) => {
                    return Err(CliError::Usage(
                        "say until when: --for or --until (or `meerkat disarm`)".to_owned(),
                    ));
                }
            };
            Ok(add(&settings, args.scope, end, args.json)?)
        }
    }
}

/// `meerkat disarm`.
pub fn disarm(args: DisarmArgs) -> Result<(), CliError> {
    logging::start_quiet()?;
    let settings = args.settings.load()?;
    Ok(add(&settings, args.scope, SnoozeEnd::Never, args.json)?)
}

/// `meerkat arm`.
pub fn arm(args: ArmArgs) -> Result<(), CliError> {
    logging::start_quiet()?;
    let settings = args.settings.load()?;
    let mut desk = Desk::open(&settings)?;
    let camera = args.camera.as_ref().map(CameraId::as_str);
    let found: Vec<Listed> = desk
        .snoozes()?
        .into_iter()
        .filter(|one| one.until.is_none() && one.camera.as_deref() == camera && one.rule == args.rule)
        .collect();
    for one in &found {
        desk.cancel(&one.id)?;
    }
    if args.json {
        println!("{}", serde_json::json!({ "armed": found.len() }));
    } else if found.is_empty() {
        println!("nothing of this kind was disarmed");
    } else {
        println!("armed again: {}", what(camera, args.rule.as_deref()));
    }
    Ok(())
}

/// Where the snoozes are kept at this moment.
enum Desk {
    /// No node runs: the folder is ours.
    Folder(Box<Store>),
    /// A node has the folder.
    Node(RunningNode),
}

impl Desk {
    fn open(settings: &Settings) -> anyhow::Result<Self> {
        require_data_dir(settings)?;
        let durability = match settings.durability {
            settings::Durability::Process => Durability::Process,
            settings::Durability::Power => Durability::Power,
        };
        match Store::open(&settings.data_dir, StoreOptions { durability, ..StoreOptions::default() }) {
            Ok(store) => Ok(Self::Folder(Box::new(store))),
            Err(error) => Ok(Self::Node(faces::reach(settings, error)?)),
        }
    }

    fn snoozes(&self) -> anyhow::Result<Vec<Listed>> {
        match self {
            Self::Folder(store) => listed(store),
            Self::Node(node) => node.snoozes(),
        }
    }

    fn cancel(&mut self, id: &str) -> anyhow::Result<bool> {
        match self {
            Self::Folder(store) => match Uuid::parse_str(id) {
                Ok(id) => Ok(store.cancel_snooze(id)?),
                Err(_) => Ok(false),
            },
            Self::Node(node) => node.cancel_snooze(id),
        }
    }
}

fn listed(store: &StoreReader) -> anyhow::Result<Vec<Listed>> {
    let snoozes = store.snoozes(SystemClock::new().wall())?;
    snoozes.iter().map(|one| show(&snooze_status(one))).collect()
}

fn show(status: &meerkat_web::SnoozeStatus) -> anyhow::Result<Listed> {
    Ok(serde_json::from_value(serde_json::to_value(status)?)?)
}

fn add(settings: &Settings, scope: Scope, end: SnoozeEnd, json: bool) -> anyhow::Result<()> {
    let order = NewSnooze { camera: scope.camera, rule: scope.rule, end, reason: scope.reason };
    let added = match Desk::open(settings)? {
        Desk::Folder(mut store) => {
            let rules = &settings.notify.rules;
            if let Some(rule) = order.rule.as_ref().filter(|rule| !rules.iter().any(|own| own.name == **rule))
            {
                bail!("there is no rule {rule}: see [notify.rules] in the configuration");
            }
            let now = SystemClock::new().wall();
            let snooze = snooze(order, now);
            store.add_snooze(&snooze, now)?;
            show(&snooze_status(&snooze))?
        }
        Desk::Node(node) => node.add_snooze(&order)?,
    };
    if json {
        println!("{}", serde_json::to_string(&added)?);
        return Ok(());
    }
    if let Some(camera) = added.camera.as_deref()
        && !settings.cameras.keys().any(|own| own.as_str() == camera)
    {
        eprintln!(
            "note: no camera {camera} is in the configuration; it holds for one that says this name itself"
        );
    }
    let about = what(added.camera.as_deref(), added.rule.as_deref());
    match &added.until {
        Some(until) => println!("snoozed until {until}: {about} ({})", added.id),
        None => println!("disarmed: {about} ({})", added.id),
    }
    Ok(())
}

fn list(settings: &Settings, json: bool) -> anyhow::Result<()> {
    let snoozes = all(settings)?;
    if json {
        for one in &snoozes {
            println!("{}", serde_json::to_string(one)?);
        }
        return Ok(());
    }
    if snoozes.is_empty() {
        println!("nothing is snoozed or disarmed");
    }
    for one in &snoozes {
        let until =
            one.until.as_deref().map_or_else(|| "disarmed".to_owned(), |until| format!("until {until}"));
        let about = what(one.camera.as_deref(), one.rule.as_deref());
        let reason = if one.reason.is_empty() { String::new() } else { format!(": {}", one.reason) };
        println!("{}  {until}, {about}{reason}", one.id);
    }
    Ok(())
}

fn all(settings: &Settings) -> anyhow::Result<Vec<Listed>> {
    // Looking must not make a folder.
    if !settings.data_dir.exists() {
        return Ok(Vec::new());
    }
    let _lock = match DataLock::take(&settings.data_dir) {
        Ok(lock) => lock,
        Err(error) => return faces::reach(settings, error)?.snoozes(),
    };
    match StoreReader::open(&settings.data_dir) {
        Ok(store) => listed(&store),
        Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn cancel(settings: &Settings, id: Option<&str>) -> anyhow::Result<()> {
    let mut desk = Desk::open(settings)?;
    let ids = match id {
        Some(id) => vec![id.to_owned()],
        None => desk.snoozes()?.into_iter().map(|one| one.id).collect(),
    };
    for one in &ids {
        if !desk.cancel(one)? && id.is_some() {
            bail!("there is no snooze {one}");
        }
    }
    println!("{} cancelled", ids.len());
    Ok(())
}

/// What a snooze is about, in words.
fn what(camera: Option<&str>, rule: Option<&str>) -> String {
    match (camera, rule) {
        (None, None) => "every camera".to_owned(),
        (Some(camera), None) => format!("camera {camera}"),
        (None, Some(rule)) => format!("rule {rule}"),
        (Some(camera), Some(rule)) => format!("rule {rule} at camera {camera}"),
    }
}

fn camera(text: &str) -> Result<CameraId, String> {
    CameraId::from_shown(text).map_err(|error| error.to_string())
}

/// `90m`, `2h`, `1 day 12 hours`.
fn length(text: &str) -> Result<Duration, String> {
    let allowed = "a length of time such as 90m, 2h or 3d, at most 366 days";
    let span: Span = text.parse().map_err(|_| allowed.to_owned())?;
    let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| allowed.to_owned())?;
    let length = Duration::try_from(length).map_err(|_| allowed.to_owned())?;
    if length.is_zero() || length > LONGEST { Err(allowed.to_owned()) } else { Ok(length) }
}

/// The moment that a text means: with an offset as it stands, else by the clock of `zone`.
fn until(text: &str, zone: &TimeZone, now: WallTime) -> anyhow::Result<WallTime> {
    let wall = |at: Timestamp| WallTime(at.as_microsecond());
    let end = if let Ok(at) = text.parse::<Timestamp>() {
        wall(at)
    } else if let Some(time) = time_of_day(text) {
        let now_there = Timestamp::from_microsecond(now.0)?.to_zoned(zone.clone());
        let today = now_there.date().to_datetime(time).to_zoned(zone.clone())?;
        if wall(today.timestamp()) > now {
            wall(today.timestamp())
        } else {
            let tomorrow = now_there.date().tomorrow()?.to_datetime(time);
            wall(tomorrow.to_zoned(zone.clone())?.timestamp())
        }
    } else {
        let at: civil::DateTime = text.parse().map_err(|_| {
            anyhow!("a time of day such as 07:00, or a day and time such as 2026-12-24T18:00")
        })?;
        wall(at.to_zoned(zone.clone()).context("not a time there")?.timestamp())
    };
    if end <= now {
        bail!("is over already");
    }
    if end > now.offset_micros(i64::try_from(LONGEST.as_micros()).unwrap_or(i64::MAX)) {
        bail!("more than 366 days ahead: `meerkat disarm` holds for ever");
    }
    Ok(end)
}

/// `07:00`; not the time in a text that says the day too, which the parser would also find.
fn time_of_day(text: &str) -> Option<civil::Time> {
    if text.contains(['-', 'T']) { None } else { text.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read() {
        let check = |text: &str, secs: u64| assert_eq!(length(text), Ok(Duration::from_secs(secs)), "{text}");
        check("90m", 5_400);
        check("2h", 7_200);
        check("1h 30m", 5_400);
        check("3d", 259_200);
        check("45s", 45);
        for bad in ["", "2", "h", "-2h", "0s", "400d", "soon"] {
            assert!(length(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ends_are_by_the_clock_of_the_zone() {
        let at = |text: &str| WallTime(text.parse::<Timestamp>().unwrap().as_microsecond());
        let (zone, now) = (TimeZone::get("Asia/Shanghai").unwrap(), at("2026-11-27T12:00:00Z"));
        let check = |text: &str, expected: &str| {
            assert_eq!(until(text, &zone, now).unwrap(), at(expected), "{text}");
        };
        check("21:30", "2026-11-27T13:30:00Z");
        check("07:00", "2026-11-27T23:00:00Z");
        check("20:00", "2026-11-28T12:00:00Z");
        check("2026-12-24T18:00", "2026-12-24T10:00:00Z");
        check("2026-12-24T18:00:00Z", "2026-12-24T18:00:00Z");
        check("2026-12-24T18:00+01:00", "2026-12-24T17:00:00Z");
        for bad in ["2026-11-27T12:00:00Z", "2025-01-01T00:00", "2036-01-01T00:00", "tomorrow", "25:00"] {
            assert!(until(bad, &zone, now).is_err(), "{bad}");
        }
    }
}
