//! The real networks on a picture: against the executor of the CPU in f32, and how near f16 comes.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{devices, run};
use crate::cpu::Plan;
use crate::cpu::lanes::Isa;
use crate::device::Precision;
use crate::device_ops::OnDevice;
use crate::graph::{Graph, onnx, openvino};

fn data() -> Option<PathBuf> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let folder = std::env::var_os("MEERKAT_TEST_DATA").map_or_else(default, PathBuf::from);
    if folder.join("weights").is_dir() {
        return Some(folder);
    }
    assert!(std::env::var_os("MEERKAT_REQUIRE_DATA").is_none(), "no test data in {}", folder.display());
    eprintln!("skipped: no test data in {}", folder.display());
    None
}

fn from_openvino(data: &Path, name: &str, precision: &str) -> Graph {
    let base = data.join("weights/openvino").join(name).join(precision).join(name);
    let xml = std::fs::read_to_string(base.with_extension("xml")).unwrap();
    openvino::import(&xml, &std::fs::read(base.with_extension("bin")).unwrap(), &[]).unwrap()
}

fn from_onnx(data: &Path, path: &str) -> Graph {
    onnx::import(&std::fs::read(data.join("weights").join(path)).unwrap(), &[]).unwrap()
}

/// A picture of smooth patterns in 0..255, another one for each number.
fn picture(shape: &[usize], number: usize) -> Vec<f32> {
    let (h, w) = (shape[2], shape[3]);
    let mut values = Vec::with_capacity(3 * h * w);
    for c in 0..3 {
        for y in 0..h {
            for x in 0..w {
                let (y, x) = (y as f32 / h as f32 * 9.0, x as f32 / w as f32 * 7.0);
                let wave =
                    (x * (1.0 + c as f32 * 0.3) + number as f32).sin() * (y - number as f32 * 0.5).cos();
                values.push(127.5 + 127.0 * wave);
            }
        }
    }
    values
}

/// A PNG or JPEG, blue, green, red in 0..255, scaled by taking the nearest pixel.
fn photo(path: &Path, shape: &[usize]) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    let (pixels, width, height) = if path.extension().is_some_and(|ending| ending == "png") {
        let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!(info.color_type, png::ColorType::Rgb);
        (pixels, info.width as usize, info.height as usize)
    } else {
        let options = DecoderOptions::default().jpeg_set_out_colorspace(ColorSpace::RGB);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
        let pixels = decoder.decode().unwrap();
        let info = decoder.info().unwrap();
        (pixels, usize::from(info.width), usize::from(info.height))
    };
    let mut values = Vec::new();
    for c in [2, 1, 0] {
        for y in 0..shape[2] {
            for x in 0..shape[3] {
                let at = y * height / shape[2] * width + x * width / shape[3];
                values.push(f32::from(pixels[at * 3 + c]));
            }
        }
    }
    values
}

const FRAMES: [&str; 3] = ["reference/vtest_000.png", "reference/vtest_100.png", "reference/vtest_400.png"];
const FACES: [&str; 3] = [
    "faces/dlib/faces/2007_007763.jpg",
    "faces/dlib/faces/2008_002470.jpg",
    "faces/dlib/faces/2008_001009.jpg",
];

/// The CPU's executor on all pictures: for each output, all pictures.
fn on_cpu(graph: &Graph, pictures: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let mut plan = Plan::new(graph.clone(), Isa::best()).unwrap();
    let mut outputs: Vec<Vec<f32>> = vec![Vec::new(); graph.outputs.len()];
    let mut made = vec![0.0; plan.output_len()];
    for picture in pictures {
        plan.run(picture, &mut made);
        let mut rest = made.as_slice();
        for (id, output) in graph.outputs.iter().zip(&mut outputs) {
            let (own, after) = rest.split_at(graph.tensor(*id).len());
            output.extend_from_slice(own);
            rest = after;
        }
    }
    outputs
}

/// Compares a batch of two with the CPU's executor: f32 within `f32` of the largest value of an output, f16 within `f16`.
fn compare(name: &str, graph: &Graph, f32_tolerance: f32, f16_tolerance: f32) {
    let shape = graph.tensor(graph.inputs[0]).shape.clone();
    let pictures: Vec<Vec<f32>> = (0..2).map(|number| picture(&shape, number)).collect();
    let expected = on_cpu(graph, &pictures);
    for device in devices() {
        for (precision, tolerance) in [(Precision::F32, f32_tolerance), (Precision::F16, f16_tolerance)] {
            let mut network = OnDevice::load(graph.clone(), &device, precision).unwrap();
            let outputs = run(&mut network, graph, &pictures.concat());
            for (number, (got, want)) in outputs.iter().zip(&expected).enumerate() {
                assert_eq!(got.len(), want.len());
                let scale = want.iter().fold(1e-3f32, |most, v| most.max(v.abs()));
                let worst = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max) / scale;
                println!("{name} {device:?} {precision:?} output {number}: {worst:.6} of {scale}");
                assert!(
                    worst <= tolerance,
                    "{name} {device:?} {precision:?} output {number}: {worst} of {scale}"
                );
            }
        }
    }
}

#[test]
fn embedders_and_small_networks() {
    let Some(data) = data() else { return };
    for (name, precision) in [
        ("landmarks-regression-retail-0009", "FP32"),
        ("face-reidentification-retail-0095", "FP16"),
        ("age-gender-recognition-retail-0013", "FP16-INT8"),
        ("person-reidentification-retail-0277", "FP16"),
    ] {
        compare(name, &from_openvino(&data, name, precision), 1e-3, 0.05);
    }
}

/// A detection: image, label, score, corners.
type Row = [f32; 7];

/// Rows of one picture at or above a score.
fn rows(list: &[f32], score: f32) -> Vec<Row> {
    let rows = list.as_chunks::<7>().0.iter().take_while(|row| row[0] >= 0.0);
    rows.filter(|row| row[2] >= score).copied().collect()
}

/// Every row of `some` that is surely above 0.3 is among `others`, at most `near` away.
fn contained(some: &[Row], others: &[Row], near: f32) {
    for row in some.iter().filter(|row| row[2] >= 0.3 + near) {
        let same = |other: &&Row| {
            row[1] == other[1] && row[2..].iter().zip(&other[2..]).all(|(a, b)| (a - b).abs() <= near)
        };
        assert!(others.iter().any(|other| same(&other)), "{row:?} is not among {others:?}");
    }
}

/// Lists of detections in the same order are not to be had in f16; the same detections are.
#[test]
fn detectors() {
    let Some(data) = data() else { return };
    for (name, photos) in [("person-detection-retail-0013", FRAMES), ("face-detection-retail-0004", FACES)] {
        let graph = from_openvino(&data, name, "FP32");
        let shape = graph.tensor(graph.inputs[0]).shape.clone();
        let frames = photos.map(|file| photo(&data.join(file), &shape));
        let len = graph.tensor(graph.outputs[0]).len();
        let expected = on_cpu(&graph, &frames);
        for device in devices() {
            for (precision, near) in [(Precision::F32, 1e-4), (Precision::F16, 0.01)] {
                let mut network = OnDevice::load(graph.clone(), &device, precision).unwrap();
                let lists = run(&mut network, &graph, &frames.concat());
                for (list, expected) in lists[0].chunks_exact(len).zip(expected[0].chunks_exact(len)) {
                    let (list, expected) = (rows(list, 0.3 - near), rows(expected, 0.3 - near));
                    assert!(!expected.is_empty(), "{name}: nothing to compare");
                    contained(&list, &expected, near);
                    contained(&expected, &list, near);
                }
            }
        }
    }
}

#[test]
fn yolox_and_yunet() {
    let Some(data) = data() else { return };
    for file in ["yolox_nano/yolox_nano.onnx", "yunet/yunet_n_320_320.onnx"] {
        compare(file, &from_onnx(&data, file), 1e-3, 0.05);
    }
}

/// Where YOLOX is sure of an object: certainty within 0.02, centres within a tenth of a cell, sizes within 2 %.
#[test]
fn objects_of_yolox() {
    let Some(data) = data() else { return };
    let graph = from_onnx(&data, "yolox_nano/yolox_nano.onnx");
    let shape = graph.tensor(graph.inputs[0]).shape.clone();
    let frames = FRAMES.map(|file| photo(&data.join(file), &shape));
    let expected = on_cpu(&graph, &frames);
    for device in devices() {
        let mut network = OnDevice::load(graph.clone(), &device, Precision::F16).unwrap();
        let made = run(&mut network, &graph, &frames.concat());
        let mut compared = 0;
        for (got, want) in made[0].chunks_exact(85).zip(expected[0].chunks_exact(85)) {
            let score = |row: &[f32]| row[4] * row[5..].iter().fold(0.0f32, |most, v| most.max(*v));
            assert!((score(got) - score(want)).abs() <= 0.02, "{} instead of {}", score(got), score(want));
            if score(want) < 0.2 {
                continue;
            }
            compared += 1;
            for (i, near) in [(0, 0.1), (1, 0.1), (2, 0.02), (3, 0.02)] {
                assert!((got[i] - want[i]).abs() <= near, "{:?} instead of {:?}", &got[..4], &want[..4]);
            }
        }
        assert!(compared > 20, "{compared} objects compared");
    }
}
