//! Feeds wild bytes to the reader of sidecars; what must hold stands in `evidence_invariants.rs`.
#![no_main]

#[path = "../evidence_invariants.rs"]
#[allow(dead_code)]
mod invariants;

libfuzzer_sys::fuzz_target!(|input: &[u8]| invariants::sidecar(input));
