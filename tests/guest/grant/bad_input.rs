//! What nobody should ask for: each has a clear error, and nothing is lost.

use alloc::string::ToString;

use granite::abi::Gfn;
use granite::abi::grant::op::MapFlags;
use granite::abi::grant::{GrantRef, Status};
use granite::grant::freelist::AdoptError;
use granite::grant::{GrantError, ReadOnly, Version};

#[cfg(not(granite_guest))]
use super::FAKE;
use super::bed::{Bed, fail, raw_map};
use super::{BOTH_AT_HAND, WITH_XEN};
use crate::harness::NotPassed;
use crate::{check, check_same, grant_cases};

grant_cases! {
    numbers_that_are_no_references on WITH_XEN;
    frame_of_more_than_32_bits on WITH_XEN;
    map_flags_that_pvh_may_not_use on BOTH_AT_HAND;
    foreign_references on WITH_XEN;
    #[cfg(not(granite_guest))] table_that_cannot_grow on FAKE;
    #[cfg(not(granite_guest))] call_that_fails_whole on FAKE;
    #[cfg(not(granite_guest))] call_that_disagrees_with_its_statuses on FAKE;
    #[cfg(not(granite_guest))] call_that_says_nothing on FAKE;
    #[cfg(not(granite_guest))] unmap_that_never_works on FAKE;
    #[cfg(not(granite_guest))] busy_grant_dropped_a_million_times on FAKE;
    #[cfg(not(granite_guest))] occupied_window_is_the_end on FAKE;
    #[cfg(not(granite_guest))] no_window_is_free on FAKE;
}

/// Reserved, out of range, free, and taken back before.
fn numbers_that_are_no_references(bed: &Bed) -> Result<(), NotPassed> {
    let list = bed.us.references();
    for reserved in 0..8 {
        check_same!(list.adopt(GrantRef(reserved)).err(), Some(AdoptError::Reserved(GrantRef(reserved))));
    }
    let beyond = GrantRef(bed.us.stats().references + 8);
    for number in [beyond, GrantRef(u32::MAX), GrantRef(1 << 24)] {
        check_same!(list.adopt(number).err(), Some(AdoptError::OutOfRange(number)));
    }
    let owned = list.alloc().map_err(|_| fail("exhausted"))?;
    let number = owned.get();
    check_same!(list.adopt(number).err(), Some(AdoptError::NotLeaked(number)));
    check_same!(list.leak(owned).ok(), Some(number));
    let owned = list.adopt(number).map_err(fail)?;
    check_same!(list.adopt(number).err(), Some(AdoptError::NotLeaked(number)));
    check!(list.free(owned).is_ok());
    check_same!(list.adopt(number).err(), Some(AdoptError::NotLeaked(number)));
    bed.nothing_lost()
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
    let other = Freelist::new(bed.us.xen(), GrantRef::FIRST_FREE, 100, 1);
    other.grow(100);
    let ours = bed.us.references().alloc().map_err(|_| fail("exhausted"))?;
    let Err(ours) = other.free(ours) else { return Err(fail("a foreign reference was freed")) };
    let Err(ours) = other.leak(ours) else { return Err(fail("a foreign reference was leaked")) };
    let theirs = other.alloc().map_err(|_| fail("exhausted"))?;
    check_same!(bed.us.references().free_batch([ours, theirs]), Err(1));
    check_same!(other.stats().in_use, 1);
    bed.nothing_lost()
}

#[cfg(not(granite_guest))]
mod fake {
    use super::{Bed, GrantError, MapFlags, NotPassed, ReadOnly, Status, fail, raw_map};
    use crate::{check, check_same};
    use granite::abi::XenErrno;
    use granite::abi::grant::op::Op;
    use granite::grant::ReadWrite;
    use granite::hypercall::fake::Fault;
    use granite::hypercall::grant::OpError;
    use granite::mm::Page;

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
    busy_grant_dropped_a_million_times, call_that_disagrees_with_its_statuses, call_that_fails_whole,
    call_that_says_nothing, no_window_is_free, occupied_window_is_the_end, table_that_cannot_grow,
    unmap_that_never_works,
};
