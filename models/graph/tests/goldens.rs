//! Networks whose input is a picture as it is: the numbers of the original engine, through the plain interpreter.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use super::data;
use super::real::openvino_network;
use crate::graph::{Graph, reference};

/// Blue, green and red planes of a PNG, 0 to 255.
fn picture(path: &Path) -> Vec<f32> {
    let mut reader = png::Decoder::new(BufReader::new(File::open(path).unwrap())).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!((info.color_type, info.bit_depth), (png::ColorType::Rgb, png::BitDepth::Eight));
    (0..3)
        .rev()
        .flat_map(|channel| pixels.iter().skip(channel).step_by(3).map(|value| f32::from(*value)))
        .collect()
}

/// Runs the network on each picture that has numbers under this key; gives its name, its output and those numbers.
///
/// The numbers were computed with OpenVINO's default on their machine, which is 16-bit arithmetic (bf16): OpenVINO in
/// f32 differs from them by up to 0.055 for the embeddings and 4e-4 for the points.
fn pictures(network: &Graph, data: &Path, key: &str) -> Vec<(String, Vec<f32>, Vec<f32>)> {
    let text = std::fs::read_to_string(data.join("reference/goldens.json")).unwrap();
    let goldens: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut compared = Vec::new();
    for (name, golden) in goldens.as_object().unwrap() {
        let Some(expected) = golden.get(key).and_then(serde_json::Value::as_array) else { continue };
        let mut made = reference::run(network, &[&picture(&data.join("reference").join(name))]).unwrap();
        let expected: Vec<f32> = expected.iter().map(|value| value.as_f64().unwrap() as f32).collect();
        assert_eq!(made[0].len(), expected.len());
        compared.push((name.clone(), made.remove(0), expected));
    }
    assert!(compared.len() >= 3, "{} pictures for {key}", compared.len());
    compared
}

/// The first numbers are those that OpenVINO computes in f32.
#[track_caller]
fn exactly(compared: &[(String, Vec<f32>, Vec<f32>)], picture: &str, expected: [f32; 10]) {
    let (_, made, _) = compared.iter().find(|(name, _, _)| name.starts_with(picture)).unwrap();
    assert!(made.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-5), "{picture}: {:?}", &made[..10]);
}

#[test]
fn embeddings_of_faces() {
    let Some(data) = data() else { return };
    let network = openvino_network(&data, "face-reidentification-retail-0095", "FP16");
    let compared = pictures(&network, &data, "face-reidentification-retail-0095_raw256");
    for (name, made, expected) in &compared {
        let dot =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let cosine = dot(made, expected) / (dot(made, made) * dot(expected, expected)).sqrt();
        assert!(cosine >= 0.9995, "{name}: {cosine}");
    }
    exactly(
        &compared,
        "George_W_Bush_0001",
        [
            -1.434065, 0.606623, -1.515223, -0.157394, -0.354911, 0.182408, -1.413707, 0.511512, 0.434845,
            0.436648,
        ],
    );
    exactly(
        &compared,
        "Tony_Blair_0001",
        [
            1.569644, -1.052524, 0.7494, 0.213685, -1.678163, -0.22504, -0.691874, -0.298178, -0.109332,
            -0.696554,
        ],
    );
}

#[test]
fn points_of_faces() {
    let Some(data) = data() else { return };
    let network = openvino_network(&data, "landmarks-regression-retail-0009", "FP32");
    let compared = pictures(&network, &data, "landmarks-regression-retail-0009");
    for (name, made, expected) in &compared {
        assert!(made.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-3), "{name}: {made:?}");
    }
    exactly(
        &compared,
        "George_W_Bush_0001",
        [0.263831, 0.369377, 0.674634, 0.398558, 0.430116, 0.564327, 0.24984, 0.752249, 0.614031, 0.786583],
    );
    exactly(
        &compared,
        "Tony_Blair_0001",
        [0.146659, 0.394353, 0.518854, 0.372543, 0.227651, 0.552189, 0.212951, 0.79329, 0.56525, 0.768047],
    );
}
