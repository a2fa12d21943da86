//! Pictures and files that the tests make themselves.

use std::path::PathBuf;

use meerkat_base::{Image, PixelFormat};

/// A smooth colour picture that depends on `step`, so that frames differ.
pub(crate) fn picture(width: u32, height: u32, step: u32) -> Image {
    let mut data = Vec::with_capacity(width as usize * height as usize * 3);
    for y in 0..height {
        for x in 0..width {
            let wave = |phase: u32| (((x + y * 2 + step * 7 + phase) % 256) as i32 - 128).unsigned_abs() * 2;
            for phase in [0, 60, 120] {
                data.push(u8::try_from(wave(phase).min(255)).unwrap());
            }
        }
    }
    Image::new(width, height, PixelFormat::Bgr8, data).unwrap()
}

/// An uncompressed 24-bit bitmap.
pub(crate) fn bmp(image: &Image) -> Vec<u8> {
    let (width, height) = (image.width(), image.height());
    let row = width as usize * 3;
    let padding = (4 - row % 4) % 4;
    let pixels = (row + padding) * height as usize;
    let mut out = b"BM".to_vec();
    out.extend(u32::try_from(54 + pixels).unwrap().to_le_bytes());
    out.extend([0; 4]);
    out.extend(54u32.to_le_bytes());
    out.extend(40u32.to_le_bytes());
    out.extend(width.to_le_bytes());
    out.extend(height.to_le_bytes());
    out.extend([1, 0, 24, 0]);
    out.extend([0; 24]);
    for line in image.data().chunks(row).rev() {
        out.extend(line);
        out.extend(vec![0; padding]);
    }
    out
}

/// A grey PNG whose pixels are stored without compression.
pub(crate) fn png_gray(image: &Image) -> Vec<u8> {
    let mut raw = Vec::new();
    for line in image.data().chunks(image.width() as usize) {
        raw.push(0);
        raw.extend(line);
    }
    let length = u16::try_from(raw.len()).unwrap();
    let mut zlib = vec![0x78, 0x01, 0x01];
    zlib.extend(length.to_le_bytes());
    zlib.extend((!length).to_le_bytes());
    zlib.extend(&raw);
    let (mut a, mut b) = (1u32, 0u32);
    for &byte in &raw {
        a = (a + u32::from(byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    zlib.extend((b << 16 | a).to_be_bytes());
    let mut header = Vec::new();
    header.extend(image.width().to_be_bytes());
    header.extend(image.height().to_be_bytes());
    header.extend([8, 0, 0, 0, 0]);
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, body) in [(b"IHDR", header), (b"IDAT", zlib), (b"IEND", Vec::new())] {
        out.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        let start = out.len();
        out.extend(kind);
        out.extend(&body);
        let mut crc = u32::MAX;
        for &byte in &out[start..] {
            crc ^= u32::from(byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
            }
        }
        out.extend((!crc).to_be_bytes());
    }
    out
}

/// A file of the shared test data, or nothing where the folder is missing (which then is said).
pub(crate) fn shared(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("MEERKAT_TEST_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let path = folder.join(name);
    if path.exists() {
        return Some(path);
    }
    assert!(
        std::env::var_os("MEERKAT_REQUIRE_DATA").is_none(),
        "{} is missing and MEERKAT_REQUIRE_DATA is set",
        path.display()
    );
    eprintln!("skipped: {} is missing", path.display());
    None
}
