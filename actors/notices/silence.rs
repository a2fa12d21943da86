//! Notices cameras that send nothing. Cameras that are configured, and those that said a name; connections without one
//! come and go as they like.

use std::collections::BTreeMap;
use std::time::Duration;

use meerkat_base::{CameraId, EventKind, MonoTime, Notice, NoticeSink};
use tracing::warn;

use crate::camera::Cameras;

/// How often cameras are looked at.
const INTERVAL: Duration = Duration::from_millis(200);
/// Cameras that are followed without being configured.
const MAX_UNCONFIGURED: usize = 256;

/// One camera at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sign {
    pub camera: CameraId,
    pub configured: bool,
    /// Its last frame; none before the first.
    pub last: Option<MonoTime>,
    /// Silence after which it is missed.
    pub silent_after: Duration,
}

/// What is known of a camera.
#[derive(Debug)]
struct Followed {
    sign: Sign,
    is_silent: bool,
}

/// Follows all cameras.
pub(crate) struct Silence {
    started: MonoTime,
    looked: Option<MonoTime>,
    followed: BTreeMap<CameraId, Followed>,
}

impl Silence {
    /// The node starts.
    pub fn new(started: MonoTime) -> Self {
        Self { started, looked: None, followed: BTreeMap::new() }
    }

    /// Looks at every camera, when it is time.
    pub fn tick(&mut self, now: MonoTime, cameras: &Cameras, sink: &dyn NoticeSink) {
        if self.looked.is_some_and(|at| now.since(at) < INTERVAL) {
            return;
        }
        self.looked = Some(now);
        let settings = cameras.settings();
        let signs = cameras.all().into_iter().filter(|camera| camera.id().is_named()).map(|camera| Sign {
            camera: camera.id().clone(),
            configured: settings.cameras.contains_key(camera.id()),
            last: camera.last_frame_mono(),
            silent_after: camera.settings().silent_after,
        });
        self.look(now, signs.collect(), settings.notify.notices.start_grace, sink);
    }

    fn look(&mut self, now: MonoTime, signs: Vec<Sign>, grace: Duration, sink: &dyn NoticeSink) {
        let here: Vec<CameraId> = signs.iter().map(|sign| sign.camera.clone()).collect();
        for sign in signs {
            match self.followed.get_mut(&sign.camera) {
                Some(known) => {
                    // A camera that came back under its name has not sent anything yet: its last frame was before.
                    let last = sign.last.or(known.sign.last);
                    known.sign = Sign { last, ..sign };
                }
                None => self.follow(sign),
            }
        }
        // A configured camera is always here; one that is not any more has left the settings.
        let gone: Vec<CameraId> = self
            .followed
            .iter()
            .filter(|(id, known)| known.sign.configured && !here.contains(id))
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            if self.followed.remove(&id).is_some_and(|known| known.is_silent) {
                sink.raise(notice(&id, false, "no longer configured".to_owned()));
            }
        }
        for (id, known) in &mut self.followed {
            let (since, limit) = match known.sign.last {
                Some(last) => (last, known.sign.silent_after),
                None => (self.started, known.sign.silent_after.max(grace)),
            };
            let is_silent = now.since(since) > limit;
            if is_silent == known.is_silent {
                continue;
            }
            known.is_silent = is_silent;
            let detail = match (is_silent, known.sign.last) {
                (true, Some(_)) => format!("no picture for {} s", limit.as_secs_f32()),
                (true, None) => "no picture since the node started".to_owned(),
                (false, _) => String::new(),
            };
            sink.raise(notice(id, is_silent, detail));
        }
    }

    /// A camera that nobody configured counts from its first frame.
    fn follow(&mut self, sign: Sign) {
        if !sign.configured {
            let others = self.followed.values().filter(|known| !known.sign.configured).count();
            if sign.last.is_none() || others >= MAX_UNCONFIGURED {
                if sign.last.is_some() {
                    warn!(camera = %sign.camera, "too many cameras without configuration: not missed when silent");
                }
                return;
            }
        }
        self.followed.insert(sign.camera.clone(), Followed { sign, is_silent: false });
    }
}

fn notice(camera: &CameraId, holds: bool, detail: String) -> Notice {
    let camera = Some(camera.clone());
    Notice { kind: EventKind::CameraSilent, camera, subject: String::new(), holds, detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notices::Notices;

    const GRACE: Duration = Duration::from_secs(60);

    fn at(secs: u64) -> MonoTime {
        MonoTime(secs * 1_000_000_000)
    }

    fn sign(camera: &str, configured: bool, last: Option<u64>) -> Sign {
        let camera = CameraId::from_shown(camera).unwrap();
        Sign { camera, configured, last: last.map(at), silent_after: Duration::from_secs(5) }
    }

    /// What is noticed at a moment: cameras and whether they are silent.
    fn look(silence: &mut Silence, now: u64, signs: &[Sign]) -> Vec<(String, bool)> {
        let notices = Notices::new();
        silence.look(at(now), signs.to_vec(), GRACE, &notices);
        notices.take().into_iter().map(|n| (n.camera.unwrap().to_string(), n.holds)).collect()
    }

    fn yard(holds: bool) -> Vec<(String, bool)> {
        vec![("yard".to_owned(), holds)]
    }

    #[test]
    fn a_camera_is_missed_after_its_limit_and_found_with_its_next_frame() {
        let mut silence = Silence::new(at(0));
        assert_eq!(look(&mut silence, 10, &[sign("yard", true, Some(10))]), []);
        assert_eq!(look(&mut silence, 15, &[sign("yard", true, Some(10))]), []);
        assert_eq!(look(&mut silence, 16, &[sign("yard", true, Some(10))]), yard(true));
        assert_eq!(look(&mut silence, 99, &[sign("yard", true, Some(10))]), []);
        assert_eq!(look(&mut silence, 100, &[sign("yard", true, Some(100))]), yard(false));
    }

    #[test]
    fn one_that_never_came_is_missed_after_the_grace_of_the_start() {
        let mut silence = Silence::new(at(0));
        assert_eq!(look(&mut silence, 60, &[sign("yard", true, None)]), []);
        assert_eq!(look(&mut silence, 61, &[sign("yard", true, None)]), yard(true));
        assert_eq!(look(&mut silence, 62, &[sign("yard", true, Some(62))]), yard(false));
        // Taken out of the configuration while it is silent.
        assert_eq!(look(&mut silence, 70, &[sign("yard", true, Some(62))]), yard(true));
        assert_eq!(look(&mut silence, 71, &[]), yard(false));
        assert_eq!(look(&mut silence, 99, &[]), []);
    }

    #[test]
    fn one_that_said_a_name_is_missed_even_when_it_has_left() {
        let mut silence = Silence::new(at(0));
        assert_eq!(look(&mut silence, 1, &[sign("yard", false, None)]), []);
        assert_eq!(look(&mut silence, 100, &[sign("yard", false, None)]), [], "it never sent anything");
        assert_eq!(look(&mut silence, 101, &[sign("yard", false, Some(101))]), []);
        assert_eq!(look(&mut silence, 107, &[]), yard(true));
        assert_eq!(look(&mut silence, 108, &[sign("yard", false, None)]), [], "connected is not sending");
        assert_eq!(look(&mut silence, 109, &[sign("yard", false, Some(109))]), yard(false));
        for n in 0..2 * MAX_UNCONFIGURED {
            look(&mut silence, 110, &[sign(&format!("c{n}"), false, Some(110))]);
        }
        assert_eq!(silence.followed.len(), MAX_UNCONFIGURED);
    }
}
