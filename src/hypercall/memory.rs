//! The domain's memory map.

use super::{Hypercall, Number};
use crate::abi::XenErrno;
use crate::abi::memory::{E820Entry, MEMORY_MAP, MemoryMap};

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
