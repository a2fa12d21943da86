//! The models folder: where it is, what is found in it, and the real weights where they are.

use std::sync::LazyLock;

use super::*;
use crate::weights::{Incoming, testing};

#[test]
fn the_variable_goes_before_the_settings_and_these_before_the_data_folder() {
    let path = |variable: Option<&str>, configured: Option<&str>| {
        folder_path(variable.map(OsString::from), configured.map(Path::new), Path::new("data"))
    };
    assert_eq!(path(Some("/v"), Some("/s")), Path::new("/v"));
    assert_eq!(path(None, Some("/s")), Path::new("/s"));
    assert_eq!(path(Some(""), None), Path::new("data/models"));
}

#[test]
fn files_are_present_missing_or_damaged() {
    let manifest = testing::manifest();
    let temp = tempfile::tempdir().unwrap();
    let folder = Folder::with_manifest(temp.path().join("not/there"), manifest);
    let pair = manifest.get("pair").unwrap();
    assert_eq!(folder.state(pair, Depth::Digest).unwrap(), NetworkState::Missing);
    let missing = folder.locate("pair").unwrap_err().to_string();
    assert!(missing.contains("pair.xml") && missing.contains("meerkat models pull pair"), "{missing}");

    testing::lay_out(&folder, "pair");
    assert_eq!(folder.state(pair, Depth::Digest).unwrap(), NetworkState::Present);
    let files = folder.verify("pair").unwrap();
    assert_eq!((files.format, files.paths().len()), (Format::OpenVino, 2));
    assert_eq!(files.sha256, pair.files[1].sha256);
    assert!(files.graph.ends_with("pair/pair.xml") && files.weights.unwrap().ends_with("pair/pair.bin"));

    // The same length, other content: only who reads it sees it.
    let bin = folder.file_path(&pair.files[1]);
    let mut bytes = std::fs::read(&bin).unwrap();
    bytes[7] ^= 1;
    std::fs::write(&bin, &bytes).unwrap();
    assert!(folder.locate("pair").is_ok());
    assert!(matches!(
        folder.verify("pair"),
        Err(WeightsError::Damaged { damage: Damage::Digest { .. }, .. })
    ));

    bytes.pop();
    std::fs::write(&bin, &bytes).unwrap();
    assert!(matches!(folder.locate("pair"), Err(WeightsError::Damaged { damage: Damage::Size { .. }, .. })));
    std::fs::remove_file(&bin).unwrap();
    std::fs::create_dir(&bin).unwrap();
    assert!(matches!(folder.locate("pair"), Err(WeightsError::Damaged { damage: Damage::NoFile, .. })));
    assert!(matches!(folder.locate("dragon"), Err(WeightsError::UnknownNetwork { .. })));
}

#[test]
fn a_file_with_half_a_digest_is_read_before_it_is_used() {
    static MANIFEST: LazyLock<Manifest> = LazyLock::new(|| {
        // The SHA-256 of "abc" begins so.
        let text = r#"{"networks":[{"name":"half","purpose":"p","license":"MIT","origin":"o","format":"torch","default":false,
            "files":[{"path":"half.pth","size_bytes":9,"sha256":"ba7816bf","sha384":null,"address":null}]}]}"#;
        Manifest::parse(text).unwrap()
    });
    let temp = tempfile::tempdir().unwrap();
    let folder = Folder::with_manifest(temp.path(), &MANIFEST);
    let entry = &MANIFEST.networks()[0].files[0];
    assert!(matches!(folder.locate("half"), Err(WeightsError::Missing { .. })));
    let lock = folder.lock().unwrap();
    let arrives = |bytes: &[u8]| {
        let mut incoming = Incoming::open(&folder, &lock, entry)?;
        incoming.restart(None)?;
        incoming.append(bytes)?;
        incoming.finish()
    };
    for (wrong, word) in [(&b"abd"[..], "ba7816bf…"), (b"0123456789", "10 bytes")] {
        let message = arrives(wrong).unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    }
    arrives(b"abc").unwrap();
    let files = folder.locate("half").unwrap();
    assert_eq!(files.format, Format::Torch);
    assert_eq!(files.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "all of it");
    std::fs::write(folder.path().join("half.pth"), b"abd").unwrap();
    assert!(matches!(
        folder.locate("half"),
        Err(WeightsError::Damaged { damage: Damage::Digest { .. }, .. })
    ));
}

#[test]
fn a_model_is_a_name_or_a_path() {
    let temp = tempfile::tempdir().unwrap();
    let folder = Folder::with_manifest(temp.path(), testing::manifest());
    testing::lay_out(&folder, "single");
    assert_eq!(folder.find("single").unwrap().name, "single");

    let own = temp.path().join("mine.onnx");
    std::fs::write(&own, b"abc").unwrap();
    let found = folder.find(own.to_str().unwrap()).unwrap();
    assert_eq!((found.name.as_str(), found.format), ("mine", Format::Onnx));
    assert_eq!(found.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");

    let graph = temp.path().join("mine.xml");
    std::fs::write(&graph, b"<net/>").unwrap();
    let without_numbers = NetworkFiles::own(&graph).unwrap_err().to_string();
    assert!(without_numbers.contains("mine.bin"), "{without_numbers}");
    std::fs::write(temp.path().join("mine.bin"), b"abc").unwrap();
    let found = NetworkFiles::own(&graph).unwrap();
    assert_eq!((found.format, found.sha256.get(..8)), (Format::OpenVino, Some("ba7816bf")));

    assert!(matches!(folder.find("singel"), Err(WeightsError::UnknownNetwork { .. })));
    assert!(matches!(folder.find("mine.pt"), Err(WeightsError::NotAModel { .. })));
    assert!(matches!(folder.find("none.onnx"), Err(WeightsError::Io { .. })));
    std::fs::create_dir(temp.path().join("folder.onnx")).unwrap();
    assert!(matches!(
        NetworkFiles::own(&temp.path().join("folder.onnx")),
        Err(WeightsError::NotAModel { .. })
    ));
}

#[test]
fn only_one_may_pull() {
    let temp = tempfile::tempdir().unwrap();
    let folder = Folder::with_manifest(temp.path().join("models"), testing::manifest());
    let lock = folder.lock().unwrap();
    assert!(matches!(folder.lock(), Err(WeightsError::Locked { .. })));
    drop(lock);
    folder.lock().unwrap();
}

#[test]
fn the_manifest_is_true_of_the_real_weights() {
    let data = std::env::var_os("MEERKAT_TEST_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    let folder = Folder::new(data.join("weights"));
    if !folder.path().exists() {
        assert!(std::env::var_os("MEERKAT_REQUIRE_DATA").is_none(), "{} is missing", folder.path().display());
        println!("skipped: {} is missing", folder.path().display());
        return;
    }
    // The data are what networks were measured with; what only a user can bring is not among them.
    let is_exact = |network: &&Network| network.files.iter().all(FileEntry::is_exact);
    for network in Manifest::builtin().networks().iter().filter(is_exact) {
        let files = folder.verify(&network.name).unwrap();
        assert_eq!(files, folder.locate(&network.name).unwrap());
    }
}
