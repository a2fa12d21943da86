//! Real networks through the importers. What the operators compute is tested beside them.

mod corpus;
mod goldens;
mod real;

#[path = "../../../tests/fuzz/importers.rs"]
mod importers;

use std::path::PathBuf;

/// The folder of shared test data, or none where it is not there: the test is skipped then and says so.
pub(super) fn data() -> Option<PathBuf> {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let folder = std::env::var_os("MEERKAT_TEST_DATA").map_or_else(default, PathBuf::from);
    if folder.join("weights").is_dir() {
        return Some(folder);
    }
    assert!(std::env::var_os("MEERKAT_REQUIRE_DATA").is_none(), "no test data at {}", folder.display());
    eprintln!("skipped: no test data at {}", folder.display());
    None
}
