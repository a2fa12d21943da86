//! Throughput of every network on the first NVIDIA GPU: batches of 1, 8, 32 and 128, in f16 and f32, copies to the GPU
//! and back included. One JSON object per line, so that it can be laid beside what `benches/gpu_torch.py` prints on the
//! same card. Says so in one line where there is no GPU or no test data.
//!
//! `cargo bench -p meerkat-models --features cuda --bench gpu`

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use meerkat_models::device::{DeviceChoice, Precision};
use meerkat_models::engine::Engine;
use meerkat_models::graph::{Graph, onnx, openvino};

const NETWORKS: [(&str, &str); 9] = [
    ("person-detection-retail-0013", "FP32"),
    ("yolox-nano", "yolox_nano/yolox_nano.onnx"),
    ("face-detection-retail-0004", "FP32"),
    ("yunet-n-320", "yunet/yunet_n_320_320.onnx"),
    ("yunet-n-640", "yunet/yunet_n_640_640.onnx"),
    ("landmarks-regression-retail-0009", "FP32"),
    ("face-reidentification-retail-0095", "FP16"),
    ("age-gender-recognition-retail-0013", "FP16-INT8"),
    ("person-reidentification-retail-0277", "FP16"),
];

fn import(weights: &Path, name: &str, place: &str) -> Result<Graph, Box<dyn std::error::Error>> {
    if place.ends_with(".onnx") {
        return Ok(onnx::import(&std::fs::read(weights.join(place))?, &[])?);
    }
    let base = weights.join("openvino").join(name).join(place).join(name);
    let xml = std::fs::read_to_string(base.with_extension("xml"))?;
    Ok(openvino::import(&xml, &std::fs::read(base.with_extension("bin"))?, &[])?)
}

/// Median time of a run, after some that warm up.
fn median(engine: &mut Engine, batch: usize) -> Result<Duration, Box<dyn std::error::Error>> {
    let mut took = Vec::new();
    let began = Instant::now();
    for round in 0.. {
        let start = Instant::now();
        // The pictures are there already, as with anything that measures a network by itself.
        engine.run(batch, &mut |into| into[0] = round as f32)?;
        if round >= 5 {
            took.push(start.elapsed());
        }
        if took.len() >= 10 && (took.len() >= 200 || began.elapsed() > Duration::from_secs(2)) {
            break;
        }
    }
    took.sort_unstable();
    Ok(took[took.len() / 2])
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let data = std::env::var_os("MEERKAT_TEST_DATA").map_or_else(default, PathBuf::from);
    if !data.join("weights").is_dir() {
        eprintln!("skipped: no test data in {}", data.display());
        return Ok(());
    }
    if let Err(error) = meerkat_models::cuda::device(0) {
        eprintln!("skipped: cuda:0: {error}");
        return Ok(());
    }
    for (name, place) in NETWORKS {
        let graph = import(&data.join("weights"), name, place)?;
        for (precision, said) in [(Precision::F16, "f16"), (Precision::F32, "f32")] {
            let mut engine = Engine::load_as(graph.clone(), DeviceChoice::Cuda(0), precision)?;
            for batch in [1usize, 8, 32, 128] {
                let took = median(&mut engine, batch)?.as_secs_f64();
                let rate = batch as f64 / took;
                println!(
                    r#"{{"model":"{name}","engine":"meerkat","precision":"{said}","batch":{batch},"median_ms":{:.4},"pictures_per_second":{rate:.0}}}"#,
                    took * 1e3
                );
            }
        }
    }
    Ok(())
}
