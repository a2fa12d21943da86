//! Networks on the command line: detect, embed, bench; what is said where weights are missing.

use std::path::{Path, PathBuf};
use std::process::Output;

use meerkat_base::{Image, PixelFormat};
use serde_json::Value;

use super::{data, err, json_lines, meerkat, out, picture_with_square, text};

/// Runs the program with the weights of the test data.
fn with_weights(weights: &Path, args: &[&str]) -> Output {
    meerkat(args, &[("MEERKAT_MODELS_DIR", text(weights)), ("MEERKAT__DATA_DIR", "/does/not/exist")])
}

#[track_caller]
fn done(output: &Output) -> Vec<Value> {
    assert_eq!(output.status.code(), Some(0), "{}", err(output));
    json_lines(output)
}

/// Frames of the recordings with the people that are in them, as a network sees them.
fn people(lines: &[Value]) -> Vec<usize> {
    lines.iter().map(|line| line["detections"].as_array().unwrap().len()).collect()
}

#[test]
fn a_network_finds_people_as_soon_as_its_weights_are_there() {
    let (Some(weights), Some(square), Some(cars)) =
        (data("weights"), data("video/vtest/vtest.mp4"), data("video/intel/car-detection.mp4"))
    else {
        return;
    };
    let look = |args: &[&str]| {
        let mut all = vec!["detect", "person", "--json", "--frames", "10"];
        all.extend(args);
        with_weights(&weights, &all)
    };
    let output = look(&[text(&square), text(&cars)]);
    assert!(err(&output).is_empty(), "{}", err(&output));
    let lines = done(&output);
    let found = people(&lines);
    assert_eq!(found.len(), 20);
    assert!(found[..10].iter().all(|&people| people >= 1), "{found:?}");
    assert!(found[10..].iter().all(|&people| people == 0), "{found:?}");
    // Several frames at once change nothing, not even the order.
    assert_eq!(out(&look(&["--threads", "3", text(&square), text(&cars)])), out(&output));
    let yolox = done(&look(&["--model", "yolox-nano", "--min-score", "0.3", text(&square)]));
    assert!(people(&yolox).iter().all(|&people| people >= 3), "{:?}", people(&yolox));
    assert!(people(&done(&look(&["--min-score", "0.999", text(&square)]))).iter().all(|&people| people == 0));
    // The classic method is there still, and says something else.
    let classic = look(&["--backend", "classic", text(&square)]);
    assert!(people(&done(&classic)).iter().any(|&people| people > 0));
    assert_ne!(out(&classic).lines().next(), out(&output).lines().next());
}

#[test]
fn things_of_all_classes_are_named() {
    let (Some(weights), Some(pictures)) = (data("weights"), data("stills/coco_lightly/images/train2017"))
    else {
        return;
    };
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(pictures).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut args = vec!["detect", "objects", "--json"];
    args.extend(files.iter().take(8).map(|path| text(path)));
    let lines = done(&with_weights(&weights, &args));
    assert_eq!(lines.len(), 8);
    let labels: std::collections::BTreeSet<&str> = lines
        .iter()
        .flat_map(|line| line["detections"].as_array().unwrap())
        .map(|found| found["label"].as_str().unwrap())
        .collect();
    assert!(labels.len() >= 4, "{labels:?}");

    // With names of one's own: as many as the network has classes.
    let dir = tempfile::tempdir().unwrap();
    let names = dir.path().join("names.txt");
    let model = weights.join("yolox_nano/yolox_nano.onnx");
    let own = |count: usize| {
        let lines: Vec<String> = (0..count).map(|n| format!("thing {n}")).collect();
        std::fs::write(&names, lines.join("\n")).unwrap();
        let args = ["detect", "objects", "--json", "--model", text(&model), "--classes", text(&names)];
        with_weights(&weights, &[&args[..], &[text(&files[0])]].concat())
    };
    let found = done(&own(80));
    let label = found[0]["detections"][0]["label"].as_str().unwrap();
    assert!(label.starts_with("thing "), "{label}");
    let few = own(3);
    assert_eq!(few.status.code(), Some(1));
    assert!(err(&few).contains("80 classes"), "{}", err(&few));
}

#[test]
fn pictures_are_named_as_a_whole() {
    let (Some(weights), Some(pictures)) = (data("weights"), data("stills/coco_lightly/images/train2017"))
    else {
        return;
    };
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(pictures).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let args = ["detect", "objects", "--classify", "--json", text(&files[0]), text(&files[1])];
    let output = with_weights(&weights, &args);
    // Without its weights, what YOLOX finds serves, and that is said.
    if !weights.join("torchvision/googlenet-1378be20.pth").exists() {
        let said = err(&output);
        assert!(said.contains("80 kinds") && said.contains("models pull googlenet"), "{said}");
    }
    let lines = done(&output);
    assert_eq!(lines.len(), 2);
    for line in &lines {
        assert!(line.get("detections").is_none());
        let guesses = line["guesses"].as_array().unwrap();
        assert!((1..=5).contains(&guesses.len()), "{line}");
        let scores: Vec<f64> = guesses.iter().map(|guess| guess["score"].as_f64().unwrap()).collect();
        assert!(
            scores.windows(2).all(|pair| pair[0] >= pair[1]) && scores.iter().all(|s| *s <= 1.0),
            "{line}"
        );
        let labels: std::collections::BTreeSet<&str> =
            guesses.iter().map(|guess| guess["label"].as_str().unwrap()).collect();
        assert_eq!(labels.len(), guesses.len(), "{line}");
    }
    let words = with_weights(&weights, &["detect", "objects", "--classify", text(&files[0])]);
    let best = lines[0]["guesses"][0]["label"].as_str().unwrap();
    assert!(out(&words).contains(&format!("frame 0: {best} 0.")), "{}", out(&words));
    let sure = ["detect", "objects", "--classify", "--json", "--min-score", "1", text(&files[0])];
    assert_eq!(done(&with_weights(&weights, &sure))[0]["guesses"], serde_json::json!([]));
}

#[test]
fn weights_of_half_a_digest_come_from_a_folder_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| meerkat(args, &[("MEERKAT__DATA_DIR", text(dir.path()))]);
    for from in [&[][..], &["--from", "http://127.0.0.1:9/mirror"]] {
        let output = run(&[&["models", "pull", "googlenet"], from].concat());
        assert_eq!(output.status.code(), Some(1));
        let said = err(&output);
        for part in [
            "--from DIR",
            "begins with 1378be20",
            "https://download.pytorch.org/models/googlenet-1378be20.pth",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    let other = dir.path().join("brought");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("googlenet-1378be20.pth"), b"another file").unwrap();
    let output = run(&["models", "pull", "googlenet", "--from", text(&other)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("instead of 1378be20"), "{}", err(&output));
    assert!(!dir.path().join("models/torchvision/googlenet-1378be20.pth").exists());
    let listed = json_lines(&run(&["models", "list", "--json"]));
    let googlenet = listed.iter().find(|line| line["name"] == "googlenet").unwrap();
    assert_eq!(googlenet["state"], "missing");
    assert_eq!(googlenet["files"][0]["sha384"], Value::Null);
}

#[test]
fn faces_become_numbers() {
    let (Some(weights), Some(people)) = (data("weights"), data("faces/lfw10x10")) else { return };
    let portrait = |name: &str, number: u32| {
        people.join(name).join(format!("{name}_{number:04}.jpg")).display().to_string()
    };
    let files = [portrait("Hugo_Chavez", 1), portrait("Hugo_Chavez", 2), portrait("Colin_Powell", 1)];
    let dir = tempfile::tempdir().unwrap();
    let nobody = picture_with_square(dir.path(), "nobody.jpg", 20);
    for model in ["yunet-n", "face-detection-retail-0004"] {
        let mut args = vec!["embed", "--json", "--model", model, "--threads", "2"];
        args.extend(files.iter().map(String::as_str).chain([text(&nobody)]));
        let lines = done(&with_weights(&weights, &args));
        let sources: Vec<&str> = lines.iter().map(|line| line["source"].as_str().unwrap()).collect();
        assert_eq!(sources, args[6..], "one line per picture, in order");
        assert_eq!(lines[3]["faces"], serde_json::json!([]));
        let number = |value: &Value| value.as_f64().unwrap();
        let mut vectors = Vec::new();
        for line in &lines[..3] {
            assert_eq!((line["width"].as_u64(), line["height"].as_u64()), (Some(250), Some(250)));
            let area = |face: &Value| number(&face["width"]) * number(&face["height"]);
            let faces = line["faces"].as_array().unwrap();
            assert!(faces.windows(2).all(|two| area(&two[0]) >= area(&two[1])), "the largest comes first");
            let face = &faces[0];
            assert!(number(&face["score"]) > 0.7);
            let points = face["landmarks"].as_array().unwrap();
            assert_eq!(points.len(), 5);
            for point in points {
                let (x, y) = (number(&point[0]) - number(&face["x"]), number(&point[1]) - number(&face["y"]));
                assert!(x > 0.0 && x < number(&face["width"]) && y > 0.0 && y < number(&face["height"]));
            }
            let vector: Vec<f64> = face["embedding"].as_array().unwrap().iter().map(number).collect();
            assert_eq!(vector.len(), 256);
            vectors.push(vector);
        }
        let cosine =
            |a: usize, b: usize| -> f64 { vectors[a].iter().zip(&vectors[b]).map(|(a, b)| a * b).sum() };
        assert!((cosine(0, 0) - 1.0).abs() < 1e-4);
        assert!(cosine(0, 1) > 0.4 && cosine(0, 2) < 0.35, "{} {}", cosine(0, 1), cosine(0, 2));
    }
}

#[test]
fn a_broken_picture_does_not_stop_the_others() {
    let Some(weights) = data("weights") else { return };
    let dir = tempfile::tempdir().unwrap();
    let note = dir.path().join("note.txt");
    std::fs::write(&note, "no picture").unwrap();
    let good = picture_with_square(dir.path(), "good.jpg", 20);
    let output = with_weights(&weights, &["embed", "--json", text(&note), "/does/not/exist", text(&good)]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(json_lines(&output).len(), 1);
    assert!(
        err(&output).contains("note.txt") && err(&output).contains("/does/not/exist"),
        "{}",
        err(&output)
    );
}

#[test]
fn networks_are_measured() {
    let Some(weights) = data("weights") else { return };
    let output = with_weights(
        &weights,
        &["models", "bench", "landmarks-regression-retail-0009", "yunet-n-320", "--runs", "3", "--json"],
    );
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let all: Value = serde_json::from_str(&out(&output)).unwrap();
    let all = all.as_array().unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!(all[1]["model"], "yunet-n-320");
    for row in all {
        let number = |name: &str| row[name].as_f64().unwrap();
        assert_eq!((row["device"].as_str(), row["batch"].as_u64()), (Some("cpu"), Some(1)));
        assert!(number("min_ms") > 0.0 && number("median_ms") >= number("min_ms"), "{row}");
        assert!(number("load_ms") > 0.0 && number("memory_bytes") > 0.0, "{row}");
    }
    let several = ["--threads", "2", "--batch", "3", "--runs", "2"];
    let output = with_weights(
        &weights,
        &[&["models", "bench", "landmarks-regression-retail-0009"], &several[..]].concat(),
    );
    assert!(out(&output).contains("pictures/s"), "{}", out(&output));
    let layers = with_weights(&weights, &["models", "bench", "yunet-n-320", "--layers"]);
    assert!(out(&layers).contains("GFLOP/s") && out(&layers).lines().count() > 20, "{}", out(&layers));
}

#[test]
fn missing_weights_and_unknown_names_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let picture = picture_with_square(dir.path(), "square.jpg", 20);
    let picture = text(&picture);
    let run = |args: &[&str]| meerkat(args, &[("MEERKAT__DATA_DIR", text(dir.path()))]);

    // Without a word about it, the classic method does it, and that is said.
    let output = run(&["detect", "person", "--json", picture]);
    assert_eq!(done(&output).len(), 1);
    assert!(err(&output).contains("classic") && err(&output).contains("models pull"), "{}", err(&output));
    let output = run(&["detect", "person", "--backend", "classic", picture]);
    assert!(err(&output).is_empty(), "{}", err(&output));

    for (args, code, said) in [
        (&["detect", "person", "--backend", "candle", picture][..], 2, "models pull person-detection"),
        (&["detect", "face", "--backend", "candle", picture], 2, "models pull"),
        (&["detect", "objects", picture], 1, "models pull yolox-nano"),
        (&["detect", "objects", "--classify", picture], 1, "models pull googlenet"),
        (&["detect", "objects", "--classify", "--model", "googlenet", picture], 1, "models pull googlenet"),
        (&["detect", "objects", "--classify", "--model", "yunet-n", picture], 1, "does not say what"),
        (&["detect", "person", "--classify", picture], 2, "--classify is for objects"),
        (&["detect", "objects", "--classify", "--classes", picture, picture], 2, "--model of your own"),
        (&["detect", "person", "--model", "yolox-nano", picture], 2, "models pull yolox-nano"),
        (&["detect", "person", "--model", "dragon", picture], 2, "no network is called \"dragon\""),
        (&["detect", "person", "--model", "/does/not/exist.onnx", picture], 2, "/does/not/exist.onnx"),
        (&["detect", "person", "--model", picture, picture], 2, "ends in .onnx"),
        (&["detect", "face", "--model", "yolox-nano", picture], 2, "does not find faces"),
        (&["detect", "person", "--model", "yunet-n", picture], 2, "does not find people"),
        (&["embed", picture], 1, "models pull"),
        (&["models", "bench"], 1, "holds no weights"),
        (&["models", "bench", "dragon"], 1, "no network is called"),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", err(&output));
        assert!(err(&output).contains(said), "{args:?}: {}", err(&output));
    }
    for args in [
        &["detect", "person", "--device", "cpu", "--precision", "f16", picture][..],
        &["detect", "objects", "--device", "cpu", "--precision", "f16", picture],
        &["embed", "--device", "cpu", "--precision", "f16", picture],
        &["models", "bench", "--device", "cpu", "--precision", "f16"],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", err(&output));
        assert!(err(&output).contains("computes in f32 always"), "{args:?}: {}", err(&output));
    }
    if !cfg!(feature = "cuda") {
        let output = run(&["embed", "--precision", "f16", picture]);
        assert!(err(&output).contains("there is no GPU to compute in f16"), "{}", err(&output));
        let output = run(&["embed", "--device", "cuda:0", picture]);
        assert_eq!(output.status.code(), Some(2));
        assert!(err(&output).contains("built without support for GPUs"), "{}", err(&output));
    }
}

#[test]
fn check_config_says_what_is_wrong_with_detectors() {
    let check = |variables: &[(&str, &str)]| meerkat(&["check-config"], variables);
    let missing = check(&[("MEERKAT__DETECTORS__PERSON__BACKEND", "candle")]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(err(&missing).contains("detectors.person.model") && err(&missing).contains("models pull"));
    let wrong = check(&[
        ("MEERKAT__DETECTORS__PERSON__MODEL", "dragon"),
        ("MEERKAT__DETECTORS__FACE__MODEL", "person-detection-retail-0013"),
    ]);
    assert_eq!(wrong.status.code(), Some(2));
    for part in ["2 errors", "detectors.person.model = \"dragon\"", "detectors.face.model"] {
        assert!(err(&wrong).contains(part), "{part}: {}", err(&wrong));
    }
    let without = check(&[]);
    assert_eq!(without.status.code(), Some(0), "{}", err(&without));
    assert!(out(&without).contains("classic"), "{}", out(&without));
    let Some(weights) = data("weights") else { return };
    let whole = check(&[("MEERKAT_MODELS_DIR", text(&weights))]);
    assert!(out(&whole).contains("person-detection-retail-0013"), "{}", out(&whole));
    assert!(out(&whole).contains("yunet-n"), "{}", out(&whole));
}

/// A picture larger than any network wants, in the containers that cameras do not send.
#[test]
fn boxes_of_networks_are_in_pixels_of_the_whole_frame() {
    let (Some(weights), Some(video)) = (data("weights"), data("video/vtest/vtest.mp4")) else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut reader =
        meerkat_media::Reader::open(text(&video), meerkat_media::ReadOptions::default()).unwrap();
    let (frame, _) = reader.next_image().unwrap().unwrap();
    let large = meerkat_vision::resize(&frame, frame.width() * 3, frame.height() * 3).unwrap();
    assert_eq!(large.format(), PixelFormat::Bgr8);
    let files = [(&frame, "small.jpg"), (&large, "large.jpg")].map(|(image, name): (&Image, _)| {
        let path = dir.path().join(name);
        std::fs::write(&path, meerkat_vision::encode_jpeg(image, 95).unwrap()).unwrap();
        path
    });
    let args = ["detect", "person", "--json", text(&files[0]), text(&files[1])];
    let lines = done(&with_weights(&weights, &args));
    let best = |line: &Value| line["detections"][0].clone();
    let (small, large) = (best(&lines[0]), best(&lines[1]));
    for side in ["x", "y", "width", "height"] {
        let (small, large) = (small[side].as_f64().unwrap() * 3.0, large[side].as_f64().unwrap());
        assert!((small - large).abs() < 15.0, "{side}: {small} and {large}");
    }
}
