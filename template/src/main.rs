//! A Xen PVH unikernel. `cargo xtask run` boots it.

#![no_std]
#![no_main]

use granite::prelude::*;

granite::entry!(main);

fn main(platform: &'static Platform) -> Result<(), Error> {
    println!(
        "hello from domain {} on Xen {}",
        platform.dom_id(),
        platform.xen_version()
    );
    let page = Page::zeroed().ok_or("no memory for a page")?;
    let grant = platform.grants()?.grant::<ReadOnly>(page, DomId::CONTROL)?;
    println!(
        "domain {} may read a page of ours as grant {}",
        DomId::CONTROL,
        grant.gref().0
    );
    Ok(())
}
