//! The domain's memory: its map, and what is in it where.

use super::{Hypercall, Number};
use crate::abi::memory::{
    ADD_TO_PHYSMAP, AddToPhysmap, DECREASE_RESERVATION, E820Entry, MEMORY_MAP, MapSpace, MemoryMap,
    POPULATE_PHYSMAP, Reservation,
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
