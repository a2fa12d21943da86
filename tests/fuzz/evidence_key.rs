//! The key that the seeds are signed with: everybody knows it.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};

use meerkat_store::evidence::SigningKeyFile;

/// PKCS#8 of 32 bytes of 7.
const PEM: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH
-----END PRIVATE KEY-----
";

/// Reads it from a file in the folder for temporary ones, as a node reads its own.
pub fn known() -> SigningKeyFile {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let (process, call) = (std::process::id(), CALLS.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(format!("meerkat-known-key-{process}-{call}"));
    std::fs::write(&path, PEM).expect("the folder for temporary files can be written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("the file is ours");
    let key = SigningKeyFile::load(&path).expect("it is a key");
    let _ = std::fs::remove_file(&path);
    key
}
