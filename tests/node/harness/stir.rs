//! A camera that sees something move, for tests that need an event and care little about which.

use std::time::Duration;

use meerkat_base::EventKind;
use meerkat_store::EventRow;

use super::{Camera, Node, PATIENCE, eventually, paced, picture};

/// Time between two frames.
const INTERVAL: Duration = Duration::from_millis(40);
/// Frames without motion before and with motion after; more of each than motion needs.
const STILL: u32 = 8;
const MOVING: u32 = 10;

/// A frame with a bright square somewhere, or without.
fn frame(square: Option<u32>) -> Vec<u8> {
    let mut image = picture(320, 240, 0);
    for pixel in image.data_mut().chunks_exact_mut(3) {
        // Dull, so that the square stands out.
        pixel.iter_mut().for_each(|value| *value = 60 + *value / 8);
    }
    if let Some(left) = square {
        let width = image.width();
        for y in 80..150 {
            for x in left..left + 70 {
                let place = ((y * width + x) * 3) as usize;
                image.data_mut()[place..place + 3].fill(240);
            }
        }
    }
    meerkat_vision::encode_jpeg(&image, 85).unwrap()
}

/// Something moves in front of this camera, which is in a mode from 3 to 5; then it sends nothing more. One event of
/// motion comes of it where events need few hits and end soon, see [`super::Plan::with_quick_motion`].
#[track_caller]
pub fn stir(camera: &mut Camera) {
    paced(0..STILL + MOVING, INTERVAL, |number| {
        let square = number.checked_sub(STILL).map(|step| 20 + step * 20);
        assert_eq!(camera.frame(&frame(square)), b'1');
    });
}

impl Node {
    /// Lets something move in front of a camera until there is one more event of motion, and returns it once it is
    /// over.
    #[track_caller]
    pub fn stir(&self, camera: &mut Camera, id: &str) -> EventRow {
        let before = self.motions(id).len();
        stir(camera);
        eventually("the motion is an event, and over", PATIENCE, || {
            let rows = self.motions(id);
            rows.get(before).filter(|row| row.ended.is_some()).cloned()
        })
    }

    fn motions(&self, camera: &str) -> Vec<EventRow> {
        let mut rows = self.events(camera);
        rows.retain(|row| row.kind == EventKind::Motion);
        rows
    }
}
