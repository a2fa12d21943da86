//! Live pictures without sockets: the state that all parts share, and the projector beside it.

use meerkat_base::{Frame, Image, ManualClock, MaskArea, PixelFormat};
use meerkat_settings::CameraSettings;
use meerkat_store::DataFolder;

use super::super::projector::Projector;
use super::*;
use crate::camera::Cameras;
use crate::notices::Notices;
use crate::supervision::{Component, Step};
use crate::testing::{NOON, camera, cameras};

const KEYS: [(&str, &str); 3] = [
    ("dialects.watch.listen", "127.0.0.1:0"),
    ("dialects.watch.camera", "yard"),
    ("dialects.watch.max_frames_per_second", "10"),
];

struct Scene {
    clock: ManualClock,
    notices: Notices,
    live: Live,
    camera: Arc<Camera>,
    projector: Projector,
    seq: u64,
    _cameras: Cameras,
    data: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let (clock, notices, data) = (ManualClock::new(NOON), Notices::new(), tempfile::tempdir().unwrap());
        let cameras = cameras(&clock, &KEYS);
        let folder = Arc::new(DataFolder::open(data.path()).unwrap());
        let tools = LiveTools {
            clock: Arc::new(clock.clone()),
            notices: notices.sink(),
            log: TextLog::new(folder, "watch", "viewers.log", 1 << 20, 3),
            zone: TimeZone::get("Asia/Shanghai").unwrap(),
        };
        let live = Live::new(cameras.settings().dialects.watch.clone().unwrap(), tools);
        let camera = camera(&cameras, "yard");
        assert!(live.shows(camera.id()));
        camera.set_live(live.clone());
        let projector = Projector::new(Arc::downgrade(&camera), live.clone());
        Self { clock, notices, live, camera, projector, seq: 0, _cameras: cameras, data }
    }

    /// The camera has a new picture of this shade.
    fn picture(&mut self, shade: u8) {
        self.seq += 1;
        let image = Image::new(320, 240, PixelFormat::Bgr8, vec![shade; 320 * 240 * 3]).unwrap();
        let frame = Frame {
            camera: self.camera.id().clone(),
            seq: self.seq,
            wall: self.clock.wall(),
            mono: self.clock.mono(),
            format: meerkat_base::ImageFormat::Jpeg,
            width: 320,
            height: 240,
            proven: false,
            bytes: meerkat_vision::encode_jpeg(&image, 90).unwrap().into(),
        };
        self.camera.note(&frame, &self.camera.settings().mask);
    }

    /// What is sent now: brightness of the picture, and where to.
    fn sent(&mut self) -> Option<(u8, Vec<String>)> {
        assert!(matches!(self.projector.step().unwrap(), Step::Idle | Step::Sleep(_)));
        let (shown, due) = self.live.turn()?;
        let plane = meerkat_vision::decode_gray(&shown.bytes, 1).unwrap();
        assert_eq!((plane.width(), plane.height()), (160, 120));
        Some((plane.pixels()[0], due.targets.iter().map(ToString::to_string).collect()))
    }

    fn join(&self, address: &str) -> Ticket {
        let target: SocketAddr = address.parse().unwrap();
        self.live.join(SocketAddr::new(target.ip(), 40_000 + target.port()), target.port()).unwrap()
    }

    fn pass(&self, millis: u64) {
        self.clock.advance(Duration::from_millis(millis));
    }

    fn shade(&mut self) -> Option<u8> {
        self.sent().map(|(shade, _)| shade)
    }
}

fn about(shade: Option<u8>, expected: u8) -> bool {
    shade.is_some_and(|shade| shade.abs_diff(expected) < 6)
}

#[test]
fn one_picture_is_made_for_all_who_are_ready_and_none_for_nobody() {
    let mut scene = Scene::new();
    scene.picture(10);
    assert!(scene.sent().is_none());
    assert!(scene.live.state().shown.is_none(), "nobody watches: nothing is made");
    let (one, _two) = (scene.join("10.0.0.1:5001"), scene.join("10.0.0.1:5002"));
    let (shade, targets) = scene.sent().unwrap();
    assert!(about(Some(shade), 10));
    assert_eq!(targets, ["10.0.0.1:5001", "10.0.0.1:5002"], "the newest picture, at once");
    scene.pass(200);
    scene.picture(60);
    assert!(scene.sent().is_none(), "neither has answered");
    assert_eq!(scene.live.state().number, 1, "so it was not even made");
    scene.live.hear("10.0.0.1:5002".parse().unwrap(), b"continue");
    let (shade, targets) = scene.sent().unwrap();
    assert!(about(Some(shade), 60));
    assert_eq!(targets, ["10.0.0.1:5002"]);
    drop(one);
    assert_eq!(scene.live.state().viewers.len(), 1);
}

#[test]
fn what_was_lost_is_followed_by_the_newest_of_the_camera() {
    let mut scene = Scene::new();
    let _viewer = scene.join("10.0.0.1:5001");
    scene.picture(10);
    assert!(about(scene.shade(), 10));
    for shade in [60, 90, 120] {
        scene.pass(300);
        scene.picture(shade);
        assert_eq!(scene.shade(), None, "{shade}");
    }
    scene.pass(100);
    // The usher's turn comes first: it must not send the old one while the camera has a newer.
    assert!(scene.live.turn().is_none());
    assert!(about(scene.shade(), 120));
    scene.pass(1_000);
    assert!(about(scene.shade(), 120), "the camera stands still: the same again");
}

#[test]
fn pictures_keep_to_their_number_per_second() {
    let mut scene = Scene::new();
    let _viewer = scene.join("10.0.0.1:5001");
    let mut sent = 0;
    for _ in 0..100 {
        scene.pass(20);
        scene.picture(50);
        if scene.sent().is_some() {
            sent += 1;
            scene.live.hear("10.0.0.1:5001".parse().unwrap(), b"continue");
        }
    }
    assert!((19..=22).contains(&sent), "ten a second for two seconds: {sent}");
}

#[test]
fn a_mask_that_changes_takes_back_what_was_shown() {
    let mut scene = Scene::new();
    let _viewer = scene.join("10.0.0.1:5001");
    scene.picture(200);
    assert!(about(scene.shade(), 200));
    let mut settings = CameraSettings::clone(&scene.camera.settings());
    settings.mask.areas = vec![MaskArea::parse("0,0,0.5,0.5").unwrap()];
    scene.camera.set_settings(Arc::new(settings));
    scene.pass(1_000);
    assert_eq!(scene.shade(), None, "what may not be seen any more is not sent again");
    scene.picture(40);
    assert!(about(scene.shade(), 40));
}

#[test]
fn a_picture_that_cannot_be_made_is_passed_over() {
    let mut scene = Scene::new();
    let _viewer = scene.join("10.0.0.1:5001");
    scene.seq += 1;
    let frame = Frame {
        camera: scene.camera.id().clone(),
        seq: scene.seq,
        wall: scene.clock.wall(),
        mono: scene.clock.mono(),
        format: meerkat_base::ImageFormat::Unknown,
        width: 0,
        height: 0,
        proven: false,
        bytes: bytes::Bytes::from_static(b"no picture"),
    };
    scene.camera.note(&frame, &scene.camera.settings().mask);
    assert_eq!(scene.shade(), None);
    scene.pass(200);
    scene.picture(70);
    assert!(about(scene.shade(), 70));
}

#[tokio::test]
async fn coming_and_going_is_written_and_told() {
    let mut scene = Scene::new();
    let mut viewer = scene.join("192.168.1.7:5001");
    scene.picture(10);
    assert!(scene.sent().is_some());
    scene.live.hear("192.168.1.7:5001".parse().unwrap(), b"continue");
    scene.live.hear("192.168.1.7:5001".parse().unwrap(), b"end");
    assert_eq!(viewer.left().await, Left::Ended);
    drop(viewer);
    let told: Vec<(String, bool)> =
        scene.notices.take().into_iter().map(|notice| (notice.subject, notice.holds)).collect();
    let peer = "192.168.1.7:45001";
    assert_eq!(told, [(peer.to_owned(), true), (peer.to_owned(), false)]);
    assert!(scene.live.finish(Duration::from_secs(20)));
    let log = std::fs::read_to_string(scene.data.path().join("watch/viewers.log")).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    // Noon in the tests is by UTC.
    let at = Timestamp::from_microsecond(NOON.0).unwrap().to_zoned(TimeZone::get("Asia/Shanghai").unwrap());
    let at = at.strftime("%Y-%m-%d %H:%M:%S");
    assert_eq!(lines, [format!("{at} 客户端{peer} 接入"), format!("{at} 客户端{peer} 退出")]);
}

#[tokio::test]
async fn the_silent_and_the_replaced_hear_of_it_and_so_does_everybody_at_the_end() {
    let mut scene = Scene::new();
    let mut silent = scene.join("10.0.0.1:5001");
    scene.picture(10);
    assert!(scene.sent().is_some());
    scene.pass(10_000);
    scene.live.turn();
    assert_eq!(silent.left().await, Left::Silent);
    let mut first = scene.join("10.0.0.1:5002");
    let mut second = scene.join("10.0.0.1:5002");
    assert_eq!(first.left().await, Left::Replaced);
    drop(first);
    assert_eq!(scene.live.state().viewers.len(), 1, "the old connection takes nobody with it");
    assert!(scene.live.finish(Duration::from_secs(20)));
    assert_eq!(second.left().await, Left::Shutdown);
    assert!(!scene.live.is_watched());
}

#[test]
fn a_flood_of_joins_is_bounded_in_events_and_in_lines() {
    let scene = Scene::new();
    for _ in 0..2_000 {
        drop(scene.join("10.0.0.1:5001"));
    }
    let told = scene.notices.take();
    assert_eq!(told.iter().filter(|notice| notice.holds).count(), EVENTS_PER_MINUTE as usize);
    assert_eq!(told.len(), 2 * EVENTS_PER_MINUTE as usize, "what begins as an event ends as one");
    assert_eq!(scene.live.state().lines.len(), MAX_LINES);
    scene.pass(60_000);
    drop(scene.join("10.0.0.1:5001"));
    assert!(scene.notices.take().iter().any(|notice| notice.holds), "and in the next minute again");
}
