//! The disk filled to the last byte, taken away and given back, under the real program. Each test runs once more inside a
//! mount namespace of its own, where it may mount what it likes and nobody else sees it.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use meerkat_store::{Store, StoreOptions};

use crate::harness::{Node, PATIENCE, Plan, eventually, files_below, jpeg, stir};

/// In the environment of a test that runs inside.
const INSIDE: &str = "MEERKAT_TEST_NAMESPACE";
/// What is promised: recording goes on so soon after the disk is back.
const BACK: Duration = Duration::from_secs(5);

/// Runs the test once more in a namespace; true inside. Skips, and says so, where that is not permitted.
fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let permitted = Command::new("unshare").args(["-Urm", "true"]).output();
    if !permitted.is_ok_and(|output| output.status.success()) {
        assert!(
            std::env::var_os("MEERKAT_REQUIRE_DATA").is_none(),
            "user namespaces are not permitted here, and CI wants this test"
        );
        eprintln!("skipped: user namespaces are not permitted here");
        return false;
    }
    let own = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .arg("-Urm")
        .arg(own)
        .args(["--exact", &format!("disk::{test}"), "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed inside its namespace");
    false
}

fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status().unwrap();
    assert!(status.success(), "{program} {args:?}");
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A small disk, mounted where the node has its data.
struct Disk {
    folder: tempfile::TempDir,
    /// Where it is mounted whether or not the node sees it.
    kept: PathBuf,
}

impl Disk {
    fn new(megabytes: u32) -> Self {
        let folder = tempfile::Builder::new().prefix("meerkat-disk-").tempdir().unwrap();
        let kept = folder.path().join("disk");
        let disk = Self { folder, kept };
        std::fs::create_dir(&disk.kept).unwrap();
        run("mount", &["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "meerkat", shown(&disk.kept)]);
        std::fs::create_dir(disk.data()).unwrap();
        disk.mount();
        disk
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn mount(&self) {
        run("mount", &["--bind", shown(&self.kept), shown(&self.data())]);
    }
}

struct Filler(PathBuf);

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn plan() -> Plan {
    Plan::new()
        .with_quick_motion()
        .set("clip.kinds", "motion")
        .set("clip.pre_roll_secs", 0.5)
        .set("clip.post_roll_secs", 0.3)
        .set("clip.preset", "ultrafast")
        .set("storage.free_floor_bytes", 4 << 20)
        .set("storage.free_extra_bytes", 2 << 20)
        .set("storage.ballast_bytes", 2 << 20)
        .set("supervision.backoff_max_secs", 2)
}

/// A node on a small disk. What is mounted goes with the namespace.
struct Stage {
    node: Node,
    kept: PathBuf,
    data: PathBuf,
}

fn start(plan: Plan, disk: Disk) -> Stage {
    let (kept, data) = (disk.kept.clone(), disk.data());
    Stage { node: plan.start_in(disk.folder), kept, data }
}

/// Fills the disk to the last byte, until the result is dropped.
fn fill(kept: &Path) -> Filler {
    let path = kept.join("filler");
    let mut file = File::create(&path).unwrap();
    for size in [1 << 20, 4_096, 1] {
        let piece = vec![1; size];
        while file.write_all(&piece).is_ok() {}
    }
    Filler(path)
}

/// Makes one event with a finished clip, keeps it, and returns the clip's path below the data folder and its bytes.
fn kept_clip(stage: &Stage) -> (String, Vec<u8>) {
    let mut camera = stage.node.camera("yard", 4);
    let event = stage.node.stir(&mut camera, "yard");
    let clip = eventually("the clip is finished", PATIENCE, || {
        stage.node.store().event(event.id).unwrap()?.clips.first().cloned()
    });
    let page = stage.node.post(&format!("/api/v1/events/{}/keep", event.id));
    assert_eq!(page.status, 200, "{}", page.text());
    let bytes = std::fs::read(stage.data.join(&clip.path)).unwrap();
    (clip.path, bytes)
}

/// Time until a picture of mode 1 is taken.
fn until_taken(node: &Node, seed: u32) -> Duration {
    let began = Instant::now();
    let mut camera = node.camera("front", 1);
    eventually("pictures are taken again", PATIENCE, || {
        (camera.frame(&jpeg(160, 120, seed)) == b'1').then_some(())
    });
    began.elapsed()
}

#[test]
fn a_disk_full_to_the_last_byte_keeps_what_is_kept_and_recording_goes_on_when_there_is_room() {
    if !inside("a_disk_full_to_the_last_byte_keeps_what_is_kept_and_recording_goes_on_when_there_is_room") {
        return;
    }
    let mut stage = start(plan(), Disk::new(48));
    let (path, bytes) = kept_clip(&stage);
    eventually("there is ballast", PATIENCE, || {
        (stage.node.metric("meerkat_ballast_bytes", &[]) > 0.0).then_some(())
    });
    let filler = fill(&stage.kept);
    let mut pictures = stage.node.camera("front", 1);
    // What may go goes, and then nothing may.
    let refused = eventually("pictures are refused", PATIENCE, || {
        let began = Instant::now();
        (pictures.frame(&jpeg(160, 120, 1)) == b'0').then(|| began.elapsed())
    });
    assert!(refused >= Duration::from_secs(1), "the answer is held back for a second: {refused:?}");
    eventually("the ballast was given up", PATIENCE, || {
        (stage.node.metric("meerkat_ballast_bytes", &[]) == 0.0).then_some(())
    });
    // Detection goes on and is answered with 1, events are written, and they say what is missing.
    let mut yard = stage.node.camera("yard", 4);
    let event = stage.node.stir(&mut yard, "yard");
    let refused_event = eventually("the event says so", PATIENCE, || {
        stage.node.store().event(event.id).unwrap().filter(|row| row.recording_refused)
    });
    assert!(refused_event.clips.is_empty());
    let shown = stage.node.get(&format!("/api/v1/events/{}", event.id)).json();
    assert_eq!(shown["recording_refused"], true);
    assert_eq!((stage.node.get("/healthz").status, stage.node.get("/readyz").status), (200, 503));
    assert_eq!(stage.node.metric("meerkat_storage_usable", &[]), 0.0);
    assert_eq!(std::fs::read(stage.data.join(&path)).unwrap(), bytes, "what is kept is untouched");

    let began = Instant::now();
    drop(filler);
    until_taken(&stage.node, 2);
    assert!(began.elapsed() <= BACK, "recording goes on after {:?}", began.elapsed());
    let event = stage.node.stir(&mut yard, "yard");
    eventually("clips are made again", PATIENCE, || {
        let row = stage.node.store().event(event.id).unwrap()?;
        (!row.clips.is_empty() && !row.recording_refused).then_some(())
    });
    assert_eq!(std::fs::read(stage.data.join(&path)).unwrap(), bytes);
    eventually("there is ballast again", PATIENCE, || {
        (stage.node.metric("meerkat_ballast_bytes", &[]) > 0.0).then_some(())
    });
    assert!(!stage.node.log().contains("panicked"), "nothing panics");
    assert!(stage.node.stop().success());
}

#[test]
fn a_node_starts_on_a_full_disk_with_the_room_of_its_ballast_and_says_what_is_wrong_without() {
    if !inside("a_node_starts_on_a_full_disk_with_the_room_of_its_ballast_and_says_what_is_wrong_without") {
        return;
    }
    let mut stage = start(plan(), Disk::new(48));
    let (path, bytes) = kept_clip(&stage);
    let has_ballast = |node: &Node| {
        eventually("there is ballast", PATIENCE, || {
            (node.metric("meerkat_ballast_bytes", &[]) > 0.0).then_some(())
        });
    };
    has_ballast(&stage.node);
    assert!(stage.node.stop().success());
    // As after any command that asks for it: whoever closes the database last removes the files beside it.
    let close = || drop(Store::open(&stage.data, StoreOptions::default()).unwrap());
    close();
    assert!(!stage.data.join("meerkat.db-shm").exists(), "it has to be made anew");
    let filler = fill(&stage.kept);
    stage.node.restart();
    let said = stage.node.wait_for_log("the ballast was given up so that the database can be opened");
    assert_eq!(said["bytes"], 2 << 20);
    // It works, with as much as there is room for.
    let mut yard = stage.node.camera("yard", 4);
    let event = stage.node.stir(&mut yard, "yard");
    assert!(stage.node.store().event(event.id).unwrap().is_some(), "events are written");
    assert_eq!(std::fs::read(stage.data.join(&path)).unwrap(), bytes, "what is kept is untouched");
    drop(filler);
    until_taken(&stage.node, 2);
    has_ballast(&stage.node);
    assert!(stage.node.stop().success());

    // Without ballast it says so, ends, and starts as soon as there is room.
    close();
    std::fs::remove_file(stage.data.join("meerkat.ballast")).unwrap();
    let filler = fill(&stage.kept);
    let root = stage.data.parent().unwrap();
    let output = plan().command(root).arg("run").output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("its disk is full") && log.contains("Free some megabytes"), "{log}");
    drop(filler);
    stage.node.restart();
    assert_eq!(std::fs::read(stage.data.join(&path)).unwrap(), bytes);
    assert!(stage.node.stop().success());
}

#[test]
fn a_disk_that_is_taken_away_and_given_back_is_recorded_to_by_itself() {
    if !inside("a_disk_that_is_taken_away_and_given_back_is_recorded_to_by_itself") {
        return;
    }
    let mut stage = start(plan(), Disk::new(48));
    let (path, bytes) = kept_clip(&stage);
    let mut yard = stage.node.camera("yard", 4);
    for round in 0..2 {
        let mut pictures = stage.node.camera("front", 1);
        assert_eq!(pictures.frame(&jpeg(160, 120, round)), b'1');
        run("umount", &["-l", shown(&stage.data)]);
        eventually("pictures are refused", PATIENCE, || {
            (pictures.frame(&jpeg(160, 120, 1)) == b'0').then_some(())
        });
        stir(&mut yard);
        assert_eq!(stage.node.get("/healthz").status, 200);
        eventually("it is not ready", PATIENCE, || (stage.node.get("/readyz").status == 503).then_some(()));
        assert_eq!(files_below(&stage.data), Vec::<PathBuf>::new(), "nothing is written beside the disk");

        if round == 1 {
            // As another disk with the same data: everything that was open on the first one is of no use.
            let other = stage.kept.with_file_name("other");
            std::fs::create_dir(&other).unwrap();
            run("mount", &["-t", "tmpfs", "-o", "size=48m", "meerkat", shown(&other)]);
            run("cp", &["-a", &format!("{}/.", shown(&stage.kept)), shown(&other)]);
            stage.kept = other;
        }
        let began = Instant::now();
        run("mount", &["--bind", shown(&stage.kept), shown(&stage.data)]);
        until_taken(&stage.node, 2);
        assert!(began.elapsed() <= BACK, "recording goes on after {:?}", began.elapsed());
        let event = stage.node.stir(&mut yard, "yard");
        eventually("clips are made again, on the disk that is there", PATIENCE, || {
            let row = stage.node.store().event(event.id).unwrap()?;
            row.clips.iter().any(|clip| stage.data.join(&clip.path).exists()).then_some(())
        });
        assert_eq!(std::fs::read(stage.data.join(&path)).unwrap(), bytes, "what is kept is untouched");
        eventually("it is ready again", PATIENCE, || (stage.node.get("/readyz").status == 200).then_some(()));
    }
    assert!(stage.node.log().contains("the data folder is back on another mount"));
    assert!(!stage.node.log().contains("panicked"), "nothing panics");
    assert!(stage.node.stop().success());
}

#[test]
fn pictures_at_full_speed_never_meet_a_full_disk_while_something_may_go() {
    if !inside("pictures_at_full_speed_never_meet_a_full_disk_while_something_may_go") {
        return;
    }
    let plan = plan().set("storage.free_floor_bytes", 16 << 20).set("storage.free_extra_bytes", 8 << 20);
    let mut stage = start(plan, Disk::new(64));
    let address = stage.node.frame_address();
    let picture = jpeg(640, 480, 7);
    // Each camera writes the disk twice over.
    let count = (128 << 20) / picture.len();
    let pushing: Vec<_> = ["front", "gate"]
        .into_iter()
        .map(|id| {
            let picture = picture.clone();
            std::thread::spawn(move || {
                let mut camera = crate::harness::Camera::connect(address);
                assert_eq!((camera.hello(id, None), camera.mode(1)), (b'1', b'1'));
                let began = Instant::now();
                let refused = (0..count).filter(|_| camera.frame(&picture) != b'1').count();
                (refused, began.elapsed())
            })
        })
        .collect();
    let mut least = f64::MAX;
    while !pushing.iter().all(|camera| camera.is_finished()) {
        least = least.min(stage.node.metric("meerkat_storage_free_bytes", &[]));
        std::thread::sleep(Duration::from_millis(20));
    }
    for camera in pushing {
        let (refused, took) = camera.join().unwrap();
        let size = picture.len();
        eprintln!("{count} pictures of {size} bytes in {took:?}, {refused} refused, least free {least}");
        assert_eq!(refused, 0, "every picture found room");
    }
    assert!(least > 0.0);
    let gone =
        stage.node.metric("meerkat_storage_evicted_files_total", &[("kind", "image"), ("reason", "space")]);
    assert!(gone > count as f64, "{gone}");
    assert_eq!(stage.node.metric("meerkat_recordings_refused_total", &[]), 0.0);
    let left = files_below(&stage.data.join("capture/image"));
    assert!(left.len() * picture.len() > 20 << 20, "{} are left", left.len());
    assert!(stage.node.stop().success());
}

#[test]
fn a_disk_that_answers_with_errors_stops_nothing_and_is_recorded_to_when_it_is_well() {
    let mut node = plan().set("durability", "power").set("storage.ballast_bytes", 0).with_faults().start();
    let mut pictures = node.camera("front", 1);
    let mut video = node.camera("gate", 2);
    let mut yard = node.camera("yard", 4);
    let mut seed = 0;
    for op in ["open", "write", "sync", "rename"] {
        for error in ["enospc", "eio", "erofs"] {
            seed += 1;
            assert_eq!(pictures.frame(&jpeg(160, 120, seed)), b'1', "before {op} {error}");
            assert_eq!(video.frame(&jpeg(160, 120, seed)), b'1', "before {op} {error}");
            node.order(&format!("disk {op} {error} 1000000"));
            eventually("pictures are refused", PATIENCE, || {
                (pictures.frame(&jpeg(160, 120, seed)) == b'0').then_some(())
            });
            if op == "write" || op == "sync" {
                // What is open already: the spool of the video.
                assert_eq!(video.frame(&jpeg(160, 120, seed)), b'0', "{op} {error}");
            }
            // Its row is written all the same.
            node.stir(&mut yard, "yard");
            node.order("release");
            let began = Instant::now();
            for camera in [&mut pictures, &mut video] {
                eventually("it is taken again", PATIENCE, || {
                    (camera.frame(&jpeg(160, 120, seed)) == b'1').then_some(())
                });
            }
            assert!(began.elapsed() <= BACK, "recording goes on after {:?}: {op} {error}", began.elapsed());
        }
    }
    // The database refuses too: what is to be written waits for it.
    node.order("disk database eio 20");
    let event = node.stir(&mut yard, "yard");
    eventually("the clip of the last event is there", PATIENCE, || {
        node.store().event(event.id).unwrap().filter(|row| !row.clips.is_empty())
    });
    let events = node.events("yard");
    assert!(events.iter().any(|row| row.recording_refused), "events say that something is missing");
    assert!(events.iter().all(|row| row.ended.is_some()));
    let restarts = node.metrics().sum("meerkat_actor_restarts_total", &[]);
    assert_eq!(restarts, 0.0, "nobody was restarted for the disk's sake:\n{}", node.status()["actors"]);
    assert!(!node.log().contains("panicked"), "nothing panics");
    assert_eq!(files_below(&node.data().join("spool/set-aside")), Vec::<PathBuf>::new());
    assert!(node.stop().success());
}

#[test]
fn what_is_stored_is_told_and_kept_by_the_node_and_without_it() {
    let plan = plan().set("retention.kinds.motion.days", 7);
    let mut node = plan.clone().start();
    let (root, plan) =
        (node.data().parent().unwrap().to_owned(), plan.set("http.listen", node.http_address()));
    let command = |args: &[&str]| -> (bool, String) {
        let output = plan.command(&root).args(args).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    let mut camera = node.camera("yard", 4);
    let event = node.stir(&mut camera, "yard");
    let clip = eventually("the clip is finished", PATIENCE, || {
        node.store().event(event.id).unwrap()?.clips.first().cloned()
    });
    let id = event.id.to_string();
    for running in [true, false] {
        if !running {
            assert!(node.stop().success());
        }
        let (done, text) = command(&["storage", "plan", "--json"]);
        let planned: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
        assert!(done && planned["next"][0]["path"] == clip.path.as_str(), "{text}");
        assert_eq!(
            (&planned["next"][0]["kind"], &planned["next"][1]["kind"]),
            (&"clip".into(), &"snapshot".into())
        );
        assert!(planned["next"][0]["by_age"].is_string(), "a clip of motion goes after a week: {text}");
        assert!(command(&["storage", "plan"]).1.contains(&clip.path));
        eventually("everything was counted", PATIENCE, || {
            let report: serde_json::Value = serde_json::from_str(&command(&["storage", "--json"]).1).unwrap();
            let cameras = report["cameras"].as_array()?.clone();
            cameras.iter().find(|one| one["camera"] == "yard" && one["kind"] == "clip").cloned()
        });
        assert!(command(&["storage"]).1.contains("yard"));

        for what in [id.as_str(), clip.path.as_str()] {
            let (done, text) = command(&["clips", "keep", what]);
            assert!(done, "{text}");
            assert!(node.store().is_kept(&clip.path).unwrap());
            assert!(!command(&["storage", "plan"]).1.contains(&clip.path), "what is kept does not go");
            let (done, text) = command(&["clips", "unkeep", what]);
            assert!(done && !node.store().is_kept(&clip.path).unwrap(), "{text}");
        }
        let (done, text) = command(&["clips", "keep", "capture/clip/none.mp4"]);
        assert!(!done && text.contains("there is no event, clip or picture"), "{text}");
        let (done, text) = command(&["storage", "confirm-clock"]);
        assert_eq!(done, running, "{text}");
    }
}

#[test]
fn the_desk_leaves_the_last_free_space_to_evidence() {
    if !inside("the_desk_leaves_the_last_free_space_to_evidence") {
        return;
    }
    let four = "127.0.0.1:0,127.0.0.1:0,127.0.0.1:0,127.0.0.1:0";
    let plan = plan().set("dialects.desk.listen", four).set("dialects.desk.file_silence_ms", 200);
    let stage = start(plan, Disk::new(64));
    let node = &stage.node;
    let port = node.wait_for_logs("a dialect can be spoken", 4)[0]["address"].as_str().unwrap().to_owned();
    let said = |says: &[&[u8]]| -> String {
        let mut stream = TcpStream::connect(&port).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut heard = String::new();
        for say in says {
            // The node may have answered and gone before all was said.
            let _ = stream.write_all(say);
            let mut answer = [0; 1024];
            let length = stream.read(&mut answer).unwrap_or(0);
            heard = String::from_utf8_lossy(&answer[..length]).into_owned();
        }
        heard
    };
    let mut camera = node.camera("yard", 1);
    for seed in 0..20 {
        assert_eq!(camera.frame(&jpeg(320, 240, seed)), b'1');
    }
    let pictures = || files_below(&stage.data.join("capture/image/yard")).len();
    // A little more is free than what a full disk keeps for evidence, which are 4 and 2 MiB.
    let free = meerkat_store::disk::free_bytes(&stage.kept).unwrap();
    let filler = vec![1; usize::try_from(free).unwrap() - (12 << 20)];
    std::fs::write(stage.kept.join("filler"), filler).unwrap();
    let full = "error: too little free space on the disk";
    // What the node knows of its disk is a second old at most.
    eventually("the desk knows", PATIENCE, || {
        (said(&["发送csv文件mode".as_bytes(), b"9000000"]) == full).then_some(())
    });
    let table = vec![b'1'; 300_000];
    assert_eq!(
        said(&["发送csv文件mode".as_bytes(), b"300000", &table]),
        "OK",
        "there is room for a small one"
    );
    assert_eq!(said(&["加密文件转发mode2".as_bytes(), &vec![7; 200_000]]), "接收加密文件完成");
    let refused = said(&["加密文件转发mode2".as_bytes(), &vec![7; 9_000_000]]);
    assert!(refused.is_empty() || refused == full, "in the middle of a file: {refused}");
    assert_eq!(said(&[b"meerkat-relay/1 send 2 9000000\n"]), full);
    for (name, label) in [("meerkat_limit_hits_total", "limit"), ("meerkat_protocol_errors_total", "reason")]
    {
        eventually("it is counted", PATIENCE, || {
            (node.metric(name, &[(label, "desk_free_space")]) >= 3.0).then_some(())
        });
    }
    node.wait_for_log("a client was refused");
    assert_eq!(
        node.metrics().sum("meerkat_storage_evicted_files_total", &[]),
        0.0,
        "nothing went for the desk"
    );
    assert_eq!(camera.frame(&jpeg(320, 240, 99)), b'1', "and cameras have their room");
    assert_eq!(pictures(), 21);
}
