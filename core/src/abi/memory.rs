//! `memory_op`. Source: `xen/include/public/memory.h`.

use super::{DomId, Gfn, assert_layout};

/// Reads the domain's memory map, as [`MemoryMap`].
#[doc(alias = "XENMEM_memory_map")]
pub const MEMORY_MAP: u32 = 9;

/// Argument of [`MEMORY_MAP`].
#[doc(alias = "xen_memory_map")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct MemoryMap {
    /// In: entries the buffer can hold. Out: entries written.
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
    /// The kind of range, as [`RegionKind`](super::start_info::RegionKind).
    pub kind: u32,
}
assert_layout!(E820Entry, size = 20, align = 1, { address: 0, size: 8, kind: 16 });

/// Takes pages away from the domain, as [`Reservation`].
#[doc(alias = "XENMEM_decrease_reservation")]
pub const DECREASE_RESERVATION: u32 = 1;
/// Gives the domain pages at the places it names, as [`Reservation`].
#[doc(alias = "XENMEM_populate_physmap")]
pub const POPULATE_PHYSMAP: u32 = 6;
/// Returns a domain's number of pages; the argument is the domain's number.
#[doc(alias = "XENMEM_current_reservation")]
pub const CURRENT_RESERVATION: u32 = 3;
/// Sets the number of pages really allocated to a domain populated on demand, as [`PodTarget`].
#[doc(alias = "XENMEM_set_pod_target")]
pub const SET_POD_TARGET: u32 = 16;
/// A flag for [`Reservation::mem_flags`]: each page is allocated at its first use.
#[doc(alias = "XENMEMF_populate_on_demand")]
pub const POPULATE_ON_DEMAND: u32 = 1 << 16;

/// Argument of [`SET_POD_TARGET`].
#[doc(alias = "xen_pod_target")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PodTarget {
    /// Pages the domain is to have.
    pub target_pages: u64,
    /// Out: pages it has.
    pub tot_pages: u64,
    /// Out: those of them not in use yet.
    pub pod_cache_pages: u64,
    /// Out: guest frames without a page yet.
    pub pod_entries: u64,
    /// The domain.
    pub domid: DomId,
}
assert_layout!(PodTarget, size = 40, align = 8, {
    target_pages: 0, tot_pages: 8, pod_cache_pages: 16, pod_entries: 24, domid: 32,
});

/// Places a page of Xen's in the domain, as [`AddToPhysmap`].
#[doc(alias = "XENMEM_add_to_physmap")]
pub const ADD_TO_PHYSMAP: u32 = 7;

/// The kind of page for [`AddToPhysmap`] to place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct MapSpace(pub u32);

impl MapSpace {
    /// The page shared by a domain and Xen.
    #[doc(alias = "XENMAPSPACE_shared_info")]
    pub const SHARED_INFO: Self = Self(0);
    /// A frame of the grant table or, with [`MAP_INDEX_STATUS`], of its status words.
    #[doc(alias = "XENMAPSPACE_grant_table")]
    pub const GRANT_TABLE: Self = Self(1);
    /// A frame of another domain; the caller must control that domain.
    #[doc(alias = "XENMAPSPACE_gmfn_foreign")]
    pub const FOREIGN: Self = Self(4);
}

/// In an index of [`MapSpace::GRANT_TABLE`]: selects a frame of status words.
#[doc(alias = "XENMAPIDX_grant_table_status")]
pub const MAP_INDEX_STATUS: u64 = 0x8000_0000;

/// Argument of [`ADD_TO_PHYSMAP`].
#[doc(alias = "xen_add_to_physmap")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct AddToPhysmap {
    /// The domain to change.
    pub domid: DomId,
    /// Pages in a range; zero here.
    pub size: u16,
    /// The kind of page.
    pub space: MapSpace,
    /// The page's index within its kind.
    pub idx: u64,
    /// The frame to place it at.
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
    /// Number of extents in the array.
    pub nr_extents: u64,
    /// log2 of the pages in each extent.
    pub extent_order: u32,
    /// [`POPULATE_ON_DEMAND`], or zero.
    pub mem_flags: u32,
    /// The domain to change.
    pub domid: DomId,
}
assert_layout!(Reservation, size = 32, align = 8, {
    extent_start: 0, nr_extents: 8, extent_order: 16, mem_flags: 20, domid: 24,
});

/// Removes the page at a frame, as [`RemoveFromPhysmap`].
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
    /// The domain to change.
    pub domid: DomId,
    /// The frame to empty.
    pub gpfn: Gfn,
}
assert_layout!(RemoveFromPhysmap, size = 16, align = 8, { domid: 0, gpfn: 8 });

/// Argument of [`ADD_TO_PHYSMAP_BATCH`].
#[doc(alias = "xen_add_to_physmap_batch")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct AddToPhysmapBatch {
    /// The domain to change.
    pub domid: DomId,
    /// The kind of pages: a [`MapSpace`], in the 16 bits it has here.
    pub space: u16,
    /// Number of pages.
    pub size: u16,
    /// For [`MapSpace::FOREIGN`]: the pages' owner.
    pub foreign_domid: DomId,
    /// Address of an array with each page's index.
    pub idxs: u64,
    /// Address of an array of [`Gfn`]: the frames to place them at.
    pub gpfns: u64,
    /// Address of an array. Out: for each page 0, or a negative error number.
    pub errs: u64,
}
assert_layout!(AddToPhysmapBatch, size = 32, align = 8, {
    domid: 0, space: 2, size: 4, foreign_domid: 6, idxs: 8, gpfns: 16, errs: 24,
});
