//! Transfers of pages to a new owner.

use core::sync::atomic::Ordering;

use super::super::machine::{Machine, Mfn, Slot, State};
use crate::abi::grant::op::Transfer;
use crate::abi::grant::{EntryFlags, Status};
use crate::abi::{DomId, Gfn};

impl Machine {
    /// Begins a transfer into an entry, up to the moment before the page arrives.
    ///
    /// # Errors
    ///
    /// [`Status::BAD_GNTREF`] if there is no such entry, or it doesn't accept a transfer from `from`.
    pub fn commit_transfer(&self, to: DomId, gref: u32, from: DomId) -> Result<(), Status> {
        self.with(|state| {
            let words = self.words(state, to.0, gref).ok_or(Status::BAD_GNTREF)?;
            let offered = u32::from(from.0) << 16 | u32::from(EntryFlags::ACCEPT_TRANSFER.bits());
            let committed = offered | u32::from(EntryFlags::TRANSFER_COMMITTED.bits());
            let exchanged =
                words.word.compare_exchange(offered, committed, Ordering::AcqRel, Ordering::Relaxed);
            exchanged.map(drop).map_err(|_| Status::BAD_GNTREF)
        })
    }

    /// Completes a begun transfer, with a new page containing `text`.
    pub fn complete_transfer(&self, to: DomId, gref: u32, text: &[u8]) {
        self.with(|state| {
            let mfn = self.new_page(state);
            // SAFETY: the page is Xen's, and at most a page of the text is copied.
            unsafe { self.page(mfn).copy_from_nonoverlapping(text.as_ptr(), text.len().min(4096)) };
            self.deliver(state, to.0, gref, mfn);
        });
    }

    fn deliver(&self, state: &mut State, to: u16, gref: u32, mfn: Mfn) {
        let Some(words) = self.words(state, to, gref) else { return };
        let Some(domain) = state.domains.get_mut(&to) else { return };
        self.place(domain, Gfn(words.frame), Some(Slot::Ram(mfn)));
        words.word.fetch_or(EntryFlags::TRANSFER_COMPLETED.bits().into(), Ordering::Release);
    }

    pub(super) fn transfer(&self, state: &mut State, own: u16, op: Transfer) -> Status {
        let Some(domain) = state.domains.get_mut(&own) else { return Status::BAD_DOMAIN };
        let Some(Slot::Ram(mfn)) = domain.p2m.get(&op.mfn).copied() else { return Status::BAD_PAGE };
        self.place(domain, Gfn(op.mfn), None);
        let Some(words) = self.words(state, op.domid.0, op.gref.0) else { return Status::BAD_DOMAIN };
        let offered = u32::from(own) << 16 | u32::from(EntryFlags::ACCEPT_TRANSFER.bits());
        let committed = offered | u32::from(EntryFlags::TRANSFER_COMMITTED.bits());
        if words.word.compare_exchange(offered, committed, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return Status::BAD_GNTREF;
        }
        self.deliver(state, op.domid.0, op.gref.0, mfn);
        Status::OKAY
    }
}
