//! Wild bytes, and the seeds of the fuzz targets `evidence` and `sidecar`: they replay, and are what the tests here make.

use std::fs;
use std::path::{Path, PathBuf};

use meerkat_base::WallTime;

use super::*;
use crate::clips::{ClipRow, ClipState, SnapshotRow};
use crate::sidecar::{EventFacts, Sidecar};
use crate::testing::clip;

#[path = "../../../../tests/fuzz/evidence_invariants.rs"]
mod invariants;
#[path = "../../../../tests/fuzz/evidence_key.rs"]
mod key;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus").join(target)
}

fn replay(target: &str, replayed: impl Fn(&[u8])) {
    let mut seeds = 0;
    for entry in fs::read_dir(folder(target)).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seed-")) {
            replayed(&fs::read(path).unwrap());
            seeds += 1;
        }
    }
    assert!(seeds >= 6, "{target}: {seeds} seeds");
}

#[test]
fn the_corpus_replays() {
    let key = key::known();
    replay("evidence", |seed| {
        invariants::spool(seed, &key.public());
        invariants::proof(seed, &key);
    });
    replay("sidecar", invariants::sidecar);
}

#[test]
fn the_seeds_lead_as_far_as_anything_can() {
    let key = key::known().public();
    let seed = |target, name: &str| fs::read(folder(target).join(name)).unwrap();
    let whole = check_frames(&seed("evidence", "seed-spool")[..], &key).unwrap();
    assert_eq!((whole.frames, whole.signed_frames, whole.finished), (5, 5, true));
    let proof = String::from_utf8(seed("evidence", "seed-proof")).unwrap();
    assert_eq!(read_proof(&proof, &key).unwrap(), a_proof());
    assert_eq!(Sidecar::from_json(&seed("sidecar", "seed-clip")).unwrap().events.len(), 2);
}

fn sidecar() -> Sidecar {
    let (first, second) = (event(1), event(2));
    let facts = |event: &meerkat_base::Event, identities: &[&str]| EventFacts {
        id: event.id,
        kind: event.kind,
        started: event.started,
        started_seq: event.started_seq,
        ended: Some(event.started),
        score: 0.91,
        identities: identities.iter().map(|name| (*name).to_owned()).collect(),
        interrupted: false,
        snapshot: None,
        keep: true,
    };
    let mut shown = vec![facts(&first, &["Ada \"L\"", "李雷"]), facts(&second, &[])];
    shown[0].snapshot = Some(SnapshotRow {
        event: first.id,
        path: "capture/clip/door/2026-11-20/a.jpg".into(),
        taken: WallTime(-5),
        bytes: 9,
    });
    let row = clip(&first, "capture/clip/door/2026-11-20/a.mp4");
    let row = ClipRow { event: None, sha256: Some("ab".repeat(32)), state: ClipState::Repaired, ..row };
    Sidecar { clip: row, events: shown, unknown_events: vec![event(3).id], keep: true }
}

/// As it was written before events had a flag of their own.
fn before(sidecar: &Sidecar) -> Vec<u8> {
    let mut json: serde_json::Value = serde_json::from_slice(&sidecar.to_json()).unwrap();
    json["version"] = 1.into();
    for event in json["events"].as_array_mut().unwrap() {
        event.as_object_mut().unwrap().remove("keep");
    }
    serde_json::to_vec_pretty(&json).unwrap()
}

/// To be run by hand when a format changes.
#[test]
#[ignore = "writes files"]
fn write_evidence_seeds() {
    let bench = Bench::with(tempfile::tempdir().unwrap(), key::known(), TENTH);
    let (whole, places) = bench.written(&some(5));
    let (second, _) = bench.written(&some(2));
    let gap: Vec<Frame> = some(6).into_iter().filter(|frame| frame.seq != 3).collect();
    let (gap, _) = bench.written(&gap);
    let last = places[places.len() - 2];
    let first = frame(1, "x");
    let meta = SpoolMeta {
        camera: first.camera.clone(),
        kind: SpoolKind::Segment,
        started: first.wall,
        mode: meerkat_base::Mode::People,
        settings: serde_json::json!({"fps": 10}),
    };
    let root = bench.folder.path().join("spool");
    let mut writer = SpoolWriter::create(&root, &meta, Durability::Process).unwrap();
    writer.append(&first).unwrap();
    let unsigned = fs::read(writer.finish().unwrap().path.join("frames")).unwrap();
    let proof = a_proof();
    let seeds = [
        ("spool", whole.clone()),
        ("second-spool", second),
        ("gap", gap),
        ("cut", whole[..last - 1].to_vec()),
        ("without-end", whole[..last].to_vec()),
        ("unsigned", unsigned),
        ("proof", sign_proof(&bench.file, &proof).into_bytes()),
        ("proof-text", serde_json::to_vec(&proof).unwrap()),
        ("key", bench.key.to_string().into_bytes()),
        ("key-pem", bench.key.to_pem().into_bytes()),
    ];
    for (name, bytes) in seeds {
        fs::create_dir_all(folder("evidence")).unwrap();
        fs::write(folder("evidence").join(format!("seed-{name}")), bytes).unwrap();
    }
    let clip = sidecar();
    let video = Sidecar { events: Vec::new(), unknown_events: Vec::new(), ..clip.clone() };
    let text = String::from_utf8(clip.to_json()).unwrap();
    let changed = |from: &str, to: &str| text.replacen(from, to, 1).into_bytes();
    for (name, bytes) in [
        ("clip", clip.to_json()),
        ("video", video.to_json()),
        ("another-version", changed("\"version\": 2", "\"version\": 3")),
        ("the-version-before", before(&clip)),
        ("more-fields", changed("\"keep\": true", "\"keep\": true, \"\\u001b[31m\": 1")),
        ("a-path-out", changed("a.jpg", "../../../../../x")),
        ("no-score", changed("0.91", "1e999")),
        ("cut", text.as_bytes()[..text.len() / 2].to_vec()),
    ] {
        fs::create_dir_all(folder("sidecar")).unwrap();
        fs::write(folder("sidecar").join(format!("seed-{name}")), bytes).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn seeds_that_were_damaged_do_no_harm(
        which in any::<prop::sample::Index>(),
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        for target in ["evidence", "sidecar"] {
            let mut seeds: Vec<_> = fs::read_dir(folder(target)).unwrap().map(|e| e.unwrap().path()).collect();
            seeds.sort();
            let mut bytes = fs::read(&seeds[which.index(seeds.len())]).unwrap();
            for (place, byte) in &places {
                let at = place.index(bytes.len());
                bytes[at] = *byte;
            }
            bytes.truncate(cut.index(bytes.len() * 2));
            if target == "evidence" {
                let key = key::known();
                invariants::spool(&bytes, &key.public());
                invariants::proof(&bytes, &key);
            } else {
                invariants::sidecar(&bytes);
            }
        }
    }
}
