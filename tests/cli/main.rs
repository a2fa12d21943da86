//! The command line from outside: the real program, its output, its exit codes. What the node does is tested elsewhere.
// Helpers of tests may unwrap as the tests themselves do.
#![allow(clippy::unwrap_used)]

mod analyse;
mod networks;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread::JoinHandle;

use meerkat_base::{Image, PixelFormat};
use serde_json::Value;

/// Runs the program with nothing of the tester's own environment that could matter.
fn meerkat(args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meerkat"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MEERKAT") {
            command.env_remove(name);
        }
    }
    command.args(args).envs(variables.iter().copied()).output().expect("the program can be started")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The folder of files that are not ours; `None`, with a line that says so, where it is missing.
fn data(path: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("MEERKAT_TEST_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    let path = folder.join(path);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("MEERKAT_REQUIRE_DATA").is_none(), "{} is missing", path.display());
    println!("skipped: {} is missing", path.display());
    None
}

fn text(path: &Path) -> &str {
    path.to_str().expect("test folders have plain names")
}

/// A grey picture with a bright square whose left edge is at `x`.
fn picture_with_square(folder: &Path, name: &str, x: u32) -> PathBuf {
    let (width, height) = (320u32, 240u32);
    let mut pixels = Vec::new();
    for row in 0..height {
        for column in 0..width {
            let inside = (x..x + 60).contains(&column) && (90..150).contains(&row);
            // A little texture, as real pictures have.
            pixels.push(if inside { 230 } else { 90 + ((row * 7 + column * 13) % 11) as u8 });
        }
    }
    let image = Image::new(width, height, PixelFormat::Gray8, pixels).unwrap();
    let path = folder.join(name);
    std::fs::write(&path, meerkat_vision::encode_jpeg(&image, 90).unwrap()).unwrap();
    path
}

fn json_lines(output: &Output) -> Vec<Value> {
    out(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn help_names_every_command_and_wrong_arguments_exit_with_2() {
    let help = meerkat(&["--help"], &[]);
    assert_eq!(help.status.code(), Some(0));
    for command in ["push", "check-config", "faces", "detect", "embed", "models", "Exit codes", "Examples"] {
        assert!(out(&help).contains(command), "{command}");
    }
    for wrong in [
        &["fly"][..],
        &["push", "x.jpg"],
        &["detect", "dragon", "x.jpg"],
        &["faces", "enrol", "x"],
        &["models", "pull", "dragon"],
        &["detect", "person", "--device", "gpu", "x.jpg"],
        &["detect", "person", "--precision", "half", "x.jpg"],
        &["models", "bench", "--precision", "f8"],
        &["detect", "person", "--min-score", "2", "x.jpg"],
        &["detect", "person", "--threads", "0", "x.jpg"],
        &["detect", "motion", "--backend", "classic", "x.jpg"],
        &["detect", "face", "--classes", "x.txt", "x.jpg"],
        &["models", "bench", "--batch", "0"],
        &["embed"],
    ] {
        assert_eq!(meerkat(wrong, &[]).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn check_config_says_everything_at_once() {
    let good = meerkat(&["check-config"], &[("MEERKAT__FRAME__LISTEN", "127.0.0.1:7001")]);
    assert_eq!(good.status.code(), Some(0), "{}", err(&good));
    assert!(out(&good).contains("127.0.0.1:7001"));

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.toml");
    std::fs::write(&file, "[ring]\nseconds = -1\nbytse = 5\n[cameras.door]\ntoken = \"hunter 2\"\n").unwrap();
    let variables = [("MEERKAT__HTTP__LISTEN", "0.0.0.0:80")];
    let bad = meerkat(&["check-config", "--config", text(&file)], &variables);
    assert_eq!(bad.status.code(), Some(2));
    let said = err(&bad);
    for part in
        ["4 errors", "ring.seconds = -1", "did you mean ring.bytes?", "cameras.door.token", "http.token"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("hunter"), "{said}");

    let missing = meerkat(&["check-config", "--config", "/does/not/exist.toml"], &[]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(err(&missing).contains("/does/not/exist.toml"));
}

#[test]
fn check_config_names_every_wrong_rule_of_the_chat() {
    let dir = tempfile::tempdir().unwrap();
    let (file, rules) = (dir.path().join("node.toml"), dir.path().join("chat.toml"));
    let listen = "[\"127.0.0.1:0\", \"127.0.0.1:0\", \"127.0.0.1:0\", \"127.0.0.1:0\"]";
    std::fs::write(&file, format!("[dialects.desk]\nlisten = {listen}\nchat.rules = {rules:?}\n")).unwrap();
    let text_of_rules =
        "[[rule]]\npattern = \"(\"\nanswer = \"b\"\n[[rule]]\npattern = \"a\"\nanser = \"b\"\n";
    std::fs::write(&rules, text_of_rules).unwrap();
    let bad = meerkat(&["check-config", "--config", text(&file)], &[]);
    assert_eq!(bad.status.code(), Some(2));
    let said = err(&bad);
    for part in ["2 errors", "line 2: rule 1: ", "line 6: rule 2: ", "dialects.desk.chat.rules"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn a_data_folder_that_cannot_be_made_is_named_with_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let data = file.join("data");
    let variables = [
        ("MEERKAT__DATA_DIR", text(&data)),
        ("MEERKAT__FRAME__LISTEN", "127.0.0.1:0"),
        ("MEERKAT__HTTP__LISTEN", "127.0.0.1:0"),
    ];
    for args in [&["run"][..], &["restore", text(dir.path())], &["faces", "enrol", "Li Lei", "a.jpg"]] {
        let output = meerkat(args, &variables);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let wanted = format!("meerkat: data_dir = {data:?}: the data folder cannot be made or opened: ");
        assert!(err(&output).contains(&wanted), "{args:?}: {}", err(&output));
    }
}

#[test]
fn a_backup_is_restored_where_the_secrets_are_not_there_yet() {
    let dir = tempfile::tempdir().unwrap();
    let (file, data, saved) =
        (dir.path().join("node.toml"), dir.path().join("data"), dir.path().join("saved"));
    drop(meerkat_store::Store::open(&data, meerkat_store::StoreOptions::default()).unwrap());
    std::fs::write(&file, format!("data_dir = {data:?}\n")).unwrap();
    let backup = meerkat(&["backup", "--config", text(&file), text(&saved)], &[]);
    assert_eq!(backup.status.code(), Some(0), "{}", err(&backup));
    let secret = "[notify.channels.office]\ntype = \"webhook\"\nurl = \"https://example.org\"\n\
                  secret_file = \"/does/not/exist\"\n";
    std::fs::write(&file, format!("data_dir = {data:?}\n{secret}")).unwrap();
    let restored = meerkat(&["restore", "--config", text(&file), text(&saved)], &[]);
    assert_eq!(restored.status.code(), Some(0), "{}", err(&restored));
    let checked = meerkat(&["check-config", "--config", text(&file)], &[]);
    assert_eq!(checked.status.code(), Some(2), "whoever needs it misses it: {}", out(&checked));
}

#[test]
fn motion_is_found_in_pictures_that_follow_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let places: Vec<u32> = [20; 10].into_iter().chain([60, 100, 140]).collect();
    let pictures: Vec<PathBuf> = places
        .iter()
        .enumerate()
        .map(|(number, &x)| picture_with_square(dir.path(), &format!("{number:02}.jpg"), x))
        .collect();
    let mut args = vec!["detect", "motion", "--json"];
    args.extend(pictures.iter().map(|path| text(path)));
    let output = meerkat(&args, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let lines = json_lines(&output);
    assert_eq!(lines.len(), pictures.len());
    for (line, path) in lines.iter().zip(&pictures) {
        assert_eq!(line["source"], text(path));
        assert_eq!(line["frame"], 0);
        assert_eq!((line["width"].as_u64(), line["height"].as_u64()), (Some(320), Some(240)));
    }
    let finds = |line: &Value| line["detections"].as_array().unwrap().clone();
    assert!(lines[..10].iter().all(|line| finds(line).is_empty()), "nothing moves at first");
    let last = finds(&lines[12]);
    let covers = |find: &Value| {
        let side = |name: &str| find[name].as_f64().unwrap();
        find["label"] == "motion"
            && side("x") <= 160.0
            && side("x") + side("width") >= 190.0
            && side("y") <= 110.0
            && side("y") + side("height") >= 130.0
    };
    assert!(last.iter().any(covers), "{last:?}");
}

#[test]
fn a_broken_input_does_not_stop_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let good = picture_with_square(dir.path(), "good.jpg", 20);
    let cut = dir.path().join("cut.jpg");
    std::fs::write(&cut, &std::fs::read(&good).unwrap()[..100]).unwrap();
    let note = dir.path().join("note.txt");
    std::fs::write(&note, "no picture").unwrap();
    let output = meerkat(
        &["detect", "person", "--json", text(&cut), text(&note), "/does/not/exist", text(&good)],
        &[],
    );
    assert_eq!(output.status.code(), Some(1));
    let lines = json_lines(&output);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["source"], text(&good));
    for name in ["cut.jpg", "note.txt", "/does/not/exist"] {
        assert!(err(&output).contains(name), "{}", err(&output));
    }
}

#[test]
fn what_is_no_picture_and_no_video_is_named_with_what_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let (note, empty) = (dir.path().join("note.txt"), dir.path().join("empty.jpg"));
    std::fs::write(&note, "no picture").unwrap();
    std::fs::write(&empty, "").unwrap();
    let output = meerkat(&["detect", "motion", text(&note), text(&empty), text(dir.path())], &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = err(&output);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    for (line, (file, why)) in lines.iter().zip([
        (&note, "it is neither a picture nor a video"),
        (&empty, "it is empty"),
        (&dir.path().to_owned(), "it is a folder"),
    ]) {
        assert!(line.starts_with(&format!("meerkat: {}: {why}", file.display())), "{line}");
        assert!(line.contains("JPEG, PNG, WebP, BMP") && line.contains("MP4"), "{line}");
    }

    let push = |to: &str, file: &Path| {
        meerkat(
            &["push", "--to", to, "--mode", "3", "--camera", "door", "--token", "hunter2", text(file)],
            &[],
        )
    };
    let (to, node) = node();
    let output = push(&to, &note);
    assert_eq!((output.status.code(), node.join().unwrap().len()), (Some(1), 0));
    let said = err(&output);
    assert!(said.contains("note.txt: it is neither a picture nor a video"), "{said}");
    assert!(said.contains("wanted is a picture (JPEG"), "{said}");
    // Before anybody is asked.
    let output = push("127.0.0.1:1", &empty);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("empty.jpg: it is empty; wanted is a picture (JPEG"), "{}", err(&output));
}

#[test]
fn boxes_are_in_pixels_of_the_whole_frame() {
    // Twice as wide as any detector wants: what is found must still be measured in the original.
    let Some(video) = data("video/vtest/vtest.mp4") else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut reader =
        meerkat_media::Reader::open(text(&video), meerkat_media::ReadOptions::default()).unwrap();
    let (frame, _) = reader.next_image().unwrap().unwrap();
    let large = meerkat_vision::resize(&frame, frame.width() * 4, frame.height() * 4).unwrap();
    let (small_file, large_file) = (dir.path().join("small.jpg"), dir.path().join("large.jpg"));
    std::fs::write(&small_file, meerkat_vision::encode_jpeg(&frame, 95).unwrap()).unwrap();
    std::fs::write(&large_file, meerkat_vision::encode_jpeg(&large, 95).unwrap()).unwrap();
    let output = meerkat(&["detect", "person", "--json", text(&small_file), text(&large_file)], &[]);
    let lines = json_lines(&output);
    assert_eq!((lines[1]["width"].as_u64(), lines[1]["height"].as_u64()), (Some(1920), Some(1440)));
    let best = |line: &Value| {
        let finds = line["detections"].as_array().unwrap().clone();
        assert!(!finds.is_empty(), "{line}");
        let score = |find: &Value| find["score"].as_f64().unwrap();
        finds.into_iter().max_by(|a, b| score(a).total_cmp(&score(b))).unwrap()
    };
    let (small, large) = (best(&lines[0]), best(&lines[1]));
    for side in ["x", "y", "width", "height"] {
        let (small, large) = (small[side].as_f64().unwrap() * 4.0, large[side].as_f64().unwrap());
        assert!((small - large).abs() < 60.0, "{side}: {small} and {large}");
    }
}

#[test]
fn people_are_found_in_a_video_and_not_in_a_car_park() {
    let (Some(square), Some(cars)) = (data("video/vtest/vtest.mp4"), data("video/intel/car-detection.mp4"))
    else {
        return;
    };
    let output = meerkat(&["detect", "person", "--json", "--frames", "40", text(&square), text(&cars)], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let mut frames: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for line in json_lines(&output) {
        let seen = frames.entry(line["source"].as_str().unwrap().to_owned()).or_default();
        assert_eq!(line["frame"].as_u64(), Some(seen.len() as u64), "frames are counted from 0 without gaps");
        seen.push(line["detections"].as_array().unwrap().len());
    }
    let with_people = |video: &Path| {
        let seen = &frames[text(video)];
        seen.iter().filter(|&&people| people > 0).count() as f64 / seen.len() as f64
    };
    assert_eq!(frames[text(&square)].len(), 40);
    assert!(with_people(&square) > 0.8, "{}", with_people(&square));
    assert!(with_people(&cars) < 0.2, "{}", with_people(&cars));
}

#[test]
fn people_are_enrolled_recognised_and_removed() {
    let Some(folder) = data("faces/lfw10x10") else { return };
    let dir = tempfile::tempdir().unwrap();
    let variables = [("MEERKAT__DATA_DIR", text(dir.path()))];
    let picture = |name: &str, number: u32| {
        folder.join(name).join(format!("{name}_{number:04}.jpg")).display().to_string()
    };
    for name in ["Colin_Powell", "Hugo_Chavez"] {
        let pictures: Vec<String> = (1..=5).map(|number| picture(name, number)).collect();
        let mut args = vec!["faces", "enrol", name, "--consent-by", "the test"];
        args.extend(pictures.iter().map(String::as_str));
        let output = meerkat(&args, &variables);
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        assert!(err(&output).is_empty(), "{}", err(&output));
    }
    let people = json_lines(&meerkat(&["faces", "list", "--json"], &variables));
    let names: Vec<&str> = people.iter().map(|person| person["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Colin_Powell", "Hugo_Chavez"]);
    assert!(people.iter().all(|person| person["pictures"] == 5 && person["consent_by"] == "the test"));

    // The picture somebody was enrolled with is recognised with certainty.
    let output = meerkat(&["detect", "face", "--json", &picture("Hugo_Chavez", 1)], &variables);
    let line = &json_lines(&output)[0];
    assert_eq!(line["detections"][0]["label"], "face", "{line}");
    assert_eq!(line["detections"][0]["identity"], "Hugo_Chavez", "{line}");

    assert_eq!(meerkat(&["faces", "remove", "Hugo_Chavez"], &variables).status.code(), Some(0));
    let again = meerkat(&["faces", "remove", "Hugo_Chavez"], &variables);
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(json_lines(&meerkat(&["faces", "list", "--json"], &variables)).len(), 1);
    let output = meerkat(&["detect", "face", "--json", &picture("Hugo_Chavez", 1)], &variables);
    assert_ne!(json_lines(&output)[0]["detections"][0]["identity"], "Hugo_Chavez");
}

/// A node that is only a parser: answers everything with 1 and hands back the pictures of one connection.
fn node() -> (String, JoinHandle<Vec<Vec<u8>>>) {
    use meerkat_wire::frame::{Item, Limits, Options, Parser};
    use std::io::{Read, Write};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let thread = std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let mut parser = Parser::new(Limits::default(), Options::default());
        let (mut buffer, mut piece) = (bytes::BytesMut::new(), vec![0; 65_536]);
        let mut pictures = Vec::new();
        loop {
            while let Some(item) = parser.next(&mut buffer).unwrap() {
                match item {
                    Item::Frame(picture) => pictures.push(picture.bytes.to_vec()),
                    Item::Hello { camera, token } => {
                        assert_eq!(camera.as_str(), "door");
                        assert!(token.unwrap().matches(b"hunter2"));
                    }
                    Item::Mode(mode) => assert_eq!(mode.number(), 3),
                    Item::Refused(reason) => panic!("{reason:?}"),
                }
                peer.write_all(b"1").unwrap();
            }
            match peer.read(&mut piece).unwrap() {
                0 => return pictures,
                length => buffer.extend_from_slice(&piece[..length]),
            }
        }
    });
    (address, thread)
}

#[test]
fn push_sends_pictures_unchanged_and_reports() {
    let dir = tempfile::tempdir().unwrap();
    let pictures: Vec<PathBuf> =
        (0..5).map(|n| picture_with_square(dir.path(), &format!("{n}.jpg"), n * 30)).collect();
    let (to, node) = node();
    let token = [("MEERKAT_PUSH_TOKEN", "hunter2")];
    let output = meerkat(&["push", "--to", &to, "--mode", "3", "--camera", "door", text(dir.path())], &token);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let sent: Vec<Vec<u8>> = pictures.iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert_eq!(node.join().unwrap(), sent);
    let report = out(&output);
    for part in ["answered   5 frames", "accepted   5", "refused    0", "latency    p50"] {
        assert!(report.contains(part), "{report}");
    }
}

#[test]
fn push_makes_jpegs_of_the_drawn_scene() {
    let (to, node) = node();
    let line =
        format!("push --to {to} --mode 3 --camera door --token hunter2 --fps 200 --frames 8 synthetic");
    let output = meerkat(&line.split(' ').collect::<Vec<_>>(), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let pictures = node.join().unwrap();
    assert_eq!(pictures.len(), 8);
    assert!(pictures.iter().all(|picture| meerkat_vision::probe::probe(picture).unwrap().width == 640));
}

#[test]
fn push_without_a_node_fails_with_1() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap().to_string();
    drop(listener);
    let output = meerkat(&["push", "--to", &to, "--mode", "3", "synthetic"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains(&format!("cannot connect to {to}: ")), "{}", err(&output));
}

#[test]
fn an_empty_models_folder_is_told_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("models");
    let variables = [("MEERKAT__DATA_DIR", text(dir.path()))];
    let listed = meerkat(&["models", "list", "--json"], &variables);
    assert_eq!(listed.status.code(), Some(0), "{}", err(&listed));
    let networks = json_lines(&listed);
    assert!(networks.len() >= 8 && networks.iter().all(|network| network["state"] == "missing"));
    for network in &networks {
        let license = network["license"].as_str().unwrap();
        assert!(["Apache-2.0", "BSD-3-Clause"].contains(&license), "{network}");
        let file = &network["files"][0];
        assert!(file["sha384"].is_string() || file["sha256"].is_string(), "{network}");
    }
    assert!(!folder.exists(), "looking makes no folder");

    let path = meerkat(&["models", "path"], &variables);
    assert_eq!(out(&path).trim_end(), text(&folder));
    let both = [("MEERKAT__MODELS__DIR", "/settings"), ("MEERKAT_MODELS_DIR", "/variable"), variables[0]];
    assert_eq!(out(&meerkat(&["models", "path"], &both)), "/variable\n");
    assert_eq!(out(&meerkat(&["models", "path"], &[both[0], both[2]])), "/settings\n");
    let path = meerkat(&["models", "path", "yolox-nano"], &variables);
    assert_eq!(path.status.code(), Some(1), "the path is right, and nothing is there");
    assert_eq!(out(&path).trim_end(), text(&folder.join("yolox_nano/yolox_nano.onnx")));

    for (args, said) in [
        (&["models", "verify"][..], "holds no weights"),
        (&["models", "verify", "yunet-n"], "yunet_n_dynamic.onnx is missing"),
    ] {
        let verified = meerkat(args, &variables);
        assert_eq!(verified.status.code(), Some(1));
        assert!(err(&verified).contains(said), "{}", err(&verified));
    }
    let unknown = meerkat(&["models", "verify", "yolo"], &variables);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(err(&unknown).contains("yolox-nano"), "it names those there are: {}", err(&unknown));
}

#[test]
fn without_a_network_pull_says_what_else_can_be_done() {
    let dir = tempfile::tempdir().unwrap();
    // A proxy that is not there: nothing leaves this machine.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = format!("http://{nobody}");
    let variables = [("MEERKAT__DATA_DIR", text(dir.path())), ("MEERKAT__MODELS__PROXY", proxy.as_str())];
    let pulled = meerkat(&["models", "pull"], &variables);
    assert_eq!(pulled.status.code(), Some(1));
    let said = err(&pulled);
    assert!(said.contains("could not connect") && said.contains("--from DIR"), "{said}");

    let pulled = meerkat(&["models", "pull", "yolox-nano"], &variables);
    assert_eq!(pulled.status.code(), Some(1));
    let said = err(&pulled);
    assert!(said.contains("yolox_nano.onnx") && said.contains("pull yolox-nano --from DIR"), "{said}");
}

#[test]
fn real_weights_are_pulled_from_a_folder_and_damage_is_found() {
    let Some(weights) = data("weights") else { return };
    let whole = [("MEERKAT_MODELS_DIR", text(&weights))];
    let verified = meerkat(&["models", "verify"], &whole);
    assert_eq!(verified.status.code(), Some(0), "{}", err(&verified));
    let pulled = meerkat(&["models", "pull"], &whole);
    assert_eq!(pulled.status.code(), Some(0), "{}", err(&pulled));
    assert!(out(&pulled).lines().all(|line| line.ends_with(": already here")), "{}", out(&pulled));

    let dir = tempfile::tempdir().unwrap();
    let variables = [("MEERKAT_MODELS_DIR", text(dir.path()))];
    let pull = ["models", "pull", "yunet-n", "person-detection-retail-0013", "--from", text(&weights)];
    let pulled = meerkat(&pull, &variables);
    assert_eq!(pulled.status.code(), Some(0), "{}", err(&pulled));
    assert_eq!(out(&pulled), "yunet-n: fetched\nperson-detection-retail-0013: fetched\n");
    let present = json_lines(&meerkat(&["models", "list", "--json"], &variables));
    assert_eq!(present.iter().filter(|network| network["state"] == "present").count(), 2);

    let path = out(&meerkat(&["models", "path", "person-detection-retail-0013"], &variables));
    let graph = path.lines().next().unwrap();
    let mut bytes = std::fs::read(graph).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(graph, bytes).unwrap();
    let verified = meerkat(&["models", "verify"], &variables);
    assert_eq!((verified.status.code(), out(&verified).as_str()), (Some(1), "yunet-n: whole\n"));
    assert!(err(&verified).contains("is damaged: its SHA-256 is"), "{}", err(&verified));
    let pulled = meerkat(&pull, &variables);
    assert_eq!(out(&pulled), "yunet-n: already here\nperson-detection-retail-0013: fetched\n");
    assert_eq!(meerkat(&["models", "verify"], &variables).status.code(), Some(0));
}
