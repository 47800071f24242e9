//! Rings with an arbitrary peer: random scripts, and the scripts found by fuzz/.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod hostile;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_a_peer_writes(script in proptest::collection::vec(any::<u8>(), 0..400)) {
        hostile::play(&script);
    }

    #[test]
    fn as_long_as_it_writes_what_it_should(
        script in proptest::collection::vec(prop_oneof![0u8..6, 7u8..9, 11u8..15], 0..2000)
    ) {
        hostile::play(&script);
    }
}

/// Plays the fuzzer's scripts: they reach paths unreached by random ones.
#[test]
fn what_the_fuzzer_found() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/ring");
    let mut scripts = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        hostile::play(&std::fs::read(entry.unwrap().path()).unwrap());
        scripts += 1;
    }
    assert!(scripts >= 20, "the corpus is gone: {scripts} scripts in {folder}");
}
