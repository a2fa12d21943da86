//! Pictures brought to the size a network takes: bytes in, planes of f32 out, in one pass. Bilinear, bit for bit as
//! OpenCV's `INTER_LINEAR` computes it for bytes (half-pixel centres, weights of 11 bits), because the networks were
//! trained behind it. No aspect ratio and no network is known here.

use meerkat_base::{Image, PixelFormat, Rect};

/// Bits of a weight; OpenCV's `INTER_RESIZE_COEF_BITS`.
const WEIGHT_ONE: f32 = 2048.0;
/// Distance of the three colours within one u64: 255 * 2048 needs 19 bits.
const LANE: u32 = 21;

/// A rectangle of whole pixels that lies within a picture and has at least one pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crop {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

impl Crop {
    /// All of a picture.
    pub fn whole(image: &Image) -> Self {
        Self { x: 0, y: 0, width: image.width() as usize, height: image.height() as usize }
    }

    /// The pixels that a box covers, edges rounded to the nearest pixel and cut at the picture's edges; a box
    /// outside the picture gives the pixel nearest to it.
    pub fn of(bbox: &Rect, image: &Image) -> Self {
        let span = |from: f32, length: f32, limit: u32| {
            let limit = limit as usize;
            // A float beyond the range of usize, and NaN, are cut by `as`.
            let first = (from.round().max(0.0) as usize).min(limit - 1);
            let last = ((from + length).round().max(0.0) as usize).min(limit);
            (first, last.saturating_sub(first).max(1))
        };
        let (x, width) = span(bbox.x, bbox.width, image.width());
        let (y, height) = span(bbox.y, bbox.height, image.height());
        Self { x, y, width, height }
    }

    /// Its first pixel from the left and from the top.
    pub fn corner(&self) -> (usize, usize) {
        (self.x, self.y)
    }

    /// Width in pixels, at least 1.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels, at least 1.
    pub fn height(&self) -> usize {
        self.height
    }
}

/// Where in the network's input the picture goes: top left, the rest is padding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Canvas {
    /// Width of the input in pixels.
    pub width: usize,
    /// Height of the input in pixels.
    pub height: usize,
    /// Width of the picture within it, 1..=width.
    pub filled_width: usize,
    /// Height of the picture within it, 1..=height.
    pub filled_height: usize,
    /// Grey level of the rest, 0..=255.
    pub padding: f32,
}

impl Canvas {
    /// The picture fills the whole input.
    pub fn filled(width: usize, height: usize) -> Self {
        Self { width, height, filled_width: width, filled_height: height, padding: 0.0 }
    }

    /// The picture keeps its aspect ratio and is scaled to touch the input's right or lower edge, but not by more
    /// than `most`. Returns the scale as well: pixels of the input per pixel of the picture.
    pub fn letterbox(input: (usize, usize), picture: (usize, usize), most: f32, padding: f32) -> (Self, f32) {
        let (width, height) = input;
        let (from_width, from_height) = (picture.0.max(1) as f64, picture.1.max(1) as f64);
        let scale = (width as f64 / from_width).min(height as f64 / from_height).min(f64::from(most));
        let part = |from: f64, limit: usize| ((from * scale + 1e-6) as usize).clamp(1, limit.max(1));
        let canvas = Self {
            width,
            height,
            filled_width: part(from_width, width),
            filled_height: part(from_height, height),
            padding,
        };
        (canvas, scale as f32)
    }

    /// Values of all three planes.
    pub fn len(&self) -> usize {
        3 * self.width * self.height
    }

    /// There is not one pixel.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// For each place of the output the two places of the input it lies between, and their weights.
#[derive(Debug, Default)]
struct Axis {
    sizes: (usize, usize),
    taps: Vec<Tap>,
}

#[derive(Debug, Clone, Copy)]
struct Tap {
    first: u32,
    second: u32,
    /// The two weights, which sum up to 2048.
    weights: [u16; 2],
}

impl Axis {
    /// `edge_is_flat`: beyond the outermost centres the first weight is 1. It is what OpenCV does along x; along y it
    /// takes the outermost row twice, and its rounding differs.
    fn prepare(&mut self, from: usize, to: usize, edge_is_flat: bool) {
        if self.sizes == (from, to) {
            return;
        }
        self.sizes = (from, to);
        self.taps.clear();
        let scale = 1.0 / (to as f64 / from as f64);
        let last = from as i64 - 1;
        self.taps.extend((0..to).map(|place| {
            let exact = ((place as f64 + 0.5) * scale - 0.5) as f32;
            let floor = exact.floor();
            let (mut index, mut part) = (floor as i64, exact - floor);
            if edge_is_flat && (index < 0 || index >= last) {
                (index, part) = (index.clamp(0, last), 0.0);
            }
            let weight = |share: f32| (share * WEIGHT_ONE).round_ties_even() as u16;
            Tap {
                first: index.clamp(0, last) as u32,
                second: (index + 1).clamp(0, last) as u32,
                weights: [weight(1.0 - part), weight(part)],
            }
        }));
    }
}

/// One row of the input, already at the output's width: planes of 15-bit values.
#[derive(Debug, Default)]
struct Row {
    source: Option<usize>,
    values: Vec<u16>,
}

/// Scales pictures. Keeps its tables and rows from one picture to the next, so that equal sizes allocate nothing.
#[derive(Debug, Default)]
pub struct Resampler {
    across: Axis,
    down: Axis,
    rows: [Row; 2],
    spread: Vec<u64>,
}

impl Resampler {
    /// Writes the pixels of `crop`, scaled, as three planes (blue, green, red; 0..=255) into `out`, which has
    /// `canvas.len()` values. A grey picture gives three equal planes.
    ///
    /// # Panics
    /// When `out` has another length, or `canvas` is filled beyond its size: both come from the program.
    pub fn planes(&mut self, image: &Image, crop: Crop, canvas: &Canvas, out: &mut [f32]) {
        assert_eq!(out.len(), canvas.len(), "the slice has the size of the input");
        assert!(
            canvas.filled_width <= canvas.width && canvas.filled_height <= canvas.height,
            "within the input"
        );
        if out.is_empty() {
            return;
        }
        // A crop belongs to one picture; one of another picture is cut to this one.
        let whole = Crop::whole(image);
        let x = crop.x.min(whole.width - 1);
        let y = crop.y.min(whole.height - 1);
        let crop =
            Crop { x, y, width: crop.width.min(whole.width - x), height: crop.height.min(whole.height - y) };

        if (crop.width, crop.height) == (canvas.filled_width, canvas.filled_height) {
            copy(image, crop, canvas, out);
        } else {
            self.scale(image, crop, canvas, out);
        }
        pad(canvas, out);
    }

    fn scale(&mut self, image: &Image, crop: Crop, canvas: &Canvas, out: &mut [f32]) {
        let Self { across, down, rows, spread } = self;
        let width = canvas.filled_width;
        across.prepare(crop.width, width, true);
        down.prepare(crop.height, canvas.filled_height, false);
        let planes = image.format().channels();
        for row in rows.iter_mut() {
            row.source = None;
            row.values.resize(planes * width, 0);
        }
        let plane = canvas.width * canvas.height;
        for (place, tap) in down.taps.iter().enumerate() {
            let (first, second) = (tap.first as usize, tap.second as usize);
            if rows[0].source != Some(first) {
                rows.swap(0, 1);
            }
            for (row, source) in rows.iter_mut().zip([first, second]) {
                if row.source != Some(source) {
                    row.source = Some(source);
                    match image.format() {
                        PixelFormat::Bgr8 => {
                            stretch_colour(line(image, crop, source), &across.taps, spread, &mut row.values);
                        }
                        PixelFormat::Gray8 => {
                            stretch_gray(line(image, crop, source), &across.taps, &mut row.values);
                        }
                    }
                }
            }
            for channel in 0..3 {
                let from = if planes == 3 { channel * width } else { 0 };
                let to = channel * plane + place * canvas.width;
                blend(
                    &rows[0].values[from..from + width],
                    &rows[1].values[from..from + width],
                    tap.weights,
                    &mut out[to..to + width],
                );
            }
        }
    }
}

/// The bytes of one row of a crop.
fn line(image: &Image, crop: Crop, row: usize) -> &[u8] {
    let channels = image.format().channels();
    let begin = ((crop.y + row) * image.width() as usize + crop.x) * channels;
    &image.data()[begin..begin + crop.width * channels]
}

/// Interpolates one row of colour pixels. The three colours of a pixel travel in one u64, 21 bits apart, so that two
/// multiplications serve all of them.
fn stretch_colour(bytes: &[u8], taps: &[Tap], spread: &mut Vec<u64>, out: &mut [u16]) {
    spread.clear();
    spread.extend(bytes.as_chunks::<3>().0.iter().map(|&[blue, green, red]| {
        u64::from(blue) | u64::from(green) << LANE | u64::from(red) << (2 * LANE)
    }));
    let (blues, rest) = out.split_at_mut(taps.len());
    let (greens, reds) = rest.split_at_mut(taps.len());
    for (((tap, blue), green), red) in taps.iter().zip(blues).zip(greens).zip(reds) {
        let [a, b] = tap.weights;
        let sum = spread[tap.first as usize] * u64::from(a) + spread[tap.second as usize] * u64::from(b);
        // Each sum has 19 bits: without its lowest four it is what `as` leaves.
        *blue = (sum >> 4) as u16;
        *green = (sum >> (LANE + 4)) as u16;
        *red = (sum >> (2 * LANE + 4)) as u16;
    }
}

fn stretch_gray(bytes: &[u8], taps: &[Tap], out: &mut [u16]) {
    for (tap, value) in taps.iter().zip(out) {
        let [a, b] = tap.weights;
        let sum = u32::from(bytes[tap.first as usize]) * u32::from(a)
            + u32::from(bytes[tap.second as usize]) * u32::from(b);
        *value = (sum >> 4) as u16;
    }
}

/// Interpolates between two rows and rounds to whole grey levels.
fn blend(upper: &[u16], lower: &[u16], weights: [u16; 2], out: &mut [f32]) {
    let part = |value: u16, weight: u16| ((u32::from(value) * u32::from(weight)) >> 16) as u16;
    for ((value, &above), &below) in out.iter_mut().zip(upper).zip(lower) {
        // At most (1020 + 2) / 4.
        *value = f32::from((part(above, weights[0]) + part(below, weights[1]) + 2) >> 2);
    }
}

/// Splits the colours when nothing is to be scaled.
fn copy(image: &Image, crop: Crop, canvas: &Canvas, out: &mut [f32]) {
    let (blues, rest) = out.split_at_mut(canvas.width * canvas.height);
    let (greens, reds) = rest.split_at_mut(canvas.width * canvas.height);
    for row in 0..crop.height {
        let bytes = line(image, crop, row);
        let begin = row * canvas.width;
        let blue = &mut blues[begin..begin + crop.width];
        let green = &mut greens[begin..begin + crop.width];
        let red = &mut reds[begin..begin + crop.width];
        match image.format() {
            PixelFormat::Bgr8 => {
                let pixels = bytes.as_chunks::<3>().0;
                for (((pixel, blue), green), red) in pixels.iter().zip(blue).zip(green).zip(red) {
                    *blue = f32::from(pixel[0]);
                    *green = f32::from(pixel[1]);
                    *red = f32::from(pixel[2]);
                }
            }
            PixelFormat::Gray8 => {
                for (value, &byte) in blue.iter_mut().zip(bytes) {
                    *value = f32::from(byte);
                }
                green.copy_from_slice(blue);
                red.copy_from_slice(blue);
            }
        }
    }
}

/// Fills what the picture leaves free at the right and below.
fn pad(canvas: &Canvas, out: &mut [f32]) {
    for plane in out.chunks_exact_mut(canvas.width * canvas.height) {
        let (filled, below) = plane.split_at_mut(canvas.filled_height * canvas.width);
        if canvas.filled_width < canvas.width {
            for row in filled.chunks_exact_mut(canvas.width) {
                row[canvas.filled_width..].fill(canvas.padding);
            }
        }
        below.fill(canvas.padding);
    }
}

#[cfg(test)]
mod tests;
