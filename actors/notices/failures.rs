//! Notices actors that fail again and again. One failure is ordinary and nobody's news: the actor is back within a
//! second.

use std::collections::BTreeMap;
use std::time::Duration;

use meerkat_base::{CameraId, EventKind, MonoTime, Notice, NoticeSink};

use crate::supervision::{ActorKind, ActorReport, ActorState};

/// How often the board is looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// A failure that is longer ago than this begins a new row. Whoever is at work for so long works.
const IN_A_ROW: Duration = Duration::from_secs(30);

/// Actors of one kind at one camera; the stations of a shared detector are one.
type Name = (ActorKind, Option<CameraId>);

#[derive(Debug, Default)]
struct Row {
    restarts: u64,
    failures: u64,
    last: MonoTime,
    told: bool,
}

/// Follows all actors.
#[derive(Default)]
pub(crate) struct Failures {
    looked: Option<MonoTime>,
    rows: BTreeMap<Name, Row>,
}

impl Failures {
    /// Whether it is time to look.
    pub fn is_time(&mut self, now: MonoTime) -> bool {
        let is_time = self.looked.is_none_or(|at| now.since(at) >= INTERVAL);
        if is_time {
            self.looked = Some(now);
        }
        is_time
    }

    /// Looks at what the board says. `limit` failures in a row are told.
    pub fn look(&mut self, now: MonoTime, reports: &[ActorReport], limit: u32, sink: &dyn NoticeSink) {
        let mut seen: BTreeMap<Name, (u64, bool, Option<String>)> = BTreeMap::new();
        for report in reports {
            let entry = seen.entry((report.kind, report.camera.clone())).or_default();
            entry.0 = entry.0.saturating_add(u64::from(report.restarts));
            entry.1 |= report.state == ActorState::BackingOff;
            entry.2 = report.last_error.clone().or(entry.2.take());
        }
        // Those that are gone from the board fail no more.
        for name in self.rows.keys() {
            seen.entry(name.clone()).or_default();
        }
        for (name, (restarts, is_down, error)) in seen {
            let row = self.rows.entry(name.clone()).or_default();
            let more = restarts.saturating_sub(row.restarts);
            row.restarts = restarts;
            if more > 0 {
                row.failures = row.failures.saturating_add(more);
                row.last = now;
            }
            if !is_down && now.since(row.last) >= IN_A_ROW {
                row.failures = 0;
                if row.told {
                    row.told = false;
                    sink.raise(notice(&name, false, String::new()));
                }
            } else if row.failures >= u64::from(limit) && !row.told {
                row.told = true;
                let detail =
                    format!("{}: {} failures in a row: {}", name.0, row.failures, error.unwrap_or_default());
                sink.raise(notice(&name, true, detail));
            }
        }
        self.rows.retain(|_, row| row.restarts > 0 || row.failures > 0 || row.told);
    }
}

fn notice((kind, camera): &Name, holds: bool, detail: String) -> Notice {
    let subject = kind.as_str().to_owned();
    Notice { kind: EventKind::ActorFailing, camera: camera.clone(), subject, holds, detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notices::Notices;

    fn report(restarts: u32, state: ActorState) -> ActorReport {
        ActorReport {
            kind: ActorKind::Motion,
            camera: Some(CameraId::parse("yard").unwrap()),
            generation: restarts + 1,
            state,
            restarts,
            last_error: Some("panic: broken".to_owned()),
            last_failure: None,
        }
    }

    #[test]
    fn failures_in_a_row_are_noticed_and_so_is_their_end() {
        let mut failures = Failures::default();
        let mut look = |secs: u64, reports: &[ActorReport]| {
            let notices = Notices::new();
            failures.look(MonoTime(secs * 1_000_000_000), reports, 3, &notices);
            notices.take()
        };
        let (up, down) = (ActorState::Running, ActorState::BackingOff);
        assert_eq!(look(1, &[report(0, up)]), []);
        assert_eq!(look(2, &[report(2, up)]), []);
        // So long ago that it is no row.
        assert_eq!(look(40, &[report(2, up)]), []);
        assert_eq!(look(41, &[report(4, down)]), []);
        let told = look(50, &[report(5, up)]);
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].subject.as_str(), told[0].holds), ("motion", true));
        assert!(told[0].detail.contains("3 failures in a row: panic: broken"), "{}", told[0].detail);
        assert_eq!(look(60, &[report(6, down)]), []);
        assert_eq!(look(99, &[report(6, down)]), [], "it is not up yet");
        let over = look(100, &[report(6, up)]);
        assert_eq!(over.iter().map(|notice| notice.holds).collect::<Vec<_>>(), [false]);
        assert_eq!(look(101, &[report(6, up)]), []);
    }

    #[test]
    fn stations_of_one_kind_count_together_and_those_that_are_gone_are_forgotten() {
        let mut failures = Failures::default();
        let notices = Notices::new();
        let mut shared = report(2, ActorState::Running);
        shared.camera = None;
        failures.look(MonoTime(1), &[shared.clone(), shared], 3, &notices);
        assert_eq!(notices.take().len(), 1);
        failures.look(MonoTime(60_000_000_000), &[], 3, &notices);
        assert_eq!(notices.take().len(), 1);
        assert!(failures.rows.is_empty());
    }
}
