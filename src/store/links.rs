//! Signed links to stored clips: whoever holds one may fetch that one clip until it expires. The key lies in the data
//! folder; addresses and routes are made elsewhere.

use std::io::Read;
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use meerkat_base::{Secret, WallTime};
use sha2::Sha256;
use uuid::Uuid;

use crate::error::{Result, StoreError};
use crate::files::{Durability, Folder};

/// Where the HTTP side serves what links lead to; the path of the file follows.
pub const ROUTE: &str = "/shared/";

const KEY_FILE: &str = "link.key";
/// Characters of a key: three random UUIDs in hexadecimal.
const KEY_CHARS: usize = 96;
/// What is signed begins with this, so that the key can never sign anything else.
const PURPOSE: &[u8] = b"meerkat clip link 1\n";

/// Why a link opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkRefused {
    /// Its time is over.
    #[error("this link has expired")]
    Expired,
    /// It was not made here, or was changed.
    #[error("this link is not valid")]
    Wrong,
}

/// Signs links and checks them.
#[derive(Debug, Clone)]
pub struct LinkKey(Secret);

impl LinkKey {
    /// Reads the key of a data folder; makes one (0600) where there is none.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where the file holds no key: it is left alone.
    pub fn open(data_dir: &Path) -> Result<Self> {
        let root = Folder::root(data_dir)?;
        let new: String = (0..3).map(|_| Uuid::new_v4().simple().to_string()).collect();
        match root.write_new(KEY_FILE, new.as_bytes(), Durability::Power) {
            Ok(()) => return Ok(Self(Secret::new(new))),
            Err(StoreError::Exists { .. }) => {}
            Err(error) => return Err(error),
        }
        let path = root.path().join(KEY_FILE);
        let mut text = String::new();
        root.read(KEY_FILE)?
            .take(KEY_CHARS as u64 + 2)
            .read_to_string(&mut text)
            .map_err(|e| StoreError::io(&path, e))?;
        let text = text.trim_ascii();
        let fits = text.len() == KEY_CHARS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !fits {
            let words = format!("{} holds no key; remove it, and a new one is made", path.display());
            return Err(StoreError::Refused(words));
        }
        Ok(Self(Secret::new(text)))
    }

    /// The signature, 64 hexadecimal digits, of a path below the data folder that is open until a moment (whole
    /// seconds since the Unix epoch).
    pub fn sign(&self, path: &str, until_secs: i64) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.reveal().as_bytes())
            .expect("HMAC takes keys of every length (RFC 2104 section 2)");
        for part in [PURPOSE, path.as_bytes(), b"\n", until_secs.to_string().as_bytes()] {
            mac.update(part);
        }
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether a link is good now. A wrong signature is found in a time that depends on no secret, and goes before
    /// the question whether the link expired: only whoever had a link learns that.
    ///
    /// # Errors
    /// [`LinkRefused`], with words for whoever followed the link.
    pub fn check(
        &self,
        path: &str,
        until_secs: i64,
        signature: &str,
        now: WallTime,
    ) -> std::result::Result<(), LinkRefused> {
        if !Secret::new(self.sign(path, until_secs)).matches(signature.as_bytes()) {
            return Err(LinkRefused::Wrong);
        }
        if now.0.div_euclid(1_000_000) >= until_secs { Err(LinkRefused::Expired) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_what_was_signed_opens_and_only_for_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let key = LinkKey::open(folder.path()).unwrap();
        let (path, until) = ("capture/clip/door/a.mp4", 1_000);
        let signature = key.sign(path, until);
        let before = WallTime(999_999_999);
        assert_eq!(signature.len(), 64);
        assert_eq!(key.check(path, until, &signature, before), Ok(()));
        assert_eq!(key.check(path, until, &signature, WallTime(1_000_000_000)), Err(LinkRefused::Expired));
        for (path, until, signature) in [
            ("capture/clip/door/b.mp4", until, signature.as_str()),
            (path, 2_000, &signature),
            (path, until, ""),
            (path, until, &signature[1..]),
            (path, until, &signature.to_uppercase()),
        ] {
            assert_eq!(key.check(path, until, signature, before), Err(LinkRefused::Wrong), "{path} {until}");
        }
    }

    #[test]
    fn a_key_is_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let signature = LinkKey::open(folder.path()).unwrap().sign("a", 1);
        assert_eq!(LinkKey::open(folder.path()).unwrap().sign("a", 1), signature);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(LinkKey::open(other.path()).unwrap().sign("a", 1), signature);
        let path = folder.path().join(KEY_FILE);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o600);
        assert!(!format!("{:?}", LinkKey::open(folder.path()).unwrap()).contains(&signature[..8]));
        std::fs::write(&path, "x").unwrap();
        assert!(LinkKey::open(folder.path()).unwrap_err().to_string().contains("link.key"));
    }
}
