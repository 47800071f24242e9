//! Grants a page, copies through the grant, and takes the page back. The peer is this domain itself; with two
//! domains, only the domain number differs.

#![no_std]
#![no_main]

use granite::grant::{Dest, Failed, Source};
use granite::prelude::*;

granite::entry!(main);

fn main(platform: &'static Platform) -> ExitCode {
    match share(platform) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn share(platform: &Platform) -> Result<(), GrantError> {
    let grants = platform.grants()?;
    let peer = platform.dom_id();
    let (Some(page), Some(mut copy)) = (Page::zeroed(), Page::zeroed()) else {
        return Err(GrantError::OutOfMemory);
    };

    // The grant now owns the page. The peer is given the reference, and may map the page or copy from it.
    let grant = grants.grant::<ReadWrite>(page, peer).map_err(why)?;
    grant.bytes().write(0, b"hello").map_err(GrantError::OutOfBounds)?;
    println!("granted to domain {peer}: {}", grant.gref());

    // The peer's side: Xen makes a copy, given only the reference.
    grants.copy_one(Source::granted(peer, grant.gref(), 0), Dest::page(&mut copy, 100), 5)?;
    println!("copied: {:?}", core::str::from_utf8(&copy.bytes()[100..105]));

    // `make_readonly` restricts the grant in place: from now on, the peer may only read.
    let grant = grant.make_readonly().map_err(why)?;
    let refused = grants.copy_one(Source::page(&copy, 0), Dest::granted(peer, grant.gref(), 0), 5);
    println!("writing to it now: {}", refused.err().unwrap_or(GrantError::OutOfMemory));
    print!("{}", grants.dump());

    // While the peer has the page mapped, this call would return the grant instead of the page.
    let page = grant.end_access().map_err(why)?;
    println!("ended; the page still says {:?}", core::str::from_utf8(&page.bytes()[..5]));
    println!("{}", grants.stats());
    Ok(())
}

/// Returns the error. A failed call also returns its argument; dropping it here ends the grant.
fn why<T>(failed: Failed<T>) -> GrantError {
    failed.error
}
