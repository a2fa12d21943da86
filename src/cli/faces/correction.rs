//! `meerkat faces not`: that a face which was taken for a person is not theirs, and taking that back.

use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use clap::{ArgGroup, Args};
use meerkat_base::EventId;
use meerkat_vision::probe::probe;
use meerkat_web::{Mistake, PeopleDesk};
use serde_json::json;

use super::Desk;
use crate::cli::picture_file;
use crate::cli::running_node::{encoded_picture, refusal};
use crate::settings::Settings;

/// Say that a face which was taken for a person is not theirs
///
/// The face is cut out and kept with the person. From then on a face that is nearer to it than to the person's own
/// pictures is not that person. It goes when the person is removed.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["event", "picture", "forget"])))]
pub(super) struct CorrectionArgs {
    /// For whom the face was taken: a name, or an id as `list` shows it
    name: String,

    /// The event in which that happened; the face in its snapshot is meant
    #[arg(long, value_name = "ID")]
    event: Option<EventId>,

    /// A picture of the face (JPEG, PNG, WebP, BMP)
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,

    /// Forget everything that was said in this way about the person
    #[arg(long)]
    forget: bool,
}

pub(super) fn run(settings: &Settings, args: &CorrectionArgs) -> anyhow::Result<()> {
    if args.forget {
        return forget(settings, &args.name);
    }
    let mistake = match (&args.event, &args.picture) {
        (Some(event), _) => Mistake::Event(*event),
        (None, Some(file)) => {
            let bytes = picture_file::read(file).with_context(|| file.display().to_string())?;
            let format = probe(&bytes).with_context(|| file.display().to_string())?.format;
            Mistake::Picture(format, bytes)
        }
        (None, None) => bail!("say --event or --picture"),
    };
    let corrected = match Desk::open(settings)? {
        Desk::Folder(people) => people
            .correct(&args.name, mistake)?
            .map(|corrected| (corrected.person.name, corrected.person.negatives, corrected.likeness)),
        Desk::Node(node) => match node.place_of(&args.name)? {
            Some(place) => {
                let order = match &mistake {
                    Mistake::Event(event) => json!({ "event": event }),
                    Mistake::Picture(format, bytes) => json!({ "picture": encoded_picture(*format, bytes) }),
                };
                let (reply, answer) = node.order(&format!("{place}/not"), &order)?;
                ensure!(reply.is_success(), refusal(&reply, &answer));
                let person = &answer["person"];
                let name = person["name"].as_str().unwrap_or(&args.name).to_owned();
                let likeness = answer["likeness"].as_f64().map(|likeness| likeness as f32);
                Some((name, person["negatives"].as_u64().unwrap_or_default(), likeness))
            }
            None => None,
        },
    };
    let Some((name, negatives, likeness)) = corrected else {
        bail!("nobody named {} is enrolled", args.name);
    };
    println!("this is not {name}: {negatives} pictures say who {name} is not");
    if let Some(likeness) = likeness {
        println!("the face has a likeness of {likeness:.2} with the nearest picture of {name}");
    }
    Ok(())
}

fn forget(settings: &Settings, name: &str) -> anyhow::Result<()> {
    let forgotten = match Desk::open(settings)? {
        Desk::Folder(people) => people.forget_corrections(name)?,
        Desk::Node(node) => match node.place_of(name)? {
            Some(place) => node
                .delete_if_there(&format!("{place}/not"))?
                .map(|answer| answer["forgotten"].as_u64().unwrap_or_default()),
            None => None,
        },
    };
    let Some(forgotten) = forgotten else { bail!("nobody named {name} is enrolled") };
    println!("{forgotten} pictures of who {name} is not were deleted");
    Ok(())
}
