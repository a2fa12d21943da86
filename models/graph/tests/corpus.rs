//! The seeds of the fuzz targets for the importers: they replay, and are what the tests here make.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::importers;
use crate::graph::onnx::tests::seeds as onnx;
use crate::graph::openvino::tests::seeds as openvino;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus").join(target)
}

/// Seeds in the repository; other files there are what the fuzzer found on this machine.
fn stored(target: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder(target)).unwrap().map(|entry| entry.unwrap());
    let named = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path()));
    named
        .filter(|(name, _)| name.starts_with("seed-"))
        .map(|(name, path)| (name, fs::read(path).unwrap()))
        .collect()
}

#[test]
fn the_corpus_replays() {
    for (target, replay, seeds) in
        [("onnx", importers::onnx as fn(&[u8]), onnx()), ("openvino", importers::openvino, openvino())]
    {
        let stored = stored(target);
        stored.values().for_each(|seed| replay(seed));
        assert!(
            stored == seeds,
            "{target}: run cargo test -p meerkat-models -- --ignored write_importer_seeds"
        );
    }
}

#[test]
fn state_dicts_of_the_corpus_replay() {
    let stored = stored("torch");
    assert!(stored.len() >= 4);
    stored.values().for_each(|seed| importers::torch(seed));
}

/// To be run by hand when the tests of operators change.
#[test]
#[ignore = "writes files"]
fn write_importer_seeds() {
    for (target, seeds) in [("onnx", onnx()), ("openvino", openvino())] {
        for name in stored(target).keys() {
            fs::remove_file(folder(target).join(name)).unwrap();
        }
        for (name, bytes) in seeds {
            fs::write(folder(target).join(name), bytes).unwrap();
        }
    }
}
