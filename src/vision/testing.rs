//! Made pictures for the tests of this room.

use std::path::{Path, PathBuf};

use meerkat_base::{Image, ImageWish, MonoTime, PixelFormat};

use crate::{GrayPlane, decode_image};

/// A small deterministic source of noise (xorshift).
pub(crate) struct Noise(u32);

impl Noise {
    pub(crate) fn new(seed: u32) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9) | 1)
    }

    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 % limit
    }

    /// Roughly normal with a standard deviation of `sigma`.
    pub(crate) fn grain(&mut self, sigma: f32) -> f32 {
        let sum: u32 = (0..4).map(|_| self.below(1001)).sum();
        (sum as f32 / 1000.0 - 2.0) * sigma * 1.73
    }
}

/// One level of grey.
pub(crate) fn gray(width: u32, height: u32, level: u8) -> Image {
    Image::new(width, height, PixelFormat::Gray8, vec![level; (width * height) as usize]).unwrap()
}

/// A colourful texture.
pub(crate) fn picture(width: u32, height: u32) -> Image {
    let mut data = Vec::new();
    for y in 0..height {
        for x in 0..width {
            data.extend([(x * 3 + y) as u8, (x ^ y) as u8, 128 + (y % 90) as u8]);
        }
    }
    Image::new(width, height, PixelFormat::Bgr8, data).unwrap()
}

/// A 160x120 plane of a 640x480 frame that tests paint in.
pub(crate) struct Canvas {
    pub(crate) levels: Vec<f32>,
}

pub(crate) const WIDTH: usize = 160;
pub(crate) const HEIGHT: usize = 120;

impl Canvas {
    /// A room: wall, table, some texture.
    pub(crate) fn room() -> Self {
        let mut levels = Vec::new();
        for y in 0..HEIGHT {
            for x in 0..WIDTH {
                let base = if y < 78 { 150.0 } else { 95.0 };
                let texture = ((x * 7 + y * 13) % 11) as f32 - 5.0 + (x as f32 / 12.0).sin() * 8.0;
                levels.push(base + texture);
            }
        }
        Self { levels }
    }

    /// Paints a patterned block; positions may be outside.
    pub(crate) fn block(mut self, x: i32, y: i32, width: i32, height: i32, level: f32) -> Self {
        for py in y.max(0)..(y + height).min(HEIGHT as i32) {
            for px in x.max(0)..(x + width).min(WIDTH as i32) {
                let pattern = f32::from(((px - x) / 4 + (py - y) / 5) as i16 % 3) * 9.0;
                self.levels[py as usize * WIDTH + px as usize] = level + pattern;
            }
        }
        self
    }

    /// Changes the light: `gain * level + offset`.
    pub(crate) fn lit(mut self, gain: f32, offset: f32) -> Self {
        for level in &mut self.levels {
            *level = *level * gain + offset;
        }
        self
    }

    /// The plane as a camera with some noise sees it.
    pub(crate) fn plane(&self, noise: &mut Noise, sigma: f32) -> GrayPlane {
        let seen = self.levels.iter().map(|l| (l + noise.grain(sigma)).round().clamp(0.0, 255.0) as u8);
        plane_of(WIDTH, HEIGHT, seen.collect())
    }
}

/// A plane of a frame four times its size.
pub(crate) fn plane_of(width: usize, height: usize, pixels: Vec<u8>) -> GrayPlane {
    let mut large = Vec::with_capacity(pixels.len() * 16);
    for row in pixels.chunks(width) {
        for _ in 0..4 {
            large.extend(row.iter().flat_map(|&p| [p; 4]));
        }
    }
    let image = Image::new(width as u32 * 4, height as u32 * 4, PixelFormat::Gray8, large).unwrap();
    GrayPlane::from_image(&image, 4).unwrap()
}

/// The time of the `n`-th frame at 10 frames per second.
pub(crate) fn at(n: u64) -> MonoTime {
    MonoTime(n * 100_000_000)
}

/// A folder of the shared test data; nothing, and a line that says so, where there is none.
pub(crate) fn data(part: &str) -> Option<PathBuf> {
    let root = match std::env::var_os("MEERKAT_TEST_DATA") {
        Some(set) => PathBuf::from(set),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
    };
    let folder = root.join(part);
    if folder.exists() {
        return Some(folder);
    }
    assert!(std::env::var_os("MEERKAT_REQUIRE_DATA").is_none(), "{} is required", folder.display());
    println!("skipped: {} is not there", folder.display());
    None
}

/// All JPEGs of a folder, by name, whole.
pub(crate) fn pictures_in(folder: &Path, format: PixelFormat) -> Vec<Image> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let wish = ImageWish { format, enough_width: u32::MAX };
    files.iter().map(|file| decode_image(&std::fs::read(file).unwrap(), wish).unwrap().0).collect()
}
