//! How fast the parser is alone: a stream of 60 KB JPEG frames that arrives in chunks of 64 KiB, as a session reads it.
//! The copy of each chunk into the read buffer is part of what is measured, as the kernel's copy would be.

#[path = "../fixtures/pictures.rs"]
#[allow(dead_code)] // the other containers are for the tests
mod pictures;

use std::hint::black_box;

use bytes::{BufMut, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use meerkat_wire::frame::{self, Item, Limits, Options, Parser};
use pictures::{Jpeg, noise};

const FRAMES: usize = 256;

fn parse(stream: &[u8], chunk: usize) -> usize {
    let mut parser = Parser::new(Limits::default(), Options::default());
    let mut buf = BytesMut::new();
    let mut frames = 0;
    for piece in stream.chunks(chunk) {
        buf.reserve(piece.len());
        buf.put_slice(piece);
        while let Ok(Some(item)) = parser.next(&mut buf) {
            frames += usize::from(matches!(black_box(item), Item::Frame(_)));
        }
    }
    frames
}

/// Noise has FF in one byte of 256, about as often as the entropy-coded data of real pictures.
fn stream_of(picture: &[u8]) -> Vec<u8> {
    let mut stream = frame::mode(meerkat_base::Mode::Guard).to_vec();
    for _ in 0..FRAMES {
        frame::frame(picture, &mut stream);
    }
    stream
}

fn throughput(criterion: &mut Criterion) {
    let data = noise(59_000, 42);
    let baseline = stream_of(&Jpeg::new(640, 480, data.clone()).build());
    let progressive =
        Jpeg { scans: data.chunks(6_000).map(<[u8]>::to_vec).collect(), ..Jpeg::new(640, 480, vec![]) };
    let progressive = stream_of(&progressive.build());
    let mut group = criterion.benchmark_group("frame");
    for (name, stream, chunk) in [
        ("baseline, 64 KiB chunks", &baseline, 64 << 10),
        ("progressive, 64 KiB chunks", &progressive, 64 << 10),
        ("baseline, 1460 byte chunks", &baseline, 1460),
    ] {
        assert_eq!(parse(stream, chunk), FRAMES);
        group.throughput(Throughput::Bytes(stream.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| parse(black_box(stream), chunk)));
    }
    group.finish();
}

criterion_group!(benches, throughput);
criterion_main!(benches);
