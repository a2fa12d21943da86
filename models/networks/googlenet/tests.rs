//! The network against torchvision's, on weights that a formula makes on both sides
//! (`scripts/googlenet_torchvision.py`), so that nothing large has to lie here.

use candle_core::DType;
use meerkat_base::PixelFormat;

use super::*;
use crate::device::DeviceChoice;
use crate::networks::network::Network;
use crate::networks::resample::{Canvas, Crop, Resampler};
use crate::networks::testing::noise;

#[test]
fn it_has_the_parameters_of_the_original() {
    let all = expected(imagenet::CLASSES);
    let trained = all.iter().filter(|(name, _)| !name.contains("running_"));
    // torchvision publishes this number.
    assert_eq!(trained.map(|(_, shape)| shape.iter().product::<usize>()).sum::<usize>(), 6_624_904);
    let unique: std::collections::HashSet<_> = all.iter().map(|(name, _)| name).collect();
    assert_eq!(unique.len(), all.len());
    for pair in BLOCKS.windows(2) {
        let made = pair[0].branch1 + pair[0].branch2[1] + pair[0].branch3[1] + pair[0].branch4;
        assert_eq!(made, pair[1].reads, "{}", pair[1].name);
    }
}

#[test]
fn pools_reach_every_pixel() {
    // As a pool that rounds up: 112 pixels become 56, the last window has two of them.
    for (length, side, after) in
        [(112, 3, 1), (56, 3, 1), (28, 3, 1), (14, 2, 0), (13, 2, 1), (3, 3, 0), (1, 3, 2)]
    {
        assert_eq!(rounding_up(length, side), after, "{length} by {side}");
        assert_eq!((length + after - side) % 2, 0);
    }
}

/// Numbers of 0 to 1 that depend on a name: FNV-1a of it, then the finaliser of MurmurHash3 over a counter.
fn shares(name: &str, count: usize) -> impl Iterator<Item = f64> {
    let seed =
        name.bytes().fold(0x811C_9DC5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (0..count as u32).map(move |number| {
        let mut mixed = number.wrapping_add(seed).wrapping_mul(0x9E37_79B1);
        for (shift, factor) in [(16, 0x85EB_CA6B), (13, 0xC2B2_AE35), (16, 1)] {
            mixed = (mixed ^ (mixed >> shift)).wrapping_mul(factor);
        }
        f64::from(mixed >> 8) / f64::from(1 << 24)
    })
}

fn weight(name: &str, shape: &[usize]) -> Tensor {
    let bound = || (6.0 / shape[1..].iter().product::<usize>() as f64).sqrt();
    let (scale, shift) = match name {
        _ if name.ends_with("running_var") || name.ends_with("bn.weight") => (1.0, 0.5),
        _ if name.ends_with("bn.bias") || name.ends_with("running_mean") || name.starts_with("fc.") => {
            (1.0, -0.5)
        }
        _ => (2.0 * bound(), -bound()),
    };
    let values: Vec<f32> =
        shares(name, shape.iter().product()).map(|share| (share * scale + shift) as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn made() -> GoogLeNet {
    let tensors =
        expected(imagenet::CLASSES).into_iter().map(|(name, shape)| (name.clone(), weight(&name, &shape)));
    let tensors: HashMap<_, _> = tensors.collect();
    GoogLeNet::of_tensors(check(&tensors).unwrap(), tensors).unwrap()
}

#[derive(serde::Deserialize)]
struct Torchvision {
    logits: Vec<f32>,
}

/// The largest difference as a share of the logits' own deviation.
fn apart(found: &[f32], wanted: &[f32]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    let mean = wanted.iter().copied().map(f64::from).sum::<f64>() / wanted.len() as f64;
    let variance = wanted.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>();
    let deviation = (variance / wanted.len() as f64).sqrt();
    let largest = found.iter().zip(wanted).map(|(a, b)| f64::from(a - b).abs()).fold(0.0, f64::max);
    largest / deviation
}

#[test]
fn logits_are_those_of_torchvision() {
    let wanted: Torchvision = serde_json::from_str(include_str!("torchvision.json")).unwrap();
    let network = made();
    let image = noise(SIDE as u32, SIDE as u32, PixelFormat::Bgr8, 1);

    // As torchvision has it: red, green, blue, less the mean, by the deviation.
    let pixels = image.data().as_chunks::<3>().0;
    let input: Vec<f32> = (0..3)
        .flat_map(|channel| {
            let (mean, deviation) = (MEAN[channel] as f32, DEVIATION[channel] as f32);
            pixels.iter().map(move |pixel| (f32::from(pixel[2 - channel]) / 255.0 - mean) / deviation)
        })
        .collect();
    let input = Tensor::from_vec(input, (1, 3, SIDE, SIDE), &Device::Cpu).unwrap();
    let module = network.forward(&input).unwrap();
    assert_eq!((module.dims(), module.dtype()), (&[1, imagenet::CLASSES][..], DType::F32));
    let module = module.flatten_all().unwrap().to_vec1::<f32>().unwrap();

    // As the program runs it: the picture itself.
    let mut planned = Network::new("made", "", network.graph().unwrap(), DeviceChoice::Cpu).unwrap();
    let mut graph = Vec::new();
    let planes_of = |image, planes: &mut [f32]| {
        Resampler::default().planes(image, Crop::whole(image), &Canvas::filled(SIDE, SIDE), planes);
    };
    planned
        .run(1, |_, planes| planes_of(&image, planes), |_, (), outputs| graph = outputs[0].to_vec())
        .unwrap();

    let (of_module, of_graph) = (apart(&module, &wanted.logits), apart(&graph, &wanted.logits));
    println!("of a deviation apart: candle-nn {of_module:.1e}, planned {of_graph:.1e}");
    assert!(of_module < 1e-4, "candle-nn: {of_module:.1e}");
    assert!(of_graph < 1e-4, "planned: {of_graph:.1e}");
}
