//! Clips that follow their message.

use meerkat_notify::testing::{MockServer, Received};
use meerkat_notify::{Ntfy, NtfyLogin, NtfySettings, RateBook};
use meerkat_outbound::{HttpClient, OutboundSettings, SecretUrl};

use super::*;
use crate::notifier::shrinker::tests::film;

const CLIP: &str = "capture/clip/door/2026-11-20/a.mp4";

impl Rig {
    /// A file that is booked as the clip of an event.
    async fn clip(&self, event: &Event, path: &str, bytes: &[u8]) {
        let file = self.folder.path().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, bytes).unwrap();
        let row = ClipRow {
            event: Some(event.id),
            camera: event.camera.clone(),
            path: path.to_owned(),
            started: event.started,
            duration: Duration::from_secs(5),
            frames: 50,
            bytes: bytes.len() as u64,
            sha256: None,
            state: ClipState::Ok,
            skipped: 0,
            missing: None,
        };
        let wishes = [ClipWish { channel: "fake".to_owned(), kinds: vec![event.kind] }];
        let now = self.clock.wall();
        self.tools.archivist.ask(move |store| store.book_clip(&[row], &wishes, now)).await.unwrap();
    }

    fn clips(&self) -> Vec<(Alert, ClipPart)> {
        self.asked()
            .into_iter()
            .filter_map(|asked| match asked {
                Asked::Clip(alert, clip) => Some((alert, clip)),
                _ => None,
            })
            .collect()
    }
}

async fn settle(lane: &ClipLane) {
    while lane.turn().await.unwrap() == Step::Again {}
}

#[test]
fn a_clip_follows_its_message_under_the_same_key() {
    crate::in_system(async {
        let rig = Rig::new(Fake { clip_limit: Some(100), ..Fake::default() });
        let post = rig.post();
        let (mut lane, clips) = (Lane::new(Arc::clone(&post)), ClipLane::new(post));
        let event = rig.alert(1, None).await;
        rig.clip(&event, CLIP, b"film").await;
        settle(&clips).await;
        assert!(rig.asked().is_empty(), "not before the message");
        rig.settle(&mut lane).await;
        settle(&clips).await;
        rig.clip(&event, "capture/clip/door/2026-11-20/b.mp4", b"more").await;
        rig.settle(&mut lane).await;
        settle(&clips).await;
        let sent = rig.clips();
        assert_eq!(sent.len(), 2);
        assert!(sent.iter().all(|(alert, _)| alert.id == rig.alerts()[0].id));
        assert_eq!(sent[0].1.file.as_deref(), Some(&b"film"[..]));
        assert_eq!((sent[0].1.link.as_deref(), sent[0].1.duration), (None, Duration::from_secs(5)));
        assert!(sent[0].1.name.starts_with("door_2026-11-20_") && sent[0].1.name.ends_with(".mp4"));
        assert!(sent[1].1.name.ends_with("_part2.mp4"), "{}", sent[1].1.name);
        assert_eq!([sent[0].1.word(), sent[1].1.word()], ["clip", "clip-2"], "each has a name of its own");
        assert_eq!(rig.counts().await, OutboxCounts { waiting: 0, delivered: 3, dead: 0 });
    });
}

#[test]
fn no_clip_waits_for_a_message_that_people_have_read() {
    crate::in_system(async {
        let rig = Rig::new(Fake { clip_limit: Some(100), ..Fake::default() });
        let post = rig.post();
        let (mut lane, clips) = (Lane::new(Arc::clone(&post)), ClipLane::new(post));
        let event = rig.alert(1, None).await;
        rig.settle(&mut lane).await;
        rig.script([retry(None, 1), retry(None, 1)]);
        let told = rig.alert(2, None).await;
        rig.settle(&mut lane).await;
        rig.clip(&event, CLIP, b"film").await;
        rig.clip(&told, "capture/clip/door/2026-11-20/told.mp4", b"its own").await;
        // It is due again, and may be so again and again: that was the last turn of its lane so far.
        rig.clock.advance(Duration::from_secs(10));
        assert_eq!(lane.turn().await.unwrap(), Step::Again);
        settle(&clips).await;
        assert_eq!(rig.clips().len(), 2, "the one of the message itself, too");
        // One that nobody has read is waited for.
        rig.alert(3, None).await;
        assert_eq!(lane.turn().await.unwrap(), Step::Again);
        rig.clip(&event, "capture/clip/door/2026-11-20/b.mp4", b"more").await;
        settle(&clips).await;
        assert_eq!(rig.clips().len(), 2);
    });
}

#[test]
fn a_clip_that_cannot_be_made_small_enough_becomes_a_link_or_is_given_up() {
    crate::in_system(async {
        let rig = Rig::new(Fake { clip_limit: Some(3), ..Fake::default() });
        let post = rig.post();
        let (mut lane, clips) = (Lane::new(Arc::clone(&post)), ClipLane::new(post));
        let event = rig.alert(1, None).await;
        rig.clip(&event, CLIP, b"no film at all").await;
        rig.settle(&mut lane).await;
        settle(&clips).await;
        let (_, clip) = rig.clips().remove(0);
        assert_eq!(clip.file, None);
        assert!(clip.link.unwrap().starts_with(&format!("https://cams.example.org/shared/{CLIP}?until=")));

        let mut tools = rig.tools.clone();
        tools.clips.links = None;
        let post = Arc::new(Post::new(tools, rig.channel.clone()));
        let (mut lane, clips) = (Lane::new(Arc::clone(&post)), ClipLane::new(post));
        let event = rig.alert(2, None).await;
        rig.clip(&event, "capture/clip/door/2026-11-20/b.mp4", b"no film either").await;
        rig.settle(&mut lane).await;
        settle(&clips).await;
        let id = event.id;
        let rows = rig.tools.archivist.ask(move |store| store.alerts_of(id)).await.unwrap();
        assert_eq!((rows[0].state, rows[1].state), (OutboxState::Delivered, OutboxState::Dead));
        assert!(rows[1].last_error.as_ref().unwrap().contains("http.public_url"), "{:?}", rows[1]);
        assert_eq!(rig.clips().len(), 1);
    });
}

#[test]
fn a_clip_that_is_gone_is_given_up_and_one_that_fails_comes_again() {
    crate::in_system(async {
        let rig = Rig::new(Fake { clip_limit: Some(100), ..Fake::default() });
        let post = rig.post();
        let (mut lane, clips) = (Lane::new(Arc::clone(&post)), ClipLane::new(post));
        let gone = rig.alert(1, None).await;
        rig.clip(&gone, CLIP, b"film").await;
        std::fs::remove_file(rig.folder.path().join(CLIP)).unwrap();
        let late = rig.alert(2, None).await;
        rig.clip(&late, "capture/clip/door/2026-11-20/b.mp4", b"film").await;
        rig.settle(&mut lane).await;
        rig.script([retry(None, 0)]);
        settle(&clips).await;
        assert_eq!(rig.counts().await, OutboxCounts { waiting: 1, delivered: 2, dead: 1 });
        rig.clock.advance(Duration::from_secs(3));
        rig.settle(&mut lane).await;
        settle(&clips).await;
        assert_eq!(rig.counts().await, OutboxCounts { waiting: 0, delivered: 3, dead: 1 });
        assert_eq!(rig.clips().len(), 2);
    });
}

#[test]
fn a_clip_that_the_disk_does_not_take_smaller_is_put_off_a_few_times_before_it_becomes_a_link() {
    crate::in_system(async {
        let mut rig = Rig::new(Fake { clip_limit: Some(3), ..Fake::default() });
        // Nothing can be made there.
        let away = rig.folder.path().join("away");
        rig.tools.clips.shrinker = Shrinker::new(&away, Duration::from_secs(60), Arc::new(rig.clock.clone()));
        let post = rig.post();
        let (mut lane, clips) = (Lane::new(Arc::clone(&post)), ClipLane::new(post));
        let event = rig.alert(1, None).await;
        rig.clip(&event, CLIP, b"no film at all").await;
        rig.settle(&mut lane).await;
        for wait in [30, 60, 120, 240] {
            settle(&clips).await;
            assert_eq!((rig.clips().len(), rig.waiting().await), (0, 1), "the disk may be back in {wait} s");
            rig.clock.advance(Duration::from_secs(wait));
        }
        settle(&clips).await;
        let (_, clip) = rig.clips().remove(0);
        assert!(clip.file.is_none() && clip.link.is_some());
        assert_eq!(rig.waiting().await, 0);
    });
}

/// The clip of a moment, as large as that: boxes that mean nothing may stand in any MP4 (ISO 14496-12, 8.1.2).
fn large_film(bytes: u32) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    film(&path);
    let mut large = std::fs::read(path).unwrap();
    large.extend(bytes.to_be_bytes());
    large.extend(b"free");
    large.resize(large.len() + bytes as usize - 8, 0);
    large
}

#[test]
fn a_clip_that_the_service_itself_finds_too_large_is_made_smaller() {
    crate::in_system(async {
        let rig = Rig::new(Fake::default());
        let clock = Arc::new(rig.clock.clone());
        let server = MockServer::ntfy("yard", "", 1 << 20, clock.clone()).unwrap();
        let topic = NtfySettings::new(
            "fake",
            SecretUrl::parse(&server.base()).unwrap(),
            meerkat_base::Secret::new("yard"),
            NtfyLogin::Anonymous,
        );
        let client = HttpClient::new(OutboundSettings::default()).unwrap();
        let ntfy = Arc::new(Ntfy::new(topic, client, clock, &RateBook::default()));
        let post = Arc::new(Post::new(rig.tools.clone(), ntfy));
        let (mut lane, clips) = (Lane::new(Arc::clone(&post)), ClipLane::new(post));
        let event = rig.alert(1, None).await;
        rig.clip(&event, CLIP, &large_film(3 << 20)).await;
        rig.settle(&mut lane).await;
        settle(&clips).await;
        assert_eq!(server.refused().len(), 1, "{:?}", server.refused());
        let received = server.received();
        assert!(matches!(&received[1], Received::File { bytes, .. } if bytes.len() < 1 << 20));
        assert_eq!((received.len(), rig.waiting().await), (2, 0));
        assert_eq!(rig.counts().await.dead, 0);
    });
}

#[test]
fn what_a_service_takes_in_no_size_becomes_a_link_and_so_do_the_next_for_an_hour() {
    crate::in_system(async {
        let rig = Rig::new(Fake { clip_limit: Some(100), ..Fake::default() });
        let post = rig.post();
        let (mut lane, clips) = (Lane::new(Arc::clone(&post)), ClipLane::new(post));
        let event = rig.alert(1, None).await;
        rig.settle(&mut lane).await;
        rig.clip(&event, CLIP, b"a film").await;
        rig.script([refused("status 413")]);
        settle(&clips).await;
        rig.clip(&event, "capture/clip/door/2026-11-20/b.mp4", b"another").await;
        settle(&clips).await;
        rig.clock.advance(Duration::from_secs(3_601));
        rig.clip(&event, "capture/clip/door/2026-11-20/c.mp4", b"the last").await;
        settle(&clips).await;
        let forms = |rig: &Rig| -> Vec<(bool, bool)> {
            rig.clips().iter().map(|(_, clip)| (clip.file.is_some(), clip.link.is_some())).collect()
        };
        let (file, link) = ((true, false), (false, true));
        assert_eq!(forms(&rig), [file, link, link, file]);
        assert_eq!(rig.counts().await, OutboxCounts { waiting: 0, delivered: 4, dead: 0 });

        // That a file is too large says nothing of the channel, that a link or something else is refused does.
        rig.script((0..2).map(|_| refused("status 413")));
        rig.clip(&event, "capture/clip/door/2026-11-20/d.mp4", b"a film").await;
        settle(&clips).await;
        rig.clock.advance(Duration::from_secs(3_601));
        rig.script([refused("status 410")]);
        rig.clip(&event, "capture/clip/door/2026-11-20/e.mp4", b"a film").await;
        settle(&clips).await;
        assert_eq!(forms(&rig).split_off(4), [file, link, file]);
        assert_eq!(rig.counts().await, OutboxCounts { waiting: 0, delivered: 4, dead: 2 });
    });
}

#[test]
fn files_that_are_too_large_for_their_service_make_no_channel_fail_and_without_links_they_die() {
    crate::in_system(async {
        let rig = Rig::new(Fake { clip_limit: Some(100), ..Fake::default() });
        let mut tools = rig.tools.clone();
        tools.clips.links = None;
        tools.delivery.breaker_failures = 1;
        let post = Arc::new(Post::new(tools, rig.channel.clone()));
        let (mut lane, clips) = (Lane::new(Arc::clone(&post)), ClipLane::new(Arc::clone(&post)));
        let event = rig.alert(1, None).await;
        rig.settle(&mut lane).await;
        rig.script([refused("status 413")]);
        rig.clip(&event, CLIP, b"a film").await;
        settle(&clips).await;
        let id = event.id;
        let rows = rig.tools.archivist.ask(move |store| store.alerts_of(id)).await.unwrap();
        let why = rows[1].last_error.clone().unwrap();
        assert!(rows[1].state == OutboxState::Dead && why.contains("status 413"), "{:?}", rows[1]);
        assert!(why.contains("http.public_url"), "{why}");
        assert!(!rig.says_it_fails());
        assert_eq!(post.breaker(), BreakerState::Closed);

        // Who puts it back by hand may know that the service takes it by now.
        rig.clock.advance(Duration::from_secs(1));
        let (id, now) = (rows[1].id, rig.clock.wall());
        rig.tools.archivist.ask(move |store| store.requeue(id, now)).await.unwrap();
        settle(&clips).await;
        assert_eq!(rig.counts().await, OutboxCounts { waiting: 0, delivered: 2, dead: 0 });
        assert!(rig.clips().iter().all(|(_, clip)| clip.file.is_some()) && rig.clips().len() == 2);
    });
}

#[test]
fn clips_that_cannot_be_read_stand_before_no_other_and_die_of_age() {
    crate::in_system(async {
        let mut rig = Rig::new(Fake { clip_limit: Some(100), ..Fake::default() });
        rig.tools.policy.give_up_after = Duration::from_secs(3_600);
        let post = rig.post();
        let (mut lane, clips) = (Lane::new(Arc::clone(&post)), ClipLane::new(post));
        let event = rig.alert(1, None).await;
        rig.settle(&mut lane).await;
        for n in 0..33 {
            rig.clip(&event, &format!("capture/clip/door/2026-11-19/{n}.mp4"), b"film").await;
        }
        // Their folder is none any more, which is not the same as that it is gone.
        let folder = rig.folder.path().join("capture/clip/door/2026-11-19");
        std::fs::remove_dir_all(&folder).unwrap();
        std::fs::write(&folder, b"").unwrap();
        settle(&clips).await;
        rig.clip(&event, CLIP, b"film").await;
        settle(&clips).await;
        assert_eq!(rig.counts().await, OutboxCounts { waiting: 33, delivered: 2, dead: 0 });
        for _ in 0..8 {
            rig.clock.advance(Duration::from_secs(601));
            settle(&clips).await;
        }
        assert_eq!(rig.counts().await, OutboxCounts { waiting: 0, delivered: 2, dead: 33 });
        assert_eq!(rig.clips().len(), 1);
    });
}
