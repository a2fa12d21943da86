//! Settings of the way from the outbox to the channels: backlogs, channels that fail, clips that follow. Sends nothing.

use std::time::Duration;

use super::reader::Reader;
use super::rule::{self, count, secs, whole};

/// How alerts are delivered, whatever the channel.
#[derive(Debug, Clone, PartialEq)]
pub struct DeliverySettings {
    /// A channel with an alert that has waited for so long is behind.
    pub digest_after: Duration,
    /// A channel for which more alerts than this wait is behind, too.
    pub digest_over: usize,
    /// So many of the newest alerts are told one by one when a channel is behind; the rest are in a digest.
    pub digest_newest: usize,
    /// Failures in a row after which a channel is left alone for a while.
    pub breaker_failures: u32,
    /// How long that is at first; it doubles while the channel goes on failing.
    pub breaker_open: Duration,
    /// Longest time that making a clip smaller may take.
    pub shrink_limit: Duration,
    /// Larger clips are never read into memory, whatever a channel takes.
    pub max_clip_bytes: u64,
}

impl DeliverySettings {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            digest_after: reader.read("notify.digest_after_secs", secs(10.0..=86_400.0)),
            digest_over: reader.read("notify.digest_over", count(2..=10_000)),
            digest_newest: reader.read("notify.digest_newest", count(0..=500)),
            breaker_failures: reader.read("notify.breaker_failures", rule::small(1..=1_000)),
            breaker_open: reader.read("notify.breaker_open_secs", secs(0.1..=3_600.0)),
            shrink_limit: reader.read("notify.shrink_limit_secs", secs(1.0..=3_600.0)),
            max_clip_bytes: reader.read("notify.max_clip_bytes", whole(100_000..=256_000_000)),
        }
    }
}
