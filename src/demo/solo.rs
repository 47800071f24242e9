//! Both ends in one domain, for use if no second domain can be started. A domain mapping its own page loses that
//! page at the page's own address, so data is only copied. The back end serves whenever the front end waits.

use alloc::rc::Rc;

use granite::driver::block::{
    Back, BackStats, BlockError, DataPath, Disk, Front, FrontStats, Geometry, ImageDisk, Limits, RamDisk,
};
use granite::event::{Interdomain, Unbound};
use granite::prelude::*;
use granite::ring::Ring;
use granite::time::meanwhile;

use super::table::{self, Before, Row};
use super::{DemoError, TIMEOUT, check, sectors};

/// Runs both ends, on a file or on a disk in memory.
pub fn run(platform: &'static Platform, image: Option<&'static [u8]>) -> Result<ExitCode, DemoError> {
    let (Some(xen), grants) = (platform.xen(), platform.grants()?) else { return Err(DemoError::NoImage) };
    for option in ["path", "child"].into_iter().filter(|option| platform.options().has(option)) {
        println!("the option {option} has no effect in one domain");
    }
    let (own, before) = (platform.dom_id(), Before::new(grants));
    let page = Page::zeroed().ok_or(BlockError::OutOfMemory)?;
    let memory = Rc::new(grants.grant::<ReadWrite>(page, own).map_err(|failed| failed.error)?);
    let ring = Ring::new(Rc::clone(&memory)).map_err(BlockError::Ring)?;
    let (mut ram, mut file) = (None, None);
    let disk: &mut dyn Disk = match image {
        Some(module) => file.insert(ImageDisk(module)),
        None => ram.insert(RamDisk::new(sectors(platform) as usize).ok_or(BlockError::OutOfMemory)?),
    };
    let geometry = Geometry::of(disk);
    let listens = Unbound::new(xen, own).map_err(BlockError::Event)?;
    let channel = Interdomain::connect(xen, own, listens.port()).map_err(BlockError::Event)?;
    let mut back = Back::new(memory, channel, grants, own, disk, DataPath::Copy, true)?;
    let limits = Limits { patience: TIMEOUT, ..Limits::default() };
    let channel = listens.accept().map_err(|(error, _)| BlockError::Event(error))?;
    let mut front = Front::new(ring, channel, grants, own, geometry, limits);

    let calls = xen.calls();
    // The front end sees the errors of the back end.
    meanwhile(|| back.serve().is_ok_and(|served| served > 0), || check::check(&mut front, 0))?;
    let calls = xen.calls() - calls;
    let FrontStats { requests, bytes, notifications, grants: lent, .. } = front.stats();
    let BackStats { requests: answered, bytes: moved, notifications: told, kept, .. } = back.served();
    drop(front);
    drop(back);
    table::head();
    let front = Row { requests, bytes, notifications, grants: lent, calls };
    // One domain makes the hypercalls of both ends.
    let back = Row { requests: answered, bytes: moved, notifications: told, grants: kept, calls: 0 };
    table::line("copy, solo", front, back);
    let left = before.left(grants);
    left.print("this domain, which has both ends (solo)");
    left.check("this domain")?;
    println!("every byte was right, and nothing leaked");
    Ok(ExitCode::SUCCESS)
}
