//! Memory of the fake's: pages of one file, mapped where each domain has them. A domain's guest-physical
//! address is the address at which this process has the page, so code under test follows pointers as it does
//! in a guest, and a page that two domains have is one page.

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

/// Pages of RAM that a domain has.
pub const RAM_PAGES: u64 = 1024;
/// Pages of address space behind them that are empty.
pub const WINDOW_PAGES: u64 = 4096;
/// Pages of address space of a domain, a guard of nothing behind it.
const SPAN: u64 = RAM_PAGES + WINDOW_PAGES + 16;
/// Domains a machine may have.
const DOMAINS: u64 = 4;
/// Pages of the machine.
const PAGES: u64 = DOMAINS * (RAM_PAGES + 256);
/// Where address spaces are looked for: frame numbers there have less than 32 bits.
const FIRST_BASE: u64 = 1 << 40;
const LAST_BASE: u64 = 15 << 40;

/// A page of the machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Mfn(pub u64);

/// What a domain has at a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Slot {
    /// A page of its own.
    Ram(Mfn),
    /// A page of Xen's.
    Xen(Mfn),
    /// Another domain's page, by this handle.
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
    /// Xen's own view of all pages.
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
    /// Pages that the domain had and nobody has any more.
    pub leaked: u64,
    pub table: Table,
}

impl Machine {
    /// One without domains.
    ///
    /// # Panics
    ///
    /// If the host has no memory for it.
    pub fn new() -> Arc<Self> {
        // SAFETY: the name is a C string, and the descriptor is nobody else's.
        let file = unsafe {
            let file = libc::memfd_create(c"granite-fake".as_ptr(), 0);
            assert!(file >= 0, "memfd_create: {}", std::io::Error::last_os_error());
            OwnedFd::from_raw_fd(file)
        };
        // SAFETY: it is a file of ours.
        assert_eq!(unsafe { libc::ftruncate(file.as_raw_fd(), (PAGES * PAGE_SIZE) as i64) }, 0);
        // SAFETY: a new mapping at a place of the system's choice touches nothing that exists.
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
    /// If there are too many.
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

    /// The addresses of a domain's RAM, and of the empty space behind.
    pub fn layout(&self, domain: DomId) -> [core::ops::Range<u64>; 2] {
        let base = self.with(|state| state.domains[&domain.0].base);
        let ram = base + RAM_PAGES * PAGE_SIZE;
        [base..ram, ram..ram + WINDOW_PAGES * PAGE_SIZE]
    }

    /// Whether a domain did what real Xen ends it for.
    pub fn is_dead(&self, domain: DomId) -> bool {
        self.with(|state| state.domains[&domain.0].dead.is_some())
    }

    /// Pages that a domain lost by mapping over them.
    pub fn leaked(&self, domain: DomId) -> u64 {
        self.with(|state| state.domains[&domain.0].leaked)
    }

    pub(super) fn with<R>(&self, access: impl FnOnce(&mut State) -> R) -> R {
        access(&mut lock(&self.state))
    }

    /// Xen's own address of a page.
    pub(super) fn page(&self, mfn: Mfn) -> *mut u8 {
        (self.all + mfn.0 * PAGE_SIZE) as *mut u8
    }

    /// A page that nobody has, zeroed.
    pub(super) fn new_page(&self, state: &mut State) -> Mfn {
        let mfn = Mfn(state.next_page);
        assert!(mfn.0 < PAGES, "the machine is out of pages");
        state.next_page += 1;
        mfn
    }

    /// Puts something at a frame of a domain's, and returns what was there.
    pub(super) fn place(&self, domain: &mut Domain, gfn: Gfn, slot: Option<Slot>) -> Option<Slot> {
        self.map_pages(gfn.address(), slot.map(Slot::mfn), 1);
        match slot {
            Some(slot) => domain.p2m.insert(gfn.0, slot),
            None => domain.p2m.remove(&gfn.0),
        }
    }

    /// Whether a frame is in the domain's address space at all.
    pub(super) fn has(domain: &Domain, gfn: Gfn) -> bool {
        (domain.base / PAGE_SIZE..domain.base / PAGE_SIZE + SPAN - 16).contains(&gfn.0)
    }

    fn map_pages(&self, address: u64, mfn: Option<Mfn>, count: u64) {
        let (protection, flags, file, offset) = match mfn {
            Some(mfn) => (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, self.file.as_raw_fd(), mfn.0),
            None => (libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, -1, 0),
        };
        // SAFETY: the addresses are of a domain's space, which was reserved for this alone.
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
    /// The argument points to what the operation wants.
    pub(super) unsafe fn memory_op(&self, domain: DomId, op: u32, argument: u64) -> Result<u64, XenErrno> {
        self.with(|state| match op {
            ADD_TO_PHYSMAP => {
                // SAFETY: the caller's word.
                let request = unsafe { *(argument as *const AddToPhysmap) };
                self.add_to_physmap(state, domain, request).map(|()| 0)
            }
            REMOVE_FROM_PHYSMAP => {
                // SAFETY: the caller's word.
                let request = unsafe { *(argument as *const RemoveFromPhysmap) };
                let domain = state.domains.get_mut(&domain.0).ok_or(XenErrno::SRCH)?;
                match domain.p2m.get(&request.gpfn.0) {
                    Some(Slot::Xen(_)) => drop(self.place(domain, request.gpfn, None)),
                    _ => return Err(XenErrno::INVAL),
                }
                Ok(0)
            }
            POPULATE_PHYSMAP | DECREASE_RESERVATION => {
                // SAFETY: the caller's word.
                let request = unsafe { *(argument as *const Reservation) };
                // SAFETY: as above; it names so many frames.
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
        // A page of Xen's is in one place: it moves.
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
        // SAFETY: both are of this machine, and all domains are gone: they keep the machine alive.
        unsafe {
            libc::munmap(self.all as *mut _, (PAGES * PAGE_SIZE) as usize);
            libc::munmap(self.base as *mut _, (DOMAINS * SPAN * PAGE_SIZE) as usize);
        }
    }
}

/// Addresses that nothing else in the process has.
fn reserve_space(bytes: u64) -> u64 {
    let bytes = bytes.next_multiple_of(1 << 30);
    let candidates: Vec<u64> = (FIRST_BASE..LAST_BASE).step_by(bytes as usize).collect();
    let found = candidates.into_iter().find(|&base| {
        // SAFETY: with MAP_FIXED_NOREPLACE, what exists stays.
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
            // SAFETY: an old kernel put it elsewhere; it is ours.
            unsafe { libc::munmap(mapped, bytes as usize) };
        }
        mapped as u64 == base
    });
    found.expect("no address space below 16 TiB is free")
}
