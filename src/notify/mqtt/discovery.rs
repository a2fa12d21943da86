//! How Home Assistant learns what there is: one retained message per entity, in the form of its MQTT discovery
//! (home-assistant.io/integrations/mqtt). Only says what exists; what it shows is published elsewhere.

use meerkat_base::{CameraId, EventKind, EventPhase};
use serde_json::{Value, json};

use super::{Message, MqttSettings, topics};
use crate::render::Language;
use crate::templates::phase_word;

/// Payloads of binary sensors.
pub(super) const ON: &str = "ON";
pub(super) const OFF: &str = "OFF";
/// What Home Assistant shows as unknown.
pub(super) const UNKNOWN: &str = "None";

/// The entities of the node itself.
pub(super) fn node(settings: &MqttSettings) -> Vec<Message> {
    let Some(prefix) = &settings.discovery_prefix else { return Vec::new() };
    let announce = Announce { settings, prefix, camera: None, device: node_device(settings) };
    let mut messages: Vec<Message> = settings
        .kinds
        .iter()
        .filter(|kind| kind.is_notice() && **kind != EventKind::CameraSilent)
        .map(|kind| {
            let own = json!({
                "state_topic": topics::node(settings, kind.as_str()),
                "device_class": "problem", "entity_category": "diagnostic",
                "payload_on": ON, "payload_off": OFF,
            });
            announce.entity("binary_sensor", kind.as_str(), own)
        })
        .collect();
    let mut types = event_types(settings, EventKind::is_notice);
    types.extend(["digest", "test"].map(str::to_owned));
    let events = json!({ "state_topic": topics::node(settings, "event"), "event_types": types });
    messages.push(announce.entity("event", "event", events));
    messages
}

/// The entities of one camera.
pub(super) fn camera(settings: &MqttSettings, camera: &CameraId, name: Option<&str>) -> Vec<Message> {
    let Some(prefix) = &settings.discovery_prefix else { return Vec::new() };
    let device = json!({
        "identifiers": [format!("{}_{}", settings.client_id, topics::slug(camera))],
        "name": name.unwrap_or(camera.as_str()),
        "manufacturer": "Meerkat",
        "model": "camera",
        "via_device": settings.client_id,
    });
    let announce = Announce { settings, prefix, camera: Some(camera), device };
    let topic = |what: &str| topics::camera(settings, camera, what);
    let mut messages = Vec::new();
    for kind in settings.kinds.iter().filter(|kind| topics::has_state(settings, **kind)) {
        let own = json!({
            "state_topic": topic(kind.as_str()), "device_class": device_class(*kind),
            "payload_on": ON, "payload_off": OFF,
        });
        messages.push(announce.entity("binary_sensor", kind.as_str(), own));
    }
    if settings.kinds.contains(&EventKind::CameraSilent) {
        let own = json!({
            "state_topic": topic("online"), "device_class": "connectivity", "entity_category": "diagnostic",
            "payload_on": ON, "payload_off": OFF,
        });
        messages.push(announce.entity("binary_sensor", "online", own));
    }
    let mut types = event_types(settings, |kind| !kind.is_notice() || kind == EventKind::CameraSilent);
    types.push("clip".to_owned());
    let events = json!({ "state_topic": topic("event"), "event_types": types });
    messages.push(announce.entity("event", "event", events));
    if settings.pictures.include_snapshot {
        let own = json!({ "image_topic": topic("picture"), "content_type": "image/jpeg" });
        messages.push(announce.entity("image", "picture", own));
    }
    if settings.pictures.include_faces && settings.kinds.contains(&EventKind::Face) {
        let own = json!({ "state_topic": topic("identity"), "icon": "mdi:account" });
        messages.push(announce.entity("sensor", "identity", own));
    }
    messages
}

/// What one of our own discovery topics looks like, with `+` for what differs; none where there is no discovery.
pub(super) fn own_topics(settings: &MqttSettings) -> Option<String> {
    settings.discovery_prefix.as_ref().map(|prefix| format!("{prefix}/+/{}/+/config", settings.client_id))
}

/// Where Home Assistant says that it has come.
pub(super) fn status_topic(settings: &MqttSettings) -> Option<String> {
    settings.discovery_prefix.as_ref().map(|prefix| format!("{prefix}/status"))
}

/// The `event_type` of what an alert tells.
pub(super) fn event_type(kind: EventKind, phase: EventPhase) -> String {
    match phase {
        EventPhase::Started => kind.to_string(),
        other => format!("{kind}_{}", phase_word(other)),
    }
}

fn event_types(settings: &MqttSettings, wanted: impl Fn(EventKind) -> bool) -> Vec<String> {
    let phases = [EventPhase::Started, EventPhase::Updated, EventPhase::Ended];
    let kinds = settings.kinds.iter().filter(|kind| wanted(**kind));
    kinds.flat_map(|kind| phases.map(|phase| event_type(*kind, phase))).collect()
}

fn device_class(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Motion => "motion",
        EventKind::Person | EventKind::Face => "occupancy",
        EventKind::ObjectMoved | EventKind::ObjectRemoved => "tamper",
        _ => "problem",
    }
}

fn node_device(settings: &MqttSettings) -> Value {
    json!({
        "identifiers": [settings.client_id],
        "name": settings.client_id,
        "manufacturer": "Meerkat",
        "model": "node",
        "sw_version": env!("CARGO_PKG_VERSION"),
    })
}

struct Announce<'a> {
    settings: &'a MqttSettings,
    prefix: &'a str,
    camera: Option<&'a CameraId>,
    device: Value,
}

impl Announce<'_> {
    fn entity(&self, component: &str, what: &str, own: Value) -> Message {
        // An id of a camera has no hyphen, so the node's entities cannot be taken for a camera's.
        let object = match self.camera {
            Some(camera) => format!("{}_{what}", topics::slug(camera)),
            None => format!("node-{what}"),
        };
        let client = &self.settings.client_id;
        let mut config = json!({
            "name": name(what, self.settings.style.language),
            "unique_id": format!("{client}_{object}"),
            "availability_topic": topics::availability(self.settings),
            "qos": 1,
            "device": self.device,
            "origin": { "name": "meerkat", "sw_version": env!("CARGO_PKG_VERSION") },
        });
        if let (Value::Object(config), Value::Object(own)) = (&mut config, own) {
            config.extend(own);
        }
        let topic = format!("{}/{component}/{client}/{object}/config", self.prefix);
        Message::retained(topic, config.to_string())
    }
}

fn name(what: &str, language: Language) -> String {
    let chinese = match what {
        "motion" => "动静",
        "person" => "人员",
        "face" => "人脸",
        "object_moved" => "物品移动",
        "object_removed" => "物品不见",
        "online" => "在线",
        "event" => "事件",
        "picture" => "最近画面",
        "identity" => "最近识别",
        "actor_failing" => "部件出错",
        "disk_low" => "磁盘不足",
        "recording_refused" => "无法录像",
        "channel_failing" => "通道失败",
        "clock_jump" => "时间跳变",
        "store_damaged" => "存储受损",
        "viewer" => "有人观看",
        other => other,
    };
    match language {
        Language::Chinese => chinese.to_owned(),
        Language::English => {
            let words = what.replace('_', " ");
            let mut letters = words.chars();
            letters
                .next()
                .map(|first| first.to_ascii_uppercase().to_string() + letters.as_str())
                .unwrap_or_default()
        }
    }
}
