//! Pages of RAM with an owner.

use core::fmt;

use super::shared::SharedBytes;
use crate::abi::{Gfn, PAGE_SIZE};

/// The bytes of a page.
pub type Bytes = [u8; PAGE_SIZE as usize];

/// A page of the domain's RAM with a single owner. Dropping it frees it.
///
/// ```no_run
/// # use granite::prelude::*;
///
/// let mut page = Page::zeroed().expect("no memory for a page");
/// page.bytes_mut()[..5].copy_from_slice(b"hello");
/// assert_eq!(page.bytes()[5], 0);
/// ```
#[derive(PartialEq, Eq)]
pub struct Page {
    gfn: Gfn,
}

impl Page {
    /// Allocates a page of zeros. Returns `None` if no memory is free.
    pub fn zeroed() -> Option<Self> {
        // Always `None` on the host: pages come from the RAM of the fake Xen's domains there.
        let gfn = super::memory()?.with(|memory| memory.frames.allocate())?;
        // SAFETY: the frame was just allocated.
        let mut page = unsafe { Self::from_gfn(gfn) };
        page.bytes_mut().fill(0);
        Some(page)
    }

    /// Takes ownership of a frame.
    ///
    /// # Safety
    ///
    /// The frame must be RAM, mapped at its physical address, with no other owner. Either it came from the frame
    /// allocator, or the page must never be dropped.
    #[inline]
    pub unsafe fn from_gfn(gfn: Gfn) -> Self {
        Self { gfn }
    }

    /// Returns the frame without freeing it; the caller owns it from here on.
    #[inline]
    pub fn into_gfn(self) -> Gfn {
        core::mem::ManuallyDrop::new(self).gfn
    }

    /// Returns its frame.
    #[inline]
    pub fn gfn(&self) -> Gfn {
        self.gfn
    }

    /// Returns its contents.
    pub fn bytes(&self) -> &Bytes {
        // SAFETY: we own the page; it is RAM mapped at this address, and borrowed.
        unsafe { &*(self.gfn.address() as *const Bytes) }
    }

    /// Returns its contents, to change them.
    pub fn bytes_mut(&mut self) -> &mut Bytes {
        // SAFETY: as above, and exclusively borrowed.
        unsafe { &mut *(self.gfn.address() as *mut Bytes) }
    }

    /// Returns the page as memory that a peer may use at the same time.
    ///
    /// # Safety
    ///
    /// No reference to its bytes may be made while the view lives.
    pub unsafe fn shared(&self) -> SharedBytes<'_> {
        // SAFETY: the page stays mapped while it is borrowed, and its address is aligned.
        unsafe { SharedBytes::new(self.gfn.address() as *mut u8, PAGE_SIZE as usize) }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        release(self.gfn);
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Page({})", self.gfn)
    }
}

#[cfg(granite_guest)]
fn release(gfn: Gfn) {
    if let Some(memory) = super::memory() {
        // SAFETY: a page has one owner, and came from the allocator.
        let released = memory.with(|memory| unsafe { memory.frames.release(gfn) });
        debug_assert!(released.is_ok(), "{released:?}");
    }
}

#[cfg(not(granite_guest))]
use host::release;
#[cfg(not(granite_guest))]
pub use host::{Pool, zeroed_in};

/// On the host a page comes from the RAM of a domain of the fake Xen: a pool, identified by its addresses.
#[cfg(not(granite_guest))]
mod host {
    use core::ops::Range;
    use std::sync::{Mutex, MutexGuard, PoisonError};
    use std::vec;
    use std::vec::Vec;

    use super::Page;
    use crate::abi::Gfn;
    use crate::mm::frames::Frames;
    use crate::mm::ram::Ram;

    static POOLS: Mutex<Vec<(Range<u64>, Frames)>> = Mutex::new(Vec::new());

    fn pools() -> MutexGuard<'static, Vec<(Range<u64>, Frames)>> {
        POOLS.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<R>(address: u64, access: impl FnOnce(&mut Frames) -> R) -> Option<R> {
        let mut pools = pools();
        let (_, frames) = pools.iter_mut().find(|(range, _)| range.contains(&address))?;
        Some(access(frames))
    }

    pub(super) fn release(gfn: Gfn) {
        // SAFETY: a page has one owner, and came from the pool.
        let released = with(gfn.address(), |frames| unsafe { frames.release(gfn) });
        assert!(matches!(released, None | Some(Ok(()))), "{released:?}");
    }

    /// A range of RAM to allocate pages from.
    #[derive(Debug)]
    pub struct Pool(Range<u64>);

    impl Pool {
        /// Creates a pool of the pages at these addresses.
        ///
        /// # Safety
        ///
        /// The pages must be mapped, and have no other owner, until the pool is dropped.
        pub unsafe fn new(range: Range<u64>) -> Self {
            let ram = Ram::new([(range.start, range.end - range.start)].into_iter(), core::iter::empty());
            let bitmap = vec![0; Frames::words_for(&ram)].leak();
            // SAFETY: guaranteed by the caller.
            pools().push((range.clone(), unsafe { Frames::new(&ram, bitmap) }));
            Self(range)
        }

        /// Allocates a page of zeros. Returns `None` if none is free.
        pub fn zeroed(&self) -> Option<Page> {
            zeroed_in(&self.0)
        }

        /// Returns the number of free pages.
        pub fn free(&self) -> usize {
            with(self.0.start, |frames| frames.free()).unwrap_or(0)
        }
    }

    /// Allocates a page of zeros from the pool at these addresses. Returns `None` without such a pool or a free page.
    pub fn zeroed_in(addresses: &Range<u64>) -> Option<Page> {
        let gfn = with(addresses.start, Frames::allocate)??;
        // SAFETY: the frame was just allocated.
        let mut page = unsafe { Page::from_gfn(gfn) };
        page.bytes_mut().fill(0);
        Some(page)
    }

    impl Drop for Pool {
        fn drop(&mut self) {
            pools().retain(|(range, _)| *range != self.0);
        }
    }
}
