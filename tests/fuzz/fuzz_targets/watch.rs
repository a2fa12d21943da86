//! Feeds wild bytes to the parsers of the watch protocol: a join that is cut somewhere, and a datagram.
#![no_main]

use meerkat_wire::watch::{Answer, Join, MIN_PORT};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((&cut, bytes)) = input.split_first() else { return };
    let cut = usize::from(cut).min(bytes.len());
    let outcomes = [&[bytes][..], &[&bytes[..cut], &bytes[cut..]][..]].map(|pieces| {
        let mut join = Join::new();
        for piece in pieces {
            join.push(piece);
        }
        join.on_silence()
    });
    assert_eq!(outcomes[0], outcomes[1], "a cut changes nothing");
    assert_eq!(outcomes[0].is_none(), bytes.is_empty());
    if let Some(Ok(port)) = outcomes[0] {
        assert!(port >= MIN_PORT);
        assert!(bytes.starts_with(port.to_string().as_bytes()));
    }
    if let Some(answer) = Answer::parse(bytes) {
        assert!(bytes.starts_with(answer.bytes()));
    }
});
