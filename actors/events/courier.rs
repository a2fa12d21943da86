//! Carries one event through its life, in order: recording begun, row, check-in and alerts committed in one step, people
//! told, and at the end the recording ended and the row closed. One courier per event, so that a slow disk holds up
//! nobody else.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use actix::ArbiterHandle;
use meerkat_base::{Event, EventKind, EventPhase, MonoTime, WallTime, metric};
use meerkat_store::{ClipWish, Report, SnapshotRow, Store, StoreError};
use metrics::counter;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use super::losses::{Lost, Reason, lose};
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
/// Wait between two tries to write a row while the archivist is being restarted; it doubles.
const ARCHIVE_RETRY: Duration = Duration::from_millis(100);
/// The longest such wait, so that rows are written soon after a disk is back.
const ARCHIVE_RETRY_MOST: Duration = Duration::from_millis(800);
/// After this long an event goes on without the row that cannot be written. Its start is owed, and goes with what is
/// written next; boxes of that time are lost.
const ARCHIVE_LIMIT: Duration = Duration::from_secs(60);
/// An event that is over waits so long for a database that can be written: nothing comes after it that could bring what
/// it owes.
const LAST_LIMIT: Duration = Duration::from_secs(3_600);
/// With more events than this on their way none waits for longer than [`ARCHIVE_LIMIT`]: they are in memory.
const MOST_WAITING: usize = 512;
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
    /// The channels that want clips; may change while the node runs.
    pub clip_wishes: Arc<RwLock<Vec<ClipWish>>>,
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
        let courier = Courier {
            tools,
            camera,
            receiver,
            generation,
            generations,
            proven: false,
            verdict: Verdict::default(),
            snapshot: None,
            owed: None,
        };
        courier.run().await;
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
    /// Whether the event was seen in pictures of a proven camera only; asked of the pictures, as the camera may have left.
    proven: bool,
    verdict: Verdict,
    snapshot: Option<String>,
    /// The start of the event, as long as it is not written.
    owed: Option<Start>,
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Yes,
    /// It breaks a rule, and always will.
    Refused,
    /// Not within the limit.
    NotYet,
}

impl Written {
    /// Why it is lost, if it is given up now.
    fn loss(self) -> Option<Reason> {
        match self {
            Self::Yes => None,
            Self::Refused => Some(Reason::Refused),
            Self::NotYet => Some(Reason::Unwritten),
        }
    }
}

/// What is written of an event's start: the row with its alerts, and what else is known of it by then.
#[derive(Clone)]
struct Start {
    report: Report,
    picture: Option<SnapshotRow>,
    /// The disk took no recording.
    refused: bool,
}

impl Start {
    fn write(&self, store: &mut Store, now: WallTime) -> Result<(), StoreError> {
        store.report(std::slice::from_ref(&self.report), now)?;
        if self.refused {
            store.note_recording_refused(self.report.event.id)?;
        }
        self.picture.as_ref().map_or(Ok(()), |picture| store.add_snapshot(picture))
    }
}

impl Courier {
    async fn run(mut self) {
        let mut last: Option<Change> = None;
        while let Some(change) = self.next().await {
            self.proven = change.proven;
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
        if let Some(Change { mut event, at, .. }) = last {
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
            if !late {
                count_snapshot(snapshot.as_ref());
            }
        }
        self.snapshot = snapshot.as_ref().map(|file| file.path.clone());
        self.verdict = self.tools.alerts.judge(event, "", &BTreeSet::new());
        let mut report = self.report(event, &self.verdict.tellings);
        report.promises = Promise::kept(&self.verdict.promises);
        let picture = snapshot.map(|file| snapshot_row(event, file));
        self.owed = Some(Start { report, picture, refused });
        self.pay(ARCHIVE_LIMIT).await;
        if late {
            self.begin_late(event).await;
        }
    }

    /// Has the start of the event written, if it is not yet; whether it is.
    async fn pay(&mut self, limit: Duration) -> bool {
        let Some(start) = self.owed.clone() else { return true };
        let (event, told) = (start.report.event.clone(), !start.report.alerts.is_empty());
        let clock = self.tools.alerts.clone();
        match self.write(&event, limit, move |store| start.write(store, clock.wall())).await {
            Written::Yes => {
                self.owed = None;
                self.began(&event, told);
                true
            }
            Written::Refused => {
                // It would be the next time, too: the event goes on without what its start had to say.
                self.owed = None;
                lose(Lost::Part, Reason::Refused);
                true
            }
            Written::NotYet => false,
        }
    }

    /// The start of the event is written.
    fn began(&self, event: &Event, told: bool) {
        counter!(metric::EVENTS, "camera" => self.camera.counters.label().to_owned(), "kind" => event.kind.as_str())
            .increment(1);
        info!(camera = %event.camera, kind = %event.kind, event = %event.id, "event started");
        if told {
            self.tools.notifier.kick();
        }
    }

    /// The row and the alert did not wait for the recorder; the recording is made up for as far as the ring reaches.
    async fn begin_late(&self, event: &Event) {
        let begun = self.camera.recorder.begin_clip(event, LATE_RECORDER_LIMIT).await;
        count_snapshot(begun.as_ref().ok().and_then(Option::as_ref));
        match begun {
            Ok(None) => {}
            Ok(Some(file)) => {
                let picture = snapshot_row(event, file);
                self.write_part(event, move |store| store.add_snapshot(&picture)).await;
            }
            Err(reason) => error!(camera = %event.camera, event = %event.id, %reason, "not recorded"),
        }
    }

    async fn updated(&mut self, event: &Event) {
        // Never before its start: that comes with the alerts.
        if !self.pay(ARCHIVE_LIMIT).await {
            lose(Lost::Part, Reason::Unwritten);
            return;
        }
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
        let written = self.write_part(event, move |store| store.report(&[report], clock.wall()));
        if written.await && told {
            self.tools.notifier.kick();
        }
    }

    async fn ended(&mut self, event: &Event, at: MonoTime) {
        let report = self.report(event, &self.tools.alerts.end(&self.verdict.promises));
        let (told, clock) = (!report.alerts.is_empty(), self.tools.alerts.clone());
        let wishes = self.tools.clip_wishes.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (id, owed) = (event.id, self.owed.clone());
        let began = owed.as_ref().map(|start| (start.report.event.clone(), !start.report.alerts.is_empty()));
        let many = self.tools.running.load(Ordering::Acquire) > MOST_WAITING;
        let limit = if many { ARCHIVE_LIMIT } else { LAST_LIMIT };
        let (heard, written) = tokio::join!(
            self.camera.recorder.end_clip(event.id, at, END_LIMIT),
            self.write(event, limit, move |store| {
                let now = clock.wall();
                if let Some(start) = &owed {
                    start.write(store, now)?;
                }
                store.report(&[report], now)?;
                // The clips before it had no message yet that they could follow. The end itself is written.
                if let Err(problem) = store.follow_ends(&[id], &wishes, now) {
                    warn!(event = %id, %problem, "the clips of an event do not follow its end");
                }
                Ok(())
            }),
        );
        if !heard {
            error!(camera = %event.camera, event = %event.id, "the recorder does not hear that an event is over");
        }
        if let Some(reason) = written.loss() {
            // Of one whose start is there the next start of the node writes the end, with its alerts.
            let what = if began.is_some() { Lost::Event } else { Lost::End };
            lose(what, reason);
            error!(camera = %event.camera, kind = %event.kind, event = %event.id, ?what, "the database did not take it");
            return;
        }
        self.owed = None;
        if let Some((start, told)) = began {
            self.began(&start, told);
        }
        if told {
            self.tools.notifier.kick();
        }
        if self.camera.recorder.missed(event.id) {
            let id = event.id;
            self.write_part(event, move |store| store.note_recording_refused(id)).await;
        }
        info!(camera = %event.camera, kind = %event.kind, event = %event.id, "event ended");
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
            attendance: self.counts(event).then(|| self.rules().check_in_repeat),
            alerts: self.tools.alerts.alerts(event, tellings, said),
        }
    }

    /// A check-in counts only at a camera that is meant for it, and of pictures for which it had proved itself.
    fn counts(&self, event: &Event) -> bool {
        event.kind == EventKind::Face
            && self.proven
            && self.camera.settings().attendance
            && event.identities.iter().any(|name| name != UNKNOWN)
    }

    /// As [`Courier::write`], for what belongs to an event that is written: counted when it is given up.
    async fn write_part(
        &self,
        event: &Event,
        work: impl FnOnce(&mut Store) -> Result<(), StoreError> + Clone + Send + 'static,
    ) -> bool {
        let loss = self.write(event, ARCHIVE_LIMIT, work).await.loss();
        if let Some(reason) = loss {
            lose(Lost::Part, reason);
        }
        loss.is_none()
    }

    /// Has a row written, again while the archivist is being restarted, the database is busy or its disk does not
    /// answer.
    async fn write(
        &self,
        event: &Event,
        limit: Duration,
        work: impl FnOnce(&mut Store) -> Result<(), StoreError> + Clone + Send + 'static,
    ) -> Written {
        let give_up = Instant::now() + limit;
        let mut wait = ARCHIVE_RETRY;
        loop {
            let problem = match self.tools.archivist.ask(work.clone()).await {
                Ok(()) => return Written::Yes,
                Err(ArchiveError::Store(error @ StoreError::Refused(_))) => {
                    error!(event = %event.id, %error, "an event was refused");
                    return Written::Refused;
                }
                Err(problem) => problem,
            };
            if Instant::now() >= give_up {
                error!(event = %event.id, %problem, "an event could not be written");
                return Written::NotYet;
            }
            sleep(wait).await;
            wait = wait.saturating_mul(2).min(ARCHIVE_RETRY_MOST);
        }
    }
}

/// Counts whether an event that is recorded got its snapshot when it began. What the recording makes up for later is
/// counted there.
fn count_snapshot(file: Option<&SnapshotFile>) {
    let result = if file.is_some() { "ok" } else { "missed" };
    counter!(metric::SNAPSHOTS, "result" => result).increment(1);
}

fn snapshot_row(event: &Event, file: SnapshotFile) -> SnapshotRow {
    SnapshotRow { event: event.id, path: file.path, taken: file.taken, bytes: file.bytes }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as threads;

    use meerkat_base::{Clock, ImageFormat, ManualClock};
    use meerkat_store::{ClipRow, ClipState, Consent, DataLock, StoreOptions, StoreReader};
    use tempfile::TempDir;

    use super::*;
    use crate::supervision::{BackoffSettings, Board, Crew, CrewSettings};
    use crate::testing::{Counters, NOON, camera, cameras, event, frame, room, settings};

    struct Rig {
        folder: TempDir,
        archivist: Archivist,
        courier: Courier,
        event: Event,
        at: MonoTime,
        _system: actix::SystemRunner,
    }

    fn rig() -> Rig {
        rig_with(&[])
    }

    fn rig_with(keys: &[(&str, &str)]) -> Rig {
        let system = actix::System::new();
        let (folder, clock) = (tempfile::tempdir().unwrap(), ManualClock::new(NOON));
        let board = Board::new(Arc::new(clock.clone()));
        let crew_settings =
            CrewSettings { name: "archive", threads: 1, niceness: 0, backoff: BackoffSettings::default() };
        let crew = Crew::start(crew_settings, board);
        let data = DataLock::take(folder.path()).unwrap();
        let mut first = Store::open_under(&data, StoreOptions::default()).unwrap();
        let consent = Consent { by: "Ada".to_owned(), at: NOON };
        first.enrol("Ada", &[(b"jpeg", ImageFormat::Jpeg)], &consent, NOON).unwrap();
        let archivist =
            Archivist::start(&crew, Duration::from_secs(3_600), first, room(folder.path()), move || {
                Store::open_under(&data, StoreOptions::default())
            });
        let hook = [
            ("notify.channels.hook.type", "webhook"),
            ("notify.channels.hook.url", "http://127.0.0.1:1/"),
            ("notify.channels.hook.secret", "a-secret-of-the-tests"),
            ("notify.channels.hook.kinds", "person"),
        ];
        let told = settings(&[&hook[..], keys].concat());
        let all: Arc<dyn Clock> = Arc::new(clock.clone());
        let tools = CourierTools {
            archivist: archivist.clone(),
            notifier: NotifierLink::default(),
            running: Arc::default(),
            rules: Arc::new(RwLock::new(CourierRules {
                recorded: Vec::new(),
                check_in_repeat: Duration::ZERO,
            })),
            alerts: Rules::new(&told, all),
            clip_wishes: Arc::default(),
            arbiter: actix::System::current().arbiter().clone(),
            generation: Arc::new(watch::Sender::new(1)),
        };
        // Meant for check-ins, and nobody is connected.
        let counts = [("cameras.door.token", "open-sesame"), ("cameras.door.attendance", "true")];
        let camera = camera(&cameras(&clock, &counts), "door");
        let (frame, _) = frame(&camera, &clock);
        let (_, receiver) = mpsc::channel(CAPACITY);
        let generations = tools.generation.subscribe();
        let courier = Courier {
            tools,
            camera,
            receiver,
            generation: 1,
            generations,
            proven: false,
            verdict: Verdict::default(),
            snapshot: None,
            owed: None,
        };
        Rig { folder, archivist, courier, event: event(&frame, 1), at: frame.mono, _system: system }
    }

    impl Rig {
        /// The archivist takes no more work, until the result is dropped.
        fn stop_archivist(&self) -> threads::Sender<()> {
            let (release, held) = threads::channel::<()>();
            let (begins, begun) = threads::channel();
            let busy = move |_: &mut Store| {
                let _ = begins.send(());
                let _ = held.recv();
            };
            assert!(self.archivist.offer(busy));
            begun.recv().unwrap();
            while self.archivist.offer(|_| {}) {}
            release
        }

        /// Carries an event of Ada's face, five seconds long, of a camera that had proved itself or not and has left since.
        /// Returns what the ledger holds then, as moments of the first and the last sight.
        fn carry_ada(mut self, proven: bool) -> Vec<(WallTime, WallTime)> {
            let (sender, receiver) = mpsc::channel(CAPACITY);
            self.courier.receiver = receiver;
            let (kind, identities) = (EventKind::Face, vec!["Ada".to_owned()]);
            let face = Event { kind, identities, ..self.event.clone() };
            let ended = Some(face.started.offset_micros(5_000_000));
            let over = Event { phase: EventPhase::Ended, ended, ..face.clone() };
            for event in [face, over] {
                sender.try_send(Change { event, at: self.at, proven }).unwrap();
            }
            runtime().block_on(self.courier.run());
            let reader = StoreReader::open(self.folder.path()).unwrap();
            assert!(
                reader.event(self.event.id).unwrap().unwrap().ended.is_some(),
                "the event itself is there"
            );
            reader.check_ins(None, 9).unwrap().into_iter().map(|line| (line.at, line.last)).collect()
        }

        /// The event's end, and how many alerts there are about it; nothing when it is not there.
        fn written(&self) -> Option<(Option<meerkat_base::WallTime>, usize)> {
            let reader = StoreReader::open(self.folder.path()).unwrap();
            let row = reader.event(self.event.id).unwrap()?;
            Some((row.ended, reader.alerts_of(row.id).unwrap().len()))
        }

        fn change(&self, phase: EventPhase) -> Event {
            let ended = (phase == EventPhase::Ended).then_some(self.event.started);
            Event { phase, ended, ..self.event.clone() }
        }
    }

    fn start_again(archivist: &Archivist, release: threads::Sender<()>) {
        drop(release);
        while archivist.waiting() > 0 {
            std::thread::yield_now();
        }
    }

    /// A runtime whose time goes on by itself while nothing else does.
    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
    }

    #[test]
    fn an_event_whose_start_could_not_be_written_is_written_later_with_its_alerts() {
        let mut rig = rig();
        let release = rig.stop_archivist();
        let started = Change { event: rig.event.clone(), at: rig.at, proven: false };
        runtime().block_on(rig.courier.started(&started));
        assert_eq!(rig.written(), None);
        start_again(&rig.archivist, release);
        let update = rig.change(EventPhase::Updated);
        runtime().block_on(rig.courier.updated(&update));
        assert_eq!(rig.written(), Some((None, 1)), "never a row without what people are to be told");
        runtime().block_on(rig.courier.updated(&update));
        assert_eq!(rig.written(), Some((None, 1)), "and only once");
    }

    #[test]
    fn an_event_that_is_over_waits_long_for_a_database_that_takes_it() {
        let mut rig = rig();
        let release = rig.stop_archivist();
        let started = Change { event: rig.event.clone(), at: rig.at, proven: false };
        let (end, at, archivist) = (rig.change(EventPhase::Ended), rig.at, rig.archivist.clone());
        runtime().block_on(async {
            rig.courier.started(&started).await;
            let later = async {
                sleep(Duration::from_secs(1_800)).await;
                start_again(&archivist, release);
            };
            tokio::join!(rig.courier.ended(&end, at), later);
        });
        assert_eq!(rig.written(), Some((Some(rig.event.started), 1)));
    }

    #[test]
    fn who_hears_of_the_end_only_gets_the_clips_that_were_ready_before_it() {
        let mut rig = rig_with(&[("notify.channels.hook.phases", "ended")]);
        let kinds = vec![rig.event.kind];
        *rig.courier.tools.clip_wishes.write().unwrap() =
            vec![ClipWish { channel: "hook".to_owned(), kinds }];
        let clip = ClipRow {
            event: Some(rig.event.id),
            camera: rig.event.camera.clone(),
            path: "capture/clip/door/a.mp4".to_owned(),
            started: rig.event.started,
            duration: Duration::from_secs(5),
            frames: 50,
            bytes: 4,
            sha256: None,
            state: ClipState::Ok,
            skipped: 0,
            missing: None,
        };
        let started = Change { event: rig.event.clone(), at: rig.at, proven: false };
        let (end, at) = (rig.change(EventPhase::Ended), rig.at);
        runtime().block_on(async {
            rig.courier.started(&started).await;
            rig.archivist.ask(move |store| store.book_clip(&[clip], &[], NOON)).await.unwrap();
            rig.courier.ended(&end, at).await;
        });
        let reader = StoreReader::open(rig.folder.path()).unwrap();
        let rows = reader.alerts_of(rig.event.id).unwrap();
        let clips: Vec<_> = rows.iter().map(|row| (row.phase, row.clip.as_deref())).collect();
        let ended = EventPhase::Ended;
        assert_eq!(clips, [(ended, None), (ended, Some("capture/clip/door/a.mp4"))]);
    }

    #[test]
    fn a_check_in_counts_by_the_pictures_also_when_the_camera_has_left_meanwhile() {
        assert_eq!(rig().carry_ada(true), [(NOON, NOON.offset_micros(5_000_000))]);
    }

    #[test]
    fn an_event_of_a_camera_that_did_not_prove_itself_makes_no_check_in() {
        assert_eq!(rig().carry_ada(false), []);
    }

    #[test]
    fn with_many_events_on_their_way_none_waits_for_long() {
        let mut rig = rig();
        let _release = rig.stop_archivist();
        rig.courier.tools.running.store(MOST_WAITING + 1, Ordering::Release);
        let (end, at) = (rig.change(EventPhase::Ended), rig.at);
        runtime().block_on(async {
            let began = Instant::now();
            rig.courier.ended(&end, at).await;
            assert!(began.elapsed() < ARCHIVE_LIMIT * 3, "{:?}", began.elapsed());
        });
        assert_eq!(rig.written(), None);
    }

    #[test]
    fn a_snapshot_that_nobody_stores_is_counted_once() {
        let (mut rig, counters) = (rig(), Counters::default());
        rig.courier.tools.rules.write().unwrap().recorded = vec![rig.event.kind];
        let started = Change { event: rig.event.clone(), at: rig.at, proven: false };
        // Nobody takes the recorder's orders: it is late, and then it is given up.
        counters.during(|| runtime().block_on(rig.courier.started(&started)));
        let snapshots = |result| counters.get(metric::SNAPSHOTS, &[result]);
        assert_eq!((snapshots("ok"), snapshots("missed")), (0, 1));
    }

    #[test]
    fn what_is_given_up_is_counted_by_what_it_was() {
        let (mut rig, counters) = (rig(), Counters::default());
        let _release = rig.stop_archivist();
        rig.courier.tools.running.store(MOST_WAITING + 1, Ordering::Release);
        let started = Change { event: rig.event.clone(), at: rig.at, proven: false };
        let (update, end, at) = (rig.change(EventPhase::Updated), rig.change(EventPhase::Ended), rig.at);
        counters.during(|| {
            runtime().block_on(async {
                rig.courier.started(&started).await;
                rig.courier.updated(&update).await;
                rig.courier.ended(&end, at).await;
                rig.courier.owed = None;
                rig.courier.ended(&end, at).await;
            });
        });
        let lost = |what| counters.get(metric::EVENTS_LOST, &[what, "unwritten"]);
        assert_eq!((lost("event"), lost("end"), lost("part")), (1, 1, 1));
    }
}
