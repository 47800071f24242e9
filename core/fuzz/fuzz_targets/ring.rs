//! Both ends of a ring, and a peer that writes anything: `cargo +nightly fuzz run ring`.

#![no_main]

#[path = "../../tests/ring/hostile.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|script: &[u8]| hostile::play(script));
