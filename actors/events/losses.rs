//! Counts what is lost of events: nothing else remembers it. What a full mailbox refuses is counted there.

use meerkat_base::metric;
use metrics::counter;

/// What is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// A whole event with its alerts.
    Event,
    /// An end, which the next start of the node writes.
    End,
    /// Boxes, a check-in or a snapshot of an event that is there.
    Part,
    /// A notice before or after an event was made of it.
    Notice,
}

impl Lost {
    fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::End => "end",
            Self::Part => "part",
            Self::Notice => "notice",
        }
    }
}

/// Why it is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The database did not take it for so long that it was given up.
    Unwritten,
    /// It breaks a rule of the database, and always will.
    Refused,
    /// The link to whoever was to take it was full.
    LinkFull,
}

impl Reason {
    fn as_str(self) -> &'static str {
        match self {
            Self::Unwritten => "unwritten",
            Self::Refused => "refused",
            Self::LinkFull => "link_full",
        }
    }
}

/// What can be lost for which reason.
const PAIRS: [(Lost, Reason); 9] = [
    (Lost::Event, Reason::Unwritten),
    (Lost::Event, Reason::Refused),
    (Lost::End, Reason::Unwritten),
    (Lost::End, Reason::Refused),
    (Lost::Part, Reason::Unwritten),
    (Lost::Part, Reason::Refused),
    (Lost::Part, Reason::LinkFull),
    (Lost::Notice, Reason::Refused),
    (Lost::Notice, Reason::LinkFull),
];

/// Counts a loss.
pub(crate) fn lose(what: Lost, reason: Reason) {
    debug_assert!(PAIRS.contains(&(what, reason)), "{what:?} {reason:?} is no series");
    counter!(metric::EVENTS_LOST, "what" => what.as_str(), "reason" => reason.as_str()).increment(1);
}

/// Makes the series known as 0.
pub(crate) fn declare() {
    for (what, reason) in PAIRS {
        counter!(metric::EVENTS_LOST, "what" => what.as_str(), "reason" => reason.as_str()).increment(0);
    }
}
