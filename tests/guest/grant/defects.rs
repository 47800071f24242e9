//! What others got wrong: one case for each defect that reading their sources found.

use alloc::vec::Vec;

use granite::abi::grant::EntryFlags;
use granite::grant::{ReadOnly, ReadWrite};

#[cfg(not(granite_guest))]
use super::FAKE;
use super::WITH_XEN;
use super::bed::{Bed, fail};
use crate::grant_cases;
use crate::harness::NotPassed;
use granite::testing::{check, check_same};

grant_cases! {
    stardust_revoked_a_copy_of_the_entry on WITH_XEN;
    freebsd_detached_its_list_at_a_busy_grant on WITH_XEN;
    zephyr_freed_what_was_busy_and_kept_what_was_not on WITH_XEN;
    #[cfg(not(granite_guest))] mirage_did_not_look_again_after_a_lost_exchange on FAKE;
    netbsd_freed_a_busy_reference on WITH_XEN;
    uni_rs_cleared_the_flags_of_a_mapped_grant on WITH_XEN;
    #[cfg(not(granite_guest))] stardust_offered_a_transfer_in_a_copy on FAKE;
    #[cfg(not(granite_guest))] rule_invalidate_committed_accept_transfer on FAKE;
    #[cfg(not(granite_guest))] committed_slot_dropped on FAKE;
    #[cfg(not(granite_guest))] peer_that_pins_at_the_worst_moment on FAKE;
}

/// The entry in the table is what changes.
fn stardust_revoked_a_copy_of_the_entry(bed: &Bed) -> Result<(), NotPassed> {
    let grant = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
    let gref = grant.gref();
    check!(bed.us.entries().any(|(live, _)| live == gref));
    grant.end_access().map_err(fail)?;
    check!(bed.us.entries().all(|(live, _)| live != gref));
    check!(bed.them.map::<ReadOnly>(bed.our_id, gref).is_err());
    bed.nothing_lost()
}

/// Of several, the first is busy: the others come free, and the list has all of them.
fn freebsd_detached_its_list_at_a_busy_grant(bed: &Bed) -> Result<(), NotPassed> {
    let free = bed.us.stats().free;
    let mut grants = Vec::new();
    for _ in 0..50 {
        grants.push(bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?);
    }
    let busy = bed.them.map::<ReadWrite>(bed.our_id, grants[0].gref()).map_err(fail)?;
    drop(grants);
    let available = bed.us.stats().free;
    let all = bed.us.reserve(available as usize).map_err(fail)?;
    check_same!(bed.us.stats().free, 0);
    drop(all);
    busy.unmap().map_err(fail)?;
    bed.us.reap(u32::MAX);
    // What the pages cost a domain that maps its own stays out.
    check!(bed.us.stats().free + 50 >= free, "{}", bed.us.stats());
    bed.nothing_lost()
}

fn zephyr_freed_what_was_busy_and_kept_what_was_not(bed: &Bed) -> Result<(), NotPassed> {
    let idle = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
    let busy = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
    let mapping = bed.them.map::<ReadWrite>(bed.our_id, busy.gref()).map_err(fail)?;
    let in_use = bed.us.stats().in_use;
    check!(idle.end_access().is_ok());
    check_same!(bed.us.stats().in_use, in_use - 1);
    let Err(failed) = busy.end_access() else { return Err(fail("a busy grant ended")) };
    check_same!(bed.us.stats().in_use, in_use - 1);
    mapping.unmap().map_err(fail)?;
    failed.value.end_access().map_err(fail)?;
    check_same!(bed.us.stats().in_use, in_use - 2);
    bed.nothing_lost()
}

/// A busy reference isn't handed out again.
fn netbsd_freed_a_busy_reference(bed: &Bed) -> Result<(), NotPassed> {
    let grant = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
    let gref = grant.gref();
    let mapping = bed.them.map::<ReadWrite>(bed.our_id, gref).map_err(fail)?;
    drop(grant);
    let mut others = Vec::new();
    for _ in 0..100 {
        others.push(bed.us.grant::<ReadOnly>(bed.page()?, bed.their_id).map_err(fail)?);
    }
    check!(others.iter().all(|other| other.gref() != gref));
    drop(others);
    mapping.unmap().map_err(fail)?;
    // It may be back already: a vCPU that waits looks, too.
    bed.us.reap(u32::MAX);
    check_same!(bed.us.stats().quarantined, 0);
    bed.nothing_lost()
}

/// While it is mapped, the entry stays what it is.
fn uni_rs_cleared_the_flags_of_a_mapped_grant(bed: &Bed) -> Result<(), NotPassed> {
    let grant = bed.us.grant::<ReadOnly>(bed.page()?, bed.their_id).map_err(fail)?;
    let gref = grant.gref();
    let mapping = bed.them.map::<ReadOnly>(bed.our_id, gref).map_err(fail)?;
    let flags = || bed.us.entries().find(|(live, _)| *live == gref).map(|(_, entry)| entry.flags);
    let before = flags();
    check_same!(before, Some(EntryFlags::PERMIT_ACCESS | EntryFlags::READONLY | EntryFlags::READING));
    let Err(failed) = grant.end_access() else { return Err(fail("a mapped grant ended")) };
    check_same!(flags(), before);
    drop(failed.value);
    check_same!(flags(), before);
    mapping.unmap().map_err(fail)?;
    bed.us.reap(u32::MAX);
    check_same!(flags(), None);
    bed.nothing_lost()
}

#[cfg(not(granite_guest))]
mod fake {
    use super::{Bed, EntryFlags, NotPassed, ReadWrite, fail};
    use granite::abi::grant::Status;
    use granite::grant::GrantError;
    use granite::grant::SlotState;
    use granite::testing::{check, check_same};
    use std::sync::atomic::{AtomicBool, Ordering};

    /// A peer that pins and unpins without a pause makes exchanges fail: each is followed by another look.
    pub fn mirage_did_not_look_again_after_a_lost_exchange(bed: &Bed) -> Result<(), NotPassed> {
        let machine = bed.fake.us.machine().clone();
        let (our_id, their_id) = (bed.our_id, bed.their_id);
        let stop = AtomicBool::new(false);
        let gref = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let gref = gref.load(Ordering::Relaxed);
                    if machine.pin(our_id, gref, their_id, true).is_ok() {
                        machine.unpin(our_id, gref, true);
                    }
                }
            });
            let all = (|| {
                for _ in 0..2_000 {
                    let mut grant = bed.us.grant::<ReadWrite>(bed.page()?, their_id).map_err(fail)?;
                    gref.store(grant.gref().0, Ordering::Relaxed);
                    loop {
                        match grant.end_access() {
                            Ok(_) => break,
                            Err(failed) => {
                                check!(matches!(failed.error, GrantError::Busy(_)), "{failed}");
                                grant = failed.value;
                            }
                        }
                    }
                }
                Ok(())
            })();
            stop.store(true, Ordering::Relaxed);
            all
        })?;
        bed.nothing_lost()
    }

    /// A PV domain gives a page away, into the slot that is in the table.
    pub fn stardust_offered_a_transfer_in_a_copy(bed: &Bed) -> Result<(), NotPassed> {
        let free = bed.us.windows().free();
        let slot = bed.us.accept_transfer(bed.fake.pv_id).map_err(fail)?;
        let mut page = bed.pv_page()?;
        page.bytes_mut()[..8].copy_from_slice(b"a gift..");
        bed.fake.pv.transfer(page, bed.our_id, slot.gref()).map_err(fail)?;
        check_same!(slot.state(), SlotState::Completed);
        let Err(failed) = slot.withdraw() else { return Err(fail("withdrawn with a page in it")) };
        check_same!(failed.error, GrantError::Committed);
        let mut received = failed.value.complete().map_err(fail)?;
        check_same!(&received.bytes()[..8], b"a gift..");
        received.bytes_mut()[0] = b'A';
        received.shared().write(2, b"G").map_err(fail)?;
        check_same!(&received.bytes()[..8], b"A Gift..");
        check_same!(bed.us.windows().free(), free - 1);
        drop(received);
        check_same!(bed.us.windows().free(), free);
        // Nobody waits for this one: the page is gone all the same, and the sender is told.
        let refused = bed.fake.pv.transfer(bed.pv_page()?, bed.our_id, granite::abi::grant::GrantRef(9));
        let Err(failed) = refused else { return Err(fail("a page into no slot")) };
        check_same!((failed.error.status(), failed.value), (Some(Status::BAD_GNTREF), None));
        // A frame that is no page of the sender's stays where it is.
        let window = bed.fake.pv.windows().take(1).map_err(fail)?;
        // SAFETY: no page; it is never dropped.
        let nowhere = unsafe { granite::mm::Page::from_gfn(window.first()) };
        let Err(failed) = bed.fake.pv.transfer(nowhere, bed.our_id, granite::abi::grant::GrantRef(9)) else {
            return Err(fail("no page was transferred"));
        };
        check_same!(failed.error.status(), Some(Status::BAD_PAGE));
        check!(failed.value.is_some(), "the page stays ours");
        let _ = failed.value.map(granite::mm::Page::into_gfn);
        bed.nothing_lost()
    }

    fn soon() -> granite::time::Deadline {
        granite::time::Deadline::after(std::time::Duration::from_millis(2))
    }

    /// Nothing to do but wait, and the wait is bounded.
    pub fn rule_invalidate_committed_accept_transfer(bed: &Bed) -> Result<(), NotPassed> {
        let machine = bed.fake.us.machine();
        let slot = bed.us.accept_transfer(bed.their_id).map_err(fail)?;
        let gref = slot.gref().0;
        machine.commit_transfer(bed.our_id, gref, bed.their_id).map_err(fail)?;
        check_same!(slot.state(), SlotState::Committed);
        let Err(failed) = slot.withdraw() else { return Err(fail("withdrawn while committed")) };
        check_same!(failed.error, GrantError::Committed);
        let Err(failed) = failed.value.wait(soon()) else { return Err(fail("a page that hasn't come")) };
        check_same!(failed.error, GrantError::Committed);
        machine.complete_transfer(bed.our_id, gref, b"it came");
        let received = failed.value.wait(soon()).map_err(fail)?;
        check_same!(&received.bytes()[..7], b"it came");
        drop(received);
        bed.nothing_lost()
    }

    /// The slot waits in the quarantine for its page, and gives it back to Xen.
    pub fn committed_slot_dropped(bed: &Bed) -> Result<(), NotPassed> {
        let machine = bed.fake.us.machine();
        let free = bed.us.windows().free();
        let slot = bed.us.accept_transfer(bed.their_id).map_err(fail)?;
        let gref = slot.gref().0;
        machine.commit_transfer(bed.our_id, gref, bed.their_id).map_err(fail)?;
        drop(slot);
        check_same!((bed.us.stats().quarantined, bed.us.reap(u32::MAX)), (1, 0));
        machine.complete_transfer(bed.our_id, gref, b"late");
        check_same!(bed.us.reap(u32::MAX), 1);
        check_same!(bed.us.windows().free(), free);
        bed.nothing_lost()
    }

    /// Between our look and our exchange: the grant stays, or ends, and never half.
    pub fn peer_that_pins_at_the_worst_moment(bed: &Bed) -> Result<(), NotPassed> {
        let machine = bed.fake.us.machine().clone();
        for writing in [false, true] {
            let grant = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
            let gref = grant.gref().0;
            let (us, them) = (bed.our_id, bed.their_id);
            machine.pin(us, gref, them, writing).map_err(fail)?;
            let result = grant.make_readonly();
            check_same!(result.is_err(), writing);
            let flags = bed.us.entries().find(|(live, _)| live.0 == gref).map(|(_, entry)| entry.flags);
            check_same!(flags.map(|flags| flags.contains(EntryFlags::READONLY)), Some(!writing));
            drop(result);
            check_same!(bed.us.stats().quarantined, 1);
            machine.unpin(us, gref, writing);
            check_same!(bed.us.reap(1), 1);
        }
        // A hypercall of theirs, in the middle of which we end what they are about to map.
        let grant = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
        let gref = grant.gref();
        bed.fake.them.before_next(move || drop(grant));
        let mapped = bed.them.map::<ReadWrite>(bed.our_id, gref);
        check_same!(mapped.err().and_then(GrantError::status), Some(Status::GENERAL_ERROR));
        bed.nothing_lost()
    }
}

#[cfg(not(granite_guest))]
use fake::{
    committed_slot_dropped, mirage_did_not_look_again_after_a_lost_exchange,
    peer_that_pins_at_the_worst_moment, rule_invalidate_committed_accept_transfer,
    stardust_offered_a_transfer_in_a_copy,
};
