//! Which events become which alerts: rules, quiet hours, cool-downs, groups, snoozes. Judges one event after the other;
//! time comes in from outside, and nothing is sent or written here.

mod book;
mod draft;
mod schedule;
mod snoozing;
mod windows;

mod desk;

#[cfg(test)]
mod tests;

pub use desk::{Rules, Said};
pub(crate) use draft::merge_into;
pub use draft::{AlertDraft, DraftLine};

use std::collections::BTreeSet;

use meerkat_base::{MonoTime, Severity, WallTime};
use serde::{Deserialize, Serialize};

/// The present, by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For people, schedules and snoozes.
    pub wall: WallTime,
    /// For cool-downs and windows.
    pub mono: MonoTime,
}

/// What the rules say about an event that began, or about one that became more certain.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdict {
    /// Who is told of it.
    pub tellings: Vec<Telling>,
    /// Who is told of its end, when it comes.
    pub promises: Vec<Promise>,
    /// A snooze covers it.
    pub snoozed: bool,
    /// Messages that are kept back, and why.
    pub kept_back: Vec<KeptBack>,
    /// Channels that have had their say: told or not, they are not asked about this event again.
    pub settled: BTreeSet<String>,
    /// A rule would fit, were the event more certain.
    pub may_rise: bool,
}

/// One channel that is told of one phase of an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Telling {
    /// Which channel.
    pub channel: String,
    /// How much it matters.
    pub severity: Severity,
    /// When the message may go.
    pub due: WallTime,
    /// Messages of this channel under the same key are one.
    pub merge_key: Option<String>,
}

/// A channel that will be told of the end of an event. Kept with the row of the event as long as it is open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Promise {
    /// Which channel.
    pub channel: String,
    /// By which rule.
    pub rule: String,
    /// How much it matters.
    pub severity: Severity,
}

impl Promise {
    /// How promises are kept with the row of their event; none where there are none.
    pub(crate) fn kept(promises: &[Promise]) -> Option<serde_json::Value> {
        if promises.is_empty() { None } else { serde_json::to_value(promises).ok() }
    }
}

/// Why a message is not sent, or not by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeptBack {
    /// A snooze.
    Snoozed,
    /// Disarmed.
    Disarmed,
    /// It was told of the same a short while ago.
    CoolingDown,
    /// Quiet hours.
    Quiet,
    /// It is part of another message.
    Grouped,
}

impl KeptBack {
    /// Every reason.
    pub const ALL: [KeptBack; 5] =
        [KeptBack::Snoozed, KeptBack::Disarmed, KeptBack::CoolingDown, KeptBack::Quiet, KeptBack::Grouped];

    /// The `reason` label of the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            KeptBack::Snoozed => "snoozed",
            KeptBack::Disarmed => "disarmed",
            KeptBack::CoolingDown => "cooldown",
            KeptBack::Quiet => "quiet",
            KeptBack::Grouped => "grouped",
        }
    }
}
