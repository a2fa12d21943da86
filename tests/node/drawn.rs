//! Cameras that show the drawn scene of the demo, each on a thread of its own, for tests of what stands beside a node.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use meerkat_vision::encode_jpeg;
use meerkat_vision::synthetic::Scene;

use crate::harness::Node;

/// Time between two frames.
const INTERVAL: Duration = Duration::from_millis(125);
/// A still scene first, then somebody walks by.
const FRAMES: std::ops::Range<u64> = 108..200;

/// The frames, drawn once for all tests.
fn frames() -> &'static [Vec<u8>] {
    static DRAWN: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    DRAWN.get_or_init(|| {
        let scene = Scene::new(640, 480);
        FRAMES.map(|n| encode_jpeg(&scene.frame(n).unwrap(), 80).unwrap()).collect()
    })
}

/// A camera that sends until it is told to stop, or dropped.
pub struct DrawnCamera {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl DrawnCamera {
    /// Connects and begins.
    #[track_caller]
    pub fn start(node: &Node, id: &str, mode: u8) -> Self {
        let mut camera = node.camera(id, mode);
        let stop = Arc::new(AtomicBool::new(false));
        let own_stop = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            for frame in frames().iter().cycle() {
                if own_stop.load(Ordering::Acquire) {
                    return;
                }
                assert_eq!(camera.frame(frame), b'1');
                std::thread::sleep(INTERVAL);
            }
        });
        Self { stop, thread: Some(thread) }
    }

    /// Stops and hangs up.
    #[track_caller]
    pub fn stop(mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("every frame was answered with 1");
        }
    }
}

impl Drop for DrawnCamera {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whether a program that is not ours is installed; a line says so where it is not (a failure when
/// `MEERKAT_REQUIRE_DATA` is set).
#[track_caller]
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join(program).is_file()) {
        return true;
    }
    assert!(std::env::var_os("MEERKAT_REQUIRE_DATA").is_none(), "{program} is not installed");
    println!("skipped: {program} is not installed");
    false
}
