//! Passes the linker script to the linker, and checks the compiler flags of a guest build.

use std::path::PathBuf;
use std::{env, fs};

/// The required flags: without them a guest links and then fails in odd ways. `cargo xtask` sets them all
/// (xtask/src/guest.rs).
const FLAGS: &[&str] = &[
    "panic=abort",
    "no-redzone=yes",
    "relocation-model=static",
    "force-frame-pointers=yes",
    "link-arg=-nostartfiles",
    "link-arg=-static",
    "link-arg=-Tgranite.ld",
];

fn main() {
    println!("cargo::rerun-if-changed=linker.ld");
    println!("cargo::rerun-if-changed=boot/build.rs");
    let Some(folder) = env::var_os("OUT_DIR").map(PathBuf::from) else { return };
    if let Err(error) = fs::copy("linker.ld", folder.join("granite.ld")) {
        println!("cargo::error=cannot copy linker.ld to {}: {error}", folder.display());
    }
    println!("cargo::rustc-link-search={}", folder.display());

    if env::var_os("CARGO_CFG_GRANITE_GUEST").is_some() {
        let given = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
        let is_given = |flag: &str| given.split('\x1f').any(|given| given.ends_with(flag));
        if let Some(missing) = FLAGS.iter().find(|flag| !is_given(flag)) {
            println!(
                "cargo::error=a guest needs the compiler flag -C{missing}. Build it with `cargo xtask build`, or write its \
                 flags to a file with `cargo xtask flags FILE` and build with `cargo build --release --config FILE`"
            );
        }
    }
}
