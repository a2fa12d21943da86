//! Teaches a face recogniser from a data folder, without a node. Stores nothing.

use std::path::Path;

use anyhow::{Context, anyhow};
use meerkat_base::{FaceRecogniser, Image};
use meerkat_store::{StoreError, StoreReader};

use super::picture_file;

/// Teaches it everybody who is enrolled in a data folder; says whether there is anybody. No folder is nobody.
pub(super) fn teach(recogniser: &mut dyn FaceRecogniser, data_dir: &Path) -> anyhow::Result<bool> {
    let people = match StoreReader::open(data_dir) {
        Ok(store) => store.gallery().context("the enrolled faces cannot be read")?,
        Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(anyhow!(error).context("the enrolled faces cannot be read")),
    };
    let wish = recogniser.wish();
    let mut gallery: Vec<(String, Vec<Image>)> = Vec::new();
    for (name, files) in people {
        let mut pictures = Vec::new();
        for file in files {
            let bytes = picture_file::read(&file).with_context(|| file.display().to_string())?;
            let (picture, _) =
                meerkat_vision::decode_image(&bytes, wish).with_context(|| file.display().to_string())?;
            pictures.push(picture);
        }
        gallery.push((name, pictures));
    }
    recogniser.enrol(&gallery).map_err(|error| anyhow!(error))?;
    Ok(!gallery.is_empty())
}
