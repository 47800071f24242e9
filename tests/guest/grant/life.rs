//! The life of an entry: both types, and each of the header's rules for changing one.

use alloc::vec::Vec;

use granite::abi::Gfn;
use granite::abi::grant::{EntryFlags, GrantRef, Status};
use granite::grant::{GrantError, ReadOnly, ReadWrite, Version};

#[cfg(not(granite_guest))]
use super::FAKE;
use super::WITH_XEN;
use super::bed::{Bed, fail};
use crate::grant_cases;
use crate::harness::NotPassed;
use granite::testing::{check, check_same};

grant_cases! {
    type_permit_access on WITH_XEN;
    type_accept_transfer on WITH_XEN;
    rule_invalidate_unused_permit_access on WITH_XEN;
    rule_invalidate_in_use_permit_access on WITH_XEN;
    rule_invalidate_unused_accept_transfer on WITH_XEN;
    rule_writable_to_readonly on WITH_XEN;
    rule_readonly_to_writable on WITH_XEN;
    dropped_while_in_use on WITH_XEN;
    consecutive_references on WITH_XEN;
    reserved_references_are_kept on WITH_XEN;
    #[cfg(not(granite_guest))] reserved_references_outlive_a_version on FAKE;
    table_grows_when_it_must on WITH_XEN;
    #[cfg(not(granite_guest))] table_grows_under_several_vcpus on super::FAKE;
    waits_for_a_reference on WITH_XEN;
    #[cfg(granite_guest)] references_in_an_interrupt_handler on &[crate::harness::Rig::Solo, crate::harness::Rig::Lab];
}

const USED: EntryFlags = EntryFlags::READING.union(EntryFlags::WRITING);

/// Readers and writers are told apart, by Xen.
fn type_permit_access(bed: &Bed) -> Result<(), NotPassed> {
    let grant = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
    check_same!(grant.peer(), bed.their_id);
    check!(grant.in_use().is_empty());
    let writer = bed.them.map::<ReadWrite>(bed.our_id, grant.gref()).map_err(fail)?;
    check_same!(grant.in_use(), USED);
    let reader = bed.them.map::<ReadOnly>(bed.our_id, grant.gref()).map_err(fail)?;
    writer.unmap().map_err(fail)?;
    check_same!(grant.in_use(), EntryFlags::READING);
    reader.unmap().map_err(fail)?;
    check!(grant.in_use().is_empty());
    grant.end_access().map_err(fail)?;
    bed.nothing_lost()
}

fn type_accept_transfer(bed: &Bed) -> Result<(), NotPassed> {
    use granite::grant::SlotState;
    let free = bed.us.windows().free();
    let slot = bed.us.accept_transfer(bed.their_id).map_err(fail)?;
    check_same!(slot.state(), SlotState::Offered);
    // It grants no access.
    let mapped = bed.them.map::<ReadOnly>(bed.our_id, slot.gref());
    check_same!(mapped.err().and_then(GrantError::status), Some(Status::GENERAL_ERROR));
    let Err(failed) = slot.complete() else { return Err(fail("a page came from nowhere")) };
    check_same!(failed.error, GrantError::NotTransferred);
    let Err(failed) = failed.value.wait(granite::time::Deadline::NEVER) else {
        return Err(fail("a page came from nowhere"));
    };
    check_same!(failed.error, GrantError::NotTransferred);
    drop(failed.value);
    check_same!(bed.us.windows().free(), free);
    bed.nothing_lost()
}

/// Ended, it grants nothing: not to map, and not to copy.
fn rule_invalidate_unused_permit_access(bed: &Bed) -> Result<(), NotPassed> {
    let grant = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
    let gref = grant.gref();
    let page = grant.end_access().map_err(fail)?;
    let mapped = bed.them.map::<ReadOnly>(bed.our_id, gref);
    check_same!(mapped.err().and_then(GrantError::status), Some(Status::GENERAL_ERROR));
    drop(page);
    bed.nothing_lost()
}

/// It can't be: the grant comes back as it was, and works.
fn rule_invalidate_in_use_permit_access(bed: &Bed) -> Result<(), NotPassed> {
    let grant = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
    let mapping = bed.them.map::<ReadWrite>(bed.our_id, grant.gref()).map_err(fail)?;
    let Err(failed) = grant.end_access() else { return Err(fail("ended while in use")) };
    check!(matches!(failed.error, GrantError::Busy(flags) if flags.contains(USED)), "{failed}");
    let grant = failed.value;
    let second = bed.them.map::<ReadWrite>(bed.our_id, grant.gref()).map_err(fail)?;
    mapping.unmap().map_err(fail)?;
    let Err(failed) = grant.end_access() else { return Err(fail("ended while in use")) };
    second.bytes().write(0, b"still").map_err(fail)?;
    second.unmap().map_err(fail)?;
    let page = failed.value.end_access().map_err(fail)?;
    check_same!(&page.bytes()[..5], b"still");
    bed.nothing_lost()
}

fn rule_invalidate_unused_accept_transfer(bed: &Bed) -> Result<(), NotPassed> {
    let free = bed.us.windows().free();
    let slot = bed.us.accept_transfer(bed.their_id).map_err(fail)?;
    slot.withdraw().map_err(fail)?;
    check_same!(bed.us.windows().free(), free);
    bed.nothing_lost()
}

/// Refused while somebody writes; then new writers are refused, and readers aren't.
fn rule_writable_to_readonly(bed: &Bed) -> Result<(), NotPassed> {
    let grant = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
    let writer = bed.them.map::<ReadWrite>(bed.our_id, grant.gref()).map_err(fail)?;
    let Err(failed) = grant.make_readonly() else { return Err(fail("read-only while it is written")) };
    check!(
        matches!(failed.error, GrantError::Busy(flags) if flags.contains(EntryFlags::WRITING)),
        "{failed}"
    );
    let another = bed.them.map::<ReadWrite>(bed.our_id, failed.value.gref()).map_err(fail)?;
    bed.them.unmap_all([writer, another]).map_err(fail)?;
    // A reader doesn't matter.
    let reader = bed.them.map::<ReadOnly>(bed.our_id, failed.value.gref()).map_err(fail)?;
    let grant = failed.value.make_readonly().map_err(fail)?;
    let refused = bed.them.map::<ReadWrite>(bed.our_id, grant.gref());
    check_same!(refused.err().and_then(GrantError::status), Some(Status::GENERAL_ERROR));
    let second = bed.them.map::<ReadOnly>(bed.our_id, grant.gref()).map_err(fail)?;
    bed.them.unmap_all([reader, second]).map_err(fail)?;
    grant.end_access().map_err(fail)?;
    bed.nothing_lost()
}

fn rule_readonly_to_writable(bed: &Bed) -> Result<(), NotPassed> {
    let grant = bed.us.grant::<ReadOnly>(bed.page()?, bed.their_id).map_err(fail)?;
    let reader = bed.them.map::<ReadOnly>(bed.our_id, grant.gref()).map_err(fail)?;
    let refused = bed.them.map::<ReadWrite>(bed.our_id, grant.gref());
    check_same!(refused.err().and_then(GrantError::status), Some(Status::GENERAL_ERROR));
    let grant = grant.make_writable();
    let writer = bed.them.map::<ReadWrite>(bed.our_id, grant.gref()).map_err(fail)?;
    writer.bytes().write(8, b"now").map_err(fail)?;
    writer.unmap().map_err(fail)?;
    reader.unmap().map_err(fail)?;
    let grant = grant.make_readonly().map_err(fail)?;
    let page = grant.end_access().map_err(fail)?;
    check_same!(&page.bytes()[8..11], b"now");
    bed.nothing_lost()
}

/// Page and reference go to the quarantine, are nobody else's there, and come back when the peer is done.
fn dropped_while_in_use(bed: &Bed) -> Result<(), NotPassed> {
    const GRANTS: usize = 20;
    let pages = (0..GRANTS).map(|_| bed.page()).collect::<Result<Vec<_>, _>>()?;
    let grants: Result<Vec<_>, _> =
        pages.into_iter().map(|page| bed.us.grant::<ReadWrite>(page, bed.their_id)).collect();
    let grants = grants.map_err(fail)?;
    let grefs: Vec<GrantRef> = grants.iter().map(|grant| grant.gref()).collect();
    let mapping = bed.them.map_all::<ReadWrite>(bed.our_id, &grefs).map_err(fail)?;
    drop(grants);
    check_same!(bed.us.stats().quarantined, GRANTS as u32);
    check_same!(bed.us.reap(u32::MAX), 0);
    // Neither page nor reference is given out again.
    let other = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
    check!(!grefs.contains(&other.gref()));
    mapping.bytes().write(0, b"late").map_err(fail)?;
    mapping.unmap().map_err(fail)?;
    // Allocations look at a few each.
    other.end_access().map_err(fail)?;
    let other = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
    check!(bed.us.stats().quarantined < GRANTS as u32);
    other.end_access().map_err(fail)?;
    bed.us.reap(u32::MAX);
    check_same!(bed.us.stats().quarantined, 0);
    bed.nothing_lost()
}

fn consecutive_references(bed: &Bed) -> Result<(), NotPassed> {
    // More than a frame's worth of version 2, so that the table has to grow.
    let pages = (0..300).map(|_| bed.page()).collect::<Result<Vec<_>, _>>()?;
    let frames: Vec<_> = pages.iter().map(|page| page.gfn()).collect();
    let grants = bed.us.grant_run::<ReadOnly>(pages, bed.their_id).map_err(fail)?;
    let first = grants[0].gref().0;
    check!(grants.iter().zip(first..).all(|(grant, number)| grant.gref().0 == number));
    let pages: Result<Vec<_>, _> = grants.into_iter().map(|grant| grant.end_access()).collect();
    let pages = pages.map_err(fail)?;
    check!(pages.iter().zip(frames).all(|(page, frame)| page.gfn() == frame), "in their order");
    drop(pages);
    bed.nothing_lost()
}

/// Writes an entry that isn't the table's, as the toolstack does.
fn write_entry(bed: &Bed, gref: u64, word: u32, frame: u64) {
    let is_v1 = bed.us.version() == Version::V1;
    let entry = bed.us.address() + gref * if is_v1 { 8 } else { 16 };
    // SAFETY: references below 8 are nobody's but this test's.
    unsafe {
        if is_v1 {
            (entry as *mut u32).add(1).write_volatile(frame as u32);
        } else {
            (entry as *mut u64).add(1).write_volatile(frame);
        }
        (entry as *mut u32).write_volatile(word);
    }
}

/// Also when a table of the other version takes this one's place, and again.
#[cfg(not(granite_guest))]
fn reserved_references_outlive_a_version(bed: &Bed) -> Result<(), NotPassed> {
    use granite::grant::{Config, GrantTable};
    let word = u32::from(bed.their_id.0) << 16 | 1;
    write_entry(bed, 0, word, 77);
    write_entry(bed, 7, word | 4, 78);
    write_entry(bed, 3, 0, 79); // grants nothing
    let expected: Vec<_> = bed.us.entries().collect();
    check_same!(expected.iter().map(|(gref, _)| gref.0).collect::<Vec<_>>(), [0, 7]);
    let own = bed.us.version();
    for version in [if own == Version::V1 { Version::V2 } else { Version::V1 }, own] {
        let config = Config { version, frames: 1, ..Config::default() };
        // SAFETY: the tables before aren't used any more.
        let table = unsafe { GrantTable::new(bed.us.xen(), bed.us.windows(), config) }.map_err(fail)?;
        check_same!(table.entries().collect::<Vec<_>>(), expected);
        core::mem::forget(table);
    }
    Ok(())
}

/// What the toolstack wrote there stays, whatever we do.
fn reserved_references_are_kept(bed: &Bed) -> Result<(), NotPassed> {
    let reserved = || {
        let entries = bed.us.entries().take_while(|(gref, _)| gref.is_reserved());
        entries.collect::<Vec<_>>()
    };
    // As the toolstack writes them, for the console and the store.
    let page = bed.page()?;
    let granted = |flags: u32| u32::from(bed.their_id.0) << 16 | flags;
    write_entry(bed, 0, granted(1), page.gfn().0);
    write_entry(bed, 1, granted(1 | 4), page.gfn().0 + 1);
    let before = reserved();
    check_same!(before.iter().map(|(gref, _)| gref.0).collect::<Vec<_>>(), [0, 1]);
    check_same!((before[0].1.frame, before[1].1.frame), (page.gfn(), Gfn(page.gfn().0 + 1)));
    let mut grants = Vec::new();
    for _ in 0..40 {
        grants.push(bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?);
    }
    check!(grants.iter().all(|grant| !grant.gref().is_reserved()));
    drop(grants);
    check_same!(reserved(), before);
    write_entry(bed, 0, 0, 0);
    write_entry(bed, 1, 0, 0);
    check!(reserved().is_empty());
    drop(page);
    bed.nothing_lost()
}

/// References are taken to beyond the first frame; all of them are good.
fn table_grows_when_it_must(bed: &Bed) -> Result<(), NotPassed> {
    let before = bed.us.stats();
    let page = bed.page()?;
    let mut grants = Vec::new();
    for _ in 0..=before.free {
        // SAFETY: many owners of one page, and none of them is dropped.
        let alias = unsafe { granite::mm::Page::from_gfn(page.gfn()) };
        grants.push(bed.us.grant::<ReadOnly>(alias, bed.their_id).map_err(fail)?);
    }
    let after = bed.us.stats();
    check!(after.frames > before.frames && after.references > before.references, "{after} was {before}");
    let last = grants.iter().map(|grant| grant.gref()).max().unwrap_or(GrantRef(0));
    check!(last.0 >= before.references + 8, "{last}");
    bed.them.with_mapping::<ReadOnly, _>(bed.our_id, last, |_| ()).map_err(fail)?;
    for grant in grants {
        let _ = grant.end_access().map_err(fail)?.into_gfn();
    }
    drop(page);
    bed.nothing_lost()
}

/// Several at once, to the last reference: each frame is placed once, and each reference is one's own.
#[cfg(not(granite_guest))]
fn table_grows_under_several_vcpus(bed: &Bed) -> Result<(), NotPassed> {
    use std::sync::Mutex;
    let all = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let page = bed.page();
                let mut own = Vec::new();
                while let Ok(page) = &page {
                    // SAFETY: many owners of one page, and none of them is dropped.
                    let alias = unsafe { granite::mm::Page::from_gfn(page.gfn()) };
                    match bed.us.grant::<ReadOnly>(alias, bed.their_id) {
                        Ok(grant) => own.push(grant),
                        Err(failed) => {
                            let _ = failed.value.into_gfn();
                            break;
                        }
                    }
                }
                all.lock().map(|mut all| all.extend(own)).unwrap_or_default();
            });
        }
    });
    let grants = all.into_inner().map_err(fail)?;
    let stats = bed.us.stats();
    check_same!((stats.frames, stats.free), (stats.max_frames, 0));
    check_same!(grants.len() as u32, stats.references);
    let numbers: std::collections::BTreeSet<_> = grants.iter().map(|grant| grant.gref()).collect();
    check_same!(numbers.len(), grants.len());
    for grant in grants {
        let _ = grant.end_access().map_err(fail)?.into_gfn();
    }
    bed.nothing_lost()
}

/// Where none is free, a future waits until one is.
fn waits_for_a_reference(bed: &Bed) -> Result<(), NotPassed> {
    use core::future::Future;
    use core::pin::pin;
    use core::task::{Context, Poll, Waker};
    let page = bed.page()?;
    // The whole table, as large as it may become.
    bed.us.grow_to(bed.us.stats().max_frames).map_err(fail)?;
    let mut all = bed.us.reserve(bed.us.stats().free as usize).map_err(fail)?;
    let mut context = Context::from_waker(Waker::noop());
    let mut waits = pin!(bed.us.grant_when_free::<ReadOnly>(page, bed.their_id));
    check!(waits.as_mut().poll(&mut context).is_pending());
    check!(waits.as_mut().poll(&mut context).is_pending());
    // One comes free.
    // SAFETY: a page that is never used, or dropped.
    let none = unsafe { granite::mm::Page::from_gfn(granite::abi::Gfn(0)) };
    let one = all.grant::<ReadOnly>(none, bed.their_id).map_err(fail)?;
    let _ = one.end_access().map_err(fail)?.into_gfn();
    let Poll::Ready(grant) = waits.as_mut().poll(&mut context) else { return Err(fail("it waits on")) };
    grant.map_err(fail)?.end_access().map_err(fail)?;
    drop(all);
    bed.nothing_lost()
}

/// A handler takes and frees references while what it interrupts does; it never touches the vCPU's cache.
#[cfg(granite_guest)]
fn references_in_an_interrupt_handler(bed: &Bed) -> Result<(), NotPassed> {
    use core::sync::atomic::{AtomicU32, Ordering};
    use granite::arch::trap::{self, TrapFrame};
    use granite::grant::freelist::Freelist;
    use granite::hypercall::Xen;
    use granite::sync::{NO_VCPU, Vcpu, this_vcpu};
    use spin::Once;

    const VECTOR: u8 = 0x8a;
    static LIST: Once<Freelist<Xen>> = Once::new();
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    static WRONG: AtomicU32 = AtomicU32::new(0);

    fn handler(_: &TrapFrame) {
        let Some(list) = LIST.get() else { return };
        let inside = this_vcpu::is_handling() && Xen::enabled().is_some_and(|xen| xen.index() == NO_VCPU);
        let taken = list.alloc().map(|reference| list.free(reference).is_ok());
        TAKEN.fetch_add(u32::from(taken == Ok(true)), Ordering::Relaxed);
        WRONG.fetch_add(u32::from(!inside), Ordering::Relaxed);
    }

    let new = || {
        let list = Freelist::new(*bed.us.xen(), GrantRef::FIRST_FREE, 8).map_err(|_| fail("no memory"))?;
        list.grow(512).map_err(|_| fail("no memory"))?;
        Ok::<_, NotPassed>(list)
    };
    let list = LIST.try_call_once(new)?;
    // SAFETY: the handler leaves interrupts masked. The other version's boot is another one.
    let handled = unsafe { trap::handle(VECTOR, handler) };
    check!(handled.is_ok());
    let mut held = Vec::new();
    for round in 0..240 {
        let reference = list.alloc().map_err(|_| fail("exhausted"))?;
        // SAFETY: the vector has a handler, which keeps every register.
        unsafe { core::arch::asm!("int {vector}", vector = const VECTOR) };
        held.push(reference);
        if round % 3 == 0 {
            check!(held.pop().is_some_and(|reference| list.free(reference).is_ok()));
        }
    }
    check!(!this_vcpu::is_handling());
    check_same!((TAKEN.load(Ordering::Relaxed), WRONG.load(Ordering::Relaxed)), (240, 0));
    let mut numbers: Vec<_> = held.iter().map(|reference| reference.get()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    check_same!(numbers.len(), held.len());
    list.free_many(&mut held);
    check_same!(list.stats().in_use, 0);
    bed.nothing_lost()
}
