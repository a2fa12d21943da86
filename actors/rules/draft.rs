//! What an outbox row needs besides its own columns to become a message, and how several of them become one.

use meerkat_base::{CameraId, Event, EventKind, Severity};
use meerkat_notify::Language;
use meerkat_notify::alert::DigestLine;
use meerkat_notify::render::counts_text;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Lines of a message that is several in one; what does not fit is counted on the last of them.
const MAX_LINES: usize = 40;
/// Names of people in such a message.
const MAX_IDENTITIES: usize = 32;

/// The payload of an outbox row. Fields that are missing in rows of earlier versions have their default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AlertDraft {
    /// What people call the camera.
    pub camera_name: Option<String>,
    /// Who was recognised.
    pub identities: Vec<String>,
    /// Highest score.
    pub score: f32,
    /// When it began, microseconds since the Unix epoch.
    pub started_micros: i64,
    /// How much it matters; that of its kind where nothing is said.
    pub severity: Option<Severity>,
    /// What a notice says besides, for people.
    pub detail: String,
    /// Whether the message is in Chinese where it counts events, else English.
    pub in_chinese: bool,
    /// How many of what, where the message is about several events.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<DraftLine>,
}

/// Events of one kind at one camera.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DraftLine {
    /// Which camera, as it is shown.
    pub camera: String,
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub camera_name: Option<String>,
    /// The word for the kind.
    pub kind: String,
    /// How many.
    pub count: u64,
}

impl AlertDraft {
    /// What a message about an event says of it.
    pub fn about(event: &Event, camera_name: Option<String>, severity: Severity) -> Self {
        Self {
            camera_name,
            identities: event.identities.clone(),
            score: event.score,
            started_micros: event.started.0,
            severity: Some(severity),
            ..Self::default()
        }
    }

    /// The line of an event in a message about several.
    pub fn line(event: &Event, camera_name: Option<String>) -> DraftLine {
        DraftLine {
            camera: event.camera.to_string(),
            camera_name,
            kind: event.kind.as_str().to_owned(),
            count: 1,
        }
    }

    /// How many of what, where the message may be about several events.
    pub(crate) fn counted(&self) -> Vec<DigestLine> {
        self.lines.iter().filter_map(digest_line).collect()
    }

    /// Everything that is said besides camera, kind and time: the words of a notice, then how many of what.
    pub fn said(&self) -> String {
        let total = self.lines.iter().fold(0u64, |sum, line| sum.saturating_add(line.count));
        if total < 2 {
            return self.detail.clone();
        }
        let language = if self.in_chinese { Language::Chinese } else { Language::English };
        let lines = self.counted();
        let mut said = self.detail.clone();
        if !said.is_empty() {
            said.push('\n');
        }
        said.push_str(&match language {
            Language::Chinese => format!("共 {total} 个事件："),
            Language::English => format!("{total} events in all:"),
        });
        said.push_str(&counts_text(&lines, language));
        said
    }

    /// Adds a message to this one. `own` is the line of this one as long as it is about one event.
    fn add(&mut self, other: &AlertDraft) {
        for line in &other.lines {
            let last = self.lines.len() >= MAX_LINES;
            let same = |own: &&mut DraftLine| own.camera == line.camera && own.kind == line.kind;
            match self.lines.iter_mut().find(same) {
                Some(own) => own.count = own.count.saturating_add(line.count),
                None if last => {
                    if let Some(own) = self.lines.last_mut() {
                        own.count = own.count.saturating_add(line.count);
                    }
                }
                None => self.lines.push(line.clone()),
            }
        }
        for identity in &other.identities {
            if self.identities.len() < MAX_IDENTITIES && !self.identities.contains(identity) {
                self.identities.push(identity.clone());
            }
        }
        self.score = self.score.max(other.score);
        self.severity = self.severity.max(other.severity);
        // What one camera's notice says is not what the others' say.
        if self.detail != other.detail {
            self.detail.clear();
        }
    }
}

/// Adds one payload to another. What is no draft stays as it is.
pub(crate) fn merge_into(all: &mut Value, one: &Value) {
    let read = |value: &Value| AlertDraft::deserialize(value).ok();
    if let (Some(mut draft), Some(other)) = (read(all), read(one)) {
        draft.add(&other);
        if let Ok(value) = serde_json::to_value(&draft) {
            *all = value;
        }
    }
}

fn digest_line(line: &DraftLine) -> Option<DigestLine> {
    Some(DigestLine {
        camera: CameraId::from_shown(&line.camera).ok()?,
        camera_name: line.camera_name.clone(),
        kind: line.kind.parse::<EventKind>().ok()?,
        count: line.count,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(camera: &str, kind: &str, identity: &str, severity: Severity) -> Value {
        let draft = AlertDraft {
            identities: vec![identity.to_owned()],
            score: 0.5,
            severity: Some(severity),
            detail: format!("about {camera}"),
            lines: vec![DraftLine {
                camera: camera.to_owned(),
                camera_name: Some(camera.to_uppercase()),
                kind: kind.to_owned(),
                count: 1,
            }],
            ..AlertDraft::default()
        };
        serde_json::to_value(draft).unwrap()
    }

    #[test]
    fn several_drafts_are_one_that_counts() {
        let mut all = draft("yard", "person", "ann", Severity::Info);
        assert_eq!(AlertDraft::deserialize(&all).unwrap().said(), "about yard");
        merge_into(&mut all, &draft("yard", "person", "bob", Severity::Critical));
        merge_into(&mut all, &draft("gate", "motion", "ann", Severity::Info));
        let merged = AlertDraft::deserialize(&all).unwrap();
        assert_eq!((merged.identities.len(), merged.severity), (2, Some(Severity::Critical)));
        let said = merged.said();
        assert_eq!(said, "3 events in all:\nYARD: person seen, 2 times\nGATE: motion");
    }

    #[test]
    fn a_draft_stays_small_whatever_is_added() {
        let mut all = draft("yard", "person", "ann", Severity::Info);
        for n in 0..2_000 {
            merge_into(&mut all, &draft(&format!("c{n}"), "person", &n.to_string(), Severity::Info));
        }
        let merged = AlertDraft::deserialize(&all).unwrap();
        assert_eq!((merged.lines.len(), merged.identities.len()), (MAX_LINES, MAX_IDENTITIES));
        assert_eq!(merged.lines.iter().map(|line| line.count).sum::<u64>(), 2_001);
        assert!(all.to_string().len() < 16 * 1024);
    }

    #[test]
    fn rows_of_earlier_versions_are_read() {
        let old = r#"{"camera_name":"Yard","identities":[],"score":0.5,"started_micros":5}"#;
        let draft: AlertDraft = serde_json::from_str(old).unwrap();
        assert_eq!((draft.started_micros, draft.severity, draft.said()), (5, None, String::new()));
        let mut no_draft = Value::from(3);
        merge_into(&mut no_draft, &Value::Null);
        assert_eq!(no_draft, 3);
    }
}
