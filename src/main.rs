//! The template application: start here, and delete what you don't need.

#![no_std]
#![no_main]

use granite::prelude::*;

granite::entry!(main, options = ["panic", "fail"]);

fn main(platform: &'static Platform) -> ExitCode {
    println!(
        "Hello from domain {} on Xen {}: {} vCPU, {} MiB of memory.",
        platform.dom_id(),
        platform.xen_version(),
        platform.vcpus(),
        platform.memory().div_ceil(1 << 20),
    );
    debug!("features: {:?}", platform.features());

    // `cargo xtask run -- panic` and `-- fail` show what becomes of a guest that goes wrong.
    let options = platform.options();
    assert!(!options.has("panic"), "the command line asked for it");
    if options.has("fail") { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
