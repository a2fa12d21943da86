//! Clips that follow their message.

use super::*;

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
        assert_eq!(rig.counts().await, OutboxCounts { waiting: 0, delivered: 3, dead: 0 });
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
