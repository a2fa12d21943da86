//! What a frame of mode 3 costs: the decode alone is the floor; motion and guard should add little to it.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use meerkat_base::{Image, MonoTime, PixelFormat, Rect};
use meerkat_vision::{
    GrayPlane, Guard, GuardSettings, MotionDetector, MotionSettings, decode_gray, decode_gray_into,
    encode_jpeg,
};

/// A textured 640x480 picture that makes a JPEG of about 60 KB.
fn jpeg(seed: u32) -> Vec<u8> {
    let (width, height) = (640u32, 480u32);
    let mut noise = seed.wrapping_mul(2_654_435_761) | 1;
    let mut data = Vec::with_capacity((width * height * 3) as usize);
    for y in 0..height {
        for x in 0..width {
            noise ^= noise << 13;
            noise ^= noise >> 17;
            noise ^= noise << 5;
            let texture = ((x * x / 37 + y * 3) % 61) as i32 - 30 + ((x / 40 + y / 30) % 2 * 50) as i32;
            let grain = (noise % 17) as i32 - 8;
            let object = (280..360).contains(&x) && (220..320).contains(&y);
            let level = if object { 40 + grain } else { 110 + texture + grain };
            data.extend([level - 9, level, level + 7].map(|v| v.clamp(0, 255) as u8));
        }
    }
    let image = Image::new(width, height, PixelFormat::Bgr8, data).expect("the buffer has that size");
    encode_jpeg(&image, 68).expect("an ordinary picture")
}

fn benches(c: &mut Criterion) {
    let frames: Vec<Vec<u8>> = (1..=8).map(jpeg).collect();
    println!("JPEG of {} bytes", frames[0].len());
    let mut group = c.benchmark_group("mode3");
    let mut plane = GrayPlane::new();
    let mut n = 0usize;
    group.bench_function("decode_gray/4", |b| {
        b.iter(|| {
            n += 1;
            decode_gray_into(black_box(&frames[n % 8]), 4, &mut plane).expect("decodes");
        });
    });
    let mut motion = MotionDetector::new(MotionSettings::default()).expect("ordinary settings");
    group.bench_function("decode_gray/4 + motion", |b| {
        b.iter(|| {
            n += 1;
            decode_gray_into(black_box(&frames[n % 8]), 4, &mut plane).expect("decodes");
            motion.observe(&plane, at(n)).expect("ordinary plane")
        });
    });
    let zone = Some(Rect::new(0.35, 0.35, 0.3, 0.4));
    let mut guard = Guard::new(GuardSettings { zone, ..GuardSettings::default() });
    group.bench_function("decode_gray/4 + motion + guard", |b| {
        b.iter(|| {
            n += 1;
            decode_gray_into(black_box(&frames[n % 8]), 4, &mut plane).expect("decodes");
            (motion.observe(&plane, at(n)).expect("ordinary plane"), guard.observe(&plane, at(n)))
        });
    });
    let planes: Vec<GrayPlane> = frames.iter().map(|f| decode_gray(f, 4).expect("decodes")).collect();
    group.bench_function("motion alone", |b| {
        b.iter(|| {
            n += 1;
            motion.observe(black_box(&planes[n % 8]), at(n)).expect("ordinary plane")
        });
    });
    let state = guard.observe(&planes[0], at(n)).expect("ordinary plane").state;
    println!("the guard is {state:?}");
    group.bench_function("guard alone", |b| {
        b.iter(|| {
            n += 1;
            guard.observe(black_box(&planes[n % 8]), at(n)).expect("ordinary plane")
        });
    });
}

fn at(n: usize) -> MonoTime {
    MonoTime(n as u64 * 50_000_000)
}

criterion_group!(mode3, benches);
criterion_main!(mode3);
