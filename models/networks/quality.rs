//! Is a face good enough to be compared? Large, sharp and frontal enough: what fails here would be a stranger to
//! the gallery anyway, or worse, somebody else.
//!
//! The defaults were measured with YuNet and face-reidentification-retail-0095 on the 100 pictures of lfw10x10,
//! reduced and blurred step by step, each face compared with three others of the same person:
//!
//! | picture | face width | sharpness, median | cosine, median | at 0.38 or more |
//! |---|---|---|---|---|
//! | as it is | 93 px | 0.43 | 0.75 | 100 % |
//! | reduced to 1/4 | 24 px | 0.17 | 0.67 | 100 % |
//! | reduced to 1/5 | 19 px | 0.15 | 0.59 | 100 % |
//! | reduced to 3/20 | 15 px | | 0.47 | 75 % |
//! | Gaussian blur, sigma 2 px | 95 px | 0.17 | 0.73 | 98 % |
//! | Gaussian blur, sigma 4 px | 96 px | 0.048 | 0.50 | 84 % |
//! | Gaussian blur, sigma 5 px | 98 px | 0.030 | 0.36 | 42 % |
//! | motion blur, 15 px | 99 px | 0.049 | 0.50 | 88 % |
//! | motion blur, 21 px | 101 px | 0.029 | 0.38 | 50 % |
//!
//! Of the faces that stay recognisable 95 % are sharper than the default and of those that do not 63 %; noise that
//! covers a blur passes. Turned heads up to 0.45 (the most there is in these pictures) lose little: 0.63 at least.

use meerkat_base::{Point, Unfit};

use super::face::Face;

/// What a face needs to be compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QualitySettings {
    /// Least width of the face's box in pixels of the picture that was searched.
    pub min_width_px: f32,
    /// Least [`sharpness`], 0 and above.
    pub min_sharpness: f32,
    /// Furthest that the nose may lie to the side of the middle between the eyes, in distances of the eyes. 0 looks
    /// straight ahead; about 0.5 is half a profile.
    pub max_turn: f32,
    /// Furthest that the line through the eyes may be from level, degrees.
    pub max_tilt_degrees: f32,
}

impl Default for QualitySettings {
    fn default() -> Self {
        Self { min_width_px: 24.0, min_sharpness: 0.025, max_turn: 0.5, max_tilt_degrees: 45.0 }
    }
}

/// Looks at box and points, before the face is cut out.
pub fn check_shape(face: &Face, settings: &QualitySettings) -> Result<(), Unfit> {
    // NaN is not large.
    let is_large = face.bbox.width >= settings.min_width_px;
    if !is_large {
        return Err(Unfit::Small);
    }
    let pose = Pose::of(&face.points).ok_or(Unfit::Turned)?;
    let frontal = pose.turn.abs() <= settings.max_turn
        && pose.tilt_degrees.abs() <= settings.max_tilt_degrees
        && (LEAST_NOD..=MOST_NOD).contains(&pose.nod);
    if frontal { Ok(()) } else { Err(Unfit::Turned) }
}

/// Looks at an aligned face: three planes of `side` x `side` values, 0..=255.
pub fn check_sharpness(planes: &[f32], side: usize, settings: &QualitySettings) -> Result<(), Unfit> {
    if sharpness(planes, side) >= settings.min_sharpness { Ok(()) } else { Err(Unfit::Blurred) }
}

/// Where the nose lies between eyes (0) and mouth (1) when the head is not thrown back or hung; 0.44 to 0.71 in the
/// pictures measured.
const LEAST_NOD: f32 = 0.2;
const MOST_NOD: f32 = 0.95;

/// How a head is held, from five points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pose {
    /// The nose's distance from the middle between the eyes, along the line through them, in distances of the eyes;
    /// positive when it points to the right in the picture.
    pub turn: f32,
    /// The nose's place on the way from eyes (0) to mouth (1).
    pub nod: f32,
    /// The eyes' line against level, degrees; positive when the right eye in the picture is lower.
    pub tilt_degrees: f32,
}

impl Pose {
    /// `None` when the points cannot be those of a face that looks towards the camera: eyes in one place, or the
    /// mouth not below them.
    pub fn of(points: &[Point; 5]) -> Option<Self> {
        let [left, right, nose, mouth_left, mouth_right] = *points;
        let (dx, dy) = (right.x - left.x, right.y - left.y);
        let eyes = dx.hypot(dy);
        if !(eyes.is_finite() && eyes > 0.0) {
            return None;
        }
        let middle = Point { x: (left.x + right.x) / 2.0, y: (left.y + right.y) / 2.0 };
        let mouth =
            Point { x: (mouth_left.x + mouth_right.x) / 2.0, y: (mouth_left.y + mouth_right.y) / 2.0 };
        let along = |point: Point| ((point.x - middle.x) * dx + (point.y - middle.y) * dy) / eyes;
        let below = |point: Point| ((point.y - middle.y) * dx - (point.x - middle.x) * dy) / eyes;
        let pose = Self {
            turn: along(nose) / eyes,
            nod: below(nose) / below(mouth),
            tilt_degrees: dy.atan2(dx).to_degrees(),
        };
        (below(mouth) > 0.0 && pose.turn.is_finite() && pose.nod.is_finite()).then_some(pose)
    }
}

/// Pixels that are taken together in each direction: finer detail is mostly noise.
const BLOCK: usize = 4;

/// How much the brightness of the middle of an aligned face bends, against how much it varies: the variance of the
/// second differences of means of 4x4 pixels, in the direction in which it is less (motion blurs only one), divided by
/// the variance of these means. 0 for an even area, about 0.4 for a good picture, 6 at most.
pub fn sharpness(planes: &[f32], side: usize) -> f32 {
    let pixels = side * side;
    if planes.len() < 3 * pixels || side < 8 * BLOCK {
        return 0.0;
    }
    let small = side / BLOCK;
    let mut means = vec![0.0f32; small * small];
    for (row, line) in means.chunks_exact_mut(small).enumerate() {
        for (column, mean) in line.iter_mut().enumerate() {
            let mut sum = 0.0;
            for y in row * BLOCK..(row + 1) * BLOCK {
                for x in column * BLOCK..(column + 1) * BLOCK {
                    let at = y * side + x;
                    sum += 0.114 * planes[at] + 0.587 * planes[pixels + at] + 0.299 * planes[2 * pixels + at];
                }
            }
            *mean = sum / (BLOCK * BLOCK) as f32;
        }
    }
    // From the brows to the lips, between the temples: hair and background bend most and say nothing.
    let (top, bottom) = (small / 4, small * 7 / 8);
    let (left, right) = (small * 3 / 16, small * 13 / 16);
    let at = |x: usize, y: usize| means[y * small + x];
    let (mut across, mut down, mut level) = (Spread::default(), Spread::default(), Spread::default());
    for y in top..bottom {
        for x in left..right {
            level.add(at(x, y));
            if x > left && x + 1 < right && y > top && y + 1 < bottom {
                across.add(at(x + 1, y) + at(x - 1, y) - 2.0 * at(x, y));
                down.add(at(x, y + 1) + at(x, y - 1) - 2.0 * at(x, y));
            }
        }
    }
    // A face without contrast has no sharpness: 25 is a deviation of five grey levels.
    let sharpness = across.variance().min(down.variance()) / (level.variance() + 25.0);
    if sharpness.is_finite() { sharpness as f32 } else { 0.0 }
}

/// Sums from which a variance follows.
#[derive(Default)]
struct Spread {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Spread {
    fn add(&mut self, value: f32) {
        let value = f64::from(value);
        self.count += 1.0;
        self.sum += value;
        self.squares += value * value;
    }

    fn variance(&self) -> f64 {
        let count = self.count.max(1.0);
        let mean = self.sum / count;
        (self.squares / count - mean * mean).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use meerkat_base::Rect;
    use proptest::prelude::*;

    use super::*;
    use crate::networks::testing::odd_number;

    const FRONTAL: [(f32, f32); 5] = [(40.0, 50.0), (80.0, 50.0), (60.0, 75.0), (45.0, 95.0), (75.0, 95.0)];

    fn face(width: f32, points: [(f32, f32); 5]) -> Face {
        let points = points.map(|(x, y)| Point { x, y });
        Face { bbox: Rect::new(20.0, 20.0, width, width * 1.3), score: 0.9, points }
    }

    fn verdict(width: f32, points: [(f32, f32); 5]) -> Result<(), Unfit> {
        check_shape(&face(width, points), &QualitySettings::default())
    }

    #[test]
    fn a_face_must_be_large_enough() {
        assert_eq!(verdict(24.0, FRONTAL), Ok(()));
        assert_eq!(verdict(23.9, FRONTAL), Err(Unfit::Small));
        assert_eq!(verdict(f32::NAN, FRONTAL), Err(Unfit::Small));
    }

    #[test]
    fn a_face_must_look_here() {
        let with_nose = |x, y| {
            let mut points = FRONTAL;
            points[2] = (x, y);
            points
        };
        assert_eq!(verdict(90.0, with_nose(79.0, 75.0)), Ok(()));
        assert_eq!(verdict(90.0, with_nose(81.0, 75.0)), Err(Unfit::Turned));
        assert_eq!(verdict(90.0, with_nose(39.0, 75.0)), Err(Unfit::Turned));
        assert_eq!(verdict(90.0, with_nose(60.0, 51.0)), Err(Unfit::Turned), "hung");
        assert_eq!(verdict(90.0, with_nose(60.0, 94.0)), Err(Unfit::Turned), "thrown back");
        assert_eq!(verdict(90.0, with_nose(f32::NAN, 75.0)), Err(Unfit::Turned));
        let upside_down = FRONTAL.map(|(x, y)| (120.0 - x, 150.0 - y));
        assert_eq!(verdict(90.0, upside_down), Err(Unfit::Turned));
        assert_eq!(verdict(90.0, [(5.0, 5.0); 5]), Err(Unfit::Turned));
    }

    #[test]
    fn the_pose_does_not_depend_on_tilt_and_size() {
        let (sin, cos) = 30f32.to_radians().sin_cos();
        let turned =
            FRONTAL.map(|(x, y)| Point { x: 3.0 * (cos * x - sin * y), y: 3.0 * (sin * x + cos * y) });
        let (a, b) = (Pose::of(&FRONTAL.map(|(x, y)| Point { x, y })).unwrap(), Pose::of(&turned).unwrap());
        assert!((a.turn - b.turn).abs() < 1e-4 && (a.nod - b.nod).abs() < 1e-4, "{a:?} {b:?}");
        assert!((b.tilt_degrees - 30.0).abs() < 1e-3 && a.tilt_degrees == 0.0);
    }

    /// Three equal planes of 128 x 128 values.
    fn planes(value: impl Fn(f32, f32) -> f32) -> Vec<f32> {
        let plane: Vec<f32> = (0..128 * 128).map(|n| value((n % 128) as f32, (n / 128) as f32)).collect();
        plane.repeat(3)
    }

    #[test]
    fn long_waves_are_less_sharp_than_short_ones() {
        let wave = |length: f32| {
            let turn = std::f32::consts::TAU / length;
            sharpness(&planes(|x, y| 128.0 + 60.0 * (x * turn).sin() + 60.0 * (y * turn).sin()), 128)
        };
        assert!(
            wave(16.0) > wave(32.0) && wave(32.0) > wave(64.0),
            "{} {} {}",
            wave(16.0),
            wave(32.0),
            wave(64.0)
        );
    }

    #[test]
    fn the_blurred_direction_decides() {
        let stripes = planes(|x, _| if (x as usize / 8).is_multiple_of(2) { 40.0 } else { 200.0 });
        assert_eq!(check_sharpness(&stripes, 128, &QualitySettings::default()), Err(Unfit::Blurred));
        let board =
            planes(|x, y| if (x as usize / 8 + y as usize / 8).is_multiple_of(2) { 40.0 } else { 200.0 });
        assert_eq!(check_sharpness(&board, 128, &QualitySettings::default()), Ok(()));
    }

    #[test]
    fn an_even_area_is_not_sharp() {
        assert_eq!(sharpness(&planes(|_, _| 90.0), 128), 0.0);
        assert_eq!(sharpness(&planes(|_, _| f32::NAN), 128), 0.0);
        assert_eq!(sharpness(&[], 128), 0.0);
        assert_eq!(sharpness(&[0.0; 48], 4), 0.0);
    }

    proptest! {
        #[test]
        fn any_face_has_a_verdict(numbers in proptest::collection::vec(odd_number(), 11)) {
            let points = std::array::from_fn(|n| (numbers[2 * n], numbers[2 * n + 1]));
            let _ = verdict(numbers[10] * 100.0, points);
        }
    }
}
