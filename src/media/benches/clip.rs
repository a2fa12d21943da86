//! What a clip costs: per frame (JPEG decode, scaling, H.264, file) in time, per writer in memory.
//! Run with `cargo bench -p meerkat-media`. The figures go to docs/benchmarks.md by hand.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion};
use meerkat_base::{Image, ImageFormat, PixelFormat};
use meerkat_media::{ClipSettings, ClipSize, ClipWriter, JpegEncoder, PictureDecoder, Preset, Pushed};

/// A textured room with sensor noise in which a block moves, as JPEGs of quality 85.
fn scene(width: u32, height: u32, frames: u32) -> Vec<Bytes> {
    let mut state = 1u32;
    let mut random = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 24
    };
    let texture: Vec<u32> =
        (0..width * height).map(|at| (at % width) / 8 + (at / width) / 6 + random() / 8).collect();
    let mut encoder = JpegEncoder::new(85);
    let draw = |step: u32| {
        let mut data = Vec::with_capacity(texture.len() * 3);
        for (at, level) in (0..).zip(&texture) {
            let (x, y) = (at % width, at / width);
            let inside =
                x.wrapping_sub(step * 4 % width) < width / 8 && y.wrapping_sub(height / 3) < height / 3;
            let base = if inside { 200 - (x % 16) * 4 } else { level + 40 };
            for _ in 0..3 {
                data.push(u8::try_from((base + random() / 64).min(255)).expect("at most 255"));
            }
        }
        Image::new(width, height, PixelFormat::Bgr8, data).expect("one pixel for each")
    };
    (0..frames)
        .map(draw)
        .collect::<Vec<_>>()
        .iter()
        .map(|image| encoder.encode(image).expect("a JPEG"))
        .collect()
}

fn writer(folder: &Path, name: &str, preset: Preset) -> ClipWriter {
    let settings = ClipSettings { size: ClipSize::AsReceived, preset, ..ClipSettings::default() };
    let path = folder.join(name);
    let _ = std::fs::remove_file(&path);
    ClipWriter::create(&path, settings).expect("a new clip")
}

fn push(writer: &mut ClipWriter, frames: &[Bytes], step: usize) {
    let at = Duration::from_millis(50 * step as u64);
    let pushed =
        writer.push(&frames[step % frames.len()], ImageFormat::Jpeg, at).expect("a clip that goes on");
    assert_eq!(pushed, Pushed::Encoded);
}

/// Anonymous memory of this process in KiB.
fn anonymous_kib() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// Processor time of this thread in nanoseconds: unlike the wall clock it means something on a busy machine.
fn processor_nanos() -> Option<u64> {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    times.split(' ').next()?.parse().ok()
}

fn writers(folder: &Path) {
    const WRITERS: i64 = 8;
    for (width, height) in [(640, 480), (768, 576), (1920, 1080)] {
        let frames = scene(width, height, 20);
        let Some(before) = anonymous_kib() else { return };
        let mut writers: Vec<ClipWriter> = Vec::new();
        for index in 0..WRITERS {
            writers.push(writer(folder, &format!("memory{index}.mp4"), Preset::Veryfast));
        }
        let started = processor_nanos();
        for step in 0..100 {
            for writer in &mut writers {
                push(writer, &frames, step);
            }
        }
        let Some(after) = anonymous_kib() else { return };
        let spent = processor_nanos().zip(started).map_or(0, |(now, then)| now - then);
        println!(
            "{width}x{height}, JPEGs of {} bytes, veryfast: {} KiB anonymous memory per writer, {:.2} ms of processor per frame",
            frames[0].len(),
            (after - before) / WRITERS,
            spent as f64 / 1e6 / (100 * WRITERS) as f64,
        );
    }
}

fn costs(criterion: &mut Criterion, folder: &Path) {
    for (width, height) in [(640, 480), (768, 576)] {
        let frames = scene(width, height, 60);
        let bytes: usize = frames.iter().map(Bytes::len).sum();
        let size = format!("{width}x{height}");
        println!("{size}: {} bytes per JPEG", bytes / frames.len());
        let mut group = criterion.benchmark_group("clip");
        for preset in [Preset::Ultrafast, Preset::Veryfast] {
            let mut writer = writer(folder, &format!("{preset}{size}.mp4"), preset);
            let mut step = 0;
            group.bench_function(BenchmarkId::new(format!("push_{preset}"), &size), |bencher| {
                bencher.iter(|| {
                    push(&mut writer, &frames, step);
                    step += 1;
                });
            });
        }
        let mut decoder = PictureDecoder::new();
        group.bench_function(BenchmarkId::new("decode_bgr", &size), |bencher| {
            bencher.iter(|| black_box(decoder.decode(&frames[0], ImageFormat::Jpeg, PixelFormat::Bgr8)));
        });
        let image = decoder.decode(&frames[0], ImageFormat::Jpeg, PixelFormat::Bgr8).expect("a picture");
        let mut encoder = JpegEncoder::new(85);
        group.bench_function(BenchmarkId::new("encode_jpeg", &size), |bencher| {
            bencher.iter(|| black_box(encoder.encode(&image)));
        });
        group.finish();
    }
}

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    writers(folder.path());
    let mut criterion = Criterion::default().configure_from_args();
    costs(&mut criterion, folder.path());
    criterion.final_summary();
}
