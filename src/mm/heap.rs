//! The heap: `linked_list_allocator` in a window of addresses of its own, which grows a piece at a time out
//! of the frame allocator.

use core::alloc::{GlobalAlloc, Layout};
use core::fmt;
use core::ptr::{self, NonNull};

use linked_list_allocator::Heap as List;

use super::Memory;
use crate::abi::PAGE_SIZE;
use crate::sync::IrqMutex;

/// Where the window begins: above any RAM, so that nothing else is ever mapped there.
pub const WINDOW: u64 = super::ram::LIMIT;
/// The heap grows by this much, or more where one allocation needs it.
const STEP: usize = 64 << 10;
/// What the list may spend on one allocation beside the bytes themselves.
const OVERHEAD: usize = 4 * size_of::<usize>();

/// Where a heap's memory comes from.
///
/// # Safety
///
/// Memory that is given is valid, writable, and nobody else's, and stays so.
pub unsafe trait Supply {
    /// Gives `bytes` more, rounded up to pages, right behind all that it gave before, and returns them.
    /// Where there isn't so much, it gives none: a request that can't be met must not use up what others
    /// could have.
    fn extend(&mut self, bytes: usize) -> (*mut u8, usize);
}

/// A heap over some supply of memory.
pub struct Heap<S> {
    state: IrqMutex<State<S>>,
}

struct State<S> {
    list: List,
    supply: S,
}

/// How much of a heap is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    /// Bytes allocated.
    pub used: usize,
    /// Bytes that the heap has grown to.
    pub size: usize,
}

impl<S: Supply> Heap<S> {
    /// An empty heap, which grows with its first allocation.
    pub const fn new(supply: S) -> Self {
        Self { state: IrqMutex::new(State { list: List::empty(), supply }) }
    }

    /// How much is in use.
    pub fn usage(&self) -> Usage {
        self.state.with(|state| Usage { used: state.list.used(), size: state.list.size() })
    }
}

impl<S: Supply> State<S> {
    fn allocate(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        if let Ok(memory) = self.list.allocate_first_fit(layout) {
            return Some(memory);
        }
        let needed = layout.size().checked_add(layout.align())?.checked_add(OVERHEAD)?;
        // In larger steps while there is plenty; near the end by what is needed and no more.
        if !self.grow(needed.max(STEP)) && !self.grow(needed) {
            return None;
        }
        self.list.allocate_first_fit(layout).ok()
    }

    fn grow(&mut self, wanted: usize) -> bool {
        let (start, bytes) = self.supply.extend(wanted);
        if bytes == 0 {
            return false;
        }
        // SAFETY: the supply's memory is ours alone, and each piece lies right behind the one before, which
        // is where the list ends. A piece is at least a page, more than the smallest that the list takes.
        unsafe { if self.list.size() == 0 { self.list.init(start, bytes) } else { self.list.extend(bytes) } }
        bytes >= wanted
    }
}

// SAFETY: the list hands out memory of the supply that fits the layout and is in no other allocation; the
// lock, which masks interrupts, keeps every vCPU and handler but one out of it.
unsafe impl<S: Supply> GlobalAlloc for Heap<S> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.state.with(|state| state.allocate(layout)).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if let Some(memory) = NonNull::new(memory) {
            // SAFETY: the caller says that `alloc` gave it, for this layout, and that it is done with it.
            self.state.with(|state| unsafe { state.list.deallocate(memory, layout) });
        }
    }
}

impl<S> fmt::Debug for Heap<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heap").finish_non_exhaustive()
    }
}

/// Frames of the domain's memory, mapped one behind the other in the window.
#[derive(Debug)]
struct Window {
    end: u64,
}

impl Window {
    /// With nothing mapped yet.
    const fn new() -> Self {
        Self { end: WINDOW }
    }
}

// SAFETY: each page is a frame just allocated, mapped at an address that only this window uses, and never
// unmapped.
unsafe impl Supply for Window {
    fn extend(&mut self, bytes: usize) -> (*mut u8, usize) {
        let nothing = (ptr::null_mut(), 0);
        let Some(memory) = super::memory() else { return nothing };
        let pages = bytes.div_ceil(PAGE_SIZE as usize);
        let start = self.end;
        memory.with(|Memory { frames, tables }| {
            if pages.saturating_add(table_frames(pages)) > frames.free() {
                return nothing;
            }
            while self.end < start + pages as u64 * PAGE_SIZE {
                let Some(frame) = frames.allocate() else { break };
                // SAFETY: the frame is ours, and the address is the window's next.
                if unsafe { tables.map_page(self.end, frame, frames) }.is_err() {
                    // SAFETY: it was allocated above, and nothing came to use it.
                    let released = unsafe { frames.release(frame) };
                    debug_assert!(released.is_ok(), "it was allocated above");
                    break;
                }
                self.end += PAGE_SIZE;
            }
            (start as *mut u8, (self.end - start) as usize)
        })
    }
}

/// Frames that mapping so many pages may take for page tables: one for 512, one more at an edge, and those
/// above.
const fn table_frames(pages: usize) -> usize {
    pages / 512 + 4
}

#[cfg_attr(granite_guest, global_allocator)]
static HEAP: Heap<Window> = Heap::new(Window::new());

/// How much of the kernel's heap is in use.
pub fn usage() -> Usage {
    HEAP.usage()
}

#[cfg(test)]
mod tests {
    use super::{Heap, Supply};
    use core::alloc::{GlobalAlloc, Layout};
    use std::vec;
    use std::vec::Vec;

    /// A block of the host's memory, given a page at a time.
    struct Block {
        memory: &'static mut [u8],
        given: usize,
    }

    // SAFETY: each byte of the leaked block is given once.
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
        Heap::new(Block { memory: vec![0; bytes].leak(), given: 0 })
    }

    #[test]
    fn it_grows_when_it_must_and_only_then() {
        let heap = heap(1 << 20);
        let layout = Layout::from_size_align(1000, 8).unwrap();
        // SAFETY: the layout isn't empty.
        let first = unsafe { heap.alloc(layout) };
        assert!(!first.is_null());
        let size = heap.usage().size;
        // SAFETY: `first` is of this heap and layout.
        unsafe { heap.dealloc(first, layout) };
        assert_eq!(heap.usage(), super::Usage { used: 0, size });

        let large = Layout::from_size_align(300 << 10, 4096).unwrap();
        // SAFETY: the layout isn't empty.
        let memory = unsafe { heap.alloc(large) };
        assert!(!memory.is_null() && memory.addr().is_multiple_of(4096));
        assert!(heap.usage().size > size);
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
                // SAFETY: each is of this heap and layout, and freed once.
                unsafe { heap.dealloc(memory, layout) };
            }
            assert_eq!(heap.usage().used, 0);
        }
    }
}
