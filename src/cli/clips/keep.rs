//! `meerkat clips keep` and `unkeep`: what is to stay whatever retention says. Works in the data folder, or asks the node
//! that has it.

use anyhow::anyhow;
use meerkat_store::{KeepTarget, Store, StoreError, StoreOptions};

use super::super::running_node::RunningNode;
use crate::app::{storage, unusable_folder};
use crate::settings::Settings;

/// Sets or takes back the keep flag of an event or of a clip, and says what it concerned.
pub(super) fn run(settings: &Settings, what: &str, keep: bool) -> anyhow::Result<()> {
    let Some(clips) = set(settings, what, keep)? else {
        return Err(anyhow!("there is no event, clip or picture {what}"));
    };
    // A picture of mode 1 lies elsewhere from now on.
    if let [path] = &clips[..]
        && path.starts_with("capture/image/")
    {
        println!("{} {path}", if keep { "kept:" } else { "no longer kept:" });
        return Ok(());
    }
    println!("{} {what} ({} clips)", if keep { "kept:" } else { "no longer kept:" }, clips.len());
    Ok(())
}

fn set(settings: &Settings, what: &str, keep: bool) -> anyhow::Result<Option<Vec<String>>> {
    let durability = storage::durability(settings);
    match Store::open(&settings.data_dir, StoreOptions { durability, ..StoreOptions::default() }) {
        Ok(mut store) => {
            let target = KeepTarget::parse(what);
            Ok(storage::keep(&mut store, &target, keep)?)
        }
        Err(StoreError::Locked { holder, .. }) => RunningNode::find(settings, &holder)?.keep(what, keep),
        Err(error) => Err(unusable_folder(&settings.data_dir, error)),
    }
}
