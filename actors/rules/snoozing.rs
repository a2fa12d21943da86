//! Which snoozes keep which messages back. Where they are kept is the store's business.

use meerkat_base::{CameraId, WallTime};
use meerkat_store::Snooze;

use super::KeptBack;

/// Why a message about this camera by this rule is kept back, if it is.
///
/// A snooze for everything is about cameras: what the node says about itself (a full disk, say) is kept back only by a
/// snooze of the rule that tells it.
pub(super) fn keeps_back(
    snoozes: &[Snooze],
    camera: &CameraId,
    rule: &str,
    now: WallTime,
) -> Option<KeptBack> {
    first(snoozes, now, |snooze| {
        let of_rule = snooze.rule.as_deref() == Some(rule) || (snooze.rule.is_none() && !camera.is_node());
        of_rule && snooze.camera.as_ref().is_none_or(|own| own == camera)
    })
}

/// Whether everything about this camera is kept back, whichever rule tells it.
pub(super) fn covers(snoozes: &[Snooze], camera: &CameraId, now: WallTime) -> bool {
    let of_camera = |snooze: &Snooze| {
        snooze.rule.is_none() && !camera.is_node() && snooze.camera.as_ref().is_none_or(|own| own == camera)
    };
    first(snoozes, now, of_camera).is_some()
}

/// Disarmed says more than snoozed.
fn first(snoozes: &[Snooze], now: WallTime, fits: impl Fn(&Snooze) -> bool) -> Option<KeptBack> {
    let mut found = None;
    for snooze in snoozes.iter().filter(|snooze| snooze.holds(now) && fits(snooze)) {
        if snooze.until.is_none() {
            return Some(KeptBack::Disarmed);
        }
        found = Some(KeptBack::Snoozed);
    }
    found
}
