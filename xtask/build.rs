//! Tells the tests whether this system has apt, for which set-up has its own code.

use std::path::Path;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(has_apt)");
    println!("cargo::rerun-if-changed=build.rs");
    if ["apt-get", "dpkg-deb"].iter().all(|tool| Path::new("/usr/bin").join(tool).exists()) {
        println!("cargo::rustc-cfg=has_apt");
    }
}
