//! Makes the addresses of signed links to clips and snapshots. Checking them is the HTTP side's.

use std::time::Duration;

use meerkat_base::WallTime;
use meerkat_store::LinkKey;
use meerkat_store::links::ROUTE;

/// Where links lead and how long they are good.
#[derive(Debug, Clone)]
pub struct Links {
    /// The node's address from outside, without a slash at its end.
    pub public_url: String,
    /// How long a link is good.
    pub life: Duration,
    /// Signs them.
    pub key: LinkKey,
}

impl Links {
    /// The address of a file below the data folder, good from now on. None for a name that cannot stand in an address
    /// as it is; Meerkat makes no such names.
    pub fn address(&self, path: &str, now: WallTime) -> Option<String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '~');
        if !path.chars().all(plain) {
            return None;
        }
        let life = i64::try_from(self.life.as_secs()).unwrap_or(i64::MAX);
        let until = now.0.div_euclid(1_000_000).saturating_add(life);
        let signature = self.key.sign(path, until);
        Some(format!("{}{ROUTE}{path}?until={until}&sig={signature}", self.public_url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_what_until_when_and_proves_it() {
        let folder = tempfile::tempdir().unwrap();
        let key = LinkKey::open(folder.path()).unwrap();
        let links = Links {
            public_url: "https://cams.example.org/node".to_owned(),
            life: Duration::from_secs(3_600),
            key: key.clone(),
        };
        let path = "capture/clip/door/2026-11-20/a.mp4";
        let now = WallTime(1_000_999_999);
        let signature = key.sign(path, 4_600);
        assert_eq!(
            links.address(path, now).unwrap(),
            format!("https://cams.example.org/node/shared/{path}?until=4600&sig={signature}")
        );
        assert_eq!(links.address("capture/clip/a b.mp4", now), None);
        assert_eq!(links.address("capture/clip/a?b", now), None);
    }
}
