//! The heap. Small objects use TLSF (the crate `rlsf`), which allocates and frees in bounded time regardless of their
//! number. Its window of addresses grows piece by piece from the frame allocator. Large objects get pages of their
//! own (`mm::large`), which return to the frame allocator when the object is freed.

use core::alloc::{GlobalAlloc, Layout};
use core::fmt;
use core::ptr::{self, NonNull};

use rlsf::Tlsf;

use super::{Memory, large};
use crate::abi::PAGE_SIZE;
use crate::sync::IrqMutex;

/// The start of the window: above any RAM, so that no other mapping is ever there.
pub const WINDOW: u64 = super::ram::LIMIT;
/// The heap grows by this many bytes: by more if one allocation needs it, by less if memory is short.
const STEP: usize = 64 << 10;
/// The number of size classes, enough for a pool of any size: only then can the pool grow at its end.
const CLASSES: usize = (usize::BITS - rlsf::GRANULARITY.trailing_zeros()) as usize;
/// The number of lists in each class.
const LISTS: usize = 8;

type List = Tlsf<'static, u64, u8, CLASSES, LISTS>;

/// The source of a heap's memory.
///
/// # Safety
///
/// Supplied memory must be valid and writable, must have no other owner, and must stay so. It must begin and end at
/// multiples of a page.
pub unsafe trait Supply {
    /// Supplies `bytes` more, in whole pages, directly after all memory supplied before, and returns its start and
    /// size. If there isn't enough, it supplies none: a request it can't meet must leave the memory to others.
    fn extend(&mut self, bytes: usize) -> (*mut u8, usize);
}

/// A heap on top of a supply of memory.
pub struct Heap<S> {
    state: IrqMutex<State<S>>,
}

struct State<S> {
    list: List,
    supply: S,
    usage: Usage,
}

/// The use and the size of a heap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    /// Bytes allocated.
    pub used: usize,
    /// Bytes obtained for the heap so far.
    pub size: usize,
}

impl<S: Supply> Heap<S> {
    /// Creates an empty heap; it grows with its first allocation.
    pub const fn new(supply: S) -> Self {
        let usage = Usage { used: 0, size: 0 };
        Self { state: IrqMutex::new(State { list: List::new(), supply, usage }) }
    }

    /// Returns the heap's current usage.
    pub fn usage(&self) -> Usage {
        self.state.with(|state| state.usage)
    }
}

impl<S: Supply> State<S> {
    fn allocate(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        let memory = match self.list.allocate(layout) {
            Some(memory) => memory,
            None => {
                // The size searched for by the list, rounded up to its next list, plus its own words.
                let bytes = layout.size().checked_add(layout.align())?.checked_add(3 * rlsf::GRANULARITY)?;
                let needed = bytes.checked_add(bytes / LISTS)?;
                // Grow in larger steps while memory is plentiful, and near the end by the needed size only.
                if !self.grow(needed.max(STEP)) && !self.grow(needed) {
                    return None;
                }
                self.list.allocate(layout)?
            }
        };
        self.usage.used += layout.size();
        Some(memory)
    }

    /// # Safety
    ///
    /// `memory` must come from `allocate` with this layout, and must no longer be in use.
    unsafe fn deallocate(&mut self, memory: NonNull<u8>, layout: Layout) {
        // SAFETY: guaranteed by the caller.
        unsafe { self.list.deallocate(memory, layout.align()) };
        self.usage.used -= layout.size();
    }

    fn grow(&mut self, wanted: usize) -> bool {
        let (start, bytes) = self.supply.extend(wanted);
        let Some(piece) = NonNull::new(ptr::slice_from_raw_parts_mut(start, bytes)).filter(|_| bytes != 0)
        else {
            return false;
        };
        // SAFETY: the supply's memory is ours alone, and each piece lies directly after the one before, at the end of
        // the pool. A piece is at least a page, more than the smallest size accepted by the list.
        unsafe {
            if self.usage.size == 0 {
                let _ = self.list.insert_free_block_ptr(piece); // how much of it is used
            } else {
                let _ = self.list.append_free_block_ptr(piece);
            }
        }
        self.usage.size += bytes;
        bytes >= wanted
    }
}

// SAFETY: the list hands out memory of the supply that fits the layout and is in no other allocation. The lock masks
// interrupts and lets in one vCPU or handler at a time.
unsafe impl<S: Supply> GlobalAlloc for Heap<S> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.state.with(|state| state.allocate(layout)).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if let Some(memory) = NonNull::new(memory) {
            // SAFETY: the caller guarantees that `alloc` returned it for this layout, and no longer uses it.
            self.state.with(|state| unsafe { state.deallocate(memory, layout) });
        }
    }
}

impl<S> fmt::Debug for Heap<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heap").finish_non_exhaustive()
    }
}

/// The window: frames of the domain's memory, mapped one after another.
#[derive(Debug)]
struct Window {
    /// Bytes mapped from its start on. A heap made of zeros takes no space in the image.
    mapped: u64,
}

impl Window {
    /// Creates a window without any mapping yet.
    const fn new() -> Self {
        Self { mapped: 0 }
    }
}

// SAFETY: each page is a newly allocated frame, mapped at an address used only by this window, and never unmapped.
unsafe impl Supply for Window {
    fn extend(&mut self, bytes: usize) -> (*mut u8, usize) {
        let nothing = (ptr::null_mut(), 0);
        let Some(memory) = super::memory() else { return nothing };
        let pages = bytes.div_ceil(PAGE_SIZE as usize);
        let start = WINDOW + self.mapped;
        memory.with(|Memory { frames, tables }| {
            if !has_room(pages, frames.free()) {
                return nothing;
            }
            let end = start + pages as u64 * PAGE_SIZE;
            let mut next = start;
            // SAFETY: this is the window's next address.
            while next < end && unsafe { tables.map_new_page(next, frames) }.is_ok() {
                next += PAGE_SIZE;
            }
            self.mapped += next - start;
            (start as *mut u8, (next - start) as usize)
        })
    }
}

/// Returns whether `free` frames are enough to map `pages` pages.
fn has_room(pages: usize, free: usize) -> bool {
    pages.saturating_add(table_frames(pages)) <= free
}

/// Returns the maximum number of page-table frames needed to map `pages` pages: one per 512, one more at an edge, and
/// those of the levels above.
const fn table_frames(pages: usize) -> usize {
    pages / 512 + 4
}

/// The kernel's memory: a heap for small objects, and pages for large ones.
#[derive(Debug)]
struct Kernel {
    heap: Heap<Window>,
}

#[cfg_attr(granite_guest, global_allocator)]
static KERNEL: Kernel = Kernel { heap: Heap::new(Window::new()) };

// SAFETY: both are allocators, and the size of an allocation determines its owner.
unsafe impl GlobalAlloc for Kernel {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if large::is_large(layout) {
            return large::allocate(layout);
        }
        // SAFETY: guaranteed by the caller.
        unsafe { self.heap.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: guaranteed by the caller, for the allocator that returned the memory.
        unsafe {
            if large::is_large(layout) {
                large::free(memory, layout);
            } else {
                self.heap.dealloc(memory, layout);
            }
        }
    }
}

/// Returns the usage of the kernel's heap, large objects included.
pub fn usage() -> Usage {
    let (small, large) = (KERNEL.heap.usage(), large::used());
    Usage { used: small.used + large, size: small.size + large }
}

#[cfg(test)]
mod tests {
    use super::{Heap, Supply, has_room};
    use core::alloc::{GlobalAlloc, Layout};
    use std::vec;
    use std::vec::Vec;

    /// A block of the host's memory, supplied in whole pages.
    struct Block {
        memory: &'static mut [u8],
        given: usize,
    }

    // SAFETY: each byte of the leaked block is supplied once.
    unsafe impl Supply for Block {
        fn extend(&mut self, bytes: usize) -> (*mut u8, usize) {
            let size = bytes.div_ceil(4096).saturating_mul(4096);
            if size > self.memory.len() - self.given {
                return (core::ptr::null_mut(), 0);
            }
            let start = self.memory[self.given..].as_mut_ptr();
            self.given += size;
            (start, size)
        }
    }

    fn heap(bytes: usize) -> Heap<Block> {
        let memory = vec![0; bytes + 4096].leak();
        let first = memory.as_ptr().align_offset(4096);
        Heap::new(Block { memory: &mut memory[first..][..bytes], given: 0 })
    }

    #[test]
    fn it_grows_when_it_must_and_only_then() {
        let heap = heap(1 << 20);
        let layout = Layout::from_size_align(1000, 8).unwrap();
        // SAFETY: the layout isn't empty.
        let first = unsafe { heap.alloc(layout) };
        assert!(!first.is_null());
        let size = heap.usage().size;
        // SAFETY: `first` came from this heap with this layout.
        unsafe { heap.dealloc(first, layout) };
        assert_eq!(heap.usage(), super::Usage { used: 0, size });

        let large = Layout::from_size_align(300 << 10, 4096).unwrap();
        // SAFETY: the layout isn't empty.
        let memory = unsafe { heap.alloc(large) };
        assert!(!memory.is_null() && memory.addr().is_multiple_of(4096));
        assert!(heap.usage().size > size);
    }

    #[test]
    fn page_tables_are_counted() {
        // The page itself, a table of each level, and one more at an edge.
        for (pages, needed) in [(1, 5), (511, 515), (512, 517), (usize::MAX, usize::MAX)] {
            assert!(!has_room(pages, needed - 1), "{pages}");
            assert!(pages == usize::MAX || has_room(pages, needed), "{pages}");
        }
    }

    #[test]
    fn exhaustion_is_null_and_loses_nothing() {
        let heap = heap(1 << 20);
        let layout = Layout::from_size_align(10_000, 16).unwrap();
        for _ in 0..3 {
            // SAFETY: the layout isn't empty.
            let all: Vec<_> = core::iter::repeat_with(|| unsafe { heap.alloc(layout) })
                .take_while(|memory| !memory.is_null())
                .collect();
            assert!(all.len() > 100, "{}", all.len());
            let absurd = Layout::from_size_align(isize::MAX as usize - 4096, 4096).unwrap();
            let before = heap.usage();
            // SAFETY: the layout isn't empty.
            assert!(unsafe { heap.alloc(absurd) }.is_null());
            assert_eq!(heap.usage(), before, "what can't be met takes nothing");
            for memory in all {
                // SAFETY: each came from this heap with this layout, and is freed once.
                unsafe { heap.dealloc(memory, layout) };
            }
            assert_eq!(heap.usage().used, 0);
        }
    }
}
