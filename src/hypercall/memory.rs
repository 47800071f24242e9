//! The domain's memory: its map, and the pages at its frames.

use super::{Hypercall, Number};
use crate::abi::memory::{
    ADD_TO_PHYSMAP, ADD_TO_PHYSMAP_BATCH, AddToPhysmap, AddToPhysmapBatch, CURRENT_RESERVATION,
    DECREASE_RESERVATION, E820Entry, MEMORY_MAP, MapSpace, MemoryMap, POPULATE_PHYSMAP, PodTarget,
    REMOVE_FROM_PHYSMAP, RemoveFromPhysmap, Reservation, SET_POD_TARGET,
};
use crate::abi::{DomId, Gfn, XenErrno};

/// Fills `entries` with the domain's memory map and returns the filled part.
///
/// # Errors
///
/// `ENOSYS` if the domain has no map of its own; otherwise Xen's errno.
#[doc(alias = "XENMEM_memory_map")]
pub fn memory_map<'e>(
    xen: &impl Hypercall,
    entries: &'e mut [E820Entry],
) -> Result<&'e [E820Entry], XenErrno> {
    let room = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    let mut request = MemoryMap { nr_entries: room, buffer: entries.as_mut_ptr() as u64 };
    let arguments = [MEMORY_MAP.into(), &raw mut request as u64, 0, 0, 0];
    // SAFETY: Xen reads and writes `request`, and at most `nr_entries` entries at `buffer`; both are borrowed here
    // until the call is over.
    unsafe { xen.call(Number::MEMORY_OP, arguments) }?;
    let written = (request.nr_entries as usize).min(entries.len());
    Ok(&entries[..written])
}

/// Places one of Xen's pages at one of this domain's frames.
///
/// # Errors
///
/// `EINVAL` if the page doesn't exist; otherwise Xen's errno.
///
/// # Safety
///
/// The frame's previous page is lost: the frame must be a free window, or the place of the same page before.
#[doc(alias = "XENMEM_add_to_physmap")]
pub unsafe fn add_to_physmap(
    xen: &impl Hypercall,
    space: MapSpace,
    idx: u64,
    gpfn: Gfn,
) -> Result<(), XenErrno> {
    let mut request = AddToPhysmap { domid: DomId::SELF, size: 0, space, idx, gpfn };
    // SAFETY: Xen reads `request`; the caller vouches for the frame.
    unsafe { xen.call(Number::MEMORY_OP, [ADD_TO_PHYSMAP.into(), &raw mut request as u64, 0, 0, 0]) }
        .map(drop)
}

/// Returns the page at a frame to Xen and leaves the frame empty.
///
/// # Errors
///
/// `EINVAL` if Xen took no page; otherwise Xen's errno.
///
/// # Safety
///
/// The page must not be in use.
#[doc(alias = "XENMEM_decrease_reservation")]
pub unsafe fn release_page(xen: &impl Hypercall, frame: Gfn) -> Result<(), XenErrno> {
    // SAFETY: guaranteed by the caller.
    unsafe { reserve(xen, DECREASE_RESERVATION, frame) }
}

/// Populates an empty frame with a page of memory.
///
/// # Errors
///
/// `ENOMEM` if the domain may have no more; otherwise Xen's errno.
///
/// # Safety
///
/// The frame must be empty.
#[doc(alias = "XENMEM_populate_physmap")]
pub unsafe fn populate(xen: &impl Hypercall, frame: Gfn) -> Result<(), XenErrno> {
    // SAFETY: guaranteed by the caller.
    let populated = unsafe { reserve(xen, POPULATE_PHYSMAP, frame) };
    populated.map_err(|errno| if errno == XenErrno::INVAL { XenErrno::NOMEM } else { errno })
}

/// # Safety
///
/// As the operation requires.
unsafe fn reserve(xen: &impl Hypercall, op: u32, frame: Gfn) -> Result<(), XenErrno> {
    let extent_start = &raw const frame as u64;
    let mut request =
        Reservation { extent_start, nr_extents: 1, extent_order: 0, mem_flags: 0, domid: DomId::SELF };
    // SAFETY: Xen reads `request` and the one frame number at its pointer; the caller vouches for the frame.
    let done = unsafe { xen.call(Number::MEMORY_OP, [op.into(), &raw mut request as u64, 0, 0, 0]) }?;
    // The result is the number of extents done.
    if done == 1 { Ok(()) } else { Err(XenErrno::INVAL) }
}

/// Gives another domain memory: one page of 2^`order` frames of 4 KiB at each of `frames`. Stops at the first failure
/// and returns the number of pages given. `flags` is 0 or
/// [`POPULATE_ON_DEMAND`](crate::abi::memory::POPULATE_ON_DEMAND).
///
/// # Errors
///
/// `EPERM` if the caller doesn't control the domain; otherwise Xen's errno.
///
/// # Safety
///
/// `domain` must be another domain, with no pages at these frames.
#[doc(alias = "XENMEM_populate_physmap")]
pub unsafe fn give(
    xen: &impl Hypercall,
    domain: DomId,
    frames: &[Gfn],
    order: u32,
    flags: u32,
) -> Result<u64, XenErrno> {
    let mut request = Reservation {
        extent_start: frames.as_ptr() as u64,
        nr_extents: frames.len() as u64,
        extent_order: order,
        mem_flags: flags,
        domid: domain,
    };
    // SAFETY: Xen reads `request` and the frame numbers, all borrowed here; the memory is another domain's.
    unsafe { xen.call(Number::MEMORY_OP, [POPULATE_PHYSMAP.into(), &raw mut request as u64, 0, 0, 0]) }
}

/// Places another domain's pages at this domain's frames. Each page has its own result in `errors`, negative or 0.
///
/// # Errors
///
/// `EINVAL` for lists of different lengths, or too long for a `u16`; otherwise Xen's errno for the whole call.
///
/// # Safety
///
/// The frames must be free windows.
#[doc(alias = "XENMEM_add_to_physmap_batch")]
pub unsafe fn map_foreign(
    xen: &impl Hypercall,
    domain: DomId,
    theirs: &[u64],
    ours: &[Gfn],
    errors: &mut [i32],
) -> Result<(), XenErrno> {
    let size = u16::try_from(ours.len()).map_err(|_| XenErrno::INVAL)?;
    if theirs.len() != ours.len() || errors.len() != ours.len() {
        return Err(XenErrno::INVAL);
    }
    let mut request = AddToPhysmapBatch {
        domid: DomId::SELF,
        space: MapSpace::FOREIGN.0 as u16,
        size,
        foreign_domid: domain,
        idxs: theirs.as_ptr() as u64,
        gpfns: ours.as_ptr() as u64,
        errs: errors.as_mut_ptr() as u64,
    };
    // SAFETY: Xen reads `request` and two lists, and writes one, all borrowed here; the caller vouches for the
    // frames.
    unsafe { xen.call(Number::MEMORY_OP, [ADD_TO_PHYSMAP_BATCH.into(), &raw mut request as u64, 0, 0, 0]) }
        .map(drop)
}

/// Empties one of this domain's frames.
///
/// # Errors
///
/// `ENOENT` if the frame has no page.
///
/// # Safety
///
/// The page at the frame must not be in use.
#[doc(alias = "XENMEM_remove_from_physmap")]
pub unsafe fn remove(xen: &impl Hypercall, frame: Gfn) -> Result<(), XenErrno> {
    let mut request = RemoveFromPhysmap { domid: DomId::SELF, gpfn: frame };
    // SAFETY: Xen reads `request`; the caller vouches for the frame.
    unsafe { xen.call(Number::MEMORY_OP, [REMOVE_FROM_PHYSMAP.into(), &raw mut request as u64, 0, 0, 0]) }
        .map(drop)
}

/// Returns the domain's number of pages, including those placed by Xen for its own use.
///
/// # Errors
///
/// Xen's errno; no known Xen refuses this call.
#[doc(alias = "XENMEM_current_reservation")]
pub fn current_reservation(xen: &impl Hypercall) -> Result<u64, XenErrno> {
    let domain = DomId::SELF;
    // SAFETY: Xen reads the domain's number, which outlives the call.
    unsafe { xen.call(Number::MEMORY_OP, [CURRENT_RESERVATION.into(), &raw const domain as u64, 0, 0, 0]) }
}

/// Returns pages of this domain to Xen, each of 2^`order` frames, populated yet or not. Returns the number of pages
/// taken by Xen.
///
/// # Errors
///
/// `EINVAL` if Xen refuses the order. A frame that Xen can't take ends the call early, without an error.
///
/// # Safety
///
/// The pages must not be in use, now or later.
#[doc(alias = "XENMEM_decrease_reservation")]
pub unsafe fn give_up(xen: &impl Hypercall, frames: &[Gfn], order: u32) -> Result<u64, XenErrno> {
    let mut request = Reservation {
        extent_start: frames.as_ptr() as u64,
        nr_extents: frames.len() as u64,
        extent_order: order,
        mem_flags: 0,
        domid: DomId::SELF,
    };
    // SAFETY: Xen reads `request` and the frame numbers, all borrowed here; the caller vouches for the pages.
    unsafe { xen.call(Number::MEMORY_OP, [DECREASE_RESERVATION.into(), &raw mut request as u64, 0, 0, 0]) }
}

/// Sets the number of pages backing a domain's memory populated on demand.
///
/// # Errors
///
/// `ENOMEM` if Xen has too little memory; otherwise Xen's errno.
#[doc(alias = "XENMEM_set_pod_target")]
pub fn set_pod_target(xen: &impl Hypercall, domain: DomId, pages: u64) -> Result<(), XenErrno> {
    let mut target =
        PodTarget { target_pages: pages, tot_pages: 0, pod_cache_pages: 0, pod_entries: 0, domid: domain };
    // SAFETY: Xen reads and writes the argument, which is borrowed here.
    unsafe { xen.call(Number::MEMORY_OP, [SET_POD_TARGET.into(), &raw mut target as u64, 0, 0, 0]) }.map(drop)
}
