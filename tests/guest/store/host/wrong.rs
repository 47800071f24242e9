//! Calls that make no sense, a hypervisor that fails, and a back end that lies or sleeps.

use std::cell::RefCell;

use granite::abi::blkif::{Operation, Response, Status};
use granite::abi::grant::op::Op;
use granite::driver::block::{Blkif, BlockError, DataPath, Disk, Front, Geometry, ImageDisk, Limits, SECTOR};
use granite::grant::{GrantError, ReadOnly, ReadWrite};
use granite::hypercall::fake::Fault;
use granite::ring::{self, PeerBroke, Ring, RingError};

use super::{HOST, IMPATIENT, Meeting, PATHS, nothing_lost, ram};
use crate::grant::bed::fail;
use crate::harness::{Case, NotPassed};
use granite::testing::{check, check_same};
use granite::time::meanwhile;

/// The cases.
pub const CASES: &[Case] = &[
    Case::new("store::bad_calls_are_refused_here", HOST, |_| bad_calls()),
    Case::new("store::what_a_slow_back_end_was_told_of_is_nobodys", HOST, |_| dropped_in_flight()),
    Case::new("store::what_a_back_end_does_not_offer_is_not_asked", HOST, |_| features()),
    Case::new("store::faults_of_the_hypervisor_lose_nothing", HOST, |_| faults()),
    Case::new("store::a_table_that_is_full_loses_no_page", HOST, |_| full_table()),
    Case::new("store::a_back_that_lies", HOST, |_| a_back_that_lies()),
    Case::new("store::an_operation_that_was_given_up", HOST, |_| given_up()),
    Case::new("store::a_write_that_was_given_up_comes_first", HOST, |_| a_late_write()),
];

/// A back end that has less.
fn features() -> Result<(), NotPassed> {
    let (Meeting { bed, theirs, memory, channel, their_channel }, ring) = Meeting::new()?;
    drop((memory, theirs, their_channel));
    let geometry = Geometry { flush: false, discard: false, checksum: false, ..Geometry::of(&ram()?) };
    let mut front = Front::new(ring, channel, bed.us, bed.their_id, geometry, IMPATIENT);
    front.flush().map_err(fail)?;
    let refused = Err(BlockError::Refused(Status::NOT_SUPPORTED));
    check_same!((front.discard(0, 1), front.checksums(0, &mut [0])), (refused, refused));
    check_same!(front.read(0, &mut [0; 512]), Err(BlockError::TimedOut));
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
        check_same!(front.stats().requests, 0);
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

/// With no reference to be had, an operation fails; the page that was to be lent is there for the next.
fn full_table() -> Result<(), NotPassed> {
    let limits = Limits { pages: 1, ..Limits::default() };
    with_front!(DataPath::Map, ram()?, limits, |bed, front| {
        let (mut all, mut size) = (Vec::new(), 1 << 16);
        while size > 0 {
            match bed.us.reserve(size) {
                Ok(reserve) => all.push(reserve),
                Err(_) => size /= 2,
            }
        }
        for _ in 0..3 {
            let read = front.read(0, &mut [0; SECTOR]);
            check!(matches!(read, Err(BlockError::Grant(GrantError::Exhausted { .. }))), "{read:?}");
        }
        drop(all);
        front.read(0, &mut [0; SECTOR]).map_err(fail)?;
    });
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
        let (Meeting { bed, theirs, memory, channel, their_channel }, ring) = Meeting::new()?;
        drop(memory);
        let back = RefCell::new(Ring::<ring::Back, Blkif, _>::attach(theirs).map_err(fail)?);
        let lie = || {
            let mut back = back.borrow_mut();
            let Ok(Some(request)) = back.pop() else { return false };
            let pushed = back.push(&Response { status, ..okay(id(request.id)) });
            let _ = back.publish();
            pushed.is_ok() && their_channel.send().is_ok()
        };
        let geometry = Geometry::of(&ram()?);
        let mut front = Front::new(ring, channel, bed.us, bed.their_id, geometry, Limits::default());
        let mut data = [0; 512];
        check_same!(meanwhile(lie, || front.read(0, &mut data)), Err(expected));
        drop(front);
        drop(back);
        nothing_lost(bed)?;
    }
    // It answers, and keeps the page.
    let (Meeting { bed, theirs, memory, channel, their_channel }, ring) = Meeting::new()?;
    drop(memory);
    let back = RefCell::new(Ring::<ring::Back, Blkif, _>::attach(theirs).map_err(fail)?);
    let kept = RefCell::new(Vec::new());
    let keep = || {
        let mut back = back.borrow_mut();
        let Ok(Some(request)) = back.pop() else { return false };
        kept.borrow_mut().extend(bed.them.map::<ReadWrite>(bed.our_id, request.segments[0].gref));
        let _ = back.push(&okay(request.id));
        back.publish().is_needed() && their_channel.send().is_ok()
    };
    let geometry = Geometry::of(&ram()?);
    let mut front = Front::new(ring, channel, bed.us, bed.their_id, geometry, Limits::default());
    check_same!(meanwhile(keep, || front.read(0, &mut [0; 512])), Err(BlockError::StillInUse));
    check_same!(bed.us.stats().quarantined, 1);
    // Once is enough: it gets no other page.
    check_same!(front.write(0, &[0; 512]), Err(BlockError::StillInUse));
    check_same!((bed.us.stats().quarantined, front.stats().requests), (1, 1));
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
    let (bed, channel, mut back) = meeting.back(&mut disk, DataPath::Copy, true)?;
    let geometry = Geometry::of(&ram()?);
    let mut front = Front::new(ring, channel, bed.us, bed.their_id, geometry, IMPATIENT);
    let mut first = [9; SECTOR];
    check_same!(front.read(0, &mut first), Err(BlockError::TimedOut));
    let mut second = [9; SECTOR];
    let serve = || back.serve().is_ok_and(|served| served > 0);
    meanwhile(serve, || front.read(8, &mut second)).map_err(fail)?;
    check!(first == [9; SECTOR] && second == [2; SECTOR]);
    check_same!(front.stats().requests, 2);
    drop(front);
    drop(back);
    nothing_lost(bed)
}

/// A front end that is dropped leaves requests in the ring, which a back end may yet get to: the references in them mean
/// nothing else meanwhile.
fn dropped_in_flight() -> Result<(), NotPassed> {
    let (Meeting { bed, theirs, memory, channel, their_channel }, ring) = Meeting::new()?;
    drop(memory);
    let _awake = their_channel;
    let mut back = Ring::<ring::Back, Blkif, _>::attach(theirs).map_err(fail)?;
    let geometry = Geometry::of(&ram()?);
    let mut front = Front::new(ring, channel, bed.us, bed.their_id, geometry, IMPATIENT);
    check_same!(front.write(0, &[1; 40 * SECTOR]), Err(BlockError::TimedOut));
    drop(front);
    let mut grants = Vec::new();
    for _ in 0..40 {
        grants.push(bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?);
    }
    let request = back.pop().map_err(fail)?.ok_or_else(|| fail("nothing was asked"))?;
    check_same!(request.nr_segments, 5);
    for segment in &request.segments[..5] {
        check!(grants.iter().all(|grant| grant.gref() != segment.gref), "{:?} is another's", segment.gref);
        let mapped = bed.them.map::<ReadOnly>(bed.our_id, segment.gref);
        check!(mapped.is_err(), "{:?} is granted", segment.gref);
    }
    check_same!(bed.us.stats().quarantined, 6);
    drop((back, grants));
    nothing_lost(bed)?;
    check_same!(bed.us.stats().quarantined, 0);
    Ok(())
}

/// A back end that does the last request first would undo a later write with one that was given up: so that comes first, and
/// only then is more asked. What was read, nobody waits for.
fn a_late_write() -> Result<(), NotPassed> {
    // Whether what is given up writes, and the sectors of the requests that are answered until the later write is done.
    let cases: [(bool, &[u64]); 2] = [(true, &[1, 2]), (false, &[2])];
    for (writes, answered) in cases {
        let (Meeting { bed, theirs, memory, channel, their_channel }, ring) = Meeting::new()?;
        drop(memory);
        let back = RefCell::new(Ring::<ring::Back, Blkif, _>::attach(theirs).map_err(fail)?);
        let (sleeps, done) = (core::cell::Cell::new(true), RefCell::new(Vec::new()));
        let waiting = RefCell::new(Vec::new());
        let mut serve = || {
            let (mut back, mut waiting) = (back.borrow_mut(), waiting.borrow_mut());
            while let Ok(Some(request)) = back.pop() {
                waiting.push(request);
            }
            if sleeps.get() {
                return false;
            }
            let Some(request) = waiting.pop() else { return false };
            done.borrow_mut().push(u64::from(request.segments[0].last_sect) + 1);
            let operation = request.operation;
            let (id, status) = (request.id, Status::OKAY);
            let pushed = back.push(&Response { id, operation, padding: 0, status, rest: [0; 4] });
            let _ = back.publish();
            pushed.is_ok() && their_channel.send().is_ok()
        };
        let geometry = Geometry::of(&ram()?);
        let mut front = Front::new(ring, channel, bed.us, bed.their_id, geometry, IMPATIENT);
        let mut operate = |writes, sectors: u64| {
            let mut data = vec![0; sectors as usize * SECTOR];
            meanwhile(&mut serve, || if writes { front.write(0, &data) } else { front.read(0, &mut data) })
        };
        check_same!(operate(writes, 1), Err(BlockError::TimedOut));
        sleeps.set(false);
        operate(true, 2).map_err(fail)?;
        check_same!(*done.borrow(), answered);
        drop(front);
        drop((back, waiting));
        bed.us.reap(u32::MAX);
        nothing_lost(bed)?;
    }
    Ok(())
}
