//! A small manifest whose files the tests make themselves.

use std::sync::LazyLock;

use super::digest::Digests;
use super::{FileEntry, Folder, Manifest};

/// Path and length in bytes of each file.
type Files = &'static [(&'static str, usize)];

/// Name, format and files of each network.
const NETWORKS: [(&str, &str, Files); 2] = [
    ("single", "onnx", &[("single/single.onnx", 5000)]),
    ("pair", "openvino", &[("pair/pair.xml", 300), ("pair/pair.bin", 70_000)]),
];

/// Networks `single` (ONNX) and `pair` (OpenVINO), without addresses.
pub(super) fn manifest() -> &'static Manifest {
    static MANIFEST: LazyLock<Manifest> = LazyLock::new(|| {
        let networks: Vec<String> = NETWORKS
            .iter()
            .map(|(name, format, files)| {
                let files: Vec<String> = files.iter().map(|(path, size)| entry(path, *size)).collect();
                format!(
                    r#"{{"name":"{name}","purpose":"tests","license":"MIT","origin":"https://example.org",
                    "format":"{format}","default":true,"files":[{}]}}"#,
                    files.join(",")
                )
            })
            .collect();
        Manifest::parse(&format!(r#"{{"networks":[{}]}}"#, networks.join(","))).unwrap()
    });
    &MANIFEST
}

fn entry(path: &str, size_bytes: usize) -> String {
    let digests = Digests::of(&mut &bytes(path, size_bytes)[..]).unwrap();
    format!(
        r#"{{"path":"{path}","size_bytes":{size_bytes},"sha256":"{}","sha384":"{}","address":null}}"#,
        digests.sha256, digests.sha384
    )
}

/// What a file of the manifest holds.
pub(super) fn content(file: &FileEntry) -> Vec<u8> {
    bytes(&file.path, usize::try_from(file.size_bytes).unwrap())
}

fn bytes(path: &str, size_bytes: usize) -> Vec<u8> {
    path.bytes().cycle().enumerate().map(|(at, byte)| byte ^ (at / 7) as u8).take(size_bytes).collect()
}

/// Puts the files of a network into a folder.
pub(super) fn lay_out(folder: &Folder, network: &str) {
    for file in &folder.manifest().get(network).unwrap().files {
        let path = folder.file_path(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content(file)).unwrap();
    }
}
