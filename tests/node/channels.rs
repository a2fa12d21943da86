//! Every type of channel is made from the configuration, and delivers what the node sees.

use std::sync::Arc;

use meerkat_base::{Clock, SystemClock};
use meerkat_notify::testing::{MockServer, Received};

use crate::harness::{PATIENCE, Plan};

const SECRET: &str = "a-secret-of-the-tests";
const KEY: &str = "693a91f6-7xxx-4bc4-97a0-0ec2sifa5aaa";
const BOT: &str = "123456:AAH-token-of-the-tests";

#[test]
fn every_type_of_channel_is_built_and_delivers() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let hook = MockServer::webhook(SECRET).unwrap();
    let group = MockServer::wecom(KEY).unwrap();
    let app = MockServer::wecom_app("ww0123", SECRET, 1_000_002, &["zhang"], Arc::clone(&clock)).unwrap();
    let ding = MockServer::dingtalk(KEY, SECRET, Arc::clone(&clock)).unwrap();
    let fly = MockServer::feishu(KEY, SECRET, "cli_a", SECRET, Arc::clone(&clock)).unwrap();
    let bot = MockServer::telegram(BOT, "-100123", Arc::clone(&clock)).unwrap();
    let phone = MockServer::ntfy("yard-7f3a", "Bearer tk_0123456789", 1 << 20, clock).unwrap();
    let mut plan = Plan::new().with_quick_motion().set("notify.language", "en").set("clip.kinds", "motion");
    let channels: &[(&str, &[(&str, String)])] = &[
        ("webhook", &[("url", hook.base()), ("secret", SECRET.into())]),
        (
            "wecom",
            &[
                ("url", format!("{}/cgi-bin/webhook/send?key={KEY}", group.base())),
                ("style", "markdown".into()),
            ],
        ),
        (
            "wecom_app",
            &[
                ("url", app.base()),
                ("corp_id", "ww0123".into()),
                ("agent_id", "1000002".into()),
                ("secret", SECRET.into()),
                ("users", "zhang".into()),
                ("parties", "2,3".into()),
            ],
        ),
        (
            "dingtalk",
            &[("url", format!("{}/robot/send?access_token={KEY}", ding.base())), ("secret", SECRET.into())],
        ),
        (
            "feishu",
            &[
                ("url", format!("{}/open-apis/bot/v2/hook/{KEY}", fly.base())),
                ("secret", SECRET.into()),
                ("app_id", "cli_a".into()),
                ("app_secret", SECRET.into()),
            ],
        ),
        ("telegram", &[("url", bot.base()), ("token", BOT.into()), ("chat_id", "-100123".into())]),
        ("ntfy", &[("url", phone.base()), ("topic", "yard-7f3a".into()), ("token", "tk_0123456789".into())]),
    ];
    for (kind, keys) in channels {
        let section = format!("notify.channels.a_{kind}");
        plan = plan.set(&format!("{section}.type"), kind).set(&format!("{section}.kinds"), "motion");
        for (key, value) in *keys {
            plan = plan.set(&format!("{section}.{key}"), value);
        }
    }
    let node = plan.start();
    let mut camera = node.camera("yard", 3);
    node.stir(&mut camera, "yard");
    // Words first, then the picture where it is a message of its own.
    for (server, messages) in
        [(&hook, 1), (&group, 2), (&app, 2), (&ding, 1), (&fly, 2), (&bot, 1), (&phone, 1)]
    {
        let received = server.wait_for(messages, PATIENCE).unwrap();
        let words = match &received[0] {
            Received::Text(words) | Received::Markdown(words) => words.clone(),
            Received::File { caption, .. } => caption.clone(),
            Received::Hook { body, .. } => body["text"].as_str().unwrap().to_owned(),
            Received::Picture(_) => panic!("the words go first: {:?}", server.paths()),
        };
        assert!(words.contains("yard") && words.contains("motion"), "{words}");
        if messages == 2 {
            assert!(matches!(&received[1], Received::Picture(_)), "{:?}", server.paths());
        }
        assert_eq!((server.refused(), server.dropped()), (vec![], vec![]));
    }
    // No key is in what the node says about itself.
    let said = node.log();
    for secret in [SECRET, KEY, BOT, "yard-7f3a", "tk_0123456789"] {
        assert!(!said.contains(secret), "{said}");
    }
}

#[test]
fn the_proxy_of_a_channel_goes_before_that_of_all() {
    // Stands for a proxy: it gets the whole address of a host that nobody can resolve, and verifies what it gets.
    let proxy = MockServer::webhook(SECRET).unwrap();
    let node = Plan::new()
        .with_quick_motion()
        .set("notify.proxy", "http://proxy.invalid:3128")
        .set("notify.channels.far.type", "webhook")
        .set("notify.channels.far.url", "http://hooks.invalid/hook")
        .set("notify.channels.far.secret", SECRET)
        .set("notify.channels.far.kinds", "motion")
        .set("notify.channels.far.proxy", proxy.base())
        .start();
    let mut camera = node.camera("yard", 3);
    node.stir(&mut camera, "yard");
    proxy.wait_for(1, PATIENCE).unwrap();
    assert_eq!(proxy.paths()[0], "http://hooks.invalid/hook");
    assert_eq!(proxy.refused(), Vec::<String>::new());
}
