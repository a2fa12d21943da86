//! Puts the actors together, and takes them down in the order of the flow. What they are made with (detectors,
//! channels, gallery) comes from the composition root.

mod handle;
mod parts;
mod stopping;
mod telling;
mod wiring;

use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use meerkat_base::{Budget, Shutdown, metric};
use meerkat_notify::{Channel, RetryPolicy};
use meerkat_settings::{FacesSettings, RetentionSettings, Settings};
use meerkat_store::Durability;
use metrics::gauge;
use tracing::{info, warn};

pub use handle::NodeHandle;
pub use parts::{NodeError, NodeParts, ReopenStore};
use telling::{Wishes, announced, clip_wishes, links};
use wiring::{Wiring, courier_rules, encoder_settings, live};

use crate::archivist::Archivist;
use crate::camera::Cameras;
use crate::detectors::{Known, Place};
use crate::dialects::desk::DeskHouse;
use crate::dialects::{self, DialectTools, Dialects};
use crate::events::{CourierRules, CourierTools, Events, EventsLink, EventsTools};
use crate::faces::{Faces, Strangers};
use crate::gate::Gates;
use crate::notices::{Crier, CrierTools, Failures, Left, Notices, Silence, close_orphans};
use crate::notifier::{ClipTools, Notifier, NotifierLink, NotifierTools, Shrinker};
use crate::people::People;
use crate::recorder::{ClipTelling, EncoderTools, Encoders, Places, RecorderTools};
use crate::rules::Rules;
use crate::session::{Door, IoGroup, LogRation, SessionTools, Sockets};
use crate::storage::{Evictor, EvictorTools, Room, StorageState};
use crate::supervision::{
    ActorKind, BackoffSettings, Board, Component, Crew, CrewSettings, Solo, Station, Watch,
};

/// A message box that is not emptied for this long means a standstill of events or notifier.
const SOLO_DEADLINE: Duration = Duration::from_secs(3);
/// Threads for disks: one may be stuck with a slow write while the other goes on.
const DISK_THREADS: usize = 2;
/// A camera that sends as fast as it is answered sends its next picture within about this time.
const DISK_LINGER: Duration = Duration::from_micros(300);
/// Niceness of what may wait behind the frame path.
const VISION_NICENESS: i32 = 5;
const DETECT_NICENESS: i32 = 10;
const ENCODE_NICENESS: i32 = 19;

/// A running node.
pub struct Node {
    cameras: Cameras,
    gates: Arc<Gates>,
    board: Board,
    in_flight: Budget,
    archivist: Archivist,
    encoders: Encoders,
    events: EventsLink,
    couriers: Arc<AtomicUsize>,
    rules: Arc<RwLock<CourierRules>>,
    alerts: Rules,
    notifier_tools: Arc<Mutex<NotifierTools>>,
    notifier: Solo<Notifier>,
    notices: Notices,
    clip_wishes: Wishes,
    crier: Solo<Crier>,
    crier_tools: CrierTools,
    room: Arc<Room>,
    storage: StorageState,
    retention: Arc<RwLock<RetentionSettings>>,
    unknown_faces: Arc<RwLock<FacesSettings>>,
    events_solo: Solo<Events>,
    io: IoGroup,
    dialects: Dialects,
    crews: Vec<(&'static str, Crew)>,
    detectors: Known,
    addresses: Vec<(SocketAddr, bool)>,
    shutdown: Shutdown,
    _shared_stations: Vec<Station>,
    watch: Watch,
}

impl Node {
    /// Starts every actor and opens the doors. Must run inside an actix `System`.
    pub async fn start(parts: NodeParts) -> Result<Self, NodeError> {
        let NodeParts { settings, clock, shutdown, boot, .. } = &parts;
        let (settings, clock, shutdown) = (Arc::clone(settings), Arc::clone(clock), shutdown.clone());
        // First of all: a port that is taken is the most frequent reason not to start, and nothing runs yet.
        let sockets = Sockets::bind(&settings.frame)?;
        let bound_dialects = dialects::bind(&settings.dialects)?;
        let board = Board::new(Arc::clone(&clock));
        let supervision = settings.supervision.clone();
        let backoff = BackoffSettings { min: supervision.backoff_min, max: supervision.backoff_max };
        let crew = |name, threads, niceness| {
            Crew::start(CrewSettings { name, threads, niceness, backoff }, board.clone())
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let vision = crew("vision", cores, VISION_NICENESS);
        let detect = crew("detect", settings.detectors.threads, DETECT_NICENESS);
        let settings_of = |name, threads| CrewSettings { name, threads, niceness: 0, backoff };
        let linger = if cores > 1 { DISK_LINGER } else { Duration::ZERO };
        let disk = Crew::start_lingering(settings_of("disk", DISK_THREADS), board.clone(), linger);
        let archive = crew("archive", 1, 0);
        let encode = crew("encode", 1, ENCODE_NICENESS);

        let durability = match settings.durability {
            meerkat_settings::Durability::Process => Durability::Process,
            meerkat_settings::Durability::Power => Durability::Power,
        };
        let places = Places { data_dir: settings.data_dir.clone(), boot: boot.clone(), durability };
        let NodeParts {
            store,
            reopen,
            folder,
            suspended,
            person,
            face,
            gallery,
            desk,
            channels,
            notices,
            signing,
            link_key,
            on_lost,
            ..
        } = parts;
        let room = Arc::new(Room::new(Arc::clone(&folder), &settings.storage, notices.sink()));
        // The first look: who asks for the mount before it gets none.
        let _ = room.look();
        let archivist =
            Archivist::start(&archive, supervision.disk_deadline, store, Arc::clone(&room), move || reopen());
        let encoder_tools = EncoderTools {
            places: places.clone(),
            clock: Arc::clone(&clock),
            archivist: archivist.clone(),
            room: Arc::clone(&room),
            signing: signing.clone(),
            notices: notices.sink(),
        };
        let encoders = Encoders::new(encode.clone(), encoder_tools, encoder_settings(&settings)?);
        let link = NotifierLink::default();
        let links = links(&settings.http, &link_key);
        let clip_wishes: Wishes = Arc::new(RwLock::new(clip_wishes(links.as_ref(), &channels)));
        encoders.tell(ClipTelling { wishes: Arc::clone(&clip_wishes), notifier: link.clone() });
        let left = encoders.recover()?;
        if left > 0 {
            info!(spools = left, "finishing what an earlier run left");
        }
        let now = clock.wall();
        let rules = Arc::new(RwLock::new(courier_rules(&settings)));
        let alerts = Rules::new(&settings, Arc::clone(&clock));
        match archivist.ask(move |store| store.snoozes(now)).await {
            Ok(snoozes) => alerts.set_snoozes(snoozes),
            Err(problem) => warn!(%problem, "snoozes cannot be read: people are told of everything"),
        }
        let (own_rules, own_settings) = (alerts.clone(), Arc::clone(&settings));
        let own_wishes = clip_wishes.read().unwrap_or_else(PoisonError::into_inner).clone();
        let orphans = archivist
            .ask(move |store| close_orphans(store, &own_rules, &own_settings, &own_wishes, now))
            .await;
        let left = orphans.unwrap_or_else(|problem| {
            warn!(%problem, "events of an earlier run could not be closed");
            Left::default()
        });
        if left.closed > 0 || !left.carried.is_empty() {
            info!(
                events = left.closed,
                notices = left.carried.len(),
                "closed events of an earlier run; notices go on"
            );
        }
        crate::events::losses::declare();
        let couriers = Arc::new(AtomicUsize::new(0));
        let running = Arc::clone(&couriers);
        let courier = CourierTools {
            running,
            archivist: archivist.clone(),
            notifier: link.clone(),
            rules: Arc::clone(&rules),
            alerts: alerts.clone(),
            clip_wishes: Arc::clone(&clip_wishes),
            arbiter: actix::System::current().arbiter().clone(),
            generation: Arc::new(tokio::sync::watch::Sender::new(0)),
        };
        let events_tools = Arc::new(Mutex::new(settings.events.clone()));
        let (own_settings, own_clock) = (Arc::clone(&events_tools), Arc::clone(&clock));
        let events_solo =
            Solo::start(ActorKind::Events, board.clone(), backoff, SOLO_DEADLINE, move |sentinel| {
                let settings = own_settings.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let tools = EventsTools { settings, clock: Arc::clone(&own_clock), courier: courier.clone() };
                Events::new(&tools, sentinel)
            });
        let events = EventsLink::new(events_solo.mailbox(), events_tools);
        let shrinker =
            Shrinker::new(&settings.data_dir, settings.notify.delivery.shrink_limit, Arc::clone(&clock));
        let notifier_link = link.clone();
        let notifier_tools = Arc::new(Mutex::new(NotifierTools {
            archivist: archivist.clone(),
            channels,
            policy: RetryPolicy { give_up_after: settings.notify.give_up, ..RetryPolicy::default() },
            delivery: settings.notify.delivery.clone(),
            clips: ClipTools::new(shrinker, links, settings.notify.delivery.max_clip_bytes),
            data_dir: settings.data_dir.clone(),
            clock: Arc::clone(&clock),
            link,
            notices: notices.sink(),
        }));
        let own_tools = Arc::clone(&notifier_tools);
        let notifier =
            Solo::start(ActorKind::Notifier, board.clone(), backoff, SOLO_DEADLINE, move |sentinel| {
                Notifier::new(own_tools.lock().unwrap_or_else(PoisonError::into_inner).clone(), sentinel)
            });

        let gates = Arc::new(Gates::new(settings.detectors.clone(), Arc::clone(&clock)));
        let detectors = Known::default();
        let deadline = supervision.detector_deadline;
        let people = stations(&detect, |n| {
            let (line, clock, events) = (Arc::clone(&gates.people), Arc::clone(&clock), events.clone());
            let (person, known) = (person.clone(), detectors.clone());
            detect.station(ActorKind::Person, None, deadline, move || {
                let place = Place::new(person.clone(), "person", known.clone(), n)?;
                Ok(Box::new(People::new(Arc::clone(&line), Arc::clone(&clock), events.clone(), place)))
            })
        });
        let unknown_faces = Arc::new(RwLock::new(settings.faces));
        let strangers = Strangers::new(archivist.clone(), Arc::clone(&clock), Arc::clone(&unknown_faces));
        let faces = stations(&detect, |n| {
            let (line, clock, events) = (Arc::clone(&gates.faces), Arc::clone(&clock), events.clone());
            let (face, known, gallery) = (face.clone(), detectors.clone(), Arc::clone(&gallery));
            let strangers = Arc::clone(&strangers);
            detect.station(ActorKind::Face, None, deadline, move || {
                let place = Place::new(face.clone(), "face", known.clone(), n)?;
                let (line, clock, gallery) = (Arc::clone(&line), Arc::clone(&clock), Arc::clone(&gallery));
                let strangers = Arc::clone(&strangers);
                let faces = Faces::new(line, clock, events.clone(), gallery, strangers, place);
                Ok(Box::new(faces) as Box<dyn Component>)
            })
        });
        // Built at once: whether a detector can be had is known from the start, not at the first frame.
        for station in people.iter().chain(&faces) {
            station.wake();
        }
        gates.people.set_stations(people.clone());
        gates.faces.set_stations(faces.clone());

        let recorder_tools = Arc::new(RecorderTools {
            places: places.clone(),
            clip: settings.clip.clone(),
            spool: settings.spool.clone(),
            segment: settings.continuous.segment,
            signing,
            clock: Arc::clone(&clock),
            encoders: encoders.clone(),
            room: Arc::clone(&room),
        });
        let evict = crew("evict", 1, 0);
        let (storage, retention) =
            (StorageState::default(), Arc::new(RwLock::new(settings.retention.clone())));
        let evictor_tools = Arc::new(EvictorTools {
            room: Arc::clone(&room),
            durability,
            archivist: archivist.clone(),
            clock: Arc::clone(&clock),
            notices: notices.sink(),
            retention: Arc::clone(&retention),
            faces: Arc::clone(&unknown_faces),
            storage: settings.storage.clone(),
            spool: settings.spool.clone(),
            cameras: settings.cameras.keys().cloned().collect(),
            state: storage.clone(),
            suspended,
        });
        let evictor = evict.station(ActorKind::Evictor, None, supervision.disk_deadline * 3, move || {
            Ok(Box::new(Evictor::new(Arc::clone(&evictor_tools))) as Box<dyn Component>)
        });
        room.set_evictor(evictor.clone());
        evictor.wake();
        let live = live(&settings, &clock, &folder, &notices);
        let wiring = Wiring {
            live: live.clone(),
            vision: vision.clone(),
            disk: disk.clone(),
            clock: Arc::clone(&clock),
            gates: Arc::clone(&gates),
            events: events.clone(),
            recorder_tools,
            settings: Arc::clone(&settings),
        };
        let cameras = Cameras::new(Arc::clone(&settings), Arc::clone(&clock), Box::new(wiring));

        let crier_tools = CrierTools::new(
            notices.clone(),
            archivist.clone(),
            alerts.clone(),
            notifier_link,
            cameras.clone(),
            Arc::clone(&clock),
        );
        let silent = left.silent();
        crier_tools.carry(left.carried);
        let own_tools = crier_tools.clone();
        let crier = Solo::start(ActorKind::Crier, board.clone(), backoff, SOLO_DEADLINE, move |sentinel| {
            Crier::new(own_tools.clone(), sentinel)
        });

        let in_flight = Budget::new(settings.frame.in_flight_bytes);
        let session_tools = Arc::new(SessionTools {
            cameras: cameras.clone(),
            in_flight: in_flight.clone(),
            clock: Arc::clone(&clock),
            shutdown: shutdown.clone(),
            refusals_logged: LogRation::default(),
        });
        let io = IoGroup::start(settings.frame.io_threads, SOLO_DEADLINE, board.clone())?;
        let doors = Door::open_all(sockets, &settings.frame, &io, &session_tools)?;
        let addresses =
            doors.iter().map(|door| Ok((door.address()?, door.is_tls()))).collect::<std::io::Result<_>>()?;
        for door in doors {
            actix::spawn(door.serve(shutdown.clone()));
        }

        let dialects = bound_dialects.open(DialectTools {
            cameras: cameras.clone(),
            clock: Arc::clone(&clock),
            shutdown: shutdown.clone(),
            board: board.clone(),
            desk: DeskHouse {
                parts: desk,
                room: Arc::clone(&room),
                storage: storage.clone(),
                boot: places.boot.clone(),
                durability,
            },
            detect: detect.clone(),
            faces: face,
            gallery,
            detectors: detectors.clone(),
            backoff,
            live,
        })?;

        let max_abandoned = usize::try_from(supervision.max_abandoned_threads).unwrap_or(usize::MAX);
        let watch = Watch::start(board.clone(), max_abandoned, on_lost)?;
        let crews = vec![
            ("vision", vision),
            ("detect", detect),
            ("disk", disk),
            ("encode", encode),
            ("archive", archive),
            ("evict", evict),
        ];
        for (_, crew) in &crews {
            watch.crew(crew.clone());
        }
        watch.solo(events_solo.clone());
        watch.solo(notifier.clone());
        watch.solo(crier.clone());
        if let Some(usher) = dialects.usher() {
            watch.solo(usher.clone());
        }
        let watched_io = io.clone();
        watch.look_after(move |now| watched_io.tick(now));
        let watched_dialects = dialects.clone();
        watch.look_after(move |now| watched_dialects.tick(now));
        let (shown, budget) = (cameras.clone(), in_flight.clone());
        watch.look_after(move |_| {
            shown.publish();
            gauge!(metric::IN_FLIGHT_BYTES).set(budget.used() as f64);
        });
        let (missed, seen, own_clock) = (cameras.clone(), board.clone(), Arc::clone(&clock));
        let sink = notices.sink();
        let (mut silence, mut failures) = (Silence::new(clock.mono(), silent), Failures::default());
        watch.look_after(move |_| {
            let now = own_clock.mono();
            silence.tick(now, &missed, sink.as_ref());
            if failures.is_time(now) {
                let limit = missed.settings().notify.notices.failing_restarts;
                failures.look(now, &seen.reports(), limit, sink.as_ref());
            }
        });
        let _shared_stations = people.into_iter().chain(faces).chain([evictor]).collect();
        Ok(Self {
            cameras,
            gates,
            board,
            in_flight,
            archivist,
            encoders,
            events,
            couriers,
            rules,
            alerts,
            notifier_tools,
            notifier,
            notices,
            clip_wishes,
            crier,
            crier_tools,
            room,
            storage,
            retention,
            unknown_faces,
            events_solo,
            io,
            dialects,
            crews,
            detectors,
            addresses,
            shutdown,
            _shared_stations,
            watch,
        })
    }

    /// Addresses that cameras can connect to, and whether each speaks TLS.
    pub fn addresses(&self) -> &[(SocketAddr, bool)] {
        &self.addresses
    }

    /// A handle for status, pages and metrics.
    pub fn view(&self) -> NodeHandle {
        NodeHandle {
            cameras: self.cameras.clone(),
            board: self.board.clone(),
            in_flight: self.in_flight.clone(),
            archivist: self.archivist.clone(),
            encoders: self.encoders.clone(),
            detectors: self.detectors.clone(),
            gates: Arc::clone(&self.gates),
            notices: self.notices.clone(),
            alerts: self.alerts.clone(),
            room: Arc::clone(&self.room),
            storage: self.storage.clone(),
            notifier: self.notifier_tools.lock().unwrap_or_else(PoisonError::into_inner).link.clone(),
        }
    }

    /// Puts new settings in force where that needs no restart of the node: cameras, detectors' pace, events,
    /// channels. Listeners, data folder, crews and clips keep what they started with.
    pub fn reload(&self, settings: Arc<Settings>, channels: Vec<Arc<dyn Channel>>) {
        self.gates.reload(settings.detectors.clone());
        self.encoders.set_recorded(settings.clip.kinds.clone());
        self.events.reload(settings.events.clone());
        *self.retention.write().unwrap_or_else(PoisonError::into_inner) = settings.retention.clone();
        *self.unknown_faces.write().unwrap_or_else(PoisonError::into_inner) = settings.faces;
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = courier_rules(&settings);
        self.alerts.reload(&settings);
        self.crier_tools.reload(&settings);
        // Not only the channels: language, time zone, proxy and patience are theirs too, and homes know the cameras.
        let before = self.cameras.settings();
        if before.notify != settings.notify || announced(&before) != announced(&settings) {
            self.tell_by(&settings, channels);
        }
        self.dialects.reload(&settings.dialects);
        self.cameras.reload(settings);
    }

    /// Has people told by these channels from now on. The ones before are closed, also where somebody still holds them:
    /// two connections in one name would throw each other out for ever.
    fn tell_by(&self, settings: &Settings, channels: Vec<Arc<dyn Channel>>) {
        let before = {
            let mut tools = self.notifier_tools.lock().unwrap_or_else(PoisonError::into_inner);
            *self.clip_wishes.write().unwrap_or_else(PoisonError::into_inner) =
                clip_wishes(tools.clips.links.as_ref(), &channels);
            tools.replace(&settings.notify, channels)
        };
        for channel in before {
            channel.close();
        }
        self.notifier.renew();
    }
}

fn stations(crew: &Crew, make: impl Fn(usize) -> Station) -> Vec<Station> {
    (0..crew.threads()).map(make).collect()
}
