//! Pictures made from numbers, for tests.

use meerkat_base::{Image, PixelFormat};

/// A picture of pseudo-random bytes: the upper 8 bits of a linear congruential generator.
pub(crate) fn noise(width: u32, height: u32, format: PixelFormat, seed: u32) -> Image {
    let mut state = seed;
    let len = width as usize * height as usize * format.channels();
    let data = (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    Image::new(width, height, format, data).expect("the length fits")
}
