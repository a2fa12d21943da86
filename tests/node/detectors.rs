//! Which detectors a node has: with weights, without, with some of them; and what it says about it.

use std::process::Command;

use crate::harness::{Backend, Node, PATIENCE, Plan, data, eventually, jpeg};

fn notices(node: &Node) -> Vec<String> {
    let status = node.status();
    let notices = status["node"]["notices"].as_array().unwrap();
    notices.iter().map(|notice| notice.as_str().unwrap().to_owned()).collect()
}

fn said(node: &Node, words: &str) -> usize {
    node.log().lines().filter(|line| line.contains(words)).count()
}

#[test]
fn without_weights_the_node_says_so_once_and_works() {
    let mut node = Plan::new().set("detectors.person.gate", "none").start();
    let classic = Backend::classic();
    classic.check(&node, "person");
    classic.check(&node, "face");
    for what in ["People are found by the classic method", "Faces are found by the classic method"] {
        assert_eq!(said(&node, what), 1, "{}", node.log());
        let told = notices(&node);
        let own: Vec<&String> = told.iter().filter(|notice| notice.contains(what)).collect();
        assert!(own.len() == 1 && own[0].contains("meerkat models pull"), "{told:?}");
    }
    let mut camera = node.camera("door", 4);
    eventually("a frame is looked at", PATIENCE, || {
        assert_eq!(camera.frame(&jpeg(320, 240, 1)), b'1');
        let looked = [("camera", "unconfigured"), ("stage", "person"), ("result", "ok")];
        (node.metric("meerkat_frames_total", &looked) >= 1.0).then_some(())
    });
    assert_eq!(node.metric("meerkat_model_info", &[("model", "hog-default-people"), ("sha256", "")]), 1.0);
    assert_eq!(said(&node, "classic method"), 2, "not again");
    drop(camera);
    assert!(node.stop().success());
}

#[test]
fn a_network_that_was_chosen_and_is_not_there_is_an_error() {
    let start = |plan: &Plan| {
        let folder = tempfile::tempdir().unwrap();
        let mut command: Command = plan.command(folder.path());
        let output = command.arg("run").output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, words) = start(&Plan::new().set("detectors.person.backend", "candle"));
    assert_eq!(code, Some(2), "{words}");
    for part in ["detectors.person.model", "person-detection-retail-0013", "meerkat models pull"] {
        assert!(words.contains(part), "{part}: {words}");
    }
    let (code, words) = start(&Plan::new().set("detectors.face.model", "dragon"));
    assert!(code == Some(2) && words.contains("no network is called"), "{words}");
}

#[test]
fn networks_are_named_with_the_digests_of_their_weights() {
    let Some(weights) = data("weights") else { return };
    // A folder with two of the networks only: the faces' are found by the second best.
    let folder = tempfile::tempdir().unwrap();
    let mut pull = Plan::new().command(folder.path());
    let models = folder.path().join("models");
    let names = [
        "yolox-nano",
        "face-detection-retail-0004",
        "landmarks-regression-retail-0009",
        "face-reidentification-retail-0095",
    ];
    let pulled = pull
        .env("MEERKAT__MODELS__DIR", &models)
        .args(["models", "pull", "--from"])
        .arg(&weights)
        .args(names)
        .output()
        .unwrap();
    assert!(pulled.status.success(), "{}", String::from_utf8_lossy(&pulled.stderr));
    let mut node = Plan::new()
        .set("models.dir", models.display())
        .set("detectors.person.model", "yolox-nano")
        .set("detectors.person.gate", "none")
        .set("detectors.face.gate", "none")
        .start();
    let status = eventually("both are ready", PATIENCE, || {
        let status = node.status();
        (status["detectors"].as_array().unwrap().len() >= 2).then_some(status)
    });
    let used: Vec<[&str; 4]> = status["detectors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| ["role", "name", "backend", "device"].map(|key| one[key].as_str().unwrap()))
        .collect();
    let faces = "face-detection-retail-0004+face-reidentification-retail-0095";
    assert!(used.contains(&["person", "yolox-nano", "candle", "cpu"]), "{used:?}");
    assert!(used.contains(&["face", faces, "candle", "cpu"]), "{used:?}");
    assert!(notices(&node).iter().all(|notice| !notice.contains("classic")), "{:?}", notices(&node));
    let metrics = node.metrics();
    for name in ["yolox-nano", "face-detection-retail-0004", "face-reidentification-retail-0095"] {
        let sha256 = meerkat_models::weights::describe(name).unwrap().sha256();
        assert_eq!(metrics.sum("meerkat_model_info", &[("model", name), ("sha256", sha256)]), 1.0, "{name}");
    }
    for (id, mode, model) in [("door", 4, "yolox-nano"), ("hall", 5, faces)] {
        let mut camera = node.camera(id, mode);
        eventually("a frame is looked at", PATIENCE, || {
            assert_eq!(camera.frame(&jpeg(640, 480, 1)), b'1');
            let looked = [("model", model), ("device", "cpu")];
            (node.metric("meerkat_inference_duration_seconds_count", &looked) >= 1.0).then_some(())
        });
    }
    assert_eq!(node.metric("meerkat_actor_restarts_total", &[]), 0.0);
    assert!(node.stop().success());
}

#[test]
fn damaged_weights_are_as_good_as_none() {
    let Some(weights) = data("weights") else { return };
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models");
    let network = "openvino/person-detection-retail-0013/FP32/person-detection-retail-0013";
    for ending in ["xml", "bin"] {
        let file = models.join(network).with_extension(ending);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let mut bytes = std::fs::read(weights.join(network).with_extension(ending)).unwrap();
        if ending == "xml" {
            // Of the right length, and no network.
            bytes.iter_mut().skip(5_000).take(200).for_each(|byte| *byte = b'<');
        }
        std::fs::write(file, bytes).unwrap();
    }
    let plan = Plan::new().set("models.dir", models.display());
    let mut node = plan.clone().start();
    Backend::classic().check(&node, "person");
    assert_eq!(said(&node, "People are found by the classic method"), 1, "{}", node.log());
    assert!(node.stop().success());
}
