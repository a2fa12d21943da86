//! `meerkat analyse` from outside: what it writes, what it says, what it refuses.

use std::fs;
use std::path::Path;

use meerkat_base::{CameraId, Detection, Event, EventId, EventKind, EventPhase, Rect, Sighting, WallTime};
use meerkat_store::{Store, StoreOptions};
use serde_json::Value;

use crate::{err, meerkat, out, text};

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        // Without any font on the machine there are only SVGs.
        .filter(|name| !name.ends_with(".png"))
        .collect();
    names.sort();
    names
}

fn summary(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("summary.json")).unwrap()).unwrap()
}

#[test]
fn a_table_becomes_charts_and_a_summary() {
    let folder = tempfile::tempdir().unwrap();
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/analysis/fixtures/mixed.csv");
    let charts = folder.path().join("new/charts");
    let done = meerkat(&["analyse", text(&table), "--out", text(&charts)], &[]);
    assert!(done.status.success(), "{}", err(&done));
    assert_eq!(
        names(&charts),
        [
            "heat_map.svg",
            "missing.svg",
            "pair_grid.svg",
            "skewness.svg",
            "summary.json",
            "words-1.svg",
            "words-2.svg"
        ]
    );
    assert!(out(&done).lines().all(|line| Path::new(line).exists()), "{}", out(&done));
    let found = summary(&charts);
    assert_eq!((found["rows"].as_u64(), found["encoding"].as_str()), (Some(400), Some("UTF-8")));
    // Again, over what is there.
    assert!(meerkat(&["analyse", text(&table), "--out", text(&charts)], &[]).status.success());
}

#[test]
fn wrong_files_are_refused_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("table.csv");
    let refused = |bytes: &[u8]| {
        fs::write(&table, bytes).unwrap();
        let done = meerkat(&["analyse", text(&table), "--out", text(&folder.path().join("charts"))], &[]);
        assert_eq!(done.status.code(), Some(1), "{}", out(&done));
        err(&done)
    };
    assert!(refused(b"").contains("the file is empty"));
    assert!(refused(b"\x89PNG\r\n\x1a\n\0\0").contains("the file is no text"));
    assert!(refused(b"a,b\n1,2\n1,2,3\n").contains("line 3: 3 cells, and the header names 2 columns"));
    assert!(refused(b"a,b\n1,\"2\n").contains("line 2: a quote that begins in this row is not closed"));
    assert!(!folder.path().join("charts").exists());

    let missing = meerkat(&["analyse", "/nowhere/x.csv", "--out", text(folder.path())], &[]);
    assert_eq!(missing.status.code(), Some(1));
    let since =
        meerkat(&["analyse", text(&table), "--out", text(folder.path()), "--since", "2026-11-20"], &[]);
    assert_eq!(since.status.code(), Some(2), "{}", err(&since));
    let font = meerkat(&["analyse", text(&table), "--out", text(folder.path()), "--font", text(&table)], &[]);
    assert_eq!(font.status.code(), Some(1));
    assert!(err(&font).contains("cannot be used"), "{}", err(&font));
}

fn event(camera: &str, kind: EventKind, started: WallTime, identities: &[&str]) -> Event {
    Event {
        id: EventId::new(started, [7; 10]),
        camera: CameraId::parse(camera).unwrap(),
        kind,
        phase: EventPhase::Started,
        started,
        started_seq: 1,
        ended: None,
        score: 0.8,
        identities: identities.iter().map(|name| (*name).to_owned()).collect(),
        sightings: vec![Sighting {
            wall: started,
            seq: 1,
            detections: vec![Detection::new("person", 0.8, Rect::new(10.0, 20.0, 64.0, 128.0))],
        }],
    }
}

#[test]
fn the_nodes_own_events_are_counted_in_its_time_zone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    // A Friday, 21:31:14 UTC: Saturday, 5 o'clock in China.
    let friday = WallTime(1_795_210_274_000_000);
    let hour = 3_600_000_000;
    {
        let mut store = Store::open(&data, StoreOptions::default()).unwrap();
        store.start_event(&event("door", EventKind::Person, friday, &["Li Lei", "unknown"]), &[]).unwrap();
        store
            .start_event(&event("door", EventKind::Face, friday.offset_micros(hour), &["Li Lei"]), &[])
            .unwrap();
        store
            .start_event(&event("yard", EventKind::Motion, friday.offset_micros(48 * hour), &[]), &[])
            .unwrap();
    }
    let charts = folder.path().join("charts");
    let variables = [("MEERKAT__DATA_DIR", text(&data)), ("MEERKAT__NOTIFY__TIME_ZONE", "+08:00")];
    let done = meerkat(&["analyse", "events", "--out", text(&charts)], &variables);
    assert!(done.status.success(), "{}", err(&done));
    assert_eq!(
        names(&charts),
        ["events_by_camera.svg", "events_by_hour.svg", "people_by_day.svg", "summary.json"]
    );
    let found = summary(&charts);
    assert_eq!(found["events"], 3);
    assert_eq!(found["by_camera"], serde_json::json!({ "door": 2, "yard": 1 }));
    assert_eq!(
        (&found["by_weekday_and_hour"][5][5], &found["by_weekday_and_hour"][5][6]),
        (&1.into(), &1.into())
    );
    assert_eq!(
        found["by_day"]["2026-11-21"],
        serde_json::json!({ "events": 2, "with_people": 2, "recognised": 1 })
    );

    let later = meerkat(&["analyse", "events", "--out", text(&charts), "--since", "2026-11-22"], &variables);
    assert!(later.status.success(), "{}", err(&later));
    assert_eq!(summary(&charts)["events"], 1);
    let wrong = meerkat(&["analyse", "events", "--out", text(&charts), "--since", "soon"], &variables);
    assert_eq!(wrong.status.code(), Some(2));
    let nobody = [("MEERKAT__DATA_DIR", "/nowhere")];
    assert_eq!(meerkat(&["analyse", "events", "--out", text(&charts)], &nobody).status.code(), Some(1));
}
