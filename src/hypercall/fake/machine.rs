//! The fake's memory: pages of one file, mapped at each domain's addresses. A domain's guest-physical address is the
//! page's address in this process, so code under test follows pointers as it does in a guest, and a page shared by
//! two domains is one page.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::vec::Vec;

use super::grants::Table;
use super::{FakeXen, lock};
use crate::abi::memory::{
    ADD_TO_PHYSMAP, AddToPhysmap, DECREASE_RESERVATION, MAP_INDEX_STATUS, MapSpace, POPULATE_PHYSMAP,
    REMOVE_FROM_PHYSMAP, RemoveFromPhysmap, Reservation,
};
use crate::abi::{DomId, Gfn, PAGE_SIZE, XenErrno};

/// Pages of RAM per domain.
pub const RAM_PAGES: u64 = 1024;
/// Empty pages of address space after the RAM.
pub const WINDOW_PAGES: u64 = 4096;
/// Pages of a domain's address space, including the unmapped guard at its end.
const SPAN: u64 = RAM_PAGES + WINDOW_PAGES + 16;
/// Maximum number of domains per machine.
const DOMAINS: u64 = 4;
/// Pages of the machine.
const PAGES: u64 = DOMAINS * (RAM_PAGES + 256);
/// The range searched for address spaces: frame numbers there fit into 32 bits.
const FIRST_BASE: u64 = 1 << 40;
const LAST_BASE: u64 = 15 << 40;

/// A page of the machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Mfn(pub u64);

/// The contents of a domain's frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Slot {
    /// A page of the domain itself.
    Ram(Mfn),
    /// A page of Xen's.
    Xen(Mfn),
    /// Another domain's page, mapped with this handle.
    Grant(Mfn, u32),
}

impl Slot {
    pub(super) fn mfn(self) -> Mfn {
        match self {
            Self::Ram(mfn) | Self::Xen(mfn) | Self::Grant(mfn, _) => mfn,
        }
    }
}

/// A computer with domains.
#[derive(Debug)]
pub struct Machine {
    file: OwnedFd,
    /// Address of Xen's own mapping of all pages.
    all: u64,
    base: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub domains: BTreeMap<u16, Domain>,
    next_page: u64,
}

#[derive(Debug)]
pub(super) struct Domain {
    pub base: u64,
    pub dead: Option<&'static str>,
    pub p2m: BTreeMap<u64, Slot>,
    /// Number of pages lost by the domain and owned by no domain now.
    pub leaked: u64,
    pub table: Table,
}

impl Machine {
    /// Creates a machine without domains.
    ///
    /// # Panics
    ///
    /// If the host has too little memory.
    pub fn new() -> Arc<Self> {
        // SAFETY: the name is a C string, and the descriptor has no other owner.
        let file = unsafe {
            let file = libc::memfd_create(c"granite-fake".as_ptr(), 0);
            assert!(file >= 0, "memfd_create: {}", std::io::Error::last_os_error());
            OwnedFd::from_raw_fd(file)
        };
        // SAFETY: the file belongs to this function.
        assert_eq!(unsafe { libc::ftruncate(file.as_raw_fd(), (PAGES * PAGE_SIZE) as i64) }, 0);
        // SAFETY: a new mapping at an address chosen by the system touches no existing one.
        let all = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(
                std::ptr::null_mut(),
                (PAGES * PAGE_SIZE) as usize,
                protection,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        assert_ne!(all, libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
        let base = reserve_space(DOMAINS * SPAN * PAGE_SIZE);
        Arc::new(Self { file, all: all as u64, base, state: Mutex::default() })
    }

    /// Adds a domain; the first is number 1.
    ///
    /// # Panics
    ///
    /// If the machine has its maximum of domains.
    pub fn domain(self: &Arc<Self>) -> FakeXen {
        let mut state = lock(&self.state);
        let number = state.domains.len() as u16 + 1;
        assert!(u64::from(number) <= DOMAINS, "too many domains");
        let base = self.base + u64::from(number - 1) * SPAN * PAGE_SIZE;
        let first = Mfn(state.next_page);
        state.next_page += RAM_PAGES;
        self.map_pages(base, Some(first), RAM_PAGES);
        let frame = |page| (base / PAGE_SIZE + page, Slot::Ram(Mfn(first.0 + page)));
        let p2m = (0..RAM_PAGES).map(frame).collect();
        let table = Table::default();
        state.domains.insert(number, Domain { base, dead: None, p2m, leaked: 0, table });
        drop(state);
        FakeXen::new(self.clone(), DomId(number))
    }

    /// Returns the address ranges of a domain's RAM and of the empty space after it.
    pub fn layout(&self, domain: DomId) -> [core::ops::Range<u64>; 2] {
        let base = self.with(|state| state.domains[&domain.0].base);
        let ram = base + RAM_PAGES * PAGE_SIZE;
        [base..ram, ram..ram + WINDOW_PAGES * PAGE_SIZE]
    }

    /// Returns whether a domain is dead: destroyed, or ended for misuse as under real Xen.
    pub fn is_dead(&self, domain: DomId) -> bool {
        self.with(|state| state.domains[&domain.0].dead.is_some())
    }

    /// Returns the number of pages lost by a domain because it mapped over them.
    pub fn leaked(&self, domain: DomId) -> u64 {
        self.with(|state| state.domains[&domain.0].leaked)
    }

    pub(super) fn with<R>(&self, access: impl FnOnce(&mut State) -> R) -> R {
        access(&mut lock(&self.state))
    }

    /// Returns Xen's own address of a page.
    pub(super) fn page(&self, mfn: Mfn) -> *mut u8 {
        (self.all + mfn.0 * PAGE_SIZE) as *mut u8
    }

    /// Allocates a zeroed page without an owner.
    pub(super) fn new_page(&self, state: &mut State) -> Mfn {
        let mfn = Mfn(state.next_page);
        assert!(mfn.0 < PAGES, "the machine is out of pages");
        state.next_page += 1;
        mfn
    }

    /// Puts a page at a frame of a domain, or empties the frame, and returns the previous contents.
    pub(super) fn place(&self, domain: &mut Domain, gfn: Gfn, slot: Option<Slot>) -> Option<Slot> {
        self.map_pages(gfn.address(), slot.map(Slot::mfn), 1);
        match slot {
            Some(slot) => domain.p2m.insert(gfn.0, slot),
            None => domain.p2m.remove(&gfn.0),
        }
    }

    /// Returns whether a frame is in the domain's address space at all.
    pub(super) fn has(domain: &Domain, gfn: Gfn) -> bool {
        (domain.base / PAGE_SIZE..domain.base / PAGE_SIZE + SPAN - 16).contains(&gfn.0)
    }

    fn map_pages(&self, address: u64, mfn: Option<Mfn>, count: u64) {
        let (protection, flags, file, offset) = match mfn {
            Some(mfn) => (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, self.file.as_raw_fd(), mfn.0),
            None => (libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, -1, 0),
        };
        // SAFETY: the addresses are in a domain's space, which is reserved for these mappings.
        let mapped = unsafe {
            libc::mmap(
                address as *mut _,
                (count * PAGE_SIZE) as usize,
                protection,
                flags | libc::MAP_FIXED,
                file,
                (offset * PAGE_SIZE) as i64,
            )
        };
        assert_eq!(mapped as u64, address, "mmap: {}", std::io::Error::last_os_error());
    }

    /// # Safety
    ///
    /// `argument` must point to the operation's structure.
    pub(super) unsafe fn memory_op(&self, domain: DomId, op: u32, argument: u64) -> Result<u64, XenErrno> {
        self.with(|state| match op {
            ADD_TO_PHYSMAP => {
                // SAFETY: guaranteed by the caller.
                let request = unsafe { *(argument as *const AddToPhysmap) };
                self.add_to_physmap(state, domain, request).map(|()| 0)
            }
            REMOVE_FROM_PHYSMAP => {
                // SAFETY: guaranteed by the caller.
                let request = unsafe { *(argument as *const RemoveFromPhysmap) };
                let domain = state.domains.get_mut(&domain.0).ok_or(XenErrno::SRCH)?;
                match domain.p2m.get(&request.gpfn.0) {
                    Some(Slot::Xen(_)) => drop(self.place(domain, request.gpfn, None)),
                    _ => return Err(XenErrno::INVAL),
                }
                Ok(0)
            }
            POPULATE_PHYSMAP | DECREASE_RESERVATION => {
                // SAFETY: guaranteed by the caller.
                let request = unsafe { *(argument as *const Reservation) };
                // SAFETY: as above; the list has `nr_extents` frames.
                let frames = unsafe {
                    core::slice::from_raw_parts(
                        request.extent_start as *const Gfn,
                        request.nr_extents as usize,
                    )
                };
                Ok(frames.iter().filter(|&&gfn| self.reserve(state, domain, op, gfn)).count() as u64)
            }
            _ => Err(XenErrno::NOSYS),
        })
    }

    fn reserve(&self, state: &mut State, id: DomId, op: u32, gfn: Gfn) -> bool {
        let new = (op == POPULATE_PHYSMAP).then(|| self.new_page(state));
        let Some(domain) = state.domains.get_mut(&id.0).filter(|domain| Self::has(domain, gfn)) else {
            return false;
        };
        match (domain.p2m.get(&gfn.0), new) {
            (None, Some(mfn)) => drop(self.place(domain, gfn, Some(Slot::Ram(mfn)))),
            (Some(Slot::Ram(_)), None) => drop(self.place(domain, gfn, None)),
            _ => return false,
        }
        true
    }

    fn add_to_physmap(&self, state: &mut State, id: DomId, request: AddToPhysmap) -> Result<(), XenErrno> {
        if request.space != MapSpace::GRANT_TABLE || request.domid != DomId::SELF {
            return Err(XenErrno::NOSYS);
        }
        let is_status = request.idx & MAP_INDEX_STATUS != 0;
        let mfn = self.table_frame(state, id, request.idx & !MAP_INDEX_STATUS, is_status)?;
        let domain = state.domains.get_mut(&id.0).ok_or(XenErrno::SRCH)?;
        if !Self::has(domain, request.gpfn) {
            return Err(XenErrno::INVAL);
        }
        // A page of Xen's has only one place, so it moves.
        let old = domain.p2m.iter().find(|(_, slot)| **slot == Slot::Xen(mfn)).map(|(&gfn, _)| Gfn(gfn));
        if let Some(old) = old {
            self.place(domain, old, None);
        }
        match self.place(domain, request.gpfn, Some(Slot::Xen(mfn))) {
            Some(Slot::Ram(_)) => domain.leaked += 1,
            Some(Slot::Grant(..)) => domain.dead = Some("a page was placed over a mapping"),
            _ => {}
        }
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // SAFETY: both mappings are this machine's, and all domains are gone, since each keeps the machine alive.
        unsafe {
            libc::munmap(self.all as *mut _, (PAGES * PAGE_SIZE) as usize);
            libc::munmap(self.base as *mut _, (DOMAINS * SPAN * PAGE_SIZE) as usize);
        }
    }
}

/// Reserves addresses unused by the rest of the process.
fn reserve_space(bytes: u64) -> u64 {
    let bytes = bytes.next_multiple_of(1 << 30);
    let candidates: Vec<u64> = (FIRST_BASE..LAST_BASE).step_by(bytes as usize).collect();
    let found = candidates.into_iter().find(|&base| {
        // SAFETY: MAP_FIXED_NOREPLACE keeps existing mappings.
        let mapped = unsafe {
            libc::mmap(
                base as *mut _,
                bytes as usize,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE,
                -1,
                0,
            )
        };
        if mapped != libc::MAP_FAILED && mapped as u64 != base {
            // SAFETY: an old kernel put the mapping elsewhere; it belongs to this function.
            unsafe { libc::munmap(mapped, bytes as usize) };
        }
        mapped as u64 == base
    });
    found.expect("no address space below 16 TiB is free")
}
