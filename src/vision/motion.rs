//! What moves in one camera's picture: a background model on the reduced grey plane. Says where, not what.
//!
//! Per pixel it keeps the background and how much that pixel usually wavers. A pixel is *moving* when it
//! differs from its background by more than a threshold that grows with its own wavering (leaves, a screen).
//! Before the comparison the model is brought into the light of the picture, so a lamp or the exposure control
//! of the camera moves nothing. What comes to rest becomes background after a while.

use std::time::Duration;

use meerkat_base::{MonoTime, Rect};
use opencv::core::{Mat, Point, Size, Vector};
use opencv::imgproc;

use crate::light::{self, Light};
use crate::{GrayPlane, VisionError, mat};

/// How sensitive the detector is. Areas are shares of the picture, differences are grey levels of 0..=255.
#[derive(Debug, Clone, PartialEq)]
pub struct MotionSettings {
    /// Differences below this never count.
    pub min_difference: f32,
    /// A region smaller than this share of the picture does not count.
    pub min_area: f32,
    /// Regions closer than about twice this many pixels of the reduced plane become one.
    pub dilate_px: u32,
    /// Frames that the background is learned from at the start and after a change of size.
    pub settle_frames: u32,
    /// Time constant with which the background follows slow changes, kept to within a half.
    pub follow: Duration,
    /// Something new that rests this long becomes background.
    pub absorb_after: Duration,
}

impl Default for MotionSettings {
    fn default() -> Self {
        Self {
            min_difference: 14.0,
            min_area: 0.002,
            dilate_px: 2,
            settle_frames: 5,
            follow: Duration::from_secs(4),
            absorb_after: Duration::from_secs(20),
        }
    }
}

/// What one frame showed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MotionReport {
    /// The moving regions in pixels of the original frame, largest first, at most [`MAX_REGIONS`].
    pub moving: Vec<Rect>,
    /// Share of the picture that the moving regions cover, 0..=1.
    pub share: f32,
    /// The whole picture changed at once (light, exposure, another view); then `moving` is empty.
    pub global_change: bool,
}

/// No more regions than this are reported for one frame.
pub const MAX_REGIONS: usize = 32;

/// Levels are kept with 7 fractional bits, so that a difference of two fits an `i16`.
const ONE_LEVEL: f32 = 128.0;
/// Wavering is followed up to this many levels; 4 times it still fits an `i16`.
const MAX_WAVER: i16 = 60 * 128;
/// Wavering that is assumed before anything is known.
const FIRST_WAVER: i16 = 2 * 128;
/// Time constant with which the wavering of a still pixel is followed.
const WAVER_FOLLOW: Duration = Duration::from_secs(30);
/// Each time a pixel starts to move or shows something else, its wavering takes a 128th of the
/// difference (this power of a half). Leaves do that for ever and are learned within seconds; somebody who walks
/// by does it a few times.
const WAVER_PER_CHANGE: u32 = 7;
/// A shift of the light by more levels than this is reported as a change of the whole picture.
const GLOBAL_LEVELS: f32 = 6.0;
/// More moving pixels than this share mean another view, not motion in it.
const GLOBAL_SHARE: f32 = 0.6;
/// A pixel that changes by no more than this rests.
const RESTING_LEVELS: u8 = 12;
/// Every so many pixels in each direction are looked at to tell the light.
const SAMPLE_STEP: usize = 4;

/// Finds motion in the frames of one camera. Feed it every plane that is decoded.
#[derive(Debug)]
pub struct MotionDetector {
    settings: MotionSettings,
    model: Model,
    frames: u32,
    last: MonoTime,
    pairs: Vec<(u8, u8)>,
    kernel: Mat,
    grown: Mat,
}

#[derive(Debug, Default)]
struct Model {
    width: usize,
    height: usize,
    /// Background, levels times 128.
    background: Vec<i16>,
    /// Mean absolute deviation from the background, levels times 128.
    waver: Vec<i16>,
    /// 255 where the pixel moves.
    mask: Vec<u8>,
    /// What a moving pixel shows, and since when; empty until something moves.
    resting: Vec<Resting>,
    /// Frames looked at, wrapping.
    frame: u16,
}

/// Small, because there is one per pixel of every camera.
#[derive(Debug, Default, Clone, Copy)]
struct Resting {
    /// In quarters of a second, wrapping after four and a half hours; only differences are used.
    since: u16,
    /// The last frame in which the pixel moved.
    frame: u16,
    level: u8,
}

impl MotionDetector {
    /// A detector that has seen nothing.
    pub fn new(settings: MotionSettings) -> Result<Self, VisionError> {
        crate::init();
        let side = i32::try_from(settings.dilate_px.min(32) * 2 + 1).unwrap_or(1);
        let kernel = imgproc::get_structuring_element_def(imgproc::MORPH_RECT, Size::new(side, side))?;
        Ok(Self {
            settings,
            model: Model::default(),
            frames: 0,
            last: MonoTime::default(),
            pairs: Vec::new(),
            kernel,
            grown: Mat::default(),
        })
    }

    /// Whether the background is learned, so that motion can be reported.
    pub fn is_settled(&self) -> bool {
        self.frames >= self.settings.settle_frames.max(1)
    }

    /// Forgets the background.
    pub fn reset(&mut self) {
        self.frames = 0;
    }

    /// Looks at the next frame. A plane of another size than the last starts the learning anew.
    pub fn observe(&mut self, plane: &GrayPlane, mono: MonoTime) -> Result<MotionReport, VisionError> {
        let pixels = plane.pixels();
        let (width, height) = (plane.width() as usize, plane.height() as usize);
        if pixels.is_empty() || pixels.len() != width * height {
            return Ok(MotionReport::default());
        }
        if (width, height) != (self.model.width, self.model.height) {
            self.frames = 0;
        }
        let passed = mono.since(self.last).clamp(Duration::from_millis(1), Duration::from_secs(1));
        self.last = mono;
        if self.frames == 0 {
            self.model = Model::first(width, height, pixels);
            self.frames = 1;
            return Ok(MotionReport::default());
        }

        let light = self.model.light(pixels, &mut self.pairs);
        let global = light.shift() > GLOBAL_LEVELS;
        if light != Light::SAME {
            self.model.relight(light);
        }
        if global {
            // A camera's curve is no straight line: what the fit leaves over is taken as background,
            // unless it is far more than the light explains.
            self.model.resync(pixels, light.shift() / 2.0);
        }
        if !self.is_settled() {
            self.frames += 1;
            self.model.learn(pixels, self.frames);
            return Ok(MotionReport { global_change: global, ..MotionReport::default() });
        }

        self.model.frame = self.model.frame.wrapping_add(1);
        let moving = self.model.compare(pixels, &self.settings, passed);
        if moving == 0 {
            return Ok(MotionReport { global_change: global, ..MotionReport::default() });
        }
        if moving as f32 > GLOBAL_SHARE * pixels.len() as f32 {
            self.model = Model::first(width, height, pixels);
            self.frames = 1;
            return Ok(MotionReport { global_change: true, ..MotionReport::default() });
        }
        self.model.absorb(pixels, mono, self.settings.absorb_after);
        if global || (moving as f32) < self.settings.min_area * pixels.len() as f32 * 0.25 {
            return Ok(MotionReport { global_change: global, ..MotionReport::default() });
        }
        self.regions(plane)
    }

    /// Gathers the moving pixels into regions.
    fn regions(&mut self, plane: &GrayPlane) -> Result<MotionReport, VisionError> {
        let size = mat::size(plane.width(), plane.height())?;
        let mask = Mat::new_rows_cols_with_bytes::<u8>(size.height, size.width, &self.model.mask)?;
        imgproc::dilate_def(&mask, &mut self.grown, &self.kernel)?;
        let mut contours = Vector::<Vector<Point>>::new();
        imgproc::find_contours_def(
            &self.grown,
            &mut contours,
            imgproc::RETR_EXTERNAL,
            imgproc::CHAIN_APPROX_SIMPLE,
        )?;
        let whole = f64::from(size.width) * f64::from(size.height);
        let smallest = f64::from(self.settings.min_area) * whole;
        let mut regions = Vec::new();
        for contour in &contours {
            let area = imgproc::contour_area_def(&contour)?;
            if area >= smallest {
                regions.push((area, imgproc::bounding_rect(&contour)?));
            }
        }
        regions.sort_by(|a, b| b.0.total_cmp(&a.0));
        let covered: f64 = regions.iter().map(|r| r.0).sum();
        regions.truncate(MAX_REGIONS);
        let moving = regions.iter().map(|r| original(plane, r.1)).collect();
        Ok(MotionReport { moving, share: (covered / whole).min(1.0) as f32, global_change: false })
    }
}

/// A box of the plane in pixels of the original frame, inside of it.
pub(crate) fn original(plane: &GrayPlane, part: opencv::core::Rect) -> Rect {
    let factor = plane.reduction() as f32;
    let (width, height) = plane.original_size();
    let left = (part.x as f32 * factor).min(width as f32);
    let top = (part.y as f32 * factor).min(height as f32);
    let right = ((part.x + part.width) as f32 * factor).min(width as f32);
    let bottom = ((part.y + part.height) as f32 * factor).min(height as f32);
    Rect::new(left, top, right - left, bottom - top)
}

impl Model {
    fn first(width: usize, height: usize, pixels: &[u8]) -> Self {
        Self {
            width,
            height,
            background: pixels.iter().map(|&p| i16::from(p) << 7).collect(),
            waver: vec![FIRST_WAVER; pixels.len()],
            mask: vec![0; pixels.len()],
            resting: Vec::new(),
            frame: 0,
        }
    }

    /// The change of light between the background and the picture.
    fn light(&self, pixels: &[u8], pairs: &mut Vec<(u8, u8)>) -> Light {
        pairs.clear();
        let rows = self.background.chunks_exact(self.width).zip(pixels.chunks_exact(self.width));
        for (background, now) in rows.step_by(SAMPLE_STEP) {
            let sampled = background.iter().zip(now).step_by(SAMPLE_STEP);
            pairs.extend(sampled.map(|(&b, &p)| (((b + 64) >> 7) as u8, p)));
        }
        light::fit(pairs).0
    }

    /// Brings the background into another light.
    fn relight(&mut self, light: Light) {
        let offset = light.offset * ONE_LEVEL;
        for background in &mut self.background {
            let level = light.gain * f32::from(*background) + offset;
            *background = level.clamp(0.0, 255.0 * ONE_LEVEL) as i16;
        }
    }

    /// Takes pixels over that differ by at most so many levels.
    fn resync(&mut self, pixels: &[u8], levels: f32) {
        let most = (levels * ONE_LEVEL).min(f32::from(i16::MAX)) as i16;
        for (background, &now) in self.background.iter_mut().zip(pixels) {
            let now = i16::from(now) << 7;
            if (now - *background).abs() <= most {
                *background = now;
            }
        }
    }

    /// Running mean over the first frames; `n` counts this one.
    fn learn(&mut self, pixels: &[u8], n: u32) {
        let weight = 1.0 / n as f32;
        for ((background, waver), &now) in self.background.iter_mut().zip(&mut self.waver).zip(pixels) {
            let difference = (i16::from(now) << 7) - *background;
            *background += (f32::from(difference) * weight) as i16;
            *waver += ((f32::from(difference.saturating_abs()) - f32::from(*waver)) * weight) as i16;
            *waver = (*waver).clamp(0, MAX_WAVER);
        }
    }

    /// Fills the mask, lets the background follow, and returns how many pixels move.
    fn compare(&mut self, pixels: &[u8], settings: &MotionSettings, passed: Duration) -> usize {
        let least = (settings.min_difference.clamp(1.0, 255.0) * ONE_LEVEL) as i16;
        let follow = halvings(passed, settings.follow);
        let waver_follow = halvings(passed, WAVER_FOLLOW);
        // Chunks whose count of moving pixels fits 16 bits.
        const CHUNK: usize = 4096;
        let chunks = self
            .background
            .chunks_mut(CHUNK)
            .zip(self.waver.chunks_mut(CHUNK))
            .zip(self.mask.chunks_mut(CHUNK))
            .zip(pixels.chunks(CHUNK));
        chunks
            .map(|(((background, waver), mask), now)| {
                step(background, waver, mask, now, least, follow, waver_follow)
            })
            .sum()
    }

    /// Makes background of moving pixels that have shown the same in every frame for long enough.
    fn absorb(&mut self, pixels: &[u8], now: MonoTime, after: Duration) {
        let (now, after) = (quarters(now), u16::try_from(after.as_millis() / 250).unwrap_or(u16::MAX));
        let (frame, before) = (self.frame, self.frame.wrapping_sub(1));
        self.resting.resize(pixels.len(), Resting::default());
        let parts = self.mask.iter().zip(pixels).zip(&mut self.resting).zip(&mut self.background);
        for ((((moves, &level), resting), background), waver) in parts.zip(&mut self.waver) {
            if *moves == 0 {
                continue;
            }
            let seen = std::mem::replace(&mut resting.frame, frame);
            if seen != before || resting.level.abs_diff(level) > RESTING_LEVELS {
                (resting.level, resting.since) = (level, now);
                let distance = ((i16::from(level) << 7) - *background).saturating_abs();
                *waver = (*waver + ((distance - *waver) >> WAVER_PER_CHANGE)).clamp(0, MAX_WAVER);
            } else if now.wrapping_sub(resting.since) >= after {
                *background = i16::from(level) << 7;
                *waver = FIRST_WAVER;
            }
        }
    }
}

/// One frame for one stretch of pixels, all of the same length: fills the mask, lets background and wavering
/// follow where nothing moves, and returns how many pixels move.
///
/// Masks instead of branches and lengths known to be equal make the compiler work on 16-bit lanes, several times as
/// fast as the plain way to write it. Nothing can overflow: levels are 0..=32640, wavering is at most 7680.
fn step(
    background: &mut [i16],
    waver: &mut [i16],
    mask: &mut [u8],
    now: &[u8],
    least: i16,
    follow: u32,
    waver_follow: u32,
) -> usize {
    let n = background.len().min(waver.len()).min(mask.len()).min(now.len());
    let (background, waver) = (&mut background[..n], &mut waver[..n]);
    let (mask, now) = (&mut mask[..n], &now[..n]);
    let mut moving = 0i16;
    for i in 0..n {
        let difference = (i16::from(now[i]) << 7).wrapping_sub(background[i]);
        let distance = difference.max(difference.wrapping_neg());
        let moves = -i16::from(distance > least.max(waver[i] << 2));
        mask[i] = moves as u8;
        moving = moving.wrapping_sub(moves);
        background[i] = background[i].wrapping_add((difference >> follow) & !moves);
        let change = (distance.wrapping_sub(waver[i]) >> waver_follow) & !moves;
        waver[i] = waver[i].wrapping_add(change).clamp(0, MAX_WAVER);
    }
    usize::try_from(moving).unwrap_or(0)
}

fn quarters(time: MonoTime) -> u16 {
    (time.0 / 250_000_000) as u16
}

/// The weight of one frame in a running mean with a time constant, as the nearest power of a half, from the first
/// to the 14th. A shift is the one multiplication by a variable for which 16-bit vector code is made.
fn halvings(passed: Duration, constant: Duration) -> u32 {
    let frames = constant.as_secs_f32() / passed.as_secs_f32().max(0.001);
    frames.max(1.0).log2().round().clamp(1.0, 14.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Canvas, Noise, at, plane_of};

    struct Watch {
        detector: MotionDetector,
        noise: Noise,
        n: u64,
    }

    impl Watch {
        fn new() -> Self {
            let detector = MotionDetector::new(MotionSettings::default()).unwrap();
            Self { detector, noise: Noise::new(3), n: 0 }
        }

        fn see(&mut self, canvas: &Canvas) -> MotionReport {
            self.n += 1;
            self.detector.observe(&canvas.plane(&mut self.noise, 2.5), at(self.n)).unwrap()
        }

        fn settle(&mut self) {
            for _ in 0..30 {
                assert_eq!(self.see(&Canvas::room()).moving, []);
            }
        }
    }

    #[test]
    fn a_moving_block_is_found_where_it_is() {
        let mut watch = Watch::new();
        watch.settle();
        for step in 0..40 {
            let report = watch.see(&Canvas::room().block(10 + step * 3, 40, 14, 30, 40.0));
            let first = report.moving.first().unwrap();
            let truth = Rect::new((10 + step * 3) as f32 * 4.0, 160.0, 56.0, 120.0);
            assert!(first.iou(&truth) > 0.6, "{step}: {first:?} for {truth:?}");
            assert!((0.01..0.1).contains(&report.share), "{}", report.share);
            assert!(!report.global_change);
        }
        assert_eq!(watch.see(&Canvas::room()).moving, []);
    }

    #[test]
    fn noise_moves_nothing() {
        let mut watch = Watch::new();
        for _ in 0..500 {
            assert_eq!(watch.see(&Canvas::room()), MotionReport::default());
        }
    }

    #[test]
    fn a_lamp_is_no_motion_and_motion_goes_on_under_it() {
        let mut watch = Watch::new();
        watch.settle();
        let mut said = 0;
        for (gain, offset) in [(1.0, 40.0), (0.6, 0.0), (1.2, 10.0), (1.0, 0.0)] {
            for _ in 0..10 {
                let report = watch.see(&Canvas::room().lit(gain, offset));
                assert_eq!(report.moving, [], "{gain} {offset}");
                said += usize::from(report.global_change);
            }
            let report = watch.see(&Canvas::room().block(60, 40, 14, 30, 30.0).lit(gain, offset));
            assert_eq!(report.moving.len(), 1, "{gain} {offset}");
        }
        assert_eq!(said, 4, "once for each switch");
    }

    #[test]
    fn slow_light_is_followed() {
        let mut watch = Watch::new();
        watch.settle();
        for step in 0..300 {
            let report = watch.see(&Canvas::room().lit(1.0 - 0.0015 * step as f32, 0.0));
            assert_eq!(report.moving, [], "{step}");
        }
    }

    #[test]
    fn what_rests_becomes_background() {
        let mut watch = Watch::new();
        watch.settle();
        let with_bag = || Canvas::room().block(100, 60, 16, 16, 30.0);
        let moving_for = (0..400).filter(|_| !watch.see(&with_bag()).moving.is_empty()).count();
        assert!((190..=215).contains(&moving_for), "{moving_for} frames of 100 ms, 20 s are set");
        assert_eq!(watch.see(&Canvas::room()).moving.len(), 1, "taking it away is motion");
    }

    #[test]
    fn leaves_are_learned() {
        let mut watch = Watch::new();
        watch.settle();
        let mut late = 0;
        for step in 0..600 {
            let sway = if step % 2 == 0 { 20.0 } else { -20.0 };
            let report = watch.see(&Canvas::room().block(20, 20, 20, 20, 140.0 + sway));
            late += usize::from(step >= 500 && !report.moving.is_empty());
        }
        assert_eq!(late, 0);
    }

    #[test]
    fn another_size_or_view_starts_anew() {
        let mut watch = Watch::new();
        watch.settle();
        assert!(watch.detector.is_settled());
        let other = plane_of(80, 60, vec![10; 4800]);
        assert_eq!(watch.detector.observe(&other, at(40)).unwrap(), MotionReport::default());
        assert!(!watch.detector.is_settled());
        watch.n = 50;
        watch.see(&Canvas::room());
        watch.settle();
        let mirrored = Canvas { levels: Canvas::room().levels.into_iter().rev().collect() };
        let report = watch.see(&mirrored);
        assert!(report.global_change && report.moving.is_empty());
    }

    #[test]
    fn tiny_and_empty_planes_do_no_harm() {
        let mut detector = MotionDetector::new(MotionSettings::default()).unwrap();
        assert_eq!(detector.observe(&GrayPlane::new(), at(0)).unwrap(), MotionReport::default());
        for n in 0..20u64 {
            detector.observe(&plane_of(1, 1, vec![(n * 90) as u8]), at(n)).unwrap();
        }
        let mut backwards = Watch::new();
        backwards.settle();
        backwards.detector.observe(&Canvas::room().plane(&mut Noise::new(1), 1.0), at(0)).unwrap();
    }
}
