//! Teaches a face recogniser from a data folder, without a node. Stores nothing.

use std::path::Path;

use anyhow::{Context, anyhow};
use meerkat_base::FaceRecogniser;
use meerkat_store::{StoreError, StoreReader};

use super::picture_file;

/// Teaches it everybody who is enrolled in a data folder; says whether there is anybody. No folder is nobody.
pub(super) fn teach(recogniser: &mut dyn FaceRecogniser, data_dir: &Path) -> anyhow::Result<bool> {
    let store = match StoreReader::open(data_dir) {
        Ok(store) => store,
        Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Ok(false);
        }
        Err(error) => return Err(anyhow!(error).context("the enrolled faces cannot be read")),
    };
    let people = store.gallery().context("the enrolled faces cannot be read")?;
    let negatives = store.negatives().context("the enrolled faces cannot be read")?;
    let wish = recogniser.wish();
    let picture = |file: &Path| {
        let bytes = picture_file::read(file).with_context(|| file.display().to_string())?;
        let (picture, _) =
            meerkat_vision::decode_image(&bytes, wish).with_context(|| file.display().to_string())?;
        anyhow::Ok(picture)
    };
    let is_anybody = !people.is_empty();
    recogniser.begin_gallery();
    for (name, files) in people {
        for file in files {
            recogniser.add_to_gallery(&name, &picture(&file)?).map_err(|error| anyhow!(error))?;
        }
    }
    for (name, files) in negatives {
        for file in files {
            recogniser.add_negative(&name, &picture(&file)?).map_err(|error| anyhow!(error))?;
        }
    }
    recogniser.use_gallery();
    Ok(is_anybody)
}
