//! Which topic says what. `<prefix>` is the channel's `topic_prefix`; a camera is named by its id, an unnamed one by its
//! address with `-` for what topics of Home Assistant do not take.
//!
//! | topic | says | retained |
//! |---|---|---|
//! | `<prefix>/availability` | `online`, `offline` (also the last will) | yes |
//! | `<prefix>/<camera>/<kind>` | `ON` while an event of the kind goes on, else `OFF` | yes |
//! | `<prefix>/<camera>/online` | `ON`, `OFF`, `None` before anything is known | yes |
//! | `<prefix>/<camera>/event` | what happened, as JSON | no |
//! | `<prefix>/<camera>/picture` | the snapshot, a JPEG | no |
//! | `<prefix>/<camera>/identity` | who was recognised last | no |
//! | `<prefix>/<kind>` | the same about the node itself | yes |
//! | `<prefix>/event` | what happened to the node; digests and tests | no |

use meerkat_base::{CameraId, EventKind};

use super::MqttSettings;

pub(super) fn availability(settings: &MqttSettings) -> String {
    format!("{}/availability", settings.topic_prefix)
}

pub(super) fn node(settings: &MqttSettings, what: &str) -> String {
    format!("{}/{what}", settings.topic_prefix)
}

pub(super) fn camera(settings: &MqttSettings, camera: &CameraId, what: &str) -> String {
    if camera.is_node() {
        return node(settings, what);
    }
    format!("{}/{}/{what}", settings.topic_prefix, slug(camera))
}

/// The camera as part of a topic and of an id; ids have no hyphen, so none is taken for another.
pub(super) fn slug(camera: &CameraId) -> String {
    camera.as_str().replace('~', "--").replace(['.', ':'], "-")
}

/// Whether a kind is a state of a camera of its own. That a face is there is said only where faces may be shown.
pub(super) fn has_state(settings: &MqttSettings, kind: EventKind) -> bool {
    !kind.is_notice() && (kind != EventKind::Face || settings.pictures.include_faces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_cameras_share_a_topic() {
        let ids = ["10_0_0_5", "10.0.0.5", "10.0.0.5~2", "fe80::1", "fe80::1~2", "node"];
        let slugs: std::collections::BTreeSet<String> =
            ids.iter().map(|id| slug(&CameraId::from_shown(id).unwrap())).collect();
        assert_eq!(slugs.len(), ids.len(), "{slugs:?}");
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        assert!(slugs.iter().all(|slug| slug.chars().all(fits)), "{slugs:?}");
    }
}
