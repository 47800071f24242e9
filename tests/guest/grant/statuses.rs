//! Every status that a header names: from real Xen, where real Xen gives it to a PVH guest, and from the fake
//! on demand.

use granite::abi::DomId;
use granite::abi::grant::op::{MapFlags, UnmapGrantRef};
use granite::abi::grant::{GrantHandle, GrantRef, Status};
use granite::grant::{Dest, GrantError, ReadOnly, ReadWrite, Source};
use granite::hypercall::grant as op;

#[cfg(not(granite_guest))]
use super::FAKE;
use super::bed::{Bed, fail, raw_map};
use super::{BOTH_AT_HAND, WITH_XEN};
use crate::grant_cases;
use crate::harness::NotPassed;
use granite::testing::{check, check_same};

grant_cases! {
    status_okay on WITH_XEN;
    status_general_error on WITH_XEN;
    status_bad_domain on WITH_XEN;
    status_bad_gntref on BOTH_AT_HAND;
    status_bad_handle on BOTH_AT_HAND;
    #[cfg(not(granite_guest))] status_bad_virt_addr on FAKE;
    #[cfg(not(granite_guest))] status_bad_dev_addr on FAKE;
    #[cfg(not(granite_guest))] status_no_device_space on FAKE;
    status_permission_denied on BOTH_AT_HAND;
    status_bad_page on WITH_XEN;
    status_bad_copy_arg on BOTH_AT_HAND;
    #[cfg(not(granite_guest))] status_address_too_big on FAKE;
    #[cfg(not(granite_guest))] status_eagain on FAKE;
    #[cfg(not(granite_guest))] status_no_space on FAKE;
    #[cfg(not(granite_guest))] status_that_no_header_names on FAKE;
    #[cfg(not(granite_guest))] every_status_unmaps_what_was_mapped on FAKE;
}

/// The status with which a reference can't be mapped.
fn map_status(bed: &Bed, dom: DomId, gref: GrantRef) -> Option<Status> {
    bed.them.map::<ReadOnly>(dom, gref).err().and_then(GrantError::status)
}

fn status_okay(bed: &Bed) -> Result<(), NotPassed> {
    let grant = bed.us.grant::<ReadOnly>(bed.page()?, bed.their_id).map_err(fail)?;
    bed.them.map::<ReadOnly>(bed.our_id, grant.gref()).map_err(fail)?.unmap().map_err(fail)?;
    grant.end_access().map_err(fail)?;
    bed.nothing_lost()
}

/// An entry that grants nothing; one for another domain; writing where only reading is granted.
fn status_general_error(bed: &Bed) -> Result<(), NotPassed> {
    let grant = bed.us.grant::<ReadOnly>(bed.page()?, bed.their_id).map_err(fail)?;
    let written = bed.them.map::<ReadWrite>(bed.our_id, grant.gref());
    check_same!(written.err().and_then(GrantError::status), Some(Status::GENERAL_ERROR));
    let gref = grant.gref();
    grant.end_access().map_err(fail)?;
    check_same!(map_status(bed, bed.our_id, gref), Some(Status::GENERAL_ERROR));
    let others = bed.us.grant::<ReadOnly>(bed.page()?, DomId(0x123)).map_err(fail)?;
    check_same!(map_status(bed, bed.our_id, others.gref()), Some(Status::GENERAL_ERROR));
    others.end_access().map_err(fail)?;
    bed.nothing_lost()
}

/// A domain that there isn't; and oneself, by the name that other calls take.
fn status_bad_domain(bed: &Bed) -> Result<(), NotPassed> {
    check_same!(map_status(bed, DomId(0x7abc), GrantRef(8)), Some(Status::BAD_DOMAIN));
    check_same!(map_status(bed, DomId::SELF, GrantRef(8)), Some(Status::BAD_DOMAIN));
    let mut page = bed.page()?;
    let copied = bed.us.copy_one(Source::granted(DomId(0x7abc), GrantRef(8), 0), Dest::page(&mut page, 0), 1);
    check_same!(copied.err().and_then(GrantError::status), Some(Status::BAD_DOMAIN));
    bed.nothing_lost()
}

/// A reference beyond the table; a map for nobody.
fn status_bad_gntref(bed: &Bed) -> Result<(), NotPassed> {
    check_same!(map_status(bed, bed.our_id, GrantRef(1 << 24)), Some(Status::BAD_GNTREF));
    let window = bed.their_table()?.windows().take(1).map_err(fail)?;
    let (status, _) = raw_map(bed.their_table()?, bed.our_id, GrantRef(8), MapFlags::empty(), window.first());
    check_same!(status, Status::BAD_GNTREF);
    // SAFETY: nothing was mapped there.
    unsafe { bed.their_table()?.windows().give_back(window) };
    bed.nothing_lost()
}

fn unmap(bed: &Bed, host_addr: u64, handle: GrantHandle) -> Result<Status, NotPassed> {
    let mut unmap = [UnmapGrantRef { host_addr, dev_bus_addr: 0, handle, status: Status::OKAY }];
    // SAFETY: callers name what is mapped and not used, or what must be refused.
    unsafe { op::unmap(bed.their_table()?.xen(), &mut unmap) }.map_err(fail)?;
    Ok(unmap[0].status)
}

/// A handle that there isn't, and one that was used before.
fn status_bad_handle(bed: &Bed) -> Result<(), NotPassed> {
    let window = bed.their_table()?.windows().take(1).map_err(fail)?;
    let at = window.first().address();
    check_same!(unmap(bed, at, GrantHandle(0x00ff_ffff))?, Status::BAD_HANDLE);
    let grant = bed.us.grant::<ReadOnly>(bed.page()?, bed.their_id).map_err(fail)?;
    let flags = MapFlags::HOST_MAP | MapFlags::READONLY;
    let (status, handle) = raw_map(bed.their_table()?, bed.our_id, grant.gref(), flags, window.first());
    check_same!(status, Status::OKAY);
    check_same!(unmap(bed, at, handle)?, Status::OKAY);
    check_same!(unmap(bed, at, handle)?, Status::BAD_HANDLE);
    // SAFETY: it is empty again.
    unsafe { bed.their_table()?.windows().give_back(window) };
    grant.end_access().map_err(fail)?;
    bed.nothing_lost()
}

/// Another domain's frame by its number, which only the domain itself may use.
fn status_permission_denied(bed: &Bed) -> Result<(), NotPassed> {
    use granite::abi::grant::op::{CopyEnd, CopyFlags, GrantCopy};
    let page = bed.page()?;
    let end = |domid| CopyEnd { page: page.gfn().0, domid, offset: 0 };
    let mut copies = [GrantCopy {
        source: end(bed.our_id),
        dest: end(DomId::SELF),
        len: 4,
        flags: CopyFlags::empty(),
        status: Status::UNANSWERED,
    }];
    // SAFETY: it is refused.
    unsafe { op::copy(bed.their_table()?.xen(), &mut copies) }.map_err(fail)?;
    check_same!(copies[0].status, Status::PERMISSION_DENIED);
    bed.nothing_lost()
}

/// A granted frame, and one to copy from, at which there is no page.
fn status_bad_page(bed: &Bed) -> Result<(), NotPassed> {
    let window = bed.us.windows().take(1).map_err(fail)?;
    // SAFETY: no page at all, which is the point; it is never dropped.
    let nowhere = unsafe { granite::mm::Page::from_gfn(window.first()) };
    let grant = bed.us.grant::<ReadOnly>(nowhere, bed.their_id).map_err(fail)?;
    check_same!(map_status(bed, bed.our_id, grant.gref()), Some(Status::BAD_PAGE));
    check!(grant.in_use().is_empty());
    let nowhere = grant.end_access().map_err(fail)?;
    let mut page = bed.page()?;
    let copied = bed.us.copy_one(Source::page(&nowhere, 0), Dest::page(&mut page, 0), 4);
    check_same!(copied.err().and_then(GrantError::status), Some(Status::BAD_PAGE));
    let _ = nowhere.into_gfn();
    // SAFETY: nothing came there.
    unsafe { bed.us.windows().give_back(window) };
    bed.nothing_lost()
}

/// Ours refuses it before Xen does; Xen does too.
fn status_bad_copy_arg(bed: &Bed) -> Result<(), NotPassed> {
    use granite::abi::grant::op::{CopyEnd, CopyFlags, GrantCopy};
    let mut page = bed.page()?;
    let other = bed.page()?;
    for (from, to, len) in [(4095, 0, 2), (0, 4095, 2), (4097, 0, 0), (0, 0, 4097), (usize::MAX, 0, 2)] {
        let copied = bed.us.copy_one(Source::page(&other, from), Dest::page(&mut page, to), len);
        check!(matches!(copied, Err(GrantError::OutOfBounds(_))), "{from} {to} {len}: {copied:?}");
    }
    let end = |gfn: granite::abi::Gfn, offset| CopyEnd { page: gfn.0, domid: DomId::SELF, offset };
    let mut copies = [GrantCopy {
        source: end(other.gfn(), 4000),
        dest: end(page.gfn(), 0),
        len: 97,
        flags: CopyFlags::empty(),
        status: Status::UNANSWERED,
    }];
    // SAFETY: it is refused; both pages are ours all the same.
    unsafe { op::copy(bed.us.xen(), &mut copies) }.map_err(fail)?;
    check_same!(copies[0].status, Status::BAD_COPY_ARG);
    bed.nothing_lost()
}

#[cfg(not(granite_guest))]
mod on_demand {
    use super::{Bed, Dest, GrantError, NotPassed, ReadOnly, ReadWrite, Source, Status, fail, map_status};
    use granite::abi::grant::op::Op;
    use granite::grant::CopyOp;
    use granite::hypercall::fake::Fault;
    use granite::testing::{check, check_same};

    /// A map and an unmap that fail with a status: it is told, and nothing is lost but what can't be unmapped.
    fn told(bed: &Bed, status: Status) -> Result<(), NotPassed> {
        let free = bed.their_free_windows();
        let grant = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
        bed.fake.them.fail(Fault::Status(Op::MAP, status));
        check_same!(map_status(bed, bed.our_id, grant.gref()), Some(status));
        let mapping = bed.them.map::<ReadWrite>(bed.our_id, grant.gref()).map_err(fail)?;
        bed.fake.them.fail(Fault::Status(Op::UNMAP, status));
        let Err(failed) = mapping.unmap() else { return Err(fail("an unmap that failed")) };
        check_same!(failed.error.status(), Some(status));
        failed.value.bytes().write(0, b"it is mapped still").map_err(fail)?;
        check!(failed.to_string().contains(&status.to_string()), "{failed}");
        failed.value.unmap().map_err(fail)?;
        check_same!(bed.their_free_windows(), free);
        grant.end_access().map_err(fail)?;
        bed.nothing_lost()
    }

    pub fn status_bad_virt_addr(bed: &Bed) -> Result<(), NotPassed> {
        told(bed, Status::BAD_VIRT_ADDR)
    }

    pub fn status_bad_dev_addr(bed: &Bed) -> Result<(), NotPassed> {
        told(bed, Status::BAD_DEV_ADDR)
    }

    pub fn status_no_device_space(bed: &Bed) -> Result<(), NotPassed> {
        told(bed, Status::NO_DEVICE_SPACE)
    }

    pub fn status_address_too_big(bed: &Bed) -> Result<(), NotPassed> {
        told(bed, Status::ADDRESS_TOO_BIG)
    }

    /// Tried again until it works, or often enough.
    pub fn status_eagain(bed: &Bed) -> Result<(), NotPassed> {
        use core::task::{Context, Waker};
        let grant = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
        let gref = grant.gref();
        let again =
            |op, times| (0..times).for_each(|_| bed.fake.them.fail(Fault::Status(op, Status::EAGAIN)));
        fn finish<T>(future: impl Future<Output = T>) -> T {
            let mut future = core::pin::pin!(future);
            loop {
                let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                if let core::task::Poll::Ready(result) = polled {
                    return result;
                }
            }
        }
        // As long as it takes to page a page in: milliseconds.
        for times in [1, 5, 20] {
            again(Op::MAP, times);
            bed.them.map::<ReadWrite>(bed.our_id, gref).map_err(fail)?.unmap().map_err(fail)?;
            again(Op::MAP, times);
            drop(finish(bed.them.map_async::<ReadWrite>(bed.our_id, gref)).map_err(fail)?);
            let mut page = bed.their_page()?;
            again(Op::COPY, times);
            bed.them
                .copy_one(Source::granted(bed.our_id, gref, 0), Dest::page(&mut page, 0), 8)
                .map_err(fail)?;
            again(Op::COPY, times);
            let copy = CopyOp::new(Source::granted(bed.our_id, gref, 0), Dest::page(&mut page, 0), 8);
            finish(bed.them.copy_async(&mut [copy.map_err(fail)?])).map_err(fail)?;
        }
        // One of a batch, and not for ever.
        again(Op::MAP, 1);
        drop(bed.them.map_all::<ReadOnly>(bed.our_id, &[gref; 3]).map_err(fail)?);
        again(Op::MAP, 100_000);
        check_same!(map_status(bed, bed.our_id, gref), Some(Status::EAGAIN));
        let mapped = finish(bed.them.map_async::<ReadOnly>(bed.our_id, gref));
        check_same!(mapped.err().and_then(GrantError::status), Some(Status::EAGAIN));
        bed.fake.them.heal();
        grant.end_access().map_err(fail)?;
        bed.nothing_lost()
    }

    /// A domain has only so many mappings.
    pub fn status_no_space(bed: &Bed) -> Result<(), NotPassed> {
        let machine = bed.fake.them.machine();
        machine.limit_mappings(bed.their_id, 10);
        let grant = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
        let Err(failed) = bed.them.map_all::<ReadOnly>(bed.our_id, &[grant.gref(); 12]) else {
            return Err(fail("more mappings than there may be"));
        };
        check_same!((failed.index, failed.error.status()), (10, Some(Status::NO_SPACE)));
        check_same!(machine.mappings(bed.their_id), 0);
        grant.end_access().map_err(fail)?;
        told(bed, Status::NO_SPACE)
    }

    pub fn status_that_no_header_names(bed: &Bed) -> Result<(), NotPassed> {
        for unknown in [-14, -4242, 1, i16::MAX] {
            told(bed, Status(unknown))?;
        }
        Ok(())
    }

    /// One bad element, whatever its status: the others of the batch are unmapped.
    pub fn every_status_unmaps_what_was_mapped(bed: &Bed) -> Result<(), NotPassed> {
        let grant = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
        for (_, status) in
            Status::ALL.iter().filter(|(_, status)| ![Status::OKAY, Status::EAGAIN].contains(status))
        {
            bed.fake.them.fail(Fault::Status(Op::MAP, *status));
            let Err(failed) = bed.them.map_all::<ReadWrite>(bed.our_id, &[grant.gref(); 4]) else {
                return Err(fail("a batch with a bad element"));
            };
            check_same!(
                (failed.index, failed.error),
                (0, GrantError::Op(granite::hypercall::grant::OpError::Status(Op::MAP, *status)))
            );
            check!(grant.in_use().is_empty());
        }
        grant.end_access().map_err(fail)?;
        bed.nothing_lost()
    }
}

#[cfg(not(granite_guest))]
use on_demand::{
    every_status_unmaps_what_was_mapped, status_address_too_big, status_bad_dev_addr, status_bad_virt_addr,
    status_eagain, status_no_device_space, status_no_space, status_that_no_header_names,
};
