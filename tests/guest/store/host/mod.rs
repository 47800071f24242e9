//! Both ends in one process, between two domains of the fake's.

use std::rc::Rc;

use granite::driver::Doorbell;
use granite::driver::block::{Back, Blkif, DataPath, Disk, RamDisk};
use granite::event::EventError;
use granite::grant::{ForeignMapping, Grant, ReadWrite, Version};
use granite::hypercall::fake::FakeXen;
use granite::mm::Page;
use granite::ring::{self, Ring};
use granite::time::{Deadline, TimedOut};

use crate::grant::bed::{Bed, fail};
use crate::harness::{Case, NotPassed, Rig};
use granite::testing::check;

const HOST: &[Rig] = &[Rig::Host];

/// The cases.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    right::CASES.iter().chain(wrong::CASES)
}

const PATHS: [DataPath; 3] = [DataPath::Map, DataPath::Copy, DataPath::Persistent { most: 16 }];

type Memory = ForeignMapping<'static, ReadWrite, &'static FakeXen>;
type Server<'d> = Back<'static, &'static FakeXen, Memory, Mute, &'d mut dyn Disk>;
type Shared = Rc<Grant<'static, ReadWrite, &'static FakeXen>>;

/// Nobody waits.
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

/// To wait is to run the other end.
struct Turn<F: Fn() -> bool>(F);

impl<F: Fn() -> bool> Doorbell for Turn<F> {
    type Ring<'b>
        = ()
    where
        F: 'b;

    fn ring(&self) -> Result<(), EventError> {
        Ok(())
    }

    fn is_connected(&self) -> bool {
        true
    }

    fn wait(&self, _: Deadline) -> Result<(), TimedOut> {
        if (self.0)() { Ok(()) } else { Err(TimedOut) }
    }
}

/// A ring between the bed's two domains: its front end, and what the back end needs.
struct Meeting {
    bed: &'static Bed,
    memory: Shared,
    theirs: Memory,
}

impl Meeting {
    fn new() -> Result<(Self, Ring<ring::Front, Blkif, Shared>), NotPassed> {
        let bed: &Bed = Box::leak(Box::new(Bed::on_new_machine(Version::V1)?));
        let memory = Rc::new(bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?);
        let ring = Ring::new(Rc::clone(&memory)).map_err(fail)?;
        let theirs = bed.them.map::<ReadWrite>(bed.our_id, memory.gref()).map_err(fail)?;
        Ok((Self { bed, memory, theirs }, ring))
    }

    fn back(
        self,
        disk: &mut dyn Disk,
        path: DataPath,
        reasons: bool,
    ) -> Result<(&'static Bed, Server<'_>), NotPassed> {
        let Self { bed, theirs, memory } = self;
        drop(memory);
        let page = || bed.their_page().ok();
        let back = Back::new(theirs, Mute, bed.them, bed.our_id, disk, path, reasons, &page);
        Ok((bed, back.map_err(fail)?))
    }
}

/// A page source for a front end, for ever.
fn pages(bed: &'static Bed) -> &'static dyn Fn() -> Option<Page> {
    Box::leak(Box::new(move || bed.page().ok()))
}

/// To be asked when both ends are gone: what the back end had mapped last waits in the quarantine.
fn nothing_lost(bed: &Bed) -> Result<(), NotPassed> {
    bed.us.reap(u32::MAX);
    bed.nothing_lost()?;
    let theirs = bed.them.stats();
    check!(theirs.in_use == 0 && theirs.lost == 0, "{theirs}");
    check!(!bed.fake.us.is_dead() && !bed.fake.them.is_dead());
    Ok(())
}

fn ram() -> Result<RamDisk, NotPassed> {
    RamDisk::new(1024).ok_or_else(|| fail("no memory"))
}

/// A front end that waits by running the back end.
macro_rules! with_front {
    ($path:expr, $disk:expr, $limits:expr, |$bed:ident, $front:ident| $body:block) => {{
        let (meeting, ring) = Meeting::new()?;
        let mut disk = $disk;
        let geometry = Geometry { persistent: matches!($path, DataPath::Persistent { .. }), ..Geometry::of(&disk) };
        let ($bed, back) = meeting.back(&mut disk, $path, true)?;
        let back = RefCell::new(back);
        let bell = Turn(|| back.borrow_mut().serve().is_ok_and(|served| served > 0));
        let mut $front = Front::new(ring, bell, $bed.us, $bed.their_id, pages($bed), geometry, $limits);
        $body
        let served = back.borrow().served();
        drop($front);
        drop(back);
        nothing_lost($bed)?;
        served
    }};
}

mod right;
mod wrong;
