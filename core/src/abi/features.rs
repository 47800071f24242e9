//! The features of a Xen, as shown to a guest.

bitflags::bitflags! {
    /// The first feature word (`XENVER_get_features`, submap 0). Source: `xen/include/public/features.h`. Unknown
    /// bits are kept.
    #[doc(alias = "XENFEAT_NR_SUBMAPS")]
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Features: u32 {
        /// Page tables may be written directly.
        const WRITABLE_PAGE_TABLES = 1 << 0;
        /// Descriptor tables may be written directly.
        const WRITABLE_DESCRIPTOR_TABLES = 1 << 1;
        /// Xen translates guest-physical addresses: always so for PVH.
        const AUTO_TRANSLATED_PHYSMAP = 1 << 2;
        /// The guest runs in supervisor mode, as in ring 0.
        const SUPERVISOR_MODE_KERNEL = 1 << 3;
        /// PAE page directories need not lie below 4 GiB.
        const PAE_PGDIR_ABOVE_4GB = 1 << 4;
        /// `MMU_PT_UPDATE_PRESERVE_AD` is supported.
        const MMU_PT_UPDATE_PRESERVE_AD = 1 << 5;
        /// `MMU_{CLEAR,COPY}_PAGE` are supported.
        const HIGHMEM_ASSIST = 1 << 6;
        /// `GNTTABOP_map_grant_ref` honours flags for the kernel's own bits of a page-table entry.
        const GNTTAB_MAP_AVAIL_BITS = 1 << 7;
        /// Event channels may be delivered by an interrupt vector.
        const HVM_CALLBACK_VECTOR = 1 << 8;
        /// The paravirtual clock is safe to use.
        const HVM_SAFE_PVCLOCK = 1 << 9;
        /// Device interrupts may arrive as event channels.
        const HVM_PIRQS = 1 << 10;
        /// The domain may act as the control domain.
        const DOM0 = 1 << 11;
        // Bit 12, grant_map_identity, is deprecated, and commented out in the header.
        /// `XENMEMF_vnode` may name a virtual node.
        const MEMORY_OP_VNODE_SUPPORTED = 1 << 13;
        /// Arm: the SMC calling convention is supported.
        const ARM_SMCCC_SUPPORTED = 1 << 14;
        /// ACPI's root pointer may lie anywhere. Consulted only for kernels naming themselves Linux.
        const LINUX_RSDP_UNRESTRICTED = 1 << 15;
        /// The domain's frames are not the machine's. A Xen with these two bits sets either this or the next.
        const NOT_DIRECT_MAPPED = 1 << 16;
        /// The domain's frames are the machine's: a guest frame number is a machine frame number.
        const DIRECT_MAPPED = 1 << 17;

        const _ = !0;
    }
}
