//! The outbox for people: lists, dead letters, test messages; and signed links to clips.

mod support;

use std::sync::atomic::Ordering;

use meerkat_base::WallTime;
use meerkat_store::LinkKey;
use serde_json::json;
use support::*;

const TOKEN: &str = "open sesame";

#[test]
fn the_list_is_narrowed_and_says_whose_it_is() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    let reply = node.get("/api/v1/alerts?state=dead&channel=office&camera=door&limit=1&before=9");
    assert_eq!(reply.status, 200);
    let answer = reply.json();
    assert_eq!(answer["process"], std::process::id());
    assert_eq!(answer["next"], 7, "a full page may have a next");
    let alert = &answer["alerts"][0];
    assert_eq!((&alert["id"], &alert["state"]), (&json!(ALERT.to_string()), &json!("dead")));
    assert_eq!((&alert["last_error"], &alert["part"]), (&json!("status 410"), &json!(0)));
    let asked = node.alerts.asked.lock().unwrap().remove(0);
    assert_eq!((asked.before, asked.limit, asked.channel.as_deref()), (Some(9), 1, Some("office")));
    assert_eq!(node.get("/api/v1/alerts").json()["next"], json!(null));
    assert_eq!(node.get("/api/v1/alerts?state=lost").status, 400);
    node.alerts.broken.store(true, Ordering::SeqCst);
    let reply = node.get("/api/v1/alerts");
    assert_eq!(reply.status, 503);
    assert!(!reply.text().contains("secret"));
}

#[test]
fn dead_letters_are_put_back_and_dropped() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::plain(data.path());
    for (method, target, status) in [
        ("POST", format!("/api/v1/alerts/{ALERT}/retry"), 200),
        ("POST", format!("/api/v1/alerts/{WAITING}/retry"), 409),
        ("POST", format!("/api/v1/alerts/{}/retry", uuid::Uuid::from_u128(9)), 404),
        ("POST", "/api/v1/alerts/x/retry".to_owned(), 404),
        ("GET", format!("/api/v1/alerts/{ALERT}/retry"), 405),
        ("POST", "/api/v1/alerts/retry-dead?channel=office".to_owned(), 200),
        ("POST", "/api/v1/alerts/retry-dead?color=red".to_owned(), 400),
        ("DELETE", format!("/api/v1/alerts/{ALERT}"), 200),
        ("DELETE", format!("/api/v1/alerts/{WAITING}"), 404),
        ("DELETE", "/api/v1/alerts/..".to_owned(), 404),
        ("POST", "/api/v1/channels/office/test".to_owned(), 200),
        ("POST", "/api/v1/channels/none/test".to_owned(), 404),
    ] {
        assert_eq!(node.ask(method, &target, &[]).status, status, "{method} {target}");
    }
    let foreign = ["Origin: http://evil.example.org"];
    assert_eq!(node.ask("POST", &format!("/api/v1/alerts/{ALERT}/retry"), &foreign).status, 403);
    let orders = node.alerts.orders.lock().unwrap().clone();
    assert!(orders.contains(&"retry dead Some(\"office\")".to_owned()), "{orders:?}");
    assert_eq!(orders.iter().filter(|order| order.starts_with("retry 0")).count(), 3, "{orders:?}");
    let result = node.ask("POST", "/api/v1/channels/office/test", &[]).json();
    assert_eq!((&result["delivered"], &result["refused"]), (&json!(false), &json!(true)));
    assert_eq!(
        (&result["reason"], &result["advice"]),
        (&json!("errcode 93000"), &json!("copy the address again"))
    );
}

#[test]
fn a_signed_link_opens_one_clip_without_login_until_it_expires() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("capture/clip/door");
    std::fs::create_dir_all(&folder).unwrap();
    for name in ["a.mp4", "b.mp4", "c.txt"] {
        std::fs::write(folder.join(name), b"0123456789").unwrap();
    }
    std::fs::write(data.path().join("meerkat.db"), b"secrets").unwrap();
    let key = LinkKey::open(data.path()).unwrap();
    let node = Node::start(meerkat_web::WebSettings {
        link_key: Some(key.clone()),
        public_url: Some("https://public.example.org/node".to_owned()),
        ..settings("127.0.0.1:0", Some(TOKEN), data.path())
    });
    let link = |path: &str, until: i64| format!("/shared/{path}?until={until}&sig={}", key.sign(path, until));
    let (clip, later) = ("capture/clip/door/a.mp4", 10_000_000_000);
    let good = link(clip, later);
    let reply = node.get(&good);
    assert_eq!((reply.status, reply.text()), (200, "0123456789"));
    assert_eq!((reply.header("content-type"), reply.header("accept-ranges")), ("video/mp4", "bytes"));
    let part = node.ask("GET", &good, &["Range: bytes=2-4"]);
    assert_eq!((part.status, part.text(), part.header("content-range")), (206, "234", "bytes 2-4/10"));
    let public = "GET {} HTTP/1.1\r\nHost: public.example.org\r\nConnection: close\r\n\r\n";
    assert_eq!(node.send(public.replace("{}", &good).as_bytes()).status, 200, "by its public name");
    assert_eq!(node.get("/api/v1/status").status, 401, "everything else wants the token");

    assert_eq!(node.get(&link(clip, 1_000)).status, 410);
    for wrong in [
        good.replace("a.mp4", "b.mp4"),
        good.replace("until=1", "until=2"),
        format!("/shared/{clip}"),
        format!("/shared/{clip}?until={later}&sig="),
        format!("{good}0"),
        // Signed, but nothing that links are for.
        link("meerkat.db", later),
        link("capture/clip/door/c.txt", later),
    ] {
        assert_eq!(node.get(&wrong).status, 403, "{wrong}");
    }
    assert_eq!(node.get(&link("capture/clip/../../meerkat.db.mp4", later)).status, 404);
    assert_eq!(node.get(&link("capture/clip/door/gone.mp4", later)).status, 404);
    assert_eq!(node.ask("POST", &good, &[]).status, 405);
    assert_eq!(key.check(clip, later, "", WallTime(0)), Err(meerkat_store::LinkRefused::Wrong));
}
