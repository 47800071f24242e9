//! Running out, waiting and growing; references in advance, and many at once.

use alloc::vec::Vec;

use granite::grant::{Grant, GrantError, ReadOnly, ReadWrite};
use granite::mm::Page;

#[cfg(not(granite_guest))]
use super::FAKE;
use super::bed::{Bed, Hypervisor, fail};
use super::{BOTH_AT_HAND, WITH_XEN};
use crate::grant_cases;
use crate::harness::NotPassed;
use granite::testing::{check, check_same};

grant_cases! {
    runs_come_back_and_do_not_grow_the_table on WITH_XEN;
    nothing_at_once_is_no_error on WITH_XEN;
    a_run_that_cannot_be_grows_nothing on WITH_XEN;
    a_run_at_the_end_of_the_table on WITH_XEN;
    a_reserve_is_kept_and_is_a_quota on WITH_XEN;
    many_pages_in_one_go on WITH_XEN;
    copies_with_any_memory on BOTH_AT_HAND;
    an_idle_vcpu_looks_into_the_quarantine on WITH_XEN;
    #[cfg(not(granite_guest))] waits_while_all_are_in_quarantine on FAKE;
    #[cfg(not(granite_guest))] growth_that_is_refused_looks_into_the_quarantine on FAKE;
    #[cfg(not(granite_guest))] growth_by_another_vcpu_is_waited_for on FAKE;
    #[cfg(not(granite_guest))] a_set_up_that_fails_loses_no_window on FAKE;
    #[cfg(not(granite_guest))] the_last_frame_of_status_words on FAKE;
    #[cfg(not(granite_guest))] a_peer_that_keeps_its_pages_gets_no_more on FAKE;
    #[cfg(not(granite_guest))] an_idle_vcpu_keeps_no_references on FAKE;
}

type Granted = Grant<'static, ReadOnly, Hypervisor>;

/// Many owners of one page, none of which may be dropped.
fn alias(page: &Page) -> Page {
    // SAFETY: callers take all of them apart with `forget`.
    unsafe { Page::from_gfn(page.gfn()) }
}

fn forget(grants: impl IntoIterator<Item = Granted>) -> Result<(), NotPassed> {
    for grant in grants {
        let _ = grant.end_access().map_err(fail)?.into_gfn();
    }
    Ok(())
}

fn forget_pages(pages: Vec<Page>) {
    for page in pages {
        let _ = page.into_gfn();
    }
}

/// The references of a run that was ended serve the next one.
fn runs_come_back_and_do_not_grow_the_table(bed: &Bed) -> Result<(), NotPassed> {
    let page = bed.page()?;
    let before = bed.us.stats().frames;
    for round in 0..2000 {
        let pages = (0..16).map(|_| alias(&page)).collect();
        let grants = bed.us.grant_run::<ReadOnly>(pages, bed.their_id).map_err(fail)?;
        let first = grants[0].gref().0;
        check!(grants.iter().zip(first..).all(|(grant, number)| grant.gref().0 == number), "round {round}");
        forget(grants)?;
    }
    check!(bed.us.stats().frames <= before + 1, "{} frames, {before} before", bed.us.stats().frames);
    bed.nothing_lost()
}

fn nothing_at_once_is_no_error(bed: &Bed) -> Result<(), NotPassed> {
    check!(bed.us.grant_run::<ReadOnly>(Vec::new(), bed.their_id).map_err(fail)?.is_empty());
    check!(bed.us.grant_many::<ReadOnly>(Vec::new(), bed.their_id).map_err(fail)?.is_empty());
    check_same!(bed.us.reserve(0).map_err(fail)?.free(), 0);
    check_same!(
        bed.us.unmap_all(Vec::<granite::grant::ForeignMapping<'_, ReadOnly, Hypervisor>>::new()),
        Ok(())
    );
    bed.nothing_lost()
}

fn a_run_that_cannot_be_grows_nothing(bed: &Bed) -> Result<(), NotPassed> {
    let page = bed.page()?;
    let before = bed.us.stats();
    let max = before.max_frames * bed.us.version().entries_per_frame() - 8;
    let pages = (0..=max).map(|_| alias(&page)).collect();
    let Err(failed) = bed.us.grant_run::<ReadOnly>(pages, bed.their_id) else {
        return Err(fail("too long a run"));
    };
    check_same!(failed.error, GrantError::NoRun { count: max + 1 });
    let Err(many) = bed.us.grant_many::<ReadOnly>(failed.value, bed.their_id) else {
        return Err(fail("too many"));
    };
    check!(matches!(many.error, GrantError::Exhausted { .. }), "{many}");
    check_same!(many.value.len() as u32, max + 1);
    forget_pages(many.value);
    check!(matches!(bed.us.reserve(max as usize + 1), Err(GrantError::Exhausted { .. })));
    check_same!(bed.us.stats().frames, before.frames);
    bed.nothing_lost()
}

/// What is free at the table's end counts for a run that needs another frame.
fn a_run_at_the_end_of_the_table(bed: &Bed) -> Result<(), NotPassed> {
    let page = bed.page()?;
    let per_frame = bed.us.version().entries_per_frame();
    // More than a frame, and than is free; less than the two together.
    let count = per_frame + 100;
    let before = bed.us.stats();
    let pages = (0..count).map(|_| alias(&page)).collect();
    let grants = bed.us.grant_run::<ReadOnly>(pages, bed.their_id).map_err(fail)?;
    check!(bed.us.stats().frames <= before.frames + 2, "{}", bed.us.stats());
    bed.them
        .with_mapping::<ReadOnly, _>(bed.our_id, grants[count as usize - 1].gref(), |_| ())
        .map_err(fail)?;
    forget(grants)?;
    bed.nothing_lost()
}

fn a_reserve_is_kept_and_is_a_quota(bed: &Bed) -> Result<(), NotPassed> {
    let page = bed.page()?;
    let in_use = bed.us.stats().in_use;
    let mut reserve = bed.us.reserve(3).map_err(fail)?;
    check_same!((reserve.free(), bed.us.stats().in_use), (3, in_use + 3));
    let mut grants = Vec::new();
    for _ in 0..3 {
        grants.push(reserve.grant::<ReadOnly>(alias(&page), bed.their_id).map_err(fail)?);
    }
    bed.them.with_mapping::<ReadOnly, _>(bed.our_id, grants[2].gref(), |_| ()).map_err(fail)?;
    let Err(failed) = reserve.grant::<ReadOnly>(alias(&page), bed.their_id) else {
        return Err(fail("a fourth"));
    };
    check_same!(failed.error, GrantError::Exhausted { references: 3 });
    let _ = failed.value.into_gfn();
    check_same!(bed.us.stats().in_use, in_use + 3);
    // One comes back to the reserve, one goes to the table, one stays.
    let mut end = || grants.pop().ok_or_else(|| fail("three"));
    let _ = reserve.end_access(end()?).map_err(fail)?.into_gfn();
    forget([end()?])?;
    check_same!((reserve.free(), bed.us.stats().in_use), (1, in_use + 2));
    reserve.refill(1).map_err(fail)?;
    check_same!((reserve.free(), bed.us.stats().in_use), (2, in_use + 3));
    // It keeps no more than its quota.
    let other = bed.us.grant::<ReadOnly>(alias(&page), bed.their_id).map_err(fail)?;
    for grant in [other, end()?] {
        let _ = reserve.end_access(grant).map_err(fail)?.into_gfn();
    }
    check_same!((reserve.free(), bed.us.stats().in_use), (3, in_use + 3));
    drop(reserve);
    check_same!(bed.us.stats().in_use, in_use);
    bed.nothing_lost()
}

/// What is in use stays; the rest comes back in order.
fn many_pages_in_one_go(bed: &Bed) -> Result<(), NotPassed> {
    const PAGES: usize = 200;
    let pages = (0..PAGES).map(|_| bed.page()).collect::<Result<Vec<_>, _>>()?;
    let frames: Vec<_> = pages.iter().map(|page| page.gfn()).collect();
    let mut grants = bed.us.grant_many::<ReadWrite>(pages, bed.their_id).map_err(fail)?;
    let mut numbers: Vec<_> = grants.iter().map(|grant| grant.gref()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    check_same!(numbers.len(), PAGES);
    let busy = grants[7].gref();
    let mapping = bed.them.map::<ReadWrite>(bed.our_id, busy).map_err(fail)?;
    let mut pages = Vec::new();
    bed.us.end_many(&mut grants, |page| pages.push(page));
    check_same!((grants.len(), grants[0].gref()), (1, busy));
    let without_the_eighth = frames.iter().enumerate().filter(|&(index, _)| index != 7).map(|(_, gfn)| *gfn);
    check!(pages.iter().map(|page| page.gfn()).eq(without_the_eighth));
    mapping.unmap().map_err(fail)?;
    bed.us.end_many(&mut grants, |page| pages.push(page));
    check!(grants.is_empty() && pages.len() == PAGES);
    // Those of another table stay.
    #[cfg(not(granite_guest))]
    {
        grants.push(bed.them.grant::<ReadWrite>(bed.their_page()?, bed.our_id).map_err(fail)?);
        bed.us.end_many(&mut grants, |page| pages.push(page));
        check_same!((grants.len(), pages.len()), (1, PAGES));
    }
    drop(pages);
    bed.nothing_lost()
}

/// Between a granted page and a slice, wherever it lies: on a guest also across the end of a page.
fn copies_with_any_memory(bed: &Bed) -> Result<(), NotPassed> {
    let grant = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
    let (them, gref) = (bed.their_table()?, grant.gref());
    let text: Vec<u8> = (0..4096u32).map(|i| (i * 7 + i / 256) as u8).collect();
    grant.bytes().write(0, &text).map_err(fail)?;
    // On the host only pages of the fake's are memory.
    #[cfg(not(granite_guest))]
    let mut page = bed.their_page()?;
    #[cfg(not(granite_guest))]
    let memory = page.bytes_mut().as_mut_slice();
    #[cfg(granite_guest)]
    let mut memory = alloc::vec![0u8; 3 * 4096];
    let longest = memory.len().min(4096);
    for (offset, len) in [(0, 0), (0, longest), (4095, 1), (17, 1000), (1, longest - 1)] {
        memory.fill(0);
        // In a guest from the last byte of a page on, so that it crosses.
        let start = if cfg!(granite_guest) { 4095 - memory.as_ptr() as usize % 4096 } else { 0 };
        let into = &mut memory[start..start + len];
        them.copy_from(bed.our_id, gref, offset, into).map_err(fail)?;
        check!(*into == text[offset..offset + len], "{len} bytes from {offset}");
        check!(memory[start + len..].iter().all(|&byte| byte == 0), "{len} bytes from {offset}: beyond");
    }
    memory[..5].copy_from_slice(b"there");
    them.copy_to(bed.our_id, gref, 4091, &memory[..5]).map_err(fail)?;
    let mut back = [0; 5];
    grant.bytes().read(4091, &mut back).map_err(fail)?;
    check_same!(&back, b"there");
    for (offset, len) in [(4096, 1), (1, 4096), (usize::MAX, 1)] {
        let beyond = them.copy_from(bed.our_id, gref, offset, &mut memory[..len]);
        check!(matches!(beyond, Err(GrantError::OutOfBounds(_))), "{len} bytes from {offset}: {beyond:?}");
    }
    grant.end_access().map_err(fail)?;
    bed.nothing_lost()
}

fn an_idle_vcpu_looks_into_the_quarantine(bed: &Bed) -> Result<(), NotPassed> {
    let grant = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
    let mapping = bed.them.map::<ReadWrite>(bed.our_id, grant.gref()).map_err(fail)?;
    drop(grant);
    check!(bed.us.idle().is_some(), "one is left");
    check_same!((bed.us.stats().quarantined, bed.us.quarantined_by(bed.their_id)), (1, 1));
    mapping.unmap().map_err(fail)?;
    // A guest that waits does it by itself.
    #[cfg(granite_guest)]
    granite::time::sleep(core::time::Duration::from_millis(200));
    #[cfg(not(granite_guest))]
    check!(bed.us.idle().is_none(), "none is left");
    check_same!((bed.us.stats().quarantined, bed.us.quarantined_by(bed.their_id)), (0, 0));
    bed.nothing_lost()
}

#[cfg(not(granite_guest))]
mod fake {
    use super::*;
    use core::future::Future;
    use core::pin::pin;
    use core::task::{Context, Poll, Waker};
    use granite::abi::XenErrno;
    use granite::grant::{Config, GrantTable, Version};
    use granite::hypercall::fake::{Fault, Machine};
    use granite::mm::windows::Windows;
    use std::time::Duration;

    /// Grants that the peer has mapped, dropped: all of a table's references in quarantine. Ends them when told.
    fn all_in_quarantine(bed: &Bed) -> Result<impl FnOnce(), NotPassed> {
        let stats = bed.us.stats();
        let machine = bed.fake.us.machine().clone();
        let mut grefs = Vec::new();
        for _ in 0..stats.free {
            let grant = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
            machine.pin(bed.our_id, grant.gref().0, bed.their_id, true).map_err(fail)?;
            grefs.push(grant.gref().0);
            drop(grant);
        }
        check_same!(bed.us.stats().quarantined, stats.free);
        let our_id = bed.our_id;
        Ok(move || grefs.into_iter().for_each(|gref| machine.unpin(our_id, gref, true)))
    }

    pub fn waits_while_all_are_in_quarantine(bed: &Bed) -> Result<(), NotPassed> {
        let bed = &Bed::with_frames(bed.us.version(), 1)?;
        let page = bed.page()?;
        let unmap = all_in_quarantine(bed)?;
        let mut context = Context::from_waker(Waker::noop());
        let mut waits = pin!(bed.us.grant_when_free::<ReadOnly>(page, bed.their_id));
        check!(waits.as_mut().poll(&mut context).is_pending());
        let mut several = pin!(bed.us.reserve_when_free(5));
        check!(several.as_mut().poll(&mut context).is_pending());
        unmap();
        let Poll::Ready(grant) = waits.as_mut().poll(&mut context) else { return Err(fail("it waits on")) };
        grant.map_err(fail)?.end_access().map_err(fail)?;
        let Poll::Ready(reserve) = several.as_mut().poll(&mut context) else {
            return Err(fail("it waits on"));
        };
        check_same!(reserve.map_err(fail)?.free(), 5);
        bed.nothing_lost()
    }

    pub fn growth_that_is_refused_looks_into_the_quarantine(bed: &Bed) -> Result<(), NotPassed> {
        let page = bed.page()?;
        let unmap = all_in_quarantine(bed)?;
        unmap();
        // Those that each allocation looks at would do; so first they are used up.
        let mut grants = Vec::new();
        for _ in 0..20 {
            bed.fake.us.fail(Fault::Memory(XenErrno::NOMEM));
            grants.push(bed.us.grant::<ReadOnly>(alias(&page), bed.their_id).map_err(fail)?);
            bed.fake.us.heal();
        }
        check_same!(bed.us.stats().frames, 1);
        forget(grants)?;
        bed.us.reap(u32::MAX);
        bed.nothing_lost()
    }

    /// However long Xen takes for it.
    pub fn growth_by_another_vcpu_is_waited_for(bed: &Bed) -> Result<(), NotPassed> {
        let bed = &Bed::with_frames(bed.us.version(), 2)?;
        let page = bed.page()?;
        let free = bed.us.stats().free;
        let mut grants = Vec::new();
        for _ in 0..free {
            grants.push(bed.us.grant::<ReadOnly>(alias(&page), bed.their_id).map_err(fail)?);
        }
        bed.fake.us.delay_placing(Duration::from_millis(100));
        let results = std::thread::scope(|scope| {
            let take = || bed.us.grant::<ReadOnly>(alias(&page), bed.their_id);
            let threads = [scope.spawn(take), scope.spawn(take), scope.spawn(take)];
            threads.map(|thread| thread.join())
        });
        for result in results {
            let grant = result.map_err(|_| fail("a thread has panicked"))?;
            grants.push(grant.map_err(|failed| fail(failed.error))?);
        }
        check_same!(bed.us.stats().frames, 2);
        forget(grants)?;
        bed.nothing_lost()
    }

    pub fn a_set_up_that_fails_loses_no_window(bed: &Bed) -> Result<(), NotPassed> {
        let version = bed.us.version();
        let machine = Machine::new();
        let xen: &'static _ = Box::leak(Box::new(machine.domain()));
        let [_, range] = machine.layout(xen.dom_id());
        // SAFETY: the addresses are empty, and this domain's.
        let windows: &'static Windows = Box::leak(Box::new(unsafe { Windows::new(range) }));
        let free = windows.free();
        let config = Config { version, frames: 4, ..Config::default() };
        for frames_before in [0, 1, 4] {
            let works: Vec<_> = (0..frames_before).map(|_| Fault::MemoryWorks).collect();
            works.into_iter().for_each(|fault| xen.fail(fault));
            xen.fail(Fault::Memory(XenErrno::NOMEM));
            // SAFETY: no other is in use.
            let table = unsafe { GrantTable::new(xen, windows, config) };
            xen.heal();
            if version == Version::V1 && frames_before == 4 {
                check!(table.is_ok(), "the fault comes after the last frame");
                continue;
            }
            check_same!(table.err(), Some(GrantError::Memory(XenErrno::NOMEM)));
            check_same!((frames_before, windows.free()), (frames_before, free));
        }
        Ok(())
    }

    /// A frame of status words serves eight of entries; the last may serve fewer.
    pub fn the_last_frame_of_status_words(bed: &Bed) -> Result<(), NotPassed> {
        for frames in [1, 7, 8, 9, 12] {
            let bed = Bed::with_frames(bed.us.version(), frames)?;
            bed.us.grow_to(frames).map_err(fail)?;
            let page = bed.page()?;
            let mut grants = Vec::new();
            for _ in 0..bed.us.stats().free {
                grants.push(bed.us.grant::<ReadOnly>(alias(&page), bed.their_id).map_err(fail)?);
            }
            check_same!(grants.len() as u32, frames * bed.us.version().entries_per_frame() - 8);
            let last = grants.iter().map(|grant| grant.gref()).max().ok_or_else(|| fail("none"))?;
            let mapping = bed.them.map::<ReadOnly>(bed.our_id, last).map_err(fail)?;
            let grant = grants.iter().find(|grant| grant.gref() == last).ok_or_else(|| fail("none"))?;
            check!(!grant.in_use().is_empty());
            mapping.unmap().map_err(fail)?;
            forget(grants)?;
            bed.nothing_lost()?;
        }
        Ok(())
    }

    pub fn a_peer_that_keeps_its_pages_gets_no_more(bed: &Bed) -> Result<(), NotPassed> {
        let quota = Config::default().peer_quota;
        let bed = &Bed::with(bed.us.version(), 8, quota)?;
        let machine = bed.fake.us.machine().clone();
        let mut grefs = Vec::new();
        let refused = loop {
            match bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id) {
                Ok(grant) => {
                    machine.pin(bed.our_id, grant.gref().0, bed.their_id, true).map_err(fail)?;
                    grefs.push(grant.gref().0);
                }
                Err(failed) => break failed,
            }
        };
        check_same!(refused.error, GrantError::PeerKeepsPages { peer: bed.their_id, pages: quota });
        check_same!(grefs.len() as u32, quota);
        let refused = bed.us.grant_many::<ReadWrite>(Vec::from([refused.value]), bed.their_id);
        let Err(refused) = refused else { return Err(fail("one more")) };
        let mut reserve = bed.us.reserve(1).map_err(fail)?;
        let page = refused.value.into_iter().next().ok_or_else(|| fail("no page"))?;
        check!(matches!(
            reserve.grant::<ReadWrite>(page, bed.their_id),
            Err(failed) if matches!(failed.error, GrantError::PeerKeepsPages { .. })
        ));
        // Others are not concerned, and neither is this one when it is done.
        bed.us.grant::<ReadWrite>(bed.page()?, bed.fake.pv_id).map_err(fail)?.end_access().map_err(fail)?;
        machine.unpin(bed.our_id, grefs[0], true);
        bed.us.reap(u32::MAX);
        bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?.end_access().map_err(fail)?;
        grefs[1..].iter().for_each(|&gref| machine.unpin(bed.our_id, gref, true));
        bed.us.reap(u32::MAX);
        drop(reserve);
        bed.nothing_lost()
    }

    /// A vCPU that halts gives its cached references to the others.
    pub fn an_idle_vcpu_keeps_no_references(bed: &Bed) -> Result<(), NotPassed> {
        let bed = &Bed::with_frames(bed.us.version(), 1)?;
        let page = bed.page()?;
        let all = bed.us.stats().references;
        let ended = std::thread::scope(|scope| {
            let work = scope.spawn(|| {
                let grants: Result<Vec<_>, _> =
                    (0..100).map(|_| bed.us.grant::<ReadOnly>(alias(&page), bed.their_id)).collect();
                let ended = grants.map_err(fail).and_then(forget);
                bed.us.idle();
                ended
            });
            work.join().map_err(|_| fail("a thread has panicked"))
        });
        ended??;
        let mut grants = Vec::new();
        for _ in 0..all {
            grants.push(bed.us.grant::<ReadOnly>(alias(&page), bed.their_id).map_err(fail)?);
        }
        forget(grants)?;
        bed.nothing_lost()
    }
}

#[cfg(not(granite_guest))]
use fake::{
    a_peer_that_keeps_its_pages_gets_no_more, a_set_up_that_fails_loses_no_window,
    an_idle_vcpu_keeps_no_references, growth_by_another_vcpu_is_waited_for,
    growth_that_is_refused_looks_into_the_quarantine, the_last_frame_of_status_words,
    waits_while_all_are_in_quarantine,
};
