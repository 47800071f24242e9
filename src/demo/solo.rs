//! Both ends in one domain, where a second one can't be had. A domain that maps a page of its own loses it at its own
//! address, so data goes by copies alone; and a ring of the bell runs the other end.

use core::cell::RefCell;

use alloc::rc::Rc;

use granite::driver::Doorbell;
use granite::driver::block::{
    Back, BlockError, Counts, DataPath, Disk, Front, Geometry, ImageDisk, Limits, RamDisk, Served,
};
use granite::event::EventError;
use granite::hypercall::Xen;
use granite::mm::Page;
use granite::prelude::*;
use granite::ring::{Ring, RingMemory};
use granite::time::{Deadline, TimedOut};

use super::table::{self, Before, Row};
use super::{DemoError, PATIENCE, check, sectors};

/// Nobody waits: whoever rings goes on.
struct Mute;

impl Doorbell for Mute {
    type Ring<'b> = ();

    fn ring(&self) -> Result<(), EventError> {
        Ok(())
    }

    fn is_connected(&self) -> bool {
        true
    }

    fn wait(&self, _: Deadline) -> Result<(), TimedOut> {
        Err(TimedOut)
    }
}

/// To wait for the other end is to run it.
struct Turn<'b, 'd, M: RingMemory>(&'b RefCell<Back<'static, Xen, M, Mute, &'d mut dyn Disk>>);

impl<M: RingMemory> Doorbell for Turn<'_, '_, M> {
    type Ring<'b>
        = ()
    where
        Self: 'b;

    fn ring(&self) -> Result<(), EventError> {
        Ok(())
    }

    fn is_connected(&self) -> bool {
        true
    }

    fn wait(&self, _: Deadline) -> Result<(), TimedOut> {
        match self.0.borrow_mut().serve() {
            Ok(1..) => Ok(()),
            Ok(0) | Err(_) => Err(TimedOut),
        }
    }
}

/// Runs both ends, on a file or on a disk in memory.
pub fn run(platform: &'static Platform, image: Option<&'static [u8]>) -> Result<ExitCode, DemoError> {
    let (Some(xen), grants) = (platform.xen(), platform.grants()?) else { return Err(DemoError::NoImage) };
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
    let back = RefCell::new(Back::new(memory, Mute, grants, own, disk, DataPath::Copy, true, &Page::zeroed)?);
    let limits = Limits { patience: PATIENCE, ..Limits::default() };
    let mut front = Front::new(ring, Turn(&back), grants, own, &Page::zeroed, geometry, limits);

    let calls = xen.calls();
    check::check(&mut front, 0)?;
    let calls = xen.calls() - calls;
    let Counts { requests, bytes, notifications, grants: lent, .. } = front.counts();
    let Served { requests: answered, bytes: moved, notifications: told, kept, .. } = back.borrow().served();
    drop(front);
    drop(back);
    table::head();
    let front = Row { requests, bytes, notifications, grants: lent, calls };
    // One domain makes the calls of both.
    let back = Row { requests: answered, bytes: moved, notifications: told, grants: kept, calls: 0 };
    table::line("copy, solo", front, back);
    let left = before.left(grants);
    left.print("this domain, which has both ends (solo)");
    left.check("this domain")?;
    println!("every byte was right, and nothing leaked");
    Ok(ExitCode::SUCCESS)
}
