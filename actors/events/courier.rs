//! Carries one event through its life, in order: recording begun, row and alerts committed in one step, people
//! told, and at the end the recording ended and the row closed. One courier per event, so that a slow disk holds up
//! nobody else.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use actix::ArbiterHandle;
use meerkat_base::{Event, EventKind, EventPhase, MonoTime, metric};
use meerkat_store::{Report, SnapshotRow, Store, StoreError};
use metrics::counter;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use super::visit::Change;
use crate::archivist::{ArchiveError, Archivist};
use crate::camera::Camera;
use crate::faces::UNKNOWN;
use crate::notifier::NotifierLink;
use crate::recorder::{NotBegun, SnapshotFile};
use crate::rules::{Promise, Rules, Said, Telling, Verdict};

/// Longest wait for the recorder to have the pre-roll on disk before the row is written without it.
const RECORDER_LIMIT: Duration = Duration::from_secs(5);
/// Longest wait for a recorder that was late: it is given up at its deadline and then built again.
const LATE_RECORDER_LIMIT: Duration = Duration::from_secs(30);
/// Longest wait for the recorder to hear that an event is over.
const END_LIMIT: Duration = Duration::from_secs(60);
/// Wait between two tries to write a row while the archivist is being restarted.
const ARCHIVE_RETRY: Duration = Duration::from_millis(100);
/// After this long a row that cannot be written is given up, and that is said.
const ARCHIVE_LIMIT: Duration = Duration::from_secs(60);
/// Changes of one event that may wait.
const CAPACITY: usize = 64;

/// What every courier uses. Clones share it.
#[derive(Clone)]
pub struct CourierTools {
    /// Where rows go.
    pub archivist: Archivist,
    /// Who is told when there is something to deliver.
    pub notifier: NotifierLink,
    /// Couriers on their way, counted so that shutdown can wait for them.
    pub running: Arc<AtomicUsize>,
    /// What may change while the node runs.
    pub rules: Arc<RwLock<CourierRules>>,
    /// Says who is told.
    pub alerts: Rules,
    /// Where couriers run: not with the events actor, whose loss must not be theirs.
    pub arbiter: ArbiterHandle,
    /// Number of the events actor's generation at work: a courier of an earlier one hears nothing more.
    pub generation: Arc<watch::Sender<u64>>,
}

impl CourierTools {
    /// A new generation of the events actor is at work; returns its number.
    pub(super) fn next_generation(&self) -> u64 {
        self.generation.send_modify(|number| *number += 1);
        *self.generation.borrow()
    }
}

/// Which event is recorded and counted how.
#[derive(Debug, Clone)]
pub struct CourierRules {
    /// Kinds that are recorded.
    pub recorded: Vec<EventKind>,
    /// Time in which a person is not checked in again at the same camera.
    pub check_in_repeat: Duration,
}

/// Sends a courier on its way; dropping the sender ends its event, and so does the loss of the generation of the
/// events actor that sent it.
pub(super) fn dispatch(tools: CourierTools, camera: Arc<Camera>, generation: u64) -> mpsc::Sender<Change> {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    let on_the_way = OnTheWay::new(&tools.running);
    let generations = tools.generation.subscribe();
    let arbiter = tools.arbiter.clone();
    let sent = arbiter.spawn(async move {
        let _on_the_way = on_the_way;
        let (verdict, snapshot) = (Verdict::default(), None);
        Courier { tools, camera, receiver, generation, generations, verdict, snapshot }.run().await;
    });
    if !sent {
        error!("the node goes down: an event is not recorded");
    }
    sender
}

struct OnTheWay(Arc<AtomicUsize>);

impl OnTheWay {
    fn new(running: &Arc<AtomicUsize>) -> Self {
        running.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(running))
    }
}

impl Drop for OnTheWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

struct Courier {
    tools: CourierTools,
    camera: Arc<Camera>,
    receiver: mpsc::Receiver<Change>,
    generation: u64,
    generations: watch::Receiver<u64>,
    verdict: Verdict,
    snapshot: Option<String>,
}

impl Courier {
    async fn run(mut self) {
        let mut last: Option<Change> = None;
        while let Some(change) = self.next().await {
            match change.event.phase {
                EventPhase::Started => self.started(&change).await,
                EventPhase::Updated => self.updated(&change.event).await,
                EventPhase::Ended => {
                    self.ended(&change.event, change.at).await;
                    return;
                }
            }
            last = Some(change);
        }
        // The events actor is gone and with it what it knew: the event ends with its last sighting.
        if let Some(Change { mut event, at }) = last {
            event.ended = Some(event.sightings.last().map_or(event.started, |s| s.wall));
            event.phase = EventPhase::Ended;
            event.sightings.clear();
            self.ended(&event, at).await;
        }
    }

    /// The next change; none when the events actor is lost, also when its thread still hangs with the sender.
    async fn next(&mut self) -> Option<Change> {
        let own = self.generation;
        tokio::select! {
            biased;
            change = self.receiver.recv() => return change,
            _ = self.generations.wait_for(|&number| number != own) => {}
        }
        self.receiver.close();
        self.receiver.recv().await
    }

    fn rules(&self) -> CourierRules {
        self.tools.rules.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn started(&mut self, change: &Change) {
        let event = &change.event;
        let rules = self.rules();
        // First the pre-roll, then the row: what the row promises is on disk by then.
        let (mut snapshot, mut late, mut refused) = (None, false, false);
        if rules.recorded.contains(&event.kind) {
            match self.camera.recorder.begin_clip(event, RECORDER_LIMIT).await {
                Ok(file) => snapshot = file,
                Err(reason) => {
                    warn!(camera = %event.camera, event = %event.id, %reason, "not recorded");
                    late = reason == NotBegun::Late;
                    refused = !late;
                }
            }
        }
        self.snapshot = snapshot.as_ref().map(|file| file.path.clone());
        self.verdict = self.tools.alerts.judge(event, "", &BTreeSet::new());
        let mut report = self.report(event, &self.verdict.tellings);
        report.promises = Promise::kept(&self.verdict.promises);
        let told = !report.alerts.is_empty();
        let picture = snapshot.map(|file| snapshot_row(event, file));
        let (id, clock) = (event.id, self.tools.alerts.clone());
        let start = move |store: &mut Store| {
            store.report(&[report], clock.wall())?;
            if refused {
                store.note_recording_refused(id)?;
            }
            picture.as_ref().map_or(Ok(()), |picture| store.add_snapshot(picture))
        };
        let written = self.write(event, start).await;
        if !written {
            return;
        }
        counter!(metric::EVENTS, "camera" => self.camera.counters.label().to_owned(), "kind" => event.kind.as_str())
            .increment(1);
        info!(camera = %event.camera, kind = %event.kind, event = %event.id, "event started");
        if told {
            self.tools.notifier.kick();
        }
        self.check_in(event, &rules).await;
        if late {
            self.begin_late(event).await;
        }
    }

    /// The row and the alert did not wait for the recorder; the recording is made up for as far as the ring reaches.
    async fn begin_late(&self, event: &Event) {
        match self.camera.recorder.begin_clip(event, LATE_RECORDER_LIMIT).await {
            Ok(None) => {}
            Ok(Some(file)) => {
                let picture = snapshot_row(event, file);
                self.write(event, move |store| store.add_snapshot(&picture)).await;
            }
            Err(reason) => error!(camera = %event.camera, event = %event.id, %reason, "not recorded"),
        }
    }

    async fn updated(&mut self, event: &Event) {
        let (mut tellings, mut promises) = (Vec::new(), None);
        if self.verdict.may_rise {
            let risen = self.tools.alerts.judge(event, "", &self.verdict.settled);
            tellings = risen.tellings;
            if !risen.promises.is_empty() {
                self.verdict.promises.extend(risen.promises);
                promises = Promise::kept(&self.verdict.promises);
            }
            (self.verdict.settled, self.verdict.may_rise) = (risen.settled, risen.may_rise);
            self.verdict.snoozed |= risen.snoozed;
        }
        let report = Report { promises, ..self.report(event, &tellings) };
        let (told, clock) = (!report.alerts.is_empty(), self.tools.alerts.clone());
        let written = self.write(event, move |store| store.report(&[report], clock.wall()));
        if written.await && told {
            self.tools.notifier.kick();
        }
    }

    async fn ended(&self, event: &Event, at: MonoTime) {
        let report = self.report(event, &self.tools.alerts.end(&self.verdict.promises));
        let (told, clock) = (!report.alerts.is_empty(), self.tools.alerts.clone());
        let (heard, written) = tokio::join!(
            self.camera.recorder.end_clip(event.id, at, END_LIMIT),
            self.write(event, move |store| store.report(&[report], clock.wall())),
        );
        if !heard {
            error!(camera = %event.camera, event = %event.id, "the recorder does not hear that an event is over");
        }
        if written && told {
            self.tools.notifier.kick();
        }
        if self.camera.recorder.missed(event.id) {
            let id = event.id;
            self.write(event, move |store| store.note_recording_refused(id)).await;
        }
        info!(camera = %event.camera, kind = %event.kind, event = %event.id, "event ended");
        self.check_out(event).await;
    }

    /// What is written about the event as it is now.
    fn report(&self, event: &Event, tellings: &[Telling]) -> Report {
        let settings = self.camera.settings();
        let said =
            Said { camera_name: settings.name.as_deref(), snapshot: self.snapshot.as_deref(), detail: "" };
        Report {
            event: event.clone(),
            detail: None,
            snoozed: self.verdict.snoozed,
            subject: None,
            promises: None,
            alerts: self.tools.alerts.alerts(event, tellings, said),
        }
    }

    /// A check-in counts only at a camera that is meant for it and that proved itself.
    async fn check_in(&self, event: &Event, rules: &CourierRules) {
        if event.kind != EventKind::Face || !self.camera.settings().attendance || !self.camera.is_proven() {
            return;
        }
        for name in event.identities.iter().filter(|name| *name != UNKNOWN) {
            let name = name.clone();
            let (camera, at, id, repeat) =
                (event.camera.clone(), event.started, event.id, rules.check_in_repeat);
            self.write(event, move |store| {
                let outcome = store.check_in(&name, &camera, at, id, repeat)?;
                info!(camera = %camera, ?outcome, "check-in");
                Ok(())
            })
            .await;
        }
    }

    /// How long a visit lasted is known when its event is over.
    async fn check_out(&self, event: &Event) {
        if event.kind != EventKind::Face || !self.camera.settings().attendance {
            return;
        }
        let Some(until) = event.ended else { return };
        let repeat = self.rules().check_in_repeat;
        for name in event.identities.iter().filter(|name| *name != UNKNOWN) {
            let (name, camera, since) = (name.clone(), event.camera.clone(), event.started);
            self.write(event, move |store| {
                store.check_out(&name, &camera, (since, until), repeat).map(|_| ())
            })
            .await;
        }
    }

    /// Has a row written, again while the archivist is being restarted or the database is busy.
    async fn write(
        &self,
        event: &Event,
        work: impl FnOnce(&mut Store) -> Result<(), StoreError> + Clone + Send + 'static,
    ) -> bool {
        let give_up = Instant::now() + ARCHIVE_LIMIT;
        loop {
            let problem = match self.tools.archivist.ask(work.clone()).await {
                Ok(()) => return true,
                Err(ArchiveError::Store(error @ StoreError::Refused(_))) => {
                    error!(event = %event.id, %error, "an event was refused");
                    return false;
                }
                Err(problem) => problem,
            };
            if Instant::now() >= give_up {
                error!(event = %event.id, %problem, "an event could not be written");
                return false;
            }
            sleep(ARCHIVE_RETRY).await;
        }
    }
}

fn snapshot_row(event: &Event, file: SnapshotFile) -> SnapshotRow {
    SnapshotRow { event: event.id, path: file.path, taken: file.taken, bytes: file.bytes }
}
