//! Events that a death of the node left open: they end at its next start, and whoever was to be told of their end is.

use meerkat_base::{EventPhase, WallTime};
use meerkat_store::{NewAlert, Store, StoreError, ToldAlert};
use serde::Deserialize;

use super::AlertDraft;

/// Closes what an earlier run left open. Returns how many events that were.
pub(crate) fn close_orphans(store: &mut Store, now: WallTime) -> Result<usize, StoreError> {
    let closed = store.close_orphans(now)?;
    for event in &closed {
        let mut alerts = Vec::new();
        for row in store
            .alerts_of(event.id)?
            .into_iter()
            .filter(|row| row.phase == EventPhase::Started && row.part == 0)
        {
            let Ok(mut draft) = AlertDraft::deserialize(&row.payload) else { continue };
            if !draft.ends {
                continue;
            }
            draft.ends = false;
            draft.detail.clear();
            draft.lines.clear();
            let payload = serde_json::to_value(&draft).unwrap_or_default();
            let alert = NewAlert { channel: row.channel, payload, snapshot: None, created: now };
            alerts.push(ToldAlert::from(alert));
        }
        store.tell(event, &alerts)?;
    }
    Ok(closed.len())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use meerkat_base::{Clock, ManualClock};
    use meerkat_store::StoreOptions;

    use super::*;
    use crate::testing::{NOON, camera, cameras, event, frame};

    #[test]
    fn the_end_of_what_was_cut_off_is_told_to_whom_it_was_promised() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        let clock = ManualClock::new(NOON);
        let door = camera(&cameras(&clock, &[]), "door");
        let cut_off = event(&frame(&door, &clock).0, 1);
        let alert = |channel: &str, ends: bool| NewAlert {
            channel: channel.to_owned(),
            payload: serde_json::to_value(AlertDraft { ends, score: 0.5, ..AlertDraft::default() }).unwrap(),
            snapshot: None,
            created: clock.wall(),
        };
        store.start_event(&cut_off, &[alert("a", true), alert("b", false)]).unwrap();
        clock.advance(Duration::from_secs(60));
        assert_eq!(close_orphans(&mut store, clock.wall()).unwrap(), 1);
        assert_eq!(close_orphans(&mut store, clock.wall()).unwrap(), 0);
        let rows = store.alerts_of(cut_off.id).unwrap();
        let ended: Vec<&str> = rows
            .iter()
            .filter(|row| row.phase == EventPhase::Ended)
            .map(|row| row.channel.as_str())
            .collect();
        assert_eq!((ended, rows.len()), (vec!["a"], 3));
        assert!(store.event(cut_off.id).unwrap().unwrap().interrupted);
    }
}
