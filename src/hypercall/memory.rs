//! The domain's memory: its map, and what is in it where.

use super::{Hypercall, Number};
use crate::abi::memory::{
    ADD_TO_PHYSMAP, ADD_TO_PHYSMAP_BATCH, AddToPhysmap, AddToPhysmapBatch, CURRENT_RESERVATION,
    DECREASE_RESERVATION, E820Entry, MEMORY_MAP, MapSpace, MemoryMap, POPULATE_PHYSMAP, PodTarget,
    REMOVE_FROM_PHYSMAP, RemoveFromPhysmap, Reservation, SET_POD_TARGET,
};
use crate::abi::{DomId, Gfn, XenErrno};

/// Fills `entries` with the domain's memory map and returns the part that was filled.
///
/// # Errors
///
/// What Xen says; `ENOSYS` where the domain has no map of its own.
#[doc(alias = "XENMEM_memory_map")]
pub fn memory_map<'e>(
    xen: &impl Hypercall,
    entries: &'e mut [E820Entry],
) -> Result<&'e [E820Entry], XenErrno> {
    let room = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    let mut request = MemoryMap { nr_entries: room, buffer: entries.as_mut_ptr() as u64 };
    let arguments = [MEMORY_MAP.into(), &raw mut request as u64, 0, 0, 0];
    // SAFETY: Xen reads and writes `request`, and at most `nr_entries` entries at `buffer`; both are
    // borrowed here until the call is over.
    unsafe { xen.call(Number::MEMORY_OP, arguments) }?;
    let written = (request.nr_entries as usize).min(entries.len());
    Ok(&entries[..written])
}

/// Places a page of Xen's at a frame of ours.
///
/// # Errors
///
/// What Xen says; `EINVAL` for a page that there isn't.
///
/// # Safety
///
/// Whatever was at the frame is gone: it must be a free window, or what the same page was placed at before.
#[doc(alias = "XENMEM_add_to_physmap")]
pub unsafe fn add_to_physmap(
    xen: &impl Hypercall,
    space: MapSpace,
    idx: u64,
    gpfn: Gfn,
) -> Result<(), XenErrno> {
    let mut request = AddToPhysmap { domid: DomId::SELF, size: 0, space, idx, gpfn };
    // SAFETY: Xen reads `request`; the frame is the caller's word.
    unsafe { xen.call(Number::MEMORY_OP, [ADD_TO_PHYSMAP.into(), &raw mut request as u64, 0, 0, 0]) }
        .map(drop)
}

/// Gives the page at a frame back to Xen. The frame is empty then.
///
/// # Errors
///
/// What Xen says; `EINVAL` where it took none.
///
/// # Safety
///
/// Nobody may use the page.
#[doc(alias = "XENMEM_decrease_reservation")]
pub unsafe fn release_page(xen: &impl Hypercall, frame: Gfn) -> Result<(), XenErrno> {
    // SAFETY: the caller's word.
    unsafe { reserve(xen, DECREASE_RESERVATION, frame) }
}

/// Has Xen put a page of memory at an empty frame.
///
/// # Errors
///
/// What Xen says; `ENOMEM` where the domain may have no more.
///
/// # Safety
///
/// The frame must be empty.
#[doc(alias = "XENMEM_populate_physmap")]
pub unsafe fn populate(xen: &impl Hypercall, frame: Gfn) -> Result<(), XenErrno> {
    // SAFETY: the caller's word.
    let populated = unsafe { reserve(xen, POPULATE_PHYSMAP, frame) };
    populated.map_err(|errno| if errno == XenErrno::INVAL { XenErrno::NOMEM } else { errno })
}

/// # Safety
///
/// As the operation wants it.
unsafe fn reserve(xen: &impl Hypercall, op: u32, frame: Gfn) -> Result<(), XenErrno> {
    let extent_start = &raw const frame as u64;
    let mut request =
        Reservation { extent_start, nr_extents: 1, extent_order: 0, mem_flags: 0, domid: DomId::SELF };
    // SAFETY: Xen reads `request` and the one frame number that it points to; the frame is the caller's word.
    let done = unsafe { xen.call(Number::MEMORY_OP, [op.into(), &raw mut request as u64, 0, 0, 0]) }?;
    // The answer is how many extents were done.
    if done == 1 { Ok(()) } else { Err(XenErrno::INVAL) }
}

/// Gives another domain memory: as many pages as `frames` says, each of 2^`order` frames of 4 KiB. Returns how many
/// of them it got; the first that failed ends it. `flags` is 0 or [`POPULATE_ON_DEMAND`](crate::abi::memory::POPULATE_ON_DEMAND).
///
/// # Errors
///
/// What Xen says; `EPERM` where the caller doesn't control the domain.
///
/// # Safety
///
/// It is another domain, to which nothing is at these frames.
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
    // SAFETY: Xen reads `request` and the frame numbers, which are borrowed here; the memory is another domain's.
    unsafe { xen.call(Number::MEMORY_OP, [POPULATE_PHYSMAP.into(), &raw mut request as u64, 0, 0, 0]) }
}

/// Places pages of another domain's at frames of ours; each has its own result in `errors`, negative or 0.
///
/// # Errors
///
/// What Xen says of the call as a whole; `EINVAL` for lists of different lengths.
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
    // SAFETY: Xen reads `request` and two lists, and writes one, which are borrowed here; the frames are the caller's
    // word.
    unsafe { xen.call(Number::MEMORY_OP, [ADD_TO_PHYSMAP_BATCH.into(), &raw mut request as u64, 0, 0, 0]) }
        .map(drop)
}

/// Empties a frame of ours.
///
/// # Errors
///
/// What Xen says.
///
/// # Safety
///
/// Nobody may use what is there.
#[doc(alias = "XENMEM_remove_from_physmap")]
pub unsafe fn remove(xen: &impl Hypercall, frame: Gfn) -> Result<(), XenErrno> {
    let mut request = RemoveFromPhysmap { domid: DomId::SELF, gpfn: frame };
    // SAFETY: Xen reads `request`; the frame is the caller's word.
    unsafe { xen.call(Number::MEMORY_OP, [REMOVE_FROM_PHYSMAP.into(), &raw mut request as u64, 0, 0, 0]) }
        .map(drop)
}

/// How many pages this domain has, those that Xen placed for its own use included.
///
/// # Errors
///
/// What Xen says.
#[doc(alias = "XENMEM_current_reservation")]
pub fn current_reservation(xen: &impl Hypercall) -> Result<u64, XenErrno> {
    let domain = DomId::SELF;
    // SAFETY: Xen reads the domain's number, which lives until the call is over.
    unsafe { xen.call(Number::MEMORY_OP, [CURRENT_RESERVATION.into(), &raw const domain as u64, 0, 0, 0]) }
}

/// Gives pages of this domain's back to Xen, each of 2^`order` frames, whether there is anything yet or not. Returns how
/// many it took.
///
/// # Errors
///
/// What Xen says.
///
/// # Safety
///
/// Nobody may use the pages, from here on either.
#[doc(alias = "XENMEM_decrease_reservation")]
pub unsafe fn give_up(xen: &impl Hypercall, frames: &[Gfn], order: u32) -> Result<u64, XenErrno> {
    let mut request = Reservation {
        extent_start: frames.as_ptr() as u64,
        nr_extents: frames.len() as u64,
        extent_order: order,
        mem_flags: 0,
        domid: DomId::SELF,
    };
    // SAFETY: Xen reads `request` and the frame numbers, which are borrowed here; the pages are the caller's word.
    unsafe { xen.call(Number::MEMORY_OP, [DECREASE_RESERVATION.into(), &raw mut request as u64, 0, 0, 0]) }
}

/// Says how many pages a domain really has of those that are populated on demand.
///
/// # Errors
///
/// What Xen says; `ENOMEM` without so much memory.
#[doc(alias = "XENMEM_set_pod_target")]
pub fn set_pod_target(xen: &impl Hypercall, domain: DomId, pages: u64) -> Result<(), XenErrno> {
    let mut target =
        PodTarget { target_pages: pages, tot_pages: 0, pod_cache_pages: 0, pod_entries: 0, domid: domain };
    // SAFETY: Xen reads and writes the argument, which is borrowed here.
    unsafe { xen.call(Number::MEMORY_OP, [SET_POD_TARGET.into(), &raw mut target as u64, 0, 0, 0]) }.map(drop)
}
