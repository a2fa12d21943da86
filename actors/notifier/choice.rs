//! Which alert of a channel is next. Normally the oldest, so that what happened at a camera is told in its order; when
//! the channel is behind, the newest ones, and then one digest for the rest. Runs where the database is, so that
//! looking and choosing are one question.

use std::collections::HashSet;
use std::time::Duration;

use meerkat_base::{CameraId, WallTime};
use meerkat_store::{Backlog, Head, OpenDigest, Order, OutboxRow, Queue, Store, StoreError};

/// Rows looked at for one choice.
const HEADS: usize = 128;
/// Alerts in one digest; what is over goes into the next one.
pub(super) const MAX_IN_DIGEST: u64 = 10_000;

/// When a channel is behind, and what then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DigestSettings {
    /// An alert that has waited for longer shows that the channel is behind.
    pub after: Duration,
    /// So do more alerts than this.
    pub over: u64,
    /// So many of the newest are told one by one.
    pub newest: usize,
}

/// A channel that was behind and catches up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CatchUp {
    /// Rows with higher numbers came afterwards.
    pub last_number: i64,
    /// So many of the newest are still to be told one by one.
    pub left: usize,
}

/// What is next.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Choice {
    /// This alert.
    Alert(Box<OutboxRow>),
    /// This digest.
    Digest(OpenDigest),
    /// Nothing before this moment; without one, nothing waits.
    Nothing { until: Option<WallTime> },
}

/// Whether so much waits, or so long, that people want to hear of the present first.
pub(super) fn is_behind(backlog: &Backlog, settings: &DigestSettings, now: WallTime) -> bool {
    let waited = backlog.oldest.map_or(0, |oldest| now.0.saturating_sub(oldest.0));
    backlog.waiting > settings.over || u128::try_from(waited).is_ok_and(|w| w > settings.after.as_micros())
}

/// Chooses, and says how catching up stands. `probing`: the channel failed, and whatever waits may show whether it
/// works again, due or not.
pub(super) fn choose(
    store: &mut Store,
    channel: &str,
    settings: &DigestSettings,
    now: WallTime,
    catch_up: Option<CatchUp>,
    probing: bool,
) -> Result<(Choice, Option<CatchUp>), StoreError> {
    let mut catch_up = catch_up;
    if catch_up.is_none() {
        let backlog = store.backlog(channel, now, settings.over.saturating_add(1))?;
        if is_behind(&backlog, settings, now) {
            catch_up = Some(CatchUp { last_number: backlog.last_number, left: settings.newest });
        }
    }
    if let Some(CatchUp { last_number, left }) = catch_up {
        let heads = store.heads(channel, Queue::Alerts, Order::NewestFirst, now, left.min(HEADS))?;
        if let Some(head) = heads.iter().find(|head| probing || head.is_due(now))
            && let Some(row) = store.outbox_at(head.number)?
        {
            return Ok((Choice::Alert(Box::new(row)), catch_up));
        }
        // The newest are told, or cannot be told yet: the rest is told by a digest. Over as soon as it is made; who
        // came meanwhile has their turn in the order of coming.
        let made = store.begin_digest(channel, last_number, MAX_IN_DIGEST, now)?;
        if made.is_some() || store.open_digest(channel)?.is_none() {
            catch_up = None;
        }
    }
    if let Some(digest) = store.open_digest(channel)?
        && (probing || digest.next_attempt_at <= now)
    {
        return Ok((Choice::Digest(digest), catch_up));
    }
    let heads = store.heads(channel, Queue::Alerts, Order::OldestFirst, now, HEADS)?;
    let mut found = oldest(&heads, now, probing);
    if !matches!(found, Oldest::Due(_)) {
        // What people have read comes after all that nobody knows of. It may show whether the channel works, too.
        let told = store.heads(channel, Queue::Told, Order::OldestFirst, now, HEADS)?;
        found = found.or(oldest(&told, now, probing));
    }
    let choice = match found {
        Oldest::Due(number) => match store.outbox_at(number)? {
            Some(row) => Choice::Alert(Box::new(row)),
            None => Choice::Nothing { until: Some(now) },
        },
        Oldest::Later(until) => Choice::Nothing { until: Some(until) },
        Oldest::None => Choice::Nothing { until: None },
    };
    Ok((choice, catch_up))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Oldest {
    Due(i64),
    Later(WallTime),
    None,
}

impl Oldest {
    /// What comes sooner. Of two that are due the first.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Later(one), Self::Later(another)) => Self::Later(one.min(another)),
            (Self::None, _) | (Self::Later(_), Self::Due(_)) => other,
            (Self::Due(_), _) | (Self::Later(_), Self::None) => self,
        }
    }
}

/// The first that is due, but none before an earlier one of its camera that nobody has been told of.
fn oldest(heads: &[Head], now: WallTime, probing: bool) -> Oldest {
    let mut blocked: HashSet<&CameraId> = HashSet::new();
    let mut next: Option<WallTime> = None;
    for head in heads {
        if blocked.contains(&head.camera) {
            continue;
        }
        if probing || head.is_due(now) {
            return Oldest::Due(head.number);
        }
        if !head.is_told {
            blocked.insert(&head.camera);
        }
        next = Some(next.map_or(head.next_attempt_at, |next| next.min(head.next_attempt_at)));
    }
    next.map_or(Oldest::None, Oldest::Later)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(number: i64, camera: &str, due_secs: i64) -> Head {
        Head {
            number,
            camera: CameraId::parse(camera).unwrap(),
            next_attempt_at: WallTime(due_secs * 1_000_000),
            is_told: false,
        }
    }

    fn told(head: Head) -> Head {
        Head { is_told: true, ..head }
    }

    #[test]
    fn a_camera_is_told_of_in_its_order_and_holds_up_no_other() {
        let now = WallTime(10_000_000);
        for (heads, probing, expected) in [
            (vec![], false, Oldest::None),
            (vec![head(1, "a", 0), head(2, "b", 0)], false, Oldest::Due(1)),
            (vec![head(1, "a", 20), head(2, "a", 0), head(3, "b", 5)], false, Oldest::Due(3)),
            (
                vec![head(1, "a", 20), head(2, "a", 0), head(3, "b", 15)],
                false,
                Oldest::Later(WallTime(15_000_000)),
            ),
            (vec![head(1, "a", 20), head(2, "b", 0)], true, Oldest::Due(1)),
            (vec![told(head(1, "a", 20)), head(2, "a", 0)], false, Oldest::Due(2)),
            (vec![told(head(1, "a", 12)), head(2, "a", 15)], false, Oldest::Later(WallTime(12_000_000))),
        ] {
            assert_eq!(oldest(&heads, now, probing), expected, "{heads:?}");
        }
    }

    #[test]
    fn of_two_queues_what_comes_sooner_is_taken() {
        let later = |secs: i64| Oldest::Later(WallTime(secs * 1_000_000));
        for (one, other, expected) in [
            (Oldest::None, Oldest::None, Oldest::None),
            (Oldest::None, later(5), later(5)),
            (later(5), Oldest::None, later(5)),
            (later(5), later(3), later(3)),
            (later(5), Oldest::Due(7), Oldest::Due(7)),
            (Oldest::Due(7), Oldest::Due(8), Oldest::Due(7)),
        ] {
            assert_eq!(one.or(other), expected, "{one:?} {other:?}");
        }
    }

    #[test]
    fn many_or_old_alerts_are_a_backlog() {
        let settings = DigestSettings { after: Duration::from_secs(60), over: 10, newest: 3 };
        let now = WallTime(100_000_000);
        for (waiting, oldest_secs, expected) in [
            (0, None, false),
            (10, Some(40), false),
            (11, Some(99), true),
            (1, Some(39), true),
            (1, Some(200), false),
        ] {
            let oldest = oldest_secs.map(|secs: i64| WallTime(secs * 1_000_000));
            let backlog = Backlog { waiting, oldest, last_number: 0 };
            assert_eq!(is_behind(&backlog, &settings, now), expected, "{backlog:?}");
        }
    }
}
