//! The dialect `desk`: chat, files from client to client, faces, objects and analysis, on four ports. The parser is
//! `wire::desk`; here is what stands behind each command, and what is kept between connections.

mod age;
mod analysis;
pub mod chat;
mod clients;
mod eyes;
mod facepp;
mod line;
mod node_facts;
mod opening;
mod talk;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use meerkat_base::{Budget, Clock, FaceTraits, FaceTraitsEstimator, ObjectClassifier, Shutdown, metric};
use meerkat_outbound::{HttpClient, SecretUrl};
use meerkat_settings::{DeskFaceppSettings, DeskSettings, DialectsSettings, DoorSettings, FaceppTakes};
use meerkat_store::{RelayLimits, RelayShelf, StoreError};
use meerkat_wire::desk::{self as wire, ClientNumber};
use metrics::{counter, gauge};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tracing::{debug, info, warn};

pub use analysis::{Analyst, Charts};
pub use chat::{Chat, Rules, RulesError, WrongRule};
pub use eyes::{Eyes, SeenFace, Sight};
pub use node_facts::NodeFacts;
pub use opening::{DeskHouse, open};

use self::age::AgeClock;
use self::analysis::Analyses;
use self::clients::{Client, Clients};
use self::facepp::{Facepp, FaceppError, JudgedFace, beauty_of, small_enough};
use self::line::{Line, Patience, Stop};
use self::talk::Talk;
use super::stream::{InFlight, Pace};
use super::{Dialect, End};
use crate::camera::Cameras;
use crate::detectors::Make;
use crate::storage::{self, Room, StorageState};

/// Pieces of work on the disk at once; each holds a thread while the disk takes its time.
const MOST_ON_DISK: usize = 4;
/// A disk that takes longer is waited for by no client any more.
const DISK_PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of an answer that the system takes at once: a chart goes out in one write.
const SEND_BUFFER_BYTES: usize = 256 << 10;
/// How often the desk looks after what it keeps.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Folder in the data folder for files without a name.
const FOLDER: &str = "desk";

/// What the composition root brings to the desk.
#[derive(Clone)]
pub struct DeskParts {
    /// Analyses CSV files.
    pub analyst: Arc<dyn Analyst>,
    /// Estimates sex and age.
    pub traits: Option<Make<dyn FaceTraitsEstimator>>,
    /// Says what is on a picture.
    pub objects: Option<Make<dyn ObjectClassifier>>,
    /// The HTTP client, where an account at Face++ is set.
    pub http: Option<HttpClient>,
}

/// What the desk is made of.
pub struct DeskTools {
    /// Its settings.
    pub settings: DeskSettings,
    /// Addresses that are listened on, one per client number.
    pub addresses: Vec<SocketAddr>,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Whether the disk has room, with the data folder.
    pub room: Arc<Room>,
    /// What is known of the disk and of the wall clock.
    pub storage: StorageState,
    /// Bytes that are being received, over all dialects.
    pub in_flight: Budget,
    /// Rate that a message has to come at, at least.
    pub min_bytes_per_second: u32,
    /// Longest time until a picture has been looked at, here or elsewhere.
    pub examine_timeout: Duration,
    /// Files that wait for their clients.
    pub shelf: RelayShelf,
    /// The node, as the chat may ask it.
    pub facts: Arc<dyn chat::Facts + Send + Sync>,
    /// Looks at pictures.
    pub eyes: Eyes,
    /// Analyses CSV files.
    pub analyst: Arc<dyn Analyst>,
    /// The HTTP client, where an account at Face++ is set.
    pub http: Option<HttpClient>,
}

/// The desk cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// Its rules cannot be used.
    #[error("dialects.desk.chat.rules: {0}")]
    Rules(#[from] RulesError),
    /// What waits for clients cannot be read.
    #[error(transparent)]
    Shelf(StoreError),
    /// Its folder cannot be made, or a port cannot be asked for its address.
    #[error("{path}: {source}", path = path.display())]
    Folder {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The address of Face++ cannot be used.
    #[error("dialects.desk.facepp.url: {0}")]
    Facepp(String),
}

/// The limits of the relay by these settings.
pub fn relay_limits(settings: &DeskSettings) -> RelayLimits {
    let relay = &settings.relay;
    RelayLimits {
        file_bytes: relay.max_file_bytes,
        total_bytes: relay.total_bytes,
        sender_bytes: relay.sender_bytes,
        files: relay.files,
        keep: relay.keep,
    }
}

/// The dialect.
pub struct Desk {
    settings: RwLock<Arc<DeskSettings>>,
    addresses: Vec<SocketAddr>,
    clock: Arc<dyn Clock>,
    age: AgeClock,
    room: Arc<Room>,
    in_flight: Budget,
    min_bytes_per_second: AtomicU32,
    folder: PathBuf,
    chat: Chat,
    facts: Arc<dyn chat::Facts + Send + Sync>,
    shelf: RelayShelf,
    clients: Clients,
    eyes: Eyes,
    analyses: Analyses,
    facepp: Option<(Facepp, FaceppTakes)>,
    hands: Arc<Semaphore>,
    examine_timeout: Duration,
}

impl Desk {
    /// A desk with nobody at it. Reads the rules of the chat, and makes its folder.
    ///
    /// # Errors
    /// When either cannot be done.
    pub fn new(tools: DeskTools) -> Result<Self, DeskError> {
        let DeskTools { settings, addresses, clock, room, in_flight, min_bytes_per_second, .. } = tools;
        let DeskTools { storage, shelf, facts, eyes, analyst, http, examine_timeout, .. } = tools;
        let chat = Chat::new(settings.chat.rules.as_deref())?;
        let folder = room.data_dir().join(FOLDER);
        private_folder(&folder).map_err(|source| DeskError::Folder { path: folder.clone(), source })?;
        let clients = Clients::new(
            settings.max_clients,
            settings.keep,
            settings.pictures_bytes,
            settings.csv.total_bytes,
        );
        let facepp = settings.facepp.as_ref().zip(http).map(|(own, http)| account(own, http)).transpose()?;
        Ok(Self {
            analyses: Analyses::new(analyst, settings.csv.analysis_limit),
            settings: RwLock::new(Arc::new(settings)),
            addresses,
            age: AgeClock::new(Arc::clone(&clock), storage),
            clock,
            room,
            in_flight,
            min_bytes_per_second: AtomicU32::new(min_bytes_per_second),
            folder,
            chat,
            facts,
            shelf,
            clients,
            eyes,
            facepp,
            hands: Arc::new(Semaphore::new(MOST_ON_DISK)),
            examine_timeout,
        })
    }

    /// What holds now.
    fn settings(&self) -> Arc<DeskSettings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes new settings over, for new connections: time limits, and how long one picture or file may be. What
    /// [`DialectsSettings::wait_for_restart`] names stays as it is.
    pub fn reload(&self, settings: &DialectsSettings) {
        self.min_bytes_per_second.store(settings.min_bytes_per_second, Ordering::Relaxed);
        if let Some(own) = &settings.desk {
            *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(own.clone());
        }
    }

    /// No picture is looked at any more.
    pub fn close(&self) {
        self.eyes.close();
    }

    /// Looks after what is kept, once a second until shutdown: rules that changed, files and clients that are too old.
    pub async fn look_after(self: Arc<Self>, cameras: Cameras, shutdown: Shutdown) {
        loop {
            tokio::select! {
                biased;
                () = shutdown.wait() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            // A reload of the settings may name another file.
            let rules = cameras.settings().dialects.desk.as_ref().map(|desk| desk.chat.rules.clone());
            let desk = Arc::clone(&self);
            let looked = self.on_disk(move || {
                match &rules {
                    Some(rules) => desk.chat.use_file(rules.as_deref()),
                    None => desk.chat.look(),
                }
                desk.make_way();
                desk.age.now().map_or(Ok(0), |now| desk.shelf.expire(now))
            });
            match looked.await {
                Ok(Ok(expired)) => {
                    counter!(metric::RELAY_FILES, "result" => "expired").increment(expired as u64)
                }
                Ok(Err(error)) => debug!(%error, "old files of the relay could not be removed"),
                Err(_) => {}
            }
            self.clients.expire(self.clock.mono());
            self.publish();
        }
    }

    /// Gives the CSV files of clients up where the disk is so full that evidence would have to go for them.
    fn make_way(&self) {
        if matches!(self.room.spare(0), Err(storage::Refusal::Full(_))) {
            let given_up = self.clients.give_up_csv();
            if given_up > 0 {
                info!(files = given_up, "the disk is nearly full: CSV files of clients were given up");
            }
        }
    }

    fn publish(&self) {
        let (files, bytes) = self.shelf.usage();
        gauge!(metric::RELAY_WAITING_FILES).set(files as f64);
        gauge!(metric::RELAY_WAITING_BYTES).set(bytes as f64);
        let (pictures, csv) = self.clients.used_bytes();
        gauge!(metric::DESK_KEPT_BYTES, "kind" => "picture").set(pictures as f64);
        gauge!(metric::DESK_KEPT_BYTES, "kind" => "csv").set(csv as f64);
    }

    fn count_command(&self, command: &'static str) {
        counter!(metric::DESK_COMMANDS, "command" => command).increment(1);
    }

    fn count_relayed(&self, result: &'static str) {
        counter!(metric::RELAY_FILES, "result" => result).increment(1);
        self.publish();
    }

    /// Does something that blocks, on a thread for that; a few at a time.
    async fn on_disk<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Stop> {
        let done = async {
            let hand = Arc::clone(&self.hands).acquire_owned().await.map_err(|error| error.to_string())?;
            let work = actix_rt::task::spawn_blocking(move || {
                // Its thread has it until the disk lets go of the thread, whoever still waits.
                let _hand = hand;
                work()
            });
            work.await.map_err(|error| error.to_string())
        };
        let done = tokio::time::timeout(DISK_PATIENCE, done).await;
        done.unwrap_or_else(|_| Err("the disk does not answer".to_owned())).map_err(|error| {
            warn!(error, "work of the desk failed");
            Stop::Sorry("the node cannot do it now".to_owned())
        })
    }

    fn number_at(&self, local: SocketAddr) -> Option<ClientNumber> {
        let is_it = |own: &SocketAddr| {
            own.port() == local.port() && (own.ip().is_unspecified() || own.ip() == local.ip())
        };
        // An address that is exact goes before one that stands for all.
        let exact = self.addresses.iter().position(|own| *own == local);
        let at = exact.or_else(|| self.addresses.iter().position(is_it))?;
        ClientNumber::ALL.get(at).copied()
    }

    /// The first face of a picture, from wherever the settings say.
    async fn first_face(&self, picture: &Bytes) -> Result<Option<wire::Face>, String> {
        let judged = match &self.facepp {
            Some((account, takes)) => self.judged(account, picture).await.map(|judged| (judged, *takes)),
            None => None,
        };
        if let Some((judged, FaceppTakes::Everything)) = &judged {
            return Ok(judged.first().map(|face| worded(&face.bbox, face.gender, face.age, face.beauty)));
        }
        let Some(first) = self.eyes.face(picture.clone()).await.map_err(|error| error.to_string())? else {
            return Ok(None);
        };
        let beauty = judged.and_then(|(judged, _)| beauty_of(&first.bbox, &judged)).unwrap_or(0.0);
        let (gender, age) = match first.traits {
            Some(FaceTraits { age_years, female }) => {
                (if female >= 0.5 { "Female" } else { "Male" }, age_years.round().clamp(0.0, 150.0) as u32)
            }
            None => ("Unknown", 0),
        };
        Ok(Some(worded(&first.bbox, gender, age, beauty)))
    }

    /// The faces as Face++ sees them; nothing when it does not answer.
    async fn judged(&self, account: &Facepp, picture: &Bytes) -> Option<Vec<JudgedFace>> {
        let own = picture.clone();
        let judged = async {
            let sorry = |_| FaceppError::Picture("no thread for it".to_owned());
            let (small, scale) = self.on_disk(move || small_enough(&own)).await.map_err(sorry)??;
            let mut faces = account.faces(&small).await?;
            for face in &mut faces {
                face.bbox = face.bbox.scaled(scale);
            }
            Ok::<_, FaceppError>(faces)
        };
        let error = match tokio::time::timeout(self.examine_timeout, judged).await {
            Ok(Ok(faces)) => return Some(faces),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "not its turn in time".to_owned(),
        };
        warn!(error, "no answer from face++: the desk goes on without");
        None
    }

    /// Talks with one client.
    async fn talk(&self, stream: TcpStream, peer: SocketAddr) -> End {
        let number = stream.local_addr().ok().and_then(|local| self.number_at(local));
        let Some(number) = number else { return End::Broken("not one of the four ports".to_owned()) };
        if let Err(error) = socket2::SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER_BYTES) {
            debug!(%error, "a connection keeps its send buffer");
        }
        let line = Line::new(stream, self.patience(), InFlight::new(self.in_flight.clone()));
        let mut talk = Talk { desk: self, client: Client::new(number, peer.ip()), line };
        let stop = talk.run().await;
        let mut line = talk.line;
        let (words, end) = match stop {
            Ok(()) => (None, End::Left),
            Err(Stop::Ended(end)) => return end,
            Err(Stop::Refused(refusal)) => (Some(refusal.to_string()), End::Refused(refusal.as_str())),
            Err(Stop::Limit(limit, words)) => {
                counter!(metric::LIMIT_HITS, "limit" => limit).increment(1);
                (Some(words), End::Refused(limit))
            }
            Err(Stop::Crowded) => {
                (Some("too much is being sent at once".to_owned()), End::Refused("in_flight_bytes"))
            }
            Err(Stop::Sorry(words)) => (Some(words), End::Left),
        };
        if let Some(words) = words
            && line.say(&wire::error(&words)).await.is_err()
        {
            return end;
        }
        line.farewell().await;
        end
    }

    fn patience(&self) -> Patience {
        let settings = self.settings();
        let DeskSettings { chat_silence, size_silence, file_silence, door, .. } = &*settings;
        // A pause that does not end a file is none that ends its connection.
        let grace = door.stall_timeout.max(*file_silence).max(*size_silence);
        Patience {
            pace: Pace::new(grace, self.min_bytes_per_second.load(Ordering::Relaxed)),
            text: *chat_silence,
            size: *size_silence,
            file: *file_silence,
            stall: door.stall_timeout,
            idle: door.idle_timeout,
        }
    }
}

/// The desk behind its door.
pub struct AtDesk(pub Arc<Desk>);

impl Dialect for AtDesk {
    const REASONS: &'static [&'static str] = &[
        "desk_unknown_command",
        "desk_bad_own_command",
        "desk_text_too_long",
        "desk_not_text",
        "desk_not_a_size",
        "desk_not_the_word",
        "desk_picture_bytes",
        "desk_pictures_bytes",
        "desk_csv_bytes",
        "desk_csv_total_bytes",
        "desk_free_space",
        "relay_file_bytes",
        "relay_sender_bytes",
        "relay_total_bytes",
        "relay_files",
    ];

    fn name(&self) -> &'static str {
        "desk"
    }

    fn door<'s>(&self, settings: &'s DialectsSettings) -> Option<&'s DoorSettings> {
        settings.desk.as_ref().map(|desk| &desk.door)
    }

    async fn talk(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) -> End {
        self.0.talk(stream, peer).await
    }
}

/// Makes every series of the desk there from the start, also where it is off.
pub(super) fn announce() {
    for limit in AtDesk::REASONS.iter().skip(wire::Refusal::ALL.len()) {
        counter!(metric::LIMIT_HITS, "limit" => *limit).increment(0);
    }
    for command in wire::Command::ALL {
        counter!(metric::DESK_COMMANDS, "command" => command.as_str()).increment(0);
    }
    counter!(metric::DESK_COMMANDS, "command" => "own_relay").increment(0);
    for result in ["stored", "fetched", "expired"] {
        counter!(metric::RELAY_FILES, "result" => result).increment(0);
    }
    gauge!(metric::RELAY_WAITING_FILES).set(0.0);
    gauge!(metric::RELAY_WAITING_BYTES).set(0.0);
    for kind in ["picture", "csv"] {
        gauge!(metric::DESK_KEPT_BYTES, "kind" => kind).set(0.0);
    }
}

fn account(settings: &DeskFaceppSettings, http: HttpClient) -> Result<(Facepp, FaceppTakes), DeskError> {
    let url = SecretUrl::parse(&settings.url).map_err(|error| DeskError::Facepp(error.to_string()))?;
    let account = Facepp::new(http, url, settings.api_key.clone(), settings.api_secret.clone());
    Ok((account, settings.takes))
}

fn worded(bbox: &meerkat_base::Rect, gender: &'static str, age: u32, beauty: f64) -> wire::Face {
    // From a float that is no number, negative or too large a cast gives 0 or the most.
    let px = |value: f32| value.round() as u32;
    let (width, height, top, left) = (px(bbox.width), px(bbox.height), px(bbox.y), px(bbox.x));
    wire::Face { gender, age, beauty, width, height, top, left }
}

fn private_folder(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// A file that has no name from its beginning, so that nothing of it stays whatever happens.
fn nameless_file(folder: &Path) -> std::io::Result<File> {
    private_folder(folder)?;
    tempfile::tempfile_in(folder)
}

/// Another handle of a file without a name, with a place of its own, at its beginning.
fn again(file: &File) -> std::io::Result<File> {
    use std::os::fd::AsRawFd;
    // A duplicate would share the place: what is open is opened anew.
    let by_itself = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()));
    match by_itself {
        Ok(own) => Ok(own),
        Err(_) => {
            let mut own = file.try_clone()?;
            own.seek(SeekFrom::Start(0))?;
            Ok(own)
        }
    }
}
