//! Grants that were dropped while their peer used them. Page and reference wait here until it is done: by
//! the entry itself, which says what was granted, and by the reference's own word in the freelist, so that
//! waiting takes no memory, and no more can wait than there are references. A reference may also wait alone, for the
//! end of another's use: then its entry grants nothing, and says which.

use core::sync::atomic::{AtomicU32, Ordering};

use super::freelist::{Lot, OwnedRef};
use super::table::GrantTable;
use super::transfer;
use crate::abi::grant::{EntryFlags, GrantRef};
use crate::hypercall::Hypercall;
use crate::mm::Page;

/// How many each allocation looks at.
pub const A_FEW: u32 = 2;

/// The references that wait, in two lots: those to look at, and those that were looked at in this round.
pub struct Quarantine {
    count: AtomicU32,
    waiting: Lot,
    looked_at: Lot,
}

impl Quarantine {
    pub fn new() -> Self {
        Self { count: AtomicU32::new(0), waiting: Lot::default(), looked_at: Lot::default() }
    }

    /// How many wait.
    #[inline]
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }
}

impl<X: Hypercall> GrantTable<X> {
    /// Leaves a reference, and the page that its entry grants if it does, to the quarantine. The caller forgets the page.
    pub(super) fn quarantine(&self, reference: OwnedRef) {
        self.quarantine.count.fetch_add(1, Ordering::Relaxed);
        self.park(reference);
    }

    fn park(&self, reference: OwnedRef) {
        // It can't be of another list: references of a table stay with it.
        let _ = self.list.park(&self.quarantine.looked_at, reference);
    }

    /// Looks at up to `most` grants in quarantine, and frees page and reference of those whose peer is done.
    /// Tells how many those were. Every allocation looks at a few.
    pub fn reap(&self, most: u32) -> u32 {
        let mut freed = 0;
        // No more than there are now: what others put there meanwhile is looked at the next time.
        for _ in 0..most.min(self.quarantine.count()) {
            let Some(reference) = self.next_to_look_at() else { break };
            if self.release(&reference) {
                self.quarantine.count.fetch_sub(1, Ordering::Relaxed);
                self.give_back(reference);
                freed += 1;
            } else {
                self.park(reference);
            }
        }
        freed
    }

    fn next_to_look_at(&self) -> Option<OwnedRef> {
        let Quarantine { waiting, looked_at, .. } = &self.quarantine;
        self.list.unpark(waiting).or_else(|| {
            // A new round, in which each is looked at once.
            self.list.move_parked(looked_at, waiting);
            self.list.unpark(waiting)
        })
    }

    /// Ends what an entry grants and frees the page, if the peer is done.
    fn release(&self, reference: &OwnedRef) -> bool {
        let entry = self.entry(reference);
        if entry.flags().entry_type() == EntryFlags::ACCEPT_TRANSFER {
            return transfer::release(self, entry);
        }
        let frame = entry.frame();
        if entry.flags().entry_type() == EntryFlags::INVALID {
            return !self.is_used(GrantRef(frame.0 as u32));
        }
        if entry.end_access().is_err() {
            return false;
        }
        // SAFETY: the entry granted a page whose owner left it to the quarantine; nobody uses it any more.
        drop(unsafe { Page::from_gfn(frame) });
        true
    }
}
