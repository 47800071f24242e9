//! How the table grows: frames are placed, each by one of those who want it, and then their references are handed out.

use core::sync::atomic::{AtomicU8, Ordering};

use super::version::STATUS_PER_FRAME;
use super::{GrantError, GrantTable};
use crate::abi::memory::{MAP_INDEX_STATUS, MapSpace};
use crate::grant::freelist::{OwnedRef, Run};
use crate::grant::quarantine::A_FEW;
use crate::hypercall::Hypercall;
use crate::hypercall::memory::add_to_physmap;
use crate::mm::windows::Window;

/// A frame's place is empty.
pub(super) const EMPTY: u8 = 0;
/// Somebody is placing it.
const PLACING: u8 = 1;
/// It is there.
const PLACED: u8 = 2;

impl<X: Hypercall> GrantTable<X> {
    /// Grows the table to `frames`, the highest index first, so that Xen grows it once. Any number of callers
    /// may; each frame is placed by one of them.
    ///
    /// # Errors
    ///
    /// [`GrantError::Exhausted`] beyond the largest size, [`GrantError::Memory`] if Xen refuses; the frames
    /// before stay.
    pub fn grow_to(&self, frames: u32) -> Result<(), GrantError> {
        if frames > self.max_frames {
            return Err(GrantError::Exhausted { references: self.list.stats().total });
        }
        let missing = self.frames.load(Ordering::Relaxed)..frames;
        let mut result = Ok(());
        for index in missing.rev() {
            result = result.and(self.place_with_status(index));
        }
        self.publish_frames();
        result
    }

    fn place_with_status(&self, index: u32) -> Result<(), GrantError> {
        self.place(&self.placed, &self.entries, index, 0)?;
        if let Some(window) = &self.status {
            let status = index * self.version.entries_per_frame() / STATUS_PER_FRAME;
            self.place(&self.status_placed, window, status, MAP_INDEX_STATUS)?;
        }
        Ok(())
    }

    /// Places a frame, unless it is there or somebody else is at it.
    fn place(&self, states: &[AtomicU8], window: &Window, index: u32, kind: u64) -> Result<(), GrantError> {
        let Some(state) = states.get(index as usize) else { return Ok(()) };
        // To place a frame again would take it away for a moment, so one does it.
        if state.compare_exchange(EMPTY, PLACING, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return Ok(());
        }
        let gfn = window.gfn(index as usize);
        // SAFETY: the window is the table's own, and nothing is there yet: the state was empty.
        let placed =
            unsafe { add_to_physmap(&self.xen, MapSpace::GRANT_TABLE, kind | u64::from(index), gfn) };
        // Release: pairs with the Acquire of `publish_frames`.
        state.store(if placed.is_ok() { PLACED } else { EMPTY }, Ordering::Release);
        placed.map_err(GrantError::Memory)
    }

    /// Counts the frames that are there without a gap, and hands out their references.
    fn publish_frames(&self) {
        // Acquire: pairs with the Release of `place`: the frame is there before its references are.
        let there = |states: &[AtomicU8], index: u32| {
            states.get(index as usize).is_some_and(|state| state.load(Ordering::Acquire) == PLACED)
        };
        let per_frame = self.version.entries_per_frame();
        let ready = |&index: &u32| {
            let status = index * per_frame / STATUS_PER_FRAME;
            there(&self.placed, index) && (self.status.is_none() || there(&self.status_placed, status))
        };
        let count = (0..self.max_frames).take_while(ready).count() as u32;
        if self.frames.fetch_max(count, Ordering::Relaxed) < count {
            self.list.grow(count * per_frame);
        }
    }

    /// Takes a reference; where none is free, looks into the quarantine and grows the table first.
    #[inline]
    pub(in crate::grant) fn take(&self) -> Result<OwnedRef, GrantError> {
        if self.quarantine.count() > 0 {
            self.reap(A_FEW);
        }
        match self.list.alloc() {
            Ok(reference) => Ok(reference),
            Err(_) => self.take_growing(1, || self.list.alloc().ok()),
        }
    }

    /// Takes consecutive references: new ones, by growth, or out of those that are free.
    pub(in crate::grant) fn take_run(&self, count: u32) -> Result<Run, GrantError> {
        let fresh = || self.list.alloc_run(count).ok();
        match fresh() {
            Some(run) => Ok(run),
            None => self
                .take_growing(count, fresh)
                .or_else(|error| self.list.collect_run(count).map_err(|_| error)),
        }
    }

    /// Grows until `take` gives something. Others may take what one has grown, so it may grow more than once.
    #[cold]
    fn take_growing<T>(&self, count: u32, take: impl Fn() -> Option<T>) -> Result<T, GrantError> {
        const TRIES: usize = 1000;
        let mut more = count.div_ceil(self.version.entries_per_frame());
        for _ in 0..TRIES {
            let frames = self.frames.load(Ordering::Relaxed);
            let grown = self.grow_to(frames.saturating_add(more).min(self.max_frames));
            if let Some(taken) = take() {
                return Ok(taken);
            }
            grown?;
            if frames == self.max_frames {
                break;
            }
            // What was new was no run of the length that is wanted; more than that has to be.
            more += u32::from(self.frames.load(Ordering::Relaxed) > frames);
            core::hint::spin_loop();
        }
        self.reap(u32::MAX);
        take().ok_or(GrantError::Exhausted { references: self.list.stats().total })
    }
}
