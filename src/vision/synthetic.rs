//! A drawn scene for the demo and for tests: a yard with a table, on which a vase stands. Somebody walks by;
//! later somebody takes the vase away; then the scene begins anew. The same frame number always gives the same
//! picture, and the truth about it can be asked for. Not a camera: it knows no time.

use meerkat_base::{Image, PixelFormat, Rect};
use opencv::core::{Mat, Point, Scalar, Size, Vec3b, Vector};
use opencv::imgproc;

use crate::VisionError;

/// Frames after which the scene begins anew; a minute at [`FRAMES_PER_SECOND`].
pub const LOOP_FRAMES: u64 = 600;
/// The pace that the walking was drawn for.
pub const FRAMES_PER_SECOND: u32 = 10;

const WALK_BY: std::ops::Range<u64> = 120..200;
const THEFT: std::ops::Range<u64> = 290..390;
/// From this frame on the vase is in the figure's hands.
const GRASP: u64 = 340;
const WALK_BY_AGAIN: std::ops::Range<u64> = 480..560;

/// What happens in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The vase stands there, nobody is in the picture.
    Still,
    /// Somebody walks by in front of the vase.
    WalkBy,
    /// Somebody comes for the vase.
    Approach,
    /// Somebody goes away with the vase.
    CarriedAway,
    /// The vase is gone, nobody is in the picture.
    Empty,
    /// The vase is gone, somebody walks by.
    WalkByEmpty,
}

/// The scene at one size.
#[derive(Debug, Clone)]
pub struct Scene {
    width: u32,
    height: u32,
    background: Vec<u8>,
    grain: Vec<i8>,
}

/// Where the figure is and how it holds itself; positions in shares of the height of the picture.
#[derive(Debug, Clone, Copy)]
struct Figure {
    x: f32,
    stride: f32,
    carries: bool,
}

/// The vase in its place: middle and foot in shares of width and height, size in shares of the height.
const VASE_X: f32 = 0.5;
const VASE_FOOT: f32 = 0.6;
const VASE_WIDTH: f32 = 0.11;
const VASE_HEIGHT: f32 = 0.2;
/// The figure's feet and its height.
const FOOT: f32 = 0.95;
const TALL: f32 = 0.72;

impl Scene {
    /// Draws the scene at a size of at least 64x64 pixels; smaller numbers are raised, larger than 4096 lowered.
    pub fn new(width: u32, height: u32) -> Self {
        let (width, height) = (width.clamp(64, 4096), height.clamp(64, 4096));
        let mut random = Random(0x5EED_1234);
        let grain = (0..1 << 16).map(|_| (0..3).map(|_| random.below(5) as i8 - 2).sum()).collect();
        let background = background(width as usize, height as usize, &mut random);
        Self { width, height, background, grain }
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// What happens in frame `n`.
    pub fn phase(n: u64) -> Phase {
        let n = n % LOOP_FRAMES;
        if WALK_BY.contains(&n) {
            Phase::WalkBy
        } else if THEFT.contains(&n) {
            if n < GRASP { Phase::Approach } else { Phase::CarriedAway }
        } else if WALK_BY_AGAIN.contains(&n) {
            Phase::WalkByEmpty
        } else if n < GRASP {
            Phase::Still
        } else {
            Phase::Empty
        }
    }

    /// A zone around the vase for the guard, in shares of width and height.
    pub fn zone(&self) -> Rect {
        let vase = self.resting_vase();
        let (width, height) = (self.width as f32, self.height as f32);
        let margin = 0.09 * height;
        Rect::new(
            (vase.x - margin) / width,
            (vase.y - margin) / height,
            (vase.width + 2.0 * margin) / width,
            (vase.height + 2.0 * margin) / height,
        )
    }

    /// The box of the vase in frame `n` in pixels, while it stands in its place.
    pub fn vase(&self, n: u64) -> Option<Rect> {
        (n % LOOP_FRAMES < GRASP).then(|| self.resting_vase())
    }

    /// The box of the figure in frame `n` in pixels; it may reach beyond the picture.
    pub fn figure(&self, n: u64) -> Option<Rect> {
        let figure = self.figure_at(n)?;
        let height = self.height as f32;
        let half = 0.15 * TALL * height;
        Some(Rect::new(figure.x * height - half, (FOOT - TALL) * height, 2.0 * half, TALL * height))
    }

    /// The picture of frame `n`, in colour.
    pub fn frame(&self, n: u64) -> Result<Image, VisionError> {
        crate::init();
        let mut pixels = self.background.clone();
        {
            let (rows, columns) = (self.height as i32, self.width as i32);
            let mut canvas = Mat::new_rows_cols_with_bytes_mut::<Vec3b>(rows, columns, &mut pixels)?;
            let height = self.height as f32;
            if self.vase(n).is_some() {
                draw_vase(&mut canvas, VASE_X * self.width as f32, VASE_FOOT * height, height)?;
            }
            if let Some(figure) = self.figure_at(n) {
                draw_figure(&mut canvas, figure, height)?;
                if figure.carries {
                    let (x, foot) = (figure.x * height, (FOOT - 0.5 * TALL) * height);
                    draw_vase(&mut canvas, x, foot, height)?;
                    draw_arms(&mut canvas, figure, height)?;
                }
            }
        }
        self.add_grain(&mut pixels, n);
        Image::new(self.width, self.height, PixelFormat::Bgr8, pixels).map_err(|_| VisionError::Undecodable)
    }

    fn resting_vase(&self) -> Rect {
        let height = self.height as f32;
        let (width, tall) = (VASE_WIDTH * height, VASE_HEIGHT * height);
        Rect::new(VASE_X * self.width as f32 - width / 2.0, VASE_FOOT * height - tall, width, tall)
    }

    fn figure_at(&self, n: u64) -> Option<Figure> {
        let n = n % LOOP_FRAMES;
        let across = self.width as f32 / self.height as f32;
        let outside = 0.2;
        let share =
            |range: &std::ops::Range<u64>| (n - range.start) as f32 / (range.end - range.start) as f32;
        let stride = n as f32 * std::f32::consts::TAU / 9.0;
        let path = across + 2.0 * outside;
        let x = if WALK_BY.contains(&n) {
            -outside + share(&WALK_BY) * path
        } else if WALK_BY_AGAIN.contains(&n) {
            across + outside - share(&WALK_BY_AGAIN) * path
        } else if THEFT.contains(&n) {
            across + outside - share(&THEFT) * path
        } else {
            return None;
        };
        Some(Figure { x, stride, carries: THEFT.contains(&n) && n >= GRASP })
    }

    /// The noise of a sensor: the same table, begun elsewhere in each row of each frame.
    fn add_grain(&self, pixels: &mut [u8], n: u64) {
        let mut random = Random((n as u32).wrapping_mul(0x9E37_79B9) ^ 0xA5A5_5A5A);
        for row in pixels.chunks_exact_mut(self.width as usize * 3) {
            let start = random.below(1 << 16) as usize;
            let grain = self.grain.iter().cycle().skip(start);
            for (pixel, &grain) in row.chunks_exact_mut(3).zip(grain) {
                for level in pixel {
                    *level = level.saturating_add_signed(grain);
                }
            }
        }
    }
}

/// A small deterministic source of numbers (xorshift); zero would stay zero.
struct Random(u32);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.max(1);
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 % limit
    }
}

/// A plastered wall, paving, and a table.
fn background(width: usize, height: usize, random: &mut Random) -> Vec<u8> {
    let mut out = Vec::with_capacity(width * height * 3);
    let speckle: Vec<f32> = (0..4099).map(|_| random.below(9) as f32 - 4.0).collect();
    for y in 0..height {
        let v = y as f32 / height as f32;
        for x in 0..width {
            let u = x as f32 / height as f32;
            let across = width as f32 / height as f32;
            let cell = (x * 83 / width.max(1) * 7 + y * 61 / height * 131) % speckle.len();
            let rough = speckle[cell] + 3.0 * ((u * 9.0).sin() * (v * 7.0).cos());
            let on_table =
                (VASE_FOOT - 0.02..VASE_FOOT + 0.035).contains(&v) && (u - VASE_X * across).abs() < 0.34;
            let leg = (VASE_FOOT..0.86).contains(&v)
                && [-0.29, 0.29].iter().any(|leg| (u - VASE_X * across - leg).abs() < 0.018);
            let (b, g, r) = if on_table {
                (70.0, 105.0, 140.0)
            } else if leg {
                (60.0, 88.0, 118.0)
            } else if v < 0.74 {
                (178.0, 188.0, 192.0)
            } else {
                let joint = (v * 40.0).fract() < 0.12 || (u * 9.0 + (v * 40.0).floor() * 0.5).fract() < 0.04;
                if joint { (112.0, 116.0, 118.0) } else { (138.0, 142.0, 146.0) }
            };
            let shade = 1.0 - 0.12 * (u / across - 0.5).abs();
            out.extend([b, g, r].map(|level: f32| ((level + rough) * shade).clamp(0.0, 255.0) as u8));
        }
    }
    out
}

fn point(x: f32, y: f32) -> Point {
    Point::new(x.round() as i32, y.round() as i32)
}

fn colour(b: u8, g: u8, r: u8) -> Scalar {
    Scalar::new(f64::from(b), f64::from(g), f64::from(r), 0.0)
}

fn polygon(
    canvas: &mut impl opencv::core::ToInputOutputArray,
    corners: &[(f32, f32)],
    paint: Scalar,
) -> Result<(), VisionError> {
    let corners: Vector<Point> = corners.iter().map(|&(x, y)| point(x, y)).collect();
    imgproc::fill_poly(canvas, &corners, paint, imgproc::LINE_AA, 0, Point::default())?;
    Ok(())
}

fn limb(
    canvas: &mut impl opencv::core::ToInputOutputArray,
    joints: &[(f32, f32)],
    thick: f32,
    paint: Scalar,
) -> Result<(), VisionError> {
    let thick = (thick.round() as i32).max(1);
    for pair in joints.windows(2) {
        let (from, to) = (point(pair[0].0, pair[0].1), point(pair[1].0, pair[1].1));
        imgproc::line(canvas, from, to, paint, thick, imgproc::LINE_AA, 0)?;
    }
    Ok(())
}

fn ellipse(
    canvas: &mut impl opencv::core::ToInputOutputArray,
    middle: (f32, f32),
    half: (f32, f32),
    paint: Scalar,
) -> Result<(), VisionError> {
    let axes = Size::new((half.0.round() as i32).max(1), (half.1.round() as i32).max(1));
    let middle = point(middle.0, middle.1);
    imgproc::ellipse(canvas, middle, axes, 0.0, 0.0, 360.0, paint, imgproc::FILLED, imgproc::LINE_AA, 0)?;
    Ok(())
}

/// A dark blue vase with a light band; `x` and `foot` in pixels.
fn draw_vase(
    canvas: &mut impl opencv::core::ToInputOutputArray,
    x: f32,
    foot: f32,
    height: f32,
) -> Result<(), VisionError> {
    let (half, tall) = (VASE_WIDTH / 2.0 * height, VASE_HEIGHT * height);
    let outline = [(0.45, 0.0), (1.0, 0.3), (0.95, 0.6), (0.4, 0.8), (0.6, 1.0)];
    let right = outline.iter().map(|&(w, h)| (x + w * half, foot - h * tall));
    let left = outline.iter().rev().map(|&(w, h)| (x - w * half, foot - h * tall));
    polygon(canvas, &right.chain(left).collect::<Vec<_>>(), colour(110, 60, 40))?;
    let band = [(-0.97, 0.4), (0.97, 0.4), (0.95, 0.52), (-0.95, 0.52)];
    let band: Vec<_> = band.iter().map(|&(w, h)| (x + w * half, foot - h * tall)).collect();
    polygon(canvas, &band, colour(190, 200, 205))
}

/// Somebody who walks, seen from the side: head, shoulders, torso, arms and legs in the proportions of people.
fn draw_figure(
    canvas: &mut impl opencv::core::ToInputOutputArray,
    figure: Figure,
    height: f32,
) -> Result<(), VisionError> {
    let tall = TALL * height;
    let foot = FOOT * height;
    let at = |dx: f32, up: f32| (figure.x * height + dx * tall, foot - up * tall);
    let (jacket, sleeve, trousers) = (colour(62, 48, 40), colour(52, 40, 34), colour(92, 86, 80));
    let swing = figure.stride.sin();
    for side in [-1.0f32, 1.0] {
        let lean = side * swing * 0.07;
        let hip = at(side * 0.035, 0.5);
        let knee = at(side * 0.035 + lean * 0.55, 0.27);
        let lift = (side * figure.stride.cos()).max(0.0) * 0.035;
        let ankle = at(side * 0.035 + lean * 1.05, 0.035 + lift);
        limb(canvas, &[hip, knee], 0.095 * tall, trousers)?;
        limb(canvas, &[knee, ankle], 0.075 * tall, trousers)?;
        ellipse(canvas, (ankle.0, ankle.1 + 0.012 * tall), (0.04 * tall, 0.02 * tall), colour(60, 58, 55))?;
    }
    let torso = [
        at(-0.045, 0.86),
        at(0.045, 0.86),
        at(0.115, 0.81),
        at(0.1, 0.62),
        at(0.085, 0.46),
        at(-0.085, 0.46),
        at(-0.1, 0.62),
        at(-0.115, 0.81),
    ];
    polygon(canvas, &torso, jacket)?;
    if !figure.carries {
        for side in [-1.0f32, 1.0] {
            let lean = -side * swing * 0.05;
            let joints =
                [at(side * 0.11, 0.79), at(side * 0.125 + lean * 0.4, 0.63), at(side * 0.12 + lean, 0.47)];
            limb(canvas, &joints, 0.05 * tall, sleeve)?;
            let hand = joints[2];
            ellipse(canvas, hand, (0.022 * tall, 0.026 * tall), colour(110, 140, 180))?;
        }
    }
    limb(canvas, &[at(0.0, 0.84), at(0.0, 0.9)], 0.05 * tall, colour(105, 135, 175))?;
    ellipse(canvas, at(0.0, 0.93), (0.052 * tall, 0.068 * tall), colour(115, 148, 188))?;
    ellipse(canvas, at(0.0, 0.965), (0.055 * tall, 0.04 * tall), colour(35, 38, 45))
}

/// Both arms around something held before the chest.
fn draw_arms(
    canvas: &mut impl opencv::core::ToInputOutputArray,
    figure: Figure,
    height: f32,
) -> Result<(), VisionError> {
    let tall = TALL * height;
    let at = |dx: f32, up: f32| (figure.x * height + dx * tall, FOOT * height - up * tall);
    for side in [-1.0f32, 1.0] {
        let joints = [at(side * 0.11, 0.79), at(side * 0.13, 0.63), at(side * 0.03, 0.57)];
        limb(canvas, &joints, 0.05 * tall, colour(52, 40, 34))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;
    use crate::{
        GrayPlane, Guard, GuardAlarm, GuardSettings, HogPersonDetector, HogSettings, MotionDetector,
        MotionSettings,
    };
    use meerkat_base::PersonDetector;

    #[test]
    fn the_same_number_gives_the_same_picture() {
        let scene = Scene::new(320, 240);
        assert_eq!(scene.frame(150).unwrap(), scene.frame(150).unwrap());
        assert_ne!(scene.frame(10).unwrap(), scene.frame(11).unwrap(), "there is noise");
        assert_eq!(scene.frame(0).unwrap().width(), 320);
        assert_eq!(Scene::new(0, 1 << 30).size(), (64, 4096));
        assert!(Scene::new(64, 64).frame(u64::MAX).is_ok());
    }

    #[test]
    fn phases_boxes_and_loop_agree() {
        let scene = Scene::new(640, 480);
        for n in 0..2 * LOOP_FRAMES {
            let (phase, figure, vase) = (Scene::phase(n), scene.figure(n), scene.vase(n));
            let nobody = matches!(phase, Phase::Still | Phase::Empty);
            assert_eq!(figure.is_none(), nobody, "{n}");
            assert_eq!(
                vase.is_some(),
                matches!(phase, Phase::Still | Phase::WalkBy | Phase::Approach),
                "{n}"
            );
        }
        let passes = WALK_BY.filter(|&n| {
            scene.figure(n).zip(scene.vase(n)).is_some_and(|(f, v)| f.intersection(&v) > 0.9 * v.area())
        });
        assert!(passes.count() > 3, "the figure really covers the vase");
        let grasp = scene.figure(GRASP).unwrap();
        assert!(grasp.intersection(&scene.vase(0).unwrap()) > 0.0, "it takes what it stands before");
    }

    #[test]
    fn the_guard_sees_the_theft_in_each_round_and_nothing_else() {
        let scene = Scene::new(640, 480);
        let mut guard = Guard::new(GuardSettings { zone: Some(scene.zone()), ..GuardSettings::default() });
        let mut motion = MotionDetector::new(MotionSettings::default()).unwrap();
        let (mut alarms, mut moved_while_nobody, mut seen_walking) = (Vec::new(), 0, 0);
        for n in 0..2 * LOOP_FRAMES {
            let plane = GrayPlane::from_image(&scene.frame(n).unwrap(), 4).unwrap();
            let report = guard.observe(&plane, at(n)).unwrap();
            alarms.extend(report.alarm.map(|alarm| (alarm, n)));
            let moving = motion.observe(&plane, at(n)).unwrap().moving;
            match scene.figure(n) {
                // The vase that is back, or a ghost where it stood, is motion until it is absorbed.
                None => {
                    moved_while_nobody +=
                        usize::from(Scene::phase(n) == Phase::Still && n < 290 && !moving.is_empty())
                }
                Some(figure) => {
                    seen_walking +=
                        usize::from(moving.iter().any(|m| m.intersection(&figure) > 0.3 * figure.area()))
                }
            }
        }
        let [(GuardAlarm::ObjectRemoved, first), (GuardAlarm::ObjectRemoved, second)] = alarms[..] else {
            panic!("{alarms:?}");
        };
        assert!((GRASP..THEFT.end + 30).contains(&first), "{first}");
        assert!((GRASP..THEFT.end + 30).contains(&(second - LOOP_FRAMES)), "{second}");
        assert_eq!(moved_while_nobody, 0);
        // A fifth of the way it is outside of the picture.
        assert!(seen_walking > 400, "{seen_walking} of 520");
    }

    #[test]
    fn the_figure_passes_for_a_person() {
        let scene = Scene::new(640, 480);
        let mut detector = HogPersonDetector::new(HogSettings::default()).unwrap();
        let (mut whole, mut found, mut phantom) = (0, 0, 0);
        for n in (0..LOOP_FRAMES).step_by(7) {
            let people = detector.detect(&scene.frame(n).unwrap()).unwrap();
            let Some(figure) = scene.figure(n) else {
                phantom += people.len();
                continue;
            };
            if figure.x > 0.0 && figure.x + figure.width < 640.0 {
                whole += 1;
                found += usize::from(people.iter().any(|p| p.bbox.iou(&figure) > 0.4));
            }
        }
        println!("{found} of {whole} found, {phantom} phantoms");
        assert!(whole > 20);
        assert!(found * 10 >= whole * 7, "{found} of {whole}");
        assert_eq!(phantom, 0);
    }
}
