//! The crier: the actor that takes notices out of the queue, and writes the events and alerts that become of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use meerkat_base::{CameraId, Clock, EventPhase, metric};
use meerkat_settings::NoticesSettings;
use meerkat_store::{Report, Store, StoreError, ToldAlert};
use metrics::counter;
use tokio::time::{Instant, sleep};
use tracing::{error, info};

use super::book::{NoticeBook, Turn};
use super::queue::Notices;
use crate::archivist::{ArchiveError, Archivist};
use crate::camera::Cameras;
use crate::notifier::NotifierLink;
use crate::rules::{Now, Rules, Said, merge_into};
use crate::supervision::{ActorKind, Failure, Sentinel, fault};

/// How often the queue is looked at.
const INTERVAL: Duration = Duration::from_millis(100);
/// Wait between two tries to write while the archivist is being restarted.
const ARCHIVE_RETRY: Duration = Duration::from_millis(100);
/// After this long what cannot be written is given up, and that is said.
const ARCHIVE_LIMIT: Duration = Duration::from_secs(60);

/// What every generation of the crier is built from. Clones share what is known.
#[derive(Clone)]
pub struct CrierTools {
    notices: Notices,
    archivist: Archivist,
    rules: Rules,
    notifier: NotifierLink,
    cameras: Cameras,
    clock: Arc<dyn Clock>,
    book: Arc<Mutex<NoticeBook>>,
}

impl CrierTools {
    /// Nothing is known yet but what waits in the queue.
    pub fn new(
        notices: Notices,
        archivist: Archivist,
        rules: Rules,
        notifier: NotifierLink,
        cameras: Cameras,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let entropy = || {
            let mut bytes = [0; 10];
            bytes.copy_from_slice(&uuid::Uuid::new_v4().as_bytes()[..10]);
            bytes
        };
        let book = NoticeBook::new(cameras.settings().notify.notices.clone(), entropy);
        Self { notices, archivist, rules, notifier, cameras, clock, book: Arc::new(Mutex::new(book)) }
    }

    /// Puts new settings in force.
    pub fn reload(&self, settings: NoticesSettings) {
        self.book().reload(settings);
    }

    fn book(&self) -> MutexGuard<'_, NoticeBook> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(self) -> Failure {
        loop {
            if let Err(failure) = fault::point(ActorKind::Crier, None) {
                return failure;
            }
            let now = Now { wall: self.clock.wall(), mono: self.clock.mono() };
            let due = {
                let mut book = self.book();
                for notice in self.notices.take() {
                    info!(
                        kind = %notice.kind, camera = notice.camera.as_ref().map(CameraId::as_str), notice.subject,
                        notice.holds, notice.detail, "noticed"
                    );
                    book.take(notice, now);
                }
                book.due(now.mono)
            };
            for turns in due {
                self.tell(turns).await;
            }
            sleep(INTERVAL).await;
        }
    }

    /// Writes what became of several facts, with one message per channel.
    async fn tell(&self, turns: Vec<Turn>) {
        let mut reports: Vec<Report> = Vec::new();
        for turn in &turns {
            let (tellings, snoozed) = if turn.event.phase == EventPhase::Ended {
                (self.rules.end(&turn.promises), false)
            } else {
                let verdict = self.rules.judge(&turn.event, &turn.fact.subject, &Default::default());
                self.book().promise(&turn.fact, verdict.promises);
                (verdict.tellings, verdict.snoozed)
            };
            let name = self.name(&turn.event.camera);
            let said = Said { camera_name: name.as_deref(), detail: &turn.detail, snapshot: None };
            let alerts = self.rules.alerts(&turn.event, &tellings, said);
            let detail = Some(turn.detail.clone()).filter(|detail| !detail.is_empty());
            reports.push(Report { event: turn.event.clone(), detail, snoozed, alerts });
        }
        gather(&mut reports);
        let told = reports.iter().any(|report| !report.alerts.is_empty());
        if !self.write(reports).await {
            return;
        }
        for turn in turns.iter().filter(|turn| turn.event.phase == EventPhase::Started) {
            let label = self.label(&turn.event.camera);
            counter!(metric::EVENTS, "camera" => label, "kind" => turn.event.kind.as_str()).increment(1);
        }
        if told {
            self.notifier.kick();
        }
    }

    fn name(&self, camera: &CameraId) -> Option<String> {
        self.cameras.settings().camera(camera).name.clone()
    }

    /// The label of the metrics: a configured camera or the word for all others.
    fn label(&self, camera: &CameraId) -> String {
        let configured = self.cameras.settings().cameras.contains_key(camera);
        if configured { camera.to_string() } else { meerkat_base::ids::UNCONFIGURED.to_owned() }
    }

    async fn write(&self, reports: Vec<Report>) -> bool {
        let give_up = Instant::now() + ARCHIVE_LIMIT;
        loop {
            let (own, rules) = (reports.clone(), self.rules.clone());
            let work = move |store: &mut Store| store.report(&own, rules.wall());
            let problem = match self.archivist.ask(work).await {
                Ok(()) => return true,
                Err(ArchiveError::Store(error @ StoreError::Refused(_))) => {
                    error!(%error, "a notice was refused");
                    return false;
                }
                Err(problem) => problem,
            };
            if Instant::now() >= give_up {
                error!(%problem, "a notice could not be written");
                return false;
            }
            sleep(ARCHIVE_RETRY).await;
        }
    }
}

/// Makes one message of all that goes to the same channel at the same time; it belongs to the first event.
fn gather(reports: &mut [Report]) {
    let mut firsts: Vec<(usize, ToldAlert)> = Vec::new();
    for (number, report) in reports.iter_mut().enumerate() {
        for told in report.alerts.drain(..) {
            let key = |told: &ToldAlert| told.merge.as_ref().map(|merge| merge.key.clone());
            let same = |(_, first): &&mut (usize, ToldAlert)| {
                first.alert.channel == told.alert.channel && key(first) == key(&told)
            };
            match firsts.iter_mut().find(same) {
                Some((_, first)) => merge_into(&mut first.alert.payload, &told.alert.payload),
                None => firsts.push((number, told)),
            }
        }
    }
    for (number, told) in firsts {
        if let Some(report) = reports.get_mut(number) {
            report.alerts.push(told);
        }
    }
}

/// The actor.
pub struct Crier {
    tools: CrierTools,
    sentinel: Arc<Sentinel>,
}

impl Crier {
    /// One that goes on with what the generation before knew.
    pub fn new(tools: CrierTools, sentinel: Sentinel) -> Self {
        Self { tools, sentinel: Arc::new(sentinel) }
    }
}

impl Actor for Crier {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let sentinel = Arc::clone(&self.sentinel);
        // It only ends by failing.
        ctx.spawn(self.tools.clone().run().into_actor(self).map(move |failure, _, ctx| {
            sentinel.fail(failure);
            ctx.stop();
        }));
    }
}
