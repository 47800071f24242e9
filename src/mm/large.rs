//! Large objects: pages of their own, large ones where they fit, mapped at addresses that are never used again. They
//! are mapped and unmapped some pages at a time, with interrupts as they were in between.
//!
//! That an address is never used again is why no other vCPU has to be told of what is unmapped: what it may remember of
//! the address nobody asks for. There are 2^44 bytes of them, and the least that is taken is 2 MiB: after eight million
//! large objects allocation fails.

use core::alloc::Layout;
use core::ptr;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::Memory;
use super::frames::LARGE_FRAMES;
use crate::abi::PAGE_SIZE;

/// What is large, in bytes.
const LARGE: usize = LARGE_PAGE as usize;
const LARGE_PAGE: u64 = LARGE_FRAMES as u64 * PAGE_SIZE;
/// The addresses: above the heap's, below the stacks'.
const FIRST: u64 = 5 << 44;
const END: u64 = 6 << 44;
/// Pages that are mapped at once.
const AT_ONCE: u64 = 32;

static NEXT: AtomicU64 = AtomicU64::new(FIRST);
static USED: AtomicUsize = AtomicUsize::new(0);

/// Whether an object is large.
pub fn is_large(layout: Layout) -> bool {
    layout.size() >= LARGE
}

/// Bytes of large objects that there are, in whole pages.
pub fn used() -> usize {
    USED.load(Ordering::Relaxed)
}

fn pages_of(layout: Layout) -> u64 {
    (layout.size() as u64).div_ceil(PAGE_SIZE)
}

/// Allocates an object; null without memory for it, or for one that is to be aligned to more than 1 GiB.
pub fn allocate(layout: Layout) -> *mut u8 {
    const MOST: u64 = 1 << 30;
    let (bytes, align) = (pages_of(layout) * PAGE_SIZE, (layout.align() as u64).max(LARGE_PAGE));
    if bytes > END - FIRST || align > MOST || !is_enough(bytes) {
        return ptr::null_mut();
    }
    // As much as it may take up with its alignment, and a page that stays empty.
    let room = (bytes + align).next_multiple_of(LARGE_PAGE);
    // Relaxed: the addresses are handed out, and nothing else.
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
/// [`allocate`] gave it, for this layout, and nobody uses it any more.
pub unsafe fn free(memory: *mut u8, layout: Layout) {
    let (start, bytes) = (memory as u64, pages_of(layout) * PAGE_SIZE);
    unmap(start, start + bytes);
    USED.fetch_sub(bytes as usize, Ordering::Relaxed);
}

/// Whether so much is free, with the page tables for it: what can't be met should not be begun.
fn is_enough(bytes: u64) -> bool {
    let (pages, tables) = ((bytes / PAGE_SIZE) as usize, bytes / LARGE_PAGE + 8);
    super::memory()
        .is_some_and(|memory| memory.with(|Memory { frames, .. }| frames.free() > pages + tables as usize))
}

/// Maps a large page, or some small ones, from `at` on. Returns how many bytes those are.
fn map_some(at: u64, end: u64) -> Option<u64> {
    super::memory()?.with(|Memory { frames, tables }| {
        if at.is_multiple_of(LARGE_PAGE)
            && end - at >= LARGE_PAGE
            && let Some(first) = frames.allocate_large()
        {
            // SAFETY: the frames were just allocated, and the address is this object's alone.
            if unsafe { tables.map_large_page(at, first, frames) }.is_ok() {
                return Some(LARGE_PAGE);
            }
            for frame in 0..LARGE_FRAMES as u64 {
                // SAFETY: it was allocated above, and nothing came to use it.
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

/// Unmaps all pages from `at` to `end`, which nobody uses any more, and frees their frames.
fn unmap(mut at: u64, end: u64) {
    let Some(memory) = super::memory() else { return };
    while at < end {
        at = memory.with(|Memory { frames, tables }| {
            let some = end.min(at + AT_ONCE * PAGE_SIZE);
            let mut next = at;
            while next < some {
                // SAFETY: nobody uses the object any more; the frames are those that it was given.
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
