//! `meerkat attendance`: who came and went when, by the rules of the configuration. Changes nothing.

use std::io::Write;

use anyhow::Context;
use clap::{Args, ValueEnum};
use jiff::civil::Date;
use meerkat_base::{Clock, SystemClock, WallTime};
use meerkat_store::ledger::{DayState, Ledger, LedgerDay};

use super::settings_args::SettingsArgs;
use super::stored::Stored;
use super::{CliError, logging};
use crate::app::ledger_rules;
use crate::settings::Settings;

/// The check-in ledger: first and last seen per person and day, check-in and check-out, late and early
///
/// Counts visits at cameras with `attendance = true` that proved themselves. [attendance] in the configuration says
/// what a visit is, when a day begins, and who works when.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  meerkat attendance --config node.toml               today
  meerkat attendance --from 2026-11-01 --to 2026-11-30 --format csv > november.csv
  meerkat attendance --from 2026-11-23 --to 2026-11-27 --person 'Li Lei' --absent

Exit codes: 0 done, 1 failed, 2 wrong arguments or wrong configuration.")]
pub struct AttendanceArgs {
    /// First day, YYYY-MM-DD; today if not given
    #[arg(long, value_name = "DAY", value_parser = day)]
    from: Option<Date>,

    /// Last day, YYYY-MM-DD; as --from if not given
    #[arg(long, value_name = "DAY", value_parser = day)]
    to: Option<Date>,

    /// Only this person
    #[arg(long, value_name = "NAME")]
    person: Option<String>,

    /// Also the work days on which somebody did not come
    #[arg(long)]
    absent: bool,

    /// How it is printed
    #[arg(long, value_enum, default_value = "table")]
    format: Format,

    #[command(flatten)]
    settings: SettingsArgs,
}

fn day(text: &str) -> Result<Date, String> {
    text.parse().map_err(|_| "a day of the calendar is wanted, YYYY-MM-DD, such as 2026-11-20".to_owned())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For spreadsheets, with a line of names first
    Csv,
    /// One JSON object per line
    Json,
}

/// Does what the arguments say.
pub fn run(args: &AttendanceArgs) -> Result<(), CliError> {
    let settings = args.settings.load()?;
    logging::start_quiet()?;
    let days = ledger(&settings, args, SystemClock::new().wall())?;
    let mut out = std::io::stdout().lock();
    let printed = match args.format {
        Format::Table => table(&mut out, &days),
        Format::Csv => csv(&mut out, &days),
        Format::Json => json(&mut out, &days),
    };
    Ok(printed?)
}

fn ledger(settings: &Settings, args: &AttendanceArgs, now: WallTime) -> Result<Vec<LedgerDay>, CliError> {
    let rules = ledger_rules(settings)?;
    let today = jiff::Timestamp::from_microsecond(now.0)
        .map(|now| now.to_zoned(rules.zone.clone()).date())
        .context("the clock of this machine")?;
    let from = args.from.unwrap_or(today);
    let to = args.to.unwrap_or(args.from.unwrap_or(today));
    let usage = |error: meerkat_store::ledger::BadSpan| CliError::Usage(error.to_string());
    let mut ledger = Ledger::new(&rules, from, to).map_err(usage)?;
    let (begin, end) = ledger.span().map_err(usage)?;
    let mut stored = Stored::new(settings);
    let unreadable = || format!("the ledger in {} cannot be read", settings.data_dir.display());
    let people = stored.people().with_context(unreadable)?;
    let wanted = |name: &str| args.person.as_ref().is_none_or(|person| person.trim() == name);
    if let Some(person) = &args.person
        && !people.iter().any(|(name, _)| wanted(name))
    {
        return Err(CliError::Failed(anyhow::anyhow!("nobody named {person} is enrolled")));
    }
    let take = |visit: meerkat_store::CheckInRow| {
        if wanted(&visit.name) {
            ledger.take(&visit);
        }
    };
    stored.each_visit((begin, end), take).with_context(unreadable)?;
    let everybody: Vec<(String, WallTime)> =
        people.into_iter().filter(|(name, _)| args.absent && wanted(name)).collect();
    Ok(ledger.finish(&everybody, now))
}

fn table(out: &mut impl Write, days: &[LedgerDay]) -> anyhow::Result<()> {
    if days.is_empty() {
        writeln!(out, "no visits")?;
        return Ok(());
    }
    let head = ["day", "person", "check-in", "check-out", "hours", "late", "early", "shift", ""];
    let mut rows: Vec<[String; 9]> = vec![head.map(str::to_owned)];
    for day in days {
        rows.push([
            day.day.clone(),
            day.person.clone(),
            clock(day, day.check_in.as_deref()),
            clock(day, day.check_out.as_deref()),
            day.minutes.map(|minutes| format!("{}:{:02}", minutes / 60, minutes % 60)).unwrap_or_default(),
            minutes(day.late_minutes),
            minutes(day.early_minutes),
            day.shift.clone().unwrap_or_default(),
            remark(day).to_owned(),
        ]);
    }
    // Chinese characters take two places.
    let width = |text: &str| text.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum::<usize>();
    let widths: Vec<usize> =
        (0..head.len()).map(|column| rows.iter().map(|row| width(&row[column])).max().unwrap_or(0)).collect();
    for row in &rows {
        let mut line = String::new();
        for (cell, wide) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(wide.saturating_sub(width(cell)) + 2));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// The time of the day, with the date where it is not the ledger's.
fn clock(day: &LedgerDay, time: Option<&str>) -> String {
    let Some((date, rest)) = time.and_then(|time| time.split_once('T')) else { return String::new() };
    let clock = rest.get(..5).unwrap_or(rest);
    if date == day.day { clock.to_owned() } else { format!("{clock} ({date})") }
}

fn minutes(minutes: i64) -> String {
    if minutes == 0 { String::new() } else { format!("{minutes} min") }
}

fn remark(day: &LedgerDay) -> &'static str {
    match (day.state, day.work_day) {
        (DayState::Absent, _) => "absent",
        (DayState::NoCheckOut, _) => "no check-out",
        (DayState::NoCheckIn, _) => "no check-in",
        (DayState::Present, false) => "day off",
        (DayState::Present, true) => "",
    }
}

const COLUMNS: [&str; 13] = [
    "day",
    "person",
    "state",
    "work_day",
    "shift",
    "first",
    "last",
    "check_in",
    "check_out",
    "minutes",
    "late_minutes",
    "early_minutes",
    "visits",
];

fn csv(out: &mut impl Write, days: &[LedgerDay]) -> anyhow::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record(COLUMNS)?;
    for day in days {
        let state = serde_json::to_value(day.state)?;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        writer.write_record([
            day.day.clone(),
            harmless(&day.person),
            state.as_str().unwrap_or_default().to_owned(),
            day.work_day.to_string(),
            harmless(&text(&day.shift)),
            text(&day.first),
            text(&day.last),
            text(&day.check_in),
            text(&day.check_out),
            day.minutes.map(|minutes| minutes.to_string()).unwrap_or_default(),
            day.late_minutes.to_string(),
            day.early_minutes.to_string(),
            day.visits.to_string(),
        ])?;
    }
    writer.flush()?;
    Ok(())
}

/// A name that a spreadsheet would take for a formula gets an apostrophe in front.
fn harmless(name: &str) -> String {
    if name.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{name}") } else { name.to_owned() }
}

fn json(out: &mut impl Write, days: &[LedgerDay]) -> anyhow::Result<()> {
    for day in days {
        writeln!(out, "{}", serde_json::to_string(day)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use meerkat_base::{CameraId, EventId, ImageFormat};
    use meerkat_store::{Consent, Store, StoreOptions};

    use super::*;

    fn at(text: &str) -> WallTime {
        WallTime(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    fn args(from: &str, absent: bool) -> AttendanceArgs {
        let from: Date = from.parse().unwrap();
        AttendanceArgs {
            from: Some(from),
            to: None,
            person: None,
            absent,
            format: Format::Table,
            settings: SettingsArgs::default(),
        }
    }

    #[test]
    fn a_day_that_there_is_not_is_named_with_the_form_that_is_wanted() {
        #[derive(Debug, clap::Parser)]
        struct Own {
            #[command(flatten)]
            attendance: AttendanceArgs,
        }
        let parse = |option: &str, text: &str| <Own as clap::Parser>::try_parse_from(["x", option, text]);
        assert!(parse("--from", "2026-11-30").unwrap().attendance.from.is_some());
        for (option, text) in [("--from", "2026-13-01"), ("--to", "yesterday"), ("--to", "2026-02-30")] {
            let said = parse(option, text).unwrap_err().to_string();
            assert!(said.contains(option) && said.contains(text) && said.contains("YYYY-MM-DD"), "{said}");
        }
    }

    #[test]
    fn a_day_is_read_reckoned_and_printed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.toml");
        std::fs::write(
            &file,
            format!(
                "data_dir = {:?}\n[attendance]\ntime_zone = \"+08:00\"\n[attendance.shifts.day]\nstart = \"09:00\"\n\
                 end = \"18:00\"\n[cameras.door]\ntoken = \"secret\"\nattendance = true\n",
                folder.path().join("data")
            ),
        )
        .unwrap();
        let settings = Settings::load(&[file], std::iter::empty()).unwrap();
        let mut store = Store::open(&settings.data_dir, StoreOptions::default()).unwrap();
        let (door, repeat) = (CameraId::parse("door").unwrap(), Duration::from_secs(300));
        let consent = Consent { by: "themselves".to_owned(), at: at("2026-11-01T00:00:00Z") };
        for name in ["=李雷", "Han Meimei"] {
            store.enrol(name, &[(b"jpeg", ImageFormat::Jpeg)], &consent, at("2026-11-01T00:00:00Z")).unwrap();
        }
        for (n, time) in [(1, "2026-11-23T01:20:00Z"), (2, "2026-11-23T10:01:00Z")] {
            let id = EventId::new(at(time), [n; 10]);
            store.check_in("=李雷", &door, at(time), id, repeat).unwrap();
        }
        drop(store);
        let now = at("2026-11-24T10:00:00Z");
        let days = ledger(&settings, &args("2026-11-23", true), now).unwrap();
        let printed = |print: fn(&mut Vec<u8>, &[LedgerDay]) -> anyhow::Result<()>| {
            let mut out = Vec::new();
            print(&mut out, &days).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            printed(table),
            "day         person      check-in  check-out  hours  late    early  shift\n\
             2026-11-23  =李雷       09:20     18:01      8:41   20 min         day\n\
             2026-11-23  Han Meimei                                             day    absent\n"
        );
        assert_eq!(
            printed(csv).lines().nth(1).unwrap(),
            "2026-11-23,'=李雷,present,true,day,2026-11-23T09:20:00+08:00,2026-11-23T18:01:00+08:00,\
             2026-11-23T09:20:00+08:00,2026-11-23T18:01:00+08:00,521,20,0,2"
        );
        let first: LedgerDay = serde_json::from_str(printed(json).lines().next().unwrap()).unwrap();
        assert_eq!(first, days[0]);

        let one = AttendanceArgs { person: Some("Han Meimei".to_owned()), ..args("2026-11-23", false) };
        assert_eq!(ledger(&settings, &one, now).unwrap(), []);
        let nobody_came = |print: fn(&mut Vec<u8>, &[LedgerDay]) -> anyhow::Result<()>| {
            let mut out = Vec::new();
            print(&mut out, &[]).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!((nobody_came(table).as_str(), nobody_came(json).as_str()), ("no visits\n", ""));
        let nobody = AttendanceArgs { person: Some("Eve".to_owned()), ..args("2026-11-23", false) };
        assert!(matches!(ledger(&settings, &nobody, now), Err(CliError::Failed(_))));
        let backward =
            AttendanceArgs { to: Some("2026-11-22".parse().unwrap()), ..args("2026-11-23", false) };
        assert!(matches!(ledger(&settings, &backward, now), Err(CliError::Usage(_))));
    }
}
