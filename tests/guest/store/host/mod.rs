//! Both ends in one process, between two domains of the fake's.

use std::rc::Rc;
use std::time::Duration;

use granite::driver::block::{Back, Blkif, DataPath, Disk, Limits, RamDisk};
use granite::event::{Interdomain, Unbound};
use granite::grant::{ForeignMapping, Grant, ReadWrite, Version};
use granite::hypercall::fake::FakeXen;
use granite::ring::{self, Ring};

use crate::grant::bed::{Bed, fail};
use crate::harness::{Case, NotPassed, Rig};
use granite::testing::check;

const HOST: &[Rig] = &[Rig::Host];

/// The cases.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    right::CASES.iter().chain(wrong::CASES).chain(meet::CASES).chain(bytes::CASES)
}

const PATHS: [DataPath; 3] = [DataPath::Map, DataPath::Copy, DataPath::Persistent { max: 16 }];

type Fake = &'static FakeXen;
type Memory = ForeignMapping<'static, ReadWrite, Fake>;
type Server<'d> = Back<'static, Fake, Memory, &'d mut dyn Disk>;
type Shared = Rc<Grant<'static, ReadWrite, Fake>>;

/// For a front end whose back end sleeps.
const IMPATIENT: Limits = Limits {
    segments: 11,
    depth: u32::MAX,
    pages: 352,
    persistent: true,
    patience: Duration::from_millis(30),
};

/// A ring between the bed's two domains: what each end needs.
struct Meeting {
    bed: &'static Bed,
    memory: Shared,
    theirs: Memory,
    channel: Interdomain<Fake>,
    their_channel: Interdomain<Fake>,
}

impl Meeting {
    fn new() -> Result<(Self, Ring<ring::Front, Blkif, Shared>), NotPassed> {
        let bed: &Bed = Box::leak(Box::new(Bed::on_new_machine(Version::V1)?));
        let memory = Rc::new(bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?);
        let ring = Ring::new(Rc::clone(&memory)).map_err(fail)?;
        let theirs = bed.them.map::<ReadWrite>(bed.our_id, memory.gref()).map_err(fail)?;
        let listens = Unbound::new(bed.fake.us, bed.their_id).map_err(fail)?;
        let their_channel = Interdomain::connect(bed.fake.them, bed.our_id, listens.port()).map_err(fail)?;
        let channel = listens.accept().map_err(|(error, _)| fail(error))?;
        Ok((Self { bed, memory, theirs, channel, their_channel }, ring))
    }

    /// The front's channel, and the back end.
    fn back(
        self,
        disk: &mut dyn Disk,
        path: DataPath,
        reasons: bool,
    ) -> Result<(&'static Bed, Interdomain<Fake>, Server<'_>), NotPassed> {
        let Self { bed, theirs, memory, channel, their_channel } = self;
        drop(memory);
        let back = Back::new(theirs, their_channel, bed.them, bed.our_id, disk, path, reasons);
        Ok((bed, channel, back.map_err(fail)?))
    }
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

/// A front end whose back end serves while it waits.
macro_rules! with_front {
    ($path:expr, $disk:expr, $limits:expr, |$bed:ident, $front:ident| $body:block) => {{
        let (meeting, ring) = Meeting::new()?;
        let mut disk = $disk;
        let geometry = Geometry { persistent: matches!($path, DataPath::Persistent { .. }), ..Geometry::of(&disk) };
        let ($bed, channel, mut back) = meeting.back(&mut disk, $path, true)?;
        let mut $front = Front::new(ring, channel, $bed.us, $bed.their_id, geometry, $limits);
        let run = || -> Result<(), NotPassed> {
            $body
            Ok(())
        };
        meanwhile(|| back.serve().is_ok_and(|served| served > 0), run)?;
        let served = back.served();
        drop($front);
        drop(back);
        nothing_lost($bed)?;
        served
    }};
}

mod bytes;
mod meet;
mod right;
mod wrong;
