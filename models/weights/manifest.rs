//! The list of networks and their files, built into the program, and the rules that such a list must keep.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde::Deserialize;

use super::error::WeightsError;
use super::folder::Format;

/// Longest file a manifest may list, bytes.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Fewest digits of a digest of which only the beginning is known.
const LEAST_DIGITS: usize = 8;

/// Networks and their files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    networks: Vec<Network>,
}

/// One network in one precision.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Name on the command line, in settings and in metrics.
    pub name: String,
    /// What it finds or computes.
    pub purpose: String,
    /// SPDX expression.
    pub license: String,
    /// Page of the project that made it.
    pub origin: String,
    /// What else can be done where no official address holds its files; a sentence.
    #[serde(default)]
    pub advice: Option<String>,
    /// How its files are to be read.
    pub format: Format,
    /// Whether it is fetched when no network is named.
    pub default: bool,
    /// Its files, the one that is opened first: `.xml` and then `.bin`, or one alone.
    pub files: Vec<FileEntry>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Where it lies below the models folder and below a mirror, with `/` between its parts.
    pub path: String,
    /// Its length; where only the beginning of its digest is known, the most that it may have.
    pub size_bytes: u64,
    /// SHA-256, 64 small hexadecimal digits; where its maker publishes no more, the first 8 or more of them.
    pub sha256: String,
    /// SHA-384, 96 small hexadecimal digits; what Open Model Zoo publishes. `None` where only the beginning of the
    /// other one is known.
    pub sha384: Option<String>,
    /// Official `https` address; `None` where none is known to hold this very file, and where only the beginning of its
    /// digest is known: that is enough against accidents, not against somebody who means harm, so nothing is fetched.
    pub address: Option<String>,
}

impl Manifest {
    /// The manifest of this program.
    pub fn builtin() -> &'static Self {
        static BUILTIN: LazyLock<Manifest> = LazyLock::new(|| {
            Manifest::parse(include_str!("manifest.json"))
                .expect("manifest.json keeps the rules: a test reads it")
        });
        &BUILTIN
    }

    /// Reads a manifest and checks it: names and paths are unique and plain, digests well formed, official addresses
    /// `https`.
    pub fn parse(text: &str) -> Result<Self, WeightsError> {
        let manifest: Self =
            serde_json::from_str(text).map_err(|error| WeightsError::Manifest(error.to_string()))?;
        let mut names = BTreeSet::new();
        let mut paths = BTreeSet::new();
        for network in &manifest.networks {
            network.check()?;
            if !names.insert(&network.name) {
                return Err(WeightsError::Manifest(format!("{} stands there twice", network.name)));
            }
            for file in &network.files {
                if !paths.insert(&file.path) {
                    return Err(WeightsError::Manifest(format!("{} stands there twice", file.path)));
                }
            }
        }
        Ok(manifest)
    }

    /// All networks in the order of the manifest.
    pub fn networks(&self) -> &[Network] {
        &self.networks
    }

    /// The network of that name.
    pub fn network(&self, name: &str) -> Option<&Network> {
        self.networks.iter().find(|network| network.name == name)
    }

    /// The network of that name, or an error that lists those there are.
    pub fn get(&self, name: &str) -> Result<&Network, WeightsError> {
        self.network(name).ok_or_else(|| WeightsError::UnknownNetwork {
            name: name.to_owned(),
            known: self.networks.iter().map(|network| network.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }
}

impl Network {
    /// Bytes of all its files.
    pub fn size_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size_bytes).sum()
    }

    /// SHA-256 of the file that holds the numbers: the last one. Of some only the beginning is known.
    pub fn sha256(&self) -> &str {
        // `check` lets no network without files pass.
        self.files.last().map_or("", |file| &file.sha256)
    }

    fn check(&self) -> Result<(), WeightsError> {
        let wrong = |what: String| Err(WeightsError::Manifest(format!("{}: {what}", self.name)));
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || !self.name.chars().all(is_plain) {
            return wrong("a name has small letters, digits and hyphens".into());
        }
        let endings: Vec<&str> = self
            .files
            .iter()
            .map(|file| file.path.rsplit_once('.').map_or("", |(_, ending)| ending))
            .collect();
        if endings != self.format.endings() {
            return wrong(format!("its files must end in {:?}", self.format.endings()));
        }
        for file in &self.files {
            if let Err(what) = file.check() {
                return wrong(format!("{}: {what}", file.path));
            }
        }
        Ok(())
    }
}

impl FileEntry {
    /// Its name without folders.
    pub fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Whether the manifest knows length and digests, so that it does not matter where the file comes from.
    pub fn is_exact(&self) -> bool {
        self.sha384.is_some()
    }

    /// Whether the file may have this length.
    pub fn may_have(&self, bytes: u64) -> bool {
        bytes == self.size_bytes || (!self.is_exact() && bytes < self.size_bytes)
    }

    fn check(&self) -> Result<(), &'static str> {
        let is_plain = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        if !self.path.split('/').all(is_plain) {
            return Err("the path must lead down, in letters, digits, '.', '_' and '-'");
        }
        if !(1..=MAX_FILE_BYTES).contains(&self.size_bytes) {
            return Err("the size must be 1 byte to 1 GiB");
        }
        let is_hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let is_sound = match &self.sha384 {
            Some(sha384) => self.sha256.len() == 64 && sha384.len() == 96 && is_hex(sha384),
            None => (LEAST_DIGITS..64).contains(&self.sha256.len()),
        };
        if !is_sound || !is_hex(&self.sha256) {
            return Err("a digest is malformed");
        }
        if !self.is_exact() && self.address.is_some() {
            return Err("a file without a whole digest has no address");
        }
        if self.address.as_ref().is_some_and(|address| !address.starts_with("https://")) {
            return Err("official addresses are https");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builtin_manifest_keeps_the_rules() {
        let manifest = Manifest::builtin();
        assert!(manifest.networks().len() >= 8);
        for name in
            ["person-detection-retail-0013", "yolox-nano", "yunet-n", "face-reidentification-retail-0095"]
        {
            assert!(manifest.get(name).unwrap().default, "{name}");
        }
        let person = manifest.get("person-detection-retail-0013").unwrap();
        assert_eq!(person.size_bytes(), 383_492 + 2_891_364);
        assert!(person.sha256().starts_with("f3731a76"), "the file with the numbers");
        assert_eq!(person.files[0].file_name(), "person-detection-retail-0013.xml");
        let by_name = |name: &str| if name == "googlenet" { "BSD-3-Clause" } else { "Apache-2.0" };
        assert!(manifest.networks().iter().all(|network| network.license == by_name(&network.name)));
        let googlenet = &manifest.get("googlenet").unwrap().files[0];
        assert!(!googlenet.is_exact() && googlenet.may_have(52_000_000) && !googlenet.may_have(54_000_000));
        let unknown = manifest.get("yolo").unwrap_err().to_string();
        assert!(unknown.contains("yolox-nano") && unknown.contains("\"yolo\""), "{unknown}");
    }

    /// A manifest of one ONNX network.
    fn one(name: &str, path: &str, size: u64, sha256: &str, address: &str) -> Result<Manifest, WeightsError> {
        let sha384 = "a".repeat(96);
        Manifest::parse(&format!(
            r#"{{"networks":[{{"name":"{name}","purpose":"p","license":"MIT","origin":"o","format":"onnx","default":true,
            "files":[{{"path":"{path}","size_bytes":{size},"sha256":"{sha256}","sha384":"{sha384}","address":{address}}}]}}]}}"#
        ))
    }

    #[test]
    fn the_beginning_of_a_digest_will_do_for_what_is_not_fetched() {
        let partly = |sha256: &str, address: &str| {
            Manifest::parse(&format!(
                r#"{{"networks":[{{"name":"a","purpose":"p","license":"MIT","origin":"o","format":"torch","default":false,
                "files":[{{"path":"a.pth","size_bytes":9,"sha256":"{sha256}","sha384":null,"address":{address}}}]}}]}}"#
            ))
        };
        let manifest = partly("0123abcd", "null").unwrap();
        assert!(!manifest.networks()[0].files[0].is_exact());
        for (sha256, address) in [
            ("0123abc", "null"),
            ("0123abcg", "null"),
            ("", "null"),
            ("0123abcd", "\"https://example.org/x\""),
            (&"0".repeat(64), "null"),
        ] {
            assert!(partly(sha256, address).is_err(), "{sha256} {address}");
        }
    }

    #[test]
    fn wrong_manifests_are_refused() {
        let digest = "0".repeat(64);
        let good = one("a-1", "x/y.onnx", 1, &digest, "null").unwrap();
        assert_eq!(good.networks().len(), 1);
        for path in [
            "",
            "/x.onnx",
            "../x.onnx",
            "x/../../y.onnx",
            "x//y.onnx",
            "./x.onnx",
            "x/.onnx",
            "x y.onnx",
            "x.xml",
            "x",
            "C:x.onnx",
            "a\\\\b.onnx",
        ] {
            assert!(one("a", path, 1, &digest, "null").is_err(), "{path}");
        }
        for (name, size, sha256, address) in [
            ("", 1, digest.as_str(), "null"),
            ("A", 1, &digest, "null"),
            ("../a", 1, &digest, "null"),
            ("a", 0, &digest, "null"),
            ("a", MAX_FILE_BYTES + 1, &digest, "null"),
            ("a", 1, "00", "null"),
            ("a", 1, &"G".repeat(64), "null"),
            ("a", 1, &digest, "\"http://example.org/x\""),
        ] {
            assert!(one(name, "x.onnx", size, sha256, address).is_err(), "{name} {size} {sha256} {address}");
        }
        assert!(Manifest::parse("{}").is_err() && Manifest::parse("").is_err());
    }
}
