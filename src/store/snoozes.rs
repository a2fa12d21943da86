//! Whose messages are kept back, and until when. What that means for an event is decided elsewhere.

use meerkat_base::{CameraId, WallTime};
use rusqlite::{Row, params};
use serde::Serialize;
use uuid::Uuid;

use crate::database::{Store, StoreReader};
use crate::error::{Result, StoreError};
use crate::sql::parsed;

/// Snoozes that there may be at a time.
pub const MAX_SNOOZES: usize = 256;
/// Longest reason, characters.
pub const MAX_REASON_CHARS: usize = 200;

/// Keeps messages back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snooze {
    /// Its name.
    pub id: Uuid,
    /// About this camera; none: about every camera.
    pub camera: Option<CameraId>,
    /// Of this rule; none: of every rule.
    pub rule: Option<String>,
    /// Until then; none: disarmed, until somebody arms again.
    pub until: Option<WallTime>,
    /// Why, in somebody's words; may be empty.
    pub reason: String,
    /// Since when.
    pub created: WallTime,
}

impl Snooze {
    /// Whether it holds at a moment.
    pub fn holds(&self, now: WallTime) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

impl Store {
    /// Adds a snooze, and forgets those that are over.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when there are [`MAX_SNOOZES`], or with a reason that is too long or not one line.
    pub fn add_snooze(&mut self, snooze: &Snooze, now: WallTime) -> Result<()> {
        if snooze.reason.chars().count() > MAX_REASON_CHARS || snooze.reason.chars().any(char::is_control) {
            return Err(StoreError::Refused(format!(
                "a reason is one line of at most {MAX_REASON_CHARS} characters"
            )));
        }
        if !snooze.holds(now) {
            return Err(StoreError::Refused("it would be over already".to_owned()));
        }
        let transaction = self.begin()?;
        transaction.execute("DELETE FROM snoozes WHERE until <= ?1", [now.0])?;
        let there: i64 = transaction.query_row("SELECT count(*) FROM snoozes", [], |row| row.get(0))?;
        if usize::try_from(there).unwrap_or(usize::MAX) >= MAX_SNOOZES {
            return Err(StoreError::Refused(format!("there are {MAX_SNOOZES} snoozes already: cancel some")));
        }
        transaction.execute(
            "INSERT INTO snoozes (id, camera, rule, until, reason, created) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (id) DO NOTHING",
            params![
                snooze.id.to_string(),
                snooze.camera.as_ref().map(CameraId::as_str),
                snooze.rule,
                snooze.until.map(|until| until.0),
                snooze.reason,
                snooze.created.0
            ],
        )?;
        Ok(transaction.commit()?)
    }

    /// Ends a snooze. Says whether there was such a one.
    pub fn cancel_snooze(&mut self, id: Uuid) -> Result<bool> {
        Ok(self.connection.execute("DELETE FROM snoozes WHERE id = ?1", [id.to_string()])? == 1)
    }
}

impl StoreReader {
    /// Every snooze that holds, oldest first.
    pub fn snoozes(&self, now: WallTime) -> Result<Vec<Snooze>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, camera, rule, until, reason, created FROM snoozes
             WHERE until IS NULL OR until > ?1 ORDER BY created, number",
        )?;
        statement.query_and_then([now.0], snooze)?.collect()
    }
}

fn snooze(row: &Row<'_>) -> Result<Snooze> {
    let camera: Option<String> = row.get(1)?;
    Ok(Snooze {
        id: parsed(row, 0, |text| Uuid::parse_str(text).ok())?,
        camera: match camera {
            Some(_) => Some(parsed(row, 1, |text| CameraId::from_shown(text).ok())?),
            None => None,
        },
        rule: row.get(2)?,
        until: row.get::<_, Option<i64>>(3)?.map(WallTime),
        reason: row.get(4)?,
        created: WallTime(row.get(5)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::store;

    fn snooze(until: Option<i64>) -> Snooze {
        Snooze {
            id: Uuid::new_v4(),
            camera: Some(CameraId::parse("yard").unwrap()),
            rule: Some("night".to_owned()),
            until: until.map(WallTime),
            reason: "builders".to_owned(),
            created: WallTime(0),
        }
    }

    #[test]
    fn snoozes_hold_until_they_are_over_or_cancelled() {
        let (_folder, mut store) = store();
        let (short, disarmed) = (snooze(Some(100)), Snooze { camera: None, rule: None, ..snooze(None) });
        for one in [&short, &disarmed, &short] {
            store.add_snooze(one, WallTime(0)).unwrap();
        }
        assert_eq!(store.snoozes(WallTime(99)).unwrap(), [short.clone(), disarmed.clone()]);
        assert_eq!(store.snoozes(WallTime(100)).unwrap(), std::slice::from_ref(&disarmed));
        assert!(store.cancel_snooze(disarmed.id).unwrap());
        assert!(!store.cancel_snooze(disarmed.id).unwrap());
        assert_eq!(store.snoozes(WallTime(0)).unwrap(), [short]);
    }

    #[test]
    fn there_are_not_too_many_and_none_that_is_over() {
        let (_folder, mut store) = store();
        for (bad, now) in [
            (snooze(Some(5)), WallTime(5)),
            (Snooze { reason: "x".repeat(MAX_REASON_CHARS + 1), ..snooze(None) }, WallTime(0)),
            (Snooze { reason: "a\nb".to_owned(), ..snooze(None) }, WallTime(0)),
        ] {
            assert!(matches!(store.add_snooze(&bad, now), Err(StoreError::Refused(_))), "{bad:?}");
        }
        for _ in 0..MAX_SNOOZES {
            store.add_snooze(&snooze(Some(10)), WallTime(0)).unwrap();
        }
        assert!(store.add_snooze(&snooze(None), WallTime(9)).is_err());
        store.add_snooze(&snooze(None), WallTime(10)).unwrap();
    }
}
