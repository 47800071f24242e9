//! Grants that were dropped while their peer used them. Page and reference wait here until it is done: the entry says
//! what was granted, and the freelist keeps the reference [parked](super::freelist::Freelist::park). So waiting takes no
//! memory, and no more can wait than there are references. A reference may also wait alone, for the end of another's
//! use: then its entry grants nothing, and says which.
//!
//! Xen sends no event when a peer is done. Each allocation looks at a few grants, and so does a vCPU that has nothing to
//! do ([`GrantTable::idle`]).

use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use super::GrantError;
use super::freelist::OwnedRef;
use super::table::GrantTable;
use super::transfer;
use crate::abi::DomId;
use crate::abi::grant::{EntryFlags, GrantRef};
use crate::hypercall::Hypercall;
use crate::mm::Page;

/// How many each allocation looks at.
pub const A_FEW: u32 = 2;
/// How many a vCPU looks at before it halts.
const WHEN_IDLE: u32 = 64;

/// How soon an idle vCPU looks again, in milliseconds; then twice as long each time that nothing came free.
const SOON: u32 = 10;
const LATE: u32 = 100;

/// The references that wait.
pub struct Quarantine {
    count: AtomicU32,
    /// In how many milliseconds to look again.
    next_look: AtomicU32,
}

impl Quarantine {
    pub fn new() -> Self {
        Self { count: AtomicU32::new(0), next_look: AtomicU32::new(SOON) }
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
        self.quarantine.next_look.store(SOON, Ordering::Relaxed);
        // It can't be of another list: references of a table stay with it.
        let _ = self.list.park(reference);
    }

    /// Looks at up to `most` grants in quarantine, and frees page and reference of those whose peer is done.
    /// Tells how many those were. Every allocation looks at a few.
    pub fn reap(&self, most: u32) -> u32 {
        let mut freed = 0;
        // No more than there are now: what others put there meanwhile is looked at the next time.
        for _ in 0..most.min(self.quarantine.count()) {
            let Some(reference) = self.list.unpark() else { break };
            if self.release(&reference) {
                self.quarantine.count.fetch_sub(1, Ordering::Relaxed);
                self.give_back(reference);
                freed += 1;
            } else {
                let _ = self.list.park(reference); // as in `quarantine`
            }
        }
        freed
    }

    /// What a vCPU does for the table before it halts: gives back the references that it has cached, and looks at some
    /// grants in quarantine. Returns in how long to look again, if grants are left there.
    pub fn idle(&self) -> Option<Duration> {
        self.list.flush();
        if self.quarantine.count() == 0 {
            return None;
        }
        let look = match self.reap(WHEN_IDLE) {
            0 => self.quarantine.next_look.load(Ordering::Relaxed),
            _ => SOON,
        };
        self.quarantine.next_look.store((2 * look).min(LATE), Ordering::Relaxed);
        (self.quarantine.count() > 0).then(|| Duration::from_millis(look.into()))
    }

    /// How many pages and references of grants to `peer` are in quarantine.
    pub fn quarantined_by(&self, peer: DomId) -> u32 {
        let waits_for = |gref: GrantRef| {
            let entry = self.entry_of(gref);
            let waits_alone = entry.flags().entry_type() == EntryFlags::INVALID;
            let told_by = GrantRef(entry.frame().0 as u32);
            let entry = if waits_alone && self.has(told_by) { self.entry_of(told_by) } else { entry };
            entry.domain()
        };
        self.list.parked().filter(|&gref| waits_for(gref) == peer).count() as u32
    }

    /// Refuses a peer that keeps as much as it may.
    #[inline]
    pub(super) fn check_quota(&self, peer: DomId) -> Result<(), GrantError> {
        if self.quarantine.count() < self.peer_quota {
            return Ok(());
        }
        match self.quarantined_by(peer) {
            pages if pages < self.peer_quota => Ok(()),
            pages => Err(GrantError::PeerKeepsPages { peer, pages }),
        }
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
