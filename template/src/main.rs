//! A Xen PVH unikernel. `cargo xtask run` boots it.

#![no_std]
#![no_main]

use granite::prelude::*;

granite::entry!(main);

fn main(platform: &'static Platform) -> Result<(), Error> {
    let (domain, xen) = (platform.dom_id(), platform.xen_version());
    println!("hello from domain {domain} on Xen {xen}");
    Ok(())
}
