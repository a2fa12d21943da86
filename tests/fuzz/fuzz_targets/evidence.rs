//! Feeds wild bytes to the readers of spools and proofs; what must hold stands in `evidence_invariants.rs`.
#![no_main]

use std::sync::LazyLock;

#[path = "../evidence_invariants.rs"]
#[allow(dead_code)]
mod invariants;
#[path = "../evidence_key.rs"]
mod key;

static KEY: LazyLock<meerkat_store::evidence::SigningKeyFile> = LazyLock::new(key::known);

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    invariants::spool(input, &KEY.public());
    invariants::proof(input, &KEY);
});
