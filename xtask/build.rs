//! Tells the tests whether this is a system with apt, for which set-up has code of its own.

use std::path::Path;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(has_apt)");
    println!("cargo::rerun-if-changed=build.rs");
    if ["apt-get", "dpkg-deb"].iter().all(|tool| Path::new("/usr/bin").join(tool).exists()) {
        println!("cargo::rustc-cfg=has_apt");
    }
}
