//! The operations of `grant_table_op` and their arguments. Fields marked *out* are Xen's to write.

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

            /// All operations with their names in the header.
            pub const ALL: &[(&str, Self)] = &[$(($alias, Self::$name)),*];
        }
    };
}

impl Op {
    /// Who may call it, where a PVH guest on x86 may not.
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
    SETUP_TABLE = 2, "GNTTABOP_setup_table", "Grows a table and tells its frames: [`SetupTable`].";
    DUMP_TABLE = 3, "GNTTABOP_dump_table", "Prints a table to Xen's console: [`DumpTable`].";
    TRANSFER = 4, "GNTTABOP_transfer", "Gives pages away: [`Transfer`].";
    COPY = 5, "GNTTABOP_copy", "Copies between pages: [`GrantCopy`].";
    QUERY_SIZE = 6, "GNTTABOP_query_size", "Tells a table's size: [`QuerySize`].";
    UNMAP_AND_REPLACE = 7, "GNTTABOP_unmap_and_replace", "Unmaps and maps another page: [`UnmapAndReplace`].";
    SET_VERSION = 8, "GNTTABOP_set_version", "Chooses the version of the entries: [`SetVersion`].";
    GET_STATUS_FRAMES = 9, "GNTTABOP_get_status_frames", "Tells the frames of the status words: [`GetStatusFrames`].";
    GET_VERSION = 10, "GNTTABOP_get_version", "Tells the version of a domain's entries: [`GetVersion`].";
    SWAP_GRANT_REF = 11, "GNTTABOP_swap_grant_ref", "Exchanges two entries: [`SwapGrantRef`].";
    CACHE_FLUSH = 12, "GNTTABOP_cache_flush", "Cleans caches (Arm): [`CacheFlush`].";
}

bitflags::bitflags! {
    /// How to map. A PVH guest may ask for [`HOST_MAP`](Self::HOST_MAP) and [`READONLY`](Self::READONLY); Xen
    /// refuses it the others.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    #[repr(transparent)]
    pub struct MapFlags: u32 {
        /// For devices.
        #[doc(alias = "GNTMAP_device_map")]
        const DEVICE_MAP = 1 << 0;
        /// For the processor.
        #[doc(alias = "GNTMAP_host_map")]
        const HOST_MAP = 1 << 1;
        /// To read only.
        #[doc(alias = "GNTMAP_readonly")]
        const READONLY = 1 << 2;
        /// For the current application too (PV).
        #[doc(alias = "GNTMAP_application_map")]
        const APPLICATION_MAP = 1 << 3;
        /// `host_addr` is that of a page-table entry (PV).
        #[doc(alias = "GNTMAP_contains_pte")]
        const CONTAINS_PTE = 1 << 4;
        /// Bits for the kernel's own use in the page-table entry (PV).
        #[doc(alias = "GNTMAP_guest_avail_mask")]
        const GUEST_AVAIL_MASK = 0xffff << 16;

        const _ = !0;
    }

    /// Which end of a [`GrantCopy`] is a reference; the other is a frame of the caller's.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    #[repr(transparent)]
    pub struct CopyFlags: u16 {
        /// The source.
        #[doc(alias = "GNTCOPY_source_gref")]
        const SOURCE_GREF = 1 << 0;
        /// The destination.
        #[doc(alias = "GNTCOPY_dest_gref")]
        const DEST_GREF = 1 << 1;

        const _ = !0;
    }

    /// What [`CacheFlush`] does, and to what.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    #[repr(transparent)]
    pub struct CacheOps: u32 {
        /// Write back.
        #[doc(alias = "GNTTAB_CACHE_CLEAN")]
        const CLEAN = 1 << 0;
        /// Invalidate.
        #[doc(alias = "GNTTAB_CACHE_INVAL")]
        const INVAL = 1 << 1;
        /// The page is named by a reference.
        #[doc(alias = "GNTTAB_CACHE_SOURCE_GREF")]
        const SOURCE_GREF = 1 << 31;

        const _ = !0;
    }
}

/// Maps the page behind (`dom`, `gref`).
#[doc(alias = "gnttab_map_grant_ref")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct MapGrantRef {
    /// PVH: the guest-physical address to map at.
    pub host_addr: u64,
    /// How.
    pub flags: MapFlags,
    /// Which grant.
    pub gref: GrantRef,
    /// Whose.
    pub dom: DomId,
    /// *out*
    pub status: Status,
    /// *out* What to unmap it by; on failure the status, negative.
    pub handle: GrantHandle,
    /// *out* Where devices find it, if that was asked for.
    pub dev_bus_addr: u64,
}
assert_layout!(MapGrantRef, size = 32, align = 8, {
    host_addr: 0, flags: 8, gref: 12, dom: 16, status: 18, handle: 20, dev_bus_addr: 24,
});

/// Unmaps a mapping. A zero address is ignored; any other must be exactly that of this handle's mapping.
#[doc(alias = "gnttab_unmap_grant_ref")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct UnmapGrantRef {
    /// Where it is mapped.
    pub host_addr: u64,
    /// Where devices find it.
    pub dev_bus_addr: u64,
    /// What it was named when it was mapped.
    pub handle: GrantHandle,
    /// *out*
    pub status: Status,
}
assert_layout!(UnmapGrantRef, size = 24, align = 8, { host_addr: 0, dev_bus_addr: 8, handle: 16, status: 20 });

/// Makes a domain's table at least so large, and tells where it is.
#[doc(alias = "gnttab_setup_table")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SetupTable {
    /// Whose; only a privileged domain may name another.
    pub dom: DomId,
    /// Frames.
    pub nr_frames: u32,
    /// *out*
    pub status: Status,
    /// Address of an array of `nr_frames` 64-bit frame numbers, which Xen writes.
    pub frame_list: u64,
}
assert_layout!(SetupTable, size = 24, align = 8, { dom: 0, nr_frames: 4, status: 8, frame_list: 16 });

/// Prints a domain's table to Xen's console.
#[doc(alias = "gnttab_dump_table")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct DumpTable {
    /// Whose.
    pub dom: DomId,
    /// *out*
    pub status: Status,
}
assert_layout!(DumpTable, size = 4, align = 2, { dom: 0, status: 2 });

/// Gives a page to a domain that offered a slot for one. The page is gone even if this fails, unless the
/// status is [`Status::BAD_PAGE`].
#[doc(alias = "gnttab_transfer")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Transfer {
    /// The page.
    pub mfn: u64,
    /// To whom.
    pub domid: DomId,
    /// Into which slot.
    pub gref: GrantRef,
    /// *out*
    pub status: Status,
}
assert_layout!(Transfer, size = 24, align = 8, { mfn: 0, domid: 8, gref: 12, status: 16 });

/// One end of a [`GrantCopy`].
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CopyEnd {
    /// A reference, in its low half, or a frame number, by the copy's flags.
    pub page: u64,
    /// Whose: [`DomId::SELF`] for a frame.
    pub domid: DomId,
    /// First byte.
    pub offset: u16,
}
assert_layout!(CopyEnd, size = 16, align = 8, { page: 0, domid: 8, offset: 10 });

/// Copies bytes from page to page, neither crossing its end.
#[doc(alias = "gnttab_copy")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct GrantCopy {
    /// From.
    pub source: CopyEnd,
    /// To.
    pub dest: CopyEnd,
    /// Bytes.
    pub len: u16,
    /// Which ends are references.
    pub flags: CopyFlags,
    /// *out*
    pub status: Status,
}
assert_layout!(GrantCopy, size = 40, align = 8, { source: 0, dest: 16, len: 32, flags: 34, status: 36 });

/// Tells how large a domain's table is and may become.
#[doc(alias = "gnttab_query_size")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct QuerySize {
    /// Whose; only a privileged domain may name another.
    pub dom: DomId,
    /// *out* Frames now.
    pub nr_frames: u32,
    /// *out* Frames at most.
    pub max_nr_frames: u32,
    /// *out*
    pub status: Status,
}
assert_layout!(QuerySize, size = 16, align = 4, { dom: 0, nr_frames: 4, max_nr_frames: 8, status: 12 });

/// Unmaps a mapping and puts the page of another address in its place (PV).
#[doc(alias = "gnttab_unmap_and_replace")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct UnmapAndReplace {
    /// Where it is mapped.
    pub host_addr: u64,
    /// Whose page comes there.
    pub new_addr: u64,
    /// What it was named when it was mapped.
    pub handle: GrantHandle,
    /// *out*
    pub status: Status,
}
assert_layout!(UnmapAndReplace, size = 24, align = 8, { host_addr: 0, new_addr: 8, handle: 16, status: 20 });

/// Chooses the version of our own entries.
#[doc(alias = "gnttab_set_version")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SetVersion {
    /// 1 or 2; *out*: the version in force.
    pub version: u32,
}
assert_layout!(SetVersion, size = 4, align = 4, { version: 0 });

/// Tells where the status words of version 2 are.
#[doc(alias = "gnttab_get_status_frames")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct GetStatusFrames {
    /// Frames.
    pub nr_frames: u32,
    /// Whose.
    pub dom: DomId,
    /// *out*
    pub status: Status,
    /// Address of an array of `nr_frames` 64-bit frame numbers, which Xen writes.
    pub frame_list: u64,
}
assert_layout!(GetStatusFrames, size = 16, align = 8, { nr_frames: 0, dom: 4, status: 6, frame_list: 8 });

/// Tells the version of a domain's entries.
#[doc(alias = "gnttab_get_version")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct GetVersion {
    /// Whose.
    pub dom: DomId,
    /// Zero.
    pub pad: u16,
    /// *out*
    pub version: u32,
}
assert_layout!(GetVersion, size = 8, align = 4, { dom: 0, pad: 2, version: 4 });

/// Exchanges two of our own entries.
#[doc(alias = "gnttab_swap_grant_ref")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SwapGrantRef {
    /// One.
    pub ref_a: GrantRef,
    /// The other.
    pub ref_b: GrantRef,
    /// *out*
    pub status: Status,
}
assert_layout!(SwapGrantRef, size = 12, align = 4, { ref_a: 0, ref_b: 4, status: 8 });

/// Cleans or invalidates the caches for a part of a page (Arm).
#[doc(alias = "gnttab_cache_flush")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CacheFlush {
    /// A bus address, or a reference in its low half.
    pub page: u64,
    /// First byte.
    pub offset: u16,
    /// Bytes.
    pub length: u16,
    /// What to do.
    pub op: CacheOps,
}
assert_layout!(CacheFlush, size = 16, align = 8, { page: 0, offset: 8, length: 10, op: 12 });
