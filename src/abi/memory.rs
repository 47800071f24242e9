//! `memory_op`. Source: `xen/include/public/memory.h`.

use super::assert_layout;

/// Asks for the domain's memory map, as [`MemoryMap`].
#[doc(alias = "XENMEM_memory_map")]
pub const MEMORY_MAP: u32 = 9;

/// Argument of [`MEMORY_MAP`]: in, how many entries fit; out, how many were written.
#[doc(alias = "xen_memory_map")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct MemoryMap {
    /// Entries in the buffer, then entries written.
    pub nr_entries: u32,
    /// Address of an array of [`E820Entry`].
    pub buffer: u64,
}
assert_layout!(MemoryMap, size = 16, align = 8, { nr_entries: 0, buffer: 8 });

/// One range of the map, in the BIOS's format: packed, 20 bytes.
#[doc(alias = "e820entry")]
#[derive(Clone, Copy, Default, Debug)]
#[repr(C, packed)]
pub struct E820Entry {
    /// First byte, a guest-physical address.
    pub address: u64,
    /// Length in bytes.
    pub size: u64,
    /// What the range is, as [`RegionKind`](super::start_info::RegionKind).
    pub kind: u32,
}
assert_layout!(E820Entry, size = 20, align = 1, { address: 0, size: 8, kind: 16 });
