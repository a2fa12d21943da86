//! Where the test data is, and its pictures as the networks take them.

use std::path::{Path, PathBuf};

use meerkat_base::{Image, PixelFormat};
use meerkat_models::device::DeviceChoice;
use meerkat_models::networks::catalog;
use meerkat_models::networks::network::Network;
use meerkat_models::weights::Folder;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// The folder with the data; `None`, said in one line, where there is none.
pub fn folder() -> Option<PathBuf> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let folder = std::env::var_os("MEERKAT_TEST_DATA").map_or_else(default, PathBuf::from);
    if folder.join("weights").is_dir() {
        return Some(folder);
    }
    assert!(std::env::var_os("MEERKAT_REQUIRE_DATA").is_none(), "no test data in {}", folder.display());
    eprintln!("skipped: no test data in {}", folder.display());
    None
}

/// A network of the catalog on the CPU.
pub fn network(data: &Path, name: &str, size: Option<(usize, usize)>) -> Network {
    catalog::load(name, &Folder::new(data.join("weights")), DeviceChoice::Cpu, size).unwrap()
}

/// A PNG or JPEG in colour.
pub fn picture(path: &Path) -> Image {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if path.extension().is_some_and(|ending| ending == "png") {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.color_type, info.bit_depth), (png::ColorType::Rgb, png::BitDepth::Eight));
        pixels.chunks_exact_mut(3).for_each(|pixel| pixel.swap(0, 2));
        return Image::new(info.width, info.height, PixelFormat::Bgr8, pixels).unwrap();
    }
    let options = DecoderOptions::default().jpeg_set_out_colorspace(ColorSpace::BGR);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let pixels = decoder.decode().unwrap();
    let info = decoder.info().unwrap();
    Image::new(info.width.into(), info.height.into(), PixelFormat::Bgr8, pixels).unwrap()
}

/// `goldens.json`.
pub fn goldens(data: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(data.join("reference/goldens.json")).unwrap()).unwrap()
}

/// A list of numbers, or of lists of numbers, flattened.
pub fn numbers(value: &serde_json::Value) -> Vec<f32> {
    match value {
        serde_json::Value::Array(values) => values.iter().flat_map(numbers).collect(),
        number => vec![number.as_f64().unwrap() as f32],
    }
}

/// Files with this ending in a folder and the folders in it, in order of their names.
pub fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.extension().is_some_and(|own| own == ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}
