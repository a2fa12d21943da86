//! Feeds wild bytes to the reader of torch.save's files; what must hold stands in `importers.rs`.
#![no_main]

#[path = "../importers.rs"]
#[allow(dead_code)]
mod importers;

libfuzzer_sys::fuzz_target!(|input: &[u8]| importers::torch(input));
