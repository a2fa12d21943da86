//! Ed25519 keys: the node's own in a file that only it reads, and public ones as others hold them.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use super::{from_hex, to_hex};
use crate::error::{Result, StoreError};

/// Length of an Ed25519 signature.
pub const SIGNATURE_BYTES: usize = 64;
/// A key file is far shorter.
const MAX_KEY_FILE: u64 = 4096;

/// The node's own key, PKCS#8 in PEM. Never shown: `Debug` has the public half only.
pub struct SigningKeyFile {
    key: SigningKey,
}

impl SigningKeyFile {
    /// Makes a new key and its file (0600), which must not exist; missing folders are made (0700).
    pub fn create(path: &Path) -> Result<Self> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)
            .map_err(|error| StoreError::Refused(format!("the system gives no random numbers: {error}")))?;
        let key = SigningKey::from_bytes(&seed);
        let pem = key
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|error| StoreError::Refused(format!("the key cannot be written: {error}")))?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            use std::os::unix::fs::DirBuilderExt;
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(|e| StoreError::io(folder, e))?;
        }
        let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(StoreError::Exists { path: path.to_owned() });
            }
            opened => opened.map_err(|e| StoreError::io(path, e))?,
        };
        if let Err(error) = file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()) {
            // Half a key must not be found by the next start.
            let _ = std::fs::remove_file(path);
            return Err(StoreError::io(path, error));
        }
        Ok(Self { key })
    }

    /// Reads a key file. One that others than its owner may read is refused: what it signs would prove nothing.
    pub fn load(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().read(true).open(path).map_err(|e| StoreError::io(path, e))?;
        let metadata = file.metadata().map_err(|e| StoreError::io(path, e))?;
        let refused = |words: String| StoreError::Refused(format!("{}: {words}", path.display()));
        if !metadata.is_file() || metadata.len() > MAX_KEY_FILE {
            return Err(refused("is no key file".into()));
        }
        let mode = metadata.permissions().mode();
        if mode & 0o077 != 0 {
            let words = format!("may be read by others (mode {:o}); say chmod 600", mode & 0o7777);
            return Err(refused(words));
        }
        let mut pem = String::new();
        file.take(MAX_KEY_FILE).read_to_string(&mut pem).map_err(|e| StoreError::io(path, e))?;
        let key = SigningKey::from_pkcs8_pem(&pem)
            .map_err(|_| refused("holds no Ed25519 key in PKCS#8 PEM".into()))?;
        Ok(Self { key })
    }

    /// Reads the key file, or makes it where there is none. True: it was made.
    pub fn load_or_create(path: &Path) -> Result<(Self, bool)> {
        match Self::load(path) {
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Ok((Self::create(path)?, true))
            }
            loaded => Ok((loaded?, false)),
        }
    }

    /// The half that others check with.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.key.verifying_key())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.key.sign(message).to_bytes()
    }
}

impl fmt::Debug for SigningKeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKeyFile({})", self.public())
    }
}

/// A public key. Shown as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// From 64 hexadecimal digits or a PEM text ("BEGIN PUBLIC KEY").
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        match from_hex::<32>(text) {
            Some(bytes) => VerifyingKey::from_bytes(&bytes).ok().map(Self),
            None => VerifyingKey::from_public_key_pem(text).ok().map(Self),
        }
    }

    /// As PEM, as other programs read it.
    pub fn to_pem(self) -> String {
        self.0.to_public_key_pem(LineEnding::LF).expect("a public key always fits its encoding")
    }

    /// Whether the signature is this key's over exactly this message.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        // Strict: no second signature can be made of a first one by somebody without the key.
        <[u8; SIGNATURE_BYTES]>::try_from(signature)
            .is_ok_and(|bytes| self.0.verify_strict(message, &Signature::from_bytes(&bytes)).is_ok())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(self.0.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_only_by_its_owner() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("keys/signing.key");
        let (made, fresh) = SigningKeyFile::load_or_create(&path).unwrap();
        assert!(fresh);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let (read, fresh) = SigningKeyFile::load_or_create(&path).unwrap();
        assert!(!fresh);
        assert_eq!(made.public(), read.public());
        assert!(matches!(SigningKeyFile::create(&path), Err(StoreError::Exists { .. })));
        let message = b"what was seen";
        let signature = made.sign(message);
        assert!(read.public().verifies(message, &signature));
        assert!(!read.public().verifies(b"what was not seen", &signature));
        assert!(!read.public().verifies(message, &signature[1..]));
        let secret = to_hex(&made.key.to_bytes());
        assert!(!format!("{made:?}").contains(&secret));

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(SigningKeyFile::load(&path).unwrap_err().to_string().contains("chmod 600"));
        let other = temp.path().join("other");
        std::fs::write(&other, "no key").unwrap();
        std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(SigningKeyFile::load(&other).unwrap_err().to_string().contains("PKCS#8"));
    }

    #[test]
    fn a_public_key_is_written_in_two_ways() {
        let temp = tempfile::tempdir().unwrap();
        let key = SigningKeyFile::create(&temp.path().join("k")).unwrap().public();
        assert_eq!(PublicKey::parse(&key.to_string()), Some(key));
        assert_eq!(PublicKey::parse(&key.to_pem()), Some(key));
        assert!(key.to_pem().starts_with("-----BEGIN PUBLIC KEY-----"));
        for bad in ["", "ab", "zz", &"g".repeat(64), "-----BEGIN PUBLIC KEY-----"] {
            assert_eq!(PublicKey::parse(bad), None, "{bad:?}");
        }
    }
}
