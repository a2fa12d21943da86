//! The key that recordings are signed with: making it, and handing out its public half.

use std::path::PathBuf;

use anyhow::Context;
use meerkat_store::evidence::{PublicKey, SigningKeyFile};

use crate::settings::Settings;

/// What is said where the key is wanted that the configuration names.
const NO_KEY: &str = "there is no key (give the node's --config, or make one with `meerkat clips keygen`)";
const NOTHING_TO_CHECK_WITH: &str = "no key to check with (give one with --key, or the node's --config)";

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
    let key = SigningKeyFile::load(&path).context(NO_KEY)?.public();
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
        let key = SigningKeyFile::load(&path).context(NOTHING_TO_CHECK_WITH)?;
        return Ok(key.public());
    };
    if let Some(key) = PublicKey::parse(given) {
        return Ok(key);
    }
    let text = std::fs::read_to_string(given).with_context(|| format!("--key {given}"))?;
    PublicKey::parse(&text)
        .with_context(|| format!("{given} holds no public key (PEM or 64 hexadecimal digits)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_no_key_hears_where_one_comes_from() {
        let folder = tempfile::tempdir().unwrap();
        let env = [("MEERKAT__DATA_DIR".to_owned(), folder.path().display().to_string())];
        let settings = Settings::load(&[], env.into_iter()).unwrap();
        let said = format!("{:#}", to_check_with(&settings, None).unwrap_err());
        assert!(said.contains("--key") && said.contains("or the node's --config"), "{said}");
        let said = format!("{:#}", public_key(&settings, true).unwrap_err());
        assert!(said.contains("the node's --config") && said.contains("keygen"), "{said}");
    }
}
