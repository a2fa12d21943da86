//! Four cameras in all five modes, and a node that is killed again and again at random moments: what was promised with
//! each answer is there at the end. `MEERKAT_CHAOS_KILLS` says how often (20), `MEERKAT_CHAOS_SEED` with which dice;
//! `make chaos` is the long run.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use meerkat_base::{CameraId, Clock, EventId, SystemClock, WallTime};
use meerkat_notify::testing::{MockServer, Received};
use meerkat_store::{ClipState, EventQuery, EventRow, StoreReader};

use crate::harness::{Camera, Node, PATIENCE, Plan, eventually, ffprobe, files_below, jpeg};
use crate::torture::Dice;

const CAMERAS: u32 = 4;
const SECRET: &str = "a-secret-of-the-tests";
/// Frames between two looks for the row of an event that is under way.
const LOOK_EVERY: u64 = 5;

/// An event of which the row was committed, and when each frame from its first one on was answered.
#[derive(Debug)]
struct Promised {
    event: EventId,
    answered: Vec<WallTime>,
}

impl Promised {
    /// Frames that must be in its clip: all of them where only death ended the event, else those up to its end.
    fn frames(&self, row: &EventRow) -> u64 {
        let end = row.ended.filter(|_| !row.interrupted).unwrap_or(WallTime(i64::MAX));
        self.answered.iter().filter(|at| **at <= end).count() as u64
    }
}

/// What one camera was answered between two deaths of the node.
#[derive(Debug, Default)]
struct Life {
    /// Pictures of mode 1 that were answered with `1`.
    pictures: Vec<Vec<u8>>,
    /// The picture that was under way when the node died.
    last_picture: Option<Vec<u8>>,
    /// Frames of mode 2 that were answered.
    video_frames: u64,
    promised: Option<Promised>,
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Pictures of a square that walks from side to side, in front of a still background.
fn walk() -> Vec<Vec<u8>> {
    let still = crate::harness::picture(160, 120, 0);
    (0..12_u32)
        .map(|step| {
            let mut image = still.clone();
            for value in image.data_mut() {
                *value = 60 + *value / 8;
            }
            for y in 40..80 {
                let from = ((y * 160 + step * 10) * 3) as usize;
                image.data_mut()[from..from + 120].fill(240);
            }
            meerkat_vision::encode_jpeg(&image, 80).unwrap()
        })
        .collect()
}

/// Sends until the node dies. `began` hears of the first answer.
fn live(to: SocketAddr, data: &Path, id: &str, mode: u8, unique: &mut u32, began: &Sender<()>) -> Life {
    let mut life = Life::default();
    let mut camera = Camera::connect(to);
    let say = |camera: &mut Camera, bytes: &[u8]| -> Option<u8> {
        camera.try_send(bytes).ok()?;
        camera.try_answer().ok()
    };
    let hello = format!("camera:{id}\n");
    if say(&mut camera, hello.as_bytes()) != Some(b'1') {
        return life;
    }
    if say(&mut camera, format!("model{mode}").as_bytes()) != Some(b'1') {
        return life;
    }
    let _ = began.send(());
    let walk = if mode >= 3 { walk() } else { Vec::new() };
    let clock = SystemClock::new();
    let mut answered: u64 = 0;
    // Of modes 3 to 5: when each frame was answered.
    let mut times = Vec::new();
    loop {
        let picture = if mode >= 3 {
            std::thread::sleep(Duration::from_millis(15));
            walk[answered as usize % walk.len()].clone()
        } else {
            *unique += 1;
            jpeg(64, 48, *unique)
        };
        let sent = say(&mut camera, &[b"start", &picture[..], b"end"].concat());
        let Some(answer) = sent else {
            life.last_picture = (mode == 1).then_some(picture);
            return life;
        };
        assert_eq!(answer, b'1', "{id} in mode {mode}: a frame was refused");
        answered += 1;
        match mode {
            1 => life.pictures.push(picture),
            2 => life.video_frames += 1,
            _ => {
                times.push(clock.wall());
                match &mut life.promised {
                    Some(promised) => promised.answered.push(clock.wall()),
                    // Frames are numbered from 1 in each run of the node, and this camera has sent all of them.
                    None if answered.is_multiple_of(LOOK_EVERY) => {
                        life.promised = open_event(data, id).map(|(event, first)| Promised {
                            event,
                            answered: times.iter().skip(first.saturating_sub(1) as usize).copied().collect(),
                        });
                    }
                    None => {}
                }
            }
        }
    }
}

/// The event of this camera that goes on, and the number of its first frame; its row is committed.
fn open_event(data: &Path, id: &str) -> Option<(EventId, u64)> {
    let store = StoreReader::open(data).ok()?;
    let query = EventQuery { limit: 1, camera: Some(CameraId::parse(id).ok()?), ..EventQuery::default() };
    let row = store.recent_events(&query).ok()?.pop()?;
    row.ended.is_none().then_some((row.id, row.started_seq))
}

/// What all cameras were answered until a random moment, at which the node is killed.
fn round(node: &mut Node, dice: &mut Dice, round: u32, unique: &mut [u32]) -> Vec<(String, Life)> {
    let (to, data) = (node.frame_address(), node.data());
    let (began, heard): (Sender<()>, Receiver<()>) = channel();
    std::thread::scope(|scope| {
        let lives: Vec<_> = (0..CAMERAS)
            .zip(unique.iter_mut())
            .map(|(n, unique)| {
                let (began, data) = (began.clone(), data.clone());
                // Every camera goes through all modes, and no two are in the same one.
                let mode = u8::try_from((round + n) % 5 + 1).unwrap();
                let id = format!("c{n}");
                let own = id.clone();
                (id, scope.spawn(move || live(to, &data, &own, mode, unique, &began)))
            })
            .collect();
        for _ in 0..CAMERAS {
            heard.recv_timeout(PATIENCE).expect("every camera is let in");
        }
        // The random moment: not to wait for something, but to hit anything.
        std::thread::sleep(Duration::from_millis(dice.below(20..1_500) as u64));
        node.kill();
        lives.into_iter().map(|(id, life)| (id, life.join().unwrap())).collect()
    })
}

/// Pictures that were answered, and those that were under way at a death.
type Pictures = (Vec<Vec<u8>>, Vec<Vec<u8>>);

/// Every answered picture is whole, and nothing is there that was not sent.
fn check_pictures(data: &Path, id: &str, sure: &[Vec<u8>], perhaps: &[Vec<u8>]) {
    let stored: Vec<Vec<u8>> = files_below(&data.join("capture/image").join(id))
        .iter()
        // Unfinished files begin with a dot; a later start removes them.
        .filter(|file| !file.file_name().unwrap().to_string_lossy().starts_with('.'))
        .map(|file| std::fs::read(file).unwrap())
        .collect();
    let stored: HashSet<&[u8]> = stored.iter().map(Vec::as_slice).collect();
    for (n, picture) in sure.iter().enumerate() {
        assert!(stored.contains(picture.as_slice()), "{id}: answered picture {n} is lost");
    }
    let sent: HashSet<&[u8]> = sure.iter().chain(perhaps).map(Vec::as_slice).collect();
    assert!(stored.is_subset(&sent), "{id}: something is there that nobody sent, or half a picture");
}

/// Spools that are still to be made into a file.
fn unfinished(data: &Path) -> usize {
    let done = ["set-aside", "kept"];
    std::fs::read_dir(data.join("spool")).map_or(0, |spools| {
        spools.flatten().filter(|spool| !done.contains(&&*spool.file_name().to_string_lossy())).count()
    })
}

/// Frames that can be played in the finished videos of a camera.
fn playable_video_frames(data: &Path, id: &str) -> u64 {
    files_below(&data.join("capture/video").join(id))
        .iter()
        .filter(|file| file.extension().is_some_and(|ending| ending == "mp4"))
        .map(|file| ffprobe(file).frames)
        .sum()
}

#[test]
fn what_was_answered_survives_a_node_that_is_killed_again_and_again() {
    let kills = u32::try_from(number("MEERKAT_CHAOS_KILLS", 20)).unwrap();
    let seed = number("MEERKAT_CHAOS_SEED", 20_261_128);
    println!("{kills} kills, seed {seed}");
    let mut dice = Dice::new(seed);
    let hook = MockServer::webhook(SECRET).unwrap();
    let mut node = Plan::new()
        .with_quick_motion()
        .set("clip.kinds", "motion")
        .set("clip.pre_roll_secs", 0.5)
        .set("clip.post_roll_secs", 0.2)
        .set("video.size", "as-received")
        .set("motion.learning_secs", 600)
        .set("notify.channels.hook.type", "webhook")
        .set("notify.channels.hook.url", hook.base())
        .set("notify.channels.hook.secret", SECRET)
        .set("notify.channels.hook.kinds", "motion")
        .start();
    let mut unique: Vec<u32> = (0..CAMERAS).map(|n| n << 24).collect();
    let mut pictures: BTreeMap<String, Pictures> = BTreeMap::new();
    let mut videos: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut promised: Vec<(String, Promised)> = Vec::new();
    for n in 0..kills {
        for (id, life) in round(&mut node, &mut dice, n, &mut unique) {
            let (sure, perhaps) = pictures.entry(id.clone()).or_default();
            sure.extend(life.pictures);
            perhaps.extend(life.last_picture);
            let (frames, lives) = videos.entry(id.clone()).or_default();
            *frames += life.video_frames;
            *lives += u64::from(life.video_frames > 0);
            promised.extend(life.promised.map(|promised| (id, promised)));
        }
        // The database opens, and what is left over is finished. The next life waits for that: a spool at which the
        // node dies three times would be set aside, and its frames kept there, as is meant.
        node.restart();
        eventually("every spool is finished", PATIENCE * 2, || (unfinished(&node.data()) == 0).then_some(()));
    }
    let aside = node.data().join("spool/set-aside");
    assert!(!aside.exists() || files_below(&aside).is_empty(), "a spool was set aside");

    for (id, (sure, perhaps)) in &pictures {
        check_pictures(&node.data(), id, sure, perhaps);
    }
    for (id, (answered, lives)) in &videos {
        let playable = playable_video_frames(&node.data(), id);
        // One more per life: on disk, but the node died before it answered.
        assert!(
            (*answered..=answered + lives).contains(&playable),
            "{id}: {answered} frames were answered in {lives} videos, {playable} can be played"
        );
    }
    for (id, promised) in &promised {
        let rows = node.events(id);
        let row = rows.iter().find(|row| row.id == promised.event).expect("a committed event is there");
        assert!(row.ended.is_some(), "{id}: the event of a dead node is over");
        let clips: BTreeMap<&str, u64> = row
            .clips
            .iter()
            .filter(|clip| clip.state != ClipState::SetAside)
            .map(|clip| (clip.path.as_str(), clip.frames))
            .collect();
        let playable: u64 = clips.keys().map(|path| ffprobe(&node.data().join(path)).frames).sum();
        assert_eq!(playable, clips.values().sum::<u64>(), "{id}: what the rows say can be played");
        let frames = promised.frames(row);
        assert!(playable >= frames, "{id}: {frames} are promised, {playable} can be played: {row:?}");
    }

    // Every event is told; a copy needs a delivery whose outcome a death left unknown.
    eventually("everything is delivered", PATIENCE * 2, || {
        (node.store().outbox_counts().unwrap().waiting == 0).then_some(())
    });
    let mut told = BTreeSet::new();
    let mut copies = 0;
    for message in hook.received() {
        let Received::Hook { id, body, .. } = message else { panic!("not for a webhook") };
        let part = body["part"].as_str().unwrap_or_default().to_owned();
        copies += u32::from(!told.insert((id, part, body["event"].as_str().unwrap_or_default().to_owned())));
    }
    let told: BTreeSet<String> = told.into_iter().map(|(_, _, event)| event).collect();
    let mut events = 0;
    for n in 0..CAMERAS {
        for row in node.events(&format!("c{n}")) {
            assert!(told.contains(&row.id.to_string()), "nobody was told of {row:?}");
            events += 1;
        }
    }
    // Two lanes, messages and clips, may each have one under way.
    assert!(copies <= 2 * kills, "{copies} copies after {kills} deaths");
    println!(
        "{events} events, {} of them under way at a death; {} pictures, {} video frames, {copies} copies",
        promised.len(),
        pictures.values().map(|(sure, _)| sure.len()).sum::<usize>(),
        videos.values().map(|(frames, _)| frames).sum::<u64>()
    );
    assert!(events > 0 && !promised.is_empty(), "nothing happened that could have been lost");
    assert!(node.stop().success(), "{}", node.log());
}
