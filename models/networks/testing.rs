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

/// Numbers as a broken network may give them: ordinary ones, huge ones, infinities and NaN.
pub(crate) fn odd_number() -> impl proptest::strategy::Strategy<Value = f32> {
    use proptest::prelude::*;
    prop_oneof![
        6 => -2.0f32..2.0,
        2 => 0.5f32..1.0,
        1 => -1e4f32..1e4,
        1 => prop_oneof![
            Just(f32::NAN), Just(f32::INFINITY), Just(f32::NEG_INFINITY), Just(f32::MAX), Just(-f32::MAX), Just(1e-40f32),
        ],
    ]
}

/// A box is finite, has an area and lies within the picture; the score is a certainty.
pub(crate) fn sound(bbox: &meerkat_base::Rect, score: f32, picture: (u32, u32)) -> bool {
    let meerkat_base::Rect { x, y, width, height } = *bbox;
    let slack = 1e-2;
    x >= 0.0
        && y >= 0.0
        && width > 0.0
        && height > 0.0
        && x + width <= picture.0 as f32 + slack
        && y + height <= picture.1 as f32 + slack
        && (0.0..=1.0).contains(&score)
}
