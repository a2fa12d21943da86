//! Tests of the resampler: against known values, odd sizes and every way of filling.

use super::*;
use crate::networks::testing::noise;

/// The picture as bytes row by row, as OpenCV keeps it.
fn interleaved(planes: &[f32], width: usize, height: usize, channels: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for pixel in 0..width * height {
        for channel in 0..channels {
            let value = planes[channel * width * height + pixel];
            assert!((0.0..=255.0).contains(&value) && value.fract() == 0.0, "{value}");
            bytes.push(value as u8);
        }
    }
    bytes
}

fn scaled(image: &Image, width: usize, height: usize) -> Vec<f32> {
    let canvas = Canvas::filled(width, height);
    let mut planes = vec![f32::NAN; canvas.len()];
    Resampler::default().planes(image, Crop::whole(image), &canvas, &mut planes);
    planes
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Checksums of what OpenCV's `resize` (`INTER_LINEAR`) makes of the same pictures.
#[test]
fn scaling_is_bit_for_bit_opencvs() {
    let check = |from: (u32, u32), to: (usize, usize), format: PixelFormat, expected: u64| {
        let image = noise(from.0, from.1, format, 7);
        let bytes = interleaved(&scaled(&image, to.0, to.1), to.0, to.1, format.channels());
        assert_eq!(fnv1a(&bytes), expected, "{from:?} to {to:?}");
    };
    use PixelFormat::{Bgr8, Gray8};
    check((64, 48), (54, 32), Bgr8, 0x8c7f_f4e9_3098_153d);
    check((37, 23), (80, 61), Bgr8, 0xe450_3e32_3879_10ef);
    check((31, 57), (31, 20), Bgr8, 0x22ba_ac91_66c1_3b33);
    check((17, 5), (9, 13), Gray8, 0x1381_21c0_3c17_5271);
    check((64, 48), (32, 24), Bgr8, 0x1e5c_8027_93f4_8a53);
    check((1, 1), (7, 3), Bgr8, 0x4c04_0727_430e_821d);
    check((200, 3), (5, 40), Bgr8, 0x1aad_d3aa_f842_91dd);
    check((3, 2), (6, 4), Bgr8, 0x0d31_5a8f_d7c7_b10b);
}

#[test]
fn a_resampler_that_saw_other_sizes_gives_the_same() {
    let mut used = Resampler::default();
    for (width, height, to) in
        [(64, 48, (54, 32)), (20, 90, (54, 32)), (64, 48, (10, 70)), (64, 48, (54, 32))]
    {
        let image = noise(width, height, PixelFormat::Bgr8, width ^ height);
        let canvas = Canvas::filled(to.0, to.1);
        let mut planes = vec![f32::NAN; canvas.len()];
        used.planes(&image, Crop::whole(&image), &canvas, &mut planes);
        assert_eq!(planes, scaled(&image, to.0, to.1));
    }
}

#[test]
fn equal_size_is_a_copy_with_the_colours_apart() {
    let image = noise(7, 5, PixelFormat::Bgr8, 3);
    assert_eq!(interleaved(&scaled(&image, 7, 5), 7, 5, 3), image.data());
}

#[test]
fn gray_becomes_three_equal_planes() {
    for (width, height) in [(9, 7), (12, 3)] {
        let image = noise(9, 7, PixelFormat::Gray8, 5);
        let planes = scaled(&image, width, height);
        let (first, rest) = planes.split_at(width * height);
        let (second, third) = rest.split_at(width * height);
        assert!(first == second && second == third);
    }
}

#[test]
fn padding_lies_right_and_below() {
    let image = noise(8, 4, PixelFormat::Bgr8, 1);
    let (canvas, scale) = Canvas::letterbox((16, 12), (8, 4), f32::INFINITY, 114.0);
    assert_eq!((canvas.filled_width, canvas.filled_height, scale), (16, 8, 2.0));
    let mut planes = vec![f32::NAN; canvas.len()];
    Resampler::default().planes(&image, Crop::whole(&image), &canvas, &mut planes);
    let expected = scaled(&image, 16, 8);
    for channel in 0..3 {
        let plane = &planes[channel * 192..(channel + 1) * 192];
        assert_eq!(plane[..128], expected[channel * 128..(channel + 1) * 128]);
        assert!(plane[128..].iter().all(|&value| value == 114.0));
    }

    let (canvas, scale) = Canvas::letterbox((16, 12), (5, 6), 1.0, 0.0);
    assert_eq!((canvas.filled_width, canvas.filled_height, scale), (5, 6, 1.0));
    let image = noise(5, 6, PixelFormat::Bgr8, 1);
    let mut planes = vec![f32::NAN; canvas.len()];
    Resampler::default().planes(&image, Crop::whole(&image), &canvas, &mut planes);
    assert_eq!(planes[..5], scaled(&image, 5, 6)[..5]);
    assert!(planes[5..16].iter().all(|&value| value == 0.0));
    assert!(planes.iter().all(|value| value.is_finite()));
}

#[test]
fn letterboxes_of_odd_pictures_have_a_pixel() {
    for picture in [(1, 1), (1, 100_000), (100_000, 1), (u32::MAX as usize, 1)] {
        for most in [1.0, f32::INFINITY] {
            let (canvas, scale) = Canvas::letterbox((416, 416), picture, most, 0.0);
            assert!((1..=416).contains(&canvas.filled_width), "{canvas:?}");
            assert!((1..=416).contains(&canvas.filled_height), "{canvas:?}");
            assert!(scale > 0.0 && scale.is_finite());
        }
    }
}

#[test]
fn a_crop_is_scaled_as_if_it_were_alone() {
    let image = noise(20, 16, PixelFormat::Bgr8, 11);
    let crop = Crop::of(&Rect::new(3.2, 4.6, 8.0, 7.0), &image);
    assert_eq!(crop, Crop { x: 3, y: 5, width: 8, height: 7 });
    let mut bytes = Vec::new();
    for y in 5..12 {
        bytes.extend_from_slice(&image.data()[(y * 20 + 3) * 3..(y * 20 + 11) * 3]);
    }
    let alone = Image::new(8, 7, PixelFormat::Bgr8, bytes).unwrap();
    let canvas = Canvas::filled(12, 10);
    let mut planes = vec![f32::NAN; canvas.len()];
    Resampler::default().planes(&image, crop, &canvas, &mut planes);
    assert_eq!(planes, scaled(&alone, 12, 10));
}

#[test]
fn crops_stay_within_the_picture() {
    let image = noise(20, 16, PixelFormat::Bgr8, 11);
    let wild = [-1e30, -7.0, -0.4, 0.0, 3.5, 19.6, 25.0, 1e30, f32::NAN, f32::INFINITY];
    for x in wild {
        for width in wild {
            let bbox = Rect { x, y: width, width, height: x };
            let crop = Crop::of(&bbox, &image);
            assert!(crop.width >= 1 && crop.x + crop.width <= 20, "{bbox:?} {crop:?}");
            assert!(crop.height >= 1 && crop.y + crop.height <= 16, "{bbox:?} {crop:?}");
        }
    }
}

#[test]
fn a_crop_of_another_picture_is_cut() {
    let large = noise(50, 40, PixelFormat::Bgr8, 1);
    let small = noise(4, 3, PixelFormat::Bgr8, 1);
    let crop = Crop::of(&Rect::new(10.0, 10.0, 30.0, 30.0), &large);
    let canvas = Canvas::filled(6, 6);
    let mut planes = vec![f32::NAN; canvas.len()];
    Resampler::default().planes(&small, crop, &canvas, &mut planes);
    assert!(planes.iter().all(|value| (0.0..=255.0).contains(value)));
}
