//! `meerkat alerts`: what waits, what was given up, and whether a channel works. Beside a running node that node is
//! asked; otherwise the data folder is worked in, under its lock.

use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use meerkat_actors::notifier::try_out;
use meerkat_base::{CameraId, Clock, SystemClock};
use meerkat_store::{
    DataLock, Durability, OutboxQuery, OutboxState, Requeued, Store, StoreError, StoreOptions, StoreReader,
};
use meerkat_web::TestResult;
use serde_json::Value;
use uuid::Uuid;

use super::running_node::RunningNode;
use super::settings_args::{SettingsArgs, require_data_dir};
use super::{CliError, logging};
use crate::app::{alert_summary, channels, unusable_folder};
use crate::settings::{self, Settings};

/// See which alerts wait or were given up, try them again, or try a channel out
///
/// Works in the data folder of the configuration. Where a node runs in it, that node is asked, at http.listen and with
/// http.token of the configuration.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  meerkat alerts list --state dead                     what was given up, and why
  meerkat alerts retry 6f1c2a0e-0f5b-4a7e-8d55-0a4c3b2d1e00
  meerkat alerts retry --all-dead --channel office     after the cause is gone
  meerkat alerts test office                           send a test message and explain a refusal

Exit codes: 0 done, 1 failed or not delivered, 2 wrong arguments or wrong configuration.")]
pub struct AlertsArgs {
    #[command(subcommand)]
    action: Action,

    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show alerts, the newest first
    List {
        /// Only those that wait, were delivered, or were given up (dead)
        #[arg(long, value_enum)]
        state: Option<State>,

        /// Only those for this channel
        #[arg(long)]
        channel: Option<String>,

        /// Only those about this camera
        #[arg(long)]
        camera: Option<String>,

        /// At most so many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
        limit: u16,

        /// Print one JSON object per alert
        #[arg(long)]
        json: bool,
    },
    /// Put dead letters back into the queue
    Retry {
        /// The id of a dead letter, as `list` shows it
        #[arg(required_unless_present = "all_dead", conflicts_with = "all_dead")]
        id: Option<Uuid>,

        /// All that were given up
        #[arg(long)]
        all_dead: bool,

        /// Only those for this channel
        #[arg(long, requires = "all_dead")]
        channel: Option<String>,
    },
    /// Remove an alert that waits or was given up
    Drop {
        /// Its id, as `list` shows it
        id: Uuid,
    },
    /// Send a test message by a channel, and say what came of it
    Test {
        /// The name of the channel in the configuration
        channel: String,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum State {
    Waiting,
    Delivered,
    Dead,
}

impl State {
    fn stored(self) -> OutboxState {
        match self {
            State::Waiting => OutboxState::Waiting,
            State::Delivered => OutboxState::Delivered,
            State::Dead => OutboxState::Dead,
        }
    }
}

/// Does what the arguments say.
pub fn run(args: AlertsArgs) -> Result<(), CliError> {
    let settings = args.settings.load()?;
    logging::start_quiet()?;
    match args.action {
        Action::List { state, channel, camera, limit, json } => {
            let camera = camera.map(|text| CameraId::from_shown(&text)).transpose();
            let camera = camera.map_err(|error| CliError::Usage(format!("--camera: {error}")))?;
            let query = OutboxQuery {
                state: state.map(State::stored),
                channel,
                camera,
                before: None,
                limit: usize::from(limit),
            };
            Ok(list(&settings, &query, json)?)
        }
        Action::Retry { id: Some(id), .. } => Ok(retry(&settings, id)?),
        Action::Retry { id: None, channel, .. } => Ok(retry_dead(&settings, channel.as_deref())?),
        Action::Drop { id } => Ok(drop_alert(&settings, id)?),
        Action::Test { channel } => test(&settings, &channel),
    }
}

/// Where the outbox is at this moment.
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
            Err(error) => Ok(Self::Node(reach(settings, error)?)),
        }
    }
}

/// The node that has the folder, if that is why it could not be opened.
fn reach(settings: &Settings, error: StoreError) -> anyhow::Result<RunningNode> {
    let StoreError::Locked { holder, .. } = &error else {
        return Err(unusable_folder(&settings.data_dir, error));
    };
    RunningNode::find(settings, holder)
        .with_context(|| format!("{error}, and cannot be asked at http.listen = {}", settings.http.listen))
}

fn list(settings: &Settings, query: &OutboxQuery, json: bool) -> anyhow::Result<()> {
    let alerts = alerts(settings, query)?;
    for alert in &alerts {
        println!("{}", if json { alert.to_string() } else { line(alert) });
    }
    if alerts.is_empty() && !json {
        let asked = query.state.is_some() || query.channel.is_some() || query.camera.is_some();
        println!("{}", if asked { "no such alert" } else { "no alerts" });
    }
    Ok(())
}

fn alerts(settings: &Settings, query: &OutboxQuery) -> anyhow::Result<Vec<Value>> {
    // Looking must not make a folder.
    if !settings.data_dir.exists() {
        return Ok(Vec::new());
    }
    let _lock = match DataLock::take(&settings.data_dir) {
        Ok(lock) => lock,
        Err(error) => {
            let mut answer = reach(settings, error)?.get(&format!("alerts?{}", question(query)))?;
            let Value::Array(alerts) = answer["alerts"].take() else {
                bail!("the node answers with something that is no list of alerts");
            };
            return Ok(alerts);
        }
    };
    match StoreReader::open(&settings.data_dir) {
        Ok(store) => {
            let rows = store.outbox_list(query)?.into_iter().map(alert_summary);
            Ok(rows.map(serde_json::to_value).collect::<Result<_, _>>()?)
        }
        Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// The query as the interface of a node takes it.
fn question(query: &OutboxQuery) -> String {
    let mut question = format!("limit={}", query.limit);
    if let Some(state) = query.state {
        question.push_str(&format!("&state={}", state.as_str()));
    }
    if let Some(channel) = &query.channel {
        question.push_str(&format!("&channel={}", escaped(channel)));
    }
    if let Some(camera) = &query.camera {
        question.push_str(&format!("&camera={}", escaped(camera.as_str())));
    }
    question
}

/// Text as it may stand in a query or a path (RFC 3986, section 2.3).
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

fn line(alert: &Value) -> String {
    let word = |key: &str| alert[key].as_str().unwrap_or("-").to_owned();
    let mut line = format!("{}  {}  {:<9}", word("id"), word("created"), word("state"));
    line.push_str(&format!("  {}  {}  {}", word("channel"), word("camera"), word("kind")));
    if let Some(part @ 1..) = alert["part"].as_u64() {
        line.push_str(&format!(", clip {part}"));
    }
    let attempts = alert["attempts"].as_u64().unwrap_or(0);
    if attempts != 1 {
        line.push_str(&format!(", {attempts} attempts"));
    }
    if alert["digest"].is_string() {
        line.push_str(", in a digest");
    }
    if let Some(error) = alert["last_error"].as_str() {
        line.push_str(&format!(": {error}"));
    }
    line
}

fn retry(settings: &Settings, id: Uuid) -> anyhow::Result<()> {
    match Desk::open(settings)? {
        Desk::Folder(mut store) => match store.requeue(id, SystemClock::new().wall())? {
            Requeued::Yes => {}
            Requeued::Is(state) => bail!("this alert is {}, only dead ones can be retried", state.as_str()),
            Requeued::Unknown => bail!("there is no alert with this id"),
        },
        Desk::Node(node) => drop(node.post(&format!("alerts/{id}/retry"))?),
    }
    println!("{id} waits again");
    Ok(())
}

fn retry_dead(settings: &Settings, channel: Option<&str>) -> anyhow::Result<()> {
    let count = match Desk::open(settings)? {
        Desk::Folder(mut store) => {
            let now = SystemClock::new().wall();
            let mut count = 0;
            loop {
                let put_back = store.requeue_dead(channel, now)?;
                if put_back == 0 {
                    break count;
                }
                count += put_back as u64;
            }
        }
        Desk::Node(node) => {
            let only = channel.map(|name| format!("?channel={}", escaped(name))).unwrap_or_default();
            node.post(&format!("alerts/retry-dead{only}"))?["retried"].as_u64().unwrap_or(0)
        }
    };
    println!("{count} dead letters wait again");
    Ok(())
}

fn drop_alert(settings: &Settings, id: Uuid) -> anyhow::Result<()> {
    match Desk::open(settings)? {
        Desk::Folder(mut store) => {
            if store.drop_alert(id)? == 0 {
                bail!("there is no alert with this id that waits by itself or was given up");
            }
        }
        Desk::Node(node) => drop(node.delete(&format!("alerts/{id}"))?),
    }
    println!("{id} was dropped");
    Ok(())
}

fn test(settings: &Settings, channel: &str) -> Result<(), CliError> {
    if !settings.notify.channels.contains_key(channel) {
        let names: Vec<&str> = settings.notify.channels.keys().map(String::as_str).collect();
        let known = if names.is_empty() { "none is configured".to_owned() } else { names.join(", ") };
        return Err(CliError::Usage(format!("there is no channel {channel}; channels: {known}")));
    }
    let result = try_channel(settings, channel)?;
    if result.delivered {
        println!("{channel}: delivered; look whether it has come");
        return Ok(());
    }
    let how = if result.refused { "refused for good" } else { "not delivered; it may work later" };
    println!("{channel}: {how}: {}", result.reason.as_deref().unwrap_or("no reason given"));
    if let Some(advice) = result.advice {
        println!("{advice}");
    }
    Err(CliError::Reported)
}

/// By the running node, whose rate limits these are; by ourselves where none runs.
fn try_channel(settings: &Settings, channel: &str) -> anyhow::Result<TestResult> {
    if settings.data_dir.exists()
        && let Err(error) = DataLock::take(&settings.data_dir)
    {
        let answer = reach(settings, error)?.post(&format!("channels/{}/test", escaped(channel)))?;
        let text = |key: &str| answer[key].as_str().map(str::to_owned);
        return Ok(TestResult {
            delivered: answer["delivered"].as_bool().unwrap_or(false),
            refused: answer["refused"].as_bool().unwrap_or(false),
            reason: text("reason"),
            advice: text("advice"),
        });
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Inside the runtime: some channels keep a connection of their own.
    let tried = runtime.block_on(async {
        let all = channels::all(settings, &clock, &channels::Lasting::default())?;
        let found = all.iter().find(|one| one.name() == channel).context("the channel is gone")?;
        anyhow::Ok(try_out(found.as_ref(), clock.as_ref()).await)
    })?;
    Ok(TestResult {
        delivered: tried.delivered,
        refused: tried.refused,
        reason: tried.reason,
        advice: tried.advice,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_escaped_and_lines_say_what_matters() {
        let query = OutboxQuery {
            state: Some(OutboxState::Dead),
            channel: Some("a&b c".to_owned()),
            camera: Some(CameraId::from_shown("fe80::1").unwrap()),
            before: None,
            limit: 7,
        };
        assert_eq!(question(&query), "limit=7&state=dead&channel=a%26b%20c&camera=fe80%3A%3A1");
        let alert = serde_json::json!({
            "id": "6f1c", "created": "2026-11-20T21:31:14.123Z", "state": "dead", "channel": "office",
            "camera": "door", "kind": "person", "part": 2, "attempts": 3, "digest": null,
            "last_error": "status 410",
        });
        assert_eq!(
            line(&alert),
            "6f1c  2026-11-20T21:31:14.123Z  dead       office  door  person, clip 2, 3 attempts: status 410"
        );
    }

    #[test]
    fn an_outbox_that_is_not_there_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let env = [("MEERKAT__DATA_DIR".to_owned(), folder.path().join("none").display().to_string())];
        let settings = Settings::load(&[], env.into_iter()).unwrap();
        let query = OutboxQuery { limit: 9, ..OutboxQuery::default() };
        assert!(alerts(&settings, &query).unwrap().is_empty());
        assert!(!folder.path().join("none").exists());
        assert!(matches!(test(&settings, "office"), Err(CliError::Usage(words)) if words.contains("office")));
    }
}
