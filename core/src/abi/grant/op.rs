//! The operations of `grant_table_op` and their arguments. Xen writes the fields marked *out*.

use core::fmt;

use crate::abi::{DomId, assert_layout};

use super::{GrantHandle, GrantRef, Status};

/// An operation's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Op(pub u32);

macro_rules! ops {
    ($($name:ident = $value:literal, $alias:literal, $text:literal;)*) => {
        impl Op {
            $(
                #[doc = $text]
                #[doc(alias = $alias)]
                pub const $name: Self = Self($value);
            )*

            /// All operations, with their names in the header.
            pub const ALL: &[(&str, Self)] = &[$(($alias, Self::$name)),*];
        }
    };
}

impl Op {
    /// Returns the kind of domain allowed to call the operation, or `None` if a PVH guest on x86 may call it, too.
    pub fn only_for(self) -> Option<&'static str> {
        match self {
            Self::TRANSFER | Self::UNMAP_AND_REPLACE | Self::DUMP_TABLE | Self::GET_STATUS_FRAMES => {
                Some("PV domains")
            }
            Self::CACHE_FLUSH => Some("domains on Arm"),
            _ => None,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::ALL.iter().find(|(_, op)| op == self) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "GNTTABOP {}", self.0),
        }
    }
}

ops! {
    MAP = 0, "GNTTABOP_map_grant_ref", "Maps granted pages: [`MapGrantRef`].";
    UNMAP = 1, "GNTTABOP_unmap_grant_ref", "Unmaps them: [`UnmapGrantRef`].";
    SETUP_TABLE = 2, "GNTTABOP_setup_table", "Grows a table and returns its frames: [`SetupTable`].";
    DUMP_TABLE = 3, "GNTTABOP_dump_table", "Prints a table to Xen's console: [`DumpTable`].";
    TRANSFER = 4, "GNTTABOP_transfer", "Gives pages away: [`Transfer`].";
    COPY = 5, "GNTTABOP_copy", "Copies between pages: [`GrantCopy`].";
    QUERY_SIZE = 6, "GNTTABOP_query_size", "Returns a table's size: [`QuerySize`].";
    UNMAP_AND_REPLACE = 7, "GNTTABOP_unmap_and_replace", "Unmaps and maps another page: [`UnmapAndReplace`].";
    SET_VERSION = 8, "GNTTABOP_set_version", "Chooses the version of the entries: [`SetVersion`].";
    GET_STATUS_FRAMES = 9, "GNTTABOP_get_status_frames", "Returns the frames of the status words: [`GetStatusFrames`].";
    GET_VERSION = 10, "GNTTABOP_get_version", "Returns the version of a domain's entries: [`GetVersion`].";
    SWAP_GRANT_REF = 11, "GNTTABOP_swap_grant_ref", "Exchanges two entries: [`SwapGrantRef`].";
    CACHE_FLUSH = 12, "GNTTABOP_cache_flush", "Cleans caches (Arm): [`CacheFlush`].";
}

bitflags::bitflags! {
    /// How to map. A PVH guest may set [`HOST_MAP`](Self::HOST_MAP) and [`READONLY`](Self::READONLY). Xen refuses the
    /// other flags.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    #[repr(transparent)]
    pub struct MapFlags: u32 {
        /// Maps the page for devices.
        #[doc(alias = "GNTMAP_device_map")]
        const DEVICE_MAP = 1 << 0;
        /// Maps the page for the processor.
        #[doc(alias = "GNTMAP_host_map")]
        const HOST_MAP = 1 << 1;
        /// Maps the page read-only.
        #[doc(alias = "GNTMAP_readonly")]
        const READONLY = 1 << 2;
        /// Maps the page for the current application, too (PV).
        #[doc(alias = "GNTMAP_application_map")]
        const APPLICATION_MAP = 1 << 3;
        /// `host_addr` is the address of a page-table entry (PV).
        #[doc(alias = "GNTMAP_contains_pte")]
        const CONTAINS_PTE = 1 << 4;
        /// The bits of the page-table entry left to the kernel (PV).
        #[doc(alias = "GNTMAP_guest_avail_mask")]
        const GUEST_AVAIL_MASK = 0xffff << 16;

        const _ = !0;
    }

    /// The ends of a [`GrantCopy`] named by a reference. An end without its flag is a frame of the caller's.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    #[repr(transparent)]
    pub struct CopyFlags: u16 {
        /// The source is a reference.
        #[doc(alias = "GNTCOPY_source_gref")]
        const SOURCE_GREF = 1 << 0;
        /// The destination is a reference.
        #[doc(alias = "GNTCOPY_dest_gref")]
        const DEST_GREF = 1 << 1;

        const _ = !0;
    }

    /// The operations of a [`CacheFlush`], and how it names the page.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    #[repr(transparent)]
    pub struct CacheOps: u32 {
        /// Writes the cache back.
        #[doc(alias = "GNTTAB_CACHE_CLEAN")]
        const CLEAN = 1 << 0;
        /// Invalidates the cache.
        #[doc(alias = "GNTTAB_CACHE_INVAL")]
        const INVAL = 1 << 1;
        /// `page` is a reference.
        #[doc(alias = "GNTTAB_CACHE_SOURCE_GREF")]
        const SOURCE_GREF = 1 << 31;

        const _ = !0;
    }
}

/// Maps the page granted by (`dom`, `gref`).
#[doc(alias = "gnttab_map_grant_ref")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct MapGrantRef {
    /// The address to map at: for PVH, guest-physical.
    pub host_addr: u64,
    /// How to map it.
    pub flags: MapFlags,
    /// The reference to map.
    pub gref: GrantRef,
    /// The granting domain.
    pub dom: DomId,
    /// *out* The operation's status.
    pub status: Status,
    /// *out* The handle for unmapping; on failure the negative status.
    pub handle: GrantHandle,
    /// *out* The bus address, if [`MapFlags::DEVICE_MAP`] was set.
    pub dev_bus_addr: u64,
}
assert_layout!(MapGrantRef, size = 32, align = 8, {
    host_addr: 0, flags: 8, gref: 12, dom: 16, status: 18, handle: 20, dev_bus_addr: 24,
});

/// Unmaps a mapping. Xen ignores a zero address; any other address must be exactly the one mapped by the handle.
#[doc(alias = "gnttab_unmap_grant_ref")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct UnmapGrantRef {
    /// The mapped address.
    pub host_addr: u64,
    /// The bus address.
    pub dev_bus_addr: u64,
    /// The handle returned by the map operation.
    pub handle: GrantHandle,
    /// *out* The operation's status.
    pub status: Status,
}
assert_layout!(UnmapGrantRef, size = 24, align = 8, { host_addr: 0, dev_bus_addr: 8, handle: 16, status: 20 });

/// Grows a domain's table to at least `nr_frames` and returns its frames.
#[doc(alias = "gnttab_setup_table")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SetupTable {
    /// The domain; only a privileged caller may name another than itself.
    pub dom: DomId,
    /// The number of frames requested.
    pub nr_frames: u32,
    /// *out* The operation's status.
    pub status: Status,
    /// The address of an array of `nr_frames` 64-bit frame numbers, written by Xen.
    pub frame_list: u64,
}
assert_layout!(SetupTable, size = 24, align = 8, { dom: 0, nr_frames: 4, status: 8, frame_list: 16 });

/// Prints a domain's table to Xen's console.
#[doc(alias = "gnttab_dump_table")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct DumpTable {
    /// The domain owning the table.
    pub dom: DomId,
    /// *out* The operation's status.
    pub status: Status,
}
assert_layout!(DumpTable, size = 4, align = 2, { dom: 0, status: 2 });

/// Gives a page to a domain offering a slot for it. The page is gone even if this fails, unless the status is
/// [`Status::BAD_PAGE`].
#[doc(alias = "gnttab_transfer")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Transfer {
    /// The frame number of the page to give away.
    pub mfn: u64,
    /// The receiving domain.
    pub domid: DomId,
    /// The slot, a reference in the receiver's table.
    pub gref: GrantRef,
    /// *out* The operation's status.
    pub status: Status,
}
assert_layout!(Transfer, size = 24, align = 8, { mfn: 0, domid: 8, gref: 12, status: 16 });

/// One end of a [`GrantCopy`].
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CopyEnd {
    /// A reference (in the low half) or a frame number, depending on the copy's flags.
    pub page: u64,
    /// The domain owning the page: [`DomId::SELF`] for a frame.
    pub domid: DomId,
    /// Offset of the first byte in the page.
    pub offset: u16,
}
assert_layout!(CopyEnd, size = 16, align = 8, { page: 0, domid: 8, offset: 10 });

/// Copies bytes from page to page. Neither source nor destination may cross the end of its page.
#[doc(alias = "gnttab_copy")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct GrantCopy {
    /// The source.
    pub source: CopyEnd,
    /// The destination.
    pub dest: CopyEnd,
    /// Length in bytes.
    pub len: u16,
    /// The ends named by references.
    pub flags: CopyFlags,
    /// *out* The operation's status.
    pub status: Status,
}
assert_layout!(GrantCopy, size = 40, align = 8, { source: 0, dest: 16, len: 32, flags: 34, status: 36 });

/// Returns the current and maximum size of a domain's table.
#[doc(alias = "gnttab_query_size")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct QuerySize {
    /// The domain; only a privileged caller may name another than itself.
    pub dom: DomId,
    /// *out* The current number of frames.
    pub nr_frames: u32,
    /// *out* The maximum number of frames.
    pub max_nr_frames: u32,
    /// *out* The operation's status.
    pub status: Status,
}
assert_layout!(QuerySize, size = 16, align = 4, { dom: 0, nr_frames: 4, max_nr_frames: 8, status: 12 });

/// Unmaps a mapping and replaces it by the page at another address (PV).
#[doc(alias = "gnttab_unmap_and_replace")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct UnmapAndReplace {
    /// The mapped address.
    pub host_addr: u64,
    /// The address of the replacement page.
    pub new_addr: u64,
    /// The handle returned by the map operation.
    pub handle: GrantHandle,
    /// *out* The operation's status.
    pub status: Status,
}
assert_layout!(UnmapAndReplace, size = 24, align = 8, { host_addr: 0, new_addr: 8, handle: 16, status: 20 });

/// Chooses the version of our own entries.
#[doc(alias = "gnttab_set_version")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SetVersion {
    /// 1 or 2; *out* the version in force.
    pub version: u32,
}
assert_layout!(SetVersion, size = 4, align = 4, { version: 0 });

/// Returns the frames of the version 2 status words.
#[doc(alias = "gnttab_get_status_frames")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct GetStatusFrames {
    /// The number of frames requested.
    pub nr_frames: u32,
    /// The domain owning the table.
    pub dom: DomId,
    /// *out* The operation's status.
    pub status: Status,
    /// The address of an array of `nr_frames` 64-bit frame numbers, written by Xen.
    pub frame_list: u64,
}
assert_layout!(GetStatusFrames, size = 16, align = 8, { nr_frames: 0, dom: 4, status: 6, frame_list: 8 });

/// Returns the version of a domain's entries.
#[doc(alias = "gnttab_get_version")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct GetVersion {
    /// The domain owning the table.
    pub dom: DomId,
    /// Zero.
    pub pad: u16,
    /// *out* 1 or 2.
    pub version: u32,
}
assert_layout!(GetVersion, size = 8, align = 4, { dom: 0, pad: 2, version: 4 });

/// Exchanges two of our own entries.
#[doc(alias = "gnttab_swap_grant_ref")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SwapGrantRef {
    /// The first entry.
    pub ref_a: GrantRef,
    /// The second entry.
    pub ref_b: GrantRef,
    /// *out* The operation's status.
    pub status: Status,
}
assert_layout!(SwapGrantRef, size = 12, align = 4, { ref_a: 0, ref_b: 4, status: 8 });

/// Cleans or invalidates the caches for a part of a page (Arm).
#[doc(alias = "gnttab_cache_flush")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CacheFlush {
    /// A bus address, or a reference in the low half.
    pub page: u64,
    /// Offset of the first byte in the page.
    pub offset: u16,
    /// Length in bytes.
    pub length: u16,
    /// The operations, and how `page` is named.
    pub op: CacheOps,
}
assert_layout!(CacheFlush, size = 16, align = 8, { page: 0, offset: 8, length: 10, op: 12 });
