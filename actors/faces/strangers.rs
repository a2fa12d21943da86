//! Good faces that match nobody, on their way to the archivist, who keeps a few of them for a few days. Takes no more
//! than it must: one picture of a face every few seconds, so many at once. Groups and limits are the store's.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use meerkat_base::{Clock, FaceIdentity, FoundFace, Frame, Image, MonoTime, metric};
use meerkat_settings::FacesSettings;
use meerkat_store::embedding::likeness;
use meerkat_store::{Embedding, KeptUnknown, NewUnknown, Store, StoreError, UnknownLimits};
use metrics::{counter, gauge};
use tracing::{debug, info, warn};

use crate::archivist::Archivist;
use crate::camera::Camera;

/// A face like one of so long ago is the same visit, and no news.
const AGAIN: Duration = Duration::from_secs(5);
/// Faces of the last seconds that are remembered; when there are more, further ones are let go.
const REMEMBERED: usize = 64;
/// Faces on their way to the disk at once.
const IN_HAND: usize = 8;
/// Quality of the pictures as JPEG, percent.
const QUALITY: u8 = 90;
/// How often it is said that something gave way.
const SAY_EVERY: Duration = Duration::from_secs(3_600);

/// What can become of a face; the values of the label `result`.
const RESULTS: [&str; 8] = ["kept", "repeated", "full", "no_room", "busy", "error", "gave_way", "expired"];

/// The way of unknown faces to the store. Shared by all face actors.
pub struct Strangers {
    archivist: Archivist,
    clock: Arc<dyn Clock>,
    settings: Arc<RwLock<FacesSettings>>,
    recent: Mutex<VecDeque<(MonoTime, Embedding)>>,
    in_hand: Arc<AtomicUsize>,
    said: Arc<AtomicU64>,
}

impl Strangers {
    /// Keeps nothing yet. Says how much there is of earlier runs.
    pub fn new(
        archivist: Archivist,
        clock: Arc<dyn Clock>,
        settings: Arc<RwLock<FacesSettings>>,
    ) -> Arc<Self> {
        for result in RESULTS {
            counter!(metric::UNKNOWN_FACES, "result" => result).increment(0);
        }
        gauge!(metric::UNKNOWN_GROUPS).set(0.0);
        gauge!(metric::UNKNOWN_BYTES).set(0.0);
        if !archivist.offer(|store| publish(store)) {
            debug!("how many unknown faces are kept is known later");
        }
        let (recent, in_hand, said) = (Mutex::default(), Arc::default(), Arc::default());
        Arc::new(Self { archivist, clock, settings, recent, in_hand, said })
    }

    /// Whether any are kept.
    pub fn are_wanted(&self) -> bool {
        self.settings().unknown_keep.is_some()
    }

    fn settings(&self) -> FacesSettings {
        *self.settings.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at a face of a picture, and has it kept if it is unknown, good enough and no news of a moment ago. `space`
    /// is what its embedding belongs to. Never waits. Not kept is what may not be seen any more when its turn has come.
    pub fn offer(&self, camera: &Arc<Camera>, frame: &Frame, image: &Image, face: &FoundFace, space: &str) {
        let settings = self.settings();
        let FoundFace { identity: FaceIdentity::Unknown, unfit: None, embedding: Some(values), .. } = face
        else {
            return;
        };
        if settings.unknown_keep.is_none() || face.bbox.width < settings.unknown_min_width_px {
            return;
        }
        let embedding = Embedding { space: space.to_owned(), values: values.clone() };
        match self.is_news(&embedding, settings.unknown_likeness) {
            Some(true) => {}
            Some(false) => return,
            None => return count("busy"),
        }
        if self.in_hand.fetch_add(1, Ordering::AcqRel) >= IN_HAND {
            self.in_hand.fetch_sub(1, Ordering::AcqRel);
            return count("busy");
        }
        let place = Place(Arc::clone(&self.in_hand));
        let jpeg = image.cut(&face.surroundings()).map(|cut| meerkat_vision::encode_jpeg(&cut, QUALITY));
        let Some(Ok(jpeg)) = jpeg else { return count("error") };
        let new = NewUnknown {
            camera: camera.id().clone(),
            at: frame.wall,
            width_px: face.bbox.width,
            jpeg,
            embedding,
        };
        let limits = UnknownLimits {
            likeness: settings.unknown_likeness,
            groups: settings.unknown_groups,
            pictures: settings.unknown_pictures,
            bytes: settings.unknown_bytes,
        };
        let (said, now) = (Arc::clone(&self.said), self.clock.mono());
        let (camera, seq) = (Arc::clone(camera), frame.seq);
        let taken = self.archivist.offer(move |store| {
            let _place = place;
            if camera.is_outdated(seq) {
                return;
            }
            book(store.keep_unknown(&new, &limits), &said, now);
            publish(store);
        });
        if !taken {
            count("busy");
        }
    }

    /// Whether no face like it was offered a moment ago; `None` when too many were to tell.
    fn is_news(&self, embedding: &Embedding, alike: f32) -> Option<bool> {
        let now = self.clock.mono();
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|(at, _)| now.since(*at) < AGAIN);
        let is_same = |other: &Embedding| {
            other.space == embedding.space && likeness(&other.values, &embedding.values) >= alike
        };
        if recent.iter().any(|(_, other)| is_same(other)) {
            return Some(false);
        }
        if recent.len() >= REMEMBERED {
            return None;
        }
        recent.push_back((now, embedding.clone()));
        Some(true)
    }
}

/// One of the few that are on their way; free again when it is dropped, however that comes.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn count(result: &'static str) {
    counter!(metric::UNKNOWN_FACES, "result" => result).increment(1);
}

fn book(kept: Result<KeptUnknown, StoreError>, said: &AtomicU64, now: MonoTime) {
    match kept {
        Ok(KeptUnknown::Kept { group, gave_way }) => {
            count("kept");
            counter!(metric::UNKNOWN_FACES, "result" => "gave_way").increment(gave_way);
            debug!(group, gave_way, "an unknown face is kept");
            let before = said.load(Ordering::Relaxed);
            let due = before == 0 || now.0.saturating_sub(before) >= SAY_EVERY.as_nanos() as u64;
            if gave_way > 0 && due {
                said.store(now.0.max(1), Ordering::Relaxed);
                info!(
                    "older groups of unknown faces give way to newer ones: faces.unknown_groups or \
                     faces.unknown_bytes is reached"
                );
            }
        }
        Ok(KeptUnknown::Repeated(_)) => count("repeated"),
        Ok(KeptUnknown::Full(_)) => count("full"),
        Ok(KeptUnknown::NoRoom) => count("no_room"),
        Err(problem) => {
            count("error");
            warn!(%problem, "an unknown face is not kept");
        }
    }
}

/// Says how many there are.
pub(crate) fn publish(store: &Store) {
    match store.unknown_totals() {
        Ok(totals) => {
            gauge!(metric::UNKNOWN_GROUPS).set(totals.groups as f64);
            gauge!(metric::UNKNOWN_BYTES).set(totals.bytes as f64);
        }
        Err(problem) => debug!(%problem, "unknown faces cannot be counted"),
    }
}

/// Counts faces whose time was over.
pub(crate) fn expired(faces: u64) {
    counter!(metric::UNKNOWN_FACES, "result" => "expired").increment(faces);
}

#[cfg(test)]
mod tests {
    use meerkat_base::{ManualClock, PixelFormat, Rect, Unfit};
    use meerkat_store::{DataLock, StoreOptions};

    use super::*;
    use crate::supervision::{BackoffSettings, Board, Crew, CrewSettings};
    use crate::testing::{NOON, camera, cameras, cover_all, frame, settings};

    struct Rig {
        strangers: Arc<Strangers>,
        settings: Arc<RwLock<FacesSettings>>,
        archivist: Archivist,
        camera: Arc<Camera>,
        clock: ManualClock,
        _crew: Crew,
        folder: tempfile::TempDir,
    }

    fn rig() -> Rig {
        let clock = ManualClock::new(NOON);
        let board = Board::new(Arc::new(clock.clone()));
        let backoff = BackoffSettings { min: Duration::from_millis(20), max: Duration::from_millis(50) };
        let crew = Crew::start(CrewSettings { name: "archive", threads: 1, niceness: 0, backoff }, board);
        let folder = tempfile::tempdir().unwrap();
        let lock = DataLock::take(folder.path()).unwrap();
        let first = Store::open_under(&lock, StoreOptions::default()).unwrap();
        let room = crate::testing::room(folder.path());
        let archivist = Archivist::start(&crew, Duration::from_secs(10), first, room, move || {
            Store::open_under(&lock, StoreOptions::default())
        });
        let settings = Arc::new(RwLock::new(settings(&[]).faces));
        let strangers = Strangers::new(archivist.clone(), Arc::new(clock.clone()), Arc::clone(&settings));
        let camera = camera(&cameras(&clock, &[]), "door");
        Rig { strangers, settings, archivist, camera, clock, _crew: crew, folder }
    }

    fn face(degrees: f32) -> FoundFace {
        FoundFace {
            bbox: Rect::new(30.0, 20.0, 40.0, 50.0),
            score: 0.9,
            identity: FaceIdentity::Unknown,
            unfit: None,
            embedding: Some(vec![degrees.to_radians().cos(), degrees.to_radians().sin()]),
        }
    }

    impl Rig {
        fn offer(&self, face: &FoundFace) {
            let image = Image::new(120, 90, PixelFormat::Bgr8, vec![90; 120 * 90 * 3]).unwrap();
            let (frame, _) = frame(&self.camera, &self.clock);
            self.strangers.offer(&self.camera, &frame, &image, face, "net");
        }

        /// Pictures per group, once everything on its way has arrived.
        fn groups(&self) -> Vec<u64> {
            let groups = self.archivist.ask_blocking(|store| store.unknown_groups()).unwrap();
            groups.iter().map(|group| group.pictures).collect()
        }
    }

    #[test]
    fn a_stranger_is_kept_once_in_a_while_with_what_is_around_the_face() {
        let rig = rig();
        rig.offer(&face(0.0));
        rig.offer(&face(20.0));
        assert_eq!(rig.groups(), [1], "the same visit");
        rig.clock.advance(AGAIN);
        rig.offer(&face(20.0));
        rig.offer(&face(120.0));
        assert_eq!(rig.groups(), [1, 2]);
        let picture = rig.archivist.ask_blocking(|store| store.unknown_pictures(1)).unwrap().remove(0);
        assert!(picture.path.starts_with(rig.folder.path().join("unknown")), "{}", picture.path.display());
        let bytes = std::fs::read(picture.path).unwrap();
        let probe = meerkat_vision::probe::probe(&bytes).unwrap();
        // 40 x 50 pixels and 0.6 of that on each side, as far as the picture reaches.
        assert_eq!((probe.width, probe.height), (88, 90));
        assert_eq!((picture.camera.as_str(), picture.at), ("door", NOON));
    }

    #[test]
    fn who_is_known_small_or_not_fit_is_not_kept_and_nobody_is_when_that_is_off() {
        let rig = rig();
        let named = FaceIdentity::Known { name: "Ada".into(), score: 0.9 };
        rig.offer(&FoundFace { identity: named, ..face(0.0) });
        rig.offer(&FoundFace { unfit: Some(Unfit::Blurred), ..face(0.0) });
        rig.offer(&FoundFace { embedding: None, ..face(0.0) });
        rig.offer(&FoundFace { bbox: Rect::new(30.0, 20.0, 39.0, 50.0), ..face(0.0) });
        rig.settings.write().unwrap().unknown_keep = None;
        assert!(!rig.strangers.are_wanted());
        rig.offer(&face(0.0));
        assert!(rig.groups().is_empty());
        rig.settings.write().unwrap().unknown_keep = Some(Duration::from_secs(60));
        rig.offer(&face(0.0));
        assert_eq!(rig.groups(), [1]);
    }

    #[test]
    fn a_face_of_a_picture_that_may_not_be_seen_any_more_is_not_kept() {
        let rig = rig();
        // The archivist is busy while the face is on its way and the mask changes.
        let (release, gate) = std::sync::mpsc::channel::<()>();
        assert!(rig.archivist.offer(move |_| {
            let _ = gate.recv();
        }));
        rig.offer(&face(0.0));
        cover_all(&rig.camera);
        drop(release);
        assert!(rig.groups().is_empty());
        rig.clock.advance(AGAIN);
        rig.offer(&face(0.0));
        assert_eq!(rig.groups(), [1], "what comes now is covered where it must be");
    }

    #[test]
    fn a_crowd_is_let_go_when_it_is_too_much() {
        let rig = rig();
        let mut one = face(0.0);
        // Each as unlike all others as can be.
        for n in 0..REMEMBERED + 20 {
            let mut values = vec![0.0; REMEMBERED + 20];
            values[n] = 1.0;
            one.embedding = Some(values);
            rig.offer(&one);
            assert!(rig.strangers.in_hand.load(Ordering::Acquire) <= IN_HAND);
            rig.groups();
        }
        assert_eq!(rig.groups().len(), REMEMBERED);
        assert_eq!(rig.strangers.in_hand.load(Ordering::Acquire), 0, "every place is free again");
    }
}
