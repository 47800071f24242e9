//! A pair of domains from one image. The control domain starts the image a second time, grants the new domain a
//! page, and reads from it the text written by that domain. Run it with `cargo xtask run --rig pair`;
//! `-- child=crash`, `hang` and `fail` show how a failing child is handled.

#![no_std]
#![no_main]

extern crate alloc;

use core::time::Duration;

use granite::abi::grant::GrantRef;
use granite::pair::{Child, ChildEnd, PairError, Parent};
use granite::prelude::*;
use granite::time::{Deadline, sleep};
use granite::toolstack::{Config, Toolstack};

granite::entry!(main, options = ["child"]);

/// The timeout of each side when it waits for the other.
const TIMEOUT: Duration = Duration::from_secs(5);

fn main(platform: &'static Platform) -> ExitCode {
    let result = match Child::connect(platform) {
        Ok(Some(child)) => be_child(platform, &child),
        Ok(None) => be_parent(platform),
        Err(error) => Err(error),
    };
    result.unwrap_or_else(|error| {
        error!("{error}");
        error.exit_code()
    })
}

fn be_parent(platform: &'static Platform) -> Result<ExitCode, PairError> {
    println!("Hello from domain {}, the parent, on Xen {}.", platform.dom_id(), platform.xen_version());
    let Some(xen) = platform.xen() else { return Ok(ExitCode::FAILURE) };
    let toolstack = Toolstack::new(xen)?;
    let Some(kernel) = platform.modules().first().copied() else {
        error!("the image for the child is missing: cargo xtask run --rig pair gives it");
        return Ok(ExitCode::FAILURE);
    };
    let command_line = alloc::format!("child={}", platform.options().get("child").unwrap_or("well"));
    let config = Config { kernel, command_line: &command_line, processor: Some(0), ..Config::default() };
    let mut parent = Parent::start(platform, &toolstack, &config, TIMEOUT)?;

    let page = Page::zeroed().ok_or(PairError::OutOfMemory)?;
    let grants = platform.grants()?;
    let grant = grants.grant::<ReadWrite>(page, parent.child()).map_err(|failed| failed.error)?;
    grant.bytes().write(0, b"from the parent").map_err(GrantError::OutOfBounds)?;
    println!("granted to domain {}: {}, read and write", parent.child(), grant.gref());
    parent.send(&grant.gref().0.to_le_bytes(), Deadline::after(TIMEOUT))?;

    // The child answers when it has finished with the page. A failed child doesn't; the code below reports it.
    if let Err(error) = parent.receive(Deadline::after(TIMEOUT)) {
        warn!("{error}");
    } else {
        let mut text = [0; 14];
        grant.bytes().read(2048, &mut text).map_err(GrantError::OutOfBounds)?;
        println!("the child wrote: {:?}", core::str::from_utf8(&text));
    }
    let (child, end) = (parent.child(), parent.wait(Deadline::after(TIMEOUT))?);
    if end != ChildEnd::Success {
        error!("{end}");
        parent.console()?.iter().for_each(|line| println!("domain {child} said: {line}"));
    }
    parent.destroy(Deadline::after(TIMEOUT))?;
    let page = grant.end_access().map_err(|failed| failed.error)?;
    println!("ended; the page is ours again: {page:?}; {}", grants.stats());
    Ok(end.exit_code())
}

fn be_child(platform: &'static Platform, child: &Child) -> Result<ExitCode, PairError> {
    println!("Hello from domain {}, the child of domain {}.", platform.dom_id(), child.parent());
    let message = child.link().receive(Deadline::after(TIMEOUT))?;
    match platform.options().get("child") {
        #[expect(clippy::panic, reason = "it is what was asked for")]
        Some("crash") => panic!("the command line asked for it"),
        Some("hang") => loop {
            sleep(Duration::from_secs(1));
        },
        Some("fail") => return Ok(ExitCode(3)),
        _ => {}
    }
    let gref = GrantRef(message.first_chunk().copied().map_or(0, u32::from_le_bytes));
    let mapping = platform.grants()?.map::<ReadWrite>(child.parent(), gref)?;
    let mut text = [0; 15];
    mapping.bytes().read(0, &mut text).map_err(GrantError::OutOfBounds)?;
    println!("mapped {gref} of domain {}: it says {:?}", child.parent(), core::str::from_utf8(&text));
    mapping.bytes().write(2048, b"from the child").map_err(GrantError::OutOfBounds)?;
    mapping.unmap().map_err(|failed| failed.error)?;
    child.link().send(b"done", Deadline::after(TIMEOUT))?;
    Ok(ExitCode::SUCCESS)
}
