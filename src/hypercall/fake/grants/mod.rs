//! Grants, as in Xen: pin counts, flags set by a compare-and-exchange on the entry's word, handles, and the statuses
//! observed on Xen 4.17.

mod call;
mod copy;
mod map;
mod pins;
mod shape;
mod transfer;

use std::collections::BTreeMap;
use std::vec::Vec;

use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use super::machine::{Machine, Mfn, State};
use crate::abi::{DomId, Gfn, PAGE_SIZE, XenErrno};

/// Maximum frames of a table, unless limited further.
const MAX_FRAMES: usize = 8;
/// Maximum mappings of a domain, unless limited further.
const MAX_MAPPINGS: usize = 600;

/// A domain's grant table, and its mappings of granted pages.
#[derive(Debug)]
pub(super) struct Table {
    pub version: u32,
    pub frames: Vec<Mfn>,
    pub status: Vec<Mfn>,
    pub max_frames: usize,
    /// Number of uses of each entry, for reading and for writing.
    pins: BTreeMap<u32, [u32; 2]>,
    mappings: BTreeMap<u32, Mapping>,
    next_handle: u32,
    pub max_mappings: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            version: 1,
            frames: Vec::new(),
            status: Vec::new(),
            max_frames: MAX_FRAMES,
            pins: BTreeMap::new(),
            mappings: BTreeMap::new(),
            next_handle: 0,
            max_mappings: MAX_MAPPINGS,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Mapping {
    dom: u16,
    gref: u32,
    writing: bool,
    at: Gfn,
    /// The granter's frame of the page, if the granter is this domain itself, which lost the page there.
    alias: Option<Gfn>,
}

/// The words of an entry, as seen by Xen.
struct Words {
    word: &'static AtomicU32,
    part: &'static AtomicU32,
    frame: u64,
    status: Option<&'static AtomicU16>,
}

impl Words {
    fn set_frame(&self, frame: u64) {
        if self.status.is_none() {
            self.part.store(frame as u32, Ordering::Relaxed);
            return;
        }
        // SAFETY: an entry of version 2 has the frame after its first two words.
        let word = unsafe { &*self.word.as_ptr().cast::<AtomicU64>().add(1) };
        word.store(frame, Ordering::Relaxed);
    }
}

impl Machine {
    /// Limits a domain's table to `max` frames.
    pub fn limit_frames(&self, domain: DomId, max: usize) {
        self.with(|state| state.domains.get_mut(&domain.0).expect("a domain").table.max_frames = max);
    }

    /// Limits a domain to `max` mappings.
    pub fn limit_mappings(&self, domain: DomId, max: usize) {
        self.with(|state| state.domains.get_mut(&domain.0).expect("a domain").table.max_mappings = max);
    }

    /// Returns the number of granted pages mapped by a domain.
    pub fn mappings(&self, domain: DomId) -> usize {
        self.with(|state| state.domains[&domain.0].table.mappings.len())
    }

    /// Returns the page of a table's frame; grows the table up to it.
    pub(super) fn table_frame(
        &self,
        state: &mut State,
        id: DomId,
        index: u64,
        is_status: bool,
    ) -> Result<Mfn, XenErrno> {
        let index = usize::try_from(index).map_err(|_| XenErrno::INVAL)?;
        let table = &state.domains.get(&id.0).ok_or(XenErrno::SRCH)?.table;
        // One frame of status words serves eight frames of entries.
        let needed = if is_status { index * 8 + 1 } else { index + 1 };
        if needed > table.max_frames || (is_status && table.version != 2) {
            return Err(XenErrno::INVAL);
        }
        self.grow(state, id.0, needed);
        let table = &state.domains[&id.0].table;
        let frames = if is_status { &table.status } else { &table.frames };
        frames.get(index).copied().ok_or(XenErrno::INVAL)
    }

    fn grow(&self, state: &mut State, id: u16, frames: usize) {
        while let Some(domain) = state.domains.get(&id)
            && (domain.table.frames.len() < frames
                || (domain.table.version == 2 && domain.table.status.len() * 8 < domain.table.frames.len()))
        {
            let is_entries = domain.table.frames.len() < frames;
            let mfn = self.new_page(state);
            if let Some(domain) = state.domains.get_mut(&id) {
                let list = if is_entries { &mut domain.table.frames } else { &mut domain.table.status };
                list.push(mfn);
            }
        }
    }

    fn words(&self, state: &State, id: u16, gref: u32) -> Option<Words> {
        let table = &state.domains.get(&id)?.table;
        let (size, index) = if table.version == 1 { (8, gref as usize) } else { (16, gref as usize) };
        let per_frame = PAGE_SIZE as usize / size;
        let entry = self.page(*table.frames.get(index / per_frame)?) as usize + index % per_frame * size;
        // SAFETY: the address is an entry's, in a page of the machine's that lives as long as the machine; all
        // accesses are atomic. `'static` is too long, but no reference outlives the current call.
        unsafe {
            let word = &*(entry as *const AtomicU32);
            let part = &*((entry + 4) as *const AtomicU32);
            if table.version == 1 {
                return Some(Words { word, part, frame: part.load(Ordering::Relaxed).into(), status: None });
            }
            let frame = (*((entry + 8) as *const AtomicU64)).load(Ordering::Relaxed);
            let status = self.page(*table.status.get(index / 2048)?) as usize + index % 2048 * 2;
            Some(Words { word, part, frame, status: Some(&*(status as *const AtomicU16)) })
        }
    }
}
