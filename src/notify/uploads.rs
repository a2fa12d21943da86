//! What services call the files that they already have, so that a message that has to wait after its upload does not
//! upload again.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use meerkat_base::MonoTime;
use uuid::Uuid;

use crate::channel::Failure;

/// How many uploads are remembered.
const UPLOADS: usize = 16;

/// The files that one service has of one channel.
#[derive(Debug)]
pub(crate) struct Uploads {
    kept_for: Duration,
    known: Mutex<Vec<Upload>>,
}

#[derive(Debug)]
struct Upload {
    id: Uuid,
    what: String,
    at: MonoTime,
    name: String,
}

impl Uploads {
    /// The service keeps files for so long.
    pub(crate) fn kept_for(kept_for: Duration) -> Self {
        Self { kept_for, known: Mutex::new(Vec::new()) }
    }

    /// The service's name for a file of a message, uploaded with `upload` where it has none. `what` tells the files of one
    /// message apart: a long event has several clips.
    pub(crate) async fn name_of(
        &self,
        id: Uuid,
        what: &str,
        now: MonoTime,
        upload: impl Future<Output = Result<String, Failure>>,
    ) -> Result<String, Failure> {
        if let Some(name) = self.find(id, what, now) {
            return Ok(name);
        }
        let name = upload.await?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= UPLOADS {
            known.remove(0);
        }
        known.push(Upload { id, what: what.to_owned(), at: now, name: name.clone() });
        Ok(name)
    }

    /// The service knows this file no more.
    pub(crate) fn forget(&self, name: &str) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).retain(|upload| upload.name != name);
    }

    fn find(&self, id: Uuid, what: &str, now: MonoTime) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let good =
            |upload: &&Upload| upload.id == id && upload.what == what && now.since(upload.at) < self.kept_for;
        known.iter().find(good).map(|upload| upload.name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn uploads_are_remembered_for_as_long_as_the_service_keeps_them() {
        let uploads = Uploads::kept_for(Duration::from_secs(10));
        let at = |secs: u64| MonoTime(secs * 1_000_000_000);
        let id = Uuid::from_u128(1);
        let name = |now, fresh: &'static str| {
            uploads.name_of(id, "image", at(now), async move { Ok(fresh.to_owned()) })
        };
        assert_eq!(name(0, "a").await.unwrap(), "a");
        assert_eq!(name(9, "b").await.unwrap(), "a");
        assert_eq!(name(10, "c").await.unwrap(), "c");
        let film = uploads.name_of(id, "clip", at(10), async { Ok("another file".to_owned()) });
        assert_eq!(film.await.unwrap(), "another file");
        uploads.forget("c");
        assert_eq!(name(10, "d").await.unwrap(), "d");
        for n in 2..100 {
            let other = uploads.name_of(Uuid::from_u128(n), "image", at(10), async { Ok("x".to_owned()) });
            other.await.unwrap();
        }
        assert!(uploads.known.lock().unwrap().len() <= UPLOADS);
    }
}
