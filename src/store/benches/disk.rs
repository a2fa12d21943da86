//! What a frame costs on its way to the disk: 60 KB frames into the spool and into picture files, and
//! events with one alert into the database. `TMPDIR` chooses the disk.

use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use meerkat_base::{
    CameraId, Event, EventId, EventKind, EventPhase, Frame, ImageFormat, Mode, MonoTime, WallTime,
};
use meerkat_store::{
    BootId, Durability, NewAlert, PictureStore, SpoolKind, SpoolMeta, SpoolReader, SpoolWriter, Store,
    StoreOptions,
};

const FRAME_BYTES: usize = 60_000;
const START: WallTime = WallTime(1_795_210_274_000_000);

fn frame(seq: u64) -> Frame {
    Frame {
        camera: CameraId::parse("door").expect("an id"),
        seq,
        wall: START.offset_micros(i64::try_from(seq).expect("few frames") * 50),
        mono: MonoTime(seq * 50_000),
        format: ImageFormat::Jpeg,
        width: 640,
        height: 480,
        proven: false,
        bytes: Bytes::from(vec![0x5a; FRAME_BYTES]),
    }
}

fn meta() -> SpoolMeta {
    SpoolMeta {
        camera: CameraId::parse("door").expect("an id"),
        kind: SpoolKind::Video,
        started: START,
        mode: Mode::Video,
        settings: serde_json::Value::Null,
    }
}

fn spool(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("spool_append_60kb");
    group.throughput(Throughput::Elements(1));
    group.measurement_time(Duration::from_secs(3)).sample_size(20);
    for durability in [Durability::Process, Durability::Power] {
        group.bench_function(format!("{durability:?}").to_lowercase(), |bencher| {
            let mut frame = frame(0);
            bencher.iter_custom(|rounds| {
                // A new spool per sample bounds what lies on the disk.
                let folder = tempfile::tempdir().expect("a folder");
                let mut writer = SpoolWriter::create(folder.path(), &meta(), durability).expect("a spool");
                let begun = std::time::Instant::now();
                for _ in 0..rounds {
                    frame.seq += 1;
                    writer.append(&frame).expect("an append");
                }
                begun.elapsed()
            });
        });
    }
    group.bench_function("read", |bencher| {
        let folder = tempfile::tempdir().expect("a folder");
        let mut writer = SpoolWriter::create(folder.path(), &meta(), Durability::Process).expect("a spool");
        (1..=1_000).for_each(|seq| writer.append(&frame(seq)).expect("an append"));
        let open = || SpoolReader::open(writer.path()).expect("a spool");
        let (mut reader, mut left) = (open(), 1_000);
        bencher.iter(|| {
            if left == 0 {
                (reader, left) = (open(), 1_000);
            }
            left -= 1;
            reader.next_item().expect("a frame")
        });
    });
    group.finish();
}

fn pictures(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("picture_store_60kb");
    group.throughput(Throughput::Elements(1));
    group.measurement_time(Duration::from_secs(3)).sample_size(20);
    for durability in [Durability::Process, Durability::Power] {
        group.bench_function(format!("{durability:?}").to_lowercase(), |bencher| {
            let mut frame = frame(0);
            bencher.iter_custom(|rounds| {
                let folder = tempfile::tempdir().expect("a folder");
                let boot = BootId::parse("bench").expect("an id");
                let mut pictures = PictureStore::new(folder.path(), boot, durability).expect("a folder");
                let begun = std::time::Instant::now();
                for _ in 0..rounds {
                    frame.seq += 1;
                    pictures.store(&frame).expect("a picture");
                }
                begun.elapsed()
            });
        });
    }
    group.finish();
}

fn events(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("start_event_with_alert");
    group.throughput(Throughput::Elements(1));
    group.measurement_time(Duration::from_secs(3)).sample_size(20);
    for durability in [Durability::Process, Durability::Power] {
        group.bench_function(format!("{durability:?}").to_lowercase(), |bencher| {
            let folder = tempfile::tempdir().expect("a folder");
            let mut store = Store::open(folder.path(), StoreOptions { durability, ..Default::default() })
                .expect("a store");
            let mut count = 0_u64;
            bencher.iter(|| {
                count += 1;
                let mut entropy = [0; 10];
                entropy[2..].copy_from_slice(&count.to_be_bytes());
                let event = Event {
                    id: EventId::new(START, entropy),
                    camera: CameraId::parse("door").expect("an id"),
                    kind: EventKind::Person,
                    phase: EventPhase::Started,
                    started: START.offset_micros(i64::try_from(count).expect("few events")),
                    started_seq: count,
                    ended: None,
                    score: 0.5,
                    identities: Vec::new(),
                    sightings: Vec::new(),
                };
                let alert = NewAlert {
                    channel: "wecom".into(),
                    payload: serde_json::json!({"text": "somebody is at the door"}),
                    snapshot: None,
                    created: START,
                };
                store.start_event(&event, &[alert]).expect("an event");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, spool, pictures, events);
criterion_main!(benches);
