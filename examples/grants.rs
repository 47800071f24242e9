//! Granting a page, copying through it, and taking it back. The peer is this domain itself: with two, only
//! the domain's number is another.

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

    // The grant owns the page now. The peer is told the number, and may map the page or copy from it.
    let grant = grants.grant::<ReadWrite>(page, peer).map_err(why)?;
    grant.bytes().write(0, b"hello").map_err(GrantError::OutOfBounds)?;
    println!("granted to domain {peer}: {}", grant.gref());

    // What the peer does: a copy by the number alone, which Xen makes.
    grants.copy_one(Source::granted(peer, grant.gref(), 0), Dest::page(&mut copy, 100), 5)?;
    println!("copied: {:?}", core::str::from_utf8(&copy.bytes()[100..105]));

    // Rights are tightened in place; from here on the peer may only read.
    let grant = grant.make_readonly().map_err(why)?;
    let refused = grants.copy_one(Source::page(&copy, 0), Dest::granted(peer, grant.gref(), 0), 5);
    println!("writing to it now: {}", refused.err().unwrap_or(GrantError::OutOfMemory));
    print!("{}", grants.dump());

    // While the peer has it mapped, this would give the grant back instead of the page.
    let page = grant.end_access().map_err(why)?;
    println!("ended; the page still says {:?}", core::str::from_utf8(&page.bytes()[..5]));
    println!("{}", grants.stats());
    Ok(())
}

/// What failed gives back what it was given; here it is dropped, which ends it.
fn why<T>(failed: Failed<T>) -> GrantError {
    failed.error
}
