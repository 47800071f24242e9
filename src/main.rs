//! `cargo xtask run` boots this demo: two domains connected by a shared ring. One serves a disk, the other verifies
//! it. Your own application gets its own repository: `cargo xtask new FOLDER`.

#![no_std]
#![no_main]

extern crate alloc;

mod demo;

use granite::prelude::*;

granite::entry!(main, options = ["panic", "fail", "child", "path", "sectors"]);

fn main(platform: &'static Platform) -> ExitCode {
    println!(
        "Hello from domain {} on Xen {}: {} vCPU, {} MiB of memory.",
        platform.dom_id(),
        platform.xen_version(),
        platform.vcpus(),
        platform.memory().div_ceil(1 << 20),
    );
    debug!("features: {:?}", platform.features());

    // `cargo xtask run -- panic` and `-- fail` show how a failing guest ends.
    let options = platform.options();
    assert!(!options.has("panic"), "the command line asked for it");
    if options.has("fail") {
        return ExitCode::FAILURE;
    }
    demo::run(platform)
}
