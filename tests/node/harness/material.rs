//! Pictures, videos and files for the tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use meerkat_base::{Image, PixelFormat};
use meerkat_media::{ReadOptions, Reader};

/// A file of the test data that is not ours; `None`, with a line that says so, where it is missing (a failure when
/// `MEERKAT_REQUIRE_DATA` is set).
#[track_caller]
pub fn data(path: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("MEERKAT_TEST_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    let path = folder.join(path);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("MEERKAT_REQUIRE_DATA").is_none(), "{} is missing", path.display());
    println!("skipped: {} is missing", path.display());
    None
}

/// A colourful picture that differs with `seed`.
pub fn picture(width: u32, height: u32, seed: u32) -> Image {
    let mut pixels = Vec::with_capacity((width * height * 3) as usize);
    for y in 0..height {
        for x in 0..width {
            let shift = seed.wrapping_mul(37);
            pixels.extend([(x + shift) as u8, (y * 2 + shift) as u8, ((x ^ y) + seed) as u8]);
        }
    }
    Image::new(width, height, PixelFormat::Bgr8, pixels).unwrap()
}

/// The same as a JPEG.
pub fn jpeg(width: u32, height: u32, seed: u32) -> Vec<u8> {
    meerkat_vision::encode_jpeg(&picture(width, height, seed), 85).unwrap()
}

/// The first `limit` frames of a video, taking every `step`th, as JPEGs.
#[track_caller]
pub fn video_jpegs(path: &Path, step: usize, limit: usize) -> Vec<Vec<u8>> {
    let mut reader = Reader::open(path.to_str().unwrap(), ReadOptions::default()).unwrap();
    let mut jpegs = Vec::new();
    let mut number = 0;
    while jpegs.len() < limit {
        let Some((bytes, _)) = reader.next_jpeg(85).unwrap() else { break };
        if number % step == 0 {
            jpegs.push(bytes.to_vec());
        }
        number += 1;
    }
    jpegs
}

/// Calls something at a steady pace, as a camera sends; a late call is made up for by the next ones.
pub fn paced<T>(items: impl IntoIterator<Item = T>, interval: Duration, mut send: impl FnMut(T)) {
    let mut due = Instant::now();
    for item in items {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        send(item);
        due += interval;
    }
}

/// How the names of files end that lie beside clips.
const BESIDE_CLIPS: [&str; 3] = [".mp4.strip.jpg", ".mp4.json", ".mp4.proof"];

/// All files below a folder, sorted, without what lies beside clips and belongs to them (strips, sidecars, proofs); empty
/// where there is no such folder.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.map_while(Result::ok) {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(_)
                    if BESIDE_CLIPS.iter().any(|end| entry.file_name().to_string_lossy().ends_with(end)) => {}
                Ok(_) => files.push(entry.path()),
                Err(_) => {}
            }
        }
    }
    files.sort();
    files
}

/// What ffprobe, a program that is not ours, says of a video.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Name of the codec.
    pub codec: String,
    /// Name of the pixel format.
    pub pixels: String,
    /// Width in pixels.
    pub width: u64,
    /// Height in pixels.
    pub height: u64,
    /// Frames that can be decoded.
    pub frames: u64,
    /// Seconds.
    pub duration: f64,
    /// Presentation time of each frame, seconds.
    pub times: Vec<f64>,
}

/// Asks ffprobe, which decodes the whole video for it.
#[track_caller]
pub fn ffprobe(path: &Path) -> Probe {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v:0", "-count_frames", "-of", "json"])
        .args(["-show_entries", "stream=codec_name,pix_fmt,width,height,nb_read_frames:format=duration"])
        .args(["-show_entries", "frame=pts_time"])
        .arg(path)
        .output()
        .expect("ffprobe is installed");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "ffprobe {}: {complaints}", path.display());
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let stream = &said["streams"][0];
    let number = |value: &serde_json::Value| value.as_str().and_then(|text| text.parse::<f64>().ok());
    let frames = said["frames"].as_array().cloned().unwrap_or_default();
    Probe {
        codec: stream["codec_name"].as_str().unwrap_or_default().to_owned(),
        pixels: stream["pix_fmt"].as_str().unwrap_or_default().to_owned(),
        width: stream["width"].as_u64().unwrap_or(0),
        height: stream["height"].as_u64().unwrap_or(0),
        frames: number(&stream["nb_read_frames"]).unwrap_or(0.0) as u64,
        duration: number(&said["format"]["duration"]).unwrap_or(0.0),
        times: frames.iter().filter_map(|frame| number(&frame["pts_time"])).collect(),
    }
}
