//! Large objects: pages of their own, large pages where they fit, mapped at addresses that are never used again. They
//! are mapped and unmapped a few pages at a time; in between, the interrupt mask is as before.
//!
//! Because an address is never used again, no other vCPU has to be told about an unmapping: it may still cache the
//! address, but no code uses it. There are 2^44 bytes of addresses, and an object takes at least 4 MiB of them: after
//! four million large objects, allocation fails.

use core::alloc::Layout;
use core::ptr;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::Memory;
use super::frames::LARGE_FRAMES;
use crate::abi::PAGE_SIZE;

/// The minimum size of a large object, in bytes.
const LARGE: usize = LARGE_PAGE as usize;
const LARGE_PAGE: u64 = LARGE_FRAMES as u64 * PAGE_SIZE;
/// The range of addresses: above the heap's, below the stacks'.
const FIRST: u64 = 5 << 44;
const END: u64 = 6 << 44;
/// The number of pages mapped or unmapped at once.
const AT_ONCE: u64 = 32;

static NEXT: AtomicU64 = AtomicU64::new(FIRST);
static USED: AtomicUsize = AtomicUsize::new(0);

/// Returns whether an object is large: 2 MiB or more.
pub fn is_large(layout: Layout) -> bool {
    layout.size() >= LARGE
}

/// Returns the bytes in use by large objects, in whole pages.
pub fn used() -> usize {
    USED.load(Ordering::Relaxed)
}

fn pages_of(layout: Layout) -> u64 {
    (layout.size() as u64).div_ceil(PAGE_SIZE)
}

/// Allocates an object. Returns null if memory or addresses run out, or if the alignment is above 1 GiB.
pub fn allocate(layout: Layout) -> *mut u8 {
    const MOST: u64 = 1 << 30;
    let (bytes, align) = (pages_of(layout) * PAGE_SIZE, (layout.align() as u64).max(LARGE_PAGE));
    if bytes > END - FIRST || align > MOST || !is_enough(bytes) {
        return ptr::null_mut();
    }
    // Room for the object wherever its alignment puts it, and for a page that stays empty.
    let room = (bytes + align).next_multiple_of(LARGE_PAGE);
    // Relaxed: it only hands out addresses.
    let Ok(at) = NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |at| {
        at.checked_add(room).filter(|&end| end <= END)
    }) else {
        return ptr::null_mut();
    };
    let start = at.next_multiple_of(align);
    let mut end = start;
    while end < start + bytes {
        let Some(mapped) = map_some(end, start + bytes) else {
            unmap(start, end);
            return ptr::null_mut();
        };
        end += mapped;
    }
    USED.fetch_add(bytes as usize, Ordering::Relaxed);
    start as *mut u8
}

/// Frees an object.
///
/// # Safety
///
/// [`allocate`] must have returned it for this layout, and it must no longer be in use.
pub unsafe fn free(memory: *mut u8, layout: Layout) {
    let (start, bytes) = (memory as u64, pages_of(layout) * PAGE_SIZE);
    unmap(start, start + bytes);
    USED.fetch_sub(bytes as usize, Ordering::Relaxed);
}

/// Returns whether enough frames are free for `bytes` and their page tables. Otherwise the allocation doesn't begin.
fn is_enough(bytes: u64) -> bool {
    let (pages, tables) = ((bytes / PAGE_SIZE) as usize, bytes / LARGE_PAGE + 8);
    super::memory()
        .is_some_and(|memory| memory.with(|Memory { frames, .. }| frames.free() > pages + tables as usize))
}

/// Maps one large page, or some small ones, from `at` on. Returns the number of bytes mapped.
fn map_some(at: u64, end: u64) -> Option<u64> {
    super::memory()?.with(|Memory { frames, tables }| {
        if at.is_multiple_of(LARGE_PAGE)
            && end - at >= LARGE_PAGE
            && let Some(first) = frames.allocate_large()
        {
            // SAFETY: the frames were just allocated, and only this object uses the address.
            if unsafe { tables.map_large_page(at, first, frames) }.is_ok() {
                return Some(LARGE_PAGE);
            }
            for frame in 0..LARGE_FRAMES as u64 {
                // SAFETY: it was allocated above and never used.
                let released = unsafe { frames.release(crate::abi::Gfn(first.0 + frame)) };
                debug_assert!(released.is_ok(), "it was allocated above");
            }
            return None;
        }
        let mut mapped = 0;
        while mapped < AT_ONCE * PAGE_SIZE && at + mapped < end {
            let Some(frame) = frames.allocate() else { break };
            // SAFETY: as above.
            if unsafe { tables.map_page(at + mapped, frame, frames) }.is_err() {
                // SAFETY: as above.
                let released = unsafe { frames.release(frame) };
                debug_assert!(released.is_ok(), "it was allocated above");
                break;
            }
            mapped += PAGE_SIZE;
        }
        (mapped > 0).then_some(mapped)
    })
}

/// Unmaps all pages from `at` to `end` and frees their frames. The pages must no longer be in use.
fn unmap(mut at: u64, end: u64) {
    let Some(memory) = super::memory() else { return };
    while at < end {
        at = memory.with(|Memory { frames, tables }| {
            let some = end.min(at + AT_ONCE * PAGE_SIZE);
            let mut next = at;
            while next < some {
                // SAFETY: the object is no longer in use, and the frames were allocated for it.
                unsafe {
                    if let Ok(first) = tables.unmap_large_page(next) {
                        for frame in 0..LARGE_FRAMES as u64 {
                            let released = frames.release(crate::abi::Gfn(first.0 + frame));
                            debug_assert!(released.is_ok(), "{released:?}");
                        }
                        return next + LARGE_PAGE;
                    }
                    if let Ok(frame) = tables.unmap_page(next) {
                        let released = frames.release(frame);
                        debug_assert!(released.is_ok(), "{released:?}");
                    }
                }
                next += PAGE_SIZE;
            }
            next
        });
    }
}
