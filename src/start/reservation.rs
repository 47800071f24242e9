//! Memory listed in the map but missing from the domain. A domain started with less memory than its maximum (`maxmem`
//! above `memory`, the usual case in Qubes) gets each page when it first uses it. Xen ends the domain, without a
//! message, when it uses more than it has. The domain therefore gives up the rest before it uses any.

use core::ops::Range;

use crate::abi::{Gfn, PAGE_SIZE};
use crate::hypercall::{Hypercall, memory};
use crate::mm::ram::Ram;

/// Pages counted by Xen as the domain's but not listed as RAM in the map: the start info's neighbours, the console's,
/// the store's. There are a dozen; this is more.
const SPECIAL: u64 = 64;
/// The number of frames in a large page.
const LARGE: u64 = 512;
const BATCH: usize = 64;

/// Gives up the memory that the domain doesn't have, and returns the remaining RAM. `kept` is in use already.
///
/// # Safety
///
/// No RAM outside `kept` may be in use.
pub unsafe fn give_up_the_rest(
    xen: &impl Hypercall,
    ram: Ram,
    kept: impl Iterator<Item = Range<u64>> + Clone,
) -> Ram {
    // A Xen that refuses this call has no such domains.
    let Ok(has) = memory::current_reservation(xen) else { return ram };
    let named = ram.bytes() / PAGE_SIZE;
    if has >= named {
        return ram;
    }
    let mut left = ram.clone();
    for range in what_to_give_up(&ram, named - has + SPECIAL, kept) {
        log::debug!("giving up {:#x}..{:#x}", range.start, range.end);
        // SAFETY: the caller guarantees that it isn't in use, and from here on it is no longer our RAM.
        unsafe { give_up(xen, range.clone()) };
        left.remove(range);
    }
    left
}

/// Returns the highest `pages` pages, or as many as there are, above the kept part of each range.
fn what_to_give_up(
    ram: &Ram,
    pages: u64,
    kept: impl Iterator<Item = Range<u64>> + Clone,
) -> impl Iterator<Item = Range<u64>> {
    let mut missing = pages;
    ram.ranges.iter().rev().filter_map(move |range| {
        let inside = kept.clone().filter(|kept| kept.start < range.end && kept.end > range.start);
        let lowest = inside.map(|kept| kept.end.next_multiple_of(PAGE_SIZE)).max().unwrap_or(range.start);
        let free = range.end.saturating_sub(lowest.max(range.start)) / PAGE_SIZE;
        let some = missing.min(free);
        missing -= some;
        (some > 0).then(|| range.end - some * PAGE_SIZE..range.end)
    })
}

/// # Safety
///
/// The range must not be in use.
unsafe fn give_up(xen: &impl Hypercall, range: Range<u64>) {
    let (mut next, end) = (range.start / PAGE_SIZE, range.end / PAGE_SIZE);
    while next < end {
        let is_large = next.is_multiple_of(LARGE) && end - next >= LARGE;
        let (order, size) = if is_large { (9, LARGE) } else { (0, 1) };
        // Pages of one size, up to where the other size begins.
        let until =
            if is_large { end - end % LARGE } else { end.min(next.next_multiple_of(LARGE).max(next + 1)) };
        let some: heapless::Vec<Gfn, BATCH> =
            (next..until).step_by(size as usize).take(BATCH).map(Gfn).collect();
        // SAFETY: guaranteed by the caller.
        let done = unsafe { memory::give_up(xen, &some, order) };
        // Pages refused by Xen are skipped: they stay unused, too.
        next += done.unwrap_or(0).clamp(1, some.len() as u64) * size;
    }
}

#[cfg(test)]
mod tests {
    use super::{SPECIAL, give_up_the_rest, what_to_give_up};
    use crate::abi::memory::{CURRENT_RESERVATION, DECREASE_RESERVATION, Reservation};
    use crate::abi::{DomId, PAGE_SIZE, XenErrno};
    use crate::hypercall::{Hypercall, Number};
    use crate::mm::ram::Ram;
    use crate::sync::{HostThread, Vcpu};
    use core::cell::RefCell;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    fn ram(ranges: &[(u64, u64)]) -> Ram {
        let bytes = |&(first, count): &(u64, u64)| (first * PAGE_SIZE, count * PAGE_SIZE);
        Ram::new(ranges.iter().map(bytes), core::iter::empty())
    }

    #[test]
    fn the_highest_pages_go_and_what_is_kept_stays() {
        let ram = ram(&[(1, 100), (1000, 50), (2000, 10)]);
        let pages = |count, kept: &[(u64, u64)]| {
            let kept = kept.iter().map(|&(first, end)| first * PAGE_SIZE..end * PAGE_SIZE - 1);
            let given = what_to_give_up(&ram, count, kept);
            given.map(|range| (range.start / PAGE_SIZE, range.end / PAGE_SIZE)).collect::<Vec<_>>()
        };
        assert_eq!(pages(10, &[]), [(2000, 2010)]);
        assert_eq!(pages(12, &[]), [(2000, 2010), (1048, 1050)]);
        assert_eq!(pages(12, &[(2000, 2005)]), [(2005, 2010), (1043, 1050)]);
        assert_eq!(pages(1000, &[(50, 60), (1049, 1050)]), [(2000, 2010), (60, 101)]);
        assert_eq!(pages(0, &[]), []);
    }

    /// A fake Xen that has given the domain this many pages.
    struct Has(u64, RefCell<BTreeSet<u64>>);

    // SAFETY: each thread has its own number.
    unsafe impl Vcpu for Has {
        fn index(&self) -> usize {
            HostThread.index()
        }

        fn masked<R>(&self, run: impl FnOnce() -> R) -> R {
            run()
        }
    }

    // SAFETY: it reads each call's argument as the structure it is.
    unsafe impl Hypercall for Has {
        fn domain(&self) -> DomId {
            DomId(1)
        }

        unsafe fn call(&self, _: Number, arguments: [u64; 5]) -> Result<u64, XenErrno> {
            match arguments[0] as u32 {
                CURRENT_RESERVATION => Ok(self.0),
                DECREASE_RESERVATION => {
                    // SAFETY: it is the argument of this call.
                    let request = unsafe { &*(arguments[1] as *const Reservation) };
                    for index in 0..request.nr_extents {
                        // SAFETY: the list has `nr_extents` frames.
                        let first = unsafe { *(request.extent_start as *const u64).add(index as usize) };
                        let size = 1 << request.extent_order;
                        assert!(first.is_multiple_of(size));
                        let pages = first..first + size;
                        assert!(pages.into_iter().all(|page| self.1.borrow_mut().insert(page)), "twice");
                    }
                    Ok(request.nr_extents)
                }
                _ => Err(XenErrno::NOSYS),
            }
        }
    }

    #[test]
    fn what_is_not_there_is_given_up_and_no_ram() {
        let all = ram(&[(1, 159), (256, 16_128)]);
        let none = core::iter::empty();
        let (whole, half) = (Has(16_287, RefCell::default()), Has(8_192, RefCell::default()));
        // SAFETY: the ranges are no real memory.
        let left = unsafe { give_up_the_rest(&whole, all.clone(), none.clone()) };
        assert_eq!((left.bytes(), whole.1.borrow().len()), (all.bytes(), 0));
        // SAFETY: as above.
        let left = unsafe { give_up_the_rest(&half, all.clone(), none) };
        let given = 16_287 - 8_192 + SPECIAL;
        assert_eq!(left.bytes(), all.bytes() - given * PAGE_SIZE);
        assert!(half.1.borrow().iter().copied().eq(16_384 - given..16_384));
    }
}
