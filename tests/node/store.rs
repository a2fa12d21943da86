//! A database that is damaged, a backup that is restored, and what a person is told of both: by the real program.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::harness::{Node, PATIENCE, Plan, eventually};

fn plan() -> Plan {
    Plan::new()
        .with_quick_motion()
        .set("clip.kinds", "motion")
        .set("clip.pre_roll_secs", 1)
        .set("clip.post_roll_secs", 0.2)
        .set("clip.preset", "ultrafast")
}

fn run(node: &Node, arguments: &[&str]) -> Output {
    let plan = plan().set("http.listen", node.http_address());
    plan.command(node.data().parent().unwrap()).args(arguments).output().unwrap()
}

#[track_caller]
fn run_well(node: &Node, arguments: &[&str]) -> String {
    let output = run(node, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The lines of `meerkat events list --json` but for the last, which says where to go on.
#[track_caller]
fn listed(node: &Node, more: &[&str]) -> Vec<Value> {
    let text = run_well(node, &[&["events", "list", "--json", "--camera", "yard"], more].concat());
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.pop().unwrap().get("next").is_some());
    lines
}

#[track_caller]
fn motion_with_clip(node: &Node) -> String {
    let mut camera = node.camera("yard", 3);
    let event = node.stir(&mut camera, "yard");
    let clip = eventually("the clip is there", PATIENCE, || {
        node.events("yard")
            .into_iter()
            .find(|row| row.id == event.id)?
            .clips
            .first()
            .map(|clip| clip.path.clone())
    });
    eventually("its sidecar is there", PATIENCE, || {
        node.data().join(format!("{clip}.json")).exists().then_some(())
    });
    clip
}

fn spoil(data: &Path) {
    // The log too: it may hold the first page as well.
    for file in ["meerkat.db", "meerkat.db-wal"] {
        let path = data.join(file);
        let Ok(mut bytes) = std::fs::read(&path) else { continue };
        let spoilt = bytes.len().min(4_096);
        bytes[..spoilt].fill(0x5a);
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn a_damaged_database_is_made_anew_and_a_backup_comes_back() {
    let mut node = plan().start();
    assert_eq!(node.get("/readyz").status, 200);
    let clip = motion_with_clip(&node);
    let shelf = node.data().parent().unwrap().join("monday");
    let shelf = shelf.to_str().unwrap();
    run_well(&node, &["backup", shelf]);
    assert!(!run(&node, &["backup", shelf]).status.success(), "it is there already");
    assert!(!run(&node, &["restore", shelf]).status.success(), "not beside a running node");

    // What is listed can be shown, with boxes over time, by the command and by the API.
    let events = listed(&node, &["--kind", "motion", "--since", "2020-01-01", "--limit", "9"]);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["clips"][0]["path"], clip);
    let id = events[0]["id"].as_str().unwrap().to_owned();
    let shown: Value = serde_json::from_str(&run_well(&node, &["events", "show", &id, "--json"])).unwrap();
    assert!(!shown["sightings"].as_array().unwrap().is_empty());
    assert_eq!(shown["id"], id);
    let page = node.get(&format!("/api/v1/events/{id}/sightings")).json();
    assert_eq!(page["sightings"].as_array().unwrap().len(), shown["sightings"].as_array().unwrap().len());
    assert!(run_well(&node, &["events", "show", &id]).contains(&clip));
    assert!(listed(&node, &["--person", "Ada"]).is_empty());
    assert_eq!(
        node.get("/api/v1/events?until=2020-01-01T00:00:00Z").json()["events"].as_array().unwrap().len(),
        0
    );

    // Damage: the node starts, knows the event from its sidecar, and says what happened.
    node.stop();
    spoil(&node.data());
    node.restart();
    assert_eq!(node.metric("meerkat_store_rebuilds_total", &[]), 1.0);
    let ready = eventually("the node says that it waits for a person", PATIENCE, || {
        let ready = node.get("/readyz");
        (ready.status == 503).then(|| ready.text())
    });
    assert!(ready.contains("meerkat store confirm"), "{ready}");
    assert_eq!(listed(&node, &[])[0]["id"], id);
    assert_eq!(listed(&node, &[])[0]["clips"][0]["path"], clip);
    assert!(run_well(&node, &["store", "check"]).contains("in order"));
    assert_eq!(node.post("/api/v1/store/confirm").json()["confirmed"], true);
    assert_eq!(node.post("/api/v1/store/confirm").json()["confirmed"], false);
    eventually("the node is ready", PATIENCE, || (node.get("/readyz").status == 200).then_some(()));
    assert_eq!(std::fs::read_dir(node.data().join("set-aside")).unwrap().count(), 1);

    // The way back to the backup; what came after it stays, as its files are there.
    motion_with_clip(&node);
    assert_eq!(listed(&node, &[]).len(), 2);
    node.stop();
    let said = run_well(&node, &["restore", shelf]);
    assert!(said.contains("1 events, 1 clips"), "{said}");
    assert_eq!(listed(&node, &[]).len(), 2);
    assert!(run_well(&node, &["store", "confirm"]).contains("deletion goes on"));
    node.restart();
    assert_eq!(node.get("/readyz").status, 200);
    assert_eq!(std::fs::read_dir(node.data().join("set-aside")).unwrap().count(), 2);
}
