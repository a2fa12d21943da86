//! Names of cameras and of the five modes. Parsing only; who may use which name is decided by the session.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// The metric label shared by every camera that is not in the configuration.
pub const UNCONFIGURED: &str = "unconfigured";

/// Shown for the node as a whole; not a camera id, because of its last character.
const NODE: &str = "node~";

/// Identifies one camera for its whole life in the node.
///
/// Either a *named* id, `[a-z0-9_]{1,32}`, or the stand-in of an unnamed connection: `<ip>`, `<ip>~2`, ….
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CameraId(Arc<str>);

/// Says why a text is not a camera id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a camera id is 1 to 32 of the characters a-z, 0-9 and _")]
pub struct BadCameraId;

impl CameraId {
    /// Accepts `[a-z0-9_]{1,32}` and nothing else.
    pub fn parse(text: &str) -> Result<Self, BadCameraId> {
        let fits = (1..=32).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if fits { Ok(Self(text.into())) } else { Err(BadCameraId) }
    }

    /// Names the `n`-th unnamed connection (from 1) of a peer address.
    pub fn unnamed(peer: IpAddr, n: u32) -> Self {
        let peer = peer.to_canonical();
        if n <= 1 { Self(peer.to_string().into()) } else { Self(format!("{peer}~{n}").into()) }
    }

    /// Stands for the node as a whole where a row or a message needs a camera. No camera can have it.
    pub fn node() -> Self {
        Self(NODE.into())
    }

    /// Whether this is [`CameraId::node`].
    pub fn is_node(&self) -> bool {
        &*self.0 == NODE
    }

    /// Reads back an id that this type has shown, named or not (from the database, say).
    pub fn from_shown(text: &str) -> Result<Self, BadCameraId> {
        if let Ok(id) = Self::parse(text) {
            return Ok(id);
        }
        if text == NODE {
            return Ok(Self::node());
        }
        let (address, number) = match text.split_once('~') {
            Some((a, n)) => (a, n.parse::<u32>().map_err(|_| BadCameraId)?),
            None => (text, 1),
        };
        let id = Self::unnamed(address.parse().map_err(|_| BadCameraId)?, number);
        if id.as_str() == text { Ok(id) } else { Err(BadCameraId) }
    }

    /// Shows the id as it was parsed.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Tells whether this is a proper id rather than an address.
    pub fn is_named(&self) -> bool {
        Self::parse(&self.0).is_ok()
    }

    /// Reads back what [`CameraId::folder`] made.
    pub fn from_folder(name: &str) -> Result<Self, BadCameraId> {
        Self::parse(name).or_else(|_| Self::from_shown(&name.replace('-', ":").replace('_', "~")))
    }

    /// A folder name that is the id itself, or for addresses the id with `:` and `~` made harmless.
    pub fn folder(&self) -> String {
        self.0.replace(':', "-").replace('~', "_")
    }
}

impl fmt::Display for CameraId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CameraId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CameraId({})", self.0)
    }
}

impl Serialize for CameraId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// What a camera asks the node to do with its frames (protocols.md, section 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// `model1`: store each picture unchanged.
    Pictures,
    /// `model2`: append each picture to one video.
    Video,
    /// `model3`: guard a still object.
    Guard,
    /// `model4`: find people.
    People,
    /// `model5`: find and recognise faces.
    Faces,
}

impl Mode {
    /// Every mode in the order of its number.
    pub const ALL: [Mode; 5] = [Mode::Pictures, Mode::Video, Mode::Guard, Mode::People, Mode::Faces];

    /// Maps 1..=5 to a mode.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// The N of `modelN`.
    pub fn number(self) -> u8 {
        match self {
            Mode::Pictures => 1,
            Mode::Video => 2,
            Mode::Guard => 3,
            Mode::People => 4,
            Mode::Faces => 5,
        }
    }

    /// Whether frames go through ring and detectors (modes 3 to 5) rather than straight to disk.
    pub fn is_watching(self) -> bool {
        matches!(self, Mode::Guard | Mode::People | Mode::Faces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_strict() {
        for good in ["a", "door_1", "0", &"x".repeat(32)] {
            assert_eq!(CameraId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "Door", "a b", "../x", "a-b", "é", &"x".repeat(33)] {
            assert_eq!(CameraId::parse(bad), Err(BadCameraId), "{bad:?}");
        }
    }

    #[test]
    fn unnamed_ids_are_numbered_and_make_safe_folders() {
        let v4: IpAddr = "10.0.0.7".parse().unwrap();
        let v6: IpAddr = "fe80::1".parse().unwrap();
        assert_eq!(CameraId::unnamed(v4, 1).as_str(), "10.0.0.7");
        assert_eq!(CameraId::unnamed(v4, 2).as_str(), "10.0.0.7~2");
        assert_eq!(CameraId::unnamed(v6, 3).folder(), "fe80--1_3");
        for id in [CameraId::unnamed(v4, 1), CameraId::unnamed(v6, 3), CameraId::parse("a_b").unwrap()] {
            assert_eq!(CameraId::from_folder(&id.folder()), Ok(id));
        }
        assert!(!CameraId::unnamed(v4, 1).is_named());
    }

    #[test]
    fn no_camera_is_the_node() {
        assert!(CameraId::node().is_node() && !CameraId::node().is_named());
        assert!(!CameraId::parse("node").unwrap().is_node());
        assert_eq!(CameraId::parse(CameraId::node().as_str()), Err(BadCameraId));
    }

    #[test]
    fn shown_ids_read_back() {
        for text in ["door", "10.0.0.7", "10.0.0.7~2", "fe80::1~9", "node~"] {
            assert_eq!(CameraId::from_shown(text).unwrap().as_str(), text);
        }
        for bad in ["../etc", "10.0.0.7~1", "10.0.0.7~x", "300.0.0.1", ""] {
            assert!(CameraId::from_shown(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn modes_number_from_one_to_five() {
        for n in 1..=5 {
            assert_eq!(Mode::from_number(n).unwrap().number(), n);
        }
        assert_eq!(Mode::from_number(0), None);
        assert_eq!(Mode::from_number(6), None);
    }
}
