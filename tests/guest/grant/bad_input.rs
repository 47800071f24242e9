//! What nobody should ask for: each has a clear error, and nothing is lost.

use alloc::string::ToString;

use granite::abi::Gfn;
use granite::abi::grant::op::MapFlags;
use granite::abi::grant::{GrantRef, Status};
use granite::grant::{GrantError, ReadOnly, Version};

#[cfg(not(granite_guest))]
use super::FAKE;
use super::bed::{Bed, fail, raw_map};
use super::{BOTH_AT_HAND, WITH_XEN};
use crate::grant_cases;
use crate::harness::NotPassed;
use granite::testing::{check, check_same};

grant_cases! {
    frame_of_more_than_32_bits on WITH_XEN;
    map_flags_that_pvh_may_not_use on BOTH_AT_HAND;
    foreign_references on WITH_XEN;
    #[cfg(not(granite_guest))] table_that_cannot_grow on FAKE;
    #[cfg(not(granite_guest))] call_that_fails_whole on FAKE;
    #[cfg(not(granite_guest))] call_that_disagrees_with_its_statuses on FAKE;
    #[cfg(not(granite_guest))] call_that_says_nothing on FAKE;
    #[cfg(not(granite_guest))] unmap_that_never_works on FAKE;
    #[cfg(not(granite_guest))] a_mapping_that_was_half_unmapped_shows_nothing on FAKE;
    #[cfg(not(granite_guest))] losses_are_those_of_the_call on FAKE;
    #[cfg(not(granite_guest))] own_pages_are_not_mapped on FAKE;
    #[cfg(not(granite_guest))] busy_grant_dropped_a_million_times on FAKE;
    #[cfg(not(granite_guest))] occupied_window_is_the_end on FAKE;
    #[cfg(not(granite_guest))] no_window_is_free on FAKE;
}

fn frame_of_more_than_32_bits(bed: &Bed) -> Result<(), NotPassed> {
    // SAFETY: no page; it is never dropped.
    let far = unsafe { granite::mm::Page::from_gfn(Gfn(1 << 32)) };
    let far = match (bed.us.grant::<ReadOnly>(far, bed.their_id), bed.us.version()) {
        (Err(failed), Version::V1) => {
            check!(failed.to_string().contains("more than 32 bits"), "{failed}");
            failed.value
        }
        // Version 2 can say it, and the peer finds no page.
        (Ok(grant), Version::V2) => {
            let mapped = bed.them.map::<ReadOnly>(bed.our_id, grant.gref());
            check_same!(mapped.err().and_then(GrantError::status), Some(Status::BAD_PAGE));
            grant.end_access().map_err(fail)?
        }
        (result, version) => return Err(fail(alloc::format!("{version:?}: {result:?}"))),
    };
    let _ = far.into_gfn();
    bed.nothing_lost()
}

/// For devices, for applications, and through page-table entries.
fn map_flags_that_pvh_may_not_use(bed: &Bed) -> Result<(), NotPassed> {
    let grant = bed.us.grant::<ReadOnly>(bed.page()?, bed.their_id).map_err(fail)?;
    let window = bed.their_table()?.windows().take(1).map_err(fail)?;
    for refused in [MapFlags::DEVICE_MAP, MapFlags::APPLICATION_MAP, MapFlags::CONTAINS_PTE] {
        let flags = MapFlags::HOST_MAP | MapFlags::READONLY | refused;
        let (status, _) = raw_map(bed.their_table()?, bed.our_id, grant.gref(), flags, window.first());
        check_same!((refused, status), (refused, Status::GENERAL_ERROR));
    }
    check!(grant.in_use().is_empty());
    // SAFETY: nothing was mapped there.
    unsafe { bed.their_table()?.windows().give_back(window) };
    grant.end_access().map_err(fail)?;
    bed.nothing_lost()
}

/// A reference of one list is none of another's.
fn foreign_references(bed: &Bed) -> Result<(), NotPassed> {
    use granite::grant::freelist::Freelist;
    let list = || {
        let list = Freelist::new(bed.us.xen(), GrantRef::FIRST_FREE, 1).map_err(|_| fail("no memory"))?;
        list.grow(100).map_err(|_| fail("no memory"))?;
        Ok::<_, NotPassed>(list)
    };
    let (one, other) = (list()?, list()?);
    let ours = one.alloc().map_err(|_| fail("exhausted"))?;
    let Err(ours) = other.free(ours) else { return Err(fail("a foreign reference was freed")) };
    let Err(ours) = other.park(ours) else { return Err(fail("a foreign reference was parked")) };
    check!(other.unpark().is_none());
    let mut both = alloc::vec![ours, other.alloc().map_err(|_| fail("exhausted"))?];
    one.free_many(&mut both);
    check_same!((both.len(), one.stats().in_use, other.stats().in_use), (1, 0, 1));
    other.free_many(&mut both);
    check_same!((both.len(), other.stats().in_use), (0, 0));
    bed.nothing_lost()
}

#[cfg(not(granite_guest))]
mod fake {
    use super::{Bed, GrantError, MapFlags, NotPassed, ReadOnly, Status, fail, raw_map};
    use granite::abi::XenErrno;
    use granite::abi::grant::op::Op;
    use granite::grant::ReadWrite;
    use granite::hypercall::fake::Fault;
    use granite::hypercall::grant::OpError;
    use granite::mm::Page;
    use granite::testing::{check, check_same};

    /// References run out; the page comes back; what is freed can be had again.
    pub fn table_that_cannot_grow(bed: &Bed) -> Result<(), NotPassed> {
        let page = bed.page()?;
        // SAFETY: many owners of one page, and none of them is dropped.
        let alias = || unsafe { Page::from_gfn(page.gfn()) };
        let mut grants = Vec::new();
        let failed = loop {
            match bed.us.grant::<ReadOnly>(alias(), bed.their_id) {
                Ok(grant) => grants.push(grant),
                Err(failed) => break failed,
            }
        };
        let stats = bed.us.stats();
        check_same!((stats.frames, stats.free), (stats.max_frames, 0));
        check_same!(failed.error, GrantError::Exhausted { references: stats.references });
        check!(failed.to_string().contains("max_grant_frames"), "{failed}");
        let _ = failed.value.into_gfn();
        check_same!(grants.len() as u32, stats.references);
        let _ = grants.pop().map(|grant| grant.end_access()).transpose().map_err(fail)?.map(Page::into_gfn);
        let again = bed.us.grant::<ReadOnly>(alias(), bed.their_id).map_err(fail)?;
        grants.push(again);
        for grant in grants {
            let _ = grant.end_access().map_err(fail)?.into_gfn();
        }
        bed.nothing_lost()?;

        // Xen has no memory for the next frame: an error, and later it works.
        let bed = &Bed::new_like(bed)?;
        let page = bed.page()?;
        // SAFETY: as above.
        let alias = || unsafe { Page::from_gfn(page.gfn()) };
        let free = bed.us.stats().free;
        let mut grants = Vec::new();
        for _ in 0..free {
            grants.push(bed.us.grant::<ReadOnly>(alias(), bed.their_id).map_err(fail)?);
        }
        bed.fake.us.fail(Fault::Memory(XenErrno::NOMEM));
        let Err(failed) = bed.us.grant::<ReadOnly>(alias(), bed.their_id) else {
            return Err(fail("a reference from nowhere"));
        };
        check_same!(failed.error, GrantError::Memory(XenErrno::NOMEM));
        let _ = failed.value.into_gfn();
        grants.push(bed.us.grant::<ReadOnly>(alias(), bed.their_id).map_err(fail)?);
        check_same!(bed.us.stats().frames, 2);
        for grant in grants {
            let _ = grant.end_access().map_err(fail)?.into_gfn();
        }
        bed.nothing_lost()
    }

    pub fn call_that_fails_whole(bed: &Bed) -> Result<(), NotPassed> {
        let grant = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
        let free = bed.their_free_windows();
        for errno in [XenErrno::FAULT, XenErrno::NOSYS, XenErrno(4242)] {
            bed.fake.them.fail(Fault::Op(Op::MAP, errno));
            let mapped = bed.them.map_all::<ReadWrite>(bed.our_id, &[grant.gref(); 3]);
            check_same!(
                mapped.err().map(|failed| failed.error),
                Some(GrantError::Op(OpError::Call(Op::MAP, errno)))
            );
            bed.fake.them.fail(Fault::Op(Op::COPY, errno));
            let mut page = bed.their_page()?;
            let copied = bed.them.copy_one(
                granite::grant::Source::granted(bed.our_id, grant.gref(), 0),
                granite::grant::Dest::page(&mut page, 0),
                8,
            );
            check_same!(copied, Err(GrantError::Op(OpError::Call(Op::COPY, errno))));
        }
        check_same!(bed.their_free_windows(), free);
        grant.end_access().map_err(fail)?;
        bed.nothing_lost()
    }

    /// Everything was mapped, and the call says that it failed: nothing may stay mapped unnoticed.
    pub fn call_that_disagrees_with_its_statuses(bed: &Bed) -> Result<(), NotPassed> {
        let grant = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
        bed.fake.them.fail(Fault::Lie(Op::MAP, XenErrno::FAULT));
        let mapping = bed.them.map_all::<ReadWrite>(bed.our_id, &[grant.gref(); 3]).map_err(fail)?;
        check_same!(bed.fake.them.machine().mappings(bed.their_id), 3);
        bed.fake.them.fail(Fault::Lie(Op::UNMAP, XenErrno::FAULT));
        mapping.unmap().map_err(fail)?;
        check_same!(bed.fake.them.machine().mappings(bed.their_id), 0);
        grant.end_access().map_err(fail)?;
        bed.nothing_lost()
    }

    /// Success, and not a status written.
    pub fn call_that_says_nothing(bed: &Bed) -> Result<(), NotPassed> {
        let grant = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
        bed.fake.them.fail(Fault::Silence(Op::MAP));
        let mapped = bed.them.map::<ReadWrite>(bed.our_id, grant.gref());
        check_same!(mapped.err(), Some(GrantError::Op(OpError::Unanswered(Op::MAP))));
        let mapping = bed.them.map::<ReadWrite>(bed.our_id, grant.gref()).map_err(fail)?;
        bed.fake.them.fail(Fault::Silence(Op::UNMAP));
        let Err(failed) = mapping.unmap() else { return Err(fail("nothing was unmapped")) };
        check_same!(failed.error, GrantError::Op(OpError::Unanswered(Op::UNMAP)));
        check!(!grant.in_use().is_empty());
        failed.value.unmap().map_err(fail)?;
        grant.end_access().map_err(fail)?;
        bed.nothing_lost()
    }

    /// The window is given up, and counted: to map there again would be the end.
    pub fn unmap_that_never_works(bed: &Bed) -> Result<(), NotPassed> {
        let grant = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
        let mapping = bed.them.map::<ReadWrite>(bed.our_id, grant.gref()).map_err(fail)?;
        let free = bed.their_free_windows();
        bed.fake.them.fail(Fault::Status(Op::UNMAP, Status::GENERAL_ERROR));
        drop(mapping);
        check_same!((bed.their_free_windows(), bed.them.stats().lost), (free, 1));
        bed.them.with_mapping::<ReadWrite, _>(bed.our_id, grant.gref(), |_| ()).map_err(fail)?;
        check!(!bed.fake.them.is_dead());
        drop(grant);
        check_same!(bed.us.stats().quarantined, 1); // the peer has it for ever
        Ok(())
    }

    /// As many as there are references at most; counts are exact; no memory is used.
    pub fn busy_grant_dropped_a_million_times(bed: &Bed) -> Result<(), NotPassed> {
        const TIMES: u32 = 1_000_000;
        const AT_ONCE: usize = 200;
        let machine = bed.fake.us.machine();
        let pages = bed.free_pages();
        let mut pinned = std::collections::VecDeque::new();
        let mut is_pinned = [false; 4096];
        for round in 0..TIMES {
            let grant = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
            let gref = grant.gref();
            machine.pin(bed.our_id, gref.0, bed.their_id, true).map_err(fail)?;
            drop(grant);
            let twice = is_pinned.get_mut(gref.0 as usize).map(|is| std::mem::replace(is, true));
            check!(twice == Some(false), "round {round}: {gref} is out twice");
            pinned.push_back(gref);
            if pinned.len() > AT_ONCE
                && let Some(done) = pinned.pop_front()
            {
                is_pinned[done.0 as usize] = false;
                machine.unpin(bed.our_id, done.0, true);
            }
            let quarantined = bed.us.stats().quarantined as usize;
            // What the peer is done with goes a few at a time, and doesn't pile up.
            check!((pinned.len()..pinned.len() + 400).contains(&quarantined), "round {round}: {quarantined}");
        }
        pinned.drain(..).for_each(|gref| machine.unpin(bed.our_id, gref.0, true));
        bed.us.reap(u32::MAX);
        check_same!((bed.us.stats().quarantined, bed.free_pages()), (0, pages));
        bed.nothing_lost()
    }

    /// A view of pages that are gone would be a fault, in safe code.
    pub fn a_mapping_that_was_half_unmapped_shows_nothing(bed: &Bed) -> Result<(), NotPassed> {
        let grant = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
        let mapping = bed.them.map_all::<ReadWrite>(bed.our_id, &[grant.gref(); 3]).map_err(fail)?;
        // The first page stays, the others go.
        bed.fake.them.fail(Fault::Status(Op::UNMAP, Status::GENERAL_ERROR));
        let Err(failed) = mapping.unmap() else { return Err(fail("all were unmapped")) };
        check_same!(failed.error.status(), Some(Status::GENERAL_ERROR));
        let mapping = failed.value;
        check_same!((mapping.pages(), mapping.bytes().len(), mapping.reader().len()), (3, 0, 0));
        check!(mapping.bytes().read(4096, &mut [0]).is_err());
        // None of them, and it is as it was.
        let whole = bed.them.map_all::<ReadWrite>(bed.our_id, &[grant.gref(); 3]).map_err(fail)?;
        bed.fake.them.fail(Fault::Op(Op::UNMAP, XenErrno::FAULT));
        let Err(failed) = whole.unmap() else { return Err(fail("unmapped")) };
        failed.value.bytes().write(2 * 4096, b"whole").map_err(fail)?;
        failed.value.unmap().map_err(fail)?;
        mapping.unmap().map_err(fail)?;
        grant.end_access().map_err(fail)?;
        bed.nothing_lost()
    }

    /// What other vCPUs lose meanwhile is none of ours.
    pub fn losses_are_those_of_the_call(bed: &Bed) -> Result<(), NotPassed> {
        let grant = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
        let map = || bed.them.map::<ReadOnly>(bed.our_id, grant.gref()).map_err(fail);
        let (good, bad) = (map()?, map()?);
        let them = bed.them;
        let fake = bed.fake.them;
        fake.before_next(move || {
            // Each is tried twice.
            (0..2).for_each(|_| fake.fail(Fault::Status(Op::UNMAP, Status::GENERAL_ERROR)));
            drop(bad);
        });
        check_same!(them.unmap_all([good]), Ok(()));
        check_same!(them.stats().lost, 1);
        // Of its own, all are counted.
        (0..2).for_each(|_| fake.fail(Fault::Status(Op::UNMAP, Status::GENERAL_ERROR)));
        check_same!(them.unmap_all([map()?]), Err(1));
        check_same!(them.stats().lost, 2);
        Ok(())
    }

    /// Xen would take the page away from its own address, and not put it back.
    pub fn own_pages_are_not_mapped(bed: &Bed) -> Result<(), NotPassed> {
        let grant = bed.us.grant::<ReadWrite>(bed.page()?, bed.our_id).map_err(fail)?;
        let refused = bed.us.map::<ReadOnly>(bed.our_id, grant.gref()).err();
        check_same!(refused, Some(GrantError::OwnPage));
        let refused = bed.us.map_all::<ReadOnly>(bed.our_id, &[grant.gref()]).err();
        check_same!(refused.map(GrantError::from), Some(GrantError::OwnPage));
        let refused =
            bed.us.map_batch::<ReadOnly>(&[(bed.their_id, grant.gref()), (bed.our_id, grant.gref())]);
        check_same!(refused.err(), Some(GrantError::OwnPage));
        check!(grant.in_use().is_empty());
        // Xen may copy it.
        let mut page = bed.page()?;
        let copied = granite::grant::Source::granted(bed.our_id, grant.gref(), 0);
        bed.us.copy_one(copied, granite::grant::Dest::page(&mut page, 0), 8).map_err(fail)?;
        grant.end_access().map_err(fail)?;
        check_same!(bed.fake.us.machine().leaked(bed.our_id), 0);
        bed.nothing_lost()
    }

    /// What the fake punishes as Xen does, and what the windows are there to prevent.
    pub fn occupied_window_is_the_end(bed: &Bed) -> Result<(), NotPassed> {
        let grant = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
        let window = bed.their_table()?.windows().take(1).map_err(fail)?;
        for dead in [false, true] {
            let (status, _) =
                raw_map(bed.their_table()?, bed.our_id, grant.gref(), MapFlags::HOST_MAP, window.first());
            check_same!((status, bed.fake.them.is_dead()), (Status::OKAY, dead));
        }
        check!(bed.them.map::<ReadOnly>(bed.our_id, grant.gref()).is_err());
        Ok(())
    }

    pub fn no_window_is_free(bed: &Bed) -> Result<(), NotPassed> {
        let grant = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
        let window = bed.their_table()?.windows().take(bed.their_free_windows()).map_err(fail)?;
        let mapped = bed.them.map::<ReadOnly>(bed.our_id, grant.gref());
        check!(matches!(mapped, Err(GrantError::NoWindow(_))), "{mapped:?}");
        check!(matches!(bed.them.accept_transfer(bed.our_id), Err(GrantError::NoWindow(_))));
        // SAFETY: nothing was placed there.
        unsafe { bed.their_table()?.windows().give_back(window) };
        bed.them.with_mapping::<ReadOnly, _>(bed.our_id, grant.gref(), |_| ()).map_err(fail)?;
        grant.end_access().map_err(fail)?;
        bed.nothing_lost()
    }
}

#[cfg(not(granite_guest))]
use fake::{
    a_mapping_that_was_half_unmapped_shows_nothing, busy_grant_dropped_a_million_times,
    call_that_disagrees_with_its_statuses, call_that_fails_whole, call_that_says_nothing,
    losses_are_those_of_the_call, no_window_is_free, occupied_window_is_the_end, own_pages_are_not_mapped,
    table_that_cannot_grow, unmap_that_never_works,
};
