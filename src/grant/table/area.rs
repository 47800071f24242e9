//! Frames of Xen, placed in a window of ours: those of the entries, or those of the status words.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, Ordering};

use super::GrantError;
use crate::abi::memory::MapSpace;
use crate::hypercall::{Hypercall, memory};
use crate::mm::windows::{Window, Windows};

/// No frame is placed there.
const EMPTY: u8 = 0;
/// A vCPU is placing the frame.
const PLACING: u8 = 1;
/// The frame is there.
const PLACED: u8 = 2;

/// A window for frames of one kind, and the state of each frame.
pub(super) struct Area {
    window: Window,
    states: Box<[AtomicU8]>,
    /// Combined with each index: [`MAP_INDEX_STATUS`](crate::abi::memory::MAP_INDEX_STATUS) or 0.
    kind: u64,
}

impl Area {
    /// Takes a window for this number of frames, without placing them.
    pub fn new(windows: &Windows, frames: u32, kind: u64) -> Result<Self, GrantError> {
        let mut states = Vec::new();
        states.try_reserve_exact(frames as usize).map_err(|_| GrantError::OutOfMemory)?;
        states.extend((0..frames).map(|_| AtomicU8::new(EMPTY)));
        Ok(Self { window: windows.take(frames as usize)?, states: states.into_boxed_slice(), kind })
    }

    /// Returns the address of the first frame.
    pub fn address(&self) -> u64 {
        self.window.first().address()
    }

    /// Returns whether a frame is there.
    pub fn has(&self, index: u32) -> bool {
        // Acquire: pairs with the Release of `place`: the frame placed by Xen is there before it is used.
        self.states.get(index as usize).is_some_and(|state| state.load(Ordering::Acquire) == PLACED)
    }

    /// Places a frame. A frame already there, or being placed by another vCPU, is left alone: placing it again would
    /// take it away for a moment.
    pub fn place(&self, xen: &impl Hypercall, index: u32) -> Result<(), GrantError> {
        let Some(state) = self.states.get(index as usize) else { return Ok(()) };
        // Relaxed: it only decides which vCPU places the frame.
        if state.compare_exchange(EMPTY, PLACING, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return Ok(());
        }
        let (index, gfn) = (self.kind | u64::from(index), self.window.gfn(index as usize));
        // SAFETY: the window belongs to this area, and this page of it is still empty: the state was `EMPTY`.
        let placed = unsafe { memory::add_to_physmap(xen, MapSpace::GRANT_TABLE, index, gfn) };
        // Release: pairs with the Acquire of `has`.
        state.store(if placed.is_ok() { PLACED } else { EMPTY }, Ordering::Release);
        placed.map_err(GrantError::Memory)
    }

    /// Removes the frames and gives the window back. A page whose frame Xen doesn't remove is never used again.
    ///
    /// # Safety
    ///
    /// No one may use the frames any more.
    pub unsafe fn dismantle(self, xen: &impl Hypercall, windows: &Windows) {
        for (page, state) in self.window.into_pages().zip(&self.states) {
            let is_placed = state.load(Ordering::Relaxed) != EMPTY;
            // SAFETY: the caller guarantees it.
            if !is_placed || unsafe { memory::remove(xen, page.first()) }.is_ok() {
                // SAFETY: the page of the window was taken from these windows, and is empty.
                unsafe { windows.give_back(page) };
            }
        }
    }
}
