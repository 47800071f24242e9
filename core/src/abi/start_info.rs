//! The start info passed to the kernel by a PVH loader. Source: `xen/include/public/arch-x86/hvm/start_info.h`.
//!
//! Xen 4.17 passes version 0 to its control domain. That version ends before `memmap_paddr`. A domU gets version 1,
//! and so does a kernel started with QEMU's `-kernel`.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::assert_layout;

/// First word of the start info: "xEn3" with bit 7 of the E set.
#[doc(alias = "XEN_HVM_START_MAGIC_VALUE")]
pub const MAGIC: u32 = 0x336e_c578;
/// Bytes of a version 0 structure.
pub const SIZE_V0: usize = 40;
/// The first version with a memory map.
pub const VERSION_WITH_MEMORY_MAP: u32 = 1;

/// `flags`: the domain is privileged.
#[doc(alias = "SIF_PRIVILEGED")]
pub const FLAG_PRIVILEGED: u32 = 1 << 0;
/// `flags`: the domain is the first one.
#[doc(alias = "SIF_INITDOMAIN")]
pub const FLAG_INITIAL_DOMAIN: u32 = 1 << 1;

/// The start info. EBX holds its address at entry.
#[doc(alias = "hvm_start_info")]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct StartInfo {
    /// [`MAGIC`].
    pub magic: u32,
    /// 0 or 1; later versions only add fields.
    pub version: u32,
    /// [`FLAG_PRIVILEGED`], [`FLAG_INITIAL_DOMAIN`].
    pub flags: u32,
    /// Number of entries at `modlist_paddr`.
    pub nr_modules: u32,
    /// Array of [`Module`]; null if there is none.
    pub modlist_paddr: u64,
    /// The command line, ended by a zero byte; null if there is none.
    pub cmdline_paddr: u64,
    /// ACPI's root pointer; null if there is none.
    pub rsdp_paddr: u64,
    /// Array of [`MemoryMapEntry`]. From version 1 on.
    pub memmap_paddr: u64,
    /// Number of entries at `memmap_paddr`. From version 1 on.
    pub memmap_entries: u32,
    /// Zero.
    pub reserved: u32,
}
assert_layout!(StartInfo, size = 56, align = 8, {
    magic: 0, version: 4, flags: 8, nr_modules: 12, modlist_paddr: 16, cmdline_paddr: 24,
    rsdp_paddr: 32, memmap_paddr: 40, memmap_entries: 48, reserved: 52,
});

/// A file placed in memory by the loader.
#[doc(alias = "hvm_modlist_entry")]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Module {
    /// First byte, a guest-physical address.
    pub paddr: u64,
    /// Length in bytes.
    pub size: u64,
    /// Its command line, or null.
    pub cmdline_paddr: u64,
    /// Zero.
    pub reserved: u64,
}
assert_layout!(Module, size = 32, align = 8, { paddr: 0, size: 8, cmdline_paddr: 16, reserved: 24 });

/// One range of guest-physical memory.
#[doc(alias = "hvm_memmap_table_entry")]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct MemoryMapEntry {
    /// First byte.
    pub addr: u64,
    /// Length in bytes.
    pub size: u64,
    /// The kind of range.
    pub kind: RegionKind,
    /// Zero.
    pub reserved: u32,
}
assert_layout!(MemoryMapEntry, size = 24, align = 8, { addr: 0, size: 8, kind: 16, reserved: 20 });

/// The kind of a range of memory. An open set: ACPI defines more, and only RAM is ever used.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(transparent)]
pub struct RegionKind(pub u32);

impl RegionKind {
    /// Usable memory.
    #[doc(alias = "XEN_HVM_MEMMAP_TYPE_RAM")]
    pub const RAM: Self = Self(1);
    /// Not to be used.
    #[doc(alias = "XEN_HVM_MEMMAP_TYPE_RESERVED")]
    pub const RESERVED: Self = Self(2);
}
