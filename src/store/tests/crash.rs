//! What is answered outlives the process: this test binary starts itself again as a child that writes and
//! acknowledges, kills it, and looks at what is left. Nothing here depends on when the kill arrives.

#![expect(clippy::unwrap_used, reason = "all of this file is tests, helpers included")]

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;
use meerkat_base::{
    CameraId, Event, EventId, EventKind, EventPhase, Frame, ImageFormat, Mode, MonoTime, WallTime,
};
use meerkat_store::spool::{MAX_FRAME_BYTES, begin_attempt, recover, set_aside};
use meerkat_store::{
    BootId, CaptureFiles, CaptureKind, Consent, Durability, Fate, NewAlert, PictureStore, SpoolItem,
    SpoolKind, SpoolMeta, SpoolReader, SpoolWriter, Store, StoreError, StoreOptions, clean_temporaries,
};

const TASK: &str = "MEERKAT_STORE_TEST_TASK";
const FOLDER: &str = "MEERKAT_STORE_TEST_FOLDER";

fn frame(seq: u64) -> Frame {
    let len = 1_000 + usize::try_from(seq * 7_919 % 60_000).unwrap();
    let pattern = u8::try_from(seq % 251).unwrap();
    Frame {
        camera: CameraId::parse("door").unwrap(),
        seq,
        wall: WallTime(1_795_210_274_000_000 + i64::try_from(seq).unwrap() * 50_000),
        mono: MonoTime(seq * 50_000_000),
        format: ImageFormat::Jpeg,
        width: 640,
        height: 480,
        proven: false,
        bytes: Bytes::from(vec![pattern; len]),
    }
}

fn event(n: u64) -> Event {
    let mut entropy = [0; 10];
    entropy[2..].copy_from_slice(&n.to_be_bytes());
    let started = frame(n).wall;
    Event {
        id: EventId::new(started, entropy),
        camera: CameraId::parse("door").unwrap(),
        kind: EventKind::Person,
        phase: EventPhase::Started,
        started,
        started_seq: n,
        ended: None,
        score: 0.5,
        identities: Vec::new(),
        sightings: Vec::new(),
    }
}

fn alert() -> NewAlert {
    NewAlert {
        channel: "wecom".into(),
        payload: serde_json::json!({"text": "x"}),
        snapshot: None,
        created: WallTime(0),
    }
}

fn meta() -> SpoolMeta {
    SpoolMeta {
        camera: CameraId::parse("door").unwrap(),
        kind: SpoolKind::Video,
        started: WallTime(1_795_210_274_000_000),
        mode: Mode::Video,
        settings: serde_json::Value::Null,
    }
}

/// Runs only as a child. Says `ack <n>` for what is promised, through a pipe without a buffer.
#[test]
fn child() {
    let (Ok(task), Ok(folder)) = (std::env::var(TASK), std::env::var(FOLDER)) else { return };
    let folder = Path::new(&folder);
    match task.as_str() {
        "spool" => {
            let mut writer =
                SpoolWriter::create(&folder.join("spool"), &meta(), Durability::Process).unwrap();
            for seq in 1.. {
                writer.append(&frame(seq)).unwrap();
                eprintln!("ack {seq}");
            }
        }
        "pictures" => {
            let boot = BootId::parse("child").unwrap();
            let mut pictures = PictureStore::new(folder, boot, Durability::Process).unwrap();
            for seq in 1.. {
                pictures.store(&frame(seq)).unwrap();
                eprintln!("ack {seq}");
            }
        }
        "events" => {
            let mut store = Store::open(folder, StoreOptions::default()).unwrap();
            for n in 1.. {
                store.start_event(&event(n), &[alert()]).unwrap();
                eprintln!("ack {n}");
            }
        }
        "migrate" => {
            eprintln!("ack 1");
            Store::open(folder, StoreOptions::default()).unwrap();
            eprintln!("ack 2");
        }
        "full" => full_disk(folder),
        "all" => all(folder),
        other => panic!("no such task: {other}"),
    }
}

/// Starts the child; returns the command to run and leaves its output to the caller.
fn command(task: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env(TASK, task).env(FOLDER, folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Lets the child work until it has acknowledged `enough`, kills it and returns the last number that it
/// acknowledged before it died.
fn killed_after(enough: u64, task: &str, folder: &Path) -> u64 {
    let mut child = command(task, folder).spawn().unwrap();
    let mut output = BufReader::new(child.stderr.take().unwrap());
    let mut last = 0;
    let mut line = String::new();
    loop {
        line.clear();
        if output.read_line(&mut line).unwrap() == 0 {
            break;
        }
        match line.strip_suffix('\n').and_then(|l| l.strip_prefix("ack ")) {
            Some(number) => last = number.parse().unwrap(),
            // Cut off by the kill, or a panic of the child.
            None => assert!(last >= enough, "the child said: {line}"),
        }
        if last == enough {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(last >= enough);
    last
}

#[test]
fn every_acknowledged_frame_is_in_the_spool() {
    let temp = tempfile::tempdir().unwrap();
    let acknowledged = killed_after(300, "spool", temp.path());
    let found = recover(&temp.path().join("spool")).unwrap();
    assert_eq!((found.len(), found[0].finished, found[0].meta.as_ref()), (1, false, Some(&meta())));
    let mut reader = SpoolReader::open(&found[0].path).unwrap();
    let mut next = 1;
    loop {
        match reader.next_item().unwrap() {
            SpoolItem::Frame(read) => {
                assert_eq!((read.seq, &read.bytes), (next, &frame(next).bytes));
                next += 1;
            }
            SpoolItem::End(end) => {
                assert!(!end.finished);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(next > acknowledged, "{next} frames for {acknowledged} acknowledged ones");
}

#[test]
fn every_acknowledged_picture_is_there_and_none_is_half() {
    let temp = tempfile::tempdir().unwrap();
    let acknowledged = killed_after(300, "pictures", temp.path());
    clean_temporaries(temp.path(), &BootId::parse("parent").unwrap()).unwrap();
    let day = temp.path().join("capture/image/door/2026-11-20");
    let mut seqs: Vec<u64> = Vec::new();
    for entry in std::fs::read_dir(day).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let seq: u64 = stem.rsplit('_').next().unwrap().parse().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), frame(seq).bytes, "{path:?}");
        seqs.push(seq);
    }
    seqs.sort_unstable();
    let expected: Vec<u64> = (1..=seqs.len() as u64).collect();
    assert_eq!(seqs, expected);
    assert!(seqs.len() as u64 >= acknowledged);
}

#[test]
fn every_acknowledged_event_has_its_row_and_its_alert() {
    let temp = tempfile::tempdir().unwrap();
    let acknowledged = killed_after(200, "events", temp.path());
    let mut store = Store::open(temp.path(), StoreOptions::default()).unwrap();
    for n in 1..=acknowledged {
        assert!(store.event(event(n).id).unwrap().is_some(), "event {n}");
        assert_eq!(store.alerts_of(event(n).id).unwrap().len(), 1);
    }
    let events = store.event_count().unwrap();
    assert_eq!(store.outbox_waiting().unwrap(), events, "neither without the other");
    let closed = store.close_orphans(WallTime(i64::MAX), |_| Fate::Ends(Vec::new())).unwrap();
    assert_eq!(closed as u64, events);
}

/// A database as the first schema had it, with so many events.
fn first_schema(path: &Path, events: u64) {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.execute_batch("PRAGMA journal_mode = WAL; BEGIN").unwrap();
    connection.execute_batch(include_str!("../schema/001.sql")).unwrap();
    connection.execute_batch("PRAGMA application_id = 0x4d6b6174; PRAGMA user_version = 1").unwrap();
    for n in 1..=events {
        let event = event(n);
        connection
            .prepare_cached(
                "INSERT INTO events (id, camera, kind, phase, started, started_seq, ended, score, identities)
                 VALUES (?1, 'door', 'person', 'ended', ?2, ?3, ?2, 0.5, '[]')",
            )
            .unwrap()
            .execute(rusqlite::params![event.id.to_string(), event.started.0, event.started_seq as i64])
            .unwrap();
    }
    connection.execute_batch("COMMIT").unwrap();
}

#[test]
fn a_death_while_the_schema_is_brought_forward_loses_nothing() {
    const EVENTS: u64 = 5_000;
    let old = tempfile::tempdir().unwrap();
    first_schema(&old.path().join("meerkat.db"), EVENTS);
    let (mut cut_off, mut done) = (0, 0);
    for step in 0..25_u64 {
        let temp = tempfile::tempdir().unwrap();
        std::fs::copy(old.path().join("meerkat.db"), temp.path().join("meerkat.db")).unwrap();
        let mut child = command("migrate", temp.path()).spawn().unwrap();
        let mut output = BufReader::new(child.stderr.take().unwrap());
        output.read_line(&mut String::new()).unwrap();
        // Moments all along its way, to hit anything; nothing waits for them.
        std::thread::sleep(std::time::Duration::from_millis(step * 20));
        child.kill().unwrap();
        let mut said = String::new();
        output.read_to_string(&mut said).unwrap();
        child.wait().unwrap();
        if said.contains("ack 2") {
            done += 1
        } else {
            cut_off += 1
        }

        let store = Store::open(temp.path(), StoreOptions::default()).unwrap();
        assert_eq!(store.event_count().unwrap(), EVENTS, "after {} ms", step * 20);
        for n in [1, EVENTS / 2, EVENTS] {
            assert!(store.event(event(n).id).unwrap().is_some(), "event {n} after {} ms", step * 20);
        }
        drop(store);
        let connection = rusqlite::Connection::open(temp.path().join("meerkat.db")).unwrap();
        let sound: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(sound, "ok", "after {} ms", step * 20);
        let set_aside = temp.path().join("set-aside");
        assert!(!set_aside.exists(), "nothing was damaged: {set_aside:?} after {} ms", step * 20);
    }
    eprintln!("{cut_off} were cut off, {done} were not");
    assert!(cut_off > 0, "no death came in time");
}

#[test]
fn the_lock_names_its_holder_and_goes_with_it() {
    let temp = tempfile::tempdir().unwrap();
    let mut child = command("events", temp.path()).spawn().unwrap();
    let mut output = BufReader::new(child.stderr.take().unwrap());
    output.read_line(&mut String::new()).unwrap();
    let refused = Store::open(temp.path(), StoreOptions::default()).unwrap_err();
    assert!(matches!(refused, StoreError::Locked { .. }), "{refused}");
    assert!(refused.to_string().contains(&format!("process {}", child.id())), "{refused}");
    child.kill().unwrap();
    // Its end of the pipe closes when it is gone, and so is the lock.
    output.read_to_end(&mut Vec::new()).unwrap();
    child.wait().unwrap();
    Store::open(temp.path(), StoreOptions::default()).unwrap();
}

/// Lets the child do its whole task in a shell that was prepared first.
fn completed(preparation: &str, task: &str, folder: &Path) {
    let child = command(task, folder);
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{preparation} && exec \"$0\" \"$@\"")]);
    shell.arg(child.get_program()).args(child.get_args());
    for (name, value) in child.get_envs() {
        shell.env(name, value.unwrap());
    }
    let done = shell.output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.contains("ack 1"), "{said}");
}

/// A limit on the size of files stands for a full disk: the write that crosses it is cut short, the next
/// one fails.
#[test]
fn a_full_disk_leaves_nothing_half() {
    let temp = tempfile::tempdir().unwrap();
    // 2048 blocks of 512 bytes (dash) or 1024 bytes (bash); without the trap the kernel ends the process.
    completed("trap '' XFSZ && ulimit -f 2048", "full", temp.path());
}

#[test]
fn nothing_is_readable_for_others_whatever_the_umask() {
    for umask in ["000", "022", "077"] {
        let temp = tempfile::tempdir().unwrap();
        let data = temp.path().join("data");
        completed(&format!("umask {umask}"), "all", &data);
        let mut seen = Vec::new();
        let mut folders = vec![data];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let entry = entry.unwrap();
                let metadata = entry.metadata().unwrap();
                let expected = if metadata.is_dir() { 0o700 } else { 0o600 };
                let path = entry.path();
                assert_eq!(
                    metadata.permissions().mode() & 0o7777,
                    expected,
                    "{} umask {umask}",
                    path.display()
                );
                if metadata.is_dir() {
                    folders.push(path);
                } else {
                    seen.push(entry.file_name().into_string().unwrap());
                }
            }
            assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o7777, 0o700);
        }
        for kind in ["meerkat.db", "meerkat.lock", "frames", "attempts", ".jpg", ".mp4", ".png"] {
            assert!(seen.iter().any(|name| name.ends_with(kind)), "{kind} in {seen:?}");
        }
    }
}

/// Makes one of everything.
fn all(folder: &Path) {
    let boot = BootId::parse("child").unwrap();
    let door = CameraId::parse("door").unwrap();
    let mut store = Store::open(folder, StoreOptions::default()).unwrap();
    let consent = Consent { by: "Ada".into(), at: WallTime(0) };
    store.enrol("Ada", &[(&b"png"[..], ImageFormat::Png)], &consent, WallTime(0)).unwrap();
    PictureStore::new(folder, boot.clone(), Durability::Process).unwrap().store(&frame(1)).unwrap();
    let mut clips = CaptureFiles::new(folder, CaptureKind::Clip, boot, Durability::Process).unwrap();
    clips.store(&door, WallTime(0), "a", "mp4", b"clip").unwrap();
    let spool = SpoolWriter::create(&folder.join("spool"), &meta(), Durability::Process).unwrap();
    begin_attempt(spool.path()).unwrap();
    let other = SpoolWriter::create(&folder.join("spool"), &meta(), Durability::Process).unwrap();
    set_aside(other.path()).unwrap();
    eprintln!("ack 1");
    // Without the destructors: the database's log is there while its mode is looked at.
    std::process::exit(0);
}

fn full_disk(folder: &Path) {
    let large = |seq| Frame { bytes: Bytes::from(vec![7; 3 << 20]), ..frame(seq) };

    let boot = BootId::parse("child").unwrap();
    let mut pictures = PictureStore::new(folder, boot.clone(), Durability::Process).unwrap();
    let refused = pictures.store(&large(1)).unwrap_err();
    assert!(refused.is_disk_full(), "{refused}");
    let day = folder.join("capture/image/door/2026-11-20");
    assert_eq!(std::fs::read_dir(&day).unwrap().count(), 0, "nothing is left behind");
    pictures.store(&frame(2)).unwrap();

    let mut spool = SpoolWriter::create(&folder.join("spool"), &meta(), Durability::Process).unwrap();
    let mut promised = Vec::new();
    for seq in 1..=400 {
        match spool.append(&frame(seq)) {
            Ok(()) => promised.push(seq),
            Err(e) => assert!(e.is_disk_full(), "{e}"),
        }
    }
    assert!(promised.len() < 400 && promised.len() > 10);
    assert!(promised.last() > Some(&promised.len().try_into().unwrap()), "smaller frames still went in");
    let mut reader = SpoolReader::open(spool.path()).unwrap();
    for &seq in &promised {
        assert!(
            matches!(reader.next_item().unwrap(), SpoolItem::Frame(read) if read.bytes == frame(seq).bytes)
        );
    }
    assert!(matches!(reader.next_item().unwrap(), SpoolItem::End(end) if end.torn_bytes == 0));
    assert!(large(1).len() < MAX_FRAME_BYTES);

    let mut store = Store::open(folder, StoreOptions::default()).unwrap();
    let mut written = 0;
    for n in 1..=100 {
        let payload = serde_json::json!({"text": "x".repeat(60_000)});
        let failed = store.start_event(&event(n), &[NewAlert { payload, ..alert() }]);
        written += u64::from(failed.is_ok());
        assert_eq!(store.event(event(n).id).unwrap().is_some(), failed.is_ok(), "event {n}");
    }
    assert!(written > 2 && written < 100, "{written}");
    assert_eq!((store.event_count().unwrap(), store.outbox_waiting().unwrap()), (written, written));
    eprintln!("ack 1");
}
