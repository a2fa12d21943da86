//! `meerkat faces unknown`: faces that matched nobody, in groups, and what becomes of them.

use anyhow::{Context, bail};
use clap::Subcommand;
use meerkat_store::{DataLock, StoreError, StoreReader};
use meerkat_web::{Assignment, PeopleDesk};
use serde_json::{Value, json};

use super::{Desk, EvenArgs, not_enrolled, reach, refused, say_enrolled};
use crate::app::unknown_faces;
use crate::cli::running_node::Listed;
use crate::settings::Settings;

/// Faces that matched nobody and are kept for a few days ([faces] in the configuration)
#[derive(Debug, Subcommand)]
pub(super) enum UnknownAction {
    /// Show the groups, the one that was seen last first, with the files of their pictures
    List {
        /// Print one JSON object per group
        #[arg(long)]
        json: bool,
    },
    /// Enrol somebody of the pictures of a group
    Assign {
        /// The group's number
        group: u64,

        /// The name under which they are recognised; somebody who is enrolled gets the pictures too
        name: String,

        /// Who agreed to the enrolment; kept with the date
        #[arg(long, value_name = "WHO")]
        consent_by: String,

        #[command(flatten)]
        even: EvenArgs,
    },
    /// Delete a group
    Delete {
        /// The group's number
        group: u64,
    },
}

pub(super) fn run(settings: &Settings, action: UnknownAction) -> anyhow::Result<()> {
    match action {
        UnknownAction::List { json } => list(settings, json),
        UnknownAction::Assign { group, name, consent_by, even } => {
            let assignment = Assignment { group, name, consent_by, even: even.into() };
            assign(settings, assignment)
        }
        UnknownAction::Delete { group } => delete(settings, group),
    }
}

fn list(settings: &Settings, json: bool) -> anyhow::Result<()> {
    let groups = groups(settings)?;
    if json {
        for group in &groups {
            println!("{group}");
        }
        return Ok(());
    }
    if groups.is_empty() {
        println!("no unknown faces are kept in {}", settings.data_dir.display());
    }
    for group in &groups {
        let word = |key: &str| group[key].as_str().unwrap_or_default();
        let pictures = group["pictures"].as_array().map(Vec::as_slice).unwrap_or_default();
        println!(
            "{}  seen {} times from {} to {}, {} pictures",
            group["group"],
            group["seen"],
            word("first"),
            word("last"),
            pictures.len()
        );
        for picture in pictures {
            let word = |key: &str| picture[key].as_str().unwrap_or_default();
            println!("    {}  {}  {}", word("file"), word("camera"), word("at"));
        }
    }
    Ok(())
}

/// The groups as the API shows them.
fn groups(settings: &Settings) -> anyhow::Result<Vec<Value>> {
    // Looking must not make a folder.
    if !settings.data_dir.exists() {
        return Ok(Vec::new());
    }
    let _lock = match DataLock::take(&settings.data_dir) {
        Ok(lock) => lock,
        Err(error @ StoreError::Locked { .. }) => {
            let mut answer = reach(settings, error)?.get("faces/unknown")?;
            return match answer["groups"].take() {
                Value::Array(groups) => Ok(groups),
                _ => bail!("the node answers with something that is no list of unknown faces"),
            };
        }
        Err(error) => return Err(error.into()),
    };
    let groups = match StoreReader::open(&settings.data_dir) {
        Ok(store) => unknown_faces(&store)?,
        Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    groups.into_iter().map(|group| serde_json::to_value(group).context("a group cannot be shown")).collect()
}

fn assign(settings: &Settings, assignment: Assignment) -> anyhow::Result<()> {
    let group = assignment.group;
    let assigned = match Desk::open(settings)? {
        Desk::Folder(people) => match people.assign(assignment) {
            Ok(Some(person)) => Ok(Listed::from(person)),
            Ok(None) => bail!("there is no group {group} of unknown faces"),
            Err(error) => Err(not_enrolled(error)),
        },
        Desk::Node(node) => {
            let order = json!({
                "name": assignment.name,
                "consent_by": assignment.consent_by,
                "even_if_known": assignment.even.if_known,
                "even_if_unlike": assignment.even.if_unlike,
            });
            node.order_enrolment(&format!("faces/unknown/{group}/assign"), &order)
        }
    };
    let person = assigned.map_err(|error| refused(error, |_| None))?;
    say_enrolled(&person);
    Ok(())
}

fn delete(settings: &Settings, group: u64) -> anyhow::Result<()> {
    let deleted = match Desk::open(settings)? {
        Desk::Folder(people) => people.delete_unknown(group)?,
        Desk::Node(node) => node.delete_if_there(&format!("faces/unknown/{group}"))?.is_some(),
    };
    if !deleted {
        bail!("there is no group {group} of unknown faces");
    }
    println!("group {group} was deleted");
    Ok(())
}
