//! Feeds wild bytes to the readers of the dialect `recognise`; what must hold stands in `recognise_invariants.rs`.
#![no_main]

#[path = "../recognise_invariants.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|input: &[u8]| invariants::check(input));
