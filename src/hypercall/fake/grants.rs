//! Grants, as Xen has them: pin counts, flags that are set by a compare-and-exchange on the entry's word,
//! handles, and the statuses that were measured on Xen 4.17.

use std::collections::BTreeMap;
use std::vec::Vec;

use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use super::machine::{Machine, Mfn, Slot, State};
use super::{FakeXen, Fault};
use crate::abi::grant::op::{
    CopyEnd, CopyFlags, GetVersion, GrantCopy, MapFlags, MapGrantRef, Op, QuerySize, SetVersion, SetupTable,
    SwapGrantRef, Transfer, UnmapGrantRef,
};
use crate::abi::grant::{EntryFlags, GrantHandle, Status};
use crate::abi::{DomId, Gfn, PAGE_SIZE, XenErrno};

/// Frames that a table may have.
const MAX_FRAMES: usize = 8;
/// Mappings that a domain may have.
const MAX_MAPPINGS: usize = 600;

/// A domain's grant table, and what it has mapped of others.
#[derive(Debug)]
pub(super) struct Table {
    pub version: u32,
    pub frames: Vec<Mfn>,
    pub status: Vec<Mfn>,
    pub max_frames: usize,
    /// How often each entry is in use, for reading and for writing.
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
    /// Where the granter had the page, if it was this domain itself and lost it there.
    alias: Option<Gfn>,
}

/// The words of an entry, as Xen sees them.
struct Words {
    word: &'static AtomicU32,
    part: &'static AtomicU32,
    frame: u64,
    status: Option<&'static AtomicU16>,
}

impl Machine {
    /// Has a domain's table so many frames at most.
    pub fn limit_frames(&self, domain: DomId, most: usize) {
        self.with(|state| state.domains.get_mut(&domain.0).expect("a domain").table.max_frames = most);
    }

    /// Has a domain so many mappings at most.
    pub fn limit_mappings(&self, domain: DomId, most: usize) {
        self.with(|state| state.domains.get_mut(&domain.0).expect("a domain").table.max_mappings = most);
    }

    /// How many pages of others a domain has mapped.
    pub fn mappings(&self, domain: DomId) -> usize {
        self.with(|state| state.domains[&domain.0].table.mappings.len())
    }

    /// Uses a grant as a mapping does, without mapping: a peer at the worst moment.
    ///
    /// # Errors
    ///
    /// The status that a map would have.
    pub fn pin(&self, granter: DomId, gref: u32, peer: DomId, writing: bool) -> Result<(), Status> {
        self.with(|state| self.acquire(state, granter.0, gref, peer.0, writing, true).map(drop))
    }

    /// Ends such a use.
    pub fn unpin(&self, granter: DomId, gref: u32, writing: bool) {
        self.with(|state| self.release(state, granter.0, gref, writing));
    }

    /// Begins a transfer into a slot, up to the moment when the page is still to come.
    ///
    /// # Errors
    ///
    /// The status.
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

    /// Completes a transfer that was begun, with a new page that holds `text`.
    pub fn complete_transfer(&self, to: DomId, gref: u32, text: &[u8]) {
        self.with(|state| {
            let mfn = self.new_page(state);
            // SAFETY: the page is Xen's, and the text is shorter than a page.
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

    /// The page of a table's frame; the table grows up to it.
    pub(super) fn table_frame(
        &self,
        state: &mut State,
        id: DomId,
        index: u64,
        is_status: bool,
    ) -> Result<Mfn, XenErrno> {
        let index = usize::try_from(index).map_err(|_| XenErrno::INVAL)?;
        let table = &state.domains.get(&id.0).ok_or(XenErrno::SRCH)?.table;
        // A frame of status words serves eight of entries.
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
        // SAFETY: the address is that of an entry, in a page of the machine's that lives as long as it does;
        // all accesses are atomic. `'static` is a lie that stays inside a call.
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

    /// Pins a grant for a peer, and finds the page.
    fn acquire(
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
        loop {
            let flags = EntryFlags::from_bits_retain(word as u16);
            let part = flags.contains(EntryFlags::SUB_PAGE) && words.status.is_some();
            if flags.entry_type() != EntryFlags::PERMIT_ACCESS
                || word >> 16 != peer.into()
                || (part && mapping)
                || (writing && flags.contains(EntryFlags::READONLY))
            {
                return Err(Status::GENERAL_ERROR);
            }
            if let Some(status) = words.status {
                status.fetch_or(wanted.bits(), Ordering::AcqRel);
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

    fn release(&self, state: &mut State, granter: u16, gref: u32, writing: bool) {
        let Some(domain) = state.domains.get_mut(&granter) else { return };
        let Some(pins) = domain.table.pins.get_mut(&gref) else { return };
        pins[usize::from(writing)] = pins[usize::from(writing)].saturating_sub(1);
        let [readers, writers] = *pins;
        if readers + writers == 0 {
            domain.table.pins.remove(&gref);
        }
        let mut cleared = EntryFlags::empty();
        cleared.set(EntryFlags::WRITING, writers == 0);
        cleared.set(EntryFlags::READING, readers + writers == 0);
        let Some(words) = self.words(state, granter, gref) else { return };
        match words.status {
            Some(status) => drop(status.fetch_and(!cleared.bits(), Ordering::AcqRel)),
            None => drop(words.word.fetch_and(!u32::from(cleared.bits()), Ordering::AcqRel)),
        }
    }

    fn map(&self, state: &mut State, own: u16, op: &mut MapGrantRef) -> Status {
        let no_host_map = !op.flags.intersects(MapFlags::HOST_MAP | MapFlags::DEVICE_MAP);
        let pv_only = MapFlags::DEVICE_MAP | MapFlags::APPLICATION_MAP | MapFlags::CONTAINS_PTE;
        if no_host_map {
            return Status::BAD_GNTREF;
        }
        if op.flags.intersects(pv_only) {
            return Status::GENERAL_ERROR;
        }
        if !state.domains.contains_key(&op.dom.0) {
            return Status::BAD_DOMAIN;
        }
        let gfn = Gfn::containing(op.host_addr);
        let table = &state.domains[&own].table;
        if table.mappings.len() >= table.max_mappings {
            return Status::NO_SPACE;
        }
        if !Self::has(&state.domains[&own], gfn) {
            return Status::GENERAL_ERROR;
        }
        let writing = !op.flags.contains(MapFlags::READONLY);
        let Pinned { mfn, home, .. } = match self.acquire(state, op.dom.0, op.gref.0, own, writing, true) {
            Ok(page) => page,
            Err(status) => return status,
        };
        let Some(domain) = state.domains.get_mut(&own) else { return Status::BAD_DOMAIN };
        let handle = domain.table.next_handle;
        domain.table.next_handle += 1;
        // A domain has a page of its own at one place: the other one is gone.
        let alias = (op.dom.0 == own && home != gfn).then_some(home);
        if let Some(home) = alias {
            self.place(domain, home, None);
        }
        match self.place(domain, gfn, Some(Slot::Grant(mfn, handle))) {
            Some(Slot::Ram(old)) if old != mfn => domain.leaked += 1,
            Some(Slot::Grant(..)) => domain.dead = Some("a page was mapped over a mapping"),
            Some(Slot::Xen(_)) => domain.dead = Some("a page was mapped over a page of Xen's"),
            _ => {}
        }
        let mapping = Mapping { dom: op.dom.0, gref: op.gref.0, writing, at: gfn, alias };
        domain.table.mappings.insert(handle, mapping);
        op.handle = GrantHandle(handle);
        Status::OKAY
    }

    fn unmap(&self, state: &mut State, own: u16, op: UnmapGrantRef) -> Status {
        let Some(domain) = state.domains.get_mut(&own) else { return Status::BAD_DOMAIN };
        let Some(mapping) = domain.table.mappings.get(&op.handle.0).copied() else {
            return Status::BAD_HANDLE;
        };
        let gfn = Gfn::containing(op.host_addr);
        if op.host_addr != 0 && gfn != mapping.at {
            let Some(Slot::Grant(..)) = domain.p2m.get(&gfn.0) else { return Status::GENERAL_ERROR };
            domain.dead = Some("a mapping was unmapped by the handle of another");
            return Status::OKAY;
        }
        domain.table.mappings.remove(&op.handle.0);
        self.place(domain, mapping.at, None);
        if mapping.alias.is_some() {
            domain.leaked += 1;
        }
        self.release(state, mapping.dom, mapping.gref, mapping.writing);
        Status::OKAY
    }

    fn copy(&self, state: &mut State, own: u16, op: GrantCopy) -> Status {
        if op.len == 0 {
            return Status::OKAY;
        }
        let crosses = |end: CopyEnd| u64::from(end.offset) + u64::from(op.len) > PAGE_SIZE;
        if crosses(op.source) || crosses(op.dest) {
            return Status::BAD_COPY_ARG;
        }
        let source =
            match self.copy_end(state, own, op.source, op.flags.contains(CopyFlags::SOURCE_GREF), false) {
                Ok(source) => source,
                Err(status) => return status,
            };
        let dest = match self.copy_end(state, own, op.dest, op.flags.contains(CopyFlags::DEST_GREF), true) {
            Ok(dest) => dest,
            Err(status) => {
                self.copied(state, source);
                return status;
            }
        };
        let outside = |end: &End, at: CopyEnd| {
            end.part.is_some_and(|(offset, length)| {
                at.offset < offset
                    || u32::from(at.offset) + u32::from(op.len) > u32::from(offset) + u32::from(length)
            })
        };
        let status = if outside(&source, op.source) || outside(&dest, op.dest) {
            Status::GENERAL_ERROR
        } else {
            // SAFETY: both pages are the machine's, and neither end crosses its page.
            unsafe {
                self.page(dest.mfn)
                    .add(op.dest.offset.into())
                    .copy_from(self.page(source.mfn).add(op.source.offset.into()), op.len.into());
            }
            Status::OKAY
        };
        self.copied(state, source);
        self.copied(state, dest);
        status
    }

    fn copy_end(
        &self,
        state: &mut State,
        own: u16,
        end: CopyEnd,
        is_gref: bool,
        writing: bool,
    ) -> Result<End, Status> {
        let dom = if end.domid == DomId::SELF { own } else { end.domid.0 };
        if !state.domains.contains_key(&dom) {
            return Err(Status::BAD_DOMAIN);
        }
        if is_gref {
            let Pinned { mfn, part, .. } = self.acquire(state, dom, end.page as u32, own, writing, false)?;
            return Ok(End { mfn, part, pin: Some((dom, end.page as u32, writing)) });
        }
        if end.domid != DomId::SELF {
            return Err(Status::PERMISSION_DENIED);
        }
        let slot = state.domains[&dom].p2m.get(&end.page).ok_or(Status::BAD_PAGE)?;
        Ok(End { mfn: slot.mfn(), part: None, pin: None })
    }

    fn copied(&self, state: &mut State, end: End) {
        if let Some((dom, gref, writing)) = end.pin {
            self.release(state, dom, gref, writing);
        }
    }

    fn transfer(&self, state: &mut State, own: u16, op: Transfer) -> Status {
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

    fn set_version(&self, state: &mut State, own: u16, version: u32) -> Result<(), XenErrno> {
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
        // The reserved entries are kept by real Xen; here there are none.
        domain.table.version = version;
        let frames = domain.table.frames.clone();
        for mfn in frames {
            // SAFETY: the page is Xen's, and nobody uses the table meanwhile.
            unsafe { self.page(mfn).write_bytes(0, PAGE_SIZE as usize) };
        }
        let count = domain.table.frames.len();
        self.grow(state, own, count);
        Ok(())
    }

    fn query_size(state: &State, own: u16, op: &mut QuerySize) -> Status {
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

    fn setup_table(&self, state: &mut State, own: u16, op: SetupTable) -> Status {
        if op.dom != DomId::SELF && op.dom.0 != own {
            return Status::PERMISSION_DENIED;
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

    fn swap(&self, state: &State, own: u16, op: SwapGrantRef) -> Status {
        let (Some(a), Some(b)) = (self.words(state, own, op.ref_a.0), self.words(state, own, op.ref_b.0))
        else {
            return Status::BAD_GNTREF;
        };
        let pins = &state.domains[&own].table.pins;
        if pins.contains_key(&op.ref_a.0) || pins.contains_key(&op.ref_b.0) {
            return Status::GENERAL_ERROR;
        }
        let size = if a.status.is_none() { 8 } else { 16 };
        // SAFETY: both are entries of this size, in use by nobody.
        unsafe {
            let (a, b) = (a.word.as_ptr().cast::<u8>(), b.word.as_ptr().cast::<u8>());
            core::ptr::swap_nonoverlapping(a, b, if a == b { 0 } else { size });
        }
        Status::OKAY
    }
}

/// A page that a grant gave, and that is in use by it now.
struct Pinned {
    mfn: Mfn,
    /// Where its owner has it.
    home: Gfn,
    /// First byte and length, where only a part is granted.
    part: Option<(u16, u16)>,
}

/// One end of a copy, found.
struct End {
    mfn: Mfn,
    part: Option<(u16, u16)>,
    pin: Option<(u16, u32, bool)>,
}

impl FakeXen {
    /// # Safety
    ///
    /// `argument` points to `count` structures of the operation.
    pub(super) unsafe fn grant_op(&self, op: Op, argument: u64, count: usize) -> Result<u64, XenErrno> {
        if op.only_for().is_some() && !(self.pv && op == Op::TRANSFER) {
            return Err(XenErrno::NOSYS);
        }
        enum Sudden {
            Fails(XenErrno),
            Silent,
        }
        let sudden = |fault: &Fault| match *fault {
            Fault::Op(faulty, errno) if faulty == op => Some(Sudden::Fails(errno)),
            Fault::Silence(faulty) if faulty == op => Some(Sudden::Silent),
            _ => None,
        };
        match self.fault(sudden) {
            Some(Sudden::Fails(errno)) => return Err(errno),
            Some(Sudden::Silent) => return Ok(0),
            None => {}
        }
        let (machine, own) = (self.machine(), self.dom_id().0);
        // SAFETY: the caller's word, for the structure that belongs to each operation.
        unsafe {
            match op {
                Op::MAP => self.each::<MapGrantRef>(
                    op,
                    argument,
                    count,
                    |state, each| {
                        let status = machine.map(state, own, each);
                        if status != Status::OKAY {
                            each.handle = GrantHandle(i32::from(status.0).cast_unsigned());
                        }
                        each.status = status;
                    },
                    |each, status| each.status = status,
                ),
                Op::UNMAP => self.each::<UnmapGrantRef>(
                    op,
                    argument,
                    count,
                    |state, each| {
                        each.status = machine.unmap(state, own, *each);
                    },
                    |each, status| each.status = status,
                ),
                Op::COPY => self.each::<GrantCopy>(
                    op,
                    argument,
                    count,
                    |state, each| {
                        each.status = machine.copy(state, own, *each);
                    },
                    |each, status| each.status = status,
                ),
                Op::TRANSFER => self.each::<Transfer>(
                    op,
                    argument,
                    count,
                    |state, each| {
                        each.status = machine.transfer(state, own, *each);
                    },
                    |each, status| each.status = status,
                ),
                Op::QUERY_SIZE => self.each::<QuerySize>(
                    op,
                    argument,
                    count,
                    |state, each| {
                        each.status = Machine::query_size(state, own, each);
                    },
                    |each, status| each.status = status,
                ),
                Op::SETUP_TABLE => self.each::<SetupTable>(
                    op,
                    argument,
                    count,
                    |state, each| {
                        each.status = machine.setup_table(state, own, *each);
                    },
                    |each, status| each.status = status,
                ),
                Op::SWAP_GRANT_REF => self.each::<SwapGrantRef>(
                    op,
                    argument,
                    count,
                    |state, each| {
                        each.status = machine.swap(state, own, *each);
                    },
                    |each, status| each.status = status,
                ),
                Op::SET_VERSION => {
                    let version = (*(argument as *const SetVersion)).version;
                    machine.with(|state| machine.set_version(state, own, version))?;
                    Ok(0)
                }
                Op::GET_VERSION => {
                    (*(argument as *mut GetVersion)).version =
                        machine.with(|state| state.domains[&own].table.version);
                    Ok(0)
                }
                _ => Err(XenErrno::NOSYS),
            }
        }
    }

    /// Does an operation for each element, unless a fault wants a status for it.
    ///
    /// # Safety
    ///
    /// `argument` points to `count` elements.
    unsafe fn each<T>(
        &self,
        op: Op,
        argument: u64,
        count: usize,
        mut run: impl FnMut(&mut State, &mut T),
        set: impl Fn(&mut T, Status),
    ) -> Result<u64, XenErrno> {
        // SAFETY: the caller's word.
        let elements = unsafe { core::slice::from_raw_parts_mut(argument as *mut T, count) };
        for element in elements {
            let wanted = |fault: &Fault| match *fault {
                Fault::Status(faulty, status) if faulty == op => Some(status),
                _ => None,
            };
            match self.fault(wanted) {
                Some(status) => set(element, status),
                None => self.machine().with(|state| run(state, element)),
            }
        }
        let lies = |fault: &Fault| match *fault {
            Fault::Lie(faulty, errno) if faulty == op => Some(errno),
            _ => None,
        };
        self.fault(lies).map_or(Ok(0), Err)
    }
}
