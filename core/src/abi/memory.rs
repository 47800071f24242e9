//! `memory_op`. Source: `xen/include/public/memory.h`.

use super::{DomId, Gfn, assert_layout};

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

/// Takes pages away from the domain, as [`Reservation`].
#[doc(alias = "XENMEM_decrease_reservation")]
pub const DECREASE_RESERVATION: u32 = 1;
/// Gives the domain pages at the places it names, as [`Reservation`].
#[doc(alias = "XENMEM_populate_physmap")]
pub const POPULATE_PHYSMAP: u32 = 6;
/// Returns how many pages a domain has; the argument is its number.
#[doc(alias = "XENMEM_current_reservation")]
pub const CURRENT_RESERVATION: u32 = 3;
/// Says how much a domain has of what is populated on demand, as [`PodTarget`].
#[doc(alias = "XENMEM_set_pod_target")]
pub const SET_POD_TARGET: u32 = 16;
/// A flag of [`Reservation`]: the pages come when they are first used.
#[doc(alias = "XENMEMF_populate_on_demand")]
pub const POPULATE_ON_DEMAND: u32 = 1 << 16;

/// Argument of [`SET_POD_TARGET`].
#[doc(alias = "xen_pod_target")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PodTarget {
    /// Pages that the domain is to have.
    pub target_pages: u64,
    /// Out: pages that it has.
    pub tot_pages: u64,
    /// Out: of these, those that wait to be used.
    pub pod_cache_pages: u64,
    /// Out: places for pages that have none.
    pub pod_entries: u64,
    /// Whose.
    pub domid: DomId,
}
assert_layout!(PodTarget, size = 40, align = 8, {
    target_pages: 0, tot_pages: 8, pod_cache_pages: 16, pod_entries: 24, domid: 32,
});

/// Places a page of Xen's in the domain, as [`AddToPhysmap`].
#[doc(alias = "XENMEM_add_to_physmap")]
pub const ADD_TO_PHYSMAP: u32 = 7;

/// What [`AddToPhysmap`] places.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct MapSpace(pub u32);

impl MapSpace {
    /// The page that a domain shares with Xen.
    #[doc(alias = "XENMAPSPACE_shared_info")]
    pub const SHARED_INFO: Self = Self(0);
    /// A frame of the grant table; with [`MAP_INDEX_STATUS`], one of its status words.
    #[doc(alias = "XENMAPSPACE_grant_table")]
    pub const GRANT_TABLE: Self = Self(1);
    /// A frame of another domain's, which the caller must control.
    #[doc(alias = "XENMAPSPACE_gmfn_foreign")]
    pub const FOREIGN: Self = Self(4);
}

/// In an index of [`MapSpace::GRANT_TABLE`]: a frame of status words.
#[doc(alias = "XENMAPIDX_grant_table_status")]
pub const MAP_INDEX_STATUS: u64 = 0x8000_0000;

/// Argument of [`ADD_TO_PHYSMAP`].
#[doc(alias = "xen_add_to_physmap")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct AddToPhysmap {
    /// Whose memory.
    pub domid: DomId,
    /// For ranges; zero.
    pub size: u16,
    /// What.
    pub space: MapSpace,
    /// Which.
    pub idx: u64,
    /// Where to.
    pub gpfn: Gfn,
}
assert_layout!(AddToPhysmap, size = 24, align = 8, { domid: 0, size: 2, space: 4, idx: 8, gpfn: 16 });

/// Argument of [`DECREASE_RESERVATION`] and [`POPULATE_PHYSMAP`].
#[doc(alias = "xen_memory_reservation")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Reservation {
    /// Address of an array of frame numbers.
    pub extent_start: u64,
    /// How many.
    pub nr_extents: u64,
    /// log2 of the pages in each.
    pub extent_order: u32,
    /// Zero.
    pub mem_flags: u32,
    /// Whose memory.
    pub domid: DomId,
}
assert_layout!(Reservation, size = 32, align = 8, {
    extent_start: 0, nr_extents: 8, extent_order: 16, mem_flags: 20, domid: 24,
});

/// Empties a place, as [`RemoveFromPhysmap`].
#[doc(alias = "XENMEM_remove_from_physmap")]
pub const REMOVE_FROM_PHYSMAP: u32 = 15;
/// Places several pages at once, as [`AddToPhysmapBatch`].
#[doc(alias = "XENMEM_add_to_physmap_batch")]
pub const ADD_TO_PHYSMAP_BATCH: u32 = 23;

/// Argument of [`REMOVE_FROM_PHYSMAP`].
#[doc(alias = "xen_remove_from_physmap")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct RemoveFromPhysmap {
    /// Whose memory.
    pub domid: DomId,
    /// Where.
    pub gpfn: Gfn,
}
assert_layout!(RemoveFromPhysmap, size = 16, align = 8, { domid: 0, gpfn: 8 });

/// Argument of [`ADD_TO_PHYSMAP_BATCH`].
#[doc(alias = "xen_add_to_physmap_batch")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct AddToPhysmapBatch {
    /// Whose memory.
    pub domid: DomId,
    /// What: a [`MapSpace`], of which 16 bits are enough here.
    pub space: u16,
    /// How many.
    pub size: u16,
    /// Of [`MapSpace::FOREIGN`]: whose pages.
    pub foreign_domid: DomId,
    /// Address of an array: which.
    pub idxs: u64,
    /// Address of an array of [`Gfn`]: where to.
    pub gpfns: u64,
    /// Address of an array: out, an error number for each, negative, or 0.
    pub errs: u64,
}
assert_layout!(AddToPhysmapBatch, size = 32, align = 8, {
    domid: 0, space: 2, size: 4, foreign_domid: 6, idxs: 8, gpfns: 16, errs: 24,
});
