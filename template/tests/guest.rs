//! Guest tests: `cargo xtask test` boots them.

#![no_std]
#![no_main]

use granite::prelude::*;
use granite::testing::{NotPassed, check_same};

granite::tests![a_page_is_granted_and_comes_back];

fn a_page_is_granted_and_comes_back(platform: &'static Platform) -> Result<(), NotPassed> {
    let grants = platform.grants()?;
    let page = Page::zeroed().ok_or("no memory for a page")?;
    let grant = grants.grant::<ReadWrite>(page, DomId::CONTROL)?;
    let page = grant.end_access()?;
    check_same!(page.bytes().len(), 4096);
    Ok(())
}
