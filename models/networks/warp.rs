//! A similarity transform between five points and a template, and the picture behind it: how a face is brought to the
//! place where the embedding network expects it. Nothing of a particular network here.

use meerkat_base::{Image, PixelFormat, Point};

/// Rotation, one scale and a shift: `(x, y)` goes to `(a x - b y + dx, b x + a y + dy)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Similarity {
    a: f64,
    b: f64,
    dx: f64,
    dy: f64,
}

impl Similarity {
    /// The transform that brings `from` nearest to `to` (least squares, Umeyama 1991; in the plane and without
    /// mirroring it has this closed form). `None` when the points coincide or are not finite: then there is none.
    pub fn between(from: &[Point], to: &[Point]) -> Option<Self> {
        let count = from.len().min(to.len());
        if count < 2 {
            return None;
        }
        let mean = |points: &[Point]| {
            let sum = points
                .iter()
                .take(count)
                .fold((0.0, 0.0), |sum, p| (sum.0 + f64::from(p.x), sum.1 + f64::from(p.y)));
            (sum.0 / count as f64, sum.1 / count as f64)
        };
        let (from_mean, to_mean) = (mean(from), mean(to));
        let (mut along, mut across, mut spread) = (0.0, 0.0, 0.0);
        for (p, q) in from.iter().zip(to) {
            let (px, py) = (f64::from(p.x) - from_mean.0, f64::from(p.y) - from_mean.1);
            let (qx, qy) = (f64::from(q.x) - to_mean.0, f64::from(q.y) - to_mean.1);
            along += px * qx + py * qy;
            across += px * qy - py * qx;
            spread += px * px + py * py;
        }
        let (a, b) = (along / spread, across / spread);
        let found = Self {
            a,
            b,
            dx: to_mean.0 - (a * from_mean.0 - b * from_mean.1),
            dy: to_mean.1 - (b * from_mean.0 + a * from_mean.1),
        };
        // The scale must be one that can be undone: neither 0 nor beyond any picture.
        let usable =
            found.scale() > 1e-6 && found.scale() < 1e6 && found.dx.is_finite() && found.dy.is_finite();
        usable.then_some(found)
    }

    /// How much longer distances become.
    pub fn scale(&self) -> f64 {
        self.a.hypot(self.b)
    }

    /// Where a point goes.
    pub fn apply(&self, point: Point) -> Point {
        let (x, y) = (f64::from(point.x), f64::from(point.y));
        Point { x: (self.a * x - self.b * y + self.dx) as f32, y: (self.b * x + self.a * y + self.dy) as f32 }
    }

    fn inverse(&self) -> Self {
        let square = self.a * self.a + self.b * self.b;
        let (a, b) = (self.a / square, -self.b / square);
        Self { a, b, dx: -(a * self.dx - b * self.dy), dy: -(b * self.dx + a * self.dy) }
    }
}

/// Writes what the transform brings into `width` x `height` pixels as three planes (blue, green, red, 0..=255) into
/// `out`: bilinear, rounded to whole grey levels, black where there is no picture. `out` has `3 * width * height`
/// values; what is missing there is left out.
pub fn planes(image: &Image, transform: &Similarity, width: usize, height: usize, out: &mut [f32]) {
    let back = transform.inverse();
    let mut parts = out.chunks_exact_mut((width * height).max(1));
    let (Some(blue), Some(green), Some(red)) = (parts.next(), parts.next(), parts.next()) else { return };
    let mut place = 0;
    for row in 0..height {
        let (row, mut x, mut y) = (row as f64, back.dx, back.dy);
        x -= back.b * row;
        y += back.a * row;
        for column in 0..width {
            let column = column as f64;
            let [b, g, r] = sample(image, (back.a * column + x) as f32, (back.b * column + y) as f32);
            (blue[place], green[place], red[place]) = (b, g, r);
            place += 1;
        }
    }
}

/// The picture at a place between pixels (the centre of the first pixel is 0, 0).
fn sample(image: &Image, x: f32, y: f32) -> [f32; 3] {
    // `floor` is a call into the C library where the processor is not known to have it.
    let down = |value: f32| {
        let whole = value as i32;
        whole - i32::from(value < whole as f32)
    };
    let (x, y) = (x.clamp(-FAR, FAR), y.clamp(-FAR, FAR));
    let (left, top) = (down(x), down(y));
    let (part_x, part_y) = (x - left as f32, y - top as f32);
    let [upper_left, upper_right, lower_left, lower_right] = corners(image, left, top);
    std::array::from_fn(|channel| {
        let upper = upper_left[channel] + (upper_right[channel] - upper_left[channel]) * part_x;
        let lower = lower_left[channel] + (lower_right[channel] - lower_left[channel]) * part_x;
        // Whole grey levels; beyond the range `as` stops at its ends.
        f32::from((upper + (lower - upper) * part_y + 0.5) as u8)
    })
}

/// Farther than this from the origin there is no pixel of any picture that is decoded here.
const FAR: f32 = 1e6;

/// The four pixels around a place: upper left, upper right, lower left, lower right.
fn corners(image: &Image, left: i32, top: i32) -> [[f32; 3]; 4] {
    if image.format() == PixelFormat::Bgr8 && left >= 0 && top >= 0 {
        let (width, height) = (image.width() as usize, image.height() as usize);
        let (x, y) = (left as usize, top as usize);
        if x + 1 < width && y + 1 < height {
            let begin = 3 * (y * width + x);
            let upper: Option<&[u8; 6]> = image.data()[begin..].first_chunk();
            let lower: Option<&[u8; 6]> = image.data()[begin + 3 * width..].first_chunk();
            if let (Some(upper), Some(lower)) = (upper, lower) {
                let colour = |row: &[u8; 6], at: usize| [row[at], row[at + 1], row[at + 2]].map(f32::from);
                return [colour(upper, 0), colour(upper, 3), colour(lower, 0), colour(lower, 3)];
            }
        }
    }
    [(left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)].map(|(x, y)| pixel(image, x, y))
}

fn pixel(image: &Image, x: i32, y: i32) -> [f32; 3] {
    if x < 0 || y < 0 || x as u32 >= image.width() || y as u32 >= image.height() {
        return [0.0; 3];
    }
    let index = y as usize * image.width() as usize + x as usize;
    match image.format() {
        PixelFormat::Gray8 => [f32::from(image.data()[index]); 3],
        PixelFormat::Bgr8 => {
            let bytes = &image.data()[3 * index..3 * index + 3];
            [f32::from(bytes[0]), f32::from(bytes[1]), f32::from(bytes[2])]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::testing::noise;

    fn point(x: f32, y: f32) -> Point {
        Point { x, y }
    }

    #[test]
    fn a_known_transform_is_found_again() {
        let known = Similarity { a: 1.2, b: -0.7, dx: 31.0, dy: -12.5 };
        let from = [point(3.0, 4.0), point(40.0, 2.0), point(17.0, 33.0)];
        let found = Similarity::between(&from, &from.map(|p| known.apply(p))).unwrap();
        for (got, wanted) in [(found.a, 1.2), (found.b, -0.7), (found.dx, 31.0), (found.dy, -12.5)] {
            assert!((got - wanted).abs() < 1e-5, "{found:?}");
        }
        let there_and_back = found.inverse().apply(found.apply(point(8.0, 9.0)));
        assert!((there_and_back.x - 8.0).abs() < 1e-4 && (there_and_back.y - 9.0).abs() < 1e-4);
    }

    #[test]
    fn mirrored_points_are_not_mirrored_back() {
        let from = [point(0.0, 0.0), point(10.0, 0.0), point(5.0, 8.0)];
        let mirrored = from.map(|p| point(-p.x, p.y));
        if let Some(found) = Similarity::between(&from, &mirrored) {
            assert!(found.a * found.a + found.b * found.b > 0.0);
        }
    }

    #[test]
    fn points_without_extent_or_number_have_no_transform() {
        let template = [point(0.0, 0.0), point(1.0, 0.0), point(0.0, 1.0)];
        assert_eq!(Similarity::between(&[point(3.0, 3.0); 3], &template), None);
        assert_eq!(Similarity::between(&template, &[point(3.0, 3.0); 3]), None);
        assert_eq!(Similarity::between(&[point(f32::NAN, 3.0); 3], &template), None);
        let far = [point(f32::INFINITY, 3.0), point(1.0, 1.0), point(0.0, 0.0)];
        assert_eq!(Similarity::between(&far, &template), None);
        assert_eq!(Similarity::between(&template[..1], &template), None);
    }

    #[test]
    fn a_shift_by_whole_pixels_copies() {
        let image = noise(9, 6, PixelFormat::Bgr8, 2);
        let shift = Similarity { a: 1.0, b: 0.0, dx: -2.0, dy: -1.0 };
        let mut out = vec![f32::NAN; 3 * 4 * 3];
        planes(&image, &shift, 4, 3, &mut out);
        for (channel, y, x) in [(0, 0, 0), (1, 2, 3), (2, 1, 2)] {
            let expected = f32::from(image.data()[3 * ((y + 1) * 9 + x + 2) + channel]);
            assert_eq!(out[channel * 12 + y * 4 + x], expected);
        }
    }

    #[test]
    fn a_quarter_turn_turns() {
        let image = noise(3, 3, PixelFormat::Gray8, 2);
        // (x, y) goes to (2 - y, x).
        let turn = Similarity { a: 0.0, b: 1.0, dx: 2.0, dy: 0.0 };
        let mut out = vec![f32::NAN; 27];
        planes(&image, &turn, 3, 3, &mut out);
        for y in 0..3 {
            for x in 0..3 {
                assert_eq!(out[x * 3 + (2 - y)], f32::from(image.data()[y * 3 + x]));
            }
        }
    }

    #[test]
    fn outside_is_black_and_halves_are_means() {
        let image = Image::new(2, 1, PixelFormat::Gray8, vec![100, 200]).unwrap();
        let shift = Similarity { a: 1.0, b: 0.0, dx: 0.5, dy: 0.0 };
        let mut out = vec![f32::NAN; 3 * 4];
        planes(&image, &shift, 4, 1, &mut out);
        assert_eq!(out[..4], [50.0, 150.0, 100.0, 0.0]);
        let far = Similarity { a: 1e-5, b: 0.0, dx: 1e12, dy: -1e12 };
        planes(&image, &far, 4, 1, &mut out);
        assert_eq!(out, [0.0; 12]);
    }
}
