//! A table's version and size, and exchanging its entries.

use core::sync::atomic::Ordering;
use std::vec::Vec;

use super::super::machine::{Machine, Slot, State};
use crate::abi::grant::op::{QuerySize, SetupTable, SwapGrantRef};
use crate::abi::grant::{EntryFlags, GrantRef, Status};
use crate::abi::{DomId, PAGE_SIZE, XenErrno};

impl Machine {
    pub(super) fn set_version(&self, state: &mut State, own: u16, version: u32) -> Result<(), XenErrno> {
        let domain = state.domains.get_mut(&own).ok_or(XenErrno::SRCH)?;
        if !(1..=2).contains(&version) {
            return Err(XenErrno::INVAL);
        }
        if domain.table.version == version {
            return Ok(());
        }
        if !domain.table.pins.is_empty() {
            return Err(XenErrno::BUSY);
        }
        // Xen keeps the reserved entries that grant a page: flags, domain and frame.
        let reserved: Vec<_> = (0..GrantRef::FIRST_FREE.0)
            .filter_map(|gref| {
                let words = self.words(state, own, gref)?;
                let word = words.word.load(Ordering::Acquire);
                let is_kept =
                    EntryFlags::from_bits_retain(word as u16).entry_type() == EntryFlags::PERMIT_ACCESS;
                is_kept.then_some((gref, word, words.frame))
            })
            .collect();
        let domain = state.domains.get_mut(&own).ok_or(XenErrno::SRCH)?;
        domain.table.version = version;
        let frames = domain.table.frames.clone();
        for mfn in frames {
            // SAFETY: the page is Xen's, and the table is not in use meanwhile.
            unsafe { self.page(mfn).write_bytes(0, PAGE_SIZE as usize) };
        }
        let count = domain.table.frames.len();
        self.grow(state, own, count);
        for (gref, word, frame) in reserved {
            if let Some(words) = self.words(state, own, gref) {
                words.set_frame(frame);
                words.word.store(word, Ordering::Release);
            }
        }
        Ok(())
    }

    pub(super) fn query_size(state: &State, own: u16, op: &mut QuerySize) -> Status {
        let id = if op.dom == DomId::SELF { own } else { op.dom.0 };
        if id != own {
            return if state.domains.contains_key(&id) {
                Status::PERMISSION_DENIED
            } else {
                Status::BAD_DOMAIN
            };
        }
        let table = &state.domains[&own].table;
        (op.nr_frames, op.max_nr_frames) = (table.frames.len().max(1) as u32, table.max_frames as u32);
        Status::OKAY
    }

    pub(super) fn setup_table(&self, state: &mut State, own: u16, op: SetupTable) -> Status {
        if op.dom != DomId::SELF && op.dom.0 != own {
            let is_there = state.domains.contains_key(&op.dom.0);
            return if is_there { Status::PERMISSION_DENIED } else { Status::BAD_DOMAIN };
        }
        if op.nr_frames as usize > state.domains[&own].table.max_frames {
            return Status::GENERAL_ERROR;
        }
        self.grow(state, own, op.nr_frames as usize);
        let table = &state.domains[&own].table;
        for (index, mfn) in table.frames.iter().take(op.nr_frames as usize).enumerate() {
            let placed = state.domains[&own].p2m.iter().find(|(_, slot)| **slot == Slot::Xen(*mfn));
            // SAFETY: the caller has room for `nr_frames` words.
            unsafe { *(op.frame_list as *mut u64).add(index) = placed.map_or(u64::MAX, |(&gfn, _)| gfn) };
        }
        Status::OKAY
    }

    pub(super) fn swap(&self, state: &State, own: u16, op: SwapGrantRef) -> Status {
        let (Some(a), Some(b)) = (self.words(state, own, op.ref_a.0), self.words(state, own, op.ref_b.0))
        else {
            return Status::BAD_GNTREF;
        };
        let pins = &state.domains[&own].table.pins;
        if pins.contains_key(&op.ref_a.0) || pins.contains_key(&op.ref_b.0) {
            return Status::GENERAL_ERROR;
        }
        let size = if a.status.is_none() { 8 } else { 16 };
        // SAFETY: both are entries of this size, and neither is in use.
        unsafe {
            let (a, b) = (a.word.as_ptr().cast::<u8>(), b.word.as_ptr().cast::<u8>());
            core::ptr::swap_nonoverlapping(a, b, if a == b { 0 } else { size });
        }
        Status::OKAY
    }
}
