//! Grants in use: pin counts, and the flags of entries that show use.

use core::sync::atomic::{Ordering, fence};

use super::super::machine::{Machine, Mfn, State};
use crate::abi::grant::{EntryFlags, Status};
use crate::abi::{DomId, Gfn};

/// A granted page, pinned by a use of its grant.
pub(super) struct Pinned {
    pub mfn: Mfn,
    /// Its frame in the granter.
    pub home: Gfn,
    /// First byte and length, if only a part is granted.
    pub part: Option<(u16, u16)>,
}

impl Machine {
    /// Pins a grant as a mapping does, but doesn't map the page: simulates a peer at the worst moment.
    ///
    /// # Errors
    ///
    /// The status of the map, if it fails.
    pub fn pin(&self, granter: DomId, gref: u32, peer: DomId, writing: bool) -> Result<(), Status> {
        self.with(|state| self.acquire(state, granter.0, gref, peer.0, writing, true).map(drop))
    }

    /// Ends a use begun with [`pin`](Self::pin).
    pub fn unpin(&self, granter: DomId, gref: u32, writing: bool) {
        self.with(|state| self.release(state, granter.0, gref, writing));
    }

    /// Pins a grant for a peer, and finds the page.
    pub(super) fn acquire(
        &self,
        state: &mut State,
        granter: u16,
        gref: u32,
        peer: u16,
        writing: bool,
        mapping: bool,
    ) -> Result<Pinned, Status> {
        let words = self.words(state, granter, gref).ok_or(Status::BAD_GNTREF)?;
        let wanted = if writing { EntryFlags::READING | EntryFlags::WRITING } else { EntryFlags::READING };
        let mut word = words.word.load(Ordering::Acquire);
        let is_granted = |word: u32| {
            let flags = EntryFlags::from_bits_retain(word as u16);
            let part = flags.contains(EntryFlags::SUB_PAGE) && words.status.is_some();
            flags.entry_type() == EntryFlags::PERMIT_ACCESS
                && word >> 16 == peer.into()
                && !(part && mapping)
                && !(writing && flags.contains(EntryFlags::READONLY))
        };
        loop {
            if !is_granted(word) {
                return Err(Status::GENERAL_ERROR);
            }
            if let Some(status) = words.status {
                // As in Xen: first show the use, then check that the page is still granted. The fence pairs with the
                // one in `Entry::end_access`.
                status.fetch_or(wanted.bits(), Ordering::SeqCst);
                fence(Ordering::SeqCst);
                word = words.word.load(Ordering::SeqCst);
                if !is_granted(word) {
                    self.show_use(state, granter, gref);
                    return Err(Status::GENERAL_ERROR);
                }
                break;
            }
            let pinned = word | u32::from(wanted.bits());
            match words.word.compare_exchange(word, pinned, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        let part = EntryFlags::from_bits_retain(word as u16).contains(EntryFlags::SUB_PAGE)
            && words.status.is_some();
        let part = part.then(|| {
            let part = words.part.load(Ordering::Relaxed);
            (part as u16, (part >> 16) as u16)
        });
        let domain = state.domains.get_mut(&granter).ok_or(Status::BAD_DOMAIN)?;
        let pins = domain.table.pins.entry(gref).or_default();
        pins[usize::from(writing)] += 1;
        match domain.p2m.get(&words.frame) {
            Some(slot) => Ok(Pinned { mfn: slot.mfn(), home: Gfn(words.frame), part }),
            None => {
                self.release(state, granter, gref, writing);
                Err(Status::BAD_PAGE)
            }
        }
    }

    pub(super) fn release(&self, state: &mut State, granter: u16, gref: u32, writing: bool) {
        let Some(domain) = state.domains.get_mut(&granter) else { return };
        let Some(pins) = domain.table.pins.get_mut(&gref) else { return };
        pins[usize::from(writing)] = pins[usize::from(writing)].saturating_sub(1);
        if *pins == [0, 0] {
            domain.table.pins.remove(&gref);
        }
        self.show_use(state, granter, gref);
    }

    /// Clears the flags of uses that have ended.
    fn show_use(&self, state: &State, granter: u16, gref: u32) {
        let Some(domain) = state.domains.get(&granter) else { return };
        let [readers, writers] = domain.table.pins.get(&gref).copied().unwrap_or_default();
        let mut cleared = EntryFlags::empty();
        cleared.set(EntryFlags::WRITING, writers == 0);
        cleared.set(EntryFlags::READING, readers + writers == 0);
        let Some(words) = self.words(state, granter, gref) else { return };
        match words.status {
            Some(status) => drop(status.fetch_and(!cleared.bits(), Ordering::AcqRel)),
            None => drop(words.word.fetch_and(!u32::from(cleared.bits()), Ordering::AcqRel)),
        }
    }
}
