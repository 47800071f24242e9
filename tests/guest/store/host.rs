//! Both ends in one process, between two domains of the fake's.

use std::cell::RefCell;
use std::rc::Rc;

use embedded_storage::{ReadStorage, Storage};
use granite::abi::blkif::{Operation, Response, Status};
use granite::abi::grant::GrantRef;
use granite::abi::grant::op::Op;
use granite::driver::Doorbell;
use granite::driver::block::{
    Back, Blkif, BlockError, DataPath, Disk, Front, Geometry, ImageDisk, Limits, RamDisk, SECTOR, checksum,
};
use granite::event::EventError;
use granite::grant::{ForeignMapping, Grant, ReadOnly, ReadWrite, Version};
use granite::hypercall::fake::{FakeXen, Fault};
use granite::mm::Page;
use granite::ring::{self, PeerBroke, Ring, RingError};
use granite::time::{Deadline, TimedOut};

use super::requests::{self, SECTORS};
use crate::grant::bed::{Bed, fail};
use crate::harness::{Case, NotPassed, Rig};
use crate::{check, check_same};

const HOST: &[Rig] = &[Rig::Host];

/// The cases.
pub const CASES: &[Case] = &[
    Case::new("store::every_request_is_answered_as_it_must_be", HOST, |_| every_request()),
    Case::new("store::a_front_that_knows_no_reasons_gets_none", HOST, |_| no_reasons()),
    Case::new("store::what_is_written_is_read", HOST, |_| what_is_written()),
    Case::new("store::bytes_at_any_offset", HOST, |_| bytes_at_any_offset()),
    Case::new("store::bad_calls_are_refused_here", HOST, |_| bad_calls()),
    Case::new("store::what_a_back_end_does_not_offer_is_not_asked", HOST, |_| features()),
    Case::new("store::kept_mappings_are_bounded", HOST, |_| kept_mappings()),
    Case::new("store::faults_of_the_hypervisor_lose_nothing", HOST, |_| faults()),
    Case::new("store::a_back_that_lies", HOST, |_| a_back_that_lies()),
    Case::new("store::an_operation_that_was_given_up", HOST, |_| given_up()),
];

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

/// Asks with a ring of one's own.
fn exchange(
    ring: &mut Ring<ring::Front, Blkif, Shared>,
    back: &mut Server<'_>,
    mut request: granite::abi::blkif::Request,
) -> Result<Response, NotPassed> {
    ring.push(|id| {
        request.id = id.number();
        request
    })
    .map_err(fail)?;
    let _ = ring.publish();
    check_same!(back.serve().map_err(fail)?, 1);
    let (_, response) = ring.pop().map_err(fail)?.ok_or_else(|| fail("no answer"))?;
    check!(response.operation == request.operation && response.id == request.id, "{response:?}");
    Ok(response)
}

fn every_request() -> Result<(), NotPassed> {
    for path in PATHS {
        let (meeting, mut ring) = Meeting::new()?;
        let mut disk = RamDisk::new(SECTORS as usize).ok_or_else(|| fail("no memory"))?;
        let (bed, mut back) = meeting.back(&mut disk, path, true)?;
        let room = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
        let data = bed.us.grant::<ReadOnly>(bed.page()?, bed.their_id).map_err(fail)?;
        for (what, request, expected) in requests::table(room.gref(), data.gref(), GrantRef(1 << 24)) {
            // A page that is kept is mapped to write.
            if matches!(path, DataPath::Persistent { .. })
                && what.contains("write")
                && expected == Status::OKAY
                || matches!(path, DataPath::Persistent { .. }) && what == "flush with data"
            {
                continue;
            }
            let response = exchange(&mut ring, &mut back, request)?;
            check_same!((path, what, response.status), (path, what, expected));
        }
        drop(back);
        room.end_access().map_err(fail)?;
        data.end_access().map_err(fail)?;
        drop(ring);
        nothing_lost(bed)?;

        let (meeting, mut ring) = Meeting::new()?;
        let mut disk = ImageDisk(&[7; SECTORS as usize * SECTOR]);
        let (bed, mut back) = meeting.back(&mut disk, path, true)?;
        let room = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
        for (what, request, expected) in requests::read_only(room.gref(), room.gref()) {
            check_same!((what, exchange(&mut ring, &mut back, request)?.status), (what, expected));
        }
        check_same!(back.served().refused, 4);
    }
    Ok(())
}

fn no_reasons() -> Result<(), NotPassed> {
    let (meeting, mut ring) = Meeting::new()?;
    let mut disk = RamDisk::new(SECTORS as usize).ok_or_else(|| fail("no memory"))?;
    let (_, mut back) = meeting.back(&mut disk, DataPath::Map, false)?;
    for (what, request, expected) in requests::table(GrantRef(300), GrantRef(301), GrantRef(1 << 24)) {
        let response = exchange(&mut ring, &mut back, request)?;
        let allowed = [Status::OKAY, Status::ERROR, Status::NOT_SUPPORTED];
        check!(allowed.contains(&response.status), "{what}: {}", response.status);
        check!(expected == Status::OKAY || response.status == expected.without_reason(), "{what}");
    }
    Ok(())
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

fn ram() -> Result<RamDisk, NotPassed> {
    RamDisk::new(1024).ok_or_else(|| fail("no memory"))
}

fn what_is_written() -> Result<(), NotPassed> {
    for path in PATHS {
        for (segments, depth, pages) in [(11, 32, 352), (1, 32, 352), (3, 1, 352), (11, 32, 5), (11, 32, 1)] {
            let limits = Limits { segments, depth, pages, ..Limits::default() };
            with_front!(path, ram()?, limits, |bed, front| {
                let data: Vec<u8> = (0..1000 * SECTOR).map(|i| (i / 7 + i / SECTOR) as u8).collect();
                front.write(3, &data).map_err(fail)?;
                front.flush().map_err(fail)?;
                let mut read = vec![0; data.len()];
                front.read(3, &mut read).map_err(fail)?;
                check!(read == data, "{path}, {limits:?}");
                let mut sums = vec![0; 1000];
                front.checksums(3, &mut sums).map_err(fail)?;
                check!(data.chunks_exact(SECTOR).map(checksum).eq(sums), "{path}, {limits:?}");
                front.discard(10, 5).map_err(fail)?;
                front.read(9, &mut read[..7 * SECTOR]).map_err(fail)?;
                check!(read[..SECTOR] == data[6 * SECTOR..7 * SECTOR]);
                check!(read[SECTOR..6 * SECTOR].iter().all(|&byte| byte == 0));
                check!(read[6 * SECTOR..7 * SECTOR] == data[12 * SECTOR..13 * SECTOR]);
                let counts = front.counts();
                check!(counts.grants <= pages as u64, "{counts:?}");
                check!(bed.us.stats().quarantined == 0);
            });
        }
    }
    Ok(())
}

fn bytes_at_any_offset() -> Result<(), NotPassed> {
    with_front!(DataPath::Copy, ram()?, Limits::default(), |_bed, front| {
        check_same!(front.capacity(), 1024 * SECTOR);
        let mut model = vec![0u8; 8 * SECTOR];
        for (offset, len) in [(0, 10), (500, 30), (511, 1), (512, 512), (700, 2000), (1, 4095), (4090, 6)] {
            let data: Vec<u8> = (0..len).map(|i| (i * 3 + offset) as u8).collect();
            model[offset..offset + len].copy_from_slice(&data);
            Storage::write(&mut front, offset as u32, &data).map_err(fail)?;
            let mut read = vec![0; model.len() - 5];
            ReadStorage::read(&mut front, 5, &mut read).map_err(fail)?;
            check!(read == model[5..], "{offset} {len}");
        }
    });
    Ok(())
}

/// A back end that has less.
fn features() -> Result<(), NotPassed> {
    let (Meeting { bed, theirs, memory }, ring) = Meeting::new()?;
    drop((memory, theirs));
    let geometry = Geometry { flush: false, discard: false, checksum: false, ..Geometry::of(&ram()?) };
    let nobody = Turn(|| false);
    let mut front = Front::new(ring, nobody, bed.us, bed.their_id, pages(bed), geometry, Limits::default());
    front.flush().map_err(fail)?;
    let refused = Err(BlockError::Refused(Status::NOT_SUPPORTED));
    check_same!((front.discard(0, 1), front.checksums(0, &mut [0])), (refused, refused));
    check_same!(front.read(0, &mut [0; 512]), Err(BlockError::Silent));
    drop(front);
    nothing_lost(bed)
}

fn bad_calls() -> Result<(), NotPassed> {
    with_front!(DataPath::Map, ram()?, Limits::default(), |bed, front| {
        check_same!(front.read(0, &mut [0; 100]), Err(BlockError::NotSectors { bytes: 100 }));
        check_same!(front.write(0, &[0; 513]), Err(BlockError::NotSectors { bytes: 513 }));
        let past = |sector, count| Err(BlockError::OutOfRange { sector, count, sectors: 1024 });
        check_same!(front.read(1024, &mut [0; 512]), past(1024, 1));
        check_same!(front.write(u64::MAX, &[0; 1024]), past(u64::MAX, 2));
        check_same!(front.discard(1, 1024), past(1, 1024));
        check_same!(front.checksums(1020, &mut [0; 5]), past(1020, 5));
        front.read(1024, &mut []).map_err(fail)?;
        check_same!(front.counts().requests, 0);
        check!(bed.us.stats().in_use == 1);
    });
    with_front!(DataPath::Map, ImageDisk(&[1; 4096]), Limits::default(), |_bed, front| {
        check_same!(front.write(0, &[0; 512]), Err(BlockError::ReadOnly));
        check_same!(front.discard(0, 1), Err(BlockError::ReadOnly));
        front.flush().map_err(fail)?;
        let mut read = [0; 4096];
        front.read(0, &mut read).map_err(fail)?;
        check!(read == [1; 4096]);
    });
    Ok(())
}

fn kept_mappings() -> Result<(), NotPassed> {
    let path = DataPath::Persistent { most: 4 };
    let limits = Limits { pages: 40, ..Limits::default() };
    let served = with_front!(path, ram()?, limits, |bed, front| {
        let mut data = vec![0; 400 * SECTOR];
        for _ in 0..4 {
            front.write(0, &data).map_err(fail)?;
            front.read(0, &mut data).map_err(fail)?;
        }
        // Whatever was mapped for a batch: no more than four stay.
        let windows = bed.them.windows().free();
        front.read(0, &mut data[..SECTOR]).map_err(fail)?;
        check!(bed.them.windows().free() + 1 >= windows);
        let mapped = bed.us.stats().in_use;
        check!(mapped <= 1 + 4, "{mapped} are kept");
    });
    check_same!(served.kept, 4);
    // As many as are used: each is mapped once.
    let path = DataPath::Persistent { most: 64 };
    with_front!(path, ram()?, limits, |bed, front| {
        let mut data = vec![0; 300 * SECTOR];
        front.write(0, &data).map_err(fail)?;
        let before = bed.fake.them.calls.lock().map_err(fail)?.len();
        for _ in 0..10 {
            front.read(0, &mut data).map_err(fail)?;
        }
        check_same!(bed.fake.them.calls.lock().map_err(fail)?.len(), before);
    });
    Ok(())
}

/// Each grant operation of the back end fails in turn.
fn faults() -> Result<(), NotPassed> {
    let status = granite::abi::grant::Status::NO_SPACE;
    for (path, op) in [(DataPath::Map, Op::MAP), (DataPath::Copy, Op::COPY), (PATHS[2], Op::MAP)] {
        let faults =
            [Fault::Status(op, status), Fault::Op(op, granite::abi::XenErrno::FAULT), Fault::Silence(op)];
        for fault in faults {
            with_front!(path, ram()?, Limits::default(), |bed, front| {
                let mut data = vec![1; 20 * SECTOR];
                bed.fake.them.faults.lock().map_err(fail)?.push_back(fault);
                let read = front.read(0, &mut data);
                check!(
                    matches!(read, Err(BlockError::Refused(why)) if why.grant_status().is_some()),
                    "{path} {fault:?}: {read:?}"
                );
                front.read(0, &mut data).map_err(fail)?;
                check!(data.iter().all(|&byte| byte == 0));
            });
        }
    }
    Ok(())
}

/// A back end of one's own, that answers what it likes.
fn a_back_that_lies() -> Result<(), NotPassed> {
    let okay =
        |id| Response { id, operation: Operation::READ, padding: 0, status: Status::OKAY, rest: [0; 4] };
    let broke = |why| BlockError::Ring(RingError::Closed(why));
    type Lie = (fn(u64) -> u64, Status, BlockError);
    let lies: [Lie; 5] = [
        (|id| id + 1, Status::OKAY, broke(PeerBroke::Id { claimed: 1 })),
        (|_| u64::MAX, Status::OKAY, broke(PeerBroke::Id { claimed: u64::MAX })),
        (|id| id, Status::ERROR, BlockError::Refused(Status::ERROR)),
        (|id| id, Status(77), BlockError::Refused(Status(77))),
        (|id| id, Status(i16::MIN), BlockError::Refused(Status(i16::MIN))),
    ];
    for (id, status, expected) in lies {
        let (Meeting { bed, theirs, memory }, ring) = Meeting::new()?;
        drop(memory);
        let back = RefCell::new(Ring::<ring::Back, Blkif, _>::attach(theirs).map_err(fail)?);
        let bell = Turn(|| {
            let mut back = back.borrow_mut();
            let Ok(Some(request)) = back.pop() else { return false };
            let pushed = back.push(&Response { status, ..okay(id(request.id)) });
            let _ = back.publish();
            pushed.is_ok()
        });
        let geometry = Geometry::of(&ram()?);
        let mut front = Front::new(ring, bell, bed.us, bed.their_id, pages(bed), geometry, Limits::default());
        let mut data = [0; 512];
        check_same!(front.read(0, &mut data), Err(expected));
        drop(front);
        drop(back);
        nothing_lost(bed)?;
    }
    // It answers, and keeps the page.
    let (Meeting { bed, theirs, memory }, ring) = Meeting::new()?;
    drop(memory);
    let back = RefCell::new(Ring::<ring::Back, Blkif, _>::attach(theirs).map_err(fail)?);
    let kept = RefCell::new(Vec::new());
    let bell = Turn(|| {
        let mut back = back.borrow_mut();
        let Ok(Some(request)) = back.pop() else { return false };
        kept.borrow_mut().extend(bed.them.map::<ReadWrite>(bed.our_id, request.segments[0].gref));
        let _ = back.push(&okay(request.id));
        back.publish().is_needed()
    });
    let geometry = Geometry::of(&ram()?);
    let mut front = Front::new(ring, bell, bed.us, bed.their_id, pages(bed), geometry, Limits::default());
    check_same!(front.read(0, &mut [0; 512]), Err(BlockError::StillInUse));
    check_same!(bed.us.stats().quarantined, 1);
    // Once is enough: it gets no other page.
    check_same!(front.write(0, &[0; 512]), Err(BlockError::StillInUse));
    check_same!((bed.us.stats().quarantined, front.counts().requests), (1, 1));
    drop(front);
    drop((back, kept));
    check_same!(bed.us.reap(u32::MAX), 2); // the ring's, too
    nothing_lost(bed)
}

/// Its answers come later, and are nobody's then.
fn given_up() -> Result<(), NotPassed> {
    let (meeting, ring) = Meeting::new()?;
    let mut disk = ram()?;
    disk.write(0, &[1; SECTOR]).map_err(fail)?;
    disk.write(8, &[2; SECTOR]).map_err(fail)?;
    let (bed, back) = meeting.back(&mut disk, DataPath::Copy, true)?;
    let back = RefCell::new(back);
    let sleeps = core::cell::Cell::new(true);
    let bell = Turn(|| !sleeps.get() && back.borrow_mut().serve().is_ok_and(|served| served > 0));
    let geometry = Geometry::of(&ram()?);
    let mut front = Front::new(ring, bell, bed.us, bed.their_id, pages(bed), geometry, Limits::default());
    let mut first = [9; SECTOR];
    check_same!(front.read(0, &mut first), Err(BlockError::Silent));
    sleeps.set(false);
    let mut second = [9; SECTOR];
    front.read(8, &mut second).map_err(fail)?;
    check!(first == [9; SECTOR] && second == [2; SECTOR]);
    check_same!(front.counts().requests, 2);
    drop(front);
    drop(back);
    nothing_lost(bed)
}
