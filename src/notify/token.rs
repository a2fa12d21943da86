//! Access tokens of services that hand them out for a while: kept, renewed before they end, asked for once however many
//! wait.

use std::time::Duration;

use meerkat_base::{Clock, MonoTime, Secret};
use tokio::sync::Mutex;

use crate::channel::Failure;

/// A token is renewed so long before its end: a large upload under way must not outlive it.
const MARGIN: Duration = Duration::from_secs(10 * 60);

/// A token as the service gave it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Granted {
    pub(crate) token: Secret,
    /// How long it is good for.
    pub(crate) lifetime: Duration,
}

/// Keeps the token of one application.
#[derive(Debug, Default)]
pub(crate) struct TokenCache {
    // Held over the request on purpose: who comes meanwhile waits for its token instead of asking for another.
    held: Mutex<Option<Held>>,
}

#[derive(Debug)]
struct Held {
    token: Secret,
    good_until: MonoTime,
}

impl TokenCache {
    /// The token, asked for with `fetch` where none is good for some while yet.
    pub(crate) async fn get(
        &self,
        clock: &dyn Clock,
        fetch: impl Future<Output = Result<Granted, Failure>>,
    ) -> Result<Secret, Failure> {
        let mut held = self.held.lock().await;
        if let Some(held) = held.as_ref().filter(|held| held.good_until > clock.mono()) {
            return Ok(held.token.clone());
        }
        *held = None;
        let granted = fetch.await?;
        // A short one is used for half its life; one of no life at all would be asked for every time.
        let useful = granted.lifetime.saturating_sub(MARGIN).max(granted.lifetime / 2);
        *held = Some(Held { token: granted.token.clone(), good_until: clock.mono().after(useful) });
        Ok(granted.token)
    }

    /// The service does not take this token any more. A newer one stays.
    pub(crate) async fn forget(&self, token: &Secret) {
        let mut held = self.held.lock().await;
        if held.as_ref().is_some_and(|held| held.token == *token) {
            *held = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use meerkat_base::{ManualClock, WallTime};

    use super::*;

    struct Service {
        asked: AtomicU32,
        lifetime: Duration,
    }

    impl Service {
        async fn grant(&self) -> Result<Granted, Failure> {
            let number = self.asked.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok(Granted { token: Secret::new(format!("t{number}")), lifetime: self.lifetime })
        }
    }

    #[tokio::test]
    async fn a_token_is_kept_and_renewed_before_its_end() {
        let clock = ManualClock::new(WallTime(0));
        let service = Service { asked: AtomicU32::new(0), lifetime: Duration::from_secs(7_200) };
        let cache = TokenCache::default();
        for (advance_secs, expected) in [(0, "t0"), (6_599, "t0"), (1, "t1"), (10, "t1")] {
            clock.advance(Duration::from_secs(advance_secs));
            let token = cache.get(&clock, service.grant()).await.unwrap();
            assert_eq!(token.reveal(), expected, "{advance_secs}");
        }
    }

    #[tokio::test]
    async fn who_comes_at_the_same_time_gets_the_same() {
        let clock = ManualClock::new(WallTime(0));
        let service = Service { asked: AtomicU32::new(0), lifetime: Duration::from_secs(60) };
        let cache = TokenCache::default();
        let get = || cache.get(&clock, service.grant());
        let (a, b, c) = tokio::join!(get(), get(), get());
        assert_eq!(
            (a.unwrap(), b.unwrap(), c.unwrap()),
            (Secret::new("t0"), Secret::new("t0"), Secret::new("t0"))
        );
        assert_eq!(service.asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn only_the_refused_one_is_forgotten_and_a_failure_keeps_nothing() {
        let clock = ManualClock::new(WallTime(0));
        let service = Service { asked: AtomicU32::new(0), lifetime: Duration::from_secs(60) };
        let cache = TokenCache::default();
        let failed = cache.get(&clock, async { Err(Failure::retry("busy")) }).await;
        assert!(matches!(failed, Err(Failure::Retry { .. })));
        let first = cache.get(&clock, service.grant()).await.unwrap();
        cache.forget(&Secret::new("older")).await;
        assert_eq!(cache.get(&clock, service.grant()).await.unwrap(), first);
        cache.forget(&first).await;
        assert_eq!(cache.get(&clock, service.grant()).await.unwrap(), Secret::new("t1"));
    }
}
