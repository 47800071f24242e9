//! The quarantine: grants dropped while their peer used them. Page and reference wait here until the peer is done. The
//! entry records the granted page, and the freelist keeps the reference [parked](super::freelist::Freelist::park). So
//! waiting takes no memory, and there can't be more waiting grants than references. A reference may also wait without a
//! page, until the peer stops using the ring that named it
//! ([`Grant::end_access_after`](super::Grant::end_access_after)). Its entry is then invalid, and the entry's frame
//! field holds the reference of the ring's page.
//!
//! Xen sends no event when a peer is done. So each allocation, except of a run of consecutive references, first polls a
//! few grants. An allocation that finds too few free references polls all. An idle vCPU polls up to 64
//! ([`GrantTable::idle`]).

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

/// Grants polled by an allocation.
pub const A_FEW: u32 = 2;
/// Grants polled by a vCPU before it halts.
const WHEN_IDLE: u32 = 64;

/// An idle vCPU's first interval between polls, in milliseconds. It doubles, up to `LATE`, each time no grant came
/// free.
const SOON: u32 = 10;
const LATE: u32 = 100;

/// The state of the quarantine. The freelist holds the parked references.
pub struct Quarantine {
    count: AtomicU32,
    /// The interval until the next poll, in milliseconds.
    next_look: AtomicU32,
}

impl Quarantine {
    pub fn new() -> Self {
        Self { count: AtomicU32::new(0), next_look: AtomicU32::new(SOON) }
    }

    /// Returns the number of waiting references.
    #[inline]
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }
}

impl<X: Hypercall> GrantTable<X> {
    /// Puts a reference into the quarantine, with the page if its entry grants one. The caller forgets the page.
    pub(super) fn quarantine(&self, reference: OwnedRef) {
        self.quarantine.count.fetch_add(1, Ordering::Relaxed);
        self.quarantine.next_look.store(SOON, Ordering::Relaxed);
        // It can't belong to another list: a table's references stay with the table.
        let _ = self.list.park(reference);
    }

    /// Polls up to `max` grants in quarantine, and frees page and reference of those whose peer is done. Returns the
    /// number of references freed.
    pub fn reap(&self, max: u32) -> u32 {
        let mut freed = 0;
        // No more than there are now: a later call looks at those added meanwhile.
        for _ in 0..max.min(self.quarantine.count()) {
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

    /// Does a vCPU's work for the table before it halts: gives back its cached references, and polls some grants in
    /// quarantine. Returns the interval until the next poll if grants are left there.
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

    /// Returns how many references in quarantine wait for `peer`, with their page or without.
    pub fn quarantined_by(&self, peer: DomId) -> u32 {
        let waits_for = |gref: GrantRef| {
            let entry = self.entry_of(gref);
            let waits_alone = entry.flags().entry_type() == EntryFlags::INVALID;
            let ring = GrantRef(entry.frame().0 as u32);
            let entry = if waits_alone && self.has(ring) { self.entry_of(ring) } else { entry };
            entry.domain()
        };
        self.list.parked().filter(|&gref| waits_for(gref) == peer).count() as u32
    }

    /// Refuses a peer that has reached its quota in quarantine.
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

    /// Ends the grant of an entry and frees the page, if the peer is done. Returns whether the peer is done.
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
        // SAFETY: the entry granted a page, left to the quarantine by its owner; the access has ended, so no one uses
        // it.
        drop(unsafe { Page::from_gfn(frame) });
        true
    }
}
