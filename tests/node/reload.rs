//! Signals: new settings in a running node, and how it ends.

use std::process::Command;
use std::time::{Duration, Instant};

use meerkat_base::EventKind;
use rustix::process::Signal;

use crate::harness::{Ended, Node, PATIENCE, Plan, eventually, ffprobe, files_below, jpeg, stir};

const RELOADED: &str = "settings reloaded; listeners, data folder and threads keep what they started with";
const NOT_RELOADED: &str = "settings not reloaded; the old ones stay in force";

const BEFORE: &str = r#"
[cameras.door]
token = "old-token"
allowed_modes = [1, 2, 3]

[cameras.yard]
name = "Yard"
"#;

const AFTER: &str = r#"
[cameras.door]
token = "new-token"
allowed_modes = [1]

[cameras.yard]
name = "Courtyard"

[cameras.shed]
name = "Shed"
"#;

#[track_caller]
fn hello(node: &Node, id: &str, token: &str) -> u8 {
    node.connect().hello(id, Some(token))
}

#[test]
fn new_settings_reach_one_camera_and_leave_the_other_alone() {
    let mut node = Plan::new().file(BEFORE).start();
    let (mut door, mut yard) = (node.connect(), node.connect());
    assert_eq!((door.hello("door", Some("old-token")), door.mode(3)), (b'1', b'1'));
    assert_eq!((yard.hello("yard", None), yard.mode(1)), (b'1', b'1'));
    let picture = jpeg(64, 48, 1);
    assert_eq!((door.frame(&picture), yard.frame(&picture)), (b'1', b'1'));
    // In the middle of a picture: what has been sent of it must not be lost either.
    let whole = [&b"start"[..], &picture, b"end"].concat();
    yard.send(&whole[..100]);

    node.write_file(AFTER);
    node.signal(Signal::HUP);
    node.wait_for_log(RELOADED);
    yard.send(&whole[100..]);
    assert_eq!(yard.answer(), b'1');
    for _ in 0..5 {
        assert_eq!(yard.frame(&picture), b'1', "the other camera is where it was");
    }
    assert_eq!(files_below(&node.data().join("capture/image/yard")).len(), 7);
    assert_eq!(
        (door.mode(2), door.mode(1)),
        (b'0', b'1'),
        "the modes of a camera that is here are the new ones"
    );
    assert_eq!(hello(&node, "door", "old-token"), b'0');
    assert_eq!(door.frame(&picture), b'1', "whoever proved itself by then stays");
    let mut newcomer = node.connect();
    assert_eq!(
        (newcomer.hello("door", Some("new-token")), newcomer.mode(3), newcomer.mode(1)),
        (b'1', b'0', b'1')
    );
    let status = node.status();
    let ids: Vec<&str> =
        status["cameras"].as_array().unwrap().iter().filter_map(|c| c["id"].as_str()).collect();
    assert_eq!(ids, ["door", "shed", "yard"], "a camera that is new in the settings is there");
    assert!(node.metrics().has("meerkat_camera_up", &[("camera", "shed")]));
    assert!(node.stop().success(), "{}", node.log());
}

#[test]
fn wrong_new_settings_change_nothing() {
    let mut node = Plan::new().file(BEFORE).start();
    let mut door = node.connect();
    assert_eq!((door.hello("door", Some("old-token")), door.mode(3)), (b'1', b'1'));
    node.write_file(&format!("{AFTER}\n[ring]\nseconds = \"soon\"\n[clip]\ncrf = 99\n"));
    node.signal(Signal::HUP);
    let complaint = node.wait_for_log(NOT_RELOADED)["error"].as_str().unwrap().to_owned();
    assert!(complaint.contains("ring.seconds") && complaint.contains("clip.crf"), "{complaint}");
    assert!(!complaint.contains("token"), "{complaint}");
    assert_eq!((door.mode(2), door.mode(3), door.frame(&jpeg(64, 48, 1))), (b'1', b'1', b'1'));
    assert_eq!((hello(&node, "door", "new-token"), hello(&node, "door", "old-token")), (b'0', b'1'));
    // And right ones are taken afterwards.
    node.write_file(AFTER);
    node.signal(Signal::HUP);
    node.wait_for_log(RELOADED);
    assert_eq!((hello(&node, "door", "old-token"), hello(&node, "door", "new-token")), (b'0', b'1'));
}

#[test]
fn wrong_settings_are_all_listed_and_end_the_program_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::new().set("frame.max_scans", 0).set("http.listen", "nowhere").set("frame.max_scanz", 7);
    for arguments in [["run"], ["check-config"]] {
        let output = plan.command(folder.path()).args(arguments).output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {complaint}");
        for key in ["frame.max_scans", "http.listen", "frame.max_scanz", "MEERKAT__HTTP__LISTEN"] {
            assert!(complaint.contains(key), "{arguments:?} does not name {key}: {complaint}");
        }
    }
    assert!(!folder.path().join("data").exists(), "a node with wrong settings has begun to work");
}

#[test]
fn a_second_node_in_the_same_folder_and_a_taken_port_are_refused_with_1() {
    let node = Plan::new().start();
    let refusal = |command: &mut Command| {
        let output = command.arg("run").output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let folder = node.data().parent().unwrap().to_owned();
    let (code, complaint) = refusal(&mut Plan::new().command(&folder));
    assert_eq!(code, Some(1), "{complaint}");
    assert!(complaint.contains(&node.pid().to_string()) || complaint.contains("data"), "{complaint}");
    let elsewhere = tempfile::tempdir().unwrap();
    for key in ["frame.listen", "http.listen"] {
        let address = if key == "frame.listen" { node.frame_address() } else { node.http_address() };
        let (code, complaint) = refusal(&mut Plan::new().set(key, address).command(elsewhere.path()));
        assert_eq!(code, Some(1), "{key}: {complaint}");
        assert!(complaint.contains(&address.to_string()), "{key}: {complaint}");
        let last = complaint.lines().last().unwrap_or_default();
        assert_eq!(last.matches("in use").count(), 1, "{key}: {complaint}");
    }
    assert_eq!(node.get("/healthz").status, 200, "the first one does not mind");
}

#[test]
fn sigterm_finishes_the_clip_in_hand_and_closes_the_event() {
    // Nothing but the signal ends the event or its recording.
    let mut node = Plan::new()
        .set("events.motion.end_secs", 600)
        .set("clip.kinds", "motion")
        .set("clip.post_roll_secs", 200)
        .start();
    let mut camera = node.camera("yard", 3);
    let mut video = node.camera("drone", 2);
    for seed in 0..4 {
        assert_eq!(video.frame(&jpeg(320, 240, seed)), b'1');
    }
    stir(&mut camera);
    let running = eventually("the motion is an event", PATIENCE, || node.events("yard").pop());
    assert_eq!((running.kind, running.ended), (EventKind::Motion, None));
    eventually("it is being recorded", PATIENCE, || {
        (node.camera_status("yard")["recording"] == true).then_some(())
    });
    stir(&mut camera);
    let status = node.stop();
    assert_eq!(status.code(), Some(0), "{}", node.log());
    assert_eq!((camera.try_answer(), video.try_answer()), (Err(Ended::Closed), Err(Ended::Closed)));

    let rows = node.events("yard");
    assert_eq!(rows.len(), 1);
    assert!(rows[0].ended.is_some() && !rows[0].interrupted, "{:?}", rows[0]);
    assert_eq!(rows[0].clips.len(), 1, "{:?}\n{}", rows[0], node.log());
    let clip = ffprobe(&node.data().join(&rows[0].clips[0].path));
    assert_eq!((clip.codec.as_str(), clip.frames), ("h264", rows[0].clips[0].frames));
    // Everything from the event's first frame on was answered while it was being recorded, or is in the pre-roll.
    assert_eq!(clip.frames, 36, "frames of both stirrings");
    let videos = files_below(&node.data().join("capture/video"));
    assert_eq!(videos.iter().map(|video| ffprobe(video).frames).collect::<Vec<_>>(), [4]);
    assert_eq!(files_below(&node.data().join("spool")).len(), 0, "nothing is left for the next start");

    node.restart();
    assert_eq!(node.events("yard"), rows, "and the next start finds nothing to mend");
}

#[test]
fn a_second_signal_ends_the_node_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut node = Plan::new().with_faults().start();
        // An encoder that hangs: without the second signal the node would wait for it as long as it waits at all.
        node.order("encoder - hang 1");
        let mut camera = node.camera("drone", 2);
        assert_eq!(camera.frame(&jpeg(320, 240, 1)), b'1');
        node.signal(signal);
        node.wait_for_log("meerkat stops; a second signal ends it at once");
        assert_eq!(camera.try_answer(), Err(Ended::Closed));
        assert!(node.is_running());
        let began = Instant::now();
        // Within a tenth of a second it is the same signal, sent to a process and to its group.
        eventually("the second signal is heard", PATIENCE, || {
            node.signal(signal);
            (!node.is_running()).then_some(())
        });
        let status = node.wait_for_end(PATIENCE);
        assert_eq!(status.code(), Some(130), "{}", node.log());
        assert!(!node.log().contains("meerkat stopped"), "it ended by itself after {:?}", began.elapsed());
        // What was answered is still there.
        node.restart();
        let video = eventually("the video is finished by the next start", PATIENCE, || {
            let spools = files_below(&node.data().join("spool"));
            files_below(&node.data().join("capture/video")).pop().filter(|_| spools.is_empty())
        });
        assert_eq!(ffprobe(&video).frames, 1);
    }
}

#[test]
fn a_node_without_work_ends_soon() {
    let mut node = Plan::new().start();
    let _silent = node.connect();
    let _idle = node.camera("door", 1);
    node.signal(Signal::INT);
    assert_eq!(node.wait_for_end(Duration::from_secs(8)).code(), Some(0), "{}", node.log());
}

#[test]
fn a_node_that_stood_still_as_a_whole_goes_on_where_it_was() {
    // As when the machine sleeps or a container is frozen: no thread runs, so none of them hangs.
    let mut node = Plan::new().with_quick_motion().set("clip.kinds", "motion").start();
    let mut camera = node.camera("yard", 3);
    node.stir(&mut camera, "yard");
    // Every actor is at work, or waits for some, in the moment in which it is stopped.
    stir(&mut camera);
    node.signal(Signal::STOP);
    // Longer than any of them may stand still.
    std::thread::sleep(Duration::from_secs(6));
    node.signal(Signal::CONT);
    assert_eq!(camera.frame(&jpeg(320, 240, 1)), b'1', "the connection is the same");
    node.stir(&mut camera, "yard");
    let metrics = node.metrics();
    assert_eq!(metrics.sum("meerkat_actor_restarts_total", &[]), 0.0, "{}", node.log());
    assert_eq!(metrics.sum("meerkat_abandoned_threads", &[]), 0.0);
    assert!(node.stop().success(), "{}", node.log());
}
