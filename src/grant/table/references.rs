//! Taking references: from the list, by growing the table, and out of the quarantine.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::version::STATUS_PER_FRAME;
use super::{GrantError, GrantTable};
use crate::abi::DomId;
use crate::abi::grant::GrantRef;
use crate::grant::freelist::{OwnedRef, RefRange};
use crate::grant::quarantine::A_FEW;
use crate::hypercall::Hypercall;
use crate::sync::this_vcpu;
use crate::time::pause;

impl<X: Hypercall> GrantTable<X> {
    /// Takes a reference for a grant to `peer`.
    #[inline]
    pub(in crate::grant) fn take(&self, peer: DomId) -> Result<OwnedRef, GrantError> {
        // The quarantine is usually empty. Then this comparison alone skips polling it and checking the quota.
        if self.quarantine.count() > 0 {
            self.look_into_the_quarantine(peer)?;
        }
        match self.list.alloc() {
            Ok(reference) => Ok(reference),
            Err(_) => self.take_growing(1, || self.list.alloc().ok()),
        }
    }

    #[cold]
    fn look_into_the_quarantine(&self, peer: DomId) -> Result<(), GrantError> {
        self.reap(A_FEW);
        self.check_quota(peer)
    }

    /// Takes `count` references, or none, and appends them to `into`.
    pub(in crate::grant) fn take_many(
        &self,
        count: usize,
        into: &mut Vec<OwnedRef>,
    ) -> Result<(), GrantError> {
        into.try_reserve_exact(count).map_err(|_| GrantError::OutOfMemory)?;
        let count = u32::try_from(count).map_err(|_| GrantError::OutOfMemory)?;
        self.reap(A_FEW);
        let mut take = || self.list.alloc_many(count, into).ok();
        match take() {
            Some(()) => Ok(()),
            None if count > self.max_references() => Err(self.exhausted()),
            None => self.take_growing(count, take),
        }
    }

    /// Takes `count` consecutive references.
    pub(in crate::grant) fn take_run(&self, count: u32) -> Result<RefRange, GrantError> {
        let take = || self.list.alloc_run(count).ok();
        if let Some(run) = take().or_else(|| (self.reap(u32::MAX) > 0).then(take)?) {
            return Ok(run);
        }
        loop {
            // Grow by the fewest frames that make the free run at the end of the table long enough.
            let frames = self.frames.load(Ordering::Relaxed);
            let missing = count.saturating_sub(self.list.free_at_the_end());
            let wanted = frames.saturating_add(missing.div_ceil(self.version.entries_per_frame()).max(1));
            if wanted > self.max_frames {
                return Err(GrantError::NoRun { count });
            }
            self.grow_to(wanted)?;
            if let Some(run) = take() {
                return Ok(run);
            }
            if !self.wait_for_growth(frames) {
                return Err(GrantError::NoRun { count });
            }
        }
    }

    /// Grows the table and calls `take`. Repeats this if other vCPUs took the new references first. If the table can't
    /// grow, polls all of the quarantine.
    #[cold]
    fn take_growing<T>(&self, count: u32, mut take: impl FnMut() -> Option<T>) -> Result<T, GrantError> {
        let more = count.div_ceil(self.version.entries_per_frame());
        let error = loop {
            let frames = self.frames.load(Ordering::Relaxed);
            if frames == self.max_frames {
                break self.exhausted();
            }
            let grown = self.grow_to(frames.saturating_add(more).min(self.max_frames));
            if let Some(taken) = take() {
                return Ok(taken);
            }
            match grown {
                Err(error) => break error,
                Ok(()) if self.wait_for_growth(frames) => {}
                Ok(()) => break self.exhausted(),
            }
        };
        self.reap(u32::MAX);
        take().ok_or(error)
    }

    /// Returns whether to try again. If the table still has only `frames` frames, another vCPU is placing the next
    /// one, so this pauses to let it run. In an interrupt handler it then returns `false`, because the handler may have
    /// interrupted that very work.
    fn wait_for_growth(&self, frames: u32) -> bool {
        if self.frames.load(Ordering::Relaxed) > frames {
            return true;
        }
        pause();
        !this_vcpu::is_handling()
    }

    /// Grows the table to `frames` frames. The highest is placed first, so that Xen enlarges its table only once. Any
    /// number of callers may do so at once; each frame is placed by one of them.
    ///
    /// # Errors
    ///
    /// [`GrantError::Exhausted`] above the maximum size, [`GrantError::OutOfMemory`] without memory for the
    /// bookkeeping, or [`GrantError::Memory`] if Xen refuses. Frames that were placed stay in place.
    pub fn grow_to(&self, frames: u32) -> Result<(), GrantError> {
        if frames > self.max_frames {
            return Err(self.exhausted());
        }
        let per_frame = self.version.entries_per_frame();
        self.list.make_room(frames * per_frame).map_err(|_| GrantError::OutOfMemory)?;
        let mut result = Ok(());
        for index in (self.frames.load(Ordering::Relaxed)..frames).rev() {
            result = result.and(self.place(index));
        }
        // The frames without a gap, from the first on.
        let count = (0..frames).take_while(|&index| self.is_placed(index)).count() as u32;
        self.frames.fetch_max(count, Ordering::Relaxed);
        result.and(self.list.grow(count * per_frame).map_err(|_| GrantError::OutOfMemory))
    }

    fn place(&self, index: u32) -> Result<(), GrantError> {
        self.entries.place(&self.xen, index)?;
        self.status.as_ref().map_or(Ok(()), |status| status.place(&self.xen, self.status_index(index)))
    }

    fn is_placed(&self, index: u32) -> bool {
        let has_status = || self.status.as_ref().is_none_or(|status| status.has(self.status_index(index)));
        self.entries.has(index) && has_status()
    }

    /// Returns the frame of status words for a frame of entries.
    fn status_index(&self, index: u32) -> u32 {
        index * self.version.entries_per_frame() / STATUS_PER_FRAME
    }

    /// Returns the number of references in a table of the maximum size, without the reserved ones.
    pub(in crate::grant) fn max_references(&self) -> u32 {
        self.max_frames * self.version.entries_per_frame() - GrantRef::FIRST_FREE.0
    }

    pub(in crate::grant) fn exhausted(&self) -> GrantError {
        GrantError::Exhausted { references: self.list.stats().total }
    }

    /// Gives a reference back.
    #[inline]
    pub(in crate::grant) fn give_back(&self, reference: OwnedRef) {
        // It can't belong to another list: a table's references stay with the table.
        let _ = self.list.free(reference);
    }
}
