//! Recordings as evidence: signed from the camera to the clip, checked by the program and by others, repaired, and
//! recorded without a break.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use meerkat_base::{Clock, SystemClock};
use meerkat_store::StoreReader;
use meerkat_store::spool::{SpoolItem, SpoolReader};
use serde_json::Value;

use crate::harness::{Camera, Node, PATIENCE, Plan, eventually, ffprobe, files_below, jpeg, paced};

fn signed() -> Plan {
    Plan::new().set("signing.enabled", true).set("signing.every_secs", 0.2).set("spool.keep", "1d")
}

/// Sends so many pictures, all answered with 1.
fn send(camera: &mut Camera, count: u32) {
    paced(0..count, Duration::from_millis(30), |seed| assert_eq!(camera.frame(&jpeg(320, 240, seed)), b'1'));
}

/// The finished files of a kind, once there are so many and nothing is left to be done; with the kept spools.
fn finished(node: &Node, kind: &str, count: usize) -> (Vec<PathBuf>, Vec<PathBuf>) {
    eventually(&format!("{count} files of kind {kind}"), PATIENCE, || {
        let mut files = files_below(&node.data().join("capture").join(kind));
        files.retain(|file| file.extension().is_some_and(|ending| ending == "mp4"));
        files.retain(|file| !file.file_name().unwrap().to_string_lossy().starts_with('.'));
        let mut kept: Vec<PathBuf> = std::fs::read_dir(node.data().join("spool/kept"))
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path())
            .collect();
        kept.sort();
        (files.len() == count && kept.len() >= count).then_some((files, kept))
    })
}

fn run(node: &Node, plan: &Plan, args: &[&str]) -> Output {
    let asking = plan.clone().set("http.listen", node.http_address());
    asking.command(node.data().parent().unwrap()).args(args).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

#[track_caller]
fn proves(node: &Node, plan: &Plan, files: &[&Path], proven: bool) -> String {
    let mut args = vec!["clips", "prove"];
    args.extend(files.iter().map(|file| file.to_str().unwrap()));
    let output = run(node, plan, &args);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(
        code(&output),
        if proven { 0 } else { 3 },
        "{text} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// The stand-alone verifier, with either of its two ways to check a signature.
fn verifier(args: &[&str], plain: bool) -> (bool, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/verify_evidence.py");
    let mut command = Command::new("python3");
    if plain {
        command.env("PLAIN_ED25519", "1");
    }
    let output = command.arg(script).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{text}");
    (output.status.success(), text)
}

fn flip(file: &Path, at: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[at] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn a_signed_recording_is_proven_and_every_change_of_it_found() {
    let plan = signed();
    let mut node = plan.clone().start();
    let mut camera = node.camera("drone", 2);
    send(&mut camera, 20);
    drop(camera);
    let (files, kept) = finished(&node, "video", 1);
    let (file, spool) = (files[0].as_path(), kept[0].as_path());
    // Beside the node at work.
    let text = proves(&node, &plan, &[file], true);
    assert!(text.contains("20 frames of camera drone, numbers 1 to 20"), "{text}");
    proves(&node, &plan, &[spool], true);
    let strip = std::fs::read(format!("{}.strip.jpg", file.display())).unwrap();
    assert!(strip.starts_with(b"\xFF\xD8"));

    let output = run(&node, &plan, &["clips", "public-key"]);
    let pem = node.data().join("node.pem");
    std::fs::write(&pem, &output.stdout).unwrap();
    let pem = pem.to_str().unwrap();
    let (file_text, spool_text) = (file.to_str().unwrap(), spool.to_str().unwrap());
    if Command::new("python3").arg("-V").output().is_ok() {
        for plain in [false, true] {
            let (proven, words) = verifier(&["--key", pem, spool_text], plain);
            assert!(proven, "{words}");
            let (proven, words) = verifier(&["--key", pem, "--spool", spool_text, file_text], plain);
            assert!(proven && words.contains("gapless"), "{words}");
        }
    }
    assert!(node.stop().success(), "{}", node.log());

    let frames = spool.join("frames");
    let original = std::fs::read(&frames).unwrap();
    for at in [5, 70, 200, original.len() / 2, original.len() - 1] {
        flip(&frames, at);
        proves(&node, &plan, &[spool], false);
        proves(&node, &plan, &[file], false);
        let (proven, words) = verifier(&["--key", pem, spool_text], true);
        assert!(!proven, "byte {at}: {words}");
        std::fs::write(&frames, &original).unwrap();
    }
    let clip = std::fs::read(file).unwrap();
    flip(file, clip.len() / 2);
    proves(&node, &plan, &[file], false);
    std::fs::write(file, &clip).unwrap();
    proves(&node, &plan, &[file], true);
    let proof = PathBuf::from(format!("{file_text}.proof"));
    let text = std::fs::read_to_string(&proof).unwrap();
    std::fs::write(&proof, text.replacen("drone", "gate1", 1)).unwrap();
    proves(&node, &plan, &[file], false);
    std::fs::write(&proof, text).unwrap();
    // Without the original pictures only the file itself can be proven.
    std::fs::rename(spool, node.data().join("elsewhere")).unwrap();
    proves(&node, &plan, &[file], false);
    let only = run(&node, &plan, &["clips", "prove", "--file-only", file_text]);
    assert_eq!(code(&only), 0);
}

#[test]
fn parts_follow_each_other_and_what_a_killed_node_recorded_is_proven_too() {
    // About five frames to a part.
    let plan = signed().set("signing.every_secs", 60);
    let mut node = plan.clone().start();
    let mut camera = node.camera("drone", 2);
    send(&mut camera, 7);
    assert_eq!(camera.mode(1), b'1');
    assert_eq!(camera.mode(2), b'1');
    send(&mut camera, 7);
    node.kill();
    node.restart();
    let (mut files, kept) = finished(&node, "video", 2);
    files.sort();
    let text = proves(&node, &plan, &[&files[0], &files[1]], true);
    assert!(text.contains("follows directly on the recording before it"), "{text}");
    assert!(text.contains("1 of its 7 frames were signed as they came"), "{text}");
    // By itself the second one proves only what was signed before the end.
    proves(&node, &plan, &[&kept[1]], false);
}

#[test]
fn files_and_database_are_compared_and_repaired() {
    let plan = signed();
    let mut node = plan.clone().start();
    for _ in 0..3 {
        let mut camera = node.camera("drone", 2);
        send(&mut camera, 5);
    }
    let (mut files, kept) = finished(&node, "video", 3);
    files.sort();
    let verify = |node: &Node, args: &[&str]| {
        let output = run(node, &plan, &[&["clips", "verify", "--json"], args].concat());
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        (code(&output), report)
    };
    let (exit, report) = verify(&node, &[]);
    assert_eq!((exit, &report["files"], &report["checksums"]), (0, &3.into(), &3.into()), "{report}");
    let beside = run(&node, &plan, &["clips", "verify", "--repair"]);
    assert_eq!(code(&beside), 1, "a node at work has the lock");
    assert!(String::from_utf8_lossy(&beside.stderr).contains("stopped"), "{beside:?}");
    assert!(node.stop().success(), "{}", node.log());

    // One is gone, one is altered, and one is there that nobody knows.
    std::fs::remove_file(&files[0]).unwrap();
    flip(&files[1], 5000);
    let unknown = files[2].with_file_name("20261120T213114.123456Z_drone.mp4");
    std::fs::copy(&files[2], &unknown).unwrap();
    let wrong = |report: &Value| -> Vec<String> {
        let findings = report["findings"].as_array().unwrap();
        let mut wrong: Vec<String> =
            findings.iter().map(|f| f["finding"]["wrong"].as_str().unwrap().to_owned()).collect();
        wrong.sort();
        wrong.retain(|wrong| wrong != "stray");
        wrong
    };
    let (exit, report) = verify(&node, &[]);
    assert_eq!(exit, 3);
    assert_eq!(wrong(&report), ["altered", "missing", "orphan"]);
    let (_, report) = verify(&node, &["--repair"]);
    assert!(
        report["findings"]
            .as_array()
            .unwrap()
            .iter()
            .all(|f| f["repaired"].is_string() || f["finding"]["wrong"] == "stray"),
        "{report}"
    );
    let (exit, report) = verify(&node, &[]);
    assert_eq!((exit, &report["files"]), (0, &4.into()), "{report}");
    assert_eq!(ffprobe(&files[0]).frames, 5, "made anew from its spool");
    assert!(files[1].with_file_name(format!("{}.damaged", name(&files[1]))).exists(), "nothing is deleted");

    for file in &files[..2] {
        proves(&node, &plan, &[file], true);
    }

    // Without the key the new file cannot be signed, and whoever proves it is told what happened.
    let pem = node.data().join("node.pem");
    std::fs::write(&pem, run(&node, &plan, &["clips", "public-key"]).stdout).unwrap();
    let (key, away) = (node.data().join("keys/signing.key"), node.data().join("signing.key"));
    std::fs::rename(&key, &away).unwrap();
    flip(&files[0], 5000);
    // With the same settings it would become the very file that was signed.
    let repair = run(&node, &plan.clone().set("clip.crf", 40), &["clips", "verify", "--repair"]);
    assert_eq!(code(&repair), 0, "{repair:?}");
    let output =
        run(&node, &plan, &["clips", "prove", "--key", pem.to_str().unwrap(), files[0].to_str().unwrap()]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(code(&output), 3);
    assert!(
        text.contains("not the one that was signed") && text.contains("made anew from its spool"),
        "{text}"
    );
    std::fs::rename(&away, &key).unwrap();

    // Without a spool there is nothing to make it of: its row says so from then on.
    std::fs::remove_file(&files[2]).unwrap();
    for spool in &kept {
        std::fs::rename(spool, node.data().join(name(spool))).unwrap();
    }
    let (exit, _) = verify(&node, &["--repair"]);
    assert_eq!(exit, 3);
    let listed = run(&node, &plan, &["clips", "list"]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let line =
        listed.lines().find(|line| line.contains(&name(&files[2]))).unwrap_or_else(|| panic!("{listed}"));
    assert!(line.contains("missing since"), "{line}");
    assert_eq!(listed.lines().count(), 4);
    let path = files[0].to_str().unwrap();
    let shown = run(&node, &plan, &["clips", "show", path, "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["clip"]["frames"], 5);
}

#[test]
fn a_snapshot_whose_row_never_came_has_one_after_the_next_start() {
    let mut node = Plan::new().start();
    assert!(node.stop().success(), "{}", node.log());
    // As when a node dies between the two.
    let at = SystemClock::new().wall();
    let day = format!("capture/clip/gate/{}", at.date());
    let path = format!("{day}/{}_018f0000-0000-7000-8000-000000000000.jpg", at.compact());
    std::fs::create_dir_all(node.data().join(day)).unwrap();
    std::fs::write(node.data().join(&path), jpeg(64, 48, 1)).unwrap();
    node.restart();
    eventually("its row", PATIENCE, || {
        StoreReader::open(&node.data()).unwrap().has_snapshot(&path).unwrap().then_some(())
    });
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Numbers of the frames in a spool.
fn numbers(spool: &Path) -> Vec<u64> {
    let mut reader = SpoolReader::open(spool).unwrap();
    let mut numbers = Vec::new();
    loop {
        match reader.next_item().unwrap() {
            SpoolItem::Frame(frame) => numbers.push(frame.seq),
            SpoolItem::End(end) => {
                assert!(end.finished);
                return numbers;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_camera_is_recorded_without_a_break_beside_the_clips_of_its_events() {
    let mut node = Plan::new()
        .with_quick_motion()
        .set("cameras.gate.continuous", true)
        .set("continuous.segment_secs", 1)
        .set("clip.kinds", "motion")
        .set("clip.pre_roll_secs", 1)
        .set("clip.post_roll_secs", 0.2)
        .set("spool.keep", "1h")
        .start();
    let mut camera = node.camera("gate", 3);
    for _ in 0..4 {
        node.stir(&mut camera, "gate");
    }
    drop(camera);
    assert!(node.stop().success(), "{}", node.log());
    node.restart();
    let spools = |kind: &str| -> Vec<PathBuf> {
        let mut spools: Vec<PathBuf> = std::fs::read_dir(node.data().join("spool/kept"))
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().contains(&format!("_{kind}_")))
            .collect();
        spools.sort();
        spools
    };
    let segments = eventually("everything is encoded", PATIENCE, || {
        let waiting = std::fs::read_dir(node.data().join("spool")).unwrap().count();
        (waiting == 1).then(|| spools("segment"))
    });
    assert!(segments.len() >= 3, "{segments:?}");
    let all: Vec<u64> = segments.iter().flat_map(|spool| numbers(spool)).collect();
    let sent = u64::try_from(all.len()).unwrap();
    assert!(sent >= 4 * 18, "{sent}");
    assert_eq!(all, (1..=sent).collect::<Vec<u64>>(), "each frame once, none lost between two segments");
    let files = files_below(&node.data().join("capture/segment/gate"));
    let mp4: Vec<&PathBuf> =
        files.iter().filter(|file| file.extension().is_some_and(|e| e == "mp4")).collect();
    assert_eq!(mp4.len(), segments.len());
    let frames: u64 = mp4.iter().map(|file| ffprobe(file).frames).sum();
    assert_eq!(frames, sent);
    let clips = spools("clip");
    assert!(!clips.is_empty());
    for clip in clips {
        let numbers = numbers(&clip);
        let expected: Vec<u64> = (numbers[0]..=*numbers.last().unwrap()).collect();
        assert_eq!(numbers, expected);
    }
}
