//! Windows: addresses outside RAM, for pages of others: Xen's, and other domains'.
//!
//! All of them are mapped in the page tables together, at their physical addresses, with no memory behind them until
//! a page is placed there. A window is given back when it is empty again. A dropped window is never used again,
//! because placing a page over another domain's page would end this domain.

use core::fmt;
use core::ops::Range;

use alloc::vec::Vec;

use super::frames::Frames;
use super::ram::Ram;
use crate::abi::Gfn;
use crate::sync::IrqMutex;

/// Consecutive pages of addresses, empty, without another owner.
#[must_use = "a window that is dropped is never used again"]
#[derive(PartialEq, Eq, Debug)]
pub struct Window {
    first: Gfn,
    pages: usize,
}

impl Window {
    /// Returns the first frame.
    pub fn first(&self) -> Gfn {
        self.first
    }

    /// Returns the number of pages.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// Returns the frame of one of its pages, counted from 0.
    pub fn gfn(&self, page: usize) -> Gfn {
        Gfn(self.first.0 + page as u64)
    }

    /// Recreates the window of one page at this frame.
    ///
    /// # Safety
    ///
    /// The window must have been taken, and the taker must no longer use it.
    pub unsafe fn from_gfn(first: Gfn) -> Self {
        Self { first, pages: 1 }
    }

    /// Splits it into windows of one page.
    pub fn into_pages(self) -> impl ExactSizeIterator<Item = Window> {
        (0..self.pages).map(move |page| Window { first: self.gfn(page), pages: 1 })
    }
}

/// No window of the wanted size is free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoWindow {
    /// The number of pages wanted.
    pub pages: usize,
}

impl fmt::Display for NoWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no {} consecutive pages of addresses are free", self.pages)
    }
}

impl core::error::Error for NoWindow {}

/// The allocator of windows.
pub struct Windows {
    // The job is the same as for RAM: whole pages, singly or in runs.
    frames: IrqMutex<Frames>,
    range: Range<u64>,
}

impl Windows {
    /// Creates the windows of a range of whole pages. Returns `None` if there is no memory for the bookkeeping.
    ///
    /// # Safety
    ///
    /// The addresses must not be RAM, must have no other owner, and no page may be placed there yet. They must be
    /// mapped at their physical addresses before a window is used.
    pub unsafe fn try_new(range: Range<u64>) -> Option<Self> {
        let addresses = Ram::new([(range.start, range.end - range.start)].into_iter(), core::iter::empty());
        let words = Frames::words_for(&addresses);
        let mut bitmap = Vec::new();
        bitmap.try_reserve_exact(words).ok()?;
        bitmap.resize(words, 0);
        // SAFETY: guaranteed by the caller.
        Some(Self { frames: IrqMutex::new(unsafe { Frames::new(&addresses, bitmap.leak()) }), range })
    }

    /// As [`try_new`](Self::try_new), for a host with enough memory.
    ///
    /// # Safety
    ///
    /// As for [`try_new`](Self::try_new).
    ///
    /// # Panics
    ///
    /// If the host has no memory for the bookkeeping.
    #[cfg(not(granite_guest))]
    #[allow(clippy::expect_used, reason = "for tests alone")]
    pub unsafe fn new(range: Range<u64>) -> Self {
        // SAFETY: guaranteed by the caller.
        unsafe { Self::try_new(range) }.expect("memory for windows")
    }

    /// Takes a window of consecutive pages.
    ///
    /// # Errors
    ///
    /// [`NoWindow`] if no such window is free, or if `pages` is 0.
    pub fn take(&self, pages: usize) -> Result<Window, NoWindow> {
        let first = self.frames.with(|frames| frames.allocate_run(pages)).ok_or(NoWindow { pages })?;
        Ok(Window { first, pages })
    }

    /// Takes a window back.
    ///
    /// # Safety
    ///
    /// The window must come from here and be empty: no page may be placed there any more.
    pub unsafe fn give_back(&self, window: Window) {
        self.frames.with(|frames| {
            for page in 0..window.pages {
                // SAFETY: the window was taken here, and the caller no longer uses it.
                let released = unsafe { frames.release(window.gfn(page)) };
                debug_assert!(released.is_ok(), "{released:?}");
            }
        });
    }

    /// Returns the number of free pages.
    pub fn free(&self) -> usize {
        self.frames.with(|frames| frames.free())
    }

    /// Returns the range of addresses.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }
}

impl fmt::Debug for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Windows({:#x}..{:#x})", self.range.start, self.range.end)
    }
}

/// The size of the windows' address space: 1 GiB, as much as 512 large pages.
pub const SIZE: u64 = 1 << 30;
/// The lowest address of windows: devices lie below.
const LOWEST: u64 = 4 << 30;

/// Finds a place for windows below `limit`: the lowest one free of `taken`, the ranges in the memory map in any
/// order.
pub fn place(taken: impl Iterator<Item = Range<u64>> + Clone, limit: u64) -> Option<Range<u64>> {
    let overlaps = |start: u64, range: &Range<u64>| range.start < start + SIZE && start < range.end;
    let mut start = LOWEST;
    // Every step passes the end of a range, so there are no more steps than ranges.
    while start + SIZE <= limit {
        let Some(range) = taken.clone().find(|range| overlaps(start, range)) else {
            return Some(start..start + SIZE);
        };
        start = range.end.min(limit).next_multiple_of(SIZE);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{NoWindow, SIZE, Windows, place};

    #[test]
    fn windows_come_back_only_when_they_are_given_back() {
        // SAFETY: the addresses are never accessed.
        let windows = unsafe { Windows::new(0x1_0000_0000..0x1_0000_8000) };
        let first = windows.take(3).unwrap();
        let second = windows.take(5).unwrap();
        assert_eq!(first.first().address(), 0x1_0000_0000);
        assert_eq!(second.gfn(4).address(), 0x1_0000_7000);
        assert_eq!(windows.take(1), Err(NoWindow { pages: 1 }));
        assert_eq!(windows.take(0), Err(NoWindow { pages: 0 }));
        // SAFETY: no page was placed there.
        first.into_pages().for_each(|page| unsafe { windows.give_back(page) });
        drop(second);
        assert_eq!((windows.free(), windows.take(3).map(|window| window.pages())), (3, Ok(3)));
    }

    #[test]
    fn the_place_is_none_that_the_map_names() {
        let at = |taken: &[(u64, u64)]| place(taken.iter().map(|&(start, end)| start..end), 1 << 40);
        let gib = |start: u64| Some(start << 30..(start << 30) + SIZE);
        assert_eq!(at(&[]), gib(4));
        assert_eq!(at(&[(0, 0x8000_0000)]), gib(4));
        assert_eq!(at(&[(0, (4 << 30) + 1)]), gib(5));
        assert_eq!(at(&[(6 << 30, 7 << 30), (0, 5 << 30)]), gib(5));
        assert_eq!(at(&[((5 << 30) + 5, 7 << 30), (0, 5 << 30)]), gib(7));
        let below = |limit| place(core::iter::empty(), limit);
        assert_eq!((below(5 << 30), below((5 << 30) - 1)), (gib(4), None), "up to the limit and no further");
        assert_eq!(at(&[(0, u64::MAX)]), None, "a map that names everything leaves nothing");
    }
}
