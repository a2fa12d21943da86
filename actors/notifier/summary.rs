//! What a digest says: how many of what there were where, in everything that it stands for.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use meerkat_base::{CameraId, EventKind, WallTime};
use meerkat_notify::Digest;
use meerkat_notify::alert::DigestLine;
use meerkat_store::{DigestCount, OpenDigest, StoreError, StoreReader};
use serde::Deserialize;
use uuid::Uuid;

use super::compose::camera_name;
use crate::rules::AlertDraft;

/// Events by camera and kind.
#[derive(Debug, Default)]
pub(super) struct Summary {
    counts: BTreeMap<(CameraId, EventKind), Line>,
    /// When the oldest and the newest of them began.
    span: Option<(WallTime, WallTime)>,
}

#[derive(Debug)]
struct Line {
    count: u64,
    camera_name: Option<String>,
    /// When what gave the name was written: the last one counts.
    named: WallTime,
}

impl Summary {
    /// What waits in a digest. Runs where the database is.
    pub fn of(store: &StoreReader, digest: Uuid) -> Result<Self, StoreError> {
        let mut summary = Self::default();
        for count in store.digest_counts(digest)? {
            summary.add_row(&count);
        }
        store.digest_groups(digest, |message| summary.add_message(&message))?;
        Ok(summary)
    }

    /// Whether nothing of it waits any more.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The message.
    pub fn digest(self, open: &OpenDigest) -> Digest {
        let (oldest, newest) = self.span.unwrap_or((WallTime(0), WallTime(0)));
        let line = |((camera, kind), own): ((CameraId, EventKind), Line)| DigestLine {
            camera,
            camera_name: own.camera_name,
            kind,
            count: own.count,
        };
        let mut counts: Vec<DigestLine> = self.counts.into_iter().map(line).collect();
        // The most frequent first, else in the order in which they are: by camera, then by kind.
        counts.sort_by_key(|line| Reverse(line.count));
        Digest { id: open.id, oldest, newest, counts, already_sent: open.sent }
    }

    fn add_row(&mut self, row: &DigestCount) {
        self.reach(row.oldest, row.newest);
        let line = DigestLine {
            camera: row.camera.clone(),
            camera_name: camera_name(&row.payload),
            kind: row.kind,
            count: row.count,
        };
        self.add(line, row.newest);
    }

    /// A message about several events, which it lists; one without a list is about one.
    fn add_message(&mut self, message: &DigestCount) {
        let draft = AlertDraft::deserialize(&message.payload).unwrap_or_default();
        let lines = draft.counted();
        if lines.is_empty() {
            return self.add_row(message);
        }
        // It may have been held back since: then it was due later than it began.
        let began = if draft.started_micros > 0 { WallTime(draft.started_micros) } else { message.oldest };
        self.reach(began.min(message.oldest), message.newest);
        for line in lines {
            self.add(line, message.newest);
        }
    }

    fn reach(&mut self, oldest: WallTime, newest: WallTime) {
        let (from, to) = self.span.unwrap_or((oldest, newest));
        self.span = Some((from.min(oldest), to.max(newest)));
    }

    fn add(&mut self, line: DigestLine, at: WallTime) {
        let new = || Line { count: 0, camera_name: None, named: at };
        let own = self.counts.entry((line.camera, line.kind)).or_insert_with(new);
        own.count = own.count.saturating_add(line.count);
        if own.camera_name.is_none() || (at >= own.named && line.camera_name.is_some()) {
            (own.camera_name, own.named) = (line.camera_name, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use meerkat_base::{Event, EventId, EventPhase, Severity};
    use meerkat_store::{Merge, NewAlert, Report, Store, StoreOptions, ToldAlert};

    use super::*;
    use crate::rules::merge_into;

    const FAR: WallTime = WallTime(86_400_000_000);

    /// An event `n` seconds after the epoch, in one message with others where there is a key: those are held for a minute.
    fn report(n: u8, camera: &str, kind: EventKind, key: Option<&str>) -> Report {
        let started = WallTime(i64::from(n) * 1_000_000);
        let event = Event {
            id: EventId::new(started, [n; 10]),
            camera: CameraId::parse(camera).unwrap(),
            kind,
            phase: EventPhase::Started,
            started,
            started_seq: 0,
            ended: None,
            score: 0.5,
            identities: Vec::new(),
            sightings: Vec::new(),
        };
        let name = Some(camera.to_uppercase());
        let mut draft = AlertDraft::about(&event, name.clone(), Severity::Info);
        draft.lines.extend(key.map(|_| AlertDraft::line(&event, name)));
        let alert = NewAlert {
            channel: "chat".to_owned(),
            payload: serde_json::to_value(&draft).unwrap(),
            snapshot: None,
            created: if key.is_some() { WallTime(60_000_000) } else { started },
        };
        let merge = key.map(|key| Merge { key: key.to_owned(), combine: merge_into });
        Report {
            attendance: None,
            event,
            detail: None,
            snoozed: false,
            subject: None,
            promises: None,
            alerts: vec![ToldAlert { alert, merge }],
        }
    }

    #[test]
    fn a_message_about_many_events_counts_as_many_each_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        let (person, motion) = (EventKind::Person, EventKind::Motion);
        let quiet = Some("quiet");
        // Notices that began together are one message before it is written, and no other joins it.
        let silent = EventKind::CameraSilent;
        let mut together = report(8, "shed", silent, quiet);
        let other = report(9, "barn", silent, quiet);
        together.alerts[0].merge = None;
        merge_into(&mut together.alerts[0].alert.payload, &other.alerts[0].alert.payload);
        let reports = [
            report(1, "yard", person, quiet),
            report(2, "gate", motion, quiet),
            report(3, "yard", person, quiet),
            report(4, "gate", motion, quiet),
            report(5, "hall", person, quiet),
            report(6, "yard", person, None),
            report(7, "door", person, None),
            together,
        ];
        store.report(&reports, WallTime(10_000_000)).unwrap();
        let open = store.begin_digest("chat", i64::MAX, 100, FAR).unwrap().unwrap();
        let digest = Summary::of(&store, open.id).unwrap().digest(&open);
        let lines: Vec<_> = digest
            .counts
            .iter()
            .map(|line| (line.camera.as_str(), line.camera_name.as_deref().unwrap(), line.kind, line.count))
            .collect();
        let expected = [
            ("yard", "YARD", person, 3),
            ("gate", "GATE", motion, 2),
            ("barn", "BARN", silent, 1),
            ("door", "DOOR", person, 1),
            ("hall", "HALL", person, 1),
            ("shed", "SHED", silent, 1),
        ];
        assert_eq!(lines, expected);
        assert_eq!((digest.oldest, digest.newest), (WallTime(1_000_000), WallTime(60_000_000)));

        store.digest_delivered(open.id, FAR).unwrap();
        assert!(Summary::of(&store, open.id).unwrap().is_empty());
    }
}
