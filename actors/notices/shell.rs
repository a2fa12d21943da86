//! The crier: the actor that takes notices out of the queue, and writes the events and alerts that become of them. While
//! nothing can be written they stay with it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use meerkat_base::{CameraId, Clock, EventPhase, metric};
use meerkat_settings::Settings;
use meerkat_store::{Report, Store, StoreError, ToldAlert};
use metrics::counter;
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::book::{Carried, NoticeBook, Turn};
use super::queue::Notices;
use crate::archivist::{ArchiveError, Archivist};
use crate::camera::Cameras;
use crate::events::losses::{Lost, Reason, lose};
use crate::notifier::NotifierLink;
use crate::rules::{Now, Promise, Rules, Said, merge_into};
use crate::supervision::{ActorKind, Failure, Sentinel, fault};

/// How often the queue is looked at, and how often what could not be written is tried again.
const INTERVAL: Duration = Duration::from_millis(100);

/// What every generation of the crier is built from. Clones share what is known.
#[derive(Clone)]
pub struct CrierTools {
    notices: Notices,
    archivist: Archivist,
    rules: Rules,
    notifier: NotifierLink,
    cameras: Cameras,
    clock: Arc<dyn Clock>,
    known: Arc<Mutex<Known>>,
}

/// What is known; it outlives a generation.
struct Known {
    book: NoticeBook,
    /// What has become of facts and is not written yet. No more is taken out of the book meanwhile, so there is never
    /// more than one look at the book brings.
    unwritten: VecDeque<Telling>,
    /// Nothing could be written; that was said.
    stuck: bool,
}

/// What is written and told at once.
#[derive(Clone)]
struct Telling {
    turns: Vec<Turn>,
    reports: Vec<Report>,
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
        let known = Known { book, unwritten: VecDeque::new(), stuck: false };
        Self { notices, archivist, rules, notifier, cameras, clock, known: Arc::new(Mutex::new(known)) }
    }

    /// Goes on with what held when the run before this one ended. To be called once, before the crier is started.
    pub(crate) fn carry(&self, carried: Vec<Carried>) {
        let (now, settings) = (self.now(), self.cameras.settings());
        let mut known = self.known();
        known.book.carry(carried, now);
        known.book.forget_channels(|name| settings.notify.channels.contains_key(name), now);
    }

    /// Puts new settings in force.
    pub fn reload(&self, settings: &Settings) {
        let now = self.now();
        let mut known = self.known();
        known.book.reload(settings.notify.notices.clone());
        known.book.forget_channels(|name| settings.notify.channels.contains_key(name), now);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Now {
        Now { wall: self.clock.wall(), mono: self.clock.mono() }
    }

    async fn run(self) -> Failure {
        loop {
            if let Err(failure) = fault::point(ActorKind::Crier, None) {
                return failure;
            }
            self.listen();
            self.look();
            while let Some(telling) = self.next() {
                if !self.listening(self.tell(telling)).await {
                    break;
                }
            }
            sleep(INTERVAL).await;
        }
    }

    /// Waits for something, and takes what is noticed meanwhile: the archivist may be away for long, and the queue is
    /// short.
    async fn listening<R>(&self, what: impl Future<Output = R>) -> R {
        tokio::pin!(what);
        loop {
            tokio::select! {
                biased;
                done = &mut what => return done,
                () = sleep(INTERVAL) => self.listen(),
            }
        }
    }

    /// Takes what was noticed.
    fn listen(&self) {
        let now = self.now();
        let mut known = self.known();
        for notice in self.notices.take() {
            // Who begins says also of what does not hold that it does not.
            if notice.holds || known.book.knows(&notice) {
                info!(
                    kind = %notice.kind, camera = notice.camera.as_ref().map(CameraId::as_str), notice.subject,
                    notice.holds, notice.detail, "noticed"
                );
            }
            known.book.take(notice, now);
        }
    }

    /// Looks at what has become of it, unless something is to be written still: what begins and ends meanwhile stays in
    /// the book, which is bounded and forgets nothing that people should hear of.
    fn look(&self) {
        let now = self.now();
        let mut known = self.known();
        if known.unwritten.is_empty() {
            for turns in known.book.due(now) {
                let telling = self.telling(&mut known.book, turns);
                known.unwritten.push_back(telling);
            }
        }
    }

    fn next(&self) -> Option<Telling> {
        self.known().unwritten.front().cloned()
    }

    /// What is written of several facts, with one message per channel.
    fn telling(&self, book: &mut NoticeBook, turns: Vec<Turn>) -> Telling {
        let mut reports: Vec<Report> = Vec::new();
        for turn in &turns {
            let (tellings, snoozed, promises) = if turn.event.phase == EventPhase::Ended {
                (self.rules.end(&turn.promises), false, None)
            } else {
                let verdict = self.rules.judge(&turn.event, &turn.fact.subject, &Default::default());
                let kept = Promise::kept(&verdict.promises);
                book.promise(&turn.fact, verdict.promises);
                (verdict.tellings, verdict.snoozed, kept)
            };
            let name = self.name(&turn.event.camera);
            let said = Said { camera_name: name.as_deref(), detail: &turn.detail, snapshot: None };
            let alerts = self.rules.alerts(&turn.event, &tellings, said);
            let detail = Some(turn.detail.clone()).filter(|detail| !detail.is_empty());
            let subject = Some(turn.fact.subject.clone());
            reports.push(Report {
                event: turn.event.clone(),
                detail,
                snoozed,
                subject,
                promises,
                attendance: None,
                alerts,
            });
        }
        gather(&mut reports);
        Telling { turns, reports }
    }

    /// Writes the oldest that is not written yet. Says whether the next one may be tried.
    async fn tell(&self, Telling { turns, reports }: Telling) -> bool {
        let told = reports.iter().any(|report| !report.alerts.is_empty());
        let rules = self.rules.clone();
        let written = self.archivist.ask(move |store: &mut Store| store.report(&reports, rules.wall())).await;
        let mut known = self.known();
        match written {
            Ok(()) => {}
            Err(ArchiveError::Store(error @ StoreError::Refused(_))) => {
                error!(%error, "a notice was refused");
                lose(Lost::Notice, Reason::Refused);
                known.unwritten.pop_front();
                // Who did not hear of it does not hear of its end.
                for turn in &turns {
                    known.book.promise(&turn.fact, Vec::new());
                }
                return true;
            }
            Err(problem) => {
                if !std::mem::replace(&mut known.stuck, true) {
                    error!(%problem, "what was noticed cannot be written; it waits");
                }
                return false;
            }
        }
        if std::mem::take(&mut known.stuck) {
            warn!("what was noticed can be written again");
        }
        known.unwritten.pop_front();
        drop(known);
        for turn in turns.iter().filter(|turn| turn.event.phase == EventPhase::Started) {
            let label = self.label(&turn.event.camera);
            counter!(metric::EVENTS, "camera" => label, "kind" => turn.event.kind.as_str()).increment(1);
        }
        if told {
            self.notifier.kick();
        }
        true
    }

    fn name(&self, camera: &CameraId) -> Option<String> {
        self.cameras.settings().camera(camera).name.clone()
    }

    /// The label of the metrics: a configured camera or the word for all others.
    fn label(&self, camera: &CameraId) -> String {
        let configured = self.cameras.settings().cameras.contains_key(camera);
        if configured { camera.to_string() } else { meerkat_base::ids::UNCONFIGURED.to_owned() }
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use meerkat_base::{EventKind, ManualClock, Notice, NoticeSink};
    use meerkat_store::{EventQuery, EventRow, StoreOptions};

    use super::*;
    use crate::supervision::{BackoffSettings, Board, Crew, CrewSettings, Watch};
    use crate::testing::{NOON, cameras, room};

    const HOOK: [(&str, &str); 3] = [
        ("notify.channels.a.type", "webhook"),
        ("notify.channels.a.url", "https://example.org/a"),
        ("notify.channels.a.secret", "0123456789abcdef"),
    ];

    struct Rig {
        tools: CrierTools,
        notices: Notices,
        clock: ManualClock,
        /// Whether the database can be opened.
        is_there: Arc<AtomicBool>,
        _folder: tempfile::TempDir,
        _watch: Watch,
    }

    impl Rig {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let clock = ManualClock::new(NOON);
            let board = Board::new(Arc::new(clock.clone()));
            let backoff = BackoffSettings { min: Duration::from_millis(20), max: Duration::from_millis(50) };
            let crew = CrewSettings { name: "archive", threads: 1, niceness: 0, backoff };
            let crew = Crew::start(crew, board.clone());
            let watch = Watch::start(board, 64, || {}).unwrap();
            watch.crew(crew.clone());
            let path = folder.path().to_owned();
            let first = Store::open(&path, StoreOptions::default()).unwrap();
            let is_there = Arc::new(AtomicBool::new(true));
            let own = Arc::clone(&is_there);
            let open = move || match own.load(Ordering::SeqCst) {
                true => Store::open(&path, StoreOptions::default()),
                false => Err(StoreError::Refused("not now".to_owned())),
            };
            let room = room(folder.path());
            let archivist = Archivist::start(&crew, Duration::from_secs(10), first, room, open);
            let (notices, cameras) = (Notices::new(), cameras(&clock, &HOOK));
            let rules = Rules::new(&cameras.settings(), Arc::new(clock.clone()));
            let own = Arc::new(clock.clone());
            let tools =
                CrierTools::new(notices.clone(), archivist, rules, NotifierLink::default(), cameras, own);
            Self { tools, notices, clock, is_there, _folder: folder, _watch: watch }
        }

        /// Says something, and waits until it was heard.
        async fn say(&self, kind: EventKind, holds: bool) {
            let detail = format!("{kind} {holds}");
            self.notices.raise(Notice { kind, camera: None, subject: String::new(), holds, detail });
            until(|| self.notices.is_empty()).await;
        }

        async fn rows(&self) -> Vec<EventRow> {
            let query = EventQuery { limit: 99, ..EventQuery::default() };
            self.tools.archivist.ask(move |store| store.recent_events(&query)).await.unwrap()
        }

        /// Phases of which the channel is told.
        async fn told(&self, row: &EventRow) -> Vec<EventPhase> {
            let id = row.id;
            let rows = self.tools.archivist.ask(move |store| store.alerts_of(id)).await.unwrap();
            rows.iter().map(|row| row.phase).collect()
        }
    }

    async fn until(mut is_so: impl FnMut() -> bool) {
        while !is_so() {
            sleep(Duration::from_millis(2)).await;
        }
    }

    #[test]
    fn what_is_noticed_while_nothing_can_be_written_is_told_when_it_can() {
        crate::in_system(async {
            let rig = Rig::new();
            let scene = async {
                rig.is_there.store(false, Ordering::SeqCst);
                let _ = rig.tools.archivist.ask::<()>(|_| panic!("broken on purpose")).await;
                rig.say(EventKind::DiskLow, true).await;
                rig.clock.advance(Duration::from_secs(5));
                until(|| rig.tools.next().is_some()).await;
                // It holds for hours, and that is known: one fact goes on, one is over before it could be told.
                for kind in [EventKind::RecordingRefused, EventKind::ActorFailing] {
                    rig.say(kind, true).await;
                }
                rig.clock.advance(Duration::from_secs(3 * 3_600));
                rig.say(EventKind::RecordingRefused, false).await;
                assert_eq!(rig.tools.known().unwritten.len(), 1, "no more than one look brings");

                rig.is_there.store(true, Ordering::SeqCst);
                until(|| rig.tools.next().is_none()).await;
                while rig.rows().await.len() < 3 {
                    sleep(Duration::from_millis(2)).await;
                }
                rig.clock.advance(Duration::from_secs(60));
                loop {
                    let mut all = Vec::new();
                    for row in rig.rows().await {
                        all.push((row.kind, row.ended.is_some(), rig.told(&row).await.len()));
                    }
                    all.sort();
                    let (on, over) = ((false, 1), (true, 2));
                    let of = |kind, (ended, told)| (kind, ended, told);
                    let mut expected = vec![
                        of(EventKind::DiskLow, on),
                        of(EventKind::RecordingRefused, over),
                        of(EventKind::ActorFailing, on),
                    ];
                    expected.sort();
                    if all == expected {
                        return;
                    }
                    sleep(Duration::from_millis(2)).await;
                }
            };
            tokio::select! {
                failure = rig.tools.clone().run() => panic!("{failure:?}"),
                () = scene => {}
            }
        });
    }
}
