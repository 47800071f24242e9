//! Windows: addresses that are no RAM, for pages that are not ours: Xen's, and other domains'.
//!
//! All of them are mapped in the page tables from the start, at their physical addresses, and empty as
//! memory until something is placed there. A window is given back when it is empty again; one that is dropped
//! is never used again, because to place a page over another domain's page is the end of this one.

use core::fmt;
use core::ops::Range;

use alloc::vec::Vec;

use super::frames::Frames;
use super::ram::Ram;
use crate::abi::Gfn;
use crate::sync::IrqMutex;

/// Consecutive pages of addresses, empty, and nobody else's.
#[must_use = "a window that is dropped is never used again"]
#[derive(PartialEq, Eq, Debug)]
pub struct Window {
    first: Gfn,
    pages: usize,
}

impl Window {
    /// The first frame.
    pub fn first(&self) -> Gfn {
        self.first
    }

    /// How many pages it has.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// The frame of one of its pages.
    pub fn gfn(&self, page: usize) -> Gfn {
        Gfn(self.first.0 + page as u64)
    }

    /// The window of one page that is at this frame.
    ///
    /// # Safety
    ///
    /// It was taken, and whoever took it has no use of it any more.
    pub unsafe fn from_gfn(first: Gfn) -> Self {
        Self { first, pages: 1 }
    }

    /// Splits it into pages.
    pub fn into_pages(self) -> impl ExactSizeIterator<Item = Window> {
        (0..self.pages).map(move |page| Window { first: self.gfn(page), pages: 1 })
    }
}

/// No window of that size is free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoWindow {
    /// How many pages were wanted.
    pub pages: usize,
}

impl fmt::Display for NoWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no {} consecutive pages of addresses are free", self.pages)
    }
}

impl core::error::Error for NoWindow {}

/// Hands out windows.
pub struct Windows {
    // The same job as for RAM: whole pages, singly or in runs.
    frames: IrqMutex<Frames>,
    range: Range<u64>,
}

impl Windows {
    /// Windows of these addresses, whole pages. `None` without memory for the bookkeeping.
    ///
    /// # Safety
    ///
    /// They are no RAM and nobody else's, nothing is placed there, and they are mapped at their physical
    /// addresses, or will be before a window is used.
    pub unsafe fn try_new(range: Range<u64>) -> Option<Self> {
        let addresses = Ram::new([(range.start, range.end - range.start)].into_iter(), core::iter::empty());
        let words = Frames::words_for(&addresses);
        let mut bitmap = Vec::new();
        bitmap.try_reserve_exact(words).ok()?;
        bitmap.resize(words, 0);
        // SAFETY: the caller's word.
        Some(Self { frames: IrqMutex::new(unsafe { Frames::new(&addresses, bitmap.leak()) }), range })
    }

    /// The same, for who has memory.
    ///
    /// # Safety
    ///
    /// As [`try_new`](Self::try_new).
    ///
    /// # Panics
    ///
    /// If the host has no memory for it.
    #[cfg(not(granite_guest))]
    #[allow(clippy::expect_used, reason = "for tests alone")]
    pub unsafe fn new(range: Range<u64>) -> Self {
        // SAFETY: the caller's word.
        unsafe { Self::try_new(range) }.expect("memory for windows")
    }

    /// Takes consecutive pages.
    ///
    /// # Errors
    ///
    /// [`NoWindow`], also for no pages.
    pub fn take(&self, pages: usize) -> Result<Window, NoWindow> {
        let first = self.frames.with(|frames| frames.allocate_run(pages)).ok_or(NoWindow { pages })?;
        Ok(Window { first, pages })
    }

    /// Takes a window back.
    ///
    /// # Safety
    ///
    /// It is of these addresses, and empty: nothing is placed there any more.
    pub unsafe fn give_back(&self, window: Window) {
        self.frames.with(|frames| {
            for page in 0..window.pages {
                // SAFETY: the window was taken here, and the caller is done with it.
                let released = unsafe { frames.release(window.gfn(page)) };
                debug_assert!(released.is_ok(), "{released:?}");
            }
        });
    }

    /// Pages that are free.
    pub fn free(&self) -> usize {
        self.frames.with(|frames| frames.free())
    }

    /// The addresses.
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
/// Windows begin here or above: below lie devices.
const LOWEST: u64 = 4 << 30;

/// A place for windows below `limit`: the lowest that is free of `taken`, all that the memory map names, in
/// whatever order.
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
        // SAFETY: nobody uses the addresses.
        let windows = unsafe { Windows::new(0x1_0000_0000..0x1_0000_8000) };
        let first = windows.take(3).unwrap();
        let second = windows.take(5).unwrap();
        assert_eq!(first.first().address(), 0x1_0000_0000);
        assert_eq!(second.gfn(4).address(), 0x1_0000_7000);
        assert_eq!(windows.take(1), Err(NoWindow { pages: 1 }));
        assert_eq!(windows.take(0), Err(NoWindow { pages: 0 }));
        // SAFETY: nothing was placed there.
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
