//! Fuzzes both ends of a ring, with a peer writing arbitrary values: `cargo +nightly fuzz run ring`.

#![no_main]

#[path = "../../tests/ring/hostile.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|script: &[u8]| hostile::play(script));
