//! Feeds wild bytes to the parser of the desk; what must hold stands in `desk_invariants.rs`.
#![no_main]

#[path = "../desk_invariants.rs"]
mod desk_invariants;

libfuzzer_sys::fuzz_target!(|input: &[u8]| desk_invariants::check(input));
