//! Where this program looks for weights. What lies there is the room `models`' business.

use meerkat_models::weights::{FOLDER_VARIABLE, Folder, folder_path};

use crate::settings::Settings;

/// The models folder of these settings and of the environment.
pub(crate) fn models_folder(settings: &Settings) -> Folder {
    let variable = std::env::var_os(FOLDER_VARIABLE);
    Folder::new(folder_path(variable, settings.models.dir.as_deref(), &settings.data_dir))
}
