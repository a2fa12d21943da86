//! The enrolled people, by the command line: beside a running node, which is asked, and without one.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use meerkat_store::DataLock;
use serde_json::Value;

use crate::harness::{Backend, Node, PATIENCE, Plan, data, eventually, jpeg};

const TOKEN: &str = "correct-horse";

/// `meerkat faces …` with the data folder and the address of a node.
fn faces(data_dir: &Path, http: &str, token: &str, args: &[&str]) -> Output {
    let plan = Plan::new().set("http.listen", http).set("http.token", token);
    let mut command = plan.command(data_dir.parent().unwrap());
    command.env("MEERKAT__DATA_DIR", data_dir).arg("faces").args(args).output().unwrap()
}

fn beside(node: &Node, args: &[&str]) -> Output {
    faces(&node.data(), &node.http_address().to_string(), TOKEN, args)
}

#[track_caller]
fn done(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", said(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn failed(output: &Output, parts: &[&str]) {
    assert_eq!(output.status.code(), Some(1), "{}", said(output));
    for part in parts {
        assert!(said(output).contains(part), "{part}: {}", said(output));
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn names(list: &str) -> Vec<String> {
    let people = list.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    people.map(|person| person["name"].as_str().unwrap().to_owned()).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("test folders have plain names")
}

#[test]
fn people_come_and_go_beside_a_running_node() {
    people_come_and_go(Some(Backend::classic()));
}

#[test]
fn people_come_and_go_beside_a_running_node_with_networks() {
    people_come_and_go(Backend::candle());
}

fn people_come_and_go(backend: Option<Backend>) {
    let (Some(folder), Some(backend)) = (data("faces/lfw10x10"), backend) else { return };
    let picture =
        |name: &str, number: u32| -> PathBuf { folder.join(name).join(format!("{name}_{number:04}.jpg")) };
    let plan = backend
        .of(Plan::new())
        .set("http.token", TOKEN)
        .set("detectors.face.gate", "none")
        .set("events.face.cooldown_secs", 0)
        .set("clip.kinds", "person");
    let mut node = plan.start();
    for name in ["Colin_Powell", "Hugo_Chavez"] {
        let pictures: Vec<PathBuf> = (1..=5).map(|number| picture(name, number)).collect();
        let mut args = vec!["enrol", name, "--consent-by", "the test"];
        args.extend(pictures.iter().map(|path| text(path)));
        let output = beside(&node, &args);
        assert!(done(&output).contains("is enrolled with 5 pictures"), "{output:?}");
        assert!(said(&output).is_empty(), "{}", said(&output));
    }
    let list = done(&beside(&node, &["list", "--json"]));
    assert_eq!(names(&list), ["Colin_Powell", "Hugo_Chavez"]);
    assert!(list.contains(r#""consent_by":"the test""#) && list.contains(r#""pictures":5"#), "{list}");

    // The running node knows the new face, without anybody telling it.
    let shown = std::fs::read(picture("Hugo_Chavez", 1)).unwrap();
    let mut camera = node.camera("door", 5);
    eventually("the face is recognised", PATIENCE, || {
        assert_eq!(camera.frame(&shown), b'1');
        let rows = node.events("door");
        rows.iter().any(|row| row.identities.iter().any(|name| name == "Hugo_Chavez")).then_some(())
    });

    // What is wrong is said, and changes nothing.
    let blank = node.data().parent().unwrap().join("blank.jpg");
    std::fs::write(&blank, jpeg(320, 240, 1)).unwrap();
    let good = picture("Colin_Powell", 6);
    let output = beside(&node, &["enrol", "Li Lei", text(&good), text(&blank)]);
    failed(&output, &["nobody was enrolled", "blank.jpg: no face was found"]);
    assert!(!said(&output).contains(text(&good)), "{}", said(&output));
    failed(&beside(&node, &["enrol", "unknown", text(&good)]), &["not enrolled"]);
    let many: Vec<&str> = ["enrol", "Li Lei"].into_iter().chain([text(&good); 17]).collect();
    failed(&beside(&node, &many), &["at most 16 pictures"]);
    let http = node.http_address().to_string();
    failed(&faces(&node.data(), &http, "another-horse", &["list"]), &["http.token"]);
    assert_eq!(done(&beside(&node, &["list", "--json"])), list);

    // A folder that something else holds is not confused with that of the node which answers.
    let other = tempfile::tempdir().unwrap();
    let lock = DataLock::take(&other.path().join("data")).unwrap();
    let output = faces(&other.path().join("data"), &http, TOKEN, &["enrol", "Li Lei", text(&good)]);
    failed(&output, &["in use by process", "another one"]);
    drop(lock);

    done(&beside(&node, &["remove", "Hugo_Chavez"]));
    failed(&beside(&node, &["remove", "Hugo_Chavez"]), &["nobody named Hugo_Chavez"]);
    assert_eq!(names(&done(&beside(&node, &["list", "--json"]))), ["Colin_Powell"]);
    assert_eq!(std::fs::read_dir(node.data().join("faces")).unwrap().count(), 1, "pictures are gone too");

    // Without a node the folder itself is worked in; the node finds what was done there.
    drop(camera);
    assert!(node.stop().success());
    done(&beside(
        &node,
        &["enrol", "Hugo_Chavez", text(&picture("Hugo_Chavez", 2)), "--consent-by", "again"],
    ));
    assert_eq!(names(&done(&beside(&node, &["list", "--json"]))), ["Colin_Powell", "Hugo_Chavez"]);
    done(&beside(&node, &["remove", "Colin_Powell"]));
    node.restart();
    assert_eq!(names(&done(&beside(&node, &["list", "--json"]))), ["Hugo_Chavez"]);
}

#[test]
fn a_list_beside_a_node_that_hangs_is_given_up() {
    let mut node = Plan::new().set("supervision.disk_deadline_ms", 600_000).with_faults().start();
    let http = node.http_address().to_string();
    let list = |node: &Node| faces(&node.data(), &http, "", &["list"]);
    assert!(done(&list(&node)).contains("nobody is enrolled"));
    node.order("archivist - hang 1");
    failed(
        &eventually("the archivist hangs", Duration::from_secs(60), || {
            let output = list(&node);
            (!output.status.success()).then_some(output)
        }),
        &["did not answer in time"],
    );
    node.order("release");
    eventually("it answers again", PATIENCE, || list(&node).status.success().then_some(()));
}
