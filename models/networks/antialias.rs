//! The middle of a picture at another size, smoothed as Pillow's bilinear filter does: each pixel is a mean of all that
//! it covers, in whole grey levels after each of two passes, bit for bit. Networks trained behind torchvision's
//! transforms want it. No aspect ratio and no network is known here.

use meerkat_base::{Image, PixelFormat};

/// Bits of a weight: sums of bytes with weights that sum up to one stay within 31 bits.
const BITS: u32 = 22;

/// A part of one axis, scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Pixels of the picture.
    pub from: usize,
    /// Pixels that all of them would become.
    pub to: usize,
    /// First of these that is wanted.
    pub first: usize,
    /// How many are wanted; `first + count <= to`.
    pub count: usize,
}

/// Which pixels one pixel is made of, and with which weights.
#[derive(Debug, Clone, PartialEq)]
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

impl Span {
    /// The taps of each wanted pixel: a triangle around its centre, as wide as the pixel, at least two pixels.
    fn taps(&self) -> Vec<Taps> {
        let scale = self.from as f64 / self.to as f64;
        let reach = scale.max(1.0);
        let taps = |place: usize| {
            let centre = (place as f64 + 0.5) * scale;
            // `as` cuts what is negative to 0.
            let first = (centre - reach + 0.5) as usize;
            let end = ((centre + reach + 0.5) as usize).min(self.from);
            let triangle = |at: usize| (1.0 - ((at as f64 - centre + 0.5) / reach).abs()).max(0.0);
            let shares: Vec<f64> = (first..end).map(triangle).collect();
            let sum: f64 = shares.iter().sum();
            let weight = |share: &f64| (share / sum * f64::from(1 << BITS) + 0.5) as i32;
            Taps { first, weights: shares.iter().map(weight).collect() }
        };
        (self.first..self.first + self.count).map(taps).collect()
    }
}

/// Sums in 22 bits behind the point, rounded to a byte.
fn byte(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (BITS - 1);

/// Writes the wanted part of the scaled picture as three planes (blue, green, red; 0..=255, whole numbers) into
/// `out`, which has three times `across.count * down.count` values. A grey picture gives three equal planes.
///
/// # Panics
/// When `out` has another length, or the spans are not of this picture: both come from the program.
pub fn planes(image: &Image, across: Span, down: Span, out: &mut [f32]) {
    assert_eq!((across.from, down.from), (image.width() as usize, image.height() as usize), "its own size");
    assert_eq!(out.len(), 3 * across.count * down.count, "three planes");
    let channels = image.format().channels();
    let (columns, rows) = (across.taps(), down.taps());
    let (Some(top), Some(last)) = (rows.first(), rows.last()) else { return };
    let (top, end) = (top.first, last.first + last.weights.len());

    // First across, for the rows that are needed.
    let width = columns.len() * channels;
    let mut stretched = vec![0u8; (end - top) * width];
    let bytes_per_row = across.from * channels;
    let lines = image.data().chunks_exact(bytes_per_row).skip(top);
    for (line, made) in lines.zip(stretched.chunks_exact_mut(width)) {
        for (taps, pixel) in columns.iter().zip(made.chunks_exact_mut(channels)) {
            let mut sums = [HALF; 3];
            let covered = line[taps.first * channels..].chunks_exact(channels);
            for (colours, &weight) in covered.zip(&taps.weights) {
                for (sum, &colour) in sums.iter_mut().zip(colours) {
                    *sum += i32::from(colour) * weight;
                }
            }
            for (value, sum) in pixel.iter_mut().zip(sums) {
                *value = byte(sum);
            }
        }
    }

    let plane = across.count * down.count;
    let mut sums = vec![0; width];
    for (place, taps) in rows.iter().enumerate() {
        sums.fill(HALF);
        let lines = stretched.chunks_exact(width).skip(taps.first - top);
        for (line, &weight) in lines.zip(&taps.weights) {
            for (sum, &value) in sums.iter_mut().zip(line) {
                *sum += i32::from(value) * weight;
            }
        }
        for (at, pixel) in sums.chunks_exact(channels).enumerate() {
            for channel in 0..3 {
                let sum = match image.format() {
                    PixelFormat::Bgr8 => pixel[channel],
                    PixelFormat::Gray8 => pixel[0],
                };
                out[channel * plane + place * across.count + at] = f32::from(byte(sum));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::networks::testing::noise;

    fn whole(from: usize, to: usize) -> Span {
        Span { from, to, first: 0, count: to }
    }

    #[test]
    fn the_same_size_is_the_same_picture() {
        for format in [PixelFormat::Bgr8, PixelFormat::Gray8] {
            let image = noise(7, 5, format, 3);
            let mut out = vec![0.0; 3 * 35];
            planes(&image, whole(7, 7), whole(5, 5), &mut out);
            let channels = format.channels();
            for (at, pixel) in image.data().chunks_exact(channels).enumerate() {
                for channel in 0..3 {
                    assert_eq!(out[channel * 35 + at], f32::from(pixel[channel.min(channels - 1)]));
                }
            }
        }
    }

    #[test]
    fn a_part_is_a_part_of_the_whole() {
        let image = noise(50, 31, PixelFormat::Bgr8, 9);
        let mut all = vec![0.0; 3 * 20 * 44];
        planes(&image, whole(50, 20), whole(31, 44), &mut all);
        let mut part = vec![0.0; 3 * 5 * 7];
        let (across, down) =
            (Span { first: 9, count: 5, ..whole(50, 20) }, Span { first: 30, count: 7, ..whole(31, 44) });
        planes(&image, across, down, &mut part);
        for channel in 0..3 {
            for y in 0..7 {
                for x in 0..5 {
                    let wanted = all[channel * 880 + (y + 30) * 20 + x + 9];
                    assert_eq!(part[channel * 35 + y * 5 + x], wanted, "{channel} {x} {y}");
                }
            }
        }
    }

    #[test]
    fn one_colour_stays_and_a_pixel_becomes_everything() {
        let image = Image::new(1, 1, PixelFormat::Bgr8, vec![1, 128, 255]).unwrap();
        let mut out = vec![0.0; 3 * 300];
        planes(&image, whole(1, 30), whole(1, 10), &mut out);
        assert!(out[..300].iter().all(|&value| value == 1.0));
        assert!(out[300..600].iter().all(|&value| value == 128.0));
        assert!(out[600..].iter().all(|&value| value == 255.0));
    }

    type Size = (usize, usize);

    /// Width and height, the same after scaling, and the SHA-256 of what Pillow 9.4 makes of it
    /// (`scripts/googlenet_torchvision.py pillow`).
    const PILLOW: &[(Size, Size, &str)] = &[
        ((640, 480), (341, 256), "1d7ce7eb11ec4fff7969b303c92843a4a13ec131a47693df20dc9c97a9e4aaa9"),
        ((480, 640), (256, 341), "ee840da9804bf0d1c48a3d8f96dc4779feee280d514a1a31352888338d9bb3e1"),
        ((100, 375), (256, 960), "ac1ef06841b64a5e9b250db81bd7f59d5b7652034c6cae1ce2f80d833eff2694"),
        ((256, 256), (256, 256), "186232018e8817114177f6c600dc982580bdf1b6702d01f0400bd944e087c41a"),
        ((7, 3), (597, 256), "ba51999238620b65b4a87a0d2300956fbc6cfa2f3e0cc09f798bca157928de08"),
        ((1000, 37), (224, 8), "5091e06a498fa58b8fd98a58c34201cbb2c3bdc16845c1efaed8f84c4f8daec5"),
        ((801, 599), (342, 256), "eecc3b97db6d8d9307061b9a7d22640c112d109f01ea580a83767b1d123c6066"),
    ];

    #[test]
    fn pixels_are_those_of_pillow() {
        for &((width, height), to, digest) in PILLOW {
            let image = noise(width as u32, height as u32, PixelFormat::Bgr8, width as u32);
            let mut out = vec![0.0; 3 * to.0 * to.1];
            planes(&image, whole(width, to.0), whole(height, to.1), &mut out);
            let bytes: Vec<u8> = out.iter().map(|&value| value as u8).collect();
            let found: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(found, digest, "{width}x{height} to {to:?}");
        }
    }
}
