//! What the service manager is told, where there is one (systemd's sd_notify protocol). Elsewhere it does nothing.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::task::JoinHandle;

/// Feeds the watchdog until dropped. Only the main loop feeds it: a process whose main loop stands still is started
/// anew.
pub(super) struct Watchdog(Option<JoinHandle<()>>);

/// Says that the node is ready, and begins to feed the watchdog if there is one.
pub(super) fn ready() -> Watchdog {
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    let interval = sd_notify::watchdog_enabled().map(|limit| limit / 3).filter(|i| *i > Duration::ZERO);
    Watchdog(interval.map(|interval| {
        tokio::task::spawn_local(async move {
            loop {
                let _ = sd_notify::notify(&[NotifyState::Watchdog]);
                tokio::time::sleep(interval).await;
            }
        })
    }))
}

/// The start takes longer, and goes on.
pub(super) fn still_starting() {
    const LONGER_MICROS: u32 = 120_000_000;
    let _ = sd_notify::notify(&[NotifyState::ExtendTimeoutUsec(LONGER_MICROS)]);
}

pub(super) fn reloading() {
    let states = match NotifyState::monotonic_usec_now() {
        Ok(now) => vec![NotifyState::Reloading, now],
        Err(_) => vec![NotifyState::Reloading],
    };
    let _ = sd_notify::notify(&states);
}

pub(super) fn reloaded() {
    let _ = sd_notify::notify(&[NotifyState::Ready]);
}

pub(super) fn stopping() {
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}
