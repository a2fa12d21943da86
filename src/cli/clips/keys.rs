//! The key that recordings are signed with: making it, and handing out its public half.

use std::path::PathBuf;

use anyhow::Context;
use meerkat_store::evidence::{PublicKey, SigningKeyFile};

use crate::settings::Settings;

/// Makes the key. One that exists is never replaced: what it signed could not be checked any more.
pub fn keygen(settings: &Settings, file: Option<PathBuf>) -> anyhow::Result<()> {
    let path = file.unwrap_or_else(|| settings.signing.key_path(&settings.data_dir));
    let key = SigningKeyFile::create(&path).context("no key was made")?;
    eprintln!("meerkat: the key is in {}; keep a copy where the node is not", path.display());
    if !settings.signing.enabled {
        eprintln!(
            "meerkat: recordings are signed once signing.enabled is true and the node was started anew"
        );
    }
    print!("{}", key.public().to_pem());
    Ok(())
}

/// Prints the public half.
pub fn public_key(settings: &Settings, hex: bool) -> anyhow::Result<()> {
    let path = settings.signing.key_path(&settings.data_dir);
    let key =
        SigningKeyFile::load(&path).context("there is no key; `meerkat clips keygen` makes one")?.public();
    if hex {
        println!("{key}");
    } else {
        print!("{}", key.to_pem());
    }
    Ok(())
}

/// The key to check with: the one that was given, as a file or in digits, else the node's own.
pub fn to_check_with(settings: &Settings, given: Option<&str>) -> anyhow::Result<PublicKey> {
    let Some(given) = given else {
        let path = settings.signing.key_path(&settings.data_dir);
        let key = SigningKeyFile::load(&path).context("no key to check with; give one with --key")?;
        return Ok(key.public());
    };
    if let Some(key) = PublicKey::parse(given) {
        return Ok(key);
    }
    let text = std::fs::read_to_string(given).with_context(|| format!("--key {given}"))?;
    PublicKey::parse(&text)
        .with_context(|| format!("{given} holds no public key (PEM or 64 hexadecimal digits)"))
}
