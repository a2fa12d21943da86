//! Faces that match nobody, and faces that are taken for somebody else, from the camera to the command line: kept in
//! groups, enrolled, corrected, and gone with whomever they look like.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Backend, Camera, Node, Plan, data, eventually, files_below};

/// The detectors are slow and the machine may be busy.
const LONG: Duration = Duration::from_secs(180);
/// Time from one picture to the next.
const PACE: Duration = Duration::from_millis(200);

struct Album(PathBuf);

impl Album {
    fn path(&self, name: &str, number: u32) -> PathBuf {
        self.0.join(name).join(format!("{name}_{number:04}.jpg"))
    }

    fn picture(&self, name: &str, number: u32) -> Vec<u8> {
        std::fs::read(self.path(name, number)).unwrap()
    }
}

/// `meerkat faces …` with the data folder and the address of a node.
fn faces(node: &Node, args: &[&str], pictures: &[PathBuf]) -> Output {
    let plan = Plan::new().set("http.listen", node.http_address());
    let plan = Backend::candle().expect("the test has the weights").of(plan);
    let mut command = plan.command(node.data().parent().unwrap());
    command.env("MEERKAT__DATA_DIR", node.data()).arg("faces").args(args).args(pictures).output().unwrap()
}

#[track_caller]
fn done(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn failed(output: &Output, parts: &[&str]) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in parts {
        assert!(said.contains(part), "{part}: {said}");
    }
    said
}

/// Shows pictures, one after the other and again and again, until something is so.
#[track_caller]
fn show_until<R>(
    what: &str,
    camera: &mut Camera,
    pictures: &[Vec<u8>],
    mut ask: impl FnMut() -> Option<R>,
) -> R {
    let end = Instant::now() + LONG;
    loop {
        for picture in pictures {
            let began = Instant::now();
            assert_eq!(camera.frame(picture), b'1');
            std::thread::sleep(PACE.saturating_sub(began.elapsed()));
        }
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "{what}");
    }
}

fn groups(node: &Node) -> Vec<Value> {
    done(&faces(node, &["unknown", "list", "--json"], &[]))
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn plan() -> Option<Plan> {
    let plan = Plan::new()
        .set("motion.enabled", false)
        .set("detectors.face.gate", "none")
        .set("events.face.end_secs", 0.5)
        .set("events.face.cooldown_secs", 0)
        .set("clip.post_roll_secs", 0)
        .set("clip.preset", "ultrafast");
    Some(Backend::candle()?.of(plan))
}

/// Who was seen last, of those events that are over or not.
fn last_seen(node: &Node) -> Option<(String, Vec<String>)> {
    let rows = node.events("door");
    rows.iter().max_by_key(|row| row.started).map(|row| (row.id.to_string(), row.identities.clone()))
}

/// Shows a picture until a new event is of this identity alone; its id.
#[track_caller]
fn seen_as(node: &Node, camera: &mut Camera, picture: &[u8], identity: &str) -> String {
    let before = last_seen(node).map(|(id, _)| id);
    show_until(identity, camera, &[picture.to_vec()], || {
        let (id, identities) = last_seen(node)?;
        (identities == [identity] && before.as_ref() != Some(&id)).then_some(id)
    })
}

#[test]
fn strangers_become_people_and_wrong_names_are_taken_back() {
    let (Some(folder), Some(plan)) = (data("faces/lfw10x10"), plan()) else { return };
    let album = Album(folder);
    let mut node = plan.start();
    let mut camera = node.camera("door", 5);
    let blair: Vec<Vec<u8>> = (2..=5).map(|number| album.picture("Tony_Blair", number)).collect();
    let chavez = [album.picture("Hugo_Chavez", 1)];

    // Two strangers are two groups; each picture is a file of its own and can be looked at.
    let of_blair = show_until("a stranger is kept, twice", &mut camera, &blair, || {
        let all = groups(&node);
        let own = all.iter().find(|group| group["pictures"].as_array().unwrap().len() >= 2)?;
        Some(own["group"].as_u64().unwrap())
    });
    let of_chavez = show_until("another one is another group", &mut camera, &chavez, || {
        let others: Vec<u64> = groups(&node).iter().filter_map(|group| group["group"].as_u64()).collect();
        others.into_iter().find(|group| *group > of_blair)
    });
    let all = groups(&node);
    let shown = &all.iter().find(|group| group["group"] == of_blair).unwrap()["pictures"][0];
    let page = node.get(&format!("/api/v1/faces/unknown/{of_blair}/pictures/{}", shown["number"]));
    assert_eq!((page.status, page.header("content-type")), (200, Some("image/jpeg")));
    let file = node.data().join(shown["file"].as_str().unwrap());
    assert_eq!(std::fs::read(&file).unwrap(), page.body);
    assert!(node.metric("meerkat_unknown_faces_total", &[("result", "kept")]) >= 3.0);
    assert_eq!(node.metric("meerkat_unknown_face_groups", &[]), all.len() as f64);

    // Somebody says who it is. From then on the node knows him, also on a picture that it never saw.
    let group = of_blair.to_string();
    let assigned =
        faces(&node, &["unknown", "assign", &group, "Tony_Blair", "--consent-by", "the test"], &[]);
    assert!(done(&assigned).contains("Tony_Blair is enrolled with"));
    assert!(!file.exists(), "the group went with it");
    seen_as(&node, &mut camera, &album.picture("Tony_Blair", 6), "Tony_Blair");
    failed(
        &faces(&node, &["unknown", "assign", &group, "Nobody", "--consent-by", "the test"], &[]),
        &["no group of unknown faces"],
    );

    // The same man under another name, and two people under one name, are warned of.
    let more = [album.path("Tony_Blair", 7), album.path("Tony_Blair", 8)];
    let again = ["enrol", "Anthony", "--consent-by", "the test"];
    failed(&faces(&node, &again, &more), &["Tony_Blair (2 of the pictures", "--even-if-known"]);
    let mixed = [album.path("Colin_Powell", 2), album.path("Hugo_Chavez", 2), album.path("Colin_Powell", 3)];
    let said = failed(
        &faces(&node, &["enrol", "Mixed", "--consent-by", "the test"], &mixed),
        &["Hugo_Chavez_0002.jpg: the face in it does not look like those of the others"],
    );
    assert!(!said.contains("Colin_Powell"), "{said}");
    let on_purpose = [&again[..], &["--even-if-known"]].concat();
    assert!(done(&faces(&node, &on_purpose, &more)).contains("Anthony is enrolled with 2 pictures"));
    done(&faces(&node, &["remove", "Anthony"], &[]));

    // That was not him: a face like that one is unknown from then on, and he himself is not.
    let mistaken = album.picture("Tony_Blair", 9);
    let event = seen_as(&node, &mut camera, &mistaken, "Tony_Blair");
    eventually("the event is over", LONG, || {
        node.events("door").iter().all(|row| row.ended.is_some()).then_some(())
    });
    let wrong = faces(&node, &["not", "Tony_Blair", "--event", "019aa2b0-0000-7000-8000-000000000000"], &[]);
    failed(&wrong, &["no event of this id"]);
    let corrected = done(&faces(&node, &["not", "Tony_Blair", "--event", &event], &[]));
    assert!(corrected.contains("this is not Tony_Blair: 1 pictures") && corrected.contains("likeness"));
    seen_as(&node, &mut camera, &mistaken, "unknown");
    // Until the correction had reached the detectors the face was still his: that visit is over first.
    eventually("the events are over", LONG, || {
        node.events("door").iter().all(|row| row.ended.is_some()).then_some(())
    });
    seen_as(&node, &mut camera, &blair[0], "Tony_Blair");
    // … and is kept as a stranger, who goes with him because he looks like him.
    show_until("the mistaken face is kept", &mut camera, &[mistaken], || {
        let newest = groups(&node).iter().filter_map(|group| group["group"].as_u64()).max()?;
        (newest > of_chavez).then_some(())
    });
    let removed = done(&faces(&node, &["remove", "Tony_Blair"], &[]));
    assert!(removed.contains("groups of unknown faces") && !removed.contains(" 0 groups"), "{removed}");
    assert_eq!(files_below(&node.data().join("faces")).len(), 0, "pictures and corrections are gone");
    let left: Vec<u64> = groups(&node).iter().filter_map(|group| group["group"].as_u64()).collect();
    assert_eq!(left, [of_chavez]);

    // The same without a node.
    drop(camera);
    assert!(node.stop().success(), "{}", node.log());
    assert_eq!(groups(&node).len(), 1);
    let number = of_chavez.to_string();
    done(&faces(&node, &["unknown", "assign", &number, "Hugo", "--consent-by", "the test"], &[]));
    assert_eq!((groups(&node).len(), files_below(&node.data().join("unknown")).len()), (0, 0));
    done(&faces(&node, &["not", "Hugo", "--picture"], &[album.path("Colin_Powell", 4)]));
    let people = done(&faces(&node, &["list", "--json"], &[]));
    assert!(people.contains(r#""negatives":1"#), "{people}");
    assert!(done(&faces(&node, &["not", "Hugo", "--forget"], &[])).starts_with("1 pictures"));
    failed(&faces(&node, &["unknown", "delete", &number], &[]), &["there is no group"]);
}

#[test]
fn no_strangers_are_kept_where_nobody_wants_them() {
    let (Some(folder), Some(plan)) = (data("faces/lfw10x10"), plan()) else { return };
    let album = Album(folder);
    let mut node = plan.set("faces.unknown_keep_days", 0).start();
    let mut camera = node.camera("door", 5);
    seen_as(&node, &mut camera, &album.picture("Tony_Blair", 2), "unknown");
    assert!(groups(&node).is_empty());
    assert!(!Path::new(&node.data().join("unknown")).exists());
    assert_eq!(node.metric("meerkat_unknown_faces_total", &[]), 0.0);
    drop(camera);
    assert!(node.stop().success(), "{}", node.log());
}
