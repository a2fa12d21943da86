//! The one place that is asked, by couriers and for notices: the rules in force, what they remember, and the snoozes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use meerkat_base::{CameraId, Clock, Event, EventPhase, WallTime, metric};
use meerkat_notify::Language;
use meerkat_settings::Settings;
use meerkat_store::{Merge, NewAlert, Snooze, ToldAlert};
use metrics::counter;

use super::book::Rulebook;
use super::windows::Memory;
use super::{AlertDraft, KeptBack, Now, Promise, Telling, Verdict, merge_into};

/// What is said about an event besides the event itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Said<'a> {
    /// What people call the camera.
    pub camera_name: Option<&'a str>,
    /// What a notice says.
    pub detail: &'a str,
    /// A picture, relative to the data folder.
    pub snapshot: Option<&'a str>,
}

/// The rules at work. Clones share them.
#[derive(Clone)]
pub struct Rules {
    shared: Arc<Shared>,
}

struct Shared {
    book: RwLock<Arc<Rulebook>>,
    memory: Mutex<Memory>,
    snoozes: RwLock<Vec<Snooze>>,
    clock: Arc<dyn Clock>,
}

impl Rules {
    /// The rules of these settings. Nobody has been told anything yet, and nothing is snoozed.
    pub fn new(settings: &Settings, clock: Arc<dyn Clock>) -> Self {
        for reason in KeptBack::ALL {
            counter!(metric::ALERTS_SUPPRESSED, "reason" => reason.as_str()).increment(0);
        }
        let shared = Shared {
            book: RwLock::new(Arc::new(Rulebook::new(settings))),
            memory: Mutex::default(),
            snoozes: RwLock::default(),
            clock,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Puts the rules of new settings in force.
    pub fn reload(&self, settings: &Settings) {
        let book = Arc::new(Rulebook::new(settings));
        self.memory().forget(|rule| book.has(rule));
        *self.shared.book.write().unwrap_or_else(PoisonError::into_inner) = book;
    }

    /// Puts these snoozes in force.
    pub fn set_snoozes(&self, snoozes: Vec<Snooze>) {
        *self.shared.snoozes.write().unwrap_or_else(PoisonError::into_inner) = snoozes;
    }

    /// The snoozes that hold now.
    pub fn snoozes(&self) -> Vec<Snooze> {
        let now = self.shared.clock.wall();
        let snoozes = self.shared.snoozes.read().unwrap_or_else(PoisonError::into_inner);
        snoozes.iter().filter(|snooze| snooze.holds(now)).cloned().collect()
    }

    /// Whether the settings have a rule of this name.
    pub fn has(&self, rule: &str) -> bool {
        // What a channel is told that no rule names is no rule of the settings.
        CameraId::parse(rule).is_ok() && self.book().has(rule)
    }

    /// The wall clock.
    pub fn wall(&self) -> WallTime {
        self.shared.clock.wall()
    }

    fn book(&self) -> Arc<Rulebook> {
        Arc::clone(&self.shared.book.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.shared.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Now {
        Now { wall: self.shared.clock.wall(), mono: self.shared.clock.mono() }
    }

    /// What follows from an event that began, or that became more certain. `settled` are the channels that had their
    /// say about it before; `subject` is what a notice is about. What is kept back is counted.
    pub fn judge(&self, event: &Event, subject: &str, settled: &BTreeSet<String>) -> Verdict {
        let (book, now) = (self.book(), self.now());
        let snoozes = self.shared.snoozes.read().unwrap_or_else(PoisonError::into_inner).clone();
        let verdict = book.judge(&mut self.memory(), &snoozes, event, subject, settled, now);
        count(&verdict);
        verdict
    }

    /// Who is told that an event is over.
    pub fn end(&self, promises: &[Promise]) -> Vec<Telling> {
        let (book, now) = (self.book(), self.now());
        let verdict = book.end(&mut self.memory(), promises, now);
        count(&verdict);
        verdict.tellings
    }

    /// The rows of these messages.
    pub fn alerts(&self, event: &Event, tellings: &[Telling], said: Said<'_>) -> Vec<ToldAlert> {
        let in_chinese = self.book().language == Language::Chinese;
        tellings.iter().map(|telling| alert(event, telling, said, in_chinese)).collect()
    }
}

fn count(verdict: &Verdict) {
    for reason in &verdict.kept_back {
        counter!(metric::ALERTS_SUPPRESSED, "reason" => reason.as_str()).increment(1);
    }
}

fn alert(event: &Event, telling: &Telling, said: Said<'_>, in_chinese: bool) -> ToldAlert {
    let camera_name = said.camera_name.map(str::to_owned);
    let mut draft = AlertDraft::about(event, camera_name.clone(), telling.severity);
    draft.detail = said.detail.to_owned();
    draft.in_chinese = in_chinese;
    // Notices that begin together are one message even where each would have one to itself.
    if telling.merge_key.is_some() || event.kind.is_notice() {
        draft.lines.push(AlertDraft::line(event, camera_name));
    }
    // The picture goes with the start; where a channel hears of the end only, the store brings it.
    let snapshot = said.snapshot.filter(|_| event.phase != EventPhase::Ended).map(str::to_owned);
    ToldAlert {
        alert: NewAlert {
            channel: telling.channel.clone(),
            payload: serde_json::to_value(&draft).unwrap_or_default(),
            snapshot,
            created: telling.due,
        },
        merge: telling.merge_key.clone().map(|key| Merge { key, combine: merge_into }),
    }
}
