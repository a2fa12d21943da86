//! The trait behind which every channel stands, and what can come of a delivery.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use meerkat_base::EventKind;
use meerkat_outbound::OutboundError;

use crate::alert::{Alert, ClipPart, Digest, TestMessage};

/// No wait that a service asks for is taken for longer than this.
pub(crate) const LONGEST_ASKED: Duration = Duration::from_secs(60 * 60);

/// A delivery under way. Dropping it leaves its outcome unknown, as a crash would.
pub type Delivery<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// What came of one attempt.
///
/// A channel may need several steps for one message (a text, then its picture). `sent` counts the steps that are
/// known to have arrived, over all attempts so far: the caller keeps it beside the message and gives it back as
/// [`Alert::already_sent`], and the channel goes on from there. A step whose outcome is unknown (the connection
/// broke before the answer) is not counted and is taken again: at least once, with a copy at most per such attempt.
/// Above 0, people have read the words; of what it is made besides is each channel's own knowledge, but it only grows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The service has accepted all of it.
    Delivered,
    /// Not now.
    Retry {
        /// The service says how long to wait. Nothing: the caller's back-off decides.
        after: Option<Duration>,
        /// What happened, without secrets, fit for log and status.
        reason: String,
        /// Steps that have arrived so far.
        sent: u8,
    },
    /// Not now, because of one of several receivers; the others have it. The way to the service is open.
    PutOff {
        /// What happened, without secrets, fit for log and status.
        reason: String,
        /// Steps that have arrived so far.
        sent: u8,
    },
    /// Nothing was tried: the limit that we keep ourselves has no place left. Says nothing about the service.
    Held {
        /// When there is one.
        wait: Duration,
        /// Steps that have arrived so far.
        sent: u8,
    },
    /// Never: trying this message again cannot help.
    Refused {
        /// What happened, without secrets, fit for log and status.
        reason: String,
        /// Steps that have arrived so far: above 0, people have read the text and lack only the picture.
        sent: u8,
    },
}

impl Outcome {
    /// The word for it in the label `result` of `meerkat_notifications_total`.
    pub fn as_label(&self) -> &'static str {
        match self {
            // What was refused is less than the message: people have read it.
            Self::Delivered | Self::Refused { sent: 1.., .. } => "ok",
            Self::Retry { .. } | Self::PutOff { .. } | Self::Held { .. } => "retry",
            Self::Refused { .. } => "refused",
        }
    }
}

/// A message that an earlier run of the node sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Earlier {
    /// How long ago.
    pub ago: Duration,
    /// It had a picture, or was a clip.
    pub with_file: bool,
}

/// A way to tell people.
pub trait Channel: Send + Sync {
    /// Its name in the configuration; also its metric label.
    fn name(&self) -> &str;

    /// Which service it speaks to: `wecom`, `webhook`.
    fn kind(&self) -> &'static str;

    /// Begins what it keeps between messages, such as a connection. Whoever delivers through it says so first, perhaps
    /// more than once; a channel that is only made to see whether it can be made keeps nothing.
    fn open(&self) {}

    /// Ends that for good: somebody else delivers in its place from now on, or nobody.
    fn close(&self) {}

    /// How long until the service's own rate limit would take another message; zero: now. A notifier that asks
    /// before it picks a message sends the newest first instead of burning attempts of all that wait.
    fn ready_in(&self) -> Duration {
        Duration::ZERO
    }

    /// An earlier run of the node sent messages by it, each so long ago: the service may still count them. Said once,
    /// before anything is delivered.
    fn remember(&self, _earlier: &[Earlier]) {}

    /// Largest snapshot in bytes that the service takes; none: any. A notifier hands a larger one over scaled down.
    fn picture_limit(&self) -> Option<u64> {
        None
    }

    /// Delivers what of an alert has not been delivered yet. Takes less than a minute.
    fn deliver<'a>(&'a self, alert: &'a Alert) -> Delivery<'a>;

    /// Largest clip in bytes that the service takes as a file; none: it takes no files, though it may take a link.
    fn clip_limit(&self) -> Option<u64> {
        None
    }

    /// Whether it has any use for [`Channel::deliver_clip`], with a file or with a link.
    fn takes_clips(&self) -> bool {
        self.clip_limit().is_some()
    }

    /// Whether the clip of such an event may leave through it: a clip that it would not send need not be made small.
    fn takes_clip_of(&self, _kind: EventKind) -> bool {
        self.takes_clips()
    }

    /// Delivers the clip that belongs to an alert, as a message of its own that refers to it: file, else link, else
    /// nothing. Asked only where [`Channel::takes_clips`]; `alert.already_sent` counts the steps of this part.
    /// Takes less than [`clip_patience`].
    fn deliver_clip<'a>(&'a self, _alert: &'a Alert, _clip: &'a ClipPart) -> Delivery<'a> {
        Box::pin(async { Outcome::Refused { reason: "this channel takes no clips".to_owned(), sent: 0 } })
    }

    /// Delivers what of a digest has not been delivered yet: its words, to everybody.
    fn deliver_digest<'a>(&'a self, digest: &'a Digest) -> Delivery<'a>;

    /// Delivers a message that says that it is a test, by the way of an alert and with all that an alert needs
    /// (tokens, applications), so that what comes of it holds for alerts.
    fn deliver_test<'a>(&'a self, _test: &'a TestMessage) -> Delivery<'a> {
        Box::pin(async { Outcome::Refused { reason: "this channel sends no tests".to_owned(), sent: 0 } })
    }

    /// What to do about an outcome with this reason, in one or two sentences; nothing where the reason says all.
    fn explain(&self, _reason: &str) -> Option<&'static str> {
        None
    }
}

/// How long [`Channel::deliver_clip`] may take at most: the time limits of its requests, and a second for every 128 KiB
/// of the file.
pub fn clip_patience(clip: &ClipPart) -> Duration {
    let bytes = clip.file.as_ref().map_or(0, |file| file.len() as u64);
    Duration::from_secs(90 + bytes / (128 * 1024))
}

/// Why one step did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Not now.
    Retry { after: Option<Duration>, reason: String },
    /// Our own limit has no place for so long.
    Held { wait: Duration },
    /// Never.
    Refused { reason: String },
}

impl Failure {
    pub(crate) fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { after: None, reason: reason.into() }
    }

    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into() }
    }

    /// The outcome of the whole message, of which `sent` steps have arrived.
    pub(crate) fn into_outcome(self, sent: u8) -> Outcome {
        match self {
            Self::Retry { after, reason } => Outcome::Retry { after, reason, sent },
            Self::Held { wait } => Outcome::Held { wait, sent },
            Self::Refused { reason } => Outcome::Refused { reason, sent },
        }
    }
}

impl From<OutboundError> for Failure {
    fn from(error: OutboundError) -> Self {
        match error {
            // The settings themselves are wrong; only the owner can help.
            _ if error.is_for_good() => Self::refused(error.to_string()),
            _ if error.outcome_is_unknown() => Self::retry(format!("{error}; it may have arrived")),
            _ => Self::retry(error.to_string()),
        }
    }
}
