//! Ten thousand alerts: what they cost in memory, how fast they go, and an outage of an hour at a real robot's limit.

use meerkat_notify::testing::{MockServer, Received};
use meerkat_notify::{RateBook, Wecom, WecomSettings};
use meerkat_outbound::{HttpClient, OutboundSettings};

use super::*;

const ALERTS: usize = 10_000;

impl Rig {
    /// So many alerts, ten milliseconds apart, of 16 cameras; as fast as the database takes them.
    async fn flood(&self, alerts: usize) {
        let register = cameras(&self.clock, &[]);
        let places: Vec<_> = (0..16).map(|n| camera(&register, &format!("c{n}"))).collect();
        let mut reports = Vec::new();
        for n in 0..alerts {
            self.clock.advance(Duration::from_millis(10));
            let mut event = event(&frame(&places[n % 16], &self.clock).0, 0);
            let mut entropy = [0; 10];
            entropy[..8].copy_from_slice(&(n as u64).to_be_bytes());
            event.id = meerkat_base::EventId::new(event.started, entropy);
            let draft = AlertDraft { started_micros: event.started.0, ..AlertDraft::default() };
            let alert = NewAlert {
                channel: "fake".to_owned(),
                payload: serde_json::to_value(&draft).unwrap(),
                snapshot: None,
                created: event.started,
            };
            reports.push(meerkat_store::Report {
                event,
                detail: None,
                snoozed: false,
                subject: None,
                promises: None,
                attendance: None,
                alerts: vec![alert.into()],
            });
        }
        let now = self.clock.wall();
        for some in reports.chunks(500) {
            let some = some.to_vec();
            self.tools.archivist.ask(move |store| store.report(&some, now)).await.unwrap();
        }
    }
}

fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn ten_thousand_alerts_drain_at_the_limit_of_their_channel_and_cost_little() {
    crate::in_system(async {
        let clock = ManualClock::new(NOON);
        let limiter = Mutex::new(Limiter::new(20, Duration::from_secs(60)));
        let rig = Rig::with_clock(Fake { limiter: Some((limiter, clock.clone())), ..Fake::default() }, clock);
        rig.flood(ALERTS).await;
        let before = anonymous_bytes();
        let mut tools = rig.tools.clone();
        // One by one: what a channel could at most be asked to do.
        tools.delivery.digest_over = ALERTS;
        tools.delivery.digest_after = Duration::from_secs(86_400 * 30);
        tools.policy.give_up_after = Duration::from_secs(86_400 * 30);
        let mut lane = Lane::new(Arc::new(Post::new(tools, rig.channel.clone())));
        let (began, real) = (rig.clock.mono(), Instant::now());
        let mut most = 0;
        while rig.waiting().await > 0 {
            rig.pass(&mut lane, Duration::from_secs(600)).await;
            most = most.max(anonymous_bytes().saturating_sub(before));
            // What the test keeps is not the node's.
            let told = std::mem::take(&mut *rig.channel.asked.lock().unwrap());
            assert!(told.iter().all(|asked| matches!(asked, Asked::Alert(_))));
        }
        let took = rig.clock.mono().since(began);
        let least = Duration::from_secs(60) * (ALERTS as u32 / 20 - 1);
        assert!(took >= least && took < least + Duration::from_secs(660), "{took:?}, {least:?} at the least");
        assert_eq!(rig.counts().await.delivered, ALERTS as u64);
        println!("{ALERTS} alerts: {most} bytes more at most, {:?} of work", real.elapsed());
        assert!(most < 50 << 20, "{most} bytes");
    });
}

#[test]
fn an_hour_without_the_robot_ends_with_the_newest_and_a_digest_within_its_limit() {
    crate::in_system(async {
        let clock = ManualClock::new(NOON);
        let robot = MockServer::wecom_with_clock("the-key", Arc::new(clock.clone())).unwrap();
        let url = meerkat_base::Secret::new(format!("{}/cgi-bin/webhook/send?key=the-key", robot.base()));
        let client = HttpClient::new(OutboundSettings::default()).unwrap();
        let wecom = Arc::new(Wecom::new(
            WecomSettings::new("fake", None, &url).unwrap(),
            client,
            Arc::new(clock.clone()),
            &RateBook::default(),
        ));
        let rig = Rig::with_clock(Fake::default(), clock);
        let post = Arc::new(Post::new(rig.tools.clone(), wecom));
        let mut lane = Lane::new(Arc::clone(&post));
        robot.set_outage(true);
        let requests = robot.requests();
        for minute in 0..60_u8 {
            for at in ["door", "yard", "hall", "lane"] {
                rig.alert_at(at, minute, None).await;
            }
            rig.pass(&mut lane, Duration::from_secs(56)).await;
        }
        assert_eq!(post.breaker(), BreakerState::Open);
        assert_eq!(rig.waiting().await, 240);
        robot.set_outage(false);
        assert_eq!(robot.requests(), requests, "an outage means that nothing is heard");
        rig.pass(&mut lane, Duration::from_secs(1_200)).await;
        assert_eq!(rig.counts().await, OutboxCounts { waiting: 0, delivered: 240, dead: 0 });
        assert_eq!(robot.refused(), Vec::<String>::new(), "never faster than it allows");
        let texts: Vec<String> = robot
            .received()
            .into_iter()
            .map(|message| match message {
                Received::Text(text) => text,
                other => panic!("{other:?}"),
            })
            .collect();
        let digests: Vec<usize> = texts
            .iter()
            .enumerate()
            .filter(|(_, text)| text.contains("未及时送达"))
            .map(|(n, _)| n)
            .collect();
        assert_eq!(digests.len(), 1, "{texts:#?}");
        let alone = texts.len() - 1;
        assert!((10..=11).contains(&alone), "{alone} one by one");
        assert_eq!(digests[0], alone, "the newest go first");
        assert!(texts[alone].contains(&format!("{} 条", 240 - alone)), "{}", texts[alone]);
    });
}
